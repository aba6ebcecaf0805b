/* vocab_pack: a GGUF's tokenizer keys become the packed vocabulary.
 *
 * One pass over the tokens fills text, types and the text table; one over the merges turns pairs of
 * strings into pairs of ids, so that a tokenizer at work compares numbers. Both tables are open
 * addressing with a bounded probe: a file made to collide is refused instead of being slow. What a
 * file names but cannot be used (a merge of unknown tokens, an id out of range) is left out. */
#include "engine/text/vocab.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "engine/gguf.h"
#include "engine/text/letters.h"
#include "engine/text/marks.h"
#include "engine/text/packer.h"

#define BLOB_BYTES_MAX ((size_t)1 << 30) /* offsets into it are 32 bits */

static void packer_deinit(struct packer *p)
{
    free(p->offsets);
    free(p->types);
    free(p->scores);
    free(p->plain);
    free(p->text_slots);
    free(p->merges);
    free(p->merge_slots);
    free(p->specials);
    buf_deinit(&p->blob);
}

/* ---- what the keys say ---- */

/* BitNet b1.58 2B4T's files leave the pre-tokenizer out: its tokenizer is that of Llama 3. */
static bool is_bitnet_2b4t(const struct packer *p)
{
    struct strview arch;

    return gguf_str(p->g, "general.architecture", &arch, NULL) == GGUF_FOUND &&
           (strview_is(arch, "bitnet-b1.58") || strview_is(arch, "bitnet-25")) &&
           p->h.n_tokens == 128256;
}

bool packer_pre_find(struct strview name, enum vocab_pre *ret, uint32_t *ret_flags)
{
    enum { FALCON3 = VOCAB_WHOLE_WORDS | VOCAB_TIDY, LLAMA3 = FALCON3 | VOCAB_ADD_BOS };
    static const struct {
        const char *name;
        enum vocab_pre pre;
        uint32_t flags; /* BOS: unless the file says otherwise */
    } known[] = {
        {"gpt-2", PRE_GPT2, VOCAB_TIDY},
        {"olmo", PRE_GPT2, VOCAB_TIDY | VOCAB_NFC}, /* the GPT-NeoX vocabulary */
        {"llama-bpe", PRE_LLAMA3, LLAMA3},
        {"llama3", PRE_LLAMA3, LLAMA3},
        {"llama-v3", PRE_LLAMA3, LLAMA3},
        {"falcon3", PRE_LLAMA3, FALCON3}, /* Llama 3's words, but its tokenizer has no BOS to add */
        {"falcon_e", PRE_LLAMA3, FALCON3}, /* how Falcon-E's own files call it */
        {"qwen2", PRE_QWEN2, VOCAB_NFC},
        {"falcon", PRE_FALCON, VOCAB_TIDY},
        {"deepseek-llm", PRE_DEEPSEEK_LLM, 0},
    };

    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        if (strview_is(name, known[i].name)) {
            *ret = known[i].pre;
            *ret_flags = known[i].flags;
            return true;
        }
    }
    return false;
}

static int pick_pre(struct packer *p)
{
    struct strview pre;
    enum vocab_pre which;
    const int r = gguf_str(p->g, "tokenizer.ggml.pre", &pre, p->d);

    if (r == GGUF_WRONG_TYPE) {
        return MODEL_MALFORMED;
    }
    if (r == GGUF_ABSENT && is_bitnet_2b4t(p)) {
        pre = strview_of("llama-bpe");
    } else if (r == GGUF_ABSENT) {
        diag_set(
            p->d, p->g->keys_end,
            "tokenizer.ggml.pre is missing, so how text is cut into words is not known; convert "
            "the model with a converter that writes it");
        return MODEL_UNSUPPORTED;
    }
    if (packer_pre_find(pre, &which, &p->h.flags)) {
        p->h.pre = which;
        return MODEL_OK;
    }
    diag_set(p->d, gguf_key_offset(p->g, "tokenizer.ggml.pre"),
             "pre-tokenizer \"%.*s\" is not supported", (int)(pre.n < 64 ? pre.n : 64), pre.data);
    return MODEL_UNSUPPORTED;
}

