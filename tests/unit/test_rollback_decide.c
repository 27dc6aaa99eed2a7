/* test_rollback_decide.c - the decider phase by phase: every order in every phase, the happy ways, and what other tools are known to get wrong. */
#include "rollback_world.h"

static struct world w;

/* ---- to each phase, the way it comes about ---- */

static bool until(bool (*so)(void), int64_t limit_ms)
{
    int64_t end_ms = w.now_ms + limit_ms;
    while (!so() && step(&w, end_ms))
        ;
    assert_string_equal(w.broken, "");
    return so();
}

static int phase_wanted, stage_wanted;

static bool is_there(void)
{
    return w.doc.job.phase == phase_wanted && (stage_wanted < 0 || w.doc.job.stage == stage_wanted);
}

static void reach(int phase, int stage)
{
    phase_wanted = phase;
    stage_wanted = stage;
    if (!until(is_there, 20000000))
        fail_msg("%s/%d is not reached, but %s/%d: %s", sm_name(&rollback_sm, phase), stage,
                 sm_name(&rollback_sm, w.doc.job.phase), w.doc.job.stage, w.doc.job.reason);
}

static void begin(unsigned instances)
{
    world_init(&w, 1, instances);
    w.quiet = true;
    assert_int_equal(order(&w, ROLLBACK_START, "job-1", false, false), STATUS(OK));
    assert_int_equal(w.doc.job.phase, ROLLBACK_PHASE(PREPARE));
}

static int weight_wanted;
static bool at_step(void)
{
    return w.doc.job.stage == ROLLBACK_STAGE(OBSERVE) && w.doc.job.weight == weight_wanted;
}

static void reach_step(int weight)
{
    weight_wanted = weight;
    if (!until(at_step, 600000))
        fail_msg("%d %% is not reached: %s, %s", weight, sm_name(&rollback_sm, w.doc.job.phase), w.doc.job.reason);
}

static void ends(int phase)
{
    w.quiet = false;
    reach(phase, -1);
    check_end(&w, w.doc.job.plan.instances ? w.doc.job.plan.instances : 2);
    assert_string_equal(w.broken, "");
}

/* ---- the happy way ---- */

static void test_whole(void **unused)
{
    (void)unused;
    static const int weights[] = {100, 50, 25, 10, 0};
    begin(4);
    for (size_t i = 0; i < 5; i++) {
        reach_step(weights[i]);
        assert_int_equal(w.share[0], weights[i]);
        assert_true(count_of(&w, 1, V1, true) >= rollback_needs(&w.doc.job.plan, weights[i]));
        int64_t began_ms = w.now_ms;
        assert_true(w.doc.job.overhead_ms < 1000);
        if (i < 4) {
            reach(ROLLBACK_PHASE(SHIFT), ROLLBACK_STAGE(GATE));
            assert_in_range(w.now_ms - began_ms, w.rule.step_ms, w.rule.step_ms + 200);
        }
    }
    reach(ROLLBACK_PHASE(DRAIN), -1);
    reach(ROLLBACK_PHASE(VERIFY), ROLLBACK_STAGE(OBSERVE));
    assert_int_equal(count_of(&w, 0, V2, false), 4); /* stopped, and still there */
    assert_int_equal(count_of(&w, 0, V2, true), 0);
    ends(ROLLBACK_PHASE(DONE));
    assert_string_equal(w.doc.current, V1);
    const struct rollback_version *v2 = rollback_find(&w.doc, V2), *v1 = rollback_find(&w.doc, V1);
    assert_int_equal(v2->state, VERSION_STATE(REJECTED));
    assert_non_null(strstr(v2->reason, "attacks"));
    assert_true(!v2->kept && v1->kept && v1->state == VERSION_STATE(VERIFIED));
    assert_string_equal(v1->by_job, "job-1");
    assert_int_equal(w.doc.n_history, 1);
    assert_int_equal(w.doc.history[0].phase, ROLLBACK_PHASE(DONE));
    assert_int_equal(w.doc.n_lineage, 1);
    assert_int_equal(w.data.base, 1);
    /* The same id is the same job. */
    assert_int_equal(order(&w, ROLLBACK_START, "job-1", false, false), STATUS(ALREADY));
}

static void test_kinds(void **unused)
{
    (void)unused;
    for (int kind = 0; kind < 8; kind++) {
        world_init(&w, (uint64_t)kind, 2);
        w.quiet = kind != 0;
        w.rule.gradual = kind != 0;
        w.rule.goes_home = kind == 1;
        w.rule.has_data = kind != 2;
        if (kind == 3)
            w.rule.judge.n = 0;
        w.has_writer = kind != 4;
        w.counts_sessions = kind != 5;
        bool emergency = kind == 6;
        if (kind == 7) { /* what runs was brought by a rollback: it stands on the other side */
            memcpy(w.side[1], w.side[0], sizeof w.side[0]);
            memset(w.side[0], 0, sizeof w.side[0]);
            w.share[0] = 0;
            w.share[1] = 100;
        }
        assert_int_equal(order(&w, ROLLBACK_START, "job-1", false, emergency), STATUS(OK));
        int64_t began_ms = w.now_ms;
        ends(ROLLBACK_PHASE(DONE));
        assert_int_equal(w.holds, 0);
        if (emergency)
            assert_true(w.now_ms - began_ms < 2 * w.rule.step_ms + w.rule.drain_ms + w.rule.watch_ms);
    }
}

/* ---- every order in every phase ---- */

