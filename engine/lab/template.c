/* template: chat messages to the prompt that the model's own template makes of them. */
#include <stdlib.h>

#include "engine/lab/lab.h"

int verb_template(const struct lab_args *a)
{
    struct model *model = NULL;
    struct buf in = {0};
    char *text = NULL;
    size_t n = 0;
    int r = lab_model(a->path, &model, NULL);

    if (r == LAB_OK) {
        r = read_file("-", &in);
    }
    if (r == LAB_OK) {
        r = lab_render(a, model, in.data, in.n, !a->no_generation_prompt, &text, &n);
    }
    if (r == LAB_OK) {
        out_text(stdout, out_is_terminal(), text, n);
    }
    free(text);
    buf_deinit(&in);
    model_free(model);
    return r;
}
