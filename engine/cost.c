/* What a model costs to run, from its packed form alone: the same plans that the pool and the
 * stepper allocate by, so that what is predicted and what is taken cannot drift apart. */
#include "engine/engine.h"

#include <errno.h>

#include "engine/image.h"
#include "engine/kv.h"
#include "engine/model.h"
#include "engine/step.h"

/* Bytes of weights that a greedy step over one token reads: everything but the embedding, of which
 * it reads one row, unless the head is the embedding; and the head's copy for the head. */
static uint64_t token_weights(const struct model *m)
{
    const bool tied = m->tensors[ROLE_OUTPUT].bytes == 0;
    const uint64_t low = m->meta->head_low.copy.bytes;
    uint64_t sum = 0;

    for (size_t i = 0; i < m->meta->n_tensors; i++) {
        const bool head = i == (tied ? ROLE_EMBD : ROLE_OUTPUT);
        if ((i != ROLE_EMBD || tied) && !(head && low > 0)) {
            sum += m->tensors[i].bytes; /* all of them lie in the file: no overflow */
        }
    }
    return sum + low;
}

int model_cost(const struct model *model, const struct model_use *use, struct model_cost *ret)
{
    const uint64_t block = kv_block_bytes(model, use->kv);
    const uint64_t blocks_each = use->n_ctx / KV_BLOCK + (use->n_ctx % KV_BLOCK != 0);
    const uint64_t weights = model->header->sections[IMAGE_WEIGHTS].bytes;
    struct step_plan plan;
    uint64_t kv;

    if (use->n_seqs == 0 || use->n_ctx == 0 || use->n_ctx > MODEL_CTX_MAX ||
        use->limits.n_tokens_max == 0 || use->limits.n_logits_max == 0 ||
        __builtin_mul_overflow(block * blocks_each, (uint64_t)use->n_seqs, &kv) ||
        !step_plan(&plan, model, &use->limits, use->n_threads)) {
        return -EINVAL;
    }
    *ret = (struct model_cost){
        .weights = weights,
        .tables = model->file.size - weights,
        .kv = kv,
        .scratch = plan.total,
        .sampler = sampler_bytes(vocab_size(model->vocab)),
        .token_weights = token_weights(model),
        .token_kv = block / KV_BLOCK * use->n_ctx,
    };
    return 0;
}
