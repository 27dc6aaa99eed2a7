/* client_bus.c - what the client hears and says: directives and acknowledgements, breaker states, permits, heartbeats. */
#include "client/client_priv.h"
#include "common/clock.h"
#include "common/metric.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALLOW_TIMEOUT_MS 1000
#define ASK_AGAIN_MIN_MS 20
#define ASK_AGAIN_MAX_MS 5000
#define ACK_GIVE_UP_MS   30000 /* without it the directive comes again */
#define RESTART_MS       2000  /* so long a restart waits for the acknowledgement to be stored */
#define MONITOR_MS       60000 /* out of touch, and no directive has said how often */

METRIC_DEFINE(given, METRIC_COUNTER, "redoubt_client_directives_total", "Directives given to the agent.");
METRIC_DEFINE(old, METRIC_COUNTER, "redoubt_client_directives_old_total",
              "Directives with a lower epoch than the agent's.");
METRIC_DEFINE(bad, METRIC_COUNTER, "redoubt_client_bad_messages_total",
              "Messages that break the contract, heard or about to be said.");
METRIC_DEFINE(frozen, METRIC_COUNTER, "redoubt_client_out_of_touch_total",
              "Times that the agent was frozen for being out of touch.");
METRIC_DEFINE(advised, METRIC_COUNTER, "redoubt_client_advice_total",
              "Times that a breaker replica without shared state advised against a target.");
METRIC_DEFINE(full, METRIC_COUNTER, "redoubt_client_targets_refused_total", "Breaker states beyond the table.");

/* ---- acknowledgements ---- */

static void on_acked(void *ctx, const struct bus_stored *stored);

static void ack(redoubt *r, uint64_t epoch, int status, const char *detail)
{
    char id[160];
    size_t len;
    PB(DirectiveAck) a = REDOUBT__V1__DIRECTIVE_ACK__INIT;
    a.agent = r->agent;
    a.instance = r->instance;
    a.epoch = epoch;
    a.status = (PB(AckStatus))status;
    a.detail = (char *)(uintptr_t)detail;
    a.applied_unix_ms = clock_wall_ms();
    a.llm_target = r->llm_target;
    /* Each one is news, even for an epoch that was confirmed before: the stream must not take it for a repeat. */
    snprintf(id, sizeof id, "ack/%s/%" PRIu64 "/%s-%" PRIu64, r->agent, epoch, r->boot, ++r->acks);
    void *data = wire_pack(&a, &len, NULL);
    if (!data) {
        metric_add(&bad, 1);
        return;
    }
    const struct bus_out out = {.subject = r->ack_subject, .id = id, .type = wire_type(&a), .data = data, .len = len};
    bus_store(r->bus, &out, ACK_GIVE_UP_MS, on_acked, r);
    free(data);
}

/* What the agent says in `detail` is text of its own making: cut to valid UTF-8 by giving up what is not ASCII. */
static void plain(char *text, size_t cap)
{
    text[cap - 1] = '\0';
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || (unsigned char)*text > 0x7e)
            *text = '?';
}

/* ---- restarts ---- */

static void restart_now(void *ctx)
{
    redoubt *r = ctx;
    if (!r->restart.due || r->leaving)
        return;
    r->restart.due = false;
    r->restart.told = r->restart.epoch;
    loop_timer_stop(&r->restart.timer);
    r->o.on_restart(r->o.ctx, r->restart.epoch);
}

static void on_acked(void *ctx, const struct bus_stored *stored)
{
    if (stored->status != BUS_CLOSED)
        restart_now(ctx);
}

void client_bus_init(redoubt *r)
{
    loop_timer_init(&r->loop, &r->restart.timer, restart_now, r);
}

/* The position says "restart" until the suite sees that it has helped, through any number of directives: asked is by the step, or by
 * the first that says so. The first directive of all finds a process that has just begun. */
static void look_for_restart(redoubt *r, const PB(Directive) * d)
{
    bool asked = d->state->restart_requested && r->restart.directed && d->state->epoch > r->restart.told &&
                 (d->step == REDOUBT__V1__STEP__STEP_REQUEST_RESTART || !r->restart.requested);
    if (d->state->epoch > r->restart.epoch && !d->state->restart_requested)
        r->restart.due = false; /* no longer */
    r->restart.directed = true;
    r->restart.requested = d->state->restart_requested;
    if (!asked || !r->o.on_restart)
        return;
    r->restart.due = true;
    r->restart.epoch = d->state->epoch;
    loop_timer_start(&r->restart.timer, RESTART_MS, 0);
}

/* ---- directives ---- */

static int stricter(int a, int b)
{
    return a > b ? a : b;
}

