/* From the client's generate frame to token ids and parameters. The broker has checked the frame's
 * form and the peer's rights; what only the model can tell (template, vocabulary, length) is told
 * here. */
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
#define HEAD_BYTES 16u /* a token; plain text has three to five */

_Static_assert(SEAM_SALT == KV_SALT, "the broker's salts are the cache's");

static int refuse(struct refusal *ret, enum error_code code, uint64_t have, uint64_t limit,
                  const char *fmt, ...) PRINTF_LIKE(5, 6);

static int refuse(struct refusal *ret, enum error_code code, uint64_t have, uint64_t limit,
                  const char *fmt, ...)
{
    va_list args;

    *ret = (struct refusal){.code = code, .have = have, .limit = limit};
    va_start(args, fmt);
    (void)vsnprintf(ret->text, sizeof(ret->text), fmt, args);
    va_end(args);
    return REQUEST_REFUSED;
}

/* A prompt on its way: malloc'ed ids without room for an answer yet. */
struct prompt {
    int32_t *ids; /* owned */
    size_t n;
};

static int tokenize(struct prompt *ret, const struct resident *m, struct strview text,
                    unsigned flags, struct refusal *ret_refusal)
{
    const struct vocab *vocab = model_vocab(m->model);
    /* A byte is at most three tokens (a broken one is read as U+FFFD), and a few are added. */
    size_t ids_max = text.n * 3 + 16;
    size_t n = 0;

    if (ids_max > MODEL_CTX_MAX) {
        ids_max = MODEL_CTX_MAX;
    }
    int32_t *ids = malloc(ids_max * sizeof(*ids));
    if (!ids) {
        return -ENOMEM;
    }
    const int r = vocab_tokenize(vocab, text.data, text.n, flags, ids, ids_max, &n);
    if (r == TOKENIZE_OK) {
        *ret = (struct prompt){.ids = ids, .n = n};
        return REQUEST_OK;
    }
    free(ids);
    if (r == TOKENIZE_FULL) {
        return refuse(ret_refusal, ERR_CONTEXT_TOO_LONG, ids_max + 1, m->n_ctx,
                      "the prompt has at least %zu tokens, the context has %" PRIu32, ids_max + 1,
                      m->n_ctx);
    }
    if (r == TOKENIZE_HARD) {
        return refuse(ret_refusal, ERR_BAD_REQUEST, 0, 0,
                      "the prompt is too hard to split into tokens");
    }
    return r;
}

/* Nobody's tokens wait for a megabyte that cannot fit anyway: of a text far beyond the context only
 * the head is read at first, and when that alone is twice too long, so is the whole. */
static int prompt_tokenize(struct prompt *ret, const struct resident *m, struct strview text,
                           unsigned flags, struct refusal *ret_refusal)
{
    const size_t head = (size_t)m->n_ctx * HEAD_BYTES;

    if (text.n > head) {
        const struct strview part = {.data = text.data, .n = head};
        const int r = tokenize(ret, m, part, flags, ret_refusal);
        if (r != REQUEST_OK) {
            return r;
        }
        const size_t n = ret->n;
        free(ret->ids);
        *ret = (struct prompt){0};
        if (n > 2 * (size_t)m->n_ctx) {
            return refuse(ret_refusal, ERR_CONTEXT_TOO_LONG, n, m->n_ctx,
                          "the prompt has at least %zu tokens (its first %zu bytes have), the "
                          "context has %" PRIu32,
                          n, head, m->n_ctx);
        }
    }
    return tokenize(ret, m, text, flags, ret_refusal);
}

static int prompt_chat(struct prompt *ret, const struct resident *m, const struct msg_generate *g,
                       struct refusal *ret_refusal)
{
    struct chat_message messages[MSG_MESSAGES_MAX];
    const struct vocab *vocab = model_vocab(m->model);
    const struct chat_options options = {
        .generation_prompt = true, .add_bos = vocab_adds_bos(vocab), .no_thinking = g->no_thinking};
    enum chat_template template = m->chat;
    struct diag diag = {0};
    char bos[TEXT_PIECE_MAX];
    size_t bos_n = 0, text_n = 0;
    char *text = NULL;

