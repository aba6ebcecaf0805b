/* memory_watch: one descriptor that the loop waits for.
 *
 * Pressure files can be read at any time, so the loop waits for what is exceptional alone
 * (UV_PRIORITIZED): waiting for what can be read would never sleep. A trigger is written only to a
 * file that is the kernel's: a sysroot's is somebody's test. */
#include "daemon/broker/memory_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/compiler.h"
#include "daemon/broker/log.h"
#include "daemon/broker/memory_text.h"

#define WRITE_MAX 256u /* bytes of $MEMORY_PRESSURE_WRITE, decoded */

static void on_closed(uv_handle_t *handle)
{
    struct memory_watch *w = handle->data;

    (void)close(w->fd);
    w->fd = -1;
    w->calls = false;
    if (w->lost) {
        w->lost(w->user);
    }
}

void memory_watch_close(struct memory_watch *w)
{
    w->lost = NULL;
    if (w->calls && !uv_is_closing((uv_handle_t *)&w->poll)) {
        uv_close((uv_handle_t *)&w->poll, on_closed);
    }
}

/* Read all there is; false at the end of the stream. */
static bool drain(int fd)
{
    char scrap[512];
    ssize_t n;

    for (int i = 0; i < 64; i++) { /* bounded: the loop has others to serve */
        n = read(fd, scrap, sizeof(scrap));
        if (n <= 0) {
            return n < 0 && (errno == EAGAIN || errno == EINTR);
        }
    }
    return true;
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct memory_watch *w = poll->data;

    (void)events;
    if (status < 0 || (w->drain && !drain(w->fd))) {
        log_line(LOG_WARNING, "the memory pressure sensor '%s' went away",
                 memory_source_name(w->source));
        uv_close((uv_handle_t *)poll, on_closed);
        return;
    }
    w->called(w->user);
}

/* The loop waits for fd from here on: takes it over, also on failure. */
static bool wait_for(struct memory_watch *w, uv_loop_t *loop, int fd, bool readable)
{
    if (uv_poll_init(loop, &w->poll, fd) < 0) {
        (void)close(fd); /* a file that cannot be waited for */
        return false;
    }
    w->poll.data = w;
    w->fd = fd;
    w->drain = readable;
    w->calls = true;
    (void)uv_poll_start(&w->poll, readable ? UV_READABLE : UV_PRIORITIZED, on_poll);
    uv_unref((uv_handle_t *)&w->poll);
    return true;
}

/* ---- systemd's protocol ---- */

static int open_socket(const char *path)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof(name.sun_path)) {
        return -ENAMETOOLONG;
    }
    memcpy(name.sun_path, path, strlen(path) + 1);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&name, sizeof(name)) < 0) {
        const int e = -errno;
        (void)close(fd);
        return e;
    }
    return fd >= 0 ? fd : -errno;
}

/* A descriptor of what $MEMORY_PRESSURE_WATCH names, or a negative errno. */
static int open_named(const char *path, const struct stat *st)
{
    if (S_ISSOCK(st->st_mode)) {
        return open_socket(path);
    }
    /* A pipe is held open for writing, too: it does not end when who writes goes. */
    int fd = open(path, O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 && S_ISFIFO(st->st_mode)) {
        fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    }
    return fd >= 0 ? fd : -errno;
}

static bool try_systemd(struct memory_watch *w, uv_loop_t *loop)
{
    const char *path = getenv("MEMORY_PRESSURE_WATCH"), *word = getenv("MEMORY_PRESSURE_WRITE");
    uint8_t bytes[WRITE_MAX];
    struct stat st;

    if (!path || path[0] != '/') {
        return false;
    }
    if (strcmp(path, "/dev/null") == 0) {
        w->forbidden = true;
        return false;
    }
    const int n = word ? text_base64(bytes, sizeof(bytes), word) : 0;
    if (n < 0 || stat(path, &st) < 0 ||
        (!S_ISREG(st.st_mode) && !S_ISFIFO(st.st_mode) && !S_ISSOCK(st.st_mode))) {
        log_line(LOG_WARNING, "MEMORY_PRESSURE_WATCH or MEMORY_PRESSURE_WRITE cannot be used");
        return false;
    }
    const int fd = open_named(path, &st);
    if (fd < 0) {
        log_line(LOG_WARNING, "MEMORY_PRESSURE_WATCH: %s: %s", path, strerror(-fd));
        return false;
    }
    if (n > 0 && !S_ISFIFO(st.st_mode) && write(fd, bytes, (size_t)n) != n) {
        log_line(LOG_WARNING, "MEMORY_PRESSURE_WRITE: %s takes it not: %s", path, strerror(errno));
        (void)close(fd);
        return false;
    }
    if (!wait_for(w, loop, fd, !S_ISREG(st.st_mode))) {
        log_line(LOG_WARNING, "MEMORY_PRESSURE_WATCH: %s cannot be waited for", path);
        return false;
    }
    w->source = SOURCE_SYSTEMD;
    return true;
}

/* ---- the kernel's triggers ---- */

static bool kernels_own(int fd)
{
    struct statfs fs;

    return fstatfs(fd, &fs) == 0 &&
           (fs.f_type == PROC_SUPER_MAGIC || fs.f_type == CGROUP2_SUPER_MAGIC);
}

/* Can it at least be read? If we are permitted to, have it call, too. */
static bool try_trigger(struct memory_watch *w, uv_loop_t *loop, const char *path,
                        enum memory_source source)
{
    /* Windows of a multiple of 2 s are what processes without privileges may ask for. */
    static const char *const words[] = {"some 100000 1000000", "some 200000 2000000"};

    if (!path || access(path, R_OK) < 0) {
        return false;
    }
    w->source = source;
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        const int fd = open(path, O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (fd < 0) {
            return true;
        }
        if (kernels_own(fd) && write(fd, words[i], strlen(words[i]) + 1) > 0) {
            (void)wait_for(w, loop, fd, false);
            return true;
        }
        (void)close(fd);
    }
    return true;
}

void memory_watch_open(struct memory_watch *w, uv_loop_t *loop, const char *own, const char *all,
                       enum memory_source skip)
{
    w->fd = -1;
    w->calls = false;
    w->source = SOURCE_POLL;
    if ((skip <= SOURCE_SYSTEMD && try_systemd(w, loop)) || w->forbidden) {
        return;
    }
    if (skip <= SOURCE_CGROUP_PSI && try_trigger(w, loop, own, SOURCE_CGROUP_PSI)) {
        return;
    }
    if (skip <= SOURCE_SYSTEM_PSI && try_trigger(w, loop, all, SOURCE_SYSTEM_PSI)) {
        return;
    }
}
