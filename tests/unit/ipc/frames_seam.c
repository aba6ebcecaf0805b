#include "tests/support/test.h"

#include "tests/unit/ipc/frames.h"

#include <string.h>

#include "base/compiler.h"
#include "ipc/seam.h"

#define S(z)                                                                                       \
    {                                                                                              \
        z, sizeof(z) - 1                                                                           \
    }

static const int32_t some_ids[] = {1, 300, INT32_MAX};
static const struct msg_logprob some_logprobs[] = {{1, -0.5f}, {300, -1.5f}, {INT32_MAX, 0.0f}};

static struct seam_message read_back(const uint8_t *body, size_t n, enum seam_type type)
{
    struct seam_message m;
    struct diag diag = {0};

    if (seam_read(&m, body, n, &diag) != SEAM_OK) {
        print_error("%s\n", diag.text);
        fail();
    }
    assert_int_equal(m.type, type);
    return m;
}

static void is(struct strview s, const char *z)
{
    assert_int_equal(s.n, strlen(z));
    assert_memory_equal(s.n ? s.data : "", z, s.n);
}

static void are_some_ids(const struct msg_ids *ids)
{
    int32_t got[ARRAY_SIZE(some_ids)];

    assert_int_equal(ids->n, ARRAY_SIZE(some_ids));
    msg_ids_copy(ids, got);
    assert_memory_equal(got, some_ids, sizeof(got));
}

static int put(struct buf *out, const struct seam_message *m)
{
    return seam_put(out, m, NULL, 0, NULL, 0);
}

static int put_load(struct buf *out)
{
    static const struct seam_message m = {.type = SEAM_LOAD,
                                          .load = {.model = 3,
                                                   .name = S("b\xff\xfe"),
                                                   .kv = S("int8"),
                                                   .n_ctx = 4096,
                                                   .kv_bytes_max = UINT64_C(1) << 33,
                                                   .beside_bytes_max = UINT64_MAX,
                                                   .lock = true,
                                                   .n_streams_max = SEAM_STREAMS_MAX,
                                                   .has_default_temperature = true,
                                                   .default_temperature = 0.0f,
                                                   .chat_template = S("falcon3"),
                                                   .weights = S("private"),
                                                   .draft_tokens = SEAM_DRAFTS_MAX,
                                                   .tune = true,
                                                   .tuning = S("\0\xff")}};
    return put(out, &m);
}

static void check_load(const uint8_t *body, size_t n)
{
    const struct seam_load m = read_back(body, n, SEAM_LOAD).load;

    assert_int_equal(m.model, 3);
    is(m.name, "b\xff\xfe"); /* a file's name need not be UTF-8 */
    is(m.kv, "int8");
    assert_int_equal(m.n_ctx, 4096);
    assert_true(m.kv_bytes_max == UINT64_C(1) << 33 && m.beside_bytes_max == UINT64_MAX && m.lock);
    assert_int_equal(m.n_streams_max, SEAM_STREAMS_MAX);
    assert_true(m.has_default_temperature && m.default_temperature == 0.0f);
    is(m.chat_template, "falcon3");
    is(m.weights, "private");
    assert_int_equal(m.draft_tokens, SEAM_DRAFTS_MAX);
    assert_true(m.tune && m.tuning.n == 2 && memcmp(m.tuning.data, "\0\xff", 2) == 0);
}

static int put_drop(struct buf *out)
{
    static const struct seam_message m = {.type = SEAM_DROP, .drop = 3};
    return put(out, &m);
}

static void check_drop(const uint8_t *body, size_t n)
{
    assert_int_equal(read_back(body, n, SEAM_DROP).drop, 3);
}

static int put_start(struct buf *out)
{
    static const struct seam_message m = {
        .type = SEAM_START,
        .start = {.seq = UINT64_MAX, .model = 3, .seed = 0, .request = S("\x81\xa1x\xc1")}};
    return seam_put(out, &m, some_ids, ARRAY_SIZE(some_ids), NULL, 0);
}

