/* wedge: an engine that is stuck is killed, and its requests go on in the next one.
 *
 * It counts what it gets done in a page that both processes have (ipc/pulse.h): layers of a step,
 * orders, reports. A count that stands still while there is work is a stuck engine, but for one
 * that waits for its disk: each page that was read for it, a major fault, is progress as well, so
 * that weights on a slow card come in at whatever pace the card has. While the engine's own thread
 * waits for the broker although there is work (a model is being read by another thread; or the
 * process was stopped just there) its processor time counts, too.
 *
 * Looks are counted, not time: when the broker itself was stopped, or the machine slept, the
 * engine was as well, and what was missed is one look. */
#include "daemon/broker/wedge.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/whole_file.h"
#include "daemon/broker/broker.h"
#include "daemon/broker/log.h"
#include "daemon/broker/models.h"

#define STAT_FAULTS 12 /* fields of /proc/PID/stat, the first is 1 */
#define STAT_UTIME 14
#define STAT_STIME 15

bool wedge_look(struct wedge_sight *w, bool busy, uint64_t progress)
{
    const bool still = busy && progress == w->progress;

    w->progress = progress;
    w->n_still = still ? w->n_still + 1 : 0;
    if (w->n_still < WEDGE_LOOKS) {
        return false;
    }
    w->n_still = 0;
    return true;
}

bool wedge_stat(const char *text, uint64_t *ret_faults, uint64_t *ret_ticks)
{
    const char *at = strrchr(text, ')'); /* the name before it may hold anything */
    uint64_t faults = 0, ticks = 0;
    int field = 2;

    while (at && field < STAT_STIME) {
        at = strchr(at, ' ');
        if (!at) {
            return false;
        }
        at++;
        field++;
        if (field == STAT_FAULTS) {
            faults = strtoull(at, NULL, 10);
        } else if (field == STAT_UTIME || field == STAT_STIME) {
            ticks += strtoull(at, NULL, 10);
        }
    }
    if (!at) {
        return false;
    }
    *ret_faults = faults;
    *ret_ticks = ticks;
    return true;
}

/* A model is being read, or a plan is with the engine: it owes us something. */
static bool owes(const struct broker *b)
{
    list_for_each (m, next, &b->models, struct model, link) {
        if (m->state == MODEL_LOADING) {
            return true;
        }
    }
    return b->sent.n_run > 0 || b->runner.out.n > 0;
}

static uint64_t progress_of(const struct wedge *w, pid_t pid, bool idle)
{
    uint64_t progress = atomic_load_explicit(&w->pulse->beats, memory_order_relaxed);
    uint64_t faults = 0, ticks = 0;
    char path[32], text[512];

    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    if (whole_file_head(text, sizeof(text), AT_FDCWD, path, 0) > 0 &&
        wedge_stat(text, &faults, &ticks)) {
        progress += faults + (idle ? ticks : 0);
    }
    return progress;
}

static void on_look(uv_timer_t *timer)
{
    struct broker *b = timer->data;
    struct wedge *w = &b->wedge;
    const uint32_t phase = atomic_load_explicit(&w->pulse->phase, memory_order_relaxed);
    const bool idle = phase == PULSE_IDLE;

    if (b->runner.state != RUNNER_UP) {
        w->sight = (struct wedge_sight){0};
        return;
    }
    const bool busy = !idle || owes(b);
    const uint64_t progress = busy ? progress_of(w, runner_proc_pid(&b->runner), idle) : 0;
    if (!wedge_look(&w->sight, busy, progress)) {
        return;
    }
    log_line(LOG_ERR,
             "engine %d is stuck: no progress for %llu ms in %s, request %llu; it is killed",
             runner_proc_pid(&b->runner), (unsigned long long)b->config.wedged_ms,
             pulse_phase_name(phase),
             (unsigned long long)atomic_load_explicit(&w->pulse->request, memory_order_relaxed));
    w->n_killed++;
    runner_proc_kill(&b->runner, "it was stuck");
}

/* A page that neither side can make shorter under the other. */
static int make_page(struct wedge *w)
{
    const size_t n = (size_t)sysconf(_SC_PAGESIZE);
    int r = 0;

    w->fd = memfd_create("onebit-pulse", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (w->fd < 0) {
        return -errno;
    }
    if (ftruncate(w->fd, (off_t)n) < 0 ||
        fcntl(w->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        r = -errno;
    }
    void *page = r == 0 ? mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, w->fd, 0) : MAP_FAILED;
    if (page == MAP_FAILED) {
        r = r < 0 ? r : -errno;
        (void)close(w->fd);
        w->fd = -1;
        return r;
    }
    w->pulse = page;
    return 0;
}

int wedge_init(struct wedge *w, struct broker *b)
{
    *w = (struct wedge){.fd = -1};
    const int e = make_page(w);
    if (e < 0) {
        log_line(LOG_WARNING, "nobody will notice when the engine is stuck: %s", strerror(-e));
    }
    w->timer.data = b;
    const int r = uv_timer_init(b->loop, &w->timer);
    if (r == 0) {
        uv_unref((uv_handle_t *)&w->timer);
        wedge_settle(w);
    }
    return r;
}

void wedge_restart(struct wedge *w)
{
    w->sight = (struct wedge_sight){0};
    if (w->pulse) { /* the one before has left its own, and is gone */
        atomic_store_explicit(&w->pulse->phase, PULSE_IDLE, memory_order_relaxed);
        atomic_store_explicit(&w->pulse->request, 0, memory_order_relaxed);
    }
}

void wedge_settle(struct wedge *w)
{
    struct broker *b = w->timer.data;
    const uint64_t ms = b->config.wedged_ms / WEDGE_LOOKS;

    if (!w->pulse || b->config.wedged_ms == 0) {
        (void)uv_timer_stop(&w->timer);
    } else {
        (void)uv_timer_start(&w->timer, on_look, ms, ms);
    }
}

void wedge_close(struct wedge *w)
{
    if (!uv_is_closing((uv_handle_t *)&w->timer)) {
        uv_close((uv_handle_t *)&w->timer, NULL);
    }
}

void wedge_deinit(struct wedge *w)
{
    if (w->pulse) {
        (void)munmap(w->pulse, (size_t)sysconf(_SC_PAGESIZE));
        w->pulse = NULL;
    }
    if (w->fd >= 0) {
        (void)close(w->fd);
        w->fd = -1;
    }
}
