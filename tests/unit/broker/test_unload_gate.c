/* How often a model is unloaded for want of memory, whatever memory does meanwhile. */
#include "tests/support/test.h"

#include "base/clock.h"
#include "base/compiler.h"
#include "daemon/broker/unload_gate.h"

#define CALM_NS (30 * NS_PER_S)
#define LOOK_NS (250 * NS_PER_MS)

/* A machine with a hog, and always an idle model left to unload. */
struct rig {
    struct pressure p;
    uint64_t now_ns, acted_ns, unloaded_ns, calm_ns;
    unsigned unloads;
};

static void look(struct rig *g, const struct memory_look *l)
{
    g->now_ns += LOOK_NS;
    (void)pressure_look(&g->p, l, g->now_ns, g->calm_ns);
    if (g->p.level >= PRESSURE_SHED && g->now_ns - g->acted_ns >= NS_PER_S &&
        unload_gate_open(&g->p, g->unloaded_ns, g->now_ns)) {
        g->acted_ns = g->unloaded_ns = g->now_ns;
        g->unloads++;
    }
}

static void look_for(struct rig *g, const struct memory_look *l, uint64_t ns)
{
    for (const uint64_t end_ns = g->now_ns + ns; g->now_ns < end_ns;) {
        look(g, l);
    }
}

/* Goal: memory that is taken and freed again all the time costs one model a minute at most. Method:
 * an hour of it, five seconds each, with every level's share of memory and with stalls; levels that
 * outlast the pauses, and levels that are left in each. */
static void a_flapping_hog_costs_one_model_a_minute(void **state)
{
    static const struct memory_look hogs[] = {
        {.has_available = true, .available = 0.09},
        {.has_available = true, .available = 0.05},
        {.has_available = true, .available = 0.01},
        {.has_psi = true, .has_available = true, .available = 0.3, .some_ms = 600, .full_ms = 300},
        {.has_psi = true, .has_available = true, .available = 0.3, .oom_kills = 1},
    };
    static const struct memory_look plenty = {
        .has_psi = true, .has_available = true, .available = 0.8};
    (void)state;

    for (size_t i = 0; i < 2 * ARRAY_SIZE(hogs); i++) {
        struct rig g = {.now_ns = NS_PER_S, .calm_ns = i % 2 ? 400 * NS_PER_MS : CALM_NS};
        for (unsigned minute = 1; minute <= 60; minute++) {
            for (unsigned n = 0; n < 6; n++) {
                look_for(&g, &hogs[i / 2], 5 * NS_PER_S);
                look_for(&g, &plenty, 5 * NS_PER_S);
            }
            if (g.unloads > minute) {
                fail_msg("hog %zu: %u in %u minutes", i / 2, g.unloads, minute);
            }
        }
        assert_true(g.unloads >= 50); /* and it is not that nothing is done */
    }
}

static void whom_memory_does_not_come_back_to_has_the_next_one_soon(void **state)
{
    static const struct memory_look shed = {.has_available = true, .available = 0.09};
    static const struct memory_look survive = {.has_available = true, .available = 0.01};
    struct rig g = {.now_ns = NS_PER_S, .calm_ns = CALM_NS};
    (void)state;

    look_for(&g, &shed, 9 * NS_PER_S);
    assert_int_equal(g.unloads, 1);
    look_for(&g, &shed, 60 * NS_PER_S);
    assert_in_range(g.unloads, 6, 7);
    g.unloads = 0;
    look_for(&g, &survive, 5 * NS_PER_S);
    assert_in_range(g.unloads, 0, 1);
    look_for(&g, &survive, 10 * NS_PER_S);
    assert_in_range(g.unloads, 8, 11);
}

/* Goal: no rhythm of a hog's gets more than its due. Method: on and off for random times below the
 * six seconds that next to nothing has to last for. */
static void no_rhythm_gets_more(void **state)
{
    uint64_t x = 2463534242u;
    struct rig g = {.now_ns = NS_PER_S, .calm_ns = 3 * NS_PER_S};
    (void)state;

    while (g.now_ns < 4 * 3600 * NS_PER_S) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        const struct memory_look hog = {.has_available = true, .available = (double)(x & 15) / 100};
        const struct memory_look plenty = {.has_available = true, .available = 0.5};
        look_for(&g, &hog, ((x >> 8 & 15) + 1) * LOOK_NS);
        look_for(&g, &plenty, ((x >> 16 & 15) + 1) * LOOK_NS);
        assert_true(g.unloads <= g.now_ns / (60 * NS_PER_S) + 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flapping_hog_costs_one_model_a_minute),
        cmocka_unit_test(whom_memory_does_not_come_back_to_has_the_next_one_soon),
        cmocka_unit_test(no_rhythm_gets_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
