/* output: standard output, written piece by piece as the answer comes.
 *
 * A reader that does not read (a pager, a stopped terminal) must not keep Ctrl-C from cancelling:
 * so before each piece we wait for room or for a signal, whichever comes first. Pieces are at most
 * PIPE_BUF bytes, which a pipe that reports room takes without blocking. */
#include "client/cli/cli.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void output_init(struct output *o, int signal_fd)
{
    *o = (struct output){.fd = STDOUT_FILENO, .signal_fd = signal_fd};
    o->tty = isatty(o->fd);
}

/* Wait until a piece can be written: 0, -EINTR for a waiting signal, or another errno. */
static int wait_for_room(const struct output *o)
{
    struct pollfd fds[2] = {
        {.fd = o->fd, .events = POLLOUT},
        {.fd = o->signal_fd, .events = POLLIN}, /* -1 is ignored by poll() */
    };

    while (poll(fds, 2, -1) < 0) {
        if (errno != EINTR) {
            return -errno;
        }
    }
    return fds[1].revents ? -EINTR : 0;
}

int output_bytes(struct output *o, const char *bytes, size_t n)
{
    while (n > 0) {
        const int r = wait_for_room(o);
        if (r < 0) {
            return r;
        }
        const ssize_t written = write(o->fd, bytes, n < PIPE_BUF ? n : PIPE_BUF);
        if (written < 0 && (errno == EINTR || errno == EAGAIN)) {
            continue;
        }
        if (written < 0) {
            return -errno;
        }
        o->any = o->any || written > 0;
        o->newline = written > 0 ? bytes[written - 1] == '\n' : o->newline;
        bytes += written;
        n -= (size_t)written;
    }
    return 0;
}

int output_model(struct output *o, const char *text, size_t n)
{
    struct buf safe;

    if (!o->tty) {
        return output_bytes(o, text, n);
    }
    buf_init(&safe, 8 * n + 64); /* at most \xNN for every byte, and what was held */
    int r = escape_text(&o->escaper, &safe, text, n);
    if (r == 0 && safe.n > 0) {
        r = output_bytes(o, (const char *)safe.data, safe.n);
    }
    buf_deinit(&safe);
    return r;
}

int output_end_line(struct output *o)
{
    struct buf rest;

    buf_init(&rest, 64);
    int r = escape_end(&o->escaper, &rest);
    if (r == 0 && rest.n > 0) {
        r = output_bytes(o, (const char *)rest.data, rest.n);
    }
    buf_deinit(&rest);
    return r == 0 && o->any && !o->newline ? output_bytes(o, "\n", 1) : r;
}

int output_exit(int r)
{
    if (r == 0) {
        return 0;
    }
    if (r == -EPIPE) {
        return EXIT_SIGNAL + 13; /* as if SIGPIPE had ended us: nobody is there to be told */
    }
    complain("cannot write to standard output: %s", strerror(-r));
    return r == -ENOMEM ? EXIT_SOFTWARE : EXIT_IO;
}
