/* options: one table of every option, from which parsing and help are both made, so that they
 * cannot differ. A verb takes groups of it. */
#include "client/cli/cli.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kind { FLAG, TEXT, U32, U64, I32, F32, STOP, CLASS };

struct opt {
    const char *name;
    char letter; /* 0: none */
    unsigned groups;
    enum kind kind;
    size_t at;          /* offset in struct args */
    uint32_t has;       /* the bit in request.has, or 0 */
    double least, most; /* of numbers; the daemon has the same bounds */
    const char *word;   /* how help calls the argument */
    const char *about;
    enum { CLOSED, LEAST_IS_OUT, MOST_IS_OUT } ends;
};

#define AT(field) offsetof(struct args, field)

static const struct opt opts[] = {
    {"model", 'm', OPTS_GENERATE | OPTS_BENCH, TEXT, AT(request.model), 0, 0, 0, "MODEL",
     "ask this model instead of the daemon's default"},
    {"system", 0, OPTS_GENERATE, TEXT, AT(system), 0, 0, 0, "TEXT", "put a system message first"},
    {"raw", 0, OPTS_RUN | OPTS_BATCH, FLAG, AT(raw), 0, 0, 0, NULL,
     "continue the prompt as it is, without the model's chat template"},
    {"max-tokens", 'n', OPTS_GENERATE, U32, AT(request.max_tokens), 0, 1, 1048576, "N",
     "at most N tokens"},
    {"prompt", 'p', OPTS_BENCH, TEXT, AT(bench.prompts), 0, 0, 0, "N,...",
     "prompts of N tokens, one row for each (32,128,512); load: the long prompts (2000)"},
    {"answer", 'n', OPTS_BENCH, U32, AT(request.max_tokens), 0, 1, 1048576, "N",
     "answers of N tokens (64)"},
    {"rounds", 'r', OPTS_BENCH, U32, AT(bench.rounds), 0, 1, 10000, "N", "N rounds (5)"},
    {"streams", 0, OPTS_BENCH, U32, AT(bench.streams), 0, 1, 1024, "N",
     "N requests at once (1); load: clients that answer together (8)"},
    {"reuse", 0, OPTS_BENCH, FLAG, AT(bench.reuse), 0, 0, 0, NULL,
     "ask the same prompts again, and let the daemon reuse what it has computed"},
    {"seconds", 0, OPTS_BENCH, U32, AT(bench.seconds), 0, 1, 86400, "N",
     "load: how long the mix goes on in each round (20)"},
    {"rate", 0, OPTS_BENCH, F32, AT(bench.rate), 0, 0, 1000, "N",
     "load: N short requests of class high per second in the mix, a fifth as many chats (0.5)"},
    {"against", 0, OPTS_BENCH, TEXT, AT(bench.against), 0, 0, 0, "PATH",
     "load: compare total tokens/s with the daemon at this socket"},
    {"slack", 0, OPTS_BENCH, F32, AT(bench.slack_ms), 0, 0, 60000, "MS",
     "load: a stream may be MS slower between tokens beside others, instead of twice as slow"},
    {"once", 0, OPTS_TOP, FLAG, AT(once), 0, 0, 0, NULL, "print one view as text and end"},
    {"delay", 'd', OPTS_TOP, F32, AT(delay_s), 0, 0.1, 3600, "S", "S seconds between views (1)"},
    {"temperature", 0, OPTS_GENERATE, F32, AT(request.temperature), ONEBIT_HAS_TEMPERATURE, 0, 10,
     "T", "0: always the likeliest token; higher: more variety"},
    {"top-k", 0, OPTS_GENERATE, I32, AT(request.top_k), ONEBIT_HAS_TOP_K, 0, 2147483647, "K",
     "sample from the K likeliest tokens; 0: from all"},
    {"top-p", 0, OPTS_GENERATE, F32, AT(request.top_p), ONEBIT_HAS_TOP_P, 0, 1, "P",
     "sample from the likeliest tokens that make up P", LEAST_IS_OUT},
    {"min-p", 0, OPTS_GENERATE, F32, AT(request.min_p), ONEBIT_HAS_MIN_P, 0, 1, "P",
     "leave out tokens less likely than P times the likeliest", MOST_IS_OUT},
    {"repeat-penalty", 0, OPTS_GENERATE, F32, AT(request.repeat_penalty), ONEBIT_HAS_REPEAT_PENALTY,
     0.1, 10, "R", "above 1: say the same less often"},
    {"seed", 0, OPTS_GENERATE | OPTS_BENCH, U64, AT(request.seed), ONEBIT_HAS_SEED, 0, 0, "S",
     "the same seed and request give the same answer"},
    {"stop", 0, OPTS_GENERATE, STOP, 0, 0, 0, 0, "TEXT",
     "end before this text; may be given up to 16 times"},
    {"ignore-eos", 0, OPTS_GENERATE, FLAG, AT(request.ignore_eos), 0, 0, 0, NULL,
     "go on after the model's end, up to the limit of tokens"},
    {"no-thinking", 0, OPTS_GENERATE, FLAG, AT(request.no_thinking), 0, 0, 0, NULL,
     "templates that can: answer without thinking first"},
    {"template", 0, OPTS_GENERATE, TEXT, AT(request.chat_template), 0, 0, 0, "NAME",
     "this chat template instead of the model's own: bitnet, chatml, falcon3, llama3, minicpm, "
     "qwen3"},
    {"quantization", 0, OPTS_GENERATE, TEXT, AT(request.quantization), 0, 0, 0, "NAME",
     "refuse unless the model's file has it (binary, ternary, ...)"},
    {"session", 0, OPTS_SESSION, TEXT, AT(request.session), 0, 0, 0, "NAME",
     "go on in the conversation of this name, which the daemon keeps; \"\": begin one"},
    {"trim", 0, OPTS_SESSION, FLAG, AT(request.trim), 0, 0, 0, NULL,
     "a session that has become too long: leave out its oldest turns"},
    {"no-cache", 0, OPTS_GENERATE, FLAG, AT(request.no_cache), 0, 0, 0, NULL,
     "compute everything anew, and keep nothing for later requests"},
    {"class", 0, OPTS_GENERATE | OPTS_BENCH, CLASS, AT(request.request_class), 0, 0, 0, "CLASS",
     "low, normal or high"},
    {"deadline", 0, OPTS_GENERATE, U32, AT(request.deadline_ms), ONEBIT_HAS_DEADLINE, 0,
     4294967295.0, "MS", "milliseconds until the first token; 0: only if it starts at once"},
    {"logprobs", 0, OPTS_RUN, U32, AT(request.n_logprobs), 0, 1, 20, "N",
     "with --json: the N likeliest tokens at each place"},
    {"jobs", 'j', OPTS_BATCH, U32, AT(jobs), 0, 1, 128, "N", "N requests at once at most; else 16"},
    {"names", 0, OPTS_NAMES, FLAG, AT(names), 0, 0, 0, NULL,
     "print names (of requests: numbers) alone, a line each, and nothing when no daemon answers"},
    {"memory", 0, OPTS_MEMORY, FLAG, AT(memory), 0, 0, 0, NULL,
     "print what is in memory instead: of each model, of each user, and of the budget"},
    {"json", 0, OPTS_JSON, FLAG, AT(json), 0, 0, 0, NULL, "print JSON"},
    {"verbose", 'v', OPTS_VERBOSE, FLAG, AT(verbose), 0, 0, 0, NULL,
     "say on standard error what happens, and the speed in the end"},
    {"socket", 's', OPTS_CONNECT, TEXT, AT(socket), 0, 0, 0, "PATH",
     "the daemon's socket; else $ONEBIT_SOCKET, $XDG_RUNTIME_DIR/onebit.sock, /run/onebit.sock"},
    {"help", 'h', OPTS_ALWAYS, FLAG, AT(help), 0, 0, 0, NULL, "print this and end"},
};

