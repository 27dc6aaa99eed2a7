/* fallback.c - where an agent stands: takes one event, settles every dimension, and says what follows. */
#include "fallback/fallback.h"
#include "common/utf8.h"
#include "fallback/fallback_impl.h"
#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RESEND_MAX_MS 30000 /* people are told by then; the directive also waits on the stream */

enum { INFO = 1, WARNING, HIGH, CRITICAL }; /* severities of the contract */
const struct fallback_notice_row fallback_notices[FALLBACK_NOTICES] = {
    [FALLBACK_NOTICE_BACKUP_LLM] = {"backup-llm", WARNING, FALLBACK_FAILURE_LLM, false},
    [FALLBACK_NOTICE_SECURITY] = {"security-fallback", HIGH, FALLBACK_FAILURE_LLM, false},
    [FALLBACK_NOTICE_OVERRIDE] = {"override", HIGH, FALLBACK_FAILURE_BACKEND, false},
    [FALLBACK_NOTICE_RELEASE] = {"override-release", WARNING, FALLBACK_FAILURE_BACKEND, false},
    [FALLBACK_NOTICE_BACKEND] = {"backend", HIGH, FALLBACK_FAILURE_BACKEND, false},
    [FALLBACK_NOTICE_FROZEN] = {"frozen", CRITICAL, FALLBACK_FAILURE_LOGIC, true},
    [FALLBACK_NOTICE_ACK] = {"unconfirmed", HIGH, FALLBACK_FAILURE_NETWORK, false},
    [FALLBACK_NOTICE_DOWN] = {"down", CRITICAL, FALLBACK_FAILURE_AGENT_DOWN, true},
    [FALLBACK_NOTICE_RESOURCES] = {"resources", HIGH, FALLBACK_FAILURE_RESOURCE, false},
    [FALLBACK_NOTICE_RESTART] = {"restart", CRITICAL, FALLBACK_FAILURE_RESOURCE, true},
    [FALLBACK_NOTICE_LINK] = {"link", HIGH, FALLBACK_FAILURE_NETWORK, false},
    [FALLBACK_NOTICE_MONITOR] = {"monitoring", HIGH, FALLBACK_FAILURE_BACKEND, false},
    [FALLBACK_NOTICE_ROLLBACK] = {"rollback", CRITICAL, FALLBACK_FAILURE_AGENT_DOWN, true},
};

/* What a directive is named after when several things changed at once: the strictest. */
static const int step_weight[] = {
    [FALLBACK_STEP_NONE] = 0,
    [FALLBACK_STEP_UNFREEZE] = 1,
    [FALLBACK_STEP_RESTORE_LLM] = 2,
    [FALLBACK_STEP_RESTORE_BACKEND] = 3,
    [FALLBACK_STEP_RESTORE_LOAD] = 4,
    [FALLBACK_STEP_RECONNECT] = 5,
    [FALLBACK_STEP_RAMP_BACKEND] = 6,
    [FALLBACK_STEP_SHED_LOAD] = 7,
    [FALLBACK_STEP_REQUEST_RESTART] = 8,
    [FALLBACK_STEP_SWITCH_LLM] = 9,
    [FALLBACK_STEP_WAIT_LLM] = 10,
    [FALLBACK_STEP_RESTART] = 11,
    [FALLBACK_STEP_RESTRICT] = 12,
    [FALLBACK_STEP_DEGRADE_BACKEND] = 13,
    [FALLBACK_STEP_SECURITY] = 14,
    [FALLBACK_STEP_FREEZE] = 15,
    [FALLBACK_STEP_INITIAL] = 16,
};

static const char *const posture_names[] = {
    "?", "NORMAL", "BACKUP_LLM", "RECOVERING", "DEGRADED", "SECURITY_FALLBACK", "FROZEN"};
static const char *const step_names[FALLBACK_STEPS] = {
    "?",           "INITIAL",         "SWITCH_LLM",   "SECURITY_FALLBACK",
    "RESTORE_LLM", "DEGRADE_BACKEND", "RAMP_BACKEND", "RESTORE_BACKEND",
    "FREEZE",      "UNFREEZE",        "RESTRICT",     "RECONNECT",
    "SHED_LOAD",   "REQUEST_RESTART", "RESTART",      "RESTORE_LOAD",
    "WAIT_LLM"};

