/* test_cli_rollback.c - a deployment's document in words: bars, progress, fates, what a person can do; whatever the texts in it are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/event_line.h"
#include "cli/rollback_pin.h"
#include "cli/rollback_view.h"
#include "cli/status_model.h"
#include "cli/status_view.h"
#include <locale.h>

#define PHASE(x)   REDOUBT__V1__ROLLBACK_PHASE__ROLLBACK_PHASE_##x
#define STAGE(x)   REDOUBT__V1__ROLLBACK_STAGE__ROLLBACK_STAGE_##x
#define HOLD(x)    REDOUBT__V1__ROLLBACK_HOLD__ROLLBACK_HOLD_##x
#define OP(x)      REDOUBT__V1__ROLLBACK_OP__ROLLBACK_OP_##x
#define VERSION(x) REDOUBT__V1__VERSION_STATE__VERSION_STATE_##x
#define N(a)       (sizeof(a) / sizeof((a)[0]))
#define BEGAN      INT64_C(1700000000000)

/* One deployment with three versions and a job from v2 to v1; every test changes its own copy. */
struct fixture {
    PB(RollbackChanged) m;
    PB(RollbackPlan) plan;
    PB(RollbackStep) steps[5];
    PB(RollbackStep) * step_list[5];
    PB(DeployedVersion) versions[3];
    PB(DeployedVersion) * version_list[3];
    PB(RollbackEnded) ended[2];
    PB(RollbackEnded) * ended_list[2];
    PB(Lineage) lineage[2];
    PB(Lineage) * lineage_list[2];
};

static void make(struct fixture *f)
{
    static const uint32_t weights[5] = {100, 50, 25, 10, 0};
    static const char *const ids[3] = {"00000000000000a0", "00000000000000a1", "00000000000000a2"};
    static const char *const names[3] = {"v0", "v1", "v2"};
    *f = (struct fixture){.m = REDOUBT__V1__ROLLBACK_CHANGED__INIT, .plan = REDOUBT__V1__ROLLBACK_PLAN__INIT};
    for (size_t i = 0; i < 5; i++) {
        f->steps[i] = (PB(RollbackStep))REDOUBT__V1__ROLLBACK_STEP__INIT;
        f->steps[i].weight_percent = weights[i];
        f->steps[i].observe_ms = 30000;
        f->steps[i].needs_ready = (uint32_t)i;
        f->step_list[i] = &f->steps[i];
    }
    for (size_t i = 0; i < 3; i++) {
        f->versions[i] = (PB(DeployedVersion))REDOUBT__V1__DEPLOYED_VERSION__INIT;
        f->versions[i].id = (char *)ids[i];
        f->versions[i].name = (char *)names[i];
        f->versions[i].state = VERSION(VERIFIED);
        f->version_list[i] = &f->versions[i];
    }
    for (size_t i = 0; i < 2; i++) {
        f->ended[i] = (PB(RollbackEnded))REDOUBT__V1__ROLLBACK_ENDED__INIT;
        f->ended[i].job_id = (char *)(i ? "older" : "old");
        f->ended[i].phase = i ? PHASE(ABORTED) : PHASE(DONE);
        f->ended[i].reason = (char *)(i ? "eve gave it up" : "");
        f->ended_list[i] = &f->ended[i];
        f->lineage[i] = (PB(Lineage))REDOUBT__V1__LINEAGE__INIT;
        f->lineage[i].version_id = (char *)ids[1];
        f->lineage[i].snapshot = (char *)"s";
        f->lineage_list[i] = &f->lineage[i];
    }
    f->plan.steps = f->step_list;
    f->plan.n_steps = 5;
    f->plan.drain_ms = 30000;
    f->plan.watch_ms = 120000;
    f->m.deployment = (char *)"agent-1";
    f->m.job_id = (char *)"job-1";
    f->m.epoch = 9;
    f->m.phase = PHASE(SHIFT);
    f->m.stage = STAGE(OBSERVE);
    f->m.step = 2;
    f->m.from_version = f->m.current_version = f->versions[2].id;
    f->m.to_version = f->versions[1].id;
    f->m.weight_percent = f->m.weight_wanted = 25;
    f->m.started_by = (char *)"eve";
    f->m.started_unix_ms = BEGAN;
    f->m.phase_since_unix_ms = f->m.stage_since_unix_ms = BEGAN + 70000;
    f->m.plan = &f->plan;
    f->m.versions = f->version_list;
    f->m.n_versions = 3;
    f->m.history = f->ended_list;
    f->m.n_history = 2;
    f->m.lineage = f->lineage_list;
    f->m.n_lineage = 2;
}

