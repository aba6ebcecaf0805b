#include "tests/support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

#include "engine/gguf.h"
#include "engine/gguf.h"
#include "engine/image.h"
#include "engine/model.h"
#include "tests/unit/engine/tiny.h"

static const struct tiny q8 = {.arch = "qwen3", .format = "Q8_0", .head = "Q8_0"};

static int pack_of(const struct tiny *t)
{
    const int in = tiny_write(t), out = memfd_create("out", MFD_CLOEXEC);

    assert_int_equal(model_pack(in, out, NULL, NULL), MODEL_OK);
    (void)close(in);
    return out;
}

static int open_fd(int fd, struct diag *d)
{
    struct model *m = NULL;

    *d = (struct diag){0};
    const int r = model_open_packed(&m, fd, d);
    assert_true((r == MODEL_OK) == (m != NULL));
    model_free(m);
    return r;
}

static void a_packed_file_opens_with_the_facts_of_its_source(void **state)
{
    static const struct tiny t = {.arch = "llama", .format = "Q1_0", .head = "F16", .untied = true};
    const int fd = pack_of(&t);
    struct model *m = NULL;
    struct model_info info;
    struct model_tensor tensor;
    (void)state;

    assert_int_equal(model_open_packed(&m, fd, NULL), MODEL_OK);
    (void)close(fd); /* only borrowed */
    assert_int_equal(model_verify(m, NULL), MODEL_OK);
    model_info(m, &info);
    assert_string_equal(info.arch, "llama");
    assert_string_equal(info.name, "tiny");
    assert_string_equal(info.formats, "Q1_0+F16"); /* the layers' come first */
    assert_string_equal(info.quantization, "binary");
    assert_int_equal(info.n_layer, TINY_LAYERS);
    assert_int_equal(info.n_vocab, TINY_VOCAB);
    assert_int_equal(info.n_ctx_train, TINY_CTX);
    assert_false(info.head_tied);
    assert_false(info.has_chat_template);
    assert_true(info.temperature < 0 && info.top_k < 0);
    assert_int_equal(model_tensor_count(m), 3 + TINY_LAYERS * 9);
    model_tensor(m, 0, &tensor);
    assert_string_equal(tensor.name, "token_embd.weight");
    assert_string_equal(tensor.format, "F16");
    assert_int_equal(tensor.n_rows, TINY_VOCAB);
    assert_int_equal(vocab_size(model_vocab(m)), TINY_VOCAB);
    model_free(m);
}

/* Goal: the list of formats has room for all that there are at once. Method: as many matrices as
 * formats and more, each of another; then every name must stand in it once, between pluses. */
static void a_file_of_every_format_names_them_all(void **state)
{
    const char *each[32] = {0};
    struct tiny t = {.arch = "llama", .n_layer = 3, .each = each, .untied = true};
    struct gguf_writable format;
    struct model_info info;
    size_t n = 0, bytes = 0;
    (void)state;

    for (; gguf_writable(n, &format); n++) {
        assert_true(n + 1 < ARRAY_SIZE(each));
        each[n] = format.name;
        bytes += strlen(format.name) + 1;
    }
    assert_in_range(n, 16, 2 + 3 * 7);
    struct model *m = tiny_open(&t);
    assert_int_equal(model_verify(m, NULL), MODEL_OK);
    model_info(m, &info);
    assert_string_equal(info.quantization, "mixed");
    assert_int_equal(strlen(info.formats), bytes - 1);
    for (size_t i = 0; i < n; i++) {
        char list[256], name[16];
        assert_true(bytes + 2 < sizeof(list));
        (void)snprintf(list, sizeof(list), "+%s+", info.formats);
        (void)snprintf(name, sizeof(name), "+%s+", each[i]);
        assert_non_null(strstr(list, name));
    }
    model_free(m);
}

