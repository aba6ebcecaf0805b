/* results: what the broker knows, as msgpack. Bounded by the models and requests there are; what
 * would not fit one frame is cut at the end, the newest first. */
#include "daemon/broker/results.h"

#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "daemon/broker/broker.h"
#include "daemon/broker/conn.h"
#include "daemon/broker/identity.h"
#include "daemon/broker/ledger.h"
#include "daemon/broker/machine_says.h"
#include "daemon/broker/metrics_broker.h"
#include "daemon/broker/models.h"
#include "daemon/broker/request.h"
#include "daemon/broker/scan.h"
#include "ipc/frame.h"
#include "ipc/pack.h"

#define RESULT_MAX (FRAME_BODY_MAX - 64u)
#define PS_IDENTITIES_MAX 256u /* of at most 450 bytes each */
#define PS_REQUESTS_MAX 1500u  /* of at most 600 bytes each */

static void text_pair(struct packer *p, const char *key, const char *value)
{
    pack_z(p, key);
    pack_str(p, strview_of(value));
}

static void uint_pair(struct packer *p, const char *key, uint64_t value)
{
    pack_z(p, key);
    pack_uint(p, value);
}

static void bool_pair(struct packer *p, const char *key, bool value)
{
    pack_z(p, key);
    pack_bool(p, value);
}

int results_done(struct buf *out, uint32_t id)
{
    return message_put_done(out, id, &(struct msg_done){0});
}

/* Send `result` (taken) as the answer to id; 0 or a negative errno, and then nothing was sent. */
static int wrap(struct buf *ret_out, uint32_t id, struct buf *result, int error)
{
    buf_init(ret_out, FRAME_BODY_MAX + FRAME_HEADER);
    if (error == 0) {
        error = message_put_result(
            ret_out, id, (struct strview){.data = (const char *)result->data, .n = result->n});
    }
    buf_deinit(result);
    if (error < 0) {
        buf_deinit(ret_out);
    }
    return error;
}

void results_send(struct conn *c, uint32_t id, struct buf *result, int error)
{
    const struct msg_error e = {.code = ERR_INTERNAL, .message = strview_of("no memory")};
    struct buf out;

    if (wrap(&out, id, result, error) < 0) {
        conn_error(c, id, &e);
        return;
    }
    conn_send(c, &out);
}

static bool is_default(const struct broker *b, const char *name)
{
    if (b->config.default_model) {
        return strcmp(b->config.default_model, name) == 0;
    }
    return b->listing->n == 1;
}

static void pack_listed(struct packer *p, const struct broker *b, const struct listed_model *l)
{
    const struct model *m = model_find(b, strview_of(l->name));
    /* A file that was replaced is told of as it is once it is loaded; until then as what serves. */
    const bool serves = m && m->state == MODEL_LOADED;
    const bool same = m && memcmp(&m->mark, &l->mark, sizeof(l->mark)) == 0;
    const struct model_facts *f = m && m->facts.known && (serves || same) ? &m->facts : NULL;
    const bool failed = m && m->state == MODEL_REFUSED;

    pack_map(p, 4 + (f ? 6 : 0) + failed);
    text_pair(p, "name", l->name);
    uint_pair(p, "bytes", serves ? m->mark.size : l->mark.size);
    text_pair(p, "state", model_state_name(m));
    bool_pair(p, "default", is_default(b, l->name));
    if (f) {
        text_pair(p, "arch", f->arch);
        text_pair(p, "quantization", f->quantization);
        text_pair(p, "formats", f->formats);
        uint_pair(p, "n_params", f->n_params);
        uint_pair(p, "n_ctx", f->n_ctx);
        bool_pair(p, "chat", f->chat);
    }
    if (failed) {
        text_pair(p, "error", error_info(m->error)->name);
    }
}

void results_no_listing(struct request *r, int scan_result)
{
    request_fail(r, ERR_INTERNAL, "the daemon's models folder cannot be read: %s",
                 strerror(-scan_result));
}

void results_list(struct request *r, int scan_result)
{
    struct broker *b = r->broker;
    struct buf result, out;

    if (scan_result < 0) {
        results_no_listing(r, scan_result);
        return;
    }
    buf_init(&result, RESULT_MAX);
    struct packer p = packer_of(&result);
    pack_array(&p, (uint32_t)b->listing->n);
    for (size_t i = 0; i < b->listing->n; i++) {
        pack_listed(&p, b, &b->listing->models[i]);
    }
    if (wrap(&out, r->id, &result, p.error) < 0) {
        request_fail(r, ERR_INTERNAL, "no memory");
        return;
    }
    request_done(r, &out);
}

