#include "tests/support/test.h"

#include <stdio.h>
#include <string.h>

#include "daemon/broker/config.h"
#include "daemon/broker/config_keys.h"
#include "daemon/broker/config_value.h"

static int read_text(struct config *c, const char *text, struct diag *d)
{
    assert_int_equal(config_init(c), 0);
    *d = (struct diag){0};
    return config_read(c, text, strlen(text), d);
}

struct refusal {
    const char *text, *word1, *word2;
};

static void all_refused(const struct refusal *bad, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct config c;
        struct diag d;

        if (read_text(&c, bad[i].text, &d) != CONFIG_BAD || !strstr(d.text, bad[i].word1) ||
            !strstr(d.text, bad[i].word2)) {
            print_message("file %zu: \"%s\"\n", i, d.text);
            fail();
        }
        config_deinit(&c);
    }
}

/* Goal: every kind of mistake is refused and named with its line. Method: one file a mistake, and
 * the words its message must have. */
static void each_mistake_is_refused_by_name_and_line(void **state)
{
    static const struct refusal bad[] = {
        {"[queue]\n\nper_identityx = 1\n", "line 3", "per_identityx"},
        {"[nowhere]\n", "line 1", "nowhere"},
        {"[nowhere]\nx = 1\n", "line 1", "nowhere"},
        {"total = 1\n", "line 1", "total"},
        {"[queue]\ntotal = 1\ntotal = 1\n", "line 3", "twice"},
        {"[queue]\ntotal = -1\n", "line 2", "total"},
        {"[queue]\ntotal = 1x\n", "line 2", "total"},
        {"[queue]\ntotal =\n", "line 2", "total"},
        {"[queue]\ntotal = 99999999999999999999\n", "line 2", "total"},
        {"[queue]\ntotal = 1000001\n", "line 2", "outside"},
        {"[queue]\ntotal\n", "line 2", "key = value"},
        {"[queue\ntotal = 1\n", "line 1", "]"},
        {"[queue] x\n", "line 1", "]"},
        {"[queue]\nbytes = 1T\n", "line 2", "size"},
        {"[socket]\nmode = 888\n", "line 2", "octal"},
        {"[socket]\nmode = 1777\n", "line 2", "outside"},
        {"[socket]\npath = onebit.sock\n", "line 2", "absolute"},
        {"[socket]\ngroup = a/b\n", "line 2", "group"},
        {"[models]\ndefault = ../x\n", "line 2", "default"},
        {"[engine]\ncpu = sse2\n", "line 2", "sse2"},
        {"[engine]\ncpu = avx\n", "line 2", "avx"},
        {"[engine]\nweights = huge\n", "line 2", "auto shared private"},
        {"[engine]\nstreams_max = 0\n", "line 2", "outside"},
        {"[engine]\nthreads = 65\n", "line 2", "outside"},
        {"[model ]\n", "line 1", "model"},
        {"[model a/b]\n", "line 1", "a/b"},
        {"[model .x]\n", "line 1", ".x"},
        {"[model m]\nheat = 1\n", "line 2", "heat"},
        {"[model m]\ntemperature = hot\n", "line 2", "hot"},
        {"[model m]\ntemperature = 10.5\n", "line 2", "0..10"},
        {"[model m]\ntemperature = 50\n", "line 2", "temperature"},
        {"[model m]\nn_ctx = 1048577\n", "line 2", "n_ctx"},
        {"[model m]\nn_ctx = 99999999\n", "line 2", "n_ctx"},
        {"[model m]\nkv = i8\n", "line 2", "i8"},
        {"[model m]\nchat_template = ChatML\n", "'ChatML'", "bitnet chatml falcon3"},
        {"[model m]\nchat_template = none\n", "line 2", "none of"},
        {"[model m]\nchat_template = chat\n", "line 2", "none of"},
        {"[model m]\nchat_template = qwen3\nchat_template = qwen3\n", "line 3", "twice"},
        {"[model m]\npinned = maybe\n", "line 2", "maybe"},
        {"[model m]\nlocked = 2\n", "line 2", "neither"},
        {"[model m]\nidle_s = soon\n", "line 2", "soon"},
        {"[memory]\nswaps_per_minute = 121\n", "line 2", "swaps_per_minute"},
        {"[memory]\nbudget = 60%\n", "line 2", "size"},
        {"[model m]\nkv = f16\n[model m]\nkv = f16\n", "line 4", "twice"},
        {"[limits]\noutput_soft_bytes = 8M\noutput_hard_bytes = 1M\n", "line 3", "output_soft"},
    };
    (void)state;

    all_refused(bad, ARRAY_SIZE(bad));
}

