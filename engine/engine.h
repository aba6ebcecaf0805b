/* The engine's front: everything that the runner, the workbench and the trainer may see of it.
 *
 * The life of a model: a GGUF file is parsed, checked and packed once (model_pack, in a process
 * that may die of it), the packed form is mapped (model_open_packed), and steps run over it. The
 * workbench does both in one process with model_open_gguf(). A packed model never changes, so any
 * number of threads may read it.
 *
 * Errors: 0 is success, a negative value an errno to pass up, a positive value one of the outcomes
 * named here. Nothing in the engine logs, exits or reads the environment. */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/diag.h"
#include "base/strview.h"
#include "engine/draft.h"
#include "engine/gguf_out.h"
#include "engine/kernels/cpu.h"
#include "engine/resident.h"
#include "engine/sampler.h"
#include "engine/tune.h"
#include "engine/weights.h"
#include "engine/words.h"

/* ---- limits ---- */

#define MODEL_VOCAB_MAX 1048576u /* tokens; the largest vocabulary in use has 262,144 */
#define MODEL_CTX_MAX 1048576u   /* positions in one sequence */
#define MODEL_LAYERS_MAX 1024u
#define STEP_ITEMS_MAX 64u /* sequences in one step */
#define STEP_BEST_MAX 256u /* logits of a row that may be asked for as its largest */
#define STEP_ALSO_MAX 64u  /* and by their ids */
#define TEXT_PIECE_MAX                                                                             \
    4096u /* bytes of one token's text; GGUF vocabularies with longer ones are refused */

/* What opening, checking or packing a model can tell its caller besides "the system failed". */
enum {
    MODEL_OK = 0,
    MODEL_MALFORMED,   /* the bytes are not a sound model; diag has what and the offset */
    MODEL_UNSUPPORTED, /* sound, but a format, graph, tokenizer or shape this engine does not run;
                        * diag names it */
    MODEL_TOO_BIG,     /* would pass a limit; diag has both numbers */
    MODEL_STALE, /* packed by another version of this program, or for another file: pack again */
};

/* What a cache keeps of keys and values: floats, halves, or int8, scaled per position and head. */
enum kv_type { KV_F32 = 0, KV_F16, KV_I8 };

/* ---- the machine: kernels and threads ---- */

struct engine; /* opaque: kernel table and thread pool */

struct engine_options {
    enum cpu_level cpu;      /* must be present (cpu_level_present) */
    unsigned n_threads;      /* 1..64, the calling thread included */
    unsigned n_threads_most; /* that a tuning may use; 0: n_threads */
    /* Called once, when every file is open that the engine opens of itself, and before its first
     * thread: for a process that then gives up what it may do. What it returns below 0 ends
     * engine_new(). May be NULL. */
    int (*before_threads)(void *arg);
    void *arg; /* borrowed for the call */
};

/**
 * engine_new() - start the worker threads
 *
 * Return: 0; -EINVAL for an absent level or a silly thread count; another negative errno.
 */
MUST_USE int engine_new(struct engine **ret, const struct engine_options *options);
void engine_free(struct engine *engine);
enum cpu_level engine_cpu(const struct engine *engine);
/** engine_threads_limit() - from the next step on no step takes more threads; 0: no limit. Numbers
 * do not depend on it. By the thread that runs the steps. */
void engine_threads_limit(struct engine *engine, unsigned n_threads);

/* ---- models ---- */

struct model; /* opaque; immutable */
struct vocab; /* opaque; immutable; lives inside a model or stands alone */

struct model_limits {
    uint64_t bytes_max; /* file size, bytes; 0: no limit */
};

/** A string that names this build's packed form: part of the cache file's name, so that another
 * version packs anew. Static. */
const char *model_pack_id(void);

/**
 * model_pack() - check a GGUF file whole and write its packed form
 * @fd_in:  readable regular file. Borrowed.
 * @fd_out: readable and writable, empty regular file. Borrowed; on success synced, read back and
 *          right. On failure its content is garbage and the caller removes it.
 * @ret_diag: on any outcome > 0, where and what. On -ENOSPC, where the file system said so before
 *          the first byte was written: in place of the offset the bytes needed, as text those that
 *          are free; else untouched. May be NULL.
 *
 * Return: MODEL_OK, MODEL_MALFORMED, MODEL_UNSUPPORTED, MODEL_TOO_BIG or a negative errno.
 */
