/* The seam: what the broker tells the runner and what the runner reports, over a socketpair.
 *
 * The broker decides, the runner carries out. Frames are those of frame.h (bodies up to
 * FRAME_SEAM_BODY_MAX); a `load` frame carries one descriptor, the packed file, and a `spill` frame
 * one, a file for idle KV blocks, by SCM_RIGHTS with the frame's first byte. Both sides are ours,
 * but each checks what it reads: the runner has parsed hostile text, and a broker must survive a
 * runner gone wrong.
 *
 * Sequences are named by the broker's global request number, models by a number it gives at load.
 */
#ifndef IPC_SEAM_H
#define IPC_SEAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/diag.h"
#include "base/strview.h"
#include "ipc/error.h"
#include "ipc/message.h"

#define SEAM_PLAN_MAX 64u    /* sequences in one plan */
#define SEAM_THREADS_MAX 64u /* that the runner can be told to use */
#define SEAM_STREAMS_MAX 64u /* sequences the runner holds, paused ones included */
#define SEAM_SALT 16u        /* bytes that keep the KV blocks of identities apart */
#define SEAM_DRAFTS_MAX 16u  /* guesses at next tokens in a step of a sequence */
#define SEAM_TUNING_MAX 256u /* bytes of what was measured of a model */

enum seam_type {
    SEAM_LOAD,   /* broker -> runner: map this packed model (descriptor attached) */
    SEAM_DROP,   /* unmap; its sequences have been cancelled before */
    SEAM_START,  /* hold a new sequence; it runs when a plan names it */
    SEAM_PLAN,   /* which sequences run, in which order prompts are prefilled; others are paused */
    SEAM_CANCEL, /* forget a sequence; answered by no report; polled inside a step */
    SEAM_PUBLIC, /* what is public has changed: what was is found by nobody any more */
    SEAM_SPILL,  /* keep idle KV blocks of a loaded model in this file, too (descriptor attached) */
    SEAM_MEASURE,   /* how much of a model is in memory? */
    SEAM_GIVE_BACK, /* memory is short: give back some of it */
    SEAM_HELLO,     /* runner -> broker: first frame */
    SEAM_LOADED,
    SEAM_STARTED,
    SEAM_PREFILL,
    SEAM_TOKENS,
    SEAM_FINISHED,
    SEAM_FAILED,      /* of a sequence */
    SEAM_LOAD_FAILED, /* a stale or damaged packed file: ERR_MODEL_MALFORMED, "packed: ...". Also of
                       * a model that was loaded: its file was changed, and it has been dropped with
                       * all its sequences */
    SEAM_STATS,
    SEAM_TUNED,  /* how many threads a model's steps take, as it was measured now or before */
    SEAM_MEMORY, /* the answer to SEAM_MEASURE, when there is a moment for it */
    SEAM_GAVE,   /* the answer to SEAM_GIVE_BACK, measured after it was done */
    SEAM_TYPES,
};

/* What can be given back, cheapest first. */
enum seam_give {
    GIVE_NOTHING, /* but be frugal, or be so no more */
    GIVE_HEAP,    /* of the allocator, what is free */
    GIVE_KV,      /* free blocks, and idle ones of so many bytes, least valuable first */
    GIVE_WEIGHTS, /* pages of a model's mapping: they are read again when they are needed */
    GIVES
};

struct seam_load {
    uint32_t model;      /* number */
    struct strview name; /* for logs and reports only */
    struct strview kv;   /* type of the cache, by name; empty: f16 */
    uint32_t n_ctx; /* positions per sequence; 0: what the model was trained for, at most 4096 */
    uint64_t kv_bytes_max;     /* the pool's budget; n_streams follows from it */
    uint64_t beside_bytes_max; /* pool and scratch together; 0: no bound but the pool's own */
    uint32_t n_streams_max;
    /* Temperature of a request that names none. Unset: what the file recommends, else 0.7. */
    bool has_default_temperature;
    float default_temperature;
    struct strview chat_template; /* by name, instead of the file's own; empty: the file's own */
    struct strview weights;       /* how they are held, by name; empty: shared */
    uint32_t draft_tokens; /* guesses at next tokens in a step of a sequence, at most; 0: none */
    bool lock;             /* keep the weights in memory as far as the system allows */
    bool tune;             /* choose the number of threads by measurement */
    struct strview tuning; /* the record of an earlier one; the runner says whether it holds */
};

