/* The mix of `onebit bench load`: short requests of class high and chats come at times drawn from
 * the seed, whether or not earlier ones are answered (an open loop, so that waiting shows), beside
 * labelling of class low that always has 50 requests there. */
#include "client/cli/bench_load.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "client/cli/bench.h"

#define BATCH 50u
#define TIMED_MAX 4096u /* requests that come by themselves in one round */
#define CHATS_OF_VOICES 0.2
#define RATE_DEFAULT 0.5
#define SECONDS_DEFAULT 20u
#define PATIENCE_S 3600u

struct mixing {
    struct bout *b;
    struct shot *shots; /* owned: BATCH labelling ones, then the timed */
    struct dice dice;   /* of the arrivals alone: when others end must not change them */
    size_t n_timed;
    bool over; /* labelling ends */
};

static enum mix_i kind_of(const struct shot *s)
{
    return s->request_class == ONEBIT_CLASS_HIGH     ? MIX_VOICE
           : s->request_class == ONEBIT_CLASS_NORMAL ? MIX_CHAT
                                                     : MIX_BATCH;
}

static int note(struct mix *m, const struct shot *s)
{
    m->tokens += s->n_tokens;
    m->refused += s->code == ONEBIT_ERR_QUEUE_FULL;
    if (s->code != 0) {
        return 0;
    }
    m->ended++;
    if (sample_add(&m->first, shot_first_ms(s)) != 0 || sample_join(&m->gaps, &s->gaps) != 0 ||
        sample_add(&m->queue, (double)s->queue_us / 1e3) != 0) {
        return bench_no_memory();
    }
    return 0;
}

static void on_end(struct shot *s, void *user)
{
    struct mixing *x = user;
    struct bout *b = x->b;
    const enum mix_i kind = kind_of(s);

    if (note(&b->mixes[kind], s) != 0) {
        b->load.error = EXIT_SOFTWARE;
    }
    if (kind == MIX_BATCH && s->code == 0 && !x->over && b->load.error == 0) {
        s->seed = dice_u64(&b->dice);
        const int r = load_fire(&b->load, s->lane, s);
        b->load.error = r == -EAGAIN ? 0 : r; /* never: there is room for one that has just ended */
        b->mixes[MIX_BATCH].sent++;
    }
}

static int fire(struct mixing *x, struct shot *s, enum mix_i kind, uint64_t due_ns)
{
    static const enum onebit_class classes[] = {ONEBIT_CLASS_HIGH, ONEBIT_CLASS_NORMAL,
                                                ONEBIT_CLASS_LOW};
    static const uint32_t prompts[] = {20, 500, 2000}, answers[] = {40, 150, 20};
    struct bout *b = x->b;
    const uint32_t longest = b->prompt_long;

    *s = (struct shot){
        .prompt = kind == MIX_BATCH || prompts[kind] > longest ? longest : prompts[kind],
        .answer = answers[kind],
        .request_class = classes[kind],
        .seed = dice_u64(&b->dice),
        .due_ns = due_ns,
        .on_end = on_end,
        .user = x,
    };
    b->mixes[kind].sent++;
    const int r = load_fire(&b->load, kind == MIX_BATCH ? LANE_CROWD : LANE_FILL + kind, s);
    if (r == -EAGAIN) { /* as many in flight as a connection may have: that is a refusal, too */
        b->mixes[kind].refused++;
        return 0;
    }
    return r;
}

/* What comes at its own time, until the round's seconds are over. */
static int arrivals(struct mixing *x, uint64_t begin_ns, uint64_t until_ns)
{
    struct bout *b = x->b;
    const double rate = b->args->bench.rate > 0 ? (double)b->args->bench.rate : RATE_DEFAULT;
    uint64_t at = begin_ns;
    int r = 0;

    while (r == 0 && x->n_timed < TIMED_MAX) {
        at += (uint64_t)(dice_wait(&x->dice, rate * (1 + CHATS_OF_VOICES)) * 1e9);
        if (at >= until_ns) {
            break;
        }
        const bool chat =
            dice_below(&x->dice, 1000) < 1000 * CHATS_OF_VOICES / (1 + CHATS_OF_VOICES);
        r = load_sleep(&b->load, at);
        if (r == 0) {
            struct shot *s = &x->shots[BATCH + x->n_timed++];
            (void)json_array_append_new(b->arrivals, json_pack("[i, f, s]", (int)b->round,
                                                               (double)(at - begin_ns) / 1e9,
                                                               chat ? "chat" : "voice"));
            r = fire(x, s, chat ? MIX_CHAT : MIX_VOICE, at);
        }
    }
    return r == 0 ? load_sleep(&b->load, until_ns) : r;
}

int case_mix(struct bout *b)
{
    const uint64_t begin = clock_now_ns();
    const uint32_t seconds = b->args->bench.seconds ? b->args->bench.seconds : SECONDS_DEFAULT;
    struct mixing x = {
        .b = b, .dice = bout_dice(b), .shots = calloc(BATCH + TIMED_MAX, sizeof(*x.shots))};
    int r = x.shots ? 0 : bench_no_memory();

    b->load.crowded = true;
    for (size_t i = 0; i < BATCH && r == 0; i++) {
        r = fire(&x, &x.shots[i], MIX_BATCH, 0);
    }
    r = r == 0 ? arrivals(&x, begin, begin + seconds * NS_PER_S) : r;
    for (size_t i = 0; i < x.n_timed && r == 0; i++) { /* those that came are answered beside it */
        r = load_land(&b->load, &x.shots[BATCH + i], PATIENCE_S);
    }
    b->mix_seconds += (double)(clock_now_ns() - begin) / 1e9;
    x.over = true;
    for (size_t i = 0; x.shots && i < BATCH; i++) { /* what they said until now counts */
        b->mixes[MIX_BATCH].tokens += x.shots[i].flying ? x.shots[i].n_tokens : 0;
    }
    b->load.crowded = false;
    load_close(&b->load, LANE_CROWD);
    for (size_t i = 0; x.shots && i < BATCH + x.n_timed; i++) {
        shot_deinit(&x.shots[i]);
    }
    if (r != 0) { /* no callback may come to shots that are gone */
        load_close(&b->load, LANE_FILL + MIX_VOICE);
        load_close(&b->load, LANE_FILL + MIX_CHAT);
    }
    free(x.shots);
    if (r == 0) {
        r = load_open(&b->load, LANE_CROWD);
    }
    return r == 0 ? load_settle(&b->load, LANE_ASK) : r;
}
