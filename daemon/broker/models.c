/* models: from a name to a model in the engine.
 *
 *   IDLE -> PROBING -> PACKED -> LOADING -> LOADED
 *                \-> PACKING -^
 *
 * Each arrow is taken by models_advance() when somebody wants the model, or by the report that ends
 * a step. Files are touched by workers and by the packer, never here. */
#include "daemon/broker/models.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "daemon/broker/admission.h"
#include "daemon/broker/backing.h"
#include "daemon/broker/log.h"
#include "daemon/broker/model_mark.h"
#include "daemon/broker/packstore.h"
#include "daemon/broker/prefix.h"
#include "daemon/broker/request.h"
#include "daemon/broker/residency.h"
#include "daemon/broker/spill.h"

#define REFUSED_MAX 64u    /* refusals remembered */
#define REMEMBERED_MAX 32u /* models that are not loaded, but were of late */
#define PREPARING_MAX 4u   /* models between the folder and the engine: processes, open files */

struct probe_work {
    uv_work_t work;
    struct model *model; /* borrowed; its n_works counts us */
    char pack_id[128];
    struct pack_probe probe;
    int result;
};

struct model *model_find(const struct broker *b, struct strview name)
{
    list_for_each (m, next, &b->models, struct model, link) {
        if (strview_is(name, m->name)) {
            return m;
        }
    }
    return NULL;
}

struct model *model_by_number(const struct broker *b, uint32_t number)
{
    list_for_each (m, next, &b->models, struct model, link) {
        if (m->number == number) {
            return m;
        }
    }
    return NULL;
}

struct model *model_get(struct broker *b, struct strview name)
{
    struct model *m = model_find(b, name);

    if (m || name.n > MODEL_NAME_MAX || !(m = calloc(1, sizeof(*m)))) {
        return m;
    }
    m->broker = b;
    memcpy(m->name, name.data, name.n);
    m->number = ++b->n_models_ever;
    m->pack_fd = -1;
    list_init(&m->users);
    list_push(&b->models, &m->link);
    broker_dirty(b);
    return m;
}

static void drop_pack(struct model *m)
{
    if (m->pack_fd >= 0) {
        (void)close(m->pack_fd);
        m->pack_fd = -1;
    }
}

static void model_free(struct model *m)
{
    drop_pack(m);
    list_remove(&m->link);
    free(m);
}

void models_free(struct broker *b)
{
    list_for_each (m, next, &b->models, struct model, link) {
        model_free(m);
    }
}

static const struct model_options *options_of(const struct model *m)
{
    return config_model(&m->broker->config, strview_of(m->name));
}

bool model_pinned(const struct model *m)
{
    const struct model_options *o = options_of(m);

    return o && o->pinned;
}

bool model_wanted(const struct model *m)
{
    return !m->broker->stopping && (!list_empty(&m->users) || m->resident || model_pinned(m));
}

void model_refuse(struct model *m, const struct msg_error *e, bool sticky)
{
    log_client(LOG_MODEL_FAULTS, LOG_ERR, "model %s: %s: %.*s", m->name, error_info(e->code)->name,
               (int)e->message.n, e->message.data);
    drop_pack(m);
    m->resident = false;
    m->slots.ready = false;
    /* A pinned model is always wanted: it rests until somebody asks, else it would be tried for
     * ever. */
    m->state = sticky || model_pinned(m) ? MODEL_REFUSED : MODEL_IDLE;
    m->sticky = sticky;
    m->error = e->code;
    m->have = e->have;
    m->limit = e->limit;
    (void)snprintf(m->error_text, sizeof(m->error_text), "%.*s", (int)e->message.n,
                   e->message.data);
    const struct msg_error kept = {
        .code = e->code, .message = strview_of(m->error_text), .have = e->have, .limit = e->limit};
    list_for_each (r, next, &m->users, struct request, model_link) {
        request_fail_as(r, &kept);
    }
    broker_dirty(m->broker);
}

