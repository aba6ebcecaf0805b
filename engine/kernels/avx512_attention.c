/* AVX-512 with VNNI for attention; what is not here is avx2_attention.c's.
 *
 * Scores of int8: key + 128 is the unsigned byte, and 128 * sum(q) is taken off the exact sum.
 * Values keep up to 16 registers of sums over all rows. */
#include "engine/kernels/avx512_common.h"

#define VEC __m512
#define VEC_LANES 16
#define vec_load _mm512_loadu_ps
#define vec_store _mm512_storeu_ps
#define vec_all _mm512_set1_ps
#define vec_fma _mm512_fmadd_ps
#include "engine/kernels/attention_rows.h"

/* ---- loads ---- */

INLINE __m512 load16_f32(const void *rows, size_t at)
{
    return _mm512_loadu_ps((const float *)rows + at);
}

INLINE __m512 load16_f16(const void *rows, size_t at)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)((const uint16_t *)rows + at)));
}

INLINE __m512 load16_i8(const void *rows, size_t at)
{
    const __m128i bytes = _mm_loadu_si128((const __m128i *)((const int8_t *)rows + at));
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}

/* 64 bytes, or the last n of a row with zeros behind them */
INLINE __m512i load_bytes(const int8_t *p, size_t n)
{
    int8_t each[64] = {0};

    if (n >= 64) {
        return _mm512_loadu_si512(p);
    }
    memcpy(each, p, n);
    return _mm512_loadu_si512(each);
}

/* ---- scores ---- */

#define SUMS 16 /* of one tile, a register each */

/* How the scores of a tile lie in a register: query t's of row r in lane t * rows + r, whose sums
 * are number SUM_OF(lane) of the sixteen. */
#define ROWS_OF(n_q) ((n_q) == 1 ? 16u : (n_q) == 2 ? 8u : 4u)
#define AT_ONCE(n_q) ((n_q) == 1 ? 8u : 4u) /* rows whose sums grow at the same time */
#define SUM_OF(lane) ((lane) % 4 * 4 + (lane) / 4)

/* Rows whose scores are made together. Beyond the last row it is that one again. */
struct tile {
    const char *first;
    size_t stride, last; /* bytes; number of the last row */
    const char *ahead;   /* what is asked for meanwhile: as many bytes */
};

INLINE const char *tile_row(const struct tile *t, size_t row)
{
    return t->first + (row < t->last ? row : t->last) * t->stride;
}

typedef __m512 add_fn(__m512 a, __m512 b);

INLINE __m512 add_floats(__m512 a, __m512 b)
{
    return _mm512_add_ps(a, b);
}

INLINE __m512 add_ints(__m512 a, __m512 b)
{
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), _mm512_castps_si512(b)));
}

/* Each of sixteen registers halved four times, in dot_f32's order; that of sum[SUM_OF(i)] ends in
 * lane i. */
