/* score: what a model answers to the prompts of a file, and how many of the answers are exactly
 * those of the file; or how likely it holds those. */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fdio.h"
#include "engine/engine.h"
#include "train/args.h"
#include "train/loop/greedy.h"
#include "train/loop/likelihood.h"
#include "train/loop/prompt.h"
#include "train/loop/rows.h"
#include "train/train.h"

struct options {
    const char *model, *data, *out, *prompt_field, *answer_field;
    uint64_t threads, n_answer_max;
    unsigned kv;
    bool misses, perplexity;
};

struct text {
    char *data; /* owned */
    size_t n;
    bool there;
};

struct item {
    struct text prompt, want, got;
    bool ended;
};

struct score {
    const struct options *o; /* borrowed */
    struct item *items;      /* (n) owned */
    size_t n, room;
    struct model *model; /* owned */
    enum chat_template chat;
};

static const char *const kv_names[] = {"f32", "f16", "int8", NULL};

static int keep(struct text *to, struct strview from)
{
    to->there = from.data != NULL;
    to->n = from.n;
    to->data = malloc(from.n + 1);
    if (!to->data) {
        return -ENOMEM;
    }
    if (from.n > 0) {
        memcpy(to->data, from.data, from.n);
    }
    return 0;
}

static bool same(const struct text *a, const struct text *b)
{
    return a->n == b->n && memcmp(a->data, b->data, a->n) == 0;
}

/* ---- rows ---- */

static int add_row(struct score *s, const struct row *row)
{
    if (s->n == s->room) {
        const size_t room = s->room ? s->room * 2 : 1024;
        struct item *items = realloc(s->items, room * sizeof(*items));
        if (!items) {
            return -ENOMEM;
        }
        s->items = items;
        s->room = room;
    }
    struct item *item = &s->items[s->n++];
    *item = (struct item){0};
    const int r = keep(&item->prompt, row->prompt);
    return r < 0 ? r : keep(&item->want, row->answer);
}

static int read_rows(struct score *s, struct rows *rows)
{
    struct diag diag = {0};
    struct row row;
    int r;

    while ((r = rows_next(rows, &row, &diag)) == ROWS_OK) {
        r = add_row(s, &row);
        if (r < 0) {
            return train_errno(s->o->data, r);
        }
    }
    if (r == ROWS_END && s->n == 0) {
        train_error("%s: no rows", s->o->data);
        return TRAIN_DATA;
    }
    return r == ROWS_END ? TRAIN_OK : train_refuse(s->o->data, &diag);
}

static int read_file(struct score *s)
{
    const struct rows_fields fields = {.prompt = s->o->prompt_field, .answer = s->o->answer_field};
    struct rows *rows = NULL;
    struct buf file;

    buf_init(&file, ROWS_BYTES_MAX);
    int r = train_read(s->o->data, &file);
    if (r == TRAIN_OK) {
        const int made = rows_new(&rows, file.data, file.n, &fields);
        r = made < 0 ? train_errno(s->o->data, made) : read_rows(s, rows);
    }
    rows_free(rows);
    buf_deinit(&file);
    return r;
}

/* ---- the model ---- */

static int open_model(struct score *s)
{
    const struct model_limits limits = {0};
    struct model_info info;
    struct diag diag = {0};
    int fd = -1;
    int r = train_open(s->o->model, &fd);

    if (r != TRAIN_OK) {
        return r;
    }
    int opened = model_open_gguf(&s->model, fd, &limits, &diag);
    if (opened == MODEL_OK) {
        opened = model_bring_in(s->model, fd, WEIGHTS_SHARED, &diag);
    }
    (void)close(fd);
    r = train_model_outcome(s->o->model, opened, &diag);
    if (r != TRAIN_OK) {
        return r;
    }
    model_info(s->model, &info);
    s->chat = info.chat;
    if (s->chat == CHAT_NONE) {
        train_error("%s: it has no chat template that the engine knows", s->o->model);
        return TRAIN_UNAVAILABLE;
    }
    return TRAIN_OK;
}

static int give_prompt(void *arg, size_t i, int32_t *ids, size_t n_max, size_t *ret_n)
{
    const struct score *s = arg;
    const struct text *t = &s->items[i].prompt;

    return prompt_ids(model_vocab(s->model), s->chat, (struct strview){t->data, t->n}, ids, n_max,
                      ret_n);
}

static int take_answer(void *arg, size_t i, struct strview text, bool ended)
{
    struct score *s = arg;

    s->items[i].ended = ended;
    return keep(&s->items[i].got, text);
}

