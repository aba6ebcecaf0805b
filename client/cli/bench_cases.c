/* The cases of `onebit bench load`. Each gives one figure a round, beside the undisturbed case of
 * the same round, so that a slow minute of the machine is in both. */
#include "client/cli/bench_load.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "client/cli/bench.h"

#define PATIENCE_S 3600u
#define VOICE_PROMPT 20u
#define CROWD 50u /* requests of the crowd at any time */
#define PACERS 2u /* of them answer at length, so that the length of a step can be seen */
#define PACER_ANSWER 400u
#define BATCH_ANSWER 20u
#define HIGH_TRIES 8u
#define HIGH_ANSWER 4u
#define CANCELS 20u /* to be timed in each state */
#define CANCEL_TRIES                                                                               \
    80u /* at most: an answer may end before its cancel comes, and then is no figure */
#define CANCEL_MS 50
#define ASK_TRIES 40u
#define ASK_MS 10
#define REFUSAL_TRIES 30u
#define REFUSAL_MS 5
#define FILL_MAX 600u
#define BEATS_LEAST 60u
#define BEATS_PATIENCE_S 120u

struct dice bout_dice(const struct bout *b)
{
    struct dice d = {b->args->request.seed + ((uint64_t)b->round << 32)};
    return d;
}

static int out_of_memory(struct bout *b)
{
    return b->load.error = bench_no_memory();
}

/* Fire one shot alone and wait for its end. */
static int fly(struct bout *b, struct shot *s)
{
    const int r = load_fire(&b->load, LANE_ONE, s);

    return r == 0 ? load_land(&b->load, s, PATIENCE_S) : r;
}

/* ---- a crowd: so many requests at any time, each followed by another when it has ended ---- */

struct crowd {
    struct bout *b;
    struct shot *shots; /* owned */
    size_t n;
    struct sample beats; /* milliseconds between the tokens of the pacers, where it listens */
    bool listens;
};

static void crowd_on_end(struct shot *s, void *user)
{
    struct crowd *c = user;
    struct bout *b = c->b;

    if (c->listens && s->answer == PACER_ANSWER && sample_join(&c->beats, &s->gaps) != 0) {
        (void)out_of_memory(b);
    }
    if (b->load.error == 0) {
        s->seed = dice_u64(&b->dice);
        const int r = load_fire(&b->load, s->lane, s);
        b->load.error = r == -EAGAIN ? 0 : r; /* never: there is room for one that has just ended */
    }
}

static int crowd_start(struct crowd *c, struct bout *b, size_t n, size_t pacers,
                       enum onebit_class request_class, uint32_t answer)
{
    int r = 0;

    *c = (struct crowd){.b = b, .n = n, .shots = calloc(n, sizeof(*c->shots))};
    if (!c->shots) {
        return out_of_memory(b);
    }
    for (size_t i = 0; i < n && r == 0; i++) {
        c->shots[i] = (struct shot){
            .prompt = i < pacers ? VOICE_PROMPT : b->prompt_long,
            .answer = i < pacers ? PACER_ANSWER : answer,
            .request_class = request_class,
            .seed = dice_u64(&b->dice),
            .on_end = crowd_on_end,
            .user = c,
        };
        r = load_fire(&b->load, LANE_CROWD, &c->shots[i]);
    }
    return r == -EAGAIN ? EXIT_UNAVAILABLE : r;
}

/* Hang up on all of them and wait until the daemon has let them go. */
static int crowd_stop(struct crowd *c)
{
    struct bout *b = c->b;
    int r = b->load.error;

    load_close(&b->load, LANE_CROWD);
    for (size_t i = 0; i < c->n; i++) {
        shot_deinit(&c->shots[i]);
    }
    free(c->shots);
    sample_deinit(&c->beats);
    if (r == 0) {
        r = load_open(&b->load, LANE_CROWD);
    }
    return r == 0 ? load_settle(&b->load, LANE_ASK) : r;
}

static bool crowd_computes(const struct crowd *c)
{
    for (size_t i = 0; i < c->n; i++) {
        if (c->shots[i].prefill_ns || c->shots[i].first_ns) {
            return true;
        }
    }
    return false;
}

/* ---- a stream beside the long prompts of another client ---- */

/* The stream's gaps from the from-th on. */
static double p99_from(const struct shot *s, size_t from)
{
    struct sample part = {0};
    double p99 = (double)NAN;

    if (from < s->gaps.n &&
        sample_join(&part, &(struct sample){s->gaps.v + from, s->gaps.n - from, 0}) == 0) {
        p99 = sample_percentile(&part, 99);
    }
    sample_deinit(&part);
    return p99;
}

