/* The net as its callers meet it: what a pass depends on, and what is refused. The gradients
 * themselves are test_gradients.c's, what quantizers make test_exported.c's. */
#include "tests/support/test.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/train/small.h"

static const struct net_modes plain = {.head = NET_H_FLOAT};

/* Three steps down the gradient; the gradients of the last one, which the caller frees. */
static float *steps(struct net *net, struct small *s, struct net_loss *ret)
{
    float *grads = small_zeros(net);

    for (unsigned i = 0; i < 3; i++) {
        memset(grads, 0, net_size(net) * sizeof(*grads));
        s->batch.step = i;
        assert_int_equal(net_step(net, &s->batch, grads, ret), 0);
        for (size_t j = 0; j < net_size(net); j++) {
            net_params(net)[j] -= 0.01f * grads[j];
        }
    }
    return grads;
}

/* ---- what numbers depend on ---- */

static void check_repeats(const struct net_modes *modes)
{
    struct net_modes m = *modes;
    m.stochastic = m.weights != NET_W_FLOAT;
    const struct net_shape shape = small_shape(&m);
    struct net *a = small_net(&shape, &m, 2), *b = small_net(&shape, &m, 2);
    struct net_loss loss_a, loss_b;
    struct small s;

    small_batch(&s, &shape, 5);
    float *ga = steps(a, &s, &loss_a), *gb = steps(b, &s, &loss_b);
    assert_memory_equal(ga, gb, net_size(a) * sizeof(*ga));
    assert_memory_equal(net_params(a), net_params(b), net_size(a) * sizeof(*ga));
    assert_memory_equal(net_state(a), net_state(b), net_state_size(a) * sizeof(*ga));
    assert_memory_equal(&loss_a, &loss_b, sizeof(loss_a));
    free(ga);
    free(gb);
    net_free(a);
    net_free(b);
}

/* Goal: the same seed, batches and threads give the same bytes. Method: two nets side by side, in
 * every mode, with random rounding. */
static void steps_repeat_to_the_bit(void **state)
{
    (void)state;
    small_each_mode(check_repeats);
}

/* Goal: threads share the work, and change nothing but the order of sums. Method: one to five
 * threads for four rows, so that some have none. */
static void threads_change_gradients_by_rounding_alone(void **state)
{
    const struct net_modes modes = {.weights = NET_W_BINARY, .activations = NET_A_BINARY};
    const struct net_shape shape = small_shape(&modes);
    struct net_loss first, loss;
    struct small s;
    float *want = NULL;
    (void)state;

    small_batch(&s, &shape, 5);
    for (unsigned n = 1; n <= 5; n++) {
        struct net *net = small_net(&shape, &modes, n);
        float *got = small_zeros(net), most = 0;
        assert_int_equal(net_step(net, &s.batch, got, n == 1 ? &first : &loss), 0);
        if (n == 1) {
            want = got;
            net_free(net);
            continue;
        }
        for (size_t i = 0; i < net_size(net); i++) {
            most = fmaxf(most, fabsf(want[i]));
        }
        for (size_t i = 0; i < net_size(net); i++) {
            assert_true(fabsf(got[i] - want[i]) <= 1e-4f * most);
        }
        assert_true(fabs(loss.sum - first.sum) < 1e-5 * first.sum);
        assert_true(loss.weight == first.weight && loss.n == first.n);
        free(got);
        net_free(net);
    }
    free(want);
}

/* Goal: rows that are packed side by side do not see each other. Method: the loss of all is the sum
 * of each one's. */
static void rows_do_not_see_each_other(void **state)
{
    const struct net_shape shape = small_shape(&plain);
    struct net *net = small_net(&shape, &plain, 1);
    struct net_loss all, one;
    struct small s;
    double sum = 0;
    (void)state;

    small_batch(&s, &shape, 5);
    assert_int_equal(net_loss(net, &s.batch, &all), 0);
    for (unsigned r = 0; r < SMALL_ROWS; r++) {
        const uint32_t begin[] = {0, s.begin[r + 1] - s.begin[r]};
        const struct net_batch batch = {.n_rows = 1,
                                        .begin = begin,
                                        .tokens = s.tokens + s.begin[r],
                                        .mask = s.mask + s.begin[r]};
        assert_int_equal(net_loss(net, &batch, &one), 0);
        sum += one.sum;
    }
    assert_true(fabs(sum - all.sum) < 1e-5 * sum);
    net_free(net);
}

