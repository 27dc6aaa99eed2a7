/* test_alert_sim.c - seeded simulation: many alerts, channels that fail in every way and recover, a virtual clock. Whatever happens, every
 * alert is recorded first, ends accepted exactly once, keeps its order of channels, and the channels' breakage is told once. */
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

#define ALERTS 40
#define WAYS   4 /* the last is the record */

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

struct sim_alert {
    struct alert_delivery d;
    struct alert_plan p;
    int64_t begins_ms;
    bool sending;
    size_t way;
    int64_t ends_ms; /* of the attempt */
    struct alert_outcome will;
    bool recorded, accepted, tried;
    size_t last_way;
};
struct world {
    int64_t now_ms, heals_ms;
    struct sim_alert a[ALERTS];
    struct alert_circuit circuit[WAYS];
    int raised[WAYS];
    int last_mode[WAYS];
};

static struct alert_outcome outcome(struct world *w, size_t way, int64_t timeout_ms, int64_t *ret_takes_ms)
{
    static const int http_bad[] = {400, 401, 404, 408, 413, 429, 500, 502, 503, 302};
    static const int smtp_bad[] = {421, 450, 451, 452, 535, 550, 552, 554};
    *ret_takes_ms = 1 + rnd(200);
    if (w->now_ms >= w->heals_ms || rnd(100) < 30)
        return (struct alert_outcome){ALERT_FAULT_NONE, way == 0 ? 250 : way == 3 ? 0 : 200, -1};
    if (way == 3) {
        if (rnd(10) == 0) {
            *ret_takes_ms = timeout_ms;
            return (struct alert_outcome){ALERT_FAULT_TIMEOUT, 0, -1};
        }
        return (struct alert_outcome){ALERT_FAULT_DISK, 0, -1};
    }
    switch (rnd(4)) {
    case 0: {
        int64_t retry = rnd(3) == 0 ? (int64_t)rnd(120000) : -1;
        return (struct alert_outcome){ALERT_FAULT_NONE, way == 0 ? smtp_bad[rnd(8)] : http_bad[rnd(10)], retry};
    }
    case 1:
        *ret_takes_ms = timeout_ms;
        return (struct alert_outcome){ALERT_FAULT_TIMEOUT, 0, -1};
    default:
        return (struct alert_outcome){(enum alert_fault)(ALERT_FAULT_RESOLVE + (int)rnd(7)), 0, -1};
    }
}

static void apply(struct world *w, struct sim_alert *a, const struct alert_event *ev);

static void carry_out(struct world *w, struct sim_alert *a, const struct alert_effect *e,
                      const struct alert_outcome *last)
{
    switch (e->kind) {
    case ALERT_SEND:
        CHECK(!a->sending && !a->accepted);
        CHECK(e->timeout_ms > 0 && e->timeout_ms <= a->p.ways[e->way].attempt_ms);
        CHECK(e->start_by_ms > w->now_ms);
        CHECK(e->attempt >= 1 && e->attempt <= a->p.ways[e->way].tries);
        if (e->way != 3) {
            CHECK(a->d.notify);
            CHECK(e->way >= a->last_way); /* channels in order, until all have failed */
            a->last_way = e->way;
            a->tried = true;
        }
        a->sending = true;
        a->way = e->way;
        if (!alert_circuit_admit(&w->circuit[e->way], w->now_ms)) {
            a->will = (struct alert_outcome){ALERT_FAULT_SKIPPED, 0, -1};
            a->ends_ms = w->now_ms;
        } else {
            int64_t takes_ms;
            a->will = outcome(w, e->way, e->timeout_ms, &takes_ms);
            if (takes_ms > e->timeout_ms) {
                takes_ms = e->timeout_ms;
                a->will = (struct alert_outcome){ALERT_FAULT_TIMEOUT, 0, -1};
            }
            a->ends_ms = w->now_ms + takes_ms;
        }
        break;
    case ALERT_TOLD:
        switch (alert_circuit_told(&w->circuit[e->way], e->class, last, e->way == 3, w->now_ms)) {
        case ALERT_CIRCUIT_RAISE:
            CHECK(w->raised[e->way] == 0);
            w->raised[e->way] = 1;
            break;
        case ALERT_CIRCUIT_RESOLVE:
            CHECK(w->raised[e->way] == 1);
            w->raised[e->way] = 0;
            for (size_t i = 0; i < ALERTS; i++)
                if (w->a[i].d.state == ALERT_PAUSED && &w->a[i] != a) {
                    w->a[i].last_way = 0;
                    apply(w, &w->a[i], &(struct alert_event){.kind = ALERT_BACK});
                }
            break;
        case ALERT_CIRCUIT_SILENT:
            break;
        }
        break;
    case ALERT_RECEIPT:
        if (e->status == ALERT_STATUS_ACCEPTED) {
            CHECK(!a->accepted && a->d.notify);
            a->accepted = true;
        } else if (e->status == ALERT_STATUS_RECORDED) {
            CHECK(!a->recorded);
            a->recorded = true;
        } else if (e->status == ALERT_STATUS_EXHAUSTED) {
            a->last_way = 0;
        }
        break;
    case ALERT_WAKE_AT:
        CHECK(e->at_ms > w->now_ms && e->at_ms == a->d.wake_ms);
        break;
    case ALERT_END:
        break;
    }
}

