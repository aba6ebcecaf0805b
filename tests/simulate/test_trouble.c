/* Clients that do not read or go away, models that break, little KV, rate limits: over a thousand
 * seeded runs each. */
#include "tests/simulate/watch.h"

/* Goal: clients that do not read hold nobody up. Method: beside two equal identities a third whose
 * every stream is left unread somewhere, for up to half a minute; the two share as ever and get no
 * less than the third, and nothing is computed for it but what is on its way. */
static void who_does_not_read_holds_nobody_up(void **state)
{
    static struct sim s;
    uint64_t n_deaf = 0;
    (void)state;

    for (uint64_t seed = 0; seed < runs; seed++) {
        struct sim_random r;
        struct sim_options o = options_of(seed, &r);
        o.end_ns = 30 * NS_PER_S;
        o.sources[0] = backlog(&r, 0, CLASS_NORMAL, 40);
        o.sources[1] = backlog(&r, 1, CLASS_NORMAL, 40);
        o.sources[2] = backlog(&r, 2, CLASS_NORMAL, 100);
        o.sources[2].deaf = 1;
        o.sources[2].deaf_ms_max = 30000;
        o.n_sources = 3;
        run(&o, &s, NULL);
        if (watch.gap_over > 0) {
            fail_msg("seed %llu: a gap of %.0f tokens, chunk %u, %u streams",
                     (unsigned long long)seed, watch.gap_max, s.chunk_max, o.limits.streams_max);
        }
        n_deaf += s.n_deaf;
        assert_true(s.n_unread <= s.n_deaf); /* one that was on its way */
        const double most = 2.0 * (s.chunk_max + 2.0 * o.limits.streams_max);
        assert_true((double)s.accounts[2].served <= (double)s.accounts[0].served + most);
    }
    assert_true(n_deaf > runs);
}

static void note_all(struct sim *s, const struct sim_job *j, enum sim_end how, void *user)
{
    struct watch *w = user;

    if (s->options.sources[j->source].account == 0) {
        w->hash = (w->hash ^ s->now_ns ^ j->prompt) * UINT64_C(0x9e3779b97f4a7c15);
        w->n_ended++;
    }
    (void)how;
}

/* Goal: waiting at a bucket blocks nobody. Method: the very same run with and without requests that
 * wait at the bucket of another identity (the first of them has emptied it for the day); the others
 * must not differ by a nanosecond. */
static void waiting_at_a_bucket_blocks_nobody(void **state)
{
    static struct sim s;
    uint64_t waited = 0;
    (void)state;

    for (uint64_t seed = 0; seed < runs; seed++) {
        struct sim_random r;
        struct sim_options o = options_of(seed, &r);
        uint64_t hash[2], n[2];
        o.models[0].cost.noise = 0;
        o.end_ns = 15 * NS_PER_S;
        for (unsigned i = 0; i < 2; i++) { /* nothing is drawn but here: both runs draw alike */
            o.sources[i] = backlog(&r, i, i ? CLASS_HIGH : CLASS_NORMAL, 10);
            o.sources[i].prompt_min = o.sources[i].prompt_max;
            o.sources[i].answer_min = o.sources[i].answer_max;
        }
        o.sources[1].from_ns = NS_PER_S;
        o.rates[1] = (struct rates){.tokens_per_day = 1};
        o.n_sources = 2;
        for (size_t k = 0; k < 2; k++) {
            o.sources[1].at_most = k ? 50 : 1;
            run(&o, &s, note_all);
            hash[k] = watch.hash;
            n[k] = watch.n_ended;
        }
        waited += s.n_open[1];
        assert_int_equal(n[0], n[1]);
        assert_int_equal(hash[0], hash[1]);
    }
    assert_true(waited >= 9 * runs);
}

static void check_kv(struct sim *s, void *user)
{
    struct watch *w = user;
    uint64_t blocks = 0;

    list_for_each (j, next, &s->jobs, struct sim_job, link) {
        const uint64_t positions = (uint64_t)(j->done < j->total ? j->done : j->prompt + j->given);
        blocks += j->in_engine ? sched_blocks(&s->models[0].slots, positions) : 0;
    }
    w->kv_broken |= blocks > s->options.models[0].kv_blocks;
    assert_true(s->n_steps < 1000000);
}

