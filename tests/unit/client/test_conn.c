/* Connecting, and what becomes of a connection. */
#include "tests/support/test.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "client/onebit.h"
#include "tests/unit/client/fake.h"

/* What the callbacks of one request saw. */
struct seen {
    char text[256];
    int n_done, n_error, code;
    char message[256];
};

static void on_delta(struct onebit_conn *conn, uint32_t id, const struct onebit_delta *delta,
                     void *user)
{
    struct seen *s = user;

    (void)conn;
    (void)id;
    assert_int_equal(delta->text[delta->text_bytes], 0);
    strncat(s->text, delta->text, sizeof(s->text) - strlen(s->text) - 1);
}

static void on_done(struct onebit_conn *conn, uint32_t id, const struct onebit_done *done,
                    void *user)
{
    struct seen *s = user;

    (void)conn;
    (void)id;
    (void)done;
    s->n_done++;
}

static void on_error(struct onebit_conn *conn, uint32_t id, const struct onebit_failure *failure,
                     void *user)
{
    struct seen *s = user;

    (void)conn;
    (void)id;
    s->n_error++;
    s->code = failure->code;
    snprintf(s->message, sizeof(s->message), "%s", failure->message);
}

static struct onebit_handler watch(void)
{
    struct onebit_handler h;

    onebit_handler_init(&h);
    h.delta = on_delta;
    h.done = on_done;
    h.error = on_error;
    return h;
}

static struct onebit_request ask(const char *prompt)
{
    struct onebit_request r;

    onebit_request_init(&r);
    r.prompt = prompt;
    return r;
}

static struct onebit_conn *connected(const struct fake *f)
{
    struct onebit_retry never = {.size = sizeof(never)};
    struct onebit_conn *conn = NULL;

    assert_int_equal(onebit_connect(&conn, fake_path(f)), 0);
    assert_non_null(conn);
    assert_int_equal(onebit_set_retry(conn, &never), 0);
    return conn;
}

/* Dispatch until a counter moves; a test that waits in vain fails by its own time-out. */
static int dispatch_until(struct onebit_conn *conn, const int *counter)
{
    int r = 0;

    while (r == 0 && *counter == 0) {
        r = onebit_dispatch(conn, -1);
    }
    return r;
}

/* ---- connecting ---- */

static void nobody_at_the_socket_is_told_by_its_errno(void **state)
{
    char folder[] = "/tmp/onebit-none-XXXXXX", path[64], longer[200];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct onebit_conn *conn = NULL;
    (void)state;

    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/s", folder);
    assert_int_equal(onebit_connect(&conn, path), -ENOENT);

    const int fd = socket(AF_UNIX, SOCK_STREAM, 0); /* bound, but nobody listens */
    strcpy(address.sun_path, path);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(onebit_connect(&conn, path), -ECONNREFUSED);
    close(fd);
    unlink(path);
    rmdir(folder);

    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    assert_int_equal(onebit_connect(&conn, longer), -ENAMETOOLONG);
    assert_null(conn);
}

static void
the_socket_is_the_argument_then_the_environment_then_the_users_then_the_systems(void **state)
{
    char folder[] = "/tmp/onebit-run-XXXXXX", path[ONEBIT_SOCKET_PATH_MAX], file[64];
    (void)state;

    assert_non_null(mkdtemp(folder));
    snprintf(file, sizeof(file), "%s/onebit.sock", folder);
    setenv("XDG_RUNTIME_DIR", folder, 1);
    setenv("ONEBIT_SOCKET", "/from/environment", 1);
    assert_int_equal(onebit_socket_path("/argument", path), 0);
    assert_string_equal(path, "/argument");
    assert_int_equal(onebit_socket_path(NULL, path), 0);
    assert_string_equal(path, "/from/environment");
    unsetenv("ONEBIT_SOCKET");
    assert_int_equal(onebit_socket_path(NULL, path), 0);
    assert_string_equal(path, "/run/onebit.sock");
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    fclose(f);
    assert_int_equal(onebit_socket_path(NULL, path), 0);
    assert_string_equal(path, file);
    unlink(file);
    rmdir(folder);
    setenv("XDG_RUNTIME_DIR", "tmp", 1); /* no absolute path: as if it were not set */
    assert_int_equal(onebit_socket_path(NULL, path), 0);
    assert_string_equal(path, "/run/onebit.sock");
    unsetenv("XDG_RUNTIME_DIR");
}

