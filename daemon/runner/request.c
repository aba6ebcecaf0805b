/* From the client's generate frame to a sequence that can run. The broker has checked the frame's
 * form and the peer's rights; what only the model can tell (length, sampling, stop strings) is told
 * here, and by prompt.c. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/runner/runner.h"
#include "ipc/message.h"

#define TEMPERATURE_DEFAULT 0.7f
#define TEMPERATURE_MAX 10.0f
#define PENALTY_MIN 0.1f
#define PENALTY_MAX 10.0f

_Static_assert(SEAM_SALT == KV_SALT, "the broker's salts are the cache's");

int refuse(struct refusal *ret, enum error_code code, uint64_t have, uint64_t limit,
           const char *fmt, ...)
{
    va_list args;

    *ret = (struct refusal){.code = code, .have = have, .limit = limit};
    va_start(args, fmt);
    (void)vsnprintf(ret->text, sizeof(ret->text), fmt, args);
    va_end(args);
    return REQUEST_REFUSED;
}

static bool within(float x, float low, float high)
{
    return isfinite(x) && x >= low && x <= high;
}

/* What the request says, else what the file recommends (where that makes sense), else off. */
static int request_sampling(struct sampler_params *ret, const struct resident *m,
                            const struct msg_generate *g, uint64_t seed,
                            struct refusal *ret_refusal)
{
    const struct model_info *info = &m->info;
    struct sampler_params p = {
        .temperature = TEMPERATURE_DEFAULT, .top_p = 1.0f, .repeat_penalty = 1.0f, .seed = seed};

    if (within(m->temperature, 0, TEMPERATURE_MAX)) {
        p.temperature = m->temperature;
    } else if (within(info->temperature, 0, TEMPERATURE_MAX)) {
        p.temperature = info->temperature;
    }
    p.temperature = g->has_temperature ? g->temperature : p.temperature;
    p.top_k = g->has_top_k ? g->top_k : info->top_k > 0 ? info->top_k : 0;
    if (g->has_top_p) {
        p.top_p = g->top_p;
    } else if (within(info->top_p, 0, 1) && info->top_p > 0) {
        p.top_p = info->top_p;
    }
    if (g->has_min_p) {
        p.min_p = g->min_p;
    } else if (within(info->min_p, 0, 1) && info->min_p < 1) {
        p.min_p = info->min_p;
    }
    p.repeat_penalty = g->has_repeat_penalty ? g->repeat_penalty : p.repeat_penalty;

    const char *bad = NULL;
    if (!within(p.temperature, 0, TEMPERATURE_MAX)) {
        bad = "temperature: not in 0..10";
    } else if (p.top_k < 0) {
        bad = "top_k: negative";
    } else if (!within(p.top_p, 0, 1) || p.top_p == 0) {
        bad = "top_p: not above 0 and at most 1";
    } else if (!within(p.min_p, 0, 1) || p.min_p == 1) {
        bad = "min_p: not at least 0 and below 1";
    } else if (!within(p.repeat_penalty, PENALTY_MIN, PENALTY_MAX)) {
        bad = "repeat_penalty: not in 0.1..10";
    }
    if (bad) {
        return refuse(ret_refusal, ERR_BAD_REQUEST, 0, 0, "%s", bad);
    }
    *ret = p;
    return REQUEST_OK;
}

/* How many tokens the answer may have; the prompt leaves room for at least one. */
static int request_length(uint32_t *ret, const struct resident *m, size_t n_prompt, uint32_t asked,
                          struct refusal *ret_refusal)
{
    const uint64_t n_ctx = m->n_ctx;

    if (n_prompt == 0) {
        return refuse(ret_refusal, ERR_BAD_REQUEST, 0, 0, "the prompt has no token");
    }
    if (n_prompt > n_ctx - 1 || n_prompt + (uint64_t)asked > n_ctx) {
        return refuse(ret_refusal, ERR_CONTEXT_TOO_LONG, n_prompt + (uint64_t)asked, n_ctx,
                      "the prompt's %zu tokens and %" PRIu32
                      " of answer do not fit a context of %" PRIu64,
                      n_prompt, asked, n_ctx);
    }
    const uint64_t left = n_ctx - n_prompt;
    *ret = asked > 0 ? asked : (uint32_t)(left < MAX_TOKENS_DEFAULT ? left : MAX_TOKENS_DEFAULT);
    return REQUEST_OK;
}

