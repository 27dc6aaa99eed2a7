/* test_client_agent.c - libredoubt against a real NATS server; the suite's side is played by a bus of the test's own. */
#include "client_kit.h"

#include <stdatomic.h>
#include <unistd.h>

#define TARGET "llm.openai.gpt-4o"

/* What the agent saw; filled by the library's thread. */
struct agent {
    struct client_kit *k;
    int given, frozen, ups, downs;
    uint64_t epochs[64];
    char model[64], reason[64];
    enum redoubt_posture posture;
    enum redoubt_ack answer;
    int asked;
    char selftest[65], event[128]; /* the last question */
};

/* What the suite heard; filled by the test's loop. */
struct env {
    struct client_kit k;
    struct agent agent;
    bool any_order;
    int acks, heartbeats, reports, messages, allows;
    uint64_t ack_epochs[64];
    int ack_status[64];
    char ack_detail[300];
    uint64_t beat_epoch, permit_reported;
    int beat_posture;
    bool beat_resources;
    char beat_llm[64];
    uint64_t grant; /* permit to give out; 0 = refuse */
    int decisions, decision_messages, answers;
    char decision[300], answer[300], answer_error[300];
    int answer_status;
};

static enum redoubt_ack on_directive(void *ctx, const redoubt_directive *d, char detail[256])
{
    struct agent *a = ctx;
    pthread_mutex_lock(&a->k->lock);
    if (d->epoch == 0)
        a->frozen++;
    else if (a->given < 64)
        a->epochs[a->given++] = d->epoch;
    a->posture = d->posture;
    snprintf(a->model, sizeof a->model, "%s", d->llm_model);
    snprintf(a->reason, sizeof a->reason, "%s", d->reason);
    enum redoubt_ack answer = a->answer;
    pthread_mutex_unlock(&a->k->lock);
    if (answer == REDOUBT_FAILED)
        snprintf(detail, 256, "model not loaded\n\xff");
    return answer;
}

static void on_heartbeat(void *ctx, uint64_t *progress, uint64_t *exceptions, uint32_t *queue_depth)
{
    (void)ctx;
    *progress = 7;
    *exceptions = 1;
    *queue_depth = 3;
}

static void on_connection(void *ctx, bool up)
{
    struct agent *a = ctx;
    pthread_mutex_lock(&a->k->lock);
    up ? a->ups++ : a->downs++;
    pthread_mutex_unlock(&a->k->lock);
}

/* Decides at once, by itself; the test answers instead if the question says so. */
static void on_selftest(void *ctx, const redoubt_selftest *q)
{
    struct agent *a = ctx;
    pthread_mutex_lock(&a->k->lock);
    a->asked++;
    redoubt *r = a->k->r;
    snprintf(a->selftest, sizeof a->selftest, "%s", q->id);
    snprintf(a->event, sizeof a->event, "%s", q->event_json);
    pthread_mutex_unlock(&a->k->lock);
    if (strcmp(q->name, "later") != 0)
        assert_int_equal(redoubt_selftest_answer(r, q->id, "{\"verdict\":\"malicious\"}", NULL), 0);
}

/* ---- the suite's side ---- */

static void on_decision(void *ctx, const struct bus_msg *m)
{
    struct env *v = ctx;
    struct err e = {""};
    bool batch = m->type && strcmp(m->type, "redoubt.v1.DecisionBatch") == 0;
    void *x = wire_unpack(batch ? PB_DESC(decision_batch) : PB_DESC(decision), m->data, m->len, &e);
    if (!x)
        fail_msg("%s", e.text);
    PB(Decision) *one = x, **list = batch ? ((PB(DecisionBatch) *)x)->decisions : &one;
    size_t n = batch ? ((PB(DecisionBatch) *)x)->n_decisions : 1;
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(list[i]->agent, AGENT);
        assert_string_equal(list[i]->instance, "box-1");
        assert_true(list[i]->decided_unix_ms > 0);
        char key[32];
        snprintf(key, sizeof key, "event-%d", v->decisions++);
        if (!v->any_order)
            assert_string_equal(list[i]->event_key, key); /* in order, none twice, none missing */
        snprintf(v->decision, sizeof v->decision, "%s %s %s %s %d", list[i]->verdict, list[i]->action,
                 list[i]->object, list[i]->detail, (int)list[i]->outcome);
    }
    v->decision_messages++;
    wire_free(x);
}

