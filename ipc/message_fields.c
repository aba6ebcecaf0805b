/* message_fields: what each message may carry, row by row, with its bounds. PROTOCOL.md says the
 * same for people. */
#include "ipc/message_fields.h"

#include <assert.h>
#include <float.h>

#include "ipc/frame.h"
#include "ipc/mp.h"

/* --- words --- */

const char *request_class_name(enum request_class c)
{
    static const char *const names[CLASSES] = {"low", "normal", "high"};

    return (unsigned)c < CLASSES ? names[c] : "unknown";
}

bool request_class_parse(struct strview name, enum request_class *ret)
{
    for (unsigned i = 0; i < CLASSES; i++) {
        if (strview_is(name, request_class_name((enum request_class)i))) {
            *ret = (enum request_class)i;
            return true;
        }
    }
    return false;
}

const char *progress_phase_name(enum progress_phase p)
{
    static const char *const names[PHASES] = {"queued", "loading", "prefill", "restarting",
                                              "paused"};

    return (unsigned)p < PHASES ? names[p] : "unknown";
}

bool session_name_valid(struct strview name)
{
    if (name.n < 1 || name.n > MSG_SESSION_MAX || name.data[0] == '.') {
        return false;
    }
    for (size_t i = 0; i < name.n; i++) {
        const char c = name.data[i];
        const bool letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        if (!letter && !(c >= '0' && c <= '9') && c != '.' && c != '_' && c != '-') {
            return false;
        }
    }
    return true;
}

static const char *class_word(unsigned i)
{
    return request_class_name((enum request_class)i);
}

static const char *phase_word(unsigned i)
{
    return progress_phase_name((enum progress_phase)i);
}

/* --- hello --- */

static bool protocol_read(struct field_in *in, void *obj)
{
    struct msg_hello *m = obj;
    struct mp_value v, major, minor;

    if (!mp_next(&in->c, &v) || v.type != MP_ARRAY || v.n != 2 || !mp_next(&in->c, &major) ||
        !mp_next(&in->c, &minor) || major.type != MP_INT || minor.type != MP_INT ||
        major.u > UINT16_MAX || minor.u > UINT16_MAX) {
        return field_refuse(in, "protocol", "want an array of two whole numbers up to 65535");
    }
    m->major = (uint32_t)major.u;
    m->minor = (uint32_t)minor.u;
    return true;
}

static void protocol_write(struct packer *p, const void *obj, const struct field_extra *x)
{
    const struct msg_hello *m = obj;

    (void)x;
    pack_array(p, 2);
    pack_uint(p, m->major);
    pack_uint(p, m->minor);
}

#define AT(member) .at = offsetof(struct msg_hello, member)
static const struct field hello_rows[] = {
    {"protocol", FIELD_OWN, FIELD_REQUIRED, .read = protocol_read, .write = protocol_write},
    {"name", FIELD_BYTES, AT(name), .max = MSG_NAME_MAX},
    {"features", FIELD_TEXTS, AT(features), .n_at = offsetof(struct msg_hello, n_features),
     .items_max = MSG_FEATURES_MAX, .min = 1, .max = MSG_NAME_MAX},
    {"required", FIELD_TEXTS, AT(required), .n_at = offsetof(struct msg_hello, n_required),
     .items_max = MSG_FEATURES_MAX, .min = 1, .max = MSG_NAME_MAX},
    /* of the server alone: */
    {"frame_bytes_max", FIELD_U32, FIELD_ALWAYS, AT(frame_bytes_max), .max = UINT32_MAX},
    {"requests_max", FIELD_U32, FIELD_ALWAYS, AT(requests_max), .max = UINT32_MAX},
    {"uid", FIELD_U32, FIELD_ALWAYS, AT(uid), .max = UINT32_MAX},
    {"gid", FIELD_U32, FIELD_ALWAYS, AT(gid), .max = UINT32_MAX},
    {"pid", FIELD_U32, FIELD_ALWAYS, AT(pid), .max = UINT32_MAX},
    {"default_model", FIELD_BYTES, AT(default_model), .max = MSG_NAME_MAX},
};
#undef AT