static void bars_show_shares(void **state)
{
    (void)state;
    struct fixture f;
    char buf[ROLLBACK_VIEW_TEXT];
    make(&f);
    assert_string_equal(rollback_view_bar(&f.m, buf), "v2  25 % [######------------------]  75 % v1");
    f.m.weight_percent = 0;
    assert_string_equal(rollback_view_bar(&f.m, buf), "v2   0 % [------------------------] 100 % v1");
    f.m.weight_percent = 100;
    assert_string_equal(rollback_view_bar(&f.m, buf), "v2 100 % [########################]   0 % v1");
    f.m.weight_percent = 1; /* little is not nothing, and almost all is not all */
    assert_string_equal(rollback_view_bar(&f.m, buf), "v2   1 % [#-----------------------]  99 % v1");
    f.m.weight_percent = 99;
    assert_string_equal(rollback_view_bar(&f.m, buf), "v2  99 % [#######################-]   1 % v1");
    f.m.weight_percent = 4000000000u;
    assert_string_equal(rollback_view_bar(&f.m, buf), "v2 100 % [########################]   0 % v1");
    assert_string_equal(rollback_view_progress_bar(50, buf), "[############------------]  50 %");
    assert_string_equal(rollback_view_progress_bar(4000, buf), "[########################] 100 %");
    for (unsigned p = 0; p <= 100; p++)
        assert_int_equal(strlen(rollback_view_progress_bar(p, buf)), 32);
}

static void progress_goes_by_the_plans_times(void **state)
{
    (void)state;
    struct fixture f;
    int64_t left;
    make(&f);
    /* 5 steps of 30 s, 30 s, 120 s: 300 s. Two steps and 12 s of the third are over. */
    assert_int_equal(rollback_view_progress(&f.m, BEGAN + 82000, &left), 24);
    assert_int_equal(left, 228000);
    assert_int_equal(rollback_view_progress(&f.m, BEGAN + 999000, &left), 30); /* not beyond its step */
    assert_int_equal(rollback_view_progress(&f.m, BEGAN - 999000, &left), 20); /* a clock that is behind */
    f.m.stage = STAGE(GATE);
    assert_int_equal(rollback_view_progress(&f.m, BEGAN + 82000, &left), 20);
    f.m.phase = PHASE(DRAIN);
    assert_int_equal(rollback_view_progress(&f.m, BEGAN + 85000, &left), 55);
    f.m.phase = PHASE(VERIFY);
    assert_int_equal(rollback_view_progress(&f.m, BEGAN + 70000, &left), 60);
    assert_int_equal(rollback_view_progress(&f.m, BEGAN + 9999000, &left), 99); /* only DONE is all */
    assert_int_equal(left, 0);
    f.m.phase = PHASE(DONE);
    assert_int_equal(rollback_view_progress(&f.m, BEGAN, &left), 100);
    assert_int_equal(left, 0);
    make(&f);
    f.m.held_phase = PHASE(SHIFT);
    f.m.phase = PHASE(HOLD);
    assert_int_equal(rollback_view_progress(&f.m, BEGAN + 999000, &left), 20); /* it stands still */
    assert_int_equal(left, -1);
    f.m.phase = PHASE(ABORTING);
    assert_int_equal(rollback_view_progress(&f.m, BEGAN + 82000, &left), 0);
    assert_int_equal(left, -1);
    make(&f);
    f.plan.n_steps = 0;
    f.plan.drain_ms = f.plan.watch_ms = 0;
    assert_int_equal(rollback_view_progress(&f.m, BEGAN, &left), 0);
    f.m.plan = NULL;
    assert_int_equal(rollback_view_progress(&f.m, BEGAN, &left), 0);
    make(&f);
    f.m.step = 4000000000u; /* more than the plan has */
    assert_in_range(rollback_view_progress(&f.m, BEGAN + 82000, &left), 0, 99);
}

