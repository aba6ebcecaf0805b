/* model_mark: FNV-1a over whatever the ids of a text, or the tokens of an answer, depend on. It tells
 * files and settings of one administrator apart; it defends nothing. */
#include "daemon/broker/model_mark.h"

#include <string.h>

#include "daemon/broker/models.h"

static uint64_t add(uint64_t h, const void *data, size_t n)
{
    const uint8_t *p = data;

    for (size_t i = 0; i < n; i++) {
        h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    }
    return h;
}

static uint64_t add_text(uint64_t h, const char *z)
{
    return add(h, z ? z : "", z ? strlen(z) + 1 : 1);
}

void model_mark_set(struct model *m, const struct model_options *o)
{
    static const struct model_options none;
    uint64_t h = UINT64_C(0xcbf29ce484222325);

    o = o ? o : &none;
    h = add_text(h, ONEBIT_VERSION);
    h = add_text(h, m->name);
    h = add(h, &m->mark, sizeof(m->mark));
    h = add_text(h, o->chat_template);
    m->text_mark = h;
    h = add_text(h, o->kv);
    h = add(h, &o->n_ctx, sizeof(o->n_ctx));
    h = add(h, &o->has_temperature, sizeof(o->has_temperature));
    h = add(h, &o->temperature, sizeof(o->temperature));
    m->answer_mark = h;
}
