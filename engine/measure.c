/* Where time goes: the thread that runs a step reads the clock after each part, and all since the
 * reading before is that part's. Inside a part the pool says how long it waited. */
#include "engine/measure.h"

#include <assert.h>
#include <string.h>

#include "base/clock.h"
#include "engine/step.h"
#include "engine/threads.h"

const char *step_part_name(enum step_part part)
{
    static const char *const names[STEP_PARTS] = {
        [PART_EMBED] = "embed",
        [PART_NORM] = "norm",
        [PART_QKV] = "qkv",
        [PART_ROPE] = "rope",
        [PART_ATTENTION] = "attention",
        [PART_O] = "o",
        [PART_GATE_UP] = "gate_up",
        [PART_ACTIVATION] = "activation",
        [PART_DOWN] = "down",
        [PART_HEAD] = "head",
    };

    assert(part < STEP_PARTS);
    return names[part];
}

static uint64_t bytes_of(const struct matrix *m)
{
    const uint64_t panels = ((uint64_t)m->n_rows + PANEL_ROWS - 1) / PANEL_ROWS;

    return m->panel_bytes ? panels * m->panel_bytes
                          : m->n_rows * format_row_bytes(m->format, m->n_cols);
}

static void count(struct step_profile *p, enum step_part part, const struct matrix *m)
{
    p->weights[part] += bytes_of(m);
    p->macs[part] += (uint64_t)m->n_rows * m->n_cols;
}

void stepper_profile(struct stepper *st, struct step_profile *profile)
{
    const struct model *m = st->model;

    st->profile = profile;
    threads_time(st->engine->threads, profile != NULL);
    if (!profile) {
        return;
    }
    *profile = (struct step_profile){0};
    for (size_t i = 0; i < m->shape.n_layer; i++) {
        const struct layer *l = &m->layers[i];
        count(profile, PART_QKV, &l->q);
        count(profile, PART_QKV, &l->k);
        count(profile, PART_QKV, &l->v);
        count(profile, PART_O, &l->o);
        count(profile, PART_GATE_UP, &l->gate);
        count(profile, PART_GATE_UP, &l->up);
        count(profile, PART_DOWN, &l->down);
    }
    count(profile, PART_HEAD, &m->head);
}

void profile_begin(struct stepper *st)
{
    if (st->profile) {
        st->profile_ns = clock_now_ns();
        st->profile_wait_ns = threads_waited_ns(st->engine->threads);
    }
}

void profile_head(struct stepper *st, uint64_t bytes)
{
    if (st->profile) {
        st->profile->weights[PART_HEAD] = bytes > 0 ? bytes : bytes_of(&st->model->head);
    }
}

void profile_part(struct stepper *st, enum step_part part)
{
    if (st->profile) {
        const uint64_t now = clock_now_ns(), wait = threads_waited_ns(st->engine->threads);
        st->profile->ns[part] += now - st->profile_ns;
        st->profile->wait_ns[part] += wait - st->profile_wait_ns;
        st->profile_ns = now;
        st->profile_wait_ns = wait;
    }
}

bool seq_fill(struct seq *seq, size_t n)
{
    const struct kv_pool *pool = seq->pool;

    assert(!seq->keeps);
    if (n < seq->len || !seq_reserve(seq, n)) {
        return false;
    }
    for (size_t b = seq->len / KV_BLOCK; b < seq->n_blocks; b++) {
        /* Small numbers in every type, in scales as well. */
        memset(pool->mem + seq->blocks[b] * pool->block_bytes, 0x2c, pool->block_bytes);
    }
    seq->len = n;
    return true;
}
