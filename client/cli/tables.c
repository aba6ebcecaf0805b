/* tables: list, ps and status for people. The daemon answers with maps; a key names its unit by its
 * ending (_bytes, _us, _ms, _s), and that decides how a value is written. Columns that no row has
 * are left out, so that daemons older and newer than this command are shown as well. */
#include "client/cli/cell.h"
#include "client/cli/cli.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COLUMNS_MAX 16u
#define LOOK_US 300000 /* that the engine gets to look through its memory */
#define NAMES_S 1      /* that --names may take: somebody waits for it with a half-typed line */

static bool any_row_has(json_t *rows, const char *key)
{
    size_t i;
    json_t *row;

    json_array_foreach(rows, i, row)
    {
        if (json_object_get(row, key)) {
            return true;
        }
    }
    return false;
}

static void print_padded(const char *text, size_t width, bool last)
{
    (void)printf("%s", text);
    for (size_t i = text_columns(text); i < width + 2 && !last; i++) {
        (void)putchar(' ');
    }
    if (last) {
        (void)putchar('\n');
    }
}

void print_table(json_t *rows, const struct column *all, size_t n_all)
{
    const struct column *columns[COLUMNS_MAX];
    size_t widths[COLUMNS_MAX], n = 0, i;
    json_t *row;

    for (size_t k = 0; k < n_all && n < COLUMNS_MAX; k++) {
        if (any_row_has(rows, all[k].key)) {
            columns[n] = &all[k];
            widths[n++] = strlen(all[k].title);
        }
    }
    for (size_t k = 0; k < n; k++) {
        json_array_foreach(rows, i, row)
        {
            char *text = cell_text(columns[k]->key, json_object_get(row, columns[k]->key));
            const size_t width = text ? text_columns(text) : 0;
            widths[k] = width > widths[k] ? width : widths[k];
            free(text);
        }
    }
    for (size_t k = 0; k < n; k++) {
        print_padded(columns[k]->title, widths[k], k + 1 == n);
    }
    json_array_foreach(rows, i, row)
    {
        for (size_t k = 0; k < n; k++) {
            char *text = cell_text(columns[k]->key, json_object_get(row, columns[k]->key));
            print_padded(text ? text : "-", widths[k], k + 1 == n);
            free(text);
        }
    }
}

void print_values(json_t *object, const char *prefix, unsigned depth)
{
    const char *key;
    json_t *value;

    json_object_foreach(object, key, value)
    {
        char name[2 * CELL_BYTES_MAX], label[CELL_BYTES_MAX];
        const bool inner = json_is_object(value) && depth < 4;
        cell_label(label, sizeof(label), key);
        (void)snprintf(name, sizeof(name), "%s%s%s", prefix, *prefix ? "." : "", label);
        if (inner) {
            print_values(value, name, depth + 1);
            continue;
        }
        char *safe = escape_line(name);
        char *text = cell_text(key, value);
        (void)printf("%-28s %s\n", safe ? safe : "-", text ? text : "-");
        free(safe);
        free(text);
    }
}

int ask_json(const struct args *args, enum onebit_verb verb, const char *name, json_t **ret_json)
{
    char *text = NULL;
    json_error_t error;
    const int r = ask_text(args, verb, name, &text);

    if (r != 0) {
        return r;
    }
    *ret_json = json_loads(text, JSON_DECODE_ANY, &error);
    free(text);
    if (!*ret_json) {
        complain("the daemon's answer cannot be read: %s", error.text);
        return EXIT_PROTOCOL;
    }
    return 0;
}

/* ---- names, for shells ---- */

static void on_alarm(int number)
{
    _exit(EXIT_UNAVAILABLE);
}

void names_quickly(void)
{
    const int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);

    (void)signal(SIGALRM, on_alarm);
    (void)alarm(NAMES_S);
    if (nowhere >= 0) { /* a person is typing a command line: nothing may be printed between */
        (void)dup2(nowhere, STDERR_FILENO);
        (void)close(nowhere);
    }
}

void print_names(json_t *rows)
{
    size_t i;
    json_t *row;

    json_array_foreach(rows, i, row)
    {
        const char *name = json_string_value(json_object_get(row, "name"));
        char *safe = name ? escape_line(name) : NULL;
        if (safe && *name && strcmp(safe, name) == 0) {
            (void)printf("%s\n", name);
        }
        free(safe);
    }
}

