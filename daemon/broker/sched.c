/* sched: accounts of service. */
#include "daemon/broker/sched.h"

void sched_account_init(struct sched_account *a)
{
    *a = (struct sched_account){.weight = 1};
    list_init(&a->link);
    for (size_t c = 0; c < CLASSES; c++) {
        list_init(&a->jobs[c]);
    }
}

bool sched_account_idle(const struct sched_account *a)
{
    return a->n_jobs == 0;
}
