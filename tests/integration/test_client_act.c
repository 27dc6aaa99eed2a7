/* test_client_act.c - an agent acts, sheds load, restarts and monitors: libredoubt against a real NATS server; the test plays the suite. */
#include "client_kit.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <unistd.h>

#define MOST 1500

/* What the guard does with the next request. A row of them is a plan; after its end, and without one, all is forwarded. */
struct deed {
    enum { ANSWERS, SILENT, JUNK, EMPTY, OTHER_KEY, OTHER_TYPE, TWICE, LATER } how;
    int decision, refusal;
    unsigned status, retry_after_ms;
};

/* What the agent saw; filled by the library's thread. */
struct agent {
    struct client_kit *k;
    int given, frozen, ups, downs, results, restarts, looks;
    uint64_t restart_epoch;
    redoubt_result last;
    int by_result[8];
    redoubt_directive directive; /* of its texts nothing */
    enum redoubt_ack answer;
    bool act_again; /* the next result asks for one more */
};

/* What the suite heard; filled by the test's loop. */
struct env {
    struct client_kit k;
    struct bus_sub *guard;
    struct agent agent;
    uint64_t epoch;
    int acks, acks_at_restart, requests, reports, decisions;
    char keys[MOST][129];
    uint64_t epochs[MOST];
    char request[512]; /* the last one */
    const struct deed *plan;
    size_t n_plan;
    char later_reply[256], later_key[129];
    char report[512], decision[256];
};

/* ---- the agent ---- */

static enum redoubt_ack on_directive(void *ctx, const redoubt_directive *d, char detail[256])
{
    struct agent *a = ctx;
    pthread_mutex_lock(&a->k->lock);
    d->epoch ? a->given++ : a->frozen++;
    a->directive = *d;
    enum redoubt_ack answer = a->answer;
    pthread_mutex_unlock(&a->k->lock);
    snprintf(detail, 256, "as told");
    return answer;
}

static void on_connection(void *ctx, bool up)
{
    struct agent *a = ctx;
    pthread_mutex_lock(&a->k->lock);
    up ? a->ups++ : a->downs++;
    pthread_mutex_unlock(&a->k->lock);
}

static void on_restart(void *ctx, uint64_t epoch)
{
    struct agent *a = ctx;
    pthread_mutex_lock(&a->k->lock);
    a->restarts++;
    a->restart_epoch = epoch;
    pthread_mutex_unlock(&a->k->lock);
}

static void on_monitor(void *ctx, redoubt_monitor *m)
{
    struct agent *a = ctx;
    char text[300];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    pthread_mutex_lock(&a->k->lock);
    a->looks++;
    pthread_mutex_unlock(&a->k->lock);
    assert_int_equal(redoubt_monitor_check(m, "disk", true, NULL), 0);
    assert_int_equal(redoubt_monitor_check(m, "auth_log", false, text), 0); /* cut */
    assert_int_equal(redoubt_monitor_check(m, NULL, true, NULL), -1);
    assert_int_equal(redoubt_monitor_check(m, "", true, NULL), -1);
    assert_int_equal(redoubt_monitor_check(m, text, true, NULL), -1);
    assert_int_equal(redoubt_monitor_check(m, "\xff", true, NULL), -1);
    for (int i = 0; i < 62; i++)
        assert_int_equal(redoubt_monitor_check(m, "more", true, "well"), 0);
    assert_int_equal(redoubt_monitor_check(m, "more", true, "well"), -1);
}

static void on_result(void *ctx, const redoubt_result *result)
{
    struct agent *a = ctx;
    pthread_mutex_lock(&a->k->lock);
    a->results++;
    a->last = *result;
    a->by_result[result->result]++;
    bool again = a->act_again;
    a->act_again = false;
    redoubt *r = a->k->r;
    pthread_mutex_unlock(&a->k->lock);
    if (again)
        assert_int_equal(redoubt_act(r, &(redoubt_action){.action = "block_ip"}, on_result, a), 0);
}

/* ---- the suite's side ---- */

static void reply(struct env *v, const char *to, const char *key, const struct deed *d)
{
    PB(ActionReply) a = REDOUBT__V1__ACTION_REPLY__INIT;
    a.idempotency_key = (char *)(uintptr_t)key;
    a.decision = (PB(ActionDecision))d->decision;
    a.refusal = (PB(RefusalReason))d->refusal;
    a.detail = "so says the guard";
    a.status_code = d->status;
    a.retry_after_ms = d->retry_after_ms;
    client_kit_say(&v->k, to, NULL, &a);
}

