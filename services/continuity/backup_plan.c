/* backup_plan.c - when a source is saved, checked, read back, tested and tidied up, and what is wrong with it, pure. */
#include "continuity/backup_plan.h"
#include "common/wire.h"

#define SECOND         INT64_C(1000)
#define MINUTE         (60 * SECOND)
#define HOUR           (60 * MINUTE)
#define DAY            (24 * HOUR)
#define RETRY_MS       (10 * SECOND) /* doubled with each failure */
#define RETRY_MAX_MS   (10 * MINUTE)
#define FAILURES_TOLD  3 /* fewer may be a neighbour's lock, or a network that comes back */
#define SPREAD_MAX_MS  (30 * SECOND)
#define FORGET_MS      DAY
#define SEVERITY(name) REDOUBT__V1__SEVERITY__SEVERITY_##name

const struct backup_problem_text backup_problem_texts[BACKUP_PROBLEMS] = {
    {BACKUP_MISSING, "missing", SEVERITY(HIGH), "there is no copy yet",
     "Look at what its last try said, and at the log of the service"},
    {BACKUP_LATE, "late", SEVERITY(HIGH), "no new copy has come for too long",
     "Look at what its last try said; `redoubt continuity backup` begins one now"},
    {BACKUP_EMPTY, "empty", SEVERITY(HIGH), "the newest copy is empty",
     "If the data are gone, restore them; if it is meant so, `redoubt continuity backup --force` accepts it"},
    {BACKUP_SHRUNKEN, "shrunken", SEVERITY(HIGH), "the newest copy is much smaller than the one before",
     "If data are lost, restore them; if it is meant so, `redoubt continuity backup --force` accepts it"},
    {BACKUP_FAILED, "failed", SEVERITY(WARNING), "what is tried fails",
     "What it said tells what to do; it is tried again meanwhile"},
    {BACKUP_UNVERIFIED, "unverified", SEVERITY(HIGH), "copies come, but none of them is proven to be restorable",
     "Somebody writes while it is saved, or what is read back is not the same: look at what its last try said"},
    {BACKUP_DIFFERS, "differs", SEVERITY(CRITICAL), "what was restored is not what was saved",
     "Do not trust this repository: find out who changed it, and save into a new one"},
    {BACKUP_DAMAGED, "damaged", SEVERITY(CRITICAL), "the repository is damaged",
     "Keep a copy of it; `restic check --read-data` says where. Save into a new one until it is repaired"},
    {BACKUP_GONE, "gone", SEVERITY(CRITICAL), "a proven copy is no longer in the repository",
     "Find out who deleted it: nobody but this service may"},
};

/* ---- rules ---- */

void backup_rule_of(const struct set_continuity *set, const struct set_backup *source, struct backup_rule *ret)
{
    static const int rpo[] = {[SET_BACKUP_LEARNING] = SET_RPO_LEARNING,
                              [SET_BACKUP_AUDIT] = SET_RPO_AUDIT,
                              [SET_BACKUP_CONFIG] = SET_RPO_CONFIG,
                              [SET_BACKUP_NATS] = -1,
                              [SET_BACKUP_REDIS] = -1,
                              [SET_BACKUP_FILES] = -1};
    int of = rpo[source->kind];
    int64_t every = source->every_ms > 0 ? source->every_ms : of < 0 ? 15 * MINUTE : set->objectives.ms[of] / 2;
    *ret = (struct backup_rule){.late_ms = source->late_ms > 0 ? source->late_ms : 2 * every,
                                .min_bytes = source->min_bytes > 0 ? (uint64_t)source->min_bytes : 0,
                                .shrunk_percent = (unsigned)source->shrunk_percent};
    ret->period_ms[BACKUP_SAVE] = every > 0 ? every : SECOND;
    ret->period_ms[BACKUP_TEST] = source->test_ms;
    ret->period_ms[BACKUP_CHECK] = source->check_ms;
    ret->period_ms[BACKUP_READ] = source->read_ms;
    ret->period_ms[BACKUP_FORGET] = FORGET_MS;
}

/* ---- when ---- */

