/* breaker.c - the breaker's policy: when it opens, tries, ramps and closes. Pure; see breaker.h. */
#include "breaker/breaker.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

static const uint32_t ramp[] = {10, 25, 50, 100};
#define RAMP_STEPS (sizeof ramp / sizeof ramp[0])

/* A refused caller asks again after this time where no deadline says better. */
#define ASK_AGAIN_MS 1000

static bool passes(int state)
{
    return state == BREAKER_CLOSED || state == BREAKER_FORCED_CLOSED || state == BREAKER_METRICS_ONLY;
}

static bool forced(int state)
{
    return state == BREAKER_FORCED_OPEN || state == BREAKER_FORCED_CLOSED || state == BREAKER_METRICS_ONLY;
}

static bool is_ramp_step(uint32_t percent)
{
    for (size_t i = 0; i < RAMP_STEPS; i++)
        if (ramp[i] == percent)
            return true;
    return false;
}

static bool invariant(const void *object)
{
    const struct breaker *b = object;
    bool share = passes(b->state)                ? b->ramp_percent == 100
                 : b->state == BREAKER_PROBATION ? is_ramp_step(b->ramp_percent)
                                                 : b->ramp_percent == 0;
    bool deadline = b->state == BREAKER_OPEN ? b->until_ms > 0 : b->until_ms == 0 || forced(b->state);
    bool person = forced(b->state) == (b->forced_by != NULL);
    bool permit = b->state == BREAKER_HALF_OPEN || (b->permit.expires_ms == 0 && b->permit.holder[0] == 0);
    bool trial = b->state == BREAKER_OPEN || b->state == BREAKER_HALF_OPEN || b->state == BREAKER_PROBATION;
    bool count = !trial || b->open_count > 0;
    bool evidence = passes(b->state) ? b->evidence_ms == 0 : !trial || b->evidence_ms > 0;
    bool scope = !b->scope || b->state == BREAKER_OPEN || b->state == BREAKER_HALF_OPEN;
    return b->epoch > 0 && share && deadline && scope && person && permit && count && evidence &&
           b->since_ms <= b->changed_ms;
}

#define FORCED (SM_BIT(BREAKER_FORCED_OPEN) | SM_BIT(BREAKER_FORCED_CLOSED) | SM_BIT(BREAKER_METRICS_ONLY))
const struct sm_table breaker_sm = {
    .name = "breaker",
    .n = BREAKER_STATES,
    .state_names = (const char *const[]){"NONE", "CLOSED", "OPEN", "HALF_OPEN", "PROBATION", "FORCED_OPEN",
                                         "FORCED_CLOSED", "METRICS_ONLY"},
    .allowed =
        (const uint32_t[]){
            [BREAKER_NONE] = SM_BIT(BREAKER_CLOSED) | SM_BIT(BREAKER_METRICS_ONLY),
            [BREAKER_CLOSED] = SM_BIT(BREAKER_OPEN) | FORCED,
            /* to itself: a later deadline, a permit, a step of the ramp */
            [BREAKER_OPEN] = SM_BIT(BREAKER_OPEN) | SM_BIT(BREAKER_HALF_OPEN) | SM_BIT(BREAKER_CLOSED) | FORCED,
            [BREAKER_HALF_OPEN] = SM_BIT(BREAKER_HALF_OPEN) | SM_BIT(BREAKER_PROBATION) | SM_BIT(BREAKER_OPEN) |
                                  SM_BIT(BREAKER_CLOSED) | FORCED,
            [BREAKER_PROBATION] = SM_BIT(BREAKER_PROBATION) | SM_BIT(BREAKER_CLOSED) | SM_BIT(BREAKER_OPEN) | FORCED,
            [BREAKER_FORCED_OPEN] = SM_BIT(BREAKER_HALF_OPEN) | SM_BIT(BREAKER_CLOSED) | FORCED,
            [BREAKER_FORCED_CLOSED] = SM_BIT(BREAKER_CLOSED) | FORCED,
            [BREAKER_METRICS_ONLY] = SM_BIT(BREAKER_CLOSED) | FORCED,
        },
    .invariant = invariant,
};

