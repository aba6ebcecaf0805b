/* All rows of a training as tokens, in memory, and batches of them in an order that the seed
 * decides. */
#ifndef TRAIN_LOOP_DATA_H
#define TRAIN_LOOP_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/diag.h"
#include "train/net/net.h"

struct vocabulary;

#define DATA_TOKENS_MAX (UINT64_C(1) << 31)

struct data; /* opaque: immutable once it is filled */

/** data_new() - empty. @vocabulary: borrowed until data_free(). @n_ctx: tokens of a row at most */
MUST_USE int data_new(struct data **ret, const struct vocabulary *vocabulary, uint32_t n_ctx);
void data_free(struct data *d);

enum { DATA_OK = 0, DATA_MALFORMED, DATA_TOO_BIG };

/**
 * data_add() - the rows of a file
 * @bytes: n of them, JSON lines (rows.h)
 * @skip_long: rows that have more tokens than n_ctx are left out and counted; else they are an
 *             error
 *
 * Return: DATA_OK; DATA_MALFORMED: rows_next()'s, a text that cannot be tokenized, a row that is
 * too long; DATA_TOO_BIG: more than DATA_TOKENS_MAX tokens or ROWS_MAX rows; diag names the line.
 * -ENOMEM.
 */
MUST_USE int data_add(struct data *d, const void *bytes, size_t n, bool skip_long,
                      struct diag *ret_diag);

size_t data_rows(const struct data *d);
size_t data_skipped(const struct data *d);
/** data_tokens() - of all rows; for tests */
uint64_t data_tokens(const struct data *d);
/** data_hash() - FNV-1a of all bytes that were added, in order */
uint64_t data_hash(const struct data *d);

/* Rows one behind the other, as the net takes them. Zeroed is empty. */
struct batch {
    uint32_t *begin; /* (n_rows + 1) owned */
    int32_t *tokens; /* owned */
    float *mask;     /* owned: 1 for an answer's tokens and its end, prompt_weight for a prompt's */
    size_t n_rows, n_tokens;
    double weight; /* sum of mask, without each row's first token */
    size_t rows_room, tokens_room;
};

void batch_deinit(struct batch *b);

/** batch_fill() - the rows at places order[0..n_rows) of the data. 0 or -ENOMEM */
MUST_USE int batch_fill(struct batch *b, const struct data *d, const uint32_t *order, size_t n_rows,
                        float prompt_weight);

/* Which rows come when: a pass over all of them follows the other, each in an order of its own that
 * seed and number of the pass decide. */
struct order {
    uint64_t seed;
    size_t n_rows;
    uint64_t pass; /* that `of` is in */
    uint32_t *of;  /* (n_rows) owned */
};

/** order_init() - 0 or -ENOMEM */
MUST_USE int order_init(struct order *o, uint64_t seed, size_t n_rows);
void order_deinit(struct order *o);
/** order_take() - rows at..at + n of the endless order, into ret */
void order_take(struct order *o, uint64_t at, size_t n, uint32_t *ret);

#endif
