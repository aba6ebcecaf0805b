/* make: a model of random weights in the shape of a real one.
 *
 * Speed, memory and file handling do not depend on what the weights are, so such a model measures
 * like the real one. */
#include <stdio.h>
#include <string.h>

#include "engine/lab/lab.h"
#include "engine/lab/make.h"

#define LIST_BYTES 512u

static void list_add(char list[LIST_BYTES], const char *name)
{
    const size_t n = strlen(list);

    (void)snprintf(list + n, LIST_BYTES - n, "%s%s", n ? ", " : "", name);
}

static int no_such_shape(const char *name)
{
    char list[LIST_BYTES] = "";
    const struct shape *s;

    for (size_t i = 0; (s = shape_at(i)) != NULL; i++) {
        list_add(list, s->name);
    }
    lab_error("--shape: none is called %s (%s)", name, list);
    return LAB_USAGE;
}

/* Can the writer encode it, and does it fit the shape's rows? */
static int check_format(const char *option, const char *format, const struct shape *s, bool head)
{
    struct gguf_writable f;
    char list[LIST_BYTES] = "";

    for (size_t i = 0; gguf_writable(i, &f); i++) {
        list_add(list, f.name);
        if (strcmp(f.name, format) != 0) {
            continue;
        }
        const uint64_t odd = shape_misfit(s, head, f.block);
        if (odd != 0) {
            lab_error("%s: %s has rows of %llu weights, %s wants multiples of %u", option, s->name,
                      (unsigned long long)odd, format, f.block);
            return LAB_USAGE;
        }
        return LAB_OK;
    }
    lab_error("%s: %s is none of %s", option, format, list);
    return LAB_USAGE;
}

static int write_file(const struct lab_args *a, const struct shape *shape, const char *head)
{
    int fd = -1;
    int r = outfile_begin(a->path, &fd);

    if (r != LAB_OK) {
        return r;
    }
    const struct make_as as = {
        .format = a->format, .head = head, .activations = a->activations, .seed = a->seed};
    r = shape_write(shape, &as, fd);
    if (r < 0) {
        outfile_abort();
        return lab_errno(a->path, r);
    }
    return outfile_commit(a->path);
}

int verb_make(const struct lab_args *a)
{
    if (!a->shape || !a->format) {
        lab_error("--shape and --format are both needed");
        return LAB_USAGE;
    }
    const struct shape *shape = shape_find(a->shape);
    if (!shape) {
        return no_such_shape(a->shape);
    }
    if (a->activations && strcmp(a->activations, "binary") != 0 &&
        strcmp(a->activations, "int8") != 0) {
        lab_error("--activations: %s is none of binary, int8", a->activations);
        return LAB_USAGE;
    }
    const char *head = a->head ? a->head : shape->head ? shape->head : a->format;
    int r = check_format("--format", a->format, shape, /* head= */ false);
    if (r == LAB_OK) {
        r = check_format("--head", head, shape, /* head= */ true);
    }
    return r == LAB_OK ? write_file(a, shape, head) : r;
}
