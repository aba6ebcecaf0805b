#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train/commands/grammar.h"
#include "train/commands/row.h"

#define VALUE_64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define MIX "mix HassTurnOn 1\nwrap w\n  *\n"

static int read_all(const char *text, struct grammar *g, struct grammar_fault *fault)
{
    int r;

    *fault = (struct grammar_fault){0};
    grammar_init(g);
    r = grammar_read(g, "a.txt", strview_of(text), fault);
    return r == 0 ? grammar_check(g, fault) : r;
}

/* Goal: what is wrong is refused by its kind, with the line. Method: a text for each. */
static void each_fault_is_told_by_kind_and_line(void **state)
{
    static const struct {
        const char *text;
        int r;
        uint32_t line;
    } cases[] = {
        {"hello\n", GRAMMAR_SYNTAX, 1},
        {" indented\n", GRAMMAR_SYNTAX, 1},
        {"= a\n  x\n= B\n  x\n", GRAMMAR_SYNTAX, 3},
        {"= a\n= b\n  x\n", GRAMMAR_SYNTAX, 1},
        {"= a\n  (x\n", GRAMMAR_SYNTAX, 2},
        {"= a\n  x)\n", GRAMMAR_SYNTAX, 2},
        {"= a\n  x => \n", GRAMMAR_SYNTAX, 2},
        {"= a\n  x => y z\n", GRAMMAR_SYNTAX, 2},
        {"= a\n  0: x\n", GRAMMAR_SYNTAX, 2},
        {"= a\n  %num(9,1)\n", GRAMMAR_SYNTAX, 2},
        {"= a\n  %none\n", GRAMMAR_SYNTAX, 2},
        {"= a\n  x\n\x01\n", GRAMMAR_SYNTAX, 3},
        {"= a\n  \xed\xa0\x80\n", GRAMMAR_SYNTAX, 2},
        {"= a\n  \xe0\x80\x80\n", GRAMMAR_SYNTAX, 2},
        {"= a\n  \xc0\xaf\n", GRAMMAR_SYNTAX, 2},
        {"= a\n  \xf0\x80\x80\x80\n", GRAMMAR_SYNTAX, 2},
        {"= a\n  \xf4\x90\x80\x80\n", GRAMMAR_SYNTAX, 2},
        {"= a\n  \xe2\x82\n", GRAMMAR_SYNTAX, 2},
        {"= a\n  x @message=" VALUE_64 "\n", GRAMMAR_LIMIT, 2},
        {"= a\n  x => " VALUE_64 "\n", GRAMMAR_LIMIT, 2},
        {"= a\n  {pet}\n", GRAMMAR_SLOT, 2},
        {"= a\n  x @pet=dog\n", GRAMMAR_SLOT, 2},
        {"= a\n  x @state=ajar\n", GRAMMAR_SLOT, 2},
        {"= a\n  ((((((((((((((x))))))))))))))\n", GRAMMAR_LIMIT, 2},
        {"mix HassDance 1\n", GRAMMAR_NAME, 1},
        {"noise loud 1\n", GRAMMAR_NAME, 1},
        {"noise typo 1001\n", GRAMMAR_SYNTAX, 1},
        {MIX "frames f HassTurnOn w\n  on {name}\n= name\n  x\n= name\n  y\n", GRAMMAR_NAME, 8},
        {MIX "frames f HassTurnOn w\n  on {name}\n", GRAMMAR_NAME, 5},
        {MIX "frames f HassTurnOn v\n  on @domain=fan\n", GRAMMAR_NAME, 4},
        {MIX "frames f HassTurnOn w\n  on @domain=fan\n= a\n  x\n", GRAMMAR_NAME, 6},
        {MIX "frames f HassTurnOn w\n  on @domain=fan\n  on @domain=fan {domain:a}\n= a\n  x\n",
         GRAMMAR_SLOT, 6},
        {MIX "frames f HassTurnOn w\n  on @color=red\n", GRAMMAR_SLOT, 5},
        {MIX "frames f HassListAddItem w\n  {item:a} [{name:a}]\n= a\n  x\n", GRAMMAR_SLOT, 5},
        {MIX "frames f HassTurnOn w\n  <a>\n= a\n  <b>\n= b\n  <a>\n", GRAMMAR_RECURSIVE, 9},
        {MIX "frames f HassTurnOn w\n  on * @domain=fan\n", GRAMMAR_SYNTAX, 4},
        {"mix HassTurnOn 1\nwrap w\n  x\nframes f HassTurnOn w\n  @domain=fan on\n", GRAMMAR_SYNTAX,
         2},
        {MIX, GRAMMAR_NAME, 0},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct grammar g;
        struct grammar_fault fault;
        const int r = read_all(cases[i].text, &g, &fault);
        if (r != cases[i].r || fault.line != cases[i].line || fault.text[0] == '\0') {
            fail_msg("case %zu: %d at line %u: %s", i, r, fault.line, fault.text);
        }
        grammar_deinit(&g);
    }
}

