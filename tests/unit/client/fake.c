/* fake: see fake.h. It speaks through ipc/ as the daemon does. */
#include "tests/unit/client/fake.h"

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct fake {
    char folder[64], path[108];
    int fd;
    pthread_t thread;
    fake_serve_fn *serve;
    void *arg;
    atomic_uint served;
};

static void *serve_all(void *arg)
{
    struct fake *f = arg;

    while (true) {
        struct fake_conn c = {.fd = accept4(f->fd, NULL, NULL, SOCK_CLOEXEC)};
        if (c.fd < 0) {
            assert(errno == EINVAL || errno == EINTR);
            return NULL;
        }
        frame_reader_init(&c.in, FRAME_BODY_MAX);
        buf_init(&c.out, (size_t)8 << 20);
        f->serve(&c, f->arg);
        buf_deinit(&c.out);
        frame_reader_deinit(&c.in);
        close(c.fd);
        f->served++;
    }
}

struct fake *fake_start(fake_serve_fn *serve, void *arg)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct fake *f = calloc(1, sizeof(*f));

    assert(f);
    strcpy(f->folder, "/tmp/onebit-fake-XXXXXX");
    assert(mkdtemp(f->folder));
    snprintf(f->path, sizeof(f->path), "%s/s", f->folder);
    strcpy(address.sun_path, f->path);
    f->serve = serve;
    f->arg = arg;
    f->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert(f->fd >= 0);
    assert(bind(f->fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    assert(listen(f->fd, 8) == 0);
    assert(pthread_create(&f->thread, NULL, serve_all, f) == 0);
    return f;
}

void fake_stop(struct fake *f)
{
    shutdown(f->fd, SHUT_RDWR); /* accept() fails */
    assert(pthread_join(f->thread, NULL) == 0);
    close(f->fd);
    unlink(f->path);
    rmdir(f->folder);
    free(f);
}

const char *fake_path(const struct fake *f)
{
    return f->path;
}

unsigned fake_served(const struct fake *f)
{
    return f->served;
}

bool fake_read(struct fake_conn *c, struct message *ret)
{
    const uint8_t *body;
    size_t n;

    while (true) {
        uint8_t piece[4096];
        const int r = frame_next(&c->in, &body, &n);
        if (r == FRAME_OK) {
            assert(message_read(ret, body, n, NULL) == MESSAGE_OK);
            return true;
        }
        assert(r == FRAME_MORE);
        const ssize_t got = recv(c->fd, piece, sizeof(piece), 0);
        if (got <= 0) {
            return false;
        }
        assert(frame_feed(&c->in, piece, (size_t)got) == 0);
    }
}

uint32_t fake_expect(struct fake_conn *c, enum message_type type)
{
    struct message m;

    assert(fake_read(c, &m));
    assert(m.type == type);
    return m.id;
}

void fake_bytes(struct fake_conn *c, const void *bytes, size_t n)
{
    const char *at = bytes;

    while (n > 0) {
        const ssize_t sent = send(c->fd, at, n, MSG_NOSIGNAL);
        if (sent <= 0) {
            return; /* the client has gone; that is its right */
        }
        at += sent;
        n -= (size_t)sent;
    }
}

void fake_flush(struct fake_conn *c)
{
    fake_bytes(c, c->out.data, c->out.n);
    c->out.n = 0;
}

void fake_greet(struct fake_conn *c)
{
    fake_greet_many(c, 4);
}

static void put_hello(struct fake_conn *c, uint32_t requests_max)
{
    struct msg_hello hello = {.major = PROTOCOL_MAJOR,
                              .minor = PROTOCOL_MINOR,
                              .name = strview_of("onebitd fake"),
                              .frame_bytes_max = FRAME_BODY_MAX,
                              .requests_max = requests_max,
                              .uid = 1,
                              .gid = 2,
                              .pid = 3,
                              .default_model = strview_of("home")};

    assert(message_put_hello(&c->out, &hello, true) == 0);
    fake_flush(c);
}

void fake_greet_many(struct fake_conn *c, uint32_t requests_max)
{
    (void)fake_expect(c, MSG_HELLO);
    put_hello(c, requests_max);
}

bool fake_met(struct fake_conn *c)
{
    struct message m;

    if (!fake_read(c, &m)) {
        return false;
    }
    assert(m.type == MSG_HELLO);
    put_hello(c, 4);
    return true;
}

void fake_text(struct fake_conn *c, uint32_t id, uint32_t index, const char *text)
{
    const struct msg_delta delta = {.n0 = index, .text = strview_of(text)};
    const int32_t ids[] = {(int32_t)(100 + index)};

    assert(message_put_delta(&c->out, id, &delta, ids, 1, NULL, 0) == 0);
    fake_flush(c);
}

void fake_done(struct fake_conn *c, uint32_t id, uint32_t tokens)
{
    const struct msg_done done = {.finish_reason = strview_of("stop"),
                                  .prompt_tokens = 7,
                                  .answer_tokens = tokens,
                                  .seed = 42,
                                  .decode_us = 1000,
                                  .model = strview_of("home"),
                                  .formats = strview_of("Q1_0+Q8_0"),
                                  .quantization = strview_of("binary"),
                                  .kv = strview_of("f16"),
                                  .cpu = strview_of("scalar")};

    assert(message_put_done(&c->out, id, &done) == 0);
    fake_flush(c);
}

void fake_error(struct fake_conn *c, uint32_t id, enum error_code code, const char *message)
{
    const struct msg_error error = {.code = code, .message = strview_of(message)};

    assert(message_put_error(&c->out, id, &error) == 0);
    fake_flush(c);
}

void fake_until_hang_up(struct fake_conn *c)
{
    char piece[4096];

    while (recv(c->fd, piece, sizeof(piece), 0) > 0) {
    }
}
