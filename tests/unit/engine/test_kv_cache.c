/* Blocks that are found again: by whom, by whom not, and that nobody's numbers change. */
#include "tests/support/test.h"

#include <string.h>

#include "engine/kv.h"
#include "tests/unit/engine/kv_pools.h"

#define N_LONG 150u /* ids: four full blocks and some */

static const uint8_t everybody[KV_SALT], alice[KV_SALT] = {1}, bob[KV_SALT] = {2};

static void ids_of(unsigned which, int32_t ids[N_LONG])
{
    for (unsigned i = 0; i < N_LONG; i++) {
        ids[i] = (int32_t)((which * 31 + i * i * 7 + 5) % TINY_VOCAB);
    }
}

static struct seq *seq_of(struct kv_pool *p, size_t n_ctx)
{
    struct seq *seq = NULL;

    assert_int_equal(seq_new(&seq, p, n_ctx), 0);
    return seq;
}

/* Positions up to n as if they had been computed: every byte of their blocks is `mark`. */
static void fill(struct seq *seq, const int32_t *ids, size_t n, uint8_t mark)
{
    const size_t from = seq->len;

    assert_true(seq_reserve(seq, n));
    for (size_t i = from / KV_BLOCK; i < seq->n_blocks; i++) {
        memset(kv_keys(seq, 0, 0, i), mark, seq->pool->block_bytes);
    }
    seq_advance(seq, ids + from, n - from);
}

/* A sequence from its start to its end. Return: positions it found. */
static size_t run_whole(struct kv_pool *p, const uint8_t salt[KV_SALT], const int32_t *ids,
                        size_t n, uint8_t mark)
{
    struct seq *seq = seq_of(p, N_LONG);
    const size_t found = seq_attach(seq, salt, ids, n);

    assert_int_equal(seq_len(seq), found);
    fill(seq, ids, n, mark);
    seq_free(seq);
    return found;
}

static void whole_blocks_are_found_and_the_last_id_never(void **state)
{
    struct kv_pool *p = pool_of(16);
    int32_t ids[N_LONG];
    (void)state;

    ids_of(0, ids);
    assert_int_equal(run_whole(p, alice, ids, 2 * KV_BLOCK, 1), 0);
    assert_int_equal(kv_pool_idle_blocks(p), 2);
    assert_int_equal(run_whole(p, alice, ids, 2 * KV_BLOCK, 1),
                     KV_BLOCK); /* one id is left to do */
    assert_int_equal(run_whole(p, alice, ids, 2 * KV_BLOCK + 1, 1), 2 * KV_BLOCK);
    assert_int_equal(run_whole(p, alice, ids, N_LONG, 1), 2 * KV_BLOCK);
    assert_int_equal(run_whole(p, alice, ids, N_LONG, 1), 4 * KV_BLOCK);
    ids[KV_BLOCK]++; /* from there on they are others */
    assert_int_equal(run_whole(p, alice, ids, N_LONG, 1), KV_BLOCK);
    ids[0]++;
    assert_int_equal(run_whole(p, alice, ids, N_LONG, 1), 0);
    assert_int_equal(run_whole(p, alice, ids, 0, 1), 0);
    assert_int_equal(kv_pool_free_blocks(p) + kv_pool_idle_blocks(p), 16);
    kv_pool_free(p);
}

/* Goal: an identity finds nothing of another's. Method: the same ids under two salts, and under the
 * public one, which both find. */
static void other_salts_find_nothing(void **state)
{
    struct kv_pool *p = pool_of(32);
    int32_t ids[N_LONG];
    (void)state;

    ids_of(0, ids);
    assert_int_equal(run_whole(p, alice, ids, N_LONG, 1), 0);
    assert_int_equal(run_whole(p, bob, ids, N_LONG, 2), 0);
    assert_int_equal(run_whole(p, everybody, ids, 3 * KV_BLOCK, 3), 0);
    assert_int_equal(run_whole(p, bob, ids, N_LONG, 2), 4 * KV_BLOCK);
    ids_of(1, ids);
    assert_int_equal(run_whole(p, everybody, ids, 3 * KV_BLOCK, 3), 0);
    assert_int_equal(run_whole(p, alice, ids, N_LONG, 1), 3 * KV_BLOCK);
    assert_int_equal(run_whole(p, bob, ids, N_LONG, 2), 3 * KV_BLOCK); /* not alice's fourth */
    assert_int_equal(run_whole(p, bob, ids, N_LONG, 2), 4 * KV_BLOCK); /* behind public ones */
    kv_pool_free(p);
}

