/* sched: what happens, booked. Service is charged as it is given, chunk by chunk and token by
 * token, so that at any moment the counters tell who is behind; positions that had been computed
 * before (a prefix found again, a replay after a death or a pause without KV) are never charged
 * twice. */
#include "daemon/broker/sched.h"

#include <assert.h>
#include <math.h>

#include "base/clock.h"

#define BYTES_PER_TOKEN 4.0 /* of a request, before any was seen */
#define BYTES_PER_TOKEN_MIN 1.0
#define BYTES_PER_TOKEN_MAX 16.0
#define RATE_FRESH_NS (5 * NS_PER_S)
/* Of all service, while low has work: a tenth of any minute, whole chunks and all. */
#define LOW_SHARE 0.11
#define RATE_WINDOW_NS (250 * NS_PER_MS)
#define GROWTH 3u /* positions that a sequence takes before the next plan counts */

void sched_account_init(struct sched_account *a)
{
    *a = (struct sched_account){.weight = 1};
    for (size_t c = 0; c < CLASSES; c++) {
        list_init(&a->link[c]);
        list_init(&a->running[c]);
        list_init(&a->waiting[c]);
    }
}

bool sched_account_idle(const struct sched_account *a)
{
    return a->n_jobs == 0;
}

void sched_init(struct sched *s, struct queue *queue, const struct sched_limits *limits)
{
    *s = (struct sched){.queue = queue, .limits = *limits, .stop_credit_us = SCHED_STOP_US_MAX};
    for (size_t c = 0; c < CLASSES; c++) {
        list_init(&s->accounts[c]);
    }
}

/* ---- booking ---- */

/* The account's tab of the job's model: one of its own, or the last one, which is everybody's. */
static uint8_t tab_of(const struct job *j)
{
    const struct sched_tab *tabs = j->account->pending[j->class_];
    uint8_t at = SCHED_TABS - 1;

    for (uint8_t i = 0; i < SCHED_TABS - 1 && j->slots; i++) {
        if (tabs[i].n > 0 && tabs[i].model == j->slots) {
            return i;
        }
        at = tabs[i].n == 0 && at == SCHED_TABS - 1 ? i : at;
    }
    return at;
}

static void set_left(struct job *j, uint32_t left)
{
    struct sched_tab *tabs = j->account->pending[j->class_];

    if (!j->parked && j->left > 0) { /* nobody has to wait for what stands apart */
        assert(tabs[j->tab].n >= j->left);
        tabs[j->tab].n -= j->left;
    }
    if (!j->parked && left > 0) {
        j->tab = tab_of(j);
        tabs[j->tab].model = j->slots;
        tabs[j->tab].n += left;
    }
    j->left = left;
}

static void charge(struct sched *s, struct job *j, uint64_t n)
{
    struct sched_account *a = j->account;

    a->served += n;
    a->counter[j->class_] += (double)n / a->weight;
    if (j->class_ == CLASS_LOW) {
        s->low_credit = fmax(s->low_credit - (double)n, 0);
    } else if (s->low_waits) {
        s->low_credit += (double)n * LOW_SHARE / (1 - LOW_SHARE);
        s->low_credit = fmin(s->low_credit, SCHED_CREDIT_MAX);
    }
}

/* Prompt tokens of the model have been computed: in the time since the last report of such,
 * whichever model that was of. The engine's time is booked once, so that what models take adds
 * up. */
static void measure(struct sched *s, struct slots *m, uint32_t n, uint64_t now_ns)
{
    if (s->window_at_ns == 0 || now_ns < s->window_at_ns) {
        return;
    }
    m->window_ns += now_ns - s->window_at_ns;
    m->window_tokens += n;
    s->window_at_ns = now_ns;
    if (m->window_ns >= RATE_WINDOW_NS) {
        const double rate = m->window_tokens / ((double)m->window_ns / 1000);
        m->prompt_rate = m->prompt_rate > 0 ? 0.75 * m->prompt_rate + 0.25 * rate : rate;
        m->rate_at_ns = now_ns;
        m->window_ns = 0;
        m->window_tokens = 0;
    }
}

/* The first n positions of its sequence are there: pay for those of the prompt that are new. */
static void charge_prompt(struct sched *s, struct job *j, uint32_t n, uint64_t now_ns)
{
    const uint32_t there = n < j->prompt ? n : j->prompt;

    if (there > j->charged) {
        const uint32_t fresh = there - j->charged;
        j->charged = there;
        charge(s, j, (uint64_t)fresh * SCHED_PROMPT_COST);
        measure(s, j->slots, fresh, now_ns);
    }
}

uint32_t sched_next_cost(const struct job *j, uint32_t chunk)
{
    if (j->left == 0) {
        return SCHED_ANSWER_COST;
    }
    return (j->left < chunk ? j->left : chunk) * SCHED_PROMPT_COST;
}