static void pack_resident(struct packer *p, const struct model *m, uint64_t now)
{
    const struct model_facts *f = &m->facts;
    const uint64_t positions = (uint64_t)m->slots.kv_blocks * m->slots.block_positions;

    pack_map(p, 22);
    text_pair(p, "name", m->name);
    text_pair(p, "quantization", f->quantization);
    text_pair(p, "formats", f->formats);
    text_pair(p, "kv", f->kv);
    uint_pair(p, "n_ctx", f->n_ctx);
    uint_pair(p, "streams", m->slots.n_held);
    uint_pair(p, "streams_max", m->slots.n_streams);
    uint_pair(p, "weight_bytes", f->weight_bytes);
    text_pair(p, "weights", f->weights);
    uint_pair(p, "huge_bytes", f->huge_bytes);
    uint_pair(p, "kv_bytes", f->kv_bytes_per_position * positions);
    uint_pair(p, "scratch_bytes", f->scratch_bytes);
    uint_pair(p, "load_us", m->residency.load_us);
    uint_pair(p, "mapped_bytes", m->memory.mapped);
    uint_pair(p, "private_bytes", m->memory.private_);
    uint_pair(p, "resident_bytes", m->memory.resident);
    uint_pair(p, "locked_bytes", m->memory.locked);
    uint_pair(p, "kv_used_bytes", m->memory.kv_used);
    uint_pair(p, "kv_idle_bytes", m->memory.kv_idle);
    uint_pair(p, "kv_resident_bytes", m->memory.kv_resident);
    uint_pair(p, "scratch_resident_bytes", m->memory.scratch_resident);
    uint_pair(p, "idle_ms", list_empty(&m->users) ? (now - m->used_ns) / NS_PER_MS : 0);
}

static const char *state_of(const struct request *r)
{
    if (r->job.running && (r->job.blocked || r->job.paused_ns > 0)) {
        return "paused";
    }
    if (!r->model || !r->job.slots->ready) {
        return "loading";
    }
    if (!r->job.held) {
        return r->job.running ? "paused" : "queued";
    }
    return r->first_ns ? "decode" : "prefill";
}

/* What one user does is no other's business: who may not read the metrics sees of others sums
 * alone. */
static bool sees_all(const struct conn *c)
{
    return c->grant.known && (c->grant.rights & RIGHT_METRICS);
}

/* Another user's request: that there is one, and what it means for one's own. With the right to
 * cancel it comes what that takes. */
static void pack_veiled(struct packer *p, const struct conn *c, const struct request *r,
                        uint32_t position)
{
    const bool may_cancel = c->grant.rights & RIGHT_CANCEL;

    pack_map(p, may_cancel ? 5 : 3);
    if (may_cancel) {
        uint_pair(p, "request", r->job.seq);
        uint_pair(p, "uid", r->job.uid);
    }
    text_pair(p, "class", request_class_name(r->job.class_));
    text_pair(p, "state", state_of(r));
    uint_pair(p, "position", position);
}

static void pack_request(struct packer *p, const struct conn *c, const struct request *r,
                         uint32_t position, uint64_t now)
{
    if (r->job.uid != c->peer.uid && !sees_all(c)) {
        pack_veiled(p, c, r, position);
        return;
    }
    pack_map(p, 11);
    uint_pair(p, "request", r->job.seq);
    text_pair(p, "model", r->model ? r->model->name : r->name);
    text_pair(p, "class", request_class_name(r->job.class_));
    text_pair(p, "state", state_of(r));
    uint_pair(p, "uid", r->job.uid);
    uint_pair(p, "pid", (uint64_t)r->conn->peer.pid);
    text_pair(p, "client", r->conn->client);
    uint_pair(p, "prompt_tokens", r->prompt_tokens);
    uint_pair(p, "answer_tokens", r->answer.n_ids);
    uint_pair(p, "age_ms", (now - r->arrived_ns) / NS_PER_MS);
    uint_pair(p, "position", position);
}

static void pack_requests(struct packer *p, const struct conn *c, uint64_t now)
{
    const struct queue *q = &c->broker->queue;
    const size_t n = q->n_waiting + q->n_running;
    uint32_t left = n < PS_REQUESTS_MAX ? (uint32_t)n : PS_REQUESTS_MAX, position = 0;

    pack_array(p, left);
    list_for_each (run, next_run, &q->running, struct request, job.link) {
        if (left > 0) {
            pack_request(p, c, run, 0, now);
            left--;
        }
    }
    for (int class_ = CLASSES - 1; class_ >= 0; class_--) {
        list_for_each (r, next, &q->waiting[class_], struct request, job.link) {
            if (left > 0) {
                pack_request(p, c, r, position++, now);
                left--;
            }
        }
    }
}

