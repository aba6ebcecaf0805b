/* What the broker hears. Reports collect in one buffer that is written once a step, so a step costs
 * one system call however many sequences it served. */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "daemon/runner/runner.h"

#define STATS_NS (250 * NS_PER_MS)

static void keep_error(struct runner *rn, int r)
{
    if (r < 0 && rn->error == 0) {
        rn->error = r;
    }
}

void report_flush(struct runner *rn)
{
    if (rn->out.n > 0 && rn->error == 0) {
        pulse_set(rn->pulse, PULSE_REPORT, 0);
        keep_error(rn, seam_io_flush(rn->io, &rn->out));
    }
}

static void report_ids(struct runner *rn, const struct seam_message *m, const int32_t *ids,
                       size_t n_ids, const struct msg_logprob *logprobs, size_t n_alternatives)
{
    keep_error(rn, seam_put(&rn->out, m, ids, n_ids, logprobs, n_alternatives));
    if (rn->out.n >= OUT_FLUSH_BYTES) {
        report_flush(rn);
    }
}

void report(struct runner *rn, const struct seam_message *m)
{
    report_ids(rn, m, NULL, 0, NULL, 0);
}

void report_hello(struct runner *rn)
{
    report(rn, &(struct seam_message){
                   .type = SEAM_HELLO,
                   .hello = {.pack_id = strview_of(model_pack_id()),
                             .cpu = strview_of(cpu_level_name(engine_cpu(rn->engine))),
                             .n_threads = rn->n_threads,
                             .confined = strview_of(rn->confined)},
               });
}

/* A string out of a file, no longer than a report has room for. */
static struct strview word_of(const char *z)
{
    return (struct strview){.data = z, .n = strnlen(z, MSG_NAME_MAX)};
}

void report_loaded(struct runner *rn, const struct resident *m)
{
    const struct model_info *info = &m->info;
    const uint64_t block = kv_block_bytes(m->model, m->kv);
    struct model_weights weights;

    model_weights(m->model, &weights);
    report(rn, &(struct seam_message){
                   .type = SEAM_LOADED,
                   .loaded = {.model = m->number,
                              .arch = word_of(info->arch),
                              .name = word_of(info->name),
                              .formats = word_of(info->formats),
                              .quantization = word_of(info->quantization),
                              .kv = strview_of(kv_type_name(m->kv)),
                              .n_params = info->n_params,
                              .weight_bytes = info->packed_bytes,
                              .kv_bytes_per_position = block / KV_BLOCK,
                              .scratch_bytes = stepper_bytes(m->stepper),
                              .n_ctx = m->n_ctx,
                              .n_ctx_train = info->n_ctx_train,
                              .n_vocab = info->n_vocab,
                              .n_streams = m->n_streams,
                              .kv_blocks = (uint32_t)m->n_blocks,
                              .kv_block_positions = KV_BLOCK,
                              .chat = m->chat != CHAT_NONE,
                              .weights = strview_of(weights_backing_name(weights.backing)),
                              .huge_bytes = weights.huge_bytes,
                              .load_us = (clock_now_ns() - m->begin_ns) / 1000},
               });
}

static void report_refusal(struct runner *rn, const struct seam_failed *failed, enum seam_type type)
{
    report(rn, &(struct seam_message){.type = type, .failed = *failed});
}

void report_load_failed(struct runner *rn, uint32_t model, enum error_code code, const char *text,
                        uint64_t have, uint64_t limit)
{
    const struct seam_failed failed = {
        .model = model, .code = code, .message = strview_of(text), .have = have, .limit = limit};

    report_refusal(rn, &failed, SEAM_LOAD_FAILED);
}

void report_failed(struct runner *rn, uint64_t seq, enum error_code code, const char *text,
                   uint64_t have, uint64_t limit)
{
    const struct seam_failed failed = {
        .seq = seq, .code = code, .message = strview_of(text), .have = have, .limit = limit};

    report_refusal(rn, &failed, SEAM_FAILED);
}

