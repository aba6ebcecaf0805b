/* The broker's end of a seam, as plain blocking calls. A runner that says nothing for two minutes
 * has hung: SO_RCVTIMEO makes that a failure instead of a test that never ends. */
#include "tests/support/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/compiler.h"
#include "engine/engine.h"
#include "tests/support/runner_rig.h"

#define PATIENCE_S 120

void rig_exec(const char *program, const char *chunk, int seam)
{
    char path[4096], number[16];
    const char *build = getenv("ONEBIT_BUILD");
    const char *argv[] = {path, "--seam", number, "--threads", "2", "--chunk", chunk, NULL};

    if (!chunk) {
        argv[5] = NULL;
    }
    (void)snprintf(path, sizeof(path), "%s/%s", build ? build : "build", program);
    (void)snprintf(number, sizeof(number), "%d", seam);
    (void)execv(path, (char *const *)(uintptr_t)argv);
    _exit(127);
}

void rig_open(struct rig *rig, const char *program, const char *chunk)
{
    const struct timeval patience = {.tv_sec = PATIENCE_S};
    struct seam_message m;
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    rig->pid = fork();
    assert_true(rig->pid >= 0);
    if (rig->pid == 0) {
        (void)close(pair[0]);
        rig_exec(program, chunk, pair[1]);
    }
    (void)close(pair[1]);
    rig->fd = pair[0];
    assert_int_equal(setsockopt(rig->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
    frame_reader_init(&rig->in, FRAME_SEAM_BODY_MAX);
    buf_init(&rig->out, 2 * FRAME_SEAM_BODY_MAX);

    assert_true(rig_next(rig, &m));
    assert_int_equal(m.type, SEAM_HELLO);
    assert_true(strview_is(m.hello.pack_id, model_pack_id()));
    assert_int_equal(m.hello.n_threads, 2);
}

int rig_wait(struct rig *rig)
{
    int status = 0;

    assert_int_equal(waitpid(rig->pid, &status, 0), rig->pid);
    if (rig->fd >= 0) {
        (void)close(rig->fd);
    }
    frame_reader_deinit(&rig->in);
    buf_deinit(&rig->out);
    return status;
}

int rig_close(struct rig *rig)
{
    (void)close(rig->fd);
    rig->fd = -1;
    return rig_wait(rig);
}

void rig_send_bytes(struct rig *rig, const void *data, size_t n)
{
    size_t done = 0;

    while (done < n) {
        const ssize_t r = send(rig->fd, (const uint8_t *)data + done, n - done, MSG_NOSIGNAL);
        assert_true(r > 0);
        done += (size_t)r;
    }
}

void rig_send(struct rig *rig, const struct seam_message *m, const int32_t *ids, size_t n_ids)
{
    rig->out.n = 0;
    assert_int_equal(seam_put(&rig->out, m, ids, n_ids, NULL, 0), 0);
    rig_send_bytes(rig, rig->out.data, rig->out.n);
}

void rig_send_fds(struct rig *rig, const struct seam_message *m, const int *fds, size_t n_fds)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * 8)];
    } control = {0};

    rig->out.n = 0;
    assert_int_equal(seam_put(&rig->out, m, NULL, 0, NULL, 0), 0);
    struct iovec iov = {.iov_base = rig->out.data, .iov_len = rig->out.n};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = CMSG_SPACE(sizeof(int) * n_fds)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
    memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
    assert_int_equal(sendmsg(rig->fd, &msg, MSG_NOSIGNAL), rig->out.n);
}

void rig_plan(struct rig *rig, const uint64_t *run, size_t n)
{
    struct seam_message m = {.type = SEAM_PLAN, .plan = {.n_run = n}};

    memcpy(m.plan.run, run, n * sizeof(run[0]));
    rig_send(rig, &m, NULL, 0);
}

void rig_cancel(struct rig *rig, uint64_t seq)
{
    rig_send(rig, &(struct seam_message){.type = SEAM_CANCEL, .cancel = seq}, NULL, 0);
}

