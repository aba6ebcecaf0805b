/* NEON, B1, by the tables of quad_sums (kernels.h): tbl looks a quad up for 16 rows at once. Two
 * look-ups and two additions of bytes do what four products and four additions of int16 would, and
 * as much as four dot products where there are such, so that all ARM levels share this file; i8mm
 * has its own for many tokens.
 *
 * The two byte sums of a block, low and high, make 2 * low + 64 * high in int16 (at most 16,368);
 * 8,192 and the sum of q taken off in int32 make it the block's product.
 *
 * A table in registers serves two panels. Many tokens find a group's nibbles laid out as bytes.
 * What a group adds goes straight onto the results. */
#include "engine/kernels/neon_common.h"

#define BLOCKS (B1_GROUP / ACT_BLOCK)
#define BLOCK_SUMS_BYTES (ACT_BLOCK / 4 * QUAD_SUMS_BYTES)
#define GROUP_SUMS_BYTES (BLOCKS * BLOCK_SUMS_BYTES)
#define BYTES 4 /* of a row in a line; byte i has quads 2i and 2i + 1 */
#define TILE 2  /* panels that share the registers of a table */
#define SHARE 4 /* panels of a pass over the tables */
#define MANY 12 /* tokens for which a group's nibbles are laid out in memory */

/* ---- the tables ---- */

/* q where the bit `way` is set in 0..7, else 0 */
INLINE int16x8_t kept_where(int16x8_t q, uint16x8_t way)
{
    return vandq_s16(q, vreinterpretq_s16_u16(way));
}

INLINE void quad_table(int16x8_t q, const int first, uint8_t *ret)
{
    static const uint16_t ways[3][8] = {
        {0, 0xffff, 0, 0xffff, 0, 0xffff, 0, 0xffff},
        {0, 0, 0xffff, 0xffff, 0, 0, 0xffff, 0xffff},
        {0, 0, 0, 0, 0xffff, 0xffff, 0xffff, 0xffff},
    };
    const int16x8_t q0 = first ? vdupq_laneq_s16(q, 4) : vdupq_laneq_s16(q, 0);
    const int16x8_t q1 = first ? vdupq_laneq_s16(q, 5) : vdupq_laneq_s16(q, 1);
    const int16x8_t q2 = first ? vdupq_laneq_s16(q, 6) : vdupq_laneq_s16(q, 2);
    const int16x8_t q3 = first ? vdupq_laneq_s16(q, 7) : vdupq_laneq_s16(q, 3);
    const int16x8_t two =
        vaddq_s16(kept_where(q0, vld1q_u16(ways[0])), kept_where(q1, vld1q_u16(ways[1])));
    const int16x8_t without = vaddq_s16(two, kept_where(q2, vld1q_u16(ways[2])));
    const int16x8_t with = vaddq_s16(without, q3);
    const uint8x16_t low = vuzp1q_u8(vreinterpretq_u8_s16(without), vreinterpretq_u8_s16(with));
    const int8x16_t high = vshrn_high_n_s16(vshrn_n_s16(without, 5), with, 5);

    vst1q_u8(ret, vandq_u8(low, vdupq_n_u8(31)));
    vst1q_u8(ret + 16, vreinterpretq_u8_s8(vaddq_s8(high, vdupq_n_s8(16))));
}

void quad_sums_neon(const int8_t *q, size_t n_cols, uint8_t *ret)
{
    assert(n_cols % ACT_BLOCK == 0 && n_cols <= KERN_COLS_MAX);

    for (size_t c = 0; c < n_cols; c += 8) {
        const int16x8_t eight = vmovl_s8(vld1_s8(q + c));
        quad_table(eight, 0, ret + c / 4 * QUAD_SUMS_BYTES);
        quad_table(eight, 4, ret + (c / 4 + 1) * QUAD_SUMS_BYTES);
    }
}

/* ---- a block of a token ---- */