/* What an option takes, for whoever gave it something else. */
static void complain_value(const struct opt *o, const char *typed, const char *value)
{
    switch (o->kind) {
    case U64:
        complain("%s: \"%s\" is no whole number from 0 to %" PRIu64, typed, value, UINT64_MAX);
        break;
    case U32:
    case I32:
        complain("%s: \"%s\" is no whole number from %.0f to %.0f", typed, value, o->least,
                 o->most);
        break;
    case F32:
        complain("%s: \"%s\" is no number %s %g %s %g", typed, value,
                 o->ends == LEAST_IS_OUT ? "above" : "from", o->least,
                 o->ends == LEAST_IS_OUT  ? "and at most"
                 : o->ends == MOST_IS_OUT ? "to below"
                                          : "to",
                 o->most);
        break;
    case STOP:
        complain("%s: takes a text of 1 to %d bytes, and may be given %d times", typed,
                 STOP_BYTES_MAX, STOPS_MAX);
        break;
    default:
        complain("%s: \"%s\" is none of low, normal and high", typed, value);
        break;
    }
}

static bool set_integer(const struct opt *o, void *field, const char *value)
{
    char *end;

    errno = 0;
    const unsigned long long v = strtoull(value, &end, 10);
    if (errno || end == value || *end || strchr(value, '-')) {
        return false;
    }
    if (o->kind != U64 && ((double)v < o->least || (double)v > o->most)) {
        return false;
    }
    if (o->kind == U64) {
        *(uint64_t *)field = v;
    } else if (o->kind == U32) {
        *(uint32_t *)field = (uint32_t)v;
    } else {
        *(int32_t *)field = (int32_t)v;
    }
    return true;
}

