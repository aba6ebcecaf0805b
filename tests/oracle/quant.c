/* Weight formats against recorded blocks.
 *
 * Goal: every format we read decodes to exactly the recorded values, also through the packed form.
 * Method: each recorded block is decoded and compared bit for bit, then packed as a row of its own,
 * unpacked and compared again. Skipped, loudly, without the data. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/format.h"
#include "engine/kernels/kernels.h"

#define SKIP 77
#define VALUES_MAX 8192u
#define BYTES_MAX 8192u

static size_t unhex(const char *hex, uint8_t *out, size_t max)
{
    size_t n = 0;
    unsigned byte;

    while (n < max && sscanf(hex + 2 * n, "%2x", &byte) == 1) {
        out[n++] = (uint8_t)byte;
    }
    return n;
}

static bool same(const json_t *want, const float *got)
{
    for (size_t i = 0; i < json_array_size(want); i++) {
        const float x = (float)json_number_value(json_array_get(want, i));
        if (memcmp(&x, &got[i], sizeof(x)) != 0) {
            printf("  value %zu: %.9g, want %.9g\n", i, (double)got[i], (double)x);
            return false;
        }
    }
    return true;
}

/* Rows of a whole tensor, or a block alone, which is a row of its own: decoded, and decoded again
 * from the packed form. */
static bool check_rows(enum format f, const json_t *record, size_t n_rows, size_t n_cols)
{
    const json_t *values = json_object_get(record, "values");
    static uint8_t bytes[BYTES_MAX], panels[16 * BYTES_MAX];
    static float x[VALUES_MAX];
    const size_t n = n_rows * n_cols;
    uint64_t want;

    if (n == 0 || n > VALUES_MAX || json_array_size(values) != n || n_rows > PANEL_ROWS ||
        !format_tensor_bytes(f, n_cols, n_rows, &want) ||
        unhex(json_string_value(json_object_get(record, "hex")), bytes, BYTES_MAX) != want) {
        printf("  a record that does not fit its format\n");
        return false;
    }
    const float scale = format_tensor_scale(f, bytes, n_cols, n_rows);
    for (size_t r = 0; r < n_rows; r++) {
        format_decode_row(f, bytes + r * format_row_bytes(f, n_cols), scale, n_cols,
                          x + r * n_cols);
    }
    bool ok = same(values, x);
    if (format_info(f)->panel != PANEL_NONE) {
        memset(x, 0, sizeof(x));
        format_pack_panel(f, bytes, scale, n_rows, n_cols, panels);
        for (size_t r = 0; r < n_rows; r++) {
            format_unpack_row(f, panels, r, n_cols, x + r * n_cols);
        }
        ok = same(values, x) && ok;
    }
    return ok;
}

static bool check_format(enum format f, const json_t *file)
{
    const json_t *blocks = json_object_get(file, "blocks");
    const json_t *tensors = json_object_get(file, "tensors");
    bool ok = json_array_size(blocks) + json_array_size(tensors) > 0;
    json_t *record;
    size_t i;

    json_array_foreach(blocks, i, record)
    {
        ok = check_rows(f, record, 1, json_array_size(json_object_get(record, "values"))) && ok;
    }
    json_array_foreach(tensors, i, record)
    {
        const json_t *ne = json_object_get(record, "ne");
        ok = check_rows(f, record, (size_t)json_integer_value(json_array_get(ne, 1)),
                        (size_t)json_integer_value(json_array_get(ne, 0))) &&
             ok;
    }
    printf("%s %s: %zu records\n", ok ? "ok  " : "FAIL", format_info(f)->name,
           json_array_size(blocks) + json_array_size(tensors));
    return ok;
}

/* Every value of a byte as five digits of TQ1_0. */
static bool check_digits(const json_t *file)
{
    const json_t *table = json_object_get(file, "table");
    bool ok = json_array_size(table) == 256;

    for (size_t v = 0; v < 256; v++) {
        uint8_t block[54] = {[0] = (uint8_t)v, [53] = 0x3c}; /* d = 1 */
        float x[256];
        format_decode_row(FORMAT_TQ1_0, block, 1, 256, x);
        for (size_t k = 0; k < 5; k++) {
            const json_t *digit = json_array_get(json_array_get(table, v), k);
            ok = ok && (float)json_integer_value(digit) == x[32 * k];
        }
    }
    printf("%s TQ1_0: digits of every byte\n", ok ? "ok  " : "FAIL");
    return ok;
}

static json_t *load(const char *name)
{
    const char *root = getenv("ONEBIT_SHARED");
    char path[4096];

    (void)snprintf(path, sizeof(path), "%s/oracle/quant/%s.json", root ? root : "", name);
    return json_load_file(path, 0, NULL);
}

int main(void)
{
    static const enum format recorded[] = {
        FORMAT_F16,   FORMAT_BF16,  FORMAT_Q8_0,   FORMAT_Q4_0, FORMAT_Q4_K,
        FORMAT_Q5_K,  FORMAT_Q6_K,  FORMAT_Q1_0,   FORMAT_Q2_0, FORMAT_I2_S,
        FORMAT_TQ1_0, FORMAT_TQ2_0, FORMAT_IQ2_BN,
    };
    size_t n_failed = 0;

    for (size_t i = 0; i < ARRAY_SIZE(recorded); i++) {
        json_t *file = load(format_info(recorded[i])->name);
        if (!file) {
            printf("SKIPPED: the recorded blocks of %s are absent\n",
                   format_info(recorded[i])->name);
            return SKIP;
        }
        n_failed += !check_format(recorded[i], file);
        json_decref(file);
    }
    json_t *digits = load("TQ1_0_bytes");
    n_failed += !digits || !check_digits(digits);
    json_decref(digits);
    return n_failed == 0 ? 0 : 1;
}
