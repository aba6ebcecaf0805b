/* The packed vocabulary, byte for byte, and the object that reads it in place.
 *
 * A packed vocabulary is one header and a row of sections, each on an 8-byte border, without
 * pointers: everything is an offset from the header's first byte. All numbers are little-endian, as
 * every machine this program runs on is.
 *
 * Texts are kept as the tokenizer compares them: byte-level vocabularies as the raw bytes a token
 * stands for (the 256-letter alphabet of their files is undone once, when packing), SentencePiece
 * ones as the file has them, with the space mark. */
#ifndef ENGINE_TEXT_VOCAB_VIEW_H
#define ENGINE_TEXT_VOCAB_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/strview.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "packed files are little-endian");

#define VOCAB_MAGIC UINT64_C(0x424143564f54424f)
#define VOCAB_VERSION 1u
#define VOCAB_ENDS_MAX 64u     /* tokens that end a generation; real files have up to six */
#define VOCAB_PROBES_MAX 1024u /* slots a lookup may touch; a sound table needs below a hundred */
#define VOCAB_MERGES_MAX 4194304u

enum vocab_kind { VOCAB_BPE = 1, VOCAB_SPM = 2 };
enum vocab_pre {
    PRE_NONE = 0,
    PRE_GPT2,
    PRE_LLAMA3,
    PRE_QWEN2,
    PRE_FALCON,
    PRE_DEEPSEEK_LLM,
    PRE_COUNT
};

/* Kinds of tokens, numbered as GGUF numbers them. */
enum token_type {
    TOKEN_NORMAL = 1,
    TOKEN_UNKNOWN,
    TOKEN_CONTROL,
    TOKEN_USER,
    TOKEN_UNUSED,
    TOKEN_BYTE,
};

enum { /* flags of a vocabulary */
       VOCAB_ADD_BOS = 1,
       VOCAB_ADD_EOS = 2,
       VOCAB_SPACE_PREFIX = 4, /* a space goes before a text */
       VOCAB_WHOLE_WORDS = 8,  /* a word that is a token is taken as it is, merges or not */
       VOCAB_TIDY = 16,        /* detokenizing drops spaces before punctuation */
       VOCAB_NFC = 32,         /* text is brought into normalization form C before it is cut */
       VOCAB_FLAGS_ALL = 63,
};

struct vocab_section {
    uint64_t at, bytes;
};

struct vocab_merge {
    uint32_t left, right, result; /* ids; the rank is the index */
};

struct vocab_header {
    uint64_t magic;
    uint32_t version, kind, pre, flags;
    uint32_t n_tokens, n_merges, n_specials, n_ends;
    uint32_t n_text_slots, n_merge_slots; /* powers of two */
    uint32_t text_bytes_max;              /* of the longest token */
    int32_t bos, eos, unk;                /* -1: none */
    int32_t byte_ids[256];                /* the token of each single byte, -1: none */
    uint64_t bytes;                       /* header and sections together */
    struct vocab_section offsets;         /* (n_tokens + 1) u32 into blob */
    struct vocab_section types;           /* (n_tokens) u8 */
    struct vocab_section scores;          /* (n_tokens) f32; SentencePiece only */
    struct vocab_section text_slots;      /* (n_text_slots) u32: id + 1, 0 for a free slot */
    struct vocab_section merges;          /* (n_merges) struct vocab_merge, by rank */
    struct vocab_section merge_slots;     /* (n_merge_slots) u32: rank + 1, 0 for a free slot */
    struct vocab_section specials;        /* (n_specials) u32 ids that split text, by their bytes */
    struct vocab_section ends;            /* (n_ends) u32 ids, ascending */
    struct vocab_section blob;            /* bytes of all tokens, one after the other */
};

struct pretok_code;

struct vocab {
    const struct vocab_header *h; /* borrowed, as everything below, from the packed bytes */
    const uint32_t *offsets;
    const uint8_t *types;
    const float *scores;
    const uint32_t *text_slots;
    const struct vocab_merge *merges;
    const uint32_t *merge_slots;
    const uint32_t *specials;
    const uint32_t *ends;
    const char *blob;
    struct pretok_code *pretok; /* owned: compiled patterns; NULL for SentencePiece */
    uint64_t special_first[4];  /* bit b: a token that splits text begins with byte b */
    uint64_t user_first[4];     /* the same for user-defined tokens alone */
    struct buf own;             /* owned: the packed bytes when no file holds them */
};

static inline bool vocab_id_ok(const struct vocab *v, int32_t id)
{
    return id >= 0 && (uint32_t)id < v->h->n_tokens;
}

/** vocab_text() - a token's bytes as they are kept; id in range; borrowed from the vocabulary */
static inline struct strview vocab_text(const struct vocab *v, uint32_t id)
{
    return (struct strview){v->blob + v->offsets[id], v->offsets[id + 1] - v->offsets[id]};
}

/** hash_bytes() - spreads bytes over 64 bits; part of the packed form, so it may not change */
static inline uint64_t hash_bytes(const char *p, size_t n)
{
    uint64_t h = UINT64_C(0x9e3779b97f4a7c15) ^ n;

    while (n > 0) {
        uint64_t w = 0;
        const size_t k = n < 8 ? n : 8;
        memcpy(&w, p, k);
        h = (h ^ w) * UINT64_C(0xff51afd7ed558ccd);
        h ^= h >> 32;
        p += k;
        n -= k;
    }
    h *= UINT64_C(0xc4ceb9fe1a85ec53);
    return h ^ h >> 29;
}

static inline uint64_t hash_pair(uint32_t left, uint32_t right)
{
    uint64_t h = ((uint64_t)left << 32 | right) * UINT64_C(0xff51afd7ed558ccd);

    h = (h ^ h >> 32) * UINT64_C(0xc4ceb9fe1a85ec53);
    return h ^ h >> 29;
}

/** vocab_find() - the token with these bytes that plain text may become, or -1 */
int32_t vocab_find(const struct vocab *v, const char *text, size_t n);

/** vocab_find_merge() - rank of the merge of two tokens and its result; false when there is none */
bool vocab_find_merge(const struct vocab *v, uint32_t left, uint32_t right, uint32_t *ret_rank,
                      uint32_t *ret_id);

#endif