/* Prompt, the answer so far, and room for the rest of it. */
static int request_ids(struct sequence *s, const struct prompt *prompt,
                       const struct msg_ids *resume, struct refusal *ret_refusal)
{
    if (resume->n > s->max_tokens) {
        return refuse(ret_refusal, ERR_INTERNAL, resume->n, s->max_tokens,
                      "an answer to continue is longer than it may be");
    }
    s->ids = malloc((prompt->n + s->max_tokens) * sizeof(*s->ids));
    if (!s->ids) {
        return -ENOMEM;
    }
    memcpy(s->ids, prompt->ids, prompt->n * sizeof(*s->ids));
    if (resume->n > 0) {
        msg_ids_copy(resume, s->ids + prompt->n);
    }
    s->n_prompt = prompt->n;
    s->n_known = prompt->n + resume->n;
    for (size_t i = prompt->n; i < s->n_known; i++) {
        if (s->ids[i] < 0 || (uint32_t)s->ids[i] >= s->home->info.n_vocab) {
            return refuse(ret_refusal, ERR_INTERNAL, 0, 0,
                          "an answer to continue is not of this vocabulary");
        }
    }
    return REQUEST_OK;
}

/* What is kept under that one is everybody's; only a public start may do so. */
static bool is_public_salt(const uint8_t salt[SEAM_SALT])
{
    static const uint8_t zero[SEAM_SALT];

    return memcmp(salt, zero, SEAM_SALT) == 0;
}

static int request_fill(struct sequence *s, const struct seam_start *start,
                        const struct msg_generate *g, const struct prompt *prompt,
                        struct refusal *ret_refusal)
{
    const struct resident *m = s->home;
    struct msg_ids resume = start->resume;
    int r = request_length(&s->max_tokens, m, prompt->n, g->max_tokens, ret_refusal);

    if (r == REQUEST_OK) {
        r = request_sampling(&s->sampling, m, g, start->seed, ret_refusal);
    }
    if (r != REQUEST_OK) {
        return r;
    }
    s->ignore_eos = g->ignore_eos;
    s->n_trimmed = prompt->n_trimmed;
    s->want_ids = start->want_ids;
    s->public_ = start->public_;
    s->reuse = start->public_ || (start->reuse && !is_public_salt(start->salt));
    if (!start->public_) {
        memcpy(s->salt, start->salt, sizeof(s->salt));
    }
    s->n_logprobs = g->n_logprobs < SAMPLER_LOGPROBS_MAX ? g->n_logprobs : SAMPLER_LOGPROBS_MAX;
    if (s->n_logprobs > 0) {
        /* The ids alone would bring no log-probabilities back. Computed anew they are the same
         * ids. */
        resume.n = 0;
    }
    r = request_ids(s, prompt, &resume, ret_refusal);
    if (r != REQUEST_OK) {
        return r;
    }
    r = textout_new(&s->text, model_vocab(m->model), g->stops, g->n_stops);
    if (r == -EINVAL) {
        return refuse(ret_refusal, ERR_BAD_REQUEST, 0, 0, "stop: empty or too long");
    }
    return r == 0 ? seq_new(&s->kv, m->pool, m->n_ctx) : r;
}

int request_prepare(struct sequence *s, const struct seam_start *start, struct refusal *ret_refusal)
{
    struct message *msg = malloc(sizeof(*msg)); /* some 9 KiB */
    struct prompt prompt = {0};
    struct diag diag = {0};
    int r;

    if (!msg) {
        return -ENOMEM;
    }
    r = message_read(msg, (const uint8_t *)start->request.data, start->request.n, &diag);
    if (r != MESSAGE_OK || msg->type != MSG_GENERATE) {
        r = refuse(ret_refusal, ERR_BAD_REQUEST, 0, 0, "%s",
                   diag.set ? diag.text : "not a generate message");
        goto out;
    }
    const struct msg_generate *g = &msg->generate;
    r = prompt_make(&prompt, s->home, g, start, ret_refusal);
    if (r == REQUEST_OK) {
        r = request_fill(s, start, g, &prompt, ret_refusal);
    }
out:
    prompt_deinit(&prompt);
    free(msg);
    return r;
}
