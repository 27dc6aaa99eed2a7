/* health.h - the verdict on one target, pure: (verdict, rule, result, now) -> verdict'. No I/O, no clock, no allocation.
 *
 * Times are shared milliseconds (clock_shared_ms). A result is good, off (works, but slowly or with a wrong key) or bad. */
#ifndef REDOUBT_HEALTH_H
#define REDOUBT_HEALTH_H

#include "common/sm.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Numbers as in proto/redoubt/v1/health.proto and common.proto; health_doc.c asserts it. */
enum health_state {
    HEALTH_NONE,
    HEALTH_UNKNOWN,
    HEALTH_HEALTHY,
    HEALTH_DEGRADED,
    HEALTH_UNHEALTHY,
    HEALTH_FLAPPING,
    HEALTH_MAINTENANCE,
    HEALTH_STATES
};
enum health_probe_kind {
    HEALTH_PROBE_HTTP = 1,
    HEALTH_PROBE_TCP,
    HEALTH_PROBE_TLS,
    HEALTH_PROBE_DNS,
    HEALTH_PROBE_LLM,
    HEALTH_PROBE_HEARTBEAT,
    HEALTH_PROBE_RESOURCE,
    HEALTH_PROBE_LOG,
    HEALTH_PROBE_SELFTEST,
    HEALTH_PROBE_BUS,
    HEALTH_PROBE_STORE,
    HEALTH_PROBE_LINK,
    HEALTH_PROBE_DECISIONS,
};
enum health_fault {
    HEALTH_FAULT_CANCELLED, /* not said: the probe was broken off by us, and says nothing */
    HEALTH_FAULT_NONE,
    HEALTH_FAULT_RESOLVE,
    HEALTH_FAULT_CONNECT,
    HEALTH_FAULT_TLS,
    HEALTH_FAULT_TIMEOUT,
    HEALTH_FAULT_CUT,
    HEALTH_FAULT_STATUS,
    HEALTH_FAULT_QUOTA,
    HEALTH_FAULT_OVERLOAD,
    HEALTH_FAULT_AUTH,
    HEALTH_FAULT_SCHEMA,
    HEALTH_FAULT_TOO_LARGE,
    HEALTH_FAULT_SLOW,
    HEALTH_FAULT_SILENT,
    HEALTH_FAULT_STUCK,
    HEALTH_FAULT_EXHAUSTED,
    HEALTH_FAULT_REFUSED,
    HEALTH_FAULT_MISMATCH,
    HEALTH_FAULT_EXPIRING,
    HEALTH_FAULT_CERTIFICATE,
    HEALTH_FAULT_OOM,
    HEALTH_FAULT_PATTERN,
    HEALTH_FAULT_QUIET,
    HEALTH_FAULT_WRONG_ANSWER,
    HEALTH_FAULT_MALFORMED,
    HEALTH_FAULT_CONTRADICTION,
    HEALTH_FAULT_REPETITION,
    HEALTH_FAULT_DENIED,
    HEALTH_FAULT_EXCEPTIONS,
    HEALTH_FAULTS
};
enum health_failure {
    HEALTH_FAILURE_NONE,
    HEALTH_FAILURE_LLM,
    HEALTH_FAILURE_BACKEND,
    HEALTH_FAILURE_LOGIC,
    HEALTH_FAILURE_RESOURCE,
    HEALTH_FAILURE_NETWORK,
    HEALTH_FAILURE_AGENT_DOWN,
};
/* Numbers as in report.proto. */
enum health_outcome {
    HEALTH_OUTCOME_NONE,
    HEALTH_OUTCOME_SUCCESS,
    HEALTH_OUTCOME_ERROR,
    HEALTH_OUTCOME_TIMEOUT,
    HEALTH_OUTCOME_RATE_LIMITED,
    HEALTH_OUTCOME_OVERLOADED,
    HEALTH_OUTCOME_UNREACHABLE,
    HEALTH_OUTCOME_IGNORED = 8,
};

enum health_target_kind { HEALTH_TARGET_LLM, HEALTH_TARGET_BACKEND, HEALTH_TARGET_OTHER, HEALTH_TARGET_AGENT };

/* One result of one probe. */
#define HEALTH_DETAIL_MAX 120
struct health_result {
    int64_t started_ms, ended_ms;
    uint32_t total_ms;
    uint32_t first_token_ms;                   /* 0 = not measured */
    uint32_t retry_after_ms;                   /* 0 = none */
    uint32_t prompt_tokens, completion_tokens; /* llm: as the API says; 0 = not said */
    uint32_t cost_microusd;
    uint16_t status; /* HTTP; 0 = none */
    uint8_t probe;   /* enum health_probe_kind */
    uint8_t fault;   /* enum health_fault */
    char detail[HEALTH_DETAIL_MAX];
};
/* Fills the detail: one line, valid UTF-8, cut at a whole character. */
__attribute__((format(printf, 2, 3))) void health_detail(struct health_result *r, const char *fmt, ...);

