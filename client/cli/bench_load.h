/* `onebit bench load`: promises, and the cases that measure them. */
#ifndef CLIENT_CLI_BENCH_LOAD_H
#define CLIENT_CLI_BENCH_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/cli/cli.h"
#include "client/cli/load.h"
#include "client/cli/stats.h"

enum promise_i {
    P_BETWEEN,
    P_HIGH,
    P_CANCEL_WAITING,
    P_CANCEL_PREFILL,
    P_CANCEL_DECODE,
    P_REFUSAL,
    P_PS,
    P_STATUS,
    P_METRICS,
    P_TOTAL,
    P_SAME,
    PROMISES
};

/* What was seen of one promise: a figure and its bound from each round. */
struct promise {
    struct sample base;   /* the undisturbed case, where there is one */
    struct sample figure; /* what is promised about */
    struct sample bound;  /* what the figure may be at most, or P_TOTAL: at least */
};

enum mix_i { MIX_VOICE, MIX_CHAT, MIX_BATCH, MIXES };

/* What was seen of one kind of request in the mix, all rounds together. */
struct mix {
    struct sample first, gaps, queue;      /* milliseconds */
    uint64_t sent, ended, refused, tokens; /* tokens: of answers */
};

#define LANE_ONE 0u   /* the stream or request that is watched */
#define LANE_CROWD 1u /* everybody else */
#define LANE_ASK 2u   /* control verbs */
#define LANE_FILL 3u  /* from here: what fills the queue */

struct bout {
    struct args *args; /* borrowed */
    struct talk talk;
    struct load load, other;      /* other: of --against, lane 0 alone */
    struct dice dice;             /* for what need not come again */
    uint32_t prompt_long, answer; /* tokens */
    uint32_t n_ctx;               /* of the model */
    struct promise promises[PROMISES];
    struct mix mixes[MIXES];
    json_t *arrivals; /* owned: [round, second, kind] of everything the mix sent at its own time */
    uint32_t round;
    double mix_seconds; /* in all rounds, until the last of the timed requests ended */
    unsigned unfilled;  /* rounds in which the queue could not be filled */
    unsigned unseen;    /* rounds in which the stream ended before a long prompt was read */
};

/** promise_note() - one round's figure with its bound; NAN as base: there is none. 0 or an exit
 * code */
MUST_USE int promise_note(struct bout *b, enum promise_i p, double base, double figure,
                          double bound);

/** promise_kept() - by the medians over the rounds; false too when nothing was measured */
bool promise_kept(struct bout *b, enum promise_i p);

/** bout_dice() - for what has to be the same whenever seed and round are */
struct dice bout_dice(const struct bout *b);

/* The cases: one round each. Every lane they need is open; they leave the daemon idle. Return 0 or
 * an exit code, said. */
int case_between(struct bout *b);
int case_total(struct bout *b);
int case_same(struct bout *b);
int case_mix(struct bout *b);

/* Bits of what case_crowd() measures under full load of class low. */
enum { CROWD_HIGH = 1, CROWD_CANCEL = 2, CROWD_REFUSAL = 4, CROWD_CONTROL = 8 };
int case_crowd(struct bout *b, unsigned what);

#endif
