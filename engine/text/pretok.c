/* pretok: the patterns are the models' own, matched by PCRE2's interpreter.
 *
 * White space is spelled out, because PCRE2's \s also takes U+180E, which is none since Unicode 6.3.
 * So are the two cases of the contractions: full case folding would also take U+017F for an s. The
 * matcher never compiles to machine code, and its limits turn a text made to be slow into an error. */
#include "engine/text/pretok.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <errno.h>
#include <pcre2.h>
#include <stdlib.h>

#include "engine/text/utf8.h"

#define MATCH_LIMIT 20000000u /* backtracks in one word: a run of some 10 MB of spaces */
#define DEPTH_LIMIT 10000u
#define HEAP_LIMIT_KIB 4096u

#define W                                                                                          \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}"    \
    "\\x{205f}\\x{3000}"
#define SPACES_TO_THE_NEXT_WORD "[" W "]+(?![^" W "])|[" W "]+"
#define CONTRACTIONS "'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])"
#define LINES "[" W "]*[\\r\\n]+"

static const char *const patterns[PRE_COUNT] = {
    [PRE_GPT2] =
        "'(?:[stmd]|re|ve|ll)| ?\\p{L}+| ?\\p{N}+| ?[^" W "\\p{L}\\p{N}]+|" SPACES_TO_THE_NEXT_WORD,
    [PRE_LLAMA3] = CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^" W
                                "\\p{L}\\p{N}]+[\\r\\n]*|" LINES "|" SPACES_TO_THE_NEXT_WORD,
    [PRE_QWEN2] = CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^" W
                               "\\p{L}\\p{N}]+[\\r\\n]*|" LINES "|" SPACES_TO_THE_NEXT_WORD,
};

struct pretok {
    const pcre2_code *code;       /* borrowed */
    pcre2_match_data *data;       /* owned */
    pcre2_match_context *context; /* owned */
};

int pretok_compile(enum vocab_pre pre, void **ret)
{
    int error;
    PCRE2_SIZE at;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)patterns[pre], PCRE2_ZERO_TERMINATED,
                                     PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &error, &at, NULL);

    if (!code) {
        return -ENOMEM; /* the patterns are constants that compile: nothing else can fail */
    }
    *ret = code;
    return 0;
}

void pretok_free(void *pattern)
{
    pcre2_code_free(pattern);
}

int pretok_new(struct pretok **ret, const void *pattern)
{
    struct pretok *p = calloc(1, sizeof(*p));

    if (!p) {
        return -ENOMEM;
    }
    p->code = pattern;
    p->data = pcre2_match_data_create(1, NULL);
    p->context = pcre2_match_context_create(NULL);
    if (!p->data || !p->context) {
        pretok_delete(p);
        return -ENOMEM;
    }
    (void)pcre2_set_match_limit(p->context, MATCH_LIMIT);
    (void)pcre2_set_depth_limit(p->context, DEPTH_LIMIT);
    (void)pcre2_set_heap_limit(p->context, HEAP_LIMIT_KIB);
    *ret = p;
    return 0;
}

void pretok_delete(struct pretok *p)
{
    if (!p) {
        return;
    }
    pcre2_match_data_free(p->data);
    pcre2_match_context_free(p->context);
    free(p);
}

int pretok_next(struct pretok *p, const char *text, size_t n, size_t at, size_t *ret_end)
{
    const int r =
        pcre2_match(p->code, (PCRE2_SPTR)text, n, at, PCRE2_NO_UTF_CHECK, p->data, p->context);
    unsigned len;

    if (r == PCRE2_ERROR_NOMEMORY) {
        return -ENOMEM;
    }
    if (r < 0 && r != PCRE2_ERROR_NOMATCH) {
        return PRETOK_HARD;
    }
    if (r >= 0) {
        *ret_end = pcre2_get_ovector_pointer(p->data)[1];
        if (*ret_end > at) {
            return PRETOK_OK;
        }
    }
    (void)utf8_decode((const uint8_t *)text + at, &len); /* between words: a word of its own */
    *ret_end = at + len;
    return PRETOK_OK;
}
