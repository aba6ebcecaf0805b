/* What a command's answer may hold: the schema (schema.json) as tables. */
#ifndef TRAIN_COMMANDS_SLOTS_H
#define TRAIN_COMMANDS_SLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/strview.h"

/* In the order in which an answer has them (x-key-order). */
enum slot {
    SLOT_NAME,
    SLOT_AREA,
    SLOT_FLOOR,
    SLOT_DOMAIN,
    SLOT_DEVICE_CLASS,
    SLOT_STATE,
    SLOT_BRIGHTNESS,
    SLOT_COLOR,
    SLOT_TEMPERATURE,
    SLOT_POSITION,
    SLOT_VOLUME_LEVEL,
    SLOT_CHANGE,
    SLOT_BY,
    SLOT_HOURS,
    SLOT_MINUTES,
    SLOT_SECONDS,
    SLOT_START_HOURS,
    SLOT_START_MINUTES,
    SLOT_START_SECONDS,
    SLOT_ITEM,
    SLOT_SEARCH_QUERY,
    SLOT_MEDIA_CLASS,
    SLOT_MESSAGE,
    SLOT_CONVERSATION_COMMAND,
    N_SLOTS,
};

#define SLOT_BIT(slot) (UINT32_C(1) << (slot))

enum slot_kind {
    SLOT_TEXT,  /* as spoken, at most `max` bytes */
    SLOT_WORD,  /* one of `words` */
    SLOT_WHOLE, /* a whole number, min to max */
    SLOT_HALF,  /* a number in halves, min to max */
};

struct slot_info {
    const char *name;
    enum slot_kind kind;
    uint32_t min, max;        /* SLOT_HALF: in halves */
    const char *const *words; /* SLOT_WORD: NULL ends them */
};

struct intent_info {
    const char *name;
    uint32_t may;    /* bits of slots */
    uint32_t must;   /* all of these */
    uint32_t one_of; /* one at least, unless 0 */
};

extern const struct slot_info slot_infos[N_SLOTS];
#define N_INTENTS 31u
extern const struct intent_info intent_infos[N_INTENTS];

/** slot_find() - its index, or N_SLOTS */
unsigned slot_find(struct strview name);
/** intent_find() - its index, or N_INTENTS */
unsigned intent_find(struct strview name);

/** slot_takes() - may the slot have this value? */
bool slot_takes(enum slot slot, struct strview value);

/** slots_fault() - why these slots (bits) are no answer of this intent; NULL: they are */
const char *slots_fault(unsigned intent, uint32_t have);

#endif
