/* Where tests reach into the runner. The shipped program has none of these: its main passes
 * NULL. */
#ifndef DAEMON_RUNNER_HOOKS_H
#define DAEMON_RUNNER_HOOKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/strview.h"

struct runner_hooks {
    /* A sequence starts; @request is the body of its generate frame. What it returns comes back as
     * @mark. May be NULL. */
    uint64_t (*start)(struct strview request);
    /* A step is about to work on a sequence that has n_answer answer tokens. May be NULL. */
    void (*step)(uint64_t mark, bool prefill, size_t n_answer);
};

/**
 * runner_main() - the whole program
 * @hooks: borrowed, NULL for none
 *
 * Return: the exit status.
 */
int runner_main(int argc, char **argv, const struct runner_hooks *hooks);

#endif
