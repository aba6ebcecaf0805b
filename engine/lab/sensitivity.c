/* sensitivity: what each part of a model loses in each weight format.
 *
 * The parts are the embedding, the head, and each kind of matrix in the layers (of all of them, or
 * of a third of them). For each part and format, the model is written with that part alone in that
 * format, into memory, and scored on the text as `perplexity` does: the loss is the mean of -ln p
 * of the scored tokens. Its difference from the loss of the model as it is says what the format
 * costs there. With a budget of bytes, sens_budget() chooses, and the choice is measured as a
 * whole. */
#include "engine/lab/sensitivity.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/lab/plan.h"

static const char *const usual_formats[] = {"Q8_0", "Q4_0", "Q2_0", "TQ1_0", "Q1_0"};

/* ---- groups ---- */

/* The layer and part of "blk.N.PART.weight"; false for another name. */
static bool layer_part(const char *name, unsigned *ret_layer, char part[SENS_NAME_MAX])
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789_";
    char *end = NULL;

    if (strncmp(name, "blk.", 4) != 0 || name[4] < '0' || name[4] > '9') {
        return false;
    }
    const unsigned long layer = strtoul(name + 4, &end, 10);
    if (*end != '.' || layer >= MODEL_LAYERS_MAX) {
        return false;
    }
    const size_t n = strspn(end + 1, letters);
    if (n == 0 || n >= SENS_NAME_MAX || strcmp(end + 1 + n, ".weight") != 0) {
        return false;
    }
    memcpy(part, end + 1, n);
    part[n] = '\0';
    *ret_layer = (unsigned)layer;
    return true;
}

/* Layers by the file's tensors: one more than the highest. */
static unsigned layers_of(const struct requant *q)
{
    unsigned n = 0, layer;
    char part[SENS_NAME_MAX];

    for (size_t i = 0; i < requant_count(q); i++) {
        struct requant_tensor t;
        requant_tensor(q, i, &t);
        if (layer_part(t.name, &layer, part) && layer >= n) {
            n = layer + 1;
        }
    }
    return n;
}

/* The group of that name and third, a new one if need be; SENS_GROUPS_MAX when there are too
 * many. */
static uint32_t group_named(struct sens *s, const char *name, unsigned third)
{
    size_t i = 0;

    while (i < s->n_groups &&
           (strcmp(s->groups[i].name, name) != 0 || s->groups[i].third != third)) {
        i++;
    }
    if (i == s->n_groups && i < SENS_GROUPS_MAX) {
        struct sens_group *g = &s->groups[s->n_groups++];
        (void)snprintf(g->name, sizeof(g->name), "%s", name);
        g->third = third;
        g->choices[0].usable = true;
    }
    return (uint32_t)i;
}

static int group_tensors(struct sens *s)
{
    const unsigned n_layers = layers_of(s->q);

    for (size_t i = 0; i < requant_count(s->q); i++) {
        struct requant_tensor t;
        unsigned layer = 0;
        char part[SENS_NAME_MAX] = "";
        requant_tensor(s->q, i, &t);
        const bool head = plan_is_head(t.name);
        s->group_of[i] = SENS_GROUPS_MAX;
        if (!t.matrix || !t.floats || (!head && !layer_part(t.name, &layer, part))) {
            s->fixed += t.bytes;
            continue;
        }
        const unsigned third = s->args->thirds && !head ? 1 + 3 * layer / n_layers : 0;
        const uint32_t g = group_named(s, head ? t.name : part, third);
        if (g == SENS_GROUPS_MAX) {
            lab_error("%s: more than %u kinds of matrices", s->args->path, SENS_GROUPS_MAX);
            return LAB_UNAVAILABLE;
        }
        s->group_of[i] = g;
        s->groups[g].weights += t.n_cols * t.n_rows;
        s->groups[g].choices[0].bytes += t.bytes;
    }
    if (s->n_groups == 0) {
        lab_error("%s: no matrix of float weights; what is quantized already cannot be measured",
                  s->args->path);
        return LAB_UNAVAILABLE;
    }
    return LAB_OK;
}

/* ---- formats ---- */