static void strain_little_kv(uint64_t seed, bool one_class)
{
    static struct sim s;
    struct sim_random r;
    struct sim_options o = options_of(seed, &r);

    o.models[0].block_positions = 16;
    o.models[0].kv_blocks = sim_between(&r, 150, 500);
    for (unsigned i = 0; i < CLASSES; i++) {
        const enum request_class c = one_class ? CLASS_NORMAL : (enum request_class)i;
        o.sources[i] = backlog(&r, i, c, 8);
        o.sources[i].at_most = 8;
    }
    o.n_sources = CLASSES;
    free(watch.ends);
    watch = (struct watch){0};
    assert_int_equal(sim_init(&s, &o), 0);
    s.observe = check_kv;
    s.user = &watch;
    sim_run(&s);
    assert_int_equal(s.n_done, 8 * CLASSES);
    assert_int_equal(s.models[0].slots.blocks_used, 0);
    assert_int_equal(s.sched.n_held, 0);
    assert_false(watch.kv_broken);
    assert_true(s.n_give_backs <= 20 * 8 * CLASSES);
    sim_deinit(&s);
}

/* Goal: streams that outgrow the KV are given back and come again; all ends, nothing goes round and
 * round, and the engine never runs out. Method: three identities with too much for it, each of
 * another class, and all of the same. */
static void little_kv_serves_everybody_in_the_end(void **state)
{
    (void)state;

    for (uint64_t seed = 0; seed < runs; seed++) {
        strain_little_kv(seed, false);
        strain_little_kv(seed, true);
    }
}

/* Goal: whatever clients and models do, in the end nothing is held, counted or waited for. Method:
 * two models with little KV, one of them late and one broken for a while; clients that go away at
 * any time, that do not read, that wait at a bucket. */
static void nothing_is_left_over_whatever_happens(void **state)
{
    static struct sim s;
    (void)state;

    for (uint64_t seed = 0; seed < runs; seed++) {
        struct sim_random r;
        struct sim_options o = options_of(seed, &r);
        o.models[1].cost = sim_draw_cost(&r);
        o.models[1].ready_ns = 5 * NS_PER_S;
        o.models[0].broken_ns = 8 * NS_PER_S;
        o.models[0].mended_ns = 10 * NS_PER_S;
        for (unsigned i = 0; i < 6; i++) {
            o.sources[i] = backlog(&r, i / 2, (enum request_class)(i % CLASSES), 0);
            o.sources[i].model = i % 2;
            o.sources[i].per_s = 1;
            o.sources[i].at_most = 10;
            o.sources[i].deaf = o.sources[i].cancels = 0.3;
            o.sources[i].deaf_ms_max = o.sources[i].cancel_ms_max = 10000;
            o.models[i % 2].block_positions = 16;
            o.models[i % 2].kv_blocks = sim_between(&r, 150, 400);
        }
        o.rates[1] = (struct rates){.requests_per_s = 1, .burst_s = 1};
        o.n_sources = 6;
        assert_int_equal(sim_init(&s, &o), 0);
        sim_run(&s);
        assert_int_equal(s.n_done + s.n_failed + s.n_cancelled, 60);
        assert_true(s.n_cancelled > 0);
        assert_int_equal(s.sched.n_held, 0);
        for (size_t i = 0; i < SIM_MODELS_MAX; i++) {
            assert_int_equal(s.models[i].slots.n_held, 0);
            assert_int_equal(s.models[i].slots.blocks_used, 0);
        }
        for (size_t i = 0; i < 3; i++) {
            assert_true(sched_account_idle(&s.accounts[i]));
            for (int c = 0; c < CLASSES; c++) {
                assert_int_equal(sched_pending(&s.accounts[i], (enum request_class)c), 0);
            }
        }
        sim_deinit(&s);
    }
}

