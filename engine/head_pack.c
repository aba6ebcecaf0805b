/* The head's copy in five bits, as it is packed (engine/head.h).
 *
 * Panels are K5's, but their scales and minimums take all eight bits, since nothing has to pass
 * through a file's six. A block of 32 weights from lo to hi gets 32 levels of (hi - lo) / 32, the
 * lowest half a level above lo: then no weight is farther from its level than half of one. f16
 * holds few magnitudes, so the weights are multiplied by a power of two first, one for the whole
 * head; a row so much smaller than the largest that f16 cannot hold its scale is copied badly, and
 * its bound says so. */
#include "engine/head.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BLOCKS 8u /* of 32 weights in a group */
#define BLOCK 32u
#define LEVELS 32u
#define STEPS_MAX 255.0f /* the largest scale or minimum of a block, in units of its group's */

#define SLACK (1.0 + 0x1p-20) /* more than any rounding of a sum of squares in double */

static uint64_t panels_of(uint64_t n_rows)
{
    return n_rows / PANEL_ROWS + (n_rows % PANEL_ROWS != 0);
}

bool head_low_bytes(enum format f, uint64_t n_cols, uint64_t n_rows, uint64_t *ret)
{
    uint64_t own, panels, bounds;

    return format_info(f)->panel == PANEL_NONE && format_tensor_bytes(f, n_cols, n_rows, &own) &&
           own >= HEAD_LOW_LEAST && n_cols % K_GROUP == 0 &&
           format_packed_bytes(HEAD_LOW_FORMAT, n_cols, n_rows, &panels) &&
           !__builtin_mul_overflow(panels_of(n_rows), HEAD_BOUNDS * PANEL_ROWS * sizeof(float),
                                   &bounds) &&
           !__builtin_add_overflow(panels, bounds, ret);
}

uint64_t head_low_bounds_at(uint64_t n_cols, uint64_t n_rows)
{
    return panels_of(n_rows) * format_panel_bytes(HEAD_LOW_FORMAT, (size_t)n_cols);
}

/* ---- before packing ---- */

static float round_up(double x)
{
    return nextafterf((float)(x * SLACK), INFINITY);
}

/* The largest magnitude, as bits: magnitudes order like these, what is not finite above all. */
static uint32_t top_bits(const float *x, size_t n)
{
    uint32_t top = 0;

    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof(bits));
        bits &= 0x7fffffff;
        top = bits > top ? bits : top;
    }
    return top;
}

#define SUMS 4u

static double sum_of_squares(const float *x, size_t n)
{
    double sums[SUMS] = {0};

    for (size_t i = 0; i < n; i += SUMS) {
        for (size_t j = 0; j < SUMS; j++) {
            sums[j] += (double)x[i + j] * (double)x[i + j];
        }
    }
    return sums[0] + sums[1] + (sums[2] + sums[3]);
}

int head_survey(enum format f, const uint8_t *data, size_t n_cols, uint64_t n_rows,
                float *ret_scale, float *ret_norm_max)
{
    const size_t row_bytes = format_row_bytes(f, n_cols);
    float *x = malloc(n_cols * sizeof(*x)), norm_max, most;
    uint32_t top = 0;
    double longest = 0;
    int e = 0;

    if (!x) {
        return -ENOMEM;
    }
    for (uint64_t row = 0; row < n_rows; row++) {
        format_decode_row(f, data + row * row_bytes, 1, n_cols, x);
        const uint32_t top_of_row = top_bits(x, n_cols);
        const double square = sum_of_squares(x, n_cols);
        top = top_of_row > top ? top_of_row : top;
        longest = square > longest ? square : longest;
    }
    free(x);
    memcpy(&most, &top, sizeof(most));
    norm_max = round_up(sqrt(longest));
    if (!isfinite(most) || !(norm_max <= HEAD_NORM_MAX)) {
        return 0;
    }
    if (most >= 0x1p-100f) {
        (void)frexpf(most, &e);
        e -= 20; /* weights of panels are below 2^20, so that f16 holds their minimums / 255 */
    }
    *ret_scale = ldexpf(1, e);
    *ret_norm_max = norm_max;
    return 1;
}

/* ---- one group of one row ---- */

struct group {
    float d, dmin; /* as f16 holds them */
    uint8_t sc[BLOCKS], mn[BLOCKS];
    uint8_t code[K_GROUP];
};

struct range {
    float step, min; /* min is what the lowest level lies below zero, never negative */
};

static struct range range_of(const float *x)
{
    float lo = 0, hi = 0;