static void check_start(const uint8_t *body, size_t n)
{
    const struct seam_start m = read_back(body, n, SEAM_START).start;

    assert_true(m.seq == UINT64_MAX && m.seed == 0);
    assert_int_equal(m.model, 3);
    is(m.request, "\x81\xa1x\xc1"); /* carried, not looked into */
    are_some_ids(&m.resume);
}

static int put_start_session(struct buf *out)
{
    static const int32_t history[] = {7, 8};
    static const struct seam_message m = {.type = SEAM_START,
                                          .start = {.seq = 1,
                                                    .model = 3,
                                                    .request = S("x"),
                                                    .salt = {1, [SEAM_SALT - 1] = 2},
                                                    .reuse = true,
                                                    .public_ = true,
                                                    .history_ids = history,
                                                    .n_history_ids = ARRAY_SIZE(history),
                                                    .n_history = 4,
                                                    .want_ids = true}};
    return seam_put(out, &m, some_ids, ARRAY_SIZE(some_ids), NULL, 0);
}

static void check_start_session(const uint8_t *body, size_t n)
{
    const struct seam_start m = read_back(body, n, SEAM_START).start;
    int32_t history[2];

    assert_true(m.salt[0] == 1 && m.salt[1] == 0 && m.salt[SEAM_SALT - 1] == 2);
    assert_true(m.reuse && m.public_ && m.want_ids);
    assert_int_equal(m.n_history, 4);
    assert_int_equal(m.history.n, 2);
    msg_ids_copy(&m.history, history);
    assert_true(history[0] == 7 && history[1] == 8);
    are_some_ids(&m.resume);
}

static int put_spill(struct buf *out)
{
    static const struct seam_message m = {.type = SEAM_SPILL,
                                          .spill = {.model = 3, .bytes_max = UINT64_C(1) << 40}};
    return put(out, &m);
}

static void check_spill(const uint8_t *body, size_t n)
{
    const struct seam_spill m = read_back(body, n, SEAM_SPILL).spill;

    assert_true(m.model == 3 && m.bytes_max == UINT64_C(1) << 40);
}

static int put_give_back(struct buf *out)
{
    static const struct seam_message m = {
        .type = SEAM_GIVE_BACK,
        .give_back = {.what = GIVE_WEIGHTS, .model = 3, .bytes = 1 << 20, .frugal = true}};
    return put(out, &m);
}

static void check_give_back(const uint8_t *body, size_t n)
{
    const struct seam_give_back m = read_back(body, n, SEAM_GIVE_BACK).give_back;

    assert_int_equal(m.what, GIVE_WEIGHTS);
    assert_true(m.model == 3 && m.bytes == 1 << 20 && m.frugal);
}

static int put_gave(struct buf *out)
{
    static const struct seam_message m = {.type = SEAM_GAVE,
                                          .gave = {.what = GIVE_KV, .bytes = 70000}};
    return put(out, &m);
}

static void check_gave(const uint8_t *body, size_t n)
{
    const struct seam_gave m = read_back(body, n, SEAM_GAVE).gave;

    assert_true(m.what == GIVE_KV && m.bytes == 70000);
}

static int put_public(struct buf *out)
{
    static const struct seam_message m = {.type = SEAM_PUBLIC,
                                          .public_ = {.model = 3, .label = "0123456789abcde"}};
    return put(out, &m);
}

static void check_public(const uint8_t *body, size_t n)
{
    const struct seam_public m = read_back(body, n, SEAM_PUBLIC).public_;

    assert_int_equal(m.model, 3);
    assert_memory_equal(m.label, "0123456789abcde", SEAM_SALT);
}

static int put_plan(struct buf *out)
{
    struct seam_message m = {.type = SEAM_PLAN,
                             .plan = {.n_run = SEAM_PLAN_MAX, .prompt_us = 4000, .urgent = true}};

    for (unsigned i = 0; i < SEAM_PLAN_MAX; i++) {
        m.plan.run[i] = UINT64_C(1) << i;
    }
    return put(out, &m);
}

static void check_plan(const uint8_t *body, size_t n)
{
    const struct seam_plan m = read_back(body, n, SEAM_PLAN).plan;

    assert_int_equal(m.n_run, SEAM_PLAN_MAX);
    assert_int_equal(m.prompt_us, 4000);
    assert_true(m.urgent);
    for (unsigned i = 0; i < SEAM_PLAN_MAX; i++) {
        assert_true(m.run[i] == UINT64_C(1) << i);
    }
}

