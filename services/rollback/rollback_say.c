/* rollback_say.c - what a deployment's change says: its announcement, alerts, records of the trail, lines of the log, metrics. */
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include "rollback/rollback_shell.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

METRIC_DEFINE(jobs_started, METRIC_COUNTER, "redoubt_rollback_jobs_total", "Jobs that were started.");
METRIC_DEFINE(jobs_done, METRIC_COUNTER, "redoubt_rollback_jobs_done_total",
              "Jobs that ended with the earlier version in place.");
METRIC_DEFINE(jobs_aborted, METRIC_COUNTER, "redoubt_rollback_jobs_aborted_total", "Jobs that were taken back.");
METRIC_DEFINE(jobs_refused, METRIC_COUNTER, "redoubt_rollback_jobs_refused_total",
              "Jobs that were refused before anything was changed.");
METRIC_DEFINE(step_overhead, METRIC_GAUGE, "redoubt_rollback_step_overhead_ms",
              "Own time between two observations, of the last step.");
METRIC_DEFINE(kept_now, METRIC_GAUGE, "redoubt_rollback_versions_kept", "Versions that are protected from clean-up.");
METRIC_DEFINE(busy_now, METRIC_GAUGE, "redoubt_rollback_jobs_now", "Jobs that are under way, held ones too.");
METRIC_DEFINE(holding_now, METRIC_GAUGE, "redoubt_rollback_jobs_holding", "Jobs that wait for a person.");

/* One counter per reason. */
#define HOLDS(reason, text)                                                                                          \
    {                                                                                                                \
        .name = "redoubt_rollback_holds_" reason "_total", .help = text, .kind = METRIC_COUNTER                      \
    }
static struct metric holds[] = {
    [ROLLBACK_HOLD(UNSPECIFIED)] = HOLDS("other", "Holds for no reason of the others."),
    [ROLLBACK_HOLD(OPERATOR)] = HOLDS("operator", "Holds by a person."),
    [ROLLBACK_HOLD(REGRESSION)] = HOLDS("regression", "Holds because the version that is gone back to is worse."),
    [ROLLBACK_HOLD(NO_DATA)] = HOLDS("no_data", "Holds because the checks have not said enough."),
    [ROLLBACK_HOLD(CAPACITY)] = HOLDS("capacity", "Holds because a version cannot carry its share."),
    [ROLLBACK_HOLD(TARGET_LOST)] = HOLDS("target_lost", "Holds because the version that is gone back to has died."),
    [ROLLBACK_HOLD(BOTH_LOST)] = HOLDS("both_lost", "Holds because neither version is well."),
    [ROLLBACK_HOLD(FAILED)] = HOLDS("failed", "Holds because an act was not done."),
    [ROLLBACK_HOLD(CHANGED)] = HOLDS("changed", "Holds because somebody else has changed what stands."),
};

#define SAID_AGAIN_MS 60000

/* ---- the announcement ---- */

#define DOC_EPOCH(d) ((d)->doc->epoch)

static void on_stored(void *ctx, const struct bus_stored *r)
{
    uint64_t epoch;
    struct deployment *d = rollback_ticket_back(ctx, &epoch);
    if (!d)
        return;
    d->announcing--;
    if (r->status == BUS_REFUSED)
        log_error("announcement refused by its stream; tried again", F_STR("deployment", d->name),
                  F_INT("epoch", epoch), F_STR("why", r->error));
    if (r->status == BUS_OK && epoch == DOC_EPOCH(d) && deployment_decided(d))
        deployment_marked(d);
}

