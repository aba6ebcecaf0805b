/* Wide products: the lanes of a register are tokens, not rows.
 *
 * k neighbouring columns of a row can be weighted in 2^k ways (binary weights) or 3^k (ternary).
 * For a batch of tokens all those sums are made once, as a table with an entry for each way and in
 * it one int16 for each token; then a row of weights, whatever its k columns hold, takes one
 * addition of one entry, found by the row's own bits. That is the "method of the four Russians"
 * (Arlazarov, Dinic, Kronrod, Faradzhev 1970) for a product with int8 activations: a load and an
 * addition stand for k multiply-adds of every token, and the weights are used as they are packed.
 * The tables are worth their making from some hundred rows on.
 *
 * The columns are walked in tiles whose tables stay in the first cache. Within a tile all rows
 * pass; what a row has so far waits in memory, in order, one line or two a row.
 *
 *   binary    tiles of 64 columns, two blocks of activations; the 32 weights of a block are looked
 *             up as 5 + 5 + 5 + 5 + 6 + 6 columns. A block's sum is within 32 * 128 = 4,096.
 *   ternary   tiles of 32 columns; four columns are a byte of a line (kernels.h: 16l + c, + 4, + 8,
 *             + 12), whose four codes become one number to the base of three, 0..80. Sums stay
 *             int16 over 256 columns: within 256 * 127 = 32,512. So q = -128, which quantizing
 *             never writes, and codes of 3, which no encoder writes, are refused here.
 *
 * Sums are kept 32,768 up, so that they count as unsigned: under the upper half of the float 2^23
 * they are the lower half of a float, from which one subtraction leaves the sum.
 *
 * A level's registers have names here, from avx2_lanes.h, avx512_lanes.h or neon_lanes.h:
 *
 *   LANES                tokens in a register of int16, half of them in one of floats
 *   ivec, fvec           such registers
 *   TOKEN_OF(lane)       the token in a lane of int16, such that iv_floats() has them in order
 *   iv_load, iv_store, iv_all, iv_add, iv_sub     int16, 64-byte aligned
 *   fv_load, fv_store, fv_all, fv_add, fv_mul, fv_div, fv_fma (a * b + c)
 *   iv_floats(sum, ret)  what 32,768 up is, as two registers of floats
 *   iv_columns(q, ret)   eight columns of LANES tokens, q[lane] -> ret[column]
 *   q_has_lowest(q, n)   is there a -128 among them? n a multiple of 64
 *   tile_words(lines, ret)       16 rows' bits of two lines of B1, a word a row: the first line's
 *                                are the lower half
 *   line_digits(lines, ret)      two lines of codes as (row, 8) numbers to the base of three;
 *                                the ones with a code of 3 have bit 7 set; returns all of them ored
 *   turn(from, from_stride, to, to_stride, n)     LANES / 2 rows of as many tokens to (token, row),
 *                                                 n tokens of them */
#ifndef ENGINE_KERNELS_WIDE_H
#define ENGINE_KERNELS_WIDE_H

#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "engine/kernels/levels.h"
#if defined(__aarch64__)
#include "engine/kernels/neon_lanes.h"
#elif defined(__AVX512BW__) || defined(AVX512_INTRIN_HEADER)
#include "engine/kernels/avx512_lanes.h"
#else
#include "engine/kernels/avx2_lanes.h"
#endif

#define PASSES (WIDE_TOKENS / WIDE_PASS)
#define WIDE_VECS (WIDE_PASS / LANES)   /* registers of a full pass */
#define HALF_VECS ((WIDE_VECS + 1) / 2) /* of one with few tokens */
#define HALF (LANES / 2)                /* tokens in a register of floats */
#define ZERO_SUM INT16_MIN              /* 32,768 up */

#define BLOCK_ENTRIES 256 /* of a block of binary weights: 4 * 2^5 + 2 * 2^6 */
#define TILE_BLOCKS 2
#define QUAD_ENTRIES 81 /* of four ternary weights: 3^4 */
#define TILE_QUADS 8
#define TILE_COLS 64 /* the most */
#define PANELS_AHEAD 4
#define INT16 sizeof(int16_t)
#define WIDE_ROWS (WIDE_PANELS * PANEL_ROWS)

/* Before a loop whose body is long enough: unrolled it would not fit the decoder's cache. */
#if defined(__clang__)
#define ONCE _Pragma("nounroll")
#else
#define ONCE _Pragma("GCC unroll 1")
#endif

/* The memory of a call. A number that is not one of three's, at most 255, finds its entry within
 * the tables, too, and is refused afterwards. */
struct wide_room {
    _Alignas(64) uint8_t tables[(7 * QUAD_ENTRIES + 256) * WIDE_PASS * INT16];
    _Alignas(64) int16_t q[TILE_COLS][WIDE_PASS];
    _Alignas(64) float d[B1_GROUP / ACT_BLOCK][WIDE_PASS];
    _Alignas(64) uint8_t digits[WIDE_ROWS][TILE_QUADS]; /* ternary: numbers to the base of three */
    union {
        _Alignas(64) float part[WIDE_ROWS][WIDE_PASS];           /* binary, of one pass */
        _Alignas(64) int16_t sums[PASSES][WIDE_ROWS][WIDE_PASS]; /* ternary */
    } u;
    _Alignas(64) float acc[PASSES][WIDE_ROWS][WIDE_PASS];
};

