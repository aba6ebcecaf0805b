/* Sending again: when, how often, and over which connection. */
#include "tests/support/test.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/compiler.h"
#include "tests/unit/client/fake.h"
#include "tests/unit/client/watch.h"
#include "tests/unit/client/world.h"

/* ---- the policy ---- */

static uint64_t delay(const struct onebit_failure *f, uint32_t retries, uint32_t random)
{
    struct onebit_retry policy;

    onebit_retry_init(&policy);
    return retry_delay_ms(&policy, f, f->code < 0, retries, random);
}

static struct onebit_failure failed(enum onebit_error code)
{
    const struct onebit_error_info *info = onebit_error_info(code);

    return (struct onebit_failure){
        .code = code, .number = info->number, .retryable = info->retryable};
}

static void waits_double_up_to_a_minute_and_are_drawn_from_all_of_it(void **state)
{
    const struct onebit_failure overloaded = failed(ONEBIT_ERR_OVERLOADED);
    struct onebit_retry policy;

    assert_int_equal(delay(&overloaded, 0, 0), 0);
    assert_int_equal(delay(&overloaded, 0, UINT32_MAX), 1000);
    assert_int_equal(delay(&overloaded, 1, UINT32_MAX), 2000);
    assert_int_equal(delay(&overloaded, 2, UINT32_MAX), 4000);
    assert_int_equal(delay(&overloaded, 2, UINT32_MAX / 2), 2000);
    onebit_retry_init(&policy);
    policy.retries = UINT32_MAX;
    assert_int_equal(retry_delay_ms(&policy, &overloaded, false, 5, UINT32_MAX), 32000);
    assert_int_equal(retry_delay_ms(&policy, &overloaded, false, 6, UINT32_MAX), 60000);
    assert_int_equal(retry_delay_ms(&policy, &overloaded, false, 4000000000, UINT32_MAX), 60000);
    policy.first_ms = UINT32_MAX; /* no overflow */
    policy.most_ms = UINT32_MAX;
    assert_int_equal(retry_delay_ms(&policy, &overloaded, false, 90, UINT32_MAX), UINT32_MAX);
}

static void only_what_may_succeed_later_is_sent_again_and_only_so_often(void **state)
{
    static const struct {
        enum onebit_error code;
        uint32_t most;
    } rows[] = {
        {ONEBIT_ERR_QUEUE_FULL, 5},
        {ONEBIT_ERR_RATE_LIMITED, 5},
        {ONEBIT_ERR_INTERNAL, 3},
        {ONEBIT_ERR_OVERLOADED, 3},
        {ONEBIT_ERR_DRAINING, 3},
        {ONEBIT_ERR_ENGINE_UNAVAILABLE, 3},
        {ONEBIT_ERR_BREAKER_OPEN, 3},
        {ONEBIT_ERR_BAD_REQUEST, 0},
        {ONEBIT_ERR_NO_MODEL, 0},
        {ONEBIT_ERR_MODEL_BUSY, 0}, /* 409, though it may succeed */
        {ONEBIT_ERR_SESSION_BUSY, 0},
        {ONEBIT_ERR_CANCELLED, 0},
        {ONEBIT_ERR_MODEL_MALFORMED, 0}, /* 500, but for good */
        {ONEBIT_ERR_REQUEST_CRASHED, 0},
        {ONEBIT_ERR_DEADLINE, 0},
        {ONEBIT_ERR_MODEL_TOO_BIG, 0},
    };
    const struct onebit_failure gone = {.code = -ECONNRESET}, alien = {.code = -EPROTO};

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        const struct onebit_failure f = failed(rows[i].code);
        uint32_t n = 0;
        while (n < 100 && delay(&f, n, 0) != RETRY_NEVER) {
            n++;
        }
        assert_int_equal(n, rows[i].most);
    }
    assert_int_equal(delay(&gone, 2, UINT32_MAX), 4000);
    assert_true(delay(&gone, 3, 0) == RETRY_NEVER);
    assert_true(delay(&alien, 0, 0) == RETRY_NEVER);
}

