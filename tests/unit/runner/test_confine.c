/* What a confined process can still do and what not. Each attempt is made by a child of its own,
 * which confines itself first; what becomes of the child is the answer. */
#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/runner/confine.h"

enum { WORKED = 0, NOT_CONFINED = 77, REFUSED = 100 }; /* exit statuses; REFUSED: plus the errno */

typedef int attempt_fn(void); /* 0, or -1 with errno */

/* How it ended: an exit status, or minus the signal. */
static int in_child(bool files, int role, attempt_fn *attempt)
{
    int status = 0;
    const pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        if ((files && confine_files() < 0) ||
            (role && confine_calls((enum confine_role)role) < 0)) {
            _exit(NOT_CONFINED);
        }
        _exit(attempt() == 0 ? WORKED : REFUSED + errno);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static int nothing(void)
{
    return 0;
}

/* Skips where the kernel has neither, as under qemu, or a sanitizer's runtime would be in the
 * way. */
static void want(bool files, int role)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    print_message("SKIPPED: a sanitizer needs what is given up\n");
    skip();
#endif
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    print_message("SKIPPED: a sanitizer needs what is given up\n");
    skip();
#endif
#endif
    if (in_child(files, role, nothing) == NOT_CONFINED) {
        print_message("SKIPPED: this kernel has no %s\n", files ? "Landlock" : "seccomp");
        skip();
    }
}

static int open_file(void)
{
    return open("/etc/passwd", O_RDONLY | O_CLOEXEC) < 0 ? -1 : 0;
}

static int make_file(void)
{
    return open("/tmp/onebit-confine-test", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) < 0 ? -1 : 0;
}

static int make_folder(void)
{
    return mkdir("/tmp/onebit-confine-test.d", 0700);
}

static int run_program(void)
{
    char *const args[] = {(char *)(uintptr_t) "true", NULL};

    return execv("/bin/true", args);
}

static int make_socket(void)
{
    return socket(AF_INET, SOCK_STREAM, 0) < 0 ? -1 : 0;
}

static int make_process(void)
{
    return fork() < 0 ? -1 : 0;
}

static int trace(void)
{
    return ptrace(PTRACE_ATTACH, getppid(), NULL, NULL) < 0 ? -1 : 0;
}

static int make_code(void)
{
    return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED
               ? -1
               : 0;
}

static int kill_another(void)
{
    return kill(getppid(), SIGCONT);
}

static int slow_another(void)
{
    return setpriority(PRIO_PROCESS, (id_t)getppid(), 19);
}

static int unheard_of(void)
{
    return (int)syscall(1000);
}

static void *thread_main(void *arg)
{
    return open_file() < 0 ? arg : NULL;
}

/* A thread is to be had, and is confined like the one that starts it. */
static int use_a_thread(void)
{
    pthread_t thread;
    int mark = 0;
    void *refused = NULL;

    if (pthread_create(&thread, NULL, thread_main, &mark) != 0) {
        return -1;
    }
    if (pthread_join(thread, &refused) == 0 && refused == &mark) {
        return 0;
    }
    errno = EEXIST;
    return -1;
}

static int use_memory(void)
{
    uint8_t *p = mmap(NULL, 1u << 21, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char in[512];

    if (p == MAP_FAILED) {
        return -1;
    }
    (void)madvise(p, 1u << 21, MADV_HUGEPAGE);
    memset(p, 1, 1u << 21);
    void *q = malloc(3u << 20);
    free(q);
    return mincore(p, 1u << 21, in) < 0 || mprotect(p, 4096, PROT_READ) < 0 ? -1
                                                                            : munmap(p, 1u << 21);
}

/* Goal: with Landlock alone no path leads anywhere. */
static void test_without_files_no_path_leads_anywhere(void **state)
{
    (void)state;
    want(true, 0);
    assert_int_equal(in_child(true, 0, open_file), REFUSED + EACCES);
    assert_int_equal(in_child(true, 0, make_file), REFUSED + EACCES);
    assert_int_equal(in_child(true, 0, make_folder), REFUSED + EACCES);
    assert_int_equal(in_child(true, 0, run_program), REFUSED + EACCES);
}

/* Goal: the filter refuses what a library may try, and ends whom nothing else can explain. */
static void test_each_call_outside_of_the_list_is_refused_or_deadly(void **state)
{
    (void)state;
    for (int role = CONFINE_ENGINE; role <= CONFINE_PACKER; role++) {
        want(false, role);
        assert_int_equal(in_child(false, role, open_file), REFUSED + EPERM);
        assert_int_equal(in_child(false, role, make_code), REFUSED + EPERM);
        assert_int_equal(in_child(false, role, kill_another), REFUSED + EPERM);
        assert_int_equal(in_child(false, role, make_folder), REFUSED + ENOSYS);
        assert_int_equal(in_child(false, role, unheard_of), REFUSED + ENOSYS);
        assert_int_equal(in_child(false, role, run_program), -SIGSYS);
        assert_int_equal(in_child(false, role, make_socket), -SIGSYS);
        assert_int_equal(in_child(false, role, trace), -SIGSYS);
    }
    assert_int_equal(in_child(false, CONFINE_ENGINE, slow_another), REFUSED + EPERM);
    assert_int_equal(in_child(false, CONFINE_ENGINE, make_process), REFUSED + EPERM);
}

/* Goal: memory can be had and given back, and threads where there are any. */
static void test_what_the_work_takes_is_left(void **state)
{
    (void)state;
    want(false, CONFINE_ENGINE);
    assert_int_equal(in_child(false, CONFINE_ENGINE, use_a_thread), WORKED);
    assert_int_equal(in_child(false, CONFINE_ENGINE, use_memory), WORKED);
    assert_int_equal(in_child(false, CONFINE_PACKER, use_memory), WORKED);
    assert_int_equal(in_child(false, CONFINE_PACKER, use_a_thread), REFUSED + ENOSYS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_files_no_path_leads_anywhere),
        cmocka_unit_test(test_each_call_outside_of_the_list_is_refused_or_deadly),
        cmocka_unit_test(test_what_the_work_takes_is_left),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
