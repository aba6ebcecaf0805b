/* A connection that is lost, and made again. */
#include "tests/support/test.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/compiler.h"
#include "tests/unit/client/fake.h"
#include "tests/unit/client/watch.h"
#include "tests/unit/client/world.h"

/* ---- losses ---- */

struct losses {
    unsigned n;          /* connections that are lost before one holds */
    const char *said;    /* the text before the loss, or NULL */
    atomic_uint greeted; /* connections so far */
    atomic_bool go;      /* the idle one may be closed */
};

static void serve_losses(struct fake_conn *c, void *arg)
{
    struct losses *x = arg;
    struct message m;

    fake_greet(c);
    x->greeted++;
    while (fake_read(c, &m)) {
        if (x->greeted <= x->n) {
            if (x->said) {
                fake_text(c, m.id, 0, x->said);
            }
            return;
        }
        if (m.type == MSG_GENERATE) {
            fake_text(c, m.id, 0, "whole");
            fake_done(c, m.id, 1);
        } else {
            assert(message_put_done(&c->out, m.id, NULL) == 0);
            fake_flush(c);
        }
    }
}

static void a_lost_connection_is_made_again_and_the_request_sent_anew(void **state)
{
    struct losses x = {.n = 2};
    struct onebit_request request = ask("hi");
    struct onebit_handler h = watch();
    struct seen s = {0};
    struct world w;

    world_init(&w);
    struct fake *f = fake_start(serve_losses, &x);
    struct onebit_conn *conn = world_connect(&w, f, NULL);
    assert_int_equal(onebit_run(conn, &request, &h, &s), 0);
    assert_string_equal(s.order, "rrtd");
    assert_string_equal(s.text, "whole");
    assert_int_equal(s.delays[0], 1000);
    assert_int_equal(s.delays[1], 2000);
    assert_int_equal(x.greeted, 3);
    assert_string_equal(onebit_server(conn)->name, "onebitd fake");
    onebit_disconnect(conn);
    fake_stop(f);
}

/* Goal: who wants the answer whole gets it, whenever the connection is lost. */
static void an_answer_that_is_held_back_is_asked_for_again_when_its_connection_is_lost(void **state)
{
    struct losses x = {.n = 2, .said = "ha"};
    struct onebit_request request = ask("hi");
    struct onebit_handler h = watch();
    struct seen s = {0};
    struct world w;

    world_init(&w);
    struct fake *f = fake_start(serve_losses, &x);
    struct onebit_conn *conn = world_connect(&w, f, NULL);
    request.hold_bytes = 4096;
    assert_int_equal(onebit_run(conn, &request, &h, &s), 0);
    assert_string_equal(s.order, "rrtd");
    assert_string_equal(s.text, "whole"); /* not a word of what was lost */
    assert_int_equal(s.retries, 2);
    onebit_disconnect(conn);
    fake_stop(f);
}

static void an_answer_that_is_longer_than_may_be_held_comes_as_any_other(void **state)
{
    struct losses x = {.n = 1, .said = "ha"};
    struct onebit_request request = ask("hi");
    struct onebit_handler h = watch();
    struct seen s = {0};
    struct world w;

    world_init(&w);
    struct fake *f = fake_start(serve_losses, &x);
    struct onebit_conn *conn = world_connect(&w, f, NULL);
    request.hold_bytes = 1;
    assert_int_equal(onebit_run(conn, &request, &h, &s), -ECONNRESET);
    assert_string_equal(s.order, "te");
    assert_string_equal(s.text, "ha");
    onebit_disconnect(conn);
    fake_stop(f);
}

