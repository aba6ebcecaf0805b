/* GGUF rows into panels and back. Packing moves codes and scales, never rounds one: what is
 * unpacked equals what the GGUF row decodes to. TQ1_0's digits become two-bit codes and Q5_0's
 * codes become bytes. */
#include "engine/format.h"

#include <assert.h>
#include <string.h>

#include "engine/format_code.h"

/* ---- placing one code; column c counts from the first of the lines, or tiles, given ---- */

static void put_t(uint8_t *lines, size_t row, size_t c, unsigned code)
{
    lines[c / 16 * 64 + row * 4 + c % 4] |= (uint8_t)(code << (c % 16 / 4 * 2));
}

static unsigned get_t(const uint8_t *lines, size_t row, size_t c)
{
    return lines[c / 16 * 64 + row * 4 + c % 4] >> (c % 16 / 4 * 2) & 3u;
}

static void put_n(uint8_t *tiles, size_t row, size_t c, unsigned code)
{
    tiles[c / 8 * 64 + row * 4 + c % 4] |= (uint8_t)(code << (c % 8 / 4 * 4));
}

static unsigned get_n(const uint8_t *tiles, size_t row, size_t c)
{
    return tiles[c / 8 * 64 + row * 4 + c % 4] >> (c % 8 / 4 * 4) & 15u;
}

static float scale_of(const uint8_t *scales, size_t row)
{
    return f16_to_f32(load16(scales + 2 * row));
}

/* ---- a block of a row into its group of the panel ---- */

static void pack_b1(const uint8_t *block, size_t row, uint8_t *group)
{
    store16(group + 2 * row, load16(block));
    for (size_t b = 0; b < Q1_BLOCK / 32; b++) {
        for (size_t i = 0; i < 4; i++) {
            group[32 + b * B1_LINE_BYTES + i * PANEL_ROWS + row] = block[2 + 4 * b + i];
        }
    }
}

static void pack_i8(enum format f, const uint8_t *block, size_t row, uint8_t *group)
{
    int8_t *tiles = (int8_t *)group + 32;

    store16(group + 2 * row, load16(block));
    for (size_t c = 0; c < Q8_BLOCK; c++) {
        tiles[c / 4 * 64 + 4 * row + c % 4] =
            f == FORMAT_Q8_0 ? (int8_t)block[2 + c] : (int8_t)q5_0_code(block, c);
    }
}

static void pack_t(enum format f, const uint8_t *block, size_t row, uint8_t *group)
{
    const size_t n = format_info(f)->block;
    const size_t scale_at = f == FORMAT_TQ2_0 ? T2_SCALE_AT : f == FORMAT_TQ1_0 ? T1_SCALE_AT : 0;

    store16(group + 2 * row, load16(block + scale_at));
    for (size_t c = 0; c < n; c++) {
        put_t(group + 32, row, c,
              f == FORMAT_TQ2_0   ? tq2_code(block, c)
              : f == FORMAT_TQ1_0 ? tq1_code(block, c)
                                  : q2_code(block, c));
    }
}

static void pack_n(enum format f, const uint8_t *block, size_t row, uint8_t *group)
{
    uint8_t *tiles = group + 32;

    store16(group + 2 * row, load16(block));
    if (f == FORMAT_Q4_1) {
        store16(tiles + 2 * row, load16(block + 2));
        tiles += 32;
    }
    for (size_t c = 0; c < N4_GROUP; c++) {
        put_n(tiles, row, c,
              (unsigned)(f == FORMAT_Q4_1 ? q4_1_code(block, c) : q4_code(block, c) + 8));
    }
}

static void pack_k45(bool five, const uint8_t *block, size_t row, uint8_t *group)
{
    uint8_t *sc = group + 64, *mn = sc + 128, *tiles = mn + 128, *fifth = tiles + 2048;

    store16(group + 2 * row, load16(block));
    store16(group + 32 + 2 * row, load16(block + 2));
    for (size_t j = 0; j < 8; j++) {
        sc[16 * j + row] = (uint8_t)k_scale(block, j);
        mn[16 * j + row] = (uint8_t)k_min(block, j);
    }
    for (size_t c = 0; c < K_BLOCK; c++) {
        const unsigned code = five ? q5k_code(block, c) : q4k_code(block, c);
        put_n(tiles, row, c, code & 15);
        if (five) {
            fifth[c / 32 * 64 + 4 * row + c % 4] |= (uint8_t)(code >> 4 << (c % 32 / 4));
        }
    }
}