static bool set_float(const struct opt *o, void *field, const char *value)
{
    char *end;
    const float v = strtof(value, &end);

    if (end == value || *end || !isfinite(v) || (double)v < o->least || (double)v > o->most ||
        (o->ends == LEAST_IS_OUT && (double)v <= o->least) ||
        (o->ends == MOST_IS_OUT && (double)v >= o->most)) {
        return false;
    }
    *(float *)field = v;
    return true;
}

static bool set_class(void *field, const char *value)
{
    static const char *const names[] = {
        [ONEBIT_CLASS_NORMAL] = "normal",
        [ONEBIT_CLASS_LOW] = "low",
        [ONEBIT_CLASS_HIGH] = "high",
    };

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (strcmp(value, names[i]) == 0) {
            *(enum onebit_class *)field = (enum onebit_class)i;
            return true;
        }
    }
    return false;
}

static bool add_stop(struct args *a, const char *value)
{
    if (a->request.n_stops == STOPS_MAX || !*value || strlen(value) > STOP_BYTES_MAX) {
        return false;
    }
    a->stops[a->request.n_stops++] = value;
    return true;
}

static bool set(struct args *a, const struct opt *o, const char *value)
{
    void *field = (char *)a + o->at;

    a->request.has |= o->has;
    switch (o->kind) {
    case FLAG:
        *(bool *)field = true;
        return true;
    case TEXT:
        *(const char **)field = value;
        return true;
    case F32:
        return set_float(o, field, value);
    case STOP:
        return add_stop(a, value);
    case CLASS:
        a->has_class = true;
        return set_class(field, value);
    default:
        return set_integer(o, field, value);
    }
}

/* The verb's options as getopt_long() wants them; val is the index in opts plus 256. */
static void getopt_tables(const struct verb *verb, struct option *ret_longs, char *ret_shorts)
{
    *ret_shorts++ = ':'; /* tell a missing value from an unknown option */
    for (size_t i = 0; i < ARRAY_SIZE(opts); i++) {
        if (!(opts[i].groups & (verb->groups | OPTS_ALWAYS))) {
            continue;
        }
        const bool takes = opts[i].kind != FLAG;
        *ret_longs++ = (struct option){.name = opts[i].name,
                                       .has_arg = takes ? required_argument : no_argument,
                                       .val = 256 + (int)i};
        if (opts[i].letter) {
            *ret_shorts++ = opts[i].letter;
            if (takes) {
                *ret_shorts++ = ':';
            }
        }
    }
    *ret_longs = (struct option){0};
    *ret_shorts = '\0';
}

