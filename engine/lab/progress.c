/* A bar on standard error while something takes its time, and nothing at all where that is no
 * terminal. */
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/lab/lab.h"

#define BAR 30u
#define EVERY_NS (100 * NS_PER_MS)

void progress_show(struct progress *p, const char *label, uint64_t done, uint64_t total)
{
    const uint64_t now = clock_now_ns();
    const double share = total > 0 ? (double)done / (double)total : 1;
    const unsigned full = (unsigned)(share * BAR);

    if (!p->begun) {
        p->terminal = isatty(STDERR_FILENO) == 1;
        p->begun = true;
    }
    if (!p->terminal || (p->drawn && now - p->at_ns < EVERY_NS && done < total)) {
        return;
    }
    p->at_ns = now;
    p->drawn = true;
    (void)fprintf(stderr, "\r[%-*.*s] %3u%% ", (int)BAR, (int)full,
                  "##############################", (unsigned)(share * 100));
    out_text(stderr, true, label, strlen(label));
    (void)fputs("\033[K", stderr);
    (void)fflush(stderr);
}

void progress_end(struct progress *p)
{
    if (p->drawn) {
        (void)fputs("\r\033[K", stderr);
        (void)fflush(stderr);
        p->drawn = false;
    }
}
