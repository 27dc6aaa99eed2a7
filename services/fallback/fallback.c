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

unsigned fallback_rank(const char *agent)
{
    uint64_t h =
        UINT64_C(14695981039346656037); /* FNV-1a, with its high half mixed in: the low bits alone are weak */
    for (const unsigned char *p = (const unsigned char *)agent; *p; p++)
        h = (h ^ *p) * UINT64_C(1099511628211);
    h ^= h >> 32;
    return (unsigned)(h % 100);
}

/* What an alert is about, where that is not its failure: an override is there because of the LLMs. What is found in truth during a
 * drill stays so. */
static int notice_about(enum fallback_notice k)
{
    switch (k) {
    case FALLBACK_NOTICE_OVERRIDE:
    case FALLBACK_NOTICE_RELEASE:
        return FALLBACK_FAILURE_LLM;
    case FALLBACK_NOTICE_ACK:
    case FALLBACK_NOTICE_MONITOR:
        return FALLBACK_FAILURE_NONE;
    default:
        return fallback_notices[k].failure;
    }
}

/* ---- for every dimension ---- */

void fallback_text(char *to, size_t room, const char *from)
{
    size_t n = strnlen(from, room - 1);
    memmove(to, from, n);
    to[n] = '\0';
    to[n ? utf8_valid_until(to, n) : 0] = '\0'; /* a cut may have split a character */
}

/* `mark` says that it is a drill, or nothing. */
__attribute__((format(printf, 4, 0))) static void format(char *to, size_t room, const char *mark, const char *fmt,
                                                         va_list ap)
{
    size_t n = strlen(mark);
    memcpy(to, mark, n);
    vsnprintf(to + n, room - n, fmt, ap);
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
    if (fallback_step_weight[step] <= fallback_step_weight[t->step])
        return;
    t->step = step;
    t->d->failure = failure;
    fallback_text(t->d->cause, sizeof t->d->cause, cause);
    int about = fallback_step_failure(step);
    va_list ap;
    va_start(ap, fmt);
    format(t->d->reason, sizeof t->d->reason, fallback_drill_mark(t, about ? about : failure), fmt, ap);
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
    format(e->text, sizeof e->text, fallback_drill_mark(t, notice_about(k)), fmt, ap);
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
    format(e->text, sizeof e->text, "", fmt, ap);
    va_end(ap);
}

void fallback_wake(struct turn *t, int64_t at_ms)
{
    if (at_ms > t->now_ms && at_ms < t->wake_ms) /* what was due by now has been looked at */
        t->wake_ms = at_ms;
}

void fallback_answer(struct turn *t, enum fallback_answer a, const char *fmt, ...)
{
    struct fallback_effect *e = fallback_effect_add(t, FALLBACK_ANSWER);
    e->answer = a;
    va_list ap;
    va_start(ap, fmt);
    format(e->text, sizeof e->text, "", fmt, ap);
    va_end(ap);
}

bool fallback_verdict_is(const struct fallback_verdict *v, int failure)
{
    return v && v->epoch > 0 && v->health == FALLBACK_HEALTH_UNHEALTHY && v->failure == failure;
}

/* ---- basic monitoring ---- */

void fallback_on_monitored(struct turn *t)
{
    if (t->d->monitor_interval_ms == 0)
        return; /* of a position that is history */
    if (!t->ev->failed)
        fallback_resolve(t, FALLBACK_NOTICE_MONITOR, "basic monitoring of %s finds nothing any more", t->rule->agent);
    else if (!fallback_told(t, FALLBACK_NOTICE_MONITOR))
        fallback_raise(t, FALLBACK_NOTICE_MONITOR, "basic monitoring of %s: %.380s", t->rule->agent, t->ev->detail);
}

void fallback_settle_monitor(struct turn *t)
{
    if (t->d->monitor_interval_ms == 0)
        fallback_resolve(t, FALLBACK_NOTICE_MONITOR, "%s works in full again: basic monitoring has ended",
                         t->rule->agent);
}

/* ---- the whole ---- */

