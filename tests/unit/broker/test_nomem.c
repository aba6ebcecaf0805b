#include "tests/support/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/broker/config_peer.h"
#include "daemon/broker/identity.h"
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
