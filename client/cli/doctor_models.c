/* doctor: the folder of models, as the daemon's users see it: what lies there is read by all of
 * them, so who may change it speaks to all of them. */
#include <dirent.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "client/cli/doctor.h"

#define ENTRIES_MAX 4096u /* of the folder: the rest is not looked at */

/* One that only the owner is in, as distributions give each user? The daemon's own is for all who
 * may ask. */
static bool is_private_group(const struct stat *st)
{
    const struct group *g = getgrgid(st->st_gid);
    const struct passwd *p = getpwuid(st->st_uid);

    return st->st_gid == 0 || (g && p && !g->gr_mem[0] && strcmp(g->gr_name, p->pw_name) == 0 &&
                               strcmp(g->gr_name, "onebit") != 0);
}

/* Who may change it besides its owner; NULL: nobody. */
static const char *who_else(const struct stat *st)
{
    if (st->st_mode & S_IWOTH) {
        return "everybody";
    }
    return (st->st_mode & S_IWGRP) && !is_private_group(st) ? "its group" : NULL;
}

struct loose {
    char path[PATH_MAX]; /* the first */
    const char *who;     /* static */
    struct stat st;
    unsigned n;
};

static void look_at(struct loose *l, const char *path)
{
    struct stat st;
    const char *who = stat(path, &st) == 0 ? who_else(&st) : NULL;

    if (who && l->n++ == 0) {
        (void)snprintf(l->path, sizeof(l->path), "%s", path);
        l->who = who;
        l->st = st;
    }
}

static bool is_model(const char *name)
{
    const size_t n = strlen(name);

    return n > 5 && strcmp(name + n - 5, ".gguf") == 0;
}

/* May others than the owner change the folder or a file in it? */
static void check_writers(struct doctor *d)
{
    struct loose l = {0};
    char path[PATH_MAX], fix[PATH_MAX + 128];
    DIR *folder = opendir(d->models);
    const struct dirent *e;

    if (!folder) {
        return; /* check_models() has told */
    }
    look_at(&l, d->models);
    for (unsigned i = 0; i < ENTRIES_MAX && (e = readdir(folder)); i++) {
        const int n = snprintf(path, sizeof(path), "%s/%s", d->models, e->d_name);
        if (is_model(e->d_name) && n > 0 && n < (int)sizeof(path)) {
            look_at(&l, path);
        }
    }
    (void)closedir(folder);
    if (l.n == 0) {
        doctor_find(d, "models-writers", DOCTOR_OK, NULL,
                    "only their owners may change %s and the models in it", d->models);
        return;
    }
    (void)snprintf(fix, sizeof(fix), "sudo chmod %s '%s'%s",
                   l.st.st_mode & S_IWOTH ? "go-w" : "g-w", l.path,
                   l.st.st_mode & S_IWOTH ? "" : ", unless the group's members are meant");
    doctor_find(d, "models-writers", DOCTOR_WARN, fix,
                "%s may change %s (uid %u, gid %u, mode %04o)%s: what all users of the model hear "
                "is theirs to say",
                l.who, l.path, (unsigned)l.st.st_uid, (unsigned)l.st.st_gid, l.st.st_mode & 07777,
                l.n > 1 ? " and more" : "");
}

static void check_disk(struct doctor *d)
{
    struct stat st;

    if (stat(d->models, &st) == 0 && doctor_removable(d, st.st_dev)) {
        doctor_find(d, "models-disk", DOCTOR_WARN,
                    "move them to a fixed disk: dir in [models] of the configuration",
                    "%s is on a disk that can be removed: what is not packed by then cannot be "
                    "loaded any more",
                    d->models);
    }
}

void doctor_models(struct doctor *d)
{
    if (d->models) {
        check_disk(d);
        check_writers(d);
    }
}
