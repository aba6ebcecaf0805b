/* recipe: its members' bounds in one table, and its parts as other modules want them. */
#include "train/loop/recipe.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "train/loop/rows.h"

const char *const recipe_weights_names[] = {"float", "ternary", "binary", NULL};
const char *const recipe_activations_names[] = {"float", "int8", "binary", NULL};
const char *const recipe_head_names[] = {"int8", "float", NULL};
const char *const recipe_ste_names[] = {"hard", "clip", "smooth", NULL};
const char *const recipe_format_names[] = {"I2_S", "TQ2_0", "Q2_0", NULL};
const char *const recipe_schedule_names[] = {"cosine", "linear", "constant", NULL};

struct bound {
    const char *name;
    size_t at;
    uint64_t lo, hi; /* of a whole number */
    bool real;
    double flo, fhi;
};

#define WHOLE(f, l, h)                                                                             \
    {                                                                                              \
        .name = #f, .at = offsetof(struct recipe, f), .lo = (l), .hi = (h)                         \
    }
#define REAL(f, l, h)                                                                              \
    {                                                                                              \
        .name = #f, .at = offsetof(struct recipe, f), .real = true, .flo = (l), .fhi = (h)         \
    }

static const struct bound bounds[] = {
    WHOLE(n_layer, 1, NET_LAYERS_MAX),
    WHOLE(n_embd, 32, NET_WIDTH_MAX),
    WHOLE(n_ff, 32, NET_WIDTH_MAX),
    WHOLE(n_head, 1, NET_HEADS_MAX),
    WHOLE(n_head_kv, 1, NET_HEADS_MAX),
    WHOLE(head_dim, 2, NET_HEAD_DIM_MAX),
    WHOLE(n_vocab, 1, NET_VOCAB_MAX),
    WHOLE(n_ctx, 2, NET_CTX_MAX),
    REAL(rope_base, 1, 1e9),
    REAL(rms_eps, 1e-12, 1),
    WHOLE(weights, 0, NET_W_BINARY),
    WHOLE(activations, 0, NET_A_BINARY),
    WHOLE(head, 0, NET_H_FLOAT),
    WHOLE(ste_weights, 0, NET_STE_SMOOTH),
    WHOLE(ste_activations, 0, NET_STE_SMOOTH),
    REAL(smooth_k, 0, 1e6),
    WHOLE(stochastic, 0, 1),
    WHOLE(format, 0, RECIPE_Q2_0),
    WHOLE(schedule, 0, SCHEDULE_CONSTANT),
    WHOLE(n_steps, 1, RECIPE_STEPS_MAX),
    WHOLE(n_warm, 0, RECIPE_STEPS_MAX),
    REAL(lr, 0, 10),
    REAL(lr_end, 0, 10),
    REAL(hold, 0, 1),
    REAL(beta1, 0, 0.999999),
    REAL(beta2, 0, 0.999999),
    REAL(eps, 1e-20, 1),
    REAL(decay, 0, 10),
    REAL(clip, 0, 1e9),
    WHOLE(batch, 1, RECIPE_BATCH_MAX),
    WHOLE(accumulate, 1, RECIPE_BATCH_MAX),
    REAL(prompt_weight, 0, 1),
    WHOLE(seed, 0, UINT64_MAX),
    WHOLE(n_threads, 1, NET_THREADS_MAX),
    WHOLE(n_rows, 1, ROWS_MAX),
    WHOLE(data_hash, 0, UINT64_MAX),
};

_Static_assert(sizeof(struct recipe) == ARRAY_SIZE(bounds) * 8, "each member has its bounds");

static bool within(const struct recipe *r, const struct bound *b, struct diag *d)
{
    uint64_t whole;
    double real;

    memcpy(&whole, (const char *)r + b->at, sizeof(whole));
    memcpy(&real, (const char *)r + b->at, sizeof(real));
    if (b->real && !(real >= b->flo && real <= b->fhi)) {
        diag_set(d, b->at, "%s is %g, not from %g to %g", b->name, real, b->flo, b->fhi);
        return false;
    }
    if (!b->real && (whole < b->lo || whole > b->hi)) {
        diag_set(d, b->at, "%s is %" PRIu64 ", not from %" PRIu64 " to %" PRIu64, b->name, whole,
                 b->lo, b->hi);
        return false;
    }
    return true;
}

