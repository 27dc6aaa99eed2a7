/* health_vote.c - what other watchers see of a target: Observations asked for, given, and counted.
 *
 * The happy path: the owner's run of failures is one short of a verdict -> it asks the next of the ranking, who probe at once, fast -> each says
 * what its first result was -> the owner's verdict comes, the majority sees it, too -> it is announced with the votes. A majority that
 * sees the target well: nothing is announced, and our own link is in question (health_link.c).
 *
 * The added delay: what is left of one fast probe of the others after our own last one; when they are silent, the probe's time-out and
 * ANSWER_MS; when nobody at all answers, one lifetime of a membership more, after which the dead are off the list. */
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include "health/health_shell.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define ANSWER_MS    1000  /* for the message to go and come */
#define SAY_AGAIN_MS 500   /* a question that is not answered is put again: a message may get lost */
#define FLAP_GOOD    5     /* good results in a row that speak against flapping */
#define REASK_MS     30000 /* at least; a verdict that stands is asked about again: is it still not only us? */
#define REASK_TIMES  3     /* and at least so many intervals */
#define FRESH_TIMES  3     /* intervals for which a standing observer's word holds */
#define DETAIL_MAX   256

METRIC_DEFINE(votes, METRIC_COUNTER, "redoubt_health_votes_total",
              "Observations of other watchers that were counted.");
METRIC_DEFINE(asked, METRIC_COUNTER, "redoubt_health_questions_total",
              "Times that other watchers were asked to look.");
METRIC_DEFINE(answered, METRIC_COUNTER, "redoubt_health_confirmations_total",
              "Times that this replica has looked for another, and said what it saw.");
METRIC_DEFINE(dropped, METRIC_COUNTER, "redoubt_health_observations_dropped_total",
              "Observations by nobody that is among the replicas.");

struct health_question {
    struct health_watch *t;
    struct health_poll poll;
    bool of_verdict; /* our own verdict was bad already when this round began */
    int64_t said_ms;
    bool blamed;            /* our link is, for the end of this round */
    int64_t well_ms;        /* when the others were found to see it well; 0 = they were not */
    int64_t well_shared_ms; /* the same */
    struct health_question *prev, *next;
};

bool health_bad(int state)
{
    return state == HEALTH_UNHEALTHY || state == HEALTH_FLAPPING;
}

static enum health_ballot ballot_of(int state)
{
    switch (state) {
    case HEALTH_HEALTHY:
    case HEALTH_DEGRADED:
        return HEALTH_BALLOT_WELL;
    case HEALTH_UNHEALTHY:
    case HEALTH_FLAPPING:
        return HEALTH_BALLOT_BAD;
    default:
        return HEALTH_BALLOT_ABSTAIN;
    }
}

/* ---- saying ---- */

void health_observe(struct health_watcher *w, const char *target, int state, int fault, const char *detail, bool asks)
{
    char subject[SUBJECT_MAX_LEN], text[DETAIL_MAX];
    PB(Observation) m = REDOUBT__V1__OBSERVATION__INIT;
    snprintf(text, sizeof text, "%s", detail);
    m.target = (char *)target;
    m.observer = (char *)w->s->instance;
    m.state = (Redoubt__V1__HealthState)state;
    m.fault = (Redoubt__V1__ProbeFault)fault;
    m.detail = text;
    m.seen_unix_ms = clock_shared_ms();
    m.asks = asks;
    struct err e = {""};
    size_t len;
    void *data = wire_pack(&m, &len, &e);
    snprintf(subject, sizeof subject, SUBJECT_OBSERVATION "%s", target);
    struct bus_out o = {.subject = subject, .type = wire_type(&m), .data = data, .len = len};
    /* What cannot be said now is not worth being said later. */
    if (data && bus_up(w->s->bus))
        (void)bus_publish(w->s->bus, &o, &e);
    free(data);
}

static int newest_fault(const struct health *v)
{
    for (size_t i = 0; i < v->n_evidence; i++)
        if (health_fault_is_bad(health_evidence(v, i)->fault))
            return health_evidence(v, i)->fault;
    return v->cause > HEALTH_FAULT_NONE ? v->cause : HEALTH_FAULT_TIMEOUT;
}

static void observe(const struct health_watch *t, int state, bool asks)
{
    const struct health *v = &t->verdict;
    bool bad = health_bad(state);
    const char *detail = v->n_evidence ? health_evidence_detail(v, 0) : "";
    health_observe(t->w, t->name, state, bad ? newest_fault(v) : HEALTH_FAULT_NONE, bad ? detail : "", asks);
}

/* ---- asking ---- */

static uint32_t fall_before_asking(const struct health_watch *t)
{
    bool paid = t->probe && t->probe->paid; /* what costs money is asked for only when it has come to a verdict */
    return t->rule.fall > 1 && !paid ? t->rule.fall - 1 : t->rule.fall;
}

