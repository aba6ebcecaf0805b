/* doctor: what the kernel grants. Where the daemon says what came of it, that counts; what the
 * kernel shows decides which words mend it, and is all there is when no daemon answers. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "client/cli/doctor.h"

#define TRIGGER_SINCE 605  /* major * 100 + minor: who lacks CAP_SYS_RESOURCE may set a trigger */
#define LANDLOCK_SINCE 513 /* it came with this one */

/* The kernel's release as major * 100 + minor; 0: not told. */
static unsigned release(const struct doctor *d)
{
    char text[128];
    unsigned major = 0, minor = 0;

    (void)probe_text(&d->probe, "/proc/sys/kernel/osrelease", text, sizeof(text));
    if (sscanf(text, "%3u.%2u", &major, &minor) != 2) {
        return 0;
    }
    return major * 100 + minor;
}

/* ---- a trigger on stalls ---- */

static void not_called(struct doctor *d, bool told)
{
    static const char check[] = "psi-trigger";
    const unsigned r = release(d);

    if (r > 0 && r < TRIGGER_SINCE) {
        doctor_find(d, check, DOCTOR_WARN,
                    "run Linux 6.5 or later; on Debian 12: sudo apt install -t bookworm-backports "
                    "linux-image-$(dpkg --print-architecture)",
                    "Linux %u.%u permits triggers on memory pressure to root alone: the daemon "
                    "looks at it, every second at least",
                    r / 100, r % 100);
    } else if (told) {
        doctor_find(d, check, DOCTOR_WARN,
                    "add MemoryPressureWatch=on to [Service] (sudo systemctl edit onebitd), and "
                    "restart it; in a container, make /proc/pressure writable",
                    "the daemon was permitted no trigger on memory pressure: it looks at it, every "
                    "second at least");
    } else {
        doctor_find(d, check, DOCTOR_OK, NULL, "the kernel permits triggers on memory pressure");
    }
}

/* Says nothing where there is no pressure information: that is psi's to tell. */
static void check_trigger(struct doctor *d)
{
    static const char check[] = "psi-trigger";
    const json_t *machine = json_object_get(d->status, "machine");
    const char *watch = json_string_value(json_object_get(machine, "pressure_watch"));
    const char *source = json_string_value(json_object_get(machine, "pressure_source"));

    if (watch && strcmp(watch, "called") == 0) {
        doctor_find(d, check, DOCTOR_OK, NULL, "memory pressure calls the daemon");
    } else if (watch && strcmp(watch, "forbidden") == 0) {
        doctor_find(d, check, DOCTOR_WARN,
                    "remove MemoryPressureWatch=off from [Service] (sudo systemctl edit onebitd), "
                    "and restart it",
                    "the service manager forbids the daemon to look at memory pressure");
    } else if ((source && strcmp(source, "poll") != 0) ||
               (!watch && probe_exists(&d->probe, "/proc/pressure/memory"))) {
        not_called(d, watch != NULL);
    }
}

/* ---- promises of memory ---- */

static uint64_t number_of(const char *text, const char *key)
{
    const char *at = strstr(text, key);
    uint64_t n = 0;

    return at && sscanf(at + strlen(key), ": %" SCNu64, &n) == 1 ? n : 0;
}

static void check_overcommit(struct doctor *d)
{
    char mode[16], text[8192];

    (void)probe_text(&d->probe, "/proc/sys/vm/overcommit_memory", mode, sizeof(mode));
    if (mode[0] != '2') {
        doctor_find(d, "overcommit", DOCTOR_OK, NULL,
                    "memory is taken when it is used, not when it is asked for");
        return;
    }
    (void)probe_text(&d->probe, "/proc/meminfo", text, sizeof(text));
    doctor_find(d, "overcommit", DOCTOR_WARN,
                "echo vm.overcommit_memory=0 | sudo tee /etc/sysctl.d/90-onebit.conf && sudo "
                "sysctl --system; or keep it, with weights = shared and a small kv_bytes in "
                "[engine]",
                "vm.overcommit_memory is 2: a KV pool and private weights count whole from the "
                "start, and loads fail at the limit while memory is free (%.0f MB of %.0f MB are "
                "promised)",
                (double)number_of(text, "Committed_AS") * 1024 / 1e6,
                (double)number_of(text, "CommitLimit") * 1024 / 1e6);
}

