/* breaker_say.c - what the breaker says: the event of each change, its record in the trail, and alerts.
 *
 * A change is announced at once, recorded, alerted, and marked announced in Redis when both the stream and our outbox have
 * it. A replica that finds it unmarked says all of it again under the same ids, so that nothing is lost with a dead replica and
 * nothing counts twice. Events of one target go out one after another: the stream's last word must be the latest. */
#include "breaker/breaker_shell.h"
#include "common/metric.h"
#include "common/settings.h"
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

METRIC_DEFINE(transitions, METRIC_COUNTER, "redoubt_breaker_changes_total",
              "Changes of breakers announced here, permits and deadlines included.");

struct saying {
    struct saying *next;
    struct node *n;
    uint64_t epoch;
    bool said, recorded;
    void *data; /* packed, while it waits for its turn */
    size_t len;
};

#define STORE_ALERT_KEY "store/breaker"

bool breaker_saying(const struct node *n, uint64_t epoch)
{
    for (const struct saying *x = n->sayings; x; x = x->next)
        if (x->epoch == epoch)
            return true;
    return false;
}

static void publish(struct saying *x, const void *message);
static void on_said(void *ctx, const struct bus_stored *r);

static void finished(struct saying *x)
{
    struct node *n = x->n;
    if (!x->said || !x->recorded)
        return;
    if (!n->sh->stopped && x->epoch <= n->streamed)
        breaker_state_announced(n, x->epoch);
    free(x->data);
    free(x);
    breaker_release(n);
}

static void say_next(struct node *n)
{
    struct saying *x = n->sayings;
    struct err e = {"out of memory"};
    if (!x)
        return;
    void *message = x->data ? wire_unpack(PB_DESC(breaker_changed), x->data, x->len, &e) : NULL;
    if (message)
        publish(x, message);
    else /* no memory */
        on_said(x, &(struct bus_stored){.status = BUS_REFUSED, .error = e.text});
    wire_free(message);
}

static void on_said(void *ctx, const struct bus_stored *r)
{
    struct saying *x = ctx;
    struct node *n = x->n;
    x->said = true;
    if (r->status == BUS_OK && x->epoch > n->streamed)
        n->streamed = x->epoch;
    else if (r->status == BUS_REFUSED)
        log_error("stream refused a change; a sweep tries again", F_STR("target", n->name),
                  F_STR("why", r->error ? r->error : ""));
    n->sayings = x->next; /* it is the first: the others wait for it */
    if (!n->sayings)
        n->sayings_end = &n->sayings;
    if (!n->sh->stopped)
        say_next(n);
    finished(x);
}

static void publish(struct saying *x, const void *message)
{
    char id[TARGET_MAX_LEN + 40];
    snprintf(id, sizeof id, "breaker/%s/%" PRIu64, x->n->name, x->epoch);
    service_announce(x->n->sh->s, x->n->subject, id, message, on_said, x);
}

static void on_recorded(void *ctx, int status, const char *error)
{
    (void)status, (void)error; /* logged and sent to the bus directly where it was found */
    struct saying *x = ctx;
    x->recorded = true;
    finished(x);
}

/* The same on every replica: what is said twice is one. */
static void make_id(char id[static 64], const struct node *n, uint64_t epoch, const char *what)
{
    snprintf(id, 64, "breaker-%016" PRIx64 "-%" PRIu64 "-%s", breaker_hash(n->name, strlen(n->name), 0), epoch, what);
}

static void record(struct saying *x, const struct breaker *b, const struct breaker_message *msg)
{
    char id[64], action[64];
    int len = snprintf(action, sizeof action, "breaker.%s", sm_name(&breaker_sm, b->state));
    for (int i = 0; i < len; i++)
        action[i] = (char)tolower((unsigned char)action[i]);
    make_id(id, x->n, b->epoch, "r");
    PB(Label) labels[2] = {PB_INIT(LABEL), PB_INIT(LABEL)};
    labels[0].key = "reason";
    labels[0].value = (char *)wire_enum_name(&redoubt__v1__breaker_reason__descriptor, b->reason);
    labels[1].key = "previous";
    labels[1].value = (char *)sm_name(&breaker_sm, b->previous);
    PB(Label) * fields[2] = {&labels[0], &labels[1]};
    PB(AuditRecord) r = PB_INIT(AUDIT_RECORD);
    r.id = id;
    r.audit_class = REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_CONTINUITY;
    r.action = action;
    if (b->forced_by)
        r.actor = (char *)b->forced_by;
    r.subject = x->n->name;
    r.outcome = REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_DONE;
    r.epoch = b->epoch;
    r.detail = (char *)msg->detail;
    r.n_fields = 2;
    r.fields = fields;
    service_audit(x->n->sh->s, &r, on_recorded, x);
}

