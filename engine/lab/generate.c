/* generate: continue a prompt, as text that streams or as one JSON object.
 *
 * The ids reported are those whose text is reported: the token that ended the answer is not among
 * them. Randomness depends on the seed and the position alone, so a call can be repeated, and
 * guesses of --draft that turn out right are what would have been picked. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/lab/lab.h"

struct answer {
    int32_t *ids; /* owned: prompt, then answer; room for both */
    size_t n_prompt;
    size_t n;        /* tokens of the answer */
    bool stopped;    /* by a token that ends answers, not by length */
    struct buf text; /* owned; only gathered for JSON */
    bool escape;
    struct draft_luck luck;
    size_t n_drafts, n_right; /* of the last step; the guesses stand in ids behind the answer */
    uint64_t drafted, accepted;
    double load_s, prompt_s, generate_s;
};

/* ---- the prompt ---- */

static int prompt_ids(const struct lab_args *a, const struct model *model, int32_t **ret,
                      size_t *ret_n)
{
    const struct vocab *vocab = model_vocab(model);

    if (a->ids) {
        return args_ids(a->ids, vocab_size(vocab), ret, ret_n);
    }
    if (a->prompt) {
        return lab_tokenize(vocab, a->prompt, strlen(a->prompt),
                            TOKENIZE_SPECIAL | TOKENIZE_ADD_SPECIAL, ret, ret_n);
    }
    struct buf file;
    char *text = NULL;
    size_t n = 0;
    int r = read_file(a->chat, &file);
    if (r == LAB_OK) {
        r = lab_render(a, model, file.data, file.n, /* generation_prompt= */ true, &text, &n);
    }
    if (r == LAB_OK) {
        r = lab_tokenize(vocab, text, n, TOKENIZE_SPECIAL, ret, ret_n);
    }
    free(text);
    buf_deinit(&file);
    return r;
}

/* The prompt's ids at the head of an array with room for the answer; sets n_max to what fits. */
static int prepare(const struct lab_args *a, const struct model *model, struct answer *ans,
                   size_t *ret_n_max)
{
    struct model_info info;
    int32_t *ids = NULL;
    size_t n = 0;
    int r = prompt_ids(a, model, &ids, &n);

    if (r != LAB_OK) {
        return r;
    }
    model_info(model, &info);
    const size_t ctx = info.n_ctx_train > 0 ? info.n_ctx_train : MODEL_CTX_MAX;
    if (n == 0 || n > ctx) {
        lab_error(n == 0 ? "the prompt is empty"
                         : "the prompt has %zu tokens, the model's context %zu",
                  n, ctx);
        free(ids);
        return LAB_DATA;
    }
    *ret_n_max = a->n < ctx - n ? (size_t)a->n : ctx - n;
    ans->ids = realloc(ids, (n + *ret_n_max) * sizeof(*ids));
    if (!ans->ids) {
        free(ids);
        return lab_errno("prompt", -ENOMEM);
    }
    ans->n_prompt = n;
    return LAB_OK;
}

/* ---- the answer ---- */

static int deliver(const struct lab_args *a, struct answer *ans, struct strview text)
{
    if (a->json) {
        const int r = buf_append(&ans->text, text.data, text.n);
        return r < 0 ? lab_errno("answer", r) : LAB_OK;
    }
    if (text.n > 0) {
        out_text(stdout, ans->escape, text.data, text.n);
        return out_done();
    }
    return LAB_OK;
}

static struct sampler_params params_of(const struct lab_args *a)
{
    return (struct sampler_params){
        .temperature = (float)a->temperature,
        .top_k = (int32_t)a->top_k,
        .top_p = (float)a->top_p,
        .min_p = (float)a->min_p,
        .repeat_penalty = (float)a->repeat_penalty,
        .seed = a->seed,
    };
}

/* What a pick after the ids so far will look at. */
static struct step_item ask_of(const struct lab_args *a, const struct answer *ans, uint32_t n_vocab)
{
    const struct sampler_params params = params_of(a);
    struct step_item ask = {0};