void deployment_announce(struct deployment *d)
{
    char subject[SUBJECT_MAX_LEN], id[SUBJECT_MAX_LEN];
    snprintf(subject, sizeof subject, "%s%s", SUBJECT_ROLLBACK, d->name);
    snprintf(id, sizeof id, "rollback/%s/%" PRIu64, d->name, DOC_EPOCH(d));
    struct bus_out o = {.subject = subject,
                        .id = id,
                        .type = "redoubt.v1.RollbackChanged",
                        .data = d->packed.data,
                        .len = d->packed.len};
    d->announcing++;
    d->announced_mono_ms = clock_mono_ms();
    bus_store(d->room->s->bus, &o, 0, on_stored, rollback_ticket(d, DOC_EPOCH(d)));
}

/* ---- alerts ---- */

static const struct notice {
    const char *key;
    int severity;
    bool manual; /* automation stands still until a person decides */
} notices[ROLLBACK_NOTICES] = {
    [ROLLBACK_NOTICE_STARTED] = {"started", REDOUBT__V1__SEVERITY__SEVERITY_WARNING, false},
    [ROLLBACK_NOTICE_HOLD] = {"hold", REDOUBT__V1__SEVERITY__SEVERITY_HIGH, true},
    [ROLLBACK_NOTICE_FAILED] = {"failed", REDOUBT__V1__SEVERITY__SEVERITY_HIGH, false},
    [ROLLBACK_NOTICE_DONE] = {"done", REDOUBT__V1__SEVERITY__SEVERITY_INFO, false},
    [ROLLBACK_NOTICE_REGRESSION] = {"regression", REDOUBT__V1__SEVERITY__SEVERITY_HIGH, false},
    [ROLLBACK_NOTICE_STRAYS] = {"strays", REDOUBT__V1__SEVERITY__SEVERITY_WARNING, false},
    [ROLLBACK_NOTICE_KEPT] = {"kept", REDOUBT__V1__SEVERITY__SEVERITY_WARNING, false},
    [ROLLBACK_NOTICE_ASTRAY] = {"traffic", REDOUBT__V1__SEVERITY__SEVERITY_HIGH, true},
};

static void label(PB(Label) * l, const char *key, const char *value)
{
    *l = (PB(Label))PB_INIT(LABEL);
    l->key = (char *)key;
    l->value = (char *)value;
}

static const char *phase_name(int phase)
{
    return wire_enum_name(&redoubt__v1__rollback_phase__descriptor, phase);
}

/* What was done so far, in the words of the journal. */
static size_t actions_taken(const struct rollback_job *j, const char *out[static 8])
{
    size_t n = 0;
    if (j->snapshot[0])
        out[n++] = "learning_data_saved";
    if (j->data_replaced)
        out[n++] = "learning_data_replaced";
    if (j->target_made)
        out[n++] = "earlier_version_started";
    if (j->weight < 100 && j->target_made)
        out[n++] = "traffic_moved";
    if (j->from_stopped)
        out[n++] = "former_version_stopped";
    if (j->phase == ROLLBACK_PHASE(HOLD))
        out[n++] = "rollback_holds";
    return n;
}

