/* Opening a packed file.
 *
 * The file may have been damaged since it was written, so besides the checksums of header and
 * tables every offset and count is compared with the section it points into; what the step loop
 * then reads cannot leave the map.
 *
 * Header and tables are copied into memory of our own before they are checked: they steer what is
 * done, and stay as they were checked whatever befalls the file. Only weights are left to the map:
 * numbers, of which any are safe to compute with. */
#include "engine/model.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/cursor.h"
#include "base/fdio.h"
#include "engine/engine.h"
#include "engine/head.h"
#include "engine/product.h"
#include "engine/scratch_file.h"
#include "engine/text/vocab.h"

static const char *const section_names[IMAGE_SECTIONS] = {"META", "VOCAB", "WEIGHTS"};

static const char *const quantization_names[QUANTS] = {
    [QUANT_BINARY] = "binary",  [QUANT_TERNARY] = "ternary", [QUANT_INT4] = "int4",
    [QUANT_INT8] = "int8",      [QUANT_F16] = "f16",         [QUANT_BF16] = "bf16",
    [QUANT_F32] = "f32",        [QUANT_MIXED] = "mixed",     [QUANT_OTHER] = "other",
    [QUANT_GPTQ] = "gptq-4bit", [QUANT_AWQ] = "awq-8bit",
};

static int damaged(struct diag *d, uint64_t offset, const char *what)
{
    diag_set(d, offset, "packed file: %s", what);
    return MODEL_MALFORMED;
}

/* ---- header ---- */

static int check_header(const struct model *m, const struct image_header *h, struct diag *d)
{
    uint64_t end = sizeof(*h);

    if (memcmp(h->magic, IMAGE_MAGIC, sizeof(h->magic)) != 0) {
        return damaged(d, 0, "no packed model");
    }
    if (h->version != IMAGE_VERSION || h->header_bytes != sizeof(*h) ||
        strncmp(h->pack_id, IMAGE_PACK_ID, sizeof(h->pack_id)) != 0) {
        diag_set(d, 8, "packed by another version (%.32s), this is %s", h->pack_id, IMAGE_PACK_ID);
        return MODEL_STALE;
    }
    if (h->hash != XXH3_64bits(h, offsetof(struct image_header, hash))) {
        return damaged(d, 0, "the header's checksum is wrong");
    }
    if (h->image_bytes != m->file.size) {
        return damaged(d, 0, "the file is not as long as its header says");
    }
    for (unsigned i = 0; i < IMAGE_SECTIONS; i++) {
        const struct image_section *s = &h->sections[i];
        if (s->offset % IMAGE_ALIGN != 0 || s->offset < end || s->offset > m->file.size ||
            s->bytes > m->file.size - s->offset) {
            return damaged(d, 0, "a section passes the end of the file");
        }
        end = s->offset + s->bytes;
    }
    return MODEL_OK;
}

static int read_header(struct model *m, int fd, struct diag *d)
{
    struct image_header h = {0};
    int r = m->file.size < sizeof(h) ? 0 : fd_read_all_at(fd, &h, sizeof(h), 0);

    if (r < 0 && r != -EIO) {
        return r;
    }
    r = check_header(m, &h, d);
    if (r != MODEL_OK) {
        return r;
    }
    r = filemap_own(&m->file, fd, (size_t)h.sections[IMAGE_WEIGHTS].offset);
    if (r < 0 && r != -EIO) {
        return r;
    }
    m->header = (const struct image_header *)m->file.data;
    return r == -EIO || memcmp(m->header, &h, sizeof(h)) != 0
               ? damaged(d, 0, "it changed while it was read")
               : MODEL_OK;
}

static const uint8_t *weights_of(const struct model *m)
{
    return m->copy.data ? m->copy.data : m->file.data + m->header->sections[IMAGE_WEIGHTS].offset;
}

static int check_section(const struct model *m, unsigned i, struct diag *d)
{
    const struct image_section *s = &m->header->sections[i];
    const uint8_t *data = i == IMAGE_WEIGHTS ? weights_of(m) : m->file.data + s->offset;

    if (XXH3_64bits(data, (size_t)s->bytes) != s->hash) {
        diag_set(d, s->offset, "packed file: the checksum of %s is wrong", section_names[i]);
        return MODEL_MALFORMED;
    }
    return MODEL_OK;
}

/* ---- META ---- */

/* Point at n elements of the section and step over them. */
static const void *take_array(struct cursor *c, uint32_t n, size_t each)
{
    return cursor_take(c, (uint64_t)n * each);
}

static bool string_at_is_sound(const struct model *m, uint32_t at)
{
    return at < m->meta->n_string_bytes; /* and the last byte of all strings is a NUL */
}

