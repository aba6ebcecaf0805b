/* Which devices are removable media, by a sysfs of the test's own. */
#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "daemon/broker/spill.h"

static char root[] = "/tmp/onebit-sysfs-XXXXXX";

static void folder(const char *path)
{
    char whole[512];

    for (const char *at = path; at; at = strchr(at + 1, '/')) {
        (void)snprintf(whole, sizeof(whole), "%s/%.*s", root, (int)(at - path), path);
        (void)mkdir(whole, 0755);
    }
    (void)snprintf(whole, sizeof(whole), "%s/%s", root, path);
    (void)mkdir(whole, 0755);
}

static void file(const char *path, const char *text)
{
    char whole[512];

    (void)snprintf(whole, sizeof(whole), "%s/%s", root, path);
    FILE *f = fopen(whole, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void link_to(const char *path, const char *target)
{
    char whole[512];

    (void)snprintf(whole, sizeof(whole), "%s/%s", root, path);
    assert_int_equal(symlink(target, whole), 0);
}

static int setup(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(root));
    folder("dev/block");
    folder("devices/sda/sda1"); /* a disk and its partition */
    file("devices/sda/removable", "0\n");
    link_to("dev/block/8:0", "../../devices/sda");
    link_to("dev/block/8:1", "../../devices/sda/sda1");
    folder("devices/sdb/sdb1"); /* a stick */
    file("devices/sdb/removable", "1\n");
    link_to("dev/block/8:16", "../../devices/sdb");
    link_to("dev/block/8:17", "../../devices/sdb/sdb1");
    folder("devices/mmcblk0/mmcblk0p2"); /* a card says that it is not removable */
    file("devices/mmcblk0/removable", "0\n");
    link_to("dev/block/179:2", "../../devices/mmcblk0/mmcblk0p2");
    folder("devices/dm-0/slaves"); /* an encrypted card */
    link_to("devices/dm-0/slaves/mmcblk0p2", "../../mmcblk0/mmcblk0p2");
    link_to("dev/block/253:0", "../../devices/dm-0");
    folder("devices/dm-1/slaves"); /* an encrypted disk */
    link_to("devices/dm-1/slaves/sda1", "../../sda/sda1");
    link_to("dev/block/253:1", "../../devices/dm-1");
    folder("devices/dm-2/slaves"); /* a ring of maps */
    link_to("devices/dm-2/slaves/dm-2", "../../dm-2");
    link_to("dev/block/253:2", "../../devices/dm-2");
    return 0;
}

static int teardown(void **state)
{
    char command[64];
    (void)state;

    (void)snprintf(command, sizeof(command), "rm -r %s", root);
    return system(command);
}

static void cards_and_sticks_are_removable_and_disks_are_not(void **state)
{
    static const struct {
        unsigned major, minor;
        bool removable;
    } devices[] = {
        {8, 0, false},  {8, 1, false},   {8, 16, true},   {8, 17, true},  {179, 2, true},
        {253, 0, true}, {253, 1, false}, {253, 2, false}, {0, 45, false}, /* no device at all */
    };
    (void)state;

    for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++) {
        assert_int_equal(media_removable(root, makedev(devices[i].major, devices[i].minor)),
                         devices[i].removable);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cards_and_sticks_are_removable_and_disks_are_not),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
