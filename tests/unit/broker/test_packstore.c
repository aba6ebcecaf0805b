#include "tests/support/test.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/broker/packstore.h"
#include "daemon/broker/tuning.h"

struct folders {
    char home[64], models[80], cache[80], source[96];
};

static void put(const char *path, const char *text)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600); /* in place, if it is there */

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    (void)close(fd);
}

static int make_folders(void **state)
{
    static struct folders f;

    (void)snprintf(f.home, sizeof(f.home), "/tmp/onebit-packstore-XXXXXX");
    if (!mkdtemp(f.home)) {
        return -1;
    }
    (void)snprintf(f.models, sizeof(f.models), "%s/models", f.home);
    (void)snprintf(f.cache, sizeof(f.cache), "%s/cache", f.home);
    (void)snprintf(f.source, sizeof(f.source), "%s/m.gguf", f.models);
    *state = &f;
    return mkdir(f.models, 0700) || mkdir(f.cache, 0700);
}

static int remove_folders(void **state)
{
    const struct folders *f = *state;
    char command[96];

    (void)snprintf(command, sizeof(command), "rm -r %s", f->home);
    return system(command);
}

static struct pack_probe probe_of(const struct folders *f)
{
    struct pack_probe p = {.models_dir = f->models,
                           .cache_dir = f->cache,
                           .name = "m",
                           .pack_id = "p",
                           .bytes_max = 1000};
    return p;
}

static void done_with(struct pack_probe *p)
{
    (void)(p->pack_fd >= 0 && close(p->pack_fd));
    (void)(p->source_fd >= 0 && close(p->source_fd));
    (void)(p->temp_fd >= 0 && close(p->temp_fd));
}

static unsigned count_files(const char *dir, const char *suffix)
{
    DIR *d = opendir(dir);
    unsigned n = 0;

    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        const size_t len = strlen(e->d_name);
        n += len > strlen(suffix) && strcmp(e->d_name + len - strlen(suffix), suffix) == 0;
    }
    (void)closedir(d);
    return n;
}

/* Goal: two daemons with one process number, as two containers have, pack side by side. Method:
 * this process is both. */
static void two_that_pack_the_same_have_a_file_each(void **state)
{
    const struct folders *f = *state;
    struct pack_probe a = probe_of(f), b = probe_of(f);

    put(f->source, "model");
    assert_int_equal(pack_probe(&a), PACK_OK);
    assert_true(a.temp_fd >= 0 && a.pack_fd < 0);
    assert_int_equal(write(a.temp_fd, "half", 4), 4);
    assert_int_equal(pack_probe(&b), PACK_OK);
    assert_true(b.temp_fd >= 0 && b.pack_fd < 0);
    assert_string_not_equal(a.temp, b.temp);
    assert_string_equal(a.final, b.final);
    struct stat st;
    assert_int_equal(fstat(a.temp_fd, &st), 0);
    assert_int_equal(st.st_size, 4); /* the second did not cut it */
    const int first = pack_commit(a.temp_fd, a.temp, a.final, "m");
    assert_true(first >= 0);
    const int second = pack_commit(b.temp_fd, b.temp, b.final, "m");
    assert_true(second >= 0);
    assert_int_equal(count_files(f->cache, ".pack"), 1);
    assert_int_equal(count_files(f->cache, ".tmp"), 0);
    char text[4];
    assert_int_equal(pread(first, text, 4, 0), 4); /* who has it open keeps it */
    assert_memory_equal(text, "half", 4);
    (void)close(first);
    (void)close(second);
    done_with(&a);
    done_with(&b);
}

static void the_sweep_takes_what_nobody_works_on(void **state)
{
    const struct folders *f = *state;
    struct pack_probe dead = probe_of(f), alive = probe_of(f);

    put(f->source, "model");
    assert_int_equal(pack_probe(&dead), PACK_OK);
    done_with(&dead);
    assert_int_equal(pack_probe(&alive), PACK_OK);
    assert_int_equal(count_files(f->cache, ".tmp"), 2);
    char half[PACK_PATH_MAX]; /* a writer of what was measured died */
    (void)snprintf(half, sizeof(half), "%s/.m.tune-1.new", f->cache);
    put(half, "half");
    pack_sweep(f->cache);
    assert_int_equal(count_files(f->cache, ".tmp"), 1);
    assert_int_equal(count_files(f->cache, ".new"), 0);
    assert_int_equal(access(alive.temp, F_OK), 0);
    done_with(&alive);
}

/* Goal: another content is another version, whatever a program does to hide it. Method: the same
 * length, then the time put back, in place. */
