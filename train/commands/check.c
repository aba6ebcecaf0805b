/* Names bound to rules, and what can be known of a grammar before a sentence is drawn: that no
 * rule comes back to itself, and how often a frame can fill each slot. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "train/commands/grammar.h"

/* How often each slot is filled, and stars stand, in some piece: at least, at most; 2 is many. */
struct fill {
    uint8_t min[N_SLOTS], max[N_SLOTS], star_min, star_max;
};

struct checking {
    struct grammar *g;
    struct grammar_fault *fault;
    const struct rule *rule; /* whose nodes are looked at */
    unsigned depth;          /* rules that we are below of */
};

static int rule_fill(struct checking *c, uint32_t rule);
static int node_fill(struct checking *c, uint32_t at, struct fill *ret);

static int say_rule(struct checking *c, const struct rule *rule, int r, const char *what)
{
    return grammar_say(c->fault, c->g, rule->file, rule->line, r, "%s %s",
                       grammar_text(c->g, rule->name), what);
}

static uint8_t plus(uint8_t a, uint8_t b)
{
    return a + b > 2 ? 2 : (uint8_t)(a + b);
}

static void then(struct fill *to, const struct fill *more)
{
    for (unsigned i = 0; i < N_SLOTS; i++) {
        to->min[i] = plus(to->min[i], more->min[i]);
        to->max[i] = plus(to->max[i], more->max[i]);
    }
    to->star_min = plus(to->star_min, more->star_min);
    to->star_max = plus(to->star_max, more->star_max);
}

static void either(struct fill *to, const struct fill *other)
{
    for (unsigned i = 0; i < N_SLOTS; i++) {
        to->min[i] = to->min[i] < other->min[i] ? to->min[i] : other->min[i];
        to->max[i] = to->max[i] > other->max[i] ? to->max[i] : other->max[i];
    }
    to->star_min = to->star_min < other->star_min ? to->star_min : other->star_min;
    to->star_max = to->star_max > other->star_max ? to->star_max : other->star_max;
}

static int kids_fill(struct checking *c, const struct node *n, struct fill *ret)
{
    for (uint32_t i = 0; i < n->n; i++) {
        struct fill one = {0};
        const int r = node_fill(c, c->g->kids[n->at + i].node, &one);
        if (r != 0) {
            return r;
        }
        if (n->kind == NODE_SEQ || i == 0) {
            then(ret, &one);
        } else {
            either(ret, &one);
        }
    }
    return 0;
}

static int find_rule(const struct grammar *g, const char *name, uint32_t *ret)
{
    uint32_t lo = 0, hi = g->n_rules;

    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;
        const int order = strcmp(name, grammar_text(g, g->rules[g->order[mid]].name));
        if (order == 0) {
            *ret = g->order[mid];
            return 0;
        }
        if (order < 0) {
            hi = mid;
        } else {
            lo = mid + 1;
        }
    }
    return GRAMMAR_NAME;
}

static int reference_fill(struct checking *c, struct node *n, struct fill *ret)
{
    const struct rule *const was = c->rule;
    const uint8_t file = n->how;
    const uint32_t line = n->n;
    uint32_t target;

    if (find_rule(c->g, grammar_text(c->g, n->at), &target) != 0 ||
        c->g->rules[target].kind == RULE_WRAP) {
        return grammar_say(c->fault, c->g, file, line, GRAMMAR_NAME, "no rule is called %s",
                           grammar_text(c->g, n->at));
    }
    struct rule *rule = &c->g->rules[target];
    if (rule->seen == 1) {
        return grammar_say(c->fault, c->g, file, line, GRAMMAR_RECURSIVE, "%s comes back to itself",
                           grammar_text(c->g, rule->name));
    }
    if (++c->depth > GRAMMAR_DEPTH_MAX) { /* before it goes down, or the stack would not do */
        return say_rule(c, was, GRAMMAR_RECURSIVE, "has too many rules below rules");
    }
    int r = rule_fill(c, target);
    c->depth--;
    c->rule = was;
    if (r != 0) {
        return r;
    }
    rule->used = true;
    struct rule *mine = &c->g->rules[was - c->g->rules];
    if (rule->depth >= mine->depth) {
        mine->depth = (uint8_t)(rule->depth + 1);
    }
    if (mine->depth > GRAMMAR_DEPTH_MAX) {
        return say_rule(c, mine, GRAMMAR_RECURSIVE, "has too many rules below rules");
    }
    memcpy(ret->min, rule->min, sizeof(ret->min));
    memcpy(ret->max, rule->max, sizeof(ret->max));
    n->n = n->at; /* the name, for the template; the line is not needed any more */
    n->at = target;
    return 0;
}

