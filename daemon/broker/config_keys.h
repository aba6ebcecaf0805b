/* The table of keys: the one place that says what a configuration may contain. */
#ifndef BROKER_CONFIG_KEYS_H
#define BROKER_CONFIG_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum key_type { KEY_UINT, KEY_BYTES, KEY_OCTAL, KEY_PATH, KEY_PATH_OR_NONE, KEY_NAME, KEY_WORD };

struct config_key {
    const char *section, *name;
    enum key_type type;
    size_t at;         /* offset in struct config: a uint64_t or a char * */
    uint64_t min, max; /* of numbers */
    uint64_t preset;   /* of numbers */
    const char *words; /* KEY_WORD: the valid ones, each followed by a space */
    bool restart;      /* a reload cannot change it */
};

extern const struct config_key config_keys[];
extern const size_t config_n_keys;

#endif
