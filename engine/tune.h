/* How many threads compute a step, and how many streams are worth computing at once: found by a
 * short measurement on the machine itself, and kept beside the packed file.
 *
 * A step of one token waits for memory, a step of many for the multipliers, and a board's cores may
 * differ; so the best number of threads is not the same for both, and not always that of the cores.
 * A tuning leaves the default only where measured rounds in turn say so with a margin, and nobody
 * else used the CPUs meanwhile: beside others fewer threads do better, and that passes. No number
 * that is computed depends on it. */
#ifndef ENGINE_TUNE_H
#define ENGINE_TUNE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/diag.h"

struct engine;
struct kv_pool;
struct stepper;

#define TUNE_MANY 8u /* tokens: a step of so many and more is one of prompts */
#define TUNE_SIZES 5u
#define TUNE_COUNTS_MAX 8u                 /* thread counts that are tried */
#define TUNE_ROUNDS_MAX 15u                /* each of them so often, in turn */
#define TUNE_BUDGET_NS UINT64_C(300000000) /* of measuring at a model's first load */
#define TUNING_BYTES 64u                   /* as it is kept */

/** tune_sizes - tokens in the steps that are measured: 1, 2, 4, 8, 16. The first stands for
 * generation, that of TUNE_MANY for prompts. */
extern const uint8_t tune_sizes[TUNE_SIZES];

/** engine_threads_default() - cores of the affinity mask, within the cgroup's CPU quota; >= 1 */
unsigned engine_threads_default(void);
/** engine_threads_most() - as engine_threads_default(), with every thread that a core has */
unsigned engine_threads_most(void);

struct tuning {
    uint8_t n_generate, n_prompt; /* threads for steps of one token, and of TUNE_MANY and more */
    uint8_t n_streams; /* fewest at once that reach nine tenths of the best rate; 0: not known */
    uint8_t disturbed; /* others used the CPUs meanwhile: the default was kept; to be repeated */
};

/* ---- choosing: pure ---- */

/* ns of the same work, by thread count and round; a round measures one after the other. */
struct tune_samples {
    size_t n_counts, n_rounds; /* counts[0] is the default */
    uint8_t counts[TUNE_COUNTS_MAX];
    double ns[TUNE_ROUNDS_MAX][TUNE_COUNTS_MAX]; /* 0: not measured, given up as too slow */
};

/**
 * tune_choose() - the default, unless another count is better by more than noise
 *
 * Better means: measured in at least five rounds, faster than the default of the same round in all
 * of them but one in six, and by 3 % or more in the median. Of several such the one with the
 * least median.
 */
unsigned tune_choose(const struct tune_samples *s);

/** tune_hopeless() - is counts[count_i] not worth another round: twice slower by a tenth? */
bool tune_hopeless(const struct tune_samples *s, size_t count_i);

/**
 * tune_saturation() - the fewest streams that reach nine tenths of the best rate
 * @ns: of a step of tune_sizes[i] tokens; 0: not measured. Return: 0 when fewer than two were.
 */
unsigned tune_saturation(const double ns[TUNE_SIZES]);

/* ---- measuring ---- */

struct tuner; /* opaque: a measurement in pieces, so that who waits for a token waits for one */

/**
 * tuner_new() - begin; nothing is measured yet
 * @st, @pool: borrowed, of one model; they may be used between slices. Its engine's default and
 *             most threads are what is compared.
 * @budget_ns: measuring ends after so much of it
 */
MUST_USE int tuner_new(struct tuner **ret, struct stepper *st, struct kv_pool *pool,
                       uint64_t budget_ns);
void tuner_free(struct tuner *t);

/**
 * tuner_slice() - measure one step's part of some milliseconds: a few layers, or one
 *
 * Takes a free block of the pool for that long, and does nothing where there is none.
 * Return: is there more to measure?
 */
MUST_USE bool tuner_slice(struct tuner *t);

/** tuner_result() - what the rounds so far say. Return: are they enough to be kept? */
MUST_USE bool tuner_result(const struct tuner *t, struct tuning *ret);

/* What was measured, for a table: medians over the rounds. */
struct tune_table {
    size_t n_counts, n_rounds;
    uint8_t counts[TUNE_COUNTS_MAX];
    double one_ns[TUNE_COUNTS_MAX], many_ns[TUNE_COUNTS_MAX]; /* a step's layers; 0: not measured */
    double size_ns[TUNE_SIZES]; /* the same by tokens, with the default */
    uint64_t spent_ns;
};
void tuner_table(const struct tuner *t, struct tune_table *ret);

/* ---- keeping ---- */

/** tuning_write() - as it is kept, with the mark of this engine's machine, level and thread counts
 * and of model_pack_id(), and a checksum */
void tuning_write(const struct tuning *t, const struct engine *engine, uint8_t ret[TUNING_BYTES]);

enum { TUNING_OK = 0, TUNING_MALFORMED, TUNING_STALE };

/**
 * tuning_read() - back; any bytes
 *
 * Return: TUNING_OK; TUNING_MALFORMED: these are no whole tuning; TUNING_STALE: one of another
 * machine, CPU level, affinity, quota or packed form.
 */
MUST_USE int tuning_read(struct tuning *ret, const struct engine *engine, const void *data,
                         size_t n);

/** stepper_tune() - use a tuning from the next step on. Steps of sizes between one token and
 * TUNE_MANY have the engine's default, unless both counts agree. */
void stepper_tune(struct stepper *st, const struct tuning *t);

#endif
