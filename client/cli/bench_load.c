/* bench load: what the daemon promises to those who share it, measured on a running daemon and
 * judged. Every case takes its turn in every round; a verdict is over the medians of the rounds. */
#include "client/cli/bench_load.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/bench.h"

#define EXIT_BROKEN 1 /* a promise was not kept */
#define ROUNDS_DEFAULT 5u
#define STREAMS_DEFAULT 8u
#define ANSWER_DEFAULT 128u
#define PROMPT_DEFAULT 2000u
#define ROOM 64u /* tokens of context beside the long prompt */
#define PATIENCE_S 3600u

enum { CASE_BETWEEN = 16, CASE_TOTAL = 32, CASE_SAME = 64, CASE_MIX = 128, CASE_CROWD = 15 };

static const struct {
    const char *name;
    unsigned bit;
} cases[] = {
    {"between", CASE_BETWEEN},  {"high", CROWD_HIGH},       {"cancel", CROWD_CANCEL},
    {"refusal", CROWD_REFUSAL}, {"control", CROWD_CONTROL}, {"total", CASE_TOTAL},
    {"same", CASE_SAME},        {"mix", CASE_MIX},
};

static const struct {
    const char *name, *unit, *what;
    unsigned bit;
} promises[] = {
    [P_BETWEEN] = {"between", "ms", "p99 between a stream's tokens, beside long prompts",
                   CASE_BETWEEN},
    [P_HIGH] = {"high", "ms", "a high request's wait under full low load", CROWD_HIGH},
    [P_CANCEL_WAITING] = {"cancel_waiting", "ms", "p99 of a cancel in the queue", CROWD_CANCEL},
    [P_CANCEL_PREFILL] = {"cancel_prefill", "ms", "p99 of a cancel while the prompt is read",
                          CROWD_CANCEL},
    [P_CANCEL_DECODE] = {"cancel_decode", "ms", "p99 of a cancel in the answer", CROWD_CANCEL},
    [P_REFUSAL] = {"refusal", "ms", "p99 of a refusal by a full queue", CROWD_REFUSAL},
    [P_PS] = {"ps", "ms", "p99 of ps under full load", CROWD_CONTROL},
    [P_STATUS] = {"status", "ms", "p99 of status under full load", CROWD_CONTROL},
    [P_METRICS] = {"metrics", "ms", "p99 of metrics under full load", CROWD_CONTROL},
    [P_TOTAL] = {"total", "tokens/s", "tokens/s of the same work, beside --against", CASE_TOTAL},
    [P_SAME] = {"same", "answers", "answers in company that differ from alone", CASE_SAME},
};

int promise_note(struct bout *b, enum promise_i p, double base, double figure, double bound)
{
    struct promise *to = &b->promises[p];

    if (isfinite(base) && sample_add(&to->base, base) != 0) {
        return bench_no_memory();
    }
    if (!isfinite(figure) || !isfinite(bound)) {
        return 0; /* nothing was seen: the verdict says so */
    }
    if (sample_add(&to->figure, figure) != 0 || sample_add(&to->bound, bound) != 0) {
        return bench_no_memory();
    }
    return 0;
}

bool promise_kept(struct bout *b, enum promise_i p)
{
    const double figure = sample_median(&b->promises[p].figure);
    const double bound = sample_median(&b->promises[p].bound);

    return p == P_TOTAL ? figure >= bound : figure <= bound; /* false for NAN */
}

/* ---- what was found ---- */

static const char *verdict(struct bout *b, enum promise_i p)
{
    return b->promises[p].figure.n == 0 ? "not measured" : promise_kept(b, p) ? "kept" : "BROKEN";
}

static json_t *numbers(const struct sample *s)
{
    json_t *all = json_array();

    for (size_t i = 0; i < s->n; i++) {
        (void)json_array_append_new(all, bench_number(s->v[i]));
    }
    return all;
}

