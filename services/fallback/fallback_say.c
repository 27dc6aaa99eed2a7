/* fallback_say.c - what an agent's change says: its directive, and the alerts and audit records that it owes. */
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include "fallback/fallback_shell.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

METRIC_DEFINE(resent, METRIC_COUNTER, "redoubt_fallback_resent_total",
              "Directives sent again because the agent did not confirm.");

#define OWED_AGAIN_MS 5000 /* after an outbox that refused */
/* Agents wait for directives; people can wait a little longer. Packing and syncing alerts and records would delay the next agents'. */
#define SAY_AFTER_MS  5
#define SAY_BY_MS     200 /* then, even if directives are still being written */
#define SAY_AT_ONCE   32  /* agents per turn of the loop */

/* ---- the directive ---- */

struct out {
    char subject[SUBJECT_MAX_LEN];
    char id[SUBJECT_MAX_LEN];
};

static struct bus_out directive_out(const struct agent *a, struct out *o)
{
    snprintf(o->subject, sizeof o->subject, "%s%s", SUBJECT_DIRECTIVE, a->name);
    snprintf(o->id, sizeof o->id, "directive/%s/%" PRIu64, a->name, a->f.doc.epoch);
    return (struct bus_out){.subject = o->subject,
                            .id = o->id,
                            .type = "redoubt.v1.Directive",
                            .data = a->directive.data,
                            .len = a->directive.len};
}

static void on_marked(void *ctx, enum store_status st, const redisReply *reply)
{
    (void)ctx; /* if it did not work, the next leader announces once more under the same id */
    (void)st;
    (void)reply;
}

static void on_stored(void *ctx, const struct bus_stored *r)
{
    struct ticket *t = ctx;
    struct agent *a = ticket_agent(t);
    uint64_t epoch = t->n;
    free(t);
    if (!a)
        return;
    a->announcing--;
    if (r->status == BUS_REFUSED)
        log_error("directive refused by its stream; tried again", F_STR("agent", a->name), F_INT("epoch", epoch),
                  F_STR("why", r->error));
    if (r->status != BUS_OK || epoch != a->f.doc.epoch || !agent_decided(a))
        return;
    a->pending = false;
    if (a->place == HERE)
        store_doc_announced(a->sh->s->store, a->key, a->rev, on_marked, NULL);
    /* While STORING the mark would be for a revision that is history: it follows the write. */
}

void agent_announce(struct agent *a)
{
    struct out o = {.subject = ""};
    struct bus_out b = directive_out(a, &o);
    a->announcing++;
    a->announced_mono_ms = clock_mono_ms();
    bus_store(a->sh->s->bus, &b, 0, on_stored, ticket_new(a, a->f.doc.epoch));
}

void agent_resend(struct agent *a)
{
    struct out o = {.subject = ""};
    struct err e;
    struct bus_out b = directive_out(a, &o);
    metric_add(&resent, 1);
    if (bus_publish(a->sh->s->bus, &b, &e))
        log_warn("directive not sent again", F_STR("agent", a->name), F_STR("why", e.text));
}

/* ---- alerts and audit records ---- */

static void label(PB(Label) * l, const char *key, const char *value)
{
    *l = (PB(Label))PB_INIT(LABEL);
    l->key = (char *)key;
    l->value = (char *)value;
}

/* Kept as bytes: that is how the document holds it, and agents wait for their directives meanwhile. */
static struct owed *keep(struct shell *sh, const PB(OwedNotice) * m)
{
    struct err e;
    struct bytes b = {0};
    b.data = wire_pack(m, &b.len, &e);
    struct owed *o = b.data ? calloc(1, sizeof *o) : NULL;
    if (!o) {
        log_error("own notice is not valid", F_STR("why", b.data ? "out of memory" : e.text));
        bytes_free(&b);
        return NULL;
    }
    o->packed = b;
    o->id = ++sh->owed_ids;
    return o;
}

