/* sim: the loop between the scheduler and the invented engine. */
#include "bench/simulate/sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define BYTES_PER_TOKEN 4u
#define STATS_NS (250 * NS_PER_MS) /* how often the engine tells what its last step took */
#define BYTES_MAX (16u << 20)      /* of bodies in one plan, as the loop's */

static struct moment moment_of(const struct sim *s)
{
    return (struct moment){.now_ns = s->now_ns, .unix_s = s->now_ns / NS_PER_S};
}

int sim_init(struct sim *s, const struct sim_options *options)
{
    *s = (struct sim){.options = *options, .now_ns = NS_PER_S, .gate_ns = UINT64_MAX};
    s->pool = calloc(SIM_JOBS_MAX, sizeof(*s->pool));
    if (!s->pool) {
        return -ENOMEM;
    }
    sim_seed(&s->noise, options->seed);
    list_init(&s->free);
    list_init(&s->jobs);
    for (size_t i = 0; i < SIM_JOBS_MAX; i++) {
        list_push(&s->free, &s->pool[i].link);
    }
    queue_init(&s->queue);
    sched_init(&s->sched, &s->queue, &options->limits);
    gate_init(&s->gate);
    const struct moment at = moment_of(s);
    for (size_t i = 0; i < SIM_ACCOUNTS_MAX; i++) {
        sched_account_init(&s->accounts[i]);
        s->accounts[i].weight = options->weights[i] > 0 ? options->weights[i] : 1;
        gate_line_init(&s->lines[i]);
        buckets_set(&s->lines[i].own, &options->rates[i], &at);
    }
    for (size_t i = 0; i < options->n_sources; i++) {
        const struct sim_source *o = &options->sources[i];
        sim_seed(&s->arrivals[i], options->seed * SIM_SOURCES_MAX + i + 1);
        s->next_ns[i] = s->now_ns + o->from_ns;
        s->next_ns[i] += o->depth ? 0 : sim_wait_ns(&s->arrivals[i], o->per_s);
    }
    s->model.ready = true;
    s->model.n_streams = SEAM_STREAMS_MAX;
    s->model.kv_blocks = options->kv_blocks;
    s->model.block_positions = options->block_positions;
    return 0;
}

void sim_deinit(struct sim *s)
{
    free(s->pool);
    s->pool = NULL;
}

/* ---- the broker's side ---- */

static void end(struct sim *s, struct sim_job *j, bool refused)
{
    const struct moment at = moment_of(s);
    const uint64_t used = refused ? 0 : (uint64_t)j->prompt + j->job.answer;

    sched_remove(&s->sched, &j->job);
    gate_leave(&s->gate, &j->ticket, used, &at);
    s->n_open[j->source]--;
    s->n_done += !refused;
    s->n_refused += refused;
    if (s->ended) {
        s->ended(s, j, refused, s->user);
    }
    list_remove(&j->link);
    list_push(&s->free, &j->link);
}

static void cancel(struct sim *s, struct sim_job *j)
{
    for (size_t i = 0; i < s->step.n; i++) {
        s->step.gone[i] |= s->step.who[i] == j;
    }
    j->in_engine = false;
}

/* ---- the engine begins ---- */

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
static void begin_step(struct sim *s)
{
    const struct sim_cost *c = &s->options.cost;
    struct sim_step *st = &s->step;

    *st = (struct sim_step){.begin_ns = s->now_ns};
    for (size_t i = 0; i < s->n_plan; i++) {
        if (s->plan[i]->in_engine && s->plan[i]->done >= s->plan[i]->total) {
            add(st, s->plan[i], 1, false);
        }
    }
    size_t left = pace_next(&s->pace, st->n_decode, s->prompt_us, SIM_TOKENS_MAX);
    for (size_t i = 0; i < s->n_plan && left > 0; i++) {
        struct sim_job *j = s->plan[i];
        if (j->in_engine && j->done < j->total) {
            const uint32_t want = j->total - j->done;
            const uint32_t n = want < left ? want : (uint32_t)left;
            add(st, j, n, true);
            left -= n;
        }
    }
    if (st->n == 0) {
        return;
    }
    const double noise = 1 + c->noise * (2 * sim_uniform(&s->noise) - 1);
    const double us =
        (c->pass_us + st->n_decode * c->stream_us + st->n_prompt * c->token_us) * noise;
    st->running = true;
    st->end_ns = s->now_ns + (uint64_t)(us * 1000);
}