enum place {
    AT_PREPARE,
    AT_SNAPSHOT,
    AT_TARGET_UP,
    AT_GATE,
    AT_SET,
    AT_READ_BACK,
    AT_OBSERVE,
    AT_DRAIN,
    AT_STOP,
    AT_VERIFY,
    AT_CLEAR,
    AT_HOLD,
    AT_ABORTING,
    AT_DONE,
    AT_ABORTED,
    AT_REFUSED,
    AT_IDLE,
    PLACES
};

static void go_to(enum place p)
{
    static const int phases[PLACES][2] = {
        [AT_PREPARE] = {ROLLBACK_PHASE(PREPARE), -1},
        [AT_SNAPSHOT] = {ROLLBACK_PHASE(SNAPSHOT), -1},
        [AT_TARGET_UP] = {ROLLBACK_PHASE(TARGET_UP), -1},
        [AT_GATE] = {ROLLBACK_PHASE(SHIFT), ROLLBACK_STAGE(GATE)},
        [AT_SET] = {ROLLBACK_PHASE(SHIFT), ROLLBACK_STAGE(SET)},
        [AT_READ_BACK] = {ROLLBACK_PHASE(SHIFT), ROLLBACK_STAGE(READ_BACK)},
        [AT_OBSERVE] = {ROLLBACK_PHASE(SHIFT), ROLLBACK_STAGE(OBSERVE)},
        [AT_DRAIN] = {ROLLBACK_PHASE(DRAIN), -1},
        [AT_STOP] = {ROLLBACK_PHASE(STOP), -1},
        [AT_VERIFY] = {ROLLBACK_PHASE(VERIFY), ROLLBACK_STAGE(OBSERVE)},
        [AT_CLEAR] = {ROLLBACK_PHASE(VERIFY), ROLLBACK_STAGE(SET)},
        [AT_DONE] = {ROLLBACK_PHASE(DONE), -1},
    };
    if (p == AT_IDLE) {
        world_init(&w, 1, 2);
        return;
    }
    begin(2);
    if (p == AT_HOLD || p == AT_ABORTING || p == AT_ABORTED) {
        reach_step(50);
        assert_int_equal(order(&w, p == AT_HOLD ? ROLLBACK_HOLD_IT : ROLLBACK_ABORT, "", false, false), STATUS(OK));
        if (p == AT_ABORTED)
            reach(ROLLBACK_PHASE(ABORTED), -1);
    } else if (p == AT_REFUSED) {
        w.fails_percent = w.lasting_percent = 100;
        reach(ROLLBACK_PHASE(REFUSED), -1);
        w.fails_percent = w.lasting_percent = 0;
    } else {
        reach(phases[p][0], phases[p][1]);
    }
}

static void test_every_order(void **unused)
{
    (void)unused;
    enum { N = -1 }; /* the phase does not change */
    static const struct {
        int status[5]; /* start, hold, resume, abort, emergency */
        int phase[5];
    } expect[PLACES] = {
#define UNDER_WAY {STATUS(UNAVAILABLE), STATUS(OK), STATUS(ALREADY), STATUS(OK), STATUS(OK)}
#define HOLDS                                                                                                        \
    {                                                                                                                \
        N, ROLLBACK_PHASE(HOLD), N, ROLLBACK_PHASE(ABORTING), N                                                      \
    }
        [AT_PREPARE] = {UNDER_WAY, {N, ROLLBACK_PHASE(HOLD), N, ROLLBACK_PHASE(ABORTED), N}},
        [AT_SNAPSHOT] = {UNDER_WAY, HOLDS},
        [AT_TARGET_UP] = {UNDER_WAY, HOLDS},
        [AT_GATE] = {UNDER_WAY, HOLDS},
        [AT_SET] = {UNDER_WAY, HOLDS},
        [AT_READ_BACK] = {UNDER_WAY, HOLDS},
        [AT_OBSERVE] = {UNDER_WAY, HOLDS},
#define AT_ZERO {STATUS(UNAVAILABLE), STATUS(OK), STATUS(ALREADY), STATUS(OK), STATUS(ALREADY)}
        [AT_DRAIN] = {AT_ZERO, HOLDS},
        [AT_STOP] = {AT_ZERO, HOLDS},
        [AT_VERIFY] = {AT_ZERO, HOLDS},
        [AT_CLEAR] = {{STATUS(UNAVAILABLE), STATUS(OK), STATUS(ALREADY), STATUS(UNAVAILABLE), STATUS(ALREADY)},
                      {N, ROLLBACK_PHASE(HOLD), N, N, N}},
        [AT_HOLD] = {{STATUS(UNAVAILABLE), STATUS(ALREADY), STATUS(OK), STATUS(OK), STATUS(OK)},
                     {N, N, ROLLBACK_PHASE(SHIFT), ROLLBACK_PHASE(ABORTING), ROLLBACK_PHASE(SHIFT)}},
        [AT_ABORTING] = {{STATUS(UNAVAILABLE), STATUS(OK), STATUS(ALREADY), STATUS(ALREADY), STATUS(UNAVAILABLE)},
                         {N, ROLLBACK_PHASE(HOLD), N, N, N}},
#define OVER STATUS(UNAVAILABLE), STATUS(UNAVAILABLE)
        [AT_DONE] = {{STATUS(INVALID), OVER, OVER}, {N, N, N, N, N}}, /* v2 is rejected now */
        [AT_ABORTED] = {{STATUS(OK), OVER, STATUS(ALREADY), STATUS(UNAVAILABLE)},
                        {ROLLBACK_PHASE(PREPARE), N, N, N, N}},
        [AT_REFUSED] = {{STATUS(OK), OVER, OVER}, {ROLLBACK_PHASE(PREPARE), N, N, N, N}},
        [AT_IDLE] = {{STATUS(OK), OVER, OVER}, {ROLLBACK_PHASE(PREPARE), N, N, N, N}},
    };
    static struct world before;
    for (enum place p = 0; p < PLACES; p++) {
        go_to(p);
        before = w;
        for (int k = 0; k < 5; k++) {
            w = before;
            w.quiet = false;
            int was = w.doc.job.phase,
                status = order(&w, (enum rollback_event_kind)(ROLLBACK_START + k), k ? "" : "job-2", false, false);
            int phase = expect[p].phase[k] < 0 ? was : expect[p].phase[k];
            if (status != expect[p].status[k] || w.doc.job.phase != phase)
                fail_msg("place %d, order %d: status %d (%s), phase %s; expected %d, %s", (int)p, k, status,
                         w.reply.text, sm_name(&rollback_sm, w.doc.job.phase), expect[p].status[k],
                         sm_name(&rollback_sm, phase));
            assert_true(strlen(w.reply.text) > 8);
            if (status != STATUS(OK)) /* what is refused changes nothing */
                assert_memory_equal(&w.doc, &before.doc, sizeof w.doc);
            /* From wherever it was aborted, it comes to 100 %, and nothing is left behind. */
            if (k == 3 && status == STATUS(OK))
                ends(ROLLBACK_PHASE(ABORTED));
            /* Whoever holds can go on, to the same end as without. */
            if (k == 1 && status == STATUS(OK) && p != AT_ABORTING) {
                run(&w, 30000);
                assert_int_equal(w.doc.job.phase, ROLLBACK_PHASE(HOLD));
                assert_int_equal(order(&w, ROLLBACK_RESUME, "", false, false), STATUS(OK));
                ends(ROLLBACK_PHASE(DONE));
            }
            if (k == 4 && status == STATUS(OK))
                ends(ROLLBACK_PHASE(DONE));
            assert_string_equal(w.broken, "");
        }
    }
}