/* The sums of the low bytes and of the high ones, row by row. */
struct sums {
    uint8x16_t low, high;
};

/* Eight columns of 16 rows, whose tables are t: added to the sums, or the first of them. */
INLINE void look_up(uint8x16_t even, uint8x16_t odd, const uint8x16_t t[4], const bool first,
                    struct sums *s)
{
    const uint8x16_t low = vqtbl1q_u8(t[0], even), high = vqtbl1q_u8(t[1], even);

    s->low = first ? low : vaddq_u8(s->low, low);
    s->high = first ? high : vaddq_u8(s->high, high);
    s->low = vaddq_u8(s->low, vqtbl1q_u8(t[2], odd));
    s->high = vaddq_u8(s->high, vqtbl1q_u8(t[3], odd));
}

/* A block of n panels for one token: its tables are read once. Nibbles of weights as they are come
 * from a line each, `stride` bytes apart; laid out they come as bytes, even and odd in turn. */
INLINE void look_up_panels(const uint8_t *from, size_t stride, const size_t n, const bool laid_out,
                           const uint8_t *tables, struct sums s[TILE])
{
    UNROLL for (int i = 0; i < BYTES; i++)
    {
        const uint8_t *two = tables + i * 2 * QUAD_SUMS_BYTES;
        const uint8x16_t t[4] = {vld1q_u8(two), vld1q_u8(two + 16), vld1q_u8(two + 32),
                                 vld1q_u8(two + 48)};
        UNROLL for (size_t p = 0; p < n; p++)
        {
            const uint8_t *at = from + p * stride + i * PANEL_ROWS * (laid_out ? 2 : 1);
            const uint8x16_t w = vld1q_u8(at);
            if (laid_out) {
                look_up(w, vld1q_u8(at + PANEL_ROWS), t, i == 0, &s[p]);
            } else {
                look_up(vandq_u8(w, vdupq_n_u8(15)), vshrq_n_u8(w, 4), t, i == 0, &s[p]);
            }
        }
    }
}

/* part = fma(d, product, part), for block `at` of the tokens' blocks */
INLINE void add_sums(struct sums s, const struct act_q8 *act, size_t at, float32x4_t part[QUADS])
{
    const uint8x16_t two = vdupq_n_u8(2), sixty_four = vdupq_n_u8(64);
    const uint16x8_t first = vmlal_u8(vmull_u8(vget_low_u8(s.high), vget_low_u8(sixty_four)),
                                      vget_low_u8(s.low), vget_low_u8(two));
    const uint16x8_t second = vmlal_high_u8(vmull_high_u8(s.high, sixty_four), s.low, two);
    const int16x8_t a = vreinterpretq_s16_u16(first), b = vreinterpretq_s16_u16(second);
    const int16x8_t less = vdupq_n_s16((int16_t)(8192 + act->s[at]));
    const int16x4_t less_half = vget_low_s16(less);
    const float d = act->d[at];

    part[0] = add_block(d, vsubl_s16(vget_low_s16(a), less_half), part[0]);
    part[1] = add_block(d, vsubl_high_s16(a, less), part[1]);
    part[2] = add_block(d, vsubl_s16(vget_low_s16(b), less_half), part[2]);
    part[3] = add_block(d, vsubl_high_s16(b, less), part[3]);
}

/* ---- groups, and the two functions ---- */

/* acc = fma(scale, part, acc), where acc is what `out` has. */
INLINE void add_part(const float32x4_t scale[QUADS], const float32x4_t part[QUADS], float *out)
{
    UNROLL for (int r = 0; r < QUADS; r++)
    {
        vst1q_f32(out + r * 4, vfmaq_f32(vld1q_f32(out + r * 4), scale[r], part[r]));
    }
}

/* A group of a panel for many tokens. */
struct laid_out {
    uint8_t nibbles[BLOCKS][BYTES][2][PANEL_ROWS];
    float scale[PANEL_ROWS];
};

