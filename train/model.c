/* model: the command line of training. What decides numbers is an option with a default that
 * --help says, and all of it goes into the checkpoint. */
#include <stdio.h>
#include <string.h>

#include "engine/engine.h"
#include "train/args.h"
#include "train/session.h"
#include "train/train.h"

/* The options of a recipe come first in the table. */
struct words {
    unsigned weights, activations, head, ste_weights, ste_activations, format, schedule;
    bool stochastic;
};

#define INT(n, f, h, l, m)                                                                         \
    {                                                                                              \
        .name = (n), .value = "N", .help = (h), .kind = ARG_INT, .to = &(f), .lo = (l), .hi = (m)  \
    }
#define REAL(n, f, h, l, m)                                                                        \
    {                                                                                              \
        .name = (n), .value = "X", .help = (h), .kind = ARG_REAL, .to = &(f), .flo = (l),          \
        .fhi = (m)                                                                                 \
    }
#define WORD(n, f, h, w)                                                                           \
    {                                                                                              \
        .name = (n), .value = "HOW", .help = (h), .kind = ARG_WORD, .to = &(f), .words = (w)       \
    }
#define TEXT(n, v, f, h)                                                                           \
    {                                                                                              \
        .name = (n), .value = (v), .help = (h), .kind = ARG_TEXT, .to = &(f)                       \
    }

static struct session_options o;
static struct words w;

static const char usage[] =
    "usage: onebit-train model --tokenizer FILE.gguf --data FILE --out FILE.gguf [OPTION]...\n"
    "       onebit-train model --resume CHECKPOINT --data FILE --out FILE.gguf [OPTION]...\n"
    "       onebit-train model --export CHECKPOINT --out FILE.gguf";

static struct recipe defaults(void)
{
    const unsigned threads = engine_threads_default();

    return (struct recipe){
        .n_layer = 5,
        .n_embd = 256,
        .n_ff = 768,
        .n_head = 4,
        .n_head_kv = 2,
        .head_dim = 64,
        .n_ctx = 256,
        .rope_base = 10000,
        .rms_eps = 1e-6,
        .smooth_k = 1,
        .n_steps = 1000,
        .n_warm = 50,
        .lr = 2e-3,
        .beta1 = 0.9,
        .beta2 = 0.95,
        .eps = 1e-8,
        .decay = 0.01,
        .clip = 1,
        .batch = 64,
        .accumulate = 1,
        .seed = 1,
        .n_threads = threads < NET_THREADS_MAX ? threads : NET_THREADS_MAX,
    };
}

static struct arg args[] = {
    INT("--layers", o.recipe.n_layer, "layers", 1, NET_LAYERS_MAX),
    INT("--width", o.recipe.n_embd, "of the embedding", 32, NET_WIDTH_MAX),
    INT("--ff", o.recipe.n_ff, "width of the feed-forward part", 32, NET_WIDTH_MAX),
    INT("--heads", o.recipe.n_head, "heads of attention", 1, NET_HEADS_MAX),
    INT("--kv-heads", o.recipe.n_head_kv, "heads of keys and values", 1, NET_HEADS_MAX),
    INT("--head-dim", o.recipe.head_dim, "width of a head", 32, NET_HEAD_DIM_MAX),
    INT("--ctx", o.recipe.n_ctx, "tokens of a row at most, and of the model's context", 2,
        NET_CTX_MAX),
    REAL("--rope-base", o.recipe.rope_base, "base of the rotary positions", 1, 1e9),
    WORD("--weights", w.weights, "float, ternary or binary", recipe_weights_names),
    WORD("--activations", w.activations, "float, int8 or binary", recipe_activations_names),
    WORD("--head", w.head, "embedding and head: int8 (Q8_0) or float", recipe_head_names),
    WORD("--format", w.format, "of ternary weights with int8 activations: I2_S, TQ2_0, Q2_0",
         recipe_format_names),
    WORD("--ste-weights", w.ste_weights, "how gradients pass: hard, clip or smooth",
         recipe_ste_names),
    WORD("--ste-activations", w.ste_activations, "the same for inputs", recipe_ste_names),
    REAL("--smooth", o.recipe.smooth_k, "steepness of the smooth one", 1e-3, 1e6),
    {"--stochastic", NULL, "round weights at random, with their value as mean", ARG_FLAG,
     &w.stochastic},
    INT("--steps", o.recipe.n_steps, "of the training", 1, RECIPE_STEPS_MAX),
    INT("--batch", o.recipe.batch, "rows of a batch", 1, RECIPE_BATCH_MAX),
    INT("--accumulate", o.recipe.accumulate, "batches whose gradients are added up for a step", 1,
        RECIPE_BATCH_MAX),
    REAL("--rate", o.recipe.lr, "the largest learning rate", 0, 10),
    REAL("--rate-end", o.recipe.lr_end, "the last one", 0, 10),
    WORD("--schedule", w.schedule, "how it falls: cosine, linear, constant", recipe_schedule_names),
    INT("--warmup", o.recipe.n_warm,
        "steps in which it rises; where not given, a tenth of all at most", 0, RECIPE_STEPS_MAX),
    REAL("--hold", o.recipe.hold, "share of the steps after that before it falls", 0, 1),
    REAL("--beta1", o.recipe.beta1, "of AdamW", 0, 0.999999),
    REAL("--beta2", o.recipe.beta2, "of AdamW", 0, 0.999999),
    REAL("--decay", o.recipe.decay, "of weights, times the rate", 0, 10),
    REAL("--clip", o.recipe.clip, "the gradient's length at most; 0: any", 0, 1e9),
    REAL("--prompt-weight", o.recipe.prompt_weight, "of a prompt's tokens in the loss", 0, 1),
    INT("--seed", o.recipe.seed, "of parameters, order and rounding", 0, UINT64_MAX),
    INT("--threads", o.recipe.n_threads, "numbers depend on them, too; default: this machine's", 1,
        NET_THREADS_MAX),
    TEXT("--tokenizer", "FILE.gguf", o.tokenizer, "the vocabulary, or a model that has it"),
    TEXT("--from", "CHECKPOINT", o.from, "begin with its parameters, of any weight mode"),
    {"--data", "FILE", "rows {\"prompt\", \"answer\"}, JSON lines; may be repeated", ARG_TEXTS,
     &o.data},
    {"--skip-long", NULL, "leave rows out that the context does not hold", ARG_FLAG, &o.skip_long},
    TEXT("--valid", "FILE", o.valid, "rows held back, whose loss is shown"),
    INT("--valid-every", o.valid_every, "steps; 0: at the end alone", 0, RECIPE_STEPS_MAX),
    TEXT("--checkpoint", "FILE", o.checkpoint, "where to keep what it takes to go on"),
    INT("--checkpoint-every", o.checkpoint_every, "steps; 0: at the end alone", 0,
        RECIPE_STEPS_MAX),
    INT("--stop-after", o.stop_after,
        "steps of this call, which --checkpoint then keeps; 0: all that are left", 0,
        RECIPE_STEPS_MAX),
    INT("--report", o.report, "steps between two lines", 1, RECIPE_STEPS_MAX),
    TEXT("--resume", "CHECKPOINT", o.resume, "go on with a training"),
    TEXT("--export", "CHECKPOINT", o.convert, "write its model, and do nothing else"),
    TEXT("--out", "FILE.gguf", o.out, "where the model goes"),
    TEXT("--name", "TEXT", o.name, "general.name of the model"),
    TEXT("--description", "TEXT", o.description, "general.description"),
    TEXT("--license", "TEXT", o.license, "general.license"),
};