static json_t *promise_json(struct bout *b, enum promise_i p)
{
    struct promise *it = &b->promises[p];
    json_t *all = json_object();

    (void)json_object_set_new(all, "name", json_string(promises[p].name));
    (void)json_object_set_new(all, "what", json_string(promises[p].what));
    (void)json_object_set_new(all, "unit", json_string(promises[p].unit));
    (void)json_object_set_new(all, "undisturbed", bench_number(sample_median(&it->base)));
    (void)json_object_set_new(all, "figure", bench_number(sample_median(&it->figure)));
    (void)json_object_set_new(all, "bound", bench_number(sample_median(&it->bound)));
    (void)json_object_set_new(all, "at_least", json_boolean(p == P_TOTAL));
    (void)json_object_set_new(all, "verdict", json_string(verdict(b, p)));
    (void)json_object_set_new(all, "undisturbed_sorted", numbers(&it->base));
    (void)json_object_set_new(all, "figures_sorted", numbers(&it->figure));
    return all;
}

static const char *const mix_names[] = {"voice", "chat", "batch"};

static json_t *three(struct sample *s)
{
    json_t *all = json_object();

    (void)json_object_set_new(all, "p50", bench_number(sample_percentile(s, 50)));
    (void)json_object_set_new(all, "p95", bench_number(sample_percentile(s, 95)));
    (void)json_object_set_new(all, "p99", bench_number(sample_percentile(s, 99)));
    return all;
}

static json_t *mix_json(struct bout *b, enum mix_i i)
{
    struct mix *m = &b->mixes[i];
    json_t *all = json_pack("{s:s, s:I, s:I, s:I, s:I}", "name", mix_names[i], "sent",
                            (json_int_t)m->sent, "ended", (json_int_t)m->ended, "refused",
                            (json_int_t)m->refused, "answer_tokens", (json_int_t)m->tokens);

    (void)json_object_set_new(all, "first_token_ms", three(&m->first));
    (void)json_object_set_new(all, "between_tokens_ms", three(&m->gaps));
    (void)json_object_set_new(all, "queue_ms", three(&m->queue));
    (void)json_object_set_new(all, "answer_tokens_per_second",
                              bench_number((double)m->tokens / b->mix_seconds));
    return all;
}

static json_t *report(struct bout *b, unsigned which)
{
    json_t *all = json_object(), *kept = json_array(), *mixes = json_array();

    (void)json_object_set(all, "what", b->load.what);
    (void)json_object_set_new(all, "rounds", json_integer(b->args->bench.rounds));
    (void)json_object_set_new(all, "seed", json_integer((json_int_t)b->args->request.seed));
    (void)json_object_set_new(all, "long_prompt_tokens", json_integer(b->prompt_long));
    for (enum promise_i p = 0; p < PROMISES; p++) {
        if (promises[p].bit & which) {
            (void)json_array_append_new(kept, promise_json(b, p));
        }
    }
    (void)json_object_set_new(all, "promises", kept);
    for (enum mix_i i = 0; which & CASE_MIX && i < MIXES; i++) {
        (void)json_array_append_new(mixes, mix_json(b, i));
    }
    (void)json_object_set_new(all, "mix", mixes);
    (void)json_object_set_new(all, "mix_seconds", bench_number(b->mix_seconds));
    (void)json_object_set(all, "arrivals", b->arrivals);
    return all;
}

static void print_cell(double v)
{
    if (isfinite(v)) {
        (void)printf(" %9.*f", fabs(v) < 100 ? 2 : 1, v);
    } else {
        (void)printf(" %9s", "-");
    }
}

static void print_promises(struct bout *b, unsigned which)
{
    (void)printf("%-56s %9s %9s %9s  %s\n", "PROMISE", "ALONE", "FIGURE", "BOUND", "VERDICT");
    for (enum promise_i p = 0; p < PROMISES; p++) {
        struct promise *it = &b->promises[p];
        char what[96];
        if (!(promises[p].bit & which)) {
            continue;
        }
        (void)snprintf(what, sizeof(what), "%s%s%s%s", promises[p].what, p == P_SAME ? "" : " (",
                       p == P_SAME ? "" : promises[p].unit, p == P_SAME ? "" : ")");
        (void)printf("%-56s", what);
        print_cell(sample_median(&it->base));
        print_cell(sample_median(&it->figure));
        print_cell(sample_median(&it->bound));
        (void)printf("  %s\n", verdict(b, p));
    }
}

