/* The file of salts: whatever the bytes, they are refused and leave nothing behind, or they are a
 * table within its bounds that is written as the very same bytes again. The input is tried as it
 * is, and with its checksum mended, or hardly any would come past that. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/broker/salts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define SUM_BYTES 8u

static void must(bool truth)
{
    if (!truth) {
        abort();
    }
}

static void read_file(const uint8_t *data, size_t n)
{
    struct diag diag = {0};
    struct salts t;
    struct buf again;

    salts_init(&t);
    const int r = salts_read(&t, data, n, &diag);
    must(r == SALTS_OK ? !diag.set && t.n <= SALTS_MAX
                       : diag.set && t.n == 0 && list_empty(&t.all));
    must(t.n_drawn == 0);
    if (r == SALTS_OK) {
        buf_init(&again, SALTS_FILE_MAX);
        must(salts_write(&again, &t) == 0 && salts_seal(&again) == 0);
        must(again.n == n && memcmp(again.data, data, n) == 0);
        buf_deinit(&again);
    }
    salts_deinit(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct buf mended;

    read_file(data, n);
    if (n < SUM_BYTES || n > SALTS_FILE_MAX) {
        return 0;
    }
    buf_init(&mended, SALTS_FILE_MAX);
    must(buf_append(&mended, data, n - SUM_BYTES) == 0 && salts_seal(&mended) == 0);
    read_file(mended.data, mended.n);
    buf_deinit(&mended);
    return 0;
}
