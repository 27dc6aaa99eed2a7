/* test_rollback_registry.c - versions: recorded, verified, kept, dropped, chosen; snapshots that are remembered; a rollback by the policy. */
#include "rollback_world.h"

static struct world w;
static struct rollback_effect out[ROLLBACK_EFFECTS];
static size_t n_out;

/* What runs is looked at: version, healthy, checks passed. */
static bool seen(const char *id, const char *name, bool healthy, bool passed, bool worse)
{
    struct rollback_version found = {.data_schema = 3};
    struct rollback_sight s = {.executor_known = true};
    snprintf(found.id, sizeof found.id, "%s", id);
    snprintf(found.name, sizeof found.name, "%s", name);
    snprintf(found.digest, sizeof found.digest, "sha256:%s", id);
    snprintf(s.side[0].version, sizeof s.side[0].version, "%s", id);
    s.side[0].instances = 1;
    struct rollback_event ev = {.kind = ROLLBACK_SEEN,
                                .u.seen = {.version = &found,
                                           .healthy = healthy,
                                           .checks_passed = passed,
                                           .worse = worse,
                                           .why = worse ? "selftest failed" : "",
                                           .sight = &s}};
    bool changed = rollback_decide(&w.doc, &w.rule, &ev, w.now_ms, out, &n_out);
    assert_null(rollback_broken(&w.doc));
    assert_true(n_out <= ROLLBACK_EFFECTS);
    return changed;
}

static const struct rollback_effect *effect(enum rollback_effect_kind kind, int notice)
{
    for (size_t i = 0; i < n_out; i++)
        if (out[i].kind == kind && (notice < 0 || out[i].notice == notice))
            return &out[i];
    return NULL;
}

static void deploy(unsigned i)
{
    char id[ROLLBACK_ID], name[16];
    snprintf(id, sizeof id, "%016x", i);
    snprintf(name, sizeof name, "v%u", i);
    seen(id, name, true, true, false);
    w.now_ms += w.rule.settle_ms;
    seen(id, name, true, true, false);
    w.now_ms += 1000;
}

static struct rollback_version *version(unsigned i)
{
    char id[ROLLBACK_ID];
    snprintf(id, sizeof id, "%016x", i);
    return rollback_find(&w.doc, id);
}

static void start(void)
{
    world_init(&w, 1, 1);
    rollback_doc_init(&w.doc, "sentinel");
    w.doc.epoch = 1;
}

static void test_verified(void **unused)
{
    (void)unused;
    start();
    assert_true(seen(V1, "v1", false, true, false));
    const struct rollback_version *v = rollback_find(&w.doc, V1);
    assert_int_equal(v->state, VERSION_STATE(RECORDED));
    assert_int_equal(v->recorded_ms, w.now_ms);
    assert_int_equal(v->data_schema, 3);
    assert_string_equal(w.doc.current, V1);
    assert_false(seen(V1, "v1", false, true, false)); /* nothing new */
    /* Not before it was well without a break for so long; both its health and its checks count. */
    for (int broken = 0; broken < 2; broken++) {
        seen(V1, "v1", true, true, false);
        w.now_ms += w.rule.settle_ms - 1;
        seen(V1, "v1", true, true, false);
        assert_int_equal(v->state, VERSION_STATE(RECORDED));
        seen(V1, "v1", broken, !broken, false);
        w.now_ms += 1;
        assert_int_equal(v->healthy_since_ms, 0);
    }
    seen(V1, "v1", true, true, false);
    /* Whoever takes over has not watched it. */
    rollback_decide(&w.doc, &w.rule, &(struct rollback_event){.kind = ROLLBACK_TAKEN}, w.now_ms, out, &n_out);
    w.now_ms += 3600000;
    seen(V1, "v1", true, true, false);
    assert_int_equal(v->state, VERSION_STATE(RECORDED));
    w.now_ms += w.rule.settle_ms;
    assert_true(seen(V1, "v1", true, true, false));
    assert_int_equal(v->state, VERSION_STATE(VERIFIED));
    assert_int_equal(v->verified_ms, w.now_ms);
    assert_true(v->kept && effect(ROLLBACK_KEEP, -1)->keep);
    /* Without a change nothing is stored. */
    w.now_ms += 10000;
    assert_false(seen(V1, "v1", true, true, false));
    /* What has no id is nothing. */
    assert_false(seen("", "v9", true, true, false));
    assert_int_equal(w.doc.n_versions, 1);
}

