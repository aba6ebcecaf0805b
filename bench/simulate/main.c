/* bench/simulate: what a mix of clients would see, by the daemon's own scheduler over virtual
 * time. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "bench/simulate/sim.h"

#define SAMPLES_MAX 65536u

struct samples {
    double ms[SAMPLES_MAX];
    size_t n;
};

/* Of one class. */
struct result {
    struct samples first, between, queue; /* between: the longest wait of each answer */
    uint64_t n_done, n_refused;
};

struct results {
    struct result of[CLASSES];
};

static const char usage[] =
    "usage: simulate [--fifo] [--seed N] [--seconds N] [--streams N] [--chunk-ms N] [--voice R] "
    "[--chat R]\n"
    "                [--batch N] [--pass-us N] [--stream-us N] [--token-us N] [--json]\n"
    "voice and chat: requests a second; batch: labelling requests outstanding at all times.\n";

static void keep(struct samples *s, uint64_t from_ns, uint64_t to_ns)
{
    if (s->n < SAMPLES_MAX) {
        s->ms[s->n++] = (double)(to_ns - from_ns) / (double)NS_PER_MS;
    }
}

static void note(struct sim *s, const struct sim_job *j, enum sim_end how, void *user)
{
    const bool refused = how != SIM_DONE;
    struct results *results = user;
    struct result *r = &results->of[j->job.class_];

    (void)s;
    r->n_done += !refused;
    r->n_refused += refused;
    if (!refused) {
        keep(&r->queue, j->arrived_ns, j->computed_ns);
        keep(&r->first, j->arrived_ns, j->first_ns);
        keep(&r->between, 0, j->wait_max_ns);
    }
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double percentile(struct samples *s, double part)
{
    if (s->n == 0) {
        return 0;
    }
    qsort(s->ms, s->n, sizeof(s->ms[0]), ascending);
    return s->ms[(size_t)(part * (double)(s->n - 1) + 0.5)];
}

static void print_table(struct sim *s, struct results *results)
{
    const double seconds = (double)(s->now_ns - NS_PER_S) * 1e-9;

    printf("%-7s %8s %30s %30s\n", "class", "answers", "first token p50/p95/p99 ms",
           "longest wait p50/p95/p99 ms");
    for (int c = CLASSES - 1; c >= 0; c--) {
        struct result *r = &results->of[c];
        printf("%-7s %8llu %10.0f %9.0f %9.0f %10.0f %9.0f %9.0f\n",
               request_class_name((enum request_class)c), (unsigned long long)r->n_done,
               percentile(&r->first, 0.5), percentile(&r->first, 0.95), percentile(&r->first, 0.99),
               percentile(&r->between, 0.5), percentile(&r->between, 0.95),
               percentile(&r->between, 0.99));
    }
    printf("%.1f tokens/s (prompt %.1f, answer %.1f), steps up to %.0f ms, %llu given back\n",
           (double)(s->prompt_tokens + s->answer_tokens) / seconds,
           (double)s->prompt_tokens / seconds, (double)s->answer_tokens / seconds,
           (double)s->step_max_ns * 1e-6, (unsigned long long)s->n_give_backs);
    printf("a plan took %.1f us, the longest %.1f us\n",
           (double)s->plan_ns / 1e3 / (double)(s->n_plans ? s->n_plans : 1),
           (double)s->plan_max_ns / 1e3);
}

static void print_json(struct sim *s, struct results *results)
{
    const double seconds = (double)(s->now_ns - NS_PER_S) * 1e-9;

    printf("{\"classes\": {");
    for (int c = CLASSES - 1; c >= 0; c--) {
        struct result *r = &results->of[c];
        printf("\"%s\": {\"answers\": %llu, \"first_ms\": [%.3f, %.3f, %.3f], "
               "\"wait_ms\": [%.3f, %.3f, %.3f], \"queue_ms\": [%.3f, %.3f, %.3f]}%s",
               request_class_name((enum request_class)c), (unsigned long long)r->n_done,
               percentile(&r->first, 0.5), percentile(&r->first, 0.95), percentile(&r->first, 0.99),
               percentile(&r->between, 0.5), percentile(&r->between, 0.95),
               percentile(&r->between, 0.99), percentile(&r->queue, 0.5),
               percentile(&r->queue, 0.95), percentile(&r->queue, 0.99), c > 0 ? ", " : "");
    }
    printf("}, \"percentiles\": [50, 95, 99], \"tokens_per_s\": %.3f, \"step_max_ms\": %.3f, "
           "\"given_back\": %llu, \"plan_us\": %.3f, \"plan_max_us\": %.3f}\n",
           (double)(s->prompt_tokens + s->answer_tokens) / seconds, (double)s->step_max_ns * 1e-6,
           (unsigned long long)s->n_give_backs,
           (double)s->plan_ns / 1e3 / (double)(s->n_plans ? s->n_plans : 1),
           (double)s->plan_max_ns / 1e3);
}

struct wish {
    double seed, seconds, streams, voice, chat, batch, pass_us, stream_us, token_us, chunk_ms;
    int fifo, json;
};

/* 0, or -1 for what is no number in range. */
static int number(const char *text, double *ret)
{
    char *end = NULL;

    errno = 0;
    *ret = strtod(text, &end);
    return errno || end == text || *end || !(*ret >= 0) || *ret > 1e9 ? -1 : 0;
}

static int read_wish(struct wish *w, int argc, char **argv)
{
    const struct option options[] = {
        {"seed", required_argument, NULL, 0},     {"seconds", required_argument, NULL, 1},
        {"streams", required_argument, NULL, 2},  {"voice", required_argument, NULL, 3},
        {"chat", required_argument, NULL, 4},     {"batch", required_argument, NULL, 5},
        {"pass-us", required_argument, NULL, 6},  {"stream-us", required_argument, NULL, 7},
        {"token-us", required_argument, NULL, 8}, {"chunk-ms", required_argument, NULL, 9},
        {"fifo", no_argument, &w->fifo, 1},       {"json", no_argument, &w->json, 1},
        {"help", no_argument, NULL, 'h'},         {0},
    };
    double *const at[] = {&w->seed,  &w->seconds, &w->streams,   &w->voice,    &w->chat,
                          &w->batch, &w->pass_us, &w->stream_us, &w->token_us, &w->chunk_ms};
    int c, i = 0;

    while ((c = getopt_long(argc, argv, "h", options, &i)) != -1) {
        if (c == 'h') {
            printf("%s", usage);
            exit(0);
        }
        if (c != 0 && (c < 1 || c > 9)) {
            return -1;
        }
        if (options[i].flag == NULL && number(optarg, at[c]) < 0) {
            return -1;
        }
    }
    return optind == argc && w->streams >= 1 && w->streams <= SEAM_PLAN_MAX && w->seconds >= 1 &&
                   w->batch < SIM_JOBS_MAX / 2 && w->pass_us > 0 && w->chunk_ms <= 10000
               ? 0
               : -1;
}

int main(int argc, char **argv)
{
    static struct sim s;
    static struct results results;
    struct wish w = {.seed = 1,
                     .seconds = 300,
                     .streams = 16,
                     .voice = 0.1,
                     .chat = 0.05,
                     .batch = 50,
                     .pass_us = 15000,
                     .stream_us = 1000,
                     .token_us = 1000};

    if (read_wish(&w, argc, argv) < 0) {
        (void)fprintf(stderr, "%s", usage);
        return 2;
    }
    struct sim_options o = {
        .seed = (uint64_t)w.seed,
        .models = {{.cost = {w.pass_us, w.stream_us, w.token_us, 0.05}}},
        .limits = {.fifo = w.fifo,
                   .streams_max = (uint32_t)w.streams,
                   .chunk_us = (uint32_t)(w.chunk_ms * 1000),
                   .pause_max_ns = 120 * NS_PER_S},
        .end_ns = (uint64_t)((w.seconds + 1) * 1e9),
    };
    if (w.voice > 0) {
        o.sources[o.n_sources++] = sim_voice(0, w.voice);
    }
    if (w.chat > 0) {
        o.sources[o.n_sources++] = sim_chat(1, w.chat);
    }
    if (w.batch >= 1) {
        o.sources[o.n_sources++] = sim_batch(2, (uint32_t)w.batch);
    }
    if (sim_init(&s, &o) < 0) {
        (void)fprintf(stderr, "simulate: no memory\n");
        return 1;
    }
    s.timed = true;
    s.ended = note;
    s.user = &results;
    sim_run(&s);
    if (w.json) {
        print_json(&s, &results);
    } else {
        print_table(&s, &results);
    }
    sim_deinit(&s);
    return 0;
}
