/* heat: up at once, down after a time of being cooler by a margin, and what each level asks. */
#include "tests/support/test.h"

#include "base/clock.h"
#include "daemon/broker/heat.h"

#define HOT_MS 10000u
#define COOL_MS 30000u

static const struct heat_rules own = {.hot_ms = HOT_MS, .cool_ms = COOL_MS, .threads = 4};
static const struct heat_rules told = {
    .warm_c = 70, .hot_ms = HOT_MS, .cool_ms = COOL_MS, .threads = 4};

/* A zone so far from the kernel's limit of 85 degrees. */
static struct heat_look at(double c)
{
    return (struct heat_look){.has_temp = true,
                              .temp_mc = (int32_t)(c * 1000),
                              .has_room = true,
                              .room_mc = 85000 - (int32_t)(c * 1000)};
}

/* One line of a course: what is seen at a second, and what follows. */
struct moment {
    unsigned s;
    double c;
    uint32_t flags;
    enum heat_level level;
    uint32_t threads;
    bool changed;
};

static void follow(const struct heat_rules *rules, const struct moment *course, size_t n)
{
    struct heat h = {0};
    uint64_t changes = 0;

    for (size_t i = 0; i < n; i++) {
        struct heat_look look = at(course[i].c);
        look.has_flags = course[i].flags != 0;
        look.flags = course[i].flags;
        const bool changed = heat_step(&h, &look, rules, (1000 + course[i].s) * NS_PER_S);
        if (h.level != course[i].level || h.threads != course[i].threads ||
            changed != course[i].changed) {
            fail_msg("step %zu: level %d, threads %u, changed %d", i, (int)h.level, h.threads,
                     changed);
        }
        changes += changed;
    }
    assert_true(h.n[HEAT_COOL] + h.n[HEAT_WARM] + h.n[HEAT_HOT] <= changes + 1);
}

static void a_cool_machine_is_left_alone(void **state)
{
    static const struct moment course[] = {{0, 40, 0, HEAT_COOL, 0, false},
                                           {60, 79, 0, HEAT_COOL, 0, false},
                                           {90, 79.9, 0, HEAT_COOL, 0, false}};
    const struct heat_look nothing = {0};
    struct heat h = {0};
    (void)state;

    follow(&own, course, 3);
    assert_false(heat_step(&h, &nothing, &told, NS_PER_S)); /* no sensor at all */
    assert_int_equal(h.level, HEAT_COOL);
}

static void the_kernel_s_limit_is_kept_away_from(void **state)
{
    static const struct moment course[] = {
        {0, 80, 0, HEAT_WARM, 0, true},     /* at once */
        {20, 84, 0, HEAT_WARM, 0, false},   /* however long */
        {21, 85, 0, HEAT_WARM, 0, false},   /* the limit itself ... */
        {30, 85, 0, HEAT_WARM, 0, false},   /* ... */
        {31, 85, 0, HEAT_HOT, 2, true},     /* ... for ten seconds */
        {40, 85, 0, HEAT_HOT, 2, false},    /* */
        {41, 86, 0, HEAT_HOT, 1, true},     /* and ten more */
        {60, 90, 0, HEAT_HOT, 1, false},    /* one stays */
        {61, 83, 0, HEAT_HOT, 1, false},    /* too near to go */
        {62, 81.9, 0, HEAT_HOT, 1, false},  /* cooler by the margin: 30 s from here */
        {91, 81.9, 0, HEAT_HOT, 1, false},  /* */
        {92, 81.9, 0, HEAT_WARM, 0, true},  /* all threads again */
        {93, 76.9, 0, HEAT_WARM, 0, false}, /* */
        {110, 78, 0, HEAT_WARM, 0, false},  /* a break: from the start again */
        {111, 60, 0, HEAT_WARM, 0, false},  {140, 60, 0, HEAT_WARM, 0, false},
        {141, 60, 0, HEAT_COOL, 0, true},   {200, 60, 0, HEAT_COOL, 0, false}};
    (void)state;

    follow(&own, course, sizeof(course) / sizeof(course[0]));
}

static void a_peak_that_passes_rests_no_threads(void **state)
{
    static const struct moment course[] = {
        {0, 86, 0, HEAT_WARM, 0, true},   {9, 86, 0, HEAT_WARM, 0, false},
        {10, 84, 0, HEAT_WARM, 0, false}, {11, 86, 0, HEAT_WARM, 0, false},
        {20, 86, 0, HEAT_WARM, 0, false}, {21, 86, 0, HEAT_HOT, 2, true}};
    (void)state;

    follow(&own, course, sizeof(course) / sizeof(course[0]));
}

static void a_set_temperature_counts_where_the_kernel_has_no_limit(void **state)
{
    static const struct moment course[] = {
        {0, 69, 0, HEAT_COOL, 0, false},   {1, 70, 0, HEAT_WARM, 0, true},
        {2, 74.9, 0, HEAT_WARM, 0, false}, {12, 75, 0, HEAT_WARM, 0, false},
        {22, 75, 0, HEAT_HOT, 2, true},    {23, 71, 0, HEAT_HOT, 2, false},
        {53, 71, 0, HEAT_WARM, 0, true},   {54, 66, 0, HEAT_WARM, 0, false},
        {84, 66, 0, HEAT_COOL, 0, true}};
    (void)state;

    follow(&told, course, sizeof(course) / sizeof(course[0]));
}

/* A Raspberry Pi's firmware tells of the moment, and of what has been. Low voltage is no heat. */
static void the_firmware_s_flags_of_now_count(void **state)
{
    static const struct moment course[] = {{0, 50, 0xf0000, HEAT_COOL, 0, false},
                                           {1, 50, FIRMWARE_LOW_VOLTAGE, HEAT_COOL, 0, false},
                                           {2, 50, FIRMWARE_THROTTLED, HEAT_WARM, 0, true},
                                           {11, 50, 0x2, HEAT_WARM, 0, false},
                                           {12, 50, 0x8, HEAT_HOT, 2, true},
                                           {13, 50, 0xe0000, HEAT_HOT, 2, false},
                                           {43, 50, 0xe0000, HEAT_WARM, 0, true},
                                           {44, 50, 0, HEAT_WARM, 0, false},
                                           {74, 50, 0, HEAT_COOL, 0, true}};
    (void)state;

    follow(&own, course, sizeof(course) / sizeof(course[0]));
}

static void one_thread_or_an_unknown_number_cannot_be_halved(void **state)
{
    struct heat_rules rules = {.hot_ms = 1000, .cool_ms = 1000, .threads = 1};
    const struct heat_look look = at(90);
    (void)state;

    for (rules.threads = 0; rules.threads < 2; rules.threads++) {
        struct heat h = {0};
        for (uint64_t s = 1; s < 10; s++) {
            (void)heat_step(&h, &look, &rules, s * NS_PER_S);
        }
        assert_int_equal(h.level, HEAT_HOT);
        assert_int_equal(h.threads, 0);
        assert_int_equal(h.n[HEAT_HOT], 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cool_machine_is_left_alone),
        cmocka_unit_test(the_kernel_s_limit_is_kept_away_from),
        cmocka_unit_test(a_peak_that_passes_rests_no_threads),
        cmocka_unit_test(a_set_temperature_counts_where_the_kernel_has_no_limit),
        cmocka_unit_test(the_firmware_s_flags_of_now_count),
        cmocka_unit_test(one_thread_or_an_unknown_number_cannot_be_halved),
    };

    return cmocka_run_group_tests_name("heat", tests, NULL, NULL);
}
