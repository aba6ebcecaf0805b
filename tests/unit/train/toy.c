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

static const char *const rooms[] = {"kitchen", "hall",    "loft",   "cellar", "porch",
                                    "attic",   "bedroom", "study",  "garage", "nursery",
                                    "pantry",  "terrace", "office", "stairs"};
static const char *const things[] = {"light", "fan",  "lamp", "heater", "blind",
                                     "radio", "pump", "oven", "screen", "kettle"};
static const char *const frames[] = {"turn %s the %s in the %s", "please switch %s %s of %s",
                                     "%s with the %s, %s", "I would like %s for the %s of our %s"};

/* How many of the words there are, and which sentences are not among the rows. */
struct task {
    uint32_t n_rooms, n_things, n_frames;
    uint32_t hold; /* of so many sentences one; 0: none */
};

static const struct task narrow = {5, 4, 3, 0};
static const struct task wide = {ARRAY_SIZE(rooms), ARRAY_SIZE(things), ARRAY_SIZE(frames), 8};

struct sentence {
    uint32_t room, thing, to, frame;
};

static uint32_t below(uint64_t *state, uint32_t n)
{
    *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)(*state >> 33) % n;
}

static struct sentence draw(uint64_t *state, const struct task *task)
{
    struct sentence s;

    s.room = below(state, task->n_rooms);
    s.thing = below(state, task->n_things);
    s.to = below(state, 2);
    s.frame = below(state, task->n_frames);
    return s;
}

/* Each word, and most pairs of them, are among the rows; this sentence is not. */
static bool is_held(const struct task *task, struct sentence s)
{
    return task->hold > 0 && (s.room + s.thing + s.to * 3 + s.frame * 5) % task->hold == 0;
}

/* A prompt and its answer. */
static void make_row(struct sentence s, char prompt[ROW_BYTES_MAX], char answer[ROW_BYTES_MAX])
{
    const char *room = rooms[s.room], *thing = things[s.thing], *to = s.to ? "on" : "off";

    (void)snprintf(prompt, ROW_BYTES_MAX, frames[s.frame], to, thing, room);
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

static size_t put_row(char *to, const char *prompt, const char *answer)
{
    return (size_t)sprintf(to, "{\"prompt\":\"%s\",\"answer\":\"%s\"}\n", prompt, answer);
}

static void make_rows(struct toy *t, const struct task *task, size_t n_rows)
{
    struct corpus *corpus = NULL;
    uint64_t state = 7;

    t->rows = malloc(n_rows * 3 * ROW_BYTES_MAX);
    assert_non_null(t->rows);
    assert_int_equal(corpus_new(&corpus, "qwen2"), 0);
    for (size_t i = 0; i < n_rows;) {
        char prompt[ROW_BYTES_MAX], answer[ROW_BYTES_MAX];
        const struct sentence s = draw(&state, task);
        if (is_held(task, s)) {
            continue;
        }
        make_row(s, prompt, answer);
        assert_int_equal(corpus_add(corpus, strview_of(prompt)), CORPUS_OK);
        assert_int_equal(corpus_add(corpus, strview_of(answer)), CORPUS_OK);
        t->n_rows_bytes += put_row(t->rows + t->n_rows_bytes, prompt, answer);
        i++;
    }
    make_vocabulary(t, corpus);
    corpus_free(corpus);
}

/* All sentences that are held back. */
static void make_held(struct toy *t, const struct task *task)
{
    char prompt[ROW_BYTES_MAX], answer[ROW_BYTES_MAX], row[3 * ROW_BYTES_MAX];

    assert_int_equal(data_new(&t->held, &t->vocabulary, 64), 0);
    for (uint32_t i = 0; i < task->n_rooms * task->n_things * 2 * task->n_frames; i++) {
        const struct sentence s = {i % task->n_rooms, i / task->n_rooms % task->n_things,
                                   i / task->n_rooms / task->n_things % 2,
                                   i / task->n_rooms / task->n_things / 2};
        if (is_held(task, s)) {
            make_row(s, prompt, answer);
            assert_int_equal(data_add(t->held, row, put_row(row, prompt, answer), false, NULL),
                             DATA_OK);
        }
    }
}

static void make_toy(struct toy *t, const struct task *task, size_t n_rows)
{
    *t = (struct toy){0};
    make_rows(t, task, n_rows);
    make_held(t, task);
    assert_int_equal(data_new(&t->data, &t->vocabulary, 64), 0);
    assert_int_equal(data_add(t->data, t->rows, t->n_rows_bytes, false, NULL), DATA_OK);
    assert_int_equal(data_rows(t->data), n_rows);
}

static void make_recipe(struct toy *t)
{
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
        .weights = NET_W_BINARY,
        .activations = NET_A_INT8,
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
        .n_rows = data_rows(t->data),
        .data_hash = data_hash(t->data),
    };
}

static void check_recipe(const struct toy *t)
{
    struct diag diag = {0};

    if (!recipe_check(&t->recipe, &diag)) {
        fail_msg("%s", diag.text);
    }
}

void toy_init(struct toy *t, size_t n_rows, enum net_weights weights,
              enum net_activations activations)
{
    make_toy(t, &narrow, n_rows);
    make_recipe(t);
    t->recipe.weights = weights;
    t->recipe.activations = activations;
    check_recipe(t);
}

void toy_init_wide(struct toy *t, size_t n_rows)
{
    make_toy(t, &wide, n_rows);
    make_recipe(t);
    check_recipe(t);
}

void toy_deinit(struct toy *t)
{
    data_free(t->held);
    data_free(t->data);
    vocabulary_close(&t->vocabulary);
    free(t->rows);
    *t = (struct toy){0};
}
