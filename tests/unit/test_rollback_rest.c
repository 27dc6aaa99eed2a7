/* test_rollback_rest.c - pure: the traffic without a job, when it is set, when not, and when a person is told. */
#include "rollback_world.h"

static struct world w;
static struct rollback_effect out[ROLLBACK_EFFECTS];
static size_t n_out;
static struct rollback_sight s;
static bool able;

/* A job has brought v1 to side 1, where it stands alone. */
static void start(int phase)
{
    world_init(&w, 2, 1);
    memset(&s, 0, sizeof s);
    s.executor_known = s.traffic_known = able = true;
    snprintf(s.side[1].version, ROLLBACK_ID, "%s", V1);
    s.side[1].instances = s.side[1].running = s.side[1].ready = 2;
    s.side[1].share = 100;
    struct rollback_job *j = &w.doc.job;
    snprintf(j->id, sizeof j->id, "job-1");
    snprintf(j->by, sizeof j->by, "ada");
    snprintf(j->why, sizeof j->why, "it misjudges");
    snprintf(j->from, sizeof j->from, "%s", V2);
    snprintf(j->to, sizeof j->to, "%s", V1);
    j->phase = phase;
    j->started_ms = j->ended_ms = w.now_ms;
    snprintf(w.doc.current, sizeof w.doc.current, "%s", V1);
}

static const struct rollback_effect *effect(enum rollback_effect_kind kind)
{
    for (size_t i = 0; i < n_out; i++)
        if (out[i].kind == kind)
            return &out[i];
    return NULL;
}

/* It is looked; true if the traffic is to be set. Nothing of it is stored. */
static bool glance(int64_t later_ms)
{
    w.now_ms += later_ms;
    const struct rollback_event ev = {.kind = ROLLBACK_SIGHT, .able = able, .u.sight = &s};
    assert_false(rollback_decide(&w.doc, &w.rule, &ev, w.now_ms, out, &n_out));
    const struct rollback_effect *e = effect(ROLLBACK_STEER), *r = effect(ROLLBACK_RECORD);
    assert_int_equal(e != NULL, r != NULL);
    if (e) {
        assert_true(r < e && r->strict);
        assert_string_equal(r->action, "rollback.weight");
        assert_string_equal(e->version, w.doc.current);
        assert_int_equal(e->share[e->side], 100);
        assert_int_equal(e->share[!e->side], 0);
    }
    return e;
}

static void shares(int a, int b, int nobody)
{
    s.side[0].share = a;
    s.side[1].share = b;
    s.nobody = nobody;
}

static void test_set(void **unused)
{
    (void)unused;
    static const int wrong[][3] = {{100, 0, 0}, {0, 0, 100}, {1, 99, 0}, {0, 50, 50}};
    static const int phases[] = {ROLLBACK_PHASE(DONE), ROLLBACK_PHASE(ABORTED)};
    for (size_t i = 0; i < 8; i++) {
        start(phases[i % 2]);
        shares(wrong[i / 2][0], wrong[i / 2][1], wrong[i / 2][2]);
        assert_true(glance(0));
        assert_int_equal(effect(ROLLBACK_STEER)->side, 1);
        assert_false(glance(ROLLBACK_STEER_MS - 1)); /* it has its time to show */
        shares(0, 100, 0);
        assert_false(glance(10));
        assert_non_null(effect(ROLLBACK_RESOLVE));
        assert_false(glance(10));
        assert_int_equal(n_out, 0);
    }
}