void deployment_alert(struct deployment *d, const struct rollback_effect *e, bool resolved)
{
    const struct notice *row = &notices[e->notice];
    const struct rollback_job *j = &d->doc->job;
    bool kept = e->notice == ROLLBACK_NOTICE_KEPT; /* a kept version, each by itself */
    char key[NAME_MAX_LEN + 64 + ROLLBACK_NAME], weight[16], detail[1200], summary[512];
    const char *actions[8];
    PB(Label) labels[7], *list[7];
    size_t n = 0;
    snprintf(key, sizeof key, "rollback/%s/%s%s%s", d->name, row->key, kept ? "/" : "",
             kept ? rollback_doc_name(d->doc, e->version) : "");
    snprintf(weight, sizeof weight, "%d", j->weight);
    bool of_job = e->notice != ROLLBACK_NOTICE_REGRESSION && e->notice != ROLLBACK_NOTICE_STRAYS &&
                  e->notice != ROLLBACK_NOTICE_ASTRAY && !kept;
    if (resolved && !kept && !(d->raised & 1U << e->notice))
        return; /* nobody was told */
    d->raised = resolved ? d->raised & ~(1U << e->notice) : d->raised | 1U << e->notice;
    label(&labels[n++], "deployment", d->name);
    if (of_job && j->id[0]) {
        label(&labels[n++], "job", j->id);
        label(&labels[n++], "phase", phase_name(j->phase));
        label(&labels[n++], "from", rollback_doc_name(d->doc, j->from));
        label(&labels[n++], "to", rollback_doc_name(d->doc, j->to));
        label(&labels[n++], "weight_percent", weight);
    } else if (kept) {
        label(&labels[n++], "version", rollback_doc_name(d->doc, e->version));
    } else if (d->doc->current[0]) {
        label(&labels[n++], "version", rollback_doc_name(d->doc, d->doc->current));
    }
    for (size_t i = 0; i < n; i++)
        list[i] = &labels[i];
    /* A resolution has no words of its own. */
    snprintf(summary, sizeof summary, "%s%s%.440s", e->text[0] ? "" : d->name, e->text[0] ? "" : ": ",
             e->text[0] ? e->text : "it is over");
    if (e->notice == ROLLBACK_NOTICE_HOLD && !resolved)
        snprintf(detail, sizeof detail,
                 "%.700s\nTo go on: redoubt rollback resume %s --by NAME --reason WHY\nTo go back to the former "
                 "version: redoubt rollback "
                 "abort %s --by NAME --reason WHY",
                 j->reason, d->name, d->name);
    else if (e->notice == ROLLBACK_NOTICE_REGRESSION && !resolved)
        snprintf(detail, sizeof detail,
                 "%.700s\nTo look at what would be done: redoubt rollback start %s --dry-run\nTo go back: redoubt "
                 "rollback start %s --by "
                 "NAME --reason WHY",
                 e->text, d->name, d->name);
    else if (kept && !resolved)
        snprintf(
            detail, sizeof detail,
            "%.700s\nIt is looked at again by itself (rollback.check_kept). To see what is left: redoubt rollback "
            "versions %s",
            e->text, d->name);
    else if (e->notice == ROLLBACK_NOTICE_ASTRAY && !resolved)
        snprintf(
            detail, sizeof detail,
            "%.700s\nThe last time it was set: %s\nIs somebody else setting it? If not: look at the proxy. It is "
            "tried again in 5 minutes.",
            e->text, d->steer_error[0] ? d->steer_error : "done without an error, but it did not stay");
    else
        snprintf(detail, sizeof detail, "%.700s", of_job ? j->reason : e->text);
    rollback_text_clean(summary);
    rollback_text_clean(detail);
    PB(Alert) a = PB_INIT(ALERT);
    a.dedup_key = key;
    a.severity = e->critical ? REDOUBT__V1__SEVERITY__SEVERITY_CRITICAL
                 : e->high   ? REDOUBT__V1__SEVERITY__SEVERITY_HIGH
                             : (Redoubt__V1__Severity)row->severity;
    a.agent = d->set->agent;
    a.summary = summary;
    a.detail = detail;
    a.labels = list;
    a.n_labels = n;
    a.actions_taken = (char **)actions;
    a.n_actions_taken = of_job ? actions_taken(j, actions) : 0;
    a.manual_intervention_required = row->manual && !resolved;
    a.evidence_unix_ms = clock_shared_ms();
    a.resolved = resolved;
    service_alert(d->room->s, &a);
}

/* Critical as when it was decided. */
static bool held_critically(const struct deployment *d)
{
    const struct rollback_job *j = &d->doc->job;
    if (j->hold == ROLLBACK_HOLD(TARGET_LOST) || j->hold == ROLLBACK_HOLD(BOTH_LOST))
        return true;
    for (size_t i = 0; j->hold == ROLLBACK_HOLD(REGRESSION) && i < j->judge.n; i++)
        for (size_t k = 0; k < d->rule.judge.n; k++)
            if (strcmp(d->rule.judge.checks[k].name, j->judge.checks[i].name) == 0 &&
                d->rule.judge.checks[k].check_class == ROLLBACK_SECURITY &&
                j->judge.checks[i].outcome == REDOUBT__V1__CHECK_OUTCOME__CHECK_OUTCOME_FAILED)
                return true;
    return false;
}

