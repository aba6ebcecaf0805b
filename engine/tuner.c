/* The measurement: parts of steps, some milliseconds each, in rounds.
 *
 * What is timed is layers, as most of a step is; each slice begins at another one, so that the
 * weights come from where a step finds them and not from the cache of the slice before. A round has
 * steps of one token and of TUNE_MANY with each thread count, and of the other sizes with the
 * default. The numbers computed are thrown away: rows of the first tokens of the vocabulary, at the
 * first positions of a sequence that keeps nothing. */
#include "engine/tune.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/median.h"
#include "engine/cores.h"
#include "engine/engine.h"
#include "engine/kv.h"
#include "engine/step.h"
#include "engine/threads.h"

#define SLICE_NS 2e6  /* aimed at; a layer that takes longer is a slice */
#define ROUNDS_MIN 2u /* whose figures are worth a table */
#define ROUNDS_ENOUGH 5u
#define LAYERS_MAX 64u /* a small model is gone through several times */
#define MANY_I 3u      /* tune_sizes[3] is TUNE_MANY */

_Static_assert(TUNE_COUNTS_MAX <= UINT8_MAX && THREADS_MAX <= UINT8_MAX, "counts fit a byte");

struct tuner {
    struct stepper *st;   /* borrowed */
    struct kv_pool *pool; /* borrowed */
    uint64_t budget_ns, spent_ns;
    struct tune_samples one, many;             /* of a layer */
    double sizes[TUNE_ROUNDS_MAX][TUNE_SIZES]; /* of a layer, default count; 0: not measured */
    double layer_ns[TUNE_SIZES];               /* about, for the length of a slice; 0: not known */
    size_t first_layer;                        /* of the next slice */
    uint64_t begin_ns, begin_own_ns, begin_busy; /* clock, CPU time and everybody's ticks */
    bool watched;                                /* begin_busy is known */
    size_t round, at;                            /* at: slices of this round that are done */
};

/* The default first; then what may beat it: every other count where they are few. */
static void list_counts(struct tune_samples *s, unsigned n_default, unsigned n_most)
{
    const unsigned step = n_most <= TUNE_COUNTS_MAX ? 1 : (n_most + 5) / 6;

    s->counts[s->n_counts++] = (uint8_t)n_default;
    for (unsigned n = n_most; n > 0 && s->n_counts<TUNE_COUNTS_MAX; n = n> step ? n - step : 0) {
        if (n != n_default) {
            s->counts[s->n_counts++] = (uint8_t)n;
        }
    }
}

int tuner_new(struct tuner **ret, struct stepper *st, struct kv_pool *pool, uint64_t budget_ns)
{
    struct tuner *t = calloc(1, sizeof(*t));

    if (!t) {
        return -ENOMEM;
    }
    t->st = st;
    t->pool = pool;
    t->budget_ns = budget_ns;
    list_counts(&t->one, st->engine->n_threads, threads_count(st->engine->threads));
    t->many = t->one;
    *ret = t;
    return 0;
}

void tuner_free(struct tuner *t)
{
    free(t);
}

/* ---- others on the same CPUs ---- */

static uint64_t own_ns(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static bool busy_ticks(const struct tuner *t, uint64_t *ret)
{
    char text[16384]; /* a line a CPU, after which only interrupts come */
    cpu_set_t set;
    const int fd = t->st->engine->stat_fd;
    const ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof(text) - 1, 0);

    if (n <= 0 || sched_getaffinity(0, sizeof(set), &set) != 0) {
        return false;
    }
    text[n] = '\0';
    return cores_busy(text, &set, ret);
}

/* Did others take more than a third of one CPU's time? Ticks are coarse: three are forgiven. */
static bool disturbed(const struct tuner *t)
{
    const double tick_ns = 1e9 / (double)sysconf(_SC_CLK_TCK);
    const double wall = (double)(clock_now_ns() - t->begin_ns) / tick_ns;
    const double own = (double)(own_ns() - t->begin_own_ns) / tick_ns;
    uint64_t busy = 0;

    if (!t->watched || !busy_ticks(t, &busy)) {
        return true;
    }
    return (double)(busy - t->begin_busy) - own > wall / 3 + 3;
}

/* ---- slices ---- */

