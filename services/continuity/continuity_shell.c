/* continuity_shell.c - the service's life: start, timers, connections, reload, and what the parts ask of the room. */
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include "common/utf8.h"
#include "continuity/continuity_impl.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

METRIC_DEFINE(open_now, METRIC_GAUGE, "redoubt_continuity_open_incidents", "Incidents that are not closed.");
METRIC_DEFINE(lost_signals, METRIC_COUNTER, "redoubt_continuity_signals_lost_total",
              "Signals that could not be kept for want of memory; they come again with the next replay.");

#define TICK_MS  1000
#define PRUNE_MS 60000
#define MORE_MS  2
#define FLUSH_MS 100 /* what changes in this time is one document */

/* ---- for the parts ---- */

struct service *continuity_service_of(struct continuity *c)
{
    return c->s;
}

const struct set_continuity *continuity_set(const struct continuity *c)
{
    return &c->s->settings->continuity;
}

struct board *continuity_board(struct continuity *c)
{
    return c->board;
}

uint64_t continuity_fence(const struct continuity *c)
{
    return c->leads ? c->fence : 0;
}

bool continuity_leads(const struct continuity *c)
{
    return c->leads;
}

const char *continuity_dir(const struct continuity *c)
{
    return c->dir;
}

bool continuity_incident_open(const struct continuity *c, const char **ret_id)
{
    for (const struct incident *x = board_next(c->board, NULL, true); x; x = board_next(c->board, x, true))
        if (!x->drill && x->phase != REDOUBT__V1__INCIDENT_PHASE__INCIDENT_PHASE_LEARN) {
            *ret_id = x->id;
            return true;
        }
    return false;
}

void continuity_signal(struct continuity *c, const struct signal *s)
{
    if (!c->leads)
        return;
    if (!board_signal(c->board, s, continuity_now_ms(c)))
        metric_add(&lost_signals, 1);
    room_arm(c);
}

void continuity_reported(struct continuity *c, const char *id, const char *name)
{
    struct incident_event ev = {.kind = INCIDENT_REPORTED, .by = c->s->desc->name, .text = name};
    (void)room_event(c, id, &ev, NULL);
}

/* ---- the board ---- */

static bool of_agent(enum signal_dimension d)
{
    return d <= SIGNAL_LINK;
}

/* The watches may know agents and targets that are not in the settings (any more). What has cleared is told in any case. */
void room_signal(struct continuity *c, const struct signal *s)
{
    if (!c->leads)
        return;
    if (s->condition != 0 && of_agent(s->dimension) && !settings_agent(c->s->settings, s->subject))
        return;
    if (s->condition != 0 && s->dimension == SIGNAL_TARGET && !in_knows_target(c, s->subject))
        return;
    continuity_signal(c, s);
}

bool room_event(struct continuity *c, const char *id, const struct incident_event *ev, struct incident **ret)
{
    struct incident *x = NULL;
    bool found = board_event(c->board, id, ev, continuity_now_ms(c), &x);
    if (ret)
        *ret = x;
    room_arm(c);
    return found;
}

static void on_wake(void *ctx)
{
    struct continuity *c = ctx;
    if (c->leads)
        room_arm(c);
    else
        lead_tick(c);
}

static void on_flush(void *ctx)
{
    struct continuity *c = ctx;
    c->flushed_mono_ms = clock_mono_ms();
    if (!c->leads)
        return;
    say_flush(c, false);
    c->more = say_waits(c);
    room_arm(c);
}

/* What is due now, and a timer for what is next. */
void room_arm(struct continuity *c)
{
    if (!c->leads)
        return;
    int64_t now = continuity_now_ms(c), next = board_tick(c->board, now);
    if (next == INT64_MAX)
        loop_timer_stop(&c->wake);
    else
        loop_timer_start(&c->wake, next > now ? (next - now < PRUNE_MS ? next - now : PRUNE_MS) : 1, 0);
    if (say_waits(c) && !loop_timer_active(&c->flush)) {
        /* More than went at once goes on soon; what has just changed may change again. */
        int64_t since = clock_mono_ms() - c->flushed_mono_ms, wait = c->more ? MORE_MS : FLUSH_MS;
        loop_timer_start(&c->flush, since >= wait ? 0 : wait - since, 0);
    }
}

