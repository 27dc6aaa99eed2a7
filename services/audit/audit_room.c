/* audit_room.c - the ladder of a disk that fills: warn, strict records only, the second directory, full. */
#include "audit/audit_room.h"

const struct audit_room_row audit_room_rows[AUDIT_ROOM_STEPS] = {
    [AUDIT_ROOM_OK] = {"ok", false, false, "The audit trail has room again"},
    [AUDIT_ROOM_WARN] = {"warn", false, false, "The audit trail's disk fills"},
    [AUDIT_ROOM_STRICT] = {"strict", true, false,
                           "The audit trail's disk is nearly full: only strict records are taken, the others wait on "
                           "the stream"},
    [AUDIT_ROOM_SECOND] = {"second", false, false,
                           "The audit trail's disk takes nothing more: the trail goes on in the second directory"},
    [AUDIT_ROOM_SECOND_STRICT] = {"second_strict", true, false,
                                  "Both disks of the audit trail are nearly full: only strict records are taken, the "
                                  "others wait on the stream"},
    [AUDIT_ROOM_FULL] = {"full", true, true, "The audit trail cannot be written: no disk takes it"},
};

/* percent of total, without an overflow for any disk there is */
static bool below(const struct audit_room_event *ev, int64_t percent)
{
    return (double)ev->free_bytes * 100 < (double)ev->total_bytes * (double)percent;
}

/* The better level is reached only with the margin. */
static enum audit_room_level level_of(const struct audit_room_rule *rule, const struct audit_room_event *ev,
                                      enum audit_room_level was)
{
    const struct {
        enum audit_room_level level;
        int64_t limit;
    } rows[] = {{AUDIT_LEVEL_LOW, rule->stop_free}, {AUDIT_LEVEL_TIGHT, rule->warn_free}};
    for (int i = 0; i < 2; i++) {
        int64_t limit = rows[i].limit;
        if (limit > 0 && was >= rows[i].level)
            limit += AUDIT_ROOM_MARGIN_PERCENT;
        if (limit > 100) /* a limit of everything cannot be passed */
            limit = 100;
        if (below(ev, limit))
            return rows[i].level;
    }
    return AUDIT_LEVEL_ROOMY;
}

static void look(struct audit_room *r, const struct audit_room_rule *rule, const struct audit_room_event *ev,
                 int64_t now_ms)
{
    enum audit_room_level *level = &r->level[ev->volume];
    if (ev->total_bytes <= 0) {
        /* A disk that does not say how full it is: the second cannot be counted on. Of the first, its writes tell. */
        if (ev->volume == AUDIT_SECOND)
            *level = AUDIT_LEVEL_FULL;
        return;
    }
    int64_t floor = AUDIT_ROOM_FLOOR_BYTES * (*level == AUDIT_LEVEL_FULL ? 2 : 1);
    if (ev->free_bytes < floor || now_ms - r->refused_ms[ev->volume] < r->hold_ms[ev->volume])
        *level = AUDIT_LEVEL_FULL;
    else
        *level = level_of(rule, ev, *level);
}

/* A disk that says that it has room and takes nothing (broken, a quota) is tried ever more seldom. */
static void refuse(struct audit_room *r, int v, int64_t now_ms)
{
    bool soon = r->hold_ms[v] > 0 && now_ms - r->refused_ms[v] < 4 * r->hold_ms[v];
    if (!soon)
        r->hold_ms[v] = AUDIT_ROOM_HOLD_MS;
    else if (r->level[v] != AUDIT_LEVEL_FULL && (r->hold_ms[v] *= 2) > AUDIT_ROOM_HOLD_MAX_MS)
        r->hold_ms[v] = AUDIT_ROOM_HOLD_MAX_MS;
    r->level[v] = AUDIT_LEVEL_FULL;
    r->refused_ms[v] = now_ms;
}

static void choose(struct audit_room *r, const struct audit_room_rule *rule)
{
    bool first_full = r->level[AUDIT_FIRST] == AUDIT_LEVEL_FULL;
    bool second_full = !rule->second || r->level[AUDIT_SECOND] == AUDIT_LEVEL_FULL;
    if (first_full && second_full) {
        r->step = AUDIT_ROOM_FULL; /* what is tried is tried where it was */
        if (!rule->second)
            r->volume = AUDIT_FIRST;
        return;
    }
    /* Back to the first when it has room for all records, not just for some. */
    if (r->volume == AUDIT_SECOND && (second_full || r->level[AUDIT_FIRST] < AUDIT_LEVEL_LOW))
        r->volume = AUDIT_FIRST;
    else if (first_full)
        r->volume = AUDIT_SECOND;
    static const enum audit_room_step steps[AUDIT_VOLUMES][AUDIT_LEVEL_FULL] = {
        {AUDIT_ROOM_OK, AUDIT_ROOM_WARN, AUDIT_ROOM_STRICT},
        {AUDIT_ROOM_SECOND, AUDIT_ROOM_SECOND, AUDIT_ROOM_SECOND_STRICT},
    };
    r->step = steps[r->volume][r->level[r->volume]];
}

bool audit_room_decide(struct audit_room *r, const struct audit_room_rule *rule, const struct audit_room_event *ev,
                       int64_t now_ms)
{
    enum audit_room_step step = r->step;
    int volume = r->volume;
    switch (ev->kind) {
    case AUDIT_ROOM_LOOKED:
        look(r, rule, ev, now_ms);
        break;
    case AUDIT_ROOM_REFUSED:
        refuse(r, ev->volume, now_ms);
        break;
    }
    choose(r, rule);
    return r->step != step || r->volume != volume;
}

bool audit_room_sane(const struct audit_room *r, const struct audit_room_rule *rule)
{
    if ((unsigned)r->step >= AUDIT_ROOM_STEPS || (unsigned)r->volume >= AUDIT_VOLUMES)
        return false;
    if (!rule->second && r->volume == AUDIT_SECOND)
        return false;
    bool second_step = r->step == AUDIT_ROOM_SECOND || r->step == AUDIT_ROOM_SECOND_STRICT;
    if (r->step != AUDIT_ROOM_FULL && second_step != (r->volume == AUDIT_SECOND))
        return false;
    /* Full is said exactly when nothing takes anything. */
    bool all_full =
        r->level[AUDIT_FIRST] == AUDIT_LEVEL_FULL && (!rule->second || r->level[AUDIT_SECOND] == AUDIT_LEVEL_FULL);
    if ((r->step == AUDIT_ROOM_FULL) != all_full)
        return false;
    return all_full || audit_room_rows[r->step].strict_only == (r->level[r->volume] == AUDIT_LEVEL_LOW);
}
