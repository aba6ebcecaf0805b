#include "tests/support/test.h"

#include "tests/unit/ipc/frames.h"

#include <stdlib.h>
#include <string.h>

#include "ipc/pack.h"

static const char *blank(const char *p)
{
    return p + strspn(p, " ,:");
}

static const char *value(struct packer *out, const char *p);

/* Up to `end`: packed into a buffer of its own, because the count comes first. */
static const char *many(struct packer *out, const char *p, char end)
{
    struct buf inner;
    uint32_t n = 0;
    char *after = NULL;
    const unsigned long times = strtoul(p, &after, 10);

    buf_init(&inner, 1 << 21);
    struct packer in = packer_of(&inner);
    if (after != p && *after == 'x') { /* [300x 7] */
        for (unsigned long i = 0; i < times; i++) {
            p = value(&in, after + 1);
        }
        n = (uint32_t)times;
        p = blank(p);
        assert_int_equal(*p, end);
    } else {
        for (p = blank(p); *p != end; p = blank(p)) {
            p = value(&in, p);
            n++;
        }
    }
    if (end == ']') {
        pack_array(out, n);
    } else {
        assert_int_equal(n % 2, 0);
        pack_map(out, n / 2);
    }
    assert_int_equal(in.error, 0);
    assert_int_equal(buf_append(out->out, inner.data, inner.n), 0);
    buf_deinit(&inner);
    return p + 1;
}

static const char *letters(struct packer *out, const char *p, bool bin)
{
    char *end = NULL;
    const size_t n = strtoul(p, &end, 10);
    char *text = malloc(n + 1);

    assert_int_equal(*end, '>');
    assert_non_null(text);
    memset(text, 'a', n);
    if (bin) {
        pack_bin(out, text, n);
    } else {
        pack_str(out, (struct strview){text, n});
    }
    free(text);
    return end + 1;
}

static const char *number(struct packer *out, const char *p)
{
    const size_t sign = *p == '-';
    const size_t digits = strspn(p + sign, "0123456789");
    char *end = NULL;

    if (digits == 0 || strspn(p + sign + digits, ".e") > 0) { /* nan, inf, 1.5, 1e9 */
        pack_f64(out, strtod(p, &end));
    } else if (sign) {
        pack_int(out, strtoll(p, &end, 10));
    } else {
        pack_uint(out, strtoull(p, &end, 10));
    }
    assert_true(end > p);
    return end;
}

static const char *value(struct packer *out, const char *p)
{
    p = blank(p);
    if (*p == '{') {
        return many(out, p + 1, '}');
    }
    if (*p == '[') {
        return many(out, p + 1, ']');
    }
    if (*p == '\'') {
        const size_t n = strcspn(p + 1, "'");
        pack_str(out, (struct strview){p + 1, n});
        return p + n + 2;
    }
    if (*p == '<' || strncmp(p, "b<", 2) == 0) {
        return letters(out, strchr(p, '<') + 1, *p == 'b');
    }
    if (strncmp(p, "true", 4) == 0 || strncmp(p, "false", 5) == 0) {
        pack_bool(out, *p == 't');
        return p + (*p == 't' ? 4 : 5);
    }
    if (strncmp(p, "null", 4) == 0) {
        assert_int_equal(buf_append(out->out, "\xc0", 1), 0);
        return p + 4;
    }
    return number(out, p);
}

void mp_text(struct buf *out, const char *text)
{
    struct packer p = packer_of(out);

    text = value(&p, text);
    assert_int_equal(*blank(text), '\0');
    assert_int_equal(p.error, 0);
}
