/* GGUF in, packed image out: what of the file the image is made of.
 *
 * Everything is checked before the first byte is written: keys, then for every role of the graph
 * the tensor that fills it, then the vocabulary. image_write() does the writing. */
#include "engine/engine.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>

#include "base/buf.h"
#include "base/filemap.h"
#include "engine/format.h"
#include "engine/gguf.h"
#include "engine/head.h"
#include "engine/image.h"
#include "engine/image_write.h"
#include "engine/pack_facts.h"
#include "engine/tensor_format.h"
#include "engine/text/chat.h"
#include "engine/text/vocab.h"

#define NAME_BYTES_MAX 255u

struct packer {
    const struct gguf *g;
    struct diag *d;
    struct shape shape;
    double *inv_freq; /* owned: (n_rot / 2) */
    struct tensor_spaces spaces;
    struct image_source *source;  /* owned: (n_tensors) */
    struct image_tensor *tensors; /* owned: (n_tensors) */
    size_t n_tensors;
    struct image_head head_low;
    uint64_t weight_bytes; /* of the packed form */
    uint64_t source_bytes; /* of the tensors that are packed */
    struct buf meta, vocab;
};

/* ---- tensors ---- */

static size_t layer_of(size_t i)
{
    return i < ROLES_GLOBAL ? 0 : (i - ROLES_GLOBAL) / ROLES_LAYER;
}

/* Does the tensor have these dimensions, a format of ours, and its bytes inside the file? Tensors
 * may share bytes, but not so many that a small file unfolds into a large model. */
static int check_tensor(struct packer *p, const struct gguf_tensor_info *t, uint64_t n_cols,
                        uint64_t n_rows, enum format *ret)
{
    uint64_t bytes;

    if (t->dims[0] != n_cols || t->dims[1] != n_rows || t->dims[2] != 1 || t->dims[3] != 1) {
        diag_set(p->d, t->info_offset,
                 "tensor %.*s is %" PRIu64 " x %" PRIu64 ", should be %" PRIu64 " x %" PRIu64,
                 (int)t->name.n, t->name.data, t->dims[0], t->dims[1], n_cols, n_rows);
        return MODEL_MALFORMED;
    }
    const int r = tensor_format(p->g, &p->spaces, t, ret, p->d);
    if (r != MODEL_OK) {
        return r;
    }
    if (!format_tensor_bytes(*ret, n_cols, n_rows, &bytes) ||
        bytes > p->g->size - p->source_bytes) {
        diag_set(p->d, t->info_offset, "tensor %.*s: all tensors together are larger than the file",
                 (int)t->name.n, t->name.data);
        return MODEL_MALFORMED;
    }
    p->source_bytes += bytes;
    return MODEL_OK;
}

static bool same_bytes(const struct packer *p, const struct gguf_tensor_info *a,
                       const struct gguf_tensor_info *b)
{
    const enum format f = p->source[ROLE_EMBD].format;
    uint64_t bytes;

    return a->type == b->type && format_tensor_bytes(f, b->dims[0], b->dims[1], &bytes) &&
           bytes <= p->g->size - a->offset &&
           memcmp(p->g->data + a->offset, p->g->data + b->offset, (size_t)bytes) == 0;
}

/* The number that may stand beside a matrix of 1bitLLM's files and multiplies its product. */
static int read_scale(const struct packer *p, enum role role, size_t layer, float *ret)
{
    char name[ROLE_NAME_BYTES];

    *ret = 1;
    if (role < ROLES_GLOBAL || role_is_vector(role) ||
        !arch_info((enum arch)p->shape.arch)->weight_scales) {
        return MODEL_OK;
    }
    role_scale_name(role, layer, name);
    const struct gguf_tensor_info *t = gguf_tensor_find(p->g, name);
    if (!t) {
        return MODEL_OK;
    }
    if (t->type != format_info(FORMAT_F32)->id || t->dims[0] != 1 || t->dims[1] != 1 ||
        t->dims[2] != 1 || t->dims[3] != 1 || sizeof(*ret) > p->g->size - t->offset) {
        diag_set(p->d, t->info_offset, "tensor %s is no single F32", name);
        return MODEL_MALFORMED;
    }
    memcpy(ret, p->g->data + t->offset, sizeof(*ret));
    if (!isfinite(*ret)) {
        diag_set(p->d, t->offset, "tensor %s is no finite number", name);
        return MODEL_MALFORMED;
    }
    return MODEL_OK;
}

