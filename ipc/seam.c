/* seam: the frames between broker and runner, by the same tables as the client's messages. Words
 * that come out of model files may be any bytes; everything else is bounded as if the other side
 * were a stranger. */
#include "ipc/seam.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "ipc/field.h"
#include "ipc/frame.h"
#include "ipc/mp.h"
#include "ipc/pack.h"

#define WORD_MAX 1024u   /* bytes of a name, a list of formats, a level */
#define BYTES_MAX 65536u /* of a name out of a file, or of an error's message */

static const char *code_word(unsigned i)
{
    return error_info((enum error_code)i)->name;
}

/* --- broker to runner --- */

#define AT(member) .at = offsetof(struct seam_load, member)
static const struct field load_rows[] = {
    {"model", FIELD_U32, FIELD_REQUIRED, AT(model), .max = UINT32_MAX},
    {"name", FIELD_BYTES, AT(name), .max = WORD_MAX},
    {"kv", FIELD_TEXT, AT(kv), .max = MSG_NAME_MAX},
    {"n_ctx", FIELD_U32, FIELD_ALWAYS, AT(n_ctx), .max = MSG_TOKENS_MAX},
    {"kv_bytes_max", FIELD_U64, FIELD_ALWAYS, AT(kv_bytes_max), .max = UINT64_MAX},
    {"beside_bytes_max", FIELD_U64, AT(beside_bytes_max), .max = UINT64_MAX},
    {"n_streams_max", FIELD_U32, FIELD_ALWAYS, AT(n_streams_max), .max = SEAM_STREAMS_MAX},
    {"default_temperature", FIELD_F32,
     .has_at = offsetof(struct seam_load, has_default_temperature), AT(default_temperature),
     .lo = 0.0f, .hi = MSG_TEMPERATURE_MAX, .range = TEMPERATURE_RANGE},
    {"chat_template", FIELD_TEXT, AT(chat_template), .max = MSG_NAME_MAX},
    {"weights", FIELD_TEXT, AT(weights), .max = MSG_NAME_MAX},
    {"draft_tokens", FIELD_U32, AT(draft_tokens), .max = SEAM_DRAFTS_MAX},
    {"lock", FIELD_BOOL, AT(lock)},
    {"tune", FIELD_BOOL, AT(tune)},
    {"tuning", FIELD_BYTES, AT(tuning), .max = SEAM_TUNING_MAX},
};
#undef AT

static const struct field drop_rows[] = {
    {"model", FIELD_U32, FIELD_REQUIRED, .at = 0, .max = UINT32_MAX},
};

/* The request is written as bin: its bytes are a frame's body, and only message_read() reads it. */
static bool request_read(struct field_in *in, void *obj)
{
    struct seam_start *m = obj;
    struct mp_value v;

    if (!mp_next(&in->c, &v) || v.type != MP_BIN || v.str.n < 1 || v.str.n > FRAME_BODY_MAX) {
        return field_refuse(in, "request", "want a bin of 1 to 1048576 bytes");
    }
    m->request = v.str;
    return true;
}

static void request_write(struct packer *p, const void *obj, const struct field_extra *x)
{
    const struct seam_start *m = obj;

    (void)x;
    pack_bin(p, m->request.data, m->request.n);
}

static bool salt_bytes(struct field_in *in, const char *name, uint8_t ret[SEAM_SALT])
{
    struct mp_value v;

    if (!mp_next(&in->c, &v) || v.type != MP_BIN || v.str.n != SEAM_SALT) {
        return field_refuse(in, name, "want a bin of 16 bytes");
    }
    memcpy(ret, v.str.data, SEAM_SALT);
    return true;
}

static bool salt_read(struct field_in *in, void *obj)
{
    struct seam_start *m = obj;

    return salt_bytes(in, "salt", m->salt);
}

static void salt_write(struct packer *p, const void *obj, const struct field_extra *x)
{
    const struct seam_start *m = obj;

    (void)x;
    pack_bin(p, m->salt, SEAM_SALT);
}

static bool salt_when(const void *obj, const struct field_extra *x)
{
    static const uint8_t zero[SEAM_SALT];
    const struct seam_start *m = obj;

    (void)x;
    return memcmp(m->salt, zero, SEAM_SALT) != 0;
}

