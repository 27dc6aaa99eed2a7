/* guard_queue_run.c - the replay: whose turn it is, and the steps of one action: read, run, bury, take out. The policy is guard_replay.c. */
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include "guard/guard_queue.h"
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define SHARE_OF_CALLS                                                                                               \
    4 /* a quarter of the calls to backends may be replays: what agents ask now has room beside them */
#define DEAD_PAYLOAD  49152
#define WAKE_LEAST_MS 5 /* all that is due by then has its turn together */

METRIC_DEFINE(replayed, METRIC_COUNTER, "redoubt_guard_replayed_total",
              "Queued actions that their backend has taken.");
METRIC_DEFINE(dead, METRIC_COUNTER, "redoubt_guard_queue_dead_total", "Queued actions that ended as dead letters.");
METRIC_DEFINE(retries, METRIC_COUNTER, "redoubt_guard_replay_retries_total",
              "Replays that the backend did not take, and that are tried again.");
METRIC_DEFINE(under_way, METRIC_GAUGE, "redoubt_guard_replays", "Queued actions in hand at the moment.");

struct guard_op {
    struct guard_tie *tie;
    struct guard_waiter *w; /* valid while the tie's queue is */
    char subject[SUBJECT_MAX_LEN];
    uint64_t seq;
    PB(QueuedAction) * action; /* NULL: nothing was read yet, or nothing that can be understood */
    const void *raw;           /* only while it is being read */
    size_t raw_len;
    char why[512]; /* of its end */
};

static const struct kind {
    const char *name;    /* in dedup keys and records */
    const char *summary; /* after the agent's name */
} kinds[GUARD_LEFT_KINDS] = {
    [GUARD_LEFT_DONE] = {"replayed", ""},
    [GUARD_LEFT_EXPIRED] = {"expired", "actions that waited have expired and were not executed"},
    [GUARD_LEFT_REFUSED] = {"refused", "actions that waited are not allowed any more and were not executed"},
    [GUARD_LEFT_REJECTED] = {"rejected", "the backend rejected actions that had waited"},
    [GUARD_LEFT_POISON] = {"failed", "actions that waited failed too often and were given up"},
    [GUARD_LEFT_MALFORMED] = {"malformed", "there was something in the queue that is no action"},
};

static void carry_out(struct guard_op *op, struct guard_replay_do d);

/* ---- turns ---- */

void guard_waiter_unlist(struct guard_waiter *w)
{
    if (w->list == GUARD_TO_RUN)
        DL_DELETE(w->q->to_run, w);
    else if (w->list == GUARD_TO_LOOK)
        DL_DELETE(w->q->to_look, w);
    w->list = GUARD_UNLISTED;
}

static void wake_in(struct guard_queue *q, int64_t in_ms)
{
    if (in_ms < WAKE_LEAST_MS)
        in_ms = WAKE_LEAST_MS;
    int64_t at_ms = clock_mono_ms() + in_ms;
    if (at_ms >= q->wake_ms)
        return;
    q->wake_ms = at_ms;
    loop_timer_start(&q->wake, in_ms, 0);
}

/* After a freeze nothing is run before it is known what a person has released since. */
static bool knows_releases(struct guard_waiter *w, const struct guard_replay_view *v)
{
    if (!v->at || v->at->frozen_epoch == 0 || w->release == GUARD_RELEASE_KNOWN)
        return true;
    if (w->release == GUARD_RELEASE_UNKNOWN)
        guard_waiter_ask_release(w);
    return false;
}

void guard_waiter_schedule(struct guard_waiter *w)
{
    struct guard_queue *q = w->q;
    if (w->op)
        return; /* at its end */
    struct guard_replay_view v = guard_waiter_view(w);
    int64_t now = clock_shared_ms(), due = guard_replay_due(&w->r, &v);
    if (due > now) {
        guard_waiter_unlist(w);
        if (due != INT64_MAX)
            wake_in(q, due - now);
        return;
    }
    bool run = guard_replay_runs(&w->r, &v);
    if (run && (w->want_count > q->count_done || !knows_releases(w, &v))) {
        guard_waiter_unlist(w);
        return;
    }
    int list = run ? GUARD_TO_RUN : GUARD_TO_LOOK;
    if ((int)w->list == list)
        return;
    guard_waiter_unlist(w);
    if (run)
        DL_APPEND(q->to_run, w);
    else
        DL_APPEND(q->to_look, w);
    w->list = run ? GUARD_TO_RUN : GUARD_TO_LOOK;
}

