/* Every bound of PROTOCOL.md: the last value inside is read, the first one outside is refused, and
 * the refusal begins with the field's name. */
#include "tests/support/test.h"

#include <stdio.h>
#include <string.h>

#include "base/compiler.h"
#include "ipc/message.h"
#include "tests/unit/ipc/frames.h"

struct bound {
    const char *fields; /* of the map, behind type and id */
    const char *name;   /* refused by this name; NULL: read */
};

static const struct bound of_session[] = {
    {"'session': 'a'", NULL},
    {"'session': <64>", NULL},
    {"", "session"},
    {"'session': ''", "session"},
    {"'session': <65>", "session"},
    {"'session': 'a b'", "session"},
    {"'session': '..'", "session"},
    {"'session': 'a', 'session': 'a'", "session"},
};

static const struct bound of_generate[] = {
    {"'prompt': ''", NULL},
    {"", "prompt"},
    {"'prompt': 'x', 'ids': [1]", "prompt"},
    {"'prompt': 'x', 'messages': [{'role': 'user', 'content': ''}]", "prompt"},
    {"'ids': [1], 'messages': [{'role': 'user', 'content': ''}]", "prompt"},
    {"'prompt': 5", "prompt"},
    {"'prompt': null", "prompt"},
    {"'prompt': 'x', 'prompt': 'x'", "prompt"},
    {"'messages': []", "messages"},
    {"'messages': [{'role': 'user', 'content': 'x'}], 'session': ''", NULL},
    {"'messages': [{'role': 'user', 'content': 'x'}], 'session': 'a.b_C-9'", NULL},
    {"'messages': [{'role': 'user', 'content': 'x'}], 'session': <64>", NULL},
    {"'messages': [{'role': 'user', 'content': 'x'}], 'session': <65>", "session"},
    {"'messages': [{'role': 'user', 'content': 'x'}], 'session': 'a/b'", "session"},
    {"'messages': [{'role': 'user', 'content': 'x'}], 'session': '.a'", "session"},
    {"'messages': [{'role': 'user', 'content': 'x'}], 'session': 5", "session"},
    {"'prompt': 'x', 'session': 'a'", "session"},
    {"'ids': [1], 'session': ''", "session"},
    {"'prompt': 'x', 'trim': 1", "trim"},
    {"'prompt': 'x', 'no_cache': 'yes'", "no_cache"},
    {"'messages': [256x {'role': 'user', 'content': 'x'}]", NULL},
    {"'messages': [257x {'role': 'user', 'content': 'x'}]", "messages"},
    {"'messages': {'role': 'user', 'content': 'x'}", "messages"},
    {"'messages': ['user']", "messages"},
    {"'messages': [{'content': 'x'}]", "role"},
    {"'messages': [{'role': 'user'}]", "content"},
    {"'messages': [{'role': 'user', 'content': null}]", "content"},
    {"'messages': [{'role': '', 'content': 'x'}]", "role"},
    {"'messages': [{'role': <255>, 'content': 'x'}]", NULL},
    {"'messages': [{'role': <256>, 'content': 'x'}]", "role"},
    {"'messages': [{'role': 'a', 'role': 'b', 'content': 'x'}]", "role"},
    {"'messages': [{'role': 'a', 'content': 'x', 'name': 'ignored'}]", NULL},
    {"'messages': [{'role': 'a', 'content': 'x', 5: 6}]", "map"},
    {"'ids': []", "ids"},
    {"'ids': [0, 2147483647]", NULL},
    {"'ids': [2147483648]", "ids"},
    {"'ids': [-1]", "ids"},
    {"'ids': [1.0]", "ids"},
    {"'ids': ['1']", "ids"},
    {"'ids': 7", "ids"},
    {"'ids': [1048576x 7]", NULL},
    {"'ids': [1048577x 7]", "ids"},
    {"'prompt': '', 'model': <255>", NULL},
    {"'prompt': '', 'model': <256>", "model"},
    {"'prompt': '', 'model': 5", "model"},
    {"'prompt': '', 'chat_template': <255>", NULL},
    {"'prompt': '', 'chat_template': <256>", "chat_template"},
    {"'prompt': '', 'no_thinking': true", NULL},
    {"'prompt': '', 'no_thinking': 1", "no_thinking"},
    {"'prompt': '', 'quantization': <255>", NULL},
    {"'prompt': '', 'quantization': <256>", "quantization"},
    {"'prompt': '', 'class': 'high'", NULL},
    {"'prompt': '', 'class': 'urgent'", "class"},
    {"'prompt': '', 'class': ''", "class"},
    {"'prompt': '', 'class': 2", "class"},
    {"'prompt': '', 'max_tokens': 0", NULL},
    {"'prompt': '', 'max_tokens': 1048576", NULL},
    {"'prompt': '', 'max_tokens': 1048577", "max_tokens"},
    {"'prompt': '', 'max_tokens': -1", "max_tokens"},
    {"'prompt': '', 'max_tokens': 1.0", "max_tokens"},
    {"'prompt': '', 'max_tokens': 18446744073709551615", "max_tokens"},
    {"'prompt': '', 'ignore_eos': false", NULL},
    {"'prompt': '', 'ignore_eos': 'no'", "ignore_eos"},
    {"'prompt': '', 'temperature': 0", NULL},
    {"'prompt': '', 'temperature': 10", NULL},
    {"'prompt': '', 'temperature': 10.0", NULL},
    {"'prompt': '', 'temperature': 10.001", "temperature"},
    {"'prompt': '', 'temperature': -0.001", "temperature"},
    {"'prompt': '', 'temperature': -1", "temperature"},
    {"'prompt': '', 'temperature': nan", "temperature"},
    {"'prompt': '', 'temperature': inf", "temperature"},
    {"'prompt': '', 'temperature': 1e300", "temperature"},
    {"'prompt': '', 'temperature': '1'", "temperature"},
    {"'prompt': '', 'top_k': 0", NULL},
    {"'prompt': '', 'top_k': 2147483647", NULL},
    {"'prompt': '', 'top_k': 2147483648", "top_k"},
    {"'prompt': '', 'top_k': -1", "top_k"},
    {"'prompt': '', 'top_p': 1", NULL},
    {"'prompt': '', 'top_p': 0.001", NULL},
    {"'prompt': '', 'top_p': 0", "top_p"},
    {"'prompt': '', 'top_p': 1e-300", "top_p"}, /* 0 as the float it becomes */
    {"'prompt': '', 'top_p': 1.001", "top_p"},
    {"'prompt': '', 'min_p': 0", NULL},
    {"'prompt': '', 'min_p': 0.999", NULL},
    {"'prompt': '', 'min_p': 1", "min_p"},
    {"'prompt': '', 'min_p': 0.99999999999", "min_p"}, /* 1 as the float it becomes */
    {"'prompt': '', 'min_p': -0.1", "min_p"},
    {"'prompt': '', 'repeat_penalty': 0.1", NULL},
    {"'prompt': '', 'repeat_penalty': 10", NULL},
    {"'prompt': '', 'repeat_penalty': 0.0999", "repeat_penalty"},
    {"'prompt': '', 'repeat_penalty': 10.01", "repeat_penalty"},
    {"'prompt': '', 'seed': 18446744073709551615", NULL},
    {"'prompt': '', 'seed': -1", "seed"},
    {"'prompt': '', 'seed': 1.5", "seed"},
    {"'prompt': '', 'stop': []", NULL},
    {"'prompt': '', 'stop': [16x 'x']", NULL},
    {"'prompt': '', 'stop': [17x 'x']", "stop"},
    {"'prompt': '', 'stop': [<256>]", NULL},
    {"'prompt': '', 'stop': [<257>]", "stop"},
    {"'prompt': '', 'stop': ['']", "stop"},
    {"'prompt': '', 'stop': 'x'", "stop"},
    {"'prompt': '', 'stop': [1]", "stop"},
    {"'prompt': '', 'logprobs': 20", NULL},
    {"'prompt': '', 'logprobs': 21", "logprobs"},
    {"'prompt': '', 'deadline_ms': 0", NULL},
    {"'prompt': '', 'deadline_ms': 4294967295", NULL},
    {"'prompt': '', 'deadline_ms': 4294967296", "deadline_ms"},
};

