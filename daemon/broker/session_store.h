/* Sessions on disk: a file each, written behind the loop's back after every turn, read once when
 * the daemon starts. */
#ifndef BROKER_SESSION_STORE_H
#define BROKER_SESSION_STORE_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/list.h"
#include "daemon/broker/session.h"
#include "daemon/broker/session_file.h"

/* What the worker has in hand. */
struct session_job {
    uv_work_t work;
    char file[SESSION_FILE_NAME_MAX];
    uid_t uid; /* of the session, with `name` */
    char name[MSG_SESSION_MAX + 1];
    bool removes;     /* the file goes; else it is written */
    struct list gone; /* owned gone_files: what is removed, or what the new file replaces */
    struct buf bytes; /* owned */
    int result;
};

struct session_store {
    uv_loop_t *loop;             /* borrowed; NULL: no folder, sessions live in memory alone */
    struct session_table *table; /* borrowed */
    int dir;                     /* owned, locked; -1: none */
    struct list dirty;           /* sessions that the disk does not have as they are */
    struct list gone;            /* owned: files to be removed */
    struct list dirty_later;     /* could not be written; tried again when the timer says so */
    struct list gone_later;      /* owned: could not be removed; likewise */
    struct session_job job;
    bool working;     /* the worker has the job */
    bool failing;     /* a write failed, and not all have succeeded since; the log has said so */
    bool stopping;    /* no retries any more */
    uv_timer_t again; /* after a failure */
    /* This session has been written, or could not be; it may be called from within
     * session_store_changed(). */
    void (*settled)(void *user, struct session *s);
    void *user; /* borrowed */
};

/** session_store_init() - without a folder; its timer is the loop's until session_store_stop().
 * @settled: see the struct */
void session_store_init(struct session_store *st, uv_loop_t *loop, struct session_table *table,
                        void (*settled)(void *user, struct session *s), void *user);

/**
 * session_store_open() - use this folder, made by its owner, and read what is in it into the table
 * @total_bytes: bound of what is read
 *
 * Reads from this thread: call before anybody is served. A file that cannot be read as a session is
 * set aside under another name, with a line in the log. Return: 0, or a negative errno
 * (-EWOULDBLOCK: another daemon uses it).
 */
MUST_USE int session_store_open(struct session_store *st, const char *path, uint64_t total_bytes);

/** session_store_changed() - write this session soon */
void session_store_changed(struct session_store *st, struct session *s);

/** session_store_gone() - remove its file; call before session_remove() */
void session_store_gone(struct session_store *st, const struct session *s);

/** session_store_stop() - close the timer; what is not on disk yet is still written while the loop
 * runs */
void session_store_stop(struct session_store *st);

/** session_store_deinit() - after the loop has run out */
void session_store_deinit(struct session_store *st);

#endif
