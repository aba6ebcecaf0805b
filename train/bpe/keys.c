/* keys: tokens and merges in the alphabet of byte-level BPE's files, where each byte that is no
 * visible Latin-1 character is written as one from U+0100 on. */
#include "train/bpe/keys.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/buf.h"
#include "engine/engine.h"
#include "train/bpe/bpe.h"

#define TYPE_NORMAL 1
#define TYPE_CONTROL 3
#define TEXT_BYTES_MAX ((size_t)1 << 30)

static const char *const controls[BPE_CONTROLS] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
enum { ENDOFTEXT, IM_START, IM_END };

const char bpe_chatml[] =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] "
    "+ '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ "
    "'<|im_start|>assistant\\n' }}{% endif %}";

static bool is_visible(uint32_t b)
{
    return (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || (b >= 0xae && b <= 0xff);
}

/* The character that stands for a byte. */
static uint32_t letter_of(uint8_t byte)
{
    uint32_t before = 0;

    if (is_visible(byte)) {
        return byte;
    }
    for (uint32_t b = 0; b < byte; b++) {
        before += !is_visible(b);
    }
    return 0x100 + before;
}

static int spell(struct buf *to, struct strview bytes)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < bytes.n; i++) {
        const uint32_t c = letter_of((uint8_t)bytes.data[i]);
        const uint8_t two[2] = {(uint8_t)(0xc0 | c >> 6), (uint8_t)(0x80 | (c & 0x3f))};
        const uint8_t one = (uint8_t)c;
        r = c < 0x80 ? buf_append(to, &one, 1) : buf_append(to, two, 2);
    }
    return r;
}

struct tables {
    struct buf text;        /* tokens' spelling, then merges' */
    struct strview *tokens; /* owned, (n): in text, once that grows no more */
    struct strview *merges; /* owned, (n - BPE_BYTES) */
    size_t *ends;           /* owned: of each spelling in text */
    int32_t *types;         /* owned */
};

static void tables_deinit(struct tables *t)
{
    buf_deinit(&t->text);
    free(t->tokens);
    free(t->merges);
    free(t->ends);
    free(t->types);
}

static int spell_all(struct tables *t, const struct bpe *b)
{
    const uint32_t n = bpe_tokens(b);
    size_t k = 0;
    int r = 0;

    for (uint32_t id = 0; r == 0 && id < n; id++) {
        r = spell(&t->text, bpe_text(b, id));
        t->ends[k++] = t->text.n;
    }
    for (uint32_t id = BPE_BYTES; r == 0 && id < n; id++) {
        const struct bpe_pair of = bpe_merge(b, id);
        r = spell(&t->text, bpe_text(b, of.left));
        if (r == 0) {
            r = buf_append(&t->text, " ", 1);
        }
        if (r == 0) {
            r = spell(&t->text, bpe_text(b, of.right));
        }
        t->ends[k++] = t->text.n;
    }
    return r;
}

static int tables_init(struct tables *t, const struct bpe *b)
{
    const uint32_t n = bpe_tokens(b);

    buf_init(&t->text, TEXT_BYTES_MAX);
    t->tokens = calloc(n + BPE_CONTROLS, sizeof(*t->tokens));
    t->merges = calloc(n, sizeof(*t->merges));
    t->ends = calloc(2 * (size_t)n, sizeof(*t->ends));
    t->types = calloc(n + BPE_CONTROLS, sizeof(*t->types));
    if (!t->tokens || !t->merges || !t->ends || !t->types) {
        return -ENOMEM;
    }
    const int r = spell_all(t, b);
    if (r < 0) {
        return r;
    }
    for (size_t k = 0, at = 0; k < 2 * (size_t)n - BPE_BYTES; at = t->ends[k++]) {
        struct strview *s = k < n ? &t->tokens[k] : &t->merges[k - n];
        *s = (struct strview){.data = (const char *)t->text.data + at, .n = t->ends[k] - at};
    }
    for (uint32_t i = 0; i < n + BPE_CONTROLS; i++) {
        t->types[i] = i < n ? TYPE_NORMAL : TYPE_CONTROL;
    }
    for (uint32_t i = 0; i < BPE_CONTROLS; i++) {
        t->tokens[n + i] = strview_of(controls[i]);
    }
    return 0;
}

static int put_tables(struct gguf_writer *w, const struct tables *t, uint32_t n, const char *pre)
{
    int r = gguf_put_str(w, "tokenizer.ggml.model", strview_of("gpt2"));

    if (r == 0) {
        r = gguf_put_str(w, "tokenizer.ggml.pre", strview_of(pre));
    }
    if (r == 0) {
        r = gguf_put_str_array(w, "tokenizer.ggml.tokens", t->tokens, n + BPE_CONTROLS);
    }
    if (r == 0) {
        r = gguf_put_i32_array(w, "tokenizer.ggml.token_type", t->types, n + BPE_CONTROLS);
    }
    if (r == 0) {
        r = gguf_put_str_array(w, "tokenizer.ggml.merges", t->merges, n - BPE_BYTES);
    }
    if (r == 0) {
        r = gguf_put_u32(w, "tokenizer.ggml.eos_token_id", n + IM_END);
    }
    if (r == 0) {
        r = gguf_put_u32(w, "tokenizer.ggml.padding_token_id", n + ENDOFTEXT);
    }
    if (r == 0) {
        r = gguf_put_bool(w, "tokenizer.ggml.add_bos_token", false);
    }
    return r == 0 ? gguf_put_str(w, "tokenizer.chat_template", strview_of(bpe_chatml)) : r;
}

int bpe_put_keys(struct gguf_writer *w, const struct bpe *b, const char *pre)
{
    struct tables t = {0};
    int r = tables_init(&t, b);

    if (r == 0) {
        r = put_tables(w, &t, bpe_tokens(b), pre);
    }
    tables_deinit(&t);
    return r;
}
