/* model_mark: FNV-1a over whatever the ids of a text, or the tokens of an answer, depend on. It
 * tells files and settings of one administrator apart; it defends nothing. */
#include "daemon/broker/model_mark.h"

#include <string.h>

#include "base/fnv.h"
#include "daemon/broker/models.h"

static uint64_t add_text(uint64_t h, const char *z)
{
    return fnv_add(h, z ? z : "", z ? strlen(z) + 1 : 1);
}

void model_mark_set(struct model *m, const struct model_options *o)
{
    static const struct model_options none;
    uint64_t h = FNV_START;

    o = o ? o : &none;
    h = add_text(h, ONEBIT_VERSION);
    h = add_text(h, m->name);
    h = fnv_add(h, &m->mark, sizeof(m->mark));
    h = add_text(h, o->chat_template);
    m->text_mark = h;
    h = add_text(h, o->kv);
    h = fnv_add(h, &o->n_ctx, sizeof(o->n_ctx));
    h = fnv_add(h, &o->has_temperature, sizeof(o->has_temperature));
    h = fnv_add(h, &o->temperature, sizeof(o->temperature));
    m->answer_mark = h;
}
