/* guard_rate.c - how often: GCRA. */
#include "guard/guard_rate.h"

#define MINUTE_US INT64_C(60000000)

struct guard_rate guard_rate_make(int64_t per_minute, int64_t burst, int64_t members)
{
    if (per_minute <= 0)
        return (struct guard_rate){0, 0};
    if (members < 1)
        members = 1;
    int64_t share = burst / members;
    int64_t interval =
        (MINUTE_US * members + per_minute - 1) / per_minute; /* rounded up: never more than the limit */
    return (struct guard_rate){.interval_us = interval, .tolerance_us = interval * (share > 1 ? share - 1 : 0)};
}

int64_t guard_rate_ask(int64_t *tat_us, struct guard_rate r, int64_t now_us)
{
    if (r.interval_us == 0)
        return 0;
    int64_t tat = *tat_us > now_us ? *tat_us : now_us;
    if (tat - r.tolerance_us > now_us)
        return tat - r.tolerance_us - now_us;
    *tat_us = tat + r.interval_us;
    return 0;
}

void guard_rate_note(int64_t *tat_us, struct guard_rate r, int64_t now_us)
{
    if (r.interval_us == 0)
        return;
    int64_t tat = (*tat_us > now_us ? *tat_us : now_us) + r.interval_us,
            most = now_us + r.tolerance_us + r.interval_us;
    *tat_us = tat < most ? tat : most;
}