struct seam_start {
    uint64_t seq;
    uint32_t model;
    uint64_t seed;          /* always set: the broker fixes one when the client gave none */
    struct strview request; /* the client's generate frame, body as received: message_read() */
    struct msg_ids resume;  /* answer ids from before a restart: replayed, then continued */
    /* KV blocks are found again only by requests with the same salt, and the public ones, which are
     * those of public starts. */
    uint8_t salt[SEAM_SALT];
    bool reuse;   /* look for KV blocks that are there, and keep this sequence's for others */
    bool public_; /* compute the prompt alone and keep its blocks for everybody; ends "primed" */
    /* A session: ids of its last prompt and answer, which stand for the first n_history messages of
     * the request, whatever tokenizing their text anew would give. For seam_put() they come by
     * history_ids, and `history` is not looked at. */
    struct msg_ids history;
    const int32_t *history_ids; /* borrowed: (n_history_ids) */
    size_t n_history_ids;
    uint32_t n_history;
    bool want_ids; /* report the prompt's ids with `started` */
};

struct seam_plan {
    uint64_t run[SEAM_PLAN_MAX]; /* sequences that may work, in the order prompts are served */
    size_t n_run;
    /* Time for prompt tokens in a step that others decode in, and the least for one that nobody
     * does; 0: by measurement. */
    uint32_t prompt_us;
    uint32_t threads; /* that a step takes at most; 0: as many as are best */
    bool urgent; /* stop the step that runs: nothing of it counts, this plan is what comes next */
};

struct seam_public {
    uint32_t model;
    uint8_t
        label[SEAM_SALT]; /* of what is public from here on; the starts that compute it come next */
};

struct seam_spill {
    uint32_t model;
    uint64_t bytes_max; /* of the file */
};

struct seam_give_back {
    enum seam_give what;
    uint32_t model; /* GIVE_WEIGHTS: which one */
    uint64_t bytes; /* GIVE_KV: of idle blocks, at most */
    bool frugal;    /* from now on: no measurements for tuning, no more idle KV than there is */
};

struct seam_gave {
    enum seam_give what;
    uint64_t bytes; /* that are in memory no more */
};

struct seam_hello {
    struct strview pack_id; /* model_pack_id() */
    struct strview cpu;     /* level in use */
    uint32_t n_threads;
    struct strview confined; /* by what the engine process is: "seccomp+landlock", "none" */
};

struct seam_loaded {
    uint32_t model;
    struct strview arch, name, formats, quantization, kv;
    uint64_t n_params, weight_bytes, kv_bytes_per_position, scratch_bytes;
    uint32_t n_ctx, n_ctx_train, n_vocab, n_streams;
    bool chat; /* has a template this engine knows */
    uint64_t load_us;
    uint32_t kv_block_positions; /* of one KV block */
    uint32_t kv_blocks;          /* in the pool */
    struct strview weights;      /* how they are held, by name; empty: shared */
    uint64_t huge_bytes;         /* of a private copy, in huge pages */
};

struct seam_started {
    uint64_t seq;
    uint32_t prompt_tokens, cached_tokens;
    uint32_t max_tokens; /* as it will be used */
    uint32_t n_trimmed;  /* messages of the session that were left out */
    struct msg_ids ids;  /* of the prompt, where they were asked for */
};

struct seam_prefill {
    uint64_t seq;
    uint32_t done, total; /* prompt tokens, resumed answer tokens included */
};

