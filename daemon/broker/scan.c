/* scan: reads a folder, at most LISTING_MAX models of it. */
#include "daemon/broker/scan.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SUFFIX ".gguf"

static uint64_t ns_of(struct timespec t)
{
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

struct file_mark file_mark_of(const struct stat *st)
{
    return (struct file_mark){.dev = st->st_dev,
                              .ino = st->st_ino,
                              .size = (uint64_t)st->st_size,
                              .mtime_ns = ns_of(st->st_mtim),
                              .ctime_ns = ns_of(st->st_ctim)};
}

static bool model_of(const char *file, struct strview *ret)
{
    const size_t n = strlen(file), n_suffix = strlen(SUFFIX);

    if (n <= n_suffix || memcmp(file + n - n_suffix, SUFFIX, n_suffix) != 0) {
        return false;
    }
    *ret = (struct strview){.data = file, .n = n - n_suffix};
    return model_name_valid(*ret);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct listed_model *)a)->name, ((const struct listed_model *)b)->name);
}

static int add(struct model_listing **list, size_t *room, struct strview name,
               const struct stat *st)
{
    struct model_listing *l = *list;

    if (l->n == *room) {
        l = realloc(l, sizeof(*l) + 2 * *room * sizeof(l->models[0]));
        if (!l) {
            return -ENOMEM;
        }
        *list = l;
        *room *= 2;
    }
    struct listed_model *m = &l->models[l->n++];
    memcpy(m->name, name.data, name.n);
    m->name[name.n] = '\0';
    m->mark = file_mark_of(st);
    return 0;
}

int model_listing_read(struct model_listing **ret, const char *dir)
{
    size_t room = 8;
    struct model_listing *l = NULL;
    DIR *d = opendir(dir);
    int r = 0;

    if (!d) {
        return -errno;
    }
    l = calloc(1, sizeof(*l) + room * sizeof(l->models[0]));
    if (!l) {
        r = -ENOMEM;
        goto out;
    }
    while (l->n < LISTING_MAX) {
        struct strview name;
        struct stat st;

        errno = 0;
        const struct dirent *e = readdir(d);
        if (!e) {
            r = -errno;
            break;
        }
        if (model_of(e->d_name, &name) &&
            fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode)) {
            r = add(&l, &room, name, &st);
            if (r < 0) {
                goto out;
            }
        }
    }
    if (r < 0) {
        goto out;
    }
    qsort(l->models, l->n, sizeof(l->models[0]), by_name);
    *ret = l;
    l = NULL;
out:
    free(l);
    (void)closedir(d);
    return r;
}

const struct listed_model *model_listing_find(const struct model_listing *l, struct strview name)
{
    for (size_t i = 0; l && i < l->n; i++) {
        if (strview_is(name, l->models[i].name)) {
            return &l->models[i];
        }
    }
    return NULL;
}
