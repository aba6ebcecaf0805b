/* One requant_fit() on its way: what the files of this folder share. */
#ifndef ENGINE_FIT_FIT_H
#define ENGINE_FIT_FIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/diag.h"
#include "engine/fit/rows.h"
#include "engine/fit/stream.h"
#include "engine/requant.h"
#include "engine/requant_made.h"

/* A matrix of a layer. */
struct fit_matrix {
    size_t tensor;      /* index in the requant */
    enum format format; /* what it will have */
    bool chosen;        /* and has not now */
    struct grid grid;   /* only where has_grid */
    bool has_grid;
};

struct fit {
    struct requant *q; /* borrowed, like everything that is not said to be owned */
    const struct requant_text *text;
    enum requant_method method;
    struct fit_matrix *matrices;      /* owned: (n_layer, STREAM_MATRICES) */
    struct stream stream;             /* owned: the model as it will be */
    struct stream truth;              /* owned: as it is; only with `propagate` */
    uint8_t *packed[STREAM_MATRICES]; /* owned: of the layer that is worked on */
    float *vectors[4];                /* owned: likewise, norms and a bias */
    size_t n_vectors;
    int fd;               /* the scratch file */
    uint64_t at;          /* its end */
    uint64_t done, total; /* weights */
    requant_progress_fn *progress;
    void *arg;
    struct diag *diag;
};

/** fit_of() - a matrix of a layer */
static inline struct fit_matrix *fit_of(const struct fit *f, size_t layer, size_t i)
{
    return &f->matrices[layer * STREAM_MATRICES + i];
}

/** fit_name() - of a tensor; borrowed */
const char *fit_name(const struct fit *f, size_t tensor);

/**
 * fit_floats() - a matrix as the model has it
 * @ret: on MODEL_OK, malloc'ed (n_rows, n_cols), the caller frees
 * Return: MODEL_OK; MODEL_MALFORMED for a weight that is not finite; -ENOMEM.
 */
MUST_USE int fit_floats(const struct fit *f, const struct matrix *m, const char *name, float **ret);

/** fit_round() - a matrix by the usual encoder; @ret: malloc'ed rows, the caller frees; @ret_scale:
 * of the tensor. 0 or -ENOMEM. */
MUST_USE int fit_round(const float *w, size_t n_rows, size_t n_cols, enum format format,
                       uint8_t **ret, float *ret_scale);

/** fit_pack() - rows in GGUF's form as the products read them; malloc'ed, the caller frees; NULL:
 * no memory */
uint8_t *fit_pack(enum format f, const uint8_t *rows, float scale, size_t n_rows, size_t n_cols);

/** fit_use() - the layer that is worked on has this matrix from here on. 0 or -ENOMEM. */
MUST_USE int fit_use(struct fit *f, size_t layer, size_t i, const uint8_t *rows, float scale);

/** fit_make() - the same, and the file too; @loss: what is said of it. 0 or a negative errno, or
 * MODEL_UNSUPPORTED where the weights are too large. */
MUST_USE int fit_make(struct fit *f, size_t layer, size_t i, const uint8_t *rows,
                      const struct fit_loss *loss);

/** fit_append() - n bytes to the scratch file. 0 or a negative errno. */
MUST_USE int fit_append(struct fit *f, const void *data, size_t n, uint64_t *ret_at);

/** fit_tensor() - the tensor of this name; false: there is none */
MUST_USE bool fit_tensor(const struct requant *q, const char *name, size_t *ret);

/** fit_layer_inputs() - refine, propagate and gptq: each matrix of a layer fitted to its inputs */
MUST_USE int fit_layer_inputs(struct fit *f, size_t layer);

/** fit_layer_scaled() - awq (engine/fit/awq.c) */
MUST_USE int fit_layer_scaled(struct fit *f, size_t layer);

#endif
