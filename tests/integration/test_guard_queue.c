/* test_guard_queue.c - the guard's queue on a real NATS and Redis, by replicas that are killed: in order, each once, nothing lost; poison,
 * expiry, freezes, a full queue; and what an operator can do about it. The test plays agents, backend, fallback and operator. */
#include "bus_kit.h"
#include "queue_guard.h"

#include "common/wire.h"
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define PBE(x)  REDOUBT__V1__##x
#define OK      PBE(COMMAND_STATUS__COMMAND_STATUS_OK)
#define LONG_MS 40000

static const char *const agents[] = {"a-one",    "a-two",    "a-three", "a-poison", "a-late",
                                     "a-frozen", "a-orders", "a-full",  "a-slow",   "a-command"};
enum { AGENTS = sizeof agents / sizeof agents[0], MANY = 600, RUNS_MAX = 20000, SAID_MAX = 4096 };

struct ran {
    char agent[NAME_MAX_LEN + 1], key[64];
    int64_t at_ms;
};
static struct {
    struct kit *k;
    struct kit_bus bus;
    struct harness_proc *redis, *replica[2];
    char self[512], config[2][600];
    uint64_t epoch[AGENTS];
    struct ran run[RUNS_MAX];
    size_t runs;
    int again;          /* asked to run what had been run */
    const char *poison; /* keys that start so are not taken; likewise */
    const char *rejected, *refused;
    int poisoned;
    PB(Alert) * alert[SAID_MAX];
    size_t alerts;
    PB(AuditRecord) * record[SAID_MAX];
    size_t records;
    PB(DeadLetter) * letter[SAID_MAX];
    size_t letters;
} T;

/* ---- the backend ---- */

static bool starts(const char *text, const char *with)
{
    return with && strncmp(text, with, strlen(with)) == 0;
}

static void on_run(void *ctx, const struct bus_msg *m)
{
    (void)ctx;
    const char *agent = subject_tail(m->subject, QUEUE_GUARD_RUN), *word = "done";
    char key[64];
    snprintf(key, sizeof key, "%.*s", (int)m->len, (const char *)m->data);
    if (starts(key, T.poison)) {
        word = "retry";
        T.poisoned++;
    } else if (starts(key, T.rejected)) {
        word = "reject";
    } else if (starts(key, T.refused)) {
        word = "refuse";
    } else {
        for (size_t i = 0; i < T.runs; i++)
            if (strcmp(T.run[i].key, key) == 0 && strcmp(T.run[i].agent, agent) == 0)
                word = "again";
        if (strcmp(word, "again") == 0) {
            T.again++;
        } else {
            assert_true(T.runs < RUNS_MAX);
            struct ran *r = &T.run[T.runs++];
            snprintf(r->agent, sizeof r->agent, "%s", agent);
            snprintf(r->key, sizeof r->key, "%s", key);
            r->at_ms = clock_mono_ms();
        }
    }
    struct bus_out o = {.subject = m->reply, .data = word, .len = strlen(word)};
    assert_int_equal(bus_publish(T.bus.b, &o, NULL), 0);
}

static size_t runs_of(const char *agent)
{
    size_t n = 0;
    for (size_t i = 0; i < T.runs; i++)
        n += strcmp(T.run[i].agent, agent) == 0;
    return n;
}

/* Each once, and in the order of their numbers. */
static void expect_order(const char *agent, int n)
{
    int next = 0;
    for (size_t i = 0; i < T.runs; i++) {
        if (strcmp(T.run[i].agent, agent) != 0)
            continue;
        if (atoi(strrchr(T.run[i].key, '-') + 1) != next)
            fail_msg("%s: %s was run where %d was due", agent, T.run[i].key, next);
        next++;
    }
    assert_int_equal(next, n);
}

/* ---- what is said ---- */

#define KEEP(list, n, desc)                                                                                          \
    do {                                                                                                             \
        struct err e_ = {""};                                                                                        \
        assert_true((n) < SAID_MAX);                                                                                 \
        (list)[n] = wire_unpack(desc, m->data, m->len, &e_);                                                         \
        if (!(list)[n])                                                                                              \
            fail_msg("%s: %s", m->subject, e_.text);                                                                 \
        (n)++;                                                                                                       \
    } while (0)

