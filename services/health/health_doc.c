/* health_doc.c - what others know of a verdict: the document in Redis, the event on the stream, alerts, audit records.
 *
 * The happy path: the verdict differs from the document -> a document of the next epoch is written by compare-and-set -> it is
 * announced, alerted and recorded -> the document is marked as announced. Who loses a race takes the other's document and looks again.
 * With the store away a verdict waits here; when it is back, the document is read anew and brought up to date. If the
 * document is gone (an emptied Redis), it is restored from what was seen on the stream, so that no epoch is ever used twice.
 *
 * Only a target's owner writes. While the members change there may be two that think so. An epoch is still used once only, because the
 * document is written by compare-and-set on its revision. And the old owner cannot write over the new one's verdict: the fence of each
 * write is the generation of the members that the writer knows, and the new owner knows a later one. A person's order may be written by
 * any replica, under the same rules. */
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include "common/utf8.h"
#include "health/health_shell.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANCESTORS_MAX  32
#define REREAD_AT_ONCE 16 /* documents that each sweep reads again: one that was lost is back before long */
#define BUSY_MAX       64 /* exchanges with the store at once: thousands of first verdicts must not make probes late */
#define REASON_MAX     256

METRIC_DEFINE(announced, METRIC_COUNTER, "redoubt_verdicts_total", "Verdicts announced.");
METRIC_DEFINE(waiting, METRIC_GAUGE, "redoubt_verdicts_waiting", "Verdicts that could not be announced yet.");
METRIC_DEFINE(restored, METRIC_COUNTER, "redoubt_health_documents_restored_total",
              "Documents that were missing or old in the store, and were written again.");
METRIC_DEFINE(damaged, METRIC_COUNTER, "redoubt_health_documents_damaged_total",
              "Documents in the store that could not be read.");

#define SAME(a, b) _Static_assert((int)(a) == (int)(b), "numbers of the contract")
#define STATE(x)   SAME(HEALTH_##x, REDOUBT__V1__HEALTH_STATE__HEALTH_STATE_##x)
#define FAULT(x)   SAME(HEALTH_FAULT_##x, REDOUBT__V1__PROBE_FAULT__PROBE_FAULT_##x)
#define PROBE(x)   SAME(HEALTH_PROBE_##x, REDOUBT__V1__PROBE_KIND__PROBE_KIND_##x)
#define OUTCOME(x) SAME(HEALTH_OUTCOME_##x, REDOUBT__V1__OUTCOME__OUTCOME_##x)
STATE(UNKNOWN);
STATE(HEALTHY);
STATE(DEGRADED);
STATE(UNHEALTHY);
STATE(FLAPPING);
STATE(MAINTENANCE);
FAULT(NONE);
FAULT(RESOLVE);
FAULT(CONNECT);
FAULT(TLS);
FAULT(TIMEOUT);
FAULT(CUT);
FAULT(STATUS);
FAULT(QUOTA);
FAULT(OVERLOAD);
FAULT(AUTH);
FAULT(SCHEMA);
FAULT(TOO_LARGE);
FAULT(SLOW);
FAULT(SILENT);
FAULT(STUCK);
FAULT(EXHAUSTED);
FAULT(REFUSED);
FAULT(MISMATCH);
FAULT(EXPIRING);
FAULT(CERTIFICATE);
FAULT(OOM);
FAULT(PATTERN);
FAULT(QUIET);
FAULT(WRONG_ANSWER);
FAULT(MALFORMED);
FAULT(CONTRADICTION);
FAULT(REPETITION);
FAULT(DENIED);
FAULT(EXCEPTIONS);
PROBE(HTTP);
PROBE(TCP);
PROBE(TLS);
PROBE(DNS);
PROBE(LLM);
PROBE(HEARTBEAT);
PROBE(RESOURCE);
PROBE(LOG);
PROBE(SELFTEST);
PROBE(BUS);
PROBE(STORE);
PROBE(LINK);
PROBE(DECISIONS);
OUTCOME(SUCCESS);
OUTCOME(ERROR);
OUTCOME(TIMEOUT);
OUTCOME(RATE_LIMITED);
OUTCOME(OVERLOADED);
OUTCOME(UNREACHABLE);
OUTCOME(IGNORED);
SAME(HEALTH_FAILURE_LLM, REDOUBT__V1__FAILURE_KIND__FAILURE_KIND_LLM_OUTAGE);
SAME(HEALTH_FAILURE_BACKEND, REDOUBT__V1__FAILURE_KIND__FAILURE_KIND_BACKEND_FAILURE);
SAME(HEALTH_FAILURE_LOGIC, REDOUBT__V1__FAILURE_KIND__FAILURE_KIND_LOGIC_ERROR);
SAME(HEALTH_FAILURE_RESOURCE, REDOUBT__V1__FAILURE_KIND__FAILURE_KIND_RESOURCE_EXHAUSTION);
SAME(HEALTH_FAILURE_NETWORK, REDOUBT__V1__FAILURE_KIND__FAILURE_KIND_NETWORK);
SAME(HEALTH_FAILURE_AGENT_DOWN, REDOUBT__V1__FAILURE_KIND__FAILURE_KIND_AGENT_DOWN);