/* Goal: a hash alone opens nothing. Method: bend what the block says it holds, under the same
 * hash. */
static void a_collision_of_hashes_finds_nothing(void **state)
{
    struct kv_pool *p = pool_of(4);
    int32_t ids[N_LONG];
    (void)state;

    ids_of(0, ids);
    assert_int_equal(run_whole(p, alice, ids, 2 * KV_BLOCK, 1), 0);
    struct seq *seq = seq_of(p, N_LONG);
    assert_int_equal(seq_attach(seq, alice, ids, 2 * KV_BLOCK + 1), 2 * KV_BLOCK);
    struct kv_block *first = &p->blocks[seq->blocks[0]], *second = &p->blocks[seq->blocks[1]];
    seq_free(seq);
    second->ids[3]++;
    assert_int_equal(run_whole(p, alice, ids, 2 * KV_BLOCK, 1), KV_BLOCK);
    seq = seq_of(p, N_LONG);
    assert_int_equal(seq_attach(seq, alice, ids, 2 * KV_BLOCK + 1), 2 * KV_BLOCK); /* anew */
    seq_free(seq);
    first->salt[5]++;
    assert_int_equal(run_whole(p, alice, ids, 2 * KV_BLOCK, 1), 0);
    kv_pool_free(p);
}

/* Goal: what one salt wrote is never there for another. Method: mark every byte, let it idle, let
 * another salt take every block of the pool and look at all bytes before it writes. */
static void a_canary_never_shows_in_anothers_blocks(void **state)
{
    struct kv_pool *p = pool_of(8);
    int32_t ids[N_LONG], other[N_LONG];
    (void)state;

    ids_of(0, ids);
    ids_of(1, other);
    assert_int_equal(run_whole(p, alice, ids, N_LONG, 0xa5), 0);
    struct seq *seq = seq_of(p, 8 * KV_BLOCK);
    assert_int_equal(seq_attach(seq, bob, other, N_LONG), 0);
    assert_true(seq_reserve(seq, 8 * KV_BLOCK));
    for (size_t i = 0; i < 8; i++) {
        const uint8_t *block = kv_keys(seq, 0, 0, i);
        for (size_t b = 0; b < p->block_bytes; b++) {
            assert_int_equal(block[b], 0);
        }
        for (size_t k = 0; k < KV_BLOCK; k++) {
            assert_int_equal(p->blocks[seq->blocks[i]].ids[k], 0);
        }
    }
    seq_free(seq);
    kv_pool_free(p);
}

/* Leading blocks of these ids that can be found; nothing is counted as a hit. */
static size_t leading(const struct kv_pool *p, const int32_t *ids)
{
    size_t n = 0;

    for (bool found = true; found; n += found ? 1 : 0) {
        found = false;
        for (size_t i = 0; i < p->n_blocks && (n + 1) * KV_BLOCK <= N_LONG; i++) {
            const struct kv_block *b = &p->blocks[i];
            found |= b->kept && memcmp(b->ids, ids + n * KV_BLOCK, sizeof(b->ids)) == 0;
        }
    }
    return n;
}

/* Goal: the ends of chains go first, then what was used longest ago; what was hit stays longer,
 * public blocks longest; what somebody holds stays. */
