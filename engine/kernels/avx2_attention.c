/* AVX2 for attention: up to four queries share one reading of keys and values.
 *
 * Scores are made for four rows and two queries at a time, so that eight sums are under way and a
 * key that was widened serves two. Floats keep dot_f32's sixteen partial sums in two registers.
 * The last halvings of four rows are made together, by shuffles between them, so that no sum runs
 * along a register.
 *
 * Scores of int8 multiply |k|, up to 128, by q with the sign of k: a pair is within 2 * 128 * 127 <
 * 2^15, so that maddubs does not saturate, also for a key of -128; q is within +-127. */
#include "engine/kernels/avx2_common.h"

#define VEC __m256
#define VEC_LANES 8
#define vec_load _mm256_loadu_ps
#define vec_store _mm256_storeu_ps
#define vec_all _mm256_set1_ps
#define vec_fma _mm256_fmadd_ps
#include "engine/kernels/attention_rows.h"

#define ROWS 4     /* whose scores are made together */
#define TOGETHER 2 /* queries whose scores are */

/* A load that stays one: gcc 12 would make it again at each use. */
INLINE __m256 load_once(const float *p)
{
    __m256 x = _mm256_loadu_ps(p);
    __asm__("" : "+x"(x));
    return x;
}

INLINE __m256 load8_f32(const void *rows, size_t at)
{
    return load_once((const float *)rows + at);
}

INLINE __m256 load8_f16(const void *rows, size_t at)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)((const uint16_t *)rows + at)));
}

INLINE __m256 load8_i8(const void *rows, size_t at)
{
    const __m128i eight = _mm_loadl_epi64((const __m128i *)((const int8_t *)rows + at));
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight));
}

/* A kind of floats. */
struct floats {
    load_vec_fn *load8;
    load1_fn *load1;
    size_t size; /* bytes */
};

/* ---- scores ---- */

/* Four rows whose scores are made together. Beyond the last row it is that one again. */
struct tile {
    const char *row[ROWS];
    size_t n;          /* rows that are there */
    const char *ahead; /* what is asked for meanwhile: as many bytes */
};

INLINE struct tile tile_at(const struct kv_rows *keys, size_t first, const size_t size)
{
    const size_t left = keys->n - first, stride = keys->n_cols * size;
    struct tile ret = {.n = left < ROWS ? left : ROWS,
                       .row[0] = (const char *)keys->rows + first * stride,
                       .ahead = ahead_of(keys) + first * stride};

    UNROLL for (size_t r = 1; r < ROWS; r++)
    {
        ret.row[r] = ret.row[r - 1] + (r < left ? stride : 0);
    }
    return ret;
}

INLINE void store_some(float *ret, __m128 x, size_t n)
{
    float each[ROWS];

    if (n >= ROWS) {
        _mm_storeu_ps(ret, x);
    } else {
        _mm_storeu_ps(each, x);
        memcpy(ret, each, n * sizeof(*ret));
    }
}

/* The sums p[0..7] of four rows, halved three times in dot_f32's order. */
INLINE __m128 trees(const __m256 p[ROWS])
{
    __m256 four[2]; /* of the rows 0 and 1, 2 and 3 */

    UNROLL for (size_t i = 0; i < 2; i++)
    {
        const __m256 a = p[2 * i], b = p[2 * i + 1];
        four[i] = _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), //
                                _mm256_permute2f128_ps(a, b, 0x31));
    }
    const __m256 two = _mm256_add_ps(_mm256_shuffle_ps(four[0], four[1], 0x44),
                                     _mm256_shuffle_ps(four[0], four[1], 0xee));
    const __m256 one = _mm256_add_ps(_mm256_shuffle_ps(two, two, 0x88), //
                                     _mm256_shuffle_ps(two, two, 0xdd));
    return _mm_unpacklo_ps(_mm256_castps256_ps128(one), _mm256_extractf128_ps(one, 1));
}

/* The last columns of one row, from column i to n, added one by one: a zero in their place could
 * turn -0 into 0. */
INLINE void add_tail(const char *row, size_t i, size_t n, const float *q, load1_fn *load1,
                     __m256 *low, __m256 *high)
{
    float each[16];

    _mm256_storeu_ps(each, *low);
    _mm256_storeu_ps(each + 8, *high);
    for (size_t j = i; j < n; j++) {
        each[j - i] = __builtin_fmaf(load1(row, j), q[j], each[j - i]);
    }
    *low = _mm256_loadu_ps(each);
    *high = _mm256_loadu_ps(each + 8);
}

