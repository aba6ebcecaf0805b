#include "tests/support/test.h"

#include "tests/unit/ipc/frames.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "ipc/frame.h"
#include "ipc/message.h"
#include "ipc/pack.h"

#define S(z)                                                                                       \
    {                                                                                              \
        z, sizeof(z) - 1                                                                           \
    }

static const int32_t some_ids[] = {0, 127, 128, 65536, INT32_MAX};
static const struct msg_logprob some_logprobs[] = {
    {0, -0.5f}, {5, -1.0f}, {127, -0.25f},      {6, -2.0f},     {128, -3.0f},
    {7, -3.5f}, {65536, 0}, {INT32_MAX, -4.0f}, {INT32_MAX, 0}, {1, -1e-3f},
};

static struct message read_back(const uint8_t *body, size_t n, enum message_type type, uint32_t id)
{
    struct message m;
    struct diag diag = {0};

    if (message_read(&m, body, n, &diag) != MESSAGE_OK) {
        print_error("%s\n", diag.text);
        fail();
    }
    assert_int_equal(m.type, type);
    assert_int_equal(m.id, id);
    return m;
}

static void is(struct strview s, const char *z)
{
    assert_int_equal(s.n, strlen(z));
    assert_memory_equal(s.n ? s.data : "", z, s.n);
}

static void are(const struct msg_ids *ids, const int32_t *want, size_t n)
{
    int32_t got[64];

    assert_true(n <= ARRAY_SIZE(got));
    assert_int_equal(ids->n, n);
    msg_ids_copy(ids, got);
    if (n > 0) {
        assert_memory_equal(got, want, n * sizeof(*got));
    }
}

/* --- hello --- */

static int put_hello_client(struct buf *out)
{
    static const struct msg_hello m = {.major = 1,
                                       .name = S("example"),
                                       .features = {S("one"), S("two")},
                                       .n_features = 2,
                                       .required = {S("two")},
                                       .n_required = 1,
                                       .requests_max = 7 /* not a client's */};
    return message_put_hello(out, &m, false);
}

static void check_hello_client(const uint8_t *body, size_t n)
{
    const struct message m = read_back(body, n, MSG_HELLO, 0);

    assert_int_equal(m.hello.major, 1);
    assert_int_equal(m.hello.minor, 0);
    is(m.hello.name, "example");
    assert_int_equal(m.hello.n_features, 2);
    is(m.hello.features[0], "one");
    is(m.hello.features[1], "two");
    assert_int_equal(m.hello.n_required, 1);
    is(m.hello.required[0], "two");
    assert_int_equal(m.hello.requests_max, 0);
}

static int put_hello_server(struct buf *out)
{
    static const struct msg_hello m = {.major = 1,
                                       .minor = 3,
                                       .name = S("onebitd 0.1.0"),
                                       .frame_bytes_max = FRAME_BODY_MAX,
                                       .requests_max = 128,
                                       .uid = 1000,
                                       .gid = 0,
                                       .pid = 4711,
                                       .default_model = S("home-q1_0")};
    return message_put_hello(out, &m, true);
}

static void check_hello_server(const uint8_t *body, size_t n)
{
    const struct message m = read_back(body, n, MSG_HELLO, 0);

    assert_int_equal(m.hello.minor, 3);
    is(m.hello.name, "onebitd 0.1.0");
    assert_int_equal(m.hello.frame_bytes_max, FRAME_BODY_MAX);
    assert_int_equal(m.hello.requests_max, 128);
    assert_int_equal(m.hello.uid, 1000);
    assert_int_equal(m.hello.gid, 0);
    assert_int_equal(m.hello.pid, 4711);
    is(m.hello.default_model, "home-q1_0");
    assert_int_equal(m.hello.n_features, 0);
}

/* --- requests --- */

static int put_generate_prompt(struct buf *out)
{
    static const struct msg_generate m = {
        .kind = PROMPT_TEXT, .prompt = S("Once upon"), .class_ = CLASS_NORMAL};
    return message_put_generate(out, 1, &m, NULL, 0);
}

static void check_generate_prompt(const uint8_t *body, size_t n)
{
    const struct message m = read_back(body, n, MSG_GENERATE, 1);

    assert_int_equal(m.generate.kind, PROMPT_TEXT);
    is(m.generate.prompt, "Once upon");
    is(m.generate.model, "");
    assert_int_equal(m.generate.class_, CLASS_NORMAL);
    assert_int_equal(m.generate.max_tokens, 0);
    assert_false(m.generate.has_temperature || m.generate.has_top_k || m.generate.has_top_p ||
                 m.generate.has_min_p || m.generate.has_repeat_penalty || m.generate.has_seed ||
                 m.generate.has_deadline);
}

