/* notify: sd-daemon, at the few moments that matter. Nothing happens outside systemd. */
#include "daemon/broker/notify.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>

#include "base/clock.h"

void notify_ready_as(const char *status)
{
    (void)sd_notifyf(0, "READY=1\nSTATUS=%s", status);
}

void notify_patience(uint64_t ms, const char *status)
{
    (void)sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%llu\nSTATUS=%s", (unsigned long long)ms * 1000,
                     status);
}

void notify_reloading(void)
{
    (void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=Reloading.",
                     (unsigned long long)(clock_now_ns() / 1000));
}

void notify_stopping(uint64_t drain_ms, const char *status)
{
    (void)sd_notifyf(0, "STOPPING=1\nSTATUS=%s\nEXTEND_TIMEOUT_USEC=%llu", status,
                     (unsigned long long)(drain_ms + 5000) * 1000);
}

void notify_status(const char *status)
{
    (void)sd_notifyf(0, "STATUS=%s", status);
}

bool notify_heard(void)
{
    const char *path = getenv("NOTIFY_SOCKET");

    return path && *path;
}

static void on_ping(uv_timer_t *timer)
{
    (void)timer;
    (void)sd_notify(0, "WATCHDOG=1");
}

int watchdog_start(struct watchdog *w, uv_loop_t *loop)
{
    uint64_t usec = 0;

    *w = (struct watchdog){0};
    if (sd_watchdog_enabled(0, &usec) <= 0) {
        return 0;
    }
    const uint64_t ms = usec / 2000 ? usec / 2000 : 1;
    const int e = uv_timer_init(loop, &w->timer);
    if (e < 0) {
        return e;
    }
    w->timer.data = w;
    return uv_timer_start(&w->timer, on_ping, ms, ms);
}

void watchdog_stop(struct watchdog *w)
{
    if (w->timer.data) {
        w->timer.data = NULL;
        uv_close((uv_handle_t *)&w->timer, NULL);
    }
}

static bool is_metrics(const char *name)
{
    return strcmp(name, "metrics") == 0 || strcmp(name, "onebitd-metrics.socket") == 0;
}

int notify_sockets(struct passed_sockets *ret)
{
    char **names = NULL;
    const int n = sd_listen_fds_with_names(1, &names);
    int r = n < 0 ? n : 0;

    *ret = (struct passed_sockets){.main = -1, .metrics = -1};
    for (int i = 0; i < n; i++) {
        const int fd = SD_LISTEN_FDS_START + i;
        int *at = is_metrics(names[i]) ? &ret->metrics : &ret->main;
        if (*at >= 0 || sd_is_socket(fd, AF_UNIX, SOCK_STREAM, 1) <= 0) {
            r = -EINVAL;
        }
        *at = fd;
        free(names[i]);
    }
    free(names);
    return r;
}
