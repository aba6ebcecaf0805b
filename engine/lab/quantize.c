/* quantize: a model's matrices in smaller formats, everything else as it was.
 *
 * The encoders are those that the formats' own tools use (engine/NUMERICS.md, "Encoding"): they
 * look at a block at a time, know nothing of the model, and lose what the format cannot hold. */
#include <assert.h>
#include <math.h>
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
    double error;            /* sum of their errors' squares, by weights */
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
        }
    }
}

static json_t *tensors_json(const struct requant *q)
{
    json_t *list = json_array();

    for (size_t i = 0; list && i < requant_count(q); i++) {
        struct requant_tensor t;
        requant_tensor(q, i, &t);
        (void)json_array_append_new(list, json_pack("{s:o, s:s, s:s, s:I, s:I, s:f}", "name",
                                                    json_bytes(t.name, strlen(t.name)), "from",
                                                    t.format, "format", t.chosen, "weights",
                                                    (json_int_t)(t.n_cols * t.n_rows), "bytes",
                                                    (json_int_t)t.chosen_bytes, "error", t.error));
    }
    return list;
}

static double bits_per_weight(const struct summary *s)
{
    return s->weights > 0 ? 8.0 * (double)s->bytes_out / (double)s->weights : 0;
}

static int print(const struct lab_args *a, const struct requant *q)
{
    struct summary s;

    summarize(q, &s);
    if (a->json) {
        return out_json(json_pack("{s:I, s:I, s:I, s:f, s:o}", "bytes_before",
                                  (json_int_t)s.bytes_in, "bytes", (json_int_t)s.bytes_out,
                                  "weights", (json_int_t)s.weights, "bits_per_weight",
                                  bits_per_weight(&s), "tensors", tensors_json(q)));
    }
    (void)printf("format     tensors        bytes  error\n");
    for (size_t i = 0; i < s.n_groups; i++) {
        const struct group *g = &s.groups[i];
        (void)printf("%-10s %7zu %12llu", g->format, g->n, (unsigned long long)g->bytes);
        if (g->encoded > 0) {
            (void)printf("  %.4f\n", sqrt(g->error / (double)g->encoded));
        } else {
            (void)printf("  as it was\n");
        }
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
        return outfile_commit(a->out, fd);
    }
    outfile_abort(fd);
    return lab_outcome(outcome < 0 ? a->out : a->path, outcome, &diag);
}

static int quantize(const struct lab_args *a, int fd, struct plan *plan, const char *format,
                    const char *head)
{
    struct requant *q = NULL;
    struct diag diag = {0};

    int r = outfile_not_input(a->out, fd);
    if (r == LAB_OK) {
        r = lab_outcome(a->path, requant_open(&q, fd, &diag), &diag);
    }
    if (r == LAB_OK) {
        r = plan_choose(plan, q, format, head);
    }
    if (r == LAB_OK) {
        r = write_file(a, q);
    }
    if (r == LAB_OK) {
        r = print(a, q);
    }
    requant_free(q);
    return r;
}

int verb_quantize(const struct lab_args *a)
{
    const char *format = NULL, *head = NULL;
    struct plan plan = {0};
    int fd = -1;

    if (!a->out) {
        lab_error("OUT.gguf is missing");
        return LAB_USAGE;
    }
    if (!a->format && !a->plan) {
        lab_error("--format or --plan is needed");
        return LAB_USAGE;
    }
    if ((a->format && !(format = plan_format("--format", a->format))) ||
        (a->head && !(head = plan_format("--head", a->head)))) {
        return LAB_USAGE;
    }
    int r = outfile_check(a->out);
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
        r = quantize(a, fd, &plan, format, head);
    }
    plan_deinit(&plan);
    (void)close(fd);
    return r;
}
