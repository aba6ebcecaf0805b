/* The metrics socket's reader of heads: the first byte says where the stream is cut; what was
 * judged once does not change when more comes. */
#include <stdlib.h>
#include <string.h>

#include "daemon/broker/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 1) {
        return 0;
    }
    const size_t whole = n - 1, part = whole * data[0] / 255;
    char *copy = malloc(whole ? whole : 1);
    if (!copy) {
        return 0;
    }
    memcpy(copy, data + 1, whole);
    const enum http_verdict all = http_judge(copy, whole, "/metrics");
    char *begin = malloc(part ? part : 1);
    if (begin) {
        memcpy(begin, copy, part);
        const enum http_verdict some = http_judge(begin, part, "/metrics");
        if ((some != HTTP_MORE && some != all) ||
            (all == HTTP_MORE && (some != HTTP_MORE || whole >= HTTP_HEAD_MAX))) {
            abort();
        }
    }
    free(begin);
    free(copy);
    return 0;
}
