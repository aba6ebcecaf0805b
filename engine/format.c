/* The table of weight formats, their decoders, encoders and packers.
 *
 * Decoding is exact: a scale is an f16 and a code at most eight bits, so their product fits a float. */
#include "engine/format.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "engine/kernels/kernels.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "packed weights are read in place and are little-endian"
#endif

#define Q8_BLOCK 32u
#define Q8_BYTES 34u
#define Q1_BLOCK 128u
#define Q1_BYTES 18u
#define T2_BLOCK 256u
#define T2_BYTES 66u
#define T2_SCALE_AT 64u
#define Q4_BYTES 18u /* blocks of Q8_BLOCK weights */

_Static_assert(Q8_BLOCK == I8_GROUP && Q1_BLOCK == B1_GROUP && T2_BLOCK == T2_GROUP,
               "a block of a row is a group of a panel");

static uint16_t load16(const uint8_t *p)
{
    uint16_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

static void store16(uint8_t *p, uint16_t v)
{
    memcpy(p, &v, sizeof(v));
}

/* ---- codes inside a GGUF block ---- */

static bool q1_bit(const uint8_t *block, size_t i)
{
    return (block[2 + i / 8] >> (i % 8) & 1) != 0;
}

static int q4_code(const uint8_t *block, size_t i)
{
    return (i < 16 ? block[2 + i] & 15 : block[2 + i - 16] >> 4) - 8;
}

static unsigned t2_code(const uint8_t *block, size_t i)
{
    const size_t half = i / 128, k = i % 128 / 32, m = i % 32;

    return block[32 * half + m] >> (2 * k) & 3u;
}

/* ---- decoding ---- */

static void decode_f32(const uint8_t *row, size_t n, float *ret)
{
    memcpy(ret, row, n * sizeof(*ret));
}

static void decode_f16(const uint8_t *row, size_t n, float *ret)
{
    for (size_t i = 0; i < n; i++) {
        ret[i] = f16_to_f32(load16(row + 2 * i));
    }
}

static void decode_bf16(const uint8_t *row, size_t n, float *ret)
{
    for (size_t i = 0; i < n; i++) {
        ret[i] = bf16_to_f32(load16(row + 2 * i));
    }
}

static void decode_q8_0(const uint8_t *row, size_t n, float *ret)
{
    for (size_t at = 0; at < n; at += Q8_BLOCK, row += Q8_BYTES) {
        const float d = f16_to_f32(load16(row));
        for (size_t i = 0; i < Q8_BLOCK; i++) {
            ret[at + i] = d * (float)(int8_t)row[2 + i];
        }
    }
}

static void decode_q4_0(const uint8_t *row, size_t n, float *ret)
{
    for (size_t at = 0; at < n; at += Q8_BLOCK, row += Q4_BYTES) {
        const float d = f16_to_f32(load16(row));
        for (size_t i = 0; i < Q8_BLOCK; i++) {
            ret[at + i] = d * (float)q4_code(row, i);
        }
    }
}

static void decode_q1_0(const uint8_t *row, size_t n, float *ret)
{
    for (size_t at = 0; at < n; at += Q1_BLOCK, row += Q1_BYTES) {
        const float d = f16_to_f32(load16(row));
        for (size_t i = 0; i < Q1_BLOCK; i++) {
            ret[at + i] = q1_bit(row, i) ? d : -d;
        }
    }
}

static void decode_tq2_0(const uint8_t *row, size_t n, float *ret)
{
    for (size_t at = 0; at < n; at += T2_BLOCK, row += T2_BYTES) {
        const float d = f16_to_f32(load16(row + T2_SCALE_AT));
        for (size_t i = 0; i < T2_BLOCK; i++) {
            ret[at + i] = d * (float)((int)t2_code(row, i) - 1);
        }
    }
}

/* ---- encoding ---- */

/* Round half away from zero, as the usual encoders do; NaN gives lo. */
static int round_clamp(float v, int lo, int hi)
{
    const float r = roundf(v);

    if (!(r > (float)lo)) {
        return lo;
    }
    return r < (float)hi ? (int)r : hi;
}

static float amax_of(const float *x, size_t n)
{
    float amax = 0;

    for (size_t i = 0; i < n; i++) {
        const float a = fabsf(x[i]);
        amax = a > amax ? a : amax;
    }
    return amax;
}

static void encode_f32(const float *x, size_t n, uint8_t *ret)
{
    memcpy(ret, x, n * sizeof(*x));
}

static void encode_f16(const float *x, size_t n, uint8_t *ret)
{
    for (size_t i = 0; i < n; i++) {
        store16(ret + 2 * i, f16_from_f32(x[i]));
    }
}

static void encode_bf16(const float *x, size_t n, uint8_t *ret)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof(bits));
        if (isnan(x[i])) {
            bits |= UINT32_C(1) << 22; /* rounding must not turn a NaN into an infinity */
        } else {
            bits += 0x7fff + (bits >> 16 & 1);
        }
        store16(ret + 2 * i, (uint16_t)(bits >> 16));
    }
}