/* ---- moving ---- */

static int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* One change: one epoch. Replicas' clocks differ a little, so time never goes back within a document. */
static void move(struct breaker *b, int to, int reason, int64_t now_ms)
{
    int64_t at_ms = max64(now_ms, b->changed_ms);
    b->previous = b->state;
    if (b->state != to) {
        b->since_ms = at_ms;
        b->until_ms = 0;
    }
    sm_move(&breaker_sm, &b->state, to);
    b->epoch++;
    b->reason = reason;
    b->changed_ms = at_ms;
    if (to != BREAKER_HALF_OPEN) {
        b->permit.holder[0] = 0;
        b->permit.expires_ms = 0;
    }
    if (to != BREAKER_PROBATION)
        b->ramp_percent = passes(to) ? 100 : 0;
    if (passes(to))
        b->evidence_ms = 0;
    if (to != BREAKER_OPEN && to != BREAKER_HALF_OPEN)
        b->scope = NULL;
    if (!forced(to))
        b->forced_by = b->forced_why = NULL;
}

uint64_t breaker_hash(const void *data, size_t len, uint64_t seed)
{
    /* FNV-1a, then mixed so that near inputs differ in all bits. */
    uint64_t h = UINT64_C(0xcbf29ce484222325) ^ seed;
    for (size_t i = 0; i < len; i++)
        h = (h ^ ((const unsigned char *)data)[i]) * UINT64_C(0x100000001b3);
    h = (h ^ (h >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    h = (h ^ (h >> 27)) * UINT64_C(0x94d049bb133111eb);
    return h ^ (h >> 31);
}

/* Never shorter than asked for: jitter only adds. */
int64_t breaker_open_time_ms(const struct breaker_rule *rule, uint32_t n, uint64_t number)
{
    int64_t most = rule->open_max_ms / (rule->open_ms > 0 ? rule->open_ms : 1);
    int64_t hold = n > most ? rule->open_max_ms : rule->open_ms * n;
    int64_t spread = hold * rule->jitter_percent / 100;
    if (spread > 0)
        hold += (int64_t)(breaker_hash(&number, sizeof number, rule->seed) % (uint64_t)(spread + 1));
    return max64(hold, 1);
}

/* How often it has opened without staying closed in between. */
static uint32_t decayed(const struct breaker *b, const struct breaker_rule *rule, int64_t now_ms)
{
    if (!passes(b->state) || rule->decay_ms <= 0)
        return b->open_count;
    int64_t steps = max64(now_ms - b->since_ms, 0) / rule->decay_ms;
    return steps >= b->open_count ? 0 : b->open_count - (uint32_t)steps;
}

static void open_it(struct breaker *b, const struct breaker_rule *rule, int reason, int64_t evidence_ms,
                    int64_t retry_until_ms, int64_t now_ms)
{
    uint32_t n = decayed(b, rule, now_ms);
    n += n < UINT32_MAX;
    if (b->scope) { /* from here on the evidence is its own */
        b->scope = NULL;
        b->evidence_ms = 0;
    }
    /* The outage's clock runs from its first evidence, also through failed trials. */
    int64_t first_ms = b->evidence_ms ? b->evidence_ms : evidence_ms ? evidence_ms : now_ms;
    move(b, BREAKER_OPEN, reason, now_ms);
    b->open_count = n;
    b->evidence_ms = min64(first_ms, b->changed_ms);
    b->until_ms = reason == BREAKER_BY_RETRY_AFTER
                      ? retry_until_ms
                      : max64(b->changed_ms + breaker_open_time_ms(rule, n, b->epoch), retry_until_ms);
}

/* ---- evidence ---- */

/* One blind reporter, or a minority of them, must not cut off the fleet: where several report, it takes `min_reporters` of
 * them, and more than half of those seen in the window, whose last call was bad. A sole reporter counts alone. */
static bool votes(const struct breaker_rule *rule, const struct breaker_totals *t)
{
    return rule->min_reporters <= 1 || t->reporters <= 1 ||
           (t->failing >= rule->min_reporters && t->failing * UINT64_C(2) > t->reporters);
}

void breaker_totals_vote(struct breaker_totals *t, uint8_t run, bool bad)
{
    if (t->reporters >= BREAKER_REPORTERS)
        return;
    t->runs[t->reporters++] = run;
    t->failing += bad;
}

/* Each of them sees nothing but failures. Somebody's flood of successes breaks the run that is counted over all, and thins out the
 * share of failures; it does not touch what the others see. */
static bool majority_runs(const struct breaker_rule *rule, const struct breaker_totals *t)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->reporters && i < BREAKER_REPORTERS; i++)
        n += t->runs[i] >= rule->consecutive;
    return n > 0 && n >= rule->min_reporters && n * UINT64_C(2) > t->reporters;
}