static void check_causal(const struct net_modes *modes)
{
    const struct net_shape shape = small_shape(modes);
    struct net *net = small_net(&shape, modes, 2);
    float *a = calloc(10 * shape.n_vocab, sizeof(*a)), *b = calloc(10 * shape.n_vocab, sizeof(*b));
    int32_t tokens[10] = {1, 5, 9, 9, 3, 30, 36, 0, 2, 8};
    bool moved = false;

    assert_true(a && b);
    assert_int_equal(net_logits(net, tokens, 10, a), 0);
    tokens[7] = 20;
    assert_int_equal(net_logits(net, tokens, 10, b), 0);
    for (size_t i = 0; i < (size_t)10 * shape.n_vocab; i++) {
        assert_true(i / shape.n_vocab >= 7 || a[i] == b[i]);
        moved |= a[i] != b[i];
    }
    assert_true(moved);
    free(a);
    free(b);
    net_free(net);
}

/* Goal: no token sees what follows it, in any mode. */
static void later_tokens_change_no_earlier_logits(void **state)
{
    (void)state;
    small_each_mode(check_causal);
}

/* Goal: the loss is the cross-entropy of the logits, with each token's weight. */
static void the_loss_is_that_of_the_logits(void **state)
{
    const struct net_modes modes = {.weights = NET_W_TERNARY, .activations = NET_A_INT8};
    const struct net_shape shape = small_shape(&modes);
    struct net *net = small_net(&shape, &modes, 1);
    float *logits = calloc((size_t)16 * shape.n_vocab, sizeof(*logits));
    struct net_loss loss;
    struct small s;
    double want = 0, weight = 0;
    uint64_t n = 0, n_best = 0;
    (void)state;

    small_batch(&s, &shape, 5);
    for (unsigned r = 0; r < SMALL_ROWS; r++) {
        const uint32_t from = s.begin[r], n_row = s.begin[r + 1] - from;
        assert_int_equal(net_logits(net, s.tokens + from, n_row, logits), 0);
        for (uint32_t i = 1; i < n_row; i++) {
            const float *row = logits + (size_t)(i - 1) * shape.n_vocab;
            const float own = row[s.tokens[from + i]];
            double sum = 0;
            bool best = true;
            for (uint32_t v = 0; v < shape.n_vocab; v++) {
                sum += exp((double)row[v]);
                best &= row[v] <= own;
            }
            want += (double)s.mask[from + i] * (log(sum) - (double)own);
            weight += (double)s.mask[from + i];
            n += s.mask[from + i] != 0;
            n_best += s.mask[from + i] != 0 && best;
        }
    }
    assert_int_equal(net_loss(net, &s.batch, &loss), 0);
    assert_true(fabs(loss.sum - want) < 1e-5 * want);
    assert_true(loss.weight == weight && loss.n == n && loss.n_best == n_best);
    free(logits);
    net_free(net);
}

/* Goal: gradients are added to what is there, so batches may be split. Method: twice the same into
 * one array, and a batch after a larger one, whose memory it uses. */
static void gradients_add_up(void **state)
{
    const struct net_shape shape = small_shape(&plain);
    struct net *net = small_net(&shape, &plain, 2);
    float *once = small_zeros(net), *twice = small_zeros(net);
    struct small s;
    (void)state;

    small_batch(&s, &shape, 5);
    assert_int_equal(net_step(net, &s.batch, once, NULL), 0);
    assert_int_equal(net_step(net, &s.batch, twice, NULL), 0);
    assert_int_equal(net_loss(net, &s.batch, NULL), 0);
    assert_int_equal(net_step(net, &s.batch, twice, NULL), 0);
    for (size_t i = 0; i < net_size(net); i++) {
        assert_true(twice[i] == 2 * once[i]);
    }
    free(once);
    free(twice);
    net_free(net);
}

/* Goal: a sequence of many blocks of queries, and more tokens than are computed at once, come out
 * as they do in pieces. Method: 300 positions against a prefix; 40 rows of 100 tokens against one
 * by one. */
