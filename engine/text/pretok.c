/* pretok: the patterns are the models' own, matched by PCRE2's interpreter.
 *
 * A pre-tokenizer is a list of patterns that cut one after the other: what the first one matches is
 * a piece, and so is what lies between two matches; the second cuts each of these pieces as if it
 * were a text of its own, and so on. The pieces of the last pattern are the words. They are made
 * one at a time: every stage knows where its present piece ends and the next match in what it was
 * given, so no list of pieces is ever kept.
 *
 * White space is spelled out, because PCRE2's \s also takes U+180E, which is none since Unicode
 * 6.3. So are the two cases of the contractions: full case folding would also take U+017F for an s.
 * The matcher never compiles to machine code, and its limits turn a text made to be slow into an
 * error. */
#include "engine/text/pretok.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <assert.h>
#include <errno.h>
#include <pcre2.h>
#include <stdbool.h>
#include <stdlib.h>

#define MATCH_LIMIT 20000000u /* backtracks in one word: a run of some 10 MB of spaces */
#define DEPTH_LIMIT 10000u
#define HEAP_LIMIT_KIB 4096u
#define STAGES_MAX 6u /* deepseek-llm has the most */

#define W                                                                                          \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}"    \
    "\\x{205f}\\x{3000}"
#define SPACES_TO_THE_NEXT_WORD "[" W "]+(?![^" W "])|[" W "]+"
#define CONTRACTIONS "'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])"
#define LINES "[" W "]*[\\r\\n]+"
#define GPT2_WORDS                                                                                 \
    "'(?:[stmd]|re|ve|ll)| ?\\p{L}+| ?\\p{N}+| ?[^" W "\\p{L}\\p{N}]+|" SPACES_TO_THE_NEXT_WORD

/* Letters that have a case, as far as deepseek-llm's tokenizer lists them. */
#define CASED                                                                                      \
    "A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}\\x{1bc}-\\x{1bf}\\x{1c4}-\\x{"    \
    "293}"                                                                                         \
    "\\x{295}-\\x{2af}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37b}-\\x{37d}\\x{37f}\\x{386}"          \
    "\\x{388}-\\x{38a}\\x{38c}\\x{38e}-\\x{3a1}\\x{3a3}-\\x{3f5}\\x{3f7}-\\x{481}\\x{48a}-\\x{"    \
    "52f}"                                                                                         \
    "\\x{531}-\\x{556}\\x{10a0}-\\x{10c5}\\x{13a0}-\\x{13f5}\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{"     \
    "1cba}"                                                                                        \
    "\\x{1cbd}-\\x{1cbf}\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}\\x{1d79}-\\x{1d9a}"                 \
    "\\x{1e00}-\\x{1f15}\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}"                 \
    "\\x{1f50}-\\x{1f57}\\x{1f59}\\x{1f5b}\\x{1f5d}\\x{1f5f}-\\x{1f7d}\\x{1f80}-\\x{1fb4}"         \
    "\\x{1fb6}-\\x{1fbc}\\x{1fbe}\\x{1fc2}-\\x{1fc4}\\x{1fc6}-\\x{1fcc}\\x{1fd0}-\\x{1fd3}"        \
    "\\x{1fd6}-\\x{1fdb}\\x{1fe0}-\\x{1fec}\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}\\x{2102}"        \
    "\\x{2107}\\x{210a}-\\x{2113}\\x{2115}\\x{2119}-\\x{211d}\\x{2124}\\x{2126}\\x{2128}"          \
    "\\x{212a}-\\x{212d}\\x{212f}-\\x{2134}\\x{2139}\\x{213c}-\\x{213f}\\x{2145}-\\x{2149}"        \
    "\\x{214e}\\x{2183}\\x{2184}\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}\\x{2ceb}-\\x{2cee}"         \
    "\\x{2cf2}\\x{2cf3}\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}"                  \
    "\\x{a771}-\\x{a787}\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}\\x{fb00}-\\x{fb06}"                 \
    "\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{ff5a}\\x{10400}-\\x{1044f}"               \
    "\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}"         \
    "\\x{118a0}-\\x{118df}\\x{1e900}-\\x{1e943}"

/* A pattern that matches at every place, whatever comes, is tried there only. */
struct pattern {
    const char *text;
    bool everywhere;
};

