/* log: one line, one write, so that lines of the daemon and of its children never mix. */
#include "daemon/broker/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <unistd.h>

#include "base/logline.h"

static bool to_journal;

void log_init(void)
{
    to_journal = logline_journal();
}

void log_line(int priority, const char *fmt, ...)
{
    char line[LOGLINE_MAX];
    va_list args;

    va_start(args, fmt);
    const size_t n = to_journal ? logline_make(line, priority, "", fmt, args)
                                : logline_make(line, LOGLINE_PLAIN, "onebitd: ", fmt, args);
    va_end(args);
    (void)!write(STDERR_FILENO, line, n);
}