/* Calls the agent. Stricter counts at once, looser only once the agent is there. */
static enum redoubt_ack tell(redoubt *r, const redoubt_directive *d)
{
    int before = atomic_load(&r->posture);
    unsigned load = atomic_load(&r->load);
    atomic_store(&r->posture, stricter(before, (int)d->posture));
    atomic_store(&r->load, d->load_percent < load ? d->load_percent : load);
    r->last_detail[0] = '\0';
    enum redoubt_ack a = r->o.on_directive(r->o.ctx, d, r->last_detail);
    plain(r->last_detail, sizeof r->last_detail);
    r->last_failed = a != REDOUBT_APPLIED && a != REDOUBT_ALREADY;
    if (!r->last_failed) {
        atomic_store(&r->posture, (int)d->posture);
        atomic_store(&r->load, d->load_percent);
        snprintf(r->llm_target, sizeof r->llm_target, "%s", d->llm_target);
    }
    return r->last_failed ? REDOUBT_FAILED : a;
}

static void give(redoubt *r, const PB(Directive) * d)
{
    const PB(AgentState) *s = d->state;
    const redoubt_directive out = {
        .epoch = s->epoch,
        .posture = (enum redoubt_posture)s->posture,
        .step = (int)d->step,
        .llm_index = s->llm_index,
        .llm_target = s->llm_target,
        .llm_model = s->llm_model,
        .automation_enabled = s->automation == REDOUBT__V1__AUTOMATION_MODE__AUTOMATION_MODE_ENABLED,
        .backend = (int)s->backend,
        .ramp_percent = s->ramp_percent,
        .reason = d->reason,
        /* A suite of an older version does not say these. */
        .resources = s->resources ? (int)s->resources : (int)REDOUBT__V1__RESOURCE_MODE__RESOURCE_MODE_OK,
        .link = s->link ? (int)s->link : (int)REDOUBT__V1__LINK_MODE__LINK_MODE_UP,
        .load_percent = s->load_percent ? s->load_percent : 100,
        .restart_requested = s->restart_requested,
        .llm_waiting = s->llm_waiting,
        .llm_wanted = s->llm_wanted,
        .monitor_interval_ms = s->monitor_interval_ms,
    };
    metric_add(&given, 1);
    enum redoubt_ack a = tell(r, &out);
    if (!r->last_failed)
        atomic_store(&r->epoch, s->epoch);
    look_for_restart(r, d);
    client_monitor_every(r, s->monitor_interval_ms);
    client_action_turn(r);
    ack(r, s->epoch, (int)a, r->last_failed ? r->last_detail : "");
}

static void keep(redoubt *r, const struct bus_msg *m)
{
    void *copy = malloc(m->len);
    if (!copy)
        return; /* only the repeat after "out of touch" would want it, and the stream has it too */
    memcpy(copy, m->data, m->len);
    free(r->last);
    r->last = copy;
    r->last_len = m->len;
}

static void on_directive(void *ctx, const struct bus_msg *m)
{
    redoubt *r = ctx;
    PB(Directive) *d = wire_unpack(PB_DESC(directive), m->data, m->len, NULL);
    if (!d || strcmp(d->state->agent, r->agent) != 0 || d->state->epoch == 0) {
        metric_add(&bad, 1);
        wire_free(d);
        return;
    }
    switch (client_gate_directive(&r->gate, d->state->epoch, m->stream != NULL)) {
    case CLIENT_GIVE:
        keep(r, m);
        give(r, d);
        break;
    case CLIENT_ACK_AGAIN:
        ack(r, d->state->epoch, r->last_failed ? REDOUBT_FAILED : REDOUBT_ALREADY,
            r->last_failed ? r->last_detail : "");
        break;
    case CLIENT_IGNORE_OLD:
        metric_add(&old, 1);
        break;
    case CLIENT_NOTHING:
    case CLIENT_FREEZE:
        break;
    }
    wire_free(d);
}

static void on_synced(void *ctx)
{
    redoubt *r = ctx;
    if (client_gate_synced(&r->gate) != CLIENT_GIVE || !r->last)
        return;
    PB(Directive) *d = wire_unpack(PB_DESC(directive), r->last, r->last_len, NULL);
    if (d)
        give(r, d);
    wire_free(d);
}

