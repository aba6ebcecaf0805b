/* What measured rounds say, and how it is kept.
 *
 * A round measures every count once, one after the other, and only figures of one round are
 * compared: what slows the machine for a while slows them alike. A choice that noise alone would
 * make is as likely as a coin falling on one side five times with 3 % between the sides, and then
 * costs what noise costs. */
#include "engine/tune.h"

#include <string.h>

#include "base/cursor.h"
#include "base/fnv.h"
#include "base/median.h"
#include "engine/engine.h"
#include "engine/machine.h"
#include "engine/step.h"
#include "engine/threads.h"

#define ROUNDS_MIN 5u
#define LUCK 6u /* of so many rounds one may go the other way */
#define BETTER 0.97
#define SLOWER 1.10
#define HOPELESS 2u

const uint8_t tune_sizes[TUNE_SIZES] = {1, 2, 4, 8, 16};

/* Against the default of the same round. Return: how many rounds measured both. */
static size_t ratios_of(const struct tune_samples *s, size_t count_i, double *ret)
{
    size_t n = 0;

    for (size_t r = 0; r < s->n_rounds; r++) {
        if (s->ns[r][0] > 0 && s->ns[r][count_i] > 0) {
            ret[n++] = s->ns[r][count_i] / s->ns[r][0];
        }
    }
    return n;
}

unsigned tune_choose(const struct tune_samples *s)
{
    double best = BETTER;
    size_t chosen = 0;

    for (size_t i = 1; i < s->n_counts; i++) {
        double ratios[TUNE_ROUNDS_MAX];
        const size_t n = ratios_of(s, i, ratios);
        size_t n_worse = 0;

        for (size_t r = 0; r < n; r++) {
            n_worse += ratios[r] >= 1;
        }
        if (n < ROUNDS_MIN || n_worse > n / LUCK) {
            continue;
        }
        const double m = median(ratios, n);
        if (m <= best) {
            best = m;
            chosen = i;
        }
    }
    return s->counts[chosen];
}

bool tune_hopeless(const struct tune_samples *s, size_t count_i)
{
    double ratios[TUNE_ROUNDS_MAX];
    const size_t n = ratios_of(s, count_i, ratios);
    size_t n_slower = 0;

    for (size_t r = 0; r < n; r++) {
        n_slower += ratios[r] > SLOWER;
    }
    return n_slower >= HOPELESS && n_slower == n;
}

unsigned tune_saturation(const double ns[TUNE_SIZES])
{
    double best = 0;
    size_t n = 0;

    for (size_t i = 0; i < TUNE_SIZES; i++) {
        if (ns[i] > 0) {
            const double rate = tune_sizes[i] / ns[i];
            best = rate > best ? rate : best;
            n++;
        }
    }
    for (size_t i = 0; i < TUNE_SIZES && n >= 2; i++) {
        if (ns[i] > 0 && tune_sizes[i] / ns[i] >= 0.9 * best) {
            return tune_sizes[i];
        }
    }
    return 0;
}

/* ---- keeping ----
 *
 * magic, version, generate, prompt, streams, disturbed, zeros to 24; the mark; FNV-1a of
 * model_pack_id();
 * zeros to 56; FNV-1a of all before. Little-endian. */

#define MAGIC "obtuning"
#define VERSION 1u
#define SUM_AT (TUNING_BYTES - 8)

static void put_u64(uint8_t *at, uint64_t v)
{
    for (unsigned i = 0; i < 8; i++) {
        at[i] = (uint8_t)(v >> (8 * i));
    }
}

static uint64_t pack_mark(void)
{
    const char *id = model_pack_id();

    return fnv_add(FNV_START, id, strlen(id));
}

void tuning_write(const struct tuning *t, const struct engine *engine, uint8_t ret[TUNING_BYTES])
{
    memset(ret, 0, TUNING_BYTES);
    memcpy(ret, MAGIC, 8);
    ret[8] = VERSION;
    ret[9] = t->n_generate;
    ret[10] = t->n_prompt;
    ret[11] = t->n_streams;
    ret[12] = t->disturbed;
    put_u64(ret + 24, engine->mark);
    put_u64(ret + 32, pack_mark());
    put_u64(ret + SUM_AT, fnv_add(FNV_START, ret, SUM_AT));
}

int tuning_read(struct tuning *ret, const struct engine *engine, const void *data, size_t n)
{
    struct cursor c = cursor_of(data, n);
    const uint8_t *head = cursor_take(&c, 8);
    const uint8_t version = cursor_u8(&c);
    const struct tuning t = {.n_generate = cursor_u8(&c),
                             .n_prompt = cursor_u8(&c),
                             .n_streams = cursor_u8(&c),
                             .disturbed = cursor_u8(&c)};

    if (n != TUNING_BYTES || memcmp(head, MAGIC, 8) != 0) {
        return TUNING_MALFORMED;
    }
    (void)cursor_take(&c, 11);
    const uint64_t mark = cursor_u64(&c), pack = cursor_u64(&c);
    (void)cursor_take(&c, SUM_AT - 40);
    if (cursor_u64(&c) != fnv_add(FNV_START, data, SUM_AT)) {
        return TUNING_MALFORMED;
    }
    if (version != VERSION || mark != engine->mark || pack != pack_mark()) {
        return TUNING_STALE;
    }
    const unsigned most = threads_count(engine->threads);
    if (t.n_generate == 0 || t.n_generate > most || t.n_prompt == 0 || t.n_prompt > most ||
        t.n_streams > STEP_ITEMS_MAX || t.disturbed > 1) {
        return TUNING_MALFORMED;
    }
    *ret = t;
    return TUNING_OK;
}

void stepper_tune(struct stepper *st, const struct tuning *t)
{
    st->tuning = *t;
}

/* As it was measured. */
static unsigned best_threads(const struct stepper *st, size_t n_rows)
{
    const struct tuning *t = &st->tuning;

    if (n_rows == 1) {
        return t->n_generate;
    }
    return n_rows >= TUNE_MANY || t->n_prompt == t->n_generate ? t->n_prompt
                                                               : st->engine->n_threads;
}

unsigned step_threads(const struct stepper *st, size_t n_rows)
{
    const unsigned best = best_threads(st, n_rows), most = st->engine->n_threads_max;

    return most > 0 && most < best ? most : best;
}
