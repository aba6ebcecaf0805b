/* The daemon's figures: counters and histograms in bounded sets of labels. Pure code: time comes as
 * an argument, and what is a state rather than a history (a queue's length, bytes in use) comes as
 * `struct metrics_now` when the text is written (metrics_text.h).
 *
 * Labels are a model's name, a class, the name of an error and the kind of a limit, nothing else:
 * no peer can make a series of its own, and nothing of a prompt, an answer or an identity gets
 * in. */
#ifndef BROKER_METRICS_H
#define BROKER_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/broker/bucket.h"
#include "daemon/broker/config.h"
#include "ipc/error.h"
#include "ipc/message.h"
#include "ipc/seam.h"

#define METRICS_MODELS_MAX 16u           /* models with figures of their own */
#define METRICS_OTHER METRICS_MODELS_MAX /* the slot of all others, and of requests without one */
#define METRICS_SLOTS (METRICS_MODELS_MAX + 1u)
#define METRICS_BOUNDS 14u      /* bounds of a histogram, without +Inf */
#define METRICS_LEARN_STEPS 64u /* steps that make a baseline */

enum metrics_time { TIME_FIRST_TOKEN, TIME_BETWEEN_TOKENS, TIME_QUEUE, METRICS_TIMES };

/* One bound of a histogram, as it is compared and as it is written. */
struct metrics_bound {
    uint64_t ns;
    const char *le; /* seconds */
};
extern const struct metrics_bound metrics_bounds[METRICS_TIMES][METRICS_BOUNDS];

struct histogram {
    uint64_t n[METRICS_BOUNDS + 1]; /* not yet summed up; the last one: above every bound */
    uint64_t sum_ns;
};

struct metrics_class {
    uint64_t outcomes[ERR_CODES]; /* ends of requests; ERR_NONE: answered */
    uint64_t tokens, prompt_tokens, cached_tokens;
    struct histogram times[METRICS_TIMES];
};

/* Steps that gave a token each to so many streams and did nothing else. */
struct metrics_step {
    uint32_t n;        /* up to METRICS_LEARN_STEPS */
    float mean_us;     /* of the last ones, weighted towards the latest */
    float baseline_us; /* the lowest that mean has been; 0: still learning */
};

struct metrics_model {
    char name[MODEL_NAME_MAX + 1];
    struct metrics_class classes[CLASSES];
    struct metrics_step steps[SEAM_STREAMS_MAX + 1]; /* by streams */
    uint32_t streams;                                /* of the last step with a baseline; 0: none */
};

struct metrics {
    struct metrics_model *models[METRICS_SLOTS]; /* owned; NULL: no such slot yet */
    uint64_t n_accepted;                         /* connections */
    uint64_t conn_errors[ERR_CODES];             /* connections ended for their own fault */
    uint64_t limited[RATE_LIMITS];               /* requests refused by a rate limit */
    uint64_t n_shed; /* connections closed because all output together passed its bound */
    uint64_t n_scrapes;
    bool up;        /* the engine answers */
    uint64_t up_ns; /* how long it has, up to `since_ns` */
    uint64_t since_ns;
};

void metrics_init(struct metrics *m, uint64_t now_ns);
void metrics_deinit(struct metrics *m); /* a zeroed one is fine */

/**
 * metrics_slot() - the slot of a model, made when there is room; else METRICS_OTHER
 * @name: of a model that is configured or has been loaded: a name that a client made up belongs to
 *        METRICS_OTHER. NULL or empty: METRICS_OTHER.
 *
 * A slot is never given up: a counter that vanished and came back would look like a restart.
 */
size_t metrics_slot(struct metrics *m, const char *name);

/* Each counts once. Slots and classes in range. Without memory for a slot nothing is counted. */
void metrics_request(struct metrics *m, size_t slot, enum request_class c, enum error_code code);
void metrics_prompt(struct metrics *m, size_t slot, enum request_class c, uint64_t prompt_tokens,
                    uint64_t cached_tokens);
void metrics_tokens(struct metrics *m, size_t slot, enum request_class c, uint64_t n);
/** metrics_time() - n times that took ns each */
void metrics_time(struct metrics *m, size_t slot, enum request_class c, enum metrics_time t,
                  uint64_t ns, uint64_t n);

/** metrics_step() - the engine took one step that was for `streams` answers alone */
void metrics_step(struct metrics *m, size_t slot, uint32_t streams, uint64_t us);
/** metrics_step_now() - the step time of late and its baseline; NULL: not learnt yet */
const struct metrics_step *metrics_step_now(const struct metrics *m, size_t slot);

/** metrics_engine() - the engine answers, or does not any more */
void metrics_engine(struct metrics *m, bool up, uint64_t now_ns);
/** metrics_up_ns() - how long the engine has answered since metrics_init() */
uint64_t metrics_up_ns(const struct metrics *m, uint64_t now_ns);

#endif
