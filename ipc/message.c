/* message: one frame's body to a struct and back.
 *
 * Reading goes over the body three times, each pass on firmer ground: mp_valid() proves that it is
 * sound msgpack, the envelope finds type and id wherever they stand, so that even a refusal can be
 * addressed, and the rows of that type take the rest. */
#include "ipc/message.h"

#include <assert.h>
#include <errno.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "ipc/field.h"
#include "ipc/frame.h"
#include "ipc/message_fields.h"
#include "ipc/mp.h"
#include "ipc/pack.h"

/* --- runs of ids and of logprobs --- */

void msg_ids_copy(const struct msg_ids *ids, int32_t *ret)
{
    struct cursor c = ids->at;

    for (uint32_t i = 0; i < ids->n; i++) {
        struct mp_value v = {0};
        const bool ok = mp_next(&c, &v);
        assert(ok); /* checked when the frame was read */
        ret[i] = (int32_t)v.u;
        (void)ok;
    }
}

static bool logprob_read(struct cursor *c, struct msg_logprob *ret)
{
    struct mp_value pair, id, lp;

    if (!mp_next(c, &pair) || pair.type != MP_ARRAY || pair.n != 2 || !mp_next(c, &id) ||
        id.type != MP_INT || id.negative || id.u > INT32_MAX || !mp_next(c, &lp) ||
        (lp.type != MP_FLOAT && lp.type != MP_INT) || !isfinite(lp.f) ||
        fabs(lp.f) > (double)FLT_MAX) {
        return false;
    }
    *ret = (struct msg_logprob){.id = (int32_t)id.u, .logprob = (float)lp.f};
    return true;
}

bool logprobs_read(struct field_in *in, struct cursor *ret_at, uint32_t *ret_rows)
{
    static const char want[] = "want rows of 1 to 21 pairs [id, logprob], all of one length";
    struct mp_value rows, row;
    struct msg_logprob ignored;
    uint32_t n = 0;

    if (!mp_next(&in->c, &rows) || rows.type != MP_ARRAY || rows.n > MSG_TOKENS_MAX) {
        return field_refuse(in, "logprobs", want);
    }
    const struct cursor at = in->c;
    for (uint32_t i = 0; i < rows.n; i++) {
        if (!mp_next(&in->c, &row) || row.type != MP_ARRAY || row.n < 1 ||
            row.n > MSG_LOGPROBS_ROW_MAX || (i > 0 && row.n != n)) {
            return field_refuse(in, "logprobs", want);
        }
        n = row.n;
        for (uint32_t k = 0; k < n; k++) {
            if (!logprob_read(&in->c, &ignored)) {
                return field_refuse(in, "logprobs", want);
            }
        }
    }
    *ret_at = at;
    *ret_rows = rows.n;
    return true;
}

uint32_t msg_logprobs_next(struct cursor *at, struct msg_logprob *ret)
{
    struct mp_value row = {0};
    bool ok = mp_next(at, &row);

    for (uint32_t k = 0; ok && k < row.n; k++) {
        ok = logprob_read(at, &ret[k]);
    }
    assert(ok); /* checked when the frame was read */
    return ok ? row.n : 0;
}

bool logprobs_given(const struct field_extra *x)
{
    return x->logprobs && x->n_ids > 0 && x->n_alternatives > 0;
}

void logprobs_write(struct packer *p, const struct field_extra *x)
{
    const struct msg_logprob *lp = x->logprobs;

    assert(x->n_alternatives <= MSG_LOGPROBS_ROW_MAX);
    pack_array(p, (uint32_t)x->n_ids);
    for (size_t i = 0; i < x->n_ids && p->error == 0; i++) {
        pack_array(p, (uint32_t)x->n_alternatives);
        for (size_t k = 0; k < x->n_alternatives; k++, lp++) {
            pack_array(p, 2);
            pack_int(p, lp->id);
            pack_f32(p, lp->logprob);
        }
    }
}

/* --- reading --- */

/* The keys every message has, wherever they stand in the map. */
struct envelope {
    struct strview type, result;
    uint32_t id;
    bool id_bad;
    unsigned n_type, n_id, n_result; /* how often each key came */
};

