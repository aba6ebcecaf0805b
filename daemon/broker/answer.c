/* answer: two positions in the same answer, the client's and the engine's. */
#include "daemon/broker/answer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/wipe.h"

void answer_deinit(struct answer *a)
{
    wipe_free(a->ids, a->room * sizeof(*a->ids));
    *a = (struct answer){0};
}

void answer_restart(struct answer *a)
{
    a->seen_ids = 0;
    a->seen_bytes = 0;
}

static int grow(struct answer *a, size_t more)
{
    size_t room = a->room ? a->room : 64;

    if (more > MSG_TOKENS_MAX - a->n_ids) {
        return ANSWER_OUT_OF_ORDER; /* no answer is that long */
    }
    while (room < a->n_ids + more) {
        room *= 2;
    }
    if (room > a->room) {
        int32_t *ids = calloc(room, sizeof(*ids));
        if (!ids) {
            return -ENOMEM;
        }
        if (a->n_ids > 0) {
            memcpy(ids, a->ids, a->n_ids * sizeof(*ids));
        }
        wipe_free(a->ids, a->room * sizeof(*ids));
        a->ids = ids;
        a->room = room;
    }
    return ANSWER_OK;
}

int answer_take(struct answer *a, uint32_t n0, const int32_t *ids, size_t n, size_t text_bytes,
                struct answer_news *ret_news)
{
    struct answer_news news = {0};

    if (n0 != a->seen_ids) {
        return ANSWER_OUT_OF_ORDER;
    }
    if (a->seen_ids < a->n_ids) {
        const size_t known = a->n_ids - a->seen_ids;
        news.skip_ids = n < known ? n : known;
    }
    if (a->seen_bytes < a->bytes) {
        const uint64_t known = a->bytes - a->seen_bytes;
        news.skip_bytes = text_bytes < known ? text_bytes : (size_t)known;
    }
    if (news.skip_ids > 0 && memcmp(a->ids + a->seen_ids, ids, news.skip_ids * sizeof(*ids)) != 0) {
        return ANSWER_DIFFERS;
    }
    const size_t more = n - news.skip_ids;
    if (more > 0) {
        const int r = grow(a, more);
        if (r != 0) {
            return r;
        }
        memcpy(a->ids + a->n_ids, ids + news.skip_ids, more * sizeof(*ids));
        a->n_ids += more;
    }
    a->seen_ids += n;
    a->seen_bytes += text_bytes;
    a->bytes += text_bytes - news.skip_bytes;
    *ret_news = news;
    return ANSWER_OK;
}
