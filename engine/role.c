#include "engine/role.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/arch.h"
#include "engine/shape.h"

static const char *const names[ROLES] = {
    [ROLE_EMBD] = "token_embd.weight",
    [ROLE_OUTPUT_NORM] = "output_norm.weight",
    [ROLE_OUTPUT] = "output.weight",
    [ROLE_ATTN_NORM] = "attn_norm.weight",
    [ROLE_Q] = "attn_q.weight",
    [ROLE_K] = "attn_k.weight",
    [ROLE_V] = "attn_v.weight",
    [ROLE_O] = "attn_output.weight",
    [ROLE_Q_BIAS] = "attn_q.bias",
    [ROLE_K_BIAS] = "attn_k.bias",
    [ROLE_V_BIAS] = "attn_v.bias",
    [ROLE_Q_NORM] = "attn_q_norm.weight",
    [ROLE_K_NORM] = "attn_k_norm.weight",
    [ROLE_ATTN_SUB_NORM] = "attn_sub_norm.weight",
    [ROLE_FFN_NORM] = "ffn_norm.weight",
    [ROLE_GATE] = "ffn_gate.weight",
    [ROLE_UP] = "ffn_up.weight",
    [ROLE_DOWN] = "ffn_down.weight",
    [ROLE_FFN_SUB_NORM] = "ffn_sub_norm.weight",
    [ROLE_ATTN_THRESHOLD] = "attn_norm.threshold",
    [ROLE_O_THRESHOLD] = "attn_output.threshold",
    [ROLE_FFN_THRESHOLD] = "ffn_norm.threshold",
    [ROLE_DOWN_THRESHOLD] = "ffn_down.threshold",
};

const char *role_name(enum role r)
{
    return names[r];
}

void role_full_name(enum role r, size_t layer, char ret[ROLE_NAME_BYTES])
{
    if (r < ROLES_GLOBAL) {
        (void)snprintf(ret, ROLE_NAME_BYTES, "%s", names[r]);
    } else {
        (void)snprintf(ret, ROLE_NAME_BYTES, "blk.%zu.%s", layer, names[r]);
    }
}

void role_scale_name(enum role r, size_t layer, char ret[ROLE_NAME_BYTES])
{
    role_full_name(r, layer, ret);
    (void)snprintf(strrchr(ret, '.'), strlen(".weight") + 1, ".scale");
}

bool role_is_threshold(enum role r)
{
    return r >= ROLE_ATTN_THRESHOLD && r <= ROLE_DOWN_THRESHOLD;
}

bool role_is_vector(enum role r)
{
    switch (r) {
    case ROLE_OUTPUT_NORM:
    case ROLE_ATTN_NORM:
    case ROLE_Q_BIAS:
    case ROLE_K_BIAS:
    case ROLE_V_BIAS:
    case ROLE_Q_NORM:
    case ROLE_K_NORM:
    case ROLE_ATTN_SUB_NORM:
    case ROLE_FFN_NORM:
    case ROLE_FFN_SUB_NORM:
    case ROLE_ATTN_THRESHOLD:
    case ROLE_O_THRESHOLD:
    case ROLE_FFN_THRESHOLD:
    case ROLE_DOWN_THRESHOLD:
        return true;
    default:
        return false;
    }
}

bool role_dims(const struct shape *s, enum role r, uint64_t *ret_cols, uint64_t *ret_rows)
{
    const struct arch_info *arch = arch_info((enum arch)s->arch);
    const uint64_t q = (uint64_t)s->n_head * s->head_dim, kv = (uint64_t)s->n_head_kv * s->head_dim;
    const bool signs = s->inputs == INPUTS_BINARY;
    const struct {
        bool present;
        uint64_t cols, rows;
    } dims[ROLES] = {
        [ROLE_EMBD] = {true, s->n_embd, s->n_vocab},
        [ROLE_OUTPUT_NORM] = {true, s->n_embd, 1},
        [ROLE_OUTPUT] = {true, s->n_embd, s->n_vocab},
        [ROLE_ATTN_NORM] = {true, s->n_embd, 1},
        [ROLE_Q] = {true, s->n_embd, q},
        [ROLE_K] = {true, s->n_embd, kv},
        [ROLE_V] = {true, s->n_embd, kv},
        [ROLE_O] = {true, q, s->n_embd},
        [ROLE_Q_BIAS] = {arch->qkv_bias, q, 1},
        [ROLE_K_BIAS] = {arch->qkv_bias, kv, 1},
        [ROLE_V_BIAS] = {arch->qkv_bias, kv, 1},
        [ROLE_Q_NORM] = {arch->qk_norm, s->head_dim, 1},
        [ROLE_K_NORM] = {arch->qk_norm, s->head_dim, 1},
        [ROLE_ATTN_SUB_NORM] = {arch->sub_norms, q, 1},
        [ROLE_FFN_NORM] = {true, s->n_embd, 1},
        [ROLE_GATE] = {true, s->n_embd, s->n_ff},
        [ROLE_UP] = {true, s->n_embd, s->n_ff},
        [ROLE_DOWN] = {true, s->n_ff, s->n_embd},
        [ROLE_FFN_SUB_NORM] = {arch->sub_norms, s->n_ff, 1},
        [ROLE_ATTN_THRESHOLD] = {signs, s->n_embd, 1},
        [ROLE_O_THRESHOLD] = {signs, q, 1},
        [ROLE_FFN_THRESHOLD] = {signs, s->n_embd, 1},
        [ROLE_DOWN_THRESHOLD] = {signs, s->n_ff, 1},
    };

    if (r >= ROLES || !dims[r].present) {
        return false;
    }
    *ret_cols = dims[r].cols;
    *ret_rows = dims[r].rows;
    return true;
}

/* What follows "blk.N." when N is a layer of this shape; else "". */
static const char *in_layers(const struct shape *s, const char *name)
{
    char *end = NULL;

    if (strncmp(name, "blk.", 4) != 0 || name[4] < '0' || name[4] > '9' ||
        (name[4] == '0' && name[5] != '.')) {
        return "";
    }
    const unsigned long layer = strtoul(name + 4, &end, 10);
    return layer < s->n_layer && *end == '.' ? end + 1 : "";
}

bool role_of_name(const struct shape *s, const char *name, enum role *ret)
{
    uint64_t cols, rows;

    for (unsigned r = 0; r < ROLES; r++) {
        const char *tail = name, *dot = strrchr(names[r], '.');
        if (r >= ROLES_GLOBAL) {
            tail = in_layers(s, name);
        }
        const size_t stem = (size_t)(dot - names[r]);
        const bool scale = arch_info((enum arch)s->arch)->weight_scales && r >= ROLES_GLOBAL &&
                           !role_is_vector((enum role)r) && strncmp(tail, names[r], stem) == 0 &&
                           strcmp(tail + stem, ".scale") == 0;
        if ((scale || strcmp(tail, names[r]) == 0) && role_dims(s, (enum role)r, &cols, &rows)) {
            *ret = (enum role)r;
            return true;
        }
    }
    return false;
}
