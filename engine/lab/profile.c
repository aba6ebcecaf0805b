/* Where the time of `bench` went, by part of a step. Rates of a product count its weights once a
 * step and its multiply-adds for every token, against the part's time with its waiting. */
#include "engine/lab/lab.h"

static double per(uint64_t n, uint64_t of)
{
    return of > 0 ? (double)n / (double)of : 0;
}

/* Tokens that a part works on: the head takes those whose logits are wanted. */
static uint64_t tokens_of(const struct lab_profile *p, unsigned part)
{
    return part == PART_HEAD ? p->n_rows : p->n_tokens;
}

void profile_print(const char *phase, const struct lab_profile *p)
{
    if (p->n_tokens == 0) {
        return;
    }
    uint64_t left = p->total_ns - p->sample_ns, waits = 0;

    (void)printf("\n%s: %llu tokens in %llu steps, %.1f us a token\n", phase,
                 (unsigned long long)p->n_tokens, (unsigned long long)p->n_steps,
                 per(p->total_ns, p->n_tokens) * 1e-3);
    (void)printf("  %-12s %12s %8s %12s %8s %10s\n", "part", "us a token", "share", "of it waits",
                 "GB/s", "G MAC/s");
    for (unsigned i = 0; i < STEP_PARTS; i++) {
        const uint64_t ns = p->steps.ns[i];
        (void)printf("  %-12s %12.2f %7.1f%% %12.2f", step_part_name((enum step_part)i),
                     per(ns, p->n_tokens) * 1e-3, per(ns, p->total_ns) * 100,
                     per(p->steps.wait_ns[i], p->n_tokens) * 1e-3);
        if (p->steps.macs[i] > 0) {
            (void)printf(" %8.2f %10.1f", per(p->steps.weights[i] * p->n_steps, ns),
                         per(p->steps.macs[i] * tokens_of(p, i), ns));
        }
        (void)putchar('\n');
        left -= ns < left ? ns : left;
        waits += p->steps.wait_ns[i];
    }
    (void)printf("  %-12s %12.2f %7.1f%%\n", "sampling", per(p->sample_ns, p->n_tokens) * 1e-3,
                 per(p->sample_ns, p->total_ns) * 100);
    (void)printf("  %-12s %12.2f %7.1f%%\n", "between", per(left, p->n_tokens) * 1e-3,
                 per(left, p->total_ns) * 100);
    (void)printf("  waiting in all %.2f us a token, %.1f%%\n", per(waits, p->n_tokens) * 1e-3,
                 per(waits, p->total_ns) * 100);
}

json_t *profile_json(const struct lab_profile *p)
{
    json_t *parts = json_array();

    for (unsigned i = 0; parts && i < STEP_PARTS; i++) {
        if (json_array_append_new(parts, json_pack("{s:s, s:I, s:I, s:I, s:I}", "part",
                                                   step_part_name((enum step_part)i), "ns",
                                                   (json_int_t)p->steps.ns[i], "wait_ns",
                                                   (json_int_t)p->steps.wait_ns[i], "weight_bytes",
                                                   (json_int_t)p->steps.weights[i], "multiply_adds",
                                                   (json_int_t)p->steps.macs[i])) != 0) {
            json_decref(parts);
            return NULL;
        }
    }
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:o}", "tokens", (json_int_t)p->n_tokens, "steps",
                     (json_int_t)p->n_steps, "rows", (json_int_t)p->n_rows, "total_ns",
                     (json_int_t)p->total_ns, "sample_ns", (json_int_t)p->sample_ns, "parts",
                     parts);
}