/* Goal: the same file packs to the same bytes, so that caches can be compared. */
static void packing_is_deterministic(void **state)
{
    const int a = pack_of(&q8), b = pack_of(&q8);
    size_t n_a, n_b;
    uint8_t *x = tiny_slurp(a, &n_a), *y = tiny_slurp(b, &n_b);
    (void)state;

    assert_int_equal(n_a, n_b);
    assert_memory_equal(x, y, n_a);
    free(x);
    free(y);
    (void)close(a);
    (void)close(b);
}

static void another_version_is_stale(void **state)
{
    const int fd = pack_of(&q8);
    struct image_header h;
    struct diag d;
    (void)state;

    assert_int_equal(pread(fd, &h, sizeof(h), 0), sizeof(h));
    h.pack_id[0] ^= 1;
    h.hash = XXH3_64bits(&h, offsetof(struct image_header, hash));
    assert_int_equal(pwrite(fd, &h, sizeof(h), 0), sizeof(h));
    assert_int_equal(open_fd(fd, &d), MODEL_STALE);
    h.version++;
    assert_int_equal(pwrite(fd, &h, sizeof(h), 0), sizeof(h));
    assert_int_equal(open_fd(fd, &d), MODEL_STALE);
    (void)close(fd);
}

/* Goal: damage in header and tables is found on opening, in the weights by verifying. Method: flip
 * a bit at places all over the file. */
static void damage_is_found(void **state)
{
    const int fd = pack_of(&q8);
    struct image_header h;
    struct diag d;
    size_t n;
    uint8_t *data = tiny_slurp(fd, &n);
    (void)state;

    memcpy(&h, data, sizeof(h));
    for (size_t at = 0; at < n; at += at < 4096 ? 37 : 4999) {
        const struct image_section *w = &h.sections[IMAGE_WEIGHTS];
        struct model *m = NULL;
        bool padding = true;
        for (unsigned i = 0; i < IMAGE_SECTIONS; i++) {
            const struct image_section *s = &h.sections[i];
            padding = padding && !(at >= s->offset && at < s->offset + s->bytes);
        }
        data[at] ^= 0x10;
        assert_int_equal(pwrite(fd, data + at, 1, (off_t)at), 1);
        d = (struct diag){0};
        const int r = model_open_packed(&m, fd, &d);
        if (at >= sizeof(h) && padding) {
            assert_int_equal(r, MODEL_OK);
        } else if (at >= w->offset) {
            assert_int_equal(r, MODEL_OK);
            assert_int_equal(model_verify(m, &d), MODEL_MALFORMED);
            assert_true(d.set);
        } else {
            assert_true(r == MODEL_MALFORMED || r == MODEL_STALE);
            assert_true(d.set);
        }
        model_free(m);
        data[at] ^= 0x10;
        assert_int_equal(pwrite(fd, data + at, 1, (off_t)at), 1);
    }
    assert_int_equal(open_fd(fd, &d), MODEL_OK);
    free(data);
    (void)close(fd);
}

/* Goal: bounds hold on their own, without the checksums. Method: every 32-bit word of META is set
 * to several hostile values and the checksums are made right again; opening must refuse or stay
 * inside the file (a sanitizer watches). */
static void bounds_hold_when_the_checksums_do(void **state)
{
    static const uint32_t hostile[] = {0, 1, 0x7fffffff, 0x80000000, 0xffffffff};
    const int fd = pack_of(&q8);
    struct diag d;
    size_t n, n_refused = 0;
    uint8_t *data = tiny_slurp(fd, &n);
    struct image_header *h = (void *)data;
    const struct image_section meta = h->sections[IMAGE_META];
    (void)state;

    for (size_t at = 0; at + 4 <= meta.bytes && at < 1200; at += 4) {
        for (size_t i = 0; i < ARRAY_SIZE(hostile); i++) {
            uint8_t *word = data + meta.offset + at, before[4];
            memcpy(before, word, 4);
            memcpy(word, &hostile[i], 4);
            h->sections[IMAGE_META].hash = XXH3_64bits(data + meta.offset, (size_t)meta.bytes);
            h->hash = XXH3_64bits(h, offsetof(struct image_header, hash));
            assert_int_equal(pwrite(fd, data, (size_t)(meta.offset + meta.bytes), 0),
                             (ssize_t)(meta.offset + meta.bytes));
            n_refused += open_fd(fd, &d) != MODEL_OK;
            memcpy(word, before, 4);
        }
    }
    assert_true(n_refused > 100);
    free(data);
    (void)close(fd);
}

