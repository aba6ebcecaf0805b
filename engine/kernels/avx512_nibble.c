/* AVX-512 with VNNI, four to six bits: N4, N4M, K4, K5 and K6.
 *
 * The low and the high bits of a tile's bytes are the codes of two column quads; K5 and K6 put
 * their upper bits on top. What the format takes off a code, 8 or 32, is taken off in the value
 * that a lane starts with.
 *
 * K's integer scales are multiplied in float, which gives the contract's bits: scale and sum are
 * exact, so (float)scale * (float)sum is one rounding of the integer product. In K6 a sum over 16
 * columns is within 16 * 32 * 128 and a scale within 128, so that both products and their sum stay
 * within 2^24 and nothing is rounded at all. */
#include "engine/kernels/avx512_common.h"

#define BLOCKS 8 /* blocks of activations in a group of 256 */

#define BLOCK_LINES(group_bytes) (((group_bytes) / BLOCKS + 63) / 64)

/* Ask for the j-th eighth of the group after the next one, whatever lies there: a group's parts lie
 * apart, and one token waits for memory and not for sums. */
INLINE void prefetch_block(const uint8_t *group, const size_t group_bytes, size_t j)
{
    const uint8_t *next = group + 2 * group_bytes + j * (group_bytes / BLOCKS);

    UNROLL for (size_t i = 0; i < BLOCK_LINES(group_bytes); i++)
    {
        __builtin_prefetch(next + i * 64);
    }
}

/* A tile's codes of two column quads times their eight activations: adds to sum. */
INLINE void add_quads(__m512i w0, __m512i w1, const int8_t *q, size_t q_stride, const size_t n,
                      __m512i *sum)
{
    UNROLL for (size_t t = 0; t < n; t++)
    {
        sum[t] = _mm512_dpbusd_epi32(sum[t], w0, broadcast4(q + t * q_stride));
        sum[t] = _mm512_dpbusd_epi32(sum[t], w1, broadcast4(q + t * q_stride + 4));
    }
}

/* n_tiles tiles of eight columns: adds sum(code * q) to sum. */
INLINE void nibbles(const uint8_t *tile, const int8_t *q, size_t q_stride, const size_t n,
                    const size_t n_tiles, __m512i *sum)
{
    const __m512i low = _mm512_set1_epi8(15);

    UNROLL for (size_t c = 0; c < n_tiles; c++)
    {
        const __m512i w = _mm512_loadu_si512(tile + c * 64);
        const __m512i w0 = _mm512_and_si512(w, low);
        const __m512i w1 = _mm512_and_si512(_mm512_srli_epi16(w, 4), low);
        prefetch(tile + c * 64);
        add_quads(w0, w1, q + c * 8, q_stride, n, sum);
    }
}

INLINE void n4_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const size_t n, float *out, size_t out_stride)
{
    __m512 acc[TOKENS];

    clear_rows(acc, n);
    for (size_t g = 0; g < n_cols / N4_GROUP; g++) {
        const uint8_t *group = panel + g * N4_GROUP_BYTES;
        const int8_t *q = act->q + t0 * act->q_stride + g * N4_GROUP;
        __m512i sum[TOKENS];

        start_sums(act, t0, n, g, -8, sum);
        nibbles(group + 32, q, act->q_stride, n, 4, sum);
        add_group(act, t0, n, g, scales(group), sum, acc);
    }
    store_rows(out + t0 * out_stride, out_stride, acc, n);
}

INLINE void n4m_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                       const size_t n, float *out, size_t out_stride)
{
    __m512 acc[TOKENS];

    clear_rows(acc, n);
    for (size_t g = 0; g < n_cols / N4_GROUP; g++) {
        const uint8_t *group = panel + g * N4M_GROUP_BYTES;
        const int8_t *q = act->q + t0 * act->q_stride + g * N4_GROUP;
        const __m512 min = scales(group + 32);
        __m512i sum[TOKENS];

        start_sums(act, t0, n, g, 0, sum);
        nibbles(group + 64, q, act->q_stride, n, 4, sum);
        add_group(act, t0, n, g, scales(group), sum, acc);
        UNROLL for (size_t t = 0; t < n; t++)
        {
            const size_t at = (t0 + t) * act->d_stride + g;
            const float all = __builtin_fmaf(act->d[at], (float)act->s[at], 0.0f);
            acc[t] = _mm512_fmadd_ps(min, _mm512_set1_ps(all), acc[t]);
        }
    }
    store_rows(out + t0 * out_stride, out_stride, acc, n);
}

/* 16 integer scales as floats. */
INLINE __m512 unsigned_scales(const uint8_t *sc)
{
    const __m128i bytes = _mm_loadu_si128((const __m128i *)sc);
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
}