static void on_selftest_answer(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct env *v = ctx;
    v->answers++;
    v->answer_status = (int)st;
    v->answer[0] = v->answer_error[0] = 0;
    if (st != BUS_OK)
        return;
    PB(SelftestAnswer) *a = wire_unpack(PB_DESC(selftest_answer), m->data, m->len, NULL);
    assert_non_null(a);
    snprintf(v->answer, sizeof v->answer, "%s %s", a->id, a->answer_json);
    snprintf(v->answer_error, sizeof v->answer_error, "%s", a->error);
    wire_free(a);
}

static void on_ack(void *ctx, const struct bus_msg *m)
{
    struct env *v = ctx;
    struct err e = {""};
    PB(DirectiveAck) *a = wire_unpack(PB_DESC(directive_ack), m->data, m->len, &e);
    if (!a)
        fail_msg("%s", e.text);
    assert_string_equal(a->agent, AGENT);
    assert_string_equal(a->instance, "box-1");
    assert_non_null(m->id);
    v->ack_epochs[v->acks] = a->epoch;
    v->ack_status[v->acks] = (int)a->status;
    snprintf(v->ack_detail, sizeof v->ack_detail, "%s", a->detail);
    v->acks++;
    wire_free(a);
}

static void on_beat(void *ctx, const struct bus_msg *m)
{
    struct env *v = ctx;
    PB(Heartbeat) *h = wire_unpack(PB_DESC(heartbeat), m->data, m->len, NULL);
    assert_non_null(h);
    assert_true(h->progress == 7 && h->exceptions == 1 && h->resources && h->resources->queue_depth == 3);
    v->beat_resources = h->resources->rss_bytes > 1000000 && h->resources->open_fds > 3;
    v->beat_epoch = h->epoch;
    v->beat_posture = (int)h->posture;
    snprintf(v->beat_llm, sizeof v->beat_llm, "%s", h->llm_target);
    v->heartbeats++;
    wire_free(h);
}

static void take_report(struct env *v, const PB(OutcomeReport) * r)
{
    assert_string_equal(r->reporter, AGENT);
    assert_int_equal(strncmp(r->target, "llm.", 4), 0);
    assert_true(r->data_path && !r->probe);
    if (r->permit_id)
        v->permit_reported = r->permit_id;
    v->reports++;
}

static void on_report(void *ctx, const struct bus_msg *m)
{
    struct env *v = ctx;
    struct err e = {""};
    v->messages++;
    if (m->type && strcmp(m->type, "redoubt.v1.OutcomeBatch") == 0) {
        PB(OutcomeBatch) *b = wire_unpack(PB_DESC(outcome_batch), m->data, m->len, &e);
        if (!b)
            fail_msg("%s", e.text);
        for (size_t i = 0; i < b->n_reports; i++) {
            assert_string_equal(b->reports[i]->target, subject_tail(m->subject, SUBJECT_REPORT));
            take_report(v, b->reports[i]);
        }
        wire_free(b);
        return;
    }
    PB(OutcomeReport) *r = wire_unpack(PB_DESC(outcome_report), m->data, m->len, &e);
    if (!r)
        fail_msg("%s", e.text);
    take_report(v, r);
    wire_free(r);
}

static void on_allow(void *ctx, const struct bus_msg *m)
{
    struct env *v = ctx;
    PB(AllowRequest) *q = wire_unpack(PB_DESC(allow_request), m->data, m->len, NULL);
    assert_non_null(q);
    assert_string_equal(q->holder, AGENT);
    v->allows++;
    PB(AllowReply) a = REDOUBT__V1__ALLOW_REPLY__INIT;
    a.admitted = v->grant != 0;
    a.permit_id = v->grant;
    a.state = REDOUBT__V1__BREAKER_STATE__BREAKER_STATE_HALF_OPEN;
    a.retry_after_ms = 50;
    v->grant = 0;
    client_kit_say(&v->k, m->reply, NULL, &a);
    wire_free(q);
}

