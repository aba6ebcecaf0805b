#include "tests/support/test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/broker/config_peer.h"
#include "daemon/broker/policy.h"

#define OWN 42

/* "uid.7 rights=use; gid.9 weight=3" */
static struct policy policy_of(const char *text)
{
    struct policy p = {0};
    char copy[512], why[200];
    char *save = NULL;

    (void)snprintf(copy, sizeof(copy), "%s", text);
    for (char *rule = strtok_r(copy, ";", &save); rule; rule = strtok_r(NULL, ";", &save)) {
        struct policy_rule *r = NULL;
        char *at = NULL;

        assert_int_equal(policy_rule(&p, strtok_r(rule, " ", &at), &r), 0);
        for (char *pair = strtok_r(NULL, " ", &at); pair; pair = strtok_r(NULL, " ", &at)) {
            char *value = strchr(pair, '=');
            *value++ = '\0';
            assert_int_equal(config_peer_key(r, pair, value, why, sizeof(why)), CONFIG_PEER_OK);
        }
    }
    return p;
}

static const gid_t gids_159[] = {1, 5, 9};
static const struct policy_peer ann = {.uid = 1000, .gids = gids_159, .n_gids = 3, .unit = ""};
static const struct policy_peer web = {
    .uid = 1000, .gids = gids_159, .n_gids = 3, .unit = "web.service"};
static const struct policy_peer root = {.uid = 0, .gids = gids_159, .n_gids = 3, .unit = ""};
static const struct policy_peer own = {.uid = OWN, .gids = gids_159, .n_gids = 3, .unit = ""};

/* Goal: who decides a key. Method: one policy and one peer a row, and all that comes out of it. */
static void a_unit_beats_a_uid_beats_groups_beat_the_default(void **state)
{
    static const struct {
        const char *rules;
        const struct policy_peer *peer;
        struct grant want;
    } rows[] = {
        /* nothing said */
        {"", &ann, {.known = true, .rights = RIGHT_USE, .class_ = CLASS_HIGH, .weight = 1}},
        {"", &root, {.known = true, .rights = RIGHTS_ALL, .class_ = CLASS_HIGH, .weight = 1}},
        {"", &own, {.known = true, .rights = RIGHTS_ALL, .class_ = CLASS_HIGH, .weight = 1}},
        /* each kind alone, and over the ones below it */
        {"default class=low weight=2", &ann, {true, RIGHT_USE, CLASS_LOW, 2}},
        {"gid.5 class=normal;default class=low weight=2", &ann, {true, RIGHT_USE, CLASS_NORMAL, 2}},
        {"gid.5 rights=load;uid.1000 rights=use", &ann, {true, RIGHT_USE, CLASS_HIGH, 1}},
        {"unit.web.service class=low;uid.1000 class=high", &web, {true, RIGHT_USE, CLASS_LOW, 1}},
        {"unit.web.service class=low;uid.1000 class=high", &ann, {true, RIGHT_USE, CLASS_HIGH, 1}},
        {"unit.web class=low", &web, {true, RIGHT_USE, CLASS_HIGH, 1}},
        /* groups together; one it is not in */
        {"gid.5 rights=use weight=3;gid.9 rights=cancel weight=2;gid.7 rights=all weight=9",
         &ann,
         {true, RIGHT_USE | RIGHT_CANCEL, CLASS_HIGH, 3}},
        {"gid.1 class=low;gid.5 class=normal;gid.9 class=low",
         &ann,
         {true, RIGHT_USE, CLASS_NORMAL, 1}},
        /* no limit is the most generous one */
        {"gid.5 running_max=3;gid.9 running_max=7",
         &ann,
         {true, RIGHT_USE, CLASS_HIGH, 1, .running_max = 7}},
        {"gid.5 running_max=3;gid.9 running_max=0", &ann, {true, RIGHT_USE, CLASS_HIGH, 1}},
        {"gid.5 tokens_per_s=3;gid.9 tokens_per_s=4;default tokens_per_s=5 requests_per_s=6",
         &ann,
         {true, RIGHT_USE, CLASS_HIGH, 1, .rates = {.tokens_per_s = 4, .requests_per_s = 6}}},
        {"default queue_max=0",
         &ann,
         {true, RIGHT_USE, CLASS_HIGH, 1, .has_queue_max = true, .queue_max = 0}},
        /* unknown, and known without a right */
        {"default rights=none", &ann, {false, 0, CLASS_HIGH, 1}},
        {"default rights=none;uid.1000 weight=2", &ann, {true, 0, CLASS_HIGH, 2}},
        {"default rights=none;unit.web.service rights=use", &web, {true, RIGHT_USE, CLASS_HIGH, 1}},
        {"default rights=none;unit.web.service rights=use", &ann, {false, 0, CLASS_HIGH, 1}},
        /* root and the daemon's user: permissions only by name, shares like everybody */
        {"default rights=none class=low weight=2 tokens_per_day=9",
         &root,
         {true, RIGHTS_ALL, CLASS_HIGH, 2, .rates = {.tokens_per_day = 9}}},
        {"gid.5 rights=use class=low", &own, {true, RIGHTS_ALL, CLASS_HIGH, 1}},
        {"uid.0 rights=use", &root, {true, RIGHT_USE, CLASS_HIGH, 1}},
        {"uid.42 rights=use class=low", &own, {true, RIGHT_USE, CLASS_LOW, 1}},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct policy p = policy_of(rows[i].rules);
        const struct grant g = policy_grant(&p, OWN, rows[i].peer), *w = &rows[i].want;

        if (g.known != w->known || g.rights != w->rights || g.class_ != w->class_ ||
            g.weight != w->weight || g.running_max != w->running_max ||
            g.has_queue_max != w->has_queue_max || g.queue_max != w->queue_max ||
            g.rates.requests_per_s != w->rates.requests_per_s ||
            g.rates.tokens_per_s != w->rates.tokens_per_s ||
            g.rates.tokens_per_day != w->rates.tokens_per_day || g.rates.burst_s != RATES_BURST_S) {
            fail_msg("row %zu: %s: known %d rights %u class %d weight %u running %u", i,
                     rows[i].rules, g.known, g.rights, (int)g.class_, g.weight, g.running_max);
        }
        policy_deinit(&p);
    }
}