static bool history_read(struct field_in *in, void *obj)
{
    struct seam_start *m = obj;
    struct mp_value v;

    if (!mp_next(&in->c, &v) || v.type != MP_ARRAY || v.n > MSG_TOKENS_MAX) {
        return field_refuse(in, "history", "want an array of at most 1048576 ids");
    }
    m->history = (struct msg_ids){.at = in->c, .n = v.n};
    for (uint32_t i = 0; i < m->history.n; i++) {
        if (!mp_next(&in->c, &v) || v.type != MP_INT || v.negative || v.u > INT32_MAX) {
            return field_refuse(in, "history", "want whole numbers from 0 to 2147483647");
        }
    }
    return true;
}

static void history_write(struct packer *p, const void *obj, const struct field_extra *x)
{
    const struct seam_start *m = obj;

    (void)x;
    pack_array(p, (uint32_t)m->n_history_ids);
    for (size_t i = 0; i < m->n_history_ids && p->error == 0; i++) {
        pack_int(p, m->history_ids[i]);
    }
}

static bool history_when(const void *obj, const struct field_extra *x)
{
    (void)x;
    return ((const struct seam_start *)obj)->n_history_ids > 0;
}

#define AT(member) .at = offsetof(struct seam_start, member)
static const struct field start_rows[] = {
    {"seq", FIELD_U64, FIELD_REQUIRED, AT(seq), .min = 1, .max = UINT64_MAX},
    {"model", FIELD_U32, FIELD_REQUIRED, AT(model), .max = UINT32_MAX},
    {"seed", FIELD_U64, FIELD_REQUIRED, AT(seed), .max = UINT64_MAX},
    {"request", FIELD_OWN, FIELD_REQUIRED, .read = request_read, .write = request_write},
    {"resume", FIELD_IDS, AT(resume), .max = MSG_TOKENS_MAX},
    {"salt", FIELD_OWN, .read = salt_read, .write = salt_write, .when = salt_when},
    {"reuse", FIELD_BOOL, AT(reuse)},
    {"public", FIELD_BOOL, AT(public_)},
    {"history", FIELD_OWN, .read = history_read, .write = history_write, .when = history_when},
    {"n_history", FIELD_U32, AT(n_history), .max = MSG_MESSAGES_MAX},
    {"want_ids", FIELD_BOOL, AT(want_ids)},
};
#undef AT

static bool run_read(struct field_in *in, void *obj)
{
    struct seam_plan *m = obj;
    struct mp_value list, v;

    if (!mp_next(&in->c, &list) || list.type != MP_ARRAY || list.n > SEAM_PLAN_MAX) {
        return field_refuse(in, "run", "want an array of at most 64 sequences");
    }
    for (uint32_t i = 0; i < list.n; i++) {
        if (!mp_next(&in->c, &v) || v.type != MP_INT || v.negative || v.u == 0) {
            return field_refuse(in, "run", "want whole numbers from 1");
        }
        m->run[i] = v.u;
    }
    m->n_run = list.n;
    return true;
}

static void run_write(struct packer *p, const void *obj, const struct field_extra *x)
{
    const struct seam_plan *m = obj;

    (void)x;
    assert(m->n_run <= SEAM_PLAN_MAX);
    pack_array(p, (uint32_t)m->n_run);
    for (size_t i = 0; i < m->n_run; i++) {
        pack_uint(p, m->run[i]);
    }
}

static const struct field plan_rows[] = {
    {"run", FIELD_OWN, FIELD_REQUIRED, .read = run_read, .write = run_write},
    {"prompt_us", FIELD_U32, .at = offsetof(struct seam_plan, prompt_us), .max = UINT32_MAX},
    {"threads", FIELD_U32, .at = offsetof(struct seam_plan, threads), .max = SEAM_THREADS_MAX},
    {"urgent", FIELD_BOOL, .at = offsetof(struct seam_plan, urgent)},
};

static bool label_read(struct field_in *in, void *obj)
{
    struct seam_public *m = obj;

    return salt_bytes(in, "label", m->label);
}

static void label_write(struct packer *p, const void *obj, const struct field_extra *x)
{
    const struct seam_public *m = obj;

    (void)x;
    pack_bin(p, m->label, SEAM_SALT);
}

static const struct field public_rows[] = {
    {"model", FIELD_U32, FIELD_REQUIRED, .at = offsetof(struct seam_public, model),
     .max = UINT32_MAX},
    {"label", FIELD_OWN, FIELD_REQUIRED, .read = label_read, .write = label_write},
};

static const struct field spill_rows[] = {
    {"model", FIELD_U32, FIELD_REQUIRED, .at = offsetof(struct seam_spill, model),
     .max = UINT32_MAX},
    {"bytes_max", FIELD_U64, FIELD_REQUIRED, .at = offsetof(struct seam_spill, bytes_max),
     .max = UINT64_MAX},
};

