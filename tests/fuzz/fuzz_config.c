/* Fuzz target: a configuration file. Whatever is accepted must lie in the ranges of the key table,
 * and what it gives a peer in the ranges of a grant. */
#undef NDEBUG
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "daemon/broker/config.h"
#include "daemon/broker/config_keys.h"
#include "daemon/broker/policy.h"
#include "ipc/seam.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_grants(const struct policy *p)
{
    const gid_t gids[] = {2, 44};
    const struct policy_peer who[] = {{.uid = 0, .unit = ""},
                                      {.uid = 1, .gids = gids, .n_gids = 2, .unit = ""},
                                      {.uid = 1000, .unit = "voice@1.service"}};

    for (size_t i = 0; i < sizeof(who) / sizeof(who[0]); i++) {
        const struct grant g = policy_grant(p, 7, &who[i]);

        assert(g.known || !g.rights);
        assert(!(g.rights & ~RIGHTS_ALL) && g.class_ < CLASSES);
        assert(g.weight >= 1 && g.weight <= POLICY_WEIGHT_MAX);
        assert(g.running_max <= SEAM_STREAMS_MAX);
        /* What an unknown peer may use is nobody's question: the answer only must come. */
        const bool allowed =
            policy_model_allowed(p, 7, &who[i], (struct strview){.data = "a", .n = 1});
        (void)allowed;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct config c;
    struct diag d = {0};

    if (config_init(&c) < 0) {
        return 0;
    }
    const int r = config_read(&c, data, n, &d);
    assert(r <= 0 || d.set); /* a refusal says why */
    for (size_t i = 0; r == CONFIG_OK && i < config_n_keys; i++) {
        uint64_t v;
        if (config_keys[i].type <= KEY_OCTAL) {
            memcpy(&v, (const char *)&c + config_keys[i].at, sizeof(v));
            assert(v >= config_keys[i].min && v <= config_keys[i].max);
        }
    }
    if (r == CONFIG_OK) {
        check_grants(&c.policy);
    }
    config_deinit(&c);
    return 0;
}
