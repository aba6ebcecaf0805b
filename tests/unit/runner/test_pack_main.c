/* The packer child: descriptors, exit statuses and the line it says. */
#include "tests/support/test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/engine.h"
#include "tests/support/runner_model.h"
#include "tests/support/runner_rig.h"

static void exec_packer(int in, int out, int line, const char *bytes_max, rlim_t file_max)
{
    const struct rlimit limit = {.rlim_cur = file_max, .rlim_max = file_max};
    const char *build = getenv("ONEBIT_BUILD");
    char path[4096];

    (void)snprintf(path, sizeof(path), "%s/%s", build ? build : "build", RIG_SHIPPED);
    const int in2 = fcntl(in, F_DUPFD, 10), out2 = fcntl(out, F_DUPFD, 10);
    const int line2 = fcntl(line, F_DUPFD, 10);
    if (dup2(in2, 3) < 0 || dup2(out2, 4) < 0 || dup2(line2, STDOUT_FILENO) < 0 ||
        (file_max > 0 && setrlimit(RLIMIT_FSIZE, &limit) != 0)) {
        _exit(126);
    }
    if (bytes_max) {
        (void)execl(path, path, "--pack", "--max-bytes", bytes_max, (char *)NULL);
    } else {
        (void)execl(path, path, "--pack", (char *)NULL);
    }
    _exit(127);
}

/* The exit status; what was said goes to ret (room for 512 bytes). */
static int pack(int in, int out, const char *bytes_max, rlim_t file_max, char *ret)
{
    int pipe_fds[2], status = 0;
    size_t n = 0;
    ssize_t got;

    assert_int_equal(pipe(pipe_fds), 0);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        exec_packer(in, out, pipe_fds[1], bytes_max, file_max);
    }
    (void)close(pipe_fds[1]);
    while (n < 511 && (got = read(pipe_fds[0], ret + n, 511 - n)) > 0) {
        n += (size_t)got;
    }
    ret[n] = '\0';
    (void)close(pipe_fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_true(n > 0 && strchr(ret, '\n') == ret + n - 1); /* one line */
    return WEXITSTATUS(status);
}

static int empty_file(void)
{
    const int fd = memfd_create("out", MFD_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

static void a_sound_file_is_packed(void **state)
{
    const int in = runner_model_gguf(0), out = empty_file();
    struct model *model = NULL;
    char line[512];
    (void)state;

    assert_int_equal(pack(in, out, "100000000", 0, line), 0);
    assert_string_equal(line, "ok\n");
    assert_int_equal(model_open_packed(&model, out, NULL), MODEL_OK);
    assert_int_equal(model_verify(model, NULL), MODEL_OK);
    model_free(model);
    (void)close(in);
    (void)close(out);
}

static void a_broken_file_is_named_with_its_offset(void **state)
{
    const int in = runner_model_gguf(0), out = empty_file();
    char line[512];
    (void)state;

    assert_int_equal(ftruncate(in, 1000), 0);
    assert_int_equal(pack(in, out, NULL, 0, line), 65);
    assert_int_equal(strncmp(line, "malformed ", 10), 0);
    assert_true(line[10] >= '0' && line[10] <= '9');
    (void)close(in);
    (void)close(out);
}

static void a_file_past_the_limit_is_refused(void **state)
{
    const int in = runner_model_gguf(0), out = empty_file();
    char line[512];
    (void)state;

    assert_int_equal(pack(in, out, "1000", 0, line), 69);
    assert_int_equal(strncmp(line, "too-big ", 8), 0);
    (void)close(in);
    (void)close(out);
}

/* Goal: a full disk is told from a broken file. Method: a limit on the size of files. */
static void a_full_disk_is_told_as_such(void **state)
{
    char line[512], name[] = "/tmp/onebit-pack-XXXXXX";
    const int in = runner_model_gguf(0), out = mkstemp(name);
    (void)state;

    assert_true(out >= 0);
    (void)unlink(name);
    assert_int_equal(pack(in, out, NULL, 4096, line), 73);
    assert_int_equal(strncmp(line, "cannot-write ", 13), 0);
    (void)close(in);
    (void)close(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sound_file_is_packed),
        cmocka_unit_test(a_broken_file_is_named_with_its_offset),
        cmocka_unit_test(a_file_past_the_limit_is_refused),
        cmocka_unit_test(a_full_disk_is_told_as_such),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
