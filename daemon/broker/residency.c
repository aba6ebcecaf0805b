/* residency: one model at a time is brought in, the one that the highest class waits for, and of
 * these the one whose users have waited longest. While it waits for room, what is to leave drains:
 * nothing more of it is started. So nobody waits longer than until the first model has stayed its
 * time, what runs of it has ended and the own load is done, and for higher classes a minute at
 * most; requests have no other word in it, whatever options they carry. */
#include "daemon/broker/residency.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/list.h"
#include "daemon/broker/backing.h"
#include "daemon/broker/broker.h"
#include "daemon/broker/budget.h"
#include "daemon/broker/log.h"
#include "daemon/broker/models.h"
#include "daemon/broker/request.h"

#define CANDIDATES_MAX 32u /* more than models_max can be */
#define REMEMBERED_S 3600u /* what loading a model took and how often it was asked for */
#define TIMER_MAX_MS (UINT64_C(3600) * 1000)

static bool in_engine(const struct model *m)
{
    return m->state == MODEL_LOADED || m->state == MODEL_LOADING;
}

static uint64_t less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

/* ---- bytes ---- */

uint64_t residency_budget(const struct broker *b)
{
    return b->config.memory_budget > 0 ? b->config.memory_budget
                                       : budget_default(b->residency.memory, b->residency.limit);
}

uint64_t residency_charge(const struct model *m)
{
    const struct model_facts *f = &m->facts;

    if (m->state == MODEL_LOADED) {
        return f->weight_bytes + f->scratch_bytes +
               f->kv_bytes_per_position * m->slots.kv_blocks * m->slots.block_positions;
    }
    return in_engine(m) ? m->residency.weight_bytes + m->residency.beside_max : 0;
}

/* What the broker holds for its clients, and the programs themselves. */
static uint64_t beside_models(const struct broker *b)
{
    uint64_t n = BUDGET_PROGRAMS + b->queue.bytes + b->answers.bytes;

    for (size_t i = 0; i < MEMORIES; i++) {
        n += b->held[i];
    }
    list_for_each (s, next, &b->sessions.all, struct session, link) {
        n += session_bytes(s);
    }
    return n;
}

uint64_t residency_charged(const struct broker *b)
{
    uint64_t n = beside_models(b);

    list_for_each (m, next, &b->models, struct model, link) {
        n += residency_charge(m);
    }
    return n;
}

/* ---- who goes ---- */

static enum request_class class_of(const struct request *r)
{
    return r->kind == REQUEST_GENERATE ? r->job.class_ : CLASS_NORMAL;
}

/* The highest class among its users; -1: it has none. */
static int users_class(const struct model *m)
{
    int highest = -1;

    list_for_each (r, next, &m->users, struct request, model_link) {
        highest = (int)class_of(r) > highest ? (int)class_of(r) : highest;
        if (highest == CLASS_HIGH) {
            break;
        }
    }
    return highest;
}

/* Pinned models first; what nobody waits for (it was there before the engine died) at last. */
static struct claim claim_of(const struct model *m)
{
    if (model_pinned(m)) {
        return (struct claim){.class_ = CLASS_HIGH, .since_ns = 0};
    }
    if (list_empty(&m->users)) {
        return (struct claim){.class_ = CLASS_LOW, .since_ns = UINT64_MAX};
    }
    return (struct claim){.class_ = (enum request_class)users_class(m),
                          .since_ns =
                              container_of(m->users.next, struct request, model_link)->arrived_ns};
}

/* Whom a load is for, and whether those who use another model now are counted: when they end is not
 * known. NULL: it is for nobody. */
struct claimant {
    struct claim claim;
    bool users_count;
};

static uint64_t stays_until(const struct model *m, const struct claimant *c, uint64_t now_ns)
{
    const uint64_t most = m->broker->config.memory_residency_min_s * NS_PER_S;
    const uint64_t stay = stay_ns(m->residency.load_us, most);
    const uint64_t fresh = m->residency.loaded_ns + stay;
    struct standing s = {.used_by = c && c->users_count ? users_class(m) : -1};

    if (!c) {
        return fresh;
    }
    memcpy(s.left_ns, m->residency.left_ns, sizeof(s.left_ns));
    const uint64_t kept = standing_ns(&s, &c->claim, stay, now_ns);
    return kept > fresh ? kept : fresh;
}

void residency_left(const struct request *r)
{
    if (r->model->state == MODEL_LOADED) {
        r->model->residency.left_ns[class_of(r)] = clock_now_ns();
    }
}

struct loaded {
    struct model *models[CANDIDATES_MAX]; /* borrowed */
    struct candidate c[CANDIDATES_MAX];
    size_t n;
    size_t n_places; /* that are taken, loads included */
};

