/* Fuzz target: a /proc/PID/cgroup. Whatever it says, the unit is a plain name that a [peer
 * unit.NAME] section could have, or nothing. */
#undef NDEBUG
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/broker/peer.h"
#include "daemon/broker/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char unit[UNIT_MAX + 1], rule[UNIT_MAX + 8] = "unit.";
    struct policy p = {0};
    struct policy_rule *r = NULL;
    char *text = malloc(n ? n : 1); /* exact size: a sanitizer sees an over-read */

    if (!text) {
        return 0;
    }
    if (n > 0) {
        memcpy(text, data, n);
    }
    memset(unit, 'x', sizeof(unit));
    peer_unit(text, n, unit);
    assert(memchr(unit, '\0', sizeof(unit)));
    if (unit[0]) {
        strcat(rule, unit);
        assert(policy_rule(&p, rule, &r) == 0);
        assert(strchr(unit, '/') == NULL);
    }
    policy_deinit(&p);
    free(text);
    return 0;
}