MUST_USE int model_pack(int fd_in, int fd_out, const struct model_limits *limits,
                        struct diag *ret_diag);

/**
 * model_open_packed() - map a file that model_pack() wrote
 * @ret: on MODEL_OK a new model; free with model_free()
 * @fd:  borrowed
 *
 * Header, directory and table checksums are verified here, the weights' by model_bring_in() and
 * model_verify().
 * Return: MODEL_OK, MODEL_STALE, MODEL_MALFORMED (a wrong checksum or bound) or a negative errno.
 */
MUST_USE int model_open_packed(struct model **ret, int fd, struct diag *ret_diag);

/** model_is_packed() - does this file begin as one that model_pack() wrote? fd is borrowed. */
bool model_is_packed(int fd);

/** model_open_gguf() - model_pack() into a scratch file and open that: for the workbench and tests.
 * The file is in memory, or in $TMPDIR where it is large for this machine; the model holds it. */
MUST_USE int model_open_gguf(struct model **ret, int fd, const struct model_limits *limits,
                             struct diag *ret_diag);

/** model_verify() - check the weights' checksums: MODEL_OK or MODEL_MALFORMED. Reads every byte. */
MUST_USE int model_verify(const struct model *model, struct diag *ret_diag);

void model_free(struct model *model);

enum chat_template {
    CHAT_NONE = 0, /* the file names no template, or one this engine does not know */
    CHAT_CHATML,
    CHAT_LLAMA3,
    CHAT_QWEN3,   /* ChatML with think blocks */
    CHAT_BITNET,  /* BitNet b1.58 2B4T */
    CHAT_FALCON3, /* without tools */
    CHAT_MINICPM, /* 1 and 2; later ones write ChatML */
    CHAT_TEMPLATES,
};

/* Facts about a model. Strings borrow from the model, are NUL-terminated and may hold any byte but
 * NUL: whoever prints them to a terminal escapes them. */
struct model_info {
    const char *arch; /* "llama", "bitnet-b1.58", ...: engine/arch.h */
    const char *name; /* general.name, or "" */
    /* Distinct weight formats, "I2_S+F16": the layers' by size descending, then those that only the
     * embedding and head have, then "binary-activations" or "int8-activations" where the file asks
     * for other activations than the formats take. */
    const char *formats;
    /* Of the layers' matrices: "binary", "ternary", "int4", "int8", "f16", "bf16", "f32";
     * "gptq-4bit" and "awq-8bit" for int4 and int8 in a file that says so; "mixed" for several,
     * "other" for one that only its format names (Q6_K, or two bits with weights of
     * +2). */
    const char *quantization;
    /* What the layers' matrices are multiplied with, where the file has the key onebit.activations:
     * "binary", "int8"; "" where it is what their formats take. */
    const char *activations;
    uint64_t n_params;
    uint64_t file_bytes;     /* of the GGUF */
    uint64_t packed_bytes;   /* of the packed form */
    uint64_t head_low_bytes; /* of them: the head's copy in five bits; 0: there is none */
    uint32_t n_layer, n_embd, n_ff, n_head, n_head_kv, head_dim, n_vocab;
    uint32_t n_ctx_train; /* positions a sequence can have */
    uint32_t n_ctx_file;  /* the same by the file, where longrope or a limit leaves less of it */
    bool head_tied;
    enum chat_template chat;
    bool has_chat_template; /* the file has one, known or not */
    /* What the file recommends for sampling; < 0 where it says nothing (general.sampling.*). */
    float temperature, top_p, min_p;
    int32_t top_k;
};

void model_info(const struct model *model, struct model_info *ret);

/** model_tensor_count/_tensor() - the tensors as the file names them, for `info` */
size_t model_tensor_count(const struct model *model);
struct model_tensor {
    const char *name;   /* borrowed from the model */
    const char *format; /* static */
    uint64_t n_cols, n_rows;
};
void model_tensor(const struct model *model, size_t i, struct model_tensor *ret);

