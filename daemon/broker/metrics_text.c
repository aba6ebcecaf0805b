/* metrics_text: one family after the other, each with its # HELP and # TYPE, also where it has no
 * sample yet, so that the list of names is always whole. */
#include "daemon/broker/metrics_text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"

#define LINE_MAX 1024u /* a model's name, all of it escaped, and 200 bytes of our own words */
#define HEADS_ROOM (10u << 10) /* kept for the # lines of all families and for the last sample */

_Static_assert(LINE_MAX > 2 * MODEL_NAME_MAX + 200, "a line must fit");

enum family {
    F_BUILD,
    F_UPTIME,
    F_DRAINING,
    F_ENGINE_UP,
    F_ENGINE_UP_SECONDS,
    F_AVAILABILITY,
    F_RESTARTS,
    F_STUCK,
    F_CONNECTIONS,
    F_ACCEPTED,
    F_CONN_ERRORS,
    F_REQUESTS,
    F_RUNNING,
    F_QUEUED,
    F_GIVEN_BACK,
    F_DRAFTED,
    F_DRAFTS_ACCEPTED,
    F_LIMITED,
    F_TOKENS,
    F_PROMPT_TOKENS,
    F_CACHED_TOKENS,
    F_FIRST_TOKEN,
    F_BETWEEN_TOKENS,
    F_QUEUE_WAIT,
    F_STEP,
    F_BASELINE,
    F_DRIFT,
    F_LOADED,
    F_STREAMS,
    F_STREAMS_MAX,
    F_BREAKER,
    F_WEIGHTS,
    F_SCRATCH,
    F_PRIVATE,
    F_WEIGHTS_RESIDENT,
    F_KV_RESIDENT,
    F_KV,
    F_KV_TOTAL,
    F_QUEUE_BYTES,
    F_OUTPUT,
    F_OUTPUT_MAX,
    F_INPUT,
    F_INPUT_MAX,
    F_SESSIONS,
    F_SESSION_BYTES,
    F_ANSWER_HITS,
    F_ANSWER_MISSES,
    F_ANSWER_BYTES,
    F_BUDGET,
    F_CHARGED,
    F_PRESSURE,
    F_ACTIONS,
    F_FREED,
    F_SWAPS,
    F_IDLE_UNLOADS,
    F_KV_CUTS,
    F_FILE_CHANGES,
    F_ENGINE_RESIDENT,
    F_RESIDENT,
    F_SHED,
    F_SUPPRESSED,
    F_SCRAPES,
    F_DROPPED,
};

