/* Everything a stranger's bytes meet in this room: the frame reader, both message readers, and
 * mp.c against msgpack-c. The input is tried as a stream, cut at every size its first byte says,
 * and whole as one body. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/frame.h"
#include "ipc/message.h"
#include "ipc/mp.h"
#include "ipc/seam.h"
#include "tests/fuzz/mp_differential.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define BODY_MAX 65536u

static void must(bool truth)
{
    if (!truth) {
        abort();
    }
}

/* Copies of exactly the promised size: a row or an id too many is a write past the end. */
static void take_ids(const struct msg_ids *ids)
{
    int32_t *copy = malloc(ids->n ? ids->n * sizeof(*copy) : 1);

    must(copy != NULL);
    msg_ids_copy(ids, copy);
    for (uint32_t i = 0; i < ids->n; i++) {
        must(copy[i] >= 0);
    }
    free(copy);
}

static void take_logprobs(struct cursor at, uint32_t rows)
{
    struct msg_logprob row[MSG_LOGPROBS_ROW_MAX];

    for (uint32_t i = 0; i < rows; i++) {
        const uint32_t n = msg_logprobs_next(&at, row);
        must(n >= 1 && n <= MSG_LOGPROBS_ROW_MAX);
    }
}

/* What was read is packed again, and must be read as the same. */
static void repack_generate(const struct message *m)
{
    static struct message again;
    struct buf out;
    int32_t *ids = malloc(m->generate.ids.n ? m->generate.ids.n * sizeof(*ids) : 1);

    must(ids != NULL);
    msg_ids_copy(&m->generate.ids, ids);
    buf_init(&out, 4 * BODY_MAX);
    must(message_put_generate(&out, m->id, &m->generate, ids, m->generate.ids.n) == 0);
    must(message_read(&again, out.data + FRAME_HEADER, out.n - FRAME_HEADER, NULL) == MESSAGE_OK);
    must(again.id == m->id && again.generate.kind == m->generate.kind &&
         again.generate.n_messages == m->generate.n_messages &&
         again.generate.ids.n == m->generate.ids.n && again.generate.seed == m->generate.seed &&
         again.generate.n_stops == m->generate.n_stops &&
         memcmp(&again.generate.temperature, &m->generate.temperature, sizeof(float)) == 0 &&
         strview_eq(again.generate.prompt, m->generate.prompt));
    buf_deinit(&out);
    free(ids);
}

static void read_body(const uint8_t *body, size_t n)
{
    static struct message m;
    static struct seam_message s;
    struct diag diag = {0};

    const int r = message_read(&m, body, n, &diag);
    must(r == MESSAGE_OK ? !diag.set : diag.set);
    must(r == MESSAGE_MALFORMED || mp_valid(body, n));
    if (r == MESSAGE_OK && m.type == MSG_GENERATE) {
        repack_generate(&m);
    }
    if (r == MESSAGE_OK && m.type == MSG_DELTA) {
        take_ids(&m.delta.ids);
        take_logprobs(m.delta.logprobs, m.delta.n_logprobs);
    }
    diag = (struct diag){0};
    const int q = seam_read(&s, body, n, &diag);
    must(q == SEAM_OK ? !diag.set : diag.set);
    if (q == SEAM_OK && s.type == SEAM_START) {
        take_ids(&s.start.resume);
        const struct strview req = s.start.request;
        must(message_read(&m, (const uint8_t *)req.data, req.n, NULL) <= MESSAGE_UNKNOWN);
    }
    if (q == SEAM_OK && s.type == SEAM_TOKENS) {
        take_ids(&s.tokens.ids);
        take_logprobs(s.tokens.logprobs, s.tokens.n_logprobs);
    }
    must(mp_differential(body, n) != MP_DIFFERENT);
}

static void read_stream(const uint8_t *data, size_t n, size_t piece)
{
    struct frame_reader in;
    const uint8_t *body = NULL;
    size_t body_n = 0, at = 0;
    int r = FRAME_MORE;

    frame_reader_init(&in, BODY_MAX);
    while (at < n && r == FRAME_MORE) {
        const size_t step = n - at < piece ? n - at : piece;
        must(frame_feed(&in, data + at, step) == 0);
        at += step;
        while ((r = frame_next(&in, &body, &body_n)) == FRAME_OK) {
            must(body_n >= 1 && body_n <= BODY_MAX);
            read_body(body, body_n);
        }
        must(in.in.n <= FRAME_HEADER + BODY_MAX + 65536);
    }
    frame_reader_deinit(&in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n == 0) {
        return 0;
    }
    read_stream(data, n, data[0] < 128 ? 1 + (size_t)data[0] : 65536);
    if (n <= BODY_MAX) {
        read_body(data, n);
    }
    return 0;
}
