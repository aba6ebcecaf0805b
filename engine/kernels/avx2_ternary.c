/* AVX2, two-bit codes: T64, T128, T256 and TROW.
 *
 * A line holds four columns of two-bit codes in each 32-bit lane, as four planes. A plane, masked
 * out as bytes 0..3, goes through maddubs; the weight is code - 1, so that the sum of the
 * activations is taken off once. A pair is within 2 * 3 * 128 = 768, a line of four planes within
 * 3,072: eight lines (24,576) are added in int16 before they are widened.
 *
 * One token alone is a matter of instructions per byte of weights, so there two of the three shifts
 * are left out: the planes at bits 3:2 of the bytes and of the shifted bytes are kept as 4 * code
 * (a pair within 3,072, eight lines within 24,576; both planes are one sum where there are at most
 * four lines), and their int16 sums are shifted instead, which is exact. */
#include "engine/kernels/avx2_common.h"

/* n_lines lines, at most 8: adds sum(code * q) to sum. */
INLINE void lines_shifted(const uint8_t *line, const int8_t *q, size_t q_stride, const size_t n,
                          const size_t n_lines, __m256i (*sum)[2])
{
    const __m256i threes = _mm256_set1_epi8(3);
    __m256i part[TOKENS][2];

    clear_sums(part, n);
    for (size_t l = 0; l < n_lines; l++) {
        const __m256i w0 = load(line + l * 64), w1 = load(line + l * 64 + 32);
        prefetch(line + l * 64);
        UNROLL for (int p = 0; p < 4; p++)
        {
            const __m256i c0 = _mm256_and_si256(_mm256_srli_epi16(w0, 2 * p), threes);
            const __m256i c1 = _mm256_and_si256(_mm256_srli_epi16(w1, 2 * p), threes);
            UNROLL for (size_t t = 0; t < n; t++)
            {
                const __m256i x = broadcast4(q + t * q_stride + l * 16 + (size_t)p * 4);
                add16(&part[t][0], _mm256_maddubs_epi16(c0, x));
                add16(&part[t][1], _mm256_maddubs_epi16(c1, x));
            }
        }
    }
    UNROLL for (size_t t = 0; t < n; t++)
    {
        sum[t][0] = _mm256_add_epi32(sum[t][0], widen(part[t][0]));
        sum[t][1] = _mm256_add_epi32(sum[t][1], widen(part[t][1]));
    }
}

/* The same for one token. */
INLINE void lines_kept(const uint8_t *line, const int8_t *q, const size_t n_lines, __m256i sum[2])
{
    const __m256i low = _mm256_set1_epi8(3), high = _mm256_set1_epi8(12);
    __m256i once[2], second[2], fourth[2];

    UNROLL for (size_t l = 0; l < n_lines; l++)
    {
        const __m256i x0 = broadcast4(q + l * 16), x1 = broadcast4(q + l * 16 + 4);
        const __m256i x2 = broadcast4(q + l * 16 + 8), x3 = broadcast4(q + l * 16 + 12);
        prefetch(line + l * 64);
        UNROLL for (size_t h = 0; h < 2; h++)
        {
            const __m256i w = load(line + l * 64 + h * 32), w4 = _mm256_srli_epi16(w, 4);
            const __m256i a = _mm256_maddubs_epi16(_mm256_and_si256(w, low), x0);
            const __m256i b = _mm256_maddubs_epi16(_mm256_and_si256(w, high), x1);
            const __m256i c = _mm256_maddubs_epi16(_mm256_and_si256(w4, low), x2);
            const __m256i d = _mm256_maddubs_epi16(_mm256_and_si256(w4, high), x3);
            if (l == 0) {
                once[h] = a;
                second[h] = b;
                fourth[h] = d;
            } else {
                add16(&once[h], a);
                add16(&second[h], b);
                add16(&fourth[h], d);
            }
            add16(&once[h], c);
        }
    }
    UNROLL for (size_t h = 0; h < 2; h++)
    {
        if (n_lines <= 4) {
            add16(&second[h], fourth[h]);
        } else {
            add16(&once[h], _mm256_srai_epi16(fourth[h], 2));
        }
        add16(&once[h], _mm256_srai_epi16(second[h], 2));
        add32(&sum[h], widen(once[h]));
    }
}

INLINE void lines_sum(const uint8_t *line, const int8_t *q, size_t q_stride, const size_t n,
                      const size_t n_lines, __m256i (*sum)[2])
{
    if (n > 1) {
        lines_shifted(line, q, q_stride, n, n_lines, sum);
    } else {
        lines_kept(line, q, n_lines, sum[0]);
    }
}

/* weight = code - 1: the sums start at -sum(q) of block b. */
INLINE void start_sums(const struct act_q8 *act, size_t t0, const size_t n, size_t b,
                       __m256i (*sum)[2])
{
    UNROLL for (size_t t = 0; t < n; t++)
    {
        const __m256i all = _mm256_set1_epi32(act->s[(t0 + t) * act->d_stride + b]);
        sum[t][0] = sum[t][1] = _mm256_sub_epi32(_mm256_setzero_si256(), all);
    }
}

