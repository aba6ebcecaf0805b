/* session: the table and what a turn does to one of its rows.
 *
 * A turn has two ends. session_compose() makes one ordinary request of the history and the new
 * messages; session_commit() builds the new history from that very request and the answer, in new
 * memory, and swaps it in last: a turn that fails on the way has changed nothing. */
#include "daemon/broker/session.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/broker/quantization.h"

#define CLOCK_SET_S UINT64_C(1704067200) /* 2024: no clock of ours can be right before that */
#define MESSAGE_FRAME_BYTES 32u          /* of a message's keys and lengths in a frame, at most */
#define ANSWER_TOKEN_BYTES 12u           /* an id and its text */
#define RESERVED_TOKENS_MAX 65536u

void session_table_init(struct session_table *t)
{
    list_init(&t->all);
    t->n = 0;
}

void session_table_deinit(struct session_table *t)
{
    list_for_each (s, next, &t->all, struct session, link) {
        session_free(s);
    }
    session_table_init(t);
}

struct session *session_new(uid_t uid, struct strview name, uint64_t now_s)
{
    struct session *s = calloc(1, sizeof(*s));

    if (s) {
        assert(name.n < sizeof(s->name));
        list_init(&s->link);
        list_init(&s->dirty_link);
        s->uid = uid;
        s->created_s = s->used_s = now_s;
        strview_copy(s->name, sizeof(s->name), name);
    }
    return s;
}

void session_free(struct session *s)
{
    if (s) {
        list_remove(&s->link);
        list_remove(&s->dirty_link);
        free(s->messages);
        free(s->text);
        free(s->ids);
        free(s);
    }
}

struct session *session_find(const struct session_table *t, uid_t uid, struct strview name)
{
    list_for_each (s, next, &t->all, struct session, link) {
        if (s->uid == uid && strview_is(name, s->name)) {
            return s;
        }
    }
    return NULL;
}

size_t session_bytes(const struct session *s)
{
    return sizeof(*s) + s->n_messages * sizeof(*s->messages) + s->n_text +
           s->n_ids * sizeof(*s->ids) + s->reserved;
}

static int bound(int which, uint64_t have, uint64_t limit, struct session_counts *ret)
{
    *ret = (struct session_counts){.have = have, .limit = limit};
    return which;
}

int session_admit(const struct session_table *t, const struct session_limits *limits, uid_t uid,
                  const struct session *s, uint64_t more, struct session_counts *ret_counts)
{
    uint64_t n = 0, own = 0, all = 0;

    list_for_each (other, next, &t->all, struct session, link) {
        const uint64_t bytes = session_bytes(other);
        all += bytes;
        if (other->uid == uid) {
            own += bytes;
            n++;
        }
    }
    if (!s) {
        more += sizeof(*s);
        if (n >= limits->count) {
            return bound(SESSION_COUNT, n, limits->count, ret_counts);
        }
        if (t->n >= SESSIONS_MAX) {
            return bound(SESSION_TOTAL, t->n, SESSIONS_MAX, ret_counts);
        }
    }
    if (own + more > limits->bytes) {
        return bound(SESSION_BYTES, own + more, limits->bytes, ret_counts);
    }
    if (all + more > limits->total_bytes) {
        return bound(SESSION_TOTAL_BYTES, all + more, limits->total_bytes, ret_counts);
    }
    return SESSION_OK;
}

uint64_t session_turn_bytes(const struct msg_generate *asked, uint64_t max_tokens)
{
    const uint64_t tokens = asked->max_tokens > 0 ? asked->max_tokens : max_tokens;
    uint64_t text = 0;

    for (size_t i = 0; i < asked->n_messages; i++) {
        text += asked->messages[i].role.n + asked->messages[i].content.n +
                sizeof(struct msg_chat_message);
    }
    /* Text has some four bytes a token, and an id has four. */
    return 2 * text +
           (tokens < RESERVED_TOKENS_MAX ? tokens : RESERVED_TOKENS_MAX) * ANSWER_TOKEN_BYTES;
}

void session_add(struct session_table *t, struct session *s)
{
    list_push(&t->all, &s->link);
    t->n++;
}

void session_remove(struct session_table *t, struct session *s)
{
    session_free(s);
    t->n--;
}

struct session *session_expired(struct session_table *t, uint64_t age_s, uint64_t now_s)
{
    if (now_s < CLOCK_SET_S) {
        return NULL;
    }
    list_for_each (s, next, &t->all, struct session, link) {
        if (s->used_s < CLOCK_SET_S || s->used_s > now_s) {
            s->used_s = now_s;
        }
        if (!s->busy && now_s - s->used_s > age_s) {
            return s;
        }
    }
    return NULL;
}