static int read_meta(struct model *m, struct diag *d)
{
    const struct image_section *s = &m->header->sections[IMAGE_META];
    struct cursor c = cursor_of(m->file.data + s->offset, (size_t)s->bytes);
    const struct image_meta *meta = (const void *)cursor_take(&c, sizeof(*meta));

    if (!meta || !shape_valid(&meta->shape) || meta->n_inv_freq != meta->shape.n_rot / 2 ||
        meta->n_tensors != image_tensor_count(meta->shape.n_layer) ||
        meta->quantization >= QUANTS || meta->chat >= CHAT_TEMPLATES) {
        return damaged(d, s->offset, "META is broken");
    }
    m->meta = meta;
    m->shape = meta->shape;
    m->inv_freq = take_array(&c, meta->n_inv_freq, sizeof(*m->inv_freq));
    m->tensors = take_array(&c, meta->n_tensors, sizeof(*m->tensors));
    m->infos = take_array(&c, meta->n_infos, sizeof(*m->infos));
    m->strings = take_array(&c, meta->n_string_bytes, 1);
    if (c.bad || meta->n_string_bytes == 0 || m->strings[meta->n_string_bytes - 1] != '\0' ||
        !string_at_is_sound(m, meta->name_at) || !string_at_is_sound(m, meta->formats_at)) {
        return damaged(d, s->offset, "META is broken");
    }
    for (uint32_t i = 0; i < meta->n_inv_freq; i++) {
        if (!(fabs(m->inv_freq[i]) <= SHAPE_INV_FREQ_MAX)) {
            return damaged(d, s->offset, "a rope frequency is out of range");
        }
    }
    for (uint32_t i = 0; i < meta->n_infos; i++) {
        if (!string_at_is_sound(m, m->infos[i].name_at)) {
            return damaged(d, s->offset, "META is broken");
        }
    }
    return MODEL_OK;
}

/* ---- tensors ---- */

/* What a tensor is multiplied with; without meaning for vectors. */
static enum act_kind act_of(const struct shape *s, enum role role, enum format format)
{
    const struct format_info *f = format_info(format);

    if (shape_signs(s, role)) {
        return act_kind_of_signs(f->panel);
    }
    if (f->panel == PANEL_NONE) {
        const bool in_layer = role >= (enum role)ROLES_GLOBAL && !role_is_vector(role);
        return s->inputs == INPUTS_INT8 && in_layer ? ACT_WIDE_32 : ACT_32;
    }
    return act_kind_of(f->panel, arch_info((enum arch)s->arch)->bitlinear && f->two_bit);
}

/* Entry i of the table as a matrix; data stays NULL where it is absent. */
static int read_tensor(const struct model *m, size_t i, struct matrix *ret, struct diag *d)
{
    const struct image_section *s = &m->header->sections[IMAGE_WEIGHTS];
    const struct image_tensor *t = &m->tensors[i];
    const enum role role = image_role(i);
    uint64_t n_cols, n_rows, bytes;

    *ret = (struct matrix){0};
    if (!role_dims(&m->shape, role, &n_cols, &n_rows) || (role == ROLE_OUTPUT && t->bytes == 0)) {
        return t->bytes == 0 ? MODEL_OK : damaged(d, s->offset, "a tensor that the graph has not");
    }
    if (t->format >= FORMATS || (role_is_vector(role) && t->format != FORMAT_F32) ||
        !format_packed_bytes((enum format)t->format, n_cols, n_rows, &bytes) || t->bytes != bytes ||
        t->offset % IMAGE_ALIGN != 0 || t->offset > s->bytes || bytes > s->bytes - t->offset) {
        return damaged(d, s->offset, "a tensor passes the end of the weights");
    }
    if (!isfinite(t->scale)) {
        return damaged(d, s->offset, "a tensor's scale is no number");
    }
    *ret = (struct matrix){.format = (enum format)t->format,
                           .n_cols = (size_t)n_cols,
                           .n_rows = (size_t)n_rows,
                           .data = weights_of(m) + t->offset,
                           .scale = t->scale};
    if (format_info(ret->format)->panel != PANEL_NONE) {
        ret->panel_bytes = format_panel_bytes(ret->format, ret->n_cols);
    }
    ret->act = act_of(&m->shape, role, ret->format);
    if (ret->act == ACT_WIDE_32 && n_cols % ACT_BLOCK != 0) {
        return damaged(d, s->offset, "a tensor's rows are no whole blocks of activations");
    }
    return MODEL_OK;
}

