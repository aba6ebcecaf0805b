/* Opening models and running them: the outcomes of the engine become one line and an exit code. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/lab/lab.h"

int lab_open(const char *path, int *ret_fd)
{
    struct stat st;
    /* O_NONBLOCK: a named pipe must not hold us up before we have seen that it is one. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0) {
        return lab_errno(path, -errno);
    }
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        lab_error("%s: not a regular file", path);
        (void)close(fd);
        return LAB_NOINPUT;
    }
    *ret_fd = fd;
    return LAB_OK;
}

int lab_outcome(const char *path, int r, const struct diag *d)
{
    const char *why = d->set ? d->text : "no reason given";

    switch (r) {
    case MODEL_OK:
        return LAB_OK;
    case MODEL_MALFORMED:
        lab_error("%s: malformed: %s (at byte %llu)", path, why, (unsigned long long)d->offset);
        return LAB_DATA;
    case MODEL_UNSUPPORTED:
        lab_error("%s: unsupported: %s (at byte %llu)", path, why, (unsigned long long)d->offset);
        return LAB_UNAVAILABLE;
    case MODEL_STALE:
        lab_error("%s: %s: pack it again", path, why);
        return LAB_UNAVAILABLE;
    case MODEL_TOO_BIG:
        lab_error("%s: too big: %s (at byte %llu)", path, why, (unsigned long long)d->offset);
        return LAB_UNAVAILABLE;
    default:
        if (r < 0) {
            return lab_errno(path, r);
        }
        lab_error("%s: cannot be opened (outcome %d)", path, r);
        return LAB_DATA;
    }
}

int lab_pack(const char *path, int fd_in, int fd_out)
{
    const struct model_limits limits = {0};
    struct diag diag = {0};

    return lab_outcome(path, model_pack(fd_in, fd_out, &limits, &diag), &diag);
}

/* @backing: NULL: the weights stay where they are */
static int open_model(const char *path, const enum weights_backing *backing, struct model **ret,
                      double *ret_seconds)
{
    const struct model_limits limits = {0};
    struct model *model = NULL;
    struct diag diag = {0};
    int fd = -1;
    int r = lab_open(path, &fd);

    if (r != LAB_OK) {
        return r;
    }
    const uint64_t start = clock_now_ns();
    int outcome = model_is_packed(fd) ? model_open_packed(&model, fd, &diag)
                                      : model_open_gguf(&model, fd, &limits, &diag);
    if (outcome == MODEL_OK && backing) {
        outcome = model_bring_in(model, fd, *backing, &diag);
    }
    r = lab_outcome(path, outcome, &diag);
    if (r == LAB_OK) {
        *ret = model;
        model = NULL;
    }
    if (r == LAB_OK && ret_seconds) {
        *ret_seconds = (double)(clock_now_ns() - start) * 1e-9;
    }
    model_free(model);
    (void)close(fd);
    return r;
}

int lab_model(const char *path, struct model **ret, double *ret_seconds)
{
    return open_model(path, NULL, ret, ret_seconds);
}

int lab_model_to_run(const struct lab_args *a, struct model **ret, double *ret_seconds)
{
    return open_model(a->path, &a->weights, ret, ret_seconds);
}

int lab_vocab(const char *path, struct vocab **ret)
{
    struct diag diag = {0};
    int fd = -1;
    int r = lab_open(path, &fd);

    if (r == LAB_OK) {
        r = lab_outcome(path, vocab_open_gguf(ret, fd, &diag), &diag);
        (void)close(fd);
    }
    return r;
}

int lab_tokenize(const struct vocab *v, const char *text, size_t n, unsigned flags, int32_t **ret,
                 size_t *ret_n)
{
    /* A byte may become U+FFFD, which is three byte tokens; a SentencePiece vocabulary may put a
     * space mark in front, and BOS and EOS may join. */
    const size_t room = 3 * n + 16;
    int32_t *ids = calloc(room, sizeof(*ids));

    if (!ids) {
        return lab_errno("tokens", -ENOMEM);
    }
    const int r = vocab_tokenize(v, n ? text : "", n, flags, ids, room, ret_n);
    if (r == TOKENIZE_OK) {
        *ret = ids;
        return LAB_OK;
    }
    free(ids);
    if (r < 0) {
        return lab_errno("tokens", r);
    }
    lab_error("tokens: %s", r == TOKENIZE_FULL
                                ? "more of them than three to a byte"
                                : "the text passes the limit of the pattern matcher");
    return LAB_DATA;
}

/* ---- chat ---- */

#define MESSAGES_MAX 65536u

static bool field(const json_t *object, const char *name, struct strview *ret)
{
    const json_t *s = json_object_get(object, name);

    if (!json_is_string(s)) {
        return false;
    }
    *ret = (struct strview){.data = json_string_value(s), .n = json_string_length(s)};
    return true;
}

/* @ret: malloc'ed, views into @json; the caller frees */
static int messages_of(const json_t *json, struct chat_message **ret, size_t *ret_n)
{
    const size_t n = json_is_array(json) ? json_array_size(json) : 0;

    if (n == 0 || n > MESSAGES_MAX) {
        lab_error("messages: wants an array of 1 to %u objects with role and content",
                  MESSAGES_MAX);
        return LAB_DATA;
    }
    struct chat_message *messages = calloc(n, sizeof(*messages));
    if (!messages) {
        return lab_errno("messages", -ENOMEM);
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *one = json_array_get(json, i);
        if (!field(one, "role", &messages[i].role) ||
            !field(one, "content", &messages[i].content)) {
            lab_error("messages: number %zu lacks a role or content that is a string", i + 1);
            free(messages);
            return LAB_DATA;
        }
    }
    *ret = messages;
    *ret_n = n;
    return LAB_OK;
}

