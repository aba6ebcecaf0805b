/* Fitting without memory. */
#include "tests/support/test.h"

#include <sys/mman.h>
#include <unistd.h>

#include "engine/requant.h"
#include "tests/support/nomem.h"
#include "tests/unit/engine/tiny.h"

#define ALLOCATIONS_MAX 2000u
#define N_IDS 4u

static const struct tiny one = {.arch = "qwen2", .format = "F16", .head = "F16", .n_layer = 1};

/* Goal: a failed allocation anywhere is -ENOMEM, leaks nothing, and leaves a requant that can be
 * fitted again. Method: let the first n succeed, for every n until all do. */
static void fit_all(enum requant_method method, const char *format)
{
    const struct engine_options options = {.cpu = cpu_level_best(), .n_threads = 1};
    int32_t ids[N_IDS];
    struct requant_text text = {
        .model = tiny_open(&one), .kv = KV_F16, .ids = ids, .n_ids = N_IDS, .ctx = N_IDS};
    const int fd = tiny_write(&one);
    struct requant *q = NULL;
    int r = -12;
    size_t n = 0;

    for (size_t i = 0; i < N_IDS; i++) {
        ids[i] = (int32_t)(3 + 11 * i);
    }
    assert_int_equal(engine_new(&text.engine, &options), 0);
    assert_int_equal(requant_open(&q, fd, NULL), MODEL_OK);
    for (size_t i = 0; i < requant_count(q); i++) {
        struct requant_tensor t;
        requant_tensor(q, i, &t);
        if (t.matrix) {
            assert_int_equal(requant_choose(q, i, format, NULL), MODEL_OK);
        }
    }
    for (; r == -12; n++) {
        assert_true(n < ALLOCATIONS_MAX);
        nomem_after(n);
        r = requant_fit(q, method, &text, NULL, NULL, NULL);
        (void)nomem_off();
    }
    assert_int_equal(r, MODEL_OK);
    assert_true(n > 20);
    const int out = memfd_create("fitted", MFD_CLOEXEC);
    assert_int_equal(requant_write(q, out, NULL, NULL, NULL), MODEL_OK);
    (void)close(out);
    requant_free(q);
    engine_free(text.engine);
    model_free((struct model *)(uintptr_t)text.model);
    (void)close(fd);
}

static void fitting_survives_every_failed_allocation(void **state)
{
    (void)state;

    fit_all(REQUANT_PROPAGATE, "Q8_0");
    fit_all(REQUANT_AWQ, "Q8_0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fitting_survives_every_failed_allocation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
