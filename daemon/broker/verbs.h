/* What each message of a client does. */
#ifndef BROKER_VERBS_H
#define BROKER_VERBS_H

#include <stddef.h>
#include <stdint.h>

#include "ipc/message.h"

struct broker;
struct conn;
struct request;

/** verbs_hello() - the first message of a connection */
void verbs_hello(struct conn *c, const struct msg_hello *m);

/** verbs_handle() - any later one; @body: its n bytes, borrowed */
void verbs_handle(struct conn *c, const struct message *m, const uint8_t *body, size_t n);

/** verbs_resolve() - the folder has been read: requests that waited for that go on */
void verbs_resolve(struct broker *b, int scan_result);

/** verbs_load_done() - end a load request whose model is loaded */
void verbs_load_done(struct request *r);

#endif