static void eviction_takes_what_is_least_worth(void **state)
{
    struct kv_pool *p = pool_of(12);
    int32_t old[N_LONG], hit[N_LONG], open[N_LONG], fresh[N_LONG];
    (void)state;

    ids_of(0, old);
    ids_of(1, hit);
    ids_of(2, open);
    ids_of(3, fresh);
    assert_int_equal(run_whole(p, everybody, open, 2 * KV_BLOCK, 1), 0);
    assert_int_equal(run_whole(p, alice, hit, 2 * KV_BLOCK, 1), 0);
    assert_int_equal(run_whole(p, alice, hit, 2 * KV_BLOCK + 1, 1), 2 * KV_BLOCK);
    assert_int_equal(run_whole(p, alice, old, 4 * KV_BLOCK, 1), 0);
    struct seq *held = seq_of(p, N_LONG);
    assert_int_equal(seq_attach(held, bob, fresh, N_LONG), 0);
    fill(held, fresh, 4 * KV_BLOCK, 1);
    assert_int_equal(kv_pool_free_blocks(p), 0);
    assert_int_equal(kv_pool_idle_blocks(p), 8);

    struct seq *seq = seq_of(p, TINY_CTX);
    for (size_t n = 1; n <= 4; n++) { /* old loses its blocks from the end */
        assert_true(seq_reserve(seq, n * KV_BLOCK));
        assert_int_equal(leading(p, old), 4 - n);
    }
    assert_int_equal(leading(p, hit), 2);
    assert_true(seq_reserve(seq, 6 * KV_BLOCK));
    assert_int_equal(leading(p, hit), 0);
    assert_int_equal(leading(p, open), 2);
    assert_true(seq_reserve(seq, 8 * KV_BLOCK)); /* then public ones, then no more */
    struct seq *more = seq_of(p, N_LONG);
    assert_false(seq_reserve(more, 1));
    seq_free(more);
    seq_free(seq);
    seq_free(held);
    assert_int_equal(run_whole(p, bob, fresh, N_LONG, 1), 4 * KV_BLOCK);
    kv_pool_free(p);
}

static void two_who_compute_the_same_share_it_afterwards(void **state)
{
    struct kv_pool *p = pool_of(12);
    struct seq *a = seq_of(p, N_LONG), *b = seq_of(p, N_LONG), *c = seq_of(p, N_LONG);
    int32_t ids[N_LONG];
    (void)state;

    ids_of(0, ids);
    assert_int_equal(seq_attach(a, alice, ids, N_LONG), 0);
    assert_int_equal(seq_attach(b, alice, ids, N_LONG), 0);
    assert_int_equal(seq_attach(c, alice, ids, N_LONG), 0);
    fill(a, ids, 2 * KV_BLOCK, 7);
    fill(b, ids, 2 * KV_BLOCK + 1, 7);
    assert_int_equal(kv_pool_free_blocks(p), 12 - 3);
    assert_int_equal(a->blocks[1], b->blocks[1]);
    assert_true(seq_reserve(c, 10)); /* a step of it was cancelled */
    assert_int_equal(seq_attach(c, alice, ids, N_LONG), 2 * KV_BLOCK); /* it needs not begin */
    fill(a, ids, 3 * KV_BLOCK, 7);
    assert_int_equal(seq_attach(b, alice, ids, N_LONG), 0); /* amid a block */
    assert_int_equal(seq_attach(c, alice, ids, N_LONG), KV_BLOCK);
    assert_int_equal(kv_pool_free_blocks(p), 12 - 4);
    seq_free(a);
    seq_free(b);
    seq_free(c);
    assert_int_equal(kv_pool_idle_blocks(p), 3);
    kv_pool_free(p);
}

/* Goal: nobody writes into what others read. Method: rewind into a shared block and write there. */
static void a_rewound_sequence_writes_into_a_copy(void **state)
{
    struct kv_pool *p = pool_of(4);
    struct seq *seq = seq_of(p, N_LONG), *other = seq_of(p, N_LONG);
    int32_t ids[N_LONG], changed[N_LONG];
    (void)state;

    ids_of(0, ids);
    memcpy(changed, ids, sizeof(ids));
    changed[40]++;
    assert_int_equal(seq_attach(seq, alice, ids, N_LONG), 0);
    fill(seq, ids, 2 * KV_BLOCK, 0x11);
    assert_int_equal(seq_attach(other, alice, ids, 2 * KV_BLOCK + 1), 2 * KV_BLOCK);
    seq_rewind(seq, 40);
    assert_true(seq_reserve(seq, 41));
    assert_int_equal(kv_keys(seq, 0, 0, 1)[0], 0x11); /* positions 32..39 are still there */
    fill(seq, changed, 2 * KV_BLOCK, 0x22);
    assert_int_equal(kv_keys(other, 0, 0, 1)[0], 0x11);
    seq_free(seq);
    seq_free(other);
    seq = seq_of(p, N_LONG);
    assert_int_equal(seq_attach(seq, alice, changed, 2 * KV_BLOCK + 1), 2 * KV_BLOCK);
    assert_int_equal(kv_keys(seq, 0, 0, 1)[0], 0x22);
    assert_true(seq_reserve(seq, 4 * KV_BLOCK));
    seq_rewind(seq, 40);
    assert_true(seq_reserve(seq, 3 * KV_BLOCK));
    other = seq_of(p, N_LONG);
    assert_true(seq_reserve(other, 1));
    assert_false(seq_reserve(other, KV_BLOCK + 1));
    seq_free(other);
    seq_free(seq);
    kv_pool_free(p);
}

