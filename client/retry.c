/* retry: when a request is sent again. Pure: time and chance are arguments. */
#include <errno.h>

#include "client/conn.h"

void retry_defaults(struct onebit_retry *ret)
{
    onebit_retry_init(ret);
}

/* Losses that another try cannot mend. */
static bool is_final(int code)
{
    switch (code) {
    case -EPROTO:
    case -EACCES:
    case -EPERM:
    case -ENAMETOOLONG:
    case -ENOMEM:
        return true;
    default:
        return false;
    }
}

static bool is_retried(uint16_t number)
{
    return number == 429 || number == 500 || number == 503;
}

bool retry_pushed_back(const struct onebit_failure *failure)
{
    return failure->number == 429 || failure->number == 503;
}

static uint32_t most_retries(const struct onebit_retry *policy, uint16_t number)
{
    return number == 429 ? policy->retries_429 : policy->retries;
}

bool retry_lost(const struct onebit_retry *policy, int code)
{
    const struct onebit_error_info *info = onebit_error_info(code);

    if (!info) {
        return policy->retries > 0 && !is_final(code);
    }
    /* A time-out of the whole connection is how the daemon ends an idle one. */
    return (is_retried(info->number) || code == ONEBIT_ERR_TIMEOUT) && info->retryable &&
           most_retries(policy, info->number) > 0;
}

uint64_t retry_delay_ms(const struct onebit_retry *policy, const struct onebit_failure *failure,
                        bool lost, uint32_t retries, uint32_t random)
{
    const bool may = lost ? retry_lost(policy, failure->code)
                          : failure->retryable && is_retried(failure->number);
    uint64_t range = policy->first_ms;

    if (!may || retries >= most_retries(policy, failure->number) ||
        failure->retry_after_ms > policy->most_ms) {
        return RETRY_NEVER;
    }
    if (lost && failure->code == ONEBIT_ERR_TIMEOUT && retries == 0) {
        return 0; /* it was only idle for too long; nobody is overloaded */
    }
    for (uint32_t i = 0; i < retries && range < policy->most_ms; i++) {
        range *= 2;
    }
    if (range > policy->most_ms) {
        range = policy->most_ms;
    }
    const uint64_t wait = (range + 1) * random >> 32;
    return wait > failure->retry_after_ms ? wait : failure->retry_after_ms;
}

int onebit_set_retry(struct onebit_conn *conn, const struct onebit_retry *retry)
{
    struct onebit_retry known;

    retry_defaults(&known);
    const int r = retry ? struct_known(&known, sizeof(known), retry) : 0;
    if (r == 0) {
        conn->retry = known;
    }
    return r;
}