static const char *give_word(unsigned i)
{
    static const char *const words[GIVES] = {"nothing", "heap", "kv", "weights"};

    return words[i];
}

#define AT(member) .at = offsetof(struct seam_give_back, member)
static const struct field give_back_rows[] = {
    {"what", FIELD_WORD, FIELD_REQUIRED, AT(what), .max = GIVES, .word = give_word},
    {"model", FIELD_U32, AT(model), .max = UINT32_MAX},
    {"bytes", FIELD_U64, AT(bytes), .max = UINT64_MAX},
    {"frugal", FIELD_BOOL, AT(frugal)},
};
#undef AT

static const struct field gave_rows[] = {
    {"what", FIELD_WORD, FIELD_REQUIRED, .at = offsetof(struct seam_gave, what), .max = GIVES,
     .word = give_word},
    {"bytes", FIELD_U64, FIELD_ALWAYS, .at = offsetof(struct seam_gave, bytes), .max = UINT64_MAX},
};

static const struct field cancel_rows[] = {
    {"seq", FIELD_U64, FIELD_REQUIRED, .at = 0, .min = 1, .max = UINT64_MAX},
};

/* --- runner to broker --- */

#define AT(member) .at = offsetof(struct seam_hello, member)
static const struct field hello_rows[] = {
    {"pack_id", FIELD_BYTES, FIELD_REQUIRED, AT(pack_id), .max = WORD_MAX},
    {"cpu", FIELD_BYTES, FIELD_REQUIRED, AT(cpu), .max = MSG_NAME_MAX},
    {"n_threads", FIELD_U32, FIELD_REQUIRED, AT(n_threads), .max = UINT32_MAX},
    {"confined", FIELD_BYTES, AT(confined), .max = MSG_NAME_MAX},
};
#undef AT

#define AT(member) .at = offsetof(struct seam_loaded, member)
static const struct field loaded_rows[] = {
    {"model", FIELD_U32, FIELD_REQUIRED, AT(model), .max = UINT32_MAX},
    {"arch", FIELD_BYTES, AT(arch), .max = WORD_MAX},
    {"name", FIELD_BYTES, AT(name), .max = BYTES_MAX},
    {"formats", FIELD_BYTES, AT(formats), .max = WORD_MAX},
    {"quantization", FIELD_BYTES, AT(quantization), .max = MSG_NAME_MAX},
    {"kv", FIELD_BYTES, AT(kv), .max = MSG_NAME_MAX},
    {"n_params", FIELD_U64, FIELD_ALWAYS, AT(n_params), .max = UINT64_MAX},
    {"weight_bytes", FIELD_U64, FIELD_ALWAYS, AT(weight_bytes), .max = UINT64_MAX},
    {"kv_bytes_per_position", FIELD_U64, FIELD_ALWAYS, AT(kv_bytes_per_position),
     .max = UINT64_MAX},
    {"scratch_bytes", FIELD_U64, FIELD_ALWAYS, AT(scratch_bytes), .max = UINT64_MAX},
    {"n_ctx", FIELD_U32, FIELD_REQUIRED, AT(n_ctx), .max = UINT32_MAX},
    {"n_ctx_train", FIELD_U32, FIELD_ALWAYS, AT(n_ctx_train), .max = UINT32_MAX},
    {"n_vocab", FIELD_U32, FIELD_ALWAYS, AT(n_vocab), .max = UINT32_MAX},
    {"n_streams", FIELD_U32, FIELD_REQUIRED, AT(n_streams), .min = 1, .max = SEAM_STREAMS_MAX},
    {"chat", FIELD_BOOL, FIELD_ALWAYS, AT(chat)},
    {"load_us", FIELD_U64, FIELD_ALWAYS, AT(load_us), .max = UINT64_MAX},
    {"kv_block_positions", FIELD_U32, AT(kv_block_positions), .max = MSG_TOKENS_MAX},
    {"kv_blocks", FIELD_U32, AT(kv_blocks), .max = UINT32_MAX},
    {"weights", FIELD_BYTES, AT(weights), .max = MSG_NAME_MAX},
    {"huge_bytes", FIELD_U64, AT(huge_bytes), .max = UINT64_MAX},
};
#undef AT

