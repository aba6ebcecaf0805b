/* packer: the tables of a packed vocabulary. Open addressing with a bounded probe, so that a file
 * made to collide is refused instead of being slow. */
#include "engine/text/packer.h"

#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "engine/gguf.h"
#include "engine/text/letters.h"

static int too_many_collisions(struct packer *p, const struct gguf_key *key)
{
    diag_set(p->d, key->offset, "the entries collide as no real vocabulary's do");
    return MODEL_MALFORMED;
}

int packer_hash_texts(struct packer *p)
{
    const uint32_t mask = p->h.n_text_slots - 1;

    for (uint32_t id = 0; id < p->h.n_tokens; id++) {
        if (!p->plain[id]) {
            continue;
        }
        const struct strview text = packer_text(p, id);
        uint32_t at = (uint32_t)hash_bytes(text.data, text.n) & mask, probes = 0;
        while (p->text_slots[at] && !strview_eq(packer_text(p, p->text_slots[at] - 1), text)) {
            if (++probes >= VOCAB_PROBES_MAX) {
                return too_many_collisions(p, p->tokens);
            }
            at = (at + 1) & mask;
        }
        if (!p->text_slots[at]) {
            p->text_slots[at] = id + 1;
        }
    }
    return MODEL_OK;
}

int32_t packer_find_text(const struct packer *p, const char *text, size_t n)
{
    const uint32_t mask = p->h.n_text_slots - 1;
    uint32_t at = (uint32_t)hash_bytes(text, n) & mask;

    for (uint32_t probes = 0; probes < VOCAB_PROBES_MAX && p->text_slots[at]; probes++) {
        const uint32_t id = p->text_slots[at] - 1;
        if (strview_eq(packer_text(p, id), (struct strview){text, n})) {
            return (int32_t)id;
        }
        at = (at + 1) & mask;
    }
    return -1;
}

/* "left right" in letters to three ids; false when the line cannot be used. */
static bool read_merge(const struct packer *p, struct strview line, struct vocab_merge *ret)
{
    char bytes[2 * TEXT_PIECE_MAX];
    size_t n_left, n_right;
    const char *space = line.n > 1 ? memchr(line.data + 1, ' ', line.n - 1) : NULL;

    if (!space || line.n > sizeof(bytes)) {
        return false;
    }
    const struct strview left = {line.data, (size_t)(space - line.data)};
    const struct strview right = {space + 1, line.n - left.n - 1};
    if (!letters_decode(left, bytes, &n_left) || !letters_decode(right, bytes + n_left, &n_right) ||
        n_right == 0) {
        return false;
    }
    const int32_t l = packer_find_text(p, bytes, n_left),
                  r = packer_find_text(p, bytes + n_left, n_right);
    const int32_t both = packer_find_text(p, bytes, n_left + n_right);
    if (l < 0 || r < 0 || both < 0) {
        return false;
    }
    *ret = (struct vocab_merge){(uint32_t)l, (uint32_t)r, (uint32_t)both};
    return true;
}

int packer_hash_merges(struct packer *p)
{
    struct gguf_str_iter it = gguf_strings(p->merge_lines);
    const uint32_t mask = p->h.n_merge_slots - 1;
    struct strview line;

    while (gguf_str_next(&it, &line)) {
        struct vocab_merge m;
        uint32_t probes = 0;
        if (!read_merge(p, line, &m)) {
            continue;
        }
        uint32_t at = (uint32_t)hash_pair(m.left, m.right) & mask;
        for (; p->merge_slots[at]; at = (at + 1) & mask) {
            const struct vocab_merge *o = &p->merges[p->merge_slots[at] - 1];
            if (o->left == m.left && o->right == m.right) {
                break;
            }
            if (++probes >= VOCAB_PROBES_MAX) {
                return too_many_collisions(p, p->merge_lines);
            }
        }
        if (!p->merge_slots[at]) {
            p->merges[p->h.n_merges++] = m;
            p->merge_slots[at] = p->h.n_merges;
        }
    }
    return MODEL_OK;
}

static int by_text(const void *a, const void *b, void *arg)
{
    const struct packer *p = arg;
    const uint32_t ia = *(const uint32_t *)a, ib = *(const uint32_t *)b;
    const struct strview x = packer_text(p, ia), y = packer_text(p, ib);
    const int r = memcmp(x.data, y.data, x.n < y.n ? x.n : y.n);

    if (r != 0 || x.n != y.n) {
        return r != 0 ? r : x.n < y.n ? -1 : 1;
    }
    return ia < ib ? -1 : ia > ib;
}

void packer_list_specials(struct packer *p)
{
    for (uint32_t id = 0; id < p->h.n_tokens; id++) {
        const uint8_t type = p->types[id];
        if ((type == TOKEN_CONTROL || type == TOKEN_UNKNOWN || type == TOKEN_USER) &&
            packer_text(p, id).n > 0) {
            p->specials[p->h.n_specials++] = id;
        }
    }
    qsort_r(p->specials, p->h.n_specials, sizeof(*p->specials), by_text, p);
}
