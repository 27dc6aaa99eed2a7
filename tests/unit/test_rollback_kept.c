/* test_rollback_kept.c - kept versions that could not be brought up: when they are looked at, what is said, what is chosen. */
#include "rollback_world.h"

static struct world w;
static struct rollback_effect out[ROLLBACK_EFFECTS];
static size_t n_out;

static struct rollback_version *version(unsigned i)
{
    return &w.doc.versions[i - 1];
}

/* v1 to v4, verified; v4 runs, the others are kept. Of v2 there is a snapshot. */
static void start(void)
{
    world_init(&w, 1, 1);
    rollback_doc_init(&w.doc, "sentinel");
    w.doc.epoch = 1;
    w.rule.check_kept_ms = 600000;
    w.doc.n_versions = 4;
    for (unsigned i = 1; i <= 4; i++) {
        struct rollback_version *v = version(i);
        snprintf(v->id, sizeof v->id, "%016x", i);
        snprintf(v->name, sizeof v->name, "v%u", i);
        v->state = VERSION_STATE(VERIFIED);
        v->recorded_ms = v->verified_ms = T0 + i;
        v->kept = true;
    }
    memcpy(w.doc.current, version(4)->id, ROLLBACK_ID);
    w.doc.n_lineage = 1;
    struct rollback_lineage *l = &w.doc.lineage[0];
    memcpy(l->version, version(2)->id, ROLLBACK_ID);
    snprintf(l->snapshot, sizeof l->snapshot, "0123456789ab");
    l->taken_ms = T0;
    l->verified = true;
}

static bool found(const struct rollback_finding *f, size_t n)
{
    struct rollback_event ev = {.kind = ROLLBACK_KEPT, .u.kept = {f, n}};
    bool changed = rollback_decide(&w.doc, &w.rule, &ev, w.now_ms, out, &n_out);
    assert_null(rollback_broken(&w.doc));
    return changed;
}

/* All are asked: the answers are text per version, NULL = well. */
static bool answers(const char *v1, const char *v2, const char *v3, bool snapshot_gone)
{
    struct rollback_finding f[ROLLBACK_VERSIONS];
    const char *why[] = {v1, v2, v3};
    size_t n = rollback_kept_list(&w.doc, &w.rule, f);
    assert_int_equal(n, 3);
    for (size_t i = 0; i < n; i++) {
        f[i].known = f[i].snapshot_known = true;
        f[i].broken = why[i];
        f[i].snapshot_gone = f[i].snapshot[0] && snapshot_gone;
        snprintf(f[i].why, sizeof f[i].why, "%s", why[i] ? why[i] : "");
    }
    return found(f, n);
}

static const struct rollback_effect *of(enum rollback_effect_kind kind, unsigned v)
{
    for (size_t i = 0; i < n_out; i++)
        if (out[i].kind == kind && out[i].notice == ROLLBACK_NOTICE_KEPT &&
            strcmp(out[i].version, version(v)->id) == 0)
            return &out[i];
    return NULL;
}

static const char *chosen(void)
{
    static char why[ROLLBACK_WHY];
    const struct rollback_version *v = rollback_choose(&w.doc, &w.rule, "", false, why, sizeof why);
    return v ? v->name : why;
}

static void when_it_is_due(void **unused)
{
    (void)unused;
    start();
    assert_true(rollback_kept_due(&w.doc, &w.rule, w.now_ms)); /* whoever takes over looks at once */
    answers(NULL, NULL, NULL, false);
    assert_false(rollback_kept_due(&w.doc, &w.rule, w.now_ms));
    assert_false(rollback_kept_due(&w.doc, &w.rule, w.now_ms + 599999));
    assert_true(rollback_kept_due(&w.doc, &w.rule, w.now_ms + 600000));
    assert_true(rollback_kept_due(&w.doc, &w.rule, w.now_ms - 1)); /* the clock went back */
    w.doc.job.phase = ROLLBACK_PHASE(SHIFT);
    assert_false(rollback_kept_due(&w.doc, &w.rule, w.now_ms + 600000));
    w.doc.job.phase = ROLLBACK_PHASE(IDLE);
    /* What nobody answered is asked again sooner. */
    struct rollback_finding f[ROLLBACK_VERSIONS];
    size_t n = rollback_kept_list(&w.doc, &w.rule, f);
    assert_string_equal(f[1].snapshot, "0123456789ab");
    assert_true(f[0].snapshot_known && !f[1].snapshot_known);
    assert_false(found(f, n));
    assert_false(rollback_kept_due(&w.doc, &w.rule, w.now_ms + 59999));
    assert_true(rollback_kept_due(&w.doc, &w.rule, w.now_ms + 60000));
    w.rule.check_kept_ms = 0;
    assert_false(rollback_kept_due(&w.doc, &w.rule, w.now_ms + 3600000));
    assert_int_equal(rollback_kept_list(&w.doc, &w.rule, f), 0);
    /* Nothing is kept but what runs. */
    start();
    for (unsigned i = 1; i <= 3; i++)
        version(i)->kept = false;
    assert_false(rollback_kept_due(&w.doc, &w.rule, w.now_ms));
}