/* Goal: what is public no more is found by nobody, nor is what was kept behind it; who holds it
 * goes on, and leaves nothing that could be found. Method: two labels, and sequences of all kinds
 * over the change. */
static void what_was_public_is_found_under_its_label_alone(void **state)
{
    static const uint8_t first[KV_SALT] = {9, 1}, second[KV_SALT] = {9, 2};
    struct kv_pool *p = pool_of(40);
    int32_t ids[N_LONG], own[N_LONG];
    (void)state;

    ids_of(0, ids);
    ids_of(1, own);
    kv_pool_publish(p, first);
    assert_int_equal(run_whole(p, everybody, ids, 2 * KV_BLOCK, 1), 0);
    assert_int_equal(run_whole(p, bob, ids, N_LONG, 1), 2 * KV_BLOCK);
    assert_int_equal(run_whole(p, bob, ids, N_LONG, 1), 4 * KV_BLOCK);
    assert_int_equal(run_whole(p, bob, own, N_LONG, 1), 0);
    kv_pool_publish(p, first); /* no change */
    struct seq *held = seq_of(p, TINY_CTX), *part = seq_of(p, N_LONG), *open = seq_of(p, N_LONG);
    assert_int_equal(seq_attach(held, alice, ids, N_LONG), 2 * KV_BLOCK);
    assert_int_equal(seq_attach(part, alice, ids, 2 * KV_BLOCK), KV_BLOCK);
    assert_int_equal(seq_attach(open, everybody, own, N_LONG), 0); /* is being computed */
    fill(held, ids, 3 * KV_BLOCK, 1);

    kv_pool_publish(p, second);
    assert_int_equal(kv_pool_idle_blocks(p), 4); /* bob's own */
    fill(held, ids, 4 * KV_BLOCK, 1);
    assert_int_equal(seq_attach(held, alice, ids, N_LONG), 0);
    assert_int_equal(seq_len(held), 4 * KV_BLOCK);
    fill(open, own, N_LONG, 1);
    assert_int_equal(seq_attach(part, alice, ids, N_LONG), 0); /* though held has computed it */
    assert_int_equal(run_whole(p, alice, own, N_LONG, 1), 0);
    assert_int_equal(run_whole(p, alice, ids, N_LONG, 1), 0); /* and keeps them for herself */
    assert_int_equal(run_whole(p, alice, ids, N_LONG, 1), 4 * KV_BLOCK);
    assert_int_equal(run_whole(p, bob, ids, N_LONG, 1), 0);
    assert_int_equal(run_whole(p, bob, own, N_LONG, 1), 4 * KV_BLOCK);
    seq_rewind(part, 5);
    fill(part, own, N_LONG, 2); /* into a copy */
    assert_int_equal(kv_keys(held, 0, 0, 0)[0], 1);
    seq_free(held);
    seq_free(part);
    seq_free(open);
    kv_pool_free(p);
}

/* ---- the pool under a random life ---- */

static uint64_t rng;

static size_t random_below(size_t n)
{
    rng = rng * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(rng >> 33) % n;
}

