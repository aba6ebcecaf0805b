#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "daemon/broker/session_store.h"

#define UID 1000
#define TOTAL (1u << 20)

struct place {
    uv_loop_t loop;
    struct session_table table;
    struct session_store store;
    char path[40];
    int dir;
    int log, had; /* what is logged; the standard error that was */
    unsigned n_settled;
};

static void on_settled(void *user, struct session *s)
{
    struct place *p = user;
    (void)s;

    p->n_settled++;
}

static int place_new(void **state)
{
    struct place *p = calloc(1, sizeof(*p));

    (void)snprintf(p->path, sizeof(p->path), "/tmp/session_store.XXXXXX");
    assert_non_null(mkdtemp(p->path));
    p->dir = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(p->dir >= 0);
    p->log = memfd_create("log", MFD_CLOEXEC);
    p->had = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    assert_true(dup2(p->log, STDERR_FILENO) >= 0);
    assert_int_equal(uv_loop_init(&p->loop), 0);
    session_table_init(&p->table);
    session_store_init(&p->store, &p->loop, &p->table, on_settled, p);
    assert_int_equal(session_store_open(&p->store, p->path, TOTAL), 0);
    *state = p;
    return 0;
}

static void close_store(struct place *p)
{
    session_store_stop(&p->store);
    assert_int_equal(uv_run(&p->loop, UV_RUN_DEFAULT), 0);
    session_store_deinit(&p->store);
    session_table_deinit(&p->table);
}

static int place_free(void **state)
{
    static const char *const names[] = {"a", "b", "c"};
    struct place *p = *state;
    char file[SESSION_FILE_NAME_MAX];

    if (p->store.dir >= 0) {
        close_store(p);
    }
    assert_int_equal(uv_loop_close(&p->loop), 0);
    (void)dup2(p->had, STDERR_FILENO);
    (void)close(p->had);
    (void)close(p->log);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        session_file_name(file, UID, strview_of(names[i]));
        (void)unlinkat(p->dir, file, 0);
        (void)unlinkat(p->dir, file, AT_REMOVEDIR);
    }
    (void)close(p->dir);
    const int r = rmdir(p->path); /* nothing else was left behind */
    free(p);
    return r;
}

/* The loop until the worker has nothing in hand. */
static void settle(struct place *p)
{
    while (p->store.working) {
        (void)uv_run(&p->loop, UV_RUN_ONCE);
    }
}

/* The half minute until what failed is tried again goes by at once. */
static void wait_half_a_minute(struct place *p)
{
    assert_true(uv_is_active((uv_handle_t *)&p->store.again));
    assert_true(uv_timer_get_due_in(&p->store.again) > 20000);
    uv_timer_set_repeat(&p->store.again, 1);
    assert_int_equal(uv_timer_again(&p->store.again), 0);
    uv_timer_set_repeat(&p->store.again, 0);
    while (uv_is_active((uv_handle_t *)&p->store.again) && !p->store.working) {
        (void)uv_run(&p->loop, UV_RUN_ONCE);
    }
    settle(p);
}

static struct session *begin(struct place *p, const char *name)
{
    struct session *s = session_new(UID, strview_of(name), 1800000000);

    assert_non_null(s);
    session_add(&p->table, s);
    session_store_changed(&p->store, s);
    settle(p);
    return s;
}

static void drop(struct place *p, struct session *s)
{
    session_store_gone(&p->store, s);
    session_remove(&p->table, s);
    settle(p);
}

/* What stands under a session's name: 0 nothing, or a kind as of st_mode. */
static mode_t kind(const struct place *p, const char *name)
{
    char file[SESSION_FILE_NAME_MAX];
    struct stat st;

    session_file_name(file, UID, strview_of(name));
    return fstatat(p->dir, file, &st, AT_SYMLINK_NOFOLLOW) == 0 ? st.st_mode & S_IFMT : 0;
}

/* A folder in the place of a session's file, which nobody can remove or replace as a file, root no
 * more than others. */
static void block(const struct place *p, const char *name)
{
    char file[SESSION_FILE_NAME_MAX];

    session_file_name(file, UID, strview_of(name));
    (void)unlinkat(p->dir, file, 0);
    assert_int_equal(mkdirat(p->dir, file, 0700), 0);
}

static void unblock(const struct place *p, const char *name)
{
    char file[SESSION_FILE_NAME_MAX];

    session_file_name(file, UID, strview_of(name));
    assert_int_equal(unlinkat(p->dir, file, AT_REMOVEDIR), 0);
}

/* How often the log says this. */
static unsigned logged(const struct place *p, const char *what)
{
    static char text[8192];
    const ssize_t n = pread(p->log, text, sizeof(text) - 1, 0);
    unsigned times = 0;

    assert_true(n >= 0);
    text[n] = '\0';
    for (const char *at = text; (at = strstr(at, what)) && *at; at++) {
        times++;
    }
    return times;
}

