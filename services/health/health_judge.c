/* health_judge.c - an agent's judgement: decisions as they come, and questions with one right answer.
 *
 * Both go into one verdict, `agent.<name>.logic`. Each source counts its own runs (health_logic.c, health_selftest.c), so that
 * many good decisions do not hide wrong answers; what is said is the worse of the two. Every replica hears all decisions. Questions cost
 * the agent a call to its LLM: they are asked by the replica whose duty it is, one after the other, and never of an agent that is
 * down. */
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include "common/selftest.h"
#include "health/health_shell.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_MAX_MS 1000
#define LOOK_MIN_MS 50

METRIC_DEFINE(decisions, METRIC_COUNTER, "redoubt_decisions_total", "Decisions of agents that are watched.");
METRIC_DEFINE(strangers, METRIC_COUNTER, "redoubt_decisions_unknown_total",
              "Decisions of agents that the settings don't know.");
METRIC_DEFINE(asked, METRIC_COUNTER, "redoubt_selftests_total", "Questions asked of agents.");
METRIC_DEFINE(wrong, METRIC_COUNTER, "redoubt_selftests_wrong_total", "Questions answered wrongly, or not in time.");
METRIC_DEFINE(not_taken, METRIC_COUNTER, "redoubt_selftests_not_taken_total",
              "Questions that nobody took: the agent was down, or serves no self-tests.");

/* ---- the verdict ---- */

static struct health_result result_now(int probe)
{
    int64_t now_ms = clock_shared_ms();
    return (struct health_result){
        .probe = (uint8_t)probe, .fault = HEALTH_FAULT_NONE, .started_ms = now_ms, .ended_ms = now_ms};
}

/* What holds now, into the verdict: when it is another than before, with each answer (news), and now and then. */
static void say(struct health_agent *a, bool news)
{
    int64_t now_ms = clock_mono_ms();
    struct health_result r = result_now(HEALTH_PROBE_DECISIONS);
    bool known = a->logic && health_logic_judge(a->logic, &a->logic_rule, now_ms, &r);
    int test = a->test.fault; /* CANCELLED: not tested yet */
    if (test > HEALTH_FAULT_NONE || (test == HEALTH_FAULT_NONE && r.fault == HEALTH_FAULT_NONE && (news || !known))) {
        r.probe = HEALTH_PROBE_SELFTEST;
        r.fault = (uint8_t)test;
        health_detail(&r, "%s", a->test.detail);
        known = true;
    }
    bool due = a->said_ms == 0 || r.fault != a->said ||
               now_ms - a->said_ms >= a->logic_rule.window_ms / HEALTH_LOGIC_BUCKETS;
    if (!known || !(news || due))
        return;
    a->said = r.fault;
    a->said_ms = now_ms;
    health_take_result(a->judgement, &r);
}

/* ---- decisions ---- */

static void look_soon(struct health_agent *a)
{
    int64_t after_ms = a->logic_rule.window_ms / 20;
    after_ms = after_ms < LOOK_MIN_MS ? LOOK_MIN_MS : after_ms > LOOK_MAX_MS ? LOOK_MAX_MS : after_ms;
    if (a->judge_ms == 0) {
        a->judge_ms = clock_mono_ms() + after_ms;
        health_judge_arm(a);
    }
}

static bool begin(struct health_agent *a)
{
    if (!a->logic && (a->logic = malloc(sizeof *a->logic)))
        health_logic_init(a->logic);
    return a->logic;
}

static void take(struct health_agent *a, const PB(Decision) * d)
{
    const struct health_decision x = {.event_key = d->event_key,
                                      .verdict = d->verdict,
                                      .action = d->action,
                                      .object = d->object,
                                      .detail = d->detail,
                                      .outcome = (int)d->outcome};
    metric_add(&decisions, 1);
    health_logic_take(a->logic, &a->logic_rule, &x, clock_mono_ms());
}

void health_judge_beat(struct health_agent *a, uint64_t exceptions)
{
    if (!a->logic && exceptions == 0)
        return;
    if (!begin(a))
        return;
    health_logic_beat(a->logic, &a->logic_rule, exceptions, clock_mono_ms());
    look_soon(a);
}

/* The agent that may decide under this subject; NULL: counted. */
static struct health_agent *agent_of(struct service *s, const struct bus_msg *m)
{
    struct health_watcher *w = health_watcher_of(s);
    const char *tail = subject_tail(m->subject, SUBJECT_DECISION);
    struct health_agent *a = tail ? health_agent_find(w, tail) : NULL;
    if (!a)
        metric_add(&strangers, 1);
    /* During tilt nothing counts. */
    return a && !w->draining && health_may_act(w) && begin(a) ? a : NULL;
}