static void what_the_daemon_asks_for_is_obeyed_or_not_waited_for_at_all(void **state)
{
    struct onebit_failure f = failed(ONEBIT_ERR_RATE_LIMITED);

    f.retry_after_ms = 2500;
    assert_int_equal(delay(&f, 0, 0), 2500);
    assert_int_equal(delay(&f, 2, UINT32_MAX), 4000); /* never sooner, but it may be later */
    f.retry_after_ms = 60000;
    assert_int_equal(delay(&f, 0, 0), 60000);
    f.retry_after_ms = 60001; /* a daily quota, perhaps: the caller should hear of it */
    assert_true(delay(&f, 0, 0) == RETRY_NEVER);
}

static void a_zero_that_was_set_means_zero(void **state)
{
    const struct onebit_failure full = failed(ONEBIT_ERR_QUEUE_FULL),
                                busy = failed(ONEBIT_ERR_OVERLOADED);
    struct onebit_retry policy;

    onebit_retry_init(&policy);
    policy.first_ms = 0;
    assert_int_equal(retry_delay_ms(&policy, &busy, false, 2, UINT32_MAX), 0);
    policy.retries = 0;
    assert_true(retry_delay_ms(&policy, &busy, false, 0, 0) == RETRY_NEVER);
    assert_int_equal(retry_delay_ms(&policy, &full, false, 4, 0), 0); /* a number of its own */
    assert_false(retry_lost(&policy, -ECONNRESET));
    policy.retries_429 = 0;
    assert_true(retry_delay_ms(&policy, &full, false, 0, 0) == RETRY_NEVER);
}

/* ---- refusals ---- */

struct refusals {
    enum error_code code;
    unsigned n;              /* refused before one is answered */
    uint32_t retry_after_ms; /* said with each */
    atomic_uint seen;
    uint32_t deadlines[8]; /* as they arrived */
};

static void serve_refusals(struct fake_conn *c, void *arg)
{
    struct refusals *x = arg;
    struct message m;

    fake_greet(c);
    while (fake_read(c, &m)) {
        if (m.type == MSG_CANCEL) {
            continue;
        }
        if (m.type == MSG_GENERATE && x->seen < ARRAY_SIZE(x->deadlines)) {
            x->deadlines[x->seen] = m.generate.deadline_ms;
        }
        if (x->seen++ < x->n) {
            const struct msg_error error = {.code = x->code,
                                            .message = strview_of("not now"),
                                            .retry_after_ms = x->retry_after_ms};
            assert(message_put_error(&c->out, m.id, &error) == 0);
            fake_flush(c);
        } else {
            fake_text(c, m.id, 0, "at last");
            fake_done(c, m.id, 1);
        }
    }
}

struct rig {
    struct world world;
    struct fake *fake;
    struct onebit_conn *conn;
    struct onebit_request request;
    struct onebit_handler handler;
    struct seen seen;
};

static void rig_init(struct rig *r, fake_serve_fn *serve, void *arg)
{
    memset(r, 0, sizeof(*r));
    world_init(&r->world);
    r->fake = fake_start(serve, arg);
    r->conn = world_connect(&r->world, r->fake, NULL);
    r->request = ask("hi");
    r->handler = watch();
}

static void rig_deinit(struct rig *r)
{
    onebit_disconnect(r->conn);
    fake_stop(r->fake);
}

static int rig_run(struct rig *r)
{
    memset(&r->seen, 0, sizeof(r->seen));
    return onebit_run(r->conn, &r->request, &r->handler, &r->seen);
}

static void a_refused_request_is_sent_again_until_it_is_answered(void **state)
{
    struct refusals x = {.code = ERR_OVERLOADED, .n = 2};
    struct rig r;

    rig_init(&r, serve_refusals, &x);
    const uint64_t before_ns = r.world.now_ns;
    assert_int_equal(rig_run(&r), 0);
    assert_string_equal(r.seen.order, "rrtd");
    assert_string_equal(r.seen.text, "at last");
    assert_int_equal(r.seen.delays[0], 1000);
    assert_int_equal(r.seen.delays[1], 2000);
    assert_int_equal(r.seen.retries, 2);
    assert_int_equal(x.seen, 3);
    assert_int_equal(r.world.now_ns - before_ns, 3000 * NS_PER_MS);
    rig_deinit(&r);
}

