/* Messages: what is packed reads as it was, and how a reader deals with keys and types. */
#include "tests/support/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "ipc/frame.h"
#include "ipc/message.h"
#include "ipc/pack.h"
#include "tests/unit/ipc/frames.h"

static void every_message_reads_as_it_was_packed(void **state)
{
    (void)state;

    for (size_t i = 0; i < n_message_examples; i++) {
        struct buf out;

        buf_init(&out, 65536);
        assert_int_equal(message_examples[i].put(&out), 0);
        /* A copy of its own size: AddressSanitizer sees a read past the body. */
        const size_t n = out.n - FRAME_HEADER;
        uint8_t *body = malloc(n);
        assert_non_null(body);
        memcpy(body, out.data + FRAME_HEADER, n);
        message_examples[i].check(body, n);
        free(body);
        buf_deinit(&out);
    }
}

/* Goal: no prefix of a message is a message. Method: every example, cut at every byte. */
static void a_message_cut_short_is_malformed(void **state)
{
    (void)state;

    for (size_t i = 0; i < n_message_examples; i++) {
        struct buf out;
        struct message m;

        buf_init(&out, 65536);
        assert_int_equal(message_examples[i].put(&out), 0);
        for (size_t n = 0; n < out.n - FRAME_HEADER; n++) {
            assert_int_equal(message_read(&m, out.data + FRAME_HEADER, n, NULL), MESSAGE_MALFORMED);
        }
        buf_deinit(&out);
    }
}

static struct diag said;
static struct buf body;

/* The views of what is read borrow from `body`, which the next read replaces. */
static int read_text(struct message *m, const char *text)
{
    body.n = 0;
    mp_text(&body, text);
    said = (struct diag){0};
    return message_read(m, body.data, body.n, &said);
}

static int begin(void **state)
{
    (void)state;
    buf_init(&body, 4 << 20);
    return 0;
}

static int end(void **state)
{
    (void)state;
    buf_deinit(&body);
    return 0;
}

static void keys_may_come_in_any_order(void **state)
{
    struct message m;
    (void)state;

    assert_int_equal(read_text(&m, "{'model': 'x', 'id': 4, 'type': 'load'}"), MESSAGE_OK);
    assert_int_equal(m.type, MSG_LOAD);
    assert_int_equal(m.id, 4);
}

static void unknown_keys_are_ignored_whatever_they_hold(void **state)
{
    struct message m;
    (void)state;

    assert_int_equal(read_text(&m, "{'new': {'a': [1, {'b': null}]}, 'type': 'load', 'x': b<9>, "
                                   "'id': 4, 'model': 'm', 'new': 2.5}"),
                     MESSAGE_OK);
}

static void an_unknown_type_is_told_apart_and_keeps_its_id(void **state)
{
    struct message m;
    (void)state;

    assert_int_equal(read_text(&m, "{'type': 'embed', 'id': 77, 'x': 1}"), MESSAGE_UNKNOWN);
    assert_int_equal(m.id, 77);
    assert_non_null(strstr(said.text, "embed"));
    assert_int_equal(read_text(&m, "{'type': '', 'id': 77}"), MESSAGE_UNKNOWN);
}

static void what_has_no_type_is_malformed(void **state)
{
    struct message m;
    (void)state;

    assert_int_equal(read_text(&m, "{}"), MESSAGE_MALFORMED);
    assert_int_equal(read_text(&m, "{'id': 1}"), MESSAGE_MALFORMED);
    assert_int_equal(read_text(&m, "{'type': 1, 'id': 1}"), MESSAGE_MALFORMED);
    assert_int_equal(read_text(&m, "{'type': 'list', 'id': 1, 'type': 'ps'}"), MESSAGE_MALFORMED);
    assert_int_equal(read_text(&m, "{'type': 'list', 'id': 1, 5: 6}"), MESSAGE_MALFORMED);
    assert_int_equal(read_text(&m, "['type', 'list']"), MESSAGE_MALFORMED);
    assert_true(said.set);
}

static void a_bad_field_keeps_the_id_wherever_it_stands(void **state)
{
    struct message m;
    (void)state;

    assert_int_equal(read_text(&m, "{'type': 'load', 'model': 5, 'id': 9}"), MESSAGE_BAD_FIELD);
    assert_int_equal(m.id, 9);
    assert_int_equal(read_text(&m, "{'id': 9, 'model': 5, 'type': 'load'}"), MESSAGE_BAD_FIELD);
    assert_int_equal(m.id, 9);
}

static void numbers_may_come_in_any_width(void **state)
{
    struct message m;
    static const char wide[] = "\x84\xa4type\xa8generate\xa2id\xcf\0\0\0\0\0\0\0\x05\xa6prompt\xa0"
                               "\xabtemperature\x02";
    (void)state;

    assert_int_equal(message_read(&m, (const uint8_t *)wide, sizeof(wide) - 1, NULL), MESSAGE_OK);
    assert_int_equal(m.id, 5);
    assert_true(m.generate.has_temperature && m.generate.temperature == 2.0f);
    assert_int_equal(read_text(&m, "{'type': 'generate', 'id': 1, 'prompt': '', 'top_p': 1}"),
                     MESSAGE_OK);
    assert_true(m.generate.top_p == 1.0f);
}

