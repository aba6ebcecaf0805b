/* The model and the pools that tests of KV blocks share. */
#ifndef TESTS_UNIT_ENGINE_KV_POOLS_H
#define TESTS_UNIT_ENGINE_KV_POOLS_H

#include "tests/support/test.h"

#include "engine/kv.h"
#include "tests/unit/engine/tiny.h"

static const struct tiny q8 = {.arch = "qwen3", .format = "Q8_0", .head = "Q8_0"};

static struct model *model; /* of a whole test program */

static int open_model(void **state)
{
    (void)state;
    model = tiny_open(&q8);
    return 0;
}

static int close_model(void **state)
{
    (void)state;
    model_free(model);
    return 0;
}

static struct kv_pool *pool_of(size_t n_blocks)
{
    struct kv_pool *p = NULL;

    assert_int_equal(kv_pool_new(&p, model, KV_F16, n_blocks), 0);
    return p;
}

#endif
