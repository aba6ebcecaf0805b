/* What a person sees of a training while it runs: lines on standard error. */
#ifndef TRAIN_SHOW_H
#define TRAIN_SHOW_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "train/loop/trainer.h"

struct show {
    uint64_t every;   /* steps between two lines */
    uint64_t n_steps; /* in all */
    /* since the last line */
    struct net_loss loss;
    uint64_t tokens, steps, since_ns;
    /* since the beginning of this process */
    uint64_t first_step, begun_ns;
    bool terminal, drawn;
    uint64_t drawn_ns;
};

/** show_begin() - @at: the step that comes first; @n_steps: where it ends. Says the recipe. */
void show_begin(struct show *s, const struct recipe *recipe, uint64_t at, uint64_t n_steps,
                uint64_t every);
/** show_step() - a step was done; @step: how many are */
void show_step(struct show *s, uint64_t step, const struct step_report *report);
/** show_line() - another line, above what is drawn in place */
void show_line(struct show *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
/** show_end() - wipes away what is drawn in place */
void show_end(struct show *s);

#endif