void client_bus_lease(redoubt *r)
{
    int64_t now = clock_mono_ms(), lease = r->o.lease_ms;
    if (client_gate_lease(&r->gate, now, lease) != CLIENT_FREEZE) {
        int64_t left = r->gate.down_since_ms + lease - now;
        if (!r->gate.up && !r->gate.out_of_touch)
            loop_timer_start(&r->lease_timer, left > 0 ? left : 1, 0);
        return;
    }
    metric_add(&frozen, 1);
    atomic_store(&r->touch, CLIENT_OUT);
    uint32_t monitor_ms = r->monitoring.interval_ms ? r->monitoring.interval_ms : MONITOR_MS;
    const redoubt_directive d = {.posture = REDOUBT_FROZEN,
                                 .step = REDOUBT__V1__STEP__STEP_RESTRICT,
                                 .llm_index = -1,
                                 .llm_target = "",
                                 .llm_model = "",
                                 .backend = REDOUBT__V1__BACKEND_MODE__BACKEND_MODE_DEGRADED,
                                 .reason = "out of touch",
                                 .resources = REDOUBT__V1__RESOURCE_MODE__RESOURCE_MODE_OK,
                                 .link = REDOUBT__V1__LINK_MODE__LINK_MODE_GONE,
                                 .llm_wanted = "",
                                 .monitor_interval_ms = monitor_ms};
    char llm[sizeof r->llm_target], detail[sizeof r->last_detail];
    bool failed = r->last_failed; /* what belongs to the last directive stays */
    memcpy(llm, r->llm_target, sizeof llm);
    memcpy(detail, r->last_detail, sizeof detail);
    (void)tell(r, &d);
    atomic_store(&r->posture, REDOUBT_FROZEN); /* whatever the agent answered */
    r->last_failed = failed;
    memcpy(r->llm_target, llm, sizeof llm);
    memcpy(r->last_detail, detail, sizeof detail);
    client_monitor_every(r, monitor_ms);
    client_action_turn(r);
}

/* ---- breakers ---- */

static void on_breaker(void *ctx, const struct bus_msg *m)
{
    redoubt *r = ctx;
    const char *tail = subject_tail(m->subject, SUBJECT_BREAKER);
    PB(BreakerChanged) *b = wire_unpack(PB_DESC(breaker_changed), m->data, m->len, NULL);
    if (!b || !tail || strcmp(tail, b->target) != 0) {
        metric_add(&bad, 1);
        wire_free(b);
        return;
    }
    pthread_mutex_lock(&r->lock);
    struct client_slot *s = client_table_enter(&r->table, b->target);
    pthread_mutex_unlock(&r->lock);
    if (s)
        (void)client_slot_apply(s, b, clock_mono_ms(), clock_wall_ms());
    else
        metric_add(&full, 1);
    wire_free(b);
}

static void on_advice(void *ctx, const struct bus_msg *m)
{
    redoubt *r = ctx;
    const char *tail = subject_tail(m->subject, SUBJECT_ADVICE);
    PB(BreakerAdvice) *a = wire_unpack(PB_DESC(breaker_advice), m->data, m->len, NULL);
    if (!a || !tail || strcmp(tail, a->target) != 0) {
        metric_add(&bad, 1);
        wire_free(a);
        return;
    }
    pthread_mutex_lock(&r->lock);
    struct client_slot *s = client_table_enter(&r->table, a->target);
    pthread_mutex_unlock(&r->lock);
    if (!s)
        metric_add(&full, 1);
    else if (client_slot_advise(s, a, clock_mono_ms()))
        metric_add(&advised, 1);
    wire_free(a);
}

struct permit_call {
    redoubt *r;
    struct client_slot *slot;
};

static void on_allowed(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct permit_call call = *(struct permit_call *)ctx;
    free(ctx);
    int64_t now = clock_mono_ms(), again = ALLOW_TIMEOUT_MS;
    PB(AllowReply) *a = NULL;
    if (st == BUS_OK && (!m->type || strcmp(m->type, "redoubt.v1.AllowReply") == 0))
        a = wire_unpack(PB_DESC(allow_reply), m->data, m->len, NULL);
    if (a && a->admitted && a->permit_id) {
        client_slot_grant(call.slot, a->permit_id, now);
    } else {
        if (a) {
            again = a->retry_after_ms < ASK_AGAIN_MIN_MS   ? ASK_AGAIN_MIN_MS
                    : a->retry_after_ms > ASK_AGAIN_MAX_MS ? ASK_AGAIN_MAX_MS
                                                           : a->retry_after_ms;
        }
        atomic_store(&call.slot->ask_after_ms, now + again);
    }
    wire_free(a);
}

static void ask(redoubt *r, struct client_slot *s)
{
    size_t len;
    PB(AllowRequest) q = REDOUBT__V1__ALLOW_REQUEST__INIT;
    q.target = s->name;
    q.holder = r->agent;
    struct permit_call *call = malloc(sizeof *call);
    void *data = call ? wire_pack(&q, &len, NULL) : NULL;
    if (data) {
        *call = (struct permit_call){r, s};
        const struct bus_out out = {
            .subject = SUBJECT_CMD "breaker.allow", .type = wire_type(&q), .data = data, .len = len};
        bus_request(r->bus, &out, ALLOW_TIMEOUT_MS, on_allowed, call);
    } else {
        free(call);
    }
    free(data);
}

