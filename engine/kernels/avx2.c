/* AVX2: I8 and everything that is no panel.
 *
 * I8 splits even and odd columns into int16 and uses madd, since the product of two int8 pairs does
 * not fit maddubs; activations are split some blocks ahead. */
#include "engine/kernels/avx2_common.h"
#include "engine/kernels/quant.h"

#define I8_AHEAD 8 /* blocks whose activations are widened at once: stores that are long done */

/* Activations of n tokens as pairs of int16: the even and the odd columns of each quad. */
struct i8_pairs {
    _Alignas(32) int32_t even[TOKENS][I8_AHEAD * 8], odd[TOKENS][I8_AHEAD * 8];
};

INLINE void i8_widen(const struct act_q8 *act, size_t t0, const size_t n, size_t g, size_t n_blocks,
                     struct i8_pairs *ret)
{
    UNROLL for (size_t t = 0; t < n; t++)
    {
        for (size_t b = 0; b < n_blocks; b++) {
            const __m256i q = load(act->q + (t0 + t) * act->q_stride + (g + b) * I8_GROUP);
            const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(q, 8), 8);
            _mm256_store_si256((__m256i *)(ret->even[t] + b * 8), even);
            _mm256_store_si256((__m256i *)(ret->odd[t] + b * 8), _mm256_srai_epi16(q, 8));
        }
    }
}

/* One block, the b-th of those widened. */
INLINE void i8_block(const uint8_t *tiles, const struct i8_pairs *x, size_t b, const size_t n,
                     __m256i (*sum)[2])
{
    UNROLL for (size_t c = 0; c < 8; c++)
    {
        const __m256i w0 = load(tiles + c * 64), w1 = load(tiles + c * 64 + 32);
        const __m256i even0 = _mm256_srai_epi16(_mm256_slli_epi16(w0, 8), 8);
        const __m256i even1 = _mm256_srai_epi16(_mm256_slli_epi16(w1, 8), 8);
        const __m256i odd0 = _mm256_srai_epi16(w0, 8), odd1 = _mm256_srai_epi16(w1, 8);

        prefetch(tiles + c * 64);
        UNROLL for (size_t t = 0; t < n; t++)
        {
            const __m256i x_even = _mm256_set1_epi32(x->even[t][b * 8 + c]);
            const __m256i x_odd = _mm256_set1_epi32(x->odd[t][b * 8 + c]);
            add32(&sum[t][0], _mm256_madd_epi16(even0, x_even));
            add32(&sum[t][1], _mm256_madd_epi16(even1, x_even));
            add32(&sum[t][0], _mm256_madd_epi16(odd0, x_odd));
            add32(&sum[t][1], _mm256_madd_epi16(odd1, x_odd));
        }
    }
}

INLINE void i8_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const size_t n, float *out, size_t out_stride)
{
    const size_t n_blocks = n_cols / I8_GROUP;
    struct i8_pairs x;
    __m256 acc[TOKENS][2];

    clear_rows(acc, n);
    for (size_t g = 0; g < n_blocks; g++) {
        const uint8_t *group = panel + g * I8_GROUP_BYTES;
        __m256i sum[TOKENS][2];
        __m256 scale[2];

        if (g % I8_AHEAD == 0) {
            i8_widen(act, t0, n, g, n_blocks - g < I8_AHEAD ? n_blocks - g : I8_AHEAD, &x);
        }
        clear_sums(sum, n);
        i8_block(group + 32, &x, g % I8_AHEAD, n, sum);
        scales(group, scale);
        UNROLL for (size_t t = 0; t < n; t++)
        {
            add_group(act->d[(t0 + t) * act->d_stride + g], sum[t], scale, acc[t]);
        }
    }
    store_rows(out + t0 * out_stride, out_stride, acc, n);
}

PANEL(panel_i8_avx2, I8_GROUP, i8_tokens)