static void test_bad_orders(void **unused)
{
    (void)unused;
    static struct rollback_effect out[ROLLBACK_EFFECTS];
    static char long_text[2000];
    memset(long_text, 'x', sizeof long_text - 1);
    world_init(&w, 1, 1);
    static struct world before;
    const struct {
        struct rollback_order o;
        const char *says;
    } bad[] = {
        {{.by = "", .reason = "why", .job = "j"}, "who"},
        {{.by = NULL, .reason = "why", .job = "j"}, "who"},
        {{.by = long_text, .reason = "why", .job = "j"}, "who"},
        {{.by = "ann", .reason = "", .job = "j"}, "why"},
        {{.by = "ann", .reason = long_text, .job = "j"}, "why"},
        {{.by = "ann", .reason = "why", .job = ""}, "id"},
        {{.by = "ann", .reason = "why", .job = NULL}, "id"},
        {{.by = "ann", .reason = "why", .job = long_text}, "id"},
        {{.by = "ann", .reason = "why", .job = "j", .to = "v7"}, "known are: v2"},
        {{.by = "ann", .reason = "why", .job = "j", .to = "v2"}, "runs now"},
        {{.by = "ann", .reason = "why", .job = "j", .snapshot = "12345678"}, "lineage"},
        {{.by = "ann", .reason = "why", .job = "j", .tainted = true}, "since when"},
        {{.by = "ann", .reason = "why", .job = "j", .tainted = true, .tainted_since_ms = T0}, "tainted"},
    };
    before = w;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        for (int k = 0; k < 5; k++) {
            size_t n = 0;
            struct rollback_event ev = {.kind = (enum rollback_event_kind)(ROLLBACK_START + k), .u.order = bad[i].o};
            assert_false(rollback_decide(&w.doc, &w.rule, &ev, w.now_ms, out, &n));
            assert_int_equal(n, 1);
            assert_int_equal(out[0].kind, ROLLBACK_REPLY);
            assert_true(out[0].status == STATUS(INVALID) || k > 0);
            if (k == 0 && !strstr(out[0].text, bad[i].says))
                fail_msg("%zu: '%s' does not say '%s'", i, out[0].text, bad[i].says);
            assert_memory_equal(&w.doc, &before.doc, sizeof w.doc);
        }
    /* Another job's id. */
    begin(1);
    assert_int_equal(order(&w, ROLLBACK_ABORT, "job-7", false, false), STATUS(INVALID));
    assert_int_equal(order(&w, ROLLBACK_START, "job-1", false, false), STATUS(ALREADY));
    assert_non_null(strstr(w.reply.text, "PREPARE"));
    assert_int_equal(order(&w, ROLLBACK_ABORT, "job-1", false, false), STATUS(OK));
    assert_int_equal(order(&w, ROLLBACK_ABORT, "job-1", false, false), STATUS(ALREADY));
    w.doc.current[0] = '\0';
    assert_int_equal(order(&w, ROLLBACK_START, "job-2", false, false), STATUS(UNAVAILABLE));
}

