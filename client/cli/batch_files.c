/* batch_files: where a batch goes on. The output says by itself how far it is: each of its lines
 * has the number of its line in the input and a mark of what stood there and how it was asked. So
 * nothing is kept beside it, a new line may be added to the input, and a wrong input is found
 * out. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/cli/batch.h"

/* Open a regular file: 0 or an exit code. */
static int open_regular(int *ret, const char *path, int flags, int bad)
{
    struct stat st;
    const int fd = open(path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666);

    if (fd < 0) {
        complain("%s: %s", path, strerror(errno));
        return bad;
    }
    *ret = fd;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        complain("%s: is no regular file", path);
        return bad;
    }
    return 0;
}

/* What one line of the output says of itself. */
struct answered {
    uint64_t line, mark;
    bool failed;
};

static bool read_answered(struct answered *ret, const struct line *line)
{
    char *end;
    json_t *o = line->too_long || line->torn ? NULL : json_loadb(line->text, line->n, 0, NULL);
    const json_t *number = json_object_get(o, "line");
    const char *mark = json_string_value(json_object_get(o, "input"));
    const bool good = json_is_integer(number) && json_integer_value(number) > 0 && mark &&
                      strlen(mark) == 16 && strspn(mark, "0123456789abcdef") == 16;

    if (good) {
        *ret = (struct answered){(uint64_t)json_integer_value(number), strtoull(mark, &end, 16),
                                 json_object_get(o, "error") != NULL};
    }
    json_decref(o);
    return good;
}

/* May this be the beginning of a line that we wrote? Nothing else is ever taken off. */
static bool may_be_ours(const struct line *line)
{
    static const char begin[] = "{\"line\":";
    const size_t n = strlen(begin);

    return memcmp(line->n > 0 ? line->text : "", begin, line->n < n ? line->n : n) == 0;
}

/* The next line of the input that asks something: 1, 0 at the end, or a negative errno. */
static int next_question(struct lines *in, struct line *ret)
{
    int r;

    do {
        r = lines_next(in, ret);
    } while (r == 1 && !ret->too_long && line_blank(ret));
    return r;
}

/* One whole line of the output against the next one of the input: 0 or an exit code. */
static int match(struct batch_files *f, const struct args *args, struct lines *in,
                 const struct answered *a, const char *out_path)
{
    struct line asked;
    const int r = next_question(in, &asked);

    if (r < 0) {
        complain("the input cannot be read: %s", strerror(-r));
        return EXIT_IO;
    }
    if (r == 0 || a->line != in->number || a->mark != batch_mark(args, &asked)) {
        complain("%s does not belong to this input, or was made with other options: its answer to "
                 "line %" PRIu64 " is for something else",
                 out_path, a->line);
        complain("name another file for the output, or move this one away");
        return EXIT_DATA;
    }
    f->n_had++;
    f->n_had_failed += a->failed;
    f->in_at = in->at;
    f->in_line = in->number;
    return 0;
}

/* Go over the output; in stands behind its last answer then. */
static int go_over(struct batch_files *f, const struct args *args, struct lines *in,
                   struct lines *out, const char *out_path, off_t *ret_end)
{
    struct line line;
    int r, code = 0;

    while (code == 0 && (r = lines_next(out, &line)) == 1) {
        struct answered a;
        if (!read_answered(&a, &line)) {
            struct line behind;
            const uint64_t number = out->number;
            f->torn = may_be_ours(&line) && lines_next(out, &behind) == 0;
            if (!f->torn) {
                complain("line %" PRIu64 " of %s is no answer of a batch", number, out_path);
                complain("name another file for the output, or move this one away");
                return EXIT_DATA;
            }
            return 0;
        }
        code = match(f, args, in, &a, out_path);
        *ret_end = out->at;
    }
    if (code == 0 && r < 0) {
        complain("%s cannot be read: %s", out_path, strerror(-r));
        code = EXIT_IO;
    }
    return code;
}

static int count_rest(struct batch_files *f, struct lines *in, const char *path)
{
    struct line line;
    int r;

    f->n_all = f->n_had;
    while ((r = next_question(in, &line)) == 1) {
        f->n_all++;
    }
    if (r < 0) {
        complain("%s: %s", path, strerror(-r));
        return EXIT_IO;
    }
    return 0;
}

static int find_place(struct batch_files *f, const struct args *args, const char *in_path,
                      const char *out_path)
{
    struct lines in, out;
    off_t end = 0;

    lines_init(&in, f->in, IN_LINE_BYTES_MAX, 0, 0);
    lines_init(&out, f->out, OUT_LINE_BYTES_MAX, 0, 0);
    int r = go_over(f, args, &in, &out, out_path, &end);
    if (r == 0) {
        r = count_rest(f, &in, in_path);
    }
    if (r == 0 && f->torn && ftruncate(f->out, end) < 0) {
        complain("%s cannot be shortened: %s", out_path, strerror(errno));
        r = EXIT_IO;
    }
    if (r == 0 && lseek(f->out, 0, SEEK_END) < 0) {
        complain("%s: %s", out_path, strerror(errno));
        r = EXIT_IO;
    }
    lines_deinit(&out);
    lines_deinit(&in);
    return r;
}

int batch_files_open(struct batch_files *f, const struct args *args, const char *in,
                     const char *out)
{
    struct stat a, b;

    *f = (struct batch_files){.in = -1, .out = -1};
    int r = open_regular(&f->in, in, O_RDONLY, EXIT_DATA);
    if (r == 0) {
        r = open_regular(&f->out, out, O_RDWR | O_CREAT, EXIT_IO);
    }
    if (r != 0) {
        return r;
    }
    if (fstat(f->in, &a) == 0 && fstat(f->out, &b) == 0 && a.st_dev == b.st_dev &&
        a.st_ino == b.st_ino) {
        complain("input and output are the same file");
        return EXIT_USAGE;
    }
    if (flock(f->out, LOCK_EX | LOCK_NB) < 0) {
        complain("%s is being written by another batch", out);
        return EXIT_IO;
    }
    return find_place(f, args, in, out);
}

void batch_files_close(struct batch_files *f)
{
    if (f->in >= 0) {
        (void)close(f->in);
    }
    if (f->out >= 0) {
        (void)close(f->out);
    }
    f->in = f->out = -1;
}
