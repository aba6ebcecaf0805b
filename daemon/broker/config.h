/* The configuration: one INI file, every key checked. Reading is pure code over bytes. */
#ifndef BROKER_CONFIG_H
#define BROKER_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/diag.h"
#include "base/strview.h"
#include "daemon/broker/bucket.h"
#include "daemon/broker/policy.h"

#define CONFIG_BYTES_MAX (256u << 10) /* of the file */
#define CONFIG_MAX_TOKENS 2048u       /* what the engine takes by itself */
#define CONFIG_LINE_MAX 1024u         /* bytes of one line */
#define CONFIG_IDLE_S_MAX (UINT64_C(366) * 24 * 3600)
#define CONFIG_MODELS_MAX 64u  /* [model NAME] sections */
#define CONFIG_PREFIXES_MAX 8u /* [prefix NAME] sections: the engine computes as many at once */
#define PREFIX_NAME_MAX 64u    /* bytes */
#define CONFIG_CHAT_TEMPLATES "bitnet chatml falcon3 llama3 minicpm qwen3 " /* the engine's */
#define MODEL_NAME_MAX 200u /* bytes; leaves room for a hash in a pack's file name */

/* What [model NAME] says about one model. */
struct model_options {
    char name[MODEL_NAME_MAX + 1];
    bool has_temperature;
    double temperature;
    uint64_t n_ctx;      /* 0: what the model was trained for, at most 4096 */
    char *kv;            /* owned: "f16" or "f32" */
    char *chat_template; /* owned: one of CONFIG_CHAT_TEMPLATES; NULL: the file's own */
    bool has_idle;
    uint64_t idle_s; /* as memory_idle_s */
    bool locked;     /* its weights are kept in memory, as far as the system allows */
    bool pinned;     /* loaded at start, never unloaded to make room */
};

/* What [prefix NAME] says about one public prefix. */
struct prefix_options {
    char name[PREFIX_NAME_MAX + 1];
    char *model, *file; /* owned; both are there in a configuration that was read well */
    bool raw;           /* the text as it is; else a system message */
    unsigned seen;      /* bits of keys given */
};

struct config {
    char *file;                       /* owned: what it was read from; NULL: the defaults alone */
    char *socket_path, *socket_group; /* owned, as all strings here; either may be NULL */
    uint64_t socket_mode;
    char *models_dir, *default_model; /* default_model may be NULL */
    char *cache_dir;
    uint64_t kv_bytes_disk; /* of one model's idle KV; 0: none is kept on disk */
    uint64_t answers_bytes; /* of the cache of answers; 0: none */
    char *runner, *cpu;     /* runner: NULL: beside onebitd; cpu: NULL: the best there is */
    uint64_t threads;       /* 0: chosen by the runner */
    char *weights;          /* "auto", "shared" or "private"; NULL: auto */
    uint64_t private_bytes; /* that auto's private copies may take together */
    uint64_t kv_bytes, streams_max, models_max, pack_ms;
    uint64_t memory_budget;  /* bytes; 0: what the machine allows */
    uint64_t memory_idle_s;  /* after which a model that nobody asked for leaves; 0: never */
    uint64_t memory_calm_ms; /* without pressure, before a level is left */
    uint64_t memory_residency_min_s, memory_swaps_per_minute;
    uint64_t heat_warm_c; /* 0: as the machine itself has it */
    uint64_t heat_hot_s, heat_cool_s;
    uint64_t draft_tokens; /* guesses in a step of a sequence */
    uint64_t queue_per_identity, queue_total, queue_bytes, queue_bytes_per_identity;
    char *scheduler_mode; /* "fair" or "fifo"; NULL: fair */
    uint64_t chunk_ms, pause_max_ms;
    uint64_t connections, connections_per_uid, requests_per_connection;
    uint64_t frame_ms, hello_ms, idle_ms, stall_ms;
    uint64_t output_soft_bytes, output_hard_bytes, model_bytes_max;
    uint64_t output_total_bytes, input_total_bytes; /* of all connections together */
    uint64_t max_tokens; /* of requests that name none; less where the context is used up */
    uint64_t deadline_ms;
    uint64_t drain_ms, wedged_ms;
    char *metrics_socket, *metrics_group; /* either may be NULL */
    uint64_t metrics_mode;
    struct rates rates; /* of all identities together */
    uint64_t breaker_faults, breaker_open_ms;
    struct policy policy; /* owned, as what it points to */
    char *sessions_dir;   /* empty: in memory alone */
    uint64_t sessions_count, sessions_bytes, sessions_total_bytes, sessions_age_days;
    struct model_options models[CONFIG_MODELS_MAX];
    size_t n_models;
    struct prefix_options prefixes[CONFIG_PREFIXES_MAX];
    size_t n_prefixes;
};

/** config_init() - the built-in defaults, without paths. 0 or -ENOMEM; undo with
 * config_deinit(). */
MUST_USE int config_init(struct config *c);
void config_deinit(struct config *c); /* a zeroed one is fine */

enum { CONFIG_OK = 0, CONFIG_BAD };

/**
 * config_read() - read an INI file's bytes over what c holds
 * @data: n bytes, hostile or not
 * @ret_diag: on CONFIG_BAD what is wrong, by line and name; offset is the line
 *
 * Return: CONFIG_OK, CONFIG_BAD, -ENOMEM. After a failure c is only good for config_deinit().
 */
MUST_USE int config_read(struct config *c, const void *data, size_t n, struct diag *ret_diag);

/** config_model() - the section of a model, or NULL */
const struct model_options *config_model(const struct config *c, struct strview name);

/** config_needs_restart() - the name ("section.key") of the i-th changed key that a running daemon
 * cannot take over, or NULL when there are no more */
const char *config_needs_restart(const struct config *old, const struct config *now, size_t i);

/** config_keep_fixed() - what a reload cannot change is taken from the running configuration.
 * Strings move from old to now. */
void config_keep_fixed(struct config *old, struct config *now);

/** model_name_valid() - a plain file name: no '/', no leading dot, printable ASCII, short enough */
bool model_name_valid(struct strview name);

#endif
