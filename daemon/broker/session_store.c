/* session_store: the loop makes a file's bytes, a worker writes them.
 *
 * One job is out at a time, so that changes of one file keep their order: removals first, then the
 * session that has been dirty for longest, as it is at that moment. A file is made under another
 * name, synced and renamed: whoever reads finds the old turn or the new one, never half. */
#include "daemon/broker/session_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/whole_file.h"
#include "daemon/broker/log.h"

#define AGAIN_MS 30000u
#define TEMP_FILE ".writing.tmp" /* one job at a time: one name will do */
#define SUFFIX ".session"
#define ASIDE_LINES_MAX 20u /* in the log, of one start */

struct gone_file {
    struct list link;
    char file[SESSION_FILE_NAME_MAX];
};

static void next_job(struct session_store *st);

/* ---- the worker's part ---- */

static int write_file(int dir, struct session_job *job)
{
    const int r = session_file_seal(&job->bytes);

    return r < 0 ? r : whole_file_write(dir, job->file, TEMP_FILE, job->bytes.data, job->bytes.n);
}

static int remove_file(int dir, const char *file)
{
    if (unlinkat(dir, file, 0) < 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    return folder_sync(dir);
}

static void do_job(uv_work_t *work)
{
    struct session_job *job = container_of(work, struct session_job, work);
    const struct session_store *st = container_of(job, struct session_store, job);

    job->result = job->gone ? remove_file(st->dir, job->file) : write_file(st->dir, job);
}

/* ---- the loop's part ---- */

static void on_again(uv_timer_t *timer)
{
    next_job(timer->data);
}

/* The session that was in hand, when it is still there. */
static struct session *in_hand(const struct session_store *st)
{
    return session_find(st->table, st->job.uid, strview_of(st->job.name));
}

static void failed(struct session_store *st, int e)
{
    struct session_job *job = &st->job;
    struct session *s = job->gone ? NULL : in_hand(st);

    if (!st->failing) {
        log_line(LOG_ERR, "the sessions folder cannot be written: %s", strerror(-e));
    }
    st->failing = true;
    if (job->gone) {
        list_push(&st->gone, &job->gone->link);
        job->gone = NULL;
    }
    if (s && list_empty(&s->dirty_link)) {
        list_push(&st->dirty, &s->dirty_link);
    }
    if (!st->stopping) {
        (void)uv_timer_start(&st->again, on_again, AGAIN_MS, 0);
    }
    if (s) {
        st->settled(st->user, s);
    }
}

static void on_job(uv_work_t *work, int status)
{
    struct session_job *job = container_of(work, struct session_job, work);
    struct session_store *st = container_of(job, struct session_store, job);
    const int r = status < 0 ? status : job->result;

    st->working = false;
    buf_deinit(&job->bytes);
    if (r < 0) {
        failed(st, r);
        return;
    }
    struct session *s = job->gone ? NULL : in_hand(st);
    free(job->gone);
    job->gone = NULL;
    if (st->failing) {
        log_line(LOG_NOTICE, "the sessions folder can be written again");
        st->failing = false;
    }
    if (s) {
        st->settled(st->user, s);
    }
    next_job(st);
}

/* The bytes of the session that has waited for longest. */
static int take_dirty(struct session_store *st)
{
    struct session *s = container_of(st->dirty.next, struct session, dirty_link);
    struct session_job *job = &st->job;

    list_remove(&s->dirty_link);
    job->uid = s->uid;
    memcpy(job->name, s->name, sizeof(job->name));
    session_file_name(job->file, s->uid, strview_of(s->name));
    buf_init(&job->bytes, SESSION_FILE_MAX);
    return session_file_write(&job->bytes, s);
}

static void take_gone(struct session_store *st)
{
    struct gone_file *g = container_of(st->gone.next, struct gone_file, link);

    memcpy(st->job.file, g->file, sizeof(g->file));
    list_remove(&g->link);
    st->job.gone = g;
}

static void next_job(struct session_store *st)
{
    int r = 0;

    if (st->working || st->dir < 0) {
        return;
    }
    if (!list_empty(&st->gone)) {
        take_gone(st);
    } else if (!list_empty(&st->dirty)) {
        r = take_dirty(st);
    } else {
        return;
    }
    if (r == 0) {
        r = uv_queue_work(st->loop, &st->job.work, do_job, on_job);
    }
    if (r < 0) {
        buf_deinit(&st->job.bytes);
        failed(st, r);
        return;
    }
    st->working = true;
}

void session_store_changed(struct session_store *st, struct session *s)
{
    if (st->dir < 0) {
        return;
    }
    if (list_empty(&s->dirty_link)) {
        list_push(&st->dirty, &s->dirty_link);
    }
    next_job(st);
}

void session_store_gone(struct session_store *st, const struct session *s)
{
    if (st->dir < 0) {
        return;
    }
    struct gone_file *g = calloc(1, sizeof(*g));
    if (!g) {
        log_line(LOG_ERR, "no memory to remove a session's file");
        return;
    }
    list_init(&g->link);
    session_file_name(g->file, s->uid, strview_of(s->name));
    list_push(&st->gone, &g->link);
    next_job(st);
}

/* ---- the start ---- */

/* A file that is no session of ours is kept for a person to look at, out of our way. */
static void set_aside(const struct session_store *st, const char *file, const char *why,
                      unsigned line)
{
    char aside[NAME_MAX + 8];
    struct diag words = {0}; /* writes what is not printable as \xNN */
    int r = -1;

    for (unsigned i = 0; r < 0 && i < 10; i++) {
        const int n = snprintf(aside, sizeof(aside), i ? "%s.bad%u" : "%s.bad", file, i);
        if (n > NAME_MAX) {
            break;
        }
        r = renameat2(st->dir, file, st->dir, aside, RENAME_NOREPLACE);
    }
    if (line < ASIDE_LINES_MAX) {
        diag_set(&words, 0, "session file %s: %s; it is %s", file, why,
                 r == 0 ? "set aside" : "left alone");
        log_line(LOG_WARNING, "%s", words.text);
    }
}

/* NULL, or why the file is no session of this table. */
static const char *take_file(struct session_store *st, const char *file, uint64_t *bytes,
                             uint64_t total_bytes, struct diag *diag)
{
    char proper[SESSION_FILE_NAME_MAX];
    struct session *s = NULL;
    const char *why = NULL;
    struct buf in;

    buf_init(&in, SESSION_FILE_MAX);
    int r = whole_file_read(&in, st->dir, file, 0);
    if (r != WHOLE_FILE_OK) {
        buf_deinit(&in);
        return whole_file_why(r);
    }
    r = session_file_read(&s, in.data, in.n, diag);
    buf_deinit(&in);
    if (r != 0) {
        return r < 0 ? strerror(-r) : diag->text;
    }
    session_file_name(proper, s->uid, strview_of(s->name));
    *bytes += session_bytes(s);
    if (strcmp(proper, file) != 0) {
        why = "it holds another session than its name says";
    } else if (st->table->n >= SESSIONS_MAX || *bytes > total_bytes) {
        why = "there are more sessions than [sessions] allows";
    }
    if (why) {
        *bytes -= session_bytes(s);
        session_free(s);
        return why;
    }
    session_add(st->table, s);
    return NULL;
}

static bool ends_with(const char *name, const char *tail)
{
    const size_t n = strlen(name), k = strlen(tail);

    return n >= k && strcmp(name + n - k, tail) == 0;
}

static int load(struct session_store *st, uint64_t total_bytes)
{
    const int fd = openat(st->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    uint64_t bytes = 0;
    unsigned n_bad = 0;

    if (!d) {
        const int e = -errno;
        if (fd >= 0) {
            (void)close(fd);
        }
        return e;
    }
    for (struct dirent *e; (e = readdir(d));) {
        struct diag diag = {0};
        if (e->d_name[0] == '.' || !ends_with(e->d_name, SUFFIX)) {
            continue;
        }
        const char *why = take_file(st, e->d_name, &bytes, total_bytes, &diag);
        if (why) {
            set_aside(st, e->d_name, why, n_bad++);
        }
    }
    (void)closedir(d);
    if (n_bad > ASIDE_LINES_MAX) {
        log_line(LOG_WARNING, "%u session files in all could not be taken", n_bad);
    }
    return 0;
}

int session_store_open(struct session_store *st, const char *path, uint64_t total_bytes)
{
    int r = 0;

    st->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (st->dir < 0) {
        return -errno;
    }
    if (flock(st->dir, LOCK_EX | LOCK_NB) < 0) {
        r = -errno;
    } else {
        (void)unlinkat(st->dir, TEMP_FILE, 0);
        r = load(st, total_bytes);
    }
    if (r < 0) {
        (void)close(st->dir);
        st->dir = -1;
    }
    return r;
}

void session_store_init(struct session_store *st, uv_loop_t *loop, struct session_table *table,
                        void (*settled)(void *user, struct session *s), void *user)
{
    *st = (struct session_store){
        .loop = loop, .table = table, .dir = -1, .settled = settled, .user = user};
    list_init(&st->dirty);
    list_init(&st->gone);
    st->again.data = st;
    (void)uv_timer_init(loop, &st->again); /* cannot fail: it only fills the struct */
}

void session_store_stop(struct session_store *st)
{
    st->stopping = true;
    if (!uv_is_closing((uv_handle_t *)&st->again)) {
        uv_close((uv_handle_t *)&st->again, NULL);
    }
    next_job(st); /* one more try where the last one failed */
}

void session_store_deinit(struct session_store *st)
{
    list_for_each (g, next, &st->gone, struct gone_file, link) {
        free(g);
    }
    list_init(&st->gone);
    if (st->dir >= 0) {
        (void)close(st->dir);
        st->dir = -1;
    }
}
