/* The parts of a forward pass that know no model: rotation, attention, activations. In double. */
#ifndef TESTS_UNIT_ENGINE_REFERENCE_MATH_H
#define TESTS_UNIT_ENGINE_REFERENCE_MATH_H

#include <stdbool.h>
#include <stddef.h>

/** ref_zeros() - n of them, which the caller frees; never fails */
double *ref_zeros(size_t n);

/** ref_rms_norm() - x / sqrt(mean(x^2) + eps) * w (arXiv 1910.07467), for n_runs runs of n */
void ref_rms_norm(double *x, const double *w, size_t n, size_t n_runs, double eps);

/* How positions turn vectors: pair i of a head by position * frequency[i], and longer by
 * magnitude. */
struct rotation {
    size_t n_rot;      /* dimensions that turn; the others stay */
    bool neighbours;   /* pairs are 2i and 2i + 1; else i and i + n_rot / 2 */
    double *frequency; /* owned: (n_rot / 2) radians per position */
    double magnitude;
};

struct yarn {
    double factor, extrapolation, fast, slow; /* fast, slow: turns within the old context */
    double n_ctx_old;
};

/** ref_rotation_init() - the plain frequencies, base^(-2i / n_rot) (arXiv 2104.09864) */
void ref_rotation_init(struct rotation *r, size_t n_rot, bool neighbours, double base);

/** ref_rotation_divide() - by a number per pair */
void ref_rotation_divide(struct rotation *r, const double *by);

/** ref_rotation_yarn() - YaRN (arXiv 2309.00071): pairs that turn fast stay, slow ones are
 * interpolated, those between are mixed, and vectors grow by 0.1 ln(factor) + 1, the root of the
 * paper's 1 / t */
void ref_rotation_yarn(struct rotation *r, double base, const struct yarn *y);

/** ref_rotate() - n_tokens rows of n_head vectors of head_dim, the first at position 0 */
void ref_rotate(const struct rotation *r, double *x, size_t n_tokens, size_t n_head,
                size_t head_dim);

/** ref_attend() - softmax(q k / sqrt(head_dim)) v over n positions
 * @k, @v: of one head; `stride` from one position to the next
 * @ret: (head_dim) written */
void ref_attend(const double *q, const double *k, const double *v, size_t stride, size_t n,
                size_t head_dim, double *ret);

/** ref_int8_blocks() - x as int8, amax / 127 being the scale of each n_block of n values
 * Return: the smallest distance from a tie, 0.5 at most */
double ref_int8_blocks(double *x, size_t n, size_t n_block);

/** ref_signs() - x as +1 where it is at least its threshold, and -1 elsewhere
 * Return: the smallest distance from a threshold, in root mean squares of x */
double ref_signs(double *x, const double *threshold, size_t n);

/** ref_int8_token() - x as int8 with one scale for all, max(amax, 1e-5) / 127: the BitLinear of
 * arXiv 2402.17764 */
double ref_int8_token(double *x, size_t n);

#endif