static int answer_all(struct score *s)
{
    const struct greedy_options options = {.n_threads = (unsigned)s->o->threads,
                                           .kv = (enum kv_type)s->o->kv,
                                           .n_answer_max = (size_t)s->o->n_answer_max};
    struct greedy *g = NULL;
    int r = greedy_new(&g, s->model, &options);

    if (r == 0) {
        r = greedy_run(g, s->n, give_prompt, take_answer, s);
    }
    greedy_free(g);
    if (r == -EDOM) {
        train_error("%s: its logits are no numbers", s->o->model);
        return TRAIN_DATA;
    }
    return r == 0 ? TRAIN_OK : train_errno(s->o->model, r < 0 ? r : -EIO);
}

/* ---- how likely it holds the answers ---- */

struct told {
    struct score *s; /* borrowed */
    int32_t end;
};

static int give_row(void *arg, size_t i, int32_t *ids, size_t n_max, size_t *ret_prompt,
                    size_t *ret_n)
{
    const struct told *told = arg;
    const struct text *want = &told->s->items[i].want;
    size_t n = 0;

    if (!want->there) {
        return PROMPT_HARD;
    }
    int r = give_prompt(told->s, i, ids, n_max, ret_prompt);
    if (r == PROMPT_OK) {
        r = answer_ids(model_vocab(told->s->model), (struct strview){want->data, want->n},
                       told->end, ids + *ret_prompt, n_max - *ret_prompt, &n);
    }
    *ret_n = *ret_prompt + n;
    return r;
}

static int foretell(struct score *s)
{
    struct told told = {.s = s, .end = -1};
    struct likelihood found = {0};
    int r = prompt_end(model_vocab(s->model), &told.end);

    if (r == 0 && told.end < 0) {
        train_error("%s: its vocabulary has no end of a turn", s->o->model);
        return TRAIN_UNAVAILABLE;
    }
    if (r == 0) {
        r = likelihood_run(s->model, (enum kv_type)s->o->kv, (unsigned)s->o->threads, s->n,
                           give_row, &told, &found);
    }
    if (r == -EDOM || (r == 0 && found.n_tokens == 0)) {
        train_error(r ? "%s: its logits are no numbers" : "%s: no answer can be foretold",
                    r ? s->o->model : s->o->data);
        return TRAIN_DATA;
    }
    if (r == 0) {
        const double loss = found.sum / (double)found.n_tokens;
        (void)printf("perplexity %.6f, loss %.6f, of %zu tokens of %zu answers, %zu skipped\n",
                     exp(loss), loss, found.n_tokens, found.n_rows, found.n_skipped);
    }
    return r == 0 ? TRAIN_OK : train_errno(s->o->model, r);
}

/* ---- what came of it ---- */

/* A JSON string; bytes that are no UTF-8 become U+FFFD. */
static json_t *json_text(const struct text *t)
{
    json_t *s = json_stringn(t->data, t->n);
    char *fixed = s ? NULL : malloc(3 * t->n + 1);
    size_t n = 0;

    for (size_t i = 0; fixed && i < t->n; i++) {
        if ((uint8_t)t->data[i] < 0x80) {
            fixed[n++] = t->data[i];
        } else {
            memcpy(fixed + n, "\xef\xbf\xbd", 3);
            n += 3;
        }
    }
    if (fixed) {
        s = json_stringn(fixed, n);
        free(fixed);
    }
    return s;
}

