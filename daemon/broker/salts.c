/* salts: a list, the longest unused first, and a file of a magic word, a count, the entries in that
 * order and a checksum, all little-endian.
 *
 * The checksum finds rot: a uid with a wrong bit would give one user's salt to another. Against
 * malice stands that nobody but the daemon's user can write, or read, the file; and whatever it
 * says, two never share a salt. */
#include "daemon/broker/salts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/cursor.h"
#include "base/fnv.h"

#define MAGIC "onebslt1"
#define MAGIC_BYTES 8u
#define SUM_BYTES 8u
#define ENTRY_MIN (4u + SEAM_SALT + 1u)

_Static_assert(UNIT_MAX <= UINT8_MAX, "a unit's length fits a byte");

struct salt {
    struct list link;
    uid_t uid;
    uint8_t bytes[SEAM_SALT];
    char unit[];
};

static const uint8_t everybodys[SEAM_SALT]; /* all zero: of public prefixes */

void salts_init(struct salts *t)
{
    *t = (struct salts){0};
    list_init(&t->all);
}

static void forget(struct salts *t, struct salt *s)
{
    list_remove(&s->link);
    t->n--;
    free(s);
}

void salts_deinit(struct salts *t)
{
    list_for_each (s, next, &t->all, struct salt, link) {
        forget(t, s);
    }
}

static struct salt *salt_new(uid_t uid, struct strview unit)
{
    struct salt *s = calloc(1, sizeof(*s) + unit.n + 1);

    if (s) {
        s->uid = uid;
        strview_copy(s->unit, unit.n + 1, unit);
        list_init(&s->link);
    }
    return s;
}

static bool draw(uint8_t *bytes, size_t n)
{
    size_t got = 0;

    while (got < n) {
        const ssize_t more = getrandom(bytes + got, n - got, 0);
        if (more < 0 && errno != EINTR) {
            return false;
        }
        got += more > 0 ? (size_t)more : 0;
    }
    return true;
}

static struct salt *salt_drawn(struct salts *t, uid_t uid, const char *unit)
{
    struct salt *s = salt_new(uid, strview_of(unit));

    do {
        if (!s || !draw(s->bytes, sizeof(s->bytes))) {
            free(s); /* never a salt that somebody could guess */
            return NULL;
        }
    } while (memcmp(s->bytes, everybodys, sizeof(everybodys)) == 0);
    if (t->n == SALTS_MAX) {
        forget(t, container_of(t->all.next, struct salt, link));
    }
    t->n++;
    t->n_drawn++;
    return s;
}

bool salts_get(struct salts *t, uid_t uid, const char *unit, uint8_t ret[SEAM_SALT])
{
    struct salt *found = NULL;

    list_for_each (s, next, &t->all, struct salt, link) {
        if (s->uid == uid && strcmp(s->unit, unit) == 0) {
            found = s;
            break;
        }
    }
    if (!found && !(found = salt_drawn(t, uid, unit))) {
        return false;
    }
    list_remove(&found->link);
    list_push(&t->all, &found->link);
    memcpy(ret, found->bytes, sizeof(found->bytes));
    return true;
}

/* ---- writing ---- */

static void put_le(uint8_t *to, uint64_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        to[i] = (uint8_t)(v >> (8 * i));
    }
}

static int put_salt(struct buf *out, const struct salt *s)
{
    const size_t n_unit = strlen(s->unit);
    uint8_t entry[SALTS_ENTRY_MAX];

    put_le(entry, s->uid, 4);
    memcpy(entry + 4, s->bytes, SEAM_SALT);
    entry[4 + SEAM_SALT] = (uint8_t)n_unit;
    memcpy(entry + ENTRY_MIN, s->unit, n_unit);
    return buf_append(out, entry, ENTRY_MIN + n_unit);
}

int salts_write(struct buf *out, const struct salts *t)
{
    const size_t start = out->n;
    uint8_t head[MAGIC_BYTES + 4];

    memcpy(head, MAGIC, MAGIC_BYTES);
    put_le(head + MAGIC_BYTES, t->n, 4);
    int r = buf_append(out, head, sizeof(head));
    list_for_each (s, next, &t->all, struct salt, link) {
        if (r == 0) {
            r = put_salt(out, s);
        }
    }
    if (r < 0) {
        out->n = start;
    }
    return r;
}

