/* metrics: what happened, counted.
 *
 * A model's figures take some kilobytes, so they come with its first event; there are at most
 * METRICS_SLOTS of them. The baseline of a step is the lowest its own moving mean has been, kept
 * apart for each number of streams: a batch of eight is slower than one stream and no drift. */
#include "daemon/broker/metrics.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/compiler.h"

#define MS(x) ((uint64_t)(x)*NS_PER_MS)

/* clang-format off */
#define WAIT_BOUNDS { \
    {MS(5), "0.005"}, {MS(10), "0.01"}, {MS(25), "0.025"}, {MS(50), "0.05"}, {MS(100), "0.1"}, \
    {MS(250), "0.25"}, {MS(500), "0.5"}, {MS(1000), "1"}, {MS(2500), "2.5"}, {MS(5000), "5"}, \
    {MS(10000), "10"}, {MS(30000), "30"}, {MS(60000), "60"}, {MS(120000), "120"}}
const struct metrics_bound metrics_bounds[METRICS_TIMES][METRICS_BOUNDS] = {
    [TIME_FIRST_TOKEN] = WAIT_BOUNDS,
    [TIME_BETWEEN_TOKENS] = {
        {MS(1), "0.001"}, {MS(2), "0.002"}, {MS(5), "0.005"}, {MS(10), "0.01"}, {MS(20), "0.02"},
        {MS(50), "0.05"}, {MS(100), "0.1"}, {MS(150), "0.15"}, {MS(200), "0.2"}, {MS(300), "0.3"},
        {MS(500), "0.5"}, {MS(1000), "1"}, {MS(2000), "2"}, {MS(5000), "5"}},
    [TIME_QUEUE] = WAIT_BOUNDS,
};
/* clang-format on */

void metrics_init(struct metrics *m, uint64_t now_ns)
{
    *m = (struct metrics){.since_ns = now_ns};
}

void metrics_deinit(struct metrics *m)
{
    for (size_t i = 0; i < METRICS_SLOTS; i++) {
        free(m->models[i]);
        m->models[i] = NULL;
    }
}

static bool make_slot(struct metrics *m, size_t slot, const char *name)
{
    struct metrics_model *model = m->models[slot];

    if (!model && (model = calloc(1, sizeof(*model)))) {
        strview_copy(model->name, sizeof(model->name), strview_of(name));
        m->models[slot] = model;
    }
    return model != NULL;
}

size_t metrics_slot(struct metrics *m, const char *name)
{
    if (!name || !name[0] || strcmp(name, "other") == 0) {
        (void)make_slot(m, METRICS_OTHER, "other");
        return METRICS_OTHER;
    }
    for (size_t i = 0; i < METRICS_MODELS_MAX; i++) {
        if (m->models[i] && strcmp(m->models[i]->name, name) == 0) {
            return i;
        }
        if (!m->models[i] && make_slot(m, i, name)) {
            return i;
        }
    }
    (void)make_slot(m, METRICS_OTHER, "other");
    return METRICS_OTHER;
}

static struct metrics_class *class_of(const struct metrics *m, size_t slot, enum request_class c)
{
    assert(slot < METRICS_SLOTS && c < CLASSES);
    return m->models[slot] ? &m->models[slot]->classes[c] : NULL;
}

void metrics_request(struct metrics *m, size_t slot, enum request_class c, enum error_code code)
{
    struct metrics_class *k = class_of(m, slot, c);

    if (k) {
        k->outcomes[code < ERR_CODES ? code : ERR_INTERNAL]++;
    }
}

void metrics_prompt(struct metrics *m, size_t slot, enum request_class c, uint64_t prompt_tokens,
                    uint64_t cached_tokens)
{
    struct metrics_class *k = class_of(m, slot, c);

    if (k) {
        k->prompt_tokens += prompt_tokens;
        k->cached_tokens += cached_tokens;
    }
}

void metrics_tokens(struct metrics *m, size_t slot, enum request_class c, uint64_t n)
{
    struct metrics_class *k = class_of(m, slot, c);

    if (k) {
        k->tokens += n;
    }
}

void metrics_time(struct metrics *m, size_t slot, enum request_class c, enum metrics_time t,
                  uint64_t ns, uint64_t n)
{
    struct metrics_class *k = class_of(m, slot, c);
    size_t i = 0;

    if (!k) {
        return;
    }
    while (i < METRICS_BOUNDS && ns > metrics_bounds[t][i].ns) {
        i++;
    }
    k->times[t].n[i] += n;
    k->times[t].sum_ns += ns * n;
}

void metrics_step(struct metrics *m, size_t slot, uint32_t streams, uint64_t us)
{
    struct metrics_model *model = m->models[slot];

    if (!model || streams == 0 || streams > SEAM_STREAMS_MAX) {
        return;
    }
    struct metrics_step *s = &model->steps[streams];
    s->n += s->n < METRICS_LEARN_STEPS;
    s->mean_us += ((float)us - s->mean_us) / (float)s->n;
    if (s->n < METRICS_LEARN_STEPS) {
        return;
    }
    if (s->baseline_us == 0 || s->mean_us < s->baseline_us) {
        s->baseline_us = s->mean_us;
    }
    model->streams = streams;
}

const struct metrics_step *metrics_step_now(const struct metrics *m, size_t slot)
{
    const struct metrics_model *model = m->models[slot];

    return model && model->streams && model->steps[model->streams].baseline_us > 0
               ? &model->steps[model->streams]
               : NULL;
}

void metrics_engine(struct metrics *m, bool up, uint64_t now_ns)
{
    m->up_ns = metrics_up_ns(m, now_ns);
    m->since_ns = now_ns;
    m->up = up;
}

uint64_t metrics_up_ns(const struct metrics *m, uint64_t now_ns)
{
    return m->up_ns + (m->up && now_ns > m->since_ns ? now_ns - m->since_ns : 0);
}
