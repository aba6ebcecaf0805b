/* One call of a kernel, for a program that writes down which instructions run (bench/mca.py).
 *
 *   trace LEVEL KIND COLUMNS TOKENS
 *
 * Exit: 0, 64 usage, 77 the machine lacks the level. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/kernels/check.h"

int main(int argc, char **argv)
{
    enum cpu_level level;
    enum panel_kind kind;
    struct kernels k;
    struct panel_case c;

    if (argc != 5 || !cpu_level_parse(argv[1], &level) || !panel_kind_parse(argv[2], &kind)) {
        (void)fputs("usage: trace LEVEL KIND COLUMNS TOKENS\n", stderr);
        return 64;
    }
    const size_t n_cols = strtoul(argv[3], NULL, 10), n_tokens = strtoul(argv[4], NULL, 10);
    if (n_cols == 0 || n_cols > KERN_COLS_MAX || n_cols % panel_info(kind)->group != 0 ||
        n_tokens == 0 || n_tokens > 64) {
        (void)fputs("trace: columns are whole groups, tokens 1 to 64\n", stderr);
        return 64;
    }
    if (!cpu_level_present(level)) {
        return 77;
    }
    kernels_init(&k, level);
    random_seed(1);
    panel_case_init(&c, kind, n_cols, n_tokens, 0);
    float *out = buffer_new(n_tokens * PANEL_ROWS * sizeof(*out), 0);
    k.panel[kind](c.panel, n_cols, &c.act, out, PANEL_ROWS);
    buffer_free(out, 0);
    panel_case_deinit(&c);
    return 0;
}
