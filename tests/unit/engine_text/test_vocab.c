#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>

#include "engine/text/vocab.h"
#include "engine/text/vocab_view.h"
#include "tests/unit/engine_text/tiny.h"

static void refused(struct gguf_make m, int want, const char *word)
{
    struct vocab *v = NULL;
    struct diag d = {0};

    assert_int_equal(tiny_open(&m, &v, &d), want);
    assert_null(v);
    assert_true(d.set);
    if (!strstr(d.text, word)) {
        fail_msg("\"%s\" does not name \"%s\"", d.text, word);
    }
}

/* A file of the smallest SentencePiece kind, for tests that break one thing. */
static struct gguf_make three(const char *model, uint64_t n_scores, uint64_t n_types)
{
    static const char *const tokens[] = {"<unk>", "a", "b"};
    static const float scores[3];
    static const int32_t types[3] = {2, 1, 1};
    struct gguf_make m = {0};

    if (model) {
        make_key_str(&m, "tokenizer.ggml.model", model);
    }
    make_key_strs(&m, "tokenizer.ggml.tokens", tokens, 3);
    if (n_scores > 0) {
        make_key_f32s(&m, "tokenizer.ggml.scores", scores, n_scores);
    }
    if (n_types > 0) {
        make_key_i32s(&m, "tokenizer.ggml.token_type", types, n_types);
    }
    return m;
}

/* Goal: keys that are missing or do not fit are refused, and named. Method: one defect a file. */
static void unsound_tokenizer_keys_are_refused_by_name(void **state)
{
    struct gguf_make m = {0};

    make_key_str(&m, "tokenizer.ggml.model", "llama");
    refused(m, MODEL_MALFORMED, "tokenizer.ggml.tokens");
    refused(three(NULL, 3, 3), MODEL_MALFORMED, "tokenizer.ggml.model");
    refused(three("llama", 2, 3), MODEL_MALFORMED, "scores");
    refused(three("llama", 3, 2), MODEL_MALFORMED, "token_type");
    refused(three("llama", 0, 3), MODEL_MALFORMED, "scores");
    m = three("gpt2", 0, 3);
    make_key_str(&m, "tokenizer.ggml.pre", "gpt-2");
    refused(m, MODEL_MALFORMED, "merges");
    m = three("gpt2", 0, 3);
    make_key_str(&m, "tokenizer.ggml.pre", "gpt-2");
    make_key_i32s(&m, "tokenizer.ggml.merges", (const int32_t[]){1}, 1);
    refused(m, MODEL_MALFORMED, "merges");
    m = three("llama", 3, 3);
    make_key_str(&m, "tokenizer.ggml.bos_token_id", "one");
    refused(m, MODEL_MALFORMED, "bos_token_id");
}

/* Goal: sound files of kinds we do not have are told apart from broken ones. */
static void unknown_tokenizers_are_unsupported_by_name(void **state)
{
    refused(three("mystery", 3, 3), MODEL_UNSUPPORTED, "mystery");
    refused(tiny_bpe("mystery-bpe"), MODEL_UNSUPPORTED, "mystery-bpe");
    refused(tiny_bpe("default"), MODEL_UNSUPPORTED, "default");
    refused(tiny_bpe(NULL), MODEL_UNSUPPORTED, "tokenizer.ggml.pre");
}

/* Goal: every pre-tokenizer that the families in use name opens. Method: the names one by one. */
static void known_pretokenizers_open(void **state)
{
    static const char *const names[] = {"gpt-2",        "llama-bpe", "llama3", "llama-v3",
                                        "falcon3",      "falcon_e",  "qwen2",  "falcon",
                                        "deepseek-llm", "olmo"};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        vocab_free(tiny_opened(tiny_bpe(names[i])));
    }
}

/* Goal: a token longer than a piece may be is refused. Method: one byte over. */
static void an_overlong_token_is_too_big(void **state)
{
    struct gguf_make m = {0};
    char *text = calloc(1, TEXT_PIECE_MAX + 1);

    assert_non_null(text);
    memset(text, 'a', TEXT_PIECE_MAX + 1);
    make_key_str(&m, "tokenizer.ggml.model", "llama");
    make_array(&m, "tokenizer.ggml.tokens", GGUF_STR, 1);
    make_text(&m, text, TEXT_PIECE_MAX + 1);
    make_key_f32s(&m, "tokenizer.ggml.scores", (const float[]){0}, 1);
    refused(m, MODEL_TOO_BIG, "4097");
    free(text);
}

