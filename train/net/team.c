/* One mutex and two conditions: a step has a handful of jobs of tens of milliseconds, so nobody
 * spins. */
#include "train/net/team.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

struct member {
    struct team *team; /* borrowed: the team outlives its threads */
    unsigned i;
    pthread_t thread;
};

struct team {
    pthread_mutex_t lock;
    pthread_cond_t begin, end;
    unsigned long job; /* counts jobs; a member waits for the next one */
    unsigned busy;     /* members that have not done the present job */
    bool over;
    team_fn *fn;
    void *ctx; /* borrowed for the job */
    unsigned n, n_started;
    struct member members[]; /* of 1..n-1; 0 is the caller */
};

static void *member_main(void *arg)
{
    const struct member *m = arg;
    struct team *t = m->team;
    unsigned long done = 0;

    pthread_mutex_lock(&t->lock);
    for (;;) {
        while (t->job == done && !t->over) {
            pthread_cond_wait(&t->begin, &t->lock);
        }
        if (t->over) {
            break;
        }
        done = t->job;
        pthread_mutex_unlock(&t->lock);
        t->fn(t->ctx, m->i);
        pthread_mutex_lock(&t->lock);
        if (--t->busy == 0) {
            pthread_cond_signal(&t->end);
        }
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

int team_new(struct team **ret, unsigned n)
{
    struct team *t = calloc(1, sizeof(*t) + n * sizeof(t->members[0]));

    if (!t) {
        return -ENOMEM;
    }
    t->n = n;
    t->n_started = 1;
    pthread_mutex_init(&t->lock, NULL); /* neither can fail with default attributes on Linux */
    pthread_cond_init(&t->begin, NULL);
    pthread_cond_init(&t->end, NULL);
    for (unsigned i = 1; i < n; i++) {
        t->members[i] = (struct member){.team = t, .i = i};
        const int r = pthread_create(&t->members[i].thread, NULL, member_main, &t->members[i]);
        if (r != 0) {
            team_free(t);
            return -r;
        }
        t->n_started++;
    }
    *ret = t;
    return 0;
}

void team_free(struct team *t)
{
    if (!t) {
        return;
    }
    pthread_mutex_lock(&t->lock);
    t->over = true;
    pthread_cond_broadcast(&t->begin);
    pthread_mutex_unlock(&t->lock);
    for (unsigned i = 1; i < t->n_started; i++) {
        pthread_join(t->members[i].thread, NULL);
    }
    pthread_cond_destroy(&t->end);
    pthread_cond_destroy(&t->begin);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

unsigned team_size(const struct team *t)
{
    return t->n;
}

void team_run(struct team *t, team_fn *fn, void *ctx)
{
    pthread_mutex_lock(&t->lock);
    t->fn = fn;
    t->ctx = ctx;
    t->busy = t->n - 1;
    t->job++;
    pthread_cond_broadcast(&t->begin);
    pthread_mutex_unlock(&t->lock);
    fn(ctx, 0);
    pthread_mutex_lock(&t->lock);
    while (t->busy > 0) {
        pthread_cond_wait(&t->end, &t->lock);
    }
    pthread_mutex_unlock(&t->lock);
}