/* The window was emptied when the document changed, or is younger still: Redis had lost it. For one bucket's time those who happen to report first are not taken for
 * all that there are. */
static int64_t grown_ms(int64_t since_ms, const struct breaker_rule *rule)
{
    return since_ms + rule->window_ms / BREAKER_BUCKETS;
}

static bool grown(const struct breaker_rule *rule, int64_t since_ms, int64_t now_ms)
{
    return rule->min_reporters <= 1 || now_ms >= grown_ms(since_ms, rule);
}

static bool share(uint64_t part, uint64_t whole, uint32_t percent)
{
    return percent > 0 && part > 0 && part * 100 >= whole * percent;
}

int breaker_tripped(const struct breaker_rule *rule, const struct breaker_totals *t, int64_t since_ms, int64_t now_ms)
{
    if ((t->failures == 0 && t->slow == 0) || !grown(rule, since_ms, now_ms) || !votes(rule, t))
        return BREAKER_BY_NOTHING;
    if (rule->consecutive > 0 && t->failures > 0 && (t->consecutive >= rule->consecutive || majority_runs(rule, t)))
        return BREAKER_BY_CONSECUTIVE;
    bool enough = t->calls >= rule->min_calls;
    if (enough && share(t->failures, t->calls, rule->failure_percent))
        return BREAKER_BY_FAILURE_RATIO;
    if (enough && share(t->slow, t->calls, rule->slow_percent))
        return BREAKER_BY_SLOW_RATIO;
    if (t->failures > 0 && t->retry_until_ms > now_ms)
        return BREAKER_BY_RETRY_AFTER;
    return BREAKER_BY_NOTHING;
}

static int64_t window_since_ms(const struct breaker *b, int64_t began_ms)
{
    return max64(b->changed_ms, began_ms);
}

static int tripped(const struct breaker *b, const struct breaker_rule *rule, const struct breaker_totals *t,
                   int64_t now_ms)
{
    return breaker_tripped(rule, t, window_since_ms(b, t->began_ms), now_ms);
}

static int64_t evidence_of(const struct breaker_totals *t, int reason)
{
    if (reason == BREAKER_BY_CONSECUTIVE && t->run_since_ms)
        return t->run_since_ms;
    return t->first_failure_ms;
}

static void ramp_up(struct breaker *b, int64_t now_ms)
{
    for (size_t i = 0; i + 1 < RAMP_STEPS; i++)
        if (ramp[i] == b->ramp_percent) {
            move(b, BREAKER_PROBATION, BREAKER_BY_RAMP, now_ms);
            b->ramp_percent = ramp[i + 1];
            return;
        }
    move(b, BREAKER_CLOSED, BREAKER_BY_TRIAL_PASSED, now_ms);
}

/* A step whose window was lost begins anew. */
static int64_t step_ends_ms(const struct breaker *b, const struct breaker_rule *rule, int64_t began_ms)
{
    return window_since_ms(b, began_ms) + rule->ramp_step_ms;
}

