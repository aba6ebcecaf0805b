/* chat: three templates, written out by hand.
 *
 * A template in a file is a program in somebody's template language; running such programs is no
 * business of this engine. It recognises the ones that matter and renders them itself, byte for byte
 * as the originals do. */
#include "engine/text/chat.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "engine/text/utf8.h"

#define PROMPT_BYTES_MAX ((size_t)64 << 20)
#define ROLE_BYTES_MAX 64u

static const char *const names[] = {
    [CHAT_NONE] = "none",
    [CHAT_CHATML] = "chatml",
    [CHAT_LLAMA3] = "llama3",
    [CHAT_QWEN3] = "qwen3",
};

const char *chat_template_name(enum chat_template t)
{
    return (size_t)t < ARRAY_SIZE(names) ? names[t] : names[CHAT_NONE];
}

bool chat_template_parse(const char *name, enum chat_template *ret)
{
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            *ret = (enum chat_template)i;
            return true;
        }
    }
    return false;
}

static bool has(struct strview text, const char *what)
{
    return text.data && memmem(text.data, text.n, what, strlen(what)) != NULL;
}

enum chat_template chat_detect(struct strview t)
{
    if (has(t, "<|im_start|>") && has(t, "<|im_end|>")) {
        if (has(t, "bos_token") || has(t, "<|im_sep|>")) {
            return CHAT_NONE;
        }
        if (has(t, "enable_thinking") && has(t, "</think>")) {
            return has(t, "/no_think") ? CHAT_NONE : CHAT_QWEN3;
        }
        return has(t, "think>") || has(t, "You are") ? CHAT_NONE : CHAT_CHATML;
    }
    if (has(t, "<|start_header_id|>") && has(t, "<|end_header_id|>") && has(t, "<|eot_id|>")) {
        return has(t, "Cutting Knowledge Date") ? CHAT_NONE : CHAT_LLAMA3;
    }
    return CHAT_NONE;
}

/* ---- text helpers, as the template language has them ---- */

/* The first error stays in *r; later appends do nothing. */
static void add(struct buf *out, int *r, struct strview s)
{
    if (*r == 0) {
        *r = buf_append(out, s.data, s.n);
    }
}

static void add_z(struct buf *out, int *r, const char *z)
{
    add(out, r, strview_of(z));
}

static struct strview strip_newlines(struct strview s, bool left, bool right)
{
    while (left && s.n > 0 && s.data[0] == '\n') {
        s.data++;
        s.n--;
    }
    while (right && s.n > 0 && s.data[s.n - 1] == '\n') {
        s.n--;
    }
    return s;
}

static bool is_space(uint32_t c)
{
    return (c >= 0x9 && c <= 0xd) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}

/* Unicode white space off both ends. */
static struct strview trim(struct strview s)
{
    while (s.n > 0) {
        const int k = utf8_check((const uint8_t *)s.data, s.n);
        unsigned len;
        if (k <= 0 || !is_space(utf8_decode((const uint8_t *)s.data, &len))) {
            break;
        }
        s.data += k;
        s.n -= (size_t)k;
    }
    while (s.n > 0) {
        size_t at = s.n - 1;
        unsigned len;
        while (at > 0 && s.n - at < 4 && ((uint8_t)s.data[at] & 0xc0) == 0x80) {
            at--;
        }
        const uint8_t *p = (const uint8_t *)s.data + at;
        if (utf8_check(p, s.n - at) != (int)(s.n - at) || !is_space(utf8_decode(p, &len))) {
            break;
        }
        s.n = at;
    }
    return s;
}

/* What comes before the first and after the last `mark`; false when it is not there. */
static bool around(struct strview s, const char *mark, struct strview *ret_before,
                   struct strview *ret_after)
{
    const size_t n = strlen(mark);
    const char *first = s.data ? memmem(s.data, s.n, mark, n) : NULL;

    if (!first) {
        return false;
    }
    *ret_before = (struct strview){s.data, (size_t)(first - s.data)};
    *ret_after = s;
    for (const char *at = first; at; at = memmem(ret_after->data, ret_after->n, mark, n)) {
        const char *rest = at + n;
        *ret_after = (struct strview){rest, (size_t)(s.data + s.n - rest)};
    }
    return true;
}

/* ---- the templates ---- */

/* One turn of ChatML, which Qwen3 writes too. */
static void add_chatml(struct buf *out, int *r, const struct chat_message *m)
{
    add_z(out, r, "<|im_start|>");
    add(out, r, m->role);
    add_z(out, r, "\n");
    add(out, r, m->content);
    add_z(out, r, "<|im_end|>\n");
}

static void render_chatml(struct buf *out, int *r, const struct chat_message *m, size_t n,
                          const struct chat_options *o)
{
    for (size_t i = 0; i < n; i++) {
        add_chatml(out, r, &m[i]);
    }
    if (o->generation_prompt) {
        add_z(out, r, "<|im_start|>assistant\n");
    }
}

static void render_llama3(struct buf *out, int *r, const struct chat_message *m, size_t n,
                          const struct chat_options *o, struct strview bos)
{
    add(out, r, bos);
    for (size_t i = 0; i < n; i++) {
        add_z(out, r, "<|start_header_id|>");
        add(out, r, m[i].role);
        add_z(out, r, "<|end_header_id|>\n\n");
        add(out, r, trim(m[i].content));
        add_z(out, r, "<|eot_id|>");
    }
    if (o->generation_prompt) {
        add_z(out, r, "<|start_header_id|>assistant<|end_header_id|>\n\n");
    }
}

