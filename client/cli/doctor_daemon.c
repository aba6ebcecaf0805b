/* doctor: the daemon. From outside to inside: is there a socket, may we use it, who answers, is its
 * configuration right, can it use its folders. The file and the folders are those that the daemon
 * names; one that is not there, or does not tell us, is taken to use what `onebitd --paths`
 * names. */
#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "client/cli/doctor.h"
#include "client/cli/program.h"

#define ASK_NS (5 * NS_PER_S)
#define GROUPS_MAX 256

/* ---- the socket ---- */

static bool in_group(gid_t gid)
{
    gid_t groups[GROUPS_MAX];
    const int n = getgroups(GROUPS_MAX, groups);

    for (int i = 0; i < n; i++) {
        if (groups[i] == gid) {
            return true;
        }
    }
    return getegid() == gid;
}

/* We may not open the socket: whose it is, and how to be let in. */
static void refused_socket(struct doctor *d)
{
    struct stat st;
    char fix[512];

    if (stat(d->socket, &st) < 0) {
        doctor_find(d, "access", DOCTOR_BAD,
                    "have the administrator open the folder of the socket for this user",
                    "this user may not look into the folder of %s", d->socket);
        return;
    }
    const struct group *g = getgrgid(st.st_gid);
    const char *name = g ? g->gr_name : "?";
    if (!(st.st_mode & S_IWGRP) || st.st_gid == 0) { /* root's group is for no one to join */
        (void)snprintf(fix, sizeof(fix),
                       "set mode = 0660 and group = onebit in [socket] of the configuration");
    } else if (in_group(st.st_gid)) {
        (void)snprintf(fix, sizeof(fix), "look for an access list or a security module");
    } else {
        (void)snprintf(fix, sizeof(fix), "sudo usermod -aG %s \"$USER\", then log in anew", name);
    }
    doctor_find(d, "access", DOCTOR_BAD, fix,
                "this user may not use %s (mode %04o, uid %u, group %s)", d->socket,
                st.st_mode & 07777, (unsigned)st.st_uid, name);
}

static void open_socket(struct doctor *d)
{
    struct stat st;

    if (stat(d->socket, &st) < 0) {
        return; /* it has gone meanwhile; the next check tells */
    }
    if (st.st_mode & S_IWOTH) {
        doctor_find(d, "access", DOCTOR_WARN,
                    "set mode = 0660 in [socket] of the configuration, unless everybody is meant",
                    "every user of this machine may use %s", d->socket);
        return;
    }
    const struct group *g = getgrgid(st.st_gid);
    doctor_find(d, "access", DOCTOR_OK, NULL, "this user may use the socket (mode %04o, group %s)",
                st.st_mode & 07777, g ? g->gr_name : "?");
}

static bool is_socket(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISSOCK(st.st_mode);
}

static void no_socket(struct doctor *d, int r)
{
    static const char start[] = "start onebitd, or name its socket with -s or ONEBIT_SOCKET";

    if (r == -ENOENT) {
        doctor_find(d, "socket", DOCTOR_BAD, start, "there is no socket at %s", d->socket);
    } else if (r == -ECONNREFUSED && !is_socket(d->socket)) {
        doctor_find(d, "socket", DOCTOR_BAD, "name the socket with -s or ONEBIT_SOCKET",
                    "%s is no socket", d->socket);
    } else if (r == -ECONNREFUSED) {
        doctor_find(d, "socket", DOCTOR_BAD, start, "nobody listens at %s any more", d->socket);
    } else if (r == -ETIMEDOUT) {
        doctor_find(d, "socket", DOCTOR_BAD, "look at its log; restart it",
                    "%s takes connections, but the daemon behind it says nothing", d->socket);
    } else if (r == -EPROTO) {
        doctor_find(d, "socket", DOCTOR_BAD, "name onebitd's socket with -s or ONEBIT_SOCKET",
                    "what answers at %s is no onebitd of this protocol", d->socket);
    } else if (r == -ENAMETOOLONG) {
        doctor_find(d, "socket", DOCTOR_BAD, "name a shorter path with -s or ONEBIT_SOCKET",
                    "the path of the socket is too long");
    } else if (r == -EACCES || r == -EPERM) {
        refused_socket(d);
    } else if (r < 0) {
        doctor_find(d, "socket", DOCTOR_BAD, start, "%s: %s", d->socket, strerror(-r));
    } else {
        const struct onebit_error_info *info = onebit_error_info(r);
        doctor_find(d, "access", DOCTOR_BAD, info ? info->hint : NULL, "the daemon refuses: %s",
                    info ? info->name : "?");
    }
}

/* ---- the daemon ---- */

struct question {
    bool waiting;
    char *json; /* owned */
};

