/* pressure: the table, and what makes it steady.
 *
 * Stalls are averaged over a second, whatever the time between looks. What the kernel can drop is
 * no shortage: while two fifths of memory are there (page cache counted as there), stalls and slow
 * steps come from somebody's reading, and kills from a limit that is not ours; they raise
 * nothing. Without pressure-stall information the
 * engine's own major faults and its slow steps, together with pages that come back soon after they
 * were dropped, stand in for stalls. */
#include "daemon/broker/pressure.h"

#include <math.h>
#include <stddef.h>

#include "base/clock.h"
#include "base/compiler.h"

#define AMPLE 0.40     /* of memory: stalls are not for want of it */
#define MARGIN 0.05    /* of memory, beside an entry condition, before a level is left */
#define REFAULTS 200.0 /* a second: what was dropped is needed again */
#define WINDOW_NS NS_PER_S
#define GAP_NS (NS_PER_S + NS_PER_S / 2) /* in which counters may stand still */

enum kind { AVAILABLE, TOLD, KILLED, SOME, FULL, FAULTS, SLOW, HIGH };

/* The level is entered when the kind's figure passes `limit` for hold_ns. */
struct row {
    enum pressure_level level;
    enum kind kind;
    double limit;
    uint64_t hold_ns;
    bool gaps; /* it counts events: a look without one is no end */
    const char *cause;
};

static const struct row rows[] = {
    {PRESSURE_TRIM, AVAILABLE, 0.15, 0, false, "little memory is available"},
    {PRESSURE_TRIM, TOLD, 0, 0, false, "systemd says so"},
    {PRESSURE_TRIM, SOME, 100, 0, false, "stalls"},
    {PRESSURE_TRIM, FAULTS, 5, NS_PER_S, true, "weights are read again"},
    {PRESSURE_TRIM, SLOW, 1.5, 2 * NS_PER_S, false, "steps are slow"},
    {PRESSURE_SHED, AVAILABLE, 0.10, 0, false, "little memory is available"},
    {PRESSURE_SHED, SOME, 200, 2 * WINDOW_NS, false, "stalls"},
    {PRESSURE_SHED, FULL, 50, 0, false, "full stalls"},
    {PRESSURE_SHED, FAULTS, 50, 5 * NS_PER_S, true, "weights are read again"},
    {PRESSURE_SHED, SLOW, 4, 5 * NS_PER_S, false, "steps are slow"},
    {PRESSURE_PAUSE, AVAILABLE, 0.06, 0, false, "little memory is available"},
    {PRESSURE_PAUSE, FULL, 150, WINDOW_NS, false, "full stalls"},
    {PRESSURE_PAUSE, HIGH, 0, 2 * WINDOW_NS, true, "the cgroup is throttled"},
    {PRESSURE_SURVIVE, AVAILABLE, 0.03, 0, false, "little memory is available"},
    {PRESSURE_SURVIVE, KILLED, 0, 0, false, "the kernel has killed for memory"},
};
_Static_assert(ARRAY_SIZE(rows) <= PRESSURE_ROWS_MAX, "a place for each row's state");

const char *pressure_name(enum pressure_level level)
{
    static const char *const names[PRESSURE_LEVELS] = {"normal", "trim", "shed", "pause",
                                                       "survive"};

    return (unsigned)level < PRESSURE_LEVELS ? names[level] : "unknown";
}

static bool ample(const struct memory_look *l)
{
    return l->has_available && l->available >= AMPLE;
}

/* Does the row's figure pass its limit, with so much room to spare of available memory? */
static bool met(const struct pressure *p, const struct row *r, const struct memory_look *l,
                double margin)
{
    switch (r->kind) {
    case AVAILABLE:
        return l->has_available && l->available < r->limit + margin;
    case TOLD:
        return l->told;
    case KILLED:
        return l->oom_kills > 0 && !ample(l); /* it may have been in another's control group */
    case SOME:
        return l->has_psi && !ample(l) && p->some_ms >= r->limit;
    case FULL:
        return l->has_psi && !ample(l) && p->full_ms >= r->limit;
    case FAULTS:
        return !ample(l) && l->major_faults > r->limit;
    case SLOW:
        return !l->has_psi && !ample(l) && l->refaults >= REFAULTS && l->slow >= r->limit;
    case HIGH:
        return !ample(l) && l->high_events;
    }
    return false;
}

/* Have the row's conditions held for long enough? */
static bool entered(struct pressure *p, size_t i, const struct memory_look *l, uint64_t now_ns)
{
    struct pressure_row *s = &p->rows[i];
    const struct row *r = &rows[i];

    if (met(p, r, l, 0)) {
        s->since_ns = s->since_ns > 0 ? s->since_ns : now_ns;
        s->seen_ns = now_ns;
    } else if (!r->gaps || now_ns - s->seen_ns > GAP_NS) {
        s->since_ns = 0;
    }
    return s->since_ns > 0 && now_ns - s->since_ns >= r->hold_ns;
}

static void average(struct pressure *p, const struct memory_look *l, uint64_t now_ns)
{
    const uint64_t since_ns = p->at_ns > 0 ? now_ns - p->at_ns : WINDOW_NS;
    const double part = fmin((double)since_ns / (double)WINDOW_NS, 1);

    p->some_ms += ((l->has_psi ? l->some_ms : 0) - p->some_ms) * part;
    p->full_ms += ((l->has_psi ? l->full_ms : 0) - p->full_ms) * part;
    p->at_ns = now_ns;
}

static void rise(struct pressure *p, const struct row *r)
{
    p->level = r->level;
    p->cause = r->cause;
    p->quiet_ns = p->pressed_ns = 0;
}

enum pressure_level pressure_look(struct pressure *p, const struct memory_look *l, uint64_t now_ns,
                                  uint64_t calm_ns)
{
    bool pressed = false, near = false;

    average(p, l, now_ns);
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        if (entered(p, i, l, now_ns) && rows[i].level > p->level) {
            rise(p, &rows[i]);
        }
    }
    if (p->level == PRESSURE_NORMAL) {
        return p->level;
    }
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        const bool own = rows[i].level >= p->level;
        pressed |= own && met(p, &rows[i], l, 0);
        near |= own && (met(p, &rows[i], l, MARGIN) || p->rows[i].since_ns > 0);
    }
    p->pressed_ns = !pressed ? 0 : p->pressed_ns > 0 ? p->pressed_ns : now_ns;
    p->quiet_ns = near ? 0 : p->quiet_ns > 0 ? p->quiet_ns : now_ns;
    if (p->quiet_ns > 0 && now_ns - p->quiet_ns >= calm_ns) {
        p->level--;
        p->quiet_ns = now_ns;
        p->pressed_ns = 0;
    }
    return p->level;
}

uint64_t pressure_down_ns(const struct pressure *p, enum pressure_level to, uint64_t now_ns,
                          uint64_t calm_ns)
{
    if (p->level <= to) {
        return 0;
    }
    const uint64_t quiet_ns = p->quiet_ns > 0 && now_ns > p->quiet_ns ? now_ns - p->quiet_ns : 0;
    return (p->level - to) * calm_ns - (quiet_ns < calm_ns ? quiet_ns : calm_ns);
}