#define AT(member) .at = offsetof(struct seam_started, member)
static const struct field started_rows[] = {
    {"seq", FIELD_U64, FIELD_REQUIRED, AT(seq), .min = 1, .max = UINT64_MAX},
    {"prompt_tokens", FIELD_U32, FIELD_ALWAYS, AT(prompt_tokens), .max = UINT32_MAX},
    {"cached_tokens", FIELD_U32, FIELD_ALWAYS, AT(cached_tokens), .max = UINT32_MAX},
    {"max_tokens", FIELD_U32, FIELD_ALWAYS, AT(max_tokens), .max = UINT32_MAX},
    {"n_trimmed", FIELD_U32, AT(n_trimmed), .max = UINT32_MAX},
    {"ids", FIELD_IDS, AT(ids), .max = MSG_TOKENS_MAX},
};
#undef AT

#define AT(member) .at = offsetof(struct seam_prefill, member)
static const struct field prefill_rows[] = {
    {"seq", FIELD_U64, FIELD_REQUIRED, AT(seq), .min = 1, .max = UINT64_MAX},
    {"done", FIELD_U32, FIELD_REQUIRED, AT(done), .max = UINT32_MAX},
    {"total", FIELD_U32, FIELD_REQUIRED, AT(total), .max = UINT32_MAX},
};
#undef AT

static bool tokens_logprobs_read(struct field_in *in, void *obj)
{
    struct seam_tokens *m = obj;

    return logprobs_read(in, &m->logprobs, &m->n_logprobs);
}

static bool tokens_logprobs_when(const void *obj, const struct field_extra *x)
{
    (void)obj;
    return logprobs_given(x);
}

static void tokens_logprobs_write(struct packer *p, const void *obj, const struct field_extra *x)
{
    (void)obj;
    logprobs_write(p, x);
}

#define AT(member) .at = offsetof(struct seam_tokens, member)
static const struct field tokens_rows[] = {
    {"seq", FIELD_U64, FIELD_REQUIRED, AT(seq), .min = 1, .max = UINT64_MAX},
    {"index", FIELD_U32, FIELD_REQUIRED, AT(n0), .max = MSG_TOKENS_MAX},
    {"ids", FIELD_IDS, AT(ids), .max = MSG_TOKENS_MAX},
    {"text", FIELD_TEXT, AT(text), .max = FRAME_SEAM_BODY_MAX},
    {"logprobs", FIELD_OWN, .read = tokens_logprobs_read, .write = tokens_logprobs_write,
     .when = tokens_logprobs_when},
    {"n_wrong", FIELD_U32, AT(n_wrong), .max = SEAM_DRAFTS_MAX},
};
#undef AT

static bool tokens_check(struct field_in *in, const void *obj)
{
    const struct seam_tokens *m = obj;

    if (m->n_logprobs != 0 && m->n_logprobs != m->ids.n) {
        return field_refuse(in, "logprobs", "want one row for each id");
    }
    return true;
}

#define AT(member) .at = offsetof(struct seam_finished, member)
static const struct field finished_rows[] = {
    {"seq", FIELD_U64, FIELD_REQUIRED, AT(seq), .min = 1, .max = UINT64_MAX},
    {"reason", FIELD_TEXT, FIELD_REQUIRED, AT(reason), .min = 1, .max = MSG_NAME_MAX},
    {"prompt_tokens", FIELD_U32, FIELD_ALWAYS, AT(prompt_tokens), .max = UINT32_MAX},
    {"cached_tokens", FIELD_U32, FIELD_ALWAYS, AT(cached_tokens), .max = UINT32_MAX},
    {"answer_tokens", FIELD_U32, FIELD_ALWAYS, AT(answer_tokens), .max = UINT32_MAX},
    {"prefill_us", FIELD_U64, FIELD_ALWAYS, AT(prefill_us), .max = UINT64_MAX},
    {"decode_us", FIELD_U64, FIELD_ALWAYS, AT(decode_us), .max = UINT64_MAX},
};
#undef AT

#define AT(member) .at = offsetof(struct seam_failed, member)
#define FAILED_ROWS                                                                                \
    {"code",           FIELD_WORD,       FIELD_REQUIRED, AT(code), .min = ERR_NONE + 1,            \
     .max = ERR_CODES, .word = code_word},                                                         \
        {"message", FIELD_BYTES, AT(message), .max = BYTES_MAX},                                   \
        {"have", FIELD_U64, AT(have), .max = UINT64_MAX},                                          \
        {"limit", FIELD_U64, AT(limit), .max = UINT64_MAX}, {"again", FIELD_BOOL, AT(again)},
