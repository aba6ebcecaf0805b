/* quantize: a model's matrices in smaller formats, everything else as it was.
 *
 * The encoders are those that the formats' own tools use (engine/NUMERICS.md, "Encoding"): they
 * look at a block at a time, know nothing of the model, and lose what the format cannot hold. The
 * methods beyond that (engine/requant.h) choose codes and scales for less error, most of them by a
 * text that runs through the model meanwhile. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/lab/lab.h"
#include "engine/lab/plan.h"

static void show(void *arg, const char *name, uint64_t done, uint64_t total)
{
    progress_show(arg, name, done, total);
}

/* ---- what was done ---- */

/* All tensors that came out in one format. */
struct group {
    const char *format;
    size_t n;
    uint64_t bytes, encoded; /* encoded: weights of those that had another format */
    double error, rounding;  /* sums of their errors' squares, by weights */
    uint64_t known;          /* weights of those whose outputs' errors are known */
    double output, rounding_output;
};

struct summary {
    struct group groups[32]; /* more than there are formats */
    size_t n_groups;
    uint64_t bytes_in, bytes_out, weights;
};

static struct group *group_of(struct summary *s, const char *format)
{
    size_t i = 0;

    while (i < s->n_groups && strcmp(s->groups[i].format, format) != 0) {
        i++;
    }
    assert(i < ARRAY_SIZE(s->groups));
    s->n_groups = i < s->n_groups ? s->n_groups : i + 1;
    s->groups[i].format = format;
    return &s->groups[i];
}

static void summarize(const struct requant *q, struct summary *ret)
{
    *ret = (struct summary){0};
    for (size_t i = 0; i < requant_count(q); i++) {
        struct requant_tensor t;
        requant_tensor(q, i, &t);
        struct group *g = group_of(ret, t.chosen);
        const uint64_t weights = t.n_cols * t.n_rows;
        ret->bytes_in += t.bytes;
        ret->bytes_out += t.chosen_bytes;
        ret->weights += weights;
        g->n++;
        g->bytes += t.chosen_bytes;
        if (strcmp(t.chosen, t.format) != 0) {
            g->encoded += weights;
            g->error += t.error * t.error * (double)weights;
            g->rounding += t.rounding_error * t.rounding_error * (double)weights;
        }
        if (t.output_error >= 0) {
            g->known += weights;
            g->output += t.output_error * t.output_error * (double)weights;
            g->rounding_output +=
                t.rounding_output_error * t.rounding_output_error * (double)weights;
        }
    }
}

/* null for what nobody knows */
static json_t *error_json(double error)
{
    return error >= 0 ? json_real(error) : json_null();
}

static json_t *tensors_json(const struct requant *q)
{
    json_t *list = json_array();

    for (size_t i = 0; list && i < requant_count(q); i++) {
        struct requant_tensor t;
        requant_tensor(q, i, &t);
        (void)json_array_append_new(
            list,
            json_pack("{s:o, s:s, s:s, s:I, s:I, s:f, s:o, s:o, s:o}", "name",
                      json_bytes(t.name, strlen(t.name)), "from", t.format, "format", t.chosen,
                      "weights", (json_int_t)(t.n_cols * t.n_rows), "bytes",
                      (json_int_t)t.chosen_bytes, "error", t.error, "rounding_error",
                      error_json(t.rounding_error), "output_error", error_json(t.output_error),
                      "rounding_output_error", error_json(t.rounding_output_error)));
    }
    return list;
}

static double bits_per_weight(const struct summary *s)
{
    return s->weights > 0 ? 8.0 * (double)s->bytes_out / (double)s->weights : 0;
}

static double mean(double sum, uint64_t n)
{
    return sqrt(sum / (double)n);
}

/* @method: NULL for rounding, whose errors stand alone */
static void print_group(const struct group *g, const char *method)
{
    (void)printf("%-10s %7zu %12llu", g->format, g->n, (unsigned long long)g->bytes);
    if (g->encoded == 0) {
        (void)printf("  as it was\n");
        return;
    }
    (void)printf("  %.4f", mean(g->error, g->encoded));
    if (method) {
        (void)printf("    %.4f", mean(g->rounding, g->encoded));
    }
    if (g->known > 0) {
        (void)printf("   %.4f    %.4f", mean(g->output, g->known),
                     mean(g->rounding_output, g->known));
    }
    (void)printf("\n");
}

