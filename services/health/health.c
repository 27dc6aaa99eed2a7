/* health.c - the verdict on one target: runs of results, flapping, classes of failure. */
#include "health/health.h"
#include "common/utf8.h"
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- tables ---- */

static const char *const state_names[HEALTH_STATES] = {
    [HEALTH_UNKNOWN] = "UNKNOWN",     [HEALTH_HEALTHY] = "HEALTHY",   [HEALTH_DEGRADED] = "DEGRADED",
    [HEALTH_UNHEALTHY] = "UNHEALTHY", [HEALTH_FLAPPING] = "FLAPPING", [HEALTH_MAINTENANCE] = "MAINTENANCE",
};
#define ANY_VERDICT                                                                                                  \
    (SM_BIT(HEALTH_HEALTHY) | SM_BIT(HEALTH_DEGRADED) | SM_BIT(HEALTH_UNHEALTHY) | SM_BIT(HEALTH_FLAPPING) |         \
     SM_BIT(HEALTH_MAINTENANCE))
/* A verdict once given is never taken back to UNKNOWN, but by the end of a maintenance: then nothing is known. */
static const uint32_t allowed[HEALTH_STATES] = {
    [HEALTH_UNKNOWN] = ANY_VERDICT,
    [HEALTH_HEALTHY] = ANY_VERDICT & ~SM_BIT(HEALTH_HEALTHY),
    [HEALTH_DEGRADED] = ANY_VERDICT & ~SM_BIT(HEALTH_DEGRADED),
    [HEALTH_UNHEALTHY] = ANY_VERDICT & ~SM_BIT(HEALTH_UNHEALTHY),
    [HEALTH_FLAPPING] = ANY_VERDICT & ~SM_BIT(HEALTH_FLAPPING),
    [HEALTH_MAINTENANCE] = SM_BIT(HEALTH_UNKNOWN),
};
static bool invariant(const void *object)
{
    const struct health *h = object;
    bool off = h->state == HEALTH_DEGRADED || h->state == HEALTH_UNHEALTHY || h->state == HEALTH_FLAPPING;
    return (h->failure != HEALTH_FAILURE_NONE) == off && (h->cause > HEALTH_FAULT_NONE) == off &&
           (h->maintenance_until_ms > 0) == (h->state == HEALTH_MAINTENANCE) && h->since_ms <= h->changed_ms;
}
const struct sm_table health_sm = {
    .name = "health", .n = HEALTH_STATES, .state_names = state_names, .allowed = allowed, .invariant = invariant};

