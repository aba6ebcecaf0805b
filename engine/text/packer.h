/* A vocabulary while it is being packed, and the tables that packing builds. */
#ifndef ENGINE_TEXT_PACKER_H
#define ENGINE_TEXT_PACKER_H

#include "base/compiler.h"
#include "base/diag.h"
#include "engine/text/vocab_view.h"

struct gguf;
struct gguf_key;

struct packer {
    const struct gguf *g; /* borrowed */
    struct diag *d;       /* borrowed; may be NULL */
    struct vocab_header h;
    const struct gguf_key *tokens, *merge_lines; /* borrowed from g */
    uint32_t *offsets;                           /* owned, as everything below */
    uint8_t *types;
    float *scores;  /* NULL unless SentencePiece */
    uint8_t *plain; /* (n_tokens) bool: plain text may become this token */
    uint32_t *text_slots;
    struct vocab_merge *merges;
    uint32_t *merge_slots;
    uint32_t *specials;
    uint32_t ends[VOCAB_ENDS_MAX];
    struct buf blob;
};

/** packer_text() - the bytes kept for a token; borrowed until the blob grows */
static inline struct strview packer_text(const struct packer *p, uint32_t id)
{
    return (struct strview){(const char *)p->blob.data + p->offsets[id],
                            p->offsets[id + 1] - p->offsets[id]};
}

/** packer_pre_find() - the pre-tokenizer that GGUF files call so, and the flags it brings */
MUST_USE bool packer_pre_find(struct strview name, enum vocab_pre *ret, uint32_t *ret_flags);

/** packer_hash_texts() - the table from text to id: MODEL_OK or MODEL_MALFORMED. Of equal texts the
 * lowest id is found. */
MUST_USE int packer_hash_texts(struct packer *p);
/** packer_find_text() - the id of a text in the table, or -1 */
int32_t packer_find_text(const struct packer *p, const char *text, size_t n);
/** packer_hash_merges() - merges as ids, and the table of their pairs: MODEL_OK or MODEL_MALFORMED.
 * Of equal pairs the first, which has the lower rank, counts. */
MUST_USE int packer_hash_merges(struct packer *p);
/** packer_list_specials() - the tokens that split text, sorted by their bytes */
void packer_list_specials(struct packer *p);

#endif