static void fates_are_told_by_job(void **state)
{
    (void)state;
    static const struct {
        int phase;
        enum rollback_fate fate;
        bool busy;
    } rows[] = {
        {PHASE(PREPARE), ROLLBACK_FATE_UNDER_WAY, true},   {PHASE(SNAPSHOT), ROLLBACK_FATE_UNDER_WAY, true},
        {PHASE(TARGET_UP), ROLLBACK_FATE_UNDER_WAY, true}, {PHASE(SHIFT), ROLLBACK_FATE_UNDER_WAY, true},
        {PHASE(DRAIN), ROLLBACK_FATE_UNDER_WAY, true},     {PHASE(STOP), ROLLBACK_FATE_UNDER_WAY, true},
        {PHASE(VERIFY), ROLLBACK_FATE_UNDER_WAY, true},    {PHASE(ABORTING), ROLLBACK_FATE_UNDER_WAY, true},
        {PHASE(HOLD), ROLLBACK_FATE_HOLDS, true},          {PHASE(DONE), ROLLBACK_FATE_DONE, false},
        {PHASE(ABORTED), ROLLBACK_FATE_ABORTED, false},    {PHASE(REFUSED), ROLLBACK_FATE_REFUSED, false},
        {PHASE(IDLE), ROLLBACK_FATE_UNKNOWN, false},
    };
    struct fixture f;
    const char *reason;
    char buf[ROLLBACK_VIEW_TEXT];
    make(&f);
    f.m.reason = (char *)"because";
    for (size_t i = 0; i < N(rows); i++) {
        f.m.phase = rows[i].phase;
        assert_int_equal(rollback_view_fate(&f.m, "job-1", &reason), rows[i].fate);
        assert_string_equal(reason, "because");
        assert_int_equal(rollback_view_fate(&f.m, "", NULL), rows[i].fate);
        assert_int_equal(rollback_view_busy(&f.m), rows[i].busy);
        assert_int_equal(rollback_view_problem(&f.m, buf), rows[i].busy);
        assert_int_equal(rollback_view_over(rows[i].fate), !rows[i].busy && rows[i].phase != PHASE(IDLE));
    }
    /* What has ended since is in the history; what is not there is not known. */
    assert_int_equal(rollback_view_fate(&f.m, "old", NULL), ROLLBACK_FATE_DONE);
    assert_int_equal(rollback_view_fate(&f.m, "older", &reason), ROLLBACK_FATE_ABORTED);
    assert_string_equal(reason, "eve gave it up");
    assert_int_equal(rollback_view_fate(&f.m, "never", &reason), ROLLBACK_FATE_UNKNOWN);
    assert_string_equal(reason, "");
}

