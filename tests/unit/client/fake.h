/* A daemon for tests: a thread that listens in a folder of its own and does what a function
 * says. */
#ifndef TESTS_UNIT_CLIENT_FAKE_H
#define TESTS_UNIT_CLIENT_FAKE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "ipc/frame.h"
#include "ipc/message.h"

struct fake_conn {
    int fd;
    struct frame_reader in;
    struct buf out;
};

/* Serves one connection; it is closed afterwards. Runs in the fake's thread: no cmocka asserts
 * here, plain assert() ends the test program. */
typedef void fake_serve_fn(struct fake_conn *c, void *arg);

struct fake;

struct fake *fake_start(fake_serve_fn *serve, void *arg);
void fake_stop(struct fake *f); /* waits for the thread, removes the folder */
const char *fake_path(const struct fake *f);
unsigned fake_served(const struct fake *f); /* connections so far; after fake_stop() it is gone */

/** fake_read() - the next message; its views live until the next call. false: the client hung up */
bool fake_read(struct fake_conn *c, struct message *ret);
/** fake_expect() - fake_read(), and it must be of this type; returns its id */
uint32_t fake_expect(struct fake_conn *c, enum message_type type);
void fake_greet(struct fake_conn *c); /* take the client's hello, answer it */
void fake_greet_many(struct fake_conn *c, uint32_t requests_max); /* and allow so many at once */
/** fake_met() - fake_greet(), unless the client has gone: false */
bool fake_met(struct fake_conn *c);
void fake_flush(struct fake_conn *c); /* send what was packed into c->out */
void fake_bytes(struct fake_conn *c, const void *bytes, size_t n);
void fake_text(struct fake_conn *c, uint32_t id, uint32_t index, const char *text); /* a delta */
void fake_done(struct fake_conn *c, uint32_t id, uint32_t tokens);
void fake_error(struct fake_conn *c, uint32_t id, enum error_code code, const char *message);
void fake_until_hang_up(struct fake_conn *c); /* swallow what comes */

#endif
