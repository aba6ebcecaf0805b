/* Conversations that the daemon keeps. Each belongs to one uid, is pinned to the model it was begun
 * with, takes one turn at a time, and remembers its messages together with the token ids that the
 * engine made of them. Pure code: limits are arguments, and so is the time, in seconds since
 * 1970. */
#ifndef BROKER_SESSION_H
#define BROKER_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/compiler.h"
#include "base/list.h"
#include "daemon/broker/config.h"
#include "ipc/message.h"

#define SESSIONS_MAX 16384u /* of all users: each look for one walks over them */
/* What one may hold: a request's messages and the answer to it. */
#define SESSION_MESSAGES_MAX (MSG_MESSAGES_MAX + 1u)
#define SESSION_TEXT_MAX (2u << 20)   /* bytes of its messages */
#define SESSION_COMPOSED_MAX 1000000u /* bytes of a request's messages: with the rest, one frame */
#define SESSION_IDS_MAX MSG_TOKENS_MAX

/* What later turns go on with unless they say otherwise. */
struct session_pins {
    char model[MODEL_NAME_MAX + 1];
    char quantization[64], formats[128]; /* of the model's file, as the engine named them */
    char chat_template[MSG_NAME_MAX + 1];
    bool no_thinking;
    bool has_temperature, has_top_k, has_top_p, has_min_p, has_repeat_penalty, has_seed;
    float temperature, top_p, min_p, repeat_penalty;
    int32_t top_k;
    uint64_t seed;
};

struct session {
    struct list link;       /* in the table's list */
    struct list dirty_link; /* in the store's list while the disk is behind */
    uid_t uid;
    char name[MSG_SESSION_MAX + 1];
    uint64_t created_s, used_s;
    struct session_pins pins;
    struct msg_chat_message *messages; /* owned; views of `text` */
    size_t n_messages;
    char *text;    /* owned */
    size_t n_text; /* bytes */
    /* The engine's ids of the first n_covered messages, the last of which is an answer; they mean
     * something to the very model that `mark` stands for. */
    int32_t *ids; /* owned: (n_ids) */
    size_t n_ids, n_covered;
    uint64_t mark;
    size_t reserved; /* bytes charged for the turn that runs */
    bool busy;       /* a turn runs */
};

struct session_table {
    struct list all; /* owned: struct session */
    size_t n;
};

struct session_limits {
    uint64_t count, bytes; /* of one uid */
    uint64_t total_bytes;  /* of all */
    uint64_t age_s;        /* one unused for longer is forgotten */
};

void session_table_init(struct session_table *t);
void session_table_deinit(struct session_table *t);

/** session_new() - an empty one that belongs to no table; NULL: no memory. Free with
 * session_free(), or give it to a table. */
struct session *session_new(uid_t uid, struct strview name, uint64_t now_s);
void session_free(struct session *s); /* NULL is fine; takes it out of its lists */

/** session_find() - of this user, by name, or NULL */
struct session *session_find(const struct session_table *t, uid_t uid, struct strview name);

/** session_bytes() - what it is charged, a running turn included */
size_t session_bytes(const struct session *s);

/* Where a bound is reached, both counts. */
struct session_counts {
    uint64_t have, limit;
};

enum { SESSION_OK = 0, SESSION_COUNT, SESSION_BYTES, SESSION_TOTAL_BYTES, SESSION_TOTAL };

/**
 * session_admit() - is there room for a turn?
 * @s:    the session, or NULL for one to be begun
 * @more: bytes that the turn may add
 *
 * Return: SESSION_OK, or which bound is reached, with ret_counts.
 */
MUST_USE int session_admit(const struct session_table *t, const struct session_limits *limits,
                           uid_t uid, const struct session *s, uint64_t more,
                           struct session_counts *ret_counts);

/** session_turn_bytes() - what a turn is charged beforehand: its messages, their ids and an answer
 * of @max_tokens */
uint64_t session_turn_bytes(const struct msg_generate *asked, uint64_t max_tokens);

/** session_add() - to the table, which owns it from now on; its name is not in use */
void session_add(struct session_table *t, struct session *s);
/** session_remove() - out of the table and freed */
void session_remove(struct session_table *t, struct session *s);

/**
 * session_expired() - the next session that was unused for too long and has no turn, or NULL
 *
 * A clock that was not set (a board without a battery starts in 1970) forgets nothing: times before
 * 2024 count as unknown, and a session of unknown or future time gets the present one.
 */
struct session *session_expired(struct session_table *t, uint64_t age_s, uint64_t now_s);

/** session_pin() - take over what a first request says */
void session_pin(struct session *s, const struct msg_generate *asked);

/** session_mismatch() - the field of a later request that differs from what is pinned, or NULL */
const char *session_mismatch(const struct session *s, const struct msg_generate *asked);

/** session_same_weights() - is this what the session was begun with? True before its first turn. */
bool session_same_weights(const struct session *s, const char *quantization, const char *formats);

enum { SESSION_FITS = 0, SESSION_MANY_MESSAGES, SESSION_MANY_BYTES };

/**
 * session_compose() - the whole request for the engine: the session's messages, then the new ones
 * @asked:   with the new messages
 * @ret:     a request that names no session; views borrow from s and @asked
 * @ret_dropped: messages of the session left out, which happens with asked->trim alone
 * @ret_counts:  where it does not fit
 *
 * Turns are left out whole, the oldest first, and never the system messages at the very beginning.
 * Return: SESSION_FITS, or which bound of a request it passes.
 */
MUST_USE int session_compose(const struct session *s, const struct msg_generate *asked,
                             struct msg_generate *ret, size_t *ret_dropped,
                             struct session_counts *ret_counts);

/* How a turn went. All borrowed. */
struct session_outcome {
    const struct msg_chat_message *messages; /* of the composed request */
    size_t n_messages;
    size_t n_dropped; /* left out by session_compose() */
    size_t n_trimmed; /* of `messages`, left out by the engine: the first after the system ones */
    struct strview answer;
    const int32_t *prompt_ids, *answer_ids; /* prompt_ids NULL: they are not known */
    size_t n_prompt_ids, n_answer_ids;
    bool whole; /* the ids are all of the answer's text, and no more */
    const char *model, *quantization, *formats;
    uint64_t mark; /* of the model */
};

/**
 * session_commit() - the turn joins the history
 *
 * Return: 0, or -ENOMEM or -E2BIG with the session as it was.
 */
MUST_USE int session_commit(struct session *s, const struct session_outcome *o, uint64_t now_s);

#endif
