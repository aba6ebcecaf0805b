/* One line of a grammar, read into nodes by recursive descent. A line is short and brackets nest
 * to a fixed depth, so recursion is bounded. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "train/commands/grammar.h"
#include "train/commands/number.h"

#define ITEMS_MAX 64u /* in a row between two brackets or bars */

static int alternatives(struct reading *in, char end, uint32_t *ret_node);

static bool blank(char c)
{
    return c == ' ' || c == '\t';
}

static void skip(struct reading *in)
{
    while (in->at < in->end && blank(*in->at)) {
        in->at++;
    }
}

static bool special(char c)
{
    return blank(c) || memchr("[]()|<>{}", c, 9) != NULL;
}

/* A word: up to a mark of the language, or to what is built in: 8:%digits(10,59). */
static struct strview plain(struct reading *in)
{
    struct strview v = {.data = in->at};

    while (in->at < in->end && !special(*in->at)) {
        if (*in->at == '%' && in->at > v.data && in->end - in->at > 1 && in->at[1] >= 'a' &&
            in->at[1] <= 'z') {
            break;
        }
        in->at++;
    }
    v.n = (size_t)(in->at - v.data);
    return v;
}

/* A name up to one of two marks, which stay. */
static struct strview name_until(struct reading *in, char a, char b)
{
    struct strview v = {.data = in->at};

    while (in->at < in->end && *in->at != a && *in->at != b && !blank(*in->at)) {
        in->at++;
    }
    v.n = (size_t)(in->at - v.data);
    return v;
}

static int expect(struct reading *in, char c)
{
    if (in->at == in->end || *in->at != c) {
        return SAY(in, GRAMMAR_SYNTAX, "'%c' is missing", c);
    }
    in->at++;
    return 0;
}

/* "5:" or "20%" before an alternative or in an optional part: taken if it is there. */
static bool leading(struct reading *in, char mark, uint32_t max, uint32_t *ret)
{
    const char *const was = in->at;

    skip(in);
    struct strview v = plain(in);
    if (v.n > 1 && v.data[v.n - 1] == mark) {
        v.n--;
        if (grammar_number(v, max, ret)) {
            return true;
        }
    }
    in->at = was;
    return false;
}

static int named_rule(struct reading *in, struct strview name, uint32_t *ret_node)
{
    uint32_t at;

    if (name.n == 0 || name.n > 48) {
        return SAY(in, GRAMMAR_SYNTAX, "a rule's name has 1 to 48 letters");
    }
    const int r = grammar_keep(in->g, name, &at);
    return r != 0 ? r
                  : grammar_node(
                        in->g,
                        (struct node){.kind = NODE_RULE, .at = at, .n = in->line, .how = in->file},
                        ret_node);
}

/* <rule> or <=slot> */
static int reference(struct reading *in, uint32_t *ret_node)
{
    const bool same = in->at < in->end && *in->at == '=';

    in->at += same;
    const struct strview name = name_until(in, '>', '>');
    int r = expect(in, '>');
    if (r != 0) {
        return r;
    }
    if (!same) {
        return named_rule(in, name, ret_node);
    }
    const unsigned slot = slot_find(name);
    if (slot == N_SLOTS) {
        return SAY(in, GRAMMAR_SLOT, "no slot is called %.*s", (int)name.n, name.data);
    }
    return grammar_node(in->g, (struct node){.kind = NODE_SAME, .slot = (uint8_t)slot}, ret_node);
}

/* {slot}, {slot:rule} or {slot=words} */
static int capture(struct reading *in, uint32_t *ret_node)
{
    struct strview name = {.data = in->at};
    uint32_t inner;

    while (in->at < in->end && strchr(":=}", *in->at) == NULL) {
        in->at++;
    }
    name.n = (size_t)(in->at - name.data);
    const unsigned slot = slot_find(name);
    if (slot == N_SLOTS) {
        return SAY(in, GRAMMAR_SLOT, "no slot is called %.*s", (int)name.n, name.data);
    }
    int r;
    if (in->at < in->end && *in->at == '=') {
        in->at++;
        r = alternatives(in, '}', &inner);
    } else {
        if (in->at < in->end && *in->at == ':') {
            in->at++;
            name = name_until(in, '}', '}');
        }
        r = named_rule(in, name, &inner);
    }
    if (r == 0) {
        r = expect(in, '}');
    }
    return r != 0
               ? r
               : grammar_node(
                     in->g, (struct node){.kind = NODE_CAPTURE, .slot = (uint8_t)slot, .at = inner},
                     ret_node);
}

