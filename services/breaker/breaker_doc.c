/* breaker_doc.c - the document as a message of the contract, and back. */
#include "breaker/breaker_doc.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SAME(ours, theirs) _Static_assert((int)(ours) == (int)(theirs), "the contract's numbers are ours")
#define STATE(name)        SAME(BREAKER_##name, REDOUBT__V1__BREAKER_STATE__BREAKER_STATE_##name)
#define REASON(name)       SAME(BREAKER_BY_##name, REDOUBT__V1__BREAKER_REASON__BREAKER_REASON_##name)
STATE(CLOSED);
STATE(OPEN);
STATE(HALF_OPEN);
STATE(PROBATION);
STATE(FORCED_OPEN);
STATE(FORCED_CLOSED);
STATE(METRICS_ONLY);
REASON(FAILURE_RATIO);
REASON(CONSECUTIVE);
REASON(SLOW_RATIO);
REASON(RETRY_AFTER);
REASON(UNHEALTHY);
REASON(ELAPSED);
REASON(TRIAL_PASSED);
REASON(TRIAL_FAILED);
REASON(PERMIT_EXPIRED);
REASON(RAMP);
REASON(OPERATOR);
REASON(INITIAL);
REASON(PERMIT_GRANTED);
REASON(SCOPE);
REASON(SCOPE_ENDED);

static void write_detail(char *buf, size_t size, const struct breaker *b)
{
    const struct breaker_totals *t = &b->totals;
    double for_s = (double)(b->until_ms - b->changed_ms) / 1000;
    int n = 0;
    switch (b->reason) {
    case BREAKER_BY_FAILURE_RATIO:
        n = snprintf(buf, size, "%u of %u calls failed (%u of %u reporters)", t->failures, t->calls, t->failing,
                     t->reporters);
        break;
    case BREAKER_BY_CONSECUTIVE:
        n = snprintf(buf, size, "%u failures in a row (%u of %u reporters)", t->consecutive, t->failing,
                     t->reporters);
        break;
    case BREAKER_BY_SLOW_RATIO:
        n = snprintf(buf, size, "%u of %u calls were slow (%u of %u reporters)", t->slow, t->calls, t->failing,
                     t->reporters);
        break;
    case BREAKER_BY_RETRY_AFTER:
        n = snprintf(buf, size, "the target asks to stay away");
        break;
    case BREAKER_BY_UNHEALTHY:
        n = snprintf(buf, size, "the watchers say that it is unhealthy");
        break;
    case BREAKER_BY_ELAPSED:
        n = snprintf(buf, size, "the time is over");
        break;
    case BREAKER_BY_TRIAL_PASSED:
        n = snprintf(buf, size,
                     b->state == BREAKER_CLOSED ? "every step of the ramp passed" : "the trial call passed");
        break;
    case BREAKER_BY_TRIAL_FAILED:
        n = snprintf(buf, size,
                     b->previous == BREAKER_PROBATION ? "calls failed on the ramp" : "the trial call failed");
        break;
    case BREAKER_BY_PERMIT_EXPIRED:
        n = snprintf(buf, size, "the holder of the permit went silent; permit %" PRIu64 " to %s", b->permit.id,
                     b->permit.holder);
        break;
    case BREAKER_BY_PERMIT_GRANTED:
        n = snprintf(buf, size, "permit %" PRIu64 " to %s", b->permit.id, b->permit.holder);
        break;
    case BREAKER_BY_RAMP:
        n = snprintf(buf, size, "%u %% of the calls pass", b->ramp_percent);
        break;
    case BREAKER_BY_OPERATOR:
        n = snprintf(buf, size, "by %.64s", b->forced_by ? b->forced_by : "an operator's reset");
        break;
    case BREAKER_BY_SCOPE:
        n = snprintf(buf, size, "most of %.100s has failed", b->scope ? b->scope : "its scope");
        break;
    case BREAKER_BY_SCOPE_ENDED:
        n = snprintf(buf, size, "%.100s is well again", b->scope ? b->scope : "its scope");
        break;
    case BREAKER_BY_INITIAL:
        n = snprintf(buf, size, "first sight");
        break;
    default:
        buf[0] = 0;
    }
    if (b->until_ms > b->changed_ms && n >= 0 && (size_t)n < size)
        snprintf(buf + n, size - (size_t)n, "; for %.1f s", for_s);
}

