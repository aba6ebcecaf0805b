/* config: from INI bytes to a checked struct config.
 *
 * inih splits lines into name and value; it is given one stripped line at a time by our own reader,
 * which counts lines, keeps the section's name (whatever its length) and refuses what inih would
 * cut or join silently: long lines, continuation lines, sections that do not exist or are empty. */
#include "daemon/broker/config.h"

#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/broker/config_keys.h"
#include "daemon/broker/config_peer.h"
#include "daemon/broker/config_prefix.h"
#include "daemon/broker/config_value.h"
#include "ipc/message.h"

#define MODEL_PREFIX "model "
#define PEER_PREFIX "peer "
#define PREFIX_PREFIX "prefix "
#define SECTION_MAX (UNIT_MAX + 16u) /* [peer unit.NAME] is the longest */

enum {
    MODEL_KEY_TEMPERATURE,
    MODEL_KEY_N_CTX,
    MODEL_KEY_KV,
    MODEL_KEY_CHAT_TEMPLATE,
    MODEL_KEY_IDLE_S,
    MODEL_KEY_LOCKED,
    MODEL_KEY_PINNED,
    MODEL_KEYS
};
static const char *const model_keys[MODEL_KEYS] = {
    "temperature", "n_ctx", "kv", "chat_template", "idle_s", "locked", "pinned"};

struct reading {
    struct config *config; /* borrowed */
    struct diag *diag;     /* borrowed; may be NULL */
    const char *at, *end;  /* borrowed: bytes not yet read */
    unsigned line;         /* 1-based: of the line inih holds */
    char section[SECTION_MAX + 1];
    struct model_options *model;            /* of the section, when it is a [model NAME] */
    struct policy_rule *peer;               /* of the section, when it is a [peer NAME] */
    struct prefix_options *prefix;          /* of the section, when it is a [prefix NAME] */
    unsigned model_seen[CONFIG_MODELS_MAX]; /* per section: bits of keys given */
    bool *seen;                             /* owned: per key of the table */
    bool bad, no_memory;
};

static void PRINTF_LIKE(2, 3) refuse(struct reading *r, const char *fmt, ...)
{
    char text[200];
    va_list args;

    if (!r->bad) {
        va_start(args, fmt);
        (void)vsnprintf(text, sizeof(text), fmt, args);
        va_end(args);
        diag_set(r->diag, r->line, "line %u: %s", r->line, text);
    }
    r->bad = true;
}

bool model_name_valid(struct strview name)
{
    if (name.n == 0 || name.n > MODEL_NAME_MAX || name.data[0] == '.') {
        return false;
    }
    for (size_t i = 0; i < name.n; i++) {
        if (name.data[i] <= ' ' || name.data[i] > '~' || name.data[i] == '/') {
            return false;
        }
    }
    return true;
}

static bool set_string(struct reading *r, char **at, const char *value)
{
    char *copy = strdup(value);

    if (!copy) {
        r->no_memory = r->bad = true;
        return false;
    }
    free(*at);
    *at = copy;
    return true;
}

static struct model_options *model_section(struct config *c, const char *name)
{
    for (size_t i = 0; i < c->n_models; i++) {
        if (strcmp(c->models[i].name, name) == 0) {
            return &c->models[i];
        }
    }
    if (c->n_models == CONFIG_MODELS_MAX) {
        return NULL;
    }
    struct model_options *m = &c->models[c->n_models++];
    *m = (struct model_options){0};
    (void)snprintf(m->name, sizeof(m->name), "%s", name);
    return m;
}

static bool section_known(const char *section)
{
    for (size_t i = 0; i < config_n_keys; i++) {
        if (strcmp(config_keys[i].section, section) == 0) {
            return true;
        }
    }
    return false;
}

static void model_enter(struct reading *r, const char *name)
{
    if (!model_name_valid(strview_of(name))) {
        refuse(r, "'%s' is no name of a model", name);
        return;
    }
    r->model = model_section(r->config, name);
    if (!r->model) {
        refuse(r, "more than %u [model] sections", CONFIG_MODELS_MAX);
    }
}

static void peer_enter(struct reading *r, const char *name)
{
    const int e = policy_rule(&r->config->policy, name, &r->peer);

    if (e == -ENOMEM) {
        r->no_memory = r->bad = true;
    } else if (e == -E2BIG) {
        refuse(r, "more than %u [peer] sections", POLICY_RULES_MAX);
    } else if (e < 0) {
        refuse(r, "'%.80s' is none of: uid.NUMBER, gid.NUMBER, unit.NAME, default", name);
    }
}

