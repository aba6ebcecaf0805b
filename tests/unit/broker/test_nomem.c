#include "tests/support/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/broker/config_peer.h"
#include "daemon/broker/http.h"
#include "daemon/broker/identity.h"
#include "daemon/broker/metrics_text.h"
#include "daemon/broker/peer.h"
#include "tests/support/nomem.h"

static const struct moment now = {.now_ns = 1, .unix_s = 1};
static const struct grant plain = {.known = true, .weight = 1};

/* One pass over everything that allocates; 0 or the first error. */
static int everything(int fd)
{
    struct policy p = {0};
    struct policy_rule *rule = NULL;
    struct identities t;
    struct peer peer = {0};
    char why[200];

    identities_init(&t);
    int r = policy_rule(&p, "uid.7", &rule);
    if (r == 0) {
        r = config_peer_key(rule, "models", "a, b", why, sizeof(why));
    }
    if (r == 0) {
        r = policy_rule(&p, "unit.web.service", &rule);
    }
    if (r == 0) {
        r = peer_read(&peer, fd);
    }
    if (r == 0) {
        r = identity_get(&t, peer.uid, peer.unit, &plain, &now) ? 0 : -ENOMEM;
    }
    if (r == 0) {
        r = identity_get(&t, peer.uid, "web.service", &plain, &now) ? 0 : -ENOMEM;
    }
    peer_deinit(&peer);
    identities_deinit(&t);
    policy_deinit(&p);
    return r;
}

/* Goal: whichever allocation fails, the answer is -ENOMEM and nothing is lost (the sanitizers see a
 * leak). Method: none succeeds, then one, then two, until all do. The one that only gives room back
 * may fail unnoticed. */
static void every_failed_allocation_is_reported(void **state)
{
    size_t i = 0, n_reported = 0;
    int fds[2];
    (void)state;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    for (bool failed = true; failed; i++) {
        nomem_after(i);
        const int r = everything(fds[0]);
        failed = nomem_off();
        assert_true(r == 0 || (failed && r == -ENOMEM));
        n_reported += r != 0;
    }
    assert_true(n_reported >= 8);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

/* Goal: without memory for a model's figures nothing is counted, and a text or a page is written whole or
 * refused. Method: as above. */
static void figures_do_without_memory(void **state)
{
    const struct metrics_now state_now = {.version = "1", .cpu = "scalar"};
    size_t i = 0, n_reported = 0;
    (void)state;

    for (bool failed = true; failed; i++) {
        struct metrics m;
        struct buf text, page;
        metrics_init(&m, 0);
        buf_init(&text, METRICS_TEXT_MAX);
        buf_init(&page, METRICS_TEXT_MAX + 1024);
        nomem_after(i);
        metrics_request(&m, metrics_slot(&m, "home"), CLASS_HIGH, ERR_NONE);
        metrics_tokens(&m, metrics_slot(&m, NULL), CLASS_LOW, 3);
        metrics_step(&m, METRICS_OTHER, 1, 1);
        int r = metrics_text(&text, &m, &state_now);
        if (r == 0) {
            r = http_put(&page, HTTP_GET, METRICS_CONTENT_TYPE,
                         (struct strview){.data = (const char *)text.data, .n = text.n});
        }
        failed = nomem_off();
        assert_true(r == 0 || (failed && r == -ENOMEM));
        n_reported += r != 0;
        buf_deinit(&page);
        buf_deinit(&text);
        metrics_deinit(&m);
    }
    assert_true(n_reported >= 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(figures_do_without_memory),
        cmocka_unit_test(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
