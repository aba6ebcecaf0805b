/* http: a head is looked at as a whole once its empty line is there; until then only for bytes that
 * no head may hold. */
#include "daemon/broker/http.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define METHOD_MAX 16u

static bool token_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool all_tokens(struct strview s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (!token_char(s.data[i])) {
            return false;
        }
    }
    return s.n > 0;
}

/* What stands before the first `stop`; it and what is before it leave *rest. False: there is
 * none. */
static bool cut(struct strview *rest, const char *stop, struct strview *ret)
{
    const size_t n_stop = strlen(stop);
    const char *at = rest->n >= n_stop ? memmem(rest->data, rest->n, stop, n_stop) : NULL;

    if (!at) {
        return false;
    }
    *ret = (struct strview){.data = rest->data, .n = (size_t)(at - rest->data)};
    rest->n -= ret->n + n_stop;
    rest->data = at + n_stop;
    return true;
}

static bool is_word(struct strview s, const char *word)
{
    return s.n == strlen(word) && strncasecmp(s.data, word, s.n) == 0;
}

/* The blanks around a header's value are not part of it. */
static struct strview trimmed(struct strview s)
{
    while (s.n > 0 && (s.data[0] == ' ' || s.data[0] == '\t')) {
        s.data++;
        s.n--;
    }
    while (s.n > 0 && (s.data[s.n - 1] == ' ' || s.data[s.n - 1] == '\t')) {
        s.n--;
    }
    return s;
}

/* All header lines: sound, one Host where there has to be one, and no body announced. */
static bool headers_good(struct strview rest, bool need_host)
{
    struct strview line, name;
    unsigned hosts = 0;

    while (rest.n > 0) {
        if (!cut(&rest, "\r\n", &line) || !cut(&line, ":", &name) || !all_tokens(name)) {
            return false;
        }
        hosts += is_word(name, "host");
        if (is_word(name, "transfer-encoding") ||
            (is_word(name, "content-length") && !strview_is(trimmed(line), "0"))) {
            return false;
        }
    }
    return hosts <= 1 && (hosts == 1 || !need_host);
}

/* A target may be a path, or a whole address as proxies send it. */
static bool is_page(struct strview target, const char *page)
{
    struct strview ignored;

    if (strview_starts(target, "http://")) {
        const char *slash = memchr(target.data + 7, '/', target.n - 7);
        if (!slash) {
            return false;
        }
        target.n -= (size_t)(slash - target.data);
        target.data = slash;
    }
    struct strview path = target;
    if (cut(&target, "?", &ignored)) {
        path = ignored;
    }
    return strview_is(path, page);
}

static enum http_verdict judge_head(struct strview head, const char *page)
{
    struct strview line, method, target;

    if (!cut(&head, "\r\n", &line) || !cut(&line, " ", &method) || !cut(&line, " ", &target) ||
        !all_tokens(method) || method.n > METHOD_MAX || target.n == 0) {
        return HTTP_BAD_REQUEST;
    }
    const bool old = strview_is(line, "HTTP/1.0");
    if ((!old && !strview_is(line, "HTTP/1.1")) || !headers_good(head, !old)) {
        return HTTP_BAD_REQUEST;
    }
    if (!is_page(target, page)) {
        return HTTP_NOT_FOUND;
    }
    return strview_is(method, "GET")    ? HTTP_GET
           : strview_is(method, "HEAD") ? HTTP_HEAD
                                        : HTTP_BAD_METHOD;
}

/* Only printable ASCII, tabs and line ends; in a value also bytes above it. */
static bool sound(const char *data, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)data[i];
        const bool line_end = (c == '\r' && (i + 1 == n || data[i + 1] == '\n')) ||
                              (c == '\n' && i > 0 && data[i - 1] == '\r');
        if (!line_end && c != '\t' && (c < ' ' || c == 0x7f)) {
            return false;
        }
    }
    return true;
}

enum http_verdict http_judge(const char *data, size_t n, const char *page)
{
    const size_t n_looked = n < HTTP_HEAD_MAX ? n : HTTP_HEAD_MAX;
    struct strview rest = {.data = data, .n = n_looked}, head;

    if (!cut(&rest, "\r\n\r\n", &head)) {
        return !sound(data, n_looked) ? HTTP_BAD_REQUEST
               : n >= HTTP_HEAD_MAX   ? HTTP_TOO_LONG
                                      : HTTP_MORE;
    }
    head.n += 2; /* the last line's own end */
    return sound(head.data, head.n) ? judge_head(head, page) : HTTP_BAD_REQUEST;
}

static const char *reason(enum http_verdict v)
{
    switch (v) {
    case HTTP_BAD_REQUEST:
        return "400 Bad Request";
    case HTTP_NOT_FOUND:
        return "404 Not Found";
    case HTTP_BAD_METHOD:
        return "405 Method Not Allowed";
    case HTTP_TIMEOUT:
        return "408 Request Timeout";
    case HTTP_TOO_LONG:
        return "431 Request Header Fields Too Large";
    case HTTP_ERROR:
    case HTTP_MORE:
        return "500 Internal Server Error";
    default:
        return "200 OK";
    }
}

int http_put(struct buf *out, enum http_verdict v, const char *content_type, struct strview body)
{
    const bool good = v == HTTP_GET || v == HTTP_HEAD;
    char words[64], head[384];

    if (!good) {
        (void)snprintf(words, sizeof(words), "%s\n", reason(v));
        body = strview_of(words);
        content_type = "text/plain; charset=utf-8";
    }
    const int n = snprintf(head, sizeof(head),
                           "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s"
                           "Cache-Control: no-store\r\nConnection: close\r\n\r\n",
                           reason(v), content_type, body.n,
                           v == HTTP_BAD_METHOD ? "Allow: GET, HEAD\r\n" : "");
    const int e = buf_append(out, head, (size_t)n);

    return e < 0 || v == HTTP_HEAD ? e : buf_append(out, body.data, body.n);
}
