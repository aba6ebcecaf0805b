/* Pairs of neighbours, how often each occurs, and in which words, kept right merge by merge. */
#ifndef TRAIN_BPE_PAIRS_H
#define TRAIN_BPE_PAIRS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

struct pair {
    uint32_t left, right;
    int64_t count;   /* of it in the corpus now */
    uint32_t *words; /* (n_words) owned: every word that has it, and some that had it */
    size_t n_words, words_room;
    bool barred; /* never to be merged */
};

/* Zeroed is empty. */
struct pairs {
    struct pair *at; /* (n) owned */
    size_t n, room;
    uint32_t *slots; /* (n_slots, a power of two) owned: index + 1, 0 for a free one */
    size_t n_slots;
    struct pairs_candidate {
        int64_t count;
        uint32_t i; /* of the pair */
    } * heap;       /* (n_heap) owned: best first; counts as they once were */
    size_t n_heap, heap_room;
};

void pairs_deinit(struct pairs *p);

/** pairs_find() - the pair's index, made where it is new (count 0); @ret_new: was it? 0, -ENOMEM */
MUST_USE int pairs_find(struct pairs *p, uint32_t left, uint32_t right, uint32_t *ret,
                        bool *ret_new);
/** pairs_note() - a word has the pair: 0 or -ENOMEM. A word noted last is not noted again. */
MUST_USE int pairs_note(struct pairs *p, uint32_t i, uint32_t word);
/** pairs_offer() - the pair may be merged from here on: 0 or -ENOMEM */
MUST_USE int pairs_offer(struct pairs *p, uint32_t i);
/** pairs_best() - take the pair with the largest count; false: there is none with count_min */
bool pairs_best(struct pairs *p, int64_t count_min, uint32_t *ret);

#endif
