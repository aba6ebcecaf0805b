/* A GGUF file written again in other weight formats, for the workbench's `quantize` and
 * `sensitivity`: part of the engine's front, like engine.h, whose rules of errors hold here. */
#ifndef ENGINE_REQUANT_H
#define ENGINE_REQUANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/diag.h"
#include "engine/engine.h"

struct requant; /* opaque: a GGUF file, and a format chosen for each of its tensors */

struct requant_tensor {
    const char *name;        /* borrowed from the requant; any bytes but NUL */
    const char *format;      /* static: what it has */
    const char *chosen;      /* static: what it will have */
    uint64_t n_cols, n_rows; /* n_rows is 1 for a vector */
    uint64_t bytes;          /* in `format` */
    uint64_t chosen_bytes;   /* in `chosen` */
    bool matrix;             /* two dimensions and more than one row: a format may be chosen */
    bool floats;             /* F32, F16 or BF16 */
    /* After writing, and else < 0: sqrt(sum (w' - w)^2 / sum w^2), as it is and as the formats'
     * usual encoder (rounding) would have left it; and, where requant_fit() knows them, the same of
     * what the matrix puts out for the calibration text, sqrt(sum (W' x - W x)^2 / sum (W x)^2),
     * with propagate for the W that it aims at. */
    double error, rounding_error, output_error, rounding_output_error;
};

/**
 * requant_open() - read a file's header; every tensor is chosen to stay as it is
 * @fd: regular file. Borrowed until requant_free().
 *
 * What graph the model has does not matter: it need not be one that this engine runs.
 * Return: MODEL_OK; MODEL_MALFORMED, which is also when tensors share bytes and are larger than the
 * file together; MODEL_UNSUPPORTED: a tensor in a format that is not read, or with three
 * dimensions; a negative errno.
 */
MUST_USE int requant_open(struct requant **ret, int fd, struct diag *ret_diag);
void requant_free(struct requant *q);

size_t requant_count(const struct requant *q);
void requant_tensor(const struct requant *q, size_t i, struct requant_tensor *ret);

/** requant_bytes() - what tensor i would take; false for rows that are no whole blocks of the
 * format */
MUST_USE bool requant_bytes(const struct requant *q, size_t i, const char *format, uint64_t *ret);

/**
 * requant_choose() - the format that matrix i will have
 * @format: a name that gguf_writable() says can be encoded; NULL: what it has now
 *
 * Return: MODEL_OK; MODEL_UNSUPPORTED, with the tensor and both formats in diag: its weights are
 * quantized already, or its rows are no whole number of blocks; -EINVAL: no matrix, or no such
 * format.
 */
MUST_USE int requant_choose(struct requant *q, size_t i, const char *format, struct diag *ret_diag);

/** Called after every few rows. @name: of the tensor. @done, @total: bytes read, of all tensors. */
typedef void requant_progress_fn(void *arg, const char *name, uint64_t done, uint64_t total);

/**
 * requant_write() - write the file in the chosen formats
 * @fd:       empty, writable; synced on success. On failure its content is garbage.
 * @progress: may be NULL
 *
 * All keys are copied but general.alignment (the writer has its own) and general.file_type (one
 * number cannot name a mixture). May be called again with another choice. Memory: the header and
 * some rows.
 * Return: MODEL_OK; MODEL_MALFORMED: a weight that is to be quantized is not finite;
 * MODEL_UNSUPPORTED: weights too large for the chosen format's scales; a negative errno.
 */
MUST_USE int requant_write(struct requant *q, int fd, requant_progress_fn *progress, void *arg,
                           struct diag *ret_diag);

/* ---- beyond rounding ---- */

/* How codes and scales are chosen. */
enum requant_method {
    /* The formats' usual encoders: formulas of one block (NUMERICS.md, "Encoding"). */
    REQUANT_ROUNDING = 0,
    /* Scales and codes refined in turn (engine/fit/grid.h); with a text, each error counted as it
     * shows in the matrix's outputs. */
    REQUANT_REFINE,
    /* Each weight's error is passed on to the weights after it, for the inputs that the quantized
     * matrices before give (engine/fit/rows.h), and each matrix's to those after it, which aim at
     * what the float model puts out (engine/fit/target.h); then refined. */
    REQUANT_PROPAGATE,
    /* The first of these alone, as published: GPTQ, arXiv 2210.17323. */
    REQUANT_GPTQ,
    /* Columns scaled by what comes in, before rounding: AWQ, arXiv 2306.00978
     * (engine/fit/scaling.h). */
    REQUANT_AWQ,
    REQUANT_METHODS,
};

/** requant_method_name/_parse() - "rounding", "refine", "propagate", "gptq", "awq" */
const char *requant_method_name(enum requant_method m);
MUST_USE bool requant_method_parse(const char *name, enum requant_method *ret);

#define REQUANT_COLS_MAX 8192u /* of a matrix that is fitted to a text */

/* A text to calibrate with, and what it runs on. */
struct requant_text {
    const struct model *model; /* of the same file; borrowed */
    struct engine *engine;     /* borrowed */
    enum kv_type kv;
    const int32_t *ids; /* borrowed; each in 0..n_vocab-1 */
    size_t n_ids;       /* cut into windows of ctx; what is left at the end is not read */
    size_t ctx;         /* 1..the model's */
};

/**
 * requant_fit() - choose codes and scales for the formats that are chosen, for requant_write()
 * @text: all of it borrowed for the call. NULL for refine alone, where it may be, and for rounding.
 * @progress: as for requant_write(), in weights; may be NULL
 *
 * With a text it goes through the model layer by layer, and the matrices of the layers are fitted;
 * embedding and head are refined, or with awq rounded, and so is what has no scale for each block
 * (I2_S, IQ2_BN, floats). The method is written into the file, key onebit.quantize.method, where a
 * matrix of a layer is encoded by it and none was quantized before: a file that says gptq or awq
 * there is `gptq-4bit` or `awq-8bit` where its layers have four or eight bits. Formats are not to
 * be chosen anew between this and requant_write(). The same text and model give the same bytes on
 * every machine, with any number of threads.
 *
 * Memory, besides the model: the text as floats (n_ids * n_embd * 4 bytes), 12 bytes for each pair
 * of columns of one matrix (with propagate twice the text, and 20 bytes), one layer in floats with
 * awq, and else one matrix or two; what is fitted goes to a scratch file.
 *
 * Return: MODEL_OK; MODEL_MALFORMED: weights, or what the text made of them, that are not finite;
 * MODEL_UNSUPPORTED: weights too large for the format's scales; MODEL_TOO_BIG: rows of more than
 * REQUANT_COLS_MAX; -EINVAL: another file's model, no window, a method that wants a text without
 * one; another negative errno.
 */
MUST_USE int requant_fit(struct requant *q, enum requant_method method,
                         const struct requant_text *text, requant_progress_fn *progress, void *arg,
                         struct diag *ret_diag);

#endif
