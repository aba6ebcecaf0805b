/* The model that is trained: a decoder of the Qwen3 graph, forward and backward written out.
 *
 * One flat array holds all parameters, another of the same layout their gradients, so that an
 * optimizer, clipping, a checkpoint and an export are loops over the tensors listed here.
 * Parameters stay floats; the forward pass sees them, and what flows between the layers, through
 * the quantizers that struct net_modes names, which give exactly the numbers that the exported file
 * will mean in the engine (engine/NUMERICS.md). The backward pass goes through a quantizer by a
 * straight-through estimator (arXiv 1308.3432).
 *
 * Same shape, modes, seed, batches, kind of CPU and number of threads: the same bytes. Everything
 * is split among threads in a fixed way and summed in a fixed order. The graph is that of
 * engine/graph.c; products are OpenBLAS's, so logits equal the engine's up to the order of float
 * sums, not to the bit.
 *
 * Errors: 0, or a negative errno. A net belongs to one thread at a time; it starts its own. */
#ifndef TRAIN_NET_NET_H
#define TRAIN_NET_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

/* What the pass computes in. Gradients are checked in a build of its own, in double, where finite
 * differences are sharp (tests/unit/train); every program has floats. */
#ifdef NET_DOUBLE
typedef double net_real;
#else
typedef float net_real;
#endif

/* ---- limits ---- */

#define NET_WIDTH_MAX 16384u /* of any matrix but the embedding's rows */
#define NET_LAYERS_MAX 256u
#define NET_HEADS_MAX 4096u    /* as the engine's, as the next two */
#define NET_HEAD_DIM_MAX 1024u /* and together with the heads at most NET_WIDTH_MAX */
#define NET_VOCAB_MAX 1048576u
#define NET_CTX_MAX 65536u /* positions of a sequence */
#define NET_THREADS_MAX 64u

/* ---- what is built ---- */

struct net_shape {
    uint32_t n_layer;
    uint32_t n_embd; /* a multiple of 32 */
    uint32_t n_ff;   /* a multiple of 32 */
    uint32_t n_head; /* a multiple of n_head_kv */
    uint32_t n_head_kv;
    uint32_t head_dim; /* a multiple of 32 */
    uint32_t n_vocab;
    uint32_t n_ctx; /* longest sequence */
    float rope_base, rms_eps;
};
/* With binary weights, n_embd, n_ff and n_head * head_dim are multiples of 128. */

enum net_weights {
    NET_W_FLOAT,
    NET_W_TERNARY, /* s * round(w / s) within -1..1, s = mean |w| of all w (arXiv 2402.17764) */
    NET_W_BINARY,  /* s * sign(w), s = mean |w| of 128 columns of a row, as f16 */
};

enum net_activations {
    NET_A_FLOAT,
    NET_A_INT8,   /* absmax, as the engine quantizes for the exported type */
    NET_A_BINARY, /* x - t >= 0 ? 1 : -1, t = 1/2 of the channel's moving standard deviation */
};

enum net_head {
    NET_H_INT8, /* rows as Q8_0 stores them, the head's input int8 in blocks of 32 */
    NET_H_FLOAT
};

/* How a gradient passes through a quantizer of the layers' matrices or their inputs. The
 * quantizer's argument is w, or x - t; int8 never clips, so there the gradient always passes. */
enum net_ste {
    NET_STE_HARD,   /* where |argument| <= 1 */
    NET_STE_CLIP,   /* where |gradient| <= 1 */
    NET_STE_SMOOTH, /* times the derivative of a smooth stand-in: tanh(k x) for sign(x); for a
                     * weight s * tanh(k w / s), and a staircase of two for ternary ones.
                     * The forward pass is the quantizer's all the same. */
};

struct net_modes {
    enum net_weights weights;
    enum net_activations activations;
    enum net_head head;
    enum net_ste ste_weights, ste_activations;
    float smooth_k;  /* of NET_STE_SMOOTH; 0: 1 */
    bool stochastic; /* net_step() rounds weights at random, with their value as mean */
    /* Columns that share a scale of NET_A_INT8: 0, as the first choice of exported type has it (32
     * for float and binary weights, all of a token's for ternary ones: I2_S); 32 or 256 for ternary
     * weights that become Q2_0 or TQ2_0, whose scale is then an f16. */
    uint32_t block;
};

struct net;

/**
 * net_new() - a net with random parameters
 * @shape, @modes: borrowed for the call
 * @n_threads: 1..NET_THREADS_MAX, the caller's included
 * @seed: of the parameters and of stochastic rounding
 *
 * Return: 0; -EINVAL for a shape, mode or number outside what is said above; -ENOMEM or another
 * negative errno. Free with net_free().
 */
MUST_USE int net_new(struct net **ret, const struct net_shape *shape, const struct net_modes *modes,
                     unsigned n_threads, uint64_t seed);
void net_free(struct net *net);

