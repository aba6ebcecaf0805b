/* The rows of every message of PROTOCOL.md. Inside this room only. */
#ifndef IPC_MESSAGE_FIELDS_H
#define IPC_MESSAGE_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/field.h"
#include "ipc/message.h"

struct message_shape {
    const char *word; /* value of the key `type` */
    const struct field *rows;
    size_t n;
    bool of_connection; /* may come without an id */
    /* What no row can say alone; NULL: nothing. False with diag set. */
    bool (*check)(struct field_in *in, void *obj, uint64_t seen);
};

#define HELLO_CLIENT_ROWS 4u /* the first of hello's rows; a server writes them all */

extern const struct message_shape message_shapes[MSG_TYPES];

#endif