/* Whoever acted before may have died between the document and what it has to say: it is said again. It is about the same problem, so people
 * are not told twice. */
void deployment_alert_again(struct deployment *d)
{
    const struct rollback_job *j = &d->doc->job;
    struct rollback_effect e = {.kind = ROLLBACK_RAISE, .notice = ROLLBACK_NOTICE_HOLD};
    bool recent = j->ended_ms && clock_shared_ms() - j->ended_ms < SAID_AGAIN_MS;
    if (j->phase == ROLLBACK_PHASE(HOLD)) {
        e.critical = held_critically(d);
        snprintf(e.text, sizeof e.text, "%s: the rollback holds: %.400s", d->name, j->reason);
        deployment_alert(d, &e, false);
    } else if (rollback_busy(d->doc)) {
        if (j->holds > 0)
            deployment_alert(d, &e, true);
    } else if (recent) {
        e.notice = j->phase == ROLLBACK_PHASE(DONE) ? ROLLBACK_NOTICE_DONE : ROLLBACK_NOTICE_FAILED;
        snprintf(e.text, sizeof e.text, "%s: the rollback from %s to %s is %s: %.300s", d->name,
                 rollback_doc_name(d->doc, j->from), rollback_doc_name(d->doc, j->to), phase_name(j->phase),
                 j->reason);
        deployment_alert(d, &e, false);
    }
}

#define UNSEEN_ALERT 3 /* in a row: one may pass */

void deployment_unseen(struct deployment *d, const char *why)
{
    if (!why) {
        d->unseen = 0;
        if (!d->unseen_alert)
            return;
    } else if (++d->unseen != UNSEEN_ALERT) {
        return;
    }
    char key[NAME_MAX_LEN + 64], summary[256];
    d->unseen_alert = why;
    snprintf(key, sizeof key, "rollback/%s/unseen", d->name);
    snprintf(summary, sizeof summary,
             why ? "%s: what runs cannot be seen, so it could not be rolled back" : "%s: what runs is seen again",
             d->name);
    PB(Alert) a = PB_INIT(ALERT);
    a.dedup_key = key;
    a.severity = REDOUBT__V1__SEVERITY__SEVERITY_WARNING;
    a.agent = d->set->agent;
    a.summary = summary;
    a.detail = (char *)(why ? why : "");
    a.resolved = !why;
    service_alert(d->room->s, &a);
    log_warn(why ? "what runs cannot be seen" : "what runs is seen again", F_STR("deployment", d->name),
             F_STR("why", why ? why : ""));
}

/* ---- the trail ---- */

static void on_recorded(void *ctx, int status, const char *error)
{
    struct deployment *d = rollback_ticket_back(ctx, NULL);
    if (d)
        deployment_recorded(d, status == 0, error ? error : "");
}

static const char *actor(const struct rollback_effect *e, const struct queued *q, const struct rollback_doc *doc)
{
    if (e->by[0])
        return e->by;
    switch (q ? q->kind : ROLLBACK_TICK) {
    case ROLLBACK_START:
    case ROLLBACK_HOLD_IT:
    case ROLLBACK_RESUME:
    case ROLLBACK_ABORT:
    case ROLLBACK_EMERGENCY:
        return q->u.order.by;
    default:
        return doc->job.by;
    }
}

