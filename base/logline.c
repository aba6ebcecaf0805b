/* logline: the prefix, the text, and nothing in it that could drive a terminal or forge a line. */
#include "base/logline.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool logline_names(const char *stream, uint64_t device, uint64_t inode)
{
    char want[48];

    (void)snprintf(want, sizeof(want), "%llu:%llu", (unsigned long long)device,
                   (unsigned long long)inode);
    return stream && strcmp(stream, want) == 0;
}

bool logline_journal(void)
{
    struct stat st;

    return fstat(STDERR_FILENO, &st) == 0 &&
           logline_names(getenv("JOURNAL_STREAM"), st.st_dev, st.st_ino);
}

size_t logline_make(char *line, int priority, const char *who, const char *fmt, va_list args)
{
    const size_t room = LOGLINE_MAX - 1; /* the newline's place is kept */
    char head[8] = "";
    size_t n;
    int want;

    if (priority >= 0 && priority <= LOGLINE_PRIORITY_MAX) {
        (void)snprintf(head, sizeof(head), "<%d>", priority);
    }
    want = snprintf(line, room, "%s%s", head, who);
    n = want < 0 ? 0 : (size_t)want < room ? (size_t)want : room - 1;
    const size_t start = n;
    want = vsnprintf(line + n, room - n, fmt, args);
    n += want < 0 ? 0 : (size_t)want < room - n ? (size_t)want : room - n - 1;
    for (size_t i = start; i < n; i++) {
        if ((unsigned char)line[i] < ' ' || line[i] == 0x7f) {
            line[i] = '?';
        }
    }
    line[n++] = '\n';
    return n;
}
