/* What the scheduler promises, over a thousand seeded runs each. */
#include "tests/simulate/watch.h"

#define WINDOW_S 60u

/* Goal: of two equal identities with work none gets ahead by more than two steps' worth, at any
 * moment, whatever their requests look like. */
static void two_equal_identities_stay_within_two_steps_of_each_other(void **state)
{
    static struct sim s;
    (void)state;

    for (uint64_t seed = 0; seed < runs; seed++) {
        struct sim_random r;
        struct sim_options o = options_of(seed, &r);
        o.end_ns = 30 * NS_PER_S;
        o.sources[0] = backlog(&r, 0, CLASS_NORMAL, 40);
        o.sources[1] = backlog(&r, 1, CLASS_NORMAL, 40);
        o.n_sources = 2;
        run(&o, &s, NULL);
        if (watch.gap_over > 0) {
            fail_msg("seed %llu: a gap of %.0f tokens, chunk %u, %u streams",
                     (unsigned long long)seed, watch.gap_max, s.chunk_max, o.limits.streams_max);
        }
        assert_true(s.n_done > 0);
    }
}

/* Goal: the same where each asks another model, one of them up to twenty times as slow and not
 * there at first: until it is, the other identity has the engine for itself; and then nobody pays
 * for the time before. */
static void two_models_are_shared_as_one_is(void **state)
{
    static struct sim s;
    (void)state;

    for (uint64_t seed = 0; seed < runs; seed++) {
        struct sim_random r;
        struct sim_options o = options_of(seed, &r);
        const double slower = 1 + 19 * sim_uniform(&r);
        o.models[1].cost = sim_draw_cost(&r);
        o.models[1].cost.pass_us = o.models[0].cost.pass_us * slower;
        o.models[1].cost.token_us = o.models[0].cost.token_us * slower;
        o.models[1].ready_ns = NS_PER_S + (uint64_t)(sim_uniform(&r) * 10e9);
        o.end_ns = 30 * NS_PER_S;
        for (unsigned i = 0; i < 2; i++) {
            o.sources[i] = backlog(&r, i, CLASS_NORMAL, 40);
            o.sources[i].model = i;
        }
        o.n_sources = 2;
        run_from(&o, &s, NULL, o.models[1].ready_ns);
        if (watch.gap_over > 0) {
            fail_msg("seed %llu: a gap of %.0f tokens, chunk %u, %u streams",
                     (unsigned long long)seed, watch.gap_max, s.chunk_max, o.limits.streams_max);
        }
        assert_int_equal(watch.before[1], 0);
        assert_true(watch.before[0] > 0 || o.models[1].ready_ns < 2 * NS_PER_S);
        assert_true(s.accounts[1].served > 0);
    }
}

static double jain(const uint64_t *from, const uint64_t *to, size_t n)
{
    double sum = 0, squares = 0;

    for (size_t i = 0; i < n; i++) {
        const double x = (double)(to[i] - from[i]);
        sum += x;
        squares += x * x;
    }
    return squares > 0 ? sum * sum / ((double)n * squares) : 1;
}

static void any_minute_is_shared_evenly(void **state)
{
    static struct sim s;
    double worst = 1;
    (void)state;

    for (uint64_t seed = 0; seed < runs; seed++) {
        struct sim_random r;
        struct sim_options o = options_of(seed, &r);
        o.end_ns = 75 * NS_PER_S;
        o.n_sources = sim_between(&r, 2, 6);
        for (unsigned i = 0; i < o.n_sources; i++) {
            o.sources[i] = backlog(&r, i, CLASS_NORMAL, 20);
        }
        run(&o, &s, NULL);
        assert_true(watch.seconds > WINDOW_S);
        for (size_t t = WINDOW_S; t < watch.seconds; t++) {
            worst = fmin(worst, jain(watch.served[t - WINDOW_S], watch.served[t], o.n_sources));
        }
        if (worst < 0.98) {
            fail_msg("seed %llu: %.4f", (unsigned long long)seed, worst);
        }
    }
}

