/* doctor: the machine. Raspberry Pi OS starts with two switches off, pressure stall information and
 * the memory cgroup; the words that turn them on are the point of half of these checks. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/doctor.h"

#define TOO_HOT_MC 80000 /* thousandths of a degree: where a Raspberry Pi begins to slow down */

/* ---- the processor ---- */

/* The line "key : value" of /proc/cpuinfo, the value up to its newline; false: there is none. */
static bool cpuinfo_line(const char *text, const char *key, char *ret, size_t n)
{
    const size_t key_n = strlen(key);

    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, key_n) == 0 && strchr(" \t:", line[key_n])) {
            const char *colon = strchr(line, ':');
            if (!colon) {
                return false;
            }
            const size_t value_n = strcspn(colon + 1, "\n");
            (void)snprintf(ret, n, "%.*s", (int)(value_n < n ? value_n : n - 1), colon + 1);
            return true;
        }
    }
    return false;
}

static bool has_words(const char *text, const char *const *words, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!has_word(text, words[i])) {
            return false;
        }
    }
    return true;
}

/* The best kernels for these flags: as the engine chooses. */
static const char *best_level(const char *flags, bool arm)
{
    static const char *const avx2[] = {"avx2", "fma", "f16c"};
    static const char *const avx512[] = {"avx512f",     "avx512bw", "avx512dq", "avx512vl",
                                         "avx512_vnni", "avx2",     "fma",      "f16c"};
    static const char *const i8mm[] = {"asimddp", "i8mm"};

    if (arm) {
        return has_words(flags, i8mm, ARRAY_SIZE(i8mm)) ? "i8mm"
               : has_word(flags, "asimddp")             ? "dotprod"
                                                        : "neon";
    }
    return has_words(flags, avx512, ARRAY_SIZE(avx512)) ? "avx512"
           : has_words(flags, avx2, ARRAY_SIZE(avx2))   ? "avx2"
                                                        : "scalar";
}

static void check_cpu(struct doctor *d)
{
    char *text = malloc(PROBE_BYTES_MAX), flags[8192];
    const char *in_use = json_string_value(json_object_get(d->status, "cpu"));

    if (!text) {
        d->failed = true;
        return;
    }
    (void)probe_text(&d->probe, "/proc/cpuinfo", text, PROBE_BYTES_MAX);
    const bool arm = cpuinfo_line(text, "Features", flags, sizeof(flags));
    if (!arm && !cpuinfo_line(text, "flags", flags, sizeof(flags))) {
        doctor_find(d, "cpu", DOCTOR_WARN, NULL, "/proc/cpuinfo does not tell what the CPU can do");
        free(text);
        return;
    }
    const char *best = best_level(flags, arm);
    if (in_use && *in_use && strcmp(in_use, best) != 0) {
        doctor_find(d, "cpu", DOCTOR_WARN,
                    "remove cpu from [engine] of the configuration, unless it is there on purpose",
                    "the daemon computes with %s; this CPU can do %s", in_use, best);
    } else if (strcmp(best, "scalar") == 0 || strcmp(best, "neon") == 0) {
        doctor_find(d, "cpu", DOCTOR_WARN,
                    "a CPU that has them; on this one answers are right, but slow",
                    "the best kernels for this CPU are %s: it lacks %s", best,
                    arm ? "the dot product instructions" : "AVX2, FMA or F16C");
    } else {
        doctor_find(d, "cpu", DOCTOR_OK, NULL, "kernels: %s", best);
    }
    if (arm || has_word(flags, "fma")) {
        doctor_find(d, "fma", DOCTOR_OK, NULL, "fused multiply-add in hardware");
    } else {
        doctor_find(d, "fma", DOCTOR_WARN,
                    "a CPU that has it; on this one answers are right, but slow",
                    "this CPU has no fused multiply-add: it is done in software");
    }
    free(text);
}

/* ---- the kernel's switches ---- */

void doctor_boot_fix(const struct doctor *d, const char *words, char *ret, size_t n)
{
    static const struct {
        const char *path, *how;
    } all[] = {
        {"/boot/firmware/cmdline.txt", "to the one line of /boot/firmware/cmdline.txt, and reboot"},
        {"/boot/cmdline.txt", "to the one line of /boot/cmdline.txt, and reboot"},
        {"/boot/extlinux/extlinux.conf",
         "to the APPEND line of /boot/extlinux/extlinux.conf, and reboot"},
        {"/etc/default/grub",
         "to GRUB_CMDLINE_LINUX in /etc/default/grub, run update-grub, and reboot"},
    };
    const char *how = "to the kernel's command line, and reboot";

    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        if (probe_exists(&d->probe, all[i].path)) {
            how = all[i].how;
            break;
        }
    }
    (void)snprintf(ret, n, "add %s %s", words, how);
}

