/* prefix: computes public prefixes when their model is loaded. A worker reads the file, since the loop waits for none;
 * the engine then gets a start that is public: it computes the prompt when nobody else has one, keeps its
 * blocks under the salt that everybody may find, and says "primed". No plan names it and no client waits for it. */
#include "daemon/broker/prefix.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/broker/broker.h"
#include "daemon/broker/log.h"
#include "daemon/broker/models.h"
#include "ipc/frame.h"
#include "ipc/message.h"

#define PREFIX_BYTES_MAX ((size_t)512 << 10) /* of a file: a frame has to hold it */

struct prefix_work {
    uv_work_t work;
    struct broker *broker; /* borrowed */
    uint32_t model;        /* its number */
    char name[PREFIX_NAME_MAX + 1];
    char *path; /* owned */
    bool raw;
    char *text; /* owned */
    size_t n;
    int error; /* 0 or a negative errno */
};

static void work_free(struct prefix_work *w)
{
    free(w->path);
    free(w->text);
    free(w);
}

static int read_whole(int fd, struct prefix_work *w)
{
    struct stat st;

    if (fstat(fd, &st) < 0) {
        return -errno;
    }
    if (!S_ISREG(st.st_mode)) {
        return -EINVAL;
    }
    if (st.st_size <= 0 || (uint64_t)st.st_size > PREFIX_BYTES_MAX) {
        return -EFBIG;
    }
    w->text = malloc((size_t)st.st_size);
    if (!w->text) {
        return -ENOMEM;
    }
    while (w->n < (size_t)st.st_size) {
        const ssize_t n = read(fd, w->text + w->n, (size_t)st.st_size - w->n);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        if (n == 0) {
            break; /* it became shorter */
        }
        w->n += (size_t)n;
    }
    if (w->n > 0 && w->text[w->n - 1] == '\n') {
        w->n--; /* an editor's, not the text's */
    }
    return w->n > 0 ? 0 : -EINVAL;
}

static void do_read(uv_work_t *work)
{
    struct prefix_work *w = work->data;
    const int fd = open(w->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    w->error = fd < 0 ? -errno : read_whole(fd, w);
    if (fd >= 0) {
        (void)close(fd);
    }
}

static int put_request(struct buf *out, const struct prefix_work *w)
{
    struct msg_generate *g = calloc(1, sizeof(*g));
    const struct strview text = {.data = w->text, .n = w->n};

    if (!g) {
        return -ENOMEM;
    }
    g->class_ = CLASS_LOW;
    g->max_tokens = 1; /* room that no answer takes */
    if (w->raw) {
        g->kind = PROMPT_TEXT;
        g->prompt = text;
    } else {
        g->kind = PROMPT_CHAT;
        g->messages[0] = (struct msg_chat_message){.role = strview_of("system"), .content = text};
        g->n_messages = 1;
    }
    const int e = message_put_generate(out, 1, g, NULL, 0);
    free(g);
    return e;
}

static struct priming *priming_find(struct broker *b, uint64_t seq)
{
    for (size_t i = 0; i < CONFIG_PREFIXES_MAX; i++) {
        if (b->primings[i].seq == seq) {
            return &b->primings[i];
        }
    }
    return NULL;
}

/* An engine that died never told of its primings: the same prefix takes its own old place, else the oldest. */
static struct priming *priming_place(struct broker *b, const char *name)
{
    struct priming *place = &b->primings[0];

    for (size_t i = 0; i < CONFIG_PREFIXES_MAX; i++) {
        if (strcmp(b->primings[i].name, name) == 0) {
            return &b->primings[i];
        }
        if (b->primings[i].seq < place->seq) {
            place = &b->primings[i];
        }
    }
    return place;
}

static void send_start(struct broker *b, const struct prefix_work *w)
{
    struct seam_message m = {.type = SEAM_START};
    struct buf body;

    buf_init(&body, FRAME_BODY_MAX + FRAME_HEADER);
    const int e = put_request(&body, w);
    if (e < 0) {
        log_line(LOG_WARNING, "prefix %s: no text of UTF-8: %s", w->name, strerror(-e));
        buf_deinit(&body);
        return;
    }
    struct priming *p = priming_place(b, w->name);
    p->seq = ++b->n_requests_ever;
    (void)snprintf(p->name, sizeof(p->name), "%s", w->name);
    m.start = (struct seam_start){
        .seq = p->seq,
        .model = w->model,
        .request = {.data = (const char *)body.data + FRAME_HEADER, .n = body.n - FRAME_HEADER},
        .reuse = true,
        .public_ = true};
    runner_proc_send(&b->runner, &m, NULL, 0, -1);
    buf_deinit(&body);
}

static void on_text(uv_work_t *work, int status)
{
    struct prefix_work *w = work->data;
    struct broker *b = w->broker;
    const struct model *m = model_by_number(b, w->model);

    if (status == 0 && w->error < 0) {
        log_line(LOG_WARNING, "prefix %s: %s: %s", w->name, w->path,
                 w->error == -EFBIG ? "empty, or more than 512 KiB" : strerror(-w->error));
    } else if (status == 0 && m && m->state == MODEL_LOADED && b->runner.state == RUNNER_UP) {
        send_start(b, w);
    }
    work_free(w);
}

void prefixes_prime(struct model *m)
{
    struct broker *b = m->broker;

    for (size_t i = 0; i < b->config.n_prefixes; i++) {
        const struct prefix_options *p = &b->config.prefixes[i];
        if (strcmp(p->model, m->name) != 0) {
            continue;
        }
        struct prefix_work *w = calloc(1, sizeof(*w));
        if (w) {
            w->work.data = w;
            w->broker = b;
            w->model = m->number;
            w->raw = p->raw;
            w->path = strdup(p->file);
            (void)snprintf(w->name, sizeof(w->name), "%s", p->name);
        }
        if (!w || !w->path || uv_queue_work(b->loop, &w->work, do_read, on_text) < 0) {
            log_line(LOG_WARNING, "prefix %s: no memory", p->name);
            if (w) {
                work_free(w);
            }
        }
    }
}

void prefix_report(struct broker *b, const struct seam_message *m)
{
    const bool failed = m->type == SEAM_FAILED;
    struct priming *p = NULL;

    if (failed || m->type == SEAM_FINISHED) {
        p = priming_find(b, failed ? m->failed.seq : m->finished.seq);
    }
    if (!p) {
        return; /* of a request that was cancelled meanwhile */
    }
    if (failed) {
        log_client(LOG_MODELS, LOG_WARNING, "prefix %s cannot be computed: %.*s", p->name,
                   (int)m->failed.message.n, m->failed.message.data);
    } else {
        log_client(LOG_MODELS, LOG_INFO, "prefix %s: %u tokens are there for everybody", p->name,
                   m->finished.prompt_tokens);
    }
    *p = (struct priming){0};
}