static int print(const struct lab_args *a, const struct requant *q, enum requant_method method)
{
    const char *name = requant_method_name(method);
    struct summary s;

    summarize(q, &s);
    if (a->json) {
        return out_json(json_pack("{s:s, s:I, s:I, s:I, s:f, s:o}", "method", name, "bytes_before",
                                  (json_int_t)s.bytes_in, "bytes", (json_int_t)s.bytes_out,
                                  "weights", (json_int_t)s.weights, "bits_per_weight",
                                  bits_per_weight(&s), "tensors", tensors_json(q)));
    }
    (void)printf("format     tensors        bytes  error%s%s\n",
                 method == REQUANT_ROUNDING ? "" : "  rounding",
                 a->calibrate ? "  outputs  rounding" : "");
    for (size_t i = 0; i < s.n_groups; i++) {
        print_group(&s.groups[i], method == REQUANT_ROUNDING ? NULL : name);
    }
    (void)printf("all        %7zu %12llu  of %llu, %.3f bits per weight\n", requant_count(q),
                 (unsigned long long)s.bytes_out, (unsigned long long)s.bytes_in,
                 bits_per_weight(&s));
    return LAB_OK;
}

/* ---- doing it ---- */

static int write_file(const struct lab_args *a, struct requant *q)
{
    struct progress bar = {0};
    struct diag diag = {0};
    int fd = -1;
    int r = outfile_begin(a->out, &fd);

    if (r != LAB_OK) {
        return r;
    }
    const int outcome = requant_write(q, fd, show, &bar, &diag);
    progress_end(&bar);
    if (outcome == MODEL_OK) {
        return outfile_commit(a->out);
    }
    outfile_abort();
    return lab_outcome(outcome < 0 ? a->out : a->path, outcome, &diag);
}

/* ---- methods ---- */

/* What the command line asks for. */
struct wish {
    enum requant_method method;
    const char *format, *head;
};

/* The tokens to calibrate with: whole windows, each beginning with BOS where the vocabulary adds
 * one, as `perplexity` reads a text. */
static int read_tokens(const struct lab_args *a, const struct vocab *vocab, int32_t **ret,
                       size_t *ret_n)
{
    const size_t ctx = (size_t)a->ctx;
    struct lab_args text = *a;

    text.text = a->calibrate;
    const int r = lab_text(&text, vocab, ret, ret_n);
    if (r != LAB_OK) {
        return r;
    }
    *ret_n = *ret_n > a->tokens ? (size_t)a->tokens : *ret_n;
    if (*ret_n < ctx) {
        lab_error("%s: %zu tokens, one window wants %zu", a->calibrate, *ret_n, ctx);
        return LAB_DATA;
    }
    for (size_t at = 0; vocab_adds_bos(vocab) && vocab_bos(vocab) >= 0 && at < *ret_n; at += ctx) {
        (*ret)[at] = vocab_bos(vocab);
    }
    return LAB_OK;
}

static int fit_to_text(const struct lab_args *a, struct requant *q, enum requant_method method)
{
    const struct engine_options options = {.cpu = a->cpu, .n_threads = (unsigned)a->threads};
    struct requant_text text = {.kv = a->kv, .ctx = (size_t)a->ctx};
    struct progress bar = {0};
    struct diag diag = {0};
    struct model *model = NULL;
    struct model_info info;
    int32_t *ids = NULL;

    int r = lab_model(a->path, &model, NULL);
    if (r == LAB_OK) {
        model_info(model, &info);
        if (a->ctx > info.n_ctx_train) {
            lab_error("--ctx: the model has %u positions", info.n_ctx_train);
            r = LAB_USAGE;
        }
    }
    if (r == LAB_OK) {
        r = read_tokens(a, model_vocab(model), &ids, &text.n_ids);
    }
    if (r == LAB_OK) {
        const int made = engine_new(&text.engine, &options);
        r = made == 0 ? LAB_OK : lab_errno("engine", made);
    }
    if (r == LAB_OK) {
        text.model = model;
        text.ids = ids;
        const int outcome = requant_fit(q, method, &text, show, &bar, &diag);
        progress_end(&bar);
        r = lab_outcome(a->path, outcome, &diag);
    }
    engine_free(text.engine);
    free(ids);
    model_free(model);
    return r;
}