static void on_answer(struct onebit_conn *conn, uint32_t id, const struct onebit_done *done,
                      void *user)
{
    struct question *q = user;

    q->waiting = false;
    q->json = done->result ? strdup(done->result) : NULL;
}

static void on_refusal(struct onebit_conn *conn, uint32_t id, const struct onebit_failure *failure,
                       void *user)
{
    struct question *q = user;

    q->waiting = false;
}

/* Ask with a time limit; NULL: no answer that can be read. */
static json_t *ask(struct onebit_conn *conn, enum onebit_verb verb)
{
    struct question q = {.waiting = true};
    struct onebit_handler handler;
    const uint64_t until_ns = clock_now_ns() + ASK_NS;

    onebit_handler_init(&handler);
    handler.done = on_answer;
    handler.error = on_refusal;
    if (onebit_ask(conn, verb, NULL, &handler, &q, NULL) != 0) {
        return NULL;
    }
    while (q.waiting && clock_now_ns() < until_ns) {
        const int r = onebit_dispatch(conn, 100);
        if (r != 0 && r != -EINTR) {
            break;
        }
    }
    json_t *answer = q.json ? json_loads(q.json, JSON_DECODE_ANY, NULL) : NULL;
    free(q.json);
    return answer;
}

static void check_version(struct doctor *d, const char *server)
{
    char ours[64];

    (void)snprintf(ours, sizeof(ours), "onebitd %s", onebit_version());
    if (strcmp(server, ours) == 0) {
        doctor_find(d, "version", DOCTOR_OK, NULL, "%s", server);
    } else {
        doctor_find(d, "version", DOCTOR_WARN,
                    "install both of one release, then restart the daemon",
                    "the daemon is %s, this command is onebit %s", server, onebit_version());
    }
}

static void check_health(struct doctor *d)
{
    const json_int_t restarts = json_integer_value(json_object_get(d->status, "runner_restarts"));

    d->pid = (pid_t)json_integer_value(json_object_get(d->status, "pid"));
    if (!d->status) {
        doctor_find(d, "daemon", DOCTOR_BAD, "look at its log; restart it",
                    "the daemon took the connection, but does not answer in five seconds");
    } else if (json_is_true(json_object_get(d->status, "draining"))) {
        doctor_find(d, "daemon", DOCTOR_WARN, "wait for it to end, and start it again",
                    "the daemon is stopping");
    } else if (json_integer_value(json_object_get(d->status, "runner_pid")) == 0) {
        doctor_find(d, "daemon", DOCTOR_BAD,
                    "its log says why; is onebit-runner installed, and [engine] runner right?",
                    "the daemon answers, but no engine runs: it has been started again "
                    "%" JSON_INTEGER_FORMAT " time%s",
                    restarts, restarts == 1 ? "" : "s");
    } else if (restarts > 0) {
        doctor_find(d, "daemon", DOCTOR_WARN, "its log says why the engine ended",
                    "the engine has been restarted %" JSON_INTEGER_FORMAT " time%s", restarts,
                    restarts == 1 ? "" : "s");
    } else {
        doctor_find(d, "daemon", DOCTOR_OK, NULL, "it answers, process %ld", (long)d->pid);
    }
}

static void check_daemon(struct doctor *d)
{
    struct onebit_conn *conn = NULL;
    const int named = onebit_socket_path(d->args->socket, d->socket);
    const int r = named < 0 ? named : onebit_connect(&conn, d->socket);

    d->system = strcmp(d->socket, "/run/onebit.sock") == 0;
    if (r != 0) {
        no_socket(d, r);
        return;
    }
    doctor_find(d, "socket", DOCTOR_OK, NULL, "%s answers", d->socket);
    open_socket(d);
    check_version(d, onebit_server(conn)->name);
    d->status = ask(conn, ONEBIT_STATUS);
    d->list = ask(conn, ONEBIT_LIST);
    d->default_model = strdup(onebit_server(conn)->default_model);
    check_health(d);
    onebit_disconnect(conn);
}

/* ---- its configuration ---- */

/* The value of a "key=" line, malloc'ed; NULL: there is none, or it is empty. */
static char *path_line(const char *text, const char *key)
{
    const size_t n = strlen(key);

    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, n) == 0 && line[n] == '/') {
            return strndup(line + n, strcspn(line + n, "\n"));
        }
    }
    return NULL;
}

/* What the running daemon tells of its paths, malloc'ed; NULL: nothing, or that there is none. */
static char *told_path(const struct doctor *d, const char *key)
{
    const char *path = json_string_value(json_object_get(json_object_get(d->status, "paths"), key));

    return path && *path ? strdup(path) : NULL;
}

/* Where this user's, or the system's, daemon looks when nobody tells it. */
static void take_default_paths(struct doctor *d, const char *says)
{
    d->models = path_line(says, "models=");
    d->cache = path_line(says, "cache=");
    d->sessions = path_line(says, "sessions=");
}

