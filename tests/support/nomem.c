#include "tests/support/nomem.h"

#include <stdint.h>

static size_t n_left = SIZE_MAX; /* allocations that still succeed; SIZE_MAX: all */
static bool failed;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t each);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t each);
void *__wrap_realloc(void *p, size_t n);

void nomem_after(size_t n)
{
    n_left = n;
    failed = false;
}

bool nomem_off(void)
{
    n_left = SIZE_MAX;
    return failed;
}

static bool spend(void)
{
    if (n_left == 0) {
        failed = true;
        return false;
    }
    n_left -= n_left != SIZE_MAX;
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
