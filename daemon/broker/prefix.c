/* prefix: computes public prefixes when their model is loaded, and anew when what is public has
 * changed. A worker reads the files, since the loop waits for none; the engine then hears under
 * which label it all goes, by which it forgets what was public before, and gets a start for each
 * text that is public: it computes the prompt when nobody else has one, keeps its blocks for
 * everybody, and says "primed". No plan names it and no client waits for it. */
#include "daemon/broker/prefix.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fnv.h"
#include "base/whole_file.h"
#include "daemon/broker/broker.h"
#include "daemon/broker/log.h"
#include "daemon/broker/models.h"
#include "ipc/frame.h"
#include "ipc/message.h"

#define PREFIX_BYTES_MAX ((size_t)512 << 10) /* of a file: a frame has to hold it */

struct prefix_text {
    char name[PREFIX_NAME_MAX + 1];
    char *path; /* owned */
    bool raw;
    struct buf text; /* owned */
    int result;      /* of whole_file_read() */
};

struct prefix_work {
    uv_work_t work;
    struct broker *broker; /* borrowed */
    uint32_t model;        /* its number */
    uint64_t number;       /* of the reading; a later one makes it void */
    struct prefix_text texts[CONFIG_PREFIXES_MAX];
    size_t n_texts;
};

static void work_free(struct prefix_work *w)
{
    for (size_t i = 0; i < w->n_texts; i++) {
        free(w->texts[i].path);
        buf_deinit(&w->texts[i].text);
    }
    free(w);
}

static void do_read(uv_work_t *work)
{
    struct prefix_work *w = work->data;

    for (size_t i = 0; i < w->n_texts; i++) {
        struct buf *text = &w->texts[i].text;
        w->texts[i].result = whole_file_read(text, AT_FDCWD, w->texts[i].path, WHOLE_FILE_FOLLOW);
        if (text->n > 0 && text->data[text->n - 1] == '\n') {
            text->n--; /* an editor's, not the text's */
        }
    }
}

/* NULL, or why there is no text. */
static const char *lacking(const struct prefix_text *t)
{
    return t->result == WHOLE_FILE_TOO_LONG ? "it is longer than 512 KiB"
           : t->result != WHOLE_FILE_OK     ? whole_file_why(t->result)
           : t->text.n == 0                 ? "it is empty"
                                            : NULL;
}

static int put_request(struct buf *out, const struct prefix_text *w)
{
    struct msg_generate *g = calloc(1, sizeof(*g));
    const struct strview text = {.data = (const char *)w->text.data, .n = w->text.n};

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

/* An engine that died never told of its primings: the same prefix takes its own old place, else the
 * oldest. */
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

static void send_start(struct broker *b, uint32_t model, const struct prefix_text *w)
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
        .model = model,
        .request = {.data = (const char *)body.data + FRAME_HEADER, .n = body.n - FRAME_HEADER},
        .reuse = true,
        .public_ = true};
    runner_proc_send(&b->runner, &m, NULL, 0, -1);
    buf_deinit(&body);
}

/* What all of it is called: the same texts have the same name, so that their blocks on disk are
 * found again. */
static void label_of(const struct prefix_work *w, uint8_t ret[SEAM_SALT])
{
    uint64_t h[2] = {FNV_START, ~FNV_START};

    for (unsigned k = 0; k < 2; k++) {
        for (size_t i = 0; i < w->n_texts; i++) {
            const struct prefix_text *t = &w->texts[i];
            if (!lacking(t)) {
                h[k] = fnv_add(h[k], &t->raw, sizeof(t->raw));
                h[k] = fnv_add(h[k], &t->text.n, sizeof(t->text.n));
                h[k] = fnv_add(h[k], t->text.data, t->text.n);
            }
        }
    }
    memcpy(ret, h, SEAM_SALT);
}

static void publish(struct model *m, const uint8_t label[SEAM_SALT])
{
    struct seam_message message = {.type = SEAM_PUBLIC, .public_ = {.model = m->number}};

    memcpy(message.public_.label, label, SEAM_SALT);
    memcpy(m->prefixes.label, label, SEAM_SALT);
    runner_proc_send(&m->broker->runner, &message, NULL, 0, -1);
}

