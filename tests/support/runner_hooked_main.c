/* onebit-runner with hooks: a runner that dies or dawdles when a prompt says so. Words in a
 * request:
 *
 *   @@crash-at-prefill@@     abort when the prompt is about to be computed
 *   @@crash-at-token-N@@     abort when the answer has N tokens, replayed ones included
 *   @@wedge-at-token-N@@     do nothing any more when the answer has N tokens and goes on; one
 *                            that is continued elsewhere has one more at once, and is not caught
 *   @@sleep-ms-N-per-step@@  sleep N ms in each step that works on the request
 *   @@try-open@@             open /etc/passwd, and say on stderr what came of it
 *   @@try-socket@@, @@try-exec@@, @@try-fork@@   make a socket, run a program, a process
 *
 * Who gets what it tried for says so by its exit status, 42.
 *
 * $ONEBIT_STEP_MS: so many ms for every request that says nothing of it.
 *
 * And a packer that is killed in mid-write: $ONEBIT_DIE_AT names a file with a number N and a word.
 * The first packer that finds it takes it away and writes half of its Nth piece; then it is killed,
 * and with the word "both" the daemon is, too. With one of the words try-open, try-socket,
 * try-exec and try-fork it tries that instead. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "daemon/runner/hooks.h"

/* A mark: bits 0..15 milliseconds, 16..31 the token to die at, bit 32 die there, bit 33 at
 * prefill, bit 34 be stuck there instead. */
#define MARK_TOKEN_SHIFT 16
#define MARK_CRASH_TOKEN (UINT64_C(1) << 32)
#define MARK_CRASH_PREFILL (UINT64_C(1) << 33)
#define MARK_WEDGE_TOKEN (UINT64_C(1) << 34)

/* The number between `before` and `after` in the request, or -1. */
static long number_between(struct strview request, const char *before, const char *after)
{
    const char *at = memmem(request.data, request.n, before, strlen(before));
    long n = 0;

    if (!at) {
        return -1;
    }
    const char *end = request.data + request.n;
    for (at += strlen(before); at < end && *at >= '0' && *at <= '9' && n < 65536; at++) {
        n = n * 10 + (*at - '0');
    }
    const size_t left = (size_t)(end - at);
    return left >= strlen(after) && memcmp(at, after, strlen(after)) == 0 && n < 65536 ? n : -1;
}

static const char *const tries[] = {"try-open", "try-socket", "try-exec", "try-fork"};
enum { N_TRIES = sizeof(tries) / sizeof(tries[0]), EXIT_GOT_IT = 42 };

static void attempt(size_t which)
{
    char *const args[] = {(char *)(uintptr_t) "true", NULL}; /* execv() does not write to it */
    int fd = -1;

    switch (which) {
    case 0:
        fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
        (void)fprintf(stderr, "hooked: open: %s\n", fd < 0 ? strerror(errno) : "open");
        break;
    case 1:
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        break;
    case 2:
        (void)execv("/bin/true", args);
        return;
    default:
        fd = fork();
        break;
    }
    if (fd >= 0) {
        _exit(EXIT_GOT_IT);
    }
}

static void attempt_asked(struct strview request)
{
    for (size_t i = 0; i < N_TRIES; i++) {
        char word[32];
        (void)snprintf(word, sizeof(word), "@@%s@@", tries[i]);
        if (memmem(request.data, request.n, word, strlen(word))) {
            attempt(i);
        }
    }
}

static uint64_t on_start(struct strview request)
{
    static const char prefill[] = "@@crash-at-prefill@@";
    const long ms = number_between(request, "@@sleep-ms-", "-per-step@@");
    const long token = number_between(request, "@@crash-at-token-", "@@");
    const long wedge = number_between(request, "@@wedge-at-token-", "@@");
    const char *always = getenv("ONEBIT_STEP_MS");
    uint64_t mark = ms > 0 ? (uint64_t)ms : always ? strtoul(always, NULL, 10) & 0xffff : 0;

    attempt_asked(request);
    if (token >= 0) {
        mark |= (uint64_t)token << MARK_TOKEN_SHIFT | MARK_CRASH_TOKEN;
    }
    if (wedge >= 0) {
        mark |= (uint64_t)wedge << MARK_TOKEN_SHIFT | MARK_WEDGE_TOKEN;
    }
    if (memmem(request.data, request.n, prefill, sizeof(prefill) - 1)) {
        mark |= MARK_CRASH_PREFILL;
    }
    return mark;
}

static void on_step(uint64_t mark, bool prefill, size_t n_answer)
{
    const uint64_t ms = mark & 0xffff;
    const uint64_t token = mark >> MARK_TOKEN_SHIFT & 0xffff;

    if ((prefill && (mark & MARK_CRASH_PREFILL)) ||
        ((mark & MARK_CRASH_TOKEN) && n_answer >= token)) {
        abort();
    }
    while ((mark & MARK_WEDGE_TOKEN) && !prefill && n_answer == token) {
        (void)pause();
    }
    if (ms > 0) {
        const struct timespec t = {.tv_sec = (time_t)(ms / 1000),
                                   .tv_nsec = (long)(ms % 1000) * 1000000};
        (void)nanosleep(&t, NULL);
    }
}

static long writes_left = -1;   /* before the last one; < 0: all */
static size_t to_try = N_TRIES; /* none */
static int killer = -1;         /* a pipe: who closes it has the daemon killed, and its packer */

/* A process that is not confined, for what the packer may not do. */
static void keep_a_killer(void)
{
    const pid_t daemon = getppid(), packer = getpid();
    int pair[2];
    char byte;

    if (pipe(pair) < 0 || fork() != 0) {
        killer = pair[1];
        return;
    }
    (void)close(pair[1]);
    (void)!read(pair[0], &byte, 1);
    (void)kill(daemon, SIGKILL);
    (void)kill(packer, SIGKILL);
    _exit(0);
}

static void read_orders(void)
{
    const char *path = getenv("ONEBIT_DIE_AT");
    const int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    char text[64] = {0};

    if (fd >= 0 && unlink(path) == 0 && read(fd, text, sizeof(text) - 1) > 0) {
        writes_left = strtol(text, NULL, 10);
        if (strstr(text, "both")) {
            keep_a_killer();
        }
        for (size_t i = 0; i < N_TRIES; i++) {
            to_try = strstr(text, tries[i]) ? i : to_try;
        }
    }
    if (fd >= 0) {
        (void)close(fd);
    }
}

/* The linker sends calls of pwrite() here, which with large offsets is called so. */
ssize_t __real_pwrite64(int fd, const void *data, size_t n, off_t at);
ssize_t __wrap_pwrite64(int fd, const void *data, size_t n, off_t at);
ssize_t __wrap_pwrite64(int fd, const void *data, size_t n, off_t at)
{
    if (writes_left < 0 || --writes_left > 0) {
        return __real_pwrite64(fd, data, n, at);
    }
    if (to_try < N_TRIES) {
        writes_left = -1;
        attempt(to_try);
        return __real_pwrite64(fd, data, n, at);
    }
    (void)!__real_pwrite64(fd, data, n / 2, at);
    if (killer >= 0) {
        (void)close(killer);
        for (;;) {
            (void)nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
        }
    }
    (void)kill(getpid(), SIGKILL);
    return -1;
}

int main(int argc, char **argv)
{
    static const struct runner_hooks hooks = {.start = on_start, .step = on_step};

    if (argc > 1 && strcmp(argv[1], "--pack") == 0) {
        read_orders();
    }
    return runner_main(argc, argv, &hooks);
}
