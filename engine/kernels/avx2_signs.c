/* AVX2, X1: binary weights times signs. A weight's bit and an activation's differ where their
 * product is +1, so the exclusive or has the ones to count: both nibbles of every byte by a table.
 * A lane is a row, and its four bytes are added up over the four lines of a group, at most 4 * 8 in
 * each, before they are added to each other; the sum over the group is 2 * ones - 128. */
#include "engine/kernels/avx2_common.h"

#define LINES 4    /* of a group */
#define AT_ONCE 2u /* tokens that share a reading of the weights */

/* The ones in each byte. */
INLINE __m256i ones(__m256i x)
{
    const __m256i nibble = _mm256_set1_epi8(15);
    const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1,
                                           2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const __m256i low = _mm256_shuffle_epi8(table, _mm256_and_si256(x, nibble));
    const __m256i high =
        _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(x, 4), nibble));

    return _mm256_add_epi8(low, high);
}

INLINE void x1_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const size_t n, float *out, size_t out_stride)
{
    __m256 acc[AT_ONCE][2];

    for (size_t t = 0; t < n; t++) {
        acc[t][0] = acc[t][1] = _mm256_setzero_ps();
    }
    for (size_t g = 0; g < n_cols / X1_GROUP; g++) {
        const uint8_t *group = panel + g * X1_GROUP_BYTES;
        const int8_t *bits = act->q + t0 * act->q_stride + g * (X1_GROUP / 8);
        __m256i sum[AT_ONCE][2];
        __m256 scale[2];

        for (size_t l = 0; l < LINES; l++) {
            const uint8_t *line = group + 32 + l * X1_LINE_BYTES;
            const __m256i w[2] = {load(line), load(line + 32)};
            prefetch(line);
            UNROLL for (size_t t = 0; t < n; t++)
            {
                const __m256i b = broadcast4(bits + t * act->q_stride + l * 4);
                UNROLL for (size_t h = 0; h < 2; h++)
                {
                    const __m256i x = ones(_mm256_xor_si256(w[h], b));
                    sum[t][h] = l == 0 ? x : _mm256_add_epi8(sum[t][h], x);
                }
            }
        }
        scales(group, scale);
        UNROLL for (size_t t = 0; t < n; t++)
        {
            UNROLL for (size_t h = 0; h < 2; h++)
            {
                const __m256i twice = widen(_mm256_maddubs_epi16(sum[t][h], _mm256_set1_epi8(2)));
                const __m256i part = _mm256_sub_epi32(twice, _mm256_set1_epi32(X1_GROUP));
                acc[t][h] = _mm256_fmadd_ps(scale[h], _mm256_cvtepi32_ps(part), acc[t][h]);
            }
        }
    }
    for (size_t t = 0; t < n; t++) {
        const __m256 d = _mm256_broadcast_ss(act->d + (t0 + t) * act->d_stride);
        for (size_t h = 0; h < 2; h++) {
            _mm256_storeu_ps(out + (t0 + t) * out_stride + 8 * h, _mm256_mul_ps(acc[t][h], d));
        }
    }
}

PANEL_FN(panel_x1_avx2, X1_GROUP,
         BY(AT_ONCE, x1_tokens, out, out_stride) BY(1, x1_tokens, out, out_stride))

float binarize_avx2(const float *x, const float *threshold, size_t n, uint8_t *bits)
{
    const __m256i exponent = _mm256_set1_epi32(0x7f800000);
    __m256i broken = _mm256_setzero_si256();

    assert(n % 32 == 0 && n <= KERN_COLS_MAX);

    for (size_t i = 0; i < n; i += 8) {
        const __m256 v = _mm256_loadu_ps(x + i), t = _mm256_loadu_ps(threshold + i);
        const __m256i top = _mm256_and_si256(_mm256_castps_si256(v), exponent);
        bits[i / 8] = (uint8_t)_mm256_movemask_ps(_mm256_cmp_ps(v, t, _CMP_NGE_UQ));
        broken = _mm256_or_si256(broken, _mm256_cmpeq_epi32(top, exponent));
    }
    return _mm256_testz_si256(broken, broken) ? 1.0f : __builtin_nanf("");
}
