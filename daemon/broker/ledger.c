/* ledger: models' rows are in struct model; here they are asked for and added up. */
#include "daemon/broker/ledger.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/whole_file.h"
#include "daemon/broker/broker.h"
#include "daemon/broker/budget.h"
#include "daemon/broker/models.h"

#define ASK_NS (250 * NS_PER_MS)

/* Bytes of a process in memory, by /proc/PID/statm, which keeps nobody waiting; 0: not known. */
static uint64_t resident_of(int pid)
{
    char path[64], text[128];

    (void)snprintf(path, sizeof(path), "/proc/%d/statm", pid);
    if (pid <= 0 || whole_file_head(text, sizeof(text), AT_FDCWD, path, 0) <= 0) {
        return 0;
    }
    const char *second = strchr(text, ' ');
    return second ? strtoull(second, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

void ledger_hello(struct broker *b)
{
    b->engine.program_bytes = resident_of(runner_proc_pid(&b->runner));
    b->engine.heap_bytes = 0;
}

void ledger_memory(struct broker *b, const struct seam_memory *m)
{
    struct model *model = model_by_number(b, m->model);

    b->engine.heap_bytes = m->heap;
    if (model && model->state == MODEL_LOADED) {
        model->memory = *m;
    }
}

void ledger_ask(struct broker *b)
{
    const uint64_t now = clock_now_ns();

    if (b->runner.state != RUNNER_UP || now - b->engine.asked_ns < ASK_NS) {
        return;
    }
    b->engine.asked_ns = now;
    list_for_each (m, next, &b->models, struct model, link) {
        if (m->state == MODEL_LOADED && b->runner.state == RUNNER_UP) {
            const struct seam_message ask = {.type = SEAM_MEASURE, .measure = m->number};
            runner_proc_send(&b->runner, &ask, NULL, 0, -1);
        }
    }
}

void ledger_take(const struct broker *b, struct ledger *ret)
{
    *ret = (struct ledger){
        .budget = residency_budget(b) < BUDGET_NONE ? residency_budget(b) : 0,
        .charged = residency_charged(b),
        .heap = b->engine.heap_bytes,
        .programs = b->engine.program_bytes,
        .engine_resident = resident_of(runner_proc_pid(&b->runner)),
    };
    list_for_each (m, next, &b->models, struct model, link) {
        if (m->state == MODEL_LOADED) {
            ret->mapped += m->memory.mapped;
            ret->private_ += m->memory.private_;
            ret->huge += m->memory.huge;
            ret->resident += m->memory.resident;
            ret->kv_resident += m->memory.kv_resident;
            ret->scratch_resident += m->memory.scratch_resident;
        }
    }
    ret->engine =
        ret->resident + ret->kv_resident + ret->scratch_resident + ret->heap + ret->programs;
}

uint64_t ledger_residents(const struct broker *b)
{
    return resident_of((int)getpid()) + resident_of(runner_proc_pid(&b->runner));
}
