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

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

int sim_init(struct sim *s, const struct sim_options *options)
{
    *s = (struct sim){
        .options = *options, .now_ns = NS_PER_S, .gate_ns = UINT64_MAX, .client_ns = UINT64_MAX};
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
    for (size_t i = 0; i < SIM_MODELS_MAX; i++) {
        const struct sim_model_options *m = &options->models[i];
        struct slots *slots = &s->models[i].slots;
        slots->ready = m->ready_ns <= s->now_ns;
        slots->n_streams = SEAM_STREAMS_MAX;
        slots->kv_blocks = m->kv_blocks;
        slots->block_positions = m->block_positions;
        s->client_ns = slots->ready ? s->client_ns : least(s->client_ns, m->ready_ns);
    }
    return 0;
}

void sim_deinit(struct sim *s)
{
    free(s->pool);
    s->pool = NULL;
}

/* ---- the broker's side ---- */

static void cancel(struct sim *s, struct sim_job *j)
{
    for (size_t i = 0; i < s->step.n; i++) {
        s->step.gone[i] |= s->step.who[i] == j;
    }
    j->in_engine = false;
}

/* As tell_breaker() in daemon/broker/admission.c. */
static void tell_breaker(struct sim *s, const struct sim_job *j, enum sim_end how)
{
    struct breaker *b = &j->model->breaker;

    if (how == SIM_FAILED) {
        (void)breaker_fault(b, &s->options.breaker, j->probe, s->now_ns);
    } else if (how != SIM_DONE) {
        breaker_no_word(b, j->probe);
    } else {
        (void)breaker_success(b, j->probe);
    }
}

static void end(struct sim *s, struct sim_job *j, enum sim_end how)
{
    const struct moment at = moment_of(s);
    const uint64_t used = (uint64_t)(j->job.charged) + j->job.answer;

    if (j->in_engine) {
        cancel(s, j);
    }
    sched_remove(&s->sched, &j->job);
    tell_breaker(s, j, how);
    gate_leave(&s->gate, &j->ticket, used, &at);
    s->n_open[j->source]--;
    s->n_done += how == SIM_DONE;
    s->n_refused += how == SIM_REFUSED || how == SIM_RESTS;
    s->n_failed += how == SIM_FAILED;
    s->n_cancelled += how == SIM_CANCELLED;
    if (s->ended) {
        s->ended(s, j, how, s->user);
    }
    list_remove(&j->link);
    list_push(&s->free, &j->link);
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
    if (plan.urgent && s->step.running) {
        sim_stop_step(s);
    } else if (!s->step.running) {
        sim_begin_step(s);
    }
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
        sched_park(&container_of(t, struct sim_job, ticket)->job, false);
    }
    s->gate_ns = wait_ns == UINT64_MAX ? UINT64_MAX : s->now_ns + wait_ns;
}

/* As admission_enter(). */
static void enter(struct sim *s, struct sim_job *j)
{
    const struct sim_source *o = &s->options.sources[j->source];
    const struct moment at = moment_of(s);
    uint64_t wait_ns;

    const enum breaker_verdict verdict = breaker_ask(&j->model->breaker, s->now_ns, &wait_ns);
    j->probe = verdict == BREAKER_PROBE;
    if (verdict == BREAKER_REFUSE) {
        end(s, j, SIM_RESTS);
        return;
    }
    if (o->deadline_ms > 0) { /* its own prompt is among what its account waits for */
        const uint64_t ms = sched_first_token_ms(&s->sched, j->job.account, j->job.slots,
                                                 j->job.class_, 0, 0, s->now_ns);
        if (ms > o->deadline_ms) {
            end(s, j, SIM_REFUSED);
            return;
        }
    }
    const enum rate_limit why = gate_ask(&s->gate, &s->lines[o->account], &j->ticket,
                                         (uint64_t)j->prompt + j->answer, &at, &wait_ns);
    if (why != RATE_NONE) {
        gate_wait(&s->gate, &j->ticket, why);
        sched_park(&j->job, true);
        ask_gate(s);
    }
}

/* What its client is going to do. */
static void draw_client(struct sim *s, struct sim_job *j)
{
    const struct sim_source *o = &s->options.sources[j->source];
    struct sim_random *r = &s->arrivals[j->source];

    if (o->deaf > 0 && sim_uniform(r) < o->deaf) {
        j->deaf_from = sim_between(r, 1, j->answer);
        j->deaf_ms = sim_between(r, 1, o->deaf_ms_max);
    }
    if (o->cancels > 0 && sim_uniform(r) < o->cancels) {
        j->cancel_ns = s->now_ns + sim_between(r, 0, o->cancel_ms_max) * NS_PER_MS;
        s->client_ns = least(s->client_ns, j->cancel_ns);
    }
}