/* The head's copy; m->head is there. */
static int read_head_low(struct model *m, struct diag *d)
{
    const struct image_section *s = &m->header->sections[IMAGE_WEIGHTS];
    const struct image_head *h = &m->meta->head_low;
    const struct image_tensor *t = &h->copy;
    const size_t n_cols = m->head.n_cols, n_rows = m->head.n_rows;
    uint64_t bytes;

    m->head_low = (struct head_low){0};
    if (t->bytes == 0) {
        return MODEL_OK;
    }
    if (!head_low_bytes(m->head.format, n_cols, n_rows, &bytes) || t->bytes != bytes ||
        t->format != HEAD_LOW_FORMAT || t->offset % IMAGE_ALIGN != 0 || t->offset > s->bytes ||
        bytes > s->bytes - t->offset) {
        return damaged(d, s->offset, "the head's copy passes the end of the weights");
    }
    if (!(t->scale > 0 && t->scale <= HEAD_NORM_MAX) ||
        !(h->norm_max >= 0 && h->norm_max <= HEAD_NORM_MAX)) {
        return damaged(d, s->offset, "a number beside the head's copy is out of range");
    }
    const uint8_t *data = weights_of(m) + t->offset;
    m->head_low = (struct head_low){
        .rows = {.format = HEAD_LOW_FORMAT,
                 .n_cols = n_cols,
                 .n_rows = n_rows,
                 .data = data,
                 .panel_bytes = format_panel_bytes(HEAD_LOW_FORMAT, n_cols),
                 .act = act_kind_of(format_info(HEAD_LOW_FORMAT)->panel, false),
                 .scale = t->scale},
        .bounds = (const void *)(data + head_low_bounds_at(n_cols, n_rows)),
        .norm_max = h->norm_max,
    };
    return MODEL_OK;
}

static void put_layer_vector(struct layer *l, enum role role, const struct matrix *x)
{
    const struct {
        enum role role;
        const float **at;
    } vectors[] = {
        {ROLE_ATTN_NORM, &l->attn_norm},
        {ROLE_FFN_NORM, &l->ffn_norm},
        {ROLE_Q_NORM, &l->q_norm},
        {ROLE_K_NORM, &l->k_norm},
        {ROLE_ATTN_SUB_NORM, &l->attn_sub_norm},
        {ROLE_FFN_SUB_NORM, &l->ffn_sub_norm},
        {ROLE_ATTN_THRESHOLD, &l->attn_threshold},
        {ROLE_O_THRESHOLD, &l->o_threshold},
        {ROLE_FFN_THRESHOLD, &l->ffn_threshold},
        {ROLE_DOWN_THRESHOLD, &l->down_threshold},
        {ROLE_Q_BIAS, &l->q.bias}, /* a matrix comes before its bias */
        {ROLE_K_BIAS, &l->k.bias},
        {ROLE_V_BIAS, &l->v.bias},
    };

    for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
        if (vectors[i].role == role) {
            *vectors[i].at = (const void *)x->data;
        }
    }
}

static void put_layer_matrix(struct layer *l, enum role role, const struct matrix *x)
{
    switch (role) {
    case ROLE_Q:
        l->q = *x;
        break;
    case ROLE_K:
        l->k = *x;
        break;
    case ROLE_V:
        l->v = *x;
        break;
    case ROLE_O:
        l->o = *x;
        break;
    case ROLE_GATE:
        l->gate = *x;
        break;
    case ROLE_UP:
        l->up = *x;
        break;
    case ROLE_DOWN:
        l->down = *x;
        break;
    default:
        break;
    }
}

static int read_tensors(struct model *m, struct diag *d)
{
    if (!m->layers && !(m->layers = calloc(m->shape.n_layer, sizeof(*m->layers)))) {
        return -ENOMEM;
    }
    m->head = (struct matrix){0};
    for (size_t i = 0; i < m->meta->n_tensors; i++) {
        struct matrix x;
        const int r = read_tensor(m, i, &x, d);
        if (r != MODEL_OK) {
            return r;
        }
        switch (image_role(i)) {
        case ROLE_EMBD:
            m->embd = x;
            break;
        case ROLE_OUTPUT_NORM:
            m->output_norm = (const void *)x.data;
            break;
        case ROLE_OUTPUT:
            m->head = x;
            break;
        default:
            (role_is_vector(image_role(i)) ? put_layer_vector : put_layer_matrix)(
                &m->layers[(i - ROLES_GLOBAL) / ROLES_LAYER], image_role(i), &x);
            break;
        }
    }
    if (!m->head.data) {
        m->head = m->embd;
    }
    m->head.scale = m->shape.logit_scale;
    return read_head_low(m, d);
}

int model_use_copy(struct model *m, const struct weights_copy *copy, struct diag *d)
{
    m->copy = *copy;
    const int r = read_tensors(m, d);
    if (r != MODEL_OK) {
        m->copy = (struct weights_copy){0};
    }
    return r;
}

/* ---- opening ---- */

