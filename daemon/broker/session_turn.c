/* session_turn: between a request and its session.
 *
 * The turn holds the session busy, so nothing of it moves: the composed request and the ids that go
 * with it stay what they were when an engine dies and the next one starts the same request again.
 * Only session_turn_done() changes the session, and only when everything is there. */
#include "daemon/broker/session_turn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "daemon/broker/broker.h"
#include "daemon/broker/conn.h"
#include "daemon/broker/log.h"
#include "daemon/broker/models.h"
#include "daemon/broker/request.h"
#include "daemon/broker/session.h"
#include "ipc/frame.h"

#define NAME_BYTES 8u     /* of a name we draw: 64 bits */
#define HOUR_MS 3600000u  /* between two looks for sessions that are too old */
#define PATIENCE_MS 1000u /* of a client with a slow disk */
#define DAY_S UINT64_C(86400)

static uint64_t now_s(void)
{
    const time_t t = time(NULL);

    return t > 0 ? (uint64_t)t : 0;
}

static struct session_limits limits_of(const struct broker *b)
{
    const struct config *k = &b->config;

    return (struct session_limits){.count = k->sessions_count,
                                   .bytes = k->sessions_bytes,
                                   .total_bytes = k->sessions_total_bytes,
                                   .age_s = k->sessions_age_days * DAY_S};
}

/* ---- all sessions ---- */

void sessions_expire(struct broker *b)
{
    const uint64_t age_s = limits_of(b).age_s, now = now_s();
    struct session *s;
    size_t n = 0;

    while ((s = session_expired(&b->sessions, age_s, now))) {
        session_store_gone(&b->session_store, s);
        session_remove(&b->sessions, s);
        n++;
    }
    if (n > 0) {
        log_line(LOG_INFO, "%zu sessions were unused for %llu days: forgotten", n,
                 (unsigned long long)b->config.sessions_age_days);
    }
}

static void on_hour(uv_timer_t *timer)
{
    sessions_expire(timer->data);
}

/* Turns that wait for the disk: those of s, or with s NULL all. */
static void finish_turns(struct broker *b, const struct session *s)
{
    bool others = false;

    list_for_each (c, next_c, &b->conns, struct conn, link) {
        list_for_each (r, next, &c->requests, struct request, conn_link) {
            if (r->turn && (!s || r->turn->session == s)) {
                (void)session_turn_finish(r);
            } else {
                others |= r->turn && r->turn->done.n > 0;
            }
        }
    }
    if (!others) {
        (void)uv_timer_stop(&b->session_patience);
    }
}

static void on_settled(void *user, struct session *s)
{
    finish_turns(user, s);
}

static void on_patience(uv_timer_t *timer)
{
    finish_turns(timer->data, NULL);
}

void sessions_open(struct broker *b)
{
    const char *dir = b->config.sessions_dir;

    session_table_init(&b->sessions);
    session_store_init(&b->session_store, b->loop, &b->sessions, on_settled, b);
    b->session_hours.data = b->session_patience.data = b;
    (void)uv_timer_init(b->loop, &b->session_patience);
    (void)uv_timer_init(b->loop, &b->session_hours);
    (void)uv_timer_start(&b->session_hours, on_hour, HOUR_MS, HOUR_MS);
    uv_unref((uv_handle_t *)&b->session_hours);
    if (!dir || !dir[0]) {
        return;
    }
    const int r = session_store_open(&b->session_store, dir, b->config.sessions_total_bytes);
    if (r < 0) {
        log_line(LOG_WARNING, "sessions are kept in memory alone: %s: %s", dir,
                 r == -EWOULDBLOCK ? "another daemon uses this folder" : strerror(-r));
        return;
    }
    sessions_expire(b);
    if (b->sessions.n > 0) {
        log_line(LOG_INFO, "%zu sessions", b->sessions.n);
    }
}

/* ---- the beginning ---- */

static void refuse_counts(struct request *r, enum error_code code, const char *text,
                          const struct session_counts *counts)
{
    const struct msg_error e = {
        .code = code, .message = strview_of(text), .have = counts->have, .limit = counts->limit};

    request_fail_as(r, &e);
}

static void refuse_full(struct request *r, int which, const struct session_counts *counts)
{
    static const char *const why[] = {
        [SESSION_COUNT] = "as many sessions of this user are kept as allowed",
        [SESSION_BYTES] = "the sessions of this user have no room for this turn",
        [SESSION_TOTAL_BYTES] = "the sessions of all users have no room for this turn",
        [SESSION_TOTAL] = "as many sessions of all users are kept as there can be",
    };

    refuse_counts(r, ERR_SESSIONS_FULL, why[which], counts);
}

static void refuse_long(struct request *r, int which, const struct session_counts *counts)
{
    char text[160];

    (void)snprintf(text, sizeof(text),
                   which == SESSION_MANY_MESSAGES
                       ? "the session and the new messages are %llu, a request has at most %llu"
                       : "the messages of the session have %llu bytes, a request at most %llu",
                   (unsigned long long)counts->have, (unsigned long long)counts->limit);
    refuse_counts(r, ERR_CONTEXT_TOO_LONG, text, counts);
}

