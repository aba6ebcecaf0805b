/* Writing msgpack values into a buf, over msgpack-c. A writer remembers its first failure, so that
 * a message is packed in one go and checked once. */
#ifndef IPC_PACK_H
#define IPC_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/strview.h"

struct packer {
    struct buf *out; /* borrowed */
    int error;       /* 0, or the first negative errno */
};

static inline struct packer packer_of(struct buf *out)
{
    return (struct packer){.out = out, .error = 0};
}

void pack_map(struct packer *p, uint32_t pairs);
void pack_array(struct packer *p, uint32_t n);
void pack_str(struct packer *p, struct strview s); /* invalid UTF-8 is written as bin */
void pack_z(struct packer *p, const char *z);      /* a NUL-terminated string: keys and words */
void pack_bin(struct packer *p, const void *data, size_t n);
void pack_uint(struct packer *p, uint64_t v);
void pack_int(struct packer *p, int64_t v);
void pack_bool(struct packer *p, bool v);
void pack_f32(struct packer *p, float v);
void pack_f64(struct packer *p, double v);

#endif
