/* What the engine says of its steps, and who learns from it. */
#ifndef BROKER_ENGINE_STEPS_H
#define BROKER_ENGINE_STEPS_H

struct broker;
struct seam_stats;

/** engine_steps() - a report came */
void engine_steps(struct broker *b, const struct seam_stats *st);

#endif
