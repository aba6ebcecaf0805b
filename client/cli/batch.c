/* batch: a file of requests, a file of answers.
 *
 * onebit_batch() runs them; here they are read, their answers put back into the order of the input,
 * and written. An answer is written as soon as all before it are, so the output can be gone on with
 * whatever happens. Answers that wait for one before them are held; when too many do, no new
 * request is begun until it has come. */
#include "client/cli/batch.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define HELD_ITEMS_MAX 4096u
#define HELD_BYTES_MAX ((size_t)64 << 20)
#define ANSWER_TEXT_MAX (16u << 20)
#define EXIT_SOME_FAILED 1

struct batch {
    const struct args *args; /* borrowed */
    struct batch_files files;
    struct lines in;
    struct batch_item *first, *last; /* owned: begun and not yet written, in order */
    size_t n_held, held_bytes;       /* of those: ended, and waiting for one before them */
    bool ended;                      /* the input is used up */
    bool stopping;                   /* what is under way is cancelled by ourselves */
    int error;                       /* reading, writing, memory: negative errno */
    bool unreadable;                 /* it was reading */
    struct progress progress;
    uint64_t n_done, n_failed, retries;
    uint64_t prompt_tokens, cached_tokens, answer_tokens;
};

/* ---- signals ---- */

static struct onebit_canceller *canceller; /* for the handler */
static volatile sig_atomic_t signalled;

static void on_signal(int number)
{
    signalled = number;
    onebit_canceller_trip(canceller);
}

/* The first one ends the batch, a second one of its kind this process. */
static void watch_signals(void)
{
    static const int ends[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction watch = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND}, was;

    (void)sigemptyset(&watch.sa_mask);
    for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
        if (sigaction(ends[i], NULL, &was) == 0 && was.sa_handler != SIG_IGN) {
            (void)sigaction(ends[i], &watch, NULL);
        }
    }
}

/* ---- output, in order ---- */

static int write_all(int fd, const char *bytes, size_t n)
{
    while (n > 0) {
        const ssize_t written = write(fd, bytes, n);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written < 0) {
            return -errno;
        }
        bytes += written;
        n -= (size_t)written;
    }
    return 0;
}

/* Write what is ended and has nothing before it. */
static void flush(struct batch *b)
{
    while (b->error == 0 && b->first && b->first->result) {
        struct batch_item *item = b->first;
        b->error = write_all(b->files.out, item->result, item->result_n);
        b->n_held--;
        b->held_bytes -= item->result_n;
        b->n_done += b->error == 0;
        b->n_failed += b->error == 0 && item->failed;
        b->first = item->next;
        b->last = b->first ? b->last : NULL;
        batch_item_free(item);
    }
}

/* An item has its end: hold it until it is its turn. Takes end. */
static void end_item(struct batch *b, struct batch_item *item, json_t *end)
{
    const int r = batch_item_end(item, end);

    if (r < 0) {
        b->error = b->error ? b->error : r;
        return;
    }
    b->n_held++;
    b->held_bytes += item->result_n;
    flush(b);
}

static void show(struct batch *b)
{
    progress_show(&b->progress, b->files.n_had + b->n_done, b->files.n_had_failed + b->n_failed,
                  b->answer_tokens, clock_now_ns());
}

/* With --verbose: a failure, as it comes. */
static void tell(struct batch *b, const struct batch_item *item, const char *name, const char *why)
{
    if (b->args->verbose) {
        progress_clear(&b->progress);
        complain("line %" PRIu64 ": %s: %s", item->line, name, why);
    }
}

/* ---- what the library asks of us ---- */