static void a_request_that_is_refused_too_often_ends_with_the_last_refusal(void **state)
{
    struct refusals x = {.code = ERR_DRAINING, .n = 100}, y = {.code = ERR_QUEUE_FULL, .n = 100};
    struct rig r;

    rig_init(&r, serve_refusals, &x);
    assert_int_equal(rig_run(&r), ONEBIT_ERR_DRAINING);
    assert_string_equal(r.seen.order, "rrre");
    assert_int_equal(r.seen.retries, 3);
    assert_int_equal(x.seen, 4);
    rig_deinit(&r);

    rig_init(&r, serve_refusals, &y);
    r.world.leap_ms = 20000;
    assert_int_equal(rig_run(&r), ONEBIT_ERR_QUEUE_FULL);
    assert_string_equal(r.seen.order, "rrrrre");
    assert_int_equal(y.seen, 6);
    assert_int_equal(r.seen.delays[4], 16000);
    rig_deinit(&r);
}

static void verbs_are_sent_again_but_not_those_that_change_something_for_good(void **state)
{
    struct refusals x = {.code = ERR_INTERNAL, .n = 1};
    struct rig r;

    rig_init(&r, serve_refusals, &x);
    assert_int_equal(onebit_load(r.conn, "home"), 0);
    assert_int_equal(x.seen, 2);
    x.seen = 0;
    assert_int_equal(onebit_unload(r.conn, "home"), ONEBIT_ERR_INTERNAL);
    assert_int_equal(x.seen, 1);
    x.seen = 0;
    assert_int_equal(onebit_session_drop(r.conn, "s"), ONEBIT_ERR_INTERNAL);
    assert_int_equal(x.seen, 1);
    rig_deinit(&r);
}

/* ---- deadlines ---- */

static void a_retry_has_what_is_left_of_the_deadline_and_none_passes_it(void **state)
{
    struct refusals x = {.code = ERR_OVERLOADED, .n = 100};
    static const int32_t ids[] = {5, 6};
    struct rig r;

    rig_init(&r, serve_refusals, &x);
    r.request.has = ONEBIT_HAS_DEADLINE;
    r.request.deadline_ms = 2900;
    r.request.prompt = NULL;
    r.request.ids = ids;
    r.request.n_ids = 2;
    assert_int_equal(rig_run(&r), ONEBIT_ERR_OVERLOADED); /* the second wait would be 2 s */
    assert_string_equal(r.seen.order, "re");
    assert_int_equal(x.deadlines[0], 2900);
    assert_int_equal(x.deadlines[1], 1900);

    x.seen = 0;
    x.retry_after_ms = 2900; /* not before the deadline: so not at all */
    assert_int_equal(rig_run(&r), ONEBIT_ERR_OVERLOADED);
    assert_string_equal(r.seen.order, "e");
    x.seen = 0;
    x.retry_after_ms = 2899;
    assert_int_equal(rig_run(&r), ONEBIT_ERR_OVERLOADED);
    assert_string_equal(r.seen.order, "re");
    assert_int_equal(x.deadlines[1], 1);

    x.seen = x.retry_after_ms = 0;
    r.request.deadline_ms = 0; /* at once or not at all */
    assert_int_equal(rig_run(&r), ONEBIT_ERR_OVERLOADED);
    assert_string_equal(r.seen.order, "e");
    rig_deinit(&r);
}

static void serve_silence(struct fake_conn *c, void *arg)
{
    atomic_uint *n_cancels = arg;
    struct message m;

    fake_greet(c);
    while (fake_read(c, &m)) {
        *n_cancels += m.type == MSG_CANCEL;
    }
}

static void a_daemon_that_is_silent_past_the_deadline_is_not_waited_for(void **state)
{
    atomic_uint n_cancels = 0;
    struct rig r;

    rig_init(&r, serve_silence, &n_cancels);
    r.request.has = ONEBIT_HAS_DEADLINE;
    r.request.deadline_ms = 500;
    const uint64_t before_ns = r.world.now_ns;
    assert_int_equal(rig_run(&r), ONEBIT_ERR_DEADLINE);
    assert_string_equal(r.seen.order, "e");
    assert_string_equal(r.seen.name, "deadline");
    assert_int_equal(r.world.now_ns - before_ns, 1500 * NS_PER_MS); /* a second for its own word */
    for (int i = 0; n_cancels == 0 && i < 10000; i++) {             /* and it is told */
        assert_int_equal(onebit_dispatch(r.conn, 0), 0);
        usleep(1000);
    }
    assert_int_equal(n_cancels, 1);
    rig_deinit(&r);
}