static void arrive(struct sim *s, unsigned source)
{
    const struct sim_source *o = &s->options.sources[source];

    if (list_empty(&s->free)) {
        s->n_refused++;
        return;
    }
    struct sim_job *j = container_of(s->free.next, struct sim_job, link);
    list_remove(&j->link);
    *j =
        (struct sim_job){.source = source,
                         .model = &s->models[o->model],
                         .arrived_ns = s->now_ns,
                         .hears_ns = UINT64_MAX,
                         .cancel_ns = UINT64_MAX,
                         .prompt = sim_between(&s->arrivals[source], o->prompt_min, o->prompt_max),
                         .answer = sim_between(&s->arrivals[source], o->answer_min, o->answer_max)};
    draw_client(s, j);
    j->job = (struct job){.seq = ++s->n_ever,
                          .account = &s->accounts[o->account],
                          .slots = &j->model->slots,
                          .class_ = o->class_,
                          .bytes = (size_t)j->prompt * BYTES_PER_TOKEN};
    list_init(&j->job.link);
    list_init(&j->job.own_link);
    ticket_init(&j->ticket);
    list_init(&j->link);
    list_push(&s->jobs, &j->link);
    s->n_open[source]++;
    s->n_source[source]++;
    sched_submit(&s->sched, &j->job);
    enter(s, j);
}

/* Clients that read again or go away, and models that are there. */
static void clients(struct sim *s)
{
    s->client_ns = UINT64_MAX;
    for (size_t i = 0; i < SIM_MODELS_MAX; i++) {
        struct slots *m = &s->models[i].slots;
        m->ready |= s->options.models[i].ready_ns <= s->now_ns;
        s->client_ns = m->ready ? s->client_ns : least(s->client_ns, s->options.models[i].ready_ns);
    }
    list_for_each (j, next, &s->jobs, struct sim_job, link) {
        if (j->cancel_ns <= s->now_ns) {
            end(s, j, SIM_CANCELLED);
            continue;
        }
        if (j->hears_ns <= s->now_ns) {
            j->hears_ns = UINT64_MAX;
            j->job.blocked = false;
        }
        s->client_ns = least(s->client_ns, least(j->cancel_ns, j->hears_ns));
    }
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
    if (s->client_ns <= s->now_ns) {
        clients(s);
        any = true;
    }
    if (any) {
        advance(s);
    }
}

/* ---- the engine's steps ---- */

/* One sequence's report, booked as engine.c does. */
static void book(struct sim *s, const struct sim_step *st, size_t i)
{
    struct sim_job *j = st->who[i];

    const struct sim_model_options *m = &s->options.models[j->model - s->models];

    if (s->now_ns >= m->broken_ns && s->now_ns < m->mended_ns) {
        sched_forgotten(&s->sched, &j->job);
        end(s, j, SIM_FAILED);
        return;
    }
    if (!j->told) {
        j->told = true;
        sched_started(&s->sched, &j->job, j->prompt, 0);
    }
    if (st->prompt[i]) {
        j->begun_ns = j->computed_ns ? j->begun_ns : st->begin_ns;
        j->computed_ns = j->computed_ns ? j->computed_ns : s->now_ns;
        s->prompt_tokens += st->n_ids[i];
        s->prompted[j->job.account - s->accounts] += st->n_ids[i];
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
    s->n_unread += j->job.blocked;
    s->served[j->job.class_] += SCHED_ANSWER_COST;
    sched_tokens(&s->sched, &j->job, 1, s->now_ns);
    job_progress(&j->job);
    if (j->given >= j->answer) {
        sched_forgotten(&s->sched, &j->job);
        end(s, j, SIM_DONE);
    } else if (j->deaf_ms > 0 && j->given >= j->deaf_from) {
        j->job.blocked = true;
        j->hears_ns = s->now_ns + j->deaf_ms * NS_PER_MS;
        j->deaf_ms = 0;
        s->n_deaf++;
        s->client_ns = least(s->client_ns, j->hears_ns);
    }
}

/* As on_stats() in daemon/broker/engine.c: steps are measured where it is known whose they are. */
static void tell_step(struct sim *s, const struct sim_step *st)
{
    const struct slots *only = NULL;

    for (size_t i = 0; i < s->sched.n_sent; i++) {
        const struct job *j = s->sched.sent[i];
        if (j && only && only != j->slots) {
            return;
        }
        only = j ? j->slots : only;
    }
    if (only == &st->model->slots) {
        sched_step(&st->model->slots, st->n_decode, st->n_prompt,
                   (st->end_ns - st->begin_ns) / 1000);
    }
}

/* The next step begins with the plan that is there; only then does the broker hear of this one. */
static void end_step(struct sim *s)
{
    const struct sim_step st = s->step;

    sim_carry_out(s, &st);
    sim_begin_step(s);
    if (st.stopped) {
        return; /* nothing of it is told */
    }
    if (s->now_ns - s->stats_ns >= STATS_NS) {
        s->stats_ns = s->now_ns;
        tell_step(s, &st);
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
        next = least(least(next, s->gate_ns), s->client_ns);
        if (next == UINT64_MAX || (s->options.end_ns > 0 && next >= s->options.end_ns)) {
            return;
        }
        s->now_ns = next > s->now_ns ? next : s->now_ns;
        if (s->step.running && s->step.end_ns <= s->now_ns) {
            end_step(s);
        }
    }
}
