#include "tests/support/test.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/compiler.h"
#include "engine/mathf.h"

static uint64_t rng = 88172645463325252u;

static uint64_t random_u64(void)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return rng;
}

static double uniform(double low, double high)
{
    return low + (high - low) * ((double)(random_u64() >> 11) * 0x1p-53);
}

/* Is `got` within one ulp of float of the true value, as double libm gives it? */
static bool close_enough(float got, double want)
{
    if (isnan(want)) {
        return isnan(got);
    }
    if (isinf((float)want) || isinf(got)) {
        return got == (float)want || fabs(want) > (double)FLT_MAX;
    }
    const float near = fabsf((float)want);
    const double ulp = near < FLT_MIN ? 0x1p-149 : (double)(nextafterf(near, INFINITY) - near);
    return fabs((double)got - want) <= ulp;
}

#define ASSERT_CLOSE(got, want, x)                                                                 \
    do {                                                                                           \
        const float got_ = (got);                                                                  \
        const double want_ = (want);                                                               \
        if (!close_enough(got_, want_)) {                                                          \
            fail_msg("at %a: got %a, want %a", (double)(x), (double)got_, want_);                  \
        }                                                                                          \
    } while (0)

static void exp_is_within_one_ulp_over_its_whole_range(void **state)
{
    for (int i = 0; i < 200000; i++) {
        const float x = (float)uniform(-106, 90);
        ASSERT_CLOSE(math_expf(x), exp((double)x), x);
        const float small = ldexpf((float)uniform(-1, 1), -(int)(random_u64() % 40));
        ASSERT_CLOSE(math_expf(small), exp((double)small), small);
    }
    for (float x = 88.7f; x < 88.8f; x = nextafterf(x, 100)) {
        ASSERT_CLOSE(math_expf(x), exp((double)x), x);
    }
}

static void exp_has_the_limits_its_header_names(void **state)
{
    assert_true(math_expf(0.0f) == 1.0f);
    assert_true(math_expf(88.73f) == INFINITY);
    assert_true(math_expf(INFINITY) == INFINITY);
    assert_true(math_expf(-104.5f) == 0.0f);
    assert_true(math_expf(-INFINITY) == 0.0f);
    assert_true(math_expf(-103.0f) > 0.0f); /* subnormals are kept */
    assert_true(isnan(math_expf(NAN)));
}

static void silu_is_within_one_ulp_and_has_its_limits(void **state)
{
    for (int i = 0; i < 200000; i++) {
        const float x = (float)uniform(-125, 125);
        ASSERT_CLOSE(math_siluf(x), (double)x / (1 + exp(-(double)x)), x);
        const float small = ldexpf((float)uniform(-1, 1), -(int)(random_u64() % 148));
        ASSERT_CLOSE(math_siluf(small), (double)small / (1 + exp(-(double)small)), small);
    }
    assert_true(math_siluf(INFINITY) == INFINITY);
    assert_true(math_siluf(-INFINITY) == 0.0f);
    assert_true(math_siluf(FLT_MAX) == FLT_MAX);
    assert_true(isnan(math_siluf(NAN)));
}

static void log_is_accurate_for_every_magnitude(void **state)
{
    for (int i = 0; i < 200000; i++) {
        double x;
        const uint64_t u = random_u64() % 0x7ff0000000000000; /* any positive finite double */
        memcpy(&x, &u, sizeof(x));
        const double want = log(x);
        assert_true(fabs(math_log(x) - want) <= fabs(want) * 0x1p-50);
        const double near_one = 1 + uniform(-0.5, 0.5) * pow(2, -(double)(random_u64() % 50));
        const double near_zero = log(near_one);
        assert_true(fabs(math_log(near_one) - near_zero) <= fabs(near_zero) * 0x1p-50);
    }
    assert_true(math_log(1.0) == 0.0);
    assert_true(math_log(0.0) == -INFINITY);
    assert_true(math_log(INFINITY) == INFINITY);
    assert_true(isnan(math_log(-1.0)));
    assert_true(isnan(math_log(NAN)));
}

