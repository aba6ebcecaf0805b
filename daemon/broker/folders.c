/* folders: what is wrong with a folder is said at the start and by its name, not at the first
 * request. */
#include "daemon/broker/folders.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/broker/log.h"

int folder_make(const char *path, mode_t mode, bool *ret_made)
{
    char part[PATH_MAX];
    const size_t n = strlen(path);

    *ret_made = false;
    if (n >= sizeof(part)) {
        return -ENAMETOOLONG;
    }
    memcpy(part, path, n + 1);
    for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(part, 0755) < 0 && errno != EEXIST) {
            return -errno;
        }
        *slash = '/';
    }
    if (mkdir(part, mode) == 0) {
        *ret_made = true;
        return 0;
    }
    return errno == EEXIST ? 0 : -errno;
}

int folder_check(const char *path, bool write)
{
    struct stat st;

    if (stat(path, &st) < 0) {
        return -errno;
    }
    if (!S_ISDIR(st.st_mode)) {
        return -ENOTDIR;
    }
    return faccessat(AT_FDCWD, path, R_OK | X_OK | (write ? W_OK : 0), AT_EACCESS) < 0 ? -errno : 0;
}

static const char *why(int e)
{
    return e == -ENOTDIR ? "it is no folder, or lies below a file" : strerror(-e);
}

static int prepare(const char *path, const char *what, mode_t mode, bool write, bool *ret_made)
{
    int r = folder_make(path, mode, ret_made);

    if (r == 0) {
        r = folder_check(path, write);
    }
    if (r < 0) {
        log_line(LOG_ERR, "the %s folder %s cannot be used: %s", what, path, why(r));
    }
    return r;
}

int folders_above(const char *socket)
{
    char above[PATH_MAX];
    bool made;
    int r = 0;

    (void)snprintf(above, sizeof(above), "%s", socket);
    char *slash = strrchr(above, '/');
    if (slash && slash != above) {
        *slash = '\0';
        r = folder_make(above, 0700, &made);
        if (r < 0) {
            log_line(LOG_ERR, "the socket's folder %s cannot be made: %s", above, why(r));
        }
    }
    return r;
}

int folders_prepare(const char *models, const char *cache, const char *sessions, const char *socket)
{
    bool made;
    int r = prepare(models, "models", 0755, false, &made);

    if (r == 0 && made) {
        log_line(LOG_WARNING, "created empty models folder %s", models);
    }
    if (r == 0 && folder_check(cache, true) == -EROFS) { /* a card that fails is mounted so */
        log_line(
            LOG_WARNING,
            "the cache folder %s is on a read-only file system: models that are not packed yet "
            "cannot be",
            cache);
    } else if (r == 0) {
        r = prepare(cache, "cache", 0700, true, &made);
    }
    if (r == 0 && sessions[0]) {
        r = prepare(sessions, "sessions", 0700, true, &made);
    }
    return r < 0 || !socket ? r : folders_above(socket);
}
