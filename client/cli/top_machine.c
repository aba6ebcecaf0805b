/* top_machine: what is not known has no place in the line. */
#include "client/cli/top_machine.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/compiler.h"

/* The firmware of a Raspberry Pi, as vcgencmd get_throttled has them. */
static const struct {
    unsigned long bit;
    const char *word;
} flags[] = {
    {1, "voltage is low"},
    {2, "the clock is capped"},
    {4, "throttled"},
    {8, "at the soft limit"},
};

struct line {
    char *text;
    size_t n, room;
};

static void PRINTF_LIKE(2, 3) add(struct line *l, const char *fmt, ...)
{
    va_list args;

    (void)snprintf(l->text + l->n, l->room - l->n, "%s", l->n == 0 ? "board: " : ", ");
    l->n += strlen(l->text + l->n);
    va_start(args, fmt);
    (void)vsnprintf(l->text + l->n, l->room - l->n, fmt, args);
    va_end(args);
    l->n += strlen(l->text + l->n);
}

bool machine_line(const json_t *machine, char *ret, size_t room)
{
    struct line l = {.text = ret, .room = room};
    const json_t *degrees = json_object_get(machine, "temperature_c");
    const json_t *watts = json_object_get(machine, "watts");
    const json_t *joules = json_object_get(machine, "joules_per_token");
    const char *heat = json_string_value(json_object_get(machine, "heat"));
    const double bits = json_number_value(json_object_get(machine, "firmware_flags"));
    const double threads = json_number_value(json_object_get(machine, "heat_threads"));
    bool slow = false;

    ret[0] = '\0';
    if (degrees) {
        add(&l, "%.1f degrees", json_number_value(degrees));
    }
    if (heat && strcmp(heat, "cool") != 0) {
        add(&l, "%.16s: class low waits", heat);
        slow = true;
    }
    if (threads > 0) {
        add(&l, "%.0f threads at most", threads);
    }
    for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
        if (bits >= 0 && bits < 4294967296.0 && ((unsigned long)bits & flags[i].bit)) {
            add(&l, "%s", flags[i].word);
            slow = true;
        }
    }
    if (watts) {
        add(&l, "%.2f W", json_number_value(watts));
    }
    if (joules) {
        add(&l, "%.3g J a token", json_number_value(joules));
    }
    return slow;
}
