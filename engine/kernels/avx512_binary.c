/* AVX-512, B1, by the tables of quad_sums (kernels.h): a byte shuffle looks quads up for 64 rows at
 * once. The arithmetic of a block is that of AVX2's file: the two byte sums, low and high, are
 * woven together and multiplied by 2 and 64, and the int16 becomes the lower half of a float
 * between 2^23 and 2^24, of which 2^23 + 8,192 + sum(q) is taken off.
 *
 * What takes a shuffle's port is dear, and to put 16 bytes of memory into all four lanes of a
 * register does.
 *
 * - One token: a panel's line of a block is used as it stands, with columns 8l..8l+7 in lane l, by
 *   tables that have their quads in the lanes, too. Then the sums of four panels are added up over
 *   their lanes and come to lie in one register, a panel in each lane.
 * - More: a group's nibbles are laid out as bytes with a panel in each lane, which stay in the
 *   first cache, and the tokens pass over them, each with its own tables in all lanes.
 *
 * A block's tables of 16 bytes: low ones of quads 0, 2, 4, 6, then of 1, 3, 5, 7; the high ones. */
#include "engine/kernels/avx512_common.h"

#define BLOCKS 4   /* of activations in a group */
#define QUADS 8    /* in a block */
#define HIGH 128   /* bytes from a table of low bytes to the high ones' */
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

/* A table of four quads, bytes of the words in `a` and `b`: packing left four ways of each of them
 * side by side in every lane. */
INLINE __m512i in_lanes(__m512i a, __m512i b)
{
    const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);

    return _mm512_permutexvar_epi32(order, _mm512_packus_epi16(a, b));
}