static void on_action(void *ctx, const struct bus_msg *m)
{
    struct env *v = ctx;
    struct err e = {""};
    PB(ActionRequest) *q = wire_unpack(PB_DESC(action_request), m->data, m->len, &e);
    if (!q)
        fail_msg("%s", e.text);
    assert_string_equal(q->agent, AGENT);
    assert_string_equal(q->instance, "box-1");
    assert_true(q->requested_unix_ms > 0 && v->requests < MOST);
    snprintf(v->keys[v->requests], sizeof v->keys[0], "%s", q->idempotency_key);
    v->epochs[v->requests] = q->epoch;
    int n = snprintf(v->request, sizeof v->request, "%s %u %" PRId64, q->action, q->priority, q->expires_unix_ms);
    for (size_t i = 0; i < q->n_parameters && n < 400; i++)
        n += snprintf(v->request + n, sizeof v->request - (size_t)n, " %s=%s", q->parameters[i]->key,
                      q->parameters[i]->value);
    static const struct deed forward = {.how = ANSWERS, .decision = REDOUBT_ACT_FORWARDED, .status = 202};
    const struct deed *d = &forward;
    if (v->n_plan > 0) {
        d = v->plan++;
        v->n_plan--;
    }
    static const struct bus_out junk[] = {
        [JUNK] = {.type = "redoubt.v1.ActionReply", .data = "\xff\xff\xff", .len = 3},
        [EMPTY] = {.data = "", .len = 0},
        [OTHER_TYPE] = {.type = "redoubt.v1.CommandReply", .data = "\x08\x01", .len = 2},
    };
    struct bus_out out;
    switch (d->how) {
    case ANSWERS:
        reply(v, m->reply, q->idempotency_key, d);
        break;
    case TWICE:
        reply(v, m->reply, q->idempotency_key, d);
        reply(v, m->reply, q->idempotency_key, d);
        break;
    case OTHER_KEY:
        reply(v, m->reply, "somebody-elses", d);
        break;
    case LATER:
        snprintf(v->later_reply, sizeof v->later_reply, "%s", m->reply);
        snprintf(v->later_key, sizeof v->later_key, "%s", q->idempotency_key);
        break;
    case JUNK:
    case EMPTY:
    case OTHER_TYPE:
        out = junk[d->how];
        out.subject = m->reply;
        (void)bus_publish(v->k.bus, &out, NULL);
        break;
    case SILENT:
        break;
    }
    v->requests++;
    wire_free(q);
}

static void on_ack(void *ctx, const struct bus_msg *m)
{
    struct env *v = ctx;
    (void)m;
    v->acks++;
}

static void on_report(void *ctx, const struct bus_msg *m)
{
    struct env *v = ctx;
    struct err e = {""};
    PB(MonitorReport) *r = wire_unpack(PB_DESC(monitor_report), m->data, m->len, &e);
    if (!r)
        fail_msg("%s", e.text);
    assert_true(r->by_agent && r->seen_unix_ms > 0 && r->n_checks == 64 && m->id);
    assert_string_equal(r->agent, AGENT);
    assert_string_equal(r->instance, "box-1");
    assert_int_equal(strlen(r->checks[1]->detail), 256);
    snprintf(v->report, sizeof v->report, "%" PRIu64 " %s %d %s %d", r->epoch, r->checks[0]->name, r->checks[0]->ok,
             r->checks[1]->name, r->checks[1]->ok);
    v->reports++;
    wire_free(r);
}

static void on_decision(void *ctx, const struct bus_msg *m)
{
    struct env *v = ctx;
    PB(Decision) *d = wire_unpack(PB_DESC(decision), m->data, m->len, NULL);
    assert_non_null(d);
    snprintf(v->decision, sizeof v->decision, "%s %s %d", d->event_key, d->action, (int)d->outcome);
    v->decisions++;
    wire_free(d);
}

/* What an agent may do, by the client's README, as far as this test needs it. */
static const char *const least_privilege =
    CLIENT_KIT_USERS("\"redoubt.v1.action." AGENT "\", \"redoubt.v1.monitor." AGENT "\"", "", "");

static int set_up_with(void **state, const char *conf)
{
    struct env *v = calloc(1, sizeof *v);
    client_kit_open(&v->k, conf);
    v->agent.k = &v->k;
    v->agent.answer = REDOUBT_APPLIED;
    assert_non_null(bus_subscribe(v->k.bus, SUBJECT_ACK ">", NULL, on_ack, v));
    assert_non_null(bus_subscribe(v->k.bus, SUBJECT_MONITOR ">", NULL, on_report, v));
    assert_non_null(bus_subscribe(v->k.bus, SUBJECT_DECISION ">", NULL, on_decision, v));
    v->guard = bus_subscribe(v->k.bus, SUBJECT_ACTION ">", "guard", on_action, v);
    assert_non_null(v->guard);
    client_kit_up(&v->k);
    *state = v;
    return 0;
}

static int set_up(void **state)
{
    return set_up_with(state, NULL);
}

static int set_up_users(void **state)
{
    return set_up_with(state, least_privilege);
}

static int tear_down(void **state)
{
    struct env *v = *state;
    client_kit_close(&v->k);
    free(v);
    return 0;
}

static void open_agent(struct env *v, unsigned lease_ms)
{
    client_kit_open_agent(&v->k, (redoubt_options){.heartbeat_ms = 200,
                                                   .lease_ms = lease_ms,
                                                   .on_directive = on_directive,
                                                   .on_connection = on_connection,
                                                   .on_restart = on_restart,
                                                   .on_monitor = on_monitor,
                                                   .ctx = &v->agent});
}

/* The next directive: `s` says what is not as usual. */
static void direct_as(struct env *v, PB(AgentState) s, PB(Step) step)
{
    char id[64];
    PB(Directive) d = REDOUBT__V1__DIRECTIVE__INIT;
    s.agent = AGENT;
    s.epoch = ++v->epoch;
    s.llm_target = "llm.a";
    s.llm_model = "m";
    s.automation = s.posture == REDOUBT__V1__POSTURE__POSTURE_FROZEN
                       ? REDOUBT__V1__AUTOMATION_MODE__AUTOMATION_MODE_FROZEN
                       : REDOUBT__V1__AUTOMATION_MODE__AUTOMATION_MODE_ENABLED;
    d.state = &s;
    d.step = step;
    d.reason = "test";
    snprintf(id, sizeof id, "directive/" AGENT "/%" PRIu64, v->epoch);
    client_kit_store(&v->k, SUBJECT_DIRECTIVE AGENT, id, &d);
}