/* The verb's option behind what getopt_long() returned; verbs may share a letter. */
static const struct opt *opt_of(const struct verb *verb, int val)
{
    for (size_t i = 0; i < ARRAY_SIZE(opts); i++) {
        const bool taken = opts[i].groups & (verb->groups | OPTS_ALWAYS);
        if (val == 256 + (int)i || (taken && opts[i].letter && val == opts[i].letter)) {
            return &opts[i];
        }
    }
    return NULL;
}

/* What getopt_long() makes of an option that is none of the verb's, or is wrongly given. */
static void complain_option(const struct verb *verb, int val, const char *word)
{
    const struct opt *o = opt_of(verb, optopt);
    char letter[] = {'-', (char)optopt, '\0'};

    if (val == ':') {
        complain("%s: %s%s wants a value", verb->name, optopt < 256 ? "" : "--",
                 optopt < 256 || !o ? letter : o->name);
    } else if (optopt >= 256 && o) {
        complain("%s: --%s takes no value", verb->name, o->name);
    } else {
        complain("%s: unknown option %s", verb->name, optopt > 0 ? letter : word);
    }
}

/* The words that are no options: as many as the verb takes? */
static int check_words(const struct args *a, const struct verb *verb)
{
    if (verb->needs && a->n_words == 0) {
        complain("%s needs %s", verb->name, verb->needs);
        return EXIT_USAGE;
    }
    if (a->n_words > verb->words_max) {
        complain("%s: \"%s\" is one argument too many", verb->name, a->words[verb->words_max]);
        return EXIT_USAGE;
    }
    return 0;
}

int args_parse(struct args *ret, const struct verb *verb, int argc, char **argv)
{
    struct option longs[ARRAY_SIZE(opts) + 1];
    char shorts[2 * ARRAY_SIZE(opts) + 2];
    char name[32];
    int r = 0, val;

    memset(ret, 0, sizeof(*ret));
    onebit_request_init(&ret->request);
    getopt_tables(verb, longs, shorts);
    optind = 1;
    opterr = 0;
    while (r == 0 && (val = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
        const struct opt *o = opt_of(verb, val);
        if (!o) {
            complain_option(verb, val, argv[optind - 1]);
            r = EXIT_USAGE;
        } else if (!set(ret, o, optarg)) {
            const char letter[] = {'-', (char)val, '\0'};
            (void)snprintf(name, sizeof(name), "--%s", o->name);
            complain_value(o, val < 256 ? letter : name, optarg);
            r = EXIT_USAGE;
        }
    }
    ret->request.stops = ret->request.n_stops ? ret->stops : NULL;
    ret->words = argv + optind;
    ret->n_words = (size_t)(argc - optind);
    if (r == 0 && !ret->help && ret->request.trim && !ret->request.session) {
        complain("%s: --trim needs --session", verb->name);
        r = EXIT_USAGE;
    }
    if (r == 0 && !ret->help) {
        r = check_words(ret, verb);
    }
    if (r != 0) {
        (void)fprintf(stderr, "usage: onebit %s\n       onebit %s --help says more\n",
                      verb->synopsis, verb->name);
    }
    return r;
}

void verb_help(const struct verb *verb)
{
    (void)printf("usage: onebit %s\n\n%s.\n", verb->synopsis, verb->about);
    if (verb->more) {
        (void)printf("\n%s\n", verb->more);
    }
    (void)printf("\noptions:\n");
    for (size_t i = 0; i < ARRAY_SIZE(opts); i++) {
        const struct opt *o = &opts[i];
        char left[64];
        if (!(o->groups & (verb->groups | OPTS_ALWAYS))) {
            continue;
        }
        (void)snprintf(left, sizeof(left), "%s%c%s --%s%s%s", o->letter ? "-" : " ",
                       o->letter ? o->letter : ' ', o->letter ? "," : " ", o->name,
                       o->word ? " " : "", o->word ? o->word : "");
        (void)printf("  %-24s %s\n", left, o->about);
    }
}
