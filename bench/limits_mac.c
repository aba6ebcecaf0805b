/* The int8 limit: a level's multiply-add instructions on registers that never change, with as many
 * independent sums as hide their latency. No weight is loaded or unpacked and no sum is widened, so
 * a product of matrices can come near these figures but not reach them.
 *
 * The instructions are written out: a compiler would see that the sums are never used, and this
 * file needs no flags of its own. Each turn has eight sums. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "bench/limits.h"

#define THREADS 64u
#define TRY_TURNS UINT64_C(200000) /* under a millisecond: some tries are undisturbed */
#define SUMS 8u

/* clang-format off */
#if defined(__x86_64__)
#define MADDUBS(t, s) "vpmaddubsw %%ymm14, %%ymm15, %%ymm" t "\n\tvpaddw %%ymm" t ", %%ymm" s ", %%ymm" s "\n\t"

/* Unsigned times signed, neighbours added into int16, then added to the sums: two instructions. */
static void maddubs(uint64_t n)
{
    __asm__ volatile("1:\n\t"
                     MADDUBS("8", "0") MADDUBS("9", "1") MADDUBS("10", "2") MADDUBS("11", "3")
                     MADDUBS("8", "4") MADDUBS("9", "5") MADDUBS("10", "6") MADDUBS("11", "7")
                     "sub $1, %0\n\tjnz 1b\n\tvzeroupper"
                     : "+r"(n)
                     :
                     : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
                       "xmm9", "xmm10", "xmm11", "xmm14", "xmm15");
}

#define DPBUSD(s) "vpdpbusd %%zmm14, %%zmm15, %%zmm" s "\n\t"

/* Four products and the sum in one instruction. */
static void dpbusd(uint64_t n)
{
    __asm__ volatile("1:\n\t"
                     DPBUSD("0") DPBUSD("1") DPBUSD("2") DPBUSD("3") DPBUSD("4") DPBUSD("5")
                     DPBUSD("6") DPBUSD("7") DPBUSD("8") DPBUSD("9") DPBUSD("10") DPBUSD("11")
                     "sub $1, %0\n\tjnz 1b\n\tvzeroupper"
                     : "+r"(n)
                     :
                     : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
                       "xmm9", "xmm10", "xmm11", "xmm14", "xmm15");
}

