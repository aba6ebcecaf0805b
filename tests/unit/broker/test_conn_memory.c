/* conn_memory: sums that agree, and who has to go. No loop, no sockets: structs alone. */
#include "tests/support/test.h"

#include "daemon/broker/broker.h"
#include "daemon/broker/conn.h"
#include "daemon/broker/identity.h"
#include "daemon/broker/share.h"

enum { N_IDS = 3, N_CONNS = 6 };

static struct broker broker;
static struct identity ids[N_IDS];
static struct conn conns[N_CONNS]; /* two of each identity */

static int set_up(void **state)
{
    (void)state;
    broker = (struct broker){.config = {.output_total_bytes = 1000, .input_total_bytes = 100}};
    list_init(&broker.conns);
    list_init(&broker.identities.all);
    for (size_t i = 0; i < N_IDS; i++) {
        ids[i] = (struct identity){.account = {.weight = 1}};
        list_init(&ids[i].link);
        list_push(&broker.identities.all, &ids[i].link);
    }
    for (size_t i = 0; i < N_CONNS; i++) {
        conns[i] = (struct conn){.broker = &broker, .identity = &ids[i / 2]};
        list_init(&conns[i].link);
        list_push(&broker.conns, &conns[i].link);
    }
    return 0;
}

static void the_three_sums_agree(void **state)
{
    uint64_t sum = 0, own[N_IDS] = {0}, seed = 1;
    (void)state;

    for (unsigned i = 0; i < 10000; i++) {
        seed = seed * UINT64_C(6364136223846793005) + 1;
        conn_charge(&conns[seed >> 33 & 3], MEMORY_OUTPUT, seed >> 40 & 0xffff);
    }
    for (size_t i = 0; i < N_CONNS; i++) {
        sum += conns[i].held[MEMORY_OUTPUT];
        own[i / 2] += conns[i].held[MEMORY_OUTPUT];
    }
    assert_int_equal(broker.held[MEMORY_OUTPUT], sum);
    assert_int_equal(broker.held[MEMORY_INPUT], 0);
    for (size_t i = 0; i < N_IDS; i++) {
        assert_int_equal(ids[i].output_bytes, own[i]);
    }
}

static void up_to_the_bound_nobody_goes(void **state)
{
    (void)state;
    conn_charge(&conns[0], MEMORY_OUTPUT, 1000);
    assert_null(conn_to_shed(&broker, MEMORY_OUTPUT));
    conn_charge(&conns[0], MEMORY_OUTPUT, 1001);
    assert_ptr_equal(conn_to_shed(&broker, MEMORY_OUTPUT), &conns[0]);
    assert_null(conn_to_shed(&broker, MEMORY_INPUT)); /* a bound of its own */
}

/* Goal: many small connections do not hide who takes most, and one large one of a modest identity
 * is not the victim. */
static void the_identity_most_over_its_share_loses_its_largest(void **state)
{
    (void)state;
    conn_charge(&conns[0], MEMORY_OUTPUT, 500); /* the largest of all, but 500 in sum */
    conn_charge(&conns[2], MEMORY_OUTPUT, 300);
    conn_charge(&conns[3], MEMORY_OUTPUT, 400); /* 700 in sum */
    conn_charge(&conns[4], MEMORY_OUTPUT, 100);
    assert_ptr_equal(conn_to_shed(&broker, MEMORY_OUTPUT), &conns[3]);
    conn_charge(&conns[3], MEMORY_OUTPUT, 0);
    assert_null(conn_to_shed(&broker, MEMORY_OUTPUT)); /* 900: the rest fits */
    ids[1].account.weight = 4;
    conn_charge(&conns[3], MEMORY_OUTPUT, 400); /* 700 / 4 against 500 */
    assert_ptr_equal(conn_to_shed(&broker, MEMORY_OUTPUT), &conns[0]);
}

static void one_without_an_identity_can_go_too(void **state)
{
    (void)state;
    conns[5].identity = NULL;
    conn_charge(&conns[5], MEMORY_INPUT, 101);
    assert_ptr_equal(conn_to_shed(&broker, MEMORY_INPUT), &conns[5]);
}

/* Goal: what is closed for want of memory follows the same idea, over both kinds, and leaves alone
 * what has next to nothing, and the one that is to be kept. */
static void both_kinds_count_and_one_may_be_kept(void **state)
{
    const unsigned both = SHARE_OUTPUT | SHARE_INPUT;
    (void)state;

    conn_charge(&conns[0], MEMORY_OUTPUT, 500);
    conn_charge(&conns[2], MEMORY_OUTPUT, 300);
    conn_charge(&conns[3], MEMORY_INPUT, 310); /* 610 in sum */
    assert_ptr_equal(conn_most_over(&broker, both, 100, NULL), &conns[3]);
    assert_ptr_equal(conn_most_over(&broker, both, 100, &conns[3]), &conns[2]);
    assert_ptr_equal(conn_most_over(&broker, both, 400, NULL), &conns[0]);
    assert_null(conn_most_over(&broker, both, 501, NULL));
    assert_ptr_equal(conn_most_over(&broker, SHARE_OUTPUT, 100, NULL), &conns[0]);
}

static void a_share_is_bytes_by_weight(void **state)
{
    (void)state;
    ids[0] = (struct identity){.account = {.weight = 4},
                               .output_bytes = 1000,
                               .input_bytes = 200,
                               .queue_bytes = 30,
                               .kv_bytes = 4};
    assert_true(share_taken(&ids[0], SHARE_OUTPUT) == 250);
    assert_true(share_taken(&ids[0], SHARE_INPUT | SHARE_QUEUE) == 57.5);
    assert_true(share_taken(&ids[0], SHARE_OUTPUT | SHARE_INPUT | SHARE_QUEUE | SHARE_KV) == 308.5);
    assert_true(share_taken(NULL, SHARE_OUTPUT) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(the_three_sums_agree, set_up),
        cmocka_unit_test_setup(up_to_the_bound_nobody_goes, set_up),
        cmocka_unit_test_setup(the_identity_most_over_its_share_loses_its_largest, set_up),
        cmocka_unit_test_setup(one_without_an_identity_can_go_too, set_up),
        cmocka_unit_test_setup(both_kinds_count_and_one_may_be_kept, set_up),
        cmocka_unit_test_setup(a_share_is_bytes_by_weight, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
