#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/engine.h"
#include "train/bpe/bpe.h"
#include "train/bpe/corpus.h"
#include "train/bpe/keys.h"

#define IDS 512

static uint64_t rng;

static uint32_t below(uint32_t n)
{
    rng = rng * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)(rng >> 33) % n;
}

static struct corpus *corpus_of(const char *const *texts, size_t n)
{
    struct corpus *c = NULL;

    assert_int_equal(corpus_new(&c, "qwen2"), 0);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(corpus_add(c, strview_of(texts[i])), CORPUS_OK);
    }
    return c;
}

/* Words that share pieces, letters of other alphabets, marks, numbers, runs and repetitions. */
static struct corpus *wild_corpus(uint64_t seed)
{
    static const char *const pieces[] = {"an",
                                         "na",
                                         "ban",
                                         "a",
                                         "aa",
                                         "the ",
                                         " ",
                                         "21",
                                         "{\"",
                                         "\":",
                                         "\n",
                                         "\xc3\xa9",
                                         "\xce\x93\xce\xb5",
                                         "'s",
                                         "\xf0\x9f\x98\x80",
                                         "on ",
                                         "light",
                                         "_",
                                         "\xe2\x80\x93"};
    struct corpus *c = NULL;

    rng = seed;
    assert_int_equal(corpus_new(&c, "qwen2"), 0);
    for (size_t i = 0; i < 3000; i++) {
        char text[256] = "";
        for (uint32_t k = 1 + below(12); k > 0; k--) {
            strcat(text, pieces[below(ARRAY_SIZE(pieces))]);
        }
        assert_int_equal(corpus_add(c, strview_of(text)), CORPUS_OK);
    }
    return c;
}

static struct bpe *train(const struct corpus *c, uint32_t n_tokens, bool apart)
{
    const struct bpe_options o = {.n_tokens = n_tokens, .count_min = 2, .apart = apart};
    struct bpe *b = NULL;

    assert_int_equal(bpe_train(&b, c, &o), 0);
    return b;
}

static struct vocab *vocab_of(const struct bpe *b)
{
    const int fd = memfd_create("vocabulary", MFD_CLOEXEC);
    struct gguf_writer *w = NULL;
    struct vocab *v = NULL;

    assert_int_equal(gguf_writer_new(&w), 0);
    assert_int_equal(bpe_put_keys(w, b, "qwen2"), 0);
    assert_int_equal(gguf_writer_begin(w, fd), 0);
    assert_int_equal(gguf_writer_end(w), 0);
    gguf_writer_free(w);
    assert_int_equal(vocab_open_gguf(&v, fd, NULL), MODEL_OK);
    (void)close(fd);
    return v;
}

static size_t ids_of(const struct vocab *v, struct strview text, int32_t ids[IDS])
{
    size_t n = 0;

    assert_int_equal(vocab_tokenize(v, text.data, text.n, 0, ids, IDS, &n), TOKENIZE_OK);
    return n;
}

/* Goal: what was counted is what the engine will do. Method: random texts of pieces that merge in
 * many ways; each word of the corpus is cut by the engine's tokenizer as by the last merge. */
static void the_engine_cuts_each_word_as_training_left_it(void **state)
{
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct corpus *c = wild_corpus(seed);
        struct bpe *b = train(c, 300 + 60 * (uint32_t)seed, seed % 2);
        struct vocab *v = vocab_of(b);
        size_t n_merged = 0;
        assert_int_equal(vocab_size(v), bpe_tokens(b) + BPE_CONTROLS);
        for (size_t i = 0; i < corpus_words(c); i++) {
            int32_t ids[IDS];
            size_t n_want;
            const struct strview text = corpus_word(c, i).text;
            const uint32_t *want = bpe_word(b, i, &n_want);
            const size_t n = ids_of(v, text, ids);
            assert_int_equal(n, n_want);
            assert_memory_equal(ids, want, n * sizeof(*ids));
            n_merged += n < text.n;
        }
        assert_true(n_merged > 20);
        vocab_free(v);
        bpe_free(b);
        corpus_free(c);
    }
}

