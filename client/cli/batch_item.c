/* batch_item: one line of the input becomes a request, and its end one line of the output.
 *
 * A line is a string (one message of a user), an array (the messages of a chat), or an object with
 * the fields of a request. What a line does not say comes from the command's options. A line that
 * is wrong fails alone, with the same kind of error that the daemon gives. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fnv.h"
#include "client/cli/batch.h"

#define MESSAGES_MAX 256u
#define IDS_MAX 1048576u
#define ROLE_BYTES_MAX 255u

enum kind { TEXT, BOOL, U32, U64, I32, F32 };

/* Plain fields; the bounds are the protocol's, but for ends that do not belong to a range: the
 * daemon refuses those. */
static const struct field {
    const char *key;
    enum kind kind;
    size_t at;
    uint32_t has;
    double least, most;
} fields[] = {
#define AT(name) offsetof(struct onebit_request, name)
    {"model", TEXT, AT(model), 0, 0, 0},
    {"quantization", TEXT, AT(quantization), 0, 0, 0},
    {"chat_template", TEXT, AT(chat_template), 0, 0, 0},
    {"no_thinking", BOOL, AT(no_thinking), 0, 0, 0},
    {"ignore_eos", BOOL, AT(ignore_eos), 0, 0, 0},
    {"no_cache", BOOL, AT(no_cache), 0, 0, 0},
    {"max_tokens", U32, AT(max_tokens), 0, 0, 1048576},
    {"logprobs", U32, AT(n_logprobs), 0, 0, 20},
    {"deadline_ms", U32, AT(deadline_ms), ONEBIT_HAS_DEADLINE, 0, 4294967295.0},
    {"top_k", I32, AT(top_k), ONEBIT_HAS_TOP_K, 0, 2147483647},
    {"seed", U64, AT(seed), ONEBIT_HAS_SEED, 0, 0},
    {"temperature", F32, AT(temperature), ONEBIT_HAS_TEMPERATURE, 0, 10},
    {"top_p", F32, AT(top_p), ONEBIT_HAS_TOP_P, 0, 1},
    {"min_p", F32, AT(min_p), ONEBIT_HAS_MIN_P, 0, 1},
    {"repeat_penalty", F32, AT(repeat_penalty), ONEBIT_HAS_REPEAT_PENALTY, 0.1, 10},
#undef AT
};

static void problem(struct batch_item *item, const char *fmt, ...) PRINTF_LIKE(2, 3);

static void problem(struct batch_item *item, const char *fmt, ...)
{
    va_list args;

    if (item->problem[0]) {
        return; /* the first one counts */
    }
    va_start(args, fmt);
    (void)vsnprintf(item->problem, sizeof(item->problem), fmt, args);
    va_end(args);
}

/* ---- fields ---- */

/* A seed may be past what JSON's readers take as a number; then it is a string of digits. */
static bool read_seed(const json_t *value, uint64_t *ret)
{
    const char *z = json_string_value(value);
    char *end;

    if (json_is_integer(value) && json_integer_value(value) >= 0) {
        *ret = (uint64_t)json_integer_value(value);
        return true;
    }
    if (!z || !*z || strspn(z, "0123456789") != strlen(z)) {
        return false;
    }
    errno = 0;
    *ret = strtoull(z, &end, 10);
    return errno == 0;
}

static bool read_number(const struct field *f, const json_t *value, void *to)
{
    const double v = json_number_value(value);

    if (!json_is_number(value) || (f->kind != F32 && !json_is_integer(value)) || v < f->least ||
        v > f->most) {
        return false;
    }
    if (f->kind == U32) {
        *(uint32_t *)to = (uint32_t)v;
    } else if (f->kind == I32) {
        *(int32_t *)to = (int32_t)v;
    } else {
        *(float *)to = (float)v;
    }
    return true;
}

/* true: value fits the field and has been taken. */
static bool read_field(struct batch_item *item, const struct field *f, const json_t *value)
{
    void *to = (char *)&item->request + f->at;
    bool good = false;

    switch (f->kind) {
    case TEXT:
        good = json_is_string(value);
        *(const char **)to = json_string_value(value);
        break;
    case BOOL:
        good = json_is_boolean(value);
        *(bool *)to = json_is_true(value);
        break;
    case U64:
        good = read_seed(value, to);
        break;
    default:
        good = read_number(f, value, to);
        break;
    }
    item->request.has |= good ? f->has : 0;
    return good;
}

static bool read_class(struct batch_item *item, const json_t *value)
{
    const char *z = json_string_value(value);

    if (z && strcmp(z, "low") == 0) {
        item->request.request_class = ONEBIT_CLASS_LOW;
    } else if (z && strcmp(z, "normal") == 0) {
        item->request.request_class = ONEBIT_CLASS_NORMAL;
    } else if (z && strcmp(z, "high") == 0) {
        item->request.request_class = ONEBIT_CLASS_HIGH;
    } else {
        return false;
    }
    return true;
}

