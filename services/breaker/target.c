/* target.c - one target's engine: flush, decide, store, announce; see target.h. */
#include "breaker/target.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_MS 1000 /* after the store has failed us */

/* Successes that can change nothing are flushed this often at most, and at least twenty times per window: half a second's worth of them
 * moves no share that failures of the same half second would not have moved as well. Failures never wait. */
#define LAZY_MAX_MS 500

static void step(struct breaker_target *t);
static void cycle(struct breaker_target *t);

/* ---- the document ---- */

static char *copy(const char *s)
{
    if (!s)
        return NULL;
    char *p = strdup(s);
    if (!p)
        abort(); /* who has forced a breaker must not be forgotten */
    return p;
}

/* What is being put outlives the document that it was made from, and who asked for it. */
static void own_next(struct breaker_target *t)
{
    char *by = copy(t->next.forced_by), *why = copy(t->next.forced_why), *scope = copy(t->next.scope);
    free(t->next_by);
    free(t->next_why);
    free(t->next_scope);
    t->next.forced_by = t->next_by = by;
    t->next.forced_why = t->next_why = why;
    t->next.scope = t->next_scope = scope;
}

static int64_t lazy_ms(const struct breaker_target *t)
{
    int64_t ms = t->rule.window_ms / 20;
    return ms < LAZY_MAX_MS ? ms : LAZY_MAX_MS;
}

/* Only reports of calls can move it: no trial and no ramp is under way. */
static bool steady(const struct breaker_target *t)
{
    int s = t->doc.state;
    return s == BREAKER_CLOSED || s == BREAKER_FORCED_OPEN || s == BREAKER_FORCED_CLOSED || s == BREAKER_METRICS_ONLY;
}

static bool only_good(const struct breaker_delta *d)
{
    return d->failures == 0 && d->slow == 0;
}

/* What was gathered must be flushed now. Successes may wait if the window, as it was a moment ago, holds nothing but successes: to a
 * run or a share of failures they would make a difference. */
static bool due(struct breaker_target *t)
{
    return t->gathered.calls > 0 && (!steady(t) || !only_good(&t->gathered) || t->has_heard || t->draining ||
                                     t->quiet_ms == 0 || t->io->now_ms(t) >= t->quiet_ms + lazy_ms(t));
}

/* The next deadline: the document's, or that of successes that wait. */
static void arm(struct breaker_target *t)
{
    int64_t at_ms = breaker_wake_ms(&t->doc, &t->rule, t->began_ms, t->io->now_ms(t));
    t->lazy = t->gathered.calls > 0;
    if (t->lazy && (at_ms == 0 || t->quiet_ms + lazy_ms(t) < at_ms))
        at_ms = t->quiet_ms + lazy_ms(t);
    int64_t away_ms = t->away ? breaker_away_wake_ms(t->away, &t->rule, t->io->now_ms(t)) : 0;
    if (away_ms > 0 && (at_ms == 0 || away_ms < at_ms))
        at_ms = away_ms;
    t->io->wake_at(t, at_ms);
}

static void adopt(struct breaker_target *t, const struct breaker *b)
{
    assert(b->epoch >= t->doc.epoch);
    char *by = copy(b->forced_by), *why = copy(b->forced_why), *scope = copy(b->scope);
    free(t->by);
    free(t->why);
    free(t->scope);
    t->doc = *b;
    t->doc.scope = t->scope = scope;
    t->doc.forced_by = t->by = by;
    t->doc.forced_why = t->why = why;
    if (b->state != BREAKER_HALF_OPEN)
        t->has_outcome = false;
    t->quiet_ms = t->looked_ms = t->began_ms = 0; /* another epoch, another window */
    if (t->away && breaker_away_follow(t->away, t->io->now_ms(t)) && t->hooks->advise)
        t->hooks->advise(t);
    arm(t);
    if (t->hooks->changed)
        t->hooks->changed(t);
}

void breaker_target_seen(struct breaker_target *t, const struct breaker *b)
{
    if (b->epoch > t->doc.epoch)
        adopt(t, b);
}

/* ---- evidence ---- */

