/* Runs a fuzz target over files: `fuzz_NAME FILE-OR-FOLDER...`. Each input lies in an allocation
 * of its own size, so that AddressSanitizer sees a read past its end. No input at all is a
 * failure. */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static unsigned n_inputs;

static int replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    uint8_t *data = NULL;
    long n = -1;
    int r = -1;

    if (!f || fseek(f, 0, SEEK_END) != 0 || (n = ftell(f)) < 0 || fseek(f, 0, SEEK_SET) != 0) {
        goto out;
    }
    data = malloc(n > 0 ? (size_t)n : 1);
    if (!data || fread(data, 1, (size_t)n, f) != (size_t)n) {
        goto out;
    }
    (void)LLVMFuzzerTestOneInput(data, (size_t)n);
    n_inputs++;
    r = 0;
out:
    if (r < 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
    }
    free(data);
    if (f) {
        fclose(f);
    }
    return r;
}

static int visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static int replay_folder(const char *path)
{
    struct dirent **entries;
    const int n = scandir(path, &entries, visible, alphasort);
    int r = n < 0 ? -1 : 0;

    if (n < 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
    }
    for (int i = 0; i < n; i++) {
        char file[4096];
        const int len = snprintf(file, sizeof(file), "%s/%s", path, entries[i]->d_name);
        if (len < 0 || (size_t)len >= sizeof(file) || replay_file(file) < 0) {
            r = -1;
        }
        free(entries[i]);
    }
    if (n >= 0) {
        free(entries);
    }
    return r;
}

int main(int argc, char **argv)
{
    int r = 0;

    for (int i = 1; i < argc; i++) {
        struct stat st;
        const int is_folder = stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode);
        if ((is_folder ? replay_folder(argv[i]) : replay_file(argv[i])) < 0) {
            r = -1;
        }
    }
    printf("%u inputs replayed\n", n_inputs);
    return r == 0 && n_inputs > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