static void pool_check(const struct kv_pool *p, struct seq *const *seqs, size_t n_seqs)
{
    size_t n_free = 0, n_idle = 0, in_buckets = 0, n_kept = 0;

    for (uint32_t i = 0; i < p->n_blocks; i++) {
        const struct kv_block *b = &p->blocks[i];
        uint32_t refs = 0, children = 0;
        for (size_t s = 0; s < n_seqs; s++) {
            for (size_t k = 0; seqs[s] && k < seqs[s]->n_blocks; k++) {
                refs += seqs[s]->blocks[k] == i ? 1 : 0;
            }
        }
        for (uint32_t k = 0; k < p->n_blocks; k++) {
            children += p->blocks[k].kept && p->blocks[k].parent == i ? 1 : 0;
        }
        assert_int_equal(b->n_refs, refs);
        assert_int_equal(b->kept ? b->n_children : 0, children);
        n_idle += b->kept && refs == 0 ? 1 : 0;
        n_free += !b->kept && refs == 0 ? 1 : 0;
        n_kept += b->kept ? 1 : 0;
        assert_true(!b->kept || b->parent == KV_NONE || p->blocks[b->parent].kept);
    }
    for (size_t i = 0; i < p->n_buckets; i++) {
        for (uint32_t k = p->buckets[i]; k != KV_NONE; k = p->blocks[k].next) {
            in_buckets++;
            assert_true(p->blocks[k].kept);
        }
    }
    assert_int_equal(p->n_free, n_free);
    assert_int_equal(p->n_idle, n_idle);
    assert_int_equal(in_buckets, n_kept);
}

/* The mark that position i of these ids has to have: a function of salt and all ids up to it. */
static uint8_t mark_of(const uint8_t *salt, const int32_t *ids, size_t n)
{
    uint64_t h = salt[0] == 0 ? 99 : salt[0];

    for (size_t i = 0; i < n; i++) {
        h = h * 1099511628211u + (uint64_t)ids[i];
    }
    return (uint8_t)(h >> 24);
}

/* Goal: whatever sequences do, counts are right and each reads its own history.
 * Method: sequences begin, grow, rewind and end at random over few ids, so that much is shared;
 * each full block has a mark made from salt and ids, as real keys are; the book is audited after
 * each act. */
static void a_random_life_leaves_the_pool_sound(void **state)
{
    enum { N_SEQS = 6, N_ACTS = 4000 };
    static const uint8_t *const salts[] = {everybody, alice, bob};
    struct kv_pool *p = pool_of(14);
    struct seq *seqs[N_SEQS] = {0};
    int32_t ids[N_SEQS][TINY_CTX];
    const uint8_t *salt[N_SEQS] = {0};
    size_t found = 0, full = 0;
    (void)state;

    rng = 12345;
    for (unsigned act = 0; act < N_ACTS; act++) {
        const size_t s = random_below(N_SEQS), what = random_below(10);
        if (!seqs[s]) {
            seqs[s] = seq_of(p, TINY_CTX);
            salt[s] = salts[random_below(3)];
            for (size_t i = 0; i < TINY_CTX; i++) { /* one of two ids, chosen once a block */
                ids[s][i] = i % KV_BLOCK == 0 ? (int32_t)random_below(2) : ids[s][i - 1];
            }
            found += seq_attach(seqs[s], salt[s], ids[s], TINY_CTX);
        } else if (what == 0) {
            seq_free(seqs[s]);
            seqs[s] = NULL;
        } else if (what == 1) {
            seq_rewind(seqs[s], random_below(seqs[s]->len + 1));
        } else if (what == 2) {
            found += seq_attach(seqs[s], salt[s], ids[s], TINY_CTX);
        } else if (what == 3 && random_below(10) == 0) {
            kv_pool_publish(p, (const uint8_t[KV_SALT]){9, (uint8_t)random_below(3)});
        } else {
            const size_t n = 1 + random_below(40), to = seqs[s]->len + n;
            if (to <= TINY_CTX && seq_reserve(seqs[s], to)) {
                for (size_t i = seqs[s]->len; i < to; i++) {
                    /* K rows of the first head: as many bytes as positions are enough */
                    kv_keys(seqs[s], 0, 0, i / KV_BLOCK)[i % KV_BLOCK] =
                        mark_of(everybody, ids[s], i + 1);
                }
                seq_advance(seqs[s], ids[s] + seqs[s]->len, n);
            } else {
                full++;
            }
        }
        pool_check(p, seqs, N_SEQS);
        for (size_t i = 0; seqs[s] && i < seqs[s]->len; i++) {
            assert_int_equal(kv_keys(seqs[s], 0, 0, i / KV_BLOCK)[i % KV_BLOCK],
                             mark_of(everybody, ids[s], i + 1));
        }
    }
    assert_true(found > 1000);
    assert_true(full > 10);
    for (size_t s = 0; s < N_SEQS; s++) {
        seq_free(seqs[s]);
    }
    assert_int_equal(kv_pool_free_blocks(p) + kv_pool_idle_blocks(p), 14);
    kv_pool_free(p);
}

