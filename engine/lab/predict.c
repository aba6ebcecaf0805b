/* info --board: what running a model on a board takes, and what its memory's speed allows.
 *
 * The memory is that of a process which has the packed model mapped, as the daemon's runner has:
 * every page of the weights, a full KV cache, the scratch of a step. bench/memory.py holds it to
 * what the system counts. The speed is a ceiling: a step cannot be faster than the bytes it must
 * read. */
#include <errno.h>
#include <string.h>

#include "engine/lab/board.h"
#include "engine/lab/lab.h"

/* Code, libraries, stacks and the allocator's small change: what is resident when onebit-lab runs
 * the tiny shape, less that model (x86-64, Debian 12: 2.6 MiB), and a little more. */
#define PROCESS_BYTES ((uint64_t)3 << 20)
#define CTX_DEFAULT 4096u /* as the daemon's */
#define MIB 1048576.0

struct prediction {
    const struct board *board;
    struct board_facts facts;
    struct model_use use;
    struct model_cost cost;
    uint64_t total;
};

/* Tokens a second of all streams together, after so many positions in each. */
static double ceiling(const struct prediction *p, double rate, bool full)
{
    const double streams = (double)p->use.n_seqs;
    const double kv = full ? (double)p->cost.token_kv : 0;

    return rate * streams / ((double)p->cost.token_weights + streams * kv);
}

static uint64_t available(const struct prediction *p)
{
    return p->facts.ram_bytes - p->facts.system_bytes;
}

static int predict(const struct lab_args *a, const struct model *model, struct prediction *p)
{
    struct model_info info;

    model_info(model, &info);
    p->board = board_find(a->board);
    int r = board_facts(p->board, &p->facts);
    if (r < 0) {
        return lab_errno(a->board, r);
    }
    const uint32_t usual = info.n_ctx_train < CTX_DEFAULT ? info.n_ctx_train : CTX_DEFAULT;
    const uint64_t ctx = a->ctx ? a->ctx : usual, streams = a->b ? a->b : 1;
    const uint64_t chunk = a->chunk ? a->chunk : LAB_CHUNK;
    if (ctx > info.n_ctx_train) {
        lab_error("--ctx: the model was made for %u positions", info.n_ctx_train);
        return LAB_USAGE;
    }
    p->use = (struct model_use){
        .kv = a->kv,
        .n_seqs = (size_t)streams,
        .n_ctx = (size_t)ctx,
        .limits = {.n_tokens_max = (size_t)(chunk > streams ? chunk : streams),
                   .n_logits_max = (size_t)streams},
        .n_threads = a->threads ? (unsigned)a->threads : p->facts.n_threads,
    };
    r = model_cost(model, &p->use, &p->cost);
    if (r < 0) {
        return lab_errno(a->path, r);
    }
    const struct model_cost *c = &p->cost;
    p->total = c->weights + c->tables + c->kv + c->scratch + c->sampler + PROCESS_BYTES;
    return LAB_OK;
}

/* ---- printing ---- */

static json_t *json_rates(const struct prediction *p, bool full)
{
    json_t *peak =
        p->facts.measured ? json_null() : json_real(ceiling(p, p->facts.peak_rate, full));

    return json_pack("{s:I, s:o, s:f}", "positions", full ? (json_int_t)p->use.n_ctx : 0,
                     "peak_tokens_per_second", peak, "practical_tokens_per_second",
                     ceiling(p, p->facts.practical_rate, full));
}

