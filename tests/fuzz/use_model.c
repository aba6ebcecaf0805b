#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "tests/fuzz/use.h"

#define N_TOKENS 3u

static void generate(const struct model *model)
{
    const struct engine_options options = {.cpu = cpu_level_best(), .n_threads = 1};
    const struct stepper_limits limits = {.n_tokens_max = N_TOKENS, .n_logits_max = 1};
    const struct sampler_params params = {
        .temperature = 0.7f, .top_k = 20, .top_p = 0.9f, .repeat_penalty = 1.1f};
    const uint32_t n_vocab = vocab_size(model_vocab(model));
    int32_t ids[N_TOKENS] = {0, (int32_t)(n_vocab / 2), (int32_t)(n_vocab - 1)};
    struct step_item it = {.ids = ids, .n_ids = 1, .n_logits = 1};
    struct engine *engine = NULL;
    struct kv_pool *pool = NULL;
    struct stepper *stepper = NULL;
    struct sampler *sampler = NULL;
    struct sampler_choice choice;

    if (engine_new(&engine, &options) == 0 && kv_pool_new(&pool, model, KV_F16, 1) == 0 &&
        stepper_new(&stepper, engine, model, &limits) == 0 && sampler_new(&sampler, n_vocab) == 0 &&
        seq_new(&it.seq, pool, 1) == 0) {
        for (size_t i = 0; i < N_TOKENS; i++) {
            it.ids = &ids[i];
            if (stepper_run(stepper, &it, 1, NULL) != STEP_OK ||
                sampler_pick(sampler, &params, it.logits, ids, i + 1, i + 1, 3, &choice) !=
                    SAMPLER_OK) {
                break;
            }
            if (choice.id < 0 || (uint32_t)choice.id >= n_vocab) {
                abort();
            }
            seq_rewind(it.seq, 0);
        }
    }
    seq_free(it.seq);
    sampler_free(sampler);
    stepper_free(stepper);
    kv_pool_free(pool);
    engine_free(engine);
}

void use_model(const struct model *model)
{
    struct model_info info;
    struct model_tensor tensor;
    size_t n = 0;

    model_info(model, &info);
    for (size_t i = 0; i < model_tensor_count(model); i++) {
        model_tensor(model, i, &tensor);
        n += strlen(tensor.name) + strlen(tensor.format);
    }
    n += strlen(info.name) + strlen(info.formats);
    if (n > 0 && info.n_embd <= 4096 && info.n_ff <= 4096 && info.n_layer <= 16) {
        generate(model); /* larger ones would only be slow */
    }
}
