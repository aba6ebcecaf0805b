/* Memory that held somebody's words, given back empty: the next owner of the bytes, and whoever
 * looks into freed memory, finds nothing of them. */
#ifndef BASE_WIPE_H
#define BASE_WIPE_H

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/** wipe() - n zeros, which no compiler leaves out; p may be NULL when n is 0 */
static inline void wipe(void *p, size_t n)
{
    if (n > 0) {
        explicit_bzero(p, n);
    }
}

/** wipe_free() - zeros, then free(); NULL is fine */
static inline void wipe_free(void *p, size_t n)
{
    wipe(p, p ? n : 0);
    free(p);
}

#endif
