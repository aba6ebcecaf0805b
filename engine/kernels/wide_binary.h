/* Binary weights by wide products (wide.h). */
#ifndef ENGINE_KERNELS_WIDE_BINARY_H
#define ENGINE_KERNELS_WIDE_BINARY_H

#include "engine/kernels/wide.h"

/* All signed sums of n columns, a bit set meaning +, on top of `least`; n is 5 or 6. */
INLINE void binary_table(int16_t (*q)[WIDE_PASS], const int n, int16_t least, const size_t n_vecs,
                         uint8_t *ret)
{
    const size_t stride = n_vecs * LANES * INT16;
    const int n_high = n == 6 ? 8 : 4; /* ways of the columns from the fourth on */

    for (size_t v = 0; v < n_vecs; v++) {
        ivec all = iv_all(least), twice[6], low[8];
        UNROLL for (int i = 0; i < n; i++)
        {
            const ivec x = iv_load(&q[i][v * LANES]);
            all = iv_sub(all, x);
            twice[i] = iv_add(x, x);
        }
        UNROLL for (int i = 0; i < 8; i++)
        {
            low[i] = all;
            UNROLL for (int b = 0; b < 3; b++)
            {
                low[i] = i >> b & 1 ? iv_add(low[i], twice[b]) : low[i];
            }
        }
        UNROLL for (int h = 0; h < n_high; h++)
        {
            UNROLL for (int i = 0; i < 8; i++)
            {
                ivec sum = low[i];
                UNROLL for (int b = 3; b < n; b++)
                {
                    sum = h >> (b - 3) & 1 ? iv_add(sum, twice[b]) : sum;
                }
                iv_store(ret + (size_t)(h * 8 + i) * stride + v * LANES * INT16, sum);
            }
        }
    }
}

/* The six tables of each block of a tile, one after the other. */
INLINE void binary_tables(struct wide_room *room, const size_t n_vecs)
{
    const size_t stride = n_vecs * LANES * INT16;

    for (size_t b = 0; b < TILE_BLOCKS; b++) {
        int16_t(*q)[WIDE_PASS] = room->q + b * ACT_BLOCK;
        uint8_t *to = room->tables + b * BLOCK_ENTRIES * stride;
        for (size_t i = 0; i < 4; i++) {
            binary_table(q + 5 * i, 5, i == 0 ? ZERO_SUM : 0, n_vecs, to + 32 * i * stride);
        }
        for (size_t i = 0; i < 2; i++) {
            binary_table(q + 20 + 6 * i, 6, 0, n_vecs, to + (128 + 64 * i) * stride);
        }
    }
}

/* The sums of block b of one row of a tile. */
INLINE void look_up_block(const uint8_t *tables, uint64_t word, const size_t b, const size_t n_vecs,
                          ivec *sum)
{
    static const int first_bit[] = {0, 5, 10, 15, 20, 26}, n_bits[] = {5, 5, 5, 5, 6, 6};
    static const int first_entry[] = {0, 32, 64, 96, 128, 192};
    const int entry = n_vecs * LANES == 32 ? 6 : 5; /* bytes of one, as a power of two */

    UNROLL for (int i = 0; i < 6; i++)
    {
        const uint32_t mask = ((1u << n_bits[i]) - 1) << entry;
        const int shift = (int)b * ACT_BLOCK + first_bit[i] - entry;
        const size_t at = once((shift < 0 ? word << -shift : word >> shift) & mask);
        const uint8_t *from = tables + ((size_t)first_entry[i] << entry) + at;
        UNROLL for (size_t v = 0; v < n_vecs; v++)
        {
            const ivec x = iv_load(from + v * LANES * INT16);
            sum[v] = i == 0 ? x : iv_add(sum[v], x);
        }
    }
}

