#include "engine/keys.h"

#include <inttypes.h>
#include <stdio.h>

#include "engine/engine.h"
#include "engine/gguf.h"

const char *keys_name(struct keys *k, const char *key)
{
    (void)snprintf(k->key, sizeof(k->key), "%s.%s", k->arch, key);
    return k->key;
}

uint64_t keys_offset(const struct keys *k)
{
    return gguf_key_offset(k->g, k->key);
}

int keys_u32(struct keys *k, const char *key, uint32_t otherwise, uint32_t *ret)
{
    switch (gguf_u32(k->g, keys_name(k, key), ret, k->d)) {
    case GGUF_FOUND:
        return MODEL_OK;
    case GGUF_ABSENT:
        *ret = otherwise;
        return MODEL_OK;
    default:
        return MODEL_MALFORMED;
    }
}

int keys_f32(struct keys *k, const char *key, float otherwise, float *ret)
{
    switch (gguf_f32(k->g, keys_name(k, key), ret, k->d)) {
    case GGUF_FOUND:
        return MODEL_OK;
    case GGUF_ABSENT:
        *ret = otherwise;
        return MODEL_OK;
    default:
        return MODEL_MALFORMED;
    }
}

int keys_u32_within(struct keys *k, const char *key, uint32_t max, uint32_t *ret)
{
    const int r = keys_u32(k, key, 0, ret);

    if (r != MODEL_OK) {
        return r;
    }
    if (!gguf_find(k->g, k->key)) {
        diag_set(k->d, k->g->keys_end, "key %s is missing", k->key);
        return MODEL_MALFORMED;
    }
    if (*ret == 0) {
        diag_set(k->d, keys_offset(k), "key %s is 0", k->key);
        return MODEL_MALFORMED;
    }
    if (*ret > max) {
        diag_set(k->d, keys_offset(k), "key %s is %" PRIu32 ", the limit is %" PRIu32, k->key, *ret,
                 max);
        return MODEL_TOO_BIG;
    }
    return MODEL_OK;
}

int keys_unsupported(struct keys *k, const char *what)
{
    diag_set(k->d, keys_offset(k), "key %s: %s is unsupported", k->key, what);
    return MODEL_UNSUPPORTED;
}
