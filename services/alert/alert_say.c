/* alert_say.c - what the alert service says of its own work: receipts, audit records, and alerts about channels. */
#include "alert/alert_room.h"
#include "alert/alert_text.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include "common/subjects.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

METRIC_DEFINE(accepted, METRIC_COUNTER, "redoubt_alert_delivered_total", "Alerts that a channel has accepted.");
METRIC_DEFINE(retried, METRIC_COUNTER, "redoubt_alert_retries_total", "Attempts that failed and were repeated.");
METRIC_DEFINE(failed, METRIC_COUNTER, "redoubt_alert_failovers_total",
              "Alerts that went past a channel to the next.");
METRIC_DEFINE(recorded, METRIC_COUNTER, "redoubt_alert_recorded_total", "Alerts written to a file and synced.");
METRIC_DEFINE(exhausted, METRIC_COUNTER, "redoubt_alert_exhausted_total",
              "Times that an alert found no channel that accepted it; it is tried again.");
METRIC_DEFINE(waiting, METRIC_COUNTER, "redoubt_alert_waiting_total", "Alerts put by to go out with others.");
METRIC_DEFINE(muted, METRIC_COUNTER, "redoubt_alert_muted_total",
              "Alerts that nobody was told of: silenced, inhibited or acknowledged.");

_Static_assert((int)ALERT_STATUS_ACCEPTED == (int)REDOUBT__V1__DELIVERY_STATUS__DELIVERY_STATUS_ACCEPTED, "contract");
_Static_assert((int)ALERT_STATUS_RETRYING == (int)REDOUBT__V1__DELIVERY_STATUS__DELIVERY_STATUS_RETRYING, "contract");
_Static_assert((int)ALERT_STATUS_FAILED == (int)REDOUBT__V1__DELIVERY_STATUS__DELIVERY_STATUS_FAILED, "contract");
_Static_assert((int)ALERT_STATUS_RECORDED == (int)REDOUBT__V1__DELIVERY_STATUS__DELIVERY_STATUS_RECORDED, "contract");
_Static_assert((int)ALERT_STATUS_EXHAUSTED == (int)REDOUBT__V1__DELIVERY_STATUS__DELIVERY_STATUS_EXHAUSTED,
               "contract");
_Static_assert((int)ALERT_STATUS_WAITING == (int)REDOUBT__V1__DELIVERY_STATUS__DELIVERY_STATUS_WAITING, "contract");
_Static_assert((int)ALERT_STATUS_MUTED == (int)REDOUBT__V1__DELIVERY_STATUS__DELIVERY_STATUS_MUTED, "contract");
_Static_assert((int)ALERT_INFO == (int)REDOUBT__V1__SEVERITY__SEVERITY_INFO, "contract");
_Static_assert((int)ALERT_CRITICAL == (int)REDOUBT__V1__SEVERITY__SEVERITY_CRITICAL, "contract");

/* One saying on its way; the room outlives it. */
struct saying {
    struct alert_room *room;
    loop_cb done;
    void *ctx;
};

static void said(void *ctx)
{
    struct saying *s = ctx;
    struct alert_room *room = s->room;
    room->sayings--;
    if (s->done)
        s->done(s->ctx);
    free(s);
    if (room->service->draining)
        alert_room_settle(room);
    alert_room_unref(room);
}

static void on_stored(void *ctx, const struct bus_stored *r)
{
    if (r->status == BUS_REFUSED)
        log_error("stream refused a receipt", F_STR("why", r->error));
    said(ctx);
}

/* NULL if memory is out: then nobody waits for it. */
static struct saying *saying(struct alert_room *r, loop_cb done, void *ctx)
{
    struct saying *s = malloc(sizeof *s);
    if (!s)
        return NULL;
    *s = (struct saying){r, done, ctx};
    r->sayings++;
    alert_room_ref(r);
    return s;
}

static void announce(struct alert_room *r, const PB(DeliveryReceipt) * receipt, const char *message_id, loop_cb done,
                     void *ctx)
{
    char subject[SUBJECT_MAX_LEN], id[288];
    snprintf(subject, sizeof subject, "%s%s", SUBJECT_DELIVERY, receipt->alert_id);
    /* Final words have one id, so that they are said once even if they are said again after a restart. */
    const char *final = receipt->status == (int)ALERT_STATUS_ACCEPTED   ? "accepted"
                        : receipt->status == (int)ALERT_STATUS_RECORDED ? "recorded"
                        : receipt->status == (int)ALERT_STATUS_MUTED    ? "muted"
                                                                        : NULL;
    bool itself = strcmp(message_id, receipt->alert_id) == 0;
    if (final)
        snprintf(id, sizeof id, "receipt/%s/%s/%s%s%s", receipt->alert_id, receipt->channel, final, itself ? "" : "/",
                 itself ? "" : message_id);
    else
        service_new_id(r->service, id);
    struct saying *s = saying(r, done, ctx);
    if (s)
        service_announce(r->service, subject, id, receipt, on_stored, s);
    else if (done)
        done(ctx);
}

