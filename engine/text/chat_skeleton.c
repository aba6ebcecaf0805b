/* chat_skeleton: a template's text, read once.
 *
 * The text is a program. It is not run: what it would write is put down in the order of the text,
 * and so is what it uses. Whatever could change a content or leave a message out (filters, slices,
 * conditions on contents) is known by name, and a name that is not known makes the text unknown.
 *
 * Branches that need tools or documents are left out, because conversations here have none. */
#include "engine/text/chat_skeleton.h"

#include <stdint.h>
#include <string.h>

#include "base/compiler.h"

#define TOKENS_MAX 256u /* in one tag */
#define DEPTH_MAX 32u   /* nested tags */
#define BOUND_MAX 32u   /* variables of the text's own */

enum token_kind { TOKEN_NAME, TOKEN_STRING, TOKEN_SIGN };

struct token {
    enum token_kind kind;
    struct strview text; /* a string without its quotes, as written */
};

struct frame {
    bool is_loop;
    bool outer; /* was the code around it alive? */
    bool done;  /* a branch before is always taken */
};

struct scan {
    const char *begin, *at, *end;
    struct token tokens[TOKENS_MAX]; /* of one tag */
    size_t n_tokens;
    struct strview bound[BOUND_MAX];
    size_t n_bound;
    struct frame frames[DEPTH_MAX];
    size_t depth, n_loops;
    bool live;
    unsigned uses;
    struct chat_skeleton *out; /* borrowed */
};

static const struct {
    const char *name;
    unsigned uses;
} words[] = {
    {"messages", 0},
    {"role", 0},
    {"content", 0},
    {"loop", 0},
    {"last", 0},
    {"first", USES_FIRST},
    {"index0", USES_FIRST},
    {"index", USES_FIRST},
    {"length", 0},
    {"add_generation_prompt", 0},
    {"and", 0},
    {"or", 0},
    {"not", 0},
    {"is", 0},
    {"in", 0},
    {"if", 0},
    {"else", 0},
    {"defined", 0},
    {"none", 0},
    {"true", 0},
    {"false", 0},
    {"bos_token", 0},
    {"eos_token", 0},
    {"trim", USES_TRIM},
    {"strip", USES_TRIM},
    {"capitalize", USES_CAPITAL},
    {"enable_thinking", USES_THINKING},
    {"reasoning_content", USES_REASONING},
    {"namespace", USES_WORDS},
    {"multi_step_tool", USES_WORDS},
    {"last_query_index", USES_WORDS},
    {"startswith", USES_WORDS},
    {"endswith", USES_WORDS},
    {"split", USES_WORDS},
    {"lstrip", USES_WORDS},
    {"rstrip", USES_WORDS},
    {"string", USES_WORDS},
};

/* ---- reading a tag ---- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c >= '0' && c <= '9');
}

static bool token_is(const struct scan *s, size_t i, const char *text)
{
    return i < s->n_tokens && s->tokens[i].kind != TOKEN_STRING &&
           strview_is(s->tokens[i].text, text);
}

static bool token_is_name(const struct scan *s, size_t i)
{
    return i < s->n_tokens && s->tokens[i].kind == TOKEN_NAME;
}

static bool at_text(const struct scan *s, const char *text)
{
    const size_t n = strlen(text);

    return (size_t)(s->end - s->at) >= n && memcmp(s->at, text, n) == 0;
}

static void token_add(struct scan *s, enum token_kind kind, const char *from, const char *to)
{
    if (s->n_tokens == TOKENS_MAX) {
        s->uses |= UNKNOWN;
        return;
    }
    s->tokens[s->n_tokens++] =
        (struct token){.kind = kind, .text = {.data = from, .n = (size_t)(to - from)}};
}

static void string_read(struct scan *s)
{
    const char quote = *s->at++, *from = s->at;

    while (s->at < s->end && *s->at != quote) {
        s->at += *s->at == '\\' && s->at + 1 < s->end ? 2 : 1;
    }
    token_add(s, TOKEN_STRING, from, s->at);
    if (s->at < s->end) {
        s->at++;
    } else {
        s->uses |= UNKNOWN;
    }
}

/* The words of a tag, up to behind `close`; whether white space after it goes. */
static bool tag_read(struct scan *s, const char *close)
{
    s->n_tokens = 0;
    while (s->at < s->end) {
        const char *from = s->at;
        const bool dash = *s->at == '-' && s->at + 1 < s->end;
        s->at += dash;
        if (at_text(s, close)) {
            s->at += 2;
            return dash;
        }
        s->at = from;
        if (is_blank(*from)) {
            s->at++;
        } else if (*from == '\'' || *from == '"') {
            string_read(s);
        } else if (is_letter(*from)) {
            while (s->at < s->end && is_letter(*s->at)) {
                s->at++;
            }
            token_add(s, *from <= '9' ? TOKEN_SIGN : TOKEN_NAME, from, s->at);
        } else {
            s->at += at_text(s, "==") || at_text(s, "!=") ? 2 : 1;
            token_add(s, TOKEN_SIGN, from, s->at);
        }
    }
    s->uses |= UNKNOWN; /* never closed */
    return false;
}

