/* Malformed GGUF files, and what is expected of each.
 *
 * Goal: no file crashes, hangs or takes memory beyond its size; each is refused or loaded as its
 * record says. Method: every file goes through the whole packer; what loads must then end a short
 * generation. Skipped, loudly, without the reference data. */
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/engine.h"

#define SKIP 77
#define N_TOKENS 8u

static void must(bool ok, const char *what)
{
    if (!ok) {
        printf("cannot %s\n", what);
        exit(1);
    }
}

/* A few tokens, greedy; logits that are not finite end it early, which is a good end too. */
static void generate(const struct model *model)
{
    const struct engine_options options = {.cpu = cpu_level_best(), .n_threads = 1};
    const struct stepper_limits limits = {.n_tokens_max = N_TOKENS, .n_logits_max = 1};
    const struct sampler_params params = {.top_p = 1, .repeat_penalty = 1};
    const uint32_t n_vocab = vocab_size(model_vocab(model));
    struct sampler_choice choice = {.id = (int32_t)(n_vocab / 2)};
    struct step_item it = {.ids = &choice.id, .n_ids = 1, .n_logits = 1};
    struct engine *engine;
    struct kv_pool *pool;
    struct stepper *stepper;
    struct sampler *sampler;

    must(engine_new(&engine, &options) == 0 && kv_pool_new(&pool, model, KV_F16, 1) == 0 &&
             stepper_new(&stepper, engine, model, &limits) == 0 &&
             sampler_new(&sampler, n_vocab) == 0 && seq_new(&it.seq, pool, N_TOKENS) == 0,
         "set a generation up");
    for (size_t i = 0; i < N_TOKENS; i++) {
        must(stepper_run(stepper, &it, 1, NULL) == STEP_OK, "run a step");
        if (sampler_pick(sampler, &params, it.logits, NULL, 0, i + 1, 0, &choice) != SAMPLER_OK) {
            break;
        }
    }
    seq_free(it.seq);
    sampler_free(sampler);
    stepper_free(stepper);
    kv_pool_free(pool);
    engine_free(engine);
}

static bool check_file(const char *path, const char *name, const char *expect)
{
    const struct model_limits limits = {.bytes_max = 1u << 20};
    struct model *model = NULL;
    struct diag d = {0};
    const int fd = open(path, O_RDONLY | O_CLOEXEC);

    must(fd >= 0, "open a file");
    const int r = model_open_gguf(&model, fd, &limits, &d);
    (void)close(fd);
    const bool loads = r == MODEL_OK;
    bool ok = r >= 0 && (loads || (d.set && d.text[0] != '\0'));
    if (loads) {
        generate(model);
        ok = ok && model_verify(model, &d) == MODEL_OK;
        model_free(model);
    }
    ok =
        ok && !(strcmp(expect, "load") == 0 && !loads) && !(strcmp(expect, "reject") == 0 && loads);
    printf("%s %s (%s): %d %s\n", ok ? "ok  " : "FAIL", name, expect, r, d.text);
    return ok;
}

int main(void)
{
    const char *root = getenv("ONEBIT_SHARED");
    char path[4096];
    size_t n_failed = 0, i;
    json_t *file;

    must(root != NULL, "read ONEBIT_SHARED");
    (void)snprintf(path, sizeof(path), "%s/oracle/bad/index.json", root);
    json_t *index = json_load_file(path, 0, NULL);
    if (!index) {
        printf("SKIPPED: %s is absent\n", path);
        return SKIP;
    }
    must(json_array_size(index) > 100, "find the files");
    json_array_foreach(index, i, file)
    {
        const char *name = json_string_value(json_object_get(file, "file"));
        (void)snprintf(path, sizeof(path), "%s/oracle/bad/%s", root, name);
        n_failed += !check_file(path, name, json_string_value(json_object_get(file, "expect")));
    }
    printf("%zu files, %zu failed\n", json_array_size(index), n_failed);
    json_decref(index);
    return n_failed == 0 ? 0 : 1;
}
