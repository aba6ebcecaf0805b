/* onebitd: arguments, folders, the socket, signals and the loop. What the daemon does is in the
 * library of this room. */
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <uv.h>

#include "base/coredump.h"
#include "daemon/broker/broker.h"
#include "daemon/broker/folders.h"
#include "daemon/broker/listen.h"
#include "daemon/broker/log.h"
#include "daemon/broker/notify.h"
#include "daemon/broker/options.h"
#include "daemon/broker/packstore.h"
#include "daemon/broker/readiness.h"
#include "daemon/broker/userns.h"

#define OTHER_FILES 64 /* beside connections: the loop's, the engine's, models being packed */

enum { EXIT_BAD_USAGE = 64, EXIT_NO_SERVICE = 69, EXIT_SYSTEM = 71, EXIT_BAD_CONFIG = 78 };

struct daemon {
    struct broker broker;
    struct options options;
    struct listen_socket own, own_metrics; /* nothing in it when the socket was passed to us */
    struct passed_sockets passed;          /* by the service manager */
    struct watchdog watchdog;
    struct readiness readiness;
    uv_signal_t term, interrupt, reload;
    uv_work_t reading; /* of the configuration; in use while `reloading` */
    bool reloading, reload_again;
    struct config read; /* owned: what `reading` brought */
    int read_result;    /* of options_load() */
};

static void usage(FILE *to)
{
    (void)fprintf(
        to, "usage: onebitd [--config FILE] [--socket PATH] [--models DIR] [--cache DIR]\n"
            "               [--sessions DIR] [--sysroot DIR] [--check | --paths] [--version]\n"
            "               [--help]\n\n"
            "Serves low-bit language models to the programs of this machine.\n\n"
            "  --config FILE  read this configuration instead of the default one\n"
            "  --socket PATH  listen here\n"
            "  --models DIR   the folder of NAME.gguf files\n"
            "  --cache DIR    the folder of packed models; made when absent\n"
            "  --sessions DIR the folder of conversations; made when absent\n"
            "  --sysroot DIR  read the sensors' /proc and /sys below it: for tests and containers\n"
            "  --check        check the configuration and end: 0, or 78 and why\n"
            "  --paths        check it, print which socket and folders count, and end\n");
}

/* What counts when file, command line and defaults are put together; `onebit doctor` reads it. */
static int print_paths(const struct config *c)
{
    (void)printf("socket=%s\nmodels=%s\ncache=%s\nsessions=%s\n",
                 c->socket_path ? c->socket_path : "", c->models_dir, c->cache_dir,
                 c->sessions_dir);
    return fflush(stdout) == 0 ? 0 : EXIT_SYSTEM;
}

/* The engine's program: as configured, else beside ours, else where it is installed. */
static char *find_runner(const struct config *c)
{
    char self[PATH_MAX];
    char *path = NULL;

    if (c->runner) {
        return strdup(c->runner);
    }
    const ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (n > 0) {
        self[n] = '\0';
        char *slash = strrchr(self, '/');
        if (slash && asprintf(&path, "%.*s/onebit-runner", (int)(slash - self), self) >= 0) {
            if (access(path, X_OK) == 0) {
                return path;
            }
            free(path);
        }
    }
    return strdup(ONEBIT_LIBEXECDIR "/onebit-runner");
}

static void on_stop_signal(uv_signal_t *handle, int number)
{
    struct daemon *d = handle->data;

    (void)number;
    const bool first = !d->broker.draining;
    broker_drain(&d->broker);
    if (first) {
        readiness_stopping(&d->readiness);
    }
}

/* A worker reads the file: the disk may be slow, and nothing on the loop waits for it. */
static void do_reading(uv_work_t *work)
{
    struct daemon *d = container_of(work, struct daemon, reading);

    d->read_result = options_load(&d->read, &d->options);
}

static void start_reading(struct daemon *d);

static void on_read(uv_work_t *work, int status)
{
    struct daemon *d = container_of(work, struct daemon, reading);

    d->reloading = false;
    if (d->broker.stopping) {
        config_deinit(&d->read);
        return;
    }
    d->broker.reload_refused = status != 0 || d->read_result != LOAD_OK;
    d->broker.n_reloads++;
    if (!d->broker.reload_refused) {
        broker_reload(&d->broker, &d->read);
    } else {
        log_line(LOG_ERR, "the new configuration is refused; the old one stays");
    }
    config_deinit(&d->read);
    if (d->reload_again) {
        d->reload_again = false;
        start_reading(d);
    } else {
        readiness_again(&d->readiness);
    }
}

static void start_reading(struct daemon *d)
{
    d->reloading = true;
    d->read = (struct config){0};
    /* Fails only without a function to call. */
    (void)uv_queue_work(d->term.loop, &d->reading, do_reading, on_read);
}

static void on_reload_signal(uv_signal_t *handle, int number)
{
    struct daemon *d = handle->data;

    (void)number;
    if (d->reloading) {
        d->reload_again = true; /* the file may have changed after it was read */
        return;
    }
    notify_reloading();
    start_reading(d);
}

