/* Guesses at what comes next, out of what has been: a text that repeats itself, or a prompt that
 * holds what is asked for, often goes on as it did before. A step that runs the guesses as well
 * tells which of them are right, at little more than the price of one token; what is sampled is the
 * same with and without. */
#ifndef ENGINE_DRAFT_H
#define ENGINE_DRAFT_H

#include <stddef.h>
#include <stdint.h>

struct seq;

#define DRAFT_MAX 16u      /* guesses in one step of a sequence */
#define DRAFT_LOOK 8192u   /* tokens looked back */
#define DRAFT_MATCH_MIN 2u /* tokens that must be the same for what follows to be guessed */
#define DRAFT_MATCH_MAX 8u /* more than so many make nothing surer */

/**
 * draft_find() - the tokens that followed where the last ones stood before
 * @ids: the n tokens so far
 * @ret: room for n_max guesses
 *
 * Of the places where the longest run of last tokens stands, up to DRAFT_MATCH_MAX, the latest.
 * What follows may reach into the last tokens themselves: then it goes round.
 * Return: guesses, 0..n_max; 0 where fewer than DRAFT_MATCH_MIN tokens are found again.
 */
size_t draft_find(const int32_t *ids, size_t n, int32_t *ret, size_t n_max);

/* How many guesses are worth making, by what became of the last ones. Zeroed: not known yet. */
struct draft_luck {
    uint32_t n;    /* guesses next time, where that is known */
    uint32_t rest; /* steps without any, before the next try */
    uint32_t bad;  /* tries in a row that came to nothing */
};

/** draft_ask() - guesses for the next step, 0..n_max: all at first */
size_t draft_ask(struct draft_luck *l, size_t n_max);
/** draft_learn() - of `made` guesses, at least one, so many were right */
void draft_learn(struct draft_luck *l, size_t made, size_t right);

/** seq_accept() - of the guesses of seq's last step (step_item.n_drafts) the first n, these ids,
 * were right: their positions count like any other from here on. Others never do, and nobody finds
 * them. Nothing may have been done to seq since. */
void seq_accept(struct seq *seq, const int32_t *ids, size_t n);

#endif