static int put_generate_chat(struct buf *out)
{
    static const struct msg_generate m = {
        .kind = PROMPT_CHAT,
        .model = S("home-q1_0"),
        .messages = {{S("system"), S("Be brief.")}, {S("user"), S("gr\xc3\xbc\xc3\x9f dich")}},
        .n_messages = 2,
        .chat_template = S("chatml"),
        .no_thinking = true,
        .quantization = S("binary"),
        .class_ = CLASS_LOW,
        .max_tokens = MSG_TOKENS_MAX,
        .ignore_eos = true,
        .has_temperature = true,
        .temperature = 0.0f,
        .has_top_k = true,
        .top_k = 40,
        .has_top_p = true,
        .top_p = 1.0f,
        .has_min_p = true,
        .min_p = 0.05f,
        .has_repeat_penalty = true,
        .repeat_penalty = 1.1f,
        .has_seed = true,
        .seed = UINT64_MAX,
        .stops = {S("\n"), S("###")},
        .n_stops = 2,
        .n_logprobs = 20,
        .has_deadline = true,
        .deadline_ms = 0};
    return message_put_generate(out, UINT32_MAX, &m, NULL, 0);
}

static void check_generate_chat(const uint8_t *body, size_t n)
{
    const struct message m = read_back(body, n, MSG_GENERATE, UINT32_MAX);
    const struct msg_generate *g = &m.generate;

    assert_int_equal(g->kind, PROMPT_CHAT);
    is(g->model, "home-q1_0");
    assert_int_equal(g->n_messages, 2);
    is(g->messages[0].role, "system");
    is(g->messages[0].content, "Be brief.");
    is(g->messages[1].role, "user");
    is(g->messages[1].content, "gr\xc3\xbc\xc3\x9f dich");
    is(g->chat_template, "chatml");
    assert_true(g->no_thinking);
    is(g->quantization, "binary");
    assert_int_equal(g->class_, CLASS_LOW);
    assert_int_equal(g->max_tokens, MSG_TOKENS_MAX);
    assert_true(g->ignore_eos);
    assert_true(g->has_temperature && g->temperature == 0.0f);
    assert_true(g->has_top_k && g->top_k == 40);
    assert_true(g->has_top_p && g->top_p == 1.0f);
    assert_true(g->has_min_p && g->min_p == 0.05f);
    assert_true(g->has_repeat_penalty && g->repeat_penalty == 1.1f);
    assert_true(g->has_seed && g->seed == UINT64_MAX);
    assert_int_equal(g->n_stops, 2);
    is(g->stops[0], "\n");
    is(g->stops[1], "###");
    assert_int_equal(g->n_logprobs, 20);
    assert_true(g->has_deadline && g->deadline_ms == 0);
}

static int put_generate_ids(struct buf *out)
{
    static const struct msg_generate m = {.kind = PROMPT_IDS, .class_ = CLASS_HIGH};
    return message_put_generate(out, 2, &m, some_ids, ARRAY_SIZE(some_ids));
}

static void check_generate_ids(const uint8_t *body, size_t n)
{
    const struct message m = read_back(body, n, MSG_GENERATE, 2);

    assert_int_equal(m.generate.kind, PROMPT_IDS);
    assert_int_equal(m.generate.class_, CLASS_HIGH);
    are(&m.generate.ids, some_ids, ARRAY_SIZE(some_ids));
}

static int put_cancel_target(struct buf *out)
{
    static const struct msg_cancel m = {.target = 1};
    return message_put_cancel(out, 3, &m);
}

static void check_cancel_target(const uint8_t *body, size_t n)
{
    const struct message m = read_back(body, n, MSG_CANCEL, 3);

    assert_int_equal(m.cancel.target, 1);
    assert_true(m.cancel.global == 0);
}

static int put_cancel_request(struct buf *out)
{
    static const struct msg_cancel m = {.global = UINT64_C(5000000000)};
    return message_put_cancel(out, 4, &m);
}