/* Answers to earlier acts, and what nobody has asked for. */
static void test_old_answers(void **unused)
{
    (void)unused;
    static struct rollback_effect out[ROLLBACK_EFFECTS];
    begin(2);
    reach(ROLLBACK_PHASE(SHIFT), ROLLBACK_STAGE(SET));
    static struct rollback_doc before;
    before = w.doc;
    size_t n;
    struct rollback_did did = {.serial = w.doc.job.serial - 1, .op = w.doc.job.op, .ok = true};
    struct rollback_event ev = {.kind = ROLLBACK_DID, .u.did = &did};
    assert_false(rollback_decide(&w.doc, &w.rule, &ev, w.now_ms, out, &n));
    assert_int_equal(w.doc.job.op, before.job.op);
    did = (struct rollback_did){.serial = w.doc.job.serial, .op = ROLLBACK_OP(STOP), .ok = true};
    assert_false(rollback_decide(&w.doc, &w.rule, &ev, w.now_ms, out, &n));
    assert_int_equal(w.doc.job.stage, ROLLBACK_STAGE(SET));
    /* The next job's serials go on. */
    uint64_t serial = w.doc.job.serial;
    order(&w, ROLLBACK_ABORT, "", false, false);
    ends(ROLLBACK_PHASE(ABORTED));
    assert_int_equal(order(&w, ROLLBACK_START, "job-2", false, false), STATUS(OK));
    assert_true(w.doc.job.serial > serial);
}

/* ---- what other tools get wrong ---- */

/* flagger 869, argo-rollouts 4612: traffic before there is anybody who can carry it. */
static void test_no_traffic_without_capacity(void **unused)
{
    (void)unused;
    begin(4);
    reach_step(50);
    w.quiet = false;
    for (int i = 0; i < 2; i++) { /* half of the target stops answering, and is not started again */
        w.side[1][i].ready_ms = INT64_MAX;
    }
    run(&w, w.rule.capacity_ms + 20000);
    assert_string_equal(w.broken, "");
    assert_int_equal(w.doc.job.phase, ROLLBACK_PHASE(HOLD));
    assert_int_equal(w.doc.job.hold, ROLLBACK_HOLD(CAPACITY));
    assert_int_equal(w.share[0], 50); /* 25 % would need 3 */
    assert_non_null(strstr(w.doc.job.reason, "does not answer"));
    w.side[1][0].ready_ms = w.side[1][1].ready_ms = 0;
    assert_int_equal(order(&w, ROLLBACK_RESUME, "", false, false), STATUS(OK));
    ends(ROLLBACK_PHASE(DONE));
    /* An emergency is gated, too. */
    begin(4);
    reach_step(100);
    w.quiet = false;
    w.side[1][3].ready_ms = INT64_MAX;
    assert_int_equal(order(&w, ROLLBACK_EMERGENCY, "", false, false), STATUS(OK));
    run(&w, 10000);
    assert_int_equal(w.share[0], 100);
    w.side[1][3].ready_ms = 0;
    run(&w, 1000);
    assert_int_equal(w.share[0], 0);
    ends(ROLLBACK_PHASE(DONE));
}

/* flagger 1694, argo-rollouts 4841: back by the same steps, and all the way. */
static void test_mirrored(void **unused)
{
    (void)unused;
    static const int way[] = {25, 50, 100};
    begin(2);
    reach_step(10);
    assert_int_equal(order(&w, ROLLBACK_ABORT, "", false, false), STATUS(OK));
    for (size_t i = 0; i < 3; i++) {
        int64_t began_ms = w.now_ms;
        reach_step(way[i]);
        assert_int_equal(w.share[0], way[i]);
        if (i > 0)
            assert_true(w.now_ms - began_ms >= w.rule.step_ms);
    }
    ends(ROLLBACK_PHASE(ABORTED));
    assert_int_equal(w.share[0], 100);
    assert_string_equal(w.doc.current, V2);
    assert_int_equal(rollback_find(&w.doc, V2)->state, VERSION_STATE(VERIFIED));
    /* At once, if that is ordered; also while it is on its way already. */
    begin(2);
    reach_step(10);
    assert_int_equal(order(&w, ROLLBACK_ABORT, "", false, false), STATUS(OK));
    assert_int_equal(order(&w, ROLLBACK_ABORT, "", false, true), STATUS(OK));
    reach_step(100);
    ends(ROLLBACK_PHASE(ABORTED));
}

/* The former version was stopped: it is started, and gets nothing before it is ready. */
static void test_abort_when_stopped(void **unused)
{
    (void)unused;
    begin(3);
    reach(ROLLBACK_PHASE(VERIFY), ROLLBACK_STAGE(OBSERVE));
    w.start_ms = 8000;
    assert_int_equal(order(&w, ROLLBACK_ABORT, "", false, false), STATUS(OK));
    run(&w, 6000);
    assert_int_equal(w.share[0], 0);
    reach_step(10);
    ends(ROLLBACK_PHASE(ABORTED));
}

/* argo-rollouts 4461: an abort is not forgotten while something is in hand, fails, or who acts dies. */
static void test_abort_is_not_ignored(void **unused)
{
    (void)unused;
    unsigned paused = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        begin(2);
        w.rng = seed;
        w.slow_ms = 3000;
        reach(ROLLBACK_PHASE(SNAPSHOT), 0);
        while (w.doc.job.op != ROLLBACK_OP(SNAPSHOT))
            assert_true(step(&w, w.now_ms + 60000));
        assert_int_equal(order(&w, ROLLBACK_ABORT, "", false, false), STATUS(OK));
        assert_int_equal(w.doc.job.op, ROLLBACK_OP(SNAPSHOT));
        crash(&w);
        run(&w, 2500);
        paused += w.paused;
        ends(ROLLBACK_PHASE(ABORTED));
        assert_int_equal(count_of(&w, 1, NULL, false), 0);
    }
    assert_true(paused > 0); /* it was, where the one who acted died in between */
}

