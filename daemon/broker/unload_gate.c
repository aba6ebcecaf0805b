/* unload_gate: pressure that comes and goes has one model a minute, at whatever level. What has not
 * let up since the last one was unloaded is no such, and has the next one soon; where there is next
 * to nothing left, at once. */
#include "daemon/broker/unload_gate.h"

#include "base/clock.h"

#define EVERY_NS (60 * NS_PER_S)
#define STAYS_NS (10 * NS_PER_S)
#define SURVIVES_NS (6 * NS_PER_S) /* what ends all running work comes before that */

bool unload_gate_open(const struct pressure *p, uint64_t unloaded_ns, uint64_t now_ns)
{
    if (unloaded_ns == 0 || now_ns - unloaded_ns >= EVERY_NS) {
        return true;
    }
    if (p->pressed_ns == 0) {
        return false;
    }
    if (p->level == PRESSURE_SURVIVE && now_ns - p->pressed_ns >= SURVIVES_NS) {
        return true;
    }
    return p->pressed_ns <= unloaded_ns && now_ns - unloaded_ns >= STAYS_NS;
}