    if (!a->head || strcmp(a->head, "full") != 0) {
        sampler_ask(&params, n_vocab, ans->ids, ans->n_prompt + ans->n, 0, &ask);
    }
    return ask;
}

/* Run the prompt. */
static int feed(const struct lab_args *a, struct lab_run *run, const struct answer *ans,
                uint32_t n_vocab, const float **ret_logits)
{
    const struct step_item ask = ask_of(a, ans, n_vocab);

    return lab_feed(run, 0, ans->ids, ans->n_prompt, (size_t)a->chunk, &ask, ret_logits);
}

static int pick(const struct lab_args *a, struct sampler *sampler, const struct answer *ans,
                const float *logits, int32_t *ret)
{
    const struct sampler_params params = params_of(a);
    const size_t at = ans->n_prompt + ans->n;
    struct sampler_choice choice;
    const int r = sampler_pick(sampler, &params, logits, ans->ids, at, at, 0, &choice);

    if (r == SAMPLER_NOT_FINITE) {
        lab_error("%s: the logits after %zu tokens are not finite", a->path, at);
        return LAB_DATA;
    }
    if (r < 0) {
        return lab_errno("sampler", r);
    }
    *ret = choice.id;
    return LAB_OK;
}

/* Is what was picked the end? Else adds it to the answer and delivers what may be. */
static int take(const struct lab_args *a, const struct model *model, struct textout *out,
                struct answer *ans, int32_t id)
{
    struct strview text;

    if (!a->ignore_eos && vocab_is_end(model_vocab(model), id)) {
        ans->stopped = true;
        return LAB_OK;
    }
    ans->ids[ans->n_prompt + ans->n++] = id;
    (void)textout_feed(out, id, &text);
    return deliver(a, ans, text);
}

/* A step of the last token and guesses at what follows it. */
static int step(const struct lab_args *a, struct lab_run *run, struct answer *ans, size_t n_max,
                uint32_t n_vocab, const float **ret_logits)
{
    const size_t n = ans->n_prompt + ans->n, left = n_max - ans->n - 1;
    const size_t most = a->draft < left ? (size_t)a->draft : left;
    const size_t ask = draft_ask(&ans->luck, most);
    struct step_item item = ask_of(a, ans, n_vocab);

    item.seq = run->seqs[0];
    item.ids = ans->ids + n - 1;
    ans->n_drafts = draft_find(ans->ids, n, ans->ids + n, ask);
    ans->n_right = 0;
    ans->drafted += ans->n_drafts;
    item.n_ids = item.n_logits = 1 + ans->n_drafts;
    item.n_drafts = ans->n_drafts;
    if (item.n_drafts > 0 && item.n_also > 0) { /* each row would look at others */
        item.n_best = item.n_also = 0;
    }
    const int r = lab_step(run, &item, 1);
    *ret_logits = item.logits;
    return r;
}

/* The step's rows are used up, or its next guess was wrong. */
static void learn(struct answer *ans)
{
    if (ans->n_drafts > 0) {
        draft_learn(&ans->luck, ans->n_drafts, ans->n_right);
        ans->accepted += ans->n_right;
        ans->n_drafts = 0;
    }
}

static int answer_loop(const struct lab_args *a, const struct model *model, struct lab_run *run,
                       struct sampler *sampler, struct textout *out, struct answer *ans,
                       size_t n_max)
{
    const uint32_t n_vocab = vocab_size(model_vocab(model));
    const float *logits = NULL;
    struct strview text;
    uint64_t start = clock_now_ns();
    int r = feed(a, run, ans, n_vocab, &logits);

    ans->prompt_s = (double)(clock_now_ns() - start) * 1e-9;
    start = clock_now_ns();
    while (r == LAB_OK && ans->n < n_max) {
        int32_t *next = &ans->ids[ans->n_prompt + ans->n], guess = *next, id = -1;
        r = pick(a, sampler, ans, logits, &id);
        if (r == LAB_OK) {
            r = take(a, model, out, ans, id);
        }
        if (r != LAB_OK || ans->stopped || ans->n == n_max) {
            break;
        }
        if (ans->n_right < ans->n_drafts && guess == id) {
            seq_accept(run->seqs[0], next, 1);
            ans->n_right++;
            logits += n_vocab;
        } else {
            learn(ans);
            r = step(a, run, ans, n_max, n_vocab, &logits);
        }
    }
    learn(ans);
    ans->generate_s = (double)(clock_now_ns() - start) * 1e-9;
    if (r == LAB_OK) {
        textout_finish(out, &text);
        r = deliver(a, ans, text);
    }
    return r;
}