/* flagger 1801: a breach while something is waited for counts; an errors check that crosses a change of steps, too. */
static void test_breach_while_waiting(void **unused)
{
    (void)unused;
    begin(4);
    reach_step(50);
    w.quiet = false;
    w.side[1][0].ready_ms = INT64_MAX; /* the gate of 10 % and less stays shut */
    reach_step(25);
    reach(ROLLBACK_PHASE(SHIFT), ROLLBACK_STAGE(GATE));
    run(&w, 3000);
    assert_int_equal(w.doc.job.stage, ROLLBACK_STAGE(GATE));
    w.bad_target = true;
    run(&w, 1500);
    assert_int_equal(w.doc.job.phase, ROLLBACK_PHASE(HOLD));
    assert_int_equal(w.doc.job.hold, ROLLBACK_HOLD(REGRESSION));
    assert_true(w.raised.critical);
    assert_int_equal(w.share[0], 25);
    /* Three failures at the end of one step and one at the begin of the next are four in a row. */
    begin(1);
    reach_step(50);
    int64_t step_began_ms = w.doc.job.stage_since_ms;
    run(&w, step_began_ms + w.rule.step_ms - 2500 - w.now_ms);
    w.bad_errors = true;
    reach(ROLLBACK_PHASE(HOLD), -1);
    assert_int_equal(w.doc.job.hold, ROLLBACK_HOLD(REGRESSION));
    assert_true(w.now_ms - step_began_ms < w.rule.step_ms + 3000);
    assert_false(w.raised.critical);
}

/* argo-rollouts 3850: what is not known is not passed. */
static void test_no_data(void **unused)
{
    (void)unused;
    begin(1);
    reach_step(50);
    w.silent = true;
    int64_t began_ms = w.now_ms;
    reach(ROLLBACK_PHASE(HOLD), -1);
    assert_int_equal(w.doc.job.hold, ROLLBACK_HOLD(NO_DATA));
    assert_true(w.doc.job.weight >= 25);
    assert_true(w.now_ms - began_ms >= 2 * w.rule.step_ms - 2000);
    assert_non_null(strstr(w.doc.job.reason, "errors"));
    int weight = w.doc.job.weight;
    assert_int_equal(order(&w, ROLLBACK_RESUME, "", false, false), STATUS(OK));
    run(&w, 4 * w.rule.step_ms);
    assert_int_equal(w.doc.job.phase, ROLLBACK_PHASE(HOLD));
    assert_int_equal(w.doc.job.weight, weight);
    /* A person may pass this one step; the next is held again. */
    assert_int_equal(order(&w, ROLLBACK_RESUME, "", true, false), STATUS(OK));
    run(&w, 4 * w.rule.step_ms);
    assert_int_equal(w.doc.job.phase, ROLLBACK_PHASE(HOLD));
    assert_true(w.doc.job.weight < weight && w.doc.job.weight > 0);
    assert_true(w.doc.job.forced);
}

static void test_resume_past_regression(void **unused)
{
    (void)unused;
    begin(2);
    reach_step(50);
    w.bad_target = true;
    reach(ROLLBACK_PHASE(HOLD), -1);
    assert_int_equal(w.share[0], 50);
    assert_int_equal(order(&w, ROLLBACK_RESUME, "", false, false), STATUS(INVALID));
    assert_int_equal(w.doc.job.phase, ROLLBACK_PHASE(HOLD));
    w.bad_target = false;
    assert_int_equal(order(&w, ROLLBACK_RESUME, "", true, false), STATUS(OK));
    reach_step(25);
    ends(ROLLBACK_PHASE(DONE));
    /* The suite of the final verification: the former version is still there to go back to. */
    begin(2);
    reach(ROLLBACK_PHASE(VERIFY), ROLLBACK_STAGE(GATE));
    w.bad_target = true;
    reach(ROLLBACK_PHASE(HOLD), -1);
    assert_int_equal(w.doc.job.hold, ROLLBACK_HOLD(REGRESSION));
    assert_int_equal(count_of(&w, 0, V2, false), 2);
    assert_int_equal(order(&w, ROLLBACK_ABORT, "", false, false), STATUS(OK));
    ends(ROLLBACK_PHASE(ABORTED));
}

/* ---- what dies ---- */

static void kill_side(int side, bool comes_back)
{
    for (int i = 0; i < MAX; i++)
        if (w.side[side][i].there) {
            w.side[side][i].running = false;
            w.side[side][i].again_ms = comes_back ? w.now_ms + 20000 : 0;
        }
    w.quiet = false;
}

static void test_target_dies(void **unused)
{
    (void)unused;
    static const int weights[] = {50, 25, 10};
    for (size_t i = 0; i < 3; i++) {
        begin(3);
        reach_step(weights[i]);
        kill_side(1, false);
        run(&w, 3000);
        assert_int_equal(w.doc.job.phase, ROLLBACK_PHASE(HOLD));
        assert_int_equal(w.doc.job.hold, ROLLBACK_HOLD(TARGET_LOST));
        assert_int_equal(w.share[0], 100);
        assert_int_equal(w.doc.job.weight, 100);
        assert_true(w.raised.critical);
        /* From the first step on, and never by itself. */
        run(&w, 100000);
        assert_int_equal(w.doc.job.phase, ROLLBACK_PHASE(HOLD));
        assert_int_equal(order(&w, ROLLBACK_RESUME, "", false, false), STATUS(OK));
        reach_step(100);
        ends(ROLLBACK_PHASE(DONE));
    }
    /* With all the traffic, the former version stopped: it is started first. */
    begin(3);
    reach(ROLLBACK_PHASE(VERIFY), ROLLBACK_STAGE(OBSERVE));
    kill_side(1, false);
    run(&w, 6000);
    assert_int_equal(w.doc.job.hold, ROLLBACK_HOLD(TARGET_LOST));
    assert_int_equal(w.share[0], 100);
    assert_int_equal(order(&w, ROLLBACK_ABORT, "", false, false), STATUS(OK));
    ends(ROLLBACK_PHASE(ABORTED));
}

