/* Preloaded into a daemon: a wall clock that a test sets. $ONEBIT_WALL_SHIFT names a file with the
 * seconds, as text, that are added to the time of day; without the file it is right. Clocks that
 * only go forward are left alone. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static time_t shift(void)
{
    const char *path = getenv("ONEBIT_WALL_SHIFT");
    FILE *f = path ? fopen(path, "re") : NULL;
    long s = 0;

    if (f) {
        if (fscanf(f, "%ld", &s) != 1) {
            s = 0;
        }
        (void)fclose(f);
    }
    return (time_t)s;
}

int clock_gettime(clockid_t clock, struct timespec *ret)
{
    const int r = (int)syscall(SYS_clock_gettime, clock, ret);

    if (r == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        ret->tv_sec += shift();
    }
    return r;
}

time_t time(time_t *ret)
{
    struct timespec now = {0};

    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (ret) {
        *ret = now.tv_sec;
    }
    return now.tv_sec;
}
