/* watch: see watch.h. */
#include "tests/unit/client/watch.h"

#include "tests/support/test.h"

#include <stdio.h>
#include <string.h>

#include "base/compiler.h"

static void mark(struct seen *s, char letter)
{
    const size_t n = strlen(s->order);

    assert_true(n + 1 < sizeof(s->order));
    s->order[n] = letter;
}

static void on_accepted(struct onebit_conn *conn, uint32_t id,
                        const struct onebit_accepted *accepted, void *user)
{
    struct seen *s = user;

    mark(s, 'a');
    s->request = accepted->request;
    snprintf(s->model, sizeof(s->model), "%s", accepted->model);
}

static void on_progress(struct onebit_conn *conn, uint32_t id,
                        const struct onebit_progress *progress, void *user)
{
    mark(user, 'p');
    assert_string_equal(progress->phase, "prefill");
    assert_int_equal(progress->done, 3);
    assert_int_equal(progress->total, 7);
}

static void on_delta(struct onebit_conn *conn, uint32_t id, const struct onebit_delta *delta,
                     void *user)
{
    struct seen *s = user;

    mark(s, 't');
    strncat(s->text, delta->text, sizeof(s->text) - strlen(s->text) - 1);
    assert_int_equal(delta->first, s->n_ids);
    for (size_t i = 0; i < delta->n_ids; i++) {
        s->ids[s->n_ids++] = delta->ids[i];
    }
    if (s->in_delta) {
        s->in_delta_gave = s->in_delta(conn, id);
        s->in_delta = NULL;
    }
}

static void on_done(struct onebit_conn *conn, uint32_t id, const struct onebit_done *done,
                    void *user)
{
    struct seen *s = user;

    mark(s, 'd');
    s->ended = true;
    s->answer_tokens = done->answer_tokens;
    s->retries = done->retries;
    snprintf(s->cpu, sizeof(s->cpu), "%s", done->cpu);
}

static void on_error(struct onebit_conn *conn, uint32_t id, const struct onebit_failure *failure,
                     void *user)
{
    struct seen *s = user;

    mark(s, 'e');
    s->ended = true;
    s->code = failure->code;
    s->retries = failure->retries;
    s->have = failure->have;
    s->limit = failure->limit;
    s->retry_after_ms = failure->retry_after_ms;
    snprintf(s->name, sizeof(s->name), "%s", failure->name);
    snprintf(s->message, sizeof(s->message), "%s", failure->message);
    snprintf(s->hint, sizeof(s->hint), "%s", failure->hint);
}

static void on_retry(struct onebit_conn *conn, uint32_t id, const struct onebit_retrying *retrying,
                     void *user)
{
    struct seen *s = user;

    mark(s, 'r');
    assert_int_equal(retrying->failure->retries, s->n_retries);
    assert_true(s->n_retries < ARRAY_SIZE(s->delays));
    s->delays[s->n_retries++] = retrying->delay_ms;
    s->code = retrying->failure->code;
}

struct onebit_handler watch(void)
{
    struct onebit_handler h;

    onebit_handler_init(&h);
    h.accepted = on_accepted;
    h.progress = on_progress;
    h.delta = on_delta;
    h.done = on_done;
    h.error = on_error;
    h.retry = on_retry;
    return h;
}

struct onebit_request ask(const char *prompt)
{
    struct onebit_request r;

    onebit_request_init(&r);
    r.prompt = prompt;
    return r;
}

struct onebit_conn *connected(const struct fake *f)
{
    struct onebit_retry never = {.size = sizeof(never)};
    struct onebit_conn *conn = NULL;

    assert_int_equal(onebit_connect(&conn, fake_path(f)), 0);
    assert_int_equal(onebit_set_retry(conn, &never), 0);
    return conn;
}
