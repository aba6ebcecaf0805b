/* Tokenizers against recorded results: every line of the reference files, both directions.
 *
 * Goal: the same ids and the same bytes as the models' own tokenizers give. Method: each vocabulary
 * is opened from its GGUF; every text is tokenized and compared with the recorded ids, every id
 * list detokenized and compared with the recorded bytes. Skipped, loudly, without the reference
 * data. */
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/engine.h"

#define SKIP 77
#define SHOWN_MAX 10u /* mismatches written out per file */

struct tally {
    size_t n, failed;
};

static char *path_in(const char *root, const char *name, const char *suffix)
{
    char *path = NULL;

    if (asprintf(&path, "%s/oracle/tokenizers/%s%s", root, name, suffix) < 0) {
        abort();
    }
    return path;
}

static size_t unhex(const char *hex, char *out)
{
    size_t n = 0;
    unsigned byte;

    while (sscanf(hex + 2 * n, "%2x", &byte) == 1) {
        out[n++] = (char)byte;
    }
    return n;
}

static void complain(struct tally *t, const char *what, size_t line)
{
    if (t->failed++ < SHOWN_MAX) {
        printf("  line %zu: %s\n", line, what);
    }
}

static bool same_ids(const json_t *want, const int32_t *ids, size_t n)
{
    if (json_array_size(want) != n) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (json_integer_value(json_array_get(want, i)) != ids[i]) {
            return false;
        }
    }
    return true;
}

static void check_text(const struct vocab *v, const json_t *record, size_t line, struct tally *t)
{
    const json_t *text = json_object_get(record, "text"), *hex = json_object_get(record, "hex");
    const size_t room = (text ? json_string_length(text) : strlen(json_string_value(hex))) + 8;
    char *bytes = malloc(room);
    int32_t *ids = malloc((room * 3 + 16) * sizeof(*ids));
    unsigned flags = 0;
    size_t n, n_ids = 0;

    if (!bytes || !ids) {
        abort();
    }
    if (text) {
        n = json_string_length(text);
        memcpy(bytes, json_string_value(text), n);
    } else {
        n = unhex(json_string_value(hex), bytes);
    }
    flags |= json_is_true(json_object_get(record, "parse_special")) ? TOKENIZE_SPECIAL : 0;
    flags |= json_is_true(json_object_get(record, "add_special")) ? TOKENIZE_ADD_SPECIAL : 0;
    t->n++;
    if (vocab_tokenize(v, bytes, n, flags, ids, room * 3 + 16, &n_ids) != TOKENIZE_OK) {
        complain(t, "not tokenized", line);
    } else if (!same_ids(json_object_get(record, "ids"), ids, n_ids)) {
        complain(t, "other ids", line);
        if (t->failed <= SHOWN_MAX) {
            char *dump = json_dumps(record, JSON_COMPACT);
            printf("    want %.600s\n    got ", dump);
            for (size_t i = 0; i < n_ids && i < 60; i++) {
                printf(" %d", ids[i]);
            }
            printf("\n");
            free(dump);
        }
    }
    free(ids);
    free(bytes);
}

static void check_ids(const struct vocab *v, const json_t *record, size_t line, struct tally *t)
{
    const json_t *list = json_object_get(record, "ids");
    const char *hex = json_string_value(json_object_get(record, "hex"));
    const size_t n = json_array_size(list);
    int32_t *ids = malloc((n + 1) * sizeof(*ids));
    char *want = malloc(strlen(hex) + 1), *got = NULL;
    size_t n_got = 0;

    if (!ids || !want) {
        abort();
    }
    for (size_t i = 0; i < n; i++) {
        ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    }
    const size_t n_want = unhex(hex, want);
    t->n++;
    if (vocab_detokenize(v, ids, n, &got, &n_got) != 0 || n_got != n_want ||
        memcmp(got, want, n_want) != 0) {
        complain(t, "other bytes", line);
        if (t->failed <= SHOWN_MAX) {
            printf("    want %zu bytes \"%.*s\"\n    got  %zu bytes \"%.*s\"\n", n_want,
                   (int)n_want, want, n_got, (int)n_got, got ? got : "");
        }
    }
    free(got);
    free(want);
    free(ids);
}