/* Goal: ids that are no tokens never come out. Method: special ids far out of range. */
static void special_ids_out_of_range_count_as_absent(void **state)
{
    struct gguf_make m = three("llama", 3, 3);

    make_key_u32(&m, "tokenizer.ggml.bos_token_id", 999999);
    make_key_u32(&m, "tokenizer.ggml.eos_token_id", 0xffffffffu);
    struct vocab *v = tiny_opened(m);
    assert_int_equal(vocab_bos(v), -1);
    for (int32_t id = -2; id < 5; id++) {
        assert_false(vocab_is_end(v, id));
    }
    vocab_free(v);
}

/* Goal: whether texts begin with BOS is the file's to say, and only where there is one. */
static void the_file_says_whether_texts_begin_with_bos(void **state)
{
    static const struct {
        bool key;
        uint32_t bos;
        bool want;
    } cases[] = {{true, 2, true}, {false, 2, false}, {true, 999999, false}};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct gguf_make m = three("llama", 3, 3);
        make_key_u32(&m, "tokenizer.ggml.bos_token_id", cases[i].bos);
        make_key_bool(&m, "tokenizer.ggml.add_bos_token", cases[i].key);
        struct vocab *v = tiny_opened(m);
        int32_t ids[8] = {-1};
        size_t n = 0;
        assert_int_equal(vocab_tokenize(v, "", 0, TOKENIZE_ADD_SPECIAL, ids, 8, &n), TOKENIZE_OK);
        assert_int_equal(vocab_adds_bos(v), cases[i].want);
        assert_int_equal(n > 0 && ids[0] == vocab_bos(v), cases[i].want);
        vocab_free(v);
    }
}

/* Goal: empty, equal and broken texts do no harm. Method: a vocabulary of nothing else. */
static void odd_token_texts_are_survived(void **state)
{
    static const char *const tokens[] = {"", "a", "a", "\xff", "\xc3(", "", "a"};
    static const float scores[7];
    struct gguf_make m = {0};
    int32_t ids[16];
    size_t n = 0;

    make_key_str(&m, "tokenizer.ggml.model", "llama");
    make_key_strs(&m, "tokenizer.ggml.tokens", tokens, 7);
    make_key_f32s(&m, "tokenizer.ggml.scores", scores, 7);
    make_key_bool(&m, "tokenizer.ggml.add_space_prefix", false);
    struct vocab *v = tiny_opened(m);
    assert_int_equal(vocab_tokenize(v, "a\xff", 2, 0, ids, 16, &n), TOKENIZE_OK);
    assert_int_equal(n, 2);
    assert_int_equal(ids[0], 1); /* the lowest of three */
    assert_int_equal(ids[1], 3);
    vocab_free(v);
}

/* Goal: what ends a generation. Method: the named token, known texts of control tokens, others. */
static void ends_are_named_or_known_by_text(void **state)
{
    struct vocab *v = tiny_opened(tiny_bpe("qwen2"));

    assert_true(vocab_is_end(v, B_END));
    assert_true(vocab_is_end(v, B_EOT)); /* no key names it */
    assert_false(vocab_is_end(v, B_THINK));
    assert_false(vocab_is_end(v, 'a'));
    assert_false(vocab_is_end(v, -1));
    assert_false(vocab_is_end(v, B_COUNT));
    assert_int_equal(vocab_bos(v), B_END);
    assert_int_equal(vocab_size(v), B_COUNT);
    vocab_free(v);
}

static void piece_is(const struct vocab *v, int32_t id, bool special, const char *want)
{
    char got[TEXT_PIECE_MAX];
    const size_t n = vocab_piece(v, id, special, got);

    assert_int_equal(n, strlen(want));
    assert_memory_equal(got, want, n);
}

