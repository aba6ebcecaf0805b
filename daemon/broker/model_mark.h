/* What tells a model from what stood under its name before: numbers for comparing, kept with ids
 * and answers that only mean something to the model they came from. */
#ifndef BROKER_MODEL_MARK_H
#define BROKER_MODEL_MARK_H

struct model;
struct model_options;

/** model_mark_set() - it is being loaded with these options (NULL: none): set its two marks */
void model_mark_set(struct model *m, const struct model_options *o);

#endif
