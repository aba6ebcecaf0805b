/* Two CPUs of one core share its units: a second thread there adds little to kernels that keep them
 * busy, and takes from the first. So cores are counted, by the lowest CPU among each one's
 * siblings. */
#include "engine/cores.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "base/fnv.h"
#include "base/whole_file.h"

/* The lowest CPU of the core that `cpu` belongs to; itself where nothing sensible is said. */
static unsigned long first_sibling(const char *sys, unsigned cpu)
{
    char path[512], text[64], *end = NULL;

    const int n = snprintf(path, sizeof(path), "%s/cpu%u/topology/thread_siblings_list", sys, cpu);
    if (n >= (int)sizeof(path) || whole_file_head(text, sizeof(text), AT_FDCWD, path, 0) <= 0 ||
        text[0] < '0' || text[0] > '9') {
        return cpu;
    }
    const unsigned long first = strtoul(text, &end, 10);
    return end != text && first < CPU_SETSIZE ? first : cpu;
}

unsigned cores_count(const char *sys, const cpu_set_t *set)
{
    cpu_set_t seen;
    unsigned n = 0;

    CPU_ZERO(&seen);
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, set)) {
            continue;
        }
        const unsigned long first = first_sibling(sys, cpu);
        if (!CPU_ISSET(first, &seen)) {
            CPU_SET(first, &seen);
            n++;
        }
    }
    return n;
}

static bool names_a_kind(const char *line)
{
    static const char *const keys[] = {"model name",  "cpu family",   "CPU implementer", "CPU part",
                                       "CPU variant", "CPU revision", "Hardware",        "Model"};

    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        if (strncmp(line, keys[i], strlen(keys[i])) == 0) {
            return true;
        }
    }
    return false;
}

uint64_t cores_mark(const char *cpuinfo)
{
    uint64_t mark = FNV_START;
    char text[16384], *save = NULL;

    if (whole_file_head(text, sizeof(text), AT_FDCWD, cpuinfo, 0) <= 0) {
        return mark;
    }
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        if (names_a_kind(line)) {
            mark = fnv_add(mark, line, strlen(line));
        }
    }
    return mark;
}

bool cores_busy(char *text, const cpu_set_t *set, uint64_t *ret)
{
    char *save = NULL;
    bool any = false;

    *ret = 0;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        unsigned cpu;
        unsigned long long user, nice, system, idle, wait, irq, soft, steal;
        if (strncmp(line, "cpu", 3) == 0 && line[3] >= '0' && line[3] <= '9' && /* not the sum */
            sscanf(line, "cpu%u %llu %llu %llu %llu %llu %llu %llu %llu", &cpu, &user, &nice,
                   &system, &idle, &wait, &irq, &soft, &steal) == 9 &&
            cpu < CPU_SETSIZE && CPU_ISSET(cpu, set)) {
            *ret += user + nice + system + irq + soft + steal;
            any = true;
        }
    }
    return any;
}
