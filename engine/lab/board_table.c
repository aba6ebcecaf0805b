/* info --board with several models or boards: what each model takes, and how many streams of it a
 * daemon has room for on each board, as a Markdown table.
 *
 * A board's budget is the daemon's own rule, `[memory] budget = 0`: 60 % of the memory. What counts
 * against it is what the daemon counts: packed weights and tables, the scratch of a step of its
 * size, and every position of the streams in use. */
#include <stdio.h>
#include <string.h>

#include "base/compiler.h"
#include "engine/lab/board.h"
#include "engine/lab/lab.h"

#define BUDGET_PERCENT 60u
#define CTX_DEFAULT 2048u
#define STEP_TOKENS 576u /* of the daemon's engine, prompts and streams together */
#define BROKER_MIB 16u   /* the broker, queues and unread answers at rest, and the runner's own */
#define POSITIONS 1000u  /* whose KV is named */
#define MIB ((uint64_t)1 << 20)

struct table {
    const struct lab_args *a;
    struct board boards[BOARDS_MAX];
    size_t n_boards;
};

static int cost_of(const struct model *model, enum kv_type kv, size_t n_seqs, size_t n_ctx,
                   unsigned n_threads, struct model_cost *ret)
{
    const struct model_use use = {
        .kv = kv,
        .n_seqs = n_seqs,
        .n_ctx = n_ctx,
        .limits = {.n_tokens_max = STEP_TOKENS, .n_logits_max = n_seqs},
        .n_threads = n_threads,
    };
    return model_cost(model, &use, ret);
}

/* How many streams of so many positions fit; 0: none. */
static int streams_of(const struct model *model, enum kv_type kv, size_t n_ctx,
                      const struct board *board, unsigned *ret)
{
    const uint64_t budget = (uint64_t)board->ram_mib * MIB / 100 * BUDGET_PERCENT;
    struct model_cost c;

    *ret = 0;
    for (unsigned n = 1; n <= LAB_STREAMS_MAX; n++) {
        const int r = cost_of(model, kv, n, n_ctx, board->n_threads ? board->n_threads : 1, &c);
        if (r < 0) {
            return r;
        }
        if (c.weights + c.tables + c.kv + c.scratch + c.sampler + BROKER_MIB * MIB > budget) {
            break;
        }
        *ret = n;
    }
    return 0;
}

static void print_mib(double bytes)
{
    const double mib = bytes / (double)MIB;

    (void)printf(mib < 10 ? " %.1f |" : " %.0f |", mib);
}

static int print_row(const struct table *t, const char *name, const struct model *model,
                     enum kv_type kv)
{
    struct model_info info;
    struct model_cost c;

    model_info(model, &info);
    const size_t asked = t->a->ctx ? (size_t)t->a->ctx : CTX_DEFAULT;
    const size_t n_ctx = asked < info.n_ctx_train ? asked : info.n_ctx_train;
    int r = cost_of(model, kv, 1, n_ctx, 4, &c);
    (void)printf("| ");
    out_text(stdout, true, name, strlen(name));
    (void)printf(" | %s |", kv_type_name(kv));
    print_mib((double)(c.weights + c.tables));
    print_mib((double)c.kv / (double)n_ctx * POSITIONS);
    print_mib((double)(c.scratch + c.sampler));
    for (size_t i = 0; i < t->n_boards && r == 0; i++) {
        unsigned n = 0;
        r = streams_of(model, kv, n_ctx, &t->boards[i], &n);
        if (n == 0) {
            (void)printf(" does not fit |");
        } else {
            (void)printf(" %u%s |", n, n == LAB_STREAMS_MAX ? " or more" : "");
        }
    }
    (void)printf("\n");
    return r;
}

static int print_model(const struct table *t, const char *path)
{
    static const enum kv_type types[] = {KV_F16, KV_I8};
    const char *slash = strrchr(path, '/');
    char name[256];
    struct model *model = NULL;
    int r = lab_model(path, &model, NULL);

    if (r != LAB_OK) {
        return r;
    }
    (void)snprintf(name, sizeof(name), "%s", slash ? slash + 1 : path);
    char *suffix = strstr(name, ".gguf");
    if (suffix) {
        *suffix = '\0';
    }
    for (size_t i = 0; i < ARRAY_SIZE(types) && r == LAB_OK; i++) {
        const int e = print_row(t, name, model, types[i]);
        r = e < 0 ? lab_errno(path, e) : LAB_OK;
    }
    model_free(model);
    return r;
}

static void print_head(const struct table *t)
{
    (void)printf("| Model | KV | Weights, MiB | KV of %u positions, MiB | Scratch, MiB |",
                 POSITIONS);
    for (size_t i = 0; i < t->n_boards; i++) {
        const struct board *b = &t->boards[i];
        (void)printf(" %.*s: %llu of %u MiB |", (int)strcspn(b->name, ","), b->name,
                     (unsigned long long)b->ram_mib * BUDGET_PERCENT / 100, b->ram_mib);
    }
    (void)printf("\n|---|---|---:|---:|---:|");
    for (size_t i = 0; i < t->n_boards; i++) {
        (void)printf("---:|");
    }
    (void)printf("\n");
}

bool board_table_wanted(const struct lab_args *a)
{
    struct board boards[BOARDS_MAX];
    char bad[BOARD_NAME_MAX + 1];
    size_t n = 0;

    return a->n_also > 0 || (a->board && boards_parse(a->board, boards, &n, bad) &&
                             (n > 1 || board_is_size(boards)));
}

int board_table(const struct lab_args *a)
{
    struct table t = {.a = a};
    char bad[BOARD_NAME_MAX + 1];

    if (!a->board || !boards_parse(a->board, t.boards, &t.n_boards, bad)) {
        lab_error("several models are compared on boards: name some with --board");
        return LAB_USAGE;
    }
    if (a->json || a->b || a->chunk) {
        lab_error("--json, --streams and --chunk are of one model on one board");
        return LAB_USAGE;
    }
    for (size_t i = 0; i < t.n_boards; i++) {
        struct board_facts facts;
        if (t.boards[i].ram_mib > 0) {
            continue;
        }
        const int r = board_facts(&t.boards[i], &facts);
        if (r < 0) {
            return lab_errno(t.boards[i].name, r);
        }
        t.boards[i].ram_mib = (uint32_t)(facts.ram_bytes / MIB);
        t.boards[i].n_threads = facts.n_threads;
    }
    print_head(&t);
    int r = print_model(&t, a->path);
    for (size_t i = 0; i < a->n_also && r == LAB_OK; i++) {
        r = print_model(&t, a->also[i]);
    }
    if (r == LAB_OK) {
        (void)printf(
            "\nStreams of %llu positions (or of as many as the model was made for) beside one "
            "another, in 60 %% of the memory.\n",
            (unsigned long long)(a->ctx ? a->ctx : CTX_DEFAULT));
    }
    return r;
}