static void what_a_peer_may_is_checked_word_by_word(void **state)
{
    static const struct refusal bad[] = {
        {"[policy]\n", "line 1", "unknown section"},
        {"[peer]\n", "line 1", "unknown section"},
        {"[peer ]\n", "line 1", "none of"},
        {"[peer uid.x]\n", "line 1", "uid.x"},
        {"[peer uid.4294967295]\n", "line 1", "uid.4294967295"},
        {"[peer gid.-1]\n", "line 1", "gid.-1"},
        {"[peer unit.]\n", "line 1", "unit."},
        {"[peer unit.a/b]\n", "line 1", "a/b"},
        {"[peer Default]\n", "line 1", "Default"},
        {"[peer uid.1]\nfly = yes\n", "line 2", "fly"},
        {"[peer uid.1]\nrights = fly\n", "line 2", "fly"},
        {"[peer uid.1]\nrights = use,\n", "line 2", "use,"},
        {"[peer uid.1]\nrights = use\nrights = use\n", "line 3", "twice"},
        {"[peer uid.1]\nrights = use\n[peer uid.1]\nrights = use\n", "line 4", "twice"},
        {"[peer default]\nclass = urgent\n", "line 2", "low normal high"},
        {"[peer default]\nweight = 0\n", "line 2", "1..100"},
        {"[peer default]\nweight = 101\n", "line 2", "1..100"},
        {"[peer default]\nmodels =\n", "line 2", "models"},
        {"[peer default]\nmodels = a,,b\n", "line 2", "a,,b"},
        {"[peer default]\nmodels = ../a\n", "line 2", "../a"},
        {"[peer default]\nrequests_per_s = -1\n", "line 2", "requests_per_s"},
        {"[peer default]\nrunning_max = 65\n", "line 2", "0..64"},
        {"[rates]\nburst_s = 86401\n", "line 2", "outside"},
        {"[breaker]\nfaults = 1001\n", "line 2", "outside"},
    };
    (void)state;

    all_refused(bad, ARRAY_SIZE(bad));
}

static void bytes_that_inih_would_cut_or_join_are_refused(void **state)
{
    char text[CONFIG_LINE_MAX + 64];
    struct config c;
    struct diag d;
    (void)state;

    memset(text, 'a', sizeof(text));
    memcpy(text, "[socket]\npath = /", 17);
    text[sizeof(text) - 1] = '\0';
    assert_int_equal(read_text(&c, text, &d), CONFIG_BAD);
    assert_non_null(strstr(d.text, "longer"));
    config_deinit(&c);

    static const char nul[] = "[queue]\ntotal = 1\0 2\n";
    assert_int_equal(config_init(&c), 0);
    d = (struct diag){0};
    assert_int_equal(config_read(&c, nul, sizeof(nul) - 1, &d), CONFIG_BAD);
    config_deinit(&c);

    /* Indented lines are keys of their own, not continuations of the one above. */
    assert_int_equal(read_text(&c, "[queue]\n  total = 1\n  per_identity = 2\n", &d), CONFIG_OK);
    assert_int_equal(c.queue_total, 1);
    assert_int_equal(c.queue_per_identity, 2);
    config_deinit(&c);

    assert_int_equal(read_text(&c, "\xef\xbb\xbf[queue]\r\ntotal = 1\r\n", &d), CONFIG_OK);
    assert_int_equal(c.queue_total, 1);
    config_deinit(&c);
    assert_int_equal(read_text(&c, "\xef\xbb", &d), CONFIG_BAD);
    config_deinit(&c);
}

