/* test_guard_service.c - redoubt-guard on a real NATS and Redis, with a real HTTP backend: the ways of an action, and fences. */
#include "guard_kit.h"

static void passes_on(void **state)
{
    (void)state;
    struct kit_call c;
    kit_direct(0, KIT_NORMAL, 0);
    kit_settled(0);
    struct kit_answer a = kit_ask(0, "block_ip", "k1");
    if (a.decision != DECISION(FORWARDED))
        fail_msg("%d %d %s", a.decision, a.reason, a.detail);
    assert_int_equal(a.status, 200);
    assert_int_equal(kit_calls("agent-0", "k1", &c), 1);
    assert_string_equal(c.path, "/api/actions");
    assert_int_equal(c.epoch, K.epoch[0]);
    assert_non_null(strstr(c.body, "\"action\": \"block_ip\""));
    assert_non_null(strstr(c.body, "192.0.2.1"));
    a = kit_ask(0, "block_ip", "k1"); /* the same key is executed once */
    assert_int_equal(a.decision, DECISION(DUPLICATE));
    assert_int_equal(a.status, 200);
    assert_int_equal(kit_calls("agent-0", "k1", NULL), 1);
    a = kit_ask(0, "close_session", "k1"); /* and never for something else */
    assert_int_equal(a.reason, REASON(INVALID));
    a = kit_ask(0, "close_session", "k2");
    assert_int_equal(a.decision, DECISION(FORWARDED));
    assert_int_equal(kit_calls("agent-0", "k2", &c), 1);
    assert_string_equal(c.path, "/api/sessions/close"); /* the baseline's own */
}

static void refuses(void **state)
{
    (void)state;
    kit_direct(1, KIT_NORMAL, 0);
    kit_settled(1);
    assert_int_equal(kit_ask(1, "format_disk", "r1").reason, REASON(NOT_ALLOWED));
    assert_int_equal(kit_ask_with(1, "block_ip", "r2", K.epoch[1] - 1, "one", 5000).reason, REASON(STALE_EPOCH));
    assert_int_equal(kit_ask_with(1, "block_ip", "r3", K.epoch[1] + 1, "one", 5000).reason, REASON(STATE_UNKNOWN));
    assert_int_equal(kit_ask_with(15, "block_ip", "r4", 1, "one", 5000).reason, REASON(STATE_UNKNOWN));
    assert_int_equal(kit_ask_with(99, "block_ip", "r5", 1, "one", 5000).reason, REASON(UNKNOWN_AGENT));
    kit_direct(1, KIT_FROZEN, 0);
    kit_settled(1);
    assert_int_equal(kit_ask(1, "block_ip", "r6").reason, REASON(FROZEN));
    assert_int_equal(kit_calls("agent-1", NULL, NULL), 0);
}

static void nonsense_is_answered(void **state)
{
    (void)state;
    natsMsg *m = NULL;
    assert_int_equal(natsConnection_Request(&m, K.nc, SUBJECT_ACTION "agent-0", "\xff\xff", 2, 5000), NATS_OK);
    PB(ActionReply) *r =
        wire_unpack(PB_DESC(action_reply), natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m), NULL);
    assert_non_null(r);
    assert_int_equal(r->refusal, REASON(INVALID));
    wire_free(r);
    natsMsg_Destroy(m);
    /* Of one agent under another's subject: not a word. */
    PB(ActionRequest) q = PB_INIT(ACTION_REQUEST);
    q.agent = (char *)"agent-0";
    q.epoch = K.epoch[0];
    q.idempotency_key = (char *)"n1";
    q.action = (char *)"raise_alert";
    size_t len;
    void *data = wire_pack(&q, &len, NULL);
    assert_int_equal(natsConnection_Request(&m, K.nc, SUBJECT_ACTION "agent-1", data, (int)len, 300), NATS_TIMEOUT);
    free(data);
    assert_int_equal(kit_calls("agent-0", "n1", NULL), 0);
    assert_true(harness_alive(K.guard[0]));
}

static void limits(void **state)
{
    (void)state;
    char key[32];
    kit_direct(2, KIT_NORMAL, 0);
    kit_settled(2);
    int passed = 0;
    struct kit_answer a = {0};
    for (int i = 0; i < 6; i++) {
        a = kit_ask(2, "limited", kit_key(key));
        passed += a.decision == DECISION(PERMITTED);
    }
    assert_int_equal(passed, 3); /* a burst, and then one each ten seconds */
    assert_int_equal(a.reason, REASON(RATE_LIMITED));
    assert_in_range(a.retry_ms, 1, 10000);
    kit_direct(3, KIT_NORMAL, 0); /* of one agent, not of all */
    kit_settled(3);
    assert_int_equal(kit_ask(3, "limited", kit_key(key)).decision, DECISION(PERMITTED));
}

