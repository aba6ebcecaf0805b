/* letters: the alphabet is cut in runs, and every letter has one or two bytes in UTF-8. */
#include "engine/text/letters.h"

#include <stdint.h>

/* The byte that U+0100 + i stands for, i in 0..67: those that are not printable in Latin-1. */
static int hidden_byte(uint32_t i)
{
    if (i <= 0x20) {
        return (int)i; /* 0x00..0x20 */
    }
    if (i <= 0x42) {
        return (int)(i - 0x21 + 0x7f); /* 0x7f..0xa0 */
    }
    return i == 0x43 ? 0xad : -1;
}

static int letter_byte(uint32_t c)
{
    if (c >= 0x100) {
        return hidden_byte(c - 0x100);
    }
    if ((c >= 0x21 && c <= 0x7e) || (c >= 0xa1 && c <= 0xac) || c >= 0xae) {
        return (int)c;
    }
    return -1;
}

bool letters_decode(struct strview text, char *ret, size_t *ret_n)
{
    const uint8_t *p = (const uint8_t *)text.data;
    size_t n = 0;

    for (size_t i = 0; i < text.n; i++) {
        uint32_t c = p[i];
        if (c >= 0xc2 && c < 0xe0 && i + 1 < text.n && (p[i + 1] & 0xc0) == 0x80) {
            c = (c & 0x1f) << 6 | (p[++i] & 0x3f);
        } else if (c >= 0x80) {
            return false;
        }
        const int byte = letter_byte(c);
        if (byte < 0) {
            return false;
        }
        ret[n++] = (char)(uint8_t)byte;
    }
    *ret_n = n;
    return true;
}
