/* memory_counts: what can be had is the least of all limits, page cache is had, and what a window
 * says follows from its two ends. */
#include "tests/support/test.h"

#include <math.h>

#include "daemon/broker/memory_counts.h"
#include "tests/unit/broker/fake_root.h"

#define MIB (UINT64_C(1) << 20)
#define CG "/sys/fs/cgroup"

static void meminfo(const struct fake_root *t, unsigned total_mib, unsigned available_mib)
{
    char text[128];

    (void)snprintf(text, sizeof(text), "MemTotal: %u kB\nMemFree: 1 kB\nMemAvailable: %u kB\n",
                   total_mib * 1024, available_mib * 1024);
    fake_put(t, "/proc/meminfo", text);
}

static void bytes(const struct fake_root *t, const char *path, uint64_t mib)
{
    char text[32];

    (void)snprintf(text, sizeof(text), "%llu\n", (unsigned long long)(mib * MIB));
    fake_put(t, path, text);
}

static void look(const struct fake_root *t, struct memory_counts *ret)
{
    struct memory_files f;

    memory_files_open(&f, t->root);
    memory_counts_read(ret, &f, 0);
    memory_files_close(&f);
}

static void a_machine_that_shows_nothing_is_read_as_nothing(void **state)
{
    struct memory_counts c;

    look(*state, &c);
    assert_false(c.has_available || c.has_stall || c.has_refaults);
    assert_int_equal(c.runner_pid, 0);
}

static void without_limits_what_can_be_had_is_the_machine_s(void **state)
{
    struct memory_counts c;

    meminfo(*state, 4000, 3000);
    look(*state, &c);
    assert_true(c.has_available);
    assert_true(c.available_bytes == 3000 * MIB && c.total_bytes == 4000 * MIB);
    assert_true(fabs(c.available - 0.75) < 1e-9);
}

/* Goal: the formula, and that the tightest level above counts. Method: version 2, a service in a
 * slice that has the limit. */
static void a_limit_above_us_counts_and_page_cache_does_not(void **state)
{
    const struct fake_root *t = *state;
    struct memory_counts c;

    meminfo(t, 4000, 3000);
    fake_put(t, "/proc/self/cgroup", "0::/my.slice/onebitd.service\n");
    fake_put(t, CG "/my.slice/onebitd.service/memory.max", "max\n");
    bytes(t, CG "/my.slice/memory.max", 1000);
    bytes(t, CG "/my.slice/memory.current", 900);
    fake_put(t, CG "/my.slice/memory.stat", "anon 1\ninactive_file 0\nslab_reclaimable 0\n");
    look(t, &c);
    assert_true(c.available_bytes == 100 * MIB && c.total_bytes == 1000 * MIB);
    assert_true(fabs(c.available - 0.1) < 1e-9);

    /* 400 MiB of it were read and are not used: they can be had. */
    fake_put(t, CG "/my.slice/memory.stat",
             "active_file 209715200\nfile_mapped 104857600\ninactive_file 209715200\n"
             "slab_reclaimable 104857600\n");
    look(t, &c);
    assert_true(c.available_bytes == 500 * MIB);

    /* Weights that are mapped and in use are not. */
    fake_put(t, CG "/my.slice/memory.stat", "active_file 209715200\nfile_mapped 209715200\n");
    look(t, &c);
    assert_true(c.available_bytes == 100 * MIB);

    /* high is a limit, too: what is above it is taken back at once. */
    bytes(t, CG "/my.slice/onebitd.service/memory.high", 500);
    bytes(t, CG "/my.slice/onebitd.service/memory.current", 600);
    look(t, &c);
    assert_int_equal(c.available_bytes, 0);
    assert_true(c.available <= 0 && c.total_bytes == 500 * MIB);
}

static void the_part_that_is_free_is_the_least_of_all(void **state)
{
    const struct fake_root *t = *state;
    struct memory_counts c;

    meminfo(t, 8000, 400); /* 5 % */
    fake_put(t, "/proc/self/cgroup", "0::/s\n");
    bytes(t, CG "/s/memory.max", 500);
    bytes(t, CG "/s/memory.current", 250); /* 50 % */
    look(t, &c);
    assert_true(c.available_bytes == 250 * MIB);
    assert_true(fabs(c.available - 0.05) < 1e-9);
}

