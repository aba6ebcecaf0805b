/* session: the order of things. Whatever can be found wrong is found before the first step. */
#include "train/session.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/engine.h"
#include "train/loop/checkpoint.h"
#include "train/loop/data.h"
#include "train/loop/export.h"
#include "train/loop/rows.h"
#include "train/loop/trainer.h"
#include "train/loop/vocabulary.h"
#include "train/show.h"
#include "train/train.h"

struct session {
    const struct session_options *o; /* borrowed */
    struct vocabulary vocabulary;
    struct data *data, *valid; /* owned */
    struct trainer *trainer;   /* owned */
    struct show show;
    int trouble;       /* exit code of the first failure that the training outlived, or TRAIN_OK */
    uint64_t kept_for; /* the step of the last checkpoint written; UINT64_MAX: none was */
};

static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
    stopped = number;
}

static void session_deinit(struct session *s)
{
    trainer_free(s->trainer);
    data_free(s->data);
    data_free(s->valid);
    vocabulary_close(&s->vocabulary);
}

/* ---- what is read ---- */

static int read_data(const char *path, struct data *data, bool skip_long)
{
    struct diag diag = {0};
    struct buf file;

    buf_init(&file, ROWS_BYTES_MAX);
    int r = train_read(path, &file);
    if (r == TRAIN_OK) {
        const int added = data_add(data, file.data, file.n, skip_long, &diag);
        r = added == DATA_OK ? TRAIN_OK
            : added < 0      ? train_errno(path, added)
                             : train_refuse(path, &diag);
    }
    buf_deinit(&file);
    return r;
}

/* Rows that were left out are counted for the person; some have to be there. */
static int check_rows(const char *path, const char *which, const struct data *data)
{
    const size_t n_skipped = data_skipped(data);

    if (n_skipped > 0) {
        (void)fprintf(stderr, "%zu rows%s are longer than the context and left out\n", n_skipped,
                      which);
    }
    if (data_rows(data) == 0) {
        train_error("%s: no rows%s", path, n_skipped > 0 ? " that the context holds" : "");
        return TRAIN_DATA;
    }
    return TRAIN_OK;
}

static int load_files(struct session *s, const char *const *paths, size_t n, struct data *data,
                      const char *which)
{
    int r = TRAIN_OK;

    for (size_t i = 0; r == TRAIN_OK && i < n; i++) {
        r = read_data(paths[i], data, s->o->skip_long);
    }
    return r == TRAIN_OK ? check_rows(paths[0], which, data) : r;
}

static int load_data(struct session *s, uint32_t n_ctx)
{
    const struct session_options *o = s->o;
    int made = data_new(&s->data, &s->vocabulary, n_ctx);

    if (made == 0 && o->valid) {
        made = data_new(&s->valid, &s->vocabulary, n_ctx);
    }
    if (made < 0) {
        return train_errno("rows", made);
    }
    const int r = load_files(s, o->data.at, o->data.n, s->data, "");
    return r == TRAIN_OK && o->valid ? load_files(s, &o->valid, 1, s->valid, " held back") : r;
}

static int load_vocabulary(struct session *s, const char *path)
{
    struct diag diag = {0};
    int fd = -1;
    int r = train_open(path, &fd);

    if (r == TRAIN_OK) {
        r = train_model_outcome(path, vocabulary_open(&s->vocabulary, fd, &diag), &diag);
        (void)close(fd);
    }
    return r;
}

/* A checkpoint's bytes, and what they say; @file is the caller's to free. */
static int load_checkpoint(const char *path, struct buf *file, struct checkpoint *ret)
{
    struct diag diag = {0};

    buf_init(file, CHECKPOINT_BYTES_MAX);
    const int r = train_read(path, file);
    if (r != TRAIN_OK) {
        return r;
    }
    const int parsed = checkpoint_parse(ret, file->data, file->n, &diag);
    if (parsed == CHECKPOINT_OK) {
        return TRAIN_OK;
    }
    const int refused = train_refuse(path, &diag);
    return parsed == CHECKPOINT_UNSUPPORTED ? TRAIN_UNAVAILABLE : refused;
}

