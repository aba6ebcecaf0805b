/* Compatibility: the bytes of protocol 1 are frozen. Each file in tests/golden/frames/ was packed
 * once; reading it gives what was put, and packing gives it again, byte for byte (but for the
 * hints of errors). `--write FOLDER` packs the frames that FOLDER lacks, and never touches one
 * that is there. */
#include "tests/support/test.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/frame.h"
#include "tests/unit/ipc/frames.h"

static size_t load(const char *name, uint8_t *to, size_t room)
{
    char path[4096];
    const char *source = getenv("ONEBIT_SOURCE");

    assert_non_null(source);
    (void)snprintf(path, sizeof(path), "%s/tests/golden/frames/%s.bin", source, name);
    FILE *f = fopen(path, "rb");
    if (!f) {
        print_error("%s is missing\n", path);
        fail();
    }
    const size_t n = fread(to, 1, room, f);
    assert_true(n > FRAME_HEADER && n < room);
    fclose(f);
    return n;
}

static void a_frozen_frame_reads_as_it_did(void **state)
{
    uint8_t wire[4096];
    (void)state;

    for (size_t i = 0; i < n_message_examples; i++) {
        const size_t n = load(message_examples[i].name, wire, sizeof(wire));
        struct frame_reader in;
        const uint8_t *body = NULL;
        size_t body_n = 0;

        frame_reader_init(&in, FRAME_BODY_MAX);
        assert_int_equal(frame_feed(&in, wire, n), 0);
        assert_int_equal(frame_next(&in, &body, &body_n), FRAME_OK);
        message_examples[i].check(body, body_n);
        assert_int_equal(frame_next(&in, &body, &body_n), FRAME_MORE);
        assert_false(frame_partial(&in));
        frame_reader_deinit(&in);
    }
}

static void a_message_packs_to_the_frozen_bytes(void **state)
{
    uint8_t wire[4096];
    (void)state;

    for (size_t i = 0; i < n_message_examples; i++) {
        const size_t n = load(message_examples[i].name, wire, sizeof(wire));
        struct buf out;

        buf_init(&out, sizeof(wire));
        assert_int_equal(message_examples[i].put(&out), 0);
        if (!message_examples[i].prose && (out.n != n || memcmp(out.data, wire, n) != 0)) {
            print_error("%s packs to other bytes than it did\n", message_examples[i].name);
            fail();
        }
        buf_deinit(&out);
    }
}

static int write_missing(const char *folder)
{
    for (size_t i = 0; i < n_message_examples; i++) {
        char path[4096];
        struct buf out;

        (void)snprintf(path, sizeof(path), "%s/%s.bin", folder, message_examples[i].name);
        FILE *f = fopen(path, "wbx");
        if (!f) {
            continue;
        }
        buf_init(&out, 4096);
        const bool ok = message_examples[i].put(&out) == 0 && fwrite(out.data, out.n, 1, f) == 1;
        buf_deinit(&out);
        if (fclose(f) != 0 || !ok) {
            perror(path);
            return EXIT_FAILURE;
        }
        printf("%s\n", path);
    }
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frozen_frame_reads_as_it_did),
        cmocka_unit_test(a_message_packs_to_the_frozen_bytes),
    };
    if (argc == 3 && strcmp(argv[1], "--write") == 0) {
        return write_missing(argv[2]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