static const struct field failed_rows[] = {
    {"seq", FIELD_U64, FIELD_REQUIRED, AT(seq), .min = 1, .max = UINT64_MAX}, FAILED_ROWS};
static const struct field load_failed_rows[] = {
    {"model", FIELD_U32, FIELD_REQUIRED, AT(model), .max = UINT32_MAX}, FAILED_ROWS};
#undef FAILED_ROWS
#undef AT

#define AT(member) .at = offsetof(struct seam_stats, member)
static const struct field stats_rows[] = {
    {"steps", FIELD_U64, FIELD_ALWAYS, AT(steps), .max = UINT64_MAX},
    {"tokens", FIELD_U64, FIELD_ALWAYS, AT(tokens), .max = UINT64_MAX},
    {"prompt_tokens", FIELD_U64, FIELD_ALWAYS, AT(prompt_tokens), .max = UINT64_MAX},
    {"step_us", FIELD_U64, FIELD_ALWAYS, AT(step_us), .max = UINT64_MAX},
    {"step_streams", FIELD_U32, AT(step_streams), .max = UINT32_MAX},
    {"step_prompt", FIELD_U32, AT(step_prompt), .max = UINT32_MAX},
    {"step_drafts", FIELD_U32, AT(step_drafts), .max = UINT32_MAX},
    {"drafted", FIELD_U64, AT(drafted), .max = UINT64_MAX},
    {"accepted", FIELD_U64, AT(accepted), .max = UINT64_MAX},
    {"kv_bytes_idle", FIELD_U64, AT(kv_bytes_idle), .max = UINT64_MAX},
    {"kv_bytes_used", FIELD_U64, FIELD_ALWAYS, AT(kv_bytes_used), .max = UINT64_MAX},
    {"kv_bytes_total", FIELD_U64, FIELD_ALWAYS, AT(kv_bytes_total), .max = UINT64_MAX},
    {"weight_bytes", FIELD_U64, FIELD_ALWAYS, AT(weight_bytes), .max = UINT64_MAX},
    {"n_sequences", FIELD_U32, FIELD_ALWAYS, AT(n_sequences), .max = UINT32_MAX},
};
#undef AT

#define AT(member) .at = offsetof(struct seam_tuned, member)
static const struct field tuned_rows[] = {
    {"model", FIELD_U32, FIELD_REQUIRED, AT(model), .max = UINT32_MAX},
    {"n_generate", FIELD_U32, FIELD_REQUIRED, AT(n_generate), .min = 1, .max = SEAM_THREADS_MAX},
    {"n_prompt", FIELD_U32, FIELD_REQUIRED, AT(n_prompt), .min = 1, .max = SEAM_THREADS_MAX},
    {"n_streams", FIELD_U32, AT(n_streams), .max = SEAM_STREAMS_MAX},
    {"record", FIELD_BYTES, AT(record), .max = SEAM_TUNING_MAX},
};
#undef AT

#define AT(member) .at = offsetof(struct seam_memory, member)
static const struct field memory_rows[] = {
    {"model", FIELD_U32, FIELD_REQUIRED, AT(model), .max = UINT32_MAX},
    {"mapped", FIELD_U64, AT(mapped), .max = UINT64_MAX},
    {"private", FIELD_U64, AT(private_), .max = UINT64_MAX},
    {"huge", FIELD_U64, AT(huge), .max = UINT64_MAX},
    {"resident", FIELD_U64, AT(resident), .max = UINT64_MAX},
    {"locked", FIELD_U64, AT(locked), .max = UINT64_MAX},
    {"kv_used", FIELD_U64, AT(kv_used), .max = UINT64_MAX},
    {"kv_idle", FIELD_U64, AT(kv_idle), .max = UINT64_MAX},
    {"kv_total", FIELD_U64, AT(kv_total), .max = UINT64_MAX},
    {"kv_resident", FIELD_U64, AT(kv_resident), .max = UINT64_MAX},
    {"scratch", FIELD_U64, AT(scratch), .max = UINT64_MAX},
    {"scratch_resident", FIELD_U64, AT(scratch_resident), .max = UINT64_MAX},
    {"heap", FIELD_U64, AT(heap), .max = UINT64_MAX},
};
#undef AT

/* --- all of them --- */

struct shape {
    const char *word;
    const struct field *rows;
    size_t n;
};

#define SHAPE(word_, rows_)                                                                        \
    {                                                                                              \
        .word = word_, .rows = rows_, .n = ARRAY_SIZE(rows_)                                       \
    }