void report_kv_full(struct runner *rn, uint64_t seq)
{
    const struct seam_failed failed = {.seq = seq,
                                       .code = ERR_OVERLOADED,
                                       .message = strview_of("the memory for KV is full"),
                                       .again = true};

    report_refusal(rn, &failed, SEAM_FAILED);
}

/* Of the prompt; where an answer goes on, some of its tokens may have been found, too. */
static uint32_t cached_tokens(const struct sequence *s)
{
    return (uint32_t)(s->n_cached < s->n_prompt ? s->n_cached : s->n_prompt);
}

void report_started(struct runner *rn, const struct sequence *s)
{
    const struct seam_message m = {
        .type = SEAM_STARTED,
        .started = {.seq = s->number,
                    .prompt_tokens = (uint32_t)s->n_prompt,
                    .cached_tokens = cached_tokens(s),
                    .max_tokens = s->max_tokens,
                    .n_trimmed = s->n_trimmed},
    };

    report_ids(rn, &m, s->ids, s->want_ids ? s->n_prompt : 0, NULL, 0);
}

void report_prefill(struct runner *rn, const struct sequence *s)
{
    report(rn, &(struct seam_message){
                   .type = SEAM_PREFILL,
                   .prefill = {.seq = s->number,
                               .done = (uint32_t)seq_len(s->kv),
                               .total = (uint32_t)s->n_known},
               });
}

void report_tokens(struct runner *rn, const struct sequence *s, const struct report_run *run)
{
    const struct sampler_choice *choice = run->choice;
    struct msg_logprob probs[1 + SAMPLER_LOGPROBS_MAX];
    size_t n_probs = 0;

    if (choice) {
        probs[n_probs++] = (struct msg_logprob){choice->id, choice->logprob};
        for (size_t i = 0; i < choice->n_top; i++) {
            probs[n_probs++] = (struct msg_logprob){choice->top_id[i], choice->top_logprob[i]};
        }
    }
    report_ids(rn,
               &(struct seam_message){
                   .type = SEAM_TOKENS,
                   .tokens = {.seq = s->number,
                              .n0 = (uint32_t)run->n0,
                              .text = run->text,
                              .n_wrong = (uint32_t)run->n_wrong},
               },
               s->ids + s->n_prompt + run->n0, run->n_ids, n_probs > 0 ? probs : NULL, n_probs);
}

void report_finished(struct runner *rn, const struct sequence *s, const char *reason)
{
    report(rn, &(struct seam_message){
                   .type = SEAM_FINISHED,
                   .finished = {.seq = s->number,
                                .reason = strview_of(reason),
                                .prompt_tokens = (uint32_t)s->n_prompt,
                                .cached_tokens = cached_tokens(s),
                                .answer_tokens = (uint32_t)(s->n_ids - s->n_prompt),
                                .prefill_us = s->prefill_ns / 1000,
                                .decode_us = s->decode_ns / 1000},
               });
}

void report_stats(struct runner *rn, bool idle, uint64_t now_ns)
{
    if (!rn->stats_due || (!idle && now_ns - rn->stats_ns < STATS_NS)) {
        return;
    }
    struct seam_message m = {.type = SEAM_STATS, .stats = rn->stats};
    struct seam_stats *st = &m.stats;

    for (size_t i = 0; i < RESIDENTS_MAX; i++) {
        const struct resident *r = rn->residents[i];
        if (!r || !r->ready) {
            continue;
        }
        const uint64_t block = kv_block_bytes(r->model, r->kv);
        st->weight_bytes += r->info.packed_bytes;
        st->kv_bytes_total += block * r->n_blocks;
        const size_t n_free = kv_pool_free_blocks(r->pool), n_idle = kv_pool_idle_blocks(r->pool);
        st->kv_bytes_used += block * (r->n_blocks - n_free - n_idle);
        st->kv_bytes_idle += block * n_idle;
        st->n_sequences += r->n_sequences;
    }
    rn->stats_ns = now_ns;
    rn->stats_due = false;
    report(rn, &m);
}
