/* Fuzz target of model files: any bytes are parsed and packed as the packer does; what packs must
 * open, verify and end a short generation. A file that begins like a packed model is opened as one,
 * as a damaged cache file would be. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/engine.h"
#include "tests/fuzz/use.h"

#define FILE_MAX ((size_t)1 << 19)

static int file_of(const uint8_t *data, size_t n)
{
    const int fd = memfd_create("fuzz", MFD_CLOEXEC);

    if (fd < 0 || (n > 0 && pwrite(fd, data, n, 0) != (ssize_t)n)) {
        abort();
    }
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const struct model_limits limits = {.bytes_max = FILE_MAX};
    struct model *model = NULL;
    struct diag d = {0};

    if (n > FILE_MAX) {
        return 0;
    }
    const int fd = file_of(data, n);
    if (n >= 8 && memcmp(data, "ONEBITPK", 8) == 0) {
        if (model_open_packed(&model, fd, &d) == MODEL_OK) {
            use_model(model); /* its weights may be anything: only verifying reads them all */
        }
    } else if (model_open_gguf(&model, fd, &limits, &d) == MODEL_OK) {
        if (model_verify(model, &d) != MODEL_OK) {
            abort(); /* what was just packed is sound */
        }
        use_model(model);
    } else if (!d.set) {
        abort(); /* a refusal says why */
    }
    model_free(model);
    (void)close(fd);
    return 0;
}