/* ---- what it says ---- */

static void skeleton_add(struct scan *s, char c)
{
    if (s->out->n == SKELETON_MAX) {
        s->uses |= UNKNOWN;
    } else if (s->live) {
        s->out->text[s->out->n++] = c;
    }
}

static void literal_char(struct scan *s, char c)
{
    if ((uint8_t)c < ' ' && c != '\n') {
        s->uses |= s->live ? UNKNOWN : 0; /* a tab, or what would pass for a sign */
    }
    skeleton_add(s, c);
}

static void literal(struct scan *s, struct strview text)
{
    for (size_t i = 0; i < text.n; i++) {
        char c = text.data[i];
        if (c == '\\' && i + 1 < text.n) {
            c = text.data[++i];
            c = c == 'n' ? '\n' : c == '\'' || c == '"' || c == '\\' ? c : '\x7f';
        }
        literal_char(s, c);
    }
}

static unsigned role_bit(struct strview text)
{
    return strview_is(text, "system")      ? SYSTEM
           : strview_is(text, "user")      ? USER
           : strview_is(text, "assistant") ? ASSISTANT
           : strview_is(text, "tool")      ? TOOL
                                           : 0;
}

static bool name_bound(const struct scan *s, struct strview name)
{
    for (size_t i = 0; i < s->n_bound; i++) {
        if (strview_eq(s->bound[i], name)) {
            return true;
        }
    }
    return false;
}

static void bind(struct scan *s, struct strview name)
{
    if (name_bound(s, name)) {
        return;
    }
    if (s->n_bound == BOUND_MAX) {
        s->uses |= UNKNOWN;
        return;
    }
    s->bound[s->n_bound++] = name;
}

static void name_use(struct scan *s, struct strview name, bool member)
{
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        if (strview_is(name, words[i].name)) {
            s->uses |= words[i].uses;
            return;
        }
    }
    if (member || !name_bound(s, name)) {
        s->uses |= UNKNOWN;
    }
}

/* message.role, message['role']: what is looked up in a message. */
static void member(struct scan *s, struct strview name, bool asking)
{
    const bool role = strview_is(name, "role"), content = strview_is(name, "content");

    if (role || content) {
        if (!asking) {
            skeleton_add(s, role ? *ROLE : *CONTENT);
            s->uses |= s->n_loops == 0 ? USES_OUTSIDE : 0;
        } else if (content) {
            s->uses |= USES_ASKS;
        }
        return;
    }
    name_use(s, name, true);
}

static void special(struct scan *s, const char *sign)
{
    skeleton_add(s, *sign);
    if (*sign == *BOS && s->n_loops > 0) {
        s->uses |= USES_BOS_IN_LOOP;
    }
}

static void string_say(struct scan *s, size_t i, bool asking)
{
    const struct strview text = s->tokens[i].text;

    if (i > 0 && token_is(s, i - 1, "[") && token_is(s, i + 1, "]")) {
        member(s, text, asking);
    } else if (asking || (i > 0 && (token_is(s, i - 1, "==") || token_is(s, i - 1, "!=")))) {
        s->out->asked |= role_bit(text);
        s->uses |= role_bit(text) ? 0 : USES_ASKS;
    } else {
        literal(s, text);
    }
}

