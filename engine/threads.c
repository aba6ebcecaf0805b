/* The pool: one word holds the job.
 *
 * `ticket` is (job number << 32 | items left). Taking an item is a compare-and-swap of that word,
 * so a thread that was asleep since an older job cannot take an item of a newer one by mistake: the
 * word it remembers is gone. The job's fields are written while no item is left, when no swap can
 * succeed. Workers spin for some microseconds after a job, because in a step the next one follows
 * at once, and then sleep on a futex; an idle engine burns nothing.
 *
 * Why it is right. Job numbers wrap after 2^32 jobs, which is hours; below, no thread stands still
 * for exactly so long between two instructions.
 *
 * An item is done once, by the function of its own job. In the order of its changes `ticket` goes
 * (j, n), (j, n-1) ... (j, 0), (j+1, n') ..., each value once, so the one successful swap of (j, k)
 * takes item k-1 of job j. Its thread had loaded (j, k) with acquire from a chain of swaps that the
 * release store of job j begins, so the fn and ctx it read are at least as new as those of j. They
 * are no newer: the caller writes the next ones after it has seen left == 0, to which this very
 * thread had still to subtract its item, after it had read them.
 *
 * The caller sees what items wrote. Every subtraction from `left` releases, none but subtractions
 * follow the caller's own store, which whoever takes an item sees with the ticket, and the load
 * that yields 0 acquires them all.
 *
 * No wake-up is lost. Both sleeps are one pattern: the sleeper announces itself (caller_sleeps,
 * n_sleeping), then compares the word (left, bell) and sleeps in one act of the kernel; the waker
 * changes the word, then looks for an announcement. All four are sequentially consistent, and the
 * futex call has a full barrier before it compares, so either the waker sees the announcement and
 * wakes, or the sleeper sees the changed word and does not sleep. A waker that comes late wakes
 * somebody for nothing: both sleepers look again. The bell rings just before the ticket is there,
 * so that both go to the other cores in one line; a worker that is as quick finds no item and goes
 * on to spin. A worker that misses a job costs time, not answers, as the caller takes whatever is
 * left; only the end must reach everyone, and it does: a worker reads `bell` before `stop`, which
 * is set before the bell rings for the last time.
 *
 * A job may be for the first n_used threads only. That number is written where fn and ctx are and
 * read where they are, so what was proved of them holds of it: who takes an item of job j has seen
 * the n_used of job j, and is one of its threads. The others are parked: they sleep on n_used,
 * which no bell disturbs. Its changes are rare, so each one wakes all who sleep on it, without
 * asking for an announcement; a sleeper compares in the same act of the kernel, so it sees the
 * change or is woken by it. The end lets everyone take part again, after `stop` was set: whoever
 * was parked goes on, and meets it. */
#include "engine/threads.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"

#define SPIN_ROUNDS 2000 /* of a pause each: 60 us on a Zen 3, less where a pause is shorter */

struct worker {
    struct threads *pool; /* borrowed */
    pthread_t thread;
    unsigned thread_i;
};

/* What changes with every job lies in two lines of the cache, and what does not in a third: a line
 * that goes from core to core takes as long as hundreds of instructions. */
struct threads {
    _Atomic uint64_t ticket;
    _Atomic(threads_fn *) fn;
    _Atomic(void *) ctx;
    _Atomic uint32_t bell;              /* counts jobs; workers sleep on it */
    _Alignas(64) _Atomic uint32_t left; /* items not finished; the caller sleeps on it */
    _Atomic uint32_t caller_sleeps;
    _Alignas(64) _Atomic uint32_t n_sleeping;
    atomic_bool stop;
    _Atomic uint32_t n_used; /* threads that take items; parked workers sleep on it */
    unsigned n_threads;
    unsigned n_started; /* workers that run */
    bool timed;         /* the caller's alone, like the next */
    uint64_t waited_ns;
    struct worker workers[];
};