    if (g->chat_template.n > 0 && !chat_template_parse(g->chat_template, &template)) {
        return refuse(ret_refusal, ERR_BAD_REQUEST, 0, 0,
                      "chat_template: no template of this name is known; there is %s",
                      chat_template_names);
    }
    if (vocab_bos(vocab) >= 0) {
        bos_n = vocab_piece(vocab, vocab_bos(vocab), true, bos);
    }
    for (size_t i = 0; i < g->n_messages; i++) {
        messages[i] =
            (struct chat_message){.role = g->messages[i].role, .content = g->messages[i].content};
    }
    int r = chat_render(template, messages, g->n_messages, &options,
                        (struct strview){.data = bos, .n = bos_n}, &text, &text_n, &diag);
    if (r == CHAT_NO_TEMPLATE) {
        return refuse(ret_refusal, ERR_NO_TEMPLATE, 0, 0,
                      "%s; chat_template, in the request or in the model's section of the "
                      "configuration, can be %s",
                      m->info.has_chat_template ? "the model's chat template is not a known one"
                                                : "the model has no chat template",
                      chat_template_names);
    }
    if (r == CHAT_BAD_MESSAGES) {
        return refuse(ret_refusal, ERR_BAD_REQUEST, 0, 0, "messages: %s", diag.text);
    }
    if (r == CHAT_OK) {
        const struct strview view = {.data = text, .n = text_n};
        r = prompt_tokenize(ret, m, view, TOKENIZE_SPECIAL, ret_refusal);
        free(text);
    }
    return r;
}

static int prompt_ids(struct prompt *ret, const struct resident *m, const struct msg_generate *g,
                      struct refusal *ret_refusal)
{
    int32_t *ids = malloc(((size_t)g->ids.n + 1) * sizeof(*ids));

    if (!ids) {
        return -ENOMEM;
    }
    msg_ids_copy(&g->ids, ids);
    for (size_t i = 0; i < g->ids.n; i++) {
        if (ids[i] < 0 || (uint32_t)ids[i] >= m->info.n_vocab) {
            const int32_t id = ids[i];
            free(ids);
            return refuse(ret_refusal, ERR_BAD_REQUEST, (uint64_t)id, m->info.n_vocab,
                          "ids[%zu]: %d is not in the vocabulary", i, id);
        }
    }
    *ret = (struct prompt){.ids = ids, .n = g->ids.n};
    return REQUEST_OK;
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
    s->public_ = start->public_;
    s->reuse = start->public_ || (start->reuse && !is_public_salt(start->salt));
    if (!start->public_) {
        memcpy(s->salt, start->salt, sizeof(s->salt));
    }
    s->n_logprobs = g->n_logprobs < SAMPLER_LOGPROBS_MAX ? g->n_logprobs : SAMPLER_LOGPROBS_MAX;
    if (s->n_logprobs > 0) {
        /* The ids alone would bring no log-probabilities back. Computed anew they are the same ids. */
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
    switch (g->kind) {
    case PROMPT_TEXT:
        r = prompt_tokenize(&prompt, s->home, g->prompt, TOKENIZE_ADD_SPECIAL, ret_refusal);
        break;
    case PROMPT_CHAT:
        r = prompt_chat(&prompt, s->home, g, ret_refusal);
        break;
    case PROMPT_IDS:
        r = prompt_ids(&prompt, s->home, g, ret_refusal);
        break;
    default:
        r = refuse(ret_refusal, ERR_BAD_REQUEST, 0, 0, "a prompt of an unknown kind");
        break;
    }
    if (r == REQUEST_OK) {
        r = request_fill(s, start, g, &prompt, ret_refusal);
    }
out:
    free(prompt.ids);
    free(msg);
    return r;
}