void rig_start(struct rig *rig, const struct rig_request *request)
{
    struct buf body;

    buf_init(&body, 2 * FRAME_BODY_MAX);
    assert_int_equal(
        message_put_generate(&body, 1, &request->generate, request->ids, request->n_ids), 0);
    struct seam_message m = {
        .type = SEAM_START,
        .start = {.seq = request->seq,
                  .model = request->model,
                  .seed = request->seed,
                  .request = {.data = (const char *)body.data + FRAME_HEADER,
                              .n = body.n - FRAME_HEADER},
                  .salt = {request->salt},
                  .reuse = request->salt != 0,
                  .public_ = request->public_,
                  .history_ids = request->history,
                  .n_history_ids = request->n_history_ids,
                  .n_history = request->n_history,
                  .want_ids = request->want_ids},
    };
    rig_send(rig, &m, request->resume, request->n_resume);
    buf_deinit(&body);
}

bool rig_next(struct rig *rig, struct seam_message *ret)
{
    static uint8_t data[65536];
    const uint8_t *body = NULL;
    struct diag diag = {0};
    size_t n = 0;
    int r;

    while ((r = frame_next(&rig->in, &body, &n)) == FRAME_MORE) {
        const ssize_t got = recv(rig->fd, data, sizeof(data), 0);
        if (got == 0 || (got < 0 && errno == ECONNRESET)) {
            return false;
        }
        assert_true(got > 0); /* EAGAIN: the runner hangs */
        assert_int_equal(frame_feed(&rig->in, data, (size_t)got), 0);
    }
    assert_int_equal(r, FRAME_OK);
    if (seam_read(ret, body, n, &diag) != SEAM_OK) {
        fail_msg("a report cannot be read: %s", diag.text);
    }
    return true;
}

void rig_load(struct rig *rig, const struct seam_load *load, int packed_fd, struct seam_loaded *ret)
{
    struct seam_message m;

    rig_send_fds(rig, &(struct seam_message){.type = SEAM_LOAD, .load = *load}, &packed_fd, 1);
    do {
        assert_true(rig_next(rig, &m));
        if (m.type == SEAM_LOAD_FAILED) {
            fail_msg("the load failed: %.*s", (int)m.failed.message.n, m.failed.message.data);
        }
    } while (m.type != SEAM_LOADED);
    assert_int_equal(m.loaded.model, load->model);
    if (ret) {
        *ret = m.loaded; /* its strings are gone with the next report */
    }
}

static struct rig_answer *answer_of(struct rig_answer *answers, size_t n, uint64_t seq)
{
    for (size_t i = 0; i < n; i++) {
        if (answers[i].seq == seq) {
            assert_false(answers[i].over); /* nothing comes after the end */
            return &answers[i];
        }
    }
    fail_msg("a report of a sequence nobody asked for");
    return NULL;
}

static void take_tokens(struct rig_answer *a, const struct seam_tokens *t)
{
    assert_true(a->started);
    assert_int_equal(t->n0, a->n);
    assert_true(a->n + t->ids.n <= RIG_IDS_MAX);
    assert_true(a->text_n + t->text.n <= RIG_TEXT_MAX);
    msg_ids_copy(&t->ids, a->ids + a->n);
    a->n += t->ids.n;
    if (t->text.n > 0) {
        memcpy(a->text + a->text_n, t->text.data, t->text.n);
        a->text_n += t->text.n;
    }
    a->n_logprobs += t->n_logprobs;
}

enum seam_type rig_take(struct rig *rig, struct rig_answer *answers, size_t n_answers)
{
    struct seam_message m;
    struct rig_answer *a;