static int write_line(int fd, const struct item *item)
{
    json_t *o =
        json_pack("{s:o, s:o}", "text", json_text(&item->prompt), "output", json_text(&item->got));
    char *line = o ? json_dumps(o, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
    int r = line ? fd_write_all(fd, line, strlen(line)) : -ENOMEM;

    if (r == 0) {
        r = fd_write_all(fd, "\n", 1);
    }
    free(line);
    json_decref(o);
    return r;
}

static int write_answers(const struct score *s)
{
    struct newfile f;
    int r = outfile_begin(&f, s->o->out);
    int wrote = 0;

    if (r != TRAIN_OK) {
        return r;
    }
    for (size_t i = 0; wrote == 0 && i < s->n; i++) {
        wrote = write_line(f.fd, &s->items[i]);
    }
    if (wrote < 0) {
        newfile_abort(&f);
        return train_errno(s->o->out, wrote);
    }
    return outfile_commit(&f, s->o->out);
}

static void print_miss(const struct item *item)
{
    json_t *o = json_pack("{s:o, s:o, s:o}", "prompt", json_text(&item->prompt), "want",
                          json_text(&item->want), "got", json_text(&item->got));

    if (o) {
        (void)json_dumpf(o, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
        (void)fputc('\n', stdout);
    }
    json_decref(o);
}

static void report(const struct score *s, double seconds)
{
    size_t n_wanted = 0, n_exact = 0, n_cut = 0;

    for (size_t i = 0; i < s->n; i++) {
        const struct item *item = &s->items[i];
        const bool exact = item->want.there && item->ended && same(&item->want, &item->got);
        n_wanted += item->want.there;
        n_exact += exact;
        n_cut += !item->ended;
        if (s->o->misses && item->want.there && !exact) {
            print_miss(item);
        }
    }
    if (n_wanted > 0) {
        (void)printf("exact     %zu of %zu, %.2f %%\n", n_exact, n_wanted,
                     100.0 * (double)n_exact / (double)n_wanted);
    }
    (void)printf("answered  %zu in %.3f s, %zu of them cut\n", s->n, seconds, n_cut);
}

/* Ask, and say what came of it. */
static int ask(struct score *s)
{
    const uint64_t start = clock_now_ns();
    int r = answer_all(s);
    const double seconds = (double)(clock_now_ns() - start) * 1e-9;

    if (r == TRAIN_OK) {
        report(s, seconds); /* before anything can go wrong with the file of answers */
    }
    return r == TRAIN_OK && s->o->out ? write_answers(s) : r;
}

static int run(const struct options *o)
{
    struct score s = {.o = o};
    int r = read_file(&s);

    if (r == TRAIN_OK) {
        r = open_model(&s);
    }
    if (r == TRAIN_OK) {
        r = o->perplexity ? foretell(&s) : ask(&s);
    }
    for (size_t i = 0; i < s.n; i++) {
        free(s.items[i].prompt.data);
        free(s.items[i].want.data);
        free(s.items[i].got.data);
    }
    free(s.items);
    model_free(s.model);
    return r;
}

int verb_score(int n, char **argv)
{
    struct options o = {.prompt_field = "prompt",
                        .answer_field = "answer",
                        .threads = engine_threads_default(),
                        .n_answer_max = 256,
                        .kv = KV_F16};
    struct arg args[] = {
        {"MODEL.gguf", NULL, "the model", ARG_TEXT, &o.model},
        {"ROWS.jsonl", NULL, "JSON lines; a row without an answer is answered and not counted",
         ARG_TEXT, &o.data},
        {"--out", "FILE", "write lines {\"text\": prompt, \"output\": answer}", ARG_TEXT, &o.out},
        {"--misses", NULL, "print the rows that were not answered exactly", ARG_FLAG, &o.misses},
        {"--perplexity", NULL, "ask nothing: how likely are the answers, a token?", ARG_FLAG,
         &o.perplexity},
        {"--prompt", "NAME", "the rows' member that is asked", ARG_TEXT, &o.prompt_field},
        {"--answer", "NAME", "the member that is the right answer", ARG_TEXT, &o.answer_field},
        {"--most", "N", "tokens of an answer", ARG_INT, &o.n_answer_max, .lo = 1, .hi = 65536},
        {"--kv", "TYPE", "the cache: f32, f16, int8", ARG_WORD, &o.kv, .words = kv_names},
        {"--threads", "N", "1 to 64; by default the cores that this process may use", ARG_INT,
         &o.threads, .lo = 1, .hi = 64},
    };
    static const char usage[] = "usage: onebit-train score MODEL.gguf ROWS.jsonl [OPTION]...";

    o.threads = o.threads > 64 ? 64 : o.threads;
    if (args_wants_help(n, argv)) {
        (void)printf("%s\n\n", usage);
        args_help(stdout, args, ARRAY_SIZE(args));
        return TRAIN_OK;
    }
    int r = args_parse(args, ARRAY_SIZE(args), n, argv);
    if (r == TRAIN_OK && (!o.model || !o.data)) {
        train_error("a model and a file of rows are both needed");
        r = TRAIN_USAGE;
    }
    if (r == TRAIN_OK && o.perplexity && (o.out || o.misses)) {
        train_error("--perplexity asks nothing: no --out, no --misses");
        r = TRAIN_USAGE;
    }
    if (r == TRAIN_USAGE) {
        (void)fprintf(stderr, "%s\n", usage);
    }
    if (r == TRAIN_OK && o.out) {
        r = outfile_check(o.out);
    }
    return r == TRAIN_OK ? run(&o) : r;
}
