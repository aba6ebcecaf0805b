/* pack_child: the short-lived process that reads untrusted bytes and writes a packed file.
 *
 * It gets two descriptors and says one line. Its end is seen when its exit, the end of its line and
 * the close of the timer have all come; then the file is committed by a worker or removed. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/broker/log.h"
#include "daemon/broker/models.h"
#include "daemon/broker/packstore.h"

#define LINE_MAX_BYTES 512u

/* Exit statuses of the packer, from sysexits. */
enum { EXIT_MALFORMED = 65, EXIT_UNSUPPORTED = 69, EXIT_CANNOT_WRITE = 73 };

struct pack_child {
    struct list link;    /* in the broker's pack_children */
    struct model *model; /* borrowed; its n_works counts us */
    uv_process_t process;
    uv_pipe_t pipe; /* its standard output */
    uv_timer_t timer;
    unsigned n_open;       /* handles libuv still holds */
    bool late;             /* killed because it took too long */
    int out;               /* owned: of temp */
    int source;            /* owned: what is packed */
    struct file_mark mark; /* of it when packing began */
    int error;             /* it could not be started: a negative errno */
    int64_t status;
    int sig;
    char line[LINE_MAX_BYTES + 1]; /* what it said */
    size_t n_line;
    char temp[PACK_PATH_MAX], final[PACK_PATH_MAX];
    uv_work_t commit;
    int committed; /* of pack_commit() */
};

static void child_free(struct pack_child *c)
{
    list_remove(&c->link);
    (void)close(c->out);
    (void)close(c->source);
    free(c);
}

static void do_commit(uv_work_t *work)
{
    struct pack_child *c = container_of(work, struct pack_child, commit);
    struct stat st;

    /* What was read while somebody wrote it is of no version of the file. */
    if (fstat(c->source, &st) < 0) {
        c->committed = -errno;
        (void)unlink(c->temp);
        return;
    }
    const struct file_mark now = file_mark_of(&st);
    if (memcmp(&now, &c->mark, sizeof(now)) != 0) {
        c->committed = -ESTALE;
        (void)unlink(c->temp);
        return;
    }
    c->committed = pack_commit(c->out, c->temp, c->final, c->model->name);
}

static void refuse_uncommitted(const struct pack_child *c)
{
    char text[160];
    struct msg_error e = {.code = ERR_INTERNAL};

    if (c->committed == -ESTALE) {
        if (model_pack_again(c->model, "its file was written to")) {
            return;
        }
        (void)snprintf(text, sizeof(text),
                       "its file is being written to: try again when it is whole");
        e.code = ERR_OVERLOADED;
    } else {
        (void)snprintf(text, sizeof(text), "the cache folder cannot be written: %s",
                       strerror(-c->committed));
        e.code = ERR_CACHE_UNWRITABLE;
    }
    e.message = strview_of(text);
    model_pack_failed(c->model, &e, false);
}

static void on_committed(uv_work_t *work, int status)
{
    struct pack_child *c = container_of(work, struct pack_child, commit);
    struct model *m = c->model;

    m->n_works--;
    if (status < 0) { /* cancelled: the daemon stops */
        (void)unlink(c->temp);
        c->committed = status;
    }
    if (c->committed >= 0) {
        model_packed(m, c->committed, c->final);
    } else {
        refuse_uncommitted(c);
    }
    child_free(c);
}

/* "word NUMBER TEXT": the text, which is all a person needs, and the number before it. */
static const char *said(const struct pack_child *c, unsigned long long *ret_number)
{
    const char *space = strchr(c->line, ' ');

    *ret_number = 0;
    if (!space) {
        return c->line;
    }
    char *end;
    *ret_number = strtoull(space + 1, &end, 10);
    return *end == ' ' ? end + 1 : space + 1;
}

