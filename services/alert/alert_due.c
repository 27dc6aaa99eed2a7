/* alert_due.c - looks, each half second, at the problems that time has brought up, and has people told what follows.
 *
 * Which problems: those of Redis' set `due`; without Redis those that this process knows. What is decided is stored before it is told, and
 * told under an id of that decision: who dies in between leaves it to the next leader, and nobody hears it twice. */
#include "alert/alert_due.h"
#include "alert/alert_index.h"
#include "alert/alert_memory.h"
#include "alert/alert_sweep.h"
#include "common/clock.h"
#include "common/metric.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TICK_MS         500
#define TIDY_MS         60000
#define READY_MS        10000 /* so long the stream of states is waited for */
#define TELLS_MAX       256   /* under way; more problems are looked at when there are fewer */
#define AUDIT_ESCALATED "alert.escalated"

METRIC_DEFINE(looks, METRIC_COUNTER, "redoubt_alert_looks_total", "Problems looked at because time had come.");
METRIC_DEFINE(again, METRIC_COUNTER, "redoubt_alert_told_again_total",
              "Times that people were told of a problem without a new alert of it.");
METRIC_DEFINE(steps, METRIC_COUNTER, "redoubt_alert_escalations_total", "Steps of escalations.");

struct alert_due {
    struct alert_memory *memory;
    struct alert_sweep *sweep;
    struct loop_timer timer;
    bool asked;     /* a page of due ones, or their looks, are under way */
    bool full;      /* ... and there are more */
    size_t n_looks; /* under way */
    size_t n_tells;
    bool wake;   /* all that are there are to be looked at */
    bool waking; /* ... and are being put to the others, page by page */
    char woken[ALERT_ID_LEN + 1];
    bool led, store_was_up;
    int64_t silences_ms; /* begins and ends of silences are known up to here */
    int64_t tidied_ms;
};

static void tick(struct alert_due *x);

/* ---- telling ---- */

struct tell {
    struct alert_due *due;
    char id[ALERT_ID_LEN + 1];
    uint64_t revision;
    char name[64]; /* of this telling: the same again is told once */
    char node[NAME_MAX_LEN + 1];
    char note[ALERT_TELL_MAX];
};

static void on_confirmed(void *ctx, const struct alert_changed *r)
{
    (void)ctx; /* what is not noted as told is told again, under the same id */
    (void)r;
}

static void on_told(void *ctx, int status)
{
    struct tell *t = ctx;
    struct alert_due *x = t->due;
    struct alert_memory *m = x->memory;
    x->n_tells--;
    if (status == 0 && !m->closed)
        alert_memory_change(m,
                            &(struct alert_change){.kind = ALERT_CHANGE_TOLD, .id = t->id, .revision = t->revision},
                            on_confirmed, NULL);
    free(t);
    alert_memory_answered(m);
}

/* Nobody had acknowledged in time: that is on the record. */
static void audit_step(struct alert_due *x, const PB(ProblemChanged) * d, size_t step, const char *to)
{
    char number[16], subject[257];
    snprintf(number, sizeof number, "%zu", step + 1);
    snprintf(subject, sizeof subject, "%s", d->alert->dedup_key);
    const char *const rows[][2] = {
        {"problem", d->id},
        {"step", number},
        {"to", to},
        {"severity", wire_enum_name(&redoubt__v1__severity__descriptor, (int)d->alert->severity)}};
    enum { ROWS = sizeof rows / sizeof *rows };
    PB(Label) labels[ROWS], *fields[ROWS];
    for (size_t i = 0; i < ROWS; i++) {
        labels[i] = (PB(Label))REDOUBT__V1__LABEL__INIT;
        labels[i].key = (char *)rows[i][0];
        labels[i].value = (char *)rows[i][1];
        fields[i] = &labels[i];
    }
    PB(AuditRecord) r = REDOUBT__V1__AUDIT_RECORD__INIT;
    r.action = (char *)AUDIT_ESCALATED;
    r.subject = subject;
    r.outcome = REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_DONE;
    r.detail = (char *)"nobody has acknowledged it";
    r.fields = fields;
    r.n_fields = ROWS;
    service_audit(x->memory->room->service, &r, NULL, NULL);
}

