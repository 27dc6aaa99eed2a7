/* window.h - evidence: what was gathered since the last flush (delta), and the sliding window that deltas are merged into.
 *
 * The window that counts is in Redis, merged by the script in breaker_state.c; this is the same rule in C, for the time when Redis is
 * away, and what the script is tested against. It belongs to one epoch of the document: a merge under another empties it. */
#ifndef REDOUBT_BREAKER_WINDOW_H
#define REDOUBT_BREAKER_WINDOW_H

#include "breaker/breaker.h"

#define BREAKER_CALLS_MAX 0xffffff /* that one bucket counts */

enum { BREAKER_VOTE_BAD = 1, BREAKER_VOTE_RESET = 2, BREAKER_VOTE_LATE = 4 };
/* One reporter: 40 bits of the hash of its name, and what it has seen. */
struct breaker_vote {
    uint32_t low;
    uint8_t high;
    uint8_t run; /* failures in a row, of this reporter alone; saturates */
    uint8_t
        flags; /* BAD: its last call failed or was slow. RESET: a success came before the run. LATE: it is here, no more */
};
#define BREAKER_VOTE_BYTES 7 /* as the script takes it: hash, run, flags */
void breaker_vote_pack(const struct breaker_vote *v, unsigned char out[static BREAKER_VOTE_BYTES]);

struct breaker_delta {
    uint32_t calls, failures, slow;
    uint32_t passed;
    bool late;           /* its successes have waited: see breaker_delta_late() */
    uint32_t lead, tail; /* failures before the first, and after the last success (no success: all in lead) */
    int64_t lead_since_ms, tail_since_ms;
    int64_t first_failure_ms, retry_until_ms;
    uint32_t n_reporters, next_slot, last_slot;
    struct breaker_vote votes[BREAKER_REPORTERS];
};
void breaker_delta_add(struct breaker_delta *d, const struct breaker_call *c);
/* Adds what came later. */
void breaker_delta_join(struct breaker_delta *d, const struct breaker_delta *later);

/* Its successes have waited for their flush. Failures that other replicas have seen since are in the window already, so these successes
 * come too late to break a run, or to take a vote back: they count as calls, and say who is there. */
void breaker_delta_late(struct breaker_delta *d);

/* When a bucket ends. */
struct breaker_span {
    int64_t per_ms; /* after this time, */
    uint32_t size;  /* or, with a window of calls, after so many; 0 = by time alone */
};
struct breaker_span breaker_span_of(const struct breaker_rule *rule);

struct breaker_window {
    uint64_t epoch;
    struct breaker_span span;
    int64_t newest;  /* number of the newest bucket's time */
    uint32_t at_now; /* the newest bucket */
    uint32_t calls, failures, slow, consecutive, passed;
    int64_t first_failure_ms, run_since_ms, retry_until_ms;
    struct {
        uint32_t calls, failures, slow;
    } at[BREAKER_BUCKETS];
    uint32_t n_reporters;
    struct { /* in order of when they were heard last */
        struct breaker_vote vote;
        int64_t bucket;
    } seen[BREAKER_REPORTERS];
};
/* d may be NULL: time passes. */
struct breaker_totals breaker_window_merge(struct breaker_window *w, uint64_t epoch, struct breaker_span span,
                                           int64_t now_ms, const struct breaker_delta *d);
/* The window as one delta, to be merged elsewhere. */
struct breaker_delta breaker_window_delta(const struct breaker_window *w);

#endif
