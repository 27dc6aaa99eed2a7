/* continuity_docs.c - documents of its own on STATE: what it goes on from at a start, and how it follows another that leads.
 *
 * Who follows has a board of documents alone, and no opinion; who leads hears its own documents come back. One of an older leader that comes after ours (its outbox was
 * taken over late) is answered by ours once more. */
#include "common/log.h"
#include "continuity/continuity_impl.h"
#include <stdlib.h>
#include <string.h>

#define PURGE_MS 10000

static bool in_place(struct service *s, const char *prefix, const char *name, const struct bus_msg *m)
{
    const char *tail = subject_tail(m->subject, prefix);
    if (tail && strcmp(tail, name) == 0)
        return true;
    service_bad_input(s, prefix, m, "the subject does not fit the document");
    return false;
}

struct file *docs_file(struct continuity *c, const char *id)
{
    struct file *f;
    HASH_FIND_STR(c->files, id, f);
    if (f || strlen(id) >= INCIDENT_ID || !(f = calloc(1, sizeof *f)))
        return f;
    memcpy(f->id, id, strlen(id) + 1);
    HASH_ADD_STR(c->files, id, f);
    return f;
}

/* ---- incidents ---- */

static void restore(struct continuity *c, const PB(IncidentChanged) * d, const struct bus_msg *m)
{
    struct file *f = docs_file(c, d->id);
    if (!f || !board_restore(c->board, d, continuity_now_ms(c))) {
        service_bad_input(c->s, "document of an incident", m, "it contradicts itself, or memory is out");
        return;
    }
    f->counted = d->agents_total;
}

/* True if we still lead. */
static bool heard_token(struct continuity *c, uint64_t fence)
{
    if (fence > c->fence_seen && !(c->leads && fence == c->fence))
        c->fence_seen = fence;
    if (c->leads && fence > c->fence)
        lead_outdone(c);
    return c->leads;
}

void docs_incident(struct service *s, const void *message, const struct bus_msg *m)
{
    struct continuity *c = s->state;
    const PB(IncidentChanged) *d = message;
    if (!in_place(s, SUBJECT_CONTINUITY_INCIDENT, d->id, m))
        return;
    if (!heard_token(c, d->fence)) {
        restore(c, d, m);
        return;
    }
    const struct incident *x = board_find(c->board, d->id);
    struct file *f = docs_file(c, d->id);
    if (!x || !f || (f->said == 0 && d->epoch > x->epoch)) { /* what an earlier leader has left behind comes late */
        restore(c, d, m);
        board_synced(c->board, continuity_now_ms(c));
        room_arm(c);
    } else if (d->fence < c->fence && f->said > 0) {
        f->again++;
        f->announce = true;
        f->said_now = false;
        say_later(c, f);
        room_arm(c);
    }
}

static void on_purged(void *ctx, enum bus_status st)
{
    (void)ctx; /* what is left there is forgotten again after the next replay */
    (void)st;
}

void docs_forget(void *ctx, const char *id)
{
    struct continuity *c = ctx;
    struct file *f;
    char subject[SUBJECT_MAX_LEN];
    HASH_FIND_STR(c->files, id, f);
    if (f && !f->dirty) {
        HASH_DEL(c->files, f);
        free(f);
    }
    snprintf(subject, sizeof subject, SUBJECT_CONTINUITY_INCIDENT "%s", id);
    bus_purge(c->s->bus, STREAM_STATE, subject, UINT64_MAX - 1, PURGE_MS, on_purged, NULL);
}

void docs_told(struct continuity *c)
{
    for (struct file *f = c->files; f; f = f->hh.next) {
        struct incident *x = f->told ? board_find(c->board, f->id) : NULL;
        struct incident_event ev = {.kind = INCIDENT_TOLD, .by = c->s->desc->name, .text = "people were told"};
        if (x && !x->told)
            (void)board_event(c->board, f->id, &ev, continuity_now_ms(c), &x);
    }
}

