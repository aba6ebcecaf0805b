/* session: the conversations that the daemon keeps for this user; and metrics, its counts and
 * times. */
#include "client/cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int list_sessions(struct args *args)
{
    static const struct column columns[] = {
        {"name", "NAME"},         {"model", "MODEL"},       {"quantization", "QUANTIZATION"},
        {"messages", "MESSAGES"}, {"tokens", "TOKENS"},     {"bytes", "SIZE"},
        {"busy", "BUSY"},         {"created_s", "CREATED"}, {"used_s", "USED"},
        {"age_s", "AGE"},         {"idle_s", "IDLE"},
    };
    json_t *sessions = NULL;

    if (args->names) {
        names_quickly();
    }
    const int r = ask_json(args, ONEBIT_SESSIONS, NULL, &sessions);
    if (r != 0 || (args->json && !args->names)) {
        return r != 0 ? r : print_json(sessions, -1);
    }
    if (args->names) {
        print_names(sessions);
    } else if (json_array_size(sessions) == 0) {
        (void)printf("no sessions; \"onebit chat --session NAME\" begins one\n");
    } else {
        print_table(sessions, columns, ARRAY_SIZE(columns));
    }
    json_decref(sessions);
    return 0;
}

/* What was said, each message under its role, its lines moved in. */
static void print_message(const json_t *message)
{
    const char *role = json_string_value(json_object_get(message, "role"));
    const json_t *content = json_object_get(message, "content");
    struct escaper e = {0};
    struct buf safe;

    buf_init(&safe, SIZE_MAX / 2);
    char *who = escape_line(role ? role : "?");
    (void)printf("\n%s\n  ", who ? who : "?");
    free(who);
    if (json_is_string(content) &&
        escape_text(&e, &safe, json_string_value(content), json_string_length(content)) == 0 &&
        escape_end(&e, &safe) == 0) {
        for (size_t i = 0; i < safe.n; i++) {
            (void)putchar(safe.data[i]);
            if (safe.data[i] == '\n' && i + 1 < safe.n) {
                (void)fputs("  ", stdout);
            }
        }
    }
    (void)putchar('\n');
    buf_deinit(&safe);
}

static int show_session(struct args *args, const char *name)
{
    json_t *session = NULL, *message;
    size_t i;
    const int r = ask_json(args, ONEBIT_SESSION, name, &session);

    if (r != 0 || args->json) {
        return r != 0 ? r : print_json(session, -1);
    }
    json_t *history = json_incref(json_object_get(session, "history"));
    const json_int_t first = json_integer_value(json_object_get(session, "first"));
    (void)json_object_del(session, "history");
    (void)json_object_del(session, "first");
    print_values(session, "", 0);
    if (first > 0) {
        (void)printf("\nthe first %" JSON_INTEGER_FORMAT
                     " messages are not shown: they do not fit one answer of the daemon\n",
                     first);
    }
    json_array_foreach(history, i, message)
    {
        print_message(message);
    }
    json_decref(history);
    json_decref(session);
    return 0;
}

static int drop_sessions(struct args *args)
{
    struct talk t;
    int r = talk_init(&t);

    if (r == 0) {
        r = talk_connect(&t, args->socket);
    }
    bool goes_on = r == 0;
    for (size_t i = 1; goes_on && i < args->n_words; i++) { /* the others are to go all the same */
        char *none = NULL;
        const int one = talk_ask(&t, ONEBIT_SESSION_DROP, args->words[i], &none);
        free(none);
        r = r != 0 ? r : one;
        goes_on = talk_goes_on(&t);
    }
    talk_deinit(&t);
    return r;
}

int verb_session(struct args *args)
{
    const char *what = args->words[0];

    if (strcmp(what, "list") == 0 && args->n_words == 1) {
        return list_sessions(args);
    }
    if (strcmp(what, "show") == 0 && args->n_words == 2) {
        return show_session(args, args->words[1]);
    }
    if (strcmp(what, "drop") == 0 && args->n_words >= 2) {
        return drop_sessions(args);
    }
    complain("session takes \"list\", \"show NAME\" or \"drop NAME...\"; \"onebit session --help\" "
             "says more");
    return EXIT_USAGE;
}

int verb_metrics(struct args *args)
{
    struct output output;
    char *text = NULL;
    int r = ask_text(args, ONEBIT_METRICS, NULL, &text);

    if (r != 0) {
        return r;
    }
    output_init(&output, -1);
    const int wrote = output_model(&output, text, strlen(text));
    r = output_exit(wrote ? wrote : output_end_line(&output));
    free(text);
    return r;
}