/* Goal: however many rules stand below one another, the check ends before the stack does. */
static void a_chain_of_rules_is_refused_in_time(void **state)
{
    const unsigned n_rules = 4000;
    char *text = NULL;
    size_t n = 0;
    FILE *to = open_memstream(&text, &n);
    struct grammar g;
    struct grammar_fault fault;
    (void)state;

    assert_non_null(to);
    fprintf(to, MIX "frames f HassTurnOn w\n  on {name:r0}\n");
    for (unsigned i = 0; i + 1 < n_rules; i++) {
        fprintf(to, "= r%u\n  (a|(a|(a|(a|(a|(a|(a|(a|<r%u>))))))))\n", i, i + 1);
    }
    fprintf(to, "= r%u\n  x\n", n_rules - 1);
    assert_int_equal(fclose(to), 0);
    assert_int_equal(read_all(text, &g, &fault), GRAMMAR_RECURSIVE);
    grammar_deinit(&g);
    free(text);
}

/* Goal: weights whose sum needs over 32 bits are refused. Method: two blocks that fit alone. */
static void too_much_weight_is_refused(void **state)
{
    char *text = NULL;
    size_t n = 0;
    FILE *to = open_memstream(&text, &n);
    struct grammar g;
    struct grammar_fault fault;
    (void)state;

    assert_non_null(to);
    fprintf(to, MIX);
    for (unsigned block = 0; block < 2; block++) {
        fprintf(to, "frames f%u HassTurnOn w domain=light\n", block);
        for (unsigned i = 0; i < 2200; i++) {
            fprintf(to, "  1000000: light %u on\n", i);
        }
    }
    assert_int_equal(fclose(to), 0);
    assert_int_equal(read_all(text, &g, &fault), GRAMMAR_LIMIT);
    assert_int_equal(fault.line, 4 + 2201);
    grammar_deinit(&g);
    free(text);
}

static void as_many_files_are_read_as_may_be(void **state)
{
    struct grammar_fault fault;
    struct grammar g;
    (void)state;

    grammar_init(&g);
    for (unsigned i = 0; i < GRAMMAR_FILES_MAX; i++) {
        assert_int_equal(grammar_read(&g, "a.txt", strview_of("# nothing\n"), &fault), 0);
    }
    assert_int_equal(grammar_read(&g, "a.txt", strview_of("# nothing\n"), &fault), GRAMMAR_LIMIT);
    grammar_deinit(&g);
}

static void sets_rows(const char *text, unsigned n, const char *prompt, const char *answer)
{
    const struct row_options options = {.seed = 1};
    struct grammar g;
    struct grammar_fault fault;
    struct row row;
    char got[ROW_ANSWER_MAX];

    if (read_all(text, &g, &fault) != 0) {
        fail_msg("line %u: %s", fault.line, fault.text);
    }
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(row_draw(&g, &options, i, &row, &fault), 0);
        row_answer(&row, got);
        assert_string_equal(row.text, prompt);
        assert_string_equal(got, answer);
    }
    grammar_deinit(&g);
}