static void direct(struct env *v, PB(Posture) posture)
{
    PB(AgentState) s = REDOUBT__V1__AGENT_STATE__INIT;
    s.posture = posture;
    direct_as(v, s, REDOUBT__V1__STEP__STEP_INITIAL);
}

#define NORMAL REDOUBT__V1__POSTURE__POSTURE_NORMAL
#define FROZEN REDOUBT__V1__POSTURE__POSTURE_FROZEN

/* An agent that is directed, and normal. */
static void begin(struct env *v, unsigned lease_ms)
{
    direct(v, NORMAL);
    open_agent(v, lease_ms);
    UNTIL(v, v->agent.given == 1 && redoubt_posture_now(v->k.r) == REDOUBT_NORMAL &&
                 redoubt_epoch_now(v->k.r) == v->epoch);
}

#define PLAN(v, ...)                                                                                                 \
    do {                                                                                                             \
        static const struct deed plan_[] = {__VA_ARGS__};                                                            \
        (v)->plan = plan_;                                                                                           \
        (v)->n_plan = sizeof plan_ / sizeof *plan_;                                                                  \
    } while (0)

static void act(struct env *v, const redoubt_action *a)
{
    assert_int_equal(redoubt_act(v->k.r, a, on_result, &v->agent), 0);
}

/* Acts and waits; how it ended is in v->agent.last. */
static void act_and_wait(struct env *v, const redoubt_action *a)
{
    int before = v->agent.results;
    act(v, a);
    UNTIL(v, v->agent.results == before + 1);
}

static const redoubt_action plain = {.action = "block_ip"};

/* ---- tests ---- */

static void every_outcome(void **state)
{
    struct env *v = *state;
    begin(v, 0);
    static const redoubt_parameter parameters[] = {{"ip", "203.0.113.7"}, {"minutes", "10"}, {"note", NULL}};
    const redoubt_action full = {.action = "block_ip",
                                 .parameters = parameters,
                                 .n_parameters = 3,
                                 .idempotency_key = "key-1",
                                 .priority = 3,
                                 .expires_unix_ms = INT64_C(4102444800000)};
    act_and_wait(v, &full);
    assert_string_equal(v->request, "block_ip 3 4102444800000 ip=203.0.113.7 minutes=10 note=");
    assert_string_equal(v->keys[0], "key-1");
    assert_true(v->epochs[0] == v->epoch);
    const redoubt_result *last = &v->agent.last;
    assert_int_equal(last->result, REDOUBT_ACT_FORWARDED);
    assert_int_equal(last->status_code, 202);
    assert_true(last->epoch == v->epoch);
    assert_string_equal(last->idempotency_key, "key-1");
    assert_string_equal(last->detail, "so says the guard");

    static const struct deed rows[] = {
        {.decision = REDOUBT_ACT_QUEUED},
        {.decision = REDOUBT_ACT_DUPLICATE},
        {.decision = REDOUBT_ACT_PERMITTED},
        {.decision = REDOUBT_ACT_FAILED, .status = 422},
        {.decision = REDOUBT_ACT_REFUSED, .refusal = REDOUBT_REFUSED_UNKNOWN_AGENT},
        {.decision = REDOUBT_ACT_REFUSED, .refusal = REDOUBT_REFUSED_FROZEN},
        {.decision = REDOUBT_ACT_REFUSED, .refusal = REDOUBT_REFUSED_NOT_ALLOWED},
        {.decision = REDOUBT_ACT_REFUSED, .refusal = REDOUBT_REFUSED_INVALID},
        {.decision = REDOUBT_ACT_REFUSED, .refusal = REDOUBT_REFUSED_RATE_LIMITED, .retry_after_ms = 1234},
        {.decision = REDOUBT_ACT_REFUSED, .refusal = REDOUBT_REFUSED_QUEUE_FULL},
        {.decision = REDOUBT_ACT_REFUSED, .refusal = REDOUBT_REFUSED_EXPIRED},
        {.decision = REDOUBT_ACT_REFUSED, .refusal = REDOUBT_REFUSED_AUDIT_UNAVAILABLE},
    };
    int before = v->requests;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        v->plan = &rows[i];
        v->n_plan = 1;
        act_and_wait(v, &plain);
        assert_int_equal(last->result, rows[i].decision);
        assert_int_equal(last->refusal, rows[i].refusal);
        assert_int_equal(last->status_code, rows[i].status);
        assert_int_equal(last->retry_after_ms, rows[i].retry_after_ms);
    }
    assert_int_equal(v->requests - before, sizeof rows / sizeof *rows); /* each asked once */
    for (int i = 1; i < v->requests; i++)                               /* under keys of their own */
        for (int k = 0; k < i; k++)
            assert_string_not_equal(v->keys[i], v->keys[k]);
}

