/* smmla, B1, for many tokens: a group's bits are laid out once as bytes of +1 and -1, negated so
 * that a test and an OR make them, two rows of eight columns to a register, and its activations
 * as two tokens of eight columns. Pairs of tokens pass over them, with all sums of a pass in
 * registers: what smmla leaves, two rows for two tokens in turn, is scaled by block as it stands
 * and put in order once a group. Few tokens are not worth that and go by tables
 * (neon_binary.c). */
#include "engine/kernels/i8mm_common.h"

#define BLOCKS (B1_GROUP / ACT_BLOCK)
#define OCTETS (B1_GROUP / 8) /* eight columns each */
#define BLOCK_OCTETS (OCTETS / BLOCKS)
#define PASS 4     /* pairs of rows in a pass */
#define SHARE 2    /* pairs of tokens that share a pass's weights */
#define AT_ONCE 64 /* tokens whose activations of a group are laid out */
#define MANY 12    /* tokens for which this is faster than tables */

struct weights {
    int8_t minus[OCTETS][PAIRS][16];
    float scale[PANEL_ROWS];
};

struct two_tokens {
    int8_t q[OCTETS][16];
    float d[BLOCKS][2];
};

static void lay_out_weights(const uint8_t *group, struct weights *ret)
{
    const uint8x16_t bits = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201u));
    const uint8x16_t second = vcombine_u8(vdup_n_u8(0), vdup_n_u8(1));

    for (size_t o = 0; o < OCTETS; o++) {
        const uint8x16_t w = vld1q_u8(group + 32 + o * PANEL_ROWS);
        UNROLL for (uint8_t p = 0; p < PAIRS; p++)
        {
            const uint8x16_t rows = vqtbl1q_u8(w, vaddq_u8(second, vdupq_n_u8(2 * p)));
            const uint8x16_t minus = vorrq_u8(vtstq_u8(rows, bits), vdupq_n_u8(1));
            vst1q_s8(ret->minus[o][p], vreinterpretq_s8_u8(minus));
        }
    }
    UNROLL for (int r = 0; r < QUADS; r++)
    {
        vst1q_f32(ret->scale + r * 4, scales(group, r));
    }
}

/* Group g of tokens a and b. */
static void lay_out_tokens(const struct act_q8 *act, size_t a, size_t b, size_t g,
                           struct two_tokens *ret)
{
    const int8_t *q = act->q + g * B1_GROUP;

    for (size_t o = 0; o < OCTETS; o += 2) {
        const int64x2_t x = vreinterpretq_s64_s8(vld1q_s8(q + a * act->q_stride + o * 8));
        const int64x2_t y = vreinterpretq_s64_s8(vld1q_s8(q + b * act->q_stride + o * 8));
        vst1q_s8(ret->q[o], vreinterpretq_s8_s64(vtrn1q_s64(x, y)));
        vst1q_s8(ret->q[o + 1], vreinterpretq_s8_s64(vtrn2q_s64(x, y)));
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        ret->d[i][0] = act->d[a * act->d_stride + g * BLOCKS + i];
        ret->d[i][1] = act->d[b * act->d_stride + g * BLOCKS + i];
    }
}

/* part -= d * the negated sums of block b, for the pairs of rows from `first` on and n pairs of
 * tokens */
INLINE void add_block_of_pairs(const struct weights *w, size_t first, const struct two_tokens *x,
                               const size_t n, size_t b, float32x4_t part[SHARE][PASS])
{
    int32x4_t sum[SHARE][PASS];

    UNROLL for (size_t o = 0; o < BLOCK_OCTETS; o++)
    {
        const int8_t *rows = w->minus[b * BLOCK_OCTETS + o][first];
        UNROLL for (size_t t = 0; t < n; t++)
        {
            const int8x16_t q = vld1q_s8(x[t].q[b * BLOCK_OCTETS + o]);
            UNROLL for (size_t p = 0; p < PASS; p++)
            {
                const int32x4_t before = o == 0 ? vdupq_n_s32(0) : sum[t][p];
                sum[t][p] = vmmlaq_s32(before, vld1q_s8(rows + p * 16), q);
            }
        }
    }
    UNROLL for (size_t t = 0; t < n; t++)
    {
        const float32x2_t two = vld1_f32(x[t].d[b]);
        const float32x4_t d = vcombine_f32(two, two);
        UNROLL for (size_t p = 0; p < PASS; p++)
        {
            part[t][p] = vfmsq_f32(part[t][p], vcvtq_f32_s32(sum[t][p]), d);
        }
    }
}