static void on_totals_probation(struct breaker *b, const struct breaker_rule *rule, const struct breaker_totals *t,
                                int64_t now_ms)
{
    int why = tripped(b, rule, t, now_ms);
    bool over = now_ms >= step_ends_ms(b, rule, t->began_ms);
    /* At the end of a step few calls must do: what fails or is slow by share is not let further. */
    bool bad = share(t->failures, t->calls, rule->failure_percent) || share(t->slow, t->calls, rule->slow_percent);
    bool failing = over && bad && votes(rule, t);
    if (failing && !grown(rule, window_since_ms(b, t->began_ms), now_ms))
        return; /* a step shorter than that waits */
    if (why != BREAKER_BY_NOTHING || failing)
        open_it(b, rule, BREAKER_BY_TRIAL_FAILED, evidence_of(t, why), t->retry_until_ms, now_ms);
    else if (over && t->passed > 0)
        ramp_up(b, now_ms);
}

static void on_totals(struct breaker *b, const struct breaker_rule *rule, const struct breaker_totals *t,
                      int64_t now_ms, struct breaker_result *r)
{
    bool over = b->until_ms > 0 && now_ms >= b->until_ms;
    int why;
    switch (b->state) {
    case BREAKER_CLOSED:
        why = tripped(b, rule, t, now_ms);
        if (why != BREAKER_BY_NOTHING)
            open_it(b, rule, why, evidence_of(t, why), t->retry_until_ms, now_ms);
        break;
    case BREAKER_OPEN:
        if (t->retry_until_ms > b->until_ms && t->retry_until_ms > now_ms && votes(rule, t)) {
            move(b, BREAKER_OPEN, BREAKER_BY_RETRY_AFTER, now_ms);
            b->until_ms = t->retry_until_ms;
        } else if (over) {
            move(b, BREAKER_HALF_OPEN, BREAKER_BY_ELAPSED, now_ms);
        }
        break;
    case BREAKER_PROBATION:
        on_totals_probation(b, rule, t, now_ms);
        break;
    case BREAKER_FORCED_OPEN:
        /* Not straight to CLOSED: nobody has tried it since. */
        if (over) {
            move(b, BREAKER_HALF_OPEN, BREAKER_BY_ELAPSED, now_ms);
            b->open_count = b->open_count ? b->open_count : 1;
            b->evidence_ms = b->evidence_ms ? b->evidence_ms : b->changed_ms;
        }
        break;
    case BREAKER_FORCED_CLOSED:
        if (over)
            move(b, BREAKER_CLOSED, BREAKER_BY_ELAPSED, now_ms);
        break;
    case BREAKER_METRICS_ONLY:
        if (over)
            move(b, BREAKER_CLOSED, BREAKER_BY_ELAPSED, now_ms);
        else if ((why = tripped(b, rule, t, now_ms)) != BREAKER_BY_NOTHING) {
            r->would_open = true;
            r->reason = why;
        }
        break;
    default: /* HALF_OPEN: only the permitted call counts */
        break;
    }
}

static void on_verdict(struct breaker *b, const struct breaker_rule *rule, const struct breaker_event *ev,
                       int64_t now_ms)
{
    /* A verdict from before the present state is known already; it is told again and again. Before the first
     * change of all nothing is known, so there an old one counts. */
    bool news = ev->u.verdict.changed_ms > b->since_ms || b->reason == BREAKER_BY_INITIAL;
    bool may = b->state == BREAKER_CLOSED || b->state == BREAKER_HALF_OPEN || b->state == BREAKER_PROBATION;
    if (may && news)
        open_it(b, rule, BREAKER_BY_UNHEALTHY, ev->u.verdict.since_ms, 0, now_ms);
}

static void on_outcome(struct breaker *b, const struct breaker_rule *rule, const struct breaker_event *ev,
                       int64_t now_ms)
{
    if (b->state != BREAKER_HALF_OPEN || b->permit.expires_ms == 0 || ev->u.outcome.permit_id != b->permit.id)
        return;
    /* What is slow was opened for that, or would be: let in, it would open again, and so on. Where nothing opens for being slow, a slow
     * call is as good as any. */
    bool slow = ev->u.outcome.slow && ev->u.outcome.data_path && rule->slow_percent > 0;
    if (!ev->u.outcome.good || slow) {
        open_it(b, rule, BREAKER_BY_TRIAL_FAILED, now_ms, ev->u.outcome.retry_until_ms, now_ms);
    } else if (ev->u.outcome.data_path) {
        move(b, BREAKER_PROBATION, BREAKER_BY_TRIAL_PASSED, now_ms);
        b->ramp_percent = ramp[0];
    }
}

