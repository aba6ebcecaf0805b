/* merge: a linked list of symbols and a heap of the pairs that may merge, best first. A pair that
 * became stale, because one of its symbols merged elsewhere, is noticed when it comes up: its size
 * no longer fits. Every merge adds at most two pairs, so a run of n symbols takes O(n log n). */
#include "engine/text/merge.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/wipe.h"

void merger_deinit(struct merger *m)
{
    wipe_free(m->symbols, m->symbols_room * sizeof(*m->symbols));
    free(m->heap);
    *m = (struct merger){0};
}

static int grow(void **data, size_t *room, size_t need, size_t each)
{
    size_t n = *room ? *room : 64, bytes;

    if (need <= *room) {
        return 0;
    }
    while (n < need) {
        n *= 2;
    }
    if (__builtin_mul_overflow(n, each, &bytes)) {
        return -ENOMEM;
    }
    void *p = realloc(*data, bytes);
    if (!p) {
        return -ENOMEM;
    }
    *data = p;
    *room = n;
    return 0;
}

int merger_begin(struct merger *m, size_t n)
{
    void *symbols = m->symbols;
    const int r = grow(&symbols, &m->symbols_room, n, sizeof(*m->symbols));

    m->symbols = symbols;
    m->n_symbols = 0;
    m->n_heap = 0;
    return r;
}

void merger_add(struct merger *m, uint32_t at, uint32_t n, int32_t id)
{
    const int32_t i = (int32_t)m->n_symbols++;

    m->symbols[i] = (struct symbol){.at = at, .n = n, .prev = i - 1, .next = -1, .id = id};
    if (i > 0) {
        m->symbols[i - 1].next = i;
    }
}

/* ---- the heap ---- */

static int heap_push(struct merger *m, struct candidate c)
{
    void *heap = m->heap;
    const int r = grow(&heap, &m->heap_room, m->n_heap + 1, sizeof(*m->heap));

    m->heap = heap;
    if (r < 0) {
        return r;
    }
    size_t i = m->n_heap++;
    while (i > 0 && m->heap[(i - 1) / 2].key > c.key) {
        m->heap[i] = m->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    m->heap[i] = c;
    return 0;
}

static struct candidate heap_pop(struct merger *m)
{
    const struct candidate top = m->heap[0], last = m->heap[--m->n_heap];
    size_t i = 0;

    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= m->n_heap) {
            break;
        }
        if (child + 1 < m->n_heap && m->heap[child + 1].key < m->heap[child].key) {
            child++;
        }
        if (m->heap[child].key >= last.key) {
            break;
        }
        m->heap[i] = m->heap[child];
        i = child;
    }
    m->heap[i] = last;
    return top;
}

/* ---- merging ---- */

/* Scores as numbers that sort the other way: the highest score gets the smallest number. */
static uint32_t score_order(float score)
{
    uint32_t bits;

    score += 0.0f; /* -0 and +0 are one score */
    memcpy(&bits, &score, sizeof(bits));
    return bits & 0x80000000u ? bits : 0x7fffffffu - bits;
}

static int note_pair(struct merger *m, const struct vocab *v, const char *text, int32_t left,
                     int32_t right)
{
    uint32_t order, id;

    if (left < 0 || right < 0) {
        return 0;
    }
    const struct symbol *l = &m->symbols[left], *r = &m->symbols[right];
    if (v->h->kind == VOCAB_BPE) {
        if (l->id < 0 || r->id < 0 ||
            !vocab_find_merge(v, (uint32_t)l->id, (uint32_t)r->id, &order, &id)) {
            return 0;
        }
    } else {
        const int32_t found = vocab_find(v, text + l->at, (size_t)l->n + r->n);
        if (found < 0) {
            return 0;
        }
        id = (uint32_t)found;
        order = score_order(v->scores[id]);
    }
    return heap_push(m, (struct candidate){.key = (uint64_t)order << 32 | (uint32_t)left,
                                           .right = (uint32_t)right,
                                           .size = l->n + r->n,
                                           .id = (int32_t)id});
}

int merger_run(struct merger *m, const struct vocab *v, const char *text)
{
    int r = 0;

    for (size_t i = 1; r == 0 && i < m->n_symbols; i++) {
        r = note_pair(m, v, text, (int32_t)i - 1, (int32_t)i);
    }
    while (r == 0 && m->n_heap > 0) {
        const struct candidate c = heap_pop(m);
        const int32_t left = (int32_t)(uint32_t)c.key;
        struct symbol *ls = &m->symbols[left], *rs = &m->symbols[c.right];
        if (ls->n == 0 || rs->n == 0 || ls->n + rs->n != c.size) {
            continue;
        }
        ls->n += rs->n;
        ls->id = c.id;
        ls->next = rs->next;
        rs->n = 0;
        if (ls->next >= 0) {
            m->symbols[ls->next].prev = left;
        }
        r = note_pair(m, v, text, ls->prev, left);
        if (r == 0) {
            r = note_pair(m, v, text, left, ls->next);
        }
    }
    return r;
}