const char *fallback_posture_name(int p)
{
    return posture_names[p >= FALLBACK_NORMAL && p <= FALLBACK_FROZEN ? p : 0];
}

const char *fallback_step_name(int s)
{
    return step_names[s >= FALLBACK_STEP_INITIAL && s < FALLBACK_STEPS ? s : 0];
}

unsigned fallback_rank(const char *agent)
{
    uint64_t h =
        UINT64_C(14695981039346656037); /* FNV-1a, with its high half mixed in: the low bits alone are weak */
    for (const unsigned char *p = (const unsigned char *)agent; *p; p++)
        h = (h ^ *p) * UINT64_C(1099511628211);
    h ^= h >> 32;
    return (unsigned)(h % 100);
}

/* ---- for every dimension ---- */

void fallback_text(char *to, size_t room, const char *from)
{
    size_t n = strnlen(from, room - 1);
    memmove(to, from, n);
    to[n] = '\0';
    to[n ? utf8_valid_until(to, n) : 0] = '\0'; /* a cut may have split a character */
}

__attribute__((format(printf, 3, 0))) static void format(char *to, size_t room, const char *fmt, va_list ap)
{
    vsnprintf(to, room, fmt, ap);
    fallback_text(to, room, to);
}

struct fallback_effect *fallback_effect_add(struct turn *t, enum fallback_effect_kind kind)
{
    assert(t->n < FALLBACK_EFFECTS_MAX);
    struct fallback_effect *e = &t->out[t->n++];
    memset(e, 0, sizeof *e);
    e->kind = kind;
    return e;
}

void fallback_change(struct turn *t, int step, int failure, const char *cause, int64_t evidence_ms, const char *fmt,
                     ...)
{
    t->learn = true;
    if (evidence_ms > 0 && (t->evidence_ms == 0 || evidence_ms < t->evidence_ms))
        t->evidence_ms = evidence_ms;
    if (step_weight[step] <= step_weight[t->step])
        return;
    t->step = step;
    t->d->failure = failure;
    fallback_text(t->d->cause, sizeof t->d->cause, cause);
    va_list ap;
    va_start(ap, fmt);
    format(t->d->reason, sizeof t->d->reason, fmt, ap);
    va_end(ap);
}

bool fallback_told(const struct turn *t, enum fallback_notice k)
{
    return t->d->open_alerts & (1u << k);
}

__attribute__((format(printf, 4, 0))) static void tell(struct turn *t, enum fallback_notice k, bool resolved,
                                                       const char *fmt, va_list ap)
{
    if (resolved)
        t->d->open_alerts &= ~(1u << k);
    else
        t->d->open_alerts |= 1u << k;
    t->store = true;
    struct fallback_effect *e = fallback_effect_add(t, FALLBACK_TELL);
    e->notice = k;
    e->resolved = resolved;
    format(e->text, sizeof e->text, fmt, ap);
}

void fallback_raise(struct turn *t, enum fallback_notice k, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    tell(t, k, false, fmt, ap);
    va_end(ap);
}

void fallback_resolve(struct turn *t, enum fallback_notice k, const char *fmt, ...)
{
    if (!fallback_told(t, k))
        return;
    va_list ap;
    va_start(ap, fmt);
    tell(t, k, true, fmt, ap);
    va_end(ap);
}