/* What an identity holds and has had, or several have together. */
struct holdings {
    uint64_t connections, requests, running, queue_bytes, kv_bytes, output_bytes, input_bytes,
        prompt_tokens, tokens;
};

static void holdings_add(struct holdings *h, const struct identity *id)
{
    h->connections += id->n_conns;
    h->requests += id->account.n_jobs;
    h->running += id->account.n_held;
    h->queue_bytes += id->queue_bytes;
    h->kv_bytes += id->kv_bytes;
    h->output_bytes += id->output_bytes;
    h->input_bytes += id->input_bytes;
    h->prompt_tokens += id->n_prompt_tokens;
    h->tokens += id->n_tokens;
}

#define HOLDINGS_PAIRS 9u

static void pack_holdings(struct packer *p, const struct holdings *h)
{
    uint_pair(p, "connections", h->connections);
    uint_pair(p, "requests", h->requests);
    uint_pair(p, "running", h->running);
    uint_pair(p, "queue_bytes", h->queue_bytes);
    uint_pair(p, "kv_bytes", h->kv_bytes);
    uint_pair(p, "output_bytes", h->output_bytes);
    uint_pair(p, "input_bytes", h->input_bytes);
    uint_pair(p, "prompt_tokens", h->prompt_tokens);
    uint_pair(p, "tokens", h->tokens);
}

static void pack_identity(struct packer *p, const struct identity *id)
{
    struct holdings h = {0};

    holdings_add(&h, id);
    pack_map(p, 2 + HOLDINGS_PAIRS);
    uint_pair(p, "uid", id->uid);
    text_pair(p, "unit", id->unit);
    pack_holdings(p, &h);
}

/* Those that the client may see one by one, and the others in one sum where there are any that it
 * may not. */
static void pack_identities(struct packer *p, const struct conn *c)
{
    const struct identities *all = &c->broker->identities;
    struct holdings others = {0};
    uint64_t n = 0;

    list_for_each (known, next_known, &all->all, struct identity, link) {
        n += sees_all(c) || known->uid == c->peer.uid;
    }
    uint32_t left = n < PS_IDENTITIES_MAX ? (uint32_t)n : PS_IDENTITIES_MAX;
    pack_z(p, "identities");
    pack_array(p, left);
    list_for_each (id, next, &all->all, struct identity, link) {
        if (!sees_all(c) && id->uid != c->peer.uid) {
            holdings_add(&others, id);
        } else if (left > 0) {
            pack_identity(p, id);
            left--;
        }
    }
    if (!sees_all(c)) {
        pack_z(p, "others");
        pack_map(p, 1 + HOLDINGS_PAIRS);
        uint_pair(p, "identities", all->n - n);
        pack_holdings(p, &others);
    }
}

#define PRESSURE_PAIRS 2u

/* How short memory is, and what says so. */
static void pack_pressure(struct packer *p, const struct broker *b)
{
    const char *cause = ladder_level(b) > PRESSURE_NORMAL ? b->ladder.pressure.cause : NULL;

    text_pair(p, "pressure", pressure_name(ladder_level(b)));
    text_pair(p, "pressure_cause", cause ? cause : "");
}

void results_ps(struct conn *c, uint32_t id)
{
    struct broker *b = c->broker;
    const uint64_t now = clock_now_ns();
    uint32_t n = 0;
    struct buf result;

    buf_init(&result, RESULT_MAX);
    struct packer p = packer_of(&result);
    list_for_each (m, next, &b->models, struct model, link) {
        n += m->state == MODEL_LOADED;
    }
    metrics_ledger(b);
    ledger_ask(b);
    pack_map(&p, (sees_all(c) ? 3 : 4) + PRESSURE_PAIRS);
    pack_pressure(&p, b);
    pack_z(&p, "models");
    pack_array(&p, n);
    list_for_each (loaded, next_loaded, &b->models, struct model, link) {
        if (loaded->state == MODEL_LOADED) {
            pack_resident(&p, loaded, now);
        }
    }
    pack_z(&p, "requests");
    pack_requests(&p, c, now);
    pack_identities(&p, c);
    results_send(c, id, &result, p.error);
}

