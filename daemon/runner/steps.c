/* Steps. Each one serves one model: every decoding sequence of the plan gets its token, all in one
 * pass over the weights, and what is left of the step's time goes to prompts in the plan's order.
 * Nothing here decides whose turn it is; the plan has. Public prefixes, which nobody waits for,
 * come after it. */
#include <string.h>

#include "base/clock.h"
#include "daemon/runner/runner.h"

#define CANCEL_NS (30 * NS_PER_MS) /* a step that takes longer stops for a cancel of one of many */

_Static_assert(SEAM_PLAN_MAX <= STEP_ITEMS_MAX, "a plan fits one step");

struct step {
    struct resident *m; /* borrowed */
    struct step_item items[STEP_ITEMS_MAX];
    struct sequence *who[STEP_ITEMS_MAX]; /* borrowed; of items[i] */
    uint64_t numbers[STEP_ITEMS_MAX];
    bool prefill[STEP_ITEMS_MAX];
    size_t n, n_decode, n_prompt, n_logits; /* items; decoding ones; prompt tokens; rows wanted */
    size_t n_drafts;                        /* guesses, whose rows are wanted besides */
};

static bool prefilling(const struct sequence *s)
{
    return seq_len(s->kv) < s->n_known;
}

/* The next n_ids of a sequence, or fewer where the model's streams all want a token already. */
static size_t step_add(struct step *st, struct sequence *s, size_t n_ids, bool prefill)
{
    const size_t at = seq_len(s->kv);
    bool logits = at + n_ids == s->n_ids && !s->public_;

    if (logits && st->n_logits == st->m->n_streams) {
        logits = false;
        n_ids--;
    }
    if (n_ids == 0 || st->n == STEP_ITEMS_MAX) {
        return 0;
    }
    const size_t i = st->n++;
    st->items[i] = (struct step_item){.seq = s->kv, .ids = s->ids + at, .n_ids = n_ids};
    st->items[i].n_logits = logits ? 1 : 0;
    sampler_ask(&s->sampling, st->m->info.n_vocab, s->ids, s->n_ids, s->n_logprobs, &st->items[i]);
    st->n_logits += st->items[i].n_logits;
    st->who[i] = s;
    st->numbers[i] = s->number;
    st->prefill[i] = prefill;
    if (prefill) {
        st->n_prompt += n_ids;
    } else {
        st->n_decode++;
    }
    return n_ids;
}

/* Decoding sequences into the step; those with prompt tokens to go into waiting, in the plan's
 * order and public ones last. Return: how many wait. */
static size_t step_sort(struct step *st, const struct runner *rn, struct sequence **waiting)
{
    size_t n_waiting = 0;

    for (size_t i = 0; i < rn->n_plan; i++) {
        struct sequence *s = sequence_find(rn, rn->plan[i]);
        if (!s || s->home != st->m || s->public_) {
            continue;
        }
        if (prefilling(s)) {
            waiting[n_waiting++] = s;
        } else {
            (void)step_add(st, s, 1, false);
        }
    }
    for (size_t i = 0; i < SEQUENCES_MAX; i++) {
        struct sequence *s = rn->sequences[i];
        if (s && s->home == st->m && s->public_) {
            waiting[n_waiting++] = s;
        }
    }
    return n_waiting;
}

/* Guesses at the next tokens of decoding sequences, where no prompt waits and as far as the step
 * has room: a token more costs little until the processor, and not the memory, is what it waits
 * for. They stand behind a sequence's ids, where its next tokens go. */
