/* Models that are resident. Bringing a model's weights in from a slow card takes seconds; a loader
 * thread does that, while the sequences of other models go on. What needs the engine (scratch, KV
 * pool, the first step that warms everything) is done between two steps once the pages are
 * there.
 *
 * A model whose packed file is cut or written to while it is read from is dropped with all its
 * sequences, before a number of the step that met it is used. The broker, which has their ids, has
 * the file made anew and goes on with them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "daemon/runner/runner.h"

static void watch(struct resident *m)
{
    const void *at;
    size_t n;

    model_map(m->model, &at, &n);
    m->guard = n > 0 ? guard_new(at, n, m->fd) : NULL;
}

/* A copy does not care what becomes of the file. */
static void watch_or_not(struct resident *m)
{
    const void *at;
    size_t n;

    model_map(m->model, &at, &n);
    if (n == 0) {
        guard_free(m->guard);
        m->guard = NULL;
    }
}

static void *loader_main(void *arg)
{
    struct resident *m = arg;

    m->result = model_open_packed(&m->model, m->fd, &m->diag);
    if (m->result == MODEL_OK) {
        watch(m);
        m->result = model_bring_in(m->model, m->fd, m->weights, &m->diag);
    }
    if (m->result == -ENOMEM && m->model && m->weights != WEIGHTS_SHARED) {
        m->result = model_bring_in(m->model, m->fd, WEIGHTS_SHARED, &m->diag);
    }
    if (m->result == MODEL_OK) {
        watch_or_not(m);
    }
    atomic_store(&m->opened, true);
    seam_io_wake(m->io);
    return NULL;
}

static void resident_free(struct resident *m)
{
    if (!m) {
        return;
    }
    if (m->loading) {
        (void)pthread_join(m->loader, NULL);
    }
    tuner_free(m->tuner);
    sampler_free(m->sampler);
    stepper_free(m->stepper);
    kv_pool_free(m->pool);
    guard_free(m->guard);
    model_free(m->model);
    if (m->fd >= 0) {
        (void)close(m->fd);
    }
    free(m);
}

static struct resident **resident_slot(struct runner *rn, const struct resident *m)
{
    for (size_t i = 0; i < RESIDENTS_MAX; i++) {
        if (rn->residents[i] == m) {
            return &rn->residents[i];
        }
    }
    return NULL;
}

struct resident *resident_find(const struct runner *rn, uint32_t number)
{
    for (size_t i = 0; i < RESIDENTS_MAX; i++) {
        struct resident *m = rn->residents[i];
        if (m && m->number == number && !m->dropped) {
            return m;
        }
    }
    return NULL;
}

void resident_load(struct runner *rn, struct seam_item *item)
{
    const struct seam_load *load = &item->msg.load;
    struct resident **slot = resident_slot(rn, NULL);

    if (resident_find(rn, load->model)) {
        report_load_failed(rn, load->model, ERR_INTERNAL, "the model's number is in use", 0, 0);
        return;
    }
    enum chat_template chat = CHAT_NONE;
    if (load->chat_template.n > 0 && !chat_template_parse(load->chat_template, &chat)) {
        report_load_failed(rn, load->model, ERR_INTERNAL, "there is no such chat template", 0, 0);
        return;
    }
    enum kv_type kv = KV_F16;
    if (load->kv.n > 0 && !kv_type_parse(load->kv, &kv)) {
        report_load_failed(rn, load->model, ERR_INTERNAL, "there is no such type of cache", 0, 0);
        return;
    }
    enum weights_backing weights = WEIGHTS_SHARED;
    if (load->weights.n > 0 && !weights_backing_parse(load->weights, &weights)) {
        report_load_failed(rn, load->model, ERR_INTERNAL, "there is no such backing", 0, 0);
        return;
    }
    struct resident *m = slot ? calloc(1, sizeof(*m)) : NULL;
    if (!m) {
        report_load_failed(rn, load->model, ERR_OVERLOADED, "too many models at once",
                           RESIDENTS_MAX, RESIDENTS_MAX);
        return;
    }
    m->number = load->model;
    m->kv = kv;
    m->n_ctx_asked = load->n_ctx;
    m->n_streams_max = load->n_streams_max;
    m->kv_bytes_max = load->kv_bytes_max;
    m->beside_bytes_max = load->beside_bytes_max;
    m->weights = weights;
    m->temperature = load->has_default_temperature ? load->default_temperature : -1;
    m->chat = chat;
    m->draft_tokens = load->draft_tokens;
    m->n_rows = DRAFT_ROWS_DEFAULT;
    m->tune = load->tune;
    m->lock = load->lock;
    m->n_record = load->tuning.n;
    if (m->n_record > 0) {
        memcpy(m->record, load->tuning.data, m->n_record);
    }
    m->begin_ns = clock_now_ns();
    m->io = rn->io;
    m->fd = item->fd;
    item->fd = -1;
    atomic_init(&m->opened, false);
    if (pthread_create(&m->loader, NULL, loader_main, m) != 0) {
        report_load_failed(rn, m->number, ERR_OVERLOADED, "no thread to load with", 0, 0);
        resident_free(m);
        return;
    }
    m->loading = true;
    *slot = m;
}

