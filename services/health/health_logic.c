/* health_logic.c - an agent's judgement by what it decides. */
#include "health/health_logic.h"
#include <assert.h>
#include <stdio.h>
#include <string.h>

/* ---- hashes ---- */

/* FNV-1a with a last stir, so that the low bits are as good as the high ones. Never 0: that is a free place. */
static uint64_t hash(uint64_t h, const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c; c++)
        h = (h ^ *c) * 0x100000001b3u;
    h = (h ^ 0x1f) * 0x100000001b3u; /* ends the text: "a", "bc" is not "ab", "c" */
    return h;
}
static uint64_t stir(uint64_t h)
{
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdu;
    h ^= h >> 33;
    return h ? h : 1;
}
#define HASH_START 0xcbf29ce484222325u

/* ---- time ---- */

static int64_t bucket_of(const struct health_logic_rule *rule, int64_t now_ms)
{
    int64_t span_ms = rule->window_ms / HEALTH_LOGIC_BUCKETS;
    return now_ms / (span_ms > 0 ? span_ms : 1);
}

/* Clears what has left the window since the last look. */
static struct health_logic_counts *present(struct health_logic *l, const struct health_logic_rule *rule,
                                           int64_t now_ms)
{
    int64_t at = bucket_of(rule, now_ms);
    /* Nothing for a whole window: what was wrong then has not been right since. */
    for (int k = 0; k < HEALTH_LOGIC_KINDS && at - l->at >= HEALTH_LOGIC_BUCKETS; k++)
        l->kinds[k].over_ms = now_ms;
    if (at < l->at || at - l->at >= HEALTH_LOGIC_BUCKETS) /* the window was changed, or all is old */
        memset(l->buckets, 0, sizeof l->buckets);
    else
        while (l->at < at)
            l->buckets[++l->at % HEALTH_LOGIC_BUCKETS] = (struct health_logic_counts){0};
    l->at = at;
    return &l->buckets[at % HEALTH_LOGIC_BUCKETS];
}

static void add(uint32_t *n, uint64_t more)
{
    *n = more > UINT32_MAX - *n ? UINT32_MAX : *n + (uint32_t)more;
}

struct health_logic_counts health_logic_counts(struct health_logic *l, const struct health_logic_rule *rule,
                                               int64_t now_ms)
{
    struct health_logic_counts sum = {0};
    (void)present(l, rule, now_ms);
    for (int i = 0; i < HEALTH_LOGIC_BUCKETS; i++) {
        const struct health_logic_counts *b = &l->buckets[i];
        add(&sum.decisions, b->decisions);
        add(&sum.actions, b->actions);
        add(&sum.malformed, b->malformed);
        add(&sum.contradictory, b->contradictory);
        add(&sum.denied, b->denied);
        add(&sum.exceptions, b->exceptions);
        add(&sum.counted_exceptions, b->counted_exceptions);
        add(&sum.beats, b->beats);
    }
    return sum;
}

/* ---- tables ---- */

/* True if an earlier decision about the same event, within the window, was another one. */
static bool contradicts(struct health_logic *l, const struct health_logic_rule *rule, const struct health_decision *d,
                        int64_t now_ms)
{
    uint64_t key = stir(hash(HASH_START, d->event_key));
    uint64_t decision = stir(hash(hash(hash(HASH_START, d->verdict), d->action), d->object));
    size_t first = (size_t)(key % (HEALTH_LOGIC_EVENTS / HEALTH_LOGIC_WAYS)) * HEALTH_LOGIC_WAYS, oldest = first;
    for (size_t i = first; i < first + HEALTH_LOGIC_WAYS; i++) {
        if (l->events[i].key == key) {
            bool other = l->events[i].decision != decision && now_ms - l->events[i].ms < rule->window_ms;
            l->events[i].decision = decision;
            l->events[i].ms = now_ms;
            return other;
        }
        if (l->events[i].key == 0 || (l->events[oldest].key && l->events[i].ms < l->events[oldest].ms))
            oldest = i;
    }
    l->events[oldest].key = key;
    l->events[oldest].decision = decision;
    l->events[oldest].ms = now_ms;
    return false;
}

static uint32_t act_count(struct health_logic_act *a, int64_t at)
{
    uint32_t sum = 0;
    if (at < a->at || at - a->at >= HEALTH_LOGIC_BUCKETS)
        memset(a->n, 0, sizeof a->n);
    else
        while (a->at < at)
            a->n[++a->at % HEALTH_LOGIC_BUCKETS] = 0;
    a->at = at;
    for (int i = 0; i < HEALTH_LOGIC_BUCKETS; i++)
        add(&sum, a->n[i]);
    return sum;
}