static const struct pattern patterns[PRE_COUNT][STAGES_MAX + 1] = {
    [PRE_GPT2] = {{GPT2_WORDS, true}},
    [PRE_LLAMA3] = {{CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^" W
                                  "\\p{L}\\p{N}]+[\\r\\n]*|" LINES "|" SPACES_TO_THE_NEXT_WORD,
                     true}},
    [PRE_QWEN2] = {{CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^" W
                                 "\\p{L}\\p{N}]+[\\r\\n]*|" LINES "|" SPACES_TO_THE_NEXT_WORD,
                    true}},
    /* Digits in threes are cut off after the words: a space stays with what is left of a number. */
    [PRE_FALCON] = {{"[\\p{P}$+<=>^~|`]+", false}, {GPT2_WORDS, true}, {"[0-9][0-9][0-9]", false}},
    /* The spaces at the end of a piece are those that no space comes before: so no run of spaces is
     * measured from each of its places. The third class has the letters A to Z in it; so they part
     * from other letters of their word. */
    [PRE_DEEPSEEK_LLM] = {{"[\\r\\n]", false},
                          {"[" W "]?[" CASED "]+", false},
                          {"[" W "]?[!-\\/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}"
                           "\\x{2018}-\\x{201f}\\x{3000}-\\x{3002}]+",
                           false},
                          {"(?<![" W "])[" W "]++\\z", false},
                          {"[\\x{800}-\\x{9fa5}\\x{ac00}-\\x{d7ff}]+", false},
                          {"\\p{N}", false}},
};

struct pretok_code {
    size_t n;
    pcre2_code *stages[STAGES_MAX]; /* owned */
    bool everywhere[STAGES_MAX];
};

/* What one pattern has made of the piece that the one before it (or the caller) gave it. */
struct stage {
    size_t begin;            /* of what it was given */
    size_t end;              /* of its present piece */
    size_t match, match_end; /* the next match; without one both are the end of what it was given */
};

struct pretok {
    const struct pretok_code *code; /* borrowed */
    pcre2_match_data *data;         /* owned */
    pcre2_match_context *context;   /* owned */
    const char *text;               /* (n) borrowed */
    size_t n, at;                   /* the next word begins at `at` */
    struct stage stages[STAGES_MAX];
};

int pretok_compile(enum vocab_pre pre, struct pretok_code **ret)
{
    struct pretok_code *code = calloc(1, sizeof(*code));

    if (!code) {
        return -ENOMEM;
    }
    for (const struct pattern *p = patterns[pre]; p->text; p++) {
        int error;
        PCRE2_SIZE at;
        pcre2_code *stage = pcre2_compile((PCRE2_SPTR)p->text, PCRE2_ZERO_TERMINATED,
                                          PCRE2_UTF | PCRE2_UCP, &error, &at, NULL);
        if (!stage) {
            pretok_free(code); /* the patterns are constants that compile: nothing else can fail */
            return -ENOMEM;
        }
        code->everywhere[code->n] = p->everywhere;
        code->stages[code->n++] = stage;
    }
    *ret = code;
    return 0;
}

void pretok_free(struct pretok_code *code)
{
    if (!code) {
        return;
    }
    for (size_t i = 0; i < code->n; i++) {
        pcre2_code_free(code->stages[i]);
    }
    free(code);
}

int pretok_new(struct pretok **ret, const struct pretok_code *code)
{
    struct pretok *p = calloc(1, sizeof(*p));

    if (!p) {
        return -ENOMEM;
    }
    p->code = code;
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

void pretok_begin(struct pretok *p, const char *text, size_t n)
{
    p->text = text;
    p->n = n;
    p->at = 0;
    for (size_t i = 0; i < p->code->n; i++) {
        p->stages[i] = (struct stage){0};
    }
}

/* The first match of stage i at or after its present piece's end. What comes before the stage's own
 * piece is not there for the pattern, nor what comes after it. */
static int find_match(struct pretok *p, size_t i, size_t limit)
{
    struct stage *s = &p->stages[i];
    const uint32_t options =
        PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY | (p->code->everywhere[i] ? PCRE2_ANCHORED : 0);
    const int r = pcre2_match(p->code->stages[i], (PCRE2_SPTR)p->text + s->begin, limit - s->begin,
                              s->end - s->begin, options, p->data, p->context);

    if (r == PCRE2_ERROR_NOMEMORY) {
        return -ENOMEM;
    }
    if (r < 0 && r != PCRE2_ERROR_NOMATCH) {
        return PRETOK_HARD;
    }
    s->match = limit;
    s->match_end = limit;
    if (r >= 0) {
        const PCRE2_SIZE *found = pcre2_get_ovector_pointer(p->data);
        s->match = s->begin + found[0];
        s->match_end = s->begin + found[1];
    }
    return PRETOK_OK;
}

int pretok_next(struct pretok *p, size_t *ret_end)
{
    const size_t at = p->at;
    size_t limit = p->n;
    bool fresh = at == 0; /* what the stage is given begins here */

    assert(at < p->n);
    for (size_t i = 0; i < p->code->n; i++) {
        struct stage *s = &p->stages[i];
        if (s->end != at) { /* its piece goes on, and so does that of every stage before it */
            limit = s->end;
            continue;
        }
        if (fresh) {
            s->begin = at;
        }
        if (s->match_end <= at) {
            const int r = find_match(p, i, limit);
            if (r != PRETOK_OK) {
                return r;
            }
        }
        s->end = s->match > at ? s->match : s->match_end;
        limit = s->end;
        fresh = true;
    }
    p->at = limit;
    *ret_end = limit;
    return PRETOK_OK;
}
