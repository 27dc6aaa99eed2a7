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

_Static_assert((int)ALERT_STATUS_ACCEPTED == (int)REDOUBT__V1__DELIVERY_STATUS__DELIVERY_STATUS_ACCEPTED, "contract");
_Static_assert((int)ALERT_STATUS_RETRYING == (int)REDOUBT__V1__DELIVERY_STATUS__DELIVERY_STATUS_RETRYING, "contract");
_Static_assert((int)ALERT_STATUS_FAILED == (int)REDOUBT__V1__DELIVERY_STATUS__DELIVERY_STATUS_FAILED, "contract");
_Static_assert((int)ALERT_STATUS_RECORDED == (int)REDOUBT__V1__DELIVERY_STATUS__DELIVERY_STATUS_RECORDED, "contract");
_Static_assert((int)ALERT_STATUS_EXHAUSTED == (int)REDOUBT__V1__DELIVERY_STATUS__DELIVERY_STATUS_EXHAUSTED,
               "contract");
_Static_assert((int)ALERT_INFO == (int)REDOUBT__V1__SEVERITY__SEVERITY_INFO, "contract");
_Static_assert((int)ALERT_CRITICAL == (int)REDOUBT__V1__SEVERITY__SEVERITY_CRITICAL, "contract");

/* One saying on its way; the room outlives it. */
struct saying {
    struct alert_room *room;
    loop_cb done;
    void *ctx;
};

static void said(struct saying *s)
{
    struct alert_room *room = s->room;
    if (s->done)
        s->done(s->ctx);
    free(s);
    alert_room_unref(room);
}

static void on_stored(void *ctx, const struct bus_stored *r)
{
    if (r->status == BUS_REFUSED)
        log_error("stream refused a receipt", F_STR("why", r->error));
    said(ctx);
}

static void on_audited(void *ctx, int status, const char *error)
{
    (void)status; /* notify.c has logged it and takes another way */
    (void)error;
    said(ctx);
}

/* NULL if memory is out: then nobody waits for it. */
static struct saying *saying(struct alert_room *r, loop_cb done, void *ctx)
{
    struct saying *s = malloc(sizeof *s);
    if (!s)
        return NULL;
    *s = (struct saying){r, done, ctx};
    alert_room_ref(r);
    return s;
}

static void announce(struct alert_room *r, const PB(Alert) * a, const PB(DeliveryReceipt) * receipt, loop_cb done,
                     void *ctx)
{
    char subject[SUBJECT_MAX_LEN], id[192];
    snprintf(subject, sizeof subject, "%s%s", SUBJECT_DELIVERY, a->id);
    /* Final words have one id, so that they are said once even if they are said again after a restart. */
    const char *final = receipt->status == (int)ALERT_STATUS_ACCEPTED   ? "accepted"
                        : receipt->status == (int)ALERT_STATUS_RECORDED ? "recorded"
                                                                        : NULL;
    if (final)
        snprintf(id, sizeof id, "receipt/%s/%s/%s", a->id, receipt->channel, final);
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
    char attempt[16], code[16], detail[ALERT_TITLE_MAX];
    snprintf(attempt, sizeof attempt, "%u", receipt->attempt);
    snprintf(code, sizeof code, "%u", receipt->code);
    const struct {
        const char *key, *value;
    } rows[] = {{"channel", receipt->channel}, {"channel_kind", receipt->channel_kind},
                {"attempt", attempt},          {"code", code},
                {"dedup_key", a->dedup_key},   {"severity", alert_text_severity(a)},
                {"answer", receipt->detail}};
    enum { ROWS = sizeof rows / sizeof *rows };
    PB(Label) labels[ROWS], *fields[ROWS];
    for (size_t i = 0; i < ROWS; i++) {
        labels[i] = (PB(Label))REDOUBT__V1__LABEL__INIT;
        labels[i].key = (char *)rows[i].key;
        labels[i].value = (char *)rows[i].value;
        fields[i] = &labels[i];
    }
    PB(AuditRecord) record = REDOUBT__V1__AUDIT_RECORD__INIT;
    record.action = (char *)action;
    record.subject = a->id;
    record.outcome =
        good ? REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_DONE : REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_FAILED;
    record.detail = (char *)alert_text_title(a, detail);
    record.fields = fields;
    record.n_fields = ROWS;
    struct saying *s = saying(r, done, ctx);
    if (s)
        service_audit(r->service, &record, on_audited, s);
    else if (done)
        done(ctx);
}

void alert_say_receipt(struct alert_room *r, const PB(Alert) * a, const struct alert_channel *c,
                       enum alert_status status, int attempt, const struct alert_result *result, loop_cb done,
                       void *ctx)
{
    static const struct {
        struct metric *count;
        const char *action;
        enum log_level level;
        const char *event;
    } rows[] = {
        [ALERT_STATUS_ACCEPTED] = {&accepted, "alert.delivered", LOG_LEVEL_INFO, "alert delivered"},
        [ALERT_STATUS_RETRYING] = {&retried, NULL, LOG_LEVEL_INFO, "alert attempt failed, trying again"},
        [ALERT_STATUS_FAILED] = {&failed, "alert.channel_failed", LOG_LEVEL_WARN, "alert channel given up, next one"},
        [ALERT_STATUS_RECORDED] = {&recorded, NULL, LOG_LEVEL_DEBUG, "alert recorded"},
        [ALERT_STATUS_EXHAUSTED] = {&exhausted, "alert.exhausted", LOG_LEVEL_ERROR,
                                    "CRITICAL: no channel accepts an alert; it is kept and tried again"},
    };
    metric_add(rows[status].count, 1);
    int code = result ? result->outcome.status : 0;
    const char *detail = result ? result->detail : "";
    LOG_AT(rows[status].level, rows[status].event, F_STR("id", a->id), F_STR("severity", alert_text_severity(a)),
           F_STR("key", a->dedup_key), F_STR("channel", c ? c->set.name : ""), F_INT("attempt", attempt),
           F_INT("code", code), F_STR("detail", detail));
    PB(DeliveryReceipt) receipt = REDOUBT__V1__DELIVERY_RECEIPT__INIT;
    receipt.alert_id = a->id;
    receipt.dedup_key = a->dedup_key;
    receipt.channel = c ? c->set.name : (char *)"";
    receipt.channel_kind = (char *)(c ? c->kind->name : status == ALERT_STATUS_RECORDED ? "stream" : "");
    receipt.status = (Redoubt__V1__DeliveryStatus)status;
    receipt.attempt = (uint32_t)attempt;
    receipt.code = code > 0 && code <= 999 ? (uint32_t)code : 0;
    receipt.detail = (char *)detail;
    receipt.ended_unix_ms = clock_wall_ms();
    receipt.started_unix_ms = result && result->started_unix_ms ? result->started_unix_ms : receipt.ended_unix_ms;
    receipt.severity = a->severity;
    announce(r, a, &receipt, done, ctx);
    if (rows[status].action)
        audit(r, a, &receipt, rows[status].action, status == ALERT_STATUS_ACCEPTED, done, ctx);
    else if (done)
        done(ctx);
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
