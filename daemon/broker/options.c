/* options: command line over file over defaults. */
#include "daemon/broker/options.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/whole_file.h"
#include "daemon/broker/log.h"

/* The argument of a path option: NULL, having said so, when it is empty. */
static const char *path_argument(const char *name)
{
    if (optarg[0] == '\0') {
        (void)fprintf(stderr, "onebitd: --%s: the path is empty\n", name);
        return NULL;
    }
    return optarg;
}

int options_parse(struct options *ret, int argc, char **argv)
{
    static const struct option known[] = {
        {"config", required_argument, NULL, 'c'},
        {"socket", required_argument, NULL, 's'},
        {"models", required_argument, NULL, 'm'},
        {"cache", required_argument, NULL, 'k'},
        {"sessions", required_argument, NULL, 'e'},
        {"sysroot", required_argument, NULL, 'r'},
        {"check", no_argument, NULL, 'n'},
        {"paths", no_argument, NULL, 'p'},
        {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    int option, at = 0;

    *ret = (struct options){0};
    while ((option = getopt_long(argc, argv, "", known, &at)) != -1) {
        const char **path = NULL;
        switch (option) {
        case 'c':
            path = &ret->config;
            break;
        case 's':
            path = &ret->socket;
            break;
        case 'm':
            path = &ret->models;
            break;
        case 'k':
            path = &ret->cache;
            break;
        case 'e':
            path = &ret->sessions;
            break;
        case 'r':
            path = &ret->sysroot;
            break;
        case 'n':
            ret->check = true;
            break;
        case 'p':
            ret->paths = true;
            break;
        case 'v':
            ret->version = true;
            break;
        case 'h':
            ret->help = true;
            break;
        default:
            return OPTIONS_BAD;
        }
        if (path && !(*path = path_argument(known[at].name))) {
            return OPTIONS_BAD;
        }
    }
    if (optind < argc) {
        (void)fprintf(stderr, "onebitd: unexpected argument '%s'\n", argv[optind]);
        return OPTIONS_BAD;
    }
    return OPTIONS_OK;
}

static char *PRINTF_LIKE(1, 2) text(const char *fmt, ...)
{
    va_list args;
    char *z = NULL;

    va_start(args, fmt);
    if (vasprintf(&z, fmt, args) < 0) {
        z = NULL;
    }
    va_end(args);
    return z;
}

/* $name, or NULL when it is no absolute path. */
static const char *env_path(const char *name)
{
    const char *v = getenv(name);

    return v && v[0] == '/' ? v : NULL;
}

static char *below(const char *env, const char *home, const char *rest, const char *tail)
{
    const char *base = env_path(env);

    return base ? text("%s/%s", base, tail) : text("%s/%s/%s", home, rest, tail);
}

int default_paths(struct default_paths *ret, bool system)
{
    struct default_paths p = {0};
    bool no_socket = false;

    if (system) {
        const char *cache = env_path("CACHE_DIRECTORY"), *state = env_path("STATE_DIRECTORY");
        p.config = strdup("/etc/onebit/onebit.conf");
        p.socket = strdup("/run/onebit.sock");
        p.models = text("%s/models", state ? state : "/var/lib/onebit");
        p.cache = strdup(cache ? cache : "/var/cache/onebit");
        p.sessions = text("%s/sessions", state ? state : "/var/lib/onebit");
    } else {
        const char *home = env_path("HOME");
        if (!home) {
            return -ENOENT;
        }
        p.config = below("XDG_CONFIG_HOME", home, ".config", "onebit/onebit.conf");
        const char *run = env_path("XDG_RUNTIME_DIR");
        p.socket = run ? text("%s/onebit.sock", run) : NULL;
        no_socket = !run;
        p.models = below("XDG_DATA_HOME", home, ".local/share", "onebit/models");
        p.cache = below("XDG_CACHE_HOME", home, ".cache", "onebit");
        p.sessions = below("XDG_STATE_HOME", home, ".local/state", "onebit/sessions");
    }
    if (!p.config || (!p.socket && !no_socket) || !p.models || !p.cache || !p.sessions) {
        default_paths_deinit(&p);
        return -ENOMEM;
    }
    *ret = p;
    return 0;
}

void default_paths_deinit(struct default_paths *p)
{
    free(p->config);
    free(p->socket);
    free(p->models);
    free(p->cache);
    free(p->sessions);
    *p = (struct default_paths){0};
}

static int override(char **at, const char *given, char **fallback)
{
    if (given) {
        char *copy;
        if (given[0] == '/') {
            copy = strdup(given);
        } else { /* reloads and children must not depend on where we stand */
            char *here = getcwd(NULL, 0);
            copy = here ? text("%s/%s", here, given) : NULL;
            free(here);
        }
        if (!copy) {
            return -ENOMEM;
        }
        free(*at);
        *at = copy;
    } else if (!*at) {
        *at = *fallback;
        *fallback = NULL;
    }
    return 0;
}

/* c->file is set when there is such a file. */
static int load_file(struct config *c, const char *path, bool must_exist)
{
    struct diag diag = {0};
    struct buf in;

    buf_init(&in, CONFIG_BYTES_MAX);
    int r = whole_file_read(&in, AT_FDCWD, path, WHOLE_FILE_FOLLOW | WHOLE_FILE_DEVICE);
    if (r == -ENOENT && !must_exist) {
        return LOAD_OK;
    }
    if (r != WHOLE_FILE_OK) {
        log_line(LOG_ERR, "%s: %s", path, whole_file_why(r));
        r = r == -ENOMEM ? r : LOAD_BAD;
    } else if ((r = config_read(c, in.data, in.n, &diag)) == CONFIG_BAD) {
        log_line(LOG_ERR, "%s: %s", path, diag.text);
        r = LOAD_BAD;
    } else if (r == CONFIG_OK) {
        r = override(&c->file, path, NULL);
    }
    buf_deinit(&in);
    return r;
}

int options_load(struct config *ret, const struct options *o)
{
    const bool system = geteuid() == 0 || getenv("RUNTIME_DIRECTORY") || getenv("STATE_DIRECTORY");
    struct default_paths paths = {0};
    struct config c = {0};
    int r = default_paths(&paths, system);

    if (r == -ENOENT) {
        log_line(LOG_ERR, "HOME is not set, so there are no default paths");
        return LOAD_BAD;
    }
    if (r < 0) {
        return r;
    }
    r = config_init(&c);
    if (r == 0) {
        r = load_file(&c, o->config ? o->config : paths.config, o->config != NULL);
    }
    if (r == LOAD_OK) {
        r = override(&c.socket_path, o->socket, &paths.socket);
    }
    if (r == LOAD_OK) {
        r = override(&c.models_dir, o->models, &paths.models);
    }
    if (r == LOAD_OK) {
        r = override(&c.cache_dir, o->cache, &paths.cache);
    }
    if (r == LOAD_OK) {
        r = override(&c.sessions_dir, o->sessions, &paths.sessions);
    }
    if (r == LOAD_OK) {
        *ret = c;
        c = (struct config){0};
    }
    config_deinit(&c);
    default_paths_deinit(&paths);
    return r;
}