/* The agent may do what its README says, and nothing else. */
static const char *const least_privilege =
    CLIENT_KIT_USERS("\"redoubt.v1.report.>\", \"redoubt.v1.cmd.breaker.allow\"",
                     "\"redoubt.v1.selftest." AGENT "\", ", "    allow_responses: true");

static int set_up_with(void **state, const char *conf)
{
    struct env *v = calloc(1, sizeof *v);
    client_kit_open(&v->k, conf);
    v->agent.k = &v->k;
    v->agent.answer = REDOUBT_APPLIED;
    assert_non_null(bus_subscribe(v->k.bus, SUBJECT_ACK ">", NULL, on_ack, v));
    assert_non_null(bus_subscribe(v->k.bus, SUBJECT_HEARTBEAT ">", NULL, on_beat, v));
    assert_non_null(bus_subscribe(v->k.bus, SUBJECT_REPORT ">", NULL, on_report, v));
    assert_non_null(bus_subscribe(v->k.bus, SUBJECT_CMD "breaker.allow", "breaker", on_allow, v));
    assert_non_null(bus_subscribe(v->k.bus, SUBJECT_DECISION ">", NULL, on_decision, v));
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
    client_kit_open_agent(&v->k, (redoubt_options){.heartbeat_ms = 100,
                                                   .lease_ms = lease_ms,
                                                   .on_directive = on_directive,
                                                   .on_heartbeat = on_heartbeat,
                                                   .on_connection = on_connection,
                                                   .on_selftest = on_selftest,
                                                   .ctx = &v->agent});
}

/* `again` = published once more by core NATS, as the fallback service does when no acknowledgement comes. */
static void direct(struct env *v, uint64_t epoch, PB(Posture) posture, const char *model, bool again)
{
    PB(AgentState) s = REDOUBT__V1__AGENT_STATE__INIT;
    PB(Directive) d = REDOUBT__V1__DIRECTIVE__INIT;
    char id[64];
    s.agent = AGENT;
    s.epoch = epoch;
    s.revision = epoch;
    s.posture = posture;
    s.llm_target = TARGET;
    s.llm_model = (char *)(uintptr_t)model;
    s.backend = REDOUBT__V1__BACKEND_MODE__BACKEND_MODE_UP;
    s.automation = REDOUBT__V1__AUTOMATION_MODE__AUTOMATION_MODE_ENABLED;
    s.override_mode = REDOUBT__V1__OVERRIDE_MODE__OVERRIDE_MODE_OFF;
    s.step = REDOUBT__V1__STEP__STEP_SWITCH_LLM;
    d.state = &s;
    d.step = REDOUBT__V1__STEP__STEP_SWITCH_LLM;
    d.reason = "test";
    d.issued_unix_ms = clock_wall_ms();
    d.ack_within_ms = 1000;
    snprintf(id, sizeof id, "directive/" AGENT "/%d", (int)epoch);
    if (again)
        client_kit_say(&v->k, SUBJECT_DIRECTIVE AGENT, id, &d);
    else
        client_kit_store(&v->k, SUBJECT_DIRECTIVE AGENT, id, &d);
}

static void breaker(struct env *v, uint64_t epoch, PB(BreakerState) state, unsigned ramp, int64_t until_unix_ms)
{
    PB(BreakerChanged) b = REDOUBT__V1__BREAKER_CHANGED__INIT;
    char id[64];
    b.target = TARGET;
    b.epoch = epoch;
    b.state = state;
    b.previous = REDOUBT__V1__BREAKER_STATE__BREAKER_STATE_CLOSED;
    b.reason = REDOUBT__V1__BREAKER_REASON__BREAKER_REASON_OPERATOR;
    b.ramp_percent = ramp;
    b.until_unix_ms = until_unix_ms;
    b.changed_unix_ms = b.since_unix_ms = clock_wall_ms();
    snprintf(id, sizeof id, "breaker/" TARGET "/%d", (int)epoch);
    client_kit_store(&v->k, SUBJECT_BREAKER TARGET, id, &b);
}

/* ---- the tests ---- */

