/* window.h - evidence: what was gathered since the last flush (delta), and the sliding window that deltas are merged into.
 *
 * The window that counts is in Redis, merged by the script in breaker_state.c; this is the same rule in C, for the time when Redis is
 * away, and what the script is tested against. It belongs to one epoch of the document: a merge under another empties it. */
#ifndef REDOUBT_BREAKER_WINDOW_H
#define REDOUBT_BREAKER_WINDOW_H

#include "breaker/breaker.h"

#define BREAKER_REPORTERS 32 /* those heard last; of more than that a sample votes */

struct breaker_delta {
    uint32_t calls, failures, slow;
    uint32_t passed;
    uint32_t lead, tail; /* failures before the first, and after the last success (no success: all in lead) */
    int64_t lead_since_ms, tail_since_ms;
    int64_t first_failure_ms, retry_until_ms;
    uint32_t n_reporters, next_slot;
    struct breaker_vote {
        uint64_t reporter; /* 56 bits */
        bool bad;
    } votes[BREAKER_REPORTERS];
};
void breaker_delta_add(struct breaker_delta *d, const struct breaker_call *c);
/* Adds what came later. */
void breaker_delta_join(struct breaker_delta *d, const struct breaker_delta *later);

struct breaker_window {
    uint64_t epoch;
    int64_t bucket_ms, newest; /* number of the newest bucket */
    uint32_t calls, failures, slow, consecutive;
    uint64_t passed;
    int64_t first_failure_ms, run_since_ms, retry_until_ms;
    struct {
        uint32_t calls, failures, slow;
    } at[BREAKER_BUCKETS];
    uint32_t n_reporters, n_bad;
    struct { /* in order of when they were heard last */
        struct breaker_vote vote;
        int64_t bucket;
    } seen[BREAKER_REPORTERS];
};
int64_t breaker_bucket_ms(int64_t window_ms);
/* d may be NULL: time passes. */
struct breaker_totals breaker_window_merge(struct breaker_window *w, uint64_t epoch, int64_t bucket_ms,
                                           int64_t now_ms, const struct breaker_delta *d);
/* The window as one delta, to be merged elsewhere. */
struct breaker_delta breaker_window_delta(const struct breaker_window *w);

#endif
