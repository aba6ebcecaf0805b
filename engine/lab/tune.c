/* tune: the measurement that the daemon makes at a model's first load, made longer and printed.
 *
 * For a packed file the result is written beside it, where the daemon looks at the next load. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/lab/lab.h"

#define NS_PER_MS UINT64_C(1000000)

/* NAME.pack -> NAME.tune, anything else gets .tune behind it; NULL: no memory. The caller frees. */
static char *kept_path(const char *path)
{
    const size_t n = strlen(path);
    const size_t stem = n > 5 && strcmp(path + n - 5, ".pack") == 0 ? n - 5 : n;
    char *ret = malloc(stem + sizeof(".tune"));

    if (ret) {
        memcpy(ret, path, stem);
        memcpy(ret + stem, ".tune", sizeof(".tune"));
    }
    return ret;
}

static int keep(const char *path, const struct engine *engine, const struct tuning *t)
{
    uint8_t bytes[TUNING_BYTES];
    int fd = -1;
    const int r = outfile_begin(path, &fd);

    if (r != LAB_OK) {
        return r;
    }
    tuning_write(t, engine, bytes);
    if (write(fd, bytes, sizeof(bytes)) != (ssize_t)sizeof(bytes)) {
        lab_error("%s: %s", path, strerror(errno));
        outfile_abort();
        return LAB_IO;
    }
    return outfile_commit(path);
}

static json_t *as_json(const struct lab_args *a, const struct tune_table *t,
                       const struct tuning *chosen, const char *path)
{
    json_t *counts = json_array(), *sizes = json_array();
    bool whole = counts && sizes;

    for (size_t i = 0; whole && i < t->n_counts; i++) {
        whole =
            json_array_append_new(counts, json_pack("{s:i, s:f, s:f}", "threads", (int)t->counts[i],
                                                    "generate_us", t->one_ns[i] * 1e-3, "prompt_us",
                                                    t->many_ns[i] * 1e-3)) == 0;
    }
    for (size_t i = 0; whole && i < TUNE_SIZES; i++) {
        whole = json_array_append_new(sizes, json_pack("{s:i, s:f}", "tokens", (int)tune_sizes[i],
                                                       "layers_us", t->size_ns[i] * 1e-3)) == 0;
    }
    json_t *all = whole
                      ? json_pack("{s:s, s:I, s:i, s:i, s:i, s:b, s:i, s:f, s:O, s:O, s:s?}", "cpu",
                                  cpu_level_name(a->cpu), "threads", (json_int_t)a->threads,
                                  "generate_threads", (int)chosen->n_generate, "prompt_threads",
                                  (int)chosen->n_prompt, "streams", (int)chosen->n_streams,
                                  "disturbed", (int)chosen->disturbed, "rounds", (int)t->n_rounds,
                                  "seconds", (double)t->spent_ns * 1e-9, "by_threads", counts,
                                  "by_tokens", sizes, "kept", path)
                      : NULL;
    json_decref(counts);
    json_decref(sizes);
    return all;
}

static void cell(double ns)
{
    if (ns > 0) {
        (void)printf(" %14.1f", ns * 1e-3);
    } else {
        (void)printf(" %14s", "-");
    }
}

static int print(const struct lab_args *a, const struct tune_table *t, const struct tuning *chosen,
                 const char *path)
{
    if (a->json) {
        return out_json(as_json(a, t, chosen, path));
    }
    (void)printf(
        "threads    generate, us  prompt of %u, us    (the layers of a step; median of %zu "
        "rounds)\n",
        TUNE_MANY, t->n_rounds);
    for (size_t i = 0; i < t->n_counts; i++) {
        (void)printf("%7u ", t->counts[i]);
        cell(t->one_ns[i]);
        cell(t->many_ns[i]);
        (void)printf("%s\n", i == 0 ? "    the default" : "");
    }
    (void)printf("\n tokens      layers, us    tokens/s\n");
    for (size_t i = 0; i < TUNE_SIZES; i++) {
        (void)printf("%7u ", tune_sizes[i]);
        cell(t->size_ns[i]);
        if (t->size_ns[i] > 0) {
            (void)printf(" %11.1f", tune_sizes[i] * 1e9 / t->size_ns[i]);
        }
        (void)putchar('\n');
    }
    (void)printf("\ngenerate with %u threads, prompts with %u", chosen->n_generate,
                 chosen->n_prompt);
    if (chosen->n_streams > 0) {
        (void)printf("; %u streams reach nine tenths of the best rate", chosen->n_streams);
    }
    if (chosen->disturbed) {
        (void)printf("\nother processes used these processors meanwhile: the default is kept");
    }
    (void)printf("\ncpu %s, measured for %.2f s%s%s\n", cpu_level_name(a->cpu),
                 (double)t->spent_ns * 1e-9, path ? ", kept in " : "", path ? path : "");
    return LAB_OK;
}

static int measure(const struct lab_args *a, const struct model *model, const char *path)
{
    const struct lab_need need = {.n_seqs = 1,
                                  .n_ctx = KV_BLOCK,
                                  .n_tokens = tune_sizes[TUNE_SIZES - 1],
                                  .n_logits = 1,
                                  .n_threads_most = engine_threads_most()};
    struct lab_run run = {0};
    struct tuner *tuner = NULL;
    struct tune_table table;
    struct tuning chosen;
    int r = lab_run_open(&run, a, model, &need);

    if (r == LAB_OK) {
        const int e = tuner_new(&tuner, run.stepper, run.pool, a->ms * NS_PER_MS);
        r = e < 0 ? lab_errno("tune", e) : LAB_OK;
    }
    if (r == LAB_OK) {
        while (tuner_slice(tuner)) {
        }
        tuner_table(tuner, &table);
        if (!tuner_result(tuner, &chosen)) {
            lab_error("%s: %llu ms were not enough for five rounds, so nothing is chosen: give "
                      "more with --ms",
                      a->path, (unsigned long long)a->ms);
            r = LAB_DATA;
        }
    }
    if (r == LAB_OK && path) {
        r = keep(path, run.engine, &chosen);
    }
    if (r == LAB_OK) {
        r = print(a, &table, &chosen, path);
    }
    tuner_free(tuner);
    lab_run_close(&run);
    return r;
}

/* Where the result goes; *ret is NULL for a file that is no packed one. */
static int place(const struct lab_args *a, char **ret)
{
    int fd = -1;
    const int r = lab_open(a->path, &fd);

    if (r != LAB_OK) {
        return r;
    }
    const bool packed = model_is_packed(fd);
    (void)close(fd);
    if (!packed) {
        return LAB_OK;
    }
    *ret = kept_path(a->path);
    return *ret ? outfile_check(*ret) : lab_errno("tune", -ENOMEM);
}

int verb_tune(const struct lab_args *a)
{
    struct model *model = NULL;
    char *path = NULL;
    int r = place(a, &path);

    if (r == LAB_OK) {
        r = lab_model_to_run(a, &model, NULL);
    }
    if (r == LAB_OK) {
        r = measure(a, model, path);
    }
    free(path);
    model_free(model);
    return r;
}
