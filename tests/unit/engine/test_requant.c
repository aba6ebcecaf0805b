#include "tests/support/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/requant.h"
#include "tests/unit/engine/tiny.h"

static const struct tiny f32 = {.arch = "qwen3", .format = "F32", .head = "F32"};

static size_t index_of(const struct requant *q, const char *name)
{
    struct requant_tensor t;

    for (size_t i = 0; i < requant_count(q); i++) {
        requant_tensor(q, i, &t);
        if (strcmp(t.name, name) == 0) {
            return i;
        }
    }
    assert_true(false);
    return 0;
}

static struct requant *opened(int fd)
{
    struct requant *q = NULL;

    assert_int_equal(requant_open(&q, fd, NULL), MODEL_OK);
    return q;
}

static int written(struct requant *q)
{
    const int fd = memfd_create("requant", MFD_CLOEXEC);

    assert_int_equal(requant_write(q, fd, NULL, NULL, NULL), MODEL_OK);
    return fd;
}

/* Goal: what nobody chose is there again; a choice changes one tensor, and may be taken back. */
static void what_is_not_chosen_is_copied(void **state)
{
    const int fd = tiny_write(&f32);
    struct requant *q = opened(fd);
    const size_t i = index_of(q, "blk.0.attn_q.weight");
    struct requant_tensor t;
    uint64_t bytes = 0;
    size_t n = 0, n_again = 0, weights = 0;
    (void)state;

    for (size_t k = 0; k < requant_count(q); k++) {
        requant_tensor(q, k, &t);
        weights += t.bytes;
    }
    assert_int_equal(requant_choose(q, i, "Q8_0", NULL), MODEL_OK);
    requant_tensor(q, i, &t);
    assert_string_equal(t.chosen, "Q8_0");
    assert_string_equal(t.format, "F32");
    assert_true(requant_bytes(q, i, "Q8_0", &bytes) && bytes == t.chosen_bytes);
    assert_true(t.matrix && t.floats && t.error < 0 && t.chosen_bytes * 128 == t.bytes * 34);
    const int q8 = written(q);
    requant_tensor(q, i, &t);
    assert_true(t.error > 0 && t.error < 0.02);
    assert_int_equal(requant_choose(q, i, NULL, NULL), MODEL_OK);
    const int again = written(q);
    requant_free(q);

    uint8_t *a = tiny_slurp(fd, &n), *b = tiny_slurp(again, &n_again);
    assert_true(n > weights && n_again > weights);
    assert_memory_equal(a + n - weights, b + n_again - weights, weights);
    free(a);
    free(b);
    q = opened(q8);
    requant_tensor(q, i, &t);
    assert_string_equal(t.format, "Q8_0");
    assert_false(t.floats);
    requant_free(q);
    (void)close(fd);
    (void)close(q8);
    (void)close(again);
}

static void choices_that_cannot_be_are_refused(void **state)
{
    const int fd = tiny_write(&f32);
    struct requant *q = opened(fd);
    const size_t matrix = index_of(q, "blk.0.attn_q.weight");
    struct requant_tensor t;
    struct diag diag = {0};
    uint64_t bytes;
    (void)state;

    assert_int_equal(requant_choose(q, index_of(q, "output_norm.weight"), "Q8_0", NULL), -EINVAL);
    assert_int_equal(requant_choose(q, matrix, "Q4_K", NULL), -EINVAL); /* read, never encoded */
    assert_int_equal(requant_choose(q, matrix, "Q3_0", NULL), -EINVAL);
    assert_false(requant_bytes(q, matrix, "Q4_K", &bytes));
    assert_int_equal(requant_choose(q, matrix, "Q4_0", NULL), MODEL_OK);
    const int small = written(q);
    requant_free(q);

    q = opened(small);
    assert_int_equal(requant_choose(q, matrix, "Q8_0", &diag), MODEL_UNSUPPORTED);
    assert_non_null(strstr(diag.text, "blk.0.attn_q.weight is Q4_0 already"));
    requant_tensor(q, matrix, &t);
    assert_string_equal(t.chosen, "Q4_0");
    requant_free(q);
    requant_free(NULL);
    (void)close(fd);
    (void)close(small);
}

static void what_is_no_sound_file_is_refused(void **state)
{
    const int fd = memfd_create("broken", MFD_CLOEXEC);
    struct requant *q = NULL;
    struct diag diag = {0};
    (void)state;

    assert_int_equal(requant_open(&q, fd, &diag), MODEL_MALFORMED);
    assert_int_equal(write(fd, "GGUF\3\0\0\0", 8), 8);
    assert_int_equal(requant_open(&q, fd, &diag), MODEL_MALFORMED);
    assert_null(q);
    assert_true(requant_open(&q, -1, NULL) < 0);
    (void)close(fd);
}

/* Goal: a file that shrinks after it was opened is an error number, and no signal. */
static void a_file_that_shrinks_is_an_error(void **state)
{
    const int fd = tiny_write(&f32), out = memfd_create("out", MFD_CLOEXEC);
    struct requant *q = opened(fd);
    size_t n = 0;
    (void)state;

    free(tiny_slurp(fd, &n));
    assert_int_equal(ftruncate(fd, (off_t)(n - 4096)), 0);
    assert_int_equal(requant_write(q, out, NULL, NULL, NULL), -EIO);
    requant_free(q);
    (void)close(fd);
    (void)close(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_chosen_is_copied),
        cmocka_unit_test(choices_that_cannot_be_are_refused),
        cmocka_unit_test(what_is_no_sound_file_is_refused),
        cmocka_unit_test(a_file_that_shrinks_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
