/* Holds ipc/mp.c and msgpack-c's unpacker together: two readers of one format, written apart. */
#ifndef TESTS_FUZZ_MP_DIFFERENTIAL_H
#define TESTS_FUZZ_MP_DIFFERENTIAL_H

#include <stddef.h>
#include <stdint.h>

enum mp_verdict {
    MP_BOTH_READ,    /* both read one value, of the same length and content */
    MP_BOTH_REFUSED, /* both say it is cut short or no msgpack */
    MP_NOT_COMPARED, /* our limit alone: extension, depth, a count msgpack-c would allocate */
    MP_DIFFERENT,
};

/** mp_differential() - what both make of the value at the start of n bytes */
enum mp_verdict mp_differential(const uint8_t *data, size_t n);

#endif
