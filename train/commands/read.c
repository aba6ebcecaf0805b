/* Files of a grammar: heads that begin a block, and the indented lines of the block. */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/whole_file.h"
#include "train/commands/grammar.h"

static const char *const noises[N_NOISES] = {"filler",     "repeat", "typo",
                                             "apostrophe", "lower",  "full"};

void grammar_init(struct grammar *g)
{
    *g = (struct grammar){.filler = UINT32_MAX};
    buf_init(&g->text, GRAMMAR_TEXT_MAX);
}

void grammar_deinit(struct grammar *g)
{
    buf_deinit(&g->text);
    free(g->nodes);
    free(g->kids);
    free(g->rules);
    free(g->order);
    *g = (struct grammar){0};
}

int grammar_say(struct grammar_fault *fault, const struct grammar *g, uint8_t file, uint32_t line,
                int r, const char *fmt, ...)
{
    va_list args;

    if (!fault) {
        return r;
    }
    fault->line = line;
    memcpy(fault->file, g->files[file], sizeof(fault->file));
    va_start(args, fmt);
    vsnprintf(fault->text, sizeof(fault->text), fmt, args);
    va_end(args);
    for (char *c = fault->text; *c; c++) {
        *c = *c >= ' ' && *c <= '~' ? *c : '?';
    }
    return r;
}

int grammar_keep(struct grammar *g, struct strview text, uint32_t *ret_at)
{
    const size_t at = g->text.n;
    int r = buf_reserve(&g->text, text.n + 1);

    if (r == 0) {
        r = buf_append(&g->text, text.data, text.n);
    }
    if (r == 0) {
        r = buf_append(&g->text, "", 1);
    }
    if (r == 0) {
        *ret_at = (uint32_t)at;
    }
    return r == -E2BIG ? GRAMMAR_LIMIT : r;
}

/* Room for `more` behind n elements: 0, GRAMMAR_LIMIT or -ENOMEM. */
static int widen(void **data, uint32_t n, uint32_t more, uint32_t *room, uint32_t max, size_t each)
{
    if (more > max - n) {
        return GRAMMAR_LIMIT;
    }
    if (n + more <= *room) {
        return 0;
    }
    uint32_t want = *room ? *room : 256;
    while (want < n + more) {
        want *= 2;
    }
    void *grown = realloc(*data, want * each);
    if (!grown) {
        return -ENOMEM;
    }
    *data = grown;
    *room = want;
    return 0;
}

int grammar_node(struct grammar *g, struct node node, uint32_t *ret_at)
{
    void *data = g->nodes;
    const int r = widen(&data, g->n_nodes, 1, &g->room_nodes, GRAMMAR_NODES_MAX, sizeof(*g->nodes));

    g->nodes = data;
    if (r == 0) {
        g->nodes[g->n_nodes] = node;
        *ret_at = g->n_nodes++;
    }
    return r;
}

int grammar_kids(struct grammar *g, uint32_t n, uint32_t *ret_at)
{
    void *data = g->kids;
    const int r = widen(&data, g->n_kids, n, &g->room_kids, GRAMMAR_NODES_MAX, sizeof(*g->kids));

    g->kids = data;
    if (r == 0) {
        *ret_at = g->n_kids;
        g->n_kids += n;
    }
    return r;
}

static struct strview next_word(struct reading *in)
{
    while (in->at < in->end && (*in->at == ' ' || *in->at == '\t')) {
        in->at++;
    }
    struct strview v = {.data = in->at};
    while (in->at < in->end && *in->at != ' ' && *in->at != '\t') {
        in->at++;
    }
    v.n = (size_t)(in->at - v.data);
    return v;
}

bool grammar_number(struct strview v, uint32_t max, uint32_t *ret)
{
    uint64_t n = 0;

    for (size_t i = 0; i < v.n; i++) {
        if (v.data[i] < '0' || v.data[i] > '9') {
            return false;
        }
        n = n * 10 + (uint32_t)(v.data[i] - '0');
        if (n > max) {
            return false;
        }
    }
    *ret = (uint32_t)n;
    return v.n > 0;
}

static int mix_line(struct reading *in)
{
    const struct strview name = next_word(in);
    const unsigned intent = intent_find(name);

    if (intent == N_INTENTS) {
        return SAY(in, GRAMMAR_NAME, "no intent is called %.*s", (int)name.n, name.data);
    }
    if (!grammar_number(next_word(in), GRAMMAR_WEIGHT_MAX, &in->g->mix[intent])) {
        return SAY(in, GRAMMAR_SYNTAX, "a weight is a number up to %u", GRAMMAR_WEIGHT_MAX);
    }
    return 0;
}

