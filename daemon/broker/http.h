/* As much of HTTP/1.1 as one page needs: the head of a request, judged, and a whole response. Pure
 * code over bytes of a stranger. */
#ifndef BROKER_HTTP_H
#define BROKER_HTTP_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/strview.h"

#define HTTP_HEAD_MAX 4096u /* bytes from the method to the empty line */

enum http_verdict {
    HTTP_MORE = 0, /* the head has not ended yet */
    HTTP_GET = 1,  /* of the page */
    HTTP_HEAD = 2, /* likewise */
    HTTP_BAD_REQUEST = 400,
    HTTP_NOT_FOUND = 404,
    HTTP_BAD_METHOD = 405,
    HTTP_TIMEOUT = 408,
    HTTP_TOO_LONG = 431,
    HTTP_ERROR = 500,
};

/**
 * http_judge() - what does a client want whose first n bytes these are?
 * @page: the only target there is, "/metrics"; a query behind it is ignored
 *
 * Strict: one blank between the three words, lines end in CR LF, version 1.0 or 1.1, in 1.1 exactly
 * one Host, no folded headers, no body. A byte that no head contains is refused at once.
 *
 * Return: HTTP_MORE, HTTP_GET, HTTP_HEAD, or the status that refuses it. Never HTTP_MORE for n of
 * HTTP_HEAD_MAX or more.
 */
MUST_USE enum http_verdict http_judge(const char *data, size_t n, const char *page);

/**
 * http_put() - append a whole response; the connection is to be closed after it
 * @body: of HTTP_GET and HTTP_HEAD (whose response has its length alone); other verdicts bring
 *        theirs
 *
 * Return: 0, -ENOMEM or -E2BIG.
 */
MUST_USE int http_put(struct buf *out, enum http_verdict v, const char *content_type,
                      struct strview body);

#endif
