/* AVX-512 for quantizing activations. Sixteen blocks of 32 go together, so that their maxima
 * meet in the lanes of one register and are divided at once; nothing is decided meanwhile but
 * whether all of them are usual.
 *
 * A value is never clamped: |x| <= amax, so |x| * (127 / amax), each operation rounded, is below
 * 127.5. */
#include "engine/kernels/avx512_common.h"
#include "engine/kernels/quant.h"

INLINE __m512i magnitude(const float *x)
{
    return _mm512_and_si512(_mm512_loadu_si512(x), _mm512_set1_epi32(0x7fffffff));
}

/* 16 values, rounded to nearest even */
INLINE __m512i round16(const float *x, __m512 factor)
{
    return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), factor));
}

/* 64 values; each half by its own factor */
INLINE __m512i quant64(const float *x, __m512 low, __m512 high)
{
    const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
    const __m512i a = _mm512_packs_epi32(round16(x, low), round16(x + 16, low));
    const __m512i b = _mm512_packs_epi32(round16(x + 32, high), round16(x + 48, high));

    /* packing works in quarters of a register */
    return _mm512_permutexvar_epi32(order, _mm512_packs_epi16(a, b));
}

/* In each 32-bit lane, the sum of its four. */
INLINE __m512i sums_of(__m512i q)
{
    return _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), q);
}

/* Sixteen numbers of w's four registers: lane 4b + i is what op makes of quarter b of w[i]. */
#define OF_QUARTERS(op, w)                                                                         \
    op(_mm512_unpacklo_epi64(PAIRS(op, w[0], w[1]), PAIRS(op, w[2], w[3])),                        \
       _mm512_unpackhi_epi64(PAIRS(op, w[0], w[1]), PAIRS(op, w[2], w[3])))
#define PAIRS(op, a, b) op(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b))

/* Bits of the largest magnitude of each of 16 blocks of 32. */
INLINE __m512i tops_of(const float *x)
{
    __m512i w[4];

    UNROLL for (size_t i = 0; i < 4; i++)
    {
        __m512i top[4], half[2];
        UNROLL for (size_t b = 0; b < 4; b++)
        {
            const float *block = x + (4 * b + i) * 32;
            top[b] = _mm512_max_epu32(magnitude(block), magnitude(block + 16));
        }
        UNROLL for (size_t b = 0; b < 2; b++)
        {
            half[b] = _mm512_max_epu32(_mm512_shuffle_i32x4(top[2 * b], top[2 * b + 1], 0x44),
                                       _mm512_shuffle_i32x4(top[2 * b], top[2 * b + 1], 0xee));
        }
        w[i] = _mm512_max_epu32(_mm512_shuffle_i32x4(half[0], half[1], 0x88),
                                _mm512_shuffle_i32x4(half[0], half[1], 0xdd));
    }
    return OF_QUARTERS(_mm512_max_epu32, w);
}

/* Sixteen blocks of 32. False, with nothing written, when one is not finite or as good as zero. */
INLINE bool quant_run(const float *x, int8_t *q, float *d, int32_t *s)
{
    const __m512i least = _mm512_set1_epi32(0x0d800000); /* 2^-100 */
    const __m512i range = _mm512_set1_epi32(0x7f800000 - 0x0d800000);
    const __m512i in_turn = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
    const __m512 most = _mm512_set1_ps(127.0f);
    const __m512i bits = tops_of(x);
    __m512i sum[8], w[4];

    if (_mm512_cmpge_epu32_mask(_mm512_sub_epi32(bits, least), range) != 0) {
        return false;
    }
    const __m512 amax = _mm512_castsi512_ps(bits), inverse = _mm512_div_ps(most, amax);
    _mm512_storeu_ps(d, _mm512_div_ps(amax, most));
    UNROLL for (size_t i = 0; i < 8; i++)
    {
        const __m512i low = _mm512_set1_epi32((int)i * 2);
        const __m512i high = _mm512_set1_epi32((int)i * 2 + 1);
        const __m512i values = quant64(x + i * 64, _mm512_permutexvar_ps(low, inverse),
                                       _mm512_permutexvar_ps(high, inverse));
        _mm512_storeu_si512(q + i * 64, values);
        sum[i] = sums_of(values);
    }
    UNROLL for (size_t i = 0; i < 4; i++) /* quarter b: block 4i + b */
    {
        w[i] = _mm512_add_epi32(_mm512_shuffle_i32x4(sum[2 * i], sum[2 * i + 1], 0x88),
                                _mm512_shuffle_i32x4(sum[2 * i], sum[2 * i + 1], 0xdd));
    }
    _mm512_storeu_si512(s, _mm512_permutexvar_epi32(in_turn, OF_QUARTERS(_mm512_add_epi32, w)));
    return true;
}

/* ---- any block ---- */

INLINE uint32_t top_bits(const float *x, size_t n)
{
    __m512i top[4];
    size_t i = 0;

    UNROLL for (size_t j = 0; j < 4; j++)
    {
        top[j] = _mm512_setzero_si512();
    }
    for (; i < n - n % 64; i += 64) {
        UNROLL for (size_t j = 0; j < 4; j++)
        {
            top[j] = _mm512_max_epu32(top[j], magnitude(x + i + j * 16));
        }
    }
    for (; i < n - n % 16; i += 16) {
        top[0] = _mm512_max_epu32(top[0], magnitude(x + i));
    }
    top[0] = _mm512_max_epu32(_mm512_max_epu32(top[0], top[1]), _mm512_max_epu32(top[2], top[3]));
    return top_of_rest(x + i, n - i, _mm512_reduce_max_epu32(top[0]));
}

INLINE int32_t quant_block(const float *x, size_t n, float factor, int8_t *q)
{
    const __m512 inverse = _mm512_set1_ps(factor);
    __m512i sum = _mm512_setzero_si512();
    size_t i = 0;

    for (; i < n - n % 64; i += 64) {
        const __m512i values = quant64(x + i, inverse, inverse);
        sum = _mm512_add_epi32(sum, sums_of(values));
        _mm512_storeu_si512(q + i, values);
    }
    for (; i < n - n % 16; i += 16) {
        const __m512i values = round16(x + i, inverse);
        sum = _mm512_add_epi32(sum, values);
        _mm_storeu_si128((__m128i *)(q + i), _mm512_cvtsepi32_epi8(values));
    }
    int32_t ret = _mm512_reduce_add_epi32(sum);
    for (; i < n; i++) {
        q[i] = (int8_t)_mm_cvtss_si32(_mm_set_ss(x[i] * factor)); /* to nearest even */
        ret += q[i];
    }
    return ret;
}

static quant_fn quant_one_by_one;
QUANT(quant_one_by_one, quant_token_avx512, top_bits, quant_block)

void quant_avx512(const float *x, size_t n, size_t block, int8_t *q, float *d, int32_t *s)
{
    assert(block >= 1 && n % block == 0 && n <= KERN_COLS_MAX);

    const size_t fast = block == 32 ? n / 512 * 16 : 0; /* blocks that go by sixteens */

    for (size_t b = 0; b < fast; b += 16) {
        if (!quant_run(x + b * 32, q + b * 32, d + b, s + b)) {
            quant_one_by_one(x + b * 32, 512, 32, q + b * 32, d + b, s + b);
        }
    }
    const size_t done = fast * 32;
    quant_one_by_one(x + done, n - done, block, q + done, d + fast, s + fast);
}