/* T64 and T128: groups of several blocks. */
INLINE void blocks_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                          const size_t n, float *out, size_t out_stride, const size_t group_cols)
{
    const size_t blocks = group_cols / ACT_BLOCK;
    __m256 acc[TOKENS][2], part[TOKENS][2], scale[2];

    clear_rows(acc, n);
    for (size_t g = 0; g < n_cols / group_cols; g++) {
        const uint8_t *group = panel + g * (32 + group_cols / T_LINE * T_LINE_BYTES);
        scales(group, scale);
        clear_rows(part, n);
        for (size_t i = 0; i < blocks; i++) {
            const size_t b = g * blocks + i;
            const uint8_t *line = group + 32 + i * 2 * T_LINE_BYTES;
            __m256i sum[TOKENS][2];

            start_sums(act, t0, n, b, sum);
            lines_sum(line, act->q + t0 * act->q_stride + b * ACT_BLOCK, act->q_stride, n, 2, sum);
            UNROLL for (size_t t = 0; t < n; t++)
            {
                const float d = act->d[(t0 + t) * act->d_stride + b];
                part[t][0] = add_block(d, sum[t][0], part[t][0]);
                part[t][1] = add_block(d, sum[t][1], part[t][1]);
            }
        }
        UNROLL for (size_t t = 0; t < n; t++)
        {
            acc[t][0] = _mm256_fmadd_ps(scale[0], part[t][0], acc[t][0]);
            acc[t][1] = _mm256_fmadd_ps(scale[1], part[t][1], acc[t][1]);
        }
    }
    store_rows(out + t0 * out_stride, out_stride, acc, n);
}

INLINE void t64_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                       const size_t n, float *out, size_t out_stride)
{
    blocks_tokens(panel, n_cols, act, t0, n, out, out_stride, 64);
}

INLINE void t128_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                        const size_t n, float *out, size_t out_stride)
{
    blocks_tokens(panel, n_cols, act, t0, n, out, out_stride, 128);
}

INLINE void t256_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                        const size_t n, float *out, size_t out_stride)
{
    __m256 acc[TOKENS][2], scale[2];

    clear_rows(acc, n);
    for (size_t g = 0; g < n_cols / T256_GROUP; g++) {
        const uint8_t *group = panel + g * T256_GROUP_BYTES;
        const int8_t *q = act->q + t0 * act->q_stride + g * T256_GROUP;
        __m256i sum[TOKENS][2];

        scales(group, scale);
        start_sums(act, t0, n, g, sum);
        lines_sum(group + 32, q, act->q_stride, n, 8, sum);
        lines_sum(group + 32 + 512, q + 128, act->q_stride, n, 8, sum);
        UNROLL for (size_t t = 0; t < n; t++)
        {
            add_group(act->d[(t0 + t) * act->d_stride + g], sum[t], scale, acc[t]);
        }
    }
    store_rows(out + t0 * out_stride, out_stride, acc, n);
}

INLINE void trow_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                        const size_t n, float *out, size_t out_stride)
{
    const __m256 scale[2] = {_mm256_loadu_ps((const float *)panel),
                             _mm256_loadu_ps((const float *)(panel + 32))};
    const uint8_t *lines = panel + TROW_HEAD_BYTES;
    const int8_t *q = act->q + t0 * act->q_stride;
    const size_t n_lines = n_cols / T_LINE; /* a multiple of 4 */
    __m256i sum[TOKENS][2];
    size_t l = 0;

    start_sums(act, t0, n, 0, sum);
    for (; l + 8 <= n_lines; l += 8) {
        lines_sum(lines + l * T_LINE_BYTES, q + l * T_LINE, act->q_stride, n, 8, sum);
    }
    if (l < n_lines) {
        lines_sum(lines + l * T_LINE_BYTES, q + l * T_LINE, act->q_stride, n, 4, sum);
    }
    UNROLL for (size_t t = 0; t < n; t++)
    {
        const __m256 r = _mm256_set1_ps(act->d[(t0 + t) * act->d_stride]);
        float *row = out + (t0 + t) * out_stride;
        for (size_t h = 0; h < 2; h++) {
            const __m256 part = _mm256_mul_ps(_mm256_cvtepi32_ps(sum[t][h]), scale[h]);
            _mm256_storeu_ps(row + h * 8, _mm256_div_ps(part, r));
        }
    }
}

PANEL(panel_t64_avx2, 64, t64_tokens)
PANEL(panel_t128_avx2, 128, t128_tokens)
PANEL(panel_t256_avx2, T256_GROUP, t256_tokens)
PANEL(panel_trow_avx2, TROW_GROUP, trow_tokens)
