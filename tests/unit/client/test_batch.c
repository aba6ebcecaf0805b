/* Batches: every item once, as many at a time as the daemon takes. */
#include "tests/support/test.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/compiler.h"
#include "client/pace.h"
#include "tests/unit/client/fake.h"
#include "tests/unit/client/watch.h"
#include "tests/unit/client/world.h"

/* ---- the pace ---- */

static void push_back_halves_once_a_burst_and_success_regrows_by_one(void **state)
{
    struct pace p;
    uint64_t numbers[16];

    pace_init(&p, 16);
    for (size_t i = 0; i < 16; i++) {
        numbers[i] = pace_send(&p);
    }
    for (size_t i = 0; i < 16; i++) {
        pace_pushed_back(&p, numbers[i]); /* all were sent under the same limit */
    }
    assert_int_equal(p.limit, 8);
    for (size_t i = 0; i < 3; i++) {
        pace_pushed_back(&p, pace_send(&p)); /* but these were sent under the new one */
    }
    assert_int_equal(p.limit, 1);
    pace_pushed_back(&p, pace_send(&p));
    assert_int_equal(p.limit, 1); /* never none */
    assert_int_equal(p.least, 1);
    pace_went_well(&p);
    assert_int_equal(p.limit, 2);
    pace_went_well(&p);
    assert_int_equal(p.limit, 2);
    pace_went_well(&p);
    assert_int_equal(p.limit, 3);
    for (size_t i = 0; i < 1000; i++) {
        pace_went_well(&p);
    }
    assert_int_equal(p.limit, 16); /* and never more than was asked for */
    assert_int_equal(p.least, 1);
}

/* ---- a daemon ---- */

#define N_MAX 400

/* Answers "answer to PROMPT"; "bad" gets a 400, "crash" loses the connection after its first token,
 * "long" gets 300 bytes. Refuses what is past `room` at once with 429, answers from the last to the
 * first. */
struct daemon {
    unsigned room; /* in flight at once; 0: no bound */
    unsigned wait; /* answers only when so many are in flight, or nothing comes for a moment */
    atomic_uint most, n_refused, n_cancels;
};

static void answer_one(struct fake_conn *c, uint32_t id, const char *prompt)
{
    char text[512];

    if (strcmp(prompt, "bad") == 0) {
        fake_error(c, id, ERR_BAD_REQUEST, "bad");
        return;
    }
    if (strcmp(prompt, "long") == 0) {
        memset(text, 'x', 300);
        text[300] = '\0';
        fake_text(c, id, 0, text);
        fake_done(c, id, 1);
        return;
    }
    snprintf(text, sizeof(text), "to %s", prompt);
    fake_text(c, id, 0, "answer ");
    fake_text(c, id, 1, text);
    fake_done(c, id, 2);
}

static bool ready(const struct fake_conn *c)
{
    struct pollfd p = {.fd = c->fd, .events = POLLIN};

    return frame_partial(&c->in) || poll(&p, 1, 20) > 0;
}

struct waiting {
    uint32_t id;
    char prompt[64];
};

/* false: the client has gone */
static bool take_one(struct fake_conn *c, struct daemon *d, struct waiting *held, unsigned *n)
{
    struct message m;

    if (!fake_read(c, &m)) {
        return false;
    }
    if (m.type == MSG_CANCEL) {
        d->n_cancels++;
        for (unsigned i = 0; i < *n; i++) {
            if (held[i].id == m.cancel.target) {
                fake_error(c, held[i].id, ERR_CANCELLED, "by its client");
                held[i] = held[--*n];
            }
        }
        return true;
    }
    if (d->room > 0 && *n >= d->room) {
        d->n_refused++;
        fake_error(c, m.id, ERR_QUEUE_FULL, "full");
        return true;
    }
    held[*n].id = m.id;
    strview_copy(held[(*n)++].prompt, sizeof(held->prompt), m.generate.prompt);
    d->most = *n > d->most ? *n : d->most;
    return true;
}