void model_retry(struct model *m)
{
    if (m->state == MODEL_REFUSED) {
        m->state = MODEL_IDLE;
        m->error = ERR_NONE;
        m->load_deaths = 0;
        m->repacked = false;
        broker_dirty(m->broker);
    }
}

static void do_probe(uv_work_t *work)
{
    struct probe_work *w = container_of(work, struct probe_work, work);

    w->result = pack_probe(&w->probe);
}

static void refuse_probe(struct model *m, const struct probe_work *w)
{
    char text[200];
    struct msg_error e = {.code = ERR_INTERNAL};

    if (w->result == PACK_NO_SOURCE) {
        (void)snprintf(text, sizeof(text), "there is no model file of that name");
        e.code = ERR_NO_MODEL;
    } else if (w->result == PACK_TOO_BIG) {
        (void)snprintf(text, sizeof(text), "the file is larger than limits.model_bytes_max");
        e.code = ERR_MODEL_TOO_BIG;
        e.have = w->probe.mark.size;
        e.limit = m->broker->config.model_bytes_max;
    } else if (w->probe.unwritable) {
        (void)snprintf(text, sizeof(text), "the cache folder cannot be written: %s",
                       strerror(-w->result));
        e.code = ERR_CACHE_UNWRITABLE;
    } else {
        (void)snprintf(text, sizeof(text), "its files cannot be opened: %s", strerror(-w->result));
    }
    e.message = strview_of(text);
    model_refuse(m, &e, false);
}

/* The packed file is about to come from another source file than before: an answer that has begun
 * cannot go on with other weights. */
static void note_source(struct model *m, const struct file_mark *mark)
{
    if (m->facts.known && memcmp(&m->mark, mark, sizeof(*mark)) != 0) {
        m->broker->residency.n_sources_new++;
        log_client(LOG_MODELS, LOG_NOTICE, "model %s: its file is another than before", m->name);
        list_for_each (r, next, &m->users, struct request, model_link) {
            if (r->answer.n_ids > 0) {
                request_fail(r, ERR_MODEL_CHANGED, "the model's file was replaced in mid-answer");
            }
        }
    }
    m->mark = *mark;
    m->fresh = false;
}

static void on_probed(uv_work_t *work, int status)
{
    struct probe_work *w = container_of(work, struct probe_work, work);
    struct model *m = w->model;
    struct pack_probe *p = &w->probe;

    m->n_works--;
    m->state = MODEL_IDLE;
    if (status < 0) {
        w->result = status; /* cancelled before it ran: nothing is open */
    } else if (w->result == PACK_OK && p->pack_fd >= 0) {
        note_source(m, &p->mark);
        memcpy(m->tuning, p->tuning, p->n_tuning);
        m->n_tuning = p->n_tuning;
        model_packed(m, p->pack_fd, p->final);
    } else if (w->result == PACK_OK && m->broker->stopping) {
        (void)unlink(p->temp);
        (void)close(p->source_fd);
        (void)close(p->temp_fd);
    } else if (w->result == PACK_OK) {
        note_source(m, &p->mark);
        m->n_tuning = 0;
        m->state = MODEL_PACKING;
        log_client(LOG_MODELS, LOG_INFO, "model %s: packing", m->name);
        pack_child_start(m, p->source_fd, p->temp_fd, p->temp, p->final);
    } else {
        m->mark = p->mark;
        refuse_probe(m, w);
    }
    free(w);
    broker_dirty(m->broker);
}

static void probe(struct model *m)
{
    struct broker *b = m->broker;
    struct probe_work *w = calloc(1, sizeof(*w));

    if (!w) {
        const struct msg_error e = {.code = ERR_INTERNAL, .message = strview_of("no memory")};
        model_refuse(m, &e, false); /* nothing would ask again: its users must not wait */
        return;
    }
    w->model = m;
    memcpy(w->pack_id, b->engine.pack_id, sizeof(w->pack_id));
    w->probe = (struct pack_probe){.models_dir = b->config.models_dir,
                                   .cache_dir = b->config.cache_dir,
                                   .name = m->name,
                                   .pack_id = w->pack_id,
                                   .bytes_max = b->config.model_bytes_max,
                                   .fresh = m->fresh};
    if (uv_queue_work(b->loop, &w->work, do_probe, on_probed) < 0) {
        free(w);
        return;
    }
    m->n_works++;
    m->state = MODEL_PROBING;
}