INLINE uint32_t top_bits(const float *x, size_t n)
{
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    __m256i top = _mm256_setzero_si256();
    size_t i = 0;

    for (; i < n - n % 8; i += 8) {
        top = _mm256_max_epu32(top, _mm256_and_si256(load(x + i), magnitude));
    }
    const __m128i four = _mm_max_epu32(_mm256_castsi256_si128(top), //
                                       _mm256_extracti128_si256(top, 1));
    const __m128i two = _mm_max_epu32(four, _mm_shuffle_epi32(four, 0x4e));
    const __m128i one = _mm_max_epu32(two, _mm_shuffle_epi32(two, 0xb1));
    return top_of_rest(x + i, n - i, (uint32_t)_mm_cvtsi128_si32(one));
}

INLINE __m256i quant8(const float *x, __m256 inverse)
{
    return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), inverse));
}

/* 32 values; returns their sum by eight lanes. */
INLINE __m256i quant32(const float *x, __m256 inverse, int8_t *q)
{
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7); /* undoes packing by lanes */
    const __m256i a = quant8(x, inverse), b = quant8(x + 8, inverse);
    const __m256i c = quant8(x + 16, inverse), d = quant8(x + 24, inverse);
    const __m256i low = _mm256_packs_epi32(a, b), high = _mm256_packs_epi32(c, d);
    const __m256i bytes = _mm256_max_epi8(_mm256_packs_epi16(low, high), _mm256_set1_epi8(-127));

    _mm256_storeu_si256((__m256i *)q, _mm256_permutevar8x32_epi32(bytes, order));
    return _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes),
                             _mm256_set1_epi16(1));
}

INLINE int32_t add_lanes(__m256i sum)
{
    const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(sum), //
                                       _mm256_extracti128_si256(sum, 1));
    const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

INLINE int32_t quant_block(const float *x, size_t n, float factor, int8_t *q)
{
    const __m256 inverse = _mm256_set1_ps(factor);
    __m256i sum = _mm256_setzero_si256();
    size_t i = 0;

    for (; i < n - n % 32; i += 32) {
        sum = _mm256_add_epi32(sum, quant32(x + i, inverse, q + i));
    }
    int32_t ret = add_lanes(sum);
    for (; i < n; i++) {
        const int v = _mm_cvtss_si32(_mm_set_ss(x[i] * factor)); /* to nearest even */
        q[i] = (int8_t)(v > 127 ? 127 : v < -127 ? -127 : v);
        ret += q[i];
    }
    return ret;
}

/* Of four blocks of 32 values: what they are divided by, and the factors that do it. False when a
 * block is not finite or as good as zero. */
INLINE bool scales_of_four(const float *x, float *d, float *inverse)
{
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    const __m128 most = _mm_set1_ps(127.0f);
    __m256i top[4];

    UNROLL for (size_t b = 0; b < 4; b++)
    {
        top[b] = _mm256_and_si256(load(x + b * 32), magnitude);
        UNROLL for (size_t i = 8; i < 32; i += 8)
        {
            const __m256i more = _mm256_and_si256(load(x + b * 32 + i), magnitude);
            top[b] = _mm256_max_epu32(top[b], more);
        }
    }
    const __m128i bits = largest_of_four(top); /* as signed numbers they are not negative */
    const __m128i usual = _mm_and_si128(_mm_cmpgt_epi32(_mm_set1_epi32(0x7f800000), bits),
                                        _mm_cmpgt_epi32(bits, _mm_set1_epi32(0x0d7fffff)));
    const __m128 amax = _mm_castsi128_ps(bits);
    _mm_storeu_ps(d, _mm_div_ps(amax, most));
    _mm_storeu_ps(inverse, _mm_div_ps(most, amax));
    return _mm_movemask_epi8(usual) == 0xffff; /* 0x0d800000 is 2^-100 */
}

INLINE void quant_four(const float *x, const float *inverse, int8_t *q, int32_t *s)
{
    __m256i sum[4];

    UNROLL for (size_t b = 0; b < 4; b++)
    {
        sum[b] = quant32(x + b * 32, _mm256_set1_ps(inverse[b]), q + b * 32);
    }
    _mm_storeu_si128((__m128i *)s, sums_of_four(sum));
}

