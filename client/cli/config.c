/* config: is a configuration right? The daemon's own checker decides; there is no second one that
 * could differ from it. */
#include "client/cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/program.h"

#define SAYS_BYTES_MAX PROGRAM_SAYS_MAX

/* What the checker said, line by line, made harmless. */
static void pass_on(const struct buf *says)
{
    const char *at = says->n > 0 ? (const char *)says->data : "", *end = at + says->n;

    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const size_t n = (size_t)((newline ? newline : end) - at);
        char *line = strndup(at, n);
        char *safe = line ? escape_line(line) : NULL;
        (void)fprintf(stderr, "%s\n", safe ? safe : "onebit: out of memory");
        free(safe);
        free(line);
        at += n + 1;
    }
}

static int print_verdict(const char *file, int code, const struct buf *says)
{
    json_t *all =
        json_pack("{s:b, s:i, s:s*, s:o*}", "right", code == 0, "exit_code", code, "file", file,
                  "says", json_stringn(says->data ? (const char *)says->data : "", says->n));
    const int r = print_json(all, -1);

    return r != 0 ? r : code;
}

static int check(const struct args *args, const char *file)
{
    char check_it[] = "--check", option[] = "--config";
    char *words[] = {NULL, check_it, NULL, NULL, NULL};
    struct buf says;
    int r = program_find(&words[0]);

    if (r < 0) {
        complain("unavailable: onebitd is neither beside this command nor on PATH (503)");
        complain("install the package onebitd; a configuration is checked by the daemon's program");
        return EXIT_UNAVAILABLE;
    }
    words[2] = file ? option : NULL;
    words[3] = (char *)(uintptr_t)file;
    buf_init(&says, SAYS_BYTES_MAX);
    r = program_run(words, false, &says);
    if (r < 0) {
        complain("%s cannot be run: %s", words[0], strerror(-r));
        r = EXIT_SYSTEM;
    } else if (args->json) {
        r = print_verdict(file, r, &says);
    } else {
        pass_on(&says);
        if (r == 0) {
            (void)printf("the configuration is right\n");
        }
    }
    buf_deinit(&says);
    free(words[0]);
    return r;
}

int verb_config(struct args *args)
{
    if (strcmp(args->words[0], "check") != 0) {
        complain("config takes \"check\"; \"%s\" is not it", args->words[0]);
        return EXIT_USAGE;
    }
    return check(args, args->n_words > 1 ? args->words[1] : NULL);
}