static void look(const struct broker *b, const struct claimant *claimant, uint64_t now_ns,
                 struct loaded *ret)
{
    ret->n = ret->n_places = 0;
    list_for_each (m, next, &b->models, struct model, link) {
        ret->n_places += in_engine(m);
        if (m->state != MODEL_LOADED || ret->n == CANDIDATES_MAX) {
            continue;
        }
        const uint64_t bytes = residency_charge(m);
        ret->models[ret->n] = m;
        ret->c[ret->n++] = (struct candidate){
            .bytes = bytes,
            .until_ns = stays_until(m, claimant, now_ns),
            .worth = worth_of(m->residency.load_us, &m->residency.use, bytes, now_ns),
            .pinned = model_pinned(m),
            .used = !list_empty(&m->users),
            .held = m->slots.n_held > 0,
            .draining = m->slots.draining,
        };
    }
}

struct model *residency_victim(struct broker *b, uint64_t now_ns)
{
    struct loaded l;

    look(b, NULL, now_ns, &l);
    for (size_t i = 0; i < l.n; i++) {
        l.c[i].until_ns = 0;
    }
    const size_t i = victim_idle(l.c, l.n, now_ns);
    return i < l.n ? l.models[i] : NULL;
}

/* ---- who comes ---- */

void residency_asked(struct model *m, uint64_t file_bytes)
{
    use_count(&m->residency.use, clock_now_ns());
    if (m->residency.weight_bytes == 0) {
        m->residency.weight_bytes = file_bytes; /* about: until it is packed */
    }
}

bool residency_remembered(const struct model *m)
{
    return m->residency.loaded_ns > 0 &&
           clock_now_ns() - m->residency.use.at_ns < REMEMBERED_S * NS_PER_S;
}

struct model *residency_next(const struct broker *b)
{
    const uint64_t now = clock_now_ns();
    struct claim first_claim = {.class_ = CLASS_LOW};
    struct model *first = NULL;

    list_for_each (m, next, &b->models, struct model, link) {
        if (m->state != MODEL_PACKED || !model_wanted(m)) {
            continue;
        }
        const struct claim c = claim_of(m);
        if (!first || claim_before(&c, &first_claim, now)) {
            first = m;
            first_claim = c;
        }
    }
    return first;
}

/* The least beside its weights. */
static uint64_t beside_needed(const struct model *m)
{
    const uint64_t weights = m->residency.weight_bytes, scratch = m->facts.scratch_bytes;
    const uint64_t least = (scratch > 0 ? scratch : scratch_guess(weights)) +
                           kv_least(weights, m->broker->config.kv_bytes);

    return m->residency.beside_floor > least ? m->residency.beside_floor : least;
}

static struct room_need need_of(const struct model *m, const struct loaded *l, uint64_t now_ns)
{
    const struct broker *b = m->broker;

    return (struct room_need){
        .bytes = m->residency.weight_bytes + beside_needed(m),
        .bytes_free = less(residency_budget(b), residency_charged(b)),
        .places_free = less(b->config.models_max, l->n_places),
        .swap_wait_ns =
            swaps_wait_ns(&b->residency.swaps, b->config.memory_swaps_per_minute, now_ns),
        .now_ns = now_ns,
    };
}

/* Files in the folder are about as large as they are packed. */
static uint64_t share_of(const struct model *m, uint64_t bytes_free)
{
    const struct broker *b = m->broker;
    struct share_plan p = {
        .total = less(residency_budget(b), beside_models(b)),
        .free = bytes_free,
        .bytes = m->residency.weight_bytes,
        .n_models = b->listing && b->listing->n > 0 ? b->listing->n : 1,
        .n_max = b->config.models_max,
        .least = beside_needed(m),
    };

    for (size_t i = 0; b->listing && i < b->listing->n; i++) {
        p.all += b->listing->models[i].mark.size;
    }
    p.all = p.all > p.bytes ? p.all : p.bytes;
    return beside_share(&p);
}

static void refuse(struct model *m, const struct room_need *need, uint64_t available)
{
    char text[200];

    (void)snprintf(text, sizeof(text),
                   "it takes %llu MB of memory with the least KV, and %llu MB of the budget of "
                   "%llu MB can be made free",
                   (unsigned long long)(need->bytes >> 20), (unsigned long long)(available >> 20),
                   (unsigned long long)(residency_budget(m->broker) >> 20));
    const struct msg_error e = {.code = ERR_MODEL_TOO_BIG,
                                .message = strview_of(text),
                                .have = need->bytes,
                                .limit = available};
    model_refuse(m, &e, false);
}

static void on_time(uv_timer_t *timer)
{
    broker_dirty(timer->data); /* the turn of the loop does the rest */
}

static void wake_at(struct broker *b, uint64_t at_ns, uint64_t now_ns)
{
    const uint64_t ms = at_ns > now_ns ? (at_ns - now_ns) / NS_PER_MS + 1 : 0;
    uv_timer_t *t = &b->residency.timer;

    if (uv_is_active((uv_handle_t *)t) && uv_timer_get_due_in(t) <= ms) {
        return;
    }
    uv_update_time(b->loop);
    (void)uv_timer_start(t, on_time, ms < TIMER_MAX_MS ? ms : TIMER_MAX_MS, 0);
}