/* A vocabulary of the 256 bytes and these tokens. */
static struct gguf_make marked(const char *const *more, const int32_t *more_types, size_t n)
{
    struct gguf_make m = {0};
    int32_t types[300];

    make_key_str(&m, "tokenizer.ggml.model", "gpt2");
    make_key_str(&m, "tokenizer.ggml.pre", "qwen2");
    make_array(&m, "tokenizer.ggml.tokens", GGUF_STR, 256 + n);
    for (unsigned b = 0; b < 256; b++) {
        char letter[2];
        make_text(&m, letter, tiny_letter(b, letter));
        types[b] = TOKEN_NORMAL;
    }
    for (size_t i = 0; i < n; i++) {
        make_text(&m, more[i], strlen(more[i]));
        types[256 + i] = more_types[i];
    }
    make_key_i32s(&m, "tokenizer.ggml.token_type", types, 256 + n);
    make_key_strs(&m, "tokenizer.ggml.merges", (const char *const[]){"a b"}, 1);
    return m;
}

/* Goal: every way in which files name ends: eos, eot, eom, a list of eos; ids out of range name
 * none; other keys make none. */
static void every_key_that_names_ends_is_read(void **state)
{
    static const int32_t list[] = {'d', 'e', 'd', 1 << 20, -1};
    struct gguf_make m = marked(NULL, NULL, 0);

    make_key_u32(&m, "tokenizer.ggml.bos_token_id", 'z');
    make_key_u32(&m, "tokenizer.ggml.padding_token_id", 'y');
    make_key_u32(&m, "tokenizer.ggml.eos_token_id", 'a');
    make_key_u32(&m, "tokenizer.ggml.eot_token_id", 'c');
    make_key_u32(&m, "tokenizer.ggml.eom_token_id", 'b');
    make_key_i32s(&m, "tokenizer.ggml.eos_token_ids", list, ARRAY_SIZE(list));
    struct vocab *v = tiny_opened(m);
    for (int32_t id = 0; id < 256; id++) {
        assert_int_equal(vocab_is_end(v, id), id >= 'a' && id <= 'e');
    }
    vocab_free(v);
}

/* Goal: lists of ends that cannot be are refused. Method: strings, and more than a vocabulary may
 * have. */
static void odd_lists_of_ends_are_refused(void **state)
{
    struct gguf_make m = marked(NULL, NULL, 0);
    int32_t many[VOCAB_ENDS_MAX + 1];

    make_key_strs(&m, "tokenizer.ggml.eos_token_ids", (const char *const[]){"1"}, 1);
    refused(m, MODEL_MALFORMED, "eos_token_ids");
    m = marked(NULL, NULL, 0);
    make_key_u32(&m, "tokenizer.ggml.eos_token_ids", 1);
    refused(m, MODEL_MALFORMED, "eos_token_ids");
    for (size_t i = 0; i < ARRAY_SIZE(many); i++) {
        many[i] = (int32_t)i;
    }
    m = marked(NULL, NULL, 0);
    make_key_i32s(&m, "tokenizer.ggml.eos_token_ids", many, ARRAY_SIZE(many));
    refused(m, MODEL_TOO_BIG, "64");
}

/* Goal: ends that no key names are known by their text, whatever the file calls them, unless it is
 * a text that plain tokens may spell. Method: every known text as control, user-defined and
 * normal. */