static void serve_another_version(struct fake_conn *c, void *arg)
{
    const struct msg_hello hello = {.major = PROTOCOL_MAJOR + 1, .name = strview_of("onebitd 9")};
    (void)arg;

    (void)fake_expect(c, MSG_HELLO);
    assert(message_put_hello(&c->out, &hello, true) == 0);
    fake_flush(c);
    fake_until_hang_up(c);
}

static void a_daemon_of_another_major_version_is_not_talked_to(void **state)
{
    struct fake *f = fake_start(serve_another_version, NULL);
    struct onebit_conn *conn = NULL;
    (void)state;

    assert_int_equal(onebit_connect(&conn, fake_path(f)), ONEBIT_ERR_BAD_PROTOCOL);
    assert_null(conn);
    fake_stop(f);
}

static void serve_refusal(struct fake_conn *c, void *arg)
{
    fake_error(c, 0, *(enum error_code *)arg, "no");
}

/* The refusal may be written, and the socket closed, before our hello is: it must be seen all the
 * same. */
static void a_refused_connection_says_why(void **state)
{
    static enum error_code codes[] = {ERR_UNKNOWN_PEER, ERR_TOO_MANY_CONNECTIONS, ERR_BAD_PROTOCOL};
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
        struct fake *f = fake_start(serve_refusal, &codes[i]);
        struct onebit_conn *conn = NULL;
        assert_int_equal(onebit_connect(&conn, fake_path(f)), (int)codes[i]);
        assert_null(conn);
        fake_stop(f);
    }
}

struct bytes {
    const void *data;
    size_t n;
};

static void serve_bytes(struct fake_conn *c, void *arg)
{
    const struct bytes *b = arg;

    fake_bytes(c, b->data, b->n);
    if (b->n > 0) {
        fake_until_hang_up(c);
    }
}

static void what_is_no_daemon_is_a_protocol_error_not_a_hang(void **state)
{
    static struct bytes all[] = {
        {"HTTP/1.1 400 Bad Request\r\n", 26}, /* a length of 0x50545448 */
        {"\0\0\0\0", 4},                      /* an empty frame */
        {"\5\0\0\0\xdd\xff\xff\xff\xff", 9},  /* an array that claims 4 thousand million elements */
        {"\1\0\0\0\x80", 5},                  /* a map without a type */
    };
    static struct bytes nothing = {NULL, 0};
    struct onebit_conn *conn = NULL;
    struct fake *f;
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        f = fake_start(serve_bytes, &all[i]);
        assert_int_equal(onebit_connect(&conn, fake_path(f)), -EPROTO);
        assert_null(conn);
        fake_stop(f);
    }
    f = fake_start(serve_bytes, &nothing);
    assert_int_equal(onebit_connect(&conn, fake_path(f)), -ECONNRESET);
    fake_stop(f);
}

static void serve_the_third(struct fake_conn *c, void *arg)
{
    unsigned *n = arg;

    if (++*n == 3) {
        fake_greet(c);
        fake_until_hang_up(c);
    }
}

/* Goal: who connects while the daemon is restarted gets through. */
static void a_daemon_that_hangs_up_before_its_hello_is_asked_again(void **state)
{
    struct onebit_conn *conn = NULL;
    unsigned n = 0;
    struct fake *f = fake_start(serve_the_third, &n);
    (void)state;

    assert_int_equal(onebit_connect(&conn, fake_path(f)), 0);
    onebit_disconnect(conn);
    fake_stop(f);
    assert_int_equal(n, 3);
}

static void serve_hello_only(struct fake_conn *c, void *arg)
{
    (void)arg;
    fake_greet(c);
    fake_until_hang_up(c);
}