static void low_gets_a_tenth_of_any_minute(void **state)
{
    static struct sim s;
    (void)state;

    for (uint64_t seed = 0; seed < runs; seed++) {
        struct sim_random r;
        struct sim_options o = options_of(seed, &r);
        o.end_ns = 75 * NS_PER_S;
        for (unsigned i = 0; i < CLASSES; i++) {
            o.sources[i] = backlog(&r, i, (enum request_class)i, 30);
        }
        o.n_sources = CLASSES;
        run(&o, &s, NULL);
        for (size_t t = WINDOW_S; t < watch.seconds; t++) {
            uint64_t all = 0;
            const uint64_t *from = watch.by_class[t - WINDOW_S], *to = watch.by_class[t];
            for (size_t c = 0; c < CLASSES; c++) {
                all += to[c] - from[c];
            }
            if ((to[CLASS_LOW] - from[CLASS_LOW]) * 10 < all) {
                fail_msg("seed %llu: low has %llu of %llu", (unsigned long long)seed,
                         (unsigned long long)(to[CLASS_LOW] - from[CLASS_LOW]),
                         (unsigned long long)all);
            }
        }
    }
}

/* Goal: connections are nothing: 50 of one identity get no more than 1 of another. Method: both
 * always have work, one of them 50 times as much in hand; and an occasional single request beside
 * 50 gets its first token as if the other side were one stream. */
static void fifty_connections_get_no_more_than_one(void **state)
{
    static struct sim s;
    (void)state;

    for (uint64_t seed = 0; seed < runs; seed++) {
        struct sim_random r;
        struct sim_options o = options_of(seed, &r);
        o.end_ns = 20 * NS_PER_S;
        o.sources[0] = backlog(&r, 0, CLASS_NORMAL, 800);
        o.sources[1] = o.sources[0];
        o.sources[1].account = 1;
        o.sources[1].depth = 16;
        o.n_sources = 2;
        run(&o, &s, NULL);
        const double most = 2.0 * (s.chunk_max + 2.0 * o.limits.streams_max);
        if ((double)s.accounts[0].served > (double)s.accounts[1].served + most) {
            fail_msg("seed %llu: %llu against %llu", (unsigned long long)seed,
                     (unsigned long long)s.accounts[0].served,
                     (unsigned long long)s.accounts[1].served);
        }
    }
}

static void note_single(struct sim *s, const struct sim_job *j, enum sim_end how, void *user)
{
    struct watch *w = user;

    assert_int_equal(how, SIM_DONE);
    if (s->options.sources[j->source].account == 1) {
        const double others = (double)(s->prompted[0] - w->prompted_before);
        w->single_ns = j->first_ns - j->arrived_ns;
        w->single_over = others - j->prompt - 2.0 * s->chunk_max;
    }
}

/* Goal: to a single request fifty of another identity are one: until its first token no more prompt
 * tokens of them all are computed than of its own, give or take two chunks. Method: that, in each
 * run; and the time to its first token beside an identity that always has one request open, and
 * beside one that has fifty. The time cannot be promised of each run: a turn of the others is a
 * fraction of a pass for each token where their prompts are computed and half a pass where they
 * decode, so it depends on which of these the one is just at. At most one run in a hundred takes
 * longer than twice the time beside one and two steps. */