static void keep_away(struct breaker_target *t, struct breaker_delta *d)
{
    int64_t now_ms = t->io->now_ms(t);
    if (!t->away && d->calls > 0 && (t->away = malloc(sizeof *t->away)))
        breaker_away_init(t->away, t->voters, now_ms);
    bool act = !t->io->up(t) && t->io->may_act(t);
    if (t->away && breaker_away_decide(t->away, &t->doc, &t->rule, d, act, now_ms) && t->hooks->advise)
        t->hooks->advise(t);
    memset(d, 0, sizeof *d);
}

static void bring_back(struct breaker_target *t)
{
    struct breaker_away *a = t->away;
    if (!a)
        return;
    breaker_window_merge(&a->all, 1, breaker_span_of(&t->rule), t->io->now_ms(t), NULL);
    struct breaker_delta d = breaker_window_delta(&a->all);
    breaker_delta_join(&d, &t->gathered);
    t->gathered = d;
    t->away = NULL;
    if (a->state == BREAKER_AWAY_HOLDS && t->hooks->advise)
        t->hooks->advise(t);
    free(a);
}

static int how_bad(const struct breaker_event *outcome)
{
    return !outcome->u.outcome.good ? 2 : outcome->u.outcome.slow;
}

/* Keeps the outcome of the newest permit; told twice and differently, the stricter holds. */
static void hear(bool *has, struct breaker_event *kept, const struct breaker_event *ev)
{
    uint64_t had = *has ? kept->u.outcome.permit_id : 0, id = ev->u.outcome.permit_id;
    if (id > had || (id == had && how_bad(ev) >= how_bad(kept)))
        *kept = *ev;
    *has = true;
}

void breaker_target_report(struct breaker_target *t, const struct breaker_report *r, uint64_t permit_id)
{
    struct breaker_call c = breaker_classify(&t->rule, r, t->io->now_ms(t));
    breaker_delta_add(&t->gathered, &c);
    bool ended = c.class == BREAKER_CALL_GOOD || c.class == BREAKER_CALL_FAILED;
    if (permit_id == 0 || !ended)
        return;
    struct breaker_event ev = {.kind = BREAKER_EV_OUTCOME,
                               .u.outcome = {.permit_id = permit_id,
                                             .good = c.class == BREAKER_CALL_GOOD,
                                             .slow = c.slow,
                                             .data_path = !r->probe || r->data_path,
                                             .retry_until_ms = c.retry_until_ms}};
    hear(&t->has_heard, &t->heard, &ev);
}

void breaker_target_kick(struct breaker_target *t)
{
    if (due(t)) {
        if (t->phase == BREAKER_FLUSHING && t->hooks->hurry && !only_good(&t->gathered))
            t->hooks->hurry(t);
        cycle(t);
    } else if (t->gathered.calls > 0 && t->phase == BREAKER_IDLE && !t->lazy) {
        arm(t);
    }
}

void breaker_target_drain(struct breaker_target *t)
{
    t->draining = true;
    breaker_target_kick(t);
}

void breaker_target_wake(struct breaker_target *t)
{
    cycle(t);
}

void breaker_target_unhealthy(struct breaker_target *t, int64_t changed_ms, int64_t since_ms)
{
    if (t->has_verdict && t->verdict.u.verdict.changed_ms >= changed_ms)
        return;
    t->has_verdict = true;
    t->verdict = (struct breaker_event){.kind = BREAKER_EV_VERDICT,
                                        .u.verdict = {.changed_ms = changed_ms, .since_ms = since_ms}};
    cycle(t);
}

void breaker_target_scope(struct breaker_target *t, const char *name, bool ill, const struct breaker_scope *s)
{
    if (t->deciding == &t->scoped) /* its text is in use */
        return;
    free(t->scope_asked);
    t->scope_asked = copy(name);
    t->has_scoped = true;
    t->scoped = (struct breaker_event){.kind = BREAKER_EV_SCOPE,
                                       .u.scope = {.name = t->scope_asked,
                                                   .ill = ill,
                                                   .until_ms = s->until_ms,
                                                   .first_ms = s->first_ms,
                                                   .newest_ms = s->newest_ms}};
    cycle(t);
}

