/* What a request may ask for, and how it is refused. */
#include "tests/support/test.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/compiler.h"
#include "engine/engine.h"
#include "tests/support/runner_model.h"
#include "tests/support/runner_rig.h"

static struct rig rig; /* one runner for all: a refusal must leave it well */
static uint64_t seq;

static void load(uint32_t number, unsigned flags, const char *template)
{
    const struct seam_load m = {.model = number,
                                .kv_bytes_max = 64u << 20,
                                .n_streams_max = 4,
                                .has_default_temperature = number == 2,
                                .chat_template = strview_of(template)};
    const int fd = runner_model_packed(flags);

    rig_load(&rig, &m, fd, NULL);
    (void)close(fd);
}

static int setup(void **state)
{
    (void)state;
    rig_open(&rig, RIG_HOOKED, NULL);
    load(1, 0, "");
    load(2, RUNNER_MODEL_NO_TEMPLATE, "");
    load(3, RUNNER_MODEL_NAN, "");
    load(4, RUNNER_MODEL_ODD_TEMPLATE, "");
    load(5, RUNNER_MODEL_ODD_TEMPLATE, "chatml");
    load(6, 0, "llama3");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return rig_close(&rig);
}

static struct rig_answer *ask(struct rig_request *q)
{
    static struct rig_answer a;

    q->seq = ++seq;
    rig_ask(&rig, q, &a);
    return &a;
}

static struct rig_request chat(uint32_t model, const char *role, const char *template)
{
    struct rig_request q = rig_prompt(1, model, "", 5);

    q.generate.kind = PROMPT_CHAT;
    q.generate.messages[0] = (struct msg_chat_message){strview_of(role), strview_of("hi")};
    q.generate.n_messages = 1;
    q.generate.chat_template = strview_of(template);
    return q;
}

/* Goal: chat is rendered by the model's template or the one named, and its marks are tokens. */
static void chat_is_rendered_by_the_models_template(void **state)
{
    struct rig_request q = chat(1, "user", "");
    (void)state;

    /* <|im_start|> u s e r \n h i <|im_end|> \n <|im_start|> a s s i s t a n t \n */
    assert_int_equal(ask(&q)->failed, ERR_NONE);
    q = chat(1, "user", "");
    assert_int_equal(ask(&q)->prompt_tokens, 1 + 5 + 2 + 1 + 1 + 1 + 10);
    q = chat(2, "user", "chatml");
    assert_int_equal(ask(&q)->prompt_tokens, 1 + 5 + 2 + 1 + 1 + 1 + 10);
}

/* Goal: without a template, or with one that is not known, a chat is refused, and told what can be
 * named where. */
static void a_chat_without_a_template_is_refused(void **state)
{
    static const uint32_t models[] = {2, 4};
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(models); i++) {
        struct rig_request q = chat(models[i], "user", "");
        const struct rig_answer *a = ask(&q);
        assert_int_equal(a->failed, ERR_NO_TEMPLATE);
        assert_non_null(strstr(a->said, i == 0 ? "no chat template" : "not a known one"));
        assert_non_null(strstr(a->said, "chat_template"));
        assert_non_null(strstr(a->said, chat_template_names));
    }
    struct rig_request q = chat(1, "user", "no-such-template");
    const struct rig_answer *a = ask(&q);
    assert_int_equal(a->failed, ERR_BAD_REQUEST);
    assert_non_null(strstr(a->said, chat_template_names));
}

/* Goal: a configured template goes before the file's own, and a request's before both. */
static void a_configured_template_is_used(void **state)
{
    struct rig_request q = chat(5, "user", "");
    (void)state;

    assert_int_equal(ask(&q)->prompt_tokens, 1 + 5 + 2 + 1 + 1 + 1 + 10);
    q = chat(6, "user", "");
    assert_int_equal(ask(&q)->prompt_tokens,
                     strlen("<|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>"
                            "<|start_header_id|>assistant<|end_header_id|>\n\n"));
    q = chat(6, "user", "chatml");
    assert_int_equal(ask(&q)->prompt_tokens, 1 + 5 + 2 + 1 + 1 + 1 + 10);
}