/* A name that nobody of this user has. */
static bool draw_name(const struct session_table *t, uid_t uid, char *ret)
{
    uint8_t bytes[NAME_BYTES];

    for (int tries = 0; tries < 4; tries++) {
        if (getrandom(bytes, sizeof(bytes), GRND_NONBLOCK) != (ssize_t)sizeof(bytes)) {
            return false;
        }
        for (size_t i = 0; i < sizeof(bytes); i++) {
            (void)snprintf(ret + 2 * i, 3, "%02x", bytes[i]);
        }
        if (!session_find(t, uid, strview_of(ret))) {
            return true;
        }
    }
    return false;
}

/* A session that is not in the table yet; NULL, and r is answered. */
static struct session *begin_new(struct request *r, const struct msg_generate *asked)
{
    char drawn[2 * NAME_BYTES + 1];
    struct strview name = asked->session;

    if (name.n == 0) {
        if (!draw_name(&r->broker->sessions, r->job.uid, drawn)) {
            request_fail(r, ERR_INTERNAL, "no name for a session could be drawn");
            return NULL;
        }
        name = strview_of(drawn);
    }
    struct session *s = session_new(r->job.uid, name, now_s());
    if (!s) {
        request_fail(r, ERR_INTERNAL, "no memory");
        return NULL;
    }
    session_pin(s, asked);
    return s;
}

/* May this request go on in this session now? False, and r is answered. */
static bool may_go_on(struct request *r, const struct session *s, const struct msg_generate *asked)
{
    const char *field;

    if (s->busy) {
        request_fail(r, ERR_SESSION_BUSY, "a turn of session %s has not ended", s->name);
        return false;
    }
    field = session_mismatch(s, asked);
    if (!field) {
        return true;
    }
    if (strcmp(field, "model") == 0) {
        request_fail(r, ERR_SESSION_MISMATCH, "model: session %s was begun with %s", s->name,
                     s->pins.model);
    } else if (strcmp(field, "quantization") == 0) {
        request_fail(r, ERR_SESSION_MISMATCH, "quantization: session %s was begun with %s (%s)",
                     s->name, s->pins.quantization, s->pins.formats);
    } else {
        request_fail(r, ERR_SESSION_MISMATCH, "%s: session %s was begun with another one", field,
                     s->name);
    }
    return false;
}

/* A turn that holds the session; NULL, and r is answered: s, where fresh, is then the caller's. */
static struct session_turn *turn_new(struct request *r, struct session *s, bool fresh,
                                     uint64_t bytes)
{
    struct session_turn *t = calloc(1, sizeof(*t));

    if (!t) {
        request_fail(r, ERR_INTERNAL, "no memory");
        return NULL;
    }
    t->session = s;
    t->fresh = fresh;
    buf_init(&t->text, FRAME_BODY_MAX);
    s->busy = true;
    s->reserved = (size_t)bytes;
    if (fresh) {
        session_add(&r->broker->sessions, s);
    }
    return t;
}

bool session_turn_begin(struct request *r, const struct msg_generate *asked,
                        struct msg_generate **ret_composed)
{
    struct broker *b = r->broker;
    const struct session_limits limits = limits_of(b);
    struct session *s =
        asked->session.n > 0 ? session_find(&b->sessions, r->job.uid, asked->session) : NULL;
    const bool fresh = !s;
    const uint64_t bytes = session_turn_bytes(asked, b->config.max_tokens);
    struct session_counts counts;

    if (s && !may_go_on(r, s, asked)) {
        return false;
    }
    int e = session_admit(&b->sessions, &limits, r->job.uid, s, bytes, &counts);
    if (e != SESSION_OK) {
        refuse_full(r, e, &counts);
        return false;
    }
    if (fresh && !(s = begin_new(r, asked))) {
        return false;
    }
    struct msg_generate *composed = calloc(1, sizeof(*composed));
    size_t n_dropped = 0;
    if (!composed) {
        request_fail(r, ERR_INTERNAL, "no memory");
        goto refused;
    }
    e = session_compose(s, asked, composed, &n_dropped, &counts);
    if (e != SESSION_FITS) {
        refuse_long(r, e, &counts);
        goto refused;
    }
    r->turn = turn_new(r, s, fresh, bytes);
    if (!r->turn) {
        goto refused;
    }
    r->turn->n_dropped = n_dropped;
    *ret_composed = composed;
    return true;
refused:
    free(composed);
    if (fresh) {
        session_free(s);
    }
    return false;
}

struct strview session_turn_name(const struct request *r)
{
    return strview_of(r->turn ? r->turn->session->name : NULL);
}

/* ---- the engine's part ---- */