static void a_single_request_is_not_kept_by_fifty_of_another(void **state)
{
    static struct sim s;
    double sum = 0;
    unsigned late = 0;
    (void)state;

    for (uint64_t seed = 0; seed < runs; seed++) {
        struct sim_random r;
        struct sim_options o = options_of(seed, &r);
        uint64_t first_ns[2];
        o.models[0].cost.noise = 0;
        const uint32_t prompt = sim_between(&r, 50, 500);
        o.sources[0] = (struct sim_source){.account = 1,
                                           .class_ = CLASS_NORMAL,
                                           .prompt_min = prompt,
                                           .prompt_max = prompt,
                                           .answer_min = 1,
                                           .answer_max = 1,
                                           .depth = 1,
                                           .from_ns = 10 * NS_PER_S,
                                           .at_most = 1};
        o.sources[1] = backlog(&r, 0, CLASS_NORMAL, 1);
        o.sources[1].prompt_min = o.sources[1].prompt_max;
        o.end_ns = 60 * NS_PER_S;
        o.n_sources = 2;
        for (size_t k = 0; k < 2; k++) {
            o.sources[1].depth = k ? 50 : 1;
            run_from(&o, &s, note_single, 11 * NS_PER_S);
            first_ns[k] = watch.single_ns;
            assert_true(first_ns[k] > 0);
            if (watch.single_over > 0) {
                fail_msg("seed %llu: %.0f tokens of others' prompts more than promised",
                         (unsigned long long)seed, watch.single_over);
            }
        }
        sum += (double)first_ns[1] / (double)first_ns[0];
        late += first_ns[1] > 2 * first_ns[0] + 2 * s.step_max_ns;
    }
    print_message("the first token beside fifty against beside one: %.2f times, %u late\n",
                  sum / (double)runs, late);
    assert_true(sum / (double)runs <= 2);
    assert_true(late <= (runs < 1000 ? 3 : runs / 100)); /* of few runs a part says little */
}

static void note_high(struct sim *s, const struct sim_job *j, enum sim_end how, void *user)
{
    struct watch *w = user;
    size_t n = 0;

    if (j->job.class_ != CLASS_HIGH) {
        return;
    }
    assert_int_equal(how, SIM_DONE);
    for (size_t i = w->n_ends; i > 0 && w->ends[i - 1] > j->arrived_ns; i--) {
        n += w->ends[i - 1] < j->computed_ns;
    }
    w->n_high++;
    w->late += n > 1; /* the step it came into, then its own */
    (void)s;
}

/* Goal: a high request under full low load waits for the step in flight and no longer. */
static void a_high_request_is_computed_in_the_step_after_it_came(void **state)
{
    static struct sim s;
    unsigned n = 0, late = 0;
    (void)state;

    for (uint64_t seed = 0; seed < runs; seed++) {
        struct sim_random r;
        struct sim_options o = options_of(seed, &r);
        o.end_ns = 60 * NS_PER_S;
        o.sources[0] = backlog(&r, 0, CLASS_LOW, 50);
        o.sources[1] = sim_voice(1, 1);
        o.sources[1].from_ns = (uint64_t)(sim_uniform(&r) * 5e9);
        o.sources[1].depth = 1;
        o.sources[1].at_most = 1;
        o.n_sources = 2;
        run(&o, &s, note_high);
        n += watch.n_high;
        late += watch.late;
    }
    assert_int_equal(n, runs);
    assert_int_equal(late, 0);
}

/* What fair does in the time that first come first served takes, as a part of it. */
static double against_fifo(struct sim_options *o)
{
    static struct sim s;
    double rate[2];

    for (size_t k = 0; k < 2; k++) {
        o->limits.fifo = k == 1;
        run(o, &s, NULL);
        rate[k] = (double)(s.prompt_tokens + s.answer_tokens) / (double)(s.now_ns - NS_PER_S);
    }
    return rate[0] / rate[1];
}

/* Voice, chat and labelling, each a third of so much of the time as all of it takes one after the
 * other. */
static double at_load(uint64_t seed, double load)
{
    struct sim_random r;
    struct sim_options o = options_of(seed, &r);
    const struct sim_cost *c = &o.models[0].cost;

    o.limits.streams_max = 16;
    o.sources[0] = sim_voice(0, 0);
    o.sources[1] = sim_chat(1, 0);
    o.sources[2] = sim_batch(2, 0);
    o.n_sources = 3;
    for (size_t i = 0; i < o.n_sources; i++) {
        struct sim_source *from = &o.sources[i];
        const double prompt = (from->prompt_min + from->prompt_max) / 2.0;
        const double answer = (from->answer_min + from->answer_max) / 2.0;
        const double us = prompt * c->token_us + answer * (c->pass_us + c->stream_us);
        from->per_s = 1e6 / us * load / 3;
        from->at_most = 1 + (uint64_t)(from->per_s * 200);
    }
    return against_fifo(&o);
}