    if (!rig_next(rig, &m)) {
        return SEAM_TYPES;
    }
    switch (m.type) {
    case SEAM_STARTED:
        a = answer_of(answers, n_answers, m.started.seq);
        assert_false(a->started);
        a->started = true;
        a->prompt_tokens = m.started.prompt_tokens;
        a->max_tokens = m.started.max_tokens;
        a->cached_tokens = m.started.cached_tokens;
        a->n_trimmed = m.started.n_trimmed;
        assert_true(m.started.ids.n <= RIG_IDS_MAX);
        msg_ids_copy(&m.started.ids, a->prompt_ids);
        a->n_prompt_ids = m.started.ids.n;
        break;
    case SEAM_PREFILL:
        answer_of(answers, n_answers, m.prefill.seq)->n_prefill++;
        assert_true(m.prefill.done < m.prefill.total);
        break;
    case SEAM_TOKENS:
        take_tokens(answer_of(answers, n_answers, m.tokens.seq), &m.tokens);
        break;
    case SEAM_FINISHED:
        a = answer_of(answers, n_answers, m.finished.seq);
        a->over = true;
        (void)snprintf(a->reason, sizeof(a->reason), "%.*s", (int)m.finished.reason.n,
                       m.finished.reason.data);
        assert_int_equal(m.finished.answer_tokens, a->n);
        assert_int_equal(m.finished.prompt_tokens, a->prompt_tokens);
        assert_true(m.finished.cached_tokens >= a->cached_tokens);
        a->cached_tokens = m.finished.cached_tokens;
        break;
    case SEAM_FAILED:
        a = answer_of(answers, n_answers, m.failed.seq);
        a->over = true;
        a->failed = m.failed.code;
        a->have = m.failed.have;
        a->limit = m.failed.limit;
        a->again = m.failed.again;
        assert_true(m.failed.message.n > 0);
        strview_copy(a->said, sizeof(a->said), m.failed.message);
        break;
    default:
        break;
    }
    return m.type;
}

void rig_finish(struct rig *rig, struct rig_answer *answers, size_t n_answers)
{
    for (;;) {
        size_t n_over = 0;
        for (size_t i = 0; i < n_answers; i++) {
            n_over += answers[i].over ? 1 : 0;
        }
        if (n_over == n_answers) {
            return;
        }
        assert_int_not_equal(rig_take(rig, answers, n_answers), SEAM_TYPES);
    }
}

void rig_ask(struct rig *rig, const struct rig_request *request, struct rig_answer *ret)
{
    memset(ret, 0, sizeof(*ret));
    ret->seq = request->seq;
    rig_start(rig, request);
    rig_plan(rig, &request->seq, 1);
    rig_finish(rig, ret, 1);
}

void rig_assert_same(const struct rig_answer *got, const struct rig_answer *want)
{
    assert_int_equal(got->failed, ERR_NONE);
    assert_int_equal(got->prompt_tokens, want->prompt_tokens);
    assert_int_equal(got->n, want->n);
    assert_memory_equal(got->ids, want->ids, want->n * sizeof(want->ids[0]));
    assert_int_equal(got->text_n, want->text_n);
    assert_memory_equal(got->text, want->text, want->text_n);
    assert_string_equal(got->reason, want->reason);
}

struct rig_request rig_prompt(uint64_t seq, uint32_t model, const char *prompt, uint32_t max_tokens)
{
    return (struct rig_request){
        .seq = seq,
        .model = model,
        .seed = seq * 1000 + 7,
        .generate = {.kind = PROMPT_TEXT,
                     .prompt = strview_of(prompt),
                     .class_ = CLASS_NORMAL,
                     .max_tokens = max_tokens,
                     .ignore_eos = true,
                     .has_temperature = true,
                     .temperature = 1.0f},
    };
}

/* ---- the same through the engine alone ---- */

struct direct {
    struct engine *engine;
    struct model *model;
    struct kv_pool *pool;
    struct seq *seq;
    struct stepper *stepper;
    struct sampler *sampler;
    struct textout *text;
};

