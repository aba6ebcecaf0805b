/* Requests sent to a daemon in order to be timed: connections, requests, and what was seen of
 * each. */
#ifndef CLIENT_CLI_LOAD_H
#define CLIENT_CLI_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/cli/cli.h"
#include "client/cli/stats.h"

#define LANES_MAX 8u /* connections of one load */

struct load;

enum cancel_at { CANCEL_NEVER, CANCEL_WAITING, CANCEL_PREFILL, CANCEL_DECODE };

/* One request. Fill "asked", zero the rest, load_fire() it; it must stay where it is until it has
 * ended. Times are CLOCK_MONOTONIC in nanoseconds; 0: has not happened. */
struct shot {
    /* asked */
    uint32_t prompt, answer; /* tokens, exactly; the answer goes on past the model's end */
    enum onebit_class request_class;
    uint64_t seed;   /* of the prompt's ids: the same seed and length give the same prompt */
    bool reuse;      /* the daemon may reuse what it has computed, and keep this for later */
    uint64_t due_ns; /* when it should be sent, in an open loop; 0: when it is */
    enum cancel_at cancel_at;
    void (*on_end)(struct shot *s, void *user); /* NULL: nobody; may fire the shot anew */
    void *user;                                 /* borrowed; for on_end */

    /* seen */
    struct load *load; /* borrowed */
    size_t lane;
    uint32_t id;
    uint64_t sent_ns, accepted_ns, prefill_ns, first_ns, last_ns, cancelled_ns, end_ns;
    uint32_t n_tokens;
    struct sample gaps; /* milliseconds from one token to the next; owned */
    uint64_t digest;    /* of the answer's ids, in order (FNV-1a, 64 bits) */
    bool flying;        /* sent, and not ended */
    int code;           /* how it ended: 0, or as onebit_failure.code */
    uint32_t retry_after_ms, cached_tokens;
    uint64_t queue_us;
};

void shot_deinit(struct shot *s);

/** shot_forget() - back to before it was fired; what was asked, and the memory of gaps, stay */
void shot_forget(struct shot *s);

/** shot_first_ms() - from when it was due, or sent, to its first token; NAN: it had none */
double shot_first_ms(const struct shot *s);

/* Connections to one daemon, each of them a client. */
struct load {
    struct talk *talk;                    /* borrowed: its signals end every wait */
    const char *socket, *model;           /* borrowed; NULL: the default */
    struct onebit_conn *lanes[LANES_MAX]; /* owned; NULL: not open */
    json_t *what; /* what computed the first answer: model, formats, quantization, kv, cpu; owned */
    int error;    /* exit code of what ended the load and has been said; 0: none */
    bool crowded; /* a full queue is an answer like any other; else it ends the load */
};

void load_init(struct load *l, struct talk *t, const char *socket, const char *model);
void load_deinit(struct load *l); /* closes everything; shots in flight just end in the daemon */

/** load_open() - connect a lane: 0 or an exit code, said */
MUST_USE int load_open(struct load *l, size_t lane);

/** load_close() - disconnect a lane; the daemon cancels its shots, whose callbacks run no more */
void load_close(struct load *l, size_t lane);

/** load_fire() - send a shot, on a lane that is opened where it is not: 0, -EAGAIN (the connection
 * has all it may have), or an exit code, said */
MUST_USE int load_fire(struct load *l, size_t lane, struct shot *s);

/** load_turn() - handle what comes until something came or this time (monotonic) is there: 0, or an
 * exit code: a signal, or a connection was lost */
MUST_USE int load_turn(struct load *l, uint64_t until_ns);

/** load_sleep() - handle what comes until this time */
MUST_USE int load_sleep(struct load *l, uint64_t until_ns);

/** load_land() - until a shot has ended: 0 or an exit code. @patience_s: after that it counts as
 * lost */
MUST_USE int load_land(struct load *l, const struct shot *s, unsigned patience_s);

/** load_ask() - one of the verbs that are answered at once, while everything else goes on
 * @ret_ms:   milliseconds until the answer; NAN: this daemon does not offer it
 * @ret_json: the answer, for free(); NULL: not wanted */
MUST_USE int load_ask(struct load *l, size_t lane, enum onebit_verb verb, double *ret_ms,
                      char **ret_json);

/** load_settle() - wait, at most 10 s, until the daemon has no request */
MUST_USE int load_settle(struct load *l, size_t lane);

#endif
