/* config_value: numbers, sizes and switches as people write them, and nothing else: no sign, no
 * exponent, no blank inside, no value past 64 bits. */
#include "daemon/broker/config_value.h"

#include <stddef.h>
#include <string.h>

#include "base/compiler.h"

static bool digits(const char **at, unsigned base, uint64_t *ret)
{
    uint64_t v = 0;
    const char *p = *at;

    for (; *p >= '0' && *p < (char)('0' + base); p++) {
        if (__builtin_mul_overflow(v, (uint64_t)base, &v) ||
            __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v)) {
            return false;
        }
    }
    if (p == *at) {
        return false;
    }
    *at = p;
    *ret = v;
    return true;
}

bool value_uint(const char *text, uint64_t *ret)
{
    uint64_t v;

    if (!digits(&text, 10, &v) || *text != '\0') {
        return false;
    }
    *ret = v;
    return true;
}

bool value_octal(const char *text, uint64_t *ret)
{
    uint64_t v;

    if (!digits(&text, 8, &v) || *text != '\0') {
        return false;
    }
    *ret = v;
    return true;
}

bool value_bytes(const char *text, uint64_t *ret)
{
    static const char units[] = "KMG";
    uint64_t v;

    if (!digits(&text, 10, &v)) {
        return false;
    }
    const char *unit = *text ? strchr(units, *text) : NULL;
    if (unit) {
        const unsigned shift = 10u * ((unsigned)(unit - units) + 1u);
        if (v > UINT64_MAX >> shift) {
            return false;
        }
        v <<= shift;
        text++;
    }
    if (*text != '\0') {
        return false;
    }
    *ret = v;
    return true;
}

bool value_bool(const char *text, bool *ret)
{
    static const char *const yes[] = {"yes", "true", "on", "1"};
    static const char *const no[] = {"no", "false", "off", "0"};

    for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
        if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
            *ret = strcmp(text, yes[i]) == 0;
            return true;
        }
    }
    return false;
}

bool value_number(const char *text, double *ret)
{
    uint64_t whole, part = 0;
    double scale = 1;

    if (!digits(&text, 10, &whole)) {
        return false;
    }
    if (*text == '.') {
        const char *start = ++text;
        if (!digits(&text, 10, &part) || text - start > 15) {
            return false;
        }
        for (; start < text; start++) {
            scale *= 10;
        }
    }
    if (*text != '\0') {
        return false;
    }
    *ret = (double)whole + (double)part / scale;
    return true;
}
