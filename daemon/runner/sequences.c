/* Sequences: a request from its start to its end. Ids go in, text comes out; what a token means for
 * the request (an end, a stop string, the last one allowed) is decided here and nowhere else, for
 * fresh and for replayed ids alike, so that a continuation cannot differ. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/wipe.h"
#include "daemon/runner/runner.h"

#define REPLAY_IDS 256u /* ids in one report of a replay */

void sequence_free(struct sequence *s)
{
    if (!s) {
        return;
    }
    seq_free(s->kv);
    textout_free(s->text);
    size_t n = s->n_ids > s->n_known ? s->n_ids : s->n_known;
    n = n > s->n_touched ? n : s->n_touched;
    wipe_free(s->ids, n * sizeof(*s->ids));
    free(s);
}

static struct sequence **sequence_slot(struct runner *rn, const struct sequence *s)
{
    for (size_t i = 0; i < SEQUENCES_MAX; i++) {
        if (rn->sequences[i] == s) {
            return &rn->sequences[i];
        }
    }
    return NULL;
}

struct sequence *sequence_find(const struct runner *rn, uint64_t number)
{
    for (size_t i = 0; i < SEQUENCES_MAX; i++) {
        if (rn->sequences[i] && rn->sequences[i]->number == number) {
            return rn->sequences[i];
        }
    }
    return NULL;
}

void sequence_forget(struct runner *rn, struct sequence *s)
{
    struct sequence **slot = sequence_slot(rn, s);

    *slot = NULL;
    s->home->n_sequences--;
    rn->stats_due = true;
    sequence_free(s);
}

void sequence_attach(struct sequence *s)
{
    if (s->reuse) {
        s->n_cached += seq_attach(s->kv, s->salt, s->ids, s->n_known);
    }
}

void sequence_primed(struct runner *rn, struct sequence *s)
{
    report_finished(rn, s, "primed");
    sequence_forget(rn, s);
}

/* What one more token means. */
enum verdict { GO_ON, END_TOKEN, STOP_STRING, LENGTH };

/* Adds `id` to the answer; appends the text that may be delivered to out. */
static int sequence_add(struct sequence *s, int32_t id, struct buf *out, enum verdict *ret)
{
    struct strview text = {0};
    int r;

    if (!s->ignore_eos && vocab_is_end(model_vocab(s->home->model), id)) {
        textout_finish(s->text, &text);
        *ret = END_TOKEN; /* the token itself is no part of the answer */
        return buf_append(out, text.data, text.n);
    }
    s->ids[s->n_ids++] = id;
    const bool stopped = textout_feed(s->text, id, &text);
    r = buf_append(out, text.data, text.n);
    if (r < 0 || stopped) {
        *ret = STOP_STRING;
        return r;
    }
    *ret = GO_ON;
    if (s->n_ids - s->n_prompt >= s->max_tokens) {
        *ret = LENGTH;
        textout_finish(s->text, &text);
        r = buf_append(out, text.data, text.n);
    }
    return r;
}

/* Reports ids from n0 on and what they brought about; false when the sequence is over and gone. */
static bool sequence_deliver(struct runner *rn, struct sequence *s, struct report_run *run,
                             enum verdict verdict)
{
    static const char *const reasons[] = {
        [END_TOKEN] = "stop", [STOP_STRING] = "stop_string", [LENGTH] = "length"};

    run->n_ids = s->n_ids - s->n_prompt - run->n0;
    run->text = (struct strview){.data = (const char *)rn->text.data, .n = rn->text.n};
    if (run->n_ids == 0) {
        run->choice = NULL;
    }
    if (run->n_ids > 0 || run->text.n > 0) {
        report_tokens(rn, s, run);
    }
    buf_drop(&rn->text, rn->text.n);
    if (verdict == GO_ON) {
        return true;
    }
    report_finished(rn, s, reasons[verdict]);
    sequence_forget(rn, s);
    return false;
}