static int node_fill(struct checking *c, uint32_t at, struct fill *ret)
{
    struct node *n = &c->g->nodes[at];
    struct fill nothing = {0};
    int r;

    switch (n->kind) {
    case NODE_SEQ:
    case NODE_ALT:
        return kids_fill(c, n, ret);
    case NODE_MAYBE:
        r = node_fill(c, n->at, ret);
        either(ret, &nothing);
        return r;
    case NODE_MEANS:
        return node_fill(c, n->at, ret);
    case NODE_RULE:
        return reference_fill(c, n, ret);
    case NODE_CAPTURE: /* what is filled inside is not: the words are one value */
        r = node_fill(c, n->at, &nothing);
        ret->min[n->slot] = ret->max[n->slot] = 1;
        return r;
    case NODE_SET:
        ret->min[n->slot] = ret->max[n->slot] = 1;
        return 0;
    case NODE_STAR:
        ret->star_min = ret->star_max = 1;
        return 0;
    default:
        return 0;
    }
}

/* A frame gives answers that its intent may have, and that have what it must. */
static int frame_check(struct checking *c, const struct rule *rule, const struct fill *fill,
                       uint32_t line)
{
    const struct intent_info *intent = &intent_infos[rule->intent];

    for (unsigned i = 0; i < N_SLOTS; i++) {
        const char *fault = NULL;
        if (fill->max[i] > 1) {
            fault = "can be filled twice";
        } else if (fill->max[i] && !(intent->may & SLOT_BIT(i))) {
            fault = "is no slot of the intent";
        } else if (!fill->min[i] && (intent->must & SLOT_BIT(i))) {
            fault = "need not be filled, but has to";
        }
        if (fault) {
            return grammar_say(c->fault, c->g, rule->file, line, GRAMMAR_SLOT, "%s: %s %s",
                               grammar_text(c->g, rule->name), slot_infos[i].name, fault);
        }
    }
    return 0;
}

static int frames_fill(struct checking *c, const struct rule *rule, struct fill *ret)
{
    const struct node *n = &c->g->nodes[rule->node];
    struct fill sets = {0};
    int r = node_fill(c, rule->sets, &sets);

    for (uint32_t i = 0; r == 0 && i < n->n; i++) {
        const struct kid *kid = &c->g->kids[n->at + i];
        struct fill one = sets;
        struct fill words = {0};
        r = node_fill(c, kid->node, &words);
        then(&one, &words);
        if (r == 0) {
            r = frame_check(c, rule, &one, kid->line);
        }
        if (i == 0) {
            *ret = one;
        } else {
            either(ret, &one);
        }
    }
    return r;
}

static int rule_fill(struct checking *c, uint32_t at)
{
    struct rule *rule = &c->g->rules[at];
    struct fill fill = {0};

    if (rule->seen == 2) {
        return 0;
    }
    rule->seen = 1;
    c->rule = rule;
    int r =
        rule->kind == RULE_FRAMES ? frames_fill(c, rule, &fill) : node_fill(c, rule->node, &fill);
    if (r != 0) {
        return r;
    }
    const uint8_t stars = rule->kind == RULE_WRAP;
    if (fill.star_min != stars || fill.star_max != stars) {
        return say_rule(c, rule, GRAMMAR_SYNTAX,
                        stars ? "is a wrap: each line of it has one *" : "has a *, but is no wrap");
    }
    memcpy(rule->min, fill.min, sizeof(fill.min));
    memcpy(rule->max, fill.max, sizeof(fill.max));
    rule->seen = 2;
    return 0;
}