/* Goal: two bits are called ternary only where all weights are. Method: the same file with one code
 * 3. */
static void a_weight_of_plus_two_is_not_ternary(void **state)
{
    static const struct tiny t = {.arch = "llama", .format = "Q2_0", .head = "F16"};
    const int fd = tiny_write(&t);
    struct model *m = NULL;
    struct model_info info;
    struct gguf g;
    size_t n;
    uint8_t *data = tiny_slurp(fd, &n);
    (void)state;

    assert_int_equal(model_open_gguf(&m, fd, NULL, NULL), MODEL_OK);
    model_info(m, &info);
    assert_string_equal(info.quantization, "ternary");
    model_free(m);
    assert_int_equal(gguf_parse(&g, data, n, NULL), GGUF_OK);
    data[gguf_tensor_find(&g, "blk.1.ffn_down.weight")->offset + 2] |= 0xc0;
    gguf_deinit(&g);
    const int bent = tiny_file(data, n);
    assert_int_equal(model_open_gguf(&m, bent, NULL, NULL), MODEL_OK);
    model_info(m, &info);
    assert_string_equal(info.quantization, "other");
    model_free(m);
    free(data);
    (void)close(fd);
    (void)close(bent);
}

static void a_cut_file_is_refused(void **state)
{
    const int fd = pack_of(&q8);
    size_t n;
    uint8_t *data = tiny_slurp(fd, &n);
    struct diag d;
    (void)state;

    for (size_t left = 0; left < n; left += 1 + left / 3) {
        const int cut = tiny_file(data, left);
        assert_int_equal(open_fd(cut, &d), MODEL_MALFORMED);
        (void)close(cut);
    }
    free(data);
    (void)close(fd);
}

static void refused(const struct tiny *t, int want, const char *word)
{
    const int fd = tiny_write(t);
    struct model *m = NULL;
    struct diag d = {0};

    assert_int_equal(model_open_gguf(&m, fd, NULL, &d), want);
    assert_null(m);
    if (!strstr(d.text, word)) {
        fail_msg("\"%s\" does not say \"%s\"", d.text, word);
    }
    (void)close(fd);
}

static void missing_parts_are_named(void **state)
{
    static const char *const keys[] = {
        "block_count",         "context_length",       "embedding_length",
        "feed_forward_length", "attention.head_count", "attention.layer_norm_rms_epsilon",
    };
    static const char *const tensors[] = {"token_embd.weight", "output_norm.weight",
                                          "blk.1.attn_q_norm.weight", "blk.0.ffn_down.weight"};
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        struct tiny t = q8;
        t.skip_key = keys[i];
        refused(&t, MODEL_MALFORMED, keys[i]);
    }
    for (size_t i = 0; i < ARRAY_SIZE(tensors); i++) {
        struct tiny t = q8;
        t.skip_tensor = tensors[i];
        refused(&t, MODEL_MALFORMED, tensors[i]);
    }
}

static void what_the_graph_does_not_do_is_refused_by_name(void **state)
{
    struct tiny t = q8;
    (void)state;

    t.arch = "gemma";
    refused(&t, MODEL_UNSUPPORTED, "gemma");
    t = q8;
    t.extra_tensor = "blk.0.attn_q.bias";
    refused(&t, MODEL_UNSUPPORTED, "blk.0.attn_q.bias");
    t.extra_tensor = "output.bias";
    refused(&t, MODEL_UNSUPPORTED, "output.bias");
    t = q8;
    t.arch = "llama";
    t.extra_tensor = "blk.0.attn_q_norm.weight";
    refused(&t, MODEL_UNSUPPORTED, "attn_q_norm");
    t = q8;
    t.scaling = "dynamic";
    refused(&t, MODEL_UNSUPPORTED, "dynamic");
    t.scaling = "longrope";
    t.skip_tensor = "rope_factors_short.weight";
    refused(&t, MODEL_MALFORMED, "rope_factors_short.weight is missing");
    t = q8;
    t.activation = "gelu";
    refused(&t, MODEL_UNSUPPORTED, "hidden_activation");
    t = q8;
    t.extra_tensor = "blk.7.attn_norm.weight"; /* beyond the layers that there are */
    refused(&t, MODEL_UNSUPPORTED, "blk.7.attn_norm.weight");
    t.extra_tensor = "blk.01.attn_norm.weight";
    refused(&t, MODEL_UNSUPPORTED, "blk.01.attn_norm.weight");
}