const struct vocab *model_vocab(const struct model *model);

/* ---- vocabulary: text to ids and back ---- */

/** vocab_open_gguf() - the vocabulary, also of a file without tensors; free with vocab_free() */
MUST_USE int vocab_open_gguf(struct vocab **ret, int fd, struct diag *ret_diag);
void vocab_free(struct vocab *vocab);

uint32_t vocab_size(const struct vocab *vocab);

enum { /* flags of vocab_tokenize() */
       TOKENIZE_SPECIAL =
           1, /* recognise control tokens in the text (user-defined ones always are) */
       TOKENIZE_ADD_SPECIAL = 2, /* add BOS and EOS as the file says */
};

enum { TOKENIZE_OK = 0, TOKENIZE_FULL, TOKENIZE_HARD };

/**
 * vocab_tokenize() - text to token ids
 * @text: n bytes, any bytes; invalid UTF-8 is read as one U+FFFD a byte by byte-level vocabularies
 *        and as byte tokens by SentencePiece ones. Between control and user-defined tokens it is
 *        brought into Unicode's normalization form C where the model's tokenizer does so (qwen2)
 * @ids:  room for ids_max; written
 * @ret_n: ids written
 *
 * Thread-safe. Time is O(n log n) in the text.
 * Return: TOKENIZE_OK; TOKENIZE_FULL: more than ids_max ids; TOKENIZE_HARD: the pattern matcher's
 * limit was passed, or one character has 512 bytes of marks; -E2BIG past 341 MiB of text, or 1 GiB
 * in form C or with its invalid bytes replaced; -ENOMEM.
 */
MUST_USE int vocab_tokenize(const struct vocab *vocab, const char *text, size_t n, unsigned flags,
                            int32_t *ids, size_t ids_max, size_t *ret_n);

/** vocab_is_end() - does this token end a generation (EOS, end of turn, ...)? */
bool vocab_is_end(const struct vocab *vocab, int32_t id);

/** vocab_bos() - the BOS id, or -1 */
int32_t vocab_bos(const struct vocab *vocab);
/** vocab_adds_bos() - does a text begin with BOS (TOKENIZE_ADD_SPECIAL) in this vocabulary? */
bool vocab_adds_bos(const struct vocab *vocab);

/**
 * vocab_piece() - the exact bytes one token stands for
 * @special: write control tokens out; otherwise they are empty
 * @ret: room for TEXT_PIECE_MAX bytes; written, no NUL
 *
 * A SentencePiece vocabulary's space mark is a space here; the space that its tokenizer puts before
 * a text is dropped by detokenizing (struct textout, vocab_detokenize), not here.
 * Return: bytes written; 0 for an id out of range.
 */
size_t vocab_piece(const struct vocab *vocab, int32_t id, bool special, char *ret);

/**
 * vocab_detokenize() - a sequence as its tokenizer writes it back, special tokens written out
 *
 * The exact bytes of the pieces, except that gpt-2, llama-bpe and falcon vocabularies tidy: spaces
 * go before ? ! . , and in " 's", " 'm", " 're", " 've", " ' ". Streaming (struct textout) never
 * tidies.
 * @ret: on success, malloc'ed bytes, the caller frees; @ret_n their number
 * Return: 0 or -ENOMEM.
 */
MUST_USE int vocab_detokenize(const struct vocab *vocab, const int32_t *ids, size_t n, char **ret,
                              size_t *ret_n);

/* ---- text of a generation, as it streams ---- */

#define STOPS_MAX 16u
#define STOP_BYTES_MAX 256u

/* Turns sampled ids into text to deliver: holds back the bytes of an unfinished character and any
 * tail that may be the start of a stop string. What it delivers is always valid UTF-8 (bytes that
 * can never become a character turn into U+FFFD). Replaying the same ids gives the same text. */
struct textout;

/** textout_new() - @stops: n_stops strings of 1..STOP_BYTES_MAX bytes of UTF-8, copied; -EINVAL
 * otherwise */
MUST_USE int textout_new(struct textout **ret, const struct vocab *vocab,
                         const struct strview *stops, size_t n_stops);
