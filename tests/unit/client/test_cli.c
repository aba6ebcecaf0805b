/* The command `onebit` as its users meet it, against a fake daemon. */
#include "tests/support/test.h"

#include <jansson.h>
#include <pty.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/compiler.h"
#include "client/onebit.h"
#include "ipc/pack.h"
#include "tests/unit/client/command.h"
#include "tests/unit/client/fake.h"

/* ---- run ---- */

/* Answers with the prompt, word by word as the model would; the words say what else to do. */
static void serve_echo(struct fake_conn *c, void *arg)
{
    struct message m;

    fake_greet(c);
    while (fake_read(c, &m)) {
        char text[512];
        const struct msg_generate *g = &m.generate;
        assert(m.type == MSG_GENERATE);
        struct strview last =
            g->kind == PROMPT_CHAT ? g->messages[g->n_messages - 1].content : g->prompt;
        assert(last.n < sizeof(text));
        memcpy(text, last.data, last.n);
        text[last.n] = '\0';
        const uint32_t id = m.id;
        if (strcmp(text, "fail") == 0) {
            fake_error(c, id, ERR_NO_MODEL, "no model \"\x1b[31mred\"");
            continue;
        }
        if (strcmp(text, "count") == 0) { /* messages of the conversation */
            snprintf(text, sizeof(text), "%zu", g->n_messages);
        }
        fake_text(c, id, 0, g->kind == PROMPT_CHAT ? "chat:" : "raw:");
        fake_text(c, id, 1, text);
        fake_done(c, id, 2);
    }
}

static void run_prints_the_answer_and_one_newline(void **state)
{
    struct fake *f = fake_start(serve_echo, NULL);
    struct ran r;

    RUN(&r, "", "run", "-s", fake_path(f), "turn", "on", "-n", "5", "the light");
    assert_int_equal(r.code, 0);
    assert_string_equal(r.out, "chat:turn on the light\n");
    assert_string_equal(r.err, "");
    RUN(&r, "", "run", "-s", fake_path(f), "--raw", "a");
    assert_string_equal(r.out, "raw:a\n");
    RUN(&r, "", "run", "-s", fake_path(f), "ends itself\n");
    assert_string_equal(r.out, "chat:ends itself\n");
    RUN(&r, "", "run", "-s", fake_path(f), "--", "-5 degrees");
    assert_string_equal(r.out, "chat:-5 degrees\n");
    fake_stop(f);
}

/* Goal: our words never land in our own conversation with the daemon. Method: input and error are
 * missing, so the socket would be number 0 and the descriptor of signals number 2. */
static void missing_input_and_error_are_not_replaced_by_the_socket(void **state)
{
    struct fake *f = fake_start(serve_echo, NULL);
    const char *const asks[WORDS_MAX] = {"run", "-v", "-s", fake_path(f), "hi"};
    const char *const reads[WORDS_MAX] = {"run", "-s", fake_path(f)};
    const int out = memory_file("");
    char text[64];
    int status;

    pid_t pid = start(asks, -1, out, -1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status_code(status), 0);
    pid = start(reads, -1, out, -1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status_code(status), 74);
    read_back(out, text, sizeof(text));
    assert_string_equal(text, "chat:hi\n");
    fake_stop(f);
}

static void run_reads_standard_input(void **state)
{
    struct fake *f = fake_start(serve_echo, NULL);
    struct ran r;

    RUN(&r, "from a pipe\n", "run", "-s", fake_path(f));
    assert_string_equal(r.out, "chat:from a pipe\n");
    RUN(&r, "from a dash", "run", "-s", fake_path(f), "-");
    assert_string_equal(r.out, "chat:from a dash\n");
    RUN(&r, "", "run", "-s", fake_path(f));
    assert_int_equal(r.code, 64);
    fake_stop(f);
}

/* Run it with its output, or its error, on a terminal; ret: what the terminal got. Returns the exit
 * code. */