/* The weights of a row that share a scale, or a block of what they are stored as. */
static uint32_t block_of(const struct recipe *r)
{
    const char *format = recipe_matrix_format(r);
    struct gguf_writable w;

    if (r->weights == NET_W_BINARY) {
        return 128; /* also where they are stored as floats */
    }
    for (size_t i = 0; gguf_writable(i, &w); i++) {
        if (strcmp(w.name, format) == 0) {
            return w.block;
        }
    }
    return 1;
}

/* The columns of every matrix of the layers are whole blocks. */
static bool rows_fit(const struct recipe *r, struct diag *d)
{
    const uint64_t q = r->n_head * r->head_dim;
    const uint32_t block = block_of(r) > 32 ? block_of(r) : 32;

    if (r->n_embd % block == 0 && r->n_ff % block == 0 && q % block == 0) {
        return true;
    }
    diag_set(d, 0,
             "width %" PRIu64 ", feed-forward %" PRIu64 " and heads of %" PRIu64
             " together: each has to be a multiple of %u for %s weights in %s",
             r->n_embd, r->n_ff, q, block, recipe_weights_names[r->weights],
             recipe_matrix_format(r));
    return false;
}

bool recipe_check(const struct recipe *r, struct diag *ret_diag)
{
    for (size_t i = 0; i < ARRAY_SIZE(bounds); i++) {
        if (!within(r, &bounds[i], ret_diag)) {
            return false;
        }
    }
    if (r->format != RECIPE_I2_S && (r->weights != NET_W_TERNARY || r->activations != NET_A_INT8)) {
        diag_set(ret_diag, 0, "format %s is for ternary weights with int8 activations",
                 recipe_format_names[r->format]);
        return false;
    }
    if (r->n_head % r->n_head_kv != 0 || r->head_dim % 32 != 0 || r->n_embd % 32 != 0) {
        diag_set(ret_diag, 0,
                 "heads have to be a multiple of those for keys and values, width and "
                 "a head's a multiple of 32");
        return false;
    }
    if (r->n_head * r->head_dim > NET_WIDTH_MAX) {
        diag_set(ret_diag, 0,
                 "%" PRIu64 " heads of %" PRIu64 " together are %" PRIu64 " wide, more than %u",
                 r->n_head, r->head_dim, r->n_head * r->head_dim, NET_WIDTH_MAX);
        return false;
    }
    if (r->n_warm > r->n_steps) {
        diag_set(ret_diag, 0, "the warm-up is longer than the training");
        return false;
    }
    return rows_fit(r, ret_diag);
}

bool recipe_same_net(const struct recipe *a, const struct recipe *b, struct diag *ret_diag)
{
    const struct {
        const char *name;
        uint64_t a, b;
    } widths[] = {
        {"n_layer", a->n_layer, b->n_layer},
        {"n_embd", a->n_embd, b->n_embd},
        {"n_ff", a->n_ff, b->n_ff},
        {"n_head", a->n_head, b->n_head},
        {"n_head_kv", a->n_head_kv, b->n_head_kv},
        {"head_dim", a->head_dim, b->head_dim},
        {"n_vocab", a->n_vocab, b->n_vocab},
    };

    for (size_t i = 0; i < ARRAY_SIZE(widths); i++) {
        if (widths[i].a != widths[i].b) {
            diag_set(ret_diag, 0, "its %s is %" PRIu64 ", not %" PRIu64, widths[i].name,
                     widths[i].a, widths[i].b);
            return false;
        }
    }
    return true;
}

