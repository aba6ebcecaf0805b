#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/newfile.h"

static char folder[] = "/tmp/newfile.XXXXXX";

static int folder_new(void **state)
{
    (void)state;
    (void)umask(022);
    return mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

/* Nothing is left but what a test has made and takes away itself. */
static int folder_free(void **state)
{
    (void)state;
    return chdir("/") == 0 && rmdir(folder) == 0 ? 0 : -1;
}

static void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "we");

    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void assert_holds(const char *path, const char *text)
{
    char got[16] = "";
    FILE *f = fopen(path, "re");

    assert_non_null(f);
    assert_int_equal(fread(got, 1, sizeof(got) - 1, f), strlen(text));
    assert_string_equal(got, text);
    assert_int_equal(fclose(f), 0);
}

static void write_new(struct newfile *f, const char *path)
{
    assert_int_equal(newfile_begin(f, path), NEWFILE_OK);
    assert_int_equal(write(f->fd, "new", 3), 3);
}

static void a_file_is_replaced_when_it_is_whole(void **state)
{
    struct newfile f = {0};
    struct stat st;

    (void)state;
    assert_int_equal(newfile_check("file"), NEWFILE_OK);
    put("file", "old");
    assert_int_equal(chmod("file", 0600), 0);
    assert_int_equal(newfile_check("file"), NEWFILE_OK);
    write_new(&f, "file");
    assert_holds("file", "old");
    assert_int_equal(newfile_commit(&f), NEWFILE_OK);
    assert_holds("file", "new");
    assert_int_equal(stat("file", &st), 0);
    assert_int_equal(st.st_mode & 07777, 0644);
    assert_int_equal(unlink("file"), 0);
}

static void one_that_is_given_up_leaves_nothing(void **state)
{
    struct newfile f = {0};

    (void)state;
    write_new(&f, "file");
    newfile_abort(&f);
    assert_int_equal(access("file", F_OK), -1);
    assert_int_equal(f.fd, -1);
}

static void a_link_stays_and_its_file_is_replaced(void **state)
{
    struct newfile f = {0};
    char to[16] = "";

    (void)state;
    put("real", "old");
    assert_int_equal(symlink("real", "link"), 0);
    write_new(&f, "link");
    assert_int_equal(newfile_commit(&f), NEWFILE_OK);
    assert_holds("real", "new");
    assert_int_equal(readlink("link", to, sizeof(to) - 1), 4);
    assert_string_equal(to, "real");
    assert_int_equal(unlink("link"), 0);
    assert_int_equal(unlink("real"), 0);
}

static void assert_refused(const char *path, int outcome, const char *why)
{
    struct newfile f = {0};

    assert_int_equal(newfile_check(path), outcome);
    assert_int_equal(newfile_begin(&f, path), outcome);
    assert_non_null(strstr(newfile_why(outcome), why));
}

static void what_is_no_file_stays(void **state)
{
    const struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "socket"};
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)state;
    assert_int_equal(bind(fd, (const struct sockaddr *)&name, sizeof(name)), 0);
    assert_int_equal(mkfifo("fifo", 0600), 0);
    assert_int_equal(symlink("none", "dangling"), 0);
    assert_int_equal(symlink("loop", "loop"), 0);
    assert_refused("socket", NEWFILE_SOCKET, "is a socket, ");
    assert_refused("fifo", NEWFILE_PIPE, "is a pipe, ");
    assert_refused("dangling", NEWFILE_DANGLING, "is a link to nothing");
    assert_refused("loop", -ELOOP, "symbolic");
    assert_refused(".", NEWFILE_FOLDER, "is a folder, ");
    assert_refused("/dev/null", NEWFILE_DEVICE, "is a device, ");
    assert_refused("none/file", -ENOENT, "No such file");
    assert_refused("", -ENOENT, "No such file");
    assert_int_equal(unlink("socket") | unlink("fifo") | unlink("dangling") | unlink("loop"), 0);
    (void)close(fd);
}

static void a_name_that_is_too_long_is_refused(void **state)
{
    struct newfile f = {0};
    char path[2 * PATH_MAX] = "";

    (void)state;
    memset(path, '/', PATH_MAX - 3);
    path[PATH_MAX - 3] = 'x'; /* there is room for it, but not for the temporary name */
    assert_int_equal(newfile_begin(&f, path), -ENAMETOOLONG);
    memset(path, 'x', sizeof(path) - 1);
    assert_int_equal(newfile_begin(&f, path), -ENAMETOOLONG);
}

static void what_comes_to_stand_there_meanwhile_stays(void **state)
{
    struct newfile f = {0};

    (void)state;
    write_new(&f, "file");
    assert_int_equal(mkfifo("file", 0600), 0);
    assert_int_equal(newfile_commit(&f), NEWFILE_PIPE);
    assert_int_equal(access(f.temporary, F_OK), -1);
    assert_int_equal(unlink("file"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_replaced_when_it_is_whole),
        cmocka_unit_test(one_that_is_given_up_leaves_nothing),
        cmocka_unit_test(a_link_stays_and_its_file_is_replaced),
        cmocka_unit_test(what_is_no_file_stays),
        cmocka_unit_test(a_name_that_is_too_long_is_refused),
        cmocka_unit_test(what_comes_to_stand_there_meanwhile_stays),
    };

    return cmocka_run_group_tests(tests, folder_new, folder_free);
}
