/* A byte-level BPE vocabulary of any size, without any text behind it.
 *
 * Tokens 0 to 255 are the bytes, the frequent letters first. The next 65,536 are all pairs of them,
 * in growing squares, so that a small vocabulary holds the pairs of frequent letters; then each
 * pair with one more byte. Every token is thus the concatenation of two earlier ones in exactly one
 * way, which makes each a valid merge and all of them different. Control tokens come last. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/lab/make.h"

#define BYTES 256u
#define PAIRS (BYTES * BYTES)
#define MERGE_BYTES_MAX 16u /* two tokens of at most two characters of two bytes, and a space */

static const char *const controls[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
#define N_CONTROLS ((uint32_t)ARRAY_SIZE(controls))
#define TYPE_NORMAL 1
#define TYPE_CONTROL 3

static const char chatml[] =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] "
    "+ "
    "'<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' "
    "}}{% endif %}";

struct spelling {
    uint8_t order[BYTES]; /* token id to byte */
    char utf8[BYTES][2];  /* byte to the character that stands for it */
    uint8_t utf8_n[BYTES];
    uint16_t (*pairs)[2]; /* owned: token ids of each pair, in the order of the vocabulary */
};

/* Byte-level BPE writes bytes that are no visible Latin-1 characters as U+0100 onwards. */
static void spelling_chars(struct spelling *s)
{
    uint32_t spare = 0x100;

    for (uint32_t b = 0; b < BYTES; b++) {
        const bool visible =
            (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || (b >= 0xae && b <= 0xff);
        const uint32_t c = visible ? b : spare++;
        if (c < 0x80) {
            s->utf8[b][0] = (char)c;
            s->utf8_n[b] = 1;
        } else {
            s->utf8[b][0] = (char)(0xc0 | c >> 6);
            s->utf8[b][1] = (char)(0x80 | (c & 0x3f));
            s->utf8_n[b] = 2;
        }
    }
}

static void spelling_order(struct spelling *s)
{
    static const char first[] = "etaoinshrdlu cmfwypvbgkjqxz.,0123456789\n";
    bool used[BYTES] = {false};
    size_t n = 0;

    for (const char *p = first; *p; p++) {
        s->order[n++] = (uint8_t)*p;
        used[(uint8_t)*p] = true;
    }
    for (uint32_t b = 0; b < BYTES; b++) {
        if (!used[b]) {
            s->order[n++] = (uint8_t)b;
        }
    }
}

static int spelling_init(struct spelling *s)
{
    size_t n = 0;

    s->pairs = calloc(PAIRS, sizeof(*s->pairs));
    if (!s->pairs) {
        return -ENOMEM;
    }
    spelling_chars(s);
    spelling_order(s);
    for (uint16_t edge = 0; edge < BYTES; edge++) { /* pairs whose larger id is `edge` */
        for (uint16_t i = 0; i <= edge; i++) {
            s->pairs[n][0] = edge;
            s->pairs[n++][1] = i;
            if (i != edge) {
                s->pairs[n][0] = i;
                s->pairs[n++][1] = edge;
            }
        }
    }
    return 0;
}

static size_t spell_byte(const struct spelling *s, uint32_t id, char *out)
{
    const uint8_t b = s->order[id];

    memcpy(out, s->utf8[b], s->utf8_n[b]);
    return s->utf8_n[b];
}

/* Text of token `id`; with @mark, a space between the two tokens that it merges. Returns bytes. */
static size_t spell(const struct spelling *s, uint32_t id, bool mark, char *out)
{
    size_t n = 0;

    if (id < BYTES) {
        return spell_byte(s, id, out);
    }
    const uint32_t merge = id - BYTES;
    const uint32_t pair = merge < PAIRS ? merge : (merge - PAIRS) / BYTES;
    n += spell_byte(s, s->pairs[pair][0], out + n);
    if (mark && merge < PAIRS) {
        out[n++] = ' ';
    }
    n += spell_byte(s, s->pairs[pair][1], out + n);
    if (merge >= PAIRS) {
        if (mark) {
            out[n++] = ' ';
        }
        n += spell_byte(s, (merge - PAIRS) % BYTES, out + n);
    }
    return n;
}

struct tables {
    char *text;             /* owned: tokens' bytes, then merges' */
    struct strview *tokens; /* owned: n */
    struct strview *merges; /* owned: n - N_CONTROLS - BYTES */
    int32_t *types;         /* owned: n */
};

static void tables_deinit(struct tables *t)
{
    free(t->text);
    free(t->tokens);
    free(t->merges);
    free(t->types);
}

static int tables_init(struct tables *t, const struct spelling *s, uint32_t n)
{
    const uint32_t n_plain = n - N_CONTROLS;

    t->text = calloc(2 * (size_t)n, MERGE_BYTES_MAX);
    t->tokens = calloc(n, sizeof(*t->tokens));
    t->merges = calloc(n, sizeof(*t->merges));
    t->types = calloc(n, sizeof(*t->types));
    if (!t->text || !t->tokens || !t->merges || !t->types) {
        return -ENOMEM;
    }
    char *at = t->text;
    for (uint32_t i = 0; i < n_plain; i++) {
        t->tokens[i] = (struct strview){.data = at, .n = spell(s, i, /* mark= */ false, at)};
        at += t->tokens[i].n;
        t->types[i] = TYPE_NORMAL;
        if (i >= BYTES) {
            struct strview *merge = &t->merges[i - BYTES];
            *merge = (struct strview){.data = at, .n = spell(s, i, /* mark= */ true, at)};
            at += merge->n;
        }
    }
    for (uint32_t i = 0; i < N_CONTROLS; i++) {
        t->tokens[n_plain + i] = strview_of(controls[i]);
        t->types[n_plain + i] = TYPE_CONTROL;
    }
    return 0;
}

static int put_tables(struct gguf_writer *w, const struct tables *t, uint32_t n, const char *pre)
{
    const uint32_t n_plain = n - N_CONTROLS;

    int r = gguf_put_str(w, "tokenizer.ggml.model", strview_of("gpt2"));
    if (r == 0 && pre) {
        r = gguf_put_str(w, "tokenizer.ggml.pre", strview_of(pre));
    }
    if (r == 0) {
        r = gguf_put_str_array(w, "tokenizer.ggml.tokens", t->tokens, n);
    }
    if (r == 0) {
        r = gguf_put_i32_array(w, "tokenizer.ggml.token_type", t->types, n);
    }
    if (r == 0) {
        r = gguf_put_str_array(w, "tokenizer.ggml.merges", t->merges, n_plain - BYTES);
    }
    if (r == 0) {
        r = gguf_put_u32(w, "tokenizer.ggml.bos_token_id", n_plain); /* <|endoftext|> */
    }
    if (r == 0) {
        r = gguf_put_u32(w, "tokenizer.ggml.eos_token_id", n_plain + 2); /* <|im_end|> */
    }
    if (r == 0) {
        r = gguf_put_u32(w, "tokenizer.ggml.padding_token_id", n_plain);
    }
    if (r == 0) {
        r = gguf_put_bool(w, "tokenizer.ggml.add_bos_token", false);
    }
    if (r == 0) {
        r = gguf_put_str(w, "tokenizer.chat_template", strview_of(chatml));
    }
    return r;
}

int make_vocab(struct gguf_writer *w, uint32_t n, const char *pre)
{
    struct spelling s = {0};
    struct tables t = {0};

    if (n < MAKE_VOCAB_MIN || n - N_CONTROLS > BYTES + PAIRS + PAIRS * BYTES) {
        return -EINVAL;
    }
    int r = spelling_init(&s);
    if (r == 0) {
        r = tables_init(&t, &s, n);
    }
    if (r == 0) {
        r = put_tables(w, &t, n, pre);
    }
    tables_deinit(&t);
    free(s.pairs);
    return r;
}
