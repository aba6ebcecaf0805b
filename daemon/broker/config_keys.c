/* config_keys: section, key, type, place, range and default, one line each. An explicit 0 means
 * zero wherever the range allows it. */
#include "daemon/broker/config_keys.h"

#include "base/compiler.h"
#include "daemon/broker/config.h"
#include "daemon/broker/victim.h"
#include "ipc/frame.h"
#include "ipc/message.h"
#include "ipc/seam.h"

#define AT(field) offsetof(struct config, field)
#define MS_MAX (UINT64_C(24) * 3600 * 1000)
#define BYTES_MAX (UINT64_C(1) << 46)
#define OUTPUT_MIN (UINT64_C(64) << 10)
#define CPU_WORDS "scalar avx2 avx512 neon dotprod i8mm "

/* clang-format off */
const struct config_key config_keys[] = {
    {"socket", "path", KEY_PATH, AT(socket_path), .restart = true},
    {"socket", "mode", KEY_OCTAL, AT(socket_mode), 0, 0777, 0660, .restart = true},
    {"socket", "group", KEY_NAME, AT(socket_group), .restart = true},
    {"models", "dir", KEY_PATH, AT(models_dir), .restart = true},
    {"models", "default", KEY_NAME, AT(default_model)},
    {"cache", "dir", KEY_PATH, AT(cache_dir), .restart = true},
    {"cache", "kv_bytes_disk", KEY_BYTES, AT(kv_bytes_disk), 0, BYTES_MAX, 0},
    {"cache", "answers_bytes", KEY_BYTES, AT(answers_bytes), 0, BYTES_MAX, 0},
    {"engine", "runner", KEY_PATH, AT(runner), .restart = true},
    {"engine", "cpu", KEY_WORD, AT(cpu), .words = CPU_WORDS, .restart = true},
    {"engine", "threads", KEY_UINT, AT(threads), 0, SEAM_THREADS_MAX, 0, .restart = true},
    {"engine", "weights", KEY_WORD, AT(weights), .words = "auto shared private "},
    {"engine", "private_bytes", KEY_BYTES, AT(private_bytes), 0, BYTES_MAX, UINT64_C(2) << 30},
    {"engine", "kv_bytes", KEY_BYTES, AT(kv_bytes), 1 << 20, BYTES_MAX, UINT64_C(1) << 30},
    {"engine", "streams_max", KEY_UINT, AT(streams_max), 1, SEAM_STREAMS_MAX, 16},
    {"engine", "draft_tokens", KEY_UINT, AT(draft_tokens), 0, SEAM_DRAFTS_MAX, 0},
    {"engine", "models_max", KEY_UINT, AT(models_max), 1, 16, 8},
    {"engine", "pack_ms", KEY_UINT, AT(pack_ms), 1000, MS_MAX, 600000},
    {"memory", "budget", KEY_BYTES, AT(memory_budget), 0, BYTES_MAX, 0},
    {"memory", "idle_s", KEY_UINT, AT(memory_idle_s), 0, CONFIG_IDLE_S_MAX, 1800},
    {"memory", "calm_ms", KEY_UINT, AT(memory_calm_ms), 100, 3600000, 30000},
    {"memory", "residency_min_s", KEY_UINT, AT(memory_residency_min_s), 0, 3600, 10},
    {"memory", "swaps_per_minute", KEY_UINT, AT(memory_swaps_per_minute), 0, SWAPS_MAX, 30},
    {"heat", "warm_c", KEY_UINT, AT(heat_warm_c), 0, 150, 0},
    {"heat", "hot_s", KEY_UINT, AT(heat_hot_s), 1, 3600, 10},
    {"heat", "cool_s", KEY_UINT, AT(heat_cool_s), 1, 3600, 30},
    {"queue", "per_identity", KEY_UINT, AT(queue_per_identity), 0, 1000000, 64},
    {"queue", "total", KEY_UINT, AT(queue_total), 0, 1000000, 5000},
    {"queue", "bytes", KEY_BYTES, AT(queue_bytes), 0, BYTES_MAX, UINT64_C(64) << 20},
    {"scheduler", "mode", KEY_WORD, AT(scheduler_mode), .words = "fair fifo "},
    {"scheduler", "chunk_ms", KEY_UINT, AT(chunk_ms), 0, 60000, 0},
    {"scheduler", "pause_max_ms", KEY_UINT, AT(pause_max_ms), 0, MS_MAX, 120000},
    {"queue", "bytes_per_identity", KEY_BYTES, AT(queue_bytes_per_identity), 0, BYTES_MAX, 16 << 20},
    {"limits", "connections", KEY_UINT, AT(connections), 1, 100000, 512},
    {"limits", "connections_per_uid", KEY_UINT, AT(connections_per_uid), 1, 100000, 256},
    {"limits", "requests_per_connection", KEY_UINT, AT(requests_per_connection), 1, 100000, 128},
    {"limits", "frame_ms", KEY_UINT, AT(frame_ms), 1, MS_MAX, 10000},
    {"limits", "hello_ms", KEY_UINT, AT(hello_ms), 1, MS_MAX, 5000},
    {"limits", "idle_ms", KEY_UINT, AT(idle_ms), 1, MS_MAX, 60000},
    {"limits", "stall_ms", KEY_UINT, AT(stall_ms), 1, MS_MAX, 10000},
    {"limits", "output_soft_bytes", KEY_BYTES, AT(output_soft_bytes), 0, BYTES_MAX, 256 << 10},
    {"limits", "output_hard_bytes", KEY_BYTES, AT(output_hard_bytes), OUTPUT_MIN, BYTES_MAX, 4 << 20},
    {"limits", "output_total_bytes", KEY_BYTES, AT(output_total_bytes), 1 << 20, BYTES_MAX, 32 << 20},
    {"limits", "input_total_bytes", KEY_BYTES, AT(input_total_bytes), 1 << 20, BYTES_MAX, 32 << 20},
    {"limits", "model_bytes_max", KEY_BYTES, AT(model_bytes_max), 0, BYTES_MAX, UINT64_C(64) << 30},
    {"request", "max_tokens", KEY_UINT, AT(max_tokens), 1, MSG_TOKENS_MAX, CONFIG_MAX_TOKENS},
    {"request", "deadline_ms", KEY_UINT, AT(deadline_ms), 0, MS_MAX, 30000},
    {"rates", "requests_per_s", KEY_UINT, AT(rates.requests_per_s), 0, RATES_MAX, 0},
    {"rates", "tokens_per_s", KEY_UINT, AT(rates.tokens_per_s), 0, RATES_MAX, 0},
    {"rates", "burst_s", KEY_UINT, AT(rates.burst_s), 0, RATES_BURST_S_MAX, RATES_BURST_S},
    {"rates", "tokens_per_day", KEY_UINT, AT(rates.tokens_per_day), 0, UINT64_C(1) << 50, 0},
    {"breaker", "faults", KEY_UINT, AT(breaker_faults), 0, 1000, 5},
    {"breaker", "open_ms", KEY_UINT, AT(breaker_open_ms), 0, MS_MAX, 30000},
    {"metrics", "socket", KEY_PATH, AT(metrics_socket), .restart = true},
    {"metrics", "mode", KEY_OCTAL, AT(metrics_mode), 0, 0777, 0660, .restart = true},
    {"metrics", "group", KEY_NAME, AT(metrics_group), .restart = true},
    {"sessions", "dir", KEY_PATH_OR_NONE, AT(sessions_dir), .restart = true},
    {"sessions", "count", KEY_UINT, AT(sessions_count), 0, 1000, 64},
    {"sessions", "bytes", KEY_BYTES, AT(sessions_bytes), 0, BYTES_MAX, 16 << 20},
    {"sessions", "total_bytes", KEY_BYTES, AT(sessions_total_bytes), 0, BYTES_MAX, 64 << 20},
    {"sessions", "age_days", KEY_UINT, AT(sessions_age_days), 1, 36500, 30},
    {"daemon", "drain_ms", KEY_UINT, AT(drain_ms), 0, MS_MAX, 20000},
    {"daemon", "wedged_ms", KEY_UINT, AT(wedged_ms), 0, MS_MAX, 30000},
};
/* clang-format on */
const size_t config_n_keys = ARRAY_SIZE(config_keys);
