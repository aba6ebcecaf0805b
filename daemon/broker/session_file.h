/* A session as the bytes of a file, and back. Pure code; the bytes may come from anybody. */
#ifndef BROKER_SESSION_FILE_H
#define BROKER_SESSION_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/diag.h"
#include "base/strview.h"
#include "daemon/broker/session.h"

#define SESSION_FILE_MAX (8u << 20) /* bytes: text, ids and a little */
#define SESSION_FILE_NAME_MAX 96u   /* "UID-NAME.session" */

/** session_file_name() - what its file is called; @ret has room for SESSION_FILE_NAME_MAX */
void session_file_name(char *ret, uid_t uid, struct strview name);

/** session_file_write() - append the file's bytes but for its checksum: 0, -ENOMEM or -E2BIG */
MUST_USE int session_file_write(struct buf *out, const struct session *s);

/** session_file_seal() - append the checksum of all that `out` holds: 0, -ENOMEM or -E2BIG. It
 * looks at every byte, so that writing is quick and this may be done elsewhere. */
MUST_USE int session_file_seal(struct buf *out);

enum { SESSION_FILE_OK = 0, SESSION_FILE_BAD };

/**
 * session_file_read() - check a file's bytes whole and make the session
 * @ret: on SESSION_FILE_OK, a new one; free with session_free() or give to a table
 * @ret_diag: on SESSION_FILE_BAD what is wrong; never contents
 *
 * Return: SESSION_FILE_OK, SESSION_FILE_BAD, or -ENOMEM.
 */
MUST_USE int session_file_read(struct session **ret, const void *data, size_t n,
                               struct diag *ret_diag);

#endif
