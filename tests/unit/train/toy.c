#include "tests/unit/train/toy.h"

#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/compiler.h"
#include "engine/engine.h"
#include "train/bpe/bpe.h"
#include "train/bpe/corpus.h"
#include "train/bpe/keys.h"

#define ROW_BYTES_MAX 160u

static const char *const rooms[] = {"kitchen", "hall", "loft", "cellar", "porch"};
static const char *const things[] = {"light", "fan", "lamp", "heater"};
static const char *const frames[] = {"turn %s the %s in the %s", "please switch %s %s of %s",
                                     "%s with the %s, %s"};

static uint32_t below(uint64_t *state, uint32_t n)
{
    *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)(*state >> 33) % n;
}

/* A prompt and its answer. */
static void make_row(uint64_t *state, char prompt[ROW_BYTES_MAX], char answer[ROW_BYTES_MAX])
{
    const char *room = rooms[below(state, ARRAY_SIZE(rooms))];
    const char *thing = things[below(state, ARRAY_SIZE(things))];
    const char *to = below(state, 2) ? "on" : "off";

    (void)snprintf(prompt, ROW_BYTES_MAX, frames[below(state, ARRAY_SIZE(frames))], to, thing,
                   room);
    (void)snprintf(answer, ROW_BYTES_MAX, "{'do':'%s','%s':'%s'}", to, room, thing);
}

static void make_vocabulary(struct toy *t, const struct corpus *corpus)
{
    const struct bpe_options o = {.n_tokens = 340, .count_min = 2, .apart = true};
    const int fd = memfd_create("toy", MFD_CLOEXEC);
    struct gguf_writer *w = NULL;
    struct bpe *b = NULL;

    assert_int_equal(bpe_train(&b, corpus, &o), 0);
    assert_int_equal(gguf_writer_new(&w), 0);
    assert_int_equal(bpe_put_keys(w, b, "qwen2"), 0);
    assert_int_equal(gguf_writer_begin(w, fd), 0);
    assert_int_equal(gguf_writer_end(w), 0);
    gguf_writer_free(w);
    bpe_free(b);
    assert_int_equal(vocabulary_open(&t->vocabulary, fd, NULL), MODEL_OK);
    (void)close(fd);
}

static void make_rows(struct toy *t, size_t n_rows)
{
    struct corpus *corpus = NULL;
    uint64_t state = 7;

    t->rows = malloc(n_rows * 3 * ROW_BYTES_MAX);
    assert_non_null(t->rows);
    assert_int_equal(corpus_new(&corpus, "qwen2"), 0);
    for (size_t i = 0; i < n_rows; i++) {
        char prompt[ROW_BYTES_MAX], answer[ROW_BYTES_MAX];
        make_row(&state, prompt, answer);
        assert_int_equal(corpus_add(corpus, strview_of(prompt)), CORPUS_OK);
        assert_int_equal(corpus_add(corpus, strview_of(answer)), CORPUS_OK);
        t->n_rows_bytes += (size_t)sprintf(
            t->rows + t->n_rows_bytes, "{\"prompt\":\"%s\",\"answer\":\"%s\"}\n", prompt, answer);
    }
    make_vocabulary(t, corpus);
    corpus_free(corpus);
}

void toy_init(struct toy *t, size_t n_rows, enum net_weights weights,
              enum net_activations activations)
{
    struct diag diag = {0};

    *t = (struct toy){0};
    make_rows(t, n_rows);
    assert_int_equal(data_new(&t->data, &t->vocabulary, 64), 0);
    assert_int_equal(data_add(t->data, t->rows, t->n_rows_bytes, false, NULL), DATA_OK);
    assert_int_equal(data_rows(t->data), n_rows);
    t->recipe = (struct recipe){
        .n_layer = 2,
        .n_embd = 256,
        .n_ff = 256,
        .n_head = 4,
        .n_head_kv = 2,
        .head_dim = 64,
        .n_vocab = vocab_size(t->vocabulary.vocab),
        .n_ctx = 64,
        .rope_base = 10000,
        .rms_eps = 1e-6,
        .weights = weights,
        .activations = activations,
        .smooth_k = 1,
        .n_steps = 40,
        .n_warm = 4,
        .lr = 2e-3,
        .beta1 = 0.9,
        .beta2 = 0.95,
        .eps = 1e-8,
        .decay = 0.01,
        .clip = 1,
        .batch = 8,
        .accumulate = 1,
        .seed = 3,
        .n_threads = 2,
        .n_rows = n_rows,
        .data_hash = data_hash(t->data),
    };
    if (!recipe_check(&t->recipe, &diag)) {
        fail_msg("%s", diag.text);
    }
}

void toy_deinit(struct toy *t)
{
    data_free(t->data);
    vocabulary_close(&t->vocabulary);
    free(t->rows);
    *t = (struct toy){0};
}
