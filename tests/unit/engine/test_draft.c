#include "tests/support/test.h"

#include <string.h>

#include "engine/draft.h"
#include "engine/engine.h"
#include "engine/kv.h"
#include "tests/unit/engine/tiny.h"

/* ---- guessing ---- */

static void the_longest_and_latest_match_is_followed(void **state)
{
    static const int32_t ids[] = {1, 2, 3, 9, 8, 7, 2, 3, 5, 6, 1, 2, 3};
    static const int32_t tie[] = {2, 3, 4, 2, 3, 5, 2, 3};
    int32_t got[4];
    (void)state;

    assert_int_equal(draft_find(ids, ARRAY_SIZE(ids), got, 4), 4);
    assert_memory_equal(got, ((int32_t[]){9, 8, 7, 2}), sizeof(got)); /* 1 2 3, not 2 3 */
    assert_int_equal(draft_find(tie, ARRAY_SIZE(tie), got, 1), 1);
    assert_int_equal(got[0], 5);
}

static void too_short_a_match_is_none(void **state)
{
    static const int32_t ids[] = {1, 2, 3, 4, 5, 3};
    int32_t got[4] = {-1, -1, -1, -1};
    (void)state;

    for (size_t n = 0; n <= ARRAY_SIZE(ids); n++) {
        assert_int_equal(draft_find(ids, n, got, 4), 0);
    }
    assert_int_equal(got[0], -1);
    assert_int_equal(draft_find((int32_t[]){7, 7, 7}, 3, got, 0), 0);
}

/* A match that ends at the last token but one goes round in what it guessed. */
static void a_loop_is_guessed_to_go_on(void **state)
{
    static const int32_t same[] = {4, 7, 7, 7}, pair[] = {5, 6, 5, 6, 5};
    int32_t got[7];
    (void)state;

    assert_int_equal(draft_find(same, 4, got, 7), 7);
    for (size_t i = 0; i < 7; i++) {
        assert_int_equal(got[i], 7);
    }
    assert_int_equal(draft_find(pair, 5, got, 7), 7);
    for (size_t i = 0; i < 7; i++) {
        assert_int_equal(got[i], i % 2 ? 5 : 6);
    }
}

/* Goal: what was guessed stood so before. Method: random texts of few words; each guess is compared
 * with a plain search, and no place before the look-back counts. */
static void guesses_are_what_a_plain_search_finds(void **state)
{
    static int32_t ids[DRAFT_LOOK + 100];
    int32_t got[DRAFT_MAX];
    (void)state;

    for (size_t round = 0; round < 400; round++) {
        const size_t n = 2 + round % 60;
        size_t best = 1, where = 0;
        for (size_t i = 0; i < n; i++) {
            ids[i] = (int32_t)((tiny_random(round * 100 + i) + 1) * 2);
        }
        for (size_t at = 1; at < n; at++) {
            size_t m = 0;
            while (m < at && m < DRAFT_MATCH_MAX && ids[at - 1 - m] == ids[n - 1 - m]) {
                m++;
            }
            if (m >= best && m >= DRAFT_MATCH_MIN) {
                best = m;
                where = at;
            }
        }
        const size_t found = draft_find(ids, n, got, 3);
        assert_int_equal(found, where > 0 ? 3 : 0);
        if (found > 0) {
            assert_int_equal(got[0], ids[where]);
        }
    }
    memset(ids, 0, sizeof(ids));
    for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
        ids[i] = (int32_t)i;
    }
    ids[ARRAY_SIZE(ids) - 2] = 10; /* as far back as nobody looks */
    ids[ARRAY_SIZE(ids) - 1] = 11;
    assert_int_equal(draft_find(ids, ARRAY_SIZE(ids), got, 3), 0);
    assert_int_equal(draft_find(ids + 50, ARRAY_SIZE(ids) - 50, got, 3), 0);
}

static void bad_luck_makes_guesses_few_and_then_rare(void **state)
{
    struct draft_luck l = {0};
    unsigned n_tries = 0;
    (void)state;

    assert_int_equal(draft_ask(&l, 4), 4);
    draft_learn(&l, 4, 4);
    assert_int_equal(draft_ask(&l, 16), 8);
    draft_learn(&l, 8, 3);
    assert_int_equal(draft_ask(&l, 16), 3);
    draft_learn(&l, 3, 3);
    assert_int_equal(draft_ask(&l, 16), 6);
    assert_int_equal(draft_ask(&l, 2), 2);
    for (unsigned i = 0; i < 1000; i++) {
        const size_t n = draft_ask(&l, 8);
        if (n > 0) {
            draft_learn(&l, n, 0);
            n_tries++;
        }
    }
    assert_in_range(n_tries, 20, 40);
    while (draft_ask(&l, 8) == 0) {
    }
    draft_learn(&l, 1, 1);
    assert_int_equal(draft_ask(&l, 8), 2);
}

/* ---- a sequence with guesses ---- */

#define N_IDS 70u /* more than two blocks */

struct rig {
    struct model *model;
    struct engine *engine;
    struct kv_pool *pool;
    struct stepper *stepper;
};

static struct rig rig_up(enum kv_type kv, size_t n_blocks)
{
    const struct tiny tiny = {.arch = "qwen3", .format = "Q1_0", .head = "Q8_0"};
    const struct engine_options options = {.cpu = cpu_level_best(), .n_threads = 2};
    const struct stepper_limits limits = {.n_tokens_max = N_IDS, .n_logits_max = N_IDS};
    struct rig r = {.model = tiny_open(&tiny)};