void guard_queue_schedule_all(struct guard_queue *q)
{
    for (struct guard_waiter *w = q->waiters; w; w = w->hh.next)
        guard_waiter_schedule(w);
}

static size_t most_ops(const struct guard_queue *q)
{
    int64_t n = q->g->s->settings->guard.at_once / SHARE_OF_CALLS;
    return n > 0 ? (size_t)n : 1;
}

static void begin(struct guard_waiter *w)
{
    struct guard_queue *q = w->q;
    struct guard_replay_view v = guard_waiter_view(w);
    struct guard_replay_do d = guard_replay_next(&w->r, &v, clock_shared_ms());
    if (d.what == GUARD_REPLAY_NOTHING) { /* something has changed since it was listed */
        guard_waiter_schedule(w);
        return;
    }
    struct guard_op *op = calloc(1, sizeof *op);
    assert(op && "out of memory for one action");
    op->tie = guard_tie(q);
    op->w = w;
    w->op = op;
    metric_set(&under_way, (int64_t)++q->n_ops);
    carry_out(op, d);
}

void guard_queue_pump(struct guard_queue *q)
{
    struct service *s = q->g->s;
    if (!bus_up(s->bus) || s->draining || !q->g->partitions)
        return;
    size_t most = most_ops(q);
    while (q->to_look && q->n_ops < most) {
        struct guard_waiter *w = q->to_look;
        guard_waiter_unlist(w);
        begin(w);
    }
    while (q->to_run && q->n_ops < most) {
        struct guard_waiter *w = q->to_run;
        struct guard_replay_view v = guard_waiter_view(w);
        if (!guard_replay_runs(&w->r, &v)) {
            guard_waiter_unlist(w);
            guard_waiter_schedule(w);
            continue;
        }
        int64_t wait_us = guard_pace(&q->pace, s->settings->guard.queue.replay_rate,
                                     partitions_held(q->g->partitions), PARTITIONS, clock_mono_ns() / 1000);
        if (wait_us > 0) {
            wake_in(q, wait_us / 1000);
            return;
        }
        guard_waiter_unlist(w);
        begin(w);
    }
}

/* ---- steps ---- */

static void forget(struct guard_op *op)
{
    guard_untie(op->tie);
    wire_free(op->action);
    free(op);
}

/* The queue, with op's waiter; NULL if it is closed: then op is gone. */
static struct guard_queue *queue_of(struct guard_op *op)
{
    struct guard_queue *q = op->tie->q;
    if (!q)
        forget(op);
    return q;
}

static void end(struct guard_op *op)
{
    struct guard_waiter *w = op->w;
    struct guard_queue *q = w->q;
    w->op = NULL;
    metric_set(&under_way, (int64_t)--q->n_ops);
    forget(op);
    guard_waiter_schedule(w);
    guard_queue_pump(q);
}

/* ---- read ---- */

static void on_read(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct guard_op *op = ctx;
    struct guard_queue *q = queue_of(op);
    if (!q)
        return;
    struct guard_waiter *w = op->w;
    int64_t now = clock_shared_ms();
    if (st != BUS_OK) {
        guard_replay_unread(&w->r, now);
        end(op);
        return;
    }
    struct guard_replay_view v = guard_waiter_view(w);
    struct guard_replay_rule rule = guard_queue_rule(q);
    struct guard_replay_message x = {0};
    if (m) {
        struct err e = {""};
        char agent[NAME_MAX_LEN + 1];
        op->seq = x.seq = m->stream_seq;
        op->raw = m->data;
        op->raw_len = m->len;
        snprintf(op->subject, sizeof op->subject, "%s", m->subject);
        bool subject_ok = guard_queue_subject(m->subject, agent, &x.priority);
        op->action = wire_unpack(PB_DESC(queued_action), m->data, m->len, &e);
        if (op->action) {
            x.sound = subject_ok && strcmp(op->action->request->agent, w->name) == 0;
            x.epoch = op->action->request->epoch;
            x.queued_ms = op->action->queued_unix_ms;
            x.expires_ms = op->action->request->expires_unix_ms;
        }
        snprintf(op->why, sizeof op->why, "%s",
                 !op->action ? e.text
                 : !x.sound  ? "it is of another agent than its subject says"
                             : "its time is over");
    }
    struct guard_replay_do d = guard_replay_read(&w->r, &rule, &v, m ? &x : NULL, now);
    carry_out(op, d);
}