static void test_former_dies(void **unused)
{
    (void)unused;
    begin(3);
    reach_step(50);
    kill_side(0, false);
    run(&w, 3000);
    assert_true(w.doc.job.emergency);
    assert_int_equal(w.share[0], 0);
    ends(ROLLBACK_PHASE(DONE));
    /* It was dead from the beginning: all the more a reason. */
    world_init(&w, 3, 3);
    kill_side(0, false);
    assert_int_equal(order(&w, ROLLBACK_START, "job-1", false, false), STATUS(OK));
    run(&w, 10000);
    assert_int_equal(w.share[0], 0);
    ends(ROLLBACK_PHASE(DONE));
    /* Nothing at all is left of it. */
    world_init(&w, 3, 3);
    memset(w.side[0], 0, sizeof w.side[0]);
    assert_int_equal(order(&w, ROLLBACK_START, "job-1", false, false), STATUS(OK));
    ends(ROLLBACK_PHASE(DONE));
}

static void test_both_die(void **unused)
{
    (void)unused;
    begin(2);
    reach_step(50);
    kill_side(0, true);
    kill_side(1, false);
    run(&w, 3000);
    assert_int_equal(w.doc.job.phase, ROLLBACK_PHASE(HOLD));
    assert_int_equal(w.doc.job.hold, ROLLBACK_HOLD(BOTH_LOST));
    assert_true(w.raised.critical);
    run(&w, 40000);
    assert_int_equal(w.share[0], 100); /* to what came back */
    assert_int_equal(order(&w, ROLLBACK_ABORT, "", false, false), STATUS(OK));
    ends(ROLLBACK_PHASE(ABORTED));
    /* A former version that dies does not send everybody to a version that a security check speaks against. */
    begin(2);
    reach_step(50);
    w.bad_target = true;
    reach(ROLLBACK_PHASE(HOLD), -1);
    kill_side(0, true);
    run(&w, 4000);
    assert_int_equal(w.doc.job.hold, ROLLBACK_HOLD(BOTH_LOST));
    assert_int_equal(w.share[0], 50);
}

/* ---- what others do ---- */

static void test_weights_of_others(void **unused)
{
    (void)unused;
    begin(2);
    reach_step(25);
    w.quiet = false;
    w.share[0] = w.share[1] = 50; /* the proxy was started again */
    run(&w, 3000);
    assert_int_equal(w.share[0], 25);
    assert_int_equal(w.doc.job.phase, ROLLBACK_PHASE(SHIFT));
    w.share[0] = 90;
    w.share[1] = 10;
    run(&w, ROLLBACK_READ_BACK_MS + 5000);
    assert_int_equal(w.doc.job.phase, ROLLBACK_PHASE(HOLD));
    assert_int_equal(w.doc.job.hold, ROLLBACK_HOLD(CHANGED));
    assert_int_equal(w.share[0], 90); /* two who set in turns would be worse */
    assert_int_equal(order(&w, ROLLBACK_ABORT, "", false, false), STATUS(OK));
    ends(ROLLBACK_PHASE(ABORTED));
    /* The traffic never takes what is set. */
    begin(2);
    reach(ROLLBACK_PHASE(SHIFT), ROLLBACK_STAGE(GATE));
    w.quiet = false;
    int64_t began_ms = w.now_ms;
    while (w.now_ms < began_ms + 90000 && w.doc.job.phase != ROLLBACK_PHASE(HOLD) && step(&w, began_ms + 90000))
        if (w.share[0] != 100) {
            w.share[0] = 80;
            w.share[1] = 20;
        }
    assert_int_equal(w.doc.job.phase, ROLLBACK_PHASE(HOLD));
    assert_int_equal(w.doc.job.hold, ROLLBACK_HOLD(CHANGED));
}

static void test_deployed_by_others(void **unused)
{
    (void)unused;
    begin(2);
    reach_step(50);
    w.quiet = false;
    put(&w, 0, V3, 2);
    run(&w, 3000);
    assert_int_equal(w.doc.job.hold, ROLLBACK_HOLD(CHANGED));
    assert_int_equal(w.share[0], 50);
    assert_int_equal(order(&w, ROLLBACK_ABORT, "", false, false), STATUS(OK));
    run(&w, 3000);
    assert_int_equal(w.doc.job.phase, ROLLBACK_PHASE(HOLD));
    assert_non_null(strstr(w.doc.job.reason, "force"));
    assert_int_equal(order(&w, ROLLBACK_ABORT, "", true, false), STATUS(OK));
    run(&w, 3000);
    assert_int_equal(w.doc.job.phase, ROLLBACK_PHASE(ABORTED));
    assert_int_equal(w.share[0], 50);
    assert_false(w.paused);
    /* Before anything has begun: refused. */
    world_init(&w, 1, 2);
    put(&w, 1, V3, 1);
    order(&w, ROLLBACK_START, "job-2", false, false);
    run(&w, 3000);
    assert_int_equal(w.doc.job.phase, ROLLBACK_PHASE(REFUSED));
    assert_non_null(strstr(w.doc.job.reason, "remove it"));
    assert_int_equal(w.acts, 0);
}

/* ---- acts that fail ---- */

