/* Residency: which models are in the engine, within one budget of bytes and a number of places; who
 * comes next, who goes, who waits for how long. What is chosen is victim.h's and budget.h's pure
 * code; here it is applied to the broker's models. */
#ifndef BROKER_RESIDENCY_H
#define BROKER_RESIDENCY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/compiler.h"
#include "daemon/broker/victim.h"

struct broker;
struct model;
struct request;

/* Of all models. */
struct residency {
    uv_timer_t timer;       /* the next time-out, or the end of a wait */
    struct swaps swaps;     /* loads that made another model leave */
    uint64_t n_packs_lost;  /* times that a packed file changed under the engine */
    uint64_t n_sources_new; /* times that a model came from another file than before */
    uint64_t n_kv_cuts;     /* times that a model was given half of its KV for the next load */
    uint64_t n_idle;        /* models that left because nobody had asked for them for so long */
    uint64_t memory, limit; /* of the machine and of the cgroup, as of the start */
};

/* Of one model. */
struct model_residency {
    struct use use;
    uint64_t loaded_ns;        /* when its load ended */
    uint64_t load_us;          /* what its last load took; 0: it had none */
    uint64_t weight_bytes;     /* of its packed file; 0: not known yet */
    uint64_t beside_max;       /* KV and scratch, when it is loaded next */
    uint64_t kv_max;           /* of its KV pool when it is loaded next; 0: as configured */
    uint64_t beside_floor;     /* that it was found to need */
    uint64_t left_ns[CLASSES]; /* when a request of the class last ended; 0: none did */
};

void residency_open(struct broker *b);
void residency_close(struct broker *b);

/**
 * residency_victim() - the loaded model that is cheapest to lose; model_unload() then does it
 *
 * Never one that is pinned, or that a request uses or waits for. NULL: there is none. How long it
 * has been there does not count: whoever asks has a reason that cannot wait.
 */
MUST_USE struct model *residency_victim(struct broker *b, uint64_t now_ns);

/** residency_budget() - bytes that everything together may take that the daemon answers for */
uint64_t residency_budget(const struct broker *b);
/** residency_charged() - of these, what models and the broker's own tables take now */
uint64_t residency_charged(const struct broker *b);
/** residency_charge() - of these, what one loaded model takes: weights, KV pool, scratch */
uint64_t residency_charge(const struct model *m);

/** residency_asked() - a request for the model came. @file_bytes: of its file; 0: not looked at */
void residency_asked(struct model *m, uint64_t file_bytes);
/** residency_left() - one that its model has as a user is about to end */
void residency_left(const struct request *r);
/** residency_remembered() - what is known of a model that is not loaded may be of use soon */
bool residency_remembered(const struct model *m);

/** residency_next() - the packed model that is to be loaded first, or NULL: by the class of those
 * who wait for it, then by who has waited longest */
struct model *residency_next(const struct broker *b);

enum residency_room { RESIDENCY_ROOM, RESIDENCY_WAITS, RESIDENCY_REFUSED };

/** residency_make_room() - for a packed model: there is room, and beside_max says how much beside
 * its weights; or it waits, and models_advance() asks again; or it never fits and has been
 * refused */
MUST_USE enum residency_room residency_make_room(struct model *m);

/** residency_advance() - unload what was not asked for in time, or is past the budget */
void residency_advance(struct broker *b);

/** residency_expected_ms() - until a model is loaded for which another has to leave; 0: none has
 * to, or nobody knows */
uint64_t residency_expected_ms(const struct model *m, uint64_t now_ns);

#endif
