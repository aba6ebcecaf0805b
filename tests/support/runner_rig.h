/* A runner in a child process and the broker's end of its seam. Every function fails the test when
 * something is not as it must be. */
#ifndef TESTS_SUPPORT_RUNNER_RIG_H
#define TESTS_SUPPORT_RUNNER_RIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "ipc/frame.h"
#include "ipc/message.h"
#include "engine/engine.h"
#include "ipc/seam.h"

#define RIG_SHIPPED "daemon/onebit-runner"
#define RIG_HOOKED "tests/support/onebit-runner-hooked"
#define RIG_IDS_MAX 1024
#define RIG_TEXT_MAX 16384

struct rig {
    pid_t pid;
    int fd; /* owned */
    struct frame_reader in;
    struct buf out;
};

/* What became of one sequence. */
struct rig_answer {
    uint64_t seq;
    bool started, over;
    uint32_t prompt_tokens, max_tokens;
    uint32_t cached_tokens; /* of FINISHED; of STARTED before */
    uint32_t n_trimmed;
    int32_t prompt_ids[RIG_IDS_MAX]; /* where they were asked for */
    size_t n_prompt_ids;
    bool again; /* of FAILED */
    int32_t ids[RIG_IDS_MAX];
    size_t n;
    char text[RIG_TEXT_MAX];
    size_t text_n;
    size_t n_logprobs; /* ids that came with log-probabilities */
    char reason[16];   /* of FINISHED */
    enum error_code failed;
    char said[256]; /* of FAILED */
    uint64_t have, limit;
    uint32_t n_prefill; /* PREFILL reports */
};

/* One request as the tests make them. */
struct rig_request {
    uint64_t seq;
    uint32_t model;
    uint64_t seed;
    struct msg_generate generate;
    const int32_t *ids; /* of a PROMPT_IDS request */
    size_t n_ids;
    const int32_t *resume;
    size_t n_resume;
    uint8_t salt; /* first byte of one; not 0: reuse */
    bool public_;
    const int32_t *history;
    size_t n_history_ids;
    uint32_t n_history;
    bool want_ids;
};

/** rig_open() - start a runner; @program is RIG_SHIPPED or RIG_HOOKED, @chunk its --chunk or NULL.
 * Takes its hello. */
void rig_open(struct rig *rig, const char *program, const char *chunk);
/** rig_exec() - become the runner, in a child; @seam is its end. Does not return. */
void rig_exec(const char *program, const char *chunk, int seam);
/** rig_close() - close the seam and wait: the wait status */
int rig_close(struct rig *rig);
/** rig_wait() - wait for a runner that ends by itself: the wait status */
int rig_wait(struct rig *rig);

void rig_send(struct rig *rig, const struct seam_message *m, const int32_t *ids, size_t n_ids);
/** rig_send_fds() - a frame with descriptors (borrowed) */
void rig_send_fds(struct rig *rig, const struct seam_message *m, const int *fds, size_t n_fds);
void rig_send_bytes(struct rig *rig, const void *data, size_t n);
void rig_plan(struct rig *rig, const uint64_t *run, size_t n);
void rig_cancel(struct rig *rig, uint64_t seq);
void rig_start(struct rig *rig, const struct rig_request *request);

/** rig_next() - the next report; its views hold until the next call. False at the end of the
 * seam. */
MUST_USE bool rig_next(struct rig *rig, struct seam_message *ret);

/** rig_load() - load and wait for LOADED; @load's number names it. ret may be NULL. */
void rig_load(struct rig *rig, const struct seam_load *load, int packed_fd,
              struct seam_loaded *ret);

/** rig_take() - one report into the answers; others pass. Returns its type; SEAM_TYPES at the
 * end. */
enum seam_type rig_take(struct rig *rig, struct rig_answer *answers, size_t n_answers);
/** rig_finish() - until every answer is over */
void rig_finish(struct rig *rig, struct rig_answer *answers, size_t n_answers);

/** rig_ask() - start, plan alone, finish */
void rig_ask(struct rig *rig, const struct rig_request *request, struct rig_answer *ret);

/** rig_direct() - the same request straight through the engine */
void rig_direct(int packed_fd, enum kv_type kv, const struct rig_request *request,
                struct rig_answer *ret);

/** rig_assert_same() - two answers that nothing a client sees tells apart */
void rig_assert_same(const struct rig_answer *got, const struct rig_answer *want);

/** rig_prompt() - a plain request: temperature 1, the given length, end tokens ignored */
struct rig_request rig_prompt(uint64_t seq, uint32_t model, const char *prompt,
                              uint32_t max_tokens);

#endif