/* Goal: each piece of the language says and means what its description says. */
static void pieces_say_and_mean(void **state)
{
    (void)state;

    sets_rows(MIX "frames f HassTurnOn w domain=light\n  turn on (the|the) light[0% x]s , ok\n", 5,
              "turn on the lights, ok", "{\"intent\":\"HassTurnOn\",\"domain\":\"light\"}");
    sets_rows("mix HassLightSet 1\nwrap w\n  please *\nframes f HassLightSet w\n"
              "  set {area}'s light to {brightness:b}\n= area\n  the hall\n= b\n  half => 50\n",
              5, "please set the hall's light to half",
              "{\"intent\":\"HassLightSet\",\"area\":\"the hall\",\"brightness\":50}");
    sets_rows(
        "mix HassStartTimer 1\nwrap w\n  *\nframes f HassStartTimer w\n"
        "  {conversation_command:c} in {minutes=five => 5} minutes\n= c\n  dim {area=hall} "
        "@change=down\n",
        5, "dim hall in five minutes",
        "{\"intent\":\"HassStartTimer\",\"minutes\":5,\"conversation_command\":\"dim hall\"}");
    sets_rows(MIX "frames f HassTurnOn w\n  {name=\xc3\xa9\xe0\xa0\x80\xed\x9f\xbf} on\n", 1,
              "\xc3\xa9\xe0\xa0\x80\xed\x9f\xbf on",
              "{\"intent\":\"HassTurnOn\",\"name\":\"\xc3\xa9\xe0\xa0\x80\xed\x9f\xbf\"}");
    sets_rows(MIX "frames f HassTurnOn w\n  {name=it} on , <=name> please\n", 5, "it on, it please",
              "{\"intent\":\"HassTurnOn\",\"name\":\"it\"}");
    sets_rows(MIX "frames f HassTurnOn w\n  on , the %bare {name=my lamp my} %bare please\n", 5,
              "on, my lamp my please", "{\"intent\":\"HassTurnOn\",\"name\":\"my lamp my\"}");
    sets_rows(MIX "frames f HassTurnOn w\n  on {name=lamp th}e %bare please\n", 5,
              "on lamp the please", "{\"intent\":\"HassTurnOn\",\"name\":\"lamp th\"}");
}

/* Goal: a capture ends up with the words as they stand after noise. Method: noise in every row. */
static void noise_keeps_spans_and_sentence_together(void **state)
{
    static const char text[] =
        MIX "frames f HassTurnOn w\n  please turn on {name=anna's reading corner lamp} right now\n"
            "noise typo 1000\nnoise filler 500\nnoise repeat 500\nnoise apostrophe 500\n"
            "noise full 500\n= filler\n  uh\n";
    const struct row_options options = {.seed = 5};
    struct grammar g;
    struct grammar_fault fault;
    struct row row;
    unsigned changed = 0;
    (void)state;

    assert_int_equal(read_all(text, &g, &fault), 0);
    for (unsigned i = 0; i < 2000; i++) {
        char name[128];
        assert_int_equal(row_draw(&g, &options, i, &row, &fault), 0);
        const struct strview v = row_value(&row, SLOT_NAME);
        strview_copy(name, sizeof(name), v);
        assert_int_equal(strlen(row.text), row.n);
        assert_non_null(strstr(row.text, name));
        assert_true(v.n >= 20 && v.data[0] != ' ' && v.data[v.n - 1] != ' ');
        changed += strcmp(row.text, "please turn on anna's reading corner lamp right now") != 0;
    }
    assert_true(changed > 1800);
    grammar_deinit(&g);
}