static void encode_q8_0(const float *x, size_t n, uint8_t *ret)
{
    for (size_t at = 0; at < n; at += Q8_BLOCK, ret += Q8_BYTES) {
        const float d = amax_of(x + at, Q8_BLOCK) / 127.0f;
        const float inv = d > 0 ? 1.0f / d : 0.0f;
        store16(ret, f16_from_f32(d));
        for (size_t i = 0; i < Q8_BLOCK; i++) {
            ret[2 + i] = (uint8_t)(int8_t)round_clamp(x[at + i] * inv, -127, 127);
        }
    }
}

static void encode_q1_0(const float *x, size_t n, uint8_t *ret)
{
    for (size_t at = 0; at < n; at += Q1_BLOCK, ret += Q1_BYTES) {
        float sum = 0;
        memset(ret, 0, Q1_BYTES);
        for (size_t i = 0; i < Q1_BLOCK; i++) {
            sum += fabsf(x[at + i]);
            if (x[at + i] >= 0) {
                ret[2 + i / 8] |= (uint8_t)(1u << (i % 8));
            }
        }
        store16(ret, f16_from_f32(sum / (float)Q1_BLOCK));
    }
}

static void encode_tq2_0(const float *x, size_t n, uint8_t *ret)
{
    for (size_t at = 0; at < n; at += T2_BLOCK, ret += T2_BYTES) {
        const float d = amax_of(x + at, T2_BLOCK);
        const float inv = d > 0 ? 1.0f / d : 0.0f;
        memset(ret, 0, T2_BYTES);
        for (size_t i = 0; i < T2_BLOCK; i++) {
            const unsigned code = (unsigned)(round_clamp(x[at + i] * inv, -1, 1) + 1);
            ret[32 * (i / 128) + i % 32] |= (uint8_t)(code << (2 * (i % 128 / 32)));
        }
        store16(ret + T2_SCALE_AT, f16_from_f32(d));
    }
}

/* ---- the table ---- */

static const struct format_info formats[FORMATS] = {
    [FORMAT_F32] = {"F32", 0, 1, 4, 0, 0, decode_f32, encode_f32},
    [FORMAT_F16] = {"F16", 1, 1, 2, 0, 0, decode_f16, encode_f16},
    [FORMAT_BF16] = {"BF16", 30, 1, 2, 0, 0, decode_bf16, encode_bf16},
    [FORMAT_Q8_0] = {"Q8_0", 8, Q8_BLOCK, Q8_BYTES, I8_GROUP_BYTES, ACT_BLOCK, decode_q8_0,
                     encode_q8_0},
    [FORMAT_Q1_0] = {"Q1_0", 41, Q1_BLOCK, Q1_BYTES, B1_GROUP_BYTES, ACT_BLOCK, decode_q1_0,
                     encode_q1_0},
    [FORMAT_TQ2_0] = {"TQ2_0", 35, T2_BLOCK, T2_BYTES, T2_GROUP_BYTES, ACT_BLOCK_T2, decode_tq2_0,
                      encode_tq2_0},
    [FORMAT_Q4_0] = {"Q4_0", 2, Q8_BLOCK, Q4_BYTES, I8_GROUP_BYTES, ACT_BLOCK, decode_q4_0, NULL},
};