INLINE __m512 trees(const __m512 *sum, add_fn *add)
{
    __m512 w[4], two[2];

    UNROLL for (size_t i = 0; i < 4; i++)
    {
        const __m512 *p = sum + 4 * i;
        const __m512 a =
            add(_mm512_shuffle_f32x4(p[0], p[1], 0x44), _mm512_shuffle_f32x4(p[0], p[1], 0xee));
        const __m512 b =
            add(_mm512_shuffle_f32x4(p[2], p[3], 0x44), _mm512_shuffle_f32x4(p[2], p[3], 0xee));
        w[i] = add(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
    }
    UNROLL for (size_t i = 0; i < 2; i++)
    {
        two[i] = add(_mm512_shuffle_ps(w[2 * i], w[2 * i + 1], 0x44),
                     _mm512_shuffle_ps(w[2 * i], w[2 * i + 1], 0xee));
    }
    return add(_mm512_shuffle_ps(two[0], two[1], 0x88), _mm512_shuffle_ps(two[0], two[1], 0xdd));
}

/* A kind of floats. */
struct floats {
    load_vec_fn *load16;
    size_t size; /* bytes */
};

/* The last columns of a row, from column i to n. What lies beyond them is not added: a zero in
 * their place could turn -0 into 0. */
INLINE __m512 add_tail(const char *row, size_t i, size_t n, const float *q, const struct floats *f,
                       __m512 sum)
{
    float each[16] = {0}, x[16] = {0};

    memcpy(each, row + i * f->size, (n - i) * f->size);
    memcpy(x, q + i, (n - i) * sizeof(*x));
    const __m512 more = _mm512_fmadd_ps(f->load16(each, 0), _mm512_loadu_ps(x), sum);
    return _mm512_mask_mov_ps(sum, (__mmask16)((1u << (n - i)) - 1), more);
}

/* The sums of a tile's rows [from, from + AT_ONCE). */
INLINE void sum_floats(struct tile *tile, size_t from, size_t n, const float *const *q,
                       const size_t n_q, const struct floats *f, __m512 *ret)
{
    const size_t at_once = AT_ONCE(n_q);
    const char *row[AT_ONCE(1)];
    __m512 sum[KERN_QUERIES][AT_ONCE(1)];
    size_t i = 0;

    UNROLL for (size_t r = 0; r < at_once; r++)
    {
        row[r] = tile_row(tile, from + r);
        UNROLL for (size_t t = 0; t < n_q; t++)
        {
            sum[t][r] = _mm512_setzero_ps();
        }
    }
    for (; i < n - n % 16; i += 16) {
        __m512 x[KERN_QUERIES];
        UNROLL for (size_t t = 0; t < n_q; t++)
        {
            x[t] = _mm512_loadu_ps(q[t] + i);
        }
        ask_for(tile->ahead, at_once * 16 * f->size);
        tile->ahead += at_once * 16 * f->size;
        UNROLL for (size_t r = 0; r < at_once; r++)
        {
            const __m512 k = f->load16(row[r], i);
            UNROLL for (size_t t = 0; t < n_q; t++)
            {
                sum[t][r] = _mm512_fmadd_ps(k, x[t], sum[t][r]);
            }
        }
    }
    UNROLL for (size_t t = 0; t < n_q; t++)
    {
        UNROLL for (size_t r = 0; r < at_once; r++)
        {
            if (i < n) {
                sum[t][r] = add_tail(row[r], i, n, q[t], f, sum[t][r]);
            }
            ret[SUM_OF(t * ROWS_OF(n_q) + from + r)] = sum[t][r];
        }
    }
}

/* The same for bytes: key + 128 is the unsigned byte, and the sums start at what takes it off. */
INLINE void sum_bytes(struct tile *tile, size_t from, size_t n, const int8_t *const *q,
                      const size_t n_q, const __m512i *less, __m512 *ret)
{
    const __m512i offset = _mm512_set1_epi8((char)-128);
    const size_t at_once = AT_ONCE(n_q);
    const char *row[AT_ONCE(1)];
    __m512i sum[KERN_QUERIES][AT_ONCE(1)];

    UNROLL for (size_t r = 0; r < at_once; r++)
    {
        row[r] = tile_row(tile, from + r);
        UNROLL for (size_t t = 0; t < n_q; t++)
        {
            sum[t][r] = less[t];
        }
    }
    for (size_t i = 0; i < n; i += 64) {
        __m512i x[KERN_QUERIES];
        UNROLL for (size_t t = 0; t < n_q; t++)
        {
            x[t] = load_bytes(q[t] + i, n - i);
        }
        ask_for(tile->ahead, at_once * 64);
        tile->ahead += at_once * 64;
        UNROLL for (size_t r = 0; r < at_once; r++)
        {
            const __m512i k = load_bytes((const int8_t *)row[r] + i, n - i);
            UNROLL for (size_t t = 0; t < n_q; t++)
            {
                sum[t][r] = _mm512_dpbusd_epi32(sum[t][r], _mm512_xor_si512(k, offset), x[t]);
            }
        }
    }
    UNROLL for (size_t t = 0; t < n_q; t++)
    {
        UNROLL for (size_t r = 0; r < at_once; r++)
        {
            ret[SUM_OF(t * ROWS_OF(n_q) + from + r)] = _mm512_castsi512_ps(sum[t][r]);
        }
    }
}

/* Each query's number in all the lanes of its rows. */
INLINE __m512 by_query(const float *each, const size_t n_q)
{
    float lanes[16] = {0};

    for (size_t i = 0; i < n_q * ROWS_OF(n_q); i++) {
        lanes[i] = each[i / ROWS_OF(n_q)];
    }
    return _mm512_loadu_ps(lanes);
}

/* The rows' scales in the lanes of every query. */
INLINE __m512 by_row(const float *d, size_t n, const size_t n_q)
{
    const size_t most = ROWS_OF(n_q);
    float lanes[16] = {0};

    if (n < most) {
        memcpy(lanes, d, n * sizeof(*d));
        d = lanes;
    }
    if (most == 4) {
        return _mm512_broadcast_f32x4(_mm_loadu_ps(d));
    }
    return most == 8 ? _mm512_broadcast_f32x8(_mm256_loadu_ps(d)) : _mm512_loadu_ps(d);
}

/* n rows' scores of each query. */
INLINE void put_scores(float *const *ret, size_t first, size_t n, const size_t n_q, __m512 x)
{
    float lanes[16];

    _mm512_storeu_ps(lanes, x);
    UNROLL for (size_t t = 0; t < n_q; t++)
    {
        const float *from = lanes + t * ROWS_OF(n_q);
        if (n >= ROWS_OF(n_q)) {
            memcpy(ret[t] + first, from, ROWS_OF(n_q) * sizeof(*from));
        } else {
            memcpy(ret[t] + first, from, n * sizeof(*from));
        }
    }
}

/* Every tile: make(from) the sums of some of its rows, then what `scaled` makes of the results. */
#define BY_TILES(n_q, size, make, scaled)                                                          \
    const size_t rows = ROWS_OF(n_q), at_once = AT_ONCE(n_q);                                      \
    __m512 sum[SUMS];                                                                              \
                                                                                                   \
    UNROLL for (size_t i = 0; i < SUMS; i++)                                                       \
    {                                                                                              \
        sum[i] = _mm512_setzero_ps();                                                              \
    }                                                                                              \
    for (size_t first = 0; first < keys->n; first += ROWS_OF(n_q)) {                               \
        const size_t left = keys->n - first, stride = keys->n_cols * (size);                       \
        struct tile tile = {.first = (const char *)keys->rows + first * stride,                    \
                            .stride = stride,                                                      \
                            .last = left - 1,                                                      \
                            .ahead = ahead_of(keys) + first * stride};                             \
        UNROLL for (size_t from = 0; from < rows; from += at_once)                                 \
        {                                                                                          \
            make(from);                                                                            \
        }                                                                                          \
        put_scores(ret, first, left, n_q, scaled);                                                 \
    }

INLINE void scores_floats(const struct kv_rows *keys, const struct queries *q, const size_t n_q,
                          const struct floats *f, float *const *ret)
{
    const __m512 scale = by_query(q->scale, n_q);
    const float *x[KERN_QUERIES];

    UNROLL for (size_t t = 0; t < n_q; t++)
    {
        x[t] = q->q[t];
    }
#define MAKE(from) sum_floats(&tile, from, keys->n_cols, x, n_q, f, sum)
    BY_TILES(n_q, f->size, MAKE, _mm512_mul_ps(trees(sum, add_floats), scale))
#undef MAKE
}

INLINE void scores_bytes(const struct kv_rows *keys, const struct queries *q, const size_t n_q,
                         float *const *ret)
{
    const __m512i one_two_eight = _mm512_set1_epi8((char)-128); /* unsigned */
    const __m512 scale = by_query(q->scale, n_q);
    const int8_t *x[KERN_QUERIES];
    __m512i less[KERN_QUERIES];

    UNROLL for (size_t t = 0; t < n_q; t++)
    {
        __m512i more = _mm512_setzero_si512();
        x[t] = q->q[t];
        for (size_t i = 0; i < keys->n_cols; i += 64) {
            more = _mm512_dpbusd_epi32(more, one_two_eight, load_bytes(x[t] + i, keys->n_cols - i));
        }
        less[t] = _mm512_sub_epi32(_mm512_setzero_si512(), more);
    }
#define MAKE(from) sum_bytes(&tile, from, keys->n_cols, x, n_q, less, sum)
#define SCALED                                                                                     \
    _mm512_mul_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_castps_si512(trees(sum, add_ints))),     \
                                by_row(keys->d + first, left, n_q)),                               \
                  scale)
    BY_TILES(n_q, 1, MAKE, SCALED)
#undef SCALED
#undef MAKE
}

static const struct floats f32 = {load16_f32, 4}, f16 = {load16_f16, 2};

#define CALL(n) scores_floats(keys, q, n, &f32, ret)
SCORES(scores_f32_avx512, CALL)
#undef CALL
#define CALL(n) scores_floats(keys, q, n, &f16, ret)
SCORES(scores_f16_avx512, CALL)
#undef CALL
#define CALL(n) scores_bytes(keys, q, n, ret)
SCORES(scores_i8_avx512, CALL)
#undef CALL

/* ---- values ---- */

#define MIXED(n, ...)                                                                              \
    mix_rows(&(struct mixing){.values = values, .weight = weight, .out = out, .sum = sum}, n,      \
             (n) <= 2 ? 8 : 4, __VA_ARGS__)

#define CALL(n) MIXED(n, load16_f32, load1_f32, 4, false)
MIX(mix_f32_avx512, CALL)
#undef CALL
#define CALL(n) MIXED(n, load16_f16, load1_f16, 2, false)
MIX(mix_f16_avx512, CALL)
#undef CALL
#define CALL(n) MIXED(n, load16_i8, load1_i8, 1, true)
MIX(mix_i8_avx512, CALL)
#undef CALL