static struct owed *alert_of(struct agent *a, const struct fallback_effect *e, const struct fallback_doc *d,
                             const char *id)
{
    const struct fallback_notice_row *row = &fallback_notices[e->notice];
    char key[NAME_MAX_LEN + 64], epoch[24];
    snprintf(key, sizeof key, "agent/%s/%s", a->name, row->key);
    snprintf(epoch, sizeof epoch, "%" PRIu64, d->epoch);
    PB(Label) labels[2];
    label(&labels[0], "epoch", epoch);
    label(&labels[1], "posture", fallback_posture_name(d->posture));
    PB(Label) * list[] = {&labels[0], &labels[1]};
    const char *actions[FALLBACK_ACTIONS_MAX];
    PB(Alert) m = PB_INIT(ALERT);
    m.id = (char *)id;
    m.source = (char *)a->sh->s->desc->name;
    m.dedup_key = key;
    m.severity = (Redoubt__V1__Severity)row->severity;
    m.agent = a->name;
    m.target = (char *)d->cause;
    bool by_person = e->notice == FALLBACK_NOTICE_FROZEN && d->failure == FALLBACK_FAILURE_NONE;
    m.failure_kind = (Redoubt__V1__FailureKind)(by_person ? FALLBACK_FAILURE_NONE : row->failure);
    m.summary = (char *)e->text;
    m.detail = (char *)d->reason;
    m.resolved = e->resolved;
    m.manual_intervention_required = row->manual && !e->resolved;
    m.evidence_unix_ms = d->evidence_ms;
    m.raised_unix_ms = clock_wall_ms();
    m.labels = list;
    m.n_labels = 2;
    m.actions_taken = (char **)actions;
    m.n_actions_taken = fallback_actions(e, d, actions);
    PB(OwedNotice) o = PB_INIT(OWED_NOTICE);
    o.notice_case = REDOUBT__V1__OWED_NOTICE__NOTICE_ALERT;
    o.alert = &m;
    return keep(a->sh, &o);
}

static struct owed *record_of(struct agent *a, const struct fallback_effect *e, const struct fallback_doc *d,
                              const char *id)
{
    char llm[16];
    snprintf(llm, sizeof llm, "%d", d->llm_index);
    PB(Label) labels[3];
    label(&labels[0], "posture", fallback_posture_name(d->posture));
    label(&labels[1], "llm_index", llm);
    label(&labels[2], "cause", d->cause);
    PB(Label) * list[] = {&labels[0], &labels[1], &labels[2]};
    PB(AuditRecord) m = PB_INIT(AUDIT_RECORD);
    m.id = (char *)id;
    m.service = (char *)a->sh->s->desc->name;
    m.instance = (char *)a->sh->s->instance;
    m.at_unix_ms = clock_wall_ms();
    m.audit_class =
        e->strict ? REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_STRICT : REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_CONTINUITY;
    m.action = (char *)e->action;
    m.actor = (char *)(e->actor ? e->actor : a->sh->s->desc->name);
    m.subject = a->name;
    m.outcome = REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_DONE;
    m.epoch = d->epoch;
    m.detail = (char *)e->text;
    m.fields = list;
    m.n_fields = 3;
    PB(OwedNotice) o = PB_INIT(OWED_NOTICE);
    o.notice_case = REDOUBT__V1__OWED_NOTICE__NOTICE_AUDIT;
    o.audit = &m;
    return keep(a->sh, &o);
}

/* The id is made once and stored with the document: whoever says it again says it under the same id. */
struct owed *owed_new(struct agent *a, const struct fallback_effect *e, const struct fallback_doc *d)
{
    char id[48];
    service_new_id(a->sh->s, id);
    return e->kind == FALLBACK_TELL ? alert_of(a, e, d, id) : record_of(a, e, d, id);
}

struct owed *owed_take(struct shell *sh, PB(AgentState) * m)
{
    struct owed *first = NULL, **end = &first;
    for (size_t i = 0; i < m->n_owed; i++)
        if ((*end = keep(sh, m->owed[i])))
            end = &(*end)->next;
    return first;
}