static void defaults_hold_and_a_file_changes_what_it_names(void **state)
{
    struct config c;
    struct diag d;
    (void)state;

    assert_int_equal(read_text(&c, "", &d), CONFIG_OK);
    assert_int_equal(c.queue_per_identity, 64);
    assert_int_equal(c.queue_total, 5000);
    assert_int_equal(c.deadline_ms, 30000);
    assert_int_equal(c.socket_mode, 0660);
    assert_int_equal(c.streams_max, 16);
    assert_null(c.weights);
    assert_int_equal(c.private_bytes, UINT64_C(2) << 30);
    const struct model_options *home = config_model(&c, strview_of("home-q1_0"));
    assert_non_null(home);
    assert_true(home->has_temperature);
    assert_true(home->temperature == 0);
    config_deinit(&c);

    assert_int_equal(
        read_text(
            &c,
            "; a comment\n# another\n[queue]\nper_identity = 0 ; none\n"
            "[engine]\nkv_bytes = 64M\ncpu = avx2\nweights = shared\n[socket]\nmode = 0600\r\n"
            "path = /tmp/a b.sock\n[model m]\nkv = f32\ntemperature = 0.25\n"
            "pinned = yes\nidle_s = 0\nchat_template = falcon3\n[memory]\nbudget = 600M\n"
            "idle_s = 7\n[peer uid.7]\nrights = use, load\n"
            "[peer gid.9]\nrights = none\n[peer uid.7]\nmodels = m , n\n"
            "[rates]\ntokens_per_s = 7\n",
            &d),
        CONFIG_OK);
    assert_int_equal(c.queue_per_identity, 0);
    assert_int_equal(c.kv_bytes, 64 << 20);
    assert_string_equal(c.cpu, "avx2");
    assert_string_equal(c.weights, "shared");
    assert_int_equal(c.socket_mode, 0600);
    assert_string_equal(c.socket_path, "/tmp/a b.sock");
    const struct model_options *m = config_model(&c, strview_of("m"));
    assert_non_null(m);
    assert_string_equal(m->kv, "f32");
    assert_string_equal(m->chat_template, "falcon3");
    assert_true(m->temperature == 0.25);
    assert_true(m->pinned);
    assert_true(m->has_idle && m->idle_s == 0);
    assert_true(c.memory_budget == UINT64_C(600) << 20 && c.memory_idle_s == 7);
    assert_true(c.memory_residency_min_s == 10 && c.memory_swaps_per_minute == 30);
    assert_int_equal(c.policy.n_rules, 2);
    const struct policy_peer seven = {.uid = 7, .unit = ""};
    assert_int_equal(policy_grant(&c.policy, 1, &seven).rights, RIGHT_USE | RIGHT_LOAD);
    assert_true(policy_model_allowed(&c.policy, 1, &seven, strview_of("n")));
    assert_false(policy_model_allowed(&c.policy, 1, &seven, strview_of("o")));
    assert_int_equal(c.rates.tokens_per_s, 7);
    assert_int_equal(c.rates.burst_s, 10);
    assert_int_equal(c.breaker_faults, 5);
    config_deinit(&c);
}

