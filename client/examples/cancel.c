/* A long answer that Ctrl-C ends, or a thread of the program after so many milliseconds.
 *
 *     cc cancel.c $(pkg-config --cflags --libs onebit) -pthread -o cancel && ./cancel 500 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <onebit.h>

static struct onebit_canceller *canceller; /* set before the handler is installed */

static void on_signal(int number)
{
    (void)number;
    onebit_canceller_trip(canceller); /* may be called here, unlike nearly everything else */
}

static void *cancel_later(void *arg)
{
    const int ms = *(const int *)arg;
    const struct timespec wait = {ms / 1000, ms % 1000 * 1000000L};

    nanosleep(&wait, NULL);
    onebit_canceller_trip(canceller);
    return NULL;
}

static void on_delta(struct onebit_conn *conn, uint32_t id, const struct onebit_delta *delta,
                     void *user)
{
    (void)conn;
    (void)id;
    *(size_t *)user += delta->n_ids;
    fwrite(delta->text, 1, delta->text_bytes, stdout);
    fflush(stdout);
}

static int ask(struct onebit_conn *conn, size_t *n_tokens)
{
    struct onebit_request request;
    struct onebit_handler handler;

    onebit_request_init(&request);
    request.prompt = "Once upon a time";
    request.ignore_eos = true;
    onebit_handler_init(&handler);
    handler.delta = on_delta;
    return onebit_run(conn, &request, &handler, n_tokens);
}

int main(int argc, char **argv)
{
    int ms = argc > 1 ? atoi(argv[1]) : 0;
    struct onebit_options options;
    struct onebit_conn *conn = NULL;
    pthread_t thread;
    size_t n_tokens = 0;

    if (onebit_canceller_new(&canceller) != 0) {
        return 1;
    }
    signal(SIGINT, on_signal);
    if (ms > 0 && pthread_create(&thread, NULL, cancel_later, &ms) != 0) {
        return 1;
    }
    onebit_options_init(&options);
    options.canceller = canceller; /* connecting can be cancelled as well */
    int r = onebit_connect_with(&conn, &options);
    if (r == 0) {
        do { /* a context ends; the user's patience is what is shown here */
            r = ask(conn, &n_tokens);
        } while (r == 0);
    }
    printf("\nended by %s after %zu tokens\n",
           r == ONEBIT_ERR_CANCELLED ? "a cancel" : "something else", n_tokens);
    if (ms > 0) {
        pthread_join(thread, NULL);
    }
    onebit_disconnect(conn);
    onebit_canceller_free(canceller);
    return r == ONEBIT_ERR_CANCELLED ? 0 : 1;
}