/* The broker is closing its handles: close ours. */
static void on_stopped(struct broker *b)
{
    struct daemon *d = container_of(b, struct daemon, broker);

    listen_close(&d->own_metrics);
    listen_close(&d->own); /* from here a new daemon may take our place */
    watchdog_stop(&d->watchdog);
    readiness_stop(&d->readiness);
    uv_close((uv_handle_t *)&d->term, NULL);
    uv_close((uv_handle_t *)&d->interrupt, NULL);
    uv_close((uv_handle_t *)&d->reload, NULL);
}

/* From the moment that somebody can find our sockets until signals are watched, none may end us. */
static void hold_signals(int how)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGHUP);
    (void)pthread_sigmask(how, &set, NULL);
}

static int watch_signals(struct daemon *d, uv_loop_t *loop)
{
    int r = 0;

    d->term.data = d->interrupt.data = d->reload.data = d;
    (void)uv_signal_init(loop, &d->term);
    (void)uv_signal_init(loop, &d->interrupt);
    (void)uv_signal_init(loop, &d->reload);
    (void)signal(SIGPIPE, SIG_IGN);
    r = uv_signal_start(&d->term, on_stop_signal, SIGTERM);
    if (r == 0) {
        r = uv_signal_start(&d->interrupt, on_stop_signal, SIGINT);
    }
    if (r == 0) {
        r = uv_signal_start(&d->reload, on_reload_signal, SIGHUP);
    }
    return r;
}

/* Room for the connections that the configuration allows, and for what else is open. Returns for
 * how many there is room; 0: for all. */
static size_t allow_files(const struct config *c)
{
    const rlim_t want = c->connections + OTHER_FILES;
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= want) {
        return 0;
    }
    limit.rlim_cur = want < limit.rlim_max ? want : limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur >= want) {
        return 0;
    }
    const rlim_t files = getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 0;
    const size_t room = files > 2 * OTHER_FILES ? files - OTHER_FILES : files / 2;
    log_line(LOG_WARNING,
             "limits.connections is %llu, but only %llu files can be open: %zu connections",
             (unsigned long long)c->connections, (unsigned long long)files, room);
    return room;
}

/* What is wrong with a path that listen_open() refuses. */
static void log_refused(const char *path, const char *group, int e)
{
    if (e == -ENOENT && group) {
        log_line(LOG_ERR, "%s: no such group '%s' or folder", path, group);
    } else if (e == -ENAMETOOLONG) {
        log_line(LOG_ERR, "the socket's path is longer than %u bytes: %s", LISTEN_PATH_MAX, path);
    } else {
        log_line(LOG_ERR, "%s: %s", path,
                 e == -EADDRINUSE ? "a daemon is listening there already"
                 : e == -EEXIST   ? "is no socket"
                 : e == -ENOENT   ? "no such folder"
                                  : strerror(-e));
    }
}

/* The socket that we were passed, or our own at @path: its descriptor or a negative errno. */
static int open_socket(struct listen_socket *own, int passed, const char *path, uint64_t mode,
                       const char *group)
{
    if (passed >= 0) {
        return passed;
    }
    const int r = listen_open(own, path, (mode_t)mode, group);
    if (r < 0) {
        log_refused(path, group, r);
        return r;
    }
    const int fd = own->fd;
    own->fd = -1; /* the loop's now */
    return fd;
}

/* Where one is configured or was passed. */
static int serve_metrics(struct daemon *d, int fd)
{
    char name[LISTEN_NAME_MAX];

    listen_name(fd, name);
    const int r = metrics_server_start(&d->broker.metrics_server, &d->broker, fd);
    if (r == 0) {
        log_line(LOG_NOTICE, "metrics on %s", d->own_metrics.path ? d->own_metrics.path : name);
    }
    return r;
}

/* A path that cannot be used is a matter of the configuration; what is left is the system's. */
static int exit_status(int e)
{
    switch (-e) {
    case 0:
        return 0;
    case EADDRINUSE:
        return EXIT_NO_SERVICE;
    case EACCES:
    case EEXIST:
    case ELOOP:
    case ENAMETOOLONG:
    case ENOENT:
    case ENOTDIR:
    case EPERM:
    case EROFS:
        return EXIT_BAD_CONFIG;
    default:
        return EXIT_SYSTEM;
    }
}

static void close_left(uv_handle_t *handle, void *user)
{
    (void)user;
    if (!uv_is_closing(handle)) {
        uv_close(handle, NULL);
    }
}

