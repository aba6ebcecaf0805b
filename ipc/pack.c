/* pack: msgpack-c's packer, writing into a buf that has a ceiling. msgpack-c has no error of its
 * own here: what fails is the buffer, and the packer remembers why. */
#include "ipc/pack.h"

#include <errno.h>

#include <msgpack.h>

#include "ipc/mp.h"

static int on_write(void *data, const char *bytes, size_t n)
{
    struct packer *p = data;

    if (p->error == 0) {
        p->error = buf_append(p->out, bytes, n);
    }
    return p->error == 0 ? 0 : -1;
}

/* The packer of msgpack-c is two pointers; making one per value keeps its type out of our header.
 */
static msgpack_packer over(struct packer *p)
{
    msgpack_packer mp;

    msgpack_packer_init(&mp, p, on_write);
    return mp;
}

void pack_map(struct packer *p, uint32_t pairs)
{
    msgpack_packer mp = over(p);
    (void)msgpack_pack_map(&mp, pairs);
}

void pack_array(struct packer *p, uint32_t n)
{
    msgpack_packer mp = over(p);
    (void)msgpack_pack_array(&mp, n);
}

/* Lengths past 32 bits have no msgpack form. */
static bool fits(struct packer *p, size_t n)
{
    if (n > UINT32_MAX && p->error == 0) {
        p->error = -E2BIG;
    }
    return n <= UINT32_MAX;
}

static void put_str(struct packer *p, struct strview s)
{
    msgpack_packer mp = over(p);

    if (fits(p, s.n)) {
        (void)msgpack_pack_str(&mp, s.n);
        (void)msgpack_pack_str_body(&mp, s.data, s.n);
    }
}

void pack_str(struct packer *p, struct strview s)
{
    if (mp_utf8_valid(s)) {
        put_str(p, s);
    } else {
        pack_bin(p, s.data, s.n);
    }
}

void pack_z(struct packer *p, const char *z)
{
    put_str(p, strview_of(z));
}

void pack_bin(struct packer *p, const void *data, size_t n)
{
    msgpack_packer mp = over(p);

    if (fits(p, n)) {
        (void)msgpack_pack_bin(&mp, n);
        (void)msgpack_pack_bin_body(&mp, data, n);
    }
}

void pack_uint(struct packer *p, uint64_t v)
{
    msgpack_packer mp = over(p);
    (void)msgpack_pack_uint64(&mp, v);
}

void pack_int(struct packer *p, int64_t v)
{
    msgpack_packer mp = over(p);
    (void)msgpack_pack_int64(&mp, v);
}

void pack_bool(struct packer *p, bool v)
{
    msgpack_packer mp = over(p);

    if (v) {
        (void)msgpack_pack_true(&mp);
    } else {
        (void)msgpack_pack_false(&mp);
    }
}

void pack_f32(struct packer *p, float v)
{
    msgpack_packer mp = over(p);
    (void)msgpack_pack_float(&mp, v);
}

void pack_f64(struct packer *p, double v)
{
    msgpack_packer mp = over(p);
    (void)msgpack_pack_double(&mp, v);
}