static void lay_out(const uint8_t *group, struct laid_out *ret)
{
    for (size_t i = 0; i < BLOCKS * BYTES; i++) {
        const uint8x16_t w = vld1q_u8(group + 32 + i * PANEL_ROWS);
        vst1q_u8(ret->nibbles[i / BYTES][i % BYTES][0], vandq_u8(w, vdupq_n_u8(15)));
        vst1q_u8(ret->nibbles[i / BYTES][i % BYTES][1], vshrq_n_u8(w, 4));
    }
    UNROLL for (int r = 0; r < QUADS; r++)
    {
        vst1q_f32(ret->scale + r * 4, scales(group, r));
    }
}

/* A group of n panels, laid out, for a token; `at` is its first block of the tokens' blocks. */
INLINE void add_laid_out(const struct laid_out *w, const size_t n, const uint8_t *tables,
                         const struct act_q8 *act, size_t at, float *out)
{
    float32x4_t part[TILE][QUADS];

    memset(part, 0, sizeof(part));
    for (size_t b = 0; b < BLOCKS; b++) {
        struct sums s[TILE];
        look_up_panels(w->nibbles[b][0][0], sizeof(*w), n, true, tables + b * BLOCK_SUMS_BYTES, s);
        UNROLL for (size_t p = 0; p < n; p++)
        {
            add_sums(s[p], act, at + b, part[p]);
        }
    }
    UNROLL for (size_t p = 0; p < n; p++)
    {
        float32x4_t scale[QUADS];
        UNROLL for (int r = 0; r < QUADS; r++)
        {
            scale[r] = vld1q_f32(w[p].scale + r * 4);
        }
        add_part(scale, part[p], out + p * PANEL_ROWS);
    }
}

/* The same as they are. */
INLINE void add_group(const uint8_t *group, size_t stride, const size_t n, const uint8_t *tables,
                      const struct act_q8 *act, size_t at, float *out)
{
    float32x4_t part[TILE][QUADS];

    memset(part, 0, sizeof(part));
    for (size_t b = 0; b < BLOCKS; b++) {
        const uint8_t *line = group + 32 + b * B1_LINE_BYTES;
        struct sums s[TILE];
        look_up_panels(line, stride, n, false, tables + b * BLOCK_SUMS_BYTES, s);
        UNROLL for (size_t p = 0; p < n; p++)
        {
            add_sums(s[p], act, at + b, part[p]);
        }
    }
    UNROLL for (size_t p = 0; p < n; p++)
    {
        float32x4_t scale[QUADS];
        UNROLL for (int r = 0; r < QUADS; r++)
        {
            scale[r] = scales(group + p * stride, r);
        }
        add_part(scale, part[p], out + p * PANEL_ROWS);
    }
}

static void clear(const struct act_q8 *act, size_t n_rows, float *out, size_t out_stride)
{
    for (size_t t = 0; t < act->n_tokens; t++) {
        memset(out + t * out_stride, 0, n_rows * sizeof(*out));
    }
}

/* What one call multiplies. */
struct work {
    const uint8_t *panels, *next; /* next: NULL, or what is prefetched */
    size_t n_panels, n_groups;
};

/* Beside group g of these panels, as much of the next ones, in the order of memory. */
INLINE void prefetch_next(const struct work *w, size_t g)
{
    const size_t bytes = w->n_panels * B1_GROUP_BYTES;

    if (w->next) {
        for (size_t i = 0; i < bytes; i += 64) {
            __builtin_prefetch(w->next + g * bytes + i);
        }
    }
}

