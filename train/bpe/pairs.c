/* pairs: a table and a heap. A pair's count only falls once it was offered, since merging another
 * pair takes neighbours away and adds none; so what the heap says is too high at worst, and one
 * look at the count of what comes up tells whether it really is the best. */
#include "train/bpe/pairs.h"

#include <errno.h>
#include <stdlib.h>

void pairs_deinit(struct pairs *p)
{
    for (size_t i = 0; i < p->n; i++) {
        free(p->at[i].words);
    }
    free(p->at);
    free(p->slots);
    free(p->heap);
    *p = (struct pairs){0};
}

static int grow(void **data, size_t *room, size_t need, size_t each)
{
    size_t n = *room ? *room : 4, bytes;

    if (need <= *room) {
        return 0;
    }
    while (n < need) {
        n *= 2;
    }
    if (__builtin_mul_overflow(n, each, &bytes)) {
        return -ENOMEM;
    }
    void *p = realloc(*data, bytes);
    if (!p) {
        return -ENOMEM;
    }
    *data = p;
    *room = n;
    return 0;
}

/* ---- the table ---- */

static size_t hash(uint32_t left, uint32_t right)
{
    uint64_t h = ((uint64_t)left << 32 | right) * UINT64_C(0xff51afd7ed558ccd);

    h = (h ^ h >> 32) * UINT64_C(0xc4ceb9fe1a85ec53);
    return (size_t)(h ^ h >> 29);
}

static size_t slot_of(const struct pairs *p, uint32_t left, uint32_t right)
{
    size_t at = hash(left, right) & (p->n_slots - 1);

    for (; p->slots[at] != 0; at = (at + 1) & (p->n_slots - 1)) {
        const struct pair *pair = &p->at[p->slots[at] - 1];
        if (pair->left == left && pair->right == right) {
            break;
        }
    }
    return at;
}

static int more_slots(struct pairs *p)
{
    const size_t n_slots = p->n_slots ? p->n_slots * 2 : 4096;
    uint32_t *slots = calloc(n_slots, sizeof(*slots));

    if (!slots) {
        return -ENOMEM;
    }
    free(p->slots);
    p->slots = slots;
    p->n_slots = n_slots;
    for (size_t i = 0; i < p->n; i++) {
        slots[slot_of(p, p->at[i].left, p->at[i].right)] = (uint32_t)i + 1;
    }
    return 0;
}

int pairs_find(struct pairs *p, uint32_t left, uint32_t right, uint32_t *ret, bool *ret_new)
{
    void *at = p->at;
    int r = p->n * 2 >= p->n_slots ? more_slots(p) : 0;

    if (r < 0) {
        return r;
    }
    const size_t slot = slot_of(p, left, right);
    *ret_new = p->slots[slot] == 0;
    if (!*ret_new) {
        *ret = p->slots[slot] - 1;
        return 0;
    }
    if (p->n >= UINT32_MAX - 1) {
        return -ENOMEM;
    }
    r = grow(&at, &p->room, p->n + 1, sizeof(*p->at));
    p->at = at;
    if (r < 0) {
        return r;
    }
    p->at[p->n] = (struct pair){.left = left, .right = right};
    *ret = (uint32_t)p->n++;
    p->slots[slot] = *ret + 1;
    return 0;
}

int pairs_note(struct pairs *p, uint32_t i, uint32_t word)
{
    struct pair *pair = &p->at[i];
    void *words = pair->words;

    if (pair->n_words > 0 && pair->words[pair->n_words - 1] == word) {
        return 0;
    }
    const int r = grow(&words, &pair->words_room, pair->n_words + 1, sizeof(*pair->words));
    pair->words = words;
    if (r == 0) {
        pair->words[pair->n_words++] = word;
    }
    return r;
}

/* ---- the heap ---- */

static bool before(const struct pairs *p, struct pairs_candidate a, struct pairs_candidate b)
{
    const struct pair *x = &p->at[a.i], *y = &p->at[b.i];

    if (a.count != b.count) {
        return a.count > b.count;
    }
    return x->left != y->left ? x->left < y->left : x->right < y->right;
}

static int push(struct pairs *p, struct pairs_candidate c)
{
    void *heap = p->heap;
    const int r = grow(&heap, &p->heap_room, p->n_heap + 1, sizeof(*p->heap));

    p->heap = heap;
    if (r < 0) {
        return r;
    }
    size_t i = p->n_heap++;
    for (; i > 0 && before(p, c, p->heap[(i - 1) / 2]); i = (i - 1) / 2) {
        p->heap[i] = p->heap[(i - 1) / 2];
    }
    p->heap[i] = c;
    return 0;
}

/* What stands at the top goes down to where it belongs. */
static void sink(struct pairs *p)
{
    const struct pairs_candidate c = p->heap[0];
    size_t i = 0;

    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= p->n_heap) {
            break;
        }
        if (child + 1 < p->n_heap && before(p, p->heap[child + 1], p->heap[child])) {
            child++;
        }
        if (!before(p, p->heap[child], c)) {
            break;
        }
        p->heap[i] = p->heap[child];
        i = child;
    }
    p->heap[i] = c;
}

int pairs_offer(struct pairs *p, uint32_t i)
{
    return push(p, (struct pairs_candidate){.count = p->at[i].count, .i = i});
}

bool pairs_best(struct pairs *p, int64_t count_min, uint32_t *ret)
{
    while (p->n_heap > 0) {
        const struct pairs_candidate top = p->heap[0];
        const struct pair *pair = &p->at[top.i];
        if (top.count < count_min) {
            return false;
        }
        if (!pair->barred && pair->count == top.count) {
            p->heap[0] = p->heap[--p->n_heap];
            sink(p);
            *ret = top.i;
            return true;
        }
        if (pair->barred || pair->count <= 0) {
            p->heap[0] = p->heap[--p->n_heap];
        } else {
            p->heap[0].count = pair->count;
        }
        if (p->n_heap > 0) {
            sink(p);
        }
    }
    return false;
}