static bool is_recipe(size_t i)
{
    return strcmp(args[i].name, "--data") != 0 && (i == 0 || is_recipe(i - 1));
}

static bool is_for_export(size_t i)
{
    const void *to = args[i].to;

    return to == &o.convert || to == &o.out || to == &o.name || to == &o.description ||
           to == &o.license;
}

/* Is each option that was given one that this kind of call reads? */
static int check_kind(void)
{
    const bool fresh = !o.resume && !o.convert;

    if ((o.resume != NULL) + (o.convert != NULL) + (o.from != NULL) > 1) {
        train_error("of --resume, --export and --from only one can be given");
        return TRAIN_USAGE;
    }
    for (size_t i = 0; !fresh && i < ARRAY_SIZE(args); i++) {
        if (args[i].given && is_recipe(i)) {
            train_error("%s: a checkpoint has its own", args[i].name);
            return TRAIN_USAGE;
        }
        if (args[i].given && o.convert && !is_for_export(i)) {
            train_error("%s: --export trains nothing", args[i].name);
            return TRAIN_USAGE;
        }
    }
    return TRAIN_OK;
}

/* Does the command line hang together? */
static int check(void)
{
    const bool fresh = !o.resume && !o.convert;
    const int r = check_kind();

    if (r != TRAIN_OK) {
        return r;
    }
    if (fresh && !o.tokenizer) {
        train_error("--tokenizer is missing");
        return TRAIN_USAGE;
    }
    if (!o.convert && o.data.n == 0) {
        train_error("--data is missing");
        return TRAIN_USAGE;
    }
    if (!o.out && (o.convert || !o.checkpoint)) {
        train_error("--out is missing%s", o.convert ? "" : ", and so is --checkpoint");
        return TRAIN_USAGE;
    }
    return TRAIN_OK;
}

static void take_words(void)
{
    struct recipe *r = &o.recipe;

    r->weights = w.weights;
    r->activations = w.activations;
    r->head = w.head;
    r->ste_weights = w.ste_weights;
    r->ste_activations = w.ste_activations;
    r->format = w.format;
    r->schedule = w.schedule;
    r->stochastic = w.stochastic;
}

static int act(int n, char **argv)
{
    int r = args_parse(args, ARRAY_SIZE(args), n, argv);

    if (r == TRAIN_OK) {
        r = check();
    }
    if (r == TRAIN_USAGE) {
        (void)fprintf(stderr, "%s\n", usage);
    }
    return r;
}

int verb_model(int n, char **argv)
{
    o = (struct session_options){
        .recipe = defaults(), .checkpoint_every = 500, .valid_every = 500, .report = 50};
    w = (struct words){.weights = NET_W_BINARY, .activations = NET_A_INT8};
    if (args_wants_help(n, argv)) {
        (void)printf("%s\n\n", usage);
        args_help(stdout, args, ARRAY_SIZE(args));
        return TRAIN_OK;
    }
    const int r = act(n, argv);
    if (r != TRAIN_OK) {
        return r;
    }
    take_words();
    if (!args_given(args, ARRAY_SIZE(args), "--warmup") &&
        o.recipe.n_warm > o.recipe.n_steps / 10) {
        o.recipe.n_warm = o.recipe.n_steps / 10;
    }
    return o.convert ? session_convert(&o) : session_train(&o);
}
