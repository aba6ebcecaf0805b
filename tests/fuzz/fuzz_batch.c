/* Fuzz target: lines of a batch's input. Whatever they are, each becomes a request inside the
 * protocol's bounds or has a problem, and its line of the output is JSON with that line's
 * number. */
#undef NDEBUG
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "client/cli/batch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define LINE_MAX_HERE 512u /* so that lines that are too long come up as well */

static void check_request(const struct onebit_request *r)
{
    assert((r->n_messages > 0) + (r->prompt != NULL) + (r->n_ids > 0) == 1);
    assert(r->n_messages <= 257 && r->n_stops <= STOPS_MAX && r->n_logprobs <= 20);
    assert(!(r->has & ONEBIT_HAS_TEMPERATURE) || (r->temperature >= 0 && r->temperature <= 10));
    for (size_t i = 0; i < r->n_messages; i++) {
        assert(strlen(r->messages[i].role) > 0 && r->messages[i].content);
    }
    for (size_t i = 0; i < r->n_ids; i++) {
        assert(r->ids[i] >= 0);
    }
}

static void check_end(struct batch_item *item)
{
    assert(batch_item_end(item, batch_problem_json(item)) == 0);
    assert(item->result[item->result_n - 1] == '\n');
    assert(!memchr(item->result, '\n', item->result_n - 1));
    json_t *o = json_loadb(item->result, item->result_n, 0, NULL);
    assert((uint64_t)json_integer_value(json_object_get(o, "line")) == item->line);
    json_decref(o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const int fd = memfd_create("fuzz", MFD_CLOEXEC);
    struct args args = {0};
    struct lines lines;
    struct line line;
    size_t bytes = 0;

    onebit_request_init(&args.request);
    assert(fd >= 0 && write(fd, data, n) == (ssize_t)n);
    lines_init(&lines, fd, LINE_MAX_HERE, 0, 0);
    while (lines_next(&lines, &line) == 1) {
        struct batch_item *item = NULL;
        assert((size_t)line.at == bytes);
        bytes = (size_t)lines.at;
        assert(batch_item_new(&item, &args, lines.number, &line) == 0);
        assert(item->line == lines.number && item->mark == batch_mark(&args, &line));
        if (!item->problem[0]) {
            check_request(&item->request);
        }
        check_end(item);
        batch_item_free(item);
    }
    assert(bytes == n);
    lines_deinit(&lines);
    (void)close(fd);
    return 0;
}