static void key_of(const struct health_watch *t, char buf[static HEALTH_KEY_MAX])
{
    snprintf(buf, HEALTH_KEY_MAX, "redoubt:{h:%s}:doc", t->name);
}

/* ---- what is known ---- */

static bool off(int state)
{
    return state == HEALTH_DEGRADED || state == HEALTH_UNHEALTHY || state == HEALTH_FLAPPING;
}

/* The fault behind it; NONE while it is well. */
static int cause_in(const PB(HealthChanged) * m)
{
    for (size_t i = 0; off((int)m->state) && i < m->n_evidence; i++)
        if (m->evidence[i]->fault > REDOUBT__V1__PROBE_FAULT__PROBE_FAULT_NONE)
            return (int)m->evidence[i]->fault;
    return HEALTH_FAULT_NONE;
}

/* Takes over a document or event that is newer than what is known. */
static bool learn(struct health_watch *t, const PB(HealthChanged) * m, const void *data, size_t len)
{
    struct health_doc *d = &t->doc;
    void *copy = malloc(len);
    if (!copy)
        return false;
    memcpy(copy, data, len);
    free(d->packed);
    d->packed = copy;
    d->len = len;
    d->epoch = m->epoch;
    d->state = (int)m->state;
    d->failure = (int)m->failure_kind;
    d->cause = cause_in(m);
    d->since_ms = m->since_unix_ms;
    d->changed_ms = m->changed_unix_ms;
    d->maintenance_until_ms = d->state == HEALTH_MAINTENANCE ? m->maintenance_until_unix_ms : 0;
    t->suppress.on = *m->suppressed_by != 0;
    int64_t now_ms = clock_shared_ms();
    bool was = t->verdict.state == HEALTH_MAINTENANCE;
    if (was || d->maintenance_until_ms > now_ms) /* a person's word holds for every replica */
        health_maintain(&t->verdict, d->maintenance_until_ms, now_ms);
    if (t->verdict.state == HEALTH_UNKNOWN)
        health_adopt(&t->verdict, d->state, d->failure, d->cause, d->since_ms, d->changed_ms);
    if (was && t->verdict.state != HEALTH_MAINTENANCE && t->probe && !t->gone)
        health_run_arm(t);
    return true;
}

void health_doc_adopt(struct health_watch *t)
{
    const struct health_doc *d = &t->doc;
    int64_t now_ms = clock_shared_ms();
    health_init(&t->verdict, now_ms);
    if (d->epoch > 0 && d->maintenance_until_ms > now_ms)
        health_maintain(&t->verdict, d->maintenance_until_ms, now_ms);
    else if (d->epoch > 0)
        health_adopt(&t->verdict, d->state, d->failure, d->cause, d->since_ms, d->changed_ms);
}

struct health_watch *health_suppressor(const struct health_watch *t)
{
    struct health_watch *up = t->parent;
    for (int i = 0; up && i < ANCESTORS_MAX; up = up->parent, i++)
        if (!up->gone && up->doc.state == HEALTH_UNHEALTHY)
            return up;
    return NULL;
}

/* What is to be announced: our own verdict, that of the other vantage points, or a person's word. */
struct said {
    int state, failure, cause;
    int64_t since_ms, changed_ms, maintenance_until_ms;
    bool hold; /* nothing: others see it otherwise, or have not answered yet */
    bool overruled;
};