static void serve_slow_answer(struct fake_conn *c, void *arg)
{
    fake_greet(c);
    const uint32_t id = fake_expect(c, MSG_GENERATE);
    fake_text(c, id, 0, "in time");
    usleep(300000); /* the world's clock leaps a second meanwhile, twice */
    fake_done(c, id, 1);
    fake_until_hang_up(c);
}

static void a_deadline_is_met_by_the_first_token(void **state)
{
    struct rig r;

    rig_init(&r, serve_slow_answer, NULL);
    r.request.has = ONEBIT_HAS_DEADLINE;
    r.request.deadline_ms = 9000;
    assert_int_equal(onebit_generate(r.conn, &r.request, &r.handler, &r.seen, NULL), 0);
    assert_int_equal(onebit_timeout_ms(r.conn), 10000);
    while (r.seen.n_ids == 0) {
        assert_int_equal(onebit_dispatch(r.conn, -1), 0);
    }
    assert_int_equal(onebit_timeout_ms(r.conn), -1);
    r.world.now_ns += 3600 * NS_PER_S;
    while (!r.seen.ended) {
        assert_int_equal(onebit_dispatch(r.conn, -1), 0);
    }
    assert_string_equal(r.seen.order, "td");
    rig_deinit(&r);
}

/* ---- from an event loop ---- */

static void an_event_loop_is_told_when_to_come_back(void **state)
{
    struct refusals x = {.code = ERR_OVERLOADED, .n = 1};
    struct rig r;

    rig_init(&r, serve_refusals, &x);
    assert_int_equal(onebit_timeout_ms(r.conn), -1);
    assert_int_equal(onebit_generate(r.conn, &r.request, &r.handler, &r.seen, NULL), 0);
    world_dispatch(r.conn, &r.seen.n_retries);
    assert_int_equal(onebit_timeout_ms(r.conn), 1000);
    r.world.now_ns += 999 * NS_PER_MS;
    assert_int_equal(onebit_timeout_ms(r.conn), 1);
    assert_int_equal(onebit_dispatch(r.conn, 0), 0);
    usleep(20000);
    assert_int_equal(x.seen, 1);
    r.world.now_ns += NS_PER_MS;
    assert_int_equal(onebit_timeout_ms(r.conn), 0);
    while (!r.seen.ended) {
        assert_int_equal(onebit_dispatch(r.conn, -1), 0);
    }
    assert_string_equal(r.seen.order, "rtd");
    rig_deinit(&r);
}

static void serve_broken_twice(struct fake_conn *c, void *arg)
{
    atomic_uint *n = arg;

    fake_greet(c);
    const uint32_t id = fake_expect(c, MSG_GENERATE);
    if ((*n)++ < 2) {
        return; /* hang up */
    }
    fake_text(c, id, 0, "third");
    fake_done(c, id, 1);
    fake_until_hang_up(c);
}

/* Goal: a loop that polls the one descriptor for reading, and knows nothing of retries, misses
 * none.
 * Method: the real clock, no time-out in poll(), a connection that is lost twice. */
static void one_descriptor_wakes_for_retries_and_stays_the_same(void **state)
{
    atomic_uint n = 0;
    struct fake *f = fake_start(serve_broken_twice, &n);
    struct onebit_request request = ask("hi");
    struct onebit_handler h = watch();
    struct onebit_options options;
    struct onebit_retry retry;
    struct onebit_conn *conn;
    struct seen s = {0};

    onebit_retry_init(&retry);
    retry.first_ms = 30;
    onebit_options_init(&options);
    options.path = fake_path(f);
    options.retry = &retry;
    assert_int_equal(onebit_connect_with(&conn, &options), 0);
    const int fd = onebit_get_fd(conn);
    assert_int_equal(onebit_generate(conn, &request, &h, &s, NULL), 0);
    while (!s.ended) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&p, 1, 60000), 1);
        assert_int_equal(onebit_dispatch(conn, 0), 0);
        assert_int_equal(onebit_get_fd(conn), fd);
    }
    assert_string_equal(s.order, "rrtd");
    assert_string_equal(s.text, "third");
    struct pollfd idle = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&idle, 1, 100), 0); /* and it is quiet when there is nothing to do */
    onebit_disconnect(conn);
    fake_stop(f);
}

