#include "tests/support/test.h"

#include <math.h>
#include <string.h>

#include "engine/kernels/kernels.h"

static float value_of_f16(unsigned h) /* the format's definition, by ldexp */
{
    const int exponent = (int)(h >> 10 & 31);
    const int mantissa = (int)(h & 1023);
    const float sign = h & 0x8000 ? -1.0f : 1.0f;

    if (exponent == 31) {
        return mantissa ? NAN : sign * INFINITY;
    }
    return sign * (exponent ? ldexpf((float)(1024 + mantissa), exponent - 25)
                            : ldexpf((float)mantissa, -24));
}

static void every_f16_widens_to_its_value_and_comes_back(void **state)
{
    for (unsigned h = 0; h <= 0xffff; h++) {
        const float want = value_of_f16(h);
        const float got = f16_to_f32((uint16_t)h);
        if (isnan(want)) {
            assert_true(isnan(got));
            assert_true(isnan(f16_to_f32(f16_from_f32(got))));
            continue;
        }
        assert_true(want == got && !signbit(want) == !signbit(got));
        assert_int_equal(f16_from_f32(got), h);
    }
}

static void every_bf16_is_the_upper_half_of_a_float(void **state)
{
    for (unsigned h = 0; h <= 0xffff; h++) {
        const float got = bf16_to_f32((uint16_t)h);
        uint32_t u;
        memcpy(&u, &got, sizeof(u));
        assert_int_equal(u, h << 16);
    }
}

/* Goal: rounding is to nearest, ties to even, everywhere. Method: between each two neighbours the
 * middle, and the floats just below and above it; infinity stands where 65536 would. */
static void f32_rounds_to_the_nearest_f16_and_ties_go_to_even(void **state)
{
    for (unsigned h = 0; h < 0x7c00; h++) {
        const float low = value_of_f16(h);
        const float high = h + 1 == 0x7c00 ? 65536.0f : value_of_f16(h + 1);
        const float middle = low + (high - low) / 2; /* exact */
        const unsigned even = h % 2 == 0 ? h : h + 1;

        assert_int_equal(f16_from_f32(middle), even);
        assert_int_equal(f16_from_f32(-middle), even | 0x8000);
        assert_int_equal(f16_from_f32(nextafterf(middle, 0)), h);
        assert_int_equal(f16_from_f32(nextafterf(middle, INFINITY)), h + 1);
    }
    assert_int_equal(f16_from_f32(INFINITY), 0x7c00);
    assert_int_equal(f16_from_f32(-3e38f), 0xfc00);
    assert_int_equal(f16_from_f32(1e-45f), 0);
    assert_int_equal(f16_from_f32(-0.0f), 0x8000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_f16_widens_to_its_value_and_comes_back),
        cmocka_unit_test(every_bf16_is_the_upper_half_of_a_float),
        cmocka_unit_test(f32_rounds_to_the_nearest_f16_and_ties_go_to_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
