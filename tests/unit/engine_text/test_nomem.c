#include "tests/support/test.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/nomem.h"
#include "tests/unit/engine_text/tiny.h"

/* One pass over everything that allocates; 0 or the first error. */
static int everything(int fd)
{
    static const char text[] = "abc the <think>\xff the e\xcc\x81";
    const struct chat_message m = {.role = strview_of("user"), .content = strview_of("hi")};
    const struct chat_options options = {.generation_prompt = true};
    const struct strview stop = strview_of("ab");
    struct vocab *v = NULL;
    struct textout *t = NULL;
    char *back = NULL, *prompt = NULL;
    int32_t ids[64];
    size_t n = 0, n_back = 0, n_prompt = 0;
    enum chat_template chat;
    bool given;
    int r = vocab_open_gguf(&v, fd, NULL);

    if (r == 0) {
        r = chat_template_of_gguf(fd, &chat, &given, NULL);
    }
    if (r == 0) {
        r = vocab_tokenize(v, text, sizeof(text) - 1, 0, ids, 64, &n);
    }
    if (r == 0) {
        r = vocab_detokenize(v, ids, n, &back, &n_back);
    }
    if (r == 0) {
        r = textout_new(&t, v, &stop, 1);
    }
    if (r == 0) {
        r = chat_render(CHAT_CHATML, &m, 1, &options, stop, &prompt, &n_prompt, NULL);
    }
    free(prompt);
    textout_free(t);
    free(back);
    vocab_free(v);
    return r;
}

/* Goal: whichever allocation fails, the answer is -ENOMEM and nothing is lost (the sanitizers see a
 * leak). Method: none succeeds, then one, then two, until all do. */
static void every_failed_allocation_is_reported(void **state)
{
    static const char *const pres[] = {"llama-bpe", "qwen2", "deepseek-llm", NULL};

    for (size_t k = 0; k < ARRAY_SIZE(pres); k++) {
        struct gguf_make m = pres[k] ? tiny_bpe(pres[k]) : tiny_spm();
        const int fd = make_done(&m);
        size_t i = 0;
        for (bool failed = true; failed; i++) {
            nomem_after(i);
            const int r = everything(fd);
            failed = nomem_off();
            assert_int_equal(r, failed ? -ENOMEM : 0);
        }
        assert_true(i > 10);
        close(fd);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_failed_allocation_is_reported)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
