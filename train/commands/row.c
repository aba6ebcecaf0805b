/* Drawing a sentence: an intent by the mix, a block by its weight, a frame; then the wrap round it
 * is said, the frame in its place, and slots remember where their words stand. What the frame says
 * itself, with the names of rules and slots for what they say, is the template. */
#include "train/commands/row.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/fnv.h"
#include "train/commands/number.h"

#define STEPS_MAX 4000u /* nodes visited for one sentence */
#define TRIES_MAX 20000u
/* A template with fewer bends is never held back: so each choice and each frame is in training. */
#define HELD_BENDS 2u

struct drawing {
    const struct grammar *g;
    struct rng *rng;
    struct row *row;
    const struct node *frame; /* what a star says */
    uint32_t line;            /* node of the alternative of it that is said, and 1 */
    enum hand hand;
    uint32_t steps;
    bool failed;    /* too long: draw another */
    bool glue;      /* the next word follows without a space */
    bool template;  /* what is said now belongs to the template */
    bool away;      /* in a part whose home is another frame */
    uint32_t bends; /* choices of the template that are not the first ones: see say_bend() */
    unsigned inner; /* captures round us */
    uint32_t cut;   /* where words were taken away since the rule or capture began */
    char value[GRAMMAR_VALUE_MAX + 1]; /* of the innermost capture; "": its words */
};

static void say_node(struct drawing *d, const struct node *n);

static void say_word(struct drawing *d, const char *word)
{
    struct row *row = d->row;
    const size_t n = strlen(word);
    const bool close = d->glue || row->n == 0 || (n > 0 && strchr(",.?!;:'%", word[0]) != NULL);

    if (d->template) {
        row->template = fnv_add(fnv_add(row->template, word, n), " ", 1);
    }
    if (row->n + n + 1 > ROW_TEXT_MAX) {
        d->failed = true;
        return;
    }
    if (!close) {
        row->text[row->n++] = ' ';
    }
    memcpy(row->text + row->n, word, n + 1);
    row->n += (uint32_t)n;
    d->glue = false;
}

static void say_pseudo(struct drawing *d)
{
    static const char *const starts[] = {"b", "br", "c",  "ch", "cl", "d",  "dr", "f",  "fl",
                                         "g", "gr", "h",  "j",  "k",  "kl", "l",  "m",  "n",
                                         "p", "pr", "qu", "r",  "s",  "sh", "sk", "sl", "st",
                                         "t", "tr", "v",  "w",  "y",  "z",  "",   "th", "sp"};
    static const char *const middles[] = {"a",  "e",  "i",  "o",  "u", "ai", "ee",
                                          "oo", "ou", "ie", "ea", "o", "a",  "i"};
    static const char *const ends[] = {"",  "",   "n",  "l",  "r",  "s", "m",  "x",  "k",
                                       "t", "nd", "rk", "sh", "lt", "p", "rn", "ck", ""};
    const uint32_t n = 1 + rng_below(d->rng, 3);
    char word[48] = "";

    for (uint32_t i = 0; i < n; i++) {
        strcat(word, starts[rng_below(d->rng, ARRAY_SIZE(starts))]);
        strcat(word, middles[rng_below(d->rng, ARRAY_SIZE(middles))]);
        if (i + 1 == n || rng_chance(d->rng, 300)) {
            strcat(word, ends[rng_below(d->rng, ARRAY_SIZE(ends))]);
        }
    }
    if (n == 1 && strlen(word) < 3) {
        strcat(word, "sk");
    }
    say_word(d, word);
}

static void say_number(struct drawing *d, const struct node *n)
{
    char text[NUMBER_ROOM];
    const bool was = d->template;

    d->template = false;
    number_draw(d->rng, (enum number_how)n->how, n->at, n->n, text, d->value);
    for (char *word = text; word;) {
        char *space = strchr(word, ' ');
        if (space) {
            *space++ = '\0';
        }
        say_word(d, word);
        word = space;
    }
    d->template = was;
}

/* In a template stands the name of what is not its own. */
static bool in_template(struct drawing *d, char mark, const char *name)
{
    const bool was = d->template;

    if (was) {
        d->row->template = fnv_add(fnv_add(d->row->template, &mark, 1), name, strlen(name) + 1);
    }
    d->template = false;
    return was;
}

/* Says the node; returns where its words begin. */
static uint32_t say_marked(struct drawing *d, const struct node *n)
{
    const uint32_t outer = d->cut, from = d->row->n;

    d->cut = UINT32_MAX;
    say_node(d, n);
    const uint32_t cut = d->cut;
    d->cut = cut < outer ? cut : outer;
    return cut < from ? cut : from;
}

