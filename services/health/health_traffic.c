/* health_traffic.c - whether real calls prove a target well enough to spare a paid probe. */
#include "health/health_traffic.h"

bool health_traffic_take(struct health_traffic *t, uint32_t calls, uint32_t failures, uint32_t slow, int64_t now_ms)
{
    if (failures > 0 || slow > 0) {
        *t = (struct health_traffic){.bad = true, .news = !t->bad, .trusted = t->spared > 0, .asked_ms = t->asked_ms};
        return true;
    }
    t->bad = false;
    t->kept[t->at].heard_ms = now_ms;
    t->kept[t->at].calls = calls;
    t->at = (t->at + 1) % HEALTH_TRAFFIC_KEPT;
    if (t->n < HEALTH_TRAFFIC_KEPT)
        t->n++;
    return false;
}

bool health_traffic_asks(struct health_traffic *t, int64_t interval_ms, int64_t now_ms)
{
    bool due = t->trusted ||
               (t->news && (t->asked_ms == 0 || now_ms - t->asked_ms >= interval_ms / HEALTH_ASKS_PER_INTERVAL));
    t->news = t->trusted = false;
    if (due)
        t->asked_ms = now_ms;
    return due;
}

bool health_traffic_spares(struct health_traffic *t, int64_t interval_ms, int64_t now_ms)
{
    uint64_t calls = 0;
    for (uint32_t i = 0; i < t->n; i++)
        if (now_ms - t->kept[i].heard_ms <= interval_ms)
            calls += t->kept[i].calls;
    if (calls < HEALTH_SPARE_CALLS || t->spared >= HEALTH_SPARE_ROW) {
        t->spared = 0;
        return false;
    }
    t->spared++;
    return true;
}
