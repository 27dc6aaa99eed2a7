/* alert_problem.c - which alerts of a problem people hear of, and what they hear without one. */
#include "alert/alert_problem.h"
#include <assert.h>

#define INFO                                                                                                         \
    1 /* Severity's number: nothing is to be done, so it is not told again, and forgotten even if nobody says that it is over */

static const char *const names[] = {"UNKNOWN", "FIRING", "ACKNOWLEDGED", "MUTED", "RESOLVED"};
#define OPEN (SM_BIT(ALERT_PROBLEM_FIRING) | SM_BIT(ALERT_PROBLEM_ACKNOWLEDGED) | SM_BIT(ALERT_PROBLEM_MUTED))
static const uint32_t allowed[] = {
    [ALERT_PROBLEM_UNKNOWN] =
        SM_BIT(ALERT_PROBLEM_FIRING) | SM_BIT(ALERT_PROBLEM_MUTED) | SM_BIT(ALERT_PROBLEM_RESOLVED),
    [ALERT_PROBLEM_FIRING] = OPEN | SM_BIT(ALERT_PROBLEM_RESOLVED),
    [ALERT_PROBLEM_ACKNOWLEDGED] = OPEN | SM_BIT(ALERT_PROBLEM_RESOLVED),
    [ALERT_PROBLEM_MUTED] = OPEN | SM_BIT(ALERT_PROBLEM_RESOLVED),
    [ALERT_PROBLEM_RESOLVED] = SM_BIT(ALERT_PROBLEM_FIRING) | SM_BIT(ALERT_PROBLEM_MUTED),
};

static bool invariant(const void *object)
{
    const struct alert_problem *p = object;
    bool firing = p->state == ALERT_PROBLEM_FIRING;
    return (firing ||
            p->telling == ALERT_TELL_NOTHING) && /* only what is there and neither taken on nor muted is told again */
           (p->acked_until_ms != 0) == (p->state == ALERT_PROBLEM_ACKNOWLEDGED) &&
           (!firing || p->told_ms > 0) && (p->told_severity > 0 || !firing) && (firing || p->escalated == 0) &&
           (p->state == ALERT_PROBLEM_UNKNOWN || firing || p->due_ms > 0);
}

const struct sm_table alert_problem_table = {"problem", 5, names, allowed, invariant};

bool alert_problem_sound(const struct alert_problem *p)
{
    return p->state > ALERT_PROBLEM_UNKNOWN && p->state <= ALERT_PROBLEM_RESOLVED && p->severity > 0 &&
           p->telling >= ALERT_TELL_NOTHING && p->telling <= ALERT_TELL_STEP && invariant(p);
}

/* ---- when it is looked at next ---- */

