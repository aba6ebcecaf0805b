/* What the kernel's files about memory, heat and the firmware's flags may hold below a sysroot:
 * nothing is read beyond its end, and what is taken is sound. */
#include <stdlib.h>
#include <string.h>

#include "daemon/broker/board_files.h"
#include "daemon/broker/memory_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool truth)
{
    if (!truth) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char *text = malloc(n + 1), path[32];
    uint8_t bytes[16];
    struct memory_stall stall;
    uint64_t number;
    int32_t temp_mc;
    uint32_t flags;

    must(text != NULL);
    memcpy(text, data, n);
    text[n] = '\0';
    must(!text_number(&number, text) || text[0] != '-');
    must(!text_keyed(&number, text, "oom_kill") || strstr(text, "oom_kill"));
    must(!text_kilobytes(&number, text, "MemAvailable") || number % 1024 == 0);
    must(!text_stall(&stall, text) || strstr(text, " total="));
    must(text_limit(text) > 0 || strchr(text, '0'));
    must(!text_major_faults(&number, text) || strchr(text, ')'));
    for (int v = 0; v < 2; v++) {
        if (text_cgroup(path, sizeof(path), text, v ? "memory" : "")) {
            must(path[0] == '/' || path[0] == '\0');
            must(strlen(path) < sizeof(path) && !strstr(path, "/../"));
        }
    }
    must(text_base64(bytes, sizeof(bytes), text) <= (int)sizeof(bytes));
    must(!board_temp(&temp_mc, text) || (temp_mc >= -100000 && temp_mc <= 300000));
    must(!board_flags(&flags, text) || strpbrk(text, "0123456789abcdefABCDEF"));
    free(text);
    return 0;
}
