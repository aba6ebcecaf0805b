/* The search is a plain walk backwards: some thousand comparisons a step, against millions of
 * multiply-adds. */
#include "engine/draft.h"

#define REST_MAX 32u /* steps */

/* Tokens before `at` that equal those before n; at < n. */
static size_t matching(const int32_t *ids, size_t n, size_t at)
{
    size_t m = 0;

    while (m < at && m < DRAFT_MATCH_MAX && ids[at - 1 - m] == ids[n - 1 - m]) {
        m++;
    }
    return m;
}

size_t draft_find(const int32_t *ids, size_t n, int32_t *ret, size_t n_max)
{
    const size_t first = n > DRAFT_LOOK ? n - DRAFT_LOOK : 0;
    size_t best = DRAFT_MATCH_MIN - 1, found = 0;

    for (size_t at = n; at-- > first + DRAFT_MATCH_MIN && best < DRAFT_MATCH_MAX;) {
        if (ids[at - 1] == ids[n - 1]) {
            const size_t m = matching(ids, n, at);
            if (m > best) {
                best = m;
                found = at;
            }
        }
    }
    for (size_t i = 0; found > 0 && i < n_max; i++) {
        ret[i] = found + i < n ? ids[found + i] : ret[found + i - n];
    }
    return found > 0 ? n_max : 0;
}

size_t draft_ask(struct draft_luck *l, size_t n_max)
{
    if (l->rest > 0) {
        l->rest--;
        return 0;
    }
    return l->n > 0 && l->n < n_max ? l->n : n_max;
}

void draft_learn(struct draft_luck *l, size_t made, size_t right)
{
    if (right == 0) {
        l->n = 1;
        l->rest = l->bad < 5 ? 1u << l->bad : REST_MAX;
        l->bad++;
        return;
    }
    l->bad = 0;
    l->n = right == made ? (uint32_t)(2 * made) : (uint32_t)right;
    l->n = l->n < DRAFT_MAX ? l->n : DRAFT_MAX;
}
