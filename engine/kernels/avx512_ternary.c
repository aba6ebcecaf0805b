/* AVX-512 with VNNI, two-bit codes: T64, T128, T256 and TROW.
 *
 * A line is one register of four planes of codes. The weight is code - 1, so the lanes start at
 * -sum(q). For several tokens a plane is shifted down to bytes 0..3 once. One token alone has one
 * chain of additions, whose latency would be what it waits for: there each plane is kept at its
 * place in the byte and added up by itself, as 1, 4, 16 or 64 times its sum, for at most 256
 * columns (engine/NUMERICS.md); four chains run side by side, and the sums are shifted instead of
 * the codes, which is exact. */
#include "engine/kernels/avx512_common.h"

#define PAIR 2 /* panels, at most */

/* Sums of one panel after the other. */
#define SUMS (PAIR * TOKENS)

/* Two panels are read side by side, so what is asked for is the same place of the next two. */
INLINE void prefetch_pair(const uint8_t *at, size_t bytes, const size_t n_panels)
{
    if (n_panels == 1) {
        prefetch(at);
    } else {
        _mm_prefetch((const char *)at + PAIR * bytes, _MM_HINT_T1);
    }
}

/* Adds sum(code * q) over n_lines lines to sum. The next panel's lines lie `bytes` further on. */
INLINE void lines_shifted(const uint8_t *line, size_t bytes, const size_t n_panels, const int8_t *q,
                          size_t q_stride, const size_t n, const size_t n_lines, __m512i *sum)
{
    const __m512i threes = _mm512_set1_epi8(3);

    for (size_t l = 0; l < n_lines; l++) {
        __m512i w[PAIR][4];
        UNROLL for (size_t i = 0; i < n_panels; i++)
        {
            const uint8_t *at = line + i * bytes + l * T_LINE_BYTES;
            const __m512i codes = _mm512_loadu_si512(at);
            prefetch_pair(at, bytes, n_panels);
            w[i][0] = _mm512_and_si512(codes, threes);
            w[i][1] = _mm512_and_si512(_mm512_srli_epi16(codes, 2), threes);
            w[i][2] = _mm512_and_si512(_mm512_srli_epi16(codes, 4), threes);
            w[i][3] = _mm512_and_si512(_mm512_srli_epi16(codes, 6), threes);
        }
        UNROLL for (size_t p = 0; p < 4; p++)
        {
            UNROLL for (size_t t = 0; t < n; t++)
            {
                const __m512i x = broadcast4(q + t * q_stride + l * T_LINE + p * 4);
                UNROLL for (size_t i = 0; i < n_panels; i++)
                {
                    __m512i *to = &sum[i * TOKENS + t];
                    *to = _mm512_dpbusd_epi32(*to, w[i][p], x);
                }
            }
        }
    }
}

/* The same for one token and at most 16 lines. */
INLINE __m512i lines_kept(const uint8_t *line, const int8_t *q, size_t n_lines, __m512i sum)
{
    const __m512i plane1 = _mm512_set1_epi8(3), plane2 = _mm512_set1_epi8(12);
    const __m512i plane3 = _mm512_set1_epi8(48), plane4 = _mm512_set1_epi8((char)192);
    __m512i a = sum, b = _mm512_setzero_si512(), c = b, d = b;

    for (size_t l = 0; l < n_lines; l++) {
        const __m512i codes = _mm512_loadu_si512(line + l * T_LINE_BYTES);
        const int8_t *x = q + l * T_LINE;
        prefetch(line + l * T_LINE_BYTES);
        a = _mm512_dpbusd_epi32(a, _mm512_and_si512(codes, plane1), broadcast4(x));
        b = _mm512_dpbusd_epi32(b, _mm512_and_si512(codes, plane2), broadcast4(x + 4));
        c = _mm512_dpbusd_epi32(c, _mm512_and_si512(codes, plane3), broadcast4(x + 8));
        d = _mm512_dpbusd_epi32(d, _mm512_and_si512(codes, plane4), broadcast4(x + 12));
    }
    const __m512i ab = _mm512_add_epi32(a, _mm512_srai_epi32(b, 2));
    const __m512i cd = _mm512_add_epi32(_mm512_srai_epi32(c, 4), _mm512_srai_epi32(d, 6));
    return _mm512_add_epi32(ab, cd);
}