static int add_format(struct sens *s, const char *name)
{
    const char *format = plan_format("--formats", name);

    if (!format) {
        return LAB_USAGE;
    }
    for (size_t i = 0; i < s->n_formats; i++) {
        if (s->formats[i] == format) {
            lab_error("--formats: %s twice", name);
            return LAB_USAGE;
        }
    }
    if (s->n_formats == SENS_FORMATS_MAX) {
        lab_error("--formats: at most %u", SENS_FORMATS_MAX);
        return LAB_USAGE;
    }
    s->formats[s->n_formats++] = format;
    return LAB_OK;
}

static int choose_formats(struct sens *s)
{
    const char *at = s->args->formats;
    int r = LAB_OK;

    for (size_t i = 0; !at && r == LAB_OK && i < ARRAY_SIZE(usual_formats); i++) {
        r = add_format(s, usual_formats[i]);
    }
    while (at && r == LAB_OK) {
        char name[32];
        const size_t n = strcspn(at, ",");
        (void)snprintf(name, sizeof(name), "%.*s", (int)(n < sizeof(name) ? n : sizeof(name) - 1),
                       at);
        r = add_format(s, name);
        at = at[n] == ',' ? at + n + 1 : NULL;
    }
    return r;
}

/* Bytes of every group in every format that its rows suit and that makes it smaller. */
static void weigh(struct sens *s)
{
    for (size_t g = 0; g < s->n_groups; g++) {
        for (size_t f = 0; f < s->n_formats; f++) {
            struct sens_choice *c = &s->groups[g].choices[1 + f];
            *c = (struct sens_choice){.format = s->formats[f], .usable = true};
            for (size_t i = 0; i < requant_count(s->q); i++) {
                uint64_t bytes = 0;
                if (s->group_of[i] == g) {
                    c->usable = c->usable && requant_bytes(s->q, i, c->format, &bytes);
                    c->bytes += bytes;
                }
            }
            c->usable = c->usable && c->bytes < s->groups[g].choices[0].bytes;
        }
    }
}

/* ---- measuring ---- */

static int choose_group(struct sens *s, size_t g, const char *format)
{
    for (size_t i = 0; i < requant_count(s->q); i++) {
        if (s->group_of[i] == g) {
            const int r = requant_choose(s->q, i, format, NULL);
            if (r != MODEL_OK) {
                return r;
            }
        }
    }
    return MODEL_OK;
}

enum { SCORED = 0, UNUSABLE };

/* The loss of the model in the chosen formats. UNUSABLE: it cannot be written or run so; else
 * LAB_OK or an exit code, in *ret_code. */
static int score(struct sens *s, struct lab_score *ret, int *ret_code)
{
    const struct model_limits limits = {0};
    struct model *model = NULL;
    struct diag diag = {0};
    const int fd = memfd_create("sensitivity", MFD_CLOEXEC);
    int r = fd < 0 ? -errno : requant_write(s->q, fd, NULL, NULL, &diag);

    if (r == MODEL_OK) {
        r = model_open_gguf(&model, fd, &limits, &diag);
    }
    if (fd >= 0) {
        (void)close(fd); /* the packed form is all that is needed, and memory is dear */
    }
    *ret_code = LAB_OK;
    if (r == MODEL_UNSUPPORTED) {
        if (s->base.n == 0) { /* the model as it is */
            *ret_code = lab_outcome(s->args->path, r, &diag);
        }
        return UNUSABLE;
    }
    *ret_code = r == MODEL_OK ? LAB_OK : lab_outcome(s->args->path, r, &diag);
    if (*ret_code == LAB_OK) {
        *ret = (struct lab_score){0};
        *ret_code = lab_score(s->args, model, s->ids, s->n_ids, ret);
    }
    model_free(model);
    return SCORED;
}

static double loss_of(const struct lab_score *score)
{
    return score->sum / (double)score->n;
}

/* One choice of one group alone. */
static int measure_choice(struct sens *s, size_t g, struct sens_choice *c)
{
    struct lab_score got;
    int code = LAB_OK;

    if (choose_group(s, g, c->format) != MODEL_OK || score(s, &got, &code) == UNUSABLE) {
        c->usable = false;
    } else if (code == LAB_OK) {
        c->delta = loss_of(&got) - loss_of(&s->base);
    }
    const int r = choose_group(s, g, NULL);
    return code != LAB_OK || r == MODEL_OK ? code : LAB_OS;
}

