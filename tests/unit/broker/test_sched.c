/* Whose turn it is, case by case. What holds over whole runs is bench/simulate's. */
#include "tests/unit/broker/sched_rig.h"

#include <math.h>

static void classes_go_in_order_and_each_in_the_order_it_came(void **state)
{
    static const enum request_class classes[] = {CLASS_LOW, CLASS_NORMAL, CLASS_NORMAL, CLASS_HIGH,
                                                 CLASS_LOW};
    static const uint64_t order[] = {4, 2, 3};
    (void)state;

    rig.sched.limits.streams_max = 3;
    for (size_t i = 0; i < ARRAY_SIZE(classes); i++) {
        (void)submit(0, classes[i], 5);
    }
    assert_int_equal(plan()->n_run, 1); /* no other prompt fills up the step of its first token */
    assert_int_equal(rig.plan.run[0]->seq, order[0]);
    assert_ptr_equal(rig.plan.start[0], rig.plan.run[0]);
    step();
    assert_int_equal(plan()->n_run, 3);
    assert_int_equal(rig.plan.n_start, 2);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(rig.plan.run[i]->seq, order[i]);
        assert_true(rig.plan.run[i]->held && rig.plan.run[i]->planned);
    }
    assert_int_equal(plan()->n_start, 0); /* what is decided is done */
    assert_int_equal(rig.plan.n_run, 3);
    assert_int_equal(rig.accounts[0].n_waiting, 2);
    assert_int_equal(rig.accounts[0].n_held, 3);
}

/* Low is paused and not started while the machine is to rest, even where low alone has work or has
 * been paused for long; whoever is suspected is no exception. */
static void classes_below_the_lowest_that_may_work_wait(void **state)
{
    struct job *low = submit(0, CLASS_LOW, 1), *late;
    (void)state;

    assert_int_equal(plan()->n_run, 1);
    step();
    rig.sched.limits.lowest = CLASS_NORMAL;
    assert_int_equal(plan()->n_run, 0);
    assert_true(low->held); /* with its KV in place */
    late = submit(1, CLASS_LOW, 1);
    struct job *normal = submit(1, CLASS_NORMAL, 1);
    rig.now_ns += 500 * NS_PER_S; /* longer than anybody is paused otherwise */
    assert_int_equal(plan()->n_run, 1);
    assert_true(runs(normal) && rig.plan.n_start == 1);
    step();
    low->deaths = 2;
    assert_int_equal(plan()->n_run, 1);
    assert_true(runs(normal));
    low->deaths = 0;
    rig.sched.limits.fifo = true;
    assert_int_equal(plan()->n_run, 1);
    rig.sched.limits.fifo = false;
    rig.sched.limits.lowest = CLASS_LOW;
    (void)plan();
    assert_true(runs(low));
    step();
    (void)plan();
    assert_true(runs(late));
}

static void one_job_of_an_identity_needs_not_wait_behind_fifty_of_another(void **state)
{
    (void)state;

    for (size_t i = 0; i < 50; i++) {
        (void)submit(0, CLASS_NORMAL, 20);
    }
    assert_int_equal(plan()->n_run, 16);
    step();
    struct job *one = submit(1, CLASS_NORMAL, 20);
    assert_int_equal(plan()->n_run, 16);
    assert_true(runs(one));
    assert_ptr_equal(rig.plan.run[0], one); /* and its prompt is the first to be computed */
    assert_int_equal(rig.plan.n_give_back, 0);
    assert_int_equal(rig.accounts[0].n_held, 16); /* one of them is paused in place */
}

static void equal_identities_share_the_streams_and_weights_are_kept(void **state)
{
    size_t n[2] = {0, 0};
    (void)state;

    rig.accounts[1].weight = 3;
    for (size_t i = 0; i < 40; i++) {
        (void)submit(i % 2, CLASS_NORMAL, 1);
    }
    for (size_t k = 0; k < 400; k++) {
        (void)plan();
        for (size_t i = 0; i < rig.plan.n_run; i++) {
            n[rig.plan.run[i]->account == &rig.accounts[1]]++;
        }
        step();
    }
    assert_int_equal(n[0] + n[1], 400 * 16);
    assert_in_range(n[1], 400 * 12 - 20, 400 * 12 + 20);
}

