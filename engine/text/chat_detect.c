/* chat_detect: which template a text is, by what it would write (chat_skeleton.h). Two texts that
 * differ in white space, quotes, names of variables or message.role for message['role'] have the
 * same skeleton; one that writes another mark, a sentence of its own or the same marks in another
 * order has another. */
#include <string.h>

#include "base/compiler.h"
#include "engine/text/chat.h"
#include "engine/text/chat_skeleton.h"

static bool take(struct strview *at, const char *text)
{
    const size_t n = strlen(text);

    if (at->n < n || memcmp(at->data, text, n) != 0) {
        return false;
    }
    at->data += n;
    at->n -= n;
    return true;
}

/* One or more turns, one for all roles or one for each, and the head of an answer. */
static bool is_chatml(const struct chat_skeleton *s)
{
    static const char *const roles[] = {"system\n", "user\n", "assistant\n", "tool\n"};
    struct strview at = {.data = s->text, .n = s->n};
    unsigned seen = 0;
    bool all = false;

    if (s->uses != 0) {
        return false;
    }
    while (take(&at, "<|im_start|>")) {
        unsigned who = take(&at, ROLE "\n") ? 16 : 0;
        for (unsigned i = 0; who == 0 && i < ARRAY_SIZE(roles); i++) {
            who = take(&at, roles[i]) ? 1u << i : 0;
        }
        if (who == ASSISTANT && at.n == 0) {
            break; /* the head of an answer */
        }
        if (who == 0 || !take(&at, CONTENT "<|im_end|>\n")) {
            return false;
        }
        all |= who == 16;
        seen |= who;
    }
    /* Where roles are told apart, each has to have its place. */
    seen |= all ? s->asked : 0;
    return at.n == 0 && ((all && s->asked == 0) || (seen & EVERYBODY) == EVERYBODY);
}

/* Made of nothing but its marks, and the three places where versions of it could differ are as they
 * should be: a plain turn, the empty block of thoughts, and nothing after that. */
static bool is_qwen3(const struct chat_skeleton *s)
{
    static const char *const pieces[] = {
        ROLE,
        CONTENT,
        "\n",
        "<think>",
        "</think>",
        "<|im_start|>system",
        "<|im_end|>",
        "<|im_start|>user",
        "<|im_start|>assistant",
        "<|im_start|>",
        "<tool_response>",
        "</tool_response>",
    };
    static const char tail[] = "<|im_start|>assistant\n<think>\n\n</think>\n\n";
    static const char turn[] = "<|im_start|>" ROLE "\n" CONTENT "<|im_end|>\n";
    static const char turn_by_name[] = "<|im_start|>" ROLE "\n<|im_end|>\n";
    const struct strview all = {.data = s->text, .n = s->n};
    const size_t n_tail = strlen(tail);
    struct strview at = all;

    if (!(s->uses & USES_THINKING) || !(s->uses & USES_WORDS) ||
        s->uses & (UNKNOWN | USES_CAPITAL | USES_BOS_IN_LOOP) ||
        (s->asked & EVERYBODY) != EVERYBODY) {
        return false;
    }
    while (at.n > 0) {
        bool known = false;
        for (size_t i = 0; !known && i < ARRAY_SIZE(pieces); i++) {
            known = take(&at, pieces[i]);
        }
        if (!known) {
            return false;
        }
    }
    return all.n > n_tail && memcmp(all.data + all.n - n_tail, tail, n_tail) == 0 &&
           (memmem(all.data, all.n, turn, strlen(turn)) ||
            memmem(all.data, all.n, turn_by_name, strlen(turn_by_name)));
}

#define LLAMA3_TURN "<|start_header_id|>" ROLE "<|end_header_id|>\n\n" CONTENT "<|eot_id|>"
#define LLAMA3_HEAD "<|start_header_id|>assistant<|end_header_id|>\n\n"
#define BITNET_TURN ROLE ": " CONTENT "<|eot_id|>"

/* Skeletons that are compared whole. */
static const struct known {
    const char *skeleton;
    unsigned uses; /* exactly these */
    unsigned asked;
    enum chat_template template;
    bool placeholder;
} known[] = {
    {LLAMA3_TURN BOS LLAMA3_HEAD, USES_TRIM | USES_FIRST | USES_BOS_IN_LOOP, 0, CHAT_LLAMA3, false},
    {BOS LLAMA3_TURN LLAMA3_HEAD, USES_TRIM | USES_FIRST | USES_BOS_IN_LOOP, 0, CHAT_LLAMA3, false},
    {BOS LLAMA3_TURN LLAMA3_HEAD, USES_TRIM, 0, CHAT_LLAMA3, false},
    {BITNET_TURN BOS "Assistant: ", USES_TRIM | USES_CAPITAL | USES_FIRST | USES_BOS_IN_LOOP, 0,
     CHAT_BITNET, false},
    {BOS BITNET_TURN "Assistant: ", USES_TRIM | USES_CAPITAL | USES_FIRST | USES_BOS_IN_LOOP, 0,
     CHAT_BITNET, false},
    {BOS BITNET_TURN "Assistant: ", USES_TRIM | USES_CAPITAL, 0, CHAT_BITNET, false},
    {BOS "Human: " CONTENT "\n\nBITNETAssistant: " EOS CONTENT EOS, USES_FIRST | USES_BOS_IN_LOOP,
     USER | ASSISTANT, CHAT_BITNET, true},
    {"<|system|>\n" CONTENT "\n<|user|>\n" CONTENT "\n<|assistant|>\n" CONTENT EOS
     "\n<|assistant|>\n" CONTENT EOS "<|assistant|>\n",
     0, EVERYBODY, CHAT_FALCON3, false},
    {"<\xe7\x94\xa8\xe6\x88\xb7>" CONTENT "<AI>" CONTENT, USES_TRIM, USER, CHAT_MINICPM, false},
};

/* What the placeholder of bitnet.cpp's converter stands for. */
static enum chat_template behind_placeholder(struct strview arch, struct strview pre)
{
    if (strview_starts(arch, "bitnet")) {
        return CHAT_BITNET;
    }
    return strview_is(pre, "falcon3") || strview_is(pre, "falcon_e") ? CHAT_FALCON3 : CHAT_NONE;
}

enum chat_template chat_detect(struct strview text, struct strview arch, struct strview pre)
{
    struct chat_skeleton s;

    if (!text.data || text.n == 0 || text.n > CHAT_TEMPLATE_BYTES_MAX) {
        return CHAT_NONE;
    }
    chat_skeleton_read(&s, text);
    if (s.uses & UNKNOWN) {
        return CHAT_NONE;
    }
    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        const struct known *k = &known[i];
        if (strview_is((struct strview){.data = s.text, .n = s.n}, k->skeleton) &&
            s.uses == k->uses && s.asked == k->asked) {
            return k->placeholder ? behind_placeholder(arch, pre) : k->template;
        }
    }
    return is_qwen3(&s) ? CHAT_QWEN3 : is_chatml(&s) ? CHAT_CHATML : CHAT_NONE;
}
