/* talk: a connection, and the signals that end a wait on it.
 *
 * Signals are blocked and read from a descriptor, so that one poll() waits for the daemon and for
 * Ctrl-C, and none can slip in between a check and a wait. A signal that was ignored when we were
 * started (a job in the background, nohup) stays ignored. */
#include "client/cli/cli.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

#define CANCEL_MS 2000 /* for the daemon to confirm a cancel */

int talk_init(struct talk *t)
{
    static const int ends[] = {SIGINT, SIGTERM, SIGHUP};

    *t = (struct talk){.signal_fd = -1};
    (void)sigemptyset(&t->blocked);
    for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
        struct sigaction was;
        if (sigaction(ends[i], NULL, &was) == 0 && was.sa_handler != SIG_IGN) {
            (void)sigaddset(&t->blocked, ends[i]);
        }
    }
    if (sigprocmask(SIG_BLOCK, &t->blocked, NULL) == 0) {
        t->signal_fd = signalfd(-1, &t->blocked, SFD_CLOEXEC | SFD_NONBLOCK);
    }
    if (t->signal_fd < 0) {
        complain("cannot watch for signals: %s", strerror(errno));
        return EXIT_SYSTEM;
    }
    return 0;
}

void talk_hang_up(struct talk *t)
{
    onebit_disconnect(t->conn);
    t->conn = NULL;
}

void talk_deinit(struct talk *t)
{
    talk_hang_up(t);
    if (t->signal_fd >= 0) {
        (void)close(t->signal_fd);
        t->signal_fd = -1;
        (void)sigprocmask(SIG_UNBLOCK, &t->blocked, NULL); /* one that waits ends us here */
    }
}

/* What helps when nobody answers at path. */
static int no_daemon(int r, const char *path)
{
    struct stat st;

    if (r == -ECONNREFUSED && stat(path, &st) == 0 && !S_ISSOCK(st.st_mode)) {
        complain("%s is no socket; name onebitd's with -s or ONEBIT_SOCKET", path);
        return EXIT_UNAVAILABLE;
    }
    switch (r) {
    case -ENOENT:
    case -ECONNREFUSED:
        complain("no onebitd answers at %s", path);
        complain("start it with: onebitd --socket %s --models DIR", path);
        return EXIT_UNAVAILABLE;
    case -EACCES:
    case -EPERM:
        complain("this user may not use onebitd's socket %s", path);
        complain("ask the administrator to add you to the group of the socket, then log in anew");
        return EXIT_DENIED;
    case -ETIMEDOUT:
        complain("onebitd at %s does not answer", path);
        return EXIT_UNAVAILABLE;
    case -EPROTO:
        complain("what answers at %s is no onebitd of this protocol", path);
        return EXIT_PROTOCOL;
    case -ENAMETOOLONG:
        complain("the socket's path is longer than %d bytes", ONEBIT_SOCKET_PATH_MAX - 1);
        return EXIT_USAGE;
    default:
        complain("cannot connect to onebitd at %s: %s", path, strerror(-r));
        return EXIT_UNAVAILABLE;
    }
}

int talk_connect(struct talk *t, const char *socket)
{
    char path[ONEBIT_SOCKET_PATH_MAX] = "";
    const int r = onebit_connect(&t->conn, socket);
    const struct onebit_error_info *info = onebit_error_info(r);

    if (r == 0) {
        return 0;
    }
    if (info) {
        complain("%s: %s (%u)", info->name, info->meaning, info->number);
        complain("%s", info->hint);
        return info->exit_code;
    }
    (void)onebit_socket_path(socket, path);
    return no_daemon(r, path);
}

void talk_never_again(struct onebit_conn *conn)
{
    const struct onebit_retry never = {.size = sizeof(never)};

    (void)!onebit_set_retry(conn, &never); /* it is well formed */
}

bool talk_signal(struct talk *t)
{
    struct signalfd_siginfo info;

    if (read(t->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info)) {
        return false;
    }
    t->signalled = (int)info.ssi_signo;
    return true;
}

