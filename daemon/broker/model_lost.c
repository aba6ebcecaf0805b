/* model_lost: a model's packed file was cut or written to while the engine read from it.
 *
 * The engine has dropped it by then, before a wrong number got out. What its requests have is
 * right, so they go on as after a death of the engine, but for the blame: the packed file is made
 * anew from the model's own and loaded, and each is started again with the ids it has. Requests of
 * other models do not notice. */
#include <unistd.h>

#include "daemon/broker/log.h"
#include "daemon/broker/models.h"
#include "daemon/broker/request.h"
#include "daemon/broker/sched.h"

static void begin_again(struct broker *b, const struct model *m)
{
    list_for_each (r, next, &b->queue.running, struct request, job.link) {
        if (r->model == m && r->job.held) {
            sched_forgotten(&b->sched, &r->job);
            r->restarts++;
            request_progress(r, PHASE_RESTARTING, 0, 0);
        }
    }
    b->sent.n_run = 0; /* the next plan is told whatever it is */
}

void model_on_lost(struct model *m, struct strview why)
{
    struct broker *b = m->broker;

    log_client(LOG_MODEL_FAULTS, LOG_WARNING, "model %s: the engine let go of it: %.*s", m->name,
               (int)why.n, why.data);
    b->residency.n_packs_lost++;
    if (m->pack_fd >= 0) {
        (void)close(m->pack_fd);
        m->pack_fd = -1;
    }
    m->slots.ready = false;
    m->state = MODEL_IDLE;
    m->fresh = true;
    begin_again(b, m);
    if (++m->n_lost >= MODEL_LOST_MAX) {
        const struct msg_error e = {
            .code = ERR_OVERLOADED,
            .message = strview_of("its packed file is changed again and again while it is in use")};
        m->n_lost = 0;
        model_refuse(m, &e, false);
    }
    broker_dirty(b);
}
