/* session_file: a magic word, fixed fields, the messages, the ids and a checksum, all
 * little-endian.
 *
 * The checksum finds rot, not malice: who can write into the folder can write a sum as well. So
 * each length is compared with the bytes that are left before anything is allocated for it. */
#include "daemon/broker/session_file.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cursor.h"
#include "base/fnv.h"
#include "ipc/mp.h"

#define MAGIC "onebses1"
#define MAGIC_BYTES 8u
#define SUM_BYTES 8u

enum { /* bits of the flags */
       HAS_TEMPERATURE = 1u << 0,
       HAS_TOP_K = 1u << 1,
       HAS_TOP_P = 1u << 2,
       HAS_MIN_P = 1u << 3,
       HAS_REPEAT_PENALTY = 1u << 4,
       HAS_SEED = 1u << 5,
       NO_THINKING = 1u << 6,
       ALL_FLAGS = (1u << 7) - 1,
};

void session_file_name(char *ret, uid_t uid, struct strview name)
{
    (void)snprintf(ret, SESSION_FILE_NAME_MAX, "%u-%.*s.session", (unsigned)uid, (int)name.n,
                   name.n ? name.data : "");
}

/* ---- writing ---- */

struct writer {
    struct buf *out; /* borrowed */
    int error;       /* the first */
};

static void put_bytes(struct writer *w, const void *data, size_t n)
{
    if (w->error == 0 && n > 0) {
        w->error = buf_append(w->out, data, n);
    }
}

static void put_le(struct writer *w, uint64_t v, unsigned bytes)
{
    uint8_t le[8];

    for (unsigned i = 0; i < bytes; i++) {
        le[i] = (uint8_t)(v >> (8 * i));
    }
    put_bytes(w, le, bytes);
}

static void put_f32(struct writer *w, float v)
{
    uint32_t bits;

    memcpy(&bits, &v, sizeof(bits));
    put_le(w, bits, 4);
}

static void put_name(struct writer *w, const char *z)
{
    put_le(w, strlen(z), 2);
    put_bytes(w, z, strlen(z));
}

static void put_pins(struct writer *w, const struct session_pins *p)
{
    const unsigned flags = (p->has_temperature ? HAS_TEMPERATURE : 0) |
                           (p->has_top_k ? HAS_TOP_K : 0) | (p->has_top_p ? HAS_TOP_P : 0) |
                           (p->has_min_p ? HAS_MIN_P : 0) |
                           (p->has_repeat_penalty ? HAS_REPEAT_PENALTY : 0) |
                           (p->has_seed ? HAS_SEED : 0) | (p->no_thinking ? NO_THINKING : 0);

    put_name(w, p->model);
    put_name(w, p->quantization);
    put_name(w, p->formats);
    put_name(w, p->chat_template);
    put_le(w, flags, 4);
    put_f32(w, p->temperature);
    put_f32(w, p->top_p);
    put_f32(w, p->min_p);
    put_f32(w, p->repeat_penalty);
    put_le(w, (uint32_t)p->top_k, 4);
    put_le(w, p->seed, 8);
}

int session_file_write(struct buf *out, const struct session *s)
{
    const size_t start = out->n;
    struct writer w = {.out = out};

    put_bytes(&w, MAGIC, MAGIC_BYTES);
    put_le(&w, s->uid, 4);
    put_le(&w, s->created_s, 8);
    put_le(&w, s->used_s, 8);
    put_le(&w, s->mark, 8);
    put_name(&w, s->name);
    put_pins(&w, &s->pins);
    put_le(&w, s->n_messages, 4);
    for (size_t i = 0; i < s->n_messages; i++) {
        put_le(&w, s->messages[i].role.n, 4);
        put_le(&w, s->messages[i].content.n, 4);
        put_bytes(&w, s->messages[i].role.data, s->messages[i].role.n);
        put_bytes(&w, s->messages[i].content.data, s->messages[i].content.n);
    }
    put_le(&w, s->n_covered, 4);
    put_le(&w, s->n_ids, 4);
    for (size_t i = 0; i < s->n_ids; i++) {
        put_le(&w, (uint32_t)s->ids[i], 4);
    }
    if (w.error < 0) {
        out->n = start;
    }
    return w.error;
}

