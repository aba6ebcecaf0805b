/* A packer that does not get to its end, or whose disk fails it: no file that it leaves is taken
 * for a sound one.
 *
 * The linker sends the packer's pwrite() and fsync() through here, so each write is a point where
 * it can be killed, fail or be lied to. */
#include "tests/support/test.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/engine.h"
#include "tests/unit/engine/tiny.h"

static const struct tiny model = {.arch = "qwen3", .format = "Q8_0", .head = "Q8_0"};

enum trouble { NONE, KILL, FULL, LIE };

/* What happens at write number `at`, counted from 0. */
static struct {
    enum trouble trouble;
    long at, n_writes, n_syncs;
    uint64_t bytes_before; /* KILL: of the write, that still reach the file */
} plan;

/* Every write of a whole run, for power_cuts_*(). */
#define WRITES_MAX 4096
static struct {
    bool on;
    struct {
        off_t at;
        size_t n;
        uint8_t *data; /* owned */
        long syncs;    /* that came before it */
    } writes[WRITES_MAX];
    size_t n;
} journal;

ssize_t __real_pwrite64(int fd, const void *data, size_t n, off_t at);
ssize_t __wrap_pwrite64(int fd, const void *data, size_t n, off_t at);
int __real_fsync(int fd);
int __wrap_fsync(int fd);

ssize_t __wrap_pwrite64(int fd, const void *data, size_t n, off_t at)
{
    if (journal.on) {
        assert_true(journal.n < WRITES_MAX);
        journal.writes[journal.n].at = at;
        journal.writes[journal.n].n = n;
        journal.writes[journal.n].syncs = plan.n_syncs;
        journal.writes[journal.n].data = malloc(n);
        assert_non_null(journal.writes[journal.n].data);
        memcpy(journal.writes[journal.n++].data, data, n);
    }
    if (plan.trouble == NONE || plan.n_writes++ != plan.at) {
        return __real_pwrite64(fd, data, n, at);
    }
    switch (plan.trouble) {
    case KILL:
        (void)!__real_pwrite64(fd, data, (size_t)(plan.bytes_before * n / 4), at);
        (void)kill(getpid(), SIGKILL);
        return -1;
    case FULL:
        errno = ENOSPC;
        return -1;
    default: { /* a disk that says well done, and did something else */
        uint8_t *other = malloc(n);
        assert_non_null(other);
        memcpy(other, data, n);
        other[n / 2] ^= 4;
        const ssize_t r = __real_pwrite64(fd, other, n, at);
        free(other);
        return r;
    }
    }
}

int __wrap_fsync(int fd)
{
    plan.n_syncs++;
    return __real_fsync(fd);
}

