/* What quantizers make of parameters and inputs: what a file will say. */
#include "tests/support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/train/small.h"
#include "train/net/impl.h"

static const struct net_tensor *part_of(const struct net *net, const char *name, size_t *ret_i)
{
    for (*ret_i = 0; *ret_i < net_count(net); ++*ret_i) {
        if (strcmp(net_tensor(net, *ret_i)->name, name) == 0) {
            return net_tensor(net, *ret_i);
        }
    }
    fail_msg("no %s", name);
    return NULL;
}

/* Goal: binary weights are what Q1_0 says: the sign, zero's being plus, times the mean magnitude of
 * 128 as an f16. */
static void binary_weights_are_those_of_q1_0(void **state)
{
    const struct net_modes modes = {.weights = NET_W_BINARY};
    const struct net_shape shape = small_shape(&modes);
    struct net *net = small_net(&shape, &modes, 1);
    size_t i;
    const struct net_tensor *t = part_of(net, "blk.1.ffn_gate.weight", &i);
    float *w = net_params(net) + t->at, *y = small_zeros(net);
    (void)state;

    w[0] = 0;
    w[1] = -0.0f;
    net_exported(net, i, y);
    for (size_t g = 0; g < (size_t)t->rows * t->cols; g += 128) {
        double mean = 0;
        for (size_t j = g; j < g + 128; j++) {
            mean += fabs((double)w[j]) / 128;
        }
        assert_true(fabs((double)fabsf(y[g]) - mean) < mean * 0x1p-10);
        assert_true(loops_f16(y[g]) == y[g]);
        for (size_t j = g; j < g + 128; j++) {
            assert_true(y[j] == (w[j] >= 0 ? fabsf(y[g]) : -fabsf(y[g])));
        }
    }
    free(y);
    net_free(net);
}

/* Goal: ternary weights are those of BitNet b1.58, one scale a tensor; an f16 where the file has
 * f16s. */
static void ternary_weights_are_those_of_bitnet(void **state)
{
    (void)state;
    for (uint32_t block = 0; block <= 32; block += 32) {
        const struct net_modes modes = {
            .weights = NET_W_TERNARY, .activations = NET_A_INT8, .block = block};
        const struct net_shape shape = small_shape(&modes);
        struct net *net = small_net(&shape, &modes, 1);
        size_t i, n_zero = 0;
        const struct net_tensor *t = part_of(net, "blk.0.attn_q.weight", &i);
        const size_t n = (size_t)t->rows * t->cols;
        const float *w = net_params(net) + t->at;
        float *y = small_zeros(net), s = 0;
        double mean = 0;

        net_exported(net, i, y);
        for (size_t j = 0; j < n; j++) {
            mean += fabs((double)w[j]) / (double)n;
            s = fmaxf(s, y[j]);
        }
        assert_true(fabs((double)s - mean) < mean * (block ? 0x1p-10 : 1e-6));
        assert_int_equal(loops_f16(s) == s, block != 0);
        for (size_t j = 0; j < n; j++) {
            const float u = fabsf(w[j]) / s;
            assert_true(y[j] == 0 || y[j] == s || y[j] == -s);
            assert_true(fabsf(u - 0.5f) < 1e-5f || (y[j] == 0) == (u < 0.5f));
            assert_true(y[j] * w[j] >= 0);
            n_zero += y[j] == 0;
        }
        assert_true(n_zero > n / 8 && n_zero < n / 2);
        free(y);
        net_free(net);
    }
}

/* Goal: the embedding is what Q8_0 stores, and storing it again changes nothing. */
static void the_embedding_is_that_of_q8_0(void **state)
{
    const struct net_modes modes = {.weights = NET_W_BINARY, .activations = NET_A_INT8};
    const struct net_shape shape = small_shape(&modes);
    struct net *net = small_net(&shape, &modes, 1);
    float *y = small_zeros(net), *again = small_zeros(net);
    const struct net_tensor *t = net_tensor(net, 0);
    const size_t n = (size_t)t->rows * t->cols;
    (void)state;

    memset(net_params(net) + 32, 0, 32 * sizeof(float));
    net_exported(net, 0, y);
    for (size_t b = 0; b < n; b += 32) {
        float amax = 0;
        for (size_t j = b; j < b + 32; j++) {
            amax = fmaxf(amax, fabsf(net_params(net)[j]));
        }
        const float d = loops_f16(amax / 127);
        for (size_t j = b; j < b + 32; j++) {
            const float code = amax > 0 ? roundf(net_params(net)[j] / (amax / 127)) : 0;
            assert_true(y[j] == d * code);
        }
    }
    memcpy(net_params(net), y, n * sizeof(*y));
    net_exported(net, 0, again);
    assert_memory_equal(y, again, n * sizeof(*y));
    free(y);
    free(again);
    net_free(net);
}

/* Goal: binary weights and the embedding may be written back as parameters, as a file has them, and
 * mean the same to the bit. */
