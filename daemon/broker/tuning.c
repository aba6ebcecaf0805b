/* tuning: files that the engine's measurements are kept in. A worker reads them with the probe and
 * writes them, by a temporary name, so that what is read is an old one or a new one. A file that
 * somebody else had a hand in does no harm: the engine checks each byte, and measures again. */
#include "daemon/broker/tuning.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/whole_file.h"
#include "daemon/broker/broker.h"
#include "daemon/broker/log.h"
#include "daemon/broker/models.h"

#define PACK_END ".pack"
#define TUNE_END ".tune"

struct keep_work {
    uv_work_t work;
    char pack[4096];
    uint8_t record[SEAM_TUNING_MAX];
    size_t n;
    int error; /* 0 or a negative errno */
};

int tuning_path(char *ret, size_t room, const char *pack)
{
    const size_t n = strlen(pack), end = sizeof(PACK_END) - 1;

    if (n < end || strcmp(pack + n - end, PACK_END) != 0) {
        return -EINVAL;
    }
    if (n >= room) { /* both ends are as long */
        return -ENAMETOOLONG;
    }
    memcpy(ret, pack, n - end);
    memcpy(ret + n - end, TUNE_END, sizeof(TUNE_END));
    return 0;
}

size_t tuning_read_kept(const char *pack, uint8_t ret[SEAM_TUNING_MAX])
{
    char path[4096];
    struct buf bytes;
    size_t n = 0;

    buf_init(&bytes, SEAM_TUNING_MAX);
    if (tuning_path(path, sizeof(path), pack) == 0 &&
        whole_file_read(&bytes, AT_FDCWD, path, 0) == WHOLE_FILE_OK) {
        n = bytes.n;
        memcpy(ret, bytes.data, n);
    }
    buf_deinit(&bytes);
    return n;
}

int tuning_write_kept(const char *pack, const void *data, size_t n)
{
    char path[4096], temp[4096];
    int r = tuning_path(path, sizeof(path), pack);
    char *slash = r == 0 ? strrchr(path, '/') : NULL;

    if (!slash) {
        return r < 0 ? r : -EINVAL;
    }
    *slash = '\0';
    /* Daemons that share a cache folder write different files, or the same bytes. */
    if (snprintf(temp, sizeof(temp), ".%s-%d.new", slash + 1, (int)getpid()) >= (int)sizeof(temp)) {
        return -ENAMETOOLONG;
    }
    const int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        return -errno;
    }
    r = whole_file_write(dir, slash + 1, temp, data, n);
    (void)close(dir);
    return r;
}

static void do_keep(uv_work_t *work)
{
    struct keep_work *w = work->data;

    w->error = tuning_write_kept(w->pack, w->record, w->n);
}

static void on_kept(uv_work_t *work, int status)
{
    struct keep_work *w = work->data;

    if (status == 0 && w->error < 0) {
        log_line(LOG_WARNING, "%s: what was measured is not kept: %s", w->pack,
                 strerror(-w->error));
    }
    free(w);
}

static void keep(struct model *m)
{
    struct keep_work *w = calloc(1, sizeof(*w));

    if (!w) {
        return; /* measured again at the next load */
    }
    w->work.data = w;
    (void)snprintf(w->pack, sizeof(w->pack), "%s", m->pack_path);
    memcpy(w->record, m->tuning, m->n_tuning);
    w->n = m->n_tuning;
    if (uv_queue_work(m->broker->loop, &w->work, do_keep, on_kept) < 0) {
        free(w);
    }
}

void tunings_on_tuned(struct broker *b, const struct seam_tuned *t)
{
    struct model *m = model_by_number(b, t->model);

    if (!m || m->state != MODEL_LOADED) {
        return; /* it was dropped in the meantime */
    }
    if (t->record.n > 0) {
        memcpy(m->tuning, t->record.data, t->record.n);
        m->n_tuning = t->record.n;
        keep(m);
    }
    log_client(LOG_MODELS, LOG_INFO,
               "model %s: %s: %u threads generate, %u for prompts, %u streams near the best rate",
               m->name, t->record.n > 0 ? "measured" : "measured before", t->n_generate,
               t->n_prompt, t->n_streams);
}
