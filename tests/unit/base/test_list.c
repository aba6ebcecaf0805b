#include "tests/support/test.h"

#include "base/list.h"

struct item {
    int n;
    struct list link;
};

/* Goal: an item may remove itself, and the one after it be reached, during a walk. */
static void a_walk_survives_the_removal_of_its_item(void **state)
{
    struct list head;
    struct item items[5];
    int sum = 0, left = 0;
    (void)state;

    list_init(&head);
    for (int i = 0; i < 5; i++) {
        items[i].n = i;
        list_push(&head, &items[i].link);
    }
    list_for_each (it, next, &head, struct item, link) {
        sum = sum * 10 + it->n;
        if (it->n % 2 == 0) {
            list_remove(&it->link);
            list_remove(&it->link); /* twice is harmless */
        }
    }
    assert_int_equal(sum, 1234);
    list_for_each (it, next, &head, struct item, link) {
        left = left * 10 + it->n;
    }
    assert_int_equal(left, 13);
    assert_false(list_empty(&head));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_walk_survives_the_removal_of_its_item),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