static void on_alert(void *ctx, const struct bus_msg *m)
{
    (void)ctx;
    KEEP(T.alert, T.alerts, PB_DESC(alert));
}
static void on_audit(void *ctx, const struct bus_msg *m)
{
    (void)ctx;
    KEEP(T.record, T.records, PB_DESC(audit_record));
}
static void on_letter(void *ctx, const struct bus_msg *m)
{
    (void)ctx;
    KEEP(T.letter, T.letters, PB_DESC(dead_letter));
}

static const PB(Alert) * alert_of(const char *key, bool resolved)
{
    for (size_t i = 0; i < T.alerts; i++)
        if (strcmp(T.alert[i]->dedup_key, key) == 0 && T.alert[i]->resolved == resolved)
            return T.alert[i];
    return NULL;
}

static size_t alerts_of(const char *key, bool resolved)
{
    size_t n = 0;
    for (size_t i = 0; i < T.alerts; i++)
        n += strcmp(T.alert[i]->dedup_key, key) == 0 && T.alert[i]->resolved == resolved;
    return n;
}

static const PB(AuditRecord) * record_of(const char *action, const char *agent)
{
    for (size_t i = T.records; i-- > 0;)
        if (strcmp(T.record[i]->action, action) == 0 && strcmp(T.record[i]->subject, agent) == 0)
            return T.record[i];
    return NULL;
}

static const PB(DeadLetter) * letter_of(const char *agent, const char *reason)
{
    char subject[128];
    snprintf(subject, sizeof subject, SUBJECT_QUEUE "%s.", agent);
    for (size_t i = 0; i < T.letters; i++)
        if (starts(T.letter[i]->subject, subject) && starts(T.letter[i]->reason, reason))
            return T.letter[i];
    return NULL;
}

/* ---- fallback ---- */

static size_t index_of(const char *agent)
{
    for (size_t i = 0; i < AGENTS; i++)
        if (strcmp(agents[i], agent) == 0)
            return i;
    fail_msg("no agent %s", agent);
    return 0;
}

static uint64_t direct(const char *agent, int backend, int automation, uint64_t frozen_epoch)
{
    struct err e = {""};
    struct kit_stored s = {0};
    PB(AgentState) st = PB_INIT(AGENT_STATE);
    PB(Directive) d = PB_INIT(DIRECTIVE);
    char subject[128], id[128];
    size_t len;
    st.agent = (char *)agent;
    st.epoch = ++T.epoch[index_of(agent)];
    st.revision = st.epoch;
    st.posture =
        backend == PBE(BACKEND_MODE__BACKEND_MODE_UP) ? PBE(POSTURE__POSTURE_NORMAL) : PBE(POSTURE__POSTURE_DEGRADED);
    st.backend = (Redoubt__V1__BackendMode)backend;
    st.automation = (Redoubt__V1__AutomationMode)automation;
    if (automation == PBE(AUTOMATION_MODE__AUTOMATION_MODE_FROZEN)) {
        st.posture = PBE(POSTURE__POSTURE_FROZEN);
        st.frozen_by = (char *)"test";
    }
    st.frozen_epoch = frozen_epoch;
    st.override_mode = PBE(OVERRIDE_MODE__OVERRIDE_MODE_OFF);
    st.link = PBE(LINK_MODE__LINK_MODE_UP);
    st.resources = PBE(RESOURCE_MODE__RESOURCE_MODE_OK);
    st.load_percent = 100;
    st.llm_target = (char *)"llm.x";
    st.llm_model = (char *)"m";
    st.step = PBE(STEP__STEP_INITIAL);
    st.since_unix_ms = clock_wall_ms();
    d.state = &st;
    d.step = PBE(STEP__STEP_INITIAL);
    void *data = wire_pack(&d, &len, &e);
    if (!data)
        fail_msg("%s", e.text);
    snprintf(subject, sizeof subject, SUBJECT_DIRECTIVE "%s", agent);
    snprintf(id, sizeof id, "directive/%s/%" PRIu64, agent, st.epoch);
    struct bus_out o = {.subject = subject, .id = id, .type = wire_type(&d), .data = data, .len = len};
    bus_store(T.bus.b, &o, 0, kit_stored, &s);
    free(data);
    KIT_WAIT(T.k, s.ok == 1);
    return st.epoch;
}

