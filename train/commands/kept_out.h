/* Sentences that are for measuring alone, and that no row may therefore have: known by hashes, so
 * that they need not be at hand. */
#ifndef TRAIN_COMMANDS_KEPT_OUT_H
#define TRAIN_COMMANDS_KEPT_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/strview.h"
#include "train/commands/grammar.h"

#define KEPT_OUT_TEXT_MAX ((size_t)16 << 20) /* bytes of a file */

struct kept_out {
    uint64_t *hashes; /* (n), rising; owned */
    size_t n;
};

/**
 * kept_out_hash() - FNV-1a of a sentence's normal form
 *
 * Letters of one size, no apostrophes and no articles or "my", "our", "your"; all other marks part
 * words, with one space between; number words up to ninety-nine as digits.
 */
uint64_t kept_out_hash(const char *text, size_t n);

/**
 * kept_out_parse() - hashes: sixteen small hexadecimal digits a line, # begins a comment
 *
 * Return: GRAMMAR_OK; GRAMMAR_SYNTAX or GRAMMAR_LIMIT with the line; or -ENOMEM. @k is to be
 * deinited either way.
 */
MUST_USE int kept_out_parse(struct kept_out *k, struct strview text,
                            struct grammar_fault *ret_fault);
/** kept_out_read() - the same of a file: also a negative errno, if it cannot be read */
MUST_USE int kept_out_read(struct kept_out *k, const char *path, struct grammar_fault *ret_fault);
void kept_out_deinit(struct kept_out *k);

bool kept_out_has(const struct kept_out *k, const char *text, size_t n);

#endif
