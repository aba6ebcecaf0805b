/* chat: the templates we know, written out by hand.
 *
 * A template in a file is a program in somebody's template language; running such programs is no
 * business of this engine. It recognises the ones that matter (chat_detect.c) and renders them
 * itself, byte for byte as the originals do. */
#include "engine/text/chat.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "engine/text/utf8.h"

#define PROMPT_BYTES_MAX ((size_t)64 << 20)
#define ROLE_BYTES_MAX 64u

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
                          const struct chat_options *o, struct strview bos)
{
    (void)bos;
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

/* BitNet b1.58 2B4T: the role is plain text, its first letter a capital. */
static void render_bitnet(struct buf *out, int *r, const struct chat_message *m, size_t n,
                          const struct chat_options *o, struct strview bos)
{
    add(out, r, bos);
    for (size_t i = 0; i < n; i++) {
        char role[ROLE_BYTES_MAX];
        for (size_t k = 0; k < m[i].role.n; k++) {
            const char c = m[i].role.data[k];
            const bool upper = c >= 'A' && c <= 'Z', lower = c >= 'a' && c <= 'z';
            role[k] = (char)(k == 0 && lower ? c - 'a' + 'A' : k > 0 && upper ? c - 'A' + 'a' : c);
        }
        add(out, r, (struct strview){.data = role, .n = m[i].role.n});
        add_z(out, r, ": ");
        add(out, r, trim(m[i].content));
        add_z(out, r, "<|eot_id|>");
    }
    if (o->generation_prompt) {
        add_z(out, r, "Assistant: ");
    }
}

/* Falcon 3. Its EOS, which ends every answer, is written out: there is no Falcon 3 with another. */
static void render_falcon3(struct buf *out, int *r, const struct chat_message *m, size_t n,
                           const struct chat_options *o, struct strview bos)
{
    (void)bos;
    for (size_t i = 0; i < n; i++) {
        const bool answer = strview_is(m[i].role, "assistant");
        add_z(out, r, "<|");
        add(out, r, m[i].role);
        add_z(out, r, "|>\n");
        add(out, r, m[i].content);
        add_z(out, r, answer ? "<|endoftext|>" : "");
        add_z(out, r, answer && i + 1 == n ? "" : "\n");
    }
    if (o->generation_prompt) {
        add_z(out, r, "<|assistant|>\n");
    }
}

/* MiniCPM 1 and 2: only the user's turns are marked, and the mark behind one is the head of an
 * answer, so that there is nothing to write for a generation. MiniCPM 3 and later write ChatML. */
static void render_minicpm(struct buf *out, int *r, const struct chat_message *m, size_t n,
                           const struct chat_options *o, struct strview bos)
{
    (void)o;
    (void)bos;
    for (size_t i = 0; i < n; i++) {
        const bool user = strview_is(m[i].role, "user");
        add_z(out, r, user ? "<\xe7\x94\xa8\xe6\x88\xb7>" : ""); /* "user" in Chinese */
        add(out, r, trim(m[i].content));
        add_z(out, r, user ? "<AI>" : "");
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
                         const struct chat_options *o, struct strview bos)
{
    const size_t query = last_query(m, n);

    (void)bos;
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

typedef void render_fn(struct buf *out, int *r, const struct chat_message *m, size_t n,
                       const struct chat_options *o, struct strview bos);

static const struct template
{
    const char *name;
    render_fn *render;
    const char *roles; /* with a blank behind each; NULL: the template writes any */
    bool bos_of_vocab; /* it says nothing of BOS, and its models differ */
}
templates[CHAT_TEMPLATES] = {
    [CHAT_NONE] = {"none"},
    [CHAT_CHATML] = {"chatml", render_chatml, NULL, true},
    [CHAT_LLAMA3] = {"llama3", render_llama3},
    [CHAT_QWEN3] = {"qwen3", render_qwen3, "system user assistant tool "},
    [CHAT_BITNET] = {"bitnet", render_bitnet},
    [CHAT_FALCON3] = {"falcon3", render_falcon3, "system user assistant "},
    [CHAT_MINICPM] = {"minicpm", render_minicpm, "system user assistant ", true},
};

const char chat_template_names[] = "bitnet, chatml, falcon3, llama3, minicpm or qwen3";

const char *chat_template_name(enum chat_template t)
{
    return templates[(size_t)t < CHAT_TEMPLATES ? t : CHAT_NONE].name;
}

bool chat_template_parse(struct strview name, enum chat_template *ret)
{
    for (size_t i = CHAT_NONE + 1; i < CHAT_TEMPLATES; i++) {
        if (strview_is(name, templates[i].name)) {
            *ret = (enum chat_template)i;
            return true;
        }
    }
    return false;
}

/* A role is a plain word even where a template writes any, so that none can pose as marks. */
static bool role_ok(const struct template *t, struct strview role)
{
    for (size_t i = 0; i < role.n; i++) {
        const char c = role.data[i];
        if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
            c != '_' && c != '-') {
            return false;
        }
    }
    if (role.n == 0 || role.n > ROLE_BYTES_MAX) {
        return false;
    }
    for (const char *at = t->roles; at && *at; at += strcspn(at, " ") + 1) {
        if (strcspn(at, " ") == role.n && memcmp(at, role.data, role.n) == 0) {
            return true;
        }
    }
    return !t->roles;
}

int chat_render(enum chat_template t, const struct chat_message *messages, size_t n,
                const struct chat_options *options, struct strview bos, char **ret, size_t *ret_n,
                struct diag *ret_diag)
{
    struct buf out;
    int r = 0;

    if (t == CHAT_NONE || (size_t)t >= CHAT_TEMPLATES) {
        return CHAT_NO_TEMPLATE;
    }
    if (n == 0) {
        diag_set(ret_diag, 0, "there are no messages");
        return CHAT_BAD_MESSAGES;
    }
    for (size_t i = 0; i < n; i++) {
        if (!role_ok(&templates[t], messages[i].role)) {
            diag_set(ret_diag, i, "message %zu: template %s has no place for role \"%.*s\"", i,
                     templates[t].name, (int)(messages[i].role.n < 64 ? messages[i].role.n : 64),
                     messages[i].role.data ? messages[i].role.data : "");
            return CHAT_BAD_MESSAGES;
        }
    }
    buf_init(&out, PROMPT_BYTES_MAX);
    r = buf_reserve(&out, 1); /* a result even for no text */
    if (options->add_bos && templates[t].bos_of_vocab) {
        add(&out, &r, bos);
    }
    templates[t].render(&out, &r, messages, n, options, bos);
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
