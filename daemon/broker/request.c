/* request: birth, the one terminal frame, and the untying from every list. */
#include "daemon/broker/request.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/wipe.h"
#include "daemon/broker/admission.h"
#include "daemon/broker/answer_reuse.h"
#include "daemon/broker/broker.h"
#include "daemon/broker/conn.h"
#include "daemon/broker/metrics_broker.h"
#include "daemon/broker/models.h"
#include "daemon/broker/session_turn.h"
#include "ipc/frame.h"
#include "ipc/seam.h"

struct request *request_new(struct conn *c, uint32_t id, enum request_kind kind)
{
    struct request *r = calloc(1, sizeof(*r));

    if (!r) {
        return NULL;
    }
    r->kind = kind;
    r->broker = c->broker;
    r->conn = c;
    r->id = id;
    r->arrived_ns = clock_now_ns();
    r->deadline_ns = UINT64_MAX;
    r->outcome = ERR_CANCELLED; /* unless it ends otherwise */
    r->job.seq = ++c->broker->n_requests_ever;
    r->job.uid = c->peer.uid;
    r->job.blocked = c->blocked;
    list_init(&r->job.link);
    list_init(&r->job.own_link);
    ticket_init(&r->ticket);
    list_init(&r->scan_link);
    list_init(&r->model_link);
    list_push(&c->requests, &r->conn_link);
    c->n_requests++;
    return r;
}

struct request *request_find(struct conn *c, uint32_t id)
{
    list_for_each (r, next, &c->requests, struct request, conn_link) {
        if (r->id == id) {
            return r;
        }
    }
    return NULL;
}

static void request_free(struct request *r)
{
    struct broker *b = r->broker;

    admission_end(r);
    metrics_on_end(r);
    sched_remove(&b->sched, &r->job);
    list_remove(&r->scan_link);
    if (!list_empty(&r->model_link)) {
        residency_left(r);
    }
    list_remove(&r->model_link);
    list_remove(&r->conn_link);
    r->conn->n_requests--;
    broker_dirty(b);
    session_turn_end(r);
    answer_reuse_free(r->reuse);
    answer_deinit(&r->answer);
    wipe_free(r->body, r->n_body);
    free(r);
}

static void take_back(struct request *r)
{
    if (r->job.held) {
        const struct seam_message m = {.type = SEAM_CANCEL, .cancel = r->job.seq};
        runner_proc_send(&r->broker->runner, &m, NULL, 0, -1);
    }
}

void request_drop(struct request *r)
{
    take_back(r);
    request_free(r);
}

void request_done(struct request *r, struct buf *out)
{
    struct conn *c = r->conn;

    r->outcome = ERR_NONE;
    conn_send(c, out);
    request_free(r);
    conn_touch(c);
}

void request_fail_as(struct request *r, const struct msg_error *e)
{
    struct conn *c = r->conn;

    if (session_turn_finish(r)) {
        return; /* it has been answered already */
    }
    if (r->kind == REQUEST_GENERATE) {
        r->broker->n_failed++;
    }
    r->outcome = e->code;
    take_back(r);
    conn_error(c, r->id, e);
    request_free(r);
    conn_touch(c);
}

void request_fail(struct request *r, enum error_code code, const char *fmt, ...)
{
    char text[256];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    const struct msg_error e = {.code = code, .message = strview_of(text)};
    request_fail_as(r, &e);
}

void request_attach(struct request *r, struct model *m)
{
    r->model = m;
    sched_bind(&r->job, &m->slots);
    list_push(&m->users, &r->model_link);
}

static void send_progress(struct request *r, const struct msg_progress *m)
{
    struct buf out;

    if (r->conn->blocked) {
        return;
    }
    buf_init(&out, FRAME_BODY_MAX + FRAME_HEADER);
    if (message_put_progress(&out, r->id, m) < 0) {
        buf_deinit(&out);
        return;
    }
    conn_send(r->conn, &out);
}

void request_progress(struct request *r, enum progress_phase phase, uint64_t done, uint64_t total)
{
    send_progress(r, &(struct msg_progress){.phase = phase, .done = done, .total = total});
}

void request_waits(struct request *r, enum progress_phase phase, const char *reason)
{
    send_progress(r, &(struct msg_progress){.phase = phase, .reason = strview_of(reason)});
}