static void prefix_enter(struct reading *r, const char *name)
{
    r->prefix = config_prefix_enter(r->config, name);
    if (!r->prefix) {
        refuse(r,
               "'%.80s' is no plain name of at most %u bytes, or there are more than %u prefixes",
               name, PREFIX_NAME_MAX, CONFIG_PREFIXES_MAX);
    }
}

/* Enter "[text]". */
static void section_enter(struct reading *r, const char *line, size_t n)
{
    const char *end = memchr(line, ']', n);

    r->model = NULL;
    r->peer = NULL;
    r->prefix = NULL;
    if (!end) {
        refuse(r, "a section needs a closing ']'");
        return;
    }
    const size_t len = (size_t)(end - line) - 1;
    if (len > SECTION_MAX) {
        refuse(r, "the section's name is longer than %u bytes", SECTION_MAX);
        return;
    }
    for (const char *p = end + 1; p < line + n && *p != ';' && *p != '#'; p++) {
        if (*p != ' ' && *p != '\t') {
            refuse(r, "unexpected text after ']'");
            return;
        }
    }
    memcpy(r->section, line + 1, len);
    r->section[len] = '\0';
    if (strncmp(r->section, MODEL_PREFIX, strlen(MODEL_PREFIX)) == 0) {
        model_enter(r, r->section + strlen(MODEL_PREFIX));
    } else if (strncmp(r->section, PEER_PREFIX, strlen(PEER_PREFIX)) == 0) {
        peer_enter(r, r->section + strlen(PEER_PREFIX));
    } else if (strncmp(r->section, PREFIX_PREFIX, strlen(PREFIX_PREFIX)) == 0) {
        prefix_enter(r, r->section + strlen(PREFIX_PREFIX));
    } else if (!section_known(r->section)) {
        refuse(r, "unknown section [%s]", r->section);
    }
}

/* inih's fgets: one line, stripped in front so that nothing is taken for a continuation. */
static char *next_line(char *into, int room, void *user)
{
    struct reading *r = user;

    if (r->bad || r->at == r->end) {
        return NULL;
    }
    const char *nl = memchr(r->at, '\n', (size_t)(r->end - r->at));
    const char *line = r->at, *stop = nl ? nl : r->end;
    r->at = nl ? nl + 1 : r->end;
    r->line++;
    while (line < stop && (*line == ' ' || *line == '\t')) {
        line++;
    }
    while (stop > line && (stop[-1] == '\r' || stop[-1] == ' ' || stop[-1] == '\t')) {
        stop--;
    }
    const size_t n = (size_t)(stop - line);
    if (n > CONFIG_LINE_MAX || n + 2 > (size_t)room) {
        refuse(r, "longer than %u bytes", CONFIG_LINE_MAX);
        return NULL;
    }
    if (memchr(line, '\0', n)) {
        refuse(r, "a NUL byte");
        return NULL;
    }
    if (n > 0 && *line == '[') {
        section_enter(r, line, n);
    }
    memcpy(into, line, n);
    into[n] = '\n';
    into[n + 1] = '\0';
    return into;
}

static void set_number(struct reading *r, const struct config_key *k, const char *value)
{
    uint64_t v = 0;
    bool ok;

    if (k->type == KEY_BYTES) {
        ok = value_bytes(value, &v);
    } else if (k->type == KEY_OCTAL) {
        ok = value_octal(value, &v);
    } else {
        ok = value_uint(value, &v);
    }
    if (!ok) {
        refuse(r, "%s: '%s' is no %s", k->name, value,
               k->type == KEY_BYTES   ? "size (digits, then K, M or G)"
               : k->type == KEY_OCTAL ? "octal mode"
                                      : "whole number");
        return;
    }
    if (v < k->min || v > k->max) {
        refuse(r,
               k->type == KEY_OCTAL ? "%s: %s is outside 0%lo..0%lo" : "%s: %s is outside %lu..%lu",
               k->name, value, (unsigned long)k->min, (unsigned long)k->max);
        return;
    }
    memcpy((char *)r->config + k->at, &v, sizeof(v));
}

static bool word_among(const char *words, const char *value)
{
    const size_t n = strlen(value);

    for (const char *at = words; *at; at += strcspn(at, " ") + 1) {
        if (strcspn(at, " ") == n && memcmp(at, value, n) == 0) {
            return true;
        }
    }
    return false;
}

