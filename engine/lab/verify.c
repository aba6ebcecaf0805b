/* verify: check a whole file, weights included. */
#include "engine/lab/lab.h"

int verb_verify(const struct lab_args *a)
{
    struct model *model = NULL;
    struct diag diag = {0};
    int r = lab_model(a->path, &model, NULL);

    if (r != LAB_OK) {
        return r;
    }
    r = model_verify(model, &diag);
    if (r < 0) {
        r = lab_errno(a->path, r);
    } else if (r > 0) {
        lab_error("%s: malformed: %s (at byte %llu)", a->path, diag.text,
                  (unsigned long long)diag.offset);
        r = LAB_DATA;
    } else {
        (void)printf("sound\n");
    }
    model_free(model);
    return r;
}
