/* What `onebit bench` and `onebit bench load` share. */
#ifndef CLIENT_CLI_BENCH_H
#define CLIENT_CLI_BENCH_H

#include <stddef.h>
#include <stdint.h>

#include "client/cli/cli.h"

struct load;

/** bench_lengths() - read "32,128,2000": 0, or -EINVAL (no number, out of range, more than max) */
MUST_USE int bench_lengths(const char *text, uint32_t *ret, size_t max, size_t *ret_n);

/** bench_no_memory() - say so; returns the exit code */
int bench_no_memory(void);

/** bench_number() - for JSON, to a thousandth; null for what is not finite */
json_t *bench_number(double v);

/** bench_print_what() - a line on what computed the answers */
void bench_print_what(const struct load *l);

/** bench_load() - the verb's second word: an exit code */
MUST_USE int bench_load(struct args *args);

#endif