/* --- generate --- */

#define AT(member) .at = offsetof(struct msg_chat_message, member)
static const struct field chat_rows[] = {
    {"role", FIELD_TEXT, FIELD_REQUIRED, AT(role), .min = 1, .max = MSG_NAME_MAX},
    {"content", FIELD_TEXT, FIELD_REQUIRED, AT(content), .max = FRAME_BODY_MAX},
};
#undef AT

static bool messages_read(struct field_in *in, void *obj)
{
    struct msg_generate *m = obj;
    struct mp_value list, map;
    uint64_t seen;

    if (!mp_next(&in->c, &list) || list.type != MP_ARRAY || list.n < 1 ||
        list.n > MSG_MESSAGES_MAX) {
        return field_refuse(in, "messages", "want an array of 1 to 256 maps");
    }
    for (uint32_t i = 0; i < list.n; i++) {
        if (!mp_next(&in->c, &map) || map.type != MP_MAP) {
            return field_refuse(in, "messages", "want maps with role and content");
        }
        if (!fields_read(in, map.n, chat_rows, ARRAY_SIZE(chat_rows), &m->messages[i], &seen)) {
            return false;
        }
    }
    m->n_messages = list.n;
    return true;
}

static void messages_write(struct packer *p, const void *obj, const struct field_extra *x)
{
    const struct msg_generate *m = obj;

    assert(m->n_messages <= MSG_MESSAGES_MAX);
    pack_array(p, (uint32_t)m->n_messages);
    for (size_t i = 0; i < m->n_messages; i++) {
        pack_map(p, ARRAY_SIZE(chat_rows));
        fields_write(p, chat_rows, ARRAY_SIZE(chat_rows), &m->messages[i], x);
    }
}

static bool when_text(const void *obj, const struct field_extra *x)
{
    (void)x;
    return ((const struct msg_generate *)obj)->kind == PROMPT_TEXT;
}

static bool when_chat(const void *obj, const struct field_extra *x)
{
    (void)x;
    return ((const struct msg_generate *)obj)->kind == PROMPT_CHAT;
}

static bool when_ids(const void *obj, const struct field_extra *x)
{
    (void)x;
    return ((const struct msg_generate *)obj)->kind == PROMPT_IDS;
}

static bool when_not_normal(const void *obj, const struct field_extra *x)
{
    (void)x;
    return ((const struct msg_generate *)obj)->class_ != CLASS_NORMAL;
}

