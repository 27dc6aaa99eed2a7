/* health_agent.c - heartbeats of agents: who was heard, and who was not. */
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include "health/health_shell.h"
#include <stdio.h>
#include <string.h>

METRIC_DEFINE(heard, METRIC_COUNTER, "redoubt_heartbeats_total", "Heartbeats of agents that are watched.");
METRIC_DEFINE(strangers, METRIC_COUNTER, "redoubt_heartbeats_unknown_total",
              "Heartbeats of agents that the settings don't know.");
METRIC_DEFINE(missed, METRIC_COUNTER, "redoubt_heartbeats_missed_total", "Heartbeats that did not come in time.");

/* FNV-1a: tells processes apart, nothing more. */
static uint64_t hash(const char *text)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 0x100000001b3u;
    return h;
}

static struct health_result result_now(int fault)
{
    int64_t now_ms = clock_shared_ms();
    return (struct health_result){
        .probe = HEALTH_PROBE_HEARTBEAT, .fault = (uint8_t)fault, .started_ms = now_ms, .ended_ms = now_ms};
}

static void arm(struct health_watch *t)
{
    int64_t left_ms = health_heartbeat_due_ms(&t->beat, t->beat_ms) - clock_mono_ms();
    loop_timer_start(&t->timer, left_ms > 0 ? left_ms : 0, 0);
}

/* The timer is not moved by each heartbeat: it fires, finds that one has come, and sleeps on. */
static void on_due(void *ctx)
{
    struct health_watch *t = ctx;
    struct health_watcher *w = t->w;
    if (w->draining || t->gone)
        return;
    /* Deaf is not the same as silent. The grace starts anew when the bus is back or the clock is trusted again. */
    if (!bus_up(w->s->bus) || !health_may_act(w)) {
        health_heartbeat_start(&t->beat, clock_mono_ms());
    } else if (health_heartbeat_tick(&t->beat, t->beat_ms, clock_mono_ms())) {
        metric_add(&missed, 1);
        /* Once it is known that it is gone, more silence is no more evidence. */
        if (t->beat.missed <= t->rule.fall || t->verdict.state != HEALTH_UNHEALTHY) {
            struct health_result r = result_now(HEALTH_FAULT_SILENT);
            if (t->beat.ever)
                health_detail(&r, "last heard %.1f s ago; every %.1f s is due",
                              (double)(clock_mono_ms() - t->beat.heard_ms) / 1000, (double)t->beat_ms / 1000);
            else
                health_detail(&r, "not heard since this watcher started; every %.1f s is due",
                              (double)t->beat_ms / 1000);
            health_take_result(t, &r);
        }
    }
    arm(t);
}

void health_agent_start(struct health_watch *t)
{
    loop_timer_init(&t->w->s->loop, &t->timer, on_due, t);
    health_heartbeat_start(&t->beat, clock_mono_ms());
    arm(t);
}

void health_agent_restart_all(struct health_watcher *w)
{
    for (struct health_watch *t = w->all; t; t = t->hh.next)
        if (!t->probe && !t->gone)
            health_heartbeat_start(&t->beat, clock_mono_ms());
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
    char name[TARGET_MAX_LEN + 1];
    snprintf(name, sizeof name, HEALTH_AGENT_PREFIX "%s", h->agent);
    struct health_watch *t = health_find(w, name);
    if (!t || t->probe) {
        metric_add(&strangers, 1);
        return;
    }
    metric_add(&heard, 1);
    uint32_t waiting = h->resources ? h->resources->queue_depth : 0;
    enum health_beat beat =
        health_heartbeat_heard(&t->beat, hash(h->instance), h->sequence, h->progress, waiting, clock_mono_ms());
    if (beat == HEALTH_BEAT_REPEAT || w->draining || !health_may_act(w))
        return;
    struct health_result r = result_now(beat == HEALTH_BEAT_STUCK ? HEALTH_FAULT_STUCK : HEALTH_FAULT_NONE);
    if (beat == HEALTH_BEAT_STUCK)
        health_detail(&r, "%u wait, and none was done for %.0f s", waiting,
                      (double)(clock_mono_ms() - t->beat.moved_ms) / 1000);
    health_take_result(t, &r);
}
