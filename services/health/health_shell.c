/* health_shell.c - the watcher: its targets and agents by the settings, duty, start and end. */
#include "health/health_shell.h"
#include "common/clock.h"
#include "common/log.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AGENT_RISE 2 /* heartbeats until an agent counts as back */

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
        if (t->probe && t->probe->forget)
            t->probe->forget(&t->conf);
        health_agent_free(t);
        health_vote_drop(t);
        health_order_done(t, false);
        free(t->doc.packed);
        free(t->traffic);
        free(t);
    }
    free(w);
}

static void look_drained(struct health_watcher *w)
{
    if (w->draining && !w->stopped && w->under_way == 0 && !w->members)
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
    enum health_taken taken = health_take(&t->verdict, &t->rule, r, clock_shared_ms());
    if (taken == HEALTH_COUNTED)
        health_vote_result(t, r, false);
    if (taken != HEALTH_CHANGED)
        return;
    char reason[256];
    LOG_AT(t->verdict.failure ? LOG_LEVEL_WARN : LOG_LEVEL_INFO, "verdict", F_STR("target", t->name),
           F_STR("from", sm_name(&health_sm, was)), F_STR("to", sm_name(&health_sm, t->verdict.state)),
           F_STR("why", health_reason(&t->verdict, reason, sizeof reason)));
    health_vote_result(t, r, true);
    health_doc_sync(t);
}

/* ---- the watched ---- */

struct health_watch *health_take_in(struct health_watcher *w, const char *name)
{
    struct health_watch *t;
    HASH_FIND_STR(w->all, name, t);
    if (!t) {
        if (!(t = calloc(1, sizeof *t)))
            abort();
        t->w = w;
        t->gone = true; /* until it is begun */
        snprintf(t->name, sizeof t->name, "%s", name);
        t->hash = rank_hash(t->name);
        t->place = RANK_UNPLACED;
        t->vantage = 1;
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
    if (subject_tail(set->name, HEALTH_LINK_PREFIX)) {
        log_error("names that begin with `link.` are those of the watchers' own links; it is not watched. Rename the "
                  "target",
                  F_STR("name", set->name));
        return;
    }
    struct health_watch *t = health_take_in(w, set->name);
    bool other = t->probe != probe;
    if (!t->gone && t->probe && (other || !settings_probe_same(t->conf.set, &set->probe)))
        health_run_forget(t); /* what is under way asks in the old way */
    t->probe = probe;
    t->conf.set = &set->probe;
    if (other)
        t->conf.llm_wants = 0;
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
    int64_t vantage = set->probe.vantage ? set->probe.vantage : w->s->settings->health.vantage_points;
    t->vantage = vantage > 1 ? (uint32_t)vantage : 1;
    t->suppress.grace_ms = set->probe.fall * set->probe.fast_interval_ms;
}

/* An agent is three watches: each has its own runs of results, so that none hides another's. */
static void take_agent(struct health_watcher *w, const struct set_agent *set)
{
    static const struct {
        enum health_watch_kind what;
        const char *tail;
    } facets[3] = {{HEALTH_WATCH_LIFE, ""}, {HEALTH_WATCH_MEANS, ".resources"}, {HEALTH_WATCH_LOGIC, ".logic"}};
    char names[3][TARGET_MAX_LEN + 1];
    struct health_watch *of[3];
    for (int i = 0; i < 3; i++) {
        snprintf(names[i], sizeof names[i], HEALTH_AGENT_PREFIX "%s%s", set->name, facets[i].tail);
        if (settings_target(w->s->settings, names[i])) {
            log_error("an agent's own health has the name of a target; it is not watched. Rename the target",
                      F_STR("name", names[i]));
            return;
        }
    }
    for (int i = 0; i < 3; i++) {
        of[i] = health_take_in(w, names[i]);
        of[i]->what = facets[i].what;
        of[i]->rule = (struct health_rule){
            .kind = HEALTH_TARGET_AGENT, .fall = (uint32_t)set->heartbeat_fall, .rise = AGENT_RISE};
        of[i]->beat_ms = set->heartbeat_ms;
    }
    of[2]->rule.fall = of[2]->rule.rise = 1; /* its results are judgements over many decisions already */
    health_agent_take(of, set);
}

static void follow_settings(struct health_watcher *w)
{
    const struct settings *c = w->s->settings;
    for (struct health_watch *t = w->all; t; t = t->hh.next)
        t->stays = t->link;
    for (size_t i = 0; i < c->targets.n; i++)
        take_target(w, CONF_AT(c->targets, struct set_target, i));
    for (size_t i = 0; i < c->agents.n; i++)
        take_agent(w, CONF_AT(c->agents, struct set_agent, i));
    for (size_t i = 0; i < c->targets.n; i++) {
        const struct set_target *set = CONF_AT(c->targets, struct set_target, i);
        struct health_watch *t, *parent;
        HASH_FIND_STR(w->all, set->name, t);
        HASH_FIND_STR(w->all, set->parent, parent);
        if (t)
            t->parent = *set->parent ? parent : NULL;
    }
    w->n = 0;
    for (struct health_watch *t = w->all; t; t = t->hh.next)
        w->n += t->stays && !t->link;
    http_keep(w->s->http, 3 * w->n); /* probes of one target overlap while it is slow */
    for (struct health_watch *t = w->all; t; t = t->hh.next) {
        bool starts = t->stays && t->gone;
        if (!t->stays && !t->gone) {
            if (t->probe)
                health_run_forget(t);
            else
                loop_timer_stop(&t->timer);
            t->conf.set = NULL; /* the old settings go */
            t->on_duty = false;
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
    if (health_share_open(w) || health_link_open(w))
        return err_set(e, "out of memory");
    follow_settings(w);
    health_share_look(w);
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
    w->store_up = true;
    if (!w->draining)
        members_refresh(w->members);
    sync_all(w, true); /* it may have been emptied */
}

void health_on_store_down(struct service *s)
{
    health_watcher_of(s)->store_up = false;
}

void health_on_reload(struct service *s, const struct settings *was)
{
    (void)was;
    follow_settings(health_watcher_of(s));
    health_share_look(health_watcher_of(s));
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
    health_share_rest(w);
    struct health_duty was = w->duty;
    health_share_age(w);
    if (was.known != w->duty.known || was.shared != w->duty.shared)
        health_share_look(w);
    health_vote_tick(w);
    health_link_tick(w);
    health_cmd_tick(w);
    health_doc_tick(w);
}

static void on_left(void *ctx)
{
    struct health_watcher *w = ctx;
    w->members = NULL;
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
    members_leave(w->members, on_left, w); /* the others take over at once */
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
    health_link_close(w);
    health_promise(w);
    for (struct health_watch *t = w->all; t; t = t->hh.next) {
        health_promise(w);
        loop_timer_close(&t->timer, on_timer_closed);
    }
    health_kept(w);
}