/* The evidence is that of others, so it neither lengthens the open time nor outlasts theirs. Who was closed by a trial of its own, or by a
 * person, after the newest of it, has shown more than the others' evidence can say. */
static void on_scope(struct breaker *b, const struct breaker_rule *rule, const struct breaker_event *ev,
                     int64_t now_ms)
{
    bool news = ev->u.scope.newest_ms > b->since_ms && ev->u.scope.until_ms > max64(now_ms, b->changed_ms);
    if (ev->u.scope.ill && b->state == BREAKER_CLOSED && news) {
        uint32_t n = decayed(b, rule, now_ms);
        move(b, BREAKER_OPEN, BREAKER_BY_SCOPE, now_ms);
        b->open_count = n > 0 ? n : 1;
        b->evidence_ms = min64(ev->u.scope.first_ms, b->changed_ms);
        b->until_ms = ev->u.scope.until_ms;
        b->scope = ev->u.scope.name;
    } else if (!ev->u.scope.ill && b->state == BREAKER_OPEN && b->scope && strcmp(b->scope, ev->u.scope.name) == 0) {
        move(b, BREAKER_HALF_OPEN, BREAKER_BY_SCOPE_ENDED, now_ms);
    }
}

static void refuse(struct breaker_result *r, int64_t until_ms, int64_t now_ms)
{
    r->admitted = false;
    r->retry_after_ms = until_ms > now_ms ? until_ms - now_ms : ASK_AGAIN_MS;
}

static void on_allow(struct breaker *b, const struct breaker_rule *rule, const struct breaker_event *ev,
                     int64_t now_ms, struct breaker_result *r)
{
    r->admitted = true;
    switch (b->state) {
    case BREAKER_CLOSED:
    case BREAKER_FORCED_CLOSED:
    case BREAKER_METRICS_ONLY:
        return;
    case BREAKER_PROBATION:
        if (ev->u.allow.draw >= b->ramp_percent)
            refuse(r, 0, now_ms);
        return;
    case BREAKER_HALF_OPEN: {
        /* Also to the holder itself: its name may stand for several processes, and two calls are one too many. */
        if (b->permit.expires_ms > now_ms) {
            refuse(r, b->permit.expires_ms, now_ms);
            return;
        }
        bool again = b->permit.expires_ms > 0;
        move(b, BREAKER_HALF_OPEN, again ? BREAKER_BY_PERMIT_EXPIRED : BREAKER_BY_PERMIT_GRANTED, now_ms);
        b->permit.id++;
        b->permit.expires_ms = b->changed_ms + max64(rule->permit_ms, 1);
        size_t n = strnlen(ev->u.allow.holder, sizeof b->permit.holder - 1);
        memcpy(b->permit.holder, ev->u.allow.holder, n);
        b->permit.holder[n] = 0;
        r->permit_id = b->permit.id;
        return;
    }
    default: /* OPEN, FORCED_OPEN, NONE */
        refuse(r, b->until_ms, now_ms);
        if (b->state == BREAKER_FORCED_OPEN && b->until_ms == 0)
            r->retry_after_ms = max64(rule->open_ms, ASK_AGAIN_MS);
        return;
    }
}

static void force(struct breaker *b, int to, const struct breaker_event *ev, int64_t now_ms, struct breaker_result *r)
{
    int64_t until_ms = ev->u.person.duration_ms > 0 ? now_ms + ev->u.person.duration_ms : 0;
    /* Within one state a deadline only moves later; none is the latest. */
    if (b->state == to && (b->until_ms == 0 || (until_ms != 0 && until_ms <= b->until_ms))) {
        r->already = true;
        return;
    }
    move(b, to, BREAKER_BY_OPERATOR, now_ms);
    b->until_ms = until_ms;
    b->forced_by = ev->u.person.by;
    b->forced_why = ev->u.person.why;
}