static void pack_k6(const uint8_t *block, size_t row, uint8_t *group)
{
    uint8_t *sc = group + 32, *tiles = sc + 256, *lines = tiles + 2048;

    store16(group + 2 * row, load16(block + Q6K_D_AT));
    for (size_t j = 0; j < 16; j++) {
        sc[16 * j + row] = block[Q6K_SCALES_AT + j];
    }
    for (size_t c = 0; c < K_BLOCK; c++) {
        const unsigned code = q6k_code(block, c);
        put_n(tiles, row, c, code & 15);
        put_t(lines, row, c, code >> 4);
    }
}

static void pack_trow(enum format f, const uint8_t *row_bytes, float scale, size_t row,
                      size_t n_cols, uint8_t *panel)
{
    const float s = f == FORMAT_IQ2_BN ? load_f32(row_bytes) : scale;
    const uint8_t *blocks = row_bytes + format_info(f)->head_bytes;

    memcpy(panel + sizeof(s) * row, &s, sizeof(s));
    for (size_t c = 0; c < n_cols; c++) {
        put_t(panel + TROW_HEAD_BYTES, row, c,
              f == FORMAT_IQ2_BN ? bn2_code(blocks + c / BN2_BLOCK * BN2_BYTES, c % BN2_BLOCK)
                                 : i2s_code(blocks + c / I2S_BLOCK * I2S_BYTES, c % I2S_BLOCK));
    }
}

static void pack_block(enum format f, const uint8_t *block, size_t row, uint8_t *group)
{
    switch (format_info(f)->panel) {
    case PANEL_B1:
        pack_b1(block, row, group);
        break;
    case PANEL_I8:
        pack_i8(f, block, row, group);
        break;
    case PANEL_T64:
    case PANEL_T128:
    case PANEL_T256:
        pack_t(f, block, row, group);
        break;
    case PANEL_N4:
    case PANEL_N4M:
        pack_n(f, block, row, group);
        break;
    case PANEL_K4:
    case PANEL_K5:
        pack_k45(f == FORMAT_Q5_K, block, row, group);
        break;
    case PANEL_K6:
        pack_k6(block, row, group);
        break;
    case PANEL_NONE:
    case PANEL_TROW:
    case PANEL_X1:
    case PANELS:
        break;
    }
}

void format_pack_panel(enum format f, const uint8_t *rows, float scale, size_t n_rows,
                       size_t n_cols, uint8_t *panel)
{
    const struct format_info *info = format_info(f);
    const size_t row_bytes = format_row_bytes(f, n_cols), n_blocks = n_cols / info->block;
    const size_t group_bytes = panel_info(info->panel)->group_bytes;

    assert(n_rows >= 1 && n_rows <= PANEL_ROWS);
    memset(panel, 0, format_panel_bytes(f, n_cols));
    for (size_t row = 0; row < n_rows; row++, rows += row_bytes) {
        if (info->panel == PANEL_TROW) {
            pack_trow(f, rows, scale, row, n_cols, panel);
            continue;
        }
        for (size_t b = 0; b < n_blocks; b++) {
            pack_block(f, rows + b * info->block_bytes, row, panel + b * group_bytes);
        }
    }
}

/* The four bytes of a row's line, which lie PANEL_ROWS apart, come to lie side by side. */
void format_panel_for_signs(uint8_t *panel, size_t n_cols)
{
    _Static_assert(B1_GROUP == X1_GROUP && B1_GROUP_BYTES == X1_GROUP_BYTES, "the same bits");

    for (size_t l = 0; l < n_cols / 32; l++) {
        uint8_t *line = panel + l / 4 * X1_GROUP_BYTES + 32 + l % 4 * X1_LINE_BYTES;
        uint8_t words[X1_LINE_BYTES];
        for (size_t row = 0; row < PANEL_ROWS; row++) {
            for (size_t i = 0; i < 4; i++) {
                words[4 * row + i] = line[i * PANEL_ROWS + row];
            }
        }
        memcpy(line, words, sizeof(words));
    }
}

/* ---- a row of a group back to floats ---- */

