/* Salts: 16 random bytes for each (uid, unit), which the keys of its KV blocks and kept answers
 * begin with; and all of them as the bytes of a file. Pure code but for the salts, which are drawn
 * from the kernel. */
#ifndef BROKER_SALTS_H
#define BROKER_SALTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/diag.h"
#include "base/list.h"
#include "daemon/broker/policy.h"
#include "ipc/seam.h"

#define SALTS_MAX 4096u
#define SALTS_ENTRY_MAX (4 + SEAM_SALT + 1 + UNIT_MAX)
#define SALTS_FILE_MAX (8 + 4 + SALTS_MAX * SALTS_ENTRY_MAX + 8) /* bytes: some 1.1 MiB */

struct salts {
    struct list all; /* owned, the longest unused first */
    size_t n;
    uint64_t n_drawn; /* ever: what was written when it was the same is still right */
};

void salts_init(struct salts *t);
void salts_deinit(struct salts *t);

/**
 * salts_get() - the salt of a uid and unit, drawn when there is none
 * @unit: at most UNIT_MAX bytes
 * @ret: never all zero, which is everybody's
 *
 * A full table forgets the one that was unused for longest: that costs a cache miss and nothing
 * else.
 * Return: false when there is no memory, or nothing random.
 */
MUST_USE bool salts_get(struct salts *t, uid_t uid, const char *unit, uint8_t ret[SEAM_SALT]);

/** salts_write() - append the file's bytes but for its checksum: 0, -ENOMEM or -E2BIG */
MUST_USE int salts_write(struct buf *out, const struct salts *t);

/** salts_seal() - append the checksum of all that `out` holds: 0, -ENOMEM or -E2BIG. It looks at
 * every byte, so that writing is quick and this may be done elsewhere. */
MUST_USE int salts_seal(struct buf *out);

enum { SALTS_OK = 0, SALTS_BAD };

/**
 * salts_read() - check a file's bytes whole and fill an empty table
 * @ret_diag: on SALTS_BAD what is wrong; never contents
 *
 * Two entries with one owner, or with one salt, are refused: nobody may come to another's salt by a
 * file.
 * Return: SALTS_OK; SALTS_BAD or -ENOMEM, and the table is as empty as it was.
 */
MUST_USE int salts_read(struct salts *t, const void *data, size_t n, struct diag *ret_diag);

#endif
