/* Ternary weights by wide products (wide.h). */
#ifndef ENGINE_KERNELS_WIDE_TERNARY_H
#define ENGINE_KERNELS_WIDE_TERNARY_H

#include "engine/kernels/wide.h"

#define TILE_LINES 2 /* of 16 columns */
#define TILE_TERNARY (TILE_LINES * T_LINE)
#define LEVEL_COLS 256 /* whose sums stay within int16 */

/* What becomes of a tile's sums. */
enum then {
    THEN_KEEP,  /* they wait for the next tile */
    THEN_GROUP, /* acc = fma(scale, fma(d, sum, 0), acc): a group of T256 is through */
    THEN_ADD,   /* acc += sum, exact in float: TROW */
};

/* All signed sums of four columns, entry = sum of (1 + weight) * 3^i. */
INLINE void ternary_table(const ivec x[4], const size_t stride, uint8_t *ret)
{
    const ivec none = iv_all(0);
    ivec low[9];

    UNROLL for (int i = 0; i < 9; i++)
    {
        const ivec a = i % 3 == 0 ? iv_sub(none, x[0]) : i % 3 == 1 ? none : x[0];
        low[i] = i / 3 == 0 ? iv_sub(a, x[1]) : i / 3 == 1 ? a : iv_add(a, x[1]);
    }
    UNROLL for (int h = 0; h < 9; h++)
    {
        const ivec c = h % 3 == 0 ? iv_sub(none, x[2]) : h % 3 == 1 ? none : x[2];
        const ivec high = h / 3 == 0 ? iv_sub(c, x[3]) : h / 3 == 1 ? c : iv_add(c, x[3]);
        UNROLL for (int i = 0; i < 9; i++)
        {
            iv_store(ret + (size_t)(h * 9 + i) * stride, iv_add(low[i], high));
        }
    }
}

/* A byte of a line has the columns 16l + c, + 4, + 8 and + 12. */
INLINE void ternary_tables(struct wide_room *room, const size_t n_vecs)
{
    const size_t stride = n_vecs * LANES * INT16;

    for (size_t i = 0; i < TILE_QUADS; i++) {
        const size_t first = i / 4 * T_LINE + i % 4;
        for (size_t v = 0; v < n_vecs; v++) {
            ivec x[4];
            UNROLL for (size_t k = 0; k < 4; k++)
            {
                x[k] = iv_load(&room->q[first + 4 * k][v * LANES]);
            }
            ternary_table(x, stride, room->tables + i * QUAD_ENTRIES * stride + v * LANES * INT16);
        }
    }
}

/* A tile's sums of one row, on top of what is there. */
INLINE void look_up_tile(const uint8_t *tables, const uint8_t *digits, const size_t n_vecs,
                         ivec *sum)
{
    const size_t stride = n_vecs * LANES * INT16;
    uint64_t eight;

    memcpy(&eight, digits, sizeof(eight));
    UNROLL for (size_t i = 0; i < TILE_QUADS; i++)
    {
        const uint8_t *from = tables + i * QUAD_ENTRIES * stride + once((uint8_t)eight * stride);
        eight >>= 8;
        UNROLL for (size_t v = 0; v < n_vecs; v++)
        {
            sum[v] = iv_add(sum[v], iv_load(from + v * LANES * INT16));
        }
    }
}

/* Sums of one register to acc. */
INLINE void use_sums(ivec sum, const enum then then, const float *d, fvec scale, float *acc)
{
    fvec s[2];

    iv_floats(sum, s);
    UNROLL for (size_t h = 0; h < 2; h++)
    {
        const fvec before = fv_load(acc + h * HALF);
        if (then == THEN_GROUP) {
            const fvec part = fv_fma(fv_load(d + h * HALF), s[h], fv_all(0));
            fv_store(acc + h * HALF, fv_fma(scale, part, before));
        } else {
            fv_store(acc + h * HALF, fv_add(before, s[h]));
        }
    }
}

/* A tile's weights of all panels, `lines` bytes into each. Returns the bits that a code of 3
 * leaves, or 0. */
static __attribute__((noinline)) unsigned tile_digits(struct wide_room *room,
                                                      const struct wide_work *w, size_t lines)
{
    unsigned bad = 0;

    for (size_t p = 0; p < w->n_panels; p++) {
        prefetch_panel(w, p, lines, TILE_LINES * T_LINE_BYTES);
        bad |= line_digits(w->panels + p * w->panel_bytes + lines, room->digits + p * PANEL_ROWS);
    }
    return bad;
}