/* Goal: what is asked for is done in the same time, up to where it would fill all of it one after
 * the other (decoding together leaves room then); what more than that costs is in
 * docs/decisions/007. Method: voice, chat and labelling until all is answered, in both modes. */
static void fair_does_the_work_of_first_come_first_served(void **state)
{
    double worst[2] = {1, 1}, sum[2] = {0, 0};
    (void)state;

    for (uint64_t seed = 0; seed < runs; seed++) {
        for (size_t all = 0; all < 2; all++) {
            const double part = at_load(seed, all ? 1 : 0.5);
            worst[all] = fmin(worst[all], part);
            sum[all] += part / (double)runs;
        }
    }
    print_message("fair against fifo at half load: %.3f, at worst %.3f\n", sum[0], worst[0]);
    print_message("fair against fifo at load 1: %.3f, at worst %.3f\n", sum[1], worst[1]);
    assert_true(sum[0] >= 0.98 && worst[0] >= 0.96);
    assert_true(sum[1] >= 0.98 && worst[1] >= 0.9);
}

/* Goal: work that nobody waits for is done at nearly full speed. Method: labelling without end on
 * machines whose pass takes up to 15 ms (on a slower one a chunk is kept short for who comes
 * next). */
static void labelling_alone_loses_little_against_first_come_first_served(void **state)
{
    double sum = 0;
    (void)state;

    for (uint64_t seed = 0; seed < runs / 4; seed++) {
        struct sim_random r;
        struct sim_options o = options_of(seed, &r);
        o.models[0].cost.stream_us *= 0.3;
        o.models[0].cost.token_us *= 0.3;
        o.models[0].cost.pass_us *= 0.3;
        o.limits.streams_max = 16;
        o.end_ns = 60 * NS_PER_S;
        o.sources[0] = sim_batch(0, 50);
        o.n_sources = 1;
        sum += against_fifo(&o);
    }
    print_message("labelling alone against fifo: %.3f\n", sum / (double)(runs / 4));
    assert_true(sum / (double)(runs / 4) >= 0.98);
}

/* That a high's step begins after it came; more is too much. */
static uint64_t wait_max_ns;

static double pass_us_of(const struct sim_options *o)
{
    const struct sim_cost *c = &o->models[0].cost;

    return c->pass_us + o->limits.streams_max * c->stream_us;
}

/* 120 ms or three passes; a tenth more is noise. */
static uint64_t wait_promised(const struct sim_options *o)
{
    return (uint64_t)(1.1e3 * fmax(120e3, 3 * pass_us_of(o)));
}

/* Was no other high there when it came? */
static bool came_alone(const struct sim *s, const struct sim_job *j)
{
    list_for_each (k, next, &s->jobs, struct sim_job, link) {
        if (k != j && k->job.class_ == CLASS_HIGH && k->arrived_ns <= j->arrived_ns) {
            return false;
        }
    }
    return watch.high_ns < j->arrived_ns;
}

static void note_wait(struct sim *s, const struct sim_job *j, enum sim_end how, void *user)
{
    struct watch *w = user;

    if (j->job.class_ != CLASS_HIGH) {
        return;
    }
    assert_int_equal(how, SIM_DONE);
    if (came_alone(s, j)) {
        w->n_high++;
        w->late += j->begun_ns > j->arrived_ns + wait_max_ns;
    }
    w->high_ns = s->now_ns;
}

/* Goal: whoever comes does not wait long for work that nobody waits for. Method: low alone, prompts
 * beside streams of its own, and now and then a request above it: one in a minute, in two seconds,
 * three in a second. Its step begins within three passes, or 120 ms where that is more; and no step
 * takes longer than five, or 400 ms, since stopping one is the exception. A tenth is noise, and one
 * in a hundred may fall into the engine's first measurement of something. */
