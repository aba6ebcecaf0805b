/* A report of tokens as the frame that the client gets. */
#ifndef BROKER_DELTA_H
#define BROKER_DELTA_H

#include "base/buf.h"
#include "base/compiler.h"
#include "ipc/seam.h"

struct answer_news;
struct request;

/** delta_put() - append the frame of what is new; the report's ids lie in the broker's scratch. 0
 * or what message_put_delta() returns. */
MUST_USE int delta_put(struct buf *out, const struct request *r, const struct seam_tokens *t,
                       const struct answer_news *news);

#endif