bool docs_rebuild(struct continuity *c)
{
    struct board_hooks hooks = {.effect = say_effect, .condition = avail_condition, .ctx = c};
    struct board *fresh = board_new(continuity_set(c), &hooks), *was = c->board;
    int64_t now = continuity_now_ms(c);
    bool ok = fresh;
    for (struct incident *x = was && fresh ? board_next(was, NULL, false) : NULL; x; x = board_next(was, x, false)) {
        PB(IncidentChanged) *d = board_pack(was, x, now, c->fence);
        ok = d && board_restore(fresh, d, now) && ok;
        if (d)
            board_pack_done(d);
    }
    if (!ok) {
        board_free(fresh);
        return false;
    }
    board_free(was);
    c->board = fresh;
    c->dirty = NULL;
    for (struct file *f = c->files; f; f = f->hh.next) {
        f->said = 0;
        f->again = 0;
        f->alerted = 0;
        f->late_ms = f->checked_ms = 0;
        f->next_dirty = NULL;
        f->dirty = f->announce = f->check = f->report = f->said_now = false;
    }
    return true;
}

/* ---- how long agents were in which condition ---- */

/* It is counted up to here: what came before its months' last row is in the others. */
static int64_t settled_of(const struct availability *a)
{
    if (a->n == 0)
        return a->known_ms;
    const struct availability_month *last = &a->months[a->n - 1];
    int64_t start = availability_month_start(last->month);
    return (start > a->known_ms ? start : a->known_ms) + last->known_ms;
}

void docs_agent(struct service *s, const void *message, const struct bus_msg *m)
{
    struct continuity *c = s->state;
    const PB(AvailabilityState) *d = message;
    if (!in_place(s, SUBJECT_CONTINUITY_AGENT, d->agent, m))
        return;
    struct agent_time *a;
    HASH_FIND_STR(c->agents, d->agent, a);
    if (heard_token(c, d->fence) && a && a->a.known_ms) {
        if (d->fence < c->fence && a->fence == c->fence) /* as with incidents: ours once more */
            a->dirty = true;
        return;
    }
    if (d->n_months > AVAILABILITY_MONTHS || d->known_unix_ms <= 0) {
        service_bad_input(s, "document of an agent", m, "too many months, or no beginning");
        return;
    }
    if (a && (d->fence < a->fence || (d->fence == a->fence && d->revision <= a->revision)))
        return;
    struct availability is = {.known_ms = d->known_unix_ms, .since_ms = d->since_unix_ms, .condition = d->condition};
    for (size_t i = 0; i < d->n_months; i++) {
        const PB(AvailabilityMonth) *x = d->months[i];
        is.months[is.n++] = (struct availability_month){.month = x->month,
                                                        .known_ms = (int64_t)x->known_ms,
                                                        .full_ms = (int64_t)x->full_ms,
                                                        .degraded_ms = (int64_t)x->degraded_ms,
                                                        .llm_ms = (int64_t)x->llm_fallback_ms,
                                                        .incidents = x->incidents};
    }
    is.settled_ms = settled_of(&is);
    if (!a && !(a = avail_of(c, d->agent))) {
        service_bad_input(s, "document of an agent", m, "out of memory");
        return;
    }
    a->a = is;
    a->revision = d->revision;
    a->fence = d->fence;
}

/* ---- what was demonstrated ---- */

static bool objective_of(const char *name, enum set_objective *ret)
{
    for (int i = 0; i < SET_OBJECTIVES; i++)
        if (strcmp(settings_objectives[i], name) == 0) {
            *ret = (enum set_objective)i;
            return true;
        }
    return false;
}

