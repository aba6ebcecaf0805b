/* memory_counts: what is free, what stalls, what is read again.
 *
 * What can be had is the least of MemAvailable and of what each limit from our cgroup up leaves:
 * the limit less what is used and cannot be dropped. Page cache can be dropped: all of it that is
 * inactive, and what is active and mapped by nobody. What is active and mapped (our weights) is not
 * counted as free, since steps would stall without it. */
#include "daemon/broker/memory_counts.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

#define TEXT_ROOM 16384u /* /proc/vmstat has some 5 KB */
#define PACE_SEEN 8u     /* steps before one can be called slow */
#define LIMIT_LOOKS 16u  /* between two looks at limits above our cgroup, which rarely change */

/* ---- the files ---- */

static void file_close(struct memory_file *file)
{
    if (file->path && file->fd >= 0) {
        (void)close(file->fd);
    }
    file->fd = -1;
}

/* Names a file; whether it is there shows when it is read. */
static void file_set(struct memory_file *file, const char *folder, const char *name)
{
    file->fd = -1;
    if (asprintf(&file->path, "%s/%s", folder, name) < 0) {
        file->path = NULL;
    }
}

static void file_free(struct memory_file *file)
{
    file_close(file);
    free(file->path);
    file->path = NULL;
}

/* The whole text from its beginning: false when there is none. */
static bool file_read(struct memory_file *file, char text[TEXT_ROOM], bool replaced)
{
    for (int attempt = 0; file->path && attempt < 2; attempt++) {
        const bool fresh = file->fd < 0;
        if (fresh) {
            file->fd = open(file->path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        }
        const ssize_t n = file->fd < 0 ? -1 : pread(file->fd, text, TEXT_ROOM - 1, 0);
        if (n <= 0 || replaced) {
            file_close(file);
        }
        if (n > 0) {
            text[n] = '\0';
            return true;
        }
        if (fresh) {
            return false;
        }
    }
    return false;
}

static bool folder_there(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* The folder of our cgroup below a mount; where that is not to be seen (a container that has only
 * its own cgroup mounted) the mount itself. */
static bool cgroup_folder(char *ret, size_t room, const char *mount, const char *path)
{
    const int n = snprintf(ret, room, "%s%s", mount, path);

    if (n > 0 && (size_t)n < room && folder_there(ret)) {
        return true;
    }
    return snprintf(ret, room, "%s", mount) < (int)room && folder_there(ret);
}

/* One level for the folder and for each above it, up to the mount. */
static void add_levels(struct memory_files *f, char *folder, size_t n_mount)
{
    for (;;) {
        struct memory_level *l = &f->levels[f->n_levels++];
        l->limit = UINT64_MAX;
        file_set(&l->max, folder, f->v1 ? "memory.limit_in_bytes" : "memory.max");
        file_set(&l->high, folder, f->v1 ? "memory.soft_limit_in_bytes" : "memory.high");
        file_set(&l->current, folder, f->v1 ? "memory.usage_in_bytes" : "memory.current");
        file_set(&l->stat, folder, "memory.stat");
        file_set(&l->events, folder, f->v1 ? "memory.oom_control" : "memory.events");
        if (f->v1) { /* a soft limit throttles nobody */
            file_free(&l->high);
        }
        char *slash = strrchr(folder, '/');
        if (strlen(folder) <= n_mount || !slash || f->n_levels == MEMORY_LEVELS_MAX) {
            return;
        }
        *slash = '\0';
    }
}

static void find_cgroups(struct memory_files *f, const char *text)
{
    static const char *const mounts[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
    char path[MEMORY_PATH_MAX], mount[MEMORY_PATH_MAX + 32], folder[sizeof(f->own)];

    for (size_t i = 0; i < 2 && text_cgroup(path, sizeof(path), text, ""); i++) {
        (void)snprintf(mount, sizeof(mount), "%s%s", f->root, mounts[1 - i]);
        if (folder_there(mount) && cgroup_folder(f->own, sizeof(f->own), mount, path)) {
            break;
        }
        f->own[0] = '\0';
    }
    if (text_cgroup(path, sizeof(path), text, "memory")) {
        f->v1 = true;
        (void)snprintf(mount, sizeof(mount), "%s/sys/fs/cgroup/memory", f->root);
        if (!cgroup_folder(folder, sizeof(folder), mount, path)) {
            return;
        }
    } else if (f->own[0] != '\0') {
        (void)snprintf(folder, sizeof(folder), "%s", f->own);
    } else {
        return;
    }
    add_levels(f, folder, strlen(mount));
}

void memory_files_open(struct memory_files *f, const char *root)
{
    struct memory_file list = {.fd = -1};
    struct memory_stall stall;
    char text[TEXT_ROOM], folder[MEMORY_PATH_MAX + 32];

    *f = (struct memory_files){.replaced = root[0] != '\0', .runner = {.fd = -1}};
    (void)snprintf(f->root, sizeof(f->root), "%s", root);
    (void)snprintf(folder, sizeof(folder), "%s/proc", f->root);
    file_set(&f->meminfo, folder, "meminfo");
    file_set(&f->vmstat, folder, "vmstat");
    file_set(&list, folder, "self/cgroup");
    if (file_read(&list, text, true)) {
        find_cgroups(f, text);
    }
    file_free(&list);
    if (f->own[0] != '\0') {
        file_set(&f->pressure, f->own, "memory.pressure");
        f->own_pressure = file_read(&f->pressure, text, f->replaced) && text_stall(&stall, text);
    }
    if (!f->own_pressure) {
        file_free(&f->pressure);
        file_set(&f->pressure, folder, "pressure/memory");
    }
}

void memory_files_close(struct memory_files *f)
{
    file_free(&f->meminfo);
    file_free(&f->vmstat);
    file_free(&f->pressure);
    file_free(&f->runner);
    for (size_t i = 0; i < f->n_levels; i++) {
        file_free(&f->levels[i].max);
        file_free(&f->levels[i].high);
        file_free(&f->levels[i].current);
        file_free(&f->levels[i].stat);
        file_free(&f->levels[i].events);
    }
    f->n_levels = 0;
}

/* ---- one reading ---- */

static uint64_t less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

static uint64_t keyed(const char *text, const char *key)
{
    uint64_t n = 0;

    return text_keyed(&n, text, key) ? n : 0;
}

static void take(struct memory_counts *c, uint64_t available, uint64_t total)
{
    if (total == 0) {
        return;
    }
    const uint64_t least = available < total ? available : total;
    const double part = (double)least / (double)total;
    if (!c->has_available || part < c->available) {
        c->available = part;
    }
    if (!c->has_available || least < c->available_bytes) {
        c->available_bytes = least;
    }
    if (!c->has_available || total < c->total_bytes) {
        c->total_bytes = total;
    }
    c->has_available = true;
}

/* What a cgroup uses that cannot be dropped; `text` is its memory.stat. */
static uint64_t kept(uint64_t current, const char *text, bool v1)
{
    const uint64_t inactive = keyed(text, v1 ? "total_inactive_file" : "inactive_file");
    const uint64_t active = keyed(text, v1 ? "total_active_file" : "active_file");
    const uint64_t mapped = keyed(text, v1 ? "total_mapped_file" : "file_mapped");
    const uint64_t slab = v1 ? 0 : keyed(text, "slab_reclaimable");

    return less(less(less(current, inactive), less(active, mapped)), slab);
}

static uint64_t read_limit(struct memory_level *l, bool close)
{
    char text[TEXT_ROOM];
    uint64_t limit = UINT64_MAX;

    if (file_read(&l->max, text, close)) {
        limit = text_limit(text);
    }
    if (file_read(&l->high, text, close)) {
        const uint64_t high = text_limit(text);
        limit = high < limit ? high : limit;
    }
    return limit;
}

static void read_level(struct memory_counts *c, struct memory_files *f, struct memory_level *l,
                       uint64_t machine)
{
    const bool above = l != &f->levels[0], close = f->replaced || above;
    char text[TEXT_ROOM];
    uint64_t current;

    if (!above || f->replaced || f->n_looks % LIMIT_LOOKS == 0) {
        l->limit = read_limit(l, close);
    }
    if (above && l->limit == UINT64_MAX) {
        return;
    }
    if (file_read(&l->events, text, close)) {
        c->high_events += keyed(text, "high");
        const uint64_t kills = keyed(text, "oom_kill");
        c->own_oom_kills = kills > c->own_oom_kills ? kills : c->own_oom_kills;
    }
    if (l->limit == UINT64_MAX || (machine > 0 && l->limit >= machine) ||
        !file_read(&l->current, text, close) || !text_number(&current, text)) {
        return;
    }
    if (!file_read(&l->stat, text, close)) {
        text[0] = '\0';
    }
    take(c, less(l->limit, kept(current, text, f->v1)), l->limit);
}

static void read_runner(struct memory_counts *c, struct memory_files *f, int pid)
{
    char text[TEXT_ROOM], folder[MEMORY_PATH_MAX + 32];

    if (pid != f->runner_pid) {
        file_free(&f->runner);
        f->runner_pid = pid;
        if (pid > 0) {
            (void)snprintf(folder, sizeof(folder), "%s/proc/%d", f->root, pid);
            file_set(&f->runner, folder, "stat");
        }
    }
    if (pid > 0 && file_read(&f->runner, text, f->replaced) &&
        text_major_faults(&c->runner_faults, text)) {
        c->runner_pid = pid;
    }
}

void memory_counts_read(struct memory_counts *ret, struct memory_files *f, int runner_pid)
{
    struct memory_counts c = {.now_ns = clock_now_ns()};
    char text[TEXT_ROOM];
    uint64_t total = 0, available;

    if (file_read(&f->meminfo, text, f->replaced) && text_kilobytes(&total, text, "MemTotal") &&
        text_kilobytes(&available, text, "MemAvailable")) {
        take(&c, available, total);
    }
    if (file_read(&f->vmstat, text, f->replaced)) {
        c.has_refaults = text_keyed(&c.refaults, text, "workingset_refault_file") ||
                         text_keyed(&c.refaults, text, "workingset_refault");
        c.oom_kills = keyed(text, "oom_kill");
    }
    if (file_read(&f->pressure, text, f->replaced)) {
        c.has_stall = text_stall(&c.stall, text);
    }
    for (size_t i = 0; i < f->n_levels; i++) {
        read_level(&c, f, &f->levels[i], total);
    }
    f->n_looks++;
    read_runner(&c, f, runner_pid);
    *ret = c;
}

/* ---- between two readings ---- */

/* In each second of the window. Counters that went back (another file, another machine's) say
 * nothing. */
static double rate(uint64_t before, uint64_t now, double s)
{
    return now > before ? (double)(now - before) / s : 0;
}

/* A page that is read for the first time says nothing of memory: faults count as far as pages came
 * back that had been dropped before. */
static double faults(const struct memory_counts *before, const struct memory_counts *now,
                     bool working)
{
    const uint64_t steps = less(now->steps, before->steps);

    if (now->runner_pid == 0 || now->runner_pid != before->runner_pid || (steps == 0 && !working)) {
        return 0;
    }
    uint64_t n = less(now->runner_faults, before->runner_faults);
    if (now->has_refaults && before->has_refaults) {
        const uint64_t again = less(now->refaults, before->refaults);
        n = again < n ? again : n;
    }
    return (double)n / (double)(steps > 0 ? steps : 1); /* or in the one that does not end */
}

void memory_figures(struct memory_look *ret, const struct memory_counts *before,
                    const struct memory_counts *now, bool working)
{
    const double s =
        now->now_ns > before->now_ns ? (double)(now->now_ns - before->now_ns) / 1e9 : 1;
    const uint64_t machine = less(now->oom_kills, before->oom_kills);
    const uint64_t own = less(now->own_oom_kills, before->own_oom_kills);

    *ret = (struct memory_look){
        .has_psi = now->has_stall && before->has_stall,
        .has_available = now->has_available,
        .available = now->has_available ? now->available : 0,
        .available_bytes = now->available_bytes,
        .total_bytes = now->total_bytes,
        .major_faults = faults(before, now, working),
        .oom_kills = machine > own ? machine : own, /* one kill is in both */
        .high_events = now->high_events > before->high_events,
    };
    if (ret->has_psi) {
        ret->some_ms = rate(before->stall.some_us, now->stall.some_us, s) / 1e3;
        ret->full_ms = rate(before->stall.full_us, now->stall.full_us, s) / 1e3;
    }
    if (now->has_refaults && before->has_refaults) {
        ret->refaults = rate(before->refaults, now->refaults, s);
    }
}

/* ---- how slow steps are ---- */

static struct memory_pace *pace_of(struct memory_paces *p, uint32_t model, uint32_t streams)
{
    struct memory_pace *least = &p->paces[0];

    for (size_t i = 0; i < MEMORY_PACES; i++) {
        struct memory_pace *at = &p->paces[i];
        if (at->usual_us > 0 && at->model == model && at->streams == streams) {
            return at;
        }
        least = at->n < least->n ? at : least;
    }
    *least = (struct memory_pace){.model = model, .streams = streams};
    return least;
}

void memory_pace_step(struct memory_paces *p, uint32_t model, uint32_t streams, uint64_t us)
{
    struct memory_pace *pace = pace_of(p, model, streams);
    const double took = (double)us;

    if (us == 0) {
        return;
    }
    if (pace->usual_us <= 0) {
        pace->usual_us = took;
    }
    const double ratio = took / pace->usual_us;
    /* Contexts grow and machines slow down for good: a hundred steps are enough to get used to. */
    pace->usual_us += (took - pace->usual_us) * (took < pace->usual_us ? 0.25 : 0.01);
    if (pace->n < PACE_SEEN) {
        pace->n++;
    } else {
        p->slow = ratio > p->slow ? ratio : p->slow;
    }
}

double memory_pace_take(struct memory_paces *p)
{
    const double slow = p->slow;

    p->slow = 0;
    return slow;
}