/* One tile of one panel: blocks [first, first + TILE_BLOCKS) of a group, whose bits are `words`. */
INLINE void binary_panel(struct wide_room *room, const uint8_t *group, const uint64_t *words,
                         size_t panel, float (*acc)[WIDE_PASS], const size_t first,
                         const size_t n_vecs)
{
    const size_t n_floats = 2 * n_vecs;
    float scale[PANEL_ROWS];
    fvec d[TILE_BLOCKS][2 * WIDE_VECS];

    UNROLL for (size_t b = 0; b < TILE_BLOCKS; b++)
    {
        UNROLL for (size_t i = 0; i < n_floats; i++)
        {
            d[b][i] = fv_load(room->d[first + b] + i * HALF);
        }
    }
    scales_of_rows(group, scale);
    ONCE for (size_t r = 0; r < PANEL_ROWS; r++)
    {
        float *part_at = floats_at(room->u.part[panel * PANEL_ROWS + r]);
        float *acc_at = floats_at(acc[panel * PANEL_ROWS + r]);
        fvec part[2 * WIDE_VECS];
        UNROLL for (size_t i = 0; i < n_floats; i++)
        {
            part[i] = first == 0 ? fv_all(0) : fv_load(part_at + i * HALF);
        }
        UNROLL for (size_t b = 0; b < TILE_BLOCKS; b++)
        {
            ivec sum[WIDE_VECS];
            look_up_block(room->tables + b * BLOCK_ENTRIES * n_vecs * LANES * INT16, words[r], b,
                          n_vecs, sum);
            UNROLL for (size_t v = 0; v < n_vecs; v++)
            {
                fvec product[2];
                iv_floats(sum[v], product);
                UNROLL for (size_t h = 0; h < 2; h++)
                {
                    const size_t i = 2 * v + h;
                    part[i] = fv_fma(d[b][i], product[h], part[i]);
                }
            }
        }
        UNROLL for (size_t i = 0; i < n_floats; i++)
        {
            if (first == 0) {
                fv_store(part_at + i * HALF, part[i]);
            } else {
                const fvec before = fv_load(acc_at + i * HALF);
                fv_store(acc_at + i * HALF, fv_fma(fv_all(scale[r]), part[i], before));
            }
        }
    }
}

INLINE void binary_panels(struct wide_room *room, const struct wide_work *w, size_t pass, size_t g,
                          const size_t first, const size_t n_vecs)
{
    const size_t lines = 32 + first * B1_LINE_BYTES;
    const uint8_t *group = w->panels + g * B1_GROUP_BYTES;
    /* Made one panel ahead: parts of what was just stored as a whole are slow to be read. */
    _Alignas(64) uint64_t words[2][PANEL_ROWS];

    tile_words(group + lines, words[0]);
    for (size_t p = 0; p < w->n_panels; p++) {
        const uint8_t *next = p + 1 < w->n_panels ? group + w->panel_bytes : group;
        prefetch_panel(w, p, g * B1_GROUP_BYTES, B1_GROUP_BYTES);
        tile_words(next + lines, words[(p + 1) % 2]);
        binary_panel(room, group, words[p % 2], p, room->acc[pass], first, n_vecs);
        group = next;
    }
}

/* One tile of all panels, each way of going compiled for itself. */
#define BINARY_TILE(name, first, n_vecs)                                                           \
    static __attribute__((noinline)) void name(struct wide_room *room, const struct wide_work *w,  \
                                               size_t pass, size_t g)                              \
    {                                                                                              \
        binary_panels(room, w, pass, g, first, n_vecs);                                            \
    }

BINARY_TILE(binary_first_full, 0, WIDE_VECS)
BINARY_TILE(binary_second_full, 2, WIDE_VECS)
BINARY_TILE(binary_first_half, 0, HALF_VECS)
BINARY_TILE(binary_second_half, 2, HALF_VECS)

INLINE void binary_group(struct wide_room *room, const struct wide_work *w, const struct pass *pass,
                         size_t g)
{
    const size_t blocks = B1_GROUP / ACT_BLOCK;

    scales_of_tokens(room, w->act, pass, g * blocks, blocks);
    for (size_t b = 0; b < blocks; b += TILE_BLOCKS) {
        by_column(room, w->act, pass, (g * blocks + b) * ACT_BLOCK, TILE_BLOCKS * ACT_BLOCK);
        if (pass->full) {
            binary_tables(room, WIDE_VECS);
            (b == 0 ? binary_first_full : binary_second_full)(room, w, pass->i, g);
        } else {
            binary_tables(room, HALF_VECS);
            (b == 0 ? binary_first_half : binary_second_half)(room, w, pass->i, g);
        }
    }
}

INLINE void wide_b1(const struct wide_work *w, float *out, size_t out_stride,
                    struct wide_room *room)
{
    clear_acc(room, w);
    for (size_t i = 0; i < n_passes(w); i++) {
        const struct pass pass = pass_of(w, i);
        for (size_t g = 0; g < w->n_cols / B1_GROUP; g++) {
            binary_group(room, w, &pass, g);
        }
    }
    hand_out(room, w, out, out_stride);
}

#define WIDE_B1(name)                                                                              \
    WIDE_FN(name)                                                                                  \
    {                                                                                              \
        const struct wide_work w = wide_work(PANEL_B1, panels, n_panels, n_cols, act);             \
        wide_b1(&w, out, out_stride, room);                                                        \
    }

#endif
