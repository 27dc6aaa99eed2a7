/* fallback_shell.c - the service's life: lease, agents from the settings, timers, connections. */
#include "fallback/fallback_shell.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include "common/sm.h"
#include <stdlib.h>
#include <string.h>

METRIC_DEFINE(agents_now, METRIC_GAUGE, "redoubt_fallback_agents", "Agents in the settings.");
METRIC_DEFINE(leading, METRIC_GAUGE, "redoubt_fallback_leading", "1 while this replica holds the lease.");

#define TICK_MS         1000
#define TARGETS_MAX     10000 /* targets that breaker and health may tell us of */
#define READY_AFTER_MS  5000  /* the bus is up but the stream is silent: then what is known must do */
#define STORE_ALERT_MS  2000  /* a restart of Redis is no news */
#define ANNOUNCE_MS     5000  /* an announcement that did not come back is made again */
#define STORE_ALERT_KEY "fallback/shared-state"

/* ---- finding ---- */

struct agent *shell_agent(struct shell *sh, const char *name)
{
    struct agent *a;
    HASH_FIND_STR(sh->agents, name, a);
    return a;
}

struct target *shell_target(struct shell *sh, const char *name)
{
    struct target *t;
    HASH_FIND_STR(sh->targets, name, t);
    if (t || HASH_COUNT(sh->targets) >= TARGETS_MAX || !(t = calloc(1, sizeof *t)))
        return t;
    snprintf(t->name, sizeof t->name, "%s", name);
    HASH_ADD_STR(sh->targets, name, t);
    return t;
}

bool shell_leads(const struct shell *sh)
{
    return sh->lease && lease_fence(sh->lease) != 0;
}

bool shell_may_loosen(const struct shell *sh)
{
    return sh->synced && shell_leads(sh) && store_up(sh->s->store) && !service_tilted(sh->s);
}

bool shell_ready(const struct shell *sh)
{
    return sh->ever_synced || (sh->bus_up_mono_ms && clock_mono_ms() - sh->bus_up_mono_ms >= READY_AFTER_MS);
}

/* ---- time ---- */

static void arm(struct shell *sh, int64_t at_ms)
{
    int64_t in_ms = at_ms - clock_shared_ms();
    sh->wake_at_ms = at_ms;
    loop_timer_start(&sh->wake, in_ms > 0 ? in_ms : 0, 0);
}

void shell_wake(struct shell *sh, int64_t at_ms)
{
    if (at_ms < sh->wake_at_ms)
        arm(sh, at_ms);
}

static void on_wake(void *ctx)
{
    struct shell *sh = ctx;
    int64_t now_ms = clock_shared_ms(), next_ms = INT64_MAX;
    sh->wake_at_ms = INT64_MAX;
    for (struct agent *a = sh->agents; a; a = a->hh.next)
        if (a->wake_at_ms <= now_ms) {
            a->wake_at_ms = INT64_MAX;
            agent_look(a);
        }
    for (struct agent *a = sh->agents; a; a = a->hh.next)
        if (a->wake_at_ms < next_ms)
            next_ms = a->wake_at_ms;
    if (next_ms != INT64_MAX)
        arm(sh, next_ms);
}

void shell_look_at_all(struct shell *sh)
{
    for (struct agent *a = sh->agents; a; a = a->hh.next)
        agent_look(a);
}

/* ---- agents from the settings ---- */

static struct agent *add_agent(struct shell *sh, const struct set_agent *set)
{
    struct agent *a = calloc(1, sizeof *a);
    if (!a)
        return NULL;
    snprintf(a->name, sizeof a->name, "%s", set->name);
    snprintf(a->key, sizeof a->key, "redoubt:{a:%s}:doc", set->name);
    a->sh = sh;
    a->place = AWAY;
    a->queue_end = &a->queue;
    a->wake_at_ms = INT64_MAX;
    rule_set(a, set);
    HASH_ADD_STR(sh->agents, name, a);
    return a;
}

static void drop_agent(struct shell *sh, struct agent *a)
{
    if (a->known && a->f.doc.override_mode != FALLBACK_OVERRIDE_OFF)
        log_warn("an agent left the settings while its override is in force; it lapses by itself",
                 F_STR("agent", a->name), F_STR("key", a->f.doc.override_key));
    agent_forget(a);
    HASH_DEL(sh->agents, a);
    agent_free(a);
}

/* After a reload: strings of the old settings are about to go. */
static void on_reload(struct service *s, const struct settings *was)
{
    struct shell *sh = s->state;
    (void)was;
    for (struct agent *a = sh->agents, *next; a; a = next) {
        next = a->hh.next;
        const struct set_agent *set = settings_agent(s->settings, a->name);
        if (set)
            rule_set(a, set);
        else
            drop_agent(sh, a);
    }
    for (size_t i = 0; i < s->settings->agents.n; i++) {
        const struct set_agent *set = CONF_AT(s->settings->agents, struct set_agent, i);
        if (!shell_agent(sh, set->name) && !add_agent(sh, set))
            log_error("agent not added: out of memory", F_STR("agent", set->name));
    }
    metric_set(&agents_now, HASH_COUNT(sh->agents));
    effects_reload(sh);
    for (struct agent *a = sh->agents; a; a = a->hh.next) {
        if (a->place == AWAY && shell_leads(sh))
            agent_load(a);
        else
            agent_look(a);
    }
}

