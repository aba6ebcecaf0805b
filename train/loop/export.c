/* export: one walk over the tensors announces them, a second one writes them, each as the net's
 * forward pass sees it, so that the encoders find the scales and codes that it computed with. */
#include "train/loop/export.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "train/loop/vocabulary.h"
#include "train/net/net.h"

/* ---- keys ---- */

static int put_number(struct gguf_writer *w, const char *key, uint64_t v)
{
    char text[32];

    (void)snprintf(text, sizeof(text), "%" PRIu64, v);
    return gguf_put_str(w, key, strview_of(text));
}

static int put_card(struct gguf_writer *w, const struct export_card *card)
{
    const struct {
        const char *key, *value;
    } texts[] = {
        {"general.architecture", "qwen3"},
        {"general.name", card->name},
        {"general.description", card->description},
        {"general.license", card->license},
    };
    int r = gguf_put_u32(w, "general.quantization_version", 2);

    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(texts); i++) {
        if (texts[i].value) {
            r = gguf_put_str(w, texts[i].key, strview_of(texts[i].value));
        }
    }
    return r;
}

static int put_shape(struct gguf_writer *w, const struct net_shape *s)
{
    const struct {
        const char *key;
        uint32_t v;
    } numbers[] = {
        {"qwen3.block_count", s->n_layer},
        {"qwen3.context_length", s->n_ctx},
        {"qwen3.embedding_length", s->n_embd},
        {"qwen3.feed_forward_length", s->n_ff},
        {"qwen3.attention.head_count", s->n_head},
        {"qwen3.attention.head_count_kv", s->n_head_kv},
        {"qwen3.attention.key_length", s->head_dim},
        {"qwen3.attention.value_length", s->head_dim},
        {"qwen3.rope.dimension_count", s->head_dim},
        {"qwen3.vocab_size", s->n_vocab},
    };
    int r = gguf_put_f32(w, "qwen3.attention.layer_norm_rms_epsilon", s->rms_eps);

    if (r == 0) {
        r = gguf_put_f32(w, "qwen3.rope.freq_base", s->rope_base);
    }
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(numbers); i++) {
        r = gguf_put_u32(w, numbers[i].key, numbers[i].v);
    }
    return r;
}

static int put_training(struct gguf_writer *w, const struct recipe *recipe,
                        const struct progress_at *at)
{
    const char *weights = recipe_weights_names[recipe->weights];
    const char *activations = recipe_activations_names[recipe->activations];
    const char *key = recipe_activations_key(recipe);
    char hash[32];
    int r = gguf_put_str(w, "onebit.train.weights", strview_of(weights));

    (void)snprintf(hash, sizeof(hash), "fnv1a:%016" PRIx64, recipe->data_hash);
    if (r == 0) {
        r = gguf_put_str(w, "onebit.train.activations", strview_of(activations));
    }
    if (r == 0) {
        r = put_number(w, "onebit.train.seed", recipe->seed);
    }
    if (r == 0) {
        r = put_number(w, "onebit.train.steps", at->step);
    }
    if (r == 0) {
        r = put_number(w, "onebit.train.tokens", at->tokens);
    }
    if (r == 0) {
        r = gguf_put_str(w, "onebit.train.data", strview_of(hash));
    }
    if (r == 0 && key) {
        r = gguf_put_str(w, "onebit.activations", strview_of(key));
    }
    return r;
}

/* ---- tensors ---- */

static const char *format_of(const struct recipe *recipe, const struct net_tensor *t)
{
    return t->kind == NET_MATRIX      ? recipe_matrix_format(recipe)
           : t->kind == NET_EMBEDDING ? recipe_head_format(recipe)
                                      : "F32";
}

static int announce(struct gguf_writer *w, const struct recipe *recipe, struct net *net)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < net_count(net); i++) {
        const struct net_tensor *t = net_tensor(net, i);
        r = gguf_put_tensor(w, t->name, format_of(recipe, t), t->cols, t->rows,
                            t->kind == NET_NORM);
    }
    for (size_t i = 0; r == 0 && i < net_state_count(net); i++) {
        const struct net_tensor *t = net_state_tensor(net, i);
        r = gguf_put_tensor(w, t->name, "F32", t->cols, 1, true);
    }
    return r;
}

/* The largest magnitude; NaN: one of them is no number. */
static float largest(const float *x, size_t n)
{
    float most = 0;

    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) {
            return NAN;
        }
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    }
    return most;
}

static int write_params(struct gguf_writer *w, const struct recipe *recipe, struct net *net,
                        float *scratch)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < net_count(net); i++) {
        const struct net_tensor *t = net_tensor(net, i);
        net_exported(net, i, scratch);
        const float most = largest(scratch, (size_t)t->rows * t->cols);
        if (isnan(most)) {
            return -EDOM;
        }
        if (strcmp(format_of(recipe, t), "I2_S") == 0) {
            r = gguf_writer_scale(w, most);
        }
        if (r == 0) {
            r = gguf_writer_rows(w, scratch, t->rows);
        }
    }
    return r;
}

static int write_thresholds(struct gguf_writer *w, struct net *net, float *scratch)
{
    const float *state = net_state(net);
    int r = 0;

    for (size_t i = 0; r == 0 && i < net_state_count(net); i++) {
        const struct net_tensor *t = net_state_tensor(net, i);
        for (uint32_t k = 0; k < t->cols; k++) {
            scratch[k] = NET_THRESHOLD * state[t->at + k];
        }
        r = isnan(largest(scratch, t->cols)) ? -EDOM : gguf_writer_rows(w, scratch, 1);
    }
    return r;
}

/* Room for any one tensor. */
static float *scratch_for(struct net *net)
{
    size_t most = 1;

    for (size_t i = 0; i < net_count(net); i++) {
        const size_t n = (size_t)net_tensor(net, i)->rows * net_tensor(net, i)->cols;
        most = n > most ? n : most;
    }
    for (size_t i = 0; i < net_state_count(net); i++) {
        const size_t n = net_state_tensor(net, i)->cols;
        most = n > most ? n : most;
    }
    return calloc(most, sizeof(float));
}

static int put_header(struct gguf_writer *w, struct net *net, const struct recipe *recipe,
                      const struct progress_at *at, const struct vocabulary *vocabulary,
                      const struct export_card *card)
{
    const struct net_shape shape = recipe_shape(recipe);
    int r = put_card(w, card);

    if (r == 0) {
        r = put_shape(w, &shape);
    }
    if (r == 0) {
        r = put_training(w, recipe, at);
    }
    if (r == 0) {
        r = gguf_put_from(w, vocabulary->fd, "tokenizer.", NULL);
        r = r > 0 ? -EINVAL : r;
    }
    return r == 0 ? announce(w, recipe, net) : r;
}

int export_gguf(struct net *net, const struct recipe *recipe, const struct progress_at *at,
                const struct vocabulary *vocabulary, const struct export_card *card, int fd)
{
    struct gguf_writer *w = NULL;
    float *scratch = scratch_for(net);
    int r = scratch ? gguf_writer_new(&w) : -ENOMEM;

    if (r == 0) {
        r = put_header(w, net, recipe, at, vocabulary, card);
    }
    if (r == 0) {
        r = gguf_writer_begin(w, fd);
    }
    if (r == 0) {
        r = write_params(w, recipe, net, scratch);
    }
    if (r == 0) {
        r = write_thresholds(w, net, scratch);
    }
    if (r == 0) {
        r = gguf_writer_end(w);
    }
    gguf_writer_free(w);
    free(scratch);
    return r;
}