static void read_one(struct guard_op *op, struct guard_replay_do d)
{
    char subject[SUBJECT_MAX_LEN];
    if (d.priority < 0)
        snprintf(subject, sizeof subject, SUBJECT_QUEUE "%s.*", op->w->name);
    else
        snprintf(subject, sizeof subject, SUBJECT_QUEUE "%s.%d", op->w->name, d.priority);
    bus_next(op->w->q->g->s->bus, STREAM_ACTIONS, subject, d.seq, GUARD_QUEUE_ANSWER_MS, on_read, op);
}

/* ---- run ---- */

static void on_ran(void *ctx, const struct guard_result *r)
{
    struct guard_op *op = ctx;
    struct guard_queue *q = queue_of(op);
    if (!q)
        return;
    struct guard_replay_rule rule = guard_queue_rule(q);
    struct guard_replay_outcome o = {
        .end = (int)r->end, .reason = r->reason, .hold = r->hold, .retry_after_ms = r->retry_after_ms};
    metric_add(&retries, r->end == GUARD_END_RETRY);
    if (r->status)
        snprintf(op->why, sizeof op->why, "status %d: %s", r->status, r->detail ? r->detail : "");
    else
        snprintf(op->why, sizeof op->why, "%s", r->detail ? r->detail : "");
    carry_out(op, guard_replay_ran(&op->w->r, &rule, &o, clock_shared_ms()));
}

/* ---- bury ---- */

static void audit_death(struct guard_op *op, const char *key, const char *action)
{
    struct guard_waiter *w = op->w;
    PB(Label)
    fields[3] = {PB_INIT(LABEL), PB_INIT(LABEL), PB_INIT(LABEL)}, *list[3] = {fields, fields + 1, fields + 2};
    PB(AuditRecord) r = PB_INIT(AUDIT_RECORD);
    fields[0].key = (char *)"key";
    fields[0].value = (char *)key;
    fields[1].key = (char *)"action";
    fields[1].value = (char *)action;
    fields[2].key = (char *)"end";
    fields[2].value = (char *)kinds[w->r.leaving].name;
    r.action = (char *)"queue.dead";
    r.subject = w->name;
    r.outcome = REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_FAILED;
    r.detail = op->why;
    r.n_fields = 3;
    r.fields = list;
    service_audit(w->q->g->s, &r, NULL, NULL);
}

static void alert(struct guard_waiter *w, int kind, const char *detail, bool resolved)
{
    char key[NAME_MAX_LEN + 48], summary[256];
    PB(Alert) a = PB_INIT(ALERT);
    char *taken = (char *)"kept as dead letters of stream " STREAM_ACTIONS;
    snprintf(key, sizeof key, "agent/%s/queue-%s", w->name, kinds[kind].name);
    snprintf(summary, sizeof summary, "%s: %s%s", w->name, resolved ? "the queue is empty: " : "",
             kinds[kind].summary);
    a.dedup_key = key;
    a.severity = REDOUBT__V1__SEVERITY__SEVERITY_HIGH;
    a.agent = w->name;
    a.failure_kind = REDOUBT__V1__FAILURE_KIND__FAILURE_KIND_BACKEND_FAILURE;
    a.summary = summary;
    a.detail = (char *)detail;
    a.n_actions_taken = 1;
    a.actions_taken = &taken;
    a.resolved = resolved;
    service_alert(w->q->g->s, &a);
}

