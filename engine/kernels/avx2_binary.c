/* AVX2, B1, by the tables of quad_sums (kernels.h): a byte shuffle looks a quad up for 16 rows at
 * once, or for 32 of two panels, one in each half of a register. Two shuffles and two additions of
 * bytes do what four products and four additions of int16 would.
 *
 * The two byte sums of a block, low and high, are woven together and multiplied by 2 and 64: 2 *
 * (low + 32 * high) <= 16,368 fits an int16. Under the upper half of the float 2^23 that number is
 * a float's lower half, so one subtraction of 2^23 + 8,192 + sum(q) leaves the block's product as a
 * float, exactly.
 *
 * - One token: the weights' nibbles are used where they stand.
 * - More: a group's nibbles are laid out as bytes that stay in the first cache, and the tokens pass
 *   over them, each with its own tables. */
#include "engine/kernels/avx2_common.h"

#define BLOCKS 4   /* of activations in a group */
#define QUADS 8    /* in a block */
#define AT_ONCE 64 /* tokens whose results wait beside the nibbles */
#define PAIRS 2    /* of panels that share a reading of the tables, at most */
#define SHARE ((size_t)2 * PAIRS)
#define FOURS 4 /* rows of a panel in a lane of floats: part[.][i] has rows 4i..4i+3 of both */

/* ---- the tables ---- */

/* bits of i as four bytes of 0 or 1 */
#define WAYS(i) ((i)&1) | ((i) >> 1 & 1) << 8 | ((i) >> 2 & 1) << 16 | ((i) >> 3 & 1) << 24

INLINE __m256i quad_table(const int8_t *q)
{
    const __m256i first =
        _mm256_setr_epi32(WAYS(0), WAYS(1), WAYS(2), WAYS(3), WAYS(8), WAYS(9), WAYS(10), WAYS(11));
    const __m256i second = _mm256_setr_epi32(WAYS(4), WAYS(5), WAYS(6), WAYS(7), WAYS(12), WAYS(13),
                                             WAYS(14), WAYS(15));
    const __m256i x = broadcast4(q);
    const __m256i kept = _mm256_packs_epi32(widen(_mm256_maddubs_epi16(first, x)),
                                            widen(_mm256_maddubs_epi16(second, x)));
    const __m256i low = _mm256_and_si256(kept, _mm256_set1_epi16(31));
    const __m256i high = _mm256_add_epi16(_mm256_srai_epi16(kept, 5), _mm256_set1_epi16(16));

    return _mm256_permute4x64_epi64(_mm256_packus_epi16(low, high), 0xd8);
}

void quad_sums_avx2(const int8_t *q, size_t n_cols, uint8_t *ret)
{
    for (size_t c = 0; c < n_cols; c += 4) {
        _mm256_store_si256((__m256i *)(ret + c / 4 * QUAD_SUMS_BYTES), quad_table(q + c));
    }
}

/* ---- sums of a block ---- */

/* The same 16 bytes in both halves. */
INLINE __m256i twice(const uint8_t *p)
{
    return _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)p));
}

INLINE void add8(__m256i *sum, __m256i x)
{
    __asm__("vpaddb %1, %0, %0" : "+x"(*sum) : "x"(x));
}

struct sums {
    __m256i low, high;
};

INLINE void look_up(__m256i low, __m256i high, __m256i nibbles, const bool first, struct sums *s)
{
    const __m256i a = _mm256_shuffle_epi8(low, nibbles), b = _mm256_shuffle_epi8(high, nibbles);

    if (first) {
        *s = (struct sums){a, b};
    } else {
        add8(&s->low, a);
        add8(&s->high, b);
    }
}

/* What turns a block's sums into its product, for block `at` of a token. */
struct block {
    __m256 d, less;
};

/* A float's bits between 2^23 and 2^24 count up by one with its value. */
INLINE struct block block_of(const struct act_q8 *act, size_t t, size_t at)
{
    const __m256i all = _mm256_set1_epi32(act->s[t * act->d_stride + at]);
    const __m256i less = _mm256_add_epi32(all, _mm256_set1_epi32(0x4b000000 + 8192));

    return (struct block){
        .d = _mm256_broadcast_ss(act->d + t * act->d_stride + at),
        .less = _mm256_castsi256_ps(less),
    };
}

