#include "tests/support/test.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/broker/peer.h"

/* Goal: a service is its unit, a user's session is none, and nothing odd becomes a name. */
static void the_cgroup_names_the_unit_and_nothing_else_does(void **state)
{
    static const struct {
        const char *text, *unit;
    } rows[] = {
        {"0::/system.slice/ssh.service\n", "ssh.service"},
        {"0::/system.slice/system-getty.slice/getty@tty1.service\n", "getty@tty1.service"},
        {"0::/system.slice/web.service/worker/3\n", "web.service"},
        {"0::/apps.slice/apps-voice.slice/voice.service\n", "voice.service"},
        {"0::/system.slice/docker-0123abcd.scope\n", "docker-0123abcd.scope"},
        {"0::/machine.slice/libpod-77.scope/container\n", "libpod-77.scope"},
        {"0::/docker/0123abcd\n", "docker-0123abcd.scope"},
        {"0::/docker/0123abcd/init\n", "docker-0123abcd.scope"},
        {"0::/lxc.payload.box/init.scope\n", "lxc.payload.box"},
        {"9:name=systemd:/system.slice/cron.service\n8:pids:/x\n0::/\n", "cron.service"},
        {"8:pids:/system.slice/not-this.service\n0::/system.slice/a.service\n", "a.service"},
        /* a user's */
        {"0::/user.slice/user-1000.slice/session-2.scope\n", ""},
        {"0::/user.slice/user-1000.slice/user@1000.service/app.slice/a.service\n", ""},
        {"0::/user.slice/user-1000.slice/user@1000.service/system.slice/ssh.service\n", ""},
        /* odd */
        {"", ""},
        {"0::/\n", ""},
        {"0::\n", ""},
        {"::\n", ""},
        {":\n", ""},
        {"\n\n\n", ""},
        {"0::/init.scope\n", ""},
        {"0::/../../system.slice/ssh.service\n", ""},
        {"0::/system.slice\n", ""},
        {"0::/system.slice/\n", ""},
        {"0::/system.slice/x.mount\n", ""},
        {"0::/system.slice/.service\n", ""},
        {"0::/system.slice/a b.service\n", ""},
        {"0::/system.slice/a]\x01.service\n", ""},
        {"0::/system.slice/ssh.service", ""}, /* no end of line: cut off */
        {"0::/docker/\n", ""},
        {"0::/docker/..\n", ""},
        {"0::/.slice/a.service\n", ""},
        {"0::/system.slice/not.slicea/b.service\n", ""},
    };
    char unit[UNIT_MAX + 1];
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        memset(unit, 'x', sizeof(unit));
        peer_unit(rows[i].text, strlen(rows[i].text), unit);
        if (strcmp(unit, rows[i].unit) != 0) {
            fail_msg("row %zu: '%s' is '%s'", i, rows[i].text, unit);
        }
    }
}

static void a_name_is_as_long_as_systemd_allows_and_no_longer(void **state)
{
    char text[UNIT_MAX + 64], unit[UNIT_MAX + 1];
    (void)state;

    for (size_t n = UNIT_MAX - 1; n <= UNIT_MAX + 1; n++) {
        const int len = snprintf(text, sizeof(text), "0::/system.slice/%0*d.service\n",
                                 (int)(n - strlen(".service")), 1);
        peer_unit(text, (size_t)len, unit);
        assert_int_equal(strlen(unit), n <= UNIT_MAX ? n : 0);
        const int docker = snprintf(text, sizeof(text), "0::/docker/%0*d\n",
                                    (int)(n - strlen("docker-.scope")), 1);
        peer_unit(text, (size_t)docker, unit);
        assert_int_equal(strlen(unit), n <= UNIT_MAX ? n : 0);
    }
}

static void any_bytes_are_survived(void **state)
{
    char text[300], unit[UNIT_MAX + 1];
    unsigned seed = 1;
    (void)state;

    for (int round = 0; round < 20000; round++) {
        static const char pieces[] = "0::/\n.slicesystemdockerlxc.payload.:=@\\-\0\xff";
        const size_t n = (size_t)(seed >> 8) % sizeof(text);

        for (size_t i = 0; i < n; i++) {
            seed = seed * 1103515245u + 12345u;
            text[i] = pieces[(seed >> 16) % (sizeof(pieces) - 1)];
        }
        seed = seed * 1103515245u + 12345u;
        peer_unit(text, n, unit);
        assert_true(strlen(unit) <= UNIT_MAX);
    }
}

static void the_kernel_says_who_we_are(void **state)
{
    struct peer p;
    int fds[2];
    (void)state;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_int_equal(peer_read(&p, fds[0]), 0);
    assert_int_equal(p.uid, geteuid());
    assert_int_equal(p.pid, getpid());
    assert_true(p.n_gids >= 1);
    assert_int_equal(p.gids[0], getegid());
    peer_deinit(&p);
    (void)close(fds[0]);
    (void)close(fds[1]);
    assert_true(peer_read(&p, -1) < 0);
    peer_deinit(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cgroup_names_the_unit_and_nothing_else_does),
        cmocka_unit_test(a_name_is_as_long_as_systemd_allows_and_no_longer),
        cmocka_unit_test(any_bytes_are_survived),
        cmocka_unit_test(the_kernel_says_who_we_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
