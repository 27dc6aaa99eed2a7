/* continuity_say.c - what the room says: documents and events of incidents, records for the trail, what was demonstrated.
 *
 * What the board changes within a moment is one document. It is durable in the outbox before anybody is answered, and its id says which leader made it: so that two
 * that lead for a while do not take the place of each other unseen. */
#include "common/log.h"
#include "common/metric.h"
#include "continuity/continuity_impl.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

METRIC_DEFINE(documents, METRIC_COUNTER, "redoubt_continuity_documents_total", "Documents and events announced.");
METRIC_DEFINE(not_kept, METRIC_COUNTER, "redoubt_continuity_not_durable_total",
              "Documents that the outbox could not make durable; sent to the bus directly instead.");
METRIC_DEFINE(again, METRIC_COUNTER, "redoubt_continuity_said_again_total",
              "Documents said again, because an older one of another leader came after them.");

#define DETAIL_TEXT 512
#define DIRECT_MS   60000

/* ---- documents ---- */

struct kept {
    struct continuity *c; /* only its service is used: it outlives the room */
    struct service *s;
    outbox_cb then;
    void *ctx;
    const char *type;
    char subject[SUBJECT_MAX_LEN], id[SUBJECT_MAX_LEN];
    size_t len;
    unsigned char data[];
};

static void ignore(void *ctx, const struct bus_stored *r)
{
    (void)ctx;
    if (r->status == BUS_REFUSED)
        log_error("stream refused a document", F_STR("why", r->error));
}

static void on_kept(void *ctx, int status, const char *error)
{
    struct kept *k = ctx;
    if (status != 0) {
        metric_add(&not_kept, 1);
        log_error("a document is not durable here; it goes to the bus directly", F_STR("subject", k->subject),
                  F_STR("why", error));
        struct bus_out o = {.subject = k->subject, .id = k->id, .type = k->type, .data = k->data, .len = k->len};
        if (k->s->bus)
            bus_store(k->s->bus, &o, DIRECT_MS, ignore, NULL);
    }
    if (k->then)
        k->then(k->ctx, status, error);
    free(k);
}

struct refused {
    outbox_cb then;
    void *ctx;
};

static void on_refused(void *ctx)
{
    struct refused r = *(struct refused *)ctx;
    free(ctx);
    r.then(r.ctx, -1, "the document itself is not valid, or memory is out");
}

static void refuse(struct service *s, outbox_cb then, void *ctx)
{
    struct refused *r = then ? malloc(sizeof *r) : NULL;
    if (!r)
        return;
    *r = (struct refused){then, ctx};
    loop_defer(&s->loop, on_refused, r);
}

void say_document(struct continuity *c, const char *subject, const char *id, const void *message, outbox_cb then,
                  void *ctx)
{
    struct err e;
    size_t len;
    void *data = wire_pack(message, &len, &e);
    struct kept *k = data ? malloc(sizeof *k + len) : NULL;
    if (!k) {
        log_error("own document cannot be said", F_STR("subject", subject),
                  F_STR("why", data ? "no memory" : e.text));
        free(data);
        refuse(c->s, then, ctx);
        return;
    }
    *k = (struct kept){.c = c, .s = c->s, .then = then, .ctx = ctx, .type = wire_type(message), .len = len};
    snprintf(k->subject, sizeof k->subject, "%s", subject);
    snprintf(k->id, sizeof k->id, "%s", id);
    memcpy(k->data, data, len);
    free(data);
    metric_add(&documents, 1);
    struct outbox_item i = {.subject = k->subject, .id = k->id, .type = k->type, .data = k->data, .len = len};
    if (c->s->outbox)
        outbox_append(c->s->outbox, &i, on_kept, k);
    else
        on_kept(k, -1, "the service ends");
}

void continuity_announce(struct continuity *c, const char *subject, uint64_t revision, const void *message)
{
    char id[SUBJECT_MAX_LEN + 48];
    const char *tail = subject_tail(subject, SUBJECT_PREFIX);
    snprintf(id, sizeof id, "%s/%" PRIu64 "/%" PRIu64, tail ? tail : subject, revision, c->fence);
    say_document(c, subject, id, message, NULL, NULL);
}

/* ---- incidents ---- */

