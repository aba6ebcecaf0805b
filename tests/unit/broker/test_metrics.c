/* metrics: counts, the text, and the bounds of both. */
#include "tests/support/test.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "daemon/broker/metrics_text.h"
#include "tests/support/prom.h"

/* The text of m, parsed strictly. */
static void read_text(struct prom *p, const struct metrics *m, const struct metrics_now *now,
                      size_t max)
{
    struct buf out;

    buf_init(&out, max);
    assert_int_equal(metrics_text(&out, m, now), 0);
    assert_true(out.n <= max);
    if (!prom_read(p, (const char *)out.data, out.n)) {
        fail_msg("%s", p->why);
    }
    buf_deinit(&out);
}

static struct metrics_now quiet(void)
{
    return (struct metrics_now){.now_ns = 1, .version = "1.2.3", .cpu = "avx2"};
}

static void the_reader_is_strict(void **state)
{
    static const char *const bad[] = {
        "x 1\n",                                        /* no family */
        "# HELP x y\nx 1\n",                            /* no type */
        "# HELP x y\n# TYPE x counter\nx 1",            /* no end of line */
        "# HELP x y\n# TYPE x counter\nx  1\n",         /* two blanks */
        "# HELP x y\n# TYPE x counter\nx -1\n",         /* a counter below zero */
        "# HELP x y\n# TYPE x counter\nx 1\nx 2\n",     /* twice */
        "# HELP x y\n# TYPE x gauge\ny 1\n",            /* another family */
        "# HELP x y\n# TYPE x gauge\nx{a=\"\\q\"} 1\n", /* a bad escape */
        "# HELP x y\n# TYPE x gauge\nx{a=\"1\",a=\"2\"} 1\n",
        "# HELP x y\n# TYPE x gauge\nx{a=\"1\" 1\n",
        "# HELP x y\n# TYPE x gauge\nx 1\n\n",
        "# HELP x y\n# TYPE x gauge\n# HELP x y\n# TYPE x gauge\n",
        "# HELP x y\n# TYPE x histogram\nx_bucket{le=\"1\"} 2\nx_bucket{le=\"+Inf\"} 1\n",
        "# HELP x y\n# TYPE x histogram\nx_bucket{le=\"+Inf\"} 1\nx_sum 1\nx_count 2\n",
        "# HELP x y\n# TYPE x histogram\nx_bucket{le=\"+Inf\"} 1\nx_sum 1\n",
        "# HELP x y\n# TYPE x histogram\nx_bucket{le=\"1\"} 1\nx_sum 1\nx_count 1\n",
    };
    static const char good[] =
        "# HELP x y z\n# TYPE x histogram\nx_bucket{a=\"\\\"\\\\\\n\",le=\"1\"} 1\n"
        "x_bucket{a=\"\\\"\\\\\\n\",le=\"+Inf\"} 3\nx_sum{a=\"\\\"\\\\\\n\"} "
        "2.5\nx_count{a=\"\\\"\\\\\\n\"} 3\n";
    struct prom p;
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        if (prom_read(&p, bad[i], strlen(bad[i]))) {
            fail_msg("taken: %s", bad[i]);
        }
        prom_free(&p);
    }
    assert_true(prom_read(&p, good, strlen(good)));
    prom_free(&p);
}