/* part = fma(d, product, part) */
INLINE void add_sums(const struct sums *s, const struct block *b, __m256 part[FOURS])
{
    const __m256i factors = _mm256_set1_epi16(64 << 8 | 2), two23 = _mm256_set1_epi16(0x4b00);
    __m256i kept[2];

    kept[0] = _mm256_maddubs_epi16(_mm256_unpacklo_epi8(s->low, s->high), factors);
    kept[1] = _mm256_maddubs_epi16(_mm256_unpackhi_epi8(s->low, s->high), factors);
    UNROLL for (int i = 0; i < FOURS; i++)
    {
        const __m256i bits = i % 2 ? _mm256_unpackhi_epi16(kept[i / 2], two23)
                                   : _mm256_unpacklo_epi16(kept[i / 2], two23);
        const __m256 product = _mm256_sub_ps(_mm256_castsi256_ps(bits), b->less);
        part[i] = _mm256_fmadd_ps(b->d, product, part[i]);
    }
}

/* ---- panels in pairs ---- */

/* Two panels, the first in the lower halves; the last of an odd number goes with itself. */
struct pair {
    const uint8_t *panel[2];
};

/* What one call multiplies. */
struct work {
    struct pair pairs[PAIRS];
    size_t n_cols;
    const uint8_t *next; /* only prefetched */
};

static struct work work_of(const uint8_t *panels, size_t n_panels, const uint8_t *next,
                           size_t n_cols)
{
    struct work ret = {.n_cols = n_cols, .next = next ? next : panels};
    const size_t bytes = n_cols / B1_GROUP * B1_GROUP_BYTES;

    for (size_t i = 0; 2 * i < n_panels; i++) {
        ret.pairs[i].panel[0] = panels + 2 * i * bytes;
        ret.pairs[i].panel[1] = panels + (2 * i + 1 < n_panels ? 2 * i + 1 : 2 * i) * bytes;
    }
    return ret;
}

/* Beside block `at` of n pairs, as much of the next ones, in the order of memory: the panels' own
 * lines come from as many places at once, too many for the hardware to foresee. */
INLINE void prefetch_next(const struct work *w, const size_t n, size_t at)
{
    const size_t bytes = n * 2 * (B1_GROUP_BYTES / BLOCKS);
    const char *next = (const char *)w->next + at * bytes;

    UNROLL for (size_t i = 0; i < bytes; i += 64)
    {
        _mm_prefetch(next + i, _MM_HINT_T0);
    }
}

/* 16 bytes of both panels, `at` bytes in, which is 16 at least: blending in the second's, read from
 * 16 bytes before, takes any port where inserting them takes a shuffle's. */
INLINE __m256i both(const struct pair *p, size_t at)
{
    const __m128i low = _mm_loadu_si128((const __m128i *)(p->panel[0] + at));

    return _mm256_blend_epi32(_mm256_castsi128_si256(low), load(p->panel[1] + at - 16), 0xf0);
}

/* The scales of rows 4i..4i+3 of both. */
INLINE __m256 scales_of(const struct pair *p, size_t group, int i)
{
    const __m128i low = _mm_loadl_epi64((const __m128i *)(p->panel[0] + group + 8 * i));
    const __m128i high = _mm_loadl_epi64((const __m128i *)(p->panel[1] + group + 8 * i));

    return _mm256_cvtph_ps(_mm_unpacklo_epi64(low, high));
}

INLINE void store_pair(const __m256 acc[FOURS], bool second, float *out)
{
    UNROLL for (int i = 0; i < FOURS; i++)
    {
        _mm_storeu_ps(out + 4 * i, _mm256_castps256_ps128(acc[i]));
        if (second) {
            _mm_storeu_ps(out + PANEL_ROWS + 4 * i, _mm256_extractf128_ps(acc[i], 1));
        }
    }
}

INLINE void clear(__m256 (*x)[FOURS], const size_t n)
{
    UNROLL for (size_t i = 0; i < n; i++)
    {
        UNROLL for (int k = 0; k < FOURS; k++)
        {
            x[i][k] = _mm256_setzero_ps();
        }
    }
}

/* ---- one token ---- */

INLINE void split(__m256i w, __m256i ret[2])
{
    const __m256i low = _mm256_set1_epi8(15);

    ret[0] = _mm256_and_si256(w, low);
    ret[1] = _mm256_and_si256(_mm256_srli_epi16(w, 4), low);
}