static void permits_one_instance(void **state)
{
    (void)state;
    kit_direct(4, KIT_DEGRADED, 0);
    kit_settled(4);
    assert_int_equal(kit_ask_with(4, "collect_logs", "p1", K.epoch[4], "one", 5000).decision, DECISION(PERMITTED));
    assert_int_equal(kit_ask_with(4, "collect_logs", "p1", K.epoch[4], "one", 5000).decision, DECISION(PERMITTED));
    assert_int_equal(kit_ask_with(4, "collect_logs", "p1", K.epoch[4], "two", 5000).decision, DECISION(DUPLICATE));
}

static void fails_and_may_be_asked_again(void **state)
{
    (void)state;
    kit_direct(5, KIT_NORMAL, 0);
    kit_settled(5);
    kit_backend(503, 0);
    struct kit_answer a = kit_ask(5, "block_ip", "f1");
    assert_int_equal(a.decision, DECISION(FAILED));
    assert_int_equal(a.status, 503);
    assert_true(a.retry_ms > 0);
    kit_backend(422, 0);
    assert_int_equal(kit_ask(5, "block_ip", "f2").status, 422);
    kit_backend(0, 2000); /* longer than a call may take: nobody knows */
    a = kit_ask(5, "block_ip", "f3");
    assert_int_equal(a.decision, DECISION(FAILED));
    assert_int_equal(a.status, 0);
    kit_backend(0, 0);
    assert_int_equal(kit_ask(5, "block_ip", "f1").decision, DECISION(FORWARDED));
    assert_int_equal(kit_ask(5, "block_ip", "f3").decision, DECISION(FORWARDED));
    assert_int_equal(kit_calls("agent-5", "f3", NULL), 2); /* under one key, by which the backend knows it */
}

static void queues_and_shares(void **state)
{
    (void)state;
    char key[32];
    kit_direct(6, KIT_DEGRADED, 0);
    kit_settled(6);
    assert_int_equal(kit_ask(6, "block_ip", "q1").decision, DECISION(QUEUED));
    assert_int_equal(kit_ask(6, "block_ip", "q1").decision, DECISION(QUEUED));     /* asked again: still once */
    assert_int_equal(kit_ask(6, "raise_alert", "q2").reason, REASON(NOT_ALLOWED)); /* does not wait */
    assert_int_equal(kit_calls("agent-6", NULL, NULL), 0);
    kit_direct(7, KIT_RECOVERING, 50);
    kit_settled(7);
    int forwarded = 0, queued = 0;
    for (int i = 0; i < 60; i++) {
        struct kit_answer a = kit_ask(7, "block_ip", kit_key(key));
        forwarded += a.decision == DECISION(FORWARDED);
        queued += a.decision == DECISION(QUEUED);
    }
    assert_int_equal(forwarded + queued, 60);
    assert_in_range(forwarded, 12, 48);
}

/* The agent's document in Redis is ahead of the directive: the claim itself refuses. */
static void the_document_counts(void **state)
{
    (void)state;
    kit_direct(8, KIT_NORMAL, 0);
    kit_settled(8);
    redisContext *rc = redisConnect("127.0.0.1", K.redis->port);
    assert_non_null(rc);
    freeReplyObject(redisCommand(rc, "HSET redoubt:{a:agent-8}:doc epoch %d", (int)K.epoch[8] + 1));
    assert_int_equal(kit_ask(8, "block_ip", "d1").reason, REASON(STALE_EPOCH));
    assert_int_equal(kit_calls("agent-8", NULL, NULL), 0);
    freeReplyObject(redisCommand(rc, "HSET redoubt:{a:agent-8}:doc epoch %d", (int)K.epoch[8]));
    assert_int_equal(kit_ask(8, "block_ip", "d1").decision, DECISION(FORWARDED));
    redisFree(rc);
}

/* ---- fences ---- */

static natsSubscription *fence_listen(int agent)
{
    char subject[128];
    natsSubscription *sub = NULL;
    snprintf(subject, sizeof subject, SUBJECT_FENCED "agent-%d", agent);
    assert_int_equal(natsConnection_SubscribeSync(&sub, K.nc, subject), NATS_OK);
    return sub;
}

static void fence(int agent, uint64_t epoch, const char *id)
{
    char name[16], subject[128];
    PB(Fence) f = PB_INIT(FENCE);
    kit_agent(agent, name);
    f.agent = name;
    f.epoch = epoch;
    f.id = (char *)id;
    size_t len;
    void *data = wire_pack(&f, &len, NULL);
    assert_non_null(data);
    snprintf(subject, sizeof subject, SUBJECT_FENCE "%s", name);
    assert_int_equal(natsConnection_Publish(K.nc, subject, data, (int)len), NATS_OK);
    free(data);
}

static bool fenced(natsSubscription *sub, const char *id, int64_t within_ms)
{
    natsMsg *m = NULL;
    if (natsSubscription_NextMsg(&m, sub, within_ms) != NATS_OK)
        return false;
    PB(Fenced) *f = wire_unpack(PB_DESC(fenced), natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m), NULL);
    assert_non_null(f);
    assert_string_equal(f->id, id);
    assert_true(f->instance[0]);
    wire_free(f);
    natsMsg_Destroy(m);
    return true;
}

