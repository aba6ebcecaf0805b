/* Grammars that sentences and their answers are drawn from: text files that a person writes, read
 * strictly. docs/commands-grammar.md describes the language. */
#ifndef TRAIN_COMMANDS_GRAMMAR_H
#define TRAIN_COMMANDS_GRAMMAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/strview.h"
#include "train/commands/slots.h"

/* What is wrong with a grammar. */
enum {
    GRAMMAR_OK = 0,
    GRAMMAR_SYNTAX,    /* a line that is none of the language */
    GRAMMAR_NAME,      /* a name that is unknown, taken, or never used */
    GRAMMAR_RECURSIVE, /* a rule that comes back to itself, or lies too deep */
    GRAMMAR_SLOT,      /* slots that do not go with the intent, or are filled twice */
    GRAMMAR_LIMIT,     /* longer or more than a grammar may be */
    GRAMMAR_STUCK,     /* drawn from: no sentence of those asked for came, or an unfit answer did */
};

struct grammar_fault {
    char file[64];  /* the name under which the text was given */
    uint32_t line;  /* from 1; 0: no one line is at fault */
    char text[240]; /* for a person; printable */
};

#define GRAMMAR_TEXT_MAX ((size_t)4 << 20) /* bytes of all files */
#define GRAMMAR_LINE_MAX 2000u             /* bytes */
#define GRAMMAR_RULES_MAX 4096u
#define GRAMMAR_NODES_MAX (1u << 20)
#define GRAMMAR_NEST_MAX 12u  /* brackets in brackets */
#define GRAMMAR_DEPTH_MAX 40u /* rules in rules */
#define GRAMMAR_WEIGHT_MAX 1000000u
#define GRAMMAR_FILES_MAX 64u
#define GRAMMAR_VALUE_MAX 63u /* bytes: of @slot=value and of what follows => */

enum node_kind {
    NODE_WORD,    /* at: its text */
    NODE_SEQ,     /* at, n: kids, one after the other */
    NODE_ALT,     /* at, n: kids, of which one, by weight; sum: of the weights */
    NODE_MAYBE,   /* at: a node; sum: in how many of 100 cases */
    NODE_RULE,    /* at: its name's text, and from grammar_check() on the rule */
    NODE_CAPTURE, /* at: a node whose words the slot takes */
    NODE_SET,     /* at: text that the slot takes; says nothing */
    NODE_MEANS,   /* at: a node, n: text of the value that it stands for in a slot */
    NODE_NUMBER,  /* at to n; how: enum number_how */
    NODE_PSEUDO,  /* a word that does not exist */
    NODE_STAR,    /* in a wrap: where the frame goes */
    NODE_SAME,    /* the words that the slot took already */
    NODE_BARE,    /* takes away the article before, if there is one that no slot took */
    NODE_GLUE,    /* the next word follows without a space */
};

struct node {
    uint8_t kind, slot, how;
    uint32_t at, n, sum;
};

struct kid {
    uint32_t node;
    uint32_t upto; /* of an alternative: the sum of weights up to and with its own */
    uint32_t line; /* of an alternative: where it stands */
};

enum rule_kind { RULE_WORDS, RULE_FRAMES, RULE_WRAP };

struct rule {
    uint32_t name; /* text */
    uint32_t node; /* NODE_ALT */
    uint32_t line;
    uint8_t file, kind, depth;
    bool proper;   /* a proper name: may be written with capitals */
    bool part;     /* of frames: what it says belongs to the template */
    bool used;     /* some frame or wrap leads here */
    uint32_t home; /* of a part: node of the first frame that says it, and 1; 0: none does */
    uint8_t seen;  /* grammar_check(): 0 not yet, 1 being looked at, 2 done */
    uint8_t n_star;
    uint8_t min[N_SLOTS], max[N_SLOTS]; /* how often the slot is filled; 2: or more */
    /* frames alone */
    uint8_t intent;
    uint32_t wrap;   /* text of its name, then the rule */
    uint32_t weight; /* among the intent's blocks */
    uint32_t sets;   /* NODE_SEQ of NODE_SETs */
};

enum noise {
    NOISE_FILLER,     /* a word of the rule `filler` between two words */
    NOISE_REPEAT,     /* a word, or the beginning, said twice */
    NOISE_TYPO,       /* a slip of the fingers */
    NOISE_APOSTROPHE, /* apostrophes left out */
    NOISE_LOWER,      /* all in small letters, without marks at the end */
    NOISE_FULL,       /* as carefully written: capital, mark */
    N_NOISES,
};

