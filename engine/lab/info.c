/* info: what a model file holds; with --board, what running it takes (predict.c). */
#include <string.h>

#include "engine/lab/lab.h"

static json_t *text(const char *z)
{
    return json_bytes(z, strlen(z));
}

static json_t *recommended(const struct model_info *m)
{
    json_t *o = json_object();

    if (m->temperature >= 0) {
        (void)json_object_set_new(o, "temperature", json_real(m->temperature));
    }
    if (m->top_k >= 0) {
        (void)json_object_set_new(o, "top_k", json_integer(m->top_k));
    }
    if (m->top_p >= 0) {
        (void)json_object_set_new(o, "top_p", json_real(m->top_p));
    }
    if (m->min_p >= 0) {
        (void)json_object_set_new(o, "min_p", json_real(m->min_p));
    }
    return o;
}

static json_t *tensors(const struct model *model)
{
    json_t *array = json_array();

    for (size_t i = 0; i < model_tensor_count(model); i++) {
        struct model_tensor t;
        model_tensor(model, i, &t);
        json_t *o = json_pack("{s:o, s:s, s:I, s:I}", "name", text(t.name), "format", t.format,
                              "columns", (json_int_t)t.n_cols, "rows", (json_int_t)t.n_rows);
        if (json_array_append_new(array, o) != 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

static const char *chat_word(const struct model_info *m)
{
    return m->chat == CHAT_NONE && m->has_chat_template ? "unknown" : chat_template_name(m->chat);
}

static int print_json(const struct model *model, const struct model_info *m)
{
    json_t *o = json_object();
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        {"parameters", m->n_params},
        {"file_bytes", m->file_bytes},
        {"packed_bytes", m->packed_bytes},
        {"head_low_bytes", m->head_low_bytes},
        {"layers", m->n_layer},
        {"embedding_length", m->n_embd},
        {"feed_forward_length", m->n_ff},
        {"heads", m->n_head},
        {"kv_heads", m->n_head_kv},
        {"head_dim", m->head_dim},
        {"vocabulary", m->n_vocab},
        {"context_length", m->n_ctx_train},
        {"context_length_in_file", m->n_ctx_file},
    };
    int bad = 0;

    bad |= json_object_set_new(o, "architecture", text(m->arch));
    bad |= json_object_set_new(o, "name", text(m->name));
    bad |= json_object_set_new(o, "formats", text(m->formats));
    bad |= json_object_set_new(o, "quantization", text(m->quantization));
    bad |= json_object_set_new(o, "activations", text(m->activations));
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
        bad |= json_object_set_new(o, numbers[i].key, json_integer((json_int_t)numbers[i].value));
    }
    bad |= json_object_set_new(o, "head_tied", json_boolean(m->head_tied));
    bad |= json_object_set_new(o, "chat_template", text(chat_word(m)));
    bad |= json_object_set_new(o, "has_chat_template", json_boolean(m->has_chat_template));
    if (m->chat == CHAT_NONE) {
        bad |= json_object_set_new(o, "chat_template_choices", text(chat_template_names));
    }
    bad |= json_object_set_new(o, "bos", json_integer(vocab_bos(model_vocab(model))));
    bad |= json_object_set_new(o, "sampling", recommended(m));
    bad |= json_object_set_new(o, "tensors", tensors(model));
    if (bad) {
        json_decref(o);
        o = NULL;
    }
    return out_json(o);
}

static void line(const char *label, const char *value)
{
    (void)printf("%-14s ", label);
    out_text(stdout, true, value, strlen(value)); /* a file's name may hold anything */
    (void)putchar('\n');
}

static void print_text(const struct model *model, const struct model_info *m)
{
    line("architecture", m->arch);
    line("name", m->name);
    line("formats", m->formats);
    line("quantization", m->quantization);
    if (m->activations[0]) {
        line("activations", m->activations);
    }
    (void)printf("parameters     %llu\n", (unsigned long long)m->n_params);
    (void)printf("bytes          %llu in the file, %llu packed\n",
                 (unsigned long long)m->file_bytes, (unsigned long long)m->packed_bytes);
    if (m->head_low_bytes > 0) {
        (void)printf("               %llu of them the head's copy in five bits\n",
                     (unsigned long long)m->head_low_bytes);
    }
    (void)printf("layers         %u of width %u, feed-forward %u\n", m->n_layer, m->n_embd,
                 m->n_ff);
    (void)printf("heads          %u, %u for keys and values, of %u\n", m->n_head, m->n_head_kv,
                 m->head_dim);
    (void)printf("vocabulary     %u, head %s\n", m->n_vocab, m->head_tied ? "tied" : "untied");
    (void)printf("context        %u", m->n_ctx_train);
    if (m->n_ctx_file != m->n_ctx_train) {
        (void)printf(" (the file says %u; see longrope in onebit-lab(1))", m->n_ctx_file);
    }
    (void)putchar('\n');
    line("chat template", chat_word(m));
    if (m->chat == CHAT_NONE) {
        (void)printf("               a chat has to name one: %s\n", chat_template_names);
    }
    (void)printf("tensors        %zu\n", model_tensor_count(model));
    for (size_t i = 0; i < model_tensor_count(model); i++) {
        struct model_tensor t;
        model_tensor(model, i, &t);
        (void)printf("  %-6s %8llu x %-8llu ", t.format, (unsigned long long)t.n_cols,
                     (unsigned long long)t.n_rows);
        out_text(stdout, true, t.name, strlen(t.name));
        (void)putchar('\n');
    }
}

int verb_info(const struct lab_args *a)
{
    struct model *model = NULL;
    struct model_info info;

    if (!a->board && (a->ctx || a->b || a->chunk)) {
        lab_error("--ctx, --streams and --chunk say nothing without --board");
        return LAB_USAGE;
    }
    if (board_table_wanted(a)) {
        return board_table(a);
    }
    int r = lab_model(a->path, &model, NULL);
    if (r != LAB_OK) {
        return r;
    }
    model_info(model, &info);
    if (a->board) {
        r = predict_print(a, model);
    } else if (a->json) {
        r = print_json(model, &info);
    } else {
        print_text(model, &info);
    }
    model_free(model);
    return r;
}