static int on_terminal(const char *const words[], bool error, char *ret, size_t room)
{
    const int in = memory_file(""), other = memory_file("");
    int terminal, inside, status;
    size_t n = 0;

    assert_int_equal(openpty(&terminal, &inside, NULL, NULL, NULL), 0);
    const pid_t pid = start(words, in, error ? other : inside, error ? inside : other);
    close(inside);
    while (n + 1 < room) {
        const ssize_t got = read(terminal, ret + n, room - 1 - n);
        if (got <= 0) {
            break;
        }
        n += (size_t)got;
    }
    ret[n] = '\0';
    assert_int_equal(waitpid(pid, &status, 0), pid);
    close(terminal);
    close(in);
    close(other);
    return status_code(status);
}

static void bytes_pass_unchanged_into_a_pipe_and_escaped_onto_a_terminal(void **state)
{
    struct fake *f = fake_start(serve_echo, NULL);
    const char *const words[WORDS_MAX] = {"run", "-s", fake_path(f), "\x1b[31mred \xc2\x9bK"};
    char text[256];
    struct ran r;

    run(&r, "", words);
    assert_string_equal(r.out, "chat:\x1b[31mred \xc2\x9bK\n");
    assert_int_equal(on_terminal(words, false, text, sizeof(text)), 0);
    assert_string_equal(text, "chat:\\x1b[31mred \\u009bK\r\n");
    fake_stop(f);
}

static void json_holds_the_answer_and_how_it_was_made(void **state)
{
    struct fake *f = fake_start(serve_echo, NULL);
    struct ran r;

    RUN(&r, "", "run", "-s", fake_path(f), "--json", "\x1b[31m");
    assert_int_equal(r.code, 0);
    json_t *all = json_loads(r.out, 0, NULL);
    assert_non_null(all);
    assert_string_equal(json_string_value(json_object_get(all, "text")), "chat:\x1b[31m");
    assert_int_equal(json_array_size(json_object_get(all, "ids")), 2);
    assert_string_equal(json_string_value(json_object_get(all, "finish_reason")), "stop");
    assert_string_equal(json_string_value(json_object_get(all, "cpu")), "scalar");
    assert_int_equal(json_integer_value(json_object_get(all, "seed")), 42);
    json_t *usage = json_object_get(all, "usage");
    assert_int_equal(json_integer_value(json_object_get(usage, "answer_tokens")), 2);
    json_decref(all);

    RUN(&r, "", "run", "-s", fake_path(f), "--json", "fail");
    assert_int_equal(r.code, onebit_error_info(ONEBIT_ERR_NO_MODEL)->exit_code);
    all = json_loads(r.out, 0, NULL);
    json_t *error = json_object_get(all, "error");
    assert_non_null(strstr(r.err, "no_model")); /* people are told as well */
    assert_string_equal(json_string_value(json_object_get(error, "name")), "no_model");
    json_decref(all);
    fake_stop(f);
}

static void a_failure_is_told_with_its_hint_and_obeys_nothing(void **state)
{
    struct fake *f = fake_start(serve_echo, NULL);
    const struct onebit_error_info *e = onebit_error_info(ONEBIT_ERR_NO_MODEL);
    struct ran r;

    RUN(&r, "", "run", "-s", fake_path(f), "fail");
    assert_int_equal(r.code, e->exit_code);
    assert_string_equal(r.out, "");
    assert_non_null(strstr(r.err, "no_model"));
    assert_non_null(strstr(r.err, e->hint));
    assert_non_null(strstr(r.err, "\\x1b[31mred"));
    assert_null(strchr(r.err, '\x1b'));
    fake_stop(f);
}

/* ---- interruptions ---- */

/* Talks until it is cancelled; then confirms. */
static void serve_endless(struct fake_conn *c, void *arg)
{
    int *cancels = arg;
    struct message m;

    fake_greet(c);
    const uint32_t id = fake_expect(c, MSG_GENERATE);
    fake_text(c, id, 0, "and then ");
    if (fake_read(c, &m)) {
        assert(m.type == MSG_CANCEL && m.cancel.target == id);
        (*cancels)++;
        fake_error(c, id, ERR_CANCELLED, "by its client");
        fake_until_hang_up(c);
    }
}