static bool is_own(struct service *s, const struct bus_msg *m, const PB(Decision) * d)
{
    const char *tail = subject_tail(m->subject, SUBJECT_DECISION);
    bool own = tail && strcmp(tail, d->agent) == 0;
    if (!own)
        service_bad_input(s, "decision on another's subject", m, d->agent);
    return own;
}

/* A batch counts whole or not at all. */
static void take_batch(struct service *s, const struct bus_msg *m, const PB(DecisionBatch) * b)
{
    for (size_t i = 0; i < b->n_decisions; i++)
        if (!is_own(s, m, b->decisions[i]))
            return;
    struct health_agent *a = agent_of(s, m);
    for (size_t i = 0; a && i < b->n_decisions; i++)
        take(a, b->decisions[i]);
    if (a)
        look_soon(a);
}

static void take_one(struct service *s, const struct bus_msg *m, const PB(Decision) * d)
{
    struct health_agent *a = is_own(s, m, d) ? agent_of(s, m) : NULL;
    if (!a)
        return;
    take(a, d);
    look_soon(a);
}

void health_on_decision(struct service *s, const void *message, const struct bus_msg *m)
{
    struct err e = {""};
    (void)message;
    bool batch = m->type && strcmp(m->type, "redoubt.v1.DecisionBatch") == 0;
    if (m->type && !batch && strcmp(m->type, "redoubt.v1.Decision") != 0) {
        service_bad_input(s, "decision of an unknown type", m, m->type);
        return;
    }
    void *x = wire_unpack(batch ? PB_DESC(decision_batch) : PB_DESC(decision), m->data, m->len, &e);
    if (!x)
        service_bad_input(s, "decision", m, e.text);
    else if (batch)
        take_batch(s, m, x);
    else
        take_one(s, m, x);
    wire_free(x);
}

/* ---- self-tests ---- */

struct asking {
    struct health_agent *a;
    json_t *expect;
    char id[48], name[65];
};

static enum health_selftest_end judge_answer(struct service *s, const struct asking *q, const struct bus_msg *m,
                                             char *why, size_t size)
{
    struct err e = {""};
    enum health_selftest_end end = HEALTH_SELFTEST_WRONG;
    PB(SelftestAnswer) *x = wire_unpack(PB_DESC(selftest_answer), m->data, m->len, &e);
    json_t *answer = x && !*x->error ? json_loads(x->answer_json, 0, NULL) : NULL;
    if (!x) {
        service_bad_input(s, "answer to a self-test", m, e.text);
        snprintf(why, size, "the answer cannot be read");
    } else if (strcmp(x->id, q->id) != 0) {
        service_bad_input(s, "answer to a self-test", m, "it is to another question");
        snprintf(why, size, "the answer is to another question");
    } else if (*x->error) {
        snprintf(why, size, "no answer: %s", x->error);
        end = HEALTH_SELFTEST_NO_ANSWER;
    } else if (!json_is_object(answer)) {
        snprintf(why, size, "the answer is not a JSON object");
    } else if (selftest_same(q->expect, answer, why, size)) {
        end = HEALTH_SELFTEST_RIGHT;
    }
    json_decref(answer);
    wire_free(x);
    return end;
}

/* Nobody takes the questions: if the agent is alive, people should know that it is not tested, once. */
static void say_unserved(struct health_agent *a)
{
    metric_add(&not_taken, 1);
    if (a->unserved || a->life->verdict.state == HEALTH_UNHEALTHY)
        return;
    a->unserved = true;
    log_warn("the agent is alive, but takes no self-tests: it has questions in the settings, and does not listen",
             F_STR("agent", a->life->name), F_STR("next", "let it serve redoubt.v1.selftest.<agent>"));
}

