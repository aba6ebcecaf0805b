/* progress: a bar on standard error, where that is a terminal. What it says is made by a pure
 * function. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "client/cli/batch.h"

#define BAR_COLUMNS 24u
#define EVERY_NS (200 * NS_PER_MS)
#define COLUMNS_MAX 200u

static void write_time(char *ret, size_t n, double s)
{
    if (s < 100) {
        (void)snprintf(ret, n, "%.0f s", s);
    } else if (s < 100 * 60.0) {
        (void)snprintf(ret, n, "%.0f min", s / 60);
    } else {
        (void)snprintf(ret, n, "%.1f h", s / 3600);
    }
}

void progress_line(char *ret, size_t room, const struct progress *p, uint64_t n_done,
                   uint64_t n_failed, uint64_t tokens, uint64_t now_ns, unsigned columns)
{
    const double s = (double)(now_ns - p->start_ns) / (double)NS_PER_S;
    const uint64_t n_here = n_done - p->n_begun_with;
    char bar[BAR_COLUMNS + 1], failed[48] = "", left[48] = "", text[256], time[24];
    const unsigned filled = p->n_all > 0 ? (unsigned)(n_done * BAR_COLUMNS / p->n_all) : 0;

    memset(bar, '.', BAR_COLUMNS);
    memset(bar, '#', filled < BAR_COLUMNS ? filled : BAR_COLUMNS);
    bar[BAR_COLUMNS] = '\0';
    if (n_failed > 0) {
        (void)snprintf(failed, sizeof(failed), ", %" PRIu64 " failed", n_failed);
    }
    if (n_here > 0 && n_done < p->n_all) {
        write_time(time, sizeof(time), s / (double)n_here * (double)(p->n_all - n_done));
        (void)snprintf(left, sizeof(left), ", about %s left", time);
    }
    (void)snprintf(text, sizeof(text), "[%s] %" PRIu64 " of %" PRIu64 "%s, %.1f tokens/s%s", bar,
                   n_done, p->n_all, failed, s > 0 ? (double)tokens / s : 0.0, left);
    (void)snprintf(ret, room, "%.*s", (int)columns, text);
}

void progress_init(struct progress *p, uint64_t n_all, uint64_t n_had, uint64_t now_ns)
{
    *p = (struct progress){
        .shown = isatty(STDERR_FILENO), .n_all = n_all, .n_begun_with = n_had, .start_ns = now_ns};
}

void progress_show(struct progress *p, uint64_t n_done, uint64_t n_failed, uint64_t tokens,
                   uint64_t now_ns)
{
    char text[COLUMNS_MAX + 1];
    struct winsize size = {0};
    unsigned columns = 80;

    if (!p->shown || (p->told && n_done < p->n_all && now_ns - p->last_ns < EVERY_NS)) {
        return;
    }
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1) {
        columns = size.ws_col - 1u; /* the last column may wrap */
    }
    progress_line(text, sizeof(text), p, n_done, n_failed, tokens, now_ns,
                  columns < COLUMNS_MAX ? columns : COLUMNS_MAX);
    (void)fprintf(stderr, "\r\033[K%s", text);
    p->told = true;
    p->last_ns = now_ns;
}

void progress_clear(struct progress *p)
{
    if (p->told) {
        (void)fprintf(stderr, "\r\033[K");
        p->told = false;
    }
}