static void what_it_does_now_is_said(void **state)
{
    (void)state;
    struct fixture f;
    char buf[ROLLBACK_VIEW_TEXT];
    make(&f);
    assert_string_equal(rollback_view_where(&f.m, buf), "SHIFT, step 3 of 5: observed");
    assert_string_equal(rollback_view_now(&f.m, BEGAN + 82000, buf), "for 12.0 s of 30.0 s");
    assert_string_equal(rollback_view_line(&f.m, buf), "SHIFT, step 3 of 5: observed; v2 25 %, v1 75 %");
    f.m.stage = STAGE(GATE);
    assert_string_equal(rollback_view_where(&f.m, buf), "SHIFT, step 3 of 5: waits until it can be carried");
    assert_string_equal(rollback_view_now(&f.m, BEGAN + 71000, buf), "for 1.0 s; 2 instances must be ready");
    f.m.phase = PHASE(SNAPSHOT);
    f.m.stage = STAGE(UNSPECIFIED);
    f.m.op = OP(SNAPSHOT);
    f.m.op_since_unix_ms = BEGAN + 71000;
    f.m.op_tries = 3;
    assert_string_equal(rollback_view_now(&f.m, BEGAN + 72000, buf),
                        "for 2.0 s; saving the learning data for 1.0 s, try 3");
    make(&f);
    f.m.phase = PHASE(HOLD);
    f.m.held_phase = PHASE(SHIFT);
    f.m.hold = HOLD(REGRESSION);
    f.m.reason = (char *)"known-answer: it lets an attack pass";
    assert_string_equal(
        rollback_view_line(&f.m, buf),
        "HOLDS in SHIFT, step 3 of 5: REGRESSION; v2 25 %, v1 75 %; known-answer: it lets an attack pass");
    assert_true(rollback_view_problem(&f.m, buf));
    assert_non_null(strstr(buf, "deployment agent-1"));
    assert_non_null(strstr(buf, "known-answer"));
    assert_int_equal(rollback_view_colour(&f.m), TERM_RED);
    f.m.phase = PHASE(REFUSED);
    assert_null(strstr(rollback_view_line(&f.m, buf), "%")); /* no traffic was moved */
    make(&f);
    f.m.emergency = true;
    assert_non_null(strstr(rollback_view_line(&f.m, buf), "(emergency)"));
    f.m.job_id = (char *)"";
    f.m.phase = PHASE(IDLE);
    assert_string_equal(rollback_view_line(&f.m, buf), "no rollback so far; runs v2");
    assert_false(rollback_view_problem(&f.m, buf));
}

/* The verbs of the commands offered, in order, as one text. */
static const char *offered(const PB(RollbackChanged) * m, char *all, size_t size)
{
    char buf[ROLLBACK_VIEW_TEXT], verb[32];
    *all = 0;
    for (size_t i = 0; rollback_view_next(m, i, buf); i++) {
        assert_int_equal(sscanf(buf, "redoubt rollback %31s agent-1", verb), 1);
        snprintf(all + strlen(all), size - strlen(all), "%s%s%s", *all ? " " : "", verb,
                 strstr(buf, " --force ") ? "!" : "");
        assert_true(i < 8);
    }
    return all;
}

static void commands_that_go_on_are_offered(void **state)
{
    (void)state;
    struct fixture f;
    char all[128], buf[ROLLBACK_VIEW_TEXT];
    make(&f);
    assert_string_equal(offered(&f.m, all, sizeof all), "hold abort emergency");
    f.m.phase = PHASE(HOLD);
    f.m.held_phase = PHASE(SHIFT);
    f.m.hold = HOLD(REGRESSION);
    assert_string_equal(offered(&f.m, all, sizeof all), "resume! abort emergency");
    f.m.hold = HOLD(CAPACITY);
    assert_string_equal(offered(&f.m, all, sizeof all), "resume abort emergency");
    f.m.hold = HOLD(TARGET_LOST); /* nobody is sent to what is dead */
    assert_string_equal(offered(&f.m, all, sizeof all), "resume abort");
    f.m.held_phase = PHASE(ABORTING);
    assert_string_equal(offered(&f.m, all, sizeof all), "resume abort!");
    f.m.phase = PHASE(ABORTING);
    assert_string_equal(offered(&f.m, all, sizeof all), "hold");
    f.m.phase = PHASE(VERIFY);
    assert_string_equal(offered(&f.m, all, sizeof all), "hold abort");
    f.m.phase = PHASE(DONE);
    assert_string_equal(offered(&f.m, all, sizeof all), "start start");
    assert_true(rollback_view_next(&f.m, 0, buf));
    assert_string_equal(buf, "redoubt rollback start agent-1 --to v1 --dry-run");
    /* A name that a shell would read as something else is not put on a command line. */
    f.versions[1].name = (char *)"v1; rm -rf ~";
    assert_true(rollback_view_next(&f.m, 1, buf));
    assert_string_equal(buf, "redoubt rollback start agent-1 --to 00000000000000a1 --by NAME --reason WHY");
    f.versions[1].name = (char *)"--force";
    assert_string_equal(rollback_view_handle(&f.versions[1]), "00000000000000a1");
    f.versions[0].state = f.versions[1].state = VERSION(REJECTED);
    assert_string_equal(offered(&f.m, all, sizeof all), "");
}

