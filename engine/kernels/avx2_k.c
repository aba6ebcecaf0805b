/* AVX2, the formats of 256 columns with integer scales inside: K4, K5 and K6.
 *
 * Codes are made into bytes and go through maddubs as in the other files; what is added in int16
 * then meets its integer scale in madd, which multiplies and widens at once. A pair of K4's codes
 * 0..15 is within 3,840, a block of eight column quads within 30,720. A pair of K5's codes 0..31 is
 * within 7,936, so that four quads (31,744) make one of the two int16 sums of a block. A pair of
 * K6's codes 0..63 is within 16,128: two quads (32,256), half of the 16 columns that share a scale.
 * Scales are 0..255 or any int8, so that every product fits int32 with room to add.
 *
 * K6's weight is code - 32: 32 * scale, which fits int16, times the sums of 16 activations is taken
 * off, both scales of a block in one madd. */
#include "engine/kernels/avx2_common.h"

#define BLOCKS 8 /* blocks of activations in a group */

#define BLOCK_LINES(group_bytes) (((group_bytes) / BLOCKS + 63) / 64)

/* Ask for the j-th eighth of the group after the next one, whatever lies there: a group's parts lie
 * apart, and one token waits for memory and not for sums. */

INLINE void prefetch_block(const uint8_t *group, const size_t group_bytes, size_t j)
{
    const uint8_t *next = group + 2 * group_bytes + j * (group_bytes / BLOCKS);

    UNROLL for (size_t i = 0; i < BLOCK_LINES(group_bytes); i++)
    {
        _mm_prefetch((const char *)next + i * 64, _MM_HINT_T0);
    }
}

/* Bytes of the rows 8h to 8h + 7, each as the high bytes of its lane's two int16. */
INLINE __m256i high_bytes(const uint8_t *rows, const size_t h)
{
    const __m256i first = _mm256_setr_epi8(-1, 0, -1, 0, -1, 1, -1, 1, -1, 2, -1, 2, -1, 3, -1, 3,
                                           -1, 4, -1, 4, -1, 5, -1, 5, -1, 6, -1, 6, -1, 7, -1, 7);
    const __m256i order = _mm256_add_epi8(first, _mm256_set1_epi16((short)(h * 8 << 8)));
    const __m128i bytes = _mm_loadu_si128((const __m128i *)rows);

    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes), order);
}

INLINE __m256i unsigned_scales(const uint8_t *rows, const size_t h)
{
    return _mm256_srli_epi16(high_bytes(rows, h), 8);
}

INLINE __m256i signed_scales(const uint8_t *rows, const size_t h)
{
    return _mm256_srai_epi16(high_bytes(rows, h), 8);
}

/* Bytes of 8 rows as floats. */
INLINE __m256 float_bytes(const uint8_t *rows)
{
    const __m128i bytes = _mm_loadl_epi64((const __m128i *)rows);
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
}

/* K4, a block of 32 columns: sum = scale * sum(code * q). */
INLINE void k4_block(const uint8_t *tile, const __m256i scale[2], const int8_t *q, size_t q_stride,
                     const size_t n, __m256i (*sum)[2])
{
    __m256i part[TOKENS][2];

    nibbles(tile, q, q_stride, n, part);
    UNROLL for (size_t t = 0; t < n; t++)
    {
        sum[t][0] = _mm256_madd_epi16(part[t][0], scale[0]);
        sum[t][1] = _mm256_madd_epi16(part[t][1], scale[1]);
    }
}

/* K5, the first or the second 16 columns of a block: adds scale * sum(code * q) to sum. */
INLINE void k5_half(const uint8_t *tile, const uint8_t *fifth, const __m256i scale[2],
                    const int8_t *q, size_t q_stride, const size_t n, const bool second,
                    __m256i (*sum)[2])
{
    const __m256i bit = _mm256_set1_epi8(16);
    __m256i part[TOKENS][2];

    UNROLL for (int i = 0; i < 2; i++)
    {
        __m256i c[2][2];

        split_tile(tile + i * 64, c);
        for (size_t h = 0; h < 2; h++) {
            const __m256i f = load(fifth + h * 32);
            const __m256i f0 =
                second ? _mm256_srli_epi16(f, 2 * i) : _mm256_slli_epi16(f, 4 - 2 * i);
            const __m256i f1 =
                second ? _mm256_srli_epi16(f, 2 * i + 1) : _mm256_slli_epi16(f, 3 - 2 * i);
            c[h][0] = _mm256_or_si256(c[h][0], _mm256_and_si256(f0, bit));
            c[h][1] = _mm256_or_si256(c[h][1], _mm256_and_si256(f1, bit));
        }
        add_quads(c, q + i * 8, q_stride, n, i == 0, part);
    }
    UNROLL for (size_t t = 0; t < n; t++)
    {
        for (size_t h = 0; h < 2; h++) {
            add32(&sum[t][h], _mm256_madd_epi16(part[t][h], scale[h]));
        }
    }
}