static void a_word_has_the_same_tokens_wherever_it_stands(void **state)
{
    struct corpus *c = wild_corpus(9);
    struct bpe *b = train(c, 500, /* apart= */ true), *joined = train(c, 500, /* apart= */ false);
    struct vocab *v = vocab_of(b);
    size_t n_spaced = 0, n_joined = 0;

    for (size_t i = 0; i < corpus_words(c); i++) {
        const struct strview text = corpus_word(c, i).text;
        int32_t with[IDS], without[IDS];
        if (text.n < 2 || text.data[0] != ' ' || text.data[1] == ' ') {
            continue;
        }
        const size_t n = ids_of(v, text, with);
        assert_int_equal(ids_of(v, (struct strview){text.data + 1, text.n - 1}, without), n - 1);
        assert_int_equal(with[0], ' ');
        assert_memory_equal(with + 1, without, (n - 1) * sizeof(*with));
        n_spaced++;
    }
    for (uint32_t id = BPE_BYTES; id < bpe_tokens(joined); id++) {
        n_joined += bpe_text(joined, id).data[0] == ' ';
    }
    assert_true(n_spaced > 10 && n_joined > 10);
    vocab_free(v);
    bpe_free(joined);
    bpe_free(b);
    corpus_free(c);
}

/* ---- against counting everything anew ---- */

struct slow_word {
    uint32_t ids[CORPUS_WORD_BYTES_MAX];
    size_t n;
    uint64_t count;
};

static bool slow_is_token(const struct bpe *b, uint32_t n_tokens, struct bpe_pair p)
{
    const struct strview l = bpe_text(b, p.left), r = bpe_text(b, p.right);

    for (uint32_t id = 0; id < n_tokens; id++) {
        const struct strview t = bpe_text(b, id);
        if (t.n == l.n + r.n && memcmp(t.data, l.data, l.n) == 0 &&
            memcmp(t.data + l.n, r.data, r.n) == 0) {
            return true;
        }
    }
    return false;
}

/* The pair that is next by the rule in bpe.h; count 0: none. */
static uint64_t slow_best(const struct bpe *b, const struct slow_word *words, size_t n_words,
                          uint32_t n_tokens, struct bpe_pair *ret)
{
    uint64_t *counts = calloc((size_t)n_tokens * n_tokens, sizeof(*counts)), best = 0;

    assert_non_null(counts);
    for (size_t i = 0; i < n_words; i++) {
        for (size_t k = 1; k < words[i].n; k++) {
            counts[words[i].ids[k - 1] * (size_t)n_tokens + words[i].ids[k]] += words[i].count;
        }
    }
    for (uint32_t l = 0; l < n_tokens; l++) {
        for (uint32_t r = 0; r < n_tokens; r++) {
            const struct bpe_pair p = {.left = l, .right = r};
            const uint64_t count = counts[l * (size_t)n_tokens + r];
            if (count > best && !slow_is_token(b, n_tokens, p)) {
                best = count;
                *ret = p;
            }
        }
    }
    free(counts);
    return best;
}

static void slow_merge(struct slow_word *w, struct bpe_pair p, uint32_t id)
{
    size_t to = 0;

    for (size_t k = 0; k < w->n; k++) {
        const bool here = k + 1 < w->n && w->ids[k] == p.left && w->ids[k + 1] == p.right;
        w->ids[to++] = here ? id : w->ids[k];
        k += here;
    }
    w->n = to;
}

/* Goal: counts kept up to date merge by merge are those of counting everything anew, ties
 * included. Method: the second way, written out. */