static int64_t sooner(int64_t a, int64_t b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

/* Of the next step; 0 = there is none. */
static int64_t step_ms(const struct alert_problem *p, const struct alert_problem_rule *rule)
{
    if (p->escalated < rule->n_steps)
        return p->escalated_ms + rule->after_ms[p->escalated];
    return rule->n_steps > 0 && rule->again_ms > 0 ? p->escalated_ms + rule->again_ms : 0;
}

static int64_t repeat_ms(const struct alert_problem *p, const struct alert_problem_rule *rule)
{
    return rule->repeat_ms > 0 && p->severity > INFO ? p->told_ms + rule->repeat_ms : 0;
}

static int64_t forget_ms(const struct alert_problem *p)
{
    return p->severity <= INFO ? p->told_ms + ALERT_PROBLEM_KEEP_MS : 0;
}

static int64_t mute_end_ms(const struct alert_problem_event *ev, int64_t now_ms)
{
    int64_t poll_ms = now_ms + ALERT_PROBLEM_POLL_MS;
    return ev->mute_until_ms > now_ms ? ev->mute_until_ms : poll_ms;
}

static void set_due(struct alert_problem *p, const struct alert_problem_rule *rule,
                    const struct alert_problem_event *ev, int64_t now_ms)
{
    switch (p->state) {
    case ALERT_PROBLEM_FIRING:
        p->due_ms = sooner(forget_ms(p), sooner(step_ms(p, rule), repeat_ms(p, rule)));
        if (p->telling != ALERT_TELL_NOTHING)
            p->due_ms = p->telling_ms + ALERT_PROBLEM_RETRY_MS;
        break;
    case ALERT_PROBLEM_ACKNOWLEDGED:
        p->due_ms = p->acked_until_ms;
        if (ev->muted && p->severity > p->told_severity) /* to be told as soon as it is not muted */
            p->due_ms = sooner(p->due_ms, mute_end_ms(ev, now_ms));
        break;
    case ALERT_PROBLEM_MUTED:
        p->due_ms = ev->muted ? mute_end_ms(ev, now_ms) : p->due_ms;
        break;
    default:
        p->due_ms = p->changed_ms + ALERT_PROBLEM_KEEP_MS;
    }
}

/* ---- moves ---- */

static void move(struct alert_problem *p, int to, int64_t now_ms)
{
    if (p->state != to)
        p->changed_ms = now_ms;
    if (to != ALERT_PROBLEM_ACKNOWLEDGED)
        p->acked_until_ms = 0;
    if (to != ALERT_PROBLEM_FIRING) {
        p->telling = ALERT_TELL_NOTHING;
        p->telling_ms = 0;
        p->escalated = 0;
        p->escalated_ms = 0;
    } else if (p->state != to) {
        p->escalated = 0; /* a ladder begins anew each time that nobody has it */
        p->escalated_ms = now_ms;
    }
    sm_move(&alert_problem_table, &p->state, to);
}

static void told(struct alert_problem *p, int64_t now_ms)
{
    p->told_ms = now_ms;
    if (p->severity > p->told_severity)
        p->told_severity = p->severity;
}

static void begin_telling(struct alert_problem *p, enum alert_tell_kind what, int64_t now_ms,
                          struct alert_problem_result *r)
{
    p->telling = what;
    p->telling_ms = now_ms;
    if (what != ALERT_TELL_STEP)
        told(p, now_ms);
    r->tell = what;
    r->repeats = p->repeats;
}

/* ---- alerts ---- */

static enum alert_verdict notify(struct alert_problem *p, int64_t now_ms, struct alert_problem_result *r)
{
    r->repeats = p->repeats;
    p->repeats = 0;
    if (p->telling != ALERT_TELL_STEP) /* this alert says it all; a step goes to others */
        p->telling = ALERT_TELL_NOTHING;
    move(p, ALERT_PROBLEM_FIRING, now_ms);
    told(p, now_ms);
    return ALERT_NOTIFY;
}

static enum alert_verdict raise(struct alert_problem *p, const struct alert_problem_event *ev, int64_t now_ms,
                                struct alert_problem_result *r)
{
    int was_severity = p->severity;
    if (!alert_problem_open(p))
        *p = (struct alert_problem){.state = p->state, .first_ms = now_ms, .changed_ms = p->changed_ms};
    p->severity = ev->severity;
    if (p->state == ALERT_PROBLEM_ACKNOWLEDGED) {
        bool over = now_ms >= p->acked_until_ms || ev->severity > p->told_severity;
        if (over && !ev->muted)
            return notify(p, now_ms, r);
    } else if (!ev->muted) {
        /* A time from the future is a clock that was set back: it must not silence anybody. */
        int64_t age_ms = now_ms - p->told_ms;
        bool same = p->state == ALERT_PROBLEM_FIRING && ev->severity == was_severity && age_ms >= 0 &&
                    age_ms < ALERT_PROBLEM_WINDOW_MS;
        if (!same)
            return notify(p, now_ms, r);
        r->repeats = ++p->repeats;
        return ALERT_REPEAT;
    } else {
        if (p->state == ALERT_PROBLEM_MUTED || p->state == ALERT_PROBLEM_FIRING)
            p->repeats++;
        move(p, ALERT_PROBLEM_MUTED, now_ms);
        r->repeats = p->repeats;
        return ALERT_MUTED;
    }
    r->repeats = ++p->repeats;
    return ALERT_MUTED;
}

static enum alert_verdict resolve(struct alert_problem *p, const struct alert_problem_event *ev, int64_t now_ms,
                                  struct alert_problem_result *r)
{
    bool tell = alert_problem_open(p) ? p->told_ms > 0 : p->state == ALERT_PROBLEM_UNKNOWN && !ev->sure;
    r->repeats = p->repeats;
    if (p->state == ALERT_PROBLEM_UNKNOWN)
        *p = (struct alert_problem){.first_ms = now_ms};
    if (p->state != ALERT_PROBLEM_RESOLVED) {
        p->severity = ev->severity;
        move(p, ALERT_PROBLEM_RESOLVED, now_ms);
    }
    p->repeats = 0;
    if (tell)
        p->told_ms = now_ms;
    return tell ? ALERT_NOTIFY : ALERT_STRAY;
}

/* ---- time ---- */

static void look_firing(struct alert_problem *p, const struct alert_problem_rule *rule,
                        const struct alert_problem_event *ev, int64_t now_ms, struct alert_problem_result *r)
{
    int64_t at_ms;
    if (ev->muted) {
        move(p, ALERT_PROBLEM_MUTED, now_ms);
    } else if (p->telling != ALERT_TELL_NOTHING) {
        if (now_ms - p->telling_ms < ALERT_PROBLEM_RETRY_MS && now_ms >= p->telling_ms)
            return;
        p->telling_ms = now_ms;
        r->tell = (enum alert_tell_kind)p->telling;
        r->repeats = p->repeats;
        r->again = true;
    } else if ((at_ms = step_ms(p, rule)) != 0 && now_ms >= at_ms) {
        p->escalated++;
        p->escalated_ms = now_ms;
        begin_telling(p, ALERT_TELL_STEP, now_ms, r);
    } else if ((at_ms = repeat_ms(p, rule)) != 0 && now_ms >= at_ms) {
        begin_telling(p, ALERT_TELL_REPEAT, now_ms, r);
    } else if ((at_ms = forget_ms(p)) != 0 && now_ms >= at_ms) {
        r->forget = true;
    }
}

static void look(struct alert_problem *p, const struct alert_problem_rule *rule, const struct alert_problem_event *ev,
                 int64_t now_ms, struct alert_problem_result *r)
{
    bool worse = p->severity > p->told_severity;
    switch (p->state) {
    case ALERT_PROBLEM_FIRING:
        look_firing(p, rule, ev, now_ms, r);
        break;
    case ALERT_PROBLEM_ACKNOWLEDGED:
        if (now_ms >= p->acked_until_ms || (worse && !ev->muted)) {
            enum alert_tell_kind what = now_ms >= p->acked_until_ms ? ALERT_TELL_ACK_ENDED : ALERT_TELL_WORSE;
            move(p, ev->muted ? ALERT_PROBLEM_MUTED : ALERT_PROBLEM_FIRING, now_ms);
            if (!ev->muted)
                begin_telling(p, what, now_ms, r);
        }
        break;
    case ALERT_PROBLEM_MUTED:
        if (!ev->muted) {
            move(p, ALERT_PROBLEM_FIRING, now_ms);
            begin_telling(p, ALERT_TELL_MUTE_ENDED, now_ms, r);
        }
        break;
    default:
        r->forget = p->state == ALERT_PROBLEM_RESOLVED && now_ms - p->changed_ms >= ALERT_PROBLEM_KEEP_MS;
    }
}

/* ---- people ---- */

static void ack(struct alert_problem *p, const struct alert_problem_event *ev, int64_t now_ms,
                struct alert_problem_result *r)
{
    if (!alert_problem_open(p) || ev->until_ms <= now_ms) {
        r->refused = true;
        return;
    }
    move(p, ALERT_PROBLEM_ACKNOWLEDGED, now_ms);
    p->acked_until_ms = ev->until_ms;
    if (p->severity > p->told_severity) /* who takes it on has seen it */
        p->told_severity = p->severity;
}

static void unack(struct alert_problem *p, const struct alert_problem_event *ev, int64_t now_ms,
                  struct alert_problem_result *r)
{
    if (p->state != ALERT_PROBLEM_ACKNOWLEDGED) {
        r->refused = true;
        return;
    }
    move(p, ev->muted ? ALERT_PROBLEM_MUTED : ALERT_PROBLEM_FIRING, now_ms);
    if (!ev->muted)
        begin_telling(p, ALERT_TELL_UNACKED, now_ms, r);
}

static void confirmed(struct alert_problem *p)
{
    if (p->telling != ALERT_TELL_STEP && p->telling != ALERT_TELL_NOTHING)
        p->repeats = 0;
    p->telling = ALERT_TELL_NOTHING;
    p->telling_ms = 0;
}

bool alert_problem_same(const struct alert_problem *a, const struct alert_problem *b)
{
    return a->state == b->state && a->severity == b->severity && a->told_severity == b->told_severity &&
           a->first_ms == b->first_ms && a->changed_ms == b->changed_ms && a->told_ms == b->told_ms &&
           a->repeats == b->repeats && a->acked_until_ms == b->acked_until_ms && a->escalated == b->escalated &&
           a->escalated_ms == b->escalated_ms && a->telling == b->telling && a->telling_ms == b->telling_ms &&
           a->due_ms == b->due_ms;
}

struct alert_problem_result alert_problem_decide(struct alert_problem *p, const struct alert_problem_rule *rule,
                                                 const struct alert_problem_event *ev, int64_t now_ms)
{
    assert(rule->n_steps <= ALERT_STEPS_MAX);
    struct alert_problem was = *p;
    struct alert_problem_result r = {.verdict = ALERT_STRAY};
    switch (ev->kind) {
    case ALERT_PROBLEM_RAISE:
        r.verdict = raise(p, ev, now_ms, &r);
        break;
    case ALERT_PROBLEM_RESOLVE:
        r.verdict = resolve(p, ev, now_ms, &r);
        break;
    case ALERT_PROBLEM_ACK:
        ack(p, ev, now_ms, &r);
        break;
    case ALERT_PROBLEM_UNACK:
        unack(p, ev, now_ms, &r);
        break;
    case ALERT_PROBLEM_LOOK:
        look(p, rule, ev, now_ms, &r);
        break;
    case ALERT_PROBLEM_TOLD:
        confirmed(p);
        break;
    }
    if (p->state != ALERT_PROBLEM_UNKNOWN && !r.refused)
        set_due(p, rule, ev, now_ms);
    if (r.tell == ALERT_TELL_STEP)
        r.step =
            p->escalated > rule->n_steps ? rule->n_steps - (rule->n_steps > 0) : p->escalated - (p->escalated > 0);
    sm_check(&alert_problem_table, p->state, p);
    r.touched = !alert_problem_same(&was, p);
    r.changed = was.state != p->state || was.severity != p->severity || was.acked_until_ms != p->acked_until_ms ||
                was.escalated != p->escalated || was.told_severity != p->told_severity ||
                was.first_ms != p->first_ms || was.telling != p->telling;
    return r;
}
