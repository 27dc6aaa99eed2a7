/* fallback_shell.c - the service's life: partitions, agents from the settings, timers, connections. */
#include "fallback/fallback_shell.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include "common/share.h"
#include "common/sm.h"
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

METRIC_DEFINE(agents_now, METRIC_GAUGE, "redoubt_fallback_agents", "Agents in the settings.");
METRIC_DEFINE(held_now, METRIC_GAUGE, "redoubt_fallback_partitions",
              "Partitions of agents that this replica acts for.");

#define TICK_MS        1000
#define READY_AFTER_MS 5000 /* the bus is up but the stream is silent: then what is known must do */
#define ANNOUNCE_MS    5000 /* an announcement that did not come back is made again */

/* ---- finding ---- */

struct agent *shell_agent(struct shell *sh, const char *name)
{
    struct agent *a;
    HASH_FIND_STR(sh->agents, name, a);
    return a;
}

uint64_t agent_fence(const struct agent *a)
{
    return a->sh->partitions ? partition_fence(a->sh->partitions, a->partition) : 0;
}

uint64_t agent_generation(const struct agent *a)
{
    return a->sh->generation[a->partition];
}

bool shell_may_loosen(const struct shell *sh)
{
    return sh->synced && store_up(sh->s->store) && !service_tilted(sh->s);
}

bool shell_ready(const struct shell *sh)
{
    return sh->ever_synced || (sh->bus_up_mono_ms && clock_mono_ms() - sh->bus_up_mono_ms >= READY_AFTER_MS);
}

void shell_look_at_all(struct shell *sh)
{
    for (struct agent *a = sh->agents; a; a = a->hh.next)
        agent_look_in_turn(a);
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
    a->partition = partition_of(a->name);
    rule_set(a, set);
    HASH_ADD_STR(sh->agents, name, a);
    DL_APPEND2(sh->of[a->partition], a, mate_prev, mate_next);
    return a;
}

static void remove_agent(struct shell *sh, struct agent *a)
{
    HASH_DEL(sh->agents, a);
    DL_DELETE2(sh->of[a->partition], a, mate_prev, mate_next);
    agent_free(a);
}

static void drop_agent(struct shell *sh, struct agent *a)
{
    if (a->known && a->f.doc.override_mode != FALLBACK_OVERRIDE_OFF)
        log_warn("an agent left the settings while its override is in force; it lapses by itself",
                 F_STR("agent", a->name), F_STR("key", a->f.doc.override_key));
    agent_forget(a);
    remove_agent(sh, a);
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
        if (a->place == AWAY && agent_fence(a) != 0)
            agent_load(a);
        else
            agent_look(a);
    }
}

/* ---- partitions ---- */

static void on_held(void *ctx, unsigned partition, uint64_t fence)
{
    struct service *s = ctx;
    struct shell *sh = s->state;
    struct agent *a;
    if (!sh || s->draining)
        return;
    sh->generation[partition]++;
    log_debug("acting for a partition", F_INT("partition", partition), F_INT("fence", fence));
    DL_FOREACH2(sh->of[partition], a, mate_next)
    agent_load(a);
}

static void on_lost(void *ctx, unsigned partition)
{
    struct service *s = ctx;
    struct shell *sh = s->state;
    struct agent *a;
    if (!sh)
        return;
    sh->generation[partition]++;
    calls_cancel_releases_of(sh, partition);
    log_debug("not acting for a partition any more", F_INT("partition", partition));
    DL_FOREACH2(sh->of[partition], a, mate_next)
    agent_forget(a);
}

static void load_the_hurt(struct shell *sh)
{
    if (!store_up(sh->s->store))
        return;
    for (struct agent *a = sh->agents; a; a = a->hh.next)
        if (a->place == HURT && agent_fence(a) != 0)
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
    share_take(s, &sh->partitions,
               (struct partition_opts){.lease_ttl_ms = s->settings->fallback.lease_ttl_ms,
                                       .member_ttl_ms = s->settings->fallback.member_ttl_ms,
                                       .on_held = on_held,
                                       .on_lost = on_lost,
                                       .ctx = s},
               "no partitions: out of memory; this replica only watches");
    load_the_hurt(sh);
}

/* One alert for Redis being away and for documents that it holds but that cannot be read or written. */
static void watch_store(struct shell *sh, int64_t now_mono_ms)
{
    bool trouble = !store_up(sh->s->store);
    for (const struct agent *a = sh->agents; a && !trouble; a = a->hh.next)
        trouble = a->place == HURT && sh->ever_synced;
    store_trouble_now(sh->s, &sh->store_trouble, trouble, now_mono_ms,
                      "no posture gets looser, moves to a stricter one wait; agents go by the breakers' state "
                      "meanwhile");
}