static int put_plan_empty(struct buf *out)
{
    static const struct seam_message m = {.type = SEAM_PLAN};
    return put(out, &m);
}

static void check_plan_empty(const uint8_t *body, size_t n)
{
    assert_int_equal(read_back(body, n, SEAM_PLAN).plan.n_run, 0);
}

static int put_cancel(struct buf *out)
{
    static const struct seam_message m = {.type = SEAM_CANCEL, .cancel = 70000};
    return put(out, &m);
}

static void check_cancel(const uint8_t *body, size_t n)
{
    assert_true(read_back(body, n, SEAM_CANCEL).cancel == 70000);
}

static int put_hello(struct buf *out)
{
    static const struct seam_message m = {
        .type = SEAM_HELLO, .hello = {.pack_id = S("p1-avx2"), .cpu = S("avx2"), .n_threads = 4}};
    return put(out, &m);
}

static void check_hello(const uint8_t *body, size_t n)
{
    const struct seam_hello m = read_back(body, n, SEAM_HELLO).hello;

    is(m.pack_id, "p1-avx2");
    is(m.cpu, "avx2");
    assert_int_equal(m.n_threads, 4);
}

static int put_loaded(struct buf *out)
{
    static const struct seam_message m = {.type = SEAM_LOADED,
                                          .loaded = {.model = 3,
                                                     .arch = S("qwen3"),
                                                     .name = S("Home"),
                                                     .formats = S("Q1_0"),
                                                     .quantization = S("binary"),
                                                     .kv = S("f16"),
                                                     .n_params = 1,
                                                     .weight_bytes = 2,
                                                     .kv_bytes_per_position = 3,
                                                     .scratch_bytes = 4,
                                                     .n_ctx = 5,
                                                     .n_ctx_train = 6,
                                                     .n_vocab = 7,
                                                     .n_streams = 8,
                                                     .chat = true,
                                                     .load_us = 9,
                                                     .kv_block_positions = 32,
                                                     .kv_blocks = 11,
                                                     .weights = S("shared"),
                                                     .huge_bytes = 12}};
    return put(out, &m);
}

static void check_loaded(const uint8_t *body, size_t n)
{
    const struct seam_loaded m = read_back(body, n, SEAM_LOADED).loaded;

    assert_int_equal(m.model, 3);
    is(m.arch, "qwen3");
    is(m.name, "Home");
    is(m.formats, "Q1_0");
    is(m.quantization, "binary");
    is(m.kv, "f16");
    assert_true(m.n_params == 1 && m.weight_bytes == 2 && m.kv_bytes_per_position == 3);
    assert_true(m.scratch_bytes == 4 && m.n_ctx == 5 && m.n_ctx_train == 6 && m.n_vocab == 7);
    assert_true(m.n_streams == 8 && m.chat && m.load_us == 9);
    assert_true(m.kv_block_positions == 32 && m.kv_blocks == 11);
    is(m.weights, "shared");
    assert_int_equal(m.huge_bytes, 12);
}

static int put_started(struct buf *out)
{
    static const struct seam_message m = {
        .type = SEAM_STARTED,
        .started = {
            .seq = 1, .prompt_tokens = 20, .cached_tokens = 4, .max_tokens = 2048, .n_trimmed = 2}};
    return seam_put(out, &m, some_ids, ARRAY_SIZE(some_ids), NULL, 0);
}

static void check_started(const uint8_t *body, size_t n)
{
    const struct seam_started m = read_back(body, n, SEAM_STARTED).started;

    assert_true(m.seq == 1 && m.prompt_tokens == 20 && m.cached_tokens == 4);
    assert_int_equal(m.max_tokens, 2048);
    assert_int_equal(m.n_trimmed, 2);
    are_some_ids(&m.ids);
}

static int put_prefill(struct buf *out)
{
    static const struct seam_message m = {.type = SEAM_PREFILL,
                                          .prefill = {.seq = 1, .done = 0, .total = 20}};
    return put(out, &m);
}

