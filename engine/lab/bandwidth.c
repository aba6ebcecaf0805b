/* How fast this machine reads memory: every thread adds up a slice of its own, and the best of a
 * few passes counts, since whatever disturbs a pass makes it slower. */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "engine/lab/board.h"
#include "engine/lab/lab.h"

#define PASSES 6u
#define THREADS 64u
#define LANES 16u /* independent sums, so that adding never waits for an addition */

struct slice {
    const uint64_t *words; /* borrowed */
    size_t n;              /* a multiple of LANES */
    uint64_t sum;          /* out: keeps the compiler from leaving the reading out */
};

static void *add_up(void *arg)
{
    struct slice *s = arg;
    uint64_t lanes[LANES] = {0};

    for (size_t i = 0; i < s->n; i += LANES) {
        for (size_t k = 0; k < LANES; k++) {
            lanes[k] += s->words[i + k];
        }
    }
    s->sum = 0;
    for (size_t k = 0; k < LANES; k++) {
        s->sum += lanes[k];
    }
    return NULL;
}

/* One pass over all slices, the first by the caller. */
static int pass(struct slice *slices, unsigned n)
{
    pthread_t threads[THREADS];
    unsigned started = 1;
    int r = 0;

    while (r == 0 && started < n) {
        r = pthread_create(&threads[started], NULL, add_up, &slices[started]);
        started += r == 0;
    }
    (void)add_up(&slices[0]);
    for (unsigned i = 1; i < started; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    return -r;
}

int bandwidth_measure(unsigned n_threads, uint64_t bytes, double *ret_rate)
{
    struct slice slices[THREADS];
    double best = 0;
    int r = 0;

    if (n_threads == 0 || n_threads > THREADS || bytes > SIZE_MAX / 2) {
        return -EINVAL;
    }
    const size_t each = (size_t)bytes / sizeof(uint64_t) / n_threads / LANES * LANES;
    const size_t size = each * n_threads * sizeof(uint64_t);
    if (each == 0) {
        return -EINVAL;
    }
    uint64_t *words = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (words == MAP_FAILED) {
        return -errno;
    }
    memset(words, 0x5a, size); /* or all of it would be one page of zeros */
    for (unsigned i = 0; i < n_threads; i++) {
        slices[i] = (struct slice){.words = words + i * each, .n = each};
    }
    for (unsigned i = 0; r == 0 && i < PASSES; i++) {
        const uint64_t start = clock_now_ns();
        r = pass(slices, n_threads);
        const double rate = (double)size * 1e9 / (double)(clock_now_ns() - start + 1);
        best = rate > best ? rate : best;
    }
    (void)munmap(words, size);
    if (r == 0) {
        *ret_rate = best;
    }
    return r;
}