static struct said to_say(const struct health_watch *t)
{
    const struct health *v = &t->verdict;
    struct said s = {.state = v->state,
                     .failure = v->failure,
                     .cause = v->cause,
                     .since_ms = v->since_ms,
                     .changed_ms = v->changed_ms,
                     .maintenance_until_ms = v->maintenance_until_ms};
    int fault;
    enum health_say say = health_vote_say(t, &fault);
    s.hold = say == HEALTH_SAY_HOLD;
    if (say == HEALTH_SAY_OVERRULED && v->state != HEALTH_MAINTENANCE) {
        int64_t now_ms = clock_shared_ms();
        s = (struct said){.state = HEALTH_UNHEALTHY,
                          .failure = health_failure_of(t->rule.kind, fault),
                          .cause = fault,
                          .since_ms = now_ms,
                          .changed_ms = now_ms,
                          .overruled = true};
    }
    if (t->order) {
        int64_t now_ms = clock_shared_ms();
        s = (struct said){.state = t->order->until_ms > 0 ? HEALTH_MAINTENANCE : HEALTH_UNKNOWN,
                          .cause = HEALTH_FAULT_NONE,
                          .since_ms = now_ms,
                          .changed_ms = now_ms,
                          .maintenance_until_ms = t->order->until_ms};
    }
    return s;
}

static bool lifts(const struct health_watch *t)
{
    struct health_suppress s = t->suppress; /* only asked: the tick is who remembers */
    return s.on && off(t->doc.state) && !health_suppressed(&s, health_suppressor(t) != NULL, clock_mono_ms());
}

static bool differs(const struct health_watch *t)
{
    const struct health_doc *d = &t->doc;
    struct said s = to_say(t);
    if (t->order)
        return true;
    if (s.hold)
        return false;
    if (s.state == HEALTH_UNKNOWN) /* not known is not announced over something known, but it ends a maintenance */
        return d->epoch > 0 && d->state == HEALTH_MAINTENANCE;
    if (s.state == HEALTH_MAINTENANCE) /* it is announced by whoever was told to, and learnt from there */
        return false;
    if (s.overruled)
        return d->state != HEALTH_UNHEALTHY;
    return d->epoch == 0 || s.state != d->state || s.failure != d->failure ||
           (s.state == HEALTH_DEGRADED && s.cause != d->cause) || lifts(t);
}

/* ---- announcing ---- */

/* Something asked of the bus or the store for one watch. */
struct errand {
    struct health_watch *t;
    uint64_t rev;
    uint64_t epoch;
    int previous_cause;
    bool ordered; /* it is a person's word */
    size_t len;
    unsigned char packed[]; /* put: what is being written */
};

static struct errand *errand(struct health_watch *t, const void *packed, size_t len)
{
    struct errand *x = malloc(sizeof *x + len);
    if (!x)
        abort(); /* a few hundred bytes: nothing would work any more */
    *x = (struct errand){.t = t, .rev = t->doc.rev, .epoch = t->doc.epoch, .len = len};
    if (len)
        memcpy(x->packed, packed, len);
    health_promise(t->w);
    return x;
}

static void on_marked(void *ctx, enum store_status st, const redisReply *reply)
{
    struct errand *x = ctx;
    struct health_watcher *w = x->t->w;
    (void)st; /* not marked: the sweep announces it again under the same id, and nobody sees it twice */
    (void)reply;
    free(x);
    health_kept(w);
}

static void on_announced(void *ctx, const struct bus_stored *r)
{
    struct errand *x = ctx;
    struct health_watch *t = x->t;
    struct health_watcher *w = t->w;
    t->doc.announcing = false;
    if (r->status == BUS_OK && !w->stopped && w->s->store) {
        char key[HEALTH_KEY_MAX];
        key_of(t, key);
        health_promise(w);
        store_doc_announced(w->s->store, key, x->rev, on_marked, x);
    } else {
        if (r->status == BUS_REFUSED)
            log_error("the stream refused a verdict; it is announced again", F_STR("target", t->name),
                      F_STR("why", r->error));
        free(x);
    }
    health_kept(w);
}

/* Publishes the document that is known: just written here, or left unannounced by somebody. */
static void announce(struct health_watch *t, int previous_cause)
{
    char subject[SUBJECT_MAX_LEN], id[TARGET_MAX_LEN + 40];
    PB(HealthChanged) *m = wire_unpack(PB_DESC(health_changed), t->doc.packed, t->doc.len, NULL);
    if (!m)
        return; /* out of memory: the sweep finds it still pending */
    snprintf(subject, sizeof subject, SUBJECT_HEALTH "%s", t->name);
    snprintf(id, sizeof id, "health/%s/%" PRIu64, t->name, m->epoch);
    t->doc.announcing = true;
    metric_add(&announced, 1);
    service_announce(t->w->s, subject, id, m, on_announced, errand(t, NULL, 0));
    health_say(t, m, cause_in(m), previous_cause);
    wire_free(m);
}

