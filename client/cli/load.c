/* load: many requests on a few connections, from one loop. Every event is stamped when its callback
 * runs; this process does nothing else meanwhile, so a stamp is late by one wake-up at most.
 *
 * Prompts are token ids drawn from a seed: their length is exact whatever the tokenizer does, and
 * no two share a beginning unless they are meant to. */
#include "client/cli/load.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fnv.h"

#define ID_FIRST 32u  /* ids from here are ordinary tokens in every vocabulary that we know */
#define ID_COUNT 224u /* and there is none so small that it ends before 256 */
#define DEADLINE_MS 86400000u /* a slow board takes hours for fifty long prompts */
#define LOST_S 60u            /* a verb that is answered at once is not answered */
#define SETTLE_NS (10 * NS_PER_S)

void shot_deinit(struct shot *s)
{
    sample_deinit(&s->gaps);
}

void shot_forget(struct shot *s)
{
    struct sample gaps = s->gaps;

    sample_clear(&gaps);
    *s = (struct shot){.prompt = s->prompt,
                       .answer = s->answer,
                       .request_class = s->request_class,
                       .seed = s->seed,
                       .reuse = s->reuse,
                       .due_ns = s->due_ns,
                       .cancel_at = s->cancel_at,
                       .on_end = s->on_end,
                       .user = s->user,
                       .gaps = gaps};
}

double shot_first_ms(const struct shot *s)
{
    const uint64_t from = s->due_ns ? s->due_ns : s->sent_ns;

    return s->first_ns ? (double)(s->first_ns - from) / 1e6 : (double)NAN;
}

void load_init(struct load *l, struct talk *t, const char *socket, const char *model)
{
    *l = (struct load){.talk = t, .socket = socket, .model = model};
}

void load_deinit(struct load *l)
{
    for (size_t i = 0; i < LANES_MAX; i++) {
        load_close(l, i);
    }
    json_decref(l->what);
    l->what = NULL;
}

int load_open(struct load *l, size_t lane)
{
    struct talk t = {.signal_fd = -1};
    const int r = talk_connect(&t, l->socket);

    if (r == 0) {
        load_close(l, lane);
        l->lanes[lane] = t.conn;
        talk_never_again(t.conn);
    }
    return r;
}

void load_close(struct load *l, size_t lane)
{
    onebit_disconnect(l->lanes[lane]);
    l->lanes[lane] = NULL;
}

/* ---- what is seen of a shot ---- */

static void cancel(struct onebit_conn *conn, struct shot *s, enum cancel_at now)
{
    if (s->cancel_at == now && s->cancelled_ns == 0 && onebit_cancel(conn, s->id) == 0) {
        s->cancelled_ns = clock_now_ns();
    }
}

static void on_accepted(struct onebit_conn *conn, uint32_t id,
                        const struct onebit_accepted *accepted, void *user)
{
    struct shot *s = user;

    s->accepted_ns = clock_now_ns();
    cancel(conn, s, CANCEL_WAITING);
}

static void on_progress(struct onebit_conn *conn, uint32_t id,
                        const struct onebit_progress *progress, void *user)
{
    struct shot *s = user;

    if (strcmp(progress->phase, "prefill") == 0 && progress->done > 0) {
        s->prefill_ns = s->prefill_ns ? s->prefill_ns : clock_now_ns();
        cancel(conn, s, CANCEL_PREFILL);
    }
}

static void on_delta(struct onebit_conn *conn, uint32_t id, const struct onebit_delta *delta,
                     void *user)
{
    struct shot *s = user;
    const uint64_t now = clock_now_ns();

    for (size_t i = 0; i < delta->n_ids; i++) {
        if (s->last_ns && sample_add(&s->gaps, (double)(now - s->last_ns) / 1e6) != 0) {
            s->load->error = EXIT_SOFTWARE;
            complain("out of memory");
        }
        s->first_ns = s->first_ns ? s->first_ns : now;
        s->last_ns = now;
        s->n_tokens++;
        const uint32_t token = (uint32_t)delta->ids[i];
        const uint8_t bytes[] = {(uint8_t)token, (uint8_t)(token >> 8), (uint8_t)(token >> 16),
                                 (uint8_t)(token >> 24)};
        s->digest = fnv_add(s->digest, bytes, sizeof(bytes));
    }
    if (s->n_tokens > 2) {
        cancel(conn, s, CANCEL_DECODE);
    }
}