/* What the rule says of a breaker, from how requests end. */
static struct expected_breaker {
    const struct breaker_limits *limits;
    unsigned faults; /* in a row */
    bool open;
    uint64_t opened_ns, first_ns; /* again, by a probe; for the first time */
    uint64_t mended_ns;
    unsigned n_opened, n_closed, n_probes, n_rested;
    const struct sim_job *probe; /* on its way */
} expected;

static void expect_breaker(struct sim *s, const struct sim_job *j, enum sim_end how, void *user)
{
    struct expected_breaker *x = &expected;
    const bool due = s->now_ns >= x->opened_ns + x->limits->open_ns;
    (void)user;

    if (how == SIM_RESTS) { /* refused: open, and too early or somebody tries it */
        bool flying = false;
        list_for_each (other, next, &s->jobs, struct sim_job, link) {
            flying |= other->probe && other != j;
        }
        assert_true(x->open && (!due || flying));
        x->n_rested++;
        return;
    }
    if (j->probe) { /* let through not before its time */
        assert_true(x->open && j->arrived_ns >= x->opened_ns + x->limits->open_ns);
        x->n_probes++;
    } else if (x->open) { /* nobody else, once it was open */
        assert_true(j->arrived_ns <= x->first_ns);
    }
    if (how == SIM_FAILED && (j->probe || (!x->open && ++x->faults >= x->limits->faults))) {
        x->n_opened += !x->open;
        x->first_ns = x->open ? x->first_ns : s->now_ns;
        x->open = true;
        x->opened_ns = s->now_ns;
    } else if (how == SIM_DONE && (j->probe || !x->open)) {
        x->n_closed += x->open;
        x->open = false;
        x->faults = 0;
    }
    assert_true(s->models[0].breaker.open == x->open || how == SIM_FAILED || how == SIM_DONE);
}

/* Goal: the breaker opens after so many faults in a row, lets one probe through after its time, and
 * closes by a probe's success. Method: clients come at random to a model that is broken for a
 * while, wait in the queue, and some go away; who was let in and who was not is compared with what
 * the rule says. */
static void the_breaker_opens_probes_and_closes(void **state)
{
    static struct sim s;
    unsigned n_opened = 0, n_probes = 0;
    (void)state;

    for (uint64_t seed = 0; seed < runs; seed++) {
        struct sim_random r;
        struct sim_options o = options_of(seed, &r);
        o.breaker = (struct breaker_limits){.faults = 5, .open_ns = 30 * NS_PER_S};
        o.models[0].broken_ns = NS_PER_S + sim_wait_ns(&r, 0.1);
        o.models[0].mended_ns = o.models[0].broken_ns + sim_wait_ns(&r, seed % 2 ? 0.01 : 0.2);
        o.end_ns = o.models[0].mended_ns + 120 * NS_PER_S;
        for (unsigned i = 0; i < 2; i++) {
            o.sources[i] = sim_voice(i, 3);
            o.sources[i].class_ = i ? CLASS_LOW : CLASS_HIGH;
            o.sources[i].cancels = 0.2;
            o.sources[i].cancel_ms_max = 500;
        }
        o.n_sources = 2;
        expected = (struct expected_breaker){.limits = &o.breaker};
        run(&o, &s, expect_breaker);
        n_opened += expected.n_opened;
        n_probes += expected.n_probes;
        assert_int_equal(expected.n_opened, expected.n_closed);
        assert_true(expected.n_opened <= 1);
        assert_true(expected.n_opened == 0 || expected.n_rested > 0);
        assert_false(s.models[0].breaker.open);
        assert_true(s.n_done > 0);
    }
    assert_true(n_opened > runs * 6 / 10);
    assert_true(n_probes > n_opened);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_does_not_read_holds_nobody_up),
        cmocka_unit_test(waiting_at_a_bucket_blocks_nobody),
        cmocka_unit_test(little_kv_serves_everybody_in_the_end),
        cmocka_unit_test(nothing_is_left_over_whatever_happens),
        cmocka_unit_test(the_breaker_opens_probes_and_closes),
    };
    return run_all(argc, argv, tests);
}
