/* breaker_say.c - what the breaker says: the event of each change, its record in the trail, and alerts.
 *
 * A change is announced at once; a moment later, when the agents have it, it is recorded and alerted (that means syncing a disk,
 * which would slow them down), and marked announced in Redis when both the stream and our outbox have it. A replica that
 * finds it unmarked says all of it again under the same ids, so that nothing is lost with a dead replica and nothing counts
 * twice. Events of one target go out one after another: the stream's last word must be the latest. */
#include "breaker/breaker_shell.h"
#include "common/clock.h"
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
    struct saying *next;       /* of the same target, to be announced after it */
    struct saying *unrecorded; /* next one to be recorded */
    struct node *n;
    uint64_t epoch;
    bool said, recorded;
    bool unsaid; /* not to be marked */
    bool again;  /* under an id of its own: the stream would drop a repeat */
    void *data;  /* the event, packed */
    size_t len;
};

#define RECORD_AFTER_MS 5
#define AGAIN_EVERY_MS  10000 /* replicas that say something again within this say it once */

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
    if (!n->sh->stopped && !x->unsaid && x->epoch <= n->streamed)
        breaker_state_announced(n, x->epoch);
    free(x->data);
    free(x);
    breaker_release(n);
}

static PB(BreakerChanged) * event_of(const struct saying *x)
{
    struct err e;
    return x->data ? wire_unpack(PB_DESC(breaker_changed), x->data, x->len, &e) : NULL;
}

static void say_next(struct node *n)
{
    struct saying *x = n->sayings;
    if (!x)
        return;
    PB(BreakerChanged) *m = event_of(x);
    if (m)
        publish(x, m);
    else
        on_said(x, &(struct bus_stored){.status = BUS_REFUSED, .error = "out of memory"});
    wire_free(m);
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
    char id[TARGET_MAX_LEN + 80];
    int len = snprintf(id, sizeof id, "breaker/%s/%" PRIu64, x->n->name, x->epoch);
    if (x->again)
        snprintf(id + len, sizeof id - (size_t)len, "/again-%" PRId64, clock_shared_ms() / AGAIN_EVERY_MS);
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

static void record(struct saying *x, const PB(BreakerChanged) * m)
{
    char id[64], action[64];
    int len = snprintf(action, sizeof action, "breaker.%s", sm_name(&breaker_sm, (int)m->state));
    for (int i = 0; i < len; i++)
        action[i] = (char)tolower((unsigned char)action[i]);
    make_id(id, x->n, m->epoch, "r");
    PB(Label) labels[2] = {PB_INIT(LABEL), PB_INIT(LABEL)};
    labels[0].key = "reason";
    labels[0].value = (char *)wire_enum_name(&redoubt__v1__breaker_reason__descriptor, (int)m->reason);
    labels[1].key = "previous";
    labels[1].value = (char *)sm_name(&breaker_sm, (int)m->previous);
    PB(Label) * fields[2] = {&labels[0], &labels[1]};
    PB(AuditRecord) r = PB_INIT(AUDIT_RECORD);
    r.id = id;
    r.audit_class = REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_CONTINUITY;
    r.action = action;
    if (m->forced_by[0])
        r.actor = m->forced_by;
    r.subject = x->n->name;
    r.outcome = REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_DONE;
    r.epoch = m->epoch;
    r.detail = m->detail;
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

static void alert(struct node *n, const PB(BreakerChanged) * m)
{
    enum breaker_news news = breaker_news((int)m->previous, (int)m->state);
    if ((int)m->reason == BREAKER_BY_SCOPE) { /* one alert for the scope, not one for each */
        breaker_say_scope(n, m->scope, m->evidence_unix_ms, m->detail);
        return;
    }
    if (breaker_own_evidence((int)m->previous, (int)m->reason, m->evidence_unix_ms, m->changed_unix_ms))
        news = BREAKER_RAISE;
    if (news == BREAKER_NO_NEWS)
        return;
    char id[64], key[TARGET_MAX_LEN + 16], summary[TARGET_MAX_LEN + 64];
    make_id(id, n, m->epoch, "a");
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
    a.detail = m->detail;
    a.evidence_unix_ms = m->evidence_unix_ms;
    a.resolved = news == BREAKER_RESOLVE;
    service_alert(n->sh->s, &a);
}

void breaker_record_all(void *ctx)
{
    struct shell *sh = ctx;
    while (sh->unrecorded) {
        struct saying *x = sh->unrecorded;
        if (!(sh->unrecorded = x->unrecorded))
            sh->unrecorded_end = &sh->unrecorded;
        PB(BreakerChanged) *m = sh->stopped ? NULL : event_of(x);
        if (!m) { /* it stays unmarked: another replica's sweep says it */
            x->recorded = true;
            x->unsaid = true;
            finished(x);
            continue;
        }
        log_info("breaker changed", F_STR("target", x->n->name), F_STR("state", sm_name(&breaker_sm, (int)m->state)),
                 F_STR("was", sm_name(&breaker_sm, (int)m->previous)), F_INT("epoch", m->epoch),
                 F_STR("why", m->detail));
        /* In this order: the outbox is durable in order, so when the record is, the alert is. */
        alert(x->n, m);
        record(x, m);
        wire_free(m);
    }
}

static void say(struct breaker_target *t, const struct breaker *b, bool again)
{
    struct node *n = t->ctx;
    struct shell *sh = n->sh;
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
    x->again = again;
    breaker_hold(n);
    bool first = !n->sayings;
    *n->sayings_end = x;
    n->sayings_end = &x->next;
    if (first)
        publish(x, &msg.m); /* before anything else: an agent waits for it */
    metric_add(&transitions, 1);
    x->data = wire_pack(&msg.m, &x->len, &e);
    *sh->unrecorded_end = x;
    sh->unrecorded_end = &x->unrecorded;
    if (sh->s->draining)
        breaker_record_all(sh);
    else if (!loop_timer_active(&sh->record))
        loop_timer_start(&sh->record, RECORD_AFTER_MS, 0);
}

void breaker_say_scope(struct node *n, const char *scope, int64_t evidence_ms, const char *detail)
{
    char id[64], key[TARGET_MAX_LEN + 32], summary[TARGET_MAX_LEN + 64];
    snprintf(id, sizeof id, "breaker-scope-%016" PRIx64 "-%" PRId64 "-%s", breaker_hash(scope, strlen(scope), 0),
             evidence_ms, detail ? "a" : "r");
    snprintf(key, sizeof key, "breaker-scope/%s", scope);
    snprintf(summary, sizeof summary, detail ? "circuit breakers opened for all of %s" : "%s is well again", scope);
    PB(Alert) a = PB_INIT(ALERT);
    a.id = id;
    a.dedup_key = key;
    a.severity = REDOUBT__V1__SEVERITY__SEVERITY_HIGH;
    a.failure_kind = kind_of(n);
    a.summary = summary;
    if (detail)
        a.detail = (char *)(uintptr_t)detail;
    a.evidence_unix_ms = evidence_ms;
    a.resolved = !detail;
    service_alert(n->sh->s, &a);
}

void breaker_say(struct breaker_target *t, const struct breaker *b)
{
    say(t, b, false);
}

/* A replica that stood still between storing and announcing announces too late: then the stream's last word is older than the
 * document, and who comes new to it would believe that. */
void breaker_say_again(struct node *n)
{
    say(&n->t, &n->t.doc, true);
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
