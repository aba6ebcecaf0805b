/* The answers to sessions, session and session_drop. A user sees their own sessions and nobody
 * else's, whatever rights they have. */
#ifndef BROKER_SESSION_VERBS_H
#define BROKER_SESSION_VERBS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/strview.h"

struct conn;

void session_verbs_list(struct conn *c, uint32_t id);
void session_verbs_show(struct conn *c, uint32_t id, struct strview name);
/** session_verbs_drop() - false, and answered, when there is none, or it has a turn */
MUST_USE bool session_verbs_drop(struct conn *c, uint32_t id, struct strview name);

#endif