/* T64 and T128: groups of several blocks. */
INLINE void blocks_tokens(const uint8_t *panel, const size_t n_panels, size_t n_cols,
                          const struct act_q8 *act, size_t t0, const size_t n, float *out,
                          size_t out_stride, const size_t group_cols)
{
    const size_t blocks = group_cols / ACT_BLOCK;
    const size_t group_bytes = 32 + group_cols / T_LINE * T_LINE_BYTES;
    const size_t bytes = n_cols / group_cols * group_bytes;
    __m512 acc[SUMS], part[SUMS];

    clear_rows(acc, SUMS);
    for (size_t g = 0; g < n_cols / group_cols; g++) {
        const uint8_t *group = panel + g * group_bytes;

        clear_rows(part, SUMS);
        for (size_t b = g * blocks; b < (g + 1) * blocks; b++) {
            const uint8_t *line = group + 32 + b % blocks * 2 * T_LINE_BYTES;
            const int8_t *q = act->q + t0 * act->q_stride + b * ACT_BLOCK;
            __m512i sum[SUMS];

            UNROLL for (size_t i = 0; i < n_panels; i++)
            {
                start_sums(act, t0, n, b, -1, sum + i * TOKENS);
            }
            lines_shifted(line, bytes, n_panels, q, act->q_stride, n, 2, sum);
            UNROLL for (size_t i = 0; i < n_panels * TOKENS; i++)
            {
                if (i % TOKENS < n) {
                    const float d = act->d[(t0 + i % TOKENS) * act->d_stride + b];
                    part[i] = add_block(d, sum[i], part[i]);
                }
            }
        }
        UNROLL for (size_t i = 0; i < n_panels * TOKENS; i++)
        {
            if (i % TOKENS < n) {
                acc[i] = _mm512_fmadd_ps(scales(group + i / TOKENS * bytes), part[i], acc[i]);
            }
        }
    }
    UNROLL for (size_t i = 0; i < n_panels; i++)
    {
        store_rows(out + t0 * out_stride + i * PANEL_ROWS, out_stride, acc + i * TOKENS, n);
    }
}

INLINE void t64_tokens(const uint8_t *panel, const size_t n_panels, size_t n_cols,
                       const struct act_q8 *act, size_t t0, const size_t n, float *out,
                       size_t out_stride)
{
    blocks_tokens(panel, n_panels, n_cols, act, t0, n, out, out_stride, 64);
}

INLINE void t128_tokens(const uint8_t *panel, const size_t n_panels, size_t n_cols,
                        const struct act_q8 *act, size_t t0, const size_t n, float *out,
                        size_t out_stride)
{
    blocks_tokens(panel, n_panels, n_cols, act, t0, n, out, out_stride, 128);
}

INLINE void t256_tokens(const uint8_t *panel, const size_t n_panels, size_t n_cols,
                        const struct act_q8 *act, size_t t0, const size_t n, float *out,
                        size_t out_stride)
{
    const size_t bytes = n_cols / T256_GROUP * T256_GROUP_BYTES;
    __m512 acc[SUMS];

    clear_rows(acc, SUMS);
    for (size_t g = 0; g < n_cols / T256_GROUP; g++) {
        const uint8_t *group = panel + g * T256_GROUP_BYTES;
        const int8_t *q = act->q + t0 * act->q_stride + g * T256_GROUP;
        __m512i sum[SUMS];

        UNROLL for (size_t i = 0; i < n_panels; i++)
        {
            start_sums(act, t0, n, g, -1, sum + i * TOKENS);
        }
        if (n == 1 && n_panels == 1) {
            sum[0] = lines_kept(group + 32, q, 16, sum[0]);
        } else {
            lines_shifted(group + 32, bytes, n_panels, q, act->q_stride, n, 16, sum);
        }
        UNROLL for (size_t i = 0; i < n_panels; i++)
        {
            add_group(act, t0, n, g, scales(group + i * bytes), sum + i * TOKENS, acc + i * TOKENS);
        }
    }
    UNROLL for (size_t i = 0; i < n_panels; i++)
    {
        store_rows(out + t0 * out_stride + i * PANEL_ROWS, out_stride, acc + i * TOKENS, n);
    }
}

