#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/broker/backing.h"

#define MIB (UINT64_C(1) << 20)

/* A board of 4000 MiB, of which 3000 could be had. */
static const struct backing_room board = {
    .total = 4000 * MIB, .available = 3000 * MIB, .copies_max = 2048 * MIB, .kv = 1024 * MIB};

static void a_quarter_of_all_memory_stays_free(void **state)
{
    struct backing_room room = board;
    (void)state;

    assert_true(backing_fits(976 * MIB, &room)); /* and 1024 of KV and 1000 to keep */
    assert_false(backing_fits(976 * MIB + 1, &room));
    room.kv = 0;
    assert_true(backing_fits(2000 * MIB, &room));
    room.kv = 3000 * MIB;
    assert_false(backing_fits(1, &room));
}

static void all_copies_stay_within_their_bound(void **state)
{
    struct backing_room room = board;
    (void)state;

    room.copies = 2000 * MIB;
    assert_true(backing_fits(48 * MIB, &room));
    assert_false(backing_fits(48 * MIB + 1, &room));
    room.copies = 0;
    room.copies_max = 0; /* an explicit 0 means zero */
    assert_false(backing_fits(1, &room));
}

static void absurd_numbers_do_not_wrap(void **state)
{
    struct backing_room room = board;
    (void)state;

    assert_false(backing_fits(UINT64_MAX, &room));
    room.copies_max = UINT64_MAX;
    assert_false(backing_fits(UINT64_MAX, &room));
    room.kv = UINT64_MAX;
    assert_false(backing_fits(MIB, &room));
    room = board;
    room.available = 0; /* a kernel that does not say */
    assert_false(backing_fits(1, &room));
}

/* ---- a kernel's files of one's own ---- */

struct tree {
    char root[64];
};

static void put(const struct tree *t, const char *path, const char *text)
{
    char name[256];

    (void)snprintf(name, sizeof(name), "%s%s", t->root, path);
    for (char *at = name + strlen(t->root) + 1; (at = strchr(at, '/')); at++) {
        *at = '\0';
        (void)mkdir(name, 0700);
        *at = '/';
    }
    FILE *f = fopen(name, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static int plant(void **state)
{
    static struct tree t;

    (void)snprintf(t.root, sizeof(t.root), "/tmp/onebit-backing-XXXXXX");
    *state = &t;
    return mkdtemp(t.root) ? 0 : -1;
}

static int fell(void **state)
{
    const struct tree *t = *state;
    char command[96];

    (void)snprintf(command, sizeof(command), "rm -r %s", t->root);
    return system(command);
}

static void memory_is_what_the_kernel_says(void **state)
{
    const struct tree *t = *state;
    struct backing_room room = {.kv = 7};

    backing_memory(&room, t->root); /* no files at all */
    assert_int_equal(room.total, 0);
    assert_int_equal(room.available, 0);
    put(t, "/proc/meminfo", "MemTotal:        4096 kB\nMemFree: 1 kB\nMemAvailable:   2048 kB\n");
    backing_memory(&room, t->root);
    assert_int_equal(room.total, 4 * MIB);
    assert_int_equal(room.available, 2 * MIB);
    assert_int_equal(room.kv, 7);
}

static void the_tightest_cgroup_counts(void **state)
{
    const struct tree *t = *state;
    struct backing_room room = {0};

    put(t, "/proc/meminfo", "MemTotal: 4096 kB\nMemAvailable: 2048 kB\n");
    put(t, "/proc/self/cgroup", "1:name=systemd:/x\n0::/a.slice/b.service\n");
    put(t, "/sys/fs/cgroup/a.slice/b.service/memory.max", "max\n");
    backing_memory(&room, t->root);
    assert_int_equal(room.total, 4 * MIB);
    put(t, "/sys/fs/cgroup/a.slice/memory.max", "3145728\n");
    backing_memory(&room, t->root);
    assert_int_equal(room.total, 3 * MIB);
    assert_int_equal(room.available, 2 * MIB);
    put(t, "/sys/fs/cgroup/a.slice/b.service/memory.max", "1048576\n");
    backing_memory(&room, t->root);
    assert_int_equal(room.total, MIB);
    assert_int_equal(room.available, MIB);
    put(t, "/proc/self/cgroup", "0::/\n");
    put(t, "/sys/fs/cgroup/memory.max", "524288\n"); /* a container sees its own as the root */
    backing_memory(&room, t->root);
    assert_int_equal(room.total, MIB / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_quarter_of_all_memory_stays_free),
        cmocka_unit_test(all_copies_stay_within_their_bound),
        cmocka_unit_test(absurd_numbers_do_not_wrap),
        cmocka_unit_test_setup_teardown(memory_is_what_the_kernel_says, plant, fell),
        cmocka_unit_test_setup_teardown(the_tightest_cgroup_counts, plant, fell),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
