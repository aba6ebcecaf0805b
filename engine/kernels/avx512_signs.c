/* AVX-512 with VPOPCNTDQ, X1: binary weights times signs. A register is a line of the panel, a lane
 * a row. A weight's bit and an activation's differ where their product is +1, so the exclusive or
 * has the ones to count, by one instruction, and the sum over a group is 2 * (ones - 64); that
 * factor goes into the scales, which changes no rounding. */
#include "engine/kernels/avx512_common.h"

#define LINES 4 /* of a group */

INLINE __m512i ones(__m512i w, const int8_t *bits)
{
    return _mm512_popcnt_epi32(_mm512_xor_si512(w, broadcast4(bits)));
}

INLINE void x1_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const size_t n, float *out, size_t out_stride)
{
    __m512 acc[TOKENS];

    clear_rows(acc, n);
    for (size_t g = 0; g < n_cols / X1_GROUP; g++) {
        const uint8_t *group = panel + g * X1_GROUP_BYTES;
        const int8_t *bits = act->q + t0 * act->q_stride + g * (X1_GROUP / 8);
        const __m512 scale = scales(group), twice = _mm512_add_ps(scale, scale);
        __m512i w[LINES];

        UNROLL for (size_t l = 0; l < LINES; l++)
        {
            w[l] = _mm512_loadu_si512(group + 32 + l * X1_LINE_BYTES);
            prefetch(group + 32 + l * X1_LINE_BYTES);
        }
        UNROLL for (size_t t = 0; t < n; t++)
        {
            const int8_t *b = bits + t * act->q_stride;
            const __m512i first = _mm512_add_epi32(ones(w[0], b), ones(w[1], b + 4));
            const __m512i second = _mm512_add_epi32(ones(w[2], b + 8), ones(w[3], b + 12));
            const __m512i less = _mm512_sub_epi32(second, _mm512_set1_epi32(X1_GROUP / 2));
            const __m512 half = _mm512_cvtepi32_ps(_mm512_add_epi32(first, less));
            acc[t] = _mm512_fmadd_ps(twice, half, acc[t]);
        }
    }
    UNROLL for (size_t t = 0; t < n; t++)
    {
        acc[t] = _mm512_mul_ps(acc[t], _mm512_set1_ps(act->d[(t0 + t) * act->d_stride]));
    }
    store_rows(out + t0 * out_stride, out_stride, acc, n);
}

PANEL(panel_x1_avx512, X1_GROUP, x1_tokens)

float binarize_avx512(const float *x, const float *threshold, size_t n, uint8_t *bits)
{
    const __m512i exponent = _mm512_set1_epi32(0x7f800000);
    uint32_t broken = 0;

    assert(n % 32 == 0 && n <= KERN_COLS_MAX);

    for (size_t i = 0; i < n; i += 16) {
        const __m512 v = _mm512_loadu_ps(x + i), t = _mm512_loadu_ps(threshold + i);
        const __m512i top = _mm512_and_si512(_mm512_castps_si512(v), exponent);
        const uint16_t minus = (uint16_t)_mm512_cmp_ps_mask(v, t, _CMP_NGE_UQ);
        broken |= _mm512_cmpeq_epi32_mask(top, exponent);
        memcpy(bits + i / 8, &minus, sizeof(minus));
    }
    return broken ? __builtin_nanf("") : 1.0f;
}
