/* log: one line, one write, so that lines of the daemon and of its children never mix. */
#include "daemon/broker/log.h"

#include <stdarg.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/logline.h"
#include "daemon/broker/log_gate.h"

static bool to_journal;
static struct log_gate gates[LOG_KINDS]; /* the loop's thread alone */
static uint64_t n_suppressed;

static const char *const kinds[LOG_KINDS] = {
    [LOG_CONNECTIONS] = "of connections refused or closed",
    [LOG_DESCRIPTORS] = "of descriptors used up",
    [LOG_MODELS] = "of models packed, loaded or unloaded",
    [LOG_MODEL_FAULTS] = "of models that failed",
    [LOG_SESSIONS] = "of sessions' files",
    [LOG_GAPS] = "of times without running",
};

void log_init(void)
{
    to_journal = logline_journal();
}

static void write_line(int priority, const char *fmt, va_list args)
    __attribute__((format(printf, 2, 0)));

static void write_line(int priority, const char *fmt, va_list args)
{
    char line[LOGLINE_MAX];
    const size_t n = to_journal ? logline_make(line, priority, "", fmt, args)
                                : logline_make(line, LOGLINE_PLAIN, "onebitd: ", fmt, args);

    (void)!write(STDERR_FILENO, line, n);
}

void log_line(int priority, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    write_line(priority, fmt, args);
    va_end(args);
}

static void tell_more(size_t kind, uint64_t more)
{
    if (more > 0) {
        log_line(LOG_NOTICE, "%llu more lines %s", (unsigned long long)more, kinds[kind]);
    }
}

void log_client(enum log_kind kind, int priority, const char *fmt, ...)
{
    uint64_t more = 0;
    va_list args;
    const bool pass = log_gate_pass(&gates[kind], clock_now_ns(), &more);

    tell_more(kind, more);
    if (!pass) {
        n_suppressed++;
        return;
    }
    va_start(args, fmt);
    write_line(priority, fmt, args);
    va_end(args);
}

bool log_settle(bool force)
{
    const uint64_t now = clock_now_ns();
    bool left = false;

    for (size_t k = 0; k < LOG_KINDS; k++) {
        tell_more(k, log_gate_close(&gates[k], now, force));
        left |= gates[k].more > 0;
    }
    return left;
}

uint64_t log_suppressed(void)
{
    return n_suppressed;
}
