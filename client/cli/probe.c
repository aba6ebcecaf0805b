/* probe: what the kernel tells of itself, in small text files. Everything is bounded: bytes of a
 * file, names of a folder; and nothing is waited for. */
#include "client/cli/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/whole_file.h"

static int below(const struct probe *p, const char *path, char *ret)
{
    const int n = snprintf(ret, PATH_MAX, "%s%s", p->root, path);

    return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

int probe_text(const struct probe *p, const char *path, char *ret, size_t n)
{
    char whole[PATH_MAX];
    const int r = below(p, path, whole);

    ret[0] = '\0';
    const ssize_t got = r < 0 ? r : whole_file_head(ret, n, AT_FDCWD, whole, WHOLE_FILE_FOLLOW);
    return got < 0 ? (int)got : 0;
}

bool probe_exists(const struct probe *p, const char *path)
{
    char whole[PATH_MAX];
    struct stat st;

    return below(p, path, whole) == 0 && stat(whole, &st) == 0;
}

void probe_each(const struct probe *p, const char *pattern,
                bool (*each)(const struct probe *p, const char *path, void *user), void *user)
{
    char whole[PATH_MAX];
    glob_t found;

    if (below(p, pattern, whole) < 0 || glob(whole, 0, NULL, &found) != 0) {
        return;
    }
    for (size_t i = 0; i < found.gl_pathc && i < PROBE_NAMES_MAX; i++) {
        if (!each(p, found.gl_pathv[i] + strlen(p->root), user)) {
            break;
        }
    }
    globfree(&found);
}

bool has_word(const char *text, const char *word)
{
    const size_t n = strlen(word);

    for (const char *at = text; n > 0 && (at = strstr(at, word)); at += n) {
        const bool starts = at == text || strchr(" \t\n", at[-1]);
        if (starts && strchr(" \t\n", at[n])) { /* strchr() finds the NUL as well */
            return true;
        }
    }
    return false;
}
