/* What `onebit top` draws, without a terminal. */
#include "tests/support/test.h"

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/top_frame.h"

static struct frame frame;

static void fill(const struct top_view *v)
{
    frame_deinit(&frame);
    assert_int_equal(frame_fill(&frame, v), 0);
}

/* The first line with this text; NULL: none. */
static const char *line_with(const char *text)
{
    for (size_t i = 0; i < frame.n; i++) {
        if (strstr(frame.lines[i].text, text)) {
            return frame.lines[i].text;
        }
    }
    return NULL;
}

static size_t index_of(const char *text)
{
    for (size_t i = 0; i < frame.n; i++) {
        if (strstr(frame.lines[i].text, text)) {
            return i;
        }
    }
    fail_msg("no line has \"%s\"", text);
    return 0;
}

static json_t *json(const char *text)
{
    json_t *value = json_loads(text, 0, NULL);

    assert_non_null(value);
    return value;
}

#define STATUS(tokens, prompt)                                                                     \
    "{\"version\": \"0.1.0\", \"uptime_ms\": 7200000, \"runner_pid\": 5, \"cpu\": \"avx2\","       \
    " \"threads\": 2, \"connections\": 3, \"queued\": 4, \"running\": 5, \"requests_done\": 6,"    \
    " \"requests_failed\": 7, \"runner_restarts\": 8, \"draining\": false, \"tokens\": " #tokens   \
    ", \"prompt_tokens\": " #prompt "}"
#define REQUEST(number, answer, age, uid)                                                          \
    "{\"request\": " #number ", \"model\": \"m\", \"class\": \"low\", \"state\": \"decode\","      \
    " \"uid\": " #uid ", \"client\": \"c" #number "\", \"prompt_tokens\": 9,"                      \
    " \"answer_tokens\": " #answer ", \"age_ms\": " #age "}"
#define MODEL                                                                                      \
    "{\"name\": \"m\", \"formats\": \"Q1_0\", \"kv\": \"f16\", \"n_ctx\": 1024, \"streams\": 1,"   \
    " \"streams_max\": 16, \"weight_bytes\": 2500000, \"kv_bytes\": 1000000,"                      \
    " \"scratch_bytes\": 3000, \"idle_ms\": 0}"
#define PS(requests) "{\"models\": [" MODEL "], \"requests\": [" requests "]}"

static void a_text_fits_exactly_or_ends_with_a_mark(void **state)
{
    static const struct {
        const char *text;
        unsigned columns;
        bool pad;
        const char *want;
    } all[] = {
        {"abc", 3, false, "abc"},
        {"abc", 5, true, "abc  "},
        {"abcdef", 4, true, "abc~"},
        {"abcdef", 1, true, "~"},
        {"abcdef", 0, true, ""},
        {"", 2, true, "  "},
        {"gr\u00fcn", 4, true, "gr\u00fcn"},
        {"gr\u00fcner", 4, true, "gr\u00fc~"},
        {"\u6a21\u578b", 4, true, "\u6a21\u578b"},   /* two columns each */
        {"\u6a21\u578b", 3, true, "\u6a21~"},        /* half a character is none */
        {"\u6a21\u578b\u6a21", 4, true, "\u6a21~ "}, /* filled up again */
        {"a\u0301b", 3, true, "a?b"},                /* a mark without width of its own */
    };

    if (!setlocale(LC_CTYPE, "C.UTF-8")) {
        skip();
    }
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
        char *got = frame_fit(all[i].text, all[i].columns, all[i].pad);
        assert_string_equal(got, all[i].want);
        free(got);
    }
}

static void a_locale_without_utf8_gets_question_marks(void **state)
{
    assert_non_null(setlocale(LC_CTYPE, "C"));
    char *got = frame_fit("gr\u00fcn", 9, false);
    assert_string_equal(got, "gr?n");
    free(got);
    (void)setlocale(LC_CTYPE, "C.UTF-8");
}