/* The expression from token i on; asking: it decides and writes nothing. */
static void say(struct scan *s, size_t i, bool asking)
{
    for (; s->live && i < s->n_tokens; i++) {
        const struct token *t = &s->tokens[i];
        if (token_is(s, i, "raise_exception")) {
            while (i < s->n_tokens && !token_is(s, i, ")")) {
                i++;
            }
        } else if (t->kind == TOKEN_STRING) {
            string_say(s, i, asking);
        } else if (t->kind == TOKEN_SIGN) {
            s->uses |= strview_is(t->text, ":") ? USES_SLICE : 0;
        } else if (i > 0 && token_is(s, i - 1, ".")) {
            member(s, t->text, asking);
        } else if (token_is(s, i, "bos_token") && !asking) {
            special(s, BOS);
        } else if (token_is(s, i, "eos_token") && !asking) {
            special(s, EOS);
        } else {
            name_use(s, t->text, false);
        }
    }
}

/* ---- branches ---- */

/* Is what stands at token i something that no conversation here has? Returns the token behind. */
static size_t absent_at(const struct scan *s, size_t i)
{
    static const char *const names[] = {"tools", "documents", "custom_tools", "builtin_tools"};

    for (size_t k = 0; k < ARRAY_SIZE(names); k++) {
        if (token_is(s, i, names[k])) {
            return i + 1;
        }
    }
    if (token_is_name(s, i) && token_is(s, i + 1, ".") && token_is(s, i + 2, "tool_calls")) {
        return i + 3;
    }
    if (token_is_name(s, i) && token_is(s, i + 1, "[") && i + 2 < s->n_tokens &&
        strview_is(s->tokens[i + 2].text, "tool_calls") && token_is(s, i + 3, "]")) {
        return i + 4;
    }
    return 0;
}

/* A condition that is never true: "tools", "tools is defined and ...", ... */
static bool never(const struct scan *s)
{
    size_t i = absent_at(s, 1);

    if (i == 0) {
        return false;
    }
    if (token_is(s, i, "is") && token_is(s, i + 1, "defined")) {
        i += 2;
    } else if (token_is(s, i, "is") && token_is(s, i + 1, "not") && token_is(s, i + 2, "none")) {
        i += 3;
    }
    if (i < s->n_tokens && !token_is(s, i, "and")) {
        return false;
    }
    for (; i < s->n_tokens; i++) {
        if (token_is(s, i, "or")) {
            return false;
        }
    }
    return true;
}

static bool always(const struct scan *s)
{
    return token_is(s, 1, "not") && s->n_tokens > 2 && absent_at(s, 2) == s->n_tokens;
}

static void enter(struct scan *s, bool is_loop)
{
    if (s->depth == DEPTH_MAX) {
        s->uses |= UNKNOWN;
        return;
    }
    s->frames[s->depth++] = (struct frame){.is_loop = is_loop, .outer = s->live};
    s->n_loops += is_loop;
}

static void leave(struct scan *s, bool is_loop)
{
    if (s->depth == 0 || s->frames[s->depth - 1].is_loop != is_loop) {
        s->uses |= UNKNOWN;
        return;
    }
    s->live = s->frames[--s->depth].outer;
    s->n_loops -= is_loop;
}

static void branch(struct scan *s)
{
    const bool plain = token_is(s, 0, "else");

    if (s->depth == 0) {
        s->uses |= UNKNOWN;
        return;
    }
    struct frame *f = &s->frames[s->depth - 1];
    if (f->is_loop) {
        s->live = false; /* for no message at all, and there is one */
        return;
    }
    s->live = f->outer && !f->done && (plain || !never(s));
    if (!plain && always(s)) {
        f->done = true;
    } else if (!plain) {
        say(s, 1, true);
    }
}

static void loop_begin(struct scan *s)
{
    size_t i = 1;

    for (; i < s->n_tokens && !token_is(s, i, "in"); i++) {
        if (token_is_name(s, i)) {
            bind(s, s->tokens[i].text);
        }
    }
    enter(s, true);
    say(s, i, true);
}