static void every_count_stands_in_the_text(void **state)
{
    struct metrics_now now = quiet();
    struct metrics m;
    struct prom p;
    (void)state;

    metrics_init(&m, 0);
    const size_t home = metrics_slot(&m, "home");
    metrics_request(&m, home, CLASS_NORMAL, ERR_NONE);
    metrics_request(&m, home, CLASS_NORMAL, ERR_NONE);
    metrics_request(&m, home, CLASS_HIGH, ERR_CANCELLED);
    metrics_request(&m, metrics_slot(&m, NULL), CLASS_LOW, ERR_NO_MODEL);
    metrics_prompt(&m, home, CLASS_NORMAL, 100, 64);
    metrics_tokens(&m, home, CLASS_NORMAL, 7);
    m.n_accepted = 3;
    m.conn_errors[ERR_TIMEOUT] = 2;
    m.limited[RATE_TOKENS] = 5;
    m.n_shed = 1;
    now.queued[CLASS_LOW] = 4;
    now.running[CLASS_HIGH] = 2;
    now.kv_used = 30;
    now.kv_idle = 50;
    now.kv_total = 100;
    now.models[home] = (struct metrics_now_model){.loaded = true,
                                                  .weight_bytes = 1000,
                                                  .streams = 2,
                                                  .streams_max = 16,
                                                  .breaker = BREAKER_IS_OPEN};
    read_text(&p, &m, &now, METRICS_TEXT_MAX);
    const struct {
        const char *name;
        double value;
    } want[] = {
        {"onebit_requests_total{model=\"home\",class=\"normal\",code=\"ok\"}", 2},
        {"onebit_requests_total{model=\"home\",class=\"high\",code=\"cancelled\"}", 1},
        {"onebit_requests_total{model=\"other\",class=\"low\",code=\"no_model\"}", 1},
        {"onebit_prompt_tokens_total{model=\"home\",class=\"normal\"}", 100},
        {"onebit_cached_tokens_total{model=\"home\",class=\"normal\"}", 64},
        {"onebit_tokens_total{model=\"home\",class=\"normal\"}", 7},
        {"onebit_connections_accepted_total", 3},
        {"onebit_connection_errors_total{code=\"timeout\"}", 2},
        {"onebit_rate_limited_total{limit=\"tokens_per_s\"}", 5},
        {"onebit_rate_limited_total{limit=\"tokens_per_day\"}", 0},
        {"onebit_connections_shed_total", 1},
        {"onebit_requests_queued{class=\"low\"}", 4},
        {"onebit_requests_running{class=\"high\"}", 2},
        {"onebit_kv_bytes{state=\"used\"}", 30},
        {"onebit_kv_bytes{state=\"idle\"}", 50},
        {"onebit_kv_bytes{state=\"free\"}", 20},
        {"onebit_model_loaded{model=\"home\"}", 1},
        {"onebit_weight_bytes{model=\"home\"}", 1000},
        {"onebit_model_streams_max{model=\"home\"}", 16},
        {"onebit_breaker_state{model=\"home\"}", 2},
        {"onebit_build_info{version=\"1.2.3\",cpu=\"avx2\"}", 1},
        {"onebit_samples_dropped", 0},
    };
    for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
        const double got = prom_value(&p, want[i].name);
        if (!(got == want[i].value)) {
            fail_msg("%s is %g", want[i].name, got);
        }
    }
    prom_free(&p);
    metrics_deinit(&m);
}