static void versions_are_told_apart(void **state)
{
    (void)state;
    struct fixture f;
    char buf[ROLLBACK_VIEW_NAME];
    make(&f);
    assert_ptr_equal(rollback_view_last_verified(&f.m), &f.versions[1]);
    f.versions[0].verified_unix_ms = 5; /* verified last, though recorded first */
    assert_ptr_equal(rollback_view_last_verified(&f.m), &f.versions[0]);
    f.versions[0].verified_unix_ms = 0;
    f.versions[1].state = VERSION(RECORDED);
    assert_ptr_equal(rollback_view_last_verified(&f.m), &f.versions[0]);
    f.m.current_version = f.versions[0].id;
    assert_ptr_equal(rollback_view_last_verified(&f.m), &f.versions[2]);
    assert_string_equal(rollback_view_name(&f.m, ""), "-");
    assert_string_equal(rollback_view_name(&f.m, "ffff"), "ffff");
    f.plan.to_version = (char *)"ffff";
    f.plan.to_name = (char *)"v-gone";
    assert_string_equal(rollback_view_name(&f.m, "ffff"), "v-gone");
    assert_int_equal(rollback_view_snapshots(&f.m, f.versions[1].id), 2);
    assert_int_equal(rollback_view_snapshots(&f.m, f.versions[2].id), 0);
    assert_string_equal(rollback_view_digest("sha256:0123456789abcdef0123", buf), "sha256:0123456789ab");
    assert_string_equal(rollback_view_digest("short", buf), "short");
    assert_string_equal(rollback_view_digest("", buf), "-");
    assert_string_equal(rollback_view_state(&f.versions[0]), "verified");
    assert_string_equal(rollback_view_state(&f.versions[1]), "not verified");
}

/* Every text of the document is as long as the contract lets it be, and full of what drives a terminal. */
static void hostile_texts_stay_in_their_place(void **state)
{
    (void)state;
    struct fixture f;
    static char evil[1025], name[129];
    char buf[ROLLBACK_VIEW_TEXT], clean[2 * ROLLBACK_VIEW_TEXT];
    for (size_t i = 0; i < sizeof evil - 1; i++)
        evil[i] = "\033[2J\n\r\t%s\xc2\x9b"[i % 12];
    memcpy(name, evil, sizeof name - 1);
    for (int phase = PHASE(PREPARE); phase <= PHASE(REFUSED); phase++) {
        for (int sub = 0; sub <= 11; sub++) {
            int64_t left;
            make(&f);
            f.m.phase = phase;
            f.m.held_phase = sub;
            f.m.hold = sub <= HOLD(CHANGED) ? sub : 0;
            f.m.stage = sub <= STAGE(OBSERVE) ? sub : 0;
            f.m.op = sub <= OP(REMOVE) ? sub : 0;
            f.m.reason = f.m.started_by = f.m.started_why = evil;
            f.versions[1].name = f.versions[2].name = name;
            (void)rollback_view_line(&f.m, buf);
            assert_true(strlen(buf) < sizeof buf);
            (void)rollback_view_problem(&f.m, buf);
            (void)rollback_view_now(&f.m, BEGAN + 99000, buf);
            (void)rollback_view_progress(&f.m, BEGAN + 99000, &left);
            /* These come clean by themselves. */
            assert_null(strpbrk(rollback_view_bar(&f.m, buf), "\033\n\r\t"));
            assert_true(term_width(buf) < 120);
            for (size_t i = 0; rollback_view_next(&f.m, i, buf); i++)
                assert_null(strpbrk(buf, "\033\n\r\t%;"));
            struct event_line l;
            assert_true(event_line(&f.m, &l));
            assert_string_equal(l.kind, "rollback");
            assert_null(strpbrk(term_clean(l.text, 0, clean, sizeof clean), "\033\n\r\t"));
        }
    }
}