static void cannot_write(const struct pack_child *c, const char *what, uint64_t number,
                         struct msg_error *e, char *text, size_t n_text)
{
    e->code = ERR_CACHE_UNWRITABLE;
    if (strncmp(c->line, "no-room", 7) != 0) {
        (void)snprintf(text, n_text, "the cache folder cannot be written: %s", what);
        return;
    }
    e->have = number;
    e->limit = strtoull(what, NULL, 10);
    (void)snprintf(text, n_text,
                   "the cache folder cannot be written: the packed file takes %llu bytes, and %llu "
                   "are free",
                   (unsigned long long)e->have, (unsigned long long)e->limit);
}

static void report_failure(struct pack_child *c)
{
    char text[LINE_MAX_BYTES + 128];
    unsigned long long number;
    const char *what = said(c, &number);
    struct msg_error e = {.code = ERR_INTERNAL};
    bool sticky = false;

    if (c->error < 0) {
        (void)snprintf(text, sizeof(text), "the packer cannot be started: %s",
                       uv_strerror(c->error));
    } else if (c->late) {
        (void)snprintf(text, sizeof(text), "packing took too long");
    } else if (c->sig == SIGKILL) { /* from outside: it says nothing about the file */
        if (model_pack_again(c->model, "the packer was killed")) {
            return;
        }
        (void)snprintf(text, sizeof(text), "the packer was killed %u times; is memory short?",
                       PACK_TRIES_MAX);
        e.code = ERR_OVERLOADED;
    } else if (c->sig == SIGBUS) { /* a page that was there is not there any more */
        if (model_pack_again(c->model, "its file was cut off while it was packed")) {
            return;
        }
        (void)snprintf(text, sizeof(text),
                       "its file was cut off while it was packed, %u times: it is being written "
                       "to, or its medium fails",
                       PACK_TRIES_MAX);
        e.code = ERR_OVERLOADED;
    } else if (c->sig) {
        (void)snprintf(text, sizeof(text), "the packer died of signal %d", c->sig);
        e.code = ERR_MODEL_MALFORMED;
        sticky = true;
    } else if (c->status == EXIT_MALFORMED) {
        (void)snprintf(text, sizeof(text), "at byte %llu: %s", number, what);
        e.code = ERR_MODEL_MALFORMED;
        sticky = true;
    } else if (c->status == EXIT_UNSUPPORTED) {
        (void)snprintf(text, sizeof(text), "%s", what);
        e.code = strncmp(c->line, "too-big", 7) == 0 ? ERR_MODEL_TOO_BIG : ERR_MODEL_UNSUPPORTED;
        sticky = true;
    } else if (c->status == EXIT_CANNOT_WRITE) {
        cannot_write(c, what, number, &e, text, sizeof(text));
    } else {
        (void)snprintf(text, sizeof(text), "the packer failed (status %lld): %s",
                       (long long)c->status, what);
    }
    e.message = strview_of(text);
    model_pack_failed(c->model, &e, sticky);
}

static void finish(struct pack_child *c)
{
    struct model *m = c->model;

    if (c->error == 0 && !c->late && c->sig == 0 && c->status == 0 && !m->broker->stopping &&
        uv_queue_work(m->broker->loop, &c->commit, do_commit, on_committed) == 0) {
        return;
    }
    (void)unlink(c->temp);
    m->n_works--;
    report_failure(c);
    child_free(c);
}

static void on_closed(uv_handle_t *handle)
{
    struct pack_child *c = handle->data;

    if (--c->n_open == 0) {
        finish(c);
    }
}

static void close_one(uv_handle_t *handle)
{
    if (!uv_is_closing(handle)) {
        uv_close(handle, on_closed);
    }
}

static void on_child_exit(uv_process_t *process, int64_t status, int sig)
{
    struct pack_child *c = process->data;

    c->status = status;
    c->sig = sig;
    close_one((uv_handle_t *)&c->process);
    close_one((uv_handle_t *)&c->timer);
}