struct seam_tokens {
    uint64_t seq;
    uint32_t n0; /* index of the first id in the answer; a replay starts at 0 again */
    struct msg_ids ids;
    struct strview text;    /* valid UTF-8 delivered with these ids */
    struct cursor logprobs; /* as in msg_delta */
    uint32_t n_logprobs;
    uint32_t n_wrong; /* guesses that were computed with them in vain */
};

struct seam_finished {
    uint64_t seq;
    struct strview reason; /* "stop", "stop_string", "length" */
    uint32_t prompt_tokens, cached_tokens, answer_tokens;
    uint64_t prefill_us, decode_us;
};

struct seam_failed {
    uint64_t seq;   /* SEAM_FAILED */
    uint32_t model; /* SEAM_LOAD_FAILED */
    enum error_code code;
    struct strview message;
    uint64_t have, limit;
    bool again; /* the pool ran out of KV blocks: it can be started again when there are some */
};

struct seam_stats {                        /* after steps, at most every 250 ms */
    uint64_t steps, tokens, prompt_tokens; /* since the runner started */
    uint64_t step_us;                      /* of the last step */
    uint32_t step_streams, step_prompt;    /* of the last step: decoding sequences, prompt tokens */
    uint32_t step_drafts;                  /* of the last step: guesses at next tokens */
    uint64_t drafted, accepted;            /* guesses since the runner started; those right */
    uint64_t kv_bytes_idle;                /* of blocks kept for reuse, beside those in use */
    uint64_t kv_bytes_used, kv_bytes_total, weight_bytes;
    uint32_t n_sequences;
};

struct seam_tuned {
    uint32_t model;
    uint32_t n_generate, n_prompt; /* threads for steps of one token, and of many */
    uint32_t n_streams; /* fewest at once that reach nine tenths of the best rate; 0: not known */
    struct strview record; /* to be kept, and sent with the next load; empty: it came from there */
};

struct seam_memory { /* bytes */
    uint32_t model;
    uint64_t mapped; /* of the packed file; of a private copy, what is read of the file beside it */
    uint64_t private_;                   /* of a private copy of the weights */
    uint64_t huge;                       /* of these, in huge pages */
    uint64_t resident;                   /* of `mapped` and `private_`, in memory now */
    uint64_t locked;                     /* of the weights, in either backing */
    uint64_t kv_used, kv_idle, kv_total; /* blocks of sequences, kept after them, all there are */
    uint64_t kv_resident;                /* of the pool */
    uint64_t scratch, scratch_resident;
    uint64_t heap; /* of the whole process: allocations since it said hello */
};

struct seam_message {
    enum seam_type type;
    union {
        struct seam_load load;
        uint32_t drop;    /* model */
        uint32_t measure; /* model */
        struct seam_start start;
        struct seam_plan plan;
        uint64_t cancel; /* seq */
        struct seam_public public_;
        struct seam_spill spill;
        struct seam_give_back give_back;
        struct seam_gave gave;
        struct seam_hello hello;
        struct seam_loaded loaded;
        struct seam_started started;
        struct seam_prefill prefill;
        struct seam_tokens tokens;
        struct seam_finished finished;
        struct seam_failed failed;
        struct seam_stats stats;
        struct seam_tuned tuned;
        struct seam_memory memory;
    };
};

enum { SEAM_OK = 0, SEAM_MALFORMED };

/** seam_read() - check one body and read it; views borrow from body */
MUST_USE int seam_read(struct seam_message *ret, const uint8_t *body, size_t n,
                       struct diag *ret_diag);

/** seam_put() - append one frame. For SEAM_START (resume), SEAM_STARTED and SEAM_TOKENS the ids
 * (and logprobs: n_ids x n_alternatives, or NULL) come as arrays; otherwise pass NULL and 0.
 * Return: 0, -ENOMEM, -E2BIG, or -EINVAL for a value that seam_read() would refuse. After a failure
 * nothing was appended. */
MUST_USE int seam_put(struct buf *out, const struct seam_message *m, const int32_t *ids,
                      size_t n_ids, const struct msg_logprob *logprobs, size_t n_alternatives);

#endif