static void version_1_has_other_names(void **state)
{
    const struct fake_root *t = *state;
    struct memory_counts c;

    meminfo(t, 4000, 3000);
    fake_put(t, "/proc/self/cgroup", "4:memory:/a/b\n0::/\n");
    fake_put(t, CG "/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n");
    bytes(t, CG "/memory/a/memory.limit_in_bytes", 300);
    bytes(t, CG "/memory/a/memory.usage_in_bytes", 280);
    fake_put(t, CG "/memory/a/memory.stat",
             "inactive_file 1\ntotal_inactive_file 104857600\ntotal_active_file 0\n");
    fake_put(t, CG "/memory/a/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n");
    look(t, &c);
    assert_true(c.available_bytes == 120 * MIB && c.total_bytes == 300 * MIB);
    assert_int_equal(c.own_oom_kills, 2);
}

/* A container sees its own cgroup as the mount, but may be told its path outside. */
static void a_path_that_is_not_to_be_seen_is_the_mount_itself(void **state)
{
    const struct fake_root *t = *state;
    struct memory_counts c;

    meminfo(t, 4000, 3000);
    fake_put(t, "/proc/self/cgroup", "0::/docker/abc\n");
    bytes(t, CG "/memory.max", 200);
    bytes(t, CG "/memory.current", 50);
    look(t, &c);
    assert_true(c.available_bytes == 150 * MIB);
}

static void a_limit_above_all_memory_is_none(void **state)
{
    const struct fake_root *t = *state;
    struct memory_counts c;

    meminfo(t, 4000, 3000);
    fake_put(t, "/proc/self/cgroup", "0::/s\n");
    bytes(t, CG "/s/memory.max", 5000);
    bytes(t, CG "/s/memory.current", 4999);
    look(t, &c);
    assert_true(c.available_bytes == 3000 * MIB && c.total_bytes == 4000 * MIB);
}

/* Our cgroup's stalls come before the machine's. Absent, empty and absurd files say nothing. */
static void stalls_are_our_cgroup_s_else_the_machine_s(void **state)
{
    const struct fake_root *t = *state;
    struct memory_counts c;
    struct memory_files f;

    fake_put(t, "/proc/self/cgroup", "0::/s\n");
    fake_put(t, "/proc/pressure/memory", "some avg10=0 total=10\nfull avg10=0 total=1\n");
    look(t, &c);
    assert_true(c.has_stall && c.stall.some_us == 10);
    fake_put(t, CG "/s/memory.pressure", "some avg10=0 total=20\nfull avg10=0 total=2\n");
    look(t, &c);
    assert_true(c.has_stall && c.stall.some_us == 20);
    memory_files_open(&f, t->root);
    assert_true(f.own_pressure);
    fake_put(t, CG "/s/memory.pressure", "\n");
    memory_counts_read(&c, &f, 0);
    assert_false(c.has_stall);
    fake_remove(t, CG "/s/memory.pressure");
    memory_counts_read(&c, &f, 0);
    assert_false(c.has_stall);
    memory_files_close(&f);
}

static void the_runner_s_faults_are_read_of_its_own_file(void **state)
{
    const struct fake_root *t = *state;
    struct memory_counts c;
    struct memory_files f;

    fake_put(t, "/proc/77/stat", "77 (onebit-runner) S 1 1 1 0 -1 4194560 5 6 7 8 9\n");
    memory_files_open(&f, t->root);
    memory_counts_read(&c, &f, 77);
    assert_int_equal(c.runner_pid, 77);
    assert_int_equal(c.runner_faults, 7);
    memory_counts_read(&c, &f, 78); /* gone before we looked */
    assert_int_equal(c.runner_pid, 0);
    memory_files_close(&f);
}

/* ---- between two readings ---- */

