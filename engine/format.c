/* The table of weight formats: names, numbers and sizes. */
#include "engine/format.h"

#include <assert.h>
#include <string.h>

#include "engine/format_code.h"

static const struct format_info formats[FORMATS] = {
    [FORMAT_F32] = {"F32", 0, 1, 4, 0, 0, PANEL_NONE, false},
    [FORMAT_F16] = {"F16", 1, 1, 2, 0, 0, PANEL_NONE, false},
    [FORMAT_BF16] = {"BF16", 30, 1, 2, 0, 0, PANEL_NONE, false},
    [FORMAT_Q8_0] = {"Q8_0", 8, Q8_BLOCK, Q8_BYTES, 0, 0, PANEL_I8, false},
    [FORMAT_Q1_0] = {"Q1_0", 41, Q1_BLOCK, Q1_BYTES, 0, 0, PANEL_B1, false},
    [FORMAT_TQ2_0] = {"TQ2_0", 35, T2_BLOCK, T2_BYTES, 0, 0, PANEL_T256, true},
    [FORMAT_TQ1_0] = {"TQ1_0", 34, T2_BLOCK, T1_BYTES, 0, 0, PANEL_T256, true},
    [FORMAT_Q2_0] = {"Q2_0", 42, Q2_BLOCK, Q2_BYTES, 0, 0, PANEL_T64, true},
    [FORMAT_Q2_0_G128] = {"Q2_0_g128", 42, Q2G128_BLOCK, Q2G128_BYTES, 0, 0, PANEL_T128, true},
    [FORMAT_PQ2_0] = {"PQ2_0", 142, Q2G128_BLOCK, Q2G128_BYTES, 0, 0, PANEL_T128, true},
    [FORMAT_I2_S] = {"I2_S", 36, I2S_BLOCK, I2S_BYTES, 0, I2S_TAIL, PANEL_TROW, true},
    [FORMAT_IQ2_BN] = {"IQ2_BN", 135, BN2_BLOCK, BN2_BYTES, BN2_HEAD, 0, PANEL_TROW, true},
    [FORMAT_Q4_0] = {"Q4_0", 2, Q8_BLOCK, Q4_BYTES, 0, 0, PANEL_N4, false},
    [FORMAT_Q4_1] = {"Q4_1", 3, Q8_BLOCK, Q4_1_BYTES, 0, 0, PANEL_N4M, false},
    [FORMAT_Q5_0] = {"Q5_0", 6, Q8_BLOCK, Q5_0_BYTES, 0, 0, PANEL_I8, false},
    [FORMAT_Q4_K] = {"Q4_K", 12, K_BLOCK, Q4K_BYTES, 0, 0, PANEL_K4, false},
    [FORMAT_Q5_K] = {"Q5_K", 13, K_BLOCK, Q5K_BYTES, 0, 0, PANEL_K5, false},
    [FORMAT_Q6_K] = {"Q6_K", 14, K_BLOCK, Q6K_BYTES, 0, 0, PANEL_K6, false},
};

static const struct {
    uint32_t id;
    const char *name;
} foreign[] = {
    {7, "Q5_1"},
    {9, "Q8_1"},
    {10, "Q2_K"},
    {11, "Q3_K"},
    {15, "Q8_K"},
    {16, "IQ2_XXS"},
    {17, "IQ2_XS"},
    {18, "IQ3_XXS"},
    {19, "IQ1_S"},
    {20, "IQ4_NL"},
    {21, "IQ3_S"},
    {22, "IQ2_S"},
    {23, "IQ4_XS"},
    {24, "I8"},
    {25, "I16"},
    {26, "I32"},
    {27, "I64"},
    {28, "F64"},
    {29, "IQ1_M"},
    {37, "I8_S"},
    {38, "TL1"},
    {39, "MXFP4 or TL2"},
    {40, "NVFP4, or Q1_0 in groups of 32, or STQ1_0"},
    {134, "IQ1_BN"},
    {43, "STQ1_0"},
    {143, "PTQ1_0 or IQ1_TN"},
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
    const struct format_info *info = format_info(f);

    assert(n_cols % info->block == 0 && n_cols <= KERN_COLS_MAX);
    return info->head_bytes + n_cols / info->block * info->block_bytes;
}

static bool row_fits(enum format f, uint64_t n_cols)
{
    return n_cols % format_info(f)->block == 0 && n_cols <= KERN_COLS_MAX;
}

bool format_tensor_bytes(enum format f, uint64_t n_cols, uint64_t n_rows, uint64_t *ret)
{
    uint64_t rows;

    return row_fits(f, n_cols) &&
           !__builtin_mul_overflow((uint64_t)format_row_bytes(f, (size_t)n_cols), n_rows, &rows) &&
           !__builtin_add_overflow(rows, (uint64_t)formats[f].tail_bytes, ret);
}

size_t format_panel_bytes(enum format f, size_t n_cols)
{
    return panel_bytes(format_info(f)->panel, n_cols);
}

bool format_packed_bytes(enum format f, uint64_t n_cols, uint64_t n_rows, uint64_t *ret)
{
    if (!row_fits(f, n_cols)) {
        return false;
    }
    if (formats[f].panel == PANEL_NONE) {
        return format_tensor_bytes(f, n_cols, n_rows, ret);
    }
    const uint64_t n_panels = n_rows / PANEL_ROWS + (n_rows % PANEL_ROWS != 0);
    return !__builtin_mul_overflow((uint64_t)format_panel_bytes(f, (size_t)n_cols), n_panels, ret);
}
