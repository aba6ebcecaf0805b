/* Small words for the compiler that every room uses. */
#ifndef BASE_COMPILER_H
#define BASE_COMPILER_H

#include <stddef.h>

#define MUST_USE __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt_i, args_i) __attribute__((format(printf, fmt_i, args_i)))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* The object that embeds `member`, from a pointer to the member. */
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#endif
