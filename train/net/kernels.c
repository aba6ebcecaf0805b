/* kernels: OpenBLAS reads OPENBLAS_CORETYPE when it is loaded, so a better choice takes a new
 * process, to which a second variable says who set the first. */
#include "train/net/kernels.h"

#include <cblas.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/compiler.h"

#define CORETYPE "OPENBLAS_CORETYPE"
#define MARK "ONEBIT_TRAIN_KERNELS"

static enum net_kernels_by by = KERNELS_BY_OPENBLAS;

const char *net_kernels(void)
{
    return openblas_get_corename();
}

const char *kernels_better(const char *chosen, bool v3, bool v4)
{
    /* What OpenBLAS falls back on. No CPU of these names has AVX2. */
    static const char *const fallbacks[] = {"Prescott", "Nehalem", "Sandybridge", "Barcelona"};

    for (size_t i = 0; (v3 || v4) && i < ARRAY_SIZE(fallbacks); i++) {
        if (strcmp(chosen, fallbacks[i]) == 0) {
            return v4 ? "SkylakeX" : "Haswell";
        }
    }
    return NULL;
}

static const char *better_here(void)
{
#if defined(__x86_64__)
    const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vl");

    return kernels_better(net_kernels(), v3, v4);
#else
    return NULL;
#endif
}

/* By its own name, which ps shows. Returns where that cannot be. */
static void start_again(char **argv)
{
    char path[PATH_MAX];
    const ssize_t n = readlink("/proc/self/exe", path, sizeof(path));

    if (n > 0 && (size_t)n < sizeof(path)) {
        path[n] = '\0';
        (void)execv(path, argv);
    }
}

void kernels_take(char **argv)
{
    if (getenv(MARK)) {
        by = KERNELS_BY_US;
        (void)unsetenv(MARK);
        (void)unsetenv(CORETYPE);
        return;
    }
    if (getenv(CORETYPE)) {
        by = KERNELS_BY_PERSON;
        return;
    }
    const char *better = better_here();
    if (better && setenv(CORETYPE, better, 1) == 0 && setenv(MARK, better, 1) == 0) {
        start_again(argv);
    }
    if (better) { /* slow ones will do */
        (void)unsetenv(MARK);
        (void)unsetenv(CORETYPE);
    }
}

enum net_kernels_by kernels_by(void)
{
    return by;
}