static bool is_tool_response(struct strview s)
{
    static const char tail[] = "</tool_response>";
    const size_t n = strlen(tail);

    return strview_starts(s, "<tool_response>") && s.n >= n &&
           memcmp(s.data + s.n - n, tail, n) == 0;
}

/* The last message in which a user asked something, rather than handed in a tool's answer. */
static size_t last_query(const struct chat_message *m, size_t n)
{
    for (size_t i = n; i-- > 0;) {
        if (strview_is(m[i].role, "user") && !is_tool_response(m[i].content)) {
            return i;
        }
    }
    return n - 1;
}

/* An assistant's turn. Thoughts stay only after the last question. */
static void render_qwen3_assistant(struct buf *out, int *r, const struct chat_message *m,
                                   bool after_query, bool last)
{
    struct strview content = m->content, thoughts = m->reasoning, before, after;

    if (!thoughts.data && around(m->content, "</think>", &before, &after)) {
        struct strview head, inner;
        content = strip_newlines(after, true, false);
        before = strip_newlines(before, false, true);
        inner = around(before, "<think>", &head, &after) ? after : before;
        thoughts = strip_newlines(inner, true, false);
    }
    add_z(out, r, "<|im_start|>assistant\n");
    if (after_query && (last || thoughts.n > 0)) {
        add_z(out, r, "<think>\n");
        add(out, r, strip_newlines(thoughts, true, true));
        add_z(out, r, "\n</think>\n\n");
        content = strip_newlines(content, true, false);
    }
    add(out, r, content);
    add_z(out, r, "<|im_end|>\n");
}

static void render_qwen3_tool(struct buf *out, int *r, const struct chat_message *m, size_t i,
                              size_t n)
{
    if (i == 0 || !strview_is(m[i - 1].role, "tool")) {
        add_z(out, r, "<|im_start|>user");
    }
    add_z(out, r, "\n<tool_response>\n");
    add(out, r, m[i].content);
    add_z(out, r, "\n</tool_response>");
    if (i + 1 == n || !strview_is(m[i + 1].role, "tool")) {
        add_z(out, r, "<|im_end|>\n");
    }
}

static void render_qwen3(struct buf *out, int *r, const struct chat_message *m, size_t n,
                         const struct chat_options *o)
{
    const size_t query = last_query(m, n);

    for (size_t i = 0; i < n; i++) {
        if (strview_is(m[i].role, "assistant")) {
            render_qwen3_assistant(out, r, &m[i], i > query, i + 1 == n);
        } else if (strview_is(m[i].role, "tool")) {
            render_qwen3_tool(out, r, m, i, n);
        } else { /* system and user look alike */
            add_chatml(out, r, &m[i]);
        }
    }
    if (o->generation_prompt) {
        add_z(out, r, "<|im_start|>assistant\n");
        if (o->no_thinking) {
            add_z(out, r, "<think>\n\n</think>\n\n");
        }
    }
}

/* ---- the front ---- */

/* ChatML and Llama 3 write any role; it is held to a plain word, so that none can pose as marks. */
static bool role_ok(enum chat_template t, struct strview role)
{
    if (t == CHAT_QWEN3) {
        return strview_is(role, "system") || strview_is(role, "user") ||
               strview_is(role, "assistant") || strview_is(role, "tool");
    }
    for (size_t i = 0; i < role.n; i++) {
        const char c = role.data[i];
        if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
            c != '_' && c != '-') {
            return false;
        }
    }
    return role.n > 0 && role.n <= ROLE_BYTES_MAX;
}

int chat_render(enum chat_template t, const struct chat_message *messages, size_t n,
                const struct chat_options *options, struct strview bos, char **ret, size_t *ret_n,
                struct diag *ret_diag)
{
    struct buf out;
    int r = 0;

    if (t != CHAT_CHATML && t != CHAT_LLAMA3 && t != CHAT_QWEN3) {
        return CHAT_NO_TEMPLATE;
    }
    if (n == 0) {
        diag_set(ret_diag, 0, "there are no messages");
        return CHAT_BAD_MESSAGES;
    }
    for (size_t i = 0; i < n; i++) {
        if (!role_ok(t, messages[i].role)) {
            diag_set(ret_diag, i, "message %zu: template %s has no place for role \"%.*s\"", i,
                     chat_template_name(t),
                     (int)(messages[i].role.n < 64 ? messages[i].role.n : 64),
                     messages[i].role.data ? messages[i].role.data : "");
            return CHAT_BAD_MESSAGES;
        }
    }
    buf_init(&out, PROMPT_BYTES_MAX);
    r = buf_reserve(&out, 1); /* a result even for no text */
    if (t == CHAT_CHATML) {
        render_chatml(&out, &r, messages, n, options);
    } else if (t == CHAT_LLAMA3) {
        render_llama3(&out, &r, messages, n, options, bos);
    } else {
        render_qwen3(&out, &r, messages, n, options);
    }
    if (r < 0) {
        buf_deinit(&out);
        if (r == -E2BIG) {
            diag_set(ret_diag, 0, "the prompt passes %zu bytes", PROMPT_BYTES_MAX);
            return CHAT_BAD_MESSAGES;
        }
        return r;
    }
    *ret = (char *)buf_steal(&out, ret_n);
    return CHAT_OK;
}