void model_packed(struct model *m, int fd, const char *path)
{
    drop_pack(m);
    m->pack_fd = fd;
    m->pack_tries = 0;
    m->state = MODEL_PACKED;
    (void)snprintf(m->pack_path, sizeof(m->pack_path), "%s", path);
    broker_dirty(m->broker);
}

bool model_pack_again(struct model *m, const char *why)
{
    if (m->broker->stopping || ++m->pack_tries >= PACK_TRIES_MAX) {
        m->pack_tries = 0;
        return false;
    }
    log_client(LOG_MODEL_FAULTS, LOG_WARNING, "model %s: packed once more: %s", m->name, why);
    m->state = MODEL_IDLE;
    broker_dirty(m->broker);
    return true;
}

void model_pack_failed(struct model *m, const struct msg_error *e, bool sticky)
{
    m->state = MODEL_IDLE;
    if (m->broker->stopping) {
        broker_dirty(m->broker);
        return;
    }
    model_refuse(m, e, sticky);
}

void model_forget(struct model *m)
{
    drop_pack(m);
    m->state = MODEL_IDLE;
    m->resident = false;
    broker_dirty(m->broker);
}

void model_unload(struct model *m)
{
    if (m->state == MODEL_LOADED) {
        const struct seam_message drop = {.type = SEAM_DROP, .drop = m->number};
        runner_proc_send(&m->broker->runner, &drop, NULL, 0, -1);
        m->state = MODEL_PACKED; /* for those who wait for it */
        if (list_empty(&m->users)) {
            drop_pack(m);
            m->state = MODEL_IDLE;
        }
        log_client(LOG_MODELS, LOG_INFO, "model %s: unloaded", m->name);
    }
    list_for_each (r, next, &m->users, struct request, model_link) {
        request_progress(r, PHASE_LOADING, 0, 0);
    }
    m->resident = false;
    m->slots.ready = m->slots.draining = false;
    broker_dirty(m->broker);
}

static void load(struct model *m)
{
    struct broker *b = m->broker;
    const struct model_options *o = options_of(m);
    const struct seam_load l = {
        .model = m->number,
        .name = strview_of(m->name),
        .kv = strview_of(o ? o->kv : NULL),
        .n_ctx = o ? (uint32_t)o->n_ctx : 0,
        .kv_bytes_max = m->residency.kv_max > 0 ? m->residency.kv_max : b->config.kv_bytes,
        .beside_bytes_max = m->residency.beside_max,
        .n_streams_max = (uint32_t)b->config.streams_max,
        .has_default_temperature = o && o->has_temperature,
        .default_temperature = o ? (float)o->temperature : 0,
        .chat_template = strview_of(o ? o->chat_template : NULL),
        .weights = strview_of(backing_choose(m)),
        .draft_tokens = (uint32_t)b->config.draft_tokens,
        .lock = o && o->locked,
        .tune = b->config.threads == 0,
        .tuning = {.data = (const char *)m->tuning, .n = m->n_tuning},
    };
    const struct seam_message message = {.type = SEAM_LOAD, .load = l};
    const int fd = fcntl(m->pack_fd, F_DUPFD_CLOEXEC, 0);

    if (fd < 0) {
        const struct msg_error e = {.code = ERR_OVERLOADED,
                                    .message = strview_of("no descriptor for its packed file")};
        model_refuse(m, &e, false);
        return;
    }
    m->state = MODEL_LOADING;
    model_mark_set(m, o);
    answer_cache_forget(&b->answers, strview_of(m->name), m->answer_mark);
    runner_proc_send(&b->runner, &message, NULL, 0, fd);
}