static int measure(struct sens *s)
{
    const uint64_t total = 1 + s->n_groups * s->n_formats;
    struct progress bar = {0};
    uint64_t done = 0;
    int code = LAB_OK;

    progress_show(&bar, "as it is", done++, total);
    if (score(s, &s->base, &code) == UNUSABLE && code == LAB_OK) {
        code = LAB_UNAVAILABLE;
    }
    for (size_t g = 0; code == LAB_OK && g < s->n_groups; g++) {
        for (size_t f = 0; code == LAB_OK && f < s->n_formats; f++) {
            struct sens_choice *c = &s->groups[g].choices[1 + f];
            progress_show(&bar, s->groups[g].name, done++, total);
            code = c->usable ? measure_choice(s, g, c) : LAB_OK;
        }
    }
    progress_end(&bar);
    return code;
}

/* Choose for the budget, and measure all of it together. */
static int plan(struct sens *s)
{
    struct lab_score got;
    int code = LAB_OK;

    if (!sens_budget(s, s->args->bytes)) {
        lab_error("--bytes: these formats take at least %llu",
                  (unsigned long long)sens_least_bytes(s));
        return LAB_UNAVAILABLE;
    }
    for (size_t g = 0; g < s->n_groups; g++) {
        if (choose_group(s, g, s->groups[g].choices[s->groups[g].chosen].format) != MODEL_OK) {
            return lab_errno(s->groups[g].name, -EINVAL);
        }
    }
    if (score(s, &got, &code) == UNUSABLE) {
        lab_error("%s: the formats that were chosen do not run together", s->args->path);
        return LAB_UNAVAILABLE;
    }
    s->planned = code == LAB_OK ? loss_of(&got) : 0;
    return code;
}

/* ---- the verb ---- */

static int read_text(struct sens *s)
{
    struct vocab *vocab = NULL;

    int r = lab_vocab(s->args->path, &vocab);
    if (r == LAB_OK) {
        r = lab_text(s->args, vocab, &s->ids, &s->n_ids);
    }
    if (r == LAB_OK && s->n_ids > s->args->tokens) {
        s->n_ids = (size_t)s->args->tokens;
    }
    vocab_free(vocab);
    return r;
}

static int run(struct sens *s, int fd)
{
    struct diag diag = {0};
    int r = lab_outcome(s->args->path, requant_open(&s->q, fd, &diag), &diag);

    if (r == LAB_OK) {
        r = read_text(s);
    }
    if (r == LAB_OK && !(s->group_of = calloc(requant_count(s->q) + 1, sizeof(*s->group_of)))) {
        r = lab_errno("groups", -ENOMEM);
    }
    if (r == LAB_OK) {
        r = group_tensors(s);
    }
    if (r == LAB_OK) {
        weigh(s);
        if (s->args->bytes > 0 && sens_least_bytes(s) > s->args->bytes) { /* before the long work */
            lab_error("--bytes: these formats take at least %llu",
                      (unsigned long long)sens_least_bytes(s));
            r = LAB_UNAVAILABLE;
        }
    }
    if (r == LAB_OK) {
        r = measure(s);
    }
    if (r == LAB_OK && s->args->bytes > 0) {
        r = plan(s);
    }
    return r;
}

int verb_sensitivity(const struct lab_args *a)
{
    int fd = -1;

    if (!a->text) {
        lab_error("--text is missing");
        return LAB_USAGE;
    }
    if (a->out && a->bytes == 0) {
        lab_error("--out wants --bytes: a plan is for a number of bytes");
        return LAB_USAGE;
    }
    int r = a->out ? outfile_check(a->out) : LAB_OK; /* before the long work */
    if (r != LAB_OK) {
        return r;
    }
    struct sens *s = calloc(1, sizeof(*s));
    if (!s) {
        return lab_errno("groups", -ENOMEM);
    }
    s->args = a;
    r = choose_formats(s);
    if (r == LAB_OK) {
        r = lab_open(a->path, &fd);
        if (r == LAB_OK && a->out) {
            r = outfile_not_input(a->out, fd);
        }
    }
    if (r == LAB_OK) {
        r = run(s, fd);
    }
    if (r == LAB_OK && a->out) {
        r = sens_write_plan(s, a->out);
    }
    if (r == LAB_OK) {
        r = sens_print(s);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    requant_free(s->q);
    free(s->group_of);
    free(s->ids);
    free(s);
    return r;
}
