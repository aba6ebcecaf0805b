/* The written-out forward pass (tests/unit/engine/reference.h) against recorded results of other
 * programs.
 *
 * Goal: what the engine's graphs are held to is itself right. Method: the recorded prompts of
 * float models of every recorded architecture and rotation, and of one ternary model with its
 * activations in int8, all rows, against what a float64 program of other authors computed.
 * Skipped, loudly, without the reference data. */
#include "tests/support/test.h"

#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/filemap.h"
#include "tests/unit/engine/reference.h"

#define SKIP 77
#define N_PROMPTS 4u
#define N_ALL 33u /* tokens of prompt 2 */
#define IDS_MAX 256u
#define FAR 1e-4 /* of logits whose deviation is 3 to 6 */

struct recorded {
    const char *name, *set;
    enum reference_activations activations;
};

static const struct recorded cases[] = {
    {"llama-f32", "ideal", REFERENCE_FLOATS},
    {"llama-f16", "ideal", REFERENCE_FLOATS},
    {"llama-f16-ropefreqs", "ideal", REFERENCE_FLOATS},
    {"llama-f16-ropelinear", "ideal", REFERENCE_FLOATS},
    {"llama-q4_k_m", "ideal", REFERENCE_FLOATS},
    {"qwen3-f32", "ideal", REFERENCE_FLOATS},
    {"qwen3-f16-yarn", "ideal", REFERENCE_FLOATS},
    {"qwen3-q2_0", "ideal", REFERENCE_FLOATS},
    {"bitnet-f32", "ideal", REFERENCE_FLOATS},
    {"bitnet-tq2_0-scale", "ideal", REFERENCE_FLOATS},
    {"bitnet158-f32", "exact", REFERENCE_FLOATS},
    {"bitnet158-i2_s", "exact", REFERENCE_FLOATS},
    {"bitnet158-i2_s", "defined", REFERENCE_INT8},
    {"bitnet158-i2_s-384", "defined", REFERENCE_INT8},
    {"bitnet158-iq2_bn", "defined", REFERENCE_INT8},
};

static char *path_of(const char *name, const char *suffix)
{
    const char *root = getenv("ONEBIT_SHARED");
    char *path = NULL;

    assert_non_null(root);
    assert_true(asprintf(&path, "%s/oracle/logits/%s%s", root, name, suffix) > 0);
    return path;
}

static void map(struct filemap *ret, const char *name, const char *suffix)
{
    char *path = path_of(name, suffix);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(filemap_open(ret, fd), 0);
    (void)close(fd);
    free(path);
}

struct facts {
    json_t *json; /* owned */
    struct filemap gguf, arrays;
    size_t n_vocab;
};

static void facts_open(struct facts *f, const char *name)
{
    char *path = path_of(name, ".json");

    f->json = json_load_file(path, 0, NULL);
    assert_non_null(f->json);
    free(path);
    map(&f->gguf, name, ".gguf");
    map(&f->arrays, name, ".f32");
    f->n_vocab = (size_t)json_integer_value(json_object_get(json_object_get(f->json, "dims"), "V"));
    assert_true(f->n_vocab > 0);
}

static void facts_close(struct facts *f)
{
    json_decref(f->json);
    filemap_close(&f->gguf);
    filemap_close(&f->arrays);
}

/* Rows of one array, e.g. "ideal.last". */
static const float *rows_of(const struct facts *f, const char *set, const char *part, size_t n_rows)
{
    const json_t *arrays = json_object_get(json_object_get(f->json, "binary"), "arrays");
    char name[64];

    (void)snprintf(name, sizeof(name), "%s.%s", set, part);
    const json_t *offset = json_object_get(json_object_get(arrays, name), "offset");
    assert_true(json_is_integer(offset));
    const size_t at = (size_t)json_integer_value(offset);
    assert_true(at + n_rows * f->n_vocab * sizeof(float) <= f->arrays.size);
    return (const void *)(f->arrays.data + at);
}

static double most_of(const double *got, const float *want, size_t n)
{
    double most = 0;

    for (size_t i = 0; i < n; i++) {
        const double diff = fabs(got[i] - (double)want[i]);
        most = diff > most || isnan(diff) ? diff : most;
    }
    return most;
}

/* The largest difference of any logit that the set has of one prompt. */
static double prompt_distance(const struct facts *f, const struct recorded *c, size_t prompt)
{
    const json_t *list = json_array_get(json_object_get(f->json, "prompts"), prompt);
    const size_t n_ids = json_array_size(list);
    int32_t ids[IDS_MAX];

    assert_true(n_ids > 0 && n_ids <= IDS_MAX);
    for (size_t i = 0; i < n_ids; i++) {
        ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    }
    double *got = malloc(n_ids * f->n_vocab * sizeof(*got));
    assert_non_null(got);
    reference_logits(f->gguf.data, f->gguf.size, ids, n_ids, c->activations, got, NULL);
    const float *last = rows_of(f, c->set, "last", N_PROMPTS) + prompt * f->n_vocab;
    double most = most_of(got + (n_ids - 1) * f->n_vocab, last, f->n_vocab);
    if (prompt == 2) {
        assert_int_equal(n_ids, N_ALL);
        const float *all = rows_of(f, c->set, "prompt2_all", N_ALL);
        most = fmax(most, most_of(got, all, N_ALL * f->n_vocab));
    }
    free(got);
    return most;
}

static void the_written_out_pass_computes_what_was_recorded(void **state)
{
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct facts f;
        double most = 0;
        facts_open(&f, cases[i].name);
        for (size_t prompt = 0; prompt < N_PROMPTS; prompt++) {
            const double far = prompt_distance(&f, &cases[i], prompt);
            most = far > most || isnan(far) ? far : most;
        }
        print_message("%s, %s: max %.2g\n", cases[i].name, cases[i].set, most);
        assert_true(most < FAR);
        facts_close(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_written_out_pass_computes_what_was_recorded),
    };
    char *probe = path_of(cases[0].name, ".json");
    const bool there = access(probe, R_OK) == 0;

    if (!there) {
        printf("SKIPPED: %s is absent\n", probe);
    }
    free(probe);
    return there ? cmocka_run_group_tests(tests, NULL, NULL) : SKIP;
}
