/* http: every way a head can be wrong has its own status, wherever the bytes are cut. */
#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/broker/http.h"

#define HOST "Host: localhost\r\n"

static enum http_verdict judge(const char *text)
{
    return http_judge(text, strlen(text), "/metrics");
}

static void each_head_gets_its_verdict(void **state)
{
    static const struct {
        const char *head;
        enum http_verdict want;
    } cases[] = {
        {"GET /metrics HTTP/1.1\r\n" HOST "\r\n", HTTP_GET},
        {"HEAD /metrics HTTP/1.1\r\n" HOST "\r\n", HTTP_HEAD},
        {"GET /metrics HTTP/1.0\r\n\r\n", HTTP_GET},
        {"GET /metrics?a=b&c HTTP/1.1\r\n" HOST "\r\n", HTTP_GET},
        {"GET http://localhost/metrics HTTP/1.1\r\n" HOST "\r\n", HTTP_GET},
        {"GET /metrics HTTP/1.1\r\nhOsT:x\r\nAccept: */*\r\nX: a\tb\xc3\xa4\r\n\r\n", HTTP_GET},
        {"GET /metrics HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\nrest is ignored", HTTP_GET},
        {"GET / HTTP/1.1\r\n" HOST "\r\n", HTTP_NOT_FOUND},
        {"GET /metrics/ HTTP/1.1\r\n" HOST "\r\n", HTTP_NOT_FOUND},
        {"GET /../metrics HTTP/1.1\r\n" HOST "\r\n", HTTP_NOT_FOUND},
        {"GET http://localhost HTTP/1.1\r\n" HOST "\r\n", HTTP_NOT_FOUND},
        {"BREW /pot HTTP/1.1\r\n" HOST "\r\n", HTTP_NOT_FOUND},
        {"POST /metrics HTTP/1.1\r\n" HOST "\r\n", HTTP_BAD_METHOD},
        {"get /metrics HTTP/1.1\r\n" HOST "\r\n", HTTP_BAD_METHOD},
        {"GET /metrics HTTP/1.1\r\n\r\n", HTTP_BAD_REQUEST},              /* no Host */
        {"GET /metrics HTTP/1.1\r\n" HOST HOST "\r\n", HTTP_BAD_REQUEST}, /* two */
        {"GET /metrics HTTP/2.0\r\n" HOST "\r\n", HTTP_BAD_REQUEST},
        {"GET /metrics http/1.1\r\n" HOST "\r\n", HTTP_BAD_REQUEST},
        {"GET  /metrics HTTP/1.1\r\n" HOST "\r\n", HTTP_BAD_REQUEST},
        {"GET /metrics  HTTP/1.1\r\n" HOST "\r\n", HTTP_BAD_REQUEST},
        {" GET /metrics HTTP/1.1\r\n" HOST "\r\n", HTTP_BAD_REQUEST},
        {"GET /metrics\r\n\r\n", HTTP_BAD_REQUEST},
        {"\r\n\r\n", HTTP_BAD_REQUEST},
        {"G(T /metrics HTTP/1.1\r\n" HOST "\r\n", HTTP_BAD_REQUEST},
        {"AVERYVERYLONGMETHOD /metrics HTTP/1.1\r\n" HOST "\r\n", HTTP_BAD_REQUEST},
        {"GET /metrics HTTP/1.1\r\n" HOST " folded\r\n\r\n", HTTP_BAD_REQUEST},
        {"GET /metrics HTTP/1.1\r\n" HOST "no colon\r\n\r\n", HTTP_BAD_REQUEST},
        {"GET /metrics HTTP/1.1\r\n" HOST "Na me: x\r\n\r\n", HTTP_BAD_REQUEST},
        {"GET /metrics HTTP/1.1\r\n" HOST ": x\r\n\r\n", HTTP_BAD_REQUEST},
        {"GET /metrics HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello", HTTP_BAD_REQUEST},
        {"GET /metrics HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n", HTTP_BAD_REQUEST},
        {"GET /metrics HTTP/1.1\n" HOST "\r\n", HTTP_BAD_REQUEST}, /* a bare line feed */
        {"GET /metrics HTTP/1.1\r" HOST "\r\n", HTTP_BAD_REQUEST}, /* a bare return */
        {"\x18", HTTP_BAD_REQUEST},                                /* at once: no text at all */
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const enum http_verdict got = judge(cases[i].head);
        if (got != cases[i].want) {
            fail_msg("%d for %s", (int)got, cases[i].head);
        }
    }
}