static void service_is_charged_as_it_is_given_and_never_twice(void **state)
{
    struct job *j = submit(0, CLASS_NORMAL, 0);
    (void)state;

    assert_int_equal(j->prompt, 3); /* 10 bytes: a guess */
    (void)plan();
    sched_started(&rig.sched, j, 100, 16);
    assert_int_equal(sched_pending(&rig.accounts[0], CLASS_NORMAL), 84);
    sched_prefilled(&rig.sched, j, 48, 100, rig.now_ns);
    assert_int_equal(rig.accounts[0].served, 32);
    sched_prefilled(&rig.sched, j, 48, 1000, rig.now_ns); /* an engine gone wrong */
    assert_int_equal(j->left, 52);
    sched_tokens(&rig.sched, j, 1, rig.now_ns);
    assert_int_equal(rig.accounts[0].served, 84 + 2);
    assert_int_equal(sched_pending(&rig.accounts[0], CLASS_NORMAL), 0);

    (void)die();
    (void)plan(); /* replayed: computed again, but not its fault */
    assert_true(j->held);
    assert_int_equal(j->left, 101);
    sched_started(&rig.sched, j, 100, 0);
    sched_prefilled(&rig.sched, j, 100, 101, rig.now_ns);
    sched_tokens(&rig.sched, j, 1, rig.now_ns);
    assert_int_equal(rig.accounts[0].served, 84 + 4);
    sched_remove(&rig.sched, j); /* cancelled: what was done stays charged */
    assert_true(rig.accounts[0].counter[CLASS_NORMAL] > 87);
    assert_true(sched_account_idle(&rig.accounts[0]));
}

static void a_guess_is_made_anew_once_its_model_is_known(void **state)
{
    struct slots wordy = {.bytes_per_token = 2};
    struct job *guessed = submit(0, CLASS_NORMAL, 0), *counted = submit(0, CLASS_NORMAL, 7);
    (void)state;

    assert_int_equal(guessed->prompt, 3);
    sched_bind(guessed, &wordy);
    sched_bind(counted, &wordy);
    assert_int_equal(guessed->prompt, 6);
    assert_int_equal(counted->prompt, 7);
    assert_int_equal(sched_pending(&rig.accounts[0], CLASS_NORMAL), 13);
    for (size_t i = 0; i < 100; i++) { /* what requests come to is learned */
        struct job *j = submit(1, CLASS_NORMAL, 0);
        (void)plan();
        sched_started(&rig.sched, j, 1, 0);
        sched_remove(&rig.sched, j);
        rig.n_jobs--;
    }
    assert_int_equal(sched_prompt_estimate(&rig.model, 100), 11);
}

static void who_comes_back_from_idle_starts_beside_the_smallest(void **state)
{
    struct job *late;
    (void)state;

    (void)submit(0, CLASS_NORMAL, 1);
    (void)submit(1, CLASS_HIGH, 1);
    for (size_t i = 0; i < 100; i++) {
        (void)plan();
        step();
    }
    late = submit(2, CLASS_NORMAL, 1);
    (void)plan();
    assert_true(rig.accounts[2].counter[CLASS_NORMAL] > 195);
    /* Who cannot work, because its client does not read, saves nothing up either. */
    late->blocked = true;
    (void)plan();
    for (size_t i = 0; i < 100; i++) {
        (void)plan();
        step();
    }
    late->blocked = false;
    (void)plan();
    assert_true(rig.accounts[2].counter[CLASS_NORMAL] > 390);
}

static void a_job_at_a_bucket_or_with_a_blocked_client_stands_aside(void **state)
{
    struct job *a = submit(0, CLASS_HIGH, 1), *b = submit(0, CLASS_HIGH, 1);
    struct job *c = submit(0, CLASS_LOW, 1);
    (void)state;

    assert_int_equal(sched_pending(&rig.accounts[0], CLASS_HIGH), 2);
    sched_park(a, true);
    sched_park(a, true);
    assert_int_equal(sched_pending(&rig.accounts[0], CLASS_HIGH), 1); /* nobody waits for it */
    b->blocked = true;
    assert_int_equal(plan()->n_run, 1);
    assert_ptr_equal(rig.plan.run[0], c);
    sched_park(a, false);
    assert_int_equal(sched_pending(&rig.accounts[0], CLASS_HIGH), 2);
    assert_ptr_equal(plan()->run[0], a);
    step();
    b->blocked = false;
    assert_int_equal(plan()->n_run, 2);
    step();
    assert_int_equal(plan()->n_run, 3);
    a->blocked = true;
    assert_int_equal(plan()->n_run, 2);
    assert_true(a->held && !a->planned);
}