static void on_rules(struct breaker *b, const struct breaker_rule *rule, int64_t now_ms)
{
    bool by_settings = b->forced_by && strcmp(b->forced_by, BREAKER_SETTINGS) == 0;
    if (rule->metrics_only && !forced(b->state)) {
        move(b, BREAKER_METRICS_ONLY, BREAKER_BY_OPERATOR, now_ms);
        b->forced_by = BREAKER_SETTINGS;
        b->forced_why = "metrics_only";
    } else if (!rule->metrics_only && b->state == BREAKER_METRICS_ONLY && by_settings) {
        move(b, BREAKER_CLOSED, BREAKER_BY_OPERATOR, now_ms);
    }
}

static void on_initial(struct breaker *b, const struct breaker_rule *rule, int64_t now_ms)
{
    if (b->state != BREAKER_NONE)
        return;
    move(b, rule->metrics_only ? BREAKER_METRICS_ONLY : BREAKER_CLOSED, BREAKER_BY_INITIAL, now_ms);
    if (rule->metrics_only) {
        b->forced_by = BREAKER_SETTINGS;
        b->forced_why = "metrics_only";
    }
}

struct breaker_result breaker_decide(struct breaker *b, const struct breaker_rule *rule,
                                     const struct breaker_event *ev, int64_t now_ms)
{
    struct breaker_result r = {0};
    uint64_t before = b->epoch;
    if (b->state == BREAKER_NONE && ev->kind != BREAKER_EV_INITIAL && ev->kind != BREAKER_EV_ALLOW)
        return r;
    switch (ev->kind) {
    case BREAKER_EV_INITIAL:
        on_initial(b, rule, now_ms);
        break;
    case BREAKER_EV_RULES:
        on_rules(b, rule, now_ms);
        break;
    case BREAKER_EV_TOTALS:
        on_totals(b, rule, &ev->u.totals, now_ms, &r);
        break;
    case BREAKER_EV_VERDICT:
        on_verdict(b, rule, ev, now_ms);
        break;
    case BREAKER_EV_OUTCOME:
        on_outcome(b, rule, ev, now_ms);
        break;
    case BREAKER_EV_SCOPE:
        on_scope(b, rule, ev, now_ms);
        break;
    case BREAKER_EV_ALLOW:
        on_allow(b, rule, ev, now_ms, &r);
        break;
    case BREAKER_EV_OPEN:
        force(b, BREAKER_FORCED_OPEN, ev, now_ms, &r);
        break;
    case BREAKER_EV_CLOSE:
        force(b, BREAKER_FORCED_CLOSED, ev, now_ms, &r);
        break;
    case BREAKER_EV_METRICS:
        force(b, BREAKER_METRICS_ONLY, ev, now_ms, &r);
        break;
    case BREAKER_EV_RESET:
        if (b->state == BREAKER_CLOSED) {
            r.already = true;
        } else {
            move(b, BREAKER_CLOSED, BREAKER_BY_OPERATOR, now_ms);
            b->open_count = 0;
        }
        break;
    case BREAKER_EVENTS:
    default:
        abort(); /* no such event */
    }
    r.changed = b->epoch != before;
    if (r.changed) {
        assert(b->epoch == before + 1);
        b->totals = ev->kind == BREAKER_EV_TOTALS ? ev->u.totals : (struct breaker_totals){0};
        memset(b->totals.runs, 0, sizeof b->totals.runs); /* no part of the document; nor is the other */
        b->totals.began_ms = 0;
        if (b->reason == BREAKER_BY_CONSECUTIVE && b->totals.consecutive < rule->consecutive)
            b->totals.consecutive = rule->consecutive; /* so many at least, of each of a majority */
        sm_check(&breaker_sm, b->state, b);
    }
    return r;
}

/* ---- questions ---- */

