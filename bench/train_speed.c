/* How fast the trainer's steps are: tokens a second of net_step() for one shape after another.
 *
 *     train_speed [--threads N] [--seconds S] [--sizes]
 *
 * Rows are as long as a home command and its answer (24 to 56 tokens, 40 on average, of which the
 * last 40 % count in the loss), 64 a step. --sizes: nets of 1 to 30 million weights instead of
 * one in all modes. Time is the wall's; the best of the windows of a second is shown beside the
 * mean, since other programs take processors away but never give any. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "train/net/kernels.h"
#include "train/net/net.h"

#define ROWS 64u
#define SHORTEST 24u
#define LONGEST 56u

struct options {
    unsigned n_threads;
    double seconds;
    bool sizes;
};

struct rows {
    uint32_t begin[ROWS + 1];
    int32_t tokens[ROWS * LONGEST];
    float mask[ROWS * LONGEST];
    struct net_batch batch;
};

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void fill(struct rows *r, uint32_t n_vocab)
{
    uint32_t at = 0, random = 1;

    for (unsigned i = 0; i < ROWS; i++) {
        random = random * 1664525u + 1013904223u;
        const uint32_t n = SHORTEST + (random >> 16) % (LONGEST - SHORTEST + 1);
        r->begin[i] = at;
        for (uint32_t j = 0; j < n; j++, at++) {
            random = random * 1664525u + 1013904223u;
            r->tokens[at] = (int32_t)((random >> 8) % n_vocab);
            r->mask[at] = j * 10 >= n * 6 ? 1 : 0;
        }
    }
    r->begin[ROWS] = at;
    r->batch = (struct net_batch){
        .n_rows = ROWS, .begin = r->begin, .tokens = r->tokens, .mask = r->mask, .scale = 1e-3f};
}

static int measure(const char *name, const struct net_shape *shape, const struct net_modes *modes,
                   const struct options *o)
{
    static struct rows rows;
    struct net *net = NULL;
    struct net_loss loss;
    size_t weights = 0;

    if (net_new(&net, shape, modes, o->n_threads, 1) < 0) {
        (void)fprintf(stderr, "train_speed: no net for %s\n", name);
        return 1;
    }
    net_real *grads = calloc(net_size(net), sizeof(*grads));
    fill(&rows, shape->n_vocab);
    for (size_t i = 0; i < net_count(net); i++) {
        const struct net_tensor *t = net_tensor(net, i);
        weights += t->kind == NET_MATRIX ? (size_t)t->rows * t->cols : 0;
    }
    int r = grads ? net_step(net, &rows.batch, grads, &loss) : -1;
    const double begin = now();
    double best = 0, window = begin, end = begin;
    size_t steps = 0, in_window = 0;
    while (r == 0 && end - begin < o->seconds) {
        rows.batch.step++;
        r = net_step(net, &rows.batch, grads, &loss);
        end = now();
        steps++;
        in_window++;
        if (end - window >= 1) {
            const double rate = (double)in_window * rows.begin[ROWS] / (end - window);
            best = rate > best ? rate : best;
            window = end;
            in_window = 0;
        }
    }
    const double rate = (double)steps * rows.begin[ROWS] / (end - begin);
    const double flops = 6.0 * (double)weights * rate;
    printf("%-24s %6.2f M weights: %7.0f tokens/s (best second %7.0f), %5.0f GFLOP/s, %6.1f ms a "
           "step of %u tokens\n",
           name, (double)weights * 1e-6, rate, best, flops * 1e-9,
           1e3 * (end - begin) / (double)steps, rows.begin[ROWS]);
    (void)fflush(stdout);
    free(grads);
    net_free(net);
    return r < 0;
}

static const struct net_shape home = {.n_layer = 5,
                                      .n_embd = 256,
                                      .n_ff = 768,
                                      .n_head = 4,
                                      .n_head_kv = 2,
                                      .head_dim = 64,
                                      .n_vocab = 1280,
                                      .n_ctx = 256,
                                      .rope_base = 10000,
                                      .rms_eps = 1e-6f};

static int all_modes(const struct options *o)
{
    static const char *const names[3][3] = {
        {"float float", "float int8", "float binary"},
        {"ternary float", "ternary int8", "ternary binary"},
        {"binary float", "binary int8", "binary binary"},
    };
    int bad = 0;

    for (int w = 0; w < 3; w++) {
        for (int a = 0; a < 3; a++) {
            const struct net_modes modes = {.weights = (enum net_weights)w,
                                            .activations = (enum net_activations)a};
            bad |= measure(names[w][a], &home, &modes, o);
        }
    }
    return bad;
}

static int all_sizes(const struct options *o)
{
    static const struct {
        const char *name;
        uint32_t n_layer, n_embd, n_ff, n_head, n_head_kv;
    } sizes[] = {
        {"4 x 128", 4, 128, 512, 4, 2},    {"5 x 256", 5, 256, 768, 4, 2},
        {"6 x 384", 6, 384, 1152, 6, 2},   {"8 x 512", 8, 512, 1152, 8, 4},
        {"10 x 512", 10, 512, 1408, 8, 4},
    };
    const struct net_modes modes = {.weights = NET_W_BINARY, .activations = NET_A_INT8};
    int bad = 0;

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct net_shape shape = home;
        shape.n_layer = sizes[i].n_layer;
        shape.n_embd = sizes[i].n_embd;
        shape.n_ff = sizes[i].n_ff;
        shape.n_head = sizes[i].n_head;
        shape.n_head_kv = sizes[i].n_head_kv;
        bad |= measure(sizes[i].name, &shape, &modes, o);
    }
    return bad;
}

int main(int argc, char **argv)
{
    struct options o = {.n_threads = 2, .seconds = 5};

    kernels_take(argv);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--sizes") == 0) {
            o.sizes = true;
        } else if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc) {
            o.n_threads = (unsigned)strtoul(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc) {
            o.seconds = strtod(argv[++i], NULL);
        } else {
            (void)fputs("usage: train_speed [--threads N] [--seconds S] [--sizes]\n", stderr);
            return 64;
        }
    }
    printf("%u threads, OpenBLAS kernels: %s\n", o.n_threads, net_kernels());
    return o.sizes ? all_sizes(&o) : all_modes(&o);
}