/* The numbers of requests, a line each. */
static void print_numbers(json_t *requests)
{
    size_t i;
    json_t *row;

    json_array_foreach(requests, i, row)
    {
        const json_t *number = json_object_get(row, "request");
        if (json_is_integer(number)) {
            (void)printf("%" JSON_INTEGER_FORMAT "\n", json_integer_value(number));
        }
    }
}

/* ---- verbs ---- */

int verb_list(struct args *args)
{
    static const struct column columns[] = {
        {"name", "NAME"},       {"state", "STATE"},
        {"arch", "ARCH"},       {"quantization", "QUANTIZATION"},
        {"formats", "FORMATS"}, {"bytes", "SIZE"},
        {"default", "DEFAULT"}, {"error", "ERROR"},
    };
    json_t *models = NULL;
    if (args->names) {
        names_quickly();
    }
    const int r = ask_json(args, ONEBIT_LIST, NULL, &models);

    if (r != 0 || (args->json && !args->names)) {
        return r != 0 ? r : print_json(models, -1);
    }
    if (args->names) {
        print_names(models);
    } else if (json_array_size(models) == 0) {
        (void)printf("no models; put a .gguf file into a model folder of the daemon\n");
    } else {
        print_table(models, columns, ARRAY_SIZE(columns));
    }
    json_decref(models);
    return 0;
}

static void print_section(json_t *all, const char *key, const char *none,
                          const struct column *columns, size_t n)
{
    json_t *rows = json_object_get(all, key);

    if (json_array_size(rows) == 0) {
        (void)printf("%s\n", none);
    } else {
        print_table(rows, columns, n);
    }
    (void)json_object_del(all, key);
}

/* Who it is, in one cell: "uid 1000", or "voice.service, uid 0". */
static void name_identity(json_t *row)
{
    const char *unit = json_string_value(json_object_get(row, "unit"));
    const json_int_t uid = json_integer_value(json_object_get(row, "uid"));
    json_t *who = unit && *unit ? json_sprintf("%s, uid %" JSON_INTEGER_FORMAT, unit, uid)
                                : json_sprintf("uid %" JSON_INTEGER_FORMAT, uid);

    (void)json_object_set_new(row, "who", who); /* without memory the cell stays empty */
}

/* Those of whom the daemon tells a sum alone, as the last row. */
static void add_others(json_t *rows, json_t *others)
{
    const json_int_t n = json_integer_value(json_object_get(others, "identities"));

    if (rows && n > 0) {
        (void)json_object_set_new(others, "who",
                                  json_sprintf("%" JSON_INTEGER_FORMAT " others", n));
        (void)json_array_append(rows, others);
    }
}

/* Who uses the daemon, where it tells. */
static void print_identities(json_t *all)
{
    static const struct column columns[] = {
        {"who", "WHO"},
        {"requests", "REQUESTS"},
        {"running", "RUNNING"},
        {"queue_bytes", "QUEUE"},
        {"output_bytes", "OUTPUT"},
        {"kv_bytes", "KV"},
        {"prompt_tokens", "PROMPT TOKENS"},
        {"tokens", "ANSWER TOKENS"},
    };
    json_t *rows = json_object_get(all, "identities"), *row;
    size_t i;

    json_array_foreach(rows, i, row)
    {
        name_identity(row);
    }
    add_others(rows, json_object_get(all, "others"));
    (void)json_object_del(all, "others");
    if (json_array_size(rows) > 0) {
        (void)printf("\n");
        print_section(all, "identities", "", columns, ARRAY_SIZE(columns));
    }
    (void)json_object_del(all, "identities");
}

/* The level of the memory ladder, while there is one. */
static void print_shortage(json_t *all)
{
    const char *level = json_string_value(json_object_get(all, "pressure"));
    const char *cause = json_string_value(json_object_get(all, "pressure_cause"));

    if (level && strcmp(level, "normal") != 0) {
        (void)printf("memory is short: level %s (%s)\n\n", level, cause ? cause : "");
    }
    (void)json_object_del(all, "pressure");
    (void)json_object_del(all, "pressure_cause");
}