static int pick_kind(struct packer *p)
{
    struct strview model;
    const int r = gguf_str(p->g, "tokenizer.ggml.model", &model, p->d);

    if (r != GGUF_FOUND) {
        diag_set(p->d, p->g->keys_end, "tokenizer.ggml.model is missing");
        return MODEL_MALFORMED;
    }
    if (strview_is(model, "llama")) {
        p->h.kind = VOCAB_SPM;
        p->h.flags = VOCAB_ADD_BOS | VOCAB_SPACE_PREFIX; /* unless the file says otherwise */
        return MODEL_OK;
    }
    if (strview_is(model, "gpt2")) {
        p->h.kind = VOCAB_BPE;
        return pick_pre(p);
    }
    diag_set(p->d, gguf_key_offset(p->g, "tokenizer.ggml.model"),
             "tokenizer model \"%.*s\" is not supported", (int)(model.n < 64 ? model.n : 64),
             model.data);
    return MODEL_UNSUPPORTED;
}

/* An array beside the tokens: absent is for the caller to judge, another length is wrong. */
static int side_array(struct packer *p, const char *name, enum gguf_value elem,
                      const struct gguf_key **ret)
{
    const int r = gguf_array(p->g, name, elem, ret, p->d);

    if (r == GGUF_ABSENT) {
        *ret = NULL;
        return MODEL_OK;
    }
    if (r != GGUF_FOUND) {
        return MODEL_MALFORMED;
    }
    if ((*ret)->n != p->tokens->n) {
        diag_set(p->d, (*ret)->offset, "%s has %" PRIu64 " entries, the vocabulary %" PRIu64, name,
                 (*ret)->n, p->tokens->n);
        return MODEL_MALFORMED;
    }
    return MODEL_OK;
}

static int find_tokens(struct packer *p)
{
    const int r = gguf_array(p->g, "tokenizer.ggml.tokens", GGUF_STR, &p->tokens, p->d);

    if (r != GGUF_FOUND || p->tokens->n == 0) {
        diag_set(p->d, gguf_key_offset(p->g, "tokenizer.ggml.tokens"),
                 "tokenizer.ggml.tokens is missing or empty");
        return MODEL_MALFORMED;
    }
    if (p->tokens->n > MODEL_VOCAB_MAX) {
        diag_set(p->d, p->tokens->offset, "%" PRIu64 " tokens; at most %u", p->tokens->n,
                 MODEL_VOCAB_MAX);
        return MODEL_TOO_BIG;
    }
    p->h.n_tokens = (uint32_t)p->tokens->n;
    return MODEL_OK;
}

static int find_merges(struct packer *p)
{
    if (p->h.kind != VOCAB_BPE) {
        return MODEL_OK;
    }
    if (gguf_array(p->g, "tokenizer.ggml.merges", GGUF_STR, &p->merge_lines, p->d) != GGUF_FOUND) {
        diag_set(p->d, p->g->keys_end, "tokenizer.ggml.merges is missing");
        return MODEL_MALFORMED;
    }
    if (p->merge_lines->n > VOCAB_MERGES_MAX) {
        diag_set(p->d, p->merge_lines->offset, "%" PRIu64 " merges; at most %u", p->merge_lines->n,
                 VOCAB_MERGES_MAX);
        return MODEL_TOO_BIG;
    }
    return MODEL_OK;
}

static int read_types(struct packer *p)
{
    const struct gguf_key *key;
    int r = side_array(p, "tokenizer.ggml.token_type", GGUF_I32, &key);

    for (uint32_t i = 0; r == MODEL_OK && i < p->h.n_tokens; i++) {
        int32_t type = TOKEN_NORMAL;
        if (key) {
            memcpy(&type, key->data + (size_t)i * 4, 4);
        }
        p->types[i] = type >= TOKEN_NORMAL && type <= TOKEN_BYTE ? (uint8_t)type : TOKEN_NORMAL;
    }
    return r;
}

static int read_scores(struct packer *p)
{
    const struct gguf_key *key;
    const int r = side_array(p, "tokenizer.ggml.scores", GGUF_F32, &key);

    if (r != MODEL_OK || p->h.kind != VOCAB_SPM) {
        return r;
    }
    if (!key) {
        diag_set(p->d, p->g->keys_end, "tokenizer.ggml.scores is missing");
        return MODEL_MALFORMED;
    }
    memcpy(p->scores, key->data, (size_t)p->h.n_tokens * sizeof(float));
    return MODEL_OK;
}