void breaker_target_well(struct breaker_target *t)
{
    t->has_verdict = false;
}

void breaker_target_rules(struct breaker_target *t, const struct breaker_rule *rule)
{
    t->rule = *rule;
    t->has_rules = true;
    cycle(t);
}

/* ---- requests ---- */

static void refuse(struct breaker_target *t, struct breaker_request *q)
{
    struct breaker_result r = {.retry_after_ms = 1000};
    t->io->answer(t, q, BREAKER_ANSWER_UNAVAILABLE, &r);
}

void breaker_target_refuse_all(struct breaker_target *t)
{
    while (t->requests) {
        struct breaker_request *q = t->requests;
        t->requests = q->next;
        if (!t->requests)
            t->requests_end = &t->requests;
        if (t->deciding == &q->ev)
            t->deciding = NULL;
        refuse(t, q);
    }
}

void breaker_target_request(struct breaker_target *t, struct breaker_request *q)
{
    int64_t now_ms = t->io->now_ms(t);
    if (q->ev.kind == BREAKER_EV_ALLOW && t->away && breaker_away_holds(t->away, now_ms)) {
        struct breaker_result r = {.retry_after_ms = t->away->until_ms - now_ms};
        t->io->answer(t, q, BREAKER_ANSWER_DONE, &r);
        return;
    }
    if (q->ev.kind == BREAKER_EV_ALLOW && !breaker_needs_permit(&t->doc, now_ms)) {
        struct breaker same = t->doc;
        struct breaker_result r = breaker_decide(&same, &t->rule, &q->ev, now_ms);
        assert(!r.changed);
        t->io->answer(t, q, BREAKER_ANSWER_DONE, &r);
        return;
    }
    if (!t->io->up(t)) {
        refuse(t, q);
        return;
    }
    q->next = NULL;
    *t->requests_end = q;
    t->requests_end = &q->next;
    cycle(t);
}

/* ---- the cycle ---- */

static void cycle(struct breaker_target *t)
{
    if (t->phase != BREAKER_IDLE) {
        t->again = true;
        return;
    }
    t->again = false;
    if (!t->io->up(t)) { /* evidence is kept; nothing is decided without the shared state */
        keep_away(t, &t->gathered);
        breaker_target_refuse_all(t);
        if (t->away)
            arm(t);
        return;
    }
    bring_back(t);
    t->phase = BREAKER_FLUSHING;
    breaker_target_top_up(t);
    t->io->flush(t, &t->flying, t->doc.epoch);
}

void breaker_target_top_up(struct breaker_target *t)
{
    assert(t->phase == BREAKER_FLUSHING);
    if (t->lazy)
        breaker_delta_late(&t->gathered);
    t->again = t->lazy = false;
    if (t->has_heard)
        hear(&t->has_outcome, &t->outcome, &t->heard);
    t->has_heard = false;
    if (t->gathered.calls == 0)
        return;
    if (t->flying.calls == 0)
        t->flying = t->gathered;
    else
        breaker_delta_join(&t->flying, &t->gathered);
    memset(&t->gathered, 0, sizeof t->gathered);
}

bool breaker_target_urgent(const struct breaker_target *t)
{
    return !steady(t) || !only_good(&t->flying) || t->has_outcome || t->has_verdict || t->requests;
}

static void finish(struct breaker_target *t)
{
    t->phase = BREAKER_IDLE;
    t->deciding = NULL;
    t->has_totals = false;
    if (t->again || due(t) || t->requests)
        cycle(t);
    else
        arm(t);
}

/* The store did not answer. What was sent may be merged or not: it is merged again, which can only be stricter. */
static void fail(struct breaker_target *t)
{
    breaker_delta_join(&t->flying, &t->gathered);
    t->gathered = t->flying;
    memset(&t->flying, 0, sizeof t->flying);
    keep_away(t, &t->gathered);
    breaker_target_refuse_all(t);
    t->again = t->has_scoped = false;
    finish(t);
    t->io->wake_at(t, t->io->now_ms(t) + RETRY_MS);
}

