/* The models: on disk, packed, loaded in the engine, or refused. */
#ifndef BROKER_MODELS_H
#define BROKER_MODELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "daemon/broker/breaker.h"
#include "daemon/broker/broker.h"
#include "daemon/broker/config.h"
#include "daemon/broker/queue.h"
#include "daemon/broker/residency.h"
#include "daemon/broker/scan.h"
#include "ipc/error.h"
#include "ipc/seam.h"

#define MODEL_LOAD_DEATHS 2u /* loads that took the engine along, after which a model is refused */

/* Times that a model's packed file is changed in use, without a token in between, after which its
 * requests hear of it. */
#define MODEL_LOST_MAX 3u

/* Packers killed from outside, or whose file changed, before a model's requests hear of it. */
#define PACK_TRIES_MAX 3u

enum model_state {
    MODEL_IDLE,    /* nothing is held of it */
    MODEL_PROBING, /* a worker opens its file and looks for a packed one */
    MODEL_PACKING, /* a child packs it */
    MODEL_PACKED,  /* pack_fd is open; it waits for the engine */
    MODEL_LOADING, /* the engine opens it */
    MODEL_LOADED,
    MODEL_REFUSED, /* error says why */
};

/* What the engine said of a model it loaded. */
struct model_facts {
    bool known;
    char arch[64], formats[128], quantization[64], kv[16];
    char weights[16]; /* how they are held: "shared", "private" */
    uint64_t n_params, weight_bytes, huge_bytes, kv_bytes_per_position, scratch_bytes;
    uint32_t n_ctx, n_ctx_train;
    bool chat;
};

struct model {
    struct list link;      /* in the broker's models */
    struct broker *broker; /* borrowed */
    char name[MODEL_NAME_MAX + 1];
    uint32_t number; /* the engine's name for it */
    enum model_state state;
    struct slots slots;
    struct list users; /* struct request: generate and load */
    bool resident;     /* was loaded; comes back after a death of the engine */
    bool repacked;     /* its packed file was refused once and made anew */
    bool fresh;        /* do not take a packed file that is there */
    unsigned load_deaths;
    unsigned n_lost;      /* times that the engine let go of it since its last new token */
    unsigned pack_tries;  /* that came to nothing since one ended well */
    int pack_fd;          /* owned; kept while it is loaded, so that the engine's successor maps the
                            * very same weights, whatever has become of the files; -1: none */
    char pack_path[4096]; /* of pack_fd, for removing a refused one */
    uint8_t tuning[SEAM_TUNING_MAX]; /* what the engine has measured of it: tuning.h */
    size_t n_tuning;
    struct file_mark mark; /* of the file that was packed or refused */
    uint64_t text_mark;    /* of what the ids of a text depend on; of the last load */
    uint64_t answer_mark;  /* of what an answer depends on beside its request */
    struct model_facts facts;
    struct {
        bool any; /* the engine has a label for what is public, which is not that of nothing */
        uint8_t label[SEAM_SALT];
        uint64_t sections; /* a mark of the configuration's sections that it comes from */
        uint64_t number;   /* of the latest reading of their files */
    } prefixes;
    struct breaker breaker;
    bool sticky;           /* REFUSED until the file changes or somebody loads it by hand */
    enum error_code error; /* REFUSED */
    char error_text[256];
    uint64_t have, limit; /* of the error, where it is about two numbers */
    uint64_t used_ns;     /* when a request last ended */
    struct model_residency residency;
    struct seam_memory memory; /* LOADED: what the engine last said */
    unsigned n_works;          /* workers and children that point here */
};

/** model_find() - by name, or NULL */
struct model *model_find(const struct broker *b, struct strview name);
/** model_get() - by name, made when absent; NULL: no memory */
struct model *model_get(struct broker *b, struct strview name);
struct model *model_by_number(const struct broker *b, uint32_t number);

/** models_advance() - start what can be started towards the models that are wanted; forget those
 * that are not */
void models_advance(struct broker *b);

/** model_refuse() - fail its users. @sticky: and those to come, until the file changes */
void model_refuse(struct model *m, const struct msg_error *e, bool sticky);
/** model_retry() - forget a refusal: the file changed, or somebody asks by hand */
void model_retry(struct model *m);

/** model_serve() - it is loaded, and the engine has what it needs: its requests may start */
void model_serve(struct model *m);

/** model_pinned() - the configuration wants it loaded, always */
bool model_pinned(const struct model *m);

/** model_wanted() - somebody waits for it or uses it, or it is to be there anyway */
bool model_wanted(const struct model *m);
/** model_forget() - of one that is packed and not loaded: nobody wants it */
void model_forget(struct model *m);

/** model_unload() - drop it from the engine, which may hold no request of it; those that have not
 * begun wait for its return */
void model_unload(struct model *m);

/* The engine's reports. */
void models_on_loaded(struct broker *b, const struct seam_loaded *l);
void models_on_load_failed(struct broker *b, const struct seam_failed *f);
/** models_less_kv() - the kernel killed the engine for want of memory: next time half of the KV */
void models_less_kv(struct broker *b);
/** models_all_kv() - and with all of it again: nothing is short any more */
void models_all_kv(struct broker *b);
void models_on_engine_gone(struct broker *b, bool killed);
/** model_on_lost() - the engine has let go of a loaded model, whose packed file was changed */
void model_on_lost(struct model *m, struct strview why);

void models_free(struct broker *b); /* after the loop has ended */

const char *model_state_name(const struct model *m);

/* ---- pack_child.c ---- */

/** pack_child_start() - pack in a child; m->n_works counts it. @source, @out: taken over; out is
 * the temporary file `temp` that becomes `final`. */
void pack_child_start(struct model *m, int source, int out, const char *temp, const char *final);
/** pack_children_kill() - end them all; their files are removed */
void pack_children_kill(struct broker *b);
/* What the child's end calls: */
void model_packed(struct model *m, int fd, const char *path);
/** model_pack_again() - packing came to nothing for a reason that may pass: true when it is tried
 * once more. @why: for the log */
MUST_USE bool model_pack_again(struct model *m, const char *why);
void model_pack_failed(struct model *m, const struct msg_error *e, bool sticky);

#endif
