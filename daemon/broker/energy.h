/* Energy: what the board took while the engine worked, and what of it comes to a token. Pure. */
#ifndef BROKER_ENERGY_H
#define BROKER_ENERGY_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/broker/board_files.h"

#define ENERGY_WATTS_MAX 10e3 /* more is no measurement */

struct energy {
    struct board_power last;
    uint64_t last_ns;   /* 0: no reading yet */
    bool worked;        /* the engine did, at the last reading */
    uint64_t tokens;    /* of answers, up to the last reading */
    double joules;      /* while the engine worked, ever */
    double watts;       /* at the last reading */
    double late_joules; /* of late, by weight ... */
    double late_tokens; /* ... and the tokens of that */
};

/** energy_step() - a reading. @working: the engine has work; @tokens: of answers, ever */
void energy_step(struct energy *e, const struct board_files *meters, const struct board_power *now,
                 bool working, uint64_t tokens, uint64_t now_ns);

/** energy_known() - some meter was read twice */
bool energy_known(const struct energy *e);

/** energy_per_token() - joules, of late; 0: not known */
double energy_per_token(const struct energy *e);

#endif
