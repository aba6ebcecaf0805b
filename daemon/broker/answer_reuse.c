/* answer_reuse: between a request and the cache of answers.
 *
 * A key is the identity's salt and the request, packed anew without what changes nothing: so the
 * order of keys, the deadline and the class do not matter, and nobody finds what another identity
 * has asked. */
#include "daemon/broker/answer_reuse.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/broker/answer_cache.h"
#include "daemon/broker/broker.h"
#include "daemon/broker/conn.h"
#include "daemon/broker/identity.h"
#include "daemon/broker/models.h"
#include "daemon/broker/request.h"
#include "ipc/frame.h"

#define TEXT_MAX (512u << 10) /* bytes of text, and of ids: one delta brings all */
#define IDS_MAX 65536u

struct answer_reuse {
    struct buf key;  /* owned: the salt, then the request */
    struct buf text; /* owned: the answer so far */
    bool broken;     /* not all of the text is here */
};

void answer_reuse_free(struct answer_reuse *a)
{
    if (a) {
        buf_deinit(&a->key);
        buf_deinit(&a->text);
        free(a);
    }
}

/* Can it have but one answer? */
static bool decided(const struct request *r, const struct msg_generate *g)
{
    const struct model_options *o = config_model(&r->broker->config, strview_of(r->model->name));

    if (g->has_seed) {
        return true;
    }
    return g->has_temperature ? g->temperature == 0
                              : o && o->has_temperature && o->temperature == 0;
}

static int pack_key(struct buf *key, const struct request *r, const struct msg_generate *g)
{
    struct msg_generate bare = *g;
    int32_t *ids = NULL;

    bare.model = bare.quantization = bare.session = (struct strview){0};
    bare.class_ = CLASS_NORMAL;
    bare.has_deadline = bare.has_session = bare.no_cache = false;
    if (g->kind == PROMPT_IDS) {
        ids = malloc((g->ids.n ? g->ids.n : 1) * sizeof(*ids));
        if (!ids) {
            return -ENOMEM;
        }
        msg_ids_copy(&g->ids, ids);
    }
    int e = buf_append(key, r->conn->identity->salt, SEAM_SALT);
    if (e == 0) {
        e = message_put_generate(key, 1, &bare, ids, ids ? g->ids.n : 0);
    }
    free(ids);
    return e;
}

/* What is noted of a request whose answer may be kept; NULL: it may not, or there is no memory. */
static struct answer_reuse *note(const struct request *r)
{
    if (r->broker->answers.bytes_max == 0 || r->kind != REQUEST_GENERATE || r->turn ||
        r->n_logprobs > 0) {
        return NULL;
    }
    struct message *m = malloc(sizeof(*m)); /* some 9 KiB */
    struct answer_reuse *a = calloc(1, sizeof(*a));
    if (!m || !a || message_read(m, r->body, r->n_body, NULL) != MESSAGE_OK ||
        m->generate.no_cache || m->generate.trim || !decided(r, &m->generate)) {
        goto none;
    }
    buf_init(&a->key, SEAM_SALT + FRAME_HEADER + FRAME_BODY_MAX);
    buf_init(&a->text, TEXT_MAX);
    if (pack_key(&a->key, r, &m->generate) < 0) {
        goto none;
    }
    free(m);
    return a;
none:
    free(m);
    answer_reuse_free(a);
    return NULL;
}

static struct answer_key key_of(const struct request *r)
{
    const struct buf *key = &r->reuse->key;

    return (struct answer_key){.bytes = {.data = (const char *)key->data, .n = key->n},
                               .model = strview_of(r->model->name),
                               .mark = r->model->answer_mark};
}

static int put_answer(struct buf *out, const struct request *r, const struct kept_answer *kept)
{
    const struct model_facts *f = &r->model->facts;
    const struct msg_accepted accepted = {.global = r->job.seq,
                                          .model = strview_of(r->model->name)};
    const struct msg_delta delta = {.text = kept->text};
    const struct msg_done done = {
        .finish_reason = kept->finish_reason,
        .prompt_tokens = kept->prompt_tokens,
        .cached_tokens = kept->prompt_tokens,
        .answer_tokens = (uint32_t)kept->n_ids,
        .seed = kept->seed,
        .cached_answer = true,
        .model = strview_of(r->model->name),
        .formats = strview_of(f->formats),
        .quantization = strview_of(f->quantization),
        .kv = strview_of(f->kv),
        .cpu = strview_of(r->broker->engine.cpu),
    };
    int e = message_put_accepted(out, r->id, &accepted);

    if (e == 0 && (kept->n_ids > 0 || kept->text.n > 0)) {
        e = message_put_delta(out, r->id, &delta, kept->ids, kept->n_ids, NULL, 0);
    }
    return e == 0 ? message_put_done(out, r->id, &done) : e;
}

bool answer_reuse_serve(struct request *r)
{
    struct kept_answer kept;
    struct buf out;

    r->reuse = note(r);
    if (!r->reuse) {
        return false;
    }
    if (r->model->state != MODEL_LOADED) { /* what it is now is not known yet */
        r->broker->answers.misses++;
        return false;
    }
    const struct answer_key key = key_of(r);
    if (!answer_cache_find(&r->broker->answers, &key, &kept)) {
        return false;
    }
    buf_init(&out, 3 * (FRAME_BODY_MAX + FRAME_HEADER));
    if (put_answer(&out, r, &kept) < 0) {
        buf_deinit(&out);
        return false; /* it is computed instead */
    }
    r->kept = true;
    r->broker->n_done++;
    request_done(r, &out);
    return true;
}

void answer_reuse_text(struct request *r, struct strview text)
{
    if (r->reuse && buf_append(&r->reuse->text, text.data, text.n) < 0) {
        r->reuse->broken = true;
    }
}

void answer_reuse_keep(struct request *r, const struct seam_finished *f)
{
    if (!r->reuse || r->reuse->broken || r->answer.n_ids > IDS_MAX) {
        return;
    }
    const struct kept_answer kept = {
        .text = {.data = (const char *)r->reuse->text.data, .n = r->reuse->text.n},
        .finish_reason = f->reason,
        .ids = r->answer.ids,
        .n_ids = r->answer.n_ids,
        .prompt_tokens = f->prompt_tokens,
        .seed = r->seed,
    };
    const struct answer_key key = key_of(r);
    answer_cache_put(&r->broker->answers, &key, &kept);
}
