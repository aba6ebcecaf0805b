/* bench: how fast the daemon answers, as a client sees it. One row for each length of prompt;
 * `bench load` is in bench_load.c. Medians and percentiles are over all requests of all rounds; the
 * lengths take turns, so that a disturbance from outside meets all of them alike. */
#include "client/cli/bench.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/load.h"

#define LENGTHS_MAX 16u
#define PROMPT_MAX 1048576u
#define STREAMS_DEFAULT 1u
#define ROUNDS_DEFAULT 5u
#define ANSWER_DEFAULT 64u
#define PATIENCE_S 3600u

struct row {
    uint32_t prompt, answer;
    struct sample first, gaps;              /* milliseconds */
    struct sample prompt_rate, answer_rate; /* tokens/s of all streams together, one a round */
    uint64_t cached;                        /* prompt tokens that needed no work, in all */
};

static void row_deinit(struct row *row)
{
    sample_deinit(&row->first);
    sample_deinit(&row->gaps);
    sample_deinit(&row->prompt_rate);
    sample_deinit(&row->answer_rate);
}

int bench_lengths(const char *text, uint32_t *ret, size_t max, size_t *ret_n)
{
    size_t n = 0;

    while (true) {
        char *end;
        errno = 0;
        const unsigned long v = strtoul(text, &end, 10);
        if (errno || end == text || *text < '0' || *text > '9' || v < 1 || v > PROMPT_MAX ||
            n == max || (*end && *end != ',')) {
            return -EINVAL;
        }
        ret[n++] = (uint32_t)v;
        if (!*end) {
            *ret_n = n;
            return 0;
        }
        text = end + 1;
    }
}

int bench_no_memory(void)
{
    complain("out of memory");
    return EXIT_SOFTWARE;
}

json_t *bench_number(double v)
{
    return isfinite(v) ? json_real(nearbyint(v * 1000) / 1000) : json_null();
}

/* One round of one row: all streams at once. */
static int measure(struct load *l, const struct args *args, struct row *row, struct shot *shots,
                   size_t n, uint64_t seed)
{
    uint64_t sent = UINT64_MAX, first_first = UINT64_MAX, last_first = 0, end = 0, tokens = 0;
    int r = 0;

    for (size_t i = 0; i < n && r == 0; i++) {
        shots[i].prompt = row->prompt;
        shots[i].answer = row->answer;
        shots[i].request_class = args->request.request_class;
        shots[i].reuse = args->bench.reuse;
        shots[i].seed = args->bench.reuse ? args->request.seed + i : seed + i;
        r = load_fire(l, i % LANES_MAX, &shots[i]);
    }
    for (size_t i = 0; i < n && r == 0; i++) {
        r = load_land(l, &shots[i], PATIENCE_S);
    }
    for (size_t i = 0; i < n && r == 0; i++) {
        const struct shot *s = &shots[i];
        sent = s->sent_ns < sent ? s->sent_ns : sent;
        first_first = s->first_ns < first_first ? s->first_ns : first_first;
        last_first = s->first_ns > last_first ? s->first_ns : last_first;
        end = s->last_ns > end ? s->last_ns : end;
        tokens += s->n_tokens > 0 ? s->n_tokens - 1 : 0;
        row->cached += s->cached_tokens;
        if (sample_add(&row->first, shot_first_ms(s)) != 0 ||
            sample_join(&row->gaps, &s->gaps) != 0) {
            r = bench_no_memory();
        }
    }
    const double prompts = (double)row->prompt * (double)n * 1e9;
    if (r == 0 && last_first > sent &&
        sample_add(&row->prompt_rate, prompts / (double)(last_first - sent)) != 0) {
        r = bench_no_memory();
    }
    if (r == 0 && end > first_first &&
        sample_add(&row->answer_rate, (double)tokens * 1e9 / (double)(end - first_first)) != 0) {
        r = bench_no_memory();
    }
    return r;
}

