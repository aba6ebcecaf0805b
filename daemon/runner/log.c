/* Lines for the journal: the broker hands its stderr down, and systemd reads the <N>. */
#include <stdarg.h>
#include <stdio.h>

#include "daemon/runner/runner.h"

void log_line(int priority, const char *fmt, ...)
{
    char text[512];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    (void)fprintf(stderr, "<%d>onebit-runner: %s\n", priority, text);
}