/* Goal: a key that changes the arithmetic is never passed over. */
static void keys_that_mean_other_arithmetic_are_refused_by_name(void **state)
{
    static const struct {
        const char *key;
        uint32_t refused, accepted; /* 0: no value is */
    } cases[] = {
        {"qwen3.nextn_predict_layers", 1, 0},
        {"qwen3.expert_count", 8, 0},
        {"qwen3.attention.sliding_window", TINY_CTX / 2, TINY_CTX},
        {"split.count", 2, 1},
    };
    struct tiny t = q8;
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        t.extra_key = cases[i].key;
        t.extra_value = cases[i].refused;
        refused(&t, MODEL_UNSUPPORTED, cases[i].key);
        t.extra_value = cases[i].accepted;
        model_free(tiny_open(&t));
    }
    t.extra_key = "prism.hadamard.version";
    refused(&t, MODEL_UNSUPPORTED, "prism.hadamard.version");
    t.extra_key = "general.type"; /* has to be a string */
    refused(&t, MODEL_MALFORMED, "general.type");
}

static const struct {
    const char *arch, *tensor;
} parts[] = {
    {"qwen2", "blk.0.attn_q.bias"},
    {"qwen2", "blk.1.attn_k.bias"},
    {"qwen2", "blk.0.attn_v.bias"},
    {"qwen3", "blk.1.attn_k_norm.weight"},
    {"bitnet", "blk.0.attn_sub_norm.weight"},
    {"bitnet", "blk.1.ffn_sub_norm.weight"},
    {"bitnet-b1.58", "blk.1.attn_sub_norm.weight"},
    {"bitnet-b1.58", "blk.0.ffn_sub_norm.weight"},
    {"bitnet-25", "blk.1.attn_sub_norm.weight"},
    {"bitnet-25", "blk.0.ffn_sub_norm.weight"},
};

/* Goal: a family's own tensors are neither done without nor overlooked in another's file. Method:
 * each is left out of its family's file, and put into those that have no such part. */
static void a_familys_own_tensors_are_wanted_there_and_refused_elsewhere(void **state)
{
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        struct tiny t = {.arch = parts[i].arch, .format = "F32", .head = "F32"};
        t.skip_tensor = parts[i].tensor;
        refused(&t, MODEL_MALFORMED, parts[i].tensor);
        t = (struct tiny){.arch = "llama", .format = "F32", .head = "F32"};
        t.extra_tensor = parts[i].tensor;
        refused(&t, MODEL_UNSUPPORTED, parts[i].tensor);
        t.arch = "minicpm";
        refused(&t, MODEL_UNSUPPORTED, parts[i].tensor);
    }
}

/* The place of a tensor's data in a file, or of a key's value. */
static uint8_t *place_of(uint8_t *data, size_t n, const char *tensor, const char *key)
{
    struct gguf g;

    assert_int_equal(gguf_parse(&g, data, n, NULL), GGUF_OK);
    const struct gguf_tensor_info *t = tensor ? gguf_tensor_find(&g, tensor) : NULL;
    const struct gguf_key *k = key ? gguf_find(&g, key) : NULL;
    assert_true(t || k);
    const size_t at = (size_t)(t ? t->offset : k->offset);
    gguf_deinit(&g);
    return data + at;
}

/* What opening says to a file in which one float has another value. */
static int open_changed(const struct tiny *t, const char *tensor, const char *key, float v,
                        struct diag *d)
{
    struct model *m = NULL;
    size_t n;
    int fd = tiny_write(t);
    uint8_t *data = tiny_slurp(fd, &n);