INLINE __m512 signed_scales(const uint8_t *sc)
{
    const __m128i bytes = _mm_loadu_si128((const __m128i *)sc);
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}

/* K5, 32 columns: the codes with their fifth bits. */
INLINE void fives(const uint8_t *tile, const uint8_t *fifth, const int8_t *q, size_t q_stride,
                  const size_t n, __m512i *sum)
{
    const __m512i low = _mm512_set1_epi8(15), bit = _mm512_set1_epi8(16);
    const __m512i f = _mm512_loadu_si512(fifth);
    const __m512i up[8] = {
        _mm512_slli_epi16(f, 4),
        _mm512_slli_epi16(f, 3),
        _mm512_slli_epi16(f, 2),
        _mm512_slli_epi16(f, 1),
        f,
        _mm512_srli_epi16(f, 1),
        _mm512_srli_epi16(f, 2),
        _mm512_srli_epi16(f, 3),
    };

    UNROLL for (size_t c = 0; c < 4; c++)
    {
        const __m512i w = _mm512_loadu_si512(tile + c * 64);
        const __m512i n0 = _mm512_and_si512(w, low);
        const __m512i n1 = _mm512_and_si512(_mm512_srli_epi16(w, 4), low);
        const __m512i w0 = _mm512_or_si512(n0, _mm512_and_si512(up[2 * c], bit));
        const __m512i w1 = _mm512_or_si512(n1, _mm512_and_si512(up[2 * c + 1], bit));
        add_quads(w0, w1, q + c * 8, q_stride, n, sum);
    }
}

INLINE void k45_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                       const size_t n, float *out, size_t out_stride, const bool five)
{
    __m512 acc[TOKENS], part[TOKENS], less[TOKENS];

    clear_rows(acc, n);
    for (size_t g = 0; g < n_cols / K_GROUP; g++) {
        const uint8_t *group = panel + g * (five ? K5_GROUP_BYTES : K4_GROUP_BYTES);
        const uint8_t *sc = group + 64, *mn = sc + 128, *tiles = mn + 128, *fifth = tiles + 2048;

        clear_rows(part, n);
        clear_rows(less, n);
        for (size_t j = 0; j < BLOCKS; j++) {
            const size_t b = g * BLOCKS + j;
            const int8_t *q = act->q + t0 * act->q_stride + b * ACT_BLOCK;
            const __m512 scale = unsigned_scales(sc + j * 16), min = unsigned_scales(mn + j * 16);
            __m512i sum[TOKENS];

            start_sums(act, t0, n, b, 0, sum);
            if (five) {
                prefetch_block(group, K5_GROUP_BYTES, j);
                fives(tiles + j * 256, fifth + j * 64, q, act->q_stride, n, sum);
            } else {
                nibbles(tiles + j * 256, q, act->q_stride, n, 4, sum);
            }
            UNROLL for (size_t t = 0; t < n; t++)
            {
                const size_t at = (t0 + t) * act->d_stride + b;
                const __m512 d = _mm512_set1_ps(act->d[at]);
                const __m512 all = _mm512_set1_ps((float)act->s[at]);
                const __m512 scaled = _mm512_mul_ps(scale, _mm512_cvtepi32_ps(sum[t]));
                part[t] = _mm512_fmadd_ps(d, scaled, part[t]);
                less[t] = _mm512_fmadd_ps(d, _mm512_mul_ps(min, all), less[t]);
            }
        }
        const __m512 scale = scales(group), min = scales(group + 32);
        UNROLL for (size_t t = 0; t < n; t++)
        {
            acc[t] = _mm512_fmadd_ps(scale, part[t], acc[t]);
            acc[t] = _mm512_fnmadd_ps(min, less[t], acc[t]);
        }
    }
    store_rows(out + t0 * out_stride, out_stride, acc, n);
}

INLINE void k4_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const size_t n, float *out, size_t out_stride)
{
    k45_tokens(panel, n_cols, act, t0, n, out, out_stride, false);
}

INLINE void k5_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const size_t n, float *out, size_t out_stride)
{
    k45_tokens(panel, n_cols, act, t0, n, out, out_stride, true);
}

