/* What `onebit batch` is made of: lines of files, requests out of lines, lines out of answers, and
 * the bar. */
#include "tests/support/test.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/compiler.h"
#include "base/fnv.h"
#include "client/cli/batch.h"

static int file_of(const char *text, size_t n)
{
    const int fd = memfd_create("test", 0);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, n), (ssize_t)n);
    return fd;
}

/* ---- lines ---- */

static void lines_come_one_by_one_with_their_places(void **state)
{
    static const char text[] = "one\n\n  \t\nlast";
    static const struct {
        const char *text;
        off_t at;
        bool blank, torn;
    } want[] = {{"one", 0, false, false},
                {"", 4, true, false},
                {"  \t", 5, true, false},
                {"last", 9, false, true}};
    const int fd = file_of(text, strlen(text));
    struct lines lines;
    struct line line;

    lines_init(&lines, fd, 100, 0, 0);
    for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
        assert_int_equal(lines_next(&lines, &line), 1);
        assert_int_equal(lines.number, i + 1);
        assert_int_equal(line.n, strlen(want[i].text));
        assert_memory_equal(line.text, want[i].text, line.n);
        assert_int_equal(line.at, want[i].at);
        assert_int_equal(line_blank(&line), want[i].blank);
        assert_int_equal(line.torn, want[i].torn);
        assert_int_equal(line.hash, fnv_add(FNV_START, want[i].text, line.n));
    }
    assert_int_equal(lines_next(&lines, &line), 0);
    assert_int_equal(lines_next(&lines, &line), 0);
    lines_deinit(&lines);
    close(fd);
}

/* Goal: a line of any length is bounded in memory, has its whole hash, and the next one is found.
 * Method: lines around the limit and around the pieces that are read. */
static void a_long_line_is_cut_and_the_next_one_is_found(void **state)
{
    static const size_t lengths[] = {9, 10, 11, 65535, 65536, 65537, 200000};

    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        const size_t n = lengths[i];
        char *text = malloc(n + 5);
        struct lines lines;
        struct line line;
        for (size_t k = 0; k < n; k++) {
            text[k] = (char)('a' + k % 26);
        }
        memcpy(text + n, "\nend\n", 5);
        const int fd = file_of(text, n + 5);
        lines_init(&lines, fd, 10, 0, 0);
        assert_int_equal(lines_next(&lines, &line), 1);
        assert_int_equal(line.too_long, n > 10);
        assert_int_equal(line.n, n > 10 ? 10 : n);
        assert_memory_equal(line.text, text, line.n);
        assert_int_equal(line.hash, fnv_add(FNV_START, text, n));
        assert_int_equal(lines_next(&lines, &line), 1);
        assert_int_equal(line.n, 3);
        assert_memory_equal(line.text, "end", 3);
        assert_int_equal(line.at, n + 1);
        assert_int_equal(lines_next(&lines, &line), 0);
        lines_deinit(&lines);
        close(fd);
        free(text);
    }
}

/* ---- requests ---- */

static struct line line_of(const char *text)
{
    return (struct line){
        .text = text, .n = strlen(text), .hash = fnv_add(FNV_START, text, strlen(text))};
}

static struct args plain_args(void)
{
    struct args args = {0};

    onebit_request_init(&args.request);
    args.request.request_class = ONEBIT_CLASS_LOW;
    return args;
}

static struct batch_item *item_of(const struct args *args, const char *text)
{
    const struct line line = line_of(text);
    struct batch_item *item = NULL;

    assert_int_equal(batch_item_new(&item, args, 3, &line), 0);
    assert_int_equal(item->line, 3);
    return item;
}

