/* What is kept of a measurement beside a packed file, as anybody may have left it: tuning_read()
 * takes it or does not, and what it takes can be used. The first byte says how much of a sound
 * frame is put round the rest: none; the magic; or marks and checksum too, so that what is inside
 * is reached. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/fnv.h"
#include "engine/engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define MOST 3u /* threads */
#define SUM_AT (TUNING_BYTES - 8)
#define CHOICE_AT 8u
#define CHOICE_END 24u

static void must(bool truth)
{
    if (!truth) {
        abort();
    }
}

static struct engine *engine(void)
{
    static struct engine *e;
    const struct engine_options options = {
        .cpu = CPU_SCALAR, .n_threads = 2, .n_threads_most = MOST};

    if (!e) {
        must(engine_new(&e, &options) == 0);
    }
    return e;
}

static void put_sum(uint8_t record[TUNING_BYTES])
{
    const uint64_t sum = fnv_add(FNV_START, record, SUM_AT);

    for (unsigned i = 0; i < 8; i++) {
        record[SUM_AT + i] = (uint8_t)(sum >> (8 * i));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const struct tuning sound = {.n_generate = 1, .n_prompt = MOST, .n_streams = 4};
    uint8_t frame[TUNING_BYTES], again[TUNING_BYTES];
    struct tuning t = {0};
    int r;

    if (n == 0) {
        return 0;
    }
    const unsigned how = data[0] % 3;
    uint8_t *record = malloc(n > 1 ? n - 1 : 1); /* exact: a read past the end is seen */
    must(record != NULL);
    memcpy(record, data + 1, n - 1);
    tuning_write(&sound, engine(), frame);
    if (how == 2) {
        const size_t room = CHOICE_END - CHOICE_AT;
        memcpy(frame + CHOICE_AT, record, n - 1 < room ? n - 1 : room);
        put_sum(frame);
        r = tuning_read(&t, engine(), frame, sizeof(frame));
    } else {
        if (how == 1) {
            memcpy(record, frame, n - 1 < CHOICE_AT ? n - 1 : CHOICE_AT);
        }
        r = tuning_read(&t, engine(), record, n - 1);
    }
    free(record);
    must(r == TUNING_OK || r == TUNING_MALFORMED || r == TUNING_STALE);
    if (r != TUNING_OK) {
        must(t.n_generate == 0 && t.n_prompt == 0); /* untouched */
        return 0;
    }
    must(t.n_generate >= 1 && t.n_generate <= MOST && t.n_prompt >= 1 && t.n_prompt <= MOST);
    must(t.n_streams <= STEP_ITEMS_MAX && t.disturbed <= 1);
    struct tuning same = {0};
    tuning_write(&t, engine(), again);
    must(tuning_read(&same, engine(), again, sizeof(again)) == TUNING_OK);
    must(memcmp(&same, &t, sizeof(t)) == 0);
    return 0;
}
