/* test_continuity_service.c - redoubt-continuity on a real NATS and Redis: one incident for 500 agents, its phases and clocks, commands, bad input, reload. */
#include "continuity_kit.h"

static struct kit *K;

#define PHASES                                                                                                       \
    "  phases: { respond: 1s, settle: 300ms, validate: 500ms, join_within: 2s, closes_itself: none }\n"              \
    "  own:\n    - { agents: [ quick ], mad_degraded: 2s }\n"

static int setup(void **state)
{
    (void)state;
    K = kit_new(PHASES, KIT_AGENT("quick") KIT_AGENT("lone"));
    kit_hear(K);
    kit_start(K, 0);
    KIT_UNTIL(K, K->beats > 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    kit_free(K);
    return 0;
}

static void test_one_outage_is_one_incident(void **state)
{
    (void)state;
    char name[16], key[80];
    kit_breaker(K, "llm.openai.gpt-4o", true);
    KIT_UNTIL(K, kit_open(K, "llm.openai")); /* before any agent has moved */
    for (int i = 0; i < FLEET; i++) {
        snprintf(name, sizeof name, "a%03d", i);
        kit_directive(K, name, (struct kit_position){.llm_index = 1});
    }
    KIT_UNTIL(K, kit_open(K, "llm.openai")->agents_total == FLEET);
    PB(IncidentChanged) *d = kit_open(K, "llm.openai");
    assert_int_equal(K->n_incidents, 1);
    assert_int_equal(d->n_agents, FLEET);
    assert_int_equal(d->open_signals, FLEET + 1);
    assert_int_equal(d->failure_kind, E(FAILURE_KIND__FAILURE_KIND_LLM_OUTAGE));
    assert_non_null(kit_clock(d, "mad_llm_fallback"));
    snprintf(key, sizeof key, "incident/%s", d->id);
    KIT_UNTIL(K, kit_alerts(K, key, false) >= 1);
    assert_int_equal(kit_alerts(K, key, false), 1);
    assert_int_equal(d->phase, PHASE(RESPOND));
    kit_delivered(K, key); /* somebody is told */
    KIT_UNTIL(K, kit_phase(K, "llm.openai") == PHASE(RECOVER));
    for (int i = 0; i < FLEET; i++) {
        snprintf(name, sizeof name, "a%03d", i);
        kit_directive(K, name, (struct kit_position){0});
    }
    KIT_UNTIL(K, kit_open(K, "llm.openai")->open_signals == 1);
    assert_int_equal(kit_phase(K, "llm.openai"), PHASE(RECOVER)); /* the provider itself is still away */
    int64_t started = kit_clock(kit_open(K, "llm.openai"), "mad_llm_fallback")->started_unix_ms;
    kit_breaker(K, "llm.openai.gpt-4o", false);
    KIT_UNTIL(K, kit_phase(K, "llm.openai") == PHASE(LEARN));
    d = kit_open(K, "llm.openai");
    const PB(ObjectiveClock) *clock = kit_clock(d, "mad_llm_fallback");
    assert_int_equal(clock->started_unix_ms, started);
    assert_int_equal(clock->stopped_unix_ms, d->validated_unix_ms);
    assert_int_equal(clock->elapsed_ms, (uint64_t)(d->validated_unix_ms - started));
    assert_true(d->validated_unix_ms - d->recovered_unix_ms >= 500);
    KIT_UNTIL(K, kit_alerts(K, key, true) == 1);
    KIT_UNTIL(K, K->n_shown > 0); /* demonstrated */
    bool shown = false;
    for (size_t i = 0; i < K->n_shown; i++)
        shown = shown || (strcmp(K->shown[i]->objective, "mad_llm_fallback") == 0 &&
                          K->shown[i]->shown[0]->took_ms == clock->elapsed_ms);
    KIT_UNTIL(K, K->n_shown >= d->n_clocks);
    assert_true(shown);
    assert_int_equal(K->n_incidents, 1);
    assert_true(K->events > 0);
    /* How long each was on its backup model is kept, and told. */
    PB(ContinuityCommand) cmd = PB_INIT(CONTINUITY_COMMAND);
    cmd.agent = (char *)"a007";
    PB(AvailabilityReport) *r = kit_read(K, "availability", &cmd, PB_DESC(availability_report));
    assert_int_equal(r->n_agents, 1);
    assert_int_equal(r->agents[0]->figures->incidents, 1);
    assert_true(r->agents[0]->figures->llm_fallback_ms > 0);
    assert_int_equal(r->agents[0]->figures->full_ms, 0);
    wire_free(r);
}

static void test_clocks(void **state)
{
    (void)state;
    char key[120], late[120], name[] = "mad_degraded";
    kit_directive(K, "quick", (struct kit_position){.backend = true});
    KIT_UNTIL(K, kit_open(K, "backend.main"));
    PB(IncidentChanged) *d = kit_open(K, "backend.main");
    snprintf(key, sizeof key, "incident/%s/%s", d->id, name);
    snprintf(late, sizeof late, "incident/%s/overdue", d->id);
    assert_int_equal(kit_clock(d, name)->limit_ms, 2000);
    assert_string_equal(kit_clock(d, name)->agent, "quick");
    KIT_UNTIL(K, kit_alerts(K, key, false) == 4); /* 50, 75, 90, 100 % */
    static const int severities[] = {2, 3, 3, 4};
    size_t n = 0;
    for (size_t i = 0; i < K->n_alerts; i++)
        if (strcmp(K->alert[i].key, key) == 0)
            assert_int_equal(K->alert[i].severity, severities[n++]);
    KIT_UNTIL(K, kit_clock(kit_open(K, "backend.main"), name)->told == 15);
    /* Nobody was told for longer than RESPOND may take. */
    KIT_UNTIL(K, kit_alerts(K, late, false) == 1);
    PB(ContinuityCommand) cmd = PB_INIT(CONTINUITY_COMMAND);
    cmd.agent = (char *)"quick";
    PB(ContinuityStatus) *s = kit_read(K, "status", &cmd, PB_DESC(continuity_status));
    const PB(ObjectiveStatus) *breached = NULL;
    for (size_t i = 0; i < s->n_objectives; i++)
        if (strcmp(s->objectives[i]->objective, name) == 0)
            breached = s->objectives[i];
    assert_non_null(breached);
    assert_int_equal(breached->target_ms, 2000);
    assert_int_equal(breached->verdict, E(OBJECTIVE_VERDICT__OBJECTIVE_VERDICT_BREACHED));
    assert_true(breached->running_ms >= 2000);
    wire_free(s);
    /* It is breached, and runs on until validation. */
    kit_directive(K, "quick", (struct kit_position){0});
    KIT_UNTIL(K, kit_phase(K, "backend.main") == PHASE(LEARN));
    d = kit_open(K, "backend.main");
    assert_int_equal(kit_clock(d, name)->stopped_unix_ms, d->validated_unix_ms);
    assert_true(kit_clock(d, name)->breached);
    KIT_UNTIL(K, kit_alerts(K, key, true) == 1 && kit_alerts(K, late, true) == 1);
    assert_int_equal(kit_alerts(K, key, false), 4);
}

static PB(ContinuityCommand) order(const char *id, const char *by, const char *reason)
{
    PB(ContinuityCommand) cmd = PB_INIT(CONTINUITY_COMMAND);
    cmd.incident = (char *)id;
    cmd.by = (char *)by;
    cmd.reason = (char *)reason;
    return cmd;
}

static void test_commands(void **state)
{
    (void)state;
    PB(ContinuityCommand) cmd = order("", "ann", "the vault is being moved");
    cmd.agent = (char *)"lone";
    assert_int_equal(kit_ask(K, "open", &cmd), STATUS(INVALID)); /* what has failed is not said */
    cmd.failure_kind = E(FAILURE_KIND__FAILURE_KIND_BACKEND_FAILURE);
    cmd.severity = E(SEVERITY__SEVERITY_HIGH);
    uint64_t records = K->records;
    assert_int_equal(kit_ask(K, "open", &cmd), STATUS(OK));
    PB(IncidentChanged) *d = kit_unpacked(PB_DESC(incident_changed), K->reply->payload.data, K->reply->payload.len);
    char id[40];
    snprintf(id, sizeof id, "%s", d->id);
    assert_string_equal(d->key, "agent.lone");
    wire_free(d);
    KIT_UNTIL(K, K->records > records);
    assert_int_equal(kit_ask(K, "open", &cmd), STATUS(ALREADY));
    /* Who and why are required, an incident must be one. */
    cmd = order(id, "", "x");
    assert_int_equal(kit_ask(K, "note", &cmd), STATUS(INVALID));
    cmd = order(id, "ann", " ");
    assert_int_equal(kit_ask(K, "note", &cmd), STATUS(INVALID));
    cmd = order("nothing", "ann", "x");
    static const char *const verbs[] = {"note", "assign", "advance", "close", "incident"};
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        assert_int_equal(kit_ask(K, verbs[i], &cmd), STATUS(INVALID));
    /* A note, an owner. */
    cmd = order(id, "ann", "seen in the log");
    cmd.note_kind = E(INCIDENT_NOTE_KIND__INCIDENT_NOTE_KIND_DECISION);
    assert_int_equal(kit_ask(K, "note", &cmd), STATUS(OK));
    cmd = order(id, "ann", "");
    cmd.owner = (char *)"bob";
    assert_int_equal(kit_ask(K, "assign", &cmd), STATUS(OK));
    d = kit_show(K, id);
    assert_int_equal(d->n_notes, 1);
    assert_string_equal(d->notes[0]->text, "seen in the log");
    assert_string_equal(d->notes[0]->by, "ann");
    assert_string_equal(d->owner, "bob");
    assert_true(d->phase > PHASE(RESPOND)); /* a person has touched it */
    wire_free(d);
    /* Back is not forward; to the end it is closed, and stays so. */
    cmd = order(id, "ann", "back");
    cmd.phase = E(INCIDENT_PHASE__INCIDENT_PHASE_RESPOND);
    assert_int_equal(kit_ask(K, "advance", &cmd), STATUS(ALREADY));
    cmd = order(id, "ann", "done");
    assert_int_equal(kit_ask(K, "close", &cmd), STATUS(OK));
    assert_int_equal(kit_ask(K, "close", &cmd), STATUS(ALREADY));
    d = kit_show(K, id);
    assert_int_equal(d->phase, PHASE(CLOSED));
    assert_true(d->closed_unix_ms > 0);
    wire_free(d);
    /* Lists. */
    cmd = order("", "ann", "");
    PB(IncidentList) *open = kit_read(K, "incidents", &cmd, PB_DESC(incident_list));
    cmd.closed = true;
    PB(IncidentList) *all = kit_read(K, "incidents", &cmd, PB_DESC(incident_list));
    assert_int_equal(all->n_incidents, open->n_incidents + 1);
    assert_int_equal(all->in_all, all->n_incidents);
    for (size_t i = 0; i < open->n_incidents; i++)
        assert_string_not_equal(open->incidents[i]->id, id);
    wire_free(open);
    wire_free(all);
    cmd.month = 209913;
    assert_int_equal(kit_ask(K, "availability", &cmd), STATUS(INVALID));
    cmd.month = 0;
    cmd.agent = (char *)"stranger";
    assert_int_equal(kit_ask(K, "availability", &cmd), STATUS(INVALID));
    assert_int_equal(kit_ask(K, "status", &cmd), STATUS(INVALID));
    KIT_UNTIL(K, K->status && K->status->at_unix_ms > 0);
}

static void test_bad_input(void **state)
{
    (void)state;
    size_t before = K->n_incidents;
    static const char *const subjects[] = {
        SUBJECT_DIRECTIVE "a001",
        SUBJECT_HEALTH "llm.openai.gpt-4o",
        SUBJECT_BREAKER "backend.main",
        SUBJECT_ROLLBACK "mcp",
        SUBJECT_PROBLEM "x",
        SUBJECT_CHECKPOINT "x",
        SUBJECT_CONTINUITY_INCIDENT "x",
        SUBJECT_CONTINUITY_AGENT "a001",
        SUBJECT_CONTINUITY_DEMONSTRATED "x",
        SUBJECT_CONTINUITY_BACKUP "x",
        SUBJECT_CONTINUITY_DRILL "x",
        SUBJECT_CONTINUITY_CONFIG,
        SUBJECT_ACK "a001",
        SUBJECT_DELIVERY "x",
    };
    static const unsigned char junk[] = {0x0a, 0xff, 0xff, 0xff, 0x7f, 0x00, 0x31, 0x08};
    struct err e;
    for (size_t i = 0; i < sizeof subjects / sizeof subjects[0]; i++)
        for (size_t len = 0; len <= sizeof junk; len += 4) {
            struct bus_out o = {.subject = subjects[i], .data = junk, .len = len};
            assert_int_equal(bus_publish(K->bus, &o, &e), 0);
        }
    /* Well formed, but on another's subject, of nobody, or of a time that is none. */
    PB(BreakerChanged) b = PB_INIT(BREAKER_CHANGED);
    b.target = (char *)"llm.openai.gpt-4o";
    b.epoch = 1u << 30;
    b.state = E(BREAKER_STATE__BREAKER_STATE_OPEN);
    b.reason = E(BREAKER_REASON__BREAKER_REASON_CONSECUTIVE);
    kit_say(K, SUBJECT_BREAKER, "backend.main", &b);
    kit_directive(K, "stranger", (struct kit_position){.frozen = true});
    PB(IncidentChanged) d = PB_INIT(INCIDENT_CHANGED);
    d.id = (char *)"forged";
    d.epoch = 1;
    d.phase = E(INCIDENT_PHASE__INCIDENT_PHASE_RESPOND);
    kit_say(K, SUBJECT_CONTINUITY_INCIDENT, "another", &d);
    PB(Demonstrations) shown = PB_INIT(DEMONSTRATIONS);
    shown.objective = (char *)"rto_nothing";
    kit_say(K, SUBJECT_CONTINUITY_DEMONSTRATED, "rto_nothing", &shown);
    for (size_t i = 0; i < K->n_shown; i++)
        if (strcmp(K->shown[i]->objective, "rto_nothing") == 0) {
            wire_free(K->shown[i]);
            K->shown[i] = K->shown[--K->n_shown];
        }
    KIT_UNTIL(K, K->stored == K->to_store);
    /* It lives, leads, and what is asked next is answered: all that came before was taken or refused. */
    PB(ContinuityCommand) cmd = order("", "ann", "");
    PB(ContinuityStatus) *s = kit_read(K, "status", &cmd, PB_DESC(continuity_status));
    wire_free(s);
    assert_true(harness_alive(K->replica[0]));
    size_t real = 0;
    for (size_t i = 0; i < K->n_incidents; i++)
        real += strcmp(K->incident[i]->id, "forged") != 0;
    assert_int_equal(real, before);
}

static void test_reload(void **state)
{
    (void)state;
    /* What was said of an agent before the settings knew it counts from then on. */
    kit_directive(K, "newcomer", (struct kit_position){.frozen = true});
    kit_configure(K, PHASES, KIT_AGENT("quick") KIT_AGENT("lone") KIT_AGENT("newcomer"));
    assert_int_equal(kill(K->replica[0]->pid, SIGHUP), 0);
    KIT_UNTIL(K, kit_open(K, "agent.newcomer"));
    assert_int_equal(kit_open(K, "agent.newcomer")->severity, E(SEVERITY__SEVERITY_CRITICAL));
    /* And of one that is gone from them nothing holds any more. */
    kit_configure(K, PHASES, KIT_AGENT("quick") KIT_AGENT("lone"));
    assert_int_equal(kill(K->replica[0]->pid, SIGHUP), 0);
    KIT_UNTIL(K, kit_open(K, "agent.newcomer")->open_signals == 0);
    KIT_UNTIL(K, kit_phase(K, "agent.newcomer") == PHASE(LEARN));
    assert_int_equal(harness_stop(K->replica[0]), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_outage_is_one_incident),
        cmocka_unit_test(test_clocks),
        cmocka_unit_test(test_commands),
        cmocka_unit_test(test_bad_input),
        cmocka_unit_test(test_reload),
    };
    return cmocka_run_group_tests_name("continuity_service", tests, setup, teardown);
}