/**
 * net_measure() - how many numbers such a net has, before memory is taken for them
 * @ret_size, @ret_state_size: what net_size() and net_state_size() will be
 *
 * Return: 0; -EINVAL and -ENOMEM as net_new().
 */
MUST_USE int net_measure(const struct net_shape *shape, const struct net_modes *modes,
                         size_t *ret_size, size_t *ret_state_size);

/** net_shape() - as given to net_new(). Borrowed. For tests. */
const struct net_shape *net_shape(const struct net *net);

/* ---- its tensors ---- */

enum net_kind {
    NET_MATRIX,    /* of a layer: goes through the quantizer of the weight mode */
    NET_EMBEDDING, /* and the head, which is tied to it */
    NET_NORM,      /* a vector */
    NET_DEVIATION, /* a vector of the state; see net_state() */
};

struct net_tensor {
    const char *name; /* as the GGUF file names it; borrowed from the net */
    uint32_t rows,
        cols;  /* outputs and inputs; the columns of a row lie side by side. Vectors: 1 row */
    size_t at; /* where it begins in the flat array, in numbers */
    enum net_kind kind;
    bool decay; /* weight decay is meant for it: matrices and the embedding */
};

/** net_count(), net_tensor() - the parameters' tensors; together they cover the array, without
 * gaps. Borrowed from the net. */
size_t net_count(const struct net *net);
const struct net_tensor *net_tensor(const struct net *net, size_t i);
/** net_find() - the tensor of this name, a parameter's or a state's; NULL: there is none. For
 * tests. */
const struct net_tensor *net_find(const struct net *net, const char *name);

/** net_params() - all parameters, (net_size()); borrowed, and the caller may write to them between
 * calls: an optimizer, a checkpoint, a warm start from float weights */
net_real *net_params(struct net *net);
size_t net_size(const struct net *net);

/**
 * net_state() - what training moves but no gradient does, (net_state_size())
 *
 * With binary activations, the moving standard deviation of each channel of the four inputs of a
 * layer's matrices, started at 1: d = 0.99 d + 0.01 (deviation in the batch + 1e-8), moved by
 * net_step() after it has used it. The tensors are named as the file's thresholds are
 * (blk.N.attn_norm.threshold), which are NET_THRESHOLD * d. In other modes there is none. To be
 * saved with a checkpoint, and never optimized. Borrowed, may be written to.
 */
#define NET_THRESHOLD 0.5f
net_real *net_state(struct net *net);
size_t net_state_size(const struct net *net);
size_t net_state_count(const struct net *net);
const struct net_tensor *net_state_tensor(const struct net *net, size_t i);

/**
 * net_exported() - a tensor of the parameters as the forward pass sees it, without randomness
 * @ret: room for rows * cols
 *
 * Matrices are s * -1, 0, 1 and the embedding d * code, so that engine's encoders of the exported
 * type (NUMERICS.md, Encoding) give back the same numbers. Writing NaN for NaN.
 */
void net_exported(const struct net *net, size_t i, net_real *ret);

/* ---- a pass ---- */

/* Sequences of any lengths, one behind the other without padding; each begins at position 0 and
 * sees itself alone. Borrowed for the call. */
struct net_batch {
    size_t n_rows;
    const uint32_t
        *begin; /* (n_rows + 1): row r has tokens begin[r] to begin[r + 1]; begin[0] = 0 */
    const int32_t *tokens; /* (begin[n_rows]), below n_vocab */
    /* (begin[n_rows]), >= 0: how much it counts that token i is foretold by those before it in its
     * row. A row's first token is foretold by nothing; its number is ignored. The head runs only
     * where a number is not 0. */
    const float *mask;
    float scale;   /* gradients are those of scale * (sum of mask * cross-entropy) */
    uint64_t step; /* with the seed, decides the stochastic rounding: one number for all batches
                    * whose gradients are added up */
};

struct net_loss {
    double sum;      /* of mask * cross-entropy, nats */
    double weight;   /* of mask */
    uint64_t n;      /* tokens that counted */
    uint64_t n_best; /* of them, those that had the largest logit */
};

/**
 * net_step() - loss and gradients of a batch
 * @grads: (net_size()), added to
 *
 * Memory is taken when a batch is larger than every one before, and kept.
 * Return: 0; -EINVAL for a token or length outside the shape (nothing is touched); -ENOMEM.
 */
MUST_USE int net_step(struct net *net, const struct net_batch *batch, net_real *grads,
                      struct net_loss *ret);

/** net_loss() - the loss alone: no randomness, and nothing of the net moves. Returns as
 * net_step(). */
MUST_USE int net_loss(struct net *net, const struct net_batch *batch, struct net_loss *ret);

/** net_logits() - (n, n_vocab) logits of one sequence, as net_loss() sees them. Returns as
 * net_step(). For tests, which hold them to the engine's and to finite differences. */
MUST_USE int net_logits(struct net *net, const int32_t *tokens, size_t n, net_real *ret);

#endif