static void tell_people(struct alert_due *x, const PB(ProblemChanged) * d, const struct alert_problem_result *r)
{
    struct alert_memory *m = x->memory;
    const struct set_alert *set = &m->room->service->settings->alert;
    struct tell *t = calloc(1, sizeof *t);
    if (!t)
        return; /* it is due again after a while */
    const struct set_escalation *e = alert_doc_escalation(set, alert_doc_route(set, d->route));
    t->due = x;
    t->revision = d->telling_revision;
    snprintf(t->id, sizeof t->id, "%s", d->id);
    snprintf(t->name, sizeof t->name, "p%s-%" PRIu64, d->id, d->telling_revision);
    alert_doc_note(d, r->tell, r->step, r->repeats, clock_shared_ms(), t->note);
    if (r->tell == ALERT_TELL_STEP && e && r->step < e->steps.n)
        snprintf(t->node, sizeof t->node, "%s", CONF_AT(e->steps, struct set_step, r->step)->to);
    x->n_tells++;
    m->asks++;
    if (r->tell == ALERT_TELL_STEP && !*t->node) { /* the settings have no such step any more */
        on_told(t, 0);
        return;
    }
    metric_add(r->tell == ALERT_TELL_STEP ? &steps : &again, 1);
    if (r->tell == ALERT_TELL_STEP && !r->again)
        audit_step(x, d, r->step, t->node);
    log_info("people are told again of a problem", F_STR("key", d->alert->dedup_key), F_STR("note", t->note),
             F_STR("to", *t->node ? t->node : d->route));
    alert_tell(m->room, d->alert, *t->node ? t->node : NULL, t->name, t->note, on_told, t);
}

void alert_due_tell(struct alert_due *x, const struct alert_changed *r)
{
    if (!x->memory->closed && r->status == ALERT_CHANGE_DONE && r->problem && r->result.tell != ALERT_TELL_NOTHING)
        tell_people(x, r->problem, &r->result);
}

/* ---- looking ---- */

static void on_looked(void *ctx, const struct alert_changed *r)
{
    struct alert_due *x = ctx;
    x->n_looks--;
    alert_due_tell(x, r);
    if (x->n_looks > 0 || x->memory->closed)
        return;
    x->asked = false;
    if (x->full && r->in_store && x->n_tells < TELLS_MAX)
        tick(x);
}

static void look_at(struct alert_due *x, char ids[][ALERT_ID_LEN + 1], size_t n)
{
    x->n_looks = n;
    x->asked = n > 0;
    metric_add(&looks, (int64_t)n);
    for (size_t i = 0; i < n; i++)
        alert_memory_change(x->memory, &(struct alert_change){.kind = ALERT_CHANGE_LOOK, .id = ids[i]}, on_looked, x);
}

static bool leads(const struct alert_due *x)
{
    const struct alert_room *r = x->memory->room;
    return !x->memory->closed && !r->closing && !r->service->draining && alert_leads(r->lead);
}

static void on_due(void *ctx, const struct alert_page *p)
{
    struct alert_due *x = ctx;
    struct alert_memory *m = x->memory;
    x->asked = false;
    if (p->ok && !m->closed) {
        m->marked = p->total > 0;
        x->full = p->n == ALERT_PAGE_MAX;
        if (leads(x)) {
            if (!m->marked)
                alert_sweep_restore(x->sweep);
            char ids[ALERT_PAGE_MAX][ALERT_ID_LEN + 1];
            memcpy(ids, p->ids, sizeof ids);
            look_at(x, ids, p->n);
        }
    }
    alert_memory_answered(m);
}