static bool read_stops(struct batch_item *item, const json_t *value)
{
    const size_t n = json_is_string(value) ? 1 : json_array_size(value);

    if ((!json_is_array(value) && !json_is_string(value)) || n > STOPS_MAX) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *stop = json_is_string(value) ? value : json_array_get(value, i);
        const size_t bytes = json_string_length(stop);
        if (!json_is_string(stop) || bytes == 0 || bytes > STOP_BYTES_MAX) {
            return false;
        }
        item->stops[i] = json_string_value(stop);
    }
    item->request.stops = n > 0 ? item->stops : NULL;
    item->request.n_stops = n;
    return true;
}

/* ---- what is to be answered ---- */

/* Messages of an array behind those that are there already. */
static void read_messages(struct batch_item *item, const json_t *value)
{
    size_t i;
    json_t *message;

    if (!json_is_array(value) || json_array_size(value) == 0 ||
        item->request.n_messages + json_array_size(value) > MESSAGES_MAX) {
        problem(item, "messages: must be an array of 1 to %u maps", MESSAGES_MAX);
        return;
    }
    json_array_foreach(value, i, message)
    {
        const json_t *role = json_object_get(message, "role");
        const json_t *content = json_object_get(message, "content");
        if (!json_is_string(role) || !json_is_string(content) || json_string_length(role) == 0 ||
            json_string_length(role) > ROLE_BYTES_MAX || json_object_size(message) != 2) {
            problem(item, "messages[%zu]: must have a role and a content, both texts, alone", i);
            return;
        }
        item->messages[item->request.n_messages++] =
            (struct onebit_message){json_string_value(role), json_string_value(content)};
    }
}

static int read_ids(struct batch_item *item, const json_t *value)
{
    const size_t n = json_array_size(value);

    if (!json_is_array(value) || n == 0 || n > IDS_MAX) {
        problem(item, "ids: must be an array of 1 to %u whole numbers", IDS_MAX);
        return 0;
    }
    item->ids = calloc(n, sizeof(*item->ids));
    if (!item->ids) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_array_get(value, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) > INT32_MAX) {
            problem(item, "ids[%zu]: must be a whole number from 0 to %d", i, INT32_MAX);
            return 0;
        }
        item->ids[i] = (int32_t)json_integer_value(id);
    }
    item->request.ids = item->ids;
    item->request.n_ids = n;
    return 0;
}

/* A prompt: continued as it is, or one message of a user. */
static void read_prompt_text(struct batch_item *item, const json_t *value, bool raw)
{
    if (!json_is_string(value) || json_string_length(value) == 0) {
        problem(item, "prompt: must be a text, and not empty");
    } else if (raw) {
        item->request.prompt = json_string_value(value);
        item->request.prompt_bytes = json_string_length(value);
    } else {
        item->messages[item->request.n_messages++] =
            (struct onebit_message){"user", json_string_value(value)};
    }
}

/* The system message and exactly one of prompt, messages and ids. */
static int read_question(struct batch_item *item, const struct args *args)
{
    const json_t *o = item->source;
    const json_t *prompt = json_is_string(o) ? o : json_object_get(o, "prompt");
    const json_t *messages = json_is_array(o) ? o : json_object_get(o, "messages");
    const json_t *ids = json_object_get(o, "ids"), *own_raw = json_object_get(o, "raw");
    const json_t *own_system = json_object_get(o, "system");
    const char *system = own_system ? json_string_value(own_system) : args->system;
    const bool raw = own_raw ? json_is_true(own_raw) : args->raw;

    if (!!prompt + !!messages + !!ids != 1) {
        problem(item, "exactly one of prompt, messages and ids must be there");
    } else if (own_system && (!system || raw || ids)) {
        problem(item, "system: must be a text, beside messages or a prompt that is not raw");
    }
    if (item->problem[0]) {
        return 0;
    }
    if (system && !raw && !ids) {
        item->messages[item->request.n_messages++] = (struct onebit_message){"system", system};
    }
    if (ids) {
        return read_ids(item, ids);
    }
    if (prompt) {
        read_prompt_text(item, prompt, raw);
    } else {
        read_messages(item, messages);
    }
    item->request.messages = item->request.n_messages > 0 ? item->messages : NULL;
    return 0;
}