typedef void check_fn(const struct vocab *v, const json_t *record, size_t line, struct tally *t);

static bool check_file(const struct vocab *v, const char *path, check_fn *check)
{
    FILE *f = fopen(path, "r");
    struct tally t = {0};
    char *line = NULL;
    size_t room = 0, i = 0;

    if (!f) {
        printf("%s: cannot be read\n", path);
        return false;
    }
    printf("%s\n", path);
    while (getline(&line, &room, f) > 0) {
        json_t *record = json_loads(line, JSON_ALLOW_NUL, NULL);
        i++;
        if (record) {
            check(v, record, i, &t);
        } else {
            complain(&t, "no JSON", i);
        }
        json_decref(record);
    }
    printf("  %zu of %zu equal\n", t.n - t.failed, t.n);
    free(line);
    fclose(f);
    return t.failed == 0 && t.n > 0;
}

static bool check_vocab(const char *root, const char *vocab, const char *name)
{
    char *model = path_in(root, vocab, ".gguf"), *texts = path_in(root, name, ".jsonl");
    char *ids = path_in(root, name, ".detok.jsonl");
    struct vocab *v = NULL;
    struct diag d = {0};
    const int fd = open(model, O_RDONLY | O_CLOEXEC);
    bool ok = false;

    if (fd < 0 || vocab_open_gguf(&v, fd, &d) != MODEL_OK) {
        printf("%s: not opened: %s\n", model, d.text);
    } else {
        ok = check_file(v, texts, check_text);
        ok = check_file(v, ids, check_ids) && ok;
    }
    vocab_free(v);
    if (fd >= 0) {
        close(fd);
    }
    free(model);
    free(texts);
    free(ids);
    return ok;
}

/* The texts on which two references differ, because only one of them brings text into normalization
 * form C as the model's tokenizer does: that one's ids. */
static bool check_normalized(const char *root)
{
    char *model = path_in(root, "qwen3", ".gguf"), *path = path_in(root, "disagreements", ".json");
    json_t *all = json_load_file(path, JSON_ALLOW_NUL, NULL), *record;
    const int fd = open(model, O_RDONLY | O_CLOEXEC);
    struct tally t = {0};
    struct vocab *v = NULL;
    size_t i;

    printf("%s\n", path);
    if (fd >= 0 && vocab_open_gguf(&v, fd, NULL) == MODEL_OK) {
        json_array_foreach(all, i, record)
        {
            json_object_set(record, "ids", json_object_get(record, "javascript"));
            check_text(v, record, i + 1, &t);
        }
    }
    printf("  %zu of %zu equal\n", t.n - t.failed, t.n);
    vocab_free(v);
    json_decref(all);
    if (fd >= 0) {
        close(fd);
    }
    free(model);
    free(path);
    return t.failed == 0 && t.n == 20;
}

/* A copy of Llama 3's file of the architecture "bitnet-b1.58" and without a pre-tokenizer: a
 * descriptor for the caller to close. The key is renamed, so that everything else stays. */
static int as_bitnet(const char *path)
{
    static const char key[] = "general.architecture", pre[] = "tokenizer.ggml.pre";
    static const struct {
        uint64_t n;
        char text[12];
    } arch = {12, "bitnet-b1.58"};
    const size_t key_n = sizeof(key) - 1, old_n = 8 + strlen("llama");
    const int in = open(path, O_RDONLY | O_CLOEXEC), out = memfd_create("bitnet", MFD_CLOEXEC);
    const off_t n = lseek(in, 0, SEEK_END);
    char *file = n > 0 ? malloc((size_t)n) : NULL;

    if (out < 0 || !file || pread(in, file, (size_t)n, 0) != n) {
        abort();
    }
    char *at = memmem(file, (size_t)n, key, key_n),
         *name = memmem(file, (size_t)n, pre, sizeof(pre) - 1);
    if (!at || !name) {
        abort();
    }
    name[sizeof(pre) - 2] = 'X';
    at += key_n + 4; /* past the value's type */
    if (write(out, file, (size_t)(at - file)) != at - file || write(out, &arch, 20) != 20 ||
        write(out, at + old_n, (size_t)(file + n - at) - old_n) !=
            (ssize_t)((size_t)(file + n - at) - old_n)) {
        abort();
    }
    free(file);
    close(in);
    return out;
}