static void step_draft(struct step *st)
{
    for (size_t i = 0; i < st->n && st->n + st->n_drafts < st->m->n_rows; i++) {
        struct sequence *s = st->who[i];
        size_t most = st->m->n_rows - st->n - st->n_drafts;
        const size_t left = s->max_tokens - (s->n_ids - s->n_prompt) - 1;

        if (st->prefill[i] || s->n_logprobs > 0) {
            continue;
        }
        most = most < st->m->draft_tokens ? most : st->m->draft_tokens;
        most = most < left ? most : left;
        const size_t n = draft_find(s->ids, s->n_ids, s->ids + s->n_ids, draft_ask(&s->luck, most));
        s->n_touched = s->n_ids + n > s->n_touched ? s->n_ids + n : s->n_touched;
        st->items[i].n_ids += n;
        st->items[i].n_logits += n;
        st->items[i].n_drafts = n;
        if (n > 0 && st->items[i].n_also > 0) { /* each row would look at others */
            st->items[i].n_best = st->items[i].n_also = 0;
        }
        st->n_drafts += n;
    }
}

/* Without them a step may find room for its tokens. */
static void step_undraft(struct step *st)
{
    for (size_t i = 0; i < st->n; i++) {
        st->items[i].n_ids -= st->items[i].n_drafts;
        st->items[i].n_logits -= st->items[i].n_drafts;
        st->items[i].n_drafts = 0;
    }
    st->n_drafts = 0;
}

/* The next step of this model; n is 0 when there is nothing for it. */
static void step_collect(struct step *st, const struct runner *rn, struct resident *m)
{
    struct sequence *waiting[SEAM_PLAN_MAX + PRIMINGS_MAX];

    st->m = m;
    st->n = st->n_decode = st->n_prompt = st->n_logits = st->n_drafts = 0;
    const size_t n_waiting = step_sort(st, rn, waiting);
    size_t left = pace_next(&m->pace, st->n_decode, rn->prompt_us, rn->step_tokens_max);
    for (size_t i = 0; i < n_waiting && left > 0; i++) {
        sequence_attach(waiting[i]); /* others may have computed what it waits for */
        if (seq_on_disk(waiting[i]->kv)) {
            continue; /* reading the rest is faster than computing it */
        }
        const size_t want = waiting[i]->n_known - seq_len(waiting[i]->kv);
        left -= step_add(st, waiting[i], want < left ? want : left, true);
    }
    if (n_waiting == 0 && m->draft_tokens > 0) {
        step_draft(st);
    }
}

static void step_hooks(const struct runner *rn, const struct step *st)
{
    if (!rn->hooks || !rn->hooks->step) {
        return;
    }
    for (size_t i = 0; i < st->n; i++) {
        const struct sequence *s = st->who[i];
        rn->hooks->step(s->mark, st->prefill[i], s->n_ids - s->n_prompt);
    }
}

static void step_fail(struct runner *rn, struct sequence *s, enum error_code code, const char *why)
{
    report_failed(rn, s->number, code, why, 0, 0);
    sequence_forget(rn, s);
}

/* Picks and delivers one sequence's next token, and those behind it as long as what was guessed is
 * what was picked: its row is then that of the next one. A guess counts once the sequence goes on
 * with it, so that the cache has all of its ids but the last, as without guesses. */
static void step_pick(struct runner *rn, struct step *st, size_t i)
{
    struct sequence *s = st->who[i];
    const int32_t *guesses = s->ids + s->n_ids;
    const size_t n_drafts = st->items[i].n_drafts;

    for (size_t row = 0;; row++) {
        const float *logits = st->items[i].logits + row * st->m->info.n_vocab;
        struct sampler_choice choice;
        const int r = sampler_pick(st->m->sampler, &s->sampling, logits, s->ids, s->n_ids, s->n_ids,
                                   s->n_logprobs, &choice);
        if (r != SAMPLER_OK) {
            step_fail(rn, s, ERR_NOT_FINITE, "the model computed a number that is not finite");
            return;
        }
        const bool right = row < n_drafts && guesses[row] == choice.id;
        rn->stats.tokens++;
        rn->stats.accepted += right;
        if (!sequence_take(rn, s, &choice, right ? 0 : n_drafts - row)) {
            return;
        }
        if (!right) {
            if (n_drafts > 0) {
                draft_learn(&s->luck, n_drafts, row);
            }
            return;
        }
        seq_accept(s->kv, &choice.id, 1);
    }
}

