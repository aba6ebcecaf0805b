/* AVX-512, B1, by the tables of quad_sums (kernels.h): a byte shuffle looks a quad up for 64 rows
 * of four panels, one in each lane of 128 bits. As in AVX2's file otherwise, down to the arithmetic
 * of a block: the two byte sums, low and high, are woven together and multiplied by 2 and 64, and
 * the int16 becomes the lower half of a float between 2^23 and 2^24, of which 2^23 + 8,192 + sum(q)
 * is taken off.
 *
 * - One token: the weights' nibbles are used where they stand.
 * - More: a group's nibbles are laid out as bytes that stay in the first cache, and the tokens pass
 *   over them, each with its own tables. */
#include "engine/kernels/avx512_common.h"

#define BLOCKS 4   /* of activations in a group */
#define QUADS 8    /* in a block */
#define AT_ONCE 16 /* tokens whose results wait beside the nibbles */
#define IN_ONE 4   /* panels in a register */
#define FOURS 2    /* registers of panels, at most: B1_PANELS_BEST */
#define ROWS 4     /* of a panel in a lane of floats: part[.][i] has rows 4i..4i+3 of all four */

_Static_assert(B1_PANELS_BEST == IN_ONE * FOURS, "fours of panels");

/* ---- the tables ---- */

/* K + 512 of the sixteen ways to keep a quad: its lower five bits are K's, its upper ones (K >> 5)
 * + 16. */
INLINE __m512i ways(const int8_t *q)
{
    const __m512i kept =
        _mm512_set_epi32(0x01010101, 0x01010100, 0x01010001, 0x01010000, 0x01000101, 0x01000100,
                         0x01000001, 0x01000000, 0x00010101, 0x00010100, 0x00010001, 0x00010000,
                         0x00000101, 0x00000100, 0x00000001, 0x00000000);

    return _mm512_dpbusd_epi32(_mm512_set1_epi32(512), kept, broadcast4(q));
}

/* Packing leaves four ways of a quad side by side, the quads' low bytes and then their high ones in
 * every lane. */
void quad_sums_avx512(const int8_t *q, size_t n_cols, uint8_t *ret)
{
    const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 13, 9, 5, 1, 14, 10, 6, 2, 12, 8, 4, 0);
    const __m512i five = _mm512_set1_epi16(31);

    for (size_t c = 0; c < n_cols; c += 8) {
        const __m512i two = _mm512_packus_epi32(ways(q + c), ways(q + c + 4));
        const __m512i bytes =
            _mm512_packus_epi16(_mm512_and_si512(two, five), _mm512_srli_epi16(two, 5));
        _mm512_storeu_si512(ret + c / 4 * QUAD_SUMS_BYTES, _mm512_permutexvar_epi32(order, bytes));
    }
}

/* ---- sums of a block ---- */

/* The same 16 bytes in all lanes. */
INLINE __m512i in_all(const uint8_t *p)
{
    return _mm512_broadcast_i32x4(_mm_load_si128((const __m128i *)p));
}

struct sums {
    __m512i low, high;
};

INLINE void look_up(__m512i low, __m512i high, __m512i nibbles, const bool first, struct sums *s)
{
    const __m512i a = _mm512_shuffle_epi8(low, nibbles), b = _mm512_shuffle_epi8(high, nibbles);

    if (first) {
        *s = (struct sums){a, b};
    } else {
        s->low = in_order(_mm512_add_epi8(s->low, a));
        s->high = in_order(_mm512_add_epi8(s->high, b));
    }
}

/* What turns a block's sums into its product, for block `at` of a token. */
struct block {
    __m512 d, less;
};

/* A float's bits between 2^23 and 2^24 count up by one with its value. */
INLINE struct block block_of(const struct act_q8 *act, size_t t, size_t at)
{
    const __m512i all = _mm512_set1_epi32(act->s[t * act->d_stride + at]);
    const __m512i less = _mm512_add_epi32(all, _mm512_set1_epi32(0x4b000000 + 8192));

    return (struct block){
        .d = _mm512_set1_ps(act->d[t * act->d_stride + at]),
        .less = _mm512_castsi512_ps(less),
    };
}

