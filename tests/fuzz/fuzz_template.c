/* Fuzz target of chat templates. Up to the first byte 0xff the input is a template's text, which is
 * recognised; behind it are messages, 0xfe between them, which every known template renders.
 *
 * What must hold of any bytes: the same text is recognised the same way twice, and no longer with
 * one more literal in it. A rendering is refused exactly when a role has no place; it is the same
 * twice, not longer than its parts and the marks around them, and every message's content is in it,
 * in order, as the template cuts it. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "engine/engine.h"
#include "engine/text/chat.h"

#define MESSAGES_MAX 32u
#define MARKS_MAX 80u /* bytes around one content, and at the ends */

static const char *const roles[] = {"system", "user", "assistant", "tool", "Critic-2", "", "a b"};

static void check(bool ok)
{
    if (!ok) {
        abort();
    }
}

/* ---- recognising ---- */

static void recognise(struct strview text)
{
    static const char *const archs[] = {"llama", "bitnet-b1.58", ""};
    static const char more[] = "{{ 'and one more thing' }}";
    enum chat_template got[ARRAY_SIZE(archs)];
    char *longer = malloc(text.n + sizeof(more));

    check(longer != NULL);
    if (text.n > 0) {
        memcpy(longer, text.data, text.n);
    }
    memcpy(longer + text.n, more, sizeof(more));
    for (size_t i = 0; i < ARRAY_SIZE(archs); i++) {
        got[i] = chat_detect(text, strview_of(archs[i]), strview_of(i % 2 ? "falcon_e" : ""));
        check((unsigned)got[i] < CHAT_TEMPLATES);
        check(chat_detect(text, strview_of(archs[i]), strview_of(i % 2 ? "falcon_e" : "")) ==
              got[i]);
        if (got[i] != CHAT_NONE) {
            const struct strview l = {.data = longer, .n = text.n + sizeof(more) - 1};
            check(chat_detect(l, strview_of(archs[i]), strview_of(i % 2 ? "falcon_e" : "")) ==
                  CHAT_NONE);
        }
    }
    check(got[0] == got[2] && (got[1] == got[0] || got[1] == CHAT_BITNET));
    free(longer);
}

/* ---- rendering ---- */

static bool has_place(enum chat_template t, struct strview role)
{
    const bool three =
        strview_is(role, "system") || strview_is(role, "user") || strview_is(role, "assistant");

    switch (t) {
    case CHAT_FALCON3:
    case CHAT_MINICPM:
        return three;
    case CHAT_QWEN3:
        return three || strview_is(role, "tool");
    default:
        return role.n > 0 && !memchr(role.data, ' ', role.n);
    }
}

/* White space as it is encoded: an own list, so that a slip in the engine's shows. */
static size_t blank_at(const char *p, size_t n, bool back)
{
    static const char *const blanks[] = {
        "\t",           "\n",           "\v",
        "\f",           "\r",           " ",
        "\x1c",         "\x1d",         "\x1e",
        "\x1f",         "\xc2\x85",     "\xc2\xa0",
        "\xe1\x9a\x80", "\xe2\x80\x80", "\xe2\x80\x81",
        "\xe2\x80\x82", "\xe2\x80\x83", "\xe2\x80\x84",
        "\xe2\x80\x85", "\xe2\x80\x86", "\xe2\x80\x87",
        "\xe2\x80\x88", "\xe2\x80\x89", "\xe2\x80\x8a",
        "\xe2\x80\xa8", "\xe2\x80\xa9", "\xe2\x80\xaf",
        "\xe2\x81\x9f", "\xe3\x80\x80",
    };

    for (size_t i = 0; i < ARRAY_SIZE(blanks); i++) {
        const size_t k = strlen(blanks[i]);
        if (k <= n && memcmp(back ? p + n - k : p, blanks[i], k) == 0) {
            return k;
        }
    }
    return 0;
}

/* What has to be left of a content. */
static struct strview core(enum chat_template t, const struct chat_message *m)
{
    struct strview s = m->content;
    size_t k;