/* Goal: a turn that may be in the session already is not put into it twice. */
static void a_turn_of_a_session_that_was_begun_is_not_sent_again(void **state)
{
    static const struct onebit_message hi = {"user", "hi"};
    struct losses x = {.n = 1, .said = "ha"};
    struct onebit_request request = {.size = sizeof(request)};
    struct onebit_handler h = watch();
    struct seen s = {0};
    struct world w;

    world_init(&w);
    struct fake *f = fake_start(serve_losses, &x);
    struct onebit_conn *conn = world_connect(&w, f, NULL);
    request.hold_bytes = 4096;
    request.messages = &hi;
    request.n_messages = 1;
    request.session = "kitchen";
    assert_int_equal(onebit_run(conn, &request, &h, &s), -ECONNRESET);
    assert_string_equal(s.order, "e");
    onebit_disconnect(conn);
    fake_stop(f);
}

static void serve_pieces(struct fake_conn *c, void *arg)
{
    struct message m;

    (void)arg;
    fake_greet(c);
    while (fake_read(c, &m)) {
        for (uint32_t i = 0; i < 5; i++) {
            fake_text(c, m.id, i, i == 2 ? "" : "ab");
        }
        fake_done(c, m.id, 5);
    }
}

static void pieces_that_were_held_back_are_told_in_order_before_the_end(void **state)
{
    struct onebit_request request = ask("hi");
    struct onebit_handler h = watch();
    struct fake *f = fake_start(serve_pieces, NULL);
    struct onebit_conn *conn = connected(f);

    /* The same whatever is held: all of it, some, nothing. */
    for (size_t bytes = 0; bytes < 600; bytes += 7) {
        struct seen s = {0};
        request.hold_bytes = bytes;
        assert_int_equal(onebit_run(conn, &request, &h, &s), 0);
        assert_string_equal(s.order, "tttttd");
        assert_string_equal(s.text, "abababab");
        assert_int_equal(s.n_ids, 5);
        for (int32_t i = 1; i < 5; i++) {
            assert_true(s.ids[i] == s.ids[0] + i || s.ids[i] == s.ids[0]);
        }
    }
    onebit_disconnect(conn);
    fake_stop(f);
}

static void what_has_begun_to_be_answered_is_not_sent_again(void **state)
{
    struct losses x = {.n = 1, .said = "ha"};
    struct onebit_request request = ask("hi");
    struct onebit_handler h = watch();
    struct seen s = {0}, next = {0};
    struct world w;

    world_init(&w);
    struct fake *f = fake_start(serve_losses, &x);
    struct onebit_conn *conn = world_connect(&w, f, NULL);
    assert_int_equal(onebit_run(conn, &request, &h, &s), -ECONNRESET);
    assert_string_equal(s.order, "te");
    assert_string_equal(s.name, "connection_lost");
    assert_int_equal(onebit_run(conn, &request, &h, &next), 0); /* the next one connects, at once */
    assert_string_equal(next.order, "td");
    onebit_disconnect(conn);
    fake_stop(f);
}

static void serve_text_then_refusal(struct fake_conn *c, void *arg)
{
    atomic_uint *n = arg;
    struct message m;

    fake_greet(c);
    while (fake_read(c, &m)) {
        (*n)++;
        fake_text(c, m.id, 0, "ha");
        fake_error(c, m.id, ERR_OVERLOADED, "memory");
    }
}

static void a_refusal_after_the_first_token_is_final(void **state)
{
    atomic_uint n = 0;
    struct onebit_request request = ask("hi");
    struct onebit_handler h = watch();
    struct seen s = {0};
    struct world w;

    world_init(&w);
    struct fake *f = fake_start(serve_text_then_refusal, &n);
    struct onebit_conn *conn = world_connect(&w, f, NULL);
    assert_int_equal(onebit_run(conn, &request, &h, &s), ONEBIT_ERR_OVERLOADED);
    assert_string_equal(s.order, "te");
    assert_int_equal(n, 1);
    onebit_disconnect(conn);
    fake_stop(f);
}

