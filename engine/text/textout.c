/* textout: ids in, deliverable text out.
 *
 * Bytes pass through two stages, one byte at a time, so that how they were cut into tokens does not
 * matter. The first assembles characters and replaces what cannot become one. The second runs every
 * stop string's automaton (Knuth, Morris, Pratt) over the valid text: its state is how much of the
 * stop string the text ends with, so the largest state is exactly what must be held back. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/wipe.h"
#include "engine/engine.h"
#include "engine/text/utf8.h"
#include "engine/text/vocab_view.h"

/* Held-back text, then what one piece can add: every byte a replacement character at worst. */
#define TEXT_ROOM (STOP_BYTES_MAX + 3u * (TEXT_PIECE_MAX + 4u))

struct stop {
    uint8_t bytes[STOP_BYTES_MAX];
    uint16_t fall[STOP_BYTES_MAX]; /* of the first i + 1 bytes: the longest proper border */
    uint16_t n, state;
};

struct textout {
    const struct vocab *vocab; /* borrowed */
    size_t n_stops;
    struct stop stops[STOPS_MAX];
    uint8_t pending[4]; /* bytes of an unfinished character */
    size_t n_pending;
    char text[TEXT_ROOM]; /* delivered by the last call, then held back */
    size_t n, delivered;
    bool began;   /* a piece has been seen */
    bool stopped; /* a stop string has completed */
};

static void stop_init(struct stop *s, struct strview text)
{
    memcpy(s->bytes, text.data, text.n);
    s->n = (uint16_t)text.n;
    for (size_t i = 1; i < text.n; i++) {
        uint16_t k = s->fall[i - 1];
        while (k > 0 && s->bytes[k] != s->bytes[i]) {
            k = s->fall[k - 1];
        }
        s->fall[i] = (uint16_t)(s->bytes[k] == s->bytes[i] ? k + 1 : 0);
    }
}

static bool stop_step(struct stop *s, uint8_t b)
{
    while (s->state > 0 && s->bytes[s->state] != b) {
        s->state = s->fall[s->state - 1];
    }
    s->state = (uint16_t)(s->bytes[s->state] == b ? s->state + 1 : 0);
    return s->state == s->n;
}

int textout_new(struct textout **ret, const struct vocab *vocab, const struct strview *stops,
                size_t n_stops)
{
    if (n_stops > STOPS_MAX) {
        return -EINVAL;
    }
    for (size_t i = 0; i < n_stops; i++) {
        if (stops[i].n == 0 || stops[i].n > STOP_BYTES_MAX ||
            !utf8_valid(stops[i].data, stops[i].n)) {
            return -EINVAL;
        }
    }
    struct textout *t = calloc(1, sizeof(*t));
    if (!t) {
        return -ENOMEM;
    }
    t->vocab = vocab;
    t->n_stops = n_stops;
    for (size_t i = 0; i < n_stops; i++) {
        stop_init(&t->stops[i], stops[i]);
    }
    *ret = t;
    return 0;
}

void textout_free(struct textout *t)
{
    wipe_free(t, sizeof(*t)); /* an answer's words, and those that it stops at */
}

/* One byte of valid text. True when it completes a stop string: the text then ends before the
 * longest one that ends here. */
static bool put_byte(struct textout *t, uint8_t b)
{
    size_t cut = 0;

    t->text[t->n++] = (char)b;
    for (size_t i = 0; i < t->n_stops; i++) {
        if (stop_step(&t->stops[i], b) && t->stops[i].n > cut) {
            cut = t->stops[i].n;
        }
    }
    if (cut > 0) {
        t->n -= cut;
        t->stopped = true;
    }
    return t->stopped;
}

static bool put_bytes(struct textout *t, const void *bytes, size_t n)
{
    const uint8_t *p = bytes;

    for (size_t i = 0; i < n; i++) {
        if (put_byte(t, p[i])) {
            return true;
        }
    }
    return false;
}

/* Deliver what is finished among the pending bytes. */
static bool put_pending(struct textout *t)
{
    while (t->n_pending > 0) {
        const int k = utf8_check(t->pending, t->n_pending);
        if (k == 0) {
            return false;
        }
        const size_t took = (size_t)(k > 0 ? k : -k);
        const bool stop = k > 0 ? put_bytes(t, t->pending, took)
                                : put_bytes(t, UTF8_REPLACEMENT, strlen(UTF8_REPLACEMENT));
        t->n_pending -= took;
        memmove(t->pending, t->pending + took, t->n_pending);
        if (stop) {
            return true;
        }
    }
    return false;
}

static size_t held_back(const struct textout *t)
{
    size_t n = 0;

    for (size_t i = 0; i < t->n_stops; i++) {
        if (t->stops[i].state > n) {
            n = t->stops[i].state;
        }
    }
    return n;
}

/* Remove what the last call delivered. */
static void forget_delivered(struct textout *t)
{
    t->n -= t->delivered;
    memmove(t->text, t->text + t->delivered, t->n);
    t->delivered = 0;
}

static void deliver(struct textout *t, size_t n, struct strview *ret_text)
{
    t->delivered = n;
    *ret_text = (struct strview){t->text, n};
}

bool textout_feed(struct textout *t, int32_t id, struct strview *ret_text)
{
    char piece[TEXT_PIECE_MAX];
    size_t n, from = 0;

    forget_delivered(t);
    if (t->stopped) {
        deliver(t, 0, ret_text);
        return true;
    }
    n = vocab_piece(t->vocab, id, false, piece);
    if (n > 0 && !t->began) {
        t->began = true;
        from = t->vocab->h->flags & VOCAB_SPACE_PREFIX && piece[0] == ' ';
    }
    for (size_t i = from; i < n; i++) {
        t->pending[t->n_pending++] = (uint8_t)piece[i];
        if (put_pending(t)) {
            deliver(t, t->n, ret_text);
            return true;
        }
    }
    deliver(t, t->n - held_back(t), ret_text);
    return false;
}

void textout_finish(struct textout *t, struct strview *ret_text)
{
    forget_delivered(t);
    if (!t->stopped && t->n_pending > 0) {
        t->n_pending = 0;
        (void)put_bytes(t, UTF8_REPLACEMENT, strlen(UTF8_REPLACEMENT));
    }
    t->stopped = true; /* nothing comes after the end */
    deliver(t, t->n, ret_text);
}
