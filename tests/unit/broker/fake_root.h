/* A kernel's files of one's own, below a folder that goes with the test. */
#ifndef TESTS_FAKE_ROOT_H
#define TESTS_FAKE_ROOT_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct fake_root {
    char root[64];
};

/* Write a file, with the folders above it; in one go, as the kernel's files change. */
static inline void fake_put(const struct fake_root *t, const char *path, const char *text)
{
    char name[512], temp[sizeof(name) + 4];

    (void)snprintf(name, sizeof(name), "%s%s", t->root, path);
    for (char *at = name + strlen(t->root) + 1; (at = strchr(at, '/')); at++) {
        *at = '\0';
        (void)mkdir(name, 0700);
        *at = '/';
    }
    (void)snprintf(temp, sizeof(temp), "%s.new", name);
    FILE *f = fopen(temp, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(rename(temp, name), 0);
}

static inline void fake_remove(const struct fake_root *t, const char *path)
{
    char name[512];

    (void)snprintf(name, sizeof(name), "%s%s", t->root, path);
    (void)unlink(name);
}

static inline int fake_plant(void **state)
{
    struct fake_root *t = calloc(1, sizeof(*t));

    if (!t) {
        return -1;
    }
    (void)snprintf(t->root, sizeof(t->root), "/tmp/onebit-root-XXXXXX");
    *state = t;
    return mkdtemp(t->root) ? 0 : -1;
}

static inline int fake_fell(void **state)
{
    struct fake_root *t = *state;
    char command[96];

    (void)snprintf(command, sizeof(command), "rm -rf '%s'", t->root);
    const int r = system(command);
    free(t);
    return r;
}

#endif
