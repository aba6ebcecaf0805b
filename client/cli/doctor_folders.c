/* doctor: the folders in which the daemon keeps packed models, KV and sessions, and their disks. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "client/cli/doctor.h"

#define CACHE_ROOM_MIN 256e6   /* bytes: less, and a small model may not be packed */
#define SESSIONS_ROOM_MIN 16e6 /* bytes: a few long conversations */
#define DISK_FULL 1e6          /* bytes: less is nothing */

/* The name of a block device as the kernel has it: "mmcblk0" for a card's partition as well. */
static bool device_link(const struct doctor *d, dev_t dev, char *ret, size_t n)
{
    char path[PATH_MAX];
    const int made = snprintf(path, sizeof(path), "%s/sys/dev/block/%u:%u", d->probe.root,
                              major(dev), minor(dev));

    if (made < 0 || made >= (int)sizeof(path)) {
        return false;
    }
    const ssize_t got = readlink(path, ret, n - 1);
    ret[got > 0 ? got : 0] = '\0';
    return got > 0;
}

bool doctor_removable(const struct doctor *d, dev_t dev)
{
    char path[128], text[8];

    for (int up = 0; up < 2; up++) { /* a partition has it in its disk's folder */
        (void)snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%sremovable", major(dev),
                       minor(dev), up ? "../" : "");
        if (probe_text(&d->probe, path, text, sizeof(text)) == 0) {
            return text[0] == '1';
        }
    }
    return false;
}

/* Is there room for what the daemon keeps there? */
static void check_room(struct doctor *d, const char *check, const char *folder, const char *fix,
                       double least)
{
    struct statfs fs;

    if (statfs(folder, &fs) < 0) {
        return; /* it has been told what is wrong with the folder */
    }
    const double room = (double)fs.f_bavail * (double)fs.f_bsize;
    if (room < DISK_FULL) {
        doctor_find(d, check, DOCTOR_BAD, fix, "the disk of %s is full", folder);
    } else if (room < least) {
        doctor_find(d, check, DOCTOR_WARN, fix, "%.0f MB are left on the disk of %s", room / 1e6,
                    folder);
    } else {
        doctor_find(d, check, DOCTOR_OK, NULL, "%.1f GB are left on the disk of %s", room / 1e9,
                    folder);
    }
}

/* Is it a disk for packed models and KV? */
static void check_cache_disk(struct doctor *d)
{
    static const char check[] = "cache-disk";
    struct stat st;
    char device[PATH_MAX];

    if (stat(d->cache, &st) < 0) {
        return; /* it has been told what is wrong with the folder */
    }
    const bool known = device_link(d, st.st_dev, device, sizeof(device));
    if (known && strstr(device, "/mmcblk")) {
        doctor_find(d, check, DOCTOR_WARN, "put it on an SSD: dir in [cache] of the configuration",
                    "%s is on an SD card or eMMC: packed models load slowly from there, and KV is "
                    "never spilled to it",
                    d->cache);
    } else if (doctor_removable(d, st.st_dev)) {
        doctor_find(d, check, DOCTOR_WARN,
                    "put it on a fixed disk: dir in [cache] of the configuration",
                    "%s is on a disk that can be removed: KV is never spilled to it", d->cache);
    } else {
        check_room(d, check, d->cache, "make room: delete packed models that are no longer used",
                   CACHE_ROOM_MIN);
    }
}

/* Can the daemon keep something in its folder? */
static void check_folder(struct doctor *d, const char *check, const char *folder)
{
    struct stat st, process;
    struct statfs fs;
    char path[64], fix[PATH_MAX + 64];

    if (stat(folder, &st) < 0) {
        const int e = errno;
        if (e == EACCES && geteuid() != 0) {
            doctor_find(d, check, DOCTOR_OK, NULL, "not looked at: this user may not see %s",
                        folder);
        } else if (e == ENOENT && !d->status) {
            doctor_find(d, check, DOCTOR_WARN, "onebitd makes it when it starts", "%s: %s", folder,
                        strerror(e));
        } else {
            doctor_find(d, check, DOCTOR_BAD,
                        e == ENOENT ? "restart onebitd, which makes it"
                                    : "look at the folders above it",
                        "%s: %s", folder, strerror(e));
        }
        return;
    }
    (void)snprintf(path, sizeof(path), "/proc/%ld", (long)d->pid);
    const uid_t uid = d->pid > 0 && stat(path, &process) == 0 ? process.st_uid : geteuid();
    (void)snprintf(fix, sizeof(fix), "sudo chown %u %s && sudo chmod 700 %s", (unsigned)uid, folder,
                   folder);
    if (!S_ISDIR(st.st_mode)) {
        doctor_find(d, check, DOCTOR_BAD, "move it away; onebitd makes the folder",
                    "%s is no folder", folder);
    } else if (statfs(folder, &fs) == 0 && (fs.f_flags & 1)) { /* ST_RDONLY */
        (void)snprintf(fix, sizeof(fix), "name another folder: dir in [%s]", check);
        doctor_find(d, check, DOCTOR_BAD, fix, "%s is on a read-only file system", folder);
    } else if (uid != 0 && (st.st_uid != uid || (st.st_mode & 0700) != 0700)) {
        doctor_find(d, check, DOCTOR_BAD, fix,
                    "the daemon (uid %u) cannot write to %s (uid %u, mode %04o)", (unsigned)uid,
                    folder, (unsigned)st.st_uid, st.st_mode & 07777);
    } else {
        doctor_find(d, check, DOCTOR_OK, NULL, "the daemon can write to %s", folder);
    }
}

void doctor_folders(struct doctor *d)
{
    if (d->status && !d->system && !json_object_get(d->status, "paths")) {
        doctor_find(d, "cache", DOCTOR_OK, NULL,
                    "not looked at: the daemon tells its folders to root and its own user alone");
        return;
    }
    if (d->cache) {
        check_folder(d, "cache", d->cache);
        check_cache_disk(d);
    }
    if (d->sessions) {
        check_folder(d, "sessions", d->sessions);
        check_room(d, "sessions-disk", d->sessions,
                   "make room: what is said in sessions is not kept over a restart",
                   SESSIONS_ROOM_MIN);
    }
}
