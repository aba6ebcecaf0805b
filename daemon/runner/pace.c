/* How many prompt tokens fit a step. A step costs one pass over the weights with the decoding
 * sequences' tokens, and then so much for each prompt token; both are measured. When no stream
 * waits for its token a step aims at 100 ms, or what the broker says if that is more: short enough
 * that a new plan is soon heard. Beside streams prompts
 * get what the broker says, else 0.8 of the time that the streams' pass takes, so that prompts at
 * most double the time between a stream's tokens; where a pass is over sooner, 1.5 ms, which nobody
 * notices. A step beside streams may take a single prompt token (the pass is made anyway); without
 * them a pass is never made for next to nothing.
 *
 * A pass is measured for each number of streams by a step without prompts: at the first one of
 * that many streams, and again when 32 steps with prompts have gone by; where the broker has set
 * the time it is not needed. A prompt token costs less in
 * company, and more the further it stands behind its prompt's begin, so few beside streams and many
 * without are measured apart; beside streams a dearer one is believed at once, a cheaper one by and
 * by. */
#include "daemon/runner/runner.h"

#define STEP_ALONE_NS 100e6
#define BESIDE_PART 0.8
#define BESIDE_NS_MIN 1.5e6 /* so that with noise a token is less than 5 ms late */
#define FIRST_TOKENS 32u    /* the most before a prompt has been measured */
#define PASS_STEPS 32u      /* with prompts between two measurements of a pass */
#define JUMP_MAX 2.0        /* a hiccup of the machine is no measurement */

static double smooth(double old, double now, double weight)
{
    if (old <= 0) {
        return now;
    }
    now = now < JUMP_MAX * old ? now : JUMP_MAX * old;
    return (1 - weight) * old + weight * now;
}

/* A pass for so many streams: measured, else that of fewer and a prompt token for each one more. */
static double pass_ns(const struct pace *p, size_t n_decode)
{
    size_t n = n_decode > 0 ? n_decode : 1;
    const size_t asked = n;

    while (n > 1 && p->pass_ns[n] <= 0) {
        n--;
    }
    return p->pass_ns[n] + (double)(asked - n) * p->beside.token_ns;
}

/* What prompt tokens may take in the next step, ns. */
static double budget_ns(const struct pace *p, size_t n_decode, uint64_t prompt_us)
{
    const double pass = pass_ns(p, n_decode);

    const double told = (double)prompt_us * 1e3;
    if (n_decode == 0) {
        const double own = STEP_ALONE_NS - pass > pass ? STEP_ALONE_NS - pass : pass;
        return told > own ? told : own;
    }
    if (prompt_us > 0) {
        return told;
    }
    return BESIDE_PART * pass > BESIDE_NS_MIN ? BESIDE_PART * pass : BESIDE_NS_MIN;
}

size_t pace_next(const struct pace *p, size_t n_decode, uint64_t prompt_us, size_t tokens_max)
{
    const struct pace_token *t = n_decode > 0 ? &p->beside : &p->alone;
    const size_t least = n_decode > 0 ? 1 : STEP_TOKENS_MIN;
    const double token_ns = t->token_ns > 0 ? t->token_ns : pass_ns(p, 0); /* at worst a pass */
    const double n_max = t->token_ns > 0 ? STEP_TOKENS_MAX : FIRST_TOKENS;
    const double fit = token_ns > 0 ? budget_ns(p, n_decode, prompt_us) / token_ns : n_max;
    size_t n = (size_t)(fit < n_max ? fit : n_max);

    if (n_decode > 0 && prompt_us == 0 && (p->pass_ns[n_decode] <= 0 || p->n_mixed >= PASS_STEPS)) {
        return 0;
    }
    if (t->n_last > 0 && n > 2 * t->n_last) {
        n = 2 * t->n_last; /* one lucky measurement does not make a long step */
    }
    if (n < least) {
        n = least;
    }
    return n < tokens_max ? n : tokens_max;
}

void pace_learn(struct pace *p, size_t n_decode, size_t n_prompt, uint64_t ns)
{
    const double took = (double)ns;

    if (n_prompt == 0) {
        p->pass_ns[n_decode] = smooth(p->pass_ns[n_decode], took, 0.5);
        p->n_mixed = 0;
        return;
    }
    const double pass = pass_ns(p, n_decode);
    const double rest = took - pass > took / 8 ? took - pass : took / 8;
    const double each = rest / (double)n_prompt;

    if (n_decode > 0) {
        p->beside.token_ns =
            smooth(p->beside.token_ns, each, each > p->beside.token_ns ? 1.0 : 0.2);
        p->beside.n_last = n_prompt;
        p->n_mixed++;
    } else if (n_prompt >= STEP_TOKENS_MIN) { /* a tail is mostly the pass, not the tokens */
        p->alone.token_ns = smooth(p->alone.token_ns, each, 0.5);
        p->alone.n_last = n_prompt;
    }
}

uint64_t pace_expect(const struct pace *p, size_t n_decode, size_t n_prompt)
{
    const struct pace_token *t = n_decode > 0 ? &p->beside : &p->alone;

    return (uint64_t)(pass_ns(p, n_decode) + (double)n_prompt * t->token_ns);
}
