/* One call of a kernel, for a program that writes down which instructions run (bench/mca.py).
 * Binary panels go as the engine takes them, B1_PANELS_BEST at once by tables, where the level has
 * that.
 *
 *   trace LEVEL KIND COLUMNS TOKENS
 *
 * Exit: 0, 64 usage, 77 the machine lacks the level. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/kernels/levels.h"
#include "tests/kernels/check.h"

/* Tables are the scalar level's, so that those who watch a level see its product alone. */
static void run_b1(const struct kernels *k, size_t n_cols, const struct panel_case *c)
{
    const size_t bytes = panel_bytes(PANEL_B1, n_cols), n_tokens = c->act.n_tokens;
    const size_t stride = n_cols / 4 * QUAD_SUMS_BYTES;
    uint8_t *panels = buffer_new(B1_PANELS_BEST * bytes, 0);
    uint8_t *tables = buffer_new(n_tokens * stride, 0);
    float *out = buffer_new(n_tokens * B1_PANELS_BEST * PANEL_ROWS * sizeof(*out), 0);
    struct act_q8 act = c->act;

    for (size_t p = 0; p < B1_PANELS_BEST; p++) {
        memcpy(panels + p * bytes, c->panel, bytes);
    }
    for (size_t t = 0; t < n_tokens; t++) {
        quad_sums_scalar(act.q + t * act.q_stride, n_cols, tables + t * stride);
    }
    act.sums = tables;
    act.sums_stride = stride;
    k->b1_panels(panels, B1_PANELS_BEST, panels, n_cols, &act, out, B1_PANELS_BEST * PANEL_ROWS);
    buffer_free(out, 0);
    buffer_free(tables, 0);
    buffer_free(panels, 0);
}

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
    if (kind == PANEL_B1 && k.b1_panels) {
        run_b1(&k, n_cols, &c);
    } else {
        float *out = buffer_new(n_tokens * PANEL_ROWS * sizeof(*out), 0);
        k.panel[kind](c.panel, n_cols, &c.act, out, PANEL_ROWS);
        buffer_free(out, 0);
    }
    panel_case_deinit(&c);
    return 0;
}
