/* Cancelling, the rules of callbacks, and answers that are no text. */
#include "tests/support/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "client/onebit.h"
#include "ipc/pack.h"
#include "tests/unit/client/fake.h"
#include "tests/unit/client/watch.h"

/* ---- cancelling, and callbacks ---- */

static void serve_until_cancelled(struct fake_conn *c, void *arg)
{
    struct message m;

    fake_greet(c);
    const uint32_t id = fake_expect(c, MSG_GENERATE);
    fake_text(c, id, 0, "some");
    assert(fake_read(c, &m) && m.type == MSG_CANCEL);
    assert(m.cancel.target == id && m.cancel.global == 0);
    fake_error(c, id, ERR_CANCELLED, "by its client");
    assert(message_put_done(&c->out, m.id, NULL) == 0);
    fake_flush(c);
    assert(fake_read(c, &m) && m.type == MSG_CANCEL && m.cancel.global == 4711);
    fake_error(c, m.id, ERR_NO_REQUEST, "it has ended");
    fake_until_hang_up(c);
}

static int cancel_it(struct onebit_conn *conn, uint32_t id)
{
    const int r = onebit_cancel(conn, id);

    assert_int_equal(onebit_cancel(conn, id), 0); /* a second time is no second frame */
    return r;
}

static void a_callback_may_cancel_and_the_request_ends_once(void **state)
{
    struct fake *f = fake_start(serve_until_cancelled, NULL);
    struct onebit_conn *conn = connected(f);
    struct onebit_request r = ask("hi");
    struct onebit_handler h = watch();
    struct seen s = {.in_delta = cancel_it, .in_delta_gave = 77}, other = {0};

    assert_int_equal(onebit_run(conn, &r, &h, &s), ONEBIT_ERR_CANCELLED);
    assert_int_equal(s.in_delta_gave, 0);
    assert_string_equal(s.order, "te");
    assert_string_equal(s.text, "some");
    assert_int_equal(onebit_cancel_request(conn, 4711, &h, &other, NULL), 0);
    while (!other.ended) {
        assert_int_equal(onebit_dispatch(conn, -1), 0);
    }
    assert_int_equal(other.code, ONEBIT_ERR_NO_REQUEST);
    onebit_disconnect(conn);
    fake_stop(f);
}

static struct seen second; /* of the request that a callback queues */

static int misuse(struct onebit_conn *conn, uint32_t id)
{
    struct onebit_request r = ask("again");
    struct onebit_handler h = watch();
    char *json = NULL;

    assert_int_equal(onebit_dispatch(conn, 0), -EBUSY);
    assert_int_equal(onebit_run(conn, &r, NULL, NULL), -EBUSY);
    assert_int_equal(onebit_list(conn, &json), -EBUSY);
    assert_int_equal(onebit_load(conn, "home"), -EBUSY);
    onebit_disconnect(conn); /* does nothing */
    return onebit_generate(conn, &r, &h, &second, NULL);
}

static void serve_two_in_turn(struct fake_conn *c, void *arg)
{
    fake_greet(c);
    const uint32_t a = fake_expect(c, MSG_GENERATE);
    fake_text(c, a, 0, "first");
    const uint32_t b = fake_expect(c, MSG_GENERATE);
    fake_text(c, b, 0, "second");
    fake_done(c, b, 1);
    fake_done(c, a, 1);
    fake_until_hang_up(c);
}

static void a_callback_may_queue_but_neither_wait_nor_disconnect(void **state)
{
    struct fake *f = fake_start(serve_two_in_turn, NULL);
    struct onebit_conn *conn = connected(f);
    struct onebit_request r = ask("hi");
    struct onebit_handler h = watch();
    struct seen s = {.in_delta = misuse, .in_delta_gave = 77};

    memset(&second, 0, sizeof(second));
    assert_int_equal(onebit_run(conn, &r, &h, &s), 0);
    assert_int_equal(s.in_delta_gave, 0);
    assert_string_equal(s.order, "td");
    assert_string_equal(second.order, "td");
    assert_string_equal(second.text, "second");
    onebit_disconnect(conn);
    fake_stop(f);
}

