/* Logits against recorded results of other programs.
 *
 * Goal: the graphs compute what the models mean, at every CPU level and with both caches. Method: for
 * every llama and qwen3 model in a format we read, run the recorded prompts, and compare the last
 * row of each and every row of one with the recorded arrays, within the limits that the reference
 * data suggests; then follow the recorded greedy continuations up to the first close call. Skipped,
 * loudly, without the reference data. */
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/filemap.h"
#include "engine/engine.h"

#define SKIP 77
#define N_PROMPTS 4u
#define N_ALL 33u /* tokens of prompt 2 */
#define IDS_MAX 256u
#define GREEDY_N 32u

enum weights { FLOATS, HALVES, BRAINS, INTS };

static const struct {
    const char *name;
    enum weights weights;
} cases[] = {
    {"llama-f32", FLOATS},
    {"qwen3-f32", FLOATS},
    {"llama-f16", HALVES},
    {"llama-f16-ropefreqs", HALVES},
    {"llama-f16-ropelinear", HALVES},
    {"qwen3-f16-yarn", HALVES},
    {"llama-bf16", BRAINS},
    {"llama-q8_0", INTS},
    {"qwen3-q1_0", INTS},
    {"qwen3-q8_0", INTS},
};

struct run {
    const char *name;
    json_t *facts;
    struct filemap arrays;
    struct model *model;
    struct engine *engine;
    struct kv_pool *pool;
    struct stepper *stepper;
    uint32_t n_vocab;
    float *got; /* (N_PROMPTS + N_ALL, n_vocab): the last rows, then all rows of prompt 2 */
};

static void must(bool ok, const char *what)
{
    if (!ok) {
        printf("cannot %s\n", what);
        exit(1);
    }
}

static char *path_of(const char *root, const char *name, const char *suffix)
{
    char *path = NULL;

    must(asprintf(&path, "%s/oracle/logits/%s%s", root, name, suffix) > 0, "make a path");
    return path;
}

static size_t ids_of(const json_t *list, int32_t ids[IDS_MAX])
{
    const size_t n = json_array_size(list);

    must(n > 0 && n <= IDS_MAX, "read ids");
    for (size_t i = 0; i < n; i++) {
        ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    }
    return n;
}

static const float *array_of(const struct run *r, const char *set, const char *part)
{
    char name[64];

    (void)snprintf(name, sizeof(name), "%s.%s", set, part);
    const json_t *a =
        json_object_get(json_object_get(json_object_get(r->facts, "binary"), "arrays"), name);
    return a ? (const void *)(r->arrays.data + json_integer_value(json_object_get(a, "offset")))
             : NULL;
}

/* ---- running ---- */

static void compute(struct run *r)
{
    const json_t *prompts = json_object_get(r->facts, "prompts");

    for (size_t p = 0; p < N_PROMPTS; p++) {
        int32_t ids[IDS_MAX];
        struct step_item it = {.ids = ids, .n_ids = ids_of(json_array_get(prompts, p), ids)};
        it.n_logits = p == 2 ? it.n_ids : 1;
        must(seq_new(&it.seq, r->pool, it.n_ids) == 0, "make a sequence");
        must(stepper_run(r->stepper, &it, 1, NULL) == STEP_OK, "run a step");
        const float *last = it.logits + (it.n_logits - 1) * r->n_vocab;
        memcpy(r->got + p * r->n_vocab, last, r->n_vocab * sizeof(float));
        if (p == 2) {
            memcpy(r->got + (size_t)N_PROMPTS * r->n_vocab, it.logits,
                   (size_t)N_ALL * r->n_vocab * sizeof(float));
        }
        seq_free(it.seq);
    }
}

/* ---- comparing ---- */

struct distance {
    double rms, rel_rms, max;
};