static int noise_line(struct reading *in)
{
    const struct strview name = next_word(in);
    unsigned i = 0;

    while (i < N_NOISES && !strview_is(name, noises[i])) {
        i++;
    }
    if (i == N_NOISES) {
        return SAY(in, GRAMMAR_NAME, "no noise is called %.*s", (int)name.n, name.data);
    }
    if (!grammar_number(next_word(in), 1000, &in->g->noise[i])) {
        return SAY(in, GRAMMAR_SYNTAX, "noise is told in parts of 1000");
    }
    return 0;
}

/* What a head says behind the name of a block of frames: intent, wrap, weight=N, slot=value. */
static int frames_head(struct reading *in, struct rule *rule)
{
    uint32_t sets[N_SLOTS], n = 0;
    struct strview word = next_word(in);
    int r;

    rule->intent = (uint8_t)intent_find(word);
    if (rule->intent == N_INTENTS) {
        return SAY(in, GRAMMAR_NAME, "no intent is called %.*s", (int)word.n, word.data);
    }
    word = next_word(in);
    if (word.n == 0 || word.n > 48) {
        return SAY(in, GRAMMAR_SYNTAX, "an intent is followed by the name of a wrap");
    }
    r = grammar_keep(in->g, word, &rule->wrap);
    while (r == 0 && (word = next_word(in)).n > 0) {
        if (strview_starts(word, "weight=")) {
            word.data += 7;
            word.n -= 7;
            if (!grammar_number(word, GRAMMAR_WEIGHT_MAX, &rule->weight)) {
                return SAY(in, GRAMMAR_SYNTAX, "a weight is a number up to %u", GRAMMAR_WEIGHT_MAX);
            }
        } else if (n == N_SLOTS) {
            return SAY(in, GRAMMAR_LIMIT, "more slots than there are");
        } else {
            r = expr_set(in, word, &sets[n++]);
        }
    }
    uint32_t at;
    if (r == 0) {
        r = grammar_kids(in->g, n, &at);
    }
    for (uint32_t i = 0; r == 0 && i < n; i++) {
        in->g->kids[at + i] = (struct kid){.node = sets[i]};
    }
    return r != 0 ? r
                  : grammar_node(in->g, (struct node){.kind = NODE_SEQ, .at = at, .n = n},
                                 &rule->sets);
}

/* A head that begins a block: the block is in *ret_rule. */
static int head(struct reading *in, enum rule_kind kind, struct rule *ret_rule)
{
    const struct strview name = next_word(in);
    struct rule rule = {.line = in->line, .file = in->file, .kind = (uint8_t)kind};

    if (name.n == 0 || name.n > 48) {
        return SAY(in, GRAMMAR_SYNTAX, "a block's name has 1 to 48 letters");
    }
    for (size_t i = 0; i < name.n; i++) {
        const char c = name.data[i];
        if (c != '_' && (c < 'a' || c > 'z') && (c < '0' || c > '9')) {
            return SAY(in, GRAMMAR_SYNTAX, "a block's name has small letters, digits and _");
        }
    }
    int r = grammar_keep(in->g, name, &rule.name);
    if (r == 0 && kind == RULE_FRAMES) {
        r = frames_head(in, &rule);
    }
    const struct strview more = next_word(in);
    if (r == 0 && kind == RULE_WORDS && strview_is(more, "proper")) {
        rule.proper = true;
    } else if (r == 0 && kind == RULE_WORDS && strview_is(more, "part")) {
        rule.part = true;
    } else if (r == 0 && more.n > 0) {
        r = SAY(in, GRAMMAR_SYNTAX, "%.*s is too much", (int)more.n, more.data);
    }
    *ret_rule = rule;
    return r;
}

/* The block that is open, with its alternatives so far. */
struct block {
    bool open;
    struct rule rule;
    struct choices lines;
};

static int block_end(struct reading *in, struct block *b)
{
    struct grammar *g = in->g;
    void *data = g->rules;

    if (!b->open) {
        return 0;
    }
    b->open = false;
    if (b->lines.n == 0) {
        in->line = b->rule.line;
        return SAY(in, GRAMMAR_SYNTAX, "the block %s is empty", grammar_text(g, b->rule.name));
    }
    int r = choices_end(g, &b->lines, &b->rule.node);
    if (r == 0) {
        r = widen(&data, g->n_rules, 1, &g->room_rules, GRAMMAR_RULES_MAX, sizeof(*g->rules));
        g->rules = data;
    }
    if (r == 0) {
        g->rules[g->n_rules++] = b->rule;
    }
    return r;
}