INLINE void trow_tokens(const uint8_t *panel, const size_t n_panels, size_t n_cols,
                        const struct act_q8 *act, size_t t0, const size_t n, float *out,
                        size_t out_stride)
{
    const uint8_t *lines = panel + TROW_HEAD_BYTES;
    const int8_t *q = act->q + t0 * act->q_stride;
    const size_t n_lines = n_cols / T_LINE, bytes = TROW_HEAD_BYTES + n_lines * T_LINE_BYTES;
    __m512i sum[SUMS];

    UNROLL for (size_t i = 0; i < n_panels; i++)
    {
        start_sums(act, t0, n, 0, -1, sum + i * TOKENS);
    }
    if (n == 1 && n_panels == 1) {
        for (size_t l = 0; l < n_lines; l += 16) {
            const size_t left = n_lines - l;
            sum[0] =
                lines_kept(lines + l * T_LINE_BYTES, q + l * T_LINE, left < 16 ? left : 16, sum[0]);
        }
    } else {
        lines_shifted(lines, bytes, n_panels, q, act->q_stride, n, n_lines, sum);
    }
    UNROLL for (size_t i = 0; i < n_panels; i++)
    {
        const __m512 scale = _mm512_loadu_ps((const float *)(panel + i * bytes));
        UNROLL for (size_t t = 0; t < n; t++)
        {
            const __m512 r = _mm512_set1_ps(act->d[(t0 + t) * act->d_stride]);
            const __m512 part = _mm512_mul_ps(_mm512_cvtepi32_ps(sum[i * TOKENS + t]), scale);
            _mm512_storeu_ps(out + (t0 + t) * out_stride + i * PANEL_ROWS, _mm512_div_ps(part, r));
        }
    }
}

/* Each kind for one panel, and for two that share the reading of the activations: by as many tokens
 * as leave room for their sums in the registers. */
#define ONE_AND_TWO(kind, group, by_eights)                                                        \
    INLINE void kind##_one(const uint8_t *panel, size_t n_cols, const struct act_q8 *act,          \
                           size_t t0, const size_t n, float *out, size_t out_stride)               \
    {                                                                                              \
        kind##_tokens(panel, 1, n_cols, act, t0, n, out, out_stride);                              \
    }                                                                                              \
    INLINE void kind##_two(const uint8_t *panel, size_t n_cols, const struct act_q8 *act,          \
                           size_t t0, const size_t n, float *out, size_t out_stride)               \
    {                                                                                              \
        kind##_tokens(panel, PAIR, n_cols, act, t0, n, out, out_stride);                           \
    }                                                                                              \
    PANEL(panel_##kind##_avx512, group, kind##_one)                                                \
    PANEL_FN(pair_##kind##_avx512, group,                                                          \
             by_eights(TOKENS, kind##_two, out, out_stride) BY(4, kind##_two, out, out_stride)     \
                 BY(2, kind##_two, out, out_stride) BY(1, kind##_two, out, out_stride))

#define NOT_BY(...)

ONE_AND_TWO(t64, 64, NOT_BY)
ONE_AND_TWO(t128, 128, NOT_BY)
ONE_AND_TWO(t256, T256_GROUP, BY)
ONE_AND_TWO(trow, TROW_GROUP, BY)
