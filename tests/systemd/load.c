/* load: clients of libonebit that ask the same again and again until SIGTERM, and count what came.
 *
 *   load WHOLE STREAMS FRESH [SOCKET]
 *
 * WHOLE clients want their answers whole (hold_bytes) and keep their connection; STREAMS clients
 * are told theirs as they come; FRESH clients connect anew for each. Every answer of the first and
 * last kind has to come, and be the same as at the beginning; a stream may end early, but with a
 * reason. One line of JSON at the end; exit status 1: something was lost, refused or wrong. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "onebit.h"

#define CLIENTS_MAX 64
#define TEXT_MAX 8192
#define WHOLE_TOKENS 24
#define STREAM_TOKENS 400
#define BETWEEN_MS 10

enum kind { WHOLE, STREAM, FRESH };

struct answer {
    char text[TEXT_MAX];
    size_t n;
    unsigned n_ends;
    bool done;
    uint32_t retries, restarts;
    char end[64];
};

struct counts {
    atomic_uint answered, retried, continued, failed, wrong, endless, refused, streams, cut,
        unnamed;
};

static struct counts all;
static atomic_bool stopping;
static const char *socket_path;
static struct answer expected[3];
static pthread_mutex_t said_lock = PTHREAD_MUTEX_INITIALIZER;

static void on_term(int number)
{
    (void)number;
    atomic_store(&stopping, true);
}

static void say(enum kind kind, const char *what, const char *why)
{
    static const char *const names[] = {"whole", "stream", "fresh"};

    (void)pthread_mutex_lock(&said_lock);
    (void)fprintf(stderr, "%s: %s: %s\n", names[kind], what, why);
    (void)pthread_mutex_unlock(&said_lock);
}

static void on_delta(struct onebit_conn *conn, uint32_t id, const struct onebit_delta *delta,
                     void *user)
{
    struct answer *a = user;

    (void)conn;
    (void)id;
    if (delta->text_bytes < sizeof(a->text) - a->n) {
        memcpy(a->text + a->n, delta->text, delta->text_bytes);
        a->n += delta->text_bytes;
    }
}

static void on_done(struct onebit_conn *conn, uint32_t id, const struct onebit_done *done,
                    void *user)
{
    struct answer *a = user;

    (void)conn;
    (void)id;
    a->n_ends++;
    a->done = true;
    a->retries = done->retries;
    a->restarts = done->restarts;
}

static void on_error(struct onebit_conn *conn, uint32_t id, const struct onebit_failure *failure,
                     void *user)
{
    struct answer *a = user;

    (void)conn;
    (void)id;
    a->n_ends++;
    (void)snprintf(a->end, sizeof(a->end), "%s", failure->name ? failure->name : "");
}

static int ask(struct onebit_conn *conn, enum kind kind, struct answer *ret)
{
    static const char *const prompts[] = {"turn on the kitchen lights", "tell me about the weather",
                                          "set a timer for five minutes"};
    struct onebit_handler handler;
    struct onebit_request request;

    *ret = (struct answer){0};
    onebit_handler_init(&handler);
    handler.delta = on_delta;
    handler.done = on_done;
    handler.error = on_error;
    onebit_request_init(&request);
    request.prompt = prompts[kind];
    request.max_tokens = kind == STREAM ? STREAM_TOKENS : WHOLE_TOKENS;
    request.ignore_eos = true;
    request.hold_bytes = kind == STREAM ? 0 : 65536;
    request.has = ONEBIT_HAS_TEMPERATURE;
    return onebit_run(conn, &request, &handler, ret);
}

static bool same(const struct answer *a, enum kind kind)
{
    return a->n == expected[kind].n && memcmp(a->text, expected[kind].text, a->n) == 0;
}

static void count(enum kind kind, const struct answer *a, int r)
{
    all.retried += a->retries > 0;
    all.continued += a->done && a->restarts > 0;
    all.endless += a->n_ends != 1;
    if (kind == STREAM) {
        all.streams++;
        all.cut += !a->done;
        all.unnamed += !a->done && a->end[0] == '\0';
        all.wrong += a->done && !same(a, kind);
        return;
    }
    if (a->done && same(a, kind)) {
        all.answered++;
    } else if (a->done) {
        all.wrong++;
        say(kind, "wrong", a->text);
    } else {
        all.failed++;
        say(kind, "failed", a->end[0] ? a->end : strerror(-r));
    }
}

static bool connected(struct onebit_conn **conn, enum kind kind)
{
    const int r = onebit_connect(conn, socket_path);

    if (r != 0) {
        all.refused++;
        say(kind, "no connection", r < 0 ? strerror(-r) : onebit_error_info(r)->name);
    }
    return r == 0;
}

static void *client_main(void *arg)
{
    const enum kind kind = (enum kind)(uintptr_t)arg;
    const struct timespec between = {.tv_nsec = BETWEEN_MS * 1000000L};
    struct onebit_conn *conn = NULL;
    struct answer a;

    while (!atomic_load(&stopping)) {
        if (conn || connected(&conn, kind)) {
            count(kind, &a, ask(conn, kind, &a));
        }
        if (kind == FRESH && conn) {
            onebit_disconnect(conn);
            conn = NULL;
        }
        (void)nanosleep(&between, NULL);
    }
    onebit_disconnect(conn);
    return NULL;
}

static int expect(void)
{
    struct onebit_conn *conn = NULL;
    int r = onebit_connect(&conn, socket_path);

    for (int kind = 0; r == 0 && kind < 3; kind++) {
        r = ask(conn, (enum kind)kind, &expected[kind]);
    }
    onebit_disconnect(conn);
    return r;
}

int main(int argc, char **argv)
{
    pthread_t threads[CLIENTS_MAX];
    size_t n = 0;

    if (argc < 4) {
        (void)fprintf(stderr, "usage: load WHOLE STREAMS FRESH [SOCKET]\n");
        return 64;
    }
    socket_path = argc > 4 ? argv[4] : NULL;
    (void)signal(SIGTERM, on_term);
    const int r = expect();
    if (r != 0) {
        (void)fprintf(stderr, "load: the first answers did not come: %d\n", r);
        return 69;
    }
    (void)printf("ready\n");
    (void)fflush(stdout);
    for (int kind = 0; kind < 3; kind++) {
        for (int i = atoi(argv[kind + 1]); i > 0 && n < CLIENTS_MAX; i--, n++) {
            if (pthread_create(&threads[n], NULL, client_main, (void *)(uintptr_t)kind) != 0) {
                return 71;
            }
        }
    }
    while (n > 0) {
        (void)pthread_join(threads[--n], NULL);
    }
    (void)printf(
        "{\"answered\": %u, \"retried\": %u, \"continued\": %u, \"failed\": %u, \"wrong\": %u, "
        "\"endless\": %u, \"refused\": %u, \"streams\": %u, \"cut\": %u, \"unnamed\": %u}\n",
        all.answered, all.retried, all.continued, all.failed, all.wrong, all.endless, all.refused,
        all.streams, all.cut, all.unnamed);
    return all.failed + all.wrong + all.endless + all.refused + all.unnamed > 0 ||
           all.answered == 0;
}
