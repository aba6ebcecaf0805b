/* metrics_broker: which slot an event belongs to, and the state of things when the text is
 * wanted. */
#include "daemon/broker/metrics_broker.h"

#include <string.h>
#include <uv.h>

#include "base/clock.h"
#include "daemon/broker/broker.h"
#include "daemon/broker/conn.h"
#include "daemon/broker/identity.h"
#include "daemon/broker/ledger.h"
#include "daemon/broker/log.h"
#include "daemon/broker/machine_says.h"
#include "daemon/broker/models.h"
#include "daemon/broker/request.h"
#include "daemon/broker/session.h"

/* Only what the operator configured or the engine has loaded gets a slot: names of clients do
 * not. */
static size_t slot_of_model(struct broker *b, const struct model *m)
{
    const bool ours =
        m && (m->facts.known || config_model(&b->config, strview_of(m->name)) != NULL);

    return metrics_slot(&b->metrics, ours ? m->name : NULL);
}

static size_t slot_of(const struct request *r)
{
    return slot_of_model(r->broker, r->model);
}

void metrics_on_start(const struct request *r)
{
    if (r->kind == REQUEST_GENERATE) {
        metrics_time(&r->broker->metrics, slot_of(r), r->job.class_, TIME_QUEUE,
                     clock_now_ns() - r->arrived_ns, 1);
    }
}

void metrics_on_prompt(const struct request *r)
{
    r->conn->identity->n_prompt_tokens += r->prompt_tokens - r->cached_tokens;
    metrics_prompt(&r->broker->metrics, slot_of(r), r->job.class_, r->prompt_tokens,
                   r->cached_tokens);
}

void metrics_on_tokens(struct request *r, size_t n)
{
    struct metrics *m = &r->broker->metrics;
    const uint64_t now = clock_now_ns();
    const size_t slot = slot_of(r);

    if (n == 0) {
        return; /* text that was held back */
    }
    metrics_tokens(m, slot, r->job.class_, n);
    r->conn->identity->n_tokens += n;
    if (!r->last_ns) {
        metrics_time(m, slot, r->job.class_, TIME_FIRST_TOKEN, now - r->arrived_ns, 1);
    } else {
        metrics_time(m, slot, r->job.class_, TIME_BETWEEN_TOKENS, (now - r->last_ns) / n, n);
    }
    r->last_ns = now;
}

void metrics_on_end(const struct request *r)
{
    if (r->kind == REQUEST_GENERATE) {
        metrics_request(&r->broker->metrics, slot_of(r), r->job.class_, r->outcome);
    }
}

void metrics_on_refusal(struct broker *b, enum error_code code)
{
    metrics_request(&b->metrics, metrics_slot(&b->metrics, NULL), CLASS_NORMAL, code);
}

/* The only model that has streams, or NULL: a step's time is then its own. */
static const struct model *the_one_at_work(const struct broker *b)
{
    const struct model *one = NULL;

    list_for_each (m, next, &b->models, struct model, link) {
        if (m->slots.n_held > 0) {
            if (one) {
                return NULL;
            }
            one = m;
        }
    }
    return one;
}

void metrics_on_stats(struct broker *b)
{
    const struct seam_stats *s = &b->engine.stats;
    const struct model *m = the_one_at_work(b);

    if (m && s->step_streams > 0 && s->step_prompt == 0) {
        metrics_step(&b->metrics, slot_of_model(b, m), s->step_streams + s->step_drafts,
                     s->step_us);
    }
}

static void requests_now(const struct broker *b, struct metrics_now *now)
{
    list_for_each (c, next_c, &b->conns, struct conn, link) {
        list_for_each (r, next, &c->requests, struct request, conn_link) {
            if (r->kind == REQUEST_GENERATE) {
                (r->job.running ? now->running : now->queued)[r->job.class_]++;
            }
        }
    }
}

static enum metrics_breaker breaker_of(const struct model *m)
{
    return !m->breaker.open     ? BREAKER_IS_CLOSED
           : m->breaker.probing ? BREAKER_IS_PROBING
                                : BREAKER_IS_OPEN;
}

