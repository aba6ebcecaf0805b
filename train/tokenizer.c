/* tokenizer: rows of prompts and answers to a vocabulary.
 *
 * What is counted is what the engine will see between the control tokens of a chat: the turn's role
 * and line end before a prompt or an answer included. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "engine/engine.h"
#include "train/args.h"
#include "train/bpe/bpe.h"
#include "train/bpe/corpus.h"
#include "train/bpe/keys.h"
#include "train/loop/rows.h"
#include "train/train.h"

struct options {
    struct arg_texts data;
    const char *out;
    uint64_t size, count_min;
    unsigned space;
};

enum { SPACE_APART, SPACE_JOINED };
static const char *const spaces[] = {"apart", "joined", NULL};
static const char pre[] = "qwen2";

static int add(struct corpus *c, struct buf *scratch, const char *role, struct strview text)
{
    scratch->n = 0;
    int r = buf_append(scratch, role, strlen(role));
    if (r == 0) {
        r = buf_append(scratch, text.data, text.n);
    }
    return r < 0 ? r
                 : corpus_add(
                       c, (struct strview){.data = (const char *)scratch->data, .n = scratch->n});
}

static int add_row(struct corpus *c, struct buf *scratch, const struct row *row)
{
    int r = add(c, scratch, "user\n", row->prompt);

    if (r == CORPUS_OK) {
        r = add(c, scratch, "assistant\n", (struct strview){0});
    }
    return r == CORPUS_OK ? add(c, scratch, "", row->answer) : r;
}

static int add_rows(struct corpus *c, const char *path, struct rows *rows, uint64_t *n_rows)
{
    struct diag diag = {0};
    struct buf scratch;
    struct row row;
    int r, outcome = TRAIN_OK;

    buf_init(&scratch, 2 * ROWS_LINE_MAX);
    while (outcome == TRAIN_OK && (r = rows_next(rows, &row, &diag)) != ROWS_END) {
        if (r != ROWS_OK) {
            outcome = train_refuse(path, &diag);
            break;
        }
        r = add_row(c, &scratch, &row);
        if (r != CORPUS_OK) {
            if (r < 0) {
                outcome = train_errno(path, r);
                break;
            }
            train_error("%s: line %llu: %s", path, (unsigned long long)row.line,
                        r == CORPUS_FULL ? "one different word too many"
                                         : "cannot be cut into words");
            outcome = TRAIN_DATA;
        }
        *n_rows += 1;
    }
    buf_deinit(&scratch);
    return outcome;
}

static int add_file(struct corpus *c, const char *path, uint64_t *n_rows)
{
    const struct rows_fields fields = {.prompt = "prompt", .answer = "answer", .answers = true};
    struct rows *rows = NULL;
    struct buf file;

    buf_init(&file, ROWS_BYTES_MAX);
    int r = train_read(path, &file);
    if (r == TRAIN_OK) {
        const int made = rows_new(&rows, file.data, file.n, &fields);
        r = made < 0 ? train_errno(path, made) : add_rows(c, path, rows, n_rows);
    }
    rows_free(rows);
    buf_deinit(&file);
    return r;
}

static int put_file(struct gguf_writer *w, const struct bpe *b, int fd)
{
    int r = gguf_put_str(w, "general.architecture", strview_of("qwen3"));

    if (r == 0) {
        r = gguf_put_str(w, "general.name", strview_of("vocabulary"));
    }
    if (r == 0) {
        r = bpe_put_keys(w, b, pre);
    }
    if (r == 0) {
        r = gguf_writer_begin(w, fd);
    }
    return r == 0 ? gguf_writer_end(w) : r;
}

static int write_file(const struct bpe *b, const char *path)
{
    struct gguf_writer *w = NULL;
    struct newfile f;
    int r = outfile_begin(&f, path);

    if (r != TRAIN_OK) {
        return r;
    }
    int done = gguf_writer_new(&w);
    if (done == 0) {
        done = put_file(w, b, f.fd);
    }
    gguf_writer_free(w);
    if (done < 0) {
        newfile_abort(&f);
        return train_errno(path, done);
    }
    return outfile_commit(&f, path);
}

static int make(const struct options *o, const struct corpus *corpus, uint64_t n_rows)
{
    const struct bpe_options how = {.n_tokens = (uint32_t)o->size - BPE_CONTROLS,
                                    .count_min = o->count_min,
                                    .apart = o->space == SPACE_APART};
    const uint64_t start = clock_now_ns();
    struct bpe *b = NULL;
    const int made = bpe_train(&b, corpus, &how);

    if (made < 0) {
        return train_errno("merging", made);
    }
    const int r = write_file(b, o->out);
    if (r == TRAIN_OK) {
        (void)printf("%llu rows, %zu different words, %u tokens, merged in %.1f s\n",
                     (unsigned long long)n_rows, corpus_words(corpus), bpe_tokens(b) + BPE_CONTROLS,
                     (double)(clock_now_ns() - start) * 1e-9);
    }
    bpe_free(b);
    return r;
}

static int run(const struct options *o)
{
    struct corpus *corpus = NULL;
    uint64_t n_rows = 0;
    const int made = corpus_new(&corpus, pre);
    int r = made < 0 ? train_errno("words", made) : TRAIN_OK;

    for (size_t i = 0; r == TRAIN_OK && i < o->data.n; i++) {
        r = add_file(corpus, o->data.at[i], &n_rows);
    }
    if (r == TRAIN_OK && n_rows == 0) {
        train_error("%s: no rows", o->data.at[0]);
        r = TRAIN_DATA;
    }
    if (r == TRAIN_OK) {
        r = make(o, corpus, n_rows);
    }
    corpus_free(corpus);
    return r;
}

int verb_tokenizer(int n, char **argv)
{
    struct options o = {.size = 1280, .count_min = 2, .space = SPACE_APART};
    struct arg args[] = {
        {"--data", "FILE", "rows {\"prompt\", \"answer\"}, JSON lines; may be repeated", ARG_TEXTS,
         &o.data},
        {"--out", "FILE.gguf", "where the vocabulary goes", ARG_TEXT, &o.out},
        {"--size", "N", "tokens at most, 256 bytes and 3 control tokens included", ARG_INT, &o.size,
         .lo = BPE_BYTES + BPE_CONTROLS, .hi = BPE_TOKENS_MAX},
        {"--least", "N", "a pair that occurs less often becomes no token", ARG_INT, &o.count_min,
         .lo = 1, .hi = UINT32_MAX},
        {"--space", "HOW",
         "apart: no merge begins with a space, so a word has the same tokens wherever it stands; "
         "joined",
         ARG_WORD, &o.space, .words = spaces},
    };
    static const char usage[] =
        "usage: onebit-train tokenizer --data FILE --out FILE.gguf [OPTION]...";

    if (args_wants_help(n, argv)) {
        (void)printf("%s\n\n", usage);
        args_help(stdout, args, ARRAY_SIZE(args));
        return TRAIN_OK;
    }
    int r = args_parse(args, ARRAY_SIZE(args), n, argv);
    if (r == TRAIN_OK && (o.data.n == 0 || !o.out)) {
        train_error("--data and --out are both needed");
        r = TRAIN_USAGE;
    }
    if (r == TRAIN_USAGE) {
        (void)fprintf(stderr, "%s\n", usage);
    }
    if (r == TRAIN_OK) {
        r = outfile_check(o.out);
    }
    return r == TRAIN_OK ? run(&o) : r;
}
