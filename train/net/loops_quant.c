/* Quantizers as engine/NUMERICS.md has them, and the ways gradients take through them. Every
 * operation is rounded by itself, as there. */
#include "train/net/loops_impl.h"
#include "train/net/vec.h"

#define TINY ((net_real)0x1p-100)    /* a block without a larger number is all 0 */
#define TOKEN_TINY ((net_real)1e-5f) /* the least absmax of a token */

/* The largest magnitude; NaN if some number is not finite. */
static net_real absmax(const net_real *x, size_t n)
{
    vec top = vec_set(0), odd = vec_set(0);

    for (size_t i = 0; i < n; i += LANES) {
        const vec v = vec_load(x + i);
        top = vec_max(top, vec_abs(v));
        odd += v * vec_set(0);
    }
    return vec_top(top) + vec_sum(odd);
}

static void int8_block(const net_real *x, size_t n, net_real *y)
{
    const net_real amax = absmax(x, n);
    const bool none = amax < TINY;
    const vec r = vec_set(none ? 0 : 127 / amax), d = vec_set(none ? 0 : amax / 127);
    const vec most = vec_set(127), least = vec_set(-127);

    for (size_t i = 0; i < n; i += LANES) {
        const vec q = vec_round(vec_load(x + i) * r);
        vec_store(y + i, vec_min(vec_max(q, least), most) * d);
    }
}

static void int8(const net_real *x, size_t n, size_t block, net_real *y)
{
    for (size_t i = 0; i < n; i += block) {
        int8_block(x + i, n - i < block ? n - i : block, y + i);
    }
}

static void int8_token(const net_real *x, size_t n, net_real *y)
{
    const net_real amax = absmax(x, n);
    const vec r = vec_set(127 / (amax < TOKEN_TINY ? TOKEN_TINY : amax));
    const vec most = vec_set(127), least = vec_set(-127);

    for (size_t i = 0; i < n; i += LANES) {
        const vec q = vec_round(vec_load(x + i) * r);
        vec_store(y + i, vec_min(vec_max(q, least), most) / r);
    }
}

static void sign(const net_real *x, const net_real *t, size_t n, net_real *y)
{
    for (size_t i = 0; i < n; i += LANES) {
        const vec v = vec_load(x + i) - vec_load(t + i);
        const vec b = vec_pick(v >= vec_set(0), vec_set(1), vec_set(-1));
        vec_store(y + i, vec_pick(v == v, b, v)); /* a NaN stays one */
    }
}

/* ---- gradients ---- */

/* x - t, or x where there is no t. */
static vec over(const net_real *x, const net_real *t, size_t i)
{
    return t ? vec_load(x + i) - vec_load(t + i) : vec_load(x + i);
}

static void ste_hard(const net_real *x, const net_real *t, size_t n, net_real *g)
{
    for (size_t i = 0; i < n; i += LANES) {
        const vec v = over(x, t, i);
        vec_store(g + i, vec_pick(vec_abs(v) > vec_set(1), vec_set(0), vec_load(g + i)));
    }
}

static void ste_clip(size_t n, net_real *g)
{
    for (size_t i = 0; i < n; i += LANES) {
        const vec v = vec_load(g + i);
        vec_store(g + i, vec_pick(vec_abs(v) > vec_set(1), vec_set(0), v));
    }
}

/* 1 - tanh^2(x) = 4 e / (1 + e)^2, e = exp(-2 |x|) */
static vec tanh_slope(vec x)
{
    const vec e = vec_exp(vec_abs(x) * vec_set(-2)), sum = vec_set(1) + e;

    return vec_set(4) * e / (sum * sum);
}

static void ste_smooth(const net_real *x, const net_real *t, size_t n, net_real k, net_real *g)
{
    const vec by = vec_set(k);

    for (size_t i = 0; i < n; i += LANES) {
        const vec v = over(x, t, i);
        vec_store(g + i, vec_load(g + i) * (by * tanh_slope(by * v)));
    }
}

/* Of s * tanh(k w / s). */
static void ste_binary(const net_real *w, size_t n, net_real s, net_real k, net_real *g)
{
    const vec by = vec_set(k), inverse = vec_set(s > 0 ? 1 / s : 0);

    for (size_t i = 0; i < n; i += LANES) {
        const vec u = vec_load(w + i) * inverse;
        vec_store(g + i, vec_load(g + i) * (by * tanh_slope(by * u)));
    }
}

