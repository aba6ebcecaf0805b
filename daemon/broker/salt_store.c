/* salt_store: the loop makes the file's bytes, a worker writes them: under another name, synced, renamed. So whoever reads
 * finds the old salts or the new ones, never half. */
#include "daemon/broker/salt_store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/compiler.h"
#include "daemon/broker/log.h"

#define LATER_MS 1000u
#define AGAIN_MS 30000u
#define TEMP_FILE "salts.new" /* one write at a time: one name will do */

static void start_write(struct salt_store *st);

/* ---- the worker's part ---- */

static int write_all(int fd, const uint8_t *data, size_t n)
{
    while (n > 0) {
        const ssize_t done = write(fd, data, n);
        if (done < 0 && errno != EINTR) {
            return -errno;
        }
        if (done > 0) {
            data += done;
            n -= (size_t)done;
        }
    }
    return 0;
}

static int write_file(int dir, struct buf *bytes)
{
    int r = salts_seal(bytes);

    if (r < 0) {
        return r;
    }
    (void)unlinkat(dir, TEMP_FILE, 0); /* of a write that failed */
    const int fd =
        openat(dir, TEMP_FILE, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        return -errno;
    }
    r = write_all(fd, bytes->data, bytes->n);
    if (r == 0 && fsync(fd) < 0) {
        r = -errno;
    }
    (void)close(fd);
    if (r == 0 && renameat(dir, TEMP_FILE, dir, SALT_FILE) < 0) {
        r = -errno;
    }
    if (r < 0) {
        (void)unlinkat(dir, TEMP_FILE, 0);
    }
    return r;
}

static void do_write(uv_work_t *work)
{
    struct salt_store *st = container_of(work, struct salt_store, work);
    const int dir = open(st->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (dir < 0) {
        st->result = -errno;
        return;
    }
    st->result = write_file(dir, &st->bytes);
    if (st->result == 0 && fsync(dir) < 0) {
        st->result = -errno;
    }
    (void)close(dir);
}

/* ---- the loop's part ---- */

static void on_later(uv_timer_t *timer)
{
    start_write(timer->data);
}

static void failed(struct salt_store *st, int e)
{
    if (!st->failing) {
        log_line(LOG_ERR, "the salts of KV on disk cannot be written to %s: %s", st->dir,
                 strerror(-e));
    }
    st->failing = true;
    if (!st->stopping) {
        (void)uv_timer_start(&st->later, on_later, AGAIN_MS, 0);
    }
}

static void on_written(uv_work_t *work, int status)
{
    struct salt_store *st = container_of(work, struct salt_store, work);
    const int r = status < 0 ? status : st->result;

    st->working = false;
    buf_deinit(&st->bytes);
    if (r < 0) {
        failed(st, r);
        return;
    }
    st->failing = false;
    st->n_written = st->n_writing;
    if (st->stopping) {
        start_write(st); /* what came while it wrote */
    }
}

static bool behind(const struct salt_store *st)
{
    return st->wanted && !st->working && st->n_written != st->salts->n_drawn;
}

static void start_write(struct salt_store *st)
{
    if (!behind(st)) {
        return;
    }
    buf_init(&st->bytes, SALTS_FILE_MAX);
    int r = salts_write(&st->bytes, st->salts);
    if (r == 0) {
        r = uv_queue_work(st->loop, &st->work, do_write, on_written);
    }
    if (r < 0) {
        buf_deinit(&st->bytes);
        failed(st, r);
        return;
    }
    st->n_writing = st->salts->n_drawn;
    st->working = true;
}

void salt_store_look(struct salt_store *st)
{
    if (behind(st) && !st->stopping && !uv_is_active((const uv_handle_t *)&st->later)) {
        uv_update_time(st->loop);
        (void)uv_timer_start(&st->later, on_later, LATER_MS, 0);
    }
}

void salt_store_keep(struct salt_store *st)
{
    st->wanted = true;
    salt_store_look(st);
}

void salt_store_stop(struct salt_store *st)
{
    st->stopping = true;
    if (!uv_is_closing((uv_handle_t *)&st->later)) {
        uv_close((uv_handle_t *)&st->later, NULL);
    }
    start_write(st); /* one more try where the last one failed */
}

/* ---- the start ---- */

/* The file's bytes: NULL, or why not. */
static const char *read_whole(int fd, struct buf *out)
{
    struct stat st;

    if (fstat(fd, &st) < 0) {
        return strerror(errno);
    }
    if (!S_ISREG(st.st_mode)) {
        return "it is no file";
    }
    if (st.st_uid != geteuid() || (st.st_mode & 077) != 0) {
        return "others can read or write it";
    }
    if ((uint64_t)st.st_size > SALTS_FILE_MAX) {
        return "it is too long";
    }
    int r = buf_reserve(out, (size_t)st.st_size);
    while (r == 0 && out->n < (size_t)st.st_size) {
        const ssize_t got = read(fd, out->data + out->n, (size_t)st.st_size - out->n);
        if (got <= 0) {
            r = got < 0 ? -errno : -EIO;
            break;
        }
        out->n += (size_t)got;
    }
    return r < 0 ? strerror(-r) : NULL;
}

void salt_store_read(struct salt_store *st)
{
    char path[PATH_MAX];
    struct diag diag = {0};
    struct buf in;

    if (snprintf(path, sizeof(path), "%s/%s", st->dir, SALT_FILE) >= (int)sizeof(path)) {
        return;
    }
    const int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    const int e = fd < 0 ? errno : 0;
    if (e == ENOENT) {
        return;
    }
    buf_init(&in, SALTS_FILE_MAX);
    const char *why = e ? strerror(e) : read_whole(fd, &in);
    const int r = why ? SALTS_OK : salts_read(st->salts, in.data, in.n, &diag);
    if (r != SALTS_OK) {
        why = r < 0 ? strerror(-r) : diag.text;
    }
    if (why) {
        log_line(LOG_WARNING, "%s: %s; KV that was kept on disk is not found again", path, why);
    }
    buf_deinit(&in);
    if (fd >= 0) {
        (void)close(fd);
    }
}

void salt_store_init(struct salt_store *st, uv_loop_t *loop, struct salts *salts, const char *dir)
{
    *st = (struct salt_store){.loop = loop, .salts = salts, .dir = dir};
    st->later.data = st;
    (void)uv_timer_init(loop, &st->later); /* cannot fail: it only fills the struct */
}
