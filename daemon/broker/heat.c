/* heat: a look is too hot, warm, or cool by a margin; the level follows. */
#include "daemon/broker/heat.h"

#include "base/clock.h"

#define WARM_ROOM_MC 5000   /* below the kernel's own limit */
#define HOT_MORE_MC 5000    /* above warm_c */
#define COOL_MARGIN_MC 3000 /* below what made it warm or hot */

const char *heat_level_name(enum heat_level level)
{
    static const char *const names[HEAT_LEVELS] = {"cool", "warm", "hot"};

    return names[level];
}

/* Is it so hot, or has the firmware slowed down? @above: of warm_c; @room: to the kernel's limit */
static bool beyond(const struct heat_look *l, const struct heat_rules *r, int32_t above,
                   int32_t room)
{
    if (l->has_flags && (l->flags & FIRMWARE_SLOWED)) {
        return true;
    }
    return (l->has_temp && r->warm_c > 0 &&
            (int64_t)l->temp_mc >= (int64_t)r->warm_c * 1000 + above) ||
           (l->has_room && l->room_mc <= room);
}

/* @margin: cooler than that it must be not to be so any more */
static bool warm(const struct heat_look *l, const struct heat_rules *r, int32_t margin)
{
    return beyond(l, r, -margin, WARM_ROOM_MC + margin);
}

static bool hot(const struct heat_look *l, const struct heat_rules *r, int32_t margin)
{
    return beyond(l, r, HOT_MORE_MC - margin, margin);
}

static void enter(struct heat *h, enum heat_level level, uint64_t now_ns)
{
    h->level = level;
    h->n[level]++;
    h->cool_ns = 0;
    if (level < HEAT_HOT) {
        h->threads = 0;
    }
    if (h->hot_ns) {
        h->hot_ns = now_ns;
    }
}

static bool half_the_threads(struct heat *h, const struct heat_rules *rules)
{
    const uint32_t now = h->threads ? h->threads : rules->threads;

    if (now <= 1) {
        return false;
    }
    h->threads = now / 2;
    return true;
}

/* Too hot for long enough: one step further. */
static bool go_up(struct heat *h, const struct heat_rules *rules, uint64_t now_ns)
{
    if (h->level < HEAT_HOT) {
        enter(h, HEAT_HOT, now_ns);
        (void)half_the_threads(h, rules);
        return true;
    }
    h->hot_ns = now_ns;
    return half_the_threads(h, rules);
}

bool heat_step(struct heat *h, const struct heat_look *look, const struct heat_rules *rules,
               uint64_t now_ns)
{
    const bool is_hot = hot(look, rules, 0);
    bool changed = false;

    h->hot_ns = !is_hot ? 0 : h->hot_ns ? h->hot_ns : now_ns;
    if (h->level == HEAT_COOL && warm(look, rules, 0)) {
        enter(h, HEAT_WARM, now_ns);
        changed = true;
    }
    if (is_hot && now_ns - h->hot_ns >= rules->hot_ms * NS_PER_MS) {
        return go_up(h, rules, now_ns) || changed;
    }
    const bool stays = h->level == HEAT_HOT    ? hot(look, rules, COOL_MARGIN_MC)
                       : h->level == HEAT_WARM ? warm(look, rules, COOL_MARGIN_MC)
                                               : true;
    h->cool_ns = stays ? 0 : h->cool_ns ? h->cool_ns : now_ns;
    if (!stays && now_ns - h->cool_ns >= rules->cool_ms * NS_PER_MS) {
        enter(h, (enum heat_level)(h->level - 1), now_ns);
        changed = true;
    }
    return changed;
}
