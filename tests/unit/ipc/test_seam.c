/* The seam: each side checks what the other says, though both are ours. */
#include "tests/support/test.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "ipc/frame.h"
#include "ipc/seam.h"
#include "tests/unit/ipc/frames.h"

static void every_seam_frame_reads_as_it_was_packed(void **state)
{
    (void)state;

    for (size_t i = 0; i < n_seam_examples; i++) {
        struct buf out;

        buf_init(&out, 65536);
        assert_int_equal(seam_examples[i].put(&out), 0);
        const size_t n = out.n - FRAME_HEADER;
        uint8_t *body = malloc(n);
        assert_non_null(body);
        memcpy(body, out.data + FRAME_HEADER, n);
        seam_examples[i].check(body, n);
        free(body);
        buf_deinit(&out);
    }
}

static void a_seam_frame_cut_short_or_packed_short_is_refused(void **state)
{
    (void)state;

    for (size_t i = 0; i < n_seam_examples; i++) {
        struct buf out;
        struct seam_message m;

        buf_init(&out, 65536);
        assert_int_equal(seam_examples[i].put(&out), 0);
        const size_t whole = out.n;
        for (size_t n = 0; n < whole - FRAME_HEADER; n++) {
            assert_int_equal(seam_read(&m, out.data + FRAME_HEADER, n, NULL), SEAM_MALFORMED);
        }
        buf_deinit(&out);
        for (size_t max = 0; max < whole; max++) {
            buf_init(&out, max);
            assert_int_equal(seam_examples[i].put(&out), -E2BIG);
            assert_int_equal(out.n, 0);
            buf_deinit(&out);
        }
    }
}

