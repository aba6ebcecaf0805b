/* The figures as text for Prometheus (text format 0.0.4). Pure code. docs/metrics.md lists them. */
#ifndef BROKER_METRICS_TEXT_H
#define BROKER_METRICS_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "daemon/broker/ladder.h"
#include "daemon/broker/metrics.h"

#define METRICS_TEXT_MAX ((1u << 20) - 4096u) /* bytes; it has to fit a frame */
#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

enum metrics_breaker { BREAKER_IS_CLOSED, BREAKER_IS_PROBING, BREAKER_IS_OPEN };

/* The state of one model; a slot's models are summed up. */
struct metrics_now_model {
    bool loaded;
    uint64_t weight_bytes, scratch_bytes;                      /* in memory while it is loaded */
    uint64_t private_bytes, resident_bytes, kv_resident_bytes; /* as the engine last said */
    uint32_t streams, streams_max;                             /* sequences held, and at most */
    enum metrics_breaker breaker; /* of several: the one that refuses most */
};

/* The state of the daemon at the moment of the text. */
struct metrics_now {
    uint64_t now_ns, uptime_ns;
    const char *version, *cpu; /* borrowed */
    bool draining;
    uint64_t connections, restarts, stuck;
    uint64_t running[CLASSES], queued[CLASSES], given_back;
    uint64_t drafted, accepted;          /* guesses at next tokens, and those that were right */
    uint64_t kv_used, kv_idle, kv_total; /* bytes: of sequences; kept after them; all there is */
    uint64_t queue_bytes, output_bytes, output_max, input_bytes, input_max;
    uint64_t sessions, session_bytes;
    uint64_t answer_hits, answer_misses, answer_bytes; /* of the cache of answers */
    unsigned pressure;                                 /* 0 normal .. 4 survive */
    struct ladder_count ladder[LADDER_ACTS];
    uint64_t budget_bytes, charged_bytes, swaps, idle_unloads, kv_cuts;
    uint64_t packs_lost, sources_new;               /* files of models that were found changed */
    uint64_t resident_bytes, engine_resident_bytes; /* of the broker's process, and the engine's */
    uint64_t lines_suppressed;                      /* of the log */
    struct metrics_now_model models[METRICS_SLOTS];
};

/**
 * metrics_text() - append all of it to out
 * @out: with room for METRICS_TEXT_MAX; what would pass its limit is left out, whole series at a
 *       time, and counted in onebit_samples_dropped
 *
 * Return: 0 or -ENOMEM.
 */
MUST_USE int metrics_text(struct buf *out, const struct metrics *m, const struct metrics_now *now);

#endif
