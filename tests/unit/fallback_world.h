/* fallback_world.h - what tests of the fallback decider share: one agent, what is seen of it, and each event given and checked. */
#ifndef FALLBACK_WORLD_H
#define FALLBACK_WORLD_H

#include "fallback/fallback.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#define N    3
#define HOLD 1000
#define NOW  1000000

/* An agent with three LLMs, a backend and an override. */
struct world {
    struct fallback f;
    struct fallback_rule rule;
    struct fallback_target llm[N], backend;
    struct fallback_verdict verdict, judgement, resources;
    struct fallback_view view;
    int64_t now;
    uint64_t epochs; /* of the targets */
    struct fallback_effect e[FALLBACK_EFFECTS_MAX];
    size_t n;
};

static inline const struct fallback_effect *effect(const struct world *w, enum fallback_effect_kind kind)
{
    for (size_t i = 0; i < w->n; i++)
        if (w->e[i].kind == kind)
            return &w->e[i];
    return NULL;
}

static inline const struct fallback_effect *told(const struct world *w, enum fallback_notice k, bool resolved)
{
    for (size_t i = 0; i < w->n; i++)
        if (w->e[i].kind == FALLBACK_TELL && w->e[i].notice == k && w->e[i].resolved == resolved)
            return &w->e[i];
    return NULL;
}

static inline const struct fallback_effect *must(const struct fallback_effect *e)
{
    static const struct fallback_effect none;
    assert_non_null(e);
    return e ? e : &none;
}

static inline bool says(const struct fallback_effect *e, const char *text)
{
    return e && strstr(e->text, text);
}

static inline void give(struct world *w, struct fallback_event ev)
{
    w->n = fallback_decide(&w->f, &w->rule, &w->view, &ev, w->now, w->e);
    /* What goes with a write is never without one. */
    bool store = effect(w, FALLBACK_STORE);
    for (size_t i = 0; i < w->n; i++) {
        enum fallback_effect_kind k = w->e[i].kind;
        if (k == FALLBACK_ISSUE || k == FALLBACK_TELL || k == FALLBACK_RECORD)
            assert_true(store);
    }
    assert_null(fallback_invariant(&w->f.doc));
    if (fallback_without_llm(&w->f.doc) && w->rule.override)
        assert_true(w->f.doc.override_mode == FALLBACK_OVERRIDE_ACTIVATING ||
                    w->f.doc.override_mode == FALLBACK_OVERRIDE_ACTIVE);
}

static inline void look(struct world *w)
{
    give(w, (struct fallback_event){.kind = FALLBACK_LOOK});
}

static inline void ack(struct world *w)
{
    give(w, (struct fallback_event){.kind = FALLBACK_ACK, .epoch = w->f.doc.epoch});
}

static inline void called(struct world *w, enum fallback_call_kind call, bool ok)
{
    struct fallback_event ev = {.kind = FALLBACK_CALLED, .call = call, .failed = !ok, .called_at_ms = w->now};
    snprintf(ev.key, sizeof ev.key, "%s", w->f.doc.override_key);
    snprintf(ev.detail, sizeof ev.detail, "because");
    give(w, ev);
}

static inline void breaker(struct world *w, struct fallback_target *t, int state, uint32_t ramp)
{
    bool well = state == FALLBACK_BREAKER_CLOSED || state == FALLBACK_BREAKER_PROBATION ||
                state == FALLBACK_BREAKER_FORCED_CLOSED || state == FALLBACK_BREAKER_METRICS_ONLY;
    assert_true(fallback_target_breaker(t, ++w->epochs, state, ramp, w->now, well ? 0 : w->now - 7));
}

static inline void raw(struct world *w)
{
    *w = (struct world){.now = NOW};
    w->rule = (struct fallback_rule){
        .agent = "agent-1",
        .n_chain = N,
        .chain = {{"llm.a", "model-a"}, {"llm.b", "model-b"}, {"llm.c", "model-c"}},
        .backend = "backend.x",
        .override = true,
        .override_duration_ms = 3600000,
        .override_renew_ms = 600000,
        .override_retry_ms = 2000,
        .ack_ms = 1000,
        .ack_alert_ms = 5000,
        .restore_hold_ms = HOLD,
        .backend_step_ms = 100,
        .rank = 50,
        .shed_step_ms = 300,
        .shed_hold_ms = 200,
        .may_restart = true,
        .restarts_per_hour = 3,
        .return_step_ms = 100,
        .monitor_interval_ms = 60000,
        .procedure = "call the night shift",
        .deployment = "agents",
        .rollback = FALLBACK_ROLLBACK_OFFER,
        .rollback_after_ms = 5000,
    };
    for (int i = 0; i < N; i++)
        w->view.llm[i] = &w->llm[i];
    w->view.backend = &w->backend;
    w->view.verdict = &w->verdict;
    w->view.judgement = &w->judgement;
    w->view.resources = &w->resources;
    w->view.ready = w->view.bus_up = w->view.may_loosen = true;
}

/* All is well, the first directive confirmed. */
static inline void fresh(struct world *w)
{
    raw(w);
    for (int i = 0; i < N; i++)
        breaker(w, &w->llm[i], FALLBACK_BREAKER_CLOSED, 100);
    breaker(w, &w->backend, FALLBACK_BREAKER_CLOSED, 100);
    give(w, (struct fallback_event){.kind = FALLBACK_START});
    ack(w);
}

static inline void exhausted(struct world *w)
{
    fresh(w);
    for (int i = 0; i < N; i++)
        breaker(w, &w->llm[i], FALLBACK_BREAKER_OPEN, 0);
    look(w);
}

/* Is that alert open? */
static inline bool fallback_told_of(const struct world *w, enum fallback_notice k)
{
    return w->f.doc.open_alerts & (1u << k);
}

/* A new verdict on it; `what` is one of the three of the world. */
static inline void judge(struct world *w, struct fallback_verdict *what, int health, int failure)
{
    *what = (struct fallback_verdict){
        .epoch = what->epoch + 1, .health = health, .failure = failure, .since_ms = w->now, .reason = "seen"};
    look(w);
}

static inline void wait_ms(struct world *w, int64_t ms)
{
    w->now += ms;
    look(w);
}

#endif