static const struct {
    const char *text, *name; /* NULL: read */
} gone_wrong[] = {
    {"{}", "type"},
    {"{'type': 'dance'}", "type"},
    {"{'type': 7}", "type"},
    {"{'type': 'drop', 'type': 'drop', 'model': 1}", "type"},
    {"{'model': 1, 'type': 'drop', 'new': []}", NULL},
    {"{'type': 'drop'}", "model"},
    {"{'type': 'drop', 'model': 4294967296}", "model"},
    {"{'type': 'load', 'model': 1, 'n_streams_max': 65}", "n_streams_max"},
    {"{'type': 'load', 'model': 1, 'n_ctx': 1048577}", "n_ctx"},
    {"{'type': 'load', 'model': 1, 'default_temperature': 10.5}", "default_temperature"},
    {"{'type': 'load', 'model': 1, 'name': <1024>}", NULL},
    {"{'type': 'load', 'model': 1, 'name': <1025>}", "name"},
    {"{'type': 'load', 'model': 1, 'chat_template': <255>}", NULL},
    {"{'type': 'load', 'model': 1, 'chat_template': <256>}", "chat_template"},
    {"{'type': 'start', 'seq': 1, 'model': 1, 'seed': 0, 'request': b<1048576>}", NULL},
    {"{'type': 'start', 'seq': 1, 'model': 1, 'seed': 0, 'request': b<1048577>}", "request"},
    {"{'type': 'start', 'seq': 1, 'model': 1, 'seed': 0, 'request': b<0>}", "request"},
    {"{'type': 'start', 'seq': 1, 'model': 1, 'seed': 0, 'request': 'text'}", "request"},
    {"{'type': 'start', 'seq': 1, 'model': 1, 'seed': 0}", "request"},
    {"{'type': 'start', 'seq': 1, 'model': 1, 'request': b<1>}", "seed"},
    {"{'type': 'start', 'seq': 0, 'model': 1, 'seed': 0, 'request': b<1>}", "seq"},
    {"{'type': 'start', 'seq': 1, 'model': 1, 'seed': 0, 'request': b<1>, 'resume': [-1]}",
     "resume"},
    {"{'type': 'plan', 'run': [64x 1]}", NULL},
    {"{'type': 'plan', 'run': [65x 1]}", "run"},
    {"{'type': 'plan', 'run': [0]}", "run"},
    {"{'type': 'plan', 'run': [-1]}", "run"},
    {"{'type': 'plan', 'run': 1}", "run"},
    {"{'type': 'plan'}", "run"},
    {"{'type': 'cancel', 'seq': 0}", "seq"},
    {"{'type': 'start', 'seq': 1, 'model': 1, 'seed': 0, 'request': b<1>, 'salt': b<16>}", NULL},
    {"{'type': 'start', 'seq': 1, 'model': 1, 'seed': 0, 'request': b<1>, 'salt': b<15>}", "salt"},
    {"{'type': 'start', 'seq': 1, 'model': 1, 'seed': 0, 'request': b<1>, 'salt': "
     "'0123456789abcdef'}",
     "salt"},
    {"{'type': 'start', 'seq': 1, 'model': 1, 'seed': 0, 'request': b<1>, 'history': [-1]}",
     "history"},
    {"{'type': 'start', 'seq': 1, 'model': 1, 'seed': 0, 'request': b<1>, 'history': 1}",
     "history"},
    {"{'type': 'start', 'seq': 1, 'model': 1, 'seed': 0, 'request': b<1>, 'n_history': 257}",
     "n_history"},
    {"{'type': 'public', 'model': 1}", "label"},
    {"{'type': 'public', 'model': 1, 'label': b<17>}", "label"},
    {"{'type': 'spill', 'model': 1}", "bytes_max"},
    {"{'type': 'plan', 'run': [], 'prompt_us': 4294967296}", "prompt_us"},
    {"{'type': 'plan', 'run': [], 'urgent': 1}", "urgent"},
    {"{'type': 'plan', 'run': [], 'threads': 64}", NULL},
    {"{'type': 'plan', 'run': [], 'threads': 65}", "threads"},
    {"{'type': 'hello', 'cpu': 'avx2', 'n_threads': 1}", "pack_id"},
    {"{'type': 'loaded', 'model': 1, 'n_ctx': 1, 'n_streams': 65}", "n_streams"},
    {"{'type': 'loaded', 'model': 1, 'n_ctx': 1, 'n_streams': 0}", "n_streams"},
    {"{'type': 'loaded', 'model': 1, 'n_ctx': 1, 'n_streams': 1, 'arch': b<1024>}", NULL},
    {"{'type': 'loaded', 'model': 1, 'n_ctx': 1, 'n_streams': 1, 'arch': b<1025>}", "arch"},
    {"{'type': 'started', 'seq': 1, 'prompt_tokens': -1}", "prompt_tokens"},
    {"{'type': 'prefill', 'seq': 1, 'done': 1}", "total"},
    {"{'type': 'tokens', 'seq': 1, 'index': 1048577}", "index"},
    {"{'type': 'tokens', 'seq': 1, 'index': 0, 'text': b<3>}", "text"},
    {"{'type': 'tokens', 'seq': 1, 'index': 0, 'ids': [2147483648]}", "ids"},
    {"{'type': 'tokens', 'seq': 1, 'index': 0, 'ids': [1], 'logprobs': [[[1, inf]]]}", "logprobs"},
    {"{'type': 'tokens', 'seq': 1, 'index': 0, 'logprobs': [[[1, 0]]]}", "logprobs"},
    {"{'type': 'finished', 'seq': 1}", "reason"},
    {"{'type': 'failed', 'seq': 1, 'code': 'none'}", "code"},
    {"{'type': 'failed', 'seq': 1, 'code': 'moon_phase'}", "code"},
    {"{'type': 'failed', 'seq': 1, 'code': 'internal', 'message': <65537>}", "message"},
    {"{'type': 'failed', 'model': 1, 'code': 'internal'}", "seq"},
    {"{'type': 'load_failed', 'seq': 1, 'code': 'internal'}", "model"},
    {"{'type': 'stats', 'steps': -1}", "steps"},
    {"['type', 'stats']", "the body"},
};

