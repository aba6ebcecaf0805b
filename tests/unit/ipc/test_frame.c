/* Frames: how a stream is cut, and what is refused before a byte of it is kept. */
#include "tests/support/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/frame.h"

/* Goal: the reader must not care how the kernel cuts the stream.
 * Method: two frames, fed in two pieces, cut at every offset. */
static void frames_may_be_cut_anywhere(void **state)
{
    static const uint8_t wire[] = {3, 0, 0, 0, 'a', 'b', 'c', 1, 0, 0, 0, 'd'};
    (void)state;

    for (size_t cut = 0; cut <= sizeof(wire); cut++) {
        struct frame_reader in;
        const uint8_t *body = NULL;
        size_t n = 0;
        char got[8] = "";
        unsigned frames = 0;

        frame_reader_init(&in, /* body_max= */ 16);
        for (unsigned half = 0; half < 2; half++) {
            const size_t from = half ? cut : 0, to = half ? sizeof(wire) : cut;
            assert_int_equal(frame_feed(&in, wire + from, to - from), 0);
            while (frame_next(&in, &body, &n) == FRAME_OK) {
                memcpy(got + strlen(got), body, n);
                frames++;
            }
        }
        assert_int_equal(frames, 2);
        assert_string_equal(got, "abcd");
        assert_false(frame_partial(&in));
        frame_reader_deinit(&in);
    }
}

static void a_length_past_the_limit_is_refused_from_the_header_alone(void **state)
{
    static const uint8_t header[] = {17, 0, 0, 0}, gib[] = {0, 0, 0, 0x40};
    struct frame_reader in;
    const uint8_t *body = NULL;
    size_t n = 99;
    (void)state;

    frame_reader_init(&in, /* body_max= */ 16);
    assert_int_equal(frame_feed(&in, header, sizeof(header)), 0);
    assert_int_equal(frame_next(&in, &body, &n), FRAME_TOO_LONG);
    assert_null(body); /* outputs are untouched unless FRAME_OK */
    assert_int_equal(n, 99);
    assert_int_equal(frame_next(&in, &body, &n), FRAME_TOO_LONG); /* and it stays refused */
    frame_reader_deinit(&in);

    frame_reader_init(&in, FRAME_BODY_MAX);
    assert_int_equal(frame_feed(&in, gib, sizeof(gib)), 0);
    assert_int_equal(frame_next(&in, &body, &n), FRAME_TOO_LONG);
    assert_true(in.in.room <= 64); /* nothing was taken for the claim */
    frame_reader_deinit(&in);
}

static void a_length_at_the_limit_is_read(void **state)
{
    uint8_t wire[FRAME_HEADER + 16] = {16};
    struct frame_reader in;
    const uint8_t *body = NULL;
    size_t n = 0;
    (void)state;

    frame_reader_init(&in, /* body_max= */ 16);
    assert_int_equal(frame_feed(&in, wire, sizeof(wire)), 0);
    assert_int_equal(frame_next(&in, &body, &n), FRAME_OK);
    assert_int_equal(n, 16);
    frame_reader_deinit(&in);
}

static void an_empty_frame_is_refused(void **state)
{
    static const uint8_t wire[] = {0, 0, 0, 0, 1, 0, 0, 0, 'x'};
    struct frame_reader in;
    const uint8_t *body = NULL;
    size_t n = 0;
    (void)state;

    frame_reader_init(&in, 16);
    assert_int_equal(frame_feed(&in, wire, sizeof(wire)), 0);
    assert_int_equal(frame_next(&in, &body, &n), FRAME_EMPTY);
    assert_int_equal(frame_next(&in, &body, &n), FRAME_EMPTY);
    frame_reader_deinit(&in);
}

static void an_unfinished_frame_is_seen(void **state)
{
    static const uint8_t wire[] = {1, 0, 0, 0, 'x', 9};
    struct frame_reader in;
    const uint8_t *body = NULL;
    size_t n = 0;
    (void)state;

    frame_reader_init(&in, 16);
    assert_false(frame_partial(&in));
    assert_int_equal(frame_feed(&in, wire, 2), 0);
    assert_true(frame_partial(&in));
    assert_int_equal(frame_feed(&in, wire + 2, 3), 0);
    assert_int_equal(frame_next(&in, &body, &n), FRAME_OK);
    assert_int_equal(frame_next(&in, &body, &n), FRAME_MORE);
    assert_false(frame_partial(&in));
    assert_int_equal(frame_feed(&in, wire + 5, 1), 0);
    assert_int_equal(frame_next(&in, &body, &n), FRAME_MORE);
    assert_true(frame_partial(&in));
    frame_reader_deinit(&in);
}

