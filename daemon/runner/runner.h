/* What the parts of the engine process share. One thread, the engine's, owns all of it; the seam's
 * reader and the loaders have only what seam_io.c and struct resident say they have. */
#ifndef DAEMON_RUNNER_RUNNER_H
#define DAEMON_RUNNER_RUNNER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/diag.h"
#include "daemon/runner/guard.h"
#include "daemon/runner/hooks.h"
#include "daemon/runner/seam_io.h"
#include "engine/engine.h"
#include "ipc/frame.h"
#include "ipc/pulse.h"
#include "ipc/seam.h"

#define RESIDENTS_MAX 16u     /* models at once; a device of this class holds two or three */
#define N_CTX_DEFAULT 4096u   /* positions a sequence, when the broker names none */
#define DRAFT_ROWS_DEFAULT 4u /* see n_rows of struct resident; where nothing was measured */
#define DRAFT_ROWS_MAX 16u
#define MAX_TOKENS_DEFAULT 2048u /* of an answer */
#define STEP_TOKENS_MAX 512u     /* tokens in one step; --chunk lowers it */
#define STEP_TOKENS_MIN 4u       /* prompt tokens a pass over the weights is worth making for */
#define PRIMINGS_MAX 8u /* public prefixes that are computed at once, beside the sequences */
#define SEQUENCES_MAX (SEAM_STREAMS_MAX + PRIMINGS_MAX)
#define OUT_FLUSH_BYTES (1u << 20) /* reports are written at the latest when this much waits */
#define OUT_BYTES_MAX (OUT_FLUSH_BYTES + FRAME_SEAM_BODY_MAX + FRAME_HEADER)

struct sequence;

/* How long steps of a model take, to size the next one. ns; 0: not known yet. */
struct pace_token {
    double token_ns; /* one prompt token more */
    size_t n_last;   /* prompt tokens in the last step that had some */
};

struct pace {
    double
        pass_ns[SEAM_PLAN_MAX + 1];  /* [n] a step of n decoding sequences without prompt tokens */
    struct pace_token beside, alone; /* beside decoding sequences, without */
    size_t n_mixed; /* steps of both kinds of tokens since one of decoding sequences only */
};

/* A model, from its load to its drop. */
struct resident {
    uint32_t number; /* the broker's */
    bool dropped;    /* gone as soon as the loader is done */
    enum kv_type kv;
    uint32_t n_ctx_asked, n_streams_max;
    uint64_t kv_bytes_max, beside_bytes_max;
    enum weights_backing weights; /* as asked for */
    float temperature;            /* of a request that names none; < 0: what the file says */
    enum chat_template
        chat;              /* of a request that names none; until ready only what was configured */
    uint32_t draft_tokens; /* guesses in a step of a sequence, at most */
    bool tune;             /* the number of threads is to be measured, or was: */
    uint8_t record[SEAM_TUNING_MAX];
    size_t n_record;
    uint64_t begin_ns; /* of the load */

    /* Loading: the loader thread writes these and then sets opened; the engine reads afterwards. */
    struct seam_io *io; /* borrowed: whom to wake */
    int fd;             /* owned; kept as long as the guard is */
    pthread_t loader;
    bool loading; /* the engine's: the loader has not been joined */
    atomic_bool opened;
    int result; /* of model_open_packed() and model_bring_in() */
    struct diag diag;
    struct model *model; /* owned */
    struct guard *guard; /* owned; NULL: nothing is read from the file any more */

    /* Ready. */
    bool ready;
    struct model_info info;  /* strings borrowed from model */
    struct kv_pool *pool;    /* owned */
    size_t n_blocks;         /* in the pool */
    size_t idle_max;         /* idle blocks that are kept while the runner is frugal */
    struct stepper *stepper; /* owned */
    struct sampler *sampler; /* owned */
    struct tuner *tuner;     /* owned; NULL: nothing is to be measured (any more) */
    uint32_t n_ctx, n_streams, n_sequences;
    uint32_t n_rows; /* tokens that a step beside no prompt has room for when it has guesses */

    struct pace pace;
    uint64_t locked; /* bytes of its weights */
    bool lock;       /* they are to be */
    bool measure;    /* the broker wants to know how much of it is in memory */
};

/* A request, from its start to its end. */
struct sequence {
    uint64_t number;        /* the broker's */
    struct resident *home;  /* borrowed; outlives its sequences */
    struct seq *kv;         /* owned */
    struct textout *text;   /* owned */
    int32_t *ids;           /* owned: prompt and answer, room for n_prompt + max_tokens */
    size_t n_prompt, n_ids; /* n_ids - n_prompt are the answer's */
    size_t n_known;         /* ids that were there at the start: prompt and resumed answer */
    uint32_t max_tokens, n_logprobs;
    bool ignore_eos;
    bool reuse;            /* looks for KV blocks under its salt, and keeps its own */
    bool public_;          /* its prompt alone is computed, and kept for everybody */
    uint8_t salt[KV_SALT]; /* all zero when public_ */
    size_t n_cached;       /* positions that were found instead of computed */
    uint32_t n_trimmed;    /* messages that its prompt leaves out */
    bool want_ids;         /* of the prompt, with its start */
    struct sampler_params sampling;
    struct draft_luck luck;         /* of the guesses at its next tokens */
    size_t n_touched;               /* ids that guesses were written up to */
    uint64_t prefill_ns, decode_ns; /* time of the steps it took part in */
    uint64_t mark;                  /* of the hooks */
};

