/* Command lines: one table of options, each with the verbs that know it. An option that a verb does
 * not know is refused, so that a misspelt or misplaced one never passes in silence. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/lab/board.h"
#include "engine/lab/lab.h"

enum option_kind {
    KIND_FLAG,
    KIND_TEXT,
    KIND_INT,
    KIND_REAL,
    KIND_KV,
    KIND_WEIGHTS,
    KIND_CPU,
    KIND_BOARD
};

struct option {
    const char *name; /* with its dashes */
    enum option_kind kind;
    size_t field; /* offset in struct lab_args */
    unsigned verbs;
    uint64_t lo, hi; /* KIND_INT */
    double flo, fhi; /* KIND_REAL */
};

#define FIELD(f) offsetof(struct lab_args, f)
#define FLAG(n, f, v)                                                                              \
    {                                                                                              \
        .name = (n), .kind = KIND_FLAG, .field = FIELD(f), .verbs = (v)                            \
    }
#define TEXT(n, f, v)                                                                              \
    {                                                                                              \
        .name = (n), .kind = KIND_TEXT, .field = FIELD(f), .verbs = (v)                            \
    }
#define INT(n, f, v, l, h)                                                                         \
    {                                                                                              \
        .name = (n), .kind = KIND_INT, .field = FIELD(f), .verbs = (v), .lo = (l), .hi = (h)       \
    }
#define REAL(n, f, v, l, h)                                                                        \
    {                                                                                              \
        .name = (n), .kind = KIND_REAL, .field = FIELD(f), .verbs = (v), .flo = (l), .fhi = (h)    \
    }

static const struct option options[] = {
    INT("--threads", threads, VERB_ALL, 1, 64),
    {.name = "--kv", .kind = KIND_KV, .field = FIELD(kv), .verbs = VERB_ALL},
    {.name = "--weights",
     .kind = KIND_WEIGHTS,
     .field = FIELD(weights),
     .verbs = VERB_LOGITS | VERB_GENERATE | VERB_PERPLEXITY | VERB_BENCH | VERB_TUNE},
    {.name = "--cpu", .kind = KIND_CPU, .field = FIELD(cpu), .verbs = VERB_ALL},
    FLAG("--json", json,
         VERB_INFO | VERB_LOGITS | VERB_GENERATE | VERB_PERPLEXITY | VERB_BENCH | VERB_QUANTIZE |
             VERB_SENSITIVITY | VERB_TUNE),
    FLAG("--jsonl", jsonl, VERB_TOKENIZE | VERB_DETOKENIZE),
    FLAG("--special", special, VERB_TOKENIZE | VERB_PERPLEXITY | VERB_SENSITIVITY | VERB_QUANTIZE),
    FLAG("--add-special", add_special, VERB_TOKENIZE),
    TEXT("--ids", ids, VERB_LOGITS | VERB_GENERATE),
    FLAG("--all", all, VERB_LOGITS),
    TEXT("--out", out, VERB_LOGITS | VERB_PACK | VERB_SENSITIVITY),
    INT("--chunk", chunk,
        VERB_LOGITS | VERB_GENERATE | VERB_PERPLEXITY | VERB_BENCH | VERB_INFO | VERB_SENSITIVITY,
        1, 4096),
    TEXT("--prompt", prompt, VERB_GENERATE),
    TEXT("--chat", chat, VERB_GENERATE),
    TEXT("--template", template, VERB_GENERATE | VERB_TEMPLATE),
    INT("-n", n, VERB_GENERATE | VERB_BENCH, 0, MODEL_CTX_MAX),
    REAL("--temperature", temperature, VERB_GENERATE, 0, 10),
    INT("--top-k", top_k, VERB_GENERATE, 0, MODEL_VOCAB_MAX),
    REAL("--top-p", top_p, VERB_GENERATE, 1e-6, 1),
    REAL("--min-p", min_p, VERB_GENERATE, 0, 0.999999),
    REAL("--repeat-penalty", repeat_penalty, VERB_GENERATE, 0.1, 10),
    INT("--draft", draft, VERB_GENERATE, 0, DRAFT_MAX),
    INT("--seed", seed, VERB_GENERATE | VERB_MAKE, 0, UINT64_MAX),
    FLAG("--ignore-eos", ignore_eos, VERB_GENERATE),
    FLAG("--no-thinking", no_thinking, VERB_GENERATE | VERB_TEMPLATE),
    FLAG("--no-generation-prompt", no_generation_prompt, VERB_TEMPLATE),
    TEXT("--text", text, VERB_PERPLEXITY | VERB_SENSITIVITY),
    INT("--ctx", ctx, VERB_PERPLEXITY | VERB_SENSITIVITY | VERB_QUANTIZE, 4, 65536),
    INT("--ctx", ctx, VERB_INFO, 1, MODEL_CTX_MAX),
    INT("--streams", b, VERB_INFO, 1, LAB_STREAMS_MAX),
    {.name = "--board", .kind = KIND_BOARD, .field = FIELD(board), .verbs = VERB_INFO},
    TEXT("--shape", shape, VERB_MAKE),
    TEXT("--format", format, VERB_MAKE | VERB_QUANTIZE),
    TEXT("--head", head, VERB_MAKE | VERB_QUANTIZE | VERB_GENERATE | VERB_BENCH),
    TEXT("--activations", activations, VERB_MAKE),
    TEXT("--plan", plan, VERB_QUANTIZE),
    TEXT("--method", method, VERB_QUANTIZE),
    TEXT("--calibrate", calibrate, VERB_QUANTIZE),
    TEXT("--formats", formats, VERB_SENSITIVITY),
    INT("--tokens", tokens, VERB_SENSITIVITY | VERB_QUANTIZE, 4, (uint64_t)1 << 30),
    INT("--bytes", bytes, VERB_SENSITIVITY, 1, UINT64_MAX),
    FLAG("--thirds", thirds, VERB_SENSITIVITY),
    INT("--ms", ms, VERB_TUNE, 1, 600000),
    INT("-p", p, VERB_BENCH, 0, MODEL_CTX_MAX / 2),
    INT("-b", b, VERB_BENCH, 1, LAB_STREAMS_MAX),
    INT("-d", d, VERB_BENCH, 0, MODEL_CTX_MAX / 2),
    FLAG("--profile", profile, VERB_BENCH),
    INT("-r", r, VERB_BENCH, 1, 1000),
};

