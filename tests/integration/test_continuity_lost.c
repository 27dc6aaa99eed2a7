/* test_continuity_lost.c - what is lost in an incident never resets, stops or shortens a clock: the leader, all replicas, Redis, NATS, the wall clock, the anchors on disk. */
#include "continuity_kit.h"
#include <dirent.h>

static struct kit *K;

#define PHASES                                                                                                       \
    "  phases: { respond: 5m, settle: 300ms, validate: 300ms, closes_itself: none }\n"                               \
    "  own:\n    - { agents: [ slow ], mad_full: 8s }\n"
#define KEY "agent.slow"

static int64_t started_ms; /* of the clock that everything here is about */
static uint64_t last_ms;   /* what it said last */
static int64_t looked_before_ms, looked_after_ms;
static char id[64], leader[129];

/* A replica has its directory once it says so; who starts before would take the place of one that was killed. */
static bool is_up(const char *name)
{
    char path[700], line[1024];
    bool up = false;
    snprintf(path, sizeof path, "%s/%s.log", K->base, name);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        up = up || strstr(line, "bus connected");
    if (f)
        fclose(f);
    return up;
}

static int setup(void **state)
{
    (void)state;
    K = kit_new(PHASES, KIT_AGENT("slow") KIT_AGENT("other"));
    kit_hear(K);
    kit_start(K, 0);
    KIT_UNTIL(K, K->beats > 0);
    kit_start(K, 1);
    KIT_UNTIL(K, is_up("two"));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    kit_free(K);
    return 0;
}

/* The clock as the one that leads says it. It must have gone on by exactly what has passed: what was measured before was measured between two looks at our own clock, and so
 * is this. A millisecond or two go by rounding. */
static void clock_goes_on(int line, int64_t jump_ms)
{
    int64_t before = clock_mono_ms();
    PB(IncidentChanged) *d = kit_show(K, id);
    int64_t after = clock_mono_ms();
    const PB(ObjectiveClock) *clock = kit_clock(d, "mad_full");
    if (!clock)
        fail_msg("line %d: the clock is gone", line);
    if (clock->started_unix_ms != started_ms || clock->stopped_unix_ms != 0)
        fail_msg("line %d: started at %" PRId64 ", was %" PRId64 "; stopped at %" PRId64, line,
                 clock->started_unix_ms, started_ms, clock->stopped_unix_ms);
    int64_t by = (int64_t)clock->elapsed_ms - (int64_t)last_ms;
    if (looked_before_ms && (by < before - looked_after_ms - 2 || by > after - looked_before_ms + jump_ms + 2))
        fail_msg("line %d: it went on by %" PRId64 " ms, while %" PRId64 " to %" PRId64 " ms have passed", line, by,
                 before - looked_after_ms, after - looked_before_ms);
    last_ms = clock->elapsed_ms;
    looked_before_ms = before;
    looked_after_ms = after;
    wire_free(d);
    assert_int_equal(kit_of_key(K, KEY), 1);
}
#define CLOCK_GOES_ON() clock_goes_on(__LINE__, 0)

static int who_leads(void)
{
    size_t n = strlen(K->leader);
    return n > 0 && K->leader[n - 1] == '1';
}

static void test_leader_killed(void **state)
{
    (void)state;
    kit_directive(K, "slow", (struct kit_position){.frozen = true, .evidence_ms = clock_wall_ms() - 200});
    KIT_UNTIL(K, kit_open(K, KEY));
    PB(IncidentChanged) *d = kit_open(K, KEY);
    snprintf(id, sizeof id, "%s", d->id);
    started_ms = kit_clock(d, "mad_full")->started_unix_ms;
    assert_int_equal(kit_clock(d, "mad_full")->limit_ms, 8000);
    CLOCK_GOES_ON();
    snprintf(leader, sizeof leader, "%s", K->leader);
    uint64_t fence = K->fence;
    int was = who_leads();
    harness_kill(K->replica[was]);
    KIT_UNTIL(K, K->fence > fence && strcmp(K->leader, leader) != 0);
    CLOCK_GOES_ON();
    /* Commands are taken where one does not lead, too. */
    kit_start(K, was);
    PB(ContinuityCommand) cmd = PB_INIT(CONTINUITY_COMMAND);
    cmd.incident = id;
    cmd.by = (char *)"ann";
    cmd.reason = (char *)"still there";
    KIT_UNTIL(K, kit_ask(K, "note", &cmd) == STATUS(OK));
    d = kit_show(K, id);
    assert_true(d->n_notes >= 1);
    wire_free(d);
}

static void test_all_killed(void **state)
{
    (void)state;
    harness_kill(K->replica[0]);
    harness_kill(K->replica[1]);
    uint64_t fence = K->fence;
    kit_start(K, 0);
    kit_start(K, 1);
    KIT_UNTIL(K, K->fence > fence);
    CLOCK_GOES_ON();
    PB(IncidentChanged) *d = kit_show(K, id);
    assert_true(d->n_notes >= 1);
    assert_int_equal(d->open_signals, 1);
    wire_free(d);
}

static void test_redis_lost(void **state)
{
    (void)state;
    char key[160];
    uint64_t beats = K->beats;
    harness_kill(K->redis);
    /* It leads on: what is told at 50 % comes, at the latest now, and the beats go on. */
    snprintf(key, sizeof key, "incident/%s/mad_full", id);
    KIT_UNTIL(K, kit_alerts(K, key, false) >= 1 && K->beats >= beats + 2);
    CLOCK_GOES_ON();
    /* New evidence is taken without Redis. */
    kit_directive(K, "other", (struct kit_position){.llm_index = -1});
    KIT_UNTIL(K, kit_open(K, "llm.local"));
    harness_forget(K->redis);
    uint64_t fence = K->fence;
    harness_start(K->redis); /* empty */
    KIT_UNTIL(K, K->fence > fence);
    CLOCK_GOES_ON();
    assert_int_equal(kit_of_key(K, "llm.local"), 1);
}