/* Without Redis: what this process knows. */
static void look_alone(struct alert_due *x)
{
    char ids[ALERT_PAGE_MAX][ALERT_ID_LEN + 1];
    size_t n = 0;
    int64_t now = clock_shared_ms();
    bool all = x->wake;
    x->wake = false;
    for (struct alert_copy *c = x->memory->local.copies; c; c = c->hh.next) {
        if (all && c->open)
            c->due_ms = now;
        if (n < ALERT_PAGE_MAX && c->open && c->due_ms > 0 && c->due_ms <= now)
            memcpy(ids[n++], c->id, sizeof c->id);
    }
    x->full = false;
    look_at(x, ids, n);
}

/* ---- all of them at once ---- */

static void on_woken(void *ctx, const struct alert_page *p)
{
    struct alert_due *x = ctx;
    struct alert_memory *m = x->memory;
    x->waking = false;
    if (!p->ok) {
        x->wake = true; /* from the start, when Redis is back */
    } else if (p->n == ALERT_PAGE_MAX && !m->closed) {
        x->waking = true;
        memcpy(x->woken, p->ids[p->n - 1], sizeof x->woken);
        m->asks++;
        alert_index_wake(m->store, x->woken, on_woken, x);
    } else if (!m->closed && p->n > 0) {
        tick(x);
    }
    alert_memory_answered(m);
}

static void wake_all(struct alert_due *x)
{
    x->wake = false;
    x->waking = true;
    x->woken[0] = 0;
    x->memory->asks++;
    alert_index_wake(x->memory->store, "", on_woken, x);
}

void alert_due_wake(struct alert_due *x)
{
    x->wake = true;
}

/* ---- time ---- */

static void watch_silences(struct alert_due *x, bool lead)
{
    struct alert_silences *s = x->memory->silences;
    int64_t now = clock_shared_ms();
    if (alert_silences_turned(s, x->silences_ms, now))
        x->wake = true;
    x->silences_ms = now;
    if (now - x->tidied_ms >= TIDY_MS) {
        x->tidied_ms = now;
        alert_silences_tidy(s, now, lead);
    }
}

static void tick(struct alert_due *x)
{
    struct alert_memory *m = x->memory;
    if (m->closed)
        return;
    if (!m->ready) {
        if (clock_mono_ms() - m->opened_ms < READY_MS)
            return;
        log_warn("silences and problems cannot be read from the stream: alerts are told without them",
                 F_STR("stream", STREAM_STATE));
        alert_memory_go(m);
    }
    bool lead = leads(x), up = store_up(m->store);
    watch_silences(x, lead);
    if (lead && !x->led)
        x->wake = true; /* who led before may have died with it undone */
    if (up && !x->store_was_up)
        m->marked = false; /* it may not be the one that it was: restored, if we lead */
    if (lead && up && !x->store_was_up)
        alert_sweep_restore(x->sweep);
    x->led = lead;
    x->store_was_up = up && (lead || x->store_was_up);
    if (!up) {
        if (lead && !x->asked)
            look_alone(x);
        return;
    }
    if (lead && x->wake && !x->waking)
        wake_all(x);
    if (lead)
        alert_sweep_tick(x->sweep);
    if (!x->asked && x->n_tells < TELLS_MAX) {
        x->asked = true;
        m->asks++;
        alert_index_due(m->store, clock_shared_ms(), on_due, x);
    }
}

static void on_timer(void *ctx)
{
    tick(ctx);
}

/* ---- open, close ---- */

struct alert_due *alert_due_open(struct alert_memory *m)
{
    struct alert_due *x = calloc(1, sizeof *x);
    if (!x || !(x->sweep = alert_sweep_open(m))) {
        free(x);
        return NULL;
    }
    x->memory = m;
    x->silences_ms = clock_shared_ms();
    loop_timer_init(&m->room->service->loop, &x->timer, on_timer, x);
    loop_timer_start(&x->timer, TICK_MS, TICK_MS);
    return x;
}

static void on_closed(void *ctx)
{
    struct alert_due *x = ctx;
    alert_memory_answered(x->memory);
}

void alert_due_close(struct alert_due *x)
{
    x->memory->asks++;
    loop_timer_close(&x->timer, on_closed);
}

void alert_due_free(struct alert_due *x)
{
    alert_sweep_free(x->sweep);
    free(x);
}