/* What no event brings: lost marks, refused notices, a stream that has forgotten, the end of a tilt. */
static void tick(struct service *s)
{
    struct shell *sh = s->state;
    int64_t now = clock_mono_ms();
    watch_store(sh, now);
    share_say(sh->partitions, &sh->said, &held_now, "acting for a share of the agents");
    load_the_hurt(sh);
    effects_tick(sh, now);
    shell_look_at_apis(sh);
    bool loosen = shell_may_loosen(sh);
    for (struct agent *a = sh->agents; a; a = a->hh.next) {
        if (a->place != HERE)
            continue;
        owed_send(a);
        bool unsaid = a->pending || (sh->synced && a->last_seen_epoch != a->f.doc.epoch);
        if (unsaid && a->announcing == 0 && now - a->announced_mono_ms >= ANNOUNCE_MS)
            agent_announce(a);
        if (loosen && a->strict)
            agent_look_in_turn(a);
        else
            agent_run(a);
    }
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
    sh->armed_ms = INT64_MAX;
    loop_timer_init(&s->loop, &sh->wake, shell_on_wake, sh);
    loop_timer_init(&s->loop, &sh->looks, shell_on_looks, sh);
    loop_timer_init(&s->loop, &sh->say, shell_on_say, sh);
    loop_timer_init(&s->loop, &sh->hear, shell_on_hear, sh);
    effects_open(sh);
    for (size_t i = 0; i < s->settings->agents.n; i++)
        if (!add_agent(sh, CONF_AT(s->settings->agents, struct set_agent, i)))
            return err_set(e, "out of memory");
    metric_set(&agents_now, HASH_COUNT(sh->agents));
    metric_set(&held_now, 0);
    return 0;
}

/* What was decided is stored or forgotten; whoever acts next reads it. Giving the leases back at once saves their TTL. */
static void drain(struct service *s)
{
    struct shell *sh = s->state;
    shell_say_all(sh);
    for (struct agent *a = sh->agents; a; a = a->hh.next)
        agent_forget(a);
    share_give_back(s, &sh->partitions);
}

static void free_shell(void *ctx)
{
    struct shell *sh = ctx;
    effects_free(sh);
    free(sh->heap);
    free(sh);
}

static void close_looks(void *ctx)
{
    struct shell *sh = ctx;
    loop_timer_close(&sh->looks, free_shell);
}

static void close_wake(void *ctx)
{
    struct shell *sh = ctx;
    loop_timer_close(&sh->wake, close_looks);
}

static void stop(struct service *s)
{
    struct shell *sh = s->state;
    s->state = NULL; /* what still calls back finds nobody */
    calls_free(sh);
    effects_close(sh);
    for (struct agent *a = sh->agents, *next; a; a = next) {
        next = a->hh.next;
        remove_agent(sh, a);
    }
    targets_free(sh);
    apis_free(sh);
    loop_timer_close(&sh->hear, NULL);
    loop_timer_close(&sh->say, close_wake);
}

static const struct service_sub subs[] = {
    {SUBJECT_BREAKER ">", SERVICE_SUB_WATCH, PB_DESC(breaker_changed), in_breaker},
    {SUBJECT_HEALTH ">", SERVICE_SUB_WATCH, PB_DESC(health_changed), in_health},
    {SUBJECT_DIRECTIVE ">", SERVICE_SUB_WATCH, NULL, in_directive},
    {SUBJECT_ACK "*", SERVICE_SUB_ALL, PB_DESC(directive_ack), in_ack},
    {SUBJECT_FENCED "*", SERVICE_SUB_ALL, PB_DESC(fenced), in_fenced},
    {SUBJECT_MONITOR "*", SERVICE_SUB_ALL, PB_DESC(monitor_report), in_monitor},
    {FALLBACK_HOLDER_CMD "*", SERVICE_SUB_ALL, PB_DESC(agent_command), cmd_holder},
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
    SERVICE_TABLE(subs),
    SERVICE_TABLE(cmds),
    SERVICE_TABLE(timers),
    .start = start,
    .on_bus_up = on_bus_up,
    .on_bus_down = on_bus_down,
    .on_watch_synced = on_watch_synced,
    .on_store_up = on_store_up,
    .on_reload = on_reload,
    .drain = drain,
    .stop = stop,
};
