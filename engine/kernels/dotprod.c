/* ARM dot products: sdot adds four int8 products of a row straight into its int32 lane.
 *
 * B1: masks of -1 and 0 go into sdot as they are, so a lane collects -sum(kept), and the sum over +1
 * and -1 weights is -2 * lane - sum(all). T2 uses its codes, I8 its weights. The activations of four
 * tiles lie in one register and enter by lane, without a broadcast. */
#include "engine/kernels/neon_common.h"

#define TOKENS 4 /* tokens that share one expansion: 16 accumulators of the 32 registers */

/* The lane of an instruction must be a constant; this one is after inlining. */
INLINE int32x4_t dot_lane(int32x4_t sum, int8x16_t w, int8x16_t q, int lane)
{
    switch (lane) {
    case 0:
        return vdotq_laneq_s32(sum, w, q, 0);
    case 1:
        return vdotq_laneq_s32(sum, w, q, 1);
    case 2:
        return vdotq_laneq_s32(sum, w, q, 2);
    default:
        return vdotq_laneq_s32(sum, w, q, 3);
    }
}

/* 16 columns of B1: four tiles. */
INLINE void b1_tiles(const uint8_t *tile, const int8x16_t *x, const size_t n,
                     int32x4_t sum[TOKENS][QUADS])
{
    const uint8x16_t bits = bit_of_byte();

    UNROLL for (int c = 0; c < 4; c++)
    {
        const uint8x16_t two = vld1q_u8(tile + c / 2 * 16);
        UNROLL for (int r = 0; r < QUADS; r++)
        {
            const uint8x16_t spread = vqtbl1q_u8(two, bytes_of_quad(c % 2, r));
            const int8x16_t mask = vreinterpretq_s8_u8(vtstq_u8(spread, bits));
            UNROLL for (size_t t = 0; t < n; t++)
            {
                sum[t][r] = dot_lane(sum[t][r], mask, x[t], c);
            }
        }
    }
}

INLINE void b1_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const size_t n, float *out, size_t out_stride)
{
    float32x4_t acc[TOKENS][QUADS], part[TOKENS][QUADS];

    memset(acc, 0, sizeof(acc));
    for (size_t g = 0; g < n_cols / B1_GROUP; g++) {
        const uint8_t *group = panel + g * B1_GROUP_BYTES;
        memset(part, 0, sizeof(part));
        for (size_t b = 0; b < 4; b++) {
            int32x4_t sum[TOKENS][QUADS];

            __builtin_prefetch(group + 32 + b * 64 + AHEAD);
            memset(sum, 0, sizeof(sum));
            for (size_t h = 0; h < 2; h++) {
                const size_t col = g * B1_GROUP + b * ACT_BLOCK + h * 16;
                int8x16_t x[TOKENS];
                UNROLL for (size_t t = 0; t < n; t++)
                {
                    x[t] = vld1q_s8(act->q + (t0 + t) * act->q_stride + col);
                }
                b1_tiles(group + 32 + b * 64 + h * 32, x, n, sum);
            }
            UNROLL for (size_t t = 0; t < n; t++)
            {
                const size_t at = (t0 + t) * act->d_stride + g * 4 + b;
                const int32x4_t less = vdupq_n_s32(-act->s[at]);
                UNROLL for (int r = 0; r < QUADS; r++)
                {
                    const int32x4_t s = vmlsq_n_s32(less, sum[t][r], 2);
                    part[t][r] = add_block(act->d[at], s, part[t][r]);
                }
            }
        }
        UNROLL for (size_t t = 0; t < n; t++)
        {
            UNROLL for (int r = 0; r < QUADS; r++)
            {
                acc[t][r] = vfmaq_f32(acc[t][r], scales(group, r), part[t][r]);
            }
        }
    }
    for (size_t t = 0; t < n; t++) {
        for (int r = 0; r < QUADS; r++) {
            vst1q_f32(out + (t0 + t) * out_stride + r * 4, acc[t][r]);
        }
    }
}

