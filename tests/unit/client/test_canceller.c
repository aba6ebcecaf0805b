/* Cancelling from another thread and from a signal handler. */
#include "tests/support/test.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/compiler.h"
#include "client/conn.h"
#include "tests/unit/client/fake.h"
#include "tests/unit/client/watch.h"

/* ---- a daemon that works for ever ---- */

/* Answers nothing but cancels; and those only when it is obedient. */
struct worker {
    bool obedient;
    atomic_uint n_requests, n_cancels;
};

static void serve_for_ever(struct fake_conn *c, void *arg)
{
    struct worker *x = arg;
    struct message m;

    fake_greet(c);
    while (fake_read(c, &m)) {
        if (m.type != MSG_CANCEL) {
            x->n_requests++;
            continue;
        }
        x->n_cancels++;
        if (x->obedient) {
            fake_error(c, m.cancel.target, ERR_CANCELLED, "by its client");
            assert(message_put_done(&c->out, m.id, NULL) == 0);
            fake_flush(c);
        }
    }
}

static struct onebit_conn *connected_with(const struct fake *f, struct onebit_canceller *canceller)
{
    struct onebit_conn *conn = NULL;
    struct onebit_options options;

    onebit_options_init(&options);
    options.path = fake_path(f);
    options.canceller = canceller;
    assert_int_equal(onebit_connect_with(&conn, &options), 0);
    return conn;
}

/* ---- who trips ---- */

struct tripper {
    struct onebit_canceller *canceller;
    const atomic_uint *after; /* waits until it is not 0; NULL: a moment */
};

static void *trip(void *arg)
{
    struct tripper *t = arg;

    while (t->after && *t->after == 0) {
        usleep(1000);
    }
    usleep(20000); /* so that the other thread is in its wait, most of the time */
    onebit_canceller_trip(t->canceller);
    return NULL;
}

static struct onebit_canceller *of_the_signal;

static void on_alarm(int signal)
{
    onebit_canceller_trip(of_the_signal);
}

/* One alarm, in ms. */
static void set_alarm(int ms)
{
    const struct sigaction action = {.sa_handler = on_alarm}; /* interrupts what waits */
    const struct itimerval at = {.it_value = {.tv_usec = ms * 1000}};

    assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &at, NULL), 0);
}

/* ---- a connection that can be cancelled ---- */

struct scene {
    struct fake *fake;
    struct onebit_canceller *canceller; /* the alarm trips it, too */
    struct onebit_conn *conn;
    struct onebit_request request;
    struct onebit_handler handler;
};

static struct scene begin(fake_serve_fn *serve, void *arg)
{
    struct scene e = {.fake = fake_start(serve, arg), .request = ask("hi"), .handler = watch()};

    assert_int_equal(onebit_canceller_new(&e.canceller), 0);
    e.conn = connected_with(e.fake, e.canceller);
    of_the_signal = e.canceller;
    return e;
}

static void end(struct scene *e)
{
    onebit_disconnect(e->conn);
    onebit_canceller_free(e->canceller);
    fake_stop(e->fake);
}

/* ---- blocking calls ---- */

static void another_thread_ends_a_blocking_call(void **state)
{
    struct worker x = {.obedient = true};
    struct scene e = begin(serve_for_ever, &x);
    struct seen s = {0};
    pthread_t thread;

    assert_false(onebit_canceller_tripped(e.canceller));
    struct tripper t = {e.canceller, &x.n_requests};
    assert_int_equal(pthread_create(&thread, NULL, trip, &t), 0);
    assert_int_equal(onebit_run(e.conn, &e.request, &e.handler, &s), ONEBIT_ERR_CANCELLED);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_string_equal(s.order, "e");
    assert_string_equal(s.message, "by its client"); /* the daemon's own word */
    assert_true(onebit_canceller_tripped(e.canceller));
    assert_int_equal(onebit_run(e.conn, &e.request, &e.handler, &s),
                     ONEBIT_ERR_CANCELLED); /* refused */
    assert_int_equal(x.n_requests, 1);
    end(&e);
}

static void a_signal_ends_a_blocking_call(void **state)
{
    struct worker x = {.obedient = true};
    struct scene e = begin(serve_for_ever, &x);
    char *json = NULL;

    for (int round = 0; round < 3; round++) { /* and again after a reset */
        set_alarm(30);
        assert_int_equal(onebit_run(e.conn, &e.request, NULL, NULL), ONEBIT_ERR_CANCELLED);
        assert_true(onebit_canceller_tripped(e.canceller));
        onebit_canceller_reset(e.canceller);
        assert_false(onebit_canceller_tripped(e.canceller));
    }
    assert_int_equal(x.n_cancels, 3);
    set_alarm(30);
    assert_int_equal(onebit_list(e.conn, &json), ONEBIT_ERR_CANCELLED);
    assert_null(json);
    end(&e);
}

static void a_daemon_that_does_not_answer_a_cancel_is_left_after_a_second(void **state)
{
    struct worker x = {.obedient = false};
    struct scene e = begin(serve_for_ever, &x);
    struct seen s = {0};

    const uint64_t before_ns = clock_now_ns();
    set_alarm(30);
    assert_int_equal(onebit_run(e.conn, &e.request, &e.handler, &s), ONEBIT_ERR_CANCELLED);
    assert_string_equal(s.order, "e");
    assert_string_equal(s.name, "cancelled");
    assert_true(clock_now_ns() - before_ns >= NS_PER_S);
    end(&e);
}

static void serve_no_greeting(struct fake_conn *c, void *arg)
{
    fake_until_hang_up(c);
}