#define AT(member) .at = offsetof(struct msg_generate, member)
#define HAS(member) .has_at = offsetof(struct msg_generate, has_##member), AT(member)
static const struct field generate_rows[] = {
    /* The first three are the kinds of prompt, in the order of the enum. */
    {"prompt", FIELD_TEXT, AT(prompt), .max = FRAME_BODY_MAX, .when = when_text},
    {"messages", FIELD_OWN, .read = messages_read, .write = messages_write, .when = when_chat},
    {"ids", FIELD_IDS, AT(ids), .min = 1, .max = MSG_TOKENS_MAX, .when = when_ids},
    {"model", FIELD_TEXT, AT(model), .max = MSG_NAME_MAX},
    {"chat_template", FIELD_TEXT, AT(chat_template), .max = MSG_NAME_MAX},
    {"no_thinking", FIELD_BOOL, AT(no_thinking)},
    {"quantization", FIELD_TEXT, AT(quantization), .max = MSG_NAME_MAX},
    {"class", FIELD_WORD, AT(class_), .max = CLASSES, .word = class_word, .when = when_not_normal},
    {"max_tokens", FIELD_U32, AT(max_tokens), .max = MSG_TOKENS_MAX},
    {"ignore_eos", FIELD_BOOL, AT(ignore_eos)},
    {"temperature", FIELD_F32, HAS(temperature), .lo = 0.0f, .hi = MSG_TEMPERATURE_MAX,
     .range = TEMPERATURE_RANGE},
    {"top_k", FIELD_I32, HAS(top_k), .max = INT32_MAX},
    {"top_p", FIELD_F32, HAS(top_p), .lo = FLT_TRUE_MIN, .hi = 1.0f, .range = "(0, 1]"},
    {"min_p", FIELD_F32, HAS(min_p), .lo = 0.0f, .hi = 1.0f - FLT_EPSILON / 2, .range = "[0, 1)"},
    {"repeat_penalty", FIELD_F32, HAS(repeat_penalty), .lo = 0.1f, .hi = 10.0f,
     .range = "[0.1, 10]"},
    {"seed", FIELD_U64, HAS(seed), .max = UINT64_MAX},
    {"stop", FIELD_TEXTS, AT(stops), .n_at = offsetof(struct msg_generate, n_stops),
     .items_max = MSG_STOPS_MAX, .min = 1, .max = MSG_STOP_BYTES_MAX},
    {"logprobs", FIELD_U32, AT(n_logprobs), .max = MSG_LOGPROBS_MAX},
    {"deadline_ms", FIELD_U32, .has_at = offsetof(struct msg_generate, has_deadline),
     AT(deadline_ms), .max = UINT32_MAX},
    {"session", FIELD_TEXT, HAS(session), .max = MSG_SESSION_MAX},
    {"trim", FIELD_BOOL, AT(trim)},
    {"no_cache", FIELD_BOOL, AT(no_cache)},
};
#undef HAS
#undef AT

static bool session_check(struct field_in *in, const struct msg_session *m)
{
    return session_name_valid(m->session) ||
           field_refuse(in, "session",
                        "want 1 to 64 letters, digits, '.', '_' and '-', no '.' first");
}

static bool generate_check(struct field_in *in, void *obj, uint64_t seen)
{
    struct msg_generate *m = obj;

    if (m->has_session) {
        const struct msg_session s = {.session = m->session};
        if (m->session.n > 0 && !session_check(in, &s)) {
            return false;
        }
        if ((seen & 7) != 1u << PROMPT_CHAT) {
            return field_refuse(in, "session", "want messages, not prompt or ids, with it");
        }
    }
    switch (seen & 7) {
    case 1u << PROMPT_TEXT:
        m->kind = PROMPT_TEXT;
        return true;
    case 1u << PROMPT_CHAT:
        m->kind = PROMPT_CHAT;
        return true;
    case 1u << PROMPT_IDS:
        m->kind = PROMPT_IDS;
        return true;
    default:
        return field_refuse(in, "prompt", "want exactly one of prompt, messages and ids");
    }
}

/* --- the other requests --- */

static const struct field cancel_rows[] = {
    {"target", FIELD_U32, .at = offsetof(struct msg_cancel, target), .max = UINT32_MAX},
    {"request", FIELD_U64, .at = offsetof(struct msg_cancel, global), .max = UINT64_MAX},
};

static bool cancel_check(struct field_in *in, void *obj, uint64_t seen)
{
    const struct msg_cancel *m = obj;

    (void)seen;
    if ((m->target != 0) == (m->global != 0)) {
        return field_refuse(in, "target", "want exactly one of target and request, not 0");
    }
    return true;
}

static const struct field model_rows[] = {
    {"model", FIELD_TEXT, FIELD_REQUIRED, .at = offsetof(struct msg_model, model), .min = 1,
     .max = MSG_NAME_MAX},
};

static const struct field session_rows[] = {
    {"session", FIELD_TEXT, FIELD_REQUIRED, .at = offsetof(struct msg_session, session), .min = 1,
     .max = MSG_SESSION_MAX},
};