static void direct_open(struct direct *d, int packed_fd, enum kv_type kv,
                        const struct msg_generate *g)
{
    const struct engine_options options = {.cpu = cpu_level_best(), .n_threads = 1};
    const struct stepper_limits limits = {.n_tokens_max = 512, .n_logits_max = 1};
    struct model_info info;

    *d = (struct direct){0};
    assert_int_equal(engine_new(&d->engine, &options), 0);
    assert_int_equal(model_open_packed(&d->model, packed_fd, NULL), MODEL_OK);
    model_info(d->model, &info);
    assert_int_equal(kv_pool_new(&d->pool, d->model, kv, 512 / KV_BLOCK), 0);
    const size_t n_ctx = info.n_ctx_train < 512 ? info.n_ctx_train : 512;
    assert_int_equal(seq_new(&d->seq, d->pool, n_ctx), 0);
    assert_int_equal(stepper_new(&d->stepper, d->engine, d->model, &limits), 0);
    assert_int_equal(sampler_new(&d->sampler, info.n_vocab), 0);
    assert_int_equal(textout_new(&d->text, model_vocab(d->model), g->stops, g->n_stops), 0);
}

static void direct_close(struct direct *d)
{
    textout_free(d->text);
    sampler_free(d->sampler);
    stepper_free(d->stepper);
    seq_free(d->seq);
    kv_pool_free(d->pool);
    model_free(d->model);
    engine_free(d->engine);
}

static void add_text(struct rig_answer *a, struct strview text)
{
    assert_true(a->text_n + text.n <= RIG_TEXT_MAX);
    if (text.n > 0) {
        memcpy(a->text + a->text_n, text.data, text.n);
        a->text_n += text.n;
    }
}

void rig_direct(int packed_fd, enum kv_type kv, const struct rig_request *request,
                struct rig_answer *ret)
{
    const struct msg_generate *g = &request->generate;
    const struct sampler_params params = {.temperature = g->temperature,
                                          .top_k = g->has_top_k ? g->top_k : 0,
                                          .top_p = g->has_top_p ? g->top_p : 1,
                                          .min_p = g->has_min_p ? g->min_p : 0,
                                          .repeat_penalty =
                                              g->has_repeat_penalty ? g->repeat_penalty : 1,
                                          .seed = request->seed};
    struct sampler_choice choice;
    struct strview text;
    struct direct d;
    int32_t ids[512];
    size_t n = 0, fed = 0;

    assert_int_equal(g->kind, PROMPT_TEXT);
    memset(ret, 0, sizeof(*ret));
    ret->seq = request->seq;
    ret->over = true;
    direct_open(&d, packed_fd, kv, g);
    assert_int_equal(vocab_tokenize(model_vocab(d.model), g->prompt.data, g->prompt.n,
                                    TOKENIZE_ADD_SPECIAL, ids, 512, &n),
                     TOKENIZE_OK);
    ret->prompt_tokens = (uint32_t)n;
    (void)snprintf(ret->reason, sizeof(ret->reason), "length");
    while (ret->n < g->max_tokens) {
        struct step_item item = {.seq = d.seq, .ids = ids + fed, .n_ids = n - fed, .n_logits = 1};
        assert_int_equal(stepper_run(d.stepper, &item, 1, NULL), STEP_OK);
        fed = n;
        assert_int_equal(sampler_pick(d.sampler, &params, item.logits, ids, n, n, 0, &choice),
                         SAMPLER_OK);
        if (!g->ignore_eos && vocab_is_end(model_vocab(d.model), choice.id)) {
            (void)snprintf(ret->reason, sizeof(ret->reason), "stop");
            break;
        }
        ids[n++] = ret->ids[ret->n++] = choice.id;
        const bool stopped = textout_feed(d.text, choice.id, &text);
        add_text(ret, text);
        if (stopped) {
            (void)snprintf(ret->reason, sizeof(ret->reason), "stop_string");
            direct_close(&d);
            return;
        }
    }
    textout_finish(d.text, &text);
    add_text(ret, text);
    direct_close(&d);
}
