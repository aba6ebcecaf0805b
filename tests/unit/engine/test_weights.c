/* Weights in memory: shared with a file, or a copy of one's own. */
#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/model.h"
#include "tests/unit/engine/tiny.h"

#define HUGE ((uint64_t)2 << 20)

static const struct tiny small = {.arch = "qwen3", .format = "Q8_0", .head = "Q8_0"};
static const char *const all_floats[] = {"F32", NULL};
static const struct tiny large = {
    .arch = "llama", .each = all_floats, .n_layer = 4, .uneven = true}; /* 14 MiB */

static int pack_of(const struct tiny *t)
{
    const int in = tiny_write(t), out = memfd_create("out", MFD_CLOEXEC);

    assert_int_equal(model_pack(in, out, NULL, NULL), MODEL_OK);
    (void)close(in);
    return out;
}

static struct model *open_with(int fd, enum weights_backing backing)
{
    struct model *m = NULL;
    struct model_weights w;

    assert_int_equal(model_open_packed(&m, fd, NULL), MODEL_OK);
    assert_int_equal(model_bring_in(m, fd, backing, NULL), MODEL_OK);
    model_weights(m, &w);
    assert_int_equal(w.backing, backing);
    assert_int_equal(w.bytes, m->header->sections[IMAGE_WEIGHTS].bytes);
    assert_int_equal(model_verify(m, NULL), MODEL_OK);
    return m;
}

/* (n_vocab) logits after three tokens; the caller frees */
static float *logits_of(const struct model *m)
{
    const struct engine_options options = {.cpu = cpu_level_best(), .n_threads = 2};
    const struct stepper_limits limits = {.n_tokens_max = 3, .n_logits_max = 1};
    const int32_t ids[] = {5, 77, 200};
    struct engine *engine = NULL;
    struct kv_pool *pool = NULL;
    struct stepper *stepper = NULL;
    struct seq *seq = NULL;
    float *ret = malloc(TINY_VOCAB * sizeof(*ret));

    assert_non_null(ret);
    assert_int_equal(engine_new(&engine, &options), 0);
    assert_int_equal(kv_pool_new(&pool, m, KV_F32, 1), 0);
    assert_int_equal(seq_new(&seq, pool, 8), 0);
    assert_int_equal(stepper_new(&stepper, engine, m, &limits), 0);
    struct step_item item = {.seq = seq, .ids = ids, .n_ids = 3, .n_logits = 1};
    assert_int_equal(stepper_run(stepper, &item, 1, NULL), STEP_OK);
    memcpy(ret, item.logits, TINY_VOCAB * sizeof(*ret));
    stepper_free(stepper);
    seq_free(seq);
    kv_pool_free(pool);
    engine_free(engine);
    return ret;
}

static void a_private_copy_computes_the_same(void **state)
{
    static const struct tiny models[] = {
        {.arch = "qwen3", .format = "Q1_0", .head = "Q1_0"},
        {.arch = "qwen2", .format = "Q8_0", .head = "F16", .untied = true},
        {.arch = "bitnet-b1.58", .format = "I2_S", .head = "F16"},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(models); i++) {
        const int fd = pack_of(&models[i]);
        struct model *shared = open_with(fd, WEIGHTS_SHARED);
        struct model *own = open_with(fd, WEIGHTS_PRIVATE);
        (void)close(fd);
        float *want = logits_of(shared), *got = logits_of(own);
        struct model_info info;
        model_info(own, &info);
        assert_int_equal(info.head_tied, !models[i].untied);
        assert_memory_equal(got, want, TINY_VOCAB * sizeof(*got));
        free(want);
        free(got);
        model_free(shared);
        model_free(own);
    }
}

/* Goal: nothing of a private model's matrices lies in the file's pages. Method: zero the file's
 * weights under it; the answers stay, and a shared model's do not. */
static void a_private_copy_depends_on_no_file(void **state)
{
    const int fd = pack_of(&small);
    struct model *own = open_with(fd, WEIGHTS_PRIVATE), *shared = open_with(fd, WEIGHTS_SHARED);
    const struct image_section *s = &own->header->sections[IMAGE_WEIGHTS];
    uint8_t *zeros = calloc(1, (size_t)s->bytes);
    float *want = logits_of(own);
    (void)state;

    assert_non_null(zeros);
    assert_int_equal(pwrite(fd, zeros, (size_t)s->bytes, (off_t)s->offset), (ssize_t)s->bytes);
    float *got = logits_of(own), *other = logits_of(shared);
    assert_memory_equal(got, want, TINY_VOCAB * sizeof(*got));
    assert_memory_not_equal(other, want, TINY_VOCAB * sizeof(*got));
    assert_int_equal(model_verify(own, NULL), MODEL_OK);
    assert_int_equal(model_verify(shared, NULL), MODEL_MALFORMED);
    free(zeros);
    free(want);
    free(got);
    free(other);
    model_free(own);
    model_free(shared);
    (void)close(fd);
}

static void a_flipped_bit_is_found_on_the_way_in(void **state)
{
    const int fd = pack_of(&small);
    struct model *m = open_with(fd, WEIGHTS_SHARED);
    const struct image_section s = m->header->sections[IMAGE_WEIGHTS];
    (void)state;

    model_free(m);
    for (uint64_t at = s.offset; at < s.offset + s.bytes; at += s.bytes / 61) {
        uint8_t byte;
        assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
        byte ^= 1;
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
        for (unsigned b = 0; b < WEIGHTS_BACKINGS; b++) {
            struct diag d = {0};
            assert_int_equal(model_open_packed(&m, fd, NULL), MODEL_OK);
            assert_int_equal(model_bring_in(m, fd, (enum weights_backing)b, &d), MODEL_MALFORMED);
            assert_true(d.set && strstr(d.text, "WEIGHTS"));
            model_free(m);
        }
        byte ^= 1;
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
    }
    (void)close(fd);
}