static bool session_rows_check(struct field_in *in, void *obj, uint64_t seen)
{
    (void)seen;
    return session_check(in, obj);
}

/* --- replies --- */

static const struct field accepted_rows[] = {
    {"request", FIELD_U64, FIELD_REQUIRED, .at = offsetof(struct msg_accepted, global), .min = 1,
     .max = UINT64_MAX},
    {"position", FIELD_U32, FIELD_ALWAYS, .at = offsetof(struct msg_accepted, position),
     .max = UINT32_MAX},
    {"model", FIELD_BYTES, .at = offsetof(struct msg_accepted, model), .max = MSG_NAME_MAX},
    {"session", FIELD_TEXT, .at = offsetof(struct msg_accepted, session), .max = MSG_SESSION_MAX},
};

static const struct field progress_rows[] = {
    {"phase", FIELD_WORD, FIELD_REQUIRED, .at = offsetof(struct msg_progress, phase), .max = PHASES,
     .word = phase_word},
    {"done", FIELD_U64, FIELD_ALWAYS, .at = offsetof(struct msg_progress, done), .max = UINT64_MAX},
    {"total", FIELD_U64, FIELD_ALWAYS, .at = offsetof(struct msg_progress, total),
     .max = UINT64_MAX},
    {"reason", FIELD_TEXT, .at = offsetof(struct msg_progress, reason), .max = MSG_REASON_MAX},
};

static bool delta_logprobs_read(struct field_in *in, void *obj)
{
    struct msg_delta *m = obj;

    return logprobs_read(in, &m->logprobs, &m->n_logprobs);
}

static bool delta_logprobs_when(const void *obj, const struct field_extra *x)
{
    (void)obj;
    return logprobs_given(x);
}

static void delta_logprobs_write(struct packer *p, const void *obj, const struct field_extra *x)
{
    (void)obj;
    logprobs_write(p, x);
}

#define AT(member) .at = offsetof(struct msg_delta, member)
static const struct field delta_rows[] = {
    {"index", FIELD_U32, FIELD_REQUIRED, AT(n0), .max = MSG_TOKENS_MAX},
    {"ids", FIELD_IDS, AT(ids), .max = MSG_TOKENS_MAX},
    {"text", FIELD_TEXT, AT(text), .max = FRAME_BODY_MAX},
    {"logprobs", FIELD_OWN, .read = delta_logprobs_read, .write = delta_logprobs_write,
     .when = delta_logprobs_when},
};
#undef AT

static bool delta_check(struct field_in *in, void *obj, uint64_t seen)
{
    const struct msg_delta *m = obj;

    (void)seen;
    if (m->n_logprobs != 0 && m->n_logprobs != m->ids.n) {
        return field_refuse(in, "logprobs", "want one row for each id");
    }
    return true;
}

#define AT(member) .at = offsetof(struct msg_done, member)
static const struct field done_rows[] = {
    {"finish_reason", FIELD_BYTES, AT(finish_reason), .max = MSG_NAME_MAX},
    {"prompt_tokens", FIELD_U32, FIELD_ALWAYS, AT(prompt_tokens), .max = UINT32_MAX},
    {"cached_tokens", FIELD_U32, FIELD_ALWAYS, AT(cached_tokens), .max = UINT32_MAX},
    {"answer_tokens", FIELD_U32, FIELD_ALWAYS, AT(answer_tokens), .max = UINT32_MAX},
    {"seed", FIELD_U64, FIELD_ALWAYS, AT(seed), .max = UINT64_MAX},
    {"queue_us", FIELD_U64, FIELD_ALWAYS, AT(queue_us), .max = UINT64_MAX},
    {"prefill_us", FIELD_U64, FIELD_ALWAYS, AT(prefill_us), .max = UINT64_MAX},
    {"decode_us", FIELD_U64, FIELD_ALWAYS, AT(decode_us), .max = UINT64_MAX},
    {"restarts", FIELD_U32, FIELD_ALWAYS, AT(restarts), .max = UINT32_MAX},
    {"model", FIELD_BYTES, AT(model), .max = MSG_NAME_MAX},
    {"formats", FIELD_BYTES, AT(formats), .max = MSG_NAME_MAX},
    {"quantization", FIELD_BYTES, AT(quantization), .max = MSG_NAME_MAX},
    {"kv", FIELD_BYTES, AT(kv), .max = MSG_NAME_MAX},
    {"cpu", FIELD_BYTES, AT(cpu), .max = MSG_NAME_MAX},
    {"trimmed", FIELD_U32, AT(trimmed), .max = UINT32_MAX},
    {"cached_answer", FIELD_BOOL, AT(cached_answer)},
};
#undef AT