static int fit(const struct lab_args *a, struct requant *q, enum requant_method method)
{
    struct diag diag = {0};

    if (a->calibrate) {
        return fit_to_text(a, q, method);
    }
    return lab_outcome(a->path, requant_fit(q, method, NULL, NULL, NULL, &diag), &diag);
}

static int quantize(const struct lab_args *a, int fd, struct plan *plan, const struct wish *wish)
{
    struct requant *q = NULL;
    struct diag diag = {0};

    int r = outfile_not_input(a->out, fd);
    if (r == LAB_OK) {
        r = lab_outcome(a->path, requant_open(&q, fd, &diag), &diag);
    }
    if (r == LAB_OK) {
        r = plan_choose(plan, q, wish->format, wish->head);
    }
    if (r == LAB_OK) {
        r = fit(a, q, wish->method);
    }
    if (r == LAB_OK) {
        r = write_file(a, q);
    }
    if (r == LAB_OK) {
        r = print(a, q, wish->method);
    }
    requant_free(q);
    return r;
}

/* The formats that a method is for: the first of them unless another is asked for. */
static int wish_format(const struct lab_args *a, struct wish *w)
{
    const char *own = w->method == REQUANT_GPTQ ? "Q4_0" : w->method == REQUANT_AWQ ? "Q8_0" : NULL;

    if (a->format && !(w->format = plan_format("--format", a->format))) {
        return LAB_USAGE;
    }
    if (a->head && !(w->head = plan_format("--head", a->head))) {
        return LAB_USAGE;
    }
    if (!a->format && !a->plan && !own) {
        lab_error("--format or --plan is needed");
        return LAB_USAGE;
    }
    if (!a->format && !a->plan) {
        w->format = own;
    }
    if (w->format && w->method == REQUANT_GPTQ && strcmp(w->format, own) != 0) {
        lab_error("--method: gptq is for Q4_0; propagate is for all");
        return LAB_USAGE;
    }
    if (w->format && w->method == REQUANT_AWQ && strcmp(w->format, own) != 0 &&
        strcmp(w->format, "Q4_0") != 0) {
        lab_error("--method: awq is for Q8_0 and Q4_0");
        return LAB_USAGE;
    }
    return LAB_OK;
}

static int read_wish(const struct lab_args *a, struct wish *ret)
{
    *ret = (struct wish){.method = REQUANT_ROUNDING};
    if (a->method && !requant_method_parse(a->method, &ret->method)) {
        lab_error("--method: %s is none of rounding, refine, propagate, gptq, awq", a->method);
        return LAB_USAGE;
    }
    if (!a->calibrate && ret->method > REQUANT_REFINE) {
        lab_error("--method %s wants a text: --calibrate", a->method);
        return LAB_USAGE;
    }
    if (a->calibrate && ret->method == REQUANT_ROUNDING) {
        lab_error("--calibrate: rounding looks at no text; there is --method");
        return LAB_USAGE;
    }
    return wish_format(a, ret);
}

int verb_quantize(const struct lab_args *a)
{
    struct plan plan = {0};
    struct wish wish;
    int fd = -1;

    if (!a->out) {
        lab_error("OUT.gguf is missing");
        return LAB_USAGE;
    }
    int r = read_wish(a, &wish);
    if (r == LAB_OK) {
        r = outfile_check(a->out);
    }
    if (r == LAB_OK) {
        r = lab_open(a->path, &fd);
    }
    if (r != LAB_OK) {
        return r;
    }
    if (a->plan) {
        r = plan_read(a->plan, &plan);
    }
    if (r == LAB_OK) {
        r = quantize(a, fd, &plan, &wish);
    }
    plan_deinit(&plan);
    (void)close(fd);
    return r;
}
