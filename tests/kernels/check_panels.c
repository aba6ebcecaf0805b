/* The panel functions against their scalar twins: every format, few and many columns and tokens,
 * weights, activations and scales from usual to extreme, sentinels between the rows of the result,
 * and each token alone against the same token in a batch. */
#include <stdio.h>
#include <string.h>

#include "tests/kernels/check.h"

enum fill { FILL_RANDOM, FILL_LOW, FILL_HIGH, FILL_ZERO, FILLS };
enum scale { SCALE_USUAL, SCALE_WIDE, SCALE_EXTREME, SCALES };

static uint16_t random_scale(enum scale kind)
{
    switch (kind) {
    case SCALE_USUAL:
        return f16_from_f32(random_float(6) * 0.01f);
    case SCALE_WIDE:
        return (uint16_t)random_u32(); /* any f16: subnormals, infinities and NaN among them */
    default:
        return extreme_f16();
    }
}

static int fill_value(enum fill kind, int low, int high)
{
    return kind == FILL_RANDOM ? -1 : kind == FILL_LOW ? low : kind == FILL_HIGH ? high : 0;
}

bool panel_kind_parse(const char *name, enum panel_kind *ret)
{
    for (unsigned i = PANEL_NONE + 1; i < PANELS; i++) {
        if (strcmp(panel_info((enum panel_kind)i)->name, name) == 0) {
            *ret = (enum panel_kind)i;
            return true;
        }
    }
    return false;
}

/* Columns in a block of activations. */
static size_t block_of(enum panel_kind kind, size_t n_cols)
{
    return panel_info(kind)->act_block ? panel_info(kind)->act_block : n_cols;
}

/* Scales over the random bytes: f16 for every row, twice where there are minima, and floats for
 * TROW. */
static void put_scales(struct panel_case *c, enum panel_kind kind, size_t n_cols, enum scale scales)
{
    const struct panel_info *info = panel_info(kind);
    const size_t n = kind == PANEL_N4M || kind == PANEL_K4 || kind == PANEL_K5 ? 32 : 16;

    if (kind == PANEL_TROW) {
        for (size_t row = 0; row < PANEL_ROWS; row++) {
            const float scale = scales == SCALE_EXTREME ? extreme_float() : random_float(20);
            memcpy(c->panel + sizeof(scale) * row, &scale, sizeof(scale));
        }
        return;
    }
    for (size_t g = 0; g < n_cols / info->group; g++) {
        for (size_t i = 0; i < n; i++) {
            const uint16_t scale = random_scale(scales);
            memcpy(c->panel + g * info->group_bytes + 2 * i, &scale, sizeof(scale));
        }
    }
}

static void sum_blocks(struct panel_case *c, enum panel_kind kind, size_t n_cols)
{
    const size_t block = block_of(kind, n_cols);

    for (size_t t = 0; t < c->act.n_tokens; t++) {
        for (size_t b = 0; b < n_cols / block; b++) {
            int32_t sum = 0;
            for (size_t i = 0; i < block; i++) {
                sum += c->q[t * c->act.q_stride + b * block + i];
            }
            c->s[t * c->act.d_stride + b] = sum;
        }
    }
}

/* The panel starts 32 bytes past a 64-byte boundary, as its contract allows. */
void panel_case_init(struct panel_case *c, enum panel_kind kind, size_t n_cols, size_t n_tokens,
                     size_t round)
{
    const enum fill weights = (enum fill)(round % FILLS), acts = (enum fill)(round / FILLS % FILLS);
    const enum scale scales = (enum scale)(round % SCALES);
    const size_t block = block_of(kind, n_cols), n_blocks = n_cols / block;
    const size_t q_stride = (n_cols + 63) / 64 * 64 + round % 2 * 64;
    const size_t d_stride = (n_blocks + 15) / 16 * 16;

    c->panel = buffer_new(panel_bytes(kind, n_cols), 32);
    fill_bytes(c->panel, panel_bytes(kind, n_cols), fill_value(weights, 0x80, 0xff));
    put_scales(c, kind, n_cols, scales);
    c->q = buffer_new((n_tokens - 1) * q_stride + n_cols, 0);
    c->d = buffer_new(((n_tokens - 1) * d_stride + n_blocks) * sizeof(float), 4);
    c->s = buffer_new(((n_tokens - 1) * d_stride + n_blocks) * sizeof(int32_t), 4);
    fill_bytes(c->q, (n_tokens - 1) * q_stride + n_cols, fill_value(acts, 0x80, 0x7f));
    for (size_t t = 0; t < n_tokens; t++) {
        for (size_t b = 0; b < n_blocks; b++) {
            c->d[t * d_stride + b] = scales == SCALE_EXTREME && random_u32() % 8 == 0
                                         ? extreme_float()
                                         : random_float(8);
        }
    }
    c->act = (struct act_q8){.q = c->q,
                             .d = c->d,
                             .s = c->s,
                             .q_stride = q_stride,
                             .d_stride = d_stride,
                             .n_tokens = n_tokens};
    sum_blocks(c, kind, n_cols);
}