int case_between(struct bout *b)
{
    struct shot s = {.prompt = VOICE_PROMPT, .answer = b->answer, .seed = dice_u64(&b->dice)};
    struct crowd c = {.b = b};
    size_t from = 0;
    int r = fly(b, &s);
    const double solo = r == 0 ? p99_from(&s, 0) : 0;
    const uint64_t until = clock_now_ns() + PATIENCE_S * NS_PER_S;

    r = r == 0 ? load_fire(&b->load, LANE_ONE, &s) : r;
    while (r == 0 && s.flying && s.n_tokens < 2) {
        r = load_turn(&b->load, until);
    }
    r = r == 0 ? crowd_start(&c, b, 2, 0, ONEBIT_CLASS_NORMAL, 1) : r;
    while (r == 0 && s.flying && !crowd_computes(&c)) {
        r = load_turn(&b->load, until);
        from = s.gaps.n;
    }
    r = r == 0 ? load_land(&b->load, &s, PATIENCE_S) : r;
    const double figure =
        c.shots && crowd_computes(&c) ? p99_from(&s, from > 0 ? from - 1 : 0) : (double)NAN;
    if (r == 0) {
        const double slack = (double)b->args->bench.slack_ms;
        b->unseen += isnan(figure);
        r = promise_note(b, P_BETWEEN, solo, figure, slack > 0 ? solo + slack : 2 * solo);
    }
    const int stopped = c.shots ? crowd_stop(&c) : 0;
    shot_deinit(&s);
    return r != 0 ? r : stopped;
}

/* ---- under the full load of class low ---- */

/* Milliseconds of one step with its prompt chunk, as the pacers' tokens show it: the 99th
 * percentile. */
static int listen_to(struct crowd *c, double *ret_step_ms)
{
    struct bout *b = c->b;
    const uint64_t until = clock_now_ns() + BEATS_PATIENCE_S * NS_PER_S;
    size_t heard = 0;
    int r = 0;

    while (r == 0 && clock_now_ns() < until) { /* all have come, and the pacers answer */
        r = load_turn(&b->load, until);
        if (c->shots[0].n_tokens > 2 && c->shots[PACERS - 1].n_tokens > 2) {
            break;
        }
    }
    for (size_t i = 0; i < PACERS; i++) {
        sample_clear(&c->shots[i].gaps);
    }
    c->listens = true;
    while (r == 0 && heard < BEATS_LEAST && clock_now_ns() < until) {
        r = load_turn(&b->load, until);
        heard = c->beats.n;
        for (size_t i = 0; i < PACERS; i++) {
            heard += c->shots[i].gaps.n;
        }
    }
    c->listens = false;
    for (size_t i = 0; i < PACERS && r == 0; i++) {
        r = sample_join(&c->beats, &c->shots[i].gaps) == 0 ? 0 : out_of_memory(b);
    }
    *ret_step_ms = sample_percentile(&c->beats, 99);
    return r;
}

/* Requests of class high, one after the other at odd times: the times to their first tokens. Their
 * prompt is a single token, so that the step that computes its first token gives the answer's, too,
 * and is seen from here. */
static int high_tries(struct bout *b, struct sample *times)
{
    struct shot s = {.prompt = 1, .answer = HIGH_ANSWER, .request_class = ONEBIT_CLASS_HIGH};
    int r = 0;

    for (unsigned i = 0; i < HIGH_TRIES && r == 0; i++) {
        const uint64_t pause = NS_PER_S / 4 + dice_below(&b->dice, NS_PER_S / 2);
        s.seed = dice_u64(&b->dice);
        r = load_sleep(&b->load, clock_now_ns() + pause);
        r = r == 0 ? fly(b, &s) : r;
        if (r == 0 && s.first_ns && sample_add(times, shot_first_ms(&s)) != 0) {
            r = out_of_memory(b);
        }
    }
    shot_deinit(&s);
    return r;
}

static int high(struct bout *b, double solo_ms, double step_ms)
{
    struct sample times = {0};
    int r = high_tries(b, &times);

    if (r == 0) {
        r = promise_note(b, P_HIGH, solo_ms, sample_percentile(&times, 99) - solo_ms, step_ms);
    }
    sample_deinit(&times);
    return r;
}

static int cancels(struct bout *b, enum cancel_at at, enum promise_i p)
{
    struct shot s = {
        .prompt = at == CANCEL_DECODE ? VOICE_PROMPT : b->prompt_long,
        .answer = at == CANCEL_DECODE ? PACER_ANSWER : BATCH_ANSWER,
        .request_class = at == CANCEL_WAITING ? ONEBIT_CLASS_LOW : ONEBIT_CLASS_HIGH,
        .cancel_at = at,
    };
    struct sample times = {0};
    int r = 0;

    for (unsigned i = 0; i < CANCEL_TRIES && times.n < CANCELS && r == 0; i++) {
        s.seed = dice_u64(&b->dice);
        r = fly(b, &s);
        if (r == 0 && s.cancelled_ns && s.code == ONEBIT_ERR_CANCELLED &&
            sample_add(&times, (double)(s.end_ns - s.cancelled_ns) / 1e6) != 0) {
            r = out_of_memory(b);
        }
    }
    if (r == 0) {
        r = promise_note(b, p, (double)NAN, sample_percentile(&times, 99), CANCEL_MS);
    }
    sample_deinit(&times);
    shot_deinit(&s);
    return r;
}