INLINE void line_token(const struct pair *pairs, const size_t n, size_t at, const uint8_t *tables,
                       struct sums s[PAIRS])
{
    UNROLL for (size_t i = 0; i < QUADS / 2; i++)
    {
        const uint8_t *table = tables + 2 * i * QUAD_SUMS_BYTES;
        const __m256i low[2] = {twice(table), twice(table + QUAD_SUMS_BYTES)};
        const __m256i high[2] = {twice(table + 16), twice(table + QUAD_SUMS_BYTES + 16)};

        UNROLL for (size_t p = 0; p < n; p++)
        {
            __m256i nibbles[2];
            split(both(&pairs[p], at + i * PANEL_ROWS), nibbles);
            look_up(low[0], high[0], nibbles[0], i == 0, &s[p]);
            look_up(low[1], high[1], nibbles[1], false, &s[p]);
        }
    }
}

INLINE void token(const struct work *w, const size_t n, const struct act_q8 *act,
                  __m256 (*acc)[FOURS])
{
    clear(acc, n);
    for (size_t g = 0; g < w->n_cols / B1_GROUP; g++) {
        const size_t group = g * B1_GROUP_BYTES;
        __m256 part[PAIRS][FOURS];

        clear(part, n);
        for (size_t b = 0; b < BLOCKS; b++) {
            const size_t at = g * BLOCKS + b;
            const struct block block = block_of(act, 0, at);
            struct sums s[PAIRS];

            prefetch_next(w, n, at);
            line_token(w->pairs, n, group + 32 + b * B1_LINE_BYTES,
                       act->sums + at * QUADS * QUAD_SUMS_BYTES, s);
            UNROLL for (size_t p = 0; p < n; p++)
            {
                add_sums(&s[p], &block, part[p]);
            }
        }
        UNROLL for (size_t p = 0; p < n; p++)
        {
            UNROLL for (int i = 0; i < FOURS; i++)
            {
                acc[p][i] =
                    _mm256_fmadd_ps(scales_of(&w->pairs[p], group, i), part[p][i], acc[p][i]);
            }
        }
    }
}

/* ---- several tokens ---- */

/* A group's nibbles as bytes, (block, quad, pair, 32). */
INLINE void lay_out(const struct work *w, const size_t n, size_t g, uint8_t *ret)
{
    for (size_t b = 0; b < BLOCKS; b++) {
        const size_t line = g * B1_GROUP_BYTES + 32 + b * B1_LINE_BYTES;
        prefetch_next(w, n, g * BLOCKS + b);
        UNROLL for (size_t p = 0; p < n; p++)
        {
            for (size_t i = 0; i < QUADS / 2; i++) {
                __m256i nibbles[2];
                __m256i *to = (__m256i *)(ret + ((b * QUADS + 2 * i) * n + p) * 32);
                split(both(&w->pairs[p], line + i * PANEL_ROWS), nibbles);
                _mm256_store_si256(to, nibbles[0]);
                _mm256_store_si256(to + n, nibbles[1]);
            }
        }
    }
}

/* Group g of tokens t0.., n_tokens of them, into acc. */
INLINE void group_tokens(const uint8_t *nibbles, __m256 (*scale)[FOURS], const size_t n, size_t g,
                         const struct act_q8 *act, size_t t0, size_t n_tokens, __m256 (*acc)[FOURS])
{
    for (size_t t = 0; t < n_tokens; t++) {
        const uint8_t *tables =
            act->sums + (t0 + t) * act->sums_stride + g * BLOCKS * QUADS * QUAD_SUMS_BYTES;
        __m256 part[PAIRS][FOURS];

        clear(part, n);
        for (size_t b = 0; b < BLOCKS; b++) {
            const struct block block = block_of(act, t0 + t, g * BLOCKS + b);
            struct sums s[PAIRS];

            UNROLL for (size_t i = 0; i < QUADS; i++)
            {
                const uint8_t *table = tables + (b * QUADS + i) * QUAD_SUMS_BYTES;
                const __m256i low = twice(table), high = twice(table + 16);
                UNROLL for (size_t p = 0; p < n; p++)
                {
                    const uint8_t *at = nibbles + ((b * QUADS + i) * n + p) * 32;
                    look_up(low, high, _mm256_load_si256((const __m256i *)at), i == 0, &s[p]);
                }
            }
            UNROLL for (size_t p = 0; p < n; p++)
            {
                add_sums(&s[p], &block, part[p]);
            }
        }
        UNROLL for (size_t p = 0; p < n; p++)
        {
            UNROLL for (int i = 0; i < FOURS; i++)
            {
                acc[t * n + p][i] = _mm256_fmadd_ps(scale[p][i], part[p][i], acc[t * n + p][i]);
            }
        }
    }
}