static void check_prefill(const uint8_t *body, size_t n)
{
    const struct seam_prefill m = read_back(body, n, SEAM_PREFILL).prefill;

    assert_true(m.seq == 1 && m.done == 0 && m.total == 20);
}

static int put_tokens(struct buf *out)
{
    static const struct seam_message m = {
        .type = SEAM_TOKENS, .tokens = {.seq = 1, .n0 = 9, .text = S("a\xc3\xa9z"), .n_wrong = 5}};
    return seam_put(out, &m, some_ids, ARRAY_SIZE(some_ids), some_logprobs, 1);
}

static void check_tokens(const uint8_t *body, size_t n)
{
    const struct seam_tokens m = read_back(body, n, SEAM_TOKENS).tokens;
    struct msg_logprob row[MSG_LOGPROBS_ROW_MAX];
    struct cursor at = m.logprobs;

    assert_true(m.seq == 1 && m.n0 == 9 && m.n_wrong == 5);
    is(m.text, "a\xc3\xa9z");
    are_some_ids(&m.ids);
    assert_int_equal(m.n_logprobs, ARRAY_SIZE(some_ids));
    for (size_t i = 0; i < ARRAY_SIZE(some_logprobs); i++) {
        assert_int_equal(msg_logprobs_next(&at, row), 1);
        assert_int_equal(row[0].id, some_logprobs[i].id);
        assert_true(row[0].logprob == some_logprobs[i].logprob);
    }
}

static int put_finished(struct buf *out)
{
    static const struct seam_message m = {.type = SEAM_FINISHED,
                                          .finished = {.seq = 1,
                                                       .reason = S("length"),
                                                       .prompt_tokens = 20,
                                                       .cached_tokens = 4,
                                                       .answer_tokens = 7,
                                                       .prefill_us = 100,
                                                       .decode_us = 200}};
    return put(out, &m);
}

static void check_finished(const uint8_t *body, size_t n)
{
    const struct seam_finished m = read_back(body, n, SEAM_FINISHED).finished;

    is(m.reason, "length");
    assert_true(m.seq == 1 && m.prompt_tokens == 20 && m.cached_tokens == 4);
    assert_true(m.answer_tokens == 7 && m.prefill_us == 100 && m.decode_us == 200);
}

static int put_failed(struct buf *out)
{
    static const struct seam_message m = {.type = SEAM_FAILED,
                                          .failed = {.seq = 1,
                                                     .code = ERR_CONTEXT_TOO_LONG,
                                                     .message = S("too long"),
                                                     .have = 5000,
                                                     .limit = 4096,
                                                     .again = true}};
    return put(out, &m);
}

static void check_failed(const uint8_t *body, size_t n)
{
    const struct seam_failed m = read_back(body, n, SEAM_FAILED).failed;

    assert_int_equal(m.code, ERR_CONTEXT_TOO_LONG);
    is(m.message, "too long");
    assert_true(m.seq == 1 && m.have == 5000 && m.limit == 4096 && m.again);
}

static int put_load_failed(struct buf *out)
{
    static const struct seam_message m = {
        .type = SEAM_LOAD_FAILED,
        .failed = {.model = 3, .code = ERR_MODEL_MALFORMED, .message = S("packed: stale")}};
    return put(out, &m);
}

static void check_load_failed(const uint8_t *body, size_t n)
{
    const struct seam_failed m = read_back(body, n, SEAM_LOAD_FAILED).failed;

    assert_int_equal(m.model, 3);
    assert_int_equal(m.code, ERR_MODEL_MALFORMED);
    is(m.message, "packed: stale");
}

static int put_stats(struct buf *out)
{
    static const struct seam_message m = {.type = SEAM_STATS,
                                          .stats = {.steps = 1,
                                                    .tokens = 2,
                                                    .prompt_tokens = 3,
                                                    .step_us = 4,
                                                    .step_streams = 9,
                                                    .step_prompt = 10,
                                                    .step_drafts = 12,
                                                    .drafted = 13,
                                                    .accepted = UINT64_MAX,
                                                    .kv_bytes_idle = 11,
                                                    .kv_bytes_used = 5,
                                                    .kv_bytes_total = 6,
                                                    .weight_bytes = UINT64_MAX,
                                                    .n_sequences = 8}};
    return put(out, &m);
}