static void test_failures(void **unused)
{
    (void)unused;
    /* Not possible: refused, and nothing was changed. */
    begin(2);
    w.fails_percent = w.lasting_percent = 100;
    reach(ROLLBACK_PHASE(REFUSED), -1);
    assert_int_equal(w.acts, 1);
    assert_non_null(strstr(w.doc.job.reason, "no such luck"));
    /* Passing trouble: tried again five times, with pauses that grow. */
    begin(2);
    reach(ROLLBACK_PHASE(TARGET_UP), -1);
    w.fails_percent = 100;
    unsigned acts = w.acts;
    int64_t began_ms = w.now_ms;
    reach(ROLLBACK_PHASE(HOLD), -1);
    assert_int_equal(w.doc.job.hold, ROLLBACK_HOLD(FAILED));
    assert_in_range(w.acts - acts, ROLLBACK_TRIES, ROLLBACK_TRIES + 1);
    assert_in_range(w.now_ms - began_ms, 15000, 20000);
    assert_non_null(strstr(w.doc.job.reason, "no such luck"));
    w.fails_percent = 0;
    assert_int_equal(order(&w, ROLLBACK_RESUME, "", false, false), STATUS(OK));
    ends(ROLLBACK_PHASE(DONE));
    /* Lasting trouble holds at once. */
    begin(2);
    reach_step(50);
    w.fails_percent = w.lasting_percent = 100;
    reach(ROLLBACK_PHASE(HOLD), -1);
    assert_int_equal(w.doc.job.weight, 50);
    w.fails_percent = 0;
    assert_int_equal(order(&w, ROLLBACK_ABORT, "", false, false), STATUS(OK));
    ends(ROLLBACK_PHASE(ABORTED));
    /* No answer at all. */
    begin(2);
    reach(ROLLBACK_PHASE(SNAPSHOT), -1);
    w.slow_ms = 10000000;
    began_ms = w.now_ms;
    while (w.doc.job.phase != ROLLBACK_PHASE(HOLD) && w.now_ms < began_ms + 1000000) {
        w.n_q = 0; /* lost */
        assert_true(step(&w, began_ms + 1000000));
        for (size_t i = 0; i < w.n_q; i++)
            if (w.q[i].kind == LOOKED) {
                struct happens h = w.q[i];
                w.q[i] = w.q[--w.n_q];
                happen(&w, &h);
                break;
            }
    }
    assert_int_equal(w.doc.job.hold, ROLLBACK_HOLD(FAILED));
    assert_non_null(strstr(w.doc.job.reason, "no answer"));
}

/* ---- learning data ---- */

static void with_snapshot(const char *version, int64_t taken_ms, unsigned base)
{
    struct rollback_lineage *l = &w.doc.lineage[w.doc.n_lineage++];
    memset(l, 0, sizeof *l);
    snprintf(l->version, sizeof l->version, "%s", version);
    snprintf(l->snapshot, sizeof l->snapshot, "snapshot-%zu", w.n_snapshots);
    w.snapshots[w.n_snapshots++] = (struct data){base, 0};
    l->taken_ms = taken_ms;
    l->verified = true;
}

/* start-technologies 3478, helm 5825: restored or migrated before the older version starts; put back if it is aborted. */
static void test_data(void **unused)
{
    (void)unused;
    for (int migrates = 0; migrates < 2; migrates++)
        for (int aborts = 0; aborts < 3; aborts++) {
            world_init(&w, 5, 2);
            w.quiet = true;
            with_snapshot(V1, T0 - 1500000, 7);
            rollback_find(&w.doc, V1)->data_schema = 1;
            rollback_find(&w.doc, V2)->data_schema = 2;
            w.rule.has_migration = migrates;
            assert_int_equal(order(&w, ROLLBACK_START, "job-1", false, false), STATUS(OK));
            assert_int_equal(w.doc.job.plan.data, migrates ? ROLLBACK_DATA_MIGRATE : ROLLBACK_DATA_RESTORE);
            reach(ROLLBACK_PHASE(TARGET_UP), -1);
            assert_int_equal(count_of(&w, 1, NULL, false), 0);
            assert_true(w.data.base == (migrates ? 1001 : 7) && w.paused && w.doc.job.writer_paused);
            reach_step(aborts ? 10 : 0);
            assert_true(w.paused);
            if (aborts == 2)
                reach(ROLLBACK_PHASE(VERIFY), ROLLBACK_STAGE(OBSERVE)); /* the target learns already */
            if (aborts == 2)
                assert_false(w.paused);
            if (aborts)
                assert_int_equal(order(&w, ROLLBACK_ABORT, "", false, false), STATUS(OK));
            unsigned saved = (unsigned)w.n_snapshots;
            ends(aborts ? ROLLBACK_PHASE(ABORTED) : ROLLBACK_PHASE(DONE));
            assert_true(w.data.base == (aborts ? 1 : migrates ? 1001 : 7));
            if (aborts)
                assert_int_equal(w.n_snapshots, saved + 1); /* what was learnt in between is not lost */
        }
    /* A death in the middle of it is no reason to leave the writer paused or the data half. */
    for (int at = 1; at < 30; at++) {
        world_init(&w, (uint64_t)at, 1);
        with_snapshot(V1, T0 - 1500000, 7);
        rollback_find(&w.doc, V1)->data_schema = 1;
        rollback_find(&w.doc, V2)->data_schema = 2;
        w.slow_ms = 3000;
        w.crash_in = at;
        order(&w, ROLLBACK_START, "job-1", false, false);
        run(&w, 10000);
        if (!rollback_busy(&w.doc)) /* the order itself was lost */
            order(&w, ROLLBACK_START, "job-1", false, false);
        reach(ROLLBACK_PHASE(SHIFT), -1);
        assert_int_equal(order(&w, ROLLBACK_ABORT, "", false, false), STATUS(OK));
        ends(ROLLBACK_PHASE(ABORTED));
        assert_true(w.data.base == 1);
    }
}

