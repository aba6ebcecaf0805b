/* Runs one program after another and says how each ended: exit status, signal, peak memory.
 *
 *   mutate_run SECONDS FILE        FILE receives the standard error of the program that ran last
 *
 * Every line on standard input is one command: a bound in bytes on what the program may write to
 * any one file (memory files too), then its words, all separated by tabs. Every line on standard
 * output answers one command: "EXIT SIGNAL TIMEOUT KIB MS". It is a program of its own, and a small
 * one, because a process begins its life with the peak memory of the one that started it. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORDS_MAX 64

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void limit(int what, uint64_t value)
{
    const struct rlimit l = {.rlim_cur = value, .rlim_max = value};

    if (setrlimit(what, &l) < 0) {
        _exit(126);
    }
}

static void put_on(int fd, const char *path, int flags)
{
    const int opened = open(path, flags, 0600);

    if (opened < 0 || dup2(opened, fd) < 0) {
        _exit(126);
    }
    if (opened != fd) {
        (void)close(opened);
    }
}

static void child(char **words, uint64_t file_bytes, unsigned seconds, const char *said,
                  const sigset_t *mask)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    put_on(STDIN_FILENO, "/dev/null", O_RDONLY);
    put_on(STDOUT_FILENO, "/dev/null", O_WRONLY);
    put_on(STDERR_FILENO, said, O_WRONLY | O_CREAT | O_TRUNC);
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_CPU, seconds);
    limit(RLIMIT_FSIZE, file_bytes);
    (void)sigprocmask(SIG_SETMASK, mask, NULL);
    (void)execv(words[0], words);
    _exit(127);
}

/* True when the child has to be killed because its time is up. */
static bool wait_for(pid_t pid, unsigned seconds, const sigset_t *chld, int *status,
                     struct rusage *use)
{
    const struct timespec time_up = {.tv_sec = seconds};
    bool late = false;

    for (;;) {
        const pid_t done = wait4(pid, status, WNOHANG, use);
        if (done == pid) {
            return late;
        }
        if (done < 0) {
            die("wait4");
        }
        /* A signal left over from an earlier child only costs another turn of this loop. */
        if (sigtimedwait(chld, NULL, &time_up) < 0 && errno == EAGAIN) {
            late = true;
            (void)kill(pid, SIGKILL);
        }
    }
}

static void run(char *line, unsigned seconds, const char *said, const sigset_t *mask,
                const sigset_t *chld)
{
    char *words[WORDS_MAX + 1] = {0};
    struct timespec begin, end;
    struct rusage use = {0};
    int status = 0;
    size_t n = 0;
    char *bytes = strtok(line, "\t\n");

    for (char *w = strtok(NULL, "\t\n"); w && n < WORDS_MAX; w = strtok(NULL, "\t\n")) {
        words[n++] = w;
    }
    if (!bytes || n == 0) {
        (void)fputs("a command has a bound and at least one word\n", stderr);
        exit(1);
    }
    (void)clock_gettime(CLOCK_MONOTONIC, &begin);
    const pid_t pid = fork();
    if (pid < 0) {
        die("fork");
    }
    if (pid == 0) {
        child(words, strtoull(bytes, NULL, 10), seconds, said, mask);
    }
    const bool late = wait_for(pid, seconds, chld, &status, &use);
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    (void)printf("%d %d %d %ld %ld\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1,
                 WIFSIGNALED(status) ? WTERMSIG(status) : 0, late, use.ru_maxrss,
                 (end.tv_sec - begin.tv_sec) * 1000 + (end.tv_nsec - begin.tv_nsec) / 1000000);
    (void)fflush(stdout);
}

int main(int argc, char **argv)
{
    sigset_t chld, mask;
    char *line = NULL;
    size_t room = 0;
    const unsigned seconds = argc == 3 ? (unsigned)strtoul(argv[1], NULL, 10) : 0;

    if (seconds == 0) {
        (void)fputs("usage: mutate_run SECONDS FILE\n", stderr);
        return 64;
    }
    (void)sigemptyset(&chld);
    (void)sigaddset(&chld, SIGCHLD);
    if (sigprocmask(SIG_BLOCK, &chld, &mask) < 0) {
        die("sigprocmask");
    }
    while (getline(&line, &room, stdin) > 0) {
        run(line, seconds, argv[2], &mask, &chld);
    }
    free(line);
    return 0;
}