static void who_comes_does_not_wait_for_low(void **state)
{
    static const double per_s[] = {1 / 60.0, 0.5, 3};
    static struct sim s;
    unsigned n = 0, late = 0;
    uint64_t n_stops = 0;
    (void)state;

    for (uint64_t seed = 0; seed < runs; seed++) {
        struct sim_random r;
        struct sim_options o = options_of(seed, &r);
        o.models[0].cost.pass_us *=
            seed % 4 < 2 ? 4 : 1; /* a slow board with a large model: 20 to 200 ms */
        o.end_ns = 60 * NS_PER_S;
        o.sources[0] = seed % 8 < 4 ? sim_batch(0, 50) : backlog(&r, 0, CLASS_LOW, 50);
        o.sources[1] = sim_voice(1, per_s[seed % 3]);
        o.sources[1].from_ns = 5 * NS_PER_S;
        o.n_sources = 2;
        wait_max_ns = wait_promised(&o);
        step_max_ns = (uint64_t)(1.1e3 * fmax(400e3, 5 * pass_us_of(&o)));
        run(&o, &s, note_wait);
        n += watch.n_high;
        late += watch.late;
        n_stops += s.n_stops;
        if (watch.n_long * 100 > watch.n_ends || watch.n_ends < 60) {
            fail_msg("seed %llu: %zu of %zu steps take longer than %.0f ms",
                     (unsigned long long)seed, watch.n_long, watch.n_ends,
                     (double)step_max_ns / 1e6);
        }
    }
    print_message("%u of %u waited for low, %llu steps stopped\n", late, n,
                  (unsigned long long)n_stops);
    assert_true(n > 4 * runs && n_stops > 4 * runs);
    assert_true(late * 100 <= n);
}

/* Goal: what stopping costs is bounded, and when that is used up nobody waits longer. Method: low
 * without end, and requests above it as often as it pleases somebody; of all time at most a
 * twentieth, and what may be lost at once, is thrown away. */
static void little_is_thrown_away_however_many_come(void **state)
{
    static struct sim s;
    double most = 0;
    unsigned n = 0, late = 0;
    (void)state;

    for (uint64_t seed = 0; seed < runs / 2; seed++) {
        struct sim_random r;
        struct sim_options o = options_of(seed, &r);
        o.end_ns = 61 * NS_PER_S;
        o.sources[0] = sim_batch(0, 50);
        o.sources[1] = sim_voice(1, 0.2 + 5 * sim_uniform(&r));
        o.sources[1].answer_min = o.sources[1].answer_max = 1; /* gone again at once */
        o.sources[1].from_ns = 5 * NS_PER_S;
        o.n_sources = 2;
        wait_max_ns = wait_promised(&o);
        run(&o, &s, note_wait);
        n += watch.n_high;
        late += watch.late;
        most = fmax(most, (double)s.stopped_ns / 1e9);
        assert_true((double)s.stopped_ns / 1e9 <= 1.1 * (0.05 * 60 + 2)); /* a stop takes a layer */
    }
    print_message("at most %.2f s of a minute thrown away, %u of %u waited for low\n", most, late,
                  n);
    assert_true(most > 2 && n > 10 * runs);
    assert_true(late * 100 <= n);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_equal_identities_stay_within_two_steps_of_each_other),
        cmocka_unit_test(two_models_are_shared_as_one_is),
        cmocka_unit_test(any_minute_is_shared_evenly),
        cmocka_unit_test(low_gets_a_tenth_of_any_minute),
        cmocka_unit_test(fifty_connections_get_no_more_than_one),
        cmocka_unit_test(a_single_request_is_not_kept_by_fifty_of_another),
        cmocka_unit_test(a_high_request_is_computed_in_the_step_after_it_came),
        cmocka_unit_test(fair_does_the_work_of_first_come_first_served),
        cmocka_unit_test(labelling_alone_loses_little_against_first_come_first_served),
        cmocka_unit_test(who_comes_does_not_wait_for_low),
        cmocka_unit_test(little_is_thrown_away_however_many_come),
    };
    return run_all(argc, argv, tests);
}