/* One at a time, and nobody overtakes: a large model would never find room else. */
static void load_next(struct broker *b)
{
    enum residency_room found = RESIDENCY_REFUSED;
    struct model *m;

    while (found == RESIDENCY_REFUSED && (m = residency_next(b))) {
        found = residency_make_room(m);
        if (found == RESIDENCY_ROOM) {
            load(m);
        }
    }
}

static void forget_refusals(struct broker *b)
{
    size_t n = 0;

    list_for_each (m, next, &b->models, struct model, link) {
        n += m->state == MODEL_REFUSED;
    }
    list_for_each (old, next_old, &b->models, struct model, link) {
        if (n > REFUSED_MAX && old->state == MODEL_REFUSED && list_empty(&old->users) &&
            old->n_works == 0) {
            model_free(old); /* the list is in the order of first use */
            n--;
        }
    }
}

void models_advance(struct broker *b)
{
    bool loading = false;
    unsigned n_preparing = 0, n_remembered = 0;

    list_for_each (busy, next_busy, &b->models, struct model, link) {
        loading |= busy->state == MODEL_LOADING;
        n_preparing += busy->state >= MODEL_PROBING && busy->state <= MODEL_LOADING;
    }
    list_for_each (m, next, &b->models, struct model, link) {
        const bool want = model_wanted(m);

        if (m->state == MODEL_IDLE && want && b->engine.known) {
            if (n_preparing < PREPARING_MAX) { /* else: each that leaves calls for another look */
                n_preparing++;
                probe(m);
            }
        } else if (m->state == MODEL_IDLE && !want && m->n_works == 0 &&
                   breaker_calm(&m->breaker) &&
                   !(residency_remembered(m) && ++n_remembered <= REMEMBERED_MAX)) {
            model_free(m);
        } else if (m->state == MODEL_PACKED && !want) {
            model_forget(m);
        }
    }
    residency_advance(b);
    if (!loading && b->runner.state == RUNNER_UP) {
        load_next(b);
    }
    forget_refusals(b);
}

void model_serve(struct model *m)
{
    m->slots.ready = true;
    prefixes_prime(m);
    broker_dirty(m->broker);
}

void models_on_loaded(struct broker *b, const struct seam_loaded *l)
{
    struct model *m = model_by_number(b, l->model);

    if (!m || m->state != MODEL_LOADING || l->n_streams == 0) {
        log_line(LOG_ERR, "the engine loaded what nobody asked for");
        runner_proc_kill(&b->runner, "it broke the protocol");
        return;
    }
    struct model_facts *f = &m->facts;
    *f = (struct model_facts){.known = true,
                              .n_params = l->n_params,
                              .weight_bytes = l->weight_bytes,
                              .huge_bytes = l->huge_bytes,
                              .kv_bytes_per_position = l->kv_bytes_per_position,
                              .scratch_bytes = l->scratch_bytes,
                              .n_ctx = l->n_ctx,
                              .n_ctx_train = l->n_ctx_train,
                              .chat = l->chat};
    strview_copy(f->arch, sizeof(f->arch), l->arch);
    strview_copy(f->formats, sizeof(f->formats), l->formats);
    strview_copy(f->quantization, sizeof(f->quantization), l->quantization);
    strview_copy(f->kv, sizeof(f->kv), l->kv);
    strview_copy(f->weights, sizeof(f->weights),
                 l->weights.n > 0 ? l->weights : strview_of("shared"));
    m->state = MODEL_LOADED;
    m->resident = true;
    m->load_deaths = 0;
    m->repacked = false;
    m->used_ns = m->residency.loaded_ns = clock_now_ns();
    m->residency.load_us = l->load_us;
    m->slots.draining = false;
    m->memory = (struct seam_memory){0};
    m->slots.n_streams = l->n_streams;
    m->slots.kv_blocks = l->kv_blocks;
    m->slots.block_positions = l->kv_block_positions;
    log_client(LOG_MODELS, LOG_INFO, "model %s: loaded (%s, %s, %u streams, weights %s)", m->name,
               f->quantization, f->formats, l->n_streams, f->weights);
    backoff_progress(&b->backoff);
    if (!spill_offer(m)) {
        model_serve(m);
    }
}