static void serve_batch(struct fake_conn *c, void *arg)
{
    struct daemon *d = arg;
    struct waiting held[128];
    unsigned n = 0;

    fake_greet_many(c, 100);
    while (true) {
        const bool more = d->room > 0 || n < d->wait; /* may come, before the answers */
        if (n == 0 || (more && ready(c))) {
            if (!take_one(c, d, held, &n)) {
                return;
            }
            continue;
        }
        while (n > 0) {
            if (strcmp(held[--n].prompt, "crash") == 0) {
                fake_text(c, held[n].id, 0, "half");
                return;
            }
            if (strcmp(held[n].prompt, "never") != 0) {
                answer_one(c, held[n].id, held[n].prompt);
            }
        }
    }
}

/* ---- an application ---- */

struct app {
    unsigned n; /* items there are */
    char prompts[N_MAX][16];
    struct onebit_request requests[N_MAX];
    unsigned taken, ended;
    unsigned n_results[N_MAX];
    int codes[N_MAX];
    char texts[N_MAX][64];
    unsigned in_flight, most; /* as the application sees it */
    unsigned stop_at;         /* `result` returns 99 at that many; 0: never */
    int next_fails;           /* `next` returns this in place of the end */
};

static int next_item(uint64_t index, const struct onebit_request **ret_request, void **ret_item,
                     void *user)
{
    struct app *a = user;

    assert_int_equal(index, a->taken);
    if (a->taken == a->n) {
        return a->next_fails;
    }
    a->requests[index] = ask(a->prompts[index]);
    *ret_request = &a->requests[index];
    *ret_item = a->prompts[index];
    a->taken++;
    a->in_flight++;
    a->most = a->in_flight > a->most ? a->in_flight : a->most;
    return 1;
}

static int take_result(const struct onebit_batch_result *r, void *user)
{
    struct app *a = user;

    assert_true(r->index < a->n);
    assert_ptr_equal(r->request, &a->requests[r->index]);
    assert_ptr_equal(r->item, a->prompts[r->index]);
    assert_int_equal((r->done != NULL) + (r->failure != NULL), 1);
    assert_int_equal(strlen(r->text), r->text_bytes);
    assert_int_equal(r->totals->done + r->totals->failed, a->ended + 1);
    a->n_results[r->index]++;
    a->codes[r->index] = r->failure ? r->failure->code : 0;
    snprintf(a->texts[r->index], sizeof(a->texts[0]), "%s", r->text);
    a->in_flight--;
    a->ended++;
    return a->stop_at && a->ended >= a->stop_at ? 99 : 0;
}

static struct onebit_batch batch_of(struct app *a)
{
    struct onebit_batch b;

    onebit_batch_init(&b);
    b.next = next_item;
    b.result = take_result;
    b.user = a;
    return b;
}

static struct app *app_new(unsigned n)
{
    struct app *a = calloc(1, sizeof(*a));

    assert_non_null(a);
    a->n = n;
    for (unsigned i = 0; i < n; i++) {
        snprintf(a->prompts[i], sizeof(a->prompts[i]), "%u", i);
    }
    return a;
}

/* Each that was taken has ended once; those that were done have their own answer. */
static void check_all(const struct app *a)
{
    char want[64];

    assert_int_equal(a->ended, a->taken);
    for (unsigned i = 0; i < a->taken; i++) {
        assert_int_equal(a->n_results[i], 1);
        if (a->codes[i] == 0 && strcmp(a->prompts[i], "long") != 0) {
            snprintf(want, sizeof(want), "answer to %s", a->prompts[i]);
            assert_string_equal(a->texts[i], want);
        }
    }
}

/* ---- results ---- */

static void every_item_ends_once_with_its_own_answer_or_failure(void **state)
{
    struct daemon d = {.wait = 7};
    struct fake *f = fake_start(serve_batch, &d);
    struct onebit_conn *conn = connected(f);
    struct app *a = app_new(100);
    struct onebit_batch b = batch_of(a);
    struct onebit_batch_totals totals;

    strcpy(a->prompts[3], "bad");
    strcpy(a->prompts[99], "bad");
    b.concurrency = 7;
    onebit_batch_totals_init(&totals);
    assert_int_equal(onebit_batch(&conn, 1, &b, &totals), 0);
    assert_int_equal(a->taken, 100);
    check_all(a);
    assert_int_equal(a->codes[3], ONEBIT_ERR_BAD_REQUEST);
    assert_int_equal(a->codes[99], ONEBIT_ERR_BAD_REQUEST);
    assert_int_equal(a->most, 7); /* no more were taken than may be in flight */
    assert_int_equal(d.most, 7);
    assert_int_equal(totals.items, 100);
    assert_int_equal(totals.done, 98);
    assert_int_equal(totals.failed, 2);
    assert_int_equal(totals.answer_tokens, 2 * 98);
    assert_int_equal(totals.prompt_tokens, 7 * 98);
    assert_int_equal(totals.concurrency_least, 7);
    assert_true(totals.elapsed_us > 0);
    free(a);
    onebit_disconnect(conn);
    fake_stop(f);
}