/* part = fma(d, product, part) */
INLINE void add_sums(const struct sums *s, const struct block *b, __m512 part[ROWS])
{
    const __m512i factors = _mm512_set1_epi16(64 << 8 | 2), two23 = _mm512_set1_epi16(0x4b00);
    __m512i kept[2];

    kept[0] = _mm512_maddubs_epi16(_mm512_unpacklo_epi8(s->low, s->high), factors);
    kept[1] = _mm512_maddubs_epi16(_mm512_unpackhi_epi8(s->low, s->high), factors);
    UNROLL for (int i = 0; i < ROWS; i++)
    {
        const __m512i bits = i % 2 ? _mm512_unpackhi_epi16(kept[i / 2], two23)
                                   : _mm512_unpacklo_epi16(kept[i / 2], two23);
        const __m512 product = _mm512_sub_ps(_mm512_castsi512_ps(bits), b->less);
        part[i] = _mm512_fmadd_ps(b->d, product, part[i]);
    }
}

/* ---- panels in fours ---- */

/* Four panels, one in each lane; the last goes again where some are missing. */
struct four {
    const uint8_t *panel[IN_ONE];
};

/* What one call multiplies. */
struct work {
    struct four fours[FOURS];
    size_t n_cols;
    const uint8_t *next; /* only prefetched */
};

static struct work work_of(const uint8_t *panels, size_t n_panels, const uint8_t *next,
                           size_t n_cols)
{
    struct work ret = {.n_cols = n_cols, .next = next ? next : panels};
    const size_t bytes = n_cols / B1_GROUP * B1_GROUP_BYTES;

    for (size_t i = 0; i < IN_ONE * FOURS; i++) {
        ret.fours[i / IN_ONE].panel[i % IN_ONE] =
            panels + (i < n_panels ? i : n_panels - 1) * bytes;
    }
    return ret;
}

/* Beside block `at` of n fours, as much of the next ones, in the order of memory: the panels' own
 * lines come from as many places at once, too many for the hardware to foresee. */
INLINE void prefetch_next(const struct work *w, const size_t n, size_t at)
{
    const size_t bytes = n * IN_ONE * (B1_GROUP_BYTES / BLOCKS);
    const char *next = (const char *)w->next + at * bytes;

    UNROLL for (size_t i = 0; i < bytes; i += 64)
    {
        _mm_prefetch(next + i, _MM_HINT_T0);
    }
}

/* 16 bytes of each panel, `at` bytes in. */
INLINE __m512i of_all(const struct four *f, size_t at)
{
    __m512i ret = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(f->panel[0] + at)));

    UNROLL for (int p = 1; p < IN_ONE; p++)
    {
        const __m128i x = _mm_loadu_si128((const __m128i *)(f->panel[p] + at));
        ret = _mm512_mask_broadcast_i32x4(ret, (uint16_t)(0xf << 4 * p), x);
    }
    return ret;
}

INLINE __m256i load_scales(const uint8_t *group)
{
    return _mm256_loadu_si256((const __m256i *)group);
}

/* ret[i]: the scales of rows 4i..4i+3 of each */
INLINE void scales_of(const struct four *f, size_t group, __m512 ret[ROWS])
{
    const __m256i a = load_scales(f->panel[0] + group), b = load_scales(f->panel[1] + group);
    const __m256i c = load_scales(f->panel[2] + group), d = load_scales(f->panel[3] + group);
    const __m256i ab[2] = {_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b)};
    const __m256i cd[2] = {_mm256_unpacklo_epi64(c, d), _mm256_unpackhi_epi64(c, d)};

    UNROLL for (int i = 0; i < 2; i++)
    {
        ret[i] = _mm512_cvtph_ps(_mm256_permute2x128_si256(ab[i], cd[i], 0x20));
        ret[i + 2] = _mm512_cvtph_ps(_mm256_permute2x128_si256(ab[i], cd[i], 0x31));
    }
}

INLINE void store_lanes(__m512 x, size_t n, float *out)
{
    float each[IN_ONE][ROWS];

    _mm512_storeu_ps(each, x);
    for (size_t p = 0; p < n; p++) {
        memcpy(out + p * PANEL_ROWS, each[p], sizeof(each[p]));
    }
}

INLINE void clear(__m512 (*x)[ROWS], const size_t n)
{
    UNROLL for (size_t i = 0; i < n; i++)
    {
        clear_rows(x[i], ROWS);
    }
}

/* ---- one token ---- */

INLINE void split(__m512i w, __m512i ret[2])
{
    const __m512i low = _mm512_set1_epi8(15);

    ret[0] = _mm512_and_si512(w, low);
    ret[1] = _mm512_and_si512(_mm512_srli_epi16(w, 4), low);
}