static void assign(struct scan *s)
{
    size_t i = 1;

    if (!s->live) {
        return;
    }
    for (; i < s->n_tokens && !token_is(s, i, "="); i++) {
        if (!token_is_name(s, i)) {
            continue;
        }
        if (token_is(s, i - 1, ".")) {
            name_use(s, s->tokens[i].text, true);
        } else {
            bind(s, s->tokens[i].text);
        }
    }
    s->uses |= i == s->n_tokens ? UNKNOWN : 0; /* {% set x %} ... {% endset %} */
    say(s, i, false);
}

static void block(struct scan *s)
{
    if (token_is(s, 0, "if")) {
        enter(s, false);
        if (s->depth > 0 && always(s)) {
            s->frames[s->depth - 1].done = true;
        } else {
            s->live = s->live && !never(s);
            say(s, 1, true);
        }
    } else if (token_is(s, 0, "elif") || token_is(s, 0, "else")) {
        branch(s);
    } else if (token_is(s, 0, "endif") || token_is(s, 0, "endmacro")) {
        leave(s, false);
    } else if (token_is(s, 0, "for")) {
        loop_begin(s);
    } else if (token_is(s, 0, "endfor")) {
        leave(s, true);
    } else if (token_is(s, 0, "set")) {
        assign(s);
    } else if (token_is(s, 0, "macro")) {
        enter(s,
              false); /* what it writes counts where it is called, which makes the text unknown */
        s->live = false;
    } else if (!token_is(s, 0, "generation") && !token_is(s, 0, "endgeneration")) {
        s->uses |= UNKNOWN;
    }
}

/* ---- the whole text ---- */

/* Plain text between tags, as it is written with blocks trimmed: a line end after a block goes, and
 * blanks before one at the start of a line. */
static void data(struct scan *s, bool after_block, bool strip_front)
{
    const char *from = s->at;

    while (s->at < s->end && !at_text(s, "{{") && !at_text(s, "{%") && !at_text(s, "{#")) {
        s->at++;
    }
    const char *to = s->at;
    const bool strip_back = s->end - to > 2 && to[2] == '-';
    if (after_block && from < to && *from == '\n') {
        from++;
    }
    while (strip_front && from < to && is_blank(*from)) {
        from++;
    }
    if (s->end - to > 1 && to[1] != '{') {
        const char *line = to;
        while (line > from && (line[-1] == ' ' || line[-1] == '\t')) {
            line--;
        }
        to = line == s->begin || line[-1] == '\n' ? line : to;
    }
    while (strip_back && to > from && is_blank(to[-1])) {
        to--;
    }
    for (; from < to; from++) {
        literal_char(s, *from);
    }
}

static void scan_all(struct scan *s)
{
    bool after_block = false, strip = false;

    while (s->at < s->end) {
        data(s, after_block, strip);
        if (s->end - s->at < 2) {
            break;
        }
        const char kind = s->at[1];
        s->at += 2;
        if (kind == '#') {
            const char *close = memmem(s->at, (size_t)(s->end - s->at), "#}", 2);
            strip = close && close > s->at && close[-1] == '-';
            s->at = close ? close + 2 : s->end;
            s->uses |= close ? 0 : UNKNOWN;
            after_block = true;
            continue;
        }
        s->at += s->at < s->end && *s->at == '-';
        strip = tag_read(s, kind == '{' ? "}}" : "%}");
        after_block = kind == '%';
        if (kind == '%') {
            block(s);
        } else {
            say(s, 0, false);
        }
    }
    s->uses |= s->depth > 0 ? UNKNOWN : 0;
}

void chat_skeleton_read(struct chat_skeleton *ret, struct strview text)
{
    struct scan s = {.begin = text.data, .at = text.data, .live = true, .out = ret};

    *ret = (struct chat_skeleton){0};
    if (text.n > 0) {
        s.end = text.data + text.n - (text.data[text.n - 1] == '\n'); /* one line end goes */
        scan_all(&s);
    }
    ret->uses = s.uses;
}