/* Thresholds are numbers to compare with: floats as they are, and finite. */
static int check_threshold(const struct packer *p, const struct gguf_tensor_info *t, enum format f)
{
    if (f != FORMAT_F32) {
        diag_set(p->d, t->info_offset, "tensor %.*s is no F32", (int)t->name.n, t->name.data);
        return MODEL_MALFORMED;
    }
    for (uint64_t i = 0; i < t->dims[0]; i++) {
        float x;
        memcpy(&x, p->g->data + t->offset + i * sizeof(x), sizeof(x));
        if (!isfinite(x)) {
            diag_set(p->d, t->offset + i * sizeof(x),
                     "tensor %.*s: number %" PRIu64 " is not finite", (int)t->name.n, t->name.data,
                     i);
            return MODEL_MALFORMED;
        }
    }
    return MODEL_OK;
}

/* What the key onebit.activations asks of a tensor of a layer. */
static int check_inputs(const struct packer *p, enum role role, const struct gguf_tensor_info *t,
                        enum format f)
{
    if (role_is_threshold(role)) {
        return check_threshold(p, t, f);
    }
    if (p->shape.inputs == INPUTS_INT8 && role >= ROLES_GLOBAL && !role_is_vector(role) &&
        format_info(f)->panel == PANEL_NONE && t->dims[0] % ACT_BLOCK != 0) {
        diag_set(p->d, t->info_offset,
                 "tensor %.*s: rows of %" PRIu64 " are no whole blocks of %d activations",
                 (int)t->name.n, t->name.data, t->dims[0], ACT_BLOCK);
        return MODEL_UNSUPPORTED;
    }
    return MODEL_OK;
}

/* Find what fills entry i of the tensor table and give it its place. */
static int place_tensor(struct packer *p, size_t i)
{
    struct image_tensor *it = &p->tensors[i];
    const enum role role = image_role(i);
    uint64_t n_cols, n_rows;
    char name[ROLE_NAME_BYTES];
    enum format f;

    if (!role_dims(&p->shape, role, &n_cols, &n_rows)) {
        return MODEL_OK; /* not a part of this graph */
    }
    role_full_name(role, layer_of(i), name);
    const struct gguf_tensor_info *t = gguf_tensor_find(p->g, name);
    if (!t) {
        if (role == ROLE_OUTPUT) {
            return MODEL_OK; /* the embedding is the head */
        }
        diag_set(p->d, p->g->infos_end, "tensor %s is missing", name);
        return MODEL_MALFORMED;
    }
    int r = check_tensor(p, t, n_cols, n_rows, &f);
    if (r == MODEL_OK) {
        r = check_inputs(p, role, t, f);
    }
    if (r != MODEL_OK) {
        return r;
    }
    if (role == ROLE_OUTPUT && same_bytes(p, t, p->source[ROLE_EMBD].info)) {
        return MODEL_OK; /* the embedding again, as early BitNet files have it */
    }
    const int scaled = read_scale(p, role, layer_of(i), &it->scale);
    if (scaled != MODEL_OK) {
        return scaled;
    }
    it->format = role_is_vector(role) ? FORMAT_F32 : f;
    if (!format_packed_bytes((enum format)it->format, n_cols, n_rows, &it->bytes) ||
        it->bytes > INT64_MAX / 2 - p->weight_bytes) {
        diag_set(p->d, t->info_offset, "tensor %s is too large", name);
        return MODEL_TOO_BIG;
    }
    it->offset = p->weight_bytes;
    p->weight_bytes += (it->bytes + IMAGE_ALIGN - 1) & ~(uint64_t)(IMAGE_ALIGN - 1);
    p->source[i] = (struct image_source){.info = t,
                                         .format = f,
                                         .signs = shape_signs(&p->shape, role) &&
                                                  format_info(f)->panel == PANEL_B1};
    return MODEL_OK;
}