int session_file_seal(struct buf *out)
{
    struct writer w = {.out = out};

    put_le(&w, fnv_add(FNV_START, out->data, out->n), SUM_BYTES);
    return w.error;
}

/* ---- reading ---- */

static int bad(struct diag *diag, const char *what)
{
    diag_set(diag, 0, "%s", what);
    return SESSION_FILE_BAD;
}

/* A text of up to room - 1 bytes, without a NUL inside. */
static bool take_name(struct cursor *c, char *to, size_t room)
{
    const uint16_t n = cursor_u16(c);
    const uint8_t *p = n < room ? cursor_take(c, n) : NULL;

    if (!p || (n > 0 && memchr(p, '\0', n))) {
        c->bad = true;
        return false;
    }
    strview_copy(to, room, (struct strview){.data = (const char *)p, .n = n});
    return true;
}

static bool within(float v, float lo, float hi)
{
    return isfinite(v) && v >= lo && v <= hi;
}

static bool pins_sound(const struct session_pins *p)
{
    return model_name_valid(strview_of(p->model)) && mp_utf8_valid(strview_of(p->chat_template)) &&
           (!p->has_temperature || within(p->temperature, 0, MSG_TEMPERATURE_MAX)) &&
           (!p->has_top_p || (within(p->top_p, 0, 1) && p->top_p > 0)) &&
           (!p->has_min_p || (within(p->min_p, 0, 1) && p->min_p < 1)) &&
           (!p->has_repeat_penalty || within(p->repeat_penalty, 0.1f, 10)) &&
           (!p->has_top_k || p->top_k >= 0);
}

static bool take_pins(struct cursor *c, struct session_pins *p)
{
    if (!take_name(c, p->model, sizeof(p->model)) ||
        !take_name(c, p->quantization, sizeof(p->quantization)) ||
        !take_name(c, p->formats, sizeof(p->formats)) ||
        !take_name(c, p->chat_template, sizeof(p->chat_template))) {
        return false;
    }
    const uint32_t flags = cursor_u32(c);
    p->has_temperature = flags & HAS_TEMPERATURE;
    p->has_top_k = flags & HAS_TOP_K;
    p->has_top_p = flags & HAS_TOP_P;
    p->has_min_p = flags & HAS_MIN_P;
    p->has_repeat_penalty = flags & HAS_REPEAT_PENALTY;
    p->has_seed = flags & HAS_SEED;
    p->no_thinking = flags & NO_THINKING;
    p->temperature = cursor_f32(c);
    p->top_p = cursor_f32(c);
    p->min_p = cursor_f32(c);
    p->repeat_penalty = cursor_f32(c);
    p->top_k = (int32_t)cursor_u32(c);
    p->seed = cursor_u64(c);
    return !c->bad && flags <= ALL_FLAGS && pins_sound(p);
}

/* One message where the cursor stands; its views are of the file's bytes. */
static bool take_message(struct cursor *c, struct msg_chat_message *ret)
{
    const uint32_t n_role = cursor_u32(c), n_content = cursor_u32(c);
    const uint8_t *role = cursor_take(c, n_role), *content = cursor_take(c, n_content);

    if (!role || !content || n_role < 1 || n_role > MSG_NAME_MAX) {
        return false;
    }
    ret->role = (struct strview){.data = (const char *)role, .n = n_role};
    ret->content = (struct strview){.data = (const char *)content, .n = n_content};
    return mp_utf8_valid(ret->role) && mp_utf8_valid(ret->content);
}

static struct strview copy(struct session *s, struct strview from)
{
    const struct strview v = {.data = s->text + s->n_text, .n = from.n};