    assert_int_equal(engine_new(&r.engine, &options), 0);
    assert_int_equal(kv_pool_new(&r.pool, r.model, kv, n_blocks), 0);
    assert_int_equal(stepper_new(&r.stepper, r.engine, r.model, &limits), 0);
    return r;
}

static void rig_down(struct rig *r)
{
    stepper_free(r->stepper);
    kv_pool_free(r->pool);
    engine_free(r->engine);
    model_free(r->model);
}

static void ids_of(int32_t *ids, unsigned which)
{
    for (unsigned i = 0; i < N_IDS; i++) {
        ids[i] = (int32_t)((i * 37 + which * 11) % TINY_VOCAB);
    }
}

/* Goal: rows are what they are without guesses, whatever the guesses were; of them nothing is left.
 * Method: a sequence goes on in steps of some right and some wrong guesses, across the borders of
 * blocks, with every type of cache; its rows and length are those of one that has none, and so is
 * what others find of it. */
static void rejected_guesses_leave_nothing_behind(void **state)
{
    static float want[N_IDS * TINY_VOCAB];
    static const uint8_t salt[KV_SALT] = {1};
    int32_t ids[N_IDS], tries[N_IDS];
    (void)state;

    ids_of(ids, 0);
    for (unsigned kv = KV_F32; kv <= KV_I8; kv++) {
        struct rig r = rig_up((enum kv_type)kv, 16);
        struct step_item it = {.ids = ids, .n_ids = N_IDS, .n_logits = N_IDS};
        assert_int_equal(seq_new(&it.seq, r.pool, N_IDS), 0);
        assert_int_equal(stepper_run(r.stepper, &it, 1, NULL), STEP_OK);
        memcpy(want, it.logits, sizeof(want));
        seq_free(it.seq);

        assert_int_equal(seq_new(&it.seq, r.pool, N_IDS), 0);
        assert_int_equal(seq_attach(it.seq, salt, ids, N_IDS), 0);
        for (size_t at = 0, step = 0; at < N_IDS; step++) {
            const size_t room = N_IDS - at - 1, n = step % 6 < room ? step % 6 : room;
            const size_t right = n > 0 ? step / 2 % (n + 1) : 0;
            memcpy(tries, ids + at, (1 + right) * sizeof(*ids));
            for (size_t i = right; i < n; i++) {
                tries[1 + i] = (ids[at + 1 + i] + 1 + (int32_t)i) % (int32_t)TINY_VOCAB;
            }
            it.ids = tries;
            it.n_ids = it.n_logits = 1 + n;
            it.n_drafts = n;
            assert_int_equal(stepper_run(r.stepper, &it, 1, NULL), STEP_OK);
            assert_int_equal(seq_len(it.seq), at + 1);
            assert_memory_equal(it.logits, want + at * TINY_VOCAB,
                                (1 + right) * TINY_VOCAB * sizeof(*want));
            seq_accept(it.seq, tries + 1, right);
            at += 1 + right;
            assert_int_equal(seq_len(it.seq), at);
        }
        struct seq *other = NULL;
        assert_int_equal(seq_new(&other, r.pool, N_IDS), 0);
        assert_int_equal(seq_attach(other, salt, ids, N_IDS), N_IDS / KV_BLOCK * KV_BLOCK);
        seq_free(other);
        seq_free(it.seq);

        /* What was found by them is what was computed without. */
        assert_int_equal(seq_new(&it.seq, r.pool, N_IDS), 0);
        const size_t found = seq_attach(it.seq, salt, ids, N_IDS);
        it.ids = ids + found;
        it.n_ids = it.n_logits = N_IDS - found;
        it.n_drafts = 0;
        assert_int_equal(stepper_run(r.stepper, &it, 1, NULL), STEP_OK);
        assert_memory_equal(it.logits, want + found * TINY_VOCAB,
                            it.n_ids * TINY_VOCAB * sizeof(*want));
        seq_free(it.seq);
        rig_down(&r);
    }
}

static void guesses_have_their_limits(void **state)
{
    int32_t ids[N_IDS];
    struct rig r = rig_up(KV_F16, 1);
    struct step_item it = {.ids = ids, .n_ids = 4, .n_logits = 4, .n_drafts = 4};
    (void)state;

    ids_of(ids, 1);
    assert_int_equal(seq_new(&it.seq, r.pool, KV_BLOCK), 0);
    assert_int_equal(stepper_run(r.stepper, &it, 1, NULL), -22); /* no token of its own */
    it.n_ids = KV_BLOCK + 1;
    it.n_logits = 1;
    assert_int_equal(stepper_run(r.stepper, &it, 1, NULL), STEP_KV_FULL); /* guesses need room */
    assert_int_equal(seq_len(it.seq), 0);
    it.n_ids = KV_BLOCK;
    it.n_drafts = KV_BLOCK - 1;
    assert_int_equal(stepper_run(r.stepper, &it, 1, NULL), STEP_OK);
    assert_int_equal(seq_len(it.seq), 1);
    seq_free(it.seq);
    assert_int_equal(kv_pool_free_blocks(r.pool), 1);
    rig_down(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_longest_and_latest_match_is_followed),
        cmocka_unit_test(too_short_a_match_is_none),
        cmocka_unit_test(a_loop_is_guessed_to_go_on),
        cmocka_unit_test(guesses_are_what_a_plain_search_finds),
        cmocka_unit_test(bad_luck_makes_guesses_few_and_then_rare),
        cmocka_unit_test(rejected_guesses_leave_nothing_behind),
        cmocka_unit_test(guesses_have_their_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
