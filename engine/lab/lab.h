/* What the workbench's verbs share: parsed arguments, exit codes, and helpers that open models and
 * print for a person or a program.
 *
 * Every verb is one function in a file of its own that takes the parsed arguments and returns the
 * process's exit code; it has then printed why, in one line on standard error. */
#ifndef ENGINE_LAB_LAB_H
#define ENGINE_LAB_LAB_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "engine/engine.h"
#include "engine/measure.h"

/* Exit codes: the numbers of sysexits.h. */
enum {
    LAB_OK = 0,
    LAB_USAGE = 64,       /* the command line */
    LAB_DATA = 65,        /* a file or standard input says something impossible */
    LAB_NOINPUT = 66,     /* a file is missing or cannot be read */
    LAB_UNAVAILABLE = 69, /* sound, but this program or this machine cannot do it */
    LAB_OS = 71,          /* the system failed: memory, threads */
    LAB_CANTCREATE = 73,  /* an output file cannot be made */
    LAB_IO = 74,          /* writing failed */
};

#define LAB_INPUT_MAX ((size_t)256 << 20) /* bytes read from a text or from standard input */
#define LAB_STREAMS_MAX STEP_ITEMS_MAX
#define LAB_FILES_MAX 16u    /* that `info --board` compares */
#define LAB_CHUNK 64u        /* prompt tokens in one step */
#define LAB_CHUNK_BENCH 256u /* the same when `bench` is not told */

enum { /* verbs, as bits: which options belong to which */
       VERB_INFO = 1 << 0,
       VERB_VERIFY = 1 << 1,
       VERB_TOKENIZE = 1 << 2,
       VERB_DETOKENIZE = 1 << 3,
       VERB_LOGITS = 1 << 4,
       VERB_GENERATE = 1 << 5,
       VERB_PERPLEXITY = 1 << 6,
       VERB_TEMPLATE = 1 << 7,
       VERB_MAKE = 1 << 8,
       VERB_BENCH = 1 << 9,
       VERB_PACK = 1 << 10,
       VERB_QUANTIZE = 1 << 11,
       VERB_SENSITIVITY = 1 << 12,
       VERB_TUNE = 1 << 13,
       VERB_ALL = (1 << 14) - 1,
};

/* A command line. Strings borrow from argv; NULL where not given. */
struct lab_args {
    const char *path;                    /* MODEL, IN.gguf, or OUT.gguf for `make` */
    const char *also[LAB_FILES_MAX - 1]; /* (n_also) more of them: `info --board` */
    size_t n_also;
    enum cpu_level cpu;
    enum kv_type kv;
    enum weights_backing weights;
    uint64_t threads; /* 0: not given (info) */
    bool json, jsonl, special, add_special, all, ignore_eos, no_thinking, no_generation_prompt,
        thirds, profile;
    const char *ids, *out, *prompt, *chat, *text, *shape, *format, *head, *template, *board, *plan,
        *formats, *method, *calibrate, *activations;
    uint64_t n;      /* tokens to generate */
    uint64_t p;      /* tokens of a prompt */
    uint64_t b;      /* streams; 0: not given (info) */
    uint64_t r;      /* repeats */
    uint64_t d;      /* positions that a stream has before its prompt */
    uint64_t ctx;    /* tokens in a window, or positions of a stream; 0: not given (info) */
    uint64_t chunk;  /* prompt tokens in one step; 0: not given (info) */
    uint64_t tokens; /* of a text, at most */
    uint64_t bytes;  /* of weights, at most; 0: not given */
    uint64_t ms;     /* of measuring, at most */
    uint64_t draft;  /* guesses in a step, at most */
    uint64_t top_k, seed;
    double temperature, top_p, min_p, repeat_penalty;
};

/**
 * args_parse() - read one verb's command line
 * @ret:  overwritten; defaults where nothing is said
 * @verb: a VERB_* bit
 * @argv: n words after the verb
 *
 * Return: LAB_OK, or LAB_USAGE with the reason printed, or LAB_UNAVAILABLE for a CPU level that
 * this machine does not have.
 */
MUST_USE int args_parse(struct lab_args *ret, unsigned verb, int n, char **argv);

/**
 * args_ids() - "1,2,3" to ids
 * @ret: malloc'ed, the caller frees; @ret_n how many, 1..MODEL_CTX_MAX
 * @n_vocab: every id is below
 *
 * Return: LAB_OK, or another exit code with the reason printed.
 */
MUST_USE int args_ids(const char *text, uint32_t n_vocab, int32_t **ret, size_t *ret_n);