static void print_three(struct sample *s)
{
    print_cell(sample_percentile(s, 50));
    print_cell(sample_percentile(s, 95));
    print_cell(sample_percentile(s, 99));
}

static void print_mix(struct bout *b)
{
    (void)printf("\nthe mix, %.1f s in all; p50, p95 and p99 in milliseconds\n", b->mix_seconds);
    (void)printf("%-6s %5s %5s %7s %29s %29s %9s\n", "", "SENT", "ENDED", "REFUSED", "FIRST TOKEN",
                 "BETWEEN TOKENS", "TOKENS/S");
    for (enum mix_i i = 0; i < MIXES; i++) {
        struct mix *m = &b->mixes[i];
        (void)printf("%-6s %5" PRIu64 " %5" PRIu64 " %7" PRIu64, mix_names[i], m->sent, m->ended,
                     m->refused);
        print_three(&m->first);
        print_three(&m->gaps);
        print_cell((double)m->tokens / b->mix_seconds);
        (void)printf("\n");
    }
}

static int tell(struct bout *b, unsigned which)
{
    bool kept = true;
    int r = 0;

    for (enum promise_i p = 0; p < PROMISES; p++) {
        kept = kept && (!(promises[p].bit & which) || promise_kept(b, p));
    }
    if (b->args->json) {
        r = print_json(report(b, which), -1);
    } else {
        bench_print_what(&b->load);
        (void)printf("%" PRIu32 " rounds, seed %" PRIu64 ", long prompts of %" PRIu32 " tokens\n\n",
                     b->args->bench.rounds, b->args->request.seed, b->prompt_long);
        if (which != CASE_MIX) {
            print_promises(b, which);
        }
        if (which & CASE_MIX) {
            print_mix(b);
        }
        if (b->unseen) {
            (void)printf("\nin %u rounds the stream ended before a long prompt was read: have it "
                         "answer longer with --answer\n",
                         b->unseen);
        }
        if (b->unfilled) {
            (void)printf("\nin %u rounds the daemon's queue took all that was sent: refusals could "
                         "not be timed\n",
                         b->unfilled);
        }
    }
    return r == 0 && !kept ? EXIT_BROKEN : r;
}

/* ---- rounds ---- */

/* The model's context: the long prompts have to fit. */
static int find_context(struct bout *b)
{
    const char *name = json_string_value(json_object_get(b->load.what, "model"));
    char *text = NULL;
    double ms;
    size_t i;
    json_t *model;
    const int r = load_ask(&b->load, LANE_ASK, ONEBIT_LIST, &ms, &text);

    if (r != 0) {
        return r;
    }
    json_t *all = json_loads(text, 0, NULL);
    free(text);
    json_array_foreach(all, i, model)
    {
        const char *it = json_string_value(json_object_get(model, "name"));
        const json_int_t n = json_integer_value(json_object_get(model, "n_ctx"));
        if (name && it && strcmp(name, it) == 0 && n > 0 && n <= UINT32_MAX) {
            b->n_ctx = (uint32_t)n;
        }
    }
    json_decref(all);
    if (b->n_ctx <= 2 * ROOM) {
        complain("the model's context of %" PRIu32 " tokens is too short for this", b->n_ctx);
        return EXIT_DATA;
    }
    const uint32_t most = b->n_ctx - ROOM;
    b->prompt_long = b->prompt_long < most ? b->prompt_long : most;
    b->answer = b->answer < most ? b->answer : most;
    return 0;
}

static int open_all(struct bout *b, unsigned which)
{
    struct shot first = {.prompt = 16, .answer = 2};
    int r = talk_init(&b->talk);

    for (size_t i = 0; i < LANES_MAX && r == 0; i++) {
        r = load_open(&b->load, i);
    }
    if (r == 0) {
        r = load_fire(&b->load, LANE_ONE, &first); /* the model is loaded before all that */
        r = r == 0 ? load_land(&b->load, &first, PATIENCE_S) : r;
    }
    if (r == 0 && which & CASE_TOTAL) {
        r = load_open(&b->other, LANE_ONE);
        r = r == 0 ? load_fire(&b->other, LANE_ONE, &first) : r;
        r = r == 0 ? load_land(&b->other, &first, PATIENCE_S) : r;
    }
    if (r != 0) { /* `first` is no more */
        load_close(&b->load, LANE_ONE);
        load_close(&b->other, LANE_ONE);
    }
    shot_deinit(&first);
    return r == 0 ? find_context(b) : r;
}