INLINE void line_token(const struct four *fours, const size_t n, size_t at, const uint8_t *tables,
                       struct sums s[FOURS])
{
    UNROLL for (size_t i = 0; i < QUADS / 2; i++)
    {
        const uint8_t *table = tables + 2 * i * QUAD_SUMS_BYTES;
        const __m512i low[2] = {in_all(table), in_all(table + QUAD_SUMS_BYTES)};
        const __m512i high[2] = {in_all(table + 16), in_all(table + QUAD_SUMS_BYTES + 16)};

        UNROLL for (size_t p = 0; p < n; p++)
        {
            __m512i nibbles[2];
            split(of_all(&fours[p], at + i * PANEL_ROWS), nibbles);
            look_up(low[0], high[0], nibbles[0], i == 0, &s[p]);
            look_up(low[1], high[1], nibbles[1], false, &s[p]);
        }
    }
}

INLINE void token(const struct work *w, const size_t n, const struct act_q8 *act,
                  __m512 (*acc)[ROWS])
{
    clear(acc, n);
    for (size_t g = 0; g < w->n_cols / B1_GROUP; g++) {
        const size_t group = g * B1_GROUP_BYTES;
        __m512 part[FOURS][ROWS];

        clear(part, n);
        for (size_t b = 0; b < BLOCKS; b++) {
            const size_t at = g * BLOCKS + b;
            const struct block block = block_of(act, 0, at);
            struct sums s[FOURS];

            prefetch_next(w, n, at);
            line_token(w->fours, n, group + 32 + b * B1_LINE_BYTES,
                       act->sums + at * QUADS * QUAD_SUMS_BYTES, s);
            UNROLL for (size_t p = 0; p < n; p++)
            {
                add_sums(&s[p], &block, part[p]);
            }
        }
        UNROLL for (size_t p = 0; p < n; p++)
        {
            __m512 scale[ROWS];
            scales_of(&w->fours[p], group, scale);
            UNROLL for (int i = 0; i < ROWS; i++)
            {
                acc[p][i] = _mm512_fmadd_ps(scale[i], part[p][i], acc[p][i]);
            }
        }
    }
}

/* ---- several tokens ---- */

/* A group's nibbles as bytes, (block, quad, four, 64). */
INLINE void lay_out(const struct work *w, const size_t n, size_t g, uint8_t *ret)
{
    for (size_t b = 0; b < BLOCKS; b++) {
        const size_t line = g * B1_GROUP_BYTES + 32 + b * B1_LINE_BYTES;
        prefetch_next(w, n, g * BLOCKS + b);
        UNROLL for (size_t p = 0; p < n; p++)
        {
            for (size_t i = 0; i < QUADS / 2; i++) {
                __m512i nibbles[2];
                uint8_t *to = ret + ((b * QUADS + 2 * i) * n + p) * 64;
                split(of_all(&w->fours[p], line + i * PANEL_ROWS), nibbles);
                _mm512_storeu_si512(to, nibbles[0]);
                _mm512_storeu_si512(to + n * 64, nibbles[1]);
            }
        }
    }
}

/* Group g of tokens t0.., n_tokens of them, into acc. */
INLINE void group_tokens(const uint8_t *nibbles, __m512 (*scale)[ROWS], const size_t n, size_t g,
                         const struct act_q8 *act, size_t t0, size_t n_tokens, __m512 (*acc)[ROWS])
{
    for (size_t t = 0; t < n_tokens; t++) {
        const uint8_t *tables =
            act->sums + (t0 + t) * act->sums_stride + g * BLOCKS * QUADS * QUAD_SUMS_BYTES;
        __m512 part[FOURS][ROWS];

        clear(part, n);
        for (size_t b = 0; b < BLOCKS; b++) {
            const struct block block = block_of(act, t0 + t, g * BLOCKS + b);
            struct sums s[FOURS];

            UNROLL for (size_t i = 0; i < QUADS; i++)
            {
                const uint8_t *table = tables + (b * QUADS + i) * QUAD_SUMS_BYTES;
                const __m512i low = in_all(table), high = in_all(table + 16);
                UNROLL for (size_t p = 0; p < n; p++)
                {
                    const uint8_t *at = nibbles + ((b * QUADS + i) * n + p) * 64;
                    look_up(low, high, _mm512_loadu_si512(at), i == 0, &s[p]);
                }
            }
            UNROLL for (size_t p = 0; p < n; p++)
            {
                add_sums(&s[p], &block, part[p]);
            }
        }
        UNROLL for (size_t p = 0; p < n; p++)
        {
            UNROLL for (int i = 0; i < ROWS; i++)
            {
                acc[t * n + p][i] = _mm512_fmadd_ps(scale[p][i], part[p][i], acc[t * n + p][i]);
            }
        }
    }
}

