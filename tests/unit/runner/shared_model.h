/* The small model, packed once for all tests of a program. */
#ifndef TESTS_UNIT_RUNNER_SHARED_MODEL_H
#define TESTS_UNIT_RUNNER_SHARED_MODEL_H

#include <unistd.h>

#include "tests/support/runner_model.h"

static int packed = -1; /* the small model, shared by every test */

static int setup(void **state)
{
    (void)state;
    packed = runner_model_packed(0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return close(packed);
}

#endif