/* ---- the broker ---- */

/* What engine_advance() does. */
static void advance(struct sim *s)
{
    struct sched_plan plan;
    const uint64_t begin = s->timed ? clock_now_ns() : 0;

    sched_plan(&s->sched, s->now_ns, BYTES_MAX, &plan);
    if (s->timed) {
        const uint64_t took = clock_now_ns() - begin;
        s->plan_ns += took;
        s->plan_max_ns = took > s->plan_max_ns ? took : s->plan_max_ns;
    }
    s->n_plans++;
    s->n_give_backs += plan.n_give_back;
    for (size_t i = 0; i < plan.n_give_back; i++) {
        cancel(s, container_of(plan.give_back[i], struct sim_job, job));
    }
    for (size_t i = 0; i < plan.n_start; i++) {
        struct sim_job *j = container_of(plan.start[i], struct sim_job, job);
        j->in_engine = true;
        j->told = false;
        j->done = 0;
        j->total = j->prompt + j->job.answer;
        j->given = j->job.answer;
    }
    s->n_plan = plan.n_run;
    s->prompt_us = plan.prompt_us;
    for (size_t i = 0; i < plan.n_run; i++) {
        s->plan[i] = container_of(plan.run[i], struct sim_job, job);
    }
    if (!s->step.running) {
        begin_step(s);
    }
}

static void submit(struct sim *s, struct sim_job *j)
{
    const struct sim_source *o = &s->options.sources[j->source];

    j->passed_ns = s->now_ns;
    if (o->deadline_ms > 0) {
        const uint64_t ms =
            sched_first_token_ms(&s->sched, j->job.account, j->job.slots, j->job.class_,
                                 sched_prompt_estimate(&s->model, j->job.bytes), 0, s->now_ns);
        if (ms > o->deadline_ms) {
            end(s, j, true);
            return;
        }
    }
    sched_submit(&s->sched, &j->job);
}

static void ask_gate(struct sim *s)
{
    struct ticket *t;
    uint64_t wait_ns = UINT64_MAX;

    for (;;) {
        const struct moment at = moment_of(s);
        t = gate_next(&s->gate, &at, &wait_ns);
        if (!t) {
            break;
        }
        submit(s, container_of(t, struct sim_job, ticket));
    }
    s->gate_ns = wait_ns == UINT64_MAX ? UINT64_MAX : s->now_ns + wait_ns;
}

static void arrive(struct sim *s, unsigned source)
{
    const struct sim_source *o = &s->options.sources[source];
    const struct moment at = moment_of(s);
    uint64_t wait_ns;

    if (list_empty(&s->free)) {
        s->n_refused++;
        return;
    }
    struct sim_job *j = container_of(s->free.next, struct sim_job, link);
    list_remove(&j->link);
    *j =
        (struct sim_job){.source = source,
                         .arrived_ns = s->now_ns,
                         .prompt = sim_between(&s->arrivals[source], o->prompt_min, o->prompt_max),
                         .answer = sim_between(&s->arrivals[source], o->answer_min, o->answer_max)};
    j->job = (struct job){.seq = ++s->n_ever,
                          .account = &s->accounts[o->account],
                          .slots = &s->model,
                          .class_ = o->class_,
                          .bytes = (size_t)j->prompt * BYTES_PER_TOKEN};
    list_init(&j->job.link);
    list_init(&j->job.own_link);
    ticket_init(&j->ticket);
    list_init(&j->link);
    list_push(&s->jobs, &j->link);
    s->n_open[source]++;
    s->n_source[source]++;
    const enum rate_limit why = gate_ask(&s->gate, &s->lines[o->account], &j->ticket,
                                         (uint64_t)j->prompt + j->answer, &at, &wait_ns);
    if (why != RATE_NONE) {
        gate_wait(&s->gate, &j->ticket, why);
        ask_gate(s);
        return;
    }
    submit(s, j);
}