static void test_kept(void **unused)
{
    (void)unused;
    start();
    for (unsigned i = 1; i <= 6; i++)
        deploy(i);
    /* The current one and the last three before it. */
    for (unsigned i = 1; i <= 6; i++)
        assert_int_equal(version(i)->kept, i >= 3);
    /* Less is kept: what is too much is released. */
    w.rule.keep = 1;
    seen(version(6)->id, "v6", true, true, false);
    assert_false(version(4)->kept);
    assert_true(version(5)->kept && version(6)->kept);
    const struct rollback_effect *e = effect(ROLLBACK_KEEP, -1);
    assert_true(e && !e->keep);
    /* Room for sixteen: the oldest that is not needed goes; never what is kept, runs, or is the floor. */
    w.rule.keep = 3;
    w.rule.floor = "v2";
    for (unsigned i = 7; i <= 40; i++) {
        deploy(i);
        assert_non_null(version(2));
        assert_true(version(i)->kept && version(i - 1)->kept && version(i - 2)->kept && version(i - 3)->kept);
        assert_false(i > 10 && version(i - 5) && version(i - 5)->kept);
    }
    assert_int_equal(w.doc.n_versions, ROLLBACK_VERSIONS);
    assert_null(version(1));
    assert_null(version(20));
    /* Versions that never become well do not push out those that were. */
    for (unsigned i = 100; i < 140; i++) {
        char id[ROLLBACK_ID];
        snprintf(id, sizeof id, "%016x", i);
        seen(id, "bad", false, false, false);
    }
    for (unsigned i = 38; i <= 40; i++)
        assert_true(version(i) && version(i)->kept && version(i)->state == VERSION_STATE(VERIFIED));
}

static void test_deployed_again(void **unused)
{
    (void)unused;
    start();
    deploy(1);
    deploy(2);
    struct rollback_version *v1 = version(1);
    snprintf(v1->by_job, sizeof v1->by_job, "job-1");
    v1->state = VERSION_STATE(REJECTED);
    v1->verified_ms = 0;
    int64_t recorded_ms = v1->recorded_ms;
    seen(v1->id, "v1", true, true, false);
    assert_int_equal(v1->state, VERSION_STATE(RECORDED)); /* somebody wants it */
    assert_string_equal(v1->by_job, "");
    assert_int_equal(v1->recorded_ms, recorded_ms); /* it is no newer for that */
    assert_int_equal(w.doc.n_versions, 2);
    /* v2 was verified, is deployed again, and replaced before it is verified again: it was. */
    seen(version(2)->id, "v2", true, true, false);
    assert_int_equal(version(2)->state, VERSION_STATE(RECORDED));
    seen(v1->id, "v1", true, true, false);
    assert_int_equal(version(2)->state, VERSION_STATE(VERIFIED));
}

static void test_choose(void **unused)
{
    (void)unused;
    char why[ROLLBACK_WHY];
    start();
    assert_null(rollback_choose(&w.doc, &w.rule, "", false, why, sizeof why));
    assert_non_null(strstr(why, "no verified version"));
    assert_null(rollback_choose(&w.doc, &w.rule, "v1", true, why, sizeof why));
    assert_non_null(strstr(why, "none yet"));
    for (unsigned i = 1; i <= 5; i++)
        deploy(i);
#define CHOICE(name, force) rollback_choose(&w.doc, &w.rule, name, force, why, sizeof why)
    assert_ptr_equal(CHOICE("", false), version(4));
    assert_ptr_equal(CHOICE("v2", false), version(2));
    assert_ptr_equal(CHOICE(version(3)->id, false), version(3));
    assert_null(CHOICE("v5", true)); /* it runs: also not by force */
    assert_null(CHOICE("v9", true));
    assert_non_null(strstr(why, "v5 ("));
    /* Each reason is passed over by default, refused by name, and accepted by force. */
    const char *rejected[] = {"v4"};
    for (int i = 0; i < 6; i++) {
        static const char *const says[] = {"never verified",        "rejected",        "`rejected`",
                                           "could not be recorded", "below the floor", "floor `v77`"};
        start();
        for (unsigned k = 1; k <= 5; k++)
            deploy(k);
        if (i == 0)
            version(4)->state = VERSION_STATE(RECORDED);
        else if (i == 1)
            version(4)->state = VERSION_STATE(REJECTED);
        else if (i == 2) {
            w.rule.rejected = rejected;
            w.rule.n_rejected = 1;
        } else if (i == 3)
            version(4)->gaps = true;
        else
            w.rule.floor = i == 4 ? "v5" : "v77";
        assert_null(CHOICE("v4", false));
        if (!strstr(why, says[i]) || !strstr(why, "force"))
            fail_msg("'%s' does not say '%s'", why, says[i]);
        assert_ptr_equal(CHOICE("v4", true), version(4));
        if (i < 4)
            assert_ptr_equal(CHOICE("", false), version(3));
        else
            assert_null(CHOICE("", false));
    }
    /* Of one name the newest; the floor itself is fine. */
    start();
    for (unsigned k = 1; k <= 3; k++)
        deploy(k);
    snprintf(version(1)->name, 8, "same");
    snprintf(version(2)->name, 8, "same");
    w.rule.floor = "same";
    assert_ptr_equal(CHOICE("same", false), version(2));
    assert_null(CHOICE(version(1)->id, false));
    /* The newest that can be gone back to, be it forced or not: the former version under a configuration that came with the next one is nothing that anybody means. */
    w.rule.floor = NULL;
    version(2)->state = VERSION_STATE(RECORDED);
    assert_ptr_equal(CHOICE("same", false), version(1));
    assert_ptr_equal(CHOICE("same", true), version(1));
    assert_ptr_equal(CHOICE(version(2)->id, true), version(2));
    version(1)->state = VERSION_STATE(REJECTED); /* none can: the newest, and why not */
    assert_null(CHOICE("same", false));
    assert_non_null(strstr(why, "never verified"));
    assert_ptr_equal(CHOICE("same", true), version(2));
    /* What runs is not meant by its name where another one has it, too. */
    version(2)->state = version(1)->state = VERSION_STATE(VERIFIED);
    snprintf(version(3)->name, 8, "same");
    assert_ptr_equal(CHOICE("same", false), version(2));
}

