#include "engine/arch.h"

#include <assert.h>

static const struct arch_info infos[ARCHES] = {
    [ARCH_LLAMA] = {.name = "llama", .pairs = PAIRS_NEIGHBOURS},
    [ARCH_QWEN3] = {.name = "qwen3", .pairs = PAIRS_HALVES, .qk_norm = true},
    [ARCH_QWEN2] = {.name = "qwen2", .pairs = PAIRS_HALVES, .qkv_bias = true},
    [ARCH_BITNET] = {.name = "bitnet",
                     .pairs = PAIRS_HALVES,
                     .sub_norms = true,
                     .bitlinear = true,
                     .weight_scales = true},
    [ARCH_BITNET_158] = {.name = "bitnet-b1.58",
                         .pairs = PAIRS_HALVES,
                         .activation = ACTIVATION_RELU2,
                         .sub_norms = true,
                         .bitlinear = true},
    [ARCH_BITNET_25] = {.name = "bitnet-25",
                        .pairs = PAIRS_HALVES,
                        .activation = ACTIVATION_RELU2,
                        .sub_norms = true,
                        .bitlinear = true},
    [ARCH_MINICPM] = {.name = "minicpm", .pairs = PAIRS_NEIGHBOURS, .stream_scales = true},
};

const struct arch_info *arch_info(enum arch a)
{
    assert(a < ARCHES);
    return &infos[a];
}

bool arch_of_name(struct strview name, enum arch *ret)
{
    for (unsigned a = 0; a < ARCHES; a++) {
        if (strview_is(name, infos[a].name)) {
            *ret = (enum arch)a;
            return true;
        }
    }
    return false;
}

const char *arch_names(void)
{
    return "llama, qwen2, qwen3, bitnet, bitnet-b1.58, bitnet-25, minicpm";
}
