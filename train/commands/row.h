/* One sentence with its answer, drawn from a grammar. */
#ifndef TRAIN_COMMANDS_ROW_H
#define TRAIN_COMMANDS_ROW_H

#include "train/commands/grammar.h"
#include "train/commands/kept_out.h"
#include "train/rng.h"

#define ROW_TEXT_MAX 480u    /* bytes of a sentence */
#define ROW_ANSWER_MAX 1200u /* bytes of its answer, and a NUL */
#define ROW_TEMPLATE_MAX 48u

/* What a slot was filled with. */
struct filled {
    uint16_t from, to;                 /* its words in the sentence; from == to: it has none */
    char value[GRAMMAR_VALUE_MAX + 1]; /* if not those words: what they mean */
};

struct row {
    char text[ROW_TEXT_MAX + 1]; /* the sentence, NUL-terminated */
    uint32_t n;                  /* bytes */
    unsigned intent;             /* index of intent_infos */
    uint32_t have;               /* bits of slots */
    struct filled slots[N_SLOTS];
    uint64_t template; /* hash of the frame, without what fills it */
};

enum row_split { ROW_ALL, ROW_TRAIN, ROW_VALID };

struct row_options {
    uint64_t seed;
    enum row_split split;
    uint32_t held_back; /* of a million of the templates that may be: not for training */
    const struct kept_out *kept_out; /* borrowed; or NULL */
};

/**
 * row_draw() - the row with this number; the same wherever and whenever it is asked for
 * @g: checked
 *
 * Return: GRAMMAR_OK; or GRAMMAR_STUCK with @ret_fault: no frame of the split gave an answer, or
 * one gave what the schema does not have.
 */
MUST_USE int row_draw(const struct grammar *g, const struct row_options *options, uint64_t number,
                      struct row *ret, struct grammar_fault *ret_fault);

/** row_answer() - the compact JSON; @ret: room for ROW_ANSWER_MAX bytes */
void row_answer(const struct row *row, char *ret);
/** row_template() - "INTENT/hash"; @ret: room for ROW_TEMPLATE_MAX bytes */
void row_template(const struct row *row, char *ret);
/** row_value() - what a slot of row->have says; borrowed from the row */
struct strview row_value(const struct row *row, enum slot slot);

/* ---- noise.c, of use to row.c alone ---- */

/* How a sentence is written. */
enum hand {
    HAND_PLAIN, /* small letters, but names as names are written */
    HAND_LOWER, /* small letters alone, no mark at the end */
    HAND_FULL,  /* as carefully written */
};

/** noise_hand() - chosen before the words are */
enum hand noise_hand(const struct grammar *g, struct rng *rng);
/** noise_add() - slips, repeats and the like; @filler: a word for NOISE_FILLER, or "" */
void noise_add(const struct grammar *g, struct rng *rng, struct row *row, enum hand hand,
               const char *filler);
/** noise_title() - capitals for the words from @from on, but for small ones within */
void noise_title(struct row *row, uint32_t from);

#endif