/* Goal: a feeder that never takes frames cannot make the reader grow. */
static void frames_that_nobody_takes_are_bounded(void **state)
{
    static uint8_t zeros[65536];
    struct frame_reader in;
    int r = 0;
    (void)state;

    frame_reader_init(&in, 1000);
    for (unsigned i = 0; i < 8 && r == 0; i++) {
        r = frame_feed(&in, zeros, sizeof(zeros));
    }
    assert_int_equal(r, -E2BIG);
    assert_true(in.in.room <= FRAME_HEADER + 1000 + 65536);
    frame_reader_deinit(&in);
}

/* Goal: a read of 64 KiB always fits behind an unfinished frame of any legal size.
 * Method: the largest frame, and small ones behind it, in reads of 64 KiB. */
static void the_largest_frame_arrives_in_reads_of_64_kib(void **state)
{
    enum { BIG = FRAME_BODY_MAX, SMALL = 5000, N = FRAME_HEADER + BIG + SMALL * 5 };
    uint8_t *wire = calloc(1, N);
    struct frame_reader in;
    const uint8_t *body = NULL;
    size_t n = 0, frames = 0;
    (void)state;

    assert_non_null(wire);
    wire[2] = BIG >> 16;
    for (size_t i = 0; i < SMALL; i++) {
        wire[FRAME_HEADER + BIG + 5 * i] = 1;
    }
    frame_reader_init(&in, FRAME_BODY_MAX);
    for (size_t at = 0; at < N; at += 65536) {
        assert_int_equal(frame_feed(&in, wire + at, N - at < 65536 ? N - at : 65536), 0);
        while (frame_next(&in, &body, &n) == FRAME_OK) {
            assert_int_equal(n, frames == 0 ? BIG : 1);
            frames++;
        }
    }
    assert_int_equal(frames, 1 + SMALL);
    assert_true(in.in.room <= 131072); /* an idle connection gives the megabyte back */
    frame_reader_deinit(&in);
    free(wire);
}

static void what_is_put_together_is_taken_apart(void **state)
{
    struct buf out;
    struct frame_reader in;
    const uint8_t *body = NULL;
    size_t mark = 0, n = 0;
    (void)state;

    buf_init(&out, 1024);
    assert_int_equal(buf_append(&out, "xx", 2), 0); /* something stands before it */
    assert_int_equal(frame_begin(&out, &mark), 0);
    assert_int_equal(buf_append(&out, "hello", 5), 0);
    assert_int_equal(frame_end(&out, mark, 5), 0);
    assert_int_equal(out.n, 2 + 4 + 5);

    frame_reader_init(&in, 5);
    assert_int_equal(frame_feed(&in, out.data + 2, out.n - 2), 0);
    assert_int_equal(frame_next(&in, &body, &n), FRAME_OK);
    assert_int_equal(n, 5);
    assert_memory_equal(body, "hello", 5);
    frame_reader_deinit(&in);
    buf_deinit(&out);
}

static void a_body_past_the_limit_is_taken_back(void **state)
{
    struct buf out;
    size_t mark = 0;
    (void)state;

    buf_init(&out, 1024);
    assert_int_equal(buf_append(&out, "before", 6), 0);
    assert_int_equal(frame_begin(&out, &mark), 0);
    assert_int_equal(buf_append(&out, "hello", 5), 0);
    assert_int_equal(frame_end(&out, mark, 4), -E2BIG);
    assert_int_equal(out.n, 6);
    assert_memory_equal(out.data, "before", 6);
    buf_deinit(&out);
}

static void a_frame_needs_room_for_its_header(void **state)
{
    struct buf out;
    size_t mark = 77;
    (void)state;

    buf_init(&out, 3);
    assert_int_equal(frame_begin(&out, &mark), -E2BIG);
    assert_int_equal(mark, 77);
    buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_may_be_cut_anywhere),
        cmocka_unit_test(a_length_past_the_limit_is_refused_from_the_header_alone),
        cmocka_unit_test(a_length_at_the_limit_is_read),
        cmocka_unit_test(an_empty_frame_is_refused),
        cmocka_unit_test(an_unfinished_frame_is_seen),
        cmocka_unit_test(frames_that_nobody_takes_are_bounded),
        cmocka_unit_test(the_largest_frame_arrives_in_reads_of_64_kib),
        cmocka_unit_test(what_is_put_together_is_taken_apart),
        cmocka_unit_test(a_body_past_the_limit_is_taken_back),
        cmocka_unit_test(a_frame_needs_room_for_its_header),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