static void an_empty_batch_is_done(void **state)
{
    struct daemon d = {0};
    struct fake *f = fake_start(serve_batch, &d);
    struct onebit_conn *conn = connected(f);
    struct app *a = app_new(0);
    struct onebit_batch b = batch_of(a);

    assert_int_equal(onebit_batch(&conn, 1, &b, NULL), 0);
    a->next_fails = -EIO;
    assert_int_equal(onebit_batch(&conn, 1, &b, NULL), -EIO);
    free(a);
    onebit_disconnect(conn);
    fake_stop(f);
}

static void what_cannot_be_sent_fails_with_its_item(void **state)
{
    struct daemon d = {0};
    struct fake *f = fake_start(serve_batch, &d);
    struct onebit_conn *conn = connected(f);
    struct app *a = app_new(4);
    struct onebit_batch b = batch_of(a);

    strcpy(a->prompts[1], "long");
    a->prompts[2][0] = '\0'; /* an empty prompt is one */
    b.text_bytes_max = 299;
    assert_int_equal(onebit_batch(&conn, 1, &b, NULL), 0);
    check_all(a);
    assert_int_equal(a->codes[0], 0);
    assert_int_equal(a->codes[1], -E2BIG);
    assert_int_equal(a->codes[2], 0);
    a->taken = a->ended = 0;
    memset(a->n_results, 0, sizeof(a->n_results));
    b.text_bytes_max = 300;
    assert_int_equal(onebit_batch(&conn, 1, &b, NULL), 0);
    assert_int_equal(a->codes[1], 0);
    free(a);
    onebit_disconnect(conn);
    fake_stop(f);
}

static unsigned n_pieces;

static void count_piece(uint64_t index, void *item, const struct onebit_delta *delta, void *user)
{
    struct app *a = user;

    assert_ptr_equal(item, a->prompts[index]);
    n_pieces++;
}

static void pieces_are_told_as_they_come_and_need_not_be_kept(void **state)
{
    struct daemon d = {0};
    struct fake *f = fake_start(serve_batch, &d);
    struct onebit_conn *conn = connected(f);
    struct app *a = app_new(5);
    struct onebit_batch b = batch_of(a);

    n_pieces = 0;
    b.delta = count_piece;
    b.text_bytes_max = 0;
    assert_int_equal(onebit_batch(&conn, 1, &b, NULL), 0);
    assert_int_equal(n_pieces, 10);
    assert_int_equal(a->ended, 5);
    assert_string_equal(a->texts[0], "");
    free(a);
    onebit_disconnect(conn);
    fake_stop(f);
}

/* ---- push-back ---- */

static void a_daemon_that_pushes_back_gets_less_and_all_is_answered(void **state)
{
    struct daemon d = {.room = 3};
    struct fake *f = fake_start(serve_batch, &d);
    struct onebit_batch_totals totals;
    struct app *a = app_new(300);
    struct onebit_batch b = batch_of(a);
    struct world w;

    world_init(&w);
    struct onebit_conn *conn = world_connect(&w, f, NULL);
    w.random = UINT32_MAX / 100; /* short waits */
    b.concurrency = 32;
    onebit_batch_totals_init(&totals);
    assert_int_equal(onebit_batch(&conn, 1, &b, &totals), 0);
    check_all(a);
    assert_int_equal(totals.done, 300);
    assert_int_equal(totals.retries, d.n_refused);
    assert_true(d.n_refused >= 29); /* the first burst, all but three */
    assert_in_range(totals.concurrency_least, 1, 4);
    assert_true(d.n_refused < 300); /* and then it had learned */
    free(a);
    onebit_disconnect(conn);
    fake_stop(f);
}