static void a_level_of_the_memory_ladder_is_told_while_there_is_one(void **state)
{
    static const char *const memory[] = {
        "{\"pressure\": \"normal\", \"pressure_cause\": \"\"}",
        "{\"pressure\": \"shed\", \"pressure_cause\": \"full stalls\"}"};
    json_t *s = json(STATUS(1, 1)), *p = json(PS(""));

    for (size_t i = 0; i < 2; i++) {
        (void)json_object_set_new(s, "memory", json(memory[i]));
        fill(&(struct top_view){.status = s, .ps = p, .pressure = "", .width = 120});
        assert_true((line_with("memory is short: level shed (full stalls)") != NULL) == (i == 1));
        assert_true((line_with("memory is short") != NULL) == (i == 1));
    }
    json_decref(s);
    json_decref(p);
}

static void the_board_has_a_line_where_it_has_sensors(void **state)
{
    static const struct {
        const char *machine, *line;
    } cases[] = {
        {"{\"pressure_source\": \"poll\", \"available\": 0.5}", NULL},
        {"{\"temperature_c\": 61.24, \"heat\": \"cool\", \"heat_threads\": 0}",
         "board: 61.2 degrees"},
        {"{\"temperature_c\": 84, \"heat\": \"hot\", \"heat_threads\": 2, \"firmware_flags\": "
         "327685, "
         "\"watts\": 6.5, \"joules_per_token\": 0.4321}",
         "board: 84.0 degrees, hot: class low waits, 2 threads at most, voltage is low, throttled, "
         "6.50 W, "
         "0.432 J a token"},
    };
    json_t *s = json(STATUS(1, 1)), *p = json(PS(""));

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        (void)json_object_set_new(s, "machine", json(cases[i].machine));
        fill(&(struct top_view){.status = s, .ps = p, .pressure = "", .width = 160});
        assert_true((line_with("board: ") != NULL) == (cases[i].line != NULL));
        assert_true(!cases[i].line || line_with(cases[i].line));
    }
    json_decref(s);
    json_decref(p);
}

static void counters_become_rates_by_difference(void **state)
{
    json_t *s0 = json(STATUS(100, 1000)), *s1 = json(STATUS(150, 1300));
    json_t *p0 = json(PS(REQUEST(1, 10, 500, 0))), *p1 = json(PS(REQUEST(1, 35, 3000, 0)));

    fill(&(struct top_view){.status = s1,
                            .ps = p1,
                            .status0 = s0,
                            .ps0 = p0,
                            .seconds = 2.5,
                            .pressure = "pressure: none",
                            .width = 120});
    assert_non_null(line_with("tokens/s 20.0 answered, 120.0 read  running 5  waiting 4"));
    assert_non_null(line_with("onebitd 0.1.0  up 2.0 h  avx2, 2 threads  engine up"));
    assert_non_null(line_with("memory: weights 2.5 MB, scratch 3.0 kB, KV 1.0 MB"));
    assert_non_null(line_with("pressure: none"));
    assert_non_null(strstr(line_with("decode"), " 10.0 "));
    /* a daemon that began anew counts from zero: no rate rather than nonsense */
    fill(&(struct top_view){.status = s0,
                            .ps = p1,
                            .status0 = s1,
                            .ps0 = p0,
                            .seconds = 2.5,
                            .pressure = "",
                            .width = 120});
    assert_non_null(line_with("tokens/s 0.0 answered, 0.0 read"));
    json_decref(s0);
    json_decref(s1);
    json_decref(p0);
    json_decref(p1);
}

static void requests_are_sorted_as_asked(void **state)
{
    static const struct {
        enum top_sort sort;
        const char *first, *last;
    } all[] = {{TOP_ORDER, "c1", "c3"},
               {TOP_AGE, "c3", "c2"},
               {TOP_TOKENS, "c2", "c1"},
               {TOP_UID, "c3", "c1"}};
    json_t *s = json(STATUS(1, 1));
    json_t *p =
        json(PS(REQUEST(1, 10, 500, 9) ", " REQUEST(2, 99, 20, 8) ", " REQUEST(3, 50, 900, 7)));

    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
        fill(&(struct top_view){
            .status = s, .ps = p, .pressure = "", .width = 120, .sort = all[i].sort});
        assert_true(index_of(all[i].first) < index_of(all[i].last));
        assert_int_equal(index_of(all[i].last) - index_of(all[i].first), 2);
    }
    json_decref(s);
    json_decref(p);
}

