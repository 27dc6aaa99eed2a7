/* guard_audit.c - what is recorded of each action: many records of one turn go to disk as one message.
 *
 * Strict records are made before the act, which waits until they are durable; the others say what came of it and hold up nobody. */
#include "common/clock.h"
#include "guard/guard_impl.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_MAX   100
#define BATCH_BYTES 40000 /* of a message of 64 KiB at most */
#define FIELDS_MAX  24
#define VALUE_MAX   256 /* of a parameter; a longer one is told by its length */

/* Records that are gathered, in memory of their own until they are packed. */
struct batch {
    struct guard *g;
    PB(AuditRecord) * list[BATCH_MAX];
    size_t n, bytes;
    struct guard_act *acts, **acts_end; /* that wait */
};
struct guard_audit {
    struct batch *strict, *easy; /* NULL = nothing gathered */
    size_t flying;
};
/* One record with its texts behind it. */
struct line {
    PB(AuditRecord) r;
    PB(Label) labels[FIELDS_MAX];
    PB(Label) * fields[FIELDS_MAX];
    char *at, *end;
    char text[];
};

int guard_audit_open(struct guard *g, struct err *e)
{
    g->audit = calloc(1, sizeof *g->audit);
    return g->audit ? 0 : err_set(e, "out of memory");
}

static void free_batch(struct batch *b)
{
    for (size_t i = 0; b && i < b->n; i++)
        free(b->list[i]);
    free(b);
}

void guard_audit_close(struct guard *g)
{
    if (!g->audit)
        return;
    free_batch(g->audit->strict);
    free_batch(g->audit->easy);
    free(g->audit);
    g->audit = NULL;
}

bool guard_audit_idle(const struct guard *g)
{
    return !g->audit->strict && !g->audit->easy && g->audit->flying == 0;
}

/* ---- one record ---- */

static char *put(struct line *x, const char *s)
{
    size_t n = strlen(s) + 1, room = (size_t)(x->end - x->at);
    if (n > room)
        return (char *)""; /* does not happen: room is made for all */
    char *copy = memcpy(x->at, s, n);
    x->at += n;
    return copy;
}

static void field(struct line *x, const char *key, const char *value)
{
    if (x->r.n_fields == FIELDS_MAX)
        return;
    PB(Label) *f = &x->labels[x->r.n_fields];
    *f = (PB(Label))PB_INIT(LABEL);
    f->key = put(x, key);
    f->value = put(x, value);
    x->fields[x->r.n_fields++] = f;
}

static struct line *new_line(const PB(ActionRequest) * r, const char *what, int outcome, const char *detail,
                             bool parameters)
{
    size_t room = 1024 + strlen(r->agent) * 2 + strlen(r->idempotency_key) + strlen(r->action) + strlen(detail);
    for (size_t i = 0; parameters && i < r->n_parameters && i < FIELDS_MAX; i++)
        room += strlen(r->parameters[i]->key) + VALUE_MAX + 32;
    struct line *x = malloc(sizeof *x + room);
    if (!x)
        abort(); /* an act must not go unrecorded */
    x->r = (PB(AuditRecord))PB_INIT(AUDIT_RECORD);
    x->at = x->text;
    x->end = x->text + room;
    x->r.at_unix_ms = clock_wall_ms();
    x->r.action = (char *)what; /* a constant */
    x->r.actor = put(x, r->agent);
    x->r.subject = x->r.actor;
    x->r.outcome = (Redoubt__V1__AuditOutcome)outcome;
    x->r.detail = put(x, detail);
    x->r.fields = x->fields;
    field(x, "action", r->action);
    field(x, "key", r->idempotency_key);
    return x;
}

static void put_parameters(struct line *x, const PB(ActionRequest) * r)
{
    char key[80], text[64];
    for (size_t i = 0; i < r->n_parameters; i++) {
        const char *value = r->parameters[i]->value;
        if (strlen(value) > VALUE_MAX) {
            snprintf(text, sizeof text, "(%zu bytes)", strlen(value));
            value = text;
        }
        snprintf(key, sizeof key, "p.%.60s", r->parameters[i]->key);
        field(x, key, value);
    }
}

/* ---- batches ---- */

static void let_go(struct batch *b, int status, const char *error)
{
    for (struct guard_act *x = b->acts, *next; x; x = next) {
        next = x->record_next;
        if (status)
            snprintf(x->detail, sizeof x->detail, "%s", error);
        x->recorded(x, status == 0);
    }
    free_batch(b);
}

static void on_durable(void *ctx, int status, const char *error)
{
    struct batch *b = ctx;
    struct guard *g = b->g;
    if (g->audit)
        g->audit->flying--;
    if (!b->acts)
        guard_trouble(g, GUARD_TROUBLE_AUDIT, status != 0, error);
    let_go(b, status, error);
}

static void write_out(struct guard *g, struct batch **of, bool strict)
{
    struct batch *b = *of;
    if (!b)
        return;
    *of = NULL;
    g->audit->flying++;
    service_audit_batch(g->s, b->list, b->n, strict, on_durable, b);
}

void guard_audit_flush(struct guard *g)
{
    write_out(g, &g->audit->strict, true);
    write_out(g, &g->audit->easy, false);
}

static struct batch *gather(struct guard *g, struct line *x, bool strict)
{
    struct batch **of = strict ? &g->audit->strict : &g->audit->easy;
    size_t bytes = (size_t)(x->at - x->text) + 256;
    if (*of && ((*of)->n == BATCH_MAX || (*of)->bytes + bytes > BATCH_BYTES))
        write_out(g, of, strict);
    if (!*of) {
        if (!(*of = calloc(1, sizeof **of)))
            abort();
        (*of)->g = g;
        (*of)->acts_end = &(*of)->acts;
    }
    (*of)->list[(*of)->n++] = &x->r;
    (*of)->bytes += bytes;
    return *of;
}

void guard_audit_intend(struct guard_act *x, guard_recorded done)
{
    static const char *const what[] = {[GUARD_MODE_FORWARD] = "action.forwarded",
                                       [GUARD_MODE_PERMIT] = "action.permitted",
                                       [GUARD_MODE_QUEUE] = "action.queued"};
    char epoch[24];
    struct line *l = new_line(x->r, x->queued_ms > 0 ? "action.replayed" : what[x->mode],
                              REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_INTENDED, "", true);
    l->r.audit_class = REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_STRICT;
    l->r.epoch = x->under_epoch;
    if (x->queued_ms > 0) {
        snprintf(epoch, sizeof epoch, "%" PRIu64, x->r->epoch);
        field(l, "asked_epoch", epoch);
    }
    if (*x->r->instance)
        field(l, "instance", x->r->instance);
    if (x->local)
        field(l, "limits", "local");
    put_parameters(l, x->r);
    struct batch *b = gather(x->g, l, true);
    x->recorded = done;
    x->record_next = NULL;
    *b->acts_end = x;
    b->acts_end = &x->record_next;
}

void guard_audit_outcome(struct guard *g, const PB(ActionRequest) * r, const char *what, int outcome, int reason,
                         int status, const char *detail, uint64_t epoch)
{
    char number[16];
    struct line *l = new_line(r, what, outcome, detail, false);
    l->r.audit_class = REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_CONTINUITY;
    l->r.epoch = epoch;
    if (reason)
        field(l, "reason", wire_enum_name(&redoubt__v1__refusal_reason__descriptor, reason));
    if (status) {
        snprintf(number, sizeof number, "%d", status);
        field(l, "status", number);
    }
    gather(g, l, false);
}
