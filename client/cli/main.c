/* onebit: the command. Finds the verb, reads its options, runs it; each verb is in its own file. */
#include "client/cli/cli.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/stdfds.h"

#define GENERATES (OPTS_CONNECT | OPTS_GENERATE | OPTS_VERBOSE)

const struct verb verbs[] = {
    {"run", "run [options] [PROMPT...]", "Answer one prompt, printed as it comes",
     "The prompt is the words given, joined by spaces, or standard input when there are none or\n"
     "only \"-\". It is put to the model as one message of a chat; with --raw the model continues\n"
     "it as it is.",
     GENERATES | OPTS_SESSION | OPTS_JSON | OPTS_RUN, NULL, SIZE_MAX, true, verb_run},
    {"chat", "chat [options]", "Talk with a model, line by line",
     "Each line is a message; the whole conversation is sent with it, or kept by the daemon with\n"
     "--session. /reset forgets the conversation, /quit or the end of input ends. Ctrl-C cancels\n"
     "the answer that is being written; at the prompt it ends.",
     GENERATES | OPTS_SESSION, NULL, 0, true, verb_chat},
    {"batch", "batch [options] IN.jsonl OUT.jsonl", "Answer a file of requests into a file",
     "A line of IN is a JSON text (a prompt), an array of messages, or an object with prompt,\n"
     "messages or ids and other fields of a request, and an id of your own. OUT gets a line for\n"
     "each, in the same order; the options are for lines that do not say otherwise. An OUT that "
     "is\n"
     "there is continued. The class is low and there is no deadline unless said. Exit code 1: a\n"
     "request failed; its line tells why, and has the request.",
     OPTS_CONNECT | OPTS_GENERATE | OPTS_BATCH | OPTS_VERBOSE | OPTS_JSON, "IN.jsonl and OUT.jsonl",
     2, false, verb_batch},
    {"list", "list [options]", "List the models there are", NULL,
     OPTS_CONNECT | OPTS_JSON | OPTS_NAMES, NULL, 0, true, verb_list},
    {"ps", "ps [options]", "Show the models that are loaded and the requests that run", NULL,
     OPTS_CONNECT | OPTS_JSON | OPTS_NAMES | OPTS_MEMORY, NULL, 0, true, verb_ps},
    {"status", "status [options]", "Show the state of the daemon", NULL, OPTS_CONNECT | OPTS_JSON,
     NULL, 0, true, verb_status},
    {"reload", "reload [options]", "Have the daemon read its configuration again",
     "Sends the daemon SIGHUP, as its own user or root, and returns when it has taken the\n"
     "configuration over, or refused it: exit code 1, its log says why.",
     OPTS_CONNECT, NULL, 0, false, verb_reload},
    {"load", "load [options] MODEL", "Make a model resident", NULL, OPTS_CONNECT, "a MODEL", 1,
     false, verb_load},
    {"unload", "unload [options] MODEL", "Give the memory of a model back", NULL, OPTS_CONNECT,
     "a MODEL", 1, false, verb_unload},
    {"cancel", "cancel [options] REQUEST...", "Cancel requests by the numbers that ps shows", NULL,
     OPTS_CONNECT, "a REQUEST", SIZE_MAX, false, verb_cancel},
    {"session", "session list|show|drop [options] [NAME...]",
     "List, show and forget the conversations that the daemon keeps",
     "list shows the sessions of this user, show NAME what was said in one, drop NAME... forgets\n"
     "them. \"onebit run --session NAME\" and \"onebit chat --session NAME\" go on in one.",
     OPTS_CONNECT | OPTS_JSON | OPTS_NAMES, "list, show or drop", SIZE_MAX, true, verb_session},
    {"metrics", "metrics [options]", "Print the daemon's counts and times as Prometheus text", NULL,
     OPTS_CONNECT, NULL, 0, true, verb_metrics},
    {"config", "config check [--json] [FILE]", "Check a configuration of the daemon",
     "onebitd itself checks FILE, or without it the file that it would read. What is wrong is "
     "told\n"
     "by key and line.",
     OPTS_JSON, "\"check\"", 2, true, verb_config},
    {"doctor", "doctor [options]", "Say what is off on this machine, and what mends it",
     "Looks at the socket and who may use it, the daemon, its configuration and folders, the CPU,\n"
     "memory, the kernel's switches and heat, and changes nothing. Exit code 1: something is bad.",
     OPTS_CONNECT | OPTS_JSON, NULL, 0, true, verb_doctor},
    {"top", "top [options]", "Watch models, requests, speed and memory live",
     "Keys: q ends, s changes what the requests are sorted by. Without a terminal, or with "
     "--once,\n"
     "one view is printed as text; it takes two looks, --delay apart, since speeds are "
     "differences.",
     OPTS_CONNECT | OPTS_TOP, NULL, 0, true, verb_top},
    {"bench", "bench [load [CASE...]] [options]", "Measure how fast the daemon answers",
     "A row for each length of prompt: milliseconds to the first token and between tokens, and\n"
     "tokens per second. Prompts are random token ids, so that their lengths are exact; each is\n"
     "new to the daemon and kept out of its caches, unless --reuse is given.\n"
     "\n"
     "\"bench load\" measures what the daemon promises to those who share it, each case in turn\n"
     "with the undisturbed one, and says whether it was kept; exit code 1: one was not. Cases:\n"
     "  between   a stream beside another client's long prompts\n"
     "  high      a request of class high under full load of class low\n"
     "  cancel    cancels in the queue, while the prompt is read, and in the answer\n"
     "  refusal   refusals by a full queue\n"
     "  control   ps, status and metrics meanwhile\n"
     "  same      answers of many clients at once, beside those of each alone\n"
     "  total     tokens per second of the same work, with --against\n"
     "  mix       voice, chat and batch labelling at times drawn from --seed: no promise, a table\n"
     "It loads the daemon fully and wants it for itself.",
     OPTS_CONNECT | OPTS_JSON | OPTS_BENCH, NULL, SIZE_MAX, true, verb_bench},
    {"explain", "explain [--json] [CODE | NAME]",
     "Say what an error means and what to do; without argument, list them all", NULL, OPTS_JSON,
     NULL, 1, true, verb_explain},
    {"help", "help [VERB]", "Say how to use this command or one of its verbs", NULL, 0, NULL, 1,
     true, verb_help_verb},
};
const size_t n_verbs = ARRAY_SIZE(verbs);