static int print_json(const struct prediction *p)
{
    const struct model_cost *c = &p->cost;
    const struct board_facts *f = &p->facts;
    json_t *memory =
        json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "weights", (json_int_t)c->weights,
                  "tables", (json_int_t)c->tables, "kv", (json_int_t)c->kv, "scratch",
                  (json_int_t)c->scratch, "sampler", (json_int_t)c->sampler, "process",
                  (json_int_t)PROCESS_BYTES, "total", (json_int_t)p->total);
    json_t *board =
        json_pack("{s:s, s:s, s:I, s:I, s:o, s:f, s:b}", "name", p->board->name, "description",
                  p->board->what, "ram_bytes", (json_int_t)f->ram_bytes, "system_bytes",
                  (json_int_t)f->system_bytes, "peak_bytes_per_second",
                  f->measured ? json_null() : json_real(f->peak_rate), "practical_bytes_per_second",
                  f->practical_rate, "measured", f->measured);
    json_t *use =
        json_pack("{s:I, s:I, s:s, s:I, s:I}", "context", (json_int_t)p->use.n_ctx, "streams",
                  (json_int_t)p->use.n_seqs, "kv", kv_type_name(p->use.kv), "chunk",
                  (json_int_t)p->use.limits.n_tokens_max, "threads", (json_int_t)p->use.n_threads);

    return out_json(json_pack("{s:o, s:o, s:o, s:b, s:I, s:{s:I, s:I}, s:{s:o, s:o}}", "board",
                              board, "use", use, "memory", memory, "fits", p->total <= available(p),
                              "spare_bytes", (json_int_t)available(p) - (json_int_t)p->total,
                              "read_per_token", "weights", (json_int_t)c->token_weights, "kv",
                              (json_int_t)c->token_kv, "ceiling", "empty", json_rates(p, false),
                              "full", json_rates(p, true)));
}

static void memory_line(const char *label, uint64_t bytes, const char *what)
{
    (void)printf("  %-10s %10.1f MiB  %s\n", label, (double)bytes / MIB, what);
}

static void print_memory(const struct prediction *p)
{
    const struct model_cost *c = &p->cost;
    const struct board_facts *f = &p->facts;
    const bool fits = p->total <= available(p);
    const uint64_t apart = fits ? available(p) - p->total : p->total - available(p);

    (void)printf("memory\n");
    memory_line("weights", c->weights, "packed, mapped from a file");
    memory_line("tables", c->tables, "vocabulary and directory, in that file");
    memory_line("KV", c->kv, "keys and values, every position in use");
    memory_line("scratch", c->scratch, "activations and logits of a step");
    memory_line("sampler", c->sampler, "");
    memory_line("process", PROCESS_BYTES, "code, libraries, stacks");
    memory_line("in all", p->total, "");
    memory_line("board", f->ram_bytes, "");
    memory_line("system", f->system_bytes,
                f->measured ? "in use now" : "set aside for firmware, kernel and services");
    (void)printf("  %s: %.1f MiB %s\n", fits ? "fits" : "DOES NOT FIT", (double)apart / MIB,
                 fits ? "to spare" : "too much");
}

static void print_ceiling(const struct prediction *p, bool full)
{
    (void)printf("  after %7zu positions: ", full ? p->use.n_ctx : 0);
    if (!p->facts.measured) {
        (void)printf("%.1f tokens/s at the pins' rate, ", ceiling(p, p->facts.peak_rate, full));
    }
    (void)printf("%.1f in practice\n", ceiling(p, p->facts.practical_rate, full));
}

static void print_text(const struct prediction *p)
{
    const struct board_facts *f = &p->facts;

    (void)printf("%s\n", p->board->what);
    (void)printf(
        "%zu stream%s of %zu positions, KV %s, %zu prompt tokens in one step, %u threads\n",
        p->use.n_seqs, p->use.n_seqs == 1 ? "" : "s", p->use.n_ctx, kv_type_name(p->use.kv),
        p->use.limits.n_tokens_max, p->use.n_threads);
    print_memory(p);
    (void)printf("ceiling on generation: what must be read, over how fast memory is read\n");
    if (f->measured) {
        (void)printf("  %.1f GB/s measured with %u threads\n", f->practical_rate / 1e9,
                     f->n_threads);
    } else {
        (void)printf("  %.1f GB/s at the pins (%u bits x %u MT/s), about %.1f in practice\n",
                     f->peak_rate / 1e9, p->board->bus_bits, p->board->mega_transfers,
                     f->practical_rate / 1e9);
    }
    (void)printf("  a step reads %.1f MiB of weights, and %.1f MiB of KV for a stream of %zu\n",
                 (double)p->cost.token_weights / MIB, (double)p->cost.token_kv / MIB, p->use.n_ctx);
    print_ceiling(p, false);
    print_ceiling(p, true);
    (void)printf("  of all streams together; computing can only make it slower\n");
}

int predict_print(const struct lab_args *a, const struct model *model)
{
    struct prediction p = {0};
    const int r = predict(a, model, &p);

    if (r != LAB_OK) {
        return r;
    }
    if (a->json) {
        return print_json(&p);
    }
    print_text(&p);
    return LAB_OK;
}
