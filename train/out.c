/* Words to the person, and the exit codes that go with them. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "engine/engine.h"
#include "train/train.h"

void train_error(const char *fmt, ...)
{
    char line[1024];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    (void)fputs("onebit-train: ", stderr);
    for (const char *p = line; *p; p++) {
        if (*p >= 0x20 && *p < 0x7f) {
            (void)fputc(*p, stderr);
        } else {
            (void)fprintf(stderr, "\\x%02x", (unsigned char)*p);
        }
    }
    (void)fputc('\n', stderr);
}

int train_errno(const char *what, int r)
{
    train_error("%s: %s", what, strerror(-r));
    switch (-r) {
    case ENOENT:
    case ENOTDIR:
    case EACCES:
    case EISDIR:
    case ELOOP:
    case ENAMETOOLONG:
        return TRAIN_NOINPUT;
    case EIO:
    case ENOSPC:
    case EFBIG:
        return TRAIN_IO;
    default:
        return TRAIN_OS;
    }
}

int train_refuse(const char *path, const struct diag *d)
{
    train_error("%s: %s", path, d->set ? d->text : "no reason given");
    return TRAIN_DATA;
}

int train_model_outcome(const char *path, int r, const struct diag *d)
{
    const char *why = d->set ? d->text : "no reason given";

    if (r == MODEL_OK) {
        return TRAIN_OK;
    }
    if (r < 0) {
        return train_errno(path, r);
    }
    train_error("%s: %s: %s (at byte %llu)", path,
                r == MODEL_MALFORMED ? "malformed"
                : r == MODEL_TOO_BIG ? "too big"
                                     : "unsupported",
                why, (unsigned long long)d->offset);
    return r == MODEL_MALFORMED ? TRAIN_DATA : TRAIN_UNAVAILABLE;
}

int train_done(void)
{
    if (fflush(stdout) != 0 || ferror(stdout)) {
        train_error("standard output: %s", strerror(errno));
        return TRAIN_IO;
    }
    return TRAIN_OK;
}
