/* A question that matters: it waits for a busy or restarting daemon, but not for ever.
 *
 *     cc patient.c $(pkg-config --cflags --libs onebit) -o patient
 *     ./patient "turn on the lights" */
#include <stdio.h>
#include <string.h>

#include <onebit.h>

static void on_retry(struct onebit_conn *conn, uint32_t id, const struct onebit_retrying *retrying,
                     void *user)
{
    (void)conn;
    (void)id;
    (void)user;
    fprintf(stderr, "%s: trying again in %u ms\n", retrying->failure->message, retrying->delay_ms);
}

static void on_delta(struct onebit_conn *conn, uint32_t id, const struct onebit_delta *delta,
                     void *user)
{
    (void)conn;
    (void)id;
    (void)user;
    fwrite(delta->text, 1, delta->text_bytes, stdout);
}

static void on_error(struct onebit_conn *conn, uint32_t id, const struct onebit_failure *failure,
                     void *user)
{
    (void)conn;
    (void)id;
    (void)user;
    fprintf(stderr, "%s: %s, after %u retries\n", failure->name, failure->message,
            failure->retries);
}

int main(int argc, char **argv)
{
    const struct onebit_message message = {"user", argc > 1 ? argv[1] : "what time is it"};
    struct onebit_options options;
    struct onebit_request request;
    struct onebit_handler handler;
    struct onebit_retry retry;
    struct onebit_conn *conn;

    onebit_retry_init(&retry);
    retry.retries = 10;   /* instead of 3 */
    retry.first_ms = 200; /* instead of a second */
    retry.most_ms = 5000;
    onebit_options_init(&options);
    options.retry = &retry;
    options.connect_ms = 2000;
    int r = onebit_connect_with(&conn, &options);
    if (r != 0) {
        fprintf(stderr, "cannot connect: %s\n",
                r < 0 ? strerror(-r) : onebit_error_info(r)->meaning);
        return 1;
    }
    onebit_request_init(&request);
    request.messages = &message;
    request.n_messages = 1;
    request.has = ONEBIT_HAS_DEADLINE;
    request.deadline_ms = 20000; /* to the first token, all retries included */
    onebit_handler_init(&handler);
    handler.retry = on_retry;
    handler.delta = on_delta;
    handler.error = on_error;
    r = onebit_run(conn, &request, &handler, NULL);
    if (r == 0) {
        printf("\n");
    }
    onebit_disconnect(conn);
    return r == 0 ? 0 : 1;
}