static void directives_once_and_in_order(void **state)
{
    struct env *v = *state;
    direct(v, 1, REDOUBT__V1__POSTURE__POSTURE_NORMAL, "gpt-4o", false); /* before the agent is there */
    open_agent(v, 0);
    assert_int_equal(redoubt_posture_now(v->k.r), REDOUBT_FROZEN);
    UNTIL(v, v->agent.given == 1 && v->acks == 1);
    assert_int_equal(redoubt_posture_now(v->k.r), REDOUBT_NORMAL);
    assert_true(redoubt_epoch_now(v->k.r) == 1 && v->ack_epochs[0] == 1);
    assert_int_equal(v->ack_status[0], REDOUBT_APPLIED);

    direct(v, 3, REDOUBT__V1__POSTURE__POSTURE_BACKUP_LLM, "gpt-4o-mini", false);
    UNTIL(v, v->agent.given == 2 && v->acks == 2);
    assert_string_equal(v->agent.model, "gpt-4o-mini");
    direct(v, 3, REDOUBT__V1__POSTURE__POSTURE_BACKUP_LLM, "gpt-4o-mini", true); /* our answer was lost, as it were */
    UNTIL(v, v->acks == 3);
    assert_int_equal(v->ack_status[2], REDOUBT_ALREADY);
    direct(v, 2, REDOUBT__V1__POSTURE__POSTURE_NORMAL, "gpt-4o", true); /* late */
    direct(v, 4, REDOUBT__V1__POSTURE__POSTURE_SECURITY_FALLBACK, "", false);
    UNTIL(v, v->agent.given == 3 && v->acks == 4);
    assert_true(v->agent.epochs[0] == 1 && v->agent.epochs[1] == 3 && v->agent.epochs[2] == 4);
    UNTIL(v, v->beat_epoch == 4 && v->beat_posture == REDOUBT_SECURITY_FALLBACK && v->beat_resources);

    /* Refused: the stricter posture counts, and the epoch is not the agent's. */
    pthread_mutex_lock(&v->k.lock);
    v->agent.answer = REDOUBT_FAILED;
    pthread_mutex_unlock(&v->k.lock);
    direct(v, 5, REDOUBT__V1__POSTURE__POSTURE_NORMAL, "gpt-4o", false);
    UNTIL(v, v->acks == 5);
    assert_int_equal(v->ack_status[4], REDOUBT_FAILED);
    assert_string_equal(v->ack_detail, "model not loaded??");
    assert_int_equal(redoubt_posture_now(v->k.r), REDOUBT_SECURITY_FALLBACK);
    assert_true(redoubt_epoch_now(v->k.r) == 4);
    direct(v, 5, REDOUBT__V1__POSTURE__POSTURE_NORMAL, "gpt-4o", true);
    UNTIL(v, v->acks == 6);
    assert_int_equal(v->ack_status[5], REDOUBT_FAILED); /* not "already": it is not so */
    assert_int_equal(v->agent.given, 4);
}

static void bad_messages_change_nothing(void **state)
{
    struct env *v = *state;
    open_agent(v, 0);
    direct(v, 2, REDOUBT__V1__POSTURE__POSTURE_NORMAL, "gpt-4o", false);
    UNTIL(v, v->agent.given == 1);
    static const char *const junk[] = {"", "\xff\xff\xff\xff", "not protobuf at all", "\x0a\x05"};
    for (size_t i = 0; i < 4; i++)
        for (int k = 0; k < 2; k++)
            bus_publish(v->k.bus,
                        &(struct bus_out){.subject = k ? SUBJECT_DIRECTIVE AGENT : SUBJECT_BREAKER TARGET,
                                          .data = junk[i],
                                          .len = strlen(junk[i])},
                        NULL);
    char *big = calloc(1, 200000);
    bus_publish(v->k.bus, &(struct bus_out){.subject = SUBJECT_DIRECTIVE AGENT, .data = big, .len = 200000}, NULL);
    free(big);
    direct(v, 3, REDOUBT__V1__POSTURE__POSTURE_DEGRADED, "gpt-4o", false);
    UNTIL(v, v->agent.given == 2);
    assert_true(v->agent.epochs[1] == 3);
    assert_true(redoubt_admit(v->k.r, TARGET).admitted);
}

