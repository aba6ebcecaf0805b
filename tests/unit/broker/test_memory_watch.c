/* memory_watch: what calls is chosen in order, calls when it should, and its loss is told. */
#include "tests/support/test.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "daemon/broker/log.h"
#include "daemon/broker/memory_watch.h"
#include "tests/unit/broker/fake_root.h"

struct seen {
    uv_loop_t loop;
    struct memory_watch watch;
    int calls, losses;
};

static void on_called(void *user)
{
    ((struct seen *)user)->calls++;
}

static void on_lost(void *user)
{
    ((struct seen *)user)->losses++;
}

static void on_late(uv_timer_t *timer)
{
    uv_stop(timer->loop);
}

/* Let the loop see what there is. */
static void turn(struct seen *s)
{
    uv_timer_t timer;

    (void)uv_timer_init(&s->loop, &timer);
    (void)uv_timer_start(&timer, on_late, 20, 0);
    (void)uv_run(&s->loop, UV_RUN_DEFAULT);
    uv_close((uv_handle_t *)&timer, NULL);
    (void)uv_run(&s->loop, UV_RUN_NOWAIT);
}

static void begin(struct seen *s, const char *own, const char *all)
{
    *s = (struct seen){.watch = {.called = on_called, .lost = on_lost, .user = s}};
    assert_int_equal(uv_loop_init(&s->loop), 0);
    memory_watch_open(&s->watch, &s->loop, own, all, SOURCE_SYSTEMD);
}

static void end(struct seen *s)
{
    memory_watch_close(&s->watch);
    (void)uv_run(&s->loop, UV_RUN_DEFAULT);
    assert_int_equal(s->watch.fd, -1);
    assert_int_equal(uv_loop_close(&s->loop), 0);
}

static char name[256];

static const char *at(const struct fake_root *t, const char *path)
{
    (void)snprintf(name, sizeof(name), "%s%s", t->root, path);
    return name;
}

static int plant(void **state)
{
    (void)unsetenv("MEMORY_PRESSURE_WATCH");
    (void)unsetenv("MEMORY_PRESSURE_WRITE");
    return fake_plant(state);
}

static void without_any_file_nobody_calls(void **state)
{
    struct seen s;
    (void)state;

    begin(&s, NULL, "/nonexistent/pressure/memory");
    assert_int_equal(s.watch.source, SOURCE_POLL);
    assert_false(s.watch.calls);
    end(&s);
}

static void a_pipe_of_the_service_manager_calls(void **state)
{
    struct seen s;

    assert_int_equal(mkfifo(at(*state, "/pipe"), 0600), 0);
    (void)setenv("MEMORY_PRESSURE_WATCH", name, 1);
    (void)setenv("MEMORY_PRESSURE_WRITE", "QUJD", 1);
    begin(&s, NULL, NULL);
    assert_int_equal(s.watch.source, SOURCE_SYSTEMD);
    turn(&s);
    assert_int_equal(s.calls, 0);  /* what is to be written is not for a pipe: we would read it */
    for (int i = 1; i <= 2; i++) { /* who writes comes and goes */
        const int fd = open(at(*state, "/pipe"), O_WRONLY | O_NONBLOCK);
        assert_int_equal(write(fd, "x", 1), 1);
        (void)close(fd);
        turn(&s);
        assert_int_equal(s.calls, i);
    }
    assert_int_equal(s.losses, 0);
    end(&s);
}

