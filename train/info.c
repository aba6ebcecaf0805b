/* info: what a checkpoint says of itself. */
#include <inttypes.h>
#include <stdio.h>

#include "train/args.h"
#include "train/loop/checkpoint.h"
#include "train/train.h"

static int print(const char *path)
{
    struct checkpoint c;
    struct diag diag = {0};
    struct buf file;

    buf_init(&file, CHECKPOINT_BYTES_MAX);
    int r = train_read(path, &file);
    if (r == TRAIN_OK) {
        const int parsed = checkpoint_parse(&c, file.data, file.n, &diag);
        if (parsed != CHECKPOINT_OK) {
            const int refused = train_refuse(path, &diag);
            r = parsed == CHECKPOINT_UNSUPPORTED ? TRAIN_UNAVAILABLE : refused;
        }
    }
    if (r == TRAIN_OK) {
        recipe_print(stdout, &c.recipe);
        (void)printf("%-16s %zu\n%-16s %" PRIu64 "\n%-16s %" PRIu64 "\n%-16s %" PRIu64
                     "\n%-16s %.1f\n",
                     "parameters", c.n_params, "steps_done", c.at.step, "rows_taken", c.at.rows,
                     "tokens_seen", c.at.tokens, "seconds", c.at.seconds);
    }
    buf_deinit(&file);
    return r;
}

int verb_info(int n, char **argv)
{
    const char *path = NULL;
    struct arg args[] = {{"CHECKPOINT", NULL, "of a training", ARG_TEXT, &path}};
    static const char usage[] = "usage: onebit-train info CHECKPOINT";

    if (args_wants_help(n, argv)) {
        (void)printf("%s\n\n", usage);
        args_help(stdout, args, ARRAY_SIZE(args));
        return TRAIN_OK;
    }
    int r = args_parse(args, ARRAY_SIZE(args), n, argv);
    if (r == TRAIN_OK && !path) {
        train_error("a checkpoint is missing");
        r = TRAIN_USAGE;
    }
    if (r == TRAIN_USAGE) {
        (void)fprintf(stderr, "%s\n", usage);
    }
    return r == TRAIN_OK ? print(path) : r;
}