static int open_sections(struct model *m, int fd, struct diag *d)
{
    int r;

    if ((r = read_header(m, fd, d)) != MODEL_OK ||
        (r = check_section(m, IMAGE_META, d)) != MODEL_OK ||
        (r = check_section(m, IMAGE_VOCAB, d)) != MODEL_OK || (r = read_meta(m, d)) != MODEL_OK ||
        (r = read_tensors(m, d)) != MODEL_OK) {
        return r;
    }
    const struct image_section *s = &m->header->sections[IMAGE_VOCAB];
    r = vocab_open_view(&m->vocab, m->file.data + s->offset, (size_t)s->bytes, d);
    if (r == MODEL_OK && vocab_size(m->vocab) != m->shape.n_vocab) {
        r = damaged(d, s->offset, "the vocabulary has another size than the embedding");
    }
    return r;
}

int model_open_packed(struct model **ret, int fd, struct diag *ret_diag)
{
    struct model *m = calloc(1, sizeof(*m));
    int r;

    if (!m) {
        return -ENOMEM;
    }
    m->scratch_fd = -1;
    r = filemap_open(&m->file, fd);
    if (r == 0) {
        r = open_sections(m, fd, ret_diag);
    }
    if (r != 0) {
        model_free(m);
        return r;
    }
    *ret = m;
    return MODEL_OK;
}

bool model_is_packed(int fd)
{
    char magic[sizeof(IMAGE_MAGIC) - 1];

    return pread(fd, magic, sizeof(magic), 0) == (ssize_t)sizeof(magic) &&
           memcmp(magic, IMAGE_MAGIC, sizeof(magic)) == 0;
}

int model_open_gguf(struct model **ret, int fd, const struct model_limits *limits,
                    struct diag *ret_diag)
{
    struct stat st;

    if (fstat(fd, &st) < 0) {
        return -errno;
    }
    const int packed = scratch_file((uint64_t)st.st_size);
    if (packed < 0) {
        return packed;
    }
    int r = model_pack(fd, packed, limits, ret_diag);
    if (r == MODEL_OK) {
        r = model_open_packed(ret, packed, ret_diag);
    }
    if (r == MODEL_OK) {
        (*ret)->scratch_fd = packed;
    } else {
        (void)close(packed);
    }
    return r;
}

int model_verify(const struct model *model, struct diag *ret_diag)
{
    return check_section(model, IMAGE_WEIGHTS, ret_diag);
}

void model_free(struct model *model)
{
    if (!model) {
        return;
    }
    vocab_free(model->vocab);
    free(model->layers);
    if (model->copy.data) {
        (void)munmap(model->copy.data, model->copy.bytes);
    }
    if (model->scratch_fd >= 0) {
        (void)close(model->scratch_fd);
    }
    filemap_close(&model->file);
    free(model);
}

/* ---- facts ---- */

void model_info(const struct model *model, struct model_info *ret)
{
    const struct image_meta *meta = model->meta;
    const struct shape *s = &model->shape;

    *ret = (struct model_info){
        .arch = arch_info((enum arch)s->arch)->name,
        .name = model->strings + meta->name_at,
        .formats = model->strings + meta->formats_at,
        .quantization = quantization_names[meta->quantization],
        .activations = inputs_name((enum input_form)s->inputs),
        .n_params = meta->n_params,
        .file_bytes = meta->gguf_bytes,
        .packed_bytes = model->file.size,
        .head_low_bytes = meta->head_low.copy.bytes,
        .n_layer = s->n_layer,
        .n_embd = s->n_embd,
        .n_ff = s->n_ff,
        .n_head = s->n_head,
        .n_head_kv = s->n_head_kv,
        .head_dim = s->head_dim,
        .n_vocab = s->n_vocab,
        .n_ctx_train = s->n_ctx,
        .n_ctx_file = s->n_ctx_file,
        .head_tied = model->head.data == model->embd.data,
        .chat = (enum chat_template)meta->chat,
        .has_chat_template = meta->has_chat != 0,
        .temperature = meta->temperature,
        .top_p = meta->top_p,
        .min_p = meta->min_p,
        .top_k = meta->top_k,
    };
}

size_t model_tensor_count(const struct model *model)
{
    return model->meta->n_infos;
}

void model_tensor(const struct model *model, size_t i, struct model_tensor *ret)
{
    const struct image_info *info = &model->infos[i];
    const char *foreign = format_foreign_name(info->id);
    *ret = (struct model_tensor){
        .name = model->strings + info->name_at,
        .format = info->format < FORMATS ? format_info((enum format)info->format)->name
                  : foreign              ? foreign
                                         : "unknown",
        .n_cols = info->n_cols,
        .n_rows = info->n_rows,
    };
}

const struct vocab *model_vocab(const struct model *model)
{
    return model->vocab;
}
