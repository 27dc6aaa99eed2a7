/* fallback_override.c - the backend's strict default policies: activated while no LLM is usable, renewed, released afterwards.
 *
 * An activation has a key of its own, stored before the first call is made: after a crash the call is made again under the same
 * key, so that it is neither forgotten nor doubled. A renewal's key adds the time that it extends. */
#include "common/sm.h"
#include "fallback/fallback_impl.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define GAP_MAX_MS 30000
#define RELEASE_TELL_AT                                                                                              \
    3 /* a release that fails this often is said: the backend stays stricter than it needs to be */

enum {
    OFF = FALLBACK_OVERRIDE_OFF,
    ACTIVATING = FALLBACK_OVERRIDE_ACTIVATING,
    ACTIVE = FALLBACK_OVERRIDE_ACTIVE,
    RELEASING = FALLBACK_OVERRIDE_RELEASING,
    MODES,
};
static const char *const mode_names[MODES] = {
    [OFF] = "OFF", [ACTIVATING] = "ACTIVATING", [ACTIVE] = "ACTIVE", [RELEASING] = "RELEASING"};
static const uint32_t mode_moves[MODES] = {
    [OFF] = SM_BIT(ACTIVATING),
    [ACTIVATING] = SM_BIT(ACTIVE) | SM_BIT(RELEASING) | SM_BIT(OFF),
    [ACTIVE] = SM_BIT(RELEASING) | SM_BIT(ACTIVATING) | SM_BIT(OFF),
    [RELEASING] = SM_BIT(OFF) | SM_BIT(ACTIVATING),
};
static const struct sm_table mode_sm = {
    .name = "override", .n = MODES, .state_names = mode_names, .allowed = mode_moves};

/* What the situation asks for. */
enum ask {
    WANTED, /* no LLM is usable */
    GUARDED, /* not wanted any more, but the agent has not confirmed its LLM yet (no gap without protection), or another
                 * agent needs it */
    RELEASABLE, /* not wanted, and the agent has confirmed */
    EXPIRED,    /* wanted, but it lapsed and could not be renewed */
    LEFT,       /* not wanted, never confirmed, and it has lapsed by itself: the way out of GUARDED */
    NO_API,     /* the settings have none (any more) */
    ASKS,
};
static const uint8_t next_mode[MODES][ASKS] = {
    [OFF] = {[WANTED] = ACTIVATING,
             [GUARDED] = OFF,
             [RELEASABLE] = OFF,
             [EXPIRED] = ACTIVATING,
             [LEFT] = OFF,
             [NO_API] = OFF},
    [ACTIVATING] = {[WANTED] = ACTIVATING,
                    [GUARDED] = ACTIVATING,
                    [RELEASABLE] = RELEASING,
                    [EXPIRED] = ACTIVATING,
                    [LEFT] = RELEASING,
                    [NO_API] = OFF},
    [ACTIVE] = {[WANTED] = ACTIVE,
                [GUARDED] = ACTIVE,
                [RELEASABLE] = RELEASING,
                [EXPIRED] = ACTIVATING,
                [LEFT] = RELEASING,
                [NO_API] = OFF},
    [RELEASING] = {[WANTED] = ACTIVATING,
                   [GUARDED] = RELEASING,
                   [RELEASABLE] = RELEASING,
                   [EXPIRED] = ACTIVATING,
                   [LEFT] = RELEASING,
                   [NO_API] = OFF},
};

static enum ask ask_now(const struct turn *t)
{
    const struct fallback_doc *d = t->d;
    bool over = t->now_ms >= d->override_until_ms;
    if (!t->rule->override)
        return NO_API;
    if (fallback_without_llm(d)) {
        bool tried = t->f->run.call_failures > 0 && !t->f->run.calling;
        return d->override_mode == ACTIVE && over && tried ? EXPIRED : WANTED;
    }
    if (!t->view->may_loosen || t->view->override_needed_elsewhere)
        return GUARDED;
    return d->acked_epoch >= d->epoch ? RELEASABLE : over && d->override_mode != OFF ? LEFT : GUARDED;
}