static bool envelope_read(struct envelope *ret, struct cursor c)
{
    struct mp_value map, key, v;

    if (!mp_next(&c, &map) || map.type != MP_MAP) {
        return false;
    }
    for (uint32_t i = 0; i < map.n; i++) {
        if (!mp_next(&c, &key) || key.type != MP_STR) {
            return false;
        }
        const uint8_t *start = c.at;
        struct cursor head = c;
        if (!mp_skip(&c) || !mp_next(&head, &v)) {
            return false;
        }
        if (strview_is(key.str, "type")) {
            if (v.type != MP_STR || ret->n_type > 0) {
                return false;
            }
            ret->type = v.str;
            ret->n_type++;
        } else if (strview_is(key.str, "id")) {
            const bool ok = v.type == MP_INT && !v.negative && v.u <= UINT32_MAX && !ret->n_id;
            ret->id = ok ? (uint32_t)v.u : 0;
            ret->id_bad = !ok;
            ret->n_id++;
        } else if (strview_is(key.str, "result")) {
            ret->result = (struct strview){(const char *)start, (size_t)(c.at - start)};
            ret->n_result++;
        }
    }
    return ret->n_type == 1;
}

static bool type_parse(struct strview word, enum message_type *ret)
{
    for (unsigned i = 0; i < MSG_TYPES; i++) {
        if (strview_is(word, message_shapes[i].word)) {
            *ret = (enum message_type)i;
            return true;
        }
    }
    return false;
}

/* A request needs an id, a hello has none, an error may be about the connection. */
static bool id_fits(const struct envelope *e, enum message_type type)
{
    if (e->id_bad) {
        return false;
    }
    return type == MSG_ERROR || (type == MSG_HELLO) == (e->id == 0);
}

int message_read(struct message *ret, const uint8_t *body, size_t n, struct diag *ret_diag)
{
    struct field_in in = {.c = cursor_of(body, n), .base = body, .diag = ret_diag};
    struct envelope e = {0};
    struct mp_value map;
    uint64_t seen;

    memset(ret, 0, sizeof(*ret));
    if (!mp_valid(body, n)) {
        diag_set(ret_diag, 0, "the body is not one sound msgpack map");
        return MESSAGE_MALFORMED;
    }
    if (!envelope_read(&e, in.c)) {
        diag_set(ret_diag, 0, "the map's keys are no strings, or its type is missing");
        return MESSAGE_MALFORMED;
    }
    ret->id = e.id;
    if (!type_parse(e.type, &ret->type)) {
        diag_set(ret_diag, 0, "type: %.*s is not known", e.type.n < 64 ? (int)e.type.n : 64,
                 e.type.n ? e.type.data : "");
        return MESSAGE_UNKNOWN;
    }
    const struct message_shape *shape = &message_shapes[ret->type];
    if (!id_fits(&e, ret->type)) {
        diag_set(ret_diag, 0,
                 "id: want one whole number from 1 to 4294967295, and none in a hello");
        return MESSAGE_BAD_FIELD;
    }
    if (ret->type == MSG_DONE) {
        if (e.n_result > 1) {
            diag_set(ret_diag, 0, "result: given twice");
            return MESSAGE_BAD_FIELD;
        }
        ret->result = e.result;
    }
    if (ret->type == MSG_GENERATE) {
        ret->generate.class_ = CLASS_NORMAL;
    }
    void *payload = &ret->hello; /* every member of the union starts here */
    const bool ok = mp_next(&in.c, &map) &&
                    fields_read(&in, map.n, shape->rows, shape->n, payload, &seen) &&
                    (!shape->check || shape->check(&in, payload, seen));
    return ok ? MESSAGE_OK : MESSAGE_BAD_FIELD;
}

/* --- packing --- */

/* One frame of n rows of a type; id 0 is left out. */
static int put_rows(struct buf *out, uint32_t id, enum message_type type, size_t n, const void *obj,
                    const struct field_extra *x)
{
    const struct message_shape *shape = &message_shapes[type];
    struct packer p = packer_of(out);
    size_t mark;
    const int r = frame_begin(out, &mark);

    assert(n <= shape->n);
    if (r < 0) {
        return r;
    }
    pack_map(&p, 1u + (id != 0) + fields_count(shape->rows, n, obj, x));
    pack_z(&p, "type");
    pack_z(&p, shape->word);
    if (id != 0) {
        pack_z(&p, "id");
        pack_uint(&p, id);
    }
    fields_write(&p, shape->rows, n, obj, x);
    if (p.error < 0) {
        out->n = mark;
        return p.error;
    }
    return frame_end(out, mark, FRAME_BODY_MAX);
}