static int place_tensors(struct packer *p)
{
    p->n_tensors = image_tensor_count(p->shape.n_layer);
    p->source = calloc(p->n_tensors, sizeof(*p->source));
    p->tensors = calloc(p->n_tensors, sizeof(*p->tensors));
    if (!p->source || !p->tensors || tensor_spaces_init(&p->spaces, p->g) < 0) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < p->n_tensors; i++) {
        const int r = place_tensor(p, i);
        if (r != MODEL_OK) {
            return r;
        }
    }
    return MODEL_OK;
}

/* The head's copy comes after everything else. */
static int place_head_low(struct packer *p)
{
    const struct image_source *own =
        &p->source[p->source[ROLE_OUTPUT].info ? ROLE_OUTPUT : ROLE_EMBD];
    const uint64_t n_cols = own->info->dims[0], n_rows = own->info->dims[1];
    struct image_head head = {.copy = {.format = HEAD_LOW_FORMAT, .offset = p->weight_bytes}};

    if (!head_low_bytes(own->format, n_cols, n_rows, &head.copy.bytes) ||
        head.copy.bytes > INT64_MAX / 2 - p->weight_bytes) {
        return MODEL_OK;
    }
    const int r = head_survey(own->format, p->g->data + own->info->offset, (size_t)n_cols, n_rows,
                              &head.copy.scale, &head.norm_max);
    if (r <= 0) {
        return r;
    }
    p->head_low = head;
    p->weight_bytes += head.copy.bytes;
    return MODEL_OK;
}

static bool in_graph(const struct packer *p, const char *name)
{
    static const char *const of_rope[] = {"rope_freqs.weight", "rope_factors_short.weight",
                                          "rope_factors_long.weight"};
    enum role role;

    for (size_t i = 0; i < ARRAY_SIZE(of_rope); i++) {
        if (strcmp(name, of_rope[i]) == 0) {
            return true;
        }
    }
    return role_of_name(&p->shape, name, &role);
}

/* A threshold, in a file that does not say what for. */
static bool is_lone_threshold(const struct packer *p, const char *name)
{
    const char *dot = strrchr(name, '.');

    return p->shape.inputs != INPUTS_BINARY && dot && strcmp(dot, ".threshold") == 0;
}

/* A tensor inside a layer, or at the ends of the graph, that this engine does not apply (a bias, a
 * scale, an expert) would be missing from every answer, so the file is refused by its name. Others
 * cannot matter to the graph and are left alone. */
static int refuse_foreign_tensors(const struct packer *p)
{
    static const char *const of_the_graph[] = {"blk.", "output", "token_embd", "position_embd",
                                               "rope_"};

    for (size_t i = 0; i < p->g->n_tensors; i++) {
        const struct gguf_tensor_info *t = &p->g->tensors[i];
        char name[GGUF_NAME_BYTES_MAX + 6] = {0};

        memcpy(name, t->name.data, t->name.n);
        for (size_t k = 0; k < ARRAY_SIZE(of_the_graph); k++) {
            if (strview_starts(t->name, of_the_graph[k]) && !in_graph(p, name)) {
                if (is_lone_threshold(p, name)) {
                    diag_set(p->d, t->info_offset,
                             "tensor %s is a threshold, and key onebit.activations is not %s", name,
                             inputs_name(INPUTS_BINARY));
                    return MODEL_MALFORMED;
                }
                diag_set(p->d, t->info_offset, "tensor %s is unsupported in architecture %s", name,
                         arch_info((enum arch)p->shape.arch)->name);
                return MODEL_UNSUPPORTED;
            }
        }
    }
    return MODEL_OK;
}

/* ---- facts for model_info() ---- */

static struct image_parts parts_of(const struct packer *p)
{
    return (struct image_parts){
        .meta = &p->meta,
        .vocab = &p->vocab,
        .tensors = p->tensors,
        .source = p->source,
        .n_tensors = p->n_tensors,
        .head_low = &p->head_low,
        .data = p->g->data,
    };
}

