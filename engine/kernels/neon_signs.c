/* NEON, X1: binary weights times signs. A weight's bit and an activation's differ where their
 * product is +1, so the exclusive or has the ones to count, by one instruction a byte. A lane of 32
 * bits is a row; its bytes are added up over the four lines of a group, at most 4 * 8 in each,
 * before they are added to each other. The sum over a group is 2 * (ones - 64), and the factor goes
 * into the scales, which changes no rounding. */
#include "engine/kernels/neon_common.h"

#define LINES 4 /* of a group */

INLINE void x1_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const size_t n, float *out, size_t out_stride)
{
    float32x4_t acc[TOKENS][QUADS];

    UNROLL for (size_t t = 0; t < n; t++)
    {
        UNROLL for (int r = 0; r < QUADS; r++)
        {
            acc[t][r] = vdupq_n_f32(0);
        }
    }
    for (size_t g = 0; g < n_cols / X1_GROUP; g++) {
        const uint8_t *group = panel + g * X1_GROUP_BYTES;
        const int8_t *bits = act->q + t0 * act->q_stride + g * (X1_GROUP / 8);

        UNROLL for (int r = 0; r < QUADS; r++)
        {
            const float32x4_t scale = scales(group, r), twice = vaddq_f32(scale, scale);
            uint8x16_t w[LINES];
            UNROLL for (int l = 0; l < LINES; l++)
            {
                w[l] = vld1q_u8(group + 32 + l * X1_LINE_BYTES + r * 16);
            }
            UNROLL for (size_t t = 0; t < n; t++)
            {
                uint8x16_t sum = vdupq_n_u8(0);
                UNROLL for (int l = 0; l < LINES; l++)
                {
                    const int8x16_t b = broadcast4(bits + t * act->q_stride + l * 4);
                    sum = vaddq_u8(sum, vcntq_u8(veorq_u8(w[l], vreinterpretq_u8_s8(b))));
                }
                const uint32x4_t ones = vpaddlq_u16(vpaddlq_u8(sum));
                const int32x4_t half =
                    vsubq_s32(vreinterpretq_s32_u32(ones), vdupq_n_s32(X1_GROUP / 2));
                acc[t][r] = vfmaq_f32(acc[t][r], twice, vcvtq_f32_s32(half));
            }
        }
        __builtin_prefetch(group + AHEAD);
    }
    UNROLL for (size_t t = 0; t < n; t++)
    {
        UNROLL for (int r = 0; r < QUADS; r++)
        {
            vst1q_f32(out + (t0 + t) * out_stride + 4 * r,
                      vmulq_n_f32(acc[t][r], act->d[(t0 + t) * act->d_stride]));
        }
    }
}

PANEL_FN(panel_x1_neon, X1_GROUP,
         BY(TOKENS, x1_tokens, out, out_stride) BY(1, x1_tokens, out, out_stride))

/* Eight lanes of all bits or none, as eight bits. */
INLINE uint8_t bits_of(uint32x4_t low, uint32x4_t high)
{
    static const uint8_t places[8] = {1, 2, 4, 8, 16, 32, 64, 128};
    const uint8x8_t all = vmovn_u16(vcombine_u16(vmovn_u32(low), vmovn_u32(high)));

    return vaddv_u8(vand_u8(all, vld1_u8(places)));
}

float binarize_neon(const float *x, const float *threshold, size_t n, uint8_t *bits)
{
    const uint32x4_t exponent = vdupq_n_u32(0x7f800000);
    uint32x4_t broken = vdupq_n_u32(0);

    assert(n % 32 == 0 && n <= KERN_COLS_MAX);

    for (size_t i = 0; i < n; i += 8) {
        uint32x4_t minus[2];
        UNROLL for (int h = 0; h < 2; h++)
        {
            const float32x4_t v = vld1q_f32(x + i + 4 * h), t = vld1q_f32(threshold + i + 4 * h);
            const uint32x4_t top = vandq_u32(vreinterpretq_u32_f32(v), exponent);
            minus[h] = vmvnq_u32(vcgeq_f32(v, t));
            broken = vorrq_u32(broken, vceqq_u32(top, exponent));
        }
        bits[i / 8] = bits_of(minus[0], minus[1]);
    }
    return vmaxvq_u32(broken) ? __builtin_nanf("") : 1.0f;
}