/* Numbers of a newer contract, which the wire would refuse, still have a text. */
static void unknown_numbers_have_a_text(void **state)
{
    (void)state;
    struct fixture f;
    char buf[ROLLBACK_VIEW_TEXT];
    make(&f);
    f.m.stage = 99;
    assert_non_null(strstr(rollback_view_where(&f.m, buf), "?"));
    f.m.op = 99;
    assert_non_null(strstr(rollback_view_now(&f.m, BEGAN, buf), "?"));
    f.m.phase = PHASE(HOLD);
    f.m.hold = 99;
    assert_non_null(strstr(rollback_view_where(&f.m, buf), "?"));
}

static void messages_beside_it_have_lines(void **state)
{
    (void)state;
    struct event_line l;
    PB(VersionRecord) r = REDOUBT__V1__VERSION_RECORD__INIT;
    struct fixture f;
    char *gap = (char *)"config `rules` of compose";
    make(&f);
    r.deployment = (char *)"agent-1";
    r.version = &f.versions[1];
    f.versions[1].digest = (char *)"sha256:0123456789abcdef";
    r.gaps = &gap;
    r.n_gaps = 1;
    assert_true(event_line(&r, &l));
    assert_string_equal(l.text, "v1 (00000000000000a1) is recorded: sha256:0123456789ab, 0 bytes of spec, cannot be "
                                "made again: config `rules` of compose");
    PB(VersionShare) shares[2] = {REDOUBT__V1__VERSION_SHARE__INIT, REDOUBT__V1__VERSION_SHARE__INIT};
    PB(VersionShare) * list[2] = {&shares[0], &shares[1]};
    PB(WorkShare) w = REDOUBT__V1__WORK_SHARE__INIT;
    shares[0].name = (char *)"v2";
    shares[0].percent = 25;
    shares[1].id = (char *)"a1";
    shares[1].percent = 75;
    w.deployment = (char *)"agent-1";
    w.epoch = 4;
    w.shares = list;
    w.n_shares = 2;
    assert_true(event_line(&w, &l));
    assert_string_equal(l.text, "#4 the work: v2 25 %, a1 75 %");
    PB(WorkShared) s = REDOUBT__V1__WORK_SHARED__INIT;
    s.deployment = (char *)"agent-1";
    s.epoch = 4;
    s.instance = (char *)"host-7";
    s.version = (char *)"v1";
    s.percent = 75;
    s.in_hand = 3;
    assert_true(event_line(&s, &l));
    assert_string_equal(l.text, "#4 host-7 (v1) takes 75 %, has 3 in hand");
    PB(RollbackCommand) c = REDOUBT__V1__ROLLBACK_COMMAND__INIT;
    c.deployment = (char *)"agent-1";
    c.by = (char *)"eve";
    c.reason = (char *)"why not";
    c.to_version = (char *)"v1";
    c.force = true;
    assert_true(event_line(&c, &l));
    assert_string_equal(l.text, "eve asks: why not; to v1; FORCED");
}

/* The suite's status: a job is not normal, an idle deployment is; both are shown. */
static void the_status_has_deployments(void **state)
{
    (void)state;
    struct fixture f;
    struct status_model s = {0};
    char *text = NULL;
    size_t len = 0;
    make(&f);
    for (int i = 0; i < 3; i++) {
        uint8_t data[4096];
        struct err e = {""};
        f.m.epoch = (uint64_t)(i == 2 ? 8 : 9 + i); /* the last one is older, and changes nothing */
        f.m.weight_percent = i == 2 ? 100 : 25;
        size_t n = protobuf_c_message_pack(&f.m.base, data);
        PB(RollbackChanged) *m = wire_unpack(PB_DESC(rollback_changed), data, n, &e);
        if (!m)
            fail_msg("%s", e.text);
        assert_int_equal(status_add_rollback(&s, m), i < 2);
    }
    (void)status_deployment(&s, "agent-0");
    FILE *out = open_memstream(&text, &len);
    struct term t = {.file = out};
    status_print(&s, &t, BEGAN + 82000);
    fclose(out);
    assert_non_null(strstr(text, "agent-0     not known"));
    assert_non_null(strstr(text, "v2  25 % [######------------------]  75 % v1"));
    assert_non_null(strstr(text, "deployment agent-1: rollback to v1 is under way: SHIFT, step 3 of 5"));
    assert_non_null(strstr(text, "deployment agent-0: nothing is known of it yet"));
    free(text);
    json_t *j = status_json(&s);
    json_t *list = json_object_get(j, "deployments");
    assert_int_equal(json_array_size(list), 2);
    assert_true(json_is_null(json_object_get(json_array_get(list, 0), "rollback")));
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(json_array_get(list, 1), "rollback"), "phase")), "SHIFT");
    json_decref(j);
    status_free(&s);
}