    if (from.n > 0) {
        memcpy(s->text + s->n_text, from.data, from.n);
        s->n_text += from.n;
    }
    return v;
}

static int take_messages(struct cursor *c, struct session *s)
{
    const uint32_t n = cursor_u32(c);
    struct cursor look = *c;
    struct msg_chat_message m;
    size_t n_text = 0;

    if (n < 1 || n > SESSION_MESSAGES_MAX) {
        return SESSION_FILE_BAD;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (!take_message(&look, &m)) {
            return SESSION_FILE_BAD;
        }
        n_text += m.role.n + m.content.n;
    }
    if (n_text > SESSION_TEXT_MAX) {
        return SESSION_FILE_BAD;
    }
    s->messages = calloc(n, sizeof(*s->messages));
    s->text = malloc(n_text); /* not 0: each role has a byte */
    if (!s->messages || !s->text) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < n && take_message(c, &m); i++) {
        s->messages[s->n_messages].role = copy(s, m.role);
        s->messages[s->n_messages++].content = copy(s, m.content);
    }
    return SESSION_FILE_OK;
}

static int take_ids(struct cursor *c, struct session *s)
{
    const uint32_t n_covered = cursor_u32(c), n = cursor_u32(c);

    if (c->bad || n > SESSION_IDS_MAX || cursor_left(c) != (uint64_t)n * 4 ||
        n_covered > s->n_messages || n_covered >= MSG_MESSAGES_MAX ||
        (n_covered == 0) != (n == 0)) {
        return SESSION_FILE_BAD;
    }
    if (n == 0) {
        return SESSION_FILE_OK;
    }
    s->ids = malloc(n * sizeof(*s->ids));
    if (!s->ids) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < n; i++) {
        s->ids[i] = (int32_t)cursor_u32(c);
        if (s->ids[i] < 0) {
            return SESSION_FILE_BAD;
        }
    }
    s->n_ids = n;
    s->n_covered = n_covered;
    return SESSION_FILE_OK;
}

int session_file_read(struct session **ret, const void *data, size_t n, struct diag *ret_diag)
{
    if (n < MAGIC_BYTES + SUM_BYTES || memcmp(data, MAGIC, MAGIC_BYTES) != 0) {
        return bad(ret_diag, "it is no session of this version");
    }
    struct cursor tail = cursor_of((const uint8_t *)data + n - SUM_BYTES, SUM_BYTES);
    struct cursor c = cursor_of(data, n - SUM_BYTES);
    if (n > SESSION_FILE_MAX || cursor_u64(&tail) != fnv_add(FNV_START, data, n - SUM_BYTES)) {
        return bad(ret_diag, "its checksum is wrong");
    }
    (void)cursor_take(&c, MAGIC_BYTES);
    const uint32_t uid = cursor_u32(&c);
    const uint64_t created_s = cursor_u64(&c), used_s = cursor_u64(&c), mark = cursor_u64(&c);
    char name[MSG_SESSION_MAX + 1];
    if (!take_name(&c, name, sizeof(name)) || !session_name_valid(strview_of(name))) {
        return bad(ret_diag, "its name is no name of a session");
    }
    struct session *s = session_new(uid, strview_of(name), created_s);
    if (!s) {
        return -ENOMEM;
    }
    s->used_s = used_s;
    s->mark = mark;
    int r = take_pins(&c, &s->pins) ? SESSION_FILE_OK : bad(ret_diag, "its settings are damaged");
    if (r == SESSION_FILE_OK && (r = take_messages(&c, s)) == SESSION_FILE_BAD) {
        (void)bad(ret_diag, "its messages are damaged");
    }
    if (r == SESSION_FILE_OK && (r = take_ids(&c, s)) == SESSION_FILE_BAD) {
        (void)bad(ret_diag, "its token ids are damaged");
    }
    if (r == SESSION_FILE_OK) {
        *ret = s;
        s = NULL;
    }
    session_free(s);
    return r;
}
