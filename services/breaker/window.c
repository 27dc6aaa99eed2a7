/* window.c - deltas of evidence and the sliding window. Pure; see window.h. */
#include "breaker/window.h"
#include <string.h>

#define REPORTER_MASK ((UINT64_C(1) << 56) - 1)

static void add32(uint32_t *a, uint32_t b)
{
    if (__builtin_add_overflow(*a, b, a))
        *a = UINT32_MAX;
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

static int64_t later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* ---- delta ---- */

static void delta_vote(struct breaker_delta *d, uint64_t reporter, bool bad)
{
    reporter &= REPORTER_MASK;
    for (uint32_t i = 0; i < d->n_reporters; i++)
        if (d->votes[i].reporter == reporter) {
            d->votes[i].bad = bad;
            return;
        }
    uint32_t slot = d->n_reporters < BREAKER_REPORTERS ? d->n_reporters++ : d->next_slot++ % BREAKER_REPORTERS;
    d->votes[slot] = (struct breaker_vote){.reporter = reporter, .bad = bad};
}

void breaker_delta_add(struct breaker_delta *d, const struct breaker_call *c)
{
    if (c->class == BREAKER_CALL_IGNORED)
        return;
    add32(&d->calls, 1);
    add32(&d->slow, c->slow);
    if (c->class == BREAKER_CALL_GOOD) {
        add32(&d->passed, 1);
        d->tail = 0;
        d->tail_since_ms = 0;
    } else if (c->class == BREAKER_CALL_FAILED) {
        bool lead = d->passed == 0;
        uint32_t *run = lead ? &d->lead : &d->tail;
        int64_t *since_ms = lead ? &d->lead_since_ms : &d->tail_since_ms;
        if (*run == 0)
            *since_ms = c->at_ms;
        add32(run, 1);
        if (d->failures == 0)
            d->first_failure_ms = c->at_ms;
        add32(&d->failures, 1);
        d->retry_until_ms = later(d->retry_until_ms, c->retry_until_ms);
    }
    delta_vote(d, c->reporter, c->class == BREAKER_CALL_FAILED || c->slow);
}

void breaker_delta_join(struct breaker_delta *d, const struct breaker_delta *l)
{
    if (l->passed > 0) {
        if (d->passed == 0) {
            d->lead_since_ms = d->lead ? d->lead_since_ms : l->lead_since_ms;
            add32(&d->lead, l->lead);
        }
        d->tail = l->tail;
        d->tail_since_ms = l->tail_since_ms;
    } else if (l->lead > 0) {
        uint32_t *run = d->passed == 0 ? &d->lead : &d->tail;
        int64_t *since_ms = d->passed == 0 ? &d->lead_since_ms : &d->tail_since_ms;
        *since_ms = *run ? *since_ms : l->lead_since_ms;
        add32(run, l->lead);
    }
    if (d->failures == 0)
        d->first_failure_ms = l->first_failure_ms;
    add32(&d->calls, l->calls);
    add32(&d->failures, l->failures);
    add32(&d->slow, l->slow);
    add32(&d->passed, l->passed);
    d->retry_until_ms = later(d->retry_until_ms, l->retry_until_ms);
    for (uint32_t i = 0; i < l->n_reporters; i++)
        delta_vote(d, l->votes[i].reporter, l->votes[i].bad);
}

/* ---- window ---- */

int64_t breaker_bucket_ms(int64_t window_ms)
{
    return window_ms >= BREAKER_BUCKETS ? window_ms / BREAKER_BUCKETS : 1;
}

static void forget_reporter(struct breaker_window *w, uint32_t i)
{
    w->n_bad -= w->seen[i].vote.bad;
    w->n_reporters--;
    memmove(&w->seen[i], &w->seen[i + 1], (w->n_reporters - i) * sizeof w->seen[0]);
}

static void advance(struct breaker_window *w, int64_t bucket)
{
    if (bucket - w->newest >= BREAKER_BUCKETS || w->newest - bucket >= BREAKER_BUCKETS) {
        /* All of it is old; or the clock that wrote it was ahead by more than a window, which would freeze it. */
        memset(w->at, 0, sizeof w->at);
        w->calls = w->failures = w->slow = w->n_reporters = w->n_bad = 0;
        w->newest = bucket;
    }
    while (w->newest < bucket) {
        w->newest++;
        size_t i = (size_t)(w->newest % BREAKER_BUCKETS);
        w->calls -= w->at[i].calls;
        w->failures -= w->at[i].failures;
        w->slow -= w->at[i].slow;
        memset(&w->at[i], 0, sizeof w->at[i]);
    }
    while (w->n_reporters > 0 && w->newest - w->seen[0].bucket >= BREAKER_BUCKETS)
        forget_reporter(w, 0);
    if (w->failures == 0)
        w->first_failure_ms = 0;
}

static void window_vote(struct breaker_window *w, struct breaker_vote v)
{
    for (uint32_t i = 0; i < w->n_reporters; i++)
        if (w->seen[i].vote.reporter == v.reporter) {
            forget_reporter(w, i);
            break;
        }
    if (w->n_reporters == BREAKER_REPORTERS)
        forget_reporter(w, 0);
    w->seen[w->n_reporters].vote = v;
    w->seen[w->n_reporters++].bucket = w->newest;
    w->n_bad += v.bad;
}

static void merge(struct breaker_window *w, const struct breaker_delta *d)
{
    size_t i = (size_t)(w->newest % BREAKER_BUCKETS);
    if (w->failures == 0)
        w->first_failure_ms = d->first_failure_ms;
    w->at[i].calls += d->calls;
    w->at[i].failures += d->failures;
    w->at[i].slow += d->slow;
    w->calls += d->calls;
    w->failures += d->failures;
    w->slow += d->slow;
    w->passed += d->passed;
    if (d->passed > 0) {
        w->consecutive = d->tail;
        w->run_since_ms = d->tail_since_ms;
    } else if (d->lead > 0) {
        w->run_since_ms = w->consecutive ? w->run_since_ms : d->lead_since_ms;
        w->consecutive += d->lead;
    }
    w->retry_until_ms = later(w->retry_until_ms, d->retry_until_ms);
    for (uint32_t r = 0; r < d->n_reporters; r++)
        window_vote(w, d->votes[r]);
}

struct breaker_totals breaker_window_merge(struct breaker_window *w, uint64_t epoch, int64_t bucket_ms,
                                           int64_t now_ms, const struct breaker_delta *d)
{
    int64_t bucket = now_ms / bucket_ms;
    if (w->epoch != epoch || w->bucket_ms != bucket_ms)
        *w = (struct breaker_window){.epoch = epoch, .bucket_ms = bucket_ms, .newest = bucket};
    advance(w, bucket);
    if (d)
        merge(w, d);
    return (struct breaker_totals){.calls = w->calls,
                                   .failures = w->failures,
                                   .slow = w->slow,
                                   .consecutive = w->consecutive,
                                   .reporters = w->n_reporters,
                                   .failing = w->n_bad,
                                   .passed = w->passed,
                                   .first_failure_ms = w->first_failure_ms,
                                   .run_since_ms = w->run_since_ms,
                                   .retry_until_ms = w->retry_until_ms};
}

struct breaker_delta breaker_window_delta(const struct breaker_window *w)
{
    struct breaker_delta d = {.calls = w->calls,
                              .failures = w->failures,
                              .slow = w->slow,
                              .passed = w->passed < UINT32_MAX ? (uint32_t)w->passed : UINT32_MAX,
                              .first_failure_ms = earlier(w->first_failure_ms, w->run_since_ms),
                              .retry_until_ms = w->retry_until_ms,
                              .n_reporters = w->n_reporters};
    if (w->passed > 0) {
        d.tail = w->consecutive;
        d.tail_since_ms = w->run_since_ms;
    } else {
        d.lead = w->consecutive;
        d.lead_since_ms = w->run_since_ms;
    }
    for (uint32_t i = 0; i < w->n_reporters; i++)
        d.votes[i] = w->seen[i].vote;
    return d;
}
