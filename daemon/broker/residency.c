/* residency: the oldest of those that nobody uses goes first. */
#include "daemon/broker/residency.h"

#include <stddef.h>

#include "base/list.h"
#include "daemon/broker/broker.h"
#include "daemon/broker/models.h"

struct model *residency_victim(struct broker *b, uint64_t now_ns)
{
    struct model *oldest = NULL;

    (void)now_ns;
    list_for_each (m, next, &b->models, struct model, link) {
        if (m->state == MODEL_LOADED && list_empty(&m->users) && !model_pinned(m) &&
            (!oldest || m->used_ns < oldest->used_ns)) {
            oldest = m;
        }
    }
    return oldest;
}
