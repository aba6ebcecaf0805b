/* A session's file: whatever the bytes, it is refused, or it is a session within its bounds that is
 * written as the very same bytes again. The input is tried as it is, and with its checksum mended,
 * or hardly any would come past that. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/broker/session.h"
#include "daemon/broker/session_file.h"
#include "ipc/mp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define SUM_BYTES 8u

static void must(bool truth)
{
    if (!truth) {
        abort();
    }
}

static void look_at(const struct session *s)
{
    size_t n_text = 0;

    must(session_name_valid(strview_of(s->name)) && model_name_valid(strview_of(s->pins.model)));
    must(s->n_messages >= 1 && s->n_messages <= SESSION_MESSAGES_MAX);
    for (size_t i = 0; i < s->n_messages; i++) {
        must(mp_utf8_valid(s->messages[i].role) && mp_utf8_valid(s->messages[i].content));
        n_text += s->messages[i].role.n + s->messages[i].content.n;
    }
    must(n_text == s->n_text && n_text <= SESSION_TEXT_MAX);
    must(s->n_ids <= SESSION_IDS_MAX && s->n_covered < MSG_MESSAGES_MAX &&
         s->n_covered <= s->n_messages && (s->n_ids == 0) == (s->n_covered == 0));
    for (size_t i = 0; i < s->n_ids; i++) {
        must(s->ids[i] >= 0);
    }
}

static void read_file(const uint8_t *data, size_t n)
{
    struct session *s = NULL;
    struct diag diag = {0};
    struct buf again;

    const int r = session_file_read(&s, data, n, &diag);
    must(r == SESSION_FILE_OK ? s && !diag.set : !s && diag.set);
    if (r != SESSION_FILE_OK) {
        return;
    }
    look_at(s);
    buf_init(&again, SESSION_FILE_MAX);
    must(session_file_write(&again, s) == 0 && session_file_seal(&again) == 0);
    must(again.n == n && memcmp(again.data, data, n) == 0);
    buf_deinit(&again);
    session_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct buf mended;

    read_file(data, n);
    if (n < SUM_BYTES || n > 1u << 20) {
        return 0;
    }
    buf_init(&mended, SESSION_FILE_MAX);
    must(buf_append(&mended, data, n - SUM_BYTES) == 0 && session_file_seal(&mended) == 0);
    read_file(mended.data, mended.n);
    buf_deinit(&mended);
    return 0;
}
