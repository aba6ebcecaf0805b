/* Fuzz target: files of rows to train on. Whatever they hold, each row is two texts without marks
 * of the chat template, or the line is refused with its number. */
#undef NDEBUG
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "train/loop/rows.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_text(struct strview s)
{
    assert(!s.data || !memmem(s.data, s.n, "<|", 2));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n == 0) {
        return 0;
    }
    const struct rows_fields fields = {
        .prompt = "prompt", .answer = "answer", .answers = data[0] & 1};
    uint8_t *copy = malloc(n); /* exact: a read past the end is seen */
    struct rows *rows = NULL;
    struct diag diag = {0};
    struct row row;
    uint64_t line = 0;
    int r;

    assert(copy);
    memcpy(copy, data + 1, n - 1);
    assert(rows_new(&rows, copy, n - 1, &fields) == 0);
    while ((r = rows_next(rows, &row, &diag)) == ROWS_OK) {
        assert(row.line > line && row.prompt.data && (row.answer.data || !fields.answers));
        line = row.line;
        check_text(row.prompt);
        check_text(row.answer);
    }
    assert(r == ROWS_END || (r == ROWS_MALFORMED && diag.set && diag.offset > line));
    rows_free(rows);
    free(copy);
    return 0;
}
