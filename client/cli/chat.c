/* chat: a conversation, kept here and sent whole with each message; or kept by the daemon, with
 * --session, and then each message is sent alone.
 *
 * A connection is made for each answer: the daemon closes idle ones, and a person thinks longer
 * than that. Input is read with poll() beside the signals, so that Ctrl-C ends a wait for a line as
 * well. */
#include "client/cli/cli.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MESSAGES_MAX 256u                  /* what one request may hold */
#define LINE_BYTES_MAX ((size_t)256 << 10) /* of one message typed */

struct chat {
    struct args *args; /* borrowed */
    struct talk talk;
    struct output output;
    struct buf input;                             /* bytes read and not yet used */
    bool ended;                                   /* no more input */
    bool tty;                                     /* a person types */
    struct onebit_message messages[MESSAGES_MAX]; /* content: owned, from the system message on */
    size_t n, n_system;
    bool kept;                    /* by the daemon */
    char name[SESSION_NAME_ROOM]; /* of a session that we began without one */
};

static void forget(struct chat *c, size_t keep)
{
    while (c->n > keep) {
        free((void *)(uintptr_t)c->messages[--c->n].content);
    }
}

/* Take over a malloc'ed content. */
static void remember(struct chat *c, const char *role, char *content)
{
    c->messages[c->n++] = (struct onebit_message){role, content};
}

enum { LINE_OK, LINE_END, LINE_SIGNAL, LINE_FAILED };

/* Wait for input or a signal, and read what is there. */
static int read_more(struct chat *c)
{
    char piece[4096];
    struct pollfd fds[2] = {
        {.fd = STDIN_FILENO, .events = POLLIN},
        {.fd = c->talk.signal_fd, .events = POLLIN},
    };

    if (poll(fds, 2, -1) < 0) {
        return errno == EINTR ? LINE_OK : LINE_FAILED;
    }
    if (fds[1].revents && talk_signal(&c->talk)) {
        return LINE_SIGNAL;
    }
    if (!fds[0].revents) {
        return LINE_OK;
    }
    const ssize_t n = read(STDIN_FILENO, piece, sizeof(piece));
    if (n < 0) {
        return errno == EINTR || errno == EAGAIN ? LINE_OK : LINE_FAILED;
    }
    c->ended = n == 0;
    if (buf_append(&c->input, piece, (size_t)n) < 0) {
        complain("a line is longer than %zu bytes", LINE_BYTES_MAX);
        return LINE_FAILED;
    }
    return LINE_OK;
}

/* The next line without its newline, malloc'ed. */
static int read_line(struct chat *c, char **ret)
{
    while (true) {
        const uint8_t *newline = c->input.n > 0 ? memchr(c->input.data, '\n', c->input.n) : NULL;
        if (newline || (c->ended && c->input.n > 0)) {
            const size_t n = newline ? (size_t)(newline - c->input.data) : c->input.n;
            *ret = strndup((const char *)c->input.data, n);
            buf_drop(&c->input, newline ? n + 1 : n);
            return *ret ? LINE_OK : LINE_FAILED;
        }
        if (c->ended) {
            return LINE_END;
        }
        const int r = read_more(c);
        if (r != LINE_OK) {
            return r;
        }
    }
}

/* Put the system message first, where there is one. */
static void remember_system(struct chat *c)
{
    char *text = c->args->system ? strdup(c->args->system) : NULL;

    if (text) {
        remember(c, "system", text);
    }
    c->n_system = c->n;
}

/* What stays of a turn that the daemon keeps: nothing, when it has it; else what was there
 * before. */
static void keep_session(struct chat *c, const struct answer *a)
{
    forget(c, a->talk->code == 0 && !a->talk->signalled ? 0 : c->n - 1);
    if (a->session[0] && !*c->args->request.session) {
        memcpy(c->name, a->session, sizeof(c->name));
        c->args->request.session = c->name;
    }
}

/* /reset, when the daemon has the conversation: 0 or an exit code. */
static int reset_session(struct chat *c)
{
    char *none = NULL;
    int r = 0;

    if (*c->args->request.session) { /* else it has not been begun */
        r = talk_connect(&c->talk, c->args->socket);
        if (r == 0) {
            r = talk_ask(&c->talk, ONEBIT_SESSION_DROP, c->args->request.session, &none);
        }
        free(none);
        talk_hang_up(&c->talk);
    }
    if (r == 0) {
        forget(c, 0);
        remember_system(c);
    }
    return r;
}