/* 0 to below - 1 (splitmix64). */
static int64_t random_below(struct backup_plan *p, int64_t below)
{
    uint64_t z = (p->random += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    z ^= z >> 31;
    return below > 0 ? (int64_t)(z % (uint64_t)below) : 0;
}

static int64_t less(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

void backup_plan_begin(struct backup_plan *p, const struct backup_rule *r, uint64_t seed, int64_t now_ms)
{
    *p = (struct backup_plan){.known_ms = now_ms, .last = BACKUP_ACTS, .random = seed};
    for (int a = 0; a < BACKUP_ACTS; a++) {
        /* A copy at once, but not of all sources at the same moment; the rest, which wait for it, within the hour. */
        int64_t spread = a == BACKUP_SAVE ? less(r->period_ms[a] / 10, SPREAD_MAX_MS) : less(r->period_ms[a], HOUR);
        p->next_ms[a] = a == BACKUP_TEST ? now_ms : now_ms + random_below(p, spread);
    }
}

void backup_plan_fit(struct backup_plan *p, const struct backup_rule *r, int64_t now_ms)
{
    if (p->known_ms == 0 || p->known_ms > now_ms)
        p->known_ms = now_ms;
    for (int a = 0; a < BACKUP_ACTS; a++)
        p->next_ms[a] = less(p->next_ms[a], now_ms + r->period_ms[a]);
}

/* What makes no sense before there is something in the repository, or now. */
static bool allowed(const struct backup_plan *p, enum backup_act a)
{
    switch (a) {
    case BACKUP_TEST:
        return p->point_ms > 0;
    case BACKUP_FORGET: /* nothing goes while it is not sure what stays */
        return p->point_ms > 0 && !p->suspicious && p->marks == 0;
    case BACKUP_CHECK:
    case BACKUP_READ:
        return p->saved_ms > 0;
    default:
        return true;
    }
}

enum backup_act backup_plan_due(const struct backup_plan *p, int64_t now_ms)
{
    enum backup_act other = BACKUP_ACTS;
    for (enum backup_act a = BACKUP_SAVE + 1; a < BACKUP_ACTS; a++)
        if (p->next_ms[a] <= now_ms && allowed(p, a) && (other == BACKUP_ACTS || p->next_ms[a] < p->next_ms[other]))
            other = a;
    if (p->next_ms[BACKUP_SAVE] <= now_ms && (p->last != BACKUP_SAVE || other == BACKUP_ACTS))
        return BACKUP_SAVE;
    return other;
}

void backup_plan_ask(struct backup_plan *p, enum backup_act act, int64_t now_ms)
{
    p->next_ms[act] = less(p->next_ms[act], now_ms);
}

size_t backup_plan_pick(const struct backup_slot *slots, size_t n, int64_t now_ms, enum backup_act *ret)
{
    size_t best = n;
    int64_t since = INT64_MAX;
    for (size_t i = 0; i < n; i++) {
        enum backup_act a = backup_plan_due(slots[i].plan, now_ms);
        bool busy = a == BACKUP_ACTS || slots[i].plan->next_ms[a] >= since;
        for (size_t k = 0; k < n && !busy; k++)
            busy = slots[k].busy && (k == i || slots[k].repository == slots[i].repository);
        if (busy)
            continue;
        best = i;
        since = slots[i].plan->next_ms[a];
        *ret = a;
    }
    return best;
}

/* ---- what came of it ---- */

static void again(struct backup_plan *p, const struct backup_rule *r, enum backup_act a, int64_t now_ms)
{
    unsigned doubled = p->failures[a] < 7 ? p->failures[a] : 7; /* 10 s, 20 s, ... */
    int64_t wait = less(less(RETRY_MS << (doubled - 1), RETRY_MAX_MS), r->period_ms[a]);
    p->next_ms[a] = now_ms + wait + random_below(p, wait / 4 + 1);
}

static bool save_ended(struct backup_plan *p, const struct backup_rule *r, const struct backup_outcome *o)
{
    uint64_t accepted = p->suspicious ? p->bytes_before : p->bytes;
    /* Rounded up: less than a share that is no whole number is less than the next one. */
    uint64_t least = accepted / 100 * r->shrunk_percent + (accepted % 100 * r->shrunk_percent + 99) / 100;
    bool small = o->bytes < r->min_bytes || (p->saved_ms > 0 && o->bytes < least);
    p->bytes_before = accepted;
    p->bytes = o->bytes;
    p->saved_ms = o->point_ms;
    p->suspicious = small && !o->force;
    if (p->suspicious || !o->verified)
        return false;
    p->point_ms = o->point_ms;
    return true;
}

bool backup_plan_ended(struct backup_plan *p, const struct backup_rule *r, enum backup_act act,
                       const struct backup_outcome *o, int64_t began_ms, int64_t now_ms)
{
    bool moved = false;
    p->last = act;
    if (o->gone || (!o->ok && act == BACKUP_TEST && (o->differs || o->damaged)))
        p->point_ms = 0; /* what cannot be restored is no point to go back to */
    unsigned marks =
        (o->gone ? BACKUP_GONE : 0u) | (o->differs ? BACKUP_DIFFERS : 0u) | (o->damaged ? BACKUP_DAMAGED : 0u);
    if (marks & ~p->marks) { /* what is true of the rest: soon, not at its turn */
        backup_plan_ask(p, BACKUP_TEST, now_ms + RETRY_MS);
        backup_plan_ask(p, BACKUP_READ, now_ms + RETRY_MS);
        if (p->point_ms == 0)
            backup_plan_ask(p, BACKUP_SAVE, now_ms + RETRY_MS);
    }
    p->marks |= marks;
    if (act == BACKUP_SAVE)
        p->vanished = !o->ok && (o->vanished || p->vanished);
    if (!o->ok) {
        if (p->failures[act] < UINT32_MAX)
            p->failures[act]++;
        p->lasting[act] = o->lasting;
        again(p, r, act, now_ms);
        if (o->damaged && act != BACKUP_SAVE) /* it is known, and reading all of it takes long */
            p->next_ms[act] = now_ms + less(r->period_ms[act], HOUR);
        return false;
    }
    p->failures[act] = 0;
    p->lasting[act] = false;
    p->done_ms[act] = now_ms;
    int64_t next =
        began_ms + r->period_ms[act] + (act == BACKUP_SAVE ? 0 : random_below(p, r->period_ms[act] / 20 + 1));
    p->next_ms[act] = next > now_ms ? next : now_ms;
    switch (act) {
    case BACKUP_SAVE: {
        bool first = p->point_ms == 0;
        moved = save_ended(p, r, o);
        if (moved && first) /* shown by a restore as soon as there is something to show */
            backup_plan_ask(p, BACKUP_TEST, now_ms);
        break;
    }
    case BACKUP_TEST:
        p->marks &= ~(unsigned)(BACKUP_DIFFERS | BACKUP_GONE);
        break;
    case BACKUP_READ: /* looks at the structure as well */
        p->done_ms[BACKUP_CHECK] = now_ms;
        p->next_ms[BACKUP_CHECK] = now_ms + r->period_ms[BACKUP_CHECK];
        p->failures[BACKUP_CHECK] = 0;
        p->lasting[BACKUP_CHECK] = false;
        if (o->whole) /* a part may just have missed the damage */
            p->marks &= ~(unsigned)BACKUP_DAMAGED;
        break;
    default:
        break;
    }
    return moved;
}

/* ---- what is wrong ---- */

unsigned backup_plan_problems(const struct backup_plan *p, const struct backup_rule *r, int64_t now_ms)
{
    unsigned is = p->marks;
    int64_t proven = p->point_ms > p->known_ms ? p->point_ms : p->known_ms;
    if (p->saved_ms == 0)
        is |= now_ms - p->known_ms > r->late_ms ? BACKUP_MISSING : 0u;
    else if (now_ms - p->saved_ms > r->late_ms)
        is |= BACKUP_LATE;
    else if (!p->suspicious && now_ms - proven > r->late_ms)
        is |= BACKUP_UNVERIFIED;
    if (p->suspicious)
        is |= p->bytes < r->min_bytes ? BACKUP_EMPTY : BACKUP_SHRUNKEN;
    if (p->vanished)
        is |= BACKUP_EMPTY;
    for (int a = 0; a < BACKUP_ACTS; a++)
        if (p->failures[a] >= FAILURES_TOLD || (p->failures[a] > 0 && p->lasting[a]))
            is |= BACKUP_FAILED;
    return is;
}