/* Over all rows of the set; rel_rms is rms / mean over rows of the wanted row's deviation. */
static struct distance compare(const struct run *r, const char *set)
{
    const float *last = array_of(r, set, "last"), *all = array_of(r, set, "prompt2_all");
    const size_t n_rows = N_PROMPTS + (all ? N_ALL : 0), n = r->n_vocab;
    double square = 0, deviation = 0;
    struct distance d = {0};

    must(last != NULL, "find an array");
    for (size_t row = 0; row < n_rows; row++) {
        const float *want = row < N_PROMPTS ? last + row * n : all + (row - N_PROMPTS) * n;
        const float *got = r->got + row * n;
        double mean = 0, var = 0;
        for (size_t i = 0; i < n; i++) {
            const double diff = fabs((double)got[i] - (double)want[i]);
            mean += want[i];
            square += diff * diff;
            d.max = diff > d.max || isnan(diff) ? diff : d.max;
        }
        mean /= (double)n;
        for (size_t i = 0; i < n; i++) {
            var += ((double)want[i] - mean) * ((double)want[i] - mean);
        }
        deviation += sqrt(var / (double)n);
    }
    d.rms = sqrt(square / (double)(n_rows * n));
    d.rel_rms = d.rms / (deviation / (double)n_rows);
    return d;
}

/* The set to compare with and the limits, as the reference data's table has them. */
static bool check_logits(const struct run *r, enum weights w, enum kv_type kv, struct distance *ret)
{
    const char *set = w == FLOATS ? "exact" : "ideal";
    double limit = 1e-4, max = INFINITY;

    if (w == FLOATS && !array_of(r, "exact", "prompt2_all")) {
        set = "ideal"; /* has every row, and equals `exact` to 1e-4 */
    }
    if (w == FLOATS) {
        limit = kv == KV_F32 ? 1e-4 : 2e-3;
        max = kv == KV_F32 ? 1e-3 : INFINITY;
    } else if (w == HALVES) {
        limit = kv == KV_F32 ? 1e-4 : 2e-3;
    } else if (w == BRAINS) {
        limit = kv == KV_F32 ? 1e-4 : 6e-3;
    } else {
        const json_t *ref = json_object_get(json_object_get(r->facts, "distances"), "ref_vs_ideal");
        limit = 1.5 * json_number_value(json_object_get(ref, "rel_rms"));
        must(limit > 0, "read the reference's own distance");
    }
    *ret = compare(r, set);
    if (!(ret->rel_rms <= limit && ret->max <= max)) {
        printf("  %s: rel_rms %.3g (limit %.3g), max %.3g (limit %.3g)\n", r->name, ret->rel_rms,
               limit, ret->max, max);
        return false;
    }
    return true;
}

/* Follow one recorded continuation up to its first margin that noise could turn. */
static bool check_greedy(const struct run *r, const json_t *record, double noise, size_t *ret_steps)
{
    const json_t *ideal = json_object_get(record, "ideal");
    const json_t *prompts = json_object_get(r->facts, "prompts");
    int32_t ids[IDS_MAX];
    struct step_item it = {.ids = ids, .n_logits = 1};
    bool ok = true;

    it.n_ids = ids_of(
        json_array_get(prompts, (size_t)json_integer_value(json_object_get(record, "prompt"))),
        ids);
    must(seq_new(&it.seq, r->pool, it.n_ids + GREEDY_N) == 0, "make a sequence");
    for (size_t step = 0; ok && step < GREEDY_N; step++) {
        const double margin =
            json_number_value(json_array_get(json_object_get(ideal, "margin"), step));
        const json_t *want = json_array_get(json_object_get(ideal, "ids"), step);
        int32_t best = 0;
        if (margin < 10 * noise) {
            break;
        }
        must(stepper_run(r->stepper, &it, 1, NULL) == STEP_OK, "run a step");
        for (uint32_t i = 1; i < r->n_vocab; i++) {
            best = it.logits[i] > it.logits[best] ? (int32_t)i : best;
        }
        ok = best == json_integer_value(want);
        if (!ok) {
            printf("  %s: greedy step %zu: %d, want %d\n", r->name, step, (int)best,
                   (int)json_integer_value(want));
        }
        ids[0] = best;
        it.n_ids = 1;
        (*ret_steps)++;
    }
    seq_free(it.seq);
    return ok;
}