void session_pin(struct session *s, const struct msg_generate *asked)
{
    struct session_pins *p = &s->pins;

    *p = (struct session_pins){
        .no_thinking = asked->no_thinking,
        .has_temperature = asked->has_temperature,
        .has_top_k = asked->has_top_k,
        .has_top_p = asked->has_top_p,
        .has_min_p = asked->has_min_p,
        .has_repeat_penalty = asked->has_repeat_penalty,
        .has_seed = asked->has_seed,
        .temperature = asked->temperature,
        .top_p = asked->top_p,
        .min_p = asked->min_p,
        .repeat_penalty = asked->repeat_penalty,
        .top_k = asked->top_k,
        .seed = asked->seed,
    };
    strview_copy(p->model, sizeof(p->model), asked->model);
    strview_copy(p->chat_template, sizeof(p->chat_template), asked->chat_template);
}

const char *session_mismatch(const struct session *s, const struct msg_generate *asked)
{
    const struct session_pins *p = &s->pins;
    char name[MSG_NAME_MAX + 1];

    strview_copy(name, sizeof(name), asked->quantization);
    if (asked->model.n > 0 && !strview_is(asked->model, p->model)) {
        return "model";
    }
    if (name[0] && !quantization_fits(name, p->quantization, p->formats)) {
        return "quantization";
    }
    if (asked->chat_template.n > 0 && !strview_is(asked->chat_template, p->chat_template)) {
        return "chat_template";
    }
    return asked->no_thinking && !p->no_thinking ? "no_thinking" : NULL;
}

bool session_same_weights(const struct session *s, const char *quantization, const char *formats)
{
    const struct session_pins *p = &s->pins;

    if (!p->quantization[0]) {
        return true;
    }
    if (strcmp(p->quantization, quantization) != 0) {
        return false;
    }
    return strcmp(quantization, "other") != 0 || strcmp(p->formats, formats) == 0;
}

/* The request with what the session is pinned to where it says nothing itself. */
static void fill_in(struct msg_generate *g, const struct session_pins *p)
{
    g->has_session = false;
    g->session = (struct strview){0};
    g->model = strview_of(p->model);
    g->chat_template = strview_of(p->chat_template);
    g->no_thinking = p->no_thinking;
    if (!g->has_temperature && p->has_temperature) {
        g->has_temperature = true;
        g->temperature = p->temperature;
    }
    if (!g->has_top_k && p->has_top_k) {
        g->has_top_k = true;
        g->top_k = p->top_k;
    }
    if (!g->has_top_p && p->has_top_p) {
        g->has_top_p = true;
        g->top_p = p->top_p;
    }
    if (!g->has_min_p && p->has_min_p) {
        g->has_min_p = true;
        g->min_p = p->min_p;
    }
    if (!g->has_repeat_penalty && p->has_repeat_penalty) {
        g->has_repeat_penalty = true;
        g->repeat_penalty = p->repeat_penalty;
    }
    if (!g->has_seed && p->has_seed) {
        g->has_seed = true;
        g->seed = p->seed;
    }
}

static size_t framed(const struct msg_chat_message *m)
{
    return m->role.n + m->content.n + MESSAGE_FRAME_BYTES;
}

/* The system messages at the very beginning: they are never left out. */
static size_t head_of(const struct msg_chat_message *messages, size_t n)
{
    size_t head = 0;

    while (head < n && strview_is(messages[head].role, "system")) {
        head++;
    }
    return head;
}

/* The messages of the session that one more turn takes along: a question and all up to the next. */
static size_t turn_length(const struct session *s, size_t at)
{
    size_t n = 1;

    while (at + n < s->n_messages && !strview_is(s->messages[at + n].role, "user")) {
        n++;
    }
    return n;
}

int session_compose(const struct session *s, const struct msg_generate *asked,
                    struct msg_generate *ret, size_t *ret_dropped,
                    struct session_counts *ret_counts)
{
    const size_t head = head_of(s->messages, s->n_messages);
    size_t n = s->n_messages + asked->n_messages, bytes = 0, dropped = 0;