void textout_free(struct textout *t);

/**
 * textout_feed() - add one sampled id
 * @ret_text: the text that may be delivered now; borrowed until the next call on t
 *
 * Return: true when a stop string has just completed; the text then ends before it.
 */
bool textout_feed(struct textout *t, int32_t id, struct strview *ret_text);

/** textout_finish() - what was held back, at the end of a generation that no stop string ended */
void textout_finish(struct textout *t, struct strview *ret_text);

/* ---- chat ---- */

struct chat_message {
    struct strview role, content; /* borrowed */
    struct strview reasoning; /* borrowed; an assistant's thoughts kept apart from its answer, for
                                   * qwen3; data is NULL when there are none */
};

enum { CHAT_OK = 0, CHAT_NO_TEMPLATE, CHAT_BAD_MESSAGES };

/** chat_template_name() - "bitnet", "chatml", ...; "none" for CHAT_NONE */
const char *chat_template_name(enum chat_template t);
/** chat_template_parse() - back; false for "none" and for what is no name */
MUST_USE bool chat_template_parse(struct strview name, enum chat_template *ret);
/** chat_template_names - all there are, for a person: "a, b or c" */
extern const char chat_template_names[];

/**
 * chat_template_of_gguf() - which template a file names, as its model will have it
 * @fd: also of a file without tensors; borrowed for the call
 * @ret: CHAT_NONE: it names none, or one that this engine does not know
 * @ret_given: does it name one?
 *
 * Return: MODEL_OK; MODEL_MALFORMED; a negative errno.
 */
MUST_USE int chat_template_of_gguf(int fd, enum chat_template *ret, bool *ret_given,
                                   struct diag *ret_diag);

struct chat_options {
    bool generation_prompt; /* end with the head of an assistant's turn */
    bool add_bos; /* vocab_adds_bos(): chatml and minicpm, which leave it open, begin with BOS */
    bool no_thinking; /* qwen3: an empty think block in the generation prompt */
};

/**
 * chat_render() - messages to prompt text, as the model's own template does
 * @bos: text of the BOS token, for templates that write one and for add_bos; may be empty
 * @ret: malloc'ed, the caller frees; tokenize with TOKENIZE_SPECIAL and without ADD_SPECIAL
 *
 * Contents are written as they are (trimmed by llama3, bitnet and minicpm). Marks in a content are
 * not told from the template's own, here and in the models' own templates alike: who may write a
 * content may also write turns. Roles are plain words of 1 to 64 letters, digits, '_' and '-';
 * qwen3 takes system, user, assistant and tool, falcon3 and minicpm the first three, the others
 * any.
 *
 * Return: CHAT_OK; CHAT_NO_TEMPLATE for CHAT_NONE; CHAT_BAD_MESSAGES (none, a role the template has
 * no place for, or a prompt past 64 MiB), diag says which; -ENOMEM.
 */
MUST_USE int chat_render(enum chat_template t, const struct chat_message *messages, size_t n,
                         const struct chat_options *options, struct strview bos, char **ret,
                         size_t *ret_n, struct diag *ret_diag);

/* ---- KV cache and sequences ---- */

#define KV_BLOCK 32u /* positions in one block */

struct kv_pool; /* opaque: fixed blocks for one model; not thread-safe */
struct seq;     /* opaque: one sequence's positions in a pool */

/** kv_type_name/_parse() - "f32", "f16", "int8" */
const char *kv_type_name(enum kv_type type);
MUST_USE bool kv_type_parse(struct strview name, enum kv_type *ret);

/** kv_block_bytes() - bytes of one block of this model's cache */
uint64_t kv_block_bytes(const struct model *model, enum kv_type type);

/** kv_pool_new() - room for n_blocks blocks; memory is taken as blocks are first used */
MUST_USE int kv_pool_new(struct kv_pool **ret, const struct model *model, enum kv_type type,
                         size_t n_blocks);
void kv_pool_free(struct kv_pool *pool); /* after its sequences */
/** kv_pool_free_blocks/_idle_blocks() - blocks that hold nothing; that no sequence holds, but a
 * later one may find. Both are there to be taken. */