static void on_buried(void *ctx, int status, const char *error)
{
    struct guard_op *op = ctx;
    struct guard_queue *q = queue_of(op);
    if (!q)
        return;
    struct guard_waiter *w = op->w;
    int kind = w->r.leaving;
    const PB(ActionRequest) *r = op->action ? op->action->request : NULL;
    if (status != 0) {
        log_error("a dead letter could not be made durable; the action stays in the queue", F_STR("agent", w->name),
                  F_STR("why", error));
    } else {
        metric_add(&dead, 1);
        audit_death(op, r ? r->idempotency_key : "", r ? r->action : "");
        if (!(w->alerted & 1u << kind)) { /* one for all of a kind, until the queue is empty */
            char detail[1024];
            snprintf(detail, sizeof detail, "the first of them: %s, key %s: %s", r ? r->action : "?",
                     r ? r->idempotency_key : "?", op->why);
            alert(w, kind, detail, false);
            w->alerted |= 1u << kind;
        }
    }
    carry_out(op, guard_replay_buried(&w->r, status == 0, clock_shared_ms()));
}

static void bury(struct guard_op *op)
{
    struct guard_waiter *w = op->w;
    struct err e = {""};
    size_t len = op->raw_len, n;
    void *again = op->action ? wire_pack(op->action, &len, &e) : NULL;
    const void *payload = again ? again : op->raw;
    char reason[640], id[64];
    snprintf(reason, sizeof reason, "%s: %s", kinds[w->r.leaving].name, op->why);
    PB(DeadLetter) d = PB_INIT(DEAD_LETTER);
    d.stream = (char *)STREAM_ACTIONS;
    d.subject = op->subject;
    d.stream_sequence = op->seq;
    d.deliveries = w->r.tries;
    d.service = (char *)w->q->g->s->desc->name;
    d.reason = reason;
    d.died_unix_ms = clock_wall_ms();
    if (payload)
        d.payload = (ProtobufCBinaryData){.data = (uint8_t *)payload, .len = len < DEAD_PAYLOAD ? len : DEAD_PAYLOAD};
    /* The same for every replica, and for an action that a server has forgotten to have given up: a letter is kept once. */
    snprintf(id, sizeof id, "dead/" STREAM_ACTIONS "/guard/%" PRIx64 "/%" PRIu64,
             op->action ? (uint64_t)op->action->queued_unix_ms : 0, op->seq);
    void *packed = wire_pack(&d, &n, &e);
    free(again);
    if (!packed) { /* its texts are ours, its bytes any: only memory can be out */
        log_error("a dead letter could not be written; the action stays in the queue", F_STR("agent", w->name),
                  F_STR("why", e.text));
        carry_out(op, guard_replay_buried(&w->r, false, clock_shared_ms()));
        return;
    }
    struct outbox_item i = {
        .subject = SUBJECT_DEAD STREAM_ACTIONS, .id = id, .type = wire_type(&d), .data = packed, .len = n};
    outbox_append(w->q->g->s->outbox, &i, on_buried, op);
    free(packed);
}

/* ---- take out ---- */

static void on_removed(void *ctx, enum bus_status st)
{
    struct guard_op *op = ctx;
    struct guard_queue *q = queue_of(op);
    if (!q)
        return;
    metric_add(&replayed, st == BUS_OK && op->w->r.leaving == GUARD_LEFT_DONE);
    guard_replay_removed(&op->w->r, st == BUS_OK, clock_shared_ms());
    end(op);
}

/* ---- empty ---- */

static void tally(const struct guard_waiter *w, char buf[static 256])
{
    const uint64_t *n = w->r.left;
    snprintf(buf, 256,
             "%" PRIu64 " replayed, %" PRIu64 " expired, %" PRIu64 " refused, %" PRIu64 " rejected, %" PRIu64
             " failed, %" PRIu64 " malformed",
             n[GUARD_LEFT_DONE], n[GUARD_LEFT_EXPIRED], n[GUARD_LEFT_REFUSED], n[GUARD_LEFT_REJECTED],
             n[GUARD_LEFT_POISON], n[GUARD_LEFT_MALFORMED]);
}

void guard_waiter_settle(struct guard_waiter *w)
{
    char text[256];
    tally(w, text);
    for (int kind = 0; kind < GUARD_LEFT_KINDS; kind++)
        if (w->alerted & 1u << kind)
            alert(w, kind, text, true);
    w->alerted = 0;
}