static void on_start(struct turn *t)
{
    struct fallback_doc *d = t->d;
    int first = fallback_first_fit(t->rule);
    *d = (struct fallback_doc){.posture = FALLBACK_NORMAL,
                               .llm_index = first,
                               .backend = FALLBACK_BACKEND_UP,
                               .automation = FALLBACK_AUTOMATION_ENABLED,
                               .override_mode = FALLBACK_OVERRIDE_OFF,
                               .resources = FALLBACK_RESOURCES_OK,
                               .link = FALLBACK_LINK_UP,
                               .load_percent = 100,
                               .shed_percent = 100,
                               .return_percent = 100};
    if (first >= 0) {
        fallback_text(d->llm_target, sizeof d->llm_target, t->rule->chain[first].target);
        fallback_text(d->llm_model, sizeof d->llm_model, t->rule->chain[first].model);
    }
    if (first == 0)
        fallback_change(t, FALLBACK_STEP_INITIAL, FALLBACK_FAILURE_NONE, "", 0, "first position");
    else
        fallback_change(t, FALLBACK_STEP_INITIAL, FALLBACK_FAILURE_NONE, "", 0,
                        "first position (%.100s skipped: %.150s)", t->rule->chain[0].target, t->rule->chain[0].unfit);
}

static void on_loaded(struct turn *t)
{
    memset(&t->f->run, 0, sizeof t->f->run);
}

static void on_resync(struct turn *t)
{
    fallback_effect_add(t, FALLBACK_RESEND);
    fallback_answer(t, FALLBACK_DONE, "directive %" PRIu64 " is sent to %s again", t->d->epoch, t->rule->agent);
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
    [FALLBACK_DRILL] = fallback_on_drill,
    [FALLBACK_RESTARTED] = fallback_on_restarted,
    [FALLBACK_ROLLED] = fallback_on_rolled,
    [FALLBACK_MONITORED] = fallback_on_monitored,
};

/* A way back of one dimension says what still holds the agent in another; so does the first position. */
static void say_what_stands(struct turn *t)
{
    struct fallback_doc *d = t->d;
    bool first = t->step == FALLBACK_STEP_INITIAL;
    int failure;
    const char *cause;
    char text[320], all[sizeof d->reason + sizeof text + 16];
    if (!first && fallback_step_weight[t->step] > fallback_step_weight[FALLBACK_STEP_RAMP_BACKEND])
        return;
    if (!fallback_standing(t, &failure, &cause, text, sizeof text)) {
        d->failure = FALLBACK_FAILURE_NONE;
        return;
    }
    bool of_link = failure == FALLBACK_FAILURE_NETWORK || failure == FALLBACK_FAILURE_AGENT_DOWN;
    bool same = t->step == FALLBACK_STEP_RECONNECT ? of_link : fallback_step_failure(t->step) == failure;
    d->failure = failure;
    fallback_text(d->cause, sizeof d->cause, cause);
    if (same && !first)
        return; /* its own text says it better */
    snprintf(all, sizeof all, "%.200s%s%s", d->reason, first ? ": " : "; still: ", text);
    fallback_text(d->reason, sizeof d->reason, all);
}

static bool works_in_full(int posture)
{
    return posture != FALLBACK_DEGRADED && posture != FALLBACK_SECURITY && posture != FALLBACK_FROZEN;
}

/* The agent must learn of it: a new epoch. */
static void issue(struct turn *t, int was_posture)
{
    struct fallback_doc *d = t->d;
    d->epoch++;
    d->step = t->step;
    d->posture = fallback_posture(d);
    d->monitor_interval_ms = works_in_full(d->posture) ? 0 : t->rule->monitor_interval_ms;
    say_what_stands(t);
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
    else if (d->llm_waiting && !fallback_told(t, FALLBACK_NOTICE_BACKUP_LLM))
        fallback_raise(t, FALLBACK_NOTICE_BACKUP_LLM, "%s waits without an LLM for its turn at %.120s: %.250s",
                       t->rule->agent, d->llm_wanted, d->reason);
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
    t.overdue = f->doc.acked_epoch < f->doc.epoch && f->run.waiting_since_ms > 0 && view->bus_up &&
                now_ms >= f->run.waiting_since_ms + rule->ack_alert_ms;
    fallback_settle_drill(&t);
    fallback_settle_automation(&t);
    fallback_settle_llm(&t);
    fallback_settle_backend(&t);
    fallback_settle_resources(&t);
    fallback_settle_link(&t);
    fallback_settle_load(&t);
    if (t.learn) {
        t.store = true;
        issue(&t, was_posture);
    }
    fallback_settle_ack(&t);
    fallback_settle_monitor(&t);
    fallback_settle_override(&t);
    fallback_settle_drill_over(&t);
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
