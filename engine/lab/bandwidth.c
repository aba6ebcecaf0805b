/* How fast this machine reads memory: every thread adds up a slice of its own, and the best of a
 * few passes counts, since whatever disturbs a pass makes it slower.
 *
 * Every other pass asks for the lines AHEAD bytes further on, as kernels do, the others leave it to
 * the machine: which is faster depends on the core and on the size of the pages. */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "engine/lab/board.h"
#include "engine/lab/lab.h"

#define THREADS 64u
#define LANES 16u   /* words read in one turn: two lines of the cache */
#define AHEAD 2048u /* bytes */
#define HUGE_PAGE ((size_t)2 << 20)

struct slice {
    const uint64_t *words; /* borrowed */
    size_t n;              /* a multiple of LANES */
    bool ahead;            /* with prefetches */
    uint64_t sum;          /* out: keeps the compiler from leaving the reading out */
};

typedef uint64_t two_words __attribute__((vector_size(16), aligned(8)));

#define SUMS (LANES / 2)

/* Inlined twice, so that the loop itself does not ask for `ahead`. */
static inline __attribute__((always_inline)) uint64_t sum_of(const uint64_t *words, size_t n,
                                                             const bool ahead)
{
    two_words sums[SUMS] = {{0}}; /* several, so that adding never waits for an addition */
    uint64_t sum = 0;

    for (size_t i = 0; i < n; i += LANES) {
        if (ahead) { /* past the end, too: that faults nobody */
            const uintptr_t at = (uintptr_t)(words + i) + AHEAD;
            __builtin_prefetch((const void *)at, 0, 0);
            __builtin_prefetch((const void *)(at + 64), 0, 0);
        }
#pragma GCC unroll 8
        for (size_t k = 0; k < SUMS; k++) {
            sums[k] += *(const two_words *)(const void *)(words + i + 2 * k);
        }
    }
    for (size_t k = 0; k < SUMS; k++) {
        sum += sums[k][0] + sums[k][1];
    }
    return sum;
}

static void *add_up(void *arg)
{
    struct slice *s = arg;

    s->sum = s->ahead ? sum_of(s->words, s->n, true) : sum_of(s->words, s->n, false);
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

/* A private region that begins at a huge page's boundary. @ret_map, @ret_bytes: what to unmap. */
static int region_new(size_t size, enum bandwidth_pages pages, void **ret_map, size_t *ret_bytes,
                      uint64_t **ret)
{
    const size_t bytes = size + HUGE_PAGE;
    uint8_t *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (map == MAP_FAILED) {
        return -errno;
    }
    uint8_t *words = map + (HUGE_PAGE - (uintptr_t)map % HUGE_PAGE) % HUGE_PAGE;
    if (pages != BANDWIDTH_PAGES_ANY) { /* advice; huge_bytes() says what came of it */
        (void)madvise(words, size, pages == BANDWIDTH_PAGES_HUGE ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    }
    memset(words, 0x5a, size); /* or all of it would be one page of zeros */
    *ret_map = map;
    *ret_bytes = bytes;
    *ret = (uint64_t *)(void *)words;
    return 0;
}

/* Of this process's memory, what lies in huge pages. */
static uint64_t huge_bytes(void)
{
    unsigned long long kib = 0;
    char line[128];
    FILE *f = fopen("/proc/self/smaps_rollup", "re");

    while (f && fgets(line, sizeof(line), f) && sscanf(line, "AnonHugePages: %llu kB", &kib) != 1) {
    }
    if (f) {
        (void)fclose(f);
    }
    return (uint64_t)kib * 1024;
}

int bandwidth_measure(const struct bandwidth_ask *ask, struct bandwidth *ret)
{
    const unsigned n = ask->n_threads;
    struct slice slices[THREADS];
    struct bandwidth best = {0};
    uint64_t spent[2] = {0}, read[2] = {0}; /* ns and bytes, by way */
    size_t map_bytes = 0;
    uint64_t *words = NULL;
    void *map = NULL;

    if (n == 0 || n > THREADS || ask->bytes > SIZE_MAX / 2 || ask->n_passes == 0) {
        return -EINVAL;
    }
    const size_t each = (size_t)ask->bytes / sizeof(uint64_t) / n / LANES * LANES;
    const size_t size = each * n * sizeof(uint64_t);
    if (each == 0) {
        return -EINVAL;
    }
    int r = region_new(size, ask->pages, &map, &map_bytes, &words);
    if (r < 0) {
        return r;
    }
    for (unsigned i = 0; i < n; i++) {
        slices[i] = (struct slice){.words = words + i * each, .n = each};
    }
    for (unsigned i = 0; r == 0 && i < ask->n_passes; i++) {
        for (unsigned k = 0; k < n; k++) {
            slices[k].ahead = i % 2 == 1;
        }
        const uint64_t start = clock_now_ns();
        r = pass(slices, n);
        const uint64_t ns = clock_now_ns() - start + 1;
        const double rate = (double)size * 1e9 / (double)ns;
        best.rate = rate > best.rate ? rate : best.rate;
        spent[i % 2] += ns;
        read[i % 2] += size;
    }
    for (unsigned way = 0; way < 2; way++) {
        const double mean = (double)read[way] * 1e9 / (double)(spent[way] + 1);
        best.mean_rate = mean > best.mean_rate ? mean : best.mean_rate;
    }
    best.huge_share = (double)huge_bytes() / (double)size;
    best.huge_share = best.huge_share > 1 ? 1 : best.huge_share;
    (void)munmap(map, map_bytes);
    if (r == 0) {
        *ret = best;
    }
    return r;
}
