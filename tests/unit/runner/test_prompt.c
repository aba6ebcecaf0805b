/* The ids of chats: whole ones, those that go on from a session's ids, and those that are
 * trimmed. */
#include "tests/support/test.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/compiler.h"
#include "engine/engine.h"
#include "tests/support/runner_model.h"
#include "tests/support/runner_rig.h"

enum { START = 258, END = 259 }; /* <|im_start|>, <|im_end|> */

static struct rig rig; /* one runner for all */
static uint64_t seq;

static void load(uint32_t number, const char *template)
{
    const struct seam_load m = {.model = number,
                                .kv_bytes_max = 64u << 20,
                                .n_streams_max = 4,
                                .chat_template = strview_of(template)};
    const int fd = runner_model_packed(0);

    rig_load(&rig, &m, fd, NULL);
    (void)close(fd);
}

static int setup(void **state)
{
    (void)state;
    rig_open(&rig, RIG_SHIPPED, NULL);
    load(1, "");
    load(2, "llama3");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return rig_close(&rig);
}

static struct rig_request chat(uint32_t model)
{
    struct rig_request q = rig_prompt(1, model, "", 5);

    q.generate.kind = PROMPT_CHAT;
    q.want_ids = true;
    return q;
}

static void say(struct rig_request *q, const char *role, const char *content)
{
    q->generate.messages[q->generate.n_messages++] =
        (struct msg_chat_message){strview_of(role), strview_of(content)};
}

static struct rig_answer *ask(struct rig_request *q)
{
    static struct rig_answer a;

    q->seq = ++seq;
    rig_ask(&rig, q, &a);
    return &a;
}

/* Goal: a session's ids stand for its text, to the id; only what is new is tokenized.
 * Method: an answer whose text would be tokenized otherwise ("th" and "on" are tokens) comes back
 * as it was sampled: byte by byte. With a salt, all of it is found. */
static void a_chat_goes_on_with_the_sessions_own_ids(void **state)
{
    static struct rig_answer first, second, whole;
    static const int32_t thon[] = {'t', 'h', 'o', 'n'};
    static int32_t history[RIG_IDS_MAX];
    struct rig_request q = chat(1);
    (void)state;

    say(&q, "user", "say a long word, and then say another one that is longer still");
    first = *ask(&q);
    assert_int_equal(first.n_prompt_ids, first.prompt_tokens);
    say(&q, "assistant", "thon");
    say(&q, "user", "and");
    whole = *ask(&q);
    size_t n = first.n_prompt_ids;
    memcpy(history, first.prompt_ids, n * sizeof(*history));
    memcpy(history + n, thon, sizeof(thon));
    /* The small model's letters are its bytes. */
    n += 4;
    assert_int_equal(whole.prompt_ids[first.n_prompt_ids], 256); /* th */
    q.history = history;
    q.n_history_ids = n;
    q.n_history = 2;
    q.salt = 1;
    second = *ask(&q);
    assert_int_equal(second.prompt_tokens, whole.prompt_tokens + 2);
    assert_memory_equal(second.prompt_ids, history, n * sizeof(*history));
    assert_int_equal(second.prompt_ids[n], END);
    assert_memory_equal(second.prompt_ids + n, whole.prompt_ids + n - 2,
                        (second.n_prompt_ids - n) * sizeof(*history));
    assert_int_equal(second.cached_tokens, 0);
    assert_true(ask(&q)->cached_tokens >= 2 * KV_BLOCK);
    q.history = NULL;
    q.n_history_ids = 0;
    assert_true(ask(&q)->cached_tokens < n); /* other ids from the answer on */
}

/* Goal: ids that do not stand for the text before are not used. Method: a template that trims an
 * answer's spaces; a count that ends at no answer; then ids of no vocabulary. */
static void ids_that_do_not_fit_are_left_alone(void **state)
{
    static const int32_t ids[] = {1, 2, 3}, foreign[] = {1, RUNNER_MODEL_VOCAB};
    static struct rig_answer whole;
    struct rig_request q = chat(2);
    (void)state;

    say(&q, "user", "hi");
    say(&q, "assistant", " spaced ");
    say(&q, "user", "go on");
    whole = *ask(&q);
    assert_int_equal(whole.failed, ERR_NONE);
    q.history = ids;
    q.n_history_ids = 3;
    q.n_history = 2;
    assert_int_equal(ask(&q)->prompt_tokens, whole.prompt_tokens);

    q.model = 1;
    q.n_history = 1;
    const uint32_t n = ask(&q)->prompt_tokens;
    q.n_history = 77;
    assert_int_equal(ask(&q)->prompt_tokens, n);
    q.n_history = 2;
    assert_int_not_equal(ask(&q)->prompt_tokens, n); /* here they fit, and are believed */
    q.history = foreign;
    q.n_history_ids = 2;
    assert_int_equal(ask(&q)->failed, ERR_INTERNAL);
}