void models_on_load_failed(struct broker *b, const struct seam_failed *f)
{
    struct model *m = model_by_number(b, f->model);

    if (m && m->state == MODEL_LOADED) {
        model_on_lost(m, f->message);
        return;
    }
    if (!m || m->state != MODEL_LOADING) {
        return;
    }
    if (strview_starts(f->message, "packed:") && !m->repacked) {
        log_client(LOG_MODEL_FAULTS, LOG_WARNING, "model %s: its packed file is made anew: %.*s",
                   m->name, (int)f->message.n, f->message.data);
        m->repacked = m->fresh = true;
        drop_pack(m);
        m->state = MODEL_IDLE;
        broker_dirty(b);
        return;
    }
    if (f->code == ERR_MODEL_TOO_BIG && f->have > m->residency.beside_max &&
        f->have > m->residency.beside_floor) {
        m->residency.beside_floor = f->have; /* it was given a share: there may be more */
        m->state = MODEL_PACKED;
        broker_dirty(b);
        return;
    }
    const struct msg_error e = {
        .code = f->code, .message = f->message, .have = f->have, .limit = f->limit};
    model_refuse(m, &e, f->code == ERR_MODEL_MALFORMED || f->code == ERR_MODEL_UNSUPPORTED);
}

void models_less_kv(struct broker *b)
{
    list_for_each (m, next, &b->models, struct model, link) {
        const struct model_facts *f = &m->facts;
        const uint64_t block = f->kv_bytes_per_position * m->slots.block_positions;
        const uint64_t one = f->kv_bytes_per_position * f->n_ctx + block; /* sequence */
        const uint64_t had = block * m->slots.kv_blocks;
        const uint64_t half = block * (m->slots.kv_blocks / 2);
        if (f->known && block > 0) {
            m->residency.kv_max = half > one ? half : one;
        }
        if (f->known && m->residency.kv_max < had) {
            b->residency.n_kv_cuts++;
            log_line(LOG_WARNING,
                     "memory: model %s is loaded with at most %.1f MB of KV from here on, after "
                     "%.1f MB: the kernel has killed the engine",
                     m->name, (double)m->residency.kv_max / 1e6, (double)had / 1e6);
        }
    }
}

void models_all_kv(struct broker *b)
{
    list_for_each (m, next, &b->models, struct model, link) {
        if (m->residency.kv_max > 0) {
            log_line(LOG_NOTICE, "memory: model %s is loaded with all of its KV again", m->name);
        }
        m->residency.kv_max = 0;
    }
}

void models_on_engine_gone(struct broker *b, bool killed)
{
    list_for_each (m, next, &b->models, struct model, link) {
        m->slots.ready = m->slots.draining = false;
        if (m->state == MODEL_LOADED) {
            m->state = MODEL_PACKED;
        } else if (m->state == MODEL_LOADING &&
                   ++m->load_deaths >= (killed ? JOB_SUSPECT_KILLS : MODEL_LOAD_DEATHS)) {
            const struct msg_error e = {
                .code = ERR_INTERNAL,
                .message = strview_of("loading it took the engine down again and again")};
            admission_load_fault(m);
            model_refuse(m, &e, true);
        } else if (m->state == MODEL_LOADING) {
            m->state = MODEL_PACKED;
        }
    }
}

const char *model_state_name(const struct model *m)
{
    switch (m ? m->state : MODEL_IDLE) {
    case MODEL_LOADED:
        return "loaded";
    case MODEL_REFUSED:
        return "failed";
    case MODEL_PROBING:
    case MODEL_PACKING:
    case MODEL_PACKED:
    case MODEL_LOADING:
        return "loading";
    default:
        return "available";
    }
}
