/* config_peer: the keys of a [peer NAME] section, one line each in a table. */
#include "daemon/broker/config_peer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/broker/config.h"
#include "daemon/broker/config_value.h"
#include "ipc/seam.h"

#define QUEUE_MAX 1000000u

static const struct {
    const char *name;
    uint64_t min, max; /* of numbers */
} keys[PEER_KEYS] = {
    [PEER_RIGHTS] = {"rights", 0, 0},
    [PEER_CLASS] = {"class", 0, 0},
    [PEER_WEIGHT] = {"weight", 1, POLICY_WEIGHT_MAX},
    [PEER_MODELS] = {"models", 0, 0},
    [PEER_REQUESTS_PER_S] = {"requests_per_s", 0, RATES_MAX},
    [PEER_TOKENS_PER_S] = {"tokens_per_s", 0, RATES_MAX},
    [PEER_BURST_S] = {"burst_s", 0, RATES_BURST_S_MAX},
    [PEER_TOKENS_PER_DAY] = {"tokens_per_day", 0, UINT64_C(1) << 50},
    [PEER_RUNNING_MAX] = {"running_max", 0, SEAM_STREAMS_MAX},
    [PEER_QUEUE_MAX] = {"queue_max", 0, QUEUE_MAX},
};

/* "home-q1_0, chat" as "home-q1_0 chat"; NULL: no list of models, or no memory (errno). */
static char *models_of(const char *value)
{
    char *copy = malloc(strlen(value) + 1), *to = copy;

    if (!copy) {
        errno = ENOMEM;
        return NULL;
    }
    for (const char *at = value;;) {
        at += strspn(at, " \t");
        const size_t n = strcspn(at, ", \t");
        const struct strview name = {.data = at, .n = n};
        if (!(n == 1 && *at == '*') && !model_name_valid(name)) {
            break;
        }
        memcpy(to, at, n);
        to += n;
        at += n;
        at += strspn(at, " \t");
        if (*at == '\0') {
            *to = '\0';
            return copy;
        }
        if (*at++ != ',') {
            break;
        }
        *to++ = ' ';
    }
    free(copy);
    errno = EINVAL;
    return NULL;
}

static int set_models(struct policy_rule *r, const char *value, char *ret_text, size_t room)
{
    char *models = models_of(value);

    if (!models && errno == ENOMEM) {
        return -ENOMEM;
    }
    if (!models) {
        (void)snprintf(ret_text, room, "models: '%.100s' is no list of models, nor *", value);
        return CONFIG_PEER_BAD;
    }
    free(r->models);
    r->models = models;
    return CONFIG_PEER_OK;
}

static int set_rights(struct policy_rule *r, const char *value, char *ret_text, size_t room)
{
    unsigned rights;

    if (!policy_rights_parse(value, &rights)) {
        (void)snprintf(ret_text, room,
                       "rights: '%.80s' is no list of use, load, unload, cancel, metrics, nor all "
                       "or none",
                       value);
        return CONFIG_PEER_BAD;
    }
    r->number[PEER_RIGHTS] = rights;
    return CONFIG_PEER_OK;
}

static int set_class(struct policy_rule *r, const char *value, char *ret_text, size_t room)
{
    enum request_class class_;

    if (!request_class_parse(strview_of(value), &class_)) {
        (void)snprintf(ret_text, room, "class: '%.80s' is none of: low normal high", value);
        return CONFIG_PEER_BAD;
    }
    r->number[PEER_CLASS] = class_;
    return CONFIG_PEER_OK;
}

static int set_number(struct policy_rule *r, unsigned key, const char *value, char *ret_text,
                      size_t room)
{
    uint64_t v;

    if (!value_uint(value, &v) || v < keys[key].min || v > keys[key].max) {
        (void)snprintf(ret_text, room, "%s: '%.80s' is no whole number in %llu..%llu",
                       keys[key].name, value, (unsigned long long)keys[key].min,
                       (unsigned long long)keys[key].max);
        return CONFIG_PEER_BAD;
    }
    r->number[key] = v;
    return CONFIG_PEER_OK;
}

int config_peer_key(struct policy_rule *r, const char *name, const char *value, char *ret_text,
                    size_t room)
{
    unsigned key = 0;

    while (key < PEER_KEYS && strcmp(keys[key].name, name) != 0) {
        key++;
    }
    if (key == PEER_KEYS) {
        (void)snprintf(ret_text, room, "unknown key '%.80s' in a [peer] section", name);
        return CONFIG_PEER_BAD;
    }
    if (r->said & 1u << key) {
        (void)snprintf(ret_text, room, "'%s' is given twice for this peer", name);
        return CONFIG_PEER_BAD;
    }
    r->said |= 1u << key;
    switch (key) {
    case PEER_RIGHTS:
        return set_rights(r, value, ret_text, room);
    case PEER_CLASS:
        return set_class(r, value, ret_text, room);
    case PEER_MODELS:
        return set_models(r, value, ret_text, room);
    default:
        return set_number(r, key, value, ret_text, room);
    }
}