struct health_rule {
    enum health_target_kind kind;
    uint32_t fall, rise;
    int64_t slow_ms; /* 0 = never */
};

#define HEALTH_EVIDENCE_MAX 20
#define HEALTH_DETAILS_MAX  3
/* A result as it is kept for evidence. Small, as there are twenty for each of many thousand targets: few results have a detail, and those
 * of one cause have the same, so that the last few different ones are kept beside. */
struct health_mark {
    int64_t ended_ms;
    uint32_t total_ms, first_token_ms;
    uint32_t prompt_tokens, completion_tokens, cost_microusd;
    uint16_t status;
    uint8_t probe, fault;
    uint8_t detail; /* which of the details, from 1; 0 = none, or no longer kept */
};
/* Flapping as Icinga has it: the share of changes among the last 20 results, the newer ones weighing more. */
#define HEALTH_FLAP_WINDOW 20
#define HEALTH_FLAP_HIGH   30
#define HEALTH_FLAP_LOW    25

/* Results in a row of one sort, and when the first of them came. */
struct health_streak {
    uint32_t n;
    int64_t since_ms;
};
struct health {
    int state, previous;
    int failure;      /* enum health_failure; NONE while HEALTHY */
    int cause;        /* the fault behind the state; NONE while HEALTHY */
    int64_t since_ms; /* first evidence of the state */
    int64_t changed_ms;
    int64_t maintenance_until_ms;
    uint64_t history;                              /* newest in bit 0; set = not bad */
    uint32_t seen;                                 /* of its bits, up to 64 */
    struct health_streak bad, up, good, off, same; /* up: not bad. off: not good. same: with one and the same fault */
    int64_t newest_up_started_ms, newest_bad_started_ms;
    uint8_t n_evidence, evidence_at; /* a ring; evidence_at is the newest */
    uint8_t detail_at;               /* the newest of the details, from 1; 0 = there is none */
    struct health_mark evidence[HEALTH_EVIDENCE_MAX];
    char details[HEALTH_DETAILS_MAX][HEALTH_DETAIL_MAX];
};
extern const struct sm_table health_sm;

void health_init(struct health *h, int64_t now_ms);
/* Begins with a verdict that others have given (a document): what was seen here so far is forgotten. */
void health_adopt(struct health *h, int state, int failure, int cause, int64_t since_ms, int64_t changed_ms);

enum health_taken {
    HEALTH_STALE,   /* a failure of a probe that began before one that has succeeded: no news, not counted */
    HEALTH_COUNTED, /* no change */
    HEALTH_CHANGED,
};
/* `r` may be changed: an answer that is slower than the rule allows becomes SLOW. */
enum health_taken health_take(struct health *h, const struct health_rule *rule, struct health_result *r,
                              int64_t now_ms);
/* A person takes the target out until then, or (0) gives it back. True if anything changed. */
bool health_maintain(struct health *h, int64_t until_ms, int64_t now_ms);
/* True if a maintenance has ended: the state is UNKNOWN again. */
bool health_tick(struct health *h, int64_t now_ms);

/* True while the verdict may be about to change: then probes go fast. */
bool health_in_transition(const struct health *h, const struct health_rule *rule);
/* The i-th newest result, i < n_evidence. */
const struct health_mark *health_evidence(const struct health *h, size_t i);
const char *health_evidence_detail(const struct health *h, size_t i); /* "" if it has none */
/* Changes among the last results, in percent, weighted. */
uint32_t health_flap_percent(const struct health *h);
/* Why it is so, in one line. */
const char *health_reason(const struct health *h, char *buf, size_t size);

/* Which kind of failure a fault of such a target is. */
int health_failure_of(enum health_target_kind kind, int fault);
/* As which outcome of a call the breaker gets it. */
int health_outcome_of(const struct health_result *r);
const char *health_fault_text(int fault);
bool health_fault_is_bad(int fault); /* not only off */

/* What people must be told about a verdict. Outages of LLMs and backends are alerted by those who act on them (breaker,
 * fallback); what they do not see is alerted here. */
enum health_news { HEALTH_NO_NEWS, HEALTH_RAISE, HEALTH_RESOLVE };
struct health_notice {
    enum health_news news;
    int severity; /* numbers as in common.proto */
    bool manual;
};
/* previous_cause: the fault behind the previous state, as far as it is known; AUTH where it is not, so that nothing stays open. */
struct health_notice health_notice_of(enum health_target_kind kind, int state, int cause, int previous,
                                      int previous_cause);

#endif
