/* salt_store: the loop makes the file's bytes, a worker writes them: under another name, synced,
 * renamed. So whoever reads finds the old salts or the new ones, never half. */
#include "daemon/broker/salt_store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/compiler.h"
#include "base/whole_file.h"
#include "daemon/broker/log.h"

#define LATER_MS 1000u
#define AGAIN_MS 30000u
#define TEMP_FILE "salts.new" /* one write at a time: one name will do */

static void start_write(struct salt_store *st);

/* ---- the worker's part ---- */

static void do_write(uv_work_t *work)
{
    struct salt_store *st = container_of(work, struct salt_store, work);
    const int dir = open(st->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (dir < 0) {
        st->result = -errno;
        return;
    }
    st->result = salts_seal(&st->bytes);
    if (st->result == 0) {
        st->result = whole_file_write(dir, SALT_FILE, TEMP_FILE, st->bytes.data, st->bytes.n);
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

void salt_store_read(struct salt_store *st)
{
    char path[PATH_MAX];
    struct diag diag = {0};
    struct buf in;

    if (snprintf(path, sizeof(path), "%s/%s", st->dir, SALT_FILE) >= (int)sizeof(path)) {
        return;
    }
    buf_init(&in, SALTS_FILE_MAX);
    int r = whole_file_read(&in, AT_FDCWD, path, WHOLE_FILE_PRIVATE);
    const char *why = r != WHOLE_FILE_OK ? whole_file_why(r) : NULL;
    if (r == WHOLE_FILE_OK && (r = salts_read(st->salts, in.data, in.n, &diag)) != SALTS_OK) {
        why = r < 0 ? strerror(-r) : diag.text;
    }
    if (why && r != -ENOENT) {
        log_line(LOG_WARNING, "%s: %s; KV that was kept on disk is not found again", path, why);
    }
    buf_deinit(&in);
}

void salt_store_init(struct salt_store *st, uv_loop_t *loop, struct salts *salts, const char *dir)
{
    *st = (struct salt_store){.loop = loop, .salts = salts, .dir = dir};
    st->later.data = st;
    (void)uv_timer_init(loop, &st->later); /* cannot fail: it only fills the struct */
}