/* The bytes of everything, by what they are for. */
static void pack_memory(struct packer *p, struct broker *b)
{
    struct metrics_now now;
    struct ledger l;
    uint64_t weights = 0, scratch = 0;

    metrics_take(b, &now);
    ledger_take(b, &l);
    for (size_t i = 0; i < METRICS_SLOTS; i++) {
        weights += now.models[i].weight_bytes;
        scratch += now.models[i].scratch_bytes;
    }
    pack_map(p, 27 + PRESSURE_PAIRS);
    pack_pressure(p, b);
    uint_pair(p, "budget_bytes", l.budget);
    uint_pair(p, "charged_bytes", l.charged);
    uint_pair(p, "swaps", b->residency.swaps.n_ever);
    uint_pair(p, "idle_unloads", b->residency.n_idle);
    uint_pair(p, "kv_cuts", b->residency.n_kv_cuts);
    uint_pair(p, "weight_mapped_bytes", l.mapped);
    uint_pair(p, "weight_private_bytes", l.private_);
    uint_pair(p, "weight_resident_bytes", l.resident);
    uint_pair(p, "kv_resident_bytes", l.kv_resident);
    uint_pair(p, "scratch_resident_bytes", l.scratch_resident);
    uint_pair(p, "engine_heap_bytes", l.heap);
    uint_pair(p, "engine_program_bytes", l.programs);
    uint_pair(p, "engine_bytes", l.engine);
    uint_pair(p, "engine_resident_bytes", l.engine_resident);
    uint_pair(p, "weight_bytes", weights);
    uint_pair(p, "scratch_bytes", scratch);
    uint_pair(p, "kv_used_bytes", now.kv_used);
    uint_pair(p, "kv_idle_bytes", now.kv_idle);
    uint_pair(p, "kv_total_bytes", now.kv_total);
    uint_pair(p, "queue_bytes", now.queue_bytes);
    uint_pair(p, "output_bytes", now.output_bytes);
    uint_pair(p, "output_max_bytes", now.output_max);
    uint_pair(p, "input_bytes", now.input_bytes);
    uint_pair(p, "input_max_bytes", now.input_max);
    uint_pair(p, "session_bytes", now.session_bytes);
    uint_pair(p, "answer_bytes", now.answer_bytes);
    uint_pair(p, "broker_resident_bytes", now.resident_bytes);
}

static void path_pair(struct packer *p, const char *key, const char *path)
{
    text_pair(p, key, path ? path : "");
}

/* Where the daemon reads and writes: for those who could see it in its process anyway. */
static void pack_paths(struct packer *p, const struct config *c)
{
    pack_z(p, "paths");
    pack_map(p, 4);
    path_pair(p, "config", c->file);
    path_pair(p, "models", c->models_dir);
    path_pair(p, "cache", c->cache_dir);
    path_pair(p, "sessions", c->sessions_dir);
}

void results_status(struct conn *c, uint32_t id)
{
    struct broker *b = c->broker;
    const bool own = c->peer.uid == 0 || c->peer.uid == b->own_uid;
    struct buf result;

    buf_init(&result, RESULT_MAX);
    struct packer p = packer_of(&result);
    pack_map(&p, own ? 23 : 22);
    text_pair(&p, "version", ONEBIT_VERSION);
    pack_z(&p, "protocol");
    pack_array(&p, 2);
    pack_uint(&p, PROTOCOL_MAJOR);
    pack_uint(&p, PROTOCOL_MINOR);
    uint_pair(&p, "uptime_ms", (clock_now_ns() - b->started_ns) / NS_PER_MS);
    uint_pair(&p, "pid", (uint64_t)getpid());
    uint_pair(&p, "runner_pid", (uint64_t)runner_proc_pid(&b->runner));
    uint_pair(&p, "runner_restarts", b->n_restarts);
    text_pair(&p, "cpu", b->engine.cpu);
    text_pair(&p, "confined", b->engine.confined);
    uint_pair(&p, "threads", b->engine.n_threads);
    uint_pair(&p, "connections", b->n_conns);
    uint_pair(&p, "queued", b->queue.n_waiting);
    uint_pair(&p, "running", b->queue.n_running);
    uint_pair(&p, "requests_done", b->n_done);
    uint_pair(&p, "requests_failed", b->n_failed);
    uint_pair(&p, "given_back", b->sched.n_given_back);
    uint_pair(&p, "tokens", b->n_tokens);
    uint_pair(&p, "prompt_tokens", b->n_prompt_tokens);
    bool_pair(&p, "draining", b->draining);
    uint_pair(&p, "reloads", b->n_reloads);
    bool_pair(&p, "reload_refused", b->reload_refused);
    pack_z(&p, "memory");
    pack_memory(&p, b);
    pack_z(&p, "machine");
    machine_pack(&p, b);
    if (own) {
        pack_paths(&p, &b->config);
    }
    results_send(c, id, &result, p.error);
}

void results_metrics(struct conn *c, uint32_t id)
{
    struct buf text, result;

    buf_init(&text, METRICS_TEXT_MAX);
    buf_init(&result, RESULT_MAX);
    struct packer p = packer_of(&result);
    const int e = metrics_read(c->broker, &text);
    if (e == 0) {
        pack_str(&p, (struct strview){.data = (const char *)text.data, .n = text.n});
    }
    buf_deinit(&text);
    results_send(c, id, &result, e < 0 ? e : p.error);
}
