/* Several panels at once, against the scalar panel functions, one panel after the other: wide
 * products, and pairs. */
#include <stdio.h>
#include <string.h>

#include "tests/kernels/check.h"

/* What the rounds of every eight have. */
enum { ROUND_CODE_3 = 5, ROUND_LOWEST = 6, ROUND_ONE_CODE_3 = 7 };

/* What encoders and quantizing write, or in some rounds what they do not. */
static void tame(struct panel_case *c, enum panel_kind kind, size_t n_cols, size_t round)
{
    if (round % 8 != ROUND_CODE_3) {
        panel_case_without_3(c, kind, n_cols);
    }
    if (kind != PANEL_B1 && round % 8 == ROUND_ONE_CODE_3) {
        c->panel[panel_bytes(kind, n_cols) - 1 - random_u32() % 64] |= 3 << random_u32() % 4 * 2;
    }
    if (round % 8 != ROUND_LOWEST) {
        panel_case_without_lowest(c, kind, n_cols);
    }
}

/* n panels side by side, each of its own case; all get the first one's activations. What stands
 * between the rows of `out`, and in the room behind what it may use, belongs to somebody else. */
static bool check_once(const char *name, enum panel_kind kind, panel_fn *one, wide_fn *fn, size_t n,
                       size_t n_cols, size_t n_tokens, size_t round)
{
    const size_t bytes = panel_bytes(kind, n_cols), stride = n * PANEL_ROWS + round % 3;
    const size_t n_out = (n_tokens - 1) * stride + n * PANEL_ROWS;
    float *want = buffer_new(n_out * sizeof(float), 4), *got = buffer_new(n_out * sizeof(float), 4);
    uint8_t *panels = buffer_new(n * bytes, 32), *room = buffer_new(WIDE_ROOM_BYTES, 0);
    struct panel_case c;
    size_t at;

    panel_case_init(&c, kind, n_cols, n_tokens, round);
    tame(&c, kind, n_cols, round);
    memcpy(panels, c.panel, bytes);
    for (size_t i = 1; i < n; i++) {
        struct panel_case other;
        panel_case_init(&other, kind, n_cols, 1, round + 8 * i);
        tame(&other, kind, n_cols, round);
        memcpy(panels + i * bytes, other.panel, bytes);
        panel_case_deinit(&other);
    }
    fill_bytes(want, n_out * sizeof(float), 0x5a);
    fill_bytes(got, n_out * sizeof(float), 0x5a);
    fill_bytes(room, WIDE_ROOM_BYTES, -1);
    for (size_t i = 0; i < n; i++) {
        one(panels + i * bytes, n_cols, &c.act, want + i * PANEL_ROWS, stride);
    }
    fn(panels, n, n_cols, &c.act, got, stride, room);
    const bool ok = same_floats(want, got, n_out, &at);
    if (!ok) {
        printf("%s_%s: n=%zu n_cols=%zu n_tokens=%zu round=%zu token %zu row %zu: want %a got "
               "%a\n",
               name, panel_info(kind)->name, n, n_cols, n_tokens, round, at / stride, at % stride,
               (double)want[at], (double)got[at]);
    }
    buffer_free(want, 4);
    buffer_free(got, 4);
    buffer_free(panels, 32);
    buffer_free(room, 0);
    panel_case_deinit(&c);
    return ok;
}

bool check_wide(enum panel_kind kind, panel_fn *one, wide_fn *fn)
{
    static const size_t groups[] = {1, 2, 3, 5, 8};
    const size_t group = panel_info(kind)->group;

    for (size_t round = 0; round < 96; round++) {
        const size_t n = round % 5 + 1, n_tokens = round % WIDE_TOKENS + 1;
        if (!check_once("wide", kind, one, fn, n, groups[round % 5] * group, n_tokens, round)) {
            return false;
        }
    }
    return check_once("wide", kind, one, fn, WIDE_PANELS, 2 * group, WIDE_TOKENS, 0) &&
           check_once("wide", kind, one, fn, 1, 16384, WIDE_TOKENS, 1) &&
           check_once("wide", kind, one, fn, 1, (size_t)1 << 18, 2, 8);
}

static panel_fn *pair_in_check;

static void as_wide(const uint8_t *panels, size_t n_panels, size_t n_cols, const struct act_q8 *act,
                    float *out, size_t out_stride, void *room)
{
    pair_in_check(panels, n_cols, act, out, out_stride);
}

bool check_pair(enum panel_kind kind, panel_fn *one, panel_fn *pair)
{
    static const size_t groups[] = {1, 2, 3, 5, 8};

    pair_in_check = pair;
    for (size_t round = 0; round < 96; round++) {
        const size_t n_cols = groups[round % 5] * panel_info(kind)->group;
        if (!check_once("pair", kind, one, as_wide, 2, n_cols, round % 23 + 1, round)) {
            return false;
        }
    }
    return check_once("pair", kind, one, as_wide, 2, 16384, 13, 0);
}
