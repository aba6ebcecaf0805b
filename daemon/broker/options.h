/* The command line and the default paths. */
#ifndef BROKER_OPTIONS_H
#define BROKER_OPTIONS_H

#include <stdbool.h>

#include "base/compiler.h"
#include "daemon/broker/config.h"

struct options {
    const char *config, *socket, *models, *cache, *sessions,
        *sysroot; /* borrowed from argv; NULL: not given */
    bool check, paths, version, help;
};

enum { OPTIONS_OK = 0, OPTIONS_BAD };

/** options_parse() - OPTIONS_BAD: said why on stderr */
MUST_USE int options_parse(struct options *ret, int argc, char **argv);

/* Where things are when nobody says: for the system's daemon and for a user's own. */
struct default_paths {
    char *config, *models, *cache, *sessions; /* owned */
    char *socket; /* owned; NULL: none, a user's own without $XDG_RUNTIME_DIR: others may write to
                   * every folder that is left */
};

/** default_paths() - from the user and the environment: 0, -ENOMEM, or -ENOENT (no home) */
MUST_USE int default_paths(struct default_paths *ret, bool system);
void default_paths_deinit(struct default_paths *p);

enum { LOAD_OK = 0, LOAD_BAD };

/**
 * options_load() - the configuration that counts: defaults, file, command line
 * @ret: on LOAD_OK a config, undo with config_deinit(); untouched otherwise
 *
 * A file named by --config has to exist; the default one need not. LOAD_BAD: said why in the log.
 * Return: LOAD_OK, LOAD_BAD, or a negative errno.
 */
MUST_USE int options_load(struct config *ret, const struct options *o);

#endif
