/* What the verbs of the command `onebit` share. */
#ifndef CLIENT_CLI_CLI_H
#define CLIENT_CLI_CLI_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "client/cli/term.h"
#include "client/onebit.h"

/* Exit codes of our own, after sysexits.h; those of the daemon's errors are in the error table. */
enum {
    EXIT_USAGE = 64,       /* wrong options or arguments */
    EXIT_DATA = 65,        /* the input cannot be used */
    EXIT_UNAVAILABLE = 69, /* no daemon, or it went away */
    EXIT_SOFTWARE = 70,    /* no memory, or a mistake of ours */
    EXIT_SYSTEM = 71,      /* the operating system failed us */
    EXIT_IO = 74,          /* standard input or output failed */
    EXIT_PROTOCOL = 76,    /* what answers is no daemon of this protocol */
    EXIT_DENIED = 77,      /* the socket is not for this user */
    EXIT_SIGNAL = 128,     /* plus the signal's number; 141: the reader of our output went away */
};

#define PROMPT_BYTES_MAX ((size_t)1 << 20) /* no frame holds more */
#define STOPS_MAX 16
#define SESSION_NAME_ROOM 65 /* of a session's name, its NUL included */
#define STOP_BYTES_MAX 256

/* ---- options ---- */

/* Groups of options; a verb takes some. */
enum {
    OPTS_ALWAYS = 1 << 0,   /* --help */
    OPTS_CONNECT = 1 << 1,  /* --socket */
    OPTS_JSON = 1 << 2,     /* --json */
    OPTS_GENERATE = 1 << 3, /* what makes up a request */
    OPTS_RUN = 1 << 4,      /* --raw, --logprobs */
    OPTS_VERBOSE = 1 << 5,
    OPTS_SESSION = 1 << 6, /* --session, --trim */
    OPTS_NAMES = 1 << 7,   /* --names */
    OPTS_BATCH = 1 << 8,   /* --jobs */
    OPTS_TOP = 1 << 13,    /* --once, --delay */
    OPTS_MEMORY = 1 << 14, /* --memory */
    OPTS_BENCH = 1 << 12,  /* what is measured, and how often */
};

/* Of bench; 0 or NULL: not given. */
struct bench_args {
    const char *prompts; /* "32,128,512" */
    const char *against; /* a socket */
    uint32_t rounds, streams, seconds;
    float slack_ms, rate;
    bool reuse;
};

struct args {
    const char *socket; /* NULL: where the library looks */
    const char *system; /* NULL: none */
    bool json, verbose, raw, names, memory, help;
    struct bench_args bench;
    bool has_class;
    uint32_t jobs; /* of batch: requests at once; 0: not said */
    bool once;     /* of top */
    float delay_s; /* of top; 0: not given */
    struct onebit_request request;
    const char *stops[STOPS_MAX];
    char **words; /* what is no option */
    size_t n_words;
};

struct verb {
    const char *name;
    const char *synopsis;
    const char *about; /* one line */
    const char *more;  /* paragraphs of its --help, or NULL */
    unsigned groups;
    const char *needs; /* what its first word is, when it cannot do without */
    size_t words_max;
    bool prints;                   /* to standard output, which must be there */
    int (*run)(struct args *args); /* returns the exit code */
};

extern const struct verb verbs[];
extern const size_t n_verbs;

/** args_parse() - read a verb's options: 0, or the exit code after having said what is wrong */
MUST_USE int args_parse(struct args *ret, const struct verb *verb, int argc, char **argv);

/** verb_help() - print a verb's help to standard output */
void verb_help(const struct verb *verb);

int verb_run(struct args *args);
int verb_chat(struct args *args);
int verb_list(struct args *args);
int verb_ps(struct args *args);
int verb_status(struct args *args);
int verb_reload(struct args *args);
int verb_load(struct args *args);
int verb_unload(struct args *args);
int verb_cancel(struct args *args);
int verb_batch(struct args *args);
int verb_session(struct args *args);
int verb_metrics(struct args *args);
int verb_config(struct args *args);
int verb_doctor(struct args *args);
int verb_bench(struct args *args);
int verb_top(struct args *args);
int verb_explain(struct args *args);
int verb_help_verb(struct args *args);

/* ---- saying things ---- */

/** complain() - one line on standard error, "onebit: ..."; outside text in it is made harmless */
void complain(const char *fmt, ...) PRINTF_LIKE(1, 2);

/** complain_failure() - say why a request failed and what to do */
void complain_failure(const struct onebit_failure *failure);

/** failure_exit() - the exit code for a code of onebit.h, errno or enum onebit_error */
int failure_exit(int code);

/* ---- output that can be interrupted ---- */

struct output {
    int fd; /* borrowed */
    bool tty;
    int signal_fd; /* borrowed; -1: none. A waiting signal ends a write that would block. */
    struct escaper escaper;
    bool any, newline; /* something was written; it ended with a newline */
};

/** output_init() - standard output */
void output_init(struct output *o, int signal_fd);

/** output_bytes() - write all: 0, -EINTR when a signal waits in signal_fd, or another errno */
MUST_USE int output_bytes(struct output *o, const char *bytes, size_t n);

/** output_model() - write text of a model: as it is, or escaped on a terminal; return as above */
MUST_USE int output_model(struct output *o, const char *text, size_t n);

/** output_end_line() - after the last piece of a text: end its line, if there is any text */
MUST_USE int output_end_line(struct output *o);

/** output_exit() - the exit code for what a write returned, after having said so; a reader that
 * went away is no event to talk about */