static int one_round(struct bout *b, unsigned which)
{
    int r = 0;

    if (which & CASE_BETWEEN) {
        r = case_between(b);
    }
    if (r == 0 && which & CASE_CROWD) {
        r = case_crowd(b, which & CASE_CROWD);
    }
    if (r == 0 && which & CASE_SAME) {
        r = case_same(b);
    }
    if (r == 0 && which & CASE_TOTAL) {
        r = case_total(b);
    }
    return r == 0 && which & CASE_MIX ? case_mix(b) : r;
}

/* The words after "load" name cases; without any all are meant. 0: a word is none. */
static unsigned cases_of(const struct args *args)
{
    unsigned which = 0;

    for (size_t i = 1; i < args->n_words; i++) {
        unsigned bit = 0;
        for (size_t k = 0; k < ARRAY_SIZE(cases); k++) {
            bit = strcmp(args->words[i], cases[k].name) == 0 ? cases[k].bit : bit;
        }
        if (bit == 0) {
            complain("bench load: there is no case \"%s\"; there are between, high, cancel, "
                     "refusal, control, total, same and mix",
                     args->words[i]);
            return 0;
        }
        which |= bit;
    }
    if (which & CASE_TOTAL && !args->bench.against) {
        complain("bench load: total compares two daemons: give the other one with --against");
        return 0;
    }
    const unsigned all = CASE_BETWEEN | CASE_CROWD | CASE_SAME | CASE_MIX;
    return which ? which : args->bench.against ? all | CASE_TOTAL : all;
}

static void bout_deinit(struct bout *b)
{
    load_deinit(&b->load);
    load_deinit(&b->other);
    talk_deinit(&b->talk);
    for (enum promise_i p = 0; p < PROMISES; p++) {
        sample_deinit(&b->promises[p].base);
        sample_deinit(&b->promises[p].figure);
        sample_deinit(&b->promises[p].bound);
    }
    for (enum mix_i i = 0; i < MIXES; i++) {
        sample_deinit(&b->mixes[i].first);
        sample_deinit(&b->mixes[i].gaps);
        sample_deinit(&b->mixes[i].queue);
    }
    json_decref(b->arrivals);
}

int bench_load(struct args *args)
{
    const unsigned which = cases_of(args);
    struct bout b = {.args = args, .dice = {args->request.seed}, .arrivals = json_array()};
    size_t n;
    int r = which ? 0 : EXIT_USAGE;

    b.talk.signal_fd = -1;
    b.prompt_long = PROMPT_DEFAULT;
    b.answer = args->request.max_tokens ? args->request.max_tokens : ANSWER_DEFAULT;
    args->bench.rounds = args->bench.rounds ? args->bench.rounds : ROUNDS_DEFAULT;
    args->bench.streams = args->bench.streams ? args->bench.streams : STREAMS_DEFAULT;
    load_init(&b.load, &b.talk, args->socket, args->request.model);
    load_init(&b.other, &b.talk, args->bench.against, args->request.model);
    if (r == 0 && args->bench.prompts &&
        bench_lengths(args->bench.prompts, &b.prompt_long, 1, &n) != 0) {
        complain("-p: \"%s\" is not one length of the long prompts", args->bench.prompts);
        r = EXIT_USAGE;
    }
    if (r == 0) {
        r = open_all(&b, which);
    }
    for (; r == 0 && b.round < args->bench.rounds; b.round++) {
        if (isatty(STDERR_FILENO)) {
            (void)fprintf(stderr, "\r\033[Kround %" PRIu32 " of %" PRIu32, b.round + 1,
                          args->bench.rounds);
        }
        r = one_round(&b, which);
    }
    if (isatty(STDERR_FILENO)) {
        (void)fprintf(stderr, "\r\033[K");
    }
    if (r == 0) {
        r = tell(&b, which);
    }
    bout_deinit(&b);
    return r;
}
