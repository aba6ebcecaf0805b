/* say: what the command tells people, on standard error. */
#include "client/cli/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void complain(const char *fmt, ...)
{
    char text[1024];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    char *safe = escape_line(text);
    (void)fprintf(stderr, "onebit: %s\n", safe ? safe : "out of memory");
    free(safe);
}

static void hint(const char *text)
{
    char *safe = escape_line(text);

    if (safe && *safe) {
        (void)fprintf(stderr, "  %s\n", safe);
    }
    free(safe);
}

void complain_failure(const struct onebit_failure *failure)
{
    char line[128];

    if (failure->number > 0) {
        complain("%s: %s (%u)", failure->name, failure->message, failure->number);
    } else {
        complain("%s: %s", failure->name, failure->message);
    }
    if (failure->have > 0 || failure->limit > 0) {
        (void)snprintf(line, sizeof(line), "have %" PRIu64 ", limit %" PRIu64, failure->have,
                       failure->limit);
        hint(line);
    }
    hint(failure->hint);
    if (failure->retry_after_ms > 0) {
        (void)snprintf(line, sizeof(line), "Retry after %.1f s.",
                       (double)failure->retry_after_ms / 1e3);
        hint(line);
    }
}

int failure_exit(int code)
{
    const struct onebit_error_info *info = onebit_error_info(code);

    if (code == 0) {
        return 0;
    }
    if (info) {
        return info->exit_code;
    }
    switch (code) {
    case -EPROTO:
        return EXIT_PROTOCOL;
    case -ENOMEM:
        return EXIT_SOFTWARE;
    case -ECONNRESET:
    case -EPIPE:
        return EXIT_UNAVAILABLE;
    case -E2BIG:
        return EXIT_DATA;
    default:
        return EXIT_SYSTEM;
    }
}
