/* readiness: looks at the pinned models once a turn of the loop, and a second later at the latest.
 * A model that cannot be loaded keeps nobody from being served by the others: we are ready then,
 * and the status names it. From then on each turn makes the sentence anew (about a microsecond),
 * and where it is another one the manager hears it, once a second at most: what changes sooner is
 * told when the second is over, as it is then. */
#include "daemon/broker/readiness.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "daemon/broker/broker.h"
#include "daemon/broker/ladder.h"
#include "daemon/broker/models.h"
#include "daemon/broker/notify.h"

#define PATIENCE_MS 1000u
#define STATUS_MS 1000u /* between two sentences, at least */
#define MORE_MS 30000u  /* that the manager is asked for each time */

static void PRINTF_LIKE(3, 4) add(char *text, size_t n, const char *fmt, ...)
{
    const size_t at = strlen(text);
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text + at, n - at, fmt, args);
    va_end(args);
}

/* Why it will not be there; NULL: it is, or may be yet. */
static const char *what_is_wrong(const struct broker *b, const struct model *m)
{
    if (m && m->state == MODEL_LOADED) {
        return NULL;
    }
    if (backoff_hopeless(&b->backoff)) {
        return error_info(ERR_ENGINE_UNAVAILABLE)->name;
    }
    if (!m) {
        return error_info(ERR_OVERLOADED)->name; /* no memory for its name even */
    }
    return m->state == MODEL_REFUSED ? error_info(m->error)->name : NULL;
}

bool readiness_text(const struct broker *b, char *ret, size_t n)
{
    const struct model_options *loading = NULL;
    size_t n_pinned = 0, n_warm = 0, n_wrong = 0;

    if (b->draining) {
        const size_t left = b->queue.n_waiting + b->queue.n_running;
        (void)snprintf(ret, n, "Finishing what runs: %zu request%s.", left, left == 1 ? "" : "s");
        return true;
    }
    (void)snprintf(ret, n, "Serving");
    for (size_t i = 0; i < b->config.n_models; i++) {
        const struct model_options *o = &b->config.models[i];
        if (!o->pinned) {
            continue;
        }
        const struct model *m = model_find(b, strview_of(o->name));
        const char *wrong = what_is_wrong(b, m);
        n_pinned++;
        if (wrong) {
            add(ret, n, "%s model %s: %s", n_wrong++ == 0 ? "; degraded:" : ",", o->name, wrong);
        } else if (m && m->state == MODEL_LOADED && m->slots.ready) {
            n_warm++;
        } else {
            loading = o;
        }
    }
    if (loading) {
        (void)snprintf(ret, n, "Loading model %s; %zu of %zu pinned models are warm", loading->name,
                       n_warm, n_pinned);
    }
    if (ladder_level(b) > PRESSURE_NORMAL) {
        add(ret, n, "; short of memory: level %s", pressure_name(ladder_level(b)));
    }
    add(ret, n, ".");
    return !loading;
}

/* The manager hears this now, by one of notify's messages. */
static void told(struct readiness *r, const char *text)
{
    (void)snprintf(r->told, sizeof(r->told), "%s", text);
    r->told_ms = uv_now(r->broker->loop);
}

static void on_second(uv_timer_t *timer);

/* We are ready: is the sentence still true? */
static void look_again(struct readiness *r)
{
    char text[READINESS_TEXT];

    (void)readiness_text(r->broker, text, sizeof(text));
    if (strcmp(text, r->told) == 0) {
        return;
    }
    const uint64_t since = uv_now(r->broker->loop) - r->told_ms;
    if (since >= STATUS_MS) {
        notify_status(text);
        told(r, text);
    } else if (!uv_is_active((uv_handle_t *)&r->patience)) {
        (void)uv_timer_start(&r->patience, on_second, STATUS_MS - since, 0);
    }
}

static void on_second(uv_timer_t *timer)
{
    look_again(timer->data);
}

static void look(struct readiness *r)
{
    char text[READINESS_TEXT];

    if (r->ready) {
        look_again(r);
    } else if (!r->broker->draining && readiness_text(r->broker, text, sizeof(text))) {
        r->ready = true;
        (void)uv_timer_stop(&r->patience);
        notify_ready_as(text);
        told(r, text);
        if (!notify_heard()) {
            (void)uv_prepare_stop(&r->turn);
        }
    }
}

static void on_turn(uv_prepare_t *turn)
{
    look(turn->data);
}

static void on_patience(uv_timer_t *timer)
{
    struct readiness *r = timer->data;
    char text[READINESS_TEXT];

    look(r);
    if (!r->ready && !r->broker->draining) {
        (void)readiness_text(r->broker, text, sizeof(text));
        notify_patience(MORE_MS, text);
    }
}

int readiness_start(struct readiness *r, struct broker *b)
{
    *r = (struct readiness){.broker = b, .open = true};
    r->turn.data = r->patience.data = r;
    (void)uv_prepare_init(b->loop, &r->turn); /* neither can fail: they only fill the struct */
    (void)uv_timer_init(b->loop, &r->patience);
    uv_unref((uv_handle_t *)&r->turn);
    uv_unref((uv_handle_t *)&r->patience);
    look(r);
    const int e = r->ready && !notify_heard() ? 0 : uv_prepare_start(&r->turn, on_turn);
    if (r->ready || e < 0) {
        return e;
    }
    on_patience(&r->patience);
    return uv_timer_start(&r->patience, on_patience, PATIENCE_MS, PATIENCE_MS);
}

void readiness_stop(struct readiness *r)
{
    if (r->open) {
        r->open = false;
        uv_close((uv_handle_t *)&r->turn, NULL);
        uv_close((uv_handle_t *)&r->patience, NULL);
    }
}

void readiness_again(struct readiness *r)
{
    char text[READINESS_TEXT];

    if (r->ready) { /* else it will be told in its time */
        (void)readiness_text(r->broker, text, sizeof(text));
        notify_ready_as(text);
        told(r, text);
    }
}

void readiness_stopping(struct readiness *r)
{
    char text[READINESS_TEXT];

    if (!r->open) {
        return; /* nothing is served yet, or any more */
    }
    (void)readiness_text(r->broker, text, sizeof(text));
    notify_stopping(r->broker->config.drain_ms, text);
    told(r, text);
}
