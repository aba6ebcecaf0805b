/* The command `onebit` where the daemon keeps the conversation, and its other short verbs, against
 * a fake. */
#include "tests/support/test.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/compiler.h"
#include "client/onebit.h"
#include "ipc/pack.h"
#include "tests/unit/client/command.h"
#include "tests/unit/client/fake.h"

static void pack_pair(struct packer *p, const char *key, const char *value)
{
    pack_z(p, key);
    pack_z(p, value);
}

/* sessions: two of them, one with a name that nobody should see raw; session: one with two
 * messages; metrics: a text; list: models whose names are traps for a shell. */
static void answer_query(struct fake_conn *c, const struct message *m)
{
    struct buf value;
    struct packer p = packer_of(&value);

    buf_init(&value, 4096);
    if (m->type == MSG_METRICS) {
        pack_z(&p, "onebit_requests_total{model=\"a\x1b[2J\"} 3\n");
    } else if (m->type == MSG_SESSION) {
        pack_map(&p, 6);
        pack_pair(&p, "name", "work");
        pack_pair(&p, "model", "home");
        pack_z(&p, "created_s");
        pack_uint(&p, 1000000000);
        pack_z(&p, "used_s");
        pack_uint(&p, (uint64_t)time(NULL) - 200);
        pack_z(&p, "first");
        pack_uint(&p, 12);
        pack_z(&p, "history");
        pack_array(&p, 2);
        pack_map(&p, 2);
        pack_pair(&p, "role", "user");
        pack_pair(&p, "content", "one\ntwo");
        pack_map(&p, 2);
        pack_pair(&p, "role", "assistant");
        pack_pair(&p, "content", "\x1b]0;title\x07three");
    } else {
        static const char *const names[] = {"work", "$(touch trap)", "two words", "bad\x1bname"};
        pack_array(&p, ARRAY_SIZE(names));
        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
            pack_map(&p, 4);
            pack_pair(&p, "name", names[i]);
            pack_pair(&p, "model", "home");
            pack_z(&p, "created_s");
            pack_uint(&p, 1000000000); /* 2001-09-09 01:46:40 UTC */
            pack_z(&p, "used_s");
            pack_uint(&p, (uint64_t)time(NULL) - 200);
        }
    }
    assert(p.error == 0);
    assert(message_put_result(&c->out, m->id, (struct strview){(char *)value.data, value.n}) == 0);
    fake_flush(c);
    buf_deinit(&value);
}

/* A turn: the answer tells how many messages came, for which session, and what else was asked. */
static void answer_turn(struct fake_conn *c, const struct message *m)
{
    const struct msg_generate *g = &m->generate;
    const bool begins = g->has_session && g->session.n == 0;
    const struct msg_accepted accepted = {
        .global = 1,
        .model = strview_of("home"),
        .session = begins ? strview_of("a1b2") : g->session,
    };
    const struct msg_done done = {.finish_reason = strview_of("stop"),
                                  .model = strview_of("home"),
                                  .trimmed = g->trim ? 2 : 0,
                                  .cached_answer = !g->no_cache && !g->has_session};
    char text[256];

    if (strview_is(g->messages[g->n_messages - 1].content, "busy")) {
        fake_error(c, m->id, ERR_SESSION_BUSY, "a turn runs");
        return;
    }
    snprintf(text, sizeof(text), "%zu %s[%.*s]%s%s", g->n_messages, g->has_session ? "" : "no",
             (int)g->session.n, g->session.n ? g->session.data : "", g->trim ? " trim" : "",
             g->no_cache ? " fresh" : "");
    assert(message_put_accepted(&c->out, m->id, &accepted) == 0);
    fake_text(c, m->id, 0, text);
    assert(message_put_done(&c->out, m->id, &done) == 0);
    fake_flush(c);
}

static void serve(struct fake_conn *c, void *arg)
{
    struct message m;

    fake_greet(c);
    while (fake_read(c, &m)) {
        if (m.type == MSG_GENERATE) {
            answer_turn(c, &m);
        } else if (m.type == MSG_SESSION_DROP && !strview_is(m.session_drop.session, "work") &&
                   !strview_is(m.session_drop.session, "a1b2")) {
            fake_error(c, m.id, ERR_NO_SESSION, "no such session");
        } else if (m.type == MSG_SESSION_DROP) {
            assert(message_put_done(&c->out, m.id, NULL) == 0);
            fake_flush(c);
        } else {
            answer_query(c, &m);
        }
    }
}

