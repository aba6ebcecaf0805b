/* mp.c and msgpack-c agree, on frames that were hurt a little and on bytes that never were frames.
 * The seed is fixed, so that a failure can be repeated; tests/fuzz/fuzz_frame.c looks further. */
#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>

#include "ipc/frame.h"
#include "tests/fuzz/mp_differential.h"
#include "tests/unit/ipc/frames.h"

#define ROUNDS 1500

static uint64_t rng = UINT64_C(0x9e3779b97f4a7c15);

static uint32_t draw(uint32_t below)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (uint32_t)(rng >> 33) % below;
}

static unsigned verdicts[MP_DIFFERENT + 1];

static void compare(const uint8_t *bytes, size_t n)
{
    uint8_t *own = malloc(n ? n : 1); /* of its own size, for AddressSanitizer */

    assert_non_null(own);
    memcpy(own, bytes, n);
    const enum mp_verdict v = mp_differential(own, n);
    verdicts[v]++;
    if (v == MP_DIFFERENT) {
        for (size_t i = 0; i < n; i++) {
            print_error("%02x ", own[i]);
        }
        fail();
    }
    free(own);
}

static size_t mutate(uint8_t *bytes, size_t n)
{
    static const uint8_t heads[] = {0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc4, 0xc6,
                                    0xca, 0xcb, 0xcf, 0xd3, 0xd4, 0xd9, 0xdb, 0xdc, 0xdd, 0xdf};

    for (uint32_t k = 1 + draw(4); k > 0 && n > 0; k--) {
        const uint32_t at = draw((uint32_t)n);
        switch (draw(4)) {
        case 0:
            bytes[at] ^= (uint8_t)(1u << draw(8));
            break;
        case 1:
            bytes[at] = heads[draw(sizeof(heads))];
            break;
        case 2:
            bytes[at] = (uint8_t)draw(256);
            break;
        default:
            n = draw(8) == 0 ? at : n; /* cut short, now and then */
            break;
        }
    }
    return n;
}

static void frames_and_hurt_frames_are_read_alike(void **state)
{
    (void)state;

    memset(verdicts, 0, sizeof(verdicts));
    for (size_t i = 0; i < n_message_examples + n_seam_examples; i++) {
        const struct frame_example *e =
            i < n_message_examples ? &message_examples[i] : &seam_examples[i - n_message_examples];
        struct buf out;
        uint8_t hurt[4096];

        buf_init(&out, sizeof(hurt));
        assert_int_equal(e->put(&out), 0);
        const size_t n = out.n - FRAME_HEADER;
        compare(out.data + FRAME_HEADER, n);
        for (unsigned k = 0; k < ROUNDS; k++) {
            memcpy(hurt, out.data + FRAME_HEADER, n);
            compare(hurt, mutate(hurt, n));
        }
        buf_deinit(&out);
    }
    /* Each outcome must have been met often, or this compares nothing. */
    assert_true(verdicts[MP_BOTH_READ] > ROUNDS);
    assert_true(verdicts[MP_BOTH_REFUSED] > ROUNDS);
}

static void bytes_of_no_frame_are_read_alike(void **state)
{
    uint8_t bytes[48];
    (void)state;

    memset(verdicts, 0, sizeof(verdicts));
    for (unsigned k = 0; k < 50 * ROUNDS; k++) {
        const size_t n = draw(sizeof(bytes) + 1);
        for (size_t i = 0; i < n; i++) {
            bytes[i] = (uint8_t)draw(256);
        }
        if (n > 0 && k % 2) {
            bytes[0] = (uint8_t)(0x80 + draw(32)); /* a short map or array, whose elements follow */
        }
        compare(bytes, n);
    }
    assert_true(verdicts[MP_BOTH_READ] > ROUNDS);
    assert_true(verdicts[MP_BOTH_REFUSED] > ROUNDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_and_hurt_frames_are_read_alike),
        cmocka_unit_test(bytes_of_no_frame_are_read_alike),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
