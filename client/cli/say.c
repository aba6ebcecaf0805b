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

/* What to do, with the time to wait in its words where the daemon gave one: once is enough. */
static void hint_of(const struct onebit_failure *failure)
{
    static const char given[] = "after the time that `retry_after_ms` gives";
    const char *at = strstr(failure->hint, given);
    const double s = (double)failure->retry_after_ms / 1e3;
    char line[1024], when[48] = "later";

    if (at) {
        if (s > 0) {
            (void)snprintf(when, sizeof(when), "after %.1f s", s);
        }
        (void)snprintf(line, sizeof(line), "%.*s%s%s", (int)(at - failure->hint), failure->hint,
                       when, at + strlen(given));
        hint(line);
        return;
    }
    hint(failure->hint);
    if (s > 0) {
        (void)snprintf(line, sizeof(line), "Wait at least %.1f s.", s);
        hint(line);
    }
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
    hint_of(failure);
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
