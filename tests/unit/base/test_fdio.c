#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/fdio.h"

#define MUCH ((size_t)4 << 20) /* far more than a pipe holds */

struct drain {
    int fd;
    size_t n;
    bool right;
};

static void *drain(void *user)
{
    struct drain *d = user;
    uint8_t piece[5000];
    ssize_t got;

    d->right = true;
    while ((got = fd_read_some(d->fd, piece, sizeof(piece))) > 0) {
        for (ssize_t i = 0; i < got; i++) {
            d->right = d->right && piece[i] == (uint8_t)(d->n++ % 251);
        }
    }
    return NULL;
}

static void on_alarm(int number)
{
    (void)number;
}

/* Goal: neither a part done nor a signal ends it. Method: a pipe that is emptied in small pieces,
 * while a timer without SA_RESTART interrupts both sides every 0.2 ms. */
static void all_bytes_go_through_a_pipe_in_spite_of_signals(void **state)
{
    const struct sigaction action = {.sa_handler = on_alarm};
    const struct itimerval often = {.it_interval = {.tv_usec = 200}, .it_value = {.tv_usec = 200}};
    const struct itimerval never = {.it_value = {.tv_usec = 0}};
    struct sigaction had;
    struct drain d = {0};
    pthread_t thread;
    int ends[2];
    (void)state;

    uint8_t *bytes = malloc(MUCH);
    for (size_t i = 0; i < MUCH; i++) {
        bytes[i] = (uint8_t)(i % 251);
    }
    assert_int_equal(pipe(ends), 0);
    d.fd = ends[0];
    assert_int_equal(sigaction(SIGALRM, &action, &had), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
    assert_int_equal(pthread_create(&thread, NULL, drain, &d), 0);
    const int r = fd_write_all(ends[1], bytes, MUCH);
    (void)close(ends[1]);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
    assert_int_equal(sigaction(SIGALRM, &had, NULL), 0);
    assert_int_equal(r, 0);
    assert_int_equal(d.n, MUCH);
    assert_true(d.right);
    (void)close(ends[0]);
    free(bytes);
}

static void bytes_are_written_and_read_where_they_belong(void **state)
{
    char text[8] = {0};
    const int fd = memfd_create("test", MFD_CLOEXEC);
    (void)state;

    assert_true(fd >= 0);
    assert_int_equal(fd_write_all(fd, "hello", 5), 0);
    assert_int_equal(fd_write_all_at(fd, "LL", 2, 2), 0);
    assert_int_equal(fd_write_all(fd, "!", 1), 0); /* goes on where the first one ended */
    assert_int_equal(fd_read_all_at(fd, text, 6, 0), 0);
    assert_string_equal(text, "heLLo!");
    assert_int_equal(fd_read_all_at(fd, text, 3, 2), 0);
    assert_memory_equal(text, "LLo", 3);
    assert_int_equal(fd_read_all_at(fd, text, 0, 99), 0);
    (void)close(fd);
}

static void an_end_too_early_a_full_disk_and_a_wrong_descriptor_are_told(void **state)
{
    char text[8];
    const int fd = memfd_create("test", MFD_CLOEXEC);
    const int full = open("/dev/full", O_RDWR | O_CLOEXEC);
    (void)state;

    assert_int_equal(fd_write_all(fd, "hello", 5), 0);
    assert_int_equal(fd_read_all_at(fd, text, 6, 0), -EIO);
    assert_int_equal(fd_read_all_at(fd, text, 1, 5), -EIO);
    assert_int_equal(fd_read_some(fd, text, 1), 0);
    assert_int_equal(fd_write_all(full, "hello", 5), -ENOSPC);
    assert_int_equal(fd_write_all_at(full, "hello", 5, 0), -ENOSPC);
    assert_int_equal(fd_write_all(full, "hello", 0), 0);
    (void)close(full);
    (void)close(fd);
    assert_int_equal(fd_read_some(fd, text, 1), -EBADF);
    assert_int_equal(fd_write_all(fd, "hello", 5), -EBADF);
    assert_int_equal(fd_write_all_at(fd, "hello", 5, 0), -EBADF);
    assert_int_equal(fd_read_all_at(fd, text, 1, 0), -EBADF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_bytes_go_through_a_pipe_in_spite_of_signals),
        cmocka_unit_test(bytes_are_written_and_read_where_they_belong),
        cmocka_unit_test(an_end_too_early_a_full_disk_and_a_wrong_descriptor_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