static const struct verb *find_verb(const char *name)
{
    for (size_t i = 0; i < n_verbs; i++) {
        if (strcmp(verbs[i].name, name) == 0) {
            return &verbs[i];
        }
    }
    return NULL;
}

static void print_overview(FILE *to)
{
    (void)fprintf(to, "usage: onebit VERB [options] ...\n\n"
                      "Ask the language models that onebitd keeps resident on this machine.\n\n");
    for (size_t i = 0; i < n_verbs; i++) {
        (void)fprintf(to, "  %-8s %s\n", verbs[i].name, verbs[i].about);
    }
    (void)fprintf(to,
                  "\n\"onebit VERB --help\" says more about a verb; onebit(1) says everything.\n");
}

int verb_help_verb(struct args *args)
{
    if (args->n_words == 0) {
        print_overview(stdout);
        return 0;
    }
    const struct verb *verb = find_verb(args->words[0]);
    if (!verb) {
        complain("there is no verb \"%s\"", args->words[0]);
        return EXIT_USAGE;
    }
    verb_help(verb);
    return 0;
}

/* What printf() has gathered must get out, or we must say that it did not. */
static int finish(int code)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) {
        return code;
    }
    const int said = output_exit(-errno);
    return code != 0 ? code : said;
}

static int run_verb(const struct verb *verb, int argc, char **argv)
{
    struct args args;
    const int r = args_parse(&args, verb, argc, argv);

    if (r != 0) {
        return r;
    }
    if (args.help) {
        verb_help(verb);
        return 0;
    }
    if (verb->prints && !stdfds_out_writable()) {
        return output_exit(-EBADF); /* now, not when an answer has been made for nobody */
    }
    return verb->run(&args);
}

int main(int argc, char **argv)
{
    const int reserved = stdfds_reserve();

    (void)signal(SIGPIPE, SIG_IGN); /* a write tells us */
    if (reserved < 0) {
        complain("cannot take the place of a standard descriptor: %s", strerror(-reserved));
        return EXIT_SYSTEM;
    }
    if (argc < 2) {
        print_overview(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_overview(stdout);
        return finish(0);
    }
    if (strcmp(argv[1], "--version") == 0) {
        (void)printf("onebit %s\n", onebit_version());
        return finish(0);
    }
    const struct verb *verb = find_verb(argv[1]);
    if (!verb) {
        complain("there is no verb \"%s\"; \"onebit help\" lists them", argv[1]);
        return EXIT_USAGE;
    }
    return finish(run_verb(verb, argc - 1, argv + 1));
}