/* ---- several connections, and losing them ---- */

static void items_are_spread_over_the_connections(void **state)
{
    struct daemon d[2] = {{.wait = 2}, {.wait = 2}};
    struct fake *f[2] = {fake_start(serve_batch, &d[0]), fake_start(serve_batch, &d[1])};
    struct onebit_conn *conns[2] = {connected(f[0]), connected(f[1])};
    struct app *a = app_new(40);
    struct onebit_batch b = batch_of(a);

    b.concurrency = 4;
    assert_int_equal(onebit_batch(conns, 2, &b, NULL), 0);
    check_all(a);
    assert_int_equal(d[0].most, 2);
    assert_int_equal(d[1].most, 2);
    free(a);
    for (size_t i = 0; i < 2; i++) {
        onebit_disconnect(conns[i]);
        fake_stop(f[i]);
    }
}

static void a_lost_connection_costs_only_what_had_begun(void **state)
{
    struct daemon d = {.wait = 4};
    struct fake *f = fake_start(serve_batch, &d);
    struct app *a = app_new(50);
    struct onebit_batch b = batch_of(a);
    unsigned n_failed = 0;
    struct world w;

    world_init(&w);
    struct onebit_conn *conn = world_connect(&w, f, NULL);
    w.random = UINT32_MAX / 100;
    strcpy(a->prompts[20], "crash");
    b.concurrency = 4;
    assert_int_equal(onebit_batch(&conn, 1, &b, NULL), 0);
    check_all(a);
    for (unsigned i = 0; i < 50; i++) {
        n_failed += a->codes[i] != 0;
    }
    assert_int_equal(n_failed, 1);
    assert_int_equal(a->codes[20], -ECONNRESET);
    assert_string_equal(a->texts[20], "half");
    free(a);
    onebit_disconnect(conn);
    fake_stop(f);
}

static void a_daemon_that_is_gone_ends_the_batch_not_every_item(void **state)
{
    struct daemon d = {.wait = 4};
    struct fake *f = fake_start(serve_batch, &d);
    struct onebit_batch_totals totals;
    struct app *a = app_new(300);
    struct onebit_batch b = batch_of(a);
    char aside[140];
    struct world w;

    world_init(&w);
    struct onebit_conn *conn = world_connect(&w, f, NULL);
    snprintf(aside, sizeof(aside), "%s.aside", fake_path(f));
    assert_int_equal(rename(fake_path(f), aside), 0);
    strcpy(a->prompts[30], "crash");
    b.concurrency = 4;
    onebit_batch_totals_init(&totals);
    assert_int_equal(onebit_batch(&conn, 1, &b, &totals), -ENOENT);
    check_all(a);
    assert_in_range(totals.items, 31, 40);
    assert_int_equal(totals.done + totals.failed, totals.items);
    assert_int_equal(rename(aside, fake_path(f)), 0);
    free(a);
    onebit_disconnect(conn);
    fake_stop(f);
}

/* ---- stopping ---- */

static void a_result_may_stop_the_batch_and_the_rest_is_cancelled(void **state)
{
    struct daemon d = {0};
    struct fake *f = fake_start(serve_batch, &d);
    struct onebit_conn *conn = connected(f);
    struct app *a = app_new(300);
    struct onebit_batch b = batch_of(a);

    a->stop_at = 10;
    for (unsigned i = 5; i < 20; i += 5) {
        strcpy(a->prompts[i], "never");
    }
    b.concurrency = 8;
    assert_int_equal(onebit_batch(&conn, 1, &b, NULL), 99);
    assert_in_range(a->taken, 10, 30);
    check_all(a);
    assert_int_equal(a->codes[5], ONEBIT_ERR_CANCELLED);
    assert_string_equal(a->texts[5], "");
    free(a);
    onebit_disconnect(conn);
    fake_stop(f);
}

struct tripper {
    struct onebit_canceller *canceller;
    const atomic_uint *after;
};

static void *trip(void *arg)
{
    struct tripper *t = arg;

    while (*t->after < 4) {
        usleep(1000);
    }
    usleep(20000);
    onebit_canceller_trip(t->canceller);
    return NULL;
}

