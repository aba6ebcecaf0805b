#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "engine/gguf.h"

/* A file under construction. */
struct maker {
    struct buf b;
};

static void put(struct maker *m, const void *data, size_t n)
{
    assert_int_equal(buf_append(&m->b, data, n), 0);
}

static void put_u32(struct maker *m, uint32_t v)
{
    put(m, &v, sizeof(v));
}

static void put_u64(struct maker *m, uint64_t v)
{
    put(m, &v, sizeof(v));
}

static void put_str(struct maker *m, const char *s)
{
    put_u64(m, strlen(s));
    put(m, s, strlen(s));
}

static struct maker make(uint32_t version, uint64_t n_tensors, uint64_t n_keys)
{
    struct maker m;

    buf_init(&m.b, 1u << 20);
    put(&m, "GGUF", 4);
    put_u32(&m, version);
    put_u64(&m, n_tensors);
    put_u64(&m, n_keys);
    return m;
}

static void put_key_u32(struct maker *m, const char *name, uint32_t v)
{
    put_str(m, name);
    put_u32(m, GGUF_U32);
    put_u32(m, v);
}

static void put_tensor(struct maker *m, const char *name, uint64_t n, uint64_t offset)
{
    put_str(m, name);
    put_u32(m, 1);
    put_u64(m, n);
    put_u32(m, 0);
    put_u64(m, offset);
}

/* Parse from a copy of exactly the file's size, so that a sanitizer sees a read past the end. */
static int parse(struct maker *m, struct gguf *g, struct diag *d)
{
    uint8_t *copy = malloc(m->b.n ? m->b.n : 1);

    assert_non_null(copy);
    if (m->b.n > 0) {
        memcpy(copy, m->b.data, m->b.n);
    }
    *d = (struct diag){0};
    const int r = gguf_parse(g, copy, m->b.n, d);
    buf_deinit(&m->b);
    if (r != GGUF_OK) {
        assert_true(d->set);
        free(copy);
    }
    return r;
}

static void done(struct gguf *g)
{
    void *copy = (void *)(uintptr_t)g->data;

    gguf_deinit(g);
    free(copy);
}

static void refused(struct maker m, const char *word)
{
    struct gguf g;
    struct diag d;

    assert_int_equal(parse(&m, &g, &d), GGUF_MALFORMED);
    if (!strstr(d.text, word)) {
        fail_msg("\"%s\" does not say \"%s\"", d.text, word);
    }
}

/* Goal: what a sound file holds is found again, with the types it was written with. */
static void keys_and_tensors_are_found(void **state)
{
    struct maker m = make(3, 2, 5);
    struct gguf g;
    struct diag d;
    uint32_t u = 0;
    float f = 0;
    bool b = false;
    struct strview s;
    const struct gguf_key *list;
    (void)state;

    put_key_u32(&m, "one", 1);
    put_str(&m, "half");
    put_u32(&m, GGUF_F64);
    const double half = 0.5;
    put(&m, &half, sizeof(half));
    put_str(&m, "yes");
    put_u32(&m, GGUF_BOOL);
    put(&m, "\1", 1);
    put_str(&m, "words");
    put_u32(&m, GGUF_ARR);
    put_u32(&m, GGUF_STR);
    put_u64(&m, 2);
    put_str(&m, "ab");
    put_str(&m, "");
    put_str(&m, "name");
    put_u32(&m, GGUF_STR);
    put_str(&m, "x");
    put_tensor(&m, "b", 4, 32);
    put_tensor(&m, "a", 8, 0);
    while (m.b.n % 32 != 0) {
        put(&m, "", 1);
    }
    const size_t data_at = m.b.n;
    for (int i = 0; i < 48; i++) {
        put(&m, "", 1);
    }
    assert_int_equal(parse(&m, &g, &d), GGUF_OK);
    assert_int_equal(gguf_u32(&g, "one", &u, NULL), GGUF_FOUND);
    assert_int_equal(u, 1);
    assert_int_equal(gguf_f32(&g, "half", &f, NULL), GGUF_FOUND);
    assert_true(f == 0.5f);
    assert_int_equal(gguf_bool(&g, "yes", &b, NULL), GGUF_FOUND);
    assert_true(b);
    assert_int_equal(gguf_str(&g, "name", &s, NULL), GGUF_FOUND);
    assert_true(strview_is(s, "x"));
    assert_int_equal(gguf_array(&g, "words", GGUF_STR, &list, NULL), GGUF_FOUND);
    struct gguf_str_iter it = gguf_strings(list);
    assert_true(gguf_str_next(&it, &s) && strview_is(s, "ab"));
    assert_true(gguf_str_next(&it, &s) && s.n == 0);
    assert_false(gguf_str_next(&it, &s));
    assert_int_equal(gguf_u32(&g, "absent", &u, NULL), GGUF_ABSENT);
    assert_int_equal(gguf_u32(&g, "name", &u, NULL), GGUF_WRONG_TYPE);
    assert_int_equal(gguf_array(&g, "words", GGUF_I32, &list, &d), GGUF_WRONG_TYPE);
    assert_int_equal(gguf_tensor_find(&g, "a")->offset, data_at);
    assert_int_equal(gguf_tensor_find(&g, "b")->offset, data_at + 32);
    assert_null(gguf_tensor_find(&g, "c"));
    done(&g);
}