static void each_request_of_a_lost_connection_goes_its_own_way(void **state)
{
    struct losses x = {.n = 1, .said = "begun"};
    struct onebit_request request = ask("hi");
    struct onebit_handler h = watch();
    struct seen a = {0}, b = {0}, unload = {0};
    struct world w;

    world_init(&w);
    struct fake *f = fake_start(serve_losses, &x);
    struct onebit_conn *conn = world_connect(&w, f, NULL);
    assert_int_equal(onebit_generate(conn, &request, &h, &a, NULL), 0);
    assert_int_equal(onebit_generate(conn, &request, &h, &b, NULL), 0);
    assert_int_equal(onebit_ask(conn, ONEBIT_UNLOAD, "home", &h, &unload, NULL), 0);
    while (!b.ended) {
        assert_int_equal(onebit_dispatch(conn, -1), 0);
    }
    assert_string_equal(a.order, "te");
    assert_string_equal(b.order, "rtd");
    assert_string_equal(unload.order, "e"); /* it may have been done */
    assert_int_equal(unload.code, -ECONNRESET);
    onebit_disconnect(conn);
    fake_stop(f);
}

/* ---- a daemon that is not there ---- */

static void a_daemon_that_stays_away_is_given_up_and_found_again_later(void **state)
{
    struct losses x = {0};
    char aside[140];
    struct onebit_request request = ask("hi");
    struct onebit_handler h = watch();
    struct seen s = {0}, later = {0};
    struct world w;

    world_init(&w);
    struct fake *f = fake_start(serve_losses, &x);
    struct onebit_conn *conn = world_connect(&w, f, NULL);
    snprintf(aside, sizeof(aside), "%s.aside", fake_path(f));
    assert_int_equal(rename(fake_path(f), aside), 0);
    assert_int_equal(shutdown(conn->fd, SHUT_RDWR), 0); /* what a daemon that ends looks like */
    assert_int_equal(onebit_run(conn, &request, &h, &s), -ENOENT);
    assert_string_equal(s.order, "rrre");
    assert_string_equal(s.name, "connection_lost");
    assert_non_null(strstr(s.message, fake_path(f)));
    assert_int_equal(onebit_dispatch(conn, 0), 0);          /* nothing to do is no failure ... */
    assert_int_equal(onebit_dispatch(conn, -1), -ENOTCONN); /* ... but to wait for */
    assert_int_equal(rename(aside, fake_path(f)), 0);
    assert_int_equal(onebit_run(conn, &request, &h, &later), 0);
    assert_string_equal(later.order, "td");
    onebit_disconnect(conn);
    fake_stop(f);
}

static void serve_idle_time_out(struct fake_conn *c, void *arg)
{
    struct losses *x = arg;

    if (x->greeted == 0) {
        fake_greet(c);
        x->greeted++;
        while (!x->go) {
            usleep(1000);
        }
        fake_error(c, 0, ERR_TIMEOUT, "nothing came for 60 s");
        return;
    }
    serve_losses(c, arg);
}

static void an_idle_connection_that_the_daemon_closed_costs_no_wait(void **state)
{
    struct losses x = {0};
    struct onebit_request request = ask("hi");
    struct onebit_handler h = watch();
    struct seen s = {0};
    struct world w;

    world_init(&w);
    struct fake *f = fake_start(serve_idle_time_out, &x);
    struct onebit_conn *conn = world_connect(&w, f, NULL);
    x.go = true;
    while (fake_served(f) == 0) {
        usleep(1000);
    }
    const uint64_t before_ns = w.now_ns;
    assert_int_equal(onebit_run(conn, &request, &h, &s), 0);
    assert_string_equal(s.text, "whole");
    assert_true(w.now_ns == before_ns);
    onebit_disconnect(conn);
    fake_stop(f);
}

/* ---- greetings ---- */

static void serve_no_greeting(struct fake_conn *c, void *arg)
{
    fake_until_hang_up(c);
}