static void a_file_that_is_cut_while_it_is_read_is_malformed(void **state)
{
    const int fd = pack_of(&small);
    struct model *m = NULL;
    struct diag d = {0};
    struct stat st;
    (void)state;

    assert_int_equal(model_open_packed(&m, fd, NULL), MODEL_OK);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(ftruncate(fd, st.st_size - 5000), 0);
    assert_int_equal(model_bring_in(m, fd, WEIGHTS_PRIVATE, &d), MODEL_MALFORMED);
    assert_true(d.set && strstr(d.text, "cut off"));
    model_free(m);
    (void)close(fd);
}

/* Bytes of huge pages that the system says are mapped at this address. */
static uint64_t huge_at(const void *address)
{
    FILE *f = fopen("/proc/self/smaps", "r");
    char line[512];
    bool here = false;
    uint64_t ret = 0;

    assert_non_null(f);
    while (fgets(line, sizeof(line), f)) {
        unsigned long long a, b;
        if (sscanf(line, "%llx-%llx ", &a, &b) == 2) {
            here = (uintptr_t)address >= a && (uintptr_t)address < b;
        } else if (here && sscanf(line, "AnonHugePages: %llu kB", &a) == 1) {
            ret = a << 10;
        }
    }
    (void)fclose(f);
    return ret;
}

static void it_tells_which_pages_it_got(void **state)
{
    const int fd = pack_of(&large);
    struct model_weights w;
    (void)state;

    for (int forbidden = 0; forbidden < 2; forbidden++) {
        assert_int_equal(prctl(PR_SET_THP_DISABLE, forbidden, 0, 0, 0), 0);
        struct model *m = open_with(fd, WEIGHTS_PRIVATE);
        model_weights(m, &w);
        assert_true(w.bytes > 3 * HUGE);
        assert_int_equal(w.huge_bytes, huge_at(m->copy.data));
        assert_true(forbidden ? w.huge_bytes == 0 : w.huge_bytes <= w.bytes);
        model_free(m);
    }
    assert_int_equal(prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0), 0);
    (void)close(fd);
}

/* Goal: without memory for a copy the model is told to be shared and then is fit to be. Method: a
 * limit on the address space, in a process of its own. */
static void no_room_for_a_copy_leaves_it_shareable(void **state)
{
    const int fd = pack_of(&large);
    int status = 0;
    (void)state;

    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        const struct rlimit none = {.rlim_cur = 1, .rlim_max = 1};
        struct model *m = NULL;
        if (model_open_packed(&m, fd, NULL) != MODEL_OK || setrlimit(RLIMIT_AS, &none) != 0) {
            _exit(1);
        }
        if (model_bring_in(m, fd, WEIGHTS_PRIVATE, NULL) != -ENOMEM) {
            _exit(2);
        }
        if (model_bring_in(m, fd, WEIGHTS_SHARED, NULL) != MODEL_OK) {
            _exit(3);
        }
        _exit(m->layers && m->embd.data > m->file.data ? 0 : 4);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    (void)close(fd);
}

static void a_scratch_file_makes_way_for_the_copy(void **state)
{
    const int in = tiny_write(&large);
    struct model *m = NULL;
    struct stat before, after;
    (void)state;

    assert_int_equal(model_open_gguf(&m, in, NULL, NULL), MODEL_OK);
    (void)close(in);
    assert_int_equal(fstat(m->scratch_fd, &before), 0);
    assert_int_equal(model_bring_in(m, -1, WEIGHTS_PRIVATE, NULL), MODEL_OK);
    assert_int_equal(fstat(m->scratch_fd, &after), 0);
    assert_true((uint64_t)before.st_blocks * 512 > m->header->sections[IMAGE_WEIGHTS].bytes);
    assert_true((uint64_t)after.st_blocks * 512 < HUGE);
    assert_int_equal(model_verify(m, NULL), MODEL_OK);
    assert_int_equal(model_bring_in(m, -1, WEIGHTS_PRIVATE, NULL), MODEL_OK); /* it is there */
    model_free(m);
}

static void backings_have_names(void **state)
{
    enum weights_backing b = WEIGHTS_SHARED;
    (void)state;

    assert_true(weights_backing_parse(strview_of("private"), &b));
    assert_int_equal(b, WEIGHTS_PRIVATE);
    assert_string_equal(weights_backing_name(b), "private");
    assert_true(weights_backing_parse(strview_of("shared"), &b));
    assert_int_equal(b, WEIGHTS_SHARED);
    assert_false(weights_backing_parse(strview_of("auto"), &b));
    assert_false(weights_backing_parse(strview_of(""), &b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_private_copy_computes_the_same),
        cmocka_unit_test(a_private_copy_depends_on_no_file),
        cmocka_unit_test(a_flipped_bit_is_found_on_the_way_in),
        cmocka_unit_test(a_file_that_is_cut_while_it_is_read_is_malformed),
        cmocka_unit_test(it_tells_which_pages_it_got),
        cmocka_unit_test(no_room_for_a_copy_leaves_it_shareable),
        cmocka_unit_test(a_scratch_file_makes_way_for_the_copy),
        cmocka_unit_test(backings_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
