/* pack: the packed form of a model as a file, which every verb opens in place of the GGUF.
 *
 * It is what the daemon's runner maps, so a process that starts from it takes the memory of one. */
#include <fcntl.h>
#include <unistd.h>

#include "engine/lab/lab.h"

int verb_pack(const struct lab_args *a)
{
    int in = -1, out = -1;

    if (!a->out) {
        lab_error("--out is needed");
        return LAB_USAGE;
    }
    int r = outfile_check(a->out);
    if (r == LAB_OK) {
        r = lab_open(a->path, &in);
    }
    if (r != LAB_OK) {
        return r;
    }
    r = outfile_not_input(a->out, in);
    if (r == LAB_OK) {
        r = outfile_begin(a->out, &out);
    }
    if (r == LAB_OK) {
        r = lab_pack(a->path, in, out);
        if (r == LAB_OK) {
            r = outfile_commit(a->out);
        } else {
            outfile_abort();
        }
    }
    (void)close(in);
    return r;
}
