/* resident: a mapping of the packed file counts by the pages that the page cache has of it, which
 * the process's own tables have as well once they were read through it; anonymous memory by its
 * own. */
#include "engine/resident.h"

#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/kv.h"
#include "engine/model.h"
#include "engine/step.h"
#include "engine/weights.h"

#define PAGES 4096u                    /* asked for at once */
#define LOCK_SLICE (UINT64_C(4) << 20) /* bytes */

uint64_t memory_resident(const void *at, size_t n)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const uintptr_t begin = (uintptr_t)at & ~(uintptr_t)(page - 1);
    const size_t n_pages = ((uintptr_t)at + n - begin + page - 1) / page;
    unsigned char in[PAGES];
    uint64_t resident = 0;

    for (size_t i = 0; n > 0 && i < n_pages; i += PAGES) {
        const size_t now = n_pages - i < PAGES ? n_pages - i : PAGES;
        if (mincore((void *)(begin + i * page), now * page, in) < 0) {
            return resident;
        }
        for (size_t k = 0; k < now; k++) {
            resident += (in[k] & 1) ? page : 0;
        }
    }
    return resident;
}

void model_memory(const struct model *model, struct model_memory *ret)
{
    const struct image_section *w = &model->header->sections[IMAGE_WEIGHTS];
    const uint8_t *file = model->file.data;

    *ret = (struct model_memory){.mapped = model->file.size,
                                 .private_ = model->copy.data ? model->copy.bytes : 0,
                                 .huge = model->copy.huge_bytes};
    if (!model->copy.data) {
        ret->resident = memory_resident(file, model->file.size);
        return;
    }
    const uint64_t end = w->offset + w->bytes;
    ret->mapped -= w->bytes;
    ret->resident = memory_resident(file, (size_t)w->offset) +
                    memory_resident(file + end, (size_t)(model->file.size - end)) +
                    memory_resident(model->copy.data, model->copy.bytes);
}

/* False: refused, and `locked` has what went before. */
static bool lock_range(const uint8_t *at, uint64_t n, uint64_t *locked)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

    for (uint64_t done = 0; done < n;) {
        const uint64_t slice = n - done < LOCK_SLICE ? n - done : LOCK_SLICE;
        const uintptr_t begin = (uintptr_t)(at + done) & ~(page - 1);
        if (mlock((void *)begin, (uintptr_t)(at + done) + (size_t)slice - begin) < 0) {
            return false;
        }
        *locked += slice;
        done += slice;
    }
    return true;
}

uint64_t model_lock(const struct model *model)
{
    const struct image_section *s = &model->header->sections[IMAGE_WEIGHTS];
    const uint8_t *base = model->copy.data ? model->copy.data : model->file.data + s->offset;
    const struct image_tensor *t = model->tensors, *low = &model->meta->head_low.copy;
    const size_t n = model->meta->n_tensors;
    uint64_t locked = 0;
    bool allowed = true;

    for (size_t i = ROLES_GLOBAL; i < n && allowed; i++) { /* the layers */
        allowed = lock_range(base + t[i].offset, t[i].bytes, &locked);
    }
    allowed = allowed && lock_range(base + low->offset, low->bytes, &locked);
    for (size_t i = ROLES_GLOBAL; i-- > 0 && allowed;) { /* the head, then the table of tokens */
        allowed = lock_range(base + t[i].offset, t[i].bytes, &locked);
    }
    return locked;
}

uint64_t kv_pool_resident(const struct kv_pool *pool)
{
    return memory_resident(pool->mem, pool->mem_bytes);
}

uint64_t stepper_resident(const struct stepper *st)
{
    return memory_resident(st->mem, st->plan.total);
}

/* Nothing in it outlives a step but what its caller has copied. */
uint64_t stepper_give_back(struct stepper *st)
{
    const uint64_t before = stepper_resident(st);

    (void)madvise(st->mem, st->plan.total, MADV_DONTNEED);
    const uint64_t after = stepper_resident(st);
    return before > after ? before - after : 0;
}

uint64_t model_page_out(const struct model *model)
{
    struct model_memory before, after;
    const void *at;
    size_t n;

    model_memory(model, &before);
    model_map(model, &at, &n);
    if (n > 0) {
        (void)madvise((void *)(uintptr_t)at, n, MADV_PAGEOUT);
    }
    model_memory(model, &after);
    return before.resident > after.resident ? before.resident - after.resident : 0;
}