static void the_daemons_hello_is_told(void **state)
{
    struct fake *f = fake_start(serve_hello_only, NULL);
    struct onebit_conn *conn = connected(f);
    const struct onebit_server *s = onebit_server(conn);
    (void)state;

    assert_string_equal(s->name, "onebitd fake");
    assert_string_equal(s->default_model, "home");
    assert_int_equal(s->major, PROTOCOL_MAJOR);
    assert_int_equal(s->frame_bytes_max, FRAME_BODY_MAX);
    assert_int_equal(s->requests_max, 4);
    assert_int_equal(s->uid, 1);
    assert_int_equal(s->gid, 2);
    assert_int_equal(s->pid, 3);
    onebit_disconnect(conn);
    fake_stop(f);
}

static void dispatch_without_waiting_returns_when_nothing_comes(void **state)
{
    struct fake *f = fake_start(serve_hello_only, NULL);
    struct onebit_conn *conn = connected(f);
    struct onebit_request r = ask("hi");
    struct onebit_handler h = watch();
    struct seen s = {0};
    (void)state;

    assert_int_equal(onebit_wants(conn), POLLIN);
    assert_int_equal(onebit_generate(conn, &r, &h, &s, NULL), 0);
    assert_int_equal(onebit_wants(conn), POLLIN | POLLOUT); /* queued, not sent */
    assert_int_equal(onebit_dispatch(conn, 0), 0);
    assert_int_equal(onebit_wants(conn), POLLIN);
    assert_int_equal(onebit_dispatch(conn, 1), 0);
    assert_int_equal(s.n_done + s.n_error, 0);
    onebit_disconnect(conn); /* runs no callback */
    assert_int_equal(s.n_done + s.n_error, 0);
    fake_stop(f);
}

/* ---- the end of a connection ---- */

static void serve_two_then_close(struct fake_conn *c, void *arg)
{
    (void)arg;
    fake_greet(c);
    const uint32_t a = fake_expect(c, MSG_GENERATE);
    (void)fake_expect(c, MSG_GENERATE);
    fake_text(c, a, 0, "half an ");
}

static void a_daemon_that_goes_away_ends_every_request_once(void **state)
{
    struct fake *f = fake_start(serve_two_then_close, NULL);
    struct onebit_conn *conn = connected(f);
    struct onebit_request r = ask("hi");
    struct onebit_handler h = watch();
    struct seen a = {0}, b = {0};
    (void)state;

    assert_int_equal(onebit_generate(conn, &r, &h, &a, NULL), 0);
    assert_int_equal(onebit_generate(conn, &r, &h, &b, NULL), 0);
    assert_int_equal(dispatch_until(conn, &a.n_error), -ECONNRESET);
    assert_string_equal(a.text, "half an ");
    assert_int_equal(a.n_error, 1);
    assert_int_equal(b.n_error, 1);
    assert_int_equal(a.code, -ECONNRESET);
    assert_int_equal(a.n_done + b.n_done, 0);
    /* It stays over. */
    assert_int_equal(onebit_dispatch(conn, -1), -ECONNRESET);
    assert_int_equal(onebit_generate(conn, &r, &h, &a, NULL), -ECONNRESET);
    assert_int_equal(onebit_run(conn, &r, NULL, NULL), -ECONNRESET);
    assert_int_equal(onebit_cancel(conn, 1), -ECONNRESET);
    assert_int_equal(a.n_error + b.n_error, 2);
    onebit_disconnect(conn);
    fake_stop(f);
}

static void serve_garbage(struct fake_conn *c, void *arg)
{
    const struct bytes *b = arg;

    fake_greet(c);
    fake_text(c, fake_expect(c, MSG_GENERATE), 0, "x");
    fake_bytes(c, b->data, b->n);
    fake_until_hang_up(c);
}