static void check_cancel_request(const uint8_t *body, size_t n)
{
    const struct message m = read_back(body, n, MSG_CANCEL, 4);

    assert_int_equal(m.cancel.target, 0);
    assert_true(m.cancel.global == UINT64_C(5000000000));
}

#define QUERY(word, type, id)                                                                      \
    static int put_##word(struct buf *out)                                                         \
    {                                                                                              \
        return message_put_query(out, id, type);                                                   \
    }                                                                                              \
    static void check_##word(const uint8_t *body, size_t n)                                        \
    {                                                                                              \
        (void)read_back(body, n, type, id);                                                        \
    }
QUERY(list, MSG_LIST, 5)
QUERY(ps, MSG_PS, 6)
QUERY(status, MSG_STATUS, 7)
QUERY(metrics, MSG_METRICS, 20)
QUERY(sessions, MSG_SESSIONS, 21)

#define NAMING(word, type, id, text)                                                               \
    static int put_##word(struct buf *out)                                                         \
    {                                                                                              \
        return message_put_session(out, id, type, strview_of(text));                               \
    }                                                                                              \
    static void check_##word(const uint8_t *body, size_t n)                                        \
    {                                                                                              \
        is(read_back(body, n, type, id).session.session, text);                                    \
    }
NAMING(session, MSG_SESSION, 22, "kitchen-2.b_C")
NAMING(session_drop, MSG_SESSION_DROP, 23, "k")

static int put_generate_session(struct buf *out)
{
    static const struct msg_generate m = {
        .kind = PROMPT_CHAT,
        .messages = {{S("user"), S("and the hall")}},
        .n_messages = 1,
        .class_ = CLASS_NORMAL,
        .has_session = true,
        .session = S("kitchen"),
        .trim = true,
        .no_cache = true,
    };
    return message_put_generate(out, 24, &m, NULL, 0);
}

static void check_generate_session(const uint8_t *body, size_t n)
{
    const struct message m = read_back(body, n, MSG_GENERATE, 24);

    assert_true(m.generate.has_session && m.generate.trim && m.generate.no_cache);
    is(m.generate.session, "kitchen");
}

static int put_generate_session_new(struct buf *out)
{
    static const struct msg_generate m = {
        .kind = PROMPT_CHAT,
        .messages = {{S("user"), S("hello")}},
        .n_messages = 1,
        .class_ = CLASS_NORMAL,
        .has_session = true,
    };
    return message_put_generate(out, 25, &m, NULL, 0);
}

static void check_generate_session_new(const uint8_t *body, size_t n)
{
    const struct message m = read_back(body, n, MSG_GENERATE, 25);

    assert_true(m.generate.has_session && !m.generate.trim && !m.generate.no_cache);
    assert_int_equal(m.generate.session.n, 0);
}

static int put_accepted_session(struct buf *out)
{
    static const struct msg_accepted m = {
        .global = 7, .position = 0, .model = S("home-q1_0"), .session = S("kitchen")};
    return message_put_accepted(out, 24, &m);
}

static void check_accepted_session(const uint8_t *body, size_t n)
{
    is(read_back(body, n, MSG_ACCEPTED, 24).accepted.session, "kitchen");
}

#define PROGRESS(name, id, ...)                                                                    \
    static int put_##name(struct buf *out)                                                         \
    {                                                                                              \
        return message_put_progress(out, id, &(struct msg_progress){__VA_ARGS__});                 \
    }
PROGRESS(progress_paused, 24, .phase = PHASE_PAUSED)

static void check_progress_paused(const uint8_t *body, size_t n)
{
    assert_int_equal(read_back(body, n, MSG_PROGRESS, 24).progress.phase, PHASE_PAUSED);
}

PROGRESS(progress_waits, 24, .phase = PHASE_PAUSED, .reason = S("memory"))

static void check_progress_waits(const uint8_t *body, size_t n)
{
    is(read_back(body, n, MSG_PROGRESS, 24).progress.reason, "memory");
}

static int put_done_session(struct buf *out)
{
    static const struct msg_done m = {
        .finish_reason = S("stop"), .trimmed = 4, .cached_answer = true};
    return message_put_done(out, 24, &m);
}

static void check_done_session(const uint8_t *body, size_t n)
{
    const struct message m = read_back(body, n, MSG_DONE, 24);

    assert_int_equal(m.done.trimmed, 4);
    assert_true(m.done.cached_answer);
}

