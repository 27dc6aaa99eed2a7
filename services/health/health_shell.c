/* health_shell.c - the watcher: its targets and agents by the settings, duty, start and end. */
#include "health/health_shell.h"
#include "common/clock.h"
#include "common/log.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AGENT_RISE  2 /* heartbeats until an agent counts as back */
#define STALE_TIMES 3 /* intervals without a result of our own: others know better */
#define LEASE       "health"

bool health_may_act(const struct health_watcher *w)
{
    const struct tilt *t = &w->s->loop.tilt;
    bool overdue = t->last_mono_ms > 0 && clock_mono_ms() - t->last_mono_ms >= TILT_GAP_MS; /* tilt is not said yet */
    return !overdue && !service_tilted(w->s);
}

struct health_watch *health_find(struct health_watcher *w, const char *name)
{
    struct health_watch *t;
    HASH_FIND_STR(w->all, name, t);
    return t && !t->gone ? t : NULL;
}

static void free_watcher(struct health_watcher *w)
{
    struct health_watch *t, *next;
    HASH_ITER(hh, w->all, t, next)
    {
        HASH_DEL(w->all, t);
        free(t->doc.packed);
        free(t);
    }
    free(w);
}

static void look_drained(struct health_watcher *w)
{
    if (w->draining && !w->stopped && w->under_way == 0 && !w->lease)
        service_drained(w->s);
}

void health_kept(struct health_watcher *w)
{
    w->promises--;
    if (w->stopped && w->promises == 0)
        free_watcher(w);
    else
        look_drained(w);
}

/* ---- results ---- */

void health_take_result(struct health_watch *t, struct health_result *r)
{
    int was = t->verdict.state;
    if (health_take(&t->verdict, &t->rule, r, clock_shared_ms()) != HEALTH_CHANGED)
        return;
    char reason[256];
    LOG_AT(t->verdict.failure ? LOG_LEVEL_WARN : LOG_LEVEL_INFO, "verdict", F_STR("target", t->name),
           F_STR("from", sm_name(&health_sm, was)), F_STR("to", sm_name(&health_sm, t->verdict.state)),
           F_STR("why", health_reason(&t->verdict, reason, sizeof reason)));
    health_doc_sync(t);
}

/* ---- the watched ---- */

static struct health_watch *take_in(struct health_watcher *w, const char *name)
{
    struct health_watch *t;
    HASH_FIND_STR(w->all, name, t);
    if (!t) {
        if (!(t = calloc(1, sizeof *t)))
            abort();
        t->w = w;
        t->gone = true; /* until it is begun */
        snprintf(t->name, sizeof t->name, "%s", name);
        health_init(&t->verdict, clock_shared_ms());
        HASH_ADD_STR(w->all, name, t);
    }
    t->stays = true;
    return t;
}

static void take_target(struct health_watcher *w, const struct set_target *set)
{
    const struct health_probe *probe = health_probe_of(set->probe.type);
    if (!probe)
        return;
    struct health_watch *t = take_in(w, set->name);
    bool other = t->probe != probe;
    if (!t->gone && other)
        health_run_stop(t); /* what is under way asks in the old way */
    t->probe = probe;
    t->conf.set = &set->probe;
    t->conf.llm_new_limit = t->conf.llm_new_limit && !other;
    t->rule = (struct health_rule){
        .kind = set->kind == SET_TARGET_LLM       ? HEALTH_TARGET_LLM
                : set->kind == SET_TARGET_BACKEND ? HEALTH_TARGET_BACKEND
                                                  : HEALTH_TARGET_OTHER,
        .fall = (uint32_t)set->probe.fall,
        .rise = (uint32_t)set->probe.rise,
        .slow_ms = set->probe.slow_ms,
    };
    struct health_pace pace = {.interval_ms = set->probe.interval_ms,
                               .fast_ms = set->probe.fast_interval_ms,
                               .fall = (uint32_t)set->probe.fall};
    if (!t->gone && pace.interval_ms < t->pace.interval_ms) /* most are overdue by the new one */
        health_schedule_spread(&t->schedule, (uint32_t)w->n, pace.interval_ms, clock_mono_ms());
    t->pace = pace;
}