static void end(struct shot *s, int code)
{
    s->end_ns = clock_now_ns();
    s->flying = false;
    s->code = code;
    if (s->on_end) {
        s->on_end(s, s->user);
    }
}

static void on_done(struct onebit_conn *conn, uint32_t id, const struct onebit_done *done,
                    void *user)
{
    struct shot *s = user;

    if (!s->load->what) {
        s->load->what =
            json_pack("{s:s, s:s, s:s, s:s, s:s}", "model", done->model, "formats", done->formats,
                      "quantization", done->quantization, "kv", done->kv, "cpu", done->cpu);
    }
    s->cached_tokens = done->cached_tokens;
    s->queue_us = done->queue_us;
    end(s, 0);
}

static void on_error(struct onebit_conn *conn, uint32_t id, const struct onebit_failure *failure,
                     void *user)
{
    struct shot *s = user;

    s->retry_after_ms = failure->retry_after_ms;
    const bool expected = (failure->code == ONEBIT_ERR_CANCELLED && s->cancelled_ns) ||
                          (failure->code == ONEBIT_ERR_QUEUE_FULL && s->load->crowded);
    if (!expected && s->load->error == 0) {
        complain_failure(failure);
        s->load->error = failure_exit(failure->code);
    }
    end(s, failure->code);
}

int load_fire(struct load *l, size_t lane, struct shot *s)
{
    struct dice d = {s->seed};
    struct onebit_request request;
    struct onebit_handler handler;
    int r = l->lanes[lane] ? 0 : load_open(l, lane);

    if (r != 0) {
        return r;
    }
    int32_t *ids = malloc((s->prompt + 1) * sizeof(*ids));
    if (!ids) {
        complain("out of memory");
        return EXIT_SOFTWARE;
    }
    for (uint32_t i = 0; i < s->prompt; i++) {
        ids[i] = (int32_t)(ID_FIRST + dice_below(&d, ID_COUNT));
    }
    onebit_request_init(&request);
    request.model = l->model;
    request.ids = ids;
    request.n_ids = s->prompt;
    request.request_class = s->request_class;
    request.max_tokens = s->answer;
    request.ignore_eos = true;
    request.no_cache = !s->reuse;
    request.has = ONEBIT_HAS_TEMPERATURE | ONEBIT_HAS_DEADLINE; /* greedy, and patient */
    request.deadline_ms = DEADLINE_MS;
    onebit_handler_init(&handler);
    handler.accepted = on_accepted;
    handler.progress = on_progress;
    handler.delta = on_delta;
    handler.done = on_done;
    handler.error = on_error;
    shot_forget(s);
    s->load = l;
    s->lane = lane;
    s->digest = FNV_START;
    s->sent_ns = clock_now_ns();
    s->flying = true;
    r = onebit_generate(l->lanes[lane], &request, &handler, s, &s->id);
    free(ids);
    if (r == 0) {
        return 0;
    }
    s->flying = false;
    if (r != -EAGAIN) {
        complain("a request cannot be sent: %s",
                 r < 0 ? strerror(-r) : onebit_error_info(r)->meaning);
        r = failure_exit(r);
    }
    return r;
}

/* ---- the loop ---- */

/* Send and read on one lane. */
static int dispatch(struct load *l, size_t lane)
{
    const int r = onebit_dispatch(l->lanes[lane], 0);

    if (r == 0 || r == -EINTR) {
        return l->error;
    }
    if (r ==
        ONEBIT_ERR_TIMEOUT) { /* it had nothing to do for a while; its next shot opens it anew */
        load_close(l, lane);
        return l->error;
    }
    complain("the daemon closed the connection: %s",
             r < 0 ? strerror(-r) : onebit_error_info(r)->meaning);
    l->error = failure_exit(r);
    return l->error;
}

static int wait_ms(uint64_t until_ns)
{
    const uint64_t now = clock_now_ns();

    return now >= until_ns ? 0 : (int)((until_ns - now + NS_PER_MS - 1) / NS_PER_MS);
}