uint32_t sched_blocks(const struct slots *m, uint64_t positions)
{
    const uint64_t n = m->block_positions ? m->block_positions : 1;

    return (uint32_t)((positions + n - 1) / n);
}

/* It has grown, or the engine has said how long it is. */
static void count_blocks(struct job *j)
{
    struct slots *m = j->slots;
    const uint32_t n = sched_blocks(m, (uint64_t)j->prompt + j->answer + GROWTH);

    if (j->held) {
        m->blocks_used = m->blocks_used - j->blocks + n;
        j->blocks = n;
    }
}

void sched_hold(struct sched *s, struct job *j)
{
    assert(!j->held && j->slots);
    if (!j->running) {
        list_remove(&j->own_link);
        list_push(&j->account->running[j->class_], &j->own_link);
        j->account->n_waiting--;
        queue_run(s->queue, j);
    }
    j->held = true;
    j->blocks = 0;
    j->paused_ns = 0;
    j->total = j->prompt + j->answer;
    set_left(j, j->total);
    j->slots->n_held++;
    j->account->n_held++;
    s->n_held++;
    count_blocks(j);
}

void sched_forgotten(struct sched *s, struct job *j)
{
    if (!j->held) {
        return;
    }
    j->held = false;
    j->planned = false;
    j->paused_ns = 0;
    j->slots->blocks_used -= j->blocks;
    j->slots->n_held--;
    j->slots->kv_full = false;
    j->account->n_held--;
    s->n_held--;
    j->blocks = 0;
    set_left(j, j->prompt + j->answer);
    for (size_t i = 0; i < SEAM_PLAN_MAX; i++) {
        s->sent[i] = s->sent[i] == j ? NULL : s->sent[i];
        s->flight[i] = s->flight[i] == j ? NULL : s->flight[i];
    }
}

bool sched_kv_full(struct sched *s, struct job *j)
{
    sched_forgotten(s, j);
    j->slots->kv_full = j->slots->n_held > 0;
    s->n_given_back += j->slots->kv_full;
    return j->slots->kv_full;
}

void sched_engine_gone(struct sched *s)
{
    list_for_each (j, next, &s->queue->running, struct job, link) {
        sched_forgotten(s, j);
    }
    s->n_sent = s->n_flight = 0;
    s->window_at_ns = 0;
}

/* ---- what happens ---- */

void sched_submit(struct sched *s, struct job *j)
{
    struct sched_account *a = j->account;

    j->guessed = j->prompt == 0;
    if (j->guessed) {
        j->prompt = sched_prompt_estimate(j->slots, j->bytes);
    }
    if (list_empty(&a->link[j->class_])) {
        list_push(&s->accounts[j->class_], &a->link[j->class_]);
    }
    a->n_jobs++;
    a->n_waiting++;
    list_push(&a->waiting[j->class_], &j->own_link);
    set_left(j, j->prompt);
    queue_push(s->queue, j);
}

void sched_park(struct job *j, bool parked)
{
    const uint32_t left = j->left;

    assert(!j->running);
    if (parked == j->parked) {
        return;
    }
    set_left(j, 0); /* with one kind of booking out, ... */
    j->parked = parked;
    set_left(j, left); /* ... with the other in */
}

void sched_bind(struct job *j, struct slots *m)
{
    const bool waits = !list_empty(&j->link) && !j->running;
    const uint32_t left = j->left;

    if (waits) {
        set_left(j, 0);
    }
    j->slots = m;
    if (waits && j->guessed) {
        j->prompt = sched_prompt_estimate(m, j->bytes);
    }
    if (waits) {
        set_left(j, j->guessed ? j->prompt : left);
    }
}

void sched_remove(struct sched *s, struct job *j)
{
    struct sched_account *a = j->account;

    if (list_empty(&j->link)) {
        return;
    }
    for (size_t i = 0; i < s->n_flight; i++) { /* the step in flight has worked on it, too */
        if (s->flight[i] == j) {
            charge(s, j, sched_next_cost(j, j->slots->chunk));
        }
    }
    sched_forgotten(s, j);
    set_left(j, 0);
    list_remove(&j->own_link);
    a->n_waiting -= !j->running;
    a->n_jobs--;
    if (list_empty(&a->running[j->class_]) && list_empty(&a->waiting[j->class_])) {
        list_remove(&a->link[j->class_]);
        a->active[j->class_] = false;
    }
    queue_remove(s->queue, j);
}

void sched_started(struct sched *s, struct job *j, uint32_t prompt, uint32_t cached)
{
    struct slots *m = j->slots;

    if (prompt > 0) {
        /* Of a body that says little in many bytes, or many ids, nobody else's prompt is to be
         * judged. */
        const double each =
            fmin(fmax((double)j->bytes / prompt, BYTES_PER_TOKEN_MIN), BYTES_PER_TOKEN_MAX);
        m->bytes_per_token = m->bytes_per_token > 0 ? 0.9 * m->bytes_per_token + 0.1 * each : each;
    }
    j->prompt = prompt;
    j->guessed = false;
    j->total = prompt + j->answer;
    if (j->charged < cached) {
        j->charged = cached;
    }
    set_left(j, cached < j->total ? j->total - cached : 0);
    count_blocks(j);
    (void)s;
}