static void on_durable(void *ctx, int status, const char *error)
{
    (void)error; /* said by whoever refused */
    struct ticket *t = ctx;
    struct agent *a = ticket_agent(t);
    uint64_t id = t->n;
    free(t);
    for (struct owed *o = a ? a->owed : NULL; o; o = o->next)
        if (o->id == id) {
            o->state = status == 0 ? OWED_DURABLE : OWED_WAITS;
            o->again_mono_ms = clock_mono_ms() + OWED_AGAIN_MS;
        }
}

void owed_send(struct agent *a)
{
    for (struct owed *o = a->owed; o; o = o->next) {
        if (o->state != OWED_WAITS || clock_mono_ms() < o->again_mono_ms)
            continue;
        struct err e;
        PB(OwedNotice) *m = wire_unpack(PB_DESC(owed_notice), o->packed.data, o->packed.len, &e);
        if (!m) {
            log_error("own notice cannot be read", F_STR("agent", a->name), F_STR("why", e.text));
            o->again_mono_ms = clock_mono_ms() + OWED_AGAIN_MS;
            continue;
        }
        o->state = OWED_SENT;
        struct ticket *t = ticket_new(a, o->id);
        if (m->notice_case == REDOUBT__V1__OWED_NOTICE__NOTICE_ALERT) {
            PB(Alert) copy = *m->alert; /* what the service fills in is not ours to free */
            service_alert_durable(a->sh->s, &copy, on_durable, t);
        } else {
            PB(AuditRecord) copy = *m->audit;
            service_audit(a->sh->s, &copy, on_durable, t);
        }
        wire_free(m);
    }
}

/* ---- when ---- */

static bool to_say(const struct agent *a)
{
    return a->say_prev; /* utlist: the first's is the last */
}

void agent_say_soon(struct agent *a)
{
    struct shell *sh = a->sh;
    if (to_say(a) || !a->owed)
        return;
    if (!sh->to_say)
        sh->say_by_mono_ms = clock_mono_ms() + SAY_BY_MS;
    DL_APPEND2(sh->to_say, a, say_prev, say_next);
    if (!loop_timer_active(&sh->say))
        loop_timer_start(&sh->say, SAY_AFTER_MS, 0);
}

void agent_say_not(struct agent *a)
{
    if (!to_say(a))
        return;
    DL_DELETE2(a->sh->to_say, a, say_prev, say_next);
    a->say_prev = a->say_next = NULL;
}

static void say(struct shell *sh, size_t most)
{
    while (sh->to_say && most-- > 0) {
        struct agent *a = sh->to_say;
        agent_say_not(a);
        if (a->place == HERE) /* otherwise its next write asks again, or the tick */
            owed_send(a);
    }
}

void shell_say_all(struct shell *sh)
{
    say(sh, SIZE_MAX);
}

void shell_on_say(void *ctx)
{
    struct shell *sh = ctx;
    if ((sh->storing > 0 || sh->to_look) && clock_mono_ms() < sh->say_by_mono_ms) {
        loop_timer_start(&sh->say, SAY_AFTER_MS, 0);
        return;
    }
    say(sh, SAY_AT_ONCE);
    if (sh->to_say)
        loop_timer_start(&sh->say, 1, 0);
}

bool owed_any_durable(const struct agent *a)
{
    for (const struct owed *o = a->owed; o; o = o->next)
        if (o->state == OWED_DURABLE)
            return true;
    return false;
}

void owed_drop_left_out(struct agent *a)
{
    for (struct owed **at = &a->owed; *at;) {
        struct owed *o = *at;
        if (!o->left_out) {
            at = &o->next;
            continue;
        }
        *at = o->next;
        bytes_free(&o->packed);
        free(o);
    }
}

void owed_free(struct owed *o)
{
    while (o) {
        struct owed *next = o->next;
        bytes_free(&o->packed);
        free(o);
        o = next;
    }
}