static void check_stats(const uint8_t *body, size_t n)
{
    const struct seam_stats m = read_back(body, n, SEAM_STATS).stats;

    assert_true(m.steps == 1 && m.tokens == 2 && m.prompt_tokens == 3 && m.step_us == 4);
    assert_true(m.kv_bytes_used == 5 && m.kv_bytes_total == 6 && m.weight_bytes == UINT64_MAX);
    assert_true(m.step_streams == 9 && m.step_prompt == 10 && m.kv_bytes_idle == 11);
    assert_true(m.step_drafts == 12 && m.drafted == 13 && m.accepted == UINT64_MAX);
    assert_int_equal(m.n_sequences, 8);
}

static int put_measure(struct buf *out)
{
    static const struct seam_message m = {.type = SEAM_MEASURE, .measure = 7};

    return put(out, &m);
}

static void check_measure(const uint8_t *body, size_t n)
{
    assert_int_equal(read_back(body, n, SEAM_MEASURE).measure, 7);
}

static int put_memory(struct buf *out)
{
    static const struct seam_message m = {.type = SEAM_MEMORY,
                                          .memory = {.model = 1,
                                                     .mapped = 2,
                                                     .private_ = 3,
                                                     .huge = 4,
                                                     .resident = 5,
                                                     .locked = 12,
                                                     .kv_used = 6,
                                                     .kv_idle = 7,
                                                     .kv_total = 8,
                                                     .kv_resident = 9,
                                                     .scratch = 10,
                                                     .scratch_resident = 11,
                                                     .heap = UINT64_MAX}};
    return put(out, &m);
}

static void check_memory(const uint8_t *body, size_t n)
{
    const struct seam_memory m = read_back(body, n, SEAM_MEMORY).memory;

    assert_true(m.model == 1 && m.mapped == 2 && m.private_ == 3 && m.huge == 4);
    assert_true(m.resident == 5 && m.locked == 12 && m.kv_used == 6 && m.kv_idle == 7 &&
                m.kv_total == 8);
    assert_true(m.kv_resident == 9 && m.scratch == 10 && m.scratch_resident == 11);
    assert_true(m.heap == UINT64_MAX);
}

static int put_tuned(struct buf *out)
{
    static const struct seam_message m = {.type = SEAM_TUNED,
                                          .tuned = {.model = 3,
                                                    .n_generate = 1,
                                                    .n_prompt = SEAM_THREADS_MAX,
                                                    .n_streams = SEAM_STREAMS_MAX,
                                                    .record = S("\0\xff")}};
    return put(out, &m);
}

static void check_tuned(const uint8_t *body, size_t n)
{
    const struct seam_tuned m = read_back(body, n, SEAM_TUNED).tuned;

    assert_true(m.model == 3 && m.n_generate == 1 && m.n_prompt == SEAM_THREADS_MAX);
    assert_int_equal(m.n_streams, SEAM_STREAMS_MAX);
    assert_true(m.record.n == 2 && memcmp(m.record.data, "\0\xff", 2) == 0);
}

#define EXAMPLE(name)                                                                              \
    {                                                                                              \
#name, put_##name, check_##name, .prose = false                                            \
    }
const struct frame_example seam_examples[] = {
    EXAMPLE(load),       EXAMPLE(drop),        EXAMPLE(start),  EXAMPLE(plan),
    EXAMPLE(plan_empty), EXAMPLE(cancel),      EXAMPLE(hello),  EXAMPLE(loaded),
    EXAMPLE(started),    EXAMPLE(prefill),     EXAMPLE(tokens), EXAMPLE(finished),
    EXAMPLE(failed),     EXAMPLE(load_failed), EXAMPLE(stats),  EXAMPLE(start_session),
    EXAMPLE(public),     EXAMPLE(spill),       EXAMPLE(tuned),  EXAMPLE(measure),
    EXAMPLE(memory),     EXAMPLE(give_back),   EXAMPLE(gave),
};
const size_t n_seam_examples = ARRAY_SIZE(seam_examples);
