/* canceller: a flag that a signal handler or another thread raises, and a descriptor that wakes who
 * waits.
 *
 * The flag is the truth; the descriptor only wakes. Tripping sets the flag first, so whoever is
 * woken sees it. Resetting drains the descriptor and then lowers the flag; a trip in between may
 * leave the descriptor readable with the flag down, which canceller_settle() takes back. */
#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "client/conn.h"

static_assert(ATOMIC_BOOL_LOCK_FREE == 2, "a signal handler takes no lock");

struct onebit_canceller {
    atomic_bool tripped;
    int fd; /* owned: an eventfd */
};

int onebit_canceller_new(struct onebit_canceller **ret)
{
    struct onebit_canceller *c = calloc(1, sizeof(*c));

    if (!c) {
        return -ENOMEM;
    }
    c->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->fd < 0) {
        const int r = -errno;
        free(c);
        return r;
    }
    *ret = c;
    return 0;
}

void onebit_canceller_free(struct onebit_canceller *canceller)
{
    if (canceller) {
        (void)close(canceller->fd);
        free(canceller);
    }
}

void onebit_canceller_trip(struct onebit_canceller *canceller)
{
    static const uint64_t one = 1;
    const int saved = errno;

    atomic_store(&canceller->tripped, true);
    (void)!write(canceller->fd, &one, sizeof(one)); /* full: it wakes already */
    errno = saved;
}

bool onebit_canceller_tripped(const struct onebit_canceller *canceller)
{
    return atomic_load(&canceller->tripped);
}

static void drain(const struct onebit_canceller *c)
{
    uint64_t n;

    (void)!read(c->fd, &n, sizeof(n)); /* empty: nothing to drain */
}

void onebit_canceller_reset(struct onebit_canceller *canceller)
{
    drain(canceller);
    atomic_store(&canceller->tripped, false);
}

bool canceller_tripped(const struct onebit_canceller *c)
{
    return c && onebit_canceller_tripped(c);
}

int canceller_fd(const struct onebit_canceller *c)
{
    return c->fd;
}

void canceller_settle(struct onebit_canceller *c)
{
    static const uint64_t one = 1;

    drain(c);
    if (onebit_canceller_tripped(c)) { /* it was raised just now: others must be woken too */
        (void)!write(c->fd, &one, sizeof(one));
    }
}

int onebit_set_canceller(struct onebit_conn *conn, struct onebit_canceller *canceller)
{
    if (conn->watched) {
        (void)epoll_ctl(conn->epoll_fd, EPOLL_CTL_DEL, conn->canceller->fd, NULL);
        conn->watched = false;
    }
    conn->canceller = canceller;
    conn->trip_seen = false;
    const int r = conn_arm(conn);
    if (r < 0) {
        conn->canceller = NULL;
    }
    return r;
}