struct grammar {
    struct buf text;    /* strings with their NUL */
    struct node *nodes; /* owned */
    struct kid *kids;   /* owned */
    struct rule *rules; /* owned */
    uint32_t *order;    /* owned; rules sorted by name */
    uint32_t n_nodes, n_kids, n_rules, room_nodes, room_kids, room_rules;
    uint32_t mix[N_INTENTS];
    uint32_t noise[N_NOISES]; /* permille of the sentences */
    uint32_t filler;          /* rule; UINT32_MAX: none */
    char files[GRAMMAR_FILES_MAX][64];
    uint8_t n_files;
};

/** grammar_init() - empty */
void grammar_init(struct grammar *g);
void grammar_deinit(struct grammar *g); /* also of one that failed half-way */

/**
 * grammar_read() - add a file's rules
 * @name: of the file, for messages; what is longer than 63 bytes is cut
 * @text: borrowed for the call
 *
 * Return: GRAMMAR_OK, GRAMMAR_SYNTAX, GRAMMAR_NAME or GRAMMAR_LIMIT with @ret_fault; or -ENOMEM.
 * After a failure the grammar is fit for grammar_deinit() alone.
 */
MUST_USE int grammar_read(struct grammar *g, const char *name, struct strview text,
                          struct grammar_fault *ret_fault);

/** grammar_read_folder() - every *.txt of a folder, in the order of their names. Also: a negative
 * errno, with the path in @ret_fault. */
MUST_USE int grammar_read_folder(struct grammar *g, const char *path,
                                 struct grammar_fault *ret_fault);

/**
 * grammar_check() - bind names to rules and see that every frame gives answers of its intent
 *
 * Called once, when all is read; then the grammar does not change any more.
 *
 * Return: GRAMMAR_OK, or another GRAMMAR_* with @ret_fault, or -ENOMEM.
 */
MUST_USE int grammar_check(struct grammar *g, struct grammar_fault *ret_fault);

/* ---- of use to the parts of this folder alone ---- */

static inline const char *grammar_text(const struct grammar *g, uint32_t at)
{
    return (const char *)g->text.data + at;
}

/** grammar_keep() - a copy of the text with a NUL: 0, GRAMMAR_LIMIT or -ENOMEM */
MUST_USE int grammar_keep(struct grammar *g, struct strview text, uint32_t *ret_at);
/** grammar_node() - a new node: 0, GRAMMAR_LIMIT or -ENOMEM */
MUST_USE int grammar_node(struct grammar *g, struct node node, uint32_t *ret_at);
/** grammar_kids() - room for n kids in a row, to be filled by the caller: as grammar_node() */
MUST_USE int grammar_kids(struct grammar *g, uint32_t n, uint32_t *ret_at);

/** grammar_say() - fills @fault and returns @r */
int grammar_say(struct grammar_fault *fault, const struct grammar *g, uint8_t file, uint32_t line,
                int r, const char *fmt, ...) PRINTF_LIKE(6, 7);

/** grammar_number() - a number in digits and nothing else; false: it is none, or more than @max */
bool grammar_number(struct strview v, uint32_t max, uint32_t *ret);

/* A line that is being read. */
struct reading {
    struct grammar *g;
    const char *at, *end;
    uint8_t file;
    uint32_t line;
    unsigned nest;
    struct grammar_fault *fault;
};

/* grammar_say() of this line. */
#define SAY(in, r, ...) grammar_say((in)->fault, (in)->g, (in)->file, (in)->line, r, __VA_ARGS__)

/* Alternatives as they come, before they are put in a row. */
struct choices {
    struct kid *kids; /* owned; upto: the weight of each alone */
    uint32_t n, room;
};

/** expr_line() - add the alternatives of a line to @into: GRAMMAR_* or -ENOMEM */
MUST_USE int expr_line(struct reading *in, struct choices *into);
/** expr_set() - slot=value, as in @slot=value or the head of a block, into a NODE_SET */
MUST_USE int expr_set(struct reading *in, struct strview word, uint32_t *ret_node);
/** choices_end() - make them one NODE_ALT; they are free for the next */
MUST_USE int choices_end(struct grammar *g, struct choices *c, uint32_t *ret_node);
MUST_USE int choices_add(struct choices *c, struct kid kid);

#endif