/* ns for one layer of a step of so many tokens; 0: there is no room for one now. */
static double measure(struct tuner *t, size_t size_i, unsigned n_threads)
{
    struct stepper *st = t->st;
    const size_t n_layer = st->model->shape.n_layer, n = tune_sizes[size_i];
    const double about = t->layer_ns[size_i];
    const size_t fit = about > 0 && about < SLICE_NS ? (size_t)(SLICE_NS / about) : 1;
    const size_t layers = fit < LAYERS_MAX ? fit : LAYERS_MAX;
    struct seq *seq = NULL;

    if (kv_pool_free_blocks(t->pool) == 0 || seq_new(&seq, t->pool, KV_BLOCK) < 0) {
        return 0;
    }
    if (!seq_reserve(seq, n)) {
        seq_free(seq);
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        st->rows[i] =
            (struct row){.seq = seq, .pos = i, .id = (int32_t)(i % st->model->shape.n_vocab)};
    }
    st->n_rows = n;
    threads_use(st->engine->threads, n_threads);
    graph_embed(st);
    if (about < SLICE_NS / 4) {
        graph_layer(st, t->first_layer); /* parked threads come back by this */
    }
    const uint64_t begin = clock_now_ns();
    for (size_t i = 0; i < layers; i++) {
        graph_layer(st, (t->first_layer + i) % n_layer);
    }
    const uint64_t took = clock_now_ns() - begin;
    seq_free(seq);
    t->first_layer = (t->first_layer + layers) % n_layer;
    t->spent_ns += took;
    t->layer_ns[size_i] = (double)took / (double)layers;
    return t->layer_ns[size_i];
}

/* One slice of a round: those of one token by count, of TUNE_MANY by count, then the other sizes.
 * Return: false where the round has no such slice. */
static bool slice_of_round(struct tuner *t, size_t at)
{
    const size_t n = t->one.n_counts;

    if (at < 2 * n) {
        struct tune_samples *s = at < n ? &t->one : &t->many;
        const size_t size_i = at < n ? 0 : MANY_I;
        if (tune_sizes[size_i] <= t->st->limits.n_tokens_max && !tune_hopeless(s, at % n)) {
            s->ns[t->round][at % n] = measure(t, size_i, s->counts[at % n]);
        }
        return true;
    }
    size_t size_i = at - 2 * n + 1;
    size_i += size_i >= MANY_I;
    if (size_i >= TUNE_SIZES) {
        return false;
    }
    if (tune_sizes[size_i] <= t->st->limits.n_tokens_max) {
        t->sizes[t->round][size_i] = measure(t, size_i, t->one.counts[0]);
    }
    return true;
}

bool tuner_slice(struct tuner *t)
{
    if (t->round == TUNE_ROUNDS_MAX || t->spent_ns >= t->budget_ns) {
        return false;
    }
    if (t->round == 0 && t->at == 0) {
        t->begin_ns = clock_now_ns();
        t->begin_own_ns = own_ns();
        t->watched = busy_ticks(t, &t->begin_busy);
    }
    if (slice_of_round(t, t->at)) {
        t->at++;
        return true;
    }
    t->sizes[t->round][0] = t->one.ns[t->round][0];
    t->sizes[t->round][MANY_I] = t->many.ns[t->round][0];
    t->at = 0;
    t->round++;
    t->one.n_rounds = t->many.n_rounds = t->round;
    return t->round < TUNE_ROUNDS_MAX;
}

/* Of what was measured in a column of rounds, for a whole step's layers; 0: nothing. */
static double column(const struct tuner *t, const double *first, size_t stride)
{
    double v[TUNE_ROUNDS_MAX];
    size_t n = 0;

    for (size_t r = 0; r < t->round; r++) {
        if (first[r * stride] > 0) {
            v[n++] = first[r * stride];
        }
    }
    if (n < ROUNDS_MIN) {
        return 0;
    }
    return (double)t->st->model->shape.n_layer * median(v, n);
}

void tuner_table(const struct tuner *t, struct tune_table *ret)
{
    *ret = (struct tune_table){
        .n_counts = t->one.n_counts, .n_rounds = t->round, .spent_ns = t->spent_ns};
    for (size_t i = 0; i < t->one.n_counts; i++) {
        ret->counts[i] = t->one.counts[i];
        ret->one_ns[i] = column(t, &t->one.ns[0][i], TUNE_COUNTS_MAX);
        ret->many_ns[i] = column(t, &t->many.ns[0][i], TUNE_COUNTS_MAX);
    }
    for (size_t i = 0; i < TUNE_SIZES; i++) {
        ret->size_ns[i] = column(t, &t->sizes[0][i], TUNE_SIZES);
    }
}

bool tuner_result(const struct tuner *t, struct tuning *ret)
{
    struct tune_table table;

    tuner_table(t, &table);
    *ret = (struct tuning){.n_generate = (uint8_t)tune_choose(&t->one),
                           .n_prompt = (uint8_t)tune_choose(&t->many),
                           .n_streams = (uint8_t)tune_saturation(table.size_ns)};
    if (disturbed(t)) {
        ret->n_generate = ret->n_prompt = t->one.counts[0];
        ret->n_streams = 0;
        ret->disturbed = 1;
    }
    return t->round >= ROUNDS_ENOUGH && table.one_ns[0] > 0;
}