/* ---- the document ---- */

static void say_damaged(struct health_watch *t, const char *why)
{
    metric_add(&damaged, 1);
    if (!t->doc.damaged) {
        char key[HEALTH_KEY_MAX];
        key_of(t, key);
        log_error("a document in the store cannot be read; delete it, and it is written anew", F_STR("key", key),
                  F_STR("why", why));
    }
    t->doc.damaged = true;
}

/* Takes what the store holds. True if it has to be written over by what is known from the stream. */
static bool take_stored(struct health_watch *t, const struct store_doc *doc)
{
    struct health_doc *d = &t->doc;
    struct err e = {""};
    d->rev = doc->rev;
    /* Without the present from the stream nobody knows which epochs were used. */
    d->read = doc->found || t->w->synced;
    if (!doc->found)
        return d->read && d->packed;
    PB(HealthChanged) *m = wire_unpack(PB_DESC(health_changed), doc->data, doc->len, &e);
    if (!m || strcmp(m->target, t->name) != 0) {
        say_damaged(t, m ? "it is about another target" : e.text);
        wire_free(m);
        d->read = t->w->synced;
        return d->read && d->packed;
    }
    d->damaged = false;
    bool older = m->epoch < d->epoch;
    if (!older && !learn(t, m, doc->data, doc->len))
        d->read = false; /* out of memory: the sweep tries again */
    else if (!older && doc->pending && !d->announcing)
        announce(t, HEALTH_FAULT_AUTH);
    wire_free(m);
    return older && d->packed;
}

static void set_busy(struct health_watch *t, bool busy)
{
    t->w->docs_busy += (size_t)busy - (size_t)t->doc.busy;
    t->doc.busy = busy;
}

/* False: too many are; it is looked at again when its turn comes. */
static bool may_begin(struct health_watch *t)
{
    struct health_watcher *w = t->w;
    if (w->docs_busy < BUSY_MAX)
        return true;
    if (!t->doc.waits) {
        t->doc.waits = true;
        t->doc.next_waiting = NULL;
        *w->docs.end = t;
        w->docs.end = &t->doc.next_waiting;
    }
    return false;
}

static void let_next_begin(struct health_watcher *w)
{
    while (w->docs.first && w->docs_busy < BUSY_MAX) {
        struct health_watch *t = w->docs.first;
        w->docs.first = t->doc.next_waiting;
        if (!w->docs.first)
            w->docs.end = &w->docs.first;
        t->doc.waits = false;
        health_doc_sync(t);
    }
}

static void finish(struct health_watch *t)
{
    struct health_watcher *w = t->w;
    set_busy(t, false);
    if (t->doc.again || (t->doc.read && differs(t))) {
        t->doc.again = false;
        health_doc_sync(t);
    }
    let_next_begin(w);
    health_kept(w);
}

static void on_restored(void *ctx, enum store_status st, enum store_cas cas, const struct store_doc *doc)
{
    struct errand *x = ctx;
    struct health_watch *t = x->t;
    (void)doc;
    if (st == STORE_OK && cas == STORE_CAS_WON) {
        t->doc.rev = x->rev + 1;
        metric_add(&restored, 1);
        log_info("a verdict's document was restored from the stream", F_STR("target", t->name),
                 F_INT("epoch", x->epoch));
    } else {
        t->doc.read = false;
    }
    free(x);
    finish(t);
}

static void restore(struct health_watch *t, uint64_t fence)
{
    char key[HEALTH_KEY_MAX];
    key_of(t, key);
    set_busy(t, true);
    store_doc_put(t->w->s->store, key, t->doc.rev, fence, false, t->doc.packed, t->doc.len, on_restored,
                  errand(t, NULL, 0));
}

static void on_read(void *ctx, enum store_status st, const struct store_doc *doc)
{
    struct errand *x = ctx;
    struct health_watch *t = x->t;
    struct health_watcher *w = t->w;
    free(x);
    uint64_t fence = health_fence(w);
    if (st == STORE_ERROR)
        say_damaged(t, doc->error);
    if (st == STORE_OK && !w->draining && take_stored(t, doc) && fence && health_announces(t)) {
        restore(t, fence);
        health_kept(w);
        return;
    }
    finish(t);
}

