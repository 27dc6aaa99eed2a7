/* rollback_shell.c - the service's life: partitions, deployments from the settings, timers, connections. */
#include "rollback/rollback_shell.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

METRIC_DEFINE(deployments_now, METRIC_GAUGE, "redoubt_rollback_deployments", "Deployments that this replica knows.");
METRIC_DEFINE(held_now, METRIC_GAUGE, "redoubt_rollback_partitions",
              "Partitions of deployments that this replica acts for.");

#define TICK_MS     1000
#define STOP_MS     3000 /* a writer has this long to go on when the service ends; the runtime waits 4 s */
#define ANNOUNCE_MS 5000 /* an announcement that did not come back is made again */

struct deployment *rollback_room_find(struct rollback_room *r, const char *name)
{
    struct deployment *d;
    HASH_FIND_STR(r->deployments, name, d);
    return d;
}

uint64_t deployment_fence(const struct deployment *d)
{
    return d->room->partitions ? partition_fence(d->room->partitions, d->partition) : 0;
}

/* ---- deployments from the settings ---- */

static void on_wake(void *ctx)
{
    struct deployment *d = ctx;
    d->wake_at_ms = INT64_MAX;
    deployment_tick(d);
}

static struct deployment *add(struct rollback_room *r, const struct set_deployment *set)
{
    struct deployment *d = calloc(1, sizeof *d);
    if (!d)
        return NULL;
    snprintf(d->name, sizeof d->name, "%s", set->name);
    snprintf(d->key, sizeof d->key, "redoubt:{rb:%s}:doc", set->name);
    d->room = r;
    d->place = AWAY;
    d->queue_end = &d->queue;
    d->wake_at_ms = INT64_MAX;
    d->rest_side = -1;
    d->partition = partition_of(d->name);
    if (!deployment_take_settings(d, set)) {
        deployment_settings_free(d);
        free(d);
        return NULL;
    }
    struct loop *l = &r->s->loop;
    loop_timer_init(l, &d->wake, on_wake, d);
    loop_timer_init(l, &d->observe, pace_on_observe, d);
    loop_timer_init(l, &d->glance, deployment_on_glance, d);
    loop_timer_init(l, &d->again, rollback_put_again, d);
    loop_timer_init(l, &d->starting_limit, cmd_rollback_on_limit, d);
    d->timers = true;
    HASH_ADD_STR(r->deployments, name, d);
    DL_APPEND2(r->of[d->partition], d, mate_prev, mate_next);
    return d;
}

static void drop(struct rollback_room *r, struct deployment *d)
{
    deployment_forget(d);
    HASH_DEL(r->deployments, d);
    DL_DELETE2(r->of[d->partition], d, mate_prev, mate_next);
    deployment_free(d);
}

/* Its job goes on to its end by the settings that it began with. */
static void leave(struct rollback_room *r, struct deployment *d)
{
    if (!d->doc || d->place == AWAY || !rollback_busy(d->doc)) {
        drop(r, d);
        return;
    }
    if (!d->leaving)
        log_warn("a deployment left the settings while a job is under way; it goes when that has ended",
                 F_STR("deployment", d->name), F_STR("job", d->doc->job.id));
    d->leaving = true;
}

static void take_new(struct deployment *d, const struct set_deployment *set)
{
    struct rollback_room *r = d->room;
    d->leaving = false;
    if (d->next_set) {
        conf_free(r->schema, d->next_set);
        d->next_set = NULL;
    }
    if (conf_same(r->schema, d->set, set))
        return;
    d->next_set = conf_copy(r->schema, set);
    if (!d->next_set) {
        log_error("settings of a deployment not taken over: out of memory", F_STR("deployment", d->name));
        return;
    }
    deployment_settle_settings(d);
    if (d->next_set)
        log_info("a job is under way: it goes on with the settings that it began with", F_STR("deployment", d->name));
}

static const struct set_deployment *set_of(const struct settings *s, const char *name)
{
    for (size_t i = 0; i < s->rollback.deployments.n; i++) {
        const struct set_deployment *set = CONF_AT(s->rollback.deployments, struct set_deployment, i);
        if (strcmp(set->name, name) == 0)
            return set;
    }
    return NULL;
}

static void on_reload(struct service *s, const struct settings *was)
{
    struct rollback_room *r = s->state;
    (void)was;
    for (struct deployment *d = r->deployments, *next; d; d = next) {
        next = d->hh.next;
        const struct set_deployment *set = set_of(s->settings, d->name);
        if (set)
            take_new(d, set);
        else
            leave(r, d);
    }
    for (size_t i = 0; i < s->settings->rollback.deployments.n; i++) {
        const struct set_deployment *set = CONF_AT(s->settings->rollback.deployments, struct set_deployment, i);
        struct deployment *d = rollback_room_find(r, set->name);
        if (!d && !(d = add(r, set)))
            log_error("deployment not added: out of memory", F_STR("deployment", set->name));
        if (d && d->place == AWAY && deployment_fence(d) != 0)
            deployment_load(d);
    }
    metric_set(&deployments_now, HASH_COUNT(r->deployments));
}

/* ---- the end ---- */