/* The next line that is a request; those that are none have their end at once. */
static int next(uint64_t index, const struct onebit_request **ret_request, void **ret_item,
                void *user)
{
    struct batch *b = user;

    while (b->error == 0 && b->n_held < HELD_ITEMS_MAX && b->held_bytes < HELD_BYTES_MAX) {
        struct batch_item *item = NULL;
        struct line line;
        const int r = lines_next(&b->in, &line);
        if (r <= 0) {
            b->ended = r == 0;
            b->error = r;
            b->unreadable = r < 0;
            return r;
        }
        if (!line.too_long && line_blank(&line)) {
            continue;
        }
        b->error = batch_item_new(&item, b->args, b->in.number, &line);
        if (b->error < 0) {
            break;
        }
        *(b->last ? &b->last->next : &b->first) = item;
        b->last = item;
        if (!item->problem[0]) {
            *ret_request = &item->request;
            *ret_item = item;
            return 1;
        }
        tell(b, item, "bad_request", item->problem);
        end_item(b, item, batch_problem_json(item));
        show(b);
    }
    return b
        ->error; /* 0: too many are held; we come back when the first of them has been written */
}

static void on_delta(uint64_t index, void *user_item, const struct onebit_delta *delta, void *user)
{
    struct batch_item *item = user_item;
    struct batch *b = user;

    if (item->request.n_logprobs == 0) {
        return;
    }
    item->ids_json = item->ids_json ? item->ids_json : json_array();
    item->logprobs = item->logprobs ? item->logprobs : json_array();
    if (delta_json(delta, item->ids_json, item->logprobs) < 0) {
        b->error = b->error ? b->error : -ENOMEM;
    }
}

/* {"text": ..., and how it ended}; NULL without memory. */
static json_t *end_of(const struct onebit_batch_result *r, struct batch_item *item)
{
    json_t *end = r->done ? done_json(r->done) : failure_json(r->failure);
    int failed = !end;

    if (r->done || r->text_bytes > 0) {
        failed |= json_object_set_new(end, "text", json_stringn(r->text, r->text_bytes));
    }
    if (item->ids_json) {
        failed |= json_object_set(end, "ids", item->ids_json);
        failed |= json_object_set(end, "logprobs", item->logprobs);
    }
    if (failed) {
        json_decref(end);
        return NULL;
    }
    return end;
}

/* Does this failure say something of the request? Otherwise the line is left for the next time. */
static bool counts(const struct batch *b, const struct onebit_failure *failure)
{
    if (failure->code == ONEBIT_ERR_CANCELLED && (signalled || b->stopping)) {
        return false;
    }
    return failure->code >= 0 || failure->code == -E2BIG;
}

static int on_result(const struct onebit_batch_result *result, void *user)
{
    struct batch *b = user;
    struct batch_item *item = result->item;

    if (result->failure && !counts(b, result->failure)) {
        b->stopping = true;
        return result->failure->code; /* and stop: the others will fare no better */
    }
    if (result->done) {
        b->prompt_tokens += result->done->prompt_tokens;
        b->cached_tokens += result->done->cached_tokens;
        b->answer_tokens += result->done->answer_tokens;
    }
    if (result->failure) {
        tell(b, item, result->failure->name, result->failure->message);
    }
    end_item(b, item, end_of(result, item));
    b->stopping = b->stopping || b->error != 0;
    show(b);
    return b->error;
}

/* ---- the whole ---- */

/* 0, or why it stopped: as onebit_batch(). */
static int run_all(struct batch *b, struct onebit_conn *conn)
{
    struct onebit_batch batch;
    int r = 0;

    onebit_batch_init(&batch);
    batch.next = next;
    batch.result = on_result;
    batch.delta = on_delta;
    batch.user = b;
    batch.text_bytes_max = ANSWER_TEXT_MAX;
    batch.concurrency = b->args->jobs ? b->args->jobs : batch.concurrency;
    batch.canceller = canceller;
    while (r == 0 && !b->ended && !signalled) {
        struct onebit_batch_totals totals;
        onebit_batch_totals_init(&totals);
        r = onebit_batch(&conn, 1, &batch, &totals);
        b->retries += totals.retries;
    }
    return b->error ? b->error : r;
}

