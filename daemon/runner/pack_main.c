/* The packer child: untrusted bytes are parsed here, in a process that ends afterwards and takes a
 * crash, a peak of memory and a truncated file's SIGBUS with it. It has two descriptors and says
 * one line:
 *
 *   ok
 *   malformed OFFSET TEXT
 *   unsupported OFFSET TEXT
 *   too-big OFFSET TEXT
 *   no-room BYTES-NEEDED BYTES-FREE
 *   cannot-write ERRNO TEXT
 *   failed ERRNO TEXT */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/runner/confine.h"
#include "daemon/runner/runner.h"

#define PACK_FD_IN 3
#define PACK_FD_OUT 4

static int failed_with(int r)
{
    const bool out =
        r == -ENOSPC || r == -EDQUOT || r == -EFBIG || r == -EROFS || r == -EIO; /* of the cache */

    (void)printf("%s %d %s\n", out ? "cannot-write" : "failed", -r, strerror(-r));
    return out ? PACK_EXIT_CANNOT_WRITE : PACK_EXIT_INTERNAL;
}

int pack_main(uint64_t bytes_max)
{
    const struct model_limits limits = {.bytes_max = bytes_max};
    struct diag diag = {0};
    const char *word = "malformed";
    int status = PACK_EXIT_MALFORMED;

    (void)confine(CONFINE_PACKER); /* it works as well where it cannot be */
    const int r = model_pack(PACK_FD_IN, PACK_FD_OUT, &limits, &diag);

    if (r == -ENOSPC && diag.set) {
        (void)printf("no-room %" PRIu64 " %s\n", diag.offset, diag.text);
        status = PACK_EXIT_CANNOT_WRITE;
    } else if (r < 0) {
        status = failed_with(r);
    } else if (r == MODEL_OK) {
        (void)printf("ok\n");
        status = 0;
    } else {
        if (r == MODEL_UNSUPPORTED || r == MODEL_TOO_BIG) {
            word = r == MODEL_TOO_BIG ? "too-big" : "unsupported";
            status = PACK_EXIT_UNSUPPORTED;
        }
        (void)printf("%s %" PRIu64 " %s\n", word, diag.offset, diag.text);
    }
    (void)fflush(stdout);
    return status;
}