/* A token id from a key; one that is no token counts as absent. */
static int read_id(struct packer *p, const char *name, int32_t fallback, int32_t *ret)
{
    uint32_t id;
    const int r = gguf_u32(p->g, name, &id, p->d);

    if (r == GGUF_WRONG_TYPE) {
        return MODEL_MALFORMED;
    }
    if (r == GGUF_ABSENT) {
        *ret = fallback >= 0 && (uint32_t)fallback < p->h.n_tokens ? fallback : -1;
        return MODEL_OK;
    }
    *ret = id < p->h.n_tokens ? (int32_t)id : -1;
    return MODEL_OK;
}

/* A flag that stays as it is where the key is absent. */
static int read_flag(struct packer *p, const char *name, uint32_t flag)
{
    bool on = p->h.flags & flag;

    if (gguf_bool(p->g, name, &on, p->d) == GGUF_WRONG_TYPE) {
        return MODEL_MALFORMED;
    }
    p->h.flags = on ? p->h.flags | flag : p->h.flags & ~flag;
    return MODEL_OK;
}

/* ---- tokens ---- */

/* "<0x41>": the value of a byte token's text, or -1. */
static int byte_text(struct strview s)
{
    int v = 0;

    if (s.n != 6 || memcmp(s.data, "<0x", 3) != 0 || s.data[5] != '>') {
        return -1;
    }
    for (int i = 3; i < 5; i++) {
        const char c = s.data[i];
        if (c >= '0' && c <= '9') {
            v = v * 16 + (c - '0');
        } else if (c >= 'A' && c <= 'F') {
            v = v * 16 + (c - 'A' + 10);
        } else {
            return -1;
        }
    }
    return v;
}

/* The bytes to keep for one token; `scratch` has room for the text. */
static struct strview kept_text(struct packer *p, uint32_t id, struct strview text, char *scratch)
{
    if (mark_is_control(text, (enum token_type)p->types[id])) {
        p->types[id] = TOKEN_CONTROL;
    }
    const uint8_t type = p->types[id];
    const bool literal = type == TOKEN_CONTROL || type == TOKEN_UNKNOWN || type == TOKEN_USER;

    p->plain[id] = text.n > 0 && type != TOKEN_CONTROL && type != TOKEN_UNKNOWN;
    if (p->h.kind == VOCAB_BPE) {
        size_t n;
        if (literal) {
            return text;
        }
        if (type == TOKEN_UNUSED) { /* pads the embedding's rows: its text is a name, not content */
            p->plain[id] = false;
            return (struct strview){0};
        }
        if (!letters_decode(text, scratch, &n)) {
            p->plain[id] = false; /* no bytes can spell it */
            return text;
        }
        return (struct strview){scratch, n};
    }
    const int byte = byte_text(text);
    if (byte >= 0 && !literal) {
        if (p->h.byte_ids[byte] < 0) {
            p->h.byte_ids[byte] = (int32_t)id;
        }
        if (type == TOKEN_BYTE) {
            p->plain[id] = false;
            scratch[0] = (char)(uint8_t)byte;
            return (struct strview){scratch, 1};
        }
    }
    return text;
}

static int read_texts(struct packer *p)
{
    struct gguf_str_iter it = gguf_strings(p->tokens);
    struct strview text;
    char scratch[TEXT_PIECE_MAX];
    uint32_t id = 0;

    for (; id < p->h.n_tokens && gguf_str_next(&it, &text); id++) {
        if (text.n > TEXT_PIECE_MAX) {
            diag_set(p->d, p->tokens->offset, "token %u has %zu bytes; at most %u", id, text.n,
                     TEXT_PIECE_MAX);
            return MODEL_TOO_BIG;
        }
        const struct strview kept = kept_text(p, id, text, scratch);
        const int r = buf_append(&p->blob, kept.data, kept.n);
        if (r == -E2BIG) {
            diag_set(p->d, p->tokens->offset, "texts of the tokens pass %zu bytes", BLOB_BYTES_MAX);
            return MODEL_TOO_BIG;
        }
        if (r < 0) {
            return r;
        }
        p->offsets[id + 1] = (uint32_t)p->blob.n;
        if (kept.n > p->h.text_bytes_max) {
            p->h.text_bytes_max = (uint32_t)kept.n;
        }
    }
    if (id < p->h.n_tokens) {
        diag_set(p->d, p->tokens->offset, "the token array ends early");
        return MODEL_MALFORMED;
    }
    return MODEL_OK;
}

