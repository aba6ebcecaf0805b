/* Softmax, of scores and of logits. */
#include "train/net/loops_impl.h"
#include "train/net/vec.h"

#ifdef NET_DOUBLE
#define LOWEST (-0x1p1000)
#else
#define LOWEST (-0x1p126f) /* e^ of it is 0, and differences of two are finite */
#endif

static size_t round_up(size_t n)
{
    return (n + LANES - 1) / LANES * LANES;
}

/* x[n..] up to the next multiple of LANES becomes LOWEST. */
static void pad(net_real *x, size_t n)
{
    for (size_t i = n; i < round_up(n); i++) {
        x[i] = LOWEST;
    }
}

static net_real largest(const net_real *x, size_t n)
{
    vec top = vec_set(LOWEST);

    for (size_t i = 0; i < n; i += LANES) {
        top = vec_max(top, vec_load(x + i));
    }
    return vec_top(top);
}

/* x = exp(scale * x - top): returns the sum. */
static net_real exponents(net_real *x, size_t n, net_real scale, net_real top)
{
    vec sum = vec_set(0);

    for (size_t i = 0; i < n; i += LANES) {
        const vec e = vec_exp(vec_load(x + i) * vec_set(scale) - vec_set(top));
        vec_store(x + i, e);
        sum += e;
    }
    return vec_sum(sum);
}

static void softmax(net_real *s, size_t n_valid, size_t n, net_real scale)
{
    const size_t end = round_up(n_valid);

    pad(s, n_valid);
    const net_real sum = exponents(s, end, scale, largest(s, end) * scale);
    const vec inverse = vec_set(1 / sum);
    for (size_t i = 0; i < end; i += LANES) {
        vec_store(s + i, vec_load(s + i) * inverse);
    }
    for (size_t i = end; i < n; i += LANES) {
        vec_store(s + i, vec_set(0));
    }
}

static void softmax_back(const net_real *p, net_real *dp, size_t n, net_real scale)
{
    vec sum = vec_set(0);

    for (size_t i = 0; i < n; i += LANES) {
        sum += vec_load(p + i) * vec_load(dp + i);
    }
    const vec mean = vec_set(vec_sum(sum)), by = vec_set(scale);
    for (size_t i = 0; i < n; i += LANES) {
        vec_store(dp + i, by * vec_load(p + i) * (vec_load(dp + i) - mean));
    }
}

static double cross_entropy(net_real *logits, size_t n, size_t target, net_real factor,
                            bool *ret_best)
{
    const size_t end = round_up(n);

    pad(logits, n);
    const net_real own = logits[target], top = largest(logits, end);
    const net_real sum = exponents(logits, end, 1, top);
    const vec by = vec_set(factor / sum);
    for (size_t i = 0; i < end; i += LANES) {
        vec_store(logits + i, vec_load(logits + i) * by);
    }
    logits[target] -= factor;
    *ret_best = own >= top;
    return log((double)sum) + ((double)top - (double)own);
}

void LOOPS_NAME(loops_soft)(struct loops *l)
{
    l->softmax = softmax;
    l->softmax_back = softmax_back;
    l->cross_entropy = cross_entropy;
}
