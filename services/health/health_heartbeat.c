/* health_heartbeat.c - from an agent's signs of life, and their absence, to results. */
#include "health/health_heartbeat.h"
#include <stddef.h>

int64_t health_heartbeat_bound_ms(const struct health_beat_rule *rule)
{
    int64_t late_ms = rule->interval_ms * HEALTH_LATE_PERCENT / 100;
    return rule->interval_ms * (int64_t)rule->fall + (late_ms > HEALTH_LATE_MIN_MS ? late_ms : HEALTH_LATE_MIN_MS);
}

/* Kept, because it only changes with a heartbeat. */
static void expect(struct health_heartbeat *b, const struct health_beat_rule *rule)
{
    int64_t bound_ms = health_heartbeat_bound_ms(rule);
    b->first_ms = health_phi_silence_ms(&b->phi, rule->phi);
    if (b->first_ms > bound_ms)
        b->first_ms = bound_ms;
}

void health_heartbeat_init(struct health_heartbeat *b, const struct health_beat_rule *rule, int64_t now_ms)
{
    health_phi_start(&b->phi, rule->interval_ms);
    expect(b, rule);
    health_heartbeat_start(b, now_ms);
}

void health_heartbeat_start(struct health_heartbeat *b, int64_t now_ms)
{
    b->heard_ms = now_ms;
    b->missed = 0;
    b->rhythmic = false;
    for (uint32_t i = 0; i < b->n; i++) {
        struct health_process *p = &b->processes[i];
        p->heard_ms = p->moved_ms = now_ms;
    }
}

static struct health_process *find(struct health_heartbeat *b, uint64_t instance)
{
    for (uint32_t i = 0; i < b->n; i++)
        if (b->processes[i].instance == instance)
            return &b->processes[i];
    return NULL;
}

static struct health_process *enter(struct health_heartbeat *b, const struct health_heard *h, int64_t now_ms)
{
    struct health_process *p = &b->processes[0];
    if (b->n < HEALTH_PROCESSES_MAX) {
        p = &b->processes[b->n++];
    } else {
        for (uint32_t i = 1; i < b->n; i++)
            if (b->processes[i].heard_ms < p->heard_ms)
                p = &b->processes[i];
    }
    /* What it counted before it was known is not news. */
    *p = (struct health_process){.instance = h->instance, .exceptions = h->exceptions, .moved_ms = now_ms};
    return p;
}

static bool lives(const struct health_process *p, const struct health_beat_rule *rule, int64_t now_ms)
{
    return now_ms - p->heard_ms < health_heartbeat_bound_ms(rule);
}

static const struct health_process *stillest(const struct health_heartbeat *b, const struct health_beat_rule *rule,
                                             int64_t now_ms)
{
    const struct health_process *x = NULL;
    for (uint32_t i = 0; i < b->n; i++) {
        const struct health_process *p = &b->processes[i];
        if (lives(p, rule, now_ms) && now_ms - p->moved_ms >= rule->stuck_ms && (!x || p->moved_ms < x->moved_ms))
            x = p;
    }
    return x;
}

enum health_beat health_heartbeat_heard(struct health_heartbeat *b, const struct health_beat_rule *rule,
                                        const struct health_heard *h, int64_t now_ms, struct health_beat_news *ret)
{
    *ret = (struct health_beat_news){0};
    struct health_process *p = find(b, h->instance);
    if (p && h->sequence == p->sequence && h->sequence != 0)
        return HEALTH_BEAT_REPEAT;
    if (!p)
        p = enter(b, h, now_ms);
    /* Nothing to do, something done, or a count that begins anew with the process: it moves. */
    if (h->progress != p->progress || h->queue_depth == 0)
        p->moved_ms = now_ms;
    /* A count that has gone back is that of a process started again under its old name. */
    ret->exceptions = h->exceptions >= p->exceptions ? h->exceptions - p->exceptions : h->exceptions;
    p->sequence = h->sequence;
    p->progress = h->progress;
    p->exceptions = h->exceptions;
    p->heard_ms = now_ms;
    /* An outage is not a rhythm. */
    if (b->ever && b->rhythmic && now_ms - b->heard_ms < health_heartbeat_bound_ms(rule)) {
        health_phi_add(&b->phi, now_ms - b->heard_ms);
        expect(b, rule);
    }
    b->ever = true;
    b->rhythmic = true;
    b->heard_ms = now_ms;
    b->missed = 0;
    ret->who = p;
    ret->stuck = stillest(b, rule, now_ms);
    return ret->stuck ? HEALTH_BEAT_STUCK : HEALTH_BEAT_WELL;
}

const struct health_process *health_heartbeat_worst(const struct health_heartbeat *b,
                                                    const struct health_beat_rule *rule, int64_t now_ms)
{
    const struct health_process *x = NULL;
    for (uint32_t i = 0; i < b->n; i++) {
        const struct health_process *p = &b->processes[i];
        if (lives(p, rule, now_ms) && p->means_fault > HEALTH_FAULT_NONE && (!x || p->means_fault > x->means_fault))
            x = p;
    }
    return x;
}

int64_t health_heartbeat_due_ms(const struct health_heartbeat *b, const struct health_beat_rule *rule)
{
    int64_t bound_ms = health_heartbeat_bound_ms(rule), first_ms = b->first_ms, k = (int64_t)b->missed;
    if (k >= (int64_t)rule->fall) /* known to be gone: counted on, one per interval */
        return b->heard_ms + bound_ms + (k - (int64_t)rule->fall + 1) * rule->interval_ms;
    if (rule->fall == 1 || k == 0)
        return b->heard_ms + first_ms;
    int64_t step_ms = (bound_ms - first_ms) / ((int64_t)rule->fall - 1);
    return b->heard_ms + first_ms + k * (step_ms < rule->interval_ms ? step_ms : rule->interval_ms);
}

bool health_heartbeat_tick(struct health_heartbeat *b, const struct health_beat_rule *rule, int64_t now_ms)
{
    if (now_ms < health_heartbeat_due_ms(b, rule) || b->missed == UINT32_MAX)
        return false;
    b->missed++;
    return true;
}
