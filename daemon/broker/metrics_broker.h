/* From the broker's objects to its figures: what the handlers call, one line each, and the text. */
#ifndef BROKER_METRICS_BROKER_H
#define BROKER_METRICS_BROKER_H

#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "ipc/error.h"

struct broker;
struct metrics_now;
struct request;

/* Of a generate request; other kinds are not counted. */
void metrics_on_start(const struct request *r);      /* for the first time given to the engine */
void metrics_on_prompt(const struct request *r);     /* its prompt's tokens are known */
void metrics_on_tokens(struct request *r, size_t n); /* n new ones were delivered; n may be 0 */
void metrics_on_end(const struct request *r);        /* as r->outcome says */

/** metrics_on_refusal() - of what never became a request */
void metrics_on_refusal(struct broker *b, enum error_code code);

/** metrics_on_stats() - the engine has reported b->engine.stats */
void metrics_on_stats(struct broker *b);

/** metrics_ledger() - bring what each identity holds up to date */
void metrics_ledger(struct broker *b);

/** metrics_take() - the state of things */
void metrics_take(struct broker *b, struct metrics_now *ret);

/** metrics_read() - append the text to @out, which has room for METRICS_TEXT_MAX: 0 or -ENOMEM */
MUST_USE int metrics_read(struct broker *b, struct buf *out);

#endif