static void run_names_its_session_and_tells_that_of_a_new_one(void **state)
{
    struct fake *f = fake_start(serve, NULL);
    struct ran r;

    RUN(&r, "", "run", "-s", fake_path(f), "hi");
    assert_string_equal(r.out, "1 no[]\n");
    RUN(&r, "", "run", "-s", fake_path(f), "--session", "work", "hi");
    assert_string_equal(r.out, "1 [work]\n");
    assert_string_equal(r.err, "");
    RUN(&r, "", "run", "-s", fake_path(f), "--session", "", "--no-cache", "hi");
    assert_string_equal(r.out, "1 [] fresh\n");
    assert_string_equal(r.err, "onebit: session a1b2\n");
    RUN(&r, "", "run", "-s", fake_path(f), "--session=work", "--trim", "hi");
    assert_string_equal(r.out, "1 [work] trim\n");
    assert_non_null(strstr(r.err, "oldest 2 messages were left out"));
    RUN(&r, "", "run", "-s", fake_path(f), "--session=work", "busy");
    assert_int_equal(r.code, onebit_error_info(ONEBIT_ERR_SESSION_BUSY)->exit_code);
    fake_stop(f);
}

static void json_has_the_session_and_where_the_answer_came_from(void **state)
{
    struct fake *f = fake_start(serve, NULL);
    struct ran r;

    RUN(&r, "", "run", "--json", "-s", fake_path(f), "--session", "", "--trim", "hi");
    json_t *all = json_loads(r.out, 0, NULL);
    assert_string_equal(json_string_value(json_object_get(all, "session")), "a1b2");
    assert_int_equal(json_integer_value(json_object_get(all, "trimmed")), 2);
    assert_null(json_object_get(all, "cached_answer"));
    json_decref(all);
    RUN(&r, "", "run", "--json", "-s", fake_path(f), "hi");
    all = json_loads(r.out, 0, NULL);
    assert_null(json_object_get(all, "session"));
    assert_true(json_is_true(json_object_get(all, "cached_answer")));
    json_decref(all);
    fake_stop(f);
}

/* Goal: with --session each message goes alone, and the system message once. Method: the fake
 * counts them; after a failure the system message has not been taken, so it is sent again. */
static void chat_sends_what_is_new_and_reset_drops_the_session(void **state)
{
    struct fake *f = fake_start(serve, NULL);
    struct ran r;

    RUN(&r, "a\nb\n", "chat", "-s", fake_path(f), "--session", "work");
    assert_int_equal(r.code, 0);
    assert_string_equal(r.out, "1 [work]\n1 [work]\n");
    RUN(&r, "a\nb\n/reset\nc\n", "chat", "-s", fake_path(f), "--session", "work", "--system", "x");
    assert_int_equal(r.code, 0);
    assert_string_equal(r.out, "2 [work]\n1 [work]\n2 [work]\n");
    RUN(&r, "a\nb\n/reset\n", "chat", "-s", fake_path(f), "--session", "");
    assert_int_equal(r.code, 0);
    assert_string_equal(r.out, "1 []\n1 [a1b2]\n");
    assert_string_equal(r.err, "onebit: session a1b2\n");
    RUN(&r, "busy\n", "chat", "-s", fake_path(f), "--session", "work");
    assert_int_equal(r.code, onebit_error_info(ONEBIT_ERR_SESSION_BUSY)->exit_code);
    fake_stop(f);
}