/* What came of it, on standard error, or with --json on standard output. */
static int report(struct batch *b, bool whole)
{
    const double s = (double)(clock_now_ns() - b->progress.start_ns) / (double)NS_PER_S;
    const uint64_t n_done = b->files.n_had + b->n_done;
    const uint64_t n_failed = b->files.n_had_failed + b->n_failed;

    progress_clear(&b->progress);
    if (b->args->json) {
        return print_json(
            json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:b}", "requests",
                      (json_int_t)b->files.n_all, "answered", (json_int_t)(n_done - n_failed),
                      "failed", (json_int_t)n_failed, "had", (json_int_t)b->files.n_had,
                      "prompt_tokens", (json_int_t)b->prompt_tokens, "cached_tokens",
                      (json_int_t)b->cached_tokens, "answer_tokens", (json_int_t)b->answer_tokens,
                      "retries", (json_int_t)b->retries, "seconds", s, "complete", whole),
            -1);
    }
    complain("%" PRIu64 " of %" PRIu64 " requests are answered, %" PRIu64 " failed; %" PRIu64
             " tokens of prompts (%" PRIu64 " cached), %" PRIu64 " of answers in %.1f s (%.1f/s)",
             n_done - n_failed, b->files.n_all, n_failed, b->prompt_tokens, b->cached_tokens,
             b->answer_tokens, s, s > 0 ? (double)b->answer_tokens / s : 0.0);
    return 0;
}

/* Why it stopped before its end, and what to do: the exit code. */
static int stopped(const struct batch *b, int r)
{
    const struct onebit_error_info *info = onebit_error_info(r);
    int code = failure_exit(r);

    if (signalled) {
        code = EXIT_SIGNAL + signalled;
    } else if (b->error == -ENOMEM) {
        complain("out of memory");
        code = EXIT_SOFTWARE;
    } else if (b->error) {
        complain("%s: %s", b->args->words[b->unreadable ? 0 : 1], strerror(-b->error));
        code = EXIT_IO;
    } else if (info) {
        complain("%s: %s", info->name, info->meaning);
    } else {
        complain("the daemon is gone: %s", strerror(-r));
    }
    complain("the same command goes on where this one ended");
    return code;
}

static int work(struct batch *b, struct onebit_conn *conn)
{
    if (b->files.n_had > 0 || b->files.torn) {
        complain("%s has %" PRIu64 " of %" PRIu64 " answers%s; going on", b->args->words[1],
                 b->files.n_had, b->files.n_all,
                 b->files.torn ? " and a torn line, which is dropped" : "");
    }
    progress_init(&b->progress, b->files.n_all, b->files.n_had, clock_now_ns());
    lines_init(&b->in, b->files.in, IN_LINE_BYTES_MAX, b->files.in_at, b->files.in_line);
    const int r = run_all(b, conn);
    lines_deinit(&b->in);
    if (fdatasync(b->files.out) < 0 && b->error == 0) {
        b->error = -errno;
    }
    const bool whole = r == 0 && b->error == 0 && !signalled;
    const int said = report(b, whole);
    while (b->first) {
        struct batch_item *item = b->first;
        b->first = item->next;
        batch_item_free(item);
    }
    if (!whole) {
        return stopped(b, r ? r : b->error);
    }
    return said != 0 ? said : b->files.n_had_failed + b->n_failed > 0 ? EXIT_SOME_FAILED : 0;
}

int verb_batch(struct args *args)
{
    struct batch b = {.args = args};
    struct talk t = {.signal_fd = -1};
    int r = 0;

    if (args->n_words != 2) {
        complain("batch needs an input and an output: onebit batch IN.jsonl OUT.jsonl");
        return EXIT_USAGE;
    }
    if (!args->has_class) {
        args->request.request_class = ONEBIT_CLASS_LOW;
    }
    if (!(args->request.has & ONEBIT_HAS_DEADLINE)) { /* it has time: others go first */
        args->request.has |= ONEBIT_HAS_DEADLINE;
        args->request.deadline_ms = UINT32_MAX;
    }
    r = onebit_canceller_new(&canceller);
    if (r != 0) {
        complain("cannot watch for signals: %s", strerror(-r));
        return EXIT_SYSTEM;
    }
    watch_signals();
    r = batch_files_open(&b.files, args, args->words[0], args->words[1]);
    if (r == 0) {
        r = talk_connect(&t, args->socket);
    }
    if (r == 0) {
        r = work(&b, t.conn);
    }
    batch_files_close(&b.files);
    talk_deinit(&t);
    return r; /* the canceller stays: a signal may still come */
}