static void what_is_said(void **unused)
{
    (void)unused;
    start();
    assert_false(answers(NULL, NULL, NULL, false)); /* after a take-over: what was open is over */
    assert_non_null(of(ROLLBACK_RESOLVE, 1));
    assert_false(answers(NULL, NULL, NULL, false));
    assert_int_equal(n_out, 0);
    assert_true(answers(NULL, NULL, "no image", false));
    assert_int_equal(n_out, 1);
    assert_false(of(ROLLBACK_RAISE, 3)->high);
    assert_non_null(strstr(of(ROLLBACK_RAISE, 3)->text, "no image"));
    assert_string_equal(version(3)->broken, "no image");
    assert_string_equal(chosen(), "v2");
    assert_false(answers(NULL, NULL, "no image", false)); /* once */
    assert_int_equal(n_out, 0);
    /* The snapshot only: it can be brought up, and is chosen. */
    assert_true(answers(NULL, NULL, "no image", true));
    assert_int_equal(n_out, 1);
    assert_non_null(strstr(of(ROLLBACK_RAISE, 2)->text, "0123456789ab"));
    assert_true(version(2)->snapshot_gone && !rollback_version_broken(version(2)));
    assert_string_equal(chosen(), "v2");
    /* None is left. */
    assert_true(answers("gone", "gone", "no image", true));
    for (unsigned i = 1; i <= 3; i++)
        assert_true(of(ROLLBACK_RAISE, i)->high);
    assert_non_null(strstr(chosen(), "cannot be brought up"));
    char why[ROLLBACK_WHY];
    assert_non_null(rollback_choose(&w.doc, &w.rule, "v3", false, why, sizeof why)); /* by name it is tried */
    /* What is not known is as it was. */
    struct rollback_finding f[ROLLBACK_VERSIONS];
    size_t n = rollback_kept_list(&w.doc, &w.rule, f);
    assert_false(found(f, n));
    assert_int_equal(n_out, 0);
    /* One is back: the others are not as bad any more. */
    assert_true(answers(NULL, "gone", "no image", false));
    assert_non_null(of(ROLLBACK_RESOLVE, 1));
    assert_false(of(ROLLBACK_RAISE, 2)->high);
    assert_false(of(ROLLBACK_RAISE, 3)->high);
    /* Whoever takes over says it again. */
    w.doc.watch.kept_told = false;
    assert_false(answers(NULL, "gone", "no image", false));
    assert_non_null(of(ROLLBACK_RAISE, 2));
    /* One that is not kept any more, and one that runs, are no matter. */
    version(3)->kept = false;
    memcpy(w.doc.current, version(2)->id, ROLLBACK_ID);
    assert_true(rollback_kept_due(&w.doc, &w.rule, w.now_ms));
    assert_true(found(NULL, 0));
    assert_non_null(of(ROLLBACK_RESOLVE, 2));
    assert_non_null(of(ROLLBACK_RESOLVE, 3));
    assert_string_equal(version(2)->broken, "");
    assert_false(found(NULL, 0));
    assert_int_equal(n_out, 0);
    /* Nor in a job, whatever comes late. */
    w.doc.job.phase = ROLLBACK_PHASE(SHIFT);
    struct rollback_finding late = {.known = true, .broken = true, .why = "late"};
    memcpy(late.version, version(1)->id, ROLLBACK_ID);
    struct turn t = {.d = &w.doc,
                     .j = &w.doc.job,
                     .rule = &w.rule,
                     .out = out,
                     .ev = &(struct rollback_event){.kind = ROLLBACK_KEPT, .u.kept = {&late, 1}}};
    rollback_on_kept(&t);
    assert_false(t.changed || version(1)->broken[0]);
}

/* Alerts go by names: two versions of one name are one. Switched off, all is over. */
static void names_and_off(void **unused)
{
    (void)unused;
    start();
    snprintf(version(1)->name, sizeof version(1)->name, "v2");
    answers("gone", "gone", NULL, false);
    assert_int_equal(n_out, 2); /* a resolution of v3: the first time */
    assert_non_null(of(ROLLBACK_RAISE, 2));
    assert_null(of(ROLLBACK_RAISE, 1));
    answers("gone", NULL, NULL, false);
    assert_null(of(ROLLBACK_RESOLVE, 2));
    assert_null(of(ROLLBACK_RESOLVE, 1));
    w.rule.check_kept_ms = 0;
    assert_true(rollback_kept_due(&w.doc, &w.rule, w.now_ms));
    assert_true(found(NULL, 0));
    assert_non_null(of(ROLLBACK_RESOLVE, 1));
    assert_string_equal(version(1)->broken, "");
    assert_false(rollback_kept_due(&w.doc, &w.rule, w.now_ms));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(when_it_is_due), cmocka_unit_test(what_is_said),
                                       cmocka_unit_test(names_and_off)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