INLINE void i8_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const size_t n, float *out, size_t out_stride)
{
    float32x4_t acc[TOKENS][QUADS];

    memset(acc, 0, sizeof(acc));
    for (size_t g = 0; g < n_cols / I8_GROUP; g++) {
        const uint8_t *group = panel + g * I8_GROUP_BYTES;
        const int8_t *tile = (const int8_t *)group + 32;
        int32x4_t sum[TOKENS][QUADS];

        memset(sum, 0, sizeof(sum));
        for (size_t h = 0; h < 2; h++) {
            int8x16_t x[TOKENS];
            UNROLL for (size_t t = 0; t < n; t++)
            {
                x[t] = vld1q_s8(act->q + (t0 + t) * act->q_stride + g * I8_GROUP + h * 16);
            }
            UNROLL for (int c = 0; c < 4; c++)
            {
                __builtin_prefetch(tile + h * 256 + c * 64 + AHEAD);
                UNROLL for (int r = 0; r < QUADS; r++)
                {
                    const int8x16_t w = vld1q_s8(tile + h * 256 + c * 64 + r * 16);
                    UNROLL for (size_t t = 0; t < n; t++)
                    {
                        sum[t][r] = dot_lane(sum[t][r], w, x[t], c);
                    }
                }
            }
        }
        UNROLL for (size_t t = 0; t < n; t++)
        {
            const float d = act->d[(t0 + t) * act->d_stride + g];
            UNROLL for (int r = 0; r < QUADS; r++)
            {
                const float32x4_t part = add_block(d, sum[t][r], vdupq_n_f32(0));
                acc[t][r] = vfmaq_f32(acc[t][r], scales(group, r), part);
            }
        }
    }
    for (size_t t = 0; t < n; t++) {
        for (int r = 0; r < QUADS; r++) {
            vst1q_f32(out + (t0 + t) * out_stride + r * 4, acc[t][r]);
        }
    }
}

/* One line of T2: 16 columns, four planes of 2 bits. */
INLINE void t2_line(const uint8_t *line, const int8x16_t *x, const size_t n,
                    int32x4_t sum[TOKENS][QUADS])
{
    const uint8x16_t threes = vdupq_n_u8(3);

    UNROLL for (int r = 0; r < QUADS; r++)
    {
        const uint8x16_t w = vld1q_u8(line + r * 16);
        const int8x16_t codes[4] = {
            vreinterpretq_s8_u8(vandq_u8(w, threes)),
            vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(w, 2), threes)),
            vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(w, 4), threes)),
            vreinterpretq_s8_u8(vshrq_n_u8(w, 6)),
        };
        UNROLL for (int p = 0; p < 4; p++)
        {
            UNROLL for (size_t t = 0; t < n; t++)
            {
                sum[t][r] = dot_lane(sum[t][r], codes[p], x[t], p);
            }
        }
    }
}

INLINE void t2_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const size_t n, float *out, size_t out_stride)
{
    float32x4_t acc[TOKENS][QUADS];

    memset(acc, 0, sizeof(acc));
    for (size_t g = 0; g < n_cols / T256_GROUP; g++) {
        const uint8_t *group = panel + g * T256_GROUP_BYTES;
        int32x4_t sum[TOKENS][QUADS];

        UNROLL for (size_t t = 0; t < n; t++)
        {
            const int32x4_t less = vdupq_n_s32(-act->s[(t0 + t) * act->d_stride + g]);
            UNROLL for (int r = 0; r < QUADS; r++)
            {
                sum[t][r] = less; /* weight = code - 1 */
            }
        }
        for (size_t l = 0; l < 16; l++) {
            int8x16_t x[TOKENS];
            __builtin_prefetch(group + 32 + l * 64 + AHEAD);
            UNROLL for (size_t t = 0; t < n; t++)
            {
                x[t] = vld1q_s8(act->q + (t0 + t) * act->q_stride + g * T256_GROUP + l * 16);
            }
            t2_line(group + 32 + l * 64, x, n, sum);
        }
        UNROLL for (size_t t = 0; t < n; t++)
        {
            const float d = act->d[(t0 + t) * act->d_stride + g];
            UNROLL for (int r = 0; r < QUADS; r++)
            {
                const float32x4_t part = add_block(d, sum[t][r], vdupq_n_f32(0));
                acc[t][r] = vfmaq_f32(acc[t][r], scales(group, r), part);
            }
        }
    }
    for (size_t t = 0; t < n; t++) {
        for (int r = 0; r < QUADS; r++) {
            vst1q_f32(out + (t0 + t) * out_stride + r * 4, acc[t][r]);
        }
    }
}

PANEL(panel_b1_dotprod, B1_GROUP, b1_tokens, TOKENS)
PANEL(panel_i8_dotprod, I8_GROUP, i8_tokens, TOKENS)
PANEL(panel_t256_dotprod, T256_GROUP, t2_tokens, TOKENS)