INLINE void add_scaled_rows(float32x4_t part, float32x4_t scale, float *out)
{
    vst1q_f32(out, vfmaq_f32(vld1q_f32(out), scale, part));
}

/* A group of a panel for n pairs of tokens, of which n_tokens have a result. */
INLINE void add_pairs(const struct weights *w, const struct two_tokens *x, const size_t n,
                      size_t n_tokens, float *out, size_t out_stride)
{
    for (size_t first = 0; first < PAIRS; first += PASS) {
        float32x4_t part[SHARE][PASS];

        UNROLL for (size_t t = 0; t < n; t++)
        {
            UNROLL for (size_t p = 0; p < PASS; p++)
            {
                part[t][p] = vdupq_n_f32(0);
            }
        }
        for (size_t b = 0; b < BLOCKS; b++) {
            add_block_of_pairs(w, first, x, n, b, part);
        }
        UNROLL for (size_t p = 0; p < PASS; p += 2)
        {
            const size_t row = 2 * (first + p);
            const float32x4_t scale = vld1q_f32(w->scale + row);
            UNROLL for (size_t t = 0; t < n; t++)
            {
                const float32x4_t a = part[t][p], b = part[t][p + 1];
                float *to = out + 2 * t * out_stride + row;
                add_scaled_rows(vuzp1q_f32(a, b), scale, to);
                if (2 * t + 1 < n_tokens) {
                    add_scaled_rows(vuzp2q_f32(a, b), scale, to + out_stride);
                }
            }
        }
    }
}

/* Tokens t.. t + n - 1, at most AT_ONCE, of group g of a panel. */
static void add_group(const struct weights *w, const struct two_tokens *x, size_t n, float *out,
                      size_t out_stride)
{
    size_t t = 0;

    for (; t + 2 * SHARE <= n; t += 2 * SHARE) {
        add_pairs(w, x + t / 2, SHARE, 2 * SHARE, out + t * out_stride, out_stride);
    }
    for (; t < n; t += 2) {
        add_pairs(w, x + t / 2, 1, n - t, out + t * out_stride, out_stride);
    }
}

void b1_panels_i8mm(const uint8_t *panels, size_t n_panels, const uint8_t *next, size_t n_cols,
                    const struct act_q8 *act, float *out, size_t out_stride)
{
    const size_t n_groups = n_cols / B1_GROUP, bytes = n_panels * B1_GROUP_BYTES;
    struct two_tokens x[AT_ONCE / 2];
    struct weights w;

    if (act->n_tokens < MANY) {
        b1_panels_neon(panels, n_panels, next, n_cols, act, out, out_stride);
        return;
    }
    assert(n_panels >= 1 && n_panels <= B1_PANELS_BEST);
    assert(n_cols % B1_GROUP == 0 && n_cols <= KERN_COLS_MAX);

    for (size_t t = 0; t < act->n_tokens; t++) {
        memset(out + t * out_stride, 0, n_panels * PANEL_ROWS * sizeof(*out));
    }
    for (size_t t = 0; t < act->n_tokens; t += AT_ONCE) {
        const size_t left = act->n_tokens - t, n = left < AT_ONCE ? left : AT_ONCE;
        for (size_t g = 0; g < n_groups; g++) {
            for (size_t i = 0; next && i < bytes; i += 64) {
                __builtin_prefetch(next + g * bytes + i);
            }
            for (size_t i = 0; i < n; i += 2) {
                lay_out_tokens(act, t + i, t + (i + 1 < n ? i + 1 : i), g, &x[i / 2]);
            }
            for (size_t p = 0; p < n_panels; p++) {
                lay_out_weights(panels + (p * n_groups + g) * B1_GROUP_BYTES, &w);
                add_group(&w, x, n, out + t * out_stride + p * PANEL_ROWS, out_stride);
            }
        }
    }
}