static void identities_are_shown_with_their_memory(void **state)
{
    json_t *s = json(STATUS(1, 1));
    json_t *p0 =
        json("{\"models\": [], \"requests\": [], \"identities\": [{\"uid\": 0, \"unit\": "
             "\"voice.service\", \"tokens\": 10}, {\"uid\": 0, \"unit\": \"\", \"tokens\": 5}]}");
    json_t *p1 = json("{\"models\": [], \"requests\": [], \"identities\": [{\"uid\": 0, \"unit\": "
                      "\"voice.service\", \"kv_bytes\": 4200000, \"tokens\": 30},"
                      " {\"uid\": 0, \"unit\": \"\", \"kv_bytes\": 0, \"tokens\": 95}]}");

    fill(&(struct top_view){.status = s,
                            .ps = p1,
                            .status0 = s,
                            .ps0 = p0,
                            .seconds = 2,
                            .pressure = "",
                            .width = 100});
    assert_non_null(line_with("no model is loaded"));
    assert_non_null(line_with("no request runs"));
    assert_non_null(strstr(line_with("voice.service"), "4.2 MB"));
    assert_non_null(strstr(line_with("voice.service"), "10.0"));
    assert_true(index_of("45.0") < index_of("voice.service")); /* the busiest first */
    json_decref(s);
    json_decref(p0);
    json_decref(p1);
}

static void others_are_one_line_where_they_may_not_be_seen(void **state)
{
    json_t *s = json(STATUS(1, 1));
    json_t *p = json("{\"models\": [], \"requests\": [{\"class\": \"low\", \"state\": \"decode\", "
                     "\"position\": 0}], \"identities\": [{\"uid\": 7, \"unit\": \"\"}], "
                     "\"others\": {\"identities\": 3, \"connections\": 5, \"requests\": 2, "
                     "\"running\": 1, \"kv_bytes\": 4200000, \"queue_bytes\": 10}}");

    fill(&(struct top_view){.status = s, .ps = p, .pressure = "", .width = 120});
    assert_string_equal(
        line_with("others"),
        "others: 3, with 5 clients, 2 requests, 1 of them in the engine; KV 4.2 MB, "
        "queue 10 B, output -");
    assert_non_null(strstr(line_with("decode"), "low"));
    json_decref(s);
    json_decref(p);
    p = json("{\"models\": [], \"requests\": [], \"others\": {\"identities\": 0}}");
    s = json(STATUS(1, 1));
    fill(&(struct top_view){.status = s, .ps = p, .pressure = "", .width = 120});
    assert_null(line_with("others"));
    json_decref(s);
    json_decref(p);
}

static void the_ledger_is_shown_where_there_is_one(void **state)
{
    json_t *s = json("{\"version\": \"1\", \"memory\": {\"weight_bytes\": 1500000000, "
                     "\"scratch_bytes\": 4000000, \"kv_used_bytes\": 1000000, \"kv_idle_bytes\": "
                     "2000000, \"kv_total_bytes\": 9000000, \"broker_resident_bytes\": 6000000, "
                     "\"queue_bytes\": 1000, \"output_bytes\": 0, \"input_bytes\": 70}}");
    json_t *p = json("{\"models\": [], \"requests\": []}");

    fill(&(struct top_view){.status = s, .ps = p, .pressure = "", .width = 100});
    assert_non_null(
        line_with("memory: weights 1.50 GB, scratch 4.0 MB, KV used 1.0 MB, kept 2.0 MB, "
                  "of 9.0 MB"));
    assert_non_null(line_with("daemon: 6.0 MB; queue 1.0 kB, output 0 B, input 70 B, sessions -"));
    json_decref(s);
    json_decref(p);
}

/* Goal: what does not fit is left out and counted, no line is too wide, and names give way
 * first. */