void client_bus_ask_permits(redoubt *r)
{
    if (!atomic_exchange(&r->permits_wanted, false))
        return;
    uint32_t used = atomic_load_explicit(&r->table.used, memory_order_acquire);
    for (uint32_t i = 0; i < used; i++) {
        struct client_slot *s = &r->table.slots[r->table.order[i]];
        if (atomic_exchange(&s->wanted, false))
            ask(r, s);
    }
}

/* ---- heartbeats ---- */

void client_bus_heartbeat(redoubt *r)
{
    if (!r->gate.up)
        return;
    size_t len;
    PB(ResourceUsage) usage = REDOUBT__V1__RESOURCE_USAGE__INIT;
    PB(Heartbeat) h = REDOUBT__V1__HEARTBEAT__INIT;
    client_usage_read(&r->usage, &usage);
    h.agent = r->agent;
    h.instance = r->instance;
    h.sequence = ++r->heartbeats;
    if (r->o.on_heartbeat)
        r->o.on_heartbeat(r->o.ctx, &h.progress, &h.exceptions, &usage.queue_depth);
    h.epoch = atomic_load(&r->epoch);
    h.posture = (PB(Posture))atomic_load(&r->posture);
    h.interval_ms = r->o.heartbeat_ms;
    h.sent_unix_ms = clock_wall_ms();
    h.resources = &usage;
    h.llm_target = r->llm_target;
    void *data = wire_pack(&h, &len, NULL);
    const struct bus_out out = {.subject = r->heartbeat_subject, .type = wire_type(&h), .data = data, .len = len};
    if (data)
        (void)bus_publish(r->bus, &out, NULL); /* the next one follows */
    else
        metric_add(&bad, 1);
    free(data);
}

/* ---- the connection ---- */

static void on_up(void *ctx)
{
    redoubt *r = ctx;
    client_gate_up(&r->gate);
    atomic_store(&r->touch, CLIENT_UP);
    loop_timer_stop(&r->lease_timer);
    client_bus_heartbeat(r);
    client_report_flush(r);
    client_decision_flush(r);
    client_selftest_flush(r);
    client_monitor_flush(r);
    client_work_say(r);
    client_action_turn(r);
    if (r->o.on_connection)
        r->o.on_connection(r->o.ctx, true);
}

static void on_down(void *ctx)
{
    redoubt *r = ctx;
    client_gate_down(&r->gate, clock_mono_ms());
    if (r->leaving)
        return;
    atomic_store(&r->touch, CLIENT_DOWN);
    loop_timer_start(&r->lease_timer, r->o.lease_ms, 0);
    if (r->o.on_connection)
        r->o.on_connection(r->o.ctx, false);
}

int client_bus_open(redoubt *r, struct err *e)
{
    char name[128], inbox[128], directive[SUBJECT_MAX_LEN];
    snprintf(name, sizeof name, "agent %s", r->agent);
    snprintf(inbox, sizeof inbox, "_INBOX_agent.%.51s", r->agent); /* the bus takes 64 bytes */
    snprintf(directive, sizeof directive, SUBJECT_DIRECTIVE "%s", r->agent);
    snprintf(r->ack_subject, sizeof r->ack_subject, SUBJECT_ACK "%s", r->agent);
    snprintf(r->heartbeat_subject, sizeof r->heartbeat_subject, SUBJECT_HEARTBEAT "%s", r->agent);
    const struct bus_opts o = {.url = r->o.url,
                               .name = name,
                               .user = r->o.user,
                               .password = r->o.password,
                               .token = r->o.token,
                               .tls_ca_file = r->o.tls_ca_file,
                               .inbox_prefix = inbox,
                               .guest = true,
                               .on_up = on_up,
                               .on_down = on_down,
                               .ctx = r};
    r->bus = bus_open(&r->loop, &o, e);
    if (!r->bus)
        return -1;
    if (!bus_subscribe(r->bus, SUBJECT_ADVICE ">", NULL, on_advice, r) ||
        !bus_watch(r->bus, directive, 0, on_directive, on_synced, r) ||
        !bus_watch(r->bus, SUBJECT_BREAKER ">", 0, on_breaker, NULL, r))
        return err_set(e, "cannot watch directives and breakers: out of memory");
    /* One of the agent's processes is asked: a question costs a call to its LLM. */
    char selftest[SUBJECT_MAX_LEN];
    snprintf(selftest, sizeof selftest, SUBJECT_SELFTEST "%s", r->agent);
    if (r->o.on_selftest && !bus_subscribe(r->bus, selftest, "selftest", client_selftest_on_question, r))
        return err_set(e, "cannot serve self-tests: out of memory");
    return client_work_open(r, e);
}
