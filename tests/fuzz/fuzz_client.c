/* Fuzz target of the client: what a daemon may send. The bytes come to a connection with a few
 * requests in flight, through a real socket and onebit_dispatch(); callbacks read everything they
 * are given. Or they are one value of msgpack, whose JSON another reader must take.
 *
 * Input: a byte (bit 0: already greeted; bit 1: msgpack; bit 2: requests are sent again, to a
 * daemon that is not there, on a clock that runs fast), then the bytes. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/conn.h"
#include "client/json.h"

#define INPUT_MAX ((size_t)64 << 10) /* what a socket holds before anybody reads */
#define N_REQUESTS 8u                /* ids 1 to 8 */

static volatile size_t read_sum; /* keeps reading from being dropped */

static unsigned n_ended;

static void read_text(const char *z)
{
    read_sum += strlen(z);
}

static void on_accepted(struct onebit_conn *conn, uint32_t id, const struct onebit_accepted *a,
                        void *user)
{
    (void)id;
    (void)user;
    read_text(a->model);
    read_sum += (size_t)onebit_cancel_request(conn, a->request, NULL, NULL, NULL);
}

static void on_progress(struct onebit_conn *conn, uint32_t id, const struct onebit_progress *p,
                        void *user)
{
    (void)user;
    read_text(p->phase);
    read_sum += (size_t)onebit_cancel(conn, id);
    onebit_disconnect(conn); /* of no effect inside a callback */
}

static void on_delta(struct onebit_conn *conn, uint32_t id, const struct onebit_delta *d,
                     void *user)
{
    (void)conn;
    (void)id;
    (void)user;
    if (d->text[d->text_bytes] != '\0') {
        abort();
    }
    for (size_t i = 0; i < d->n_ids; i++) {
        read_sum += (size_t)d->ids[i];
        for (size_t k = 0; d->logprobs && k < d->logprobs[i].n; k++) {
            read_sum += (size_t)d->logprobs[i].alternatives[k].id;
        }
    }
}

static void on_done(struct onebit_conn *conn, uint32_t id, const struct onebit_done *d, void *user)
{
    (void)conn;
    (void)id;
    (void)user;
    n_ended++;
    read_text(d->finish_reason);
    read_text(d->model);
    read_text(d->formats);
    read_text(d->quantization);
    read_text(d->kv);
    read_text(d->cpu);
    if (d->result && strlen(d->result) != d->result_bytes) {
        abort();
    }
}

static void on_error(struct onebit_conn *conn, uint32_t id, const struct onebit_failure *f,
                     void *user)
{
    (void)conn;
    (void)id;
    (void)user;
    n_ended++;
    read_text(f->name);
    read_text(f->message);
    read_text(f->hint);
}

static const struct onebit_handler handler = {
    .size = sizeof(handler),
    .accepted = on_accepted,
    .progress = on_progress,
    .delta = on_delta,
    .done = on_done,
    .error = on_error,
};

static uint64_t fast_clock_ns;

static uint64_t fast_now_ns(void *arg)
{
    (void)arg;
    return fast_clock_ns += NS_PER_S / 8;
}

static uint32_t half_of_it(void *arg)
{
    (void)arg;
    return UINT32_MAX / 2;
}

static int wait_not(void *arg, struct pollfd *fds, size_t n, int timeout_ms)
{
    (void)arg;
    (void)fds;
    (void)n;
    (void)timeout_ms;
    return 0;
}

static const struct client_env fast_env = {fast_now_ns, half_of_it, wait_not, NULL};

/* As onebit_connect() leaves a connection, with requests in flight. */
static struct onebit_conn *connection(int fd, bool greeted, bool again)
{
    struct onebit_retry retry = {.size = sizeof(retry)};
    struct onebit_request request;
    struct onebit_conn *conn;

    if (conn_new(&conn, &fast_env) < 0 || conn_adopt(conn, fd) < 0) {
        abort();
    }
    if (again) {
        onebit_retry_init(&retry);
    }
    conn->retry = retry;
    conn->greeted = true; /* so that requests are sent, not kept until the greeting */
    onebit_request_init(&request);
    request.prompt = "x";
    for (unsigned i = 0; i < N_REQUESTS; i++) {
        if (onebit_generate(conn, &request, &handler, NULL, NULL) != 0) {
            abort();
        }
    }
    conn->greeted = greeted;
    return conn;
}

static void dispatch(const uint8_t *data, size_t n, bool greeted, bool again)
{
    int fds[2];
    int r;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0) {
        abort();
    }
    if (n > 0 && send(fds[1], data, n, MSG_DONTWAIT) != (ssize_t)n) {
        abort();
    }
    (void)shutdown(fds[1], SHUT_WR);
    struct onebit_conn *conn = connection(fds[0], greeted, again);
    n_ended = 0;
    do {
        r = onebit_dispatch(conn, 0);
    } while (r == 0 && (conn->n_requests > 0 || conn->fd >= 0));
    if (n_ended != N_REQUESTS || conn->n_requests != 0) {
        abort(); /* each ends once, and the lost connection ends the rest */
    }
    onebit_disconnect(conn);
    (void)close(fds[1]);
}

/* Our JSON in the eyes of jansson, which does not take U+0000 in a key. */
static void convert(const uint8_t *data, size_t n)
{
    const struct strview value = {(const char *)data, n};
    json_error_t error;
    struct buf json;

    buf_init(&json, JSON_BYTES_MAX);
    if (json_from_msgpack(&json, value) == JSON_OK) {
        const char *text = (const char *)json.data;
        if (strlen(text) != json.n) {
            abort();
        }
        if (!strstr(text, "\\u0000")) {
            json_t *back = json_loads(
                text, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL, &error);
            if (!back) {
                abort();
            }
            json_decref(back);
        }
    }
    buf_deinit(&json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n == 0 || n > INPUT_MAX) {
        return 0;
    }
    if (data[0] & 2) {
        convert(data + 1, n - 1);
    } else {
        dispatch(data + 1, n - 1, data[0] & 1, data[0] & 4);
    }
    return 0;
}