static void drained(struct guard_waiter *w)
{
    char text[256], number[GUARD_LEFT_KINDS][24];
    PB(Label) fields[GUARD_LEFT_KINDS], *list[GUARD_LEFT_KINDS];
    PB(AuditRecord) r = PB_INIT(AUDIT_RECORD);
    tally(w, text);
    for (int k = 0; k < GUARD_LEFT_KINDS; k++) {
        snprintf(number[k], sizeof number[k], "%" PRIu64, w->r.left[k]);
        fields[k] = (PB(Label))PB_INIT(LABEL);
        fields[k].key = (char *)kinds[k].name;
        fields[k].value = number[k];
        list[k] = &fields[k];
    }
    r.action = (char *)"queue.drained";
    r.subject = w->name;
    r.outcome = REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_DONE;
    r.detail = text;
    r.n_fields = GUARD_LEFT_KINDS;
    r.fields = list;
    service_audit(w->q->g->s, &r, NULL, NULL);
    log_info("the queue of an agent is empty", F_STR("agent", w->name), F_STR("since", text));
    guard_waiter_settle(w);
    guard_replay_said(&w->r);
}

static void carry_out(struct guard_op *op, struct guard_replay_do d)
{
    struct guard_waiter *w = op->w;
    struct guard *g = w->q->g;
    switch (d.what) {
    case GUARD_REPLAY_READ:
        read_one(op, d);
        return;
    case GUARD_REPLAY_RUN:
        guard_run(g, op->action->request, op->action->queued_unix_ms, on_ran, op);
        return;
    case GUARD_REPLAY_BURY:
        bury(op);
        return;
    case GUARD_REPLAY_REMOVE:
        bus_remove(g->s->bus, STREAM_ACTIONS, d.seq, GUARD_QUEUE_ANSWER_MS, on_removed, op);
        return;
    case GUARD_REPLAY_DRAINED:
        drained(w);
        break;
    case GUARD_REPLAY_NOTHING:
        break;
    }
    end(op);
}

/* ---- what a person has released ---- */

struct release {
    struct guard_tie *tie;
    char agent[NAME_MAX_LEN + 1];
};

void guard_waiter_released(struct guard_waiter *w, uint64_t epoch)
{
    w->release = GUARD_RELEASE_KNOWN;
    if (epoch <= w->released_epoch)
        return;
    w->released_epoch = epoch;
    struct guard_agent *a = guard_agent(w->q->g, w->name);
    if (a && a->released_epoch < epoch)
        a->released_epoch = epoch;
    guard_replay_released(&w->r);
}

static void on_release(void *ctx, enum store_status st, const redisReply *reply)
{
    struct release *x = ctx;
    struct guard_queue *q = guard_untie(x->tie);
    struct guard_waiter *w = q ? guard_waiter_find(q, x->agent) : NULL;
    free(x);
    if (!w)
        return;
    bool none = st == STORE_OK && reply->type == REDIS_REPLY_NIL;
    if (st != STORE_OK || (!none && reply->type != REDIS_REPLY_STRING)) {
        w->release = GUARD_RELEASE_UNKNOWN; /* asked again with the next tick */
        return;
    }
    guard_waiter_released(w, none ? 0 : strtoull(reply->str, NULL, 10));
    guard_waiter_schedule(w);
    guard_queue_pump(q);
}

void guard_waiter_ask_release(struct guard_waiter *w)
{
    struct store *store = w->q->g->s->store;
    struct release *x = store && w->release != GUARD_RELEASE_ASKED ? malloc(sizeof *x) : NULL;
    if (!x)
        return;
    char key[NAME_MAX_LEN + 32];
    const char *argv[] = {"GET", key};
    x->tie = guard_tie(w->q);
    snprintf(x->agent, sizeof x->agent, "%s", w->name);
    snprintf(key, sizeof key, "redoubt:{a:%s}:released", w->name);
    w->release = GUARD_RELEASE_ASKED;
    w->release_asked_ms = clock_mono_ms();
    store_cmd(store, on_release, x, 2, argv, NULL);
}