static void a_socket_of_the_service_manager_calls_until_it_ends(void **state)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    struct seen s;
    char got[8] = "";
    const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)snprintf(to.sun_path, sizeof(to.sun_path), "%.90s", at(*state, "/socket"));
    assert_int_equal(bind(listener, (const struct sockaddr *)&to, sizeof(to)), 0);
    assert_int_equal(listen(listener, 1), 0);
    (void)setenv("MEMORY_PRESSURE_WATCH", name, 1);
    (void)setenv("MEMORY_PRESSURE_WRITE", "QUJD", 1);
    begin(&s, NULL, NULL);
    assert_int_equal(s.watch.source, SOURCE_SYSTEMD);
    const int fd = accept(listener, NULL, NULL);
    assert_int_equal(read(fd, got, sizeof(got)), 3);
    assert_memory_equal(got, "ABC", 3);
    assert_int_equal(write(fd, "xyz", 3), 3);
    turn(&s);
    assert_int_equal(s.calls, 1);
    (void)close(fd);
    turn(&s);
    assert_int_equal(s.calls, 1);
    assert_int_equal(s.losses, 1);
    assert_int_equal(s.watch.fd, -1);
    (void)close(listener);
    end(&s);
}

/* A file that is no kernel's takes the words but cannot be waited for: the next source is taken. */
static void a_plain_file_gets_the_words_and_is_passed_over(void **state)
{
    const struct fake_root *t = *state;
    char own[256], got[32] = "";
    struct seen s;

    fake_put(t, "/watch", "");
    fake_put(t, "/own", "some avg10=0 total=1\n");
    (void)snprintf(own, sizeof(own), "%s", at(t, "/own"));
    (void)setenv("MEMORY_PRESSURE_WATCH", at(t, "/watch"), 1);
    (void)setenv("MEMORY_PRESSURE_WRITE", "c29tZSAyMDAwMDAgMjAwMDAwMAA=", 1);
    begin(&s, own, NULL);
    const int fd = open(at(t, "/watch"), O_RDONLY);
    assert_int_equal(read(fd, got, sizeof(got)), 20);
    assert_string_equal(got, "some 200000 2000000");
    (void)close(fd);
    assert_int_equal(s.watch.source, SOURCE_CGROUP_PSI); /* read, not triggered */
    assert_false(s.watch.calls);
    FILE *f = fopen(own, "r");
    assert_non_null(fgets(got, sizeof(got), f));
    assert_string_equal(got, "some avg10=0 total=1\n"); /* as it was */
    (void)fclose(f);
    end(&s);
}

static void null_forbids_every_other_source(void **state)
{
    struct seen s;

    fake_put(*state, "/own", "some avg10=0 total=1\n");
    (void)setenv("MEMORY_PRESSURE_WATCH", "/dev/null", 1);
    begin(&s, at(*state, "/own"), name);
    assert_int_equal(s.watch.source, SOURCE_POLL);
    assert_true(s.watch.forbidden);
    end(&s);
}

static void what_cannot_be_used_is_passed_over(void **state)
{
    static const char *const paths[] = {"relative", "/nonexistent", "/", "/dev/zero"};
    struct seen s;

    fake_put(*state, "/all", "some avg10=0 total=1\n");
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        (void)setenv("MEMORY_PRESSURE_WATCH", paths[i], 1);
        begin(&s, "/nonexistent", at(*state, "/all"));
        assert_int_equal(s.watch.source, SOURCE_SYSTEM_PSI);
        end(&s);
    }
    assert_int_equal(mkfifo(at(*state, "/pipe"), 0600), 0);
    (void)setenv("MEMORY_PRESSURE_WATCH", name, 1);
    (void)setenv("MEMORY_PRESSURE_WRITE", "not base64", 1);
    begin(&s, NULL, NULL);
    assert_int_equal(s.watch.source, SOURCE_POLL);
    end(&s);
}

#define ROOTED(f) cmocka_unit_test_setup_teardown(f, plant, fake_fell)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROOTED(without_any_file_nobody_calls),
        ROOTED(a_pipe_of_the_service_manager_calls),
        ROOTED(a_socket_of_the_service_manager_calls_until_it_ends),
        ROOTED(a_plain_file_gets_the_words_and_is_passed_over),
        ROOTED(null_forbids_every_other_source),
        ROOTED(what_cannot_be_used_is_passed_over),
    };

    log_init();
    return cmocka_run_group_tests_name("memory_watch", tests, NULL, NULL);
}