size_t kv_pool_free_blocks(const struct kv_pool *pool);
size_t kv_pool_idle_blocks(const struct kv_pool *pool);

/**
 * kv_pool_give_back() - hand memory to the system: idle blocks of so many bytes, least valuable
 * first, are found no more; then the pages of all free blocks go
 *
 * Return: bytes that are in memory no more, as measured.
 */
uint64_t kv_pool_give_back(struct kv_pool *pool, uint64_t bytes);

/** model_page_out() - let the system take the pages of the model's files; they are read again when
 * they are needed. Return: bytes that are in memory no more, as measured. */
uint64_t model_page_out(const struct model *model);

/** seq_new() - an empty sequence of at most n_ctx positions; takes no block yet */
MUST_USE int seq_new(struct seq **ret, struct kv_pool *pool, size_t n_ctx);
/** seq_free() - what can be found again stays so; the other blocks go back to the pool. Zeroed
 * before another use, both. */
void seq_free(struct seq *seq);
size_t seq_len(const struct seq *seq);
/** seq_rewind() - forget positions from n on; n <= seq_len */
void seq_rewind(struct seq *seq, size_t n);
/** seq_reserve() - blocks for n positions in all; idle ones are evicted when none is free. False
 * when the pool has too few (nothing taken). */
MUST_USE bool seq_reserve(struct seq *seq, size_t n);

/** Called by a thread of the pool's own when it could write another block. */
typedef void kv_written_fn(void *arg);

/**
 * kv_pool_spill() - keep blocks that can be found in a file, too, and look for them there
 * @fd:        a regular file, readable and writable, which nobody else writes; owned on success.
 *             What it holds of an earlier pool of the same model and type is used, where it is
 *             sound; anything else is overwritten.
 * @bytes_max: of the file
 * @written:   see kv_written_fn; @arg is borrowed until kv_pool_free()
 *
 * Writing is best effort: when the disk fails, it ends. Reading waits for the disk: seq_attach()
 * reads 8 MiB at most.
 * Return: 0; -EINVAL when there is a file already, or bytes_max has no room for one block; another
 * negative errno.
 */
MUST_USE int kv_pool_spill(struct kv_pool *pool, int fd, uint64_t bytes_max, kv_written_fn *written,
                           void *arg);
/** kv_pool_spill_next() - copy one block for the writer, if it is ready and there is one. Return:
 * was there? */
bool kv_pool_spill_next(struct kv_pool *pool);

#define KV_SALT 16u /* bytes that say who may find a block; all zero: everybody */

/**
 * kv_pool_publish() - what is public is something else from here on
 * @label: a name for it, which is no client's salt; blocks on disk are found again under the same
 *         one only
 *
 * Public blocks of the label before, and what was kept behind them, are found by nobody any more.
 * Sequences that hold some go on.
 */
void kv_pool_publish(struct kv_pool *pool, const uint8_t label[KV_SALT]);

/**
 * seq_attach() - find the positions of ids that are there already, and let what seq computes be
 * found
 * @salt: whose sequence this is. Only blocks of the same salt are found, and those of the public
 *        one.
 * @ids:  n ids, of which seq's own positions are the first ones; n may be 0
 *
 * Whole blocks are shared, and at least the last id is left to compute. The longer chain counts, of
 * those that begin with the salt's own and with public blocks. Ids and salt are compared, not only
 * their hash. From here on each block that seq fills can be found by others of its salt (by
 * everybody until the next kv_pool_publish(), where that is all zero). May be called again between
 * steps, with the same salt: others may have computed more in the meantime. A sequence's numbers
 * are the same with and without: engine/NUMERICS.md.
 *
 * Return: positions found and added by this call.
 */
size_t seq_attach(struct seq *seq, const uint8_t salt[KV_SALT], const int32_t *ids, size_t n);
/** seq_on_disk() - did the last seq_attach() leave more to read? Call it again before computing */
bool seq_on_disk(const struct seq *seq);

/* ---- steps ---- */

struct stepper; /* opaque: scratch for one model on one engine; one step at a time */

struct stepper_limits {
    size_t n_tokens_max; /* tokens in one step, all sequences together */
    size_t n_logits_max; /* rows of logits in one step */
};

