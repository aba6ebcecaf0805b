/* GGUF rows to floats: the formulas of the formats, one function each.
 *
 * A scale is an f16 and a code at most eight bits, so their product fits a float and is exact;
 * where a formula has more products, they are rounded in the order of its parentheses. */
#include "engine/format.h"

#include <assert.h>
#include <string.h>

#include "engine/format_code.h"

static void decode_f32(const uint8_t *row, float scale, size_t n, float *ret)
{
    memcpy(ret, row, n * sizeof(*ret));
}

static void decode_f16(const uint8_t *row, float scale, size_t n, float *ret)
{
    for (size_t i = 0; i < n; i++) {
        ret[i] = f16_to_f32(load16(row + 2 * i));
    }
}

static void decode_bf16(const uint8_t *row, float scale, size_t n, float *ret)
{
    for (size_t i = 0; i < n; i++) {
        ret[i] = bf16_to_f32(load16(row + 2 * i));
    }
}

static void decode_q8_0(const uint8_t *row, float scale, size_t n, float *ret)
{
    for (size_t at = 0; at < n; at += Q8_BLOCK, row += Q8_BYTES) {
        const float d = f16_to_f32(load16(row));
        for (size_t i = 0; i < Q8_BLOCK; i++) {
            ret[at + i] = d * (float)(int8_t)row[2 + i];
        }
    }
}

static void decode_q4_0(const uint8_t *row, float scale, size_t n, float *ret)
{
    for (size_t at = 0; at < n; at += Q8_BLOCK, row += Q4_BYTES) {
        const float d = f16_to_f32(load16(row));
        for (size_t i = 0; i < Q8_BLOCK; i++) {
            ret[at + i] = d * (float)q4_code(row, i);
        }
    }
}

static void decode_q4_1(const uint8_t *row, float scale, size_t n, float *ret)
{
    for (size_t at = 0; at < n; at += Q8_BLOCK, row += Q4_1_BYTES) {
        const float d = f16_to_f32(load16(row)), min = f16_to_f32(load16(row + 2));
        for (size_t i = 0; i < Q8_BLOCK; i++) {
            ret[at + i] = d * (float)q4_1_code(row, i) + min;
        }
    }
}

static void decode_q5_0(const uint8_t *row, float scale, size_t n, float *ret)
{
    for (size_t at = 0; at < n; at += Q8_BLOCK, row += Q5_0_BYTES) {
        const float d = f16_to_f32(load16(row));
        for (size_t i = 0; i < Q8_BLOCK; i++) {
            ret[at + i] = d * (float)q5_0_code(row, i);
        }
    }
}

static void decode_q1_0(const uint8_t *row, float scale, size_t n, float *ret)
{
    for (size_t at = 0; at < n; at += Q1_BLOCK, row += Q1_BYTES) {
        const float d = f16_to_f32(load16(row));
        for (size_t i = 0; i < Q1_BLOCK; i++) {
            ret[at + i] = q1_code(row, i) ? d : -d;
        }
    }
}

static void decode_q2(const uint8_t *row, size_t n, size_t block, size_t bytes, float *ret)
{
    for (size_t at = 0; at < n; at += block, row += bytes) {
        const float d = f16_to_f32(load16(row));
        for (size_t i = 0; i < block; i++) {
            ret[at + i] = d * (float)((int)q2_code(row, i) - 1);
        }
    }
}

static void decode_q2_0(const uint8_t *row, float scale, size_t n, float *ret)
{
    decode_q2(row, n, Q2_BLOCK, Q2_BYTES, ret);
}

static void decode_q2_0_g128(const uint8_t *row, float scale, size_t n, float *ret)
{
    decode_q2(row, n, Q2G128_BLOCK, Q2G128_BYTES, ret);
}

static void decode_tq2_0(const uint8_t *row, float scale, size_t n, float *ret)
{
    for (size_t at = 0; at < n; at += T2_BLOCK, row += T2_BYTES) {
        const float d = f16_to_f32(load16(row + T2_SCALE_AT));
        for (size_t i = 0; i < T2_BLOCK; i++) {
            ret[at + i] = d * (float)((int)tq2_code(row, i) - 1);
        }
    }
}

static void decode_tq1_0(const uint8_t *row, float scale, size_t n, float *ret)
{
    for (size_t at = 0; at < n; at += T2_BLOCK, row += T1_BYTES) {
        const float d = f16_to_f32(load16(row + T1_SCALE_AT));
        for (size_t i = 0; i < T2_BLOCK; i++) {
            ret[at + i] = d * (float)((int)tq1_code(row, i) - 1);
        }
    }
}

