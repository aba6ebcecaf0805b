/* vocab: the packed vocabulary, checked once and then read in place.
 *
 * The check at opening makes every later access safe without asking again: sections lie inside the
 * bytes, offsets ascend, every id in a table is a token. What the tables say may still be wrong in
 * a damaged file; it then gives wrong ids, never a wrong address. */
#include "engine/text/vocab.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/filemap.h"
#include "engine/engine.h"
#include "engine/gguf.h"
#include "engine/text/pretok.h"
#include "engine/text/vocab_view.h"

#define PACKED_BYTES_MAX ((size_t)1 << 31)
#define SPACE_MARK "\xe2\x96\x81" /* U+2581, how SentencePiece writes a space */

/* ---- opening ---- */

struct opener {
    const uint8_t *data; /* borrowed */
    size_t n;
    struct diag *d; /* borrowed; may be NULL */
    bool bad;
};

static void complain(struct opener *o, uint64_t at, const char *what)
{
    diag_set(o->d, at, "packed vocabulary: %s", what);
    o->bad = true;
}

static const void *section(struct opener *o, const struct vocab_section *s, uint64_t count,
                           uint64_t each, const char *what)
{
    if (s->at % 8 != 0 || s->at < sizeof(struct vocab_header) || s->at > o->n ||
        s->bytes > o->n - s->at || s->bytes != count * each) {
        complain(o, s->at, what);
        return NULL;
    }
    return o->data + s->at;
}

static bool power_of_two(uint32_t n)
{
    return n != 0 && (n & (n - 1)) == 0;
}

static void check_header(struct opener *o, const struct vocab_header *h)
{
    const bool kind_ok = (h->kind == VOCAB_BPE && h->pre > PRE_NONE && h->pre < PRE_COUNT) ||
                         (h->kind == VOCAB_SPM && h->pre == PRE_NONE);
    const int32_t ids[] = {h->bos, h->eos, h->unk};

    if (h->magic != VOCAB_MAGIC || h->version != VOCAB_VERSION || h->bytes > o->n ||
        h->bytes < sizeof(*h)) {
        complain(o, 0, "not one, or of another version");
        return;
    }
    if (!kind_ok || h->flags & ~(uint32_t)VOCAB_FLAGS_ALL || h->n_tokens == 0 ||
        h->n_tokens > MODEL_VOCAB_MAX || h->n_merges > VOCAB_MERGES_MAX ||
        h->n_specials > h->n_tokens || h->n_ends > VOCAB_ENDS_MAX ||
        h->text_bytes_max > TEXT_PIECE_MAX || !power_of_two(h->n_text_slots) ||
        !power_of_two(h->n_merge_slots)) {
        complain(o, 0, "its header is damaged");
    }
    for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
        if (ids[i] < -1 || ids[i] >= (int32_t)h->n_tokens) {
            complain(o, 0, "a special id is out of range");
        }
    }
    for (size_t i = 0; i < 256; i++) {
        if (h->byte_ids[i] < -1 || h->byte_ids[i] >= (int32_t)h->n_tokens) {
            complain(o, 0, "a byte's id is out of range");
        }
    }
}

static void find_sections(struct opener *o, struct vocab *v)
{
    const struct vocab_header *h = v->h;
    const uint64_t n = h->n_tokens;

    v->offsets = section(o, &h->offsets, n + 1, 4, "offsets");
    v->types = section(o, &h->types, n, 1, "types");
    v->scores = section(o, &h->scores, h->kind == VOCAB_SPM ? n : 0, 4, "scores");
    v->text_slots = section(o, &h->text_slots, h->n_text_slots, 4, "text table");
    v->merges = section(o, &h->merges, h->n_merges, sizeof(*v->merges), "merges");
    v->merge_slots = section(o, &h->merge_slots, h->n_merge_slots, 4, "merge table");
    v->specials = section(o, &h->specials, h->n_specials, 4, "specials");
    v->ends = section(o, &h->ends, h->n_ends, 4, "ends");
    v->blob = section(o, &h->blob, h->blob.bytes, 1, "texts");
}

static bool all_below(const uint32_t *ids, uint64_t n, uint64_t limit)
{
    for (uint64_t i = 0; i < n; i++) {
        if (ids[i] >= limit) {
            return false;
        }
    }
    return true;
}

