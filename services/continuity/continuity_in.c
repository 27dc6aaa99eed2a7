/* continuity_in.c - messages of other services, turned into signals and into what incidents wait for. */
#include "common/log.h"
#include "continuity/continuity_impl.h"
#include <stdlib.h>
#include <string.h>

#define INCIDENT_ALERT "incident/"

/* The subject says whose message it may be. */
static bool in_place(struct service *s, const char *prefix, const char *name, const struct bus_msg *m)
{
    const char *tail = subject_tail(m->subject, prefix);
    if (tail && strcmp(tail, name) == 0)
        return true;
    service_bad_input(s, prefix, m, "the subject does not fit the message");
    return false;
}

static struct sight_time now_of(const struct continuity *c)
{
    return (struct sight_time){.now_ms = continuity_now_ms(c), .offset_ms = room_clock_offset(c)};
}

static void on_signal(void *ctx, const struct signal *s)
{
    room_signal(ctx, s);
}

static void kept(struct service *s, const struct bus_msg *m, bool ok)
{
    if (!ok)
        service_bad_input(s, "message not kept", m, "out of memory; it comes again with the next replay");
}

/* ---- what holds ---- */

void room_directive(struct service *s, const void *message, const struct bus_msg *m)
{
    struct continuity *c = s->state;
    const PB(Directive) *d = message;
    if (!d->state) {
        service_bad_input(s, SUBJECT_DIRECTIVE, m, "a directive without a state");
        return;
    }
    if (!in_place(s, SUBJECT_DIRECTIVE, d->state->agent, m))
        return;
    const struct set_agent *set = settings_agent(s->settings, d->state->agent);
    struct sight_agent known = {.llm = "", .backend = ""};
    if (set && set->chain.n > 0)
        known.llm = CONF_AT(set->chain, struct set_chain_item, 0)->target;
    if (set)
        known.backend = set->backend;
    struct sight_time t = now_of(c);
    kept(s, m, sight_directive(c->sight, d, &known, &t, on_signal, c));
}

void room_ack(struct service *s, const void *message, const struct bus_msg *m)
{
    struct continuity *c = s->state;
    const PB(DirectiveAck) *k = message;
    if (in_place(s, SUBJECT_ACK, k->agent, m) && settings_agent(s->settings, k->agent))
        kept(s, m, sight_ack(c->sight, k));
}

bool in_knows_target(const struct continuity *c, const char *target)
{
    const struct settings *set = c->s->settings;
    for (size_t i = 0; i < set->agents.n; i++) {
        const struct set_agent *a = CONF_AT(set->agents, struct set_agent, i);
        if (strcmp(a->backend, target) == 0)
            return true;
        for (size_t k = 0; k < a->chain.n; k++)
            if (strcmp(CONF_AT(a->chain, struct set_chain_item, k)->target, target) == 0)
                return true;
    }
    return false;
}

static enum sight_target kind_of(const struct service *s, const char *target)
{
    const struct set_target *set = settings_target(s->settings, target);
    if (!set || set->kind == SET_TARGET_OTHER)
        return SIGHT_TARGET_OTHER;
    return set->kind == SET_TARGET_LLM ? SIGHT_TARGET_LLM : SIGHT_TARGET_BACKEND;
}

void room_health(struct service *s, const void *message, const struct bus_msg *m)
{
    struct continuity *c = s->state;
    const PB(HealthChanged) *h = message;
    if (!in_place(s, SUBJECT_HEALTH, h->target, m))
        return;
    struct sight_time t = now_of(c);
    kept(s, m, sight_health(c->sight, h, kind_of(s, h->target), &t, on_signal, c));
}

void room_breaker(struct service *s, const void *message, const struct bus_msg *m)
{
    struct continuity *c = s->state;
    const PB(BreakerChanged) *b = message;
    if (!in_place(s, SUBJECT_BREAKER, b->target, m))
        return;
    struct sight_time t = now_of(c);
    kept(s, m, sight_breaker(c->sight, b, kind_of(s, b->target), &t, on_signal, c));
}

void in_rollback(struct service *s, const void *message, const struct bus_msg *m)
{
    struct continuity *c = s->state;
    const PB(RollbackChanged) *r = message;
    if (!in_place(s, SUBJECT_ROLLBACK, r->deployment, m))
        return;
    struct sight_time t = now_of(c);
    kept(s, m, sight_rollback(c->sight, r, &t, on_signal, c));
}