/* Any blocks. */
static quant_fn quant_one_by_one;
QUANT(quant_one_by_one, quant_token_avx2, top_bits, quant_block)

/* The scales of some blocks are found before the first is quantized: a block's own would have to be
 * waited for. */
#define SCALES_AHEAD 16

void quant_avx2(const float *x, size_t n, size_t block, int8_t *q, float *d, int32_t *s)
{
    assert(block >= 1 && n % block == 0 && n <= KERN_COLS_MAX);

    const size_t fours = n / 128 * 4; /* blocks that go four by four */
    float inverse[SCALES_AHEAD];
    size_t b = 0; /* blocks that are done */

    if (block != 32) {
        quant_one_by_one(x, n, block, q, d, s);
        return;
    }
    while (b < fours) {
        const size_t some = fours - b < SCALES_AHEAD ? fours - b : SCALES_AHEAD;
        bool usual = true;
        for (size_t i = 0; i < some; i += 4) {
            usual &= scales_of_four(x + (b + i) * 32, d + b + i, inverse + i);
        }
        for (size_t i = 0; usual && i < some; i += 4) {
            quant_four(x + (b + i) * 32, inverse + i, q + (b + i) * 32, s + b + i);
        }
        if (!usual) {
            quant_one_by_one(x + b * 32, some * 32, 32, q + b * 32, d + b, s + b);
        }
        b += some;
    }
    quant_one_by_one(x + b * 32, n - b * 32, 32, q + b * 32, d + b, s + b);
}

INLINE float tree(__m256 low, __m256 high)
{
    const __m256 p8 = _mm256_add_ps(low, high);
    const __m128 p4 = _mm_add_ps(_mm256_castps256_ps128(p8), _mm256_extractf128_ps(p8, 1));
    const __m128 p2 = _mm_add_ps(p4, _mm_movehl_ps(p4, p4));
    return _mm_cvtss_f32(_mm_add_ss(p2, _mm_movehdup_ps(p2)));
}

/* The last n % 16 elements, one by one: a zero added in their place could turn -0 into 0. */
#define TAIL_AND_TREE(widen, low, high)                                                            \
    if (n % 16) {                                                                                  \
        float p[16];                                                                               \
        _mm256_storeu_ps(p, low);                                                                  \
        _mm256_storeu_ps(p + 8, high);                                                             \
        for (size_t i = n - n % 16; i < n; i++) {                                                  \
            p[i % 16] = __builtin_fmaf(widen(w[i]), x[i], p[i % 16]);                              \
        }                                                                                          \
        low = _mm256_loadu_ps(p);                                                                  \
        high = _mm256_loadu_ps(p + 8);                                                             \
    }                                                                                              \
    return tree(low, high)

INLINE float same(float x)
{
    return x;
}

INLINE __m256 widen_f16(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

INLINE __m256 widen_bf16(const uint16_t *p)
{
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

#define DOT(name, type, load8, widen)                                                              \
    float name(const type *w, const float *x, size_t n)                                            \
    {                                                                                              \
        __m256 low = _mm256_setzero_ps(), high = low;                                              \
                                                                                                   \
        for (size_t i = 0; i < n - n % 16; i += 16) {                                              \
            low = _mm256_fmadd_ps(load8(w + i), _mm256_loadu_ps(x + i), low);                      \
            high = _mm256_fmadd_ps(load8(w + i + 8), _mm256_loadu_ps(x + i + 8), high);            \
        }                                                                                          \
        TAIL_AND_TREE(widen, low, high);                                                           \
    }

DOT(dot_f32_avx2, float, _mm256_loadu_ps, same)
DOT(dot_f16_avx2, uint16_t, widen_f16, f16_to_f32)
DOT(dot_bf16_avx2, uint16_t, widen_bf16, bf16_to_f32)

void f32_to_f16_avx2(const float *x, uint16_t *ret, size_t n)
{
    size_t i = 0;

    for (; i < n - n % 8; i += 8) {
        const __m128i half = _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT);
        _mm_storeu_si128((__m128i *)(ret + i), half);
    }
    for (; i < n; i++) {
        ret[i] = f16_from_f32(x[i]);
    }
}
