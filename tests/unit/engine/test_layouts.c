/* Decoded rows against the second reading of every layout (tests/support/layouts.h). */
#include "tests/support/test.h"

#include <math.h>
#include <string.h>

#include "engine/format.h"
#include "tests/support/layouts.h"
#include "tests/unit/engine/tiny.h"

#define N_COLS 512u /* two blocks of the widest */
#define ROUNDS 40u

static bool same(float a, float b)
{
    return memcmp(&a, &b, sizeof(a)) == 0 || (isnan(a) && isnan(b));
}

/* Goal: every weight of every format that packs them is where its description puts it, with the
 * scale it belongs to. Method: random bytes, scales among them, decoded and read a second time. */
static void rows_decode_as_their_descriptions_read(void **state)
{
    static uint8_t row[4 * N_COLS];
    static float got[N_COLS];
    unsigned n_formats = 0;
    (void)state;

    for (unsigned f = 0; f < FORMATS; f++) {
        const struct format_info *info = format_info((enum format)f);
        if (info->panel == PANEL_NONE) {
            continue;
        }
        n_formats++;
        for (unsigned round = 0; round < ROUNDS; round++) {
            const float scale = f == FORMAT_I2_S ? tiny_random(round) * 3 : 1.0f;
            for (size_t i = 0; i < sizeof(row); i++) {
                row[i] = (uint8_t)(int)(128 + 128 * tiny_random(f * 1000003u + round * 4099u + i));
            }
            format_decode_row((enum format)f, row, scale, N_COLS, got);
            for (size_t i = 0; i < N_COLS; i++) {
                float want;
                assert_int_equal(layout_weight(info->name, row, scale, i, &want), 0);
                if (!same(got[i], want)) {
                    fail_msg("%s: weight %zu is %g, should be %g", info->name, i, (double)got[i],
                             (double)want);
                }
            }
        }
    }
    assert_int_equal(n_formats, FORMATS - 3); /* all but the float formats */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_decode_as_their_descriptions_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