/* Is the memory controller of control groups there? */
static bool memory_cgroup(const struct doctor *d)
{
    char text[4096];

    if (probe_text(&d->probe, "/sys/fs/cgroup/cgroup.controllers", text, sizeof(text)) == 0) {
        return has_word(text, "memory");
    }
    (void)probe_text(&d->probe, "/proc/cgroups", text, sizeof(text));
    for (const char *line = text; line; line = strchr(line, '\n')) {
        unsigned hierarchy, groups, enabled;
        line += *line == '\n';
        if (sscanf(line, "memory %u %u %u", &hierarchy, &groups, &enabled) == 3) {
            return enabled == 1;
        }
    }
    return false;
}

static void check_switches(struct doctor *d)
{
    char text[256], fix[512], words[80];
    const bool psi = probe_text(&d->probe, "/proc/pressure/memory", text, sizeof(text)) == 0 &&
                     strncmp(text, "some ", 5) == 0;
    const bool cgroup = memory_cgroup(d);

    (void)snprintf(words, sizeof(words), "%s%s%s", psi ? "" : "psi=1", psi || cgroup ? "" : " ",
                   cgroup ? "" : "cgroup_enable=memory cgroup_memory=1");
    doctor_boot_fix(d, words, fix, sizeof(fix));
    if (psi) {
        doctor_find(d, "psi", DOCTOR_OK, NULL, "the kernel tells of memory pressure");
    } else {
        doctor_find(d, "psi", DOCTOR_WARN, fix,
                    "no /proc/pressure/memory: the kernel does not tell of memory pressure");
    }
    if (cgroup) {
        doctor_find(d, "memory-cgroup", DOCTOR_OK, NULL, "limits of memory by unit take effect");
    } else {
        doctor_find(d, "memory-cgroup", DOCTOR_WARN, fix,
                    "no memory cgroup: MemoryMax= and MemoryHigh= of units are ignored");
    }
}

/* ---- memory ---- */

static void check_memlock(struct doctor *d)
{
    char path[64], text[4096];
    uint64_t soft = 0;

    if (d->pid > 0) {
        (void)snprintf(path, sizeof(path), "/proc/%ld/limits", (long)d->pid);
    } else {
        (void)snprintf(path, sizeof(path), "/proc/self/limits");
    }
    (void)probe_text(&d->probe, path, text, sizeof(text));
    const char *line = strstr(text, "Max locked memory");
    const char *whose = d->pid > 0 ? "the daemon" : "this shell";
    if (!line) {
        doctor_find(d, "memlock", DOCTOR_WARN, NULL, "%s does not tell the limit", path);
        return;
    }
    line += strlen("Max locked memory");
    line += strspn(line, " ");
    if (strncmp(line, "unlimited", 9) == 0) {
        doctor_find(d, "memlock", DOCTOR_OK, NULL, "%s may lock as much memory as it wants", whose);
    } else if (sscanf(line, "%" SCNu64, &soft) == 1) {
        /* Only who asks for it has weights locked; `ps --memory` shows how much came of it. */
        doctor_find(d, "memlock", DOCTOR_OK, NULL,
                    "%s may lock %.1f MB, for models with \"locked = yes\"", whose,
                    (double)soft / 1e6);
    } else {
        doctor_find(d, "memlock", DOCTOR_WARN, NULL, "%s has a limit that cannot be read", path);
    }
}