/* Did a slot take words from behind @at? */
static bool slot_behind(const struct row *row, uint32_t at)
{
    for (unsigned i = 0; i < N_SLOTS; i++) {
        const struct filled *f = &row->slots[i];
        if ((row->have & SLOT_BIT(i)) && f->to > f->from && f->to > at) {
            return true;
        }
    }
    return false;
}

/* "the" before what wants none: the Anna's room. What a slot took, a part of it even, stays. */
static void take_article(struct drawing *d)
{
    static const char *const articles[] = {"the", "this", "my", "our"};
    struct row *row = d->row;

    for (unsigned i = 0; i < ARRAY_SIZE(articles); i++) {
        const uint32_t n = (uint32_t)strlen(articles[i]);
        if (row->n >= n && memcmp(row->text + row->n - n, articles[i], n) == 0 &&
            (row->n == n || row->text[row->n - n - 1] == ' ')) {
            const uint32_t left = row->n == n ? 0 : row->n - n - 1;
            if (slot_behind(row, left)) {
                return;
            }
            row->n = left;
            row->text[row->n] = '\0';
            d->cut = row->n < d->cut ? row->n : d->cut;
            return;
        }
    }
}

static void say_rule(struct drawing *d, const struct node *n)
{
    const struct rule *rule = &d->g->rules[n->at];
    const bool was = rule->part ? d->template : in_template(d, '<', grammar_text(d->g, n->n));
    const bool away = d->away;

    d->away = rule->part && rule->home != d->line;
    const uint32_t from = say_marked(d, &d->g->nodes[rule->node]);
    d->away = away;
    if (rule->proper && d->hand != HAND_LOWER && !d->failed) {
        noise_title(d->row, from);
    }
    d->template = was;
}

static void say_capture(struct drawing *d, const struct node *n)
{
    struct row *row = d->row;
    const bool was = in_template(d, '{', slot_infos[n->slot].name);
    char outer[sizeof(d->value)];

    memcpy(outer, d->value, sizeof(outer));
    d->value[0] = '\0';
    d->inner++;
    const uint32_t from = say_marked(d, &d->g->nodes[n->at]);
    d->inner--;
    if (d->inner == 0 && row->n > from) {
        struct filled *f = &row->slots[n->slot];
        f->from = (uint16_t)(from + (row->text[from] == ' '));
        f->to = (uint16_t)row->n;
        const bool own = slot_infos[n->slot].kind == SLOT_TEXT;
        memcpy(f->value, own ? "" : d->value, own ? 1 : sizeof(f->value));
        row->have |= SLOT_BIT(n->slot);
    }
    memcpy(d->value, outer, sizeof(outer));
    d->template = was;
}

static void set_slot(struct drawing *d, const struct node *n)
{
    const char *value = grammar_text(d->g, n->at);

    if (d->inner > 0) {
        return; /* a command within a command is its words alone */
    }
    if (d->template) {
        d->row->template = fnv_add(fnv_add(d->row->template, "@", 1), value, strlen(value));
    }
    struct filled *f = &d->row->slots[n->slot];
    *f = (struct filled){0};
    strview_copy(f->value, sizeof(f->value), strview_of(value));
    d->row->have |= SLOT_BIT(n->slot);
}

static void say_same(struct drawing *d, const struct node *n)
{
    const struct filled *f = &d->row->slots[n->slot];
    char words[ROW_TEXT_MAX + 1];

    if (!(d->row->have & SLOT_BIT(n->slot)) || f->to == f->from) {
        return;
    }
    memcpy(words, d->row->text + f->from, (size_t)(f->to - f->from));
    words[f->to - f->from] = '\0';
    const bool was = in_template(d, '=', slot_infos[n->slot].name);
    say_word(d, words);
    d->template = was;
}

/* The index of the kid. */
static uint32_t choose(struct drawing *d, const struct node *n)
{
    const struct kid *kids = d->g->kids + n->at;
    const uint32_t x = rng_below(d->rng, n->sum);
    uint32_t lo = 0, hi = n->n - 1;

    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;
        if (kids[mid].upto > x) {
            hi = mid;
        } else {
            lo = mid + 1;
        }
    }
    return lo;
}

/* Says what was chosen. A choice that is not the first one is a bend; in a part that is not at home
 * it is two. A bend and those within it are as many as the more of them. A frame that takes the
 * first choice everywhere but on the way to one place thus has one bend at most. */
static void say_bend(struct drawing *d, const struct node *n, bool first)
{
    const uint32_t before = d->bends, own = first || !d->template ? 0 : 1 + d->away;

    say_node(d, n);
    if (d->bends < before + own) {
        d->bends = before + own;
    }
}