/* clang-format off */
static const struct {
    const char *name, *type, *help;
} families[] = {
    [F_BUILD] = {"onebit_build_info", "gauge", "Always 1: the daemon's version and the engine's instruction set."},
    [F_UPTIME] = {"onebit_uptime_seconds", "gauge", "Time since the daemon started."},
    [F_DRAINING] = {"onebit_draining", "gauge", "1 while the daemon finishes what runs and takes nothing new."},
    [F_ENGINE_UP] = {"onebit_engine_up", "gauge", "1 while the engine process answers."},
    [F_ENGINE_UP_SECONDS] = {"onebit_engine_up_seconds_total", "counter", "Time that the engine process has answered."},
    [F_AVAILABILITY] = {"onebit_availability_ratio", "gauge", "Share of the uptime that the engine process has answered."},
    [F_RESTARTS] = {"onebit_engine_restarts_total", "counter", "Ends of the engine process."},
    [F_STUCK] = {"onebit_engine_stuck_total", "counter", "Engine processes that were killed because they made no progress."},
    [F_CONNECTIONS] = {"onebit_connections", "gauge", "Open connections of clients."},
    [F_ACCEPTED] = {"onebit_connections_accepted_total", "counter", "Connections that came."},
    [F_CONN_ERRORS] = {"onebit_connection_errors_total", "counter", "Connections that the daemon ended, by the error it sent."},
    [F_REQUESTS] = {"onebit_requests_total", "counter", "Requests that ended, by their error, or ok."},
    [F_RUNNING] = {"onebit_requests_running", "gauge", "Requests given to the engine."},
    [F_QUEUED] = {"onebit_requests_queued", "gauge", "Requests that wait."},
    [F_GIVEN_BACK] = {"onebit_requests_given_back_total", "counter", "Times that a request lost its KV memory to another, to go on later."},
    [F_DRAFTED] = {"onebit_drafted_tokens_total", "counter", "Guesses at next tokens of answers that were computed."},
    [F_DRAFTS_ACCEPTED] = {"onebit_drafts_accepted_total", "counter", "Those of them that were right, and are tokens of answers."},
    [F_LIMITED] = {"onebit_rate_limited_total", "counter", "Requests refused by a rate limit of policy, by its name."},
    [F_TOKENS] = {"onebit_tokens_total", "counter", "Tokens of answers, computed and delivered."},
    [F_PROMPT_TOKENS] = {"onebit_prompt_tokens_total", "counter", "Tokens of prompts, cached ones included."},
    [F_CACHED_TOKENS] = {"onebit_cached_tokens_total", "counter", "Tokens of prompts that needed no work."},
    [F_FIRST_TOKEN] = {"onebit_first_token_seconds", "histogram", "From a request's arrival to its first token."},
    [F_BETWEEN_TOKENS] = {"onebit_between_tokens_seconds", "histogram", "From a token of an answer to the next."},
    [F_QUEUE_WAIT] = {"onebit_queue_seconds", "histogram", "From a request's arrival to its start in the engine."},
    [F_STEP] = {"onebit_step_seconds", "gauge", "Moving mean of the steps that do nothing but answer, at the number of streams of late."},
    [F_BASELINE] = {"onebit_step_baseline_seconds", "gauge", "The lowest that mean has been at that number of streams."},
    [F_DRIFT] = {"onebit_step_drift_ratio", "gauge", "Step time over its baseline: 1 is as fast as ever."},
    [F_LOADED] = {"onebit_model_loaded", "gauge", "1 while the model is in the engine."},
    [F_STREAMS] = {"onebit_model_streams", "gauge", "Sequences that the engine holds of the model."},
    [F_STREAMS_MAX] = {"onebit_model_streams_max", "gauge", "Sequences that it can hold."},
    [F_BREAKER] = {"onebit_breaker_state", "gauge", "The model's circuit breaker: 0 closed, 1 one probe is out, 2 open."},
    [F_WEIGHTS] = {"onebit_weight_bytes", "gauge", "Weights of the loaded model."},
    [F_SCRATCH] = {"onebit_scratch_bytes", "gauge", "Working memory of the loaded model."},
    [F_PRIVATE] = {"onebit_weight_private_bytes", "gauge", "Of these, in a copy that the system cannot take back."},
    [F_WEIGHTS_RESIDENT] = {"onebit_weight_resident_bytes", "gauge", "Of these, in memory when the engine last looked."},
    [F_KV_RESIDENT] = {"onebit_model_kv_resident_bytes", "gauge", "KV memory of the model that is in memory, in use or not."},
    [F_KV] = {"onebit_kv_bytes", "gauge", "KV memory: used by sequences, idle (kept for reuse), free."},
    [F_KV_TOTAL] = {"onebit_kv_limit_bytes", "gauge", "KV memory there is."},
    [F_QUEUE_BYTES] = {"onebit_queue_bytes", "gauge", "Bodies of the requests that wait or run."},
    [F_OUTPUT] = {"onebit_output_bytes", "gauge", "Output that waits for clients, as memory."},
    [F_OUTPUT_MAX] = {"onebit_output_limit_bytes", "gauge", "Its bound."},
    [F_INPUT] = {"onebit_input_bytes", "gauge", "Frames of clients that have not come whole, as memory."},
    [F_INPUT_MAX] = {"onebit_input_limit_bytes", "gauge", "Its bound."},
    [F_SESSIONS] = {"onebit_sessions", "gauge", "Sessions kept."},
    [F_SESSION_BYTES] = {"onebit_session_bytes", "gauge", "Their bytes."},
    [F_ANSWER_HITS] = {"onebit_kept_answer_hits_total", "counter", "Requests answered from the cache of answers."},
    [F_ANSWER_MISSES] = {"onebit_kept_answer_misses_total", "counter", "Requests that might have been, and were computed."},
    [F_ANSWER_BYTES] = {"onebit_kept_answer_bytes", "gauge", "Bytes of the cache of answers."},
    [F_BUDGET] = {"onebit_memory_budget_bytes", "gauge", "What the daemon may take in all: [memory] budget; 0: no limit is known."},
    [F_CHARGED] = {"onebit_memory_charged_bytes", "gauge", "Of it, what models and the daemon's tables are planned with."},
    [F_PRESSURE] = {"onebit_pressure_level", "gauge", "How short memory is: 0 normal, 1 trim, 2 shed, 3 pause, 4 survive."},
    [F_ACTIONS] = {"onebit_pressure_actions_total", "counter", "Actions of the memory ladder, by their name."},
    [F_FREED] = {"onebit_pressure_freed_bytes_total", "counter", "Bytes that were in memory before them and not after, as measured."},
    [F_SWAPS] = {"onebit_model_swaps_total", "counter", "Loads that made another model leave."},
    [F_IDLE_UNLOADS] = {"onebit_model_idle_unloads_total", "counter", "Models that left because nobody asked for them."},
    [F_KV_CUTS] = {"onebit_model_kv_cuts_total", "counter", "Times that a model was given half of its KV memory, from its next load on, after a kill for memory."},
    [F_FILE_CHANGES] = {"onebit_model_file_changes_total", "counter", "Loaded models dropped because their packed file was changed, and models loaded from another source file than before."},
    [F_ENGINE_RESIDENT] = {"onebit_engine_resident_bytes", "gauge", "Resident memory of the engine's process."},
    [F_RESIDENT] = {"onebit_broker_resident_bytes", "gauge", "Resident memory of the daemon's own process, the engine's not included."},
    [F_SHED] = {"onebit_connections_shed_total", "counter", "Connections closed because all clients together took too much memory."},
    [F_SUPPRESSED] = {"onebit_log_lines_suppressed_total", "counter", "Lines caused by clients that the log left out."},
    [F_SCRAPES] = {"onebit_metrics_reads_total", "counter", "Times that these figures were asked for."},
    [F_DROPPED] = {"onebit_samples_dropped", "gauge", "Series that did not fit into this text."},
};
/* clang-format on */