enum grade { GOOD, OFF, BAD };
static const struct {
    const char *text;
    enum grade grade;
    int outcome;
} faults[HEALTH_FAULTS] = {
    [HEALTH_FAULT_CANCELLED] = {"broken off", OFF, HEALTH_OUTCOME_NONE},
    [HEALTH_FAULT_NONE] = {"well", GOOD, HEALTH_OUTCOME_SUCCESS},
    [HEALTH_FAULT_RESOLVE] = {"name not found", BAD, HEALTH_OUTCOME_UNREACHABLE},
    [HEALTH_FAULT_CONNECT] = {"cannot connect", BAD, HEALTH_OUTCOME_UNREACHABLE},
    [HEALTH_FAULT_TLS] = {"TLS failed", BAD, HEALTH_OUTCOME_UNREACHABLE},
    [HEALTH_FAULT_TIMEOUT] = {"no whole answer in time", BAD, HEALTH_OUTCOME_TIMEOUT},
    [HEALTH_FAULT_CUT] = {"cut in the middle", BAD, HEALTH_OUTCOME_ERROR},
    [HEALTH_FAULT_STATUS] = {"wrong status", BAD, HEALTH_OUTCOME_ERROR},
    [HEALTH_FAULT_QUOTA] = {"out of quota", BAD, HEALTH_OUTCOME_RATE_LIMITED},
    [HEALTH_FAULT_OVERLOAD] = {"overloaded", BAD, HEALTH_OUTCOME_OVERLOADED},
    /* The key is wrong, or the question was refused: the target itself answers. */
    [HEALTH_FAULT_AUTH] = {"key refused", OFF, HEALTH_OUTCOME_IGNORED},
    [HEALTH_FAULT_SCHEMA] = {"not the answer that the protocol asks for", BAD, HEALTH_OUTCOME_ERROR},
    [HEALTH_FAULT_TOO_LARGE] = {"answer too large", BAD, HEALTH_OUTCOME_ERROR},
    [HEALTH_FAULT_SLOW] = {"slow", OFF, HEALTH_OUTCOME_SUCCESS},
    [HEALTH_FAULT_SILENT] = {"no heartbeat", BAD, HEALTH_OUTCOME_NONE},
    [HEALTH_FAULT_STUCK] = {"alive, but its work stands still", OFF, HEALTH_OUTCOME_NONE},
    [HEALTH_FAULT_EXHAUSTED] = {"a resource is over its limit", OFF, HEALTH_OUTCOME_NONE},
    [HEALTH_FAULT_REFUSED] = {"question refused", OFF, HEALTH_OUTCOME_IGNORED},
    [HEALTH_FAULT_MISMATCH] = {"the answer is not what is expected", BAD, HEALTH_OUTCOME_ERROR},
    [HEALTH_FAULT_EXPIRING] = {"the certificate ends soon", OFF, HEALTH_OUTCOME_SUCCESS},
    [HEALTH_FAULT_CERTIFICATE] = {"the certificate is not valid", BAD, HEALTH_OUTCOME_UNREACHABLE},
    [HEALTH_FAULT_OOM] = {"killed for want of memory", BAD, HEALTH_OUTCOME_NONE},
    [HEALTH_FAULT_PATTERN] = {"too many lines of a kind in the log", BAD, HEALTH_OUTCOME_NONE},
    [HEALTH_FAULT_QUIET] = {"nothing in the log", BAD, HEALTH_OUTCOME_NONE},
    [HEALTH_FAULT_WRONG_ANSWER] = {"a self-test was answered wrongly", BAD, HEALTH_OUTCOME_NONE},
    [HEALTH_FAULT_MALFORMED] = {"decisions that cannot be used", BAD, HEALTH_OUTCOME_NONE},
    [HEALTH_FAULT_CONTRADICTION] = {"decisions that contradict each other", BAD, HEALTH_OUTCOME_NONE},
    [HEALTH_FAULT_REPETITION] = {"the same action again and again", BAD, HEALTH_OUTCOME_NONE},
    [HEALTH_FAULT_DENIED] = {"too many actions denied", BAD, HEALTH_OUTCOME_NONE},
    [HEALTH_FAULT_EXCEPTIONS] = {"too many exceptions", BAD, HEALTH_OUTCOME_NONE},
};

const char *health_fault_text(int fault)
{
    return fault >= 0 && fault < HEALTH_FAULTS ? faults[fault].text : "?";
}

/* ---- classes ---- */

/* The agent is there and works, but decides wrongly. */
static bool is_logic(int fault)
{
    return fault >= HEALTH_FAULT_WRONG_ANSWER && fault <= HEALTH_FAULT_EXCEPTIONS;
}