static void say_one(struct continuity *c, struct incident *x, struct file *f, outbox_cb then, void *ctx)
{
    char subject[SUBJECT_MAX_LEN], id[SUBJECT_MAX_LEN], more[40] = "";
    PB(IncidentChanged) *doc = board_pack(c->board, x, continuity_now_ms(c), c->fence);
    if (!doc) {
        log_error("an incident cannot be said: out of memory", F_STR("incident", x->id));
        refuse(c->s, then, ctx);
        return;
    }
    if (f->said == x->epoch && f->again > 0) {
        snprintf(more, sizeof more, "/again-%u", f->again);
        metric_add(&again, 1);
    }
    f->said = x->epoch;
    snprintf(id, sizeof id, "incident/%s/%" PRIu64 "/%" PRIu64 "%s", x->id, x->epoch, c->fence, more);
    snprintf(subject, sizeof subject, SUBJECT_INCIDENT "%s", x->id);
    if (!*more)
        say_document(c, subject, id, doc, NULL, NULL);
    char doc_id[SUBJECT_MAX_LEN + 16];
    snprintf(doc_id, sizeof doc_id, "continuity.%s", id); /* another message, on another stream */
    snprintf(subject, sizeof subject, SUBJECT_CONTINUITY_INCIDENT "%s", x->id);
    say_document(c, subject, doc_id, doc, then, ctx);
    board_pack_done(doc);
}

void say_incident(struct continuity *c, struct incident *x, outbox_cb then, void *ctx)
{
    struct file *f = docs_file(c, x->id);
    if (!f) {
        refuse(c->s, then, ctx);
        return;
    }
    avail_incident(c, x, f);
    say_one(c, x, f, then, ctx);
    f->said_now = true;
}

void say_later(struct continuity *c, struct file *f)
{
    if (f->dirty)
        return;
    f->dirty = true;
    f->next_dirty = c->dirty;
    c->dirty = f;
}

/* What validation asks is judged when all that came with it is known. */
static void check(struct continuity *c, struct incident *x)
{
    char why[200];
    const char *ill = check_incident(c, x, why, sizeof why);
    struct incident_event ev = {.kind = ill ? INCIDENT_FAILED : INCIDENT_PASSED, .by = c->s->desc->name, .text = ill};
    (void)room_event(c, x->id, &ev, NULL);
}

static void flush_one(struct continuity *c, struct file *f)
{
    struct incident *x = board_find(c->board, f->id);
    if (!x)
        return;
    if (f->check) {
        f->check = false;
        check(c, x);
        x = board_find(c->board, f->id);
        if (!x)
            return;
    }
    if (f->report) {
        f->report = !parts_report(c, x);
        x = board_find(c->board, f->id);
    }
    if (!x)
        return;
    alerts_overdue_over(c, x, f);
    if (f->announce && (!f->said_now || f->said != x->epoch)) {
        avail_incident(c, x, f);
        say_one(c, x, f, NULL, NULL);
    }
    f->announce = f->said_now = false;
}

void say_flush(struct continuity *c)
{
    /* What a check brings about is said with the rest: it may put the incident on the list again. */
    for (int rounds = 0; c->dirty && rounds < 3; rounds++) {
        struct file *list = c->dirty;
        c->dirty = NULL;
        while (list) {
            struct file *f = list;
            list = f->next_dirty;
            f->next_dirty = NULL;
            f->dirty = false;
            flush_one(c, f);
        }
    }
    avail_say(c);
}

static void record(struct continuity *c, const struct incident *x, const char *action)
{
    const struct incident_phase *before = x->n_phases > 1 ? &x->phases[x->n_phases - 2] : NULL;
    const struct incident_phase *now = &x->phases[x->n_phases - 1];
    char detail[DETAIL_TEXT], text[DETAIL_TEXT];
    const char *phase = wire_enum_name(&redoubt__v1__incident_phase__descriptor, now->phase);
    if (before)
        snprintf(detail, sizeof detail, "%s: %.300s", phase, before->why ? before->why : "");
    else
        snprintf(detail, sizeof detail, "%s: %.200s; key %.120s", phase, x->summary ? x->summary : "", x->key);
    continuity_record(c, action, before && before->left_by ? before->left_by : c->s->desc->name, x->id,
                      REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_DONE, room_text(text, sizeof text, detail));
}