struct writer {
    struct buf *out;
    size_t max;   /* bytes of out that samples may use */
    int error;    /* -ENOMEM; then nothing more is written */
    bool full;    /* the series in hand did not fit */
    bool no_head; /* nor did the lines of its family */
    uint64_t n_dropped;
};

static void PRINTF_LIKE(2, 3) put(struct writer *w, const char *fmt, ...)
{
    char line[LINE_MAX];
    va_list args;

    va_start(args, fmt);
    const int n = vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    if (w->error < 0 || w->full || n <= 0) {
        return;
    }
    if ((size_t)n >= sizeof(line) || w->out->n + (size_t)n > w->max) {
        w->full = true;
        return;
    }
    w->error = buf_append(w->out, line, (size_t)n);
}

/* A label's value: backslash, quote and newline are escaped; a cut would make two names one. */
static const char *escaped(char room[2 * MODEL_NAME_MAX + 1], const char *text)
{
    size_t n = 0;

    for (const char *at = text; *at && n + 2 < 2 * MODEL_NAME_MAX + 1; at++) {
        if (*at == '\\' || *at == '"' || *at == '\n') {
            room[n++] = '\\';
        }
        room[n++] = *at == '\n' ? 'n' : *at;
    }
    room[n] = '\0';
    return room;
}

/* Begin a series: what it writes stays whole or not at all. Returns where it began. */
static size_t begin(struct writer *w)
{
    w->full = w->no_head;
    return w->out->n;
}

static void end(struct writer *w, size_t began)
{
    if (w->full) {
        w->out->n = began;
        w->n_dropped++;
        w->full = false;
    }
}

static void head(struct writer *w, enum family f)
{
    const size_t max = w->max, began = w->out->n;

    w->full = false;
    w->max = w->out->max;
    put(w, "# HELP %s %s\n", families[f].name, families[f].help);
    put(w, "# TYPE %s %s\n", families[f].name, families[f].type);
    w->max = max;
    w->no_head = w->full;
    if (w->full) {
        w->out->n = began;
    }
}

/* One sample; labels: "" or "{...}". */
static void sample(struct writer *w, enum family f, const char *labels, uint64_t value)
{
    const size_t began = begin(w);

    put(w, "%s%s %" PRIu64 "\n", families[f].name, labels, value);
    end(w, began);
}

