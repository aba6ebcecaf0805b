#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/engine.h"
#include "tests/unit/train/both.h"
#include "tests/unit/train/toy.h"
#include "train/loop/prompt.h"
#include "train/loop/trainer.h"

#define TURN "'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'"

static const char qwen3[] =
    "{%- set ns = namespace(last_query_index=messages|length - 1) %}"
    "{%- for message in messages %}{%- if message.role == 'user' or message.role == 'system' %}"
    "{{- " TURN " }}{%- elif message.role == 'assistant' %}{{- " TURN " }}"
    "{%- elif message.role == 'tool' %}{{- '<|im_start|>user' }}{{- '\\n<tool_response>\\n' }}"
    "{{- message.content }}{{- '\\n</tool_response>' }}{{- '<|im_end|>\\n' }}"
    "{%- endif %}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}"
    "{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}";
static const char llama3[] = "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + "
                             "m['role'] + '<|end_header_id|>\\n\\n' + "
                             "m['content']|trim + '<|eot_id|>' }}{% endfor %}"
                             "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}";

static int end_file(struct gguf_writer *w)
{
    const int fd = memfd_create("vocabulary", MFD_CLOEXEC);

    assert_int_equal(gguf_writer_begin(w, fd), 0);
    assert_int_equal(gguf_writer_end(w), 0);
    gguf_writer_free(w);
    return fd;
}

/* The toy's tokens with another template; NULL: with none. */
static int with_template(const struct toy *toy, const char *text)
{
    struct gguf_writer *w = NULL;

    assert_int_equal(gguf_writer_new(&w), 0);
    assert_int_equal(gguf_put_str(w, "general.architecture", strview_of("llama")), 0);
    assert_int_equal(gguf_put_from(w, toy->vocabulary.fd, "tokenizer.ggml.", NULL), 0);
    if (text) {
        assert_int_equal(gguf_put_str(w, "tokenizer.chat_template", strview_of(text)), 0);
    }
    return end_file(w);
}

/* Goal: a model is asked as it was taught. Method: a vocabulary without a template; the model that
 * is trained with it names ChatML's. */
static void a_vocabulary_without_a_template_is_given_chatml(void **state)
{
    const struct model_limits limits = {0};
    struct vocabulary v = {0}, again = {0};
    struct model *model = NULL;
    struct model_info info;
    struct trainer *t = NULL;
    struct toy toy;

    toy_init(&toy, 16, NET_W_BINARY, NET_A_INT8);
    const int fd = with_template(&toy, NULL);
    assert_int_equal(vocabulary_open(&v, fd, NULL), MODEL_OK);
    assert_int_equal(v.chat, CHAT_CHATML);
    assert_int_equal(vocabulary_read(&again, v.bytes, v.n, NULL), MODEL_OK);
    assert_int_equal(again.n, v.n);
    assert_memory_equal(again.bytes, v.bytes, v.n);
    vocabulary_close(&again);
    vocabulary_close(&toy.vocabulary);
    toy.vocabulary = v;

    assert_int_equal(trainer_new(&t, &toy.recipe), 0);
    const int file = both_file(t, &toy);
    assert_int_equal(model_open_gguf(&model, file, &limits, NULL), MODEL_OK);
    model_info(model, &info);
    assert_true(info.has_chat_template && info.chat == CHAT_CHATML);
    model_free(model);
    trainer_free(t);
    (void)close(file);
    (void)close(fd);
    toy_deinit(&toy);
}

static void another_template_is_refused_by_name(void **state)
{
    static const struct {
        const char *text, *why;
    } others[] = {
        {llama3, "its chat template is llama3, and rows are laid out as chatml or qwen3"},
        {"{{ 'Q: ' + messages[0].content }}", "its chat template is none that is known here"},
        {"", "its chat template is none that is known here"},
    };
    struct toy toy;

    toy_init(&toy, 16, NET_W_BINARY, NET_A_INT8);
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        const int fd = with_template(&toy, others[i].text);
        struct vocabulary v = {.fd = -1};
        struct diag diag = {0};
        assert_int_equal(vocabulary_open(&v, fd, &diag), MODEL_UNSUPPORTED);
        assert_int_equal(v.fd, -1); /* untouched */
        if (!strstr(diag.text, others[i].why)) {
            fail_msg("%zu: %s", i, diag.text);
        }
        (void)close(fd);
    }
    toy_deinit(&toy);
}

static void a_template_that_is_no_text_is_malformed(void **state)
{
    struct gguf_writer *w = NULL;
    struct vocabulary v;
    struct diag diag = {0};
    struct toy toy;

    toy_init(&toy, 16, NET_W_BINARY, NET_A_INT8);
    assert_int_equal(gguf_writer_new(&w), 0);
    assert_int_equal(gguf_put_from(w, toy.vocabulary.fd, "tokenizer.ggml.", NULL), 0);
    assert_int_equal(gguf_put_u32(w, "tokenizer.chat_template", 7), 0);
    const int fd = end_file(w);
    assert_int_equal(vocabulary_open(&v, fd, &diag), MODEL_MALFORMED);
    assert_string_equal(diag.text, "tokenizer.chat_template is no text");
    (void)close(fd);
    toy_deinit(&toy);
}

/* Goal: qwen3 writes one user's turn as ChatML does, as long as the answer may think. Method: the
 * same rows through both vocabularies. */
static void qwen3_rows_are_those_of_chatml(void **state)
{
    static const char row[] = "{\"prompt\":\"turn on the fan\",\"answer\":\"{'do':'on'}\"}";
    const uint32_t order[] = {0};
    struct vocabulary v = {0};
    struct batch a = {0}, b = {0};
    struct data *ours = NULL, *theirs = NULL;
    struct toy toy;

    toy_init(&toy, 16, NET_W_BINARY, NET_A_INT8);
    const int fd = with_template(&toy, qwen3);
    assert_int_equal(vocabulary_open(&v, fd, NULL), MODEL_OK);
    assert_int_equal(v.chat, CHAT_QWEN3);
    assert_int_equal(data_new(&ours, &toy.vocabulary, 64), 0);
    assert_int_equal(data_new(&theirs, &v, 64), 0);
    assert_int_equal(data_add(ours, row, strlen(row), false, NULL), DATA_OK);
    assert_int_equal(data_add(theirs, row, strlen(row), false, NULL), DATA_OK);
    assert_int_equal(batch_fill(&a, ours, order, 1, 0), 0);
    assert_int_equal(batch_fill(&b, theirs, order, 1, 0), 0);
    assert_int_equal(a.n_tokens, b.n_tokens);
    assert_memory_equal(a.tokens, b.tokens, a.n_tokens * sizeof(*a.tokens));
    batch_deinit(&a);
    batch_deinit(&b);
    data_free(ours);
    data_free(theirs);
    vocabulary_close(&v);
    (void)close(fd);
    toy_deinit(&toy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_vocabulary_without_a_template_is_given_chatml),
        cmocka_unit_test(another_template_is_refused_by_name),
        cmocka_unit_test(a_template_that_is_no_text_is_malformed),
        cmocka_unit_test(qwen3_rows_are_those_of_chatml),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
