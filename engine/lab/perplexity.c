/* perplexity: how well a model predicts a text.
 *
 * The text is tokenized whole, with BOS as the file says, and cut into windows of `ctx` tokens that
 * do not overlap; what is left at the end is dropped. Each window runs alone, its first token
 * replaced by BOS where the vocabulary adds one. Only the second half is scored: the rows at
 * positions ctx/2 to ctx-2, each against the token that follows it, ctx - ctx/2 - 1 in all. The
 * perplexity is exp(mean of -ln p), so the first half serves as context and every scored token has
 * at least ctx/2 tokens before it. llama.cpp's perplexity tool computes the same.
 *
 * Per byte: the same sum over the bytes that the scored tokens stand for, which two models with
 * different tokenizers may be compared by. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "engine/lab/lab.h"

/* -ln of the probability of `id`; false when a logit is not finite */
static bool surprise(const float *row, size_t n, int32_t id, double *ret)
{
    float top = row[0];
    double sum = 0;

    for (size_t i = 0; i < n; i++) {
        if (!isfinite(row[i])) {
            return false;
        }
        top = row[i] > top ? row[i] : top;
    }
    for (size_t i = 0; i < n; i++) {
        sum += exp((double)row[i] - (double)top);
    }
    *ret = log(sum) - ((double)row[id] - (double)top);
    return true;
}

static int score_rows(const struct model *model, const float *rows, size_t n_rows,
                      const int32_t *next, struct lab_score *score)
{
    const struct vocab *vocab = model_vocab(model);
    const size_t n_vocab = vocab_size(vocab);
    char piece[TEXT_PIECE_MAX];

    for (size_t i = 0; i < n_rows; i++) {
        double s;
        if (!surprise(rows + i * n_vocab, n_vocab, next[i], &s)) {
            lab_error("logits that are not finite");
            return LAB_DATA;
        }
        score->sum += s;
        score->sum2 += s * s;
        score->n++;
        score->bytes += vocab_piece(vocab, next[i], true, piece);
    }
    return LAB_OK;
}

/* @ids: one window, ctx tokens */
static int score_window(const struct lab_args *a, const struct model *model, struct lab_run *run,
                        const int32_t *ids, struct lab_score *score)
{
    const size_t ctx = (size_t)a->ctx, first = ctx / 2;

    seq_rewind(run->seqs[0], 0);
    /* The last token is only predicted, never read. */
    for (size_t at = 0; at < ctx - 1;) {
        const size_t border = at < first ? first : ctx - 1;
        const size_t k = border - at < a->chunk ? border - at : (size_t)a->chunk;
        struct step_item item = {
            .seq = run->seqs[0], .ids = ids + at, .n_ids = k, .n_logits = at < first ? 0 : k};
        int r = lab_step(run, &item, 1);
        if (r == LAB_OK) {
            r = score_rows(model, item.logits, item.n_logits, ids + at + 1, score);
        }
        if (r != LAB_OK) {
            return r;
        }
        at += k;
    }
    score->n_windows++;
    return LAB_OK;
}

int lab_score(const struct lab_args *a, const struct model *model, int32_t *ids, size_t n,
              struct lab_score *score)
{
    const size_t ctx = (size_t)a->ctx;
    const struct vocab *vocab = model_vocab(model);
    const int32_t bos = vocab_adds_bos(vocab) ? vocab_bos(vocab) : -1;
    const struct lab_need need = {
        .n_seqs = 1, .n_ctx = ctx, .n_tokens = (size_t)a->chunk, .n_logits = (size_t)a->chunk};
    struct lab_run run = {0};

    if (n < ctx) {
        lab_error("%s: %zu tokens, one window wants %zu", a->text, n, ctx);
        return LAB_DATA;
    }
    int r = lab_run_open(&run, a, model, &need);
    for (size_t at = 0; r == LAB_OK && at + ctx <= n; at += ctx) {
        if (bos >= 0) {
            ids[at] = bos;
        }
        r = score_window(a, model, &run, ids + at, score);
    }
    lab_run_close(&run);
    return r;
}

static int print(const struct lab_args *a, const struct lab_score *s)
{
    const double mean = s->sum / (double)s->n;
    const double variance = s->sum2 / (double)s->n - mean * mean;
    const double perplexity = exp(mean);
    /* As for any mean of n values; times the perplexity, since exp'(x) is exp(x). */
    const double error =
        s->n > 1 && variance > 0 ? perplexity * sqrt(variance / (double)(s->n - 1)) : 0;
    const double per_byte = s->bytes > 0 ? s->sum / (double)s->bytes : 0;

    if (a->json) {
        return out_json(json_pack(
            "{s:f, s:f, s:f, s:I, s:I, s:I, s:I, s:f, s:f}", "perplexity", perplexity, "error",
            error, "nats_per_token", mean, "tokens", (json_int_t)s->n, "windows",
            (json_int_t)s->n_windows, "ctx", (json_int_t)a->ctx, "bytes", (json_int_t)s->bytes,
            "perplexity_per_byte", exp(per_byte), "bits_per_byte", per_byte / log(2)));
    }
    (void)printf("perplexity %.4f +/- %.4f over %zu tokens in %zu windows of %llu\n", perplexity,
                 error, s->n, s->n_windows, (unsigned long long)a->ctx);
    (void)printf("per byte   %.4f (%.4f bits) over %zu bytes\n", exp(per_byte), per_byte / log(2),
                 s->bytes);
    return LAB_OK;
}

int lab_text(const struct lab_args *a, const struct vocab *vocab, int32_t **ret, size_t *ret_n)
{
    const unsigned flags = TOKENIZE_ADD_SPECIAL | (a->special ? TOKENIZE_SPECIAL : 0);
    struct buf text = {0};

    int r = read_file(a->text, &text);
    if (r == LAB_OK) {
        r = lab_tokenize(vocab, (const char *)text.data, text.n, flags, ret, ret_n);
    }
    buf_deinit(&text);
    return r;
}

int verb_perplexity(const struct lab_args *a)
{
    struct model *model = NULL;
    struct lab_score score = {0};
    int32_t *ids = NULL;
    size_t n = 0;

    if (!a->text) {
        lab_error("--text is missing");
        return LAB_USAGE;
    }
    int r = lab_model_to_run(a, &model, NULL);
    if (r == LAB_OK) {
        r = lab_text(a, model_vocab(model), &ids, &n);
    }
    if (r == LAB_OK) {
        r = lab_score(a, model, ids, n, &score);
    }
    if (r == LAB_OK) {
        r = print(a, &score);
    }
    free(ids);
    model_free(model);
    return r;
}