static void away(const char *agent)
{
    direct(agent, PBE(BACKEND_MODE__BACKEND_MODE_DEGRADED), PBE(AUTOMATION_MODE__AUTOMATION_MODE_ENABLED), 0);
}

static void back(const char *agent)
{
    direct(agent, PBE(BACKEND_MODE__BACKEND_MODE_UP), PBE(AUTOMATION_MODE__AUTOMATION_MODE_ENABLED), 0);
}

/* ---- agents ---- */

struct asking { /* one action after the other, each when the one before is answered */
    const char *agent, *prefix;
    int next, n, queued, refused;
    uint64_t epoch;
    uint32_t priority;
    int64_t expires_ms;
    bool busy;
    char word[128];
};

static void ask_next(struct asking *a);

static void on_put(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct asking *a = ctx;
    a->busy = false;
    if (st == BUS_TIMEOUT || st == BUS_NO_RESPONDERS) { /* killed with it in hand: asked again under the same key */
        ask_next(a);
        return;
    }
    assert_int_equal(st, BUS_OK);
    snprintf(a->word, sizeof a->word, "%.*s", (int)m->len, (const char *)m->data);
    a->queued += strcmp(a->word, "queued") == 0;
    a->refused += strcmp(a->word, "full") == 0;
    if (strcmp(a->word, "queued") != 0 && strcmp(a->word, "full") != 0)
        fail_msg("%s", a->word);
    a->next++;
    ask_next(a);
}

static void ask_next(struct asking *a)
{
    if (a->next >= a->n)
        return;
    struct err e = {""};
    char key[64], subject[128];
    size_t len;
    PB(ActionRequest) r = PB_INIT(ACTION_REQUEST);
    snprintf(key, sizeof key, "%s-%d", a->prefix, a->next);
    r.agent = (char *)a->agent;
    r.epoch = a->epoch ? a->epoch : T.epoch[index_of(a->agent)];
    r.idempotency_key = key;
    r.action = (char *)"block_ip";
    r.priority = a->priority;
    r.expires_unix_ms = a->expires_ms;
    r.requested_unix_ms = clock_wall_ms();
    void *data = wire_pack(&r, &len, &e);
    if (!data)
        fail_msg("%s", e.text);
    snprintf(subject, sizeof subject, SUBJECT_ACTION "%s", a->agent);
    struct bus_out o = {.subject = subject, .data = data, .len = len};
    a->busy = true;
    bus_request(T.bus.b, &o, 3000, on_put, a);
    free(data);
}

static void ask_all(struct asking *a)
{
    ask_next(a);
    KIT_WAIT_MS(T.k, a->next == a->n && !a->busy, LONG_MS);
}

/* ---- operators ---- */

struct ordered {
    bool done;
    PB(CommandReply) * r;
};
static void on_ordered(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct ordered *o = ctx;
    struct err e = {""};
    o->done = true;
    if (st != BUS_OK)
        fail_msg("no answer: %s", bus_status_text(st));
    if (!(o->r = wire_unpack(PB_DESC(command_reply), m->data, m->len, &e)))
        fail_msg("%s", e.text);
}

/* The answer, until the next order. */
static const PB(CommandReply) * order(const char *verb, PB(GuardCommand) c)
{
    static struct ordered o;
    struct err e = {""};
    char subject[128];
    size_t len;
    wire_free(o.r);
    o = (struct ordered){0};
    void *data = wire_pack(&c, &len, &e);
    if (!data)
        fail_msg("%s", e.text);
    snprintf(subject, sizeof subject, SUBJECT_CMD "guard.%s", verb);
    struct bus_out out = {.subject = subject, .data = data, .len = len};
    bus_request(T.bus.b, &out, HARNESS_WAIT_MS, on_ordered, &o);
    free(data);
    KIT_WAIT(T.k, o.done);
    return o.r;
}

static PB(GuardCommand) about(const char *agent)
{
    PB(GuardCommand) c = PB_INIT(GUARD_COMMAND);
    c.agent = (char *)agent;
    return c;
}

static PB(GuardCommand) by(const char *agent)
{
    PB(GuardCommand) c = about(agent);
    c.by = (char *)"someone";
    c.reason = (char *)"a test";
    return c;
}

