/* How fast each kernel is, alone on one thread, in the time that the thread itself had: what a busy
 * neighbour takes does not count, and the best of many rounds does.
 *
 *   kernels [--level NAME]... [--kind NAME]... [--tokens N]... [--in cache|memory] [--ms N]
 *           [--values] [--json]
 *
 * Panels of 2,048 columns, from the cache (as many as fit 192 KiB) and from memory (96 MiB, walked
 * from one end to the other, in huge pages where the system has them). Cycles are time times the
 * core's clock, which is measured before. The scalar level takes four panels in both places. Wide
 * products (NAME/wide) are of 80 panels, their tables' making included, for 16 and more tokens.
 * Without a choice: every level that is present, every kind, 1, 2, 4, 8, 16 and 64 tokens, both
 * places; and then everything that is no panel, which is all there is with --values.
 *
 * Exit: 0, 64 usage, 71 no memory. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "bench/limits.h"
#include "tests/kernels/check.h"

#define N_COLS ((size_t)2048)
#define CACHE_BYTES ((size_t)192 << 10)
#define MEMORY_BYTES ((size_t)96 << 20)
#define SLOW_PANELS 4u /* of the scalar level, which reads memory no faster than the cache */
#define TOKENS_MAX 64u
#define FOR_WIDE 80u            /* panels of a wide product */
#define WIDE_LEAST 16u          /* tokens of one */
#define N_VALUES ((size_t)4096) /* of what is no panel */

enum place { PLACE_CACHE, PLACE_MEMORY, PLACES };

struct args {
    bool levels[CPU_LEVELS], kinds[PANELS], tokens[TOKENS_MAX + 1], places[PLACES];
    bool json, values, panels; /* of what is no panel, of what is one */
    unsigned ms;
};

static const char *const place_names[PLACES] = {"cache", "memory"};
static double cycles_per_ns;
static const char *separator = "";