static void audit(struct alert_room *r, const PB(Alert) * a, const PB(DeliveryReceipt) * receipt, const char *action,
                  bool good, loop_cb done, void *ctx)
{
    char attempt[16], code[16], refused[16], detail[ALERT_TITLE_MAX];
    snprintf(attempt, sizeof attempt, "%u", receipt->attempt);
    snprintf(code, sizeof code, "%u", receipt->code);
    snprintf(refused, sizeof refused, "%zu", receipt->n_refused);
    const struct {
        const char *key, *value;
    } rows[] = {{"channel", receipt->channel}, {"channel_kind", receipt->channel_kind},
                {"attempt", attempt},          {"code", code},
                {"dedup_key", a->dedup_key},   {"severity", alert_text_severity(a)},
                {"answer", receipt->detail},   {"parcel", receipt->parcel},
                {"receivers_refused", refused}};
    enum { ROWS = sizeof rows / sizeof *rows };
    PB(Label) labels[ROWS], *fields[ROWS];
    size_t n = 0;
    for (size_t i = 0; i < ROWS; i++) {
        if ((i == 7 && !*receipt->parcel) || (i == 8 && receipt->n_refused == 0))
            continue;
        labels[n] = (PB(Label))REDOUBT__V1__LABEL__INIT;
        labels[n].key = (char *)rows[i].key;
        labels[n].value = (char *)rows[i].value;
        fields[n] = &labels[n];
        n++;
    }
    PB(AuditRecord) record = REDOUBT__V1__AUDIT_RECORD__INIT;
    record.action = (char *)action;
    record.subject = a->id;
    record.outcome =
        good ? REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_DONE : REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_FAILED;
    record.detail = (char *)alert_text_title(a, detail);
    record.fields = fields;
    record.n_fields = n;
    struct saying *s = saying(r, done, ctx);
    if (s)
        alert_trail_add(r, &record, said, s);
    else if (done)
        done(ctx);
}

static const struct {
    struct metric *count;
    const char *action; /* of the audit record; NULL = none */
    enum log_level level;
    const char *event;
    bool of_each; /* of a message of many, each has its own; else the first speaks for all */
} rows[] = {
    [ALERT_STATUS_ACCEPTED] = {&accepted, "alert.delivered", LOG_LEVEL_INFO, "alert delivered", true},
    [ALERT_STATUS_RETRYING] = {&retried, NULL, LOG_LEVEL_INFO, "alert attempt failed, trying again", false},
    [ALERT_STATUS_FAILED] = {&failed, "alert.channel_failed", LOG_LEVEL_WARN, "alert channel given up, next one",
                             false},
    [ALERT_STATUS_RECORDED] = {&recorded, NULL, LOG_LEVEL_DEBUG, "alert recorded", true},
    [ALERT_STATUS_EXHAUSTED] = {&exhausted, "alert.exhausted", LOG_LEVEL_ERROR,
                                "CRITICAL: no channel accepts an alert; it is kept and tried again", false},
    [ALERT_STATUS_WAITING] = {&waiting, NULL, LOG_LEVEL_DEBUG, "alert put by to go out with others", true},
    [ALERT_STATUS_MUTED] = {&muted, "alert.muted", LOG_LEVEL_INFO, "alert muted: nobody is told", true},
};

