/* session_store: the loop makes a file's bytes, a worker writes them.
 *
 * One job is out at a time, so that changes of one file keep their order: removals first, then the
 * session that has been dirty for longest, as it is at that moment. A file is made under another
 * name, synced and renamed: whoever reads finds the old turn or the new one, never half.
 *
 * What fails stands aside until the timer, so that one file nobody can write or remove keeps no
 * other from the disk. A removal that stands aside is over once a new session of that name has been
 * written in the file's place: else it would take the new one. */
#include "daemon/broker/session_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
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
    bool told; /* that it cannot be removed */
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
    struct stat st;

    if (unlinkat(dir, file, 0) < 0) {
        const int e = -errno;
        /* A folder that is read-only refuses before it looks. */
        const bool there = fstatat(dir, file, &st, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
        return there ? e : 0;
    }
    return folder_sync(dir);
}

static void do_job(uv_work_t *work)
{
    struct session_job *job = container_of(work, struct session_job, work);
    const struct session_store *st = container_of(job, struct session_store, job);

    job->result = job->removes ? remove_file(st->dir, job->file) : write_file(st->dir, job);
}

/* ---- the loop's part ---- */

static void append(struct list *to, struct list *from)
{
    while (!list_empty(from)) {
        struct list *first = from->next;
        list_remove(first);
        list_push(to, first);
    }
}

static void free_all(struct list *gone)
{
    list_for_each (g, next, gone, struct gone_file, link) {
        list_remove(&g->link);
        free(g);
    }
}

/* Move what is to be removed under this name. */
static void move_named(struct list *to, struct list *from, const char *file)
{
    list_for_each (g, next, from, struct gone_file, link) {
        if (strcmp(g->file, file) == 0) {
            list_remove(&g->link);
            list_push(to, &g->link);
        }
    }
}

static void try_again(struct session_store *st)
{
    append(&st->gone, &st->gone_later);
    append(&st->dirty, &st->dirty_later);
    next_job(st);
}

static void on_again(uv_timer_t *timer)
{
    try_again(timer->data);
}

/* The session that was in hand, when it is still there. */
static struct session *in_hand(const struct session_store *st)
{
    return session_find(st->table, st->job.uid, strview_of(st->job.name));
}

static void not_removed(struct session_store *st, int e)
{
    list_for_each (g, next, &st->job.gone, struct gone_file, link) {
        if (!g->told) {
            log_client(LOG_SESSIONS, LOG_ERR,
                       "session file %s cannot be removed: %s; it is tried again", g->file,
                       strerror(-e));
        }
        g->told = true;
    }
}

static void not_written(struct session_store *st, int e)
{
    struct session *s = in_hand(st);

    if (!st->failing) {
        log_line(LOG_ERR, "session file %s cannot be written: %s; it is tried again", st->job.file,
                 strerror(-e));
    }
    st->failing = true;
    if (s && list_empty(&s->dirty_link)) { /* else it has changed since, and is tried at once */
        list_push(&st->dirty_later, &s->dirty_link);
    }
    if (s) {
        st->settled(st->user, s);
    }
}

static void failed(struct session_store *st, int e)
{
    struct session_job *job = &st->job;

    if (job->removes) {
        not_removed(st, e);
    }
    append(&st->gone_later, &job->gone);
    if (!st->stopping && !uv_is_active((const uv_handle_t *)&st->again)) {
        (void)uv_timer_start(&st->again, on_again, AGAIN_MS, 0);
    }
    if (!job->removes) {
        not_written(st, e); /* last, since whoever hears of it may come back to us */
    }
}

static void succeeded(struct session_store *st)
{
    struct session *s = st->job.removes ? NULL : in_hand(st);

    free_all(&st->job.gone);
    if (st->failing && s && list_empty(&st->dirty) && list_empty(&st->dirty_later)) {
        log_line(LOG_NOTICE, "all sessions can be written again");
        st->failing = false;
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
    } else {
        succeeded(st);
    }
    next_job(st);
}

/* The bytes of the session that has waited for longest. */
static int take_dirty(struct session_store *st)
{
    struct session *s = container_of(st->dirty.next, struct session, dirty_link);
    struct session_job *job = &st->job;

    list_remove(&s->dirty_link);
    job->removes = false;
    job->uid = s->uid;
    memcpy(job->name, s->name, sizeof(job->name));
    session_file_name(job->file, s->uid, strview_of(s->name));
    move_named(&job->gone, &st->gone_later, job->file);
    buf_init(&job->bytes, SESSION_FILE_MAX);
    return session_file_write(&job->bytes, s);
}

static void take_gone(struct session_store *st)
{
    struct gone_file *g = container_of(st->gone.next, struct gone_file, link);

    memcpy(st->job.file, g->file, sizeof(g->file));
    st->job.removes = true;
    list_remove(&g->link);
    list_push(&st->job.gone, &g->link);
}

static void next_job(struct session_store *st)
{
    while (!st->working && st->dir >= 0 && !(list_empty(&st->gone) && list_empty(&st->dirty))) {
        int r = 0;
        if (!list_empty(&st->gone)) {
            take_gone(st);
        } else {
            r = take_dirty(st);
        }
        if (r == 0) {
            r = uv_queue_work(st->loop, &st->job.work, do_job, on_job);
        }
        if (r == 0) {
            st->working = true;
        } else {
            buf_deinit(&st->job.bytes);
            failed(st, r);
        }
    }
}

void session_store_changed(struct session_store *st, struct session *s)
{
    if (st->dir < 0) {
        return;
    }
    list_remove(&s->dirty_link);
    list_push(&st->dirty, &s->dirty_link);
    next_job(st);
}

static bool named(const struct list *gone, const char *file)
{
    list_for_each (g, next, gone, const struct gone_file, link) {
        if (strcmp(g->file, file) == 0) {
            return true;
        }
    }
    return false;
}

static bool add_gone(struct session_store *st, const char *file)
{
    struct gone_file *g = calloc(1, sizeof(*g));

    if (g) {
        (void)snprintf(g->file, sizeof(g->file), "%s", file);
        list_push(&st->gone, &g->link);
    }
    return g != NULL;
}

void session_store_gone(struct session_store *st, const struct session *s)
{
    char file[SESSION_FILE_NAME_MAX];

    if (st->dir < 0) {
        return;
    }
    session_file_name(file, s->uid, strview_of(s->name));
    move_named(&st->gone, &st->gone_later, file); /* of an earlier one of that name */
    if (!named(&st->gone, file) && !add_gone(st, file)) {
        log_line(LOG_ERR, "no memory to remove a session's file");
    }
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
    list_init(&st->dirty_later);
    list_init(&st->gone_later);
    list_init(&st->job.gone);
    st->again.data = st;
    (void)uv_timer_init(loop, &st->again); /* cannot fail: it only fills the struct */
}

void session_store_stop(struct session_store *st)
{
    st->stopping = true;
    if (!uv_is_closing((uv_handle_t *)&st->again)) {
        uv_close((uv_handle_t *)&st->again, NULL);
    }
    try_again(st);
}

void session_store_deinit(struct session_store *st)
{
    free_all(&st->gone);
    free_all(&st->gone_later);
    free_all(&st->job.gone);
    if (st->dir >= 0) {
        (void)close(st->dir);
        st->dir = -1;
    }
}
