/* How a model's weights are held in memory. */
#ifndef ENGINE_WEIGHTS_H
#define ENGINE_WEIGHTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/diag.h"
#include "base/strview.h"

struct model;

/* SHARED: the packed file's own pages, in which all processes that map it share; the system takes
 * them back and reads them again as it likes. PRIVATE: a copy of the process's own in huge pages,
 * which is faster to read and is memory that nobody can take back. */
enum weights_backing { WEIGHTS_SHARED = 0, WEIGHTS_PRIVATE, WEIGHTS_BACKINGS };

/** weights_backing_name/_parse() - "shared", "private" */
const char *weights_backing_name(enum weights_backing backing);
MUST_USE bool weights_backing_parse(struct strview name, enum weights_backing *ret);

struct model_weights {
    enum weights_backing backing;
    uint64_t bytes;      /* of the section, in either backing */
    uint64_t huge_bytes; /* of a private copy, what came in huge pages when it was made */
};

/** model_map() - what of a model's file is read where it is mapped: whole pages, at the end of the
 * map. Nothing when the weights are a copy. Its bytes steer nothing: whatever they become, a step
 * ends, with numbers that mean nothing. */
void model_map(const struct model *model, const void **ret_at, size_t *ret_n);

/**
 * model_bring_in() - read all weights into memory and compare them with their checksum
 * @fd: what model_open_packed() opened; borrowed. Not looked at for a model of model_open_gguf(),
 *      whose scratch file a private copy takes the place of.
 *
 * For a model that no stepper uses yet. Pages of a private copy are huge where the system has some
 * to give, else small; where there is no memory for a copy at all the model stays shared.
 * Return: MODEL_OK; MODEL_MALFORMED: a wrong checksum, or the file was cut off; a negative errno,
 * -ENOMEM for no room. After a failure the model is fit for model_free() and, after -ENOMEM, for
 * another call.
 */
MUST_USE int model_bring_in(struct model *model, int fd, enum weights_backing backing,
                            struct diag *ret_diag);

void model_weights(const struct model *model, struct model_weights *ret);

#endif