static void long_rows_and_large_batches_come_out_the_same(void **state)
{
    static int32_t tokens[4000];
    static float mask[4000];
    static uint32_t begin[41];
    struct net_shape shape = small_shape(&plain);
    struct net_loss all, one;
    uint64_t random = 1;
    double sum = 0;
    (void)state;

    shape.n_ctx = 300;
    struct net *net = small_net(&shape, &plain, 2);
    float *a = calloc((size_t)300 * shape.n_vocab, sizeof(*a)), *grads = small_zeros(net);
    float *b = calloc((size_t)100 * shape.n_vocab, sizeof(*b));
    assert_true(a && b);
    for (size_t i = 0; i < 4000; i++) {
        tokens[i] = (int32_t)((small_unit(&random) + 1) / 2 * shape.n_vocab);
        mask[i] = 1;
    }
    assert_int_equal(net_logits(net, tokens, 300, a), 0);
    assert_int_equal(net_logits(net, tokens, 100, b), 0);
    for (size_t i = 0; i < (size_t)100 * shape.n_vocab; i++) {
        assert_true(fabsf(a[i] - b[i]) < 1e-3f);
    }
    for (unsigned r = 0; r <= 40; r++) {
        begin[r] = 100 * r;
    }
    struct net_batch batch = {
        .n_rows = 40, .begin = begin, .tokens = tokens, .mask = mask, .scale = 1};
    assert_int_equal(net_step(net, &batch, grads, &all), 0);
    batch.n_rows = 1;
    for (unsigned r = 0; r < 40; r++) {
        batch.tokens = tokens + 100 * r;
        assert_int_equal(net_loss(net, &batch, &one), 0);
        sum += one.sum;
    }
    assert_true(fabs(all.sum - sum) < 1e-5 * sum);
    assert_int_equal(all.n, 40 * 99);
    free(a);
    free(b);
    free(grads);
    net_free(net);
}

/* Goal: a net learns. Method: plain descent on one batch makes its loss fall, in every mode. */
static void check_learns(const struct net_modes *modes)
{
    const struct net_shape shape = small_shape(modes);
    struct net *net = small_net(&shape, modes, 1);
    struct net_loss before, after;
    float *grads = small_zeros(net);
    struct small s;

    small_batch(&s, &shape, 5);
    assert_int_equal(net_loss(net, &s.batch, &before), 0);
    for (unsigned i = 0; i < 60; i++) {
        memset(grads, 0, net_size(net) * sizeof(*grads));
        assert_int_equal(net_step(net, &s.batch, grads, NULL), 0);
        for (size_t j = 0; j < net_size(net); j++) {
            net_params(net)[j] -= 0.2f * grads[j];
        }
    }
    assert_int_equal(net_loss(net, &s.batch, &after), 0);
    assert_true(after.sum < 0.6 * before.sum);
    free(grads);
    net_free(net);
}

static void the_loss_falls_along_the_gradient_in_every_mode(void **state)
{
    (void)state;
    small_each_mode(check_learns);
}

/* ---- tensors and refusals ---- */

/* Goal: the tensors cover the array, under the names that files of qwen3 have. */
static void tensors_cover_the_parameters(void **state)
{
    const struct net_shape shape = small_shape(&plain);
    struct net *net = NULL;
    size_t at = 0;
    (void)state;

    assert_int_equal(net_new(&net, &shape, &plain, 1, 1), 0);
    for (size_t i = 0; i < net_count(net); i++) {
        const struct net_tensor *t = net_tensor(net, i);
        assert_int_equal(t->at, at);
        assert_int_equal(t->decay, t->kind != NET_NORM);
        assert_ptr_equal(net_find(net, t->name), t);
        at += (size_t)t->rows * t->cols;
    }
    assert_int_equal(at, net_size(net));
    assert_int_equal(net_find(net, "blk.1.ffn_down.weight")->cols, shape.n_ff);
    assert_int_equal(net_find(net, "blk.0.attn_k.weight")->rows, shape.n_head_kv * shape.head_dim);
    assert_null(net_find(net, "blk.2.ffn_down.weight"));
    assert_int_equal(net_state_size(net), 0);
    net_free(net);
    net_free(NULL);
}

static void check_measure(const struct net_modes *modes)
{
    const struct net_shape shape = small_shape(modes);
    struct net *net = small_net(&shape, modes, 1);
    size_t n = 0, n_state = 0;

    assert_int_equal(net_measure(&shape, modes, &n, &n_state), 0);
    assert_int_equal(n, net_size(net));
    assert_int_equal(n_state, net_state_size(net));
    net_free(net);
}

static void a_nets_size_is_known_before_it_is_made(void **state)
{
    struct net_shape shape = small_shape(&plain);
    size_t n = 99, n_state = 99;

    small_each_mode(check_measure);
    shape.n_embd = 33;
    assert_int_equal(net_measure(&shape, &plain, &n, &n_state), -EINVAL);
    assert_true(n == 99 && n_state == 99);
}

static int try_new(const struct net_shape *shape, const struct net_modes *modes, unsigned n_threads)
{
    struct net *net = NULL;
    const int r = net_new(&net, shape, modes, n_threads, 1);

    assert_int_equal(r == 0, net != NULL);
    net_free(net);
    return r;
}