bool session_turn_fits(struct request *r)
{
    const struct model_facts *f = &r->model->facts;

    if (!r->turn || session_same_weights(r->turn->session, f->quantization, f->formats)) {
        return true;
    }
    const struct session_pins *p = &r->turn->session->pins;
    request_fail(r, ERR_SESSION_MISMATCH,
                 "quantization: the session was begun with %s (%s), and model %s is %s (%s) now",
                 p->quantization, p->formats, r->model->name, f->quantization, f->formats);
    return false;
}

void session_turn_history(const struct request *r, struct seam_start *start)
{
    const struct session_turn *t = r->turn;

    if (!t) {
        return;
    }
    start->want_ids = true;
    if (t->n_dropped == 0 && t->session->n_ids > 0 && t->session->mark == r->model->text_mark) {
        start->history_ids = t->session->ids;
        start->n_history_ids = t->session->n_ids;
        start->n_history = (uint32_t)t->session->n_covered;
    }
}

void session_turn_started(struct request *r, const struct seam_started *s)
{
    struct session_turn *t = r->turn;

    r->n_trimmed = s->n_trimmed;
    if (!t) {
        return;
    }
    free(t->prompt_ids);
    t->prompt_ids = NULL;
    t->n_prompt_ids = s->ids.n;
    if (s->ids.n == 0) {
        return;
    }
    t->prompt_ids = malloc(s->ids.n * sizeof(*t->prompt_ids));
    if (!t->prompt_ids) {
        request_fail(r, ERR_INTERNAL, "no memory");
        return;
    }
    msg_ids_copy(&s->ids, t->prompt_ids);
}

bool session_turn_text(struct request *r, struct strview text)
{
    if (!r->turn || text.n == 0) {
        return true;
    }
    const int e = buf_append(&r->turn->text, text.data, text.n);
    if (e == 0) {
        return true;
    }
    request_fail(r, e == -E2BIG ? ERR_CONTEXT_TOO_LONG : ERR_INTERNAL, "%s",
                 e == -E2BIG ? "the answer is longer than a session keeps" : "no memory");
    return false;
}

uint32_t session_turn_trimmed(const struct request *r)
{
    return r->n_trimmed + (r->turn ? (uint32_t)r->turn->n_dropped : 0);
}

bool session_turn_done(struct request *r, const struct seam_finished *f)
{
    struct session_turn *t = r->turn;
    struct message *m;

    if (!t) {
        return true;
    }
    m = malloc(sizeof(*m)); /* some 9 KiB */
    if (!m || message_read(m, r->body, r->n_body, NULL) != MESSAGE_OK) {
        free(m);
        request_fail(r, ERR_INTERNAL, "the turn could not be kept");
        return false;
    }
    const struct session_outcome o = {
        .messages = m->generate.messages,
        .n_messages = m->generate.n_messages,
        .n_dropped = t->n_dropped,
        .n_trimmed = r->n_trimmed,
        .answer = {.data = (const char *)t->text.data, .n = t->text.n},
        .prompt_ids = t->prompt_ids,
        .n_prompt_ids = t->n_prompt_ids,
        .answer_ids = r->answer.ids,
        .n_answer_ids = r->answer.n_ids,
        .whole = !strview_is(f->reason, "stop_string"),
        .model = r->model->name,
        .quantization = r->model->facts.quantization,
        .formats = r->model->facts.formats,
        .mark = r->model->text_mark,
    };
    const int e = session_commit(t->session, &o, now_s());
    free(m);
    if (e < 0) {
        request_fail(r, e == -E2BIG ? ERR_CONTEXT_TOO_LONG : ERR_INTERNAL, "%s",
                     e == -E2BIG ? "the session has grown longer than one may be" : "no memory");
        return false;
    }
    t->fresh = false;
    return true;
}

bool session_turn_wait(struct request *r, struct buf *out)
{
    struct broker *b = r->broker;

    if (!r->turn || b->session_store.dir < 0) {
        return false;
    }
    r->turn->done = *out;
    *out = (struct buf){0};
    sched_remove(&b->sched, &r->job);
    if (!uv_is_active((uv_handle_t *)&b->session_patience)) {
        uv_update_time(b->loop);
        (void)uv_timer_start(&b->session_patience, on_patience, PATIENCE_MS, 0);
    }
    session_store_changed(&b->session_store, r->turn->session);
    return true;
}

bool session_turn_finish(struct request *r)
{
    if (!r->turn || r->turn->done.n == 0) {
        return false;
    }
    struct buf out = r->turn->done;
    r->turn->done = (struct buf){0};
    request_done(r, &out);
    return true;
}

void session_turn_end(struct request *r)
{
    struct session_turn *t = r->turn;

    if (!t) {
        return;
    }
    r->turn = NULL;
    t->session->busy = false;
    t->session->reserved = 0;
    if (t->fresh) {
        session_remove(&r->broker->sessions, t->session);
    }
    buf_deinit(&t->text);
    buf_deinit(&t->done);
    free(t->prompt_ids);
    free(t);
}
