/* Driving the command `onebit` from tests, as its users do. */
#ifndef TESTS_UNIT_CLIENT_COMMAND_H
#define TESTS_UNIT_CLIENT_COMMAND_H

#include <sys/types.h>

#define WORDS_MAX 16

struct ran {
    int code; /* exit code; 128 + number when a signal ended it */
    char out[16384], err[4096];
};

/** memory_file() - a file without a name that holds a text; the caller closes it */
int memory_file(const char *text);

/** read_back() - what a memory file holds, as a C string; closes it */
void read_back(int fd, char *ret, size_t room);

/** status_code() - of what waitpid() told: as struct ran's */
int status_code(int status);

/** start() - start the command with these descriptors; they stay ours. -1: it gets none */
pid_t start(const char *const words[], int in, int out, int err);

/** run() - run it to its end */
void run(struct ran *ret, const char *input, const char *const words[]);

#define RUN(ran, input, ...) run((ran), (input), (const char *[WORDS_MAX]){__VA_ARGS__})

#endif
