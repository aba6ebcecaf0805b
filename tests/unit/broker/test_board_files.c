/* board_files and energy: which sensors speak of the board, and what their readings come to. */
#include "tests/support/test.h"

#include <math.h>

#include "base/clock.h"
#include "daemon/broker/board_files.h"
#include "daemon/broker/energy.h"
#include "tests/unit/broker/fake_root.h"

#define ZONE "/sys/class/thermal/thermal_zone"
#define HWMON "/sys/class/hwmon/hwmon"
#define RAPL "/sys/class/powercap/intel-rapl:"

static void texts_are_numbers_or_nothing(void **state)
{
    int32_t mc = 1;
    uint32_t bits = 1;
    (void)state;

    assert_true(board_temp(&mc, "52300\n") && mc == 52300);
    assert_true(board_temp(&mc, "-5000") && mc == -5000);
    assert_false(board_temp(&mc, "-274000"));
    assert_false(board_temp(&mc, "300001"));
    assert_false(board_temp(&mc, "") || board_temp(&mc, "-") || board_temp(&mc, "x"));
    assert_int_equal(mc, -5000);
    assert_true(board_flags(&bits, "50005\n") && bits == 0x50005);
    assert_true(board_flags(&bits, "0xE0008") && bits == 0xe0008);
    assert_true(board_flags(&bits, "0") && bits == 0);
    assert_false(board_flags(&bits, "") || board_flags(&bits, "0x") || board_flags(&bits, "g"));
    assert_false(board_flags(&bits, "123456789"));
}

static void a_board_without_sensors_has_none(void **state)
{
    const struct fake_root *t = *state;
    struct board_files f;
    struct heat_look look;
    struct board_power power;

    board_files_open(&f, t->root);
    board_heat(&look, &f);
    board_power(&power, &f);
    assert_false(look.has_temp || look.has_room || look.has_flags);
    assert_int_equal(power.n, 0);
    board_files_close(&f);
}

/* Goal: the warmest zone and the least room are told, each by itself; a battery's zone, a fan's
 * trip point and senseless ones are not. */
static void zones_tell_the_warmest_and_the_least_room(void **state)
{
    const struct fake_root *t = *state;
    struct board_files f;
    struct heat_look look;

    fake_put(t, ZONE "0/type", "gpu-thermal\n");
    fake_put(t, ZONE "0/temp", "70000\n");
    fake_put(t, ZONE "1/type", "cpu-thermal\n");
    fake_put(t, ZONE "1/temp", "60000\n");
    fake_put(t, ZONE "1/trip_point_0_type", "active\n");
    fake_put(t, ZONE "1/trip_point_0_temp", "50000\n");
    fake_put(t, ZONE "1/trip_point_1_type", "hot\n");
    fake_put(t, ZONE "1/trip_point_1_temp", "90000\n");
    fake_put(t, ZONE "1/trip_point_2_type", "passive\n");
    fake_put(t, ZONE "1/trip_point_2_temp", "80000\n");
    fake_put(t, ZONE "2/type", "BAT0\n");
    fake_put(t, ZONE "2/temp", "99000\n");
    fake_put(t, ZONE "5/type", "x86_pkg_temp\n"); /* numbers have gaps */
    fake_put(t, ZONE "5/temp", "10000\n");
    fake_put(t, ZONE "5/trip_point_0_type", "passive\n");
    fake_put(t, ZONE "5/trip_point_0_temp", "0\n");
    fake_put(t, "/sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n");
    board_files_open(&f, t->root);
    board_heat(&look, &f);
    assert_true(look.has_temp && look.temp_mc == 70000);
    assert_true(look.has_room && look.room_mc == 20000);
    assert_true(look.has_flags && look.flags == 0x50005);
    fake_put(t, ZONE "1/temp", "absurd\n");
    fake_remove(t, "/sys/devices/platform/soc/soc:firmware/get_throttled");
    board_heat(&look, &f);
    assert_true(look.has_temp && look.temp_mc == 70000);
    assert_false(look.has_room || look.has_flags);
    board_files_close(&f);
}

/* ---- energy ---- */

static void read_at(struct energy *e, const struct board_files *f, bool working, uint64_t tokens,
                    double s)
{
    struct board_power power;

    board_power(&power, f);
    energy_step(e, f, &power, working, tokens, (uint64_t)(s * 1e9));
}