/* ---- the policy ---- */

static void test_policy(void **unused)
{
    (void)unused;
    start();
    w.rule.automatic_ms = 900000;
    deploy(1);
    deploy(2);
    /* Off: it is told, once, and its end, too. */
    seen(version(2)->id, "v2", true, false, true);
    assert_true(effect(ROLLBACK_RAISE, ROLLBACK_NOTICE_REGRESSION) && !rollback_busy(&w.doc));
    assert_non_null(strstr(effect(ROLLBACK_RAISE, -1)->text, "selftest failed"));
    seen(version(2)->id, "v2", true, false, true);
    assert_null(effect(ROLLBACK_RAISE, -1));
    seen(version(2)->id, "v2", true, true, false);
    assert_non_null(effect(ROLLBACK_RESOLVE, ROLLBACK_NOTICE_REGRESSION));
    /* On, soon after the deployment. */
    w.rule.automatic = true;
    static struct world before;
    before = w;
    seen(version(2)->id, "v2", true, false, true);
    assert_int_equal(w.doc.job.phase, ROLLBACK_PHASE(PREPARE));
    assert_true(w.doc.job.automatic && !w.doc.job.forced);
    assert_string_equal(w.doc.job.by, "policy");
    assert_string_equal(w.doc.job.to, version(1)->id);
    assert_non_null(strstr(w.doc.job.why, "selftest failed"));
    assert_non_null(effect(ROLLBACK_RAISE, ROLLBACK_NOTICE_STARTED));
    assert_non_null(effect(ROLLBACK_LOOK, -1));
    assert_false(seen(version(2)->id, "v2", true, false, true)); /* a job runs: nothing of the registry's */
    /* It was refused, or a person has aborted it: not again and again. */
    struct rollback_event abort = {.kind = ROLLBACK_ABORT,
                                   .u.order = {.by = "ann", .reason = "we mend it", .job = ""}};
    rollback_decide(&w.doc, &w.rule, &abort, w.now_ms, out, &n_out);
    assert_int_equal(w.doc.job.phase, ROLLBACK_PHASE(ABORTED));
    seen(version(2)->id, "v2", true, false, true);
    assert_false(rollback_busy(&w.doc));
    /* The next deployment is another matter. */
    w.now_ms += 1000;
    seen(V3, "v3", true, false, true);
    assert_true(rollback_busy(&w.doc));
    /* Later it is told only. */
    w = before;
    w.now_ms += 900000;
    seen(version(2)->id, "v2", true, false, true);
    assert_false(rollback_busy(&w.doc));
    assert_non_null(effect(ROLLBACK_RAISE, ROLLBACK_NOTICE_REGRESSION));
    /* Never away from what a rollback has brought. */
    w = before;
    snprintf(version(2)->by_job, ROLLBACK_JOB, "job-1");
    seen(version(2)->id, "v2", true, false, true);
    assert_false(rollback_busy(&w.doc));
    /* Not verified yet: long after, too. Where there is nothing to go back to, it says so. */
    start();
    w.rule.automatic = true;
    seen(V1, "v1", true, false, true);
    assert_false(rollback_busy(&w.doc));
    assert_non_null(strstr(effect(ROLLBACK_RAISE, ROLLBACK_NOTICE_REGRESSION)->text, "No rollback was started"));
    /* An order by the policy is bound by the same rule. */
    w = before;
    snprintf(version(2)->by_job, ROLLBACK_JOB, "job-1");
    struct rollback_event ev = {.kind = ROLLBACK_START,
                                .u.order = {.by = "policy", .reason = "r", .job = "j", .to = "", .automatic = true}};
    assert_false(rollback_decide(&w.doc, &w.rule, &ev, w.now_ms, out, &n_out));
    assert_int_equal(out[0].status, STATUS(UNAVAILABLE));
}