/* ---- who was told ---- */

/* `incident/<id>`, or `incident/<id>/<what>`: the id. */
static bool incident_of(const char *dedup_key, char id[static INCIDENT_ID])
{
    const char *tail = subject_tail(dedup_key, INCIDENT_ALERT);
    size_t n = tail ? strcspn(tail, "/") : 0;
    if (n == 0 || n >= INCIDENT_ID)
        return false;
    memcpy(id, tail, n);
    id[n] = '\0';
    return true;
}

static void told(struct continuity *c, const char *id, const char *by, const char *how)
{
    struct incident *x = board_find(c->board, id);
    if (!x || x->told)
        return;
    struct file *f = docs_file(c, id);
    if (f)
        f->told = true; /* who follows tells the board when it begins to lead */
    struct incident_event ev = {.kind = INCIDENT_TOLD, .by = by, .text = how};
    if (c->leads)
        (void)room_event(c, id, &ev, NULL);
}

void in_delivery(struct service *s, const void *message, const struct bus_msg *m)
{
    struct continuity *c = s->state;
    const PB(DeliveryReceipt) *d = message;
    char id[INCIDENT_ID], how[160];
    if (!in_place(s, SUBJECT_DELIVERY, d->alert_id, m))
        return;
    parts_delivery(c, d);
    if (d->status != REDOUBT__V1__DELIVERY_STATUS__DELIVERY_STATUS_ACCEPTED || !incident_of(d->dedup_key, id))
        return;
    snprintf(how, sizeof how, "told by channel %.100s", d->channel);
    told(c, id, s->desc->name, how);
}

/* Receipts that came while nobody led are lost on the way; how the problem stands is not. */
void in_problem(struct service *s, const void *message, const struct bus_msg *m)
{
    struct continuity *c = s->state;
    const PB(ProblemChanged) *p = message;
    char id[INCIDENT_ID];
    if (!in_place(s, SUBJECT_PROBLEM, p->id, m) || !p->alert || !incident_of(p->alert->dedup_key, id))
        return;
    if (p->state == REDOUBT__V1__PROBLEM_STATE__PROBLEM_STATE_ACKNOWLEDGED)
        told(c, id, *p->acked_by ? p->acked_by : s->desc->name, "acknowledged");
    else if (p->told_unix_ms > 0)
        told(c, id, s->desc->name, "people were told");
}

/* ---- the audit trail's copies ---- */

void in_checkpoint(struct service *s, const void *message, const struct bus_msg *m)
{
    struct continuity *c = s->state;
    const PB(AuditCheckpoint) *p = message;
    struct trail *t;
    if (!in_place(s, SUBJECT_CHECKPOINT, p->chain, m) || strlen(p->chain) >= sizeof t->chain)
        return;
    HASH_FIND_STR(c->trails, p->chain, t);
    if (!t) {
        t = calloc(1, sizeof *t);
        if (!t) {
            kept(s, m, false);
            return;
        }
        memcpy(t->chain, p->chain, strlen(p->chain) + 1);
        HASH_ADD_STR(c->trails, chain, t);
    }
    int64_t now = continuity_now_ms(c), at = p->at_unix_ms + room_clock_offset(c);
    if (at > now)
        at = now;
    if (at < t->at_ms || p->size < t->size)
        return;
    /* The copy follows: what it has by now are most often the records of the checkpoint before. */
    if (p->mirrored >= p->size)
        t->copied_ms = at;
    else if (t->at_ms > 0 && p->mirrored >= t->size)
        t->copied_ms = t->at_ms;
    t->whole = p->mirrored >= p->size;
    t->mirrors = t->mirrors || p->mirrored > 0;
    t->at_ms = at;
    t->size = p->size;
}

/* The worst of the chains. Of one whose last checkpoint is copied whole nothing is missing, however long ago that was: what came since waits on its stream. */
bool in_rpo_audit(const struct continuity *c, int64_t *ret_point_ms, const char **ret_by)
{
    int64_t worst = continuity_now_ms(c);
    bool mirrors = false;
    for (const struct trail *t = c->trails; t; t = t->hh.next) {
        if (!t->mirrors)
            continue;
        mirrors = true;
        if (!t->whole && t->copied_ms < worst)
            worst = t->copied_ms;
    }
    if (!mirrors)
        return false;
    *ret_point_ms = worst;
    *ret_by = "second directory of the trail";
    return true;
}