static void move(struct turn *t, int to)
{
    struct fallback_doc *d = t->d;
    int was = d->override_mode;
    sm_move(&mode_sm, &d->override_mode, to);
    t->store = true;
    t->f->run.call_at_ms = t->now_ms;
    t->f->run.call_gap_ms = t->rule->override_retry_ms;
    t->f->run.call_failures = 0;
    switch (to) {
    case ACTIVATING:
        if (was == OFF)
            snprintf(d->override_key, sizeof d->override_key, "%s-%" PRIu64, t->rule->agent, d->epoch);
        else /* a second activation under one epoch, or one that must not be taken for the one now released */
            snprintf(d->override_key, sizeof d->override_key, "%s-%" PRIu64 "-%" PRId64, t->rule->agent, d->epoch,
                     t->now_ms);
        /* A try that seems to fail may have worked: count from the first. */
        d->override_until_ms = t->now_ms + t->rule->override_duration_ms;
        break;
    case OFF:
        d->override_key[0] = '\0';
        d->override_until_ms = 0;
        break;
    default:
        break;
    }
}

static void tell_security(struct turn *t, bool activated, const char *what)
{
    fallback_raise(t, FALLBACK_NOTICE_SECURITY, "%s is in security fallback, no LLM is usable: %s", t->rule->agent,
                   what);
    t->out[t->n - 1].override_activated = activated;
}

/* ---- calls ---- */

static const char *mark(const struct turn *t)
{
    return fallback_drill_mark(t, FALLBACK_FAILURE_LLM);
}

static void succeeded(struct turn *t)
{
    struct fallback_doc *d = t->d;
    switch (t->ev->call) {
    case FALLBACK_CALL_ACTIVATE:
        if (d->override_mode != ACTIVATING)
            return;
        move(t, ACTIVE);
        fallback_record(t, "override.activate", true, NULL, "%sactivated under key %s", mark(t), d->override_key);
        fallback_resolve(t, FALLBACK_NOTICE_OVERRIDE, "the override for %s is active again", t->rule->agent);
        if (fallback_without_llm(d))
            tell_security(t, true, "the backend's strict default policies are active");
        break;
    case FALLBACK_CALL_RENEW:
        if (d->override_mode != ACTIVE)
            return;
        d->override_until_ms = t->ev->called_at_ms + t->rule->override_duration_ms;
        t->store = true;
        fallback_record(t, "override.renew", true, NULL, "%srenewed, key %s", mark(t), d->override_key);
        fallback_resolve(t, FALLBACK_NOTICE_OVERRIDE, "the override for %s is renewed", t->rule->agent);
        break;
    case FALLBACK_CALL_RELEASE:
        if (d->override_mode != RELEASING)
            return;
        fallback_record(t, "override.release", true, NULL, "%sreleased, key %s", mark(t), d->override_key);
        move(t, OFF);
        fallback_resolve(t, FALLBACK_NOTICE_OVERRIDE, "the override for %s is released", t->rule->agent);
        fallback_resolve(t, FALLBACK_NOTICE_RELEASE, "the override for %s is released", t->rule->agent);
        break;
    }
}

static void failed(struct turn *t)
{
    unsigned tries = t->f->run.call_failures;
    switch (t->ev->call) {
    case FALLBACK_CALL_ACTIVATE:
        if (t->d->override_mode == ACTIVATING && fallback_without_llm(t->d) &&
            !fallback_told(t, FALLBACK_NOTICE_SECURITY)) {
            char what[300];
            snprintf(what, sizeof what, "the override could NOT be activated (%.200s); it is tried again",
                     t->ev->detail);
            tell_security(t, false, what);
        }
        break;
    case FALLBACK_CALL_RENEW:
        if (t->d->override_mode == ACTIVE && !fallback_told(t, FALLBACK_NOTICE_OVERRIDE))
            fallback_raise(t, FALLBACK_NOTICE_OVERRIDE,
                           "the override for %s could not be renewed and will lapse: %.300s", t->rule->agent,
                           t->ev->detail);
        break;
    case FALLBACK_CALL_RELEASE:
        if (t->d->override_mode == RELEASING && tries >= RELEASE_TELL_AT &&
            !fallback_told(t, FALLBACK_NOTICE_RELEASE))
            fallback_raise(t, FALLBACK_NOTICE_RELEASE,
                           "the override for %s could not be released; the backend stays strict: %.300s",
                           t->rule->agent, t->ev->detail);
        break;
    }
}