/* ---- time ---- */

/* kubernaut 199: no deadline of an earlier stage ends a later one; one that is over calls a person instead of going on. */
static void test_long_acts(void **unused)
{
    (void)unused;
    begin(1);
    w.rule.op_ms = 10000000;
    reach(ROLLBACK_PHASE(SNAPSHOT), -1);
    w.slow_ms = 7200000; /* an hour or so */
    reach(ROLLBACK_PHASE(TARGET_UP), -1);
    w.slow_ms = 0;
    ends(ROLLBACK_PHASE(DONE));
    assert_int_equal(w.holds, 0);
    /* Nobody sees anything: it waits as long as it may, and holds. */
    begin(1);
    reach(ROLLBACK_PHASE(STOP), -1);
    w.traffic_away = true;
    reach(ROLLBACK_PHASE(HOLD), -1);
    assert_int_equal(w.doc.job.hold, ROLLBACK_HOLD(FAILED));
    assert_non_null(strstr(w.doc.job.reason, "traffic is away"));
    w.traffic_away = false;
    assert_int_equal(order(&w, ROLLBACK_RESUME, "", false, false), STATUS(OK));
    ends(ROLLBACK_PHASE(DONE));
}

/* Whoever takes over looks first, and asks for nothing before. */
static void test_taken(void **unused)
{
    (void)unused;
    static struct rollback_effect out[ROLLBACK_EFFECTS];
    static struct world before;
    for (enum place p = AT_PREPARE; p <= AT_ABORTING; p++) {
        go_to(p);
        before = w;
        size_t n = 0;
        struct rollback_event ev = {.kind = ROLLBACK_TAKEN};
        rollback_decide(&w.doc, &w.rule, &ev, w.now_ms, out, &n);
        bool looks = false;
        for (size_t i = 0; i < n; i++) {
            assert_true(out[i].kind != ROLLBACK_DO);
            looks |= out[i].kind == ROLLBACK_LOOK;
        }
        assert_true(looks);
        assert_int_equal(w.doc.job.op, 0);
        w = before;
        w.quiet = false;
        crash(&w);
        if (p == AT_HOLD) {
            run(&w, 10000);
            assert_int_equal(order(&w, ROLLBACK_RESUME, "", false, false), STATUS(OK));
        }
        ends(p == AT_ABORTING ? ROLLBACK_PHASE(ABORTED) : ROLLBACK_PHASE(DONE));
    }
}

/* What must hold of a document is noticed. */
static void test_broken(void **unused)
{
    (void)unused;
    static struct rollback_doc d, good;
    begin(2);
    reach_step(50);
    good = w.doc;
    assert_null(rollback_broken(&good));
#define BREAK(what)                                                                                                  \
    do {                                                                                                             \
        d = good;                                                                                                    \
        what;                                                                                                        \
        assert_non_null(rollback_broken(&d));                                                                        \
    } while (0)
    BREAK(d.deployment[0] = '\0');
    BREAK(d.n_versions = ROLLBACK_VERSIONS + 1);
    BREAK(d.n_lineage = ROLLBACK_LINEAGE + 1);
    BREAK(d.n_history = ROLLBACK_HISTORY + 1);
    BREAK(d.versions[0].id[0] = '\0');
    BREAK(d.versions[0].state = 9);
    BREAK(d.versions[1] = d.versions[0]);
    BREAK(d.current[0] = 'x');
    BREAK(d.lineage[0].snapshot[0] = '\0');
    BREAK(d.job.phase = 0);
    BREAK(d.job.phase = 99);
    BREAK(d.job.phase = ROLLBACK_PHASE(HOLD));
    BREAK(d.job.hold = 1);
    BREAK(d.job.weight = 101);
    BREAK(d.job.wanted = -1);
    BREAK(d.job.from_side = 2);
    BREAK(d.job.op = 99);
    BREAK(d.job.id[0] = '\0');
    BREAK(d.job.by[0] = '\0');
    BREAK(d.job.ended_ms = 1);
    BREAK(d.job.phase = ROLLBACK_PHASE(DONE));
    BREAK(snprintf(d.job.to, sizeof d.job.to, "%s", d.job.from));
    BREAK(d.job.from[0] = 'x');
    BREAK(d.job.step = 6);
    BREAK(d.job.plan.n_steps = 0);
    BREAK(d.job.plan.weight[4] = 5);
    BREAK(d.job.plan.weight[2] = 60);
    BREAK(d.job.plan.data = 7);
    BREAK(d.job.plan.data = ROLLBACK_DATA_RESTORE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_every_order),
        cmocka_unit_test(test_bad_orders),
        cmocka_unit_test(test_old_answers),
        cmocka_unit_test(test_no_traffic_without_capacity),
        cmocka_unit_test(test_mirrored),
        cmocka_unit_test(test_abort_when_stopped),
        cmocka_unit_test(test_abort_is_not_ignored),
        cmocka_unit_test(test_breach_while_waiting),
        cmocka_unit_test(test_no_data),
        cmocka_unit_test(test_resume_past_regression),
        cmocka_unit_test(test_target_dies),
        cmocka_unit_test(test_former_dies),
        cmocka_unit_test(test_both_die),
        cmocka_unit_test(test_weights_of_others),
        cmocka_unit_test(test_deployed_by_others),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_data),
        cmocka_unit_test(test_long_acts),
        cmocka_unit_test(test_taken),
        cmocka_unit_test(test_broken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
