/* The ids of a request's prompt: a text tokenized, a chat rendered by the model's template and
 * tokenized, or ids as they are.
 *
 * A chat that goes on. Tokenizing an answer's text need not give the ids that were sampled, and
 * other ids would be another prompt: nothing of the KV cache would fit, and the model would read
 * what it did not write. So a session brings the ids of its last prompt and answer. They stand for
 * the text that these had; where the whole chat's text begins with exactly that text, only the rest
 * is tokenized and put behind them. Templates that write an old answer otherwise than it was given
 * (qwen3 drops the thoughts) are tokenized whole. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/wipe.h"
#include "daemon/runner/runner.h"
#include "ipc/message.h"

#define HEAD_BYTES 16u /* a token; plain text has three to five */

/* A chat on its way to text. */
struct chat {
    const struct resident *m;     /* borrowed */
    const struct msg_generate *g; /* borrowed */
    enum chat_template template;
    bool generation_prompt;
    size_t n_system; /* messages at the beginning that are always there */
};

struct text {
    char *data; /* owned */
    size_t n;
};

void prompt_deinit(struct prompt *p)
{
    wipe_free(p->ids, p->n * sizeof(*p->ids));
    *p = (struct prompt){0};
}

/* ---- text to ids ---- */

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
    wipe_free(ids, ids_max * sizeof(*ids));
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
        prompt_deinit(ret);
        if (n > 2 * (size_t)m->n_ctx) {
            return refuse(ret_refusal, ERR_CONTEXT_TOO_LONG, n, m->n_ctx,
                          "the prompt has at least %zu tokens (its first %zu bytes have), the "
                          "context has %" PRIu32,
                          n, head, m->n_ctx);
        }
    }
    return tokenize(ret, m, text, flags, ret_refusal);
}

/* ---- a chat to text ---- */

/* The system's messages, and from..to of the others. */
static int chat_text(struct text *ret, const struct chat *c, size_t from, size_t to,
                     bool generation_prompt, struct refusal *ret_refusal)
{
    struct chat_message messages[MSG_MESSAGES_MAX];
    const struct vocab *vocab = model_vocab(c->m->model);
    const struct chat_options options = {.generation_prompt = generation_prompt,
                                         .add_bos = vocab_adds_bos(vocab),
                                         .no_thinking = c->g->no_thinking};
    struct diag diag = {0};
    char bos[TEXT_PIECE_MAX];
    size_t bos_n = 0, n = 0;

    if (vocab_bos(vocab) >= 0) {
        bos_n = vocab_piece(vocab, vocab_bos(vocab), true, bos);
    }
    for (size_t i = 0; i < to; i++) {
        if (i < c->n_system || i >= from) {
            const struct msg_chat_message *m = &c->g->messages[i];
            messages[n++] = (struct chat_message){.role = m->role, .content = m->content};
        }
    }
    const int r =
        chat_render(c->template, messages, n, &options, (struct strview){.data = bos, .n = bos_n},
                    &ret->data, &ret->n, &diag);
    if (r == CHAT_NO_TEMPLATE) {
        return refuse(ret_refusal, ERR_NO_TEMPLATE, 0, 0,
                      "%s; chat_template, in the request or in the model's section of the "
                      "configuration, can be %s",
                      c->m->info.has_chat_template ? "the model's chat template is not a known one"
                                                   : "the model has no chat template",
                      chat_template_names);
    }
    if (r == CHAT_BAD_MESSAGES) {
        return refuse(ret_refusal, ERR_BAD_REQUEST, 0, 0, "messages: %s", diag.text);
    }
    return r == CHAT_OK ? REQUEST_OK : r;
}

static int chat_whole(struct prompt *ret, const struct chat *c, size_t from,
                      struct refusal *ret_refusal)
{
    struct text text = {0};
    int r = chat_text(&text, c, from, c->g->n_messages, c->generation_prompt, ret_refusal);

    if (r == REQUEST_OK) {
        const struct strview view = {.data = text.data, .n = text.n};
        r = prompt_tokenize(ret, c->m, view, TOKENIZE_SPECIAL, ret_refusal);
    }
    wipe_free(text.data, text.n);
    return r;
}

/* ---- a chat that goes on ---- */

static bool ids_known(const struct resident *m, const int32_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || (uint32_t)ids[i] >= m->info.n_vocab) {
            return false;
        }
    }
    return true;
}

static int join(struct prompt *rest, const struct resident *m, const struct msg_ids *history,
                struct refusal *ret_refusal)
{
    const size_t n = (size_t)history->n + rest->n;
    int32_t *ids = malloc(n * sizeof(*ids));

    if (!ids) {
        return -ENOMEM;
    }
    msg_ids_copy(history, ids);
    if (!ids_known(m, ids, history->n)) {
        wipe_free(ids, n * sizeof(*ids));
        return refuse(ret_refusal, ERR_INTERNAL, 0, 0,
                      "a session's ids are not of this vocabulary");
    }
    memcpy(ids + history->n, rest->ids, rest->n * sizeof(*ids));
    prompt_deinit(rest);
    *rest = (struct prompt){.ids = ids, .n = n};
    return REQUEST_OK;
}

