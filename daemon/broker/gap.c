/* gap: how long the loop slept past the moment at which a timer should have woken it. While others
 * wait for something the nearest timer is near, so that is how long the daemon did not run.
 *
 * That time is nobody's fault: what has a time to be done by (a first token, a frame, the reading
 * of an answer, the engine's hello) gets so much more. It is given between what came meanwhile and
 * the timers, which would have found everything late. */
#include "daemon/broker/gap.h"

#include "base/clock.h"
#include "daemon/broker/broker.h"
#include "daemon/broker/conn.h"
#include "daemon/broker/log.h"
#include "daemon/broker/request.h"

uint64_t gap_of(uint64_t begin_ns, int timeout_ms, uint64_t now_ns)
{
    if (timeout_ms < 0) {
        return 0;
    }
    const uint64_t due_ns = begin_ns + (uint64_t)timeout_ms * NS_PER_MS;

    return now_ns > due_ns && now_ns - due_ns >= GAP_MIN_NS ? now_ns - due_ns : 0;
}

static void spare(struct broker *b, uint64_t before_ns, uint64_t gap_ns)
{
    list_for_each (c, next_c, &b->conns, struct conn, link) {
        list_for_each (r, next, &c->requests, struct request, conn_link) {
            const bool waits = r->deadline_ns != UINT64_MAX && r->deadline_ns != r->arrived_ns;
            if (waits && r->arrived_ns <= before_ns) {
                r->deadline_ns += gap_ns;
            }
        }
        conn_spare(c, before_ns, gap_ns);
    }
    runner_proc_spare(&b->runner);
}

static void on_check(uv_check_t *check)
{
    struct broker *b = check->data;
    const uint64_t gap_ns = gap_of(b->gap.begin_ns, b->gap.timeout_ms, clock_now_ns());

    if (gap_ns > 0) {
        log_client(LOG_GAPS, LOG_WARNING,
                   "nothing could be done for %llu ms: that is held against nobody",
                   (unsigned long long)(gap_ns / NS_PER_MS));
        spare(b, b->gap.begin_ns, gap_ns);
    }
}

void gap_init(struct broker *b)
{
    b->gap.check.data = b;
    b->gap.timeout_ms = -1;
    (void)uv_check_init(b->loop, &b->gap.check); /* neither can fail: they only fill the struct */
    (void)uv_check_start(&b->gap.check, on_check);
    uv_unref((uv_handle_t *)&b->gap.check);
}

void gap_sleep(struct broker *b)
{
    b->gap.begin_ns = clock_now_ns();
    b->gap.timeout_ms = uv_backend_timeout(b->loop);
}

void gap_close(struct broker *b)
{
    if (!uv_is_closing((uv_handle_t *)&b->gap.check)) {
        uv_close((uv_handle_t *)&b->gap.check, NULL);
    }
}
