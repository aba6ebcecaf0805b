/* engine_steps: the engine's figures go to the scheduler's model of costs, to the sensors and to
 * the metrics. */
#include "daemon/broker/engine_steps.h"

#include "daemon/broker/board.h"
#include "daemon/broker/broker.h"
#include "daemon/broker/memory_sense.h"
#include "daemon/broker/metrics_broker.h"
#include "daemon/broker/models.h"

/* The model whose steps these are, where that is known: one alone works. */
static struct model *only_one(const struct broker *b)
{
    struct slots *only = NULL;

    for (size_t i = 0; i < b->sched.n_sent; i++) {
        const struct job *j = b->sched.sent[i];
        if (j && only && only != j->slots) {
            return NULL;
        }
        only = j ? j->slots : only;
    }
    return only ? container_of(only, struct model, slots) : NULL;
}

void engine_steps(struct broker *b, const struct seam_stats *st)
{
    b->n_drafted += st->drafted - b->engine.stats.drafted;
    b->n_accepted += st->accepted - b->engine.stats.accepted;
    b->engine.stats = *st;
    struct model *m = only_one(b);
    if (m) {
        sched_step(&m->slots, st->step_streams + st->step_drafts, st->step_prompt, st->step_us);
        if (!board_warm(b)) { /* then steps are slow for another reason */
            memory_sense_step(b, m->number, st);
        }
    }
    metrics_on_stats(b);
}
