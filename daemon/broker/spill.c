/* spill: opens the file that a model's idle KV blocks go to. A worker does it, since the loop waits
 * for no file; what the file holds is the engine's business alone. */
#include "daemon/broker/spill.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/whole_file.h"
#include "daemon/broker/broker.h"
#include "daemon/broker/log.h"
#include "daemon/broker/models.h"

#define LAYERS_MAX 4 /* of devices that map to others */

struct spill_work {
    uv_work_t work;
    struct broker *broker; /* borrowed */
    uint32_t model;        /* its number */
    uint64_t bytes_max;
    char path[4096];
    int fd;    /* owned; -1: none */
    int error; /* 0 or a negative errno */
};

/* ---- media ---- */

static bool says_one(const char *folder, const char *name)
{
    char path[PATH_MAX], c[2];

    if (snprintf(path, sizeof(path), "%s/%s", folder, name) >= (int)sizeof(path)) {
        return false;
    }
    return whole_file_head(c, sizeof(c), AT_FDCWD, path, 0) == 1 && c[0] == '1';
}

/* @node: a path to the device's folder in sysfs */
static bool node_removable(const char *node, int depth)
{
    char real[PATH_MAX], below[PATH_MAX];

    if (depth == LAYERS_MAX || !realpath(node, real)) {
        return false;
    }
    /* A partition's folder lies in its disk's. */
    if (strstr(real, "/mmcblk") || says_one(real, "removable") || says_one(real, "../removable")) {
        return true;
    }
    bool removable = false;
    (void)snprintf(below, sizeof(below), "%.*s/slaves", (int)sizeof(below) - 8, real);
    DIR *dir = opendir(below); /* of a mapped device */
    const struct dirent *e;
    while (dir && !removable && (e = readdir(dir))) {
        char one[PATH_MAX];
        if (e->d_name[0] != '.' &&
            snprintf(one, sizeof(one), "%s/%s", below, e->d_name) < (int)sizeof(one)) {
            removable = node_removable(one, depth + 1);
        }
    }
    if (dir) {
        (void)closedir(dir);
    }
    return removable;
}

bool media_removable(const char *sysfs, dev_t dev)
{
    char node[PATH_MAX];

    return snprintf(node, sizeof(node), "%s/dev/block/%u:%u", sysfs, major(dev), minor(dev)) <
               (int)sizeof(node) &&
           node_removable(node, 0);
}

/* ---- the file ---- */

static void do_open(uv_work_t *work)
{
    struct spill_work *w = work->data;
    struct stat st;

    w->fd = open(w->path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    if (w->fd < 0 || fstat(w->fd, &st) < 0) {
        w->error = -errno;
    } else if (!S_ISREG(st.st_mode)) {
        w->error = -EINVAL;
    } else if (media_removable("/sys", st.st_dev)) {
        w->error = -EROFS;
        if (st.st_size == 0) {
            (void)unlink(w->path);
        }
    }
}

static void on_open(uv_work_t *work, int status)
{
    struct spill_work *w = work->data;
    struct broker *b = w->broker;
    struct model *m = model_by_number(b, w->model);
    const bool loaded = m && m->state == MODEL_LOADED && b->runner.state == RUNNER_UP;

    if (status == 0 && w->error < 0) {
        log_line(LOG_WARNING, "%s: no KV is kept there: %s", w->path,
                 w->error == -EROFS ? "removable media, which writing wears out"
                                    : strerror(-w->error));
    } else if (status == 0 && loaded) {
        const struct seam_message message = {
            .type = SEAM_SPILL, .spill = {.model = w->model, .bytes_max = w->bytes_max}};
        runner_proc_send(&b->runner, &message, NULL, 0, w->fd);
        w->fd = -1;
        salt_store_keep(&b->salt_store);
    }
    if (w->fd >= 0) {
        (void)close(w->fd);
    }
    if (loaded && !m->slots.ready) {
        model_serve(m);
    }
    free(w);
}

bool spill_offer(struct model *m)
{
    struct broker *b = m->broker;
    struct spill_work *w = b->config.kv_bytes_disk > 0 ? calloc(1, sizeof(*w)) : NULL;

    if (!w) {
        return false;
    }
    w->work.data = w;
    w->broker = b;
    w->model = m->number;
    w->bytes_max = b->config.kv_bytes_disk;
    w->fd = -1;
    const int n = snprintf(w->path, sizeof(w->path), "%s/%s.%s.kv", b->config.cache_dir, m->name,
                           m->facts.kv);
    if (n >= (int)sizeof(w->path) || uv_queue_work(b->loop, &w->work, do_open, on_open) < 0) {
        free(w);
        return false;
    }
    return true;
}