/* A chat of a system's message and so many turns of some 70 tokens. */
static struct rig_request long_chat(unsigned n_turns)
{
    static char words[32][64];
    struct rig_request q = chat(1);

    say(&q, "system", "be brief");
    for (unsigned i = 0; i < n_turns; i++) {
        (void)snprintf(words[i], sizeof(words[i]), "ask %02u xxxxxxxxxxxxxxxxxxxxx", i);
        say(&q, "user", words[i]);
        if (i + 1 < n_turns) {
            say(&q, "assistant", "an answer of some words");
        }
    }
    return q;
}

static bool has(const struct rig_answer *a, const char *text)
{
    const size_t n = strlen(text);

    for (size_t i = 0; i + n <= a->n_prompt_ids; i++) {
        size_t k = 0;
        while (k < n && a->prompt_ids[i + k] == (uint8_t)text[k]) {
            k++;
        }
        if (k == n) {
            return true;
        }
    }
    return false;
}

/* Goal: what does not fit is refused with both counts, and trimmed only where that was asked for:
 * the oldest turns, no more than needed, never the system's message. */
static void a_chat_is_trimmed_when_it_asks_for_it(void **state)
{
    struct rig_request q = long_chat(12);
    (void)state;

    const struct rig_answer *a = ask(&q);
    assert_int_equal(a->failed, ERR_CONTEXT_TOO_LONG);
    assert_int_equal(a->limit, RUNNER_MODEL_CTX);
    assert_true(a->have > RUNNER_MODEL_CTX);

    q.generate.trim = true;
    a = ask(&q);
    assert_int_equal(a->failed, ERR_NONE);
    assert_true(a->n_trimmed > 0 && a->n_trimmed % 2 == 0);
    assert_true(a->prompt_tokens + 5 <= RUNNER_MODEL_CTX);
    assert_true(has(a, "be brief"));
    assert_true(has(a, "ask 11"));
    assert_false(has(a, "ask 00"));
    char kept[32];
    (void)snprintf(kept, sizeof(kept), "ask %02u", a->n_trimmed / 2);
    assert_true(has(a, kept));
    (void)snprintf(kept, sizeof(kept), "ask %02u", a->n_trimmed / 2 - 1);
    assert_false(has(a, kept));
    /* One turn more would leave less than was to be free: 5 tokens and a quarter of the context. */
    assert_true(a->prompt_tokens + 80 + 5 + RUNNER_MODEL_CTX / 4 > RUNNER_MODEL_CTX);

    q = long_chat(3);
    q.generate.trim = true;
    assert_int_equal(ask(&q)->n_trimmed, 0); /* it fits as it is */
    q.generate.max_tokens = 340;
    assert_true(ask(&q)->n_trimmed > 0);
    q.generate.max_tokens = 508; /* this leaves nothing for a prompt */
    assert_int_equal(ask(&q)->failed, ERR_CONTEXT_TOO_LONG);
    q = long_chat(1);
    q.generate.trim = true;
    q.generate.max_tokens = 500;
    assert_int_equal(ask(&q)->failed, ERR_CONTEXT_TOO_LONG);
}

/* Goal: a public prefix ends where a user's words would follow. */
static void a_public_chat_ends_with_its_messages(void **state)
{
    struct rig_request q = chat(1);
    (void)state;

    say(&q, "system", "be brief");
    const uint32_t n = ask(&q)->prompt_tokens;
    q.public_ = true;
    const struct rig_answer *a = ask(&q);
    assert_string_equal(a->reason, "primed");
    assert_int_equal(a->prompt_tokens, n - 11); /* <|im_start|> a s s i s t a n t \n */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chat_goes_on_with_the_sessions_own_ids),
        cmocka_unit_test(ids_that_do_not_fit_are_left_alone),
        cmocka_unit_test(a_chat_is_trimmed_when_it_asks_for_it),
        cmocka_unit_test(a_public_chat_ends_with_its_messages),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
