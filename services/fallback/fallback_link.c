/* fallback_link.c - whether an agent can be reached: its confirmations, the watchers' verdict on its life, and its way back.
 *
 * Who does not confirm, or is cut off, is restricted by a directive of a new epoch, so that nothing it does under an older one
 * counts. Who never confirmed anything was never there: people are told once, and nothing moves. */
#include "common/rank.h"
#include "common/sm.h"
#include "fallback/fallback_impl.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define RESEND_MAX_MS 30000 /* people are told by then; the directive also waits on the stream */

enum {
    UP = FALLBACK_LINK_UP,
    RESTRICTED = FALLBACK_LINK_RESTRICTED,
    GONE = FALLBACK_LINK_GONE,
    RETURNING = FALLBACK_LINK_RETURNING,
    LINKS,
};
/* What is seen of it. */
enum sight {
    WELL,   /* whatever the way back asks for is there */
    UNSURE, /* nothing bad, but not enough for a way back */
    CUT,    /* cut off, or it does not confirm */
    DEAD,   /* its process is gone or silent */
    HELD,   /* in maintenance: neither moved nor spoken of */
    SIGHTS,
};
static const uint8_t next_link[LINKS][SIGHTS] = {
    [UP] = {[WELL] = UP, [UNSURE] = UP, [CUT] = RESTRICTED, [DEAD] = GONE, [HELD] = UP},
    [RESTRICTED] = {[WELL] = UP, [UNSURE] = RESTRICTED, [CUT] = RESTRICTED, [DEAD] = GONE, [HELD] = RESTRICTED},
    [GONE] = {[WELL] = RETURNING, [UNSURE] = GONE, [CUT] = GONE, [DEAD] = GONE, [HELD] = GONE},
    /* Whoever falters on the way back begins it anew. */
    [RETURNING] = {[WELL] = RETURNING, [UNSURE] = RETURNING, [CUT] = GONE, [DEAD] = GONE, [HELD] = RETURNING},
};
static const char *const link_names[LINKS] = {
    [UP] = "UP", [RESTRICTED] = "RESTRICTED", [GONE] = "GONE", [RETURNING] = "RETURNING"};
static const uint32_t link_moves[LINKS] = {
    [UP] = SM_BIT(RESTRICTED) | SM_BIT(GONE),
    [RESTRICTED] = SM_BIT(UP) | SM_BIT(GONE),
    [GONE] = SM_BIT(RETURNING),
    [RETURNING] = SM_BIT(UP) | SM_BIT(GONE),
};
static const struct sm_table link_sm = {.name = "link", .n = LINKS, .state_names = link_names, .allowed = link_moves};

bool fallback_in_maintenance(const struct turn *t)
{
    const struct fallback_verdict *v = t->view->verdict;
    return v && v->epoch > 0 && v->health == FALLBACK_HEALTH_MAINTENANCE;
}

static bool heard_healthy(const struct fallback_verdict *v)
{
    return v && v->epoch > 0 && v->health == FALLBACK_HEALTH_HEALTHY;
}

static bool may_come_back(const struct turn *t)
{
    const struct fallback_doc *d = t->d;
    const struct fallback_verdict *v = t->seen.verdict;
    if (!t->view->may_loosen)
        return false;
    switch (d->link) {
    case RESTRICTED: /* the restriction had an epoch of its own */
        return d->acked_epoch >= d->epoch && !(v && v->epoch > 0 && v->health == FALLBACK_HEALTH_FLAPPING);
    case GONE:
        return d->acked_epoch >= d->epoch && heard_healthy(v) &&
               (!t->rule->has_selftest || heard_healthy(t->seen.judgement));
    default:
        return heard_healthy(v);
    }
}

static enum sight sight_of(const struct turn *t)
{
    const struct fallback_verdict *v = t->seen.verdict;
    bool was_there = t->d->acked_epoch > 0;
    if (fallback_in_maintenance(t))
        return HELD;
    if (was_there && fallback_verdict_is(v, FALLBACK_FAILURE_AGENT_DOWN))
        return DEAD;
    if (was_there && (t->overdue || fallback_verdict_is(v, FALLBACK_FAILURE_NETWORK)))
        return CUT;
    return may_come_back(t) ? WELL : UNSURE;
}

/* ---- away ---- */

/* What is wrong, for people, and since when. */
static int64_t what_is_wrong(const struct turn *t, char *text, size_t room)
{
    const struct fallback_verdict *v = t->seen.verdict;
    if (fallback_verdict_is(v, FALLBACK_FAILURE_NETWORK) || fallback_verdict_is(v, FALLBACK_FAILURE_AGENT_DOWN)) {
        snprintf(text, room, "%.100s", *v->reason ? v->reason : "its watchers say so");
        return v->since_ms;
    }
    snprintf(text, room, "directive %" PRIu64 " is not confirmed", t->d->epoch);
    return t->f->run.waiting_since_ms;
}