static int control(struct bout *b)
{
    static const struct {
        enum onebit_verb verb;
        enum promise_i promise;
    } asks[] = {{ONEBIT_PS, P_PS}, {ONEBIT_STATUS, P_STATUS}, {ONEBIT_METRICS, P_METRICS}};
    struct sample times[ARRAY_SIZE(asks)] = {0};
    int r = 0;

    for (unsigned i = 0; i < ASK_TRIES * ARRAY_SIZE(asks) && r == 0; i++) {
        double ms;
        r = load_ask(&b->load, LANE_ASK, asks[i % ARRAY_SIZE(asks)].verb, &ms, NULL);
        if (r == 0 && isfinite(ms) && sample_add(&times[i % ARRAY_SIZE(asks)], ms) != 0) {
            r = out_of_memory(b);
        }
        if (r == 0) { /* an odd time, so that every part of a step is met */
            r = load_sleep(&b->load, clock_now_ns() + dice_below(&b->dice, 20 * NS_PER_MS));
        }
    }
    for (size_t i = 0; i < ARRAY_SIZE(asks); i++) {
        if (r == 0) {
            r = promise_note(b, asks[i].promise, (double)NAN, sample_percentile(&times[i], 99),
                             ASK_MS);
        }
        sample_deinit(&times[i]);
    }
    return r;
}

/* Ask until the queue is full, then time refusals. A try that finds room joins those that fill
 * it. */
static int refusals(struct bout *b)
{
    struct shot *shots = calloc(FILL_MAX, sizeof(*shots));
    struct sample times = {0};
    size_t lane = LANE_FILL, i = 0;
    int r = shots ? 0 : out_of_memory(b);

    b->load.crowded = true;
    for (; i < FILL_MAX && times.n < REFUSAL_TRIES && r == 0; i++) {
        struct shot *s = &shots[i];
        *s = (struct shot){.prompt = b->prompt_long,
                           .answer = BATCH_ANSWER,
                           .request_class = ONEBIT_CLASS_LOW,
                           .seed = dice_u64(&b->dice)};
        r = load_fire(&b->load, lane, s);
        if (r == -EAGAIN) {
            r = ++lane < LANES_MAX ? 0 : -EAGAIN;
            continue;
        }
        while (r == 0 && s->flying && !s->accepted_ns) {
            r = load_turn(&b->load, clock_now_ns() + NS_PER_S);
        }
        if (r == 0 && s->code == ONEBIT_ERR_QUEUE_FULL &&
            sample_add(&times, (double)(s->end_ns - s->sent_ns) / 1e6) != 0) {
            r = out_of_memory(b);
        }
    }
    if (r == 0 && times.n > 0) {
        r = promise_note(b, P_REFUSAL, (double)NAN, sample_percentile(&times, 99), REFUSAL_MS);
    } else if (r == 0 || r == -EAGAIN) {
        b->unfilled++;
        r = 0;
    }
    b->load.crowded = false;
    for (lane = LANE_FILL; lane < LANES_MAX; lane++) {
        load_close(&b->load, lane);
        r = r == 0 ? load_open(&b->load, lane) : r;
    }
    for (i = 0; shots && i < FILL_MAX; i++) {
        shot_deinit(&shots[i]);
    }
    free(shots);
    sample_deinit(&times);
    return r;
}

int case_crowd(struct bout *b, unsigned what)
{
    struct sample solo = {0};
    struct crowd c = {.b = b};
    double step_ms = 0;
    int r = what & CROWD_HIGH ? high_tries(b, &solo) : 0;

    r = r == 0 ? crowd_start(&c, b, CROWD, PACERS, ONEBIT_CLASS_LOW, BATCH_ANSWER) : r;
    r = r == 0 ? listen_to(&c, &step_ms) : r;
    if (r == 0 && what & CROWD_HIGH) {
        r = high(b, sample_median(&solo), step_ms);
    }
    if (r == 0 && what & CROWD_CONTROL) {
        r = control(b);
    }
    if (r == 0 && what & CROWD_CANCEL) {
        r = cancels(b, CANCEL_WAITING, P_CANCEL_WAITING);
        r = r == 0 ? cancels(b, CANCEL_PREFILL, P_CANCEL_PREFILL) : r;
        r = r == 0 ? cancels(b, CANCEL_DECODE, P_CANCEL_DECODE) : r;
    }
    if (r == 0 && what & CROWD_REFUSAL) {
        r = refusals(b);
    }
    const int stopped = c.shots ? crowd_stop(&c) : 0;
    sample_deinit(&solo);
    return r != 0 ? r : stopped;
}