static void single(struct writer *w, enum family f, uint64_t value)
{
    head(w, f);
    sample(w, f, "", value);
}

static void ratio(struct writer *w, enum family f, const char *labels, double value)
{
    const size_t began = begin(w);

    put(w, "%s%s %.9g\n", families[f].name, labels, value);
    end(w, began);
}

static void single_seconds(struct writer *w, enum family f, uint64_t ns)
{
    head(w, f);
    ratio(w, f, "", (double)ns / 1e9);
}

static void by_code(struct writer *w, enum family f, const uint64_t counts[ERR_CODES])
{
    char labels[96];

    head(w, f);
    for (int code = 1; code < ERR_CODES; code++) {
        if (counts[code] > 0) {
            (void)snprintf(labels, sizeof(labels), "{code=\"%s\"}",
                           error_info((enum error_code)code)->name);
            sample(w, f, labels, counts[code]);
        }
    }
}

static void by_class(struct writer *w, enum family f, const uint64_t counts[CLASSES])
{
    char labels[64];

    head(w, f);
    for (int c = 0; c < CLASSES; c++) {
        (void)snprintf(labels, sizeof(labels), "{class=\"%s\"}",
                       request_class_name((enum request_class)c));
        sample(w, f, labels, counts[c]);
    }
}

/* `model="...",class="..."` of one set of figures, without braces; NULL: nothing was counted. */
#define LABELS_MAX (2u * MODEL_NAME_MAX + 64u)
struct series {
    char labels[LABELS_MAX];
    const struct metrics_class *figures;
};

static bool series_of(struct series *ret, const struct metrics *m, size_t slot, int c)
{
    static const struct metrics_class nothing;
    char name[2 * MODEL_NAME_MAX + 1];

    if (!m->models[slot] || memcmp(&m->models[slot]->classes[c], &nothing, sizeof(nothing)) == 0) {
        return false;
    }
    (void)snprintf(ret->labels, sizeof(ret->labels), "model=\"%s\",class=\"%s\"",
                   escaped(name, m->models[slot]->name), request_class_name((enum request_class)c));
    ret->figures = &m->models[slot]->classes[c];
    return true;
}

#define for_each_series(s, m)                                                                      \
    for (size_t slot_ = 0; slot_ < METRICS_SLOTS; slot_++)                                         \
        for (int class_i_ = 0; class_i_ < CLASSES; class_i_++)                                     \
            if (series_of((s), (m), slot_, class_i_))

static void outcomes(struct writer *w, const struct metrics *m)
{
    char labels[LABELS_MAX + 64];
    struct series s;

    head(w, F_REQUESTS);
    for_each_series(&s, m)
    {
        for (int code = 0; code < ERR_CODES; code++) {
            if (s.figures->outcomes[code] > 0) {
                (void)snprintf(labels, sizeof(labels), "{%s,code=\"%s\"}", s.labels,
                               code ? error_info((enum error_code)code)->name : "ok");
                sample(w, F_REQUESTS, labels, s.figures->outcomes[code]);
            }
        }
    }
}

static void token_counts(struct writer *w, const struct metrics *m)
{
    static const struct {
        enum family family;
        size_t at;
    } counts[] = {{F_TOKENS, offsetof(struct metrics_class, tokens)},
                  {F_PROMPT_TOKENS, offsetof(struct metrics_class, prompt_tokens)},
                  {F_CACHED_TOKENS, offsetof(struct metrics_class, cached_tokens)}};
    char labels[LABELS_MAX + 2];
    struct series s;
    uint64_t n;

    for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
        head(w, counts[i].family);
        for_each_series(&s, m)
        {
            (void)snprintf(labels, sizeof(labels), "{%s}", s.labels);
            memcpy(&n, (const char *)s.figures + counts[i].at, sizeof(n));
            sample(w, counts[i].family, labels, n);
        }
    }
}