/* ---- logprobs and results ---- */

static void serve_logprobs(struct fake_conn *c, void *arg)
{
    const struct msg_delta delta = {.text = strview_of("ab")};
    const int32_t ids[] = {5, 9};
    const struct msg_logprob rows[] = {{5, -0.25F}, {7, -2.0F}, {9, -0.5F}, {5, -1.0F}};

    fake_greet(c);
    const uint32_t id = fake_expect(c, MSG_GENERATE);
    assert(message_put_delta(&c->out, id, &delta, ids, 2, rows, 2) == 0);
    fake_done(c, id, 2);
    fake_until_hang_up(c);
}

static void check_logprobs(struct onebit_conn *conn, uint32_t id, const struct onebit_delta *delta,
                           void *user)
{
    assert_int_equal(delta->n_ids, 2);
    assert_non_null(delta->logprobs);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(delta->logprobs[i].n, 2);
        assert_int_equal(delta->logprobs[i].alternatives[0].id, delta->ids[i]);
    }
    assert_true(delta->logprobs[0].alternatives[1].logprob == -2.0F);
    assert_true(delta->logprobs[1].alternatives[0].logprob == -0.5F);
    *(bool *)user = true;
}

static void log_probabilities_stand_beside_their_tokens(void **state)
{
    struct fake *f = fake_start(serve_logprobs, NULL);
    struct onebit_conn *conn = connected(f);
    struct onebit_request r = ask("hi");
    struct onebit_handler h;
    bool called = false;

    onebit_handler_init(&h);
    h.delta = check_logprobs;
    r.n_logprobs = 1;
    assert_int_equal(onebit_run(conn, &r, &h, &called), 0);
    assert_true(called);
    onebit_disconnect(conn);
    fake_stop(f);
}

static void serve_verbs(struct fake_conn *c, void *arg)
{
    struct buf value;
    struct packer p = packer_of(&value);
    struct message m;

    fake_greet(c);
    buf_init(&value, 256);
    pack_map(&p, 1);
    pack_z(&p, "uptime_ms");
    pack_uint(&p, 12);
    const uint32_t id = fake_expect(c, MSG_STATUS);
    assert(message_put_result(&c->out, id, (struct strview){(char *)value.data, value.n}) == 0);
    fake_flush(c);
    buf_deinit(&value);
    assert(fake_read(c, &m) && m.type == MSG_LOAD && strview_is(m.load.model, "home"));
    assert(message_put_done(&c->out, m.id, NULL) == 0);
    fake_flush(c);
    fake_error(c, fake_expect(c, MSG_UNLOAD), ERR_MODEL_BUSY, "2 requests use it");
    const uint32_t list = fake_expect(c, MSG_LIST); /* an answer without its result */
    assert(message_put_done(&c->out, list, NULL) == 0);
    fake_flush(c);
    fake_until_hang_up(c);
}

static void verbs_wait_for_their_answers(void **state)
{
    struct fake *f = fake_start(serve_verbs, NULL);
    struct onebit_conn *conn = connected(f);
    char *json = NULL;

    assert_int_equal(onebit_status(conn, &json), 0);
    assert_string_equal(json, "{\"uptime_ms\":12}");
    free(json);
    json = NULL;
    assert_int_equal(onebit_load(conn, "home"), 0);
    assert_int_equal(onebit_unload(conn, "home"), ONEBIT_ERR_MODEL_BUSY);
    assert_int_equal(onebit_list(conn, &json), -EPROTO);
    assert_null(json);
    onebit_disconnect(conn);
    fake_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_callback_may_cancel_and_the_request_ends_once),
        cmocka_unit_test(a_callback_may_queue_but_neither_wait_nor_disconnect),
        cmocka_unit_test(log_probabilities_stand_beside_their_tokens),
        cmocka_unit_test(verbs_wait_for_their_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