    for (size_t i = 0; i < BLOCK; i++) {
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    const float step = (hi - lo) / (float)LEVELS, min = -lo - 0.5f * step;
    return (struct range){.step = step, .min = min > 0 ? min : 0};
}

/* To the nearest of 0..most. */
static uint8_t level_of(float x, float most)
{
    x = x < 0 ? 0 : x;
    return (uint8_t)((x < most ? x : most) + 0.5f);
}

static void encode_group(const float *x, struct group *g)
{
    struct range r[BLOCKS];
    float step = 0, min = 0;

    for (size_t j = 0; j < BLOCKS; j++) {
        r[j] = range_of(x + j * BLOCK);
        step = r[j].step > step ? r[j].step : step;
        min = r[j].min > min ? r[j].min : min;
    }
    g->d = f16_to_f32(f16_from_f32(step / STEPS_MAX));
    g->dmin = f16_to_f32(f16_from_f32(min / STEPS_MAX));
    for (size_t j = 0; j < BLOCKS; j++) {
        g->sc[j] = g->d > 0 ? level_of(r[j].step / g->d, STEPS_MAX) : 0;
        g->mn[j] = g->dmin > 0 ? level_of(r[j].min / g->dmin, STEPS_MAX) : 0;
        const float level = g->d * (float)g->sc[j], lowest = g->dmin * (float)g->mn[j];
        const float inverse = level > 0 ? 1.0f / level : 0;
        for (size_t i = j * BLOCK; i < (j + 1) * BLOCK; i++) {
            g->code[i] = level_of((x[i] + lowest) * inverse, (float)(LEVELS - 1));
        }
    }
}

static void put_group(const struct group *g, size_t row, uint8_t *to)
{
    uint8_t *sc = to + 64, *mn = sc + 128, *tiles = mn + 128, *fifth = tiles + 2048;
    const uint16_t d = f16_from_f32(g->d), dmin = f16_from_f32(g->dmin);

    memcpy(to + 2 * row, &d, sizeof(d));
    memcpy(to + 32 + 2 * row, &dmin, sizeof(dmin));
    for (size_t j = 0; j < BLOCKS; j++) {
        sc[16 * j + row] = g->sc[j];
        mn[16 * j + row] = g->mn[j];
    }
    for (size_t c = 0; c < K_GROUP; c++) {
        const unsigned code = g->code[c], lane = (unsigned)(row * 4 + c % 4);
        tiles[c / 8 * 64 + lane] |= (uint8_t)((code & 15) << (c % 8 / 4 * 4));
        fifth[c / 32 * 64 + lane] |= (uint8_t)(code >> 4 << (c % 32 / 4));
    }
}

/* ---- bounds ---- */

struct squares {
    double own, copy, error, parts; /* of the row, its copy, their difference, the copy's parts */
};

static void add_squares(const float *x, const struct group *g, double scale, struct squares *s)
{
    for (size_t j = 0; j < BLOCKS; j++) {
        const double level = (double)g->d * g->sc[j] * scale;
        const double lowest = (double)g->dmin * g->mn[j] * scale;
        for (size_t i = j * BLOCK; i < (j + 1) * BLOCK; i++) {
            const double w = (double)x[i], part = level * g->code[i], copy = part - lowest;
            s->own += w * w;
            s->copy += copy * copy;
            s->error += (w - copy) * (w - copy);
            s->parts += (part + lowest) * (part + lowest);
        }
    }
}

/* What head.c proves that a product may be off by: [0] times the input's length and [1] times that
 * of what its quantization left. */
static void put_bounds(const struct squares *s, size_t n_cols, size_t row, float *bounds)
{
    const double u = 0x1p-24, roundings = (double)(n_cols / 16 + 2 * (n_cols / K_GROUP) + 32);
    const double rounding = 1.01 * roundings * u * (sqrt(s->own) + sqrt(s->parts));

    bounds[row] = round_up(sqrt(s->error) + rounding);
    bounds[PANEL_ROWS + row] = round_up(sqrt(s->copy));
}

void head_pack_panel(const float *x, size_t n_rows, size_t n_cols, float scale, uint8_t *panel,
                     float *bounds)
{
    assert(n_rows >= 1 && n_rows <= PANEL_ROWS && n_cols % K_GROUP == 0);

    memset(panel, 0, format_panel_bytes(HEAD_LOW_FORMAT, n_cols));
    memset(bounds, 0, HEAD_BOUNDS * PANEL_ROWS * sizeof(*bounds));
    for (size_t row = 0; row < n_rows; row++, x += n_cols) {
        struct squares s = {0};
        for (size_t at = 0; at < n_cols; at += K_GROUP) {
            float y[K_GROUP];
            struct group g;
            for (size_t i = 0; i < K_GROUP; i++) {
                y[i] = x[at + i] / scale;
            }
            encode_group(y, &g);
            put_group(&g, row, panel + at / K_GROUP * K5_GROUP_BYTES);
            add_squares(x + at, &g, (double)scale, &s);
        }
        put_bounds(&s, n_cols, row, bounds);
    }
}
