/* The net inside: what its files share. */
#ifndef TRAIN_NET_IMPL_H
#define TRAIN_NET_IMPL_H

#include "train/net/loops.h"
#include "train/net/net.h"
#include "train/net/team.h"

#define GROUP 128u        /* columns that share a scale of binary weights, as in Q1_0 */
#define HEAD_BLOCK 32u    /* columns that share a scale of the head's int8 input, as with Q8_0 */
#define HEAD_ROWS 256u    /* tokens whose logits are in memory at once */
#define QUERY_ROWS 64u    /* queries whose scores are */
#define CHUNK_TOKENS 512u /* whole sequences of so many are computed at once, or one longer */

/* The four distinct inputs of a layer's matrices. */
enum input { IN_QKV, IN_O, IN_GATE_UP, IN_DOWN, INPUTS };

/* A layer's tensors, by their number in net->tensors. They lie in this order, so q, k, v are one
 * matrix of (n_q + 2 n_kv) rows, and gate, up one of 2 n_ff. */
enum part {
    ATTN_NORM,
    ATTN_Q,
    ATTN_K,
    ATTN_V,
    ATTN_Q_NORM,
    ATTN_K_NORM,
    ATTN_OUTPUT,
    FFN_NORM,
    FFN_GATE,
    FFN_UP,
    FFN_DOWN,
    PARTS
};

/* Widths that follow from the shape. */
struct widths {
    size_t embd, ff, q, kv, qkv, head, half; /* qkv: q + 2 kv; half: of a head */
    size_t logits;                           /* n_vocab, padded to whole vectors */
};

/* What a layer leaves for its backward pass, each (tokens, width); without one all layers use the
 * same. */
struct layer_acts {
    net_real *x;     /* embd: the layer's input */
    net_real *h;     /* embd: normed and quantized, of q, k, v */
    net_real *qkv;   /* qkv: the products */
    net_real *qk;    /* q + kv: queries and keys, normed and turned */
    net_real *att;   /* q: the attention's result */
    net_real *att_b; /* q: the same, quantized; may be att itself */
    net_real *mid;   /* embd: x and the attention's half */
    net_real *h2;    /* embd: normed and quantized, of gate and up */
    net_real *gu;    /* 2 ff: the products */
    net_real *act;   /* ff: quantized, of down */
};

/* A token whose logits are wanted. */
struct wanted {
    uint32_t from; /* token of the chunk that foretells */
    int32_t target;
    float mask;
};

/* What a thread has of its own. */
struct work {
    net_real *memory;         /* owned; all below but grads and the sums lie in it */
    size_t tokens, longest;   /* there is room for */
    bool keeps;               /* there is room for a backward pass */
    struct layer_acts *acts;  /* owned; (n_layer + 1); of the last one x alone */
    net_real *dx;             /* (tokens, embd) */
    net_real *d1, *d2;        /* (tokens, max(2 ff, qkv)), (tokens, max(ff, q, embd)) */
    net_real *scores, *slope; /* (QUERY_ROWS, longest in whole vectors) */
    net_real *hs;             /* (HEAD_ROWS, embd): the head's input */
    net_real *logits;         /* (HEAD_ROWS, logits) */
    net_real *row;            /* the widest input */
    net_real *sum, *squares;  /* (state_size): of a chunk */
    uint32_t *pos;            /* (tokens) */
    struct wanted *wanted;    /* (tokens) */

    net_real *grads;                   /* owned; (size): all 0 between steps; NULL until needed */
    double *state_sum, *state_squares; /* owned; (state_size): of a batch */
    struct net_loss loss;
};

struct tape;

struct net {
    struct net_shape shape;
    struct net_modes modes;
    struct widths widths;
    const struct loops *loops; /* static */
    struct team *team;         /* owned */
    uint64_t seed;

