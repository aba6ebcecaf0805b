/* onebit-runner with hooks: a runner that dies or dawdles when a prompt says so. Words in a
 * request:
 *
 *   @@crash-at-prefill@@     abort when the prompt is about to be computed
 *   @@crash-at-token-N@@     abort when the answer has N tokens, replayed ones included
 *   @@sleep-ms-N-per-step@@  sleep N ms in each step that works on the request */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/runner/hooks.h"

/* A mark: bits 0..15 milliseconds, 16..31 the token to die at, bit 32 die there, bit 33 at
 * prefill. */
#define MARK_TOKEN_SHIFT 16
#define MARK_CRASH_TOKEN (UINT64_C(1) << 32)
#define MARK_CRASH_PREFILL (UINT64_C(1) << 33)

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

static uint64_t on_start(struct strview request)
{
    static const char prefill[] = "@@crash-at-prefill@@";
    const long ms = number_between(request, "@@sleep-ms-", "-per-step@@");
    const long token = number_between(request, "@@crash-at-token-", "@@");
    uint64_t mark = ms > 0 ? (uint64_t)ms : 0;

    if (token >= 0) {
        mark |= (uint64_t)token << MARK_TOKEN_SHIFT | MARK_CRASH_TOKEN;
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
    if (ms > 0) {
        const struct timespec t = {.tv_sec = (time_t)(ms / 1000),
                                   .tv_nsec = (long)(ms % 1000) * 1000000};
        (void)nanosleep(&t, NULL);
    }
}

int main(int argc, char **argv)
{
    static const struct runner_hooks hooks = {.start = on_start, .step = on_step};

    return runner_main(argc, argv, &hooks);
}