int load_turn(struct load *l, uint64_t until_ns)
{
    struct pollfd fds[LANES_MAX + 1] = {{.fd = l->talk->signal_fd, .events = POLLIN}};

    for (size_t i = 0; i < LANES_MAX; i++) {
        fds[1 + i].fd = -1;
        if (l->lanes[i]) {
            fds[1 + i].fd = onebit_get_fd(l->lanes[i]);
            fds[1 + i].events = onebit_wants(l->lanes[i]);
        }
    }
    if (poll(fds, LANES_MAX + 1, wait_ms(until_ns)) < 0 && errno != EINTR) {
        complain("cannot wait: %s", strerror(errno));
        l->error = EXIT_SYSTEM;
    }
    if (l->error == 0 && fds[0].revents && talk_signal(l->talk)) {
        l->error = EXIT_SIGNAL + l->talk->signalled;
    }
    for (size_t i = 0; i < LANES_MAX && l->error == 0; i++) {
        if (fds[1 + i].revents && l->lanes[i]) {
            (void)dispatch(l, i);
        }
    }
    return l->error;
}

int load_sleep(struct load *l, uint64_t until_ns)
{
    int r = l->error;

    while (r == 0 && clock_now_ns() < until_ns) {
        r = load_turn(l, until_ns);
    }
    return r;
}

int load_land(struct load *l, const struct shot *s, unsigned patience_s)
{
    const uint64_t until = clock_now_ns() + patience_s * NS_PER_S;
    int r = l->error;

    while (r == 0 && s->flying) {
        r = load_turn(l, until);
        if (r == 0 && s->flying && clock_now_ns() >= until) {
            complain("a request has not ended in %u s", patience_s);
            r = l->error = EXIT_UNAVAILABLE;
        }
    }
    return r;
}

/* ---- verbs that are answered at once ---- */

struct asked {
    struct shot shot; /* for its end */
    char *json;       /* owned */
    bool wanted;
};

static void on_told(struct onebit_conn *conn, uint32_t id, const struct onebit_done *done,
                    void *user)
{
    struct asked *a = user;

    if (a->wanted && done->result) {
        a->json = strndup(done->result, done->result_bytes);
    }
    end(&a->shot, 0);
}

static void on_refused(struct onebit_conn *conn, uint32_t id, const struct onebit_failure *failure,
                       void *user)
{
    struct asked *a = user;

    if (a->wanted || failure->code != ONEBIT_ERR_UNSUPPORTED) {
        complain_failure(failure);
        a->shot.load->error = failure_exit(failure->code);
    }
    end(&a->shot, failure->code);
}

int load_ask(struct load *l, size_t lane, enum onebit_verb verb, double *ret_ms, char **ret_json)
{
    struct asked a = {.shot = {.load = l, .flying = true}, .wanted = ret_json != NULL};
    struct onebit_handler handler;

    onebit_handler_init(&handler);
    handler.done = on_told;
    handler.error = on_refused;
    int r = l->lanes[lane] ? 0 : load_open(l, lane);
    if (r != 0) {
        return l->error = r;
    }
    a.shot.sent_ns = clock_now_ns();
    r = onebit_ask(l->lanes[lane], verb, NULL, &handler, &a, NULL);
    if (r != 0) {
        complain("a request cannot be sent: %s",
                 r < 0 ? strerror(-r) : onebit_error_info(r)->meaning);
        return l->error = failure_exit(r);
    }
    r = load_land(l, &a.shot, LOST_S);
    if (a.shot.flying) { /* its callbacks would come to memory that is gone */
        load_close(l, lane);
    }
    *ret_ms = a.shot.code == 0 ? (double)(a.shot.end_ns - a.shot.sent_ns) / 1e6 : (double)NAN;
    if (r == 0 && ret_json && !a.json) {
        complain("the daemon's answer cannot be read");
        r = EXIT_PROTOCOL;
    }
    if (r == 0 && ret_json) {
        *ret_json = a.json;
    } else {
        free(a.json);
    }
    return r;
}

int load_settle(struct load *l, size_t lane)
{
    const uint64_t until = clock_now_ns() + SETTLE_NS;
    json_int_t busy = 1;
    int r = 0;

    while (r == 0 && busy > 0 && clock_now_ns() < until) {
        char *text = NULL;
        double ms;
        r = load_ask(l, lane, ONEBIT_STATUS, &ms, &text);
        json_t *status = r == 0 ? json_loads(text, 0, NULL) : NULL;
        busy = json_integer_value(json_object_get(status, "running")) +
               json_integer_value(json_object_get(status, "queued"));
        json_decref(status);
        free(text);
        if (r == 0) {
            r = load_sleep(l, clock_now_ns() + 20 * NS_PER_MS);
        }
    }
    return r;
}
