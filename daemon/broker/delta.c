/* delta: ids come copied, in the broker's scratch; log-probabilities are read anew for each
 * frame. */
#include "daemon/broker/delta.h"

#include <stdlib.h>

#include "daemon/broker/answer.h"
#include "daemon/broker/broker.h"
#include "daemon/broker/request.h"
#include "ipc/mp.h"

/* The rows of log-probabilities from `skip` on; NULL: none or no memory. Free with free(). */
static struct msg_logprob *logprob_rows(const struct seam_tokens *t, size_t skip,
                                        size_t *ret_alternatives)
{
    struct cursor c = t->logprobs;
    struct mp_value row, pair, id, value;
    struct msg_logprob *rows = NULL;
    size_t n = 0, width = 0;

    for (size_t i = 0; i < t->n_logprobs; i++) {
        if (!mp_next(&c, &row) || row.type != MP_ARRAY || row.n == 0 ||
            row.n > MSG_LOGPROBS_MAX + 1 || (width && row.n != width)) {
            goto bad;
        }
        width = row.n;
        if (!rows && !(rows = calloc(t->n_logprobs, width * sizeof(*rows)))) {
            goto bad;
        }
        for (size_t k = 0; k < width; k++) {
            if (!mp_next(&c, &pair) || pair.type != MP_ARRAY || pair.n != 2 || !mp_next(&c, &id) ||
                id.type != MP_INT || !mp_next(&c, &value) ||
                (value.type != MP_FLOAT && value.type != MP_INT)) {
                goto bad;
            }
            if (i >= skip) {
                rows[n++] = (struct msg_logprob){.id = (int32_t)id.u, .logprob = (float)value.f};
            }
        }
    }
    *ret_alternatives = width;
    return rows;
bad:
    free(rows);
    return NULL;
}

int delta_put(struct buf *out, const struct request *r, const struct seam_tokens *t,
              const struct answer_news *news)
{
    const struct msg_delta d = {
        .n0 = t->n0 + (uint32_t)news->skip_ids,
        .text = {.data = t->text.n ? t->text.data + news->skip_bytes : NULL,
                 .n = t->text.n - news->skip_bytes},
    };
    const size_t n_ids = t->ids.n - news->skip_ids;
    struct msg_logprob *rows = NULL;
    size_t width = 0;

    if (t->n_logprobs == t->ids.n && t->n_logprobs > 0 && n_ids > 0) {
        rows = logprob_rows(t, news->skip_ids, &width);
    }
    const int e = message_put_delta(out, r->id, &d, r->broker->ids + news->skip_ids, n_ids, rows,
                                    rows ? width : 0);
    free(rows);
    return e;
}