#define AT(member) .at = offsetof(struct msg_error, member)
static const struct field error_rows[] = {
    {"name", FIELD_BYTES, FIELD_REQUIRED, AT(name), .min = 1, .max = MSG_NAME_MAX},
    {"number", FIELD_U16, FIELD_REQUIRED, AT(number), .max = 999},
    {"message", FIELD_BYTES, FIELD_ALWAYS, AT(message), .max = FRAME_BODY_MAX},
    {"retryable", FIELD_BOOL, FIELD_ALWAYS, AT(retryable)},
    {"retry_after_ms", FIELD_U32, AT(retry_after_ms), .max = UINT32_MAX},
    {"hint", FIELD_BYTES, FIELD_ALWAYS, AT(hint), .max = FRAME_BODY_MAX},
    {"have", FIELD_U64, AT(have), .max = UINT64_MAX},
    {"limit", FIELD_U64, AT(limit), .max = UINT64_MAX},
};
#undef AT

/* A name this version does not know stands for the first one with its number: a newer server's kind
 * of 429 is still a reason to wait. */
static bool error_check(struct field_in *in, void *obj, uint64_t seen)
{
    struct msg_error *m = obj;

    (void)in;
    (void)seen;
    m->code = error_by_name(m->name);
    for (unsigned i = ERR_NONE + 1; i < ERR_CODES && m->code == ERR_NONE; i++) {
        if (error_info((enum error_code)i)->number == m->number) {
            m->code = (enum error_code)i;
        }
    }
    if (m->code == ERR_NONE) {
        m->code = ERR_INTERNAL;
    }
    return true;
}

#define ROWS(rows_) .rows = rows_, .n = ARRAY_SIZE(rows_)
const struct message_shape message_shapes[MSG_TYPES] = {
    [MSG_HELLO] = {"hello", ROWS(hello_rows), .of_connection = true},
    [MSG_GENERATE] = {"generate", ROWS(generate_rows), .check = generate_check},
    [MSG_CANCEL] = {"cancel", ROWS(cancel_rows), .check = cancel_check},
    [MSG_LIST] = {"list"},
    [MSG_PS] = {"ps"},
    [MSG_STATUS] = {"status"},
    [MSG_LOAD] = {"load", ROWS(model_rows)},
    [MSG_UNLOAD] = {"unload", ROWS(model_rows)},
    [MSG_METRICS] = {"metrics"},
    [MSG_SESSIONS] = {"sessions"},
    [MSG_SESSION] = {"session", ROWS(session_rows), .check = session_rows_check},
    [MSG_SESSION_DROP] = {"session_drop", ROWS(session_rows), .check = session_rows_check},
    [MSG_ACCEPTED] = {"accepted", ROWS(accepted_rows)},
    [MSG_PROGRESS] = {"progress", ROWS(progress_rows)},
    [MSG_DELTA] = {"delta", ROWS(delta_rows), .check = delta_check},
    [MSG_DONE] = {"done", ROWS(done_rows)},
    [MSG_ERROR] = {"error", ROWS(error_rows), .of_connection = true, .check = error_check},
};