static void decode_i2_s(const uint8_t *row, float scale, size_t n, float *ret)
{
    for (size_t at = 0; at < n; at += I2S_BLOCK, row += I2S_BYTES) {
        for (size_t i = 0; i < I2S_BLOCK; i++) {
            ret[at + i] = scale * (float)((int)i2s_code(row, i) - 1);
        }
    }
}

static void decode_iq2_bn(const uint8_t *row, float scale, size_t n, float *ret)
{
    const float s = load_f32(row);

    row += BN2_HEAD;
    for (size_t at = 0; at < n; at += BN2_BLOCK, row += BN2_BYTES) {
        for (size_t i = 0; i < BN2_BLOCK; i++) {
            ret[at + i] = s * (float)((int)bn2_code(row, i) - 1);
        }
    }
}

static void decode_k45(const uint8_t *row, size_t n, bool five, float *ret)
{
    for (size_t at = 0; at < n; at += K_BLOCK, row += five ? Q5K_BYTES : Q4K_BYTES) {
        const float d = f16_to_f32(load16(row)), dmin = f16_to_f32(load16(row + 2));
        for (size_t i = 0; i < K_BLOCK; i++) {
            const float scale = d * (float)k_scale(row, i / 32);
            const float min = dmin * (float)k_min(row, i / 32);
            ret[at + i] = scale * (float)(five ? q5k_code(row, i) : q4k_code(row, i)) - min;
        }
    }
}

static void decode_q4_k(const uint8_t *row, float scale, size_t n, float *ret)
{
    decode_k45(row, n, false, ret);
}

static void decode_q5_k(const uint8_t *row, float scale, size_t n, float *ret)
{
    decode_k45(row, n, true, ret);
}

static void decode_q6_k(const uint8_t *row, float scale, size_t n, float *ret)
{
    for (size_t at = 0; at < n; at += K_BLOCK, row += Q6K_BYTES) {
        const float d = f16_to_f32(load16(row + Q6K_D_AT));
        for (size_t i = 0; i < K_BLOCK; i++) {
            const float s = d * (float)(int8_t)row[Q6K_SCALES_AT + i / 16];
            ret[at + i] = s * (float)((int)q6k_code(row, i) - 32);
        }
    }
}

float format_tensor_scale(enum format f, const uint8_t *tensor, size_t n_cols, uint64_t n_rows)
{
    return f == FORMAT_I2_S ? load_f32(tensor + format_row_bytes(f, n_cols) * n_rows) : 1.0f;
}

/* Is any two-bit code 3? */
static bool has_code_3(const uint8_t *codes, size_t n)
{
    uint8_t found = 0;

    for (size_t i = 0; i < n; i++) {
        found |= codes[i] & codes[i] >> 1 & 0x55;
    }
    return found != 0;
}

bool format_row_is_ternary(enum format f, const uint8_t *row, size_t n_cols)
{
    const struct format_info *info = format_info(f);
    const size_t codes_at = info->panel == PANEL_T64 || info->panel == PANEL_T128 ? 2 : 0;

    if (f == FORMAT_TQ1_0) {
        return true; /* a digit is 0, 1 or 2 whatever the byte */
    }
    row += info->head_bytes;
    for (size_t at = 0; at < n_cols; at += info->block, row += info->block_bytes) {
        if (has_code_3(row + codes_at, info->block / 4)) {
            return false;
        }
    }
    return true;
}

void format_decode_row(enum format f, const uint8_t *row, float scale, size_t n_cols, float *ret)
{
    static void (*const decode[FORMATS])(const uint8_t *, float, size_t, float *) = {
        [FORMAT_F32] = decode_f32,
        [FORMAT_F16] = decode_f16,
        [FORMAT_BF16] = decode_bf16,
        [FORMAT_Q8_0] = decode_q8_0,
        [FORMAT_Q1_0] = decode_q1_0,
        [FORMAT_TQ2_0] = decode_tq2_0,
        [FORMAT_TQ1_0] = decode_tq1_0,
        [FORMAT_Q2_0] = decode_q2_0,
        [FORMAT_Q2_0_G128] = decode_q2_0_g128,
        [FORMAT_PQ2_0] = decode_q2_0_g128,
        [FORMAT_I2_S] = decode_i2_s,
        [FORMAT_IQ2_BN] = decode_iq2_bn,
        [FORMAT_Q4_0] = decode_q4_0,
        [FORMAT_Q4_1] = decode_q4_1,
        [FORMAT_Q5_0] = decode_q5_0,
        [FORMAT_Q4_K] = decode_q4_k,
        [FORMAT_Q5_K] = decode_q5_k,
        [FORMAT_Q6_K] = decode_q6_k,
    };

    assert(f < FORMATS && n_cols % format_info(f)->block == 0);
    decode[f](row, scale, n_cols, ret);
}
