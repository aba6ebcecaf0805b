/* AVX2, B1: the sum over +1 and -1 weights is 2 * sum(kept) - sum(all), where kept are the
 * activations whose bit is set, so that no int8 is ever negated.
 *
 * A register is 8 rows x 32 columns, one bit of each byte (a plane) is 8 rows x 4 columns, and
 * maddubs(plane, activations) adds two columns into int16. Three ways, by the number of tokens:
 * - One: a plane is used where it stands, as 0 or 1, 2, 4, 8. Two planes of a factor are added up
 *   and shifted down: they stay within 2 planes * 2 columns * 8 * 128 = 4,096.
 * - Up to TILE: planes become 0 or 1 in registers and serve all tokens.
 * - More: a group is expanded once to bytes of 0 or 1 that stay in the first cache, and tiles of
 *   tokens pass over them.
 * A block's sum of kept is within 16 * 128 in each half of a lane. */
#include "engine/kernels/avx2_common.h"

#define TILE 6      /* tokens whose sums stay in registers: 12 of the 16 */
#define AT_ONCE 64  /* tokens whose results wait beside the expanded group */
#define BLOCKS 4    /* of activations in a group */
#define EXPANDED 64 /* bytes of a plane */

/* kept: int16 pairs of the rows of a half. */
INLINE __m256 add_kept(float d, int32_t all, __m256i kept, __m256 part)
{
    const __m256i twice = _mm256_madd_epi16(kept, _mm256_set1_epi16(2));
    return add_block(d, _mm256_sub_epi32(twice, _mm256_set1_epi32(all)), part);
}

/* ---- one token ---- */

/* Plane k and plane k + 4 of 8 rows, times their activations, brought down to factor 1. */
INLINE __m256i two_planes(__m256i low, __m256i high, int k, __m256i x0, __m256i x1)
{
    const __m256i bit = _mm256_set1_epi8((char)(1 << k));
    const __m256i pairs = _mm256_add_epi16(_mm256_maddubs_epi16(_mm256_and_si256(low, bit), x0),
                                           _mm256_maddubs_epi16(_mm256_and_si256(high, bit), x1));
    return _mm256_srai_epi16(pairs, k);
}

/* The kept sums of a line. */
INLINE void line_token(const uint8_t *line, const int8_t *q, __m256i kept[2])
{
    const __m256i w[2] = {load(line), load(line + 32)};
    const __m256i high[2] = {_mm256_srli_epi16(w[0], 4), _mm256_srli_epi16(w[1], 4)};

    kept[0] = two_planes(w[0], high[0], 0, broadcast4(q), broadcast4(q + 16));
    kept[1] = two_planes(w[1], high[1], 0, broadcast4(q), broadcast4(q + 16));
    UNROLL for (int k = 1; k < B1_PLANES / 2; k++)
    {
        const __m256i x0 = broadcast4(q + 4 * k), x1 = broadcast4(q + 4 * k + 16);
        add16(&kept[0], two_planes(w[0], high[0], k, x0, x1));
        add16(&kept[1], two_planes(w[1], high[1], k, x0, x1));
    }
}

static void b1_token(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, float *out)
{
    const int8_t *q = act->q;
    __m256 acc[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};

    for (size_t g = 0; g < n_cols / B1_GROUP; g++) {
        const uint8_t *group = panel + g * B1_GROUP_BYTES;
        __m256 part[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()}, scale[2];

        prefetch(group);
        UNROLL for (size_t b = 0; b < BLOCKS; b++)
        {
            const uint8_t *line = group + 32 + b * B1_LINE_BYTES;
            const size_t at = g * BLOCKS + b;
            __m256i kept[2];

            prefetch(line);
            line_token(line, q + at * ACT_BLOCK, kept);
            part[0] = add_kept(act->d[at], act->s[at], kept[0], part[0]);
            part[1] = add_kept(act->d[at], act->s[at], kept[1], part[1]);
        }
        scales(group, scale);
        acc[0] = _mm256_fmadd_ps(scale[0], part[0], acc[0]);
        acc[1] = _mm256_fmadd_ps(scale[1], part[1], acc[1]);
    }
    _mm256_storeu_ps(out, acc[0]);
    _mm256_storeu_ps(out + 8, acc[1]);
}

/* ---- several tokens ---- */

/* Plane k of both halves as bytes of 0 or 1. */
INLINE void expand(const uint8_t *line, int k, __m256i ret[2])
{
    const __m256i bit = _mm256_set1_epi8((char)(1u << k)), one = _mm256_set1_epi8(1);

    ret[0] = _mm256_min_epu8(_mm256_and_si256(load(line), bit), one);
    ret[1] = _mm256_min_epu8(_mm256_and_si256(load(line + 32), bit), one);
}

/* What n tokens keep of one plane: kept, or added to it. */
INLINE void keep(const __m256i w[2], const int8_t *q, size_t q_stride, const size_t n,
                 const bool first, __m256i (*kept)[2])
{
    UNROLL for (size_t t = 0; t < n; t++)
    {
        const __m256i x = broadcast4(q + t * q_stride);
        const __m256i low = _mm256_maddubs_epi16(w[0], x), high = _mm256_maddubs_epi16(w[1], x);
        if (first) {
            kept[t][0] = low;
            kept[t][1] = high;
        } else {
            add16(&kept[t][0], low);
            add16(&kept[t][1], high);
        }
    }
}

/* The four blocks of group g: its part, and the part into acc. lines: as packed, or the group
 * expanded. */
