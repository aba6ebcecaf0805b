/* explain: the error table, for people, without a daemon. */
#include "client/cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_row(const struct onebit_error_info *e)
{
    (void)printf("%s (%u, %s, exit code %u)\n  %s\n  %s\n", e->name, e->number,
                 e->retryable ? "may succeed when retried" : "fails again when retried",
                 e->exit_code, e->meaning, e->hint);
}

static bool wanted(const struct onebit_error_info *e, const char *word)
{
    char number[8];

    (void)snprintf(number, sizeof(number), "%u", e->number);
    return strcmp(word, e->name) == 0 || strcmp(word, number) == 0;
}

static void print_errors(void)
{
    (void)printf("%-6s %-22s %-6s %-5s %s\n", "CODE", "NAME", "RETRY", "EXIT", "MEANING");
    for (int code = 1; onebit_error_info(code); code++) {
        const struct onebit_error_info *e = onebit_error_info(code);
        (void)printf("%-6u %-22s %-6s %-5u %s\n", e->number, e->name, e->retryable ? "yes" : "no",
                     e->exit_code, e->meaning);
    }
}

/* The rows that are asked for, all of them without a word; NULL without memory. */
static json_t *rows(const struct args *args)
{
    json_t *all = json_array();

    for (int code = 1; onebit_error_info(code); code++) {
        const struct onebit_error_info *e = onebit_error_info(code);
        if (args->n_words > 0 && !wanted(e, args->words[0])) {
            continue;
        }
        if (json_array_append_new(all, json_pack("{s:s, s:i, s:b, s:i, s:s, s:s}", "name", e->name,
                                                 "number", (int)e->number, "retryable",
                                                 e->retryable, "exit_code", (int)e->exit_code,
                                                 "meaning", e->meaning, "hint", e->hint)) != 0) {
            json_decref(all);
            return NULL;
        }
    }
    return all;
}

int verb_explain(struct args *args)
{
    json_t *found = args->json ? rows(args) : NULL;
    bool any = false;

    if (args->json && (!found || json_array_size(found) > 0)) {
        return print_json(found, -1);
    }
    json_decref(found);

    if (args->n_words == 0) {
        print_errors();
        return 0;
    }
    for (int code = 1; onebit_error_info(code); code++) {
        const struct onebit_error_info *e = onebit_error_info(code);
        if (wanted(e, args->words[0])) {
            (void)printf("%s", any ? "\n" : "");
            print_row(e);
            any = true;
        }
    }
    if (!any) {
        complain("no error has the code or name \"%s\"; \"onebit explain\" lists them all",
                 args->words[0]);
        return EXIT_USAGE;
    }
    return 0;
}
