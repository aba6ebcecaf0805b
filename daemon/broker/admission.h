/* Between a request and the queue: bounds, rate limits, the breaker of its model, and whether its
 * deadline can be kept. The decisions are pure code (queue.h, gate.h, breaker.h, sched.h); here
 * they meet the broker's objects and clocks. */
#ifndef BROKER_ADMISSION_H
#define BROKER_ADMISSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/strview.h"
#include "ipc/message.h"

struct broker;
struct conn;
struct grant;
struct model;
struct request;

/** admission_init() - once, with the broker's loop and configuration there */
void admission_init(struct broker *b);
/** admission_reload() - the configuration has changed */
void admission_reload(struct broker *b);
/** admission_close() - the broker stops */
void admission_close(struct broker *b);

/** admission_class() - may the peer ask for this class? False: it is answered */
MUST_USE bool admission_class(struct conn *c, uint32_t id, enum request_class class_);

/** admission_model() - may the peer use this model? False: the request has been refused */
MUST_USE bool admission_model(struct request *r, struct strview model);

/** admission_queue() - is there room for one more of so many bytes? False: it is answered */
MUST_USE bool admission_queue(struct conn *c, uint32_t id, size_t bytes);

/** admission_waiting_max() - requests that one identity may have waiting now; the memory ladder
 * halves it. @g: its grant */
uint64_t admission_waiting_max(const struct broker *b, const struct grant *g);
/** admission_bytes_max() - likewise of the bytes of its requests, running ones included */
uint64_t admission_bytes_max(const struct broker *b);

/** admission_hold() - its body is kept: charge its bytes to the identity until admission_end() */
void admission_hold(struct request *r);

/**
 * admission_enter() - a generate request knows its model: it goes on, or waits for a rate limit
 * with r->job.parked set, or has been refused (false)
 */
MUST_USE bool admission_enter(struct request *r);

/** admission_advance() - let through who waited long enough; sets the timer for the next */
void admission_advance(struct broker *b);

/** admission_late() - the deadline has come while it waited for a rate limit: refuse it so */
void admission_late(struct request *r);

/** admission_end() - the request is over, r->outcome says how: give back what it did not use, and
 * tell the breaker */
void admission_end(struct request *r);

/** admission_load_fault() - loading the model took the engine along; its users are still there */
void admission_load_fault(struct model *m);

#endif