static json_t *percentiles(struct sample *s)
{
    json_t *all = json_object();

    (void)json_object_set_new(all, "p50", bench_number(sample_percentile(s, 50)));
    (void)json_object_set_new(all, "p95", bench_number(sample_percentile(s, 95)));
    (void)json_object_set_new(all, "p99", bench_number(sample_percentile(s, 99)));
    return all;
}

static json_t *row_json(struct row *row)
{
    json_t *all = json_object();

    (void)json_object_set_new(all, "prompt_tokens", json_integer(row->prompt));
    (void)json_object_set_new(all, "answer_tokens", json_integer(row->answer));
    (void)json_object_set_new(
        all, "cached_tokens",
        json_integer(row->first.n ? (json_int_t)(row->cached / row->first.n) : 0));
    (void)json_object_set_new(all, "requests", json_integer((json_int_t)row->first.n));
    (void)json_object_set_new(all, "first_token_ms", percentiles(&row->first));
    (void)json_object_set_new(all, "between_tokens_ms", percentiles(&row->gaps));
    (void)json_object_set_new(all, "prompt_tokens_per_second",
                              bench_number(sample_median(&row->prompt_rate)));
    (void)json_object_set_new(all, "answer_tokens_per_second",
                              bench_number(sample_median(&row->answer_rate)));
    return all;
}

void bench_print_what(const struct load *l)
{
    static const char *const keys[] = {"model", "formats", "quantization", "kv", "cpu"};

    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        const char *value = json_string_value(json_object_get(l->what, keys[i]));
        char *safe = escape_line(value ? value : "-");
        (void)printf("%s%s %s", i ? ", " : "", keys[i], safe ? safe : "-");
        free(safe);
    }
    (void)printf("\n");
}

static void print_number(double v, int width)
{
    if (isfinite(v)) {
        (void)printf(" %*.*f", width, v < 100 ? 2 : 1, v);
    } else {
        (void)printf(" %*s", width, "-");
    }
}

static int print(const struct load *l, struct row *rows, size_t n, const struct args *args)
{
    if (args->json) {
        json_t *all = json_object(), *list = json_array();
        for (size_t i = 0; i < n; i++) {
            (void)json_array_append_new(list, row_json(&rows[i]));
        }
        (void)json_object_set(all, "what", l->what);
        (void)json_object_set_new(all, "streams", json_integer(args->bench.streams));
        (void)json_object_set_new(all, "rounds", json_integer(args->bench.rounds));
        (void)json_object_set_new(all, "reuse", json_boolean(args->bench.reuse));
        (void)json_object_set_new(all, "rows", list);
        return print_json(all, -1);
    }
    bench_print_what(l);
    (void)printf("%" PRIu32 " %s at once, %" PRIu32 " rounds; times in milliseconds\n\n",
                 args->bench.streams, args->bench.streams == 1 ? "request" : "requests",
                 args->bench.rounds);
    (void)printf("                        ----- first token ------ -- between tokens ----- "
                 "-- tokens/s ---\n");
    (void)printf("%7s %7s %7s %8s %7s %7s %8s %7s %7s %7s %7s\n", "PROMPT", "ANSWER", "CACHED",
                 "p50", "p95", "p99", "p50", "p95", "p99", "PROMPT", "ANSWER");
    for (size_t i = 0; i < n; i++) {
        struct row *row = &rows[i];
        (void)printf("%7" PRIu32 " %7" PRIu32 " %7" PRIu64, row->prompt, row->answer,
                     row->first.n ? row->cached / row->first.n : 0);
        print_number(sample_percentile(&row->first, 50), 8);
        print_number(sample_percentile(&row->first, 95), 7);
        print_number(sample_percentile(&row->first, 99), 7);
        print_number(sample_percentile(&row->gaps, 50), 8);
        print_number(sample_percentile(&row->gaps, 95), 7);
        print_number(sample_percentile(&row->gaps, 99), 7);
        print_number(sample_median(&row->prompt_rate), 7);
        print_number(sample_median(&row->answer_rate), 7);
        (void)printf("\n");
    }
    return 0;
}