/* Asked twice: the engine looks when it is asked, and what it saw comes with the next answer. */
static int print_memory(struct args *args)
{
    static const struct column models[] = {
        {"name", "MODEL"},
        {"weights", "HELD"},
        {"mapped_bytes", "MAPPED"},
        {"private_bytes", "PRIVATE"},
        {"huge_bytes", "HUGE PAGES"},
        {"resident_bytes", "IN MEMORY"},
        {"locked_bytes", "LOCKED"},
        {"kv_used_bytes", "KV USED"},
        {"kv_idle_bytes", "KV KEPT"},
        {"kv_bytes", "KV SIZE"},
        {"kv_resident_bytes", "IN MEMORY"},
        {"scratch_bytes", "SCRATCH"},
        {"scratch_resident_bytes", "IN MEMORY"},
        {"load_us", "LOAD"},
    };
    json_t *all = NULL, *status = NULL;
    int r = ask_json(args, ONEBIT_STATUS, NULL, &status);

    json_decref(status);
    status = NULL;
    if (r == 0) {
        (void)usleep(LOOK_US);
        r = ask_json(args, ONEBIT_PS, NULL, &all);
    }
    if (r == 0) {
        r = ask_json(args, ONEBIT_STATUS, NULL, &status);
    }
    if (r != 0) {
        json_decref(all);
        return r;
    }
    (void)json_object_del(all, "requests");
    if (args->json) {
        (void)json_object_set(all, "memory", json_object_get(status, "memory"));
        json_decref(status);
        return print_json(all, -1);
    }
    print_shortage(all);
    print_section(all, "models", "no model is loaded", models, ARRAY_SIZE(models));
    print_identities(all);
    (void)printf("\n");
    print_values(json_object_get(status, "memory"), "", 0);
    json_decref(status);
    json_decref(all);
    return 0;
}

int verb_ps(struct args *args)
{
    static const struct column models[] = {
        {"name", "MODEL"},       {"quantization", "QUANTIZATION"},
        {"formats", "FORMATS"},  {"kv", "KV"},
        {"n_ctx", "CONTEXT"},    {"weight_bytes", "WEIGHTS"},
        {"weights", "HELD"},     {"huge_bytes", "HUGE PAGES"},
        {"kv_bytes", "KV SIZE"}, {"scratch_bytes", "SCRATCH"},
        {"streams", "STREAMS"},  {"streams_max", "OF"},
        {"idle_ms", "IDLE"},
    };
    static const struct column requests[] = {
        {"request", "REQUEST"},
        {"model", "MODEL"},
        {"state", "STATE"},
        {"position", "AHEAD"},
        {"class", "CLASS"},
        {"uid", "UID"},
        {"pid", "PID"},
        {"client", "CLIENT"},
        {"prompt_tokens", "PROMPT"},
        {"answer_tokens", "ANSWER"},
        {"age_ms", "AGE"},
    };
    json_t *all = NULL;
    if (args->memory && !args->names) {
        return print_memory(args);
    }
    if (args->names) {
        names_quickly();
    }
    const int r = ask_json(args, ONEBIT_PS, NULL, &all);

    if (r != 0 || (args->json && !args->names)) {
        return r != 0 ? r : print_json(all, -1);
    }
    if (args->names) {
        print_numbers(json_object_get(all, "requests"));
        json_decref(all);
        return 0;
    }
    print_shortage(all);
    print_section(all, "models", "no model is loaded", models, ARRAY_SIZE(models));
    (void)printf("\n");
    print_section(all, "requests", "no request runs", requests, ARRAY_SIZE(requests));
    print_identities(all);
    if (json_object_size(all) > 0) {
        (void)printf("\n");
        print_values(all, "", 0);
    }
    json_decref(all);
    return 0;
}

/* [1, 1] is written 1.1. */
static void name_protocol(json_t *status)
{
    json_int_t major = 0, minor = 0;

    if (json_unpack(json_object_get(status, "protocol"), "[I, I]", &major, &minor) == 0) {
        json_t *text = json_sprintf("%" JSON_INTEGER_FORMAT ".%" JSON_INTEGER_FORMAT, major, minor);
        (void)json_object_set_new(status, "protocol", text);
    }
}

int verb_status(struct args *args)
{
    json_t *status = NULL;
    const int r = ask_json(args, ONEBIT_STATUS, NULL, &status);

    if (r != 0 || args->json) {
        return r != 0 ? r : print_json(status, -1);
    }
    name_protocol(status);
    print_values(status, "", 0);
    json_decref(status);
    return 0;
}
