/* What no engine on this machine can pass: bytes read per second, with small and with huge pages,
 * and int8 multiply-adds per second at each CPU level, for every number of threads up to the
 * processors that this process may use.
 *
 *   limits [--json] [--threads N] [--mib N] [--ms N]
 *
 * --threads: that number alone. --mib: of the region that is read (1024, or a quarter of the
 * memory that is free). --ms: for how long each int8 figure is taken (300); a figure of reading
 * takes ten passes. The best pass or try is the limit; what all of them reached together says how
 * much of it the machine gave just then.
 *
 * Exit: 0, 64 usage, 71 the system failed. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/limits.h"
#include "engine/engine.h"
#include "engine/lab/board.h"

#define PASSES 10u
#define MIB_MAX 65536u

struct args {
    bool json;
    unsigned long threads, mib, ms; /* threads 0: all counts */
};

static bool number(const char *s, unsigned long most, unsigned long *ret)
{
    char *end = NULL;

    if (*s < '0' || *s > '9') {
        return false;
    }
    errno = 0;
    const unsigned long v = strtoul(s, &end, 10);
    if (errno != 0 || *end != '\0' || v < 1 || v > most) {
        return false;
    }
    *ret = v;
    return true;
}

static bool parse(struct args *a, int n, char **argv)
{
    for (int i = 1; i < n; i++) {
        const char *value = i + 1 < n ? argv[i + 1] : "";
        if (strcmp(argv[i], "--json") == 0) {
            a->json = true;
            continue;
        }
        if (!(strcmp(argv[i], "--threads") == 0 && number(value, 64, &a->threads)) &&
            !(strcmp(argv[i], "--mib") == 0 && number(value, MIB_MAX, &a->mib)) &&
            !(strcmp(argv[i], "--ms") == 0 && number(value, 60000, &a->ms))) {
            return false;
        }
        i++;
    }
    return true;
}

static unsigned long mib_default(void)
{
    const long pages = sysconf(_SC_AVPHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    const unsigned long quarter =
        pages > 0 && page > 0 ? (unsigned long)pages / 4 * ((unsigned long)page / 1024) / 1024 : 64;

    return quarter > 1024 ? 1024 : quarter < 16 ? 16 : quarter;
}

static int append(json_t *rows, json_t *row)
{
    return json_array_append_new(rows, row) == 0 ? 0 : -ENOMEM;
}

/* One figure of reading, appended to rows. */
static int read_one(const struct args *a, unsigned n_threads, bool huge, json_t *rows)
{
    const struct bandwidth_ask ask = {
        .n_threads = n_threads,
        .n_passes = PASSES,
        .bytes = (uint64_t)a->mib << 20,
        .pages = huge ? BANDWIDTH_PAGES_HUGE : BANDWIDTH_PAGES_SMALL,
    };
    struct bandwidth got;
    const int r = bandwidth_measure(&ask, &got);

    if (r < 0) {
        return r;
    }
    if (!a->json) {
        (void)printf("read, %u thread%s, %-14s %8.2f GB/s, on average %.2f", n_threads,
                     n_threads > 1 ? "s" : " ",
                     huge ? "2 MiB pages:" : "4 KiB pages:", got.rate * 1e-9, got.mean_rate * 1e-9);
        (void)printf(huge && got.huge_share < 0.9 ? "  (the system gave %.0f %% in huge pages)\n"
                                                  : "\n",
                     got.huge_share * 100);
    }
    return append(rows, json_pack("{s:i, s:s, s:f, s:f, s:f}", "threads", (int)n_threads, "pages",
                                  huge ? "2M" : "4K", "gb_per_s", got.rate * 1e-9, "mean_gb_per_s",
                                  got.mean_rate * 1e-9, "huge_share", got.huge_share));
}

static int mac_one(const struct args *a, unsigned n_threads, enum cpu_level level, json_t *rows)
{
    struct mac_way way;
    struct mac_rate rate;

    if (!mac_way(level, &way) || !cpu_level_present(level)) {
        return 0;
    }
    const int r = mac_measure(level, n_threads, (unsigned)a->ms, &rate);
    if (r < 0) {
        return r;
    }
    if (!a->json) {
        (void)printf("int8, %u thread%s, %-14s %8.1f G MAC/s, on average %.1f  (%s)\n", n_threads,
                     n_threads > 1 ? "s" : " ", cpu_level_name(level), rate.best * 1e-9,
                     rate.mean * 1e-9, way.how);
    }
    return append(rows, json_pack("{s:i, s:s, s:f, s:f, s:s}", "threads", (int)n_threads, "level",
                                  cpu_level_name(level), "g_mac_per_s", rate.best * 1e-9,
                                  "mean_g_mac_per_s", rate.mean * 1e-9, "how", way.how));
}

static int measure(const struct args *a, json_t *reads, json_t *macs)
{
    const unsigned all = engine_threads_default();
    const unsigned first = a->threads ? (unsigned)a->threads : 1;
    const unsigned last = a->threads ? first : all;
    int r = 0;

    for (unsigned n = first; r == 0 && n <= last; n++) {
        for (int huge = 0; r == 0 && huge < 2; huge++) {
            r = read_one(a, n, huge == 1, reads);
        }
        for (int level = 0; r == 0 && level < CPU_LEVELS; level++) {
            r = mac_one(a, n, (enum cpu_level)level, macs);
        }
    }
    return r;
}

int main(int argc, char **argv)
{
    struct args a = {.mib = mib_default(), .ms = 300};

    if (!parse(&a, argc, argv)) {
        (void)fputs("usage: limits [--json] [--threads N] [--mib N] [--ms N]\n", stderr);
        return 64;
    }
    const double hertz = core_hertz();
    json_t *reads = json_array(), *macs = json_array();
    json_t *all = json_pack("{s:f, s:s, s:o, s:o}", "core_ghz", hertz * 1e-9, "level",
                            cpu_level_name(cpu_level_best()), "read", reads, "int8", macs);
    int r = all ? 0 : -ENOMEM;
    if (r == 0 && !a.json) {
        (void)printf("core at %.2f GHz\n", hertz * 1e-9);
    }
    if (r == 0) {
        r = measure(&a, reads, macs);
    }
    if (r == 0 && a.json && json_dumpf(all, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) == 0) {
        (void)putchar('\n');
    }
    json_decref(all);
    if (r < 0) {
        (void)fprintf(stderr, "limits: %s\n", strerror(-r));
        return 71;
    }
    return fflush(stdout) == 0 ? 0 : 74;
}