static void say_star(struct drawing *d)
{
    const struct kid *kid = &d->g->kids[d->frame->at + choose(d, d->frame)];

    d->template = true;
    d->away = false;
    d->line = kid->node + 1;
    say_node(d, &d->g->nodes[kid->node]);
    d->template = false;
}

static void say_alternative(struct drawing *d, const struct node *n)
{
    const uint32_t kid = choose(d, n);

    say_bend(d, &d->g->nodes[d->g->kids[n->at + kid].node], kid == 0);
}

static void say_seq(struct drawing *d, const struct node *n)
{
    for (uint32_t i = 0; i < n->n && !d->failed; i++) {
        say_node(d, &d->g->nodes[d->g->kids[n->at + i].node]);
    }
    if (n->n > 0 && d->g->nodes[d->g->kids[n->at].node].kind == NODE_GLUE) {
        d->glue = false; /* also where nothing was said */
    }
}

static void say_node(struct drawing *d, const struct node *n)
{
    if (d->failed || ++d->steps > STEPS_MAX) {
        d->failed = true;
        return;
    }
    switch (n->kind) {
    case NODE_WORD:
        say_word(d, grammar_text(d->g, n->at));
        break;
    case NODE_SEQ:
        say_seq(d, n);
        break;
    case NODE_ALT:
        say_alternative(d, n);
        break;
    case NODE_MAYBE:
        if (rng_below(d->rng, 100) < n->sum) {
            say_bend(d, &d->g->nodes[n->at], false);
        }
        break;
    case NODE_RULE:
        say_rule(d, n);
        break;
    case NODE_CAPTURE:
        say_capture(d, n);
        break;
    case NODE_SET:
        set_slot(d, n);
        break;
    case NODE_MEANS:
        say_node(d, &d->g->nodes[n->at]);
        strview_copy(d->value, sizeof(d->value), strview_of(grammar_text(d->g, n->n)));
        break;
    case NODE_NUMBER:
        say_number(d, n);
        break;
    case NODE_PSEUDO:
        say_pseudo(d);
        break;
    case NODE_STAR:
        say_star(d);
        break;
    case NODE_SAME:
        say_same(d, n);
        break;
    case NODE_BARE:
        take_article(d);
        break;
    case NODE_GLUE:
        d->glue = true;
        break;
    }
}

static unsigned draw_intent(const struct grammar *g, struct rng *rng)
{
    uint32_t sum = 0;
    unsigned i = 0;

    for (unsigned k = 0; k < N_INTENTS; k++) {
        sum += g->mix[k];
    }
    uint32_t x = rng_below(rng, sum);
    while (x >= g->mix[i]) {
        x -= g->mix[i++];
    }
    return i;
}

static const struct rule *draw_block(const struct grammar *g, struct rng *rng, unsigned intent)
{
    uint32_t sum = 0;

    for (uint32_t i = 0; i < g->n_rules; i++) {
        const struct rule *rule = &g->rules[i];
        sum += rule->kind == RULE_FRAMES && rule->intent == intent ? rule->weight : 0;
    }
    uint32_t x = rng_below(rng, sum);
    for (uint32_t i = 0;; i++) {
        const struct rule *rule = &g->rules[i];
        if (rule->kind != RULE_FRAMES || rule->intent != intent) {
            continue;
        }
        if (x < rule->weight) {
            return rule;
        }
        x -= rule->weight;
    }
}

/* Does the sentence fit, and does it belong to the split? */
static bool wanted(const struct drawing *d, const struct row_options *options)
{
    if (d->failed) {
        return false;
    }
    const bool held = d->bends >= HELD_BENDS &&
                      (uint32_t)(rng_mix(d->row->template) % 1000000) < options->held_back;
    return options->split == ROW_ALL || held == (options->split == ROW_VALID);
}

static void draw_once(struct drawing *d, const struct rule *block)
{
    struct row *row = d->row;
    const struct grammar *g = d->g;

    memset(row, 0, offsetof(struct row, slots));
    row->intent = block->intent;
    row->template =
        fnv_add(FNV_START, grammar_text(g, block->name), strlen(grammar_text(g, block->name)));
    d->hand = noise_hand(g, d->rng);
    d->frame = &g->nodes[block->node];
    say_node(d, &g->nodes[block->sets]);
    say_node(d, &g->nodes[g->rules[block->wrap].node]);
}