static void asked_again_under_the_same_key(void **state)
{
    struct env *v = *state;
    begin(v, 0);
    PLAN(v, {.decision = REDOUBT_ACT_REFUSED, .refusal = REDOUBT_REFUSED_STATE_UNKNOWN},
         {.decision = REDOUBT_ACT_REFUSED, .refusal = REDOUBT_REFUSED_IN_PROGRESS}, {.how = JUNK}, {.how = EMPTY},
         {.how = OTHER_TYPE}, {.how = OTHER_KEY, .decision = REDOUBT_ACT_FORWARDED},
         {.how = TWICE, .decision = REDOUBT_ACT_DUPLICATE});
    act_and_wait(v, &plain);
    assert_int_equal(v->agent.last.result, REDOUBT_ACT_DUPLICATE);
    assert_int_equal(v->requests, 7);
    for (int i = 1; i < 7; i++)
        assert_string_equal(v->keys[i], v->keys[0]);
    /* The second answer of the guard that answers twice disturbs nobody. */
    act_and_wait(v, &plain);
    assert_int_equal(v->agent.last.result, REDOUBT_ACT_FORWARDED);
    assert_int_equal(v->agent.results, 2);
}

static void a_late_answer_still_counts(void **state)
{
    struct env *v = *state;
    begin(v, 0);
    PLAN(v, {.how = LATER}, {.how = SILENT});
    act(v, &plain);
    UNTIL(v, v->requests == 2); /* silence: asked again */
    assert_string_equal(v->keys[1], v->keys[0]);
    reply(v, v->later_reply, v->later_key, &(struct deed){.decision = REDOUBT_ACT_QUEUED});
    UNTIL(v, v->agent.results == 1);
    assert_int_equal(v->agent.last.result, REDOUBT_ACT_QUEUED);
    /* And one that comes when all is over does no harm. */
    reply(v, v->later_reply, v->later_key, &(struct deed){.decision = REDOUBT_ACT_FORWARDED});
    act_and_wait(v, &plain);
    assert_int_equal(v->agent.results, 2);
}

static void on_gone(void *ctx, enum bus_status st, const struct bus_msg *reply)
{
    (void)reply;
    *(enum bus_status *)ctx = st;
}

/* The guard listens no more, and the server knows. */
static void no_guard(struct env *v)
{
    bus_unsubscribe(v->guard);
    enum bus_status st = BUS_CLOSED;
    bus_request(v->k.bus, &(struct bus_out){.subject = SUBJECT_ACTION "nobody", .data = "", .len = 0}, 5000, on_gone,
                &st);
    UNTIL(v, st == BUS_NO_RESPONDERS);
}

static void the_deadline(void **state)
{
    struct env *v = *state;
    begin(v, 0);
    /* Taken by somebody who says nothing: it may have been done. */
    PLAN(v, {.how = SILENT});
    act_and_wait(v, &(redoubt_action){.action = "block_ip", .timeout_ms = 300});
    assert_int_equal(v->agent.last.result, REDOUBT_ACT_UNKNOWN);
    assert_int_equal(v->agent.last.refusal, REDOUBT_REFUSED_UNREACHABLE);
    /* By its own end. */
    PLAN(v, {.decision = REDOUBT_ACT_REFUSED, .refusal = REDOUBT_REFUSED_STATE_UNKNOWN, .retry_after_ms = 60000});
    act_and_wait(v, &(redoubt_action){.action = "block_ip", .expires_unix_ms = clock_wall_ms() + 300});
    assert_int_equal(v->agent.last.result, REDOUBT_ACT_REFUSED);
    assert_int_equal(v->agent.last.refusal, REDOUBT_REFUSED_EXPIRED);
    int before = v->requests;
    act_and_wait(v, &(redoubt_action){.action = "block_ip", .expires_unix_ms = 1});
    assert_int_equal(v->agent.last.refusal, REDOUBT_REFUSED_EXPIRED);
    assert_int_equal(v->requests, before);
    /* No guard at all: for certain it was not done; and one that comes in time does it. */
    no_guard(v);
    act_and_wait(v, &(redoubt_action){.action = "block_ip", .timeout_ms = 400});
    assert_int_equal(v->agent.last.result, REDOUBT_ACT_REFUSED);
    assert_int_equal(v->agent.last.refusal, REDOUBT_REFUSED_UNREACHABLE);
    act(v, &plain);
    v->guard = bus_subscribe(v->k.bus, SUBJECT_ACTION ">", "guard", on_action, v);
    UNTIL(v, v->agent.by_result[REDOUBT_ACT_FORWARDED] == 1);
    assert_int_equal(v->requests, before + 1);
}

static void refused_here_when_it_may_not_act(void **state)
{
    struct env *v = *state;
    open_agent(v, 300);
    UNTIL(v, v->agent.ups == 1);
    act_and_wait(v, &plain);
    assert_int_equal(v->agent.last.result, REDOUBT_ACT_REFUSED);
    assert_int_equal(v->agent.last.refusal, REDOUBT_REFUSED_NO_DIRECTIVE);
    assert_true(v->agent.last.epoch == 0);
    assert_false(redoubt_load(v->k.r));
    direct(v, FROZEN);
    UNTIL(v, v->agent.given == 1 && redoubt_epoch_now(v->k.r) == 1);
    act_and_wait(v, &plain);
    assert_int_equal(v->agent.last.refusal, REDOUBT_REFUSED_FROZEN);
    assert_false(redoubt_load(v->k.r));
    direct(v, NORMAL);
    UNTIL(v, v->agent.given == 2 && redoubt_epoch_now(v->k.r) == 2);
    assert_true(redoubt_load(v->k.r));
    act_and_wait(v, &plain);
    assert_int_equal(v->agent.last.result, REDOUBT_ACT_FORWARDED);
    assert_int_equal(v->requests, 1);
    /* Away: what is asked for waits; when the lease is over, it is refused, and what is asked for then as well. */
    harness_kill(v->k.nats);
    UNTIL(v, v->agent.downs == 1);
    act_and_wait(v, &plain);
    assert_int_equal(v->agent.last.refusal, REDOUBT_REFUSED_OUT_OF_TOUCH);
    assert_int_equal(v->agent.last.result, REDOUBT_ACT_REFUSED);
    UNTIL(v, v->agent.frozen == 1);
    act_and_wait(v, &plain);
    assert_int_equal(v->agent.last.refusal, REDOUBT_REFUSED_OUT_OF_TOUCH);
    assert_false(redoubt_load(v->k.r));
    harness_start(v->k.nats);
    UNTIL(v, v->agent.given == 3 && v->k.up && redoubt_posture_now(v->k.r) == REDOUBT_NORMAL);
    /* Its guard is back, too, or will be in a moment. */
    act_and_wait(v, &plain);
    assert_int_equal(v->agent.last.result, REDOUBT_ACT_FORWARDED);
}