struct runner {
    struct engine *engine;            /* owned */
    struct seam_io *io;               /* owned */
    const struct runner_hooks *hooks; /* borrowed, may be NULL */
    struct pulse *pulse;              /* borrowed */
    const char *confined;             /* static: confine() */
    int seam_fd;                      /* borrowed */
    size_t step_tokens_max;
    unsigned n_threads;
    struct buf out;  /* reports not yet written */
    struct buf text; /* scratch: the text of one report */
    int error;       /* first failure that ends the runner: a negative errno */

    struct resident *residents[RESIDENTS_MAX]; /* owned; NULL: free slot */
    size_t resident_next;                      /* whose step it is */
    struct sequence *sequences[SEQUENCES_MAX]; /* owned; NULL: free slot */
    uint64_t plan[SEAM_PLAN_MAX];
    size_t n_plan;
    unsigned n_threads_max; /* of the plan: that steps take; 0: as many as are best */
    uint64_t prompt_us;     /* of the plan: time for prompts beside streams; 0: by measurement */
    bool interrupted;       /* the last step was, by a cancel */
    bool frugal;            /* memory is short: nothing is measured, no more idle KV is kept */

    struct seam_stats stats;
    uint64_t stats_ns;    /* when they were last reported */
    bool stats_due;       /* work was done since */
    uint64_t measured_ns; /* when a model's memory was last looked through */
    uint64_t heap_begin;  /* allocated before the first model */
};

/* ---- report.c: what the broker hears. A failure to report goes to runner->error. ---- */

void report(struct runner *rn, const struct seam_message *m);
void report_hello(struct runner *rn);
void report_loaded(struct runner *rn, const struct resident *m);
void report_load_failed(struct runner *rn, uint32_t model, enum error_code code, const char *text,
                        uint64_t have, uint64_t limit);
void report_failed(struct runner *rn, uint64_t seq, enum error_code code, const char *text,
                   uint64_t have, uint64_t limit);
/** report_kv_full() - a failure that is none: started again when there are blocks, it goes on */
void report_kv_full(struct runner *rn, uint64_t seq);
void report_started(struct runner *rn, const struct sequence *s);
/** report_prefill() - after each step that took it further: the broker charges by it */
void report_prefill(struct runner *rn, const struct sequence *s);
/** n_ids of the answer from index n0 on; @choice: of the one id when log-probabilities were asked
 * for, else NULL */
struct report_run {
    size_t n0, n_ids;
    size_t n_wrong; /* guesses that were computed in vain */
    struct strview text;
    const struct sampler_choice *choice;
};
void report_tokens(struct runner *rn, const struct sequence *s, const struct report_run *run);
void report_finished(struct runner *rn, const struct sequence *s, const char *reason);
/** @idle: there is no work any more, so report at once */
void report_stats(struct runner *rn, bool idle, uint64_t now_ns);
/** report_flush() - write what waits; to rn->error when the broker is gone */
void report_flush(struct runner *rn);

/* ---- give.c: SEAM_GIVE_BACK ---- */

/** give_back() - do it, and report what it came to */
void give_back(struct runner *rn, const struct seam_give_back *g);
/** give_back_idle() - what has become idle since memory is short */
void give_back_idle(struct runner *rn);

/* ---- memory.c: SEAM_MEASURE and SEAM_MEMORY ---- */

void memory_begin(struct runner *rn);
void memory_ask(struct runner *rn, uint32_t number);
/** memory_report() - answer what was asked, when it is time. @idle: there is no work */
void memory_report(struct runner *rn, bool idle, uint64_t now_ns);

/* ---- models.c ---- */

/** resident_load() - begin to load; @item's descriptor is taken over. Answered later. */
void resident_load(struct runner *rn, struct seam_item *item);
/** residents_collect() - make ready what the loaders have opened, and report it */
void residents_collect(struct runner *rn);
bool residents_loading(const struct runner *rn);
struct resident *resident_find(const struct runner *rn, uint32_t number);
/** resident_publish() - what is public of it has changed: forget what was, and what computes
 * such */
void resident_publish(struct runner *rn, const struct seam_public *what);
/** resident_spill() - a file for its KV blocks; @item's descriptor is taken over */
void resident_spill(struct runner *rn, struct seam_item *item);
/** residents_spill() - hand the writers of all models their next block */
void residents_spill(struct runner *rn);
void resident_drop(struct runner *rn, uint32_t number);
/** resident_lost() - to be asked after each computation, before its numbers are used: has its file
 * been changed? Then it is told and dropped, with its sequences. */
MUST_USE bool resident_lost(struct runner *rn, struct resident *m);
void residents_free(struct runner *rn);

/* ---- prompt.c and request.c: from a generate frame to ids and parameters ---- */

struct refusal {
    enum error_code code;
    char text[240];
    uint64_t have, limit;
};