MUST_USE int stepper_new(struct stepper **ret, struct engine *engine, const struct model *model,
                         const struct stepper_limits *limits);
void stepper_free(struct stepper *st);
/** stepper_bytes_for() - what stepper_bytes() will say; 0 where stepper_new() would refuse */
uint64_t stepper_bytes_for(const struct engine *engine, const struct model *model,
                           const struct stepper_limits *limits);
/** stepper_bytes() - what its scratch holds, bytes */
uint64_t stepper_bytes(const struct stepper *st);
/** stepper_give_back() - between two steps: hand the scratch's pages to the system. The next step
 * gets them anew, and the logits of the last one are gone. Return: bytes that are in memory no
 * more, as measured. */
uint64_t stepper_give_back(struct stepper *st);

struct step_item {
    struct seq *seq;    /* borrowed; the tokens go to positions seq_len.. */
    const int32_t *ids; /* (n_ids) borrowed; each in 0..n_vocab-1 */
    size_t n_ids;       /* >= 1 */
    size_t n_drafts;    /* the last so many are guesses (seq_accept()); fewer than n_ids */
    size_t n_logits;    /* rows wanted: those of the last n_logits tokens, 0..n_ids */
    /* What is wanted of these rows: 0: all logits. Else the n_best (at most STEP_BEST_MAX) largest
     * of those that are not in `also`, with all that sampler_pick() might take for one of them, and
     * those in `also`; where the model has a head for that (model_info.head_low_bytes), others may
     * be -FLT_MAX instead of what they are. Those wanted are the same to the bit either way. */
    size_t n_best;
    const int32_t *also; /* (n_also) borrowed; each in 0..n_vocab-1 */
    size_t n_also;       /* 0..STEP_ALSO_MAX; 0 where n_best is */
    const float *logits; /* out: (n_logits, n_vocab), owned by the stepper until its next step */
};

enum { STEP_OK = 0, STEP_KV_FULL, STEP_CANCELLED };

/**
 * stepper_run() - run tokens of several sequences through the model, in one pass over the weights
 * @items: 1..STEP_ITEMS_MAX, each sequence at most once
 * @cancel: polled between layers; may be NULL. Once true, nothing is added to any sequence.
 *
 * A row's logits do not depend on the other items, on how a prompt was cut into steps, or on
 * threads. Logits that are not finite are the caller's to notice (sampler_pick does).
 * Return: STEP_OK; STEP_KV_FULL: the pool or a sequence's n_ctx is exhausted, nothing changed;
 * STEP_CANCELLED; -EINVAL when a limit of the stepper is passed or an id is out of range.
 */
MUST_USE int stepper_run(struct stepper *st, struct step_item *items, size_t n_items,
                         const atomic_bool *cancel);

/** stepper_beat() - add one to a number with every layer of a step, for whoever watches. @beats:
 * borrowed until the stepper is freed */
void stepper_beat(struct stepper *st, _Atomic uint64_t *beats);

/* ---- what a model costs ---- */

/* How a model is to be used. */
struct model_use {
    enum kv_type kv;
    size_t n_seqs, n_ctx; /* sequences, and the positions that each of them may have */
    struct stepper_limits limits;
    unsigned n_threads;
};

/* Bytes. The first five are memory, and add up; the last two are traffic. */
struct model_cost {
    uint64_t weights; /* of the packed form; mapped from its file */
    uint64_t tables;  /* everything else in the packed form: vocabulary, directory */
    uint64_t kv;      /* in whole blocks */
    uint64_t scratch; /* what stepper_bytes() will say */
    uint64_t sampler;
    uint64_t token_weights; /* read for one greedy step, however many tokens are in it; rows of the
                             * head that its copy leaves open come to that */
    uint64_t token_kv;      /* read for one token that follows n_ctx others */
};

/** model_cost() - what running a model takes, computed; nothing is allocated or read
 * Return: 0, or -EINVAL for a use that kv_pool_new() or stepper_new() would refuse. */
MUST_USE int model_cost(const struct model *model, const struct model_use *use,
                        struct model_cost *ret);

#endif