/* ---- the verbs ---- */

int verb_info(const struct lab_args *a);
int verb_verify(const struct lab_args *a);
int verb_tokenize(const struct lab_args *a);
int verb_detokenize(const struct lab_args *a);
int verb_logits(const struct lab_args *a);
int verb_generate(const struct lab_args *a);
int verb_perplexity(const struct lab_args *a);
int verb_template(const struct lab_args *a);
int verb_make(const struct lab_args *a);
int verb_bench(const struct lab_args *a);
int verb_pack(const struct lab_args *a);
int verb_quantize(const struct lab_args *a);
int verb_sensitivity(const struct lab_args *a);
int verb_tune(const struct lab_args *a);

/* Where the time of one phase of `bench` went. */
struct lab_profile {
    struct step_profile steps;
    uint64_t total_ns, sample_ns; /* by the clock, samples included; a greedy pick for each row */
    uint64_t n_steps, n_tokens, n_rows;
};

/** profile_print() - a phase as a table for a person */
void profile_print(const char *phase, const struct lab_profile *p);
/** profile_json() - the same for a program; NULL: no memory */
json_t *profile_json(const struct lab_profile *p);

/** board_table() - what models take on boards, as a table: for several of either, or BYTES */
int board_table(const struct lab_args *a);
/** board_table_wanted() - is that what is asked for? */
bool board_table_wanted(const struct lab_args *a);

/** predict_print() - what running a model on a->board takes: `info --board` */
int predict_print(const struct lab_args *a, const struct model *model);

/* ---- out.c: reading and printing ---- */

/** lab_error() - one line on standard error; control characters are shown, not obeyed */
void lab_error(const char *fmt, ...) PRINTF_LIKE(1, 2);

/** lab_errno() - print what failed and why. Return: the exit code for a negative errno. */
MUST_USE int lab_errno(const char *what, int r);

/** out_text() - write bytes; with @escape, control characters and broken UTF-8 appear as \xNN */
void out_text(FILE *f, bool escape, const char *p, size_t n);

/** out_is_terminal() - is standard output one? Then text is escaped. */
bool out_is_terminal(void);

/** out_done() - flush standard output. Return: LAB_OK or LAB_IO. */
MUST_USE int out_done(void);

/** json_bytes() - a JSON string of any bytes; what is no UTF-8 becomes U+FFFD. NULL: no memory. */
json_t *json_bytes(const char *p, size_t n);

/** json_ids() - an array of integers; NULL: no memory */
json_t *json_ids(const int32_t *ids, size_t n);

/** out_json() - print one value and a line end; takes the reference; NULL means memory ran out */
MUST_USE int out_json(json_t *value);

/** text_is_utf8() - is all of it UTF-8? */
bool text_is_utf8(const char *p, size_t n);

/** read_file() - all of a file, or of standard input for "-"; buf_deinit() the result, also after
 * failure. Return: LAB_OK or an exit code with the reason printed. */
MUST_USE int read_file(const char *path, struct buf *ret);

/** json_parse() - bytes from outside to JSON; NULL with the reason printed */
json_t *json_parse(const char *what, const void *data, size_t n);

/** lab_peak_bytes() - the most memory that was resident in this process, bytes */
uint64_t lab_peak_bytes(void);

/* ---- outfile.c: a file that appears whole or not at all; one a process ---- */

/** outfile_check() - newfile_check(). Return: LAB_OK, or LAB_CANTCREATE with the reason printed. */
MUST_USE int outfile_check(const char *path);
/** outfile_not_input() - LAB_USAGE, with the reason printed, when @path names the file behind
 * fd_in */
MUST_USE int outfile_not_input(const char *path, int fd_in);
/** outfile_begin() - newfile_begin(). Return: LAB_OK, or LAB_CANTCREATE with the reason printed.
 * Then one of the other two closes the descriptor. */
MUST_USE int outfile_begin(const char *path, int *ret_fd);
/** outfile_commit() - newfile_commit(); an exit code with the reason printed */
MUST_USE int outfile_commit(const char *path);
void outfile_abort(void);

/* ---- progress.c ---- */

/* Zeroed is a bar that is not drawn yet. */
struct progress {
    bool begun, terminal, drawn;
    uint64_t at_ns; /* when it was drawn */
};

/** progress_show() - draw it, some times a second at most; nothing where stderr is no terminal
 * @label: what is being done; any bytes but NUL */
void progress_show(struct progress *p, const char *label, uint64_t done, uint64_t total);

/** progress_end() - wipe it away, before anything else is printed */
void progress_end(struct progress *p);