/* Goal: integers of every width are read, negative and wide ones are no u32. */
static void numbers_that_do_not_fit_are_the_wrong_type(void **state)
{
    struct maker m = make(3, 0, 3);
    struct gguf g;
    struct diag d;
    uint32_t u = 7;
    (void)state;

    put_str(&m, "small");
    put_u32(&m, GGUF_I8);
    put(&m, "\x7f", 1);
    put_str(&m, "minus");
    put_u32(&m, GGUF_I16);
    put(&m, "\xff\xff", 2);
    put_str(&m, "wide");
    put_u32(&m, GGUF_U64);
    put_u64(&m, UINT64_C(1) << 32);
    assert_int_equal(parse(&m, &g, &d), GGUF_OK);
    assert_int_equal(gguf_u32(&g, "small", &u, NULL), GGUF_FOUND);
    assert_int_equal(u, 127);
    assert_int_equal(gguf_u32(&g, "minus", &u, &d), GGUF_WRONG_TYPE);
    assert_int_equal(gguf_u32(&g, "wide", &u, NULL), GGUF_WRONG_TYPE);
    assert_int_equal(u, 127); /* outputs are written only when found */
    done(&g);
}

static void headers_that_are_not_version_3_are_refused(void **state)
{
    struct maker m;
    (void)state;

    buf_init(&m.b, 64);
    refused(m, "not a GGUF");
    m = make(2, 0, 0);
    refused(m, "GGUF version 2; this reads version 3");
    m = make(0x03000000, 0, 0); /* big-endian */
    refused(m, "GGUF version 50331648");
    m = make(3, 0, 0);
    m.b.n -= 1;
    refused(m, "header");
}

static void counts_beyond_the_file_are_refused_before_memory_is_taken(void **state)
{
    (void)state;

    refused(make(3, 0, UINT64_MAX), "keys");
    refused(make(3, UINT64_MAX, 0), "tensors");
    refused(make(3, UINT64_C(1) << 32, 0), "tensors");
    refused(make(3, 0, 1), "keys");
}

static void broken_keys_are_refused(void **state)
{
    struct maker m = make(3, 0, 1);
    (void)state;

    put_key_u32(&m, "", 1);
    refused(m, "empty key");

    m = make(3, 0, 1);
    put_u64(&m, UINT64_MAX);
    put_u64(&m, 0);
    refused(m, "key name");

    m = make(3, 0, 1);
    put_str(&m, "k");
    put_u32(&m, GGUF_VALUES);
    put_u32(&m, 0);
    refused(m, "value type");

    m = make(3, 0, 2);
    put_key_u32(&m, "twice", 1);
    put_key_u32(&m, "twice", 2);
    refused(m, "appears twice");

    m = make(3, 0, 1);
    put_str(&m, "k");
    put_u32(&m, GGUF_STR);
    put_u64(&m, UINT64_C(1) << 63);
    refused(m, "passes the end");
}

