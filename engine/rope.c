#include "engine/rope.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "engine/format.h"
#include "engine/gguf.h"
#include "engine/keys.h"
#include "engine/mathf.h"
#include "engine/shape.h"

#define ROPE_BASE_DEFAULT 10000.0f
#define PI 3.14159265358979323846

enum rope_kind { ROPE_PLAIN = 0, ROPE_LINEAR, ROPE_YARN, ROPE_LONG };

struct rope {
    enum rope_kind kind;
    float base, factor, attn_factor, ext_factor, beta_fast, beta_slow;
    uint32_t n_ctx_orig;
};

static int read_rope_kind(struct keys *k, struct rope *rope)
{
    struct strview type = {0};

    const int r = gguf_str(k->g, keys_name(k, "rope.scaling.type"), &type, k->d);
    if (r == GGUF_WRONG_TYPE) {
        return MODEL_MALFORMED;
    }
    if (r == GGUF_ABSENT) { /* a factor alone means linear, as in older files */
        rope->kind = rope->factor != 1.0f ? ROPE_LINEAR : ROPE_PLAIN;
    } else if (strview_is(type, "none")) {
        rope->kind = ROPE_PLAIN;
    } else if (strview_is(type, "linear")) {
        rope->kind = ROPE_LINEAR;
    } else if (strview_is(type, "yarn")) {
        rope->kind = ROPE_YARN;
    } else if (strview_is(type, "longrope")) {
        rope->kind = ROPE_LONG;
    } else {
        char what[64];
        (void)snprintf(what, sizeof(what), "rope scaling %.*s", type.n > 32 ? 32 : (int)type.n,
                       type.data);
        return keys_unsupported(k, what);
    }
    return MODEL_OK;
}

static int read_rope_keys(struct keys *k, const struct shape *s, struct rope *rope)
{
    const struct {
        const char *key;
        float otherwise, *ret, min, max;
    } floats[] = {
        {"rope.freq_base", ROPE_BASE_DEFAULT, &rope->base, 1e-3f, 1e30f},
        {"rope.scale_linear", 1, &rope->factor, 0, 1e9f},
        {"rope.scaling.factor", 0, &rope->factor, 0, 1e9f}, /* falls back on the line above */
        {"rope.scaling.attn_factor", 1, &rope->attn_factor, 1e-6f, 1e6f},
        {"rope.scaling.yarn_ext_factor", 1, &rope->ext_factor, 0, 1},
        {"rope.scaling.yarn_beta_fast", 32, &rope->beta_fast, 1e-3f, 1e6f},
        {"rope.scaling.yarn_beta_slow", 1, &rope->beta_slow, 1e-3f, 1e6f},
    };
    int r;

    for (size_t i = 0; i < ARRAY_SIZE(floats); i++) {
        const float before = *floats[i].ret;
        r = keys_f32(k, floats[i].key, floats[i].otherwise, floats[i].ret);
        if (r != MODEL_OK) {
            return r;
        }
        if (strcmp(floats[i].key, "rope.scaling.factor") == 0 && !gguf_find(k->g, k->key)) {
            *floats[i].ret = before;
        }
        if (!(*floats[i].ret >= floats[i].min && *floats[i].ret <= floats[i].max)) {
            diag_set(k->d, keys_offset(k), "key %s is out of range", k->key);
            return MODEL_MALFORMED;
        }
    }
    if (rope->factor == 0) { /* some converters write 0 for "none" */
        rope->factor = 1;
    }
    float log_mul;
    r = keys_f32(k, "rope.scaling.yarn_log_multiplier", 0, &log_mul);
    if (r != MODEL_OK || log_mul != 0) {
        return r != MODEL_OK ? r : keys_unsupported(k, "this rope scaling");
    }
    r = keys_u32(k, "rope.scaling.original_context_length", s->n_ctx, &rope->n_ctx_orig);
    if (r == MODEL_OK && rope->n_ctx_orig == 0) {
        diag_set(k->d, keys_offset(k), "key %s is 0", k->key);
        return MODEL_MALFORMED;
    }
    return r != MODEL_OK ? r : read_rope_kind(k, rope);
}

/* The rotation index (as a real number) whose wavelength makes `turns` turns in the old context. */
static double yarn_dim(const struct rope *rope, const struct shape *s, double turns)
{
    return s->n_rot * math_log(rope->n_ctx_orig / (turns * 2 * PI)) / (2 * math_log(rope->base));
}

static void yarn_freqs(const struct rope *rope, struct shape *s, double *inv_freq)
{
    const double low = fmax(0, floor(yarn_dim(rope, s, rope->beta_fast)));
    const double high = fmin(s->n_rot - 1, ceil(yarn_dim(rope, s, rope->beta_slow)));

    for (uint32_t i = 0; i < s->n_rot / 2; i++) {
        const double ramp = (i - low) / fmax(0.001, high - low);
        const double mix = (1 - fmin(1, fmax(0, ramp))) * rope->ext_factor;
        inv_freq[i] = inv_freq[i] / rope->factor * (1 - mix) + inv_freq[i] * mix;
    }
    if (rope->ext_factor != 0) {
        s->rope_scale *= (float)(1 + 0.1 * math_log(rope->factor));
    }
}