/* ---- numbers ---- */

/* The greedy answer of n ids to a prompt of N_LONG, and the logits of each step; *ret_found
 * positions came from the cache. */
static void answer(struct stepper *st, struct kv_pool *p, const uint8_t *salt, unsigned which,
                   size_t n, int32_t *ret_ids, float *ret_logits, size_t *ret_found)
{
    int32_t ids[TINY_CTX];
    struct step_item it = {.seq = seq_of(p, TINY_CTX), .n_logits = 1};
    size_t n_ids = N_LONG;

    ids_of(which, ids);
    *ret_found = salt ? seq_attach(it.seq, salt, ids, N_LONG) : 0;
    for (size_t k = 0; k < n; k++) {
        it.ids = ids + seq_len(it.seq);
        it.n_ids = n_ids - seq_len(it.seq);
        assert_int_equal(stepper_run(st, &it, 1, NULL), STEP_OK);
        memcpy(ret_logits + k * TINY_VOCAB, it.logits, TINY_VOCAB * sizeof(float));
        int32_t best = 0;
        for (int32_t i = 1; i < (int32_t)TINY_VOCAB; i++) {
            best = it.logits[i] > it.logits[best] ? i : best;
        }
        ret_ids[k] = ids[n_ids++] = best;
    }
    seq_free(it.seq);
}

/* Goal: reuse changes no bit, in any type of cache. Method: answers with nothing to find are what
 * answers must be that find the prompt's blocks, their own former answer, and a public prefix. */
static void numbers_are_the_same_with_and_without_reuse(void **state)
{
    enum { N_ANSWER = 40 };
    static float want[N_ANSWER * TINY_VOCAB], got[N_ANSWER * TINY_VOCAB];
    const struct engine_options options = {.cpu = cpu_level_best(), .n_threads = 2};
    const struct stepper_limits limits = {.n_tokens_max = TINY_CTX, .n_logits_max = 1};
    int32_t want_ids[N_ANSWER], ids[N_ANSWER];
    struct engine *engine = NULL;
    struct stepper *st = NULL;
    size_t found;
    (void)state;

    assert_int_equal(engine_new(&engine, &options), 0);
    assert_int_equal(stepper_new(&st, engine, model, &limits), 0);
    for (unsigned kv = KV_F32; kv <= KV_I8; kv++) {
        struct kv_pool *p = NULL;
        assert_int_equal(kv_pool_new(&p, model, (enum kv_type)kv, 24), 0);
        answer(st, p, NULL, 0, N_ANSWER, want_ids, want, &found);
        assert_int_equal(kv_pool_free_blocks(p), 24);
        for (unsigned round = 0; round < 6; round++) {
            const uint8_t *salt = round == 0 || round == 3 ? everybody : round == 5 ? bob : alice;
            answer(st, p, salt, 0, N_ANSWER, ids, got, &found);
            assert_int_equal(found, round == 0 ? 0 : 4 * KV_BLOCK);
            assert_memory_equal(got, want, sizeof(want));
            assert_memory_equal(ids, want_ids, sizeof(ids));
        }
        kv_pool_free(p);
    }
    stepper_free(st);
    engine_free(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_blocks_are_found_and_the_last_id_never),
        cmocka_unit_test(other_salts_find_nothing),
        cmocka_unit_test(a_collision_of_hashes_finds_nothing),
        cmocka_unit_test(a_canary_never_shows_in_anothers_blocks),
        cmocka_unit_test(eviction_takes_what_is_least_worth),
        cmocka_unit_test(two_who_compute_the_same_share_it_afterwards),
        cmocka_unit_test(a_rewound_sequence_writes_into_a_copy),
        cmocka_unit_test(what_was_public_is_found_under_its_label_alone),
        cmocka_unit_test(a_random_life_leaves_the_pool_sound),
        cmocka_unit_test(numbers_are_the_same_with_and_without_reuse),
    };

    return cmocka_run_group_tests(tests, open_model, close_model);
}