static void models_now(struct broker *b, struct metrics_now *now)
{
    list_for_each (m, next, &b->models, struct model, link) {
        struct metrics_now_model *n = &now->models[slot_of_model(b, m)];
        if (breaker_of(m) > n->breaker) {
            n->breaker = breaker_of(m);
        }
        if (m->state == MODEL_LOADED) {
            n->loaded = true;
            n->weight_bytes += m->facts.weight_bytes;
            n->scratch_bytes += m->facts.scratch_bytes;
            n->private_bytes += m->memory.private_;
            n->resident_bytes += m->memory.resident;
            n->kv_resident_bytes += m->memory.kv_resident;
            n->streams += m->slots.n_held;
            n->streams_max += m->slots.n_streams;
        }
    }
}

static uint64_t kv_bytes(const struct request *r)
{
    const uint64_t positions = r->job.prompt + (uint64_t)r->answer.n_ids;

    return r->job.held && r->model ? positions * r->model->facts.kv_bytes_per_position : 0;
}

void metrics_ledger(struct broker *b)
{
    list_for_each (id, next_id, &b->identities.all, struct identity, link) {
        id->kv_bytes = 0;
    }
    list_for_each (c, next_c, &b->conns, struct conn, link) {
        list_for_each (r, next, &c->requests, struct request, conn_link) {
            if (c->identity && r->kind == REQUEST_GENERATE) {
                c->identity->kv_bytes += kv_bytes(r);
            }
        }
    }
}

static uint64_t bytes_of_sessions(const struct broker *b)
{
    uint64_t n = 0;

    list_for_each (s, next, &b->sessions.all, struct session, link) {
        n += session_bytes(s);
    }
    return n;
}

void metrics_take(struct broker *b, struct metrics_now *ret)
{
    const uint64_t at = clock_now_ns();
    size_t resident = 0;
    struct ledger ledger;

    *ret = (struct metrics_now){
        .now_ns = at,
        .uptime_ns = at - b->started_ns,
        .version = ONEBIT_VERSION,
        .cpu = b->engine.cpu,
        .draining = b->draining,
        .connections = b->n_conns,
        .restarts = b->n_restarts,
        .stuck = b->wedge.n_killed,
        .given_back = b->sched.n_given_back,
        .drafted = b->n_drafted,
        .accepted = b->n_accepted,
        .queue_bytes = b->queue.bytes,
        .output_bytes = b->held[MEMORY_OUTPUT],
        .output_max = b->config.output_total_bytes,
        .input_bytes = b->held[MEMORY_INPUT],
        .input_max = b->config.input_total_bytes,
        .sessions = b->sessions.n,
        .session_bytes = bytes_of_sessions(b),
        .answer_hits = b->answers.hits,
        .answer_misses = b->answers.misses,
        .answer_bytes = b->answers.bytes,
        .lines_suppressed = log_suppressed(),
    };
    if (b->engine.known) {
        ret->kv_used = b->engine.stats.kv_bytes_used;
        ret->kv_idle = b->engine.stats.kv_bytes_idle;
        ret->kv_total = b->engine.stats.kv_bytes_total;
    }
    if (uv_resident_set_memory(&resident) == 0) { /* /proc: no disk is waited for */
        ret->resident_bytes = resident;
    }
    ledger_ask(b);
    ledger_take(b, &ledger);
    ret->budget_bytes = ledger.budget;
    ret->charged_bytes = ledger.charged;
    ret->engine_resident_bytes = ledger.engine_resident;
    ret->pressure = ladder_level(b);
    memcpy(ret->ladder, b->ladder.counts, sizeof(ret->ladder));
    ret->swaps = b->residency.swaps.n_ever;
    ret->idle_unloads = b->residency.n_idle;
    ret->packs_lost = b->residency.n_packs_lost;
    ret->sources_new = b->residency.n_sources_new;
    ret->kv_cuts = b->residency.n_kv_cuts;
    requests_now(b, ret);
    models_now(b, ret);
}

int metrics_read(struct broker *b, struct buf *out)
{
    struct metrics_now now;

    metrics_take(b, &now);
    b->metrics.n_scrapes++;
    const int r = machine_metrics(out, b);
    return r ? r : metrics_text(out, &b->metrics, &now);
}