/* ---- total tokens/s of the same work ---- */

#define WORK 20u
#define WORK_NS (8 * NS_PER_S) /* of a round for each: a fast model does the work several times */

struct done_work {
    uint64_t tokens, ns;
};

/* The work of one turn: the same for both daemons, all of it there from the beginning. */
static int work(struct bout *b, struct load *l, uint64_t seed, struct done_work *sum)
{
    struct shot shots[WORK] = {0};
    struct dice d = {seed};
    uint64_t begin = 0, end = 0, tokens = 0;
    int r = 0;

    load_close(l, LANE_ONE); /* the other daemon's turn may have been too long for an idle client */
    for (size_t i = 0; i < WORK && r == 0; i++) {
        const uint64_t kind = dice_below(&d, 5); /* of five, two batch, one chat, two voice */
        struct shot *s = &shots[i];
        s->prompt = kind < 2 ? b->prompt_long : kind < 3 ? b->prompt_long / 4 + 1 : VOICE_PROMPT;
        s->answer = kind < 2 ? BATCH_ANSWER : kind < 3 ? 64 : 40;
        s->request_class = kind < 2   ? ONEBIT_CLASS_LOW
                           : kind < 3 ? ONEBIT_CLASS_NORMAL
                                      : ONEBIT_CLASS_HIGH;
        s->seed = dice_u64(&d);
        r = load_fire(l, LANE_ONE, s);
        begin = begin ? begin : s->sent_ns;
    }
    for (size_t i = 0; i < WORK && r == 0; i++) {
        r = load_land(l, &shots[i], PATIENCE_S);
        tokens += shots[i].prompt + shots[i].n_tokens;
        end = shots[i].end_ns > end ? shots[i].end_ns : end;
    }
    if (r != 0) {
        load_close(l, LANE_ONE); /* no callback may come to shots that are gone */
    }
    for (size_t i = 0; i < WORK; i++) {
        shot_deinit(&shots[i]);
    }
    sum->tokens += tokens;
    sum->ns += end > begin ? end - begin : 0;
    return r;
}

static double rate_of(const struct done_work *w)
{
    return w->ns > 0 ? (double)w->tokens * 1e9 / (double)w->ns : 0;
}

int case_total(struct bout *b)
{
    struct dice d = bout_dice(b);
    const uint64_t seed = dice_u64(&d);
    const bool ours_first = b->round % 2 == 0;
    struct done_work ours = {0}, theirs = {0};
    int r = 0;

    for (unsigned turn = 0; r == 0 && (turn % 2 == 1 || ours.ns < WORK_NS); turn++) {
        const bool us = (turn % 2 == 0) == ours_first;
        r = work(b, us ? &b->load : &b->other, seed, us ? &ours : &theirs);
    }
    const double fifo = rate_of(&theirs);
    return r == 0 ? promise_note(b, P_TOTAL, fifo, rate_of(&ours), 0.95 * fifo) : r;
}

/* ---- answers in company equal answers alone ---- */

int case_same(struct bout *b)
{
    const size_t n = b->args->bench.streams;
    struct shot *shots = calloc(n, sizeof(*shots));
    uint64_t *alone = calloc(n, sizeof(*alone));
    double differ = 0;
    int r = shots && alone ? 0 : out_of_memory(b);

    for (size_t i = 0; i < n && r == 0; i++) {
        shots[i] = (struct shot){.prompt = VOICE_PROMPT + 13 * (uint32_t)(i % 16),
                                 .answer = 48,
                                 .seed = dice_u64(&b->dice)};
        r = fly(b, &shots[i]);
        alone[i] = shots[i].digest;
    }
    for (size_t i = 0; i < n && r == 0; i++) {
        r = load_fire(&b->load, i % LANES_MAX, &shots[i]);
    }
    for (size_t i = 0; i < n && r == 0; i++) {
        r = load_land(&b->load, &shots[i], PATIENCE_S);
        differ += shots[i].n_tokens != 48 || shots[i].digest != alone[i];
    }
    for (size_t i = 0; shots && i < n; i++) {
        if (r != 0 && shots[i].flying) {
            load_close(&b->load, shots[i].lane);
        }
        shot_deinit(&shots[i]);
    }
    free(shots);
    free(alone);
    return r == 0 ? promise_note(b, P_SAME, (double)NAN, differ, 0) : r;
}
