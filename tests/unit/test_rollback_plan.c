/* test_rollback_plan.c - plans: steps, capacity, what happens to the data, what is refused and with which words; and the plan in words. */
#include "rollback_world.h"

static struct world w;
static struct rollback_plan plan;
static char why[ROLLBACK_WHY];

static int make(struct rollback_order o)
{
    if (!o.to)
        o.to = "";
    if (!o.snapshot)
        o.snapshot = "";
    memset(&plan, 0x5a, sizeof plan);
    return rollback_make_plan(&w.doc, &w.rule, &o, 4, &plan, why, sizeof why);
}

static void refused(struct rollback_order o, const char *says)
{
    static struct rollback_plan untouched;
    memset(&untouched, 0x5a, sizeof untouched);
    assert_int_equal(make(o), -1);
    if (!strstr(why, says))
        fail_msg("'%s' does not say '%s'", why, says);
    assert_memory_equal(&plan, &untouched, sizeof plan);
}

static void snapshot(const char *id, const char *version, int64_t taken_ms, int64_t schema, bool verified)
{
    struct rollback_lineage *l = &w.doc.lineage[w.doc.n_lineage++];
    *l = (struct rollback_lineage){.taken_ms = taken_ms, .data_schema = schema, .verified = verified};
    snprintf(l->snapshot, sizeof l->snapshot, "%s", id);
    snprintf(l->version, sizeof l->version, "%s", version);
}

static void test_capacity(void **unused)
{
    (void)unused;
    for (unsigned n = 0; n <= 1000; n++) {
        struct rollback_plan p = {.instances = n};
        assert_int_equal(rollback_needs(&p, 100), 0);
        assert_int_equal(rollback_needs(&p, 0), n);
        for (int weight = 0; weight <= 100; weight++) {
            uint64_t needs = rollback_needs(&p, weight), share = (uint64_t)(100 - weight);
            assert_true(needs * 100 >= n * share);                    /* never less */
            assert_true(needs == 0 || (needs - 1) * 100 < n * share); /* never one too many */
            /* What so many can carry is what so many are needed for. */
            if (n > 0 && n < 50)
                assert_true(rollback_needs_from(&p, rollback_carries(&p, (unsigned)needs)) <= needs);
        }
    }
}

static void test_steps(void **unused)
{
    (void)unused;
    static const int usual[] = {100, 50, 25, 10, 0};
    world_init(&w, 1, 1);
    w.rule.n_steps = 0;
    assert_int_equal(make((struct rollback_order){0}), 0);
    assert_int_equal(plan.n_steps, 5);
    assert_memory_equal(plan.weight, usual, sizeof usual);
    assert_int_equal(plan.instances, 4);
    w.rule.n_steps = 2;
    w.rule.weight[0] = 50;
    w.rule.weight[1] = 0;
    assert_int_equal(make((struct rollback_order){0}), 0);
    assert_int_equal(plan.n_steps, 2);
    w.rule.weight[0] = 0;
    refused((struct rollback_order){0}, "must fall");
    w.rule.weight[0] = 101;
    refused((struct rollback_order){0}, "must fall");
    w.rule.weight[0] = 50;
    w.rule.weight[1] = 10;
    refused((struct rollback_order){0}, "must be 0%");
    w.rule.n_steps = ROLLBACK_STEPS + 1;
    refused((struct rollback_order){0}, "allowed: 16");
    w.rule.gradual = false;
    assert_int_equal(make((struct rollback_order){0}), 0);
    assert_true(plan.n_steps == 1 && plan.weight[0] == 0);
    refused((struct rollback_order){.to = "v9"}, "v9");
}

