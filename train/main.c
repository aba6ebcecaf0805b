/* onebit-train: makes models whose weights have one bit from the first step on. One verb a call.
 *
 * Results go to standard output, everything else to standard error, and the exit code says which
 * kind of trouble it was (train.h). No file is read that is not named; of the environment OpenBLAS
 * takes which kernels it runs (net/kernels.h), and a training says which they are. */
#include <stdio.h>
#include <string.h>

#include "base/stdfds.h"
#include "train/commands/commands.h"
#include "train/net/kernels.h"
#include "train/train.h"

#ifndef ONEBIT_VERSION
#define ONEBIT_VERSION "unknown"
#endif

/* The generator has a command line of its own. */
static int verb_commands(int n, char **argv)
{
    return commands_main(n + 1, argv - 1); /* the verb's name comes first */
}

static const struct verb {
    const char *name;
    int (*run)(int n, char **argv);
    const char *what;
} verbs[] = {
    {"commands", verb_commands, "draw rows of home commands and their JSON from a grammar"},
    {"tokenizer", verb_tokenizer, "make a vocabulary out of rows of prompts and answers"},
    {"model", verb_model, "train a model on such rows and write it as GGUF"},
    {"score", verb_score, "answer the prompts of rows with a model, and count exact answers"},
    {"info", verb_info, "say what a checkpoint was made with, and how far it has come"},
};

static void print_usage(FILE *f)
{
    (void)fputs("usage: onebit-train VERB ...\n\n", f);
    for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
        (void)fprintf(f, "  %-10s %s\n", verbs[i].name, verbs[i].what);
    }
    (void)fputs("  help       this page; also --help\n\n"
                "onebit-train VERB --help lists a verb's options, onebit-train --version says the "
                "version.\n",
                f);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "model") == 0) {
        kernels_take(argv);
    }
    const int reserved = stdfds_reserve();
    if (reserved < 0) {
        return train_errno("standard descriptors", reserved);
    }
    if (argc < 2) {
        print_usage(stderr);
        return TRAIN_USAGE;
    }
    if (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0) {
        print_usage(stdout);
        return train_done();
    }
    if (strcmp(argv[1], "--version") == 0) {
        (void)printf("onebit-train %s\n", ONEBIT_VERSION);
        return train_done();
    }
    for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
        if (strcmp(verbs[i].name, argv[1]) == 0) {
            const int r = verbs[i].run(argc - 2, argv + 2);
            const int done = train_done();
            return r != TRAIN_OK ? r : done;
        }
    }
    train_error("%s: no such verb", argv[1]);
    print_usage(stderr);
    return TRAIN_USAGE;
}
