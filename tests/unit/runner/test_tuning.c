/* The measurement of threads over the seam: made when there is nothing else to do, kept by the
 * broker, taken up again, and of no consequence for any answer. */
#include "tests/support/test.h"

#include <string.h>

#include "base/compiler.h"
#include "engine/engine.h"
#include "tests/support/runner_model.h"
#include "tests/support/runner_rig.h"
#include "tests/unit/runner/shared_model.h"

static struct seam_load load_of(uint32_t number, const void *record, size_t n)
{
    const struct seam_load load = {.model = number,
                                   .kv_bytes_max = 64u << 20,
                                   .n_streams_max = 16,
                                   .tune = true,
                                   .tuning = {.data = record, .n = n}};
    return load;
}

struct record {
    uint8_t bytes[SEAM_TUNING_MAX];
    size_t n;
    struct seam_tuned said;
};

static struct record tuned(struct rig *rig, uint32_t model)
{
    struct seam_message m;
    struct record r = {0};

    do {
        assert_true(rig_next(rig, &m));
    } while (m.type != SEAM_TUNED || m.tuned.model != model);
    assert_in_range(m.tuned.n_generate, 1, 2);
    assert_in_range(m.tuned.n_prompt, 1, 2);
    r.said = m.tuned;
    r.n = m.tuned.record.n;
    memcpy(r.bytes, m.tuned.record.data ? m.tuned.record.data : "", r.n);
    return r;
}

/* Goal: what is measured at the first load holds for the next ones, and only where it is sound.
 * Method: a load without a record, one with it, and ones with a bit turned, cut off, or garbage:
 * each of these is measured anew. */
static void a_record_is_taken_up_and_a_bad_one_measured_again(void **state)
{
    struct seam_load load = load_of(1, NULL, 0);
    struct record first, again;
    struct rig rig;
    (void)state;

    rig_open(&rig, RIG_SHIPPED, NULL);
    rig_load(&rig, &load, packed, NULL);
    first = tuned(&rig, 1);
    assert_int_equal(first.n, TUNING_BYTES);
    assert_in_range(first.said.n_streams, 0, 16);

    load = load_of(2, first.bytes, first.n);
    rig_load(&rig, &load, packed, NULL);
    again = tuned(&rig, 2); /* at once; one beside others' work is measured again after that */
    assert_int_equal(again.n, 0);
    assert_int_equal(again.said.n_generate, first.said.n_generate);
    assert_int_equal(again.said.n_prompt, first.said.n_prompt);
    assert_int_equal(again.said.n_streams, first.said.n_streams);

    first.bytes[9] ^= 3;
    load = load_of(3, first.bytes, first.n);
    rig_load(&rig, &load, packed, NULL);
    assert_int_equal(tuned(&rig, 3).n, TUNING_BYTES);
    first.bytes[9] ^= 3;
    load = load_of(4, first.bytes, first.n - 1);
    rig_load(&rig, &load, packed, NULL);
    assert_int_equal(tuned(&rig, 4).n, TUNING_BYTES);
    memset(first.bytes, 0xff, sizeof(first.bytes));
    load = load_of(5, first.bytes, sizeof(first.bytes));
    rig_load(&rig, &load, packed, NULL);
    assert_int_equal(tuned(&rig, 5).n, TUNING_BYTES);
    assert_int_equal(rig_close(&rig), 0);
}

/* Goal: a request that comes while measuring has its answer, the same as ever. Method: requests
 * follow each load at once, and another comes after the measurement. */
static void requests_go_before_the_measurement(void **state)
{
    struct rig rig;
    (void)state;

    rig_open(&rig, RIG_SHIPPED, NULL);
    for (uint32_t number = 1; number <= 3; number++) {
        const struct seam_load load = load_of(number, NULL, 0);
        const struct rig_request before = rig_prompt(10 * number, number, "turn on the", 24);
        struct rig_request after = rig_prompt(10 * number + 1, number, "turn on the", 24);
        static struct rig_answer want, got;
        after.seed = before.seed;
        rig_direct(packed, KV_F16, &before, &want);
        rig_load(&rig, &load, packed, NULL);
        rig_ask(&rig, &before, &got);
        rig_assert_same(&got, &want);
        (void)tuned(&rig, number);
        rig_ask(&rig, &after, &got);
        rig_assert_same(&got, &want);
    }
    assert_int_equal(rig_close(&rig), 0);
}

/* Goal: a model may go in the midst of its measurement. */
static void a_model_may_be_dropped_while_it_is_measured(void **state)
{
    const struct seam_load first = load_of(1, NULL, 0), second = load_of(2, NULL, 0);
    struct rig rig;
    (void)state;

    rig_open(&rig, RIG_SHIPPED, NULL);
    rig_load(&rig, &first, packed, NULL);
    rig_send(&rig, &(struct seam_message){.type = SEAM_DROP, .drop = 1}, NULL, 0);
    rig_load(&rig, &second, packed, NULL);
    assert_int_equal(tuned(&rig, 2).n, TUNING_BYTES);
    assert_int_equal(rig_close(&rig), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_is_taken_up_and_a_bad_one_measured_again),
        cmocka_unit_test(requests_go_before_the_measurement),
        cmocka_unit_test(a_model_may_be_dropped_while_it_is_measured),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