static void report(struct sched *s, uint64_t now_ns)
{
    s->reported_ns = s->reported ? s->reported_ns : now_ns;
    s->reported = true;
}

void sched_prefilled(struct sched *s, struct job *j, uint32_t done, uint32_t total, uint64_t now_ns)
{
    const uint32_t before = j->total - j->left;

    if (total != j->total || done > total) {
        return; /* of an engine gone wrong: the next report is as good */
    }
    if (done > before) {
        const uint32_t chunk = done - before;
        const uint32_t known = j->slots->chunk - j->slots->chunk / 8;
        j->slots->chunk = chunk > known ? chunk : known;
    }
    report(s, now_ns);
    charge_prompt(s, j, done, now_ns);
    set_left(j, total - done);
}

void sched_tokens(struct sched *s, struct job *j, uint32_t n, uint64_t now_ns)
{
    report(s, now_ns);
    charge_prompt(s, j, j->total, now_ns);
    charge(s, j, (uint64_t)n * SCHED_ANSWER_COST);
    set_left(j, 0);
    j->answer += n;
    j->paused_ns = 0;
    count_blocks(j);
}

void sched_guesses(struct sched *s, struct job *j, uint32_t n)
{
    charge(s, j, (uint64_t)n * SCHED_ANSWER_COST);
}

void sched_step(struct slots *m, uint32_t n_streams, uint32_t n_prompt, uint64_t us)
{
    cost_learn(&m->cost, n_streams, n_prompt, (double)us);
}

/* ---- what to expect ---- */

uint32_t sched_streams(const struct sched *s)
{
    const struct sched_limits *l = &s->limits;

    return l->streams_cap > 0 && l->streams_cap < l->streams_max ? l->streams_cap : l->streams_max;
}

bool sched_rate_known(const struct slots *m, uint64_t now_ns)
{
    return m && m->prompt_rate > 0 && now_ns < m->rate_at_ns + RATE_FRESH_NS;
}

uint32_t sched_prompt_estimate(const struct slots *m, size_t bytes)
{
    const double each = m && m->bytes_per_token > 0 ? m->bytes_per_token : BYTES_PER_TOKEN;
    const double n = (double)bytes / each;

    return n < MSG_TOKENS_MAX ? (uint32_t)n + 1 : MSG_TOKENS_MAX;
}

uint64_t sched_pending(const struct sched_account *a, enum request_class class_)
{
    uint64_t n = 0;

    for (size_t i = 0; i < SCHED_TABS; i++) {
        n += a->pending[class_][i].n;
    }
    return n;
}

/* What the account's prompts of a class will take, as seen by a job of the model `own`. */
static double pending_us(const struct sched_account *a, size_t class_, const struct slots *own,
                         uint64_t now_ns)
{
    double us = 0;

    for (size_t i = 0; i < SCHED_TABS; i++) {
        const struct sched_tab *tab = &a->pending[class_][i];
        const struct slots *m = i < SCHED_TABS - 1 ? tab->model : own;
        if (tab->n > 0 && (m == own || (m->ready && sched_rate_known(m, now_ns)))) {
            us += (double)tab->n / m->prompt_rate;
        }
    }
    return us;
}

/* Prompts of its own identity in its class or above go first; those of others as far as their turn
 * comes before it: all in higher classes, and inside its class as much as its own side has. */
uint64_t sched_first_token_ms(const struct sched *s, const struct sched_account *a,
                              const struct slots *m, enum request_class class_, uint32_t prompt,
                              uint64_t mean_ms, uint64_t now_ns)
{
    if (!sched_rate_known(m, now_ns)) {
        return 0;
    }
    double own = prompt / m->prompt_rate, ahead = 0;
    for (size_t c = class_; c < CLASSES; c++) {
        own += pending_us(a, c, m, now_ns);
    }
    for (size_t c = class_; c < CLASSES; c++) {
        list_for_each (other, next, &s->accounts[c], struct sched_account, link[c]) {
            const double us = other != a ? pending_us(other, c, m, now_ns) : 0;
            ahead += c > (size_t)class_ || s->limits.fifo ? us : fmin(us, own);
        }
    }
    double ms = (own + ahead) / 1000;
    if (s->n_sent >= sched_streams(s) && a->n_held > 0) { /* and a stream of its own must end */
        ms += (double)mean_ms * (double)(a->n_waiting + 1) / (a->n_held + 1);
    }
    return ms < (double)UINT32_MAX ? (uint64_t)ms + 1 : UINT32_MAX;
}