void talk_stop(struct talk *t)
{
    if (t->until_ns == 0) {
        t->until_ns = clock_now_ns() + CANCEL_MS * NS_PER_MS;
        if (onebit_cancel(t->conn, t->id) != 0) {
            t->waiting = false; /* hanging up cancels as well */
        }
    }
}

/* A signal came: the first cancels, the second ends the wait. */
static void on_signal(struct talk *t)
{
    const bool again = t->signalled != 0;

    if (!talk_signal(t)) {
        return;
    }
    if (again) {
        t->waiting = false;
    } else {
        talk_stop(t);
    }
}

static void on_daemon(struct talk *t)
{
    const int r = onebit_dispatch(t->conn, 0);

    if (r != 0 && r != -EINTR && t->waiting) { /* else the request has ended by its callback */
        t->code = r;
        t->waiting = false;
    }
}

/* How long poll() may wait; 0 when a stopped request has had its time. */
static int patience_ms(const struct talk *t)
{
    const uint64_t now_ns = clock_now_ns();

    if (t->until_ns == 0) {
        return -1;
    }
    return now_ns >= t->until_ns ? 0 : (int)((t->until_ns - now_ns) / NS_PER_MS) + 1;
}

void talk_wait(struct talk *t)
{
    t->until_ns = 0;
    while (t->waiting) {
        struct pollfd fds[2] = {
            {.fd = onebit_get_fd(t->conn), .events = onebit_wants(t->conn)},
            {.fd = t->signal_fd, .events = POLLIN},
        };
        const int wait_ms = patience_ms(t);
        if (wait_ms == 0) {
            t->waiting = false;
            break;
        }
        if (poll(fds, 2, wait_ms) < 0 && errno != EINTR) {
            t->code = -errno;
            t->waiting = false;
            break;
        }
        if (fds[1].revents) {
            on_signal(t);
        }
        if (fds[0].revents && t->waiting) {
            on_daemon(t);
        }
    }
}

int talk_exit(const struct talk *t)
{
    return t->signalled ? EXIT_SIGNAL + t->signalled : failure_exit(t->code);
}

bool talk_goes_on(const struct talk *t)
{
    return !t->signalled && t->code >= 0;
}

/* ---- verbs whose answer is one result ---- */

struct result {
    struct talk *talk;
    char *text; /* owned */
};

static void on_result(struct onebit_conn *conn, uint32_t id, const struct onebit_done *done,
                      void *user)
{
    struct result *a = user;

    a->text = strdup(done->result ? done->result : "null");
    a->talk->waiting = false;
}

static void on_error(struct onebit_conn *conn, uint32_t id, const struct onebit_failure *failure,
                     void *user)
{
    struct result *a = user;

    a->talk->waiting = false;
    a->talk->code = failure->code;
    complain_failure(failure);
}

int talk_ask(struct talk *t, enum onebit_verb verb, const char *name, char **ret)
{
    struct result a = {.talk = t};
    struct onebit_handler handler;

    onebit_handler_init(&handler);
    handler.done = on_result;
    handler.error = on_error;
    const int code = onebit_ask(t->conn, verb, name, &handler, &a, &t->id);
    t->waiting = code == 0;
    t->code = code;
    if (code != 0) {
        complain("the request cannot be sent: %s",
                 code < 0 ? strerror(-code) : onebit_error_info(code)->meaning);
    }
    talk_wait(t);
    int r = talk_exit(t);
    if (r == 0 && !a.text) {
        complain("out of memory");
        r = EXIT_SOFTWARE;
    }
    if (r == 0) {
        *ret = a.text;
    } else {
        free(a.text);
    }
    return r;
}

int ask_text(const struct args *args, enum onebit_verb verb, const char *name, char **ret)
{
    struct talk t;
    int r = talk_init(&t);

    if (r == 0) {
        r = talk_connect(&t, args->socket);
    }
    if (r == 0) {
        r = talk_ask(&t, verb, name, ret);
    }
    talk_deinit(&t);
    return r;
}