static void a_public_prefix_needs_a_model_and_a_file(void **state)
{
    static const struct refusal bad[] = {
        {"[prefix a/b]\n", "line 1", "a/b"},
        {"[prefix ]\n", "line 1", "''"},
        {"[prefix a]\nmodel = m\n", "line 2", "lacks its file"},
        {"[prefix a]\nfile = /f\n", "line 2", "lacks its model"},
        {"[prefix a]\nfile = f\n", "line 2", "no absolute path"},
        {"[prefix a]\nmodel = a/b\n", "line 2", "a/b"},
        {"[prefix a]\nas = both\n", "line 2", "both"},
        {"[prefix a]\nsalt = 1\n", "line 2", "salt"},
        {"[prefix a]\nmodel = m\nmodel = m\n", "line 3", "twice"},
    };
    char text[1024];
    size_t at = 0;
    struct config c;
    struct diag d;
    (void)state;

    all_refused(bad, ARRAY_SIZE(bad));
    for (unsigned i = 0; i <= CONFIG_PREFIXES_MAX; i++) {
        const int want = i < CONFIG_PREFIXES_MAX ? CONFIG_OK : CONFIG_BAD;
        at += (size_t)snprintf(text + at, sizeof(text) - at,
                               "[prefix p%u]\nmodel = m\nfile = /f\nas = %s\n", i,
                               i % 2 ? "raw" : "system");
        assert_int_equal(read_text(&c, text, &d), want);
        if (want == CONFIG_OK) {
            assert_int_equal(c.n_prefixes, i + 1);
            assert_int_equal(c.prefixes[i].raw, i % 2);
            assert_string_equal(c.prefixes[i].file, "/f");
        }
        config_deinit(&c);
    }
}

/* Goal: the table's own defaults are legal. Method: each number is read back through the parser. */
static void every_default_is_inside_its_own_range(void **state)
{
    (void)state;

    for (size_t i = 0; i < config_n_keys; i++) {
        const struct config_key *k = &config_keys[i];
        char text[160];
        struct config c;
        struct diag d;

        if (k->type > KEY_OCTAL) {
            continue;
        }
        (void)snprintf(text, sizeof(text),
                       k->type == KEY_OCTAL ? "[%s]\n%s = %lo\n" : "[%s]\n%s = %lu\n", k->section,
                       k->name, (unsigned long)k->preset);
        assert_int_equal(read_text(&c, text, &d), CONFIG_OK);
        config_deinit(&c);
    }
}

static void a_reload_keeps_what_needs_a_restart_and_names_it(void **state)
{
    struct config old, now;
    struct diag d;
    (void)state;

    assert_int_equal(read_text(&old, "[socket]\npath = /a\n[queue]\ntotal = 1\n", &d), CONFIG_OK);
    assert_int_equal(read_text(&now, "[socket]\npath = /b\n[queue]\ntotal = 2\n", &d), CONFIG_OK);
    assert_string_equal(config_needs_restart(&old, &now, 0), "socket.path");
    assert_null(config_needs_restart(&old, &now, 1));
    config_keep_fixed(&old, &now);
    assert_string_equal(now.socket_path, "/a");
    assert_int_equal(now.queue_total, 2);
    config_deinit(&old);
    config_deinit(&now);
}

static void numbers_are_read_as_people_write_them_and_no_other_way(void **state)
{
    uint64_t v = 7;
    double f = 0;
    bool b = false;
    (void)state;

    assert_true(value_bytes("3K", &v) && v == 3072);
    assert_true(value_bytes("0", &v) && v == 0);
    assert_false(value_bytes("18446744073709551615K", &v));
    assert_false(value_uint("+1", &v) || value_uint("", &v) || value_uint(" 1", &v));
    assert_false(value_octal("0668", &v));
    assert_true(value_number("0.7", &f) && f == 0.7);
    assert_false(value_number(".7", &f) || value_number("1e3", &f) || value_number("nan", &f));
    assert_true(value_bool("on", &b) && b);
    assert_true(value_bool("0", &b) && !b);
    assert_false(value_bool("YES", &b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_mistake_is_refused_by_name_and_line),
        cmocka_unit_test(what_a_peer_may_is_checked_word_by_word),
        cmocka_unit_test(bytes_that_inih_would_cut_or_join_are_refused),
        cmocka_unit_test(defaults_hold_and_a_file_changes_what_it_names),
        cmocka_unit_test(a_public_prefix_needs_a_model_and_a_file),
        cmocka_unit_test(every_default_is_inside_its_own_range),
        cmocka_unit_test(a_reload_keeps_what_needs_a_restart_and_names_it),
        cmocka_unit_test(numbers_are_read_as_people_write_them_and_no_other_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
