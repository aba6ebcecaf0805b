/* vocabulary: copied key by key into a file in memory, and opened there. */
#include "train/loop/vocabulary.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fdio.h"
#include "engine/engine.h"
#include "train/bpe/keys.h"
#include "train/loop/prompt.h"

void vocabulary_close(struct vocabulary *v)
{
    vocab_free(v->vocab);
    free(v->bytes);
    if (v->fd > 0) {
        (void)close(v->fd);
    }
    *v = (struct vocabulary){0};
}

/* A writer for the keys alone. */
static int copy_keys(int from, int to, struct diag *d)
{
    struct gguf_writer *w = NULL;
    enum chat_template chat;
    bool given = false;
    int r = chat_template_of_gguf(from, &chat, &given, d);

    if (r == 0) {
        r = gguf_writer_new(&w);
    }
    if (r == 0) {
        r = gguf_put_str(w, "general.architecture", strview_of("qwen3"));
    }
    if (r == 0) {
        r = gguf_put_from(w, from, "tokenizer.", d);
    }
    if (r == 0 && !given) {
        r = gguf_put_str(w, "tokenizer.chat_template", strview_of(bpe_chatml));
        if (r == -EINVAL) { /* a number has its name */
            diag_set(d, 0, "tokenizer.chat_template is no text");
            r = MODEL_MALFORMED;
        }
    }
    if (r == 0) {
        r = gguf_writer_begin(w, to);
    }
    if (r == 0) {
        r = gguf_writer_end(w);
    }
    gguf_writer_free(w);
    return r;
}

static int take_bytes(struct vocabulary *v, struct diag *d)
{
    struct stat st;

    if (fstat(v->fd, &st) < 0) {
        return -errno;
    }
    if ((uint64_t)st.st_size > VOCABULARY_BYTES_MAX) {
        diag_set(d, 0, "the tokenizer's keys have more than %zu bytes", VOCABULARY_BYTES_MAX);
        return MODEL_TOO_BIG;
    }
    v->n = (size_t)st.st_size;
    v->bytes = malloc(v->n + 1);
    return v->bytes ? fd_read_all_at(v->fd, v->bytes, v->n, 0) : -ENOMEM;
}

static int check_chat(struct vocabulary *v, struct diag *d)
{
    bool given;
    const int r = chat_template_of_gguf(v->fd, &v->chat, &given, d);

    if (r != MODEL_OK || v->chat == CHAT_CHATML || v->chat == CHAT_QWEN3) {
        return r;
    }
    diag_set(d, 0, "its chat template is %s, and rows are laid out as chatml or qwen3",
             v->chat == CHAT_NONE ? "none that is known here" : chat_template_name(v->chat));
    return MODEL_UNSUPPORTED;
}

static int open_vocab(struct vocabulary *v, struct diag *d)
{
    int r = vocab_open_gguf(&v->vocab, v->fd, d);

    if (r == MODEL_OK) {
        r = prompt_end(v->vocab, &v->end);
    }
    if (r != MODEL_OK) {
        return r;
    }
    if (v->end < 0) {
        diag_set(d, 0, "the vocabulary has no token <|im_end|> that ends a turn");
        return MODEL_UNSUPPORTED;
    }
    return check_chat(v, d);
}

int vocabulary_open(struct vocabulary *ret, int fd, struct diag *ret_diag)
{
    struct vocabulary v = {.fd = memfd_create("vocabulary", MFD_CLOEXEC)};
    int r = v.fd < 0 ? -errno : copy_keys(fd, v.fd, ret_diag);

    if (r == 0) {
        r = take_bytes(&v, ret_diag);
    }
    if (r == 0) {
        r = open_vocab(&v, ret_diag);
    }
    if (r == MODEL_OK) {
        *ret = v;
        return MODEL_OK;
    }
    vocabulary_close(&v);
    return r;
}

int vocabulary_read(struct vocabulary *ret, const void *bytes, size_t n, struct diag *ret_diag)
{
    const int fd = memfd_create("vocabulary", MFD_CLOEXEC);
    int r = fd < 0 ? -errno : fd_write_all(fd, bytes, n);

    if (r == 0) {
        r = vocabulary_open(ret, fd, ret_diag);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return r;
}
