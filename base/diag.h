/* What went wrong with bytes from outside, for a person: one line and where. Libraries fill it,
 * programs print it. */
#ifndef BASE_DIAG_H
#define BASE_DIAG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

struct diag {
    bool set;        /* has something been said? */
    uint64_t offset; /* bytes from the start of the input */
    char text[240];  /* NUL-terminated, printable ASCII; outside bytes appear as \xNN */
};

/**
 * diag_set() - say what is wrong; the first word stays, later ones are dropped
 * @d:      may be NULL, then nothing happens
 * @offset: bytes from the start of the input
 *
 * Bytes that are no printable ASCII are written as \xNN, so that names out of a hostile file
 * cannot drive a terminal.
 */
void diag_set(struct diag *d, uint64_t offset, const char *fmt, ...) PRINTF_LIKE(3, 4);

#endif