static void on_late(uv_timer_t *timer)
{
    struct pack_child *c = timer->data;

    c->late = true;
    (void)uv_process_kill(&c->process, SIGKILL);
}

static void on_alloc(uv_handle_t *handle, size_t hint, uv_buf_t *ret)
{
    static char chunk[1024];

    (void)handle;
    (void)hint;
    *ret = uv_buf_init(chunk, sizeof(chunk));
}

static void on_said(uv_stream_t *stream, ssize_t n, const uv_buf_t *bytes)
{
    struct pack_child *c = stream->data;

    if (n < 0) {
        close_one((uv_handle_t *)&c->pipe);
        return;
    }
    for (ssize_t i = 0; i < n && c->n_line < LINE_MAX_BYTES; i++) {
        if (bytes->base[i] == '\n' || bytes->base[i] == '\0') {
            break;
        }
        c->line[c->n_line++] = bytes->base[i];
    }
}

static int spawn(struct pack_child *c, const char *path, uint64_t bytes_max)
{
    char limit[24];
    /* uv_spawn() does not write to its arguments; its type is older than const. */
    char *args[] = {(char *)(uintptr_t)path, (char *)(uintptr_t) "--pack",
                    (char *)(uintptr_t) "--max-bytes", limit, NULL};
    uv_stdio_container_t stdio[5] = {
        {.flags = UV_IGNORE},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&c->pipe},
        {.flags = UV_INHERIT_FD, .data.fd = STDERR_FILENO},
        {.flags = UV_INHERIT_FD, .data.fd = c->source},
        {.flags = UV_INHERIT_FD, .data.fd = c->out},
    };
    const uv_process_options_t options = {
        .exit_cb = on_child_exit, .file = path, .args = args, .stdio_count = 5, .stdio = stdio};

    (void)snprintf(limit, sizeof(limit), "%llu", (unsigned long long)bytes_max);
    return uv_spawn(c->model->broker->loop, &c->process, &options);
}

void pack_child_start(struct model *m, int source, int out, const char *temp, const char *final)
{
    struct broker *b = m->broker;
    struct pack_child *c = calloc(1, sizeof(*c));

    if (!c) {
        const struct msg_error e = {.code = ERR_INTERNAL, .message = strview_of("no memory")};
        (void)unlink(temp);
        (void)close(source);
        (void)close(out);
        model_pack_failed(m, &e, false);
        return;
    }
    c->model = m;
    c->out = out;
    c->source = source;
    c->mark = m->mark;
    m->n_works++;
    list_init(&c->link);
    list_push(&b->pack_children, &c->link);
    (void)snprintf(c->temp, sizeof(c->temp), "%s", temp);
    (void)snprintf(c->final, sizeof(c->final), "%s", final);
    c->process.data = c->pipe.data = c->timer.data = c;
    (void)uv_pipe_init(b->loop, &c->pipe, 0); /* neither can fail: they only fill the struct */
    (void)uv_timer_init(b->loop, &c->timer);
    c->n_open = 3;
    c->error = spawn(c, b->runner_path, b->config.model_bytes_max);
    if (c->error == 0) {
        c->error = uv_read_start((uv_stream_t *)&c->pipe, on_alloc, on_said);
        (void)uv_timer_start(&c->timer, on_late, b->config.pack_ms, 0);
        if (c->error < 0) {
            close_one((uv_handle_t *)&c->pipe);
            (void)uv_process_kill(&c->process, SIGKILL); /* on_child_exit() closes the rest */
        }
        return;
    }
    close_one((uv_handle_t *)&c->process);
    close_one((uv_handle_t *)&c->timer);
    close_one((uv_handle_t *)&c->pipe);
}

void pack_children_kill(struct broker *b)
{
    list_for_each (c, next, &b->pack_children, struct pack_child, link) {
        if (!uv_is_closing((uv_handle_t *)&c->process)) {
            (void)uv_process_kill(&c->process, SIGKILL);
        }
    }
}
