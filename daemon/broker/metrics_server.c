/* metrics_server: one request a connection, one response, closed. Nothing of it can hold the loop
 * or grow: a head is at most HTTP_HEAD_MAX, a response METRICS_TEXT_MAX, connections
 * METRICS_CONNS_MAX, and each has the time of limits.frame_ms to ask and of limits.stall_ms to take
 * its answer. More of them wait in the kernel's backlog.
 *
 * After its answer a connection is read on until the client hangs up: closing a Unix socket with
 * unread bytes in it would make the client's last read fail. */
#include "daemon/broker/metrics_server.h"

#include <assert.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/broker/broker.h"
#include "daemon/broker/http.h"
#include "daemon/broker/metrics_broker.h"

#define PAGE "/metrics"
#define EXCESS_MAX (64u << 10) /* bytes a client may send behind its head */

struct page_conn {
    uv_pipe_t pipe;
    uv_timer_t timer;
    unsigned n_open;               /* handles libuv still holds; freed when it drops to 0 */
    struct metrics_server *server; /* borrowed; outlives every connection */
    struct list link;
    uv_write_t write;
    uv_shutdown_t shutdown;
    struct buf out;                      /* owned: the response, until it is written */
    bool answered, sent, ended, closing; /* answer begun; all of it sent; the client hung up */
    size_t n_in, n_excess;
    char in[HTTP_HEAD_MAX];
};

static void on_closed(uv_handle_t *handle)
{
    struct page_conn *c = handle->data;

    assert(c->n_open > 0);
    if (--c->n_open == 0) {
        buf_deinit(&c->out);
        free(c);
    }
}

static void page_close(struct page_conn *c)
{
    if (c->closing) {
        return;
    }
    c->closing = true;
    list_remove(&c->link);
    c->server->n_conns--;
    acceptor_hold(&c->server->acceptor, false);
    uv_close((uv_handle_t *)&c->timer, on_closed);
    uv_close((uv_handle_t *)&c->pipe, on_closed);
}

static void on_shutdown(uv_shutdown_t *req, int status)
{
    struct page_conn *c = req->handle->data;

    c->sent = true;
    if (status < 0 || c->ended) {
        page_close(c);
    }
}

static void on_written(uv_write_t *req, int status)
{
    struct page_conn *c = req->handle->data;

    if (status < 0 || c->closing ||
        uv_shutdown(&c->shutdown, (uv_stream_t *)&c->pipe, on_shutdown) < 0) {
        page_close(c);
    }
}

static void on_timer(uv_timer_t *timer);

static void answer(struct page_conn *c, enum http_verdict v)
{
    struct broker *b = c->server->broker;
    struct buf text;
    int e = 0;

    c->answered = true;
    buf_init(&text, METRICS_TEXT_MAX);
    buf_init(&c->out, METRICS_TEXT_MAX + 1024);
    if (v == HTTP_GET || v == HTTP_HEAD) {
        e = metrics_read(b, &text);
        v = e < 0 ? HTTP_ERROR : v;
    }
    e = http_put(&c->out, v, METRICS_CONTENT_TYPE,
                 (struct strview){.data = (const char *)text.data, .n = text.n});
    buf_deinit(&text);
    const uv_buf_t bytes = uv_buf_init((char *)c->out.data, (unsigned)c->out.n);
    if (e < 0 || uv_write(&c->write, (uv_stream_t *)&c->pipe, &bytes, 1, on_written) < 0) {
        page_close(c);
        return;
    }
    uv_update_time(b->loop);
    (void)uv_timer_start(&c->timer, on_timer, b->config.stall_ms, 0);
}

static void on_timer(uv_timer_t *timer)
{
    struct page_conn *c = timer->data;

    if (c->answered) {
        page_close(c); /* it does not read, or does not hang up */
    } else {
        answer(c, HTTP_TIMEOUT);
    }
}

static void on_alloc(uv_handle_t *handle, size_t hint, uv_buf_t *ret)
{
    static char excess[4096]; /* libuv reads into it and calls on_read() at once */
    struct page_conn *c = handle->data;

    (void)hint;
    *ret = c->answered ? uv_buf_init(excess, sizeof(excess))
                       : uv_buf_init(c->in + c->n_in, (unsigned)(sizeof(c->in) - c->n_in));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *bytes)
{
    struct page_conn *c = stream->data;

    (void)bytes;
    if (n == 0) {
        return;
    }
    if (n < 0) {
        c->ended = true;
        (void)uv_read_stop(stream);
        if (!c->answered || c->sent) {
            page_close(c);
        }
        return;
    }
    if (c->answered) {
        c->n_excess += (size_t)n;
        if (c->n_excess > EXCESS_MAX) {
            page_close(c);
        }
        return;
    }
    c->n_in += (size_t)n;
    const enum http_verdict v = http_judge(c->in, c->n_in, PAGE);
    if (v != HTTP_MORE) {
        answer(c, v);
    }
}

static void on_connection(void *user, int fd)
{
    struct metrics_server *s = user;
    struct broker *b = s->broker;
    struct page_conn *c = calloc(1, sizeof(*c));

    if (!c) {
        (void)close(fd);
        return;
    }
    c->server = s;
    c->pipe.data = c->timer.data = c;
    (void)uv_pipe_init(b->loop, &c->pipe, 0); /* neither can fail: they only fill the struct */
    (void)uv_timer_init(b->loop, &c->timer);
    c->n_open = 2;
    list_init(&c->link);
    list_push(&s->conns, &c->link);
    acceptor_hold(&s->acceptor, ++s->n_conns >= METRICS_CONNS_MAX);
    if (uv_pipe_open(&c->pipe, fd) < 0) {
        (void)close(fd);
        page_close(c);
        return;
    }
    uv_update_time(b->loop);
    (void)uv_timer_start(&c->timer, on_timer, b->config.frame_ms, 0);
    if (uv_read_start((uv_stream_t *)&c->pipe, on_alloc, on_read) < 0) {
        page_close(c);
    }
}

int metrics_server_start(struct metrics_server *s, struct broker *b, int fd)
{
    *s = (struct metrics_server){.broker = b};
    list_init(&s->conns);
    return acceptor_start(&s->acceptor, b->loop, fd, on_connection, s);
}

void metrics_server_stop(struct metrics_server *s)
{
    if (!s->broker) {
        return;
    }
    acceptor_stop(&s->acceptor);
    list_for_each (c, next, &s->conns, struct page_conn, link) {
        page_close(c);
    }
}