static int64_t interval_ms(const struct health_watch *t)
{
    return t->probe ? t->pace.interval_ms : t->beat_ms;
}

static int64_t answer_ms(const struct health_watch *t, bool flapping)
{
    if (!t->probe) /* what is heard anyway: the next heartbeats tell */
        return 2 * t->beat_ms + ANSWER_MS;
    int64_t probe_ms = t->conf.set ? t->conf.set->timeout_ms : 0;
    return probe_ms + ANSWER_MS + (flapping ? FLAP_GOOD * t->pace.fast_ms : 0);
}

/* True if others see the same thing as we: not a process or file of one host, nor what the owner alone asks an agent. */
static bool shared_view(const struct health_watch *t)
{
    int kind = t->probe                ? t->probe->kind
               : t->verdict.n_evidence ? health_evidence(&t->verdict, 0)->probe
                                       : HEALTH_PROBE_HEARTBEAT;
    switch (kind) {
    case HEALTH_PROBE_HTTP:
    case HEALTH_PROBE_TCP:
    case HEALTH_PROBE_TLS:
    case HEALTH_PROBE_DNS:
    case HEALTH_PROBE_LLM:
    case HEALTH_PROBE_HEARTBEAT:
        return true;
    default:
        return false;
    }
}

/* Whom we ask: the first of the ranking, without us. */
static size_t others(const struct health_watch *t, uint64_t ret[HEALTH_VOTERS_MAX])
{
    const struct members_view *v = health_view(t->w);
    int64_t want = t->vantage > 1 ? (int64_t)t->vantage - 1 : t->w->s->settings->health.confirmers;
    size_t n = 0;
    uint32_t first[HEALTH_VOTERS_MAX + 1];
    if (want > HEALTH_VOTERS_MAX)
        want = HEALTH_VOTERS_MAX;
    if (t->link || want <= 0 || v->known_ms == INT64_MIN || !shared_view(t))
        return 0;
    size_t found = rank_first(v->ranked, v->n_ranked, t->hash, (size_t)want + 1, first);
    for (size_t i = 0; i < found && n < (size_t)want; i++)
        if (first[i] != v->self_ranked)
            ret[n++] = v->ranked[first[i]];
    return n;
}

static bool standing(const struct health_watch *t)
{
    return t->vantage > 1 && t->place < t->vantage && !t->link;
}

static int64_t fresh_ms(const struct health_watch *t)
{
    return standing(t) ? FRESH_TIMES * interval_ms(t) + answer_ms(t, false) : 0;
}

static enum health_poll_end end_of(const struct health_watch *t)
{
    const struct health_question *q = t->question;
    if (!q)
        return HEALTH_POLL_OPEN;
    return health_poll_end(&q->poll, ballot_of(t->verdict.state), fresh_ms(t), clock_mono_ms());
}

static struct health_question *question_of(struct health_watch *t)
{
    if (!t->question) {
        struct health_question *q = calloc(1, sizeof *q);
        if (!q)
            abort(); /* a few hundred bytes: nothing would work any more */
        q->t = t;
        t->question = q;
        DL_APPEND(t->w->questions, q);
    }
    return t->question;
}

void health_vote_drop(struct health_watch *t)
{
    if (!t->question)
        return;
    DL_DELETE(t->w->questions, t->question);
    free(t->question);
    t->question = NULL;
}

static void put_question(struct health_question *q)
{
    struct health_watch *t = q->t;
    q->said_ms = clock_mono_ms();
    observe(t, health_bad(t->verdict.state) ? t->verdict.state : HEALTH_UNHEALTHY, true);
}

static void begin_round(struct health_watch *t, const uint64_t *who, size_t n)
{
    struct health_question *q = question_of(t);
    bool flapping = t->verdict.state == HEALTH_FLAPPING;
    int64_t silent_ms = t->w->s->settings->health.member_ttl_ms * 4 / 3;
    health_poll_ask(&q->poll, who, n, answer_ms(t, flapping), silent_ms, clock_mono_ms());
    q->of_verdict = health_bad(t->verdict.state);
    q->blamed = false;
    q->well_ms = 0;
    metric_add(&asked, 1);
    put_question(q);
}

/* Counted only while the bus is there to carry answers. */
static bool may_ask(const struct health_watch *t)
{
    return !t->gone && !t->w->draining && health_may_act(t->w) && bus_up(t->w->s->bus);
}

/* Others see it well. A short outage may have ended in between: only what is seen once more, from now on, is our link's. */
static bool seen_again(struct health_question *q)
{
    struct health_watch *t = q->t;
    if (q->well_ms == 0) {
        q->well_ms = clock_mono_ms();
        q->well_shared_ms = clock_shared_ms();
        if (t->probe)
            health_run_now(t);
    }
    if (!t->probe)
        return clock_mono_ms() - q->well_ms >= 2 * t->beat_ms;
    return t->verdict.bad.n > 0 && t->verdict.newest_bad_started_ms > q->well_shared_ms;
}