/* The tensor of divisors, one per pair: Llama 3's, or longrope's for the original context. */
static const struct gguf_tensor_info *factors_of(const struct gguf *g)
{
    const struct gguf_tensor_info *t = gguf_tensor_find(g, "rope_factors_short.weight");

    return t ? t : gguf_tensor_find(g, "rope_freqs.weight");
}

static int divide_by_factors(const struct gguf *g, const struct shape *s, enum rope_kind kind,
                             double *inv_freq, struct diag *d)
{
    const struct gguf_tensor_info *t = factors_of(g);
    const uint64_t n = s->n_rot / 2;

    if (!t && kind == ROPE_LONG) {
        diag_set(d, g->infos_end, "tensor rope_factors_short.weight is missing");
        return MODEL_MALFORMED;
    }
    if (!t) {
        return MODEL_OK;
    }
    if (t->type != format_info(FORMAT_F32)->id || t->dims[0] != n || t->dims[1] != 1 ||
        t->dims[2] != 1 || t->dims[3] != 1 || n * sizeof(float) > g->size - t->offset) {
        diag_set(d, t->info_offset, "%.*s is no F32 vector of %" PRIu64, (int)t->name.n,
                 t->name.data, n);
        return MODEL_MALFORMED;
    }
    for (uint64_t i = 0; i < n; i++) {
        float f;
        memcpy(&f, g->data + t->offset + i * sizeof(f), sizeof(f));
        inv_freq[i] /= f; /* zero and NaN are found with the other bounds */
    }
    return MODEL_OK;
}

static int make_freqs(struct keys *k, struct shape *s, const struct rope *rope, double *inv_freq)
{
    const uint32_t n = s->n_rot / 2;

    for (uint32_t i = 0; i < n; i++) {
        inv_freq[i] = math_pow(rope->base, -2.0 * i / s->n_rot);
    }
    const int r = divide_by_factors(k->g, s, rope->kind, inv_freq, k->d);
    if (r != MODEL_OK) {
        return r;
    }
    s->rope_scale = rope->attn_factor;
    if (rope->kind == ROPE_LINEAR) {
        for (uint32_t i = 0; i < n; i++) {
            inv_freq[i] /= rope->factor;
        }
    } else if (rope->kind == ROPE_YARN) {
        if (!(rope->base > 1) || rope->factor < 1) {
            (void)keys_name(k, rope->base > 1 ? "rope.scaling.factor" : "rope.freq_base");
            diag_set(k->d, keys_offset(k), "YaRN wants a base above 1 and a factor of at least 1");
            return MODEL_MALFORMED;
        }
        yarn_freqs(rope, s, inv_freq);
    }
    for (uint32_t i = 0; i < n; i++) {
        if (!(fabs(inv_freq[i]) <= SHAPE_INV_FREQ_MAX)) {
            const struct gguf_tensor_info *t = factors_of(k->g);
            (void)keys_name(k, "rope.freq_base");
            diag_set(k->d, t ? t->offset : keys_offset(k),
                     "rope frequency %" PRIu32 " is out of range", i);
            return MODEL_MALFORMED;
        }
    }
    return MODEL_OK;
}

int rope_read(struct keys *k, struct shape *s, double **ret_inv_freq)
{
    struct rope rope = {0};
    int r;

    r = keys_u32(k, "rope.dimension_count", s->head_dim, &s->n_rot);
    if (r != MODEL_OK) {
        return r;
    }
    if (s->n_rot < 2 || s->n_rot > s->head_dim || s->n_rot % 2 != 0) {
        diag_set(k->d, keys_offset(k), "cannot rotate %" PRIu32 " of %" PRIu32 " dimensions",
                 s->n_rot, s->head_dim);
        return MODEL_MALFORMED;
    }
    r = read_rope_keys(k, s, &rope);
    if (r != MODEL_OK) {
        return r;
    }
    double *inv_freq = calloc(s->n_rot / 2, sizeof(*inv_freq));
    if (!inv_freq) {
        return -ENOMEM;
    }
    r = make_freqs(k, s, &rope, inv_freq);
    if (r != MODEL_OK) {
        free(inv_freq);
        return r;
    }
    if (factors_of(k->g) && gguf_tensor_find(k->g, "rope_factors_long.weight")) {
        s->n_ctx = s->n_ctx < rope.n_ctx_orig ? s->n_ctx : rope.n_ctx_orig;
    }
    *ret_inv_freq = inv_freq;
    return MODEL_OK;
}
