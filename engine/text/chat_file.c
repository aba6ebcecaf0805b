/* chat_file: which template a GGUF file names, by the keys that say it. */
#include "base/filemap.h"
#include "engine/gguf.h"
#include "engine/text/chat.h"

/* "" is an answer too. */
static struct strview word(const struct gguf *g, const char *key)
{
    struct strview v = strview_of("");

    return gguf_str(g, key, &v, NULL) == GGUF_FOUND ? v : strview_of("");
}

enum chat_template chat_of_gguf(const struct gguf *g, bool *ret_given)
{
    struct strview text;

    *ret_given = gguf_str(g, "tokenizer.chat_template", &text, NULL) == GGUF_FOUND;
    return *ret_given
               ? chat_detect(text, word(g, "general.architecture"), word(g, "tokenizer.ggml.pre"))
               : CHAT_NONE;
}

int chat_template_of_gguf(int fd, enum chat_template *ret, bool *ret_given, struct diag *ret_diag)
{
    struct filemap file;
    struct gguf g;
    int r = filemap_open(&file, fd);

    if (r < 0) {
        return r;
    }
    r = gguf_parse(&g, file.data, file.size, ret_diag);
    if (r == GGUF_OK) {
        *ret = chat_of_gguf(&g, ret_given);
        gguf_deinit(&g);
    }
    filemap_close(&file);
    return r > 0 ? MODEL_MALFORMED : r;
}
