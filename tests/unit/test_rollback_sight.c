/* test_rollback_sight.c - what stands, as two sides: whose is what, what counts, what is a stray, what is not known. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "rollback/rollback_sight.h"

static struct executor_instance instance(const char *version, int side, const char *job, bool running, bool ready)
{
    struct executor_instance x = {.side = side, .running = running, .ready = ready};
    snprintf(x.version, sizeof x.version, "%s", version);
    snprintf(x.job, sizeof x.job, "%s", job);
    snprintf(x.name, sizeof x.name, "%s-%d", version, side);
    snprintf(x.address, sizeof x.address, "127.0.0.1:80");
    return x;
}

static const struct sight_job no_job = {.id = NULL};
/* v2 stands on side 0, v1 is what is gone back to. */
static const struct sight_job the_job = {.id = "job", .version = {"v2", "v1"}};

static struct rollback_sight look(const struct executor_instance *i, size_t n, const struct traffic_view *t,
                                  const struct sight_job *job)
{
    struct executor_view v = {.ok = true, .error = "", .instances = i, .n = n};
    struct rollback_sight s;
    rollback_sight_make(&s, &v, t, job);
    return s;
}

static void as_deployed(void **x)
{
    (void)x;
    struct executor_instance i[] = {instance("v2", 0, "", true, true), instance("v2", 0, "", true, false)};
    snprintf(i[1].why, sizeof i[1].why, "starting");
    struct traffic_view t = {.ok = true, .error = "", .share = {100, 0}, .sessions = {7, 0}};
    struct rollback_sight s = look(i, 2, &t, &no_job);
    assert_true(s.executor_known && s.traffic_known);
    assert_string_equal(s.side[0].version, "v2");
    assert_int_equal(s.side[0].instances, 2);
    assert_int_equal(s.side[0].running, 2);
    assert_int_equal(s.side[0].ready, 1);
    assert_int_equal(s.side[0].share, 100);
    assert_int_equal(s.side[0].sessions, 7);
    assert_string_equal(s.side[0].why, "v2-0: starting");
    assert_string_equal(s.side[1].version, "");
    assert_int_equal(s.side[1].share, 0);
    assert_int_equal(s.strays, 0);
    assert_string_equal(s.error, "");
    assert_int_equal(rollback_sight_current(&s), 0);
}

static void in_a_job(void **x)
{
    (void)x;
    struct executor_instance i[] = {instance("v2", 0, "", true, true), instance("v1", 1, "job", true, true),
                                    instance("v1", 1, "job", false, false)};
    struct traffic_view t = {.ok = true, .error = "", .share = {25, 75}};
    struct rollback_sight s = look(i, 3, &t, &the_job);
    assert_string_equal(s.side[0].version, "v2");
    assert_string_equal(s.side[1].version, "v1");
    assert_int_equal(s.side[1].instances, 2);
    assert_int_equal(s.side[1].ready, 1);
    assert_string_equal(s.side[1].job, "job");
    assert_string_equal(s.side[1].why, "v1-1: not running");
    assert_int_equal(rollback_sight_current(&s), 1); /* it has most of the traffic */
}

/* What an earlier job has left beside the two: nobody's, and never taken for the target. */
static void strays(void **x)
{
    (void)x;
    struct executor_instance i[] = {instance("v2", 0, "", true, true), instance("v0", 1, "earlier", true, true),
                                    instance("v0", 1, "earlier", true, true), instance("v1", 1, "job", true, false)};
    struct rollback_sight s = look(i, 4, NULL, &the_job);
    assert_string_equal(s.side[1].version, "v1");
    assert_int_equal(s.side[1].instances, 1);
    assert_int_equal(s.side[1].ready, 0);
    assert_int_equal(s.strays, 2);
    /* Before the target is up the side is empty, not theirs. */
    s = look(i, 3, NULL, &the_job);
    assert_string_equal(s.side[1].version, "");
    assert_int_equal(s.side[1].instances, 0);
    assert_int_equal(s.strays, 2);
    /* Beyond the two sides. */
    struct executor_instance far[] = {instance("v2", 0, "", true, true), instance("v1", 5, "earlier", true, true),
                                      instance("v1", -1, "earlier", true, true), instance("v1", 7, "", true, true)};
    s = look(far, 4, NULL, &the_job);
    assert_int_equal(s.strays, 2); /* what others have deployed is no stray of ours */
    assert_false(rollback_sight_counts(&s, &far[1]));
    assert_true(rollback_sight_counts(&s, &far[0]));
}