static void broken_arrays_are_refused(void **state)
{
    struct maker m = make(3, 0, 1);
    (void)state;

    put_str(&m, "nested");
    put_u32(&m, GGUF_ARR);
    put_u32(&m, GGUF_ARR);
    put_u64(&m, 0);
    refused(m, "broken");

    m = make(3, 0, 1);
    put_str(&m, "wraps");
    put_u32(&m, GGUF_ARR);
    put_u32(&m, GGUF_F32);
    put_u64(&m, UINT64_C(1) << 62);
    refused(m, "broken");

    m = make(3, 0, 1);
    put_str(&m, "strings");
    put_u32(&m, GGUF_ARR);
    put_u32(&m, GGUF_STR);
    put_u64(&m, 2);
    put_str(&m, "only one");
    refused(m, "broken");
}

static void alignments_that_are_no_power_of_two_are_refused(void **state)
{
    static const uint32_t bad[] = {0, 24, 33};
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct maker m = make(3, 0, 1);
        put_key_u32(&m, "general.alignment", bad[i]);
        refused(m, "power of two");
    }
}

/* @dims: (n_dims), of which at most two are written */
static struct maker with_tensor(uint32_t n_dims, const uint64_t *dims, uint64_t offset)
{
    struct maker m = make(3, 1, 0);

    put_str(&m, "t");
    put_u32(&m, n_dims);
    for (uint32_t i = 0; i < n_dims && i < 2; i++) {
        put_u64(&m, dims[i]);
    }
    put_u32(&m, 0);
    put_u64(&m, offset);
    return m;
}

static void broken_tensor_infos_are_refused(void **state)
{
    static const uint64_t zero[] = {0}, wraps[] = {UINT64_C(1) << 32, UINT64_C(1) << 32};
    static const uint64_t minus[] = {UINT64_MAX - 31}, fine[] = {4, 1};
    struct maker m = make(3, 1, 0);
    (void)state;

    put_tensor(&m, "", 1, 0);
    put(&m, "........", 8);
    refused(m, "empty tensor name");
    refused(with_tensor(1, zero, 0), "dimensions");
    refused(with_tensor(2, wraps, 0), "dimensions");
    refused(with_tensor(1, minus, 0), "dimensions");
    refused(with_tensor(UINT32_MAX, fine, 0), "dimensions");
    refused(with_tensor(1, fine, 8), "no multiple");
    refused(with_tensor(1, fine, 1u << 20), "passes the end");

    m = make(3, 2, 0);
    put_tensor(&m, "t", 4, 0);
    put_tensor(&m, "t", 4, 0);
    refused(m, "appears twice");
}

static void a_tensor_without_dimensions_is_one_number(void **state)
{
    struct maker m = with_tensor(0, NULL, 0);
    struct gguf g;
    struct diag d;
    (void)state;

    for (int i = 0; i < 64; i++) {
        put(&m, "", 1);
    }
    assert_int_equal(parse(&m, &g, &d), GGUF_OK);
    assert_int_equal(g.tensors[0].dims[0], 1);
    assert_int_equal(g.tensors[0].dims[3], 1);
    done(&g);
}

/* Goal: a file may end anywhere. Method: every prefix of a sound file's header parts. */
static void every_cut_is_refused_or_sound(void **state)
{
    struct maker whole = make(3, 1, 2);
    (void)state;

    put_key_u32(&whole, "one", 1);
    put_str(&whole, "list");
    put_u32(&whole, GGUF_ARR);
    put_u32(&whole, GGUF_STR);
    put_u64(&whole, 1);
    put_str(&whole, "word");
    put_tensor(&whole, "t", 4, 0);
    for (size_t n = 0; n < whole.b.n; n++) {
        struct maker m;
        struct gguf g;
        struct diag d;
        buf_init(&m.b, 1u << 20);
        put(&m, whole.b.data, n);
        assert_int_equal(parse(&m, &g, &d), GGUF_MALFORMED);
    }
    buf_deinit(&whole.b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_and_tensors_are_found),
        cmocka_unit_test(numbers_that_do_not_fit_are_the_wrong_type),
        cmocka_unit_test(headers_that_are_not_version_3_are_refused),
        cmocka_unit_test(counts_beyond_the_file_are_refused_before_memory_is_taken),
        cmocka_unit_test(broken_keys_are_refused),
        cmocka_unit_test(broken_arrays_are_refused),
        cmocka_unit_test(alignments_that_are_no_power_of_two_are_refused),
        cmocka_unit_test(broken_tensor_infos_are_refused),
        cmocka_unit_test(a_tensor_without_dimensions_is_one_number),
        cmocka_unit_test(every_cut_is_refused_or_sound),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