static void conclude(struct health_watch *t)
{
    struct health_question *q = t->question;
    enum health_poll_end end = end_of(t);
    bool bad = health_bad(t->verdict.state);
    if (end == HEALTH_POLL_OPEN || (bad && !q->of_verdict))
        return;
    int fault = newest_fault(&t->verdict);
    if (bad && !q->blamed && health_quorum_blames_link(end, fault) && (end == HEALTH_POLL_UNHEARD || seen_again(q))) {
        q->blamed = true;
        health_link_dispute(t, end, fault);
    }
    health_doc_sync(t);
}

/* After which time it is asked about once more: soon while it is held back, for an outage may have spread since. */
static int64_t again_ms(const struct health_watch *t)
{
    bool paid = t->probe && t->probe->paid;
    if (health_bad(t->doc.state))
        return REASK_TIMES * interval_ms(t) > REASK_MS ? REASK_TIMES * interval_ms(t) : REASK_MS;
    return paid || !t->probe ? interval_ms(t) + answer_ms(t, false) : t->rule.fall * t->pace.fast_ms + ANSWER_MS;
}

/* Something has changed: our own verdict, the votes, the members, or the time. */
static void consider(struct health_watch *t)
{
    uint64_t who[HEALTH_VOTERS_MAX];
    bool bad = health_bad(t->verdict.state), near = t->verdict.bad.n >= fall_before_asking(t);
    bool mine = health_owns(t) || standing(t) || t->disputed;
    size_t n = mine ? others(t, who) : 0;
    if (n == 0 || t->verdict.state == HEALTH_MAINTENANCE || (!bad && !near && !standing(t))) {
        health_vote_drop(t);
        if (mine && bad)
            health_doc_sync(t);
        return;
    }
    if (!bad && !near) {
        if (t->question)
            conclude(t);
        return;
    }
    struct health_question *q = t->question;
    bool begin = !q || q->poll.asked_ms == 0 || (bad && !q->of_verdict);
    if (!begin && bad && end_of(t) != HEALTH_POLL_OPEN)
        begin = clock_mono_ms() - q->poll.asked_ms >= again_ms(t);
    if (begin && may_ask(t))
        begin_round(t, who, n);
    if (t->question)
        conclude(t);
}

enum health_say health_vote_say(const struct health_watch *t, int *ret_fault)
{
    const struct health_question *q = t->question;
    uint64_t who[HEALTH_VOTERS_MAX];
    bool bad = health_bad(t->verdict.state);
    *ret_fault = HEALTH_FAULT_TIMEOUT;
    if (t->link || others(t, who) == 0)
        return HEALTH_SAY_OWN;
    enum health_poll_end end = q && (!bad || q->of_verdict) ? end_of(t) : HEALTH_POLL_OPEN;
    for (uint32_t i = 0; q && i < q->poll.n; i++)
        if (q->poll.votes[i].ballot == HEALTH_BALLOT_BAD && q->poll.votes[i].fault > HEALTH_FAULT_NONE)
            *ret_fault = q->poll.votes[i].fault;
    return health_quorum_say(bad, health_bad(t->doc.state), standing(t), end);
}

size_t health_vote_list(const struct health_watch *t, struct health_vote *ret, size_t max)
{
    const struct health_question *q = t->question;
    size_t n = 0;
    if (!q || max == 0)
        return 0;
    const struct health *v = &t->verdict;
    ret[n++] = (struct health_vote){.who = rank_hash(t->w->s->instance),
                                    .heard_ms = clock_mono_ms(),
                                    .state = (uint8_t)v->state,
                                    .fault = (uint8_t)(health_bad(v->state) ? newest_fault(v) : HEALTH_FAULT_NONE)};
    for (uint32_t i = 0; i < q->poll.n && n < max; i++)
        if (q->poll.votes[i].ballot != HEALTH_BALLOT_NONE)
            ret[n++] = q->poll.votes[i];
    return n;
}

bool health_vote_trusts(const struct health_watch *t, const struct health_result *r)
{
    uint64_t who[HEALTH_VOTERS_MAX];
    return !health_quorum_blames_link(HEALTH_POLL_WELL, r->fault) || health_bad(t->doc.state) || others(t, who) == 0;
}

/* ---- being asked ---- */

bool health_vote_answers(const struct health_watch *t)
{
    return t->answer_until_ms > 0 && clock_mono_ms() < t->answer_until_ms;
}

static void answer(struct health_watch *t, int state)
{
    t->answer_until_ms = 0;
    t->answered_ms = clock_mono_ms();
    metric_add(&answered, 1);
    observe(t, state, false);
}