/* ---- ends ---- */

/* @id: -1 for none */
static int add_end(struct packer *p, int32_t id)
{
    for (uint32_t i = 0; i < p->h.n_ends; i++) {
        if (p->ends[i] == (uint32_t)id) {
            return MODEL_OK;
        }
    }
    if (id < 0) {
        return MODEL_OK;
    }
    if (p->h.n_ends == VOCAB_ENDS_MAX) {
        diag_set(p->d, p->tokens->offset, "more than %u tokens end a generation", VOCAB_ENDS_MAX);
        return MODEL_TOO_BIG;
    }
    p->ends[p->h.n_ends++] = (uint32_t)id;
    return MODEL_OK;
}

static int add_named_ends(struct packer *p)
{
    static const char *const names[] = {"tokenizer.ggml.eot_token_id",
                                        "tokenizer.ggml.eom_token_id"};
    static const char list[] = "tokenizer.ggml.eos_token_ids"; /* where a file has more than one */
    const struct gguf_key *key = gguf_find(p->g, list);
    int r = add_end(p, p->h.eos);

    for (size_t i = 0; r == MODEL_OK && i < ARRAY_SIZE(names); i++) {
        int32_t id = -1;
        r = read_id(p, names[i], -1, &id);
        if (r == MODEL_OK) {
            r = add_end(p, id);
        }
    }
    if (r != MODEL_OK || !key) {
        return r;
    }
    if (key->type != GGUF_ARR || (key->elem != GGUF_I32 && key->elem != GGUF_U32)) {
        diag_set(p->d, key->offset, "%s is no array of token ids", list);
        return MODEL_MALFORMED;
    }
    for (uint64_t i = 0; r == MODEL_OK && i < key->n; i++) {
        uint32_t id;
        memcpy(&id, key->data + i * 4, 4);
        r = id < p->h.n_tokens ? add_end(p, (int32_t)id) : MODEL_OK;
    }
    return r;
}

