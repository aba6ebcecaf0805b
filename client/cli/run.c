/* run: one prompt, one answer. */
#include "client/cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int join_words(const struct args *args, struct buf *text)
{
    int r = 0;

    for (size_t i = 0; i < args->n_words && r == 0; i++) {
        r = i > 0 ? buf_append(text, " ", 1) : 0;
        if (r == 0) {
            r = buf_append(text, args->words[i], strlen(args->words[i]));
        }
    }
    return r;
}

static int read_all(struct buf *text)
{
    char piece[4096];

    while (true) {
        const ssize_t n = read(STDIN_FILENO, piece, sizeof(piece));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        if (n == 0) {
            break;
        }
        const int r = buf_append(text, piece, (size_t)n);
        if (r < 0) {
            return r;
        }
    }
    if (text->n > 0 && text->data[text->n - 1] == '\n') {
        text->n--;
    }
    return memchr(text->data ? (char *)text->data : "", '\0', text->n) ? -EILSEQ : 0;
}

int read_prompt(const struct args *args, char **ret)
{
    const bool dash = args->n_words == 1 && strcmp(args->words[0], "-") == 0;
    struct buf text;
    size_t n;
    int r;

    if (args->n_words == 0 && isatty(STDIN_FILENO)) {
        complain("no prompt: give it as arguments or on standard input");
        return EXIT_USAGE;
    }
    buf_init(&text, PROMPT_BYTES_MAX);
    r = args->n_words == 0 || dash ? read_all(&text) : join_words(args, &text);
    if (r == 0 && text.n == 0) {
        complain("the prompt is empty");
        buf_deinit(&text);
        return EXIT_USAGE;
    }
    if (r == 0) {
        r = buf_append(&text, "", 1);
    }
    if (r == 0) {
        *ret = (char *)buf_steal(&text, &n);
        return 0;
    }
    buf_deinit(&text);
    complain("the prompt cannot be used: %s", r == -E2BIG    ? "it is longer than 1 MiB"
                                              : r == -EILSEQ ? "it holds a zero byte"
                                                             : strerror(-r));
    return r == -E2BIG || r == -EILSEQ ? EXIT_DATA : EXIT_IO;
}

/* {"text": ..., "ids": [...], "session": ..., ...}: what came, and how it ended. */
static int print_answer(struct answer *a)
{
    json_t *all = json_object();
    int failed = json_object_set_new(
        all, "text", json_stringn(a->text.data ? (const char *)a->text.data : "", a->text.n));

    failed |= json_object_set(all, "ids", a->ids);
    if (a->session[0]) {
        failed |= json_object_set_new(all, "session", json_string(a->session));
    }
    if (a->logprobs) {
        failed |= json_object_set(all, "logprobs", a->logprobs);
    }
    failed |= a->end ? json_object_update(all, a->end) : 0;
    if (failed) {
        json_decref(all);
        all = NULL;
    }
    return print_json(all, a->talk->signal_fd);
}

static int ask(struct args *args, struct talk *t)
{
    struct output output;
    struct answer a;
    int r;

    output_init(&output, t->signal_fd);
    answer_init(&a, t, args->json ? NULL : &output, args->verbose);
    if (args->json) { /* nothing is printed before the end: then nothing need be lost, either */
        args->request.hold_bytes = HOLD_BYTES;
        a.wants_end = true;
        a.ids = json_array();
        a.logprobs = args->request.n_logprobs > 0 ? json_array() : NULL;
    }
    r = answer_get(&a, &args->request);
    if (r == 0 && a.write_error && a.write_error != -EINTR) {
        r = output_exit(a.write_error);
    } else if (r == 0 && a.gather_error) {
        complain("the answer cannot be kept: %s", strerror(-a.gather_error));
        r = EXIT_SOFTWARE;
    } else if (r == 0) {
        const int printed = args->json && !t->signalled ? print_answer(&a) : 0;
        (void)talk_signal(t); /* one that came while we wrote the end */
        r = printed ? printed : talk_exit(t);
        if (t->code == ONEBIT_ERR_NO_TEMPLATE && !t->signalled) {
            complain("--raw has the model continue the prompt as it is");
        }
    }
    answer_deinit(&a);
    return r;
}

int verb_run(struct args *args)
{
    struct onebit_message messages[2];
    struct talk t = {.signal_fd = -1};
    char *prompt = NULL;
    size_t n = 0;
    int r;

    if (args->request.n_logprobs > 0 && !args->json) {
        complain("--logprobs needs --json");
        return EXIT_USAGE;
    }
    if (args->raw && args->request.session) {
        complain("--raw takes no --session: there is no chat");
        return EXIT_USAGE;
    }
    if (args->raw && (args->system || args->request.chat_template)) {
        complain("--raw takes neither --system nor --template: there is no chat");
        return EXIT_USAGE;
    }
    r = read_prompt(args, &prompt);
    if (r != 0) {
        return r;
    }
    if (args->raw) {
        args->request.prompt = prompt;
    } else {
        if (args->system) {
            messages[n++] = (struct onebit_message){"system", args->system};
        }
        messages[n++] = (struct onebit_message){"user", prompt};
        args->request.messages = messages;
        args->request.n_messages = n;
    }
    r = talk_init(&t);
    if (r == 0) {
        r = talk_connect(&t, args->socket);
    }
    if (r == 0) {
        r = ask(args, &t);
    }
    talk_deinit(&t);
    free(prompt);
    return r;
}
