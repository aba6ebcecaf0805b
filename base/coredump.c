/* The limit stops files; the dumpable flag stops a core_pattern that is a pipe, which heeds no
 * limit. */
#include "base/coredump.h"

#include <sys/prctl.h>
#include <sys/resource.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#define SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define SANITIZED 0
#endif

void coredump_forbid(void)
{
    const struct rlimit none = {0};

    (void)setrlimit(RLIMIT_CORE, &none);
    if (!SANITIZED) {
        (void)prctl(PR_SET_DUMPABLE, 0);
    }
}