static void say_one(struct alert_room *r, const PB(Alert) * a, const struct alert_message *m,
                    const struct alert_channel *c, enum alert_status status, int attempt,
                    const struct alert_result *result, const struct alert_said *then)
{
    int code = result ? result->outcome.status : 0;
    PB(DeliveryReceipt) receipt = REDOUBT__V1__DELIVERY_RECEIPT__INIT;
    receipt.alert_id = a->id;
    receipt.dedup_key = a->dedup_key;
    receipt.channel = c ? c->set.name : (char *)"";
    receipt.channel_kind = (char *)(c ? c->kind->name : status == ALERT_STATUS_RECORDED ? "stream" : "");
    receipt.status = (Redoubt__V1__DeliveryStatus)status;
    receipt.attempt = (uint32_t)attempt;
    receipt.code = code > 0 && code <= 999 ? (uint32_t)code : 0;
    receipt.detail = (char *)(result ? result->detail : "");
    receipt.ended_unix_ms = clock_wall_ms();
    receipt.started_unix_ms = result && result->started_unix_ms ? result->started_unix_ms : receipt.ended_unix_ms;
    receipt.severity = a->severity;
    if (result && status == ALERT_STATUS_ACCEPTED) {
        receipt.refused = (char **)result->refused;
        receipt.n_refused = result->n_refused;
    }
    if (m->kind != ALERT_MESSAGE_ONE) {
        receipt.parcel = (char *)m->id;
        receipt.alerts = (uint32_t)m->total;
    }
    if (then->count)
        ++*then->count;
    announce(r, &receipt, m->id, then->done, then->ctx);
    if (!rows[status].action || a->self_test)
        return;
    if (then->count)
        ++*then->count;
    audit(r, a, &receipt, rows[status].action, status == ALERT_STATUS_ACCEPTED, then->done, then->ctx);
}

void alert_say_message(struct alert_room *r, const struct alert_message *m, const struct alert_channel *c,
                       enum alert_status status, int attempt, const struct alert_result *result,
                       const struct alert_said *then)
{
    size_t n = rows[status].of_each ? m->n : 1;
    metric_add(rows[status].count, (int64_t)n);
    LOG_AT(rows[status].level, rows[status].event, F_STR("id", m->id), F_INT("alerts", (int64_t)m->total),
           F_STR("severity", alert_text_severity(m->alerts[0])), F_STR("key", m->alerts[0]->dedup_key),
           F_STR("channel", c ? c->set.name : ""), F_INT("attempt", attempt),
           F_INT("code", result ? result->outcome.status : 0), F_STR("detail", result ? result->detail : ""));
    for (size_t i = 0; i < n; i++)
        say_one(r, m->alerts[i], m, c, status, attempt, result, then);
}

void alert_say_receipt(struct alert_room *r, const PB(Alert) * a, const struct alert_channel *c,
                       enum alert_status status, int attempt, const struct alert_result *result,
                       const struct alert_said *then)
{
    const PB(Alert) * list[] = {a};
    struct alert_message m = alert_message_one(list, NULL);
    alert_say_message(r, &m, c, status, attempt, result, then ? then : &(struct alert_said){0});
}

void alert_say_channel(struct alert_room *r, const struct alert_channel *c, bool broken, const char *why)
{
    char key[NAME_MAX_LEN + sizeof ALERT_CHANNEL_KEY], summary[256], detail[640];
    bool record = c->kind->proto == ALERT_PROTO_FILE;
    snprintf(key, sizeof key, "%s%s", ALERT_CHANNEL_KEY, c->set.name);
    if (broken)
        snprintf(summary, sizeof summary,
                 record ? "The alert record %s cannot be written" : "Alert channel %s is broken", c->set.name);
    else
        snprintf(summary, sizeof summary,
                 record ? "The alert record %s is written again" : "Alert channel %s works again", c->set.name);
    snprintf(detail, sizeof detail, "%s channel %s: %.400s%s", c->kind->name, c->set.name, why,
             broken && !record ? ". Alerts go to the next channel of their route." : "");
    detail[alert_text_cut(detail, sizeof detail, sizeof detail)] = 0;
    char *actions[] = {(char *)(record ? "delivered_without_record" : "next_channel_used")};
    PB(Label) labels[] = {REDOUBT__V1__LABEL__INIT, REDOUBT__V1__LABEL__INIT};
    PB(Label) * list[] = {&labels[0], &labels[1]};
    labels[0].key = (char *)"channel";
    labels[0].value = c->set.name;
    labels[1].key = (char *)"channel_kind";
    labels[1].value = (char *)c->kind->name;
    PB(Alert) a = REDOUBT__V1__ALERT__INIT;
    a.dedup_key = key;
    a.severity = REDOUBT__V1__SEVERITY__SEVERITY_HIGH;
    a.summary = summary;
    a.detail = detail;
    a.labels = list;
    a.n_labels = 2;
    a.resolved = !broken;
    if (broken) {
        a.actions_taken = actions;
        a.n_actions_taken = 1;
    }
    a.evidence_unix_ms = clock_wall_ms();
    service_alert(r->service, &a);
}