/* ---- confinement ---- */

#define ALLOW                                                                                      \
    "add SystemCallFilter=seccomp landlock_create_ruleset landlock_add_rule "                      \
    "landlock_restrict_self to [Service] (sudo systemctl edit onebitd), and restart it"

/* Has text, words parted by commas, this one? */
static bool in_list(const char *text, const char *word)
{
    const size_t n = strlen(word);

    for (const char *at = text; *at; at += strcspn(at, ",\n")) {
        at += *at == ',' || *at == '\n';
        if (strncmp(at, word, n) == 0 && strchr(",\n", at[n])) {
            return true;
        }
    }
    return false;
}

static void no_landlock(struct doctor *d, const char *fix, const char *why)
{
    doctor_find(d, "confined", DOCTOR_WARN, fix,
                "engine and packer can open files: no Landlock, %s", why);
}

/* The kernel has no Landlock in force: with which words it would. */
static void check_landlock(struct doctor *d, bool told)
{
    char list[512], words[600], fix[1024];
    const unsigned r = release(d);
    const bool shown = probe_text(&d->probe, "/sys/kernel/security/lsm", list, sizeof(list)) == 0;
    const char *others = strncmp(list, "capability,", 11) == 0 ? list + 11 : list;

    if (r > 0 && r < LANDLOCK_SINCE) {
        no_landlock(d, "run Linux 5.13 or later", "which this kernel is too old for");
    } else if (shown && !in_list(list, "landlock")) {
        (void)snprintf(words, sizeof(words), "lsm=landlock,%.*s", (int)strcspn(others, "\n"),
                       others);
        doctor_boot_fix(d, words, fix, sizeof(fix));
        no_landlock(d, fix, "which is not switched on (or not built in: CONFIG_SECURITY_LANDLOCK)");
    } else if (told && shown) {
        no_landlock(d, ALLOW, "which the kernel has: the unit or a container forbids it");
    } else if (told) {
        no_landlock(d,
                    "sudo mount -t securityfs none /sys/kernel/security, and run this again: it "
                    "says then which word the kernel's command line lacks",
                    "and the kernel does not show whether it has it");
    } else {
        doctor_find(d, "confined", DOCTOR_OK, NULL, "the kernel has what confines the engine");
    }
}

static void check_confined(struct doctor *d)
{
    const char *by = json_string_value(json_object_get(d->status, "confined"));
    const bool told = by && *by;
    const bool has = probe_exists(&d->probe, "/proc/sys/kernel/seccomp/actions_avail");

    if (told && strcmp(by, "seccomp+landlock") == 0) {
        doctor_find(d, "confined", DOCTOR_OK, NULL, "engine and packer: %s", by);
    } else if (told ? strstr(by, "seccomp") != NULL : has) {
        check_landlock(d, told);
    } else if (!has) {
        doctor_find(d, "confined", DOCTOR_WARN,
                    "run a kernel built with CONFIG_SECCOMP_FILTER=y and "
                    "CONFIG_SECURITY_LANDLOCK=y, as distributions' are",
                    "this kernel has no seccomp filters: what reads models and prompts may make "
                    "any system call (%s)",
                    told ? by : "not tried yet");
    } else {
        doctor_find(d, "confined", DOCTOR_WARN, ALLOW,
                    "%s: what reads models and prompts may make any system call, though the kernel "
                    "has seccomp; the unit or a container forbids it, or the daemon was built with "
                    "a sanitizer",
                    by);
    }
}

void doctor_kernel(struct doctor *d)
{
    check_trigger(d);
    check_overcommit(d);
    check_confined(d);
}