static void on_put(void *ctx, enum store_status st, enum store_cas cas, const struct store_doc *doc)
{
    struct errand *x = ctx;
    struct health_watch *t = x->t;
    struct health_watcher *w = t->w;
    if (st == STORE_ERROR)
        say_damaged(t, doc->error);
    if (st != STORE_OK || cas == STORE_CAS_FENCED) {
        t->doc.read = false; /* it may have happened, or the members have changed: reading tells */
        if (cas == STORE_CAS_FENCED && w->members && !w->draining)
            members_refresh(w->members);
    } else if (cas == STORE_CAS_LOST) {
        /* Another's document, or none: then ours is written on top of nothing, with the epoch that follows. */
        if (take_stored(t, doc))
            t->doc.read = w->synced;
    } else {
        PB(HealthChanged) *m = wire_unpack(PB_DESC(health_changed), x->packed, x->len, NULL);
        t->doc.rev = x->rev + 1;
        t->doc.damaged = false;
        if (m && learn(t, m, x->packed, x->len))
            announce(t, x->previous_cause);
        else
            t->doc.read = false; /* out of memory: it is found pending when it is read again */
        wire_free(m);
        if (x->ordered)
            health_order_done(t, true);
    }
    free(x);
    finish(t);
}

static const char *reason_of(const struct health_watch *t, const struct said *s, char *buf, size_t size)
{
    if (t->order)
        snprintf(buf, size, "%s by %.64s: %.150s", s->state == HEALTH_MAINTENANCE ? "taken out" : "given back",
                 t->order->by, t->order->why);
    else if (s->overruled)
        snprintf(buf, size, "most of the vantage points see it as bad: %s", health_fault_text(s->cause));
    else if (s->state == HEALTH_UNKNOWN)
        snprintf(buf, size, "the maintenance is over; not known yet");
    else
        health_reason(&t->verdict, buf, size);
    buf[utf8_valid_until(buf, strlen(buf))] = 0;
    return buf;
}

struct votes {
    PB(HealthVote) of[HEALTH_VOTERS_MAX + 1];
    PB(HealthVote) * at[HEALTH_VOTERS_MAX + 1];
};

/* Who was asked before a target is called bad. */
static void fill_votes(const struct health_watch *t, PB(HealthChanged) * m, struct votes *x)
{
    struct health_vote v[HEALTH_VOTERS_MAX + 1];
    size_t n = health_bad((int)m->state) ? health_vote_list(t, v, HEALTH_VOTERS_MAX + 1) : 0, filled = 0;
    int64_t now_mono_ms = clock_mono_ms(), now_ms = clock_shared_ms();
    for (size_t i = 0; i < n; i++) {
        const char *who = i == 0 ? t->w->s->instance : health_member_name(t->w, v[i].who);
        if (!who)
            continue;
        PB(HealthVote) *out = &x->of[filled];
        *out = (PB(HealthVote))REDOUBT__V1__HEALTH_VOTE__INIT;
        out->observer = (char *)who;
        out->state = (Redoubt__V1__HealthState)v[i].state;
        out->fault = (Redoubt__V1__ProbeFault)v[i].fault;
        out->seen_unix_ms = now_ms - (now_mono_ms - v[i].heard_ms);
        x->at[filled++] = out;
    }
    m->votes = x->at;
    m->n_votes = filled;
}

