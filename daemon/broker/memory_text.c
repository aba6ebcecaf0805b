/* memory_text: reads the kernel's small text files, line by line, and believes nothing. */
#include "daemon/broker/memory_text.h"

#include <string.h>

#define NO_LIMIT (UINT64_C(1) << 60) /* version 1 says 2^63 less a page for "none" */

bool text_number(uint64_t *ret, const char *text)
{
    uint64_t n = 0;
    const char *at = text + strspn(text, " \t");

    if (*at < '0' || *at > '9') {
        return false;
    }
    for (; *at >= '0' && *at <= '9'; at++) {
        if (__builtin_mul_overflow(n, 10, &n) ||
            __builtin_add_overflow(n, (uint64_t)(*at - '0'), &n)) {
            return false;
        }
    }
    *ret = n;
    return true;
}

static const char *next_line(const char *line)
{
    const char *end = strchr(line, '\n');

    return end && end[1] ? end + 1 : NULL;
}

bool text_keyed(uint64_t *ret, const char *text, const char *key)
{
    const size_t n = strlen(key);

    for (const char *line = text; line; line = next_line(line)) {
        if (strncmp(line, key, n) == 0 && (line[n] == ' ' || line[n] == '\t' || line[n] == ':')) {
            return text_number(ret, line + n + 1);
        }
    }
    return false;
}

bool text_kilobytes(uint64_t *ret, const char *text, const char *key)
{
    uint64_t n;

    return text_keyed(&n, text, key) && !__builtin_mul_overflow(n, 1024, ret);
}

/* "total=123" in the line that begins with `kind`. */
static bool stall_total(uint64_t *ret, const char *text, const char *kind)
{
    for (const char *line = text; line; line = next_line(line)) {
        if (strncmp(line, kind, strlen(kind)) == 0) {
            const char *at = strstr(line, " total=");
            return at && at < line + strcspn(line, "\n") &&
                   text_number(ret, at + strlen(" total="));
        }
    }
    return false;
}

bool text_stall(struct memory_stall *ret, const char *text)
{
    struct memory_stall s = {0};

    if (!stall_total(&s.some_us, text, "some ")) {
        return false;
    }
    if (!stall_total(&s.full_us, text, "full ")) {
        s.full_us = 0;
    }
    *ret = s;
    return true;
}

uint64_t text_limit(const char *text)
{
    uint64_t n;

    return text_number(&n, text) && n < NO_LIMIT ? n : UINT64_MAX;
}

/* Is `name` one of the names in "a,b,c:"? */
static bool listed(const char *list, const char *name)
{
    const size_t n = strlen(name);

    for (const char *at = list;; at++) {
        const size_t len = strcspn(at, ",:\n");
        if (len == n && strncmp(at, name, n) == 0) {
            return true;
        }
        at += len;
        if (*at != ',') {
            return false;
        }
    }
}

/* The kernel writes "/.." for a cgroup outside ours. */
static bool leads_up(const char *path, size_t n)
{
    for (size_t i = 0; i + 3 <= n; i++) {
        if (memcmp(path + i, "/..", 3) == 0 && (i + 3 == n || path[i + 3] == '/')) {
            return true;
        }
    }
    return false;
}

bool text_cgroup(char *ret, size_t room, const char *text, const char *controller)
{
    for (const char *line = text; line; line = next_line(line)) {
        const char *names = line + strcspn(line, ":\n");
        if (*names != ':' || !listed(names + 1, controller)) {
            continue;
        }
        const char *path = names + 1 + strcspn(names + 1, ":\n");
        const size_t n = *path == ':' ? strcspn(path + 1, "\n") : 0;
        if (n == 0 || path[1] != '/' || n >= room || leads_up(path + 1, n)) {
            return false;
        }
        memcpy(ret, path + 1, n);
        ret[n == 1 ? 0 : n] = '\0'; /* the topmost is "", so that files can be named below it */
        return true;
    }
    return false;
}

bool text_major_faults(uint64_t *ret, const char *text)
{
    const char *at = strrchr(text, ')'); /* the name before it may hold anything */

    /* " S ppid pgrp session tty tpgid flags minflt cminflt majflt" */
    for (int field = 0; at && field < 10; field++) {
        at = strchr(at + 1, ' ');
    }
    return at && text_number(ret, at);
}

static int base64_digit(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;

    return at ? (int)(at - digits) : -1;
}

int text_base64(uint8_t *ret, size_t room, const char *text)
{
    const size_t n = strlen(text);
    const size_t pad =
        n >= 4 ? (text[n - 1] == '=') + (text[n - 2] == '=' && text[n - 1] == '=') : 0;
    uint32_t bits = 0;
    size_t out = 0;

    if (n % 4 != 0) {
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        const int digit = i < n - pad ? base64_digit(text[i]) : 0;
        if (digit < 0) {
            return -1;
        }
        bits = bits << 6 | (uint32_t)digit;
        if (i % 4 == 3) {
            const size_t k = i + 1 == n ? 3 - pad : 3;
            for (size_t b = 0; b < k; b++) {
                if (out == room) {
                    return -1;
                }
                ret[out++] = (uint8_t)(bits >> (16 - 8 * b));
            }
            bits = 0;
        }
    }
    return (int)out;
}