static void another_thread_may_stop_the_batch(void **state)
{
    struct daemon d = {.wait = 128};
    struct fake *f = fake_start(serve_batch, &d);
    struct onebit_conn *conn = connected(f);
    struct app *a = app_new(300);
    struct onebit_batch b = batch_of(a);
    struct tripper t = {NULL, &d.most};
    pthread_t thread;

    for (unsigned i = 0; i < 300; i++) {
        strcpy(a->prompts[i], "never");
    }
    assert_int_equal(onebit_canceller_new(&t.canceller), 0);
    b.canceller = t.canceller;
    b.concurrency = 4;
    assert_int_equal(pthread_create(&thread, NULL, trip, &t), 0);
    assert_int_equal(onebit_batch(&conn, 1, &b, NULL), ONEBIT_ERR_CANCELLED);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(a->taken, 4);
    check_all(a);
    assert_int_equal(a->codes[0], ONEBIT_ERR_CANCELLED);
    assert_int_equal(onebit_batch(&conn, 1, &b, NULL), ONEBIT_ERR_CANCELLED); /* takes nothing */
    assert_int_equal(a->taken, 4);
    onebit_canceller_free(t.canceller);
    free(a);
    onebit_disconnect(conn);
    fake_stop(f);
}

/* ---- arguments ---- */

static int busy_result(const struct onebit_batch_result *r, void *user)
{
    return 0;
}

static int in_a_callback(struct onebit_conn *conn, uint32_t id)
{
    struct onebit_batch b;

    onebit_batch_init(&b);
    b.next = next_item;
    b.result = busy_result;
    return onebit_batch(&conn, 1, &b, NULL);
}

static void arguments_that_make_no_sense_are_refused(void **state)
{
    struct daemon d = {0};
    struct fake *f = fake_start(serve_batch, &d);
    struct onebit_conn *conn = connected(f);
    struct onebit_request request = ask("hi");
    struct onebit_handler h = watch();
    struct seen s = {.in_delta = in_a_callback};
    struct app *a = app_new(1);
    struct onebit_batch b = batch_of(a);
    struct onebit_batch_totals totals = {0};

    assert_int_equal(onebit_batch(&conn, 0, &b, NULL), -EINVAL);
    assert_int_equal(onebit_batch(&conn, ONEBIT_BATCH_CONNS_MAX + 1, &b, NULL), -EINVAL);
    assert_int_equal(onebit_batch(&conn, 1, &b, &totals), -EINVAL); /* without its size */
    b.concurrency = 0;
    assert_int_equal(onebit_batch(&conn, 1, &b, NULL), -EINVAL);
    b = batch_of(a);
    b.next = NULL;
    assert_int_equal(onebit_batch(&conn, 1, &b, NULL), -EINVAL);
    b = batch_of(a);
    b.result = NULL;
    assert_int_equal(onebit_batch(&conn, 1, &b, NULL), -EINVAL);
    b = batch_of(a);
    b.size = 0;
    assert_int_equal(onebit_batch(&conn, 1, &b, NULL), -EINVAL);
    assert_int_equal(onebit_run(conn, &request, &h, &s), 0);
    assert_int_equal(s.in_delta_gave, -EBUSY);
    assert_int_equal(a->taken, 0);
    free(a);
    onebit_disconnect(conn);
    fake_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(push_back_halves_once_a_burst_and_success_regrows_by_one),
        cmocka_unit_test(every_item_ends_once_with_its_own_answer_or_failure),
        cmocka_unit_test(an_empty_batch_is_done),
        cmocka_unit_test(what_cannot_be_sent_fails_with_its_item),
        cmocka_unit_test(pieces_are_told_as_they_come_and_need_not_be_kept),
        cmocka_unit_test(a_daemon_that_pushes_back_gets_less_and_all_is_answered),
        cmocka_unit_test(items_are_spread_over_the_connections),
        cmocka_unit_test(a_lost_connection_costs_only_what_had_begun),
        cmocka_unit_test(a_daemon_that_is_gone_ends_the_batch_not_every_item),
        cmocka_unit_test(a_result_may_stop_the_batch_and_the_rest_is_cancelled),
        cmocka_unit_test(another_thread_may_stop_the_batch),
        cmocka_unit_test(arguments_that_make_no_sense_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
