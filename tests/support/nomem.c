#include "tests/support/nomem.h"

#include <stdint.h>

static size_t n_left = SIZE_MAX; /* allocations that still succeed; SIZE_MAX: all */
static _Thread_local size_t n_left_here = SIZE_MAX; /* likewise, of this thread */
static bool failed;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t each);
void *__real_realloc(void *p, size_t n);
void *__real_reallocarray(void *p, size_t n, size_t each);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t each);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_reallocarray(void *p, size_t n, size_t each);

void nomem_after(size_t n)
{
    n_left = n;
    failed = false;
}

void nomem_after_here(size_t n)
{
    n_left_here = n;
    failed = false;
}

bool nomem_off(void)
{
    if (n_left != SIZE_MAX) { /* else other threads may be reading it */
        n_left = SIZE_MAX;
    }
    n_left_here = SIZE_MAX;
    return failed;
}

static bool spend(void)
{
    if (n_left == 0 || n_left_here == 0) {
        failed = true;
        return false;
    }
    if (n_left != SIZE_MAX) {
        n_left--;
    }
    n_left_here -= n_left_here != SIZE_MAX;
    return true;
}

void *__wrap_malloc(size_t n)
{
    return spend() ? __real_malloc(n) : NULL;
}

void *__wrap_calloc(size_t n, size_t each)
{
    return spend() ? __real_calloc(n, each) : NULL;
}

void *__wrap_realloc(void *p, size_t n)
{
    return spend() ? __real_realloc(p, n) : NULL;
}

void *__wrap_reallocarray(void *p, size_t n, size_t each)
{
    return spend() ? __real_reallocarray(p, n, each) : NULL;
}