static void a_daemon_that_does_not_greet_is_waited_for_as_long_as_was_said(void **state)
{
    struct fake *f = fake_start(serve_no_greeting, NULL);
    struct onebit_conn *conn = NULL;
    struct onebit_options options;
    struct world w;

    world_init(&w);
    onebit_options_init(&options);
    options.path = fake_path(f);
    options.connect_ms = 700;
    const uint64_t before_ns = w.now_ns;
    assert_int_equal(conn_open(&conn, &options, &w.env), -ETIMEDOUT);
    assert_int_equal(w.now_ns - before_ns, 700 * NS_PER_MS);
    options.connect_ms = 0;
    assert_int_equal(onebit_connect_with(&conn, &options), -ETIMEDOUT);
    assert_null(conn);
    fake_stop(f);
}

/* Goal: a full backlog is waited for, not hung on. Method: nobody accepts, and the backlog is
 * filled. */
static void a_daemon_too_busy_to_accept_is_tried_until_the_time_is_over(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char folder[] = "/tmp/onebit-full-XXXXXX";
    struct onebit_conn *conn = NULL;
    struct onebit_options options;
    int filling[4];

    assert_non_null(mkdtemp(folder));
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", folder);
    const int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(listener, 0), 0);
    for (size_t i = 0; i < ARRAY_SIZE(filling); i++) {
        filling[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)!connect(filling[i], (struct sockaddr *)&address, sizeof(address));
    }
    onebit_options_init(&options);
    options.path = address.sun_path;
    options.connect_ms = 100;
    assert_int_equal(onebit_connect_with(&conn, &options), -ETIMEDOUT);
    assert_null(conn);
    for (size_t i = 0; i < ARRAY_SIZE(filling); i++) {
        close(filling[i]);
    }
    close(listener);
    unlink(address.sun_path);
    rmdir(folder);
}

struct refused_connections {
    unsigned n;
    atomic_uint seen;
};

static void serve_refused_connections(struct fake_conn *c, void *arg)
{
    struct refused_connections *x = arg;
    struct message m;

    if (x->seen++ == 0) {
        fake_greet(c);
        (void)fake_read(c, &m);
        return; /* the first is lost */
    }
    if (x->seen <= x->n + 1) {
        fake_error(c, 0, ERR_TOO_MANY_CONNECTIONS, "full");
        return;
    }
    fake_greet(c);
    fake_done(c, fake_expect(c, MSG_GENERATE), 0);
    fake_until_hang_up(c);
}

static void a_refused_connection_is_tried_again_as_a_429(void **state)
{
    struct refused_connections x = {.n = 4};
    struct onebit_request request = ask("hi");
    struct onebit_handler h = watch();
    struct seen s = {0};
    struct world w;

    world_init(&w);
    w.leap_ms = 20000;
    struct fake *f = fake_start(serve_refused_connections, &x);
    struct onebit_options options;
    struct onebit_conn *conn;
    onebit_options_init(&options);
    options.path = fake_path(f);
    options.connect_ms = 60000; /* waits for the daemon are longer than those for a retry */
    assert_int_equal(conn_open(&conn, &options, &w.env), 0);
    assert_int_equal(onebit_run(conn, &request, &h, &s), 0);
    assert_string_equal(s.order, "rrrrrd"); /* one loss, four refusals */
    assert_int_equal(x.seen, 6);
    onebit_disconnect(conn);
    fake_stop(f);
}

/* ---- losses that are final ---- */

static void serve_garbage_once(struct fake_conn *c, void *arg)
{
    struct losses *x = arg;

    if (x->greeted == 0) {
        x->greeted++;
        fake_greet(c);
        (void)fake_expect(c, MSG_GENERATE);
        fake_bytes(c, "\0\0\0\0", 4);
        fake_until_hang_up(c);
        return;
    }
    serve_losses(c, arg);
}

static void bytes_that_are_no_message_are_final_until_one_connects_again(void **state)
{
    struct losses x = {0};
    struct onebit_request request = ask("hi");
    struct onebit_handler h = watch();
    struct seen s = {0}, later = {0};
    struct world w;

    world_init(&w);
    struct fake *f = fake_start(serve_garbage_once, &x);
    struct onebit_conn *conn = world_connect(&w, f, NULL);
    assert_int_equal(onebit_run(conn, &request, &h, &s), -EPROTO);
    assert_string_equal(s.order, "e");
    assert_int_equal(onebit_run(conn, &request, &h, &s), -EPROTO);
    assert_int_equal(onebit_timeout_ms(conn), -1);
    assert_int_equal(onebit_reconnect(conn), 0);
    assert_int_equal(onebit_reconnect(conn), 0); /* it is connected */
    assert_int_equal(onebit_run(conn, &request, &h, &later), 0);
    onebit_disconnect(conn);
    fake_stop(f);
}