/* The store has lost the document, or has an older one: it gets what we know. The window of that epoch is void, so what was
 * merged into it is flushed once more. */
static void restore(struct breaker_target *t)
{
    breaker_delta_join(&t->flying, &t->gathered);
    t->gathered = t->flying;
    memset(&t->flying, 0, sizeof t->flying);
    t->phase = BREAKER_RESTORING;
    t->next = t->doc;
    own_next(t);
    t->io->put(t, &t->next, true, false);
}

static void make_first(struct breaker_target *t, bool over)
{
    static const struct breaker_event initial = {.kind = BREAKER_EV_INITIAL};
    t->next = t->doc;
    t->result = breaker_decide(&t->next, &t->rule, &initial, t->io->now_ms(t));
    own_next(t);
    t->next.maker = t->maker;
    t->deciding = &initial;
    t->phase = BREAKER_PUTTING;
    t->io->put(t, &t->next, over, true);
}

void breaker_target_flushed(struct breaker_target *t, const struct breaker_flushed *f)
{
    assert(t->phase == BREAKER_FLUSHING);
    if (!f->ok) {
        fail(t);
        return;
    }
    bool damaged = f->found == BREAKER_FOUND_DAMAGED;
    if (f->found == BREAKER_FOUND_OTHER && f->doc->epoch > t->doc.epoch) {
        bool first_sight = t->doc.epoch == 0;
        adopt(t, f->doc);
        if (f->pending)
            t->io->pending(t, first_sight);
    }
    bool behind = f->found == BREAKER_FOUND_OTHER && f->doc->epoch < t->doc.epoch;
    if (behind || damaged || f->found == BREAKER_FOUND_NONE) {
        if (!t->io->synced(t)) /* what the stream remembers may be newer than what we do: decide nothing */
            fail(t);
        else if (t->doc.epoch > 0)
            restore(t);
        else
            make_first(t, damaged);
        return;
    }
    t->has_totals = true;
    t->voters = f->totals.reporters;
    t->began_ms = f->totals.began_ms;
    t->totals = (struct breaker_event){.kind = BREAKER_EV_TOTALS, .u.totals = f->totals};
    bool quiet =
        f->totals.failures == 0 && f->totals.slow == 0 && f->totals.consecutive == 0 && f->totals.failing == 0;
    t->quiet_ms = quiet && f->found == BREAKER_FOUND_SAME ? t->io->now_ms(t) : 0;
    t->calls = f->totals.calls;
    t->looked_ms = t->io->now_ms(t);
    if (t->hooks->looked)
        t->hooks->looked(t);
    memset(&t->flying, 0, sizeof t->flying);
    step(t);
}

/* Decides on one event. True if a put is on its way. */
static bool try_event(struct breaker_target *t, const struct breaker_event *ev)
{
    t->next = t->doc;
    t->result = breaker_decide(&t->next, &t->rule, ev, t->io->now_ms(t));
    if (t->result.would_open)
        t->io->would_open(t, t->result.reason);
    if (!t->result.changed)
        return false;
    own_next(t);
    t->next.maker = t->maker;
    t->deciding = ev;
    t->phase = BREAKER_PUTTING;
    t->io->put(t, &t->next, false, true);
    return true;
}

/* Between the decision and the store's answer this process may have stood still: by then the permit may be another's. */
static bool permit_holds(struct breaker_target *t)
{
    return t->doc.permit.id == t->result.permit_id && t->doc.permit.expires_ms > t->io->now_ms(t);
}

/* The event has had its effect, or none. */
static void consume(struct breaker_target *t, const struct breaker_event *ev)
{
    if (ev == &t->totals)
        t->has_totals = false;
    else if (ev == &t->outcome)
        t->has_outcome = false;
    else if (ev == &t->scoped)
        t->has_scoped = false;
    else if (t->requests && ev == &t->requests->ev) {
        struct breaker_request *q = t->requests;
        t->requests = q->next;
        if (!t->requests)
            t->requests_end = &t->requests;
        if (t->result.permit_id && !permit_holds(t)) {
            refuse(t, q);
            return;
        }
        t->io->answer(t, q, t->result.already ? BREAKER_ANSWER_ALREADY : BREAKER_ANSWER_DONE, &t->result);
    }
}