static void a_rate_of_long_ago_is_none(void **state)
{
    (void)state;

    rig.model.prompt_rate = 1;
    rig.model.rate_at_ns = rig.now_ns;
    assert_true(sched_rate_known(&rig.model, rig.now_ns + NS_PER_S));
    assert_false(sched_rate_known(&rig.model, rig.now_ns + 6 * NS_PER_S));
    rig.model.prompt_rate = 0;
    assert_false(sched_rate_known(&rig.model, rig.now_ns));
    assert_false(sched_rate_known(NULL, rig.now_ns));
}

/* Goal: nobody can teach the estimate nonsense. */
static void a_body_of_padding_does_not_spoil_the_estimate(void **state)
{
    struct job *padded = submit(0, CLASS_NORMAL, 1);
    (void)state;

    padded->bytes = 900000;
    (void)plan();
    sched_started(&rig.sched, padded, 1, 0);
    assert_true(sched_prompt_estimate(&rig.model, 1600) >= 100);
}

/* Goal: a lower class joins a step only as far as it stays within twice the higher one's. Method: a
 * model where each stream costs as much as the pass, and one where they cost next to nothing. */
static void lower_classes_join_where_it_costs_little_and_pause_where_it_does_not(void **state)
{
    (void)state;

    for (size_t dear = 0; dear < 2; dear++) {
        (void)setup(NULL);
        for (uint32_t i = 0; i < 60; i++) {
            const uint32_t n = 1 + i % 8, p = i % 3;
            sched_step(&rig.model, n, p, 10000 + n * (dear ? 9000 : 100) + 1000 * (uint64_t)p);
        }
        assert_true(cost_us(&rig.model.cost, 1, 0) > 10000);
        struct job *low[4];
        for (size_t i = 0; i < ARRAY_SIZE(low); i++) {
            low[i] = submit(0, CLASS_LOW, 1);
        }
        (void)plan();
        step();
        struct job *high = submit(1, CLASS_HIGH, 1);
        (void)plan();
        step();
        (void)plan();
        assert_ptr_equal(rig.plan.run[0], high);
        assert_int_equal(rig.plan.n_run, dear ? 3 : 5); /* 19 ms alone: 37 for three of them */
        for (size_t i = 0; i < ARRAY_SIZE(low); i++) {
            assert_true(low[i]->held); /* with its KV in place */
        }
    }
}

/* Goal: low gets a tenth of the service however much the others want. */
static void low_keeps_its_share(void **state)
{
    uint64_t low, all;
    (void)state;

    rig.sched.limits.streams_max = 4;
    for (size_t i = 0; i < 20; i++) {
        (void)submit(0, CLASS_HIGH, 1);
        (void)submit(1, CLASS_LOW, 1);
    }
    for (size_t k = 0; k < 1000; k++) {
        (void)plan();
        step();
    }
    low = rig.accounts[1].served;
    all = low + rig.accounts[0].served;
    assert_true(low * 10 >= all - all / 50);
    assert_true(low * 8 <= all);
}

/* Goal: low's share is service, not seats: prompts that get no tokens in a step take no stream's
 * place. */
static void low_s_share_takes_no_more_places_than_it_can_use(void **state)
{
    size_t n_high = 0;
    (void)state;

    rig.sched.limits.streams_max = 4;
    rig.model.chunk = 32;
    for (size_t i = 0; i < 4; i++) {
        (void)submit(0, CLASS_HIGH, 1);
    }
    (void)plan();
    step();
    for (size_t i = 0; i < 8; i++) {
        (void)submit(1, CLASS_LOW, 1000);
    }
    (void)plan();
    rig.sched.low_credit = 40;
    (void)plan();
    for (size_t i = 0; i < rig.plan.n_run; i++) {
        n_high += rig.plan.run[i]->class_ == CLASS_HIGH;
    }
    assert_int_equal(rig.plan.n_run, 4);
    assert_int_equal(n_high, 3);
}

