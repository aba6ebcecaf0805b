/* What `sensitivity` says: a table for people, JSON for programs, a plan for `quantize`. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "engine/lab/plan.h"
#include "engine/lab/sensitivity.h"

static const char *const thirds[] = {"", ", first third", ", second third", ", last third"};

static double base_loss(const struct sens *s)
{
    return s->base.sum / (double)s->base.n;
}

/* Losses of the chosen formats, as if they added up. */
static double predicted(const struct sens *s)
{
    double loss = base_loss(s);

    for (size_t g = 0; g < s->n_groups; g++) {
        loss += s->groups[g].choices[s->groups[g].chosen].delta;
    }
    return loss;
}

static const char *chosen_format(const struct sens_group *g)
{
    const char *format = g->choices[g->chosen].format;

    return format ? format : "keep";
}

/* ---- JSON ---- */

static json_t *group_json(const struct sens *s, const struct sens_group *g)
{
    json_t *formats = json_object();

    for (size_t f = 0; formats && f < s->n_formats; f++) {
        const struct sens_choice *c = &g->choices[1 + f];
        (void)json_object_set_new(
            formats, c->format,
            c->usable ? json_pack("{s:I, s:f}", "bytes", (json_int_t)c->bytes, "delta", c->delta)
                      : json_null());
    }
    json_t *group = json_pack("{s:s, s:i, s:I, s:I, s:o}", "name", g->name, "third", (int)g->third,
                              "weights", (json_int_t)g->weights, "bytes",
                              (json_int_t)g->choices[0].bytes, "formats", formats);
    if (group && s->args->bytes > 0) {
        (void)json_object_set_new(group, "chosen", json_string(chosen_format(g)));
    }
    return group;
}

static int print_json(const struct sens *s)
{
    json_t *groups = json_array();

    for (size_t g = 0; groups && g < s->n_groups; g++) {
        (void)json_array_append_new(groups, group_json(s, &s->groups[g]));
    }
    json_t *all =
        json_pack("{s:f, s:I, s:I, s:o}", "loss", base_loss(s), "tokens", (json_int_t)s->base.n,
                  "fixed_bytes", (json_int_t)s->fixed, "groups", groups);
    if (all && s->args->bytes > 0) {
        (void)json_object_update_new(all, json_pack("{s:I, s:I, s:f, s:f}", "budget",
                                                    (json_int_t)s->args->bytes, "bytes",
                                                    (json_int_t)sens_bytes(s), "predicted_loss",
                                                    predicted(s), "measured_loss", s->planned));
    }
    return out_json(all);
}

/* ---- table ---- */

static void print_group(const struct sens *s, const struct sens_group *g)
{
    char name[SENS_NAME_MAX + 32];

    (void)snprintf(name, sizeof(name), "%s%s", g->name, thirds[g->third]);
    (void)printf("%-28s %12llu", name, (unsigned long long)g->choices[0].bytes);
    for (size_t f = 0; f < s->n_formats; f++) {
        if (g->choices[1 + f].usable) {
            (void)printf(" %+10.4f", g->choices[1 + f].delta);
        } else {
            (void)printf(" %10s", "-");
        }
    }
    if (s->args->bytes > 0) {
        (void)printf("  %s", chosen_format(g));
    }
    (void)printf("\n");
}

int sens_print(const struct sens *s)
{
    if (s->args->json) {
        return print_json(s);
    }
    (void)printf(
        "loss %.4f nats per token over %zu tokens; what it grows by with one part alone in a "
        "format:\n%-28s %12s",
        base_loss(s), s->base.n, "part", "bytes");
    for (size_t f = 0; f < s->n_formats; f++) {
        (void)printf(" %10s", s->formats[f]);
    }
    (void)printf(s->args->bytes > 0 ? "  chosen\n" : "\n");
    for (size_t g = 0; g < s->n_groups; g++) {
        print_group(s, &s->groups[g]);
    }
    if (s->args->bytes > 0) {
        (void)printf("%llu bytes of weights, %llu allowed; loss %.4f (%.4f if losses added up)\n",
                     (unsigned long long)sens_bytes(s), (unsigned long long)s->args->bytes,
                     s->planned, predicted(s));
    }
    return LAB_OK;
}

/* ---- plan ---- */

/* Its tensors by one pattern, or by name where the pattern would match other thirds too. */
static void plan_group(const struct sens *s, size_t g, FILE *f)
{
    const struct sens_group *group = &s->groups[g];

    if (plan_is_head(group->name)) {
        (void)fprintf(f, "%s %s\n", group->name, chosen_format(group));
    } else if (group->third == 0) {
        (void)fprintf(f, "blk.*.%s.weight %s\n", group->name, chosen_format(group));
    } else {
        for (size_t i = 0; i < requant_count(s->q); i++) {
            struct requant_tensor t;
            requant_tensor(s->q, i, &t);
            if (s->group_of[i] == g) {
                (void)fprintf(f, "%s %s\n", t.name, chosen_format(group));
            }
        }
    }
}

/* A pattern must not reach tensors that were quantized before. */
static void plan_kept(const struct sens *s, FILE *f)
{
    for (size_t i = 0; i < requant_count(s->q); i++) {
        struct requant_tensor t;
        requant_tensor(s->q, i, &t);
        if (t.matrix && !t.floats && strpbrk(t.name, " \t\r\n#") == NULL) {
            (void)fprintf(f, "%s keep\n", t.name);
        }
    }
}

int sens_write_plan(const struct sens *s, const char *path)
{
    int fd = -1;
    int r = outfile_begin(path, &fd);

    if (r != LAB_OK) {
        return r;
    }
    const int own = dup(fd);
    FILE *f = own < 0 ? NULL : fdopen(own, "w");
    if (!f) {
        r = lab_errno(path, -errno);
        if (own >= 0) {
            (void)close(own);
        }
        outfile_abort();
        return r;
    }
    (void)fprintf(f,
                  "# for %llu bytes of weights, by onebit-lab sensitivity: takes %llu\n"
                  "# loss %.6f nats per token over %zu tokens, as it was %.6f\n",
                  (unsigned long long)s->args->bytes, (unsigned long long)sens_bytes(s), s->planned,
                  s->base.n, base_loss(s));
    plan_kept(s, f);
    for (size_t g = 0; g < s->n_groups; g++) {
        plan_group(s, g, f);
    }
    const bool bad = ferror(f) != 0;
    if (fclose(f) != 0 || bad) {
        r = lab_errno(path, errno != 0 ? -errno : -EIO);
        outfile_abort();
        return r;
    }
    return outfile_commit(path);
}
