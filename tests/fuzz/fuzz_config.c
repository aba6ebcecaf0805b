/* Fuzz target: a configuration file. Whatever is accepted must lie in the ranges of the key table. */
#undef NDEBUG
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "daemon/broker/config.h"
#include "daemon/broker/config_keys.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

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
    config_deinit(&c);
    return 0;
}
