/* nfc: text is cut into runs, a character and the marks that follow it, which cannot act on each
 * other. So each is normalized alone, in room on the stack, and compared with what was there: text
 * in form C, which nearly all text is, is read and never copied. */
#include "engine/text/nfc.h"

#include <string.h>
#include <utf8proc.h>

#include "engine/text/utf8.h"

/* Code points of the canonical decomposition: at most three for two bytes (U+0390). */
#define POINTS_MAX (NFC_RUN_BYTES_MAX / 2 * 3)

bool nfc_begins(uint32_t c)
{
    if (c < 0x300) {
        return true;
    }
    if (c - 0x1161u < 21 || c - 0x11a8u < 27) {
        return false; /* the Hangul vowels and finals that syllables are composed of */
    }
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
        return false;
    default:
        return c - 0x16d63u >= 8; /* Kirat Rai's vowels are called letters */
    }
}

/* Is the character in form C when no mark follows? (false: perhaps) */
static bool is_stable(uint32_t c)
{
    return c < 0x300 ||
           (c >= 0xac00 && c < 0xd7a4) || /* Hangul syllables are taken apart and back */
           utf8proc_get_property((utf8proc_int32_t)c)->decomp_seqindex == UINT16_MAX;
}

/* One run [from, to) of the text: written to scratch, behind the unchanged text since *done, when
 * its form C is another. */
static int put_run(struct buf *scratch, const char *text, size_t from, size_t to, size_t *done)
{
    const utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    utf8proc_int32_t points[POINTS_MAX + 1];
    const size_t n = to - from;

    if (n > NFC_RUN_BYTES_MAX) {
        return NFC_HARD;
    }
    const utf8proc_ssize_t n_points = utf8proc_decompose(
        (const utf8proc_uint8_t *)text + from, (utf8proc_ssize_t)n, points, POINTS_MAX, options);
    if (n_points < 0 || n_points > (utf8proc_ssize_t)POINTS_MAX) {
        return NFC_HARD; /* not of a valid run of this length */
    }
    const utf8proc_ssize_t n_out = utf8proc_reencode(points, n_points, options);
    if (n_out < 0) {
        return NFC_HARD;
    }
    if ((size_t)n_out == n && memcmp(points, text + from, n) == 0) {
        return NFC_OK;
    }
    int r = buf_append(scratch, text + *done, from - *done);
    if (r == 0) {
        r = buf_append(scratch, points, (size_t)n_out);
    }
    *done = to;
    return r;
}

int nfc_normalize(struct buf *scratch, const char *text, size_t n, struct strview *ret)
{
    const uint8_t *p = (const uint8_t *)text;
    size_t from = 0, done = 0; /* where the run begins; text before `done` is in scratch */
    bool stable = true;        /* the run needs no look */
    int r = NFC_OK;

    scratch->n = 0;
    for (size_t at = 0; at < n;) {
        const int len = p[at] < 0x80 ? 1 : utf8_check(p + at, n - at);
        unsigned size = 1;
        const uint32_t c = len > 0 ? utf8_decode(p + at, &size) : 0;
        if (c < 0x300 || nfc_begins(c)) { /* a byte that is none of a character ends a run, too */
            if (!stable && (r = put_run(scratch, text, from, at, &done)) != NFC_OK) {
                return r;
            }
            from = len > 0 ? at : at + 1;
            stable = is_stable(c);
        } else {
            stable = false;
        }
        at += size;
    }
    if (!stable) {
        r = put_run(scratch, text, from, n, &done);
    }
    if (r == NFC_OK && done > 0) {
        r = buf_append(scratch, text + done, n - done);
    }
    if (r == NFC_OK) {
        *ret = done > 0 ? (struct strview){(const char *)scratch->data, scratch->n}
                        : (struct strview){text, n};
    }
    return r;
}
