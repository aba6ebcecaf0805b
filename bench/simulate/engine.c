/* engine: what stands for the runner's arithmetic. */
#include "bench/simulate/sim.h"

#define LAYERS 28u /* between two of them a step can be stopped */

static void add(struct sim_step *st, struct sim_job *j, uint32_t n, bool prompt)
{
    st->who[st->n] = j;
    st->n_ids[st->n] = n;
    st->prompt[st->n] = prompt;
    st->gone[st->n] = false;
    st->n++;
    st->n_decode += !prompt;
    st->n_prompt += prompt ? n : 0;
}

/* As step_collect() in daemon/runner/steps.c. */
static void collect(const struct sim *s, struct sim_model *m, struct sim_step *st)
{
    *st = (struct sim_step){.model = m, .begin_ns = s->now_ns};
    for (size_t i = 0; i < s->n_plan; i++) {
        struct sim_job *j = s->plan[i];
        if (j->model == m && j->in_engine && j->done >= j->total) {
            add(st, j, 1, false);
        }
    }
    size_t left = pace_next(&m->pace, st->n_decode, s->prompt_us, SIM_TOKENS_MAX);
    for (size_t i = 0; i < s->n_plan && left > 0; i++) {
        struct sim_job *j = s->plan[i];
        if (j->model == m && j->in_engine && j->done < j->total) {
            const uint32_t want = j->total - j->done;
            const uint32_t n = want < left ? want : (uint32_t)left;
            add(st, j, n, true);
            left -= n;
        }
    }
}

/* As steps_run() there. */
void sim_begin_step(struct sim *s)
{
    struct sim_step *st = &s->step;

    for (size_t k = 0; k < SIM_MODELS_MAX; k++) {
        const size_t i = (s->model_next + k) % SIM_MODELS_MAX;
        collect(s, &s->models[i], st);
        if (st->n > 0) {
            const struct sim_cost *c = &s->options.models[i].cost;
            const double noise = 1 + c->noise * (2 * sim_uniform(&s->noise) - 1);
            const double us =
                (c->pass_us + st->n_decode * c->stream_us + st->n_prompt * c->token_us) * noise;
            st->running = true;
            st->end_ns = s->now_ns + (uint64_t)(us * 1000);
            s->model_next = (i + 1) % SIM_MODELS_MAX;
            return;
        }
    }
}

void sim_stop_step(struct sim *s)
{
    struct sim_step *st = &s->step;
    const uint64_t layer_ns = (st->end_ns - st->begin_ns) / LAYERS + 1;
    const uint64_t n = (s->now_ns - st->begin_ns) / layer_ns + 1;

    if (!st->stopped && st->begin_ns + n * layer_ns < st->end_ns) {
        st->stopped = true;
        st->end_ns = st->begin_ns + n * layer_ns;
    }
}

void sim_carry_out(struct sim *s, const struct sim_step *st)
{
    const uint64_t took = st->end_ns - st->begin_ns;

    if (st->stopped) {
        s->n_stops++;
        s->stopped_ns += took;
        return;
    }
    for (size_t i = 0; i < st->n; i++) {
        struct sim_job *j = st->who[i];
        if (!st->gone[i]) {
            j->done += st->prompt[i] ? st->n_ids[i] : 0;
            j->given += j->done >= j->total;
            j->in_engine = j->given < j->answer;
        }
    }
    pace_learn(&st->model->pace, st->n_decode, st->n_prompt, took);
    s->n_steps++;
    s->step_ns = took;
    s->step_max_ns = took > s->step_max_ns ? took : s->step_max_ns;
    s->chunk_max = st->n_prompt > s->chunk_max ? st->n_prompt : s->chunk_max;
}
