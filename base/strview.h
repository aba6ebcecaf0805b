/* A borrowed run of bytes: text from a file map or a frame, without a NUL of its own. */
#ifndef BASE_STRVIEW_H
#define BASE_STRVIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct strview {
    const char *data; /* borrowed; may be NULL when n is 0 */
    size_t n;         /* bytes */
};

static inline struct strview strview_of(const char *z)
{
    return (struct strview){.data = z, .n = z ? strlen(z) : 0};
}

static inline bool strview_eq(struct strview a, struct strview b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.data, b.data, a.n) == 0);
}

static inline bool strview_is(struct strview a, const char *z)
{
    return strview_eq(a, strview_of(z));
}

static inline bool strview_starts(struct strview a, const char *z)
{
    const size_t n = strlen(z);
    return a.n >= n && (n == 0 || memcmp(a.data, z, n) == 0);
}

/** strview_copy() - as a C string into room (at least 1) bytes at @to; cut where it does not fit */
static inline void strview_copy(char *to, size_t room, struct strview from)
{
    const size_t n = from.n < room - 1 ? from.n : room - 1;

    if (n > 0) {
        memcpy(to, from.data, n);
    }
    to[n] = '\0';
}

#endif
