/* acceptor: a real loop, a real listening socket, and the ways in which a connection cannot be
 * held. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/broker/broker.h"
#include "daemon/broker/conn.h"
#include "tests/support/test.h"

static bool no_memory; /* calloc() fails */

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size)
{
    return no_memory ? NULL : __real_calloc(n, size);
}

struct rig {
    uv_loop_t loop;
    struct broker broker;
    struct sockaddr_un address;
    socklen_t address_n;
    unsigned n_taken;
};

static void count(void *user, int fd)
{
    struct rig *rig = user;

    rig->n_taken++;
    (void)close(fd);
}

static void hand_on(void *user, int fd)
{
    struct rig *rig = user;

    rig->n_taken++;
    conn_accept(&rig->broker, fd);
}

/* A listening socket with a name of the kernel's choice, so that tests may run at once. */
static void rig_up(struct rig *rig, void (*take)(void *user, int fd))
{
    *rig = (struct rig){.address = {.sun_family = AF_UNIX},
                        .address_n = sizeof(rig->address.sun_family)};
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&rig->address, rig->address_n), 0);
    rig->address_n = sizeof(rig->address);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&rig->address, &rig->address_n), 0);
    assert_int_equal(listen(fd, 128), 0);
    assert_int_equal(uv_loop_init(&rig->loop), 0);
    rig->broker.loop = &rig->loop;
    assert_int_equal(config_init(&rig->broker.config), 0);
    list_init(&rig->broker.conns);
    identities_init(&rig->broker.identities);
    assert_int_equal(uv_timer_init(&rig->loop, &rig->broker.sweep), 0);
    rig->broker.sweep.data = &rig->broker;
    assert_int_equal(acceptor_start(&rig->broker.acceptor, &rig->loop, fd, take, rig), 0);
}

static void rig_down(struct rig *rig)
{
    acceptor_stop(&rig->broker.acceptor);
    acceptor_stop(&rig->broker.acceptor);
    list_for_each (c, next, &rig->broker.conns, struct conn, link) {
        conn_close(c);
    }
    uv_close((uv_handle_t *)&rig->broker.sweep, NULL);
    assert_int_equal(uv_run(&rig->loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&rig->loop), 0);
    identities_deinit(&rig->broker.identities);
    config_deinit(&rig->broker.config);
}

static int knock(const struct rig *rig)
{
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&rig->address, rig->address_n), 0);
    return fd;
}

static bool is_closed(int fd)
{
    char byte;

    return recv(fd, &byte, 1, MSG_DONTWAIT) == 0;
}

/* Goal: a crowd does not keep the loop. Method: more connections than a turn takes wait before the
 * first turn. */
static void a_turn_of_the_loop_accepts_a_bounded_number(void **state)
{
    struct rig rig;
    int peers[ACCEPTS_PER_TURN + 5];

    (void)state;
    rig_up(&rig, count);
    for (size_t i = 0; i < ARRAY_SIZE(peers); i++) {
        peers[i] = knock(&rig);
    }
    (void)uv_run(&rig.loop, UV_RUN_NOWAIT);
    assert_true(rig.n_taken <= ACCEPTS_PER_TURN * 2u); /* libuv may poll twice in a turn */
    for (int i = 0; i < 10; i++) {
        (void)uv_run(&rig.loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(rig.n_taken, ARRAY_SIZE(peers));
    for (size_t i = 0; i < ARRAY_SIZE(peers); i++) {
        (void)close(peers[i]);
    }
    rig_down(&rig);
}

/* Goal: no memory for one connection costs that one only. Method: calloc() fails for the first. */
static void without_memory_a_peer_is_closed_and_the_next_is_served(void **state)
{
    struct rig rig;

    (void)state;
    rig_up(&rig, hand_on);
    const int first = knock(&rig);
    no_memory = true;
    while (rig.n_taken < 1) {
        (void)uv_run(&rig.loop, UV_RUN_ONCE);
    }
    no_memory = false;
    assert_true(is_closed(first));
    assert_int_equal(rig.broker.n_conns, 0);

    const int second = knock(&rig);
    while (rig.n_taken < 2) {
        (void)uv_run(&rig.loop, UV_RUN_ONCE);
    }
    assert_int_equal(rig.broker.n_conns, 1);
    assert_false(is_closed(second));
    (void)close(first);
    (void)close(second);
    rig_down(&rig);
}

/* Goal: used-up descriptors shed newcomers and spin nothing. Method: the limit is lowered to what
 * is open, two peers come, then the limit is lifted. */
static void without_descriptors_peers_are_closed_until_there_are_some(void **state)
{
    struct rig rig;
    struct rlimit before, low;

    (void)state;
    rig_up(&rig, hand_on);
    const int first = knock(&rig), second = knock(&rig);
    const int top = fcntl(second, F_DUPFD_CLOEXEC, 0); /* the lowest that is free */
    assert_true(top >= 0);
    (void)close(top);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    low = before;
    low.rlim_cur = (rlim_t)top;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    for (int i = 0; i < 10; i++) {
        (void)uv_run(&rig.loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_true(is_closed(first));
    assert_true(is_closed(second));
    assert_int_equal(rig.n_taken, 0);
    assert_true(rig.broker.acceptor.spare >= 0);

    const int third = knock(&rig);
    while (rig.n_taken < 1) {
        (void)uv_run(&rig.loop, UV_RUN_ONCE);
    }
    assert_int_equal(rig.broker.n_conns, 1);
    (void)close(first);
    (void)close(second);
    (void)close(third);
    rig_down(&rig);
}

/* Goal: even without the spare the listener comes back. Method: the spare is taken away while no
 * descriptor is left; it is looked for again, and a pause passes. */
static void without_the_spare_it_pauses_and_goes_on(void **state)
{
    struct rig rig;
    struct rlimit before, low;

    (void)state;
    rig_up(&rig, hand_on);
    const int first = knock(&rig);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    low = before;
    (void)close(rig.broker.acceptor.spare);
    low.rlim_cur = 0;
    rig.broker.acceptor.spare = -1;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    for (int i = 0; i < 10; i++) {
        (void)uv_run(&rig.loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(rig.n_taken, 0);
    assert_true(uv_is_active((uv_handle_t *)&rig.broker.acceptor.pause));
    assert_false(uv_is_active((uv_handle_t *)&rig.broker.acceptor.poll));
    while (rig.n_taken < 1) {
        (void)uv_run(&rig.loop, UV_RUN_ONCE);
    }
    assert_int_equal(rig.broker.n_conns, 1);
    (void)close(first);
    rig_down(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_turn_of_the_loop_accepts_a_bounded_number),
        cmocka_unit_test(without_memory_a_peer_is_closed_and_the_next_is_served),
        cmocka_unit_test(without_descriptors_peers_are_closed_until_there_are_some),
        cmocka_unit_test(without_the_spare_it_pauses_and_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
