/* guard_shell.c - the service's life: agents and where they stand, the baseline, partitions, connections. */
#include "common/clock.h"
#include "common/share.h"
#include "guard/guard_impl.h"
#include <stdlib.h>
#include <string.h>

#define STORE_ALERT_MS 2000 /* a restart of Redis is no news */

struct guard_agent *guard_agent(struct guard *g, const char *name)
{
    struct guard_agent *a;
    HASH_FIND_STR(g->agents, name, a);
    return a;
}

/* The tilt's own beat may come later than what this turn of the loop has to handle: a gap counts before it is told. */
static bool stood_still(const struct service *s)
{
    return s->loop.tilt.last_mono_ms && clock_mono_ms() - s->loop.tilt.last_mono_ms >= TILT_GAP_MS;
}

bool guard_sure(const struct guard *g)
{
    return g->synced && g->member && bus_up(g->s->bus) && !service_tilted(g->s) && !stood_still(g->s);
}

/* ---- agents ---- */

static int add_agents(struct guard *g)
{
    const struct settings *c = g->s->settings;
    for (size_t i = 0; i < c->agents.n; i++) {
        const struct set_agent *set = CONF_AT(c->agents, struct set_agent, i);
        struct guard_agent *a = guard_agent(g, set->name);
        if (!a) {
            if (!(a = calloc(1, sizeof *a)))
                return -1;
            snprintf(a->name, sizeof a->name, "%s", set->name);
            HASH_ADD_STR(g->agents, name, a);
        }
        a->set = set;
    }
    return 0;
}

static void on_directive(struct service *s, const void *message, const struct bus_msg *m)
{
    struct guard *g = s->state;
    const PB(Directive) *d = message;
    const char *agent = subject_tail(m->subject, SUBJECT_DIRECTIVE);
    if (!d->state || !agent || strcmp(agent, d->state->agent) != 0) {
        service_bad_input(s, "directive", m, "subject and agent differ");
        return;
    }
    struct guard_agent *a = guard_agent(g, d->state->agent);
    if (!a || d->state->epoch <= a->at.epoch)
        return; /* repeated, or overtaken by a later one */
    guard_position_take(&a->at, d->state);
    guard_queue_moved(g, a);
}

/* ---- the baseline ---- */

static void say_baseline(struct guard *g)
{
    const struct baseline *b = g->baseline;
    char detail[900];
    if (b->trusted)
        snprintf(detail, sizeof detail, "version %s, sha256 %s, signed off by %s", b->version, b->sha256,
                 b->signed_by);
    else
        snprintf(detail, sizeof detail, "the strict built-in is in force: %s", b->error);
    PB(AuditRecord) r = PB_INIT(AUDIT_RECORD);
    r.action = (char *)"baseline.loaded";
    r.subject = g->s->settings->baseline.path;
    r.outcome = b->trusted ? REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_DONE
                           : REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_REFUSED;
    r.detail = detail;
    service_audit(g->s, &r, NULL, NULL);
    if (b->trusted)
        log_info("baseline in force", F_STR("version", b->version), F_STR("sha256", b->sha256),
                 F_STR("by", b->signed_by), F_INT("actions", b->actions.n));
    else
        log_warn("every action is refused", F_STR("why", detail));
    /* Where none is named nobody expects actions to pass: that is said in the log, and by each refusal. */
    guard_trouble(g, GUARD_TROUBLE_BASELINE, !b->trusted && *g->s->settings->baseline.path, detail);
}

static void load_baseline(struct guard *g)
{
    struct baseline *fresh = baseline_load(&g->s->settings->baseline), *was = g->baseline;
    bool news = !was || fresh->trusted != was->trusted || strcmp(fresh->sha256, was->sha256) != 0 ||
                strcmp(fresh->error, was->error) != 0;
    g->baseline = fresh;
    baseline_free(was);
    if (!news)
        return;
    say_baseline(g);
    for (struct guard_agent *a = g->agents; a; a = a->hh.next)
        guard_queue_moved(g, a); /* what was held for the baseline's sake may go on */
}

/* ---- partitions ---- */

static void on_held(void *ctx, unsigned partition, uint64_t fence)
{
    (void)fence;
    guard_queue_held(ctx, partition);
}

static void on_lost(void *ctx, unsigned partition)
{
    guard_queue_lost(ctx, partition);
}

static void on_members(void *ctx, size_t members)
{
    struct guard *g = ctx;
    g->member = g->member || members > 0;
}

static void on_store_up(struct service *s)
{
    struct guard *g = s->state;
    share_take(s, &g->partitions,
               (struct partition_opts){.lease_ttl_ms = s->settings->guard.lease_ttl_ms,
                                       .member_ttl_ms = s->settings->guard.member_ttl_ms,
                                       .on_held = on_held,
                                       .on_lost = on_lost,
                                       .on_members = on_members,
                                       .ctx = g},
               "no partitions: out of memory; this replica passes nothing on");
    guard_claim_store_up(g);
}

/* ---- the bus ---- */

static void on_bus_up(struct service *s)
{
    guard_queue_bus_up(s->state);
}

static void on_bus_down(struct service *s)
{
    struct guard *g = s->state;
    g->synced = false;
}

static void on_watch_synced(struct service *s)
{
    struct guard *g = s->state;
    g->synced = true;
    for (struct guard_agent *a = g->agents; a; a = a->hh.next)
        guard_queue_moved(g, a);
}