static void known_texts_end_a_generation(void **state)
{
    static const char *const ends[] = {"<|im_end|>",    "<|eot_id|>",
                                       "<|eom_id|>",    "<|end_of_text|>",
                                       "<|endoftext|>", "<|end|>",
                                       "<|return|>",    "<|fim_pad|>",
                                       "<|fim_repo|>",  "<|repo_name|>",
                                       "<|file_sep|>",  "</s>",
                                       "<end_of_turn>", "<end_of_utterance>",
                                       "<eos>",         "<EOT>",
                                       "_<EOT>",        "[EOT]",
                                       "[EOS]"};
    static const char *const others[] = {"<|im_start|>", "<s>", "<think>", "<|eot_id|> ",
                                         "<|fim_prefix|>"};

    for (int32_t type = TOKEN_NORMAL; type <= TOKEN_USER; type++) {
        int32_t types[ARRAY_SIZE(ends)];
        for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
            types[i] = type;
        }
        struct vocab *v = tiny_opened(marked(ends, types, ARRAY_SIZE(ends)));
        for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
            const int32_t id = 256 + (int32_t)i;
            const bool bars = strncmp(ends[i], "<|", 2) == 0;
            const bool end =
                type == TOKEN_CONTROL || type == TOKEN_USER || (type == TOKEN_NORMAL && bars);
            char piece[TEXT_PIECE_MAX];
            assert_int_equal(vocab_is_end(v, id), end);
            assert_int_equal(vocab_piece(v, id, false, piece) == 0, end || type == TOKEN_UNKNOWN);
        }
        vocab_free(v);
        v = tiny_opened(marked(others, types, ARRAY_SIZE(others)));
        for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
            assert_false(vocab_is_end(v, 256 + (int32_t)i));
        }
        vocab_free(v);
    }
}

/* Goal: only BitNet b1.58 2B4T may leave its pre-tokenizer out. Method: its architecture's names
 * with another number of tokens, its number of tokens with another architecture, and both. */
static void only_bitnet_2b4t_needs_no_pretokenizer(void **state)
{
    static const struct {
        const char *arch;
        unsigned n;
        bool opens;
    } cases[] = {
        {"bitnet-b1.58", 128256, true},  {"bitnet-25", 128256, true},
        {"bitnet-b1.58", 128255, false}, {"bitnet", 128256, false},
        {"llama", 128256, false},        {NULL, 128256, false},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct gguf_make m = {0};
        struct vocab *v = NULL;
        struct diag d = {0};
        if (cases[i].arch) {
            make_key_str(&m, "general.architecture", cases[i].arch);
        }
        make_key_str(&m, "tokenizer.ggml.model", "gpt2");
        make_array(&m, "tokenizer.ggml.tokens", GGUF_STR, cases[i].n);
        for (unsigned id = 0; id < cases[i].n; id++) {
            char text[16];
            const int n = snprintf(text, sizeof(text), id == 128009 ? "<|eot_id|>" : "t%u", id);
            make_text(&m, text, (size_t)n);
        }
        make_key_strs(&m, "tokenizer.ggml.merges", (const char *const[]){"t 1"}, 1);
        make_key_u32(&m, "tokenizer.ggml.bos_token_id", 128000);
        make_key_u32(&m, "tokenizer.ggml.eos_token_id", 128001);
        if (!cases[i].opens) {
            refused(m, MODEL_UNSUPPORTED, "tokenizer.ggml.pre is missing");
            continue;
        }
        assert_int_equal(tiny_open(&m, &v, &d), MODEL_OK);
        assert_false(d.set);
        assert_true(vocab_is_end(v, 128001));
        assert_true(vocab_is_end(v, 128009)); /* though its type says normal and no key names it */
        assert_false(vocab_is_end(v, 128000));
        vocab_free(v);
    }
}

/* Goal: the bytes of each kind of token. */
static void pieces_are_exact_bytes(void **state)
{
    struct vocab *v = tiny_opened(tiny_bpe("gpt-2"));

    piece_is(v, B_SP_THE, false, " the");
    piece_is(v, 0xff, false, "\xff");
    piece_is(v, B_END, false, "");
    piece_is(v, B_END, true, "<|im_end|>");
    piece_is(v, B_THINK, false, "<think>");
    piece_is(v, -1, true, "");
    piece_is(v, B_COUNT, true, "");
    vocab_free(v);
    v = tiny_opened(tiny_spm());
    piece_is(v, S_MARK_A, false, " a");
    piece_is(v, 3 + 0x41, false, "A");
    piece_is(v, 0, false, "");
    piece_is(v, 0, true, "<unk>");
    piece_is(v, S_USER, false, "<user>");
    vocab_free(v);
}

