/* Chat templates against recorded renderings.
 *
 * Goal: our three templates write exactly what the models' own do. Method: every recorded case of
 * llama3, chatml and qwen3 is rendered and compared, byte for byte; the template texts themselves
 * are recognised, the others are not. Skipped, loudly, without the reference data. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/engine.h"
#include "engine/text/chat.h"

#define SKIP 77
#define MESSAGES_MAX 64u

static struct strview view(const json_t *s)
{
    return s ? (struct strview){json_string_value(s), json_string_length(s)} : (struct strview){0};
}

static bool check_case(const json_t *c, enum chat_template t, struct strview bos)
{
    const json_t *messages = json_object_get(c, "messages");
    const json_t *thinking = json_object_get(c, "enable_thinking");
    const struct strview want = view(json_object_get(c, "expected"));
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
    const bool ok = r == CHAT_OK && strview_eq(want, (struct strview){got, n_got});
    if (!ok) {
        printf("%s, %s: outcome %d %s\n--- want\n%.*s\n--- got\n%.*s\n---\n", chat_template_name(t),
               json_string_value(json_object_get(c, "case")), r, d.text, (int)want.n, want.data,
               (int)n_got, got ? got : "");
    }
    free(got);
    return ok;
}

static bool check_detection(const json_t *templates)
{
    const char *name;
    json_t *t;
    bool ok = true;

    json_object_foreach((json_t *)(uintptr_t)templates, name, t)
    {
        enum chat_template want = CHAT_NONE;
        const enum chat_template got = chat_detect(view(json_object_get(t, "text")));
        if (!chat_template_parse(name, &want)) {
            want = CHAT_NONE;
        }
        if (want != got) {
            printf("template %s is taken for %s\n", name, chat_template_name(got));
            ok = false;
        }
    }
    return ok;
}

int main(void)
{
    const char *root = getenv("ONEBIT_SHARED");
    char *path = NULL;
    size_t n[4] = {0}, failed = 0, i;
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
    json_array_foreach(json_object_get(all, "cases"), i, c)
    {
        const char *name = json_string_value(json_object_get(c, "template"));
        enum chat_template t;
        if (!chat_template_parse(name, &t)) {
            continue;
        }
        const json_t *bos = json_object_get(json_object_get(templates, name), "bos");
        n[t]++;
        failed += !check_case(c, t, view(bos));
    }
    const bool ok = check_detection(templates) && failed == 0 && n[CHAT_CHATML] > 0 &&
                    n[CHAT_LLAMA3] > 0 && n[CHAT_QWEN3] > 0;
    printf("chatml %zu, llama3 %zu, qwen3 %zu cases; %zu failed\n", n[CHAT_CHATML], n[CHAT_LLAMA3],
           n[CHAT_QWEN3], failed);
    json_decref(all);
    free(path);
    return ok ? 0 : 1;
}