/* ---- cases ---- */

static void open_case(struct run *r, const char *root)
{
    char *gguf = path_of(root, r->name, ".gguf"), *facts = path_of(root, r->name, ".json");
    char *arrays = path_of(root, r->name, ".f32");
    struct diag d = {0};
    const int fd = open(gguf, O_RDONLY | O_CLOEXEC), fd2 = open(arrays, O_RDONLY | O_CLOEXEC);

    r->facts = json_load_file(facts, 0, NULL);
    must(r->facts && fd >= 0 && fd2 >= 0 && filemap_open(&r->arrays, fd2) == 0, "read the case");
    if (model_open_gguf(&r->model, fd, NULL, &d) != MODEL_OK) {
        printf("  %s: %s\n", r->name, d.text);
        exit(1);
    }
    r->n_vocab = vocab_size(model_vocab(r->model));
    r->got = calloc((size_t)(N_PROMPTS + N_ALL) * r->n_vocab, sizeof(float));
    must(r->got != NULL, "get memory");
    (void)close(fd);
    (void)close(fd2);
    free(gguf);
    free(facts);
    free(arrays);
}

static bool run_once(struct run *r, enum weights w, enum cpu_level level, enum kv_type kv)
{
    const struct engine_options options = {.cpu = level, .n_threads = 2};
    const struct stepper_limits limits = {.n_tokens_max = IDS_MAX, .n_logits_max = N_ALL};
    const json_t *greedy = json_object_get(r->facts, "greedy");
    struct distance d;
    size_t steps = 0;

    must(engine_new(&r->engine, &options) == 0, "start the engine");
    must(kv_pool_new(&r->pool, r->model, kv, 32) == 0, "make a pool");
    must(stepper_new(&r->stepper, r->engine, r->model, &limits) == 0, "make a stepper");
    compute(r);
    bool ok = check_logits(r, w, kv, &d);
    const double noise = compare(r, "ideal").rms;
    for (size_t i = 0; i < json_array_size(greedy); i++) {
        ok = check_greedy(r, json_array_get(greedy, i), noise, &steps) && ok;
    }
    printf("%s %s %s kv-%s: rel_rms %.2e, max %.2e, %zu greedy steps\n", ok ? "ok  " : "FAIL",
           r->name, cpu_level_name(level), kv == KV_F32 ? "f32" : "f16", d.rel_rms, d.max, steps);
    stepper_free(r->stepper);
    kv_pool_free(r->pool);
    engine_free(r->engine);
    return ok;
}

int main(void)
{
    const char *root = getenv("ONEBIT_SHARED");
    size_t n_failed = 0, n = 0;
    char *probe;

    must(root != NULL, "read ONEBIT_SHARED");
    probe = path_of(root, cases[0].name, ".json");
    if (access(probe, R_OK) != 0) {
        printf("SKIPPED: %s is absent\n", probe);
        return SKIP;
    }
    free(probe);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct run r = {.name = cases[i].name};
        open_case(&r, root);
        for (unsigned level = 0; level < CPU_LEVELS; level++) {
            for (unsigned kv = KV_F32; cpu_level_present(level) && kv <= KV_F16; kv++) {
                n_failed +=
                    !run_once(&r, cases[i].weights, (enum cpu_level)level, (enum kv_type)kv);
                n++;
            }
        }
        model_free(r.model);
        filemap_close(&r.arrays);
        json_decref(r.facts);
        free(r.got);
    }
    printf("%zu runs, %zu failed\n", n, n_failed);
    return n_failed == 0 ? 0 : 1;
}
