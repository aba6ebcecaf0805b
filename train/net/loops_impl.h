/* What the parts of one compilation of the loops see of each other. NET_LEVEL is its name. */
#ifndef TRAIN_NET_LOOPS_IMPL_H
#define TRAIN_NET_LOOPS_IMPL_H

#include "train/net/loops.h"

#define LOOPS_JOIN_(a, b) a##_##b
#define LOOPS_JOIN(a, b) LOOPS_JOIN_(a, b)
#define LOOPS_NAME(name) LOOPS_JOIN(name, NET_LEVEL)

/* Each file of loops fills in its own. */
void LOOPS_NAME(loops_rows)(struct loops *l);
void LOOPS_NAME(loops_soft)(struct loops *l);
void LOOPS_NAME(loops_quant)(struct loops *l);

#endif
