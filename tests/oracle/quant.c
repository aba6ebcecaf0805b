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
#define VALUES_MAX 1024u
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

static bool check_block(enum format f, const json_t *block)
{
    const json_t *values = json_object_get(block, "values");
    const size_t n = json_array_size(values);
    static uint8_t bytes[BYTES_MAX], panel[32 * BYTES_MAX];
    float x[VALUES_MAX];

    if (n == 0 || n > VALUES_MAX || n % format_info(f)->block != 0 ||
        unhex(json_string_value(json_object_get(block, "hex")), bytes, BYTES_MAX) !=
            format_row_bytes(f, n)) {
        printf("  a record that does not fit its format\n");
        return false;
    }
    format_info(f)->decode(bytes, n, x);
    bool ok = same(values, x);
    if (format_info(f)->panel_bytes != 0) {
        memset(x, 0, sizeof(x));
        format_pack_panel(f, bytes, 1, n, panel);
        format_unpack_row(f, panel, 0, n, x);
        ok = same(values, x) && ok;
    }
    return ok;
}

int main(void)
{
    const char *root = getenv("ONEBIT_SHARED");
    size_t n_failed = 0;

    for (unsigned f = 0; f < FORMATS; f++) {
        const char *name = format_info((enum format)f)->name;
        char path[4096];
        size_t i;
        json_t *block;

        if (f == FORMAT_F32) {
            continue; /* nothing to decode, nothing recorded */
        }
        (void)snprintf(path, sizeof(path), "%s/oracle/quant/%s.json", root ? root : "", name);
        json_t *file = json_load_file(path, 0, NULL);
        if (!file) {
            printf("SKIPPED: %s is absent\n", path);
            return SKIP;
        }
        const json_t *blocks = json_object_get(file, "blocks");
        bool ok = json_array_size(blocks) > 0;
        json_array_foreach(blocks, i, block)
        {
            ok = check_block((enum format)f, block) && ok;
        }
        printf("%s %s: %zu blocks\n", ok ? "ok  " : "FAIL", name, json_array_size(blocks));
        n_failed += !ok;
        json_decref(file);
    }
    return n_failed == 0 ? 0 : 1;
}