/* ---- pin ---- */

static char *pin(const char *executor, const char *image, const char *name, const char *spec, struct err *e)
{
    PB(VersionRecord) r = REDOUBT__V1__VERSION_RECORD__INIT;
    PB(DeployedVersion) v = REDOUBT__V1__DEPLOYED_VERSION__INIT;
    v.name = (char *)name;
    r.deployment = (char *)"mcp";
    r.version = &v;
    r.executor = (char *)executor;
    r.image = (char *)image;
    r.spec.data = (uint8_t *)spec;
    r.spec.len = strlen(spec);
    e->text[0] = '\0';
    return rollback_pin_text(&r, e);
}

#define COMPOSE(service) "\"Config\":{\"Labels\":{\"com.docker.compose.service\":\"" service "\"}}"

static void an_override_pins_what_runs(void **state)
{
    (void)state;
    struct err e;
    char *t =
        pin("docker", "reg/agent:v1", "v1", "{\"RepoDigest\":\"reg/agent@sha256:abcd\"," COMPOSE("agent") "}", &e);
    assert_non_null(t);
    assert_non_null(strstr(t, "\nservices:\n  \"agent\":\n    image: \"reg/agent@sha256:abcd\"\n"));
    assert_non_null(strstr(t, "# mcp stays on v1,"));
    assert_null(strstr(t, "do not move"));
    free(t);
    t = pin("docker", "agent:v1", "v\n1", "{\"RepoDigest\":\"\"," COMPOSE("a\\nb: c") "}", &e);
    assert_non_null(t);
    assert_non_null(strstr(t, "\n  \"a\\nb: c\":\n    image: \"agent:v1\"\n"));
    assert_non_null(strstr(t, "stays on v 1,"));
    assert_non_null(strstr(t, "# No registry is known to have this image"));
    free(t);
    static const struct {
        const char *executor, *image, *spec, *why;
    } bad[] = {
        {"kubernetes", "a", "{}", "executor kubernetes"},
        {"docker", "a", "", "was not made by compose"},
        {"docker", "a", "[1]", "was not made by compose"},
        {"docker", "a", "{\"Config\":{\"Labels\":null}}", "was not made by compose"},
        {"docker", "", "{" COMPOSE("agent") "}", "was not made by compose"},
        {"docker", "\xff", "{" COMPOSE("agent") "}", "no UTF-8"},
    };
    for (size_t i = 0; i < N(bad); i++) {
        assert_null(pin(bad[i].executor, bad[i].image, "v1", bad[i].spec, &e));
        assert_non_null(strstr(e.text, bad[i].why));
    }
}

int main(void)
{
    if (!setlocale(LC_CTYPE, "C.UTF-8"))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bars_show_shares),
        cmocka_unit_test(progress_goes_by_the_plans_times),
        cmocka_unit_test(fates_are_told_by_job),
        cmocka_unit_test(what_it_does_now_is_said),
        cmocka_unit_test(commands_that_go_on_are_offered),
        cmocka_unit_test(versions_are_told_apart),
        cmocka_unit_test(an_override_pins_what_runs),
        cmocka_unit_test(hostile_texts_stay_in_their_place),
        cmocka_unit_test(unknown_numbers_have_a_text),
        cmocka_unit_test(messages_beside_it_have_lines),
        cmocka_unit_test(the_status_has_deployments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