/* Goal: a value on a bound counts there, one above every bound only under +Inf, sums are exact. */
static void times_fall_into_their_buckets(void **state)
{
    const struct metrics_now now = quiet();
    struct metrics m;
    struct prom p;
    (void)state;

    metrics_init(&m, 0);
    const size_t home = metrics_slot(&m, "home");
    metrics_time(&m, home, CLASS_NORMAL, TIME_FIRST_TOKEN, 5 * NS_PER_MS, 1);
    metrics_time(&m, home, CLASS_NORMAL, TIME_FIRST_TOKEN, 5 * NS_PER_MS + 1, 1);
    metrics_time(&m, home, CLASS_NORMAL, TIME_FIRST_TOKEN, 121 * NS_PER_S, 1);
    metrics_time(&m, home, CLASS_NORMAL, TIME_BETWEEN_TOKENS, 15 * NS_PER_MS, 4);
    read_text(&p, &m, &now, METRICS_TEXT_MAX);
#define OF "{model=\"home\",class=\"normal\""
    const struct {
        const char *name;
        double value;
    } want[] = {
        {"onebit_first_token_seconds_bucket" OF ",le=\"0.005\"}", 1},
        {"onebit_first_token_seconds_bucket" OF ",le=\"0.01\"}", 2},
        {"onebit_first_token_seconds_bucket" OF ",le=\"120\"}", 2},
        {"onebit_first_token_seconds_bucket" OF ",le=\"+Inf\"}", 3},
        {"onebit_first_token_seconds_count" OF "}", 3},
        {"onebit_first_token_seconds_sum" OF "}", 121.010000001},
        {"onebit_between_tokens_seconds_bucket" OF ",le=\"0.01\"}", 0},
        {"onebit_between_tokens_seconds_bucket" OF ",le=\"0.02\"}", 4},
        {"onebit_between_tokens_seconds_sum" OF "}", 0.06},
    };
#undef OF
    for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
        const double got = prom_value(&p, want[i].name);
        if (!(fabs(got - want[i].value) < 1e-9)) {
            fail_msg("%s is %g", want[i].name, got);
        }
    }
    assert_true(
        isnan(prom_value(&p, "onebit_queue_seconds_count{model=\"home\",class=\"normal\"}")));
    prom_free(&p);
    metrics_deinit(&m);
    for (size_t t = 0; t < METRICS_TIMES; t++) { /* each bound's text says its number */
        for (size_t i = 0; i < METRICS_BOUNDS; i++) {
            const struct metrics_bound *b = &metrics_bounds[t][i];
            assert_true(fabs(strtod(b->le, NULL) * 1e9 - (double)b->ns) < 0.5);
            assert_true(i == 0 || b->ns > b[-1].ns);
        }
    }
}

static void strange_names_stay_inside_their_quotes(void **state)
{
    const struct metrics_now now = quiet();
    struct metrics m;
    struct prom p;
    (void)state;

    metrics_init(&m, 0);
    metrics_tokens(&m, metrics_slot(&m, "a\"b\\c\nd"), CLASS_NORMAL, 1);
    read_text(&p, &m, &now, METRICS_TEXT_MAX);
    assert_true(prom_value(&p, "onebit_tokens_total{model=\"a\\\"b\\\\c\\nd\",class=\"normal\"}") ==
                1);
    prom_free(&p);
    metrics_deinit(&m);
}

/* A name of MODEL_NAME_MAX quotes and a number: the longest text a label can be. */
static const char *long_name(char room[MODEL_NAME_MAX + 1], unsigned number)
{
    memset(room, '"', MODEL_NAME_MAX);
    (void)snprintf(room + MODEL_NAME_MAX - 4, 5, "%04u", number % 10000);
    return room;
}

/* Goal: no number of models, errors and events makes the text pass its bound or break. Method:
 * every slot, class, error and bucket in use, under the longest names. */
static void the_text_stays_within_its_bound(void **state)
{
    const struct metrics_now now = quiet();
    char name[MODEL_NAME_MAX + 1];
    struct metrics m;
    struct prom p;
    (void)state;

    metrics_init(&m, 0);
    for (unsigned i = 0; i < 100; i++) {
        const size_t slot = metrics_slot(&m, long_name(name, i));
        assert_int_equal(slot, i < METRICS_MODELS_MAX ? i : METRICS_OTHER);
        for (int c = 0; c < CLASSES; c++) {
            for (int code = 0; code < ERR_CODES; code++) {
                metrics_request(&m, slot, (enum request_class)c, (enum error_code)code);
            }
            for (int t = 0; t < METRICS_TIMES; t++) {
                metrics_time(&m, slot, (enum request_class)c, (enum metrics_time)t, NS_PER_MS, 1);
            }
        }
    }
    read_text(&p, &m, &now, METRICS_TEXT_MAX);
    assert_true(prom_value(&p, "onebit_samples_dropped") > 0);
    assert_true(prom_value(&p, "onebit_uptime_seconds") == 0);
    prom_free(&p);
    for (size_t max = 0; max < 40000; max += 997) { /* cut anywhere, it is still sound */
        struct buf out;
        buf_init(&out, max);
        const int e = metrics_text(&out, &m, &now);
        assert_int_equal(e, 0);
        assert_true(prom_read(&p, (const char *)out.data, out.n));
        prom_free(&p);
        buf_deinit(&out);
    }
    metrics_deinit(&m);
}

