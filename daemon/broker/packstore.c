/* packstore: NAME-0123456789abcdef.pack in the cache folder, and .NAME-….tmp while it is made.
 *
 * A temporary file is locked as long as somebody works on it, so the sweep at start knows the dead
 * ones. */
#include "daemon/broker/packstore.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fnv.h"
#include "daemon/broker/tuning.h"

#define HASH_DIGITS 16
#define TEMPS_MAX 64u
#define TICK_NS 20000000 /* no kernel ticks more slowly */
#define SETTLE_MAX 3u    /* looks at a file that is written to without a pause */

static int name_files(struct pack_probe *p)
{
    const uint64_t mark = fnv_add(FNV_START, &p->mark, sizeof(p->mark));
    const uint64_t h = fnv_add(mark, p->pack_id, strlen(p->pack_id));
    const int n =
        snprintf(p->final, sizeof(p->final), "%s/%s-%016" PRIx64 ".pack", p->cache_dir, p->name, h);
    p->hash = h;
    return n >= (int)sizeof(p->final) ? -ENAMETOOLONG : 0;
}

/* Times of files are those of the last tick of the kernel's clock, so of two writes in one tick the
 * second changes nothing that a mark could tell. A file that was written just now is looked at once
 * more when the tick is over: from then on each write changes its mark. */
static void settle(int fd, struct stat *st)
{
    const struct timespec pause = {.tv_nsec = TICK_NS};
    struct timespec now;

    for (unsigned i = 0; i < SETTLE_MAX && clock_gettime(CLOCK_REALTIME, &now) == 0; i++) {
        const int64_t age = (int64_t)(now.tv_sec - st->st_ctim.tv_sec) * 1000000000 +
                            (now.tv_nsec - st->st_ctim.tv_nsec);
        if (age < 0 || age > TICK_NS) {
            return; /* or from before the clock was set back: the next write is of another time */
        }
        (void)nanosleep(&pause, NULL);
        if (fstat(fd, st) < 0) {
            return;
        }
    }
}

static int open_source(struct pack_probe *p)
{
    char file[MODEL_NAME_MAX + 8];
    struct stat st;

    (void)snprintf(file, sizeof(file), "%s.gguf", p->name);
    const int dir = open(p->models_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        return errno == ENOENT ? PACK_NO_SOURCE : -errno;
    }
    /* O_NONBLOCK: a fifo of that name must not hold the worker up before it is seen to be one. */
    p->source_fd = openat(dir, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    const int e = errno;
    (void)close(dir);
    if (p->source_fd < 0) {
        return e == ENOENT || e == ELOOP ? PACK_NO_SOURCE : -e;
    }
    if (fstat(p->source_fd, &st) < 0) {
        return -errno;
    }
    if (!S_ISREG(st.st_mode)) {
        return PACK_NO_SOURCE;
    }
    settle(p->source_fd, &st);
    p->mark = file_mark_of(&st);
    return p->mark.size > p->bytes_max ? PACK_TOO_BIG : PACK_OK;
}

static void drop(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
        *fd = -1;
    }
}

/* A new file of this name, locked. Somebody's sweep may come between our making it and our lock: it
 * is then locked by them, or gone. */
static int make_temp(struct pack_probe *p)
{
    struct stat st;

    p->temp_fd = open(p->temp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (p->temp_fd < 0) {
        return -errno;
    }
    int r = flock(p->temp_fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
    if (r == 0 && fstat(p->temp_fd, &st) < 0) {
        r = -errno;
    }
    if (r == 0 && st.st_nlink == 0) {
        r = -EAGAIN;
    }
    if (r < 0) {
        drop(&p->temp_fd);
    }
    return r;
}

/* Daemons that share a cache folder have names of their own, and where they live in containers with
 * the same process numbers, the first that is free. */
static int open_temp(struct pack_probe *p)
{
    int r = -EEXIST;

    for (unsigned i = 0; i < TEMPS_MAX && (r == -EEXIST || r == -EAGAIN); i++) {
        const int n = snprintf(p->temp, sizeof(p->temp), "%s/.%s-%016" PRIx64 "-%d-%u.tmp",
                               p->cache_dir, p->name, p->hash, (int)getpid(), i);
        r = n >= (int)sizeof(p->temp) ? -ENAMETOOLONG : make_temp(p);
    }
    return r;
}

int pack_probe(struct pack_probe *p)
{
    p->pack_fd = p->source_fd = p->temp_fd = -1;

    int r = open_source(p);
    if (r != PACK_OK) {
        goto out;
    }
    r = name_files(p);
    if (r < 0) {
        goto out;
    }
    if (p->fresh) {
        (void)unlink(p->final);
    }
    p->pack_fd = open(p->final, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (p->pack_fd < 0) {
        p->unwritable = errno == ENOENT;
        r = errno == ENOENT ? open_temp(p) : -errno;
    } else {
        p->n_tuning = tuning_read_kept(p->final, p->tuning);
    }
out:
    if (r != PACK_OK || p->pack_fd >= 0) {
        drop(&p->source_fd);
        drop(&p->temp_fd);
    }
    return r;
}

/* Is `file` NAME-<hash>.pack, or what is kept beside one? */
static bool pack_of(const char *file, const char *name)
{
    const size_t n = strlen(name);

    if (strncmp(file, name, n) != 0 || file[n] != '-' ||
        strspn(file + n + 1, "0123456789abcdef") != HASH_DIGITS) {
        return false;
    }
    const char *end = file + n + 1 + HASH_DIGITS;
    return strcmp(end, ".pack") == 0 || strcmp(end, ".tune") == 0;
}

static void remove_older(const char *final, const char *name)
{
    char dir[PACK_PATH_MAX];
    const char *slash = strrchr(final, '/');
    const size_t n_stem = strlen(slash + 1) - (sizeof(".pack") - 1); /* what both have */

    (void)snprintf(dir, sizeof(dir), "%.*s", (int)(slash - final), final);
    DIR *d = opendir(dir);
    if (!d) {
        return;
    }
    (void)fsync(dirfd(d)); /* the new name is on disk before the old file goes */
    for (struct dirent *e; (e = readdir(d));) {
        if (pack_of(e->d_name, name) && strncmp(e->d_name, slash + 1, n_stem) != 0) {
            (void)unlinkat(dirfd(d), e->d_name, 0);
        }
    }
    (void)closedir(d);
}

int pack_commit(int fd, const char *temp, const char *final, const char *name)
{
    /* Opened before it has a name that others know it by. */
    const int r = open(temp, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

    if (r < 0 || fsync(fd) < 0 || rename(temp, final) < 0) {
        const int e = -errno;
        (void)unlink(temp);
        if (r >= 0) {
            (void)close(r);
        }
        return e;
    }
    remove_older(final, name);
    return r;
}

/* A packed file in the making, or what is kept beside one. Of the latter's writers nobody holds a
 * lock: one whose file is swept away measures again. */
static bool is_temp(const char *file)
{
    const size_t n = strlen(file);
    const char *end = n < 6 ? "" : file + n - 4;

    return file[0] == '.' && (strcmp(end, ".tmp") == 0 || strcmp(end, ".new") == 0);
}

void pack_sweep(const char *cache_dir)
{
    DIR *d = opendir(cache_dir);

    if (!d) {
        return;
    }
    for (struct dirent *e; (e = readdir(d));) {
        if (!is_temp(e->d_name)) {
            continue;
        }
        const int fd = openat(dirfd(d), e->d_name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0) {
            (void)unlinkat(dirfd(d), e->d_name, 0);
        }
        if (fd >= 0) {
            (void)close(fd);
        }
    }
    (void)closedir(d);
}