static void step_done(struct runner *rn, struct step *st, uint64_t begin_ns)
{
    const uint64_t now_ns = clock_now_ns();

    for (size_t i = 0; i < st->n; i++) {
        struct sequence *s = st->who[i];
        uint64_t *ns = st->prefill[i] ? &s->prefill_ns : &s->decode_ns;

        *ns += now_ns - begin_ns;
        if (st->items[i].n_logits > 0) {
            step_pick(rn, st, i);
        } else if (s->public_ && !prefilling(s)) {
            sequence_primed(rn, s);
        } else {
            report_prefill(rn, s);
        }
    }
    const uint64_t took_ns = clock_now_ns() - begin_ns;
    pace_learn(&st->m->pace, st->n_decode + st->n_drafts, st->n_prompt, took_ns);
    rn->stats.step_streams = (uint32_t)st->n_decode;
    rn->stats.step_drafts = (uint32_t)st->n_drafts;
    rn->stats.drafted += st->n_drafts;
    rn->stats.step_prompt = (uint32_t)st->n_prompt;
    rn->stats.steps++;
    rn->stats.prompt_tokens += st->n_prompt;
    rn->stats.step_us = took_ns / 1000;
    rn->stats_due = true;
}

/* Stopping a step for one sequence costs all others what was computed. It is worth that where the
 * rest would take long, and never twice in a row: a client that does nothing but cancel stops
 * nobody. */
static bool step_stops_for_one(const struct runner *rn, const struct step *st)
{
    const size_t n = st->n_decode + st->n_drafts;

    return !rn->interrupted && pace_expect(&st->m->pace, n, st->n_prompt) > CANCEL_NS;
}

static void step_run(struct runner *rn, struct step *st)
{
    if (!seam_io_step_begin(rn->io, st->numbers, st->n, step_stops_for_one(rn, st))) {
        return; /* the broker has said something: hear it first */
    }
    pulse_set(rn->pulse, PULSE_STEP, st->numbers[0]);
    step_hooks(rn, st);
    const uint64_t begin_ns = clock_now_ns();
    int r = stepper_run(st->m->stepper, st->items, st->n, seam_io_cancel_flag(rn->io));
    if (r == STEP_KV_FULL && st->n_drafts > 0) {
        step_undraft(st);
        r = stepper_run(st->m->stepper, st->items, st->n, seam_io_cancel_flag(rn->io));
    }
    seam_io_step_end(rn->io);
    rn->interrupted = r == STEP_CANCELLED;

    if (resident_lost(rn, st->m)) {
        return; /* whatever was computed, it is of no model */
    }
    if (r == STEP_OK) {
        step_done(rn, st, begin_ns);
    } else if (r == STEP_KV_FULL) {
        report_kv_full(rn, st->numbers[st->n - 1]); /* idle blocks are gone by now */
        sequence_forget(rn, st->who[st->n - 1]);
    } else if (r < 0) {
        log_line(LOG_ERROR, "a step of %zu sequences failed: %s", st->n, strerror(-r));
        for (size_t i = 0; i < st->n; i++) {
            step_fail(rn, st->who[i], ERR_INTERNAL, "a step could not be computed");
        }
    } /* else cancelled: nothing was added, and the next round runs without whoever is gone */
}

bool steps_work(const struct runner *rn)
{
    for (size_t i = 0; i < rn->n_plan; i++) {
        if (sequence_find(rn, rn->plan[i])) {
            return true;
        }
    }
    for (size_t i = 0; i < SEQUENCES_MAX; i++) {
        if (rn->sequences[i] && rn->sequences[i]->public_) {
            return true;
        }
    }
    return false;
}

void steps_run(struct runner *rn)
{
    struct step st;

    for (size_t k = 0; k < RESIDENTS_MAX; k++) {
        const size_t i = (rn->resident_next + k) % RESIDENTS_MAX;
        struct resident *m = rn->residents[i];
        if (!m || !m->ready) {
            continue;
        }
        step_collect(&st, rn, m);
        if (st.n > 0) {
            rn->resident_next = (i + 1) % RESIDENTS_MAX; /* models take turns */
            step_run(rn, &st);
            return;
        }
    }
}
