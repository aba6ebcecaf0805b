#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/whole_file.h"

struct place {
    char path[32];
    int dir;
};

static int place_new(void **state)
{
    struct place *p = calloc(1, sizeof(*p));

    (void)snprintf(p->path, sizeof(p->path), "/tmp/whole_file.XXXXXX");
    if (!mkdtemp(p->path)) {
        return -1;
    }
    p->dir = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *state = p;
    return p->dir < 0 ? -1 : 0;
}

static int place_free(void **state)
{
    struct place *p = *state;
    static const char *const names[] = {"file", "other", "new", "fifo", "link", "socket"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        (void)unlinkat(p->dir, names[i], 0);
        (void)unlinkat(p->dir, names[i], AT_REMOVEDIR);
    }
    (void)close(p->dir);
    const int r = rmdir(p->path); /* a test that leaves something else behind fails here */
    free(p);
    return r;
}

static void make(const struct place *p, const char *name, const char *text, mode_t mode)
{
    const int fd = openat(p->dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    assert_int_equal(close(fd), 0);
}

static bool there(const struct place *p, const char *name)
{
    struct stat st;

    return fstatat(p->dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Reads with a ceiling of n bytes behind "<", and wants to see "<" before the text, and nothing
 * else where it fails. */
static int read_n(const struct place *p, const char *name, unsigned how, size_t n, const char *want)
{
    struct buf in;

    buf_init(&in, 1 + n);
    assert_int_equal(buf_append(&in, "<", 1), 0);
    const int r = whole_file_read(&in, p->dir, name, how);
    assert_int_equal(in.n, 1 + (r == 0 ? strlen(want) : 0));
    assert_memory_equal(in.data, "<", 1);
    if (r == 0) {
        assert_memory_equal(in.data + 1, want, strlen(want));
    }
    buf_deinit(&in);
    return r;
}

static int read_it(const struct place *p, const char *name, unsigned how)
{
    return read_n(p, name, how, 100, "hello");
}

static void a_file_is_read_whole_and_one_byte_past_the_ceiling_is_too_long(void **state)
{
    const struct place *p = *state;

    make(p, "file", "hello", 0644);
    assert_int_equal(read_n(p, "file", 0, 100, "hello"), WHOLE_FILE_OK);
    assert_int_equal(read_n(p, "file", 0, 5, "hello"), WHOLE_FILE_OK);
    assert_int_equal(read_n(p, "file", 0, 4, ""), WHOLE_FILE_TOO_LONG);
    assert_int_equal(read_n(p, "file", 0, 0, ""), WHOLE_FILE_TOO_LONG);
    make(p, "file", "", 0644);
    assert_int_equal(read_n(p, "file", 0, 0, ""), WHOLE_FILE_OK);
    assert_int_equal(read_n(p, "other", 0, 5, ""), -ENOENT);
}

/* Goal: a size that is a lie bounds nothing. Method: a file of the kernel, which says 0 and holds
 * more. */
static void a_file_without_a_size_is_read_to_its_end(void **state)
{
    struct buf in;
    struct stat st;
    (void)state;

    assert_int_equal(stat("/proc/self/status", &st), 0);
    assert_int_equal(st.st_size, 0);
    buf_init(&in, 1 << 16);
    assert_int_equal(whole_file_read(&in, AT_FDCWD, "/proc/self/status", 0), WHOLE_FILE_OK);
    assert_true(in.n > 200);
    assert_memory_equal(in.data, "Name:", 5);
    assert_int_equal(in.data[in.n - 1], '\n');
    buf_deinit(&in);
    buf_init(&in, 100);
    assert_int_equal(whole_file_read(&in, AT_FDCWD, "/proc/self/status", 0), WHOLE_FILE_TOO_LONG);
    assert_int_equal(in.n, 0);
    buf_deinit(&in);
}

/* Goal: nothing but a file is taken, and none of them holds us up. */
static void what_is_no_file_is_refused(void **state)
{
    const struct place *p = *state;
    struct sockaddr_un at = {.sun_family = AF_UNIX};

    assert_int_equal(mkfifoat(p->dir, "fifo", 0600), 0);
    assert_int_equal(read_it(p, "fifo", 0), WHOLE_FILE_NONE);
    assert_int_equal(read_it(p, ".", 0), -EISDIR);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)snprintf(at.sun_path, sizeof(at.sun_path), "%s/socket", p->path);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(read_it(p, "socket", 0), -ENXIO);
    (void)close(fd);
    assert_int_equal(read_it(p, "/dev/null", 0), WHOLE_FILE_NONE);
    assert_int_equal(read_n(p, "/dev/null", WHOLE_FILE_DEVICE, 5, ""), WHOLE_FILE_OK);
    assert_int_equal(read_it(p, "/dev/zero", WHOLE_FILE_DEVICE), WHOLE_FILE_TOO_LONG);
    assert_int_equal(read_it(p, "fifo", WHOLE_FILE_DEVICE), WHOLE_FILE_NONE);
}

static void a_link_is_followed_only_where_that_is_asked_for(void **state)
{
    const struct place *p = *state;

    make(p, "file", "hello", 0600);
    assert_int_equal(symlinkat("file", p->dir, "link"), 0);
    assert_int_equal(read_it(p, "link", WHOLE_FILE_PRIVATE), -ELOOP);
    assert_int_equal(read_it(p, "link", WHOLE_FILE_FOLLOW | WHOLE_FILE_PRIVATE), WHOLE_FILE_OK);
}

static void a_private_file_is_ours_and_has_no_permission_for_others(void **state)
{
    static const mode_t open_to_some[] = {0640, 0620, 0604, 0602, 0610, 0601, 0644, 0666};
    const struct place *p = *state;

    make(p, "file", "hello", 0600);
    assert_int_equal(read_it(p, "file", WHOLE_FILE_PRIVATE), WHOLE_FILE_OK);
    for (size_t i = 0; i < sizeof(open_to_some) / sizeof(open_to_some[0]); i++) {
        make(p, "file", "hello", open_to_some[i]);
        assert_int_equal(read_it(p, "file", WHOLE_FILE_PRIVATE), WHOLE_FILE_EXPOSED);
        assert_int_equal(read_it(p, "file", 0), WHOLE_FILE_OK);
    }
    make(p, "file", "hello", 0400);
    assert_int_equal(read_it(p, "file", WHOLE_FILE_PRIVATE), WHOLE_FILE_OK);
    if (geteuid() == 0) { /* only root can give a file away */
        assert_int_equal(fchownat(p->dir, "file", 7000, (gid_t)-1, 0), 0);
        assert_int_equal(read_it(p, "file", WHOLE_FILE_PRIVATE), WHOLE_FILE_EXPOSED);
    }
}

static void what_is_wrong_has_words(void **state)
{
    (void)state;
    assert_string_equal(whole_file_why(WHOLE_FILE_NONE), "it is no regular file");
    assert_string_equal(whole_file_why(WHOLE_FILE_EXPOSED), "others can read or write it");
    assert_string_equal(whole_file_why(WHOLE_FILE_TOO_LONG), "it is too long");
    assert_string_equal(whole_file_why(-ELOOP), strerror(ELOOP));
}

static void a_head_is_as_much_as_there_is_room_for(void **state)
{
    const struct place *p = *state;
    char text[6] = "xxxxx";

    make(p, "file", "hello", 0644);
    assert_int_equal(whole_file_head(text, 6, p->dir, "file", 0), 5);
    assert_string_equal(text, "hello");
    assert_int_equal(whole_file_head(text, 4, p->dir, "file", 0), 3);
    assert_string_equal(text, "hel");
    assert_int_equal(whole_file_head(text, 1, p->dir, "file", 0), 0);
    assert_string_equal(text, "");
    (void)snprintf(text, sizeof(text), "old");
    assert_int_equal(whole_file_head(text, sizeof(text), p->dir, "none", 0), -ENOENT);
    assert_string_equal(text, "");
    assert_int_equal(whole_file_head(text, sizeof(text), p->dir, ".", 0), -EISDIR);
    assert_int_equal(whole_file_head(text, sizeof(text), p->dir, "/dev/null", 0), -EINVAL);
    assert_int_equal(symlinkat("file", p->dir, "link"), 0);
    assert_int_equal(whole_file_head(text, sizeof(text), p->dir, "link", 0), -ELOOP);
    assert_int_equal(whole_file_head(text, sizeof(text), p->dir, "link", WHOLE_FILE_FOLLOW), 5);
}

static void a_file_is_replaced_whole_and_is_its_users_alone(void **state)
{
    const struct place *p = *state;
    struct stat before, st;

    make(p, "file", "an older and longer text", 0666);
    assert_int_equal(fstatat(p->dir, "file", &before, 0), 0);
    assert_int_equal(whole_file_write(p->dir, "file", "new", "hello", 5), 0);
    assert_int_equal(read_it(p, "file", WHOLE_FILE_PRIVATE), WHOLE_FILE_OK);
    assert_int_equal(fstatat(p->dir, "file", &st, 0), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_not_equal(st.st_ino, before.st_ino); /* whoever had it open keeps the old one */
    assert_false(there(p, "new"));
    assert_int_equal(whole_file_write(p->dir, "file", "new", "", 0), 0);
    assert_int_equal(read_n(p, "file", 0, 5, ""), WHOLE_FILE_OK);
}

/* Goal: what stands under the other name is never written through. Method: a leftover, and links to
 * a file that has to stay. */
static void what_an_interrupted_write_left_goes_and_a_link_is_not_followed(void **state)
{
    const struct place *p = *state;

    make(p, "new", "half a fi", 0644);
    assert_int_equal(whole_file_write(p->dir, "file", "new", "hello", 5), 0);
    assert_false(there(p, "new"));
    assert_int_equal(symlinkat("file", p->dir, "new"), 0);
    assert_int_equal(symlinkat("file", p->dir, "link"), 0);
    assert_int_equal(whole_file_write(p->dir, "link", "new", "other", 5), 0);
    assert_int_equal(read_it(p, "file", 0), WHOLE_FILE_OK);
    assert_int_equal(read_n(p, "link", 0, 5, "other"), WHOLE_FILE_OK); /* no link any more */
}

/* Goal: a disk that fills up costs neither the old file nor space. Method: a limit of the process
 * stands for the disk: it cuts the first write short and fails the next. */
static void a_write_that_fails_leaves_the_old_file_and_nothing_else(void **state)
{
    const struct place *p = *state;
    struct rlimit had, small;

    make(p, "file", "hello", 0600);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &had), 0);
    small = (struct rlimit){.rlim_cur = 4096, .rlim_max = had.rlim_max};
    uint8_t *bytes = calloc(1, 10000);
    void (*const before)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    const int too_long = whole_file_write(p->dir, "file", "new", bytes, 10000);
    const int fits = whole_file_write(p->dir, "other", "new", bytes, 4096);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &had), 0);
    (void)signal(SIGXFSZ, before);
    free(bytes);
    assert_int_equal(too_long, -EFBIG);
    assert_int_equal(fits, 0);
    assert_int_equal(read_it(p, "file", 0), WHOLE_FILE_OK);
    assert_false(there(p, "new"));
}

