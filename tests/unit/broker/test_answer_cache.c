#include "tests/support/test.h"

#include <stdio.h>
#include <string.h>

#include "daemon/broker/answer_cache.h"

static const int32_t ids[] = {3, 1, 4};

static struct answer_key key(const char *bytes, const char *model, uint64_t mark)
{
    return (struct answer_key){strview_of(bytes), strview_of(model), mark};
}

static void put(struct answer_cache *c, const struct answer_key *k, const char *text)
{
    const struct kept_answer a = {.text = strview_of(text),
                                  .finish_reason = strview_of("stop"),
                                  .ids = ids,
                                  .n_ids = ARRAY_SIZE(ids),
                                  .prompt_tokens = 9,
                                  .seed = 7};

    answer_cache_put(c, k, &a);
}

static bool holds(struct answer_cache *c, const struct answer_key *k, const char *text)
{
    struct kept_answer got;

    if (!answer_cache_find(c, k, &got)) {
        return false;
    }
    assert_true(strview_is(got.text, text));
    assert_true(strview_is(got.finish_reason, "stop"));
    assert_int_equal(got.n_ids, ARRAY_SIZE(ids));
    assert_memory_equal(got.ids, ids, sizeof(ids));
    assert_int_equal(got.prompt_tokens, 9);
    assert_int_equal(got.seed, 7);
    return true;
}

static struct answer_cache cache;

/* Goal: an answer comes back for its own key and for no other: not for another's bytes, model or
 * mark. */
static void an_answer_is_found_by_its_whole_key(void **state)
{
    const struct answer_key k = key("salt-a question", "m", 1),
                            other = key("salt-b question", "m", 1),
                            model = key("salt-a question", "n", 1),
                            mark = key("salt-a question", "m", 2);
    (void)state;

    answer_cache_init(&cache, 1 << 16);
    put(&cache, &k, "answer");
    assert_true(holds(&cache, &k, "answer"));
    assert_false(holds(&cache, &other, ""));
    assert_false(holds(&cache, &model, ""));
    assert_false(holds(&cache, &mark, ""));
    assert_int_equal(cache.hits, 1);
    assert_int_equal(cache.misses, 3);
    put(&cache, &k, "another");
    assert_true(holds(&cache, &k, "another"));
    assert_int_equal(cache.n, 1);
    answer_cache_clear(&cache);
    assert_int_equal(cache.bytes, 0);
    assert_false(holds(&cache, &k, ""));
}

/* Goal: the bound holds at every moment, and what was used last stays. */
static void the_longest_unused_make_room(void **state)
{
    char name[16];
    (void)state;

    answer_cache_init(&cache, 4096);
    for (unsigned i = 0; i < 200; i++) {
        const struct answer_key first = key("q0", "m", 1);
        (void)snprintf(name, sizeof(name), "q%u", i);
        const struct answer_key k = key(name, "m", 1);
        put(&cache, &k, name);
        assert_true(cache.bytes <= cache.bytes_max);
        assert_true(holds(&cache, &k, name));
        assert_true(holds(&cache, &first, "q0")); /* asked for every time */
    }
    const struct answer_key old = key("q1", "m", 1), young = key("q198", "m", 1);
    assert_false(holds(&cache, &old, ""));
    assert_true(holds(&cache, &young, "q198"));
    answer_cache_limit(&cache, 0);
    assert_int_equal(cache.n, 0);
    assert_int_equal(cache.bytes, 0);
}

static void one_that_is_too_large_is_not_kept(void **state)
{
    char text[2001];
    const struct answer_key small = key("small", "m", 1), large = key("large", "m", 1);
    (void)state;

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    answer_cache_init(&cache, 4096);
    put(&cache, &small, "s");
    put(&cache, &large, text);
    assert_false(holds(&cache, &large, ""));
    assert_true(holds(&cache, &small, "s"));
    answer_cache_clear(&cache);
    answer_cache_init(&cache, 0); /* off */
    put(&cache, &small, "s");
    assert_false(holds(&cache, &small, ""));
}

static void a_model_that_changed_loses_its_answers_alone(void **state)
{
    const struct answer_key old = key("q", "m", 1), now = key("q", "m", 2),
                            other = key("q", "n", 1);
    (void)state;

    answer_cache_init(&cache, 1 << 16);
    put(&cache, &old, "old");
    put(&cache, &now, "now");
    put(&cache, &other, "other");
    answer_cache_forget(&cache, strview_of("m"), 2);
    assert_false(holds(&cache, &old, ""));
    assert_true(holds(&cache, &now, "now"));
    assert_true(holds(&cache, &other, "other"));
    answer_cache_clear(&cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_is_found_by_its_whole_key),
        cmocka_unit_test(the_longest_unused_make_room),
        cmocka_unit_test(one_that_is_too_large_is_not_kept),
        cmocka_unit_test(a_model_that_changed_loses_its_answers_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