static void set_key(struct reading *r, const struct config_key *k, const char *value)
{
    char **at = (char **)(void *)((char *)r->config + k->at);

    switch (k->type) {
    case KEY_UINT:
    case KEY_BYTES:
    case KEY_OCTAL:
        set_number(r, k, value);
        return;
    case KEY_PATH:
    case KEY_PATH_OR_NONE:
        if (k->type == KEY_PATH_OR_NONE && value[0] == '\0') {
            break;
        }
        if (value[0] != '/') {
            refuse(r, "%s: '%s' is no absolute path", k->name, value);
            return;
        }
        break;
    case KEY_NAME:
        if (!model_name_valid(strview_of(value))) {
            refuse(r, "%s: '%s' is no plain name", k->name, value);
            return;
        }
        break;
    case KEY_WORD:
        if (!word_among(k->words, value)) {
            refuse(r, "%s: '%s' is none of: %s", k->name, value, k->words);
            return;
        }
        break;
    }
    (void)set_string(r, at, value);
}

static void model_key(struct reading *r, const char *name, const char *value)
{
    struct model_options *m = r->model;
    unsigned *seen = &r->model_seen[m - r->config->models];
    unsigned key = 0;

    while (key < MODEL_KEYS && strcmp(model_keys[key], name) != 0) {
        key++;
    }
    if (key == MODEL_KEYS) {
        refuse(r, "unknown key '%s' in [%s]", name, r->section);
        return;
    }
    if (*seen & 1u << key) {
        refuse(r, "'%s' is given twice in [%s]", name, r->section);
        return;
    }
    *seen |= 1u << key;
    switch (key) {
    case MODEL_KEY_TEMPERATURE:
        m->has_temperature = true;
        if (!value_number(value, &m->temperature) || m->temperature > MSG_TEMPERATURE_MAX) {
            refuse(r, "temperature: '%s' is no number in 0..%d", value, MSG_TEMPERATURE_MAX);
        }
        break;
    case MODEL_KEY_N_CTX:
        if (!value_uint(value, &m->n_ctx) || m->n_ctx > MSG_TOKENS_MAX) {
            refuse(r, "n_ctx: '%s' is no whole number in 0..%u", value, MSG_TOKENS_MAX);
        }
        break;
    case MODEL_KEY_KV:
        if (!word_among("f16 f32 int8 ", value)) {
            refuse(r, "kv: '%s' is none of: f16 f32 int8", value);
            return;
        }
        (void)set_string(r, &m->kv, value);
        break;
    case MODEL_KEY_CHAT_TEMPLATE:
        if (!word_among(CONFIG_CHAT_TEMPLATES, value)) {
            refuse(r, "chat_template: '%s' is none of: " CONFIG_CHAT_TEMPLATES, value);
            return;
        }
        (void)set_string(r, &m->chat_template, value);
        break;
    case MODEL_KEY_IDLE_S:
        m->has_idle = true;
        if (!value_uint(value, &m->idle_s) || m->idle_s > CONFIG_IDLE_S_MAX) {
            refuse(r, "idle_s: '%s' is no whole number in 0..%lu", value,
                   (unsigned long)CONFIG_IDLE_S_MAX);
        }
        break;
    case MODEL_KEY_LOCKED:
        if (!value_bool(value, &m->locked)) {
            refuse(r, "locked: '%s' is neither yes nor no", value);
        }
        break;
    default:
        if (!value_bool(value, &m->pinned)) {
            refuse(r, "pinned: '%s' is neither yes nor no", value);
        }
        break;
    }
}

static void peer_key(struct reading *r, const char *name, const char *value)
{
    char text[200];
    const int e = config_peer_key(r->peer, name, value, text, sizeof(text));

    if (e == CONFIG_PEER_BAD) {
        refuse(r, "%s", text);
    } else if (e < 0) {
        r->no_memory = r->bad = true;
    }
}

static void prefix_key(struct reading *r, const char *name, const char *value)
{
    char text[200];
    const int e = config_prefix_key(r->prefix, name, value, text, sizeof(text));

    if (e == CONFIG_PREFIX_BAD) {
        refuse(r, "%s", text);
    } else if (e < 0) {
        r->no_memory = r->bad = true;
    }
}