static void histogram(struct writer *w, enum family f, enum metrics_time t, const struct series *s)
{
    const struct histogram *h = &s->figures->times[t];
    const size_t began = begin(w);
    uint64_t n = 0;

    for (size_t i = 0; i <= METRICS_BOUNDS; i++) {
        n += h->n[i];
    }
    if (n == 0) {
        return;
    }
    n = 0;
    for (size_t i = 0; i < METRICS_BOUNDS; i++) {
        n += h->n[i];
        put(w, "%s_bucket{%s,le=\"%s\"} %" PRIu64 "\n", families[f].name, s->labels,
            metrics_bounds[t][i].le, n);
    }
    n += h->n[METRICS_BOUNDS];
    put(w, "%s_bucket{%s,le=\"+Inf\"} %" PRIu64 "\n", families[f].name, s->labels, n);
    put(w, "%s_sum{%s} %" PRIu64 ".%09" PRIu64 "\n", families[f].name, s->labels,
        h->sum_ns / NS_PER_S, h->sum_ns % NS_PER_S);
    put(w, "%s_count{%s} %" PRIu64 "\n", families[f].name, s->labels, n);
    end(w, began);
}

static void histograms(struct writer *w, const struct metrics *m)
{
    static const enum family of[METRICS_TIMES] = {[TIME_FIRST_TOKEN] = F_FIRST_TOKEN,
                                                  [TIME_BETWEEN_TOKENS] = F_BETWEEN_TOKENS,
                                                  [TIME_QUEUE] = F_QUEUE_WAIT};
    struct series s;

    for (int t = 0; t < METRICS_TIMES; t++) {
        head(w, of[t]);
        for_each_series(&s, m)
        {
            histogram(w, of[t], (enum metrics_time)t, &s);
        }
    }
}

/* `{model="..."}` of a slot in use; false: it is not. */
static bool model_labels(char ret[LABELS_MAX], const struct metrics *m, size_t slot)
{
    char name[2 * MODEL_NAME_MAX + 1];

    if (!m->models[slot]) {
        return false;
    }
    (void)snprintf(ret, LABELS_MAX, "{model=\"%s\"}", escaped(name, m->models[slot]->name));
    return true;
}

static void steps(struct writer *w, const struct metrics *m)
{
    char labels[LABELS_MAX];

    for (enum family f = F_STEP; f <= F_DRIFT; f++) {
        head(w, f);
        for (size_t slot = 0; slot < METRICS_SLOTS; slot++) {
            const struct metrics_step *s = metrics_step_now(m, slot);

            if (s && model_labels(labels, m, slot)) {
                ratio(w, f, labels,
                      f == F_STEP       ? (double)s->mean_us / 1e6
                      : f == F_BASELINE ? (double)s->baseline_us / 1e6
                                        : (double)s->mean_us / (double)s->baseline_us);
            }
        }
    }
}

static uint64_t of_model(const struct metrics_now_model *n, enum family f)
{
    switch (f) {
    case F_LOADED:
        return n->loaded;
    case F_STREAMS:
        return n->streams;
    case F_STREAMS_MAX:
        return n->streams_max;
    case F_BREAKER:
        return n->breaker;
    case F_WEIGHTS:
        return n->weight_bytes;
    case F_PRIVATE:
        return n->private_bytes;
    case F_WEIGHTS_RESIDENT:
        return n->resident_bytes;
    case F_KV_RESIDENT:
        return n->kv_resident_bytes;
    default:
        return n->scratch_bytes;
    }
}

static void models(struct writer *w, const struct metrics *m, const struct metrics_now *now)
{
    char labels[LABELS_MAX];

    for (enum family f = F_LOADED; f <= F_KV_RESIDENT; f++) {
        head(w, f);
        for (size_t slot = 0; slot < METRICS_SLOTS; slot++) {
            if (model_labels(labels, m, slot)) {
                sample(w, f, labels, of_model(&now->models[slot], f));
            }
        }
    }
}

static void service(struct writer *w, const struct metrics *m, const struct metrics_now *now)
{
    const uint64_t up = metrics_up_ns(m, now->now_ns);
    char labels[160];

    head(w, F_BUILD);
    (void)snprintf(labels, sizeof(labels), "{version=\"%.32s\",cpu=\"%.32s\"}", now->version,
                   now->cpu);
    sample(w, F_BUILD, labels, 1);
    single_seconds(w, F_UPTIME, now->uptime_ns);
    single(w, F_DRAINING, now->draining);
    single(w, F_ENGINE_UP, m->up);
    single_seconds(w, F_ENGINE_UP_SECONDS, up);
    head(w, F_AVAILABILITY);
    ratio(w, F_AVAILABILITY, "",
          now->uptime_ns > 0 && up < now->uptime_ns ? (double)up / (double)now->uptime_ns
                                                    : (double)(up > 0));
    single(w, F_RESTARTS, now->restarts);
    single(w, F_STUCK, now->stuck);
    single(w, F_CONNECTIONS, now->connections);
    single(w, F_ACCEPTED, m->n_accepted);
    by_code(w, F_CONN_ERRORS, m->conn_errors);
}

