/* The 256 letters with which byte-level vocabularies write bytes: printable Latin-1 stands for
 * itself, the other 68 bytes for U+0100 and up, in order. */
#ifndef ENGINE_TEXT_LETTERS_H
#define ENGINE_TEXT_LETTERS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/compiler.h"
#include "base/strview.h"

/**
 * letters_decode() - letters back to the bytes they stand for
 * @ret: room for text.n bytes
 * Return: false when a character is no letter of the alphabet; ret is garbage then.
 */
MUST_USE bool letters_decode(struct strview text, char *ret, size_t *ret_n);

#endif