/* One tile of one row. */
INLINE void ternary_row(struct wide_room *room, size_t row, size_t pass, const bool begin,
                        const enum then then, float scale, const size_t n_vecs)
{
    int16_t *at = sums_at(room->u.sums[pass][row]);
    float *acc = floats_at(room->acc[pass][row]);
    ivec sum[WIDE_VECS];

    UNROLL for (size_t v = 0; v < n_vecs; v++)
    {
        sum[v] = begin ? iv_all(ZERO_SUM) : iv_load(at + v * LANES);
    }
    look_up_tile(room->tables, room->digits[row], n_vecs, sum);
    UNROLL for (size_t v = 0; v < n_vecs; v++)
    {
        if (then == THEN_KEEP) {
            iv_store(at + v * LANES, sum[v]);
        } else {
            use_sums(sum[v], then, room->d[0] + v * LANES, fv_all(scale), acc + v * LANES);
        }
    }
}

INLINE void ternary_rows(struct wide_room *room, const struct wide_work *w, size_t pass,
                         size_t scales, const bool begin, const enum then then, const size_t n_vecs)
{
    for (size_t p = 0; p < w->n_panels; p++) {
        float scale[PANEL_ROWS] = {0};
        if (then == THEN_GROUP) {
            scales_of_rows(w->panels + p * w->panel_bytes + scales, scale);
        }
        ONCE for (size_t r = 0; r < PANEL_ROWS; r++)
        {
            ternary_row(room, p * PANEL_ROWS + r, pass, begin, then, scale[r], n_vecs);
        }
    }
}

/* One tile of all rows; the scales of T256's stand `scales` bytes into each panel. Each way of
 * going is compiled for itself. */
#define TERNARY_TILE(name, begin, then, n_vecs)                                                    \
    static __attribute__((noinline)) void name(struct wide_room *room, const struct wide_work *w,  \
                                               size_t pass, size_t scales)                         \
    {                                                                                              \
        ternary_rows(room, w, pass, scales, begin, then, n_vecs);                                  \
    }

TERNARY_TILE(ternary_begin_full, true, THEN_KEEP, WIDE_VECS)
TERNARY_TILE(ternary_more_full, false, THEN_KEEP, WIDE_VECS)
TERNARY_TILE(ternary_group_full, false, THEN_GROUP, WIDE_VECS)
TERNARY_TILE(ternary_add_full, false, THEN_ADD, WIDE_VECS)
TERNARY_TILE(ternary_begin_half, true, THEN_KEEP, HALF_VECS)
TERNARY_TILE(ternary_more_half, false, THEN_KEEP, HALF_VECS)
TERNARY_TILE(ternary_group_half, false, THEN_GROUP, HALF_VECS)
TERNARY_TILE(ternary_add_half, false, THEN_ADD, HALF_VECS)

/* Where a tile is: the columns, and what becomes of the sums. */
struct tile {
    size_t col;
    bool begin, end;
    enum then then; /* at the end */
    size_t scales;  /* bytes into a panel */
};

INLINE void tile_rows(struct wide_room *room, const struct wide_work *w, const struct tile *tile,
                      size_t pass, const bool full)
{
    if (tile->begin) {
        (full ? ternary_begin_full : ternary_begin_half)(room, w, pass, 0);
    } else if (!tile->end) {
        (full ? ternary_more_full : ternary_more_half)(room, w, pass, 0);
    } else if (tile->then == THEN_GROUP) {
        (full ? ternary_group_full : ternary_group_half)(room, w, pass, tile->scales);
    } else {
        (full ? ternary_add_full : ternary_add_half)(room, w, pass, 0);
    }
}

INLINE void tile_tokens(struct wide_room *room, const struct wide_work *w, const struct tile *tile)
{
    for (size_t i = 0; i < n_passes(w); i++) {
        const struct pass pass = pass_of(w, i);
        by_column(room, w->act, &pass, tile->col, TILE_TERNARY);
        if (tile->then == THEN_GROUP) {
            scales_of_tokens(room, w->act, &pass, tile->col / T256_GROUP, 1);
        }
        if (pass.full) {
            ternary_tables(room, WIDE_VECS);
            tile_rows(room, w, tile, i, true);
        } else {
            ternary_tables(room, HALF_VECS);
            tile_rows(room, w, tile, i, false);
        }
    }
}

