/* Ask the daemon's default model one thing and print the answer as it comes.
 *
 *     cc hello.c $(pkg-config --cflags --libs onebit) -o hello
 *     ./hello "turn on the kitchen lights" */
#include <stdio.h>
#include <string.h>

#include <onebit.h>

static void on_delta(struct onebit_conn *conn, uint32_t id, const struct onebit_delta *delta,
                     void *user)
{
    (void)conn;
    (void)id;
    (void)user;
    fwrite(delta->text, 1, delta->text_bytes, stdout);
    fflush(stdout);
}

static void on_error(struct onebit_conn *conn, uint32_t id, const struct onebit_failure *failure,
                     void *user)
{
    (void)conn;
    (void)id;
    (void)user;
    fprintf(stderr, "%s: %s\n%s\n", failure->name, failure->message, failure->hint);
}

int main(int argc, char **argv)
{
    struct onebit_conn *conn;
    struct onebit_request request;
    struct onebit_handler handler;
    const struct onebit_message message = {"user", argc > 1 ? argv[1] : "what time is it"};

    int r = onebit_connect(&conn, NULL);
    if (r != 0) {
        fprintf(stderr, "cannot connect: %s\n",
                r < 0 ? strerror(-r) : onebit_error_info(r)->meaning);
        return 1;
    }
    onebit_request_init(&request);
    request.messages = &message;
    request.n_messages = 1;
    onebit_handler_init(&handler);
    handler.delta = on_delta;
    handler.error = on_error;
    r = onebit_run(conn, &request, &handler, NULL);
    if (r == 0) {
        printf("\n");
    }
    onebit_disconnect(conn);
    return r == 0 ? 0 : 1;
}