static void sequence_fail(struct runner *rn, struct sequence *s, enum error_code code,
                          const char *text)
{
    report_failed(rn, s->number, code, text, 0, 0);
    sequence_forget(rn, s);
}

bool sequence_take(struct runner *rn, struct sequence *s, const struct sampler_choice *choice,
                   size_t n_wrong)
{
    struct report_run run = {.n0 = s->n_ids - s->n_prompt,
                             .n_wrong = n_wrong,
                             .choice = s->n_logprobs > 0 ? choice : NULL};
    enum verdict verdict;

    buf_drop(&rn->text, rn->text.n);
    if (sequence_add(s, choice->id, &rn->text, &verdict) < 0) {
        sequence_fail(rn, s, ERR_INTERNAL, "no memory for the answer's text");
        return false;
    }
    return sequence_deliver(rn, s, &run, verdict);
}

/* The answer from before a restart, through detokenizer and stop scanner again. */
static void sequence_replay(struct runner *rn, struct sequence *s)
{
    const size_t n = s->n_known;
    size_t n0 = 0;
    enum verdict verdict = GO_ON;

    buf_drop(&rn->text, rn->text.n);
    for (size_t i = s->n_prompt; i < n && verdict == GO_ON; i++) {
        if (sequence_add(s, s->ids[i], &rn->text, &verdict) < 0) {
            sequence_fail(rn, s, ERR_INTERNAL, "no memory for the answer's text");
            return;
        }
        const size_t n_answer = s->n_ids - s->n_prompt;
        if (verdict != GO_ON || n_answer - n0 == REPLAY_IDS || i + 1 == n) {
            struct report_run run = {.n0 = n0};
            if (!sequence_deliver(rn, s, &run, verdict)) {
                return;
            }
            n0 = n_answer;
        }
    }
}

/* Sequences of the broker's plans are SEAM_STREAMS_MAX at most, so that primings take no place from
 * them. */
static bool is_room(const struct runner *rn, bool public_)
{
    size_t n = 0;

    for (size_t i = 0; i < SEQUENCES_MAX; i++) {
        n += rn->sequences[i] && rn->sequences[i]->public_ == public_ ? 1 : 0;
    }
    return n < (public_ ? PRIMINGS_MAX : SEAM_STREAMS_MAX);
}

void sequence_start(struct runner *rn, const struct seam_start *start)
{
    struct resident *m = resident_find(rn, start->model);
    struct sequence **slot = sequence_slot(rn, NULL);
    struct refusal refusal = {0};

    if (sequence_find(rn, start->seq)) {
        log_line(LOG_ERROR, "a sequence was started twice");
        sequence_fail(rn, sequence_find(rn, start->seq), ERR_INTERNAL, "started twice");
        return;
    }
    if (!m || !m->ready) {
        report_failed(rn, start->seq, ERR_NO_MODEL, "the model is not loaded", 0, 0);
        return;
    }
    if (!slot || !is_room(rn, start->public_)) {
        report_failed(rn, start->seq, ERR_OVERLOADED,
                      "the engine holds as many sequences as it can", SEAM_STREAMS_MAX,
                      SEAM_STREAMS_MAX);
        return;
    }
    struct sequence *s = calloc(1, sizeof(*s));
    if (!s) {
        report_failed(rn, start->seq, ERR_OVERLOADED, "no memory", 0, 0);
        return;
    }
    s->number = start->seq;
    s->home = m;
    const int r = request_prepare(s, start, &refusal);
    if (r != REQUEST_OK) {
        sequence_free(s);
        if (r < 0) {
            report_failed(rn, start->seq, ERR_OVERLOADED, strerror(-r), 0, 0);
        } else {
            report_failed(rn, start->seq, refusal.code, refusal.text, refusal.have, refusal.limit);
        }
        return;
    }
    s->n_ids = s->n_prompt;
    s->mark = rn->hooks && rn->hooks->start ? rn->hooks->start(start->request) : 0;
    *slot = s;
    m->n_sequences++;
    rn->stats_due = true;
    sequence_attach(s);
    report_started(rn, s);
    sequence_replay(rn, s);
}
