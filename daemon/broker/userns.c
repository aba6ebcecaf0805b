/* userns: who is on the other side of a socket is told in numbers of our own user namespace, and
 * whoever has no number there is nobody. */
#include "daemon/broker/userns.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>

#include "base/whole_file.h"
#include "daemon/broker/log.h"

#define MAP_BYTES_MAX 1024u /* of a longer one the first lines are enough */
#define USERS_MIN 1000u     /* of a namespace that is meant for several: containers have 65536 */

uint64_t userns_users(const char *text, size_t n)
{
    uint64_t sum = 0, number = 0;
    unsigned column = 0; /* of "inside outside count" */
    bool digits = false;

    for (size_t i = 0; i <= n; i++) {
        const char c = i < n ? text[i] : '\n';

        if (c >= '0' && c <= '9') {
            number = number * 10 + (uint64_t)(c - '0');
            digits = true;
            continue;
        }
        if (digits && ++column == 3) {
            sum += number;
        }
        if (c == '\n') {
            column = 0;
        }
        number = 0;
        digits = false;
    }
    return sum;
}

int userns_check(bool service)
{
    char map[MAP_BYTES_MAX];
    const ssize_t n = whole_file_head(map, sizeof(map), AT_FDCWD, "/proc/self/uid_map", 0);
    const uint64_t users = n > 0 ? userns_users(map, (size_t)n) : 0;

    if (users == 0 || users >= USERS_MIN) { /* 0: a system without /proc, or without namespaces */
        return 0;
    }
    log_line(service ? LOG_ERR : LOG_WARNING,
             "this user namespace has %llu of the machine's users, so clients cannot be told "
             "apart%s",
             (unsigned long long)users, service ? ": the unit must not have PrivateUsers=yes" : "");
    return service ? -EPERM : 0;
}