static void a_short_loss_is_waited_out(void **state)
{
    struct env *v = *state;
    begin(v, 20000);
    harness_kill(v->k.nats);
    UNTIL(v, v->agent.downs == 1);
    for (int i = 0; i < 10; i++)
        act(v, &plain);
    harness_start(v->k.nats);
    UNTIL(v, v->agent.by_result[REDOUBT_ACT_FORWARDED] == 10);
    /* A server that dies with the request: unknown, so asked again, and the guard sees the same key. */
    int before = v->requests;
    PLAN(v, {.how = SILENT});
    act(v, &plain);
    UNTIL(v, v->requests == before + 1);
    harness_kill(v->k.nats);
    UNTIL(v, v->agent.downs == 2);
    harness_start(v->k.nats);
    UNTIL(v, v->agent.by_result[REDOUBT_ACT_FORWARDED] == 11);
    assert_string_equal(v->keys[before], v->keys[before + 1]);
}

static void a_newer_directive_meanwhile(void **state)
{
    struct env *v = *state;
    begin(v, 0);
    /* The guard has heard of epoch 2 before us: asked again under it, as soon as ours has come. */
    PLAN(v, {.decision = REDOUBT_ACT_REFUSED, .refusal = REDOUBT_REFUSED_STALE_EPOCH});
    act(v, &plain);
    UNTIL(v, v->requests == 1);
    direct(v, REDOUBT__V1__POSTURE__POSTURE_BACKUP_LLM);
    UNTIL(v, v->agent.results == 1);
    assert_int_equal(v->agent.last.result, REDOUBT_ACT_FORWARDED);
    assert_true(v->requests == 2 && v->epochs[0] == 1 && v->epochs[1] == 2);
    /* It freezes: at once, whatever waits. Of what was sent without an answer nothing is known. */
    PLAN(v, {.decision = REDOUBT_ACT_REFUSED, .refusal = REDOUBT_REFUSED_STALE_EPOCH}, {.how = SILENT});
    act(v, &plain);
    UNTIL(v, v->requests == 3);
    act(v, &plain);
    UNTIL(v, v->requests == 4);
    direct(v, FROZEN);
    UNTIL(v, v->agent.results == 3);
    assert_int_equal(v->agent.by_result[REDOUBT_ACT_REFUSED], 1);
    assert_int_equal(v->agent.by_result[REDOUBT_ACT_UNKNOWN], 1);
    assert_int_equal(v->agent.last.refusal, REDOUBT_REFUSED_FROZEN);
    assert_int_equal(v->requests, 4);
    /* A directive that cannot be taken over: the epoch stays the old one, and the guard refuses it. */
    direct(v, NORMAL);
    UNTIL(v, v->agent.given == 4 && redoubt_epoch_now(v->k.r) == 4);
    pthread_mutex_lock(&v->k.lock);
    v->agent.answer = REDOUBT_FAILED;
    pthread_mutex_unlock(&v->k.lock);
    direct(v, REDOUBT__V1__POSTURE__POSTURE_DEGRADED);
    UNTIL(v, v->agent.given == 5 && redoubt_posture_now(v->k.r) == REDOUBT_DEGRADED);
    PLAN(v, {.decision = REDOUBT_ACT_REFUSED, .refusal = REDOUBT_REFUSED_STALE_EPOCH});
    act_and_wait(v, &(redoubt_action){.action = "block_ip", .timeout_ms = 500});
    assert_true(v->requests == 5 && v->epochs[4] == 4);
    assert_int_equal(v->agent.last.refusal, REDOUBT_REFUSED_STALE_EPOCH);
}

static void many_wait_and_no_more(void **state)
{
    struct env *v = *state;
    begin(v, 20000);
    harness_kill(v->k.nats);
    UNTIL(v, v->agent.downs == 1);
    int taken = 0;
    while (redoubt_act(v->k.r, &plain, on_result, &v->agent) == 0)
        taken++;
    assert_int_equal(taken, 1024);
    harness_start(v->k.nats);
    UNTIL(v, v->agent.by_result[REDOUBT_ACT_FORWARDED] == 1024);
    assert_true(v->requests >= 1024); /* what left before the guard was back, was asked again */
    pthread_mutex_lock(&v->k.lock);
    v->agent.act_again = true; /* from inside the callback */
    pthread_mutex_unlock(&v->k.lock);
    v->requests = 0;
    act(v, &plain);
    UNTIL(v, v->agent.by_result[REDOUBT_ACT_FORWARDED] == 1026);
}

