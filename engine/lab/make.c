/* make: a model of random weights in the shape of a real one.
 *
 * Speed, memory and file handling do not depend on what the weights are, so such a model measures
 * like the real one. */
#include <string.h>

#include "engine/lab/lab.h"
#include "engine/lab/make.h"

/* Every shape's rows are whole blocks of every one of these. */
static int check_format(const char *option, const char *format)
{
    static const char *const formats[] = {"Q1_0", "Q8_0", "TQ2_0", "F16", "BF16", "F32"};

    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        if (strcmp(format, formats[i]) == 0) {
            return LAB_OK;
        }
    }
    lab_error("%s: %s is none of Q1_0, Q8_0, TQ2_0, F16, BF16, F32", option, format);
    return LAB_USAGE;
}

static int write_file(const struct lab_args *a, const struct shape *shape, const char *head)
{
    int fd = -1;
    int r = outfile_begin(a->path, &fd);

    if (r != LAB_OK) {
        return r;
    }
    r = shape_write(shape, a->format, head, a->seed, fd);
    if (r < 0) {
        outfile_abort(fd);
        return lab_errno(a->path, r);
    }
    return outfile_commit(a->path, fd);
}

int verb_make(const struct lab_args *a)
{
    if (!a->shape || !a->format) {
        lab_error("--shape and --format are both needed");
        return LAB_USAGE;
    }
    const struct shape *shape = shape_find(a->shape);
    if (!shape) {
        lab_error("--shape: none is called %s (%s)", a->shape, shape_names());
        return LAB_USAGE;
    }
    const char *head = a->head ? a->head : a->format;
    int r = check_format("--format", a->format);
    if (r == LAB_OK) {
        r = check_format("--head", head);
    }
    return r == LAB_OK ? write_file(a, shape, head) : r;
}