/* Few tokens take the weights as they are. */
static void multiply_few(const struct work *w, const struct act_q8 *act, float *out,
                         size_t out_stride)
{
    const size_t stride = w->n_groups * B1_GROUP_BYTES;

    for (size_t t = 0; t < act->n_tokens; t++) {
        const uint8_t *tables = act->sums + t * act->sums_stride;
        float *to = out + t * out_stride;
        size_t at = t * act->d_stride;
        for (size_t g = 0; g < w->n_groups; g++) {
            const uint8_t *group = w->panels + g * B1_GROUP_BYTES;
            size_t p = 0;
            if (t == 0) {
                prefetch_next(w, g);
            }
            for (; p + TILE <= w->n_panels; p += TILE) {
                add_group(group + p * stride, stride, TILE, tables, act, at, to + p * PANEL_ROWS);
            }
            if (p < w->n_panels) {
                add_group(group + p * stride, stride, 1, tables, act, at, to + p * PANEL_ROWS);
            }
            tables += GROUP_SUMS_BYTES;
            at += BLOCKS;
        }
    }
}

/* Many tokens pass over each group, laid out. */
static void multiply_many(const struct work *w, const struct act_q8 *act, float *out,
                          size_t out_stride)
{
    struct laid_out groups[SHARE];

    for (size_t g = 0; g < w->n_groups; g++) {
        prefetch_next(w, g);
        for (size_t p = 0; p < w->n_panels; p++) {
            lay_out(w->panels + (p * w->n_groups + g) * B1_GROUP_BYTES, &groups[p]);
        }
        for (size_t t = 0; t < act->n_tokens; t++) {
            const uint8_t *tables = act->sums + t * act->sums_stride + g * GROUP_SUMS_BYTES;
            const size_t at = t * act->d_stride + g * BLOCKS;
            float *to = out + t * out_stride;
            size_t p = 0;
            for (; p + TILE <= w->n_panels; p += TILE) {
                add_laid_out(&groups[p], TILE, tables, act, at, to + p * PANEL_ROWS);
            }
            if (p < w->n_panels) {
                add_laid_out(&groups[p], 1, tables, act, at, to + p * PANEL_ROWS);
            }
        }
    }
}

void b1_panels_neon(const uint8_t *panels, size_t n_panels, const uint8_t *next, size_t n_cols,
                    const struct act_q8 *act, float *out, size_t out_stride)
{
    const size_t n_groups = n_cols / B1_GROUP, bytes = n_groups * B1_GROUP_BYTES;

    assert(n_panels >= 1 && n_panels <= B1_PANELS_BEST);
    assert(n_cols % B1_GROUP == 0 && n_cols <= KERN_COLS_MAX);

    clear(act, n_panels * PANEL_ROWS, out, out_stride);
    for (size_t p = 0; p < n_panels; p += SHARE) {
        const size_t left = n_panels - p, n = left < SHARE ? left : SHARE;
        const uint8_t *at = panels + p * bytes;
        const struct work w = {.panels = at,
                               .next = left > n ? at + n * bytes : next,
                               .n_panels = n,
                               .n_groups = n_groups};
        (act->n_tokens < MANY ? multiply_few : multiply_many)(&w, act, out + p * PANEL_ROWS,
                                                              out_stride);
    }
}

/* Without tables: those of one group are made where they are wanted. */
void panel_b1_neon(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, float *out,
                   size_t out_stride)
{
    _Alignas(64) uint8_t tables[GROUP_SUMS_BYTES];

    assert(n_cols % B1_GROUP == 0 && n_cols <= KERN_COLS_MAX);

    if (act->sums) {
        b1_panels_neon(panel, 1, NULL, n_cols, act, out, out_stride);
        return;
    }
    clear(act, PANEL_ROWS, out, out_stride);
    for (size_t t = 0; t < act->n_tokens; t++) {
        for (size_t g = 0; g < n_cols / B1_GROUP; g++) {
            quad_sums_neon(act->q + t * act->q_stride + g * B1_GROUP, B1_GROUP, tables);
            add_group(panel + g * B1_GROUP_BYTES, 0, 1, tables, act, t * act->d_stride + g * BLOCKS,
                      out + t * out_stride);
        }
    }
}
