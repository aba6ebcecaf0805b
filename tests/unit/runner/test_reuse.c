/* KV blocks over the seam: taken as they fill, found again by the same salt only, computed once for
 * everybody. */
#include "tests/support/test.h"

#include <string.h>
#include <unistd.h>

#include "base/compiler.h"
#include "engine/engine.h"
#include "tests/support/runner_model.h"
#include "tests/support/runner_rig.h"
#include "tests/unit/runner/shared_model.h"

#define LONG_PROMPT                                                                                \
    "the kitchen has four lamps, two of which are dim; the garden has one, and the hall has none." \
    " which of these are on, and which of these are off, and why?"
#define WHOLE_BLOCKS(n) (((n)-1) / KV_BLOCK * KV_BLOCK)

/* @positions: of KV in all; 0: plenty */
static void open_loaded(struct rig *rig, const char *kv, size_t positions)
{
    struct seam_load load = {
        .model = 1, .kv = strview_of(kv), .kv_bytes_max = 64u << 20, .n_streams_max = 16};
    struct seam_loaded loaded;

    rig_open(rig, RIG_HOOKED, "16");
    if (positions > 0) {
        load.model = 2;
        rig_load(rig, &load, packed, &loaded);
        load.model = 1;
        load.n_ctx = 256;
        load.kv_bytes_max = loaded.kv_bytes_per_position * positions;
    }
    rig_load(rig, &load, packed, NULL);
}

/* Prompt tokens that the runner has computed since its start, once it is idle. */
static struct seam_stats stats_of(struct rig *rig)
{
    struct seam_message m;

    do {
        assert_true(rig_next(rig, &m));
    } while (m.type != SEAM_STATS || m.stats.n_sequences > 0);
    return m.stats;
}

/* Goal: the second time, only the end of a prompt is computed; under another salt all of it; the
 * answer is the same every time, in every type of cache. Method: the tokens that the runner says it
 * computed are counted. */
static void a_prompt_is_computed_once_for_each_salt(void **state)
{
    static const struct {
        uint8_t salt;
        bool found;
    } rounds[] = {{1, false}, {1, true}, {2, false}, {0, false}, {2, true}, {1, true}};
    static const char *const kvs[] = {"f32", "f16", "int8"};
    static struct rig_answer got, want;
    struct rig rig;
    (void)state;

    for (unsigned kv = 0; kv < ARRAY_SIZE(kvs); kv++) {
        struct rig_request q = rig_prompt(1, 1, LONG_PROMPT, 40);
        uint64_t computed = 0;
        open_loaded(&rig, kvs[kv], 0);
        rig_direct(packed, (enum kv_type)kv, &q, &want);
        const uint32_t n = want.prompt_tokens;
        for (unsigned i = 0; i < ARRAY_SIZE(rounds); i++) {
            q.seq++;
            q.salt = rounds[i].salt;
            rig_ask(&rig, &q, &got);
            rig_assert_same(&got, &want);
            assert_int_equal(got.cached_tokens, rounds[i].found ? WHOLE_BLOCKS(n) : 0);
            computed += n - got.cached_tokens;
            const struct seam_stats stats = stats_of(&rig);
            assert_int_equal(stats.prompt_tokens, computed);
            assert_int_equal(stats.kv_bytes_used, 0);
            assert_true(stats.kv_bytes_idle > 0);
        }
        assert_int_equal(rig_close(&rig), 0);
    }
}

/* Goal: an answer that was interrupted goes on with what was computed of it. */
static void an_answer_is_found_again_too(void **state)
{
    static struct rig_answer got, want;
    struct rig_request q = rig_prompt(1, 1, "hello", 100);
    struct rig rig;
    (void)state;

    open_loaded(&rig, "f16", 0);
    rig_direct(packed, KV_F16, &q, &want);
    q.salt = 1;
    rig_ask(&rig, &q, &got);
    rig_assert_same(&got, &want);
    (void)stats_of(&rig);
    q.seq = 2;
    q.resume = want.ids;
    q.n_resume = 90;
    rig_ask(&rig, &q, &got);
    rig_assert_same(&got, &want);
    assert_int_equal(stats_of(&rig).prompt_tokens, 5 + (5 + 90 - WHOLE_BLOCKS(5 + 90)));
    assert_int_equal(rig_close(&rig), 0);
}

/* Goal: of several who wait with the same prompt only the first computes it. */
static void equal_prompts_at_once_are_computed_once(void **state)
{
    static struct rig_answer got[6], want;
    struct rig_request q[6];
    uint64_t run[6];
    struct rig rig;
    (void)state;

    open_loaded(&rig, "f16", 0);
    memset(got, 0, sizeof(got));
    for (unsigned i = 0; i < 6; i++) {
        q[i] = rig_prompt(i + 1, 1, LONG_PROMPT, 20);
        q[i].salt = 3;
        got[i].seq = run[i] = i + 1;
        rig_start(&rig, &q[i]);
    }
    rig_plan(&rig, run, 6);
    rig_finish(&rig, got, 6);
    for (unsigned i = 0; i < 6; i++) {
        rig_direct(packed, KV_F16, &q[i], &want);
        rig_assert_same(&got[i], &want);
        assert_int_equal(got[i].cached_tokens, i == 0 ? 0 : WHOLE_BLOCKS(want.prompt_tokens));
    }
    assert_int_equal(rig_close(&rig), 0);
}