/* Counts an action, and says how often it was done in the window. Among those with the same places, the rarest is forgotten. */
static uint32_t repeats(struct health_logic *l, const struct health_decision *d)
{
    uint64_t key = stir(hash(hash(HASH_START, d->action), d->object));
    size_t first = (size_t)(key % (HEALTH_LOGIC_ACTS / HEALTH_LOGIC_WAYS)) * HEALTH_LOGIC_WAYS;
    struct health_logic_act *place = &l->acts[first];
    uint32_t least = UINT32_MAX;
    for (size_t i = first; i < first + HEALTH_LOGIC_WAYS; i++) {
        struct health_logic_act *a = &l->acts[i];
        uint32_t n = a->key ? act_count(a, l->at) : 0;
        if (a->key == key) {
            place = a;
            break;
        }
        if (n < least) {
            place = a;
            least = n;
        }
    }
    if (place->key != key)
        *place = (struct health_logic_act){.key = key, .at = l->at};
    add(&place->n[l->at % HEALTH_LOGIC_BUCKETS], 1);
    return act_count(place, l->at);
}

static uint32_t most_repeats(struct health_logic *l)
{
    uint32_t most = 0;
    for (size_t i = 0; i < HEALTH_LOGIC_ACTS; i++) {
        uint32_t n = l->acts[i].key ? act_count(&l->acts[i], l->at) : 0;
        most = n > most ? n : most;
    }
    return most;
}

/* ---- taking in ---- */

void health_logic_init(struct health_logic *l)
{
    memset(l, 0, sizeof *l);
}

static void keep_example(struct health_logic *l, int kind, const struct health_decision *d)
{
    char *to = l->kinds[kind].example;
    if (kind == HEALTH_LOGIC_REPETITION)
        snprintf(to, HEALTH_LOGIC_EXAMPLE_MAX, "%.24s on %.32s", d->action, *d->object ? d->object : "nothing");
    else if (kind == HEALTH_LOGIC_CONTRADICTION)
        snprintf(to, HEALTH_LOGIC_EXAMPLE_MAX, "%.24s: now %.16s %.16s", d->event_key, d->verdict, d->action);
    else if (kind == HEALTH_LOGIC_DENIED && !*d->detail)
        snprintf(to, HEALTH_LOGIC_EXAMPLE_MAX, "%.24s on %.32s", d->action, d->object);
    else
        snprintf(to, HEALTH_LOGIC_EXAMPLE_MAX, "%.20s: %.40s", d->event_key, d->detail);
}

void health_logic_take(struct health_logic *l, const struct health_logic_rule *rule, const struct health_decision *d,
                       int64_t now_ms)
{
    struct health_logic_counts *b = present(l, rule, now_ms);
    add(&b->decisions, 1);
    switch (d->outcome) {
    case HEALTH_DECISION_MALFORMED:
        add(&b->malformed, 1);
        keep_example(l, HEALTH_LOGIC_MALFORMED, d);
        return;
    case HEALTH_DECISION_EXCEPTION:
        add(&b->exceptions, 1);
        keep_example(l, HEALTH_LOGIC_EXCEPTIONS, d);
        return;
    default:
        break;
    }
    if (contradicts(l, rule, d, now_ms)) {
        add(&b->contradictory, 1);
        keep_example(l, HEALTH_LOGIC_CONTRADICTION, d);
    }
    bool denied = d->outcome == HEALTH_DECISION_DENIED;
    if (!*d->action && !denied)
        return;
    add(&b->actions, 1);
    if (denied) {
        add(&b->denied, 1);
        keep_example(l, HEALTH_LOGIC_DENIED, d);
    }
    if (*d->action && rule->repeats && repeats(l, d) >= rule->repeats)
        keep_example(l, HEALTH_LOGIC_REPETITION, d);
}

void health_logic_beat(struct health_logic *l, const struct health_logic_rule *rule, uint64_t exceptions,
                       int64_t now_ms)
{
    struct health_logic_counts *b = present(l, rule, now_ms);
    add(&b->beats, 1);
    add(&b->counted_exceptions, exceptions);
}

/* ---- judging ---- */