/* After a job the version that it has brought is what runs, although it is marked. */
static void what_a_job_has_brought(void **x)
{
    (void)x;
    struct executor_instance i[] = {instance("v1", 1, "earlier", true, true)};
    struct rollback_sight s = look(i, 1, NULL, &no_job);
    assert_string_equal(s.side[1].version, "v1");
    assert_int_equal(s.strays, 0);
    assert_int_equal(rollback_sight_current(&s), 1);
    /* And in the next job it is the former version, on its side. */
    struct sight_job next = {.id = "next", .version = {"v0", "v1"}};
    s = look(i, 1, NULL, &next);
    assert_string_equal(s.side[1].version, "v1");
    assert_string_equal(s.side[0].version, "");
}

/* Somebody deploys while a job is under way: it is shown, so that the job can see that it is not its own. */
static void somebody_else(void **x)
{
    (void)x;
    struct executor_instance i[] = {instance("v3", 0, "", true, true), instance("v1", 1, "job", true, true)};
    struct rollback_sight s = look(i, 2, NULL, &the_job);
    assert_string_equal(s.side[0].version, "v3");
    assert_int_equal(s.strays, 0);
}

/* Two versions on one side without a job, as in the middle of a rolling update: the one with more that is ready. */
static void mixed_side(void **x)
{
    (void)x;
    struct executor_instance i[] = {instance("v2", 0, "", true, false), instance("v3", 0, "", true, true),
                                    instance("v2", 0, "", true, false)};
    struct rollback_sight s = look(i, 3, NULL, &no_job);
    assert_string_equal(s.side[0].version, "v3");
    i[1].ready = false;
    s = look(i, 3, NULL, &no_job);
    assert_string_equal(s.side[0].version, "v2"); /* none is ready: more that runs */
}

static void not_known(void **x)
{
    (void)x;
    struct executor_instance i[] = {instance("v2", 0, "", true, true)};
    struct executor_view gone = {.ok = false, .error = "the socket is away", .instances = i, .n = 1};
    struct traffic_view t = {.ok = true, .error = "", .share = {100, 0}};
    struct rollback_sight s;
    rollback_sight_make(&s, &gone, &t, &no_job);
    assert_false(s.executor_known);
    assert_true(s.traffic_known);
    assert_int_equal(s.side[0].instances, 0);
    assert_int_equal(s.side[0].share, 100);
    assert_string_equal(s.error, "the socket is away");
    assert_int_equal(rollback_sight_current(&s), -1);
    struct traffic_view bad = {.ok = false, .error = "Permission denied", .share = {50, 50}, .sessions = {3, 3}};
    s = look(i, 1, &bad, &no_job);
    assert_true(s.executor_known);
    assert_false(s.traffic_known);
    assert_int_equal(s.side[0].share, -1);
    assert_int_equal(s.side[0].sessions, 0);
    assert_string_equal(s.error, "Permission denied");
    bad.error = NULL;
    gone.error = "";
    rollback_sight_make(&s, &gone, &bad, &no_job);
    assert_non_null(strstr(s.error, "the executor does not say what stands; "));
    assert_non_null(strstr(s.error, "the traffic does not say how it is shared"));
}

/* A tie goes to side 0; ready beats existing; traffic beats both. */
static void the_current_side(void **x)
{
    (void)x;
    struct executor_instance i[] = {instance("v2", 0, "", true, false), instance("v1", 1, "", true, true)};
    struct rollback_sight s = look(i, 2, NULL, &no_job);
    assert_int_equal(rollback_sight_current(&s), 1);
    struct traffic_view t = {.ok = true, .error = "", .share = {100, 0}};
    s = look(i, 2, &t, &no_job);
    assert_int_equal(rollback_sight_current(&s), 0);
    i[0].ready = true;
    t.share[0] = t.share[1] = 0;
    s = look(i, 2, &t, &no_job);
    assert_int_equal(rollback_sight_current(&s), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_deployed),   cmocka_unit_test(in_a_job),
        cmocka_unit_test(strays),        cmocka_unit_test(what_a_job_has_brought),
        cmocka_unit_test(somebody_else), cmocka_unit_test(mixed_side),
        cmocka_unit_test(not_known),     cmocka_unit_test(the_current_side),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