static int line_of(struct reading *in, struct block *b)
{
    const char *const start = in->at;
    const struct strview first = next_word(in);

    if (first.n == 0 || first.data[0] == '#') {
        return 0;
    }
    if (first.data != start) { /* indented */
        if (!b->open) {
            return SAY(in, GRAMMAR_SYNTAX, "an indented line outside any block");
        }
        in->at = start;
        return expr_line(in, &b->lines);
    }
    int r = block_end(in, b);
    if (r != 0) {
        return r;
    }
    if (strview_is(first, "mix")) {
        return mix_line(in);
    }
    if (strview_is(first, "noise")) {
        return noise_line(in);
    }
    if (strview_is(first, "=")) {
        r = head(in, RULE_WORDS, &b->rule);
    } else if (strview_is(first, "frames")) {
        r = head(in, RULE_FRAMES, &b->rule);
    } else if (strview_is(first, "wrap")) {
        r = head(in, RULE_WRAP, &b->rule);
    } else {
        r = SAY(in, GRAMMAR_SYNTAX, "a line begins with =, frames, wrap, mix, noise, # or a space");
    }
    b->open = r == 0;
    return r;
}

/* Bytes that no grammar has: control characters, and what is not UTF-8 (RFC 3629) of up to three
 * bytes. */
static bool sound(struct strview line)
{
    for (size_t i = 0; i < line.n; i++) {
        const uint8_t c = (uint8_t)line.data[i];
        const size_t more = c < 0x80 ? 0 : c < 0xc2 ? 9 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 9;
        if ((c < ' ' && c != '\t') || c == 0x7f || i + more >= line.n) {
            return false;
        }
        for (size_t k = 1; k <= more; k++) {
            if (((uint8_t)line.data[i + k] & 0xc0) != 0x80) {
                return false;
            }
        }
        const uint8_t second = more > 0 ? (uint8_t)line.data[i + 1] : 0;
        if ((c == 0xe0 && second < 0xa0) || (c == 0xed && second > 0x9f)) {
            return false; /* longer than it need be; half of a pair of UTF-16 */
        }
        i += more;
    }
    return true;
}

int grammar_read(struct grammar *g, const char *name, struct strview text,
                 struct grammar_fault *ret_fault)
{
    struct block block = {0};
    struct reading in = {.g = g, .file = g->n_files, .fault = ret_fault};
    const char *at = text.data, *const end = text.data + text.n;
    int r = 0;

    if (g->n_files == GRAMMAR_FILES_MAX) {
        return grammar_say(ret_fault, g, 0, 0, GRAMMAR_LIMIT, "more than %u files",
                           GRAMMAR_FILES_MAX);
    }
    strview_copy(g->files[g->n_files++], sizeof(g->files[0]), strview_of(name));
    while (r == 0 && at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        stop = stop ? stop : end;
        in.at = at;
        in.end = stop;
        in.line++;
        if ((size_t)(stop - at) > GRAMMAR_LINE_MAX) {
            r = SAY(&in, GRAMMAR_LIMIT, "a line of more than %u bytes", GRAMMAR_LINE_MAX);
        } else if (!sound((struct strview){.data = at, .n = (size_t)(stop - at)})) {
            r = SAY(&in, GRAMMAR_SYNTAX, "a byte that is no text");
        } else {
            if (ret_fault) {
                ret_fault->text[0] = '\0';
            }
            r = line_of(&in, &block);
        }
        at = stop < end ? stop + 1 : end;
    }
    if (r == 0) {
        r = block_end(&in, &block);
    }
    if (r == GRAMMAR_LIMIT && ret_fault && ret_fault->text[0] == '\0') {
        r = SAY(&in, r, "the grammar is larger than it may be");
    }
    free(block.lines.kids);
    return r;
}

static int is_text(const struct dirent *entry)
{
    const size_t n = strlen(entry->d_name);
    return entry->d_name[0] != '.' && n > 4 && strcmp(entry->d_name + n - 4, ".txt") == 0;
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int read_file(struct grammar *g, int dir, const char *name, struct grammar_fault *ret_fault)
{
    struct buf text;

    buf_init(&text, GRAMMAR_TEXT_MAX);
    int r = whole_file_read(&text, dir, name, 0);
    if (r == 0) {
        r = grammar_read(g, name, (struct strview){.data = (char *)text.data, .n = text.n},
                         ret_fault);
    } else {
        grammar_say(ret_fault, g, 0, 0, r, "%s: %s", name, whole_file_why(r));
        r = r > 0 ? -EINVAL : r;
    }
    buf_deinit(&text);
    return r;
}

int grammar_read_folder(struct grammar *g, const char *path, struct grammar_fault *ret_fault)
{
    struct dirent **entries = NULL;
    const int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const int n = dir < 0 ? -1 : scandirat(dir, ".", &entries, is_text, by_bytes);
    int r = n < 0 ? -errno : 0;

    if (n < 0) {
        grammar_say(ret_fault, g, 0, 0, r, "%s: %s", path, strerror(-r));
    }
    for (int i = 0; i < n; i++) {
        if (r == 0) {
            r = read_file(g, dir, entries[i]->d_name, ret_fault);
        }
        free(entries[i]);
    }
    free(entries);
    if (dir >= 0) {
        close(dir);
    }
    return r;
}