static void packages_are_counted_and_what_is_in_them_is_not(void **state)
{
    const struct fake_root *t = *state;
    struct board_files f;
    struct energy e = {0};

    fake_put(t, RAPL "0/name", "package-0\n");
    fake_put(t, RAPL "0/energy_uj", "9000000\n");
    fake_put(t, RAPL "0/max_energy_range_uj", "10000000\n");
    fake_put(t, RAPL "1/name", "psys\n");
    fake_put(t, RAPL "1/energy_uj", "1\n");
    fake_put(t, RAPL "0:0/name", "core\n");
    fake_put(t, RAPL "0:0/energy_uj", "1\n");
    fake_put(t, HWMON "0/name", "ina226\n"); /* the same again, seen from outside */
    fake_put(t, HWMON "0/power1_input", "99000000\n");
    board_files_open(&f, t->root);
    assert_int_equal(f.n_meters, 1);
    read_at(&e, &f, true, 0, 1);
    assert_false(energy_known(&e));
    fake_put(t, RAPL "0/energy_uj", "5000000\n"); /* it went round: 6 J in 2 s */
    read_at(&e, &f, false, 20, 3);
    assert_true(energy_known(&e) && fabs(e.watts - 3) < 1e-9);
    assert_true(fabs(e.joules - 6) < 1e-9);
    assert_true(fabs(energy_per_token(&e) - 0.3) < 1e-9);
    fake_put(t, RAPL "0/energy_uj", "8000000\n"); /* nobody worked: not for a token */
    read_at(&e, &f, false, 20, 4);
    assert_true(fabs(e.joules - 6) < 1e-9 && fabs(e.watts - 3) < 1e-9);
    read_at(&e, &f, true, 20, 400); /* it slept */
    assert_true(fabs(e.joules - 6) < 1e-9);
    fake_remove(t, RAPL "0/energy_uj");
    read_at(&e, &f, true, 90, 401);
    assert_true(fabs(e.joules - 6) < 1e-9);
    board_files_close(&f);
}

static void a_jetson_s_input_is_current_by_voltage(void **state)
{
    const struct fake_root *t = *state;
    struct board_files f;
    struct energy e = {0};

    fake_put(t, HWMON "0/name", "nvme\n");
    fake_put(t, HWMON "0/power1_input", "5\n");
    fake_put(t, HWMON "3/name", "ina3221\n");
    fake_put(t, HWMON "3/in1_label", "VDD_CPU_GPU_CV\n");
    fake_put(t, HWMON "3/in2_label", "VDD_IN\n");
    fake_put(t, HWMON "3/in2_input", "5000\n");
    fake_put(t, HWMON "3/curr2_input", "1600\n");
    board_files_open(&f, t->root);
    assert_int_equal(f.n_meters, 1);
    read_at(&e, &f, true, 0, 1);
    read_at(&e, &f, true, 10, 2);
    assert_true(fabs(e.watts - 8) < 1e-9 && fabs(energy_per_token(&e) - 0.8) < 1e-9);
    fake_put(t, HWMON "3/in2_input", "18446744073709551615\n"); /* no measurement */
    read_at(&e, &f, true, 20, 3);
    assert_true(fabs(e.joules - 8) < 1e-9);
    board_files_close(&f);
}

static void another_meter_of_the_board_is_taken_where_there_is_no_better(void **state)
{
    const struct fake_root *t = *state;
    struct board_files f;
    struct energy e = {0};

    fake_put(t, HWMON "0/name", "power_meter\n");
    fake_put(t, HWMON "0/power1_average", "4500000\n");
    board_files_open(&f, t->root);
    read_at(&e, &f, true, 0, 1);
    read_at(&e, &f, true, 4, 2);
    assert_true(fabs(e.watts - 4.5) < 1e-9);
    assert_true(energy_per_token(&e) <= 0); /* too few tokens to say */
    board_files_close(&f);
}

#define ROOTED(f) cmocka_unit_test_setup_teardown(f, fake_plant, fake_fell)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_numbers_or_nothing),
        ROOTED(a_board_without_sensors_has_none),
        ROOTED(zones_tell_the_warmest_and_the_least_room),
        ROOTED(packages_are_counted_and_what_is_in_them_is_not),
        ROOTED(a_jetson_s_input_is_current_by_voltage),
        ROOTED(another_meter_of_the_board_is_taken_where_there_is_no_better),
    };

    return cmocka_run_group_tests_name("board_files", tests, NULL, NULL);
}