static int put(struct buf *out, uint32_t id, enum message_type type, const void *obj)
{
    static const struct field_extra none;

    return put_rows(out, id, type, message_shapes[type].n, obj, &none);
}

int message_put_hello(struct buf *out, const struct msg_hello *m, bool server)
{
    static const struct field_extra none;
    const size_t n = server ? message_shapes[MSG_HELLO].n : HELLO_CLIENT_ROWS;

    return put_rows(out, 0, MSG_HELLO, n, m, &none);
}

int message_put_generate(struct buf *out, uint32_t id, const struct msg_generate *m,
                         const int32_t *ids, size_t n_ids)
{
    const struct field_extra x = {.ids = ids, .n_ids = n_ids};

    if (n_ids > MSG_TOKENS_MAX) {
        return -E2BIG;
    }
    return put_rows(out, id, MSG_GENERATE, message_shapes[MSG_GENERATE].n, m, &x);
}

int message_put_cancel(struct buf *out, uint32_t id, const struct msg_cancel *m)
{
    return put(out, id, MSG_CANCEL, m);
}

int message_put_query(struct buf *out, uint32_t id, enum message_type type)
{
    assert(type == MSG_LIST || type == MSG_PS || type == MSG_STATUS || type == MSG_METRICS ||
           type == MSG_SESSIONS);
    return put(out, id, type, NULL);
}

int message_put_model(struct buf *out, uint32_t id, enum message_type type, struct strview model)
{
    const struct msg_model m = {.model = model};

    assert(type == MSG_LOAD || type == MSG_UNLOAD);
    return put(out, id, type, &m);
}

int message_put_session(struct buf *out, uint32_t id, enum message_type type,
                        struct strview session)
{
    const struct msg_session m = {.session = session};

    assert(type == MSG_SESSION || type == MSG_SESSION_DROP);
    return put(out, id, type, &m);
}

int message_put_accepted(struct buf *out, uint32_t id, const struct msg_accepted *m)
{
    return put(out, id, MSG_ACCEPTED, m);
}

int message_put_progress(struct buf *out, uint32_t id, const struct msg_progress *m)
{
    return put(out, id, MSG_PROGRESS, m);
}

int message_put_delta(struct buf *out, uint32_t id, const struct msg_delta *m, const int32_t *ids,
                      size_t n_ids, const struct msg_logprob *logprobs, size_t n_alternatives)
{
    const struct field_extra x = {ids, n_ids, logprobs, n_alternatives};

    if (n_ids > MSG_TOKENS_MAX) {
        return -E2BIG;
    }
    return put_rows(out, id, MSG_DELTA, message_shapes[MSG_DELTA].n, m, &x);
}

int message_put_done(struct buf *out, uint32_t id, const struct msg_done *m)
{
    static const struct field_extra none;
    const bool of_generate = m && m->finish_reason.n > 0;

    return put_rows(out, id, MSG_DONE, of_generate ? message_shapes[MSG_DONE].n : 0, m, &none);
}

int message_put_result(struct buf *out, uint32_t id, struct strview result)
{
    struct packer p = packer_of(out);
    size_t mark;
    const int r = frame_begin(out, &mark);

    if (r < 0) {
        return r;
    }
    pack_map(&p, 3);
    pack_z(&p, "type");
    pack_z(&p, message_shapes[MSG_DONE].word);
    pack_z(&p, "id");
    pack_uint(&p, id);
    pack_z(&p, "result");
    if (p.error == 0) {
        p.error = buf_append(out, result.data, result.n);
    }
    if (p.error < 0) {
        out->n = mark;
        return p.error;
    }
    return frame_end(out, mark, FRAME_BODY_MAX);
}

int message_put_error(struct buf *out, uint32_t id, const struct msg_error *m)
{
    const struct error_info *info = error_info(m->code);
    struct msg_error full = *m;

    full.name = strview_of(info->name);
    full.hint = strview_of(info->hint);
    full.number = info->number;
    full.retryable = info->retryable;
    return put(out, id, MSG_ERROR, &full);
}
