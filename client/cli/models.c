/* models: load, unload and cancel: verbs whose answer is that it is done. */
#include "client/cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int ask_plain(const struct args *args, enum onebit_verb verb)
{
    char *none = NULL;
    const int r = ask_text(args, verb, args->words[0], &none);

    free(none);
    return r;
}

int verb_load(struct args *args)
{
    return ask_plain(args, ONEBIT_LOAD);
}

int verb_unload(struct args *args)
{
    return ask_plain(args, ONEBIT_UNLOAD);
}

static void on_cancelled(struct onebit_conn *conn, uint32_t id, const struct onebit_done *done,
                         void *user)
{
    struct talk *t = user;

    t->waiting = false;
}

static void on_refused(struct onebit_conn *conn, uint32_t id, const struct onebit_failure *failure,
                       void *user)
{
    struct talk *t = user;

    t->waiting = false;
    t->code = failure->code;
    complain_failure(failure);
}

/* Cancel one request by the daemon's number: 0 or an exit code. */
static int cancel_one(struct talk *t, uint64_t number)
{
    struct onebit_handler handler;

    onebit_handler_init(&handler);
    handler.done = on_cancelled;
    handler.error = on_refused;
    t->code = onebit_cancel_request(t->conn, number, &handler, t, &t->id);
    if (t->code != 0) {
        complain("the request cannot be sent");
        return failure_exit(t->code);
    }
    t->waiting = true;
    talk_wait(t);
    return talk_exit(t);
}

int verb_cancel(struct args *args)
{
    struct talk t = {.signal_fd = -1};
    int r = 0;

    for (size_t i = 0; i < args->n_words; i++) {
        if (strspn(args->words[i], "0123456789") != strlen(args->words[i]) ||
            strtoull(args->words[i], NULL, 10) == 0) {
            complain("\"%s\" is no request's number; \"onebit ps\" shows them", args->words[i]);
            return EXIT_USAGE;
        }
    }
    r = talk_init(&t);
    if (r == 0) {
        r = talk_connect(&t, args->socket);
    }
    bool goes_on = r == 0;
    for (size_t i = 0; goes_on && i < args->n_words; i++) { /* the others are to end all the same */
        const int one = cancel_one(&t, strtoull(args->words[i], NULL, 10));
        r = r != 0 ? r : one;
        goes_on = talk_goes_on(&t);
    }
    talk_deinit(&t);
    return r;
}