static const struct bound of_cancel[] = {
    {"'target': 1", NULL},
    {"'target': 4294967295", NULL},
    {"'target': 4294967296", "target"},
    {"'request': 18446744073709551615", NULL},
    {"'target': 0, 'request': 1", NULL},
    {"", "target"},
    {"'target': 0", "target"},
    {"'target': 1, 'request': 1", "target"},
    {"'request': -1", "request"},
};

static const struct bound of_load[] = {
    {"'model': <255>", NULL},
    {"'model': <256>", "model"},
    {"'model': ''", "model"},
    {"", "model"},
};

static const struct bound of_accepted[] = {
    {"'request': 1", NULL},
    {"'request': 0", "request"},
    {"", "request"},
    {"'request': 1, 'position': -1", "position"},
    {"'request': 1, 'position': 4294967296", "position"},
    {"'request': 1, 'model': <256>", "model"},
};

static const struct bound of_progress[] = {
    {"'phase': 'restarting', 'done': 18446744073709551615", NULL},
    {"'phase': 'paused', 'reason': <32>", NULL},
    {"'phase': 'paused', 'reason': <33>", "reason"},
    {"'phase': 'waiting'", "phase"},
    {"", "phase"},
    {"'phase': 'queued', 'total': 1.5", "total"},
};