/* A block of frames is wrapped in something; @sum: of the weights of the intent's blocks. */
static int frames_check(struct checking *c, struct rule *rule, uint32_t *sum)
{
    uint32_t wrap;

    if (find_rule(c->g, grammar_text(c->g, rule->wrap), &wrap) != 0 ||
        c->g->rules[wrap].kind != RULE_WRAP) {
        return say_rule(c, rule, GRAMMAR_NAME, "names a wrap that is none");
    }
    c->g->rules[wrap].used = true;
    rule->wrap = wrap;
    rule->used = true;
    if (rule->weight == 0) {
        rule->weight = c->g->nodes[rule->node].sum;
    }
    if (__builtin_add_overflow(*sum, rule->weight, sum)) {
        return say_rule(c, rule, GRAMMAR_LIMIT, "makes the intent's weights too many");
    }
    return 0;
}

static int by_name(const void *a, const void *b, void *of)
{
    const struct grammar *const g = of;
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    const int order = strcmp(grammar_text(g, g->rules[x].name), grammar_text(g, g->rules[y].name));

    return order ? order : (x < y ? -1 : x > y);
}

static int sort_names(struct checking *c)
{
    struct grammar *g = c->g;

    g->order = malloc((g->n_rules ? g->n_rules : 1) * sizeof(*g->order));
    if (!g->order) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < g->n_rules; i++) {
        g->order[i] = i;
    }
    qsort_r(g->order, g->n_rules, sizeof(*g->order), by_name, g);
    for (uint32_t i = 1; i < g->n_rules; i++) {
        const struct rule *a = &g->rules[g->order[i - 1]], *b = &g->rules[g->order[i]];
        if (strcmp(grammar_text(g, a->name), grammar_text(g, b->name)) == 0) {
            return say_rule(c, b, GRAMMAR_NAME, "is the name of a block before");
        }
    }
    return 0;
}

/* Parts that are said here first. Captures are no part of a template. */
static void find_homes(struct grammar *g, uint32_t at, uint32_t home)
{
    const struct node *n = &g->nodes[at];
    struct rule *rule;

    switch (n->kind) {
    case NODE_SEQ:
    case NODE_ALT:
        for (uint32_t i = 0; i < n->n; i++) {
            find_homes(g, g->kids[n->at + i].node, home);
        }
        break;
    case NODE_MAYBE:
    case NODE_MEANS:
        find_homes(g, n->at, home);
        break;
    case NODE_RULE:
        rule = &g->rules[n->at];
        if (rule->part && rule->home == 0) {
            rule->home = home;
            find_homes(g, rule->node, home);
        }
        break;
    default:
        break;
    }
}

static void frames_home(struct grammar *g, const struct rule *rule)
{
    const struct node *n = &g->nodes[rule->node];

    for (uint32_t i = 0; i < n->n; i++) {
        const uint32_t line = g->kids[n->at + i].node;
        find_homes(g, line, line + 1);
    }
}

static int mix_check(struct checking *c, const bool *has)
{
    uint32_t any = 0;

    for (unsigned i = 0; i < N_INTENTS; i++) {
        any |= c->g->mix[i];
        if (c->g->mix[i] && !has[i]) {
            return grammar_say(c->fault, c->g, 0, 0, GRAMMAR_NAME,
                               "%s is mixed in, but has no frames", intent_infos[i].name);
        }
    }
    return any ? 0 : grammar_say(c->fault, c->g, 0, 0, GRAMMAR_NAME, "nothing is mixed in");
}

int grammar_check(struct grammar *g, struct grammar_fault *ret_fault)
{
    struct checking c = {.g = g, .fault = ret_fault};
    bool has[N_INTENTS] = {false};
    uint32_t sums[N_INTENTS] = {0};
    int r = sort_names(&c);

    for (uint32_t i = 0; r == 0 && i < g->n_rules; i++) {
        r = rule_fill(&c, i);
    }
    for (uint32_t i = 0; r == 0 && i < g->n_rules; i++) {
        if (g->rules[i].kind == RULE_FRAMES) {
            r = frames_check(&c, &g->rules[i], &sums[g->rules[i].intent]);
            frames_home(g, &g->rules[i]);
            has[g->rules[i].intent] = true;
        }
    }
    if (r != 0) {
        return r;
    }
    if (find_rule(g, "filler", &g->filler) == 0) {
        g->rules[g->filler].used = true;
    } else {
        g->noise[NOISE_FILLER] = 0;
    }
    r = mix_check(&c, has);
    for (uint32_t i = 0; r == 0 && i < g->n_rules; i++) {
        if (!g->rules[i].used) {
            return say_rule(&c, &g->rules[i], GRAMMAR_NAME, "is never used");
        }
    }
    return r;
}