/* How many actions of the agent wait, as the guard lists it. */
static uint64_t waiting(const char *agent)
{
    const PB(CommandReply) *r = order("queue_list", about(agent));
    struct err e;
    assert_int_equal(r->status, OK);
    PB(QueueReport) *q =
        r->payload.len ? wire_unpack(PB_DESC(queue_report), r->payload.data, r->payload.len, &e) : NULL;
    uint64_t n = q && q->n_agents == 1 ? q->agents[0]->waiting : 0;
    if (q && q->n_agents == 1) {
        assert_string_equal(q->agents[0]->agent, agent);
        assert_true(q->agents[0]->oldest_unix_ms > clock_wall_ms() - 120000);
    }
    wire_free(q);
    return n;
}

/* ---- the stack ---- */

static void write_config(int i, const char *rate)
{
    FILE *f = fopen(T.config[i], "w");
    assert_non_null(f);
    fprintf(f,
            "nats: { url: \"%s\" }\nredis: { host: 127.0.0.1, port: %d }\ndata_dir: %s/data\ntilt_hold: 1s\n"
            "guard: { lease_ttl: 1s, member_ttl: 1s, queue: { per_agent: 2000, replay_rate: %s, dead_after: 3, "
            "retry: 50ms } }\n"
            "targets:\n  - { name: llm.x, kind: llm }\nagents:\n",
            T.k->nats->url, T.redis->port, harness_dir(T.k->h), rate);
    for (size_t a = 0; a < AGENTS; a++)
        fprintf(f, "  - { name: %s, chain: [ { target: llm.x, model: m } ] }\n", agents[a]);
    fclose(f);
}

static int set_up(void **state)
{
    if (kit_setup(state))
        return -1;
    T.k = *state;
    ssize_t n = readlink("/proc/self/exe", T.self, sizeof T.self - 1);
    assert_true(n > 0);
    harness_start(T.k->nats);
    T.redis = harness_redis(T.k->h, "redis", NULL);
    for (int i = 0; i < 2; i++) {
        snprintf(T.config[i], sizeof T.config[i], "%s/guard%d.yaml", harness_dir(T.k->h), i);
        write_config(i, i == 0 ? "20000" : "20000");
    }
    kit_open_up(T.k, &T.bus);
    bus_subscribe(T.bus.b, QUEUE_GUARD_RUN "*", NULL, on_run, NULL);
    bus_subscribe(T.bus.b, SUBJECT_ALERT, NULL, on_alert, NULL);
    bus_subscribe(T.bus.b, SUBJECT_AUDIT "guard", NULL, on_audit, NULL);
    bus_subscribe(T.bus.b, SUBJECT_DEAD ">", NULL, on_letter, NULL);
    for (size_t i = 0; i < AGENTS; i++)
        away(agents[i]);
    for (int i = 0; i < 2; i++) {
        const char *argv[] = {T.self, "--guard", "-c", T.config[i], NULL};
        char name[16];
        snprintf(name, sizeof name, "guard%d", i);
        T.replica[i] = harness_run(T.k->h, name, 0, argv);
    }
    return 0;
}

static int tear_down(void **state)
{
    for (int i = 0; i < 2; i++)
        harness_stop(T.replica[i]);
    kit_close(&T.bus);
    return kit_teardown(state);
}

/* ---- stories ---- */

/* Three agents that wait for each answer, two replicas that take the actions in turn; then the way opens, a replica is killed in the middle,
 * the server, and the other replica. */
static void in_order_and_each_once(void **state)
{
    (void)state;
    struct asking a[3] = {0};
    for (int i = 0; i < 3; i++) {
        a[i] = (struct asking){.agent = agents[i], .prefix = "n", .n = MANY};
        ask_next(&a[i]);
    }
    KIT_WAIT_MS(T.k, a[0].next == MANY && a[1].next == MANY && a[2].next == MANY, LONG_MS);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(a[i].queued, MANY);
        assert_int_equal(waiting(agents[i]), MANY);
        assert_int_equal(runs_of(agents[i]), 0); /* none while the backend is away */
    }
    for (int i = 0; i < 3; i++)
        back(agents[i]);
    KIT_WAIT_MS(T.k, T.runs > MANY / 2, LONG_MS);
    harness_kill(T.replica[0]);
    KIT_WAIT_MS(T.k, T.runs > MANY, LONG_MS);
    harness_start(T.replica[0]);
    harness_kill(T.k->nats);
    harness_start(T.k->nats);
    KIT_WAIT_MS(T.k, T.runs > 3 * MANY / 2, LONG_MS);
    harness_kill(T.replica[1]);
    harness_start(T.replica[1]);
    for (int i = 0; i < 3; i++) {
        int64_t end = clock_mono_ms() + LONG_MS;
        while (runs_of(agents[i]) < MANY && clock_mono_ms() < end)
            kit_turn(T.k);
        if (runs_of(agents[i]) != MANY)
            fail_msg("%s: %zu of %d were run, %" PRIu64 " wait", agents[i], runs_of(agents[i]), MANY,
                     waiting(agents[i]));
        KIT_WAIT_MS(T.k, waiting(agents[i]) == 0, LONG_MS);
        expect_order(agents[i], MANY);
        KIT_WAIT(T.k, record_of("queue.drained", agents[i]) != NULL);
    }
    assert_int_equal(T.letters, 0);
}

