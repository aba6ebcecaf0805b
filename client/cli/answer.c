/* answer: one generated answer, from request to end, for run and chat. */
#include "client/cli/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void answer_init(struct answer *a, struct talk *talk, struct output *output, bool verbose)
{
    *a = (struct answer){.talk = talk, .output = output, .verbose = verbose};
    buf_init(&a->text, ANSWER_BYTES_MAX);
}

void answer_deinit(struct answer *a)
{
    buf_deinit(&a->text);
    json_decref(a->ids);
    json_decref(a->logprobs);
    json_decref(a->end);
    a->ids = a->logprobs = a->end = NULL;
}

/* ---- what happens, on standard error ---- */

static void untell(struct answer *a)
{
    if (a->told) {
        (void)fprintf(stderr, "\r\033[K");
        a->told = false;
    }
}

/* A line that stays with --verbose; else one that the next takes the place of, on a terminal. It is
 * not shown once text stands on the same terminal. */
static void tell(struct answer *a, const char *text)
{
    char *safe = escape_line(text);

    if (safe && a->verbose) {
        (void)fprintf(stderr, "onebit: %s\n", safe);
    } else if (safe && isatty(STDERR_FILENO) && !(a->output && a->output->any)) {
        (void)fprintf(stderr, "\r\033[K%s", safe);
        a->told = true;
    }
    free(safe);
}

static void on_accepted(struct onebit_conn *conn, uint32_t id,
                        const struct onebit_accepted *accepted, void *user)
{
    struct answer *a = user;
    char text[512];

    (void)snprintf(a->session, sizeof(a->session), "%s", accepted->session);
    if (a->begins_session && a->session[0]) { /* its name is the only way back to it */
        a->begins_session = false;
        untell(a);
        complain("session %s", a->session);
    }
    if (accepted->position > 0) {
        (void)snprintf(text, sizeof(text), "request %" PRIu64 " waits, %" PRIu32 " ahead",
                       accepted->request, accepted->position);
        tell(a, text);
    } else if (a->verbose) {
        (void)snprintf(text, sizeof(text), "request %" PRIu64 " goes to %s", accepted->request,
                       accepted->model);
        tell(a, text);
    }
}

static void on_progress(struct onebit_conn *conn, uint32_t id,
                        const struct onebit_progress *progress, void *user)
{
    struct answer *a = user;
    char text[128];

    if (strcmp(progress->phase, "prefill") == 0 && !a->verbose) {
        return; /* usually over before it could be read */
    }
    if (progress->total > 0) {
        (void)snprintf(text, sizeof(text), "%s: %" PRIu64 " of %" PRIu64, progress->phase,
                       progress->done, progress->total);
    } else {
        (void)snprintf(text, sizeof(text), "%s%s%s", progress->phase,
                       progress->reason[0] ? ": " : "", progress->reason);
    }
    tell(a, text);
}

/* A wait that the daemon's refusal, or its loss, makes. Said in a line that stays: it may be
 * long. */
static void on_retry(struct onebit_conn *conn, uint32_t id, const struct onebit_retrying *retrying,
                     void *user)
{
    struct answer *a = user;
    const double s = (double)retrying->delay_ms / 1e3;

    untell(a);
    if (!a->verbose && !isatty(STDERR_FILENO)) {
        return;
    }
    if (s < 1) {
        complain("%s; trying again", retrying->failure->name);
    } else {
        complain("%s; trying again in %.0f s", retrying->failure->name, s);
    }
}

/* ---- the answer ---- */

int delta_json(const struct onebit_delta *delta, json_t *ids, json_t *logprobs)
{
    int failed = 0;

    for (size_t i = 0; ids && i < delta->n_ids; i++) {
        failed |= json_array_append_new(ids, json_integer(delta->ids[i]));
    }
    for (size_t i = 0; logprobs && delta->logprobs && i < delta->n_ids; i++) {
        const struct onebit_token_logprobs *token = &delta->logprobs[i];
        json_t *row = json_array();
        for (size_t k = 0; k < token->n; k++) {
            failed |= json_array_append_new(
                row, json_pack("{s:i, s:f}", "id", (int)token->alternatives[k].id, "logprob",
                               (double)token->alternatives[k].logprob));
        }
        failed |= json_array_append_new(logprobs, row);
    }
    return failed ? -ENOMEM : 0;
}

static void on_delta(struct onebit_conn *conn, uint32_t id, const struct onebit_delta *delta,
                     void *user)
{
    struct answer *a = user;

    untell(a);
    if (a->write_error || a->gather_error) {
        return;
    }
    a->gather_error = buf_append(&a->text, delta->text, delta->text_bytes);
    if (a->gather_error == 0) {
        a->gather_error = delta_json(delta, a->ids, a->logprobs);
    }
    if (a->output && delta->text_bytes > 0) {
        a->write_error = output_model(a->output, delta->text, delta->text_bytes);
    }
    if (a->gather_error || (a->write_error && a->write_error != -EINTR)) {
        talk_stop(a->talk); /* -EINTR: talk_wait() takes the signal, which stops */
    }
}