static void test_not_set(void **unused)
{
    (void)unused;
    for (int i = 0; i < 13; i++) {
        start(i == 0 ? ROLLBACK_PHASE(IDLE) : i == 1 ? ROLLBACK_PHASE(REFUSED) : ROLLBACK_PHASE(DONE));
        shares(100, 0, 0);
        switch (i) {
        case 2:
            able = false;
            break;
        case 3:
            s.traffic_known = false;
            break;
        case 4:
            s.executor_known = false;
            break;
        case 5:
            s.side[0].instances = 1; /* something stands beside it */
            break;
        case 6:
            s.side[1].ready = 0;
            break;
        case 7:
            snprintf(s.side[1].version, ROLLBACK_ID, "%s", V2); /* others have deployed */
            break;
        case 8:
            w.rule.gradual = false;
            break;
        case 9:
            shares(-1, -1, 0); /* cannot be read back */
            break;
        case 10:
            shares(0, 0, 0); /* nothing was ever set */
            break;
        case 11:
            shares(0, 100, 0);
            break;
        case 12:
            w.doc.current[0] = '\0';
            break;
        default:
            break;
        }
        if (glance(0))
            fail_msg("set in case %d", i);
        assert_null(effect(ROLLBACK_RAISE));
    }
}

/* Two sets that do not hold: a person is told once, and it is left alone for five minutes. */
static void test_not_fought_for(void **unused)
{
    (void)unused;
    start(ROLLBACK_PHASE(DONE));
    shares(100, 0, 0);
    assert_true(glance(0));
    assert_true(glance(ROLLBACK_STEER_MS));
    assert_null(effect(ROLLBACK_RAISE));
    int64_t since = w.now_ms;
    assert_false(glance(ROLLBACK_STEER_MS));
    assert_non_null(effect(ROLLBACK_RAISE));
    assert_int_equal(effect(ROLLBACK_RAISE)->notice, ROLLBACK_NOTICE_ASTRAY);
    assert_true(effect(ROLLBACK_RAISE)->critical);
    while (w.now_ms + 2000 < since + ROLLBACK_ASTRAY_MS) {
        assert_false(glance(2000));
        assert_int_equal(n_out, 0);
    }
    assert_true(glance(2000));
    assert_null(effect(ROLLBACK_RAISE));
    shares(0, 100, 0);
    assert_false(glance(2000));
    assert_int_equal(effect(ROLLBACK_RESOLVE)->notice, ROLLBACK_NOTICE_ASTRAY);
    /* What has held for a minute is forgotten. */
    assert_false(glance(ROLLBACK_STEERS_MS));
    shares(100, 0, 0);
    assert_true(glance(2000));
    assert_true(glance(ROLLBACK_STEER_MS));
    /* Whoever takes over begins anew. */
    rollback_decide(&w.doc, &w.rule, &(struct rollback_event){.kind = ROLLBACK_TAKEN}, w.now_ms, out, &n_out);
    assert_true(glance(0));
    w.now_ms -= 3600000; /* and a clock that goes back does not stop it for ever */
    assert_false(glance(0));
    assert_true(glance(ROLLBACK_STEER_MS));
}

/* Addresses are compared only where this service has set them. */
static void test_addresses(void **unused)
{
    (void)unused;
    start(ROLLBACK_PHASE(DONE));
    struct rollback_job *j = &w.doc.job;
    j->weight = j->wanted = 0;
    assert_false(rollback_set_addresses(&w.doc)); /* others have deployed v1 since: a job's mark is gone */
    snprintf(rollback_find(&w.doc, V1)->by_job, ROLLBACK_JOB, "job-1");
    assert_true(rollback_set_addresses(&w.doc));
    snprintf(w.doc.current, sizeof w.doc.current, "%s", V2);
    assert_false(rollback_set_addresses(&w.doc));
    j->phase = ROLLBACK_PHASE(ABORTED);
    j->weight = j->wanted = 100;
    j->step = 0;
    assert_false(rollback_set_addresses(&w.doc)); /* it was given up before it has set anything */
    j->step = 2;
    assert_true(rollback_set_addresses(&w.doc));
    j->phase = ROLLBACK_PHASE(SHIFT);
    j->ended_ms = 0;
    assert_true(rollback_set_addresses(&w.doc));
    j->step = 0;
    assert_false(rollback_set_addresses(&w.doc));
    j->wanted = 50;
    assert_true(rollback_set_addresses(&w.doc));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_set), cmocka_unit_test(test_not_set),
                                       cmocka_unit_test(test_not_fought_for), cmocka_unit_test(test_addresses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