static void what_cannot_be_done_is_buried(void **state)
{
    (void)state;
    const char *agent = "a-poison";
    T.poison = "poison";
    T.rejected = "wrong";
    T.refused = "banned";
    struct asking a = {.agent = agent, .prefix = "poison", .n = 2}, w = {.agent = agent, .prefix = "wrong", .n = 3},
                  b = {.agent = agent, .prefix = "banned", .n = 1}, g = {.agent = agent, .prefix = "n", .n = 5},
                  first = {.agent = agent, .prefix = "first", .n = 2, .priority = 0};
    a.priority = w.priority = b.priority = g.priority = 5;
    ask_all(&a);
    ask_all(&w);
    ask_all(&b);
    ask_all(&g);
    ask_all(&first);
    back(agent);
    KIT_WAIT_MS(T.k, runs_of(agent) == 7 && waiting(agent) == 0, LONG_MS);
    /* What came last was first by its priority. */
    for (size_t i = 0, n = 0; i < T.runs; i++)
        if (strcmp(T.run[i].agent, agent) == 0) {
            assert_true(starts(T.run[i].key, n < 2 ? "first" : "n"));
            n++;
        }
    KIT_WAIT(T.k, letter_of(agent, "failed") && letter_of(agent, "rejected") && letter_of(agent, "refused"));
    assert_int_equal(T.letters, 6);
    assert_true(T.poisoned >= 6); /* three tries each */
    const PB(DeadLetter) *d = letter_of(agent, "failed");
    struct err e = {""};
    PB(QueuedAction) *q = wire_unpack(PB_DESC(queued_action), d->payload.data, d->payload.len, &e);
    assert_non_null(q);
    assert_string_equal(q->request->agent, agent);
    assert_true(starts(q->request->idempotency_key, "poison-"));
    wire_free(q);
    assert_string_equal(d->stream, STREAM_ACTIONS);
    assert_int_equal(d->deliveries, 3);
    /* One alert of a kind, resolved when the queue is empty. */
    KIT_WAIT(T.k, alert_of("agent/a-poison/queue-rejected", true) && alert_of("agent/a-poison/queue-failed", true));
    assert_int_equal(alerts_of("agent/a-poison/queue-rejected", false), 1);
    assert_int_equal(alerts_of("agent/a-poison/queue-failed", false), 1);
    assert_non_null(record_of("queue.dead", agent));
    const PB(AuditRecord) *r = record_of("queue.drained", agent);
    assert_non_null(r);
    assert_non_null(strstr(r->detail, "7 replayed"));
    assert_non_null(strstr(r->detail, "3 rejected"));
    assert_non_null(strstr(r->detail, "2 failed"));
}

static void the_expired_is_buried_while_it_waits(void **state)
{
    (void)state;
    const char *agent = "a-late";
    struct asking a = {.agent = agent, .prefix = "late", .n = 3, .expires_ms = clock_wall_ms() + 1500};
    ask_all(&a);
    KIT_WAIT_MS(T.k, letter_of(agent, "expired") && waiting(agent) == 0, LONG_MS);
    assert_int_equal(runs_of(agent), 0);
    KIT_WAIT(T.k, alert_of("agent/a-late/queue-expired", true));
    assert_int_equal(alerts_of("agent/a-late/queue-expired", false), 1);
}