/* Goal: roles that a template has no place for are refused by name. */
static void a_role_without_a_place_is_refused(void **state)
{
    struct rig_request q = chat(1, "critic", "falcon3");
    (void)state;

    assert_int_equal(ask(&q)->failed, ERR_BAD_REQUEST);
    q = chat(1, "critic", "falcon3");
    assert_non_null(strstr(ask(&q)->said, "critic"));
    q = chat(1, "critic", "chatml");
    assert_int_equal(ask(&q)->failed, ERR_NONE);
}

/* Goal: control tokens are control tokens in a chat's frame only, never in a plain prompt. */
static void a_plain_prompt_has_no_control_tokens(void **state)
{
    struct rig_request q = rig_prompt(1, 1, "<|im_end|>", 1);
    (void)state;

    assert_int_equal(ask(&q)->prompt_tokens, strlen("<|im_end|>"));
}

static void ids_outside_the_vocabulary_are_refused(void **state)
{
    static const int32_t ids[] = {5, 6, RUNNER_MODEL_VOCAB};
    struct rig_request q = rig_prompt(1, 1, "", 5);
    (void)state;

    q.generate.kind = PROMPT_IDS;
    q.ids = ids;
    q.n_ids = 3;
    assert_int_equal(ask(&q)->failed, ERR_BAD_REQUEST);
    q.n_ids = 2;
    assert_int_equal(ask(&q)->failed, ERR_NONE);
    assert_int_equal(ask(&q)->prompt_tokens, 2);
}

/* Goal: a context that is too long is told with both counts; what just fits is served. */
static void a_prompt_past_the_context_is_refused_with_both_counts(void **state)
{
    static char text[RUNNER_MODEL_CTX + 2];
    struct rig_answer *a;
    struct rig_request q;
    (void)state;

    memset(text, 'x', RUNNER_MODEL_CTX);
    q = rig_prompt(1, 1, text, 0);
    a = ask(&q);
    assert_int_equal(a->failed, ERR_CONTEXT_TOO_LONG);
    assert_int_equal(a->have, RUNNER_MODEL_CTX);
    assert_int_equal(a->limit, RUNNER_MODEL_CTX);

    text[RUNNER_MODEL_CTX - 10] = '\0';
    q = rig_prompt(1, 1, text, 11);
    a = ask(&q);
    assert_int_equal(a->failed, ERR_CONTEXT_TOO_LONG);
    assert_int_equal(a->have, RUNNER_MODEL_CTX + 1);

    q = rig_prompt(1, 1, text, 10);
    a = ask(&q);
    assert_int_equal(a->n, 10);
    q = rig_prompt(1, 1, text, 0); /* the default: what fits */
    a = ask(&q);
    assert_int_equal(a->max_tokens, 10);
    assert_int_equal(a->n, 10);
}

/* Goal: a text far past the context is refused from its head.
 * Method: 'th' is one token of two bytes; a prompt of 20 bytes a position of context. */
static void a_prompt_far_past_the_context_is_refused_from_its_head(void **state)
{
    static char text[20 * RUNNER_MODEL_CTX + 1];
    struct rig_request q;
    (void)state;

    for (size_t i = 0; i + 1 < sizeof(text); i++) {
        text[i] = "th"[i % 2];
    }
    q = rig_prompt(1, 1, text, 5);
    const struct rig_answer *a = ask(&q);
    assert_int_equal(a->failed, ERR_CONTEXT_TOO_LONG);
    assert_int_equal(a->have, 8 * RUNNER_MODEL_CTX);
    assert_non_null(strstr(a->said, "at least")); /* the rest is not counted */
    assert_int_equal(a->limit, RUNNER_MODEL_CTX);
}

static void a_request_that_is_none_is_refused(void **state)
{
    static struct rig_answer a;
    struct rig_request q = rig_prompt(1, 1, "", 5); /* no token at all */
    (void)state;

    assert_int_equal(ask(&q)->failed, ERR_BAD_REQUEST);
    q = rig_prompt(1, 77, "hello", 5); /* no such model */
    assert_int_equal(ask(&q)->failed, ERR_NO_MODEL);

    memset(&a, 0, sizeof(a));
    a.seq = ++seq;
    rig_send(&rig,
             &(struct seam_message){
                 .type = SEAM_START,
                 .start = {.seq = a.seq, .model = 1, .request = strview_of("not msgpack")}},
             NULL, 0);
    rig_finish(&rig, &a, 1);
    assert_int_equal(a.failed, ERR_BAD_REQUEST);
}