static PB(FailureKind) kind_of(const struct node *n)
{
    switch (n->kind) {
    case SET_TARGET_LLM:
        return REDOUBT__V1__FAILURE_KIND__FAILURE_KIND_LLM_OUTAGE;
    case SET_TARGET_BACKEND:
        return REDOUBT__V1__FAILURE_KIND__FAILURE_KIND_BACKEND_FAILURE;
    default:
        return REDOUBT__V1__FAILURE_KIND__FAILURE_KIND_UNSPECIFIED;
    }
}

static void alert(struct node *n, const struct breaker *b, const struct breaker_message *msg)
{
    enum breaker_news news = breaker_news(b);
    if (news == BREAKER_NO_NEWS)
        return;
    char id[64], key[TARGET_MAX_LEN + 16], summary[TARGET_MAX_LEN + 64];
    make_id(id, n, b->epoch, "a");
    snprintf(key, sizeof key, "breaker/%s", n->name);
    snprintf(summary, sizeof summary, "circuit breaker %s for %s", news == BREAKER_RAISE ? "opened" : "closed",
             n->name);
    PB(Alert) a = PB_INIT(ALERT);
    a.id = id;
    a.dedup_key = key;
    a.severity = REDOUBT__V1__SEVERITY__SEVERITY_WARNING;
    a.target = n->name;
    a.failure_kind = kind_of(n);
    a.summary = summary;
    a.detail = (char *)msg->detail;
    a.evidence_unix_ms = b->evidence_ms;
    a.resolved = news == BREAKER_RESOLVE;
    service_alert(n->sh->s, &a);
}

void breaker_say(struct breaker_target *t, const struct breaker *b)
{
    struct node *n = t->ctx;
    struct breaker_message msg;
    struct err e;
    if (breaker_saying(n, b->epoch))
        return;
    struct saying *x = calloc(1, sizeof *x);
    if (!x)
        return; /* a sweep finds it */
    breaker_doc_fill(&msg, n->name, b);
    x->n = n;
    x->epoch = b->epoch;
    breaker_hold(n);
    bool first = !n->sayings;
    *n->sayings_end = x;
    n->sayings_end = &x->next;
    metric_add(&transitions, 1);
    if (first)
        publish(x, &msg.m); /* before anything else: an agent waits for it */
    else
        x->data = wire_pack(&msg.m, &x->len, &e);
    log_info("breaker changed", F_STR("target", n->name), F_STR("state", sm_name(&breaker_sm, b->state)),
             F_STR("was", sm_name(&breaker_sm, b->previous)), F_INT("epoch", b->epoch), F_STR("why", msg.detail));
    /* In this order: the outbox is durable in order, so when the record is, the alert is. */
    alert(n, b, &msg);
    record(x, b, &msg);
}

void breaker_say_store(struct shell *sh, bool gone)
{
    PB(Alert) a = PB_INIT(ALERT);
    a.dedup_key = STORE_ALERT_KEY;
    a.severity = REDOUBT__V1__SEVERITY__SEVERITY_HIGH;
    a.resolved = !gone;
    if (gone) {
        a.summary = "circuit breakers: shared state (Redis) is out of reach";
        a.detail = "No breaker opens or closes until Redis is back. Agents keep the last state that they were told; "
                   "evidence is "
                   "gathered and counts when Redis is back.";
    } else {
        a.summary = "circuit breakers: shared state (Redis) is back";
    }
    service_alert(sh->s, &a);
}
