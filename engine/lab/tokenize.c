/* tokenize and detokenize: text to ids and back, whole or line by line. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/lab/lab.h"

/* What one line of JSON becomes; NULL with the reason printed. */
typedef int line_fn(const struct vocab *v, const struct lab_args *a, const char *where,
                    const json_t *in, json_t **ret_out);

static unsigned flags_of(const struct lab_args *a)
{
    return (a->special ? (unsigned)TOKENIZE_SPECIAL : 0u) |
           (a->add_special ? (unsigned)TOKENIZE_ADD_SPECIAL : 0u);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    const char low = (char)(c | 0x20);
    return low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
}

/* @ret: malloc'ed */
static int hex_bytes(const char *hex, size_t n, char **ret)
{
    if (n % 2 != 0) {
        return LAB_DATA;
    }
    char *bytes = malloc(n / 2 + 1);
    if (!bytes) {
        return lab_errno("hex", -ENOMEM);
    }
    for (size_t i = 0; i < n / 2; i++) {
        const int hi = hex_digit(hex[2 * i]), lo = hex_digit(hex[2 * i + 1]);
        if (hi < 0 || lo < 0) {
            free(bytes);
            return LAB_DATA;
        }
        bytes[i] = (char)(hi << 4 | lo);
    }
    *ret = bytes;
    return LAB_OK;
}

static json_t *hex_json(const char *p, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    char *hex = malloc(2 * n + 1);

    if (!hex) {
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        hex[2 * i] = digits[(unsigned char)p[i] >> 4];
        hex[2 * i + 1] = digits[p[i] & 15];
    }
    json_t *s = json_stringn(hex, 2 * n);
    free(hex);
    return s;
}

/* ---- tokenize ---- */

static int tokenize_json(const struct vocab *v, const struct lab_args *a, const char *text,
                         size_t n, json_t **ret)
{
    int32_t *ids = NULL;
    size_t n_ids = 0;
    const int r = lab_tokenize(v, text, n, flags_of(a), &ids, &n_ids);

    if (r != LAB_OK) {
        return r;
    }
    *ret = json_ids(ids, n_ids);
    free(ids);
    return *ret ? LAB_OK : lab_errno("ids", -ENOMEM);
}

static int tokenize_line(const struct vocab *v, const struct lab_args *a, const char *where,
                         const json_t *in, json_t **ret_out)
{
    const json_t *text = json_object_get(in, "text"), *hex = json_object_get(in, "hex");
    json_t *ids = NULL;
    char *bytes = NULL;
    int r;

    if (json_is_string(text) && !hex) {
        r = tokenize_json(v, a, json_string_value(text), json_string_length(text), &ids);
    } else if (json_is_string(hex) && !text) {
        r = hex_bytes(json_string_value(hex), json_string_length(hex), &bytes);
        if (r == LAB_DATA) {
            lab_error("%s: hex wants an even number of hexadecimal digits", where);
        }
        if (r == LAB_OK) {
            r = tokenize_json(v, a, bytes, json_string_length(hex) / 2, &ids);
        }
        free(bytes);
    } else {
        lab_error("%s: wants an object with either text or hex", where);
        r = LAB_DATA;
    }
    if (r == LAB_OK) {
        *ret_out = json_pack("{s:o}", "ids", ids);
    }
    return r;
}

/* ---- detokenize ---- */

/* @ret: malloc'ed text of a JSON array of ids */
static int detokenize(const struct vocab *v, const char *where, const json_t *array, char **ret,
                      size_t *ret_n)
{
    if (!json_is_array(array)) {
        lab_error("%s: wants an array of ids", where);
        return LAB_DATA;
    }
    const size_t n = json_array_size(array);
    int32_t *ids = calloc(n + 1, sizeof(*ids));
    if (!ids) {
        return lab_errno("ids", -ENOMEM);
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *one = json_array_get(array, i);
        const json_int_t id = json_is_integer(one) ? json_integer_value(one) : -1;
        if (id < 0 || id >= (json_int_t)vocab_size(v)) {
            lab_error("%s: item %zu is no id from 0 to %u", where, i + 1, vocab_size(v) - 1);
            free(ids);
            return LAB_DATA;
        }
        ids[i] = (int32_t)id;
    }
    const int r = vocab_detokenize(v, ids, n, ret, ret_n);
    free(ids);
    return r < 0 ? lab_errno("text", r) : LAB_OK;
}