static void pack_into(struct gguf_make m, struct buf *out)
{
    const int fd = make_done(&m);
    const off_t n = lseek(fd, 0, SEEK_END);
    char *file = malloc((size_t)n);
    struct gguf g;
    struct diag d = {0};

    assert_non_null(file);
    assert_int_equal(pread(fd, file, (size_t)n, 0), n);
    close(fd);
    assert_int_equal(gguf_parse(&g, file, (size_t)n, &d), GGUF_OK);
    assert_int_equal(vocab_pack(&g, out, &d), MODEL_OK);
    gguf_deinit(&g);
    free(file);
}

/* Goal: packing is a function of the file, wherever in a larger packed file it goes. */
static void packing_twice_gives_the_same_bytes(void **state)
{
    struct buf a, b;

    buf_init(&a, (size_t)1 << 24);
    buf_init(&b, (size_t)1 << 24);
    pack_into(tiny_bpe("llama-bpe"), &a);
    assert_int_equal(buf_append(&b, "sixteen bytes...", 16), 0);
    pack_into(tiny_bpe("llama-bpe"), &b);
    assert_int_equal(a.n % 8, 0);
    assert_int_equal(b.n, a.n + 16);
    assert_memory_equal(a.data, b.data + 16, a.n);
    buf_deinit(&a);
    buf_deinit(&b);
}

/* Goal: a damaged packed vocabulary is refused or harmless, never an address outside. Method: every
 * byte of header and tables turned over in turn, in a buffer of the exact size, then put to
 * work. */
static void damage_never_leads_outside(void **state)
{
    struct buf a;
    size_t refusals = 0;

    buf_init(&a, (size_t)1 << 24);
    pack_into(tiny_spm(), &a);
    for (size_t at = 0; at < a.n; at++) {
        struct vocab *v = NULL;
        struct diag d = {0};
        uint8_t *copy = malloc(a.n);
        assert_non_null(copy);
        memcpy(copy, a.data, a.n);
        copy[at] ^= 0xff;
        const int r = vocab_open_view(&v, copy, a.n, &d);
        if (r == MODEL_OK) {
            int32_t ids[64];
            size_t n = 0;
            char piece[TEXT_PIECE_MAX];
            (void)!vocab_tokenize(v, "abc <user> \xff", 12, TOKENIZE_SPECIAL, ids, 64, &n);
            for (int32_t id = 0; id < S_COUNT; id++) {
                (void)vocab_piece(v, id, true, piece);
            }
        } else {
            assert_int_equal(r, MODEL_MALFORMED);
            assert_true(d.set);
            refusals++;
        }
        vocab_free(v);
        free(copy);
    }
    assert_true(refusals > sizeof(struct vocab_header) / 4);
    buf_deinit(&a);
}

/* Goal: a cut packed vocabulary is refused. Method: every length below the whole. */
static void a_cut_packed_vocabulary_is_refused(void **state)
{
    struct buf a;

    buf_init(&a, (size_t)1 << 24);
    pack_into(tiny_bpe("gpt-2"), &a);
    for (size_t n = 0; n < a.n; n += 8) {
        struct vocab *v = NULL;
        assert_int_equal(vocab_open_view(&v, a.data, n, NULL), MODEL_MALFORMED);
        assert_null(v);
    }
    buf_deinit(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unsound_tokenizer_keys_are_refused_by_name),
        cmocka_unit_test(unknown_tokenizers_are_unsupported_by_name),
        cmocka_unit_test(known_pretokenizers_open),
        cmocka_unit_test(an_overlong_token_is_too_big),
        cmocka_unit_test(special_ids_out_of_range_count_as_absent),
        cmocka_unit_test(the_file_says_whether_texts_begin_with_bos),
        cmocka_unit_test(odd_token_texts_are_survived),
        cmocka_unit_test(ends_are_named_or_known_by_text),
        cmocka_unit_test(every_key_that_names_ends_is_read),
        cmocka_unit_test(odd_lists_of_ends_are_refused),
        cmocka_unit_test(known_texts_end_a_generation),
        cmocka_unit_test(only_bitnet_2b4t_needs_no_pretokenizer),
        cmocka_unit_test(pieces_are_exact_bytes),
        cmocka_unit_test(packing_twice_gives_the_same_bytes),
        cmocka_unit_test(damage_never_leads_outside),
        cmocka_unit_test(a_cut_packed_vocabulary_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
