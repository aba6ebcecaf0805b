/* One call of a kernel, for a program that writes down which instructions run (bench/mca.py).
 * Binary panels go as the engine takes them, B1_PANELS_BEST at once by tables, where the level has
 * that. With PANELS, so many go by wide products, as many calls as the tokens need.
 *
 *   trace LEVEL KIND COLUMNS TOKENS [PANELS]
 *
 * Exit: 0, 64 usage, 77 the machine lacks the level, 78 the level has no such wide products. */
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

/* n_panels copies of one panel, WIDE_TOKENS tokens a call. */
static void run_wide(wide_fn *wide, enum panel_kind kind, size_t n_cols, size_t n_panels,
                     const struct panel_case *c)
{
    const size_t bytes = panel_bytes(kind, n_cols), stride = n_panels * PANEL_ROWS;
    uint8_t *panels = buffer_new(n_panels * bytes, 0), *room = buffer_new(WIDE_ROOM_BYTES, 0);
    float *out = buffer_new(c->act.n_tokens * stride * sizeof(*out), 0);

    for (size_t p = 0; p < n_panels; p++) {
        memcpy(panels + p * bytes, c->panel, bytes);
    }
    for (size_t t = 0; t < c->act.n_tokens; t += WIDE_TOKENS) {
        struct act_q8 act = c->act;
        act.q += t * act.q_stride;
        act.d += t * act.d_stride;
        act.s += t * act.d_stride;
        act.n_tokens = act.n_tokens - t < WIDE_TOKENS ? act.n_tokens - t : WIDE_TOKENS;
        wide(panels, n_panels, n_cols, &act, out + t * stride, stride, room);
    }
    buffer_free(out, 0);
    buffer_free(room, 0);
    buffer_free(panels, 0);
}

/* What wide products of ternary panels do not give back: no code of 3 (bytes of scales change, too,
 * which no instruction minds) and no -128. */
static void tame(struct panel_case *c, enum panel_kind kind, size_t n_cols)
{
    for (size_t i = 0; kind != PANEL_B1 && i < panel_bytes(kind, n_cols); i++) {
        c->panel[i] &= (uint8_t) ~(c->panel[i] & c->panel[i] >> 1 & 0x55);
    }
    for (size_t i = 0; i < (c->act.n_tokens - 1) * c->act.q_stride + n_cols; i++) {
        c->q[i] = c->q[i] == INT8_MIN ? -127 : c->q[i];
    }
}

int main(int argc, char **argv)
{
    enum cpu_level level;
    enum panel_kind kind;
    struct kernels k;
    struct panel_case c;

    if (argc < 5 || argc > 6 || !cpu_level_parse(argv[1], &level) ||
        !panel_kind_parse(argv[2], &kind)) {
        (void)fputs("usage: trace LEVEL KIND COLUMNS TOKENS [PANELS]\n", stderr);
        return 64;
    }
    const size_t n_cols = strtoul(argv[3], NULL, 10), n_tokens = strtoul(argv[4], NULL, 10);
    const size_t n_panels = argc == 6 ? strtoul(argv[5], NULL, 10) : 1;
    if (n_cols == 0 || n_cols > KERN_COLS_MAX || n_cols % panel_info(kind)->group != 0 ||
        n_tokens == 0 || n_tokens > 64 || n_panels == 0 || n_panels > WIDE_PANELS) {
        (void)fprintf(stderr, "trace: columns are whole groups, tokens 1 to 64, panels 1 to %d\n",
                      WIDE_PANELS);
        return 64;
    }
    if (!cpu_level_present(level)) {
        return 77;
    }
    kernels_init(&k, level);
    if (argc == 6 && !k.wide[kind]) {
        return 78;
    }
    random_seed(1);
    panel_case_init(&c, kind, n_cols, n_tokens, 0);
    if (argc == 6) {
        tame(&c, kind, n_cols);
        run_wide(k.wide[kind], kind, n_cols, n_panels, &c);
    } else if (kind == PANEL_B1 && k.b1_panels) {
        run_b1(&k, n_cols, &c);
    } else {
        float *out = buffer_new(n_tokens * PANEL_ROWS * sizeof(*out), 0);
        k.panel[kind](c.panel, n_cols, &c.act, out, PANEL_ROWS);
        buffer_free(out, 0);
    }
    panel_case_deinit(&c);
    return 0;
}