/* p[t][r]: the eight sums of query t and n_rows rows, n columns each. Returns where to ask next. */
INLINE const char *dot_floats(const char *const *row, const size_t n_rows, size_t n,
                              const float *const *q, const size_t n_q, const struct floats *f,
                              const char *ahead, __m256 (*p)[ROWS])
{
    __m256 low[TOGETHER][ROWS], high[TOGETHER][ROWS];
    size_t i = 0;

    UNROLL for (size_t t = 0; t < n_q; t++)
    {
        UNROLL for (size_t r = 0; r < n_rows; r++)
        {
            low[t][r] = high[t][r] = _mm256_setzero_ps();
        }
    }
    for (; i < n - n % 16; i += 16) {
        __m256 x0[TOGETHER], x1[TOGETHER];
        UNROLL for (size_t t = 0; t < n_q; t++)
        {
            x0[t] = load_once(q[t] + i);
            x1[t] = load_once(q[t] + i + 8);
        }
        ask_for(ahead, n_rows * 16 * f->size);
        ahead += n_rows * 16 * f->size;
        UNROLL for (size_t r = 0; r < n_rows; r++)
        {
            const __m256 k0 = f->load8(row[r], i), k1 = f->load8(row[r], i + 8);
            UNROLL for (size_t t = 0; t < n_q; t++)
            {
                low[t][r] = _mm256_fmadd_ps(k0, x0[t], low[t][r]);
                high[t][r] = _mm256_fmadd_ps(k1, x1[t], high[t][r]);
            }
        }
    }
    UNROLL for (size_t t = 0; t < n_q; t++)
    {
        UNROLL for (size_t r = 0; r < n_rows; r++)
        {
            if (i < n) {
                add_tail(row[r], i, n, q[t], f->load1, &low[t][r], &high[t][r]);
            }
            p[t][r] = _mm256_add_ps(low[t][r], high[t][r]);
        }
    }
    return ahead;
}

/* Queries [from, from + n_q) of one tile. */
INLINE void score_floats(const struct kv_rows *keys, size_t first, const struct queries *q,
                         const size_t from, const size_t n_q, const struct floats *f,
                         float *const *ret)
{
    const size_t at_once = ROWS / n_q; /* two registers each */
    struct tile tile = tile_at(keys, first, f->size);
    const float *x[TOGETHER];
    __m256 p[TOGETHER][ROWS];

    UNROLL for (size_t t = 0; t < n_q; t++)
    {
        x[t] = q->q[from + t];
    }
    UNROLL for (size_t r = 0; r < ROWS; r += at_once)
    {
        __m256 some[TOGETHER][ROWS];
        tile.ahead = dot_floats(tile.row + r, at_once, keys->n_cols, x, n_q, f, tile.ahead, some);
        UNROLL for (size_t t = 0; t < n_q; t++)
        {
            UNROLL for (size_t i = 0; i < at_once; i++)
            {
                p[t][r + i] = some[t][i];
            }
        }
    }
    UNROLL for (size_t t = 0; t < n_q; t++)
    {
        const __m128 scale = _mm_set1_ps(q->scale[from + t]);
        store_some(ret[from + t] + first, _mm_mul_ps(trees(p[t]), scale), tile.n);
    }
}

/* sum[t][r]: eight sums of query t and row r of the tile, which added up are the product */
INLINE void dot_bytes(const struct tile *tile, size_t n, const int8_t *const *q, const size_t n_q,
                      __m256i (*sum)[ROWS])
{
    const __m256i ones = _mm256_set1_epi16(1);
    const char *ahead = tile->ahead;
    size_t i = 0;

    UNROLL for (size_t t = 0; t < n_q; t++)
    {
        UNROLL for (size_t r = 0; r < ROWS; r++)
        {
            sum[t][r] = _mm256_setzero_si256();
        }
    }
    for (; i < n - n % 32; i += 32) {
        __m256i x[TOGETHER];
        UNROLL for (size_t t = 0; t < n_q; t++)
        {
            x[t] = load(q[t] + i);
        }
        ask_for(ahead, ROWS * 32);
        ahead += ROWS * 32;
        UNROLL for (size_t r = 0; r < ROWS; r++)
        {
            const __m256i some = load(tile->row[r] + i), magnitude = _mm256_abs_epi8(some);
            UNROLL for (size_t t = 0; t < n_q; t++)
            {
                const __m256i pairs = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(x[t], some));
                sum[t][r] = _mm256_add_epi32(sum[t][r], _mm256_madd_epi16(pairs, ones));
            }
        }
    }
    for (; i < n; i++) {
        UNROLL for (size_t r = 0; r < ROWS; r++)
        {
            UNROLL for (size_t t = 0; t < n_q; t++)
            {
                const int32_t product = ((const int8_t *)tile->row[r])[i] * q[t][i];
                sum[t][r] =
                    _mm256_add_epi32(sum[t][r], _mm256_zextsi128_si256(_mm_cvtsi32_si128(product)));
            }
        }
    }
}

