/* make: a model of random weights in the shape of a real one.
 *
 * Speed, memory and file handling do not depend on what the weights are, so such a model measures
 * like the real one. The file is written under a temporary name beside its own, synced and renamed:
 * a reader sees all of it or nothing. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/lab/lab.h"
#include "engine/lab/make.h"

/* The temporary file, for the handler that removes it when a signal ends us. */
static char temporary[PATH_MAX];

static void on_signal(int number)
{
    (void)unlink(temporary);
    _exit(128 + number);
}

static int create(const char *path, int *ret_fd)
{
    const int n = snprintf(temporary, sizeof(temporary), "%s.XXXXXX", path);
    const struct sigaction action = {.sa_handler = on_signal};

    if (n < 0 || (size_t)n >= sizeof(temporary)) {
        return -ENAMETOOLONG;
    }
    (void)sigaction(SIGINT, &action, NULL); /* before the file is there */
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGHUP, &action, NULL);
    const int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    *ret_fd = fd;
    return 0;
}

/* Make the new name itself durable. */
static int sync_folder(const char *path)
{
    char copy[PATH_MAX];

    (void)snprintf(copy, sizeof(copy), "%s", path);
    const int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    const int r = fsync(fd) < 0 && errno != EINVAL ? -errno : 0;
    (void)close(fd);
    return r;
}

static int finish(int fd, const char *path)
{
    const mode_t mask = umask(0);
    (void)umask(mask);

    if (fchmod(fd, 0666 & ~mask) < 0 || fsync(fd) < 0) {
        return -errno;
    }
    if (rename(temporary, path) < 0) {
        return -errno;
    }
    return sync_folder(path);
}

/* Every shape's rows are whole blocks of every one of these. */
static int check_format(const char *option, const char *format)
{
    static const char *const formats[] = {"Q1_0", "Q8_0", "TQ2_0", "F16", "BF16", "F32"};

    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        if (strcmp(format, formats[i]) == 0) {
            return LAB_OK;
        }
    }
    lab_error("%s: %s is none of Q1_0, Q8_0, TQ2_0, F16, BF16, F32", option, format);
    return LAB_USAGE;
}

static int write_file(const struct lab_args *a, const struct shape *shape, const char *head)
{
    int fd = -1;
    int r = create(a->path, &fd);

    if (r < 0) {
        lab_error("%s: %s", a->path, strerror(-r));
        return LAB_CANTCREATE;
    }
    r = shape_write(shape, a->format, head, a->seed, fd);
    if (r == 0) {
        r = finish(fd, a->path);
    }
    if (r < 0) {
        (void)unlink(temporary);
    }
    (void)close(fd);
    return r < 0 ? lab_errno(a->path, r) : LAB_OK;
}

int verb_make(const struct lab_args *a)
{
    if (!a->shape || !a->format) {
        lab_error("--shape and --format are both needed");
        return LAB_USAGE;
    }
    const struct shape *shape = shape_find(a->shape);
    if (!shape) {
        lab_error("--shape: none is called %s (%s)", a->shape, shape_names());
        return LAB_USAGE;
    }
    const char *head = a->head ? a->head : a->format;
    int r = check_format("--format", a->format);
    if (r == LAB_OK) {
        r = check_format("--head", head);
    }
    return r == LAB_OK ? write_file(a, shape, head) : r;
}
