/* A grammar as anybody may have written it: it is refused, or rows are drawn from it, and each of
 * them has an answer that the schema has and words that stand in the sentence. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "train/commands/grammar.h"
#include "train/commands/row.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool truth)
{
    if (!truth) {
        abort();
    }
}

static void draw(const struct grammar *g)
{
    const struct row_options options = {.seed = 1};
    struct grammar_fault fault;
    struct row row;
    char answer[ROW_ANSWER_MAX], name[ROW_TEMPLATE_MAX];

    for (uint64_t i = 0; i < 20; i++) {
        if (row_draw(g, &options, i, &row, &fault) != 0) {
            return;
        }
        must(row.n <= ROW_TEXT_MAX && row.text[row.n] == '\0');
        must(slots_fault(row.intent, row.have) == NULL);
        for (unsigned s = 0; s < N_SLOTS; s++) {
            must(!(row.have & SLOT_BIT(s)) || row.slots[s].to <= row.n);
            must(!(row.have & SLOT_BIT(s)) ||
                 slot_takes((enum slot)s, row_value(&row, (enum slot)s)));
        }
        row_answer(&row, answer);
        row_template(&row, name);
        must(answer[strlen(answer) - 1] == '}');
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct grammar_fault fault = {0};
    struct grammar g;

    grammar_init(&g);
    int r = grammar_read(&g, "fuzz", (struct strview){.data = (const char *)data, .n = n}, &fault);
    if (r == 0) {
        r = grammar_check(&g, &fault);
    }
    must(r >= 0 && (r == 0 || fault.text[0] != '\0'));
    if (r == 0) {
        draw(&g);
    }
    grammar_deinit(&g);
    return 0;
}