static void reports_go_out(void **state)
{
    struct env *v = *state;
    open_agent(v, 0);
    UNTIL(v, v->agent.ups == 1);
    const redoubt_call ok = {.outcome = REDOUBT_SUCCESS, .status_code = 200, .total_ms = 12};
    assert_int_equal(redoubt_report(v->k.r, TARGET, &ok), 0);
    UNTIL(v, v->reports == 1);
    assert_int_equal(v->messages, 1);
    assert_int_equal(redoubt_report(v->k.r, "Not A Target", &ok), -1);
    assert_int_equal(redoubt_report(v->k.r, "", &ok), -1);
    assert_int_equal(redoubt_report(v->k.r, TARGET, &(redoubt_call){.outcome = 99}), -1);
    assert_int_equal(redoubt_report(v->k.r, TARGET, &(redoubt_call){.outcome = 1, .status_code = 1000}), -1);
    char longest[TARGET_MAX_LEN + 1];
    for (size_t i = 0; i < TARGET_MAX_LEN; i++)
        longest[i] = i % 32 == 31 ? '.' : 'x';
    memcpy(longest, "llm.", 4);
    longest[TARGET_MAX_LEN - 1] = 'x';
    longest[TARGET_MAX_LEN] = '\0';
    for (int i = 0; i < 5000; i++) {
        assert_int_equal(redoubt_report(v->k.r, TARGET, &ok), 0);
        assert_int_equal(redoubt_report(v->k.r, longest, &ok), 0); /* 1,000 of them are more than a message holds */
    }
    UNTIL(v, v->reports == 10001);
    assert_true(v->messages < 2000);

    /* With the bus away they wait, up to a limit. */
    harness_kill(v->k.nats);
    UNTIL(v, v->agent.downs == 1);
    int taken = 0;
    while (redoubt_report(v->k.r, TARGET, &ok) == 0)
        taken++;
    assert_int_equal(taken, 65536);
    harness_start(v->k.nats);
    UNTIL(v, v->agent.ups == 2 && v->k.up);
    int before = v->reports; /* what waited may have left before this subscriber was back: reports are not kept */
    UNTIL(v, redoubt_report(v->k.r, TARGET, &ok) == 0);
    UNTIL(v, v->reports > before);
}

static void closing_sends_what_waits(void **state)
{
    struct env *v = *state;
    open_agent(v, 0);
    UNTIL(v, v->agent.ups == 1);
    const redoubt_call ok = {.outcome = REDOUBT_ERROR, .status_code = 500};
    for (int i = 0; i < 3000; i++)
        assert_int_equal(redoubt_report(v->k.r, TARGET, &ok), 0);
    client_kit_close_agent(&v->k);
    UNTIL(v, v->reports == 3000);
}

static void admission(void **state)
{
    struct env *v = *state;
    open_agent(v, 0);
    UNTIL(v, v->agent.ups == 1);
    assert_true(redoubt_admit(v->k.r, "llm.unheard.of").admitted);
    breaker(v, 1, REDOUBT__V1__BREAKER_STATE__BREAKER_STATE_OPEN, 0, clock_wall_ms() + 30000);
    UNTIL(v, !redoubt_admit(v->k.r, TARGET).admitted);
    assert_true(redoubt_admit(v->k.r, TARGET).retry_after_ms > 20000);
    breaker(v, 2, REDOUBT__V1__BREAKER_STATE__BREAKER_STATE_CLOSED, 100, 0);
    UNTIL(v, redoubt_admit(v->k.r, TARGET).admitted);

    breaker(v, 3, REDOUBT__V1__BREAKER_STATE__BREAKER_STATE_HALF_OPEN, 0, 0);
    UNTIL(v, !redoubt_admit(v->k.r, TARGET).admitted);
    UNTIL(v, !redoubt_admit(v->k.r, TARGET).admitted && v->allows >= 2); /* refused, asked again in time */
    v->grant = 77;
    redoubt_admission a = {0};
    UNTIL(v, (a = redoubt_admit(v->k.r, TARGET)).admitted);
    assert_true(a.permit_id == 77);
    assert_false(redoubt_admit(v->k.r, TARGET).admitted);
    assert_int_equal(
        redoubt_report(v->k.r, TARGET, &(redoubt_call){.outcome = REDOUBT_SUCCESS, .permit_id = a.permit_id}), 0);
    UNTIL(v, v->permit_reported == 77);
}

