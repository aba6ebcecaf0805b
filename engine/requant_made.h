/* What requant_fit() hands to requant_write(). */
#ifndef ENGINE_REQUANT_MADE_H
#define ENGINE_REQUANT_MADE_H

#include <stddef.h>
#include <stdint.h>

struct requant;

/* Written: a word, as requant_method_name() gives it. */
#define REQUANT_METHOD_KEY "onebit.quantize.method"

/* Relative errors as in struct requant_tensor; < 0: unknown. */
struct requant_errors {
    double weights, rounding, outputs, rounding_outputs;
};

/** requant_forget() - as if nothing had been made */
void requant_forget(struct requant *q);

/** requant_refines() - what is encoded while writing is refined (engine/fit/grid.h) */
void requant_refines(struct requant *q);

/** requant_holds() - the file that made rows are in; owned from here on */
void requant_holds(struct requant *q, int fd);

/** requant_is_made() - tensor i's rows in its chosen format lie there from offset `at` on */
void requant_is_made(struct requant *q, size_t i, uint64_t at, const struct requant_errors *errors);

/** requant_says() - what the file says of its method; static */
void requant_says(struct requant *q, const char *method);

#endif
