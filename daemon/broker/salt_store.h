/* Salts on disk, so that KV which lies there is found again after a restart: one file in the cache
 * folder, for the daemon's user alone. */
#ifndef BROKER_SALT_STORE_H
#define BROKER_SALT_STORE_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/buf.h"
#include "daemon/broker/salts.h"

#define SALT_FILE "salts"

struct salt_store {
    uv_loop_t *loop;     /* borrowed */
    struct salts *salts; /* borrowed */
    const char *dir;     /* borrowed */
    uv_timer_t later;    /* gathers what comes together; after a failure, until the next try */
    uv_work_t work;
    struct buf bytes;   /* owned: what the worker writes */
    uint64_t n_written; /* salts->n_drawn of what is on disk */
    uint64_t n_writing; /* and of what the worker has in hand */
    int result;
    bool wanted;   /* some KV goes to disk */
    bool working;  /* the worker has `bytes` */
    bool failing;  /* the last write failed; the log has said so */
    bool stopping; /* no waiting any more */
};

/** salt_store_init() - its timer is the loop's until salt_store_stop(). @dir: the cache folder;
 * both are borrowed */
void salt_store_init(struct salt_store *st, uv_loop_t *loop, struct salts *salts, const char *dir);

/**
 * salt_store_read() - fill the empty table from the file
 *
 * Also where no KV goes to disk yet: a reload may switch that on, and then the file that stands
 * there has to hold for what lies beside it. Whoever had drawn another salt meanwhile could not
 * have both.
 *
 * Reads from this thread: call before anybody is served. No file is no failure; one that others
 * could read or write, that is not ours, or that is damaged, counts for nothing as a whole, with a
 * line in the log.
 */
void salt_store_read(struct salt_store *st);

/** salt_store_keep() - KV goes to disk from now on: so do the salts, those there are and those that
 * come */
void salt_store_keep(struct salt_store *st);

/** salt_store_look() - write soon where a salt has come since; cheap, for every turn of the loop */
void salt_store_look(struct salt_store *st);

/** salt_store_stop() - close the timer; what is not on disk yet is still written while the loop
 * runs */
void salt_store_stop(struct salt_store *st);

#endif
