/* logits: run tokens and write what the model thinks comes next. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/lab/lab.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "rows are written as they lie in memory"
#endif

/* Where rows go as they come: bytes, JSON, or both. */
struct sink {
    FILE *raw;    /* NULL: no bytes wanted */
    json_t *rows; /* NULL: no JSON wanted */
    size_t n_vocab, n_rows;
};

static int sink_row(struct sink *s, const float *row)
{
    s->n_rows++;
    if (s->raw && fwrite(row, sizeof(*row), s->n_vocab, s->raw) != s->n_vocab) {
        lab_error("logits: cannot write: %s", strerror(errno));
        return LAB_IO;
    }
    if (!s->rows) {
        return LAB_OK;
    }
    json_t *array = json_array();
    int bad = array ? 0 : -1;
    for (size_t i = 0; bad == 0 && i < s->n_vocab; i++) {
        /* JSON has no word for what is not finite. */
        bad = json_array_append_new(array, isfinite(row[i]) ? json_real(row[i]) : json_null());
    }
    if (bad != 0) {
        json_decref(array);
        return lab_errno("logits", -ENOMEM);
    }
    return json_array_append_new(s->rows, array) == 0 ? LAB_OK : lab_errno("logits", -ENOMEM);
}

static int run_all(struct lab_run *run, const struct lab_args *a, const int32_t *ids, size_t n,
                   struct sink *sink)
{
    for (size_t at = 0; at < n;) {
        const size_t k = n - at < a->chunk ? n - at : (size_t)a->chunk;
        const bool last = at + k == n;
        struct step_item item = {
            .seq = run->seqs[0], .ids = ids + at, .n_ids = k, .n_logits = a->all ? k : last};
        int r = lab_step(run, &item, 1);
        for (size_t i = 0; r == LAB_OK && i < item.n_logits; i++) {
            r = sink_row(sink, item.logits + i * sink->n_vocab);
        }
        if (r != LAB_OK) {
            return r;
        }
        at += k;
    }
    return LAB_OK;
}

static int run(const struct lab_args *a, const struct model *model, struct sink *sink)
{
    struct lab_run engine = {0};
    int32_t *ids = NULL;
    size_t n = 0;
    int r = args_ids(a->ids, (uint32_t)sink->n_vocab, &ids, &n);

    if (r == LAB_OK) {
        const size_t chunk = n < a->chunk ? n : (size_t)a->chunk;
        const struct lab_need need = {
            .n_seqs = 1, .n_ctx = n, .n_tokens = chunk, .n_logits = a->all ? chunk : 1};
        r = lab_run_open(&engine, a, model, &need);
    }
    if (r == LAB_OK) {
        r = run_all(&engine, a, ids, n, sink);
    }
    lab_run_close(&engine);
    free(ids);
    return r;
}

static int finish(const struct lab_args *a, struct sink *sink, int r)
{
    if (a->out && sink->raw && fclose(sink->raw) != 0 && r == LAB_OK) {
        lab_error("%s: %s", a->out, strerror(errno));
        r = LAB_IO;
    }
    if (r == LAB_OK && sink->rows) {
        json_t *o = json_pack("{s:I, s:I, s:O}", "n_vocab", (json_int_t)sink->n_vocab, "n_rows",
                              (json_int_t)sink->n_rows, "logits", sink->rows);
        r = out_json(o);
    }
    json_decref(sink->rows);
    return r;
}

int verb_logits(const struct lab_args *a)
{
    struct model *model = NULL;
    struct model_info info;
    struct sink sink = {0};

    if (!a->ids) {
        lab_error("--ids is missing");
        return LAB_USAGE;
    }
    if (!a->out && !a->json && out_is_terminal()) {
        lab_error("raw numbers do not go to a terminal: --out FILE or --json");
        return LAB_USAGE;
    }
    int r = lab_model_to_run(a, &model, NULL);
    if (r != LAB_OK) {
        return r;
    }
    model_info(model, &info);
    sink.n_vocab = info.n_vocab;
    sink.raw = a->out ? fopen(a->out, "wbe") : a->json ? NULL : stdout;
    if (a->out && !sink.raw) {
        lab_error("%s: %s", a->out, strerror(errno));
        r = LAB_CANTCREATE;
    }
    if (r == LAB_OK && a->json) {
        sink.rows = json_array();
        r = sink.rows ? LAB_OK : lab_errno("logits", -ENOMEM);
    }
    if (r == LAB_OK) {
        r = run(a, model, &sink);
    }
    r = finish(a, &sink, r);
    model_free(model);
    return r;
}