static void add_noise(struct drawing *d)
{
    const struct grammar *g = d->g;
    char filler[64] = "";

    if (g->filler != UINT32_MAX) {
        struct row words = {0};
        struct drawing other = {.g = g, .rng = d->rng, .row = &words, .cut = UINT32_MAX};
        say_node(&other, &g->nodes[g->rules[g->filler].node]);
        strview_copy(filler, sizeof(filler), strview_of(other.failed ? "" : words.text));
    }
    noise_add(g, d->rng, d->row, d->hand, filler);
}

/* An answer that the schema does not have is a fault of the grammar, unless it is only too long. */
static int judge(const struct row *row, const struct rule *block, const struct grammar *g,
                 bool *ret_fits, struct grammar_fault *fault)
{
    const char *const name = grammar_text(g, block->name);
    const char *const what = slots_fault(row->intent, row->have);

    *ret_fits = true;
    if (what) {
        return grammar_say(fault, g, block->file, block->line, GRAMMAR_STUCK, "%s %s: %s", name,
                           what, row->text);
    }
    for (unsigned i = 0; i < N_SLOTS; i++) {
        if (!(row->have & SLOT_BIT(i))) {
            continue;
        }
        const struct strview v = row_value(row, (enum slot)i);
        if (slot_infos[i].kind == SLOT_TEXT && v.n > slot_infos[i].max) {
            *ret_fits = false;
        } else if (!slot_takes((enum slot)i, v)) {
            return grammar_say(fault, g, block->file, block->line, GRAMMAR_STUCK,
                               "%s: %s cannot be %.*s: %s", name, slot_infos[i].name, (int)v.n,
                               v.data, row->text);
        }
    }
    return 0;
}

int row_draw(const struct grammar *g, const struct row_options *options, uint64_t number,
             struct row *ret, struct grammar_fault *ret_fault)
{
    struct rng rng = {.state = rng_mix(options->seed ^ rng_mix(number + 1))};
    const unsigned intent = draw_intent(g, &rng);

    for (unsigned i = 0; i < TRIES_MAX; i++) {
        const struct rule *block = draw_block(g, &rng, intent);
        struct drawing d = {.g = g, .rng = &rng, .row = ret, .cut = UINT32_MAX};
        bool fits;
        draw_once(&d, block);
        if (!wanted(&d, options) || ret->n == 0) {
            continue;
        }
        int r = judge(ret, block, g, &fits, ret_fault);
        if (r == 0 && fits) {
            add_noise(&d);
            r = judge(ret, block, g, &fits, ret_fault);
        }
        if (r == 0 && options->kept_out) {
            fits = fits && !kept_out_has(options->kept_out, ret->text, ret->n);
        }
        if (r != 0 || fits) {
            return r;
        }
    }
    return grammar_say(ret_fault, g, 0, 0, GRAMMAR_STUCK,
                       "no frame of %s gives a sentence of this split", intent_infos[intent].name);
}

struct strview row_value(const struct row *row, enum slot slot)
{
    const struct filled *f = &row->slots[slot];

    if (f->value[0] != '\0') {
        return strview_of(f->value);
    }
    return (struct strview){.data = row->text + f->from, .n = (size_t)(f->to - f->from)};
}

static char *put(char *to, const char *end, struct strview v, bool escape)
{
    for (size_t i = 0; i < v.n && to + 3 < end; i++) {
        if (escape && (v.data[i] == '"' || v.data[i] == '\\')) {
            *to++ = '\\';
        }
        *to++ = v.data[i];
    }
    *to = '\0';
    return to;
}

void row_answer(const struct row *row, char *ret)
{
    const char *const end = ret + ROW_ANSWER_MAX;
    char *to = put(ret, end, strview_of("{\"intent\":\""), false);

    to = put(to, end, strview_of(intent_infos[row->intent].name), false);
    to = put(to, end, strview_of("\""), false);
    for (unsigned i = 0; i < N_SLOTS; i++) {
        if (!(row->have & SLOT_BIT(i))) {
            continue;
        }
        const bool text = slot_infos[i].kind == SLOT_TEXT || slot_infos[i].kind == SLOT_WORD;
        to = put(to, end, strview_of(",\""), false);
        to = put(to, end, strview_of(slot_infos[i].name), false);
        to = put(to, end, strview_of(text ? "\":\"" : "\":"), false);
        to = put(to, end, row_value(row, (enum slot)i), text);
        to = put(to, end, strview_of(text ? "\"" : ""), false);
    }
    (void)put(to, end, strview_of("}"), false);
}

void row_template(const struct row *row, char *ret)
{
    snprintf(ret, ROW_TEMPLATE_MAX, "%s/%08x", intent_infos[row->intent].name,
             (unsigned)(row->template >> 32));
}