static void exported_weights_give_the_same_logits(void **state)
{
    const struct net_modes modes = {.weights = NET_W_BINARY, .activations = NET_A_INT8};
    const struct net_shape shape = small_shape(&modes);
    struct net *net = small_net(&shape, &modes, 1);
    const size_t n = (size_t)5 * shape.n_vocab;
    float *a = calloc(n, sizeof(*a)), *b = calloc(n, sizeof(*b)), *all = small_zeros(net);
    const int32_t tokens[] = {1, 2, 3, 4, 5};
    (void)state;

    assert_true(a && b);
    assert_int_equal(net_logits(net, tokens, 5, a), 0);
    for (size_t i = 0; i < net_count(net); i++) {
        net_exported(net, i, all + net_tensor(net, i)->at);
    }
    memcpy(net_params(net), all, net_size(net) * sizeof(*all));
    assert_int_equal(net_logits(net, tokens, 5, b), 0);
    assert_memory_equal(a, b, n * sizeof(*a));
    free(a);
    free(b);
    free(all);
    net_free(net);
}

/* Goal: random rounding has the weight as its mean, depends on the step alone, and is never there
 * without a gradient. */
static void random_rounding_is_right_on_average(void **state)
{
    (void)state;
    for (int w = NET_W_TERNARY; w <= NET_W_BINARY; w++) {
        const struct net_modes modes = {.weights = (enum net_weights)w, .stochastic = true};
        const struct net_shape shape = small_shape(&modes);
        struct net *net = small_net(&shape, &modes, 2);
        const struct net_tensor *t = net_find(net, "blk.0.attn_v.weight");
        double *mean = calloc(256, sizeof(*mean));
        float s = 0;

        for (uint32_t key = 1; key <= 2000; key++) {
            weights_see(net, key * 2654435761u | 1);
            for (size_t j = 0; j < 256; j++) {
                mean[j] += (double)net->seen[t->at + j] / 2000;
                s = fmaxf(s, net->seen[t->at + j]);
            }
        }
        for (size_t j = 0; j < 128; j++) {
            const double want = fmin(fmax((double)net->params[t->at + j], (double)-s), (double)s);
            assert_true(fabs(mean[j] - want) < 0.12 * (double)s);
        }
        free(mean);
        net_free(net);
    }
}

/* Goal: thresholds follow the inputs' deviation as the page says, after a step and never without
 * one. Method: the first layer's first input, computed here from the embedding. */
static void deviations_move_by_a_hundredth(void **state)
{
    const struct net_modes modes = {.activations = NET_A_BINARY, .head = NET_H_FLOAT};
    const struct net_shape shape = small_shape(&modes);
    struct net *net = NULL;
    struct small s;
    double sum[64] = {0}, squares[64] = {0};
    (void)state;

    assert_int_equal(net_new(&net, &shape, &modes, 2, 3), 0);
    float *grads = small_zeros(net);
    small_batch(&s, &shape, 5);
    assert_int_equal(net_state_count(net), 8);
    assert_string_equal(net_state_tensor(net, 7)->name, "blk.1.ffn_down.threshold");
    assert_ptr_equal(net_find(net, "blk.0.attn_norm.threshold"), net_state_tensor(net, 0));
    for (size_t t = 0; t < SMALL_TOKENS; t++) {
        const float *x = net_params(net) + (size_t)s.tokens[t] * 64;
        double mean = 0;
        for (size_t i = 0; i < 64; i++) {
            mean += (double)x[i] * (double)x[i] / 64;
        }
        for (size_t i = 0; i < 64; i++) {
            const double h = (double)x[i] / sqrt(mean + (double)shape.rms_eps);
            sum[i] += h;
            squares[i] += h * h;
        }
    }
    assert_int_equal(net_loss(net, &s.batch, NULL), 0);
    assert_true(net_state(net)[0] == 1);
    assert_int_equal(net_step(net, &s.batch, grads, NULL), 0);
    for (size_t i = 0; i < 64; i++) {
        const double mean = sum[i] / SMALL_TOKENS;
        const double deviation = sqrt(squares[i] / SMALL_TOKENS - mean * mean);
        const double want = 0.99 + 0.01 * (deviation + 1e-8);
        assert_true(fabs((double)net_state(net)[i] - want) < 1e-6);
    }
    free(grads);
    net_free(net);
}

static void check_broken(const struct net_modes *modes)
{
    const struct net_shape shape = small_shape(modes);
    struct net *net = small_net(&shape, modes, 1);
    float *logits = calloc(shape.n_vocab, sizeof(*logits));
    const int32_t token = 4;

    assert_non_null(logits);
    net_params(net)[(size_t)token * shape.n_embd + 7] = NAN;
    assert_int_equal(net_logits(net, &token, 1, logits), 0);
    for (uint32_t v = 0; v < shape.n_vocab; v++) {
        assert_true(isnan(logits[v]));
    }
    free(logits);
    net_free(net);
}

/* Goal: a broken number shows in the logits, whatever it went through. */
static void a_nan_reaches_the_logits_in_every_mode(void **state)
{
    (void)state;
    small_each_mode(check_broken);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(binary_weights_are_those_of_q1_0),
        cmocka_unit_test(ternary_weights_are_those_of_bitnet),
        cmocka_unit_test(the_embedding_is_that_of_q8_0),
        cmocka_unit_test(exported_weights_give_the_same_logits),
        cmocka_unit_test(random_rounding_is_right_on_average),
        cmocka_unit_test(deviations_move_by_a_hundredth),
        cmocka_unit_test(a_nan_reaches_the_logits_in_every_mode),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
