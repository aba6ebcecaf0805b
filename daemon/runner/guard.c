/* guard: a packed file is cut, or written to, while its pages are read.
 *
 * Reading a page that is not there any more (the file was cut, its medium fails) raises SIGBUS in
 * the thread that reads. The handler looks for the address among the guarded mappings, notes that
 * this one is torn, and puts zeros in the place of all of it: the thread goes on and computes
 * numbers that mean nothing. Whoever uses numbers asks guard_torn() first. A SIGBUS from anywhere
 * else is what it always was, the end.
 *
 * A file that is written to in place raises nothing. Its size or its time of modification change
 * before its bytes do, so a look at them after a computation tells whether it read what was
 * verified. (Of a program that writes and then puts the time back nothing is seen. It would have to
 * be the daemon's own user, or root.)
 *
 * The handler runs in any thread, at any time, so it only reads slots that are filled in an order
 * that makes sense at every moment: a slot's end is 0 while it is free or being filled. mmap() is a
 * system call and nothing else. */
#include "daemon/runner/guard.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>

struct guard {
    _Atomic uintptr_t begin, end; /* end is 0: free */
    atomic_bool torn;
    int fd; /* borrowed */
    off_t size;
    struct timespec modified;
};

static struct guard guards[GUARDS_MAX];

static bool put_zeros(uintptr_t at)
{
    for (size_t i = 0; i < GUARDS_MAX; i++) {
        const uintptr_t end = atomic_load(&guards[i].end), begin = atomic_load(&guards[i].begin);
        if (at >= begin && at < end) {
            atomic_store(&guards[i].torn, true);
            return mmap((void *)begin, end - begin, PROT_READ,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
                        0) != MAP_FAILED;
        }
    }
    return false;
}

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
    const int kept = errno;

    (void)context;
    if (info->si_code <= 0 || !put_zeros((uintptr_t)info->si_addr)) { /* sent, or not of a file */
        (void)signal(sig, SIG_DFL);
        (void)raise(sig); /* held back until we return */
    }
    errno = kept;
}

void guard_init(void)
{
    struct sigaction act = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_RESTART};

    (void)sigemptyset(&act.sa_mask);
    (void)sigaction(SIGBUS, &act, NULL);
}

struct guard *guard_new(const void *at, size_t n, int fd)
{
    struct stat st;

    if (fstat(fd, &st) < 0) {
        return NULL;
    }
    for (size_t i = 0; i < GUARDS_MAX; i++) {
        struct guard *g = &guards[i];
        uintptr_t none = 0;
        /* A slot of no byte belongs to nobody's address; it is taken first, then widened. */
        if (!atomic_compare_exchange_strong(&g->end, &none, 1)) {
            continue;
        }
        g->fd = fd;
        g->size = st.st_size;
        g->modified = st.st_mtim;
        atomic_store(&g->torn, false);
        atomic_store(&g->begin, (uintptr_t)at);
        atomic_store(&g->end, (uintptr_t)at + n);
        return g;
    }
    return NULL;
}

bool guard_torn(const struct guard *g)
{
    struct stat st;

    return atomic_load(&g->torn) || fstat(g->fd, &st) < 0 || st.st_size != g->size ||
           st.st_mtim.tv_sec != g->modified.tv_sec || st.st_mtim.tv_nsec != g->modified.tv_nsec;
}

void guard_free(struct guard *g)
{
    if (g) {
        atomic_store(&g->begin, UINTPTR_MAX);
        atomic_store(&g->end, 0);
    }
}