    (void)close(fd);
    memcpy(place_of(data, n, tensor, key), &v, sizeof(v));
    fd = tiny_file(data, n);
    *d = (struct diag){0};
    const int r = model_open_gguf(&m, fd, NULL, d);
    (void)close(fd);
    free(data);
    model_free(m);
    return r;
}

static void numbers_that_scale_a_model_are_checked(void **state)
{
    static const char *const keys[] = {"minicpm.embedding_scale", "minicpm.residual_scale",
                                       "minicpm.logit_scale"};
    static const float bad[] = {0.0f, -1.0f, NAN, INFINITY};
    const struct tiny minicpm = {.arch = "minicpm", .format = "F32", .head = "F32"};
    const struct tiny scaled = {.arch = "bitnet", .format = "F32", .head = "F32", .scales = true};
    struct diag d;
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(keys) * ARRAY_SIZE(bad); i++) {
        const char *key = keys[i / ARRAY_SIZE(bad)];
        assert_int_equal(open_changed(&minicpm, NULL, key, bad[i % ARRAY_SIZE(bad)], &d),
                         MODEL_MALFORMED);
        assert_non_null(strstr(d.text, key));
    }
    assert_int_equal(open_changed(&minicpm, NULL, keys[2], 9.0f, &d), MODEL_OK);
    assert_int_equal(open_changed(&scaled, "blk.1.ffn_up.scale", NULL, NAN, &d), MODEL_MALFORMED);
    assert_non_null(strstr(d.text, "blk.1.ffn_up.scale"));
    assert_int_equal(open_changed(&scaled, "blk.1.ffn_up.scale", NULL, -2.0f, &d), MODEL_OK);
}

/* Goal: numbers beside matrices have the length that their use has. Method: four where one, or one
 * per rotated pair, belongs; and a .scale where the family has none. */
static void scales_and_factors_of_another_length_are_refused(void **state)
{
    struct tiny t = {.arch = "bitnet", .format = "F32", .head = "F32"};
    (void)state;

    t.extra_tensor = "blk.0.attn_q.scale";
    refused(&t, MODEL_MALFORMED, "blk.0.attn_q.scale");
    t.arch = "bitnet-b1.58";
    refused(&t, MODEL_UNSUPPORTED, "blk.0.attn_q.scale");
    t.arch = "llama";
    refused(&t, MODEL_UNSUPPORTED, "blk.0.attn_q.scale");
    t.extra_tensor = "rope_freqs.weight";
    refused(&t, MODEL_MALFORMED, "rope_freqs.weight");
    t.extra_tensor = "rope_factors_short.weight";
    refused(&t, MODEL_MALFORMED, "rope_factors_short.weight");
}

/* Goal: what signs are taken against is there, whole, and asked for. Method: models of every
 * fault. */
static void thresholds_are_wanted_with_their_key_alone(void **state)
{
    static const char *const names[] = {"blk.0.attn_norm.threshold", "blk.1.attn_output.threshold",
                                        "blk.0.ffn_norm.threshold", "blk.1.ffn_down.threshold"};
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    const struct tiny binary = {
        .arch = "qwen3", .format = "Q1_0", .head = "Q8_0", .inputs = "binary"};
    struct diag d;
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        struct tiny t = binary;
        t.skip_tensor = names[i];
        refused(&t, MODEL_MALFORMED, names[i]);
        t.extra_tensor = names[i]; /* of four numbers */
        refused(&t, MODEL_MALFORMED, "is 4 x 1");
        t = q8;
        t.extra_tensor = names[i];
        refused(&t, MODEL_MALFORMED, "onebit.activations is not binary");
        t.inputs = "int8";
        refused(&t, MODEL_MALFORMED, "onebit.activations is not binary");
        for (size_t k = 0; k < ARRAY_SIZE(bad); k++) {
            assert_int_equal(open_changed(&binary, names[i], NULL, bad[k], &d), MODEL_MALFORMED);
            assert_non_null(strstr(d.text, "number 0 is not finite"));
        }
        assert_int_equal(open_changed(&binary, names[i], NULL, -0.0f, &d), MODEL_OK);
    }
}