    if (t == CHAT_LLAMA3 || t == CHAT_BITNET || t == CHAT_MINICPM) {
        while ((k = blank_at(s.data, s.n, false)) > 0) {
            s.data += k;
            s.n -= k;
        }
        while ((k = blank_at(s.data, s.n, true)) > 0) {
            s.n -= k;
        }
    } else if (t == CHAT_QWEN3 && strview_is(m->role, "assistant")) {
        static const char mark[] = "</think>";
        for (const char *at = m->reasoning.data ? NULL : memmem(s.data, s.n, mark, strlen(mark));
             at; at = memmem(s.data, s.n, mark, strlen(mark))) {
            s.n -= (size_t)(at - s.data) + strlen(mark);
            s.data = at + strlen(mark);
        }
        while (s.n > 0 && *s.data == '\n') {
            s.data++;
            s.n--;
        }
    }
    return s;
}

static void render(enum chat_template t, const struct chat_message *m, size_t n,
                   const struct chat_options *o)
{
    const struct strview bos = strview_of("<s>");
    char *text[2] = {NULL, NULL};
    size_t n_text[2] = {0}, n_max = MARKS_MAX;
    bool good = n > 0;

    for (size_t i = 0; i < n; i++) {
        good = good && has_place(t, m[i].role);
        n_max += m[i].role.n + m[i].content.n + m[i].reasoning.n + MARKS_MAX;
    }
    for (size_t k = 0; k < 2; k++) {
        struct diag d = {0};
        const int r = chat_render(t, m, n, o, bos, &text[k], &n_text[k], &d);
        check(r == (good ? CHAT_OK : CHAT_BAD_MESSAGES) || r < 0);
        check(r != CHAT_BAD_MESSAGES || d.set);
        good = good && r == CHAT_OK;
    }
    if (good) {
        const struct strview all = {.data = text[0], .n = n_text[0]};
        const char *at = all.data;
        check(all.n <= n_max && strview_eq(all, (struct strview){text[1], n_text[1]}));
        for (size_t i = 0; i < n; i++) {
            const struct strview c = core(t, &m[i]);
            at = c.n > 0 ? memmem(at, (size_t)(all.data + all.n - at), c.data, c.n) : at;
            check(at != NULL);
            at += c.n;
        }
    }
    free(text[0]);
    free(text[1]);
}

/* One message: its first byte says the role and whether a line that follows is its thoughts. */
static struct chat_message message_of(struct strview s)
{
    const unsigned what = s.n > 0 ? (uint8_t)s.data[0] : 0;
    struct chat_message m = {.role = strview_of(roles[(what & 0x0f) % ARRAY_SIZE(roles)])};

    m.content = (struct strview){.data = s.data + (s.n > 0), .n = s.n - (s.n > 0)};
    const char *line = what & 0x10 ? memchr(m.content.data, '\n', m.content.n) : NULL;
    if (line) {
        m.reasoning =
            (struct strview){.data = m.content.data, .n = (size_t)(line - m.content.data)};
        m.content.n -= m.reasoning.n + 1;
        m.content.data = line + 1;
    }
    return m;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct chat_message messages[MESSAGES_MAX];
    const char *at = (const char *)data, *end = at + n;
    size_t n_messages = 0;

    if (n == 0) {
        return 0;
    }
    const char *split = memchr(at, 0xff, n);
    recognise((struct strview){.data = at, .n = (size_t)((split ? split : end) - at)});
    if (!split) {
        return 0;
    }
    const bool flagged = split + 1 < end;
    const unsigned flags = flagged ? (uint8_t)split[1] : 0;
    const struct chat_options options = {
        .generation_prompt = flags & 1, .no_thinking = flags & 2, .add_bos = flags & 4};
    for (at = split + 1 + flagged; at < end && n_messages < MESSAGES_MAX;) {
        const char *stop = memchr(at, 0xfe, (size_t)(end - at));
        stop = stop ? stop : end;
        messages[n_messages++] = message_of((struct strview){.data = at, .n = (size_t)(stop - at)});
        at = stop + 1;
    }
    for (unsigned t = CHAT_NONE + 1; t < CHAT_TEMPLATES; t++) {
        render((enum chat_template)t, messages, n_messages, &options);
    }
    return 0;
}