/* The word for a number that stands for one; NULL: it does not. */
static const char *word_for(const struct bound *b, uint64_t whole)
{
    const struct {
        size_t at;
        const char *const *names;
    } words[] = {
        {offsetof(struct recipe, weights), recipe_weights_names},
        {offsetof(struct recipe, activations), recipe_activations_names},
        {offsetof(struct recipe, head), recipe_head_names},
        {offsetof(struct recipe, ste_weights), recipe_ste_names},
        {offsetof(struct recipe, ste_activations), recipe_ste_names},
        {offsetof(struct recipe, format), recipe_format_names},
        {offsetof(struct recipe, schedule), recipe_schedule_names},
    };

    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        if (words[i].at == b->at) {
            return words[i].names[whole];
        }
    }
    return NULL;
}

void recipe_print(FILE *f, const struct recipe *r)
{
    for (size_t i = 0; i < ARRAY_SIZE(bounds); i++) {
        uint64_t whole;
        double real;
        memcpy(&whole, (const char *)r + bounds[i].at, sizeof(whole));
        memcpy(&real, (const char *)r + bounds[i].at, sizeof(real));
        const char *word = bounds[i].real ? NULL : word_for(&bounds[i], whole);
        (void)fprintf(f, "%-16s ", bounds[i].name);
        if (bounds[i].real) {
            (void)fprintf(f, "%.9g\n", real);
        } else if (word) {
            (void)fprintf(f, "%s\n", word);
        } else if (bounds[i].at == offsetof(struct recipe, data_hash)) {
            (void)fprintf(f, "fnv1a:%016" PRIx64 "\n", whole);
        } else {
            (void)fprintf(f, "%" PRIu64 "\n", whole);
        }
    }
}

struct net_shape recipe_shape(const struct recipe *r)
{
    return (struct net_shape){
        .n_layer = (uint32_t)r->n_layer,
        .n_embd = (uint32_t)r->n_embd,
        .n_ff = (uint32_t)r->n_ff,
        .n_head = (uint32_t)r->n_head,
        .n_head_kv = (uint32_t)r->n_head_kv,
        .head_dim = (uint32_t)r->head_dim,
        .n_vocab = (uint32_t)r->n_vocab,
        .n_ctx = (uint32_t)r->n_ctx,
        .rope_base = (float)r->rope_base,
        .rms_eps = (float)r->rms_eps,
    };
}

struct net_modes recipe_modes(const struct recipe *r)
{
    return (struct net_modes){
        .weights = (enum net_weights)r->weights,
        .activations = (enum net_activations)r->activations,
        .head = (enum net_head)r->head,
        .ste_weights = (enum net_ste)r->ste_weights,
        .ste_activations = (enum net_ste)r->ste_activations,
        .smooth_k = (float)r->smooth_k,
        .stochastic = r->stochastic != 0,
        .block = r->format == RECIPE_TQ2_0  ? 256
                 : r->format == RECIPE_Q2_0 ? 32
                                            : 0,
    };
}

struct adamw recipe_adamw(const struct recipe *r)
{
    return (struct adamw){.beta1 = (float)r->beta1,
                          .beta2 = (float)r->beta2,
                          .eps = (float)r->eps,
                          .decay = (float)r->decay};
}

struct schedule recipe_schedule(const struct recipe *r)
{
    return (struct schedule){.shape = (enum schedule_shape)r->schedule,
                             .n_steps = r->n_steps,
                             .n_warm = r->n_warm,
                             .lr = r->lr,
                             .lr_end = r->lr_end,
                             .hold = r->hold};
}

/* ---- what it becomes in a file ---- */

const char *recipe_matrix_format(const struct recipe *r)
{
    if (r->weights == NET_W_FLOAT || r->activations == NET_A_FLOAT) {
        return "F32";
    }
    return r->weights == NET_W_BINARY ? "Q1_0" : recipe_format_names[r->format];
}

const char *recipe_head_format(const struct recipe *r)
{
    return r->head == NET_H_FLOAT ? "F32" : "Q8_0";
}

const char *recipe_activations_key(const struct recipe *r)
{
    if (r->activations == NET_A_BINARY) {
        return "binary";
    }
    return r->activations == NET_A_INT8 && r->weights == NET_W_FLOAT ? "int8" : NULL;
}