static void nobody_is_paused_for_longer_than_the_limit(void **state)
{
    struct job *a;
    (void)state;

    rig.sched.limits.streams_max = 1;
    a = submit(0, CLASS_NORMAL, 1);
    (void)plan();
    step();
    (void)submit(1, CLASS_HIGH, 1);
    for (size_t i = 0; i < 11900; i++) {
        (void)plan();
        assert_false(runs(a));
        step();
    }
    for (size_t i = 0; i < 200 && !runs(a); i++) {
        step();
        (void)plan();
    }
    assert_true(runs(a));
    assert_in_range(rig.now_ns / NS_PER_S, 120, 122);
    step();
    (void)plan();
    assert_false(runs(a)); /* it has had its token */
}

static void a_limit_of_its_own_and_a_model_that_is_not_there_stop_only_their_jobs(void **state)
{
    struct slots absent = {0};
    (void)state;

    rig.accounts[0].running_max = 2;
    for (size_t i = 0; i < 4; i++) {
        (void)submit(0, CLASS_NORMAL, 1);
        submit(1, CLASS_NORMAL, 1)->slots = i < 2 ? &absent : &rig.model;
    }
    assert_int_equal(plan()->n_run, 4);
    assert_int_equal(rig.accounts[0].n_held, 2);
    assert_int_equal(rig.accounts[1].n_held, 2);
}

/* Goal: only the culprit fails. Method: three jobs, the third crashes the engine whenever it works
 * on it; the others deliver a token when they run without it. */
static void after_two_deaths_suspects_run_alone_and_the_culprit_is_found(void **state)
{
    struct job *a = submit(0, CLASS_NORMAL, 1), *b = submit(1, CLASS_NORMAL, 1);
    struct job *bad = submit(0, CLASS_NORMAL, 1);
    (void)state;

    for (size_t round = 0; round < 2; round++) {
        assert_int_equal(plan()->n_run, 3);
        assert_int_equal(die(), 0);
    }
    struct job *innocent[] = {a, b};
    for (size_t i = 0; i < 2; i++) { /* each alone, until a token clears it */
        assert_int_equal(plan()->n_run, 1);
        assert_ptr_equal(rig.plan.run[0], innocent[i]);
        step();
    }
    assert_int_equal(plan()->n_run, 1); /* a and b are held beside it, paused */
    assert_ptr_equal(rig.plan.run[0], bad);
    assert_int_equal(die(), 1);
    assert_int_equal(a->deaths + b->deaths, 0);
    assert_int_equal(plan()->n_run, 2);
}

static void a_suspect_that_cannot_run_stops_nobody(void **state)
{
    struct job *suspect = submit(0, CLASS_HIGH, 1), *other = submit(1, CLASS_LOW, 1);
    struct slots absent = {0};
    (void)state;

    (void)plan();
    step();
    assert_int_equal(plan()->n_run, 2);
    sched_forgotten(&rig.sched, suspect);
    sched_forgotten(&rig.sched, other);
    suspect->deaths = JOB_SUSPECT_DEATHS;
    suspect->blocked = true;
    assert_ptr_equal(plan()->run[0], other);
    suspect->blocked = false;
    suspect->slots = &absent;
    assert_ptr_equal(plan()->run[0], other);
    suspect->slots = &rig.model;
    assert_int_equal(plan()->n_run, 1);
    assert_ptr_equal(rig.plan.run[0], suspect);
}

static void fifo_knows_neither_classes_nor_shares(void **state)
{
    (void)state;

    rig.sched.limits.fifo = true;
    rig.sched.limits.streams_max = 3;
    for (size_t i = 0; i < 4; i++) {
        (void)submit(0, CLASS_LOW, 1);
    }
    (void)submit(1, CLASS_HIGH, 1);
    for (size_t k = 0; k < 20; k++) {
        assert_int_equal(plan()->n_run, 3);
        for (size_t i = 0; i < 3; i++) {
            assert_int_equal(rig.plan.run[i]->seq, i + 1);
        }
        assert_int_equal(rig.plan.prompt_us, UINT32_MAX);
        step();
    }
    sched_remove(&rig.sched, &rig.jobs[0]);
    (void)plan();
    assert_int_equal(rig.plan.run[2]->seq, 4);
}

static void bodies_bound_what_one_plan_starts(void **state)
{
    (void)state;

    for (size_t i = 0; i < 4; i++) {
        (void)submit(0, CLASS_NORMAL, 1);
    }
    sched_plan(&rig.sched, rig.now_ns, 25, &rig.plan);
    assert_int_equal(rig.plan.n_start, 2);
    assert_int_equal(rig.plan.n_run, 2);
    sched_plan(&rig.sched, rig.now_ns, 0, &rig.plan);
    assert_int_equal(rig.plan.n_start, 0);
    assert_int_equal(rig.plan.n_run, 2);
}

