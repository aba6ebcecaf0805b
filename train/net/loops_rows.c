/* Norms, rope, the feed-forward's gate: row by row, forward and back. */
#include "train/net/loops_impl.h"
#include "train/net/vec.h"

static void add(net_real *x, const net_real *y, size_t n)
{
    for (size_t i = 0; i < n; i += LANES) {
        vec_store(x + i, vec_load(x + i) + vec_load(y + i));
    }
}

/* 1 / sqrt(mean x^2 + eps), the sum in four interleaved parts. */
static net_real inverse_rms(const net_real *x, size_t n, net_real eps)
{
    vec part[4] = {vec_set(0), vec_set(0), vec_set(0), vec_set(0)};

    for (size_t i = 0; i < n; i += LANES) {
        const vec v = vec_load(x + i);
        part[i / LANES % 4] += v * v;
    }
    const net_real sum = vec_sum((part[0] + part[1]) + (part[2] + part[3]));
#ifdef NET_DOUBLE
    return 1.0 / sqrt(sum / (net_real)n + eps);
#else
    return 1.0f / sqrtf(sum / (float)n + eps);
#endif
}

static void norm(const net_real *x, const net_real *w, size_t n, net_real eps, net_real *h)
{
    const vec r = vec_set(inverse_rms(x, n, eps));

    for (size_t i = 0; i < n; i += LANES) {
        vec_store(h + i, vec_load(x + i) * r * vec_load(w + i));
    }
}

/* With u = x r the normed row: dw = dh u; dx = r (dh w - u mean(dh w u)). */
static net_real norm_mean(const net_real *x, const net_real *w, const net_real *dh, size_t n,
                          net_real r, net_real *dw)
{
    vec sum = vec_set(0);

    for (size_t i = 0; i < n; i += LANES) {
        const vec du = vec_load(dh + i) * (vec_load(x + i) * vec_set(r));
        vec_store(dw + i, vec_load(dw + i) + du);
        sum += du * vec_load(w + i);
    }
    return vec_sum(sum) / (net_real)n;
}

static void norm_back(const net_real *x, const net_real *w, const net_real *dh, size_t n,
                      net_real eps, net_real *dx, net_real *dw)
{
    const net_real r = inverse_rms(x, n, eps);
    const net_real mean = norm_mean(x, w, dh, n, r, dw);

    for (size_t i = 0; i < n; i += LANES) {
        const vec u = vec_load(x + i) * vec_set(r);
        const vec d = vec_load(dh + i) * vec_load(w + i) - u * vec_set(mean);
        vec_store(dx + i, vec_load(dx + i) + d * vec_set(r));
    }
}

static void head(const net_real *x, const net_real *w, struct loops_turn turn, size_t n,
                 net_real eps, net_real *y)
{
    const vec r = vec_set(inverse_rms(x, n, eps));
    const size_t half = n / 2;

    for (size_t i = 0; i < half; i += LANES) {
        const vec a = vec_load(x + i) * r * vec_load(w + i);
        const vec b = vec_load(x + half + i) * r * vec_load(w + half + i);
        const vec c = vec_load(turn.cos + i), s = vec_load(turn.sin + i);
        vec_store(y + i, a * c - b * s);
        vec_store(y + half + i, a * s + b * c);
    }
}

static void head_back(const net_real *x, const net_real *w, struct loops_turn turn, size_t n,
                      net_real eps, net_real *g, net_real *dw)
{
    const net_real r = inverse_rms(x, n, eps);
    const size_t half = n / 2;

    for (size_t i = 0; i < half; i += LANES) { /* turned back */
        const vec a = vec_load(g + i), b = vec_load(g + half + i);
        const vec c = vec_load(turn.cos + i), s = vec_load(turn.sin + i);
        vec_store(g + i, a * c + b * s);
        vec_store(g + half + i, b * c - a * s);
    }
    const net_real mean = norm_mean(x, w, g, n, r, dw);
    for (size_t i = 0; i < n; i += LANES) {
        const vec u = vec_load(x + i) * vec_set(r);
        const vec d = vec_load(g + i) * vec_load(w + i) - u * vec_set(mean);
        vec_store(g + i, d * vec_set(r));
    }
}

static void silu(const net_real *gate, const net_real *up, size_t n, net_real *y)
{
    const vec one = vec_set(1);

    for (size_t i = 0; i < n; i += LANES) {
        const vec g = vec_load(gate + i);
        vec_store(y + i, g / (one + vec_exp(-g)) * vec_load(up + i));
    }
}

/* With s = 1 / (1 + e^-g): (g s)' = s + g s (1 - s). */
static void silu_back(const net_real *gate, const net_real *up, const net_real *dy, size_t n,
                      net_real *dgate, net_real *dup)
{
    const vec one = vec_set(1);

    for (size_t i = 0; i < n; i += LANES) {
        const vec g = vec_load(gate + i), d = vec_load(dy + i);
        const vec s = one / (one + vec_exp(-g)), act = g * s;
        const vec u = vec_load(up + i);
        vec_store(dgate + i, d * u * (s + act * (one - s)));
        vec_store(dup + i, d * act);
    }
}

static void stats(const net_real *x, size_t n, net_real *sum, net_real *squares)
{
    for (size_t i = 0; i < n; i += LANES) {
        const vec v = vec_load(x + i);
        vec_store(sum + i, vec_load(sum + i) + v);
        vec_store(squares + i, vec_load(squares + i) + v * v);
    }
}

void LOOPS_NAME(loops_rows)(struct loops *l)
{
    l->add = add;
    l->norm = norm;
    l->norm_back = norm_back;
    l->head = head;
    l->head_back = head_back;
    l->silu = silu;
    l->silu_back = silu_back;
    l->stats = stats;
}