static void test_data(void **unused)
{
    (void)unused;
    world_init(&w, 1, 1);
    struct rollback_version *v1 = rollback_find(&w.doc, V1), *v2 = rollback_find(&w.doc, V2);
    assert_int_equal(make((struct rollback_order){0}), 0);
    assert_int_equal(plan.data, ROLLBACK_DATA_KEEP);
    snapshot("aaaaaaaa11", V1, T0 - 3000, 1, true);
    snapshot("bbbbbbbb22", V1, T0 - 2000, 1, true);
    snapshot("cccccccc33", V2, T0 - 1000, 2, true);
    snapshot("dddddddd44", V2, T0 - 500, 2, false);
    /* Asked for. */
    assert_int_equal(make((struct rollback_order){.snapshot = "lineage"}), 0);
    assert_true(plan.data == ROLLBACK_DATA_RESTORE && strcmp(plan.snapshot, "bbbbbbbb22") == 0);
    assert_int_equal(make((struct rollback_order){.snapshot = "aaaaaaaa"}), 0);
    assert_string_equal(plan.snapshot, "aaaaaaaa11");
    refused((struct rollback_order){.snapshot = "aaaaaaa"}, "no snapshot");
    refused((struct rollback_order){.snapshot = "dddddddd44"}, "never verified");
    assert_int_equal(make((struct rollback_order){.snapshot = "dddddddd44", .force = true}), 0);
    refused((struct rollback_order){.snapshot = "lineage", .tainted = true, .tainted_since_ms = T0}, "not both");
    /* Tainted: the last verified one from before. */
    assert_int_equal(make((struct rollback_order){.tainted = true, .tainted_since_ms = T0}), 0);
    assert_string_equal(plan.snapshot, "cccccccc33");
    assert_int_equal(make((struct rollback_order){.tainted = true, .tainted_since_ms = T0 - 1000}), 0);
    assert_string_equal(plan.snapshot, "bbbbbbbb22");
    refused((struct rollback_order){.tainted = true, .tainted_since_ms = T0 - 3000}, "no verified snapshot");
    refused((struct rollback_order){.tainted = true}, "since when");
    /* Newer than the target can read (meho 1607). */
    v1->data_schema = 1;
    assert_int_equal(make((struct rollback_order){0}), 0);
    assert_int_equal(plan.data, ROLLBACK_DATA_KEEP); /* nobody has said what v2 writes */
    v2->data_schema = 2;
    assert_int_equal(make((struct rollback_order){0}), 0);
    assert_true(plan.data == ROLLBACK_DATA_RESTORE && strcmp(plan.snapshot, "bbbbbbbb22") == 0);
    refused((struct rollback_order){.snapshot = "cccccccc33"}, "schema 2");
    assert_int_equal(make((struct rollback_order){.snapshot = "cccccccc33", .force = true}), 0);
    refused((struct rollback_order){.tainted = true, .tainted_since_ms = T0}, "schema 2");
    w.rule.has_migration = true;
    assert_int_equal(make((struct rollback_order){0}), 0);
    assert_true(plan.data == ROLLBACK_DATA_MIGRATE && !plan.snapshot[0]);
    assert_int_equal(make((struct rollback_order){.snapshot = "lineage"}), 0);
    assert_int_equal(plan.data, ROLLBACK_DATA_RESTORE);
    w.rule.has_migration = false;
    w.doc.n_lineage = 0;
    refused((struct rollback_order){0}, "no `migrate` command");
    refused((struct rollback_order){.snapshot = "lineage"}, "no verified snapshot");
    /* Forward is no matter of the data. */
    v1->data_schema = 3;
    assert_int_equal(make((struct rollback_order){0}), 0);
    assert_int_equal(plan.data, ROLLBACK_DATA_KEEP);
    /* There are none. */
    w.rule.has_data = false;
    v1->data_schema = 1;
    assert_int_equal(make((struct rollback_order){0}), 0);
    assert_int_equal(plan.data, ROLLBACK_DATA_NONE);
    refused((struct rollback_order){.snapshot = "lineage"}, "no learning data");
    refused((struct rollback_order){.tainted = true, .tainted_since_ms = T0}, "no learning data");
}

static size_t lines(char buf[48][512])
{
    size_t n = 0;
    while (n < 48 && rollback_plan_line(&w.doc, &w.rule, &plan, V2, V1, n, buf[n], sizeof buf[n])) {
        assert_true(buf[n][0]);
        n++;
    }
    return n;
}

static void test_words(void **unused)
{
    (void)unused;
    static char buf[48][512];
    world_init(&w, 1, 1);
    w.rule.watch_ms = 120000;
    assert_int_equal(make((struct rollback_order){0}), 0);
    size_t n = lines(buf);
    assert_int_equal(n, 3 + 5 + 5);
    assert_string_equal(buf[0], "sentinel: from v2 to v1, 4 instances. Before anything is changed: is it possible?");
    assert_non_null(strstr(buf[1], "kept as they are"));
    assert_non_null(strstr(buf[3], "100 % stays on v2, 0 % goes to v1"));
    assert_non_null(strstr(buf[4], "once 2 of 4 instances of it are ready: 50 %"));
    assert_non_null(strstr(buf[5], "once 3 of 4"));
    assert_non_null(strstr(buf[7], "5 s"));
    assert_non_null(strstr(buf[n - 3], "2 min"));
    assert_non_null(strstr(buf[n - 2], "regression"));
    plan.data = ROLLBACK_DATA_RESTORE;
    snprintf(plan.snapshot, sizeof plan.snapshot, "abcdef0123456789");
    lines(buf);
    assert_non_null(strstr(buf[1], "abcdef012345 is put back"));
    plan.data = ROLLBACK_DATA_MIGRATE;
    lines(buf);
    assert_non_null(strstr(buf[1], "migrated down by v2"));
    plan.data = ROLLBACK_DATA_NONE;
    lines(buf);
    assert_non_null(strstr(buf[1], "none are known"));
    w.rule.judge.n = 0;
    w.rule.gradual = false;
    plan.n_steps = 1;
    plan.instances = 0;
    n = lines(buf);
    assert_int_equal(n, 3 + 3);
    assert_non_null(strstr(buf[2], "all at once"));
    assert_non_null(strstr(buf[n - 2], "no checks"));
    /* The longest of everything: cut, never beyond its room. */
    plan.n_steps = ROLLBACK_STEPS;
    w.rule.gradual = true;
    memset(rollback_find(&w.doc, V1)->name, 'n', ROLLBACK_NAME - 1);
    memset(rollback_find(&w.doc, V2)->name, 'm', ROLLBACK_NAME - 1);
    assert_int_equal(lines(buf), 3 + ROLLBACK_STEPS + 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_capacity), cmocka_unit_test(test_steps),
                                       cmocka_unit_test(test_data), cmocka_unit_test(test_words)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
