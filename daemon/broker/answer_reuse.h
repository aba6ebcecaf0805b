/* Answers kept for the same question asked again: which requests may have one, and what makes two
 * of them the same. */
#ifndef BROKER_ANSWER_REUSE_H
#define BROKER_ANSWER_REUSE_H

#include <stdbool.h>

#include "base/compiler.h"
#include "base/strview.h"
#include "ipc/seam.h"

struct answer_reuse;
struct request;

/**
 * answer_reuse_serve() - r's model is known
 *
 * Notes whether its answer may be kept. Return: true when there was one: r has been answered, at no
 * cost to any limit, and is gone.
 */
MUST_USE bool answer_reuse_serve(struct request *r);

/** answer_reuse_text() - more of its answer was delivered */
void answer_reuse_text(struct request *r, struct strview text);

/** answer_reuse_keep() - it is answered */
void answer_reuse_keep(struct request *r, const struct seam_finished *f);

void answer_reuse_free(struct answer_reuse *a); /* NULL is fine */

#endif
