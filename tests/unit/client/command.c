/* Driving the command `onebit` from tests. */
#include "tests/unit/client/command.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/test.h"

int memory_file(const char *text)
{
    const int fd = memfd_create("test", 0);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

void read_back(int fd, char *ret, size_t room)
{
    const ssize_t n = pread(fd, ret, room - 1, 0);

    assert_true(n >= 0);
    ret[n] = '\0';
    close(fd);
}

int status_code(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

pid_t start(const char *const words[], int in, int out, int err)
{
    char program[512], *argv[WORDS_MAX + 2] = {program};
    const pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid > 0) {
        return pid;
    }
    snprintf(program, sizeof(program), "%s/client/onebit", getenv("ONEBIT_BUILD"));
    for (size_t i = 0; i < WORDS_MAX && words[i]; i++) {
        argv[i + 1] = (char *)(uintptr_t)words[i];
    }
    const int given[] = {in, out, err};
    for (int fd = 0; fd < 3; fd++) {
        (void)(given[fd] < 0 ? close(fd) : dup2(given[fd], fd));
    }
    (void)unsetenv("ONEBIT_SOCKET");
    (void)signal(SIGINT, SIG_DFL);
    (void)signal(SIGTERM, SIG_DFL);
    execv(program, argv);
    _exit(126);
}

void run(struct ran *ret, const char *input, const char *const words[])
{
    const int in = memory_file(input), out = memory_file(""), err = memory_file("");
    int status;
    const pid_t pid = start(words, in, out, err);

    assert_int_equal(waitpid(pid, &status, 0), pid);
    ret->code = status_code(status);
    close(in);
    read_back(out, ret->out, sizeof(ret->out));
    read_back(err, ret->err, sizeof(ret->err));
}