static void a_freeze_holds_until_a_person_releases(void **state)
{
    (void)state;
    const char *agent = "a-frozen";
    struct asking before = {.agent = agent, .prefix = "before", .n = 4},
                  after = {.agent = agent, .prefix = "after", .n = 3};
    ask_all(&before);
    uint64_t frozen = direct(agent, PBE(BACKEND_MODE__BACKEND_MODE_DEGRADED),
                             PBE(AUTOMATION_MODE__AUTOMATION_MODE_FROZEN), T.epoch[index_of(agent)] + 1);
    const PB(CommandReply) *r = order("queue_release", by(agent));
    assert_int_not_equal(r->status, OK); /* unfreeze first */
    direct(agent, PBE(BACKEND_MODE__BACKEND_MODE_DEGRADED), PBE(AUTOMATION_MODE__AUTOMATION_MODE_ENABLED), frozen);
    ask_all(&after);
    direct(agent, PBE(BACKEND_MODE__BACKEND_MODE_UP), PBE(AUTOMATION_MODE__AUTOMATION_MODE_ENABLED), frozen);
    KIT_WAIT_MS(T.k, runs_of(agent) == 3, LONG_MS);
    assert_int_equal(waiting(agent), 4);
    struct err e;
    r = order("queue_list", about(agent));
    PB(QueueReport) *q = wire_unpack(PB_DESC(queue_report), r->payload.data, r->payload.len, &e);
    assert_non_null(q);
    assert_true(q->agents[0]->held);
    wire_free(q);
    r = order("queue_release", about(agent)); /* by whom, and why? */
    assert_int_equal(r->status, PBE(COMMAND_STATUS__COMMAND_STATUS_INVALID));
    KIT_WAIT(T.k, order("queue_release", by(agent))->status == OK);
    KIT_WAIT_MS(T.k, runs_of(agent) == 7 && waiting(agent) == 0, LONG_MS);
    int next = 0;
    for (size_t i = 0; i < T.runs; i++)
        if (starts(T.run[i].key, "before-"))
            assert_int_equal(atoi(T.run[i].key + 7), next++);
    KIT_WAIT(T.k, record_of("queue.release", agent) != NULL);
    assert_string_equal(record_of("queue.release", agent)->actor, "someone");
}

static void an_operator_looks_and_drops(void **state)
{
    (void)state;
    const char *agent = "a-orders";
    struct err e;
    struct asking a = {.agent = agent, .prefix = "n", .n = 30};
    ask_all(&a);
    PB(GuardCommand) c = about(agent);
    c.limit = 12;
    uint64_t seen = 0;
    for (int page = 0; page < 3; page++) {
        const PB(CommandReply) *r = order("queue_show", c);
        assert_int_equal(r->status, OK);
        PB(QueueListing) *l = wire_unpack(PB_DESC(queue_listing), r->payload.data, r->payload.len, &e);
        assert_non_null(l);
        assert_int_equal(l->n_entries, page < 2 ? 12 : 6);
        assert_true((l->next_sequence != 0) == (page < 2));
        for (size_t i = 0; i < l->n_entries; i++, seen++) {
            char key[32];
            snprintf(key, sizeof key, "n-%" PRIu64, seen);
            assert_string_equal(l->entries[i]->action->request->idempotency_key, key);
            assert_string_equal(l->entries[i]->action->reason, "the backend is away");
        }
        c.from_sequence = l->next_sequence;
        wire_free(l);
    }
    c = about(agent);
    assert_int_equal(order("queue_drop", c)->status, PBE(COMMAND_STATUS__COMMAND_STATUS_INVALID));
    c = by(agent);
    c.idempotency_key = (char *)"n-7";
    assert_int_equal(order("queue_drop", c)->status, OK);
    assert_int_equal(waiting(agent), 29);
    assert_int_equal(order("queue_drop", c)->status, PBE(COMMAND_STATUS__COMMAND_STATUS_INVALID)); /* gone already */
    KIT_WAIT(T.k, record_of("queue.drop", agent) != NULL);
    /* Dropped, and asked for again under the same key: no repeat, it waits. */
    struct asking again = {.agent = agent, .prefix = "n", .next = 7, .n = 8};
    ask_all(&again);
    assert_int_equal(waiting(agent), 30);
    const PB(CommandReply) *r = order("queue_drop", by(agent));
    assert_int_equal(r->status, OK);
    assert_non_null(strstr(r->message, "30"));
    assert_int_equal(waiting(agent), 0);
    assert_int_equal(order("queue_drop", by(agent))->status, PBE(COMMAND_STATUS__COMMAND_STATUS_ALREADY));
    r = order("queue_show", about(agent));
    assert_int_equal(r->status, OK);
    assert_int_equal(r->payload.len, 0);
    /* Nobody's. */
    assert_int_equal(order("queue_release", by("nobody"))->status, PBE(COMMAND_STATUS__COMMAND_STATUS_INVALID));
    assert_int_equal(order("queue_show", by(""))->status, PBE(COMMAND_STATUS__COMMAND_STATUS_INVALID));
}