/* The session's ids and what comes behind them. *ret_done stays false where they do not serve. */
static int chat_continue(struct prompt *ret, const struct chat *c, const struct seam_start *start,
                         bool *ret_done, struct refusal *ret_refusal)
{
    const size_t n = start->n_history;
    struct text before = {0}, whole = {0};

    if (start->history.n == 0 || n < 2 || n > c->g->n_messages ||
        !strview_is(c->g->messages[n - 1].role, "assistant")) {
        return REQUEST_OK;
    }
    const struct strview answer = c->g->messages[n - 1].content;
    int r = chat_text(&before, c, 0, n - 1, true, ret_refusal);
    if (r == REQUEST_OK) {
        r = chat_text(&whole, c, 0, c->g->n_messages, c->generation_prompt, ret_refusal);
    }
    if (r == REQUEST_OK && whole.n >= before.n && whole.n - before.n >= answer.n &&
        memcmp(whole.data, before.data, before.n) == 0 &&
        (answer.n == 0 || memcmp(whole.data + before.n, answer.data, answer.n) == 0)) {
        const size_t at = before.n + answer.n;
        const struct strview rest = {.data = whole.data + at, .n = whole.n - at};
        r = prompt_tokenize(ret, c->m, rest, TOKENIZE_SPECIAL, ret_refusal);
        if (r == REQUEST_OK) {
            r = join(ret, c->m, &start->history, ret_refusal);
        }
        *ret_done = true;
    }
    wipe_free(before.data, before.n);
    wipe_free(whole.data, whole.n);
    return r;
}

/* ---- leaving out what does not fit ---- */

/* Room for the answer that trimming is to leave: what is asked, else an eighth of the context; and
 * once something is left out, a quarter more, so that not every further turn leaves out the next
 * one, which would change the prompt's beginning each time. */
static size_t room_wanted(const struct chat *c, bool trimming)
{
    const size_t n_ctx = c->m->n_ctx;

    return (c->g->max_tokens > 0 ? c->g->max_tokens : n_ctx / 8) + (trimming ? n_ctx / 4 : 0);
}

static bool leaves(const struct chat *c, int r, const struct prompt *p,
                   const struct refusal *refusal, bool trimming)
{
    if (r == REQUEST_REFUSED) {
        return refusal->code != ERR_CONTEXT_TOO_LONG; /* anything else trimming does not mend */
    }
    return p->n + room_wanted(c, trimming) <= c->m->n_ctx;
}

/* Where turns begin, but for the first: at a user's messages. Return: how many. */
static size_t turns_of(const struct chat *c, size_t *starts)
{
    size_t n = 0;

    for (size_t i = c->n_system + 1; i < c->g->n_messages; i++) {
        if (strview_is(c->g->messages[i].role, "user")) {
            starts[n++] = i;
        }
    }
    return n;
}

/* With so few turns left out that it fits; with the last turn alone, should that not fit either. */
static int chat_trim(struct prompt *ret, const struct chat *c, struct refusal *ret_refusal)
{
    size_t starts[MSG_MESSAGES_MAX];
    size_t low = 0, high = turns_of(c, starts);
    int r = REQUEST_OK;

    if (high == 0) {
        return chat_whole(ret, c, 0, ret_refusal);
    }
    for (high--;
         low < high;) { /* the first that fits, of low..high: the last one is taken anyway */
        const size_t middle = low + (high - low) / 2;
        r = chat_whole(ret, c, starts[middle], ret_refusal);
        if (r < 0) {
            return r;
        }
        const bool fits = leaves(c, r, ret, ret_refusal, true);
        prompt_deinit(ret);
        if (fits) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    r = chat_whole(ret, c, starts[low], ret_refusal);
    ret->n_trimmed = (uint32_t)(starts[low] - c->n_system);
    return r;
}

static int prompt_chat(struct prompt *ret, const struct resident *m, const struct msg_generate *g,
                       const struct seam_start *start, struct refusal *ret_refusal)
{
    struct chat c = {.m = m, .g = g, .template = m->chat, .generation_prompt = !start->public_};
    bool done = false;

    if (g->chat_template.n > 0 && !chat_template_parse(g->chat_template, &c.template)) {
        return refuse(ret_refusal, ERR_BAD_REQUEST, 0, 0,
                      "chat_template: no template of this name is known; there is %s",
                      chat_template_names);
    }
    while (c.n_system < g->n_messages && strview_is(g->messages[c.n_system].role, "system")) {
        c.n_system++;
    }
    int r = chat_continue(ret, &c, start, &done, ret_refusal);
    if (r == REQUEST_OK && !done) {
        r = chat_whole(ret, &c, 0, ret_refusal);
    }
    if (r < 0 || !g->trim || leaves(&c, r, ret, ret_refusal, false)) {
        return r;
    }
    prompt_deinit(ret);
    return chat_trim(ret, &c, ret_refusal);
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
            wipe_free(ids, (size_t)g->ids.n * sizeof(*ids));
            return refuse(ret_refusal, ERR_BAD_REQUEST, (uint64_t)id, m->info.n_vocab,
                          "ids[%zu]: %d is not in the vocabulary", i, id);
        }
    }
    *ret = (struct prompt){.ids = ids, .n = g->ids.n};
    return REQUEST_OK;
}

int prompt_make(struct prompt *ret, const struct resident *m, const struct msg_generate *g,
                const struct seam_start *start, struct refusal *ret_refusal)
{
    switch (g->kind) {
    case PROMPT_TEXT:
        return prompt_tokenize(ret, m, g->prompt, TOKENIZE_ADD_SPECIAL, ret_refusal);
    case PROMPT_CHAT:
        return prompt_chat(ret, m, g, start, ret_refusal);
    case PROMPT_IDS:
        return prompt_ids(ret, m, g, ret_refusal);
    default:
        return refuse(ret_refusal, ERR_BAD_REQUEST, 0, 0, "a prompt of an unknown kind");
    }
}