static void without_retries_a_loss_is_final_until_one_connects_again(void **state)
{
    struct losses x = {.n = 1};
    struct onebit_request request = ask("hi");
    struct onebit_handler h = watch();
    struct seen s = {0}, later = {0};
    struct fake *f = fake_start(serve_losses, &x);
    struct onebit_conn *conn = connected(f);

    assert_int_equal(onebit_run(conn, &request, &h, &s), -ECONNRESET);
    assert_string_equal(s.order, "e");
    assert_int_equal(onebit_dispatch(conn, 0), -ECONNRESET);
    assert_int_equal(onebit_reconnect(conn), 0);
    assert_int_equal(onebit_run(conn, &request, &h, &later), 0);
    onebit_disconnect(conn);
    fake_stop(f);
}

/* ---- options of other sizes ---- */

static void options_of_other_sizes_are_understood(void **state)
{
    struct losses x = {0};
    struct fake *f = fake_start(serve_losses, &x);
    struct {
        struct onebit_options options;
        uint64_t newer;
    } longer = {.newer = 1};
    struct onebit_retry shorter = {.size = offsetof(struct onebit_retry, retries_429),
                                   .retries = 1};
    struct onebit_conn *conn = NULL;

    onebit_options_init(&longer.options);
    longer.options.size = sizeof(longer);
    longer.options.path = fake_path(f);
    assert_int_equal(onebit_connect_with(&conn, &longer.options), ONEBIT_ERR_UNSUPPORTED);
    longer.newer = 0;
    longer.options.retry = &shorter;
    assert_int_equal(onebit_connect_with(&conn, &longer.options), 0);
    assert_int_equal(conn->retry.retries, 1);
    assert_int_equal(conn->retry.retries_429, 5); /* what the struct lacks has its default */
    assert_int_equal(conn->retry.most_ms, 60000);
    shorter.size = 0;
    assert_int_equal(onebit_set_retry(conn, &shorter), -EINVAL);
    onebit_disconnect(conn);
    fake_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lost_connection_is_made_again_and_the_request_sent_anew),
        cmocka_unit_test(
            an_answer_that_is_held_back_is_asked_for_again_when_its_connection_is_lost),
        cmocka_unit_test(an_answer_that_is_longer_than_may_be_held_comes_as_any_other),
        cmocka_unit_test(a_turn_of_a_session_that_was_begun_is_not_sent_again),
        cmocka_unit_test(pieces_that_were_held_back_are_told_in_order_before_the_end),
        cmocka_unit_test(what_has_begun_to_be_answered_is_not_sent_again),
        cmocka_unit_test(a_refusal_after_the_first_token_is_final),
        cmocka_unit_test(each_request_of_a_lost_connection_goes_its_own_way),
        cmocka_unit_test(a_daemon_that_stays_away_is_given_up_and_found_again_later),
        cmocka_unit_test(an_idle_connection_that_the_daemon_closed_costs_no_wait),
        cmocka_unit_test(a_daemon_that_does_not_greet_is_waited_for_as_long_as_was_said),
        cmocka_unit_test(a_daemon_too_busy_to_accept_is_tried_until_the_time_is_over),
        cmocka_unit_test(a_refused_connection_is_tried_again_as_a_429),
        cmocka_unit_test(bytes_that_are_no_message_are_final_until_one_connects_again),
        cmocka_unit_test(without_retries_a_loss_is_final_until_one_connects_again),
        cmocka_unit_test(options_of_other_sizes_are_understood),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