static void sessions_are_listed_shown_and_dropped(void **state)
{
    struct fake *f = fake_start(serve, NULL);
    struct ran r;

    RUN(&r, "", "session", "list", "-s", fake_path(f));
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.out, "NAME"));
    assert_non_null(strstr(r.out, "bad\\x1bname"));
    assert_non_null(strstr(r.out, "  2001-09-09 "));
    assert_non_null(strstr(r.out, "  3 min ago\n"));
    RUN(&r, "", "session", "show", "work", "-s", fake_path(f));
    assert_int_equal(r.code, 0);
    assert_non_null(
        strstr(r.out, "\nuser\n  one\n  two\n\nassistant\n  \\x1b]0;title\\x07three\n"));
    assert_non_null(strstr(r.out, "\ncreated                      2001-09-09 "));
    assert_non_null(strstr(r.out, "\nused                         3 min ago\n"));
    assert_non_null(strstr(r.out, "\nthe first 12 messages are not shown: "));
    RUN(&r, "", "session", "--json", "show", "work", "-s", fake_path(f));
    json_t *all = json_loads(r.out, 0, NULL);
    assert_int_equal(json_array_size(json_object_get(all, "history")), 2);
    json_decref(all);
    RUN(&r, "", "session", "drop", "work", "-s", fake_path(f));
    assert_int_equal(r.code, 0);
    assert_string_equal(r.out, "");
    RUN(&r, "", "session", "drop", "gone", "work", "lost", "-s",
        fake_path(f)); /* none stops the next */
    assert_int_equal(r.code, onebit_error_info(ONEBIT_ERR_NO_SESSION)->exit_code);
    const char *first = strstr(r.err, "no_session");
    assert_non_null(first);
    assert_non_null(strstr(first + 1, "no_session"));
    fake_stop(f);
}

/* Goal: a shell that completes gets names, or nothing and silence. */
static void names_are_for_shells(void **state)
{
    struct fake *f = fake_start(serve, NULL);
    struct ran r;

    RUN(&r, "", "list", "--names", "-s", fake_path(f));
    assert_int_equal(r.code, 0);
    assert_string_equal(r.out, "work\n$(touch trap)\ntwo words\n");
    RUN(&r, "", "session", "list", "--names", "-s", fake_path(f));
    assert_string_equal(r.out, "work\n$(touch trap)\ntwo words\n");
    fake_stop(f);
    RUN(&r, "", "list", "--names", "-s", "/nonexistent/onebit.sock");
    assert_int_equal(r.code, 69);
    assert_string_equal(r.out, "");
    assert_string_equal(r.err, "");
}

static void serve_silence(struct fake_conn *c, void *arg)
{
    fake_until_hang_up(c);
}

static void names_do_not_wait_for_a_daemon_that_hangs(void **state)
{
    struct fake *f = fake_start(serve_silence, NULL);
    struct ran r;

    RUN(&r, "", "list", "--names", "-s", fake_path(f));
    assert_int_equal(r.code, 69);
    assert_string_equal(r.err, "");
    fake_stop(f);
}

static void metrics_pass_as_they_are_into_a_pipe(void **state)
{
    struct fake *f = fake_start(serve, NULL);
    struct ran r;

    RUN(&r, "", "metrics", "-s", fake_path(f));
    assert_int_equal(r.code, 0);
    assert_string_equal(r.out, "onebit_requests_total{model=\"a\x1b[2J\"} 3\n");
    fake_stop(f);
}

static void wrong_usage_ends_with_64(void **state)
{
    static const char *const all[][WORDS_MAX] = {
        {"session"},
        {"session", "list", "x"},
        {"session", "show"},
        {"session", "show", "a", "b"},
        {"session", "drop"},
        {"session", "forget", "a"},
        {"run", "--trim", "hi"},
        {"run", "--raw", "--session", "a", "hi"},
        {"metrics", "x"},
        {"metrics", "--json"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        struct ran r;
        run(&r, "", all[i]);
        assert_int_equal(r.code, 64);
        assert_string_not_equal(r.err, "");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(run_names_its_session_and_tells_that_of_a_new_one),
        cmocka_unit_test(json_has_the_session_and_where_the_answer_came_from),
        cmocka_unit_test(chat_sends_what_is_new_and_reset_drops_the_session),
        cmocka_unit_test(sessions_are_listed_shown_and_dropped),
        cmocka_unit_test(names_are_for_shells),
        cmocka_unit_test(names_do_not_wait_for_a_daemon_that_hangs),
        cmocka_unit_test(metrics_pass_as_they_are_into_a_pipe),
        cmocka_unit_test(wrong_usage_ends_with_64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