static void a_head_may_come_in_pieces(void **state)
{
    static const char head[] = "GET /metrics HTTP/1.1\r\n" HOST "User-Agent: x\r\n\r\n";
    (void)state;

    for (size_t n = 0; n < strlen(head); n++) {
        assert_int_equal(http_judge(head, n, "/metrics"), HTTP_MORE);
    }
    assert_int_equal(judge(head), HTTP_GET);
}

static void a_head_without_end_is_too_long(void **state)
{
    static const char first[] = "GET /metrics HTTP/1.1\r\n" HOST "X: ";
    char head[HTTP_HEAD_MAX + 8];
    (void)state;

    memset(head, 'x', sizeof(head));
    memcpy(head, first, strlen(first));
    assert_int_equal(http_judge(head, HTTP_HEAD_MAX - 1, "/metrics"), HTTP_MORE);
    assert_int_equal(http_judge(head, HTTP_HEAD_MAX, "/metrics"), HTTP_TOO_LONG);
    memcpy(head + HTTP_HEAD_MAX - 4, "\r\n\r\n", 4); /* the longest there may be */
    assert_int_equal(http_judge(head, HTTP_HEAD_MAX, "/metrics"), HTTP_GET);
    memcpy(head + HTTP_HEAD_MAX - 4, "x\r\n\r\n", 5);
    assert_int_equal(http_judge(head, HTTP_HEAD_MAX + 1, "/metrics"), HTTP_TOO_LONG);
}

/* Goal: nothing a stranger sends is read past its end or judged by luck. Method: each byte of a
 * good head replaced by each other one, from memory of exactly its size. */
static void no_byte_confuses_it(void **state)
{
    static const char good[] = "GET /metrics HTTP/1.1\r\n" HOST "\r\n";
    const size_t n = strlen(good);
    (void)state;

    for (size_t i = 0; i < n; i++) {
        for (int c = 0; c < 256; c++) {
            char *head = malloc(n);
            assert_non_null(head);
            memcpy(head, good, n);
            head[i] = (char)c;
            const enum http_verdict v = http_judge(head, n, "/metrics");
            assert_true(v == HTTP_MORE || v == HTTP_GET || v == HTTP_BAD_REQUEST ||
                        v == HTTP_NOT_FOUND || v == HTTP_BAD_METHOD);
            if (i < 13 && head[i] != good[i]) {
                assert_true(v != HTTP_GET || (i == 12 && c == '?'));
            }
            free(head);
        }
    }
}

static void a_response_is_whole(void **state)
{
    static const char want[] = "HTTP/1.1 200 OK\r\nContent-Type: text/x\r\nContent-Length: 5\r\n"
                               "Cache-Control: no-store\r\nConnection: close\r\n\r\nhello";
    struct buf out;
    (void)state;

    buf_init(&out, 1000);
    assert_int_equal(http_put(&out, HTTP_GET, "text/x", strview_of("hello")), 0);
    assert_int_equal(out.n, strlen(want));
    assert_memory_equal(out.data, want, out.n);
    buf_deinit(&out);
    assert_int_equal(http_put(&out, HTTP_HEAD, "text/x", strview_of("hello")), 0);
    assert_int_equal(out.n, strlen(want) - 5);
    assert_memory_equal(out.data, want, out.n);
    buf_deinit(&out);
    assert_int_equal(http_put(&out, HTTP_BAD_METHOD, NULL, (struct strview){0}), 0);
    assert_non_null(memmem(out.data, out.n, "405 Method Not Allowed\r\n", 24));
    assert_non_null(memmem(out.data, out.n, "Allow: GET, HEAD\r\n", 18));
    buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_head_gets_its_verdict),
        cmocka_unit_test(a_head_may_come_in_pieces),
        cmocka_unit_test(a_head_without_end_is_too_long),
        cmocka_unit_test(no_byte_confuses_it),
        cmocka_unit_test(a_response_is_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