static void take_agent(struct health_watcher *w, const struct set_agent *set)
{
    char name[TARGET_MAX_LEN + 1];
    snprintf(name, sizeof name, HEALTH_AGENT_PREFIX "%s", set->name);
    if (settings_target(w->s->settings, name)) {
        log_error("an agent's own health has the name of a target; it is not watched. Rename the target",
                  F_STR("name", name));
        return;
    }
    struct health_watch *t = take_in(w, name);
    t->rule =
        (struct health_rule){.kind = HEALTH_TARGET_AGENT, .fall = (uint32_t)set->heartbeat_fall, .rise = AGENT_RISE};
    t->beat_ms = set->heartbeat_ms;
}

static void follow_settings(struct health_watcher *w)
{
    const struct settings *c = w->s->settings;
    for (struct health_watch *t = w->all; t; t = t->hh.next)
        t->stays = false;
    for (size_t i = 0; i < c->targets.n; i++)
        take_target(w, CONF_AT(c->targets, struct set_target, i));
    for (size_t i = 0; i < c->agents.n; i++)
        take_agent(w, CONF_AT(c->agents, struct set_agent, i));
    w->n = 0;
    for (struct health_watch *t = w->all; t; t = t->hh.next)
        w->n += t->stays;
    http_keep(w->s->http, 3 * w->n); /* probes of one target overlap while it is slow */
    for (struct health_watch *t = w->all; t; t = t->hh.next) {
        bool starts = t->stays && t->gone;
        if (!t->stays && !t->gone) {
            if (t->probe)
                health_run_stop(t);
            else
                loop_timer_stop(&t->timer);
            t->conf.set = NULL; /* the old settings go */
        }
        t->gone = !t->stays;
        if (starts && t->probe)
            health_run_start(t);
        else if (starts)
            health_agent_start(t);
        else if (t->stays && t->probe)
            health_run_arm(t);
    }
}

/* ---- duty ---- */

/* A verdict of our own from long ago is worth less than what others have announced since. */
static bool stale(const struct health_watch *t)
{
    const struct health *v = &t->verdict;
    int64_t limit_ms = t->probe ? STALE_TIMES * t->pace.interval_ms : STALE_TIMES * t->beat_ms;
    return v->n_evidence == 0 || clock_shared_ms() - health_evidence(v, 0)->ended_ms > limit_ms;
}

static void on_held(void *ctx, uint64_t fence)
{
    struct health_watcher *w = ctx;
    w->duty.held = true;
    log_info("this replica probes what is paid, and announces", F_INT("fence", fence));
    for (struct health_watch *t = w->all; t; t = t->hh.next) {
        if (t->gone)
            continue;
        if (t->probe && t->probe->paid && stale(t)) {
            const struct health_doc *d = &t->doc;
            health_init(&t->verdict, clock_shared_ms());
            if (d->epoch)
                health_adopt(&t->verdict, d->state, d->failure, d->cause, 0, clock_shared_ms());
            health_schedule_start(&t->schedule, &t->pace, (uint32_t)w->n, health_random(), clock_mono_ms());
            health_run_arm(t);
        }
        health_doc_forget(t);
        health_doc_sync(t);
    }
}

static void on_lost(void *ctx)
{
    struct health_watcher *w = ctx;
    w->duty.held = false;
    log_warn("this replica no longer announces: its lease is lost",
             F_STR("next", w->duty.store_up ? "another has it, or it is got again" : "verdicts wait for the store"));
}

/* ---- the table's handlers ---- */