#elif defined(__aarch64__)
#define EIGHT(form) form("0") form("1") form("2") form("3") form("4") form("5") form("6") form("7")
#define RUN(form)                                                                                  \
    __asm__ volatile("1:\n\t" EIGHT(form) "subs %0, %0, #1\n\tb.ne 1b"                             \
                     : "+r"(n)                                                                     \
                     :                                                                             \
                     : "cc", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v16", "v17")

/* Eight products into int16 an instruction: what there is before sdot. */
#define SMLAL(s) "smlal v" s ".8h, v16.8b, v17.8b\n\t"
static void smlal(uint64_t n)
{
    RUN(SMLAL);
}

/* sdot v.4s, v16.16b, v17.16b, as a number: an assembler that is not told of it refuses its name */
#define SDOT(s) ".inst 0x4e919600 + " s "\n\t"
static void sdot(uint64_t n)
{
    RUN(SDOT);
}

#define SMMLA(s) ".inst 0x4e91a600 + " s "\n\t" /* smmla v.4s, v16.16b, v17.16b */
static void smmla(uint64_t n)
{
    RUN(SMMLA);
}
#endif
/* clang-format on */

bool mac_way(enum cpu_level level, struct mac_way *ret)
{
    static const struct mac_way ways[CPU_LEVELS] = {
#if defined(__x86_64__)
        [CPU_AVX2] = {maddubs, SUMS * 32, "vpmaddubsw + vpaddw, 256 bits"},
        [CPU_AVX512] = {dpbusd, 12 * 64, "vpdpbusd, 512 bits"},
#elif defined(__aarch64__)
        [CPU_NEON] = {smlal, SUMS * 8, "smlal, 128 bits"},
        [CPU_DOTPROD] = {sdot, SUMS * 16, "sdot, 128 bits"},
        [CPU_I8MM] = {smmla, SUMS * 32, "smmla, 128 bits"},
#endif
    };

    if (level >= CPU_LEVELS || !ways[level].run) {
        return false;
    }
    *ret = ways[level];
    return true;
}

struct worker {
    const struct mac_way *way; /* borrowed */
    atomic_int *missing;       /* borrowed; threads that are not there yet */
    uint64_t until;
    uint64_t best; /* out: ns of the fastest try */
    uint64_t all;  /* out: ns of all n tries */
    uint64_t n;
};

/* All threads work all the time, so that each one's best try is one beside the others. */
static void *work(void *arg)
{
    struct worker *w = arg;

    w->best = UINT64_MAX;
    atomic_fetch_sub(w->missing, 1);
    while (atomic_load(w->missing) > 0) {
        (void)sched_yield();
    }
    do {
        const uint64_t start = clock_now_ns();
        w->way->run(TRY_TURNS);
        const uint64_t ns = clock_now_ns() - start;
        w->best = ns < w->best ? ns : w->best;
        w->all += ns;
        w->n++;
    } while (clock_now_ns() < w->until);
    return NULL;
}

int mac_measure(enum cpu_level level, unsigned n_threads, unsigned ms, struct mac_rate *ret)
{
    struct worker workers[THREADS];
    pthread_t threads[THREADS];
    atomic_int missing; /* threads that have not come yet */
    struct mac_way way;
    unsigned started = 1;
    struct mac_rate rate = {0};

    if (!mac_way(level, &way) || n_threads == 0 || n_threads > THREADS) {
        return -EINVAL;
    }
    int r = 0;
    atomic_init(&missing, (int)n_threads);
    const uint64_t until = clock_now_ns() + ms * NS_PER_MS;
    for (unsigned i = 0; i < n_threads; i++) {
        workers[i] = (struct worker){.way = &way, .missing = &missing, .until = until};
    }
    while (r == 0 && started < n_threads) {
        r = pthread_create(&threads[started], NULL, work, &workers[started]);
        started += r == 0;
    }
    if (r != 0) {
        atomic_store(&missing, 0); /* those that are there need not wait for the others */
    }
    (void)work(&workers[0]);
    for (unsigned i = 0; i < started; i++) {
        if (i > 0) {
            (void)pthread_join(threads[i], NULL);
        }
        const double work_each = (double)TRY_TURNS * way.per_turn * 1e9;
        rate.best += work_each / (double)(workers[i].best + 1);
        rate.mean += work_each * (double)workers[i].n / (double)(workers[i].all + 1);
    }
    if (r == 0) {
        *ret = rate;
    }
    return -r;
}

double core_hertz(void)
{
    uint64_t best = UINT64_MAX, x = 1;

    for (unsigned i = 0; i < 200; i++) {
        struct timespec a, b;
        (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
        for (unsigned n = 0; n < 10000; n++) {
#if defined(__x86_64__)
            __asm__ volatile("add %0, %0\n\tadd %0, %0\n\tadd %0, %0\n\tadd %0, %0\n\t"
                             "add %0, %0\n\tadd %0, %0\n\tadd %0, %0\n\tadd %0, %0"
                             : "+r"(x)
                             :
                             : "cc");
#elif defined(__aarch64__)
            __asm__ volatile("add %0, %0, %0\n\tadd %0, %0, %0\n\tadd %0, %0, %0\n\t"
                             "add %0, %0, %0\n\tadd %0, %0, %0\n\tadd %0, %0, %0\n\t"
                             "add %0, %0, %0\n\tadd %0, %0, %0"
                             : "+r"(x));
#endif
        }
        (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
        const uint64_t ns =
            (uint64_t)(b.tv_sec - a.tv_sec) * NS_PER_S + (uint64_t)b.tv_nsec - (uint64_t)a.tv_nsec;
        best = ns < best ? ns : best;
    }
    return 8 * 10000 * 1e9 / (double)best;
}