static bool is_question(const char *key)
{
    static const char *const keys[] = {"prompt", "messages", "ids", "system"};

    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        if (strcmp(key, keys[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool read_member(struct batch_item *item, const char *key, const json_t *value)
{
    if (strcmp(key, "id") == 0) {
        return json_is_string(value) || json_is_integer(value);
    }
    if (strcmp(key, "raw") == 0) {
        return json_is_boolean(value);
    }
    if (strcmp(key, "class") == 0) {
        return read_class(item, value);
    }
    if (strcmp(key, "stop") == 0) {
        return read_stops(item, value);
    }
    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        if (strcmp(key, fields[i].key) == 0) {
            return read_field(item, &fields[i], value);
        }
    }
    problem(item, "%.64s: there is no such field", key);
    return false;
}

static int read_request(struct batch_item *item, const struct args *args)
{
    const char *key;
    json_t *value;

    item->request = args->request;
    item->request.hold_bytes = HOLD_BYTES;
    if (!json_is_string(item->source) && !json_is_array(item->source) &&
        !json_is_object(item->source)) {
        problem(item, "a line must be a text, an array of messages or an object");
        return 0;
    }
    json_object_foreach(item->source, key, value)
    {
        if (!is_question(key) && !read_member(item, key, value)) {
            problem(item, "%.64s: has the wrong type or is out of range", key);
        }
    }
    /* One for each message and one for the options' system message. */
    item->messages = calloc(MESSAGES_MAX + 1, sizeof(*item->messages));
    if (!item->messages) {
        return -ENOMEM;
    }
    return item->problem[0] ? 0 : read_question(item, args);
}

/* ---- the item ---- */

void batch_item_free(struct batch_item *item)
{
    if (!item) {
        return;
    }
    json_decref(item->source);
    json_decref(item->ids_json);
    json_decref(item->logprobs);
    free(item->text);
    free(item->messages);
    free(item->ids);
    free(item->result);
    free(item);
}

/* The options that change answers, as far as a line does not say its own. */
static uint64_t hash_options(const struct args *args)
{
    const struct onebit_request *r = &args->request;
    const char *const texts[] = {args->system, r->model, r->chat_template, r->quantization};
    const double numbers[] = {
        r->max_tokens,  r->has & ~(uint32_t)ONEBIT_HAS_DEADLINE,
        r->temperature, r->top_p,
        r->min_p,       r->repeat_penalty,
        r->top_k,       args->raw,
        r->ignore_eos,  r->no_thinking,
        r->n_logprobs,
    };
    uint64_t h = FNV_START;

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        h = texts[i] ? fnv_add(h, texts[i], strlen(texts[i]) + 1) : fnv_add(h, "\xff", 1);
    }
    for (size_t i = 0; i < r->n_stops; i++) {
        h = fnv_add(h, r->stops[i], strlen(r->stops[i]) + 1);
    }
    h = fnv_add(h, numbers, sizeof(numbers));
    return fnv_add(h, &r->seed, sizeof(r->seed));
}

uint64_t batch_mark(const struct args *args, const struct line *line)
{
    return hash_options(args) ^ line->hash;
}

int batch_item_new(struct batch_item **ret, const struct args *args, uint64_t number,
                   const struct line *line)
{
    struct batch_item *item = calloc(1, sizeof(*item));
    json_error_t error = {0};
    int r = 0;

    if (!item) {
        return -ENOMEM;
    }
    item->line = number;
    item->mark = batch_mark(args, line);
    if (line->too_long) {
        problem(item, "the line is longer than %zu bytes", IN_LINE_BYTES_MAX);
    } else {
        item->source =
            json_loadb(line->text, line->n, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &error);
        if (!item->source) {
            problem(item, "no JSON at byte %d: %.160s", error.position, error.text);
            item->text = strndup(line->text, line->n);
            r = item->text ? 0 : -ENOMEM;
        } else {
            r = read_request(item, args);
        }
    }
    if (r < 0) {
        batch_item_free(item);
        return r;
    }
    *ret = item;
    return 0;
}

json_t *batch_problem_json(const struct batch_item *item)
{
    const struct onebit_error_info *info = onebit_error_info(ONEBIT_ERR_BAD_REQUEST);
    char *safe = escape_line(item->problem); /* a character may be cut in it, and JSON is UTF-8 */
    json_t *end = json_pack("{s:{s:s, s:i, s:s*, s:s, s:b, s:i, s:i, s:i}}", "error", "name",
                            info->name, "number", (int)info->number, "message", safe, "hint",
                            info->hint, "retryable", 0, "retry_after_ms", 0, "have", 0, "limit", 0);

    free(safe);
    return end;
}

int batch_item_end(struct batch_item *item, json_t *end)
{
    char mark[24];
    int failed = !end;

    (void)snprintf(mark, sizeof(mark), "%016llx", (unsigned long long)item->mark);
    json_t *all = json_pack("{s:I, s:O*, s:s}", "line", (json_int_t)item->line, "id",
                            json_object_get(item->source, "id"), "input", mark);
    failed |= !all || json_object_update(all, end) != 0;
    item->failed = json_object_get(end, "error") != NULL;
    if (!failed && item->failed) { /* ready to be asked again */
        json_t *request = item->source ? json_incref(item->source)
                          : item->text ? json_string(item->text)
                                       : NULL;
        failed = request && json_object_set_new(all, "request", request) != 0;
    }
    json_decref(end);
    char *text = failed ? NULL : json_dumps(all, JSON_COMPACT | JSON_REAL_PRECISION(15));
    json_decref(all);
    if (!text) {
        return -ENOMEM;
    }
    item->result_n = strlen(text) + 1;
    text[item->result_n - 1] = '\n'; /* in place of the NUL: the line is bytes from here on */
    item->result = text;
    return 0;
}
