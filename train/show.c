/* show: a line every so many steps; on a terminal the present state is drawn in place as well. */
#include "train/show.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "train/net/kernels.h"
#include "train/net/net.h"

#define DRAW_NS (250 * NS_PER_MS)

static void say_recipe(const struct recipe *r)
{
    (void)fprintf(stderr,
                  "%llu layers of width %llu, feed-forward %llu, %llu heads and %llu for keys of "
                  "%llu, %llu tokens\n",
                  (unsigned long long)r->n_layer, (unsigned long long)r->n_embd,
                  (unsigned long long)r->n_ff, (unsigned long long)r->n_head,
                  (unsigned long long)r->n_head_kv, (unsigned long long)r->head_dim,
                  (unsigned long long)r->n_vocab);
    (void)fprintf(stderr,
                  "%s weights, %s activations, %s head; %llu rows, batches of %llu x %llu, seed "
                  "%llu, %llu threads, OpenBLAS's kernels for %s\n",
                  recipe_weights_names[r->weights], recipe_activations_names[r->activations],
                  recipe_head_names[r->head], (unsigned long long)r->n_rows,
                  (unsigned long long)r->batch, (unsigned long long)r->accumulate,
                  (unsigned long long)r->seed, (unsigned long long)r->n_threads, net_kernels());
    if (kernels_by() == KERNELS_BY_PERSON) { /* half the speed, if they are another CPU's */
        (void)fputs(
            "OPENBLAS_CORETYPE is set, and chose these kernels; without it those are taken that "
            "this CPU runs best\n",
            stderr);
    } else if (kernels_by() == KERNELS_BY_US) {
        (void)fputs("OpenBLAS does not know this CPU and would multiply as on a very old one; "
                    "OPENBLAS_CORETYPE overrides these kernels\n",
                    stderr);
    }
}

void show_begin(struct show *s, const struct recipe *recipe, uint64_t at, uint64_t n_steps,
                uint64_t every)
{
    const uint64_t now = clock_now_ns();

    *s = (struct show){.every = every,
                       .n_steps = n_steps,
                       .since_ns = now,
                       .begun_ns = now,
                       .first_step = at,
                       .terminal = isatty(STDERR_FILENO) == 1};
    say_recipe(recipe);
}

void show_end(struct show *s)
{
    if (s->drawn) {
        (void)fputs("\r\033[K", stderr);
        s->drawn = false;
    }
}

void show_line(struct show *s, const char *fmt, ...)
{
    va_list ap;

    show_end(s);
    va_start(ap, fmt);
    (void)vfprintf(stderr, fmt, ap);
    va_end(ap);
    (void)fputc('\n', stderr);
}

static void time_left(char *ret, size_t room, double seconds)
{
    if (seconds < 90) {
        (void)snprintf(ret, room, "%.0f s left", seconds);
    } else if (seconds < 90 * 60) {
        (void)snprintf(ret, room, "%.0f min left", seconds / 60);
    } else {
        (void)snprintf(ret, room, "%.1f h left", seconds / 3600);
    }
}

static void state(struct show *s, uint64_t step, const struct step_report *r, uint64_t now,
                  char *ret, size_t room)
{
    const double begun = (double)(now - s->begun_ns) * 1e-9;
    const double done = (double)(step - s->first_step), left = (double)(s->n_steps - step);
    const double seconds = (double)(now - s->since_ns) * 1e-9;
    const double weight = s->loss.weight > 0 ? s->loss.weight : 1;
    char end[32];

    time_left(end, sizeof(end), done > 0 ? begun / done * left : 0);
    (void)snprintf(ret, room,
                   "step %llu of %llu  loss %.4f  right %.1f %%  rate %.2e  gradient %.2f  %.0f "
                   "tokens/s  %s",
                   (unsigned long long)step, (unsigned long long)s->n_steps, s->loss.sum / weight,
                   s->loss.n > 0 ? 100.0 * (double)s->loss.n_best / (double)s->loss.n : 0, r->lr,
                   r->length, seconds > 0 ? (double)s->tokens / seconds : 0, end);
}

void show_step(struct show *s, uint64_t step, const struct step_report *r)
{
    const uint64_t now = clock_now_ns();
    char line[256];

    s->loss.sum += r->loss.sum;
    s->loss.weight += r->loss.weight;
    s->loss.n += r->loss.n;
    s->loss.n_best += r->loss.n_best;
    s->tokens += r->tokens;
    s->steps++;
    if (s->steps >= s->every || step >= s->n_steps) {
        state(s, step, r, now, line, sizeof(line));
        show_line(s, "%s", line);
        s->loss = (struct net_loss){0};
        s->tokens = s->steps = 0;
        s->since_ns = now;
    } else if (s->terminal && now - s->drawn_ns >= DRAW_NS) {
        state(s, step, r, now, line, sizeof(line));
        (void)fprintf(stderr, "\r%s\033[K", line);
        (void)fflush(stderr);
        s->drawn = true;
        s->drawn_ns = now;
    }
}