/* Nobody is left who had the lease, and there is none to be had: one begins all the same. */
static void test_leader_killed_without_redis(void **state)
{
    (void)state;
    harness_kill(K->redis);
    snprintf(leader, sizeof leader, "%s", K->leader);
    int was = who_leads();
    harness_kill(K->replica[was]);
    KIT_UNTIL(K, strcmp(K->leader, leader) != 0);
    CLOCK_GOES_ON();
    harness_start(K->redis);
    uint64_t fence = K->fence;
    KIT_UNTIL(K, K->fence > fence); /* the lease again */
    kit_start(K, was);
    CLOCK_GOES_ON();
    assert_int_equal(kit_of_key(K, "llm.local"), 1);
}

static void test_nats_lost(void **state)
{
    (void)state;
    char key[160];
    snprintf(key, sizeof key, "incident/%s/mad_full", id);
    harness_kill(K->nats);
    KIT_UNTIL(K, !K->bus_up);
    /* The limit passes while nobody hears anything. */
    int64_t end = looked_before_ms + 8000 - (int64_t)last_ms + 100;
    while (clock_mono_ms() < end)
        kit_turn(K);
    harness_start(K->nats);
    KIT_UNTIL(K, K->bus_up);
    size_t critical = 0;
    int64_t give_up = clock_mono_ms() + KIT_LIMIT_MS;
    while (critical == 0 && clock_mono_ms() < give_up) {
        kit_turn(K);
        for (size_t i = 0; i < K->n_alerts; i++)
            critical += strcmp(K->alert[i].key, key) == 0 && K->alert[i].severity == E(SEVERITY__SEVERITY_CRITICAL);
    }
    assert_true(critical > 0);
    CLOCK_GOES_ON();
    assert_true(last_ms >= 8000);
}

/* ---- clocks ---- */

static void anchors(const char *text)
{
    static const char *const dirs[] = {"", "/0", "/1"};
    char path[700];
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/data/continuity%s/clock", K->base, dirs[i]);
        if (!text) {
            assert_int_equal(unlink(path), 0);
            continue;
        }
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        fputs(text, f);
        fclose(f);
    }
}

/* What the file of the replica that led says. */
static void read_anchor(int64_t *time_ms, int64_t *boot_ms, int64_t *wall_ms, char boot_id[static 40])
{
    char path[700];
    snprintf(path, sizeof path, "%s/data/continuity/clock", K->base);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%" SCNd64 " %" SCNd64 " %" SCNd64 " %39s", time_ms, boot_ms, wall_ms, boot_id), 4);
    fclose(f);
}

static void stop_both(void)
{
    for (int i = 0; i < 2; i++)
        harness_kill(K->replica[i]);
}

static void start_one(void)
{
    uint64_t fence = K->fence;
    kit_start(K, 0);
    KIT_UNTIL(K, K->fence > fence);
}

#define DAY INT64_C(86400000)
static void test_clock_jumps(void **state)
{
    (void)state;
    int64_t time_ms, boot_ms, wall_ms;
    char boot_id[40], text[200];
    static const struct {
        const char *what;
        bool other_boot;
        int64_t wall_ms; /* of the anchor, against what it was: the wall clock has jumped by the opposite since */
        int64_t jump_ms; /* by so much the clock may go on, at most */
    } rows[] = {
        {"the wall clock was put back by a day", false, DAY, 0},
        {"the wall clock was put forward by a day", false, -DAY, 0},
        {"a reboot, and the wall clock was put back by a day", true, DAY, 0},
        {"a reboot, and the wall clock was put forward by a day", true, -DAY, DAY},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        stop_both();
        read_anchor(&time_ms, &boot_ms, &wall_ms, boot_id);
        snprintf(text, sizeof text, "%" PRId64 " %" PRId64 " %" PRId64 " %s .\n", time_ms, boot_ms,
                 wall_ms + rows[i].wall_ms, rows[i].other_boot ? "0f0e0d0c-0000-4000-8000-000000000000" : boot_id);
        anchors(text);
        start_one();
        clock_goes_on(__LINE__, rows[i].jump_ms);
    }
    /* Nothing on this host's disk: the bus knows. Damage is as nothing. */
    stop_both();
    anchors(NULL);
    start_one();
    CLOCK_GOES_ON();
    stop_both();
    anchors("99999999999999999999 -1 what\n");
    start_one();
    CLOCK_GOES_ON();
}

static void test_the_end(void **state)
{
    (void)state;
    kit_directive(K, "slow", (struct kit_position){0});
    KIT_UNTIL(K, kit_phase(K, KEY) == PHASE(LEARN));
    const PB(ObjectiveClock) *clock = kit_clock(kit_open(K, KEY), "mad_full");
    assert_int_equal(clock->started_unix_ms, started_ms);
    assert_true(clock->elapsed_ms >= last_ms && clock->breached && clock->told == 15);
    assert_int_equal(kit_of_key(K, KEY), 1);
    assert_int_equal(harness_stop(K->replica[0]), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_leader_killed), cmocka_unit_test(test_all_killed),
        cmocka_unit_test(test_redis_lost),    cmocka_unit_test(test_leader_killed_without_redis),
        cmocka_unit_test(test_nats_lost),     cmocka_unit_test(test_clock_jumps),
        cmocka_unit_test(test_the_end),
    };
    return cmocka_run_group_tests_name("continuity_lost", tests, setup, teardown);
}