static float sampling_f32(const struct packer *p, const char *key, float min, float max)
{
    float v;

    if (gguf_f32(p->g, key, &v, NULL) != GGUF_FOUND || !(v >= min && v <= max)) {
        return -1.0f;
    }
    return v;
}

static int read_facts(const struct packer *p, struct image_meta *m)
{
    uint32_t top_k;
    bool has_chat;

    m->temperature = sampling_f32(p, "general.sampling.temp", 0, 10);
    m->top_p = sampling_f32(p, "general.sampling.top_p", 1e-6f, 1);
    m->min_p = sampling_f32(p, "general.sampling.min_p", 0, 0.999f);
    m->top_k = -1;
    if (gguf_u32(p->g, "general.sampling.top_k", &top_k, NULL) == GGUF_FOUND &&
        top_k <= INT32_MAX) {
        m->top_k = (int32_t)top_k;
    }
    m->chat = (uint32_t)chat_of_gguf(p->g, &has_chat);
    m->has_chat = has_chat;
    for (size_t i = 0; i < p->g->n_tensors; i++) {
        const struct gguf_tensor_info *t = &p->g->tensors[i];
        const uint64_t n = t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3];
        if (__builtin_add_overflow(m->n_params, n, &m->n_params)) {
            diag_set(p->d, t->info_offset, "the file has more than 2^64 weights");
            return MODEL_MALFORMED;
        }
    }
    m->shape = p->shape;
    m->head_low = p->head_low;
    m->gguf_bytes = p->g->size;
    const struct image_parts parts = parts_of(p);
    m->quantization = pack_made_as(p->g, pack_quantization(&parts));
    return MODEL_OK;
}

/* ---- META ---- */

/* Add a string cut at its first NUL, and return its offset. */
static int add_string(struct buf *strings, struct strview s, uint32_t *ret_at)
{
    const size_t n = s.n > 0 ? strnlen(s.data, s.n < NAME_BYTES_MAX ? s.n : NAME_BYTES_MAX) : 0;

    *ret_at = (uint32_t)strings->n;
    const int r = buf_append(strings, s.data, n);
    return r < 0 ? r : buf_append(strings, "", 1);
}