int64_t breaker_wake_ms(const struct breaker *b, const struct breaker_rule *rule, int64_t began_ms, int64_t now_ms)
{
    int64_t at_ms = b->until_ms;
    int64_t counts_ms = grown_ms(window_since_ms(b, began_ms), rule);
    if (b->state == BREAKER_PROBATION)
        at_ms = step_ends_ms(b, rule, began_ms);
    if ((b->state == BREAKER_CLOSED || b->state == BREAKER_PROBATION) && counts_ms > now_ms)
        at_ms = at_ms > now_ms ? min64(at_ms, counts_ms) : counts_ms;
    if (at_ms == 0)
        return 0;
    /* Due, but not done: tilt, or a step that nobody has called in yet. A call wakes it too. */
    return at_ms > now_ms ? at_ms : now_ms + ASK_AGAIN_MS;
}

bool breaker_needs_permit(const struct breaker *b, int64_t now_ms)
{
    bool waits = b->state == BREAKER_OPEN || b->state == BREAKER_FORCED_OPEN;
    return b->state == BREAKER_NONE || (waits && b->until_ms > 0 && now_ms >= b->until_ms) ||
           (b->state == BREAKER_HALF_OPEN && b->permit.expires_ms <= now_ms);
}

enum breaker_news breaker_news(int previous, int state)
{
    bool was_fine = previous == BREAKER_NONE || passes(previous);
    if (was_fine && !passes(state))
        return BREAKER_RAISE;
    if (!was_fine && passes(state))
        return BREAKER_RESOLVE;
    return BREAKER_NO_NEWS;
}

bool breaker_own_evidence(int previous, int reason, int64_t evidence_ms, int64_t changed_ms)
{
    return previous == BREAKER_HALF_OPEN && reason == BREAKER_BY_TRIAL_FAILED && evidence_ms == changed_ms;
}

/* ---- reports ---- */

enum outcome { /* report.proto */
               OUTCOME_SUCCESS = 1,
               OUTCOME_ERROR,
               OUTCOME_TIMEOUT,
               OUTCOME_RATE_LIMITED,
               OUTCOME_OVERLOADED,
               OUTCOME_UNREACHABLE,
               OUTCOME_RUNNING,
};

static enum breaker_class class_of(int outcome)
{
    switch (outcome) {
    case OUTCOME_SUCCESS:
        return BREAKER_CALL_GOOD;
    case OUTCOME_ERROR:
    case OUTCOME_TIMEOUT:
    case OUTCOME_RATE_LIMITED:
    case OUTCOME_OVERLOADED:
    case OUTCOME_UNREACHABLE:
        return BREAKER_CALL_FAILED;
    case OUTCOME_RUNNING:
        return BREAKER_CALL_RUNNING;
    default:
        return BREAKER_CALL_IGNORED;
    }
}

struct breaker_call breaker_classify(const struct breaker_rule *rule, const struct breaker_report *r, int64_t now_ms)
{
    struct breaker_call c = {.class = class_of(r->outcome), .reporter = r->reporter, .at_ms = r->ended_ms};
    if (r->probe && !r->data_path) /* a ping proves nothing about calls, either way */
        c.class = BREAKER_CALL_IGNORED;
    c.slow = c.class == BREAKER_CALL_RUNNING ||
             (c.class != BREAKER_CALL_IGNORED &&
              ((rule->slow_ms > 0 && r->total_ms >= rule->slow_ms) ||
               (rule->slow_first_ms > 0 && r->first_token_ms > 0 && r->first_token_ms >= rule->slow_first_ms)));
    /* The reporter's clock is believed only as far as it makes sense. */
    if (c.at_ms > now_ms || c.at_ms < now_ms - rule->window_ms)
        c.at_ms = now_ms;
    if (c.class == BREAKER_CALL_FAILED && r->retry_after_ms > 0) {
        int64_t until_ms = now_ms + min64(r->retry_after_ms, BREAKER_RETRY_MAX_MS);
        c.retry_until_ms = (until_ms + BREAKER_RETRY_STEP_MS - 1) / BREAKER_RETRY_STEP_MS * BREAKER_RETRY_STEP_MS;
    }
    return c;
}