static void a_line_may_be_a_text_messages_or_an_object(void **state)
{
    static const char *const all[] = {
        "\"hi\"",
        "[{\"role\": \"user\", \"content\": \"hi\"}]",
        "{\"prompt\": \"hi\"}",
        "{\"id\": 7, \"messages\": [{\"content\": \"hi\", \"role\": \"user\"}]}",
    };
    struct args args = plain_args();

    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        struct batch_item *item = item_of(&args, all[i]);
        assert_string_equal(item->problem, "");
        assert_int_equal(item->request.n_messages, 1);
        assert_string_equal(item->request.messages[0].role, "user");
        assert_string_equal(item->request.messages[0].content, "hi");
        assert_int_equal(item->request.request_class, ONEBIT_CLASS_LOW);
        batch_item_free(item);
    }
    args.system = "be brief";
    struct batch_item *item = item_of(&args, all[0]);
    assert_int_equal(item->request.n_messages, 2);
    assert_string_equal(item->request.messages[0].content, "be brief");
    batch_item_free(item);
    item = item_of(&args, "{\"prompt\": \"hi\", \"raw\": true}");
    assert_string_equal(item->request.prompt, "hi");
    assert_int_equal(item->request.n_messages, 0);
    batch_item_free(item);
    item = item_of(&args, "{\"ids\": [5, 0, 2147483647]}");
    assert_int_equal(item->request.n_ids, 3);
    assert_int_equal(item->request.ids[2], 2147483647);
    batch_item_free(item);
}

static void a_line_overrides_the_options(void **state)
{
    struct args args = plain_args();
    args.request.max_tokens = 9;
    args.request.model = "other";
    struct batch_item *item = item_of(
        &args,
        "{\"prompt\":\"x\",\"max_tokens\":5,\"temperature\":0,\"top_k\":3,\"top_p\":0.5,"
        "\"min_p\":0.25,\"repeat_penalty\":1.5,\"seed\":\"18446744073709551615\",\"stop\":[\"a\","
        "\"b\"],\"class\":\"normal\",\"deadline_ms\":4294967295,\"logprobs\":2,"
        "\"no_thinking\":true,\"ignore_eos\":true,\"no_cache\":true,\"quantization\":\"binary\","
        "\"chat_template\":\"chatml\"}");
    const struct onebit_request *r = &item->request;
    assert_string_equal(item->problem, "");
    assert_string_equal(r->model, "other");
    assert_int_equal(r->max_tokens, 5);
    assert_true(r->temperature == 0 && r->top_p == 0.5F && r->min_p == 0.25F);
    assert_true(r->repeat_penalty == 1.5F && r->top_k == 3 && r->seed == UINT64_MAX);
    assert_int_equal(r->has, ONEBIT_HAS_TEMPERATURE | ONEBIT_HAS_TOP_K | ONEBIT_HAS_TOP_P |
                                 ONEBIT_HAS_MIN_P | ONEBIT_HAS_REPEAT_PENALTY | ONEBIT_HAS_SEED |
                                 ONEBIT_HAS_DEADLINE);
    assert_int_equal(r->n_stops, 2);
    assert_string_equal(r->stops[1], "b");
    assert_int_equal(r->request_class, ONEBIT_CLASS_NORMAL);
    assert_true(r->deadline_ms == UINT32_MAX && r->n_logprobs == 2);
    assert_true(r->no_thinking && r->ignore_eos && r->no_cache);
    assert_string_equal(r->quantization, "binary");
    assert_string_equal(r->chat_template, "chatml");
    batch_item_free(item);
}