    struct net_tensor *tensors; /* owned; (n_tensors) */
    size_t n_tensors;
    struct net_tensor *states; /* owned; (n_layer * INPUTS) or none */
    size_t n_states;
    char (*names)[40]; /* owned; theirs */
    net_real *params;  /* owned; (size) */
    size_t size;
    net_real *seen;       /* owned; (size): what the quantizers make of params; NULL: nothing */
    net_real *scales;     /* owned; of tensor i from scale_at[i] */
    size_t *scale_at;     /* owned; (n_tensors) */
    double *row_sums;     /* owned; sums of magnitudes, of tensor i's rows from row_at[i] */
    size_t *row_at;       /* owned; (n_tensors) */
    net_real *state;      /* owned; (state_size) */
    net_real *thresholds; /* owned; (state_size): NET_THRESHOLD * state, of this step */
    size_t state_size;
    net_real *cos, *sin; /* owned; (n_ctx, half) */

    struct work *works; /* owned; one a thread */
    struct tape *tape;  /* owned; for gradient checks: NULL */
};

/* A few whole sequences, and who computes them. */
struct chunk {
    const struct net *net;
    const struct net_batch *batch; /* mask may be NULL: every token's logits, into `logits` */
    struct work *work;
    size_t row, n_rows; /* of the batch */
    size_t n;           /* tokens */
    bool back;          /* a backward pass follows */
    net_real *logits;   /* (tokens of the batch, n_vocab) or NULL */
};

static inline const struct net_tensor *net_part(const struct net *net, uint32_t layer,
                                                enum part part)
{
    return &net->tensors[1 + (size_t)layer * PARTS + part];
}

/* The numbers that the forward pass uses of a tensor. */
static inline const net_real *net_seen(const struct net *net, const struct net_tensor *t)
{
    const bool quantized = (t->kind == NET_MATRIX && net->modes.weights != NET_W_FLOAT) ||
                           (t->kind == NET_EMBEDDING && net->modes.head == NET_H_INT8);

    return (quantized ? net->seen : net->params) + t->at;
}

/* ---- weights.c ---- */

/** weights_see() - quantize all parameters. @key: 0, or of the stochastic rounding */
void weights_see(struct net *net, uint32_t key);
/** weights_gather() - grads += the threads' gradients, back through the quantizers; theirs become
 * 0 */
void weights_gather(struct net *net, net_real *grads);

/* ---- inputs.c ---- */

size_t input_width(const struct net *net, enum input in);
/** input_quantize() - row `at` of the chunk, from x to y, which may be x */
void input_quantize(const struct chunk *c, uint32_t layer, enum input in, size_t at,
                    const net_real *x, net_real *y);
/** input_back() - the gradient of y becomes that of x */
void input_back(const struct chunk *c, uint32_t layer, enum input in, const net_real *x,
                net_real *g);
/** input_wants_x() - does input_back() read x at all? */
bool input_wants_x(const struct net *net);
/** inputs_move() - the moving deviations, after all threads' chunks */
void inputs_move(struct net *net, size_t n_tokens);

/* ---- attention.c, layers.c, back.c, head.c ---- */

void attention(const struct chunk *c, const struct layer_acts *a);
/** attention_back() - from dy (tokens, q) to d (tokens, qkv): of turned queries and keys, and
 * values */
void attention_back(const struct chunk *c, const struct layer_acts *a, const net_real *dy,
                    net_real *d);
void layers_forward(const struct chunk *c);
void layers_back(const struct chunk *c);
/** head_run() - loss, and with c->back the gradients down to work->dx; or logits */
void head_run(const struct chunk *c);

/* ---- work.c ---- */

/** work_room() - room for chunks of so many tokens; 0 or -ENOMEM */
MUST_USE int work_room(const struct net *net, struct work *w, size_t tokens, size_t longest,
                       bool keeps);
MUST_USE int work_grads(const struct net *net, struct work *w);
void work_deinit(struct work *w);

#endif