int output_exit(int r);

/* ---- a conversation with the daemon ---- */

struct talk {
    struct onebit_conn *conn; /* owned; NULL: not connected */
    int signal_fd;            /* owned; -1: none */
    sigset_t blocked;         /* what it reads */
    int signalled;            /* the signal that told us to stop, or 0 */
    bool waiting;             /* a request is in flight */
    uint32_t id;              /* its id */
    int code;                 /* how it ended, as onebit_failure.code */
    uint64_t until_ns;        /* monotonic: when a stopped request is given up; 0: not stopped */
};

/** talk_init() - ready for signals; connects nothing: 0 or an exit code */
MUST_USE int talk_init(struct talk *t);
void talk_deinit(struct talk *t);

/** talk_connect() - 0, or the exit code after having said what is wrong and what helps */
MUST_USE int talk_connect(struct talk *t, const char *socket);
/** talk_never_again() - losses and refusals are seen as they come: nothing is sent again */
void talk_never_again(struct onebit_conn *conn);
void talk_hang_up(struct talk *t);

/** talk_wait() - until t->waiting is false. A signal cancels the request and gives the daemon two
 * seconds to confirm; a second signal leaves at once. */
void talk_wait(struct talk *t);

/** talk_stop() - cancel the request and have talk_wait() give it two seconds to end; a callback
 * may */
void talk_stop(struct talk *t);

/** talk_signal() - take a waiting signal into t->signalled; false: there is none */
bool talk_signal(struct talk *t);

/** talk_exit() - the exit code after talk_wait() */
int talk_exit(const struct talk *t);

/** talk_goes_on() - after talk_wait(): may the next request of a list be sent? Not after a signal
 * or without a connection; a refusal of one says nothing about the next. */
bool talk_goes_on(const struct talk *t);

/**
 * talk_ask() - one of the verbs that are no request for an answer of a model
 * @t:    connected
 * @name: of a model or a session, where the verb takes one
 * @ret:  its result as text, "null" when it has none; free with free()
 *
 * Return: 0 or an exit code; failures have been said.
 */
MUST_USE int talk_ask(struct talk *t, enum onebit_verb verb, const char *name, char **ret);

/** ask_text() - connect, talk_ask(), hang up */
MUST_USE int ask_text(const struct args *args, enum onebit_verb verb, const char *name, char **ret);

/** ask_json() - ask_text() and read the answer; *ret_json is the caller's */
MUST_USE int ask_json(const struct args *args, enum onebit_verb verb, const char *name,
                      json_t **ret_json);

/* ---- tables ---- */

struct column {
    const char *key, *title;
};

/** print_table() - rows, an array of objects, under titles; columns that no row has are left out */
void print_table(json_t *rows, const struct column *columns, size_t n);

/** print_values() - "key: value" lines; keys of maps inside stand behind prefix and a dot */
void print_values(json_t *object, const char *prefix, unsigned depth);

/** print_names() - the member `name` of each row, a line each; those that are no single safe word
 * are left out, because shells read this */
void print_names(json_t *rows);

/** names_quickly() - for --names: end this process, silently, when it takes longer than a second */
void names_quickly(void);

/* ---- answers ---- */

/** read_prompt() - the words joined by spaces, or standard input when there are none or "-"
 * @ret: malloc'ed. One final newline is taken off. Return: 0 or an exit code. */
MUST_USE int read_prompt(const struct args *args, char **ret);

/* One answer as it comes: written to standard output, or gathered. */
struct answer {
    struct talk *talk;     /* borrowed */
    struct output *output; /* borrowed; NULL: gather only */
    bool verbose;          /* say what happens */
    bool told;             /* a transient line stands on standard error */
    int write_error;       /* the first failed write, negative errno; -EINTR: a signal waited */
    struct buf text;       /* gathered text, owned */
    json_t *ids;           /* owned or NULL: gathered when set */
    json_t *logprobs;      /* same */
    json_t *end;           /* owned or NULL: what done or error said, when wants_end */
    bool begins_session;   /* its name has not come yet */
    bool wants_end;        /* to be told in JSON, beside standard error */
    char session[SESSION_NAME_ROOM]; /* what accepted said; "": none */
    int gather_error;                /* gathering failed: negative errno */
};

#define ANSWER_BYTES_MAX ((size_t)64 << 20) /* of gathered text */
#define HOLD_BYTES ((size_t)1 << 20)        /* of an answer that is printed at its end */

void answer_init(struct answer *a, struct talk *talk, struct output *output, bool verbose);
void answer_deinit(struct answer *a);

/** answer_get() - send the request and wait for its end; t->code and t->signalled say how it ended.
 * Failures have been said on standard error, whether or not wants_end. Return: 0, or an exit code
 * when nothing was sent */
MUST_USE int answer_get(struct answer *a, const struct onebit_request *request);

/** done_json() - how an answer was made, as members of an object; NULL without memory */
json_t *done_json(const struct onebit_done *done);

/** failure_json() - {"error": {...}}; NULL without memory */
json_t *failure_json(const struct onebit_failure *failure);

/** delta_json() - add a piece's ids to one array and their probabilities to another; each may be
 * NULL.
 * Return: 0 or -ENOMEM. */
MUST_USE int delta_json(const struct onebit_delta *delta, json_t *ids, json_t *logprobs);

/** print_json() - one line, or indented and in ASCII on a terminal: an exit code. Takes the
 * value. */
MUST_USE int print_json(json_t *value, int signal_fd);

#endif