static void a_small_screen_holds_what_fits(void **state)
{
    char text[32768] = "{\"models\": [" MODEL "], \"requests\": [";
    json_t *s = json(STATUS(1, 1));

    for (int i = 0; i < 100; i++) {
        char row[256];
        snprintf(row, sizeof(row),
                 "%s{\"request\": %d, \"model\": \"a-model-with-a-rather-long-name-%d\", "
                 "\"state\": \"queued\", \"class\": \"normal\", \"uid\": 1000, \"client\": "
                 "\"some-client-or-other\", \"prompt_tokens\": 0, \"answer_tokens\": 0, "
                 "\"age_ms\": 100}",
                 i ? ", " : "", i, i);
        strcat(text, row);
    }
    strcat(text, "]}");
    json_t *p = json(text);
    fill(&(struct top_view){.status = s, .ps = p, .pressure = "", .width = 80, .height = 24});
    assert_int_equal(frame.n, 23);
    for (size_t i = 0; i < frame.n; i++) {
        assert_true(strlen(frame.lines[i].text) <= 80); /* all of it is ASCII */
    }
    assert_non_null(line_with("... and 86 more"));
    assert_non_null(strstr(line_with("queued"), "0.10 s")); /* the last column is there, whole */
    assert_non_null(strstr(line_with("queued"), "~"));
    fill(&(struct top_view){.status = s, .ps = p, .pressure = "", .width = 20, .height = 5});
    for (size_t i = 0; i < frame.n; i++) {
        assert_true(strlen(frame.lines[i].text) <= 20);
    }
    fill(&(struct top_view){.status = s, .ps = p, .pressure = "", .width = 80});
    assert_null(line_with("more"));
    assert_true(frame.n > 100);
    json_decref(s);
    json_decref(p);
}

static void names_of_strangers_cannot_move_the_cursor(void **state)
{
    json_t *s = json(STATUS(1, 1));
    json_t *p = json("{\"models\": [{\"name\": \"\\u001b[2Jm\"}], \"requests\": [{\"request\": 1, "
                     "\"client\": \"\\r\\n\\u009b31m\\u202ered\"}]}");

    fill(&(struct top_view){
        .status = s, .ps = p, .pressure = "", .width = 200, .trouble = "forbidden: \x1b]0;x\x07"});
    assert_non_null(line_with("forbidden: \\x1b]0;x\\x07"));
    assert_non_null(line_with("\\x1b[2Jm"));
    assert_non_null(line_with("\\x0d\\x0a\\u009b31m\\u202ered"));
    for (size_t i = 0; i < frame.n; i++) {
        for (const char *c = frame.lines[i].text; *c; c++) {
            assert_true((unsigned char)*c >= 0x20 && *c != 0x7f);
        }
    }
    json_decref(s);
    json_decref(p);
}

static void without_any_answer_there_is_only_the_trouble(void **state)
{
    fill(&(struct top_view){.pressure = "", .width = 80, .height = 24, .trouble = "nobody there"});
    assert_int_equal(frame.n, 1);
    assert_string_equal(frame.lines[0].text, "nobody there");
    assert_true(frame.lines[0].strong);
}

static void every_sort_has_a_name(void **state)
{
    for (enum top_sort sort = 0; sort < TOP_SORTS; sort++) {
        assert_true(strlen(top_sort_name(sort)) > 0);
    }
}

static int forget(void **state)
{
    frame_deinit(&frame);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_fits_exactly_or_ends_with_a_mark),
        cmocka_unit_test(a_locale_without_utf8_gets_question_marks),
        cmocka_unit_test(a_level_of_the_memory_ladder_is_told_while_there_is_one),
        cmocka_unit_test(the_board_has_a_line_where_it_has_sensors),
        cmocka_unit_test(counters_become_rates_by_difference),
        cmocka_unit_test(requests_are_sorted_as_asked),
        cmocka_unit_test(identities_are_shown_with_their_memory),
        cmocka_unit_test(others_are_one_line_where_they_may_not_be_seen),
        cmocka_unit_test(the_ledger_is_shown_where_there_is_one),
        cmocka_unit_test(a_small_screen_holds_what_fits),
        cmocka_unit_test(names_of_strangers_cannot_move_the_cursor),
        cmocka_unit_test(without_any_answer_there_is_only_the_trouble),
        cmocka_unit_test(every_sort_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, forget);
}