void panel_case_without_3(struct panel_case *c, enum panel_kind kind, size_t n_cols)
{
    const struct panel_info *info = panel_info(kind);
    const size_t head = kind == PANEL_TROW ? 0 : 32; /* of a group: its scales */
    const bool codes = kind == PANEL_TROW || (kind >= PANEL_T64 && kind <= PANEL_T256);

    for (size_t g = 0; codes && g < n_cols / info->group; g++) {
        uint8_t *group = c->panel + info->head_bytes + g * info->group_bytes;
        for (size_t i = head; i < info->group_bytes; i++) {
            group[i] &= (uint8_t) ~(group[i] & group[i] >> 1 & 0x55);
        }
    }
}

void panel_case_without_lowest(struct panel_case *c, enum panel_kind kind, size_t n_cols)
{
    for (size_t i = 0; i < (c->act.n_tokens - 1) * c->act.q_stride + n_cols; i++) {
        c->q[i] = c->q[i] == INT8_MIN ? -127 : c->q[i];
    }
    sum_blocks(c, kind, n_cols);
}

void panel_case_deinit(struct panel_case *c)
{
    buffer_free(c->panel, 32);
    buffer_free(c->q, 0);
    buffer_free(c->d, 4);
    buffer_free(c->s, 4);
}

/* One product by both; the gaps between the rows of `out` belong to somebody else. */
static bool check_panel_once(enum panel_kind kind, panel_fn *want_fn, panel_fn *got_fn,
                             size_t n_cols, size_t n_tokens, size_t round)
{
    const size_t out_stride = PANEL_ROWS + round % 3;
    const size_t n_out = (n_tokens - 1) * out_stride + PANEL_ROWS;
    struct panel_case c;
    size_t at;

    panel_case_init(&c, kind, n_cols, n_tokens, round);
    float *want = buffer_new(n_out * sizeof(float), 4);
    float *got = buffer_new(n_out * sizeof(float), 4);
    fill_bytes(want, n_out * sizeof(float), 0x5a);
    fill_bytes(got, n_out * sizeof(float), 0x5a);
    want_fn(c.panel, n_cols, &c.act, want, out_stride);
    got_fn(c.panel, n_cols, &c.act, got, out_stride);
    const bool ok = same_floats(want, got, n_out, &at);
    if (!ok) {
        printf("%s: n_cols=%zu n_tokens=%zu round=%zu token %zu row %zu: want %a got %a\n",
               panel_info(kind)->name, n_cols, n_tokens, round, at / out_stride, at % out_stride,
               (double)want[at], (double)got[at]);
    }
    buffer_free(want, 4);
    buffer_free(got, 4);
    panel_case_deinit(&c);
    return ok;
}

bool check_panel(enum panel_kind kind, panel_fn *want, panel_fn *got)
{
    static const size_t groups[] = {1, 2, 3, 8};

    for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
        for (size_t round = 0; round < FILLS * FILLS * SCALES; round++) {
            const size_t n_tokens = round % 17 + 1;
            if (!check_panel_once(kind, want, got, groups[i] * panel_info(kind)->group, n_tokens,
                                  round)) {
                return false;
            }
        }
    }
    for (size_t n_tokens = 1; n_tokens <= 17; n_tokens++) {
        if (!check_panel_once(kind, want, got, 5 * panel_info(kind)->group, n_tokens, 0)) {
            return false;
        }
    }
    for (size_t n_tokens = 18; n_tokens <= 131; n_tokens += n_tokens < 63 ? 15 : 1) {
        if (!check_panel_once(kind, want, got, 2 * panel_info(kind)->group, n_tokens, n_tokens)) {
            return false;
        }
    }
    return check_panel_once(kind, want, got, 4096, 3, 0);
}

/* Goal: a sequence's numbers do not depend on who shares its batch. */
bool check_batch(enum panel_kind kind, panel_fn *fn)
{
    const size_t n_cols = 3 * panel_info(kind)->group, n_tokens = 17;
    float together[17 * PANEL_ROWS], alone[PANEL_ROWS];
    struct panel_case c;
    bool ok = true;
    size_t at;

    panel_case_init(&c, kind, n_cols, n_tokens, 0);
    fn(c.panel, n_cols, &c.act, together, PANEL_ROWS);
    for (size_t t = 0; t < n_tokens && ok; t++) {
        struct act_q8 one = c.act;
        one.q += t * one.q_stride;
        one.d += t * one.d_stride;
        one.s += t * one.d_stride;
        one.n_tokens = 1;
        fn(c.panel, n_cols, &one, alone, PANEL_ROWS);
        ok = same_floats(together + t * PANEL_ROWS, alone, PANEL_ROWS, &at);
    }
    if (!ok) {
        printf("%s: a token's result depends on its batch\n", panel_info(kind)->name);
    }
    panel_case_deinit(&c);
    return ok;
}
