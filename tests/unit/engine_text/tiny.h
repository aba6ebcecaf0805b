/* Two hand-made vocabularies that the tests of this room share.
 *
 * Byte-level: ids 0..255 are the bytes in order, then a few merged tokens, control and user-defined
 * ones. SentencePiece: unknown, two controls, 256 byte tokens, letters and a few words. */
#ifndef TESTS_UNIT_ENGINE_TEXT_TINY_H
#define TESTS_UNIT_ENGINE_TEXT_TINY_H

#include "tests/support/test.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "engine/engine.h"
#include "tests/support/gguf_make.h"

enum { /* ids of the byte-level vocabulary after the 256 bytes */
       B_AB = 256,
       B_ABC,
       B_SP_T,
       B_HE,
       B_THE,
       B_SP_THE,
       B_END,
       B_THINK,
       B_LONG,
       B_EOT,
       B_COUNT,
};

enum { /* ids of the SentencePiece vocabulary after <unk> <s> </s> and the 256 bytes */
       S_MARK = 259,
       S_A,
       S_B,
       S_C,
       S_AB,
       S_BC,
       S_MARK_A,
       S_ABC,
       S_USER,
       S_COUNT,
};

/* The letter for one byte, as UTF-8; returns its length. */
static inline size_t tiny_letter(unsigned b, char *ret)
{
    unsigned c = b;

    if (b <= 0x20) {
        c = 0x100 + b;
    } else if (b >= 0x7f && b <= 0xa0) {
        c = 0x121 + b - 0x7f;
    } else if (b == 0xad) {
        c = 0x143;
    }
    if (c < 0x80) {
        ret[0] = (char)c;
        return 1;
    }
    ret[0] = (char)(0xc0 | c >> 6);
    ret[1] = (char)(0x80 | (c & 0x3f));
    return 2;
}

static inline void tiny_bpe_tokens(struct gguf_make *m)
{
    static const char *const more[] = {"ab",          "abc",         "\xc4\xa0t",  "he",
                                       "the",         "\xc4\xa0the", "<|im_end|>", "<think>",
                                       "<|im_end|>!", "<|eot_id|>"};
    int32_t types[B_COUNT];

    make_array(m, "tokenizer.ggml.tokens", GGUF_STR, B_COUNT);
    for (unsigned b = 0; b < 256; b++) {
        char letter[2];
        make_text(m, letter, tiny_letter(b, letter));
    }
    for (size_t i = 0; i < ARRAY_SIZE(more); i++) {
        make_text(m, more[i], strlen(more[i]));
    }
    for (int i = 0; i < B_COUNT; i++) {
        types[i] = i == B_THINK || i == B_LONG ? 4 : i == B_END || i == B_EOT ? 3 : 1;
    }
    make_key_i32s(m, "tokenizer.ggml.token_type", types, B_COUNT);
}

/* Every key but what a test leaves out or changes. */
static inline struct gguf_make tiny_bpe(const char *pre)
{
    static const char *const merges[] = {"a b",          "ab c", "\xc4\xa0 t", "h e",    "t he",
                                         "\xc4\xa0t he", "a b",  "a z",        "nospace"};
    struct gguf_make m = {0};

    make_key_str(&m, "tokenizer.ggml.model", "gpt2");
    if (pre) {
        make_key_str(&m, "tokenizer.ggml.pre", pre);
    }
    tiny_bpe_tokens(&m);
    make_key_strs(&m, "tokenizer.ggml.merges", merges, ARRAY_SIZE(merges));
    make_key_u32(&m, "tokenizer.ggml.bos_token_id", B_END);
    make_key_u32(&m, "tokenizer.ggml.eos_token_id", B_END);
    return m;
}

static inline struct gguf_make tiny_spm(void)
{
    static const char *const more[] = {"\xe2\x96\x81",
                                       "a",
                                       "b",
                                       "c",
                                       "ab",
                                       "bc",
                                       ("\xe2\x96\x81"
                                        "a"),
                                       "abc",
                                       "<user>"};
    static const float scores[] = {-9, -9, -9, -9, -2, -1, -4, -3, 0};
    struct gguf_make m = {0};
    float all[S_COUNT] = {0};
    int32_t types[S_COUNT];

    make_key_str(&m, "tokenizer.ggml.model", "llama");
    make_array(&m, "tokenizer.ggml.tokens", GGUF_STR, S_COUNT);
    make_text(&m, "<unk>", 5);
    make_text(&m, "<s>", 3);
    make_text(&m, "</s>", 4);
    for (unsigned b = 0; b < 256; b++) {
        char text[8];
        (void)snprintf(text, sizeof(text), "<0x%02X>", b);
        make_text(&m, text, 6);
    }
    for (size_t i = 0; i < ARRAY_SIZE(more); i++) {
        make_text(&m, more[i], strlen(more[i]));
        all[S_MARK + i] = scores[i];
    }
    for (int i = 0; i < S_COUNT; i++) {
        types[i] = i == 0 ? 2 : i < 3 ? 3 : i < S_MARK ? 6 : i == S_USER ? 4 : 1;
    }
    make_key_f32s(&m, "tokenizer.ggml.scores", all, S_COUNT);
    make_key_i32s(&m, "tokenizer.ggml.token_type", types, S_COUNT);
    return m;
}

/* Opens what was made; the outcome is checked by the caller. */
static inline int tiny_open(struct gguf_make *m, struct vocab **ret, struct diag *d)
{
    const int fd = make_done(m);
    const int r = vocab_open_gguf(ret, fd, d);

    close(fd);
    return r;
}

/* The same for what must open. */
static inline struct vocab *tiny_opened(struct gguf_make m)
{
    struct vocab *v = NULL;
    struct diag d = {0};

    if (tiny_open(&m, &v, &d) != MODEL_OK) {
        fail_msg("%s", d.text);
    }
    return v;
}

#endif