void docs_shown(struct service *s, const void *message, const struct bus_msg *m)
{
    struct continuity *c = s->state;
    const PB(Demonstrations) *d = message;
    enum set_objective o;
    if (!objective_of(d->objective, &o) || (*d->scope && !name_token_ok(d->scope)) || d->n_shown > OBJECTIVE_SHOWN) {
        service_bad_input(s, "what was demonstrated", m, "no such objective, or its scope is no name");
        return;
    }
    struct shown *h = say_shown(c, o, d->scope);
    if (!h || strcmp(h->subject, m->subject) != 0) {
        service_bad_input(s, "what was demonstrated", m, "the subject does not fit the document, or memory is out");
        return;
    }
    int64_t ours = h->history.n ? h->history.shown[h->history.n - 1].at_ms : 0;
    if (d->n_shown == 0 || d->shown[d->n_shown - 1]->at_unix_ms <= ours)
        return;
    h->history.n = 0;
    for (size_t i = 0; i < d->n_shown; i++)
        objective_add(&h->history, d->shown[i]->at_unix_ms, (int64_t)d->shown[i]->took_ms, d->shown[i]->by);
}

/* ---- the parts' ---- */

static void keep(struct continuity *c, const ProtobufCMessageDescriptor *desc, const void *message, uint64_t fence,
                 const struct bus_msg *m)
{
    struct part_doc *p;
    bool own = c->leads && fence == c->fence;
    HASH_FIND_STR(c->docs, m->subject, p);
    if (p && fence < p->fence) /* of an earlier leader; it comes late */
        return;
    void *data = malloc(m->len ? m->len : 1);
    if (!p && data && strlen(m->subject) < sizeof p->subject && (p = calloc(1, sizeof *p))) {
        memcpy(p->subject, m->subject, strlen(m->subject) + 1);
        HASH_ADD_STR(c->docs, subject, p);
    }
    if (!p || !data) {
        free(data);
        service_bad_input(c->s, "document not kept", m, "out of memory; it comes again with the next replay");
        return;
    }
    free(p->data);
    memcpy(data, m->data, m->len);
    p->data = data;
    p->len = m->len;
    p->desc = desc;
    p->fence = fence;
    if (c->leads && !own)
        parts_seen(c, desc, message);
}

void docs_backup(struct service *s, const void *message, const struct bus_msg *m)
{
    const PB(BackupState) *b = message;
    if (in_place(s, SUBJECT_CONTINUITY_BACKUP, b->source, m))
        keep(s->state, PB_DESC(backup_state), b, b->fence, m);
}

void docs_drill(struct service *s, const void *message, const struct bus_msg *m)
{
    const PB(DrillState) *d = message;
    if (in_place(s, SUBJECT_CONTINUITY_DRILL, d->name, m))
        keep(s->state, PB_DESC(drill_state), d, d->fence, m);
}

void docs_config(struct service *s, const void *message, const struct bus_msg *m)
{
    const PB(ConfigState) *d = message;
    keep(s->state, PB_DESC(config_state), d, d->fence, m);
}

void docs_hand_over(struct continuity *c)
{
    for (const struct part_doc *p = c->docs; p; p = p->hh.next) {
        struct err e;
        void *message = wire_unpack(p->desc, p->data, p->len, &e);
        if (message)
            parts_seen(c, p->desc, message);
        wire_free(message);
    }
}

/* ---- the end ---- */

void docs_free(struct continuity *c)
{
    for (struct file *f = c->files, *next; f; f = next) {
        next = f->hh.next;
        HASH_DEL(c->files, f);
        free(f);
    }
    for (struct agent_time *a = c->agents, *next; a; a = next) {
        next = a->hh.next;
        HASH_DEL(c->agents, a);
        free(a);
    }
    for (struct shown *h = c->shown, *next; h; h = next) {
        next = h->hh.next;
        HASH_DEL(c->shown, h);
        free(h);
    }
    for (struct part_doc *p = c->docs, *next; p; p = next) {
        next = p->hh.next;
        HASH_DEL(c->docs, p);
        free(p->data);
        free(p);
    }
    for (struct trail *t = c->trails, *next; t; t = next) {
        next = t->hh.next;
        HASH_DEL(c->trails, t);
        free(t);
    }
}
