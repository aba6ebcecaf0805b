/* The one file that a verb writes: base/newfile.h, with words to the person, and removed when a
 * signal ends us before it is whole. */
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/newfile.h"
#include "engine/lab/lab.h"

static struct newfile file; /* for the handler */

static void on_signal(int number)
{
    (void)unlink(file.temporary);
    _exit(128 + number);
}

static int refuse(const char *path, int r)
{
    lab_error("%s: %s", path, newfile_why(r));
    return LAB_CANTCREATE;
}

int outfile_check(const char *path)
{
    const int r = newfile_check(path);

    return r == NEWFILE_OK ? LAB_OK : refuse(path, r);
}

int outfile_not_input(const char *path, int fd_in)
{
    struct stat a, b;

    if (fstat(fd_in, &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev &&
        a.st_ino == b.st_ino) {
        lab_error("%s: is the input too", path);
        return LAB_USAGE;
    }
    return LAB_OK;
}

int outfile_begin(const char *path, int *ret_fd)
{
    const struct sigaction action = {.sa_handler = on_signal};

    (void)sigaction(SIGINT, &action, NULL); /* before the file is there */
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGHUP, &action, NULL);
    const int r = newfile_begin(&file, path);
    if (r != NEWFILE_OK) {
        return refuse(path, r);
    }
    *ret_fd = file.fd;
    return LAB_OK;
}

int outfile_commit(const char *path)
{
    const int r = newfile_commit(&file);

    return r < 0 ? lab_errno(path, r) : r > 0 ? refuse(path, r) : LAB_OK;
}

void outfile_abort(void)
{
    newfile_abort(&file);
}
