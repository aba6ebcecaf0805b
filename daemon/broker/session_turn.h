/* A turn of a session: what a request that names one does to it, from its admission to its end. */
#ifndef BROKER_SESSION_TURN_H
#define BROKER_SESSION_TURN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/strview.h"
#include "ipc/message.h"
#include "ipc/seam.h"

struct broker;
struct request;
struct session;

struct session_turn {
    struct session *session; /* borrowed: busy, so it stays until the turn ends */
    bool fresh;              /* begun by this request: without a good end it never was */
    size_t n_dropped;        /* messages of the session that we left out of the request */
    int32_t *prompt_ids;     /* owned: of the whole prompt, as the engine told; NULL: not told */
    size_t n_prompt_ids;
    struct buf text; /* owned: the answer so far */
    struct buf done; /* owned: its last frame, which waits until the disk has the turn */
};

/** sessions_open() - the table and what the folder holds; serves from memory alone without one */
void sessions_open(struct broker *b);

/** sessions_expire() - forget those unused for too long */
void sessions_expire(struct broker *b);

/**
 * session_turn_begin() - r goes on in the session that `asked` names
 * @ret_composed: the request for the engine; free with free(). Its views borrow from the session
 *                and from @asked.
 *
 * Return: true; or false, and then r has been answered and is gone.
 */
MUST_USE bool session_turn_begin(struct request *r, const struct msg_generate *asked,
                                 struct msg_generate **ret_composed);

/** session_turn_name() - empty where the request has no session */
struct strview session_turn_name(const struct request *r);

/** session_turn_fits() - is the model as the session knows it? False, and r is answered and
 * gone. */
MUST_USE bool session_turn_fits(struct request *r);

/** session_turn_history() - what the engine needs to know of the session beside the request */
void session_turn_history(const struct request *r, struct seam_start *start);

/* What the engine reports. r may have been answered with an error and be gone: false says so. */
void session_turn_started(struct request *r, const struct seam_started *s);
MUST_USE bool session_turn_text(struct request *r, struct strview text);
/** session_turn_trimmed() - messages that were left out, by us and by the engine */
uint32_t session_turn_trimmed(const struct request *r);
/** session_turn_done() - the turn joins the session */
MUST_USE bool session_turn_done(struct request *r, const struct seam_finished *f);

/**
 * session_turn_wait() - r is answered with `out`: is the disk to have its turn before that is said?
 *
 * True: out is taken; r has left the queue and ends when the disk has it, cannot have it, or takes
 * too long, and never otherwise than well. It may be gone already.
 */
MUST_USE bool session_turn_wait(struct request *r, struct buf *out);

/** session_turn_finish() - end r if it only waits for the disk; false: it does not */
bool session_turn_finish(struct request *r);

/** session_turn_end() - r ends, well or not: the session is free again */
void session_turn_end(struct request *r);

#endif
