/* victim: see the header for what a model is worth. What was chosen to drain stays chosen, else two
 * models of nearly the same worth would each be closed in turn and neither ever leave. */
#include "daemon/broker/victim.h"

#include <assert.h>
#include <math.h>

#include "base/clock.h"

#define MINUTE_NS (60 * NS_PER_S)
#define USE_LEAST 0.01 /* of a model that nobody has asked for yet */

static double decayed(const struct use *u, uint64_t now_ns)
{
    const uint64_t age = now_ns > u->at_ns ? now_ns - u->at_ns : 0;

    return u->n * exp2(-(double)age / ((double)USE_HALF_LIFE_S * (double)NS_PER_S));
}

void use_count(struct use *u, uint64_t now_ns)
{
    u->n = decayed(u, now_ns) + 1;
    u->at_ns = now_ns;
}

double use_now(const struct use *u, uint64_t now_ns)
{
    return fmax(decayed(u, now_ns), USE_LEAST);
}

uint64_t stay_ns(uint64_t load_us, uint64_t stay_max_ns)
{
    const uint64_t quick =
        load_us < UINT64_MAX / (1000 * STAY_LOADS) ? load_us * 1000 * STAY_LOADS : UINT64_MAX;

    return quick < stay_max_ns ? quick : stay_max_ns;
}

static bool out_of_patience(const struct claim *c, uint64_t now_ns)
{
    return c->since_ns <= now_ns && now_ns - c->since_ns >= CLAIM_PATIENCE_S * NS_PER_S;
}

bool claim_before(const struct claim *a, const struct claim *b, uint64_t now_ns)
{
    const enum request_class of_a = out_of_patience(a, now_ns) ? CLASS_HIGH : a->class_;
    const enum request_class of_b = out_of_patience(b, now_ns) ? CLASS_HIGH : b->class_;

    return of_a != of_b ? of_a > of_b : a->since_ns < b->since_ns;
}

uint64_t standing_ns(const struct standing *s, const struct claim *c, uint64_t stay,
                     uint64_t now_ns)
{
    uint64_t until = 0;

    if (out_of_patience(c, now_ns) || c->since_ns > now_ns) {
        return 0;
    }
    const uint64_t at_most = c->since_ns + CLAIM_PATIENCE_S * NS_PER_S;
    if (s->used_by > (int)c->class_) {
        return at_most;
    }
    for (int k = (int)c->class_ + 1; k < (int)CLASSES; k++) {
        const uint64_t end = s->left_ns[k] > 0 ? s->left_ns[k] + stay : 0;
        until = end > until ? end : until;
    }
    return until < at_most ? until : at_most;
}

uint64_t swaps_wait_ns(const struct swaps *s, uint64_t per_minute, uint64_t now_ns)
{
    assert(per_minute <= SWAPS_MAX);

    if (per_minute == 0) {
        return UINT64_MAX;
    }
    if (s->n < per_minute) {
        return 0;
    }
    const uint64_t first = s->at_ns[(s->next + SWAPS_MAX - per_minute) % SWAPS_MAX];
    return now_ns - first >= MINUTE_NS ? 0 : first + MINUTE_NS - now_ns;
}

void swaps_count(struct swaps *s, uint64_t now_ns)
{
    s->at_ns[s->next] = now_ns;
    s->next = (s->next + 1) % SWAPS_MAX;
    s->n += s->n < SWAPS_MAX;
    s->n_ever++;
}

double worth_of(uint64_t load_us, const struct use *u, uint64_t bytes, uint64_t now_ns)
{
    return (double)(load_us > 0 ? load_us : 1) * use_now(u, now_ns) /
           (double)(bytes > 0 ? bytes : 1);
}

/* Among those that `may` says: one that is enough by itself before others, then the least worth. */
static size_t least(const struct candidate *c, size_t n, uint64_t enough,
                    bool (*may)(const struct candidate *, uint64_t), uint64_t now_ns)
{
    size_t best = n;

    for (size_t i = 0; i < n; i++) {
        if (c[i].pinned || !may(&c[i], now_ns)) {
            continue;
        }
        const bool alone = c[i].bytes >= enough;
        const bool best_alone = best < n && c[best].bytes >= enough;
        if (best == n || (alone && !best_alone) ||
            (alone == best_alone && c[i].worth < c[best].worth)) {
            best = i;
        }
    }
    return best;
}

/* Nothing runs of it: that some wait is no hindrance where it was to drain. */
static bool leaves(const struct candidate *c, uint64_t now_ns)
{
    return !c->held && (!c->used || c->draining) && c->until_ns <= now_ns;
}

static bool drains(const struct candidate *c, uint64_t now_ns)
{
    return c->draining && c->until_ns <= now_ns;
}

static bool stayed(const struct candidate *c, uint64_t now_ns)
{
    return c->until_ns <= now_ns;
}

static bool idle(const struct candidate *c, uint64_t now_ns)
{
    return !c->used && !c->held && c->until_ns <= now_ns;
}

size_t victim_idle(const struct candidate *c, size_t n, uint64_t now_ns)
{
    return least(c, n, 0, idle, now_ns);
}

/* Would it do if all went that may? Fills in what there would be. */
static bool possible(const struct candidate *c, size_t n, const struct room_need *need,
                     struct room *ret)
{
    size_t places = need->places_free;

    ret->bytes = need->bytes_free;
    for (size_t i = 0; i < n; i++) {
        if (!c[i].pinned) {
            ret->bytes += c[i].bytes;
            places++;
        }
    }
    return ret->bytes >= need->bytes && places > 0;
}

struct room room_find(const struct candidate *c, size_t n, const struct room_need *need)
{
    struct room r = {.verdict = ROOM_NOW, .victim = n};

    if (need->bytes_free >= need->bytes && need->places_free > 0) {
        return r;
    }
    if (!possible(c, n, need, &r)) {
        r.verdict = ROOM_NEVER;
        return r;
    }
    if (need->swap_wait_ns == UINT64_MAX) {
        r.verdict = ROOM_NEVER;
        r.bytes = need->bytes_free;
        return r;
    }
    if (need->swap_wait_ns > 0) {
        r.verdict = ROOM_WAIT;
        r.at_ns = need->now_ns + need->swap_wait_ns;
        return r;
    }
    const uint64_t enough = need->bytes > need->bytes_free ? need->bytes - need->bytes_free : 0;
    r.verdict = ROOM_DROP;
    r.victim = least(c, n, enough, leaves, need->now_ns);
    if (r.victim == n) {
        r.verdict = ROOM_DRAIN;
        r.victim = least(c, n, enough, drains, need->now_ns);
    }
    if (r.victim == n) {
        r.victim = least(c, n, enough, stayed, need->now_ns);
    }
    if (r.victim == n) {
        r.verdict = ROOM_WAIT;
        r.at_ns = UINT64_MAX;
        for (size_t i = 0; i < n; i++) {
            if (!c[i].pinned && c[i].until_ns < r.at_ns) {
                r.at_ns = c[i].until_ns;
            }
        }
    }
    return r;
}