static void a_class_left_out_is_normal(void **state)
{
    struct message m;
    enum request_class c = CLASS_LOW;
    (void)state;

    assert_int_equal(read_text(&m, "{'type': 'generate', 'id': 1, 'prompt': 'x'}"), MESSAGE_OK);
    assert_int_equal(m.generate.class_, CLASS_NORMAL);
    for (unsigned i = 0; i < CLASSES; i++) {
        const char *name = request_class_name((enum request_class)i);
        assert_true(request_class_parse(strview_of(name), &c));
        assert_int_equal(c, i);
    }
    assert_false(request_class_parse(strview_of("unknown"), &c));
    assert_string_equal(request_class_name(CLASSES), "unknown");
    assert_string_equal(progress_phase_name(PHASES), "unknown");
}

static void an_error_of_a_newer_server_goes_by_its_number(void **state)
{
    struct message m;
    (void)state;

    assert_int_equal(read_text(&m,
                               "{'type': 'error', 'id': 1, 'name': 'moon_phase', 'number': 429, "
                               "'retryable': true, 'hint': 'wait'}"),
                     MESSAGE_OK);
    assert_int_equal(error_info(m.error.code)->number, 429);
    assert_int_equal(m.error.name.n, strlen("moon_phase"));
    assert_true(m.error.retryable);
    assert_int_equal(read_text(&m, "{'type': 'error', 'name': 'moon_phase', 'number': 418}"),
                     MESSAGE_OK);
    assert_int_equal(m.error.code, ERR_INTERNAL);
}

/* Goal: words that need not be UTF-8 arrive as they are, text never does. */
static void words_out_of_files_may_be_bins_but_text_may_not(void **state)
{
    struct message m;
    (void)state;

    assert_int_equal(read_text(&m, "{'type': 'accepted', 'id': 1, 'request': 1, 'model': b<3>}"),
                     MESSAGE_OK);
    assert_int_equal(m.accepted.model.n, 3);
    assert_int_equal(read_text(&m, "{'type': 'generate', 'id': 1, 'prompt': b<3>}"),
                     MESSAGE_BAD_FIELD);
    assert_int_equal(read_text(&m, "{'type': 'delta', 'id': 1, 'index': 0, 'text': b<3>}"),
                     MESSAGE_BAD_FIELD);
}

static void a_done_without_a_reason_is_the_id_alone(void **state)
{
    const struct msg_done none = {0};
    struct buf a, b;
    (void)state;

    buf_init(&a, 256);
    buf_init(&b, 256);
    assert_int_equal(message_put_done(&a, 8, NULL), 0);
    assert_int_equal(message_put_done(&b, 8, &none), 0);
    assert_int_equal(a.n, b.n);
    assert_memory_equal(a.data, b.data, a.n);
    assert_int_equal(a.data[FRAME_HEADER], 0x82); /* type and id */
    buf_deinit(&a);
    buf_deinit(&b);
}

/* Goal: whatever cannot be sent leaves the buffer as it was.
 * Method: each message into a buffer too small for it, of every size. */
static void what_does_not_fit_is_taken_back(void **state)
{
    (void)state;

    for (size_t i = 0; i < n_message_examples; i++) {
        struct buf out;

        buf_init(&out, 65536);
        assert_int_equal(message_examples[i].put(&out), 0);
        const size_t n = out.n;
        buf_deinit(&out);
        for (size_t max = 2; max < n + 2; max++) {
            buf_init(&out, max);
            assert_int_equal(buf_append(&out, "ab", 2), 0);
            assert_int_equal(message_examples[i].put(&out), -E2BIG);
            assert_int_equal(out.n, 2);
            buf_deinit(&out);
        }
    }
}

static void a_frame_past_the_limit_is_not_packed(void **state)
{
    struct msg_generate *g = calloc(1, sizeof(*g));
    char *text = malloc(FRAME_BODY_MAX);
    struct buf out;
    (void)state;

    assert_non_null(g);
    assert_non_null(text);
    memset(text, 'x', FRAME_BODY_MAX);
    buf_init(&out, 4 << 20);
    g->prompt = (struct strview){text, FRAME_BODY_MAX - 100};
    assert_int_equal(message_put_generate(&out, 1, g, NULL, 0), 0);
    out.n = 0;
    g->prompt.n = FRAME_BODY_MAX;
    assert_int_equal(message_put_generate(&out, 1, g, NULL, 0), -E2BIG);
    assert_int_equal(out.n, 0);
    assert_int_equal(message_put_result(&out, 1, (struct strview){text, FRAME_BODY_MAX - 64}), 0);
    out.n = 0;
    assert_int_equal(message_put_result(&out, 1, (struct strview){text, FRAME_BODY_MAX}), -E2BIG);
    assert_int_equal(out.n, 0);
    buf_deinit(&out);
    free(text);
    free(g);
}

#define IN_BUFFER(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_reads_as_it_was_packed),
        cmocka_unit_test(a_message_cut_short_is_malformed),
        IN_BUFFER(keys_may_come_in_any_order),
        IN_BUFFER(unknown_keys_are_ignored_whatever_they_hold),
        IN_BUFFER(an_unknown_type_is_told_apart_and_keeps_its_id),
        IN_BUFFER(what_has_no_type_is_malformed),
        IN_BUFFER(a_bad_field_keeps_the_id_wherever_it_stands),
        IN_BUFFER(numbers_may_come_in_any_width),
        IN_BUFFER(a_class_left_out_is_normal),
        IN_BUFFER(an_error_of_a_newer_server_goes_by_its_number),
        IN_BUFFER(words_out_of_files_may_be_bins_but_text_may_not),
        cmocka_unit_test(a_done_without_a_reason_is_the_id_alone),
        cmocka_unit_test(what_does_not_fit_is_taken_back),
        cmocka_unit_test(a_frame_past_the_limit_is_not_packed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