/* ---- the lease ---- */

static void on_held(void *ctx, uint64_t fence)
{
    struct service *s = ctx;
    struct shell *sh = s->state;
    if (!sh || s->draining)
        return;
    sh->generation++;
    metric_set(&leading, 1);
    log_info("leading", F_INT("fence", fence));
    for (struct agent *a = sh->agents; a; a = a->hh.next)
        agent_load(a);
}

static void on_lost(void *ctx)
{
    struct service *s = ctx;
    struct shell *sh = s->state;
    if (!sh)
        return;
    sh->generation++;
    metric_set(&leading, 0);
    calls_cancel_releases(sh);
    log_warn("not leading any more", F_STR("next", "watching; the next leader reads every document again"));
    for (struct agent *a = sh->agents; a; a = a->hh.next)
        agent_forget(a);
}

static void load_the_hurt(struct shell *sh)
{
    if (!shell_leads(sh) || !store_up(sh->s->store))
        return;
    for (struct agent *a = sh->agents; a; a = a->hh.next)
        if (a->place == HURT)
            agent_load(a);
}

/* ---- connections ---- */

static void on_bus_up(struct service *s)
{
    struct shell *sh = s->state;
    sh->bus_up_mono_ms = clock_mono_ms();
    shell_look_at_all(sh);
}

static void on_bus_down(struct service *s)
{
    struct shell *sh = s->state;
    sh->bus_up_mono_ms = 0;
    sh->synced = false;
    for (struct agent *a = sh->agents; a; a = a->hh.next)
        a->last_seen_epoch = 0; /* the replay shows what the stream still has */
}

static void on_watch_synced(struct service *s)
{
    struct shell *sh = s->state;
    sh->synced = sh->ever_synced = true;
    load_the_hurt(sh);
    shell_look_at_all(sh);
}

static void on_store_up(struct service *s)
{
    struct shell *sh = s->state;
    struct lease_opts o = {.name = "fallback",
                           .holder = s->instance,
                           .ttl_ms = s->settings->fallback.lease_ttl_ms,
                           .on_held = on_held,
                           .on_lost = on_lost,
                           .ctx = s};
    /* Only now: a first try without a store would cost its pause. */
    if (!sh->lease && !s->draining && !(sh->lease = lease_open(&s->loop, s->store, &o)))
        log_error("no lease: out of memory; this replica only watches");
    load_the_hurt(sh);
}

static void store_alert(struct shell *sh, bool resolved)
{
    PB(Alert) a = PB_INIT(ALERT);
    a.dedup_key = (char *)STORE_ALERT_KEY;
    a.severity = REDOUBT__V1__SEVERITY__SEVERITY_HIGH;
    a.failure_kind = REDOUBT__V1__FAILURE_KIND__FAILURE_KIND_NETWORK;
    a.summary =
        (char *)(resolved ? "shared state (Redis) can be used by fallback again"
                          : "shared state (Redis) cannot be used by fallback: no posture gets looser, moves to "
                            "a stricter one wait; agents go by the breakers' state meanwhile");
    a.detail = (char *)store_last_error(sh->s->store);
    a.resolved = resolved;
    service_alert(sh->s, &a);
    sh->store_alert = !resolved;
}

/* One alert for Redis being away and for documents that it holds but that cannot be read or written. */
static void watch_store(struct shell *sh, int64_t now_mono_ms)
{
    bool trouble = !store_up(sh->s->store);
    for (const struct agent *a = sh->agents; a && !trouble; a = a->hh.next)
        trouble = a->place == HURT && sh->ever_synced;
    if (!trouble)
        sh->trouble_mono_ms = 0;
    else if (sh->trouble_mono_ms == 0)
        sh->trouble_mono_ms = now_mono_ms;
    if (trouble ? !sh->store_alert && now_mono_ms - sh->trouble_mono_ms >= STORE_ALERT_MS : sh->store_alert)
        store_alert(sh, !trouble);
}

/* What no event brings: lost marks, refused notices, a stream that has forgotten, the end of a tilt. */
static void tick(struct service *s)
{
    struct shell *sh = s->state;
    int64_t now = clock_mono_ms();
    watch_store(sh, now);
    load_the_hurt(sh);
    effects_tick(sh, now);
    bool loosen = shell_may_loosen(sh);
    if (loosen && !sh->could_loosen)
        shell_look_at_all(sh);
    sh->could_loosen = loosen;
    for (struct agent *a = sh->agents; a; a = a->hh.next) {
        if (a->place != HERE)
            continue;
        owed_send(a);
        bool unsaid = a->pending || (sh->synced && a->last_seen_epoch != a->f.doc.epoch);
        if (unsaid && a->announcing == 0 && now - a->announced_mono_ms >= ANNOUNCE_MS)
            agent_announce(a);
        agent_run(a);
    }
}