    for (size_t i = 0; i < s->n_messages; i++) {
        bytes += framed(&s->messages[i]);
    }
    for (size_t i = 0; i < asked->n_messages; i++) {
        bytes += framed(&asked->messages[i]);
    }
    while (n > MSG_MESSAGES_MAX || bytes > SESSION_COMPOSED_MAX) {
        if (!asked->trim || head + dropped >= s->n_messages) {
            return n > MSG_MESSAGES_MAX
                       ? bound(SESSION_MANY_MESSAGES, n, MSG_MESSAGES_MAX, ret_counts)
                       : bound(SESSION_MANY_BYTES, bytes, SESSION_COMPOSED_MAX, ret_counts);
        }
        const size_t turn = turn_length(s, head + dropped);
        for (size_t i = 0; i < turn; i++) {
            bytes -= framed(&s->messages[head + dropped + i]);
        }
        dropped += turn;
        n -= turn;
    }
    *ret = *asked;
    fill_in(ret, &s->pins);
    ret->n_messages = 0;
    for (size_t i = 0; i < s->n_messages; i++) {
        if (i < head || i >= head + dropped) {
            ret->messages[ret->n_messages++] = s->messages[i];
        }
    }
    for (size_t i = 0; i < asked->n_messages; i++) {
        ret->messages[ret->n_messages++] = asked->messages[i];
    }
    *ret_dropped = dropped;
    return SESSION_FITS;
}

/* ---- the end of a turn ---- */

/* A history under construction. */
struct history {
    struct msg_chat_message *messages; /* owned */
    char *text;                        /* owned */
    size_t n, n_text;
};

static struct strview put(struct history *h, struct strview from)
{
    const struct strview v = {.data = h->text + h->n_text, .n = from.n};

    if (from.n > 0) {
        memcpy(h->text + h->n_text, from.data, from.n);
        h->n_text += from.n;
    }
    return v;
}

static bool kept(const struct session_outcome *o, size_t i)
{
    const size_t head = head_of(o->messages, o->n_messages);

    return i < head || i >= head + o->n_trimmed;
}

static int build(struct history *ret, const struct session_outcome *o)
{
    static const struct strview assistant = {.data = "assistant", .n = 9};
    size_t n = 1, n_text = assistant.n + o->answer.n;

    for (size_t i = 0; i < o->n_messages; i++) {
        if (kept(o, i)) {
            n++;
            n_text += o->messages[i].role.n + o->messages[i].content.n;
        }
    }
    if (n > SESSION_MESSAGES_MAX || n_text > SESSION_TEXT_MAX) {
        return -E2BIG;
    }
    *ret = (struct history){.messages = calloc(n, sizeof(*ret->messages)), .text = malloc(n_text)};
    if (!ret->messages || !ret->text) {
        free(ret->messages);
        free(ret->text);
        return -ENOMEM;
    }
    for (size_t i = 0; i < o->n_messages; i++) {
        if (kept(o, i)) {
            struct msg_chat_message *m = &ret->messages[ret->n++];
            m->role = put(ret, o->messages[i].role);
            m->content = put(ret, o->messages[i].content);
        }
    }
    struct msg_chat_message *answer = &ret->messages[ret->n++];
    answer->role = put(ret, assistant);
    answer->content = put(ret, o->answer);
    return 0;
}

/* The new ids; where there can be none, the old ones stay as far as they still fit the history: an
 * answer cut at a stop string has ids that its text has not. */
static int take_ids(struct session *s, const struct session_outcome *o, size_t n_messages)
{
    const size_t n = o->n_prompt_ids + o->n_answer_ids;

    if (!o->prompt_ids || !o->whole || n == 0 || n > SESSION_IDS_MAX ||
        n_messages >= MSG_MESSAGES_MAX) {
        if (o->n_dropped + o->n_trimmed > 0 || o->mark != s->mark) {
            s->n_ids = s->n_covered = 0;
        }
        return 0;
    }
    int32_t *ids = malloc(n * sizeof(*ids));
    if (!ids) {
        return -ENOMEM;
    }
    memcpy(ids, o->prompt_ids, o->n_prompt_ids * sizeof(*ids));
    if (o->n_answer_ids > 0) {
        memcpy(ids + o->n_prompt_ids, o->answer_ids, o->n_answer_ids * sizeof(*ids));
    }
    free(s->ids);
    s->ids = ids;
    s->n_ids = n;
    s->n_covered = n_messages;
    return 0;
}

static void copy_name(char *to, size_t room, const char *from)
{
    strview_copy(to, room, strview_of(from));
}

int session_commit(struct session *s, const struct session_outcome *o, uint64_t now_s)
{
    struct history h;

    assert(o->n_messages > 0);
    int r = build(&h, o);
    if (r < 0) {
        return r;
    }
    r = take_ids(s, o, h.n);
    if (r < 0) {
        free(h.messages);
        free(h.text);
        return r;
    }
    free(s->messages);
    free(s->text);
    s->messages = h.messages;
    s->text = h.text;
    s->n_messages = h.n;
    s->n_text = h.n_text;
    s->mark = o->mark;
    s->used_s = now_s;
    copy_name(s->pins.model, sizeof(s->pins.model), o->model);
    copy_name(s->pins.quantization, sizeof(s->pins.quantization), o->quantization);
    copy_name(s->pins.formats, sizeof(s->pins.formats), o->formats);
    return 0;
}