static void answer_by_result(struct health_watch *t, const struct health_result *r)
{
    if (!health_vote_answers(t) || r->started_ms < t->answer_since_ms)
        return;
    if (!health_fault_is_bad(r->fault)) {
        if (t->answer_good <= 1)
            answer(t, HEALTH_HEALTHY);
        else
            t->answer_good--;
    } else if (t->probe || t->verdict.state == HEALTH_UNHEALTHY || t->verdict.bad.n >= t->rule.fall) {
        answer(t, HEALTH_UNHEALTHY);
    }
}

/* What all replicas hear anyway: each has its own verdict already. */
static void answer_by_verdict(struct health_watch *t)
{
    const struct health *v = &t->verdict;
    if (v->bad.n == 0 || health_bad(v->state) || v->state == HEALTH_UNKNOWN || v->state == HEALTH_MAINTENANCE) {
        answer(t, v->state);
        return;
    }
    t->answer_since_ms = 0; /* about to change: the next one tells */
    t->answer_good = 1;
    t->answer_until_ms = clock_mono_ms() + answer_ms(t, false);
}

static void be_asked(struct health_watch *t, int about)
{
    const struct health_watcher *w = t->w;
    int64_t now_ms = clock_mono_ms(), confirmers = w->s->settings->health.confirmers;
    uint32_t among = t->vantage > 1 ? t->vantage : (uint32_t)confirmers + 1;
    if (t->place >= among || health_link_faulty(w) || health_vote_answers(t))
        return;
    if (!t->probe) {
        answer_by_verdict(t);
        return;
    }
    bool mine = health_owns(t);
    if (t->probe->paid && !mine &&
        (!health_bad(about) || (t->answered_ms > 0 && now_ms - t->answered_ms < t->pace.interval_ms * 9 / 10)))
        return; /* once per interval, and only when a verdict hangs on it */
    t->answer_since_ms = clock_shared_ms();
    t->answer_good = about == HEALTH_FLAPPING ? FLAP_GOOD : 1;
    t->answer_until_ms = now_ms + answer_ms(t, about == HEALTH_FLAPPING);
    health_run_now(t);
}

void health_vote_ask(struct health_watch *t)
{
    observe(t, t->verdict.state, true);
    if (t->place != RANK_UNPLACED)
        be_asked(t, t->verdict.state);
}

/* ---- events ---- */

void health_vote_result(struct health_watch *t, const struct health_result *r, bool changed)
{
    answer_by_result(t, r);
    if (standing(t) && !health_link_faulty(t->w))
        observe(t, t->verdict.state, false); /* for the other vantage points */
    if (t->question || changed || t->verdict.bad.n > 0)
        consider(t);
}

void health_on_observation(struct service *s, const void *message, const struct bus_msg *m)
{
    struct health_watcher *w = health_watcher_of(s);
    const PB(Observation) *o = message;
    const char *tail = subject_tail(m->subject, SUBJECT_OBSERVATION);
    if (!tail || strcmp(tail, o->target) != 0) {
        service_bad_input(s, "observation on another's subject", m, o->target);
        return;
    }
    if (strcmp(o->observer, s->instance) == 0 || w->draining)
        return;
    uint64_t who = rank_hash(o->observer);
    if (!health_member_name(w, who)) {
        metric_add(&dropped, 1);
        return;
    }
    if (subject_tail(o->target, HEALTH_LINK_PREFIX)) {
        health_link_observed(w, o);
        return;
    }
    struct health_watch *t = health_find(w, o->target);
    if (!t || t->link || !health_may_act(w))
        return;
    bool counts = health_member_counts(w, who);
    if (counts && (t->question || standing(t)) && !(o->asks && !health_bad((int)o->state))) {
        if (health_poll_vote(&question_of(t)->poll, who, ballot_of((int)o->state), (int)o->state, (int)o->fault,
                             clock_mono_ms()))
            metric_add(&votes, 1);
        consider(t);
    }
    if (o->asks)
        be_asked(t, (int)o->state);
}

void health_vote_members(struct health_watcher *w)
{
    const struct members_view *v = health_view(w);
    for (struct health_question *q = w->questions, *next; q; q = next) {
        next = q->next;
        health_poll_keep(&q->poll, v->ranked, v->n_ranked);
        consider(q->t);
    }
}

void health_vote_tick(struct health_watcher *w)
{
    int64_t now_ms = clock_mono_ms();
    for (struct health_question *q = w->questions, *next; q; q = next) {
        struct health_watch *t = q->t;
        next = q->next;
        if (t->gone) {
            health_vote_drop(t);
            continue;
        }
        if (q->poll.asked_ms > 0 && end_of(t) == HEALTH_POLL_OPEN && now_ms - q->said_ms >= SAY_AGAIN_MS &&
            may_ask(t))
            put_question(q);
        consider(t);
    }
}