static const struct option *find(const char *word, size_t n, unsigned verb)
{
    for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
        const struct option *o = &options[i];
        if ((o->verbs & verb) && strlen(o->name) == n && memcmp(o->name, word, n) == 0) {
            return o;
        }
    }
    return NULL;
}

static bool parse_int(const char *s, uint64_t lo, uint64_t hi, uint64_t *ret)
{
    char *end = NULL;

    if (*s < '0' || *s > '9') { /* strtoull takes signs and blanks */
        return false;
    }
    errno = 0;
    const unsigned long long v = strtoull(s, &end, 10);
    if (errno != 0 || *end != '\0' || v < lo || v > hi) {
        return false;
    }
    *ret = v;
    return true;
}

static bool parse_real(const char *s, double lo, double hi, double *ret)
{
    char *end = NULL;

    if (!((*s >= '0' && *s <= '9') || *s == '.')) {
        return false;
    }
    const double v = strtod(s, &end);
    if (end == s || *end != '\0' || !(v >= lo && v <= hi)) {
        return false;
    }
    *ret = v;
    return true;
}

static int set_cpu(const char *value, enum cpu_level *ret)
{
    if (!cpu_level_parse(value, ret)) {
        lab_error("--cpu: no level is called %s (scalar, avx2, avx512, neon, dotprod, i8mm)",
                  value);
        return LAB_USAGE;
    }
    if (!cpu_level_present(*ret)) {
        lab_error("--cpu: level %s is not present on this machine", value);
        return LAB_UNAVAILABLE;
    }
    return LAB_OK;
}

static int set_kv(const char *value, enum kv_type *ret)
{
    if (!kv_type_parse(strview_of(value), ret)) {
        lab_error("--kv: %s is none of f32, f16, int8", value);
        return LAB_USAGE;
    }
    return LAB_OK;
}

static int set_weights(const char *value, enum weights_backing *ret)
{
    if (!weights_backing_parse(strview_of(value), ret)) {
        lab_error("--weights: %s is none of shared, private", value);
        return LAB_USAGE;
    }
    return LAB_OK;
}

static int set_board(const char *value, const char **ret)
{
    struct board some[BOARDS_MAX];
    char name[BOARD_NAME_MAX + 1];
    size_t n;

    if (!boards_parse(value, some, &n, name)) {
        board_list(name);
        return LAB_USAGE;
    }
    *ret = value;
    return LAB_OK;
}

static int set(struct lab_args *a, const struct option *o, const char *value)
{
    void *field = (char *)a + o->field;

    switch (o->kind) {
    case KIND_FLAG:
        *(bool *)field = true;
        return LAB_OK;
    case KIND_TEXT:
        *(const char **)field = value;
        return LAB_OK;
    case KIND_INT:
        if (!parse_int(value, o->lo, o->hi, field)) {
            lab_error("%s: %s is no whole number from %llu to %llu", o->name, value,
                      (unsigned long long)o->lo, (unsigned long long)o->hi);
            return LAB_USAGE;
        }
        return LAB_OK;
    case KIND_REAL:
        if (!parse_real(value, o->flo, o->fhi, field)) {
            lab_error("%s: %s is no number from %g to %g", o->name, value, o->flo, o->fhi);
            return LAB_USAGE;
        }
        return LAB_OK;
    case KIND_KV:
        return set_kv(value, field);
    case KIND_WEIGHTS:
        return set_weights(value, field);
    case KIND_CPU:
        return set_cpu(value, field);
    case KIND_BOARD:
        return set_board(value, field);
    }
    return LAB_USAGE;
}

