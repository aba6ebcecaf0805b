/* How many prompt tokens fit a step. A step costs one pass over the weights with the decoding
 * sequences' tokens, and then so much for each prompt token; both are measured. While somebody waits
 * for tokens a step aims at 50 ms; when nobody does, at twice that: still short enough that a new
 * plan is soon heard. On a machine or model so slow that a pass alone takes longer, prompts get as
 * much time as the pass: neither side starves, and a pass is never made for next to nothing. */
#include "daemon/runner/runner.h"

#define STEP_NS 50e6
#define STEP_ALONE_NS 100e6
#define FIRST_TOKENS 32u /* the most before a prompt has been measured */

static double smooth(double old, double now)
{
    return old > 0 ? 0.5 * old + 0.5 * now : now;
}

size_t pace_next(const struct resident *m, size_t n_decode, size_t tokens_max)
{
    const double aim = n_decode > 0 ? STEP_NS : STEP_ALONE_NS;
    const double rest = aim - m->decode_ns > m->decode_ns ? aim - m->decode_ns : m->decode_ns;
    const double token_ns = m->prompt_ns > 0 ? m->prompt_ns : m->decode_ns; /* at worst a pass */
    const double n_max = m->prompt_ns > 0 ? STEP_TOKENS_MAX : FIRST_TOKENS;
    const double fit = token_ns > 0 ? rest / token_ns : n_max;
    size_t n = (size_t)(fit < n_max ? fit : n_max);

    if (m->n_prompt_last > 0 && n > 2 * m->n_prompt_last) {
        n = 2 * m->n_prompt_last; /* one lucky measurement does not make a long step */
    }
    if (n < STEP_TOKENS_MIN) {
        n = STEP_TOKENS_MIN;
    }
    return n < tokens_max ? n : tokens_max;
}

void pace_learn(struct resident *m, size_t n_prompt, uint64_t ns)
{
    const double took = (double)ns;

    if (n_prompt == 0) {
        m->decode_ns = smooth(m->decode_ns, took);
        return;
    }
    if (n_prompt < STEP_TOKENS_MIN) {
        return; /* the tail of a prompt: mostly the pass over the weights, not the tokens */
    }
    const double rest = took - m->decode_ns > took / 8 ? took - m->decode_ns : took / 8;

    m->n_prompt_last = n_prompt;
    m->prompt_ns = smooth(m->prompt_ns, rest / (double)n_prompt);
}