static void pause_cpu(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

static void futex_wait(_Atomic uint32_t *word, uint32_t seen)
{
    (void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int n)
{
    (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

/* Do items until none is left to take. */
static void work(struct threads *t, unsigned thread_i)
{
    uint64_t ticket = atomic_load_explicit(&t->ticket, memory_order_acquire);

    while ((uint32_t)ticket != 0) {
        threads_fn *fn = atomic_load_explicit(&t->fn, memory_order_relaxed);
        void *ctx = atomic_load_explicit(&t->ctx, memory_order_relaxed);
        if (thread_i >= atomic_load_explicit(&t->n_used, memory_order_relaxed)) {
            return; /* a worker that is about to be parked */
        }
        if (!atomic_compare_exchange_weak_explicit(&t->ticket, &ticket, ticket - 1,
                                                   memory_order_acq_rel, memory_order_acquire)) {
            continue;
        }
        fn(ctx, (uint32_t)ticket - 1, thread_i);
        if (atomic_fetch_sub(&t->left, 1) == 1 && atomic_load(&t->caller_sleeps) != 0) {
            futex_wake(&t->left, 1);
        }
        ticket = atomic_load_explicit(&t->ticket, memory_order_acquire);
    }
}

static bool has_work(struct threads *t)
{
    return (uint32_t)atomic_load_explicit(&t->ticket, memory_order_relaxed) != 0;
}

static void *worker_main(void *arg)
{
    const struct worker *w = arg;
    struct threads *t = w->pool;

    for (;;) {
        const uint32_t bell = atomic_load(&t->bell); /* before stop: stopping rings it */
        unsigned spins = 0;

        if (atomic_load(&t->stop)) {
            return NULL;
        }
        const uint32_t n_used = atomic_load(&t->n_used); /* after stop: ending changes it */
        if (w->thread_i >= n_used) {
            futex_wait(&t->n_used, n_used);
            continue;
        }
        work(t, w->thread_i);
        while (!has_work(t) && atomic_load(&t->bell) == bell && spins < SPIN_ROUNDS) {
            pause_cpu();
            spins++;
        }
        if (spins == SPIN_ROUNDS) {
            atomic_fetch_add(&t->n_sleeping, 1);
            futex_wait(&t->bell, bell); /* returns at once when it has rung since */
            atomic_fetch_sub(&t->n_sleeping, 1);
        }
    }
}

static void wake_sleepers(struct threads *t)
{
    if (atomic_load(&t->n_sleeping) != 0) {
        futex_wake(&t->bell, INT_MAX);
    }
}

int threads_new(struct threads **ret, unsigned n_threads)
{
    if (n_threads == 0 || n_threads > THREADS_MAX) {
        return -EINVAL;
    }
    struct threads *t = NULL;
    const size_t bytes = sizeof(*t) + n_threads * sizeof(t->workers[0]);
    if (posix_memalign((void **)&t, 64, bytes) != 0) {
        return -ENOMEM;
    }
    *t = (struct threads){.n_used = n_threads, .n_threads = n_threads};
    for (unsigned i = 0; i + 1 < n_threads; i++) {
        struct worker *w = &t->workers[i];
        *w = (struct worker){.pool = t, .thread_i = i + 1};
        const int r = pthread_create(&w->thread, NULL, worker_main, w);
        if (r != 0) {
            threads_free(t);
            return -r;
        }
        t->n_started++;
    }
    *ret = t;
    return 0;
}

void threads_free(struct threads *t)
{
    if (!t) {
        return;
    }
    atomic_store(&t->stop, true);
    threads_use(t, t->n_threads);
    atomic_fetch_add(&t->bell, 1);
    wake_sleepers(t);
    for (unsigned i = 0; i < t->n_started; i++) {
        (void)pthread_join(t->workers[i].thread, NULL);
    }
    free(t);
}

unsigned threads_count(const struct threads *t)
{
    return t->n_threads;
}

void threads_use(struct threads *t, unsigned n)
{
    assert(n >= 1 && n <= t->n_threads);
    if (n != atomic_load_explicit(&t->n_used, memory_order_relaxed)) {
        atomic_store(&t->n_used, n);
        futex_wake(&t->n_used, INT_MAX);
    }
}

unsigned threads_used(const struct threads *t)
{
    return atomic_load_explicit(&t->n_used, memory_order_relaxed);
}

static void sleep_until_done(struct threads *t)
{
    for (;;) {
        atomic_store(&t->caller_sleeps, 1);
        const uint32_t left = atomic_load(&t->left);
        if (left == 0) {
            break;
        }
        futex_wait(&t->left, left);
    }
    atomic_store(&t->caller_sleeps, 0);
}

void threads_run(struct threads *t, threads_fn *fn, void *ctx, size_t n_items)
{
    assert(n_items <= UINT32_MAX);
    if (threads_used(t) == 1 || n_items <= 1) {
        for (size_t i = 0; i < n_items; i++) {
            fn(ctx, i, 0);
        }
        return;
    }
    const uint64_t job = (atomic_load_explicit(&t->ticket, memory_order_relaxed) >> 32) + 1;
    atomic_store_explicit(&t->fn, fn, memory_order_relaxed);
    atomic_store_explicit(&t->ctx, ctx, memory_order_relaxed);
    atomic_store_explicit(&t->left, (uint32_t)n_items, memory_order_relaxed);
    atomic_fetch_add(&t->bell, 1);
    atomic_store_explicit(&t->ticket, job << 32 | n_items, memory_order_release);
    wake_sleepers(t);

    work(t, 0);
    const uint64_t begin = t->timed ? clock_now_ns() : 0;
    unsigned spins = 0;
    for (; atomic_load(&t->left) != 0 && spins < SPIN_ROUNDS; spins++) {
        pause_cpu();
    }
    if (spins == SPIN_ROUNDS) {
        sleep_until_done(t);
    }
    if (t->timed) {
        t->waited_ns += clock_now_ns() - begin;
    }
}

void threads_time(struct threads *t, bool on)
{
    t->timed = on;
}

uint64_t threads_waited_ns(const struct threads *t)
{
    return t->waited_ns;
}
