/* Out of memory at every allocation in turn: packing and feeding say so, and leave what was there.
 */
#include "tests/support/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/frame.h"
#include "tests/unit/ipc/frames.h"

/* malloc() is the one allocation of buf; the linker puts this one in its place (--wrap=malloc).
 */
void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);

static unsigned until_failure; /* 0: never fail */

void *__wrap_malloc(size_t n)
{
    if (until_failure > 0 && --until_failure == 0) {
        return NULL;
    }
    return __real_malloc(n);
}

static void try_each(const struct frame_example *examples, size_t n_examples)
{
    for (size_t i = 0; i < n_examples; i++) {
        int r = -ENOMEM;
        unsigned failures = 0;

        while (r != 0) {
            struct buf out;

            buf_init(&out, 65536);
            until_failure = failures + 1;
            r = examples[i].put(&out);
            until_failure = 0;
            if (r != 0) {
                assert_int_equal(r, -ENOMEM);
                assert_int_equal(out.n, 0);
                failures++;
            }
            buf_deinit(&out);
        }
        assert_true(failures > 0);
    }
}

static void packing_without_memory_is_told_and_taken_back(void **state)
{
    (void)state;
    try_each(message_examples, n_message_examples);
    try_each(seam_examples, n_seam_examples);
}

static void feeding_without_memory_is_told_and_may_be_repeated(void **state)
{
    static const uint8_t wire[] = {3, 0, 0, 0, 'a', 'b', 'c'};
    struct frame_reader in;
    const uint8_t *body = NULL;
    size_t n = 0;
    (void)state;

    frame_reader_init(&in, 16);
    until_failure = 1;
    assert_int_equal(frame_feed(&in, wire, sizeof(wire)), -ENOMEM);
    until_failure = 0;
    assert_int_equal(frame_next(&in, &body, &n), FRAME_MORE);
    assert_int_equal(frame_feed(&in, wire, sizeof(wire)), 0);
    assert_int_equal(frame_next(&in, &body, &n), FRAME_OK);
    frame_reader_deinit(&in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packing_without_memory_is_told_and_taken_back),
        cmocka_unit_test(feeding_without_memory_is_told_and_may_be_repeated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