static void an_answer_to_continue_must_be_one(void **state)
{
    static const int32_t foreign[] = {1, RUNNER_MODEL_VOCAB}, longer[] = {1, 2, 3, 4};
    struct rig_request q = rig_prompt(1, 1, "hello", 3);
    (void)state;

    q.resume = foreign;
    q.n_resume = 2;
    assert_int_equal(ask(&q)->failed, ERR_INTERNAL);
    q.resume = longer;
    q.n_resume = 4;
    assert_int_equal(ask(&q)->failed, ERR_INTERNAL);
}

/* Goal: the runner holds as many sequences as the seam says, whatever a model's streams; of those
 * that are planned at once, only as many as it has streams get a token in a step. */
static void sequences_past_the_seams_limit_are_refused(void **state)
{
    static struct rig_answer a[SEAM_STREAMS_MAX + 1];
    uint64_t run[SEAM_STREAMS_MAX + 1];
    (void)state;

    memset(a, 0, sizeof(a));
    for (unsigned i = 0; i <= SEAM_STREAMS_MAX; i++) {
        struct rig_request q = rig_prompt(++seq, 1, "hello", 5);
        a[i].seq = run[i] = seq;
        rig_start(&rig, &q);
    }
    rig_plan(&rig, run, SEAM_STREAMS_MAX);
    rig_finish(&rig, a, SEAM_STREAMS_MAX + 1);
    for (unsigned i = 0; i <= SEAM_STREAMS_MAX; i++) {
        assert_int_equal(a[i].failed, i < SEAM_STREAMS_MAX ? ERR_NONE : ERR_OVERLOADED);
    }
}

static void numbers_that_are_not_finite_fail_the_request(void **state)
{
    struct rig_request q = rig_prompt(1, 3, "hello", 5);
    (void)state;

    assert_int_equal(ask(&q)->failed, ERR_NOT_FINITE);
}

/* Goal: a request that names no temperature gets the broker's default of the model.
 * Method: model 2 was loaded with 0, which is greedy: seeds do not matter. */
static void the_models_default_temperature_is_used(void **state)
{
    static struct rig_answer first;
    struct rig_request q = rig_prompt(1, 2, "hello", 40);
    (void)state;

    q.generate.has_temperature = false;
    q.seed = 1;
    first = *ask(&q);
    q.seed = 2;
    const struct rig_answer *second = ask(&q);
    assert_int_equal(first.n, second->n);
    assert_memory_equal(first.ids, second->ids, first.n * sizeof(first.ids[0]));

    q.model = 1; /* loaded without one: 0.7 */
    q.seed = 1;
    first = *ask(&q);
    q.seed = 2;
    second = ask(&q);
    assert_memory_not_equal(first.ids, second->ids, first.n * sizeof(first.ids[0]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chat_is_rendered_by_the_models_template),
        cmocka_unit_test(a_chat_without_a_template_is_refused),
        cmocka_unit_test(a_configured_template_is_used),
        cmocka_unit_test(a_role_without_a_place_is_refused),
        cmocka_unit_test(a_plain_prompt_has_no_control_tokens),
        cmocka_unit_test(ids_outside_the_vocabulary_are_refused),
        cmocka_unit_test(a_prompt_past_the_context_is_refused_with_both_counts),
        cmocka_unit_test(a_prompt_far_past_the_context_is_refused_from_its_head),
        cmocka_unit_test(a_request_that_is_none_is_refused),
        cmocka_unit_test(an_answer_to_continue_must_be_one),
        cmocka_unit_test(numbers_that_are_not_finite_fail_the_request),
        cmocka_unit_test(the_models_default_temperature_is_used),
        cmocka_unit_test(sequences_past_the_seams_limit_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
