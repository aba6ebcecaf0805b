/* config_prefix: the keys of a [prefix NAME] section, one line each in a table. */
#include "daemon/broker/config_prefix.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PREFIX_MODEL, PREFIX_FILE, PREFIX_AS, PREFIX_KEYS };
static const struct {
    const char *name;
} keys[PREFIX_KEYS] = {
    [PREFIX_MODEL] = {"model"},
    [PREFIX_FILE] = {"file"},
    [PREFIX_AS] = {"as"},
};

struct prefix_options *config_prefix_enter(struct config *c, const char *name)
{
    if (!model_name_valid(strview_of(name)) || strlen(name) > PREFIX_NAME_MAX) {
        return NULL;
    }
    for (size_t i = 0; i < c->n_prefixes; i++) {
        if (strcmp(c->prefixes[i].name, name) == 0) {
            return &c->prefixes[i];
        }
    }
    if (c->n_prefixes == CONFIG_PREFIXES_MAX) {
        return NULL;
    }
    struct prefix_options *p = &c->prefixes[c->n_prefixes++];
    *p = (struct prefix_options){0};
    (void)snprintf(p->name, sizeof(p->name), "%s", name);
    return p;
}

static int set(char **at, const char *value)
{
    free(*at);
    *at = strdup(value);
    return *at ? CONFIG_PREFIX_OK : -ENOMEM;
}

int config_prefix_key(struct prefix_options *p, const char *name, const char *value, char *ret_text,
                      size_t room)
{
    unsigned key = 0;

    while (key < PREFIX_KEYS && strcmp(keys[key].name, name) != 0) {
        key++;
    }
    if (key == PREFIX_KEYS) {
        (void)snprintf(ret_text, room, "unknown key '%.80s' in [prefix %s]", name, p->name);
        return CONFIG_PREFIX_BAD;
    }
    if (p->seen & 1u << key) {
        (void)snprintf(ret_text, room, "'%s' is given twice in [prefix %s]", name, p->name);
        return CONFIG_PREFIX_BAD;
    }
    p->seen |= 1u << key;
    switch (key) {
    case PREFIX_MODEL:
        if (!model_name_valid(strview_of(value))) {
            (void)snprintf(ret_text, room, "model: '%.80s' is no name of a model", value);
            return CONFIG_PREFIX_BAD;
        }
        return set(&p->model, value);
    case PREFIX_FILE:
        if (value[0] != '/') {
            (void)snprintf(ret_text, room, "file: '%.80s' is no absolute path", value);
            return CONFIG_PREFIX_BAD;
        }
        return set(&p->file, value);
    default:
        p->raw = strcmp(value, "raw") == 0;
        if (!p->raw && strcmp(value, "system") != 0) {
            (void)snprintf(ret_text, room, "as: '%.80s' is none of: system raw", value);
            return CONFIG_PREFIX_BAD;
        }
        return CONFIG_PREFIX_OK;
    }
}