/* Everything that has come by now; then when the next one comes. */
static void arrivals(struct sim *s)
{
    bool any = false;

    for (unsigned i = 0; i < s->options.n_sources; i++) {
        const struct sim_source *o = &s->options.sources[i];
        while (s->next_ns[i] <= s->now_ns && (!o->depth || s->n_open[i] < o->depth) &&
               (!o->at_most || s->n_source[i] < o->at_most)) {
            arrive(s, i);
            any = true;
            if (!o->depth) {
                s->next_ns[i] += sim_wait_ns(&s->arrivals[i], o->per_s);
            }
        }
    }
    if (s->gate_ns <= s->now_ns) {
        ask_gate(s);
        any = true;
    }
    if (any) {
        advance(s);
    }
}

/* ---- the engine's steps ---- */

/* The engine's own part of a step that is over. */
static void carry_out(const struct sim_step *st)
{
    for (size_t i = 0; i < st->n; i++) {
        struct sim_job *j = st->who[i];
        if (st->gone[i]) {
            continue;
        }
        j->done += st->prompt[i] ? st->n_ids[i] : 0;
        j->given += j->done >= j->total;
        j->in_engine = j->given < j->answer;
    }
}

/* One sequence's report, booked as engine.c does. */
static void book(struct sim *s, const struct sim_step *st, size_t i)
{
    struct sim_job *j = st->who[i];

    if (!j->told) {
        j->told = true;
        sched_started(&s->sched, &j->job, j->prompt, 0);
    }
    if (st->prompt[i]) {
        j->computed_ns = j->computed_ns ? j->computed_ns : s->now_ns;
        s->prompt_tokens += st->n_ids[i];
        s->served[j->job.class_] += (uint64_t)st->n_ids[i] * SCHED_PROMPT_COST;
    }
    if (j->done < j->total) {
        sched_prefilled(&s->sched, &j->job, j->done, j->total, s->now_ns);
        return;
    }
    if (!j->first_ns) {
        j->first_ns = s->now_ns;
    } else if (s->now_ns - j->last_ns > j->wait_max_ns) {
        j->wait_max_ns = s->now_ns - j->last_ns;
    }
    j->last_ns = s->now_ns;
    s->answer_tokens++;
    s->served[j->job.class_] += SCHED_ANSWER_COST;
    sched_tokens(&s->sched, &j->job, 1, s->now_ns);
    job_progress(&j->job);
    if (j->given >= j->answer) {
        sched_forgotten(&s->sched, &j->job);
        end(s, j, false);
    }
}

/* The next step begins with the plan that is there; only then does the broker hear of this one. */
static void end_step(struct sim *s)
{
    const struct sim_step st = s->step;
    const uint64_t took = st.end_ns - st.begin_ns;

    carry_out(&st);
    pace_learn(&s->pace, st.n_decode, st.n_prompt, took);
    s->n_steps++;
    s->step_max_ns = took > s->step_max_ns ? took : s->step_max_ns;
    s->chunk_max = st.n_prompt > s->chunk_max ? st.n_prompt : s->chunk_max;
    begin_step(s);
    if (s->now_ns - s->stats_ns >= STATS_NS) {
        s->stats_ns = s->now_ns;
        sched_step(&s->model, st.n_decode, st.n_prompt, took / 1000);
    }
    for (size_t i = 0; i < st.n; i++) {
        if (!st.gone[i]) {
            book(s, &st, i);
        }
    }
    if (s->observe) {
        s->observe(s, s->user);
    }
    advance(s);
}

void sim_run(struct sim *s)
{
    for (;;) {
        arrivals(s);
        uint64_t next = s->step.running ? s->step.end_ns : UINT64_MAX;
        for (unsigned i = 0; i < s->options.n_sources; i++) {
            const struct sim_source *o = &s->options.sources[i];
            const bool more = !o->at_most || s->n_source[i] < o->at_most;
            if (more && (!o->depth || s->n_open[i] < o->depth) && s->next_ns[i] < next) {
                next = s->next_ns[i];
            }
        }
        next = s->gate_ns < next ? s->gate_ns : next;
        if (next == UINT64_MAX || (s->options.end_ns > 0 && next >= s->options.end_ns)) {
            return;
        }
        s->now_ns = next > s->now_ns ? next : s->now_ns;
        if (s->step.running && s->step.end_ns <= s->now_ns) {
            end_step(s);
        }
    }
}