static int by_id(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

static int list_ends(struct packer *p)
{
    int r = add_named_ends(p);

    for (uint32_t id = 0; r == MODEL_OK && id < p->h.n_tokens; id++) {
        if (p->types[id] == TOKEN_CONTROL && mark_is_end(packer_text(p, id))) {
            r = add_end(p, (int32_t)id);
        }
    }
    qsort(p->ends, p->h.n_ends, sizeof(*p->ends), by_id);
    return r;
}

static int read_settings(struct packer *p)
{
    const bool spm = p->h.kind == VOCAB_SPM;
    int r = read_id(p, "tokenizer.ggml.bos_token_id", spm ? 1 : -1, &p->h.bos);

    if (r == MODEL_OK) {
        r = read_id(p, "tokenizer.ggml.eos_token_id", spm ? 2 : -1, &p->h.eos);
    }
    if (r == MODEL_OK) {
        r = read_id(p, "tokenizer.ggml.unknown_token_id", spm ? 0 : -1, &p->h.unk);
    }
    if (r == MODEL_OK) {
        r = read_flag(p, "tokenizer.ggml.add_bos_token", VOCAB_ADD_BOS);
    }
    if (r == MODEL_OK) {
        r = read_flag(p, "tokenizer.ggml.add_eos_token", VOCAB_ADD_EOS);
    }
    if (r == MODEL_OK && spm) {
        r = read_flag(p, "tokenizer.ggml.add_space_prefix", VOCAB_SPACE_PREFIX);
    }
    return r != MODEL_OK ? r : list_ends(p);
}

/* ---- all of it ---- */

static uint32_t slots_for(uint64_t n)
{
    uint32_t slots = 2;

    while (slots < n) {
        slots *= 2;
    }
    return slots;
}

static int packer_alloc(struct packer *p)
{
    const size_t n = p->h.n_tokens;
    const uint64_t n_merges = p->merge_lines ? p->merge_lines->n : 0;

    p->h.n_text_slots = slots_for((uint64_t)n * 2);
    p->h.n_merge_slots = slots_for(n_merges + n_merges / 2);
    p->offsets = calloc(n + 1, sizeof(*p->offsets));
    p->types = calloc(n, sizeof(*p->types));
    p->plain = calloc(n, sizeof(*p->plain));
    p->specials = calloc(n, sizeof(*p->specials));
    p->text_slots = calloc(p->h.n_text_slots, sizeof(*p->text_slots));
    p->merge_slots = calloc(p->h.n_merge_slots, sizeof(*p->merge_slots));
    p->merges = calloc((size_t)n_merges + 1, sizeof(*p->merges));
    if (p->h.kind == VOCAB_SPM) {
        p->scores = calloc(n, sizeof(*p->scores));
    }
    if (!p->offsets || !p->types || !p->plain || !p->specials || !p->text_slots ||
        !p->merge_slots || !p->merges || (p->h.kind == VOCAB_SPM && !p->scores)) {
        return -ENOMEM;
    }
    return buf_reserve(&p->blob, 64); /* so that it is there even when every text is empty */
}

static int build(struct packer *p)
{
    int r = read_types(p);

    if (r == MODEL_OK) {
        r = read_scores(p);
    }
    if (r == MODEL_OK) {
        r = read_texts(p);
    }
    if (r == MODEL_OK) {
        r = packer_hash_texts(p);
    }
    if (r == MODEL_OK && p->h.kind == VOCAB_BPE) {
        for (int b = 0; b < 256; b++) {
            const char c = (char)(uint8_t)b;
            p->h.byte_ids[b] = packer_find_text(p, &c, 1);
        }
        r = packer_hash_merges(p);
    }
    if (r == MODEL_OK) {
        packer_list_specials(p);
        r = read_settings(p);
    }
    return r;
}

static int emit_section(struct buf *out, size_t base, const void *data, uint64_t bytes,
                        struct vocab_section *ret)
{
    static const uint8_t zeros[8];
    int r = buf_append(out, zeros, (8 - (out->n - base) % 8) % 8);

    *ret = (struct vocab_section){out->n - base, bytes};
    return r < 0 ? r : buf_append(out, data, (size_t)bytes);
}

static int emit(struct packer *p, struct buf *out)
{
    const size_t base = out->n;
    const uint64_t n = p->h.n_tokens;
    const struct {
        const void *data;
        uint64_t bytes;
        struct vocab_section *section;
    } parts[] = {
        {p->offsets, (n + 1) * 4, &p->h.offsets},
        {p->types, n, &p->h.types},
        {p->scores, p->scores ? n * 4 : 0, &p->h.scores},
        {p->text_slots, (uint64_t)p->h.n_text_slots * 4, &p->h.text_slots},
        {p->merges, (uint64_t)p->h.n_merges * sizeof(*p->merges), &p->h.merges},
        {p->merge_slots, (uint64_t)p->h.n_merge_slots * 4, &p->h.merge_slots},
        {p->specials, (uint64_t)p->h.n_specials * 4, &p->h.specials},
        {p->ends, (uint64_t)p->h.n_ends * 4, &p->h.ends},
        {p->blob.data, p->blob.n, &p->h.blob},
        {NULL, 0, &(struct vocab_section){0}}, /* pads the end to a border of 8 */
    };
    int r = buf_append(out, &p->h, sizeof(p->h));

    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(parts); i++) {
        r = emit_section(out, base, parts[i].data, parts[i].bytes, parts[i].section);
    }
    if (r == 0) {
        p->h.bytes = out->n - base;
        memcpy(out->data + base, &p->h, sizeof(p->h));
        return MODEL_OK;
    }
    out->n = base;
    if (r == -E2BIG) {
        diag_set(p->d, p->tokens->offset, "the packed vocabulary passes %zu bytes", out->max);
        return MODEL_TOO_BIG;
    }
    return r;
}

int vocab_pack(const struct gguf *g, struct buf *out, struct diag *ret_diag)
{
    struct packer p = {
        .g = g, .d = ret_diag, .h = {.magic = VOCAB_MAGIC, .version = VOCAB_VERSION, .unk = -1}};

    memset(p.h.byte_ids, 0xff, sizeof(p.h.byte_ids));
    buf_init(&p.blob, BLOB_BYTES_MAX);
    int r = find_tokens(&p);
    if (r == MODEL_OK) {
        r = pick_kind(&p);
    }
    if (r == MODEL_OK) {
        r = find_merges(&p);
    }
    if (r == MODEL_OK) {
        r = packer_alloc(&p);
    }
    if (r == MODEL_OK) {
        r = build(&p);
    }
    if (r == MODEL_OK) {
        r = emit(&p, out);
    }
    packer_deinit(&p);
    return r;
}
