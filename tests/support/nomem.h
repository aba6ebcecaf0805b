/* Memory that runs out. Programs that build nomem.c in link with nomem_link_args, which send
 * malloc, calloc and realloc of everything linked statically through it. */
#ifndef TESTS_SUPPORT_NOMEM_H
#define TESTS_SUPPORT_NOMEM_H

#include <stdbool.h>
#include <stddef.h>

/** nomem_after() - n more allocations succeed, then all fail until nomem_off() */
void nomem_after(size_t n);

/** nomem_after_here() - likewise, but of the calling thread's allocations alone */
void nomem_after_here(size_t n);

/** nomem_off() - all succeed again; says whether one has failed */
bool nomem_off(void);

#endif