static void a_rewrite_that_puts_its_time_back_is_seen(void **state)
{
    const struct folders *f = *state;
    struct pack_probe before = probe_of(f), after = probe_of(f);
    struct stat st;

    put(f->source, "model");
    assert_int_equal(pack_probe(&before), PACK_OK);
    const int pack = pack_commit(before.temp_fd, before.temp, before.final, "m");
    assert_true(pack >= 0);
    (void)close(pack);
    done_with(&before);
    assert_int_equal(stat(f->source, &st), 0);
    (void)usleep(20000); /* longer than a tick of the kernel's clock for files */
    put(f->source, "other");
    const struct timespec times[2] = {st.st_atim, st.st_mtim};
    assert_int_equal(utimensat(AT_FDCWD, f->source, times, 0), 0);
    assert_int_equal(pack_probe(&after), PACK_OK);
    assert_int_equal(after.mark.mtime_ns, before.mark.mtime_ns);
    assert_int_equal(after.mark.ino, before.mark.ino);
    assert_int_equal(after.mark.size, before.mark.size);
    assert_true(after.pack_fd < 0); /* the packed file that is there is not for this one */
    assert_string_not_equal(after.final, before.final);
    done_with(&after);
}

static void an_unchanged_source_finds_its_packed_file(void **state)
{
    const struct folders *f = *state;
    struct pack_probe first = probe_of(f), again = probe_of(f), other = probe_of(f);

    put(f->source, "model");
    assert_int_equal(pack_probe(&first), PACK_OK);
    const int pack = pack_commit(first.temp_fd, first.temp, first.final, "m");
    assert_true(pack >= 0);
    (void)close(pack);
    assert_int_equal(pack_probe(&again), PACK_OK);
    assert_true(again.pack_fd >= 0 && again.temp_fd < 0 && again.source_fd < 0);
    other.pack_id = "q"; /* another version of the engine */
    assert_int_equal(pack_probe(&other), PACK_OK);
    assert_true(other.pack_fd < 0 && other.temp_fd >= 0);
    done_with(&first);
    done_with(&again);
    done_with(&other);
}

/* Goal: what was measured is found with its packed file, and goes with it. Method: none, one that
 * is kept, one too long to be ours, a pipe in its place, and a packed file of another version. */
static void a_tuning_lies_beside_its_packed_file(void **state)
{
    const struct folders *f = *state;
    struct pack_probe p = probe_of(f);
    char path[PACK_PATH_MAX], longer[SEAM_TUNING_MAX + 2];

    put(f->source, "model");
    assert_int_equal(pack_probe(&p), PACK_OK);
    const int pack = pack_commit(p.temp_fd, p.temp, p.final, "m");
    assert_true(pack >= 0);
    (void)close(pack);
    done_with(&p);
    assert_int_equal(pack_probe(&p), PACK_OK);
    assert_int_equal(p.n_tuning, 0);
    done_with(&p);

    assert_int_equal(tuning_write_kept(p.final, "measured", 8), 0);
    assert_int_equal(tuning_write_kept(p.final, "measured 2", 10), 0);
    assert_int_equal(count_files(f->cache, ".tune"), 1);
    assert_int_equal(count_files(f->cache, ".new"), 0);
    assert_int_equal(pack_probe(&p), PACK_OK);
    assert_int_equal(p.n_tuning, 10);
    assert_memory_equal(p.tuning, "measured 2", 10);
    done_with(&p);

    assert_int_equal(tuning_path(path, sizeof(path), p.final), 0);
    assert_int_equal(tuning_path(path, strlen(p.final), p.final), -36); /* -ENAMETOOLONG */
    assert_int_equal(tuning_path(longer, sizeof(longer), "m.gguf"), -22);
    memset(longer, 'x', sizeof(longer));
    longer[sizeof(longer) - 1] = '\0';
    assert_int_equal(unlink(path), 0);
    put(path, longer);
    assert_int_equal(pack_probe(&p), PACK_OK);
    assert_int_equal(p.n_tuning, 0);
    done_with(&p);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(pack_probe(&p), PACK_OK);
    assert_int_equal(p.n_tuning, 0);
    done_with(&p);
    assert_int_equal(unlink(path), 0);

    assert_int_equal(tuning_write_kept(p.final, "measured", 8), 0);
    p = probe_of(f);
    p.pack_id = "q";
    assert_int_equal(pack_probe(&p), PACK_OK);
    assert_int_equal(p.n_tuning, 0);
    const int next = pack_commit(p.temp_fd, p.temp, p.final, "m");
    assert_true(next >= 0);
    (void)close(next);
    assert_int_equal(count_files(f->cache, ".tune"), 0);
    assert_int_equal(count_files(f->cache, ".pack"), 1);
    done_with(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(two_that_pack_the_same_have_a_file_each, make_folders,
                                        remove_folders),
        cmocka_unit_test_setup_teardown(the_sweep_takes_what_nobody_works_on, make_folders,
                                        remove_folders),
        cmocka_unit_test_setup_teardown(a_rewrite_that_puts_its_time_back_is_seen, make_folders,
                                        remove_folders),
        cmocka_unit_test_setup_teardown(an_unchanged_source_finds_its_packed_file, make_folders,
                                        remove_folders),
        cmocka_unit_test_setup_teardown(a_tuning_lies_beside_its_packed_file, make_folders,
                                        remove_folders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