static void tell_speed(struct answer *a, const struct onebit_done *d)
{
    char text[256];
    const double seconds = (double)d->decode_us / 1e6;

    (void)snprintf(text, sizeof(text),
                   "%s: %" PRIu32 " tokens of prompt (%" PRIu32 " cached) in %.3f s, %" PRIu32
                   " of answer in %.3f s (%.1f/s), queued %.3f s, ended by %s, seed %" PRIu64,
                   d->model, d->prompt_tokens, d->cached_tokens, (double)d->prefill_us / 1e6,
                   d->answer_tokens, seconds, seconds > 0 ? d->answer_tokens / seconds : 0.0,
                   (double)d->queue_us / 1e6, d->finish_reason, d->seed);
    complain("%s", text);
    if (d->cached_answer) {
        complain("the answer was kept from an earlier, equal request");
    }
}

json_t *done_json(const struct onebit_done *d)
{
    char seed[24]; /* a number as far as jansson's integers reach */
    (void)snprintf(seed, sizeof(seed), "%" PRIu64, d->seed);
    json_t *seed_json =
        d->seed <= INT64_MAX ? json_integer((json_int_t)d->seed) : json_string(seed);

    json_t *all =
        json_pack("{s:s, s:{s:I, s:I, s:I}, s:{s:f, s:f, s:f}, s:o, s:I, s:s, s:s, s:s, s:s, s:s}",
                  "finish_reason", d->finish_reason,             /* */
                  "usage",                                       /* */
                  "prompt_tokens", (json_int_t)d->prompt_tokens, /* */
                  "cached_tokens", (json_int_t)d->cached_tokens, /* */
                  "answer_tokens", (json_int_t)d->answer_tokens, /* */
                  "timings",                                     /* */
                  "queue_ms", (double)d->queue_us / 1e3,         /* */
                  "prefill_ms", (double)d->prefill_us / 1e3,     /* */
                  "decode_ms", (double)d->decode_us / 1e3,       /* */
                  "seed", seed_json,                             /* */
                  "restarts", (json_int_t)d->restarts,           /* */
                  "model", d->model, "formats", d->formats, "quantization", d->quantization, "kv",
                  d->kv, "cpu", d->cpu);
    if (all && d->trimmed > 0 &&
        json_object_set_new(all, "trimmed", json_integer(d->trimmed)) != 0) {
        json_decref(all);
        return NULL;
    }
    if (all && d->cached_answer && json_object_set_new(all, "cached_answer", json_true()) != 0) {
        json_decref(all);
        return NULL;
    }
    return all;
}

static void on_done(struct onebit_conn *conn, uint32_t id, const struct onebit_done *done,
                    void *user)
{
    struct answer *a = user;

    untell(a);
    a->talk->waiting = false;
    a->talk->code = 0;
    if (a->wants_end) {
        a->end = done_json(done);
        a->gather_error = a->end ? a->gather_error : -ENOMEM;
    }
    if (a->output) {
        const int r = a->write_error ? a->write_error : output_end_line(a->output);
        a->write_error = r;
    }
    if (done->trimmed > 0) { /* the model has not seen what the person may think it has */
        complain("the session's oldest %" PRIu32 " messages were left out", done->trimmed);
    }
    if (a->verbose) {
        tell_speed(a, done);
    }
}

json_t *failure_json(const struct onebit_failure *f)
{
    return json_pack("{s:{s:s, s:i, s:s, s:s, s:b, s:I, s:I, s:I}}", "error", "name", f->name,
                     "number", (int)f->number, "message", f->message, "hint", f->hint, "retryable",
                     f->retryable, "retry_after_ms", (json_int_t)f->retry_after_ms, "have",
                     (json_int_t)f->have, "limit", (json_int_t)f->limit);
}

static void on_error(struct onebit_conn *conn, uint32_t id, const struct onebit_failure *failure,
                     void *user)
{
    struct answer *a = user;

    untell(a);
    a->talk->waiting = false;
    a->talk->code = failure->code;
    if (a->output && !a->write_error) {
        a->write_error = output_end_line(a->output);
    }
    if (a->wants_end) {
        a->end = failure_json(failure);
    }
    if (!a->talk->signalled && a->talk->until_ns == 0) { /* else we asked for this end */
        complain_failure(failure);
    }
}

int answer_get(struct answer *a, const struct onebit_request *request)
{
    struct talk *t = a->talk;
    struct onebit_handler handler;

    onebit_handler_init(&handler);
    handler.accepted = on_accepted;
    handler.progress = on_progress;
    handler.delta = on_delta;
    handler.done = on_done;
    handler.error = on_error;
    handler.retry = on_retry;
    const int r = onebit_generate(t->conn, request, &handler, a, &t->id);
    if (r != 0) {
        complain("the request cannot be sent: %s", r == -E2BIG ? "it is too long"
                                                   : r < 0     ? strerror(-r)
                                                               : onebit_error_info(r)->meaning);
        return failure_exit(r);
    }
    a->begins_session = request->session && !*request->session;
    t->waiting = true;
    t->code = 0;
    talk_wait(t);
    untell(a);
    return 0;
}

int print_json(json_t *value, int signal_fd)
{
    struct output o;

    output_init(&o, signal_fd);
    const size_t flags = JSON_REAL_PRECISION(15) | JSON_ENCODE_ANY |
                         (o.tty ? JSON_INDENT(2) | JSON_ENSURE_ASCII : JSON_COMPACT);
    char *text = value ? json_dumps(value, flags) : NULL;
    json_decref(value);
    if (!text) {
        complain("out of memory");
        return EXIT_SOFTWARE;
    }
    int r = output_bytes(&o, text, strlen(text));
    if (r == 0) {
        r = output_end_line(&o);
    }
    free(text);
    return r == -EINTR ? 0 : output_exit(r); /* -EINTR: the caller takes the signal */
}
