/* cell: a key names its unit by its ending (_bytes, _us, _ms, _s), and that decides how a value is
 * written. */
#include "client/cli/cell.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/compiler.h"
#include "client/cli/term.h"

#define AGO_S_MAX (48 * 3600.0) /* older moments are told by their date */

static bool ends_with(const char *key, const char *end)
{
    const size_t n = strlen(key), m = strlen(end);
    return n >= m && strcmp(key + n - m, end) == 0;
}

void cell_bytes(char *ret, size_t n, double bytes)
{
    if (bytes < 1e3) {
        (void)snprintf(ret, n, "%.0f B", bytes);
    } else if (bytes < 1e6) {
        (void)snprintf(ret, n, "%.1f kB", bytes / 1e3);
    } else if (bytes < 1e9) {
        (void)snprintf(ret, n, "%.1f MB", bytes / 1e6);
    } else {
        (void)snprintf(ret, n, "%.2f GB", bytes / 1e9);
    }
}

void cell_seconds(char *ret, size_t n, double s)
{
    if (s < 60) {
        (void)snprintf(ret, n, s < 10 ? "%.2f s" : "%.0f s", s);
    } else if (s < 3600) {
        (void)snprintf(ret, n, "%.0f min", s / 60);
    } else if (s < 48 * 3600.0) {
        (void)snprintf(ret, n, "%.1f h", s / 3600);
    } else {
        (void)snprintf(ret, n, "%.0f days", s / 86400);
    }
}

void cell_moment(char *ret, size_t n, double unix_s, double now_s)
{
    const double age_s = now_s - unix_s;
    struct tm tm;

    if (age_s >= 0 && age_s < 1) {
        (void)snprintf(ret, n, "just now");
    } else if (age_s >= 0 && age_s < AGO_S_MAX) {
        char age[32];
        if (age_s < 60) {
            (void)snprintf(age, sizeof(age), "%.0f s", age_s);
        } else {
            cell_seconds(age, sizeof(age), age_s);
        }
        (void)snprintf(ret, n, "%s ago", age);
    } else {
        const time_t when = unix_s >= 0 && unix_s < 1e11 ? (time_t)unix_s : 0;
        if (!localtime_r(&when, &tm) || strftime(ret, n, "%Y-%m-%d %H:%M", &tm) == 0) {
            (void)snprintf(ret, n, "-");
        }
    }
}

void cell_label(char *ret, size_t n, const char *key)
{
    static const char *const units[] = {"_bytes", "_us", "_ms", "_seconds", "_s"};
    size_t stem = strlen(key);

    for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
        if (ends_with(key, units[i]) && stem > strlen(units[i])) {
            stem -= strlen(units[i]);
            break;
        }
    }
    (void)snprintf(ret, n, "%.*s", (int)(stem < CELL_BYTES_MAX ? stem : CELL_BYTES_MAX), key);
}

static void write_number(char *ret, size_t n, const char *key, const json_t *value)
{
    const double v = json_number_value(value);

    if (ends_with(key, "bytes") || ends_with(key, "_bytes_used") ||
        ends_with(key, "_bytes_total")) {
        cell_bytes(ret, n, v);
    } else if (strcmp(key, "created_s") == 0 || strcmp(key, "used_s") == 0) {
        cell_moment(ret, n, v, (double)time(NULL));
    } else if (ends_with(key, "_us")) {
        cell_seconds(ret, n, v / 1e6);
    } else if (ends_with(key, "_ms")) {
        cell_seconds(ret, n, v / 1e3);
    } else if (ends_with(key, "_s") || ends_with(key, "_seconds")) {
        cell_seconds(ret, n, v);
    } else if (json_is_integer(value)) {
        (void)snprintf(ret, n, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    } else {
        (void)snprintf(ret, n, "%.6g", v);
    }
}

/* A value as one safe line, malloc'ed; NULL without memory. */
char *cell_text(const char *key, const json_t *value)
{
    char text[CELL_BYTES_MAX] = "-";

    if (json_is_string(value)) {
        return escape_line(*json_string_value(value) ? json_string_value(value) : "-");
    }
    if (json_is_boolean(value)) {
        return strdup(json_is_true(value) ? "yes" : "no");
    }
    if (json_is_number(value)) {
        write_number(text, sizeof(text), key, value);
    } else if (json_is_array(value) || json_is_object(value)) {
        char *json = json_dumps(value, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(6));
        char *safe = json ? escape_line(json) : NULL;
        free(json);
        return safe;
    }
    return strdup(text);
}