static void drain_none_but(struct broker *b, const struct model *keep)
{
    list_for_each (m, next, &b->models, struct model, link) {
        if (m != keep && m->slots.draining) {
            m->slots.draining = false;
            broker_dirty(b);
        }
    }
}

static void drop(struct model *victim, const struct model *for_whom, uint64_t now_ns)
{
    struct broker *b = victim->broker;

    log_client(LOG_MODELS, LOG_INFO, "model %s: makes room for %s", victim->name, for_whom->name);
    swaps_count(&b->residency.swaps, now_ns);
    model_unload(victim);
}

enum residency_room residency_make_room(struct model *m)
{
    struct broker *b = m->broker;
    const uint64_t now = clock_now_ns();
    const struct claimant claimant = {.claim = claim_of(m), .users_count = true};
    struct stat st;

    if (fstat(m->pack_fd, &st) == 0) {
        m->residency.weight_bytes = (uint64_t)st.st_size;
    }
    for (;;) {
        struct loaded l;
        look(b, &claimant, now, &l);
        const struct room_need need = need_of(m, &l, now);
        const struct room r = room_find(l.c, l.n, &need);
        const bool nobody = list_empty(&m->users) && !model_pinned(m);

        if (r.verdict == ROOM_NOW) {
            m->residency.beside_max = share_of(m, need.bytes_free);
            drain_none_but(b, NULL);
            return RESIDENCY_ROOM;
        }
        if (r.verdict == ROOM_NEVER || nobody) {
            drain_none_but(b, NULL);
            if (nobody) {
                model_forget(m); /* nobody is to make room for it */
            } else {
                refuse(m, &need, r.bytes);
            }
            return RESIDENCY_REFUSED;
        }
        if (r.verdict == ROOM_WAIT) {
            drain_none_but(b, NULL);
            wake_at(b, r.at_ns, now);
            return RESIDENCY_WAITS;
        }
        struct model *victim = l.models[r.victim];
        drain_none_but(b, victim);
        if (r.verdict == ROOM_DRAIN) {
            victim->slots.draining = true;
            return RESIDENCY_WAITS;
        }
        drop(victim, m, now);
    }
}

uint64_t residency_expected_ms(const struct model *m, uint64_t now_ns)
{
    struct loaded l;

    if (in_engine(m) || m->residency.weight_bytes == 0) {
        return 0;
    }
    const struct claimant claimant = {.claim = claim_of(m), .users_count = false};
    look(m->broker, &claimant, now_ns, &l);
    const struct room_need need = need_of(m, &l, now_ns);
    const struct room r = room_find(l.c, l.n, &need);
    if (r.verdict == ROOM_NOW) {
        return 0;
    }
    const uint64_t wait = r.verdict == ROOM_WAIT ? less(r.at_ns, now_ns) : 0;
    return wait / NS_PER_MS + m->residency.load_us / 1000;
}

/* ---- time-outs ---- */

/* When it leaves if nobody asks; UINT64_MAX: never. */
static uint64_t expires_ns(const struct model *m)
{
    const struct config *k = &m->broker->config;
    const struct model_options *o = config_model(k, strview_of(m->name));
    const uint64_t idle_s = o && o->has_idle ? o->idle_s : k->memory_idle_s;

    if (m->state != MODEL_LOADED || idle_s == 0 || model_pinned(m) || !list_empty(&m->users)) {
        return UINT64_MAX;
    }
    return m->used_ns + idle_s * NS_PER_S;
}

static void expire(struct broker *b, uint64_t now_ns)
{
    uint64_t next_ns = UINT64_MAX;

    list_for_each (m, next, &b->models, struct model, link) {
        const uint64_t at = expires_ns(m);
        if (at <= now_ns) {
            log_client(LOG_MODELS, LOG_INFO, "model %s: nobody has asked for it in time", m->name);
            b->residency.n_idle++;
            model_unload(m);
        } else if (at < next_ns) {
            next_ns = at;
        }
    }
    if (next_ns != UINT64_MAX) {
        wake_at(b, next_ns, now_ns);
    }
}

void residency_advance(struct broker *b)
{
    const uint64_t now = clock_now_ns();
    struct model *victim;

    expire(b, now);
    while (residency_charged(b) > residency_budget(b) && (victim = residency_victim(b, now))) {
        log_client(LOG_MODELS, LOG_NOTICE, "model %s: the budget of memory is passed",
                   victim->name);
        model_unload(victim);
    }
    if (!residency_next(b)) {
        drain_none_but(b, NULL);
    }
}

void residency_open(struct broker *b)
{
    struct backing_room room = {0};

    backing_memory(&room, b->sysroot);
    b->residency.memory = room.machine;
    b->residency.limit = room.limit;
    (void)uv_timer_init(b->loop, &b->residency.timer); /* cannot fail: it only fills the struct */
    b->residency.timer.data = b;
    uv_unref((uv_handle_t *)&b->residency.timer);
}

void residency_close(struct broker *b)
{
    uv_close((uv_handle_t *)&b->residency.timer, NULL);
}