static void test_strays(void **unused)
{
    (void)unused;
    start();
    struct rollback_version found = {.id = V1, .name = "v1"};
    struct rollback_sight s = {.executor_known = true, .side = {{.version = V1, .instances = 1}}};
    struct rollback_event ev = {.kind = ROLLBACK_SEEN, .u.seen = {.version = &found, .healthy = true, .sight = &s}};
    static const struct {
        unsigned strays, beside;
        bool raised, resolved;
    } steps[] = {{0, 0, false, true},  {0, 0, false, false}, {2, 0, true, false},
                 {2, 0, false, false}, {0, 0, false, true},  {0, 1, true, false}};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        s.strays = steps[i].strays;
        s.side[1] = (struct rollback_side){.version = V2, .instances = steps[i].beside};
        rollback_decide(&w.doc, &w.rule, &ev, w.now_ms, out, &n_out);
        assert_int_equal(effect(ROLLBACK_RAISE, ROLLBACK_NOTICE_STRAYS) != NULL, steps[i].raised);
        assert_int_equal(effect(ROLLBACK_RESOLVE, ROLLBACK_NOTICE_STRAYS) != NULL, steps[i].resolved);
    }
}

/* ---- snapshots ---- */

static void test_lineage(void **unused)
{
    (void)unused;
    start();
    deploy(1);
    deploy(2);
    struct turn t = {.d = &w.doc, .j = &w.doc.job, .rule = &w.rule, .now_ms = w.now_ms, .out = out};
    memcpy(w.doc.job.from, version(2)->id, ROLLBACK_ID);
    snprintf(w.doc.job.id, ROLLBACK_JOB, "job-1");
    for (unsigned i = 0; i < ROLLBACK_LINEAGE + 20; i++) {
        struct rollback_lineage l = {.taken_ms = T0 + i, .verified = true};
        snprintf(l.snapshot, sizeof l.snapshot, "snapshot-%u", i);
        snprintf(l.version, sizeof l.version, "%s", i == 0 ? version(1)->id : i % 2 ? "gone" : "");
        t.n = 0;
        rollback_lineage_add(&t, &l);
        assert_true(t.n <= 2 && out[t.n - 1].keep && out[t.n - 1].kind == ROLLBACK_KEEP);
        if (t.n == 2)
            assert_true(!out[0].keep && out[0].snapshot[0] && !out[0].version[0]);
        size_t n = w.doc.n_lineage;
        rollback_lineage_add(&t, &l); /* found again */
        assert_int_equal(w.doc.n_lineage, n);
    }
    assert_int_equal(w.doc.n_lineage, ROLLBACK_LINEAGE);
    /* The only one that v1 can be restored from is still there. */
    assert_string_equal(rollback_snapshot_of(&w.doc, version(1)->id, INT64_MAX)->snapshot, "snapshot-0");
    assert_string_equal(rollback_snapshot_of(&w.doc, version(2)->id, INT64_MAX)->snapshot, "snapshot-50");
    assert_int_equal(rollback_snapshot_of(&w.doc, version(2)->id, INT64_MAX)->data_schema, 3);
    assert_string_equal(rollback_snapshot_of(&w.doc, NULL, T0 + 51)->snapshot, "snapshot-50");
    assert_null(rollback_snapshot_of(&w.doc, NULL, T0));
    w.doc.lineage[0].verified = false;
    assert_string_equal(rollback_snapshot_of(&w.doc, NULL, INT64_MAX)->snapshot, "snapshot-50");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_verified),       cmocka_unit_test(test_kept),
                                       cmocka_unit_test(test_deployed_again), cmocka_unit_test(test_choose),
                                       cmocka_unit_test(test_policy),         cmocka_unit_test(test_strays),
                                       cmocka_unit_test(test_lineage)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
