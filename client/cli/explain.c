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

int verb_explain(struct args *args)
{
    bool any = false;

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