static const struct bound of_delta[] = {
    {"'index': 1048576", NULL},
    {"'index': 1048577", "index"},
    {"", "index"},
    {"'index': 0, 'ids': [-1]", "ids"},
    {"'index': 0, 'ids': [1, 2], 'logprobs': [[[1, -1]], [[2, -0.5]]]", NULL},
    {"'logprobs': [[[1, -1]], [[2, -0.5]]], 'ids': [1, 2], 'index': 0", NULL},
    {"'index': 0, 'ids': [1], 'logprobs': []", NULL},
    {"'index': 0, 'ids': [1, 2], 'logprobs': [[[1, -1]]]", "logprobs"},
    {"'index': 0, 'logprobs': [[[1, -1]]]", "logprobs"},
    {"'index': 0, 'ids': [1], 'logprobs': [[]]", "logprobs"},
    {"'index': 0, 'ids': [1], 'logprobs': [[21x [1, -1]]]", NULL},
    {"'index': 0, 'ids': [1], 'logprobs': [[22x [1, -1]]]", "logprobs"},
    {"'index': 0, 'ids': [1, 2], 'logprobs': [[[1, -1]], [[1, -1], [2, -2]]]", "logprobs"},
    {"'index': 0, 'ids': [1], 'logprobs': [[[1, nan]]]", "logprobs"},
    {"'index': 0, 'ids': [1], 'logprobs': [[[1, -1e300]]]", "logprobs"},
    {"'index': 0, 'ids': [1], 'logprobs': [[[-1, -1]]]", "logprobs"},
    {"'index': 0, 'ids': [1], 'logprobs': [[[1]]]", "logprobs"},
    {"'index': 0, 'ids': [1], 'logprobs': [[1, 2]]", "logprobs"},
    {"'index': 0, 'ids': [1], 'logprobs': 7", "logprobs"},
};

static const struct bound of_done[] = {
    {"", NULL},
    {"'result': [1, {'a': null}]", NULL},
    {"'result': 1, 'result': 2", "result"},
    {"'prompt_tokens': 4294967296", "prompt_tokens"},
    {"'finish_reason': <256>", "finish_reason"},
    {"'cpu': 5", "cpu"},
};

static const struct bound of_error[] = {
    {"'name': 'internal', 'number': 500", NULL},
    {"'name': 'internal'", "number"},
    {"'number': 500", "name"},
    {"'name': '', 'number': 500", "name"},
    {"'name': 'internal', 'number': 1000", "number"},
    {"'name': 'internal', 'number': 500, 'retryable': 1", "retryable"},
    {"'name': 'internal', 'number': 500, 'retry_after_ms': 4294967296", "retry_after_ms"},
};

