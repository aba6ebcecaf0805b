#include "tests/support/test.h"

#include <string.h>

#include "engine/kv.h"
#include "tests/unit/engine/kv_pools.h"

static void blocks_are_taken_as_positions_need_them(void **state)
{
    struct kv_pool *p = pool_of(4);
    struct seq *seq = NULL;
    (void)state;

    assert_int_equal(seq_new(&seq, p, TINY_CTX), 0);
    assert_int_equal(kv_pool_free_blocks(p), 4); /* an empty sequence holds none */
    assert_true(seq_reserve(seq, 1));
    assert_int_equal(kv_pool_free_blocks(p), 3);
    assert_true(seq_reserve(seq, KV_BLOCK));
    assert_int_equal(kv_pool_free_blocks(p), 3);
    assert_true(seq_reserve(seq, KV_BLOCK + 1));
    assert_int_equal(kv_pool_free_blocks(p), 2);
    assert_int_equal(seq_len(seq), 0);
    seq_free(seq);
    assert_int_equal(kv_pool_free_blocks(p), 4);
    kv_pool_free(p);
}

static void too_few_blocks_take_nothing(void **state)
{
    struct kv_pool *p = pool_of(2);
    struct seq *a = NULL, *b = NULL;
    (void)state;

    assert_int_equal(seq_new(&a, p, TINY_CTX), 0);
    assert_int_equal(seq_new(&b, p, KV_BLOCK), 0);
    assert_false(seq_reserve(a, 3 * KV_BLOCK));
    assert_int_equal(kv_pool_free_blocks(p), 2);
    assert_false(seq_reserve(b, KV_BLOCK + 1)); /* beyond its own n_ctx */
    assert_true(seq_reserve(a, 2 * KV_BLOCK));
    assert_false(seq_reserve(b, 1));
    seq_rewind(a, 0);
    assert_true(seq_reserve(b, 1));
    seq_free(a);
    seq_free(b);
    kv_pool_free(p);
}

/* Goal: nobody reads what another sequence left. Method: fill every byte of a block, give it back,
 * take it again. */
static void blocks_are_zero_when_they_are_taken(void **state)
{
    struct kv_pool *p = pool_of(1);
    struct seq *seq = NULL;
    (void)state;

    for (unsigned round = 0; round < 3; round++) {
        assert_int_equal(seq_new(&seq, p, KV_BLOCK), 0);
        assert_true(seq_reserve(seq, KV_BLOCK));
        uint8_t *block = kv_keys(seq, 0, 0, 0);
        for (size_t i = 0; i < p->block_bytes; i++) {
            assert_int_equal(block[i], 0);
        }
        memset(block, 0xa5, p->block_bytes);
        seq_free(seq);
    }
    kv_pool_free(p);
}

/* Goal: layers, heads and blocks do not overlap. Method: mark every K and V run with a number of
 * its own and read all of them back. */
static void every_run_has_its_own_place(void **state)
{
    struct kv_pool *p = pool_of(3);
    struct seq *seq = NULL;
    (void)state;

    assert_int_equal(seq_new(&seq, p, 3 * KV_BLOCK), 0);
    assert_true(seq_reserve(seq, 3 * KV_BLOCK));
    for (unsigned pass = 0; pass < 2; pass++) {
        uint8_t mark = 1;
        for (size_t block = 0; block < 3; block++) {
            for (size_t layer = 0; layer < TINY_LAYERS; layer++) {
                for (size_t head = 0; head < 2; head++, mark += 2) {
                    uint8_t *k = kv_keys(seq, layer, head, block), *v = k + p->head_bytes;
                    if (pass == 0) {
                        memset(k, mark, p->head_bytes);
                        memset(v, mark + 1, p->head_bytes);
                    }
                    assert_int_equal(k[0], mark);
                    assert_int_equal(k[p->head_bytes - 1], mark);
                    assert_int_equal(v[0], mark + 1);
                    assert_int_equal(v[p->head_bytes - 1], mark + 1);
                }
            }
        }
    }
    seq_free(seq);
    kv_pool_free(p);
}

static void absurd_pools_and_sequences_are_refused(void **state)
{
    struct kv_pool *p = NULL;
    struct seq *seq = NULL;
    (void)state;

    assert_int_equal(kv_pool_new(&p, model, KV_F16, 0), -22);
    assert_int_equal(kv_pool_new(&p, model, KV_F16, SIZE_MAX), -22);
    assert_null(p);
    p = pool_of(1);
    assert_int_equal(seq_new(&seq, p, 0), -22);
    assert_int_equal(seq_new(&seq, p, TINY_CTX + 1), -22); /* more than the model was made for */
    assert_null(seq);
    kv_pool_free(p);
    kv_pool_free(NULL);
    seq_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_taken_as_positions_need_them),
        cmocka_unit_test(too_few_blocks_take_nothing),
        cmocka_unit_test(blocks_are_zero_when_they_are_taken),
        cmocka_unit_test(every_run_has_its_own_place),
        cmocka_unit_test(absurd_pools_and_sequences_are_refused),
    };

    return cmocka_run_group_tests(tests, open_model, close_model);
}
