/* test_alert_sim.c - seeded simulation: many messages through random trees of channels that fail in every way and recover, a virtual clock. Whatever
 * happens: files are written first; no channel gets a message again after it has accepted it; a failover group begins its next member only
 * when the one before has failed; a fanout group waits for none of its members; everything ends; owed is exactly what was not told; a channel's
 * breakage is told once. */
#include "alert/alert.h"
#include "alert/alert_circuit.h"
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define MESSAGES 40
#define WAYS     8 /* the last two are files */
#define FILES    2

static uint64_t seed, rng;
static uint32_t rnd(uint32_t below)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (uint32_t)((rng >> 11) % below);
}

#define CHECK(x)                                                                                                     \
    do {                                                                                                             \
        if (!(x)) {                                                                                                  \
            fprintf(stderr, "seed %" PRIu64 ": %s (line %d)\n", seed, #x, __LINE__);                                 \
            abort();                                                                                                 \
        }                                                                                                            \
    } while (0)

/* One attempt under way. */
struct sim_attempt {
    bool under_way;
    int64_t ends_ms;
    struct alert_outcome will;
};
struct sim_message {
    struct alert_delivery d;
    struct alert_try tries[WAYS];
    struct sim_attempt attempts[WAYS];
    int64_t begins_ms, wake_ms, cancel_ms;
    bool record, silent, put_by, ended, exhausted;
    uint64_t left_out;
    uint64_t recorded, accepted, failed, waiting; /* what its receipts say */
    int sent[WAYS];
    enum alert_standing standing;
};
struct world {
    int64_t now_ms, heals_ms;
    struct alert_plan plan;
    struct sim_message m[MESSAGES];
    struct alert_circuit circuit[WAYS];
    bool raised[WAYS];
    uint64_t passed[MESSAGES]; /* attempts that could not be made: their results come next */
};

static bool is_file(size_t way)
{
    return way >= WAYS - FILES;
}

static uint64_t bit(size_t way)
{
    return UINT64_C(1) << way;
}

/* ---- the tree ---- */

static void grow(struct alert_tree *t, int depth)
{
    size_t at = t->n++;
    if (depth == 0 || rnd(3) == 0 || t->n > 24) {
        t->nodes[at] = (struct alert_node){.kind = ALERT_NODE_CHANNEL, .way = (uint8_t)rnd(WAYS)};
    } else {
        t->nodes[at] = (struct alert_node){.kind = rnd(2) ? ALERT_NODE_FAILOVER : ALERT_NODE_FANOUT};
        for (uint32_t n = 1 + rnd(4); n > 0; n--)
            grow(t, depth - 1);
    }
    t->nodes[at].end = (uint16_t)t->n;
}

/* The rules of a tree once more, said in another way: each channel has a fate; who may have been begun? */
enum fate { UNKNOWN, THERE, GONE, OUT }; /* has it (or will get it), has failed, is not there */
static enum fate fate_of(const struct sim_message *m, size_t way)
{
    if (is_file(way) || (m->left_out & bit(way)))
        return OUT;
    return (m->accepted | m->waiting) & bit(way) ? THERE : m->failed & bit(way) ? GONE : UNKNOWN;
}

static enum fate judge(const struct alert_tree *t, size_t at, const struct sim_message *m, uint64_t *may)
{
    const struct alert_node *n = &t->nodes[at];
    if (n->kind == ALERT_NODE_CHANNEL) {
        *may |= bit(n->way);
        return fate_of(m, n->way);
    }
    bool unknown = false, there = false, gone = false;
    for (size_t c = at + 1; c < n->end; c = t->nodes[c].end) {
        if (n->kind == ALERT_NODE_FAILOVER && (unknown || there))
            break; /* those behind may not have been begun for its sake */
        enum fate f = judge(t, c, m, may);
        unknown |= f == UNKNOWN;
        there |= f == THERE;
        gone |= f == GONE;
    }
    return unknown ? UNKNOWN : there ? THERE : gone ? GONE : OUT;
}

/* All channels below a node that were not told although they might have been. */
static bool all_gone(const struct alert_tree *t, size_t at, const struct sim_message *m)
{
    uint64_t may = 0;
    return judge(t, at, m, &may) == GONE;
}

/* ---- attempts ---- */

static struct alert_outcome outcome(struct world *w, size_t way, int64_t timeout_ms, int64_t *ret_takes_ms)
{
    static const int http_bad[] = {400, 401, 404, 408, 413, 429, 500, 502, 503, 302};
    static const int smtp_bad[] = {421, 450, 451, 452, 535, 550, 552, 554};
    *ret_takes_ms = 1 + rnd(200);
    if (w->now_ms >= w->heals_ms || rnd(100) < 30)
        return (struct alert_outcome){ALERT_FAULT_NONE, way == 0 ? 250 : is_file(way) ? 0 : 200, -1};
    if (is_file(way)) {
        if (rnd(10) == 0) {
            *ret_takes_ms = timeout_ms;
            return (struct alert_outcome){ALERT_FAULT_TIMEOUT, 0, -1};
        }
        return (struct alert_outcome){ALERT_FAULT_DISK, 0, -1};
    }
    switch (rnd(5)) {
    case 0: {
        int64_t retry = rnd(3) == 0 ? (int64_t)rnd(120000) : -1;
        return (struct alert_outcome){ALERT_FAULT_NONE, way == 0 ? smtp_bad[rnd(8)] : http_bad[rnd(10)], retry};
    }
    case 1:
        *ret_takes_ms = timeout_ms;
        return (struct alert_outcome){ALERT_FAULT_TIMEOUT, 0, -1};
    case 2:
        return (struct alert_outcome){ALERT_FAULT_OVERFLOW, 0, -1};
    default:
        return (struct alert_outcome){(enum alert_fault)(ALERT_FAULT_RESOLVE + (int)rnd(7)), 0, -1};
    }
}

static void send(struct world *w, struct sim_message *m, const struct alert_effect *e)
{
    CHECK(!m->attempts[e->way].under_way && !m->ended);
    CHECK(e->timeout_ms > 0 && e->attempt == ++m->sent[e->way] && e->attempt <= w->plan.ways[e->way].tries);
    CHECK(!(m->left_out & bit(e->way)) && !((m->accepted | m->failed | m->recorded | m->waiting) & bit(e->way)));
    if (is_file(e->way)) {
        CHECK(m->record && m->accepted == 0 && m->failed == 0);
    } else {
        uint64_t may = 0;
        judge(&w->plan.tree, 0, m, &may);
        CHECK(!m->silent && (may & bit(e->way)) && m->cancel_ms != -1);
        for (size_t i = WAYS - FILES; m->record && i < WAYS; i++) /* files first */
            CHECK(m->sent[i] == 1 && !m->attempts[i].under_way);
    }
    m->attempts[e->way].under_way = true;
    if (!alert_circuit_admit(&w->circuit[e->way], w->now_ms)) {
        m->attempts[e->way].will = (struct alert_outcome){ALERT_FAULT_SKIPPED, 0, -1};
        m->attempts[e->way].ends_ms = w->now_ms;
        return;
    }
    int64_t takes_ms;
    m->attempts[e->way].will = outcome(w, e->way, e->timeout_ms, &takes_ms);
    if (takes_ms > e->timeout_ms) {
        takes_ms = e->timeout_ms;
        m->attempts[e->way].will = (struct alert_outcome){ALERT_FAULT_TIMEOUT, 0, -1};
    }
    m->attempts[e->way].ends_ms = w->now_ms + takes_ms;
}

static void apply(struct world *w, struct sim_message *m, const struct alert_event *ev)
{
    static const struct alert_outcome none = {ALERT_FAULT_NONE, 0, -1};
    struct alert_effect out[ALERT_EFFECTS_MAX];
    m->wake_ms = ev->kind == ALERT_WAKE ? INT64_MAX : m->wake_ms;
    size_t n = alert_decide(&m->d, &w->plan, ev, w->now_ms, out);
    for (size_t i = 0; i < n; i++) {
        const struct alert_effect *e = &out[i];
        switch (e->kind) {
        case ALERT_SEND:
            send(w, m, e);
            break;
        case ALERT_RECEIPT:
            if (e->status == ALERT_STATUS_EXHAUSTED) {
                CHECK(!m->exhausted && m->accepted == 0 && m->waiting == 0);
                m->exhausted = true;
            } else {
                uint64_t *of = e->status == ALERT_STATUS_ACCEPTED   ? &m->accepted
                               : e->status == ALERT_STATUS_RECORDED ? &m->recorded
                               : e->status == ALERT_STATUS_FAILED   ? &m->failed
                               : e->status == ALERT_STATUS_WAITING  ? &m->waiting
                                                                    : NULL;
                CHECK(of || (e->status == ALERT_STATUS_RETRYING && m->cancel_ms != -1));
                if (of) {
                    CHECK(!((m->accepted | m->recorded | m->failed | m->waiting) & bit(e->way)));
                    *of |= bit(e->way);
                }
                CHECK(is_file(e->way) ? e->status == ALERT_STATUS_RECORDED || e->status == ALERT_STATUS_FAILED
                                      : e->status != ALERT_STATUS_RECORDED);
            }
            break;
        case ALERT_TOLD: {
            enum alert_circuit_news news =
                alert_circuit_told(&w->circuit[e->way], e->class, ev->kind == ALERT_RESULT ? &ev->outcome : &none,
                                   is_file(e->way), w->now_ms);
            CHECK(news != ALERT_CIRCUIT_RAISE || !w->raised[e->way]);
            CHECK(news != ALERT_CIRCUIT_RESOLVE || w->raised[e->way]);
            if (news != ALERT_CIRCUIT_SILENT)
                w->raised[e->way] = news == ALERT_CIRCUIT_RAISE;
            break;
        }
        case ALERT_WAKE_AT:
            CHECK(e->at_ms >= w->now_ms);
            m->wake_ms = e->at_ms;
            break;
        case ALERT_END:
            m->ended = true;
            m->standing = e->standing;
            break;
        }
    }
    /* A fanout group waits for none of its members: who may be begun is, at once. */
    uint64_t may = 0, begun = 0;
    judge(&w->plan.tree, 0, m, &may);
    for (size_t k = 0; k < WAYS; k++)
        begun |= m->sent[k] > 0 || fate_of(m, k) != UNKNOWN ? bit(k) : 0;
    if (m->d.state == ALERT_TELLING && m->cancel_ms != -1)
        CHECK((may & ~begun) == 0);
}

/* ---- time ---- */

static void check_end(const struct world *w, const struct sim_message *m)
{
    const struct alert_tree *t = &w->plan.tree;
    CHECK(m->ended && m->d.state == ALERT_DONE);
    for (size_t i = 0; i < WAYS; i++)
        CHECK(!m->attempts[i].under_way);
    CHECK(!m->record || (((m->recorded | m->failed) >> (WAYS - FILES)) & 3) == 3);
    if (m->silent || m->cancel_ms == -1) {
        CHECK(!m->exhausted && (!m->silent || m->accepted == 0));
        return;
    }
    uint64_t may = 0;
    enum fate f = judge(t, 0, m, &may);
    CHECK(f != UNKNOWN);
    CHECK(m->exhausted == (f == GONE || f == OUT));
    CHECK((m->standing == ALERT_STANDING_ABSENT) == (f == OUT));
    CHECK((m->standing == ALERT_STANDING_FAILED) == (f == GONE));
    uint16_t owed[ALERT_LEAVES_MAX];
    size_t n = f == OUT ? 0 : alert_tree_owed(t, &m->d.marks, owed);
    for (size_t i = 0; i < n; i++) {
        CHECK(all_gone(t, owed[i], m)); /* nothing of it was told, */
        if (owed[i] > 0) {              /* and it is not more of what is above it, which was */
            size_t above = owed[i];
            do
                above--;
            while (t->nodes[above].end <= owed[i]);
            CHECK(!all_gone(t, above, m));
        }
    }
    CHECK(f != GONE || (n == 1 && owed[0] == 0));
    /* Every member of a fanout group that was not told is owed, by itself or below. */
    for (size_t i = 0; i < t->n && f == THERE; i++) {
        if (t->nodes[i].kind != ALERT_NODE_FANOUT || i != 0)
            continue;
        for (size_t c = 1; c < t->nodes[0].end; c = t->nodes[c].end) {
            bool listed = false;
            for (size_t k = 0; k < n; k++)
                listed |= owed[k] == c;
            CHECK(listed == all_gone(t, c, m));
        }
    }
}

/* The next thing that happens to a message; INT64_MAX = nothing. */
static int64_t next_ms(const struct sim_message *m)
{
    if (m->d.state == ALERT_NEW)
        return m->begins_ms;
    int64_t at_ms = m->d.state == ALERT_DONE ? INT64_MAX : m->wake_ms;
    for (size_t i = 0; i < WAYS; i++)
        if (m->attempts[i].under_way && m->attempts[i].ends_ms < at_ms)
            at_ms = m->attempts[i].ends_ms;
    return m->cancel_ms > 0 && m->cancel_ms < at_ms && at_ms != INT64_MAX ? m->cancel_ms : at_ms;
}

static void happen(struct world *w, struct sim_message *m)
{
    if (m->d.state == ALERT_NEW) {
        struct alert_event ev = {.kind = ALERT_START,
                                 .critical = rnd(2) == 0,
                                 .record = m->record,
                                 .silent = m->silent,
                                 .put_by = m->put_by,
                                 .left_out = m->left_out};
        m->wake_ms = INT64_MAX;
        apply(w, m, &ev);
        return;
    }
    if (m->cancel_ms > 0 && m->cancel_ms <= w->now_ms) {
        m->cancel_ms = -1;
        if (m->d.state == ALERT_RECORDING)
            m->silent = true;
        apply(w, m, &(struct alert_event){.kind = ALERT_CANCEL});
        return;
    }
    for (size_t i = 0; i < WAYS; i++)
        if (m->attempts[i].under_way && m->attempts[i].ends_ms <= w->now_ms) {
            m->attempts[i].under_way = false;
            apply(w, m, &(struct alert_event){.kind = ALERT_RESULT, .way = i, .outcome = m->attempts[i].will});
            return;
        }
    apply(w, m, &(struct alert_event){.kind = ALERT_WAKE});
}

static void one_world(uint64_t of_seed)
{
    seed = of_seed;
    rng = of_seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    static struct world w;
    memset(&w, 0, sizeof w);
    w.heals_ms = rnd(600000);
    w.plan.n = WAYS;
    for (size_t k = 0; k < WAYS; k++)
        w.plan.ways[k] = (struct alert_way){.proto = k == 0       ? ALERT_PROTO_SMTP
                                                     : is_file(k) ? ALERT_PROTO_FILE
                                                                  : ALERT_PROTO_HTTP,
                                            .record = is_file(k),
                                            .tries = 1 + (int)rnd(4),
                                            .attempt_ms = 100 + rnd(10000),
                                            .deadline_ms = 1000 + rnd(300000),
                                            .deadline_critical_ms = 1000 + rnd(30000)};
    grow(&w.plan.tree, 3);
    for (size_t i = 0; i < MESSAGES; i++) {
        struct sim_message *m = &w.m[i];
        m->d.tries = m->tries;
        m->begins_ms = rnd(300000);
        m->record = rnd(4) != 0;
        m->silent = rnd(6) == 0;
        m->put_by = rnd(2) == 0;
        m->left_out = rnd(5) == 0 ? bit(rnd(WAYS)) & ~(bit(6) | bit(7)) : 0;
        m->cancel_ms = rnd(6) == 0 ? m->begins_ms + 1 + rnd(20000) : 0;
    }
    for (;;) {
        struct sim_message *next = NULL;
        for (size_t i = 0; i < MESSAGES; i++)
            if (next_ms(&w.m[i]) != INT64_MAX && (!next || next_ms(&w.m[i]) < next_ms(next)))
                next = &w.m[i];
        if (!next)
            break;
        CHECK(next_ms(next) >= w.now_ms);
        w.now_ms = next_ms(next);
        CHECK(w.now_ms < 12 * 3600000);
        happen(&w, next);
    }
    for (size_t i = 0; i < MESSAGES; i++)
        check_end(&w, &w.m[i]);
}

static void every_message_ends_as_it_must(void **state)
{
    (void)state;
    const char *given = getenv("SEED"), *few = getenv("VALGRIND");
    if (given) {
        one_world(strtoull(given, NULL, 10));
        return;
    }
    uint64_t base = (uint64_t)time(NULL);
    for (uint64_t i = 0; i < (few ? 20 : 400); i++)
        one_world(base * 1000 + i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_message_ends_as_it_must)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
