/* world: see world.h. */
#include "tests/unit/client/world.h"

#include "tests/support/test.h"

#include <poll.h>
#include <unistd.h>

#define MOMENT_MS 100

static uint64_t now_ns(void *arg)
{
    return ((struct world *)arg)->now_ns;
}

static uint32_t chance(void *arg)
{
    return ((struct world *)arg)->random;
}

static int wait_or_leap(void *arg, struct pollfd *fds, size_t n, int timeout_ms)
{
    struct world *w = arg;
    const bool leaps = timeout_ms >= 0 && timeout_ms <= w->leap_ms;
    const int r = poll(fds, n, leaps && timeout_ms > MOMENT_MS ? MOMENT_MS : timeout_ms);

    if (r == 0) {
        w->now_ns += (uint64_t)timeout_ms * NS_PER_MS;
    } else if (leaps && timeout_ms <= MOMENT_MS) {
        w->now_ns += NS_PER_MS; /* the library's own timer goes by the real clock */
    }
    return r;
}

void world_init(struct world *w)
{
    *w = (struct world){.env = {now_ns, chance, wait_or_leap, w},
                        .now_ns = 1000 * NS_PER_S,
                        .random = UINT32_MAX,
                        .leap_ms = 9000};
}

struct onebit_conn *world_connect(struct world *w, const struct fake *f,
                                  const struct onebit_retry *retry)
{
    struct onebit_conn *conn = NULL;
    struct onebit_options options;

    onebit_options_init(&options);
    options.path = fake_path(f);
    options.retry = retry;
    assert_int_equal(conn_open(&conn, &options, &w->env), 0);
    return conn;
}

void world_dispatch(struct onebit_conn *conn, const uint32_t *counter)
{
    for (int i = 0; *counter == 0 && i < 10000; i++) {
        assert_int_equal(onebit_dispatch(conn, 0), 0);
        usleep(1000);
    }
    assert_int_not_equal(*counter, 0);
}