_Static_assert(sizeof(struct wide_room) <= WIDE_ROOM_BYTES, "room");
_Static_assert(TILE_BLOCKS *BLOCK_ENTRIES <= 7 * QUAD_ENTRIES + 256, "tables");

struct wide_work {
    const uint8_t *panels;
    size_t n_panels, n_cols, panel_bytes;
    const struct act_q8 *act;
};

/* Tokens that pass together. */
struct pass {
    size_t i, first, n;
    bool full; /* WIDE_VECS registers are taken, otherwise HALF_VECS */
};

INLINE struct pass pass_of(const struct wide_work *w, size_t i)
{
    const size_t first = i * WIDE_PASS, left = w->act->n_tokens - first;
    const size_t n = left < WIDE_PASS ? left : WIDE_PASS;

    return (struct pass){.i = i, .first = first, .n = n, .full = n > HALF_VECS * LANES};
}

INLINE size_t n_passes(const struct wide_work *w)
{
    return (w->act->n_tokens + WIDE_PASS - 1) / WIDE_PASS;
}

/* x, computed once: gcc 12 computes an entry's place again for each of its registers. */
INLINE size_t once(size_t x)
{
    __asm__("" : "+r"(x));
    return x;
}

/* The same for the place of a row's sums. Where two arrays are walked in step, gcc 12 may count one
 * address in multiples of the other, takes what it then stores through for no object's memory, and
 * leaves out calls of a function that stores nothing else. */
INLINE float *floats_at(float *p)
{
    __asm__("" : "+r"(p));
    return p;
}

INLINE int16_t *sums_at(int16_t *p)
{
    __asm__("" : "+r"(p));
    return p;
}

/* n bytes of a panel some way ahead of p: they lie too far apart for the hardware to foresee. */
INLINE void prefetch_panel(const struct wide_work *w, size_t p, size_t at, const size_t n)
{
    const uint8_t *from = w->panels + (p + PANELS_AHEAD) * w->panel_bytes + at;

    UNROLL for (size_t i = 0; i < n; i += 64)
    {
        __builtin_prefetch(from + i);
    }
}

/* A wide_fn, after which its body follows. */
#define WIDE_FN(name)                                                                              \
    void name(const uint8_t *panels, size_t n_panels, size_t n_cols, const struct act_q8 *act,     \
              float *out, size_t out_stride, void *room)

INLINE struct wide_work wide_work(enum panel_kind kind, const uint8_t *panels, size_t n_panels,
                                  size_t n_cols, const struct act_q8 *act)
{
    assert(n_panels >= 1 && n_panels <= WIDE_PANELS);
    assert(act->n_tokens >= 1 && act->n_tokens <= WIDE_TOKENS);

    return (struct wide_work){.panels = panels,
                              .n_panels = n_panels,
                              .n_cols = n_cols,
                              .panel_bytes = panel_bytes(kind, n_cols),
                              .act = act};
}

/* ---- activations by column ---- */

/* Columns [first, first + n) of a pass as (column, token); what is past its last token is 0. */
INLINE void by_column(struct wide_room *room, const struct act_q8 *act, const struct pass *pass,
                      size_t first, size_t n)
{
    static const int8_t none[TILE_COLS];

    for (size_t v = 0; v < (pass->full ? WIDE_VECS : HALF_VECS); v++) {
        const int8_t *q[LANES];
        for (size_t lane = 0; lane < LANES; lane++) {
            const size_t t = v * LANES + TOKEN_OF(lane);
            q[lane] = t < pass->n ? act->q + (pass->first + t) * act->q_stride + first : none;
        }
        for (size_t c = 0; c < n; c += 8) {
            ivec columns[8];
            iv_columns(q, c, columns);
            for (size_t i = 0; i < 8; i++) {
                iv_store(&room->q[c + i][v * LANES], columns[i]);
            }
        }
    }
}

/* A pass's scales of n blocks from `first` on; past its last token 0. */
INLINE void scales_of_tokens(struct wide_room *room, const struct act_q8 *act,
                             const struct pass *pass, size_t first, size_t n)
{
    for (size_t b = 0; b < n; b++) {
        for (size_t t = 0; t < WIDE_PASS; t++) {
            room->d[b][t] = t < pass->n ? act->d[(pass->first + t) * act->d_stride + first + b] : 0;
        }
    }
}

INLINE void clear_acc(struct wide_room *room, const struct wide_work *w)
{
    for (size_t i = 0; i < n_passes(w); i++) {
        memset(room->acc[i], 0, w->n_panels * PANEL_ROWS * sizeof(room->acc[i][0]));
    }
}

/* (row, token) to (token, row), for all rows and passes. */
INLINE void hand_out(struct wide_room *room, const struct wide_work *w, float *out,
                     size_t out_stride)
{
    for (size_t row = 0; row < w->n_panels * PANEL_ROWS; row += HALF) {
        for (size_t t = 0; t < w->act->n_tokens; t += HALF) {
            const size_t left = w->act->n_tokens - t;
            turn(&room->acc[t / WIDE_PASS][row][t % WIDE_PASS], WIDE_PASS,
                 out + t * out_stride + row, out_stride, left < HALF ? left : HALF);
        }
    }
}

#endif