static void a_wrong_line_fails_alone_and_says_where(void **state)
{
    static const char *const all[][2] = {
        {"{\"prompt\": ", "no JSON at byte"},
        {"\"\xff\"", "no JSON at byte"},
        {"{\"prompt\": \"a\\u0000\"}", "no JSON at byte"},
        {"{\"prompt\": \"a\", \"prompt\": \"b\"}", "no JSON at byte"},
        {"7", "a line must be a text"},
        {"null", "a line must be a text"},
        {"\"\"", "prompt: must be a text, and not empty"},
        {"{\"prompt\": 7}", "prompt: must be a text"},
        {"{}", "exactly one of prompt"},
        {"{\"prompt\": \"a\", \"ids\": [1]}", "exactly one of prompt"},
        {"[]", "messages: must be an array of 1 to"},
        {"[{\"role\": \"user\"}]", "messages[0]: must have"},
        {"[{\"role\": \"\", \"content\": \"a\"}]", "messages[0]: must have"},
        {"[{\"role\": \"a\", \"content\": \"a\", \"name\": \"b\"}]", "messages[0]: must have"},
        {"{\"ids\": []}", "ids: must be an array"},
        {"{\"ids\": [1, -1]}", "ids[1]: must be a whole number"},
        {"{\"ids\": [2147483648]}", "ids[0]: must be a whole number"},
        {"{\"prompt\": \"a\", \"max_token\": 5}", "max_token: there is no such field"},
        {"{\"prompt\": \"a\", \"max_tokens\": -1}", "max_tokens: has the wrong type or is out"},
        {"{\"prompt\": \"a\", \"max_tokens\": 1048577}", "max_tokens: has the wrong type"},
        {"{\"prompt\": \"a\", \"max_tokens\": 1.5}", "max_tokens: has the wrong type"},
        {"{\"prompt\": \"a\", \"temperature\": \"hot\"}", "temperature: has the wrong type"},
        {"{\"prompt\": \"a\", \"temperature\": 1e300}", "temperature: has the wrong type"},
        {"{\"prompt\": \"a\", \"seed\": -1}", "seed: has the wrong type"},
        {"{\"prompt\": \"a\", \"seed\": \"18446744073709551616\"}", "seed: has the wrong type"},
        {"{\"prompt\": \"a\", \"stop\": [\"\"]}", "stop: has the wrong type"},
        {"{\"prompt\": \"a\", \"stop\": {}}", "stop: has the wrong type"},
        {"{\"prompt\": \"a\", \"class\": \"first\"}", "class: has the wrong type"},
        {"{\"prompt\": \"a\", \"raw\": 1}", "raw: has the wrong type"},
        {"{\"prompt\": \"a\", \"raw\": true, \"system\": \"b\"}", "system: must be a text"},
        {"{\"prompt\": \"a\", \"session\": \"b\"}", "session: there is no such field"},
        {"{\"prompt\": \"a\", \"id\": 1.5}", "id: has the wrong type"},
    };
    const struct args args = plain_args();

    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        struct batch_item *item = item_of(&args, all[i][0]);
        if (!strstr(item->problem, all[i][1])) {
            fail_msg("%s: \"%s\" does not say \"%s\"", all[i][0], item->problem, all[i][1]);
        }
        assert_int_equal(batch_item_end(item, batch_problem_json(item)), 0);
        json_t *o = json_loadb(item->result, item->result_n, 0, NULL);
        const json_t *error = json_object_get(o, "error");
        assert_string_equal(json_string_value(json_object_get(error, "name")), "bad_request");
        assert_int_equal(json_integer_value(json_object_get(error, "number")), 400);
        json_decref(o);
        batch_item_free(item);
    }
}

static void a_failure_has_its_request_and_an_answer_does_not(void **state)
{
    const struct args args = plain_args();
    struct batch_item *item = item_of(&args, "{\"id\": \"mine\", \"prompt\": \"a\"}");
    char want[256];

    assert_int_equal(batch_item_end(item, json_pack("{s:s}", "text", "b")), 0);
    snprintf(want, sizeof(want),
             "{\"line\":3,\"id\":\"mine\",\"input\":\"%016" PRIx64 "\",\"text\":\"b\"}\n",
             item->mark);
    assert_int_equal(item->result_n, strlen(want));
    assert_memory_equal(item->result, want, item->result_n);
    batch_item_free(item);

    item = item_of(&args, "{\"id\": \"mine\", \"prompt\": \"a\"}");
    assert_int_equal(batch_item_end(item, json_pack("{s:{s:s}}", "error", "name", "x")), 0);
    json_t *o = json_loadb(item->result, item->result_n, 0, NULL);
    assert_true(json_equal(json_object_get(o, "request"), item->source));
    json_decref(o);
    batch_item_free(item);
}

/* Goal: a line's mark changes with the line and with every option that changes answers, and not
 * with those that do not. */