static const struct {
    uint32_t id;
    const char *name;
} foreign[] = {
    {3, "Q4_1"},        {6, "Q5_0"},     {7, "Q5_1"},     {9, "Q8_1"},    {10, "Q2_K"},
    {11, "Q3_K"},       {12, "Q4_K"},    {13, "Q5_K"},    {14, "Q6_K"},   {15, "Q8_K"},
    {16, "IQ2_XXS"},    {17, "IQ2_XS"},  {18, "IQ3_XXS"}, {19, "IQ1_S"},  {20, "IQ4_NL"},
    {21, "IQ3_S"},      {22, "IQ2_S"},   {23, "IQ4_XS"},  {24, "I8"},     {25, "I16"},
    {26, "I32"},        {27, "I64"},     {28, "F64"},     {29, "IQ1_M"},  {34, "TQ1_0"},
    {36, "I2_S"},       {37, "I8_S"},    {38, "TL1"},     {39, "MXFP4"},  {40, "NVFP4"},
    {42, "Q2_0"},       {134, "IQ1_BN"}, {135, "IQ2_BN"}, {142, "PQ2_0"}, {143, "PTQ1_0"},
    {335, "IQ2_BN_R4"},
};

const struct format_info *format_info(enum format f)
{
    assert(f < FORMATS);
    return &formats[f];
}

bool format_of_id(uint32_t id, enum format *ret)
{
    for (unsigned f = 0; f < FORMATS; f++) {
        if (formats[f].id == id) {
            *ret = (enum format)f;
            return true;
        }
    }
    return false;
}

bool format_of_name(const char *name, enum format *ret)
{
    for (unsigned f = 0; f < FORMATS; f++) {
        if (strcmp(formats[f].name, name) == 0) {
            *ret = (enum format)f;
            return true;
        }
    }
    return false;
}

const char *format_foreign_name(uint32_t id)
{
    for (size_t i = 0; i < ARRAY_SIZE(foreign); i++) {
        if (foreign[i].id == id) {
            return foreign[i].name;
        }
    }
    return NULL;
}

size_t format_row_bytes(enum format f, size_t n_cols)
{
    assert(n_cols % formats[f].block == 0 && n_cols <= KERN_COLS_MAX);
    return n_cols / formats[f].block * formats[f].block_bytes;
}

size_t format_panel_bytes(enum format f, size_t n_cols)
{
    assert(formats[f].panel_bytes != 0);
    assert(n_cols % formats[f].block == 0 && n_cols <= KERN_COLS_MAX);
    return n_cols / formats[f].block * formats[f].panel_bytes;
}

bool format_packed_bytes(enum format f, uint64_t n_cols, uint64_t n_rows, uint64_t *ret)
{
    if (n_cols % formats[f].block != 0 || n_cols > KERN_COLS_MAX) {
        return false;
    }
    if (formats[f].panel_bytes == 0) {
        return !__builtin_mul_overflow((uint64_t)format_row_bytes(f, (size_t)n_cols), n_rows, ret);
    }
    const uint64_t n_panels = n_rows / PANEL_ROWS + (n_rows % PANEL_ROWS != 0);
    return !__builtin_mul_overflow((uint64_t)format_panel_bytes(f, (size_t)n_cols), n_panels, ret);
}

/* ---- panels ---- */

static void pack_b1(const uint8_t *block, size_t row, uint8_t *group)
{
    uint8_t *tiles = group + 2 * PANEL_ROWS;

    store16(group + 2 * row, load16(block));
    for (size_t c = 0; c < B1_GROUP / 4; c++) {
        const unsigned four = block[2 + c / 2] >> (4 * (c % 2)) & 15u; /* columns 4c..4c+3 */
        tiles[8 * c + row / 2] |= (uint8_t)(four << (4 * (row % 2)));
    }
}

static void pack_i8(const uint8_t *block, size_t row, uint8_t *group)
{
    uint8_t *tiles = group + 2 * PANEL_ROWS;

    store16(group + 2 * row, load16(block));
    for (size_t c = 0; c < I8_GROUP / 4; c++) {
        memcpy(tiles + 64 * c + 4 * row, block + 2 + 4 * c, 4);
    }
}