/* Agents wait for directives; people can wait 5 ms longer. Packing and syncing alerts and records would delay the next agent's. */
#define SAY_AFTER_MS 5

static void say_all(struct shell *sh)
{
    for (struct agent *a = sh->agents; a; a = a->hh.next)
        if (a->place == HERE)
            owed_send(a);
}

static void on_say(void *ctx)
{
    say_all(ctx);
}

void shell_say_soon(struct shell *sh)
{
    if (!loop_timer_active(&sh->say))
        loop_timer_start(&sh->say, SAY_AFTER_MS, 0);
}

/* ---- life ---- */

static int start(struct service *s, struct err *e)
{
    struct shell *sh = calloc(1, sizeof *sh);
    if (!sh)
        return err_set(e, "out of memory");
    s->state = sh;
    sh->s = s;
    sh->api = &override_http;
    sh->wake_at_ms = INT64_MAX;
    loop_timer_init(&s->loop, &sh->wake, on_wake, sh);
    loop_timer_init(&s->loop, &sh->say, on_say, sh);
    effects_open(sh);
    for (size_t i = 0; i < s->settings->agents.n; i++)
        if (!add_agent(sh, CONF_AT(s->settings->agents, struct set_agent, i)))
            return err_set(e, "out of memory");
    metric_set(&agents_now, HASH_COUNT(sh->agents));
    metric_set(&leading, 0);
    return 0;
}

static void lease_given_back(void *ctx)
{
    service_drained(ctx);
}

/* What was decided is stored or forgotten; whoever leads next reads it. Giving the lease back at once saves its TTL. */
static void drain(struct service *s)
{
    struct shell *sh = s->state;
    say_all(sh);
    for (struct agent *a = sh->agents; a; a = a->hh.next)
        agent_forget(a);
    if (sh->lease)
        lease_close(sh->lease, lease_given_back, s);
    else
        service_drained(s);
    sh->lease = NULL;
}

static void free_shell(void *ctx)
{
    struct shell *sh = ctx;
    effects_free(sh);
    free(sh);
}

static void close_wake(void *ctx)
{
    struct shell *sh = ctx;
    loop_timer_close(&sh->wake, free_shell);
}

static void stop(struct service *s)
{
    struct shell *sh = s->state;
    s->state = NULL; /* what still calls back finds nobody */
    calls_free(sh);
    effects_close(sh);
    for (struct agent *a = sh->agents, *next; a; a = next) {
        next = a->hh.next;
        HASH_DEL(sh->agents, a);
        agent_free(a);
    }
    for (struct target *t = sh->targets, *next; t; t = next) {
        next = t->hh.next;
        HASH_DEL(sh->targets, t);
        free(t);
    }
    loop_timer_close(&sh->say, close_wake);
}

static const struct service_sub subs[] = {
    {SUBJECT_BREAKER ">", SERVICE_SUB_WATCH, PB_DESC(breaker_changed), in_breaker},
    {SUBJECT_HEALTH ">", SERVICE_SUB_WATCH, PB_DESC(health_changed), in_health},
    {SUBJECT_DIRECTIVE ">", SERVICE_SUB_WATCH, PB_DESC(directive), in_directive},
    {SUBJECT_ACK "*", SERVICE_SUB_ALL, PB_DESC(directive_ack), in_ack},
    {SUBJECT_FENCED "*", SERVICE_SUB_ALL, PB_DESC(fenced), in_fenced},
    {SUBJECT_MONITOR "*", SERVICE_SUB_ALL, PB_DESC(monitor_report), in_monitor},
    {FALLBACK_LEADER_CMD "*", SERVICE_SUB_ALL, PB_DESC(agent_command), cmd_leader},
};
static const struct service_cmd cmds[] = {
    {"freeze", PB_DESC(agent_command), cmd_any}, {"unfreeze", PB_DESC(agent_command), cmd_any},
    {"resync", PB_DESC(agent_command), cmd_any}, {"state", PB_DESC(agent_command), cmd_any},
    {"drill", PB_DESC(agent_command), cmd_any},
};
static const struct service_timer timers[] = {{TICK_MS, tick}};

const struct service_desc fallback_service = {
    .name = "fallback",
    .description = "moves agents between postures, there and back",
    .needs = SERVICE_STORE | SERVICE_HTTP | SERVICE_OUTBOX,
    .subs = subs,
    .n_subs = sizeof subs / sizeof subs[0],
    .cmds = cmds,
    .n_cmds = sizeof cmds / sizeof cmds[0],
    .timers = timers,
    .n_timers = sizeof timers / sizeof timers[0],
    .start = start,
    .on_bus_up = on_bus_up,
    .on_bus_down = on_bus_down,
    .on_watch_synced = on_watch_synced,
    .on_store_up = on_store_up,
    .on_reload = on_reload,
    .drain = drain,
    .stop = stop,
};