static int net_errno(int r)
{
    if (r == -EINVAL) {
        train_error("such a net cannot be made: its sizes and modes do not go together");
        return TRAIN_USAGE;
    }
    return train_errno("net", r);
}

static int make_trainer(struct session *s, const struct recipe *recipe)
{
    const int r = trainer_new(&s->trainer, recipe);

    return r < 0 ? net_errno(r) : TRAIN_OK;
}

/* A few bytes may name a net of many gigabytes: nothing is made for it before this. */
static int check_size(const char *path, const struct checkpoint *c)
{
    struct diag diag = {0};
    const int r = trainer_fits(c, &diag);

    return r == TRAINER_OK ? TRAIN_OK : r < 0 ? net_errno(r) : train_refuse(path, &diag);
}

/* The trainer and vocabulary that a checkpoint holds. */
static int restore(struct session *s, const char *path, struct recipe *ret)
{
    struct checkpoint c = {0};
    struct diag diag = {0};
    struct buf file;
    int r = load_checkpoint(path, &file, &c);

    if (r == TRAIN_OK) {
        const int read = vocabulary_read(&s->vocabulary, c.vocabulary, c.n_vocabulary, &diag);
        r = train_model_outcome(path, read, &diag);
    }
    if (r == TRAIN_OK && vocab_size(s->vocabulary.vocab) != c.recipe.n_vocab) {
        train_error("%s: its vocabulary is not that of its recipe", path);
        r = TRAIN_DATA;
    }
    if (r == TRAIN_OK) {
        r = check_size(path, &c);
    }
    if (r == TRAIN_OK) {
        r = make_trainer(s, &c.recipe);
    }
    if (r == TRAIN_OK) {
        const int loaded = trainer_load(s->trainer, &c);
        r = loaded < 0 ? train_errno(path, loaded) : TRAIN_OK;
    }
    if (r == TRAIN_OK) {
        *ret = c.recipe;
    }
    buf_deinit(&file);
    return r;
}

/* Parameters of another training. */
static int warm(struct session *s, const char *path)
{
    struct checkpoint c = {0};
    struct diag diag = {0};
    struct buf file;
    int r = load_checkpoint(path, &file, &c);

    if (r == TRAIN_OK && (c.n_vocabulary != s->vocabulary.n ||
                          memcmp(c.vocabulary, s->vocabulary.bytes, c.n_vocabulary) != 0)) {
        train_error("%s: has another vocabulary", path);
        r = TRAIN_DATA;
    }
    if (r == TRAIN_OK && trainer_warm(s->trainer, &c, &diag) != TRAINER_OK) {
        train_error("%s: is of another net: %s", path, diag.text);
        r = TRAIN_DATA;
    }
    buf_deinit(&file);
    return r;
}

/* A part of a training is worth nothing that no checkpoint keeps. */
static int check_part(const struct session_options *o, uint64_t n_left)
{
    if (o->checkpoint || o->stop_after == 0 || o->stop_after >= n_left) {
        return TRAIN_OK;
    }
    train_error("--stop-after %" PRIu64 " ends before the last of %" PRIu64
                " steps: without --checkpoint they would be lost",
                o->stop_after, n_left);
    return TRAIN_USAGE;
}

static int begin_fresh(struct session *s)
{
    struct recipe recipe = s->o->recipe;
    struct diag diag = {0};
    int r = check_part(s->o, recipe.n_steps);

    if (r == TRAIN_OK) {
        r = load_vocabulary(s, s->o->tokenizer);
    }
    if (r != TRAIN_OK) {
        return r;
    }
    recipe.n_vocab = vocab_size(s->vocabulary.vocab);
    recipe.n_rows = 1; /* any number, until they are read */
    if (!recipe_check(&recipe, &diag)) {
        train_error("%s", diag.text);
        return TRAIN_USAGE;
    }
    r = load_data(s, (uint32_t)recipe.n_ctx);
    if (r != TRAIN_OK) {
        return r;
    }
    recipe.n_rows = data_rows(s->data);
    recipe.data_hash = data_hash(s->data);
    r = make_trainer(s, &recipe);
    return r == TRAIN_OK && s->o->from ? warm(s, s->o->from) : r;
}