#define OF_MODEL(word, type, id)                                                                   \
    static int put_##word(struct buf *out)                                                         \
    {                                                                                              \
        return message_put_model(out, id, type, strview_of("home-q1_0"));                          \
    }                                                                                              \
    static void check_##word(const uint8_t *body, size_t n)                                        \
    {                                                                                              \
        is(read_back(body, n, type, id).word.model, "home-q1_0");                                  \
    }
OF_MODEL(load, MSG_LOAD, 8)
OF_MODEL(unload, MSG_UNLOAD, 9)

/* --- replies --- */

static int put_accepted(struct buf *out)
{
    static const struct msg_accepted m = {.global = 70000, .position = 3, .model = S("home-q1_0")};
    return message_put_accepted(out, 1, &m);
}

static void check_accepted(const uint8_t *body, size_t n)
{
    const struct message m = read_back(body, n, MSG_ACCEPTED, 1);

    assert_true(m.accepted.global == 70000);
    assert_int_equal(m.accepted.position, 3);
    is(m.accepted.model, "home-q1_0");
}

PROGRESS(progress, 1, .phase = PHASE_PREFILL, .done = 64, .total = 300)

static void check_progress(const uint8_t *body, size_t n)
{
    const struct message m = read_back(body, n, MSG_PROGRESS, 1);

    assert_int_equal(m.progress.phase, PHASE_PREFILL);
    assert_true(m.progress.done == 64 && m.progress.total == 300);
}

static int put_delta(struct buf *out)
{
    static const struct msg_delta m = {.n0 = 300, .text = S(" caf\xc3\xa9")};
    return message_put_delta(out, 1, &m, some_ids, ARRAY_SIZE(some_ids), NULL, 0);
}

static void check_delta(const uint8_t *body, size_t n)
{
    const struct message m = read_back(body, n, MSG_DELTA, 1);

    assert_int_equal(m.delta.n0, 300);
    is(m.delta.text, " caf\xc3\xa9");
    are(&m.delta.ids, some_ids, ARRAY_SIZE(some_ids));
    assert_int_equal(m.delta.n_logprobs, 0);
}

static int put_delta_text(struct buf *out)
{
    static const struct msg_delta m = {.n0 = 5, .text = S("held back")};
    return message_put_delta(out, 1, &m, NULL, 0, NULL, 0);
}

static void check_delta_text(const uint8_t *body, size_t n)
{
    const struct message m = read_back(body, n, MSG_DELTA, 1);

    is(m.delta.text, "held back");
    are(&m.delta.ids, NULL, 0);
}

static void same_logprobs(struct cursor at, uint32_t rows)
{
    struct msg_logprob row[MSG_LOGPROBS_ROW_MAX];

    assert_int_equal(rows, ARRAY_SIZE(some_ids));
    for (uint32_t i = 0; i < rows; i++) {
        assert_int_equal(msg_logprobs_next(&at, row), 2);
        for (uint32_t k = 0; k < 2; k++) {
            assert_int_equal(row[k].id, some_logprobs[2 * i + k].id);
            assert_true(row[k].logprob == some_logprobs[2 * i + k].logprob);
        }
    }
}

static int put_delta_logprobs(struct buf *out)
{
    static const struct msg_delta m = {.text = S("x")};
    return message_put_delta(out, 1, &m, some_ids, ARRAY_SIZE(some_ids), some_logprobs, 2);
}

static void check_delta_logprobs(const uint8_t *body, size_t n)
{
    const struct message m = read_back(body, n, MSG_DELTA, 1);

    same_logprobs(m.delta.logprobs, m.delta.n_logprobs);
}

static int put_done(struct buf *out)
{
    static const struct msg_done m = {.finish_reason = S("stop_string"),
                                      .prompt_tokens = 12,
                                      .cached_tokens = 0,
                                      .answer_tokens = 300,
                                      .seed = UINT64_C(1) << 63,
                                      .queue_us = 5,
                                      .prefill_us = 70000,
                                      .decode_us = UINT64_C(5000000000),
                                      .restarts = 1,
                                      .model = S("home-q1_0"),
                                      .formats = S("Q1_0+Q8_0"),
                                      .quantization = S("binary"),
                                      .kv = S("f16"),
                                      .cpu = S("avx2")};
    return message_put_done(out, 1, &m);
}