static int render(const struct lab_args *a, const struct model *model,
                  const struct chat_message *messages, size_t n_messages, bool generation_prompt,
                  char **ret, size_t *ret_n)
{
    const struct vocab *vocab = model_vocab(model);
    const struct chat_options options = {.generation_prompt = generation_prompt,
                                         .add_bos = vocab_adds_bos(vocab),
                                         .no_thinking = a->no_thinking};
    struct model_info info;
    struct diag diag = {0};
    char bos[TEXT_PIECE_MAX];
    size_t bos_n = 0;

    model_info(model, &info);
    enum chat_template t = info.chat;
    if (a->template && !chat_template_parse(strview_of(a->template), &t)) {
        lab_error("--template: none is called %s; there is %s", a->template, chat_template_names);
        return LAB_USAGE;
    }
    if (vocab_bos(vocab) >= 0) {
        bos_n = vocab_piece(vocab, vocab_bos(vocab), true, bos);
    }
    const int r = chat_render(t, messages, n_messages, &options,
                              (struct strview){.data = bos, .n = bos_n}, ret, ret_n, &diag);
    if (r == CHAT_OK) {
        return LAB_OK;
    }
    if (r < 0) {
        return lab_errno("chat template", r);
    }
    if (r == CHAT_NO_TEMPLATE) {
        lab_error("%s: %s; say which with --template: %s", a->path,
                  info.has_chat_template ? "its chat template is none that this engine knows"
                                         : "it has no chat template",
                  chat_template_names);
        return LAB_UNAVAILABLE;
    }
    lab_error("messages: %s", diag.set ? diag.text : "the template has no place for them");
    return LAB_DATA;
}

int lab_render(const struct lab_args *a, const struct model *model, const void *data, size_t n,
               bool generation_prompt, char **ret, size_t *ret_n)
{
    struct chat_message *messages = NULL;
    size_t n_messages = 0;
    json_t *json = json_parse("messages", data, n);

    if (!json) {
        return LAB_DATA;
    }
    int r = messages_of(json, &messages, &n_messages);
    if (r == LAB_OK) {
        r = render(a, model, messages, n_messages, generation_prompt, ret, ret_n);
    }
    free(messages);
    json_decref(json);
    return r;
}

/* ---- running ---- */

static int run_open(struct lab_run *run, const struct lab_args *a, const struct model *model,
                    const struct lab_need *need)
{
    const unsigned n_threads = (unsigned)a->threads;
    const struct engine_options options = {
        .cpu = a->cpu,
        .n_threads = n_threads,
        .n_threads_most = need->n_threads_most > n_threads ? need->n_threads_most : n_threads};
    const struct stepper_limits limits = {.n_tokens_max = need->n_tokens,
                                          .n_logits_max = need->n_logits};
    const size_t blocks = (need->n_ctx + KV_BLOCK - 1) / KV_BLOCK * need->n_seqs;

    int r = engine_new(&run->engine, &options);
    if (r == 0) {
        r = kv_pool_new(&run->pool, model, a->kv, blocks);
    }
    for (size_t i = 0; r == 0 && i < need->n_seqs; i++) {
        r = seq_new(&run->seqs[i], run->pool, need->n_ctx);
        run->n_seqs += r == 0;
    }
    if (r == 0) {
        r = stepper_new(&run->stepper, run->engine, model, &limits);
    }
    return r;
}

int lab_run_open(struct lab_run *ret, const struct lab_args *a, const struct model *model,
                 const struct lab_need *need)
{
    struct lab_run run = {0};
    const int r = run_open(&run, a, model, need);

    if (r != 0) {
        lab_run_close(&run);
        return lab_errno("engine", r < 0 ? r : -EINVAL);
    }
    *ret = run;
    return LAB_OK;
}

void lab_run_close(struct lab_run *run)
{
    stepper_free(run->stepper);
    for (size_t i = 0; i < run->n_seqs; i++) {
        seq_free(run->seqs[i]);
    }
    kv_pool_free(run->pool);
    engine_free(run->engine);
    *run = (struct lab_run){0};
}

int lab_check_head(const struct lab_args *a)
{
    if (a->head && strcmp(a->head, "auto") != 0 && strcmp(a->head, "full") != 0) {
        lab_error("--head: %s is none of auto, full", a->head);
        return LAB_USAGE;
    }
    return LAB_OK;
}

int lab_step(struct lab_run *run, struct step_item *items, size_t n_items)
{
    const int r = stepper_run(run->stepper, items, n_items, NULL);

    if (r == STEP_OK) {
        return LAB_OK;
    }
    if (r == STEP_KV_FULL) {
        lab_error("the context is full");
        return LAB_DATA;
    }
    return lab_errno("step", r < 0 ? r : -ECANCELED);
}

int lab_feed(struct lab_run *run, size_t seq_i, const int32_t *ids, size_t n, size_t chunk,
             const struct step_item *ask, const float **ret_logits)
{
    for (size_t at = 0; at < n;) {
        const size_t k = n - at < chunk ? n - at : chunk;
        const bool last = at + k == n;
        struct step_item item = {.seq = run->seqs[seq_i],
                                 .ids = ids + at,
                                 .n_ids = k,
                                 .n_logits = last && ret_logits ? 1 : 0};
        if (last && ask) {
            item.n_best = ask->n_best;
            item.also = ask->also;
            item.n_also = ask->n_also;
        }
        const int r = lab_step(run, &item, 1);
        if (r != LAB_OK) {
            return r;
        }
        at += k;
        if (last && ret_logits) {
            *ret_logits = item.logits;
        }
    }
    return LAB_OK;
}