static void models_are_allowed_by_the_same_order(void **state)
{
    static const struct {
        const char *rules;
        const struct policy_peer *peer;
        const char *yes, *no;
    } rows[] = {
        {"", &ann, "a", NULL},
        {"default models=a", &ann, "a", "b"},
        {"default models=a;gid.5 models=b;gid.9 models=c", &ann, "b", "a"},
        {"default models=a;gid.5 models=b;gid.9 models=c", &ann, "c", "bc"},
        {"default models=a;gid.5 models=b;gid.9 models=*", &ann, "anything", NULL},
        {"uid.1000 models=*;unit.web.service models=a", &web, "a", "b"},
        {"uid.1000 models=aa,b", &ann, "b", "a"},
        {"default models=a", &root, "b", NULL},
        {"uid.0 models=a", &root, "a", "b"},
        {"uid.1000 weight=2;default models=a", &ann, "a", "b"},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct policy p = policy_of(rows[i].rules);

        if (!policy_model_allowed(&p, OWN, rows[i].peer, strview_of(rows[i].yes)) ||
            (rows[i].no && policy_model_allowed(&p, OWN, rows[i].peer, strview_of(rows[i].no)))) {
            fail_msg("row %zu: %s", i, rows[i].rules);
        }
        policy_deinit(&p);
    }
}

static void rights_are_a_list_of_known_words(void **state)
{
    static const char *const bad[] = {"", ",", "use,", "use use", "Use", "use,none", "useful"};
    unsigned r = 0;
    (void)state;

    assert_true(policy_rights_parse("use , cancel", &r));
    assert_int_equal(r, RIGHT_USE | RIGHT_CANCEL);
    assert_true(policy_rights_parse("metrics", &r));
    assert_int_equal(r, RIGHT_METRICS);
    assert_true(policy_rights_parse("all", &r));
    assert_int_equal(r, RIGHTS_ALL);
    assert_true(policy_rights_parse("none", &r));
    assert_int_equal(r, 0);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_false(policy_rights_parse(bad[i], &r));
    }
}

static void rules_are_named_once_and_bounded(void **state)
{
    struct policy_rule *a = NULL, *b = NULL;
    struct policy p = {0};
    char name[32];
    (void)state;

    assert_int_equal(policy_rule(&p, "uid.5", &a), 0);
    assert_int_equal(policy_rule(&p, "gid.5", &b), 0);
    assert_int_equal(p.n_rules, 2);
    assert_int_equal(policy_rule(&p, "uid.5", &a), 0);
    assert_int_equal(policy_rule(&p, "unit.a.service", &a), 0);
    assert_int_equal(policy_rule(&p, "unit.b.service", &b), 0);
    assert_int_equal(p.n_rules, 4);
    assert_int_equal(policy_rule(&p, "user.5", &a), -EINVAL);
    assert_int_equal(policy_rule(&p, "uid.", &a), -EINVAL);
    for (unsigned i = 4; i < POLICY_RULES_MAX; i++) {
        (void)snprintf(name, sizeof(name), "uid.%u", 1000 + i);
        assert_int_equal(policy_rule(&p, name, &a), 0);
    }
    assert_int_equal(policy_rule(&p, "uid.1", &a), -E2BIG);
    assert_int_equal(policy_rule(&p, "uid.5", &a), 0); /* one that is there */
    policy_deinit(&p);
    policy_deinit(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_unit_beats_a_uid_beats_groups_beat_the_default),
        cmocka_unit_test(models_are_allowed_by_the_same_order),
        cmocka_unit_test(rights_are_a_list_of_known_words),
        cmocka_unit_test(rules_are_named_once_and_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