static const uint8_t fault_of[HEALTH_LOGIC_KINDS] = {
    [HEALTH_LOGIC_MALFORMED] = HEALTH_FAULT_MALFORMED,   [HEALTH_LOGIC_CONTRADICTION] = HEALTH_FAULT_CONTRADICTION,
    [HEALTH_LOGIC_EXCEPTIONS] = HEALTH_FAULT_EXCEPTIONS, [HEALTH_LOGIC_REPETITION] = HEALTH_FAULT_REPETITION,
    [HEALTH_LOGIC_DENIED] = HEALTH_FAULT_DENIED,
};

/* What was counted, and of how many; of = 0: it is a number, not a share. */
struct measure {
    uint32_t n, of, mark;
};

static void measure(struct health_logic *l, const struct health_logic_rule *rule, const struct health_logic_counts *c,
                    struct measure m[HEALTH_LOGIC_KINDS])
{
    uint32_t thrown = c->exceptions > c->counted_exceptions ? c->exceptions : c->counted_exceptions;
    m[HEALTH_LOGIC_MALFORMED] = (struct measure){c->malformed, c->decisions, rule->malformed_percent};
    m[HEALTH_LOGIC_CONTRADICTION] = (struct measure){c->contradictory, c->decisions, rule->contradictory_percent};
    m[HEALTH_LOGIC_EXCEPTIONS] = (struct measure){thrown, 0, rule->exceptions};
    m[HEALTH_LOGIC_REPETITION] = (struct measure){most_repeats(l), 0, rule->repeats};
    m[HEALTH_LOGIC_DENIED] = (struct measure){c->denied, c->actions, rule->denied_percent};
}

static bool is_share(int kind)
{
    return kind != HEALTH_LOGIC_EXCEPTIONS && kind != HEALTH_LOGIC_REPETITION;
}

static bool at_mark(int kind, const struct measure *m, uint32_t least)
{
    if (m->mark == 0)
        return false;
    if (!is_share(kind))
        return m->n >= m->mark;
    return m->of >= least && m->of > 0 && (uint64_t)m->n * 100 >= (uint64_t)m->of * m->mark;
}

static void describe(const struct health_logic *l, const struct health_logic_rule *rule, int kind,
                     const struct measure *m, int64_t now_ms, struct health_result *r)
{
    const char *example = l->kinds[kind].example, *such_as = *example ? "; " : "";
    double span_s = (double)rule->window_ms / 1000;
    if (l->kinds[kind].over_ms < now_ms)
        health_detail(r, "below its mark for %.0f s, %.0f s are needed%s%s",
                      (double)(now_ms - l->kinds[kind].over_ms) / 1000, span_s, such_as, example);
    else if (is_share(kind))
        health_detail(r, "%u of %u %s within %.0f s%s%s", m->n, m->of,
                      kind == HEALTH_LOGIC_DENIED ? "actions" : "decisions", span_s, such_as, example);
    else
        health_detail(r, "%u times within %.0f s%s%s", m->n, span_s, such_as, example);
}

bool health_logic_judge(struct health_logic *l, const struct health_logic_rule *rule, int64_t now_ms,
                        struct health_result *r)
{
    struct health_logic_counts c = health_logic_counts(l, rule, now_ms);
    struct measure m[HEALTH_LOGIC_KINDS];
    bool was = false;
    measure(l, rule, &c, m);
    r->fault = HEALTH_FAULT_NONE;
    for (int kind = 0; kind < HEALTH_LOGIC_KINDS; kind++) {
        was = was || l->kinds[kind].on;
        bool heard = c.decisions > 0 || (kind == HEALTH_LOGIC_EXCEPTIONS && c.beats > 0);
        if (at_mark(kind, &m[kind], rule->min_decisions)) {
            l->kinds[kind].on = true;
            l->kinds[kind].over_ms = now_ms;
        } else if (!heard && m[kind].mark) {
            l->kinds[kind].over_ms = now_ms;
        } else if (l->kinds[kind].on && (m[kind].mark == 0 || now_ms - l->kinds[kind].over_ms >= rule->window_ms)) {
            l->kinds[kind].on = false;
            l->kinds[kind].example[0] = 0;
        }
        if (l->kinds[kind].on && r->fault == HEALTH_FAULT_NONE) {
            r->fault = fault_of[kind];
            describe(l, rule, kind, &m[kind], now_ms, r);
        }
    }
    return c.decisions > 0 || c.counted_exceptions > 0 || (was && c.beats > 0);
}