static void out_of_touch_and_back(void **state)
{
    struct env *v = *state;
    open_agent(v, 300);
    direct(v, 1, REDOUBT__V1__POSTURE__POSTURE_NORMAL, "gpt-4o", false);
    UNTIL(v, v->agent.given == 1 && v->acks == 1);
    assert_true(redoubt_admit(v->k.r, TARGET).admitted);
    harness_kill(v->k.nats);
    UNTIL(v, v->agent.downs == 1);
    UNTIL(v, v->agent.frozen == 1);
    assert_string_equal(v->agent.reason, "out of touch");
    assert_int_equal(redoubt_posture_now(v->k.r), REDOUBT_FROZEN);
    assert_false(redoubt_admit(v->k.r, TARGET).admitted);
    harness_start(v->k.nats);
    UNTIL(v, v->agent.given == 2 && v->agent.ups == 2); /* the last one again */
    assert_true(v->agent.epochs[1] == 1);
    UNTIL(v, redoubt_posture_now(v->k.r) == REDOUBT_NORMAL);
    assert_int_equal(v->agent.frozen, 1);
    UNTIL(v, redoubt_admit(v->k.r, TARGET).admitted);

    /* A short loss is none. */
    direct(v, 2, REDOUBT__V1__POSTURE__POSTURE_BACKUP_LLM, "b", false);
    UNTIL(v, v->agent.given == 3);
    v->heartbeats = 0;
    UNTIL(v, v->heartbeats > 0);
}

static void suite_comes_late(void **state)
{
    struct env *v = *state;
    harness_kill(v->k.nats);
    open_agent(v, 200);
    UNTIL(v, v->agent.frozen == 1); /* never connected: says so, once */
    assert_false(redoubt_admit(v->k.r, TARGET).admitted);
    harness_start(v->k.nats);
    UNTIL(v, v->agent.ups == 1 && v->k.up);
    assert_int_equal(redoubt_posture_now(v->k.r), REDOUBT_FROZEN); /* and no directive yet */
    direct(v, 1, REDOUBT__V1__POSTURE__POSTURE_NORMAL, "gpt-4o", false);
    UNTIL(v, v->agent.given == 1);
    UNTIL(v, redoubt_posture_now(v->k.r) == REDOUBT_NORMAL);
}

static void wrong_options(void **state)
{
    struct env *v = *state;
    char error[256];
    assert_null(redoubt_open(&(redoubt_options){.agent = AGENT, .on_directive = on_directive}, error));
    assert_non_null(strstr(error, "url"));
    assert_null(
        redoubt_open(&(redoubt_options){.url = v->k.nats->url, .agent = "No!", .on_directive = on_directive}, error));
    assert_non_null(strstr(error, "agent"));
    assert_null(redoubt_open(&(redoubt_options){.url = v->k.nats->url, .agent = AGENT}, error));
    assert_non_null(strstr(error, "on_directive"));
    assert_null(redoubt_open(
        &(redoubt_options){.url = v->k.nats->url, .agent = AGENT, .on_directive = on_directive, .heartbeat_ms = 5},
        NULL));
    redoubt_close(NULL);
    for (int i = 0; i < 5; i++) { /* opened and closed at once */
        open_agent(v, 0);
        client_kit_close_agent(&v->k);
    }
}

static void ask(struct env *v, const char *id, const char *name, int64_t within_ms)
{
    char event[64];
    snprintf(event, sizeof event, "{\"source\":\"%s\"}", id);
    PB(SelftestQuestion) q = REDOUBT__V1__SELFTEST_QUESTION__INIT;
    q.agent = AGENT;
    q.id = (char *)(uintptr_t)id;
    q.name = (char *)(uintptr_t)name;
    q.event_json = event;
    q.answer_by_unix_ms = clock_wall_ms() + within_ms;
    struct bus_out o = client_kit_out(SUBJECT_SELFTEST AGENT, NULL, &q);
    bus_request(v->k.bus, &o, within_ms, on_selftest_answer, v);
    free((void *)(uintptr_t)o.data);
}

