/* Between the queue and the engine process: starts, plans, reports, deaths. */
#ifndef BROKER_ENGINE_H
#define BROKER_ENGINE_H

#include <stdbool.h>

struct broker;
struct request;

/** engine_init() - the engine's process and its first start: 0 or a negative errno */
int engine_init(struct broker *b);

/** engine_advance() - bring the engine up to what the queue wants: a start, sequences, a plan */
void engine_advance(struct broker *b);

/** engine_check_quantization() - false: the request expected another one and has been refused */
bool engine_check_quantization(struct request *r);

#endif