/* Goal: a public prefix is computed without a plan and found by everybody as long as it is one;
 * nothing else is public. */
static void a_public_prefix_is_found_by_everybody(void **state)
{
    static struct rig_answer got, want;
    struct rig_request q = rig_prompt(1, 1, LONG_PROMPT, 1);
    struct rig rig;
    (void)state;

    open_loaded(&rig, "f16", 0);
    q.public_ = true;
    memset(&got, 0, sizeof(got));
    got.seq = 1;
    rig_start(&rig, &q);
    rig_finish(&rig, &got, 1);
    assert_string_equal(got.reason, "primed");
    assert_int_equal(got.n, 0);
    q = rig_prompt(1, 1, LONG_PROMPT " because", 30);
    rig_direct(packed, KV_F16, &q, &want);
    for (uint8_t salt = 0; salt < 4; salt++) {
        q.seq++;
        q.salt = salt;
        rig_ask(&rig, &q, &got);
        rig_assert_same(&got, &want);
        assert_int_equal(got.cached_tokens, salt ? WHOLE_BLOCKS(strlen(LONG_PROMPT) + 1) : 0);
    }
    rig_send(&rig, &(struct seam_message){.type = SEAM_PUBLIC, .public_ = {1, {9}}}, NULL, 0);
    q.seq++;
    rig_ask(&rig, &q, &got); /* it is public no more, nor is what was kept behind it to be found */
    rig_assert_same(&got, &want);
    assert_int_equal(got.cached_tokens, 0);
    assert_int_equal(rig_close(&rig), 0);
}

/* Goal: when blocks run out, idle ones go first; then a sequence is given back, and goes on when it
 * is started again with what it has. Method: three answers that do not fit together, started again
 * as they fail. */
static void a_full_pool_gives_sequences_back(void **state)
{
    static struct rig_answer got[3], want[3];
    struct rig_request q[3];
    static int32_t resume[3][256];
    size_t n_again = 0;
    struct rig rig;
    (void)state;

    open_loaded(&rig, "f16", 256);
    memset(got, 0, sizeof(got));
    for (unsigned i = 0; i < 3; i++) {
        q[i] = rig_prompt(i + 1, 1, i == 0 ? "one" : i == 1 ? "and two" : "three, too", 200);
        q[i].salt = 1;
        rig_direct(packed, KV_F16, &q[i], &want[i]);
        got[i].seq = i + 1;
        rig_start(&rig, &q[i]);
    }
    size_t n_over = 0;
    for (unsigned turn = 0; n_over < 3; turn++) {
        uint64_t run[3];
        size_t n_run = 0;
        for (unsigned i = 0; i < 3; i++) { /* the first that is not over goes first */
            if (!got[i].over || got[i].again) {
                run[n_run++] = got[i].seq;
            }
        }
        rig_plan(&rig, run, n_run);
        assert_int_not_equal(rig_take(&rig, got, 3), SEAM_TYPES);
        n_over = 0;
        for (unsigned i = 0; i < 3; i++) {
            if (got[i].over && got[i].failed == ERR_OVERLOADED && got[i].again) {
                bool alone = true; /* start it again when nobody else is there */
                for (unsigned k = 0; k < 3; k++) {
                    alone = alone && (k == i || got[k].over);
                }
                n_again += got[i].n > 0 ? 1 : 0;
                if (alone) {
                    memcpy(resume[i], got[i].ids, got[i].n * sizeof(resume[i][0]));
                    q[i].resume = resume[i];
                    q[i].n_resume = got[i].n;
                    memset(&got[i], 0, sizeof(got[i]));
                    got[i].seq = i + 1;
                    rig_start(&rig, &q[i]);
                }
            }
            n_over += got[i].over && !got[i].again ? 1 : 0;
        }
    }
    assert_true(n_again > 0);
    for (unsigned i = 0; i < 3; i++) {
        rig_assert_same(&got[i], &want[i]);
    }
    assert_int_equal(rig_close(&rig), 0);
}

/* Goal: a prompt that finds everything taken by idle blocks gets them. */
static void idle_blocks_make_room(void **state)
{
    static struct rig_answer got, want;
    struct rig rig;
    (void)state;

    open_loaded(&rig, "f16", 256);
    for (unsigned i = 0; i < 6; i++) {
        struct rig_request q = rig_prompt(i + 1, 1, LONG_PROMPT, 60);
        q.generate.prompt.data += i; /* others each time */
        q.generate.prompt.n -= i;
        q.salt = 1;
        rig_direct(packed, KV_F16, &q, &want);
        rig_ask(&rig, &q, &got);
        rig_assert_same(&got, &want);
        assert_int_equal(got.cached_tokens, 0);
    }
    assert_int_equal(rig_close(&rig), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_is_computed_once_for_each_salt),
        cmocka_unit_test(an_answer_is_found_again_too),
        cmocka_unit_test(equal_prompts_at_once_are_computed_once),
        cmocka_unit_test(a_public_prefix_is_found_by_everybody),
        cmocka_unit_test(a_full_pool_gives_sequences_back),
        cmocka_unit_test(idle_blocks_make_room),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
