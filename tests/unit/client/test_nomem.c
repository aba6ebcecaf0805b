/* The library without memory. */
#include "tests/support/test.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "tests/support/nomem.h"
#include "tests/unit/client/fake.h"
#include "tests/unit/client/watch.h"
#include "tests/unit/client/world.h"

#define ALLOCATIONS_MAX 1000u
#define ITEMS 6u

/* What the requests of one pass meet, by their number; the others are answered. */
enum {
    REFUSED = 0,  /* with 429 */
    LOST = 1,     /* the connection is closed */
    LOST_OF = 3,  /* likewise, when nothing is sent again */
    IN_BATCH = 5, /* refused: an item that is pushed back */
};

static void serve(struct fake_conn *c, void *arg)
{
    atomic_uint *n = arg;
    struct message m;

    if (!fake_met(c)) {
        return;
    }
    while (fake_read(c, &m)) {
        if (m.type != MSG_GENERATE) {
            continue; /* a cancel */
        }
        const unsigned number = (*n)++;
        if (number == LOST || number == LOST_OF) {
            return;
        }
        if (number == REFUSED || number == IN_BATCH) {
            fake_error(c, m.id, ERR_QUEUE_FULL, "full");
        } else {
            fake_text(c, m.id, 0, "yes");
            fake_done(c, m.id, 1);
        }
    }
}

/* ---- the three parts of a pass; each returns 0 or the first error ---- */

static int meet(struct onebit_conn **ret, struct onebit_canceller *canceller, const struct fake *f,
                struct world *w)
{
    struct onebit_options options;
    struct onebit_retry retry;

    onebit_retry_init(&retry);
    retry.first_ms = 0; /* at once: the passes are many */
    onebit_options_init(&options);
    options.path = fake_path(f);
    options.retry = &retry;
    options.canceller = canceller;
    return conn_open(ret, &options, &w->env);
}

/* One request that is refused, lost and then answered; one that is lost for good. */
static int requests(struct onebit_conn *conn)
{
    const struct onebit_retry never = {.size = sizeof(never)};
    struct onebit_request request = ask("hi");
    struct onebit_handler h = watch();
    struct seen s = {0}, lost = {0};
    uint32_t id = 0;
    int r = onebit_run(conn, &request, &h, &s);

    assert_true(r == 0 ? strcmp(s.order, "rrtd") == 0 : !s.ended || s.code == r);
    if (r == 0) {
        r = onebit_set_retry(conn, &never);
    }
    if (r == 0) {
        request.deadline_ms = 100000;
        request.has |= ONEBIT_HAS_DEADLINE;
        r = onebit_generate(conn, &request, &h, &lost, &id);
    }
    while (r == 0 && !lost.ended) {
        r = onebit_dispatch(conn, -1);
    }
    if (r == -ECONNRESET || (r == 0 && lost.code == -ECONNRESET)) {
        assert_string_equal(lost.order, "e");
        r = onebit_reconnect(conn);
    }
    return r;
}

struct items {
    struct onebit_request request;
    unsigned taken, n_results[ITEMS];
    int code; /* the last failure's */
};

static int next_item(uint64_t index, const struct onebit_request **ret_request, void **ret_item,
                     void *user)
{
    struct items *x = user;

    if (x->taken == ITEMS) {
        return 0;
    }
    x->taken++;
    *ret_request = &x->request;
    return 1;
}

static int take_result(const struct onebit_batch_result *r, void *user)
{
    struct items *x = user;

    x->n_results[r->index]++;
    x->code = r->failure ? r->failure->code : x->code;
    assert_true(r->failure || strcmp(r->text, "yes") == 0);
    return 0;
}

static int batch(struct onebit_conn *conn, struct onebit_canceller *canceller)
{
    struct items x = {.request = ask("hi")};
    struct onebit_retry retry;
    struct onebit_batch b;

    onebit_retry_init(&retry);
    retry.first_ms = 0;
    onebit_batch_init(&b);
    b.next = next_item;
    b.result = take_result;
    b.user = &x;
    b.concurrency = 3;
    b.canceller = canceller;
    int r = onebit_set_retry(conn, &retry);
    if (r == 0) {
        r = onebit_batch(&conn, 1, &b, NULL);
    }
    for (unsigned i = 0; i < ITEMS; i++) {
        assert_int_equal(x.n_results[i], i < x.taken); /* once, whatever happens */
    }
    return r != 0 ? r : x.code;
}

static int everything(const struct fake *f, struct world *w)
{
    struct onebit_canceller *canceller = NULL;
    struct onebit_conn *conn = NULL;
    int r = onebit_canceller_new(&canceller);

    assert_true((r == 0) == (canceller != NULL));
    if (r == 0) {
        r = meet(&conn, canceller, f, w);
        assert_true((r == 0) == (conn != NULL));
    }
    if (r == 0) {
        r = requests(conn);
    }
    if (r == 0) {
        r = batch(conn, canceller);
    }
    onebit_disconnect(conn);
    onebit_canceller_free(canceller);
    return r;
}

/* Goal: whichever allocation fails, the answer is -ENOMEM, each request ends once, and nothing is
 * lost (the sanitizers see a leak). Method: of this thread's allocations none succeeds, then one,
 * then two, until all do. One that only gives room back, or that another takes the place of, may
 * fail unnoticed. */
static void every_failed_allocation_is_reported(void **state)
{
    size_t i = 0, n_reported = 0;
    atomic_uint n = 0;
    struct world w;

    struct fake *f = fake_start(serve, &n);
    for (bool failed = true; failed; i++) {
        assert_true(i < ALLOCATIONS_MAX);
        world_init(&w);
        onebit_disconnect(connected(f)); /* the fake has served what the pass before left behind */
        n = 0;
        nomem_after_here(i);
        const int r = everything(f, &w);
        failed = nomem_off();
        if (!(r == 0 || (failed && r == -ENOMEM))) {
            fail_msg("allocation %zu: %d", i, r);
        }
        n_reported += r != 0;
    }
    fake_stop(f);
    assert_true(n_reported >= 12);
    assert_int_equal(n, 4 + ITEMS + 1); /* and with memory the whole way was gone */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_failed_allocation_is_reported)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
