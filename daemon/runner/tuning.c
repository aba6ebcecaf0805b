/* Measuring how many threads do best (engine/tune.h), once a model is loaded and there is nothing
 * else to do: between two looks at the seam a slice of some milliseconds is measured. So the
 * measurement takes no part of a load's time, and whoever comes in the midst of it waits for one
 * slice. What was measured goes to the broker, which keeps it and sends it with the next load. */
#include "daemon/runner/runner.h"

/* From here on steps go by it. @record: for the broker to keep; n is 0 when it comes from there. */
static void use(struct runner *rn, struct resident *m, const struct tuning *t,
                struct strview record)
{
    stepper_tune(m->stepper, t);
    if (t->n_streams > 0) { /* more tokens than that make a step longer, not better */
        m->n_rows = t->n_streams < DRAFT_ROWS_MAX ? t->n_streams : DRAFT_ROWS_MAX;
    }
    report(rn, &(struct seam_message){.type = SEAM_TUNED,
                                      .tuned = {.model = m->number,
                                                .n_generate = t->n_generate,
                                                .n_prompt = t->n_prompt,
                                                .n_streams = t->n_streams,
                                                .record = record}});
}

void tuning_begin(struct runner *rn, struct resident *m)
{
    struct tuning t;

    if (!m->tune) {
        return;
    }
    if (tuning_read(&t, rn->engine, m->record, m->n_record) == TUNING_OK) {
        use(rn, m, &t, (struct strview){0});
        if (!t.disturbed) {
            return;
        }
    }
    if (tuner_new(&m->tuner, m->stepper, m->pool, TUNE_BUDGET_NS) < 0) {
        m->tuner = NULL; /* without memory, without a measurement */
    }
}

/* The model that is to be measured now. */
static struct resident *next(const struct runner *rn)
{
    if (rn->n_threads_max > 0) {
        return NULL; /* the machine is to rest, and what it does now is no measure */
    }
    if (residents_loading(rn)) {
        return NULL; /* it would be measured, too */
    }
    for (size_t i = 0; i < RESIDENTS_MAX; i++) {
        struct resident *m = rn->residents[i];
        if (m && m->ready && m->tuner && kv_pool_free_blocks(m->pool) > 0) {
            return m;
        }
    }
    return NULL;
}

bool tuning_work(const struct runner *rn)
{
    return !rn->frugal && next(rn) != NULL;
}

void tuning_run(struct runner *rn)
{
    struct resident *m = next(rn);
    uint8_t bytes[TUNING_BYTES];
    struct tuning t;

    if (!m || tuner_slice(m->tuner) || resident_lost(rn, m)) {
        return;
    }
    if (tuner_result(m->tuner, &t)) {
        tuning_write(&t, rn->engine, bytes);
        use(rn, m, &t, (struct strview){.data = (const char *)bytes, .n = sizeof(bytes)});
    }
    tuner_free(m->tuner);
    m->tuner = NULL;
}