static int empty_file(void)
{
    const int fd = memfd_create("out", MFD_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

static int pack_with(int in, int out, enum trouble trouble, long at, uint64_t part)
{
    plan.trouble = trouble;
    plan.at = at;
    plan.bytes_before = part;
    plan.n_writes = plan.n_syncs = 0;
    const int r = model_pack(in, out, NULL, NULL);
    plan.trouble = NONE;
    return r;
}

/* Writes of one whole run. */
static long count_writes(int in)
{
    const int out = empty_file();

    assert_int_equal(pack_with(in, out, FULL, -1, 0), MODEL_OK);
    (void)close(out);
    assert_true(plan.n_writes > 20);
    return plan.n_writes;
}

/* Is it a model that runs, weights and all? */
static bool accepted(int fd)
{
    struct model *m = NULL;
    struct diag d = {0};
    int r = model_open_packed(&m, fd, &d);

    if (r == MODEL_OK) {
        r = model_bring_in(m, fd, WEIGHTS_PRIVATE, &d);
    }
    model_free(m);
    assert_true(r == MODEL_OK || ((r == MODEL_MALFORMED || r == MODEL_STALE) && d.set));
    return r == MODEL_OK;
}

static bool same_bytes(int fd, const uint8_t *want, size_t n_want)
{
    size_t n = 0;
    uint8_t *got = tiny_slurp(fd, &n);
    const bool same = n == n_want && memcmp(got, want, n) == 0;

    free(got);
    return same;
}

static uint8_t *right_bytes(int in, size_t *ret_n)
{
    const int out = empty_file();

    assert_int_equal(model_pack(in, out, NULL, NULL), MODEL_OK);
    uint8_t *ret = tiny_slurp(out, ret_n);
    (void)close(out);
    return ret;
}

/* Goal: kill -9 at any point leaves no file that opens, or the whole one. Method: at every write,
 * with none, some or all of its bytes in the file. */
static void killed_at_any_write_it_leaves_no_model(void **state)
{
    const int in = tiny_write(&model);
    const long n = count_writes(in);
    size_t n_right;
    uint8_t *right = right_bytes(in, &n_right);
    (void)state;

    for (long at = 0; at < n; at++) {
        for (uint64_t part = 0; part <= 4; part += 2) {
            const int out = empty_file();
            int status = 0;
            const pid_t pid = fork();
            assert_true(pid >= 0);
            if (pid == 0) {
                (void)pack_with(in, out, KILL, at, part);
                _exit(1);
            }
            assert_int_equal(waitpid(pid, &status, 0), pid);
            assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
            /* The very last write is the header: with all of it the file is whole. */
            assert_int_equal(accepted(out), at == n - 1 && part == 4);
            assert_true(!accepted(out) || same_bytes(out, right, n_right));
            (void)close(out);
        }
    }
    free(right);
    (void)close(in);
}

static void a_disk_that_fills_at_any_write_is_told_as_such(void **state)
{
    const int in = tiny_write(&model);
    const long n = count_writes(in);
    (void)state;

    for (long at = 0; at < n; at++) {
        const int out = empty_file();
        assert_int_equal(pack_with(in, out, FULL, at, 0), -ENOSPC);
        assert_false(accepted(out));
        (void)close(out);
    }
    (void)close(in);
}

/* Padding between sections is under no checksum, and nobody reads it. */
static void a_disk_that_lies_is_caught_on_reading_back(void **state)
{
    const int in = tiny_write(&model);
    const long n = count_writes(in);
    long n_caught = 0;
    (void)state;

    for (long at = 0; at < n; at++) {
        const int out = empty_file();
        const int r = pack_with(in, out, LIE, at, 0);
        assert_true(r == -EIO || r == MODEL_OK);
        assert_int_equal(accepted(out), r == MODEL_OK);
        n_caught += r == -EIO;
        (void)close(out);
    }
    assert_true(n_caught >= n - 3); /* three sections, so at most three gaps */
    (void)close(in);
}

/* ---- the power goes ---- */

static uint64_t random_state = 1;

static bool coin(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return random_state >> 63;
}

static void journal_free(void)
{
    for (size_t i = 0; i < journal.n; i++) {
        free(journal.writes[i].data);
    }
    journal.n = 0;
}

/* Goal: the header is durable only behind what it vouches for. Method: all that is synced is on
 * the disk; of what came after the last sync before the cut, any part may be, in any order. */
static void power_cuts_leave_no_model_or_the_whole_one(void **state)
{
    const int in = tiny_write(&model), whole = empty_file();
    size_t n_right, n_whole = 0;
    uint8_t *right = right_bytes(in, &n_right);
    (void)state;

    plan.n_syncs = 0;
    journal.on = true;
    assert_int_equal(model_pack(in, whole, NULL, NULL), MODEL_OK);
    journal.on = false;
    assert_true(plan.n_syncs >= 2);
    for (size_t cut = 0; cut <= journal.n; cut++) {
        const long synced = cut < journal.n ? journal.writes[cut].syncs : plan.n_syncs;
        for (unsigned round = 0; round < 6; round++) {
            const int disk = empty_file();
            for (size_t i = 0; i < cut; i++) {
                if (journal.writes[i].syncs < synced || coin()) {
                    assert_int_equal(pwrite(disk, journal.writes[i].data, journal.writes[i].n,
                                            journal.writes[i].at),
                                     (ssize_t)journal.writes[i].n);
                }
            }
            if (coin()) { /* the new length was on the disk, the bytes were not */
                assert_int_equal(ftruncate(disk, (off_t)n_right), 0);
            }
            if (accepted(disk)) {
                assert_true(same_bytes(disk, right, n_right));
                n_whole++;
            }
            (void)close(disk);
        }
    }
    assert_true(n_whole >= 6); /* with everything synced it is there */
    journal_free();
    free(right);
    (void)close(in);
    (void)close(whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_at_any_write_it_leaves_no_model),
        cmocka_unit_test(a_disk_that_fills_at_any_write_is_told_as_such),
        cmocka_unit_test(a_disk_that_lies_is_caught_on_reading_back),
        cmocka_unit_test(power_cuts_leave_no_model_or_the_whole_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
