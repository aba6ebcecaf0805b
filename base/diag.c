/* diag: the first complaint wins, because later ones are usually its echo. */
#include "base/diag.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

void diag_set(struct diag *d, uint64_t offset, const char *fmt, ...)
{
    char raw[sizeof(d->text)];
    size_t at = 0;
    va_list ap;

    if (!d || d->set) {
        return;
    }
    va_start(ap, fmt);
    (void)vsnprintf(raw, sizeof(raw), fmt, ap);
    va_end(ap);

    for (const char *p = raw; *p && at + 5 < sizeof(d->text); p++) {
        const unsigned char c = (unsigned char)*p;
        if (c >= 0x20 && c < 0x7f) {
            d->text[at++] = (char)c;
        } else {
            at += (size_t)snprintf(d->text + at, 5, "\\x%02x", c);
        }
    }
    d->text[at] = '\0';
    d->offset = offset;
    d->set = true;
}
