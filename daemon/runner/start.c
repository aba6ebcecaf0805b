/* Arguments, and what the process is before it does anything: no core dumps of prompts, first in
 * line for the OOM killer, gone when the broker is gone. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/coredump.h"
#include "daemon/runner/runner.h"
#include "ipc/seam.h"

#define EXIT_USAGE 64
#define NICE_PACK 10
#define OOM_SCORE_PACK "1000"
#define OOM_SCORE_ENGINE "500"

struct arguments {
    bool pack, seam;
    uint64_t bytes_max;
    struct runner_options options;
};

static bool parse_number(const char *text, uint64_t max, uint64_t *ret)
{
    char *end = NULL;

    errno = 0;
    const unsigned long long v = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || v > max) {
        return false;
    }
    *ret = v;
    return true;
}

/* The page that the broker watches. The descriptor is not needed any more. */
static bool map_pulse(int fd, struct pulse **ret)
{
    void *page = mmap(NULL, sizeof(**ret), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    (void)close(fd);
    if (page == MAP_FAILED) {
        return false;
    }
    *ret = page; /* until the process ends */
    return true;
}

static bool parse_option(struct arguments *a, int option, const char *value)
{
    uint64_t n = 0;

    switch (option) {
    case 'p':
        a->pack = true;
        return true;
    case 'm':
        return parse_number(value, UINT64_MAX, &a->bytes_max);
    case 's':
        a->seam = true;
        if (!parse_number(value, 1u << 20, &n)) {
            return false;
        }
        a->options.seam_fd = (int)n;
        return true;
    case 'b':
        return parse_number(value, 1u << 20, &n) && map_pulse((int)n, &a->options.pulse);
    case 'c':
        return cpu_level_parse(value, &a->options.cpu) && cpu_level_present(a->options.cpu);
    case 't':
        if (!parse_number(value, SEAM_THREADS_MAX, &n) || n == 0) {
            return false;
        }
        a->options.n_threads = a->options.n_threads_most = (unsigned)n;
        return true;
    case 'k':
        if (!parse_number(value, STEP_TOKENS_MAX, &n) || n == 0) {
            return false;
        }
        a->options.step_tokens_max = (size_t)n;
        return true;
    default:
        return false;
    }
}

static bool parse_arguments(struct arguments *a, int argc, char **argv)
{
    static const struct option options[] = {
        {"pack", no_argument, NULL, 'p'},        {"max-bytes", required_argument, NULL, 'm'},
        {"seam", required_argument, NULL, 's'},  {"pulse", required_argument, NULL, 'b'},
        {"cpu", required_argument, NULL, 'c'},   {"threads", required_argument, NULL, 't'},
        {"chunk", required_argument, NULL, 'k'}, {0},
    };
    int option, at = 0;

    *a = (struct arguments){.options = {.cpu = cpu_level_best(),
                                        .n_threads = engine_threads_default(),
                                        .n_threads_most = engine_threads_most(),
                                        .step_tokens_max = STEP_TOKENS_MAX}};
    while ((option = getopt_long(argc, argv, "", options, &at)) != -1) {
        if (option == '?') {
            return false;
        }
        if (!parse_option(a, option, optarg)) {
            log_line(LOG_ERROR, "--%s: \"%s\" cannot be had here", options[at].name, optarg);
            return false;
        }
    }
    return optind == argc && a->pack != a->seam;
}

static void set_oom_score(const char *score)
{
    const int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd >= 0) {
        (void)!write(fd, score, strlen(score));
        (void)close(fd);
    }
}

/* False when the broker died before it could be asked for. */
static bool die_with_parent(pid_t parent)
{
    return prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent;
}

static void ignore_signals(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN); /* a limit on files is an error like a full disk */
}

int runner_main(int argc, char **argv, const struct runner_hooks *hooks)
{
    const pid_t parent = getppid();
    struct arguments a;

    log_init();
    ignore_signals();
    if (!parse_arguments(&a, argc, argv)) {
        (void)fprintf(
            stderr,
            "usage: onebit-runner --pack [--max-bytes N]\n"
            "       onebit-runner --seam FD [--pulse FD] [--cpu LEVEL] [--threads N] [--chunk N]\n"
            "Started by onebitd; of no use by hand.\n");
        return EXIT_USAGE;
    }
    if (!die_with_parent(parent)) {
        return 0;
    }
    set_oom_score(a.pack ? OOM_SCORE_PACK : OOM_SCORE_ENGINE); /* as long as /proc is ours */
    coredump_forbid();
    if (a.pack) {
        (void)setpriority(PRIO_PROCESS, 0, NICE_PACK);
        return pack_main(a.bytes_max);
    }
    (void)signal(SIGINT, SIG_IGN); /* the broker ends us by closing the seam */
    (void)signal(SIGTERM, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN);
    (void)fcntl(a.options.seam_fd, F_SETFD, FD_CLOEXEC);
    return loop_main(&a.options, hooks);
}