static void a_signal_cancels_the_request_and_shows_in_the_exit_code(void **state)
{
    static const int signals[] = {SIGINT, SIGTERM};

    for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
        int cancels = 0, out[2], status;
        struct fake *f = fake_start(serve_endless, &cancels);
        const char *const words[WORDS_MAX] = {"run", "-s", fake_path(f), "go"};
        const int in = memory_file(""), err = memory_file("");
        char text[64], said[256];
        assert_int_equal(pipe(out), 0);
        const pid_t pid = start(words, in, out[1], err);
        close(out[1]);
        assert_true(read(out[0], text, sizeof(text)) > 0); /* it streams */
        assert_int_equal(kill(pid, signals[i]), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status_code(status), 128 + signals[i]);
        close(out[0]);
        close(in);
        read_back(err, said, sizeof(said));
        assert_string_equal(said, ""); /* who interrupts need not be told */
        fake_stop(f);
        assert_int_equal(cancels, 1);
    }
}

static void serve_flood(struct fake_conn *c, void *arg)
{
    int *cancels = arg;
    struct message m;

    fake_greet(c);
    const uint32_t id = fake_expect(c, MSG_GENERATE);
    fake_text(c, id, 0, "first");
    fake_text(c, id, 1, "second"); /* nobody reads it any more */
    if (fake_read(c, &m)) {
        assert(m.type == MSG_CANCEL);
        (*cancels)++;
        fake_error(c, id, ERR_CANCELLED, "by its client");
        fake_until_hang_up(c);
    }
}

static void a_reader_that_goes_away_cancels_quietly(void **state)
{
    int cancels = 0, out[2], status;
    struct fake *f = fake_start(serve_flood, &cancels);
    const char *const words[WORDS_MAX] = {"run", "-s", fake_path(f), "go"};
    const int in = memory_file(""), err = memory_file("");
    char said[256];

    assert_int_equal(pipe(out), 0);
    close(out[0]);
    const pid_t pid = start(words, in, out[1], err);
    close(out[1]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status_code(status), 128 + SIGPIPE);
    read_back(err, said, sizeof(said));
    assert_string_equal(said, "");
    close(in);
    fake_stop(f);
    assert_int_equal(cancels, 1);
}

static void serve_and_vanish(struct fake_conn *c, void *arg)
{
    fake_greet(c);
    fake_text(c, fake_expect(c, MSG_GENERATE), 0, "half");
}

static void a_daemon_that_vanishes_is_told(void **state)
{
    struct fake *f = fake_start(serve_and_vanish, NULL);
    struct ran r;

    RUN(&r, "", "run", "-s", fake_path(f), "go");
    assert_int_equal(r.code, 69);
    assert_string_equal(r.out, "half\n");
    assert_non_null(strstr(r.err, "connection_lost"));
    fake_stop(f);
}

/* ---- chat ---- */

static void chat_sends_the_conversation_and_reset_forgets_it(void **state)
{
    struct fake *f = fake_start(serve_echo, NULL);
    struct ran r;

    RUN(&r, "hello\ncount\n/reset\ncount\n\n/quit\nnever\n", "chat", "-s", fake_path(f));
    assert_int_equal(r.code, 0);
    assert_string_equal(r.out, "chat:hello\nchat:3\nchat:1\n");
    RUN(&r, "count", "chat", "-s", fake_path(f), "--system", "be brief");
    assert_string_equal(r.out, "chat:2\n");
    RUN(&r, "fail\nnever\n", "chat", "-s", fake_path(f));
    assert_int_equal(r.code, onebit_error_info(ONEBIT_ERR_NO_MODEL)->exit_code);
    assert_string_equal(r.out, "");
    fake_stop(f);
}

/* ---- trying again ---- */

/* The first request is refused; the others are answered. The counter tells how long the first has
 * to wait. */
#define LONG_WAIT 1000u

static void serve_full_once(struct fake_conn *c, void *arg)
{
    atomic_uint *n = arg;
    struct message m;

    fake_greet(c);
    while (fake_read(c, &m)) {
        if (m.type == MSG_GENERATE && (*n)++ % LONG_WAIT == 0) {
            const struct msg_error e = {.code = ERR_QUEUE_FULL,
                                        .message = strview_of("full"),
                                        .retry_after_ms = *n > LONG_WAIT ? 50000 : 1100};
            assert(message_put_error(&c->out, m.id, &e) == 0);
            fake_flush(c);
        } else if (m.type == MSG_GENERATE) {
            fake_text(c, m.id, 0, "yes");
            fake_done(c, m.id, 1);
        }
    }
}

