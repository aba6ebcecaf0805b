/* What a chat template's text would write: its skeleton, by which chat_detect() tells it. */
#ifndef ENGINE_TEXT_CHAT_SKELETON_H
#define ENGINE_TEXT_CHAT_SKELETON_H

#include "base/strview.h"

#define SKELETON_MAX 4096u /* bytes; the longest known one has 500 */

/* Signs in a skeleton, and the same as strings for the patterns below. */
#define ROLE "\x01"
#define CONTENT "\x02"
#define BOS "\x03"
#define EOS "\x04"

enum {                      /* what a text uses */
       USES_TRIM = 1,       /* white space off the ends of contents */
       USES_CAPITAL = 2,    /* capitalize */
       USES_FIRST = 4,      /* asks whether a message is the first */
       USES_THINKING = 8,   /* enable_thinking */
       USES_REASONING = 16, /* keeps thoughts apart */
       USES_SLICE = 32,     /* a part of the messages */
       USES_ASKS = 64,      /* conditions on contents or on texts that are no roles */
       USES_BOS_IN_LOOP = 128,
       USES_WORDS = 256,   /* other words of Qwen3's template */
       USES_OUTSIDE = 512, /* a role or a content outside of every loop */
       UNKNOWN = 1024,
};

enum { SYSTEM = 1, USER = 2, ASSISTANT = 4, TOOL = 8, EVERYBODY = SYSTEM | USER | ASSISTANT };

struct chat_skeleton {
    char text[SKELETON_MAX]; /* literals and signs in order, no NUL */
    size_t n;
    unsigned uses;  /* USES_* and UNKNOWN */
    unsigned asked; /* roles that conditions name */
};

/** chat_skeleton_read() - any bytes; what cannot be read has UNKNOWN in uses */
void chat_skeleton_read(struct chat_skeleton *ret, struct strview text);

#endif