void say_effect(void *ctx, struct incident *x, const struct incident_effect *e)
{
    struct continuity *c = ctx;
    if (!c->leads)
        return; /* who follows has documents only */
    struct file *f = docs_file(c, x->id);
    if (!f) {
        log_error("what an incident asks for is not done: out of memory", F_STR("incident", x->id));
        return;
    }
    switch (e->kind) {
    case INCIDENT_ANNOUNCE:
        f->announce = true;
        say_later(c, f);
        break;
    case INCIDENT_ALERT:
        alerts_incident(c, x, f);
        break;
    case INCIDENT_CLOCK_TOLD:
        alerts_clock(c, x, e->objective, e->share);
        break;
    case INCIDENT_OVERDUE:
        alerts_overdue(c, x, f);
        break;
    case INCIDENT_RESOLVED:
        alerts_resolved(c, x);
        break;
    case INCIDENT_CHECK:
        f->check = true;
        say_later(c, f);
        break;
    case INCIDENT_REPORT:
        f->report = true;
        say_later(c, f);
        break;
    case INCIDENT_DEMONSTRATED: {
        char by[64];
        snprintf(by, sizeof by, "%s %s", x->drill ? "drill: incident" : "incident", x->id);
        continuity_demonstrated(c, (enum set_objective)e->objective, "", e->took_ms, by);
        break;
    }
    case INCIDENT_RECORD:
        record(c, x, e->text ? e->text : "incident.phase");
        break;
    case INCIDENT_WAKE:
        break; /* board_tick() says when */
    }
}

/* ---- the trail ---- */

static void fill(PB(AuditRecord) * r, char *detail_buf, size_t size, const char *action, const char *actor,
                 const char *subject, int outcome, const char *detail)
{
    *r = (PB(AuditRecord))PB_INIT(AUDIT_RECORD);
    r->action = (char *)action;
    r->actor = (char *)(actor ? actor : "");
    r->subject = (char *)(subject ? subject : "");
    r->outcome = (Redoubt__V1__AuditOutcome)outcome;
    r->detail = (char *)room_text(detail_buf, size, detail);
}

void continuity_record(struct continuity *c, const char *action, const char *actor, const char *subject, int outcome,
                       const char *detail)
{
    PB(AuditRecord) r;
    char text[1024];
    fill(&r, text, sizeof text, action, actor, subject, outcome, detail);
    service_audit(c->s, &r, NULL, NULL);
}

void continuity_record_strict(struct continuity *c, const char *action, const char *actor, const char *subject,
                              const char *detail, outbox_cb then, void *ctx)
{
    PB(AuditRecord) r;
    char text[1024];
    fill(&r, text, sizeof text, action, actor, subject, REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_INTENDED, detail);
    r.audit_class = REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_STRICT;
    service_audit(c->s, &r, then, ctx);
}

/* ---- what was demonstrated ---- */

struct shown *say_shown(struct continuity *c, enum set_objective o, const char *scope)
{
    char subject[SUBJECT_MAX_LEN];
    struct shown *h;
    snprintf(subject, sizeof subject, SUBJECT_CONTINUITY_DEMONSTRATED "%s%s%s", settings_objectives[o],
             *scope ? "." : "", scope);
    HASH_FIND_STR(c->shown, subject, h);
    if (h || !(h = calloc(1, sizeof *h)))
        return h;
    memcpy(h->subject, subject, sizeof h->subject);
    h->objective = o;
    snprintf(h->scope, sizeof h->scope, "%s", scope);
    HASH_ADD_STR(c->shown, subject, h);
    return h;
}

void continuity_demonstrated(struct continuity *c, enum set_objective o, const char *scope, int64_t took_ms,
                             const char *by)
{
    PB(Demonstration) item[OBJECTIVE_SHOWN], *items[OBJECTIVE_SHOWN];
    PB(Demonstrations) d = PB_INIT(DEMONSTRATIONS);
    if (*scope && !name_token_ok(scope)) {
        log_error("not kept what was demonstrated: its scope is no name", F_STR("scope", scope));
        return;
    }
    struct shown *h = say_shown(c, o, scope);
    if (!h) {
        log_error("not kept what was demonstrated: out of memory", F_STR("objective", settings_objectives[o]));
        return;
    }
    objective_add(&h->history, continuity_now_ms(c), took_ms, by);
    for (size_t i = 0; i < h->history.n; i++) {
        item[i] = (PB(Demonstration))PB_INIT(DEMONSTRATION);
        item[i].at_unix_ms = h->history.shown[i].at_ms;
        item[i].took_ms = (uint64_t)h->history.shown[i].took_ms;
        item[i].by = h->history.shown[i].by;
        items[i] = &item[i];
    }
    d.objective = (char *)settings_objectives[o];
    d.scope = h->scope;
    d.n_shown = h->history.n;
    d.shown = items;
    continuity_announce(c, h->subject, (uint64_t)h->history.shown[h->history.n - 1].at_ms, &d);
    c->status_mono_ms = 0;
}
