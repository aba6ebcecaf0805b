/* Unicode's normalization form C: the form in which some models have read all their text. */
#ifndef ENGINE_TEXT_NFC_H
#define ENGINE_TEXT_NFC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/strview.h"

#define NFC_RUN_BYTES_MAX 512u /* of a character with its marks; people write up to some dozens */

enum { NFC_OK = 0, NFC_HARD };

/**
 * nfc_normalize() - bring text into form C
 * @text:    n bytes, any bytes: those that are no valid UTF-8 stay, what lies between is normalized
 * @scratch: emptied, then filled when the text is not in form C already; its ceiling bounds the
 *           result, which has up to three times the text's bytes
 * @ret:     the text itself when it is in form C already, else what scratch holds
 *
 * Time is linear in the text. Return: NFC_OK; NFC_HARD: one character has more than
 * NFC_RUN_BYTES_MAX bytes of marks (putting marks in order takes time that grows with the square);
 * -ENOMEM; -E2BIG.
 */
MUST_USE int nfc_normalize(struct buf *scratch, const char *text, size_t n, struct strview *ret);

/** nfc_begins() - can no character before c be reordered or composed with it? (false: perhaps) */
bool nfc_begins(uint32_t c);

#endif
