/* health_agent.c - agents and their heartbeats: who was heard, who was not, and what they use. */
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include "health/health_shell.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

METRIC_DEFINE(heard, METRIC_COUNTER, "redoubt_heartbeats_total", "Heartbeats of agents that are watched.");
METRIC_DEFINE(strangers, METRIC_COUNTER, "redoubt_heartbeats_unknown_total",
              "Heartbeats of agents that the settings don't know.");
METRIC_DEFINE(missed, METRIC_COUNTER, "redoubt_heartbeats_missed_total", "Heartbeats that did not come in time.");

static struct health_result result_now(int fault)
{
    int64_t now_ms = clock_shared_ms();
    return (struct health_result){
        .probe = HEALTH_PROBE_HEARTBEAT, .fault = (uint8_t)fault, .started_ms = now_ms, .ended_ms = now_ms};
}

/* ---- settings ---- */

static void take_rules(struct health_agent *a, const struct set_agent *set)
{
    a->set = set;
    a->beat_rule = (struct health_beat_rule){.interval_ms = set->heartbeat_ms,
                                             .fall = (uint32_t)set->heartbeat_fall,
                                             .phi = (uint32_t)set->heartbeat_phi,
                                             .stuck_ms = set->stuck_ms};
    const struct set_limits *l = &set->limits;
    a->means_rule = (struct health_resource_rule){
        .mark_percent = {[HEALTH_MEANS_MEMORY] = (uint32_t)l->memory_percent,
                         [HEALTH_MEANS_CPU] = (uint32_t)l->cpu_percent,
                         [HEALTH_MEANS_FDS] = (uint32_t)l->fds_percent,
                         [HEALTH_MEANS_QUEUE] = (uint32_t)l->queue_percent},
        .memory_bytes = (uint64_t)l->memory_bytes,
    };
    const struct set_logic *g = &set->logic;
    a->logic_rule = (struct health_logic_rule){
        .window_ms = g->window_ms,
        .min_decisions = (uint32_t)g->min_decisions,
        .malformed_percent = (uint32_t)g->malformed_percent,
        .contradictory_percent = (uint32_t)g->contradictory_percent,
        .denied_percent = (uint32_t)g->denied_percent,
        .repeats = (uint32_t)g->repeats,
        .exceptions = (uint32_t)g->exceptions,
    };
}

void health_agent_take(struct health_watch *const of[static 3], const struct set_agent *set)
{
    struct health_agent *a = of[0]->agent;
    if (!a) {
        if (!(a = calloc(1, sizeof *a)))
            abort();
        a->life = of[0];
        a->means = of[1];
        a->judgement = of[2];
        for (int i = 0; i < 3; i++)
            of[i]->agent = a;
    }
    struct health_beat_rule was = a->beat_rule;
    take_rules(a, set);
    bool beats_anew =
        was.interval_ms != a->beat_rule.interval_ms || was.fall != a->beat_rule.fall || was.phi != a->beat_rule.phi;
    if (beats_anew)
        health_heartbeat_init(&a->beat, &a->beat_rule, clock_mono_ms());
    if (!a->judgement->gone)
        health_judge_arm(a);
}

void health_agent_free(struct health_watch *t)
{
    if (t->what != HEALTH_WATCH_LIFE)
        return;
    free(t->agent->logic);
    free(t->agent);
}

struct health_agent *health_agent_find(struct health_watcher *w, const char *agent)
{
    char name[TARGET_MAX_LEN + 1];
    snprintf(name, sizeof name, HEALTH_AGENT_PREFIX "%s", agent);
    struct health_watch *t = health_find(w, name);
    return t && t->what == HEALTH_WATCH_LIFE ? t->agent : NULL;
}

/* ---- silence ---- */

static void arm(struct health_agent *a)
{
    int64_t left_ms = health_heartbeat_due_ms(&a->beat, &a->beat_rule) - clock_mono_ms();
    loop_timer_start(&a->life->timer, left_ms > 0 ? left_ms : 0, 0);
}

static void miss(struct health_agent *a)
{
    struct health_watch *t = a->life;
    metric_add(&missed, 1);
    /* Once it is known that it is gone, more silence is no more evidence. */
    if (a->beat.missed > t->rule.fall && t->verdict.state == HEALTH_UNHEALTHY)
        return;
    struct health_result r = result_now(HEALTH_FAULT_SILENT);
    if (a->beat.ever)
        health_detail(&r, "last heard %.1f s ago; every %.1f s is due",
                      (double)(clock_mono_ms() - a->beat.heard_ms) / 1000, (double)a->beat_rule.interval_ms / 1000);
    else
        health_detail(&r, "not heard since this watcher started; every %.1f s is due",
                      (double)a->beat_rule.interval_ms / 1000);
    health_take_result(t, &r);
}