static void restrict_it(struct turn *t)
{
    char why[128];
    int64_t since = what_is_wrong(t, why, sizeof why);
    fallback_change(t, FALLBACK_STEP_RESTRICT, FALLBACK_FAILURE_NETWORK, "", since,
                    "it cannot be reached (%s): restricted until it confirms", why);
    /* One alert for one problem: that it cannot follow may have been said. */
    if (fallback_verdict_is(t->seen.verdict, FALLBACK_FAILURE_NETWORK) || !fallback_told(t, FALLBACK_NOTICE_ACK))
        fallback_raise(t, FALLBACK_NOTICE_LINK, "%s cannot be reached (%s): it is restricted until it confirms",
                       t->rule->agent, why);
}

static void say_gone(struct turn *t)
{
    const struct fallback_rule *r = t->rule;
    char why[128], hand[240] = "go by the manual procedures until it is back", rollback[200] = "";
    int64_t since = what_is_wrong(t, why, sizeof why);
    bool deployed = r->deployment && *r->deployment;
    if (r->procedure && *r->procedure)
        snprintf(hand, sizeof hand, "by hand until it is back: %.170s", r->procedure);
    if (deployed && r->rollback == FALLBACK_ROLLBACK_OFFER)
        snprintf(rollback, sizeof rollback, "; or: redoubt rollback start %.64s --by NAME --reason WHY",
                 r->deployment);
    else if (deployed && r->rollback == FALLBACK_ROLLBACK_START)
        snprintf(rollback, sizeof rollback, "; a rollback of %.64s is started in %" PRId64 " s", r->deployment,
                 r->rollback_after_ms / 1000);
    fallback_change(t, FALLBACK_STEP_RESTRICT, FALLBACK_FAILURE_AGENT_DOWN, "", since, "it is gone: %s", why);
    fallback_raise(t, FALLBACK_NOTICE_DOWN, "%s is gone (%s); %s%s", r->agent, why, hand, rollback);
    fallback_resolve(t, FALLBACK_NOTICE_LINK, "%s is gone altogether", r->agent);
    fallback_resolve(t, FALLBACK_NOTICE_ACK, "%s is gone altogether", r->agent);
}

/* ---- back ---- */

static const uint32_t ladder[] = {10, 25, 50, 100};
enum { RUNGS = sizeof ladder / sizeof ladder[0] };

static void say_back(struct turn *t, int from)
{
    struct fallback_doc *d = t->d;
    const char *agent = t->rule->agent;
    if (d->link == RETURNING) {
        fallback_change(t, FALLBACK_STEP_RECONNECT, FALLBACK_FAILURE_AGENT_DOWN, "", 0,
                        "it is back: it takes on %u %% of its work", d->return_percent);
        fallback_resolve(t, FALLBACK_NOTICE_DOWN, "%s is back, and takes on its work step by step", agent);
        fallback_resolve(t, FALLBACK_NOTICE_ROLLBACK, "%s is back", agent);
    } else if (from == RETURNING) {
        fallback_change(t, FALLBACK_STEP_RECONNECT, FALLBACK_FAILURE_AGENT_DOWN, "", 0,
                        "recovery successful: it takes on all of its work again");
    } else {
        fallback_change(t, FALLBACK_STEP_RECONNECT, FALLBACK_FAILURE_NETWORK, "", 0,
                        "recovery successful: it has confirmed directive %" PRIu64, d->epoch);
        fallback_resolve(t, FALLBACK_NOTICE_LINK, "%s can be reached again: recovery successful", agent);
    }
}

static void move(struct turn *t, int to)
{
    struct fallback_doc *d = t->d;
    int from = d->link;
    sm_move(&link_sm, &d->link, to);
    d->link_since_ms = t->now_ms;
    d->return_percent = to == RETURNING ? ladder[0] : 100;
    if (to != GONE)
        d->rollback_id[0] = '\0';
    t->f->run.rolling = false;
    switch (to) {
    case RESTRICTED:
        restrict_it(t);
        break;
    case GONE:
        say_gone(t);
        break;
    default:
        say_back(t, from);
        break;
    }
}

static void walk(struct turn *t, bool well)
{
    struct fallback_doc *d = t->d;
    int64_t at = d->link_since_ms + t->rule->return_step_ms;
    size_t i = 0;
    if (t->now_ms < at) {
        fallback_wake(t, at);
        return;
    }
    if (!well)
        return;
    while (i < RUNGS && ladder[i] <= d->return_percent)
        i++;
    if (i == RUNGS) {
        move(t, UP);
        return;
    }
    d->return_percent = ladder[i];
    d->link_since_ms = t->now_ms;
    say_back(t, RETURNING);
    fallback_wake(t, t->now_ms + t->rule->return_step_ms);
}