static void wrong_requests(void **state)
{
    struct env *v = *state;
    begin(v, 0);
    char text[1200];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    redoubt_parameter many[65];
    char names[65][8];
    for (int i = 0; i < 65; i++) {
        snprintf(names[i], sizeof names[i], "k%d", i);
        many[i] = (redoubt_parameter){names[i], "v"};
    }
    static const redoubt_parameter twice[] = {{"k", "v"}, {"k", "w"}};
    const redoubt_parameter bad_key = {"Not A Key", "v"}, bad_value = {"k", "\xff"}, long_value = {"k", text};
    const redoubt_decision_t no_key = {.outcome = REDOUBT_DECIDED_DONE};
    const redoubt_action wrong[] = {
        {.action = NULL},
        {.action = ""},
        {.action = "Block IP"},
        {.action = text},
        {.action = "a", .priority = 10},
        {.action = "a", .idempotency_key = ""},
        {.action = "a", .idempotency_key = text},
        {.action = "a", .idempotency_key = "\xff"},
        {.action = "a", .expires_unix_ms = -1},
        {.action = "a", .timeout_ms = 99},
        {.action = "a", .timeout_ms = 600001},
        {.action = "a", .parameters = many, .n_parameters = 65},
        {.action = "a", .parameters = twice, .n_parameters = 2},
        {.action = "a", .parameters = &bad_key, .n_parameters = 1},
        {.action = "a", .parameters = &bad_value, .n_parameters = 1},
        {.action = "a", .parameters = &long_value, .n_parameters = 1},
        {.action = "a", .decision = &no_key},
    };
    redoubt_result result;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(redoubt_act(v->k.r, &wrong[i], on_result, &v->agent), -1);
        assert_int_equal(redoubt_act_wait(v->k.r, &wrong[i], &result), -1);
    }
    act_and_wait(v, &(redoubt_action){.action = "a", .parameters = many, .n_parameters = 64});
    assert_int_equal(v->agent.results, 1);
    assert_int_equal(v->requests, 1);
    assert_string_equal(redoubt_acted_text(REDOUBT_ACT_UNKNOWN), "UNKNOWN");
    assert_string_equal(redoubt_acted_text(REDOUBT_ACT_QUEUED), "QUEUED");
    assert_string_equal(redoubt_acted_text((enum redoubt_acted)0), "?");
    assert_string_equal(redoubt_acted_text((enum redoubt_acted)99), "?");
    assert_string_equal(redoubt_refusal_text((enum redoubt_refusal)0), "NONE");
    assert_string_equal(redoubt_refusal_text(REDOUBT_REFUSED_STALE_EPOCH), "STALE_EPOCH");
    assert_string_equal(redoubt_refusal_text(REDOUBT_REFUSED_CLOSED), "CLOSED");
    assert_string_equal(redoubt_refusal_text((enum redoubt_refusal)50), "?");
    assert_string_equal(redoubt_refusal_text((enum redoubt_refusal)104), "?");
}

/* A thread of its own asks and waits, while the test's loop plays the guard. */
struct waiting {
    struct env *v;
    redoubt_result result;
    redoubt_action action;
    int status;
    _Atomic bool done;
};

static void *waiting_main(void *arg)
{
    struct waiting *w = arg;
    w->status = redoubt_act_wait(w->v->k.r, &w->action, &w->result);
    atomic_store(&w->done, true);
    return NULL;
}

static void waiting_for_it(void **state)
{
    struct env *v = *state;
    begin(v, 0);
    struct waiting w[4] = {0};
    pthread_t t[4];
    PLAN(v, {.how = SILENT});
    for (int i = 0; i < 4; i++) {
        w[i].v = v;
        w[i].action = (redoubt_action){.action = "block_ip", .timeout_ms = 10000};
        pthread_create(&t[i], NULL, waiting_main, &w[i]);
    }
    for (int i = 0; i < 4; i++) { /* the one that got no answer asks again */
        UNTIL(v, atomic_load(&w[i].done));
        pthread_join(t[i], NULL);
        assert_int_equal(w[i].status, 0);
        assert_int_equal(w[i].result.result, REDOUBT_ACT_FORWARDED);
    }
    assert_int_equal(v->requests, 5);
}

static void closing_tells_whoever_waits(void **state)
{
    struct env *v = *state;
    begin(v, 20000);
    PLAN(v, {.how = SILENT},
         {.decision = REDOUBT_ACT_REFUSED, .refusal = REDOUBT_REFUSED_STATE_UNKNOWN, .retry_after_ms = 5000});
    struct waiting w = {.v = v, .action = {.action = "block_ip", .timeout_ms = 60000}};
    pthread_t t;
    pthread_create(&t, NULL, waiting_main, &w);
    UNTIL(v, v->requests == 1);
    act(v, &plain);
    UNTIL(v, v->requests == 2);
    client_kit_close_agent(&v->k);
    pthread_join(t, NULL);
    assert_int_equal(w.status, 0);
    assert_int_equal(w.result.result, REDOUBT_ACT_UNKNOWN); /* sent, no answer */
    assert_int_equal(w.result.refusal, REDOUBT_REFUSED_CLOSED);
    assert_int_equal(v->agent.results, 1);
    /* The guard's refusal may be on its way still: then nobody knows. */
    assert_true(v->agent.last.result == REDOUBT_ACT_REFUSED || v->agent.last.result == REDOUBT_ACT_UNKNOWN);
    assert_int_equal(v->agent.last.refusal, REDOUBT_REFUSED_CLOSED);
    /* With the bus away, and with answers on their way. */
    open_agent(v, 20000);
    UNTIL(v, redoubt_posture_now(v->k.r) == REDOUBT_NORMAL);
    for (int i = 0; i < 200; i++)
        act(v, &plain);
    client_kit_close_agent(&v->k);
    assert_int_equal(v->agent.results, 201);
    open_agent(v, 20000);
    UNTIL(v, redoubt_posture_now(v->k.r) == REDOUBT_NORMAL);
    harness_kill(v->k.nats);
    UNTIL(v, !v->k.up);
    for (int i = 0; i < 20; i++)
        act(v, &plain);
    client_kit_close_agent(&v->k);
    assert_int_equal(v->agent.results, 221);
}

