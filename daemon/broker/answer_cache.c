/* answer_cache: a table of chains and a list in the order of use. An entry is one piece of memory:
 * the bookkeeping, the ids, the key, the text, the reason. */
#include "daemon/broker/answer_cache.h"

#include <stdlib.h>
#include <string.h>

#include "base/fnv.h"

struct entry {
    struct list link; /* in a bucket */
    struct list use;  /* in the cache's `all` */
    uint64_t hash;
    size_t bytes; /* of this allocation */
    uint64_t mark;
    struct strview key, model; /* views of `data` */
    struct kept_answer kept;   /* the same */
    char data[];
};

/* Keys begin with bytes that clients do not know: nobody can make them collide. */
static uint64_t hash_of(struct strview key)
{
    return fnv_add(FNV_START, key.data, key.n);
}

void answer_cache_init(struct answer_cache *c, uint64_t bytes_max)
{
    *c = (struct answer_cache){.bytes_max = bytes_max};
    list_init(&c->all);
    for (size_t i = 0; i < ANSWER_CACHE_BUCKETS; i++) {
        list_init(&c->buckets[i]);
    }
}

static void drop(struct answer_cache *c, struct entry *e)
{
    list_remove(&e->link);
    list_remove(&e->use);
    c->n--;
    c->bytes -= e->bytes;
    free(e);
}

void answer_cache_clear(struct answer_cache *c)
{
    list_for_each (e, next, &c->all, struct entry, use) {
        drop(c, e);
    }
}

/* Make room for so many bytes more. */
static void make_room(struct answer_cache *c, uint64_t more)
{
    while (!list_empty(&c->all) && c->bytes + more > c->bytes_max) {
        drop(c, container_of(c->all.next, struct entry, use));
    }
}

void answer_cache_limit(struct answer_cache *c, uint64_t bytes_max)
{
    c->bytes_max = bytes_max;
    make_room(c, 0);
}

static struct entry *look_up(struct answer_cache *c, uint64_t hash, const struct answer_key *key)
{
    struct list *bucket = &c->buckets[hash & (ANSWER_CACHE_BUCKETS - 1)];

    list_for_each (e, next, bucket, struct entry, link) {
        if (e->hash == hash && e->mark == key->mark && strview_eq(e->model, key->model) &&
            strview_eq(e->key, key->bytes)) {
            return e;
        }
    }
    return NULL;
}

bool answer_cache_find(struct answer_cache *c, const struct answer_key *key,
                       struct kept_answer *ret)
{
    struct entry *e = look_up(c, hash_of(key->bytes), key);

    if (!e) {
        c->misses++;
        return false;
    }
    c->hits++;
    list_remove(&e->use);
    list_push(&c->all, &e->use);
    *ret = e->kept;
    return true;
}

static struct strview put(char **at, struct strview from)
{
    const struct strview v = {.data = *at, .n = from.n};

    if (from.n > 0) {
        memcpy(*at, from.data, from.n);
        *at += from.n;
    }
    return v;
}

void answer_cache_put(struct answer_cache *c, const struct answer_key *key,
                      const struct kept_answer *a)
{
    const uint64_t hash = hash_of(key->bytes);
    const size_t ids_bytes = a->n_ids * sizeof(*a->ids);
    const uint64_t bytes = (uint64_t)sizeof(struct entry) + ids_bytes + key->bytes.n +
                           key->model.n + a->text.n + a->finish_reason.n;
    struct entry *old = look_up(c, hash, key);

    if (bytes > c->bytes_max / ANSWER_CACHE_SHARE) {
        return;
    }
    if (old) {
        drop(c, old);
    }
    make_room(c, bytes);
    struct entry *e = malloc((size_t)bytes);
    if (!e) {
        return;
    }
    *e = (struct entry){.hash = hash, .bytes = (size_t)bytes, .mark = key->mark, .kept = *a};
    char *at = e->data;
    if (ids_bytes > 0) {
        memcpy(at, a->ids, ids_bytes);
    }
    e->kept.ids = (const int32_t *)(const void *)at; /* data is aligned for what stands before it */
    at += ids_bytes;
    e->key = put(&at, key->bytes);
    e->model = put(&at, key->model);
    e->kept.text = put(&at, a->text);
    e->kept.finish_reason = put(&at, a->finish_reason);
    list_init(&e->link);
    list_init(&e->use);
    list_push(&c->buckets[hash & (ANSWER_CACHE_BUCKETS - 1)], &e->link);
    list_push(&c->all, &e->use);
    c->n++;
    c->bytes += bytes;
}

void answer_cache_forget(struct answer_cache *c, struct strview model, uint64_t mark)
{
    list_for_each (e, next, &c->all, struct entry, use) {
        if (e->mark != mark && strview_eq(e->model, model)) {
            drop(c, e);
        }
    }
}
