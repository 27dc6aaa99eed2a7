/* test_alert_failover.c - every way in which a channel can fail leads to the next one: order, attempts, receipts. Times: bench_alert_failover.c. */
#include "failover_town.h"

static void every_failure_leads_on(void **state)
{
    struct town *t = *state;
    struct failover_town f = {0};
    failover_start(&f, t);
    for (size_t i = 0; i < FAILOVER_CASES; i++) /* all at once: a slow channel delays nobody */
        failover_raise(&f, i, 0);
    for (size_t i = 0; i < FAILOVER_CASES; i++) {
        failover_wait(&f, i);
        const struct failover_case *k = &failover_cases[i];
        const struct failover *x = &f.got[i];
        print_message("%-9s %d attempts, told after %d ms: %s\n", k->name, x->tried,
                      (int)(x->told_unix_ms - x->first_unix_ms), x->detail);
        assert_true(x->order);
        assert_int_equal(x->accepted_bad, 0);
        assert_int_equal(x->accepted_good, 1);
        assert_int_equal(x->failed, 1);
        assert_int_equal(x->again, x->tried - 1);
        switch (k->kind) {
        case FAILOVER_AT_ONCE:
            assert_int_equal(x->tried, 1);
            break;
        case FAILOVER_QUICK:
            assert_int_equal(x->tried, 2);
            break;
        case FAILOVER_DEADLINE:
            assert_in_range(x->tried, 1, FAILOVER_TRIES);
            break;
        }
    }
    /* Each of them was said to be broken, by the channel that works. */
    KIT_WAIT(t->k, t->channel_alerts == (int)FAILOVER_CASES);
    /* A broken channel costs the next alert nothing: one attempt in 5 s tries it, the others go past. */
    for (size_t i = 0; i < FAILOVER_CASES; i++) {
        failover_raise(&f, i, 1);
        failover_raise(&f, i, 2);
        failover_wait(&f, i);
        assert_int_equal(f.got[i].accepted_bad, 0);
    }
    failover_stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_failure_leads_on, town_setup, town_teardown),
    };
    /* Parts of the town that this test does not need. */
    (void)mode;
    (void)command;
    (void)receipts;
    (void)told;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
