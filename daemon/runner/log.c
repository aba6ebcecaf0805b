/* log: one line, one write, onto the stderr that the broker hands down. The name stands in front
 * also in the journal, which knows these lines as the daemon's. */
#include <stdarg.h>
#include <unistd.h>

#include "base/logline.h"
#include "daemon/runner/runner.h"

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
    const size_t n =
        logline_make(line, to_journal ? priority : LOGLINE_PLAIN, "onebit-runner: ", fmt, args);
    va_end(args);
    (void)!write(STDERR_FILENO, line, n);
}
