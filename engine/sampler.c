/* Choosing a token.
 *
 * The order is: repetition penalty, temperature, top-k, top-p, min-p, one draw. The draw is a pure
 * function of (seed, position), so a generation can be taken up anywhere and goes on the same.
 *
 * Sorting a whole vocabulary to find a handful of likely tokens would cost more than a small
 * model's step, so candidates are found by threshold: everything within some distance of the best
 * logit is a prefix of the sorted order, and the distance grows until that prefix holds what is
 * asked for. */
#include "engine/engine.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/kernels/kernels.h"
#include "engine/mathf.h"

struct candidate {
    float logit;  /* after penalty and temperature, relative to the best: <= 0 */
    float weight; /* e^logit */
    int32_t id;
};

struct sampler {
    uint32_t n_vocab;
    largest_fn *largest;
    float *logits;           /* owned: (n_vocab) after the penalty */
    struct candidate *found; /* owned: room for n_vocab */
};

int sampler_new(struct sampler **ret, uint32_t n_vocab)
{
    struct kernels kernels;
    struct sampler *s;

    if (n_vocab == 0 || n_vocab > MODEL_VOCAB_MAX) {
        return -EINVAL;
    }
    s = calloc(1, sizeof(*s));
    if (!s) {
        return -ENOMEM;
    }
    kernels_init(&kernels, cpu_level_best()); /* all levels say the same */
    s->n_vocab = n_vocab;
    s->largest = kernels.largest;
    s->logits = calloc(n_vocab, sizeof(*s->logits));
    s->found = calloc(n_vocab, sizeof(*s->found));
    if (!s->logits || !s->found) {
        sampler_free(s);
        return -ENOMEM;
    }
    *ret = s;
    return 0;
}

void sampler_free(struct sampler *s)
{
    if (!s) {
        return;
    }
    free(s->logits);
    free(s->found);
    free(s);
}

uint64_t sampler_bytes(uint32_t n_vocab)
{
    return (uint64_t)n_vocab * (sizeof(float) + sizeof(struct candidate));
}

/* ---- what is looked at ---- */

_Static_assert(SAMPLER_REPEAT_WINDOW <= STEP_ALSO_MAX, "a window can be asked for");

void sampler_ask(const struct sampler_params *params, uint32_t n_vocab, const int32_t *history,
                 size_t n_history, size_t n_top, struct step_item *item)
{
    const bool greedy = !(params->temperature > 0);
    const uint32_t k = params->top_k > 0 ? (uint32_t)params->top_k : n_vocab;
    const size_t n = n_history < SAMPLER_REPEAT_WINDOW ? n_history : SAMPLER_REPEAT_WINDOW;

    item->n_best = n_top > 0 ? 0 : greedy ? 1 : k < n_vocab && k <= STEP_BEST_MAX ? k : 0;
    item->also = NULL;
    item->n_also = 0;
    if (item->n_best > 0 && params->repeat_penalty != 1.0f) {
        item->also = history + (n_history - n);
        item->n_also = n;
    }
}

/* ---- randomness ---- */