static void check_huge_pages(struct doctor *d)
{
    char text[256];

    if (probe_text(&d->probe, "/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof(text)) !=
        0) {
        doctor_find(d, "huge-pages", DOCTOR_WARN, "none, but for another kernel",
                    "this kernel has no transparent huge pages");
    } else if (strstr(text, "[never]")) {
        doctor_find(d, "huge-pages", DOCTOR_WARN,
                    "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled",
                    "transparent huge pages are off: large products can be slower");
    } else {
        doctor_find(d, "huge-pages", DOCTOR_OK, NULL, "transparent huge pages: %s",
                    strstr(text, "[always]") ? "always" : "on request");
    }
}

static uint64_t meminfo_kb(const char *text, const char *key)
{
    const char *at = strstr(text, key);
    uint64_t kb = 0;

    return at && sscanf(at + strlen(key), ": %" SCNu64, &kb) == 1 ? kb : 0;
}

static void check_memory(struct doctor *d)
{
    char text[8192];

    (void)probe_text(&d->probe, "/proc/meminfo", text, sizeof(text));
    const double total = (double)meminfo_kb(text, "MemTotal") * 1024;
    const double there = (double)meminfo_kb(text, "MemAvailable") * 1024;
    if (total <= 0) {
        doctor_find(d, "memory", DOCTOR_WARN, NULL, "/proc/meminfo does not tell the memory");
    } else if (there < total / 20 || there < 128e6) {
        doctor_find(d, "memory", DOCTOR_WARN,
                    "stop what is not needed, or load a smaller model; onebit ps shows the sizes",
                    "%.0f MB of %.0f MB are left", there / 1e6, total / 1e6);
    } else {
        doctor_find(d, "memory", DOCTOR_OK, NULL, "%.0f MB of %.0f MB are left", there / 1e6,
                    total / 1e6);
    }
}

/* Swap on what wears out: the first such area is named. */
static void check_swap(struct doctor *d)
{
    char text[8192], name[256], card[256] = "";
    unsigned n = 0, n_zram = 0;

    (void)probe_text(&d->probe, "/proc/swaps", text, sizeof(text));
    for (const char *line = strchr(text, '\n'); line; line = strchr(line, '\n')) {
        line++;
        if (sscanf(line, "%255s", name) != 1) {
            break;
        }
        n++;
        n_zram += strncmp(name, "/dev/zram", 9) == 0;
        if (!card[0] && (strncmp(name, "/dev/mmcblk", 11) == 0 || strcmp(name, "/var/swap") == 0)) {
            (void)snprintf(card, sizeof(card), "%s", name);
        }
    }
    if (card[0]) {
        doctor_find(d, "swap", DOCTOR_WARN, "use compressed swap in memory instead: zram",
                    "swap is on %s: slow there, and it wears an SD card out", card);
    } else if (n == 0) {
        doctor_find(d, "swap", DOCTOR_WARN, "add compressed swap in memory: zram",
                    "there is no swap: memory that runs out ends programs at once");
    } else {
        doctor_find(d, "swap", DOCTOR_OK, NULL, "%u areas, %u of them zram", n, n_zram);
    }
}

/* ---- heat ---- */

static bool hotter(const struct probe *p, const char *path, void *user)
{
    char text[32];
    int *hottest = user;

    if (probe_text(p, path, text, sizeof(text)) == 0 && isdigit((unsigned char)text[0])) {
        const int mc = atoi(text);
        *hottest = mc > *hottest ? mc : *hottest;
    }
    return true;
}

static void check_heat(struct doctor *d)
{
    int hottest = 0;

    probe_each(&d->probe, "/sys/class/thermal/thermal_zone*/temp", hotter, &hottest);
    if (hottest == 0) {
        doctor_find(d, "heat", DOCTOR_OK, NULL,
                    "not known: this machine shows no thermal sensor, so heat holds nothing back");
    } else if (hottest >= TOO_HOT_MC) {
        doctor_find(d, "heat", DOCTOR_WARN, "cool it: a heat sink, a fan, room for air",
                    "%.1f degrees: the CPU slows down to stay whole", hottest / 1e3);
    } else {
        doctor_find(d, "heat", DOCTOR_OK, NULL, "%.1f degrees", hottest / 1e3);
    }
}

struct throttle {
    bool seen;
    unsigned long bits;
};

static bool read_throttle(const struct probe *p, const char *path, void *user)
{
    struct throttle *t = user;
    char text[32], *end;

    if (probe_text(p, path, text, sizeof(text)) == 0) {
        t->bits = strtoul(text, &end, 16);
        t->seen = end != text;
    }
    return !t->seen;
}

/* The firmware of a Raspberry Pi keeps what it did to the clock: bits 0..3 now, 16..19 since
 * boot. */
static void check_throttle(struct doctor *d)
{
    struct throttle t = {0};

    probe_each(&d->probe, "/sys/devices/platform/*/*firmware/get_throttled", read_throttle, &t);
    if (!t.seen) {
        doctor_find(d, "throttle", DOCTOR_OK, NULL, "no firmware that tells of it");
    } else if (t.bits & 0x1) {
        doctor_find(d, "throttle", DOCTOR_BAD, "use a stronger power supply or a shorter cable",
                    "the supply's voltage is too low now (0x%lx)", t.bits);
    } else if (t.bits & 0xe) {
        doctor_find(d, "throttle", DOCTOR_WARN, "cool it: a heat sink, a fan, room for air",
                    "the firmware holds the clock down now (0x%lx)", t.bits);
    } else if (t.bits & 0x10000) {
        doctor_find(d, "throttle", DOCTOR_WARN, "use a stronger power supply or a shorter cable",
                    "the supply's voltage has been too low since the start (0x%lx)", t.bits);
    } else if (t.bits & 0xe0000) {
        doctor_find(d, "throttle", DOCTOR_WARN, "cool it: a heat sink, a fan, room for air",
                    "the firmware has held the clock down since the start (0x%lx)", t.bits);
    } else {
        doctor_find(d, "throttle", DOCTOR_OK, NULL, "the firmware has not slowed the CPU down");
    }
}

static void check_governor(struct doctor *d)
{
    char text[64];

    (void)probe_text(&d->probe, "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", text,
                     sizeof(text));
    text[strcspn(text, "\n")] = '\0';
    if (strcmp(text, "powersave") == 0 &&
        !probe_exists(&d->probe, "/sys/devices/system/cpu/intel_pstate") &&
        !probe_exists(&d->probe, "/sys/devices/system/cpu/amd_pstate")) {
        doctor_find(
            d, "governor", DOCTOR_WARN,
            "echo ondemand | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
            "powersave: the CPU stays at its lowest clock");
    } else {
        doctor_find(d, "governor", DOCTOR_OK, NULL, "%s", text[0] ? text : "none");
    }
}

void doctor_machine(struct doctor *d)
{
    check_cpu(d);
    check_switches(d);
    doctor_kernel(d);
    check_memory(d);
    check_memlock(d);
    check_huge_pages(d);
    check_swap(d);
    check_heat(d);
    check_throttle(d);
    check_governor(d);
}