static void every_merge_is_that_of_the_most_frequent_pair(void **state)
{
    struct corpus *c = wild_corpus(5);
    struct bpe *b = train(c, BPE_BYTES + 90, /* apart= */ false);
    const size_t n = corpus_words(c);
    struct slow_word *words = calloc(n, sizeof(*words));

    assert_non_null(words);
    for (size_t i = 0; i < n; i++) {
        const struct corpus_word w = corpus_word(c, i);
        words[i].n = w.text.n;
        words[i].count = w.count;
        for (size_t k = 0; k < w.text.n; k++) {
            words[i].ids[k] = (uint8_t)w.text.data[k];
        }
    }
    assert_int_equal(bpe_tokens(b), BPE_BYTES + 90);
    for (uint32_t id = BPE_BYTES; id < bpe_tokens(b); id++) {
        struct bpe_pair want = {0};
        assert_true(slow_best(b, words, n, id, &want) >= 2);
        assert_int_equal(bpe_merge(b, id).left, want.left);
        assert_int_equal(bpe_merge(b, id).right, want.right);
        for (size_t i = 0; i < n; i++) {
            slow_merge(&words[i], want, id);
        }
    }
    free(words);
    bpe_free(b);
    corpus_free(c);
}

static void merging_ends_where_no_pair_is_frequent_enough(void **state)
{
    static const char *const texts[] = {"abab", "abab", "cd"};
    struct corpus *c = corpus_of(texts, ARRAY_SIZE(texts));
    struct bpe *b = train(c, 1000, true);

    assert_int_equal(corpus_words(c), 2);
    assert_int_equal(bpe_tokens(b), BPE_BYTES + 2); /* ab, abab; cd occurs once */
    assert_true(strview_is(bpe_text(b, BPE_BYTES), "ab"));
    assert_true(strview_is(bpe_text(b, BPE_BYTES + 1), "abab"));
    bpe_free(b);
    corpus_free(c);
}

static void the_vocabulary_knows_chat_and_its_end(void **state)
{
    static const char *const texts[] = {"user\nhi"};
    static const char text[] = "<|im_start|>user\nhi<|im_end|>";
    struct corpus *c = corpus_of(texts, 1);
    struct bpe *b = train(c, 400, true);
    struct vocab *v = vocab_of(b);
    int32_t ids[IDS];
    size_t n = 0;

    assert_int_equal(vocab_tokenize(v, text, strlen(text), TOKENIZE_SPECIAL, ids, IDS, &n), 0);
    assert_int_equal(ids[0], bpe_tokens(b) + 1);
    assert_int_equal(ids[n - 1], bpe_tokens(b) + 2);
    assert_true(vocab_is_end(v, ids[n - 1]));
    assert_false(vocab_adds_bos(v));
    vocab_free(v);
    bpe_free(b);
    corpus_free(c);
}

static void what_makes_no_sense_is_refused(void **state)
{
    struct corpus *c = NULL;
    struct bpe *b = NULL;
    char wide[CORPUS_WORD_BYTES_MAX + 2];

    assert_int_equal(corpus_new(&c, "no such"), -22);
    assert_int_equal(corpus_new(&c, "qwen2"), 0);
    assert_int_equal(corpus_add(c, (struct strview){"\xff", 1}), CORPUS_HARD);
    memset(wide, 'w', sizeof(wide));
    assert_int_equal(corpus_add(c, (struct strview){wide, sizeof(wide)}), CORPUS_OK);
    assert_int_equal(corpus_words(c), 0); /* too long to be one */
    assert_int_equal(corpus_add(c, (struct strview){0}), CORPUS_OK);
    assert_int_equal(bpe_train(&b, c, &(struct bpe_options){.n_tokens = 255, .count_min = 1}), -22);
    assert_int_equal(bpe_train(&b, c, &(struct bpe_options){.n_tokens = 256}), -22);
    assert_int_equal(bpe_train(&b, c, &(struct bpe_options){.n_tokens = 256, .count_min = 1}), 0);
    assert_int_equal(bpe_tokens(b), 256);
    bpe_free(b);
    corpus_free(c);
    bpe_free(NULL);
    corpus_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_engine_cuts_each_word_as_training_left_it),
        cmocka_unit_test(a_word_has_the_same_tokens_wherever_it_stands),
        cmocka_unit_test(every_merge_is_that_of_the_most_frequent_pair),
        cmocka_unit_test(merging_ends_where_no_pair_is_frequent_enough),
        cmocka_unit_test(the_vocabulary_knows_chat_and_its_end),
        cmocka_unit_test(what_makes_no_sense_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