static void shapes_and_modes_outside_the_contract_are_refused(void **state)
{
    const struct net_shape good = small_shape(&plain);
    const struct net_modes binary = {.weights = NET_W_BINARY};
    const struct net_modes blocks = {.weights = NET_W_TERNARY, .activations = NET_A_INT8};
    struct net_shape bad[14];
    struct net_modes mode;
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        bad[i] = good;
    }
    bad[0].n_layer = 0;
    bad[1].n_layer = NET_LAYERS_MAX + 1;
    bad[2].n_embd = 48;
    bad[3].n_embd = 0;
    bad[4].n_ff = NET_WIDTH_MAX + 32;
    bad[5].n_head_kv = 0;
    bad[6].n_head = 3;
    bad[7].head_dim = 16;
    bad[8].n_head = 1u << 31;
    bad[9].n_vocab = 0;
    bad[10].n_ctx = NET_CTX_MAX + 1;
    bad[11].rope_base = 0;
    bad[12].rms_eps = NAN;
    bad[13].n_head_kv = 4;
    bad[6].n_head_kv = 2;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(try_new(&bad[i], &plain, 1), -EINVAL);
    }
    assert_int_equal(try_new(&good, &binary, 1), -EINVAL); /* 64 is no group of 128 */
    assert_int_equal(try_new(&good, &plain, 0), -EINVAL);
    assert_int_equal(try_new(&good, &plain, NET_THREADS_MAX + 1), -EINVAL);
    mode = blocks;
    mode.block = 256;
    assert_int_equal(try_new(&good, &mode, 1), -EINVAL);
    mode.block = 64;
    assert_int_equal(try_new(&good, &mode, 1), -EINVAL);
    mode = plain;
    mode.block = 32;
    assert_int_equal(try_new(&good, &mode, 1), -EINVAL);
    mode = plain;
    mode.smooth_k = -1;
    assert_int_equal(try_new(&good, &mode, 1), -EINVAL);
    mode = plain;
    mode.weights = (enum net_weights)7;
    assert_int_equal(try_new(&good, &mode, 1), -EINVAL);
    assert_int_equal(try_new(&good, &blocks, 1), 0);
}

/* Goal: a batch that does not fit touches nothing. */
static void batches_outside_the_shape_are_refused(void **state)
{
    const struct net_shape shape = small_shape(&plain);
    struct net *net = small_net(&shape, &plain, 2);
    float *grads = small_zeros(net), logits[37];
    const float *none = small_zeros(net);
    int32_t long_row[17] = {0};
    struct small s;
    (void)state;

    small_batch(&s, &shape, 5);
    s.tokens[12] = (int32_t)shape.n_vocab;
    assert_int_equal(net_step(net, &s.batch, grads, NULL), -EINVAL);
    s.tokens[12] = -1;
    assert_int_equal(net_loss(net, &s.batch, NULL), -EINVAL);
    s.tokens[12] = 1;
    s.begin[2] = 11;
    s.begin[3] = 10;
    assert_int_equal(net_step(net, &s.batch, grads, NULL), -EINVAL);
    s.begin[3] = 33; /* a row of 22 tokens, of 16 that there may be */
    assert_int_equal(net_step(net, &s.batch, grads, NULL), -EINVAL);
    assert_int_equal(net_logits(net, long_row, 17, logits), -EINVAL);
    assert_memory_equal(grads, none, net_size(net) * sizeof(*grads));
    s.begin[0] = 1;
    assert_int_equal(net_loss(net, &s.batch, NULL), -EINVAL);

    const uint32_t nothing[] = {0};
    const struct net_batch empty = {.begin = nothing};
    struct net_loss loss = {.sum = 1};
    assert_int_equal(net_step(net, &empty, grads, &loss), 0);
    assert_true(loss.sum == 0 && loss.n == 0);
    assert_memory_equal(grads, none, net_size(net) * sizeof(*grads));
    free(grads);
    free((void *)(uintptr_t)none);
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_repeat_to_the_bit),
        cmocka_unit_test(threads_change_gradients_by_rounding_alone),
        cmocka_unit_test(rows_do_not_see_each_other),
        cmocka_unit_test(later_tokens_change_no_earlier_logits),
        cmocka_unit_test(the_loss_is_that_of_the_logits),
        cmocka_unit_test(gradients_add_up),
        cmocka_unit_test(long_rows_and_large_batches_come_out_the_same),
        cmocka_unit_test(the_loss_falls_along_the_gradient_in_every_mode),
        cmocka_unit_test(tensors_cover_the_parameters),
        cmocka_unit_test(a_nets_size_is_known_before_it_is_made),
        cmocka_unit_test(shapes_and_modes_outside_the_contract_are_refused),
        cmocka_unit_test(batches_outside_the_shape_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