int salts_seal(struct buf *out)
{
    uint8_t sum[SUM_BYTES];

    put_le(sum, fnv_add(FNV_START, out->data, out->n), SUM_BYTES);
    return buf_append(out, sum, sizeof(sum));
}

/* ---- reading ---- */

static int bad(struct diag *diag, const char *what)
{
    diag_set(diag, 0, "%s", what);
    return SALTS_BAD;
}

static bool unit_sound(struct strview unit)
{
    for (size_t i = 0; i < unit.n; i++) {
        if (unit.data[i] <= ' ' || unit.data[i] > '~') {
            return false;
        }
    }
    return true;
}

/* One entry where the cursor stands. */
static int take_salt(struct salts *t, struct cursor *c)
{
    const uid_t uid = cursor_u32(c);
    const uint8_t *bytes = cursor_take(c, SEAM_SALT);
    const uint8_t n = cursor_u8(c);
    const uint8_t *unit = cursor_take(c, n);
    const struct strview name = {.data = (const char *)unit, .n = n};

    if (!bytes || !unit || !unit_sound(name) || memcmp(bytes, everybodys, SEAM_SALT) == 0) {
        return SALTS_BAD;
    }
    struct salt *s = salt_new(uid, name);
    if (!s) {
        return -ENOMEM;
    }
    memcpy(s->bytes, bytes, SEAM_SALT);
    list_push(&t->all, &s->link);
    t->n++;
    return SALTS_OK;
}

static int by_owner(const void *a, const void *b)
{
    const struct salt *x = *(struct salt *const *)a, *y = *(struct salt *const *)b;

    return x->uid != y->uid ? (x->uid > y->uid) - (x->uid < y->uid) : strcmp(x->unit, y->unit);
}

static int by_bytes(const void *a, const void *b)
{
    const struct salt *x = *(struct salt *const *)a, *y = *(struct salt *const *)b;

    return memcmp(x->bytes, y->bytes, SEAM_SALT);
}

static bool any_equal(struct salt **all, size_t n, int (*order)(const void *, const void *))
{
    qsort(all, n, sizeof(struct salt *), order);
    for (size_t i = 1; i < n; i++) {
        if (order(&all[i - 1], &all[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* Does each have an owner, and a salt, of its own? */
static int check_apart(struct salts *t)
{
    struct salt **all = calloc(t->n + 1, sizeof(*all));
    size_t n = 0;

    if (!all) {
        return -ENOMEM;
    }
    list_for_each (s, next, &t->all, struct salt, link) {
        all[n++] = s;
    }
    const bool shared = any_equal(all, n, by_owner) || any_equal(all, n, by_bytes);
    free(all);
    return shared ? SALTS_BAD : SALTS_OK;
}

static int take_all(struct salts *t, struct cursor *c)
{
    const uint32_t n = cursor_u32(c);
    int r = SALTS_OK;

    if (n > SALTS_MAX || n > cursor_left(c) / ENTRY_MIN) {
        return SALTS_BAD;
    }
    for (uint32_t i = 0; r == SALTS_OK && i < n; i++) {
        r = take_salt(t, c);
    }
    if (r == SALTS_OK && (c->bad || cursor_left(c) > 0)) {
        r = SALTS_BAD;
    }
    return r != SALTS_OK ? r : check_apart(t);
}

int salts_read(struct salts *t, const void *data, size_t n, struct diag *ret_diag)
{
    if (n < MAGIC_BYTES + SUM_BYTES || memcmp(data, MAGIC, MAGIC_BYTES) != 0) {
        return bad(ret_diag, "it is no file of salts of this version");
    }
    struct cursor tail = cursor_of((const uint8_t *)data + n - SUM_BYTES, SUM_BYTES);
    struct cursor c = cursor_of(data, n - SUM_BYTES);
    if (n > SALTS_FILE_MAX || cursor_u64(&tail) != fnv_add(FNV_START, data, n - SUM_BYTES)) {
        return bad(ret_diag, "its checksum is wrong");
    }
    (void)cursor_take(&c, MAGIC_BYTES);
    const int r = take_all(t, &c);
    if (r != SALTS_OK) {
        salts_deinit(t);
    }
    return r == SALTS_BAD ? bad(ret_diag, "its entries are damaged, or two of them are alike") : r;
}