static void *slow_ask(void *ctx)
{
    struct kit_answer *a = ctx;
    *a = kit_ask(9, "block_ip", "s1");
    return NULL;
}

/* Answered only when the call in hand has ended; and from the fence on nothing older passes, although no directive has come. */
static void a_fence_waits(void **state)
{
    (void)state;
    pthread_t t;
    struct kit_answer slow = {0};
    kit_direct(9, KIT_NORMAL, 0);
    kit_settled(9);
    natsSubscription *sub = fence_listen(9);
    fence(9, K.epoch[9], "f0"); /* of the present epoch: nothing older is in hand */
    assert_true(fenced(sub, "f0", HARNESS_WAIT_MS));
    kit_backend(0, 700);
    assert_int_equal(pthread_create(&t, NULL, slow_ask, &slow), 0);
    int64_t end = clock_mono_ms() + HARNESS_WAIT_MS;
    while (kit_calls("agent-9", "s1", NULL) == 0 && clock_mono_ms() < end)
        usleep(1000);
    fence(9, K.epoch[9] + 1, "f1");
    assert_int_equal(kit_ask(9, "block_ip", "s2").decision, DECISION(REFUSED));
    assert_true(fenced(sub, "f1", HARNESS_WAIT_MS));
    assert_int_equal(pthread_join(t, NULL), 0);
    assert_int_equal(slow.decision, DECISION(FORWARDED));
    kit_backend(0, 0);
    size_t calls = kit_calls("agent-9", NULL, NULL);
    for (int i = 0; i < 20; i++) {
        char key[32];
        assert_int_equal(kit_ask(9, "block_ip", kit_key(key)).decision, DECISION(REFUSED));
    }
    assert_int_equal(kit_calls("agent-9", NULL, NULL), calls);
    kit_direct(9, KIT_FROZEN, 0);
    kit_settled(9);
    kit_direct(9, KIT_NORMAL, 0); /* a person unfroze it */
    kit_settled(9);
    assert_int_equal(kit_ask(9, "block_ip", "s3").decision, DECISION(FORWARDED));
    natsSubscription_Destroy(sub);
}

/* ---- records ---- */

static void is_on_record_first(void **state)
{
    (void)state;
    natsSubscription *sub = NULL;
    assert_int_equal(natsConnection_SubscribeSync(&sub, K.nc, SUBJECT_AUDIT "guard"), NATS_OK);
    natsConnection_Flush(K.nc);
    kit_direct(10, KIT_NORMAL, 0);
    kit_settled(10);
    assert_int_equal(kit_ask(10, "block_ip", "a1").decision, DECISION(FORWARDED));
    int intended = 0, done = 0;
    int64_t end = clock_mono_ms() + HARNESS_WAIT_MS;
    while (!(intended && done) && clock_mono_ms() < end) {
        natsMsg *m = NULL;
        if (natsSubscription_NextMsg(&m, sub, 1000) != NATS_OK)
            continue;
        PB(AuditBatch) *b =
            wire_unpack(PB_DESC(audit_batch), natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m), NULL);
        for (size_t i = 0; b && i < b->n_records; i++) {
            const PB(AuditRecord) *r = b->records[i];
            if (strcmp(r->subject, "agent-10") != 0 || r->n_fields < 2 || strcmp(r->fields[1]->value, "a1") != 0)
                continue;
            if (r->outcome == E(AUDIT_OUTCOME__AUDIT_OUTCOME_INTENDED)) {
                assert_int_equal(done, 0);
                assert_int_equal(r->audit_class, E(AUDIT_CLASS__AUDIT_CLASS_STRICT));
                assert_string_equal(r->action, "action.forwarded");
                intended++;
            } else {
                assert_string_equal(r->action, "action.done");
                done++;
            }
        }
        wire_free(b);
        natsMsg_Destroy(m);
    }
    assert_int_equal(intended, 1);
    assert_int_equal(done, 1);
    natsSubscription_Destroy(sub);
}

static int setup(void **state)
{
    (void)state;
    kit_open(1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    int64_t end = clock_mono_ms() + HARNESS_WAIT_MS;
    while (!harness_alive(K.guard[0]) && clock_mono_ms() < end)
        usleep(1000);
    assert_int_equal(harness_stop(K.guard[0]), 0); /* it drains */
    kit_close();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(passes_on),
        cmocka_unit_test(refuses),
        cmocka_unit_test(nonsense_is_answered),
        cmocka_unit_test(limits),
        cmocka_unit_test(permits_one_instance),
        cmocka_unit_test(fails_and_may_be_asked_again),
        cmocka_unit_test(queues_and_shares),
        cmocka_unit_test(the_document_counts),
        cmocka_unit_test(a_fence_waits),
        cmocka_unit_test(is_on_record_first),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