INLINE void tokens(const struct work *w, const size_t n, const struct act_q8 *act, size_t t0,
                   size_t n_tokens, __m512 (*acc)[ROWS])
{
    uint8_t nibbles[BLOCKS * QUADS * FOURS * 64] __attribute__((aligned(64)));

    for (size_t i = 0; i < n_tokens * n; i++) {
        clear(acc + i, 1);
    }
    for (size_t g = 0; g < w->n_cols / B1_GROUP; g++) {
        __m512 scale[FOURS][ROWS];

        lay_out(w, n, g, nibbles);
        UNROLL for (size_t p = 0; p < n; p++)
        {
            scales_of(&w->fours[p], g * B1_GROUP_BYTES, scale[p]);
        }
        group_tokens(nibbles, scale, n, g, act, t0, n_tokens, acc);
    }
}

/* ---- by the number of panels ---- */

/* Each compiled for itself: each has the registers for itself. */
#define BY_FOURS(n)                                                                                \
    static __attribute__((noinline)) void token_##n(const struct work *w,                          \
                                                    const struct act_q8 *act, __m512(*acc)[ROWS])  \
    {                                                                                              \
        token(w, n, act, acc);                                                                     \
    }                                                                                              \
    static                                                                                         \
        __attribute__((noinline)) void tokens_##n(const struct work *w, const struct act_q8 *act,  \
                                                  size_t t0, size_t n_tokens, __m512(*acc)[ROWS])  \
    {                                                                                              \
        tokens(w, n, act, t0, n_tokens, acc);                                                      \
    }

BY_FOURS(1)
BY_FOURS(2)

static void store_token(size_t n_panels, __m512 (*acc)[ROWS], float *out)
{
    for (size_t p = 0; p < n_panels; p += IN_ONE) {
        const size_t left = n_panels - p, n = left < IN_ONE ? left : IN_ONE;
        for (size_t i = 0; i < ROWS; i++) {
            store_lanes(acc[p / IN_ONE][i], n, out + p * PANEL_ROWS + 4 * i);
        }
    }
}

/* Apart from one token's, since it wants so much stack. */
static __attribute__((noinline)) void many_tokens(const struct work *w, size_t n_panels,
                                                  const struct act_q8 *act, float *out,
                                                  size_t out_stride)
{
    const size_t n_fours = (n_panels + IN_ONE - 1) / IN_ONE;
    __m512 acc[AT_ONCE * FOURS][ROWS];

    for (size_t t = 0; t < act->n_tokens; t += AT_ONCE) {
        const size_t left = act->n_tokens - t, n = left < AT_ONCE ? left : AT_ONCE;
        (n_fours == 1 ? tokens_1 : tokens_2)(w, act, t, n, acc);
        for (size_t i = 0; i < n; i++) {
            store_token(n_panels, acc + i * n_fours, out + (t + i) * out_stride);
        }
    }
}

void b1_panels_avx512(const uint8_t *panels, size_t n_panels, const uint8_t *next, size_t n_cols,
                      const struct act_q8 *act, float *out, size_t out_stride)
{
    assert(n_cols % B1_GROUP == 0 && n_cols <= KERN_COLS_MAX && act->sums);
    assert(n_panels >= 1 && n_panels <= B1_PANELS_BEST);

    const struct work w = work_of(panels, n_panels, next, n_cols);
    if (act->n_tokens == 1) {
        __m512 acc[FOURS][ROWS];
        (n_panels <= IN_ONE ? token_1 : token_2)(&w, act, acc);
        store_token(n_panels, acc, out);
    } else {
        many_tokens(&w, n_panels, act, out, out_stride);
    }
}

void panel_b1_avx512(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, float *out,
                     size_t out_stride)
{
    if (act->sums) {
        b1_panels_avx512(panel, 1, NULL, n_cols, act, out, out_stride);
    } else {
        panel_b1_scalar(panel, n_cols, act, out, out_stride);
    }
}