/* -32 times the sums of 16 activations: of each block's first half, then of each one's second. */
INLINE void starts_of_16(const int8_t *q, int32_t ret[2 * BLOCKS])
{
    const __m256i ones = _mm256_set1_epi8(1);
    __m256i four[2];

    for (size_t i = 0; i < 2; i++) {
        /* 16 activations are 128 bits, within which hadd adds neighbours and keeps sums apart. */
        __m256i pairs[4];
        for (size_t j = 0; j < 4; j++) {
            const __m256i x = _mm256_loadu_si256((const __m256i *)(q + i * 128 + j * 32));
            pairs[j] = _mm256_maddubs_epi16(ones, x);
        }
        four[i] = _mm256_hadd_epi16(_mm256_hadd_epi16(pairs[0], pairs[1]),
                                    _mm256_hadd_epi16(pairs[2], pairs[3]));
    }
    const __m256i all = _mm256_hadd_epi16(four[0], four[1]);
    const __m256i first = _mm256_cvtepi16_epi32(_mm256_castsi256_si128(all));
    const __m256i second = _mm256_cvtepi16_epi32(_mm256_extracti128_si256(all, 1));
    const __m256i zero = _mm256_setzero_si256();
    _mm256_storeu_si256((__m256i *)ret, _mm256_sub_epi32(zero, _mm256_slli_epi32(first, 5)));
    _mm256_storeu_si256((__m256i *)ret + 1, _mm256_sub_epi32(zero, _mm256_slli_epi32(second, 5)));
}

/* K6, 16 columns: two tiles and the line with the upper two bits of their codes. */
INLINE void sixes(const uint8_t *tile, const uint8_t *line, const int8_t *q, size_t q_stride,
                  const size_t n, __m512i *sum)
{
    const __m512i low = _mm512_set1_epi8(15), high = _mm512_set1_epi8(48);
    const __m512i upper = _mm512_loadu_si512(line);
    const __m512i up[4] = {_mm512_slli_epi16(upper, 4), _mm512_slli_epi16(upper, 2), upper,
                           _mm512_srli_epi16(upper, 2)};

    UNROLL for (size_t c = 0; c < 2; c++)
    {
        const __m512i w = _mm512_loadu_si512(tile + c * 64);
        const __m512i n0 = _mm512_and_si512(w, low);
        const __m512i n1 = _mm512_and_si512(_mm512_srli_epi16(w, 4), low);
        const __m512i w0 = _mm512_or_si512(n0, _mm512_and_si512(up[2 * c], high));
        const __m512i w1 = _mm512_or_si512(n1, _mm512_and_si512(up[2 * c + 1], high));
        add_quads(w0, w1, q + c * 8, q_stride, n, sum);
    }
}

INLINE void k6_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const size_t n, float *out, size_t out_stride)
{
    __m512 acc[TOKENS], part[TOKENS];

    clear_rows(acc, n);
    for (size_t g = 0; g < n_cols / K_GROUP; g++) {
        const uint8_t *group = panel + g * K6_GROUP_BYTES;
        const uint8_t *sc = group + 32, *tiles = sc + 256, *lines = tiles + 2048;
        const int8_t *q = act->q + t0 * act->q_stride + g * K_GROUP;
        int32_t starts[TOKENS][2 * BLOCKS];

        UNROLL for (size_t t = 0; t < n; t++)
        {
            starts_of_16(q + t * act->q_stride, starts[t]);
        }
        clear_rows(part, n);
        for (size_t j = 0; j < BLOCKS; j++) {
            const uint8_t *tile = tiles + j * 256, *line = lines + j * 128;
            const __m512 scale[2] = {signed_scales(sc + j * 32), signed_scales(sc + j * 32 + 16)};
            __m512i first[TOKENS], second[TOKENS];

            prefetch_block(group, K6_GROUP_BYTES, j);
            UNROLL for (size_t t = 0; t < n; t++)
            {
                first[t] = _mm512_set1_epi32(starts[t][j]);
                second[t] = _mm512_set1_epi32(starts[t][BLOCKS + j]);
            }
            sixes(tile, line, q + j * 32, act->q_stride, n, first);
            sixes(tile + 128, line + 64, q + j * 32 + 16, act->q_stride, n, second);
            UNROLL for (size_t t = 0; t < n; t++)
            {
                const float d = act->d[(t0 + t) * act->d_stride + g * BLOCKS + j];
                const __m512 one = _mm512_mul_ps(scale[0], _mm512_cvtepi32_ps(first[t]));
                const __m512 both = _mm512_fmadd_ps(scale[1], _mm512_cvtepi32_ps(second[t]), one);
                part[t] = _mm512_fmadd_ps(_mm512_set1_ps(d), both, part[t]);
            }
        }
        const __m512 scale = scales(group);
        UNROLL for (size_t t = 0; t < n; t++)
        {
            acc[t] = _mm512_fmadd_ps(scale, part[t], acc[t]);
        }
    }
    store_rows(out + t0 * out_stride, out_stride, acc, n);
}

PANEL(panel_n4_avx512, N4_GROUP, n4_tokens)
PANEL(panel_n4m_avx512, N4_GROUP, n4m_tokens)
PANEL(panel_k4_avx512, K_GROUP, k4_tokens)
PANEL(panel_k5_avx512, K_GROUP, k5_tokens)
PANEL(panel_k6_avx512, K_GROUP, k6_tokens)
