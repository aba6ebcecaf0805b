/* Chat templates against recorded renderings.
 *
 * Goal: our templates write exactly what the models' own do, and are chosen by the models' own
 * texts.
 * Method: each recorded template's text is recognised; every recorded case is rendered by the
 * template so found and compared, byte for byte. The placeholder that bitnet.cpp writes into its
 * files is no model's template: it has to be taken for BitNet 2B4T's and its cases' messages
 * rendered like that one's cases of the same messages. Control tokens that end a turn are known to.
 * Skipped, loudly, without the reference data. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/compiler.h"
#include "engine/engine.h"
#include "engine/text/chat.h"
#include "engine/text/marks.h"

#define SKIP 77
#define MESSAGES_MAX 64u
#define CASES_MIN 280u
#define PLACEHOLDER "bitnet-gguf-embedded"

static struct strview view(const json_t *s)
{
    return s ? (struct strview){json_string_value(s), json_string_length(s)} : (struct strview){0};
}

static bool check_case(const json_t *c, enum chat_template t, struct strview bos,
                       struct strview want)
{
    const json_t *messages = json_object_get(c, "messages");
    const json_t *thinking = json_object_get(c, "enable_thinking");
    const struct chat_options options = {
        .generation_prompt = json_is_true(json_object_get(c, "add_generation_prompt")),
        .no_thinking = json_is_false(thinking),
    };
    struct chat_message m[MESSAGES_MAX];
    const size_t n = json_array_size(messages);
    struct diag d = {0};
    char *got = NULL;
    size_t n_got = 0;

    for (size_t i = 0; i < n && i < MESSAGES_MAX; i++) {
        const json_t *o = json_array_get(messages, i);
        m[i] = (struct chat_message){.role = view(json_object_get(o, "role")),
                                     .content = view(json_object_get(o, "content")),
                                     .reasoning = view(json_object_get(o, "reasoning_content"))};
    }
    const int r = n > MESSAGES_MAX ? -1 : chat_render(t, m, n, &options, bos, &got, &n_got, &d);
    const bool ok = r == CHAT_OK && want.data && strview_eq(want, (struct strview){got, n_got});
    if (!ok) {
        printf("%s, %s: outcome %d %s\n--- want\n%.*s\n--- got\n%.*s\n---\n", chat_template_name(t),
               json_string_value(json_object_get(c, "case")), r, d.text, (int)want.n, want.data,
               (int)n_got, got ? got : "");
    }
    free(got);
    return ok;
}

/* What a recorded template has to be taken for, and in files of which architecture. */
static const struct origin {
    const char *name, *arch;
    enum chat_template want;
} origins[] = {
    {"bitnet-b1.58-2b4t", "bitnet-b1.58", CHAT_BITNET},
    {PLACEHOLDER, "bitnet-b1.58", CHAT_BITNET},
    {PLACEHOLDER, "bitnet-25", CHAT_BITNET},
    {PLACEHOLDER, "bitnet", CHAT_BITNET},
    {PLACEHOLDER, "llama", CHAT_NONE},
    {"llama3", "llama", CHAT_LLAMA3},
    {"qwen3", "qwen3", CHAT_QWEN3},
    {"chatml", "minicpm", CHAT_CHATML},
    {"falcon3", "llama", CHAT_FALCON3},
};

static bool check_detection(const json_t *templates)
{
    const char *name;
    json_t *t;
    bool ok = true;

    json_object_foreach((json_t *)(uintptr_t)templates, name, t)
    {
        bool expected = false;
        const json_t *stop;
        size_t k;
        json_array_foreach(json_object_get(t, "stop"), k, stop)
        {
            if (!mark_is_end(view(stop))) {
                printf("template %s: %s does not end a turn\n", name, json_string_value(stop));
                ok = false;
            }
        }
        for (size_t i = 0; i < ARRAY_SIZE(origins); i++) {
            const struct origin *o = &origins[i];
            if (strcmp(o->name, name) != 0) {
                continue;
            }
            const enum chat_template got =
                chat_detect(view(json_object_get(t, "text")), strview_of(o->arch), strview_of(""));
            expected = true;
            if (got != o->want) {
                printf("template %s in a %s file is taken for %s\n", name, o->arch,
                       chat_template_name(got));
                ok = false;
            }
        }
        if (!expected) {
            printf("nothing is said of template %s here\n", name);
            ok = false;
        }
    }
    return ok;
}

/* What the case has to give: its own rendering, or the placeholder's case's real one. */
static struct strview wanted(const json_t *cases, const json_t *c)
{
    const json_t *generation = json_object_get(c, "add_generation_prompt");
    const json_t *other;
    size_t i;

    if (strcmp(json_string_value(json_object_get(c, "template")), PLACEHOLDER) != 0) {
        return view(json_object_get(c, "expected"));
    }
    json_array_foreach((json_t *)(uintptr_t)cases, i, other)
    {
        if (strcmp(json_string_value(json_object_get(other, "template")), "bitnet-b1.58-2b4t") ==
                0 &&
            json_equal(json_object_get(other, "messages"), json_object_get(c, "messages")) &&
            json_equal(json_object_get(other, "add_generation_prompt"), generation)) {
            return view(json_object_get(other, "expected"));
        }
    }
    return (struct strview){0};
}

int main(void)
{
    const char *root = getenv("ONEBIT_SHARED");
    char *path = NULL;
    size_t n = 0, failed = 0, i;
    json_t *c;

    if (!root || access(root, R_OK) != 0) {
        printf("SKIPPED: no reference data at %s\n", root ? root : "ONEBIT_SHARED");
        return SKIP;
    }
    if (asprintf(&path, "%s/oracle/chat/chat.json", root) < 0) {
        abort();
    }
    json_t *all = json_load_file(path, JSON_ALLOW_NUL, NULL);
    const json_t *templates = json_object_get(all, "templates");
    const json_t *cases = json_object_get(all, "cases");
    json_array_foreach((json_t *)(uintptr_t)cases, i, c)
    {
        const json_t *t =
            json_object_get(templates, json_string_value(json_object_get(c, "template")));
        const enum chat_template as = chat_detect(view(json_object_get(t, "text")),
                                                  strview_of("bitnet-b1.58"), strview_of(""));
        n++;
        failed += !check_case(c, as, view(json_object_get(t, "bos")), wanted(cases, c));
    }
    const bool ok = check_detection(templates) && failed == 0 && n >= CASES_MIN;
    printf("%zu cases, %zu failed\n", n, failed);
    json_decref(all);
    free(path);
    return ok ? 0 : 1;
}