int health_failure_of(enum health_target_kind kind, int fault)
{
    switch (kind) {
    case HEALTH_TARGET_LLM:
        return HEALTH_FAILURE_LLM;
    case HEALTH_TARGET_BACKEND:
        return HEALTH_FAILURE_BACKEND;
    case HEALTH_TARGET_AGENT: /* work that waits and does not move is a resource used up, until a self-test says more */
        return fault == HEALTH_FAULT_SILENT                                            ? HEALTH_FAILURE_AGENT_DOWN
               : is_logic(fault) || fault == HEALTH_FAULT_TIMEOUT /* of a self-test */ ? HEALTH_FAILURE_LOGIC
                                                                                       : HEALTH_FAILURE_RESOURCE;
    case HEALTH_TARGET_OTHER:
        break;
    }
    switch (fault) {
    case HEALTH_FAULT_QUOTA:
    case HEALTH_FAULT_OVERLOAD:
    case HEALTH_FAULT_SLOW:
    case HEALTH_FAULT_EXHAUSTED:
    case HEALTH_FAULT_OOM:
        return HEALTH_FAILURE_RESOURCE;
    case HEALTH_FAULT_STATUS:
    case HEALTH_FAULT_AUTH:
    case HEALTH_FAULT_SCHEMA:
    case HEALTH_FAULT_TOO_LARGE:
    case HEALTH_FAULT_MISMATCH:
    case HEALTH_FAULT_PATTERN:
    case HEALTH_FAULT_QUIET:
        return HEALTH_FAILURE_BACKEND;
    default:
        return HEALTH_FAILURE_NETWORK;
    }
}

int health_outcome_of(const struct health_result *r)
{
    /* 4xx: the request was wrong, which says nothing about calls that are right. */
    if (r->fault == HEALTH_FAULT_STATUS && r->status >= 400 && r->status < 500)
        return HEALTH_OUTCOME_IGNORED;
    return faults[r->fault].outcome;
}

enum { WARNING = 2, HIGH, CRITICAL };

static bool told(enum health_target_kind kind, int state, int cause)
{
    bool mine = kind == HEALTH_TARGET_OTHER || kind == HEALTH_TARGET_AGENT;
    if (state == HEALTH_UNHEALTHY || state == HEALTH_FLAPPING)
        return mine;
    return state == HEALTH_DEGRADED && (cause == HEALTH_FAULT_AUTH || cause == HEALTH_FAULT_STUCK ||
                                        (kind == HEALTH_TARGET_AGENT && cause == HEALTH_FAULT_EXHAUSTED));
}

struct health_notice health_notice_of(enum health_target_kind kind, int state, int cause, int previous,
                                      int previous_cause)
{
    if (told(kind, state, cause)) {
        /* Gone, or not to be trusted: then people must act. Killed for want of memory, it is started again by its host; short
         * of means, fallback cuts its work. */
        bool agent = kind == HEALTH_TARGET_AGENT, bad = agent && state == HEALTH_UNHEALTHY;
        bool means =
            agent && state != HEALTH_FLAPPING && (cause == HEALTH_FAULT_OOM || cause == HEALTH_FAULT_EXHAUSTED);
        return (struct health_notice){.news = HEALTH_RAISE,
                                      .severity = means ? HIGH
                                                  : bad ? CRITICAL
                                                        : WARNING,
                                      .manual = bad && !means};
    }
    if (state != HEALTH_UNKNOWN && told(kind, previous, previous_cause))
        return (struct health_notice){.news = HEALTH_RESOLVE, .severity = WARNING};
    return (struct health_notice){.news = HEALTH_NO_NEWS};
}

/* ---- evidence ---- */

