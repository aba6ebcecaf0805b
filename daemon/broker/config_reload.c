/* config_reload: what a running daemon takes over from a new configuration and what it cannot. */
#include <stdio.h>
#include <string.h>

#include "daemon/broker/config.h"
#include "daemon/broker/config_keys.h"

static bool key_differs(const struct config_key *k, const struct config *a, const struct config *b)
{
    const char *pa = (const char *)a + k->at, *pb = (const char *)b + k->at;
    char *sa, *sb;

    if (k->type <= KEY_OCTAL) {
        return memcmp(pa, pb, sizeof(uint64_t)) != 0;
    }
    memcpy(&sa, pa, sizeof(sa));
    memcpy(&sb, pb, sizeof(sb));
    return !sa != !sb || (sa && strcmp(sa, sb) != 0);
}

const char *config_needs_restart(const struct config *old, const struct config *now, size_t i)
{
    static char name[64];

    for (size_t k = 0; k < config_n_keys; k++) {
        if (config_keys[k].restart && key_differs(&config_keys[k], old, now) && i-- == 0) {
            (void)snprintf(name, sizeof(name), "%s.%s", config_keys[k].section,
                           config_keys[k].name);
            return name;
        }
    }
    return NULL;
}

void config_keep_fixed(struct config *old, struct config *now)
{
    for (size_t k = 0; k < config_n_keys; k++) {
        char *po = (char *)old + config_keys[k].at, *pn = (char *)now + config_keys[k].at;

        if (!config_keys[k].restart) {
            continue;
        }
        if (config_keys[k].type <= KEY_OCTAL) {
            memcpy(pn, po, sizeof(uint64_t));
        } else { /* swapped, so that each struct still frees what it holds */
            char *so, *sn;
            memcpy(&so, po, sizeof(so));
            memcpy(&sn, pn, sizeof(sn));
            memcpy(pn, &so, sizeof(so));
            memcpy(po, &sn, sizeof(sn));
        }
    }
}
