/* program: run onebitd for a question. It is a child with a time limit, and what it says is
 * bounded. */
#include "client/cli/program.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

#define PATIENCE_NS (10 * NS_PER_S)

/* DIR/name when it can be run: malloc'ed, else NULL. */
static char *runnable(const char *dir, int n, const char *name)
{
    char *path = NULL;

    if (asprintf(&path, "%.*s/%s", n, dir, name) < 0) {
        return NULL;
    }
    if (access(path, X_OK) == 0) {
        return path;
    }
    free(path);
    return NULL;
}

static char *beside_us(void)
{
    static const char *const names[] = {"onebitd", "../sbin/onebitd", "../daemon/onebitd"};
    char self[PATH_MAX];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    char *found = NULL;

    if (n <= 0) {
        return NULL;
    }
    self[n] = '\0';
    const char *slash = strrchr(self, '/');
    for (size_t i = 0; slash && !found && i < ARRAY_SIZE(names); i++) {
        found = runnable(self, (int)(slash - self), names[i]);
    }
    return found;
}

int program_find(char **ret)
{
    char *found = beside_us();
    const char *at = getenv("PATH");

    while (!found && at && *at) {
        const size_t n = strcspn(at, ":");
        if (n > 0 && n < PATH_MAX && at[0] == '/') { /* never from the working folder */
            found = runnable(at, (int)n, "onebitd");
        }
        at += n + (at[n] == ':');
    }
    *ret = found;
    return found ? 0 : -ENOENT;
}

static void run_child(char *const argv[], bool system, int out)
{
    const int nothing = open("/dev/null", O_RDONLY);
    sigset_t none;

    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)signal(SIGPIPE, SIG_DFL);
    if (nothing < 0 || dup2(nothing, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0 ||
        (system && setenv("RUNTIME_DIRECTORY", "/run", 0) < 0)) {
        _exit(126);
    }
    (void)execv(argv[0], argv);
    _exit(127);
}

/* Read until the end or the time is over: 0 or -ETIMEDOUT. */
static int gather(int fd, struct buf *says)
{
    const uint64_t until_ns = clock_now_ns() + PATIENCE_NS;
    char piece[4096];

    for (;;) {
        const uint64_t now_ns = clock_now_ns();
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (now_ns >= until_ns) {
            return -ETIMEDOUT;
        }
        const int r = poll(&p, 1, (int)((until_ns - now_ns) / NS_PER_MS) + 1);
        const ssize_t n = r > 0 ? read(fd, piece, sizeof(piece)) : -1;
        if (n == 0) {
            return 0;
        }
        if (n > 0) {
            const size_t room = says->max - says->n;
            (void)!buf_append(says, piece, (size_t)n < room ? (size_t)n : room);
        }
    }
}

int program_run(char *const argv[], bool system, struct buf *says)
{
    int ends[2], status = 0;

    if (pipe2(ends, O_CLOEXEC) < 0) {
        return -errno;
    }
    const pid_t pid = fork();
    if (pid == 0) {
        run_child(argv, system, ends[1]);
    }
    const int forked = pid < 0 ? -errno : 0;
    (void)close(ends[1]);
    const int r = pid < 0 ? forked : gather(ends[0], says);
    (void)close(ends[0]);
    if (pid < 0) {
        return r;
    }
    if (r < 0) {
        (void)kill(pid, SIGKILL);
    }
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            return -errno;
        }
    }
    if (r < 0) {
        return r;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
