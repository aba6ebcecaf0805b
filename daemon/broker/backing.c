/* backing: [engine] weights = auto, decided when a model is loaded. A copy that was given stays
 * until its model goes; nothing is moved while requests run. */
#include "daemon/broker/backing.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/whole_file.h"
#include "daemon/broker/models.h"

#define PATH_ROOM 4096u
#define KEPT_PART 4u /* of all memory stays free */

bool backing_fits(uint64_t bytes, const struct backing_room *room)
{
    uint64_t copies, need;

    if (__builtin_add_overflow(room->copies, bytes, &copies) || copies > room->copies_max) {
        return false;
    }
    if (__builtin_add_overflow(bytes, room->kv, &need) ||
        __builtin_add_overflow(need, room->total / KEPT_PART, &need)) {
        return false;
    }
    return need <= room->available;
}

/* "NAME:   123 kB" in the text, as bytes; 0 without one. */
static uint64_t kilobytes(const char *text, const char *name)
{
    const char *at = strstr(text, name);

    return at ? strtoull(at + strlen(name), NULL, 10) * 1024 : 0;
}

/* The limit of the cgroup `path` and of all above it; UINT64_MAX: none. */
static uint64_t cgroup_limit(const char *root, char *path)
{
    uint64_t least = UINT64_MAX;

    for (;;) {
        char file[PATH_ROOM + 64], text[32];
        char *end = NULL;

        (void)snprintf(file, sizeof(file), "%s/sys/fs/cgroup%s/memory.max", root, path);
        if (whole_file_head(text, sizeof(text), AT_FDCWD, file, 0) > 0) {
            const uint64_t max = strtoull(text, &end, 10); /* "max": no number */
            least = end != text && max < least ? max : least;
        }
        char *slash = strrchr(path, '/');
        if (!slash) {
            return least;
        }
        *slash = '\0';
    }
}

void backing_memory(struct backing_room *ret, const char *root)
{
    char file[PATH_ROOM], text[PATH_ROOM];

    (void)snprintf(file, sizeof(file), "%s/proc/meminfo", root);
    (void)whole_file_head(text, sizeof(text), AT_FDCWD, file, 0);
    ret->machine = ret->total = kilobytes(text, "MemTotal:");
    ret->limit = UINT64_MAX;
    ret->available = kilobytes(text, "MemAvailable:");
    (void)snprintf(file, sizeof(file), "%s/proc/self/cgroup", root);
    (void)whole_file_head(text, sizeof(text), AT_FDCWD, file, 0);
    char *path = strstr(text, "0::/"); /* version 2; of version 1 nothing is known */
    if (!path) {
        return;
    }
    path += strlen("0::");
    path[strcspn(path, "\n")] = '\0';
    const uint64_t limit = cgroup_limit(root, path);
    ret->limit = limit;
    ret->total = limit < ret->total ? limit : ret->total;
    ret->available = limit < ret->available ? limit : ret->available;
}

static uint64_t less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

/* Copies are memory that MemAvailable has not any more, but that a cgroup's limit still counts. */
static struct backing_room room_for(const struct model *m)
{
    const struct broker *b = m->broker;
    struct backing_room room = {.copies_max = b->config.private_bytes, .kv = b->config.kv_bytes};

    list_for_each (other, next, &b->models, struct model, link) {
        if (other->state == MODEL_LOADED && strcmp(other->facts.weights, "private") == 0) {
            room.copies += other->facts.weight_bytes;
        }
    }
    backing_memory(&room, b->sysroot);
    const uint64_t left = less(room.total, room.copies);
    room.available = left < room.available ? left : room.available;
    return room;
}

const char *backing_choose(const struct model *m)
{
    const char *word = m->broker->config.weights;
    struct stat st;

    if (word && strcmp(word, "auto") != 0) {
        return strcmp(word, "private") == 0 ? "private" : "shared";
    }
    if (fstat(m->pack_fd, &st) < 0) {
        return "shared";
    }
    const struct backing_room room = room_for(m);
    return backing_fits((uint64_t)st.st_size, &room) ? "private" : "shared";
}
