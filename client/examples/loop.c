/* One loop for everything: each line of standard input is a request, and answers are printed as
 * they are complete, while more lines are read.
 *
 *     cc loop.c $(pkg-config --cflags --libs onebit) -o loop
 *     printf 'lights on\nlights off\n' | ./loop */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <onebit.h>

struct answer {
    char text[4096];
    size_t n;
};

static int in_flight, failed;

static void on_delta(struct onebit_conn *conn, uint32_t id, const struct onebit_delta *delta,
                     void *user)
{
    struct answer *a = user;
    const size_t room = sizeof(a->text) - 1 - a->n;
    const size_t n = delta->text_bytes < room ? delta->text_bytes : room;

    (void)conn;
    (void)id;
    memcpy(a->text + a->n, delta->text, n);
    a->n += n;
}

static void on_done(struct onebit_conn *conn, uint32_t id, const struct onebit_done *done,
                    void *user)
{
    struct answer *a = user;

    (void)conn;
    printf("%u: %s (%u tokens)\n", id, a->text, done->answer_tokens);
    free(a);
    in_flight--;
}

static void on_error(struct onebit_conn *conn, uint32_t id, const struct onebit_failure *failure,
                     void *user)
{
    (void)conn;
    fprintf(stderr, "%u: %s: %s\n", id, failure->name, failure->message);
    free(user);
    in_flight--;
    failed = 1;
}

static int ask(struct onebit_conn *conn, const char *line)
{
    const struct onebit_message message = {"user", line};
    struct onebit_request request;
    struct onebit_handler handler;
    struct answer *a = calloc(1, sizeof(*a));

    if (!a) {
        return -ENOMEM;
    }
    onebit_request_init(&request);
    request.messages = &message;
    request.n_messages = 1;
    onebit_handler_init(&handler);
    handler.delta = on_delta;
    handler.done = on_done;
    handler.error = on_error;
    const int r = onebit_generate(conn, &request, &handler, a, NULL);
    if (r != 0) {
        free(a);
        return r;
    }
    in_flight++;
    return 0;
}

int main(void)
{
    struct onebit_conn *conn;
    char line[1024];
    int more = 1;
    int r = onebit_connect(&conn, NULL);

    if (r != 0) {
        fprintf(stderr, "cannot connect: %s\n",
                r < 0 ? strerror(-r) : onebit_error_info(r)->meaning);
        return 1;
    }
    setvbuf(stdin, NULL, _IONBF, 0); /* so that poll() sees what is left */
    while (r == 0 && (more || in_flight > 0)) {
        struct pollfd fds[2] = {
            {.fd = onebit_get_fd(conn), .events = POLLIN},
            {.fd = more && in_flight < 8 ? STDIN_FILENO : -1, .events = POLLIN},
        };
        if (poll(fds, 2, -1) < 0 && errno != EINTR) {
            break;
        }
        if (fds[1].revents) {
            more = fgets(line, sizeof(line), stdin) != NULL;
            line[strcspn(line, "\n")] = '\0';
            r = more ? ask(conn, line) : 0;
        }
        if (r == 0 && fds[0].revents) {
            r = onebit_dispatch(conn, 0); /* runs the callbacks; retries are in it */
        }
    }
    onebit_disconnect(conn);
    return r == 0 && !failed ? 0 : 1;
}