static void on_bus_turn(struct service *s)
{
    struct guard *g = s->state;
    guard_audit_flush(g);
    guard_turn(g);
}

/* ---- time ---- */

static void tick(struct service *s)
{
    struct guard *g = s->state;
    int64_t now = clock_mono_ms();
    guard_figures(g);
    if (store_up(s->store))
        g->store_gone_ms = 0;
    else if (g->store_gone_ms == 0)
        g->store_gone_ms = now;
    bool gone = g->store_gone_ms && now - g->store_gone_ms >= STORE_ALERT_MS;
    if (gone || store_up(s->store))
        guard_trouble(g, GUARD_TROUBLE_STORE, gone, store_last_error(s->store));
    guard_claim_store_up(g);
    guard_queue_tick(g);
}

static void look_at_baseline(struct service *s)
{
    struct guard *g = s->state;
    int64_t now = clock_mono_ms();
    if (now - g->looked_ms < s->settings->baseline.check_ms)
        return;
    g->looked_ms = now;
    if (baseline_stale(g->baseline, &s->settings->baseline))
        load_baseline(g);
}

static void on_reload(struct service *s, const struct settings *was)
{
    struct guard *g = s->state;
    (void)was;
    for (struct guard_agent *a = g->agents; a; a = a->hh.next)
        a->set =
            settings_agent(s->settings, a->name); /* NULL: what is under way for it is refused at its next step */
    if (add_agents(g))
        log_error("agents not added: out of memory");
    load_baseline(g);
    for (struct guard_agent *a = g->agents; a; a = a->hh.next)
        guard_queue_moved(g, a);
}

/* ---- life ---- */

/* Calls under way have their own limits; the skeleton waits 4 s at most, and what is cut off is claimed again when its hold is over. */
static void look_if_drained(struct guard *g)
{
    guard_audit_flush(g);
    guard_turn(g);
    if (g->acts > 0 || !guard_audit_idle(g))
        return;
    loop_timer_stop(&g->drain_look);
    share_give_back(g->s, &g->partitions);
}

static void on_drain_look(void *ctx)
{
    look_if_drained(ctx);
}

static int start(struct service *s, struct err *e)
{
    struct guard *g = calloc(1, sizeof *g);
    if (!g)
        return err_set(e, "out of memory");
    s->state = g;
    g->s = s;
    g->ended_end = &g->ended;
    g->waiting_end = &g->waiting;
    loop_timer_init(&s->loop, &g->drain_look, on_drain_look, g);
    if (add_agents(g))
        return err_set(e, "out of memory");
    if (guard_claim_open(g, e) || guard_audit_open(g, e))
        return -1;
    http_keep(s->http, (size_t)s->settings->guard.at_once);
    load_baseline(g);
    return guard_queue_open(g, e);
}

static void drain(struct service *s)
{
    struct guard *g = s->state;
    g->draining = true;
    loop_timer_start(&g->drain_look, 10, 10);
}

static void free_guard(void *ctx)
{
    struct guard *g = ctx;
    for (struct guard_agent *a = g->agents, *next; a; a = next) {
        next = a->hh.next;
        HASH_DEL(g->agents, a);
        guard_fence_free(a);
        free(a->limits);
        free(a);
    }
    guard_claim_close(g);
    guard_audit_close(g);
    baseline_free(g->baseline);
    free(g);
}

static void stop(struct service *s)
{
    struct guard *g = s->state;
    guard_queue_close(g);
    if (g->acts > 0 || g->turn_due)
        return; /* cut off: what still calls back finds its state; the process ends now anyway */
    s->state = NULL;
    loop_timer_close(&g->drain_look, free_guard);
}

static const struct service_sub subs[] = {
    {SUBJECT_ACTION "*", SERVICE_SUB_QUEUE, NULL, guard_on_action},
    {SUBJECT_DIRECTIVE ">", SERVICE_SUB_WATCH, PB_DESC(directive), on_directive},
    {SUBJECT_FENCE "*", SERVICE_SUB_ALL, PB_DESC(fence), guard_on_fence},
};
static const struct service_cmd cmds[] = {
    {"baseline", PB_DESC(guard_command), guard_on_baseline},
    {"queue_list", PB_DESC(guard_command), guard_queue_cmd},
    {"queue_show", PB_DESC(guard_command), guard_queue_cmd},
    {"queue_drop", PB_DESC(guard_command), guard_queue_cmd},
    {"queue_release", PB_DESC(guard_command), guard_queue_cmd},
};
static const struct service_timer timers[] = {{1000, tick}, {50, look_at_baseline}};

const struct service_desc guard_service = {
    .name = "guard",
    .description = "the gate that agents' actions pass",
    .needs = SERVICE_STORE | SERVICE_HTTP | SERVICE_OUTBOX,
    SERVICE_TABLE(subs),
    SERVICE_TABLE(cmds),
    SERVICE_TABLE(timers),
    .start = start,
    .on_bus_up = on_bus_up,
    .on_bus_down = on_bus_down,
    .on_bus_turn = on_bus_turn,
    .on_watch_synced = on_watch_synced,
    .on_store_up = on_store_up,
    .on_reload = on_reload,
    .drain = drain,
    .stop = stop,
};