static double rate(size_t n, double seconds)
{
    return seconds > 0 ? (double)n / seconds : 0;
}

static int print_json(const struct lab_args *a, const struct model *model, const struct answer *ans)
{
    struct model_weights weights;
    model_weights(model, &weights);
    json_t *timings =
        json_pack("{s:f, s:f, s:f, s:f, s:f}", "load_seconds", ans->load_s, "prompt_seconds",
                  ans->prompt_s, "generate_seconds", ans->generate_s, "prompt_tokens_per_second",
                  rate(ans->n_prompt, ans->prompt_s), "generate_tokens_per_second",
                  rate(ans->n, ans->generate_s));
    json_t *o = json_pack(
        "{s:o, s:o, s:s, s:I, s:I, s:s, s:o, s:I, s:s, s:I, s:I, s:I}", "text",
        json_bytes((const char *)ans->text.data, ans->text.n), "ids",
        json_ids(ans->ids + ans->n_prompt, ans->n), "finish_reason",
        ans->stopped ? "stop" : "length", "prompt_tokens", (json_int_t)ans->n_prompt,
        "generated_tokens", (json_int_t)ans->n, "cpu", cpu_level_name(a->cpu), "timings", timings,
        "peak_bytes", (json_int_t)lab_peak_bytes(), "weights",
        weights_backing_name(weights.backing), "huge_bytes", (json_int_t)weights.huge_bytes,
        "drafted", (json_int_t)ans->drafted, "accepted", (json_int_t)ans->accepted);
    return out_json(o);
}

static int generate(const struct lab_args *a, const struct model *model, struct answer *ans,
                    size_t n_max)
{
    const size_t chunk = ans->n_prompt < a->chunk ? ans->n_prompt : (size_t)a->chunk;
    const size_t rows = 1 + (size_t)a->draft;
    const struct lab_need need = {.n_seqs = 1,
                                  .n_ctx = ans->n_prompt + n_max,
                                  .n_tokens = chunk > rows ? chunk : rows,
                                  .n_logits = rows};
    struct lab_run run = {0};
    struct sampler *sampler = NULL;
    struct textout *out = NULL;
    int r = lab_run_open(&run, a, model, &need);

    if (r == LAB_OK) {
        int err = sampler_new(&sampler, vocab_size(model_vocab(model)));
        if (err == 0) {
            err = textout_new(&out, model_vocab(model), NULL, 0);
        }
        r = err < 0 ? lab_errno("generate", err) : LAB_OK;
    }
    if (r == LAB_OK) {
        r = answer_loop(a, model, &run, sampler, out, ans, n_max);
    }
    textout_free(out);
    sampler_free(sampler);
    lab_run_close(&run);
    return r;
}

int verb_generate(const struct lab_args *a)
{
    struct answer ans = {.escape = out_is_terminal()};
    struct model *model = NULL;
    size_t n_max = 0;

    if (!!a->ids + !!a->prompt + !!a->chat != 1) {
        lab_error("wants one of --ids, --prompt and --chat");
        return LAB_USAGE;
    }
    int r = lab_check_head(a);
    buf_init(&ans.text, LAB_INPUT_MAX);
    if (r == LAB_OK) {
        r = lab_model_to_run(a, &model, &ans.load_s);
    }
    if (r == LAB_OK) {
        r = prepare(a, model, &ans, &n_max);
    }
    if (r == LAB_OK) {
        r = generate(a, model, &ans, n_max);
    }
    if (r == LAB_OK && a->json) {
        r = print_json(a, model, &ans);
    } else if (r == LAB_OK) {
        (void)putchar('\n');
    }
    buf_deinit(&ans.text);
    free(ans.ids);
    model_free(model);
    return r;
}