/* Goal: an answer that the schema does not have is refused when it is drawn. */
static void an_unfit_answer_is_refused(void **state)
{
    const struct row_options options = {.seed = 1};
    struct grammar g;
    struct grammar_fault fault;
    struct row row;
    (void)state;

    assert_int_equal(read_all(MIX "frames f HassTurnOn w\n  hello\n", &g, &fault), 0);
    assert_int_equal(row_draw(&g, &options, 0, &row, &fault), GRAMMAR_STUCK);
    assert_int_equal(fault.line, 4);
    grammar_deinit(&g);
    assert_int_equal(read_all("mix HassLightSet 1\nwrap w\n  *\nframes f HassLightSet w\n"
                              "  make it {color=mauve}\n",
                              &g, &fault),
                     0);
    assert_int_equal(row_draw(&g, &options, 0, &row, &fault), GRAMMAR_STUCK);
    grammar_deinit(&g);
}

static void a_split_without_templates_is_refused(void **state)
{
    const struct row_options options = {.seed = 1, .split = ROW_VALID, .held_back = 0};
    struct grammar g;
    struct grammar_fault fault;
    struct row row;
    (void)state;

    assert_int_equal(read_all(MIX "frames f HassTurnOn w\n  x @domain=fan\n", &g, &fault), 0);
    assert_int_equal(row_draw(&g, &options, 0, &row, &fault), GRAMMAR_STUCK);
    grammar_deinit(&g);
}

/* Goal: whatever is held back, each line and each choice stays in training. Method: all that may be
 * held back is; the words of every choice still come, alone of their kind, and held back are those
 * sentences that turn twice, or once in a part that is at home in another line. */
static void each_choice_stays_in_training(void **state)
{
    static const char text[] = MIX "frames f HassTurnOn w domain=fan\n"
                                   "  one <p> | two <p> | (three|four) [five] (six|seven) | eight\n"
                                   "= p part\n  nine | ten (a|b) | <q>\n= q part\n  c | d\n";
    static const char *const kept[] = {"one nine", "one ten a", "one ten b",     "one c",
                                       "one d",    "two nine",  "three six",     "three seven",
                                       "four six", "eight",     "three five six"};
    static const char *const held[] = {
        "two ten a",     "two ten b",        "two c",          "two d", "four seven",
        "four five six", "three five seven", "four five seven"};
    struct grammar g;
    struct grammar_fault fault;
    struct row row;
    (void)state;

    assert_int_equal(read_all(text, &g, &fault), 0);
    for (unsigned split = ROW_TRAIN; split <= ROW_VALID; split++) {
        const char *const *const want = split == ROW_TRAIN ? kept : held;
        const size_t n = split == ROW_TRAIN ? ARRAY_SIZE(kept) : ARRAY_SIZE(held);
        const struct row_options options = {
            .seed = 3, .split = (enum row_split)split, .held_back = 1000000};
        unsigned seen[ARRAY_SIZE(kept)] = {0};
        for (unsigned i = 0; i < 2000; i++) {
            size_t k = 0;
            assert_int_equal(row_draw(&g, &options, i, &row, &fault), 0);
            while (k < n && strcmp(row.text, want[k]) != 0) {
                k++;
            }
            if (k == n) {
                fail_msg("split %u has: %s", split, row.text);
            }
            seen[k]++;
        }
        for (size_t k = 0; k < n; k++) {
            assert_int_not_equal(seen[k], 0);
        }
    }
    grammar_deinit(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_fault_is_told_by_kind_and_line),
        cmocka_unit_test(a_chain_of_rules_is_refused_in_time),
        cmocka_unit_test(too_much_weight_is_refused),
        cmocka_unit_test(as_many_files_are_read_as_may_be),
        cmocka_unit_test(pieces_say_and_mean),
        cmocka_unit_test(noise_keeps_spans_and_sentence_together),
        cmocka_unit_test(an_unfit_answer_is_refused),
        cmocka_unit_test(each_choice_stays_in_training),
        cmocka_unit_test(a_split_without_templates_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
