#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/engine.h"
#include "engine/gguf.h"
#include "tests/unit/engine/tiny.h"

/* Goal: what is written is read again, rows in pieces included. */
static void what_is_written_is_read_again(void **state)
{
    const int fd = memfd_create("gguf", MFD_CLOEXEC);
    const struct strview words[] = {strview_of("a"), strview_of("")};
    const int32_t ints[] = {-1, 2};
    const float floats[] = {0.5f}, rows[] = {1, 2, 3, 4, 5, 6};
    const struct gguf_key *list = NULL;
    struct gguf_writer *w = NULL;
    struct gguf g;
    float f = 0;
    size_t n;
    (void)state;

    assert_int_equal(gguf_writer_new(&w), 0);
    assert_int_equal(gguf_put_f32(w, "f", 0.25f), 0);
    assert_int_equal(gguf_put_bool(w, "b", true), 0);
    assert_int_equal(gguf_put_str(w, "s", strview_of("text")), 0);
    assert_int_equal(gguf_put_str_array(w, "words", words, 2), 0);
    assert_int_equal(gguf_put_i32_array(w, "ints", ints, 2), 0);
    assert_int_equal(gguf_put_f32_array(w, "floats", floats, 1), 0);
    assert_int_equal(gguf_put_u32(w, "f", 1), -22); /* a key twice */
    assert_int_equal(gguf_put_tensor(w, "m", "F32", 2, 3, false), 0);
    assert_int_equal(gguf_put_tensor(w, "v", "F16", 2, 1, true), 0);
    assert_int_equal(gguf_put_tensor(w, "v", "F32", 2, 1, true), -22);
    assert_int_equal(gguf_writer_begin(w, fd), 0);
    assert_int_equal(gguf_writer_end(w), -22); /* nothing of m yet */
    assert_int_equal(gguf_writer_rows(w, rows, 1), 0);
    assert_int_equal(gguf_writer_rows(w, rows + 2, 3), -22); /* one more than there is */
    assert_int_equal(gguf_writer_rows(w, rows + 2, 2), 0);
    assert_int_equal(gguf_writer_rows(w, rows, 1), 0);
    assert_int_equal(gguf_writer_rows(w, rows, 1), -22);
    assert_int_equal(gguf_writer_end(w), 0);
    gguf_writer_free(w);

    uint8_t *data = tiny_slurp(fd, &n);
    assert_int_equal(gguf_parse(&g, data, n, NULL), GGUF_OK);
    assert_int_equal(n % 32, 0);
    assert_int_equal(g.n_keys, 6);
    assert_int_equal(gguf_f32(&g, "f", &f, NULL), GGUF_FOUND);
    assert_true(f == 0.25f);
    assert_int_equal(gguf_array(&g, "ints", GGUF_I32, &list, NULL), GGUF_FOUND);
    assert_memory_equal(list->data, ints, sizeof(ints));
    const struct gguf_tensor_info *m = gguf_tensor_find(&g, "m"), *v = gguf_tensor_find(&g, "v");
    assert_true(m->n_dims == 2 && m->dims[0] == 2 && m->dims[1] == 3);
    assert_memory_equal(g.data + m->offset, rows, sizeof(rows));
    assert_true(v->n_dims == 1 && v->type == 1);
    assert_memory_equal(g.data + v->offset, "\x00\x3c\x00\x40", 4);
    gguf_deinit(&g);
    free(data);
    (void)close(fd);
}

/* Goal: a tokenizer goes from one file into another as it stands. Method: keys of two prefixes; one
 * comes over, with its bytes, and neither a key twice nor a file that is none passes. */