static const struct bound of_hello[] = {
    {"'protocol': [1, 0]", NULL},
    {"'protocol': [65535, 65535]", NULL},
    {"'protocol': [65536, 0]", "protocol"},
    {"'protocol': [-1, 0]", "protocol"},
    {"'protocol': [1]", "protocol"},
    {"'protocol': [1, 0, 0]", "protocol"},
    {"'protocol': 1", "protocol"},
    {"'protocol': [1.0, 0]", "protocol"},
    {"", "protocol"},
    {"'protocol': [1, 0], 'name': <256>", "name"},
    {"'protocol': [1, 0], 'features': [32x 'x']", NULL},
    {"'protocol': [1, 0], 'features': [33x 'x']", "features"},
    {"'protocol': [1, 0], 'required': [33x 'x']", "required"},
    {"'protocol': [1, 0], 'required': ['']", "required"},
    {"'protocol': [1, 0], 'required': [<256>]", "required"},
    {"'protocol': [1, 0], 'uid': 4294967296", "uid"},
};

static void hold(const char *type, const char *id, const struct bound *b)
{
    char text[512];
    struct message m;
    struct diag diag = {0};
    struct buf body;

    buf_init(&body, 8 << 20);
    (void)snprintf(text, sizeof(text), "{'type': '%s', %s %s}", type, id, b->fields);
    mp_text(&body, text);
    const int r = message_read(&m, body.data, body.n, &diag);
    char want[64] = "";
    (void)snprintf(want, sizeof(want), "%s: ", b->name ? b->name : "");
    if (r != (b->name ? MESSAGE_BAD_FIELD : MESSAGE_OK) || diag.set != (b->name != NULL) ||
        (b->name && strncmp(diag.text, want, strlen(want)) != 0)) {
        print_error("%s: outcome %d, \"%s\"\n", text, r, diag.text);
        fail();
    }
    buf_deinit(&body);
}

static void every_field_is_held_to_its_bounds(void **state)
{
#define OF(word)                                                                                   \
    {                                                                                              \
#word, of_##word, ARRAY_SIZE(of_##word)                                                    \
    }
    static const struct {
        const char *type;
        const struct bound *bounds;
        size_t n;
    } all[] = {OF(generate), OF(cancel), OF(load),  OF(accepted), OF(progress),
               OF(delta),    OF(done),   OF(error), OF(hello),    OF(session)};
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        const char *id = strcmp(all[i].type, "hello") == 0 ? "" : "'id': 1,";
        for (size_t k = 0; k < all[i].n; k++) {
            hold(all[i].type, id, &all[i].bounds[k]);
        }
    }
}

static void session_drop_has_the_bounds_of_session(void **state)
{
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(of_session); i++) {
        hold("session_drop", "'id': 1,", &of_session[i]);
    }
}

static void unload_has_the_bounds_of_load(void **state)
{
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(of_load); i++) {
        hold("unload", "'id': 1,", &of_load[i]);
    }
}

/* Goal: an id is 1..2^32-1 in requests and replies, absent in a hello, and may be absent in an
 * error. */
static void ids_are_held_to_their_bounds(void **state)
{
    static const struct {
        const char *type, *id;
        struct bound b;
    } all[] = {
        {"list", "'id': 4294967295,", {"", NULL}},
        {"list", "", {"", "id"}},
        {"list", "'id': 0,", {"", "id"}},
        {"list", "'id': 4294967296,", {"", "id"}},
        {"list", "'id': -1,", {"", "id"}},
        {"list", "'id': 1.0,", {"", "id"}},
        {"list", "'id': '1',", {"", "id"}},
        {"list", "'id': 1, 'id': 1,", {"", "id"}},
        {"hello", "'id': 1,", {"'protocol': [1, 0]", "id"}},
        {"hello", "'id': 0,", {"'protocol': [1, 0]", NULL}},
        {"error", "", {"'name': 'timeout', 'number': 504", NULL}},
        {"error", "'id': 0,", {"'name': 'timeout', 'number': 504", NULL}},
        {"error", "'id': -1,", {"'name': 'timeout', 'number': 504", "id"}},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        hold(all[i].type, all[i].id, &all[i].b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_is_held_to_its_bounds),
        cmocka_unit_test(session_drop_has_the_bounds_of_session),
        cmocka_unit_test(unload_has_the_bounds_of_load),
        cmocka_unit_test(ids_are_held_to_their_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