/* ---- texts ---- */

const char *room_text(char *buf, size_t size, const char *text)
{
    size_t n = text ? strlen(text) : 0;
    if (n >= size)
        n = size - 1;
    if (n > 0)
        n = utf8_valid_until(text, n);
    if (n > 0)
        memcpy(buf, text, n);
    buf[n] = '\0';
    return buf;
}

/* ---- timers ---- */

static void tick(struct service *s)
{
    struct continuity *c = s->state;
    int64_t mono = clock_mono_ms(), now;
    lead_tick(c);
    if (mono - c->anchored_mono_ms >= lead_beat_ms(c))
        clock_keep(c);
    metric_set(&open_now, (int64_t)board_open(c->board));
    if (!c->leads)
        return;
    now = continuity_now_ms(c);
    parts_tick(c, now);
    if (!c->leads)
        return;
    if (mono - c->pruned_mono_ms >= PRUNE_MS) {
        c->pruned_mono_ms = mono;
        board_prune(c->board, now - continuity_set(c)->reports.keep_closed_ms, docs_forget, c);
    }
    room_arm(c);
    status_tick(c, now);
}

/* ---- connections ---- */

static void on_bus_up(struct service *s)
{
    lead_bus(s->state, true);
}

static void on_bus_down(struct service *s)
{
    lead_bus(s->state, false);
}

static void on_watch_synced(struct service *s)
{
    struct continuity *c = s->state;
    c->synced = c->ever_synced = true;
    lead_tick(c);
}

static void on_store_up(struct service *s)
{
    lead_store_up(s->state);
}

static void on_store_down(struct service *s)
{
    lead_store_down(s->state);
}

/* ---- settings ---- */

static void raise_again(void *ctx, const struct signal *s)
{
    room_signal(ctx, s);
}

struct gone {
    struct continuity *c;
    const char *why;
};

static void clear(void *ctx, const struct signal *s)
{
    struct gone *g = ctx;
    struct signal over = *s;
    over.condition = 0;
    over.at_ms = continuity_now_ms(g->c);
    over.summary = g->why;
    continuity_signal(g->c, &over);
}

/* Agents and targets that are new are told of; of those that are gone nothing holds any more. */
static void on_reload(struct service *s, const struct settings *was)
{
    struct continuity *c = s->state;
    if (!board_reload(c->board, &s->settings->continuity))
        log_error("settings of incidents not taken over: out of memory; the old objectives go on");
    if (c->leads) {
        struct gone g = {.c = c, .why = "not in the settings any more"};
        for (size_t i = 0; i < was->agents.n; i++) {
            const char *name = CONF_AT(was->agents, struct set_agent, i)->name;
            if (!settings_agent(s->settings, name))
                sight_each_of(c->sight, name, clear, &g);
        }
        for (size_t i = 0; i < was->targets.n; i++) {
            const char *name = CONF_AT(was->targets, struct set_target, i)->name;
            if (!in_knows_target(c, name))
                sight_each_of(c->sight, name, clear, &g);
        }
        sight_each(c->sight, raise_again, c);
        avail_known(c);
        parts_reload(c);
        c->status_mono_ms = 0;
        room_arm(c);
    }
}

/* ---- life ---- */

static int start(struct service *s, struct err *e)
{
    struct continuity *c = calloc(1, sizeof *c);
    if (!c)
        return err_set(e, "out of memory");
    s->state = c;
    c->s = s;
    loop_timer_init(&s->loop, &c->wake, on_wake, c);
    loop_timer_init(&s->loop, &c->flush, on_flush, c);
    snprintf(c->dir, sizeof c->dir, "%s/continuity", s->settings->data_dir);
    if (mkdir(c->dir, 0700) && errno != EEXIST)
        return err_set(e, "cannot make %s: %s", c->dir, strerror(errno));
    c->sight = sight_new();
    c->bus_down_mono_ms = c->store_down_mono_ms = c->heard_mono_ms = clock_mono_ms();
    clock_start(c);
    if (!c->sight || !docs_rebuild(c))
        return err_set(e, "out of memory");
    return 0;
}

