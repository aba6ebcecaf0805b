/* The broker: everything the loop's callbacks share. One thread. */
#ifndef BROKER_BROKER_H
#define BROKER_BROKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "base/compiler.h"
#include "base/list.h"
#include "daemon/broker/acceptor.h"
#include "daemon/broker/answer_cache.h"
#include "daemon/broker/backoff.h"
#include "daemon/broker/config.h"
#include "daemon/broker/conn_memory.h"
#include "daemon/broker/gap.h"
#include "daemon/broker/gate.h"
#include "daemon/broker/identity.h"
#include "daemon/broker/ladder.h"
#include "daemon/broker/metrics_server.h"
#include "daemon/broker/metrics_text.h"
#include "daemon/broker/queue.h"
#include "daemon/broker/residency.h"
#include "daemon/broker/runner_proc.h"
#include "daemon/broker/salt_store.h"
#include "daemon/broker/scan.h"
#include "daemon/broker/sched.h"
#include "daemon/broker/session.h"
#include "daemon/broker/session_store.h"
#include "daemon/broker/throttle.h"
#include "daemon/broker/wedge.h"
#include "ipc/seam.h"

struct board;
struct memory_sense;
struct request;

/* What the running engine has said about itself. */
struct engine_facts {
    bool known;        /* has said it */
    char pack_id[128]; /* of the packed files it maps */
    char cpu[32];
    char confined[32]; /* by what the process is; empty: not told */
    uint32_t n_threads;
    struct seam_stats stats;
    uint64_t program_bytes, heap_bytes; /* of its process: ledger.h */
    uint64_t asked_ns;                  /* when it was last asked for its memory */
};

/* A public prefix that the engine is computing. */
struct priming {
    uint64_t seq; /* 0: none */
    char name[PREFIX_NAME_MAX + 1];
};

struct broker {
    uv_loop_t *loop;      /* borrowed */
    struct config config; /* owned */
    char *runner_path;    /* owned */
    const char *sysroot;  /* borrowed; before each /proc and /sys that the sensors read */
    uid_t own_uid;
    uint64_t started_ns;

    struct acceptor acceptor; /* open while listening */
    struct list conns;        /* owned: struct conn */
    size_t n_conns;
    size_t conns_room;       /* connections that there are descriptors for; 0: enough */
    uint64_t held[MEMORIES]; /* bytes of all of them: conn_charge() */
    struct identities identities;
    struct salt_store salt_store;
    uv_timer_t gate_timer; /* when the next of them may go on */
    struct gate gate;      /* the limits of all identities, and who waits for one */
    uv_timer_t sweep;      /* of identities that nobody uses */

    struct runner_proc runner;
    struct wedge wedge;
    struct backoff backoff;
    uv_timer_t restart; /* runs while a restart is due */
    bool restart_due;
    struct engine_facts engine;
    uint32_t n_restarts;
    struct seam_plan sent; /* the plan this engine has */

    struct queue queue;
    struct sched sched;       /* over queue */
    struct ladder ladder;     /* what is done about memory that runs short */
    struct throttle throttle; /* what memory and heat want of it */
    struct list models;       /* owned: struct model */
    struct residency residency;
    uint32_t n_models_ever;
    struct priming primings[CONFIG_PREFIXES_MAX];
    struct list pack_children; /* owned: struct pack_child */
    struct list scan_waiters;  /* requests that wait for the folder to be read */
    struct list scan_late;     /* that came while it was being read: they wait for another look */
    bool scanning;
    struct model_listing *listing; /* owned: the latest; NULL: none yet */
    int32_t *ids;                  /* owned: scratch for the ids of one report */
    size_t n_ids_room;

    struct answer_cache answers;
    struct session_table sessions;
    struct session_store session_store;
    uv_timer_t session_hours;    /* looks for sessions that are too old */
    uv_timer_t session_patience; /* runs while turns wait for the disk */

    uv_prepare_t prepare; /* brings engine and models up to date before the loop sleeps */
    bool dirty;
    uv_timer_t deadlines; /* the nearest deadline of a request, or a look before it */
    struct gap gap;
    uint64_t deadline_ns; /* where it stands; UINT64_MAX: nowhere */
    uv_timer_t drain;
    uint64_t n_suppressed; /* lines left out of the log, at the last look */
    uv_timer_t log_more;   /* runs while lines were left out of the log and not told of */
    bool draining, stopping;
    bool socket_stays;   /* somebody else keeps it: the next daemon takes who connects meanwhile */
    uint32_t n_reloads;  /* times that the configuration was read again */
    bool reload_refused; /* the last of them */
    void (*stopped)(struct broker *b); /* the last handle may be closed now */

    struct board *board;        /* owned; NULL: it has no sensors */
    struct memory_sense *sense; /* owned; NULL: nobody looks at memory */

    uint64_t n_requests_ever, n_done, n_failed, n_tokens, n_prompt_tokens;
    uint64_t n_drafted, n_accepted; /* guesses of all engine processes; those right */
    struct metrics metrics;
    struct metrics_server metrics_server; /* zeroed: no second socket */
    uint64_t mean_ms;                     /* how long a request takes, a running average */
};

/**
 * broker_init() - ready to listen, engine started
 * @config:  taken over, also on failure
 * @sysroot: "" or a folder; borrowed for the broker's life
 * Return: 0 or a negative errno; broker_deinit() in either case, after the loop has run out.
 */
MUST_USE int broker_init(struct broker *b, uv_loop_t *loop, struct config *config,
                         char *runner_path, const char *sysroot);
void broker_deinit(struct broker *b);

/** broker_listen() - serve an open listening socket; @fd is taken over */
MUST_USE int broker_listen(struct broker *b, int fd);

/** broker_moment() - both clocks */
struct moment broker_moment(void);

/** broker_sweep_later() - an identity may have become idle */
void broker_sweep_later(struct broker *b);

/** broker_dirty() - something changed that the engine's plan may depend on */
void broker_dirty(struct broker *b);

/** broker_drain() - refuse new requests, let the others end, then stop; twice: stop now */
void broker_drain(struct broker *b);

/** broker_reload() - take over a new configuration; what cannot change is kept and named in the
 * log.
 * @config: its contents are taken over */
void broker_reload(struct broker *b, struct config *config);

/** broker_watch_deadline() - a request with a deadline came */
void broker_watch_deadline(struct broker *b, uint64_t deadline_ns);

/** broker_scan() - read the model folder; the request goes on in verbs_resolve() */
void broker_scan(struct broker *b, struct request *r);

/** broker_pin() - see to the models that the configuration wants loaded */
void broker_pin(struct broker *b);

#endif