INLINE void k45_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                       const size_t n, float *out, size_t out_stride, const bool five)
{
    __m256 acc[TOKENS][2], part[TOKENS][2], less[TOKENS][2], scale[2], min[2];

    clear_rows(acc, n);
    for (size_t g = 0; g < n_cols / K_GROUP; g++) {
        const uint8_t *group = panel + g * (five ? K5_GROUP_BYTES : K4_GROUP_BYTES);
        const uint8_t *sc = group + 64, *mn = sc + 128, *tiles = mn + 128, *fifth = tiles + 2048;
        const int8_t *q = act->q + t0 * act->q_stride + g * K_GROUP;

        clear_rows(part, n);
        clear_rows(less, n);
        for (size_t j = 0; j < BLOCKS; j++) {
            const size_t at = t0 * act->d_stride + g * BLOCKS + j;
            const uint8_t *tile = tiles + j * 256;
            const int8_t *x = q + j * ACT_BLOCK;
            const __m256i by[2] = {unsigned_scales(sc + j * 16, 0),
                                   unsigned_scales(sc + j * 16, 1)};
            const __m256 m[2] = {float_bytes(mn + j * 16), float_bytes(mn + j * 16 + 8)};
            __m256i sum[TOKENS][2];

            if (five) {
                const uint8_t *bits = fifth + j * 64;
                prefetch_block(group, K5_GROUP_BYTES, j);
                clear_sums(sum, n);
                k5_half(tile, bits, by, x, act->q_stride, n, false, sum);
                k5_half(tile + 128, bits, by, x + 16, act->q_stride, n, true, sum);
            } else {
                k4_block(tile, by, x, act->q_stride, n, sum);
            }
            UNROLL for (size_t t = 0; t < n; t++)
            {
                const __m256i s = _mm256_set1_epi32(act->s[at + t * act->d_stride]);
                const float d = act->d[at + t * act->d_stride];
                for (size_t h = 0; h < 2; h++) {
                    const __m256 ms = _mm256_mul_ps(m[h], _mm256_cvtepi32_ps(s)); /* exact */
                    part[t][h] = add_block(d, sum[t][h], part[t][h]);
                    less[t][h] = _mm256_fmadd_ps(_mm256_set1_ps(d), ms, less[t][h]);
                }
            }
        }
        scales(group, scale);
        scales(group + 32, min);
        UNROLL for (size_t t = 0; t < n; t++)
        {
            for (size_t h = 0; h < 2; h++) {
                acc[t][h] = _mm256_fmadd_ps(scale[h], part[t][h], acc[t][h]);
                acc[t][h] = _mm256_fnmadd_ps(min[h], less[t][h], acc[t][h]);
            }
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

/* The sums of 16 activations: ret[j] holds the two of block j as int16. */
INLINE void sums_of_16(const int8_t *q, int32_t ret[BLOCKS])
{
    const __m256i ones = _mm256_set1_epi8(1);
    __m256i four[2];

    for (size_t i = 0; i < 2; i++) {
        /* 16 activations are 128 bits, within which hadd adds neighbours and keeps sums apart. */
        const int8_t *x = q + i * 128;
        const __m256i a = _mm256_hadd_epi16(_mm256_maddubs_epi16(ones, load(x)),
                                            _mm256_maddubs_epi16(ones, load(x + 32)));
        const __m256i b = _mm256_hadd_epi16(_mm256_maddubs_epi16(ones, load(x + 64)),
                                            _mm256_maddubs_epi16(ones, load(x + 96)));
        four[i] = _mm256_hadd_epi16(a, b);
    }
    const __m256i all = _mm256_hadd_epi16(four[0], four[1]); /* of each block first, then second */
    const __m128i first = _mm256_castsi256_si128(all), second = _mm256_extracti128_si256(all, 1);
    _mm_storeu_si128((__m128i *)ret, _mm_unpacklo_epi16(first, second));
    _mm_storeu_si128((__m128i *)ret + 1, _mm_unpackhi_epi16(first, second));
}

/* Sixteen columns: two tiles and the line with the upper two bits of their codes. Adds
 * scale * sum(code * q) to sum. */
INLINE void k6_columns(const uint8_t *tile, const uint8_t *line, const __m256i scale[2],
                       const int8_t *q, size_t q_stride, const size_t n, __m256i (*sum)[2])
{
    const __m256i high = _mm256_set1_epi8(48);

    UNROLL for (size_t i = 0; i < 2; i++)
    {
        __m256i c[2][2];

        split_tile(tile + i * 64, c);
        for (size_t h = 0; h < 2; h++) {
            const __m256i up = load(line + h * 32);
            const __m256i up0 = i == 0 ? _mm256_slli_epi16(up, 4) : up;
            const __m256i up1 = i == 0 ? _mm256_slli_epi16(up, 2) : _mm256_srli_epi16(up, 2);
            c[h][0] = _mm256_or_si256(c[h][0], _mm256_and_si256(up0, high));
            c[h][1] = _mm256_or_si256(c[h][1], _mm256_and_si256(up1, high));
        }
        UNROLL for (size_t t = 0; t < n; t++)
        {
            const int8_t *x = q + t * q_stride + i * 8;
            const __m256i x0 = broadcast4(x), x1 = broadcast4(x + 4);
            for (size_t h = 0; h < 2; h++) {
                __m256i two = _mm256_maddubs_epi16(c[h][0], x0);
                add16(&two, _mm256_maddubs_epi16(c[h][1], x1));
                add32(&sum[t][h], _mm256_madd_epi16(two, scale[h]));
            }
        }
    }
}

INLINE void k6_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const size_t n, float *out, size_t out_stride)
{
    __m256 acc[TOKENS][2], part[TOKENS][2], scale[2];

    clear_rows(acc, n);
    for (size_t g = 0; g < n_cols / K_GROUP; g++) {
        const uint8_t *group = panel + g * K6_GROUP_BYTES;
        const uint8_t *sc = group + 32, *tiles = sc + 256, *lines = tiles + 2048;
        const int8_t *q = act->q + t0 * act->q_stride + g * K_GROUP;
        int32_t sums[TOKENS][BLOCKS];

        UNROLL for (size_t t = 0; t < n; t++)
        {
            sums_of_16(q + t * act->q_stride, sums[t]);
        }
        clear_rows(part, n);
        for (size_t j = 0; j < BLOCKS; j++) {
            const uint8_t *two = sc + j * 32, *tile = tiles + j * 256, *line = lines + j * 128;
            const int8_t *x = q + j * ACT_BLOCK;
            const __m256i first[2] = {signed_scales(two, 0), signed_scales(two, 1)};
            const __m256i second[2] = {signed_scales(two + 16, 0), signed_scales(two + 16, 1)};
            __m256i sum[TOKENS][2];

            prefetch_block(group, K6_GROUP_BYTES, j);
            for (size_t h = 0; h < 2; h++) {
                const __m256i both = _mm256_blend_epi16(first[h], second[h], 0xaa);
                const __m256i less =
                    _mm256_slli_epi16(_mm256_sub_epi16(_mm256_setzero_si256(), both), 5);
                UNROLL for (size_t t = 0; t < n; t++)
                {
                    sum[t][h] = _mm256_madd_epi16(less, _mm256_set1_epi32(sums[t][j]));
                }
            }
            k6_columns(tile, line, first, x, act->q_stride, n, sum);
            k6_columns(tile + 128, line + 64, second, x + 16, act->q_stride, n, sum);
            UNROLL for (size_t t = 0; t < n; t++)
            {
                const float d = act->d[(t0 + t) * act->d_stride + g * BLOCKS + j];
                part[t][0] = add_block(d, sum[t][0], part[t][0]);
                part[t][1] = add_block(d, sum[t][1], part[t][1]);
            }
        }
        scales(group, scale);
        UNROLL for (size_t t = 0; t < n; t++)
        {
            acc[t][0] = _mm256_fmadd_ps(scale[0], part[t][0], acc[t][0]);
            acc[t][1] = _mm256_fmadd_ps(scale[1], part[t][1], acc[t][1]);
        }
    }
    store_rows(out + t0 * out_stride, out_stride, acc, n);
}

/* ---- many tokens: a group becomes bytes in the first-level cache, once for all of them ---- */

#define MANY 12 /* tokens from which that pays; K4's codes cost too little for it */

struct wide {
    _Alignas(64) uint8_t codes[K_GROUP / 4][64]; /* by quad of columns and lane */
    __m256i scale[2 * BLOCKS][2]; /* of 16 columns (K6), 32 (K5), in both int16 of a lane */
    __m256i less[BLOCKS][2];      /* K6: -32 times both scales of a block */
    __m256 min[BLOCKS][2];        /* K5 */
    __m256 d[2], less_d[2];       /* K5: less_d is -dmin */
};

/* Codes of two tiles, 16 columns: four bits and, from `line` on, what K6 has above them. */
INLINE void unpack_k6(const uint8_t *tile, const uint8_t *line, uint8_t (*codes)[64])
{
    const __m256i high = _mm256_set1_epi8(48);

    prefetch(line);
    UNROLL for (size_t i = 0; i < 2; i++)
    {
        __m256i c[2][2];

        prefetch(tile + i * 64);
        split_tile(tile + i * 64, c);
        UNROLL for (size_t h = 0; h < 2; h++)
        {
            const __m256i up = load(line + h * 32);
            const __m256i up0 = i == 0 ? _mm256_slli_epi16(up, 4) : up;
            const __m256i up1 = i == 0 ? _mm256_slli_epi16(up, 2) : _mm256_srli_epi16(up, 2);
            const __m256i c0 = _mm256_or_si256(c[h][0], _mm256_and_si256(up0, high));
            const __m256i c1 = _mm256_or_si256(c[h][1], _mm256_and_si256(up1, high));
            _mm256_store_si256((__m256i *)(codes[i * 2] + h * 32), c0);
            _mm256_store_si256((__m256i *)(codes[i * 2 + 1] + h * 32), c1);
        }
    }
}

/* A block of K5, 32 columns: four bits and the fifth one. */
INLINE void unpack_k5(const uint8_t *tile, const uint8_t *fifth, uint8_t (*codes)[64])
{
    const __m256i bit = _mm256_set1_epi8(16);

    UNROLL for (int i = 0; i < 4; i++)
    {
        __m256i c[2][2];

        prefetch(tile + i * 64);
        split_tile(tile + i * 64, c);
        UNROLL for (size_t h = 0; h < 2; h++)
        {
            const __m256i f = load(fifth + h * 32);
            const __m256i f0 =
                i < 2 ? _mm256_slli_epi16(f, 4 - 2 * i) : _mm256_srli_epi16(f, 2 * i - 4);
            const __m256i f1 =
                i < 2 ? _mm256_slli_epi16(f, 3 - 2 * i) : _mm256_srli_epi16(f, 2 * i - 3);
            const __m256i c0 = _mm256_or_si256(c[h][0], _mm256_and_si256(f0, bit));
            const __m256i c1 = _mm256_or_si256(c[h][1], _mm256_and_si256(f1, bit));
            _mm256_store_si256((__m256i *)(codes[2 * i] + h * 32), c0);
            _mm256_store_si256((__m256i *)(codes[2 * i + 1] + h * 32), c1);
        }
    }
}

/* Adds scale * sum(code * q) of four quads to sum. */
INLINE void add_scaled_four(const uint8_t (*codes)[64], const __m256i scale[2], const int8_t *q,
                            size_t q_stride, const size_t n, __m256i (*sum)[2])
{
    __m256i part[TOKENS][2];

    UNROLL for (size_t c = 0; c < 4; c += 2)
    {
        __m256i w[2][2] = {{load(codes[c]), load(codes[c + 1])},
                           {load(codes[c] + 32), load(codes[c + 1] + 32)}};
        add_quads(w, q + c * 4, q_stride, n, c == 0, part);
    }
    UNROLL for (size_t t = 0; t < n; t++)
    {
        add32(&sum[t][0], _mm256_madd_epi16(part[t][0], scale[0]));
        add32(&sum[t][1], _mm256_madd_epi16(part[t][1], scale[1]));
    }
}

/* The same for two quads. */
INLINE void add_scaled_two(const uint8_t (*codes)[64], const __m256i scale[2], const int8_t *q,
                           size_t q_stride, const size_t n, __m256i (*sum)[2])
{
    const __m256i low0 = load(codes[0]), high0 = load(codes[0] + 32);
    const __m256i low1 = load(codes[1]), high1 = load(codes[1] + 32);

    UNROLL for (size_t t = 0; t < n; t++)
    {
        const __m256i x0 = broadcast4(q + t * q_stride), x1 = broadcast4(q + t * q_stride + 4);
        __m256i low = _mm256_maddubs_epi16(low0, x0), high = _mm256_maddubs_epi16(high0, x0);

        add16(&low, _mm256_maddubs_epi16(low1, x1));
        add16(&high, _mm256_maddubs_epi16(high1, x1));
        add32(&sum[t][0], _mm256_madd_epi16(low, scale[0]));
        add32(&sum[t][1], _mm256_madd_epi16(high, scale[1]));
    }
}

/* The rows of out are the sums between one group and the next. */
INLINE void clear_out(const struct act_q8 *act, float *out, size_t out_stride)
{
    for (size_t t = 0; t < act->n_tokens; t++) {
        memset(out + t * out_stride, 0, PANEL_ROWS * sizeof(*out));
    }
}

INLINE void add_to_rows(float *row, const __m256 scale[2], const __m256 part[2])
{
    const __m256 low = _mm256_loadu_ps(row), high = _mm256_loadu_ps(row + 8);

    _mm256_storeu_ps(row, _mm256_fmadd_ps(scale[0], part[0], low));
    _mm256_storeu_ps(row + 8, _mm256_fmadd_ps(scale[1], part[1], high));
}

INLINE void k6_tile(const struct wide *w, const struct act_q8 *act, size_t g, size_t t0,
                    const size_t n, float *out, size_t out_stride)
{
    const int8_t *q = act->q + t0 * act->q_stride + g * K_GROUP;
    int32_t sums[TOKENS][BLOCKS];
    __m256 part[TOKENS][2];

    UNROLL for (size_t t = 0; t < n; t++)
    {
        sums_of_16(q + t * act->q_stride, sums[t]);
    }
    clear_rows(part, n);
    for (size_t j = 0; j < BLOCKS; j++) {
        const uint8_t(*codes)[64] = w->codes + j * 8;
        const int8_t *x = q + j * ACT_BLOCK;
        __m256i sum[TOKENS][2];

        UNROLL for (size_t t = 0; t < n; t++)
        {
            const __m256i all = _mm256_set1_epi32(sums[t][j]);
            sum[t][0] = _mm256_madd_epi16(w->less[j][0], all);
            sum[t][1] = _mm256_madd_epi16(w->less[j][1], all);
        }
        UNROLL for (size_t i = 0; i < 4; i++)
        {
            add_scaled_two(codes + i * 2, w->scale[2 * j + i / 2], x + i * 8, act->q_stride, n,
                           sum);
        }
        UNROLL for (size_t t = 0; t < n; t++)
        {
            const float d = act->d[(t0 + t) * act->d_stride + g * BLOCKS + j];
            part[t][0] = add_block(d, sum[t][0], part[t][0]);
            part[t][1] = add_block(d, sum[t][1], part[t][1]);
        }
    }
    UNROLL for (size_t t = 0; t < n; t++)
    {
        add_to_rows(out + (t0 + t) * out_stride, w->d, part[t]);
    }
}

INLINE void k5_tile(const struct wide *w, const struct act_q8 *act, size_t g, size_t t0,
                    const size_t n, float *out, size_t out_stride)
{
    const int8_t *q = act->q + t0 * act->q_stride + g * K_GROUP;
    __m256 part[TOKENS][2], less[TOKENS][2];

    clear_rows(part, n);
    clear_rows(less, n);
    for (size_t j = 0; j < BLOCKS; j++) {
        const size_t at = t0 * act->d_stride + g * BLOCKS + j;
        const uint8_t(*codes)[64] = w->codes + j * 8;
        const int8_t *x = q + j * ACT_BLOCK;
        __m256i sum[TOKENS][2];

        clear_sums(sum, n);
        add_scaled_four(codes, w->scale[j], x, act->q_stride, n, sum);
        add_scaled_four(codes + 4, w->scale[j], x + 16, act->q_stride, n, sum);
        UNROLL for (size_t t = 0; t < n; t++)
        {
            const float d = act->d[at + t * act->d_stride];
            const __m256 s = _mm256_cvtepi32_ps(_mm256_set1_epi32(act->s[at + t * act->d_stride]));
            UNROLL for (size_t h = 0; h < 2; h++)
            {
                const __m256 ms = _mm256_mul_ps(w->min[j][h], s); /* exact */
                part[t][h] = add_block(d, sum[t][h], part[t][h]);
                less[t][h] = _mm256_fmadd_ps(_mm256_set1_ps(d), ms, less[t][h]);
            }
        }
    }
    UNROLL for (size_t t = 0; t < n; t++)
    {
        float *row = out + (t0 + t) * out_stride;
        add_to_rows(row, w->d, part[t]);
        add_to_rows(row, w->less_d, less[t]);
    }
}

INLINE void unpack_group_k6(const uint8_t *group, struct wide *ret)
{
    const uint8_t *sc = group + 32, *tiles = sc + 256, *lines = tiles + 2048;

    scales(group, ret->d);
    for (size_t j = 0; j < BLOCKS; j++) {
        for (size_t h = 0; h < 2; h++) {
            const __m256i first = signed_scales(sc + j * 32, h);
            const __m256i second = signed_scales(sc + j * 32 + 16, h);
            const __m256i both = _mm256_blend_epi16(first, second, 0xaa);
            ret->scale[2 * j][h] = first;
            ret->scale[2 * j + 1][h] = second;
            ret->less[j][h] = _mm256_slli_epi16(_mm256_sub_epi16(_mm256_setzero_si256(), both), 5);
        }
        unpack_k6(tiles + j * 256, lines + j * 128, ret->codes + j * 8);
        unpack_k6(tiles + j * 256 + 128, lines + j * 128 + 64, ret->codes + j * 8 + 4);
    }
}

INLINE void unpack_group_k5(const uint8_t *group, struct wide *ret)
{
    const uint8_t *sc = group + 64, *mn = sc + 128, *tiles = mn + 128, *fifth = tiles + 2048;

    scales(group, ret->d);
    scales(group + 32, ret->less_d);
    for (size_t h = 0; h < 2; h++) {
        ret->less_d[h] = _mm256_xor_ps(ret->less_d[h], _mm256_set1_ps(-0.0f));
    }
    for (size_t j = 0; j < BLOCKS; j++) {
        for (size_t h = 0; h < 2; h++) {
            ret->scale[j][h] = unsigned_scales(sc + j * 16, h);
            ret->min[j][h] = float_bytes(mn + j * 16 + h * 8);
        }
        unpack_k5(tiles + j * 256, fifth + j * 64, ret->codes + j * 8);
    }
}

/* Tiles as PANEL has them; of at least six tokens none is left alone. */
#define TILES(tile, ...)                                                                           \
    do {                                                                                           \
        size_t t = 0;                                                                              \
        for (; act->n_tokens - t >= 6 || act->n_tokens - t == TOKENS; t += TOKENS) {               \
            tile(__VA_ARGS__, t, TOKENS, out, out_stride);                                         \
        }                                                                                          \
        for (; t + 3 <= act->n_tokens; t += 3) {                                                   \
            tile(__VA_ARGS__, t, 3, out, out_stride);                                              \
        }                                                                                          \
        if (t < act->n_tokens) {                                                                   \
            tile(__VA_ARGS__, t, 2, out, out_stride);                                              \
        }                                                                                          \
    } while (0)

static void k5_many(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, float *out,
                    size_t out_stride)
{
    struct wide w;

    clear_out(act, out, out_stride);
    for (size_t g = 0; g < n_cols / K_GROUP; g++) {
        unpack_group_k5(panel + g * K5_GROUP_BYTES, &w);
        TILES(k5_tile, &w, act, g);
    }
}

static void k6_many(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, float *out,
                    size_t out_stride)
{
    struct wide w;

    clear_out(act, out, out_stride);
    for (size_t g = 0; g < n_cols / K_GROUP; g++) {
        unpack_group_k6(panel + g * K6_GROUP_BYTES, &w);
        TILES(k6_tile, &w, act, g);
    }
}

PANEL(panel_k4_avx2, K_GROUP, k4_tokens)
static PANEL(k5_few, K_GROUP, k5_tokens) static PANEL(k6_few, K_GROUP, k6_tokens)

    void panel_k5_avx2(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, float *out,
                       size_t out_stride)
{
    (act->n_tokens < MANY ? k5_few : k5_many)(panel, n_cols, act, out, out_stride);
}

void panel_k6_avx2(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, float *out,
                   size_t out_stride)
{
    (act->n_tokens < MANY ? k6_few : k6_many)(panel, n_cols, act, out, out_stride);
}