INLINE void tokens(const struct work *w, const size_t n, const struct act_q8 *act, size_t t0,
                   size_t n_tokens, __m256 (*acc)[FOURS])
{
    uint8_t nibbles[BLOCKS * QUADS * PAIRS * 32] __attribute__((aligned(64)));

    for (size_t i = 0; i < n_tokens * n; i++) {
        clear(acc + i, 1);
    }
    for (size_t g = 0; g < w->n_cols / B1_GROUP; g++) {
        __m256 scale[PAIRS][FOURS];

        lay_out(w, n, g, nibbles);
        UNROLL for (size_t p = 0; p < n; p++)
        {
            UNROLL for (int i = 0; i < FOURS; i++)
            {
                scale[p][i] = scales_of(&w->pairs[p], g * B1_GROUP_BYTES, i);
            }
        }
        group_tokens(nibbles, scale, n, g, act, t0, n_tokens, acc);
    }
}

/* ---- by the number of panels ---- */

/* Each compiled for itself: each has the registers for itself. */
#define BY_PAIRS(n)                                                                                \
    static __attribute__((noinline)) void token_##n(const struct work *w,                          \
                                                    const struct act_q8 *act, __m256(*acc)[FOURS]) \
    {                                                                                              \
        token(w, n, act, acc);                                                                     \
    }                                                                                              \
    static                                                                                         \
        __attribute__((noinline)) void tokens_##n(const struct work *w, const struct act_q8 *act,  \
                                                  size_t t0, size_t n_tokens, __m256(*acc)[FOURS]) \
    {                                                                                              \
        tokens(w, n, act, t0, n_tokens, acc);                                                      \
    }

BY_PAIRS(1)
BY_PAIRS(2)

static void store_token(size_t n_panels, __m256 (*acc)[FOURS], float *out)
{
    for (size_t p = 0; 2 * p < n_panels; p++) {
        store_pair(acc[p], 2 * p + 1 < n_panels, out + 2 * p * PANEL_ROWS);
    }
}

/* Apart from one token's, since it wants so much stack. */
static __attribute__((noinline)) void many_tokens(const struct work *w, size_t n_panels,
                                                  const struct act_q8 *act, float *out,
                                                  size_t out_stride)
{
    const size_t n_pairs = (n_panels + 1) / 2;
    __m256 acc[AT_ONCE * PAIRS][FOURS];

    for (size_t t = 0; t < act->n_tokens; t += AT_ONCE) {
        const size_t left = act->n_tokens - t, n = left < AT_ONCE ? left : AT_ONCE;
        (n_pairs == 1 ? tokens_1 : tokens_2)(w, act, t, n, acc);
        for (size_t i = 0; i < n; i++) {
            store_token(n_panels, acc + i * n_pairs, out + (t + i) * out_stride);
        }
    }
}

static void some_panels(const struct work *w, size_t n_panels, const struct act_q8 *act, float *out,
                        size_t out_stride)
{
    if (act->n_tokens == 1) {
        __m256 acc[PAIRS][FOURS];
        (n_panels <= 2 ? token_1 : token_2)(w, act, acc);
        store_token(n_panels, acc, out);
    } else {
        many_tokens(w, n_panels, act, out, out_stride);
    }
}

void b1_panels_avx2(const uint8_t *panels, size_t n_panels, const uint8_t *next, size_t n_cols,
                    const struct act_q8 *act, float *out, size_t out_stride)
{
    const size_t bytes = n_cols / B1_GROUP * B1_GROUP_BYTES;

    assert(n_cols % B1_GROUP == 0 && n_cols <= KERN_COLS_MAX && act->sums);
    assert(n_panels >= 1 && n_panels <= B1_PANELS_BEST);

    for (size_t p = 0; p < n_panels; p += SHARE) {
        const size_t left = n_panels - p, n = left < SHARE ? left : SHARE;
        const uint8_t *at = panels + p * bytes;
        const struct work w = work_of(at, n, left > n ? at + n * bytes : next, n_cols);
        some_panels(&w, n, act, out + p * PANEL_ROWS, out_stride);
    }
}

void panel_b1_avx2(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, float *out,
                   size_t out_stride)
{
    if (act->sums) {
        b1_panels_avx2(panel, 1, NULL, n_cols, act, out, out_stride);
    } else {
        panel_b1_scalar(panel, n_cols, act, out, out_stride);
    }
}