static struct stepper_limits limits_of(const struct runner *rn, const struct resident *m,
                                       size_t n_streams)
{
    const size_t n_rows = m->draft_tokens > 0 ? DRAFT_ROWS_MAX : 0;

    return (struct stepper_limits){.n_tokens_max = rn->step_tokens_max + SEAM_STREAMS_MAX,
                                   .n_logits_max = n_streams > n_rows ? n_streams : n_rows};
}

/* What the pool may take, with the scratch that goes with it. */
static uint64_t kv_room(const struct runner *rn, const struct resident *m, uint64_t *ret_scratch)
{
    const size_t n = m->n_streams_max < SEAM_STREAMS_MAX ? m->n_streams_max : SEAM_STREAMS_MAX;
    const struct stepper_limits limits = limits_of(rn, m, n > 0 ? n : 1);

    *ret_scratch = 0;
    if (m->beside_bytes_max == 0) {
        return m->kv_bytes_max;
    }
    *ret_scratch = stepper_bytes_for(rn->engine, m->model, &limits);
    const uint64_t room =
        m->beside_bytes_max > *ret_scratch ? m->beside_bytes_max - *ret_scratch : 0;
    return room < m->kv_bytes_max ? room : m->kv_bytes_max;
}

/* How many positions and blocks the KV budget gives: at least one whole sequence. Streams take
 * blocks as they fill them, so there may be more streams than whole sequences; when blocks run out,
 * the broker chooses who goes on. False: not even one sequence, or a longer one than the model
 * allows; told. */
static bool resident_size(struct runner *rn, struct resident *m)
{
    const uint64_t block = kv_block_bytes(m->model, m->kv);
    uint64_t scratch;
    const uint64_t room = kv_room(rn, m, &scratch);
    const uint64_t blocks_max = room / block;
    uint32_t n_ctx = m->n_ctx_asked;

    if (n_ctx > m->info.n_ctx_train) {
        char text[128];
        (void)snprintf(text, sizeof(text),
                       "n_ctx is set to %u, and the model has %u positions: set it lower, or to 0",
                       n_ctx, m->info.n_ctx_train);
        report_load_failed(rn, m->number, ERR_MODEL_UNSUPPORTED, text, n_ctx, m->info.n_ctx_train);
        return false;
    }
    if (n_ctx == 0) {
        n_ctx = m->info.n_ctx_train < N_CTX_DEFAULT ? m->info.n_ctx_train : N_CTX_DEFAULT;
        if ((uint64_t)n_ctx > blocks_max * KV_BLOCK) {
            n_ctx = (uint32_t)(blocks_max * KV_BLOCK); /* a smaller context rather than none */
        }
    }
    const uint64_t blocks_each = ((uint64_t)n_ctx + KV_BLOCK - 1) / KV_BLOCK;
    if (n_ctx < 2 || blocks_each > blocks_max) {
        const uint64_t need = (blocks_each > 0 ? blocks_each : 1) * block;
        report_load_failed(rn, m->number, ERR_MODEL_TOO_BIG,
                           "one sequence does not fit the memory for KV", need + scratch,
                           room + scratch);
        return false;
    }
    const uint64_t blocks_useful = SEAM_STREAMS_MAX * blocks_each;
    const uint64_t n_blocks = blocks_max < blocks_useful ? blocks_max : blocks_useful;
    uint64_t n = m->n_streams_max < SEAM_STREAMS_MAX ? m->n_streams_max : SEAM_STREAMS_MAX;
    n = n < n_blocks ? n : n_blocks;
    m->n_ctx = n_ctx;
    m->n_streams = (uint32_t)(n > 0 ? n : 1);
    m->n_blocks = (size_t)n_blocks;
    return true;
}

/* Two tokens through the whole model: the first faults in what touching missed, and the scratch;
 * the second tells how long a pass takes. */
static int resident_warm(struct resident *m)
{
    static const int32_t id = 0;
    struct seq *seq = NULL;
    int r = seq_new(&seq, m->pool, m->n_ctx);

    for (unsigned i = 0; i < 2 && r == 0; i++) {
        struct step_item item = {.seq = seq, .ids = &id, .n_ids = 1, .n_logits = 1};
        const uint64_t begin_ns = clock_now_ns();
        r = stepper_run(m->stepper, &item, 1, NULL);
        if (i == 1) {
            pace_learn(&m->pace, 1, 0, clock_now_ns() - begin_ns);
        }
    }
    seq_free(seq);
    return r > 0 ? -ENOMEM : r;
}

static int resident_build(struct runner *rn, struct resident *m)
{
    const struct stepper_limits limits = limits_of(rn, m, m->n_streams);
    int r = kv_pool_new(&m->pool, m->model, m->kv, m->n_blocks);

    if (r == 0) {
        r = stepper_new(&m->stepper, rn->engine, m->model, &limits);
    }
    if (r == 0) {
        stepper_beat(m->stepper, &rn->pulse->beats);
        r = sampler_new(&m->sampler, m->info.n_vocab);
    }
    if (r == 0) {
        r = resident_warm(m);
    }
    return r;
}

