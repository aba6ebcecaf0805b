/* The runner asks the engine for no more logits than sampling looks at; nobody can tell. */
#include "tests/support/test.h"

#include <sys/mman.h>
#include <unistd.h>

#include "base/compiler.h"
#include "engine/engine.h"
#include "tests/support/runner_rig.h"
#include "tests/unit/engine/tiny.h"

#define N_TOKENS 30

static const struct tiny with_copy = {
    .arch = "llama", .format = "TQ2_0", .head = "F16", .n_words = 2000};

static int packed_model(void)
{
    const int in = tiny_write(&with_copy), out = memfd_create("packed", MFD_CLOEXEC);
    struct model *m = NULL;
    struct model_info info;

    assert_true(out >= 0);
    assert_int_equal(model_pack(in, out, NULL, NULL), MODEL_OK);
    (void)close(in);
    assert_int_equal(model_open_packed(&m, out, NULL), MODEL_OK);
    model_info(m, &info);
    assert_true(info.head_low_bytes > 0); /* what this is about */
    model_free(m);
    return out;
}

static struct rig_request request(unsigned i)
{
    struct rig_request q = rig_prompt(i + 1, 1, "on light ab", N_TOKENS);

    q.seed = 7 + i;
    q.generate.temperature = i < 2 ? 0 : 1;
    if (i % 2 == 1) {
        q.generate.has_repeat_penalty = true;
        q.generate.repeat_penalty = i == 1 ? 1.4f : 0.6f;
    }
    if (i == 2 || i == 3) {
        q.generate.has_top_k = true;
        q.generate.top_k = 10 + (int32_t)i * 10;
    }
    q.generate.n_logprobs = i == 5 ? 3 : 0;
    return q;
}

/* Goal: an answer is that of all logits, alone and in steps with others that want more or less.
 * Method: greedy, penalized, top-k, whole vocabulary and log-probabilities through the runner, each
 * alone and all together, and straight through the engine, which computes all logits. */
static void an_answer_does_not_depend_on_which_logits_are_computed(void **state)
{
    enum { REQUESTS = 6 };
    static struct rig_answer want[REQUESTS], got[REQUESTS], alone;
    const struct seam_load load = {
        .model = 1, .name = strview_of("tiny"), .kv_bytes_max = 64u << 20, .n_streams_max = 16};
    const int packed = packed_model();
    uint64_t all[REQUESTS];
    struct rig rig;
    (void)state;

    rig_open(&rig, RIG_SHIPPED, NULL);
    rig_load(&rig, &load, packed, NULL);
    for (unsigned i = 0; i < REQUESTS; i++) {
        struct rig_request q = request(i);
        rig_direct(packed, KV_F16, &q, &want[i]);
        rig_ask(&rig, &q, &alone);
        assert_int_equal(alone.n, N_TOKENS);
        rig_assert_same(&alone, &want[i]);
    }
    for (unsigned i = 0; i < REQUESTS; i++) {
        struct rig_request q = request(i);
        q.seq = all[i] = 100 + i;
        got[i] = (struct rig_answer){.seq = q.seq};
        rig_start(&rig, &q);
    }
    rig_plan(&rig, all, REQUESTS);
    rig_finish(&rig, got, REQUESTS);
    for (unsigned i = 0; i < REQUESTS; i++) {
        rig_assert_same(&got[i], &want[i]);
    }
    assert_int_equal(rig_close(&rig), 0);
    (void)close(packed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_does_not_depend_on_which_logits_are_computed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