void deployment_audit(struct deployment *d, const struct rollback_doc *doc, const struct rollback_effect *e,
                      const struct queued *q, bool intended)
{
    const struct rollback_job *j = &doc->job;
    char weight[16], detail[sizeof e->text];
    PB(Label) labels[6], *list[6];
    memcpy(detail, e->text, sizeof detail);
    rollback_text_clean(detail);
    snprintf(weight, sizeof weight, "%d", j->wanted);
    label(&labels[0], "job", j->id);
    label(&labels[1], "phase", phase_name(j->phase));
    label(&labels[2], "from", rollback_doc_name(doc, j->from));
    label(&labels[3], "to", rollback_doc_name(doc, j->to));
    label(&labels[4], "weight_percent", weight);
    label(&labels[5], "started_by", j->by);
    for (size_t i = 0; i < 6; i++)
        list[i] = &labels[i];
    PB(AuditRecord) r = PB_INIT(AUDIT_RECORD);
    r.action = (char *)(e->action && *e->action ? e->action : "rollback.change");
    r.actor = (char *)actor(e, q, doc);
    r.subject = d->name;
    r.outcome = intended ? REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_INTENDED
                         : REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_DONE;
    r.audit_class =
        e->strict ? REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_STRICT : REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_CONTINUITY;
    r.epoch = doc->epoch;
    r.detail = detail;
    r.fields = list;
    r.n_fields = 6;
    if (e->strict)
        service_audit(d->room->s, &r, on_recorded, rollback_ticket(d, 0));
    else
        service_audit(d->room->s, &r, NULL, NULL);
}

/* ---- lines and figures ---- */

static void count_end(int phase)
{
    metric_add(phase == ROLLBACK_PHASE(DONE)      ? &jobs_done
               : phase == ROLLBACK_PHASE(ABORTED) ? &jobs_aborted
                                                  : &jobs_refused,
               1);
}

void deployment_say_change(struct deployment *d, const struct rollback_doc *was, const struct rollback_doc *now)
{
    const struct rollback_job *a = &was->job, *b = &now->job;
    bool other = strcmp(a->id, b->id) != 0;
    if (other && b->id[0])
        metric_add(&jobs_started, 1);
    if ((other || a->phase != b->phase) && !rollback_busy(now) && b->phase != ROLLBACK_PHASE(IDLE))
        count_end(b->phase);
    if (b->phase == ROLLBACK_PHASE(HOLD) && (a->phase != b->phase || a->hold != b->hold) && b->hold >= 0 &&
        (size_t)b->hold < sizeof holds / sizeof holds[0])
        metric_add(&holds[b->hold], 1);
    if (a->overhead_ms != b->overhead_ms)
        metric_set(&step_overhead, b->overhead_ms);
    if (strcmp(was->current, now->current) != 0)
        log_info("another version is the current one", F_STR("deployment", d->name), F_STR("version", now->current),
                 F_STR("name", rollback_doc_name(now, now->current)));
    if (other || a->phase != b->phase || a->stage != b->stage || a->step != b->step || a->hold != b->hold)
        log_info("rollback", F_STR("deployment", d->name), F_STR("job", b->id), F_STR("phase", phase_name(b->phase)),
                 F_STR("stage", wire_enum_name(&redoubt__v1__rollback_stage__descriptor, b->stage)),
                 F_INT("step", b->step), F_INT("weight", b->weight),
                 F_STR("hold", wire_enum_name(&redoubt__v1__rollback_hold__descriptor, b->hold)),
                 F_STR("reason", b->reason), F_INT("epoch", now->epoch));
}

void deployment_resettle_metrics(struct rollback_room *r)
{
    int64_t kept = 0, busy = 0, holding = 0;
    for (const struct deployment *d = r->deployments; d; d = d->hh.next) {
        if (!deployment_decided(d))
            continue;
        for (size_t i = 0; i < d->doc->n_versions; i++)
            kept += d->doc->versions[i].kept;
        busy += rollback_busy(d->doc);
        holding += d->doc->job.phase == ROLLBACK_PHASE(HOLD);
    }
    metric_set(&kept_now, kept);
    metric_set(&busy_now, busy);
    metric_set(&holding_now, holding);
}