static void a_request_that_waits_is_cancelled_without_the_daemon(void **state)
{
    struct refusals x = {.code = ERR_OVERLOADED, .n = 100};
    struct rig r;
    uint32_t id;

    rig_init(&r, serve_refusals, &x);
    assert_int_equal(onebit_generate(r.conn, &r.request, &r.handler, &r.seen, &id), 0);
    world_dispatch(r.conn, &r.seen.n_retries);
    assert_int_equal(onebit_cancel(r.conn, id), 0);
    assert_false(r.seen.ended); /* callbacks run when dispatching */
    assert_int_equal(onebit_timeout_ms(r.conn), 0);
    assert_int_equal(onebit_dispatch(r.conn, 0), 0);
    assert_string_equal(r.seen.order, "re");
    assert_int_equal(r.seen.code, ONEBIT_ERR_CANCELLED);
    assert_int_equal(onebit_cancel(r.conn, id), ONEBIT_ERR_NO_REQUEST);
    assert_int_equal(x.seen, 1);
    rig_deinit(&r);
}

/* Its refusal was under way when the cancel came. */
static void serve_crossing(struct fake_conn *c, void *arg)
{
    const enum error_code *codes = arg;

    fake_greet(c);
    for (size_t i = 0; codes[i] != ERR_NONE; i++) {
        const uint32_t id = fake_expect(c, MSG_GENERATE);
        (void)fake_expect(c, MSG_CANCEL);
        fake_error(c, id, codes[i], "just now");
    }
    fake_until_hang_up(c);
}

/* Goal: who cancels is told so, unless the request had failed for good before. */
static void a_refusal_that_crosses_a_cancel_is_not_sent_again_but_cancelled(void **state)
{
    enum error_code codes[] = {ERR_QUEUE_FULL, ERR_INTERNAL, ERR_NO_MODEL, ERR_NONE};
    static const int ends[] = {ONEBIT_ERR_CANCELLED, ONEBIT_ERR_CANCELLED, ONEBIT_ERR_NO_MODEL};
    struct rig r;
    uint32_t id;

    rig_init(&r, serve_crossing, codes);
    for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
        memset(&r.seen, 0, sizeof(r.seen));
        assert_int_equal(onebit_generate(r.conn, &r.request, &r.handler, &r.seen, &id), 0);
        assert_int_equal(onebit_cancel(r.conn, id), 0);
        for (int k = 0; !r.seen.ended && k < 10000; k++) {
            assert_int_equal(onebit_dispatch(r.conn, 0), 0);
            usleep(1000);
        }
        assert_string_equal(r.seen.order, "e");
        assert_int_equal(r.seen.code, ends[i]);
        assert_int_equal(onebit_cancel(r.conn, id), ONEBIT_ERR_NO_REQUEST);
    }
    rig_deinit(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waits_double_up_to_a_minute_and_are_drawn_from_all_of_it),
        cmocka_unit_test(only_what_may_succeed_later_is_sent_again_and_only_so_often),
        cmocka_unit_test(what_the_daemon_asks_for_is_obeyed_or_not_waited_for_at_all),
        cmocka_unit_test(a_zero_that_was_set_means_zero),
        cmocka_unit_test(a_refused_request_is_sent_again_until_it_is_answered),
        cmocka_unit_test(a_request_that_is_refused_too_often_ends_with_the_last_refusal),
        cmocka_unit_test(verbs_are_sent_again_but_not_those_that_change_something_for_good),
        cmocka_unit_test(a_retry_has_what_is_left_of_the_deadline_and_none_passes_it),
        cmocka_unit_test(a_daemon_that_is_silent_past_the_deadline_is_not_waited_for),
        cmocka_unit_test(a_deadline_is_met_by_the_first_token),
        cmocka_unit_test(an_event_loop_is_told_when_to_come_back),
        cmocka_unit_test(one_descriptor_wakes_for_retries_and_stays_the_same),
        cmocka_unit_test(a_request_that_waits_is_cancelled_without_the_daemon),
        cmocka_unit_test(a_refusal_that_crosses_a_cancel_is_not_sent_again_but_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
