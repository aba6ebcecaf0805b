/* marks: two lists of texts, as the families in use write them. */
#include "engine/text/marks.h"

static bool is_among(struct strview text, const char *const *known, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strview_is(text, known[i])) {
            return true;
        }
    }
    return false;
}

bool mark_is_end(struct strview text)
{
    static const char *const known[] = {
        /* of a turn or a text */
        "<|im_end|>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|end_of_text|>",
        "<|endoftext|>",
        "<|end|>",
        "<|return|>",
        "<end_of_turn>",
        "<end_of_utterance>",
        "</s>",
        "<eos>",
        "<EOT>",
        "_<EOT>",
        "[EOT]",
        "[EOS]",
        ("<\xef\xbd\x9c"
         "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>"), /* bars and blanks of its own */
        /* of a file, in models that fill gaps in programs: what follows is another one */
        "<|fim_pad|>",
        "<|fim_repo|>",
        "<|repo_name|>",
        "<|file_sep|>",
    };

    return is_among(text, known, sizeof(known) / sizeof(known[0]));
}

bool mark_is_control(struct strview text, enum token_type type)
{
    static const char *const known[] = {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"};

    if (type != TOKEN_NORMAL && type != TOKEN_USER) {
        return false;
    }
    if (is_among(text, known, sizeof(known) / sizeof(known[0]))) {
        return true;
    }
    return mark_is_end(text) && (type == TOKEN_USER || strview_starts(text, "<|"));
}