INLINE void score_bytes(const struct kv_rows *keys, size_t first, const struct queries *q,
                        const size_t from, const size_t n_q, float *const *ret)
{
    const struct tile tile = tile_at(keys, first, 1);
    const int8_t *x[TOGETHER];
    __m256i sum[TOGETHER][ROWS];
    float each[ROWS] = {0};

    UNROLL for (size_t t = 0; t < n_q; t++)
    {
        x[t] = q->q[from + t];
    }
    dot_bytes(&tile, keys->n_cols, x, n_q, sum);
    if (tile.n < ROWS) {
        memcpy(each, keys->d + first, tile.n * sizeof(*each));
    }
    const __m128 d = _mm_loadu_ps(tile.n < ROWS ? each : keys->d + first);
    UNROLL for (size_t t = 0; t < n_q; t++)
    {
        const __m128 scaled = _mm_mul_ps(_mm_cvtepi32_ps(sums_of_four(sum[t])), d);
        const __m128 scale = _mm_set1_ps(q->scale[from + t]);
        store_some(ret[from + t] + first, _mm_mul_ps(scaled, scale), tile.n);
    }
}

/* Every tile of rows, by its queries two by two: score(from, count). */
#define BY_TILES(n_queries, score)                                                                 \
    for (size_t first = 0; first < keys->n; first += ROWS) {                                       \
        UNROLL for (size_t t = 0; t + TOGETHER <= (n_queries); t += TOGETHER)                      \
        {                                                                                          \
            score(t, TOGETHER);                                                                    \
        }                                                                                          \
        if ((n_queries) % TOGETHER) {                                                              \
            score((n_queries)-1, 1);                                                               \
        }                                                                                          \
    }

INLINE void scores_floats(const struct kv_rows *keys, const struct queries *q, const size_t n_q,
                          const struct floats *f, float *const *ret){
#define SCORE(from, count) score_floats(keys, first, q, from, count, f, ret)
    BY_TILES(n_q, SCORE)
#undef SCORE
}

INLINE void scores_bytes(const struct kv_rows *keys, const struct queries *q, const size_t n_q,
                         float *const *ret)
{
#define SCORE(from, count) score_bytes(keys, first, q, from, count, ret)
    BY_TILES(n_q, SCORE)
#undef SCORE
}

static const struct floats f32 = {load8_f32, load1_f32, 4}, f16 = {load8_f16, load1_f16, 2};

#define CALL(n) scores_floats(keys, q, n, &f32, ret)
SCORES(scores_f32_avx2, CALL)
#undef CALL
#define CALL(n) scores_floats(keys, q, n, &f16, ret)
SCORES(scores_f16_avx2, CALL)
#undef CALL
#define CALL(n) scores_bytes(keys, q, n, ret)
SCORES(scores_i8_avx2, CALL)
#undef CALL

/* ---- values ---- */

#define MIXED(n, ...)                                                                              \
    mix_rows(&(struct mixing){.values = values, .weight = weight, .out = out, .sum = sum}, n,      \
             (n) == 1   ? 8                                                                        \
             : (n) == 2 ? 4                                                                        \
                        : 2,                                                                       \
             __VA_ARGS__)

#define CALL(n) MIXED(n, load8_f32, load1_f32, 4, false)
MIX(mix_f32_avx2, CALL)
#undef CALL
#define CALL(n) MIXED(n, load8_f16, load1_f16, 2, false)
MIX(mix_f16_avx2, CALL)
#undef CALL
#define CALL(n) MIXED(n, load8_i8, load1_i8, 1, true)
MIX(mix_i8_avx2, CALL)
#undef CALL
