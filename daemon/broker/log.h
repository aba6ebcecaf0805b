/* Lines for the operator, on stderr. Never a word of a prompt or an answer. */
#ifndef BROKER_LOG_H
#define BROKER_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

enum { LOG_ERR = 3, LOG_WARNING = 4, LOG_NOTICE = 5, LOG_INFO = 6 };

/* Kinds of lines that clients can cause as often as they like: so many of each kind are written
 * (log_gate.h), then one line with the number of the others. */
enum log_kind {
    LOG_CONNECTIONS,  /* refused, or closed for being slow */
    LOG_DESCRIPTORS,  /* used up */
    LOG_MODELS,       /* packed, loaded, unloaded; their prefixes */
    LOG_MODEL_FAULTS, /* refused models, killed packers, breakers */
    LOG_SESSIONS,     /* whose files stay */
    LOG_GAPS,         /* times that the daemon did not run */
    LOG_KINDS,
};

/** log_init() - "<N>" priorities in front when stderr goes to the journal */
void log_init(void);

/** log_line() - one line; control characters in it are written as '?' */
void log_line(int priority, const char *fmt, ...) PRINTF_LIKE(2, 3);

/** log_client() - likewise, unless there are too many of its kind */
void log_client(enum log_kind kind, int priority, const char *fmt, ...) PRINTF_LIKE(3, 4);

/** log_settle() - tell how many lines were left out where their time is over, or all with @force.
 * Return: true while some are still to be told. */
bool log_settle(bool force);

/** log_suppressed() - lines left out since the start */
uint64_t log_suppressed(void);

#endif
