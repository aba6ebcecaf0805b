/* AVX2, four-bit codes: N4 and N4M.
 *
 * The low and the high bits of a tile's bytes are the codes 0..15 of two column quads. A pair is
 * within 2 * 15 * 128 = 3,840, so that a whole block, eight quads (30,720), is added in int16. N4's
 * weight is code - 8: eight times the sum of the activations is taken off. */
#include "engine/kernels/avx2_common.h"

INLINE void n4_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const size_t n, float *out, size_t out_stride)
{
    __m256 acc[TOKENS][2], scale[2];

    clear_rows(acc, n);
    for (size_t g = 0; g < n_cols / N4_GROUP; g++) {
        const uint8_t *group = panel + g * N4_GROUP_BYTES;
        __m256i part[TOKENS][2];

        nibbles(group + 32, act->q + t0 * act->q_stride + g * N4_GROUP, act->q_stride, n, part);
        scales(group, scale);
        UNROLL for (size_t t = 0; t < n; t++)
        {
            const size_t at = (t0 + t) * act->d_stride + g;
            const __m256i offset = _mm256_slli_epi32(_mm256_set1_epi32(act->s[at]), 3);
            const __m256i sum[2] = {_mm256_sub_epi32(widen(part[t][0]), offset),
                                    _mm256_sub_epi32(widen(part[t][1]), offset)};
            add_group(act->d[at], sum, scale, acc[t]);
        }
    }
    store_rows(out + t0 * out_stride, out_stride, acc, n);
}

INLINE void n4m_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                       const size_t n, float *out, size_t out_stride)
{
    __m256 acc[TOKENS][2], scale[2], min[2];

    clear_rows(acc, n);
    for (size_t g = 0; g < n_cols / N4_GROUP; g++) {
        const uint8_t *group = panel + g * N4M_GROUP_BYTES;
        __m256i part[TOKENS][2];

        nibbles(group + 64, act->q + t0 * act->q_stride + g * N4_GROUP, act->q_stride, n, part);
        scales(group, scale);
        scales(group + 32, min);
        UNROLL for (size_t t = 0; t < n; t++)
        {
            const size_t at = (t0 + t) * act->d_stride + g;
            const __m256i sum[2] = {widen(part[t][0]), widen(part[t][1])};
            const __m256 all = _mm256_set1_ps(__builtin_fmaf(act->d[at], (float)act->s[at], 0.0f));
            add_group(act->d[at], sum, scale, acc[t]);
            acc[t][0] = _mm256_fmadd_ps(min[0], all, acc[t][0]);
            acc[t][1] = _mm256_fmadd_ps(min[1], all, acc[t][1]);
        }
    }
    store_rows(out + t0 * out_stride, out_stride, acc, n);
}

PANEL(panel_n4_avx2, N4_GROUP, n4_tokens)
PANEL(panel_n4m_avx2, N4_GROUP, n4m_tokens)
