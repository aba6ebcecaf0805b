/* prompt: the engine's template and tokenizer, for one turn. */
#include "train/loop/prompt.h"

#include <stdlib.h>

static int outcome(int r)
{
    return r < 0                ? r
           : r == TOKENIZE_OK   ? PROMPT_OK
           : r == TOKENIZE_FULL ? PROMPT_FULL
                                : PROMPT_HARD;
}

int prompt_ids(const struct vocab *vocab, enum chat_template chat, struct strview prompt,
               int32_t *ids, size_t ids_max, size_t *ret_n)
{
    const struct chat_message message = {.role = strview_of("user"), .content = prompt};
    const struct chat_options options = {.generation_prompt = true,
                                         .add_bos = vocab_adds_bos(vocab)};
    char bos[TEXT_PIECE_MAX];
    size_t bos_n = 0, n = 0;
    char *text = NULL;

    if (vocab_bos(vocab) >= 0) {
        bos_n = vocab_piece(vocab, vocab_bos(vocab), true, bos);
    }
    int r = chat_render(chat, &message, 1, &options, (struct strview){.data = bos, .n = bos_n},
                        &text, &n, NULL);
    if (r != CHAT_OK) {
        return r < 0 ? r : PROMPT_HARD;
    }
    r = vocab_tokenize(vocab, text, n, TOKENIZE_SPECIAL, ids, ids_max, ret_n);
    free(text);
    return outcome(r);
}

int answer_ids(const struct vocab *vocab, struct strview answer, int32_t end, int32_t *ids,
               size_t ids_max, size_t *ret_n)
{
    size_t n = 0;

    if (ids_max == 0) {
        return PROMPT_FULL;
    }
    const int r = outcome(
        vocab_tokenize(vocab, answer.n ? answer.data : "", answer.n, 0, ids, ids_max - 1, &n));
    if (r == PROMPT_OK) {
        ids[n] = end;
        *ret_n = n + 1;
    }
    return r;
}

int prompt_end(const struct vocab *vocab, int32_t *ret)
{
    static const char mark[] = "<|im_end|>";
    int32_t ids[2];
    size_t n = 0;
    const int r = vocab_tokenize(vocab, mark, sizeof(mark) - 1, TOKENIZE_SPECIAL, ids, 2, &n);

    if (r < 0) {
        return r;
    }
    *ret = r == TOKENIZE_OK && n == 1 && vocab_is_end(vocab, ids[0]) ? ids[0] : -1;
    return 0;
}