/* BitNet b1.58 2B4T: its vocabulary is Llama 3's, its files leave the pre-tokenizer out and name
 * one of its two ends. */
static bool check_bitnet(const char *root)
{
    char *model = path_in(root, "llama-bpe", ".gguf"), *texts = path_in(root, "llama3", ".jsonl");
    const int fd = as_bitnet(model);
    struct vocab *v = NULL;
    struct diag d = {0};
    bool ok = false;

    if (vocab_open_gguf(&v, fd, &d) != MODEL_OK) {
        printf("%s as BitNet's: not opened: %s\n", model, d.text);
    } else {
        printf("as BitNet b1.58 2B4T: ");
        ok = check_file(v, texts, check_text) && vocab_is_end(v, 128001) &&
             vocab_is_end(v, 128009) && !vocab_is_end(v, 128000) && !vocab_is_end(v, 128006);
    }
    vocab_free(v);
    close(fd);
    free(model);
    free(texts);
    return ok;
}

/* A whole path from messages to ids: one question to Qwen 3 that is not to think. */
static bool check_prompt(const char *root)
{
    static const int32_t want[] = {151644, 872,    198,   785, 6722,   315, 9625,   374, 151645,
                                   198,    151644, 77091, 198, 151667, 271, 151668, 271};
    const struct chat_message m = {.role = strview_of("user"),
                                   .content = strview_of("The capital of France is")};
    const struct chat_options options = {.generation_prompt = true, .no_thinking = true};
    char *model = path_in(root, "qwen3", ".gguf"), *text = NULL;
    struct vocab *v = NULL;
    int32_t ids[64];
    size_t n_text = 0, n = 0;
    const int fd = open(model, O_RDONLY | O_CLOEXEC);
    const bool ok = fd >= 0 && vocab_open_gguf(&v, fd, NULL) == MODEL_OK &&
                    chat_render(CHAT_QWEN3, &m, 1, &options, (struct strview){0}, &text, &n_text,
                                NULL) == CHAT_OK &&
                    vocab_tokenize(v, text, n_text, TOKENIZE_SPECIAL, ids, 64, &n) == TOKENIZE_OK &&
                    n == ARRAY_SIZE(want) && memcmp(ids, want, sizeof(want)) == 0 &&
                    vocab_is_end(v, 151645) && vocab_is_end(v, 151643);

    printf("a prompt of qwen3: %s\n", ok ? "equal" : "other ids");
    free(text);
    vocab_free(v);
    if (fd >= 0) {
        close(fd);
    }
    free(model);
    return ok;
}

int main(void)
{
    const char *root = getenv("ONEBIT_SHARED");
    bool ok;

    if (!root || access(root, R_OK) != 0) {
        printf("SKIPPED: no reference data at %s\n", root ? root : "ONEBIT_SHARED");
        return SKIP;
    }
    ok = check_vocab(root, "llama-bpe", "llama3");
    ok = check_vocab(root, "qwen3", "qwen3") && ok;
    ok = check_vocab(root, "gpt-2", "gpt-2") && ok;
    ok = check_vocab(root, "falcon", "falcon") && ok;
    ok = check_vocab(root, "llama-spm", "llama-spm") && ok;
    ok = check_normalized(root) && ok;
    ok = check_bitnet(root) && ok;
    ok = check_prompt(root) && ok;
    return ok ? 0 : 1;
}