/* ---- load.c: models and running them ---- */

/** lab_open() - a regular file for reading. Return: LAB_OK, or an exit code with the reason
 * printed. */
MUST_USE int lab_open(const char *path, int *ret_fd);

/** lab_outcome() - the exit code for what opening, checking or packing a model came to, with the
 * reason printed unless it is MODEL_OK */
MUST_USE int lab_outcome(const char *path, int r, const struct diag *d);

/** lab_pack() - model_pack() with its outcomes printed. @path: of fd_in, for the message. */
MUST_USE int lab_pack(const char *path, int fd_in, int fd_out);

/** lab_model() - open and check a model, GGUF or packed. @ret_seconds: how long it took; may be
 * NULL.
 * Return: LAB_OK, or an exit code with the reason printed. */
MUST_USE int lab_model(const char *path, struct model **ret, double *ret_seconds);

/** lab_model_to_run() - open a->path with its weights in memory, held as a->weights says.
 * Arguments and return as above. */
MUST_USE int lab_model_to_run(const struct lab_args *a, struct model **ret, double *ret_seconds);

/** lab_vocab() - the vocabulary alone; free with vocab_free() */
MUST_USE int lab_vocab(const char *path, struct vocab **ret);

/** lab_tokenize() - text to malloc'ed ids; the caller frees */
MUST_USE int lab_tokenize(const struct vocab *v, const char *text, size_t n, unsigned flags,
                          int32_t **ret, size_t *ret_n);

/** lab_render() - a JSON array of {role, content} to malloc'ed prompt text, by the model's
 * template */
MUST_USE int lab_render(const struct lab_args *a, const struct model *model, const void *data,
                        size_t n, bool generation_prompt, char **ret, size_t *ret_n);

/* A model with everything that steps need. Zeroed is a valid empty one for lab_run_close(). */
struct lab_run {
    struct engine *engine;             /* owned */
    struct kv_pool *pool;              /* owned */
    struct seq *seqs[LAB_STREAMS_MAX]; /* owned */
    size_t n_seqs;
    struct stepper *stepper; /* owned */
};

struct lab_need {
    size_t n_seqs;           /* 1..LAB_STREAMS_MAX */
    size_t n_ctx;            /* positions in each */
    size_t n_tokens;         /* in one step, all sequences together */
    size_t n_logits;         /* rows in one step */
    unsigned n_threads_most; /* that a tuning may use, where that is more than --threads; else 0 */
};

MUST_USE int lab_run_open(struct lab_run *ret, const struct lab_args *a, const struct model *model,
                          const struct lab_need *need);
void lab_run_close(struct lab_run *run);

/**
 * lab_feed() - run tokens through one sequence, in steps of at most `chunk`
 * @ask:        what is wanted of the last token's row: n_best, also and n_also; the rest is not
 *              looked at. NULL: all logits.
 * @ret_logits: that row; borrowed until the next step. NULL: none wanted.
 *
 * Return: LAB_OK, or an exit code with the reason printed.
 */
MUST_USE int lab_feed(struct lab_run *run, size_t seq_i, const int32_t *ids, size_t n, size_t chunk,
                      const struct step_item *ask, const float **ret_logits);

/** lab_check_head() - is a->head, where given, "auto" or "full"? LAB_OK, or LAB_USAGE with the
 * reason printed */
MUST_USE int lab_check_head(const struct lab_args *a);

/** lab_step() - stepper_run() with its outcomes printed */
MUST_USE int lab_step(struct lab_run *run, struct step_item *items, size_t n_items);

/* ---- perplexity.c: how well a model predicts a text ---- */

/* Zeroed is one over nothing. */
struct lab_score {
    double sum, sum2; /* of -ln p and its square */
    size_t n;         /* tokens scored */
    size_t bytes;     /* that they stand for */
    size_t n_windows;
};

/** lab_text() - the tokens of a->text, as every text to be scored is read; the caller frees them */
MUST_USE int lab_text(const struct lab_args *a, const struct vocab *vocab, int32_t **ret,
                      size_t *ret_n);

/**
 * lab_score() - score a text as `perplexity` does, in windows of a->ctx tokens
 * @ids:   n tokens; the first of a window becomes BOS where the vocabulary adds one
 * @score: added to
 *
 * Return: LAB_OK, or an exit code with the reason printed; fewer tokens than one window are an
 * error.
 */
MUST_USE int lab_score(const struct lab_args *a, const struct model *model, int32_t *ids, size_t n,
                       struct lab_score *score);

#endif
