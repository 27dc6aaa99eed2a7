/* window.c - deltas of evidence and the sliding window. Pure; see window.h. */
#include "breaker/window.h"
#include <string.h>

#define REPORTER_MASK ((UINT64_C(1) << 40) - 1)

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

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* A success in it ends the run that was before. */
static bool breaks(const struct breaker_delta *d)
{
    return d->passed > 0 && !d->late;
}

/* ---- votes ---- */

static struct breaker_vote vote_of(uint64_t reporter)
{
    reporter &= REPORTER_MASK;
    return (struct breaker_vote){.low = (uint32_t)reporter, .high = (uint8_t)(reporter >> 32)};
}

static bool same_reporter(const struct breaker_vote *a, const struct breaker_vote *b)
{
    return a->low == b->low && a->high == b->high;
}

/* What came later on top of what was known. */
static void vote_join(struct breaker_vote *v, const struct breaker_vote *l)
{
    if (l->flags & BREAKER_VOTE_LATE)
        return;
    v->flags &= (uint8_t)~BREAKER_VOTE_LATE;
    bool anew = l->flags & BREAKER_VOTE_RESET;
    v->run = anew ? l->run : (uint8_t)least((uint32_t)v->run + l->run, UINT8_MAX);
    v->flags = (uint8_t)((v->flags & BREAKER_VOTE_RESET) | l->flags);
    if (!(l->flags & BREAKER_VOTE_BAD))
        v->flags &= (uint8_t)~BREAKER_VOTE_BAD;
}

void breaker_vote_pack(const struct breaker_vote *v, unsigned char out[static BREAKER_VOTE_BYTES])
{
    for (unsigned k = 0; k < 4; k++)
        out[k] = (unsigned char)(v->low >> (8 * k));
    out[4] = v->high;
    out[5] = v->run;
    out[6] = v->flags;
}

/* ---- delta ---- */

static void delta_vote(struct breaker_delta *d, const struct breaker_vote *v)
{
    /* A batch is of one reporter: most often it is the one of before. */
    if (d->last_slot < d->n_reporters && same_reporter(&d->votes[d->last_slot], v)) {
        vote_join(&d->votes[d->last_slot], v);
        return;
    }
    for (uint32_t i = 0; i < d->n_reporters; i++)
        if (same_reporter(&d->votes[i], v)) {
            vote_join(&d->votes[i], v);
            d->last_slot = i;
            return;
        }
    uint32_t slot = d->n_reporters < BREAKER_REPORTERS ? d->n_reporters++ : d->next_slot++ % BREAKER_REPORTERS;
    d->votes[slot] = *v;
    d->last_slot = slot;
}

