/* The loops over rows of numbers, compiled for each width of registers from one source: no fused
 * operations and sums in a written order, so that every width gives the same bits. Lengths are
 * multiples of LANES (16) unless said otherwise; arrays begin anywhere and do not overlap unless
 * the same. */
#ifndef TRAIN_NET_LOOPS_H
#define TRAIN_NET_LOOPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "train/net/net.h"

#define LANES 16u

/* A head's row of cosines or sines: half as many numbers as the head. */
struct loops_turn {
    const net_real *cos, *sin;
};

struct loops {
    void (*add)(net_real *x, const net_real *y, size_t n); /* x += y */

    /* h = x * w / sqrt(mean x^2 + eps): Root Mean Square Layer Normalization, arXiv 1910.07467 */
    void (*norm)(const net_real *x, const net_real *w, size_t n, net_real eps, net_real *h);
    /* dx += and dw += what dh gives */
    void (*norm_back)(const net_real *x, const net_real *w, const net_real *dh, size_t n,
                      net_real eps, net_real *dx, net_real *dw);

    /* One head of q or k: norm, then rope of its halves (arXiv 2104.09864); n a multiple of 32 */
    void (*head)(const net_real *x, const net_real *w, struct loops_turn turn, size_t n,
                 net_real eps, net_real *y);
    /* g: dy, replaced by dx; dw += */
    void (*head_back)(const net_real *x, const net_real *w, struct loops_turn turn, size_t n,
                      net_real eps, net_real *g, net_real *dw);

    /* y = gate / (1 + exp(-gate)) * up: arXiv 2002.05202 */
    void (*silu)(const net_real *gate, const net_real *up, size_t n, net_real *y);
    void (*silu_back)(const net_real *gate, const net_real *up, const net_real *dy, size_t n,
                      net_real *dgate, net_real *dup);

    /* s[j] = exp(scale * s[j] - max) / sum for j < n_valid, 0 from there to n */
    void (*softmax)(net_real *s, size_t n_valid, size_t n, net_real scale);
    /* dp = scale * p * (dp - sum p dp) */
    void (*softmax_back)(const net_real *p, net_real *dp, size_t n, net_real scale);

    /* Cross-entropy of a row of n logits, which is replaced by factor * its gradient; what lies
     * from n to the next multiple of LANES is overwritten. */
    double (*cross_entropy)(net_real *logits, size_t n, size_t target, net_real factor,
                            bool *ret_best);

    /* sum += x, squares += x^2 */
    void (*stats)(const net_real *x, size_t n, net_real *sum, net_real *squares);

    /* ---- quantizers; y may be x ---- */

    /* int8 in blocks of 32 or 256, the last one may be shorter: y = d * q */
    void (*int8)(const net_real *x, size_t n, size_t block, net_real *y);
    void (*int8_token)(const net_real *x, size_t n, net_real *y); /* one scale: y = q / r */
    void (*sign)(const net_real *x, const net_real *t, size_t n, net_real *y);
    /* g becomes 0 where |x - t| > 1; t may be NULL: 0 */
    void (*ste_hard)(const net_real *x, const net_real *t, size_t n, net_real *g);
    void (*ste_clip)(size_t n, net_real *g); /* 0 where |g| > 1 */
    /* times k (1 - tanh^2(k (x - t))) */
    void (*ste_smooth)(const net_real *x, const net_real *t, size_t n, net_real k, net_real *g);

    net_real (*abs_sum)(const net_real *w, size_t n);
    /* key 0: nearest; else the seed of the roundings, and `at` the first weight's number in it */
    void (*ternary)(const net_real *w, size_t n, net_real s, uint32_t key, size_t at, net_real *y);
    void (*binary)(const net_real *w, size_t n, net_real s, uint32_t key, size_t at, net_real *y);
    void (*embedding)(const net_real *w, size_t n, net_real *y); /* Q8_0; n a multiple of 32 */
    /* The staircase's slope for ternary weights, tanh's for binary ones, of w / s. */
    void (*ste_ternary)(const net_real *w, size_t n, net_real s, net_real k, net_real *g);
    void (*ste_binary)(const net_real *w, size_t n, net_real s, net_real k, net_real *g);
};

#define LOOPS_LEVELS 3u /* any CPU, x86-64-v3, x86-64-v4 */

/** loops_at() - those of a level; NULL: this CPU or this build has it not. Static. */
const struct loops *loops_at(unsigned level);
/** loops_pick() - those of the highest level here; static */
const struct loops *loops_pick(void);

/** loops_f16() - x rounded to an f16 and widened again */
float loops_f16(float x);

#endif
