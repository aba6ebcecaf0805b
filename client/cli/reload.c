/* reload: a signal to the daemon, and its word that the configuration was read. What makes the
 * service manager's `systemctl reload` end when the new one is in force, and fail when it is
 * refused. */
#include "client/cli/cli.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

#define PATIENCE_MS 60000 /* a slow disk, or prefixes to be read */
#define BETWEEN_MS 20     /* two looks */
#define EXIT_REFUSED 1

struct state {
    pid_t pid;
    long long reloads;
    bool refused;
};

/* 0 or an exit code; failures have been said. */
static int look(struct talk *t, struct state *ret)
{
    char *text = NULL;
    int pid = 0, refused = 0;
    json_int_t reloads = 0;
    int r = talk_ask(t, ONEBIT_STATUS, NULL, &text);

    if (r != 0) {
        return r;
    }
    json_t *status = json_loads(text, 0, NULL);
    free(text);
    if (!status || json_unpack(status, "{s:i, s:I, s:b}", "pid", &pid, "reloads", &reloads,
                               "reload_refused", &refused) != 0) {
        complain("the daemon is older than this command: send it SIGHUP");
        r = EXIT_PROTOCOL;
    }
    json_decref(status);
    *ret = (struct state){.pid = pid, .reloads = reloads, .refused = refused != 0};
    return r;
}

static int wait_for_it(struct talk *t, const struct state *before)
{
    const struct timespec between = {.tv_nsec = BETWEEN_MS * (long)NS_PER_MS};
    const uint64_t until_ns = clock_now_ns() + PATIENCE_MS * NS_PER_MS;
    struct state now = *before;

    while (now.reloads == before->reloads) {
        if (clock_now_ns() >= until_ns) {
            complain("the daemon has not read its configuration in %d s", PATIENCE_MS / 1000);
            return EXIT_UNAVAILABLE;
        }
        (void)nanosleep(&between, NULL);
        const int r = look(t, &now);
        if (r != 0) {
            return r;
        }
    }
    if (now.refused) {
        complain("the new configuration is refused, and the old one stays; the daemon's log says "
                 "why, and so does `onebit config check`");
        return EXIT_REFUSED;
    }
    return 0;
}

int verb_reload(struct args *args)
{
    struct state before = {0};
    struct talk t;
    int r = talk_init(&t);

    if (r == 0) {
        r = talk_connect(&t, args->socket);
    }
    if (r == 0) {
        r = look(&t, &before);
    }
    if (r == 0 && (before.pid <= 1 || kill(before.pid, SIGHUP) < 0)) {
        complain("the daemon cannot be sent a signal: %s",
                 before.pid <= 1 ? "its process is not known" : strerror(errno));
        r = before.pid > 1 && errno == EPERM ? EXIT_DENIED : EXIT_SYSTEM;
    }
    if (r == 0) {
        r = wait_for_it(&t, &before);
    }
    talk_deinit(&t);
    return r;
}