static uint64_t foreseen_ms(size_t account, const struct slots *m, enum request_class class_)
{
    return sched_first_token_ms(&rig.sched, &rig.accounts[account], m, class_, 100, 0, rig.now_ns);
}

static void the_first_token_is_foreseen_from_what_goes_before_it(void **state)
{
    struct job *j;
    (void)state;

    assert_int_equal(foreseen_ms(0, &rig.model, CLASS_NORMAL), 0);
    assert_int_equal(foreseen_ms(0, NULL, CLASS_NORMAL), 0);
    j = submit(0, CLASS_NORMAL, 1000);
    (void)plan();
    for (uint32_t done = 100; done <= 500; done += 100) { /* 1 token a millisecond */
        rig.now_ns += 100 * NS_PER_MS;
        sched_prefilled(&rig.sched, j, done, 1000, rig.now_ns);
    }
    assert_in_range(foreseen_ms(0, &rig.model, CLASS_NORMAL), 595, 605); /* behind its own */
    assert_in_range(foreseen_ms(1, &rig.model, CLASS_NORMAL), 195,
                    205);                                             /* in turns with another's */
    assert_in_range(foreseen_ms(1, &rig.model, CLASS_HIGH), 98, 103); /* before another's */
    assert_in_range(foreseen_ms(1, &rig.model, CLASS_LOW), 595, 605);
}

/* Goal: what one model takes refuses nobody at another. Method: two models, one a hundred times as
 * fast, whose steps take turns; each one's rate is its own, and prompts ahead count by the rate of
 * their model. */
static void two_models_of_very_different_speed_are_foreseen_each_by_its_own(void **state)
{
    struct slots slow = {.ready = true, .n_streams = 64}, third = {.ready = true, .n_streams = 64};
    struct job *fast_job = submit(0, CLASS_NORMAL, 100000), *slow_job = submit(1, CLASS_NORMAL, 0);
    (void)state;

    sched_bind(slow_job, &slow);
    (void)plan();
    sched_started(&rig.sched, slow_job, 1000, 0);
    assert_int_equal(sched_pending(&rig.accounts[1], CLASS_NORMAL), 1000);
    for (uint32_t k = 1; k <= 10; k++) { /* 10 tokens a millisecond against 1 in ten */
        rig.now_ns += 50 * NS_PER_MS;
        sched_prefilled(&rig.sched, fast_job, 500 * k, 100000, rig.now_ns);
        rig.now_ns += 50 * NS_PER_MS;
        sched_prefilled(&rig.sched, slow_job, 5 * k, 1000, rig.now_ns);
    }
    assert_in_range((uint64_t)(rig.model.prompt_rate * 1e6), 9900, 10100);
    assert_in_range((uint64_t)(slow.prompt_rate * 1e6), 99, 101);
    assert_in_range(foreseen_ms(2, &rig.model, CLASS_NORMAL), 28, 32); /* in turns with both */
    assert_in_range(foreseen_ms(2, &rig.model, CLASS_HIGH), 9, 12);
    assert_in_range(foreseen_ms(2, &slow, CLASS_HIGH), 990, 1010);
    assert_in_range(foreseen_ms(2, &slow, CLASS_NORMAL), 2980,
                    3020);                                     /* two others as long as itself */
    assert_int_equal(foreseen_ms(2, &third, CLASS_NORMAL), 0); /* nobody knows */
    slow.ready = false; /* its prompts wait for it, nobody for them */
    assert_in_range(foreseen_ms(2, &rig.model, CLASS_NORMAL), 18, 22);
    slow.ready = true;
    rig.now_ns += 4 * NS_PER_S;
    rig.model.rate_at_ns = rig.now_ns;
    rig.now_ns += 2 * NS_PER_S; /* long ago for the slow one */
    assert_in_range(foreseen_ms(2, &rig.model, CLASS_NORMAL), 18, 22);
    assert_int_equal(foreseen_ms(2, &slow, CLASS_NORMAL), 0);
}