void quad_sums_avx512(const int8_t *q, size_t n_cols, uint8_t *ret)
{
    const __m512i five = _mm512_set1_epi16(31);

    for (size_t c = 0; c < n_cols; c += ACT_BLOCK) {
        UNROLL for (size_t odd = 0; odd < 2; odd++)
        {
            const int8_t *x = q + c + 4 * odd;
            uint8_t *to = ret + c / 4 * QUAD_SUMS_BYTES + 64 * odd;
            const __m512i a = _mm512_packus_epi32(ways(x), ways(x + 8));
            const __m512i b = _mm512_packus_epi32(ways(x + 16), ways(x + 24));
            const __m512i low = in_lanes(_mm512_and_si512(a, five), _mm512_and_si512(b, five));
            const __m512i high = in_lanes(_mm512_srli_epi16(a, 5), _mm512_srli_epi16(b, 5));
            _mm512_storeu_si512(to, low);
            _mm512_storeu_si512(to + HIGH, high);
        }
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

/* Rows 4i..4i+3 of n panels. Not by way of memory: what is read back there waits for all stores
 * before it, and other threads have read those lines. */
INLINE void store_lanes(__m512 x, size_t n, float *out)
{
    _mm_storeu_ps(out, _mm512_castps512_ps128(x));
    if (n > 1) {
        _mm_storeu_ps(out + PANEL_ROWS, _mm512_extractf32x4_ps(x, 1));
    }
    if (n > 2) {
        _mm_storeu_ps(out + 2 * PANEL_ROWS, _mm512_extractf32x4_ps(x, 2));
    }
    if (n > 3) {
        _mm_storeu_ps(out + 3 * PANEL_ROWS, _mm512_extractf32x4_ps(x, 3));
    }
}

/* ---- one token ---- */

INLINE void split(__m512i w, __m512i ret[2])
{
    const __m512i low = _mm512_set1_epi8(15);

    ret[0] = _mm512_and_si512(w, low);
    ret[1] = _mm512_and_si512(_mm512_srli_epi16(w, 4), low);
}

/* The even quads' nibbles of a line and the odd ones', four in each; sums not yet across lanes. */
struct line {
    __m512i low[IN_ONE], high[IN_ONE];
};

INLINE void look_up_line(const struct four *f, size_t at, const uint8_t *tables, struct line *ret)
{
    const __m512i low[2] = {_mm512_loadu_si512(tables), _mm512_loadu_si512(tables + 64)};
    const __m512i high[2] = {_mm512_loadu_si512(tables + HIGH),
                             _mm512_loadu_si512(tables + HIGH + 64)};

    UNROLL for (size_t p = 0; p < IN_ONE; p++)
    {
        __m512i n[2];
        split(in_order(_mm512_loadu_si512(f->panel[p] + at)), n);
        ret->low[p] =
            _mm512_add_epi8(_mm512_shuffle_epi8(low[0], n[0]), _mm512_shuffle_epi8(low[1], n[1]));
        ret->high[p] =
            _mm512_add_epi8(_mm512_shuffle_epi8(high[0], n[0]), _mm512_shuffle_epi8(high[1], n[1]));
    }
}

/* Sums of two lanes each: a's in the first two lanes, b's in the others. */
INLINE __m512i add_halves(__m512i a, __m512i b)
{
    return _mm512_add_epi8(_mm512_mask_blend_epi64(0xf0, a, b), _mm512_shuffle_i32x4(a, b, 0x4e));
}

/* Each panel's sum over its lanes in the panel's own lane. */
INLINE __m512i add_lanes(const __m512i x[IN_ONE])
{
    const __m512i a = add_halves(x[0], x[1]), b = add_halves(x[2], x[3]);

    return _mm512_add_epi8(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xdd));
}

/* Not inlined: it has the registers for itself. */
static __attribute__((noinline)) void token(const struct work *w, const struct act_q8 *act,
                                            __m512 acc[ROWS])
{
    const struct four *f = &w->fours[0];

    clear_rows(acc, ROWS);
    for (size_t g = 0; g < w->n_cols / B1_GROUP; g++) {
        __m512 part[ROWS], scale[ROWS];

        clear_rows(part, ROWS);
        for (size_t b = 0; b < BLOCKS; b++) {
            const size_t at = g * BLOCKS + b;
            const uint8_t *tables = act->sums + at * QUADS * QUAD_SUMS_BYTES;
            const struct block block = block_of(act, 0, at);
            struct line line;

            prefetch_next(w, 1, at);
            look_up_line(f, g * B1_GROUP_BYTES + 32 + b * B1_LINE_BYTES, tables, &line);
            const struct sums s = {add_lanes(line.low), add_lanes(line.high)};
            add_sums(&s, &block, part);
        }
        scales_of(f, g * B1_GROUP_BYTES, scale);
        UNROLL for (int i = 0; i < ROWS; i++)
        {
            acc[i] = _mm512_fmadd_ps(scale[i], part[i], acc[i]);
        }
    }
}

/* ---- several tokens ---- */

INLINE void clear(__m512 (*x)[ROWS], const size_t n)
{
    UNROLL for (size_t i = 0; i < n; i++)
    {
        clear_rows(x[i], ROWS);
    }
}

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
                const uint8_t *table =
                    tables + b * QUADS * QUAD_SUMS_BYTES + i % 2 * 64 + i / 2 * 16;
                const __m512i low = in_all(table), high = in_all(table + HIGH);
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

static void many_tokens(const uint8_t *panels, size_t n_panels, const uint8_t *next, size_t n_cols,
                        const struct act_q8 *act, float *out, size_t out_stride)
{
    const struct work w = work_of(panels, n_panels, next, n_cols);
    const size_t n_fours = (n_panels + IN_ONE - 1) / IN_ONE;
    __m512 acc[AT_ONCE * FOURS][ROWS];

    for (size_t t = 0; t < act->n_tokens; t += AT_ONCE) {
        const size_t left = act->n_tokens - t, n = left < AT_ONCE ? left : AT_ONCE;
        (n_fours == 1 ? tokens_1 : tokens_2)(&w, act, t, n, acc);
        for (size_t i = 0; i < n; i++) {
            store_token(n_panels, acc + i * n_fours, out + (t + i) * out_stride);
        }
    }
}

/* Four panels after the other: with eight the first cache does not hold what was asked for. */
static void one_token(const uint8_t *panels, size_t n_panels, const uint8_t *next, size_t n_cols,
                      const struct act_q8 *act, float *out)
{
    const size_t bytes = n_cols / B1_GROUP * B1_GROUP_BYTES;

    for (size_t p = 0; p < n_panels; p += IN_ONE) {
        const size_t left = n_panels - p, n = left < IN_ONE ? left : IN_ONE;
        const uint8_t *at = panels + p * bytes;
        const struct work w = work_of(at, n, left > n ? at + n * bytes : next, n_cols);
        __m512 acc[1][ROWS];
        token(&w, act, acc[0]);
        store_token(n, acc, out + p * PANEL_ROWS);
    }
}

void b1_panels_avx512(const uint8_t *panels, size_t n_panels, const uint8_t *next, size_t n_cols,
                      const struct act_q8 *act, float *out, size_t out_stride)
{
    assert(n_cols % B1_GROUP == 0 && n_cols <= KERN_COLS_MAX && act->sums);
    assert(n_panels >= 1 && n_panels <= B1_PANELS_BEST);

    if (act->n_tokens == 1) {
        one_token(panels, n_panels, next, n_cols, act, out);
    } else {
        many_tokens(panels, n_panels, next, n_cols, act, out, out_stride);
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