static void activations_of_another_name_are_refused(void **state)
{
    static const char *const names[] = {"", "float", "Binary", "int4", "binary "};
    struct tiny t = q8;
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        t.inputs = names[i];
        refused(&t, MODEL_UNSUPPORTED, "onebit.activations");
    }
    t.inputs = NULL;
    t.extra_key = "onebit.activations";
    refused(&t, MODEL_MALFORMED, "onebit.activations");
}

/* Goal: a packed model of signs is told from the same weights without, and says what it is. */
static void a_model_of_signs_says_so(void **state)
{
    struct tiny t = {.arch = "qwen3", .format = "Q1_0", .head = "Q8_0", .inputs = "binary"};
    struct model_info info;
    (void)state;

    struct model *m = tiny_open(&t);
    model_info(m, &info);
    assert_string_equal(info.activations, "binary");
    assert_string_equal(info.formats, "Q1_0+Q8_0+binary-activations");
    assert_string_equal(info.quantization, "binary");
    assert_int_equal(m->layers[0].q.act, ACT_BITS);
    assert_int_equal(m->layers[1].down.act, ACT_BITS);
    assert_int_equal(m->head.act, ACT_32);
    model_free(m);
    t.inputs = NULL;
    m = tiny_open(&t);
    model_info(m, &info);
    assert_string_equal(info.activations, "");
    assert_string_equal(info.formats, "Q1_0+Q8_0");
    assert_int_equal(m->layers[0].q.act, ACT_32);
    model_free(m);
}

static void tensors_outside_the_graph_are_left_alone(void **state)
{
    struct tiny t = q8;
    (void)state;

    t.extra_tensor = "a_stranger";
    model_free(tiny_open(&t));
}

static void a_vocabulary_of_another_size_is_refused(void **state)
{
    struct tiny t = q8;
    (void)state;

    t.n_vocab = TINY_VOCAB + 16;
    refused(&t, MODEL_MALFORMED, "token_embd.weight");
}

static void a_file_beyond_the_limit_is_refused_unread(void **state)
{
    const struct model_limits limits = {.bytes_max = 1000};
    const int fd = tiny_write(&q8);
    struct model *m = NULL;
    struct diag d = {0};
    (void)state;

    assert_int_equal(model_open_gguf(&m, fd, &limits, &d), MODEL_TOO_BIG);
    assert_non_null(strstr(d.text, "1000"));
    (void)close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_packed_file_opens_with_the_facts_of_its_source),
        cmocka_unit_test(a_file_of_every_format_names_them_all),
        cmocka_unit_test(packing_is_deterministic),
        cmocka_unit_test(another_version_is_stale),
        cmocka_unit_test(damage_is_found),
        cmocka_unit_test(bounds_hold_when_the_checksums_do),
        cmocka_unit_test(a_weight_of_plus_two_is_not_ternary),
        cmocka_unit_test(a_cut_file_is_refused),
        cmocka_unit_test(missing_parts_are_named),
        cmocka_unit_test(what_the_graph_does_not_do_is_refused_by_name),
        cmocka_unit_test(a_familys_own_tensors_are_wanted_there_and_refused_elsewhere),
        cmocka_unit_test(numbers_that_scale_a_model_are_checked),
        cmocka_unit_test(scales_and_factors_of_another_length_are_refused),
        cmocka_unit_test(keys_that_mean_other_arithmetic_are_refused_by_name),
        cmocka_unit_test(thresholds_are_wanted_with_their_key_alone),
        cmocka_unit_test(activations_of_another_name_are_refused),
        cmocka_unit_test(a_model_of_signs_says_so),
        cmocka_unit_test(tensors_outside_the_graph_are_left_alone),
        cmocka_unit_test(a_vocabulary_of_another_size_is_refused),
        cmocka_unit_test(a_file_beyond_the_limit_is_refused_unread),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