static int serve(struct daemon *d, struct config *c)
{
    char name[LISTEN_NAME_MAX];
    uv_loop_t loop;
    int r = uv_loop_init(&loop);

    if (r < 0) {
        return r;
    }
    hold_signals(SIG_BLOCK);
    /* The clients' socket comes last: who can connect finds the other one, too. */
    const bool metrics = c->metrics_socket || d->passed.metrics >= 0;
    const int metrics_fd = metrics
                               ? open_socket(&d->own_metrics, d->passed.metrics, c->metrics_socket,
                                             c->metrics_mode, c->metrics_group)
                               : 0;
    const int fd = metrics_fd < 0 ? metrics_fd
                                  : open_socket(&d->own, d->passed.main, c->socket_path,
                                                c->socket_mode, c->socket_group);
    if (fd < 0) {
        hold_signals(SIG_UNBLOCK);
        (void)uv_loop_close(&loop);
        return fd;
    }
    listen_name(fd, name);
    const size_t conns_room = allow_files(c);
    pack_sweep(c->cache_dir); /* nobody is served yet: this thread may wait for the disk */
    r = watch_signals(d, &loop);
    hold_signals(SIG_UNBLOCK);
    if (r == 0) {
        r = broker_init(&d->broker, &loop, c, find_runner(c),
                        d->options.sysroot ? d->options.sysroot : "");
        d->broker.stopped = on_stopped;
        d->broker.conns_room = conns_room;
        d->broker.socket_stays = d->passed.main >= 0;
    }
    if (r == 0) {
        r = broker_listen(&d->broker, fd);
    }
    if (r == 0 && metrics) {
        r = serve_metrics(d, metrics_fd);
    }
    if (r == 0) {
        r = watchdog_start(&d->watchdog, &loop);
    }
    if (r == 0) {
        /* Our own socket was bound under another name and renamed; the kernel knows the first. */
        log_line(LOG_NOTICE, "serving on %s", d->own.path ? d->own.path : name);
        r = readiness_start(&d->readiness, &d->broker);
    }
    if (r == 0) {
        (void)uv_run(&loop, UV_RUN_DEFAULT);
    }
    uv_walk(&loop, close_left, NULL); /* a timer nobody waits for; after a failed start, all */
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    broker_deinit(&d->broker);
    (void)log_settle(true);
    (void)uv_loop_close(&loop);
    return r;
}

/* Where to listen is known, and the folders can be used: 0 or an exit status. */
static int prepare(struct daemon *d, const struct config *c)
{
    const int seen = userns_check(getenv("RUNTIME_DIRECTORY") || getenv("STATE_DIRECTORY"));

    if (seen < 0) {
        return exit_status(seen);
    }
    if (notify_sockets(&d->passed) < 0) {
        log_line(LOG_ERR, "what the service manager passed is not one listening Unix socket, and "
                          "perhaps another one named metrics");
        return EXIT_SYSTEM;
    }
    if (d->passed.main < 0 && !c->socket_path) {
        log_line(LOG_ERR,
                 "XDG_RUNTIME_DIR is not set, so there is no default socket: name one with "
                 "--socket or with 'path' in [socket]");
        return EXIT_BAD_CONFIG;
    }
    int r = folders_prepare(c->models_dir, c->cache_dir, c->sessions_dir,
                            d->passed.main < 0 ? c->socket_path : NULL);
    if (r == 0 && d->passed.metrics < 0 && c->metrics_socket) {
        r = folders_above(c->metrics_socket);
    }
    return r == 0 ? 0 : exit_status(r);
}

/* --check and --paths: what is right in the file, but not on this machine. Returns the exit
 * status. */
static int check_groups(const struct config *c)
{
    const char *const groups[] = {c->socket_group, c->metrics_socket ? c->metrics_group : NULL};

    for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
        if (groups[i] && !getgrnam(groups[i])) {
            log_line(LOG_ERR, "group in [%s]: no such group '%s'", i == 0 ? "socket" : "metrics",
                     groups[i]);
            return EXIT_BAD_CONFIG;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct daemon d = {.passed = {.main = -1, .metrics = -1},
                       .own = {.fd = -1, .lock = -1},
                       .own_metrics = {.fd = -1, .lock = -1}};
    struct config c = {0};

    coredump_forbid();
    log_init();
    if (options_parse(&d.options, argc, argv) != OPTIONS_OK) {
        usage(stderr);
        return EXIT_BAD_USAGE;
    }
    if (d.options.help || d.options.version) {
        if (d.options.help) {
            usage(stdout);
        } else {
            (void)printf("onebitd %s\n", ONEBIT_VERSION);
        }
        return 0;
    }
    const int r = options_load(&c, &d.options);
    if (r != LOAD_OK) {
        return r == LOAD_BAD ? EXIT_BAD_CONFIG : EXIT_SYSTEM;
    }
    if (d.options.check || d.options.paths) {
        int said = check_groups(&c);
        if (said == 0 && d.options.paths) {
            said = print_paths(&c);
        }
        config_deinit(&c);
        return said;
    }
    int status = prepare(&d, &c);
    if (status == 0) {
        /* They look at folders and sync files: nobody waits for a look because a disk is slow. */
        (void)setenv("UV_THREADPOOL_SIZE", "2", 0);
        status = exit_status(serve(&d, &c));
    }
    listen_close(&d.own_metrics);
    listen_close(&d.own);
    config_deinit(&c);
    return status;
}
