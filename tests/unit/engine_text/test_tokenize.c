#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/engine_text/tiny.h"

static void ids_are(const struct vocab *v, const char *text, unsigned flags, const int32_t *want,
                    size_t n_want)
{
    int32_t ids[64];
    size_t n = 0;

    assert_int_equal(vocab_tokenize(v, text, strlen(text), flags, ids, 64, &n), TOKENIZE_OK);
    for (size_t i = 0; i < n && i < n_want; i++) {
        if (ids[i] != want[i]) {
            fail_msg("\"%s\": id %zu is %d, not %d", text, i, ids[i], want[i]);
        }
    }
    if (n != n_want) {
        fail_msg("\"%s\": %zu ids, not %zu", text, n, n_want);
    }
}

#define IDS_ARE(v, text, flags, ...)                                                               \
    ids_are(v, text, flags, (const int32_t[]){__VA_ARGS__},                                        \
            sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

/* Goal: pairs merge in order of rank, inside words only. */
static void byte_level_pairs_merge_by_rank(void **state)
{
    struct vocab *v = tiny_opened(tiny_bpe("gpt-2"));

    IDS_ARE(v, "abc", 0, B_ABC);
    IDS_ARE(v, "abcab", 0, B_ABC, B_AB);
    IDS_ARE(v, " the the", 0, B_SP_THE, B_SP_THE);
    /* " t" has a lower rank than "the" and takes the t; without a space "the" is whole. */
    IDS_ARE(v, "the", 0, B_THE);
    IDS_ARE(v, "a b", 0, 'a', ' ', 'b');
    IDS_ARE(v, "\xff", 0, 0xef, 0xbf, 0xbd); /* read as U+FFFD */
    IDS_ARE(v, "\xed\xa0\x80", 0, 0xed, 0xa0, 0x80);
    ids_are(v, "", TOKENIZE_ADD_SPECIAL, NULL, 0);
    vocab_free(v);
}

/* Goal: the three patterns differ where they should. Method: digits, contractions, line ends; a
 * merge across "1 2" or "' s" can show where words were cut, so the vocabulary gets such merges. */
static struct vocab *cutting(const char *pre)
{
    static const char *const merges[] = {"1 2", "12 3", "123 4", "' S", "! \xc4\x8a", "'S X"};
    static const char *const more[] = {"12", "123", "1234", "'S", "!\xc4\x8a", "'SX"};
    struct gguf_make m = {0};

    make_key_str(&m, "tokenizer.ggml.model", "gpt2");
    make_key_str(&m, "tokenizer.ggml.pre", pre);
    make_array(&m, "tokenizer.ggml.tokens", GGUF_STR, 256 + ARRAY_SIZE(more));
    for (unsigned b = 0; b < 256; b++) {
        char letter[2];
        make_text(&m, letter, tiny_letter(b, letter));
    }
    for (size_t i = 0; i < ARRAY_SIZE(more); i++) {
        make_text(&m, more[i], strlen(more[i]));
    }
    make_key_strs(&m, "tokenizer.ggml.merges", merges, ARRAY_SIZE(merges));
    return tiny_opened(m);
}

static void each_pattern_cuts_its_own_words(void **state)
{
    struct vocab *v = cutting("gpt-2");
    IDS_ARE(v, "1234", 0, 258);
    IDS_ARE(v, "'SX", 0, '\'', 'S', 'X'); /* capitals are no contraction, the quote stands alone */
    IDS_ARE(v, "!\n", 0, '!', '\n');
    vocab_free(v);

    v = cutting("llama-bpe");
    IDS_ARE(v, "1234", 0, 257, '4');
    IDS_ARE(v, "'SX", 0, 259, 'X');
    IDS_ARE(v, "!\n", 0, 260);
    vocab_free(v);

    v = cutting("qwen2");
    IDS_ARE(v, "1234", 0, '1', '2', '3', '4');
    IDS_ARE(v, "'SX", 0, 259, 'X');
    IDS_ARE(v, "!\n", 0, 260);
    vocab_free(v);
}

/* Goal: llama-bpe takes a word that is a token as it is, others merge. Method: "the" preceded by
 * nothing has merges; "abz" has not; a token without merges shows the rule. */
static void whole_words_need_no_merges_in_llama_bpe(void **state)
{
    static const char *const merges[] = {"b c"};
    static const char *const more[] = {"bc", "abc"};
    static const char *const pres[] = {"llama-bpe", "qwen2"};

    for (size_t k = 0; k < 2; k++) {
        struct gguf_make m = {0};
        make_key_str(&m, "tokenizer.ggml.model", "gpt2");
        make_key_str(&m, "tokenizer.ggml.pre", pres[k]);
        make_array(&m, "tokenizer.ggml.tokens", GGUF_STR, 258);
        for (unsigned b = 0; b < 256; b++) {
            char letter[2];
            make_text(&m, letter, tiny_letter(b, letter));
        }
        make_text(&m, more[0], 2);
        make_text(&m, more[1], 3);
        make_key_strs(&m, "tokenizer.ggml.merges", merges, 1);
        struct vocab *v = tiny_opened(m);
        if (k == 0) {
            IDS_ARE(v, "abc", 0, 257);
        } else {
            IDS_ARE(v, "abc", 0, 'a', 256);
        }
        vocab_free(v);
    }
}

/* Goal: control tokens in text only when asked for, user-defined ones always, the longest first. */
static void special_tokens_split_text(void **state)
{
    struct vocab *v = tiny_opened(tiny_bpe("qwen2"));

    IDS_ARE(v, "ab<think>ab", 0, B_AB, B_THINK, B_AB);
    IDS_ARE(v, "ab<|eot_id|>ab", TOKENIZE_SPECIAL, B_AB, B_EOT, B_AB);
    IDS_ARE(v, "<|eot_id|>", 0, '<', '|', 'e', 'o', 't', '_', 'i', 'd', '|', '>');
    IDS_ARE(v, "<|im_end|>", TOKENIZE_SPECIAL, B_END);
    IDS_ARE(v, "<|im_end|>!", TOKENIZE_SPECIAL, B_LONG);
    IDS_ARE(v, "<|im_end|>!", 0, B_LONG);
    IDS_ARE(v, "<think", 0, '<', 't', 'h', 'i', 'n', 'k');
    vocab_free(v);
}

/* Goal: of tokens that overlap, the leftmost wins, then the longest, whichever type; one that is
 * not asked for hides none. Method: tokens that begin inside each other, in every order. */
static void overlapping_tokens_are_taken_leftmost_longest(void **state)
{
    static const char *const more[] = {"<a>", "<a><b>", "<b><c>", "a><b", "<c>", "<a><b><c>!"};
    static const int32_t more_types[] = {4, 3, 4, 4, 3, 4};
    enum { A = 256, AB, BC, IN, C, ABC };
    struct gguf_make m = {0};
    int32_t types[256 + ARRAY_SIZE(more)];

    make_key_str(&m, "tokenizer.ggml.model", "gpt2");
    make_key_str(&m, "tokenizer.ggml.pre", "gpt-2");
    make_array(&m, "tokenizer.ggml.tokens", GGUF_STR, ARRAY_SIZE(types));
    for (unsigned b = 0; b < 256; b++) {
        char letter[2];
        make_text(&m, letter, tiny_letter(b, letter));
        types[b] = 1;
    }
    for (size_t i = 0; i < ARRAY_SIZE(more); i++) {
        make_text(&m, more[i], strlen(more[i]));
        types[256 + i] = more_types[i];
    }
    make_key_i32s(&m, "tokenizer.ggml.token_type", types, ARRAY_SIZE(types));
    make_key_strs(&m, "tokenizer.ggml.merges", (const char *const[]){"x y"}, 1);
    struct vocab *v = tiny_opened(m);

    IDS_ARE(v, "<a><b><c>", TOKENIZE_SPECIAL, AB, C);
    IDS_ARE(v, "<a><b><c>", 0, A, BC);
    IDS_ARE(v, "<a><b><c>!", 0, ABC);
    IDS_ARE(v, "<a><b><c>!", TOKENIZE_SPECIAL, ABC);
    IDS_ARE(v, "<a><a><b", TOKENIZE_SPECIAL, A, A, '<', 'b');
    IDS_ARE(v, "a><b><c>", 0, IN, '>', '<', 'c', '>');
    IDS_ARE(v, "<<b><c><c>", TOKENIZE_SPECIAL, '<', BC, C);
    IDS_ARE(v, "<b><b><c>", 0, '<', 'b', '>', BC);
    IDS_ARE(v, "<a", TOKENIZE_SPECIAL, '<', 'a');
    vocab_free(v);
}

/* Goal: qwen2 reads text in form C, the others as it is; tokens that split text are found before
 * and part it. Method: a letter and its mark; the same across a token, and beside bytes that are
 * none. */
static void only_some_families_normalize(void **state)
{
    static const char *const as_is[] = {"gpt-2", "llama-bpe", "falcon", "falcon3", "deepseek-llm"};
    struct vocab *v = tiny_opened(tiny_bpe("qwen2"));

    IDS_ARE(v, "e\xcc\x81", 0, 0xc3, 0xa9);
    IDS_ARE(v, "ab<think>\xcc\x81", 0, B_AB, B_THINK, 0xcc, 0x81);
    IDS_ARE(v,
            "e<think>\xcc\x81"
            "e\xcc\x81",
            0, 'e', B_THINK, 0xcc, 0x81, 0xc3, 0xa9);
    IDS_ARE(v,
            "\xff"
            "e\xcc\x81\xe2",
            0, 0xef, 0xbf, 0xbd, 0xc3, 0xa9, 0xef, 0xbf, 0xbd);
    vocab_free(v);
    v = tiny_opened(tiny_bpe("olmo"));
    IDS_ARE(v, "e\xcc\x81", 0, 0xc3, 0xa9);
    vocab_free(v);
    for (size_t i = 0; i < ARRAY_SIZE(as_is); i++) {
        v = tiny_opened(tiny_bpe(as_is[i]));
        IDS_ARE(v, "e\xcc\x81", 0, 'e', 0xcc, 0x81);
        vocab_free(v);
    }
}

/* Goal: marks without end are an outcome, in the family that puts them in order. */
static void endless_marks_are_hard_where_text_is_normalized(void **state)
{
    struct vocab *v = tiny_opened(tiny_bpe("qwen2"));
    char text[4096];
    int32_t ids[4096];
    size_t n = 0;

    for (size_t i = 0; i < sizeof(text); i += 2) {
        memcpy(text + i, "\xcc\x81", 2);
    }
    assert_int_equal(vocab_tokenize(v, text, sizeof(text), 0, ids, 4096, &n), TOKENIZE_HARD);
    vocab_free(v);
    v = tiny_opened(tiny_bpe("gpt-2"));
    assert_int_equal(vocab_tokenize(v, text, sizeof(text), 0, ids, 4096, &n), TOKENIZE_OK);
    assert_int_equal(n, sizeof(text));
    vocab_free(v);
}

/* Goal: BOS and EOS as file and family say. */
static void special_ends_are_added_as_the_file_says(void **state)
{
    struct gguf_make m = tiny_bpe("llama-bpe"); /* adds BOS unless told otherwise */
    struct vocab *v = tiny_opened(m);

    IDS_ARE(v, "ab", TOKENIZE_ADD_SPECIAL, B_END, B_AB);
    IDS_ARE(v, "ab", 0, B_AB);
    vocab_free(v);

    v = tiny_opened(tiny_bpe("falcon3")); /* its tokenizer has none, though files name one */
    assert_false(vocab_adds_bos(v));
    IDS_ARE(v, "ab", TOKENIZE_ADD_SPECIAL, B_AB);
    vocab_free(v);
    m = tiny_bpe("falcon_e");
    make_key_bool(&m, "tokenizer.ggml.add_bos_token", true);
    v = tiny_opened(m);
    IDS_ARE(v, "ab", TOKENIZE_ADD_SPECIAL, B_END, B_AB);
    vocab_free(v);

    m = tiny_bpe("qwen2"); /* adds none unless told otherwise */
    make_key_bool(&m, "tokenizer.ggml.add_eos_token", true);
    v = tiny_opened(m);
    IDS_ARE(v, "ab", TOKENIZE_ADD_SPECIAL, B_AB, B_END);
    vocab_free(v);

    v = tiny_opened(tiny_spm());
    IDS_ARE(v, "a", TOKENIZE_ADD_SPECIAL, 1, S_MARK_A);
    vocab_free(v);
}

/* Goal: SentencePiece merges by score, bytes what it has no piece for, and puts a space in
 * front. */
static void sentencepiece_merges_by_score(void **state)
{
    struct vocab *v = tiny_opened(tiny_spm());

    IDS_ARE(v, "abc", 0, S_MARK, S_ABC); /* bc first, then a bc: abc scores above mark-a */
    IDS_ARE(v, "ab", 0, S_MARK, S_AB);
    IDS_ARE(v, "a a", 0, S_MARK_A, S_MARK_A);
    IDS_ARE(v, "A", 0, S_MARK, 3 + 'A');
    IDS_ARE(v, "\xc3\xbc", 0, S_MARK, 3 + 0xc3, 3 + 0xbc);
    IDS_ARE(v, "a<user>b", 0, S_MARK_A, S_USER, S_MARK, S_B);
    IDS_ARE(v, "<s>", TOKENIZE_SPECIAL, 1);
    IDS_ARE(v, "<s>", 0, S_MARK, 3 + '<', 3 + 's', 3 + '>');
    vocab_free(v);
}

/* Goal: no result is cut short silently. Method: room for one id too few, and just enough. */
static void too_many_ids_are_reported(void **state)
{
    struct vocab *v = tiny_opened(tiny_bpe("gpt-2"));
    int32_t ids[3];
    size_t n = 99;

    assert_int_equal(vocab_tokenize(v, "a b", 3, 0, ids, 2, &n), TOKENIZE_FULL);
    assert_int_equal(n, 99);
    assert_int_equal(vocab_tokenize(v, "a b", 3, 0, ids, 3, &n), TOKENIZE_OK);
    assert_int_equal(n, 3);
    vocab_free(v);
}

/* Goal: one enormous word works in both kinds and comes back whole. Method: 256 KiB of "abc", which
 * merges everywhere at once; a quadratic merge would not end in the test's time. */
static void an_enormous_word_comes_back_whole(void **state)
{
    const size_t n = 3 * 87381;
    char *text = malloc(n), *back = NULL;
    int32_t *ids = malloc((n + 8) * sizeof(*ids));
    size_t n_ids = 0, n_back = 0;

    assert_non_null(text);
    assert_non_null(ids);
    for (size_t i = 0; i < n; i++) {
        text[i] = "abc"[i % 3];
    }
    for (int k = 0; k < 2; k++) {
        struct vocab *v = tiny_opened(k ? tiny_spm() : tiny_bpe("qwen2"));
        assert_int_equal(vocab_tokenize(v, text, n, 0, ids, n + 8, &n_ids), TOKENIZE_OK);
        assert_int_equal(n_ids, n / 3 + (size_t)k);
        assert_int_equal(vocab_detokenize(v, ids, n_ids, &back, &n_back), 0);
        assert_int_equal(n_back, n);
        assert_memory_equal(back, text, n);
        free(back);
        vocab_free(v);
    }
    free(ids);
    free(text);
}

/* Goal: text made to be slow ends in an outcome, not in waiting. Method: one run of spaces that is
 * longer than the pattern may backtrack over. */
static void a_text_past_the_matchers_limit_is_hard(void **state)
{
    const size_t n = (size_t)24 << 20;
    char *text = malloc(n);
    struct vocab *v = tiny_opened(tiny_bpe("qwen2"));
    int32_t ids[4];
    size_t n_ids = 0;

    assert_non_null(text);
    memset(text, ' ', n);
    assert_int_equal(vocab_tokenize(v, text, n, 0, ids, 4, &n_ids), TOKENIZE_HARD);
    vocab_free(v);
    free(text);
}

/* Goal: detokenizing writes special tokens out, drops one leading space of SentencePiece and tidies
 * where the family does. */
static void detokenizing_follows_the_family(void **state)
{
    static const struct {
        const char *pre, *want;
        int32_t ids[4];
        size_t n;
    } cases[] = {
        {"qwen2", "a ,<|im_end|>", {'a', ' ', ',', B_END}, 4},
        {"gpt-2", "a,<|im_end|>", {'a', ' ', ',', B_END}, 4},
        {"gpt-2", " 'd", {' ', '\'', 'd'}, 3},
        {"gpt-2", "'s", {' ', '\'', 's'}, 3},
        {NULL, "a a", {S_MARK_A, S_MARK_A}, 2},
        {NULL, "<s> a", {1, S_MARK_A}, 2},
        {NULL, " ", {S_MARK, S_MARK}, 2},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct vocab *v = tiny_opened(cases[i].pre ? tiny_bpe(cases[i].pre) : tiny_spm());
        char *got = NULL;
        size_t n = 0;
        assert_int_equal(vocab_detokenize(v, cases[i].ids, cases[i].n, &got, &n), 0);
        assert_int_equal(n, strlen(cases[i].want));
        assert_memory_equal(got, cases[i].want, n);
        free(got);
        vocab_free(v);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(byte_level_pairs_merge_by_rank),
        cmocka_unit_test(each_pattern_cuts_its_own_words),
        cmocka_unit_test(whole_words_need_no_merges_in_llama_bpe),
        cmocka_unit_test(special_tokens_split_text),
        cmocka_unit_test(overlapping_tokens_are_taken_leftmost_longest),
        cmocka_unit_test(only_some_families_normalize),
        cmocka_unit_test(endless_marks_are_hard_where_text_is_normalized),
        cmocka_unit_test(special_ends_are_added_as_the_file_says),
        cmocka_unit_test(sentencepiece_merges_by_score),
        cmocka_unit_test(too_many_ids_are_reported),
        cmocka_unit_test(an_enormous_word_comes_back_whole),
        cmocka_unit_test(a_text_past_the_matchers_limit_is_hard),
        cmocka_unit_test(detokenizing_follows_the_family),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