static void a_folder_in_the_place_of_either_name_is_left_alone(void **state)
{
    const struct place *p = *state;

    assert_int_equal(mkdirat(p->dir, "other", 0700), 0);
    assert_int_equal(whole_file_write(p->dir, "other", "new", "hello", 5), -EISDIR);
    assert_false(there(p, "new"));
    assert_int_equal(mkdirat(p->dir, "new", 0700), 0);
    assert_int_equal(whole_file_write(p->dir, "file", "new", "hello", 5), -EEXIST);
    assert_true(there(p, "new") && there(p, "other"));
    assert_false(there(p, "file"));
}

static void a_folder_that_cannot_be_synced_is_told_unless_there_is_nothing_to_sync(void **state)
{
    const struct place *p = *state;
    int ends[2];

    assert_int_equal(folder_sync(p->dir), 0);
    assert_int_equal(folder_sync(-1), -EBADF);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(folder_sync(ends[0]), 0); /* EINVAL, as some file systems say of folders */
    (void)close(ends[0]);
    (void)close(ends[1]);
    assert_int_equal(whole_file_write(-1, "file", "new", "hello", 5), -EBADF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define WITH_PLACE(test) cmocka_unit_test_setup_teardown(test, place_new, place_free)
        WITH_PLACE(a_file_is_read_whole_and_one_byte_past_the_ceiling_is_too_long),
        cmocka_unit_test(a_file_without_a_size_is_read_to_its_end),
        WITH_PLACE(what_is_no_file_is_refused),
        WITH_PLACE(a_link_is_followed_only_where_that_is_asked_for),
        WITH_PLACE(a_private_file_is_ours_and_has_no_permission_for_others),
        cmocka_unit_test(what_is_wrong_has_words),
        WITH_PLACE(a_head_is_as_much_as_there_is_room_for),
        WITH_PLACE(a_file_is_replaced_whole_and_is_its_users_alone),
        WITH_PLACE(what_an_interrupted_write_left_goes_and_a_link_is_not_followed),
        WITH_PLACE(a_write_that_fails_leaves_the_old_file_and_nothing_else),
        WITH_PLACE(a_folder_in_the_place_of_either_name_is_left_alone),
        WITH_PLACE(a_folder_that_cannot_be_synced_is_told_unless_there_is_nothing_to_sync),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