static void keys_of_another_file_are_copied(void **state)
{
    const int from = memfd_create("from", MFD_CLOEXEC), to = memfd_create("to", MFD_CLOEXEC);
    const int none = memfd_create("none", MFD_CLOEXEC);
    const struct strview words[] = {strview_of("a"), strview_of("")};
    struct gguf_writer *w = NULL;
    struct strview s = {0};
    struct diag diag = {0};
    struct gguf g;
    size_t n;
    (void)state;

    assert_int_equal(gguf_writer_new(&w), 0);
    assert_int_equal(gguf_put_str(w, "general.name", strview_of("x")), 0);
    assert_int_equal(gguf_put_str(w, "tokenizer.pre", strview_of("qwen2")), 0);
    assert_int_equal(gguf_put_str_array(w, "tokenizer.words", words, 2), 0);
    assert_int_equal(gguf_writer_begin(w, from), 0);
    assert_int_equal(gguf_writer_end(w), 0);
    gguf_writer_free(w);

    assert_int_equal(write(none, "none", 4), 4);
    assert_int_equal(gguf_writer_new(&w), 0);
    assert_int_equal(gguf_put_from(w, none, "", &diag), MODEL_MALFORMED);
    assert_true(diag.set);
    assert_int_equal(gguf_put_from(w, from, "tokenizer.", NULL), MODEL_OK);
    assert_int_equal(gguf_put_from(w, from, "tokenizer.", NULL), -22);
    assert_int_equal(gguf_writer_begin(w, to), 0);
    assert_int_equal(gguf_writer_end(w), 0);
    gguf_writer_free(w);

    uint8_t *data = tiny_slurp(to, &n);
    assert_int_equal(gguf_parse(&g, data, n, NULL), GGUF_OK);
    assert_int_equal(g.n_keys, 2);
    assert_int_equal(gguf_str(&g, "tokenizer.pre", &s, NULL), GGUF_FOUND);
    assert_true(strview_is(s, "qwen2"));
    gguf_deinit(&g);
    free(data);
    (void)close(from);
    (void)close(to);
    (void)close(none);
}

static void broken_tensors_are_refused(void **state)
{
    struct gguf_writer *w = NULL;
    char name[80];
    (void)state;

    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    assert_int_equal(gguf_writer_new(&w), 0);
    assert_int_equal(gguf_put_tensor(w, "t", "Q3_K", 256, 1, false), -22);
    assert_int_equal(gguf_put_tensor(w, "t", "Q8_0", 33, 1, false), -22);
    assert_int_equal(gguf_put_tensor(w, "t", "F32", 0, 1, false), -22);
    assert_int_equal(gguf_put_tensor(w, "t", "F32", 4, 0, false), -22);
    assert_int_equal(gguf_put_tensor(w, "t", "F32", 4, 2, true), -22);
    assert_int_equal(gguf_put_tensor(w, "t", "F32", 1u << 20, UINT64_MAX / 8, false), -22);
    assert_int_equal(gguf_put_tensor(w, name, "F32", 4, 1, false), -22);
    assert_int_equal(gguf_put_u32(w, "", 1), -22);
    assert_int_equal(gguf_writer_end(w), -22); /* never begun */
    gguf_writer_free(w);
    gguf_writer_free(NULL);
}

/* Goal: what has no encoder here can still be written by who has its bytes. */
static void every_format_is_written_and_the_floats_of_some(void **state)
{
    const float x[512] = {0};
    const uint8_t raw[4 * 512] = {0};
    struct gguf_writable f;
    unsigned n_raw = 0, n_encoded = 0;
    (void)state;

    for (size_t i = 0; gguf_writable(i, &f); i++) {
        struct gguf_writer *w = NULL;
        const int fd = memfd_create("writable", MFD_CLOEXEC);

        assert_true(fd >= 0);
        assert_int_equal(gguf_writer_new(&w), 0);
        assert_int_equal(gguf_put_tensor(w, "t", f.name, 512, 1, false), 0);
        if (f.block > 1) {
            assert_int_equal(gguf_put_tensor(w, "u", f.name, 512 + 1, 1, false), -22);
        }
        assert_int_equal(gguf_writer_begin(w, fd), 0);
        assert_int_equal(gguf_writer_rows(w, x, 1), f.encodes ? 0 : -22);
        if (!f.encodes) {
            assert_int_equal(gguf_writer_raw(w, raw, 1), 0);
        }
        assert_int_equal(gguf_writer_end(w), 0);
        gguf_writer_free(w);
        (void)close(fd);
        n_raw += !f.encodes;
        n_encoded += f.encodes;
    }
    assert_true(n_raw > 0 && n_encoded > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_again),
        cmocka_unit_test(keys_of_another_file_are_copied),
        cmocka_unit_test(broken_tensors_are_refused),
        cmocka_unit_test(every_format_is_written_and_the_floats_of_some),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