static void check_sections(struct opener *o, const struct vocab *v)
{
    const struct vocab_header *h = v->h;

    for (uint32_t i = 0; i < h->n_tokens; i++) {
        if (v->offsets[i] > v->offsets[i + 1] ||
            v->offsets[i + 1] - v->offsets[i] > h->text_bytes_max) {
            complain(o, h->offsets.at + (uint64_t)i * 4, "a text's bounds are wrong");
            break;
        }
    }
    if (v->offsets[h->n_tokens] > h->blob.bytes) {
        complain(o, h->offsets.at, "the texts pass their section");
    }
    if (!all_below(v->text_slots, h->n_text_slots, (uint64_t)h->n_tokens + 1) ||
        !all_below(v->merge_slots, h->n_merge_slots, (uint64_t)h->n_merges + 1) ||
        !all_below(v->specials, h->n_specials, h->n_tokens) ||
        !all_below(v->ends, h->n_ends, h->n_tokens) ||
        !all_below((const uint32_t *)v->merges, (uint64_t)h->n_merges * 3, h->n_tokens)) {
        complain(o, 0, "a table names what is not there");
    }
}

static void mark_first_bytes(struct vocab *v)
{
    for (uint32_t i = 0; i < v->h->n_specials; i++) {
        const uint32_t id = v->specials[i];
        const struct strview text = vocab_text(v, id);
        if (text.n == 0) {
            continue;
        }
        const uint8_t b = (uint8_t)text.data[0];
        v->special_first[b / 64] |= UINT64_C(1) << b % 64;
        if (v->types[id] == TOKEN_USER) {
            v->user_first[b / 64] |= UINT64_C(1) << b % 64;
        }
    }
}

int vocab_open_view(struct vocab **ret, const uint8_t *data, size_t n, struct diag *ret_diag)
{
    struct opener o = {.data = data, .n = n, .d = ret_diag};
    int r = MODEL_MALFORMED;

    if (n < sizeof(struct vocab_header) || (uintptr_t)data % 8 != 0) {
        complain(&o, 0, "too short, or not aligned");
        return MODEL_MALFORMED;
    }
    struct vocab *v = calloc(1, sizeof(*v));
    if (!v) {
        return -ENOMEM;
    }
    v->h = (const struct vocab_header *)data;
    check_header(&o, v->h);
    if (o.bad) {
        goto out;
    }
    o.n = (size_t)v->h->bytes;
    find_sections(&o, v);
    if (!o.bad) {
        check_sections(&o, v);
    }
    if (o.bad) {
        goto out;
    }
    mark_first_bytes(v);
    r = v->h->kind == VOCAB_BPE ? pretok_compile((enum vocab_pre)v->h->pre, &v->pretok) : 0;
    if (r == 0) {
        *ret = v;
        v = NULL;
    }
out:
    vocab_free(v);
    return r;
}

int vocab_open_gguf(struct vocab **ret, int fd, struct diag *ret_diag)
{
    struct filemap file;
    struct gguf g;
    struct buf packed;
    struct vocab *v = NULL;
    int r = filemap_open(&file, fd);

    if (r < 0) {
        return r;
    }
    r = gguf_parse(&g, file.data, file.size, ret_diag);
    if (r != GGUF_OK) {
        filemap_close(&file);
        return r < 0 ? r : MODEL_MALFORMED;
    }
    buf_init(&packed, PACKED_BYTES_MAX);
    r = vocab_pack(&g, &packed, ret_diag);
    if (r == MODEL_OK) {
        r = vocab_open_view(&v, packed.data, packed.n, ret_diag);
    }
    if (r == MODEL_OK) {
        v->own = packed;
        packed = (struct buf){0};
        *ret = v;
    }
    buf_deinit(&packed);
    gguf_deinit(&g);
    filemap_close(&file);
    return r;
}

void vocab_free(struct vocab *vocab)
{
    if (!vocab) {
        return;
    }
    pretok_free(vocab->pretok);
    buf_deinit(&vocab->own);
    free(vocab);
}

/* ---- looking things up ---- */

int32_t vocab_find(const struct vocab *v, const char *text, size_t n)
{
    const uint32_t mask = v->h->n_text_slots - 1;

    if (n == 0 || n > v->h->text_bytes_max) {
        return -1;
    }
    uint32_t at = (uint32_t)hash_bytes(text, n) & mask;
    for (uint32_t probes = 0; probes < VOCAB_PROBES_MAX && v->text_slots[at]; probes++) {
        const uint32_t id = v->text_slots[at] - 1;
        if (strview_eq(vocab_text(v, id), (struct strview){text, n})) {
            return (int32_t)id;
        }
        at = (at + 1) & mask;
    }
    return -1;
}