static void a_session_is_written_and_removed(void **state)
{
    struct place *p = *state;
    struct session *a = begin(p, "a");

    assert_int_equal(kind(p, "a"), S_IFREG);
    assert_int_equal(p->n_settled, 1);
    drop(p, a);
    assert_int_equal(kind(p, "a"), 0);
    assert_int_equal(logged(p, ""), 0);
}

static void a_file_that_cannot_be_removed_keeps_no_other_from_the_disk(void **state)
{
    struct place *p = *state;
    struct session *a = begin(p, "a"), *b = begin(p, "b");

    block(p, "a");
    drop(p, a);
    (void)begin(p, "c");
    assert_int_equal(kind(p, "c"), S_IFREG);
    drop(p, b);
    assert_int_equal(kind(p, "b"), 0);
    assert_int_equal(p->n_settled, 3);
    for (int i = 0; i < 3; i++) {
        wait_half_a_minute(p);
        assert_int_equal(kind(p, "a"), S_IFDIR);
    }
    assert_int_equal(logged(p, "1000-a.session cannot be removed"), 1);
    assert_int_equal(logged(p, "cannot be"), 1);
    unblock(p, "a");
    wait_half_a_minute(p);
    assert_true(list_empty(&p->store.gone_later));
    assert_false(uv_is_active((uv_handle_t *)&p->store.again));
}

static void a_file_that_cannot_be_written_keeps_no_other_from_the_disk(void **state)
{
    struct place *p = *state;

    block(p, "a");
    struct session *a = begin(p, "a");
    struct session *b = begin(p, "b");
    assert_int_equal(kind(p, "b"), S_IFREG);
    assert_int_equal(p->n_settled, 2); /* whoever waits for it hears of the failure */
    session_store_changed(&p->store, a);
    session_store_changed(&p->store, b);
    settle(p);
    assert_int_equal(p->n_settled, 4);
    wait_half_a_minute(p);
    assert_int_equal(logged(p, "1000-a.session cannot be written"), 1);
    assert_int_equal(logged(p, "can be written again"), 0);
    unblock(p, "a");
    wait_half_a_minute(p);
    assert_int_equal(kind(p, "a"), S_IFREG);
    assert_int_equal(logged(p, "cannot be"), 1);
    assert_int_equal(logged(p, "can be written again"), 1);
    assert_false(uv_is_active((uv_handle_t *)&p->store.again));
}

/* Goal: a removal that is late takes no session that was begun since. Method: the removal fails,
 * one of the same name is begun and written, and the removal's time comes. */
static void a_late_removal_leaves_a_new_session_of_that_name_alone(void **state)
{
    struct place *p = *state;
    struct session *a = begin(p, "a");

    block(p, "a");
    drop(p, a);
    a = begin(p, "a"); /* cannot be written either: now both are to be tried again */
    assert_false(list_empty(&p->store.gone_later));
    unblock(p, "a");
    session_store_changed(&p->store, a);
    settle(p);
    assert_int_equal(kind(p, "a"), S_IFREG);
    assert_true(list_empty(&p->store.gone_later));
    while (uv_is_active((uv_handle_t *)&p->store.again)) {
        wait_half_a_minute(p);
    }
    assert_int_equal(kind(p, "a"), S_IFREG);
}

/* Goal: what cannot be removed takes no more memory than one entry a name. */
static void dropping_one_name_again_and_again_is_remembered_once(void **state)
{
    struct place *p = *state;

    block(p, "a");
    for (int i = 0; i < 5; i++) {
        drop(p, begin(p, "a"));
    }
    assert_false(list_empty(&p->store.gone_later));
    assert_true(p->store.gone_later.next == p->store.gone_later.prev);
    assert_int_equal(logged(p, "cannot be removed"), 1);
}

static void at_the_end_everything_is_tried_once_more(void **state)
{
    struct place *p = *state;
    struct session *a = begin(p, "a");

    block(p, "a");
    block(p, "b");
    block(p, "c");
    drop(p, a);
    (void)begin(p, "b");
    (void)begin(p, "c");
    unblock(p, "b");
    close_store(p); /* does not wait for "a" and "c", and loses no memory over them */
    assert_int_equal(kind(p, "a"), S_IFDIR);
    assert_int_equal(kind(p, "b"), S_IFREG);
    assert_int_equal(kind(p, "c"), S_IFDIR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define WITH_PLACE(test) cmocka_unit_test_setup_teardown(test, place_new, place_free)
        WITH_PLACE(a_session_is_written_and_removed),
        WITH_PLACE(a_file_that_cannot_be_removed_keeps_no_other_from_the_disk),
        WITH_PLACE(a_file_that_cannot_be_written_keeps_no_other_from_the_disk),
        WITH_PLACE(a_late_removal_leaves_a_new_session_of_that_name_alone),
        WITH_PLACE(dropping_one_name_again_and_again_is_remembered_once),
        WITH_PLACE(at_the_end_everything_is_tried_once_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