INLINE void group_tokens(const uint8_t *lines, const bool expanded, const uint8_t *group, size_t g,
                         const struct act_q8 *act, size_t t0, const size_t n, __m256 (*acc)[2])
{
    __m256 part[TILE][2], scale[2];

    clear_rows(part, n);
    for (size_t b = 0; b < BLOCKS; b++) {
        const int8_t *q = act->q + t0 * act->q_stride + (g * BLOCKS + b) * ACT_BLOCK;
        __m256i kept[TILE][2];

        UNROLL for (size_t k = 0; k < B1_PLANES; k++)
        {
            __m256i w[2];
            if (expanded) {
                const uint8_t *plane = lines + (b * B1_PLANES + k) * EXPANDED;
                w[0] = load(plane);
                w[1] = load(plane + 32);
            } else {
                expand(lines + b * B1_LINE_BYTES, (int)k, w);
            }
            keep(w, q + 4 * k, act->q_stride, n, k == 0, kept);
        }
        UNROLL for (size_t t = 0; t < n; t++)
        {
            const size_t at = (t0 + t) * act->d_stride + g * BLOCKS + b;
            part[t][0] = add_kept(act->d[at], act->s[at], kept[t][0], part[t][0]);
            part[t][1] = add_kept(act->d[at], act->s[at], kept[t][1], part[t][1]);
        }
    }
    scales(group, scale);
    UNROLL for (size_t t = 0; t < n; t++)
    {
        acc[t][0] = _mm256_fmadd_ps(scale[0], part[t][0], acc[t][0]);
        acc[t][1] = _mm256_fmadd_ps(scale[1], part[t][1], acc[t][1]);
    }
}

INLINE void expand_group(const uint8_t *group, uint8_t *ret)
{
    for (size_t b = 0; b < BLOCKS; b++) {
        prefetch(group + 32 + b * B1_LINE_BYTES);
        UNROLL for (size_t k = 0; k < B1_PLANES; k++)
        {
            uint8_t *plane = ret + (b * B1_PLANES + k) * EXPANDED;
            __m256i w[2];
            expand(group + 32 + b * B1_LINE_BYTES, (int)k, w);
            _mm256_storeu_si256((__m256i *)plane, w[0]);
            _mm256_storeu_si256((__m256i *)(plane + 32), w[1]);
        }
    }
}

INLINE void few_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act,
                       const size_t n, float *out, size_t out_stride)
{
    __m256 acc[TILE][2];

    clear_rows(acc, n);
    for (size_t g = 0; g < n_cols / B1_GROUP; g++) {
        const uint8_t *group = panel + g * B1_GROUP_BYTES;
        for (size_t b = 0; b < BLOCKS; b++) {
            prefetch(group + 32 + b * B1_LINE_BYTES);
        }
        group_tokens(group + 32, false, group, g, act, 0, n, acc);
    }
    store_rows(out, out_stride, acc, n);
}

/* One function for each number of tokens, none inlined: each has the registers for itself. */
#define FEW(n)                                                                                     \
    static __attribute__((noinline)) void few_##n(const uint8_t *panel, size_t n_cols,             \
                                                  const struct act_q8 *act, float *out,            \
                                                  size_t out_stride)                               \
    {                                                                                              \
        few_tokens(panel, n_cols, act, n, out, out_stride);                                        \
    }

FEW(2)
FEW(3)
FEW(4)
FEW(5)
FEW(6)

typedef void tile_fn(const uint8_t *lines, const uint8_t *group, size_t g, const struct act_q8 *act,
                     size_t t0, __m256 (*acc)[2]);

#define TILE_OF(n)                                                                                 \
    static __attribute__((noinline)) void tile_##n(const uint8_t *lines, const uint8_t *group,     \
                                                   size_t g, const struct act_q8 *act, size_t t0,  \
                                                   __m256(*acc)[2])                                \
    {                                                                                              \
        group_tokens(lines, true, group, g, act, t0, n, acc);                                      \
    }

TILE_OF(3)
TILE_OF(4)
TILE_OF(5)
TILE_OF(6)

static panel_fn *const few[TILE + 1] = {[2] = few_2, few_3, few_4, few_5, few_6};
static tile_fn *const tiles[TILE + 1] = {[3] = tile_3, tile_4, tile_5, tile_6};

/* More than TILE tokens, at most AT_ONCE, in tiles as equal as can be: each has 3 at least. */
static void many_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                        size_t n, float *out, size_t out_stride)
{
    const size_t n_tiles = (n + TILE - 1) / TILE, size = n / n_tiles, larger = n % n_tiles;
    uint8_t lines[BLOCKS * B1_PLANES * EXPANDED] __attribute__((aligned(64)));
    __m256 acc[AT_ONCE][2];

    clear_rows(acc, n);
    for (size_t g = 0; g < n_cols / B1_GROUP; g++) {
        const uint8_t *group = panel + g * B1_GROUP_BYTES;

        expand_group(group, lines);
        for (size_t i = 0, t = 0; i < n_tiles; i++) {
            const size_t m = size + (i < larger);
            tiles[m](lines, group, g, act, t0 + t, acc + t);
            t += m;
        }
    }
    store_rows(out + t0 * out_stride, out_stride, acc, n);
}

void panel_b1_avx2(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, float *out,
                   size_t out_stride)
{
    const size_t n = act->n_tokens;

    assert(n_cols % B1_GROUP == 0 && n_cols <= KERN_COLS_MAX);

    if (n == 1) {
        b1_token(panel, n_cols, act, out);
        return;
    }
    if (n <= TILE) {
        few[n](panel, n_cols, act, out, out_stride);
        return;
    }
    const size_t n_parts = (n + AT_ONCE - 1) / AT_ONCE; /* as equal as can be, so all are many */
    for (size_t i = 0, t = 0; i < n_parts; i++) {
        const size_t m = n / n_parts + (i < n % n_parts);
        many_tokens(panel, n_cols, act, t, m, out, out_stride);
        t += m;
    }
}