bool vocab_find_merge(const struct vocab *v, uint32_t left, uint32_t right, uint32_t *ret_rank,
                      uint32_t *ret_id)
{
    const uint32_t mask = v->h->n_merge_slots - 1;
    uint32_t at = (uint32_t)hash_pair(left, right) & mask;

    for (uint32_t probes = 0; probes < VOCAB_PROBES_MAX && v->merge_slots[at]; probes++) {
        const uint32_t rank = v->merge_slots[at] - 1;
        const struct vocab_merge *m = &v->merges[rank];
        if (m->left == left && m->right == right) {
            *ret_rank = rank;
            *ret_id = m->result;
            return true;
        }
        at = (at + 1) & mask;
    }
    return false;
}

uint32_t vocab_size(const struct vocab *vocab)
{
    return vocab->h->n_tokens;
}

int32_t vocab_bos(const struct vocab *vocab)
{
    return vocab->h->bos;
}

bool vocab_adds_bos(const struct vocab *vocab)
{
    return vocab->h->flags & VOCAB_ADD_BOS && vocab->h->bos >= 0;
}

bool vocab_is_end(const struct vocab *vocab, int32_t id)
{
    for (uint32_t i = 0; id >= 0 && i < vocab->h->n_ends; i++) {
        if (vocab->ends[i] == (uint32_t)id) {
            return true;
        }
    }
    return false;
}

/* ---- ids to bytes ---- */

/* Copies text with every space mark turned into the space it stands for. */
static size_t copy_marked(struct strview text, char *ret)
{
    size_t n = 0;

    for (size_t i = 0; i < text.n;) {
        if (text.n - i >= 3 && memcmp(text.data + i, SPACE_MARK, 3) == 0) {
            ret[n++] = ' ';
            i += 3;
        } else {
            ret[n++] = text.data[i++];
        }
    }
    return n;
}

size_t vocab_piece(const struct vocab *vocab, int32_t id, bool special, char *ret)
{
    if (!vocab_id_ok(vocab, id)) {
        return 0;
    }
    const struct strview text = vocab_text(vocab, (uint32_t)id);
    const uint8_t type = vocab->types[id];
    if (!special && (type == TOKEN_CONTROL || type == TOKEN_UNKNOWN)) {
        return 0;
    }
    if (vocab->h->kind == VOCAB_SPM && (type == TOKEN_NORMAL || type == TOKEN_UNUSED)) {
        return copy_marked(text, ret);
    }
    if (text.n > 0) {
        memcpy(ret, text.data, text.n);
    }
    return text.n;
}

/* Is the space before text[i] one that tidying drops? */
static bool drops_before(const char *text, size_t i, size_t n)
{
    if (i == n) {
        return false;
    }
    if (text[i] != '\'') {
        return memchr("?!.,", text[i], 4) != NULL;
    }
    if (i + 1 < n && (text[i + 1] == 's' || text[i + 1] == 'm')) {
        return true;
    }
    return i + 2 < n && (text[i + 1] == 'r' || text[i + 1] == 'v') && text[i + 2] == 'e';
}

/* Drops the spaces before punctuation and around a lone apostrophe, in three passes that see each
 * other's results, as the tokenizers that do this have it. Returns the new length. */
static size_t tidy(char *text, size_t n)
{
    for (int pass = 0; pass < 3; pass++) {
        size_t to = 0;
        for (size_t i = 0; i < n; i++) {
            const char c = text[i];
            const bool lone = c == ' ' && i + 2 < n && text[i + 1] == '\'' && text[i + 2] == ' ';
            const bool mark = c == ' ' && i + 1 < n && text[i + 1] != '\'';
            if (pass == 1 && lone) {
                text[to++] = '\'';
                i += 2;
            } else if (!(pass == 0 && mark && drops_before(text, i + 1, n)) &&
                       !(pass == 2 && c == ' ' && !mark && drops_before(text, i + 1, n))) {
                text[to++] = c;
            }
        }
        n = to;
    }
    return n;
}

int vocab_detokenize(const struct vocab *vocab, const int32_t *ids, size_t n, char **ret,
                     size_t *ret_n)
{
    char piece[TEXT_PIECE_MAX];
    struct buf out;

    buf_init(&out, SIZE_MAX);
    int r = buf_reserve(&out, 1); /* a result even for no text */
    for (size_t i = 0; r == 0 && i < n; i++) {
        const size_t k = vocab_piece(vocab, ids[i], true, piece);
        const bool drop =
            i == 0 && vocab->h->flags & VOCAB_SPACE_PREFIX && k > 0 && piece[0] == ' ';
        r = buf_append(&out, piece + drop, k - drop);
    }
    if (r < 0) {
        buf_deinit(&out);
        return -ENOMEM;
    }
    if (vocab->h->flags & VOCAB_TIDY) {
        out.n = tidy((char *)out.data, out.n);
    }
    *ret = (char *)buf_steal(&out, ret_n);
    return 0;
}