static void connecting_can_be_cancelled(void **state)
{
    struct fake *f = fake_start(serve_no_greeting, NULL);
    struct onebit_conn *conn = NULL;
    struct onebit_options options;

    assert_int_equal(onebit_canceller_new(&of_the_signal), 0);
    onebit_options_init(&options);
    options.path = fake_path(f);
    options.canceller = of_the_signal;
    options.connect_ms = UINT32_MAX;
    set_alarm(30);
    assert_int_equal(onebit_connect_with(&conn, &options), -ECANCELED);
    assert_int_equal(onebit_connect_with(&conn, &options), -ECANCELED); /* it stays tripped */
    assert_null(conn);
    onebit_canceller_free(of_the_signal);
    fake_stop(f);
}

static void serve_refusal(struct fake_conn *c, void *arg)
{
    struct message m;

    fake_greet(c);
    while (fake_read(c, &m)) {
        const struct msg_error error = {
            .code = ERR_RATE_LIMITED, .message = strview_of("tokens"), .retry_after_ms = 50000};
        assert(message_put_error(&c->out, m.id, &error) == 0);
        fake_flush(c);
    }
}

static void a_wait_before_a_retry_ends_at_once(void **state)
{
    struct scene e = begin(serve_refusal, NULL);
    struct seen s = {0};

    const uint64_t before_ns = clock_now_ns();
    set_alarm(30);
    assert_int_equal(onebit_run(e.conn, &e.request, &e.handler, &s), ONEBIT_ERR_CANCELLED);
    assert_true(clock_now_ns() - before_ns < 40 * NS_PER_S);
    assert_string_equal(s.order, "re");
    end(&e);
}

/* ---- event loops ---- */

static void an_event_loop_wakes_and_does_not_spin(void **state)
{
    struct worker x = {.obedient = false};
    struct scene e = begin(serve_for_ever, &x);
    struct seen a = {0}, b = {0};
    pthread_t thread;
    unsigned wakes = 0;

    assert_int_equal(onebit_generate(e.conn, &e.request, &e.handler, &a, NULL), 0);
    assert_int_equal(onebit_generate(e.conn, &e.request, &e.handler, &b, NULL), 0);
    struct tripper t = {e.canceller, &x.n_requests};
    assert_int_equal(pthread_create(&thread, NULL, trip, &t), 0);
    while (!a.ended || !b.ended) {
        struct pollfd p = {.fd = onebit_get_fd(e.conn), .events = onebit_wants(e.conn)};
        assert_int_equal(poll(&p, 1, 60000), 1);
        assert_int_equal(onebit_dispatch(e.conn, 0), 0);
        wakes++;
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(a.code, ONEBIT_ERR_CANCELLED);
    assert_int_equal(b.code, ONEBIT_ERR_CANCELLED);
    assert_in_range(wakes, 2, 10);
    end(&e);
}

static void one_canceller_serves_many_connections_and_can_be_taken_away(void **state)
{
    struct worker x = {.obedient = true};
    struct fake *f = fake_start(serve_for_ever, &x);
    struct onebit_request request = ask("hi");
    struct onebit_canceller *c, *other;

    assert_int_equal(onebit_canceller_new(&c), 0);
    assert_int_equal(onebit_canceller_new(&other), 0);
    struct onebit_conn *conn = connected_with(f, c);
    assert_int_equal(onebit_set_canceller(conn, other), 0);
    onebit_canceller_trip(c);
    assert_int_equal(onebit_generate(conn, &request, NULL, NULL, NULL), 0);
    assert_int_equal(onebit_set_canceller(conn, c), 0); /* it is tripped already */
    assert_int_equal(onebit_generate(conn, &request, NULL, NULL, NULL), ONEBIT_ERR_CANCELLED);
    assert_int_equal(onebit_set_canceller(conn, NULL), 0);
    onebit_canceller_free(c);
    assert_int_equal(onebit_generate(conn, &request, NULL, NULL, NULL), 0);
    onebit_disconnect(conn);
    onebit_canceller_free(other);
    onebit_canceller_free(NULL);
    fake_stop(f);
}

/* ---- races ---- */

struct storm {
    struct onebit_canceller *canceller;
    atomic_bool over;
};

static void *trip_always(void *arg)
{
    struct storm *t = arg;

    while (!t->over) {
        onebit_canceller_trip(t->canceller);
        usleep(200);
    }
    return NULL;
}

/* Goal: no trip is lost, none wakes for ever, whatever resets race with it; and errno is nobody's
 * victim.
 * Method: a thread that trips all the time, and one that runs and resets. */
static void trips_and_resets_may_race(void **state)
{
    struct worker x = {.obedient = true};
    struct scene e = begin(serve_for_ever, &x);
    struct storm storm = {.canceller = e.canceller};
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, trip_always, &storm), 0);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(onebit_run(e.conn, &e.request, NULL, NULL), ONEBIT_ERR_CANCELLED);
        onebit_canceller_reset(storm.canceller);
    }
    storm.over = true;
    assert_int_equal(pthread_join(thread, NULL), 0);
    errno = 77;
    for (int i = 0; i < 3; i++) {
        onebit_canceller_trip(storm.canceller);
    }
    assert_int_equal(errno, 77);
    end(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_thread_ends_a_blocking_call),
        cmocka_unit_test(a_signal_ends_a_blocking_call),
        cmocka_unit_test(a_daemon_that_does_not_answer_a_cancel_is_left_after_a_second),
        cmocka_unit_test(connecting_can_be_cancelled),
        cmocka_unit_test(a_wait_before_a_retry_ends_at_once),
        cmocka_unit_test(an_event_loop_wakes_and_does_not_spin),
        cmocka_unit_test(one_canceller_serves_many_connections_and_can_be_taken_away),
        cmocka_unit_test(trips_and_resets_may_race),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