/* slot=value, behind an @ or in the head of a block */
int expr_set(struct reading *in, struct strview word, uint32_t *ret_node)
{
    const char *eq = memchr(word.data, '=', word.n);
    uint32_t at;

    if (!eq) {
        return SAY(in, GRAMMAR_SYNTAX, "slot=value is wanted");
    }
    const struct strview name = {.data = word.data, .n = (size_t)(eq - word.data)};
    const struct strview value = {.data = eq + 1, .n = word.n - name.n - 1};
    const unsigned slot = slot_find(name);
    if (slot == N_SLOTS) {
        return SAY(in, GRAMMAR_SLOT, "no slot is called %.*s", (int)name.n, name.data);
    }
    if (value.n > GRAMMAR_VALUE_MAX) {
        return SAY(in, GRAMMAR_LIMIT, "a value of more than %u bytes", GRAMMAR_VALUE_MAX);
    }
    if (!slot_takes((enum slot)slot, value)) {
        return SAY(in, GRAMMAR_SLOT, "%.*s cannot be %.*s", (int)name.n, name.data, (int)value.n,
                   value.data);
    }
    const int r = grammar_keep(in->g, value, &at);
    return r != 0 ? r
                  : grammar_node(in->g,
                                 (struct node){.kind = NODE_SET, .slot = (uint8_t)slot, .at = at},
                                 ret_node);
}

/* %num(1,100) and its like, and %pseudo */
static int builtin(struct reading *in, struct strview word, uint32_t *ret_node)
{
    static const char *const names[] = {[NUMBER_ANY] = "%num",
                                        [NUMBER_DIGITS] = "%digits",
                                        [NUMBER_WORDS] = "%words",
                                        [NUMBER_HALF] = "%half"};
    uint32_t lo, hi;

    if (strview_is(word, "%pseudo")) {
        return grammar_node(in->g, (struct node){.kind = NODE_PSEUDO}, ret_node);
    }
    if (strview_is(word, "%bare")) {
        return grammar_node(in->g, (struct node){.kind = NODE_BARE}, ret_node);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        if (!strview_is(word, names[i])) {
            continue;
        }
        int r = expect(in, '(');
        if (r != 0) {
            return r;
        }
        const bool first = grammar_number(name_until(in, ',', ')'), NUMBER_MAX, &lo);
        r = expect(in, ',');
        if (r != 0) {
            return r;
        }
        if (!first || !grammar_number(name_until(in, ')', ')'), NUMBER_MAX, &hi) || lo > hi) {
            return SAY(in, GRAMMAR_SYNTAX, "a range is two numbers up to %u", NUMBER_MAX);
        }
        r = expect(in, ')');
        return r != 0 ? r
                      : grammar_node(in->g,
                                     (struct node){
                                         .kind = NODE_NUMBER, .how = (uint8_t)i, .at = lo, .n = hi},
                                     ret_node);
    }
    return SAY(in, GRAMMAR_SYNTAX, "%.*s is nothing built in", (int)word.n, word.data);
}

static int maybe(struct reading *in, uint32_t *ret_node)
{
    uint32_t percent = 50, inner;

    (void)leading(in, '%', 100, &percent);
    int r = alternatives(in, ']', &inner);
    if (r == 0) {
        r = expect(in, ']');
    }
    return r != 0
               ? r
               : grammar_node(in->g, (struct node){.kind = NODE_MAYBE, .at = inner, .sum = percent},
                              ret_node);
}

static int item(struct reading *in, uint32_t *ret_node)
{
    const char c = *in->at;
    uint32_t at;
    int r;

    if (special(c)) {
        in->at++;
        if (c == '[') {
            return maybe(in, ret_node);
        }
        if (c == '(') {
            r = alternatives(in, ')', ret_node);
            return r != 0 ? r : expect(in, ')');
        }
        return c == '<'   ? reference(in, ret_node)
               : c == '{' ? capture(in, ret_node)
                          : SAY(in, GRAMMAR_SYNTAX, "'%c' closes nothing", c);
    }
    struct strview word = plain(in);
    if (word.n > 1 && c == '@') {
        word.data++;
        word.n--;
        return expr_set(in, word, ret_node);
    }
    if (word.n > 1 && c == '%') {
        word.n = strview_starts(word, "%pseudo") ? 7 : word.n; /* %pseudos, %pseudo's */
        in->at = word.data + word.n;
        return builtin(in, word, ret_node);
    }
    if (word.n == 1 && c == '*') {
        return grammar_node(in->g, (struct node){.kind = NODE_STAR}, ret_node);
    }
    r = grammar_keep(in->g, word, &at);
    return r != 0 ? r : grammar_node(in->g, (struct node){.kind = NODE_WORD, .at = at}, ret_node);
}

static int row_of(struct grammar *g, const uint32_t *items, uint32_t n, uint32_t *ret_node)
{
    uint32_t at;

    if (n == 1) {
        *ret_node = items[0];
        return 0;
    }
    const int r = grammar_kids(g, n, &at);
    if (r != 0) {
        return r;
    }
    for (uint32_t i = 0; i < n; i++) {
        g->kids[at + i] = (struct kid){.node = items[i]};
    }
    return grammar_node(g, (struct node){.kind = NODE_SEQ, .at = at, .n = n}, ret_node);
}

/* An item that follows another without a space is said without one: the mark for it goes inside
 * an optional part, so that it goes away with it. */
