/* utf8: one table-free decoder in two tempers. The strict one follows the table of well-formed
 * sequences in the Unicode standard (3-7); the lax one takes the bits at their word. */
#include "engine/text/utf8.h"

int utf8_check(const uint8_t *p, size_t n)
{
    const uint8_t b = p[0];
    uint8_t low = 0x80, high = 0xbf; /* what the second byte may be */
    int len;

    if (b < 0x80) {
        return 1;
    }
    if (b < 0xc2 || b > 0xf4) {
        return -1;
    }
    len = b < 0xe0 ? 2 : b < 0xf0 ? 3 : 4;
    if (b == 0xe0) {
        low = 0xa0;
    } else if (b == 0xed) {
        high = 0x9f;
    } else if (b == 0xf0) {
        low = 0x90;
    } else if (b == 0xf4) {
        high = 0x8f;
    }
    for (int i = 1; i < len; i++) {
        if ((size_t)i == n) {
            return 0;
        }
        if (p[i] < low || p[i] > high) {
            return -i;
        }
        low = 0x80;
        high = 0xbf;
    }
    return len;
}

bool utf8_valid(const char *text, size_t n)
{
    const uint8_t *p = (const uint8_t *)text;

    while (n > 0) {
        const int k = utf8_check(p, n);
        if (k <= 0) {
            return false;
        }
        p += k;
        n -= (size_t)k;
    }
    return true;
}

uint32_t utf8_decode(const uint8_t *p, unsigned *ret_n)
{
    if (p[0] < 0x80) {
        *ret_n = 1;
        return p[0];
    }
    if (p[0] < 0xe0) {
        *ret_n = 2;
        return (uint32_t)(p[0] & 0x1f) << 6 | (p[1] & 0x3f);
    }
    if (p[0] < 0xf0) {
        *ret_n = 3;
        return (uint32_t)(p[0] & 0x0f) << 12 | (uint32_t)(p[1] & 0x3f) << 6 | (p[2] & 0x3f);
    }
    *ret_n = 4;
    return (uint32_t)(p[0] & 0x07) << 18 | (uint32_t)(p[1] & 0x3f) << 12 |
           (uint32_t)(p[2] & 0x3f) << 6 | (p[3] & 0x3f);
}

unsigned utf8_encode(uint32_t c, uint8_t *ret)
{
    if (c < 0x80) {
        ret[0] = (uint8_t)c;
        return 1;
    }
    if (c < 0x800) {
        ret[0] = (uint8_t)(0xc0 | c >> 6);
        ret[1] = (uint8_t)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        ret[0] = (uint8_t)(0xe0 | c >> 12);
        ret[1] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
        ret[2] = (uint8_t)(0x80 | (c & 0x3f));
        return 3;
    }
    ret[0] = (uint8_t)(0xf0 | c >> 18);
    ret[1] = (uint8_t)(0x80 | (c >> 12 & 0x3f));
    ret[2] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
    ret[3] = (uint8_t)(0x80 | (c & 0x3f));
    return 4;
}

uint32_t utf8_lax(const uint8_t *p, size_t n, unsigned *ret_n)
{
    const uint8_t b = p[0];
    const unsigned len = b < 0x80   ? 1
                         : b < 0xc0 ? 0
                         : b < 0xe0 ? 2
                         : b < 0xf0 ? 3
                         : b < 0xf8 ? 4
                                    : 0;
    uint32_t c;

    *ret_n = 1;
    if (len == 0 || len > n) {
        return 0xfffd;
    }
    for (unsigned i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0xfffd;
        }
    }
    c = utf8_decode(p, ret_n);
    if (c > 0x10ffff) {
        *ret_n = 1;
        return 0xfffd;
    }
    return c;
}