static uint64_t cpu_ns(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* ---- panels ---- */

struct panel_run {
    enum cpu_level level;
    enum panel_kind kind;
    enum place place;
    size_t n_tokens, n_panels;
    bool wide;
};

static void print_panel(const struct args *a, const struct panel_run *run, uint64_t ns)
{
    const double weights = (double)(run->n_panels * PANEL_ROWS * N_COLS);
    const double macs = weights * (double)run->n_tokens, each = (double)ns * 128 / macs;
    const double rate = (double)(run->n_panels * panel_bytes(run->kind, N_COLS)) / (double)ns;
    const char *level = cpu_level_name(run->level);
    char kind[16];

    (void)snprintf(kind, sizeof(kind), "%s%s", panel_info(run->kind)->name,
                   run->wide ? "/wide" : "");
    if (a->json) {
        (void)printf("%s\n {\"level\": \"%s\", \"kind\": \"%s\", \"in\": \"%s\", \"tokens\": %zu, "
                     "\"ns\": %.4f, \"cycles\": %.3f, \"gb_per_s\": %.3f, \"g_mac_per_s\": %.2f}",
                     separator, level, kind, place_names[run->place], run->n_tokens, each,
                     each * cycles_per_ns, rate, macs / (double)ns);
        separator = ",";
    } else {
        (void)printf("%-8s %-9s %-6s %6zu %10.3f %10.2f %10.2f %10.1f\n", level, kind,
                     place_names[run->place], run->n_tokens, each, each * cycles_per_ns, rate,
                     macs / (double)ns);
    }
    (void)fflush(stdout);
}

/* All panels once: several at a time where the level does it so. */
static void multiply(const struct panel_run *run, const struct kernels *k, const uint8_t *panels,
                     const struct act_q8 *act, float *out)
{
    static uint8_t room[WIDE_ROOM_BYTES] __attribute__((aligned(64)));
    const size_t bytes = panel_bytes(run->kind, N_COLS);

    if (run->wide) {
        k->wide[run->kind](panels, run->n_panels, N_COLS, act, out, FOR_WIDE * PANEL_ROWS, room);
        return;
    }
    if (run->kind == PANEL_B1 && act->sums) {
        for (size_t p = 0; p < run->n_panels; p += B1_PANELS_BEST) {
            const size_t left = run->n_panels - p;
            const uint8_t *at = panels + p * bytes;
            k->b1_panels(at, left < B1_PANELS_BEST ? left : B1_PANELS_BEST,
                         left > B1_PANELS_BEST ? at + B1_PANELS_BEST * bytes : NULL, N_COLS, act,
                         out, B1_PANELS_BEST * PANEL_ROWS);
        }
        return;
    }
    for (size_t p = 0; p < run->n_panels;) {
        const bool two = act->n_tokens > 1 && run->n_panels - p > 1 && k->pair[run->kind];
        (two ? k->pair : k->panel)[run->kind](panels + p * bytes, N_COLS, act, out, 2 * PANEL_ROWS);
        p += two ? 2 : 1;
    }
}

/* The tables of all tokens; NULL where the level has none. To be freed. */
static uint8_t *tables_of(const struct kernels *k, const struct act_q8 *act)
{
    const size_t bytes = N_COLS / 4 * QUAD_SUMS_BYTES;
    uint8_t *ret = k->quad_sums ? aligned_alloc(64, TOKENS_MAX * bytes) : NULL;

    for (size_t t = 0; ret && t < TOKENS_MAX; t++) {
        k->quad_sums(act->q + t * act->q_stride, N_COLS, ret + t * bytes);
    }
    return ret;
}

/* One figure over the panels at `panels`, which are copies of c's. */
static void time_panels(const struct args *a, const struct panel_run *run, const struct kernels *k,
                        const struct act_q8 *acts, const uint8_t *panels, float *out)
{
    const uint64_t until = clock_now_ns() + a->ms * NS_PER_MS;
    struct act_q8 act = *acts;
    uint64_t best = UINT64_MAX;

    act.n_tokens = run->n_tokens;
    for (unsigned round = 0; round < 2 || clock_now_ns() < until; round++) {
        const uint64_t start = cpu_ns();
        multiply(run, k, panels, &act, out);
        const uint64_t ns = cpu_ns() - start;
        best = ns > 0 && ns < best ? ns : best; /* 0: the clock stood still */
    }
    print_panel(a, run, best);
}

static void bench_wide(const struct args *a, enum cpu_level level, const struct kernels *k,
                       enum panel_kind kind, const struct panel_case *c, uint8_t *room, float *out)
{
    const size_t bytes = panel_bytes(kind, N_COLS);

    for (size_t p = 0; p < FOR_WIDE; p++) {
        memcpy(room + p * bytes, c->panel, bytes);
    }
    for (size_t n = WIDE_LEAST; n <= TOKENS_MAX; n++) {
        const struct panel_run run = {level, kind, PLACE_CACHE, n, FOR_WIDE, true};
        if (a->tokens[n]) {
            time_panels(a, &run, k, &c->act, room, out);
        }
    }
}

static void bench_kind(const struct args *a, enum cpu_level level, const struct kernels *k,
                       enum panel_kind kind, uint8_t *room, float *out)
{
    const size_t bytes = panel_bytes(kind, N_COLS);
    uint8_t *tables = NULL;
    struct panel_case c;

    panel_case_init(&c, kind, N_COLS, TOKENS_MAX, 0); /* round 0: nothing extreme */
    panel_case_without_3(&c, kind, N_COLS);
    panel_case_without_lowest(&c, kind, N_COLS);
    if (kind == PANEL_B1) {
        tables = tables_of(k, &c.act);
        c.act.sums = tables;
        c.act.sums_stride = N_COLS / 4 * QUAD_SUMS_BYTES;
    }
    for (int place = 0; place < PLACES; place++) {
        const size_t most = place == PLACE_CACHE ? CACHE_BYTES : MEMORY_BYTES;
        if (!a->places[place]) {
            continue;
        }
        const size_t n_panels = level == CPU_SCALAR ? SLOW_PANELS : most / bytes;
        for (size_t p = 0; p < n_panels; p++) {
            memcpy(room + p * bytes, c.panel, bytes);
        }
        for (size_t n = 1; n <= TOKENS_MAX; n++) {
            const struct panel_run run = {level, kind, (enum place)place, n, n_panels, false};
            if (a->tokens[n]) {
                time_panels(a, &run, k, &c.act, room, out);
            }
        }
    }
    if (k->wide[kind] && a->places[PLACE_CACHE]) {
        bench_wide(a, level, k, kind, &c, room, out);
    }
    free(tables);
    panel_case_deinit(&c);
}

/* ---- what is no panel ---- */

#define KV_COLS (N_VALUES / KERN_ROWS) /* the values as one block of a head's keys */

struct values {
    float x[N_VALUES], y[N_VALUES], z[N_VALUES], d[N_VALUES / ACT_BLOCK];
    float scores[KERN_QUERIES][KERN_ROWS], out[KERN_QUERIES][KV_COLS];
    uint16_t h[N_VALUES];
    int8_t q[N_VALUES];
    int32_t s[N_VALUES / ACT_BLOCK];
    uint8_t sums[N_VALUES / 4 * QUAD_SUMS_BYTES] __attribute__((aligned(64)));
    volatile float sink; /* keeps results from being dropped */
};

typedef void value_fn(const struct kernels *k, struct values *v);

static void run_quant(const struct kernels *k, struct values *v)
{
    k->quant(v->x, N_VALUES, ACT_BLOCK, v->q, v->d, v->s);
}

static void run_quad_sums(const struct kernels *k, struct values *v)
{
    k->quad_sums(v->q, N_VALUES, v->sums);
}

static void run_quant_token(const struct kernels *k, struct values *v)
{
    k->quant_token(v->x, N_VALUES, N_VALUES, v->q, v->d, v->s);
}

static void run_binarize(const struct kernels *k, struct values *v)
{
    v->sink = k->binarize(v->x, v->y, N_VALUES, v->sums);
}

static void run_dot_f32(const struct kernels *k, struct values *v)
{
    v->sink = k->dot_f32(v->x, v->y, N_VALUES);
}

static void run_dot_f16(const struct kernels *k, struct values *v)
{
    v->sink = k->dot_f16(v->h, v->y, N_VALUES);
}

static void run_dot_bf16(const struct kernels *k, struct values *v)
{
    v->sink = k->dot_bf16(v->h, v->y, N_VALUES);
}

static void run_f32_to_f16(const struct kernels *k, struct values *v)
{
    k->f32_to_f16(v->x, v->h, N_VALUES);
}

static void run_exp(const struct kernels *k, struct values *v)
{
    memcpy(v->z, v->x, sizeof(v->z)); /* what is copied is not counted beside an exp */
    k->exp_below_max(v->z, N_VALUES);
}

static void run_silu(const struct kernels *k, struct values *v)
{
    memcpy(v->z, v->x, sizeof(v->z));
    k->silu_mul(v->z, v->y, N_VALUES);
}

static void run_relu2(const struct kernels *k, struct values *v)
{
    memcpy(v->z, v->x, sizeof(v->z));
    k->relu2_mul(v->z, v->y, N_VALUES);
}

static void run_scale_mul(const struct kernels *k, struct values *v)
{
    k->scale_mul(v->x, 0.5f, v->y, v->z, N_VALUES);
}

static void run_add_scaled(const struct kernels *k, struct values *v)
{
    k->add_scaled(v->x, v->y, 0.5f, v->z, N_VALUES);
}

static void run_rotate_halves(const struct kernels *k, struct values *v)
{
    k->rotate_halves(v->z, v->x, v->y, N_VALUES / 2);
}

static void run_rotate_pairs(const struct kernels *k, struct values *v)
{
    k->rotate_pairs(v->z, v->x, v->y, N_VALUES / 2);
}

/* One block of a head by n queries. */
static void run_attention(const struct kernels *k, struct values *v, enum row_kind kind, size_t n,
                          bool mix)
{
    const void *const rows[] = {[ROW_F32] = v->x, [ROW_F16] = v->h, [ROW_I8] = v->q};
    const struct kv_rows kv = {.rows = rows[kind], .d = v->y, .n = KERN_ROWS, .n_cols = KV_COLS};
    float *to[KERN_QUERIES];
    const float *weight[KERN_QUERIES];
    struct queries q = {.n = n};
    float sum[KERN_QUERIES] = {0};

    for (size_t t = 0; t < n; t++) {
        q.q[t] = kind == ROW_I8 ? (const void *)v->q : v->y + t * KV_COLS;
        q.scale[t] = 1e-3f;
        to[t] = mix ? v->out[t] : v->scores[t];
        weight[t] = v->y + t * KERN_ROWS;
    }
    if (mix) {
        memset(v->out, 0, sizeof(v->out));
        k->mix[kind](&kv, weight, n, to, sum);
    } else {
        k->scores[kind](&kv, &q, to);
    }
}

#define RUN_ATTENTION(slot, kind, n, mix)                                                          \
    static void run_##slot##_##n(const struct kernels *k, struct values *v)                        \
    {                                                                                              \
        run_attention(k, v, kind, n, mix);                                                         \
    }
RUN_ATTENTION(scores_f32, ROW_F32, 1, false)
RUN_ATTENTION(scores_f32, ROW_F32, 4, false)
RUN_ATTENTION(scores_f16, ROW_F16, 1, false)
RUN_ATTENTION(scores_f16, ROW_F16, 2, false)
RUN_ATTENTION(scores_f16, ROW_F16, 4, false)
RUN_ATTENTION(scores_i8, ROW_I8, 1, false)
RUN_ATTENTION(scores_i8, ROW_I8, 2, false)
RUN_ATTENTION(scores_i8, ROW_I8, 4, false)
RUN_ATTENTION(mix_f32, ROW_F32, 1, true)
RUN_ATTENTION(mix_f32, ROW_F32, 4, true)
RUN_ATTENTION(mix_f16, ROW_F16, 1, true)
RUN_ATTENTION(mix_f16, ROW_F16, 2, true)
RUN_ATTENTION(mix_f16, ROW_F16, 4, true)
RUN_ATTENTION(mix_i8, ROW_I8, 1, true)
RUN_ATTENTION(mix_i8, ROW_I8, 2, true)
RUN_ATTENTION(mix_i8, ROW_I8, 4, true)

static void bench_values(const struct args *a, enum cpu_level level, const struct kernels *k)
{
    static const struct {
        const char *name;
        value_fn *run;
        unsigned bytes;   /* read for one value */
        unsigned queries; /* that each value serves */
    } slots[] = {
        {"quant", run_quant, 4, 1},
        {"quant_token", run_quant_token, 4, 1},
        {"binarize", run_binarize, 8, 1},
        {"quad_sums", run_quad_sums, 1, 1},
        {"dot_f32", run_dot_f32, 4, 1},
        {"dot_f16", run_dot_f16, 2, 1},
        {"dot_bf16", run_dot_bf16, 2, 1},
        {"f32_to_f16", run_f32_to_f16, 4, 1},
        {"exp", run_exp, 4, 1},
        {"silu_mul", run_silu, 4, 1},
        {"relu2_mul", run_relu2, 4, 1},
        {"scale_mul", run_scale_mul, 4, 1},
        {"add_scaled", run_add_scaled, 4, 1},
        {"rotate_halves", run_rotate_halves, 4, 1},
        {"rotate_pairs", run_rotate_pairs, 4, 1},
        {"scores_f32/1", run_scores_f32_1, 4, 1},
        {"scores_f32/4", run_scores_f32_4, 4, 4},
        {"scores_f16/1", run_scores_f16_1, 2, 1},
        {"scores_f16/2", run_scores_f16_2, 2, 2},
        {"scores_f16/4", run_scores_f16_4, 2, 4},
        {"scores_i8/1", run_scores_i8_1, 1, 1},
        {"scores_i8/2", run_scores_i8_2, 1, 2},
        {"scores_i8/4", run_scores_i8_4, 1, 4},
        {"mix_f32/1", run_mix_f32_1, 4, 1},
        {"mix_f32/4", run_mix_f32_4, 4, 4},
        {"mix_f16/1", run_mix_f16_1, 2, 1},
        {"mix_f16/2", run_mix_f16_2, 2, 2},
        {"mix_f16/4", run_mix_f16_4, 2, 4},
        {"mix_i8/1", run_mix_i8_1, 1, 1},
        {"mix_i8/2", run_mix_i8_2, 1, 2},
        {"mix_i8/4", run_mix_i8_4, 1, 4},
    };
    static struct values v;

    float_input(v.x, N_VALUES, 0);
    float_input(v.y, N_VALUES, 0);
    half_input(v.h, N_VALUES, 0);
    for (size_t i = 0; i < ARRAY_SIZE(slots); i++) {
        uint64_t best = UINT64_MAX;
        if (slots[i].run == run_quad_sums && !k->quad_sums) {
            continue;
        }
        for (int round = 0; round < 64; round++) {
            const uint64_t start = cpu_ns();
            for (int again = 0; again < 8; again++) {
                slots[i].run(k, &v);
            }
            const uint64_t ns = (cpu_ns() - start) / 8;
            best = ns > 0 && ns < best ? ns : best; /* 0: the clock stood still */
        }
        const double each = (double)best * 128 / (double)(N_VALUES * slots[i].queries);
        const double rate = 128.0 * slots[i].bytes / (each * slots[i].queries);
        if (a->json) {
            (void)printf(
                "%s\n {\"level\": \"%s\", \"kind\": \"%s\", \"in\": \"cache\", \"tokens\": 1, "
                "\"ns\": %.4f, \"cycles\": %.3f, \"gb_per_s\": %.3f}",
                separator, cpu_level_name(level), slots[i].name, each, each * cycles_per_ns, rate);
            separator = ",";
        } else {
            (void)printf("%-8s %-12s cache %10.3f %10.2f %10.2f\n", cpu_level_name(level),
                         slots[i].name, each, each * cycles_per_ns, rate);
        }
    }
}

/* ---- the command line ---- */

static bool number(const char *s, unsigned long most, unsigned long *ret)
{
    char *end = NULL;

    errno = 0;
    *ret = *s >= '0' && *s <= '9' ? strtoul(s, &end, 10) : 0;
    return errno == 0 && end && *end == '\0' && *ret >= 1 && *ret <= most;
}

/* One option and its value. */
static bool take(struct args *a, const char *word, const char *value)
{
    enum cpu_level level;
    enum panel_kind kind;
    unsigned long n;

    if (strcmp(word, "--level") == 0 && cpu_level_parse(value, &level)) {
        a->levels[level] = true;
    } else if (strcmp(word, "--kind") == 0 && panel_kind_parse(value, &kind)) {
        a->kinds[kind] = true;
    } else if (strcmp(word, "--tokens") == 0 && number(value, TOKENS_MAX, &n)) {
        a->tokens[n] = true;
    } else if (strcmp(word, "--ms") == 0 && number(value, 60000, &n)) {
        a->ms = (unsigned)n;
    } else if (strcmp(word, "--in") == 0 && strcmp(value, "cache") == 0) {
        a->places[PLACE_CACHE] = true;
    } else if (strcmp(word, "--in") == 0 && strcmp(value, "memory") == 0) {
        a->places[PLACE_MEMORY] = true;
    } else {
        return false;
    }
    return true;
}

/* Is one of n set? If none: set those of `usual`, or all when that is NULL. */
static bool any(bool *set, size_t n, const bool *usual)
{
    for (size_t i = 0; i < n; i++) {
        if (set[i]) {
            return true;
        }
    }
    for (size_t i = 0; i < n; i++) {
        set[i] = !usual || usual[i];
    }
    return false;
}

static bool parse(struct args *a, int n, char **argv)
{
    static const bool tokens[TOKENS_MAX + 1] = {
        [1] = true, [2] = true, [4] = true, [8] = true, [16] = true, [64] = true};

    for (int i = 1; i < n; i++) {
        if (strcmp(argv[i], "--json") == 0) {
            a->json = true;
        } else if (strcmp(argv[i], "--values") == 0) {
            a->values = true;
        } else if (i + 1 < n && take(a, argv[i], argv[i + 1])) {
            i++;
        } else {
            return false;
        }
    }
    a->panels = !a->values;
    a->values = !any(a->kinds, PANELS, NULL);
    (void)any(a->levels, CPU_LEVELS, NULL);
    (void)any(a->tokens, TOKENS_MAX + 1, tokens);
    (void)any(a->places, PLACES, NULL);
    return true;
}

static void bench_level(const struct args *a, enum cpu_level level, uint8_t *room, float *out)
{
    struct kernels k;

    kernels_init(&k, level);
    for (unsigned i = PANEL_NONE + 1; i < PANELS; i++) {
        if (a->panels && a->kinds[i]) {
            bench_kind(a, level, &k, (enum panel_kind)i, room, out);
        }
    }
    if (a->values) {
        bench_values(a, level, &k);
    }
}

int main(int argc, char **argv)
{
    struct args a = {.ms = 60};

    if (!parse(&a, argc, argv)) {
        (void)fputs("usage: kernels [--level NAME]... [--kind NAME]... [--tokens N]... "
                    "[--in cache|memory] [--ms N] [--values] [--json]\n",
                    stderr);
        return 64;
    }
    uint8_t *room =
        mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    float *out = malloc(TOKENS_MAX * FOR_WIDE * PANEL_ROWS * sizeof(*out));
    if (room == MAP_FAILED || !out) {
        (void)fputs("kernels: no memory\n", stderr);
        return 71;
    }
    (void)madvise(room, MEMORY_BYTES, MADV_HUGEPAGE);
    random_seed(1);
    cycles_per_ns = core_hertz() * 1e-9;
    if (a.json) {
        (void)printf("{\"core_ghz\": %.3f, \"rows\": [", cycles_per_ns);
    } else {
        (void)printf(
            "core at %.2f GHz; times are of one thread's own, for 128 weights and a token\n"
            "%-8s %-9s %-6s %6s %10s %10s %10s %10s\n",
            cycles_per_ns, "level", "kind", "in", "tokens", "ns", "cycles", "GB/s", "G MAC/s");
    }
    for (int level = 0; level < CPU_LEVELS; level++) {
        if (a.levels[level] && cpu_level_present((enum cpu_level)level)) {
            bench_level(&a, (enum cpu_level)level, room, out);
        }
    }
    if (a.json) {
        (void)puts("\n]}");
    }
    free(out);
    (void)munmap(room, MEMORY_BYTES);
    return fflush(stdout) == 0 ? 0 : 74;
}
