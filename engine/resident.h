/* What of the engine's memory is there: the kernel's word for it, by mincore(). */
#ifndef ENGINE_RESIDENT_H
#define ENGINE_RESIDENT_H

#include <stddef.h>
#include <stdint.h>

struct kv_pool;
struct model;
struct stepper;

/** memory_resident() - bytes of the pages of [at, at + n) that are in memory. Cost: a microsecond a
 * MiB or so. 0 where the kernel does not say. */
uint64_t memory_resident(const void *at, size_t n);

struct model_memory {
    uint64_t mapped;   /* of the packed file, without what a private copy takes the place of */
    uint64_t private_; /* of a private copy */
    uint64_t huge;     /* of that, what came in huge pages when it was made */
    uint64_t resident; /* of mapped and private_ */
};

/** model_memory() - any thread may ask at any time */
void model_memory(const struct model *model, struct model_memory *ret);

/**
 * model_lock() - keep the weights in memory, whatever happens, as far as the system allows it
 *
 * In slices, those that every token reads first, and the table of which a token reads a row last;
 * ends at the first slice that is refused (RLIMIT_MEMLOCK). Undone with the model.
 * Return: bytes that are locked now.
 */
uint64_t model_lock(const struct model *model);

/* Those of the thread that uses them. */
uint64_t kv_pool_resident(const struct kv_pool *pool);
uint64_t stepper_resident(const struct stepper *st);

#endif
