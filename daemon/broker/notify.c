/* notify: sd-daemon, at the few moments that matter. Nothing happens outside systemd. */
#include "daemon/broker/notify.h"

#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>

#include "base/clock.h"

void notify_ready(void)
{
    (void)sd_notify(0, "READY=1\nSTATUS=Serving.");
}

void notify_reloading(void)
{
    (void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=Reloading.",
                     (unsigned long long)(clock_now_ns() / 1000));
}

void notify_stopping(uint64_t drain_ms)
{
    (void)sd_notifyf(0, "STOPPING=1\nSTATUS=Finishing what runs.\nEXTEND_TIMEOUT_USEC=%llu",
                     (unsigned long long)(drain_ms + 5000) * 1000);
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

int notify_listen_fd(void)
{
    const int n = sd_listen_fds(1);

    if (n <= 0) {
        return n < 0 ? n : -1;
    }
    if (n > 1 || sd_is_socket(SD_LISTEN_FDS_START, AF_UNIX, SOCK_STREAM, 1) <= 0) {
        return -EINVAL;
    }
    return SD_LISTEN_FDS_START;
}