static int begin_again(struct session *s)
{
    struct recipe recipe;
    int r = restore(s, s->o->resume, &recipe);

    if (r == TRAIN_OK) {
        const uint64_t step = trainer_at(s->trainer)->step;
        r = check_part(s->o, step < recipe.n_steps ? recipe.n_steps - step : 0);
    }
    if (r == TRAIN_OK) {
        r = load_data(s, (uint32_t)recipe.n_ctx);
    }
    if (r == TRAIN_OK &&
        (data_hash(s->data) != recipe.data_hash || data_rows(s->data) != recipe.n_rows)) {
        train_error("%s: was made with other rows than those of --data", s->o->resume);
        r = TRAIN_DATA;
    }
    return r;
}

/* ---- what is written ---- */

static int write_checkpoint(struct session *s)
{
    const char *path = s->o->checkpoint;
    struct checkpoint c;
    struct newfile f;
    int r = outfile_begin(&f, path);

    if (r != TRAIN_OK) {
        return r;
    }
    trainer_save(s->trainer, &c);
    c.vocabulary = s->vocabulary.bytes;
    c.n_vocabulary = s->vocabulary.n;
    const int wrote = checkpoint_write(f.fd, &c);
    if (wrote < 0) {
        newfile_abort(&f);
        return train_errno(path, wrote);
    }
    return outfile_commit(&f, path);
}

static int write_model(struct session *s)
{
    const struct export_card card = {
        .name = s->o->name, .description = s->o->description, .license = s->o->license};
    const char *path = s->o->out;
    struct newfile f;
    int r = outfile_begin(&f, path);

    if (r != TRAIN_OK) {
        return r;
    }
    const int wrote = export_gguf(trainer_net(s->trainer), trainer_recipe(s->trainer),
                                  trainer_at(s->trainer), &s->vocabulary, &card, f.fd);
    if (wrote == 0) {
        return outfile_commit(&f, path);
    }
    newfile_abort(&f);
    if (wrote == -EDOM) {
        train_error("%s: a parameter is no number", path);
        return TRAIN_DATA;
    }
    return train_errno(path, wrote);
}

/* ---- running ---- */

/* The training outlives this; the exit status says it. */
static void note(struct session *s, int r)
{
    if (s->trouble == TRAIN_OK) {
        s->trouble = r;
    }
}

/* The place of the last checkpoint may have become too small, or read-only: what is in memory is
 * worth more than the call's end. */
static void keep(struct session *s)
{
    const uint64_t step = trainer_at(s->trainer)->step;

    show_end(&s->show);
    const int r = write_checkpoint(s);
    note(s, r);
    if (r == TRAIN_OK) {
        s->kept_for = step;
    } else {
        show_line(&s->show, "step %" PRIu64 "  no checkpoint could be written", step);
    }
}

/* It decides nothing, so a signal ends it without a word. */
static void show_valid(struct session *s)
{
    struct net_loss l;
    const int r = trainer_loss(s->trainer, s->valid, &stopped, &l);

    if (r < 0) {
        show_end(&s->show);
        note(s, train_errno("validation", r));
    }
    if (r == TRAINER_OK) {
        show_line(&s->show, "step %" PRIu64 "  held back: loss %.4f  right %.2f %%",
                  trainer_at(s->trainer)->step, l.weight > 0 ? l.sum / l.weight : 0,
                  l.n > 0 ? 100.0 * (double)l.n_best / (double)l.n : 0);
    }
}

static bool due(uint64_t step, uint64_t every)
{
    return every > 0 && step % every == 0;
}

static int one_step(struct session *s)
{
    const struct session_options *o = s->o;
    struct step_report report;
    const int r = trainer_step(s->trainer, s->data, &report);

    if (r < 0) {
        return train_errno("step", r);
    }
    const uint64_t step = trainer_at(s->trainer)->step;
    if (r == TRAINER_DIVERGED) {
        show_end(&s->show);
        train_error("step %" PRIu64 ": loss or gradient is no number any more", step + 1);
        return TRAIN_DATA;
    }
    show_step(&s->show, step, &report);
    if (o->checkpoint && due(step, o->checkpoint_every)) {
        keep(s);
    }
    if (s->valid && due(step, o->valid_every)) {
        show_valid(s);
    }
    return TRAIN_OK;
}