/* When no writer is waited for any more. */
static void give_back(struct rollback_room *r)
{
    for (const struct deployment *d = r->deployments; d; d = d->hh.next)
        if (d->stopping)
            return;
    if (r->given_back)
        return;
    r->given_back = true;
    loop_timer_stop(&r->stop_limit);
    share_give_back(r->s, &r->partitions);
}

static void on_data_stopped(void *ctx)
{
    struct deployment *d = ctx;
    if (!d->stopping)
        return; /* it was lost meanwhile */
    d->stopping = false;
    deployment_forget(d);
    give_back(d->room);
}

static void on_stop_limit(void *ctx)
{
    struct rollback_room *r = ctx;
    for (struct deployment *d = r->deployments; d; d = d->hh.next) {
        if (d->stopping)
            log_error("a writer of learning data may be paused still: it did not answer while this replica ended",
                      F_STR("deployment", d->name), F_INT("limit_ms", STOP_MS),
                      F_STR("next", "whoever takes over pauses and resumes it anew"));
        d->stopping = false;
        deployment_forget(d);
    }
    give_back(r);
}

/* ---- partitions ---- */

static void on_held(void *ctx, unsigned partition, uint64_t fence)
{
    struct service *s = ctx;
    struct rollback_room *r = s->state;
    struct deployment *d;
    if (!r || s->draining)
        return;
    log_debug("acting for a partition", F_INT("partition", partition), F_INT("fence", fence));
    DL_FOREACH2(r->of[partition], d, mate_next)
    {
        if (d->place != AWAY)
            deployment_forget(d); /* got again before its loss was noticed */
        deployment_load(d);
    }
}

static void on_lost(void *ctx, unsigned partition)
{
    struct service *s = ctx;
    struct rollback_room *r = s->state;
    struct deployment *d;
    if (!r)
        return;
    log_debug("not acting for a partition any more", F_INT("partition", partition));
    DL_FOREACH2(r->of[partition], d, mate_next)
    deployment_forget(d);
    if (s->draining)
        give_back(r);
}

static void load_the_hurt(struct rollback_room *r)
{
    if (!store_up(r->s->store))
        return;
    for (struct deployment *d = r->deployments; d; d = d->hh.next)
        if (d->place == HURT && deployment_fence(d) != 0)
            deployment_load(d);
}

/* ---- connections ---- */

static void on_bus_up(struct service *s)
{
    struct rollback_room *r = s->state;
    r->bus_up = true;
    for (struct deployment *d = r->deployments; d; d = d->hh.next)
        d->n_on_stream = d->next_on_stream = 0; /* it may be another stream than before */
}

static void on_bus_down(struct service *s)
{
    struct rollback_room *r = s->state;
    r->bus_up = r->synced = false;
    for (struct deployment *d = r->deployments; d; d = d->hh.next)
        d->last_seen_epoch = 0; /* the replay shows what the stream still has */
}

static void on_watch_synced(struct service *s)
{
    struct rollback_room *r = s->state;
    r->synced = r->ever_synced = true;
    load_the_hurt(r);
}

static void on_store_up(struct service *s)
{
    struct rollback_room *r = s->state;
    share_take(s, &r->partitions,
               (struct partition_opts){.lease_ttl_ms = s->settings->rollback.lease_ttl_ms,
                                       .member_ttl_ms = s->settings->rollback.member_ttl_ms,
                                       .on_held = on_held,
                                       .on_lost = on_lost,
                                       .ctx = s},
               "no partitions: out of memory; this replica does nothing");
    load_the_hurt(r);
}

static void watch_store(struct rollback_room *r, int64_t now_mono_ms)
{
    bool trouble = !store_up(r->s->store);
    for (const struct deployment *d = r->deployments; d && !trouble; d = d->hh.next)
        trouble = d->place == HURT && r->ever_synced;
    store_trouble_now(r->s, &r->store_trouble, trouble, now_mono_ms, "jobs stay where they are, no job begins");
}

/* An emptied Redis loses all of them: said once for all. */
static void say_restored(struct rollback_room *r)
{
    if (r->restored > 0)
        log_warn("documents restored", F_INT("documents", r->restored), F_STR("first", r->restored_first),
                 F_STR("why", r->restored_why));
    r->restored = 0;
}

/* What no event brings: lost marks, a stream that has forgotten, the end of a tilt, deployments that may go now. */
static void tick(struct service *s)
{
    struct rollback_room *r = s->state;
    int64_t now = clock_mono_ms();
    bool tilt_over = r->tilted && !service_tilted(s);
    if (!r->tilted && service_tilted(s))
        log_warn("suspended, or the clock has jumped: no act of a rollback is begun for a moment; holds and aborts "
                 "are taken");
    r->tilted = service_tilted(s);
    watch_store(r, now);
    share_say(r->partitions, &r->said, &held_now, "acting for a share of the deployments");
    say_restored(r);
    load_the_hurt(r);
    for (struct deployment *d = r->deployments, *next; d; d = next) {
        next = d->hh.next;
        if (d->leaving && (!d->doc || (d->place == HERE && !rollback_busy(d->doc)) || d->place == AWAY)) {
            drop(r, d);
            continue;
        }
        if (d->place != HERE)
            continue;
        bool unsaid = d->pending || (r->synced && d->last_seen_epoch != d->doc->epoch);
        if (unsaid && d->announcing == 0 && now - d->announced_mono_ms >= ANNOUNCE_MS)
            deployment_announce(d);
        if (tilt_over)
            deployment_taken(d);
        else if (rollback_busy(d->doc) && !loop_timer_active(&d->wake))
            deployment_tick(d);
    }
    deployment_resettle_metrics(r);
}