static void a_mark_tells_lines_and_options_apart(void **state)
{
    const struct line line = line_of("\"a\""), other = line_of("\"b\"");
    struct args args = plain_args();
    const uint64_t mark = batch_mark(&args, &line);
    static const char *const stops[] = {"x"};

    assert_int_not_equal(mark, batch_mark(&args, &other));
    args.request.request_class = ONEBIT_CLASS_HIGH;
    args.request.has = ONEBIT_HAS_DEADLINE;
    args.request.deadline_ms = 5;
    args.jobs = 3;
    assert_int_equal(mark, batch_mark(&args, &line));
#define CHANGES(set)                                                                               \
    do {                                                                                           \
        args = plain_args();                                                                       \
        set;                                                                                       \
        assert_int_not_equal(mark, batch_mark(&args, &line));                                      \
    } while (0)
    CHANGES(args.system = "s");
    CHANGES(args.system = "");
    CHANGES(args.raw = true);
    CHANGES(args.request.model = "m");
    CHANGES(args.request.chat_template = "m");
    CHANGES(args.request.quantization = "m");
    CHANGES(args.request.max_tokens = 1);
    CHANGES(args.request.has = ONEBIT_HAS_TEMPERATURE);
    CHANGES(args.request.temperature = 1);
    CHANGES(args.request.top_k = 1);
    CHANGES(args.request.top_p = 1);
    CHANGES(args.request.min_p = 1);
    CHANGES(args.request.repeat_penalty = 1);
    CHANGES(args.request.seed = 1);
    CHANGES(args.request.ignore_eos = true);
    CHANGES(args.request.no_thinking = true);
    CHANGES((args.request.stops = stops, args.request.n_stops = 1));
}

/* ---- files ---- */

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void answers_of(char *ret, size_t room, const struct args *args, const char *const asked[],
                       size_t n)
{
    size_t at = 0;

    for (size_t i = 0; i < n; i++) {
        const struct line line = line_of(asked[i]);
        at += (size_t)snprintf(ret + at, room - at,
                               "{\"line\":%zu,\"input\":\"%016" PRIx64 "\",\"%s\":{}}\n", 2 * i + 1,
                               batch_mark(args, &line), i == 1 ? "error" : "text");
    }
}

/* Goal: an output that is there is gone on with where it ends, a half-written line is dropped, and
 * a file that is not this input's is refused. */
static void an_output_is_continued_where_it_ends(void **state)
{
    static const char *const asked[] = {"\"a\"", "\"b\"", "\"c\""};
    static const char *const tails[] = {"", "{\"line\":5,\"inp", "\n", "{\"line\":5}\n", "{\"li"};
    const struct args args = plain_args();
    char dir[] = "/tmp/onebit-batch-XXXXXX", in[64], out[64], had[1024];
    struct batch_files f;

    assert_non_null(mkdtemp(dir));
    snprintf(in, sizeof(in), "%s/in", dir);
    snprintf(out, sizeof(out), "%s/out", dir);
    write_file(in, "\"a\"\n\n\"b\"\n\n\"c\"\n");
    assert_int_equal(batch_files_open(&f, &args, in, out), 0);
    assert_true(f.n_all == 3 && f.n_had == 0 && f.in_at == 0 && f.in_line == 0 && !f.torn);
    batch_files_close(&f);

    for (size_t i = 0; i < ARRAY_SIZE(tails); i++) {
        answers_of(had, sizeof(had), &args, asked, 2);
        const size_t whole = strlen(had);
        strcat(had, tails[i]);
        write_file(out, had);
        assert_int_equal(batch_files_open(&f, &args, in, out), 0);
        assert_true(f.n_all == 3 && f.n_had == 2 && f.n_had_failed == 1);
        assert_true(f.in_at == 9 && f.in_line == 3);
        assert_int_equal(f.torn, tails[i][0] != '\0');
        assert_int_equal(lseek(f.out, 0, SEEK_CUR), whole);
        assert_int_equal(lseek(f.out, 0, SEEK_END), whole);
        batch_files_close(&f);
    }
    answers_of(had, sizeof(had), &args, asked, 3);
    write_file(out, had);
    assert_int_equal(batch_files_open(&f, &args, in, out), 0);
    assert_true(f.n_all == 3 && f.n_had == 3);
    batch_files_close(&f);
    unlink(in);
    unlink(out);
    rmdir(dir);
}

