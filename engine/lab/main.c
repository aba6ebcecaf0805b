/* onebit-lab: the workbench over the engine alone. One verb a call, one file a verb.
 *
 * Results go to standard output, everything else to standard error, and the exit code says which
 * kind of trouble it was (lab.h). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/stdfds.h"
#include "engine/lab/lab.h"

#ifndef ONEBIT_VERSION
#define ONEBIT_VERSION "unknown"
#endif

struct verb {
    const char *name;
    unsigned bit;
    int (*run)(const struct lab_args *a);
    const char *usage, *what;
};

static const struct verb verbs[] = {
    {"info", VERB_INFO, verb_info,
     "MODEL... [--board NAME|BYTES[,...] [--ctx N] [--streams N] [--chunk N]] [--json]",
     "say what a model file holds; or what running it takes on a board, and how fast that can be\n"
     "      (--board list names the boards); or what several take on several, as a table"},
    {"verify", VERB_VERIFY, verb_verify, "MODEL",
     "check a whole file: exit 0 sound, 65 broken, 69 sound but not supported"},
    {"tokenize", VERB_TOKENIZE, verb_tokenize, "MODEL [--special] [--add-special] [--jsonl] < TEXT",
     "text to token ids"},
    {"detokenize", VERB_DETOKENIZE, verb_detokenize, "MODEL [--jsonl] < IDS", "token ids to text"},
    {"logits", VERB_LOGITS, verb_logits,
     "MODEL --ids 1,2,3 [--all] [--chunk N] [--weights HOW] [--out FILE] [--json]",
     "run tokens, write the last row of logits (or all) as little-endian float32"},
    {"generate", VERB_GENERATE, verb_generate,
     "MODEL (--ids 1,2,3 | --prompt TEXT | --chat FILE.json) [-n N] [--temperature T] [--top-k K]\n"
     "      [--top-p P] [--min-p P] [--repeat-penalty R] [--seed S] [--ignore-eos] "
     "[--no-thinking]\n"
     "      [--template NAME] [--chunk N] [--draft N] [--weights HOW] "
     "[--head auto|full] [--json]",
     "continue a prompt; greedy unless a temperature is given"},
    {"perplexity", VERB_PERPLEXITY, verb_perplexity,
     "MODEL --text FILE [--special] [--ctx N] [--chunk N] [--weights HOW] [--json]",
     "how well a model predicts a text"},
    {"template", VERB_TEMPLATE, verb_template,
     "MODEL [--no-thinking] [--no-generation-prompt] [--template NAME] < messages.json",
     "render chat messages to the prompt"},
    {"make", VERB_MAKE, verb_make,
     "--shape NAME --format FMT [--head FMT] [--activations binary|int8] [--seed S] OUT.gguf",
     "write a model of random weights in the shape of a real one"},
    {"bench", VERB_BENCH, verb_bench,
     "MODEL [-p N] [-n N] [-b STREAMS] [-d DEPTH] [-r REPEATS] [--chunk N] [--weights HOW]\n"
     "      [--head auto|full] [--profile] [--json]",
     "measure speed and memory, with weights shared|private (default shared); --head full: all\n"
     "      logits, not the largest alone; --profile: where each microsecond goes"},
    {"tune", VERB_TUNE, verb_tune, "MODEL [--ms N] [--weights HOW] [--json]",
     "measure how many threads do best for prompts and for generation, and how many streams are\n"
     "      worth computing at once; kept beside a packed file, for the daemon"},
    {"pack", VERB_PACK, verb_pack, "MODEL --out FILE",
     "write a model's packed form, which every verb takes in place of the GGUF"},
    {"quantize", VERB_QUANTIZE, verb_quantize,
     "IN.gguf OUT.gguf [--format FMT] [--head FMT] [--plan FILE]\n"
     "      [--method rounding|refine|propagate|gptq|awq] [--calibrate TEXT [--special] [--tokens "
     "N] "
     "[--ctx N]]\n"
     "      [--json]",
     "write a model of float weights in smaller formats; a plan has lines `PATTERN FORMAT`; "
     "methods\n"
     "      beyond rounding fit codes and scales, to what a text makes of the layers' inputs"},
    {"sensitivity", VERB_SENSITIVITY, verb_sensitivity,
     "MODEL.gguf --text FILE [--special] [--formats A,B] [--thirds] [--tokens N] [--ctx N] "
     "[--chunk N]\n"
     "      [--bytes N [--out PLAN]] [--json]",
     "measure what each part of a model loses in each format, and plan for a number of bytes"},
};

static void print_usage(FILE *f)
{
    (void)fputs("usage: onebit-lab VERB ...\n\n", f);
    for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
        (void)fprintf(f, "  %s %s\n      %s\n", verbs[i].name, verbs[i].usage, verbs[i].what);
    }
    (void)fputs(
        "\nEvery verb also takes --threads N (1 to 64; default: the cores this process "
        "may use),\n--kv f32|f16|int8 (default f16) and --cpu scalar|avx2|avx512|neon|dotprod|i8mm "
        "(default: the best present).\nonebit-lab help, --help and --version say what they "
        "say.\n",
        f);
}

static void print_verb_usage(FILE *f, const struct verb *v)
{
    (void)fprintf(f, "usage: onebit-lab %s %s\n", v->name, v->usage);
}

static const struct verb *verb_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
        if (strcmp(verbs[i].name, name) == 0) {
            return &verbs[i];
        }
    }
    return NULL;
}

static bool asks_for_help(int n, char **argv)
{
    for (int i = 0; i < n && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            return true;
        }
    }
    return false;
}

int main(int argc, char **argv)
{
    struct lab_args args;
    const int reserved = stdfds_reserve();

    if (reserved < 0) {
        return lab_errno("standard descriptors", reserved);
    }
    if (argc < 2) {
        print_usage(stderr);
        return LAB_USAGE;
    }
    if (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0) {
        print_usage(stdout);
        return out_done();
    }
    if (strcmp(argv[1], "--version") == 0) {
        (void)printf("onebit-lab %s\n", ONEBIT_VERSION);
        return out_done();
    }
    const struct verb *v = verb_find(argv[1]);
    if (!v) {
        lab_error("%s: no such verb", argv[1]);
        print_usage(stderr);
        return LAB_USAGE;
    }
    if (asks_for_help(argc - 2, argv + 2)) {
        print_verb_usage(stdout, v);
        (void)printf("%s\n", v->what);
        return out_done();
    }
    int r = args_parse(&args, v->bit, argc - 2, argv + 2);
    if (r == LAB_OK && v->bit != VERB_MAKE && !args.out && !stdfds_out_writable()) {
        lab_error("standard output: %s", strerror(EBADF)); /* now, not when the work is done */
        r = LAB_IO;
    }
    if (r == LAB_OK) {
        r = v->run(&args);
        if (r == LAB_OK) {
            r = out_done();
        }
    }
    if (r == LAB_USAGE) {
        print_verb_usage(stderr, v);
    }
    return r;
}
