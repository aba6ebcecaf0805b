/* data: rows tokenized once, kept one behind the other. */
#include "train/loop/data.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/fnv.h"
#include "engine/engine.h"
#include "train/rng.h"
#include "train/loop/prompt.h"
#include "train/loop/rows.h"
#include "train/loop/vocabulary.h"

struct data_row {
    uint64_t at;        /* of its first token */
    uint32_t n, answer; /* tokens, and those of them that are the prompt's */
};

struct data {
    const struct vocabulary *vocabulary; /* borrowed */
    uint32_t n_ctx;
    int32_t *tokens; /* (n_tokens) owned */
    uint64_t n_tokens, tokens_room;
    struct data_row *rows; /* (n_rows) owned */
    size_t n_rows, rows_room, n_skipped;
    uint64_t hash;
};

int data_new(struct data **ret, const struct vocabulary *vocabulary, uint32_t n_ctx)
{
    struct data *d = calloc(1, sizeof(*d));

    if (!d) {
        return -ENOMEM;
    }
    d->vocabulary = vocabulary;
    d->n_ctx = n_ctx;
    d->hash = FNV_START;
    *ret = d;
    return 0;
}

void data_free(struct data *d)
{
    if (d) {
        free(d->tokens);
        free(d->rows);
        free(d);
    }
}

size_t data_rows(const struct data *d)
{
    return d->n_rows;
}

size_t data_skipped(const struct data *d)
{
    return d->n_skipped;
}

uint64_t data_tokens(const struct data *d)
{
    return d->n_tokens;
}

uint64_t data_hash(const struct data *d)
{
    return d->hash;
}

/* Room for one more row of n_ctx tokens. */
static int reserve(struct data *d)
{
    if (d->n_rows == d->rows_room) {
        const size_t room = d->rows_room ? d->rows_room * 2 : 1024;
        struct data_row *rows = realloc(d->rows, room * sizeof(*rows));
        if (!rows) {
            return -ENOMEM;
        }
        d->rows = rows;
        d->rows_room = room;
    }
    if (d->tokens_room - d->n_tokens < d->n_ctx) {
        const uint64_t room = d->tokens_room * 2 + d->n_ctx;
        int32_t *tokens = realloc(d->tokens, (size_t)room * sizeof(*tokens));
        if (!tokens) {
            return -ENOMEM;
        }
        d->tokens = tokens;
        d->tokens_room = room;
    }
    return 0;
}

static int refuse(const struct row *row, struct diag *d, const char *why)
{
    diag_set(d, row->line, "line %" PRIu64 ": %s", row->line, why);
    return DATA_MALFORMED;
}

static int add_row(struct data *d, const struct row *row, bool skip_long, struct diag *diag)
{
    const struct vocabulary *v = d->vocabulary;
    size_t n_prompt = 0, n_answer = 0;
    int r = reserve(d);

    if (r < 0) {
        return r;
    }
    int32_t *ids = d->tokens + d->n_tokens;
    r = prompt_ids(v->vocab, v->chat, row->prompt, ids, d->n_ctx, &n_prompt);
    if (r == PROMPT_OK) {
        r = answer_ids(v->vocab, row->answer, v->end, ids + n_prompt, d->n_ctx - n_prompt,
                       &n_answer);
    }
    if (r == PROMPT_FULL && skip_long) {
        d->n_skipped++;
        return DATA_OK;
    }
    if (r == PROMPT_FULL) {
        return refuse(row, diag, "has more tokens than the context");
    }
    if (r != PROMPT_OK) {
        return r < 0 ? r : refuse(row, diag, "cannot be tokenized");
    }
    d->rows[d->n_rows++] = (struct data_row){
        .at = d->n_tokens, .n = (uint32_t)(n_prompt + n_answer), .answer = (uint32_t)n_prompt};
    d->n_tokens += n_prompt + n_answer;
    if (d->n_tokens > DATA_TOKENS_MAX || d->n_rows > ROWS_MAX) {
        diag_set(diag, row->line, "line %" PRIu64 ": more rows or tokens than fit", row->line);
        return DATA_TOO_BIG;
    }
    return DATA_OK;
}

