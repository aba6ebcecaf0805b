#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/broker/session.h"
#include "daemon/broker/session_file.h"

#define NOW UINT64_C(1800000000)

/* A session with everything in it. */
static struct session *sample(void)
{
    static struct msg_generate g;
    static const int32_t ids[] = {0, 7, INT32_MAX};
    struct session *s = session_new(1000, strview_of("chat-1"), NOW);

    g = (struct msg_generate){.kind = PROMPT_CHAT,
                              .n_messages = 2,
                              .has_temperature = true,
                              .temperature = 0.25f,
                              .has_seed = true,
                              .seed = UINT64_MAX,
                              .no_thinking = true};
    g.chat_template = strview_of("chatml");
    g.messages[0] = (struct msg_chat_message){strview_of("system"), strview_of("kurz, bitte")};
    g.messages[1] = (struct msg_chat_message){strview_of("user"), strview_of("Gr\xc3\xbc\xc3\x9f")};
    session_pin(s, &g);
    const struct session_outcome o = {.messages = g.messages,
                                      .n_messages = 2,
                                      .answer = strview_of(""),
                                      .prompt_ids = ids,
                                      .n_prompt_ids = 2,
                                      .answer_ids = ids + 2,
                                      .n_answer_ids = 1,
                                      .whole = true,
                                      .model = "home-q1_0",
                                      .quantization = "binary",
                                      .formats = "Q1_0+Q8_0",
                                      .mark = 99};
    assert_int_equal(session_commit(s, &o, NOW + 5), 0);
    return s;
}

static struct buf written(const struct session *s)
{
    struct buf out;

    buf_init(&out, SESSION_FILE_MAX);
    assert_int_equal(session_file_write(&out, s), 0);
    assert_int_equal(session_file_seal(&out), 0);
    return out;
}

/* Goal: nothing is lost between two starts of the daemon. */
static void what_is_written_is_read_again(void **state)
{
    struct session *s = sample(), *again = NULL;
    struct buf file = written(s);
    struct diag diag = {0};
    (void)state;

    assert_int_equal(session_file_read(&again, file.data, file.n, &diag), SESSION_FILE_OK);
    assert_int_equal(again->uid, 1000);
    assert_string_equal(again->name, "chat-1");
    assert_int_equal(again->created_s, NOW);
    assert_int_equal(again->used_s, NOW + 5);
    assert_int_equal(again->mark, 99);
    assert_memory_equal(&again->pins, &s->pins, sizeof(s->pins));
    assert_int_equal(again->n_messages, 3);
    assert_true(strview_is(again->messages[1].content, "Gr\xc3\xbc\xc3\x9f"));
    assert_true(strview_is(again->messages[2].role, "assistant"));
    assert_int_equal(again->messages[2].content.n, 0);
    assert_int_equal(again->n_ids, 3);
    assert_int_equal(again->n_covered, 3);
    assert_memory_equal(again->ids, s->ids, 3 * sizeof(int32_t));
    assert_int_equal(session_bytes(again), session_bytes(s));
    session_free(again);
    session_free(s);
    buf_deinit(&file);
}

static int read_in_place(const uint8_t *data, size_t n)
{
    uint8_t *exact = malloc(n ? n : 1); /* its own size: a read past the end is seen */
    struct session *s = NULL;
    struct diag diag = {0};

    assert_non_null(exact);
    if (n > 0) {
        memcpy(exact, data, n);
    }
    const int r = session_file_read(&s, exact, n, &diag);
    assert_true(r == SESSION_FILE_OK ? !diag.set : diag.set);
    session_free(s);
    free(exact);
    return r;
}

/* Goal: a file cut anywhere, or with any byte changed, is refused, never half taken. */
static void a_cut_or_changed_file_is_refused(void **state)
{
    struct session *s = sample();
    struct buf file = written(s);
    (void)state;

    for (size_t n = 0; n < file.n; n++) {
        assert_int_equal(read_in_place(file.data, n), SESSION_FILE_BAD);
    }
    for (size_t i = 0; i < file.n; i++) {
        file.data[i] ^= 0x41;
        assert_int_equal(read_in_place(file.data, file.n), SESSION_FILE_BAD);
        file.data[i] ^= 0x41;
    }
    assert_int_equal(read_in_place(file.data, file.n), SESSION_FILE_OK);
    session_free(s);
    buf_deinit(&file);
}

/* Goal: who makes the checksum right as well gets no further. Method: every 32-bit word in turn
 * holds a huge number and a negative one; what is then taken must still be within its bounds, which
 * the sanitizers watch, and lengths past the file are refused. */
static void lengths_past_the_file_are_refused(void **state)
{
    static const uint8_t huge[] = {0xff, 0xff, 0xff, 0x7f}, negative[] = {0xff, 0xff, 0xff, 0xff};
    struct session *s = sample();
    struct buf file = written(s);
    const size_t body = file.n - 8;
    unsigned refused = 0;
    (void)state;

    for (size_t i = 8; i + 4 <= body; i++) {
        for (int k = 0; k < 2; k++) {
            struct buf bent;
            buf_init(&bent, SESSION_FILE_MAX);
            assert_int_equal(buf_append(&bent, file.data, body), 0);
            memcpy(bent.data + i, k ? negative : huge, 4);
            assert_int_equal(session_file_seal(&bent), 0);
            refused += read_in_place(bent.data, bent.n) == SESSION_FILE_BAD;
            buf_deinit(&bent);
        }
    }
    assert_true(refused > body); /* of twice as many: times, marks and ids may be anything */
    session_free(s);
    buf_deinit(&file);
}

static void a_file_is_named_by_its_owner_and_name(void **state)
{
    char name[SESSION_FILE_NAME_MAX], longest[MSG_SESSION_MAX + 1];
    (void)state;

    session_file_name(name, 1000, strview_of("chat"));
    assert_string_equal(name, "1000-chat.session");
    memset(longest, 'n', MSG_SESSION_MAX);
    longest[MSG_SESSION_MAX] = '\0';
    session_file_name(name, UINT32_MAX, strview_of(longest));
    assert_int_equal(strlen(name), 10 + 1 + MSG_SESSION_MAX + 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_again),
        cmocka_unit_test(a_cut_or_changed_file_is_refused),
        cmocka_unit_test(lengths_past_the_file_are_refused),
        cmocka_unit_test(a_file_is_named_by_its_owner_and_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