/* One message and its answer: 0 or the exit code of a failure that has been said. */
static int say(struct chat *c, char *line)
{
    struct answer a;
    struct onebit_request request = c->args->request;
    int r = talk_connect(&c->talk, c->args->socket);

    remember(c, "user", line);
    answer_init(&a, &c->talk, &c->output, c->args->verbose);
    request.messages = c->messages;
    request.n_messages = c->n;
    if (r == 0) {
        c->output.any = false;
        r = answer_get(&a, &request);
    }
    if (r == 0 && a.write_error && a.write_error != -EINTR) {
        r = output_exit(a.write_error);
    } else if (r == 0 && !c->talk.signalled) {
        r = failure_exit(c->talk.code);
    }
    if (r == 0 && c->talk.signalled == SIGINT && output_end_line(&c->output) < 0) {
        r = EXIT_IO;
    }
    if (c->kept) {
        keep_session(c, &a);
    } else if (r == 0 && a.text.n > 0 &&
               buf_append(&a.text, "", 1) == 0) { /* a cancelled part as well */
        size_t n;
        remember(c, "assistant", (char *)buf_steal(&a.text, &n));
    } else {
        forget(c, c->n - 1);
    }
    answer_deinit(&a);
    talk_hang_up(&c->talk);
    return r;
}

static void prompt(const struct chat *c)
{
    if (c->tty) {
        (void)fprintf(stderr, "> ");
    }
}

/* What a line asks for. *ret_quit: the conversation ends. */
static int on_line(struct chat *c, char *line, bool *ret_quit)
{
    if (strcmp(line, "/quit") == 0) {
        *ret_quit = true;
    } else if (strcmp(line, "/reset") == 0 && c->kept) {
        free(line);
        return reset_session(c);
    } else if (strcmp(line, "/reset") == 0) {
        forget(c, c->n_system);
    } else if (line[0] == '/') {
        complain("there are /reset and /quit; \"%s\" is neither", line);
    } else if (line[0] != '\0' && c->n + 2 > MESSAGES_MAX) {
        complain("the conversation is full; /reset forgets it");
    } else if (line[0] != '\0') {
        const int r = say(c, line);
        if (c->talk.signalled == SIGINT) {
            c->talk.signalled = 0; /* it cancelled the answer, no more */
        }
        *ret_quit = c->talk.signalled != 0 || (r != 0 && !c->tty) || r == EXIT_IO ||
                    r == EXIT_SIGNAL + SIGPIPE;
        return r;
    }
    free(line);
    return 0;
}

static int converse(struct chat *c)
{
    bool quit = false;
    int r = 0;

    while (!quit) {
        char *line = NULL;
        prompt(c);
        const int got = read_line(c, &line);
        if (got == LINE_OK) {
            r = on_line(c, line, &quit);
            continue;
        }
        if (c->tty) {
            (void)fprintf(stderr, "\n");
        }
        if (got == LINE_FAILED) {
            complain("standard input cannot be read");
            return EXIT_IO;
        }
        quit = true;
    }
    if (c->talk.signalled) {
        return EXIT_SIGNAL + c->talk.signalled;
    }
    return c->tty && r != EXIT_IO ? 0 : r;
}

int verb_chat(struct args *args)
{
    struct chat *c = calloc(1, sizeof(*c));
    int r;

    if (!c) {
        complain("out of memory");
        return EXIT_SOFTWARE;
    }
    c->args = args;
    c->tty = isatty(STDIN_FILENO);
    buf_init(&c->input, LINE_BYTES_MAX);
    r = talk_init(&c->talk);
    output_init(&c->output, c->talk.signal_fd);
    if (r == 0) {
        r = talk_connect(&c->talk, args->socket); /* say now what would fail later */
        talk_hang_up(&c->talk);
    }
    if (r == 0) {
        c->kept = args->request.session != NULL;
        remember_system(c);
        r = converse(c);
    }
    talk_deinit(&c->talk);
    forget(c, 0);
    buf_deinit(&c->input);
    free(c);
    return r;
}