void breaker_delta_add(struct breaker_delta *d, const struct breaker_call *c)
{
    if (c->class == BREAKER_CALL_IGNORED)
        return;
    add32(&d->calls, 1);
    add32(&d->slow, c->slow);
    if (c->class == BREAKER_CALL_GOOD) {
        add32(&d->passed, 1);
        d->late = false;
        d->tail = 0;
        d->tail_since_ms = 0;
    } else if (c->class == BREAKER_CALL_FAILED) {
        bool lead = !breaks(d);
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
    struct breaker_vote v = vote_of(c->reporter);
    v.run = c->class == BREAKER_CALL_FAILED;
    v.flags = (uint8_t)((c->class == BREAKER_CALL_FAILED || c->slow ? BREAKER_VOTE_BAD : 0) |
                        (c->class == BREAKER_CALL_GOOD ? BREAKER_VOTE_RESET : 0));
    delta_vote(d, &v);
}

void breaker_delta_join(struct breaker_delta *d, const struct breaker_delta *l)
{
    bool broken = breaks(d), later_breaks = breaks(l);
    if (later_breaks) {
        if (!broken) {
            d->lead_since_ms = d->lead ? d->lead_since_ms : l->lead_since_ms;
            add32(&d->lead, l->lead);
        }
        d->tail = l->tail;
        d->tail_since_ms = l->tail_since_ms;
    } else if (l->lead > 0) {
        uint32_t *run = !broken ? &d->lead : &d->tail;
        int64_t *since_ms = !broken ? &d->lead_since_ms : &d->tail_since_ms;
        *since_ms = *run ? *since_ms : l->lead_since_ms;
        add32(run, l->lead);
    }
    if (d->failures == 0)
        d->first_failure_ms = l->first_failure_ms;
    add32(&d->calls, l->calls);
    add32(&d->failures, l->failures);
    add32(&d->slow, l->slow);
    add32(&d->passed, l->passed);
    d->late = d->passed > 0 && !broken && !later_breaks;
    d->retry_until_ms = later(d->retry_until_ms, l->retry_until_ms);
    for (uint32_t i = 0; i < l->n_reporters; i++)
        delta_vote(d, &l->votes[i]);
}

void breaker_delta_late(struct breaker_delta *d)
{
    if (!breaks(d) || d->lead > 0 || d->tail != d->failures)
        return; /* nothing to be late with; or a success came after a failure */
    d->late = true;
    d->lead = d->tail;
    d->lead_since_ms = d->tail_since_ms;
    d->tail = 0;
    d->tail_since_ms = 0;
    for (uint32_t i = 0; i < d->n_reporters; i++) {
        struct breaker_vote *v = &d->votes[i];
        v->flags &= (uint8_t)~BREAKER_VOTE_RESET;
        if (v->flags == 0)
            v->flags = BREAKER_VOTE_LATE;
    }
}

/* ---- window ---- */

static int64_t bucket_ms(int64_t window_ms)
{
    return window_ms >= BREAKER_BUCKETS ? window_ms / BREAKER_BUCKETS : 1;
}

struct breaker_span breaker_span_of(const struct breaker_rule *rule)
{
    if (rule->window_calls == 0)
        return (struct breaker_span){.per_ms = bucket_ms(rule->window_ms)};
    /* A bucket that few calls come into ends after one `window`: so the ten of them never hold what is older than ten. */
    return (struct breaker_span){.per_ms = later(rule->window_ms, 1),
                                 .size = (rule->window_calls + BREAKER_BUCKETS - 1) / BREAKER_BUCKETS};
}

static void forget_reporter(struct breaker_window *w, uint32_t i)
{
    w->n_reporters--;
    memmove(&w->seen[i], &w->seen[i + 1], (w->n_reporters - i) * sizeof w->seen[0]);
}

static void next_bucket(struct breaker_window *w)
{
    uint32_t i = w->at_now = (w->at_now + 1) % BREAKER_BUCKETS;
    w->calls -= w->at[i].calls;
    w->failures -= w->at[i].failures;
    w->slow -= w->at[i].slow;
    memset(&w->at[i], 0, sizeof w->at[i]);
}

static void advance(struct breaker_window *w, int64_t bucket)
{
    if (bucket - w->newest >= BREAKER_BUCKETS || w->newest - bucket >= BREAKER_BUCKETS) {
        /* All of it is old; or the clock that wrote it was ahead by more than a window, which would freeze it. */
        memset(w->at, 0, sizeof w->at);
        w->calls = w->failures = w->slow = w->n_reporters = 0;
        w->newest = bucket;
    }
    for (; w->newest < bucket; w->newest++)
        next_bucket(w);
    while (w->n_reporters > 0 && w->newest - w->seen[0].bucket >= BREAKER_BUCKETS)
        forget_reporter(w, 0);
    if (w->failures == 0)
        w->first_failure_ms = 0;
}

static void window_vote(struct breaker_window *w, const struct breaker_vote *v)
{
    struct breaker_vote is = {.low = v->low, .high = v->high};
    for (uint32_t i = 0; i < w->n_reporters; i++)
        if (same_reporter(&w->seen[i].vote, v)) {
            is = w->seen[i].vote;
            forget_reporter(w, i);
            break;
        }
    vote_join(&is, v);
    is.flags &= BREAKER_VOTE_BAD;
    if (w->n_reporters == BREAKER_REPORTERS)
        forget_reporter(w, 0);
    w->seen[w->n_reporters].vote = is;
    w->seen[w->n_reporters++].bucket = w->newest;
}

static void put_up_to(uint32_t *cell, uint32_t *sum, uint64_t n)
{
    uint32_t room = BREAKER_CALLS_MAX - *cell;
    uint32_t k = n < room ? (uint32_t)n : room;
    *cell += k;
    *sum += k;
}

static void put(struct breaker_window *w, uint64_t calls, uint64_t failures, uint64_t slow)
{
    uint32_t i = w->at_now;
    put_up_to(&w->at[i].calls, &w->calls, calls);
    put_up_to(&w->at[i].failures, &w->failures, failures);
    put_up_to(&w->at[i].slow, &w->slow, slow);
}

/* In which order they came is not known any more: failures and slow ones are spread evenly. */
static void spread(struct breaker_window *w, uint64_t calls, uint64_t failures, uint64_t slow)
{
    uint64_t size = w->span.size, all = size * BREAKER_BUCKETS;
    if (calls > all) { /* the first of them are out of it already */
        failures = failures * all / calls;
        slow = slow * all / calls;
        calls = all;
    }
    while (calls > 0) {
        if (w->at[w->at_now].calls >= size)
            next_bucket(w);
        uint64_t room = size - w->at[w->at_now].calls, k = calls < room ? calls : room;
        uint64_t bad = failures * k / calls, late = slow * k / calls;
        put(w, k, bad, late);
        calls -= k;
        failures -= bad;
        slow -= late;
    }
}

static void merge(struct breaker_window *w, const struct breaker_delta *d)
{
    if (w->failures == 0)
        w->first_failure_ms = d->first_failure_ms;
    if (w->span.size)
        spread(w, d->calls, d->failures, d->slow);
    else
        put(w, d->calls, d->failures, d->slow);
    add32(&w->passed, d->passed);
    if (breaks(d)) {
        w->consecutive = d->tail;
        w->run_since_ms = d->tail_since_ms;
    } else if (d->lead > 0) {
        w->run_since_ms = w->consecutive ? w->run_since_ms : d->lead_since_ms;
        add32(&w->consecutive, d->lead);
    }
    w->retry_until_ms = later(w->retry_until_ms, d->retry_until_ms);
    for (uint32_t r = 0; r < d->n_reporters; r++)
        window_vote(w, &d->votes[r]);
}

struct breaker_totals breaker_window_merge(struct breaker_window *w, uint64_t epoch, struct breaker_span span,
                                           int64_t now_ms, const struct breaker_delta *d)
{
    int64_t bucket = now_ms / span.per_ms;
    if (w->epoch != epoch || w->span.per_ms != span.per_ms || w->span.size != span.size)
        *w = (struct breaker_window){.epoch = epoch, .span = span, .newest = bucket};
    advance(w, bucket);
    if (d)
        merge(w, d);
    struct breaker_totals t = {.calls = w->calls,
                               .failures = w->failures,
                               .slow = w->slow,
                               .consecutive = w->consecutive,
                               .passed = w->passed,
                               .first_failure_ms = w->first_failure_ms,
                               .run_since_ms = w->run_since_ms,
                               .retry_until_ms = w->retry_until_ms};
    for (uint32_t i = 0; i < w->n_reporters; i++)
        breaker_totals_vote(&t, w->seen[i].vote.run, w->seen[i].vote.flags & BREAKER_VOTE_BAD);
    return t;
}

struct breaker_delta breaker_window_delta(const struct breaker_window *w)
{
    struct breaker_delta d = {.calls = w->calls,
                              .failures = w->failures,
                              .slow = w->slow,
                              .passed = w->passed,
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
    for (uint32_t i = 0; i < w->n_reporters; i++) {
        d.votes[i] = w->seen[i].vote;
        if (d.votes[i].run == 0)
            d.votes[i].flags |= BREAKER_VOTE_RESET;
    }
    return d;
}