static void least_privilege_is_enough(void **state)
{
    struct env *v = *state;
    direct(v, 1, REDOUBT__V1__POSTURE__POSTURE_NORMAL, "gpt-4o", false);
    breaker(v, 1, REDOUBT__V1__BREAKER_STATE__BREAKER_STATE_HALF_OPEN, 0, 0);
    open_agent(v, 0);
    UNTIL(v, v->agent.given == 1 && v->acks == 1 && v->heartbeats > 0); /* replayed, acknowledged on its stream */
    v->grant = 9;
    UNTIL(v, redoubt_admit(v->k.r, TARGET).permit_id == 9);
    assert_int_equal(redoubt_report(v->k.r, TARGET, &(redoubt_call){.outcome = REDOUBT_SUCCESS}), 0);
    UNTIL(v, v->reports == 1);
    direct(v, 2, REDOUBT__V1__POSTURE__POSTURE_FROZEN, "", false);
    UNTIL(v, v->agent.given == 2 && v->acks == 2); /* live */
    assert_int_equal(redoubt_decision(v->k.r, &(redoubt_decision_t){.event_key = "event-0", .outcome = 1}), 0);
    ask(v, "q-1", "now", 5000);
    UNTIL(v, v->decisions == 1 && v->answers == 1);
    assert_int_equal(v->answer_status, BUS_OK);
}