static void found_configuration(struct doctor *d, int r, const char *program, const char *file,
                                const char *says)
{
    if (r < 0) {
        doctor_find(d, "configuration", DOCTOR_BAD, "install the package onebitd again",
                    "%s cannot be run: %s", program, strerror(-r));
    } else if (r > 0) {
        doctor_find(d, "configuration", DOCTOR_BAD, "onebit config check says it again", "%.*s",
                    (int)strcspn(says, "\n"), says);
    } else if (file) {
        doctor_find(d, "configuration", DOCTOR_OK, NULL, "%s finds %s right", program, file);
    } else if (d->status) {
        doctor_find(d, "configuration", DOCTOR_OK, NULL,
                    "%s finds the usual one right; which one this daemon has read is told to root "
                    "and its own user alone",
                    program);
    } else {
        doctor_find(d, "configuration", DOCTOR_OK, NULL, "%s finds it right", program);
    }
}

/* Have onebitd check a file, or without one the file that it would read; its paths count when none
 * were told. */
static void run_checker(struct doctor *d, char *file, bool told)
{
    char *words[] = {NULL, (char[]){"--paths"}, file ? (char[]){"--config"} : NULL, file, NULL};
    struct buf says;
    int r = program_find(&words[0]);

    if (r < 0) {
        doctor_find(d, "configuration", d->status ? DOCTOR_WARN : DOCTOR_BAD,
                    "install the package onebitd, or put onebitd on PATH",
                    "onebitd is not found, so its configuration and folders are not checked");
        return;
    }
    buf_init(&says, PROGRAM_SAYS_MAX + 1);
    says.max--; /* room for the NUL */
    r = program_run(words, d->system, &says);
    says.max++;
    const char *text = buf_append(&says, "", 1) == 0 ? (const char *)says.data : "";
    if (r == 0 && !told) {
        take_default_paths(d, text);
    }
    found_configuration(d, r, words[0], file, text);
    buf_deinit(&says);
    free(words[0]);
}

static void check_configuration(struct doctor *d)
{
    const bool told = json_object_get(d->status, "paths") != NULL;
    char *file = told_path(d, "config");

    d->models = told_path(d, "models");
    d->cache = told_path(d, "cache");
    d->sessions = told_path(d, "sessions");
    if (told && !file) {
        doctor_find(d, "configuration", DOCTOR_OK, NULL,
                    "the daemon has read none: it works by its defaults");
    } else {
        run_checker(d, file, told);
    }
    free(file);
}

/* ---- its models ---- */

static bool has_model(const struct doctor *d, const char *name)
{
    size_t i;
    json_t *model;

    json_array_foreach(d->list, i, model)
    {
        const char *has = json_string_value(json_object_get(model, "name"));
        if (has && strcmp(has, name) == 0) {
            return true;
        }
    }
    return false;
}

static void check_models(struct doctor *d)
{
    size_t i, failed = 0;
    const char *first = "";
    json_t *model;

    json_array_foreach(d->list, i, model)
    {
        const char *state = json_string_value(json_object_get(model, "state"));
        const char *name = json_string_value(json_object_get(model, "name"));
        if (state && strcmp(state, "failed") == 0) {
            first = failed++ == 0 && name ? name : first;
        }
    }
    if (d->list && d->default_model && *d->default_model && !has_model(d, d->default_model)) {
        doctor_find(d, "models", DOCTOR_BAD,
                    "set default in [models] to one that onebit list shows, or put its file there",
                    "the default model %s is not there: requests that name none fail",
                    d->default_model);
    } else if (failed > 0) {
        doctor_find(d, "models", DOCTOR_BAD, "onebit list names the error; onebit-lab verify FILE",
                    "%zu of the %zu model%s cannot be used, %s first", failed,
                    json_array_size(d->list), json_array_size(d->list) == 1 ? "" : "s", first);
    } else if (d->list && json_array_size(d->list) == 0) {
        doctor_find(d, "models", DOCTOR_WARN, "put a .gguf file there", "no model in %s",
                    d->models ? d->models : "the daemon's folder");
    } else if (d->list) {
        const size_t n = json_array_size(d->list);
        doctor_find(d, "models", DOCTOR_OK, NULL, "%zu model%s", n, n == 1 ? "" : "s");
    } else if (d->models && access(d->models, R_OK | X_OK) < 0) {
        doctor_find(d, "models", DOCTOR_WARN, "onebitd makes it when it starts", "%s: %s",
                    d->models, strerror(errno));
    } else if (d->models) {
        doctor_find(d, "models", DOCTOR_OK, NULL, "%s is there", d->models);
    }
}

void doctor_daemon(struct doctor *d)
{
    check_daemon(d);
    check_configuration(d);
    check_models(d);
    doctor_models(d);
    doctor_folders(d);
}