static void bytes_that_are_no_message_end_the_connection(void **state)
{
    static struct bytes all[] = {
        {"\xff\xff\xff\xff", 4},             /* a length past every limit */
        {"\1\0\x10\0", 4},                   /* one byte past the limit of a frame */
        {"\0\0\0\0", 4},                     /* an empty frame */
        {"\5\0\0\0\xdd\xff\xff\xff\xff", 9}, /* claims more than is there */
        {"\3\0\0\0\x81\xa4t", 7},            /* cut short inside */
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        struct fake *f = fake_start(serve_garbage, &all[i]);
        struct onebit_conn *conn = connected(f);
        struct onebit_request r = ask("hi");
        struct onebit_handler h = watch();
        struct seen s = {0};
        assert_int_equal(onebit_run(conn, &r, &h, &s), -EPROTO);
        assert_string_equal(s.text, "x");
        assert_int_equal(s.n_error, 1);
        assert_int_equal(s.code, -EPROTO);
        onebit_disconnect(conn);
        fake_stop(f);
    }
}

static void serve_client_frames(struct fake_conn *c, void *arg)
{
    (void)arg;
    fake_greet(c);
    const uint32_t id = fake_expect(c, MSG_GENERATE);
    assert(message_put_query(&c->out, id, MSG_PS) == 0); /* sound, but a client's to send */
    fake_flush(c);
    fake_until_hang_up(c);
}

static void a_message_that_is_not_the_daemons_to_send_ends_the_connection(void **state)
{
    struct fake *f = fake_start(serve_client_frames, NULL);
    struct onebit_conn *conn = connected(f);
    struct onebit_request r = ask("hi");
    (void)state;

    assert_int_equal(onebit_run(conn, &r, NULL, NULL), -EPROTO);
    onebit_disconnect(conn);
    fake_stop(f);
}

static void serve_time_out(struct fake_conn *c, void *arg)
{
    atomic_bool *go = arg;

    fake_greet(c);
    while (!*go) {
        usleep(1000);
    }
    fake_error(c, 0, ERR_TIMEOUT, "nothing came for 60 s");
}

/* Goal: the reason is found although the next write fails. Method: the daemon has written its last
 * words and closed before the request is queued. */
static void a_closed_connection_says_why(void **state)
{
    atomic_bool go = false;
    struct fake *f = fake_start(serve_time_out, &go);
    struct onebit_conn *conn = connected(f);
    struct onebit_request r = ask("hi");
    struct onebit_handler h = watch();
    struct seen s = {0};
    (void)state;

    go = true;
    while (fake_served(f) == 0) { /* until it has closed */
        usleep(1000);
    }
    assert_int_equal(onebit_run(conn, &r, &h, &s), ONEBIT_ERR_TIMEOUT);
    assert_int_equal(s.code, ONEBIT_ERR_TIMEOUT);
    assert_string_equal(s.message, "nothing came for 60 s");
    onebit_disconnect(conn);
    fake_stop(f);
}

static void nothing_is_a_connection_that_can_be_ended(void **state)
{
    (void)state;
    onebit_disconnect(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_at_the_socket_is_told_by_its_errno),
        cmocka_unit_test(
            the_socket_is_the_argument_then_the_environment_then_the_users_then_the_systems),
        cmocka_unit_test(a_daemon_of_another_major_version_is_not_talked_to),
        cmocka_unit_test(a_refused_connection_says_why),
        cmocka_unit_test(what_is_no_daemon_is_a_protocol_error_not_a_hang),
        cmocka_unit_test(a_daemon_that_hangs_up_before_its_hello_is_asked_again),
        cmocka_unit_test(the_daemons_hello_is_told),
        cmocka_unit_test(dispatch_without_waiting_returns_when_nothing_comes),
        cmocka_unit_test(a_daemon_that_goes_away_ends_every_request_once),
        cmocka_unit_test(bytes_that_are_no_message_end_the_connection),
        cmocka_unit_test(a_message_that_is_not_the_daemons_to_send_ends_the_connection),
        cmocka_unit_test(a_closed_connection_says_why),
        cmocka_unit_test(nothing_is_a_connection_that_can_be_ended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