static int add_infos(const struct packer *p, struct buf *out, struct buf *strings)
{
    for (size_t i = 0; i < p->g->n_tensors; i++) {
        const struct gguf_tensor_info *t = &p->g->tensors[i];
        enum format f = FORMATS;
        (void)(tensor_format(p->g, &p->spaces, t, &f, NULL) == MODEL_OK);
        struct image_info info = {
            .id = t->type,
            .format = (uint32_t)f,
            .n_cols = t->dims[0],
            .n_rows = t->dims[1] * t->dims[2] * t->dims[3],
        };
        int r = add_string(strings, t->name, &info.name_at);
        if (r == 0) {
            r = buf_append(out, &info, sizeof(info));
        }
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int build_meta(struct packer *p)
{
    struct image_meta m = {.n_inv_freq = p->shape.n_rot / 2,
                           .n_tensors = (uint32_t)p->n_tensors,
                           .n_infos = (uint32_t)p->g->n_tensors};
    struct strview name = {0};
    struct buf infos, strings;
    const struct image_parts parts = parts_of(p);
    char formats[PACK_FORMATS_BYTES];
    int r;

    buf_init(&infos, IMAGE_META_BYTES_MAX);
    buf_init(&strings, IMAGE_META_BYTES_MAX);
    r = read_facts(p, &m);
    if (r != MODEL_OK) {
        goto out;
    }
    if (gguf_str(p->g, "general.name", &name, NULL) != GGUF_FOUND) {
        name = strview_of("");
    }
    pack_formats(&parts, (enum input_form)p->shape.inputs, formats);
    if ((r = add_string(&strings, name, &m.name_at)) < 0 ||
        (r = add_string(&strings, strview_of(formats), &m.formats_at)) < 0 ||
        (r = add_infos(p, &infos, &strings)) < 0) {
        goto out;
    }
    m.n_string_bytes = (uint32_t)strings.n;
    if ((r = buf_append(&p->meta, &m, sizeof(m))) < 0 ||
        (r = buf_append(&p->meta, p->inv_freq, m.n_inv_freq * sizeof(*p->inv_freq))) < 0 ||
        (r = buf_append(&p->meta, p->tensors, p->n_tensors * sizeof(*p->tensors))) < 0 ||
        (r = buf_append(&p->meta, infos.data, infos.n)) < 0 ||
        (r = buf_append(&p->meta, strings.data, strings.n)) < 0) {
        goto out;
    }
    r = MODEL_OK;
out:
    buf_deinit(&infos);
    buf_deinit(&strings);
    return r;
}

/* ---- the whole ---- */

/* A vocabulary alone is a sound file (vocab_open_gguf() reads it), but nothing to run. */
static int refuse_no_weights(const struct packer *p)
{
    if (p->g->n_tensors == 0 && gguf_find(p->g, "tokenizer.ggml.tokens")) {
        diag_set(p->d, 8, "the file has a vocabulary and no weights");
        return MODEL_UNSUPPORTED;
    }
    return MODEL_OK;
}

/* The weights are most of it, and known to the byte; the rest is rounded up. */
static uint64_t image_bytes(const struct packer *p)
{
    return p->weight_bytes + p->meta.n + p->vocab.n + sizeof(struct image_header) +
           (uint64_t)IMAGE_ALIGN * (IMAGE_SECTIONS + 1);
}

/* Better before the first byte than after the last that fits. */
static int check_room(const struct packer *p, int fd_out)
{
    const uint64_t need = image_bytes(p);
    struct statfs fs;

    if (fstatfs(fd_out, &fs) < 0 || fs.f_blocks == 0) {
        return 0; /* a file system without bounds, or one that does not say: the writing will */
    }
    const uint64_t room = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
    if (room >= need) {
        return 0;
    }
    diag_set(p->d, need, "%" PRIu64, room);
    return -ENOSPC;
}

static int pack(struct packer *p, int fd_out)
{
    int r;

    if ((r = refuse_no_weights(p)) != MODEL_OK ||
        (r = shape_read(p->g, &p->shape, &p->inv_freq, p->d)) != MODEL_OK ||
        (r = refuse_foreign_tensors(p)) != MODEL_OK || (r = place_tensors(p)) != MODEL_OK ||
        (r = place_head_low(p)) != MODEL_OK ||
        (r = vocab_pack(p->g, &p->vocab, p->d)) != MODEL_OK || (r = build_meta(p)) != MODEL_OK) {
        return r;
    }
    r = check_room(p, fd_out);
    if (r < 0) {
        return r;
    }
    const struct image_parts parts = parts_of(p);
    return image_write(&parts, fd_out);
}

int model_pack(int fd_in, int fd_out, const struct model_limits *limits, struct diag *ret_diag)
{
    struct filemap file;
    struct gguf g;
    int r;

    r = filemap_open(&file, fd_in);
    if (r < 0) {
        return r;
    }
    if (limits && limits->bytes_max != 0 && file.size > limits->bytes_max) {
        diag_set(ret_diag, limits->bytes_max, "the file has %zu bytes, the limit is %" PRIu64,
                 file.size, limits->bytes_max);
        filemap_close(&file);
        return MODEL_TOO_BIG;
    }
    r = gguf_parse(&g, file.data, file.size, ret_diag);
    if (r == GGUF_OK) {
        struct packer p = {.g = &g, .d = ret_diag};
        buf_init(&p.meta, IMAGE_META_BYTES_MAX);
        buf_init(&p.vocab, IMAGE_VOCAB_BYTES_MAX);
        r = pack(&p, fd_out);
        buf_deinit(&p.meta);
        buf_deinit(&p.vocab);
        free(p.inv_freq);
        free(p.source);
        tensor_spaces_deinit(&p.spaces);
        free(p.tensors);
        gguf_deinit(&g);
    } else if (r > 0) {
        r = MODEL_MALFORMED;
    }
    filemap_close(&file);
    return r;
}

const char *model_pack_id(void)
{
    return IMAGE_PACK_ID;
}