static int on_pair(void *user, const char *section, const char *name, const char *value)
{
    struct reading *r = user;

    (void)section; /* cut at 49 bytes; ours is whole */
    if (r->bad) {
        return 0;
    }
    if (r->model) {
        model_key(r, name, value);
        return !r->bad;
    }
    if (r->peer) {
        peer_key(r, name, value);
        return !r->bad;
    }
    if (r->prefix) {
        prefix_key(r, name, value);
        return !r->bad;
    }
    for (size_t i = 0; i < config_n_keys; i++) {
        if (strcmp(config_keys[i].section, r->section) == 0 &&
            strcmp(config_keys[i].name, name) == 0) {
            if (r->seen[i]) {
                refuse(r, "'%s' is given twice in [%s]", name, r->section);
            } else {
                r->seen[i] = true;
                set_key(r, &config_keys[i], value);
            }
            return !r->bad;
        }
    }
    if (r->section[0]) {
        refuse(r, "unknown key '%s' in [%s]", name, r->section);
    } else {
        refuse(r, "key '%s' stands before any section", name);
    }
    return 0;
}

int config_init(struct config *c)
{
    *c = (struct config){0};
    for (size_t i = 0; i < config_n_keys; i++) {
        if (config_keys[i].type <= KEY_OCTAL) {
            memcpy((char *)c + config_keys[i].at, &config_keys[i].preset, sizeof(uint64_t));
        }
    }
    /* The command model that comes with the daemon answers with the one right command. */
    struct model_options *home = model_section(c, "home-q1_0");
    home->has_temperature = true;
    home->temperature = 0;
    return 0;
}

void config_deinit(struct config *c)
{
    for (size_t i = 0; i < config_n_keys; i++) {
        if (config_keys[i].type > KEY_OCTAL) {
            char **at = (char **)(void *)((char *)c + config_keys[i].at);
            free(*at);
            *at = NULL;
        }
    }
    for (size_t i = 0; i < c->n_models; i++) {
        free(c->models[i].kv);
        free(c->models[i].chat_template);
    }
    c->n_models = 0;
    for (size_t i = 0; i < c->n_prefixes; i++) {
        free(c->prefixes[i].model);
        free(c->prefixes[i].file);
    }
    c->n_prefixes = 0;
    policy_deinit(&c->policy);
    free(c->file);
    c->file = NULL;
}

int config_read(struct config *c, const void *data, size_t n, struct diag *ret_diag)
{
    static const unsigned char mark[] = {0xef, 0xbb, 0xbf}; /* some editors begin UTF-8 with it */
    struct reading r = {.config = c, .diag = ret_diag, .at = data, .end = (const char *)data + n};
    int at;

    if (n > CONFIG_BYTES_MAX) {
        diag_set(ret_diag, 0, "the file is longer than %u bytes", CONFIG_BYTES_MAX);
        return CONFIG_BAD;
    }
    if (n >= sizeof(mark) && memcmp(data, mark, sizeof(mark)) == 0) {
        r.at += sizeof(mark);
    }
    r.seen = calloc(config_n_keys, sizeof(*r.seen));
    if (!r.seen) {
        return -ENOMEM;
    }
    ini_use_stack = false;
    ini_max_line = ini_initial_alloc = (int)CONFIG_LINE_MAX + 3;
    ini_stop_on_first_error = true;
    at = n > 0 ? ini_parse_stream(next_line, &r, on_pair, &r) : 0;
    free(r.seen);
    if (r.no_memory || at == -2) {
        return -ENOMEM;
    }
    if (at != 0) {
        refuse(&r, "neither a section, a 'key = value' nor a comment");
    }
    if (!r.bad && c->output_soft_bytes > c->output_hard_bytes) {
        refuse(&r, "output_soft_bytes is more than output_hard_bytes");
    }
    for (size_t i = 0; i < c->n_prefixes && !r.bad; i++) {
        if (!c->prefixes[i].model || !c->prefixes[i].file) {
            refuse(&r, "[prefix %s] lacks its %s", c->prefixes[i].name,
                   c->prefixes[i].model ? "file" : "model");
        }
    }
    return r.bad ? CONFIG_BAD : CONFIG_OK;
}

const struct model_options *config_model(const struct config *c, struct strview name)
{
    for (size_t i = 0; i < c->n_models; i++) {
        if (strview_is(name, c->models[i].name)) {
            return &c->models[i];
        }
    }
    return NULL;
}
