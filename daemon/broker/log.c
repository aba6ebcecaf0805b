/* log: one line, one write, so that lines of the daemon and of its children never mix. */
#include "daemon/broker/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static bool to_journal;

void log_init(void)
{
    to_journal = getenv("JOURNAL_STREAM") != NULL;
}

void log_line(int priority, const char *fmt, ...)
{
    char line[512];
    va_list args;
    int n = to_journal ? snprintf(line, sizeof(line), "<%d>", priority)
                       : snprintf(line, sizeof(line), "onebitd: ");
    const int head = n;

    va_start(args, fmt);
    n += vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, args);
    va_end(args);
    if (n > (int)sizeof(line) - 2) {
        n = (int)sizeof(line) - 2;
    }
    for (int i = head; i < n; i++) {
        if ((unsigned char)line[i] < ' ' || line[i] == 0x7f) {
            line[i] = '?';
        }
    }
    line[n++] = '\n';
    (void)!write(STDERR_FILENO, line, (size_t)n);
}