static void apply(struct world *w, struct sim_alert *a, const struct alert_event *ev)
{
    struct alert_effect out[ALERT_EFFECTS_MAX];
    size_t n = alert_decide(&a->d, &a->p, ev, w->now_ms, out);
    sm_check(&alert_table, a->d.state, &a->d);
    for (size_t i = 0; i < n; i++)
        carry_out(w, a, &out[i], &ev->outcome);
}

/* The next thing that happens to an alert; INT64_MAX = nothing. */
static int64_t next_ms(const struct sim_alert *a)
{
    if (a->d.state == ALERT_NEW)
        return a->begins_ms;
    if (a->sending)
        return a->ends_ms;
    if (a->d.state == ALERT_BACKOFF || a->d.state == ALERT_PAUSED)
        return a->d.wake_ms;
    return INT64_MAX;
}

static void one_world(uint64_t of_seed)
{
    seed = of_seed;
    rng = of_seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    static struct world w;
    w = (struct world){.heals_ms = rnd(1200000)};
    for (size_t i = 0; i < ALERTS; i++) {
        struct sim_alert *a = &w.a[i];
        a->begins_ms = rnd(600000);
        a->p.n = WAYS;
        for (size_t k = 0; k < WAYS; k++)
            a->p.ways[k] = (struct alert_way){.proto = k == 0   ? ALERT_PROTO_SMTP
                                                       : k == 3 ? ALERT_PROTO_FILE
                                                                : ALERT_PROTO_HTTP,
                                              .record = k == 3,
                                              .tries = 1 + (int)rnd(4),
                                              .attempt_ms = 100 + rnd(10000),
                                              .deadline_ms = 1000 + rnd(300000),
                                              .deadline_critical_ms = 1000 + rnd(30000)};
    }
    for (;;) {
        struct sim_alert *next = NULL;
        for (size_t i = 0; i < ALERTS; i++)
            if (next_ms(&w.a[i]) != INT64_MAX && (!next || next_ms(&w.a[i]) < next_ms(next)))
                next = &w.a[i];
        if (!next)
            break;
        CHECK(next_ms(next) >= w.now_ms);
        w.now_ms = next_ms(next);
        CHECK(w.now_ms < 4 * 3600000);
        if (next->d.state == ALERT_NEW) {
            struct alert_event ev = {.kind = ALERT_START, .notify = rnd(5) != 0, .critical = rnd(2) == 0};
            apply(&w, next, &ev);
        } else if (next->sending) {
            struct alert_event ev = {.kind = ALERT_RESULT, .outcome = next->will};
            next->sending = false;
            apply(&w, next, &ev);
        } else {
            if (next->d.state == ALERT_PAUSED)
                next->last_way = 0;
            apply(&w, next, &(struct alert_event){.kind = ALERT_WAKE});
        }
    }
    for (size_t i = 0; i < ALERTS; i++) {
        CHECK(w.a[i].d.state == ALERT_DONE);
        CHECK(w.a[i].accepted == w.a[i].d.notify); /* never lost, and nobody told who was not to be */
        CHECK(w.a[i].tried == w.a[i].d.notify);
    }
}

static void every_alert_is_delivered(void **state)
{
    (void)state;
    const char *given = getenv("SEED");
    if (given) {
        one_world(strtoull(given, NULL, 10));
        return;
    }
    uint64_t base = (uint64_t)time(NULL);
    for (uint64_t i = 0; i < 300; i++)
        one_world(base * 1000 + i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_alert_is_delivered)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