static uint64_t mix64(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* In [0, 1), 53 bits. */
static double draw(uint64_t seed, uint64_t position)
{
    const uint64_t golden = UINT64_C(0x9e3779b97f4a7c15);
    const uint64_t stream = mix64(seed + golden);

    return (double)(mix64(stream + golden * (position + 1)) >> 11) * 0x1p-53;
}

/* ---- the whole vocabulary ---- */

#define RUN 1024u /* ids whose largest logit is found before anybody asks which one it is */

static float max_of_run(const float *x, uint32_t n)
{
    float top = -INFINITY;

    for (uint32_t i = 0; i < n; i++) {
        top = x[i] > top ? x[i] : top;
    }
    return top;
}

/* The lowest id of the largest logit; none is a NaN, or ret_finite says so. */
static int32_t best_of(const struct sampler *s, const float *logits, bool *ret_finite)
{
    float best = -INFINITY;
    uint32_t at = 0;
    bool finite = true;

    for (uint32_t i = 0; i < s->n_vocab; i += RUN) {
        const uint32_t n = s->n_vocab - i < RUN ? s->n_vocab - i : RUN;
        float top = s->largest(logits + i, n);
        if (top != top) {
            finite = false;
            top = max_of_run(logits + i, n);
        }
        if (top > best) {
            best = top;
            at = i;
        }
    }
    while (logits[at] != best && at + 1 < s->n_vocab) {
        at++;
    }
    if (ret_finite) {
        *ret_finite = finite;
    }
    return (int32_t)at;
}

/* ---- log-probabilities ---- */

/* Is a better than b? Ties go to the lower id. */
static bool better(float a, int32_t a_id, float b, int32_t b_id)
{
    return a > b || (a == b && a_id < b_id);
}

/* The n best of the raw logits, best first, by insertion: n is small. */
static void top_of(const float *logits, uint32_t n_vocab, size_t n, struct sampler_choice *ret)
{
    ret->n_top = 0;
    for (uint32_t id = 0; n > 0 && id < n_vocab; id++) {
        size_t at = ret->n_top;
        if (at == n && !(logits[id] > ret->top_logprob[n - 1])) {
            continue;
        }
        at = at < n ? ret->n_top++ : n - 1;
        while (at > 0 && logits[id] > ret->top_logprob[at - 1]) {
            ret->top_id[at] = ret->top_id[at - 1];
            ret->top_logprob[at] = ret->top_logprob[at - 1];
            at--;
        }
        ret->top_id[at] = (int32_t)id;
        ret->top_logprob[at] = logits[id];
    }
}

/* ln of the sum of e^logit. */
static double log_sum(const float *logits, uint32_t n, float max)
{
    double sum = 0;

    for (uint32_t i = 0; i < n; i++) {
        sum += (double)math_expf(logits[i] - max);
    }
    return (double)max + math_log(sum);
}

static void fill_logprobs(const struct sampler *s, const float *logits, int32_t best, size_t n_top,
                          struct sampler_choice *ret)
{
    const uint32_t n_vocab = s->n_vocab;
    const double all = log_sum(logits, n_vocab, logits[best]);

    ret->logprob = (float)((double)logits[ret->id] - all);
    top_of(logits, n_vocab, n_top < SAMPLER_LOGPROBS_MAX ? n_top : SAMPLER_LOGPROBS_MAX, ret);
    for (size_t i = 0; i < ret->n_top; i++) {
        ret->top_logprob[i] = (float)((double)ret->top_logprob[i] - all);
    }
}

/* ---- filters ---- */

/* Copy the logits and lower those of tokens seen lately, each once. */
static void penalize(struct sampler *s, const float *logits, float penalty, const int32_t *history,
                     size_t n_history)
{
    const size_t n = n_history < SAMPLER_REPEAT_WINDOW ? n_history : SAMPLER_REPEAT_WINDOW;

    memcpy(s->logits, logits, s->n_vocab * sizeof(*s->logits));
    if (penalty == 1.0f) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const int32_t id = history[n_history - n + i];
        if (id < 0 || (uint32_t)id >= s->n_vocab) {
            continue;
        }
        /* from the untouched logit, so that a token seen twice is lowered once */
        s->logits[id] = logits[id] > 0 ? logits[id] / penalty : logits[id] * penalty;
    }
}

/* Does a come after b in the sorted order? The order is total, so there is one sorted result. */
static bool after(const struct candidate *a, const struct candidate *b)
{
    return better(b->logit, b->id, a->logit, a->id);
}

/* Let c[i] sink in the heap of n whose root is the last of the order. */
static void sink(struct candidate *c, size_t n, size_t i)
{
    for (size_t child = 2 * i + 1; child < n; child = 2 * i + 1) {
        if (child + 1 < n && after(&c[child + 1], &c[child])) {
            child++;
        }
        if (!after(&c[child], &c[i])) {
            return;
        }
        const struct candidate swap = c[i];
        c[i] = c[child];
        c[child] = swap;
        i = child;
    }
}

/* Heap sort, most likely first: in place, where qsort() would call malloc(). */
static void sort(struct candidate *c, size_t n)
{
    for (size_t i = n / 2; i-- > 0;) {
        sink(c, n, i);
    }
    for (size_t end = n; end > 1; end--) {
        const struct candidate swap = c[0];
        c[0] = c[end - 1];
        c[end - 1] = swap;
        sink(c, end - 1, 0);
    }
}