/* `redoubt ARGS`: its exit code; what it said is in R. */
static char R[32768];
static int redoubt(const char *args)
{
    char command[1200], program[600];
    snprintf(program, sizeof program, "%s", T.self);
    for (int up = 0; up < 3; up++) /* <build>/tests/integration/test_guard_queue -> <build>/bin/redoubt */
        *strrchr(program, '/') = 0;
    snprintf(command, sizeof command, "%s/bin/redoubt %s --nats %s 2>&1", program, args, T.k->nats->url);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    R[fread(R, 1, sizeof R - 1, f)] = 0;
    int status = pclose(f);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void expect_said(const char *text)
{
    if (!strstr(R, text))
        fail_msg("`%s` is missing in:\n%s", text, R);
}

static void by_the_command(void **state)
{
    (void)state;
    const char *agent = "a-command";
    struct asking a = {.agent = agent, .prefix = "n", .n = 70, .priority = 4};
    ask_all(&a);
    assert_int_equal(redoubt("queue list"), 0);
    expect_said("a-command");
    expect_said("its backend is away");
    assert_int_equal(redoubt("queue list a-command --json"), 0);
    json_t *j = json_loads(R, 0, NULL), *row = json_array_get(json_object_get(j, "agents"), 0);
    assert_int_equal(json_integer_value(json_object_get(row, "waiting")), 70);
    assert_false(json_is_true(json_object_get(row, "held")));
    json_decref(j);
    assert_int_equal(redoubt("queue list nobody"), 0);
    assert_null(strstr(R, "a-command"));
    assert_int_equal(redoubt("queue show a-command -n 3"), 0);
    expect_said("n-2");
    expect_said("block_ip");
    expect_said("more wait");
    assert_null(strstr(R, "n-3"));
    assert_int_equal(redoubt("queue show a-command -n 1000 --json"), 0); /* in two pages */
    j = json_loads(R, 0, NULL);
    assert_int_equal(json_array_size(json_object_get(j, "entries")), 70);
    assert_int_equal(json_integer_value(json_object_get(j, "nextSequence")), 0);
    json_decref(j);
    assert_int_equal(redoubt("queue show nobody"), 0);
    expect_said("nothing waits for nobody");

    assert_int_equal(redoubt("queue drop a-command n-3"), 2); /* by whom, and why? */
    assert_int_equal(redoubt("queue drop a-command --by me --reason test"), 2);
    assert_int_equal(redoubt("queue drop a-command n-3 --all --by me --reason test"), 2);
    assert_int_equal(redoubt("queue drop a-command n-3 --by me --reason test"), 0);
    assert_int_equal(redoubt("queue drop a-command n-3 --by me --reason test"), 4);
    assert_int_equal(redoubt("queue drop a-command --all --by me --reason test"), 0);
    expect_said("69 of the actions");
    assert_int_equal(redoubt("queue release a-command --by me --reason test"), 0);
    expect_said("nothing of a-command is held");
    assert_int_equal(redoubt("queue release nobody --by me --reason test"), 4);
    assert_int_equal(waiting(agent), 0);
}

/* What is no action is buried as well, and stops nobody. */
static void rubbish_is_buried(void **state)
{
    (void)state;
    const char *agent = "a-orders";
    struct kit_stored s = {0};
    struct bus_out o = kit_out(SUBJECT_QUEUE "a-orders.0", "rubbish", "what is this");
    bus_store(T.bus.b, &o, 0, kit_stored, &s);
    KIT_WAIT(T.k, s.ok == 1);
    struct asking a = {.agent = agent, .prefix = "m", .n = 2};
    ask_all(&a);
    back(agent);
    KIT_WAIT_MS(T.k, runs_of(agent) == 2 && letter_of(agent, "malformed"), LONG_MS);
    KIT_WAIT_MS(T.k, waiting(agent) == 0, LONG_MS);
}

static void limit_stream(int max_bytes)
{
    struct kit_answer r;
    char text[512];
    snprintf(text, sizeof text,
             "{\"name\":\"" STREAM_ACTIONS "\",\"subjects\":[\"" SUBJECT_QUEUE ">\"],\"max_msgs\":-1,"
             "\"max_bytes\":%d,\"discard\":\"new\",\"retention\":\"workqueue\",\"storage\":\"file\","
             "\"num_replicas\":1,\"max_consumers\":-1,\"allow_direct\":true}",
             max_bytes);
    assert_null(strstr(kit_ask(&T.bus, &r, "$JS.API.STREAM.UPDATE." STREAM_ACTIONS, text), "\"error\""));
}

static int drop_all(const char *agent)
{
    const PB(CommandReply) *r = order("queue_drop", by(agent));
    return r->status == OK ? atoi(r->message) : 0;
}

/* One agent's part, and the stream: refused, said once, and over when there is room. */
static void a_full_queue_refuses(void **state)
{
    (void)state;
    const char *agent = "a-full";
    limit_stream(100000);
    assert_int_equal(waiting(agent), 0); /* counted anew, with the limit */
    order("queue_list", by(""));         /* and by the other replica, likely */
    struct asking a = {.agent = agent, .prefix = "n", .n = 800};
    ask_all(&a);
    assert_int_equal(a.queued + a.refused, 800);
    assert_true(a.queued > 50 && a.refused > 50);
    KIT_WAIT(T.k, alert_of("guard/queue", false) != NULL);
    assert_true(alerts_of("guard/queue", false) <= 4); /* of each replica: at 70 %, and when full */
    /* What was taken while the other replica filled it up waits in the outbox, and comes when there is room: none is lost. */
    int dropped = 0;
    KIT_WAIT(T.k, (dropped += drop_all(agent)) == a.queued);
    KIT_WAIT(T.k, alert_of("guard/queue", true) != NULL);
    limit_stream(1 << 30);
    struct asking b = {.agent = agent, .prefix = "again", .n = 20};
    KIT_WAIT(T.k, (b.next = 0, b.refused = 0, ask_all(&b), b.refused == 0));
    drop_all(agent);
    assert_int_equal(waiting(agent), 0);
}

/* The rate is of all replicas together. */
static void the_rate_is_kept(void **state)
{
    (void)state;
    enum { RATE = 200, N = 300 };
    const char *agent = "a-slow";
    struct asking a = {.agent = agent, .prefix = "n", .n = N}, b = {.agent = "a-one", .prefix = "r", .n = N};
    away("a-one");
    ask_all(&a);
    ask_all(&b);
    for (int i = 0; i < 2; i++) {
        write_config(i, "200");
        kill(T.replica[i]->pid, SIGHUP);
    }
    size_t before = T.runs;
    KIT_WAIT(T.k, waiting(agent) ==
                      N); /* the answer comes after the signal was handled, of one; and the lists of the other */
    KIT_WAIT(T.k, waiting("a-one") == N);
    KIT_WAIT(T.k, waiting(agent) == N);
    back(agent);
    back("a-one");
    KIT_WAIT_MS(T.k, T.runs == before + 2 * N, LONG_MS);
    for (size_t i = before, from = before; i < T.runs; i++) {
        while (T.run[i].at_ms - T.run[from].at_ms > 1000)
            from++;
        assert_true(i - from < RATE * 3 / 2); /* in any second: with late timers and a slow bus in between */
    }
    assert_true(T.run[T.runs - 1].at_ms - T.run[before].at_ms >= 2 * N * 1000 / RATE * 9 / 10);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--guard") == 0) {
        argv[1] = argv[0];
        return queue_guard_main(argc - 1, argv + 1);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_order_and_each_once),
        cmocka_unit_test(what_cannot_be_done_is_buried),
        cmocka_unit_test(the_expired_is_buried_while_it_waits),
        cmocka_unit_test(a_freeze_holds_until_a_person_releases),
        cmocka_unit_test(an_operator_looks_and_drops),
        cmocka_unit_test(by_the_command),
        cmocka_unit_test(rubbish_is_buried),
        cmocka_unit_test(a_full_queue_refuses),
        cmocka_unit_test(the_rate_is_kept),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