static void a_runner_or_broker_gone_wrong_is_refused_by_name(void **state)
{
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(gone_wrong); i++) {
        struct seam_message m;
        struct diag diag = {0};
        struct buf body;

        buf_init(&body, 4 << 20);
        mp_text(&body, gone_wrong[i].text);
        const int r = seam_read(&m, body.data, body.n, &diag);
        const char *name = gone_wrong[i].name ? gone_wrong[i].name : "";
        if (r != (gone_wrong[i].name ? SEAM_MALFORMED : SEAM_OK) || diag.set != (r != SEAM_OK) ||
            strncmp(diag.text, name, strlen(name)) != 0) {
            print_error("%s: outcome %d, \"%s\"\n", gone_wrong[i].text, r, diag.text);
            fail();
        }
        buf_deinit(&body);
    }
}

/* Goal: a restart can hand over the longest answer there may be. */
static void a_start_carries_a_whole_request_and_the_longest_answer(void **state)
{
    struct seam_message m = {.type = SEAM_START, .start = {.seq = 1}}, got;
    int32_t *ids = malloc(MSG_TOKENS_MAX * sizeof(*ids));
    char *request = calloc(1, FRAME_BODY_MAX);
    struct buf out;
    (void)state;

    assert_non_null(ids);
    assert_non_null(request);
    for (size_t i = 0; i < MSG_TOKENS_MAX; i++) {
        ids[i] = INT32_MAX; /* five bytes each */
    }
    m.start.request = (struct strview){request, FRAME_BODY_MAX};
    buf_init(&out, FRAME_HEADER + (size_t)FRAME_SEAM_BODY_MAX);
    assert_int_equal(seam_put(&out, &m, ids, MSG_TOKENS_MAX, NULL, 0), 0);
    assert_int_equal(seam_read(&got, out.data + FRAME_HEADER, out.n - FRAME_HEADER, NULL), SEAM_OK);
    assert_int_equal(got.start.resume.n, MSG_TOKENS_MAX);
    assert_int_equal(got.start.request.n, FRAME_BODY_MAX);
    assert_int_equal(seam_put(&out, &m, ids, MSG_TOKENS_MAX + 1, NULL, 0), -E2BIG);
    buf_deinit(&out);
    free(request);
    free(ids);
}

/* Goal: no side sends what makes the other hang up. Method: a value past each kind of bound; the
 * frame before it stays whole. */
static void a_value_that_could_not_be_read_back_is_never_packed(void **state)
{
    static char long_name[2000];
    const struct seam_message bad[] = {
        {.type = SEAM_LOAD, .load = {.has_default_temperature = true, .default_temperature = 50}},
        {.type = SEAM_LOAD, .load = {.has_default_temperature = true, .default_temperature = NAN}},
        {.type = SEAM_LOAD, .load = {.n_streams_max = SEAM_STREAMS_MAX + 1}},
        {.type = SEAM_LOAD, .load = {.n_ctx = MSG_TOKENS_MAX + 1}},
        {.type = SEAM_LOAD, .load = {.name = {long_name, sizeof(long_name)}}},
        {.type = SEAM_CANCEL, .cancel = 0},
        {.type = SEAM_PLAN, .plan = {.n_run = 1}},
        {.type = SEAM_START, .start = {.seq = 1}},
        {.type = SEAM_START,
         .start = {.seq = 1, .request = {"x", 1}, .n_history = MSG_MESSAGES_MAX + 1}},
    };
    const struct seam_message good = {
        .type = SEAM_LOAD,
        .load = {.has_default_temperature = true, .default_temperature = MSG_TEMPERATURE_MAX}};
    struct buf out;
    (void)state;

    memset(long_name, 'n', sizeof(long_name));
    buf_init(&out, 1 << 20);
    assert_int_equal(seam_put(&out, &good, NULL, 0, NULL, 0), 0);
    const size_t n = out.n;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(seam_put(&out, &bad[i], NULL, 0, NULL, 0), -EINVAL);
        assert_int_equal(out.n, n);
    }
    buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_seam_frame_reads_as_it_was_packed),
        cmocka_unit_test(a_seam_frame_cut_short_or_packed_short_is_refused),
        cmocka_unit_test(a_runner_or_broker_gone_wrong_is_refused_by_name),
        cmocka_unit_test(a_start_carries_a_whole_request_and_the_longest_answer),
        cmocka_unit_test(a_value_that_could_not_be_read_back_is_never_packed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