static void pack_q4(const uint8_t *block, size_t row, uint8_t *group)
{
    uint8_t *tiles = group + 2 * PANEL_ROWS;

    store16(group + 2 * row, load16(block));
    for (size_t i = 0; i < I8_GROUP; i++) {
        tiles[64 * (i / 4) + 4 * row + i % 4] = (uint8_t)(int8_t)q4_code(block, i);
    }
}

static void pack_t2(const uint8_t *block, size_t row, uint8_t *group)
{
    uint8_t *lines = group + 2 * PANEL_ROWS;

    store16(group + 2 * row, load16(block + T2_SCALE_AT));
    for (size_t i = 0; i < T2_GROUP; i++) {
        uint8_t *byte = &lines[64 * (i / 16) + 4 * row + i % 4];
        *byte |= (uint8_t)(t2_code(block, i) << (2 * (i % 16 / 4)));
    }
}

void format_pack_panel(enum format f, const uint8_t *rows, size_t n_rows, size_t n_cols,
                       uint8_t *panel)
{
    const struct format_info *info = &formats[f];
    const size_t row_bytes = format_row_bytes(f, n_cols), n_blocks = n_cols / info->block;

    assert(n_rows >= 1 && n_rows <= PANEL_ROWS);
    memset(panel, 0, format_panel_bytes(f, n_cols));
    for (size_t row = 0; row < n_rows; row++) {
        for (size_t b = 0; b < n_blocks; b++) {
            const uint8_t *block = rows + row * row_bytes + b * info->block_bytes;
            uint8_t *group = panel + b * info->panel_bytes;
            if (f == FORMAT_Q1_0) {
                pack_b1(block, row, group);
            } else if (f == FORMAT_Q8_0) {
                pack_i8(block, row, group);
            } else if (f == FORMAT_Q4_0) {
                pack_q4(block, row, group);
            } else {
                pack_t2(block, row, group);
            }
        }
    }
}

static void unpack_b1(const uint8_t *group, size_t row, float d, float *ret)
{
    const uint8_t *tiles = group + 2 * PANEL_ROWS;

    for (size_t i = 0; i < B1_GROUP; i++) {
        const size_t bit = 4 * row + i % 4;
        ret[i] = (tiles[8 * (i / 4) + bit / 8] >> (bit % 8) & 1) != 0 ? d : -d;
    }
}

static void unpack_i8(const uint8_t *group, size_t row, float d, float *ret)
{
    const uint8_t *tiles = group + 2 * PANEL_ROWS;

    for (size_t i = 0; i < I8_GROUP; i++) {
        ret[i] = d * (float)(int8_t)tiles[64 * (i / 4) + 4 * row + i % 4];
    }
}

static void unpack_t2(const uint8_t *group, size_t row, float d, float *ret)
{
    const uint8_t *lines = group + 2 * PANEL_ROWS;

    for (size_t i = 0; i < T2_GROUP; i++) {
        const unsigned byte = lines[64 * (i / 16) + 4 * row + i % 4];
        ret[i] = d * (float)((int)(byte >> (2 * (i % 16 / 4)) & 3u) - 1);
    }
}

void format_unpack_row(enum format f, const uint8_t *packed, size_t row, size_t n_cols, float *ret)
{
    const struct format_info *info = &formats[f];

    if (info->panel_bytes == 0) {
        info->decode(packed + row * format_row_bytes(f, n_cols), n_cols, ret);
        return;
    }
    const uint8_t *group = packed + row / PANEL_ROWS * format_panel_bytes(f, n_cols);
    row %= PANEL_ROWS;
    for (size_t at = 0; at < n_cols; at += info->block, group += info->panel_bytes) {
        const float d = f16_to_f32(load16(group + 2 * row));
        if (f == FORMAT_Q1_0) {
            unpack_b1(group, row, d, ret + at);
        } else if (f == FORMAT_Q8_0 || f == FORMAT_Q4_0) {
            unpack_i8(group, row, d, ret + at);
        } else {
            unpack_t2(group, row, d, ret + at);
        }
    }
}