/* Everything within `distance` of the best, by id. */
static size_t find_within(struct sampler *s, float max, float temperature, float distance)
{
    /* What lies below this is farther whatever is rounded, so that most need no division. */
    const float far = -(distance * temperature * 1.001f + FLT_MIN);
    size_t n = 0;

    for (uint32_t id = 0; id < s->n_vocab; id++) {
        const float below = s->logits[id] - max;
        if (below < far) {
            continue;
        }
        const float logit = below / temperature;
        if (logit >= -distance) {
            s->found[n++] =
                (struct candidate){.logit = logit, .weight = math_expf(logit), .id = (int32_t)id};
        }
    }
    return n;
}

static double weigh(const struct candidate *c, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++) {
        sum += (double)c[i].weight;
    }
    return sum;
}

/* How many of the sorted candidates top-p keeps, or n + 1 when it needs more than these. `all` is
 * the weight that counts as 1. */
static size_t cut_top_p(const struct candidate *c, size_t n, float top_p, double all)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++) {
        sum += (double)c[i].weight;
        if (sum >= (double)top_p * all) {
            return i + 1;
        }
    }
    return n + 1;
}

/* Candidates after top-k and top-p, most likely first where either is on. */
static size_t filter(struct sampler *s, const struct sampler_params *params, float max)
{
    const float t = params->temperature;
    const size_t k = params->top_k > 0 && (uint32_t)params->top_k < s->n_vocab
                         ? (size_t)params->top_k
                         : s->n_vocab;
    const bool by_p = params->top_p < 1.0f;

    if (k == s->n_vocab && !by_p) {
        return find_within(s, max, t, INFINITY);
    }
    /* With top-k the weight of the k best counts as 1, else that of the whole vocabulary. */
    double all = 0;
    if (k == s->n_vocab) {
        all = weigh(s->found, find_within(s, max, t, INFINITY));
    }
    for (float distance = 4;; distance *= 2) {
        const bool whole = distance > 200; /* beyond, every weight is zero */
        const size_t n = find_within(s, max, t, whole ? INFINITY : distance);
        if (!whole && k < s->n_vocab && n < k) {
            continue;
        }
        sort(s->found, n);
        size_t kept = n < k ? n : k;
        if (by_p) {
            const size_t cut =
                cut_top_p(s->found, kept, params->top_p, all > 0 ? all : weigh(s->found, kept));
            if (cut > kept && !whole && k == s->n_vocab) {
                continue;
            }
            kept = cut < kept ? cut : kept;
        }
        return kept;
    }
}

static int32_t pick(struct sampler *s, const struct sampler_params *params, uint64_t position)
{
    const int32_t best = best_of(s, s->logits, NULL);
    const float max = s->logits[best];
    size_t n = filter(s, params, max), kept = 0;

    if (params->min_p > 0) { /* the best has weight 1 */
        for (size_t i = 0; i < n; i++) {
            if (s->found[i].weight >= params->min_p) {
                s->found[kept++] = s->found[i];
            }
        }
        n = kept;
    }
    if (n == 0) { /* a penalty has driven the best logit to infinity: no weight is a number */
        return best;
    }
    const double goal = draw(params->seed, position) * weigh(s->found, n);
    double sum = 0;
    int32_t last = s->found[0].id;
    for (size_t i = 0; i < n; i++) {
        sum += (double)s->found[i].weight;
        if (s->found[i].weight > 0) {
            last = s->found[i].id;
        }
        if (sum > goal) {
            return last;
        }
    }
    return last;
}

int sampler_pick(struct sampler *s, const struct sampler_params *params, const float *logits,
                 const int32_t *history, size_t n_history, uint64_t position, size_t n_top,
                 struct sampler_choice *ret)
{
    bool finite;
    const int32_t best = best_of(s, logits, &finite);

    if (!finite) {
        return SAMPLER_NOT_FINITE;
    }
    if (params->temperature > 0 || params->repeat_penalty != 1.0f) {
        penalize(s, logits, params->repeat_penalty, history, n_history);
        ret->id = params->temperature > 0 ? pick(s, params, position) : best_of(s, s->logits, NULL);
    } else {
        ret->id = best; /* no copy of them is changed */
    }
    ret->logprob = 0;
    ret->n_top = 0;
    if (n_top > 0) {
        fill_logprobs(s, logits, best, n_top, ret);
    }
    return SAMPLER_OK;
}