static void ladder(struct writer *w, const struct metrics_now *now)
{
    char labels[64];

    single(w, F_PRESSURE, now->pressure);
    for (enum family f = F_ACTIONS; f <= F_FREED; f++) {
        head(w, f);
        for (int a = 0; a < LADDER_ACTS; a++) {
            (void)snprintf(labels, sizeof(labels), "{action=\"%s\"}",
                           ladder_act_name((enum ladder_act)a));
            sample(w, f, labels, f == F_ACTIONS ? now->ladder[a].n : now->ladder[a].bytes);
        }
    }
}

static void memory(struct writer *w, const struct metrics *m, const struct metrics_now *now)
{
    const uint64_t held = now->kv_used + now->kv_idle;

    head(w, F_KV);
    sample(w, F_KV, "{state=\"used\"}", now->kv_used);
    sample(w, F_KV, "{state=\"idle\"}", now->kv_idle);
    sample(w, F_KV, "{state=\"free\"}", now->kv_total > held ? now->kv_total - held : 0);
    single(w, F_KV_TOTAL, now->kv_total);
    single(w, F_QUEUE_BYTES, now->queue_bytes);
    single(w, F_OUTPUT, now->output_bytes);
    single(w, F_OUTPUT_MAX, now->output_max);
    single(w, F_INPUT, now->input_bytes);
    single(w, F_INPUT_MAX, now->input_max);
    single(w, F_SESSIONS, now->sessions);
    single(w, F_SESSION_BYTES, now->session_bytes);
    single(w, F_ANSWER_HITS, now->answer_hits);
    single(w, F_ANSWER_MISSES, now->answer_misses);
    single(w, F_ANSWER_BYTES, now->answer_bytes);
    single(w, F_BUDGET, now->budget_bytes);
    single(w, F_CHARGED, now->charged_bytes);
    ladder(w, now);
    single(w, F_SWAPS, now->swaps);
    single(w, F_IDLE_UNLOADS, now->idle_unloads);
    single(w, F_KV_CUTS, now->kv_cuts);
    head(w, F_FILE_CHANGES);
    sample(w, F_FILE_CHANGES, "{file=\"packed\"}", now->packs_lost);
    sample(w, F_FILE_CHANGES, "{file=\"source\"}", now->sources_new);
    single(w, F_ENGINE_RESIDENT, now->engine_resident_bytes);
    single(w, F_RESIDENT, now->resident_bytes);
    single(w, F_SHED, m->n_shed);
    single(w, F_SUPPRESSED, now->lines_suppressed);
    single(w, F_SCRAPES, m->n_scrapes);
}

static void limited(struct writer *w, const struct metrics *m)
{
    char labels[64];

    head(w, F_LIMITED);
    for (int l = RATE_NONE + 1; l < RATE_LIMITS; l++) {
        (void)snprintf(labels, sizeof(labels), "{limit=\"%s\"}",
                       rate_limit_name((enum rate_limit)l));
        sample(w, F_LIMITED, labels, m->limited[l]);
    }
}

int metrics_text(struct buf *out, const struct metrics *m, const struct metrics_now *now)
{
    struct writer w = {.out = out, .max = out->max > HEADS_ROOM ? out->max - HEADS_ROOM : 0};

    service(&w, m, now);
    outcomes(&w, m);
    by_class(&w, F_RUNNING, now->running);
    by_class(&w, F_QUEUED, now->queued);
    single(&w, F_GIVEN_BACK, now->given_back);
    single(&w, F_DRAFTED, now->drafted);
    single(&w, F_DRAFTS_ACCEPTED, now->accepted);
    limited(&w, m);
    token_counts(&w, m);
    histograms(&w, m);
    steps(&w, m);
    models(&w, m, now);
    memory(&w, m, now);
    w.max = out->max;
    single(&w, F_DROPPED, w.n_dropped);
    return w.error;
}