static void drain(struct service *s)
{
    lead_end(s->state);
}

static void room_free(void *ctx)
{
    free(ctx);
}

static void on_wake_closed(void *ctx)
{
    struct continuity *c = ctx;
    loop_timer_close(&c->flush, room_free);
}

static void stop(struct service *s)
{
    struct continuity *c = s->state;
    s->state = NULL;
    board_free(c->board);
    sight_free(c->sight);
    docs_free(c);
    loop_timer_close(&c->wake, on_wake_closed);
}

/* ---- the table ---- */

#define WATCH(subject_, desc_, fn_)                                                                                  \
    {                                                                                                                \
        subject_ ">", SERVICE_SUB_WATCH, PB_DESC(desc_), fn_                                                         \
    }
static const struct service_sub subs[] = {
    WATCH(SUBJECT_DIRECTIVE, directive, room_directive),
    WATCH(SUBJECT_HEALTH, health_changed, room_health),
    WATCH(SUBJECT_BREAKER, breaker_changed, room_breaker),
    WATCH(SUBJECT_ROLLBACK, rollback_changed, in_rollback),
    WATCH(SUBJECT_PROBLEM, problem_changed, in_problem),
    WATCH(SUBJECT_CHECKPOINT, audit_checkpoint, in_checkpoint),
    WATCH(SUBJECT_CONTINUITY_INCIDENT, incident_changed, docs_incident),
    WATCH(SUBJECT_CONTINUITY_AGENT, availability_state, docs_agent),
    WATCH(SUBJECT_CONTINUITY_DEMONSTRATED, demonstrations, docs_shown),
    WATCH(SUBJECT_CONTINUITY_BACKUP, backup_state, docs_backup),
    WATCH(SUBJECT_CONTINUITY_DRILL, drill_state, docs_drill),
    {SUBJECT_CONTINUITY_CONFIG, SERVICE_SUB_WATCH, PB_DESC(config_state), docs_config},
    {SUBJECT_CONTINUITY_TIME, SERVICE_SUB_WATCH, PB_DESC(continuity_time), clock_seen},
    {SUBJECT_ACK ">", SERVICE_SUB_ALL, PB_DESC(directive_ack), room_ack},
    {SUBJECT_DELIVERY ">", SERVICE_SUB_ALL, PB_DESC(delivery_receipt), in_delivery},
    {LEADER_CMD ">", SERVICE_SUB_ALL, PB_DESC(continuity_command), cmd_leader},
};
#define CMD(verb_)                                                                                                   \
    {                                                                                                                \
        verb_, PB_DESC(continuity_command), room_command                                                             \
    }
static const struct service_cmd cmds[] = {
    CMD("incidents"),    CMD("incident"),        CMD("open"),        CMD("note"),
    CMD("assign"),       CMD("advance"),         CMD("close"),       CMD("status"),
    CMD("availability"), CMD("report"),          CMD("backup"),      CMD("test"),
    CMD("drill"),        CMD("config_history"),  CMD("config_diff"), CMD("config_put"),
    CMD("config_apply"), CMD("config_rollback"),
};
static const struct service_timer timers[] = {{TICK_MS, tick}};

const struct service_desc continuity_service = {
    .name = "continuity",
    .description = "incidents, objectives, backups, drills and reports",
    .needs = SERVICE_STORE | SERVICE_OUTBOX,
    SERVICE_TABLE(subs),
    SERVICE_TABLE(cmds),
    SERVICE_TABLE(timers),
    .start = start,
    .on_bus_up = on_bus_up,
    .on_bus_down = on_bus_down,
    .on_watch_synced = on_watch_synced,
    .on_store_up = on_store_up,
    .on_store_down = on_store_down,
    .on_reload = on_reload,
    .drain = drain,
    .stop = stop,
};