enum { REQUEST_OK = 0, REQUEST_REFUSED };

/** refuse() - fill a refusal. Return: REQUEST_REFUSED. */
int refuse(struct refusal *ret, enum error_code code, uint64_t have, uint64_t limit,
           const char *fmt, ...) PRINTF_LIKE(5, 6);

struct prompt {
    int32_t *ids; /* owned, malloc'ed */
    size_t n;
    uint32_t n_trimmed; /* messages that were left out */
};

void prompt_deinit(struct prompt *p);

/**
 * prompt_make() - the ids of a request's prompt
 *
 * A chat that a session's ids cover in part goes on with just these. Where the request says trim,
 * the oldest turns are left out until there is room; never the system's messages, nor the last
 * turn.
 * Return: REQUEST_OK, REQUEST_REFUSED with ret_refusal, -ENOMEM.
 */
MUST_USE int prompt_make(struct prompt *ret, const struct resident *m, const struct msg_generate *g,
                         const struct seam_start *start, struct refusal *ret_refusal);

/**
 * request_prepare() - fill a sequence whose home is set
 * @s: on any outcome sequence_free() frees what was built
 *
 * Return: REQUEST_OK, REQUEST_REFUSED with ret_refusal, -ENOMEM.
 */
MUST_USE int request_prepare(struct sequence *s, const struct seam_start *start,
                             struct refusal *ret_refusal);

/* ---- sequences.c ---- */

void sequence_start(struct runner *rn, const struct seam_start *start);
struct sequence *sequence_find(const struct runner *rn, uint64_t number);
/** sequence_forget() - free it and its slot */
void sequence_forget(struct runner *rn, struct sequence *s);
void sequence_free(struct sequence *s); /* half-built and NULL are fine */
/** sequence_attach() - take what is there already of the ids it knows */
void sequence_attach(struct sequence *s);
/** sequence_primed() - a public prefix is computed: report it and forget the sequence */
void sequence_primed(struct runner *rn, struct sequence *s);
/** sequence_take() - one sampled token: deliver it. @n_wrong: guesses that were computed in vain.
 * Return: false when the sequence is over and gone. */
MUST_USE bool sequence_take(struct runner *rn, struct sequence *s,
                            const struct sampler_choice *choice, size_t n_wrong);

/* ---- steps.c ---- */

/** steps_work() - is there a sequence in the plan, or a public prefix to compute? */
bool steps_work(const struct runner *rn);
/** steps_run() - one step of the model whose turn it is */
void steps_run(struct runner *rn);

/* ---- tuning.c ---- */

/** tuning_begin() - use what was measured of a model that is ready, or plan to measure it */
void tuning_begin(struct runner *rn, struct resident *m);
/** tuning_work() - is there a model to be measured? For when steps_work() says no. */
bool tuning_work(const struct runner *rn);
/** tuning_run() - measure some milliseconds of it */
void tuning_run(struct runner *rn);

/* ---- pace.c: how many prompt tokens fit a step; pure ---- */

/**
 * pace_next() - prompt tokens for the next step
 * @n_decode:   sequences that get their token in it, at most SEAM_PLAN_MAX
 * @prompt_us:  what prompt tokens may take in a step beside decoding sequences; 0: by measurement
 * @tokens_max: never more
 *
 * Return: 0 when the step is to go without prompts, to be measured; else at least one.
 */
size_t pace_next(const struct pace *p, size_t n_decode, uint64_t prompt_us, size_t tokens_max);
/** pace_learn() - a step of n_decode sequences and n_prompt prompt tokens took `ns` */
void pace_learn(struct pace *p, size_t n_decode, size_t n_prompt, uint64_t ns);
/** pace_expect() - what such a step should take, ns */
uint64_t pace_expect(const struct pace *p, size_t n_decode, size_t n_prompt);

/* ---- loop.c, pack_main.c ---- */

struct runner_options {
    int seam_fd;
    struct pulse *pulse; /* borrowed; NULL: nobody looks */
    enum cpu_level cpu;
    unsigned n_threads, n_threads_most; /* as in struct engine_options */
    size_t step_tokens_max;
};

/** loop_main() - carry out the seam until the broker closes it. Return: the exit status. */
int loop_main(const struct runner_options *options, const struct runner_hooks *hooks);

/* Exit statuses of --pack, besides 0. */
enum {
    PACK_EXIT_MALFORMED = 65,
    PACK_EXIT_UNSUPPORTED = 69, /* or past a limit: the line on stdout says which */
    PACK_EXIT_INTERNAL = 70,
    PACK_EXIT_CANNOT_WRITE = 73,
};

/** pack_main() - descriptor 3 in, descriptor 4 out, one line on stdout. Return: the exit status. */
int pack_main(uint64_t bytes_max);

/* ---- log.c ---- */

enum { LOG_ERROR = 3, LOG_WARNING = 4, LOG_NOTICE = 5 };

/** log_init() - "<N>" priorities in front when stderr goes to the journal */
void log_init(void);

/** log_line() - one line on stderr; control characters in it are written as '?'. Never a word of a
 * prompt. */
void log_line(int priority, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