void breaker_doc_totals(PB(BreakerTotals) * m, const struct breaker_totals *t)
{
    m->calls = t->calls;
    m->failures = t->failures;
    m->slow = t->slow;
    m->consecutive_failures = t->consecutive;
    m->reporters = t->reporters;
    m->failing_reporters = t->failing;
}

void breaker_doc_fill(struct breaker_message *x, const char *target, const struct breaker *b)
{
    *x = (struct breaker_message){
        .m = PB_INIT(BREAKER_CHANGED), .permit = PB_INIT(BREAKER_PERMIT), .totals = PB_INIT(BREAKER_TOTALS)};
    PB(BreakerChanged) *m = &x->m;
    m->target = (char *)target;
    m->epoch = b->epoch;
    m->state = (PB(BreakerState))b->state;
    m->previous = (PB(BreakerState))b->previous;
    m->reason = (PB(BreakerReason))b->reason;
    m->changed_unix_ms = b->changed_ms;
    m->since_unix_ms = b->since_ms;
    m->until_unix_ms = b->until_ms;
    m->ramp_percent = b->ramp_percent;
    m->open_count = b->open_count;
    m->evidence_unix_ms = b->evidence_ms;
    m->maker = b->maker;
    if (b->forced_by)
        m->forced_by = (char *)b->forced_by;
    if (b->forced_why)
        m->forced_why = (char *)b->forced_why;
    if (b->scope)
        m->scope = (char *)b->scope;
    write_detail(x->detail, sizeof x->detail, b);
    m->detail = x->detail;

    x->permit.id = b->permit.id;
    x->permit.holder = (char *)b->permit.holder;
    x->permit.expires_unix_ms = b->permit.expires_ms;
    m->permit = &x->permit;
    breaker_doc_totals(&x->totals, &b->totals);
    m->totals = &x->totals;
}

int breaker_doc_read(struct breaker *b, const PB(BreakerChanged) * m, const char *target, struct err *e)
{
    if (strcmp(m->target, target) != 0)
        return err_set(e, "it is of target %.128s, not of %s", m->target, target);
    struct breaker r = {.state = (int)m->state,
                        .previous = (int)m->previous,
                        .reason = (int)m->reason,
                        .epoch = m->epoch,
                        .changed_ms = m->changed_unix_ms,
                        .since_ms = m->since_unix_ms,
                        .until_ms = m->until_unix_ms,
                        .ramp_percent = m->ramp_percent,
                        .open_count = m->open_count,
                        .evidence_ms = m->evidence_unix_ms,
                        .maker = m->maker,
                        .forced_by = m->forced_by[0] ? m->forced_by : NULL,
                        .forced_why = m->forced_why[0] ? m->forced_why : NULL,
                        .scope = m->scope[0] ? m->scope : NULL};
    if (m->permit) {
        r.permit.id = m->permit->id;
        r.permit.expires_ms = m->permit->expires_unix_ms;
        snprintf(r.permit.holder, sizeof r.permit.holder, "%s", m->permit->holder);
    }
    if (m->totals) {
        r.totals.calls = m->totals->calls;
        r.totals.failures = m->totals->failures;
        r.totals.slow = m->totals->slow;
        r.totals.consecutive = m->totals->consecutive_failures;
        r.totals.reporters = m->totals->reporters;
        r.totals.failing = m->totals->failing_reporters;
    }
    if (r.state <= BREAKER_NONE || r.state >= BREAKER_STATES || r.previous >= BREAKER_STATES ||
        !breaker_sm.invariant(&r))
        return err_set(e, "no breaker can be in state %s as this says", sm_name(&breaker_sm, r.state));
    *b = r;
    return 0;
}
