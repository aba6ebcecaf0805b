#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/cores.h"

struct folder {
    char path[64];
    char made[32][128]; /* what is in it, deepest last */
    size_t n_made;
};

static void folder_up(struct folder *f)
{
    (void)snprintf(f->path, sizeof(f->path), "/tmp/cores-XXXXXX");
    f->n_made = 0;
    assert_non_null(mkdtemp(f->path));
}

static void make_dir(struct folder *f, const char *path)
{
    assert_int_equal(mkdir(path, 0700), 0);
    (void)snprintf(f->made[f->n_made++], sizeof(f->made[0]), "%s", path);
}

static void make_file(struct folder *f, const char *path, const char *text)
{
    FILE *out = fopen(path, "we");

    assert_non_null(out);
    assert_true(fputs(text, out) >= 0);
    assert_int_equal(fclose(out), 0);
    (void)snprintf(f->made[f->n_made++], sizeof(f->made[0]), "%s", path);
}

static void folder_down(struct folder *f)
{
    while (f->n_made > 0) {
        assert_int_equal(remove(f->made[--f->n_made]), 0);
    }
    assert_int_equal(rmdir(f->path), 0);
}

/* cpuN with what it says of its siblings; NULL: nothing. */
static void make_cpu(struct folder *f, unsigned cpu, const char *siblings)
{
    char path[128];

    (void)snprintf(path, sizeof(path), "%s/cpu%u", f->path, cpu);
    make_dir(f, path);
    (void)snprintf(path, sizeof(path), "%s/cpu%u/topology", f->path, cpu);
    make_dir(f, path);
    if (siblings) {
        (void)snprintf(path, sizeof(path), "%s/cpu%u/topology/thread_siblings_list", f->path, cpu);
        make_file(f, path, siblings);
    }
}

static cpu_set_t set_of(unsigned first, unsigned end)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    for (unsigned i = first; i < end; i++) {
        CPU_SET(i, &set);
    }
    return set;
}

/* Goal: two threads of a core are one core, wherever the mask cuts. Method: the two ways in which
 * systems number siblings, whole and in part. */
static void siblings_are_one_core(void **state)
{
    static const char *const apart[] = {"0,4\n", "1,5\n", "2,6\n", "3,7\n",
                                        "0,4\n", "1,5\n", "2,6\n", "3,7\n"};
    static const char *const neighbours[] = {"0-1\n", "0-1\n", "2-3\n", "2-3\n"};
    struct folder f;
    cpu_set_t set;
    (void)state;

    folder_up(&f);
    for (unsigned i = 0; i < 8; i++) {
        make_cpu(&f, i, apart[i]);
    }
    set = set_of(0, 8);
    assert_int_equal(cores_count(f.path, &set), 4);
    set = set_of(0, 4);
    assert_int_equal(cores_count(f.path, &set), 4);
    set = set_of(3, 6); /* 3, and the second threads of 0 and 1 */
    assert_int_equal(cores_count(f.path, &set), 3);
    folder_down(&f);

    folder_up(&f);
    for (unsigned i = 0; i < 4; i++) {
        make_cpu(&f, i, neighbours[i]);
    }
    set = set_of(0, 4);
    assert_int_equal(cores_count(f.path, &set), 2);
    set = set_of(1, 3);
    assert_int_equal(cores_count(f.path, &set), 2);
    set = set_of(1, 2); /* its first sibling is not ours to use */
    assert_int_equal(cores_count(f.path, &set), 1);
    folder_down(&f);
}

/* Goal: where the system says nothing, or nonsense, each CPU is a core, as before. */
static void what_says_nothing_is_a_core(void **state)
{
    struct folder f;
    cpu_set_t set = set_of(0, 6);
    (void)state;

    folder_up(&f);
    assert_int_equal(cores_count(f.path, &set), 6);
    make_cpu(&f, 0, NULL);
    make_cpu(&f, 1, "");
    make_cpu(&f, 2, "-1\n");
    make_cpu(&f, 3, "99999999999999999999\n");
    make_cpu(&f, 4, "x\n");
    assert_int_equal(cores_count(f.path, &set), 6);
    CPU_ZERO(&set);
    assert_int_equal(cores_count(f.path, &set), 0);
    folder_down(&f);
}

/* Goal: another kind of CPU is another machine; its clock of the moment is not. */
static void a_mark_is_of_the_kind_of_cpu(void **state)
{
    char path[3][128];
    struct folder f;
    (void)state;

    folder_up(&f);
    for (unsigned i = 0; i < 3; i++) {
        (void)snprintf(path[i], sizeof(path[i]), "%s/cpuinfo%u", f.path, i);
    }
    make_file(&f, path[0], "processor\t: 0\nmodel name\t: A 1\ncpu MHz\t: 3100.5\n");
    make_file(&f, path[1], "processor\t: 0\nmodel name\t: A 1\ncpu MHz\t: 800.1\n");
    make_file(&f, path[2], "processor\t: 0\nmodel name\t: A 2\ncpu MHz\t: 3100.5\n");
    assert_int_equal(cores_mark(path[0]), cores_mark(path[1]));
    assert_int_not_equal(cores_mark(path[0]), cores_mark(path[2]));
    assert_int_not_equal(cores_mark(path[0]), cores_mark("/nowhere"));
    folder_down(&f);
}

/* Goal: what others do on our CPUs is seen, and what happens elsewhere is not. */
static void busy_ticks_are_those_of_the_set(void **state)
{
    static const char stat[] = "cpu  1 1 1 1 1 1 1 1 0 0\ncpu0 10 20 30 1000 2000 40 50 60 7 8\n"
                               "cpu1 1 0 0 5 5 0 0 2 0 0\ncpu12 3 0 0 0 0 0 0 0 0 0\ncpu2 x\n"
                               "intr 5 5 5\n";
    char text[sizeof(stat)];
    cpu_set_t set = set_of(0, 1);
    uint64_t ticks = 0;
    (void)state;

    (void)memcpy(text, stat, sizeof(stat));
    assert_true(cores_busy(text, &set, &ticks));
    assert_int_equal(ticks, 210);
    set = set_of(0, 13);
    (void)memcpy(text, stat, sizeof(stat));
    assert_true(cores_busy(text, &set, &ticks));
    assert_int_equal(ticks, 216);
    set = set_of(2, 3);
    (void)memcpy(text, stat, sizeof(stat));
    assert_false(cores_busy(text, &set, &ticks));
    text[0] = '\0';
    assert_false(cores_busy(text, &set, &ticks));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(siblings_are_one_core),
        cmocka_unit_test(what_says_nothing_is_a_core),
        cmocka_unit_test(a_mark_is_of_the_kind_of_cpu),
        cmocka_unit_test(busy_ticks_are_those_of_the_set),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