/* What became of an action is evidence on the decision behind it, if it says something about that decision. */
static void decisions_are_told_with_their_end(void **state)
{
    struct env *v = *state;
    begin(v, 0);
    static const struct {
        struct deed d;
        int outcome;
    } rows[] = {
        {{.decision = REDOUBT_ACT_FORWARDED}, 1},
        {{.decision = REDOUBT_ACT_QUEUED}, 1},
        {{.decision = REDOUBT_ACT_REFUSED, .refusal = REDOUBT_REFUSED_NOT_ALLOWED}, 2},
        {{.decision = REDOUBT_ACT_REFUSED, .refusal = REDOUBT_REFUSED_INVALID}, 2},
        {{.decision = REDOUBT_ACT_REFUSED, .refusal = REDOUBT_REFUSED_RATE_LIMITED}, 2},
        {{.decision = REDOUBT_ACT_REFUSED, .refusal = REDOUBT_REFUSED_FROZEN}, 1},
        {{.decision = REDOUBT_ACT_REFUSED, .refusal = REDOUBT_REFUSED_QUEUE_FULL}, 1},
        {{.decision = REDOUBT_ACT_FAILED, .status = 422}, 2},
        {{.decision = REDOUBT_ACT_FAILED, .status = 429}, 1},
        {{.decision = REDOUBT_ACT_FAILED, .status = 503}, 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char key[32], expected[64];
        snprintf(key, sizeof key, "event-%zu", i);
        const redoubt_decision_t d = {.event_key = key,
                                      .verdict = "malicious",
                                      .action = "block_ip",
                                      .object = "203.0.113.7",
                                      .outcome = REDOUBT_DECIDED_DONE};
        v->plan = &rows[i].d;
        v->n_plan = 1;
        act(v, &(redoubt_action){.action = "block_ip", .decision = &d});
        UNTIL(v, v->decisions == (int)i + 1);
        snprintf(expected, sizeof expected, "%s block_ip %d", key, rows[i].outcome);
        assert_string_equal(v->decision, expected);
    }
}

static void what_a_directive_says(void **state)
{
    struct env *v = *state;
    begin(v, 0); /* of an older version: it says none of it */
    const redoubt_directive *d = &v->agent.directive;
    assert_true(d->resources == 1 && d->link == 1 && d->load_percent == 100 && !d->restart_requested &&
                !d->llm_waiting && d->monitor_interval_ms == 0);
    PB(AgentState) s = REDOUBT__V1__AGENT_STATE__INIT;
    s.posture = REDOUBT__V1__POSTURE__POSTURE_RECOVERING;
    s.resources = REDOUBT__V1__RESOURCE_MODE__RESOURCE_MODE_SHEDDING;
    s.link = REDOUBT__V1__LINK_MODE__LINK_MODE_RETURNING;
    s.load_percent = 25;
    s.llm_waiting = true;
    s.llm_wanted = "llm.b";
    direct_as(v, s, REDOUBT__V1__STEP__STEP_SHED_LOAD);
    UNTIL(v, v->agent.given == 2 && redoubt_epoch_now(v->k.r) == 2);
    assert_true(d->resources == 2 && d->link == 4 && d->load_percent == 25 && d->llm_waiting);
    int taken = 0;
    for (int i = 0; i < 1000; i++)
        taken += redoubt_load(v->k.r);
    assert_int_equal(taken, 250);
    /* Less load counts at once, more only when it is done. */
    pthread_mutex_lock(&v->k.lock);
    v->agent.answer = REDOUBT_FAILED;
    pthread_mutex_unlock(&v->k.lock);
    s.load_percent = 50;
    direct_as(v, s, REDOUBT__V1__STEP__STEP_RESTORE_LOAD);
    s.load_percent = 10;
    UNTIL(v, v->agent.given == 3);
    for (int i = taken = 0; i < 1000; i++)
        taken += redoubt_load(v->k.r);
    assert_int_equal(taken, 250);
    direct_as(v, s, REDOUBT__V1__STEP__STEP_SHED_LOAD);
    UNTIL(v, v->agent.given == 4);
    for (int i = taken = 0; i < 1000; i++)
        taken += redoubt_load(v->k.r);
    assert_int_equal(taken, 100);
}

static void restarts_are_asked_for_once(void **state)
{
    struct env *v = *state;
    PB(AgentState) s = REDOUBT__V1__AGENT_STATE__INIT;
    s.posture = REDOUBT__V1__POSTURE__POSTURE_DEGRADED;
    s.restart_requested = true;
    direct_as(v, s, REDOUBT__V1__STEP__STEP_REQUEST_RESTART); /* before this process began: it is the restarted one */
    open_agent(v, 300);
    UNTIL(v, v->agent.given == 1 && v->acks == 1);
    direct_as(v, s, REDOUBT__V1__STEP__STEP_DEGRADE_BACKEND); /* still so, and nothing new */
    UNTIL(v, v->agent.given == 2 && v->acks == 2);
    s.restart_requested = false;
    direct_as(v, s, REDOUBT__V1__STEP__STEP_RESTORE_BACKEND);
    UNTIL(v, v->agent.given == 3 && v->acks == 3);
    assert_int_equal(v->agent.restarts, 0);
    s.restart_requested = true;
    direct_as(v, s, REDOUBT__V1__STEP__STEP_REQUEST_RESTART);
    UNTIL(v, v->agent.restarts == 1 && v->acks == 4);
    assert_true(v->agent.restart_epoch == 4);
    direct_as(v, s, REDOUBT__V1__STEP__STEP_DEGRADE_BACKEND);
    UNTIL(v, v->agent.given == 5 && v->acks == 5);
    direct_as(v, s, REDOUBT__V1__STEP__STEP_REQUEST_RESTART); /* once more */
    UNTIL(v, v->agent.restarts == 2 && v->agent.restart_epoch == 6);
    /* Given again after "out of touch": it is the same directive. */
    harness_kill(v->k.nats);
    UNTIL(v, v->agent.frozen == 1);
    harness_start(v->k.nats);
    UNTIL(v, v->agent.given == 7 && v->k.up);
    direct(v, NORMAL);
    UNTIL(v, v->agent.given == 8);
    assert_int_equal(v->agent.restarts, 2);
}

static void monitoring(void **state)
{
    struct env *v = *state;
    begin(v, 300);
    PB(AgentState) s = REDOUBT__V1__AGENT_STATE__INIT;
    s.posture = REDOUBT__V1__POSTURE__POSTURE_DEGRADED;
    s.monitor_interval_ms = 150;
    assert_int_equal(v->agent.looks, 0);
    direct_as(v, s, REDOUBT__V1__STEP__STEP_DEGRADE_BACKEND);
    UNTIL(v, v->reports >= 3);
    assert_string_equal(v->report, "2 disk 1 auth_log 0");
    /* Without the bus it looks on, and so out of touch; of what it saw meanwhile the newest is told. */
    harness_kill(v->k.nats);
    UNTIL(v, v->agent.frozen == 1);
    int looks = v->agent.looks;
    UNTIL(v, v->agent.looks >= looks + 3);
    assert_true(v->agent.directive.monitor_interval_ms == 150);
    v->reports = 0;
    harness_start(v->k.nats);
    UNTIL(v, v->agent.given == 3 && v->k.up);
    UNTIL(v, v->reports >= 3);
    direct(v, NORMAL);
    UNTIL(v, redoubt_epoch_now(v->k.r) == 3);
    looks = v->agent.looks;
    for (int i = 0; i < 5; i++) { /* no more */
        int before = v->acks;
        direct(v, NORMAL);
        UNTIL(v, v->acks > before);
    }
    assert_int_equal(v->agent.looks, looks);
}

static void least_privilege_is_enough(void **state)
{
    struct env *v = *state;
    PB(AgentState) s = REDOUBT__V1__AGENT_STATE__INIT;
    s.posture = REDOUBT__V1__POSTURE__POSTURE_DEGRADED;
    s.monitor_interval_ms = 60000;
    direct_as(v, s, REDOUBT__V1__STEP__STEP_DEGRADE_BACKEND);
    open_agent(v, 0);
    UNTIL(v, v->reports == 1 && redoubt_epoch_now(v->k.r) == 1);
    act_and_wait(v, &plain);
    assert_int_equal(v->agent.last.result, REDOUBT_ACT_FORWARDED);
}

/* Many threads ask while directives and answers come: for the sanitizers. */
struct caller {
    struct env *v;
    _Atomic bool stop;
    _Atomic int asked;
};

static void *caller_main(void *arg)
{
    struct caller *c = arg;
    while (!atomic_load(&c->stop)) {
        if (redoubt_load(c->v->k.r) && redoubt_act(c->v->k.r, &plain, on_result, &c->v->agent) == 0)
            atomic_fetch_add(&c->asked, 1);
        usleep(10000);
    }
    return NULL;
}

static void many_threads(void **state)
{
    struct env *v = *state;
    struct caller c = {.v = v};
    pthread_t t[4];
    begin(v, 0);
    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, caller_main, &c);
    for (int i = 0; i < 30; i++) {
        int before = v->acks;
        direct(v, (PB(Posture))(1 + i % 6));
        UNTIL(v, v->acks > before);
    }
    atomic_store(&c.stop, true);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    UNTIL(v, v->agent.results == atomic_load(&c.asked));
    assert_true(v->agent.by_result[REDOUBT_ACT_FORWARDED] > 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(every_outcome),
        T(asked_again_under_the_same_key),
        T(a_late_answer_still_counts),
        T(the_deadline),
        T(refused_here_when_it_may_not_act),
        T(a_short_loss_is_waited_out),
        T(a_newer_directive_meanwhile),
        T(many_wait_and_no_more),
        T(wrong_requests),
        T(waiting_for_it),
        T(closing_tells_whoever_waits),
        T(decisions_are_told_with_their_end),
        T(what_a_directive_says),
        T(restarts_are_asked_for_once),
        T(monitoring),
        T(many_threads),
        cmocka_unit_test_setup_teardown(least_privilege_is_enough, set_up_users, tear_down)};
    cmocka_set_test_filter(getenv("ONLY"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
