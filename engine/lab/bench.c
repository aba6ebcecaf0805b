/* bench: prompt and generation speed, load time and peak memory.
 *
 * Tokens are pseudo-random and nothing is sampled: a round feeds each stream its prompt, in steps
 * of --chunk tokens over all streams; then, without that prompt, n single tokens, all streams in
 * one step and a row of logits for each: the largest, as greedy generation wants it, or with --head
 * full all. So both phases are measured apart, as llama-bench does, each from the -d positions on
 * that were not computed. Rates count the tokens of all streams; with several rounds they are the
 * median. --profile also picks a token from each row,
 * greedily, so that what this takes is seen. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/median.h"
#include "engine/lab/lab.h"

enum phase { PHASE_PROMPT, PHASE_GENERATE, PHASES };

struct result {
    double load_s;
    struct lab_profile profiles[PHASES];   /* of all rounds */
    double *prompt_rates, *generate_rates; /* owned: one a round */
};

static uint64_t next(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

/* A run, and what is measured of it now. */
struct bench {
    struct lab_run run;
    struct sampler *sampler;        /* owned; NULL: no profile is wanted */
    struct lab_profile *profile;    /* borrowed; of the phase */
    struct step_profile this_phase; /* of this round */
    size_t n_best;                  /* of an item */
};

static uint64_t phase_begin(struct bench *b, struct lab_profile *profile)
{
    if (b->sampler) {
        b->profile = profile;
        stepper_profile(b->run.stepper, &b->this_phase);
    }
    return clock_now_ns();
}

static void phase_end(struct bench *b, uint64_t start)
{
    if (!b->sampler) {
        return;
    }
    struct step_profile *all = &b->profile->steps;
    for (unsigned i = 0; i < STEP_PARTS; i++) {
        all->ns[i] += b->this_phase.ns[i];
        all->wait_ns[i] += b->this_phase.wait_ns[i];
        all->weights[i] = b->this_phase.weights[i];
        all->macs[i] = b->this_phase.macs[i];
    }
    b->profile->total_ns += clock_now_ns() - start;
}

/* One step, and with a profile what follows one in a generation. */
static int step(struct bench *b, struct step_item *items, size_t n)
{
    static const struct sampler_params greedy = {.top_p = 1, .repeat_penalty = 1};
    struct sampler_choice choice;
    int r = lab_step(&b->run, items, n);

    if (r != LAB_OK || !b->sampler) {
        return r;
    }
    const uint64_t start = clock_now_ns();
    for (size_t i = 0; i < n; i++) {
        b->profile->n_tokens += items[i].n_ids;
        b->profile->n_rows += items[i].n_logits;
        if (items[i].n_logits > 0 &&
            sampler_pick(b->sampler, &greedy, items[i].logits, items[i].ids, items[i].n_ids, 0, 0,
                         &choice) != SAMPLER_OK) {
            lab_error("bench: logits that are not finite");
            return LAB_DATA;
        }
    }
    b->profile->sample_ns += clock_now_ns() - start;
    b->profile->n_steps++;
    return LAB_OK;
}

/* Fills each stream's prompt, one stream after the other's chunk in each step. */
static int prompts(const struct lab_args *a, struct bench *b, const int32_t *ids)
{
    const size_t n_streams = (size_t)a->b, p = (size_t)a->p;
    const size_t chunk = a->chunk / n_streams ? a->chunk / n_streams : 1;
    struct step_item items[LAB_STREAMS_MAX];

    for (size_t at = 0; at < p;) {
        const size_t k = p - at < chunk ? p - at : chunk;
        for (size_t s = 0; s < n_streams; s++) {
            items[s] = (struct step_item){
                .seq = b->run.seqs[s], .ids = ids + at, .n_ids = k, .n_logits = at + k == p};
            items[s].n_best = b->n_best;
        }
        const int r = step(b, items, n_streams);
        if (r != LAB_OK) {
            return r;
        }
        at += k;
    }
    return LAB_OK;
}

static int tokens(const struct lab_args *a, struct bench *b, const int32_t *ids)
{
    struct step_item items[LAB_STREAMS_MAX];

    for (size_t at = 0; at < a->n; at++) {
        for (size_t s = 0; s < a->b; s++) {
            items[s] = (struct step_item){
                .seq = b->run.seqs[s], .ids = ids + at, .n_ids = 1, .n_logits = 1};
            items[s].n_best = b->n_best;
        }
        const int r = step(b, items, (size_t)a->b);
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

/* All streams as they were before anything was computed. */
static void begin_again(const struct lab_args *a, struct bench *b)
{
    for (size_t s = 0; s < b->run.n_seqs; s++) {
        seq_rewind(b->run.seqs[s], (size_t)a->d);
    }
}

static int one_round(const struct lab_args *a, struct bench *b, const int32_t *ids, size_t round,
                     struct result *res)
{
    begin_again(a, b);
    uint64_t start = phase_begin(b, &res->profiles[PHASE_PROMPT]);
    int r = prompts(a, b, ids);
    res->prompt_rates[round] = rate_since(start, a->p * a->b);
    phase_end(b, start);
    begin_again(a, b);
    start = phase_begin(b, &res->profiles[PHASE_GENERATE]);
    if (r == LAB_OK) {
        r = tokens(a, b, ids);
    }
    res->generate_rates[round] = rate_since(start, a->n * a->b);
    phase_end(b, start);
    return r;
}

static int measure(const struct lab_args *a, const struct model *model, struct result *res)
{
    const size_t most = a->p > a->n ? (size_t)a->p : (size_t)a->n;
    const struct lab_need need = {.n_seqs = (size_t)a->b,
                                  .n_ctx = (size_t)a->d + most + 1,
                                  .n_tokens = a->chunk > a->b ? (size_t)a->chunk : (size_t)a->b,
                                  .n_logits = (size_t)a->b};
    const uint32_t n_vocab = vocab_size(model_vocab(model));
    struct bench b = {.n_best = a->head && strcmp(a->head, "full") == 0 ? 0 : 1};
    uint64_t state = 1;
    int32_t *ids = calloc(most + 1, sizeof(*ids));

    if (!ids) {
        return lab_errno("bench", -ENOMEM);
    }
    for (size_t i = 0; i < most; i++) {
        ids[i] = (int32_t)(next(&state) % n_vocab);
    }
    int r = lab_run_open(&b.run, a, model, &need);
    if (r == LAB_OK && a->profile && sampler_new(&b.sampler, n_vocab) < 0) {
        r = lab_errno("bench", -ENOMEM);
    }
    for (size_t s = 0; r == LAB_OK && s < b.run.n_seqs; s++) {
        r = seq_fill(b.run.seqs[s], (size_t)a->d) ? LAB_OK : lab_errno("bench", -ENOMEM);
    }
    for (size_t i = 0; r == LAB_OK && i < a->r; i++) {
        r = one_round(a, &b, ids, i, res);
    }
    sampler_free(b.sampler);
    lab_run_close(&b.run);
    free(ids);
    return r;
}

static json_t *as_json(const struct lab_args *a, const struct model_info *info,
                       const struct model_weights *weights, double prompt, double generate,
                       const struct result *res)
{
    json_t *all = json_pack(
        "{s:o, s:o, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:f, s:f, s:f, s:I, s:I, s:s, s:I}",
        "model", json_bytes(info->name, strlen(info->name)), "formats",
        json_bytes(info->formats, strlen(info->formats)), "cpu", cpu_level_name(a->cpu), "threads",
        (json_int_t)a->threads, "streams", (json_int_t)a->b, "depth", (json_int_t)a->d,
        "prompt_tokens", (json_int_t)a->p, "generate_tokens", (json_int_t)a->n, "repeats",
        (json_int_t)a->r, "kv", kv_type_name(a->kv), "prompt_tokens_per_second", prompt,
        "generate_tokens_per_second", generate, "load_seconds", res->load_s, "peak_bytes",
        (json_int_t)lab_peak_bytes(), "file_bytes", (json_int_t)info->file_bytes, "weights",
        weights_backing_name(weights->backing), "huge_bytes", (json_int_t)weights->huge_bytes);

    if (all && a->profile &&
        json_object_set_new(all, "profile",
                            json_pack("{s:o, s:o}", "prompt",
                                      profile_json(&res->profiles[PHASE_PROMPT]), "generate",
                                      profile_json(&res->profiles[PHASE_GENERATE]))) != 0) {
        json_decref(all);
        return NULL;
    }
    return all;
}

static int print(const struct lab_args *a, const struct model *model, struct result *res)
{
    struct model_info info;
    struct model_weights weights;
    const double prompt = median(res->prompt_rates, (size_t)a->r);
    const double generate = median(res->generate_rates, (size_t)a->r);

    model_info(model, &info);
    model_weights(model, &weights);
    if (a->json) {
        return out_json(as_json(a, &info, &weights, prompt, generate, res));
    }
    (void)printf("prompt   %llu tokens: %.1f tokens/s\n", (unsigned long long)a->p, prompt);
    (void)printf("generate %llu tokens: %.1f tokens/s\n", (unsigned long long)a->n, generate);
    (void)printf("%llu streams, %llu threads, cpu %s, median of %llu\n", (unsigned long long)a->b,
                 (unsigned long long)a->threads, cpu_level_name(a->cpu), (unsigned long long)a->r);
    if (a->d > 0) {
        (void)printf("after %llu positions, kv %s\n", (unsigned long long)a->d,
                     kv_type_name(a->kv));
    }
    (void)printf("load %.3f s, peak %.1f MiB, weights %s (%.0f %% huge pages)\n", res->load_s,
                 (double)lab_peak_bytes() / 1048576.0, weights_backing_name(weights.backing),
                 100.0 * (double)weights.huge_bytes / (double)(weights.bytes ? weights.bytes : 1));
    if (a->profile) {
        profile_print("prompt", &res->profiles[PHASE_PROMPT]);
        profile_print("generate", &res->profiles[PHASE_GENERATE]);
    }
    return LAB_OK;
}

int verb_bench(const struct lab_args *a)
{
    struct result res = {.prompt_rates = calloc((size_t)a->r, sizeof(double)),
                         .generate_rates = calloc((size_t)a->r, sizeof(double))};
    struct model *model = NULL;
    int r = res.prompt_rates && res.generate_rates ? LAB_OK : lab_errno("bench", -ENOMEM);

    if (r == LAB_OK) {
        r = lab_check_head(a);
    }
    if (r == LAB_OK) {
        r = lab_model_to_run(a, &model, &res.load_s);
    }
    if (r == LAB_OK) {
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