/* Goal: rope frequencies and temperatures are right to the last bit of a float. */
static void pow_is_accurate_far_beyond_float(void **state)
{
    for (int i = 0; i < 200000; i++) {
        const double base = exp(uniform(-20, 20)), y = uniform(-30, 30);
        const double want = pow(base, y);
        assert_true(fabs(math_pow(base, y) - want) <= want * 0x1p-42);
    }
    for (int d = 16; d <= 256; d *= 2) {
        for (int j = 0; j < d / 2; j++) {
            const double want = pow(1e6, -2.0 * j / d);
            assert_true(fabs(math_pow(1e6, -2.0 * j / d) - want) <= want * 0x1p-48);
        }
    }
    assert_true(math_pow(1.0, 1e300) == 1.0);
    assert_true(math_pow(10.0, 400) == INFINITY);
    assert_true(math_pow(10.0, -400) == 0.0);
    assert_true(math_pow(2.0, -1074) == 0x1p-1074);
}

static void check_sincos(double x)
{
    float s, c;

    math_sincos(x, &s, &c);
    ASSERT_CLOSE(s, sin(x), x);
    ASSERT_CLOSE(c, cos(x), x);
}

/* Goal: one ulp up to 2^30, also where the result is tiny. Method: random arguments of every
 * magnitude, and the doubles next to multiples of pi/2, where reduction cancels almost
 * everything. */
static void sine_and_cosine_are_within_one_ulp_up_to_2_to_the_30(void **state)
{
    for (int i = 0; i < 200000; i++) {
        check_sincos(uniform(-0x1p30, 0x1p30));
        check_sincos(uniform(-100, 100));
        check_sincos(ldexp(uniform(-1, 1), 30 - (int)(random_u64() % 60)));
        const double n = (double)(random_u64() % 683565275); /* 2^30 / (pi/2) */
        const double near = (double)((long double)n * 1.57079632679489661923132169163975144L);
        check_sincos(near);
        check_sincos(nextafter(near, 0));
        check_sincos(nextafter(-near, 0));
    }
    check_sincos(0x1p30);
    check_sincos(-0x1p30);
    check_sincos(0);
}

static void angles_outside_the_contract_give_nan(void **state)
{
    static const double wrong[] = {0x1.0000001p30, -1e300, INFINITY, -INFINITY, NAN};

    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        float s = 0, c = 0;
        math_sincos(wrong[i], &s, &c);
        assert_true(isnan(s) && isnan(c));
    }
}

static uint64_t mix(uint64_t hash, const void *data, size_t n)
{
    const uint8_t *p = data;

    for (size_t i = 0; i < n; i++) {
        hash = (hash ^ p[i]) * 1099511628211u; /* FNV-1a */
    }
    return hash;
}

/* Goal: the same bits on every machine and compiler. Method: a hash over many results, written down
 * once; a contracted multiply-add or a libm call would change it. */
static void the_bits_are_those_written_down(void **state)
{
    uint64_t hash = 14695981039346656037u;

    rng = 1;
    for (int i = 0; i < 100000; i++) {
        const float x = (float)uniform(-104, 89);
        const float f[2] = {math_expf(x), math_siluf(x)};
        const double y = uniform(0, 1000), power = uniform(-4, 4);
        const double d[2] = {math_log(y), math_pow(y, power)};
        float sc[2];
        math_sincos(uniform(-0x1p30, 0x1p30), &sc[0], &sc[1]);
        hash = mix(hash, f, sizeof(f));
        hash = mix(hash, d, sizeof(d));
        hash = mix(hash, sc, sizeof(sc));
    }
    if (hash != UINT64_C(0x30775e1e20619d7e)) {
        fail_msg("the hash is now 0x%016" PRIx64, hash);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_is_within_one_ulp_over_its_whole_range),
        cmocka_unit_test(exp_has_the_limits_its_header_names),
        cmocka_unit_test(silu_is_within_one_ulp_and_has_its_limits),
        cmocka_unit_test(log_is_accurate_for_every_magnitude),
        cmocka_unit_test(pow_is_accurate_far_beyond_float),
        cmocka_unit_test(sine_and_cosine_are_within_one_ulp_up_to_2_to_the_30),
        cmocka_unit_test(angles_outside_the_contract_give_nan),
        cmocka_unit_test(the_bits_are_those_written_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