void health_detail(struct health_result *r, const char *fmt, ...)
{
    char text[4 * HEALTH_DETAIL_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    size_t len = strlen(text), at = 0, out = 0;
    while (at < len) {
        uint32_t c = 0;
        size_t n = utf8_next(text + at, len - at, &c);
        bool odd = n == 0 || c < 0x20 || (c >= 0x7f && c < 0xa0);
        size_t size = odd ? 1 : n;
        if (out + size >= sizeof r->detail)
            break;
        if (odd)
            r->detail[out] = n == 0 ? '?' : ' ';
        else
            memcpy(r->detail + out, text + at, n);
        out += size;
        at += n ? n : 1;
    }
    r->detail[out] = 0;
}

const struct health_mark *health_evidence(const struct health *h, size_t i)
{
    assert(i < h->n_evidence);
    return &h->evidence[(h->evidence_at + HEALTH_EVIDENCE_MAX - i) % HEALTH_EVIDENCE_MAX];
}

const char *health_evidence_detail(const struct health *h, size_t i)
{
    uint8_t detail = health_evidence(h, i)->detail;
    return detail ? h->details[detail - 1] : "";
}

/* The number of a detail, which takes the place of the oldest if it is not among those that are kept. */
static uint8_t keep_detail(struct health *h, const char *text)
{
    if (!*text)
        return 0;
    for (uint8_t i = 0; i < HEALTH_DETAILS_MAX; i++)
        if (strcmp(h->details[i], text) == 0)
            return (uint8_t)(i + 1);
    h->detail_at = (uint8_t)(h->detail_at % HEALTH_DETAILS_MAX + 1);
    for (size_t i = 0; i < HEALTH_EVIDENCE_MAX; i++)
        if (h->evidence[i].detail == h->detail_at)
            h->evidence[i].detail = 0;
    snprintf(h->details[h->detail_at - 1], HEALTH_DETAIL_MAX, "%s", text);
    return h->detail_at;
}

static void keep(struct health *h, const struct health_result *r)
{
    uint8_t detail = keep_detail(h, r->detail);
    h->evidence_at = (uint8_t)((h->evidence_at + 1) % HEALTH_EVIDENCE_MAX);
    h->evidence[h->evidence_at] = (struct health_mark){.ended_ms = r->ended_ms,
                                                       .total_ms = r->total_ms,
                                                       .first_token_ms = r->first_token_ms,
                                                       .prompt_tokens = r->prompt_tokens,
                                                       .completion_tokens = r->completion_tokens,
                                                       .cost_microusd = r->cost_microusd,
                                                       .status = r->status,
                                                       .probe = r->probe,
                                                       .fault = r->fault,
                                                       .detail = detail};
    if (h->n_evidence < HEALTH_EVIDENCE_MAX)
        h->n_evidence++;
}

static void count(struct health_streak *x, bool holds, int64_t at_ms)
{
    if (!holds) {
        *x = (struct health_streak){0};
        return;
    }
    if (x->n == 0)
        x->since_ms = at_ms;
    if (x->n < UINT32_MAX)
        x->n++;
}

uint32_t health_flap_percent(const struct health *h)
{
    uint32_t changes = h->seen > 0 ? h->seen - 1 : 0, sum = 0;
    if (changes > HEALTH_FLAP_WINDOW)
        changes = HEALTH_FLAP_WINDOW;
    /* The newest change weighs 1.2, the oldest 0.8: together as many as there are. */
    for (uint32_t i = 0; i < changes; i++)
        if (((h->history >> i) ^ (h->history >> (i + 1))) & 1)
            sum += 1200 - 400 * i / (HEALTH_FLAP_WINDOW - 1);
    return sum / (HEALTH_FLAP_WINDOW * 10);
}

/* ---- the verdict ---- */

void health_init(struct health *h, int64_t now_ms)
{
    *h = (struct health){.state = HEALTH_UNKNOWN,
                         .previous = HEALTH_UNKNOWN,
                         .cause = HEALTH_FAULT_NONE,
                         .since_ms = now_ms,
                         .changed_ms = now_ms};
}

void health_adopt(struct health *h, int state, int failure, int cause, int64_t since_ms, int64_t changed_ms)
{
    health_init(h, changed_ms);
    bool off = state == HEALTH_DEGRADED || state == HEALTH_UNHEALTHY || state == HEALTH_FLAPPING;
    /* A maintenance is not taken from a document without its end; and one that is over means: nothing is known. */
    if (state != HEALTH_HEALTHY && !off)
        return;
    h->state = state;
    h->failure = off ? (failure > HEALTH_FAILURE_NONE ? failure : HEALTH_FAILURE_NETWORK) : HEALTH_FAILURE_NONE;
    h->cause = off ? (cause > HEALTH_FAULT_NONE ? cause : HEALTH_FAULT_TIMEOUT) : HEALTH_FAULT_NONE;
    h->since_ms = since_ms > 0 && since_ms < changed_ms ? since_ms : changed_ms;
    sm_check(&health_sm, h->state, h);
}

static void move(struct health *h, int to, int failure, int cause, int64_t since_ms, int64_t now_ms)
{
    h->previous = h->state;
    h->failure = failure;
    h->cause = cause;
    h->changed_ms = now_ms;
    h->since_ms = since_ms > 0 && since_ms < now_ms ? since_ms : now_ms;
    if (to != HEALTH_MAINTENANCE)
        h->maintenance_until_ms = 0;
    if (to != h->state)
        sm_move(&health_sm, &h->state, to);
    sm_check(&health_sm, h->state, h);
}

/* The newest fault that is not "well": what to name as the cause. */
static int newest_fault(const struct health *h, bool bad_only)
{
    for (size_t i = 0; i < h->n_evidence; i++) {
        int f = health_evidence(h, i)->fault;
        if (faults[f].grade == BAD || (!bad_only && faults[f].grade == OFF))
            return f;
    }
    return HEALTH_FAULT_TIMEOUT; /* older than what is kept */
}

/* What the runs ask for; the present state if they ask for nothing. */
static int asked_for(const struct health *h, const struct health_rule *rule)
{
    if (h->bad.n >= rule->fall)
        return HEALTH_UNHEALTHY;
    switch (h->state) {
    case HEALTH_HEALTHY:
        return h->off.n >= rule->fall ? HEALTH_DEGRADED : HEALTH_HEALTHY;
    case HEALTH_DEGRADED:
        return h->good.n >= rule->rise ? HEALTH_HEALTHY : HEALTH_DEGRADED;
    default:
        if (h->up.n < rule->rise)
            return h->state;
        return h->good.n >= rule->rise ? HEALTH_HEALTHY : HEALTH_DEGRADED;
    }
}

static bool decide(struct health *h, const struct health_rule *rule, int64_t now_ms)
{
    uint32_t flap = health_flap_percent(h);
    bool flapping = flap >= (h->state == HEALTH_FLAPPING ? HEALTH_FLAP_LOW : HEALTH_FLAP_HIGH);
    int to = flapping ? HEALTH_FLAPPING : asked_for(h, rule);
    int cause = HEALTH_FAULT_NONE, failure = HEALTH_FAILURE_NONE;
    if (to == HEALTH_DEGRADED || to == HEALTH_UNHEALTHY || to == HEALTH_FLAPPING) {
        cause = newest_fault(h, to != HEALTH_DEGRADED);
        failure = health_failure_of(rule->kind, cause);
    }
    if (to == h->state) {
        /* Still DEGRADED, but steadily for another reason: a wrong key is not slowness. */
        if (to != HEALTH_DEGRADED || cause == h->cause || h->off.n < rule->fall || h->same.n < rule->fall)
            return false;
        move(h, to, failure, cause, h->same.since_ms, now_ms);
        return true;
    }
    int64_t since_ms = to == HEALTH_UNHEALTHY  ? h->bad.since_ms
                       : to == HEALTH_HEALTHY  ? h->good.since_ms
                       : to == HEALTH_FLAPPING ? health_evidence(h, h->n_evidence - 1u)->ended_ms
                       : h->off.n > 0          ? h->off.since_ms
                                               : h->up.since_ms;
    move(h, to, failure, cause, since_ms, now_ms);
    return true;
}

enum health_taken health_take(struct health *h, const struct health_rule *rule, struct health_result *r,
                              int64_t now_ms)
{
    assert(r->fault > HEALTH_FAULT_CANCELLED && r->fault < HEALTH_FAULTS && rule->fall > 0 && rule->rise > 0);
    if (r->fault == HEALTH_FAULT_NONE && rule->slow_ms > 0 && r->total_ms > rule->slow_ms)
        r->fault = HEALTH_FAULT_SLOW;
    enum grade grade = faults[r->fault].grade;
    if (grade == BAD && r->started_ms < h->newest_up_started_ms)
        return HEALTH_STALE;
    int64_t *newest_ms = grade == BAD ? &h->newest_bad_started_ms : &h->newest_up_started_ms;
    if (r->started_ms > *newest_ms)
        *newest_ms = r->started_ms;
    bool same = h->n_evidence > 0 && health_evidence(h, 0)->fault == r->fault;
    keep(h, r);
    h->history = h->history << 1 | (grade != BAD);
    if (h->seen < 64)
        h->seen++;
    count(&h->bad, grade == BAD, r->ended_ms);
    count(&h->up, grade != BAD, r->ended_ms);
    count(&h->good, grade == GOOD, r->ended_ms);
    count(&h->off, grade != GOOD, r->ended_ms);
    if (!same)
        h->same = (struct health_streak){0};
    count(&h->same, true, r->ended_ms);
    bool ended = health_tick(h, now_ms);
    if (h->state == HEALTH_MAINTENANCE)
        return HEALTH_COUNTED;
    return decide(h, rule, now_ms) || ended ? HEALTH_CHANGED : HEALTH_COUNTED;
}

bool health_maintain(struct health *h, int64_t until_ms, int64_t now_ms)
{
    bool on = h->state == HEALTH_MAINTENANCE;
    if (until_ms <= now_ms) {
        if (on)
            move(h, HEALTH_UNKNOWN, HEALTH_FAILURE_NONE, HEALTH_FAULT_NONE, now_ms, now_ms);
        return on;
    }
    if (on && h->maintenance_until_ms == until_ms)
        return false;
    h->maintenance_until_ms = until_ms;
    move(h, HEALTH_MAINTENANCE, HEALTH_FAILURE_NONE, HEALTH_FAULT_NONE, on ? h->since_ms : now_ms, now_ms);
    return true;
}

bool health_tick(struct health *h, int64_t now_ms)
{
    return h->state == HEALTH_MAINTENANCE && now_ms >= h->maintenance_until_ms && health_maintain(h, 0, now_ms);
}

bool health_in_transition(const struct health *h, const struct health_rule *rule)
{
    switch (h->state) {
    case HEALTH_UNKNOWN:
    case HEALTH_FLAPPING:
        return true;
    case HEALTH_HEALTHY:
        return h->off.n > 0;
    case HEALTH_DEGRADED:
        return h->bad.n > 0 || (h->good.n > 0 && h->good.n < rule->rise) || (h->off.n > 0 && h->off.n < rule->fall);
    case HEALTH_UNHEALTHY:
        return h->up.n > 0;
    default:
        return false;
    }
}

const char *health_reason(const struct health *h, char *buf, size_t size)
{
    size_t i = 0;
    while (i < h->n_evidence && health_evidence(h, i)->fault != h->cause)
        i++;
    const char *detail = i < h->n_evidence ? health_evidence_detail(h, i) : "";
    const char *colon = *detail ? ": " : "", *cause = health_fault_text(h->cause);
    switch (h->state) {
    case HEALTH_HEALTHY:
        snprintf(buf, size, "%u good in a row", h->good.n);
        break;
    case HEALTH_DEGRADED:
        snprintf(buf, size, "works, but %s%s%s", cause, colon, detail);
        break;
    case HEALTH_UNHEALTHY:
        snprintf(buf, size, "%u failures in a row, %s%s%s", h->bad.n, cause, colon, detail);
        break;
    case HEALTH_FLAPPING:
        snprintf(buf, size, "changes too often: %u %% of the last %d results; %s%s%s", health_flap_percent(h),
                 HEALTH_FLAP_WINDOW, cause, colon, detail);
        break;
    case HEALTH_MAINTENANCE:
        snprintf(buf, size, "taken out by a person");
        break;
    default:
        snprintf(buf, size, "not known yet");
        break;
    }
    return buf;
}

bool health_fault_is_bad(int fault)
{
    return fault >= 0 && fault < HEALTH_FAULTS && faults[fault].grade == BAD;
}
