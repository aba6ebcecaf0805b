/* Numbers as people say and write them. */
#ifndef TRAIN_COMMANDS_NUMBER_H
#define TRAIN_COMMANDS_NUMBER_H

#include <stddef.h>
#include <stdint.h>

#include "train/rng.h"

enum number_how {
    NUMBER_ANY,    /* words or digits */
    NUMBER_DIGITS, /* 25 */
    NUMBER_WORDS,  /* twenty five */
    NUMBER_HALF,   /* 21.5, twenty one and a half */
};

#define NUMBER_MAX 9999u
#define NUMBER_ROOM 96u

/**
 * number_draw() - choose a number from @lo to @hi, in a wide range a round one, and say it
 * @hi:       at most NUMBER_MAX
 * @ret_text: room for NUMBER_ROOM bytes: words with a space between them
 * @ret_value: room for 16 bytes: digits, with ".5" for NUMBER_HALF
 */
void number_draw(struct rng *rng, enum number_how how, uint32_t lo, uint32_t hi, char *ret_text,
                 char *ret_value);

/** number_word() - the value of a word of numbers: 0 to 19, or tens up to 90; -1: it is none */
int number_word(const char *word);

#endif