/* Columns [first, first + n), n at least two tiles and at most LEVEL_COLS, whose lines are `lines`
 * bytes into each panel. */
INLINE unsigned ternary_columns(struct wide_room *room, const struct wide_work *w, size_t first,
                                size_t n, size_t lines, size_t scales, enum then then)
{
    unsigned bad = 0;

    for (size_t c = 0; c < n; c += TILE_TERNARY) {
        const struct tile tile = {.col = first + c,
                                  .begin = c == 0,
                                  .end = c + TILE_TERNARY >= n,
                                  .then = then,
                                  .scales = scales};
        bad |= tile_digits(room, w, lines + c / T_LINE * T_LINE_BYTES);
        tile_tokens(room, w, &tile);
    }
    return bad;
}

INLINE bool has_lowest(const struct act_q8 *act, size_t n_cols)
{
    bool lowest = false;

    for (size_t t = 0; t < act->n_tokens; t++) {
        lowest |= q_has_lowest(act->q + t * act->q_stride, n_cols);
    }
    return lowest;
}

/* (sum * scale) / r */
INLINE void trow_end(struct wide_room *room, const struct wide_work *w, const struct pass *pass)
{
    scales_of_tokens(room, w->act, pass, 0, 1);
    for (size_t p = 0; p < w->n_panels; p++) {
        float scale[PANEL_ROWS];
        memcpy(scale, w->panels + p * w->panel_bytes, sizeof(scale));
        for (size_t r = 0; r < PANEL_ROWS; r++) {
            float *acc = floats_at(room->acc[pass->i][p * PANEL_ROWS + r]);
            for (size_t t = 0; t < pass->n; t += HALF) {
                const fvec part = fv_mul(fv_load(acc + t), fv_all(scale[r]));
                fv_store(acc + t, fv_div(part, fv_load(room->d[0] + t)));
            }
        }
    }
}

/* False: these activations or weights are not for here. */
INLINE bool wide_t256(const struct wide_work *w, float *out, size_t out_stride,
                      struct wide_room *room)
{
    unsigned bad = has_lowest(w->act, w->n_cols);

    clear_acc(room, w);
    for (size_t g = 0; g < w->n_cols / T256_GROUP && bad == 0; g++) {
        const size_t group = g * T256_GROUP_BYTES;
        bad = ternary_columns(room, w, g * T256_GROUP, T256_GROUP, group + 32, group, THEN_GROUP);
    }
    if (bad == 0) {
        hand_out(room, w, out, out_stride);
    }
    return bad == 0;
}

/* Likewise; with more columns a sum might not fit a float's 24 bits. */
INLINE bool wide_trow(const struct wide_work *w, float *out, size_t out_stride,
                      struct wide_room *room)
{
    unsigned bad = w->n_cols > ((size_t)1 << 24) / 128 || has_lowest(w->act, w->n_cols);

    clear_acc(room, w);
    for (size_t c = 0; c < w->n_cols && bad == 0; c += LEVEL_COLS) {
        const size_t n = w->n_cols - c < LEVEL_COLS ? w->n_cols - c : LEVEL_COLS;
        const size_t lines = TROW_HEAD_BYTES + c / T_LINE * T_LINE_BYTES;
        bad = ternary_columns(room, w, c, n, lines, 0, THEN_ADD);
    }
    if (bad != 0) {
        return false;
    }
    for (size_t i = 0; i < n_passes(w); i++) {
        const struct pass pass = pass_of(w, i);
        trow_end(room, w, &pass);
    }
    hand_out(room, w, out, out_stride);
    return true;
}

/* One panel after the other, where it is not for here. */
INLINE void each_panel(panel_fn *fn, const struct wide_work *w, float *out, size_t out_stride)
{
    for (size_t p = 0; p < w->n_panels; p++) {
        fn(w->panels + p * w->panel_bytes, w->n_cols, w->act, out + p * PANEL_ROWS, out_stride);
    }
}

#define WIDE_TERNARY(name, kind, all, panel)                                                       \
    WIDE_FN(name)                                                                                  \
    {                                                                                              \
        const struct wide_work w = wide_work(kind, panels, n_panels, n_cols, act);                 \
        if (!all(&w, out, out_stride, room)) {                                                     \
            each_panel(panel, &w, out, out_stride);                                                \
        }                                                                                          \
    }

#endif