static void figures_are_rates_of_the_window(void **state)
{
    const struct memory_counts before = {.now_ns = 1000000000,
                                         .has_stall = true,
                                         .stall = {.some_us = 100000, .full_us = 10000},
                                         .has_refaults = true,
                                         .refaults = 100,
                                         .runner_pid = 5,
                                         .runner_faults = 50,
                                         .steps = 10,
                                         .oom_kills = 1,
                                         .own_oom_kills = 1,
                                         .high_events = 3};
    struct memory_counts now = before;
    struct memory_look l;
    (void)state;

    memory_figures(&l, &before, &now, true); /* no time passed, nothing happened */
    assert_true(l.has_psi && l.some_ms <= 0 && l.major_faults <= 0 && !l.high_events);

    now.now_ns += 250000000;
    now.stall = (struct memory_stall){.some_us = 150000, .full_us = 20000};
    now.refaults += 1000;
    now.runner_faults += 80;
    now.steps += 4;
    now.oom_kills += 1; /* the same one, seen from two sides */
    now.own_oom_kills += 1;
    now.high_events += 1;
    memory_figures(&l, &before, &now, true);
    assert_true(fabs(l.some_ms - 200) < 1e-6 && fabs(l.full_ms - 40) < 1e-6);
    assert_true(fabs(l.refaults - 4000) < 1e-6);
    assert_true(fabs(l.major_faults - 20) < 1e-6);
    assert_int_equal(l.oom_kills, 1);
    assert_true(l.high_events);

    now.steps = before.steps; /* a step that does not end */
    memory_figures(&l, &before, &now, true);
    assert_true(fabs(l.major_faults - 80) < 1e-6);
    memory_figures(&l, &before, &now, false);
    assert_true(l.major_faults <= 0);

    now.refaults = before.refaults; /* pages are read for the first time: a model that is new */
    memory_figures(&l, &before, &now, true);
    assert_true(l.major_faults <= 0);
    now.has_refaults = false; /* where that is not known, all count */
    memory_figures(&l, &before, &now, true);
    assert_true(l.major_faults > 0);
    now.runner_pid = 6; /* another one */
    memory_figures(&l, &before, &now, true);
    assert_true(l.major_faults <= 0);
}

static void counters_that_go_back_say_nothing(void **state)
{
    const struct memory_counts before = {.now_ns = 9,
                                         .has_stall = true,
                                         .stall = {.some_us = 5, .full_us = 5},
                                         .has_refaults = true,
                                         .refaults = 5,
                                         .oom_kills = 5};
    const struct memory_counts now = {.now_ns = 8, .has_stall = true, .has_refaults = true};
    struct memory_look l;
    (void)state;

    memory_figures(&l, &before, &now, true);
    assert_true(l.some_ms <= 0 && l.full_ms <= 0 && l.refaults <= 0);
    assert_int_equal(l.oom_kills, 0);
}

static void a_slow_step_stands_out_against_its_like(void **state)
{
    struct memory_paces p = {0};
    (void)state;

    for (int i = 0; i < 20; i++) {
        memory_pace_step(&p, 1, 1, 10000);
        memory_pace_step(&p, 1, 4, 25000); /* of another size: no slower */
        memory_pace_step(&p, 2, 1, 90000);
    }
    assert_true(fabs(memory_pace_take(&p) - 1) < 1e-9);
    assert_true(memory_pace_take(&p) <= 0); /* nothing since */
    memory_pace_step(&p, 1, 1, 50000);
    memory_pace_step(&p, 1, 1, 10000);
    assert_true(memory_pace_take(&p) > 4.5);
    for (int i = 0; i < 600; i++) { /* for good: the usual now */
        memory_pace_step(&p, 1, 1, 30000);
    }
    (void)memory_pace_take(&p);
    memory_pace_step(&p, 1, 1, 30000);
    assert_true(memory_pace_take(&p) < 1.05);
}

static void a_model_s_first_steps_are_not_slow_and_kinds_are_bounded(void **state)
{
    struct memory_paces p = {0};
    (void)state;

    memory_pace_step(&p, 1, 1, 1000);
    memory_pace_step(&p, 1, 1, 900000);
    assert_true(memory_pace_take(&p) <= 0);
    for (uint32_t m = 0; m < 1000; m++) {
        memory_pace_step(&p, m, 1 + m % 3, 1000 + m);
    }
    memory_pace_step(&p, 1, 1, 0); /* a time that was not measured */
    assert_true(memory_pace_take(&p) <= 0);
}

#define ROOTED(f) cmocka_unit_test_setup_teardown(f, fake_plant, fake_fell)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROOTED(a_machine_that_shows_nothing_is_read_as_nothing),
        ROOTED(without_limits_what_can_be_had_is_the_machine_s),
        ROOTED(a_limit_above_us_counts_and_page_cache_does_not),
        ROOTED(the_part_that_is_free_is_the_least_of_all),
        ROOTED(version_1_has_other_names),
        ROOTED(a_path_that_is_not_to_be_seen_is_the_mount_itself),
        ROOTED(a_limit_above_all_memory_is_none),
        ROOTED(stalls_are_our_cgroup_s_else_the_machine_s),
        ROOTED(the_runner_s_faults_are_read_of_its_own_file),
        cmocka_unit_test(figures_are_rates_of_the_window),
        cmocka_unit_test(counters_that_go_back_say_nothing),
        cmocka_unit_test(a_slow_step_stands_out_against_its_like),
        cmocka_unit_test(a_model_s_first_steps_are_not_slow_and_kinds_are_bounded),
    };

    return cmocka_run_group_tests_name("memory_counts", tests, NULL, NULL);
}