/* From here on nothing is public, until texts are there. */
static void publish_nothing(struct model *m)
{
    const struct prefix_work none = {0};
    uint8_t label[SEAM_SALT];

    label_of(&none, label);
    if (m->prefixes.any) {
        publish(m, label);
    }
    m->prefixes.any = false;
}

static void on_texts(uv_work_t *work, int status)
{
    struct prefix_work *w = work->data;
    struct broker *b = w->broker;
    struct model *m = model_by_number(b, w->model);
    const bool wanted = status == 0 && m && m->prefixes.number == w->number &&
                        m->state == MODEL_LOADED && b->runner.state == RUNNER_UP;
    uint8_t label[SEAM_SALT];
    size_t n = 0;

    for (size_t i = 0; i < w->n_texts && wanted; i++) {
        const struct prefix_text *t = &w->texts[i];
        const char *why = lacking(t);
        n += why == NULL;
        if (why) {
            log_line(LOG_WARNING, "prefix %s: %s: %s", t->name, t->path, why);
        }
    }
    label_of(w, label);
    if (wanted && n == 0) {
        publish_nothing(m);
    } else if (wanted && (!m->prefixes.any || memcmp(label, m->prefixes.label, SEAM_SALT) != 0)) {
        m->prefixes.any = true;
        publish(m, label);
        for (size_t i = 0; i < w->n_texts; i++) {
            if (!lacking(&w->texts[i])) {
                send_start(b, m->number, &w->texts[i]);
            }
        }
    }
    work_free(w);
}

/* False: no memory. */
static bool add_text(struct prefix_work *w, const struct prefix_options *p)
{
    struct prefix_text *t = &w->texts[w->n_texts];

    *t = (struct prefix_text){.raw = p->raw, .path = strdup(p->file)};
    buf_init(&t->text, PREFIX_BYTES_MAX);
    (void)snprintf(t->name, sizeof(t->name), "%s", p->name);
    w->n_texts += t->path != NULL;
    return t->path != NULL;
}

static void read_texts(struct model *m)
{
    struct broker *b = m->broker;
    struct prefix_work *w = calloc(1, sizeof(*w));
    bool sound = w != NULL;

    m->prefixes.number++;
    for (size_t i = 0; i < b->config.n_prefixes && sound; i++) {
        if (strcmp(b->config.prefixes[i].model, m->name) == 0) {
            sound = add_text(w, &b->config.prefixes[i]);
        }
    }
    if (sound && w->n_texts > 0) {
        w->work.data = w;
        w->broker = b;
        w->model = m->number;
        w->number = m->prefixes.number;
        sound = uv_queue_work(b->loop, &w->work, do_read, on_texts) == 0;
        w = sound ? NULL : w;
    }
    if (!sound) {
        log_line(LOG_WARNING, "model %s: no memory for its public prefixes", m->name);
    }
    if (w) {
        publish_nothing(m);
        work_free(w);
    }
}

/* Of the model's sections, without their files. */
static uint64_t sections_of(const struct model *m)
{
    const struct config *k = &m->broker->config;
    uint64_t h = FNV_START;

    for (size_t i = 0; i < k->n_prefixes; i++) {
        const struct prefix_options *p = &k->prefixes[i];
        if (strcmp(p->model, m->name) == 0) {
            h = fnv_add(h, p->name, strlen(p->name) + 1);
            h = fnv_add(h, p->file, strlen(p->file) + 1);
            h = fnv_add(h, &p->raw, sizeof(p->raw));
        }
    }
    return h;
}

void prefixes_prime(struct model *m)
{
    m->prefixes.any = false; /* a pool begins without any */
    m->prefixes.sections = sections_of(m);
    if (ladder_keeps(m->broker)) { /* else prefixes_reload() does it, once there is memory again */
        read_texts(m);
    }
}

void prefixes_reload(struct broker *b)
{
    list_for_each (m, next, &b->models, struct model, link) {
        if (m->state != MODEL_LOADED || !m->slots.ready || b->runner.state != RUNNER_UP) {
            continue; /* it is primed when it serves */
        }
        if (m->prefixes.sections != sections_of(m)) {
            publish_nothing(m); /* at once: a file may take its time */
        }
        m->prefixes.sections = sections_of(m);
        read_texts(m);
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