static const struct shape shapes[SEAM_TYPES] = {
    [SEAM_LOAD] = SHAPE("load", load_rows),
    [SEAM_DROP] = SHAPE("drop", drop_rows),
    [SEAM_START] = SHAPE("start", start_rows),
    [SEAM_PLAN] = SHAPE("plan", plan_rows),
    [SEAM_CANCEL] = SHAPE("cancel", cancel_rows),
    [SEAM_PUBLIC] = SHAPE("public", public_rows),
    [SEAM_SPILL] = SHAPE("spill", spill_rows),
    [SEAM_MEASURE] = SHAPE("measure", drop_rows),
    [SEAM_GIVE_BACK] = SHAPE("give_back", give_back_rows),
    [SEAM_GAVE] = SHAPE("gave", gave_rows),
    [SEAM_HELLO] = SHAPE("hello", hello_rows),
    [SEAM_LOADED] = SHAPE("loaded", loaded_rows),
    [SEAM_STARTED] = SHAPE("started", started_rows),
    [SEAM_PREFILL] = SHAPE("prefill", prefill_rows),
    [SEAM_TOKENS] = SHAPE("tokens", tokens_rows),
    [SEAM_FINISHED] = SHAPE("finished", finished_rows),
    [SEAM_FAILED] = SHAPE("failed", failed_rows),
    [SEAM_LOAD_FAILED] = SHAPE("load_failed", load_failed_rows),
    [SEAM_STATS] = SHAPE("stats", stats_rows),
    [SEAM_TUNED] = SHAPE("tuned", tuned_rows),
    [SEAM_MEMORY] = SHAPE("memory", memory_rows),
};

static const char *type_word(unsigned i)
{
    return shapes[i].word;
}

static const struct field envelope_rows[] = {
    {"type", FIELD_WORD, FIELD_REQUIRED, .at = 0, .max = SEAM_TYPES, .word = type_word},
};

int seam_read(struct seam_message *ret, const uint8_t *body, size_t n, struct diag *ret_diag)
{
    struct field_in in = {.c = cursor_of(body, n), .base = body, .diag = ret_diag};
    struct mp_value map;
    unsigned type;
    uint64_t seen;

    memset(ret, 0, sizeof(*ret));
    if (!mp_valid(body, n) || !mp_next(&in.c, &map)) {
        diag_set(ret_diag, 0, "the body is not one sound msgpack map");
        return SEAM_MALFORMED;
    }
    struct field_in first = in; /* the type may stand anywhere in the map */
    if (!fields_read(&first, map.n, envelope_rows, 1, &type, &seen)) {
        return SEAM_MALFORMED;
    }
    ret->type = (enum seam_type)type;
    void *payload = &ret->load; /* every member of the union starts here */
    if (!fields_read(&in, map.n, shapes[type].rows, shapes[type].n, payload, &seen)) {
        return SEAM_MALFORMED;
    }
    if (type == SEAM_TOKENS && !tokens_check(&in, payload)) {
        return SEAM_MALFORMED;
    }
    return SEAM_OK;
}

/* The other side ends the connection over a frame it cannot read: such a one never leaves. */
static int put_check(struct buf *out, size_t mark)
{
    struct seam_message m;

    if (seam_read(&m, out->data + mark + FRAME_HEADER, out->n - mark - FRAME_HEADER, NULL) !=
        SEAM_OK) {
        out->n = mark;
        return -EINVAL;
    }
    return 0;
}

int seam_put(struct buf *out, const struct seam_message *m, const int32_t *ids, size_t n_ids,
             const struct msg_logprob *logprobs, size_t n_alternatives)
{
    const struct field_extra x = {ids, n_ids, logprobs, n_alternatives};
    const struct shape *s = &shapes[m->type];
    const void *payload = &m->load;
    struct packer p = packer_of(out);
    size_t mark;

    if (n_ids > MSG_TOKENS_MAX ||
        (m->type == SEAM_START && m->start.n_history_ids > MSG_TOKENS_MAX)) {
        return -E2BIG;
    }
    const int r = frame_begin(out, &mark);
    if (r < 0) {
        return r;
    }
    pack_map(&p, 1 + fields_count(s->rows, s->n, payload, &x));
    pack_z(&p, "type");
    pack_z(&p, s->word);
    fields_write(&p, s->rows, s->n, payload, &x);
    if (p.error < 0) {
        out->n = mark;
        return p.error;
    }
    const int e = frame_end(out, mark, FRAME_SEAM_BODY_MAX);
    return e < 0 ? e : put_check(out, mark);
}