int data_add(struct data *d, const void *bytes, size_t n, bool skip_long, struct diag *ret_diag)
{
    const struct rows_fields fields = {.prompt = "prompt", .answer = "answer", .answers = true};
    struct rows *rows = NULL;
    struct row row;
    int r = rows_new(&rows, bytes, n, &fields), next = ROWS_OK;

    while (r == DATA_OK && (next = rows_next(rows, &row, ret_diag)) == ROWS_OK) {
        r = add_row(d, &row, skip_long, ret_diag);
    }
    rows_free(rows);
    d->hash = fnv_add(d->hash, bytes, n);
    return r == DATA_OK && next == ROWS_MALFORMED ? DATA_MALFORMED : r;
}

/* ---- batches ---- */

void batch_deinit(struct batch *b)
{
    free(b->begin);
    free(b->tokens);
    free(b->mask);
    *b = (struct batch){0};
}

static int make_room(struct batch *b, size_t n_rows, size_t n_tokens)
{
    if (n_rows > b->rows_room) {
        free(b->begin);
        b->begin = calloc(n_rows + 1, sizeof(*b->begin));
        b->rows_room = b->begin ? n_rows : 0;
    }
    if (n_tokens > b->tokens_room) {
        free(b->tokens);
        free(b->mask);
        b->tokens = calloc(n_tokens, sizeof(*b->tokens));
        b->mask = calloc(n_tokens, sizeof(*b->mask));
        b->tokens_room = b->tokens && b->mask ? n_tokens : 0;
    }
    return b->begin && b->tokens && b->mask ? 0 : -ENOMEM;
}

int batch_fill(struct batch *b, const struct data *d, const uint32_t *order, size_t n_rows,
               float prompt_weight)
{
    size_t n_tokens = 0;

    for (size_t i = 0; i < n_rows; i++) {
        n_tokens += d->rows[order[i]].n;
    }
    const int r = n_tokens > INT32_MAX ? -ENOMEM : make_room(b, n_rows, n_tokens);
    if (r < 0) {
        return r;
    }
    b->n_rows = n_rows;
    b->n_tokens = n_tokens;
    b->weight = 0;
    b->begin[0] = 0;
    for (size_t i = 0, at = 0; i < n_rows; i++) {
        const struct data_row *row = &d->rows[order[i]];
        memcpy(b->tokens + at, d->tokens + row->at, row->n * sizeof(*b->tokens));
        for (uint32_t k = 0; k < row->n; k++) {
            b->mask[at + k] = k < row->answer ? prompt_weight : 1;
            b->weight += k > 0 ? (double)b->mask[at + k] : 0;
        }
        at += row->n;
        b->begin[i + 1] = (uint32_t)at;
    }
    return 0;
}

/* ---- order ---- */

static void shuffle(struct order *o, uint64_t pass)
{
    struct rng seed = {o->seed};
    struct rng rng = {rng_next(&seed) ^ (pass + 1) * UINT64_C(0xd1b54a32d192ed03)};

    for (size_t i = 0; i < o->n_rows; i++) {
        o->of[i] = (uint32_t)i;
    }
    for (size_t i = o->n_rows; i > 1; i--) {
        /* Multiplied down from 32 bits: for 2^26 rows the bias is below 2 %. */
        const size_t k = (size_t)((rng_next(&rng) >> 32) * i >> 32);
        const uint32_t keep = o->of[i - 1];
        o->of[i - 1] = o->of[k];
        o->of[k] = keep;
    }
    o->pass = pass;
}

int order_init(struct order *o, uint64_t seed, size_t n_rows)
{
    *o = (struct order){.seed = seed, .n_rows = n_rows};
    o->of = calloc(n_rows + 1, sizeof(*o->of));
    if (!o->of) {
        return -ENOMEM;
    }
    shuffle(o, 0);
    return 0;
}

void order_deinit(struct order *o)
{
    free(o->of);
    *o = (struct order){0};
}

void order_take(struct order *o, uint64_t at, size_t n, uint32_t *ret)
{
    for (size_t i = 0; i < n; i++) {
        const uint64_t pass = (at + i) / o->n_rows;
        if (pass != o->pass) {
            shuffle(o, pass);
        }
        ret[i] = o->of[(at + i) % o->n_rows];
    }
}