/* Goal: nobody wonders why nothing comes, and no script gets lines that it did not ask for. */
static void a_wait_before_another_try_is_told_to_those_who_look(void **state)
{
    atomic_uint n = 0;
    struct fake *f = fake_start(serve_full_once, &n);
    char text[256];
    struct ran r;

    RUN(&r, "", "run", "-v", "-s", fake_path(f), "hi");
    assert_int_equal(r.code, 0);
    assert_string_equal(r.out, "yes\n");
    assert_non_null(strstr(r.err, "onebit: queue_full; trying again in 1 s\n"));
    n = 0;
    RUN(&r, "", "run", "-s", fake_path(f), "hi");
    assert_int_equal(r.code, 0);
    assert_string_equal(r.err, "");
    n = 0;
    assert_int_equal(on_terminal((const char *[WORDS_MAX]){"run", "-s", fake_path(f), "hi"}, true,
                                 text, sizeof(text)),
                     0);
    assert_string_equal(text, "onebit: queue_full; trying again in 1 s\r\n");
    fake_stop(f);
}

/* Refuses as the prompt says, for longer than anybody waits. */
static void serve_refusal(struct fake_conn *c, void *arg)
{
    struct message m;

    fake_greet(c);
    while (fake_read(c, &m)) {
        const struct strview text = m.generate.messages[0].content;
        const bool full = strview_is(text, "full"), rests = strview_is(text, "rests");
        const struct msg_error e = {.code = rests  ? ERR_BREAKER_OPEN
                                            : full ? ERR_QUEUE_FULL
                                                   : ERR_DRAINING,
                                    .message = strview_of("not now"),
                                    .retry_after_ms = 61500};
        assert(message_put_error(&c->out, m.id, &e) == 0);
        fake_flush(c);
    }
}

static void the_time_to_wait_is_told_once_and_in_seconds(void **state)
{
    struct fake *f = fake_start(serve_refusal, NULL);
    struct ran r;

    RUN(&r, "", "run", "-s", fake_path(f), "full");
    assert_int_equal(r.code, 75);
    assert_string_equal(r.err, "onebit: queue_full: not now (429)\n  Retry after 61.5 s.\n");
    RUN(&r, "", "run", "-s", fake_path(f), "rests");
    assert_string_equal(r.err, "onebit: breaker_open: not now (503)\n"
                               "  Retry after 61.5 s, or use another model.\n");
    RUN(&r, "", "run", "-s", fake_path(f), "stops"); /* a hint that has no place for the time */
    assert_string_equal(r.err, "onebit: draining: not now (503)\n"
                               "  Retry once the daemon is back.\n  Wait at least 61.5 s.\n");
    fake_stop(f);
}

static void a_signal_ends_the_wait_before_another_try(void **state)
{
    atomic_uint n = LONG_WAIT;
    struct fake *f = fake_start(serve_full_once, &n);
    const char *const words[WORDS_MAX] = {"run", "-s", fake_path(f), "hi"};
    const int in = memory_file(""), out = memory_file(""), err = memory_file("");
    const pid_t pid = start(words, in, out, err);
    int status;

    while (n == LONG_WAIT) {
        (void)usleep(1000);
    }
    assert_int_equal(kill(pid, SIGINT), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status_code(status), 130);
    assert_int_equal(n, LONG_WAIT + 1);
    (void)close(in);
    (void)close(out);
    (void)close(err);
    fake_stop(f);
}

/* ---- tables ---- */

static void serve_ps(struct fake_conn *c, void *arg)
{
    struct buf value;
    struct packer p = packer_of(&value);

    fake_greet(c);
    const uint32_t id = fake_expect(c, MSG_PS);
    buf_init(&value, 1024);
    pack_map(&p, 3);
    pack_z(&p, "models");
    pack_array(&p, 1);
    pack_map(&p, 3);
    pack_z(&p, "name");
    pack_z(&p, "ho\x1bme\n");
    pack_z(&p, "weight_bytes");
    pack_uint(&p, 1234567);
    pack_z(&p, "idle_ms");
    pack_uint(&p, 90000);
    pack_z(&p, "requests");
    pack_array(&p, 0);
    pack_z(&p, "identities");
    pack_array(&p, 2);
    for (unsigned i = 0; i < 2; i++) {
        pack_map(&p, 4);
        pack_z(&p, "uid");
        pack_uint(&p, i == 0 ? 1000 : 0);
        pack_z(&p, "unit");
        pack_z(&p, i == 0 ? "" : "voi\x1b.service");
        pack_z(&p, "queue_bytes");
        pack_uint(&p, i == 0 ? 0 : 1234567);
        pack_z(&p, "tokens");
        pack_uint(&p, 42 + i);
    }
    assert(p.error == 0);
    assert(message_put_result(&c->out, id, (struct strview){(char *)value.data, value.n}) == 0);
    fake_flush(c);
    buf_deinit(&value);
    fake_until_hang_up(c);
}