/* ---- a rollback of who is gone ---- */

/* An id of at most 64 bytes, the same for every replica: the same id starts one job at most. */
static void name_rollback(struct turn *t)
{
    struct fallback_doc *d = t->d;
    snprintf(d->rollback_id, sizeof d->rollback_id, "gone-%" PRIu64 "-%.20s-%08" PRIx32, d->epoch, t->rule->agent,
             (uint32_t)rank_hash(t->rule->agent));
}

/* Only for who is gone in truth: a drill asks for none. */
static void settle_rollback(struct turn *t)
{
    struct fallback_doc *d = t->d;
    const struct fallback_rule *r = t->rule;
    if (r->rollback != FALLBACK_ROLLBACK_START || !r->deployment || !*r->deployment ||
        !fallback_verdict_is(t->view->verdict, FALLBACK_FAILURE_AGENT_DOWN))
        return;
    int64_t at = d->link_since_ms + r->rollback_after_ms;
    if (!d->rollback_id[0]) {
        if (t->now_ms < at) {
            fallback_wake(t, at);
            return;
        }
        name_rollback(t);
        fallback_record(t, "rollback.ask", true, NULL, "gone for %" PRId64 " s: rollback of %.64s asked for, job %s",
                        (t->now_ms - d->link_since_ms) / 1000, r->deployment, d->rollback_id);
    }
    if (t->f->run.rolling)
        return; /* asked for; its answer will be told */
    t->f->run.rolling = true;
    struct fallback_effect *e = fallback_effect_add(t, FALLBACK_ROLL);
    snprintf(e->key, sizeof e->key, "%s", d->rollback_id);
}

void fallback_on_rolled(struct turn *t)
{
    struct fallback_doc *d = t->d;
    if (!d->rollback_id[0] || strcmp(t->ev->key, d->rollback_id) != 0)
        return; /* of one that is history */
    if (!t->ev->failed) {
        fallback_record(t, "rollback.asked", true, NULL, "job %s: %.300s", d->rollback_id, t->ev->detail);
        fallback_resolve(t, FALLBACK_NOTICE_ROLLBACK, "the rollback of %.64s is under way", t->rule->deployment);
    } else if (!fallback_told(t, FALLBACK_NOTICE_ROLLBACK)) {
        fallback_raise(t, FALLBACK_NOTICE_ROLLBACK,
                       "%s is gone and the rollback of %.64s could not be started: %.250s", t->rule->agent,
                       t->rule->deployment, t->ev->detail);
    }
}

/* ---- the whole ---- */

void fallback_settle_link(struct turn *t)
{
    struct fallback_doc *d = t->d;
    enum sight seen = sight_of(t);
    int to = next_link[d->link][seen];
    bool real = t->drill_real == FALLBACK_FAILURE_NETWORK || t->drill_real == FALLBACK_FAILURE_AGENT_DOWN;
    if (to != d->link) {
        move(t, to);
    } else if (real && d->link == GONE) {
        say_gone(t); /* people and agent must know that it is no drill any more */
    } else if (real && d->link == RESTRICTED) {
        restrict_it(t);
    } else if (d->link == RETURNING && seen != HELD) {
        walk(t, seen == WELL);
    }
    if (d->link == RETURNING)
        fallback_wake(t, d->link_since_ms + t->rule->return_step_ms);
    if (d->link == GONE && seen == DEAD)
        settle_rollback(t);
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
    bool told = fallback_told(t, FALLBACK_NOTICE_ACK) || d->link != UP;
    if (t->now_ms >= t->f->run.resend_at_ms) {
        fallback_effect_add(t, FALLBACK_RESEND);
        if (told && t->f->run.resend_gap_ms < RESEND_MAX_MS)
            t->f->run.resend_gap_ms *= 2;
        t->f->run.resend_at_ms = t->now_ms + t->f->run.resend_gap_ms;
    }
    /* Who was there before is restricted, and that is what people are told. */
    if (d->acked_epoch == 0 && !fallback_told(t, FALLBACK_NOTICE_ACK) && !fallback_in_maintenance(t) &&
        t->now_ms >= alert_at)
        fallback_raise(t, FALLBACK_NOTICE_ACK,
                       "%s has never confirmed a directive (be %s): is it running? Said once until it has",
                       t->rule->agent, fallback_posture_name(d->posture));
    fallback_wake(t, alert_at);
    fallback_wake(t, t->f->run.resend_at_ms);
}
