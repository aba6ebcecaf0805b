/* Reading whole inputs and printing: text that cannot drive a terminal, JSON that is always
 * valid. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "engine/lab/lab.h"

/* Bytes of the UTF-8 character at p, or 0 when there is none. */
static size_t utf8_char(const uint8_t *p, size_t n)
{
    if (p[0] < 0x80) {
        return 1;
    }
    const size_t want = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || n < want) {
        return 0;
    }
    uint32_t c = p[0] & (0xffu >> (want + 1));
    for (size_t i = 1; i < want; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
        c = c << 6 | (p[i] & 0x3f);
    }
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (c < least[want] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff)) {
        return 0;
    }
    return want;
}

bool text_is_utf8(const char *p, size_t n)
{
    for (size_t i = 0; i < n;) {
        const size_t k = utf8_char((const uint8_t *)p + i, n - i);
        if (k == 0) {
            return false;
        }
        i += k;
    }
    return true;
}

/* May a terminal have these k bytes? C0 but line end and tab, DEL and C1 are orders to it. */
static bool harmless(const uint8_t *p, size_t k)
{
    if (k == 1) {
        return (p[0] >= 0x20 && p[0] != 0x7f) || p[0] == '\n' || p[0] == '\t';
    }
    return k > 0 && !(k == 2 && p[0] == 0xc2 && p[1] < 0xa0);
}

void out_text(FILE *f, bool escape, const char *p, size_t n)
{
    if (!escape) {
        (void)fwrite(p, 1, n, f);
        return;
    }
    const uint8_t *u = (const uint8_t *)p;
    for (size_t i = 0; i < n;) {
        const size_t k = utf8_char(u + i, n - i);
        const size_t step = k ? k : 1;
        if (harmless(u + i, k)) {
            (void)fwrite(u + i, 1, k, f);
        } else {
            for (size_t j = 0; j < step; j++) {
                (void)fprintf(f, "\\x%02x", u[i + j]);
            }
        }
        i += step;
    }
}

bool out_is_terminal(void)
{
    return isatty(STDOUT_FILENO) == 1;
}

int out_done(void)
{
    if (fflush(stdout) != 0 || ferror(stdout)) {
        lab_error("standard output: %s", strerror(errno));
        return LAB_IO;
    }
    return LAB_OK;
}

void lab_error(const char *fmt, ...)
{
    char line[1024];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    for (char *p = line; *p; p++) {
        if (*p == '\n') {
            *p = ' '; /* one line, whatever a name holds */
        }
    }
    (void)fputs("onebit-lab: ", stderr);
    out_text(stderr, true, line, strlen(line));
    (void)fputc('\n', stderr);
}

int lab_errno(const char *what, int r)
{
    lab_error("%s: %s", what, strerror(-r));
    switch (-r) {
    case ENOENT:
    case ENOTDIR:
    case EACCES:
    case EISDIR:
    case ELOOP:
    case ENAMETOOLONG:
        return LAB_NOINPUT;
    case EIO:
    case ENOSPC:
    case EFBIG:
        return LAB_IO;
    default:
        return LAB_OS;
    }
}

/* The same bytes with U+FFFD for each byte that belongs to no character; malloc'ed. */
static char *repaired(const char *p, size_t n, size_t *ret_n)
{
    char *out = malloc(n * 3 + 1);
    size_t at = 0;

    for (size_t i = 0; out && i < n;) {
        const size_t k = utf8_char((const uint8_t *)p + i, n - i);
        memcpy(out + at, k ? p + i : "\xef\xbf\xbd", k ? k : 3);
        at += k ? k : 3;
        i += k ? k : 1;
    }
    *ret_n = at;
    return out;
}

json_t *json_bytes(const char *p, size_t n)
{
    json_t *s = json_stringn(n ? p : "", n);

    if (!s) { /* no UTF-8, or no memory: then the second try fails too */
        size_t fixed_n;
        char *fixed = repaired(p, n, &fixed_n);
        s = fixed ? json_stringn(fixed, fixed_n) : NULL;
        free(fixed);
    }
    return s;
}

json_t *json_ids(const int32_t *ids, size_t n)
{
    json_t *array = json_array();

    for (size_t i = 0; array && i < n; i++) {
        if (json_array_append_new(array, json_integer(ids[i])) != 0) {
            json_decref(array);
            array = NULL;
        }
    }
    return array;
}

int out_json(json_t *value)
{
    if (!value) {
        return lab_errno("JSON", -ENOMEM);
    }
    /* Nine digits give every float32 back exactly. */
    const int r =
        json_dumpf(value, stdout, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
    json_decref(value);
    if (r != 0 || fputc('\n', stdout) == EOF) {
        lab_error("standard output: cannot write");
        return LAB_IO;
    }
    return LAB_OK;
}

json_t *json_parse(const char *what, const void *data, size_t n)
{
    json_error_t error;
    json_t *j = json_loadb(n ? data : "", n, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &error);

    if (!j) {
        lab_error("%s: no JSON: %s at byte %d", what, error.text, error.position);
    }
    return j;
}

uint64_t lab_peak_bytes(void)
{
    FILE *f = fopen("/proc/self/status", "re");
    unsigned long long kib = 0;
    char line[256];

    while (f && fgets(line, sizeof(line), f)) {
        if (sscanf(line, "VmHWM: %llu kB", &kib) == 1) {
            break;
        }
    }
    if (f) {
        (void)fclose(f);
    }
    if (kib == 0) { /* no /proc; this one also counts the process before exec() */
        struct rusage usage;
        kib = getrusage(RUSAGE_SELF, &usage) == 0 ? (unsigned long long)usage.ru_maxrss : 0;
    }
    return kib * 1024;
}

static int read_fd(int fd, const char *path, struct buf *ret)
{
    for (;;) {
        int r = buf_reserve(ret, 65536);
        if (r == -E2BIG) {
            lab_error("%s: more than %zu bytes", path, ret->max);
            return LAB_DATA;
        }
        if (r < 0) {
            return lab_errno(path, r);
        }
        const ssize_t got = read(fd, ret->data + ret->n, ret->room - ret->n);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return lab_errno(path, -errno);
        }
        if (got == 0) {
            return LAB_OK;
        }
        ret->n += (size_t)got;
    }
}

int read_file(const char *path, struct buf *ret)
{
    buf_init(ret, LAB_INPUT_MAX);
    if (strcmp(path, "-") == 0) {
        return read_fd(STDIN_FILENO, "standard input", ret);
    }
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return lab_errno(path, -errno);
    }
    const int r = read_fd(fd, path, ret);
    (void)close(fd);
    return r;
}
