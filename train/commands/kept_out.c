/* kept_out: sentences in their normal form, and the sorted hashes of those that no row may have. */
#include "train/commands/kept_out.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/fnv.h"
#include "base/whole_file.h"
#include "train/commands/number.h"

#define WORD_MAX 80u /* longer words are hashed as they are cut */

struct form {
    uint64_t hash;
    unsigned tens; /* said, and not yet written: a unit may follow */
    bool any;      /* a word has been written */
};

static void write_word(struct form *f, const char *word, size_t n)
{
    if (f->any) {
        f->hash = fnv_add(f->hash, " ", 1);
    }
    f->hash = fnv_add(f->hash, word, n);
    f->any = true;
}

static void write_number(struct form *f, unsigned value)
{
    char digits[16];

    write_word(f, digits, (size_t)snprintf(digits, sizeof(digits), "%u", value));
}

static void flush_tens(struct form *f)
{
    if (f->tens) {
        write_number(f, f->tens);
        f->tens = 0;
    }
}

static void add_word(struct form *f, const char *word, size_t n)
{
    static const char *const small[] = {"the", "a", "an", "my", "our", "your"};
    const int value = number_word(word);

    for (size_t i = 0; i < ARRAY_SIZE(small); i++) {
        if (strcmp(word, small[i]) == 0) {
            return;
        }
    }
    if (f->tens && value >= 1 && value <= 9) {
        write_number(f, f->tens + (unsigned)value);
        f->tens = 0;
        return;
    }
    flush_tens(f);
    if (value >= 20) {
        f->tens = (unsigned)value;
    } else if (value >= 0) {
        write_number(f, (unsigned)value);
    } else {
        write_word(f, word, n);
    }
}

uint64_t kept_out_hash(const char *text, size_t n)
{
    struct form f = {.hash = FNV_START};
    char word[WORD_MAX + 1];
    size_t len = 0;

    for (size_t i = 0; i <= n; i++) {
        const unsigned char c = i < n ? (unsigned char)text[i] : ' ';
        if (c == '\'') {
            continue;
        }
        if (c >= 0x80 || isalnum(c)) {
            if (len < WORD_MAX) {
                word[len++] = (char)(c < 0x80 ? tolower(c) : c);
            }
        } else if (len > 0) {
            word[len] = '\0';
            add_word(&f, word, len);
            len = 0;
        }
    }
    flush_tens(&f);
    return f.hash;
}

static int by_value(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static int say(struct grammar_fault *fault, const char *name, uint32_t line, int r,
               const char *text)
{
    snprintf(fault->file, sizeof(fault->file), "%s", name);
    snprintf(fault->text, sizeof(fault->text), "%s", text);
    fault->line = line;
    return r;
}

static bool hash_of(const char *text, size_t n, uint64_t *ret)
{
    *ret = 0;
    for (size_t i = 0; i < n; i++) {
        const char c = text[i];
        if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'f')) {
            return false;
        }
        *ret = *ret << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return n == 16;
}

int kept_out_parse(struct kept_out *k, struct strview text, struct grammar_fault *ret_fault)
{
    *k = (struct kept_out){0};
    if (text.n > KEPT_OUT_TEXT_MAX) {
        return say(ret_fault, "kept out", 0, GRAMMAR_LIMIT, "a file is longer than it may be");
    }
    k->hashes = malloc((text.n / 16 + 1) * sizeof(*k->hashes));
    if (!k->hashes) {
        return say(ret_fault, "kept out", 0, -ENOMEM, "out of memory");
    }
    uint32_t line = 1;
    for (size_t at = 0, n; at < text.n; at += n + 1, line++) {
        const char *const end = memchr(text.data + at, '\n', text.n - at);
        n = end ? (size_t)(end - text.data) - at : text.n - at;
        if (n == 0 || text.data[at] == '#') {
            continue;
        }
        if (!hash_of(text.data + at, n, &k->hashes[k->n])) {
            return say(ret_fault, "kept out", line, GRAMMAR_SYNTAX,
                       "a line has sixteen small hexadecimal digits, or begins with #");
        }
        k->n++;
    }
    qsort(k->hashes, k->n, sizeof(*k->hashes), by_value);
    return GRAMMAR_OK;
}

int kept_out_read(struct kept_out *k, const char *path, struct grammar_fault *ret_fault)
{
    struct buf text;

    *k = (struct kept_out){0};
    buf_init(&text, KEPT_OUT_TEXT_MAX);
    int r = whole_file_read(&text, AT_FDCWD, path, WHOLE_FILE_FOLLOW | WHOLE_FILE_DEVICE);
    if (r == WHOLE_FILE_OK) {
        r = kept_out_parse(k, (struct strview){.data = (char *)text.data, .n = text.n}, ret_fault);
    } else {
        char why[200];
        snprintf(why, sizeof(why), "%s: %s", path, whole_file_why(r));
        r = say(ret_fault, path, 0, r > 0 ? -EINVAL : r, why);
    }
    buf_deinit(&text);
    return r;
}

void kept_out_deinit(struct kept_out *k)
{
    free(k->hashes);
    *k = (struct kept_out){0};
}

bool kept_out_has(const struct kept_out *k, const char *text, size_t n)
{
    const uint64_t hash = k->n > 0 ? kept_out_hash(text, n) : 0;

    return k->n > 0 && bsearch(&hash, k->hashes, k->n, sizeof(hash), by_value) != NULL;
}