static int detokenize_line(const struct vocab *v, const struct lab_args *a, const char *where,
                           const json_t *in, json_t **ret_out)
{
    char *text = NULL;
    size_t n = 0;
    const int r = detokenize(v, where, json_object_get(in, "ids"), &text, &n);
    (void)a;

    if (r != LAB_OK) {
        return r;
    }
    *ret_out = text_is_utf8(text, n) ? json_pack("{s:o}", "text", json_bytes(text, n))
                                     : json_pack("{s:o}", "hex", hex_json(text, n));
    free(text);
    return LAB_OK;
}

/* ---- both ---- */

/* Runs `fn` over every line; empty lines are skipped. */
static int each_line(const struct vocab *v, const struct lab_args *a, const struct buf *in,
                     line_fn *fn)
{
    size_t at = 0, number = 0;
    char where[64];

    while (at < in->n) {
        const char *line = (const char *)in->data + at;
        const char *end = memchr(line, '\n', in->n - at);
        const size_t n = end ? (size_t)(end - line) : in->n - at;
        json_t *out = NULL;

        at += n + 1;
        (void)snprintf(where, sizeof(where), "standard input, line %zu", ++number);
        if (strspn(line, " \t\r") >= n) { /* the buffer ends in a NUL, see read_input() */
            continue;
        }
        json_t *json = json_parse(where, line, n);
        if (!json) {
            return LAB_DATA;
        }
        int r = fn(v, a, where, json, &out);
        json_decref(json);
        if (r == LAB_OK) {
            r = out_json(out);
        }
        if (r != LAB_OK) {
            return r;
        }
    }
    return LAB_OK;
}

/* Standard input, with a NUL behind it that does not count. */
static int read_input(struct buf *ret)
{
    int r = read_file("-", ret);

    if (r == LAB_OK && buf_append(ret, "", 1) != 0) {
        r = lab_errno("standard input", -ENOMEM);
    }
    if (r == LAB_OK) {
        ret->n--;
    }
    return r;
}

int verb_tokenize(const struct lab_args *a)
{
    struct vocab *vocab = NULL;
    struct buf in = {0};
    json_t *ids = NULL;
    int r = lab_vocab(a->path, &vocab);

    if (r == LAB_OK) {
        r = read_input(&in);
    }
    if (r == LAB_OK && a->jsonl) {
        r = each_line(vocab, a, &in, tokenize_line);
    } else if (r == LAB_OK) {
        r = tokenize_json(vocab, a, (const char *)in.data, in.n, &ids);
        r = r == LAB_OK ? out_json(ids) : r;
    }
    buf_deinit(&in);
    vocab_free(vocab);
    return r;
}

int verb_detokenize(const struct lab_args *a)
{
    struct vocab *vocab = NULL;
    struct buf in = {0};
    int r = lab_vocab(a->path, &vocab);

    if (r == LAB_OK) {
        r = read_input(&in);
    }
    if (r == LAB_OK && a->jsonl) {
        r = each_line(vocab, a, &in, detokenize_line);
    } else if (r == LAB_OK) {
        json_t *array = json_parse("standard input", in.data, in.n);
        char *text = NULL;
        size_t n = 0;
        r = array ? detokenize(vocab, "standard input", array, &text, &n) : LAB_DATA;
        if (r == LAB_OK) {
            out_text(stdout, out_is_terminal(), text, n);
        }
        free(text);
        json_decref(array);
    }
    buf_deinit(&in);
    vocab_free(vocab);
    return r;
}