/* What is asked for at the end: each is tried, whatever became of the others. */
static int finish(struct session *s, bool validated)
{
    const struct session_options *o = s->o;
    const uint64_t step = trainer_at(s->trainer)->step;
    const bool done = step >= trainer_recipe(s->trainer)->n_steps;

    if (o->checkpoint && s->kept_for != step) {
        keep(s);
    }
    if (s->valid && !validated) {
        show_valid(s);
    }
    if (done && o->out) {
        note(s, write_model(s));
    }
    if (!done && stopped) { /* at the last step there is nothing left to stop */
        train_error("stopped by a signal at step %" PRIu64, step);
        note(s, TRAIN_STOPPED);
    }
    return s->trouble;
}

static int run(struct session *s)
{
    const struct session_options *o = s->o;
    const uint64_t n_steps = trainer_recipe(s->trainer)->n_steps;
    const uint64_t first = trainer_at(s->trainer)->step;
    const uint64_t left = first < n_steps ? n_steps - first : 0;
    const uint64_t n = o->stop_after > 0 && o->stop_after < left ? o->stop_after : left;
    int r = TRAIN_OK;

    s->kept_for = UINT64_MAX;
    show_begin(&s->show, trainer_recipe(s->trainer), first, n_steps, o->report);
    for (uint64_t i = 0; r == TRAIN_OK && i < n && !stopped; i++) {
        r = one_step(s);
    }
    show_end(&s->show);
    const uint64_t last = trainer_at(s->trainer)->step;
    return r == TRAIN_OK ? finish(s, last > first && due(last, o->valid_every)) : r;
}

/* ---- before anything is read ---- */

/* Would one file be written over another that this call reads or writes? */
static int apart(const char *written, const char *path, const char *other, const char *other_path)
{
    if (!path || !other_path || !outfile_same(path, other_path)) {
        return TRAIN_OK;
    }
    train_error("%s and %s are one file, %s", other, written, path);
    return TRAIN_USAGE;
}

static int check_apart(const struct session_options *o)
{
    const struct {
        const char *written, *path, *other, *other_path;
    } pairs[] = {
        {"--out", o->out, "--checkpoint", o->checkpoint},
        {"--out", o->out, "--resume", o->resume},
        {"--out", o->out, "--export", o->convert},
        {"--out", o->out, "--from", o->from},
        {"--out", o->out, "--valid", o->valid},
        {"--checkpoint", o->checkpoint, "--tokenizer", o->tokenizer},
        {"--checkpoint", o->checkpoint, "--valid", o->valid},
    };
    int r = TRAIN_OK;

    for (size_t i = 0; r == TRAIN_OK && i < ARRAY_SIZE(pairs); i++) {
        r = apart(pairs[i].written, pairs[i].path, pairs[i].other, pairs[i].other_path);
    }
    for (size_t i = 0; r == TRAIN_OK && i < o->data.n; i++) {
        r = apart("--out", o->out, "--data", o->data.at[i]);
        r = r == TRAIN_OK ? apart("--checkpoint", o->checkpoint, "--data", o->data.at[i]) : r;
    }
    return r;
}

static int check_outputs(const struct session_options *o)
{
    int r = check_apart(o);

    if (r == TRAIN_OK && o->out) {
        r = outfile_check(o->out);
    }
    if (r == TRAIN_OK && o->checkpoint) {
        r = outfile_check(o->checkpoint);
    }
    return r;
}

int session_train(const struct session_options *o)
{
    /* A second signal is obeyed at once. */
    const struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    struct session s = {.o = o};
    int r = check_outputs(o);

    if (r == TRAIN_OK) {
        r = o->resume ? begin_again(&s) : begin_fresh(&s);
    }
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    if (r == TRAIN_OK) {
        r = run(&s);
    }
    session_deinit(&s);
    return r;
}

int session_convert(const struct session_options *o)
{
    struct session s = {.o = o};
    struct recipe recipe;
    int r = check_outputs(o);

    if (r == TRAIN_OK) {
        r = restore(&s, o->convert, &recipe);
    }
    if (r == TRAIN_OK) {
        r = write_model(&s);
    }
    session_deinit(&s);
    return r;
}