static void unpack_b1(const uint8_t *group, size_t row, float *ret)
{
    const float d = scale_of(group, row);

    for (size_t c = 0; c < B1_GROUP; c++) {
        const uint8_t eight = group[32 + c / 8 * PANEL_ROWS + row];
        ret[c] = (eight >> (c % 8) & 1) != 0 ? d : -d;
    }
}

static void unpack_i8(const uint8_t *group, size_t row, float *ret)
{
    const float d = scale_of(group, row);

    for (size_t c = 0; c < I8_GROUP; c++) {
        ret[c] = d * (float)(int8_t)group[32 + 64 * (c / 4) + 4 * row + c % 4];
    }
}

static void unpack_t(const uint8_t *lines, size_t row, float d, size_t n, float *ret)
{
    for (size_t c = 0; c < n; c++) {
        ret[c] = d * (float)((int)get_t(lines, row, c) - 1);
    }
}

static void unpack_n(bool with_min, const uint8_t *group, size_t row, float *ret)
{
    const float d = scale_of(group, row);

    for (size_t c = 0; c < N4_GROUP; c++) {
        ret[c] = with_min ? d * (float)get_n(group + 64, row, c) + scale_of(group + 32, row)
                          : d * (float)((int)get_n(group + 32, row, c) - 8);
    }
}

static void unpack_k45(bool five, const uint8_t *group, size_t row, float *ret)
{
    const float d = scale_of(group, row), dmin = scale_of(group + 32, row);
    const uint8_t *sc = group + 64, *mn = sc + 128, *tiles = mn + 128, *fifth = tiles + 2048;

    for (size_t c = 0; c < K_GROUP; c++) {
        const float scale = d * (float)sc[c / 32 * 16 + row];
        const float min = dmin * (float)mn[c / 32 * 16 + row];
        unsigned code = get_n(tiles, row, c);
        if (five) {
            code |= (fifth[c / 32 * 64 + 4 * row + c % 4] >> (c % 32 / 4) & 1u) << 4;
        }
        ret[c] = scale * (float)code - min;
    }
}

static void unpack_k6(const uint8_t *group, size_t row, float *ret)
{
    const float d = scale_of(group, row);
    const uint8_t *sc = group + 32, *tiles = sc + 256, *lines = tiles + 2048;

    for (size_t c = 0; c < K_GROUP; c++) {
        const float scale = d * (float)(int8_t)sc[c / 16 * 16 + row];
        const unsigned code = get_n(tiles, row, c) | get_t(lines, row, c) << 4;
        ret[c] = scale * (float)((int)code - 32);
    }
}

static void unpack_group(enum panel_kind kind, const uint8_t *group, size_t row, float *ret)
{
    switch (kind) {
    case PANEL_B1:
        unpack_b1(group, row, ret);
        break;
    case PANEL_I8:
        unpack_i8(group, row, ret);
        break;
    case PANEL_T64:
    case PANEL_T128:
    case PANEL_T256:
        unpack_t(group + 32, row, scale_of(group, row), panel_info(kind)->group, ret);
        break;
    case PANEL_N4:
    case PANEL_N4M:
        unpack_n(kind == PANEL_N4M, group, row, ret);
        break;
    case PANEL_K4:
    case PANEL_K5:
        unpack_k45(kind == PANEL_K5, group, row, ret);
        break;
    case PANEL_K6:
        unpack_k6(group, row, ret);
        break;
    case PANEL_NONE:
    case PANEL_TROW:
    case PANEL_X1:
    case PANELS:
        break;
    }
}

void format_unpack_row(enum format f, const uint8_t *packed, size_t row, size_t n_cols, float *ret)
{
    const enum panel_kind kind = format_info(f)->panel;

    if (kind == PANEL_NONE) {
        format_decode_row(f, packed + row * format_row_bytes(f, n_cols), 1, n_cols, ret);
        return;
    }
    const struct panel_info *info = panel_info(kind);
    const uint8_t *panel = packed + row / PANEL_ROWS * format_panel_bytes(f, n_cols);
    row %= PANEL_ROWS;
    if (kind == PANEL_TROW) {
        unpack_t(panel + TROW_HEAD_BYTES, row, load_f32(panel + sizeof(float) * row), n_cols, ret);
        return;
    }
    for (size_t g = 0; g < n_cols / info->group; g++) {
        unpack_group(kind, panel + g * info->group_bytes, row, ret + g * info->group);
    }
}