void fallback_on_called(struct turn *t)
{
    t->f->run.calling = false;
    if (strcmp(t->ev->key, t->d->override_key) != 0)
        return; /* of an activation that is history */
    if (!t->ev->failed) {
        t->f->run.call_failures = 0;
        t->f->run.call_gap_ms = t->rule->override_retry_ms;
        succeeded(t);
        return;
    }
    int64_t gap = t->f->run.call_gap_ms > 0 ? t->f->run.call_gap_ms : t->rule->override_retry_ms;
    t->f->run.call_failures++;
    t->f->run.call_at_ms = t->now_ms + gap;
    t->f->run.call_gap_ms = gap * 2 < GAP_MAX_MS ? gap * 2 : GAP_MAX_MS;
    failed(t);
}

/* The call that the present mode needs now; -1 = none. */
static int call_needed(struct turn *t)
{
    const struct fallback_doc *d = t->d;
    switch (d->override_mode) {
    case ACTIVATING:
        return FALLBACK_CALL_ACTIVATE;
    case ACTIVE:
        if (!fallback_without_llm(d))
            return -1;
        if (t->now_ms >= d->override_until_ms - t->rule->override_renew_ms)
            return FALLBACK_CALL_RENEW;
        fallback_wake(t, d->override_until_ms - t->rule->override_renew_ms);
        return -1;
    case RELEASING:
        return t->view->may_loosen && !t->view->override_needed_elsewhere ? FALLBACK_CALL_RELEASE : -1;
    default:
        return -1;
    }
}

static void tell(struct turn *t, int was, enum ask a)
{
    const struct fallback_doc *d = t->d;
    bool entered = t->learn && t->step == FALLBACK_STEP_SECURITY;
    if (a == NO_API) {
        if (was != OFF)
            fallback_record(t, "override.dropped", true, NULL,
                            "the settings have no override API any more; the activation lapses by itself");
        if (fallback_without_llm(d) && !fallback_told(t, FALLBACK_NOTICE_SECURITY))
            tell_security(t, false, "there is no override API in the settings; only the agent itself is restricted");
    } else if (was == ACTIVE && d->override_mode == ACTIVE && entered) {
        tell_security(t, true, "the backend's strict default policies are still active");
    } else if (a == EXPIRED) {
        fallback_raise(t, FALLBACK_NOTICE_OVERRIDE, "the override for %s has lapsed; it is activated anew",
                       t->rule->agent);
    }
    if (was == RELEASING && d->override_mode == ACTIVATING)
        fallback_resolve(t, FALLBACK_NOTICE_RELEASE, "the override for %s is needed again", t->rule->agent);
    if (!fallback_without_llm(d))
        fallback_resolve(t, FALLBACK_NOTICE_SECURITY, "%s has a usable LLM again", t->rule->agent);
}

void fallback_settle_override(struct turn *t)
{
    struct fallback_doc *d = t->d;
    int was = d->override_mode;
    enum ask a = ask_now(t);
    if (next_mode[was][a] != was)
        move(t, next_mode[was][a]);
    tell(t, was, a);
    if (was == ACTIVE && d->override_mode == ACTIVE && (fallback_without_llm(d) || a == GUARDED))
        fallback_wake(t, d->override_until_ms);
    int call = call_needed(t);
    if (call < 0 || t->f->run.calling)
        return;
    if (t->now_ms < t->f->run.call_at_ms) {
        fallback_wake(t, t->f->run.call_at_ms);
        return;
    }
    t->f->run.calling = true;
    struct fallback_effect *e = fallback_effect_add(t, FALLBACK_CALL);
    e->call = (enum fallback_call_kind)call;
    static const char *const suffix[] = {
        [FALLBACK_CALL_ACTIVATE] = "", [FALLBACK_CALL_RENEW] = "-renew", [FALLBACK_CALL_RELEASE] = "-release"};
    int n = snprintf(e->key, sizeof e->key, "%s%s", d->override_key, suffix[call]);
    if (call == FALLBACK_CALL_RENEW && n > 0)
        snprintf(e->key + n, sizeof e->key - (size_t)n, "-%" PRId64, d->override_until_ms);
}
