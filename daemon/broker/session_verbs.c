/* session_verbs: what a user may see of their sessions, as msgpack. */
#include "daemon/broker/session_verbs.h"

#include <stdio.h>

#include "daemon/broker/broker.h"
#include "daemon/broker/conn.h"
#include "daemon/broker/results.h"
#include "daemon/broker/session.h"
#include "daemon/broker/session_turn.h"
#include "ipc/frame.h"
#include "ipc/pack.h"

#define RESULT_MAX (FRAME_BODY_MAX - 64u)
#define FACTS_BYTES_MAX 4096u  /* of what is told beside the messages */
#define MESSAGE_KEYS_BYTES 32u /* of one message beside its texts */
#define FACTS 10u
#define LISTED_MAX 1500u /* of at most 600 bytes each */

static void pack_facts(struct packer *p, const struct session *s)
{
    pack_z(p, "name");
    pack_z(p, s->name);
    pack_z(p, "model");
    pack_str(p, strview_of(s->pins.model));
    pack_z(p, "quantization");
    pack_str(p, strview_of(s->pins.quantization));
    pack_z(p, "formats");
    pack_str(p, strview_of(s->pins.formats));
    pack_z(p, "messages");
    pack_uint(p, s->n_messages);
    pack_z(p, "tokens");
    pack_uint(p, s->n_ids);
    pack_z(p, "bytes");
    pack_uint(p, session_bytes(s));
    pack_z(p, "created_s");
    pack_uint(p, s->created_s);
    pack_z(p, "used_s");
    pack_uint(p, s->used_s);
    pack_z(p, "busy");
    pack_bool(p, s->busy);
}

void session_verbs_list(struct conn *c, uint32_t id)
{
    struct broker *b = c->broker;
    struct buf result;
    uint32_t n = 0;

    sessions_expire(b);
    list_for_each (s, next, &b->sessions.all, struct session, link) {
        n += s->uid == c->peer.uid && n < LISTED_MAX;
    }
    buf_init(&result, RESULT_MAX);
    struct packer p = packer_of(&result);
    pack_array(&p, n);
    list_for_each (own, next_own, &b->sessions.all, struct session, link) {
        if (own->uid == c->peer.uid && n > 0) {
            n--;
            pack_map(&p, FACTS);
            pack_facts(&p, own);
        }
    }
    results_send(c, id, &result, p.error);
}

/* Of this user, or NULL and answered. */
static struct session *find(struct conn *c, uint32_t id, struct strview name)
{
    struct session *s;
    char text[MSG_SESSION_MAX + 64];

    sessions_expire(c->broker);
    s = session_find(&c->broker->sessions, c->peer.uid, name);
    if (!s) {
        const int n = snprintf(text, sizeof(text), "uid %u has no session %.*s",
                               (unsigned)c->peer.uid, (int)name.n, name.data);
        const struct msg_error e = {.code = ERR_NO_SESSION,
                                    .message = {.data = text, .n = (size_t)n}};
        conn_error(c, id, &e);
    }
    return s;
}

/* The first message that is shown: of a history too long for a frame, only its end is. */
static size_t first_shown(const struct session *s)
{
    size_t at = s->n_messages, bytes = FACTS_BYTES_MAX;

    while (at > 0) {
        const struct msg_chat_message *m = &s->messages[at - 1];
        bytes += m->role.n + m->content.n + MESSAGE_KEYS_BYTES;
        if (bytes > RESULT_MAX) {
            break;
        }
        at--;
    }
    return at;
}

void session_verbs_show(struct conn *c, uint32_t id, struct strview name)
{
    const struct session *s = find(c, id, name);
    struct buf result;

    if (!s) {
        return;
    }
    const size_t first = first_shown(s);
    buf_init(&result, RESULT_MAX);
    struct packer p = packer_of(&result);
    pack_map(&p, FACTS + 2);
    pack_facts(&p, s);
    pack_z(&p, "first");
    pack_uint(&p, first);
    pack_z(&p, "history");
    pack_array(&p, (uint32_t)(s->n_messages - first));
    for (size_t i = first; i < s->n_messages; i++) {
        pack_map(&p, 2);
        pack_z(&p, "role");
        pack_str(&p, s->messages[i].role);
        pack_z(&p, "content");
        pack_str(&p, s->messages[i].content);
    }
    results_send(c, id, &result, p.error);
}

bool session_verbs_drop(struct conn *c, uint32_t id, struct strview name)
{
    struct session *s = find(c, id, name);

    if (!s) {
        return false;
    }
    if (s->busy) {
        const struct msg_error e = {
            .code = ERR_SESSION_BUSY,
            .message = strview_of("a turn of the session has not ended: cancel it first")};
        conn_error(c, id, &e);
        return false;
    }
    session_store_gone(&c->broker->session_store, s);
    session_remove(&c->broker->sessions, s);
    return true;
}