static void tables_have_units_and_show_what_names_hide(void **state)
{
    struct fake *f = fake_start(serve_ps, NULL);
    struct ran r;

    RUN(&r, "", "ps", "-s", fake_path(f));
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.out, "MODEL"));
    assert_non_null(strstr(r.out, "ho\\x1bme\\x0a"));
    assert_non_null(strstr(r.out, "1.2 MB"));
    assert_non_null(strstr(r.out, "2 min"));
    assert_null(strchr(r.out, '\x1b'));
    assert_non_null(strstr(r.out,
                           "\nno request runs\n\nWHO                     QUEUE   ANSWER TOKENS\n"
                           "uid 1000                0 B     42\n"
                           "voi\\x1b.service, uid 0  1.2 MB  43\n"));
    RUN(&r, "", "ps", "--json", "-s", fake_path(f));
    json_t *all = json_loads(r.out, 0, NULL);
    json_t *model = json_array_get(json_object_get(all, "models"), 0);
    assert_string_equal(json_string_value(json_object_get(model, "name")), "ho\x1bme\n");
    json_decref(all);
    fake_stop(f);
}

static void serve_cancels(struct fake_conn *c, void *arg)
{
    struct message m;

    unsigned *n = arg;

    fake_greet(c);
    while (fake_read(c, &m)) {
        assert(m.type == MSG_CANCEL && m.cancel.target == 0);
        if (m.cancel.global == 6) {
            return; /* the daemon goes away */
        }
        if (m.cancel.global == 7) {
            (*n)++;
            assert(message_put_done(&c->out, m.id, NULL) == 0);
            fake_flush(c);
        } else {
            fake_error(c, m.id, ERR_NO_REQUEST, "it has ended");
        }
    }
}

static void cancel_takes_the_daemons_numbers(void **state)
{
    unsigned n = 0;
    struct fake *f = fake_start(serve_cancels, &n);
    struct ran r;

    RUN(&r, "", "cancel", "-s", fake_path(f), "7");
    assert_int_equal(r.code, 0);
    RUN(&r, "", "cancel", "-s", fake_path(f), "8", "7", "9", "7"); /* the first failure is told */
    assert_int_equal(r.code, onebit_error_info(ONEBIT_ERR_NO_REQUEST)->exit_code);
    RUN(&r, "", "cancel", "-s", fake_path(f), "6", "7");
    assert_int_equal(r.code, 69);
    fake_stop(f);
    assert_int_equal(n, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(missing_input_and_error_are_not_replaced_by_the_socket),
        cmocka_unit_test(run_prints_the_answer_and_one_newline),
        cmocka_unit_test(run_reads_standard_input),
        cmocka_unit_test(bytes_pass_unchanged_into_a_pipe_and_escaped_onto_a_terminal),
        cmocka_unit_test(json_holds_the_answer_and_how_it_was_made),
        cmocka_unit_test(a_failure_is_told_with_its_hint_and_obeys_nothing),
        cmocka_unit_test(a_signal_cancels_the_request_and_shows_in_the_exit_code),
        cmocka_unit_test(a_reader_that_goes_away_cancels_quietly),
        cmocka_unit_test(a_daemon_that_vanishes_is_told),
        cmocka_unit_test(chat_sends_the_conversation_and_reset_forgets_it),
        cmocka_unit_test(a_wait_before_another_try_is_told_to_those_who_look),
        cmocka_unit_test(a_signal_ends_the_wait_before_another_try),
        cmocka_unit_test(the_time_to_wait_is_told_once_and_in_seconds),
        cmocka_unit_test(tables_have_units_and_show_what_names_hide),
        cmocka_unit_test(cancel_takes_the_daemons_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
