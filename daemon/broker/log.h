/* Lines for the operator, on stderr. Never a word of a prompt or an answer. */
#ifndef BROKER_LOG_H
#define BROKER_LOG_H

#include "base/compiler.h"

enum { LOG_ERR = 3, LOG_WARNING = 4, LOG_NOTICE = 5, LOG_INFO = 6 };

/** log_init() - "<N>" priorities in front when stderr goes to the journal */
void log_init(void);

/** log_line() - one line; control characters in it are written as '?' */
void log_line(int priority, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