static int positional(struct lab_args *a, unsigned verb, const char *word)
{
    if (a->path && verb == VERB_QUANTIZE && !a->out) {
        a->out = word;
        return LAB_OK;
    }
    if (a->path && verb == VERB_INFO && a->n_also < ARRAY_SIZE(a->also)) {
        a->also[a->n_also++] = word;
        return LAB_OK;
    }
    if (a->path) {
        lab_error("%s: one file %s", word, verb == VERB_QUANTIZE ? "too many" : "is enough");
        return LAB_USAGE;
    }
    a->path = word;
    return LAB_OK;
}

/* One option at argv[*at], which moves past it and its value. */
static int option(struct lab_args *a, unsigned verb, int n, char **argv, int *at)
{
    const char *word = argv[(*at)++];
    const char *equals = strncmp(word, "--", 2) == 0 ? strchr(word, '=') : NULL;
    const struct option *o = find(word, equals ? (size_t)(equals - word) : strlen(word), verb);

    if (!o || (equals && o->kind == KIND_FLAG)) {
        lab_error("%s: unknown option", word);
        return LAB_USAGE;
    }
    const char *value = equals ? equals + 1 : NULL;
    if (!value && o->kind != KIND_FLAG) {
        if (*at >= n) {
            lab_error("%s: wants a value", word);
            return LAB_USAGE;
        }
        value = argv[(*at)++];
    }
    return set(a, o, value);
}

int args_parse(struct lab_args *ret, unsigned verb, int n, char **argv)
{
    const bool quantize = verb == VERB_QUANTIZE,
               info =
                   verb == VERB_INFO; /* what is not given there, the board or the file decides */
    struct lab_args a = {
        .cpu = cpu_level_best(),
        .kv = KV_F16,
        .threads = info ? 0 : engine_threads_default(),
        .n = verb == VERB_BENCH ? 64 : 256,
        .p = 128,
        .b = !info,
        .r = 3,
        .ctx = info                                   ? 0
               : quantize || verb == VERB_SENSITIVITY ? 256
                                                      : 512,
        .tokens = quantize ? 8192 : 2048,
        .ms = 2000,
        .chunk = info                 ? 0
                 : verb == VERB_BENCH ? LAB_CHUNK_BENCH
                                      : LAB_CHUNK,
        .seed = 1,
        .top_p = 1,
        .repeat_penalty = 1,
    };
    bool only_files = false;

    if (a.threads > 64) {
        a.threads = 64;
    }
    for (int at = 0; at < n;) {
        const char *word = argv[at];
        int r;
        if (!only_files && strcmp(word, "--") == 0) {
            only_files = true;
            at++;
            continue;
        }
        if (only_files || word[0] != '-' || word[1] == '\0') {
            r = positional(&a, verb, word);
            at++;
        } else {
            r = option(&a, verb, n, argv, &at);
        }
        if (r != LAB_OK) {
            return r;
        }
    }
    if (!a.path) {
        lab_error("a file is missing");
        return LAB_USAGE;
    }
    *ret = a;
    return LAB_OK;
}

int args_ids(const char *text, uint32_t n_vocab, int32_t **ret, size_t *ret_n)
{
    size_t n = 1, at = 0;

    for (const char *p = text; *p; p++) {
        n += *p == ',';
    }
    if (n > MODEL_CTX_MAX) {
        lab_error("--ids: %zu ids, at most %u", n, MODEL_CTX_MAX);
        return LAB_USAGE;
    }
    int32_t *ids = calloc(n, sizeof(*ids));
    if (!ids) {
        return lab_errno("--ids", -ENOMEM);
    }
    for (const char *p = text;; p++) {
        char *end = NULL;
        while (*p == ' ') {
            p++;
        }
        errno = 0;
        const unsigned long long v = *p >= '0' && *p <= '9' ? strtoull(p, &end, 10) : 0;
        if (!end || errno != 0 || (*end != ',' && *end != '\0')) {
            lab_error("--ids: wants numbers with commas between them");
            free(ids);
            return LAB_USAGE;
        }
        if (v >= n_vocab) {
            lab_error("--ids: %llu is no token, the vocabulary has %u", v, n_vocab);
            free(ids);
            return LAB_DATA;
        }
        ids[at++] = (int32_t)v;
        p = end;
        if (*p == '\0') {
            break;
        }
    }
    *ret = ids;
    *ret_n = at;
    return LAB_OK;
}