static void report_unfit(struct runner *rn, const struct resident *m, const char *why)
{
    char text[sizeof("packed: ") + sizeof(m->diag.text)];

    (void)snprintf(text, sizeof(text), "packed: %s", why);
    report_load_failed(rn, m->number, ERR_MODEL_MALFORMED, text, 0, 0);
}

bool resident_lost(struct runner *rn, struct resident *m)
{
    if (!m->guard || !guard_torn(m->guard)) {
        return false;
    }
    report_unfit(rn, m, "it was changed while it was in use");
    resident_drop(rn, m->number);
    return true;
}

/* False when the model is not to stay. */
static bool resident_ready(struct runner *rn, struct resident *m)
{
    if (m->dropped) {
        return false;
    }
    if (m->result == MODEL_STALE || m->result == MODEL_MALFORMED) {
        report_unfit(rn, m, m->diag.set ? m->diag.text : "of another version");
        return false;
    }
    int r = m->result;
    if (r == MODEL_OK) {
        model_info(m->model, &m->info);
        m->chat = m->chat != CHAT_NONE ? m->chat : m->info.chat;
        if (!resident_size(rn, m)) {
            return false;
        }
        r = resident_build(rn, m);
    }
    if (r == 0 && m->guard && guard_torn(m->guard)) {
        report_unfit(rn, m, "it was changed while it was loaded");
        return false;
    }
    if (r != 0) {
        const char *why = r < 0 ? strerror(-r) : "the packed file cannot be opened";
        log_line(LOG_ERROR, "model %u cannot be loaded: %s", m->number, why);
        report_load_failed(rn, m->number, r == -ENOMEM ? ERR_MODEL_TOO_BIG : ERR_INTERNAL, why, 0,
                           0);
        return false;
    }
    if (!m->guard) {
        (void)close(m->fd);
        m->fd = -1;
    }
    if (m->lock) {
        m->locked = model_lock(m->model);
    }
    m->ready = true;
    rn->stats_due = true;
    report_loaded(rn, m);
    tuning_begin(rn, m);
    return true;
}

void residents_collect(struct runner *rn)
{
    for (size_t i = 0; i < RESIDENTS_MAX; i++) {
        struct resident *m = rn->residents[i];
        if (!m || !m->loading || !atomic_load(&m->opened)) {
            continue;
        }
        pulse_set(rn->pulse, PULSE_LOAD, 0);
        (void)pthread_join(m->loader, NULL);
        m->loading = false;
        if (!resident_ready(rn, m)) {
            rn->residents[i] = NULL;
            resident_free(m);
        }
    }
}

bool residents_loading(const struct runner *rn)
{
    for (size_t i = 0; i < RESIDENTS_MAX; i++) {
        if (rn->residents[i] && rn->residents[i]->loading) {
            return true;
        }
    }
    return false;
}

void resident_publish(struct runner *rn, const struct seam_public *what)
{
    struct resident *m = resident_find(rn, what->model);

    if (!m || !m->ready) {
        return; /* its load failed in the meantime */
    }
    for (size_t i = 0; i < SEQUENCES_MAX; i++) {
        if (rn->sequences[i] && rn->sequences[i]->home == m && rn->sequences[i]->public_) {
            sequence_forget(rn, rn->sequences[i]);
        }
    }
    kv_pool_publish(m->pool, what->label);
}

static void on_written(void *arg)
{
    seam_io_wake(arg); /* an idle engine has the next block to give */
}

void resident_spill(struct runner *rn, struct seam_item *item)
{
    const struct seam_spill *spill = &item->msg.spill;
    struct resident *m = resident_find(rn, spill->model);

    if (!m || !m->ready) {
        return; /* its load failed in the meantime */
    }
    const int r = kv_pool_spill(m->pool, item->fd, spill->bytes_max, on_written, rn->io);
    if (r == 0) {
        item->fd = -1;
    } else {
        log_line(LOG_WARNING, "model %u keeps no KV on disk: %s", m->number, strerror(-r));
    }
}

void residents_spill(struct runner *rn)
{
    for (size_t i = 0; i < RESIDENTS_MAX; i++) {
        struct resident *m = rn->residents[i];
        if (m && m->ready) {
            (void)kv_pool_spill_next(m->pool);
        }
    }
}

void resident_drop(struct runner *rn, uint32_t number)
{
    struct resident *m = resident_find(rn, number);

    if (!m) {
        return; /* its load failed in the meantime */
    }
    if (m->loading) {
        m->dropped = true; /* residents_collect() frees it when the loader is done */
        return;
    }
    for (size_t i = 0; i < SEQUENCES_MAX; i++) {
        if (rn->sequences[i] && rn->sequences[i]->home == m) {
            sequence_forget(rn, rn->sequences[i]);
        }
    }
    struct resident **slot = resident_slot(rn, m);
    *slot = NULL;
    resident_free(m);
    rn->stats_due = true;
}

void residents_free(struct runner *rn)
{
    for (size_t i = 0; i < RESIDENTS_MAX; i++) {
        resident_free(rn->residents[i]);
        rn->residents[i] = NULL;
    }
}