static void on_answer(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct asking *q = ctx;
    struct health_agent *a = q->a;
    struct health_watcher *w = a->life->w;
    char why[HEALTH_DETAIL_MAX] = "no answer in time";
    enum health_selftest_end end = st == BUS_OK        ? judge_answer(w->s, q, m, why, sizeof why)
                                   : st == BUS_TIMEOUT ? HEALTH_SELFTEST_NO_ANSWER
                                                       : HEALTH_SELFTEST_NOT_ASKED;
    a->asking = false;
    bool counts = !a->judgement->gone && !w->draining && health_may_act(w);
    /* Without an answer it may be the link, or the agent itself, that is gone: that is another verdict's business. */
    if (st == BUS_TIMEOUT && (!bus_up(w->s->bus) || a->beat.missed > 0))
        end = HEALTH_SELFTEST_NOT_ASKED;
    if (counts && st == BUS_NO_RESPONDERS)
        say_unserved(a);
    if (st == BUS_OK)
        a->unserved = false;
    if (counts && health_selftest_take(&a->test, (uint32_t)a->set->selftest.fall, end, q->name, why)) {
        if (end != HEALTH_SELFTEST_RIGHT) {
            metric_add(&wrong, 1);
            log_warn("self-test failed", F_STR("agent", a->life->name), F_STR("question", q->name), F_STR("why", why),
                     F_INT("in_a_row", a->test.wrong));
        }
        say(a, true);
    }
    json_decref(q->expect);
    free(q);
    health_kept(w);
}

static void ask(struct health_agent *a)
{
    struct service *s = a->life->w->s;
    const struct set_selftest *set = &a->set->selftest;
    const struct set_question *c =
        CONF_AT(set->questions, struct set_question, health_selftest_next(&a->test, (uint32_t)set->questions.n));
    struct asking *q = calloc(1, sizeof *q);
    char subject[SUBJECT_MAX_LEN];
    size_t len = 0;
    if (!q || !(q->expect = json_loads(c->expect, 0, NULL))) {
        free(q);
        return; /* out of memory: the next one follows */
    }
    q->a = a;
    service_new_id(s, q->id);
    snprintf(q->name, sizeof q->name, "%s", c->name);
    PB(SelftestQuestion) m = REDOUBT__V1__SELFTEST_QUESTION__INIT;
    m.agent = a->set->name;
    m.id = q->id;
    m.name = c->name;
    m.event_json = c->event;
    m.answer_by_unix_ms = clock_wall_ms() + set->timeout_ms;
    void *data = wire_pack(&m, &len, NULL);
    if (!data) {
        json_decref(q->expect);
        free(q);
        return;
    }
    snprintf(subject, sizeof subject, SUBJECT_SELFTEST "%s", a->set->name);
    const struct bus_out o = {.subject = subject, .type = wire_type(&m), .data = data, .len = len};
    metric_add(&asked, 1);
    a->asking = true;
    health_promise(a->life->w);
    bus_request(s->bus, &o, set->timeout_ms, on_answer, q);
    free(data);
}

static bool may_ask(const struct health_agent *a)
{
    const struct health_watcher *w = a->life->w;
    return !a->asking && a->set->selftest.questions.n > 0 && bus_up(w->s->bus) && health_may_act(w) &&
           health_owns(a->judgement) && a->beat.ever && a->life->verdict.state != HEALTH_UNHEALTHY;
}

/* ---- when ---- */

void health_judge_arm(struct health_agent *a)
{
    int64_t now_ms = clock_mono_ms(), at_ms = a->judge_ms;
    if (a->set->selftest.questions.n == 0)
        a->ask_ms = 0;
    else if (a->ask_ms == 0 || a->ask_ms > now_ms + a->set->selftest.interval_ms)
        a->ask_ms = now_ms + 1 + health_random() % (a->set->selftest.interval_ms); /* not all agents at once */
    if (a->ask_ms && (at_ms == 0 || a->ask_ms < at_ms))
        at_ms = a->ask_ms;
    if (at_ms == 0)
        loop_timer_stop(&a->judgement->timer);
    else
        loop_timer_start(&a->judgement->timer, at_ms > now_ms ? at_ms - now_ms : 0, 0);
}

static void on_due(void *ctx)
{
    struct health_watch *t = ctx;
    struct health_agent *a = t->agent;
    int64_t now_ms = clock_mono_ms();
    if (t->w->draining || t->gone)
        return;
    if (a->judge_ms && now_ms >= a->judge_ms) {
        a->judge_ms = 0;
        if (health_may_act(t->w))
            say(a, false);
    }
    if (a->ask_ms && now_ms >= a->ask_ms) {
        a->ask_ms = now_ms + a->set->selftest.interval_ms;
        if (may_ask(a))
            ask(a);
    }
    health_judge_arm(a);
}

void health_judge_start(struct health_agent *a)
{
    loop_timer_init(&a->judgement->w->s->loop, &a->judgement->timer, on_due, a->judgement);
    a->judge_ms = a->ask_ms = 0;
    health_judge_arm(a);
}
