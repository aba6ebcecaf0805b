/* Fuzz target of model files: any bytes are parsed and packed as the packer does; what packs must
 * open, verify and end a short generation. A file that begins like a packed model is opened as one,
 * as a damaged cache file would be. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/engine.h"

#define FILE_MAX ((size_t)1 << 19)
#define N_TOKENS 3u

static int file_of(const uint8_t *data, size_t n)
{
    const int fd = memfd_create("fuzz", MFD_CLOEXEC);

    if (fd < 0 || (n > 0 && pwrite(fd, data, n, 0) != (ssize_t)n)) {
        abort();
    }
    return fd;
}

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

static void use(const struct model *model)
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const struct model_limits limits = {.bytes_max = FILE_MAX};
    struct model *model = NULL;
    struct diag d = {0};

    if (n > FILE_MAX) {
        return 0;
    }
    const int fd = file_of(data, n);
    if (n >= 8 && memcmp(data, "ONEBITPK", 8) == 0) {
        if (model_open_packed(&model, fd, &d) == MODEL_OK) {
            use(model); /* its weights may be anything: only verifying reads them all */
        }
    } else if (model_open_gguf(&model, fd, &limits, &d) == MODEL_OK) {
        if (model_verify(model, &d) != MODEL_OK) {
            abort(); /* what was just packed is sound */
        }
        use(model);
    } else if (!d.set) {
        abort(); /* a refusal says why */
    }
    model_free(model);
    (void)close(fd);
    return 0;
}