static void check_done(const uint8_t *body, size_t n)
{
    const struct message m = read_back(body, n, MSG_DONE, 1);

    is(m.done.finish_reason, "stop_string");
    assert_int_equal(m.done.prompt_tokens, 12);
    assert_int_equal(m.done.cached_tokens, 0);
    assert_int_equal(m.done.answer_tokens, 300);
    assert_true(m.done.seed == UINT64_C(1) << 63);
    assert_true(m.done.queue_us == 5 && m.done.prefill_us == 70000);
    assert_true(m.done.decode_us == UINT64_C(5000000000));
    assert_int_equal(m.done.restarts, 1);
    is(m.done.model, "home-q1_0");
    is(m.done.formats, "Q1_0+Q8_0");
    is(m.done.quantization, "binary");
    is(m.done.kv, "f16");
    is(m.done.cpu, "avx2");
    is(m.result, "");
}

static int put_done_bare(struct buf *out)
{
    return message_put_done(out, 8, NULL);
}

static void check_done_bare(const uint8_t *body, size_t n)
{
    const struct message m = read_back(body, n, MSG_DONE, 8);

    is(m.done.finish_reason, "");
    is(m.result, "");
}

static int put_done_result(struct buf *out)
{
    return message_put_result(out, 6, strview_of("\x92\x01\x81\xa1k\xa1v"));
}

static void check_done_result(const uint8_t *body, size_t n)
{
    is(read_back(body, n, MSG_DONE, 6).result, "\x92\x01\x81\xa1k\xa1v");
}

static int put_error(struct buf *out)
{
    static const struct msg_error m = {.code = ERR_CONTEXT_TOO_LONG,
                                       .message = S("too long"),
                                       .retry_after_ms = 0,
                                       .have = 5000,
                                       .limit = 4096};
    return message_put_error(out, 1, &m);
}

static void check_error(const uint8_t *body, size_t n)
{
    const struct message m = read_back(body, n, MSG_ERROR, 1);

    assert_int_equal(m.error.code, ERR_CONTEXT_TOO_LONG);
    is(m.error.name, "context_too_long");
    assert_int_equal(m.error.number, 413);
    assert_false(m.error.retryable);
    is(m.error.message, "too long");
    assert_true(m.error.hint.n > 10);
    assert_int_equal(m.error.retry_after_ms, 0);
    assert_true(m.error.have == 5000 && m.error.limit == 4096);
}

static int put_error_connection(struct buf *out)
{
    static const struct msg_error m = {.code = ERR_TOO_MANY_CONNECTIONS, .retry_after_ms = 1500};
    return message_put_error(out, 0, &m);
}

static void check_error_connection(const uint8_t *body, size_t n)
{
    const struct message m = read_back(body, n, MSG_ERROR, 0);

    assert_int_equal(m.error.code, ERR_TOO_MANY_CONNECTIONS);
    assert_true(m.error.retryable);
    assert_int_equal(m.error.retry_after_ms, 1500);
}

#define EXAMPLE(name)                                                                              \
    {                                                                                              \
#name, put_##name, check_##name, .prose = false                                            \
    }
#define WITH_PROSE(name)                                                                           \
    {                                                                                              \
#name, put_##name, check_##name, .prose = true                                             \
    }
const struct frame_example message_examples[] = {
    EXAMPLE(hello_client),
    EXAMPLE(hello_server),
    EXAMPLE(generate_prompt),
    EXAMPLE(generate_chat),
    EXAMPLE(generate_ids),
    EXAMPLE(cancel_target),
    EXAMPLE(cancel_request),
    EXAMPLE(list),
    EXAMPLE(ps),
    EXAMPLE(status),
    EXAMPLE(load),
    EXAMPLE(unload),
    EXAMPLE(metrics),
    EXAMPLE(sessions),
    EXAMPLE(session),
    EXAMPLE(session_drop),
    EXAMPLE(generate_session),
    EXAMPLE(generate_session_new),
    EXAMPLE(accepted_session),
    EXAMPLE(progress_paused),
    EXAMPLE(progress_waits),
    EXAMPLE(done_session),
    EXAMPLE(accepted),
    EXAMPLE(progress),
    EXAMPLE(delta),
    EXAMPLE(delta_text),
    EXAMPLE(delta_logprobs),
    EXAMPLE(done),
    EXAMPLE(done_bare),
    EXAMPLE(done_result),
    WITH_PROSE(error),
    WITH_PROSE(error_connection),
};
const size_t n_message_examples = ARRAY_SIZE(message_examples);