static int glued(struct reading *in, uint32_t node, uint32_t *ret_node)
{
    struct grammar *g = in->g;
    const bool inside = g->nodes[node].kind == NODE_MAYBE;
    uint32_t both[2], seq;

    both[1] = inside ? g->nodes[node].at : node;
    int r = grammar_node(g, (struct node){.kind = NODE_GLUE}, &both[0]);
    if (r == 0) {
        r = row_of(g, both, 2, &seq);
    }
    if (r != 0) {
        return r;
    }
    if (inside) {
        g->nodes[node].at = seq;
    }
    *ret_node = inside ? node : seq;
    return 0;
}

/* => value: what the words before it stand for in a slot */
static int meaning(struct reading *in, uint32_t *node)
{
    uint32_t at;

    skip(in);
    const struct strview value = plain(in);
    if (value.n == 0) {
        return SAY(in, GRAMMAR_SYNTAX, "no value follows =>");
    }
    if (value.n > GRAMMAR_VALUE_MAX) {
        return SAY(in, GRAMMAR_LIMIT, "a value of more than %u bytes", GRAMMAR_VALUE_MAX);
    }
    const int r = grammar_keep(in->g, value, &at);
    return r != 0
               ? r
               : grammar_node(in->g, (struct node){.kind = NODE_MEANS, .at = *node, .n = at}, node);
}

static int sequence(struct reading *in, char end, uint32_t *ret_node)
{
    uint32_t items[ITEMS_MAX], n = 0;
    bool means = false;
    int r;

    for (;;) {
        const char *const was = in->at;
        skip(in);
        if (in->at == in->end || *in->at == '|' || *in->at == end) {
            break;
        }
        if (means) {
            return SAY(in, GRAMMAR_SYNTAX, "nothing may follow the value behind =>");
        }
        if (n == ITEMS_MAX) {
            return SAY(in, GRAMMAR_LIMIT, "more than %u words in a row", ITEMS_MAX);
        }
        const bool glue = n > 0 && in->at == was;
        if (in->end - in->at >= 2 && memcmp(in->at, "=>", 2) == 0) {
            in->at += 2;
            r = row_of(in->g, items, n, &items[0]);
            if (r == 0) {
                r = meaning(in, &items[0]);
            }
            n = 1;
            means = true;
        } else {
            r = item(in, &items[n]);
            if (r == 0 && glue) {
                r = glued(in, items[n], &items[n]);
            }
            n++;
        }
        if (r != 0) {
            return r;
        }
    }
    return row_of(in->g, items, n, ret_node);
}

int choices_add(struct choices *c, struct kid kid)
{
    if (c->n == c->room) {
        const uint32_t room = c->room ? 2 * c->room : 8;
        struct kid *kids = realloc(c->kids, room * sizeof(*kids));
        if (!kids) {
            return -ENOMEM;
        }
        c->kids = kids;
        c->room = room;
    }
    c->kids[c->n++] = kid;
    return 0;
}

int choices_end(struct grammar *g, struct choices *c, uint32_t *ret_node)
{
    uint32_t at, sum = 0;
    const int r = grammar_kids(g, c->n, &at);

    if (r != 0) {
        return r;
    }
    for (uint32_t i = 0; i < c->n; i++) {
        sum += c->kids[i].upto; /* below 2^20 nodes of 10^6 or less: checked as it grows */
        if (sum > UINT32_MAX - GRAMMAR_WEIGHT_MAX) {
            return GRAMMAR_LIMIT;
        }
        g->kids[at + i] = c->kids[i];
        g->kids[at + i].upto = sum;
    }
    const uint32_t n = c->n;
    c->n = 0;
    return grammar_node(g, (struct node){.kind = NODE_ALT, .at = at, .n = n, .sum = sum}, ret_node);
}

static int all_until(struct reading *in, char end, struct choices *into)
{
    for (;;) {
        uint32_t weight = 1, node;
        (void)leading(in, ':', GRAMMAR_WEIGHT_MAX, &weight);
        if (weight == 0) {
            return SAY(in, GRAMMAR_SYNTAX, "a weight is at least 1");
        }
        int r = sequence(in, end, &node);
        if (r == 0) {
            r = choices_add(into, (struct kid){.node = node, .upto = weight, .line = in->line});
        }
        if (r != 0) {
            return r;
        }
        if (in->at == in->end || *in->at != '|') {
            return 0;
        }
        in->at++;
    }
}

static int alternatives(struct reading *in, char end, uint32_t *ret_node)
{
    struct choices c = {0};
    int r;

    if (++in->nest > GRAMMAR_NEST_MAX) {
        return SAY(in, GRAMMAR_LIMIT, "more than %u brackets in brackets", GRAMMAR_NEST_MAX);
    }
    r = all_until(in, end, &c);
    if (r == 0 && c.n == 1) {
        *ret_node = c.kids[0].node;
    } else if (r == 0) {
        r = choices_end(in->g, &c, ret_node);
    }
    free(c.kids);
    in->nest--;
    return r;
}

int expr_line(struct reading *in, struct choices *into)
{
    in->nest = 0;
    const int r = all_until(in, '\0', into);

    if (r != 0) {
        return r;
    }
    return in->at == in->end ? 0 : SAY(in, GRAMMAR_SYNTAX, "'%c' closes nothing", *in->at);
}