static void decisions_go_out(void **state)
{
    struct env *v = *state;
    open_agent(v, 0);
    UNTIL(v, v->heartbeats > 0);
    char text[600];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    const redoubt_decision_t wrong[] = {
        {.outcome = REDOUBT_DECIDED_DONE},
        {.event_key = "", .outcome = REDOUBT_DECIDED_DONE},
        {.event_key = text, .outcome = REDOUBT_DECIDED_DONE},
        {.event_key = "e", .verdict = text, .outcome = REDOUBT_DECIDED_DONE},
        {.event_key = "e", .action = "Block IP", .outcome = REDOUBT_DECIDED_DONE},
        {.event_key = "e", .object = text, .outcome = REDOUBT_DECIDED_DONE},
        {.event_key = "e", .object = "\xff", .outcome = REDOUBT_DECIDED_DONE},
        {.event_key = "e"},
        {.event_key = "e", .outcome = (enum redoubt_decided)9},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(redoubt_decision(v->k.r, &wrong[i]), -1);
    text[254] = (char)0xc3; /* the cut comes in the middle of a character */
    text[255] = (char)0xa4;
    text[256] = (char)0xc3;
    const redoubt_decision_t good = {"event-0", "malicious", "block_ip", "203.0.113.7", text, REDOUBT_DECIDED_DENIED};
    assert_int_equal(redoubt_decision(v->k.r, &good), 0);
    UNTIL(v, v->decisions == 1);
    assert_int_equal(strncmp(v->decision, "malicious block_ip 203.0.113.7 xxx", 34), 0);
    assert_string_equal(v->decision + strlen(v->decision) - 5, "x\xc3\xa4 2");
    /* Many at once: all come, in order, in few messages. */
    char key[32];
    for (int i = 1; i <= 10000; i++) {
        snprintf(key, sizeof key, "event-%d", i);
        const redoubt_decision_t d = {.event_key = key, .outcome = REDOUBT_DECIDED_DONE};
        assert_int_equal(redoubt_decision(v->k.r, &d), 0);
    }
    UNTIL(v, v->decisions == 10001);
    assert_in_range(v->decision_messages, 20, 5000);
    /* Away: they wait, up to a limit; beyond it they are refused. */
    harness_stop(v->k.nats);
    UNTIL(v, v->agent.downs == 1);
    int taken = 0;
    while (redoubt_decision(v->k.r, &(redoubt_decision_t){.event_key = "e", .outcome = REDOUBT_DECIDED_DONE}) == 0)
        taken++;
    assert_int_equal(taken, 16384);
    v->any_order = true;
    harness_start(v->k.nats);
    UNTIL(v, v->k.up && v->agent.ups == 2);
}

static void selftests_are_answered(void **state)
{
    struct env *v = *state;
    open_agent(v, 0);
    UNTIL(v, v->heartbeats > 0);
    ask(v, "q-1", "now", 5000);
    UNTIL(v, v->answers == 1);
    assert_string_equal(v->answer, "q-1 {\"verdict\":\"malicious\"}");
    assert_string_equal(v->answer_error, "");
    assert_string_equal(v->agent.event, "{\"source\":\"q-1\"}");
    /* Later, from another thread than the library's. */
    ask(v, "q-2", "later", 5000);
    UNTIL(v, v->agent.asked == 2);
    char text[20000];
    memset(text, ' ', sizeof text - 1);
    text[sizeof text - 1] = 0;
    assert_int_equal(redoubt_selftest_answer(v->k.r, "q-9", "{}", NULL), -1); /* nobody asked */
    assert_int_equal(redoubt_selftest_answer(v->k.r, "q-1", "{}", NULL), -1); /* answered */
    assert_int_equal(redoubt_selftest_answer(v->k.r, "q-2", text, NULL), -1); /* too long */
    assert_int_equal(redoubt_selftest_answer(v->k.r, "", "{}", NULL), -1);
    assert_int_equal(redoubt_selftest_answer(v->k.r, NULL, "{}", NULL), -1);
    assert_int_equal(redoubt_selftest_answer(v->k.r, "q-2", NULL, "no LLM is usable"), 0);
    UNTIL(v, v->answers == 2);
    assert_string_equal(v->answer_error, "no LLM is usable");
    /* More at once than can wait: the others get no answer in time, and nothing breaks. */
    for (int i = 0; i < 40; i++) {
        char id[16];
        snprintf(id, sizeof id, "many-%d", i);
        ask(v, id, "later", 1500);
    }
    UNTIL(v, v->answers == 42);
    assert_int_equal(v->answer_status, BUS_TIMEOUT);
    ask(v, "q-3", "now", 5000); /* there is room again */
    UNTIL(v, v->answers == 43);
    assert_int_equal(v->answer_status, BUS_OK);
}

/* Several threads report and ask while breakers change and directives come: for the sanitizers. */
struct caller {
    struct env *v;
    _Atomic bool stop;
};

static void *caller_main(void *arg)
{
    struct caller *c = arg;
    while (!atomic_load(&c->stop)) {
        redoubt_admission a = redoubt_admit(c->v->k.r, TARGET);
        const redoubt_call call = {.outcome = a.admitted ? REDOUBT_SUCCESS : REDOUBT_ERROR, .permit_id = a.permit_id};
        (void)redoubt_report(c->v->k.r, TARGET, &call);
        const redoubt_decision_t d = {.event_key = "not-in-order", .outcome = 9};
        (void)redoubt_decision(c->v->k.r, &d);
        (void)redoubt_posture_now(c->v->k.r);
        (void)redoubt_epoch_now(c->v->k.r);
        usleep(50);
    }
    return NULL;
}

static void many_threads(void **state)
{
    struct env *v = *state;
    struct caller c = {.v = v};
    pthread_t t[4];
    open_agent(v, 0);
    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, caller_main, &c);
    for (uint64_t e = 1; e <= 20; e++) {
        breaker(v, e, (PB(BreakerState))(1 + e % 4), 50, 0);
        direct(v, e, (PB(Posture))(1 + e % 5), "m", false);
        v->grant = e;
    }
    UNTIL(v, redoubt_epoch_now(v->k.r) == 20);
    atomic_store(&c.stop, true);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    UNTIL(v, v->reports > 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(directives_once_and_in_order),
        T(bad_messages_change_nothing),
        T(reports_go_out),
        T(closing_sends_what_waits),
        T(decisions_go_out),
        T(selftests_are_answered),
        T(admission),
        T(out_of_touch_and_back),
        T(suite_comes_late),
        T(wrong_options),
        T(many_threads),
        cmocka_unit_test_setup_teardown(least_privilege_is_enough, set_up_users, tear_down)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