/* Goal: the tabs of an account add up, however many models it uses. */
static void more_models_than_tabs_lose_no_tokens(void **state)
{
    struct slots models[2 * SCHED_TABS];
    struct job *jobs[ARRAY_SIZE(models)];
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(models); i++) {
        models[i] = (struct slots){.prompt_rate = 1, .rate_at_ns = rig.now_ns, .ready = true};
        jobs[i] = submit(0, CLASS_NORMAL, 1000);
        sched_bind(jobs[i], &models[i]);
    }
    assert_int_equal(sched_pending(&rig.accounts[0], CLASS_NORMAL), 1000 * ARRAY_SIZE(models));
    assert_int_equal(foreseen_ms(0, &models[0], CLASS_NORMAL), 8 + 1);
    for (size_t i = 0; i < ARRAY_SIZE(models); i++) {
        sched_remove(&rig.sched, jobs[i]);
        assert_int_equal(sched_pending(&rig.accounts[0], CLASS_NORMAL),
                         1000 * (ARRAY_SIZE(models) - 1 - i));
    }
}

static void the_cost_of_a_step_is_learned_and_learned_anew(void **state)
{
    struct cost c = {0};
    (void)state;

    assert_false(cost_known(&c));
    assert_true(cost_us(&c, 1, 0) == 0);
    for (unsigned factor = 1; factor <= 3; factor += 2) { /* the board throttles */
        for (uint32_t i = 0; i < 400; i++) {
            const uint32_t n = i % 5, p = (i * 7) % 33;
            const double us = factor * (20000.0 + 500 * n + 800 * p);
            cost_learn(&c, n, p, i == 399 ? us : us + (i % 2 ? 100 : -100));
        }
        const double want = factor * (20000.0 + 500 * 4 + 800 * 16);
        assert_true(fabs(cost_us(&c, 4, 16) - want) < want / 50);
    }
    const double before = cost_us(&c, 4, 0);
    cost_learn(&c, 4, 0, 1e9); /* the machine was busy elsewhere */
    assert_true(cost_us(&c, 4, 0) < 1.5 * before);
}

/* Goal: steps that all look alike do not spoil what is known of their parts. */
static void the_parts_of_a_step_do_not_wander_while_steps_look_alike(void **state)
{
    struct cost c = {0};
    uint64_t random = 1;
    (void)state;

    for (uint32_t i = 0; i < 5000; i++) {
        const uint32_t n = i < 100 ? i % 5 : 3, p = i < 100 ? (i * 7) % 33 : 100 + i % 3;
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
        const double noise = 0.95 + 0.1 * (double)(random >> 40) / (1 << 24);
        cost_learn(&c, n, p, (20000.0 + 1000 * n + 800 * p) * noise);
        const double pass = cost_us(&c, 1, 0);
        assert_true(i < 100 || (pass > 0.7 * 21000 && pass < 1.3 * 21000));
    }
    assert_true(fabs(cost_us(&c, 3, 100) - 103000) < 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(classes_go_in_order_and_each_in_the_order_it_came),
        TEST(classes_below_the_lowest_that_may_work_wait),
        TEST(one_job_of_an_identity_needs_not_wait_behind_fifty_of_another),
        TEST(equal_identities_share_the_streams_and_weights_are_kept),
        TEST(service_is_charged_as_it_is_given_and_never_twice),
        TEST(a_guess_is_made_anew_once_its_model_is_known),
        TEST(who_comes_back_from_idle_starts_beside_the_smallest),
        TEST(a_job_at_a_bucket_or_with_a_blocked_client_stands_aside),
        TEST(a_rate_of_long_ago_is_none),
        TEST(a_body_of_padding_does_not_spoil_the_estimate),
        TEST(lower_classes_join_where_it_costs_little_and_pause_where_it_does_not),
        TEST(low_keeps_its_share),
        TEST(low_s_share_takes_no_more_places_than_it_can_use),
        TEST(nobody_is_paused_for_longer_than_the_limit),
        TEST(a_limit_of_its_own_and_a_model_that_is_not_there_stop_only_their_jobs),
        TEST(after_two_deaths_suspects_run_alone_and_the_culprit_is_found),
        TEST(a_suspect_that_cannot_run_stops_nobody),
        TEST(fifo_knows_neither_classes_nor_shares),
        TEST(bodies_bound_what_one_plan_starts),
        TEST(the_first_token_is_foreseen_from_what_goes_before_it),
        TEST(two_models_of_very_different_speed_are_foreseen_each_by_its_own),
        TEST(more_models_than_tabs_lose_no_tokens),
        TEST(the_cost_of_a_step_is_learned_and_learned_anew),
        TEST(the_parts_of_a_step_do_not_wander_while_steps_look_alike),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
