/* The engine's loop: hear what the broker says, run a step, report. It ends with the seam. */
#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "daemon/runner/confine.h"
#include "daemon/runner/runner.h"

#define NICE_COMPUTE 5 /* the broker, at 0, is served before any compute thread */

enum { EXIT_DONE = 0, EXIT_FAILED = 70 };

/* A plan names each sequence once; should it name one twice, the first place counts. */
static void plan_set(struct runner *rn, const struct seam_plan *plan)
{
    rn->n_plan = 0;
    rn->prompt_us = plan->prompt_us;
    rn->n_threads_max = plan->threads;
    engine_threads_limit(rn->engine, plan->threads);
    for (size_t i = 0; i < plan->n_run; i++) {
        bool twice = false;
        for (size_t k = 0; k < rn->n_plan && !twice; k++) {
            twice = rn->plan[k] == plan->run[i];
        }
        if (!twice) {
            rn->plan[rn->n_plan++] = plan->run[i];
        }
    }
}

static void carry_out(struct runner *rn, struct seam_item *item)
{
    const struct seam_message *m = &item->msg;
    struct sequence *s;

    switch (m->type) {
    case SEAM_LOAD:
        resident_load(rn, item);
        break;
    case SEAM_DROP:
        resident_drop(rn, m->drop);
        break;
    case SEAM_PUBLIC:
        resident_publish(rn, &m->public_);
        break;
    case SEAM_GIVE_BACK:
        give_back(rn, &m->give_back);
        break;
    case SEAM_SPILL:
        resident_spill(rn, item);
        break;
    case SEAM_START:
        sequence_start(rn, &m->start);
        break;
    case SEAM_PLAN:
        plan_set(rn, &m->plan);
        break;
    case SEAM_MEASURE:
        memory_ask(rn, m->measure);
        break;
    case SEAM_CANCEL:
        s = sequence_find(rn, m->cancel);
        if (s) {
            sequence_forget(rn, s);
        }
        break;
    default: /* the reader lets no other type through */
        break;
    }
}

/* Everything the broker has said so far; waits for something when there is nothing else to do. */
static int hear(struct runner *rn)
{
    bool wait = !steps_work(rn) && !tuning_work(rn);
    struct seam_item *item = NULL;
    int r;

    if (wait) {
        pulse_set(rn->pulse, PULSE_IDLE, 0);
    }
    while ((r = seam_io_take(rn->io, wait, &item)) == SEAM_IO_ITEM) {
        const bool starts = item->msg.type == SEAM_START;
        pulse_set(rn->pulse, PULSE_ORDER, starts ? item->msg.start.seq : 0);
        carry_out(rn, item);
        seam_item_free(item);
        wait = false;
    }
    residents_collect(rn);
    return r;
}

static int run(struct runner *rn)
{
    memory_begin(rn);
    report_hello(rn);
    report_flush(rn);
    while (rn->error == 0) {
        const int r = hear(rn);
        if (r == SEAM_IO_CLOSED) {
            return EXIT_DONE;
        }
        if (r == SEAM_IO_BROKEN) {
            log_line(LOG_ERROR, "the broker sent what is no frame of the seam");
            return EXIT_FAILED;
        }
        if (steps_work(rn)) {
            steps_run(rn);
        } else if (tuning_work(rn)) {
            pulse_set(rn->pulse, PULSE_TUNE, 0);
            tuning_run(rn);
        }
        residents_spill(rn);
        give_back_idle(rn);
        report_stats(rn, !steps_work(rn), clock_now_ns());
        memory_report(rn, !steps_work(rn), clock_now_ns());
        report_flush(rn);
    }
    if (rn->error == -EPIPE || rn->error == -ECONNRESET) {
        return EXIT_DONE; /* the broker is gone */
    }
    log_line(LOG_ERROR, "cannot report to the broker: %s", strerror(-rn->error));
    return EXIT_FAILED;
}

static void runner_deinit(struct runner *rn)
{
    for (size_t i = 0; i < SEQUENCES_MAX; i++) {
        if (rn->sequences[i]) {
            sequence_forget(rn, rn->sequences[i]);
        }
    }
    residents_free(rn);
    engine_free(rn->engine);
    seam_io_close(rn->io);
    buf_deinit(&rn->out);
    buf_deinit(&rn->text);
}

/* The engine has its files open and no thread runs yet. The seam's reader, started here, keeps our
 * priority. */
static int before_threads(void *arg)
{
    struct runner *rn = arg;

    rn->confined = confine(CONFINE_ENGINE);
    const int r = seam_io_open(&rn->io, rn->seam_fd);
    (void)setpriority(PRIO_PROCESS, 0, NICE_COMPUTE); /* this thread and those it starts */
    return r;
}

int loop_main(const struct runner_options *options, const struct runner_hooks *hooks)
{
    static struct pulse unseen;
    struct runner rn = {.hooks = hooks,
                        .pulse = options->pulse ? options->pulse : &unseen,
                        .seam_fd = options->seam_fd,
                        .step_tokens_max = options->step_tokens_max,
                        .n_threads = options->n_threads};
    const struct engine_options engine = {.cpu = options->cpu,
                                          .n_threads = options->n_threads,
                                          .n_threads_most = options->n_threads_most,
                                          .before_threads = before_threads,
                                          .arg = &rn};
    int status = EXIT_FAILED;

    buf_init(&rn.out, OUT_BYTES_MAX);
    buf_init(&rn.text, FRAME_SEAM_BODY_MAX / 2);
    guard_init();
    const int r = engine_new(&rn.engine, &engine);
    if (r == 0) {
        status = run(&rn);
    } else {
        log_line(LOG_ERROR, "cannot start: %s", strerror(-r));
    }
    if (residents_loading(&rn)) {
        _exit(status); /* a loader deep in a slow read is not worth waiting for */
    }
    runner_deinit(&rn);
    return status;
}