static void a_slot_is_kept(void **state)
{
    char name[16];
    struct metrics m;
    (void)state;

    metrics_init(&m, 0);
    assert_int_equal(metrics_slot(&m, "other"), METRICS_OTHER);
    assert_int_equal(metrics_slot(&m, ""), METRICS_OTHER);
    for (unsigned i = 0; i < 2 * METRICS_MODELS_MAX; i++) {
        (void)snprintf(name, sizeof(name), "m%u", i);
        assert_int_equal(metrics_slot(&m, name), i < METRICS_MODELS_MAX ? i : METRICS_OTHER);
    }
    assert_int_equal(metrics_slot(&m, "m3"), 3);
    metrics_deinit(&m);
}

/* Goal: drift is a model against itself at the same number of streams. Method: learn at one and at
 * eight streams, then slow down by a half, then recover. */
static void drift_is_measured_against_the_models_own_best(void **state)
{
    struct metrics m;
    (void)state;

    metrics_init(&m, 0);
    const size_t home = metrics_slot(&m, "home");
    for (unsigned i = 0; i < METRICS_LEARN_STEPS - 1; i++) {
        metrics_step(&m, home, 1, 10000);
    }
    assert_null(metrics_step_now(&m, home)); /* still learning */
    metrics_step(&m, home, 1, 10000);
    const struct metrics_step *s = metrics_step_now(&m, home);
    assert_non_null(s);
    assert_true(fabsf(s->mean_us / s->baseline_us - 1) < 1e-4f);
    for (unsigned i = 0; i < METRICS_LEARN_STEPS; i++) {
        metrics_step(&m, home, 8, 30000);
    }
    s = metrics_step_now(&m, home);
    assert_true(fabsf(s->mean_us / s->baseline_us - 1) < 1e-4f); /* more streams are no drift */
    for (unsigned i = 0; i < 1000; i++) {
        metrics_step(&m, home, 8, 45000);
    }
    assert_true(fabsf(s->mean_us / s->baseline_us - 1.5f) < 1e-2f);
    for (unsigned i = 0; i < 1000; i++) {
        metrics_step(&m, home, 8, 24000);
    }
    assert_true(fabsf(s->mean_us / s->baseline_us - 1) < 1e-2f);
    metrics_step(&m, home, 0, 1); /* nonsense of a broken engine is passed over */
    metrics_step(&m, home, SEAM_STREAMS_MAX + 1, 1);
    metrics_deinit(&m);
}

static void availability_counts_the_time_that_the_engine_answers(void **state)
{
    struct metrics m;
    (void)state;

    metrics_init(&m, 100);
    assert_int_equal(metrics_up_ns(&m, 150), 0);
    metrics_engine(&m, true, 150);
    assert_int_equal(metrics_up_ns(&m, 170), 20);
    metrics_engine(&m, false, 200);
    assert_int_equal(metrics_up_ns(&m, 900), 50);
    metrics_engine(&m, true, 1000);
    metrics_engine(&m, true, 1010); /* twice: nothing is counted twice */
    assert_int_equal(metrics_up_ns(&m, 1020), 70);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_reader_is_strict),
        cmocka_unit_test(every_count_stands_in_the_text),
        cmocka_unit_test(times_fall_into_their_buckets),
        cmocka_unit_test(strange_names_stay_inside_their_quotes),
        cmocka_unit_test(the_text_stays_within_its_bound),
        cmocka_unit_test(a_slot_is_kept),
        cmocka_unit_test(drift_is_measured_against_the_models_own_best),
        cmocka_unit_test(availability_counts_the_time_that_the_engine_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