void fallback_record(struct turn *t, const char *action, bool strict, const char *actor, const char *fmt, ...)
{
    t->store = true;
    struct fallback_effect *e = fallback_effect_add(t, FALLBACK_RECORD);
    e->action = action;
    e->strict = strict;
    e->actor = actor;
    va_list ap;
    va_start(ap, fmt);
    format(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
}

void fallback_wake(struct turn *t, int64_t at_ms)
{
    if (at_ms > t->now_ms && at_ms < t->wake_ms) /* what was due by now has been looked at */
        t->wake_ms = at_ms;
}

__attribute__((format(printf, 3, 4))) static void answer(struct turn *t, enum fallback_answer a, const char *fmt, ...)
{
    struct fallback_effect *e = fallback_effect_add(t, FALLBACK_ANSWER);
    e->answer = a;
    va_list ap;
    va_start(ap, fmt);
    format(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
}

/* ---- automation ---- */

static bool verdict_is(const struct fallback_verdict *v, int failure)
{
    return v && v->epoch > 0 && v->health == FALLBACK_HEALTH_UNHEALTHY && v->failure == failure;
}

bool fallback_agent_is_down(const struct fallback_view *v)
{
    return verdict_is(v->verdict, FALLBACK_FAILURE_AGENT_DOWN);
}

static void freeze(struct turn *t, const char *by, const char *why, int failure, int64_t evidence_ms)
{
    struct fallback_doc *d = t->d;
    d->automation = FALLBACK_AUTOMATION_FROZEN;
    fallback_text(d->frozen_by, sizeof d->frozen_by, by);
    fallback_text(d->frozen_why, sizeof d->frozen_why, why);
    fallback_change(t, FALLBACK_STEP_FREEZE, failure, "", evidence_ms, "frozen by %s: %s", d->frozen_by,
                    d->frozen_why);
    fallback_raise(t, FALLBACK_NOTICE_FROZEN,
                   "automated actions of %s are frozen by %s, manual intervention required: %.300s", t->rule->agent,
                   d->frozen_by, d->frozen_why);
}

void fallback_on_freeze(struct turn *t)
{
    if (t->d->automation == FALLBACK_AUTOMATION_FROZEN) {
        answer(t, FALLBACK_ALREADY, "%s is frozen already, by %s: %.300s", t->rule->agent, t->d->frozen_by,
               t->d->frozen_why);
        return;
    }
    freeze(t, t->ev->by, t->ev->detail, FALLBACK_FAILURE_NONE, t->now_ms);
    fallback_record(t, "agent.freeze", true, t->ev->by, "%.400s", t->ev->detail);
    answer(t, FALLBACK_DONE, "%s is frozen", t->rule->agent);
}

void fallback_on_unfreeze(struct turn *t)
{
    struct fallback_doc *d = t->d;
    if (d->automation == FALLBACK_AUTOMATION_ENABLED) {
        answer(t, FALLBACK_ALREADY, "%s is not frozen", t->rule->agent);
        return;
    }
    if (!t->view->may_loosen) {
        answer(t, FALLBACK_NOT_NOW,
               "%s stays frozen: this replica has just started, lost the bus or does not trust its clock; try again",
               t->rule->agent);
        return;
    }
    d->automation = FALLBACK_AUTOMATION_ENABLED;
    d->frozen_by[0] = d->frozen_why[0] = '\0';
    if (t->view->verdict && t->view->verdict->epoch > d->verdict_epoch)
        d->verdict_epoch = t->view->verdict->epoch; /* the person knows of it */
    if (t->view->judgement && t->view->judgement->epoch > d->judgement_epoch)
        d->judgement_epoch = t->view->judgement->epoch;
    fallback_change(t, FALLBACK_STEP_UNFREEZE, FALLBACK_FAILURE_NONE, "", 0, "unfrozen by %s: %s", t->ev->by,
                    t->ev->detail);
    fallback_record(t, "agent.unfreeze", true, t->ev->by, "%.400s", t->ev->detail);
    fallback_resolve(t, FALLBACK_NOTICE_FROZEN, "%s is unfrozen by %s: %.300s", t->rule->agent, t->ev->by,
                     t->ev->detail);
    answer(t, FALLBACK_DONE, "%s is unfrozen", t->rule->agent);
}

/* A judgement that is gone freezes the agent, once for each verdict; only a person ends it. */
static void settle_judgement(struct turn *t, const struct fallback_verdict *v, uint64_t *acted_epoch)
{
    if (!verdict_is(v, FALLBACK_FAILURE_LOGIC) || v->epoch <= *acted_epoch)
        return;
    *acted_epoch = v->epoch;
    t->store = true;
    if (t->d->automation != FALLBACK_AUTOMATION_ENABLED)
        return;
    freeze(t, "health", *v->reason ? v->reason : "logic error", FALLBACK_FAILURE_LOGIC, v->since_ms);
    fallback_record(t, "agent.freeze", true, NULL, "logic error: %.400s", v->reason);
}

void fallback_settle_automation(struct turn *t)
{
    struct fallback_doc *d = t->d;
    const struct fallback_verdict *v = t->view->verdict;
    settle_judgement(t, t->view->judgement, &d->judgement_epoch);
    if (!v || v->epoch == 0)
        return;
    settle_judgement(t, v, &d->verdict_epoch);
    if (fallback_agent_is_down(t->view)) {
        if (!fallback_told(t, FALLBACK_NOTICE_DOWN))
            fallback_raise(t, FALLBACK_NOTICE_DOWN,
                           "%s is gone, go by the manual procedures until it is back: %.300s", t->rule->agent,
                           v->reason);
    } else if (v->health == FALLBACK_HEALTH_HEALTHY || v->health == FALLBACK_HEALTH_DEGRADED ||
               v->health == FALLBACK_HEALTH_MAINTENANCE) {
        fallback_resolve(t, FALLBACK_NOTICE_DOWN, "%s is back", t->rule->agent);
    }
}

/* ---- the agent's confirmation ---- */

void fallback_on_ack(struct turn *t)
{
    struct fallback_doc *d = t->d;
    if (t->ev->epoch != d->epoch || d->acked_epoch >= d->epoch)
        return; /* of a directive that is history; or a repeat */
    if (t->ev->failed) {
        if (!fallback_told(t, FALLBACK_NOTICE_ACK))
            fallback_raise(t, FALLBACK_NOTICE_ACK,
                           "%s could not follow directive %" PRIu64 " and restricts itself: %.300s", t->rule->agent,
                           d->epoch, t->ev->detail);
        return;
    }
    d->acked_epoch = d->epoch;
    t->store = true;
    fallback_resolve(t, FALLBACK_NOTICE_ACK, "%s has confirmed directive %" PRIu64, t->rule->agent, d->epoch);
}

/* After the epoch is settled: is the agent's answer overdue? */
void fallback_settle_ack(struct turn *t)
{
    struct fallback_doc *d = t->d;
    if (d->acked_epoch >= d->epoch) {
        t->f->run.waiting_since_ms = 0;
        return;
    }
    if (t->learn || t->f->run.waiting_since_ms == 0 || !t->view->bus_up) {
        /* Without the bus no answer can come: the agent is given its whole time when it is back. */
        t->f->run.waiting_since_ms = t->now_ms;
        t->f->run.resend_gap_ms = t->rule->ack_ms;
        t->f->run.resend_at_ms =
            t->ev->kind == FALLBACK_LOADED && !t->learn ? t->now_ms : t->now_ms + t->rule->ack_ms;
        if (!t->view->bus_up)
            return;
    }
    int64_t alert_at = t->f->run.waiting_since_ms + t->rule->ack_alert_ms;
    bool told = fallback_told(t, FALLBACK_NOTICE_ACK);
    if (t->now_ms >= t->f->run.resend_at_ms) {
        fallback_effect_add(t, FALLBACK_RESEND);
        if (told && t->f->run.resend_gap_ms < RESEND_MAX_MS)
            t->f->run.resend_gap_ms *= 2;
        t->f->run.resend_at_ms = t->now_ms + t->f->run.resend_gap_ms;
    }
    if (!told && !fallback_agent_is_down(t->view)) {
        if (t->now_ms >= alert_at)
            fallback_raise(t, FALLBACK_NOTICE_ACK, "%s does not confirm directive %" PRIu64 " (be %s)",
                           t->rule->agent, d->epoch, fallback_posture_name(d->posture));
        else
            fallback_wake(t, alert_at);
    }
    fallback_wake(t, t->f->run.resend_at_ms);
}

/* ---- the whole ---- */

int fallback_posture(const struct fallback_doc *d)
{
    static const int by_backend[] = {[FALLBACK_BACKEND_UP] = FALLBACK_NORMAL,
                                     [FALLBACK_BACKEND_DEGRADED] = FALLBACK_DEGRADED,
                                     [FALLBACK_BACKEND_RECOVERING] = FALLBACK_RECOVERING};
    static const int by_link[] = {[FALLBACK_LINK_UP] = FALLBACK_NORMAL,
                                  [FALLBACK_LINK_RESTRICTED] = FALLBACK_DEGRADED,
                                  [FALLBACK_LINK_GONE] = FALLBACK_DEGRADED,
                                  [FALLBACK_LINK_RETURNING] = FALLBACK_RECOVERING};
    int by_resources = d->resources == FALLBACK_RESOURCES_OK                                   ? FALLBACK_NORMAL
                       : d->resources == FALLBACK_RESOURCES_RESTARTING || d->restart_requested ? FALLBACK_DEGRADED
                                                                                               : FALLBACK_RECOVERING;
    int by_llm = d->llm_waiting     ? FALLBACK_DEGRADED
                 : d->llm_index < 0 ? FALLBACK_SECURITY
                 : d->llm_index > 0 ? FALLBACK_BACKUP_LLM
                                    : FALLBACK_NORMAL;
    int asked[] = {by_llm, by_backend[d->backend], by_resources, by_link[d->link],
                   d->automation == FALLBACK_AUTOMATION_FROZEN ? FALLBACK_FROZEN : FALLBACK_NORMAL};
    int strictest = FALLBACK_NORMAL;
    for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++)
        if (asked[i] > strictest)
            strictest = asked[i];
    return strictest;
}

const char *fallback_invariant(const struct fallback_doc *d)
{
    bool off = d->override_mode == FALLBACK_OVERRIDE_OFF;
    const struct {
        bool holds;
        const char *what;
    } all[] = {
        {d->epoch > 0, "there is an epoch"},
        {d->backend >= FALLBACK_BACKEND_UP && d->backend <= FALLBACK_BACKEND_RECOVERING, "the backend mode is one"},
        {d->automation == FALLBACK_AUTOMATION_ENABLED || d->automation == FALLBACK_AUTOMATION_FROZEN,
         "the automation mode is one"},
        {d->override_mode >= FALLBACK_OVERRIDE_OFF && d->override_mode <= FALLBACK_OVERRIDE_RELEASING,
         "the override mode is one"},
        {d->resources >= FALLBACK_RESOURCES_OK && d->resources <= FALLBACK_RESOURCES_RESTARTING,
         "the resource mode is one"},
        {d->link >= FALLBACK_LINK_UP && d->link <= FALLBACK_LINK_RETURNING, "the link mode is one"},
        {d->load_percent >= 1 && d->load_percent <= 100, "the share of work is a share"},
        {d->load_percent == 100 || d->resources != FALLBACK_RESOURCES_OK || d->link == FALLBACK_LINK_RETURNING,
         "work is shed for a reason"},
        {!d->restart_requested || d->resources != FALLBACK_RESOURCES_OK, "a restart is asked for with a reason"},
        {(d->resources == FALLBACK_RESOURCES_RESTARTING) == (d->restart_id[0] != '\0'),
         "a restart has an id exactly while it is under way"},
        {d->n_restarts <= FALLBACK_RESTARTS_MAX, "the restarts can be counted"},
        {!d->llm_waiting || d->llm_index < 0, "who waits for an LLM has none"},
        {d->llm_waiting == (d->llm_wanted[0] != '\0'), "who waits for an LLM knows which"},
        {d->frozen_epoch <= d->epoch, "no freeze of the future"},
        {(d->drill_failure == FALLBACK_FAILURE_NONE) == (d->drill_until_ms == 0), "a drill has an end"},
        {d->llm_index >= -1 && d->llm_index < FALLBACK_CHAIN_MAX, "the LLM index is in the chain"},
        {(d->llm_index < 0) == (d->llm_target[0] == '\0'), "an LLM is named exactly if there is one"},
        {(d->backend == FALLBACK_BACKEND_RECOVERING) == (d->ramp_percent > 0) && d->ramp_percent <= 100,
         "there is a ramp exactly while recovering"},
        {(d->automation == FALLBACK_AUTOMATION_FROZEN) == (d->frozen_by[0] != '\0'),
         "somebody froze it exactly if it is frozen"},
        {off == (d->override_key[0] == '\0'), "an activation has a key"},
        {off == (d->override_until_ms == 0), "an activation has an end"},
        {d->acked_epoch <= d->epoch, "nothing is confirmed that was not said"},
        {d->open_alerts < 1u << FALLBACK_NOTICES, "the open alerts are known kinds"},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (!all[i].holds)
            return all[i].what;
    /* Only now are the dimensions known to be in range. */
    if (d->posture != fallback_posture(d))
        return "the posture is the strictest that is asked for";
    return (d->evidence_ms == 0) == (d->posture == FALLBACK_NORMAL) ? NULL
                                                                    : "there is evidence exactly if not NORMAL";
}

static void on_start(struct turn *t)
{
    struct fallback_doc *d = t->d;
    *d = (struct fallback_doc){.posture = FALLBACK_NORMAL,
                               .backend = FALLBACK_BACKEND_UP,
                               .automation = FALLBACK_AUTOMATION_ENABLED,
                               .override_mode = FALLBACK_OVERRIDE_OFF,
                               .resources = FALLBACK_RESOURCES_OK,
                               .link = FALLBACK_LINK_UP,
                               .load_percent = 100};
    fallback_text(d->llm_target, sizeof d->llm_target, t->rule->chain[0].target);
    fallback_text(d->llm_model, sizeof d->llm_model, t->rule->chain[0].model);
    fallback_change(t, FALLBACK_STEP_INITIAL, FALLBACK_FAILURE_NONE, "", 0, "first position");
}

static void on_loaded(struct turn *t)
{
    memset(&t->f->run, 0, sizeof t->f->run);
}

static void on_resync(struct turn *t)
{
    fallback_effect_add(t, FALLBACK_RESEND);
    answer(t, FALLBACK_DONE, "directive %" PRIu64 " is sent to %s again", t->d->epoch, t->rule->agent);
}

static void (*const handlers[FALLBACK_EVENTS])(struct turn *t) = {
    [FALLBACK_START] = on_start,
    [FALLBACK_LOADED] = on_loaded,
    [FALLBACK_LOOK] = NULL,
    [FALLBACK_ACK] = fallback_on_ack,
    [FALLBACK_FREEZE] = fallback_on_freeze,
    [FALLBACK_UNFREEZE] = fallback_on_unfreeze,
    [FALLBACK_CALLED] = fallback_on_called,
    [FALLBACK_RESYNC] = on_resync,
};

/* The agent must learn of it: a new epoch. */
static void issue(struct turn *t, int was_posture)
{
    struct fallback_doc *d = t->d;
    d->epoch++;
    d->step = t->step;
    d->posture = fallback_posture(d);
    if (d->posture != was_posture || d->since_ms == 0)
        d->since_ms = t->now_ms;
    if (d->posture == FALLBACK_NORMAL)
        d->evidence_ms = 0;
    else if (d->evidence_ms == 0)
        d->evidence_ms = t->evidence_ms > 0 ? t->evidence_ms : t->now_ms;
    fallback_effect_add(t, FALLBACK_ISSUE);
    fallback_record(t, "directive.issued", false, NULL, "%s, be %s: %.380s", fallback_step_name(d->step),
                    fallback_posture_name(d->posture), d->reason);
    if (d->llm_index > 0 && (t->step == FALLBACK_STEP_SWITCH_LLM || !fallback_told(t, FALLBACK_NOTICE_BACKUP_LLM)))
        fallback_raise(t, FALLBACK_NOTICE_BACKUP_LLM, "%s uses backup LLM %.120s: %.300s", t->rule->agent,
                       d->llm_target, d->reason);
    else if (d->llm_index == 0)
        fallback_resolve(t, FALLBACK_NOTICE_BACKUP_LLM, "%s is back on its primary LLM %.120s", t->rule->agent,
                         d->llm_target);
}

size_t fallback_decide(struct fallback *f, const struct fallback_rule *rule, const struct fallback_view *view,
                       const struct fallback_event *ev, int64_t now_ms,
                       struct fallback_effect out[static FALLBACK_EFFECTS_MAX])
{
    assert(rule->n_chain >= 1 && rule->n_chain <= FALLBACK_CHAIN_MAX && (unsigned)ev->kind < FALLBACK_EVENTS);
    assert((ev->kind == FALLBACK_START) == (f->doc.epoch == 0));
    struct turn t = {.f = f,
                     .d = &f->doc,
                     .rule = rule,
                     .view = view,
                     .ev = ev,
                     .now_ms = now_ms,
                     .out = out,
                     .wake_ms = INT64_MAX};
    int was_posture = f->doc.posture;
    if (handlers[ev->kind])
        handlers[ev->kind](&t);
    fallback_settle_automation(&t);
    fallback_settle_llm(&t);
    fallback_settle_backend(&t);
    if (t.learn) {
        t.store = true;
        issue(&t, was_posture);
    }
    fallback_settle_ack(&t);
    fallback_settle_override(&t);
    if (t.store) {
        f->doc.revision++;
        fallback_effect_add(&t, FALLBACK_STORE);
    }
    if (t.wake_ms != INT64_MAX)
        fallback_effect_add(&t, FALLBACK_WAKE_AT)->at_ms = t.wake_ms;
    const char *broken = fallback_invariant(&f->doc);
    if (broken) {
        fprintf(stderr, "fallback: %s, epoch %" PRIu64 ": does not hold: %s\n", rule->agent, f->doc.epoch, broken);
        abort();
    }
    return t.n;
}