/* The model is loaded, and with --reuse every prompt is known, before anything is measured. */
static int warm_up(struct load *l, const struct args *args, struct row *rows, size_t n_rows,
                   struct shot *shots)
{
    struct shot s = {.prompt = 16, .answer = 2};
    int r = load_fire(l, 0, &s);

    r = r == 0 ? load_land(l, &s, PATIENCE_S) : r;
    shot_deinit(&s);
    for (size_t i = 0; i < n_rows && r == 0 && args->bench.reuse; i++) {
        struct row scratch = {.prompt = rows[i].prompt, .answer = 1};
        r = measure(l, args, &scratch, shots, args->bench.streams, 0);
        row_deinit(&scratch);
    }
    return r;
}

static int run(struct args *args, struct row *rows, size_t n_rows, struct shot *shots)
{
    struct dice d = {args->request.seed};
    struct talk t;
    struct load l;
    int r = talk_init(&t);

    load_init(&l, &t, args->socket, args->request.model);
    for (size_t i = 0; i < LANES_MAX && i < args->bench.streams && r == 0; i++) {
        r = load_open(&l, i);
    }
    if (r == 0) {
        r = warm_up(&l, args, rows, n_rows, shots);
    }
    for (uint32_t k = 0; k < args->bench.rounds; k++) {
        for (size_t i = 0; i < n_rows && r == 0; i++) {
            r = measure(&l, args, &rows[i], shots, args->bench.streams, dice_u64(&d));
        }
    }
    if (r == 0) {
        r = print(&l, rows, n_rows, args);
    }
    load_deinit(&l);
    talk_deinit(&t);
    return r;
}

static int table(struct args *args)
{
    uint32_t lengths[LENGTHS_MAX];
    struct row rows[LENGTHS_MAX] = {0};
    size_t n = 0;

    if (bench_lengths(args->bench.prompts ? args->bench.prompts : "32,128,512", lengths,
                      LENGTHS_MAX, &n) != 0) {
        complain("-p: \"%s\" is no list of up to %u lengths from 1 to %u, such as 32,128",
                 args->bench.prompts, LENGTHS_MAX, PROMPT_MAX);
        return EXIT_USAGE;
    }
    args->bench.streams = args->bench.streams ? args->bench.streams : STREAMS_DEFAULT;
    args->bench.rounds = args->bench.rounds ? args->bench.rounds : ROUNDS_DEFAULT;
    for (size_t i = 0; i < n; i++) {
        rows[i].prompt = lengths[i];
        rows[i].answer = args->request.max_tokens ? args->request.max_tokens : ANSWER_DEFAULT;
    }
    struct shot *shots = calloc(args->bench.streams, sizeof(*shots));
    if (!shots) {
        complain("out of memory");
        return EXIT_SOFTWARE;
    }
    const int r = run(args, rows, n, shots);
    for (size_t i = 0; i < args->bench.streams; i++) {
        shot_deinit(&shots[i]);
    }
    free(shots);
    for (size_t i = 0; i < n; i++) {
        row_deinit(&rows[i]);
    }
    return r;
}

int verb_bench(struct args *args)
{
    if (args->n_words > 0 && strcmp(args->words[0], "load") == 0) {
        return bench_load(args);
    }
    if (args->n_words > 0) {
        complain("bench: \"%s\" is not \"load\"", args->words[0]);
        return EXIT_USAGE;
    }
    if (args->bench.against || args->bench.slack_ms > 0 || args->bench.rate > 0 ||
        args->bench.seconds) {
        complain("bench: --against, --slack, --rate and --seconds are for \"bench load\"");
        return EXIT_USAGE;
    }
    return table(args);
}