static void put(struct health_watch *t, uint64_t fence)
{
    const struct health *v = &t->verdict;
    const struct said said = to_say(t);
    char reason[REASON_MAX], key[HEALTH_KEY_MAX];
    struct votes votes;
    PB(ProbeResult) results[HEALTH_EVIDENCE_MAX];
    PB(ProbeResult) * evidence[HEALTH_EVIDENCE_MAX];
    PB(HealthChanged) m = REDOUBT__V1__HEALTH_CHANGED__INIT;
    for (size_t i = 0; i < v->n_evidence; i++) {
        const struct health_mark *r = health_evidence(v, i);
        results[i] = (PB(ProbeResult))REDOUBT__V1__PROBE_RESULT__INIT;
        results[i].kind = (Redoubt__V1__ProbeKind)r->probe;
        results[i].fault = (Redoubt__V1__ProbeFault)r->fault;
        results[i].observer = (char *)t->w->s->instance;
        results[i].ended_unix_ms = r->ended_ms;
        results[i].total_ms = r->total_ms;
        results[i].first_token_ms = r->first_token_ms;
        results[i].status_code = r->status;
        results[i].detail = (char *)health_evidence_detail(v, i);
        results[i].prompt_tokens = r->prompt_tokens;
        results[i].completion_tokens = r->completion_tokens;
        results[i].cost_microusd = r->cost_microusd;
        evidence[i] = &results[i];
    }
    m.target = t->name;
    m.epoch = t->doc.epoch + 1;
    m.state = (Redoubt__V1__HealthState)said.state;
    m.previous = (Redoubt__V1__HealthState)(t->doc.epoch ? t->doc.state : HEALTH_UNKNOWN);
    m.failure_kind = (Redoubt__V1__FailureKind)said.failure;
    m.reason = (char *)reason_of(t, &said, reason, sizeof reason);
    m.since_unix_ms = said.since_ms;
    m.changed_unix_ms = said.changed_ms;
    m.observer = (char *)t->w->s->instance;
    m.evidence = evidence;
    m.n_evidence = v->n_evidence;
    m.maintenance_until_unix_ms = said.maintenance_until_ms;
    fill_votes(t, &m, &votes);
    const struct health_watch *down = health_suppressor(t);
    if (off(said.state) && health_suppressed(&t->suppress, down != NULL, clock_mono_ms()))
        m.suppressed_by = (char *)(down ? down : t->parent ? t->parent : t)->name;
    struct err e = {""};
    size_t len;
    void *data = wire_pack(&m, &len, &e);
    if (!data) {
        log_error("own verdict is not valid", F_STR("target", t->name), F_STR("why", e.text));
        return;
    }
    struct errand *x = errand(t, data, len);
    x->previous_cause = t->doc.cause;
    x->ordered = t->order != NULL;
    free(data);
    key_of(t, key);
    set_busy(t, true);
    store_doc_put(t->w->s->store, key, t->doc.rev, fence, true, x->packed, x->len, on_put, x);
}

void health_doc_sync(struct health_watch *t)
{
    struct health_watcher *w = t->w;
    struct health_doc *d = &t->doc;
    if (d->busy) {
        d->again = true;
        return;
    }
    uint64_t fence = health_fence(w);
    if (t->gone || w->draining || fence == 0 || !(health_announces(t) || t->order) || !health_may_act(w))
        return;
    if ((!d->read || differs(t)) && !may_begin(t))
        return;
    if (!d->read) {
        char key[HEALTH_KEY_MAX];
        key_of(t, key);
        set_busy(t, true);
        store_doc_get(w->s->store, key, on_read, errand(t, NULL, 0));
    } else if (differs(t)) {
        put(t, fence);
    }
}

void health_doc_forget(struct health_watch *t)
{
    t->doc.read = false;
}

/* ---- the stream ---- */

void health_on_verdict(struct service *s, const void *message, const struct bus_msg *m)
{
    const PB(HealthChanged) *h = message;
    const char *tail = subject_tail(m->subject, SUBJECT_HEALTH);
    if (!tail || strcmp(tail, h->target) != 0) {
        service_bad_input(s, "verdict on another's subject", m, h->target);
        return;
    }
    struct health_watch *t = health_find(health_watcher_of(s), h->target);
    if (!t && subject_tail(h->target, HEALTH_LINK_PREFIX))
        t = health_link_of(health_watcher_of(s), h->target);
    if (!t || h->epoch <= t->doc.epoch)
        return;
    if (learn(t, h, m->data, m->len)) {
        t->doc.read = false; /* the store may not have it yet, or not any more */
        health_doc_sync(t);
    }
}

void health_on_sweep(struct service *s)
{
    struct health_watcher *w = health_watcher_of(s);
    size_t i = 0, n = HASH_COUNT(w->all), left = 0;
    w->swept = n ? w->swept % n : 0;
    for (struct health_watch *t = w->all; t; t = t->hh.next, i++) {
        if (t->gone)
            continue;
        left += health_owns(t) && differs(t);
        if ((i + n - w->swept) % n < REREAD_AT_ONCE)
            health_doc_forget(t);
        health_doc_sync(t);
    }
    w->swept += REREAD_AT_ONCE;
    metric_set(&waiting, (int64_t)left);
}

void health_doc_tick(struct health_watcher *w)
{
    for (struct health_watch *t = w->all; t; t = t->hh.next)
        if (!t->gone && t->suppress.on && off(t->doc.state) &&
            !health_suppressed(&t->suppress, health_suppressor(t) != NULL, clock_mono_ms()))
            health_doc_sync(t);
}
