/* The machine side of the engine: which kernels, how many threads. */
#include "engine/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fnv.h"
#include "base/whole_file.h"
#include "engine/cores.h"
#include "engine/engine.h"
#include "engine/threads.h"

/* What a measurement of this engine's speed holds for. */
static uint64_t mark_of(const struct engine_options *options, unsigned n_most)
{
    const uint32_t facts[] = {(uint32_t)options->cpu, options->n_threads, n_most,
                              engine_threads_default(), engine_threads_most()};

    return fnv_add(cores_mark("/proc/cpuinfo"), facts, sizeof(facts));
}

int engine_new(struct engine **ret, const struct engine_options *options)
{
    const unsigned n_most =
        options->n_threads_most > 0 ? options->n_threads_most : options->n_threads;
    struct engine *e;

    if (!cpu_level_present(options->cpu) || options->n_threads == 0 ||
        options->n_threads > n_most || n_most > THREADS_MAX) {
        return -EINVAL;
    }
    e = calloc(1, sizeof(*e));
    if (!e) {
        return -ENOMEM;
    }
    e->cpu = options->cpu;
    kernels_init(&e->kernels, options->cpu);
    e->n_threads = options->n_threads;
    e->mark = mark_of(options, n_most);
    e->stat_fd = open("/proc/stat", O_RDONLY | O_CLOEXEC);
    int r = options->before_threads ? options->before_threads(options->arg) : 0;
    if (r == 0) {
        r = threads_new(&e->threads, n_most);
    }
    if (r < 0) {
        engine_free(e);
        return r;
    }
    threads_use(e->threads, e->n_threads);
    *ret = e;
    return 0;
}

void engine_free(struct engine *engine)
{
    if (!engine) {
        return;
    }
    threads_free(engine->threads);
    if (engine->stat_fd >= 0) {
        (void)close(engine->stat_fd);
    }
    free(engine);
}

void engine_threads_limit(struct engine *engine, unsigned n_threads)
{
    engine->n_threads_max = n_threads;
}

enum cpu_level engine_cpu(const struct engine *engine)
{
    return engine->cpu;
}

/* ---- how many threads ---- */

/* CPUs of one group's quota, rounded up; 0: it has none. */
static unsigned quota_of(const char *dir, bool v2)
{
    char path[4400], text[64];
    long long quota = -1, period = 0;

    (void)snprintf(path, sizeof(path), "%s/%s", dir, v2 ? "cpu.max" : "cpu.cfs_quota_us");
    if (whole_file_head(text, sizeof(text), AT_FDCWD, path, 0) <= 0) {
        return 0;
    }
    if (v2) {
        if (sscanf(text, "%lld %lld", &quota, &period) != 2) {
            return 0; /* "max" */
        }
    } else {
        quota = strtoll(text, NULL, 10);
        (void)snprintf(path, sizeof(path), "%s/cpu.cfs_period_us", dir);
        period = whole_file_head(text, sizeof(text), AT_FDCWD, path, 0) > 0
                     ? strtoll(text, NULL, 10)
                     : 0;
    }
    if (quota <= 0 || period <= 0) {
        return 0;
    }
    const long long cpus = quota / period + (quota % period != 0);
    return cpus > (long long)THREADS_MAX ? THREADS_MAX : (unsigned)cpus;
}

/* The smallest quota on the way from a group to the root of its hierarchy. */
static unsigned quota_on_path(const char *root, char *group, bool v2)
{
    unsigned least = 0;

    for (;;) {
        char dir[4352];
        (void)snprintf(dir, sizeof(dir), "%s%s", root, group);
        const unsigned q = quota_of(dir, v2);
        if (q != 0 && (least == 0 || q < least)) {
            least = q;
        }
        char *slash = strrchr(group, '/');
        if (!slash) {
            return least;
        }
        *slash = '\0';
    }
}

static bool is_cpu_controller(const char *list)
{
    for (const char *p = list; p; p = strchr(p, ',')) {
        p += *p == ',';
        if (strncmp(p, "cpu", 3) == 0 && (p[3] == ',' || p[3] == '\0')) {
            return true;
        }
    }
    return false;
}

/* Lines of /proc/self/cgroup are "id:controllers:path"; version 2 has id 0 and no controllers. */
static unsigned quota_of_cgroup(void)
{
    char text[8192], *save = NULL;
    unsigned least = 0;

    if (whole_file_head(text, sizeof(text), AT_FDCWD, "/proc/self/cgroup", 0) <= 0) {
        return 0;
    }
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *list = strchr(line, ':');
        char *group = list ? strchr(list + 1, ':') : NULL;
        if (!group) {
            continue;
        }
        *group++ = '\0';
        const bool v2 = strcmp(line, "0:") == 0;
        if ((!v2 && !is_cpu_controller(list + 1)) || strlen(group) > 4096) {
            continue;
        }
        const unsigned q = quota_on_path(v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu", group, v2);
        if (q != 0 && (least == 0 || q < least)) {
            least = q;
        }
    }
    return least;
}

/* CPUs of the affinity mask, siblings of a core counted once or each, as far as the quota goes. */
static unsigned threads_of(bool siblings)
{
    const unsigned quota = quota_of_cgroup();
    cpu_set_t set;
    unsigned n = 1;

    if (sched_getaffinity(0, sizeof(set), &set) == 0) {
        n = siblings ? (unsigned)CPU_COUNT(&set) : cores_count("/sys/devices/system/cpu", &set);
    } else {
        const long online = sysconf(_SC_NPROCESSORS_ONLN); /* more CPUs than cpu_set_t can hold */
        n = online > 0 ? (unsigned)online : 1;
    }
    if (quota != 0 && quota < n) {
        n = quota;
    }
    return n == 0 ? 1 : n > THREADS_MAX ? THREADS_MAX : n;
}

unsigned engine_threads_default(void)
{
    return threads_of(false);
}

unsigned engine_threads_most(void)
{
    return threads_of(true);
}
