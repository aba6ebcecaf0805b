#include "tests/support/test.h"

#include <string.h>

#include "engine/kernels/levels.h"

/* Goal: what --cpu prints is what it takes. Method: round trip of every level's name. */
static void every_name_parses_back_to_its_level(void **state)
{
    for (int i = 0; i < CPU_LEVELS; i++) {
        enum cpu_level got = CPU_LEVELS;
        assert_true(cpu_level_parse(cpu_level_name((enum cpu_level)i), &got));
        assert_int_equal(got, i);
    }
}

static void a_name_that_is_no_level_is_refused_and_nothing_is_written(void **state)
{
    static const char *const wrong[] = {"", "AVX2", "avx", "avx2 ", "unknown", "scalar\n"};

    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        enum cpu_level got = CPU_NEON;
        assert_false(cpu_level_parse(wrong[i], &got));
        assert_int_equal(got, CPU_NEON);
    }
}

/* Goal: no level is offered without those it stands on, and none of the other architecture's. */
static void the_levels_present_are_a_chain_of_one_architecture(void **state)
{
    const bool x86 = cpu_level_present(CPU_AVX2) || cpu_level_present(CPU_AVX512);
    const bool arm = cpu_level_present(CPU_NEON) || cpu_level_present(CPU_DOTPROD) ||
                     cpu_level_present(CPU_I8MM);

    assert_true(cpu_level_present(CPU_SCALAR));
    assert_false(x86 && arm);
    assert_true(!cpu_level_present(CPU_AVX512) || cpu_level_present(CPU_AVX2));
    assert_true(!cpu_level_present(CPU_DOTPROD) || cpu_level_present(CPU_NEON));
    assert_true(!cpu_level_present(CPU_I8MM) || cpu_level_present(CPU_DOTPROD));
    assert_false(cpu_level_present(CPU_LEVELS));
    assert_string_equal(cpu_level_name(CPU_LEVELS), "unknown");
}

static void the_best_level_is_present_and_none_above_it_is(void **state)
{
    const enum cpu_level best = cpu_level_best();

    assert_true(cpu_level_present(best));
    for (int i = (int)best + 1; i < CPU_LEVELS; i++) {
        assert_false(cpu_level_present((enum cpu_level)i));
    }
}

/* Goal: a caller may call any slot at any level. Method: look at the table as bytes of pointers. */
static void no_panels(const uint8_t *panels, size_t n_panels, const uint8_t *next, size_t n_cols,
                      const struct act_q8 *act, float *out, size_t out_stride)
{
}

static void no_wide(const uint8_t *panels, size_t n_panels, size_t n_cols, const struct act_q8 *act,
                    float *out, size_t out_stride, void *room)
{
}

static void the_table_has_no_empty_slot_at_any_level_present(void **state)
{
    for (int i = 0; i < CPU_LEVELS; i++) {
        if (!cpu_level_present((enum cpu_level)i)) {
            continue;
        }
        struct kernels k;
        memset(&k, 0, sizeof(k));
        kernels_init(&k, (enum cpu_level)i);
        assert_int_equal(k.quad_sums == NULL, k.b1_panels == NULL); /* a level may have neither */
        k.quad_sums = quad_sums_scalar;
        k.b1_panels = k.b1_panels ? k.b1_panels : no_panels;
        for (int j = 0; j < PANELS; j++) { /* nor these, and none but for some kinds */
            k.pair[j] = panel_b1_scalar;
            k.wide[j] = no_wide;
        }
        void *slots[sizeof(k) / sizeof(void *)];
        memcpy(slots, &k, sizeof(k));
        assert_null(slots[PANEL_NONE]); /* the panels come first */
        for (size_t j = PANEL_NONE + 1; j < ARRAY_SIZE(slots); j++) {
            assert_non_null(slots[j]);
        }
    }
}

/* Goal: no level loses its wide products, or pairs, unseen. Scalar has none: it is what they are
 * checked by. */
static void wide_products_are_where_they_pay(void **state)
{
    static const enum panel_kind with[] = {PANEL_B1, PANEL_T256, PANEL_TROW};

    for (int i = 0; i < CPU_LEVELS; i++) {
        if (!cpu_level_present((enum cpu_level)i)) {
            continue;
        }
        struct kernels k;
        size_t n = 0;
        kernels_init(&k, (enum cpu_level)i);
        for (size_t j = 0; j < PANELS; j++) {
            n += k.wide[j] != NULL;
        }
        assert_int_equal(n, i == CPU_SCALAR ? 0 : i == CPU_AVX512 ? 1 : ARRAY_SIZE(with));
        for (size_t j = 0; j < ARRAY_SIZE(with) && i != CPU_SCALAR; j++) {
            assert_true(k.wide[with[j]] || k.pair[with[j]]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_name_parses_back_to_its_level),
        cmocka_unit_test(a_name_that_is_no_level_is_refused_and_nothing_is_written),
        cmocka_unit_test(the_levels_present_are_a_chain_of_one_architecture),
        cmocka_unit_test(the_best_level_is_present_and_none_above_it_is),
        cmocka_unit_test(the_table_has_no_empty_slot_at_any_level_present),
        cmocka_unit_test(wide_products_are_where_they_pay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
