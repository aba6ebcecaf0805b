/* Formats for a number of bytes: greedy over the measured losses, by loss per byte saved. */
#include "engine/lab/sensitivity.h"

static size_t n_choices(const struct sens *s)
{
    return 1 + s->n_formats;
}

uint64_t sens_bytes(const struct sens *s)
{
    uint64_t bytes = s->fixed;

    for (size_t g = 0; g < s->n_groups; g++) {
        bytes += s->groups[g].choices[s->groups[g].chosen].bytes;
    }
    return bytes;
}

uint64_t sens_least_bytes(const struct sens *s)
{
    uint64_t bytes = s->fixed;

    for (size_t g = 0; g < s->n_groups; g++) {
        const struct sens_choice *c = s->groups[g].choices;
        uint64_t least = c[0].bytes;
        for (size_t i = 1; i < n_choices(s); i++) {
            least = c[i].usable && c[i].bytes < least ? c[i].bytes : least;
        }
        bytes += least;
    }
    return bytes;
}

struct step {
    size_t group, choice;
    double price; /* loss for a byte saved, or gained by a byte spent */
    bool found;
};

/* The cheapest step to something smaller. */
static struct step cheapest(const struct sens *s)
{
    struct step best = {0};

    for (size_t g = 0; g < s->n_groups; g++) {
        const struct sens_choice *c = s->groups[g].choices, *now = &c[s->groups[g].chosen];
        for (size_t i = 0; i < n_choices(s); i++) {
            if (!c[i].usable || c[i].bytes >= now->bytes) {
                continue;
            }
            const double price = (c[i].delta - now->delta) / (double)(now->bytes - c[i].bytes);
            if (!best.found || price < best.price) {
                best = (struct step){.group = g, .choice = i, .price = price, .found = true};
            }
        }
    }
    return best;
}

/* The step that gains most for its bytes, of those that `left` more bytes allow. */
static struct step worthiest(const struct sens *s, uint64_t left)
{
    struct step best = {0};

    for (size_t g = 0; g < s->n_groups; g++) {
        const struct sens_choice *c = s->groups[g].choices, *now = &c[s->groups[g].chosen];
        for (size_t i = 0; i < n_choices(s); i++) {
            if (!c[i].usable || c[i].bytes <= now->bytes || c[i].bytes - now->bytes > left ||
                c[i].delta >= now->delta) {
                continue;
            }
            const double price = (now->delta - c[i].delta) / (double)(c[i].bytes - now->bytes);
            if (!best.found || price > best.price) {
                best = (struct step){.group = g, .choice = i, .price = price, .found = true};
            }
        }
    }
    return best;
}

bool sens_budget(struct sens *s, uint64_t bytes)
{
    struct step step;

    if (sens_least_bytes(s) > bytes) {
        return false;
    }
    for (size_t g = 0; g < s->n_groups; g++) {
        s->groups[g].chosen = 0;
    }
    /* Each step makes a group smaller, so there is an end; all groups at their smallest fit. */
    while (sens_bytes(s) > bytes && (step = cheapest(s)).found) {
        s->groups[step.group].chosen = step.choice;
    }
    /* Each step here lowers the loss, so there is an end too. */
    while ((step = worthiest(s, bytes - sens_bytes(s))).found) {
        s->groups[step.group].chosen = step.choice;
    }
    return true;
}