static void an_output_of_something_else_is_refused_and_left_alone(void **state)
{
    static const char *const asked[] = {"\"a\"", "\"b\"", "\"c\""};
    static const char *const others[] = {"\"a\"\n\n\"x\"\n\n\"c\"\n", "\"a\"\n\"b\"\n", "\"a\"\n",
                                         ""};
    static const char *const diaries[] = {"my diary\nday two\n", "my diary\n", "my diary", "{}"};
    struct args args = plain_args();
    char dir[] = "/tmp/onebit-batch-XXXXXX", in[64], out[64], had[1024], now[1024];
    struct batch_files f;

    assert_non_null(mkdtemp(dir));
    snprintf(in, sizeof(in), "%s/in", dir);
    snprintf(out, sizeof(out), "%s/out", dir);
    answers_of(had, sizeof(had), &args, asked, 3);
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        write_file(out, had);
        write_file(in, others[i]);
        assert_int_equal(batch_files_open(&f, &args, in, out), EXIT_DATA);
        batch_files_close(&f);
    }
    write_file(in, "\"a\"\n\n\"b\"\n\n\"c\"\n");
    args.request.seed = 5; /* the same lines, asked otherwise */
    assert_int_equal(batch_files_open(&f, &args, in, out), EXIT_DATA);
    batch_files_close(&f);
    args = plain_args();
    for (size_t i = 0; i < ARRAY_SIZE(diaries); i++) {
        write_file(out, diaries[i]);
        assert_int_equal(batch_files_open(&f, &args, in, out), EXIT_DATA);
        assert_int_equal(pread(f.out, now, sizeof(now), 0), (ssize_t)strlen(diaries[i]));
        batch_files_close(&f);
    }
    assert_int_equal(batch_files_open(&f, &args, in, in), EXIT_USAGE);
    batch_files_close(&f);
    assert_int_equal(batch_files_open(&f, &args, "/dev/null", out), EXIT_DATA);
    batch_files_close(&f);
    unlink(in);
    unlink(out);
    rmdir(dir);
}

static void one_output_is_written_by_one_batch(void **state)
{
    const struct args args = plain_args();
    char dir[] = "/tmp/onebit-batch-XXXXXX", in[64], out[64];
    struct batch_files f, second;

    assert_non_null(mkdtemp(dir));
    snprintf(in, sizeof(in), "%s/in", dir);
    snprintf(out, sizeof(out), "%s/out", dir);
    write_file(in, "\"a\"\n");
    assert_int_equal(batch_files_open(&f, &args, in, out), 0);
    assert_int_equal(batch_files_open(&second, &args, in, out), EXIT_IO);
    batch_files_close(&second);
    batch_files_close(&f);
    unlink(in);
    unlink(out);
    rmdir(dir);
}

/* ---- the bar ---- */

static void the_bar_says_how_far_how_fast_and_how_long(void **state)
{
    struct progress p;
    char text[256];

    progress_init(&p, 100, 20, 5 * NS_PER_S);
    progress_line(text, sizeof(text), &p, 60, 2, 300, 15 * NS_PER_S, 200);
    assert_string_equal(text, "[##############..........] 60 of 100, 2 failed, 30.0 tokens/s, "
                              "about 10 s left");
    progress_line(text, sizeof(text), &p, 20, 0, 0, 5 * NS_PER_S, 200);
    assert_string_equal(text, "[####....................] 20 of 100, 0.0 tokens/s");
    progress_line(text, sizeof(text), &p, 100, 0, 0, 15 * NS_PER_S, 40);
    assert_string_equal(text, "[########################] 100 of 100, 0");
    progress_line(text, sizeof(text), &p, 21, 0, 0, 205 * NS_PER_S, 200);
    assert_non_null(strstr(text, "about 4.4 h left"));
    progress_init(&p, 0, 0, 0);
    progress_line(text, sizeof(text), &p, 0, 0, 0, 0, 200);
    assert_non_null(strstr(text, "0 of 0"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_come_one_by_one_with_their_places),
        cmocka_unit_test(a_long_line_is_cut_and_the_next_one_is_found),
        cmocka_unit_test(a_line_may_be_a_text_messages_or_an_object),
        cmocka_unit_test(a_line_overrides_the_options),
        cmocka_unit_test(a_wrong_line_fails_alone_and_says_where),
        cmocka_unit_test(a_failure_has_its_request_and_an_answer_does_not),
        cmocka_unit_test(a_mark_tells_lines_and_options_apart),
        cmocka_unit_test(an_output_is_continued_where_it_ends),
        cmocka_unit_test(an_output_of_something_else_is_refused_and_left_alone),
        cmocka_unit_test(one_output_is_written_by_one_batch),
        cmocka_unit_test(the_bar_says_how_far_how_fast_and_how_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