static void step(struct breaker_target *t)
{
    static const struct breaker_event rules = {.kind = BREAKER_EV_RULES};
    bool act = t->io->may_act(t);
    t->deciding = NULL;
    if (!act && (t->has_totals || t->has_outcome || t->has_verdict))
        t->skipped = true;
    if (act && t->has_rules) {
        t->has_rules = false;
        if (try_event(t, &rules))
            return;
    }
    if (act && t->has_totals) {
        if (try_event(t, &t->totals))
            return;
        consume(t, &t->totals);
    }
    if (act && t->has_outcome) {
        if (try_event(t, &t->outcome))
            return;
        consume(t, &t->outcome);
    }
    if (act && t->has_verdict && try_event(t, &t->verdict))
        return;
    if (act && t->has_scoped) {
        if (try_event(t, &t->scoped))
            return;
        consume(t, &t->scoped);
    }
    while (t->requests) {
        if (!act && t->requests->ev.kind == BREAKER_EV_ALLOW) { /* a person may always; a permit waits */
            struct breaker_request *q = t->requests;
            t->requests = q->next;
            if (!t->requests)
                t->requests_end = &t->requests;
            refuse(t, q);
            continue;
        }
        if (try_event(t, &t->requests->ev))
            return;
        consume(t, &t->requests->ev);
    }
    finish(t);
}

void breaker_target_stored(struct breaker_target *t, enum breaker_put_result r, const struct breaker *theirs)
{
    assert(t->phase == BREAKER_PUTTING || t->phase == BREAKER_RESTORING);
    if (r == BREAKER_PUT_FAILED) {
        fail(t);
        return;
    }
    if (r == BREAKER_PUT_LOST && theirs && theirs->epoch > t->doc.epoch)
        adopt(t, theirs);
    if (t->phase == BREAKER_RESTORING) {
        t->again = true;
        finish(t);
        return;
    }
    const struct breaker_event *ev = t->deciding; /* NULL: who asked was refused meanwhile */
    bool initial = ev && ev->kind == BREAKER_EV_INITIAL;
    if (r == BREAKER_PUT_LOST &&
        (!theirs || theirs->epoch < t->next.epoch)) { /* the store lost or changed it: look again */
        t->again = true;
        finish(t);
        return;
    }
    if (r == BREAKER_PUT_WON) {
        /* While we waited, the stream may have told us of a later one. */
        if (t->next.epoch > t->doc.epoch)
            adopt(t, &t->next);
        t->io->announce(t, &t->next);
        consume(t, ev);
    } else if (ev == &t->totals) {
        /* These totals were of the document that is gone; only how long to stay away still counts. */
        t->totals.u.totals = (struct breaker_totals){.retry_until_ms = t->totals.u.totals.retry_until_ms};
    }
    if (initial) { /* now the reports have a document to belong to */
        breaker_delta_join(&t->flying, &t->gathered);
        t->gathered = t->flying;
        memset(&t->flying, 0, sizeof t->flying);
        t->again = true;
        finish(t);
        return;
    }
    step(t);
}

/* ---- life ---- */

void breaker_target_init(struct breaker_target *t, const struct breaker_io *io, void *ctx,
                         const struct breaker_rule *rule)
{
    static const struct breaker_hooks none;
    *t = (struct breaker_target){.io = io, .hooks = &none, .ctx = ctx, .rule = *rule, .has_rules = true};
    t->requests_end = &t->requests;
}

bool breaker_target_idle(const struct breaker_target *t)
{
    return t->phase == BREAKER_IDLE;
}

void breaker_target_done(struct breaker_target *t)
{
    assert(t->phase == BREAKER_IDLE && !t->requests);
    free(t->by);
    free(t->why);
    free(t->scope);
    free(t->scope_asked);
    free(t->next_by);
    free(t->next_why);
    free(t->next_scope);
    free(t->away);
}
