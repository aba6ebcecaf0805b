#include "engine/pack_facts.h"

#include <stdio.h>
#include <string.h>

#include "engine/gguf.h"
#include "engine/image_write.h"
#include "engine/requant.h"
#include "engine/requant_made.h"

static bool is_matrix(const struct image_parts *p, size_t i)
{
    return p->tensors[i].bytes != 0 && !role_is_vector(image_role(i));
}

/* ---- quantization ---- */

static bool tensor_is_ternary(const struct image_parts *p, size_t i)
{
    const struct gguf_tensor_info *t = p->source[i].info;
    const enum format f = p->source[i].format;
    const size_t row_bytes = format_row_bytes(f, (size_t)t->dims[0]);

    for (uint64_t row = 0; row < t->dims[1]; row++) {
        if (!format_row_is_ternary(f, p->data + t->offset + row * row_bytes, (size_t)t->dims[0])) {
            return false;
        }
    }
    return true;
}

/* The name that a format alone gives its matrices; two-bit formats get theirs from all of them
 * together. */
static enum quantization quantization_of(enum format f)
{
    static const enum quantization of_format[FORMATS] = {
        [FORMAT_F32] = QUANT_F32,    [FORMAT_F16] = QUANT_F16,     [FORMAT_BF16] = QUANT_BF16,
        [FORMAT_Q8_0] = QUANT_INT8,  [FORMAT_Q1_0] = QUANT_BINARY, [FORMAT_Q4_0] = QUANT_INT4,
        [FORMAT_Q4_1] = QUANT_INT4,  [FORMAT_Q4_K] = QUANT_INT4,   [FORMAT_Q5_0] = QUANT_OTHER,
        [FORMAT_Q5_K] = QUANT_OTHER, [FORMAT_Q6_K] = QUANT_OTHER,
    };

    return format_info(f)->two_bit ? QUANT_TERNARY : of_format[f];
}

enum quantization pack_quantization(const struct image_parts *p)
{
    enum quantization all = QUANTS;
    enum format first = FORMATS;
    bool ternary = true;

    for (size_t i = ROLES_GLOBAL; i < p->n_tensors; i++) {
        if (!is_matrix(p, i)) {
            continue;
        }
        const enum format f = p->source[i].format;
        const enum quantization q = quantization_of(f);
        if (all == QUANTS) {
            all = q;
            first = f;
        }
        if (q != all || (q == QUANT_OTHER && f != first)) {
            return QUANT_MIXED;
        }
        ternary = ternary && (q != QUANT_TERNARY || tensor_is_ternary(p, i));
    }
    return ternary ? all : QUANT_OTHER;
}

enum quantization pack_made_as(const struct gguf *g, enum quantization q)
{
    struct strview method;

    if (gguf_str(g, REQUANT_METHOD_KEY, &method, NULL) != GGUF_FOUND) {
        return q;
    }
    return q == QUANT_INT4 && strview_is(method, requant_method_name(REQUANT_GPTQ))  ? QUANT_GPTQ
           : q == QUANT_INT8 && strview_is(method, requant_method_name(REQUANT_AWQ)) ? QUANT_AWQ
                                                                                     : q;
}

/* ---- formats ---- */

static size_t append_by_size(uint64_t bytes[FORMATS], char *ret, size_t at)
{
    for (;;) {
        unsigned most = 0;
        for (unsigned f = 1; f < FORMATS; f++) {
            most = bytes[f] > bytes[most] ? f : most;
        }
        if (bytes[most] == 0) {
            return at;
        }
        bytes[most] = 0;
        at += (size_t)snprintf(ret + at, PACK_FORMATS_BYTES - at, "%s%s", at ? "+" : "",
                               format_info((enum format)most)->name);
    }
}

void pack_formats(const struct image_parts *p, enum input_form inputs, char ret[PACK_FORMATS_BYTES])
{
    uint64_t of_layers[FORMATS] = {0}, of_ends[FORMATS] = {0};
    size_t at = 0;

    for (size_t i = 0; i < p->n_tensors; i++) {
        if (is_matrix(p, i)) {
            (i < ROLES_GLOBAL ? of_ends : of_layers)[p->tensors[i].format] += p->tensors[i].bytes;
        }
    }
    for (unsigned f = 0; f < FORMATS; f++) {
        of_ends[f] = of_layers[f] ? 0 : of_ends[f];
    }
    ret[0] = '\0';
    at = append_by_size(of_layers, ret, at);
    at = append_by_size(of_ends, ret, at);
    if (inputs != INPUTS_FORMAT) {
        (void)snprintf(ret + at, PACK_FORMATS_BYTES - at, "+%s-activations", inputs_name(inputs));
    }
}