/* The timer is not moved by each heartbeat: it fires, finds that one has come, and sleeps on. */
static void on_due(void *ctx)
{
    struct health_watch *t = ctx;
    struct health_watcher *w = t->w;
    struct health_agent *a = t->agent;
    if (w->draining || t->gone)
        return;
    /* Deaf is not the same as silent. The grace starts anew when the bus is back or the clock is trusted again. */
    if (!bus_up(w->s->bus) || !health_may_act(w))
        health_heartbeat_start(&a->beat, clock_mono_ms());
    else if (health_heartbeat_tick(&a->beat, &a->beat_rule, clock_mono_ms()))
        miss(a);
    arm(a);
}

static void on_nothing(void *ctx)
{
    (void)ctx;
}

void health_agent_start(struct health_watch *t)
{
    switch (t->what) {
    case HEALTH_WATCH_LIFE:
        loop_timer_init(&t->w->s->loop, &t->timer, on_due, t);
        health_heartbeat_start(&t->agent->beat, clock_mono_ms());
        arm(t->agent);
        break;
    case HEALTH_WATCH_LOGIC:
        health_judge_start(t->agent);
        break;
    default: /* what is known of its means comes with heartbeats */
        loop_timer_init(&t->w->s->loop, &t->timer, on_nothing, t);
        break;
    }
}

void health_agent_restart_all(struct health_watcher *w)
{
    for (struct health_watch *t = w->all; t; t = t->hh.next)
        if (t->what == HEALTH_WATCH_LIFE && !t->gone)
            health_heartbeat_start(&t->agent->beat, clock_mono_ms());
}

/* ---- heartbeats ---- */

static struct health_usage usage_of(const PB(ResourceUsage) * u)
{
    return (struct health_usage){
        .of = {[HEALTH_MEANS_MEMORY] = {u->rss_bytes, u->rss_limit_bytes},
               [HEALTH_MEANS_CPU] = {u->cpu_permille, u->cpu_limit_permille},
               [HEALTH_MEANS_FDS] = {u->open_fds, u->fds_limit},
               [HEALTH_MEANS_QUEUE] = {u->queue_depth, u->queue_limit}},
        .oom_kills = u->oom_kills,
        .oom_known = true,
    };
}

/* The agent is as well off as the worst of its processes: each alone would be well again with the next one's heartbeat. */
static void look_at_means(struct health_agent *a, const PB(Heartbeat) * h, struct health_process *who)
{
    struct health_usage u = usage_of(h->resources);
    struct health_result r = result_now(HEALTH_FAULT_NONE);
    r.probe = HEALTH_PROBE_RESOURCE;
    health_resource_judge(&who->means, &a->means_rule, &u, clock_mono_ms(), &r);
    who->means_fault = r.fault;
    if (r.fault != HEALTH_FAULT_NONE)
        snprintf(a->means_detail, sizeof a->means_detail, "%.40s: %.75s", h->instance, r.detail);
    const struct health_process *worst = health_heartbeat_worst(&a->beat, &a->beat_rule, clock_mono_ms());
    r.fault = worst ? worst->means_fault : HEALTH_FAULT_NONE;
    if (worst)
        health_detail(&r, "%s", a->means_detail);
    health_take_result(a->means, &r);
}

void health_on_heartbeat(struct service *s, const void *message, const struct bus_msg *m)
{
    struct health_watcher *w = health_watcher_of(s);
    const PB(Heartbeat) *h = message;
    const char *tail = subject_tail(m->subject, SUBJECT_HEARTBEAT);
    if (!tail || strcmp(tail, h->agent) != 0) {
        service_bad_input(s, "heartbeat on another's subject", m, h->agent);
        return;
    }
    struct health_agent *a = health_agent_find(w, h->agent);
    if (!a) {
        metric_add(&strangers, 1);
        return;
    }
    metric_add(&heard, 1);
    int64_t now_ms = clock_mono_ms();
    struct health_beat_news news;
    struct health_heard b = {.instance = rank_hash(h->instance),
                             .sequence = h->sequence,
                             .progress = h->progress,
                             .exceptions = h->exceptions,
                             .queue_depth = h->resources ? h->resources->queue_depth : 0};
    enum health_beat beat = health_heartbeat_heard(&a->beat, &a->beat_rule, &b, now_ms, &news);
    if (beat == HEALTH_BEAT_REPEAT || w->draining || !health_may_act(w))
        return;
    struct health_result r = result_now(beat == HEALTH_BEAT_STUCK ? HEALTH_FAULT_STUCK : HEALTH_FAULT_NONE);
    if (news.stuck)
        health_detail(&r, "%s %u wait, and none was done for %.0f s",
                      news.stuck == news.who ? h->instance : "another of its processes;", b.queue_depth,
                      (double)(now_ms - news.stuck->moved_ms) / 1000);
    health_take_result(a->life, &r);
    health_judge_beat(a, news.exceptions);
    if (h->resources)
        look_at_means(a, h, news.who);
}
