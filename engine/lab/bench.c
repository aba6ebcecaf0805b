/* bench: prompt and generation speed, load time and peak memory.
 *
 * Tokens are pseudo-random and nothing is sampled: a round feeds each stream its prompt, in steps
 * of --chunk tokens over all streams, then n single tokens, all streams in one step and a row of
 * logits for each. Rates count the tokens of all streams; with several rounds they are the
 * median. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/lab/lab.h"

struct result {
    double load_s;
    double *prompt_rates, *generate_rates; /* owned: one a round */
};

static uint64_t next(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

/* Fills each stream's prompt, one stream after the other's chunk in each step. */
static int prompts(const struct lab_args *a, struct lab_run *run, const int32_t *ids)
{
    const size_t n_streams = (size_t)a->b, p = (size_t)a->p;
    const size_t chunk = a->chunk / n_streams ? a->chunk / n_streams : 1;
    struct step_item items[LAB_STREAMS_MAX];

    for (size_t at = 0; at < p;) {
        const size_t k = p - at < chunk ? p - at : chunk;
        for (size_t s = 0; s < n_streams; s++) {
            items[s] = (struct step_item){
                .seq = run->seqs[s], .ids = ids + at, .n_ids = k, .n_logits = at + k == p};
        }
        const int r = lab_step(run, items, n_streams);
        if (r != LAB_OK) {
            return r;
        }
        at += k;
    }
    return LAB_OK;
}

static int tokens(const struct lab_args *a, struct lab_run *run, const int32_t *ids)
{
    struct step_item items[LAB_STREAMS_MAX];

    for (size_t at = 0; at < a->n; at++) {
        for (size_t s = 0; s < a->b; s++) {
            items[s] =
                (struct step_item){.seq = run->seqs[s], .ids = ids + at, .n_ids = 1, .n_logits = 1};
        }
        const int r = lab_step(run, items, (size_t)a->b);
        if (r != LAB_OK) {
            return r;
        }
    }
    return LAB_OK;
}

static double rate_since(uint64_t start, uint64_t n)
{
    const uint64_t ns = clock_now_ns() - start;

    return ns > 0 ? (double)n * 1e9 / (double)ns : 0;
}

static int one_round(const struct lab_args *a, struct lab_run *run, const int32_t *ids,
                     double *ret_prompt, double *ret_generate)
{
    for (size_t s = 0; s < run->n_seqs; s++) {
        seq_rewind(run->seqs[s], 0);
    }
    uint64_t start = clock_now_ns();
    int r = prompts(a, run, ids);
    *ret_prompt = rate_since(start, a->p * a->b);
    start = clock_now_ns();
    if (r == LAB_OK) {
        r = tokens(a, run, ids);
    }
    *ret_generate = rate_since(start, a->n * a->b);
    return r;
}

static int measure(const struct lab_args *a, const struct model *model, struct result *res)
{
    const size_t most = a->p > a->n ? (size_t)a->p : (size_t)a->n;
    const struct lab_need need = {.n_seqs = (size_t)a->b,
                                  .n_ctx = (size_t)(a->p + a->n) + 1,
                                  .n_tokens = a->chunk > a->b ? (size_t)a->chunk : (size_t)a->b,
                                  .n_logits = (size_t)a->b};
    const uint32_t n_vocab = vocab_size(model_vocab(model));
    struct lab_run run = {0};
    uint64_t state = 1;
    int32_t *ids = calloc(most + 1, sizeof(*ids));

    if (!ids) {
        return lab_errno("bench", -ENOMEM);
    }
    for (size_t i = 0; i < most; i++) {
        ids[i] = (int32_t)(next(&state) % n_vocab);
    }
    int r = lab_run_open(&run, a, model, &need);
    for (size_t i = 0; r == LAB_OK && i < a->r; i++) {
        r = one_round(a, &run, ids, &res->prompt_rates[i], &res->generate_rates[i]);
    }
    lab_run_close(&run);
    free(ids);
    return r;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *v, size_t n)
{
    qsort(v, n, sizeof(*v), by_value);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static int print(const struct lab_args *a, const struct model *model, struct result *res)
{
    struct model_info info;
    const double prompt = median(res->prompt_rates, (size_t)a->r);
    const double generate = median(res->generate_rates, (size_t)a->r);

    model_info(model, &info);
    const uint64_t peak = lab_peak_bytes();
    if (a->json) {
        return out_json(json_pack(
            "{s:o, s:o, s:s, s:I, s:I, s:I, s:I, s:I, s:s, s:f, s:f, s:f, s:I, s:I}", "model",
            json_bytes(info.name, strlen(info.name)), "formats",
            json_bytes(info.formats, strlen(info.formats)), "cpu", cpu_level_name(a->cpu),
            "threads", (json_int_t)a->threads, "streams", (json_int_t)a->b, "prompt_tokens",
            (json_int_t)a->p, "generate_tokens", (json_int_t)a->n, "repeats", (json_int_t)a->r,
            "kv", kv_type_name(a->kv), "prompt_tokens_per_second", prompt,
            "generate_tokens_per_second", generate, "load_seconds", res->load_s, "peak_bytes",
            (json_int_t)peak, "file_bytes", (json_int_t)info.file_bytes));
    }
    (void)printf("prompt   %llu tokens: %.1f tokens/s\n", (unsigned long long)a->p, prompt);
    (void)printf("generate %llu tokens: %.1f tokens/s\n", (unsigned long long)a->n, generate);
    (void)printf("%llu streams, %llu threads, cpu %s, median of %llu\n", (unsigned long long)a->b,
                 (unsigned long long)a->threads, cpu_level_name(a->cpu), (unsigned long long)a->r);
    (void)printf("load %.3f s, peak %.1f MiB\n", res->load_s, (double)peak / 1048576.0);
    return LAB_OK;
}

int verb_bench(const struct lab_args *a)
{
    struct result res = {.prompt_rates = calloc((size_t)a->r, sizeof(double)),
                         .generate_rates = calloc((size_t)a->r, sizeof(double))};
    struct model *model = NULL;
    int r = res.prompt_rates && res.generate_rates ? LAB_OK : lab_errno("bench", -ENOMEM);

    if (r == LAB_OK) {
        r = lab_model(a->path, &model, &res.load_s);
    }
    if (r == LAB_OK) {
        const uint64_t start = clock_now_ns();
        model_touch(model);
        res.load_s += (double)(clock_now_ns() - start) * 1e-9;
        r = measure(a, model, &res);
    }
    if (r == LAB_OK) {
        r = print(a, model, &res);
    }
    free(res.prompt_rates);
    free(res.generate_rates);
    model_free(model);
    return r;
}