/* Of s / 2 * (tanh(2k (u - 1/2)) + tanh(2k (u + 1/2))), u = w / s. */
static void ste_ternary(const net_real *w, size_t n, net_real s, net_real k, net_real *g)
{
    const vec by = vec_set(2 * k), inverse = vec_set(s > 0 ? 1 / s : 0), half = vec_set(0.5f);

    for (size_t i = 0; i < n; i += LANES) {
        const vec u = vec_load(w + i) * inverse;
        const vec slope = tanh_slope(by * (u - half)) + tanh_slope(by * (u + half));
        vec_store(g + i, vec_load(g + i) * (vec_set(k) * slope));
    }
}

/* ---- weights ---- */

static net_real abs_sum(const net_real *w, size_t n)
{
    vec sum = vec_set(0);

    for (size_t i = 0; i < n; i += LANES) {
        sum += vec_abs(vec_load(w + i));
    }
    return vec_sum(sum);
}

/* Sixteen numbers in [0, 1): a hash of the key and of the weight's number (the finalizer of
 * MurmurHash3, which is in the public domain, twice). */
static vec chance(uint32_t key, size_t at)
{
    vec u;

    for (unsigned j = 0; j < LANES; j++) {
        uint32_t h = key;
        for (unsigned round = 0; round < 2; round++) {
            h ^= (uint32_t)((at + j) >> (round * 32)) * 0x9e3779b1u;
            h = (h ^ (h >> 16)) * 0x85ebca6bu;
            h = (h ^ (h >> 13)) * 0xc2b2ae35u;
            h ^= h >> 16;
        }
        u[j] = (net_real)(h >> 8) * (net_real)0x1p-24;
    }
    return u;
}

static void ternary(const net_real *w, size_t n, net_real s, uint32_t key, size_t at, net_real *y)
{
    const vec inverse = vec_set(1 / s), one = vec_set(1), half = vec_set(0.5f);

    for (size_t i = 0; i < n; i += LANES) {
        const vec v = vec_min(vec_max(vec_load(w + i) * inverse, -one), one);
        vec q = vec_round(v);
        if (key) { /* floor(v + u), by rounding v + u - 1/2 */
            q = vec_min(vec_max(vec_round(v + (chance(key, at + i) - half)), -one), one);
        }
        vec_store(y + i, q * vec_set(s));
    }
}

static void binary(const net_real *w, size_t n, net_real s, uint32_t key, size_t at, net_real *y)
{
    const vec inverse = vec_set(s > 0 ? 1 / s : 0), plus = vec_set(s), minus = vec_set(-s);

    for (size_t i = 0; i < n; i += LANES) {
        vec v = vec_load(w + i);
        if (key) { /* +1 with probability (w / s + 1) / 2 */
            v = (v * inverse + vec_set(1)) - vec_set(2) * chance(key, at + i);
        }
        vec_store(y + i, vec_pick(v >= vec_set(0), plus, minus));
    }
}

static void embedding(const net_real *w, size_t n, net_real *y)
{
    for (size_t b = 0; b < n; b += 32) {
        const net_real d = absmax(w + b, 32) / 127;
        const vec inverse = vec_set(d > 0 ? 1 / d : d), scale = vec_set(loops_f16((float)d));
        for (size_t i = b; i < b + 32; i += LANES) {
            const vec q = vec_round(vec_load(w + i) * inverse);
            vec_store(y + i, vec_min(vec_max(q, vec_set(-127)), vec_set(127)) * scale);
        }
    }
}

void LOOPS_NAME(loops_quant)(struct loops *l)
{
    l->int8 = int8;
    l->int8_token = int8_token;
    l->sign = sign;
    l->ste_hard = ste_hard;
    l->ste_clip = ste_clip;
    l->ste_smooth = ste_smooth;
    l->ste_binary = ste_binary;
    l->ste_ternary = ste_ternary;
    l->abs_sum = abs_sum;
    l->ternary = ternary;
    l->binary = binary;
    l->embedding = embedding;
}
