/* One call of `onebit-train model`: what it reads, runs and writes. */
#ifndef TRAIN_SESSION_H
#define TRAIN_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "train/args.h"
#include "train/loop/recipe.h"

struct session_options {
    struct recipe recipe; /* n_vocab, n_rows and data_hash come from the files; all of it with
                           * resume or convert */
    /* Paths; NULL where not given. */
    const char *tokenizer, *resume, *convert, *from, *out, *checkpoint, *valid;
    struct arg_texts data;
    bool skip_long;
    uint64_t checkpoint_every, valid_every; /* steps; 0: never but at the end */
    uint64_t stop_after;                    /* steps of this call; 0: all that are left */
    uint64_t report;                        /* steps between two lines */
    const char *name, *description, *license;
};

/** session_train() - train, or go on with resume. Return: an exit code, the reason printed. */
MUST_USE int session_train(const struct session_options *o);
/** session_convert() - the checkpoint o->convert to the model o->out. Return: an exit code, the
 * reason printed. */
MUST_USE int session_convert(const struct session_options *o);

#endif