/* ---- the stream ---- */

static void on_changed(struct service *s, const void *message, const struct bus_msg *m)
{
    const PB(RollbackChanged) *c = message;
    struct deployment *d = rollback_room_find(s->state, c->deployment);
    const char *subject = subject_tail(m->subject, SUBJECT_ROLLBACK);
    if (!subject || strcmp(subject, c->deployment) != 0) {
        service_bad_input(s, "rollback's announcement", m, "its subject names another deployment");
        return;
    }
    if (!d)
        return;
    d->last_seen_epoch = c->epoch;
    if (c->epoch >= d->seen_epoch && rollback_bytes_copy(&d->seen, m->data, m->len))
        d->seen_epoch = c->epoch;
}

/* ---- life ---- */

static const struct conf_schema *deployment_schema(void)
{
    for (size_t i = 0; i < settings_schema.n; i++)
        if (strcmp(settings_schema.fields[i].key, "rollback") == 0) {
            const struct conf_schema *s = settings_schema.fields[i].schema;
            for (size_t k = 0; k < s->n; k++)
                if (strcmp(s->fields[k].key, "deployments") == 0)
                    return s->fields[k].schema;
        }
    return NULL;
}

static int start(struct service *s, struct err *e)
{
    struct rollback_room *r = calloc(1, sizeof *r);
    if (!r)
        return err_set(e, "out of memory");
    s->state = r;
    r->s = s;
    loop_timer_init(&s->loop, &r->stop_limit, on_stop_limit, r);
    r->schema = deployment_schema();
    if (!r->schema)
        return err_set(e, "the settings have no `rollback.deployments`");
    for (size_t i = 0; i < s->settings->rollback.deployments.n; i++)
        if (!add(r, CONF_AT(s->settings->rollback.deployments, struct set_deployment, i)))
            return err_set(e, "out of memory");
    metric_set(&deployments_now, HASH_COUNT(r->deployments));
    metric_set(&held_now, 0);
    return 0;
}

/* What was decided is stored or forgotten; what is in hand is asked for again by whoever acts next. A writer that is paused for a save goes on first, and has
 * said so. Giving the leases back at once saves their TTL. */
static void drain(struct service *s)
{
    struct rollback_room *r = s->state;
    for (struct deployment *d = r->deployments; d; d = d->hh.next)
        if (d->data) {
            d->stopping = true;
            data_stop(d->data, on_data_stopped, d);
        } else {
            deployment_forget(d);
        }
    loop_timer_start(&r->stop_limit, STOP_MS, 0);
    give_back(r);
}

static void room_free(void *ctx)
{
    free(ctx);
}

static void stop(struct service *s)
{
    struct rollback_room *r = s->state;
    s->state = NULL; /* what still calls back finds nobody */
    for (struct deployment *d = r->deployments, *next; d; d = next) {
        next = d->hh.next;
        HASH_DEL(r->deployments, d);
        deployment_free(d);
    }
    loop_timer_close(&r->stop_limit, room_free);
}

static const struct service_sub subs[] = {
    {SUBJECT_ROLLBACK ">", SERVICE_SUB_WATCH, PB_DESC(rollback_changed), on_changed},
    {ROLLBACK_HOLDER_CMD "*", SERVICE_SUB_ALL, PB_DESC(rollback_command), cmd_rollback_holder},
};
static const struct service_cmd cmds[] = {
    {"start", PB_DESC(rollback_command), cmd_rollback}, {"plan", PB_DESC(rollback_command), cmd_rollback},
    {"hold", PB_DESC(rollback_command), cmd_rollback},  {"resume", PB_DESC(rollback_command), cmd_rollback},
    {"abort", PB_DESC(rollback_command), cmd_rollback}, {"emergency", PB_DESC(rollback_command), cmd_rollback},
    {"state", PB_DESC(rollback_command), cmd_rollback},
};
static const struct service_timer timers[] = {{TICK_MS, tick}};

const struct service_desc rollback_service = {
    .name = "rollback",
    .description = "versions of what is deployed, and the gradual way back to one",
    .needs = SERVICE_STORE | SERVICE_HTTP | SERVICE_OUTBOX,
    SERVICE_TABLE(subs),
    SERVICE_TABLE(cmds),
    SERVICE_TABLE(timers),
    .check = rollback_open_check,
    .start = start,
    .on_bus_up = on_bus_up,
    .on_bus_down = on_bus_down,
    .on_watch_synced = on_watch_synced,
    .on_store_up = on_store_up,
    .on_reload = on_reload,
    .drain = drain,
    .stop = stop,
};