int health_start(struct service *s, struct err *e)
{
    struct health_watcher *w = calloc(1, sizeof *w);
    if (!w)
        return err_set(e, "out of memory");
    s->state = w;
    w->s = s;
    w->lanes[0].end = &w->lanes[0].first;
    w->lanes[1].end = &w->lanes[1].first;
    w->docs.end = &w->docs.first;
    struct lease_opts lo = {.name = LEASE, .holder = s->instance, .on_held = on_held, .on_lost = on_lost, .ctx = w};
    if (!(w->lease = lease_open(&s->loop, s->store, &lo)))
        return err_set(e, "out of memory");
    follow_settings(w);
    return 0;
}

static void sync_all(struct health_watcher *w, bool forget)
{
    for (struct health_watch *t = w->all; t; t = t->hh.next) {
        if (forget)
            health_doc_forget(t);
        if (!t->gone)
            health_doc_sync(t);
    }
}

void health_on_bus_up(struct service *s)
{
    health_agent_restart_all(health_watcher_of(s));
}

void health_on_bus_down(struct service *s)
{
    health_agent_restart_all(health_watcher_of(s));
}

void health_on_synced(struct service *s)
{
    struct health_watcher *w = health_watcher_of(s);
    w->synced = true;
    sync_all(w, true);
}

void health_on_store_up(struct service *s)
{
    struct health_watcher *w = health_watcher_of(s);
    w->duty.store_up = true;
    sync_all(w, true); /* it may have been emptied */
}

void health_on_store_down(struct service *s)
{
    health_watcher_of(s)->duty.store_up = false;
}

void health_on_reload(struct service *s, const struct settings *was)
{
    (void)was;
    follow_settings(health_watcher_of(s));
    sync_all(health_watcher_of(s), false);
}

void health_on_tick(struct service *s)
{
    struct health_watcher *w = health_watcher_of(s);
    bool tilted = !health_may_act(w);
    if (w->was_tilted && !tilted) {
        health_agent_restart_all(w);
        sync_all(w, true);
    }
    w->was_tilted = tilted;
}

/* `redoubt.v1.cmd.health.show`: what is announced, in the payload; and what this replica thinks, in the text. */
void health_on_show(struct service *s, const void *message, const struct bus_msg *m)
{
    const PB(HealthCommand) *q = message;
    struct health_watch *t = health_find(health_watcher_of(s), q->target);
    if (!t) {
        service_reply(s, m->reply, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_INVALID, 0,
                      "%s is not watched: it is not among the targets that have a probe, nor is it `agent.<name>`",
                      q->target);
        return;
    }
    char reason[256], text[512];
    snprintf(text, sizeof text, "%s: %s", sm_name(&health_sm, t->verdict.state),
             health_reason(&t->verdict, reason, sizeof reason));
    PB(CommandReply) reply = REDOUBT__V1__COMMAND_REPLY__INIT;
    reply.status = REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK;
    reply.message = text;
    reply.epoch = t->doc.epoch;
    reply.payload.data = t->doc.packed;
    reply.payload.len = t->doc.len;
    service_reply_message(s, m->reply, &reply);
}

static void on_lease_closed(void *ctx)
{
    struct health_watcher *w = ctx;
    w->lease = NULL;
    look_drained(w);
}

void health_drain(struct service *s)
{
    struct health_watcher *w = health_watcher_of(s);
    w->draining = true;
    for (struct health_watch *t = w->all; t; t = t->hh.next) {
        if (t->gone)
            continue;
        if (t->probe)
            health_run_stop(t);
        else
            loop_timer_stop(&t->timer);
    }
    w->duty.held = false;
    lease_close(w->lease, on_lease_closed, w);
}

static void on_timer_closed(void *ctx)
{
    struct health_watch *t = ctx;
    health_kept(t->w);
}

void health_stop(struct service *s)
{
    struct health_watcher *w = health_watcher_of(s);
    s->state = NULL;
    w->stopped = true;
    health_promise(w);
    for (struct health_watch *t = w->all; t; t = t->hh.next) {
        health_promise(w);
        loop_timer_close(&t->timer, on_timer_closed);
    }
    health_kept(w);
}
